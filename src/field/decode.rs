//! From a sweep's blocks to a [`Reading`]: what is occupied, and what is known at all.
//!
//! Missing is not free. A point is known only if its own word came, says one of the two things it
//! can say, and its fault flag came too and is clear; everything else is unknown. A default of 0
//! would read "free" and send a car to an occupied bay.
//!
//! Detectors are packed 64 to a word as they come, without a loop over bays.

use crate::field::plan::{Block, Kind, points_per_item};
use crate::gateway::Reading;
use crate::profile::{Layout, Profile, WordOrder};
use crate::site::{BayIx, UnitIx};
use crate::time::Mono;

/// Gathers the blocks of one unit's sweep; used again for the next.
#[derive(Clone, Debug)]
pub struct Sweep {
    shape: Shape,
    /// Points that a bay is wired to.
    wired: Vec<u64>,
    occupied: Vec<u64>,
    /// Points whose word came and says free or occupied.
    said: Vec<u64>,
    /// Points whose fault flag came and is clear.
    sound: Vec<u64>,
    counters: Vec<u32>,
    /// A bit a counter: it came in this sweep.
    counted: u32,
    any: bool,
}

/// What of the profile decoding needs.
#[derive(Clone, Copy, Debug)]
struct Shape {
    layout: Layout,
    points_per_item: u16,
    has_faults: bool,
    word_order: WordOrder,
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
        let shape = Shape {
            layout: profile.bays.as_ref().map_or(Layout::Bits, |bays| bays.layout),
            points_per_item: profile.bays.as_ref().map_or(1, points_per_item),
            has_faults: profile.bays.as_ref().is_some_and(|bays| bays.fault_base.is_some()),
            word_order: profile.counters.as_ref().map_or(WordOrder::HighFirst, |c| c.word_order),
        };
        let zeros = vec![0; wired.len()];
        let counters = vec![0; profile.counters.as_ref().map_or(0, |c| usize::from(c.count))];
        Sweep {
            shape,
            wired,
            occupied: zeros.clone(),
            said: zeros.clone(),
            sound: zeros,
            counters,
            counted: 0,
            any: false,
        }
    }

    /// Forgets everything: a new sweep begins.
    pub fn begin(&mut self) {
        for words in [&mut self.occupied, &mut self.said, &mut self.sound] {
            words.fill(0);
        }
        self.counted = 0;
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
                (kind, Items::Words(words)) if self.shape.points_per_item == 16 => {
                    for (chunk, at) in words[range].chunks(4).zip((number..).step_by(64)) {
                        self.pack(kind, at, chunk.len() * 16, pack_words(chunk));
                    }
                }
                (kind, Items::Words(words)) => self.values(kind, number, &words[range]),
            }
        }
    }

    /// Up to 64 flags from point `at` on.
    fn pack(&mut self, kind: Kind, at: usize, count: usize, flags: u64) {
        match kind {
            Kind::Detect => {
                put(&mut self.occupied, at, count, flags);
                put(&mut self.said, at, count, u64::MAX);
            }
            Kind::Fault => put(&mut self.sound, at, count, !flags),
            Kind::Counters => (),
        }
    }

    /// One register a point.
    fn values(&mut self, kind: Kind, number: usize, words: &[u16]) {
        for (chunk, at) in words.chunks(64).zip((number..).step_by(64)) {
            let flags = |says: &dyn Fn(u16) -> bool| {
                chunk.iter().rev().fold(0, |flags, word| flags << 1 | u64::from(says(*word)))
            };
            match (kind, self.shape.layout) {
                (Kind::Detect, Layout::Values { free, occupied }) => {
                    let taken = flags(&|word| word == occupied);
                    // A value that would mean both means nothing.
                    let said = flags(&|word| (word == free) != (word == occupied));
                    put(&mut self.occupied, at, chunk.len(), taken);
                    put(&mut self.said, at, chunk.len(), said);
                }
                (Kind::Fault, Layout::Values { .. }) => {
                    put(&mut self.sound, at, chunk.len(), flags(&|word| word == 0));
                }
                (_, Layout::Bits) | (Kind::Counters, Layout::Values { .. }) => (),
            }
        }
    }

    /// Counters from `number` on, two registers each.
    fn count(&mut self, number: usize, words: &[u16]) {
        for (pair, n) in words.chunks_exact(2).zip(number..) {
            let (high, low) = match self.shape.word_order {
                WordOrder::HighFirst => (pair[0], pair[1]),
                WordOrder::LowFirst => (pair[1], pair[0]),
            };
            if let Some(counter) = self.counters.get_mut(n) {
                *counter = u32::from(high) << 16 | u32::from(low);
                self.counted |= 1 << n;
            }
        }
    }

    /// The sweep's reading; `None` where no block came. Counters are given all or none, since one
    /// that did not come has no value to give.
    pub fn finish(&self, unit: UnitIx, at: Mono) -> Option<Reading> {
        if !self.any {
            return None;
        }
        let sound = |n: usize| if self.shape.has_faults { self.sound[n] } else { u64::MAX };
        let known: Vec<u64> =
            (0..self.wired.len()).map(|n| self.wired[n] & self.said[n] & sound(n)).collect();
        let occupied = self.occupied.iter().zip(&known).map(|(o, k)| o & k).collect();
        let all = self.counted.count_ones() as usize == self.counters.len();
        let counters = if all { self.counters.clone() } else { Vec::new() };
        Some(Reading { unit, at, occupied, known, counters })
    }
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::field::plan::{HOLE_MAX, plan, tests::any_unit};
    use crate::profile::Table;

    proptest! {
        /// Reads a model of the unit's four tables through the plan, with some answers missing or
        /// short, and holds the reading to a bay-by-bay rule written without bitsets.
        #[test]
        fn a_bay_is_known_only_if_its_words_say_so(
            (profile, bays) in any_unit(),
            seed: u64,
            spoilt in 0u64..4,
            hole_max in 0u16..=HOLE_MAX,
        ) {
            let mut random = crate::field::pace::Jitter::new(seed);
            let mut memory: Vec<u16> = Vec::new();
            memory.resize_with(8_200, || random.below(5) as u16);
            let bit = |address: usize| memory[address] & 1 == 1;
            let plan = plan(&profile, &bays, hole_max);
            let mut sweep = Sweep::new(&profile, &bays);
            sweep.begin();
            let mut came: Vec<(Table, std::ops::Range<usize>)> = Vec::new();
            for block in &plan.blocks {
                let range = usize::from(block.first)..usize::from(block.first + block.count);
                let short = match random.below(8) < spoilt {
                    false => 0,
                    true if random.below(2) == 0 => continue,
                    true => 1,
                };
                let asked = range.start..range.end - short;
                if block.table.is_bits() {
                    let bits: Vec<bool> = asked.map(bit).collect();
                    sweep.take(block, Items::Bits(&bits));
                } else {
                    sweep.take(block, Items::Words(&memory[asked]));
                }
                if short == 0 {
                    came.push((block.table, range));
                }
            }
            let reading = sweep.finish(UnitIx(3), Mono(7));
            prop_assert_eq!(reading.is_none(), came.is_empty());
            let Some(reading) = reading else { return Ok(()) };
            let has = |table: Table, at: usize| {
                came.iter().any(|(t, range)| *t == table && range.contains(&at))
            };
            prop_assert_eq!(reading.known.len(), bays.len().div_ceil(64));
            for point in 0..reading.known.len() * 64 {
                let expected = match (&profile.bays, bays.get(point)) {
                    (Some(b), Some(Some(_))) => {
                        let per = usize::from(points_per_item(b));
                        let flag = |base: u16| {
                            let at = usize::from(base) + point / per;
                            has(b.table, at).then(|| match (b.table.is_bits(), b.layout) {
                                (true, _) => u16::from(bit(at)),
                                (false, Layout::Bits) => memory[at] >> (point % 16) & 1,
                                (false, Layout::Values { .. }) => memory[at],
                            })
                        };
                        let detect = flag(b.base).and_then(|word| match b.layout {
                            Layout::Bits => Some(word == 1),
                            Layout::Values { free, occupied } if free == occupied => None,
                            Layout::Values { free, .. } if word == free => Some(false),
                            Layout::Values { occupied, .. } if word == occupied => Some(true),
                            Layout::Values { .. } => None,
                        });
                        let sound = b.fault_base.is_none_or(|base| flag(base) == Some(0));
                        detect.filter(|_| sound)
                    }
                    _ => None,
                };
                let known = reading.known[point / 64] >> (point % 64) & 1 == 1;
                let occupied = reading.occupied[point / 64] >> (point % 64) & 1 == 1;
                prop_assert_eq!(known.then_some(occupied), expected, "point {}", point);
                prop_assert!(known || !occupied);
            }
            if let Some(c) = &profile.counters {
                let at = |n: u16| usize::from(c.base) + 2 * usize::from(n);
                let value = |n: u16| {
                    let (a, b) = (u32::from(memory[at(n)]), u32::from(memory[at(n) + 1]));
                    match c.word_order {
                        WordOrder::HighFirst => a << 16 | b,
                        WordOrder::LowFirst => b << 16 | a,
                    }
                };
                let all = (0..c.count).all(|n| {
                    came.iter().any(|(t, r)| {
                        *t == c.table && r.contains(&at(n)) && r.contains(&(at(n) + 1))
                    })
                });
                let expected: Vec<u32> = if all { (0..c.count).map(value).collect() } else { vec![] };
                prop_assert_eq!(reading.counters, expected);
            }
        }
    }
}
