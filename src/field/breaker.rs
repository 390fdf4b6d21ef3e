//! Keeps one silent unit from making its neighbours late.
//!
//! A unit that failed three times in a row is left alone and probed now and then, with waits that
//! grow to 15 seconds: a unit that comes back is heard within one such wait. Each (line, unit) has
//! its own breaker; sharing one over lines cut off healthy units in gateways that did it.

use crate::field::pace::{Delay, Jitter};
use crate::time::Mono;

/// Failures in a row before a unit is left alone: two may be a disturbed bus.
const FAILURES_MAX: u8 = 3;
/// The first wait before a probe, in milliseconds: a sweep or two.
const PROBE_FIRST_MS: u64 = 1_000;
/// The longest wait before a probe, in milliseconds: how late a returned unit may be noticed.
pub const PROBE_MAX_MS: u64 = 15_000;

/// What a unit's requests meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Requests go out; `failures` in a row so far.
    Closed { failures: u8 },
    /// Left alone until then, when one request may go out as a probe.
    Open { until: Mono },
}

/// A state of interest was entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Opened,
    Recovered,
}

/// The breaker of one unit.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    delay: Delay,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker {
            state: State::Closed { failures: 0 },
            delay: Delay::new(PROBE_FIRST_MS, PROBE_MAX_MS),
        }
    }
}

impl Breaker {
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the last request was answered.
    pub fn is_healthy(&self) -> bool {
        self.state == State::Closed { failures: 0 }
    }

    /// From when a request may go out.
    pub fn due(&self) -> Mono {
        match self.state {
            State::Closed { .. } => Mono(0),
            State::Open { until } => until,
        }
    }

    /// Whether a request may go out now.
    pub fn permits(&self, now: Mono) -> bool {
        self.due() <= now
    }

    /// The unit answered, if only to refuse.
    pub fn answered(&mut self) -> Option<Change> {
        let was = self.state;
        self.state = State::Closed { failures: 0 };
        self.delay.reset();
        match was {
            State::Closed { .. } => None,
            State::Open { .. } => Some(Change::Recovered),
        }
    }

    /// The unit did not answer, or not with an answer to what was asked.
    pub fn failed(&mut self, now: Mono, jitter: &mut Jitter) -> Option<Change> {
        match self.state {
            State::Closed { failures } if failures + 1 < FAILURES_MAX => {
                self.state = State::Closed { failures: failures + 1 };
                None
            }
            State::Closed { .. } => {
                self.state = State::Open { until: now + self.delay.grow(jitter) };
                Some(Change::Opened)
            }
            State::Open { .. } => {
                self.state = State::Open { until: now + self.delay.grow(jitter) };
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One step of a scenario at a second: (second, answered?, what is expected to change).
    type Step = (u64, bool, Option<Change>);

    #[test]
    fn three_in_a_row_open_it_and_one_answer_closes_it() {
        let steps: [Step; 8] = [
            (0, false, None),
            (1, false, None),
            (2, true, None),
            (3, false, None),
            (4, false, None),
            (5, false, Some(Change::Opened)),
            (6, true, Some(Change::Recovered)),
            (7, false, None),
        ];
        let (mut breaker, mut jitter) = (Breaker::default(), Jitter::new(1));
        for (second, answered, expected) in steps {
            let now = Mono(0).plus_ms(second * 1_000);
            assert!(breaker.permits(now), "left alone at second {second}");
            let change =
                if answered { breaker.answered() } else { breaker.failed(now, &mut jitter) };
            assert_eq!(change, expected, "second {second}");
        }
    }

    #[test]
    fn probes_become_rare_but_never_stop() {
        for seed in 0..200 {
            let (mut breaker, mut jitter) = (Breaker::default(), Jitter::new(seed));
            let (mut tries, mut gap_max_ms) = (0, 0);
            let mut last = Mono(0);
            // One hour of a dead unit, looked at every 100 ms.
            for tick in 0..36_000u64 {
                let now = Mono(0).plus_ms(tick * 100);
                if breaker.permits(now) {
                    gap_max_ms = gap_max_ms.max(now.ms_since(last));
                    last = now;
                    tries += 1;
                    breaker.failed(now, &mut jitter);
                }
            }
            assert!((240..=340).contains(&tries), "seed {seed}: {tries} tries in an hour");
            assert!(gap_max_ms <= PROBE_MAX_MS + 100, "seed {seed}: a gap of {gap_max_ms} ms");
        }
    }
}
