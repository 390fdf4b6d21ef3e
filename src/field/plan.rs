//! Which blocks to read from a unit, worked out once from its profile and what is wired to it.
//!
//! Every wired point, its fault flag and every counter is covered; no block is above the spec's
//! limit or the unit's own; a counter's two registers are always in one block, because two reads
//! may straddle a carry. Neighbouring ranges share a block where the hole between them is small:
//! a request costs a turnaround, a register 2 bytes. Some units refuse a read over a hole, so a
//! plan can also be made with none.

use crate::profile::{Bays, Layout, Profile, Table};
use crate::site::BayIx;

/// The widest hole read along with its neighbours, in registers: 32 bytes, less than a request
/// and its answer's header cost even on a fast line.
pub const HOLE_MAX: u16 = 16;

/// What is read from one unit in one sweep.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    pub blocks: Vec<Block>,
    /// Whether some block reads over a hole.
    pub bridged: bool,
}

/// One request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    pub table: Table,
    /// Address of the first item.
    pub first: u16,
    /// How many bits or registers.
    pub count: u16,
    /// What they mean; what no part names is a hole.
    pub parts: Vec<Part>,
}

/// A run of items of one meaning inside a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    pub kind: Kind,
    /// Items from the block's first to the part's first.
    pub offset: u16,
    /// How many items.
    pub items: u16,
    /// The first point or counter.
    pub number: u16,
}

/// What items mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Detect,
    Fault,
    Counters,
}

/// A range of a table that has to be read, in steps that may not be split.
struct Range {
    kind: Kind,
    table: Table,
    first: u32,
    items: u32,
    /// Items that belong together: 2 for a counter.
    step: u32,
    /// The first point or counter.
    number: u32,
    /// Points or counters in one step.
    per_step: u32,
}

/// Plans a unit's reads: `bays` are its points' bays, `hole_max` the widest hole in registers.
pub fn plan(profile: &Profile, bays: &[Option<BayIx>], hole_max: u16) -> Plan {
    let mut ranges = Vec::new();
    if let Some(detectors) = &profile.bays {
        ranges.extend(detector_ranges(detectors, bays));
    }
    if let Some(counters) = &profile.counters {
        ranges.push(Range {
            kind: Kind::Counters,
            table: counters.table,
            first: u32::from(counters.base),
            items: u32::from(counters.count) * 2,
            step: 2,
            number: 0,
            per_step: 1,
        });
    }
    let block_max = profile.bays.as_ref().and_then(|detectors| detectors.block_max);
    let mut plan = Plan::default();
    for table in [Table::Discrete, Table::Coil, Table::Input, Table::Holding] {
        let ours: Vec<&Range> = ranges.iter().filter(|range| range.table == table).collect();
        cut(table, &ours, block_max.unwrap_or(u16::MAX), hole_max, &mut plan);
    }
    plan
}

/// The detectors from the first to the last wired one, and their fault flags.
fn detector_ranges(detectors: &Bays, bays: &[Option<BayIx>]) -> Vec<Range> {
    let wired = |bay: &Option<BayIx>| bay.is_some();
    let (Some(first), Some(last)) = (bays.iter().position(wired), bays.iter().rposition(wired))
    else {
        return Vec::new();
    };
    let per_step = points_per_item(detectors) as usize;
    let (first, last) = (first / per_step, last / per_step);
    let bases = [(Kind::Detect, Some(detectors.base)), (Kind::Fault, detectors.fault_base)];
    let present = bases.into_iter().filter_map(|(kind, base)| Some((kind, base?)));
    let range = |(kind, base)| Range {
        kind,
        table: detectors.table,
        first: u32::from(base) + first as u32,
        items: (last - first + 1) as u32,
        step: 1,
        number: (first * per_step) as u32,
        per_step: per_step as u32,
    };
    present.map(range).collect()
}

/// How many points one item of the detectors' table holds: 16 where bits are packed in registers.
pub fn points_per_item(detectors: &Bays) -> u16 {
    match detectors.layout {
        Layout::Bits if !detectors.table.is_bits() => 16,
        Layout::Bits | Layout::Values { .. } => 1,
    }
}

/// Cuts the ranges of one table into blocks.
fn cut(table: Table, ranges: &[&Range], block_max: u16, hole_max: u16, plan: &mut Plan) {
    // A counter is never split, so no limit is below 2 where there are counters.
    let widest = ranges.iter().map(|range| range.step).max().unwrap_or(1);
    let limit = u32::from(block_max.min(table.read_max())).max(widest);
    let hole_max = u32::from(hole_max) * if table.is_bits() { 16 } else { 1 };
    let mut steps: Vec<(u32, u32)> = Vec::new();
    for range in ranges {
        let starts = (range.first..range.first + range.items).step_by(range.step as usize);
        steps.extend(starts.map(|start| (start, start + range.step)));
    }
    steps.sort_unstable();
    let mut open: Option<(u32, u32)> = None;
    for (start, end) in steps {
        open = Some(match open {
            Some((first, last)) if end.max(last) - first <= limit && start <= last + hole_max => {
                plan.bridged |= start > last;
                (first, last.max(end))
            }
            Some((first, last)) => {
                plan.blocks.push(block(table, first, last, ranges));
                (start, end)
            }
            None => (start, end),
        });
    }
    if let Some((first, last)) = open {
        plan.blocks.push(block(table, first, last, ranges));
    }
}

/// A block and what lies in it.
fn block(table: Table, first: u32, last: u32, ranges: &[&Range]) -> Block {
    let narrow = |wide: u32| u16::try_from(wide).expect("`check` keeps profiles below 65,536");
    let part = |range: &&Range| {
        // Whole steps only: half a counter at the edge belongs to another block.
        let skipped = first.saturating_sub(range.first).div_ceil(range.step);
        let ended = last.min(range.first + range.items).saturating_sub(range.first) / range.step;
        (skipped < ended).then(|| Part {
            kind: range.kind,
            offset: narrow(range.first + skipped * range.step - first),
            items: narrow((ended - skipped) * range.step),
            number: narrow(range.number + skipped * range.per_step),
        })
    };
    let parts = ranges.iter().filter_map(part).collect();
    Block { table, first: narrow(first), count: narrow(last - first), parts }
}

#[cfg(test)]
pub mod tests {
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
                            Kind::Detect | Kind::Fault => profile.bays.as_ref()
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
                Counters { table, base, count, word_order }
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
            sign: None,
            callout: None,
            lamps: None,
            outputs: None,
        }
    }

    /// Packed bits in holding registers from address 0.
    pub fn detectors(points: u16, fault_base: Option<u16>) -> Bays {
        let (table, layout) = (Table::Holding, Layout::Bits);
        Bays { table, base: 0, points, layout, fault_base, block_max: None }
    }

    pub fn counters(base: u16, count: u16) -> Counters {
        Counters { table: Table::Holding, base, count, word_order: WordOrder::HighFirst }
    }
}
