//! The door of the gateway: everything that can come in, everything that can go out.
//!
//! Inputs are facts and requests, effects are orders. Both enums are closed, so that a reader of
//! this file knows all there is, and the compiler refuses a forgotten case.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::lease::Lease;
use super::route::Routes;
use crate::config::GuidanceTable;
use crate::record::{Body, End, Lane, Promise, Record, Sensed};
use crate::site::{
    BayIx, ClassIx, ColourIx, DestinationIx, Face, GarageIx, LinkIx, NodeIx, OutputIx, SignIx,
    Target, UnitIx, ZoneIx,
};
use crate::time::{Mono, Now};

/// What the gateway is told.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// The kept values of an earlier run. What contradicts the present is dropped.
    Restore(Kept),
    /// One unit's bays and counters, all read in one sweep.
    Reading(Reading),
    /// Someone wants something and waits for an [`Effect::Answer`] with this number.
    Asked { ask: Ask, reply: ReplyId },
    /// An adapter has something for the alarm lane.
    Notice(Body),
    /// New weights, waits and thresholds.
    Retune(GuidanceTable),
    /// New fallback of every sign, in the site's order.
    Fallbacks(Vec<Face>),
    /// The daemon stops: signs go to their fallback.
    Stopping,
    /// Nothing happened, but a deadline may have passed.
    Tick,
}

/// A unit's answer, decoded: a bit a point, 64 to a word, point 0 lowest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    pub unit: UnitIx,
    /// When the last block arrived.
    pub at: Mono,
    /// A vehicle stands there. Means nothing where `known` is 0.
    pub occupied: Vec<u64>,
    /// A good sample says so: not a fault, not a sentinel, not missing.
    pub known: Vec<u64>,
    /// The unit's counters, in profile order; empty where it has none.
    pub counters: Vec<u32>,
    /// A bit a contact, contact 0 lowest: it is closed. Means nothing where `contacts_known` is 0.
    pub contacts: u64,
    /// A bit a contact: it was read in this sweep.
    pub contacts_known: u64,
}

/// Ties an answer to who asked; never reused while the daemon runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplyId(pub u64);

/// Counts what the gateway ordered to be written; the durable mark is one of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Ticket(pub u64);

/// A lease's name: unique over restarts, because `run` is drawn at random at each start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseId {
    pub run: u32,
    pub number: u32,
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.run, self.number)
    }
}

impl LeaseId {
    /// Reads what [`LeaseId`] displays as.
    pub fn parse(text: &str) -> Option<LeaseId> {
        let (run, number) = text.split_once('-')?;
        if run.len() != 8 {
            return None;
        }
        let run = u32::from_str_radix(run, 16).ok()?;
        Some(LeaseId { run, number: number.parse().ok()? })
    }
}

/// What can be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// A vehicle wants a bay.
    Arrive(Request),
    /// How is my lease?
    Find(LeaseId),
    /// Something became known about a lease's vehicle.
    Report { lease: LeaseId, report: Report },
    /// Staff close something, for a time or until opened; as an incident where it is one.
    Close { target: Target, reason: String, by: String, expires_s: Option<u64>, incident: bool },
    /// Staff open it again.
    Open { target: Target, by: String },
    /// What is closed?
    Closures,
    /// Staff counted the cars in a garage.
    SetCount { garage: GarageIx, occupied: u32, by: String },
    /// Staff want to know how a unit is now, whatever back-off it is in.
    Retry { unit: UnitIx, by: String },
    /// Staff switch an output, for a time or until they set it to automatic.
    SetOutput { output: OutputIx, mode: OutputMode, by: String, expires_s: Option<u64> },
    /// Staff set a sign, for a time or until set back.
    SetMode { sign: SignIx, mode: SignMode, by: String, expires_s: Option<u64> },
    /// Staff put a text on a sign for a time.
    ShowMessage { sign: SignIx, text: String, by: String, for_s: u64 },
    /// Staff take it off.
    ClearMessage { sign: SignIx, by: String },
}

/// A vehicle that wants a bay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The asker's own name for this request, 1 to 64 characters: asking again changes nothing.
    pub request_id: Arc<str>,
    /// Where the vehicle is, or will be in `eta_s`.
    pub at: NodeIx,
    pub destination: Option<DestinationIx>,
    pub class: ClassIx,
    /// Seconds until the vehicle is at `at`.
    pub eta_s: u32,
    /// End of the plate, for call-outs only; never stored. At most 4 characters.
    pub tail: Option<Arc<str>>,
    /// Digest of the caller's hash of the plate: the same vehicle gets no second lease.
    pub vehicle: Option<u64>,
}

/// What became known about a lease's vehicle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// It stands in a bay, identified; in the promised one where none is named.
    Parked(Option<BayIx>),
    /// The promised bay is taken by someone else; where another than the promised is named, the
    /// report is an old one.
    BayTaken(Option<BayIx>),
    /// It was read at a node.
    Seen(NodeIx),
    /// It is of another class than was thought.
    Class(ClassIx),
    /// It is not coming.
    Cancelled,
}

/// What a sign does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(utoipa::ToSchema)]
pub enum SignMode {
    #[default]
    Auto,
    Blank,
    Full,
    Closed,
    /// For staff only.
    Staff,
    /// Parked by an attendant.
    Valet,
    /// All segments: 8s to the display's width.
    Test,
}

impl SignMode {
    pub const ALL: [SignMode; 7] = [
        SignMode::Auto,
        SignMode::Blank,
        SignMode::Full,
        SignMode::Closed,
        SignMode::Staff,
        SignMode::Valet,
        SignMode::Test,
    ];

    /// The mode's name in requests, records and metrics.
    pub fn name(self) -> &'static str {
        match self {
            SignMode::Auto => "auto",
            SignMode::Blank => "blank",
            SignMode::Full => "full",
            SignMode::Closed => "closed",
            SignMode::Staff => "staff",
            SignMode::Valet => "valet",
            SignMode::Test => "test",
        }
    }
}

/// Who decides about an output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(utoipa::ToSchema)]
pub enum OutputMode {
    /// The state of its garage.
    #[default]
    Auto,
    On,
    Off,
}

/// What the gateway orders.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Show this on a sign. Absolute, so that the newest wins and any older may be forgotten.
    Write { sign: SignIx, face: Face },
    /// Ask a unit in the next sweep, whatever back-off it or its line is in.
    Retry { unit: UnitIx },
    /// Give a bay's lamp this colour. Absolute, like a face.
    Lamp { bay: BayIx, colour: ColourIx },
    /// Switch an output. Absolute, like a face.
    Output { output: OutputIx, on: bool },
    /// Answer, once everything up to `after` is durable or at `by`, whichever comes first.
    Answer { reply: ReplyId, after: Ticket, by: Mono, answer: Answer },
    /// A lease was granted, moved or ended: tell upstream and keep (or forget) it. Counts two
    /// tickets, and one where it was only confirmed. This and the two below are facts;
    /// [`Teller`](super::Teller) words them.
    Lease { at: Now, told: LeaseTold, lease: Lease },
    /// Bays changed: tell upstream of each. Counts one ticket a bay.
    Bays { at: Now, news: Vec<BayTold> },
    /// Keep what upstream was told of a unit's bays. Counts one ticket.
    Unit { unit: UnitIx, wiring: u32, told: Vec<u64> },
    /// Tell upstream. Counts one ticket.
    Record(Record),
    /// Keep (or forget) a value over restarts. Counts one ticket.
    Keep { key: String, value: Option<Vec<u8>> },
}

/// What happened to a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseTold {
    Granted,
    Moved,
    /// Its vehicle was seen again, and the place stands: kept, not told upstream.
    Confirmed,
    /// `stands`: where its vehicle is, as far as anybody knows; `inferred`: nobody said so.
    Ended {
        end: End,
        inferred: bool,
        stands: Option<BayIx>,
    },
}

/// One bay's change, as upstream is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BayTold {
    pub bay: BayIx,
    pub from: Sensed,
    pub to: Sensed,
}

/// Values kept over restarts: `(key, JSON)`, see `gateway/keep.rs` for the keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    pub entries: Vec<(String, Vec<u8>)>,
}

/// What an asker gets.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    Allocation(Allocation),
    Closures(Vec<ClosureView>),
    Done,
    Refused(Refusal),
}

/// Why not, in terms of what the asker can do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No bay of the site serves this class.
    ClassNotServed(ClassIx),
    /// No garage can be reached from there with what is closed now.
    NoWay(NodeIx),
    /// The place has too many open leases.
    TooMany { at: NodeIx, open: u32 },
    /// There is no such lease, or it ended too long ago.
    NoSuchLease(LeaseId),
    /// The lease has ended, so nothing can be reported about it.
    LeaseEnded { lease: LeaseId, end: End },
    /// It is not closed.
    NotClosed(Target),
    /// The sign's display has nothing that would show this mode or text.
    CannotShow { sign: SignIx, what: String },
    /// The sign shows no text of staff.
    NoMessage(SignIx),
    /// The garage has no such number of bays.
    TooManyCars { garage: GarageIx, bays: u32 },
    /// Sensors see all of the garage, and no loops count its cars.
    NotCounted(GarageIx),
    /// The daemon is stopping.
    Stopping,
}

/// What a driver was given, as facts: `gateway/telling.rs` words them for whoever shows them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allocation {
    /// `None` where nothing could be promised.
    pub lease: Option<LeaseId>,
    pub request_id: Arc<str>,
    pub promise: Promise,
    pub class: ClassIx,
    pub at: NodeIx,
    pub destination: Option<DestinationIx>,
    pub garage: Option<GarageIx>,
    pub zone: Option<ZoneIx>,
    pub bay: Option<BayIx>,
    pub travel_s: u64,
    /// When the lease ends if nobody comes.
    pub deadline: Mono,
    /// Seconds from now to the deadline.
    pub expires_in_s: u64,
    /// Set once the lease has ended.
    pub end: Option<End>,
    pub why: Why,
    /// The links to the nearest exit, where no garage may have room and there is an exit.
    pub out: Vec<LinkIx>,
    /// The ways as they were when this was answered.
    pub routes: Option<Arc<Routes>>,
}

/// Why there is no firmer promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// It is as firm as can be.
    Firm,
    /// What was promised is known by a count only.
    Counted,
    /// Nothing is known to be free, and some sensors do not answer.
    Unseen,
    /// All that could serve it are taken or promised.
    Taken,
}

/// A closure as shown to staff.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, utoipa::ToSchema)]
pub struct ClosureView {
    pub target: String,
    pub reason: String,
    pub by: String,
    /// Seconds until it ends by itself; absent where it does not.
    pub expires_in_s: Option<u64>,
    /// An incident: signs over it show CLOSED, whatever was ordered.
    pub incident: bool,
}

impl Record {
    /// A record of this lane, stamped.
    pub fn new(lane: Lane, at: Now, body: Body) -> Record {
        Record { lane, at, body }
    }
}
