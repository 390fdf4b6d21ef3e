//! Random numbers from a seed, so that a demo can be played again.
//!
//! SplitMix64 (Steele, Lea, Flood 2014): eight lines, good enough for cars, no dependency.

/// A stream of random numbers, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to but without 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From 0 up to but without `end`, which must be above 0.
    pub fn below(&mut self, end: usize) -> usize {
        assert!(end > 0, "nothing is below 0");
        // The bias of a remainder is below 1 in 10^15 for the sizes of a site.
        (self.next() % end as u64) as usize
    }

    /// From `low` up to but without `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True this many times in a hundred.
    pub fn percent(&mut self, share: u32) -> bool {
        self.unit() * 100.0 < f64::from(share)
    }

    /// A wait until the next of many independent events that come `mean` apart.
    pub fn wait(&mut self, mean: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn numbers_are_repeatable_and_even() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            (0..10_000).map(|_| rng.below(10)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        for number in 0..10 {
            let seen = draw(3).iter().filter(|n| **n == number).count();
            assert!((900..1_100).contains(&seen), "{number} came {seen} times of 1,000");
        }
        let mut rng = Rng::new(4);
        let mean = (0..10_000).map(|_| rng.wait(60.0)).sum::<f64>() / 10_000.0;
        assert!((57.0..63.0).contains(&mean), "{mean}");
    }
}
