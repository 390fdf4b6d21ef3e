//! The published picture: what pages, metrics and retained state are made from.
//!
//! Built by the owner at most four times a second and shared as one `Arc`; it holds names, so that
//! whoever reads it needs neither the gateway nor its locks (there are none).

use std::collections::BTreeMap;

use serde::Serialize;

use super::door::{OutputMode, SignMode};
use super::precedence::Source;
use crate::record::{Fullness, Tally};
use crate::site::{Face, GarageState, OutputKind};
use crate::time::{Mono, Now};

/// Everything an observer may want to know, at one instant.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub at: Now,
    /// Grows with every snapshot of this run.
    pub version: u64,
    pub garages: Vec<GarageView>,
    /// Under way now, in order of their ids.
    pub incidents: Vec<IncidentView>,
    pub units: Vec<UnitView>,
    pub signs: Vec<SignView>,
    pub outputs: Vec<OutputView>,
    pub counts: Counts,
    pub leases_open: u32,
}

#[derive(Clone, PartialEq, Debug, Serialize, utoipa::ToSchema)]
pub struct GarageView {
    pub id: String,
    pub name: String,
    pub fullness: Fullness,
    /// Staff closed the whole garage. `closed` in JSON is the tally's: how many bays are.
    #[serde(rename = "garage_closed")]
    pub closed: bool,
    /// An incident closes it or a part of it.
    pub incident: bool,
    pub bays: u32,
    #[serde(flatten)]
    pub tally: Tally,
    /// Free bays the ledger believes in where no unit answers; 0 while all do.
    pub ledger_free: u32,
    pub cars: Cars,
    /// Counted less sensed; absent where the door is not counted, and while not all bays are known.
    pub count_error: Option<i64>,
    /// Bays that are given after all others, because their sensors are in doubt.
    pub doubtful: u32,
    pub by_class: BTreeMap<String, Tally>,
}

/// How many cars stand in a garage, by whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct Cars {
    /// In bays whose sensors say so, closed ones too.
    pub sensed: u32,
    /// By the door's loops; absent without, and until all bays were known once.
    pub counted: Option<u32>,
    /// In bays to which they were led.
    pub booked: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
pub struct UnitView {
    pub id: String,
    /// Absent until the first reading.
    pub age_ms: Option<u64>,
    pub fresh: bool,
    pub bays: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
pub struct SignView {
    pub id: String,
    pub name: String,
    pub mode: SignMode,
    pub face: Face,
    /// "count", "call-out" or "direction".
    pub kind: &'static str,
    /// Who decides what it shows.
    pub source: Source,
    /// The text that staff put there, shown unless the sign is closed by an incident.
    pub message: Option<String>,
    /// When the mode and the message end by themselves: instants of this run, for who reckons
    /// what is left.
    #[serde(skip)]
    pub mode_until: Option<Mono>,
    #[serde(skip)]
    pub message_until: Option<Mono>,
}

/// Something is burning, or staff say so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
pub struct IncidentView {
    /// A contact's id, or the place that staff closed.
    pub id: String,
    pub closes: Vec<String>,
    pub reason: String,
    /// Who said so: "contact" for a contact.
    pub by: String,
    /// Seconds since it began, in this run.
    pub for_s: u64,
}

/// An output and who decides about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
pub struct OutputView {
    pub id: String,
    pub name: String,
    pub kind: OutputKind,
    pub garage: String,
    /// What its garage is.
    pub garage_state: GarageState,
    /// Who decides.
    pub state: OutputMode,
    /// Who set `state`; absent while automatic.
    pub by: Option<String>,
    /// Seconds until it is automatic again by itself; absent where it stays.
    pub expires_in_s: Option<u64>,
    /// What was ordered last; absent while nothing was, and it is as it was found.
    pub on: Option<bool>,
}

/// Counters since this start, for metrics. Each only grows.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Answers to arrivals, by promise name: bay, zone, garage, signs.
    pub granted: BTreeMap<&'static str, u64>,
    /// Leases ended, by how.
    pub ended: BTreeMap<&'static str, u64>,
    /// The same where nobody identified the vehicle.
    pub inferred: u64,
    /// Requests that came again.
    pub repeats: u64,
    /// Leases given another bay.
    pub moved: u64,
    /// Vehicles seen again on their way.
    pub sightings: u64,
    pub readings: u64,
    pub bay_changes: u64,
    pub refused: u64,
    pub counter_resets: u64,
    /// Sensors found to flap, to be stuck free and stuck occupied.
    pub sensor_faults: [u64; 3],
    /// Cars by which door counts went below nothing, and above what there is.
    pub count_under: u64,
    pub count_over: u64,
}
