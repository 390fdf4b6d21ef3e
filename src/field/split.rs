//! The blocks of one unit as it answers them: whole, in pieces, or not at all.
//!
//! A block that the unit refuses is asked for in smaller pieces, down to what belongs together;
//! what is refused even alone is left out, and its points stay unknown. The pieces are remembered.
//! The whole is tried again after the unit was away, and else ever more rarely, once an hour in
//! the end: a unit that refused while it started up is not half blind for long.
//!
//! Only a few blocks are cut in one sweep and the first piece comes first, so a unit that refuses
//! everything costs its line a handful of requests a sweep, not one for every register.

use crate::field::pace::{Delay, Jitter};
use crate::field::plan::{Block, Plan, answer_length, pieces};
use crate::time::Mono;

/// The first wait before a refused block is tried whole again, in milliseconds: as long as a small
/// controller starts up.
const WHOLE_FIRST_MS: u64 = 30_000;
/// The longest, in milliseconds: one request an hour is no load.
const WHOLE_MAX_MS: u64 = 3_600_000;
/// Blocks cut in one sweep of a unit: about what its line can spare in one period.
const CUTS_A_SWEEP_MAX: u32 = 4;

/// What is read from one unit, and how far a sweep of it has come.
#[derive(Clone, Debug)]
pub struct Reads {
    entries: Vec<Entry>,
    entry: usize,
    /// Which piece of the entry; `None` before it was decided whether to ask for the whole.
    piece: Option<usize>,
    cuts: u32,
}

/// One block of the plan.
#[derive(Clone, Debug)]
struct Entry {
    whole: Block,
    /// What is asked for instead of the whole; empty where that is answered.
    pieces: Vec<Piece>,
    /// When the whole is tried again.
    again: Mono,
    wait: Delay,
}

#[derive(Clone, Debug)]
struct Piece {
    block: Block,
    /// Refused, and not to be cut any further.
    left_out: bool,
}

/// What a refusal led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The block is now asked for in so many pieces.
    Cut(usize),
    /// It is left out, so many items.
    LeftOut(u16),
    /// Nothing new: the whole was tried again, or enough was cut in this sweep.
    Known,
}

impl Reads {
    pub fn new(plan: Plan) -> Reads {
        let entry = |whole| Entry {
            whole,
            pieces: Vec::new(),
            again: Mono(0),
            wait: Delay::new(WHOLE_FIRST_MS, WHOLE_MAX_MS),
        };
        let entries = plan.blocks.into_iter().map(entry).collect();
        Reads { entries, entry: 0, piece: None, cuts: 0 }
    }

    /// Whether there is nothing to read at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A new sweep.
    pub fn begin(&mut self) {
        (self.entry, self.piece, self.cuts) = (0, None, 0);
    }

    /// The block to ask for now; `None` at the end of the sweep.
    pub fn current(&mut self, now: Mono) -> Option<&Block> {
        loop {
            let entry = self.entries.get(self.entry)?;
            let Some(at) = self.piece else {
                if entry.pieces.is_empty() || entry.again <= now {
                    break;
                }
                self.piece = Some(0);
                continue;
            };
            match entry.pieces.get(at) {
                Some(piece) if piece.left_out => self.piece = Some(at + 1),
                Some(_) => break,
                None => self.next_entry(),
            }
        }
        self.asked()
    }

    /// The block that was given last.
    pub fn asked(&self) -> Option<&Block> {
        let entry = self.entries.get(self.entry)?;
        match self.piece {
            None => Some(&entry.whole),
            Some(at) => entry.pieces.get(at).map(|piece| &piece.block),
        }
    }

    /// It was answered with data. True where that ends a split.
    pub fn answered(&mut self) -> bool {
        let Some(entry) = self.entries.get_mut(self.entry) else {
            return false;
        };
        if self.piece.is_some() {
            self.step_over();
            return false;
        }
        let healed = !entry.pieces.is_empty();
        entry.pieces.clear();
        entry.wait.reset();
        self.next_entry();
        healed
    }

    /// Neither data nor a reason to ask differently: on to the next.
    pub fn step_over(&mut self) {
        match self.piece {
            Some(at) => self.piece = Some(at + 1),
            // A whole that only failed for now keeps its pieces for this sweep.
            None if self.entries.get(self.entry).is_some_and(|e| !e.pieces.is_empty()) => {
                self.piece = Some(0);
            }
            None => self.next_entry(),
        }
    }

    /// It was refused; `cut` says whether less of it may be answered.
    pub fn refused(&mut self, now: Mono, cut: bool, jitter: &mut Jitter) -> Refused {
        let cuts_left = self.cuts < CUTS_A_SWEEP_MAX;
        let lengths = self.other_lengths();
        let Some(entry) = self.entries.get_mut(self.entry) else {
            return Refused::Known;
        };
        let range = match self.piece {
            None => {
                entry.again = now + entry.wait.grow(jitter);
                self.piece = Some(0);
                if !entry.pieces.is_empty() {
                    return Refused::Known;
                }
                entry.pieces.push(Piece { block: entry.whole.clone(), left_out: false });
                0..1
            }
            Some(at) => at..at + 1,
        };
        let at = range.start;
        let Some(piece) = entry.pieces.get(at) else {
            return Refused::Known;
        };
        let parts = if cut { pieces(&piece.block, &lengths) } else { Vec::new() };
        if parts.is_empty() {
            let items = piece.block.count;
            entry.pieces[at].left_out = true;
            self.step_over();
            return Refused::LeftOut(items);
        }
        if !cuts_left {
            self.step_over();
            return Refused::Known;
        }
        self.cuts += 1;
        let count = parts.len();
        let parts = parts.into_iter().map(|block| Piece { block, left_out: false });
        entry.pieces.splice(range, parts);
        Refused::Cut(count)
    }

    /// Tries every block whole again in the next sweep: the unit was away, or someone asks for it.
    pub fn try_whole(&mut self) {
        for entry in &mut self.entries {
            entry.again = Mono(0);
            entry.wait.reset();
        }
    }

    /// Registers or bits that are left out.
    pub fn left_out(&self) -> u32 {
        let pieces = self.entries.iter().flat_map(|entry| &entry.pieces);
        pieces.filter(|piece| piece.left_out).map(|piece| u32::from(piece.block.count)).sum()
    }

    /// Blocks that are not asked for whole.
    pub fn blocks_cut(&self) -> u32 {
        let cut = self.entries.iter().filter(|entry| !entry.pieces.is_empty()).count();
        u32::try_from(cut).unwrap_or(u32::MAX)
    }

    /// The lengths of the answers to everything else that is asked for in the same table.
    fn other_lengths(&self) -> Vec<u32> {
        let Some(table) = self.asked().map(|block| block.table) else {
            return Vec::new();
        };
        let mut lengths = Vec::new();
        for (n, entry) in self.entries.iter().enumerate() {
            let ours = |at: usize| n == self.entry && self.piece.is_none_or(|piece| piece == at);
            let whole = entry.pieces.is_empty().then_some(&entry.whole).filter(|_| !ours(0));
            let pieces = entry.pieces.iter().enumerate().filter(|(at, _)| !ours(*at));
            let blocks = whole.into_iter().chain(pieces.map(|(_, piece)| &piece.block));
            let same = blocks.filter(|block| block.table == table);
            lengths.extend(same.map(|block| answer_length(table, block.count.into())));
        }
        lengths
    }

    fn next_entry(&mut self) {
        self.entry += 1;
        self.piece = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::field::plan::tests::{any_unit, counters, detectors, profile};
    use crate::field::plan::{HOLE_MAX, Kind, Part, plan};
    use crate::profile::Table;
    use crate::site::BayIx;

    #[test]
    fn a_hole_is_cut_out_first_and_a_counter_is_never_cut() {
        let profile = profile(Some(detectors(32, None)), Some(counters(10, 2)));
        let plan = plan(&profile, &[Some(BayIx(0)); 32], HOLE_MAX);
        let [block] = &plan.blocks[..] else { panic!("{plan:?}") };
        let ranges = |blocks: &[Block]| -> Vec<(u16, u16)> {
            blocks.iter().map(|block| (block.first, block.count)).collect()
        };
        let runs = pieces(block, &[]);
        assert_eq!(ranges(&runs), [(0, 2), (10, 4)]);
        assert_eq!(ranges(&pieces(&runs[0], &[])), [(0, 1), (1, 1)]);
        let pairs = pieces(&runs[1], &[]);
        assert_eq!(ranges(&pairs), [(10, 2), (12, 2)]);
        assert_eq!((pairs[1].parts[0].number, pieces(&pairs[1], &[])), (1, vec![]));
    }

    #[test]
    fn the_whole_is_tried_again_ever_more_rarely_and_at_once_when_asked() {
        let (mut reads, mut jitter) = (one_block(4), Jitter::new(5));
        let mut tries = Vec::new();
        for second in 0..4 * 3_600 {
            let now = Mono(0).plus_ms(second * 1_000);
            reads.begin();
            while let Some(block) = reads.current(now) {
                if block.count == 4 {
                    tries.push(second);
                    reads.refused(now, true, &mut jitter);
                } else {
                    reads.answered();
                }
            }
        }
        assert!((8..=12).contains(&tries.len()), "{tries:?}");
        assert!(tries[1] <= 31 && tries[tries.len() - 1] - tries[tries.len() - 2] > 2_600);
        reads.try_whole();
        reads.begin();
        assert_eq!(reads.current(Mono(0).plus_ms(20_000_000)).unwrap().count, 4);
        assert!(reads.answered());
        assert_eq!(reads.blocks_cut(), 0);
    }

    #[test]
    fn a_unit_that_refuses_everything_costs_a_handful_of_requests_a_sweep() {
        let (mut reads, mut jitter) = (one_block(125), Jitter::new(5));
        let (mut sweeps, mut most) = (0, 0);
        while reads.left_out() < 125 && sweeps < 1_000 {
            sweeps += 1;
            reads.begin();
            let mut requests = 0;
            while reads.current(Mono(0)).is_some() {
                requests += 1;
                reads.refused(Mono(0), true, &mut jitter);
            }
            most = most.max(requests);
        }
        assert!(sweeps < 60 && most <= 16, "{sweeps} sweeps, {most} requests in one");
    }

    proptest! {
        /// Whatever addresses a unit lacks and however few it answers at once, in the end exactly
        /// what holds a missing address or is too long for it is left out, and all else is read
        /// with the numbers that the plan gave it.
        #[test]
        fn what_exists_is_read_and_what_does_not_is_left_out(
            (profile, bays) in any_unit(),
            seed: u64,
            most in prop_oneof![2u16..6, 2u16..200],
        ) {
            let mut random = Jitter::new(seed);
            let plan = plan(&profile, &bays, HOLE_MAX);
            let mut missing: BTreeSet<(Table, u16)> = BTreeSet::new();
            for block in &plan.blocks {
                for _ in 0..random.below(4) {
                    let offset = random.below(u64::from(block.count)) as u16;
                    missing.insert((block.table, block.first + offset));
                }
            }
            let lacks = |table: Table, first: u16, count: u16| {
                (first..first + count).any(|at| missing.contains(&(table, at)))
            };
            let mut reads = Reads::new(plan.clone());
            let mut read = BTreeSet::new();
            let now = Mono(0).plus_ms(1);
            // Each sweep cuts something until nothing is refused any more.
            for sweep in 0.. {
                prop_assert!(sweep < 4_000, "never settles");
                let (mut refusals, mut came) = (0, BTreeSet::new());
                reads.begin();
                while let Some(block) = reads.current(now).cloned() {
                    if block.count > most || lacks(block.table, block.first, block.count) {
                        refusals += 1;
                        reads.refused(now, true, &mut random);
                    } else {
                        came.extend(steps(&block));
                        reads.answered();
                    }
                }
                if refusals == 0 {
                    read = came;
                    break;
                }
            }
            let mut exist = BTreeSet::new();
            for (table, first, count, held) in plan.blocks.iter().flat_map(inseparable) {
                if count <= most && !lacks(table, first, count) {
                    exist.extend(held);
                }
            }
            prop_assert_eq!(read, exist);
        }
    }

    /// What no cut of the block may part, with its table, first address and items: no cut goes
    /// through a step, so steps that overlap, over however many others, stay together.
    fn inseparable(block: &Block) -> Vec<(Table, u16, u16, Vec<Step>)> {
        let mut held = steps(block);
        held.sort_unstable_by_key(|step| step.2);
        let mut groups: Vec<(Table, u16, u16, Vec<Step>)> = Vec::new();
        for step in held {
            let (table, first, end) = (step.1, step.2, step.2 + step.3);
            match groups.last_mut() {
                Some((_, start, count, held)) if first < *start + *count => {
                    *count = (*count).max(end - *start);
                    held.push(step);
                }
                _ => groups.push((table, first, step.3, vec![step])),
            }
        }
        groups
    }

    /// Kind (as a number), table, address, items, and the first point or counter.
    type Step = (u8, Table, u16, u16, u16);

    fn steps(block: &Block) -> Vec<Step> {
        let of = |part: &Part| {
            let (table, part) = (block.table, *part);
            let first = block.first + part.offset;
            let kind = match part.kind {
                Kind::Detect => 0,
                Kind::Fault => 1,
                Kind::Counters => 2,
                Kind::Contacts => 3,
            };
            (0..part.items / part.step).map(move |n| {
                let at = first + n * part.step;
                (kind, table, at, part.step, part.number + n * part.per_step)
            })
        };
        block.parts.iter().flat_map(of).collect()
    }

    fn one_block(registers: u16) -> Reads {
        let points = registers * 16;
        let bays = vec![Some(BayIx(0)); usize::from(points)];
        Reads::new(plan(&profile(Some(detectors(points, None)), None), &bays, HOLE_MAX))
    }
}
