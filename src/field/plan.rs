//! Which blocks to read from a unit, worked out once from its profile and what is wired to it.
//!
//! Every wired point, its fault flag, every contact and every counter is covered; no block is above
//! the spec's limit or that of a part in it; a number's two registers are always in one block,
//! because two reads may straddle a carry. Neighbouring ranges share a block where the hole between
//! them is small: a request costs a turnaround, a register 2 bytes. Some units refuse a read over a
//! hole, so a plan can also be made with none.
//!
//! Contacts come first, since a fire waits for nothing, then detectors, then counters. The blocks
//! of one table differ in length where cutting one shorter can make them: on a line without
//! transaction ids only its length tells a late answer to one block from that to another.

use crate::profile::{Bays, Contacts, Counters, Layout, Profile, Table};
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
    /// Items that belong together, such as the two registers of a 32-bit number.
    pub step: u16,
    /// The first point, contact or counter.
    pub number: u16,
    /// Points, contacts or counters in one step.
    pub per_step: u16,
}

/// What items mean, the most urgent first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Contacts,
    Detect,
    Fault,
    Counters,
}

/// A range of a table that has to be read, in steps that may not be split.
#[derive(Clone, Copy, Debug)]
struct Range {
    kind: Kind,
    table: Table,
    first: u32,
    items: u32,
    /// Items that belong together: 2 for a 32-bit number.
    step: u32,
    /// The first point, contact or counter.
    number: u32,
    /// Points, contacts or counters in one step.
    per_step: u32,
    /// The most items that one read of it may ask for.
    limit: u32,
}

/// Plans a unit's reads: `bays` are its points' bays, `hole_max` the widest hole in registers.
pub fn plan(profile: &Profile, bays: &[Option<BayIx>], hole_max: u16) -> Plan {
    let mut ranges = Vec::new();
    ranges.extend(profile.contacts.as_ref().map(contact_range));
    if let Some(detectors) = &profile.bays {
        ranges.extend(detector_ranges(detectors, bays));
    }
    ranges.extend(profile.counters.as_ref().map(counter_range));
    let mut plan = Plan::default();
    for table in [Table::Discrete, Table::Coil, Table::Input, Table::Holding] {
        let ours: Vec<&Range> = ranges.iter().filter(|range| range.table == table).collect();
        cut(table, &ours, hole_max, &mut plan);
    }
    plan.blocks.sort_by_key(urgency);
    plan
}

/// The most urgent thing in a block; a stable sort keeps tables and addresses in order.
fn urgency(block: &Block) -> Option<Kind> {
    block.parts.iter().map(|part| part.kind).min()
}

fn contact_range(contacts: &Contacts) -> Range {
    let per_step = if contacts.table.is_bits() { 1 } else { 16 };
    Range {
        kind: Kind::Contacts,
        table: contacts.table,
        first: contacts.base.into(),
        items: contacts.count.div_ceil(per_step).into(),
        step: 1,
        number: 0,
        per_step: per_step.into(),
        limit: limit(contacts.table, contacts.block_max, 1),
    }
}

fn counter_range(counters: &Counters) -> Range {
    let words = u32::from(counters.words());
    Range {
        kind: Kind::Counters,
        table: counters.table,
        first: counters.base.into(),
        items: u32::from(counters.count) * words,
        step: words,
        number: 0,
        per_step: 1,
        limit: limit(counters.table, counters.block_max, words),
    }
}

/// A step is never split, so no limit is below it.
fn limit(table: Table, block_max: Option<u16>, step: u32) -> u32 {
    u32::from(block_max.unwrap_or(u16::MAX).min(table.read_max())).max(step)
}

/// The detectors from the first to the last wired one, and their fault flags.
fn detector_ranges(detectors: &Bays, bays: &[Option<BayIx>]) -> Vec<Range> {
    let wired = |bay: &Option<BayIx>| bay.is_some();
    let (Some(first), Some(last)) = (bays.iter().position(wired), bays.iter().rposition(wired))
    else {
        return Vec::new();
    };
    let per_step = points_per_item(detectors) as usize;
    let (first, last) = ((first / per_step) as u32, (last / per_step) as u32);
    let bases = [(Kind::Detect, Some(detectors.base)), (Kind::Fault, detectors.fault_base)];
    let present = bases.into_iter().filter_map(|(kind, base)| Some((kind, base?)));
    let range = |(kind, base)| {
        // A fault flag takes one item even where a distance takes two.
        let step = if kind == Kind::Detect { u32::from(items_per_point(detectors)) } else { 1 };
        Range {
            kind,
            table: detectors.table,
            first: u32::from(base) + first * step,
            items: (last - first + 1) * step,
            step,
            number: first * per_step as u32,
            per_step: per_step as u32,
            limit: limit(detectors.table, detectors.block_max, step),
        }
    };
    present.map(range).collect()
}

/// How many points one item of the detectors' table holds: 16 where bits are packed in registers.
pub fn points_per_item(detectors: &Bays) -> u16 {
    match detectors.layout {
        Layout::Bits if !detectors.table.is_bits() => 16,
        Layout::Bits | Layout::Values { .. } | Layout::Flags { .. } | Layout::Distance(_) => 1,
    }
}

/// How many items one point takes: 2 for a 32-bit distance.
pub fn items_per_point(detectors: &Bays) -> u16 {
    match &detectors.layout {
        Layout::Distance(distance) => distance.number.words(),
        Layout::Bits | Layout::Values { .. } | Layout::Flags { .. } => 1,
    }
}

/// Cuts the ranges of one table into blocks.
fn cut(table: Table, ranges: &[&Range], hole_max: u16, plan: &mut Plan) {
    let hole_max = u32::from(hole_max) * if table.is_bits() { 16 } else { 1 };
    let mut steps: Vec<(u32, u32, u32)> = Vec::new();
    for range in ranges {
        let starts = (range.first..range.first + range.items).step_by(range.step as usize);
        steps.extend(starts.map(|start| (start, start + range.step, range.limit)));
    }
    steps.sort_unstable();
    let mut lengths = Vec::new();
    let mut rest = steps.as_slice();
    while let Some(&(first, end, mut limit)) = rest.first() {
        // Where the block may end: after each step that still fits.
        let mut ends = vec![end];
        let mut last = end;
        for &(start, end, its_limit) in &rest[1..] {
            limit = limit.min(its_limit);
            if end.max(last) - first > limit || start > last + hole_max {
                break;
            }
            last = last.max(end);
            ends.push(last);
        }
        let other = |end: &&u32| !lengths.contains(&answer_length(table, **end - first));
        let last = ends.iter().rev().find(other).copied().unwrap_or(last);
        lengths.push(answer_length(table, last - first));
        let (mine, after) = rest.split_at(ends.partition_point(|end| *end <= last));
        plan.bridged |= bridges(mine);
        plan.blocks.push(block(table, first, last, ranges));
        rest = after;
    }
}

/// Whether some item between the first and the last step belongs to none.
fn bridges(steps: &[(u32, u32, u32)]) -> bool {
    let mut last = steps.first().map_or(0, |step| step.0);
    steps.iter().any(|&(start, end, _)| {
        let hole = start > last;
        last = last.max(end);
        hole
    })
}

/// The bytes of data in an answer, by which it can be told from another.
pub fn answer_length(table: Table, items: u32) -> u32 {
    if table.is_bits() { items.div_ceil(8) } else { items * 2 }
}

/// Smaller blocks that hold the same, for a unit that refuses the whole: what lies between holes,
/// else two halves, of a length that no answer in `others` has where that can be. None where the
/// block is one step.
pub fn pieces(block: &Block, others: &[u32]) -> Vec<Block> {
    let mut covered: Vec<(u16, u16)> =
        block.parts.iter().map(|part| (part.offset, part.offset + part.items)).collect();
    covered.sort_unstable();
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for (start, end) in covered {
        match runs.last_mut() {
            Some(run) if start <= run.1 => run.1 = run.1.max(end),
            _ => runs.push((start, end)),
        }
    }
    if runs != [(0, block.count)] {
        return runs.into_iter().map(|(start, end)| clip(block, start, end)).collect();
    }
    halves(block, others).map_or_else(Vec::new, |(low, high)| vec![low, high])
}

/// Cuts near the middle; rather elsewhere than into lengths that are equal or in `others`.
fn halves(block: &Block, others: &[u32]) -> Option<(Block, Block)> {
    let mut steps: Vec<(u16, u16)> = Vec::new();
    for part in &block.parts {
        let starts = (part.offset..part.offset + part.items).step_by(part.step.into());
        steps.extend(starts.map(|start| (start, start + part.step)));
    }
    steps.sort_unstable();
    let end = steps.iter().map(|step| step.1).max()?;
    let begin = steps.first()?.0;
    let mut cuts: Vec<(u16, u16)> = Vec::new();
    let mut last = begin;
    for (start, end) in steps {
        if start >= last && start > begin {
            cuts.push((last, start));
        }
        last = last.max(end);
    }
    let worth = |(low_end, high_start): &(u16, u16)| {
        let lengths = [low_end - begin, end - high_start];
        let [low, high] = lengths.map(|items| answer_length(block.table, items.into()));
        let alike = u32::from(low == high)
            + u32::from(others.contains(&low))
            + u32::from(others.contains(&high));
        (alike, lengths[0].abs_diff(lengths[1]))
    };
    let (low_end, high_start) = cuts.iter().copied().min_by_key(worth)?;
    Some((clip(block, begin, low_end), clip(block, high_start, end)))
}

/// The part of a block from one offset to another, both borders of steps.
fn clip(block: &Block, from: u16, to: u16) -> Block {
    let part = |part: &Part| {
        let (start, end) = (part.offset.max(from), (part.offset + part.items).min(to));
        (start < end).then(|| Part {
            offset: start - from,
            items: end - start,
            number: part.number + (start - part.offset) / part.step * part.per_step,
            ..*part
        })
    };
    let parts = block.parts.iter().filter_map(part).collect();
    Block { table: block.table, first: block.first + from, count: to - from, parts }
}

/// A block and what lies in it.
fn block(table: Table, first: u32, last: u32, ranges: &[&Range]) -> Block {
    let narrow = |wide: u32| u16::try_from(wide).expect("`check` keeps profiles below 65,536");
    let part = |range: &&Range| {
        // Whole steps only: half a counter at the edge belongs to another block.
        let skipped = first.saturating_sub(range.first).div_ceil(range.step);
        let ended = last.min(range.first + range.items).saturating_sub(range.first) / range.step;
        // What may not be asked for in so long a read has a block of its own, and only lies here.
        (skipped < ended && last - first <= range.limit).then(|| Part {
            kind: range.kind,
            offset: narrow(range.first + skipped * range.step - first),
            items: narrow((ended - skipped) * range.step),
            step: narrow(range.step),
            number: narrow(range.number + skipped * range.per_step),
            per_step: narrow(range.per_step),
        })
    };
    let parts = ranges.iter().filter_map(part).collect();
    Block { table, first: narrow(first), count: narrow(last - first), parts }
}

#[cfg(test)]
pub mod tests;
