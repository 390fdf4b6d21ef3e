//! One unit of a line: what is read from it, how it does, and when it may be asked.

use std::time::Duration;

use crate::field::breaker::{Breaker, Budget, State};
use crate::field::decode::Sweep;
use crate::field::plan::{HOLE_MAX, plan};
use crate::field::split::Reads;
use crate::field::status::{UnitState, UnitStatus};
use crate::gateway::Reading;
use crate::site::{LineIx, Site, UnitIx};
use crate::time::Mono;

/// Sweeps in a row that may end in silence before their parts are told, as many as open a breaker.
const CUT_SHORT_MAX: u32 = 3;

#[derive(Debug)]
pub(super) struct Unit {
    pub id: String,
    pub ix: UnitIx,
    pub address: u8,
    pub timeout: Duration,
    /// Silence after its exchanges.
    pub gap: Duration,
    pub reads: Reads,
    pub sweep: Sweep,
    pub breaker: Breaker,
    /// On a line without transactions: asked nothing until then, as an answer may still come.
    pub alone_until: Mono,
    /// When it was last asked.
    pub tried: Mono,
    /// It was to be read in the last sweep, which ended before its turn.
    pub left_behind: bool,
    /// It has answered, ever.
    pub proven: bool,
    /// Something came of a request to it, since its line came up.
    pub reached: bool,
    /// It gave no data for a block of this sweep, and of the last one.
    pub refuses: bool,
    pub refused: bool,
    /// Sweeps in a row in which it was busy, and whether it was in this one.
    pub busy_sweeps: u32,
    pub busy: bool,
    /// Sweeps in a row that ended in silence after the unit had given a part.
    pub cut_short: u32,
    /// Since a write of it went unanswered no sweep of it has come to its end.
    pub owes_a_sweep: bool,
    /// It refused its last write; busy answers to writes in a row.
    pub write_refused: bool,
    pub busy_writes: u32,
}

impl Unit {
    pub fn new(site: &Site, line: LineIx, ix: UnitIx) -> Unit {
        let (unit, profile) = (&site.units[ix.at()], site.profile(ix));
        let table = &site.lines[line.at()];
        Unit {
            id: unit.id.clone(),
            ix,
            address: unit.address,
            timeout: Duration::from_millis(unit.timeout_ms.into()),
            gap: Duration::from_millis(unit.gap_ms.into()),
            reads: Reads::new(plan(profile, &unit.bays, HOLE_MAX)),
            sweep: Sweep::new(profile, &unit.bays),
            breaker: Breaker::new(table.units.len() > 1),
            alone_until: Mono(0),
            tried: Mono(0),
            left_behind: false,
            proven: false,
            reached: false,
            refuses: false,
            refused: false,
            busy_sweeps: 0,
            busy: false,
            cut_short: 0,
            owes_a_sweep: false,
            write_refused: false,
            busy_writes: 0,
        }
    }

    /// Whether there is anything to read from it.
    pub fn is_polled(&self) -> bool {
        !self.reads.is_empty()
    }

    /// Whether it has to be read before it is written to again, all its blocks: a unit that
    /// ignores writes must not have its reads, a fire contact among them, wait for theirs.
    pub fn is_to_be_read_first(&self) -> bool {
        self.is_polled() && (self.owes_a_sweep || !self.breaker.is_healthy())
    }

    /// Whether a request to it may go out now.
    pub fn may_be_asked(&self, now: Mono, budget: &Budget) -> bool {
        self.alone_until <= now && self.breaker.due(budget) <= now
    }

    /// A sweep ended in silence. Once or twice the last picture stands; where it goes on, what came
    /// before the silence is told, and the rest of the unit is unknown: a fire contact that can be
    /// read must not wait for a block that cannot.
    pub fn cut_short(&mut self, at: Mono) -> Option<Reading> {
        self.cut_short += 1;
        self.owes_a_sweep = false;
        if self.cut_short < CUT_SHORT_MAX { None } else { self.sweep.finish(self.ix, at) }
    }

    /// The next sweep asks it, first among those that do not answer, and for whole blocks.
    pub fn retry(&mut self) {
        self.breaker.retry();
        self.reads.try_whole();
        self.tried = Mono(0);
    }

    /// Its line is down: what it did before says nothing any more.
    pub fn lost_line(&mut self) {
        self.reached = false;
        self.reads.try_whole();
    }

    pub fn write_was_taken(&mut self) {
        self.write_refused = false;
        self.busy_writes = 0;
    }

    /// Brings its status up to date.
    pub fn tell(&self, status: &mut UnitStatus) {
        status.blocks_cut = self.reads.blocks_cut();
        status.left_out = self.reads.left_out();
        status.state = match self.breaker.state() {
            _ if !self.reached => UnitState::Unreached,
            State::Closed { failures: 0 } if self.refused || status.left_out > 0 => {
                UnitState::Refuses
            }
            State::Closed { failures: 0 } => UnitState::Ok,
            State::Closed { .. } => UnitState::Suspect,
            State::Open { .. } => UnitState::Open,
        };
    }
}
