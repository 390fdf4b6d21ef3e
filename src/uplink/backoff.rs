//! How long to wait before connecting again: longer each time, and never all gateways at once.

use std::time::Duration;

/// First and longest wait before connecting again.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// The first wait after a refused login: a person has to change something.
const UNWELCOME_MIN: Duration = Duration::from_secs(30);

/// Waits that double, with jitter.
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { next: WAIT_MIN }
    }
}

impl Backoff {
    /// The next wait; `unwelcome` where a person has to change something first.
    pub fn wait(&mut self, unwelcome: bool) -> Duration {
        if unwelcome {
            self.next = self.next.max(UNWELCOME_MIN);
        }
        let longest = self.next;
        self.next = (self.next * 2).min(WAIT_MAX);
        // Between a half and the whole of it.
        let mut random = [0; 2];
        let _ = getrandom::fill(&mut random);
        longest / 2 + longest * u32::from(u16::from_be_bytes(random)) / (2 * 65_536)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_minute_with_jitter() {
        let mut backoff = Backoff::default();
        let mut longest = 1.0;
        for _ in 0..10 {
            let wait = backoff.wait(false).as_secs_f64();
            assert!((longest / 2.0..=longest).contains(&wait), "{wait} s of {longest} s");
            longest = f64::min(longest * 2.0, 60.0);
        }
        let mut refused = Backoff::default();
        assert!(refused.wait(true) >= UNWELCOME_MIN / 2);
    }
}
