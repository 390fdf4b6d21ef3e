//! The plan held to its promises over every unit that a profile can describe.

use proptest::prelude::*;

use super::*;
use crate::profile::{Counters, WordOrder};

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
    assert!(super::plan(&profile(Some(detectors(64, None)), None), &[], 16).blocks.is_empty());
}

proptest! {
    #[test]
    fn covers_everything_and_never_asks_too_much(
        (profile, bays) in any_unit(),
        hole_max in 0u16..=HOLE_MAX,
    ) {
        let plan = plan(&profile, &bays, hole_max);
        let block_max = profile.bays.as_ref().and_then(|b| b.block_max).unwrap_or(u16::MAX);
        for block in &plan.blocks {
            let limit = block.table.read_max().min(block_max);
            let limit = if profile.counters.is_some() { limit.max(2) } else { limit };
            prop_assert!((1..=limit).contains(&block.count), "{block:?}");
            prop_assert!(u32::from(block.first) + u32::from(block.count) <= 65_536);
            for part in &block.parts {
                prop_assert!(part.offset + part.items <= block.count, "{block:?}");
            }
        }
        let covered = |table: Table, kind: Kind, address: u32, items: u32, number: u32| {
            plan.blocks.iter().filter(|block| block.table == table).any(|block| {
                block.parts.iter().filter(|part| part.kind == kind).any(|part| {
                    let start = u32::from(block.first) + u32::from(part.offset);
                    let end = start + u32::from(part.items);
                    let per_item = match kind {
                        Kind::Counters => return start <= address && address + items <= end
                            && u32::from(part.number) + (address - start) / 2 == number
                            && (address - start).is_multiple_of(2),
                        Kind::Detect | Kind::Fault | Kind::Contacts => profile.bays.as_ref()
                            .map_or(1, |b| u32::from(points_per_item(b))),
                    };
                    start <= address && address + items <= end
                        && u32::from(part.number) / per_item + (address - start)
                            == number / per_item
                })
            })
        };
        if let Some(b) = &profile.bays {
            let per = u32::from(points_per_item(b));
            for point in (0..bays.len()).filter(|p| bays[*p].is_some()) {
                let point = point as u32;
                let at = u32::from(b.base) + point / per;
                prop_assert!(covered(b.table, Kind::Detect, at, 1, point), "point {point}");
                if let Some(base) = b.fault_base {
                    let at = u32::from(base) + point / per;
                    prop_assert!(covered(b.table, Kind::Fault, at, 1, point), "fault {point}");
                }
            }
        }
        if let Some(c) = &profile.counters {
            for n in 0..u32::from(c.count) {
                let at = u32::from(c.base) + 2 * n;
                prop_assert!(covered(c.table, Kind::Counters, at, 2, n), "counter {n}");
            }
        }
        prop_assert!(hole_max > 0 || !plan.bridged);
    }
}

/// Any unit that `check` would accept.
pub fn any_unit() -> impl Strategy<Value = (Profile, Vec<Option<BayIx>>)> {
    let tables = prop_oneof![
        Just(Table::Discrete),
        Just(Table::Coil),
        Just(Table::Input),
        Just(Table::Holding)
    ];
    let layouts = prop_oneof![
        Just(Layout::Bits),
        (0u16..4, 0u16..4).prop_map(|(free, occupied)| Layout::Values { free, occupied }),
    ];
    let block_max = proptest::option::of(1u16..=2_000);
    let bays = (tables, layouts, 0u16..4_000, 1u16..=2_000, block_max);
    let bays = (bays, proptest::option::of(0u16..6_000)).prop_map(|(bays, fault_base)| {
        let (table, layout, base, points, block_max) = bays;
        let layout = if table.is_bits() { Layout::Bits } else { layout };
        let block_max = block_max.map(|most| most.min(table.read_max()));
        Bays { table, base, points, layout, fault_base, block_max }
    });
    let order = prop_oneof![Just(WordOrder::HighFirst), Just(WordOrder::LowFirst)];
    let table = prop_oneof![Just(Table::Input), Just(Table::Holding)];
    let counters =
        (table, 0u16..6_000, 1u16..=32, order).prop_map(|(table, base, count, word_order)| {
            Counters { table, base, count, width: 32, word_order, wrap: None, block_max: None }
        });
    (proptest::option::of(bays), proptest::option::of(counters), any::<u64>()).prop_map(
        |(bays, counters, seed)| {
            let points = bays.as_ref().map_or(0, |b| b.points);
            let mut random = crate::field::pace::Jitter::new(seed);
            let sparse = random.below(20);
            let wired = (0..points)
                .map(|n| (random.below(sparse + 1) == 0).then_some(BayIx(u32::from(n))))
                .collect();
            (profile(bays, counters), wired)
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
