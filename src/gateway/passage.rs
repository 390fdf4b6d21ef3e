//! From a loop's running count to cars since the last reading: a wrap told from a reset.
//!
//! A count that goes back has either wrapped at its highest value or begun anew. Both look alike,
//! so that what tells them apart is how many cars a wrap would mean: at most as many as can pass a
//! door in the time since. A counter that starts anew within some cars of its highest value is
//! taken for a wrap, and costs those few cars.

use crate::time::Mono;

/// Cars that a door can pass between two readings; more is a counter that was reset or written.
/// At one car in two seconds a lane, 200 cars are minutes without a reading.
const STEP_MAX: u32 = 200;
/// What a wrap may mean at once: two lanes of cars in a second or two, and a reading that came
/// late.
const WRAP_SPARE: u64 = 10;

/// One counter of a door.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// Its highest count, after which it is 0.
    highest: u32,
    last: Option<(u32, Mono)>,
}

/// Cars since the last reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passed {
    Cars(u32),
    /// First reading, or a jump no traffic explains.
    Rebased {
        reset: bool,
    },
}

impl Counter {
    pub fn new(highest: u32) -> Counter {
        Counter { highest, last: None }
    }

    /// Takes a count. From now on it is counted from this one, whatever it says.
    pub fn read(&mut self, count: u32, at: Mono) -> Passed {
        let Some((last, since)) = self.last.replace((count, at)) else {
            return Passed::Rebased { reset: false };
        };
        let (step, most) = if count >= last {
            (u64::from(count - last), u64::from(STEP_MAX))
        } else {
            let seconds = at.ms_since(since) / 1_000;
            let step = u64::from(count) + u64::from(self.highest.saturating_sub(last)) + 1;
            (step, (WRAP_SPARE + seconds).min(STEP_MAX.into()))
        };
        match u32::try_from(step) {
            Ok(cars) if step <= most => Passed::Cars(cars),
            _ => Passed::Rebased { reset: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrap_is_cars_and_a_reset_is_none() {
        const FIRST: Passed = Passed::Rebased { reset: false };
        const RESET: Passed = Passed::Rebased { reset: true };
        // highest, then (at s, count) -> passed
        type Story<'a> = (u32, &'a [(u64, u32, Passed)]);
        let stories: [Story; 7] = [
            (u32::MAX, &[(0, u32::MAX - 1, FIRST), (1, 1, Passed::Cars(3))]),
            (65_535, &[(0, 65_534, FIRST), (1, 65_535, Passed::Cars(1)), (2, 0, Passed::Cars(1))]),
            (65_535, &[(0, 65_530, FIRST), (1, 4, Passed::Cars(10)), (2, 5, Passed::Cars(1))]),
            // Without power since: it begins at 0 again, and goes on from there.
            (65_535, &[(0, 40_000, FIRST), (60, 0, RESET), (61, 2, Passed::Cars(2))]),
            // Near its highest, too: 136 cars do not pass in a second, but in three minutes.
            (65_535, &[(0, 65_400, FIRST), (1, 0, RESET)]),
            (65_535, &[(0, 65_400, FIRST), (180, 0, Passed::Cars(136))]),
            // Four digits; written to by somebody; and 200 cars after an outage.
            (
                9_999,
                &[
                    (0, 9_998, FIRST),
                    (1, 1, Passed::Cars(3)),
                    (2, 5_000, RESET),
                    (600, 5_200, Passed::Cars(200)),
                    (601, 5_401, RESET),
                ],
            ),
        ];
        for (highest, story) in stories {
            let mut counter = Counter::new(highest);
            for (at_s, count, passed) in story {
                let came = counter.read(*count, Mono(at_s * 1_000_000_000));
                assert_eq!(came, *passed, "{count} of {highest} at {at_s} s");
            }
        }
    }
}
