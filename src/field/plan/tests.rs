//! The plan held to its promises over every unit that a profile can describe.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::option;
use proptest::prelude::*;

use super::{Block, Contacts, Counters, HOLE_MAX, Kind, Layout, Profile, Table};
use super::{answer_length, items_per_point, pieces, plan};
use crate::profile::{Bays, Distance, Meaning, Number, WordOrder};
use crate::site::BayIx;

#[test]
fn the_reference_controller_takes_two_reads() {
    let profile = profile(Some(detectors(630, Some(40))), Some(counters(100, 2)));
    let bays: Vec<_> = (0..630).map(|n| Some(BayIx(n))).collect();
    let plan = plan(&profile, &bays, HOLE_MAX);
    let ranges: Vec<_> = plan.blocks.iter().map(|b| (b.first, b.count)).collect();
    assert_eq!(ranges, [(0, 80), (100, 4)]);
    assert!(!plan.bridged);
}

#[test]
fn a_small_hole_is_read_along_and_a_wide_one_is_not() {
    let profile = profile(Some(detectors(32, None)), Some(counters(18, 1)));
    let bays = [Some(BayIx(0)); 32];
    let bridged = plan(&profile, &bays, HOLE_MAX);
    assert_eq!(bridged.blocks.len(), 1);
    assert!(bridged.bridged);
    let strict = plan(&profile, &bays, 0);
    assert_eq!(strict.blocks.len(), 2);
    assert!(!strict.bridged);
}

#[test]
fn unwired_ends_are_not_read() {
    let mut bays = vec![None; 64];
    bays[20] = Some(BayIx(0));
    bays[40] = Some(BayIx(1));
    let plan = plan(&profile(Some(detectors(64, None)), None), &bays, HOLE_MAX);
    assert_eq!((plan.blocks[0].first, plan.blocks[0].count), (1, 2));
    assert_eq!(plan.blocks[0].parts[0].number, 16);
    let unwired = super::plan(&profile(Some(detectors(64, None)), None), &[], 16);
    assert!(unwired.blocks.is_empty());
}

/// A number's two registers, the second of which is also read for something with a limit of one.
#[test]
fn a_part_below_anothers_step_keeps_its_own_limit() {
    let bits = Bays { block_max: Some(1), ..detectors(80, None) };
    let plan = plan(&profile(Some(bits), Some(counters(3, 1))), &[Some(BayIx(0)); 80], HOLE_MAX);
    let of = |kind: Kind| {
        let blocks = plan.blocks.iter().filter(move |b| b.parts.iter().any(|p| p.kind == kind));
        blocks.map(|block| (block.first, block.count)).collect::<Vec<_>>()
    };
    assert_eq!(of(Kind::Detect), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]);
    assert_eq!(of(Kind::Counters), [(3, 2)]);
}

/// Something to read: what it is, which, and where all of it lies.
type Want = (Kind, u16, Table, Range<u32>);

/// Everything a unit is read for, by the profile alone, point by point.
fn wanted(profile: &Profile, bays: &[Option<BayIx>]) -> BTreeSet<(Kind, u16)> {
    let mut all = BTreeSet::new();
    for point in (0..bays.len()).filter(|point| bays[*point].is_some()) {
        all.insert((Kind::Detect, point as u16));
        if profile.bays.as_ref().is_some_and(|bays| bays.fault_base.is_some()) {
            all.insert((Kind::Fault, point as u16));
        }
    }
    all.extend((0..profile.counters.as_ref().map_or(0, |c| c.count)).map(|n| (Kind::Counters, n)));
    all.extend((0..profile.contacts.as_ref().map_or(0, |c| c.count)).map(|n| (Kind::Contacts, n)));
    all
}

/// Where a thing lies, by the profile alone.
fn place(profile: &Profile, kind: Kind, number: u16) -> Want {
    let packed = |table: Table| if table.is_bits() { 1 } else { 16 };
    let (table, base, number_at, items) = match kind {
        Kind::Contacts => {
            let c = profile.contacts.as_ref().unwrap();
            (c.table, c.base, u32::from(number / packed(c.table)), 1)
        }
        Kind::Counters => {
            let c = profile.counters.as_ref().unwrap();
            let words = u32::from(c.width) / 16;
            (c.table, c.base, u32::from(number) * words, words)
        }
        Kind::Detect | Kind::Fault => {
            let b = profile.bays.as_ref().unwrap();
            let words = match &b.layout {
                Layout::Distance(d) if kind == Kind::Detect => match d.number {
                    Number::U16 | Number::I16 => 1,
                    Number::U32 | Number::I32 => 2,
                },
                _ => 1,
            };
            let at = match b.layout {
                Layout::Bits => u32::from(number / packed(b.table)),
                _ => u32::from(number) * words,
            };
            let base = if kind == Kind::Detect { b.base } else { b.fault_base.unwrap() };
            (b.table, base, at, words)
        }
    };
    let first = u32::from(base) + number_at;
    (kind, number, table, first..first + items)
}

/// Everything a block's parts say they hold.
fn held(block: &Block) -> Vec<Want> {
    let mut all = Vec::new();
    for part in &block.parts {
        assert_eq!(part.items % part.step, 0, "half a step: {block:?}");
        assert!(part.offset + part.items <= block.count, "{block:?}");
        for step in 0..part.items / part.step {
            let first = u32::from(block.first + part.offset + step * part.step);
            for n in 0..part.per_step {
                let number = part.number + step * part.per_step + n;
                all.push((part.kind, number, block.table, first..first + u32::from(part.step)));
            }
        }
    }
    all
}

/// The unit's own limit for one read of a part.
fn own_limit(profile: &Profile, kind: Kind) -> u16 {
    let (limit, least) = match kind {
        Kind::Contacts => (profile.contacts.as_ref().and_then(|c| c.block_max), 1),
        Kind::Counters => {
            let counters = profile.counters.as_ref();
            (counters.and_then(|c| c.block_max), counters.map_or(1, Counters::words))
        }
        Kind::Detect | Kind::Fault => {
            let bays = profile.bays.as_ref();
            let least = if kind == Kind::Detect { bays.map_or(1, items_per_point) } else { 1 };
            (bays.and_then(|b| b.block_max), least)
        }
    };
    limit.unwrap_or(u16::MAX).max(least)
}

/// Where a block may end without cutting a step, counted from its first item.
fn ends(block: &Block) -> Vec<u32> {
    let items: Vec<Range<u32>> = held(block).into_iter().map(|(_, _, _, items)| items).collect();
    let inside = |end: &u32| items.iter().any(|other| other.start < *end && *end < other.end);
    let ends = items.iter().map(|items| items.end).filter(|end| !inside(end));
    ends.map(|end| end - u32::from(block.first)).collect()
}

proptest! {
    #[test]
    fn covers_everything_and_never_asks_too_much(
        (profile, bays) in any_unit(),
        hole_max in 0u16..=HOLE_MAX,
    ) {
        let plan = plan(&profile, &bays, hole_max);
        let mut covered = BTreeSet::new();
        for block in &plan.blocks {
            let limits = block.parts.iter().map(|part| own_limit(&profile, part.kind));
            let limit = limits.min().expect("no block is empty").min(block.table.read_max());
            prop_assert!((1..=limit).contains(&block.count), "over {limit}: {block:?}");
            prop_assert!(u32::from(block.first) + u32::from(block.count) <= 65_536);
            for want in held(block) {
                prop_assert_eq!(&want, &place(&profile, want.0, want.1));
                covered.insert((want.0, want.1));
            }
        }
        let wanted = wanted(&profile, &bays);
        prop_assert!(covered.is_superset(&wanted), "{:?}", wanted.difference(&covered));
        prop_assert!(hole_max > 0 || !plan.bridged);
    }

    /// A late answer to one block fits no other, unless every shorter length was taken too.
    #[test]
    fn blocks_of_a_table_differ_in_length(
        (profile, bays) in any_unit(),
        hole_max in 0u16..=HOLE_MAX,
    ) {
        let mut blocks = plan(&profile, &bays, hole_max).blocks;
        blocks.sort_by_key(|block| (block.table, block.first));
        let bytes = |table: Table, items: u32| match table {
            Table::Discrete | Table::Coil => items.div_ceil(8),
            Table::Input | Table::Holding => 2 * items,
        };
        for (n, block) in blocks.iter().enumerate() {
            let before = blocks[..n].iter().filter(|other| other.table == block.table);
            let taken: BTreeSet<u32> =
                before.map(|other| bytes(other.table, other.count.into())).collect();
            if taken.contains(&bytes(block.table, block.count.into())) {
                let untaken = |end: &u32| !taken.contains(&bytes(block.table, *end));
                let free = ends(block).into_iter().find(untaken);
                prop_assert_eq!(free, None, "{:?} could be shorter", block);
            }
        }
    }

    #[test]
    fn the_most_urgent_comes_first((profile, bays) in any_unit()) {
        let blocks = plan(&profile, &bays, HOLE_MAX).blocks;
        let kinds: Vec<_> = blocks.iter().map(|b| b.parts.iter().map(|p| p.kind).min()).collect();
        prop_assert!(kinds.is_sorted(), "{kinds:?}");
    }

    /// However often blocks are cut, the same is read from the same places, and a number's
    /// registers stay together.
    #[test]
    fn cutting_loses_nothing((profile, bays) in any_unit(), mut dice: u64) {
        let mut blocks = plan(&profile, &bays, HOLE_MAX).blocks;
        let all = |blocks: &[Block]| {
            let mut all: Vec<_> = blocks.iter().flat_map(held).collect();
            all.sort_by_key(|(kind, number, table, items)| (*kind, *number, *table, items.start));
            all
        };
        let length = |block: &Block| answer_length(block.table, block.count.into());
        let before = all(&blocks);
        for _ in 0..20.min(blocks.len() * 4) {
            let at = (dice % blocks.len() as u64) as usize;
            dice = dice.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let block = blocks[at].clone();
            let smaller = pieces(&block, &[]);
            let steps: BTreeSet<_> =
                held(&block).into_iter().map(|(.., items)| items.start).collect();
            prop_assert!(smaller.iter().all(|piece| piece.count < block.count));
            // In one run of registers, cut anywhere, halves need not be alike.
            if let ([low, high], [_]) = (smaller.as_slice(), block.parts.as_slice()) {
                let alike = length(low) == length(high) && !block.table.is_bits();
                prop_assert!(!alike || steps.len() == 2, "{:?} {:?}", low, high);
            }
            if smaller.is_empty() {
                prop_assert!(steps.len() == 1 || block.parts.len() > 1, "{:?}", block);
                continue;
            }
            blocks.splice(at..=at, smaller);
            prop_assert_eq!(&all(&blocks), &before);
        }
    }
}

fn ranges(blocks: &[Block]) -> Vec<(u16, u16)> {
    blocks.iter().map(|block| (block.first, block.count)).collect()
}

#[test]
fn a_single_step_has_no_pieces_and_two_have_no_unequal_ones() {
    let unit = profile(None, Some(counters(100, 1)));
    assert_eq!(pieces(&plan(&unit, &[], HOLE_MAX).blocks[0], &[]), []);
    let unit = profile(None, Some(counters(100, 2)));
    let cut = pieces(&plan(&unit, &[], HOLE_MAX).blocks[0], &[]);
    assert_eq!(ranges(&cut), [(100, 2), (102, 2)]);
    assert_eq!((cut[0].parts[0].number, cut[1].parts[0].number), (0, 1));
}

#[test]
fn pieces_leave_holes_out_and_lengths_that_are_taken() {
    let unit = profile(Some(detectors(64, None)), Some(counters(10, 1)));
    let whole = plan(&unit, &[Some(BayIx(0)); 64], HOLE_MAX).blocks[0].clone();
    let runs = pieces(&whole, &[]);
    assert_eq!(ranges(&runs), [(0, 4), (10, 2)]);
    assert_eq!(ranges(&pieces(&runs[0], &[])), [(0, 1), (1, 3)]);
    let wide = profile(Some(detectors(160, None)), None);
    let wide = plan(&wide, &[Some(BayIx(0)); 160], HOLE_MAX).blocks[0].clone();
    assert_eq!(ranges(&pieces(&wide, &[])), [(0, 4), (4, 6)]);
    assert_eq!(ranges(&pieces(&wide, &[8])), [(0, 3), (3, 7)]);
}

#[test]
fn twins_are_told_apart_and_contacts_come_first() {
    let mut unit = profile(Some(detectors(640, Some(1_000))), None);
    unit.contacts = Some(Contacts { table: Table::Discrete, base: 0, count: 16, block_max: None });
    let bays = [Some(BayIx(0)); 640];
    let plan = plan(&unit, &bays, HOLE_MAX);
    let ranges: Vec<_> = plan.blocks.iter().map(|b| (b.table, b.first, b.count)).collect();
    let (bits, words) = (Table::Discrete, Table::Holding);
    assert_eq!(ranges, [(bits, 0, 16), (words, 0, 40), (words, 1_000, 39), (words, 1_039, 1)]);
}

#[test]
fn a_block_keeps_to_the_least_limit_of_its_parts() {
    let mut unit = profile(Some(detectors(160, None)), Some(counters(10, 4)));
    unit.counters.as_mut().unwrap().block_max = Some(8);
    let blocks = plan(&unit, &[Some(BayIx(0)); 160], HOLE_MAX).blocks;
    assert_eq!(ranges(&blocks), [(0, 10), (10, 8)]);
}

/// Any unit that `check` would accept.
pub fn any_unit() -> impl Strategy<Value = (Profile, Vec<Option<BayIx>>)> {
    let parts = (option::of(any_bays()), option::of(any_counters()), option::of(any_contacts()));
    (parts, any::<u64>()).prop_map(|((bays, counters, contacts), seed)| {
        let points = bays.as_ref().map_or(0, |b| b.points);
        let mut random = crate::field::pace::Jitter::new(seed);
        let sparse = random.below(20);
        let wired = (0..points)
            .map(|n| (random.below(sparse + 1) == 0).then_some(BayIx(u32::from(n))))
            .collect();
        (Profile { contacts, ..profile(bays, counters) }, wired)
    })
}

fn any_table() -> impl Strategy<Value = Table> {
    prop::sample::select(vec![Table::Discrete, Table::Coil, Table::Input, Table::Holding])
}

fn any_words() -> impl Strategy<Value = Table> {
    prop::sample::select(vec![Table::Input, Table::Holding])
}

fn any_order() -> impl Strategy<Value = WordOrder> {
    prop::sample::select(vec![WordOrder::HighFirst, WordOrder::LowFirst])
}

/// A limit within the spec's, where there is one.
fn within(table: Table, limit: Option<u16>, least: u16) -> Option<u16> {
    limit.map(|most| most.min(table.read_max()).max(least))
}

fn any_bays() -> impl Strategy<Value = Bays> {
    let layouts = prop_oneof![
        Just(Layout::Bits),
        (0u16..4, 0u16..4).prop_map(|(free, occupied)| Layout::Values { free, occupied }),
        (0u8..3, prop::collection::vec(3u8..16, 0..3))
            .prop_map(|(detect, faults)| Layout::Flags { detect, faults }),
        any_distance().prop_map(Layout::Distance),
    ];
    let limits = option::of(1u16..=2_000);
    let bays = (any_table(), layouts, prop_oneof![0u16..40, 0u16..4_000], 1u16..=2_000, limits);
    (bays, option::of(0u16..6_000)).prop_map(|(bays, fault_base)| {
        let (table, layout, base, points, block_max) = bays;
        let layout = if table.is_bits() { Layout::Bits } else { layout };
        let mut bays = Bays { table, base, points, layout, fault_base, block_max: None };
        bays.block_max = within(table, block_max, items_per_point(&bays));
        bays
    })
}

/// Thresholds that the small values of a test's memory fall on all sides of.
fn any_distance() -> impl Strategy<Value = Distance> {
    let number = vec![Number::U16, Number::I16, Number::U32, Number::I32];
    let counts = || prop::collection::vec(0i64..5, 0..2);
    let meanings = vec![Meaning::Free, Meaning::Occupied, Meaning::Unknown];
    let shape = (prop::sample::select(number), any_order(), 1u16..=3);
    let limits = (0u32..3, 1u32..5, 0u32..4);
    let words = (counts(), counts(), prop::sample::select(meanings), 0u32..4);
    (shape, limits, words).prop_map(|(shape, limits, words)| {
        let (number, word_order, count_mm) = shape;
        let (nearest, below, band) = limits;
        let (errors, mut none, none_means, hold_s) = words;
        none.retain(|count| !errors.contains(count));
        let occupied_below_mm = nearest + below;
        let free_above_mm = occupied_below_mm + band;
        let valid_mm = [nearest, free_above_mm + 2];
        Distance {
            number,
            word_order,
            count_mm,
            occupied_below_mm,
            free_above_mm,
            valid_mm,
            errors,
            none,
            none_means,
            hold_s,
        }
    })
}

fn any_counters() -> impl Strategy<Value = Counters> {
    let width = prop::sample::select(vec![16u8, 32]);
    let shape = (any_words(), prop_oneof![0u16..200, 0u16..6_000], 1u16..=32, width, any_order());
    let wrap = prop_oneof![Just(None), Just(Some(2u32)), Just(Some(1 << 17))];
    (shape, wrap, option::of(1u16..=125)).prop_map(|(shape, wrap, block_max)| {
        let (table, base, count, width, word_order) = shape;
        let block_max = within(table, block_max, u16::from(width) / 16);
        Counters { table, base, count, width, word_order, wrap, block_max }
    })
}

fn any_contacts() -> impl Strategy<Value = Contacts> {
    (any_table(), 0u16..6_000, 1u16..=64, option::of(1u16..=2_000)).prop_map(
        |(table, base, count, block_max)| {
            let block_max = within(table, block_max, 1);
            Contacts { table, base, count, block_max }
        },
    )
}

pub fn profile(bays: Option<Bays>, counters: Option<Counters>) -> Profile {
    let (id, source) = ("p".to_owned(), "a test".to_owned());
    Profile {
        id,
        source,
        bays,
        counters,
        contacts: None,
        sign: None,
        callout: None,
        lamps: None,
        outputs: None,
        vectors: Vec::new(),
    }
}

/// Packed bits in holding registers from address 0.
pub fn detectors(points: u16, fault_base: Option<u16>) -> Bays {
    let (table, layout) = (Table::Holding, Layout::Bits);
    Bays { table, base: 0, points, layout, fault_base, block_max: None }
}

pub fn counters(base: u16, count: u16) -> Counters {
    let (table, word_order) = (Table::Holding, WordOrder::HighFirst);
    Counters { table, base, count, width: 32, word_order, wrap: None, block_max: None }
}
