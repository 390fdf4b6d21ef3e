//! A band with hysteresis and dwell: fullness today, density and crowds later.
//!
//! Tier `n` is entered upwards at `rising[n-1]` and left downwards below `falling[n-1]`, and only
//! after the value stayed across for the dwell. Going up may skip tiers, going down takes one at a
//! time: showing danger late is worse than showing it long.

use crate::time::Mono;

/// Thresholds in order: `falling[n] < rising[n] < falling[n + 1]`, checked with the config.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thresholds {
    pub rising: Vec<u32>,
    pub falling: Vec<u32>,
    pub dwell_ms: u64,
}

/// Which tier a value is in, and where it is heading.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Band {
    tier: usize,
    heading: Option<(usize, Mono)>,
}

impl Band {
    /// The present tier, 0 lowest.
    pub fn tier(&self) -> usize {
        self.tier
    }

    /// When the band wants to be looked at again without a new value.
    pub fn due(&self, limits: &Thresholds) -> Option<Mono> {
        self.heading.map(|(_, since)| since.plus_ms(limits.dwell_ms))
    }

    /// Takes a value; says from where to where the tier went, if it did.
    pub fn update(&mut self, now: Mono, value: u32, limits: &Thresholds) -> Option<(usize, usize)> {
        let target = self.target(value, limits);
        if target == self.tier {
            self.heading = None;
            return None;
        }
        let since = match self.heading {
            // A new target in the same direction keeps its clock: the value is across all along.
            Some((heading, since)) if (heading > self.tier) == (target > self.tier) => since,
            Some(_) | None => now,
        };
        self.heading = Some((target, since));
        if now < since.plus_ms(limits.dwell_ms) {
            return None;
        }
        let from = self.tier;
        self.tier = target;
        self.heading = None;
        Some((from, target))
    }

    fn target(&self, value: u32, limits: &Thresholds) -> usize {
        let up = limits.rising.iter().filter(|rising| **rising <= value).count();
        if up > self.tier {
            return up;
        }
        let falls = self.tier > 0 && value < limits.falling[self.tier - 1];
        if falls { self.tier - 1 } else { self.tier }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_by_skipping_and_falls_by_steps() {
        // (second, value, tier after)
        let story = [
            (0, 50, 0),
            (1, 100, 0),
            (10, 100, 0),
            (11, 100, 2),
            (12, 98, 2),
            (13, 90, 2),
            (23, 50, 1),
            (24, 50, 1),
            (34, 50, 0),
        ];
        run(&story);
    }

    #[test]
    fn a_short_crossing_changes_nothing() {
        run(&[(0, 95, 0), (9, 89, 0), (10, 95, 0), (19, 95, 0), (20, 95, 1)]);
    }

    fn run(story: &[(u64, u32, usize)]) {
        let limits = Thresholds { rising: vec![90, 100], falling: vec![85, 97], dwell_ms: 10_000 };
        let mut band = Band::default();
        for (second, value, tier) in story {
            band.update(Mono(second * 1_000_000_000), *value, &limits);
            assert_eq!(band.tier(), *tier, "at {second} s with {value}");
        }
    }
}
