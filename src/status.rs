//! How the adapters are doing, as plain values: what pages, metrics and `parkway status` show
//! beside the gateway's own [`Snapshot`](crate::gateway::Snapshot).
//!
//! Each adapter keeps its own counters in its own way; `run.rs` copies them into these structs.
//! So observers depend on no adapter, and an adapter can be rewritten without touching a page.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

/// Everything around the gateway, at one instant.
#[derive(Clone, PartialEq, Debug, Default, Serialize, ToSchema)]
pub struct Status {
    pub lines: Vec<LineView>,
    pub relays: Vec<RelayView>,
    /// Of signs that were told to show something.
    pub displays: Vec<DisplayView>,
    pub clock: ClockView,
    pub store: StoreView,
    pub uplink: UplinkView,
    pub ready: Ready,
}

/// What must be true before drivers can be guided. The uplink is not part of it: no outage of the
/// network may keep a garage shut.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct Ready {
    /// The store is open, or was found unusable and is done without.
    pub store: bool,
    /// At least one sweep was attempted on every line.
    pub polled: bool,
    /// The daemon was told to stop.
    pub stopping: bool,
}

impl Ready {
    /// Whether requests can be served as promised.
    pub fn all(self) -> bool {
        self.store && self.polled && !self.stopping
    }
}

/// A Modbus line. Counters since this start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct LineView {
    pub id: String,
    /// Host and port.
    pub endpoint: String,
    pub state: LineState,
    /// Requests sent to read.
    pub polls_total: u64,
    pub timeouts_total: u64,
    pub reconnects_total: u64,
    /// Sweeps that could not start in their slot because the one before still ran.
    pub missed_slots_total: u64,
    pub writes_total: u64,
    pub write_failures_total: u64,
    /// Exception replies: the unit is there and says no.
    pub exceptions_total: u64,
    /// From the last request's first byte to its answer's last; absent before the first answer.
    pub last_round_trip_us: Option<u64>,
    pub units: Vec<LineUnitView>,
    pub lamps: LampsView,
}

/// The lamps of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct LampsView {
    /// Lamps that should have a colour.
    pub wanted: u32,
    /// Of these, the ones that took it.
    pub confirmed: u32,
    /// How often something else was read back.
    pub mismatches_total: u64,
}

/// An output as its line sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct RelayView {
    pub output: String,
    /// What was ordered arrived, and was read back where the unit can be read.
    pub confirmed: bool,
    /// Seconds since it last arrived; absent before the first time.
    pub age_s: Option<u64>,
    /// How often something else was read back.
    pub mismatches_total: u64,
}

/// A sign's display as its line sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct DisplayView {
    pub sign: String,
    /// What it should show was written, and read back where the display can be read.
    pub confirmed: bool,
    /// Seconds since a write last arrived; absent before the first.
    pub age_s: Option<u64>,
    /// How often it read back something else.
    pub mismatches_total: u64,
}

/// Whether a line's socket is open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LineState {
    Up,
    #[default]
    Connecting,
    /// The last attempt failed; the next waits for its back-off.
    Down,
}

/// A unit as its line sees it; what its bays are is in the snapshot's `UnitView`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct LineUnitView {
    pub id: String,
    pub state: UnitState,
    pub timeouts_total: u64,
    pub exceptions_total: u64,
    /// The same by exception code.
    pub exceptions: BTreeMap<u8, u64>,
    /// Blocks read in pieces, because the unit refuses the whole.
    pub blocks_cut: u32,
    /// Registers and bits that it refuses even alone; what they say is unknown.
    pub left_out: u32,
}

/// Whether a unit answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnitState {
    /// Nothing is known: its line is down, or it was not asked since that came up.
    #[default]
    Unreached,
    /// It answered last time.
    Ok,
    /// It answered last time, and refuses part of what it is asked for.
    Refuses,
    /// It failed once or twice in a row.
    Suspect,
    /// Only probed, with back-off, so that it makes nobody else late.
    Open,
}

/// The wall clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct ClockView {
    /// Synchronised, as far as the machine knows; until then records say that they are unsure.
    pub good: bool,
    /// How often it was set by a second or more since this start.
    pub steps_total: u64,
}

/// The store. Counters since this start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct StoreView {
    pub state: StoreState,
    /// 16 hex digits; empty while opening.
    pub epoch: String,
    pub lanes: Vec<LaneView>,
    pub commits_total: u64,
    /// Length of the last commit; absent before the first.
    pub last_commit_ms: Option<u64>,
    /// Times the disk was told to make everything durable.
    pub barriers_total: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreState {
    Ok,
    /// Nothing is kept: guiding goes on, records wait in memory and may be lost.
    Degraded,
    #[default]
    Opening,
}

/// A lane's backlog in the store.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct LaneView {
    pub lane: String,
    /// Numbers that wait: a merged record counts as all that it covers.
    pub backlog_records: u64,
    pub backlog_bytes: u64,
    /// Age of the oldest record still waiting; 0 with no backlog.
    pub oldest_age_s: u64,
    /// Given up for lack of room, each told upstream by a gap record.
    pub dropped_total: u64,
    /// Records by which there are fewer, because old windows were merged.
    pub merged_total: u64,
    /// In this store's life, not since this start.
    pub committed_total: u64,
}

/// The connection to the broker. Counters since this start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct UplinkView {
    pub state: UplinkState,
    /// Host and port; empty where no broker is configured.
    pub broker: String,
    /// How long it has been in this state.
    pub since_s: u64,
    pub published_total: u64,
    pub acked_total: u64,
    /// Acknowledged with a reason that says no: not delivered.
    pub denied_total: u64,
    /// Published again after a new connection.
    pub resent_total: u64,
    pub reconnects_total: u64,
    /// Messages published and not acknowledged.
    pub outstanding: u64,
    /// Commands from the broker that were carried out, and those that were not.
    pub commands_done_total: u64,
    pub commands_refused_total: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UplinkState {
    Connected,
    Connecting,
    /// No broker is configured.
    #[default]
    Off,
}
