//! Time as a value: the clock is read in one place and handed to everything that decides.
//!
//! [`Mono`] never goes back and counts through suspend (CLOCK_BOOTTIME); every deadline uses it.
//! [`Wall`] is what records show to people; underground it is often wrong, so nothing is decided
//! by it. [`Clock`] is the only reader of both, and alone knows that a demo runs faster. How far
//! the wall clock can be believed is judged in [`quality`] and read from the clock.

pub mod quality;

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Nanoseconds since boot, suspend included. Only differences and order mean anything.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Mono(pub u64);

/// Milliseconds since 1970 by the machine's wall clock: for people, never for deadlines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(pub i64);

/// One instant on both clocks, read once for each input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    pub mono: Mono,
    pub wall: Wall,
}

impl Now {
    /// What the wall clock is ahead of the other one, in ms.
    pub fn offset_ms(self) -> i64 {
        self.wall.0.saturating_sub(i64::try_from(self.mono.0 / 1_000_000).unwrap_or(i64::MAX))
    }
}

impl Mono {
    /// The time from `earlier` to here; zero where `earlier` is later.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Milliseconds from `earlier` to here; zero where `earlier` is later.
    pub fn ms_since(self, earlier: Mono) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }

    /// This instant plus a number of milliseconds.
    pub fn plus_ms(self, ms: u64) -> Mono {
        Mono(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, length: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Mono;

    fn sub(self, length: Duration) -> Mono {
        Mono(self.0.saturating_sub(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Wall {
    /// RFC 3339 in UTC with milliseconds; a value no calendar holds prints as its number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(stamp) => write!(f, "{stamp:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

/// The boot id of a machine that does not tell its own.
pub const UNKNOWN_BOOT: &str = "unknown";

/// Which start of the machine a [`Mono`] belongs to: the kernel's boot id.
pub fn boot_id() -> String {
    let path = "/proc/sys/kernel/random/boot_id";
    match std::fs::read_to_string(path) {
        Ok(id) => id.trim().to_owned(),
        // Without it no stored deadline can be trusted, which is what an id of no boot says.
        Err(_) => UNKNOWN_BOOT.to_owned(),
    }
}

/// The one reader of the machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Now,
    speed: u32,
    verdict: &'static Verdict,
}

/// What the watcher of a process's wall clock last said.
#[derive(Debug)]
struct Verdict {
    /// In ns; [`UNSURE`] while it is not good.
    good_since: AtomicU64,
    steps: AtomicU64,
}

const UNSURE: u64 = u64::MAX;

/// Of clocks that nobody watches: tools and tests take them as they are.
static UNWATCHED: Verdict = Verdict { good_since: AtomicU64::new(0), steps: AtomicU64::new(0) };

impl Clock {
    /// The real clocks.
    pub fn real() -> Clock {
        Clock::scaled(1)
    }

    /// Clocks that run `speed` times as fast from now on: for the demo, 1 to 1,000.
    pub fn scaled(speed: u32) -> Clock {
        assert!((1..=1_000).contains(&speed), "clock speed {speed} is outside 1 to 1000");
        let origin = Now { mono: Mono(read_ns(ClockId::Boottime)), wall: read_wall() };
        Clock { origin, speed, verdict: &UNWATCHED }
    }

    /// The same clock, unsure until [`Clock::judged`] says otherwise. For the one clock of a
    /// process: its verdict is never freed, so that clocks stay values that anybody may copy.
    pub fn watched(self) -> Clock {
        let (good_since, steps) = (AtomicU64::new(UNSURE), AtomicU64::new(0));
        Clock { verdict: Box::leak(Box::new(Verdict { good_since, steps })), ..self }
    }

    /// What was found by looking at a watched clock.
    pub fn judged(&self, good_since: Option<Mono>, steps: u64) {
        let good_since = good_since.map_or(UNSURE, |since| since.0);
        self.verdict.good_since.store(good_since, Ordering::Relaxed);
        self.verdict.steps.store(steps, Ordering::Relaxed);
    }

    /// Since when the wall clock has been good; `None` while it is not.
    pub fn good_since(&self) -> Option<Mono> {
        let since = self.verdict.good_since.load(Ordering::Relaxed);
        (since != UNSURE).then_some(Mono(since))
    }

    /// How often the wall clock was found to have stepped.
    pub fn steps(&self) -> u64 {
        self.verdict.steps.load(Ordering::Relaxed)
    }

    /// How many times faster than real this clock runs.
    pub fn speed(&self) -> u32 {
        self.speed
    }

    /// Both clocks, read together.
    pub fn now(&self) -> Now {
        if self.speed == 1 {
            return Now { mono: Mono(read_ns(ClockId::Boottime)), wall: read_wall() };
        }
        let elapsed = read_ns(ClockId::Boottime).saturating_sub(self.origin.mono.0);
        let scaled = elapsed.saturating_mul(u64::from(self.speed));
        Now {
            mono: Mono(self.origin.mono.0.saturating_add(scaled)),
            wall: Wall(self.origin.wall.0.saturating_add((scaled / 1_000_000) as i64)),
        }
    }

    /// How long to wait, in real time, until `deadline` on this clock.
    pub fn wait(&self, deadline: Mono) -> Duration {
        deadline.since(self.now().mono) / self.speed
    }
}

fn read_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // The kernel promises a non-negative CLOCK_BOOTTIME; the conversion cannot lose bits.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn read_wall() -> Wall {
    // By the C library, unlike the other clock: so a test can shift this one alone.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaled_clock_waits_less() {
        let clock = Clock::scaled(100);
        let wait = clock.wait(clock.now().mono.plus_ms(10_000));
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert!(wait > Duration::from_millis(50), "{wait:?}");
    }

    #[test]
    fn wall_prints_as_a_date_or_as_its_number() {
        assert_eq!(Wall(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Wall(i64::MAX).to_string(), "9223372036854775807 ms");
    }
}
