//! Keeps silent units from making their neighbours late.
//!
//! A unit that failed three times in a row is left alone and probed now and then, with waits that
//! grow to 15 seconds where it is alone on its line and to 60 where it is not: a unit that comes
//! back is heard within one such wait. Each (line, unit) has its own breaker; sharing one over
//! lines cut off healthy units in gateways that did it.
//!
//! However many units are silent, their probes together take at most 2 % of a shared line's time:
//! that is the line's [`Budget`].

use std::time::Duration;

use crate::field::pace::{Delay, Jitter};
use crate::time::Mono;

/// Failures in a row before a unit is left alone: two may be a disturbed bus.
const FAILURES_MAX: u8 = 3;
/// The first wait before a probe, in milliseconds: a sweep or two.
const PROBE_FIRST_MS: u64 = 1_000;
/// The longest wait before a probe, in milliseconds, where the unit has the line for itself: how
/// late it may be noticed that it returned.
const PROBE_ALONE_MAX_MS: u64 = 15_000;
/// The same on a shared line, where each probe that fails is time taken from others.
const PROBE_SHARED_MAX_MS: u64 = 60_000;
/// After a probe that took so long, the next one on its line waits this many times as long.
const PROBE_SHARE: u32 = 50;

/// What a unit's requests meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Requests go out; `failures` in a row so far.
    Closed { failures: u8 },
    /// Left alone until then, when one request may go out as a probe. `asked`: someone wants to
    /// know, so that the line's budget is not waited for.
    Open { until: Mono, asked: bool },
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

/// What probes may take of a line.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: bool,
    free_at: Mono,
}

impl Budget {
    /// A line that only one unit is on has nothing to protect.
    pub fn new(shared: bool) -> Budget {
        Budget { shared, free_at: Mono(0) }
    }

    /// From when a probe may go out.
    pub fn free_at(&self) -> Mono {
        self.free_at
    }

    /// A probe was answered: the next one need not wait. What fell silent together often comes
    /// back together, and the first one that is still silent costs what it costs.
    pub fn refund(&mut self, now: Mono) {
        self.free_at = self.free_at.min(now);
    }

    /// A probe, or what it led to, took this long for nothing.
    pub fn spend(&mut self, now: Mono, took: Duration) {
        if self.shared {
            self.free_at = self.free_at.max(now) + took * PROBE_SHARE;
        }
    }
}

impl Breaker {
    /// A breaker of a unit that is alone on its line, or not.
    pub fn new(shared: bool) -> Breaker {
        let max_ms = if shared { PROBE_SHARED_MAX_MS } else { PROBE_ALONE_MAX_MS };
        Breaker { state: State::Closed { failures: 0 }, delay: Delay::new(PROBE_FIRST_MS, max_ms) }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the last request was answered.
    pub fn is_healthy(&self) -> bool {
        self.state == State::Closed { failures: 0 }
    }

    /// Whether it is left alone but for probes.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// From when a request may go out, on a line with this budget.
    pub fn due(&self, budget: &Budget) -> Mono {
        match self.state {
            State::Closed { .. } => Mono(0),
            State::Open { until, asked: true } => until,
            State::Open { until, asked: false } => until.max(budget.free_at()),
        }
    }

    /// A neighbour came back: this one may have too.
    pub fn hurry(&mut self, now: Mono) {
        if let State::Open { until, .. } = &mut self.state {
            *until = now.min(*until);
        }
    }

    /// Someone wants to know now: the next request may go out at once.
    pub fn retry(&mut self) {
        if self.is_open() {
            self.state = State::Open { until: Mono(0), asked: true };
            self.delay.reset();
        }
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
                self.state = State::Open { until: now + self.delay.grow(jitter), asked: false };
                Some(Change::Opened)
            }
            State::Open { .. } => {
                self.state = State::Open { until: now + self.delay.grow(jitter), asked: false };
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
        let (mut breaker, mut jitter) = (Breaker::new(true), Jitter::new(1));
        let budget = Budget::new(true);
        for (second, answered, expected) in steps {
            let now = Mono(0).plus_ms(second * 1_000);
            assert!(breaker.due(&budget) <= now, "left alone at second {second}");
            let change =
                if answered { breaker.answered() } else { breaker.failed(now, &mut jitter) };
            assert_eq!(change, expected, "second {second}");
        }
    }

    #[test]
    fn probes_become_rare_but_never_stop() {
        for (shared, tries_of, gap_ms_max) in
            [(false, 240..=340, PROBE_ALONE_MAX_MS), (true, 62..=95, PROBE_SHARED_MAX_MS)]
        {
            for seed in 0..200 {
                let (tries, gap_ms) = an_hour(seed, shared, Duration::ZERO);
                assert!(tries_of.contains(&tries), "seed {seed}: {tries} tries in an hour");
                assert!(gap_ms <= gap_ms_max + 100, "seed {seed}: a gap of {gap_ms} ms");
            }
        }
    }

    #[test]
    fn probes_that_cost_much_are_rarer() {
        // A time-out of 3 s: 2 % of an hour is 72 s, so 24 probes after the first three tries.
        let (tries, _) = an_hour(1, true, Duration::from_secs(3));
        assert!((20..=28).contains(&tries), "{tries} tries in an hour");
        // Alone on its line nobody is hurt.
        assert!(an_hour(1, false, Duration::from_secs(3)).0 > 200);
    }

    #[test]
    fn who_asks_waits_for_neither_the_delay_nor_the_budget() {
        let (mut breaker, mut jitter) = (Breaker::new(true), Jitter::new(1));
        let mut budget = Budget::new(true);
        let now = Mono(0).plus_ms(1_000);
        breaker.retry();
        assert_eq!(breaker.state(), State::Closed { failures: 0 });
        (0..3).for_each(|_| _ = breaker.failed(now, &mut jitter));
        budget.spend(now, Duration::from_secs(2));
        assert_eq!(breaker.due(&budget), Mono(0).plus_ms(101_000));
        breaker.retry();
        assert!(breaker.due(&budget) <= now);
        breaker.failed(now, &mut jitter);
        assert!(breaker.due(&budget) > now.plus_ms(99_000));
    }

    /// Tries of a dead unit in an hour and the longest time between two, looked at every 100 ms.
    fn an_hour(seed: u64, shared: bool, cost: Duration) -> (u32, u64) {
        let (mut breaker, mut jitter) = (Breaker::new(shared), Jitter::new(seed));
        let mut budget = Budget::new(shared);
        let (mut tries, mut gap_max_ms, mut last) = (0, 0, Mono(0));
        for tick in 0..36_000u64 {
            let now = Mono(0).plus_ms(tick * 100);
            if breaker.due(&budget) <= now {
                gap_max_ms = gap_max_ms.max(now.ms_since(last));
                last = now;
                tries += 1;
                if breaker.is_open() {
                    budget.spend(now, cost);
                }
                breaker.failed(now, &mut jitter);
            }
        }
        (tries, gap_max_ms)
    }
}
