//! Decoding held to a point-by-point rule written without bitsets, over several sweeps.

use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::field::pace::Jitter;
use crate::field::plan::{HOLE_MAX, Plan, plan, tests::any_unit, tests::detectors, tests::profile};
use crate::profile::{Bays, Distance, Meaning, Number, Table};

/// What came of a unit's four tables in one sweep.
struct Came {
    memory: Vec<u16>,
    blocks: Vec<(Table, Range<usize>)>,
}

impl Came {
    /// Reads the memory through the plan; `spoilt` of 8 answers are missing or short.
    fn read(plan: &Plan, sweep: &mut Sweep, spoilt: u64, random: &mut Jitter) -> Came {
        let mut memory: Vec<u16> = Vec::new();
        memory.resize_with(10_200, || if random.below(9) == 0 { u16::MAX } else { 0 });
        memory
            .iter_mut()
            .filter(|word| **word == 0)
            .for_each(|word| *word = random.below(6) as u16);
        let mut blocks = Vec::new();
        sweep.begin();
        for block in &plan.blocks {
            let range = usize::from(block.first)..usize::from(block.first + block.count);
            let short = match random.below(8) < spoilt {
                false => 0,
                true if random.below(2) == 0 => continue,
                true => 1,
            };
            let asked = range.start..range.end - short;
            if block.table.is_bits() {
                let bits: Vec<bool> = asked.map(|at| memory[at] & 1 == 1).collect();
                sweep.take(block, Items::Bits(&bits));
            } else {
                sweep.take(block, Items::Words(&memory[asked]));
            }
            if short == 0 {
                blocks.push((block.table, range));
            }
        }
        Came { memory, blocks }
    }

    fn has(&self, table: Table, at: usize) -> bool {
        self.blocks.iter().any(|(t, range)| *t == table && range.contains(&at))
    }

    /// An item, where it came.
    fn item(&self, table: Table, at: usize) -> Option<u16> {
        let bits = if table.is_bits() { 1 } else { u16::MAX };
        self.has(table, at).then(|| self.memory[at] & bits)
    }

    /// A flag of a run that is packed in registers.
    fn packed(&self, table: Table, base: u16, n: usize) -> Option<bool> {
        match table.is_bits() {
            true => self.item(table, usize::from(base) + n).map(|bit| bit == 1),
            false => {
                self.item(table, usize::from(base) + n / 16).map(|word| word >> (n % 16) & 1 == 1)
            }
        }
    }

    /// A number of one register or two.
    fn number(&self, table: Table, at: usize, words: u16, order: WordOrder) -> Option<u32> {
        let words: Option<Vec<u16>> =
            (at..at + usize::from(words)).map(|at| self.item(table, at)).collect();
        words.map(|words| raw(&words, order))
    }
}

/// A number of one register or two.
pub fn raw(words: &[u16], order: WordOrder) -> u32 {
    let [first, rest @ ..] = words else { panic!("a number has a register") };
    match (rest.first().copied().map(u32::from), order) {
        (None, _) => u32::from(*first),
        (Some(second), WordOrder::HighFirst) => u32::from(*first) * 65_536 + second,
        (Some(second), WordOrder::LowFirst) => second * 65_536 + u32::from(*first),
    }
}

/// What a distance says: `Some(None)` for one between the thresholds.
pub fn says(rule: &Distance, raw: u32) -> Option<Option<bool>> {
    let count = match rule.number {
        Number::U16 | Number::U32 => i64::from(raw),
        Number::I16 => i64::from(raw as u16 as i16),
        Number::I32 => i64::from(raw as i32),
    };
    if rule.none.contains(&count) {
        return match rule.none_means {
            Meaning::Free => Some(Some(false)),
            Meaning::Occupied => Some(Some(true)),
            Meaning::Unknown => None,
        };
    }
    let mm = count * i64::from(rule.count_mm);
    match mm {
        _ if rule.errors.contains(&count) => None,
        _ if mm < rule.valid_mm[0].into() || mm > rule.valid_mm[1].into() => None,
        _ if mm < rule.occupied_below_mm.into() => Some(Some(true)),
        _ if mm > rule.free_above_mm.into() => Some(Some(false)),
        _ => Some(None),
    }
}

/// Whether a point is occupied, by the rule alone; `memory` is what its ranger last said outside
/// the band, and when.
fn truth(
    bays: &Bays,
    point: usize,
    came: &Came,
    at: Mono,
    memory: &mut Option<(bool, Mono)>,
) -> Option<bool> {
    let value = |base: u16| came.item(bays.table, usize::from(base) + point);
    let sound = match (&bays.layout, bays.fault_base) {
        (_, None) => true,
        (Layout::Bits, Some(base)) => came.packed(bays.table, base, point) == Some(false),
        (_, Some(base)) => value(base) == Some(0),
    };
    match &bays.layout {
        Layout::Bits => came.packed(bays.table, bays.base, point).filter(|_| sound),
        Layout::Values { free, occupied } => match value(bays.base)? {
            _ if free == occupied || !sound => None,
            word if word == *free => Some(false),
            word if word == *occupied => Some(true),
            _ => None,
        },
        Layout::Flags { detect, faults } => {
            let word = value(bays.base)?;
            let bit = |n: &u8| word / 2u16.pow((*n).into()) % 2 == 1;
            (sound && !faults.iter().any(bit)).then(|| bit(detect))
        }
        Layout::Distance(rule) => {
            let words = rule.number.words();
            let place = usize::from(bays.base) + point * usize::from(words);
            let raw = came.number(bays.table, place, words, rule.word_order)?;
            if !sound {
                return None;
            }
            match says(rule, raw)? {
                Some(taken) => {
                    *memory = Some((taken, at));
                    Some(taken)
                }
                None => memory
                    .filter(|(_, since)| at.0 - since.0 <= u64::from(rule.hold_s) * 1_000_000_000)
                    .and_then(|(taken, _)| taken.then_some(true)),
            }
        }
    }
}

/// All counters, or none where one did not come or is above its highest count.
fn true_counters(counters: &Counters, came: &Came) -> Vec<u32> {
    let words = u16::from(counters.width) / 16;
    let value = |n: u16| {
        let at = usize::from(counters.base) + usize::from(n * words);
        let value = came.number(counters.table, at, words, counters.word_order)?;
        (counters.wrap.is_none_or(|highest| value <= highest)).then_some(value)
    };
    (0..counters.count).map(value).collect::<Option<Vec<u32>>>().unwrap_or_default()
}

proptest! {
    #[test]
    fn a_bay_is_known_only_if_its_words_say_so(
        (profile, bays) in any_unit(),
        seed: u64,
        spoilt in 0u64..4,
        hole_max in 0u16..=HOLE_MAX,
    ) {
        let mut random = Jitter::new(seed);
        let plan = plan(&profile, &bays, hole_max);
        let mut sweep = Sweep::new(&profile, &bays);
        let mut memory = vec![None; bays.len().div_ceil(64) * 64];
        let mut at = Mono(5_000_000_000);
        for _ in 0..6 {
            at = Mono(at.0 + 500_000_000 * (1 + random.below(4)));
            let came = Came::read(&plan, &mut sweep, spoilt, &mut random);
            let reading = sweep.finish(UnitIx(3), at);
            prop_assert_eq!(reading.is_none(), came.blocks.is_empty());
            let Some(reading) = reading else { continue };
            prop_assert_eq!((reading.unit, reading.at), (UnitIx(3), at));
            prop_assert_eq!(reading.known.len(), bays.len().div_ceil(64));
            for (point, last) in memory.iter_mut().enumerate() {
                let wired = matches!(bays.get(point), Some(Some(_)));
                let rule = profile.bays.as_ref().filter(|_| wired);
                let expected =
                    rule.and_then(|bays| truth(bays, point, &came, at, last));
                let known = reading.known[point / 64] >> (point % 64) & 1 == 1;
                let occupied = reading.occupied[point / 64] >> (point % 64) & 1 == 1;
                prop_assert_eq!(known.then_some(occupied), expected, "point {}", point);
                prop_assert!(known || !occupied);
            }
            if let Some(counters) = &profile.counters {
                prop_assert_eq!(reading.counters, true_counters(counters, &came));
            }
            for n in 0..64 {
                let ours = profile.contacts.as_ref().filter(|contacts| n < contacts.count.into());
                let expected = ours.and_then(|c| came.packed(c.table, c.base, n));
                let known = reading.contacts_known >> n & 1 == 1;
                let closed = reading.contacts >> n & 1 == 1;
                prop_assert_eq!(known.then_some(closed), expected, "contact {}", n);
                prop_assert!(known || !closed);
            }
        }
    }
}

#[test]
fn the_band_keeps_what_was_known_for_its_time_and_no_longer() {
    let rule = Distance {
        number: Number::U16,
        word_order: WordOrder::HighFirst,
        count_mm: 1,
        occupied_below_mm: 1_500,
        free_above_mm: 1_800,
        valid_mm: [30, 3_000],
        errors: vec![65_534],
        none: vec![65_533],
        none_means: Meaning::Unknown,
        hold_s: 30,
    };
    let layout = Layout::Distance(rule);
    let bays = Bays { layout, points: 1, fault_base: Some(1), ..detectors(1, None) };
    let unit = profile(Some(bays), None);
    let wired = [Some(BayIx(0))];
    let block = &plan(&unit, &wired, HOLE_MAX).blocks[0];
    let mut sweep = Sweep::new(&unit, &wired);
    let table = [
        // (at s, distance, fault, occupied)
        (1, 1_650, 0, None),
        (2, 2_400, 0, Some(false)),
        // What was free is unknown in the band: a car may be coming in.
        (3, 1_500, 0, None),
        (34, 1_801, 0, Some(false)),
        (35, 1_499, 0, Some(true)),
        (36, 65_534, 0, None),
        (37, 65_533, 0, None),
        (38, 29, 0, None),
        (39, 3_001, 0, None),
        (40, 1_700, 0, Some(true)),
        // A broken ranger's word is neither taken nor remembered.
        (41, 2_400, 1, None),
        (42, 1_700, 0, Some(true)),
        (43, 1_700, 1, None),
        (65, 1_700, 0, Some(true)),
        (66, 1_700, 0, None),
        (100, 30, 0, Some(true)),
        (101, 3_000, 0, Some(false)),
    ];
    for (at_s, distance, fault, occupied) in table {
        sweep.begin();
        sweep.take(block, Items::Words(&[distance, fault]));
        let reading = sweep.finish(UnitIx(0), Mono(at_s * 1_000_000_000)).expect("it came");
        let came = (reading.known[0] == 1).then_some(reading.occupied[0] == 1);
        assert_eq!(came, occupied, "{distance} mm at {at_s} s");
    }
}
