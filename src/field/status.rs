//! What is known about a line and its units: for metrics, the page and readiness.
//!
//! All counters begin at 0 with the process and only grow. A line publishes its status a few times
//! a second at most; a reader gets a copy.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::field::places::Owner;
use crate::site::{LineIx, OutputIx, SignIx, UnitIx};
use crate::time::Mono;

/// Whether a line can carry requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LineState {
    /// Not yet, or not for a moment.
    Connecting,
    Up,
    /// The last attempt to connect failed.
    Down,
}

/// Whether a unit answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnitState {
    /// Nothing is known: its line is down, or it was not asked since that came up.
    Unreached,
    /// It answered last time.
    Ok,
    /// It answered last time, and refuses part of what it is asked for.
    Refuses,
    /// It failed once or twice in a row.
    Suspect,
    /// It failed three times in a row or more, and is only probed.
    Open,
}

/// A line and its units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineStatus {
    pub line: LineIx,
    pub state: LineState,
    /// A poll, or a connection at least, was attempted.
    pub attempted: bool,
    /// Sweeps begun.
    pub sweeps_total: u64,
    /// Slots of the grid in which no sweep began.
    pub missed_slots_total: u64,
    /// Connections made after the first.
    pub reconnects_total: u64,
    /// Attempts to connect that failed.
    pub connect_failures_total: u64,
    /// Readings thrown away because the gateway was behind.
    pub readings_dropped_total: u64,
    pub units: Vec<UnitStatus>,
    pub signs: Vec<SignStatus>,
    pub outputs: Vec<OutputStatus>,
    pub lamps: LampsStatus,
}

/// One sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignStatus {
    pub sign: SignIx,
    /// It is known to show what it should.
    pub confirmed: bool,
    /// When what it should show last arrived, on the site's clock; `None` before the first time.
    pub written_at: Option<Mono>,
    /// Times that something else was read back than was written.
    pub mismatch_total: u64,
}

/// One output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutputStatus {
    pub output: OutputIx,
    /// It is known to be as it should.
    pub confirmed: bool,
    /// When what it should be last arrived, on the site's clock; `None` before the first time.
    pub written_at: Option<Mono>,
    /// Times that something else was read back than was written.
    pub mismatch_total: u64,
}

/// The lamps of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LampsStatus {
    /// Lamps that should have a colour.
    pub desired: u32,
    /// Of these, the ones known to have it.
    pub confirmed: u32,
    /// Times that something else was read back than was written.
    pub mismatch_total: u64,
}

/// One unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitStatus {
    pub unit: UnitIx,
    pub state: UnitState,
    /// Read requests sent.
    pub polls_total: u64,
    /// Requests not answered in time.
    pub timeouts_total: u64,
    /// Answers that did not fit their request, and connections lost while waiting for one.
    pub bad_answers_total: u64,
    /// Refusals by exception code; at most 256 codes exist.
    pub exceptions_total: BTreeMap<u8, u64>,
    /// Blocks read in pieces, because the unit refuses the whole.
    pub blocks_cut: u32,
    /// Registers and bits that it refuses even alone; what they say is unknown.
    pub left_out: u32,
    /// Write requests sent.
    pub writes_total: u64,
    /// Write requests refused or not answered.
    pub write_failures_total: u64,
    /// Of the last answered request, in microseconds; 0 before the first.
    pub round_trip_us: u64,
    /// When the last answer that was no refusal came, on the site's clock.
    pub answered_at: Option<Mono>,
    /// Signs that should show something.
    pub signs_desired: u32,
    /// Of these, the ones whose write arrived.
    pub signs_confirmed: u32,
}

impl LineStatus {
    /// A line before anything happened.
    pub fn new(line: LineIx, units: &[UnitIx]) -> LineStatus {
        let unit = |unit: &UnitIx| UnitStatus {
            unit: *unit,
            state: UnitState::Unreached,
            polls_total: 0,
            timeouts_total: 0,
            bad_answers_total: 0,
            exceptions_total: BTreeMap::new(),
            blocks_cut: 0,
            left_out: 0,
            writes_total: 0,
            write_failures_total: 0,
            round_trip_us: 0,
            answered_at: None,
            signs_desired: 0,
            signs_confirmed: 0,
        };
        LineStatus {
            line,
            state: LineState::Connecting,
            attempted: false,
            sweeps_total: 0,
            missed_slots_total: 0,
            reconnects_total: 0,
            connect_failures_total: 0,
            readings_dropped_total: 0,
            units: units.iter().map(unit).collect(),
            signs: Vec::new(),
            outputs: Vec::new(),
            lamps: LampsStatus::default(),
        }
    }

    /// Becomes what `other` is, in the room that is there: this happens after each exchange.
    pub fn take(&mut self, other: &LineStatus) {
        let LineStatus { units, signs, outputs, .. } = self;
        let (mut units, mut signs) = (std::mem::take(units), std::mem::take(signs));
        let mut outputs = std::mem::take(outputs);
        units.clone_from(&other.units);
        signs.clone_from(&other.signs);
        outputs.clone_from(&other.outputs);
        *self = LineStatus { units, signs, outputs, ..*other };
    }

    /// A status for everything that is written on the line, in the order of places; counters of an
    /// owner before this one go on.
    pub fn own(&mut self, owners: impl Iterator<Item = Owner>) {
        let (mut signs, mut outputs) = (Vec::new(), Vec::new());
        for owner in owners {
            match owner {
                Owner::Sign(sign) => {
                    let before = self.signs.iter().find(|other| other.sign == sign);
                    let mismatch_total = before.map_or(0, |sign| sign.mismatch_total);
                    let (confirmed, written_at) = (false, None);
                    signs.push(SignStatus { sign, confirmed, written_at, mismatch_total });
                }
                Owner::Output(output) => {
                    let before = self.outputs.iter().find(|other| other.output == output);
                    let mismatch_total = before.map_or(0, |output| output.mismatch_total);
                    let (confirmed, written_at) = (false, None);
                    outputs.push(OutputStatus { output, confirmed, written_at, mismatch_total });
                }
                Owner::Lamp(_) => (),
            }
        }
        (self.signs, self.outputs) = (signs, outputs);
    }
}
