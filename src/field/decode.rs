//! From a sweep's blocks to a [`Reading`]: what is occupied, and what is known at all.
//!
//! Missing is not free. A point is known only if its own item came, says one of the two things it
//! can say, and its fault flag came too and is clear; everything else is unknown. A default of 0
//! would read "free" and send a car to an occupied bay. The same holds for contacts and counters.
//!
//! Packed detectors go 64 to a word as they come, without a loop over bays.

mod range;

use crate::field::plan::{Block, Kind, points_per_item};
use crate::gateway::Reading;
use crate::profile::{Counters, Layout, Profile, WordOrder};
use crate::site::{BayIx, UnitIx};
use crate::time::Mono;
use range::Ranges;

/// Gathers the blocks of one unit's sweep; used again for the next.
#[derive(Clone, Debug)]
pub struct Sweep {
    rule: Rule,
    /// Points in one item: 16 where bits are packed in registers.
    packed: bool,
    has_faults: bool,
    /// Points that a bay is wired to.
    wired: Vec<u64>,
    occupied: Vec<u64>,
    /// Points whose item came and says free or occupied.
    said: Vec<u64>,
    /// Points whose fault flag came and is clear.
    sound: Vec<u64>,
    ranges: Option<Ranges>,
    counter: Option<Counters>,
    counters: Vec<u32>,
    /// A bit a counter: it came in this sweep.
    counted: u32,
    contacts: u64,
    contacts_known: u64,
    /// Contacts that the profile has.
    contacts_all: u64,
    any: bool,
}

/// What one item says of a point.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Bits,
    Values { free: u16, occupied: u16 },
    Flags { detect: u16, faults: u16 },
    Distance,
}

/// A block's items as they came.
#[derive(Clone, Copy, Debug)]
pub enum Items<'a> {
    Bits(&'a [bool]),
    Words(&'a [u16]),
}

impl Sweep {
    pub fn new(profile: &Profile, bays: &[Option<BayIx>]) -> Sweep {
        let mut wired = vec![0u64; bays.len().div_ceil(64)];
        for (point, _) in bays.iter().enumerate().filter(|(_, bay)| bay.is_some()) {
            wired[point / 64] |= 1 << (point % 64);
        }
        let layout = profile.bays.as_ref().map(|bays| &bays.layout);
        let ranges = match layout {
            Some(Layout::Distance(distance)) => Some(Ranges::new(distance, wired.len())),
            Some(Layout::Bits | Layout::Values { .. } | Layout::Flags { .. }) | None => None,
        };
        let zeros = vec![0; wired.len()];
        let counters = vec![0; profile.counters.as_ref().map_or(0, |c| usize::from(c.count))];
        Sweep {
            rule: layout.map_or(Rule::Bits, Rule::of),
            packed: profile.bays.as_ref().is_some_and(|bays| points_per_item(bays) == 16),
            has_faults: profile.bays.as_ref().is_some_and(|bays| bays.fault_base.is_some()),
            wired,
            occupied: zeros.clone(),
            said: zeros.clone(),
            sound: zeros,
            ranges,
            counter: profile.counters.clone(),
            counters,
            counted: 0,
            contacts: 0,
            contacts_known: 0,
            contacts_all: profile.contacts.as_ref().map_or(0, |c| low(c.count.into())),
            any: false,
        }
    }

    /// Forgets what came in the last sweep: a new one begins.
    pub fn begin(&mut self) {
        for words in [&mut self.occupied, &mut self.said, &mut self.sound] {
            words.fill(0);
        }
        if let Some(ranges) = &mut self.ranges {
            ranges.begin();
        }
        self.counted = 0;
        self.contacts = 0;
        self.contacts_known = 0;
        self.any = false;
    }

    /// Takes a block's answer. One of another length than asked for says nothing.
    pub fn take(&mut self, block: &Block, items: Items<'_>) {
        let came = match items {
            Items::Bits(bits) => bits.len(),
            Items::Words(words) => words.len(),
        };
        if came != usize::from(block.count) {
            return;
        }
        self.any = true;
        for part in &block.parts {
            let range = usize::from(part.offset)..usize::from(part.offset + part.items);
            let number = usize::from(part.number);
            match (part.kind, items) {
                (Kind::Counters, Items::Words(words)) => self.count(number, &words[range]),
                // Counters in a table of bits are refused by `check`.
                (Kind::Counters, Items::Bits(_)) => (),
                (kind, Items::Bits(bits)) => {
                    for (chunk, at) in bits[range].chunks(64).zip((number..).step_by(64)) {
                        self.pack(kind, at, chunk.len(), pack_bits(chunk));
                    }
                }
                (kind, Items::Words(words)) if kind == Kind::Contacts || self.packed => {
                    for (chunk, at) in words[range].chunks(4).zip((number..).step_by(64)) {
                        self.pack(kind, at, chunk.len() * 16, pack_words(chunk));
                    }
                }
                (Kind::Fault, Items::Words(words)) => self.faults(number, &words[range]),
                (_, Items::Words(words)) => self.values(number, &words[range]),
            }
        }
    }

    /// Up to 64 flags from point or contact `at` on.
    fn pack(&mut self, kind: Kind, at: usize, count: usize, flags: u64) {
        match kind {
            Kind::Detect => {
                put(&mut self.occupied, at, count, flags);
                put(&mut self.said, at, count, u64::MAX);
            }
            Kind::Fault => put(&mut self.sound, at, count, !flags),
            Kind::Contacts => {
                put(std::slice::from_mut(&mut self.contacts), at, count, flags);
                put(std::slice::from_mut(&mut self.contacts_known), at, count, u64::MAX);
            }
            Kind::Counters => (),
        }
    }

    /// One register a point with its fault flag: any value but 0 is a fault.
    fn faults(&mut self, number: usize, words: &[u16]) {
        for (chunk, at) in words.chunks(64).zip((number..).step_by(64)) {
            put(&mut self.sound, at, chunk.len(), flags(chunk, |word| word == 0));
        }
    }

    /// One value a point.
    fn values(&mut self, number: usize, words: &[u16]) {
        if let (Rule::Distance, Some(ranges)) = (self.rule, &mut self.ranges) {
            return ranges.take(number, words, &mut self.occupied, &mut self.said);
        }
        for (chunk, at) in words.chunks(64).zip((number..).step_by(64)) {
            let (taken, said) = match self.rule {
                Rule::Values { free, occupied } => (
                    flags(chunk, |word| word == occupied),
                    // A value that would mean both means nothing.
                    flags(chunk, |word| (word == free) != (word == occupied)),
                ),
                Rule::Flags { detect, faults } => (
                    flags(chunk, |word| word & detect != 0),
                    flags(chunk, |word| word & faults == 0),
                ),
                Rule::Bits | Rule::Distance => return,
            };
            put(&mut self.occupied, at, chunk.len(), taken);
            put(&mut self.said, at, chunk.len(), said);
        }
    }

    /// Counters from `number` on. One above its own highest count did not come.
    fn count(&mut self, number: usize, words: &[u16]) {
        let Some(shape) = &self.counter else { return };
        for (value, n) in words.chunks_exact(shape.words().into()).zip(number..) {
            let value = join(value, shape.word_order);
            if let Some(counter) = self.counters.get_mut(n)
                && value <= shape.highest()
            {
                *counter = value;
                self.counted |= 1 << n;
            }
        }
    }

    /// The sweep's reading; `None` where no block came. Counters are given all or none, since one
    /// that did not come has no value to give.
    pub fn finish(&mut self, unit: UnitIx, at: Mono) -> Option<Reading> {
        if !self.any {
            return None;
        }
        if let Some(ranges) = &mut self.ranges {
            // What a broken ranger says is not worth remembering.
            let sound = self.has_faults.then_some(self.sound.as_slice());
            ranges.resolve(at, sound, &mut self.occupied, &mut self.said);
        }
        let sound = |n: usize| if self.has_faults { self.sound[n] } else { u64::MAX };
        let known: Vec<u64> =
            (0..self.wired.len()).map(|n| self.wired[n] & self.said[n] & sound(n)).collect();
        let occupied = self.occupied.iter().zip(&known).map(|(o, k)| o & k).collect();
        let all = self.counted.count_ones() as usize == self.counters.len();
        let counters = if all { self.counters.clone() } else { Vec::new() };
        let contacts_known = self.contacts_known & self.contacts_all;
        let contacts = self.contacts & contacts_known;
        Some(Reading { unit, at, occupied, known, counters, contacts, contacts_known })
    }
}

impl Rule {
    fn of(layout: &Layout) -> Rule {
        match layout {
            Layout::Bits => Rule::Bits,
            Layout::Values { free, occupied } => Rule::Values { free: *free, occupied: *occupied },
            Layout::Flags { detect, faults } => Rule::Flags {
                detect: mask(*detect),
                faults: faults.iter().fold(0, |all, bit| all | mask(*bit)),
            },
            Layout::Distance(_) => Rule::Distance,
        }
    }
}

/// A bit of a register; `check` refuses numbers above 15.
fn mask(bit: u8) -> u16 {
    1u16.checked_shl(bit.into()).unwrap_or(0)
}

/// The lowest `count` bits.
fn low(count: u32) -> u64 {
    u64::MAX.checked_shr(64 - count.min(64)).unwrap_or(0)
}

/// A number of one register or two.
fn join(words: &[u16], order: WordOrder) -> u32 {
    match (words, order) {
        ([high, low], WordOrder::HighFirst) | ([low, high], WordOrder::LowFirst) => {
            u32::from(*high) << 16 | u32::from(*low)
        }
        (words, _) => words.first().copied().unwrap_or(0).into(),
    }
}

/// What up to 64 registers say, the first lowest.
fn flags(words: &[u16], says: impl Fn(u16) -> bool) -> u64 {
    words.iter().rev().fold(0, |flags, word| flags << 1 | u64::from(says(*word)))
}

/// Up to 64 flags, the first lowest.
fn pack_bits(bits: &[bool]) -> u64 {
    bits.iter().rev().fold(0, |flags, bit| flags << 1 | u64::from(*bit))
}

/// Up to 4 registers, the first lowest.
fn pack_words(words: &[u16]) -> u64 {
    words.iter().rev().fold(0, |flags, word| flags << 16 | u64::from(*word))
}

/// Sets `count` flags (1 to 64) from `at` on; what lies past the end is dropped.
fn put(out: &mut [u64], at: usize, count: usize, flags: u64) {
    let flags = flags & (u64::MAX >> (64 - count));
    let (word, shift) = (at / 64, at % 64);
    if let Some(low) = out.get_mut(word) {
        *low |= flags << shift;
    }
    if shift > 0
        && let Some(high) = out.get_mut(word + 1)
    {
        *high |= flags >> (64 - shift);
    }
}

#[cfg(test)]
pub mod tests;
