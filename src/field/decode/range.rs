//! From a ranger's distances to occupied or free, with a band between the two thresholds.
//!
//! In the band a point that was occupied stays so, for `hold_s` only; one that was free is
//! unknown. To hold it free would offer a bay on the word of a sample from before the car came
//! that now stands in the band. Nothing is remembered at the start, nor of a value that its fault
//! flag belies.

use super::{join, put};
use crate::profile::{Distance, Meaning};
use crate::time::Mono;

/// The distances of one unit's points.
#[derive(Clone, Debug)]
pub struct Ranges {
    rule: Distance,
    /// Points whose value of this sweep lies in the band.
    band: Vec<u64>,
    /// What each point's last good value outside the band said, and when.
    last: Vec<Option<(bool, Mono)>>,
}

/// What one value says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Says {
    Occupied,
    Free,
    Between,
    Nothing,
}

impl Ranges {
    /// For points that take so many words of flags.
    pub fn new(rule: &Distance, words: usize) -> Ranges {
        Ranges { rule: rule.clone(), band: vec![0; words], last: vec![None; words * 64] }
    }

    pub fn begin(&mut self) {
        self.band.fill(0);
    }

    /// Values from point `number` on.
    pub fn take(&mut self, number: usize, words: &[u16], occupied: &mut [u64], said: &mut [u64]) {
        let size = usize::from(self.rule.number.words());
        for (value, point) in words.chunks_exact(size).zip(number..) {
            let count = join(value, self.rule.word_order);
            match judge(&self.rule, count) {
                Says::Occupied => {
                    put(occupied, point, 1, 1);
                    put(said, point, 1, 1);
                }
                Says::Free => put(said, point, 1, 1),
                Says::Between => put(&mut self.band, point, 1, 1),
                Says::Nothing => (),
            }
        }
    }

    /// At the sweep's end: what was said is remembered, and stands in for what lies in the band.
    pub fn resolve(
        &mut self,
        at: Mono,
        sound: Option<&[u64]>,
        occupied: &mut [u64],
        said: &mut [u64],
    ) {
        let hold_ms = u64::from(self.rule.hold_s) * 1_000;
        for (point, last) in self.last.iter_mut().enumerate() {
            let (word, bit) = (point / 64, 1 << (point % 64));
            let sound = sound.is_none_or(|sound| sound[word] & bit != 0);
            if said[word] & bit != 0 {
                if sound {
                    *last = Some((occupied[word] & bit != 0, at));
                }
            } else if self.band[word] & bit != 0
                && let Some((true, since)) = *last
                && at.ms_since(since) <= hold_ms
            {
                put(said, point, 1, 1);
                put(occupied, point, 1, 1);
            }
        }
    }
}

/// What a count says by itself.
fn judge(rule: &Distance, bits: u32) -> Says {
    let (least, greatest) = rule.number.range();
    let mut count = i64::from(bits);
    if count > greatest {
        // Two's complement of as many bits as the number has.
        count -= greatest - least + 1;
    }
    if rule.none.contains(&count) {
        return match rule.none_means {
            Meaning::Free => Says::Free,
            Meaning::Occupied => Says::Occupied,
            Meaning::Unknown => Says::Nothing,
        };
    }
    let mm = count * i64::from(rule.count_mm);
    let [nearest, farthest] = rule.valid_mm.map(i64::from);
    if rule.errors.contains(&count) || mm < nearest || mm > farthest {
        Says::Nothing
    } else if mm < rule.occupied_below_mm.into() {
        Says::Occupied
    } else if mm > rule.free_above_mm.into() {
        Says::Free
    } else {
        Says::Between
    }
}
