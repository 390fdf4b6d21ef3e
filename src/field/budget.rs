//! What a line's requests cost on the wire, and whether its period can be held.
//!
//! Counted are the bytes of request and answer at the line's speed with their start, parity and
//! stop bits, the silence that ends each frame, the device's own time before it answers, and the
//! requests of the field's own plan. What a file cannot say is assumed, by the names below, and
//! printed beside what follows from it; `parkway probe` measures it on the real line.
//!
//! `parkway check` and `parkway probe` share this file, so that both promise the same.

use std::time::Duration;

use crate::field::breaker::{FAILURES_MAX, PROBE_SHARE};
use crate::field::places::{Kind, Place, places};
use crate::field::plan::{Block, HOLE_MAX, plan};
use crate::profile::Table;
use crate::site::{Framing, LineIx, Site, Unit, UnitIx, Wire};

/// What a device on RS-485 is taken to need before it answers, in microseconds: 5 to 20 ms is
/// common, and vendors rarely say.
pub const RTU_TURNAROUND_US: u64 = 10_000;
/// The same for a controller on Ethernet, in microseconds: the slow side of ordinary.
pub const TCP_TURNAROUND_US: u64 = 5_000;
/// There and back over the site's own network, in microseconds.
pub const ROUND_TRIP_US: u64 = 1_000;
/// What a converter adds on top, in microseconds: it gathers a frame before it passes it on.
pub const CONVERTER_US: u64 = 5_000;
/// Sweeps in which a unit that died costs its time-out, before its breaker opens.
pub const SWEEPS_LATE: u8 = FAILURES_MAX;
/// The share of a line's time that probes of dead units may take, in percent.
pub const PROBE_PERCENT: u64 = 100 / PROBE_SHARE as u64;
/// What carries the requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Medium {
    /// Modbus TCP: its bytes cost nothing beside the device.
    Tcp,
    /// RTU on a serial port.
    Serial(Framing),
    /// RTU through a converter, with a wire of this speed behind it.
    Converter(Framing),
}

/// What is waited beside the bytes, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Pace {
    /// From a request's last byte to its answer's first, less the silence that ends the request.
    pub turnaround_us: u64,
    /// Silence kept after an answer; never below 3.5 characters on a serial wire.
    pub gap_us: u64,
}

/// What one line costs. Times are in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Budget {
    pub medium: Medium,
    pub period_ms: u32,
    /// Requests of one sweep.
    pub requests: u32,
    /// One sweep in which every unit answers.
    pub sweep_us: u64,
    /// The same without turnaround, gap, network or converter: no device can do it faster.
    pub bytes_us: u64,
    /// Signs that hang on the line.
    pub signs: u32,
    /// Outputs and lamps that do.
    pub outputs: u32,
    pub lamps: u32,
    /// All of these written once: the most that a period can bring. Lamps and outputs side by side
    /// share a write, as they do on the line.
    pub writes_us: u64,
    /// The longest that one dead unit makes the sweep; the sweep's own time where none is polled.
    pub dead_us: u64,
}

/// How a budget stands against its period.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Held, signs and one dead unit included.
    Held,
    /// Held while every unit answers; the sweeps before a dead unit's breaker opens are late.
    LateWithOneDead,
    /// Reads alone fit, with every sign written they do not.
    LateWithSigns,
    /// Not held with what devices are taken to need.
    TooMuch,
    /// Not held by any device: the bytes alone need longer.
    Impossible,
}

impl Medium {
    pub fn of(wire: &Wire) -> Medium {
        match wire {
            Wire::Tcp { .. } => Medium::Tcp,
            Wire::RtuTcp { framing, .. } => Medium::Converter(*framing),
            Wire::Serial { framing, .. } => Medium::Serial(*framing),
        }
    }

    /// The characters of a serial wire, where there is one.
    pub fn framing(self) -> Option<Framing> {
        match self {
            Medium::Tcp => None,
            Medium::Serial(framing) | Medium::Converter(framing) => Some(framing),
        }
    }

    /// What is assumed where nothing was measured, with the line's own gap.
    pub fn assumed(self, gap_ms: u32) -> Pace {
        let turnaround_us = match self {
            Medium::Tcp => TCP_TURNAROUND_US,
            Medium::Serial(_) | Medium::Converter(_) => RTU_TURNAROUND_US,
        };
        Pace { turnaround_us, gap_us: u64::from(gap_ms) * 1_000 }
    }

    /// What is there beside the wire and the device: the network, and the converter on it.
    pub fn network_us(self) -> u64 {
        match self {
            Medium::Tcp => ROUND_TRIP_US,
            Medium::Serial(_) => 0,
            Medium::Converter(_) => ROUND_TRIP_US + CONVERTER_US,
        }
    }

    /// One request and its answer, from the first byte until the next request may begin.
    pub fn exchange_us(self, bytes: Bytes, pace: Pace) -> u64 {
        let silence_us = self.silence_us();
        let more_gap_us = pace.gap_us.saturating_sub(silence_us);
        self.network_us() + self.bytes_us(bytes) + pace.turnaround_us + more_gap_us
    }

    /// The part of it that no device and no network can shorten: characters, and the silences
    /// that end the request and the answer.
    pub fn bytes_us(self, bytes: Bytes) -> u64 {
        self.characters_us(bytes.request + bytes.answer) + 2 * self.silence_us()
    }

    /// What a request costs that nobody answers, until the next one may begin. On RTU the
    /// time-out counts from the request's last byte; over TCP a new connection follows.
    pub fn silent_us(self, timeout_ms: u32) -> u64 {
        let request_us = self.characters_us(Bytes::read(Table::Holding, 1).request);
        self.network_us() + request_us + 2 * self.silence_us() + u64::from(timeout_ms) * 1_000
    }

    /// So many characters, in microseconds; none where bytes cost nothing.
    pub fn characters_us(self, count: u64) -> u64 {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.framing().map_or(0, |framing| micros(framing.characters(count)))
    }

    /// The silence that ends a frame, in microseconds.
    pub fn silence_us(self) -> u64 {
        self.framing().map_or(0, |framing| micros(framing.silence()))
    }
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// The length of a request and of its answer as RTU frames, in bytes: address and check sum
/// included (Modbus application protocol V1.1b3, 6; serial line V1.02, 2.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bytes {
    pub request: u64,
    pub answer: u64,
}

impl Bytes {
    pub fn read(table: Table, count: u16) -> Bytes {
        let count = u64::from(count);
        let items = if table.is_bits() { count.div_ceil(8) } else { 2 * count };
        Bytes { request: 8, answer: 5 + items }
    }

    /// A write of registers or coils: one by function 06 or 05, more by 16 or 15.
    pub fn write(table: Table, count: u16) -> Bytes {
        let count = u64::from(count);
        let items = if table.is_bits() { count.div_ceil(8) } else { 2 * count };
        let request = if count == 1 { 8 } else { 9 + items };
        Bytes { request, answer: 8 }
    }

    fn block(block: &Block) -> Bytes {
        Bytes::read(block.table, block.count)
    }
}

/// The requests of one sweep of a unit: the field's own plan.
pub fn blocks(site: &Site, unit: &Unit) -> Vec<Block> {
    plan(&site.profiles[unit.profile as usize], &unit.bays, HOLE_MAX).blocks
}

/// What a line costs with what is assumed of its devices.
pub fn budget(site: &Site, line: LineIx) -> Budget {
    let medium = Medium::of(&site.lines[line.at()].wire);
    budget_at(site, line, |unit| medium.assumed(site.units[unit.at()].gap_ms))
}

/// What a line costs where each unit has a pace of its own.
pub fn budget_at(site: &Site, line: LineIx, pace: impl Fn(UnitIx) -> Pace) -> Budget {
    let table = &site.lines[line.at()];
    let medium = Medium::of(&table.wire);
    let mut budget = Budget {
        medium,
        period_ms: table.period_ms,
        requests: 0,
        sweep_us: 0,
        bytes_us: 0,
        signs: 0,
        outputs: 0,
        lamps: 0,
        writes_us: 0,
        dead_us: 0,
    };
    let mut costs_most_us = 0;
    for ix in &table.units {
        let unit = &site.units[ix.at()];
        let blocks = blocks(site, unit);
        let cost = |block: &Block| medium.exchange_us(Bytes::block(block), pace(*ix));
        let own_us: u64 = blocks.iter().map(cost).sum();
        if blocks.is_empty() {
            continue;
        }
        budget.requests += u32::try_from(blocks.len()).unwrap_or(u32::MAX);
        budget.sweep_us += own_us;
        budget.bytes_us += blocks.iter().map(|b| medium.bytes_us(Bytes::block(b))).sum::<u64>();
        // A dead unit costs its time-out, and saves its own reads.
        let dead_us = medium.silent_us(unit.timeout_ms);
        costs_most_us = costs_most_us.max(dead_us.saturating_sub(own_us));
    }
    budget.dead_us = budget.sweep_us + costs_most_us;
    for place in batches(site, line, &mut budget) {
        let ix = table.units[place.unit];
        let pace = if place.replies {
            pace(ix)
        } else {
            // Nothing is asked until the display can be taken to be done.
            let turnaround_ms = site.units[ix.at()].turnaround_ms;
            Pace { turnaround_us: u64::from(turnaround_ms) * 1_000, ..pace(ix) }
        };
        let mut left = place.width;
        while left > 0 {
            let part = left.min(place.cap);
            budget.writes_us += medium.exchange_us(Bytes::write(place.table, part), pace);
            left -= part;
        }
    }
    budget
}

/// What is written on the line, counted: each sign by itself, because signs change one by one,
/// and each run of outputs or of lamps, which change together at the worst, as one wide place.
fn batches(site: &Site, line: LineIx, budget: &mut Budget) -> Vec<Place> {
    let mut batches: Vec<Place> = Vec::new();
    for (_, place) in places(site, line) {
        let count = match place.kind {
            Kind::Sign => &mut budget.signs,
            Kind::Output => &mut budget.outputs,
            Kind::Lamp => &mut budget.lamps,
        };
        *count += 1;
        let ends = |last: &Place| u32::from(last.first) + u32::from(last.width);
        match batches.last_mut() {
            Some(last)
                if place.kind != Kind::Sign
                    && (last.unit, last.table, last.kind)
                        == (place.unit, place.table, place.kind)
                    && ends(last) == u32::from(place.first)
                    && last.width.checked_add(place.width).is_some() =>
            {
                last.width += place.width;
            }
            _ => batches.push(place),
        }
    }
    batches
}

impl Budget {
    pub fn period_us(&self) -> u64 {
        u64::from(self.period_ms) * 1_000
    }

    /// A time as a share of the period, in percent.
    pub fn percent(&self, us: u64) -> f64 {
        us as f64 * 100.0 / self.period_us().max(1) as f64
    }

    /// A sweep after a dead unit's breaker opened: it is only probed now and then.
    pub fn left_alone_us(&self) -> u64 {
        self.sweep_us + self.period_us() * PROBE_PERCENT / 100
    }

    /// The least period that is held while every unit answers, in ms.
    pub fn least_ms(&self) -> u64 {
        tens(self.sweep_us)
    }

    /// The least period that is held with every sign written and one unit dead, in ms.
    pub fn calm_ms(&self) -> u64 {
        tens(self.dead_us + self.writes_us)
    }

    pub fn judgement(&self) -> Judgement {
        let period_us = self.period_us();
        match () {
            () if self.requests == 0 => Judgement::Held,
            () if self.bytes_us > period_us => Judgement::Impossible,
            () if self.sweep_us > period_us => Judgement::TooMuch,
            () if self.sweep_us + self.writes_us > period_us => Judgement::LateWithSigns,
            () if self.dead_us + self.writes_us > period_us => Judgement::LateWithOneDead,
            () => Judgement::Held,
        }
    }
}

/// Rounded up to 10 ms: nobody sets a finer period.
fn tens(us: u64) -> u64 {
    us.div_ceil(10_000) * 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Parity;

    const EIGHT_N_ONE: Framing = Framing { baud: 9_600, parity: Parity::None, stop_bits: 1 };

    /// Examples worked out by hand, in tenths of a millisecond: characters x 10 bits / 9600, two
    /// silences of 3.5 characters, 10 ms of turnaround.
    #[test]
    fn a_request_costs_what_pencil_and_paper_say() {
        let pace = Medium::Serial(EIGHT_N_ONE).assumed(0);
        let read = |framing, table, count| {
            let us = Medium::Serial(framing).exchange_us(Bytes::read(table, count), pace);
            us.div_ceil(100)
        };
        // (8 + 7 + 7) x 1.0417 + 10 = 32.9
        assert_eq!(read(EIGHT_N_ONE, Table::Holding, 1), 330);
        // (8 + 21 + 7) x 1.0417 + 10 = 47.5
        assert_eq!(read(EIGHT_N_ONE, Table::Holding, 8), 476);
        // (8 + 13 + 7) x 1.0417 + 10 = 39.2
        assert_eq!(read(EIGHT_N_ONE, Table::Discrete, 64), 392);
        // Eleven bits a character: (8 + 7 + 7) x 1.1458 + 10 = 35.2
        let even = Framing { parity: Parity::Even, ..EIGHT_N_ONE };
        assert_eq!(read(even, Table::Holding, 1), 353);
        assert_eq!(Medium::Serial(even).silence_us(), 4_011);
        // Half the wire: 22 x 0.5208 + 10 = 21.5
        let fast = Framing { baud: 19_200, ..EIGHT_N_ONE };
        assert_eq!(read(fast, Table::Holding, 1), 215);
        // 15 x 0.0868 + 2 x 1.75 + 10 = 14.8
        let fastest = Framing { baud: 115_200, ..EIGHT_N_ONE };
        assert_eq!(read(fastest, Table::Holding, 1), 149);
    }

    #[test]
    fn the_gap_counts_only_above_the_silence() {
        let line = Medium::Serial(EIGHT_N_ONE);
        let bytes = Bytes::read(Table::Holding, 1);
        let at = |gap_ms| line.exchange_us(bytes, line.assumed(gap_ms));
        assert_eq!(at(0), at(3));
        assert_eq!(at(10) - at(0), 10_000 - line.silence_us());
        let bytes_us = line.bytes_us(bytes);
        assert_eq!(at(0) - bytes_us, RTU_TURNAROUND_US);
    }

    #[test]
    fn writes_are_as_long_as_their_frames() {
        for (words, request) in [(1, 8), (2, 13), (4, 17), (123, 255)] {
            let bytes = Bytes::write(Table::Holding, words);
            assert_eq!(bytes, Bytes { request, answer: 8 }, "{words}");
        }
        for (coils, request) in [(1, 8), (2, 10), (16, 11), (1_968, 255)] {
            let bytes = Bytes::write(Table::Coil, coils);
            assert_eq!(bytes, Bytes { request, answer: 8 }, "{coils}");
        }
    }

    #[test]
    fn a_period_is_judged_by_what_has_to_fit() {
        let of = |bytes_ms: u64, sweep_ms: u64, signs_ms: u64, dead_ms: u64| Budget {
            medium: Medium::Serial(EIGHT_N_ONE),
            period_ms: 1_000,
            requests: 30,
            sweep_us: sweep_ms * 1_000,
            bytes_us: bytes_ms * 1_000,
            signs: 1,
            outputs: 0,
            lamps: 0,
            writes_us: signs_ms * 1_000,
            dead_us: dead_ms * 1_000,
        };
        for (budget, judgement) in [
            (of(500, 700, 50, 900), Judgement::Held),
            (of(500, 700, 100, 900), Judgement::Held),
            (of(500, 700, 101, 900), Judgement::LateWithOneDead),
            (of(500, 950, 51, 1_200), Judgement::LateWithSigns),
            (of(500, 1_001, 0, 1_200), Judgement::TooMuch),
            (of(1_001, 1_300, 0, 1_500), Judgement::Impossible),
            (Budget { requests: 0, ..of(0, 0, 5_000, 0) }, Judgement::Held),
        ] {
            assert_eq!(budget.judgement(), judgement, "{budget:?}");
        }
        let budget = of(500, 991, 21, 1_201);
        assert_eq!((budget.least_ms(), budget.calm_ms()), (1_000, 1_230));
        assert_eq!(budget.left_alone_us(), 1_011_000);
    }
}
