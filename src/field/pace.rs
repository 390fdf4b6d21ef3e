//! When to do the next thing: a grid of slots, waits that grow, and the jitter between them.
//!
//! A slot is the previous slot plus the period, never "now plus the period": a sweep that runs
//! late does not push all later ones. What was missed is skipped and counted, not caught up with,
//! because a bay's state of two seconds ago is worth nothing.

use std::time::Duration;

use crate::time::Mono;

/// Slots at a fixed period.
#[derive(Clone, Debug)]
pub struct Grid {
    next: Mono,
    period: Duration,
}

impl Grid {
    /// The first slot and the time between slots, which is above zero.
    pub fn new(first: Mono, period: Duration) -> Grid {
        assert!(!period.is_zero(), "a grid needs a period");
        Grid { next: first, period }
    }

    /// When the next slot begins.
    pub fn next(&self) -> Mono {
        self.next
    }

    /// Takes the slot that has begun, if one has: how many before it were missed.
    pub fn take(&mut self, now: Mono) -> Option<u64> {
        if now < self.next {
            return None;
        }
        let period_ns = u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX);
        let missed = (now.0 - self.next.0) / period_ns;
        self.next = Mono(self.next.0.saturating_add(period_ns.saturating_mul(missed + 1)));
        Some(missed)
    }
}

/// A wait that doubles up to a limit. Each is shortened by up to a quarter, so that many waits
/// that began together do not end together, and none is above the limit.
#[derive(Clone, Debug)]
pub struct Delay {
    first_ms: u64,
    max_ms: u64,
    next_ms: u64,
}

impl Delay {
    pub fn new(first_ms: u64, max_ms: u64) -> Delay {
        assert!(0 < first_ms && first_ms <= max_ms, "a delay grows from above zero to its limit");
        Delay { first_ms, max_ms, next_ms: first_ms }
    }

    /// The next wait.
    pub fn grow(&mut self, jitter: &mut Jitter) -> Duration {
        let wait_ms = self.next_ms;
        self.next_ms = (wait_ms * 2).min(self.max_ms);
        Duration::from_millis(wait_ms - jitter.below(wait_ms / 4 + 1))
    }

    /// Back to the first wait.
    pub fn reset(&mut self) {
        self.next_ms = self.first_ms;
    }
}

/// A small generator of whole numbers (SplitMix64): equal seeds give equal waits, so that a run
/// can be repeated.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    /// A number from 0 to `bound - 1`; 0 where the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The high half of a product with the bound: no division and no visible bias here.
        let wide = u128::from(mixed ^ (mixed >> 31)) * u128::from(bound);
        u64::try_from(wide >> 64).expect("a 128-bit product has a 64-bit high half")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_late_slot_does_not_move_the_grid() {
        let mut grid = Grid::new(Mono(0).plus_ms(300), SECOND);
        let takes: Vec<(u64, Option<u64>)> =
            [0, 299, 300, 1_299, 1_950, 2_299, 5_400, 6_299, 6_300]
                .map(|ms| (ms, grid.take(Mono(0).plus_ms(ms))))
                .into();
        let expected = [
            (0, None),
            (299, None),
            (300, Some(0)),
            (1_299, None),
            (1_950, Some(0)),
            (2_299, None),
            (5_400, Some(3)),
            (6_299, None),
            (6_300, Some(0)),
        ];
        // The slot of 2,300 was missed at 5,400, as were 3,300 and 4,300; 5,300 was taken late.
        assert_eq!(takes, expected);
    }

    proptest! {
        #[test]
        fn a_delay_stays_within_its_limits(seed: u64, first in 1u64..5_000, times in 1usize..40) {
            let max = 15_000u64;
            let mut delay = Delay::new(first, max);
            let mut jitter = Jitter::new(seed);
            let mut whole = first;
            for _ in 0..times {
                let wait_ms = delay.grow(&mut jitter).as_millis() as u64;
                prop_assert!(wait_ms <= whole && wait_ms >= whole - whole / 4, "{wait_ms} {whole}");
                whole = (whole * 2).min(max);
            }
            delay.reset();
            prop_assert!(delay.grow(&mut jitter).as_millis() as u64 <= first);
        }

        #[test]
        fn jitter_is_below_its_bound(seed: u64, bound in 1u64..u64::MAX) {
            prop_assert!(Jitter::new(seed).below(bound) < bound);
        }
    }
}
