//! What the city platform and a later reader of history are told: one closed set of records.
//!
//! A record is `(gateway, epoch, lane, seq)` plus a time and a body. The gateway makes bodies, the
//! store gives each its `seq`, the uplink sends them in order; the JSON of a body is the contract
//! in `config/schema/*.schema.json`, and a test holds the two together. Names (bay, unit, garage)
//! are ids from the configuration, never indices, so that history outlives a changed file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Now;

/// The three queues upstream. Each has its own topic, order and share of the disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Someone must look: units lost, the store degraded, records dropped.
    Alarms,
    /// What happened: bays, leases, closures.
    Events,
    /// Totals of a minute and a garage.
    Aggregates,
}

impl Lane {
    pub const ALL: [Lane; 3] = [Lane::Alarms, Lane::Events, Lane::Aggregates];

    /// The lane's name in topics, metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Alarms => "alarms",
            Lane::Events => "events",
            Lane::Aggregates => "aggregates",
        }
    }
}

/// A record before the store has numbered it.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    pub lane: Lane,
    pub at: Now,
    pub body: Body,
}

/// What a bay's sensor says, once debounced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensed {
    Free,
    Occupied,
    /// No fresh good sample says either. Never offered, never counted as free or as zero.
    #[default]
    Unknown,
}

/// What is wrong with a bay's sensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SensorFault {
    /// It changes more often than cars do: its bay is unknown until it is calm.
    Flapping,
    /// It reads free while its zone fills around it.
    StuckFree,
    /// It reads occupied for longer than anybody of its bay's class stands.
    StuckOccupied,
}

impl SensorFault {
    pub const ALL: [SensorFault; 3] =
        [SensorFault::Flapping, SensorFault::StuckFree, SensorFault::StuckOccupied];

    /// The fault's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            SensorFault::Flapping => "flapping",
            SensorFault::StuckFree => "stuck_free",
            SensorFault::StuckOccupied => "stuck_occupied",
        }
    }
}

/// How firm a promise to a driver is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(utoipa::ToSchema)]
pub enum Promise {
    /// No promise: follow the signs.
    Signs,
    /// A garage that should have room by its ledger.
    Garage,
    /// A zone that should have room by its ledger.
    Zone,
    /// A bay that is sensed free and kept for this driver.
    Bay,
}

/// How a lease ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(utoipa::ToSchema)]
pub enum End {
    /// The driver parked where promised.
    Fulfilled,
    /// The driver seems to have parked in another bay of the zone.
    TookOther,
    /// The promised bay was taken by someone else and nothing could replace it.
    Displaced,
    /// Nobody came in time, or the vehicle was seen to leave.
    Expired,
    /// Given back by whoever asked.
    Cancelled,
}

/// What happened. The tag is `type`, in snake case.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    // Events.
    /// A bay changed.
    Bay { bay: String, from: Sensed, to: Sensed },
    /// First complete picture of a unit's bays since the store was made.
    UnitBaseline {
        unit: String,
        bays: u32,
        free: u32,
        occupied: u32,
        unknown: u32,
        /// A letter (f, o, u) for each wired bay in point order.
        states: String,
    },
    /// A driver was given something.
    LeaseGranted(LeaseBody),
    /// A lease was given another bay.
    LeaseMoved(LeaseBody),
    /// A lease ended.
    LeaseEnded { lease: String, end: End, inferred: bool, bay: Option<String>, held_s: u64 },
    /// Staff closed something.
    Closed { target: String, reason: String, by: String, expires_s: Option<u64> },
    /// What was closed is open again.
    Opened { target: String, by: String },
    /// Staff said who decides about an output.
    OutputMode { output: String, state: String, by: String, expires_s: Option<u64> },
    /// An output was switched: by whom, or by which state of its garage.
    OutputSwitched { output: String, on: bool, why: String },
    /// Staff set a sign's mode, or its time was over ("expiry").
    SignMode { sign: String, mode: String, by: String, expires_s: Option<u64> },
    /// Staff put a text on a sign for a time.
    SignMessage { sign: String, text: String, by: String, for_s: u64 },
    /// The text is off again: taken off by staff, or its time was over ("expiry").
    SignMessageEnded { sign: String, by: String },
    /// A contact changed that is only noted.
    Contact { contact: String, active: bool },
    /// Staff had a unit tried again at once.
    UnitRetry { unit: String, by: String },
    /// A garage's fullness changed.
    GarageFullness { garage: String, from: Fullness, to: Fullness },
    /// A bay is kept out after it turned out taken.
    Quarantined { bay: String, for_s: u64 },
    /// A bay's sensor was contradicted often enough to make its bay the last to be given, or was
    /// confirmed often enough since.
    BayTrust { bay: String, doubted: bool, errors: u32 },
    /// A garage's counted cars were set anew: by staff, or by "night" to what is seen and `offset`.
    LedgerReset { garage: String, from: Option<u32>, to: u32, offset: i32, by: String },
    /// The daemon started: what it restored.
    Started { version: String, leases: u32, closures: u32 },

    // Alarms.
    /// A unit went silent: all its bays are unknown.
    UnitLost { unit: String, bays: u32, silent_ms: u64 },
    /// A silent unit answers again.
    UnitBack { unit: String, bays: u32, lost_ms: u64 },
    /// Sensors of a unit do what no car does; at most 20 bays are named.
    SensorsFaulty { unit: String, fault: SensorFault, bays: u32, named: Vec<String> },
    /// An incident began: these places are closed. `incident` is a contact's id, or the place
    /// that staff closed.
    IncidentBegan { incident: String, closes: Vec<String>, reason: String, by: String },
    /// It is over, and what it alone closed is open.
    IncidentEnded { incident: String, by: String, lasted_s: u64 },
    /// The store cannot be written: guiding goes on without it.
    StoreDegraded { why: String },
    /// The store is written again.
    StoreBack { degraded_ms: u64 },
    /// A store that could not be read was set aside, and a new one made. `waiting` is what the
    /// old one had not delivered, as far as is noted beside it: nothing of it comes by itself.
    StoreSetAside { why: String, moved_to: String, epoch: Option<String>, waiting: Vec<Span> },
    /// A kept value could not be used again at start.
    KeptDropped { key: String, why: String },
    /// The broker refuses a lane's records, again and again: they wait, and nothing of it arrives.
    LaneRefused { lane: Lane, reason: String },
    /// The broker takes that lane's records again.
    LaneAccepted { lane: Lane },
    /// The wall clock was set, by so much.
    ClockStepped { by_ms: i64 },
    /// The wall clock has not been good for ten minutes: times may be wrong.
    ClockUnsure { why: String },
    /// It is good again.
    ClockGood { unsure_s: u64 },
    /// Records of a lane were given up, before or after they were numbered.
    Gap { of: Lane, count: u64, first: Option<u64>, last: Option<u64>, why: String },

    // Aggregates.
    /// A garage over one window.
    GarageWindow(GarageWindow),
}

/// Numbers of one lane, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Span {
    pub of: Lane,
    pub first: u64,
    pub last: u64,
}

/// A lease as told upstream.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LeaseBody {
    pub lease: String,
    /// The node where it was asked; `at` is a record's time.
    #[serde(rename = "node")]
    pub at: String,
    pub promise: Promise,
    pub class: String,
    pub destination: Option<String>,
    pub garage: Option<String>,
    pub zone: Option<String>,
    pub bay: Option<String>,
    pub travel_s: u64,
    pub hold_s: u64,
}

/// How full a garage is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(utoipa::ToSchema)]
pub enum Fullness {
    #[default]
    Spaces,
    AlmostFull,
    Full,
}

/// Totals of one garage over one window. `free + held + occupied + unknown + closed = bays`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GarageWindow {
    pub garage: String,
    pub window_s: u64,
    /// Cars in and out: by the door's loops, or else by bays that filled and emptied.
    pub cars_in: u64,
    pub cars_out: u64,
    pub counted_by: CountedBy,
    pub bays: u32,
    /// The picture at the window's end.
    #[serde(flatten)]
    pub now: Tally,
    pub by_class: BTreeMap<String, Tally>,
    pub granted: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CountedBy {
    Loops,
    Bays,
}

/// Bays by what they are; each bay is in exactly one of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tally {
    pub free: u32,
    /// Sensed free and promised to a driver.
    pub held: u32,
    pub occupied: u32,
    pub unknown: u32,
    /// Closed or in quarantine, whatever the sensor says.
    pub closed: u32,
}

impl Tally {
    /// All bays counted here.
    pub fn total(&self) -> u32 {
        self.free + self.held + self.occupied + self.unknown + self.closed
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.free += other.free;
        self.held += other.held;
        self.occupied += other.occupied;
        self.unknown += other.unknown;
        self.closed += other.closed;
    }
}
