//! What a line's requests cost on the wire, and whether its period can be held.
//!
//! Counted are the bytes of request and answer at the line's speed with their start, parity and
//! stop bits, the silence that ends each frame, the device's own time before it answers, and the
//! requests of the field's own plan. What a file cannot say is assumed, by the names below, and
//! printed beside what follows from it; `parkway probe` measures it on the real line.
//!
//! `parkway check` and `parkway probe` share this file, so that both promise the same.

use crate::field::places::{Kind, places};
use crate::field::plan::{Block, HOLE_MAX, plan};
use crate::profile::Table;
use crate::site::{Line, LineIx, Site, Unit};

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
pub const SWEEPS_LATE: u32 = 3;
/// The share of a line's time that probes of dead units may take, in percent.
pub const PROBE_PERCENT: u64 = 2;
/// Above this speed the silence between frames is fixed (Modbus over serial line V1.02, 2.5.1.1).
const FIXED_SILENCE_ABOVE_BAUD: u32 = 19_200;
/// That silence, in microseconds.
const FIXED_SILENCE_US: u64 = 1_750;

/// How characters go over a serial wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Framing {
    /// Bits a second, above 0.
    pub baud: u32,
    /// Whether a parity bit is sent.
    pub parity: bool,
    /// 1 or 2.
    pub stop_bits: u8,
}

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
    /// Every sign written once: the most that a period can bring.
    pub signs_us: u64,
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

impl Framing {
    /// Bits of one character: start, eight data, parity, stop.
    pub fn bits(self) -> u64 {
        1 + 8 + u64::from(self.parity) + u64::from(self.stop_bits)
    }

    /// So many characters, in microseconds, rounded up.
    pub fn characters_us(self, characters: u64) -> u64 {
        (characters * self.bits() * 1_000_000).div_ceil(u64::from(self.baud.max(1)))
    }

    /// The silence that ends a frame, in microseconds.
    pub fn silence_us(self) -> u64 {
        if self.baud > FIXED_SILENCE_ABOVE_BAUD {
            FIXED_SILENCE_US
        } else {
            self.characters_us(7).div_ceil(2)
        }
    }
}

impl Medium {
    /// What is assumed where nothing was measured, with the line's own gap.
    pub fn assumed(self, gap_ms: u32) -> Pace {
        let turnaround_us = match self {
            Medium::Tcp => TCP_TURNAROUND_US,
            Medium::Serial(_) | Medium::Converter(_) => RTU_TURNAROUND_US,
        };
        Pace { turnaround_us, gap_us: u64::from(gap_ms) * 1_000 }
    }

    /// One request and its answer, from the first byte until the next request may begin.
    pub fn exchange_us(self, bytes: Bytes, pace: Pace) -> u64 {
        let Bytes { request, answer } = bytes;
        let wire = |framing: Framing| {
            let silence_us = framing.silence_us();
            let silences_us = silence_us + silence_us.max(pace.gap_us);
            framing.characters_us(request + answer) + silences_us + pace.turnaround_us
        };
        match self {
            Medium::Tcp => ROUND_TRIP_US + pace.turnaround_us + pace.gap_us,
            Medium::Serial(framing) => wire(framing),
            Medium::Converter(framing) => ROUND_TRIP_US + CONVERTER_US + wire(framing),
        }
    }

    /// The part of it that no device and no network can shorten.
    pub fn bytes_us(self, bytes: Bytes) -> u64 {
        match self {
            Medium::Tcp => 0,
            Medium::Serial(framing) | Medium::Converter(framing) => {
                framing.characters_us(bytes.request + bytes.answer) + 2 * framing.silence_us()
            }
        }
    }
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

    /// A write of registers: one by function 06, more by 16.
    pub fn write(words: usize) -> Bytes {
        let words = words as u64;
        let request = if words == 1 { 8 } else { 9 + 2 * words };
        Bytes { request, answer: 8 }
    }

    fn block(block: &Block) -> Bytes {
        Bytes::read(block.table, block.count)
    }
}

/// What carries a line's requests.
pub fn medium(_line: &Line) -> Medium {
    Medium::Tcp
}

/// The requests of one sweep of a unit: the field's own plan.
pub fn blocks(site: &Site, unit: &Unit) -> Vec<Block> {
    plan(&site.profiles[unit.profile as usize], &unit.bays, HOLE_MAX).blocks
}

/// What a line costs with what is assumed of its devices.
pub fn budget(site: &Site, line: LineIx) -> Budget {
    let table = &site.lines[line.at()];
    let medium = medium(table);
    budget_at(site, line, |n| medium.assumed(site.units[table.units[n].at()].gap_ms))
}

/// What a line costs where each unit, by its place on the line, has a pace of its own.
pub fn budget_at(site: &Site, line: LineIx, pace: impl Fn(usize) -> Pace) -> Budget {
    let table = &site.lines[line.at()];
    let medium = medium(table);
    let mut budget = Budget {
        medium,
        period_ms: table.period_ms,
        requests: 0,
        sweep_us: 0,
        bytes_us: 0,
        signs: 0,
        signs_us: 0,
        dead_us: 0,
    };
    // A dead unit costs its time-out and a new connection, and saves its own reads.
    let mut costs_most_us = 0;
    for (n, unit) in table.units.iter().enumerate() {
        let blocks = blocks(site, &site.units[unit.at()]);
        let cost = |block: &Block| medium.exchange_us(Bytes::block(block), pace(n));
        let own_us: u64 = blocks.iter().map(cost).sum();
        if blocks.is_empty() {
            continue;
        }
        budget.requests += u32::try_from(blocks.len()).unwrap_or(u32::MAX);
        budget.sweep_us += own_us;
        let timeout_us = u64::from(site.units[unit.at()].timeout_ms) * 1_000 + ROUND_TRIP_US;
        budget.bytes_us += blocks.iter().map(|b| medium.bytes_us(Bytes::block(b))).sum::<u64>();
        costs_most_us = costs_most_us.max(timeout_us.saturating_sub(own_us));
    }
    budget.dead_us = budget.sweep_us + costs_most_us;
    for (_, place) in places(site, line).iter().filter(|(_, place)| place.kind == Kind::Sign) {
        budget.signs += 1;
        let mut left = place.width;
        while left > 0 {
            let part = left.min(place.cap);
            budget.signs_us += medium.exchange_us(Bytes::write(part.into()), pace(place.unit));
            left -= part;
        }
    }
    budget
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
        tens(self.dead_us + self.signs_us)
    }

    pub fn judgement(&self) -> Judgement {
        let period_us = self.period_us();
        match () {
            () if self.requests == 0 => Judgement::Held,
            () if self.bytes_us > period_us => Judgement::Impossible,
            () if self.sweep_us > period_us => Judgement::TooMuch,
            () if self.sweep_us + self.signs_us > period_us => Judgement::LateWithSigns,
            () if self.dead_us + self.signs_us > period_us => Judgement::LateWithOneDead,
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

    const EIGHT_N_ONE: Framing = Framing { baud: 9_600, parity: false, stop_bits: 1 };

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
        let even = Framing { parity: true, ..EIGHT_N_ONE };
        assert_eq!(read(even, Table::Holding, 1), 353);
        assert_eq!(even.silence_us(), 4_011);
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
        assert_eq!(at(10) - at(0), 10_000 - EIGHT_N_ONE.silence_us());
        let bytes_us = line.bytes_us(bytes);
        assert_eq!(at(0) - bytes_us, RTU_TURNAROUND_US);
    }

    #[test]
    fn writes_are_as_long_as_their_frames() {
        for (words, request) in [(1, 8), (2, 13), (4, 17), (123, 255)] {
            assert_eq!(Bytes::write(words), Bytes { request, answer: 8 }, "{words}");
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
            signs_us: signs_ms * 1_000,
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
