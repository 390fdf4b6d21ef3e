//! How fast a unit answers, and which time-out and period a line can hold with it.
//!
//! The advice rests on three numbers: what was measured, the line's bytes (`field/budget.rs`) and
//! the margins named here. A margin is no politeness: an answer after the time-out costs a
//! connection, and three make a healthy unit count as dead.

use crate::field::budget::{Bytes, Medium, Pace};
use crate::probe::ask::Span;

/// A time-out is this many times the slowest answer seen: devices answer late while they write
/// their own memory or serve a panel, and a probe of a minute does not see the worst hour.
const SLOWEST_TIMES: u64 = 3;
/// On Ethernet a lost packet is sent again after 200 ms (Linux), so a shorter time-out takes every
/// loss for a dead unit.
const TCP_TIMEOUT_MIN_MS: u64 = 250;
/// A converter's own network side is TCP too; a serial wire alone has no such wait.
const SERIAL_TIMEOUT_MIN_MS: u64 = 50;
/// The share of a period that reads may take, in percent: the rest is for signs and for one
/// answer that comes late.
const BUSY_MAX_PERCENT: u64 = 80;

/// Reply times of one unit, in microseconds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Times {
    sorted_us: Vec<u64>,
    /// Requests that nothing came back for.
    pub lost: u32,
}

impl Times {
    pub fn add(&mut self, us: u64) {
        let at = self.sorted_us.partition_point(|other| *other <= us);
        self.sorted_us.insert(at, us);
    }

    pub fn count(&self) -> usize {
        self.sorted_us.len()
    }

    /// The value that `percent` of all are not above (nearest rank); 0 where there is none.
    pub fn percentile(&self, percent: usize) -> u64 {
        let rank = (self.sorted_us.len() * percent).div_ceil(100);
        self.sorted_us.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }

    pub fn min(&self) -> u64 {
        self.sorted_us.first().copied().unwrap_or(0)
    }

    pub fn max(&self) -> u64 {
        self.sorted_us.last().copied().unwrap_or(0)
    }

    /// "min 1.2, median 1.4, p99 2.0, max 2.1 ms over 20 reads, none lost".
    pub fn told(&self) -> String {
        let ms = |us: u64| format!("{:.1}", us as f64 / 1_000.0);
        let lost = match self.lost {
            0 => "none lost".to_owned(),
            lost => format!("{lost} LOST"),
        };
        if self.sorted_us.is_empty() {
            return format!("no reply, {lost}");
        }
        format!(
            "min {}, median {}, p99 {}, max {} ms over {} reads, {lost}",
            ms(self.min()),
            ms(self.percentile(50)),
            ms(self.percentile(99)),
            ms(self.max()),
            self.count(),
        )
    }
}

/// What a unit needs beside its bytes, from a reply time to one kind of read.
pub fn turnaround_us(medium: Medium, reply_us: u64, span: Span) -> u64 {
    let count = u16::try_from(span.count()).unwrap_or(u16::MAX);
    // The silence behind the answer is not waited for by whoever receives it.
    let bytes_us = medium.bytes_us(Bytes::read(span.table, count)) - medium.silence_us();
    reply_us.saturating_sub(bytes_us + medium.network_us())
}

/// What to write into the configuration, in ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Advice {
    pub timeout_ms: u64,
    /// The least period that is advised.
    pub period_ms: u64,
    /// One sweep of all reads with what was measured.
    pub sweep_us: u64,
}

/// One unit's share of a line.
#[derive(Clone, Debug)]
pub struct Share {
    /// The longest reply seen, in microseconds, and what was read for it.
    pub slowest_us: u64,
    pub pace: Pace,
    /// Table and count of each read of a sweep.
    pub reads: Vec<Bytes>,
}

/// The time-out that outlasts every unit's slowest reply with a margin, and the period that holds
/// all reads with one unit dead in the sweep.
pub fn advise(medium: Medium, shares: &[Share]) -> Advice {
    // Over TCP a time-out spans the whole exchange, and the longest read of the plan may be longer
    // than what was measured; on RTU it ends with the answer's first byte.
    let wait_us = |share: &Share| match medium {
        Medium::Tcp => {
            let all = share.reads.iter().map(|bytes| medium.exchange_us(*bytes, share.pace));
            all.max().unwrap_or(0).max(share.slowest_us)
        }
        Medium::Serial(_) | Medium::Converter(_) => {
            medium.network_us() + medium.silence_us() + share.pace.turnaround_us
        }
    };
    let worst_us = shares.iter().map(wait_us).max().unwrap_or(0);
    let least_ms = match medium {
        Medium::Tcp | Medium::Converter(_) => TCP_TIMEOUT_MIN_MS,
        Medium::Serial(_) => SERIAL_TIMEOUT_MIN_MS,
    };
    let timeout_ms = tens(SLOWEST_TIMES * worst_us).max(least_ms);
    let own_us = |share: &Share| -> u64 {
        share.reads.iter().map(|bytes| medium.exchange_us(*bytes, share.pace)).sum()
    };
    let sweep_us: u64 = shares.iter().map(own_us).sum();
    let least_us = shares.iter().map(own_us).min().unwrap_or(0);
    let timeout = u32::try_from(timeout_ms).unwrap_or(u32::MAX);
    let dead_us = sweep_us - least_us + medium.silent_us(timeout);
    let busy_us = (sweep_us * 100).div_ceil(BUSY_MAX_PERCENT);
    Advice { timeout_ms, period_ms: tens(busy_us.max(dead_us)).max(50), sweep_us }
}

/// Microseconds as milliseconds, rounded up to ten.
fn tens(us: u64) -> u64 {
    us.div_ceil(10_000) * 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Table;
    use crate::site::{Framing, Parity};

    const SLOW: Medium =
        Medium::Serial(Framing { baud: 9_600, parity: Parity::None, stop_bits: 1 });

    #[test]
    fn percentiles_are_of_what_was_seen() {
        let mut times = Times::default();
        assert_eq!((times.min(), times.percentile(50), times.max()), (0, 0, 0));
        for us in (1..=200).rev() {
            times.add(us * 100);
        }
        assert_eq!((times.min(), times.max(), times.count()), (100, 20_000, 200));
        assert_eq!((times.percentile(50), times.percentile(99)), (10_000, 19_800));
        times.lost = 2;
        let told = "min 0.1, median 10.0, p99 19.8, max 20.0 ms over 200 reads, 2 LOST";
        assert_eq!(times.told(), told);
    }

    #[test]
    fn what_the_bytes_take_is_no_turnaround() {
        let span = Span { table: Table::Holding, first: 0, last: 0 };
        // 15 characters of 1.0417 ms and 3.65 ms of silence: 19.3 ms.
        assert_eq!(turnaround_us(SLOW, 29_300, span) / 1_000, 10);
        assert_eq!(turnaround_us(SLOW, 10_000, span), 0);
        assert_eq!(turnaround_us(Medium::Tcp, 3_000, span), 2_000);
    }

    #[test]
    fn sixty_detectors_at_9600_baud_need_what_paper_says() {
        let pace = Pace { turnaround_us: 10_000, gap_us: 0 };
        let reads = vec![Bytes::read(Table::Holding, 1)];
        let share = Share { slowest_us: 33_000, pace, reads };
        let advice = advise(SLOW, &vec![share; 60]);
        // 60 x 32.9 ms; 80 % of 2,470 ms is 1,976 ms. Three times 3.65 ms of silence and 10 ms of
        // turnaround are 41 ms.
        assert_eq!(advice.sweep_us / 1_000, 1_975);
        assert_eq!((advice.timeout_ms, advice.period_ms), (50, 2_470));
    }

    #[test]
    fn a_dead_unit_fits_into_the_advised_period() {
        let pace = Pace { turnaround_us: 2_000, gap_us: 0 };
        let reads = vec![Bytes::read(Table::Holding, 80), Bytes::read(Table::Holding, 4)];
        let share = Share { slowest_us: 2_500, pace, reads };
        let advice = advise(Medium::Tcp, &[share]);
        // A single unit: two reads of 3 ms; the time-out and the new connection decide.
        assert_eq!(advice, Advice { timeout_ms: 250, period_ms: 260, sweep_us: 6_000 });
    }
}
