//! Decoding held to a point-by-point rule written without bitsets.

use proptest::prelude::*;

use super::*;
use crate::field::plan::{HOLE_MAX, plan, tests::any_unit};
use crate::profile::{Bays, Counters, Table};

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
            let wired = matches!(bays.get(point), Some(Some(_)));
            let expected = profile.bays.as_ref().filter(|_| wired);
            let expected = expected.and_then(|bays| truth(bays, point, &memory, &has));
            let known = reading.known[point / 64] >> (point % 64) & 1 == 1;
            let occupied = reading.occupied[point / 64] >> (point % 64) & 1 == 1;
            prop_assert_eq!(known.then_some(occupied), expected, "point {}", point);
            prop_assert!(known || !occupied);
        }
        if let Some(counters) = &profile.counters {
            prop_assert_eq!(reading.counters, true_counters(counters, &memory, &has));
        }
    }
}

/// Whether a point is occupied, by the rule alone; `has` says which items came.
fn truth(
    bays: &Bays,
    point: usize,
    memory: &[u16],
    has: &dyn Fn(Table, usize) -> bool,
) -> Option<bool> {
    let item = |base: u16| {
        let at = usize::from(base) + point / usize::from(points_per_item(bays));
        has(bays.table, at).then(|| match (bays.table.is_bits(), &bays.layout) {
            (true, _) => memory[at] & 1,
            (false, Layout::Bits) => memory[at] >> (point % 16) & 1,
            (false, _) => memory[at],
        })
    };
    if bays.fault_base.is_some_and(|base| item(base) != Some(0)) {
        return None;
    }
    match (item(bays.base)?, &bays.layout) {
        (word, Layout::Bits) => Some(word == 1),
        (_, Layout::Values { free, occupied }) if free == occupied => None,
        (word, Layout::Values { free, .. }) if word == *free => Some(false),
        (word, Layout::Values { occupied, .. }) if word == *occupied => Some(true),
        (_, Layout::Values { .. } | Layout::Flags { .. } | Layout::Distance(_)) => None,
    }
}

/// All counters, or none where a register of one did not come.
fn true_counters(
    counters: &Counters,
    memory: &[u16],
    has: &dyn Fn(Table, usize) -> bool,
) -> Vec<u32> {
    let at = |n: u16| usize::from(counters.base) + 2 * usize::from(n);
    let both = |n| has(counters.table, at(n)) && has(counters.table, at(n) + 1);
    if !(0..counters.count).all(both) {
        return Vec::new();
    }
    let value = |n: u16| {
        let (a, b) = (u32::from(memory[at(n)]), u32::from(memory[at(n) + 1]));
        match counters.word_order {
            WordOrder::HighFirst => a << 16 | b,
            WordOrder::LowFirst => b << 16 | a,
        }
    };
    (0..counters.count).map(value).collect()
}
