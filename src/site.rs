//! The site as everything else knows it: a value that cannot be wrong.
//!
//! `config` reads the files, checks every rule and builds a [`Site`]; from then on things are
//! named by index (`BayIx`, `GarageIx`, ...) and every index is in range. Nothing here changes
//! while the daemon runs: what does (states, leases, closures) lives in `gateway`.

mod contact;
mod sign;
mod switched;
mod wire;

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::profile::{Display, Profile};

pub use contact::{Contact, ContactKind};
pub use sign::{DAY_MINUTES, Face, Schedule, ScheduleMode, Sign, SignKind, Turn};
pub use switched::{GarageState, LampState, LampTable, Output, OutputKind, OutputStop, ZoneLamps};
pub use wire::{Framing, Parity, Wire};

/// Makes an index newtype: a position in one of the site's tables, never a bare number.
macro_rules! index {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[derive(Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The position as an array index.
            pub fn at(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

index! {
    /// A place on the graph.
    NodeIx;
    /// A one-way connection between two nodes.
    LinkIx;
    /// Where people walk to after parking.
    DestinationIx;
    /// A kind of bay, and of the vehicle that wants one.
    ClassIx;
    /// A garage.
    GarageIx;
    /// A level of a garage.
    LevelIx;
    /// A zone of a level: the smallest thing a driver is sent to without a bay.
    ZoneIx;
    /// A bay.
    BayIx;
    /// A Modbus line: one socket or serial port, one owner.
    LineIx;
    /// A unit: a Modbus address on a line.
    UnitIx;
    /// A sign.
    SignIx;
    /// A switched output.
    OutputIx;
    /// A contact.
    ContactIx;
    /// A colour that a lamp can have.
    ColourIx;
}

/// The whole site.
#[derive(Clone, Debug)]
pub struct Site {
    /// Lower-case name used in topics.
    pub id: String,
    pub name: String,
    /// This gateway's name in records.
    pub gateway: String,
    /// CRC-32 of the files it was read from, in hexadecimal: tells whether two gateways, or one
    /// before and after a visit, run the same configuration.
    pub config: String,
    /// What schedules are written in.
    pub time_zone: TimeZone,
    /// Minute of the day at which door counts are set to what is seen; never where `None`.
    pub ledger_reset: Option<u16>,
    pub nodes: Vec<Node>,
    pub links: Vec<Link>,
    pub destinations: Vec<Destination>,
    pub classes: Vec<Class>,
    pub garages: Vec<Garage>,
    pub levels: Vec<Level>,
    pub zones: Vec<Zone>,
    /// Ordered by garage, level, zone and number: a zone's bays are one range.
    pub bays: Vec<Bay>,
    pub lines: Vec<Line>,
    pub units: Vec<Unit>,
    pub profiles: Vec<Profile>,
    pub signs: Vec<Sign>,
    pub outputs: Vec<Output>,
    pub contacts: Vec<Contact>,
    pub lamps: LampTable,
}

/// What a node is to a driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// A street a kilometre out, where a driver can still be steered.
    Approach,
    /// Where the surface ends and the ring begins.
    Portal,
    /// A junction inside.
    Fork,
    /// A garage's entrance.
    Door,
    /// Where cars leave to the surface.
    Exit,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub id: String,
    pub name: String,
    pub kind: NodeKind,
}

/// What a link costs the city: a surface second weighs more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    Surface,
    Connector,
    Ring,
}

#[derive(Clone, Debug)]
pub struct Link {
    pub from: NodeIx,
    pub to: NodeIx,
    pub kind: LinkKind,
    /// 1 to 20,000 m.
    pub length_m: u32,
    /// 5 to 120 km/h.
    pub speed_kmh: u32,
    /// What the hanging sign at `from` says for this way; empty where there is no choice.
    pub text: String,
    /// Which way it leaves `from`, seen by who arrives there.
    pub turn: Option<Turn>,
    /// Closed by the plan, not by an operator.
    pub closed: bool,
}

impl Link {
    /// Time to drive it at its speed, in milliseconds.
    pub fn drive_ms(&self) -> u32 {
        // m / (km/h) = 3.6 s; at most 20,000 m / 5 km/h = 14,400,000 ms, well inside u32.
        self.length_m * 3_600 / self.speed_kmh
    }
}

#[derive(Clone, Debug)]
pub struct Destination {
    pub id: String,
    pub name: String,
    /// Walking time from each garage's core, in seconds, by garage index.
    pub walk_s: Vec<u32>,
}

/// A class is both what a bay is and what a vehicle needs.
#[derive(Clone, Debug)]
pub struct Class {
    pub id: String,
    pub name: String,
    /// The bay classes this vehicle class may use, with a penalty in seconds for each.
    pub may_use: Vec<(ClassIx, u32)>,
    /// Clearance the vehicle needs, in cm; 0 where any will do.
    pub height_cm: u32,
    /// Hours after which a bay of this class that stays occupied, or free while its zone fills
    /// around it, has a stuck sensor: 1 to 8,760.
    pub stuck_occupied_h: u32,
    pub stuck_free_h: u32,
}

#[derive(Clone, Debug)]
pub struct Garage {
    pub id: String,
    pub name: String,
    pub door: NodeIx,
    /// Headroom at the door, in cm.
    pub clearance_cm: u32,
    pub levels: Range<u32>,
    pub zones: Range<u32>,
    pub bays: Range<u32>,
    /// The door's loops, where the garage has them.
    pub door_counter: Option<DoorCounter>,
}

/// Which counters count cars through the door.
#[derive(Clone, Copy, Debug)]
pub struct DoorCounter {
    pub cars_in: UnitCounter,
    pub cars_out: UnitCounter,
    /// Cars that stand where nobody sees them when the count is set anew by night.
    pub reset_offset: i32,
}

/// A counter of a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnitCounter {
    pub unit: UnitIx,
    /// Which of the unit's counters.
    pub index: u16,
    /// Its highest count, after which it begins at 0 again.
    pub highest: u32,
}

#[derive(Clone, Debug)]
pub struct Level {
    pub id: String,
    pub garage: GarageIx,
    pub zones: Range<u32>,
    pub bays: Range<u32>,
}

#[derive(Clone, Debug)]
pub struct Zone {
    pub id: String,
    pub garage: GarageIx,
    pub level: LevelIx,
    pub bays: Range<u32>,
    /// The unit that reads the zone's bays.
    pub unit: UnitIx,
    /// From the door to the zone's first bay, in seconds.
    pub drive_s: u32,
    /// From the zone's first bay to the garage's core on foot, in seconds.
    pub walk_s: u32,
    /// What the last bay of the zone costs more than the first, in walking seconds.
    pub spread_s: u32,
    /// Free bays that are promised to nobody.
    pub keep_back: u32,
    /// Where the lamps of its bays are, in bay order; `None` for a zone without.
    pub lamps: Option<ZoneLamps>,
}

#[derive(Clone, Debug)]
pub struct Bay {
    /// The number painted on the floor, unique in its zone.
    pub number: u16,
    pub zone: ZoneIx,
    pub garage: GarageIx,
    pub class: ClassIx,
    pub unit: UnitIx,
    /// Which point of the unit senses it.
    pub point: u16,
}

#[derive(Clone, Debug)]
pub struct Line {
    pub id: String,
    pub wire: Wire,
    /// From one sweep's start to the next.
    pub period_ms: u32,
    pub units: Vec<UnitIx>,
}

impl Line {
    /// Whether an answer names the request that it belongs to: on Modbus TCP alone. Elsewhere a
    /// late answer of the same unit looks like the answer to the next request.
    pub fn has_transactions(&self) -> bool {
        self.wire.has_transactions()
    }
}

#[derive(Clone, Debug)]
pub struct Unit {
    pub id: String,
    pub line: LineIx,
    /// The Modbus address, 0 to 255.
    pub address: u8,
    /// Which of the site's profiles describes it.
    pub profile: u32,
    /// How long it may take to answer: on TCP from the request to the answer's last byte, on RTU
    /// from the request's last byte on the wire to the answer's first.
    pub timeout_ms: u32,
    /// Silence kept around its exchanges: between an answer and the next request, where either is
    /// its own. On RTU never below the silence of the framing.
    pub gap_ms: u32,
    /// How long nothing is asked after a write that it does not answer.
    pub turnaround_ms: u32,
    /// The bay behind each point; `None` for a point that nothing is wired to.
    pub bays: Vec<Option<BayIx>>,
}

/// A part of the site that can be counted or closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scope {
    Garage(GarageIx),
    Level(LevelIx),
    Zone(ZoneIx),
}

/// What can be closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Target {
    Node(NodeIx),
    Link(LinkIx),
    Scope(Scope),
    Bay(BayIx),
}

impl Site {
    /// `garage/level/zone/number`: the name of a bay in every message, such as `g01/B2/A/017`.
    pub fn bay_id(&self, bay: BayIx) -> String {
        let bay = &self.bays[bay.at()];
        format!("{}/{:03}", self.zone_id(bay.zone), bay.number)
    }

    /// `garage/level/zone`.
    pub fn zone_id(&self, zone: ZoneIx) -> String {
        let zone = &self.zones[zone.at()];
        format!("{}/{}", self.level_id(zone.level), zone.id)
    }

    /// `garage/level`.
    pub fn level_id(&self, level: LevelIx) -> String {
        let level = &self.levels[level.at()];
        format!("{}/{}", self.garages[level.garage.at()].id, level.id)
    }

    /// Bays of a garage that have no sensor.
    pub fn unsensed(&self, _garage: GarageIx) -> u32 {
        0
    }

    /// The bays of a part of the site.
    pub fn scope_bays(&self, scope: Scope) -> Range<u32> {
        match scope {
            Scope::Garage(g) => self.garages[g.at()].bays.clone(),
            Scope::Level(l) => self.levels[l.at()].bays.clone(),
            Scope::Zone(z) => self.zones[z.at()].bays.clone(),
        }
    }

    /// The zones of a part of the site.
    pub fn scope_zones(&self, scope: Scope) -> Range<u32> {
        match scope {
            Scope::Garage(g) => self.garages[g.at()].zones.clone(),
            Scope::Level(l) => self.levels[l.at()].zones.clone(),
            Scope::Zone(z) => z.0..z.0 + 1,
        }
    }

    /// The garage a part of the site lies in.
    pub fn scope_garage(&self, scope: Scope) -> GarageIx {
        match scope {
            Scope::Garage(g) => g,
            Scope::Level(l) => self.levels[l.at()].garage,
            Scope::Zone(z) => self.zones[z.at()].garage,
        }
    }

    /// The unit at an address of a line.
    pub fn unit_at(&self, line: LineIx, address: u8) -> Option<&Unit> {
        let mut units = self.lines[line.at()].units.iter().map(|unit| &self.units[unit.at()]);
        units.find(|unit| unit.address == address)
    }

    /// The profile of a unit.
    pub fn profile(&self, unit: UnitIx) -> &Profile {
        &self.profiles[self.units[unit.at()].profile as usize]
    }

    /// The display a sign is; `None` never happens in a site that was checked.
    pub fn display(&self, sign: &Sign) -> Option<&Display> {
        let profile = self.profile(sign.unit);
        match sign.kind {
            SignKind::Count { .. } | SignKind::Direction { .. } => profile.sign.as_ref(),
            SignKind::CallOut { .. } => profile.callout.as_ref(),
        }
    }

    /// Finds a node by its id.
    pub fn node(&self, id: &str) -> Option<NodeIx> {
        position(&self.nodes, |n| n.id == id).map(NodeIx)
    }

    /// Finds a destination by its id.
    pub fn destination(&self, id: &str) -> Option<DestinationIx> {
        position(&self.destinations, |d| d.id == id).map(DestinationIx)
    }

    /// Finds a class by its id.
    pub fn class(&self, id: &str) -> Option<ClassIx> {
        position(&self.classes, |c| c.id == id).map(ClassIx)
    }

    /// Finds a unit by its id.
    pub fn unit(&self, id: &str) -> Option<UnitIx> {
        position(&self.units, |u| u.id == id).map(UnitIx)
    }

    /// Finds a sign by its id.
    pub fn sign(&self, id: &str) -> Option<SignIx> {
        position(&self.signs, |s| s.id == id).map(SignIx)
    }

    /// Finds a contact by its id.
    pub fn contact(&self, id: &str) -> Option<ContactIx> {
        position(&self.contacts, |c| c.id == id).map(ContactIx)
    }

    /// Finds an output by its id.
    pub fn output(&self, id: &str) -> Option<OutputIx> {
        position(&self.outputs, |o| o.id == id).map(OutputIx)
    }

    /// Reads `garage[/level[/zone]]`.
    pub fn scope(&self, path: &str) -> Option<Scope> {
        match self.target(path)? {
            Target::Scope(scope) => Some(scope),
            Target::Node(_) | Target::Link(_) | Target::Bay(_) => None,
        }
    }

    /// Reads what an operator writes: `node:ID`, `link:FROM>TO` or `garage[/level[/zone[/bay]]]`.
    pub fn target(&self, text: &str) -> Option<Target> {
        if let Some(id) = text.strip_prefix("node:") {
            return self.node(id).map(Target::Node);
        }
        if let Some(ends) = text.strip_prefix("link:") {
            let (from, to) = ends.split_once('>')?;
            let (from, to) = (self.node(from)?, self.node(to)?);
            return position(&self.links, |l| l.from == from && l.to == to)
                .map(|ix| Target::Link(LinkIx(ix)));
        }
        let mut parts = text.split('/');
        let garage_id = parts.next()?;
        let garage = position(&self.garages, |g| g.id == garage_id).map(GarageIx)?;
        let Some(level_id) = parts.next() else {
            return Some(Target::Scope(Scope::Garage(garage)));
        };
        let levels = self.garages[garage.at()].levels.clone();
        let level = levels.map(LevelIx).find(|l| self.levels[l.at()].id == level_id)?;
        let Some(zone_id) = parts.next() else {
            return Some(Target::Scope(Scope::Level(level)));
        };
        let zones = self.levels[level.at()].zones.clone();
        let zone = zones.map(ZoneIx).find(|z| self.zones[z.at()].id == zone_id)?;
        let Some(number) = parts.next() else {
            return Some(Target::Scope(Scope::Zone(zone)));
        };
        let number: u16 = number.parse().ok()?;
        let mut bays = self.zones[zone.at()].bays.clone().map(BayIx);
        let bay = bays.find(|b| self.bays[b.at()].number == number)?;
        parts.next().is_none().then_some(Target::Bay(bay))
    }

    /// Writes a target the way [`Site::target`] reads it.
    pub fn target_id(&self, target: Target) -> String {
        match target {
            Target::Node(node) => format!("node:{}", self.nodes[node.at()].id),
            Target::Link(link) => {
                let link = &self.links[link.at()];
                let (from, to) = (&self.nodes[link.from.at()], &self.nodes[link.to.at()]);
                format!("link:{}>{}", from.id, to.id)
            }
            Target::Scope(Scope::Garage(g)) => self.garages[g.at()].id.clone(),
            Target::Scope(Scope::Level(l)) => self.level_id(l),
            Target::Scope(Scope::Zone(z)) => self.zone_id(z),
            Target::Bay(b) => self.bay_id(b),
        }
    }

    /// Signs by the node they hang at, for call-outs.
    pub fn call_outs(&self) -> BTreeMap<NodeIx, Vec<SignIx>> {
        let mut by_node: BTreeMap<NodeIx, Vec<SignIx>> = BTreeMap::new();
        for (ix, sign) in (0..).zip(&self.signs) {
            if let (SignKind::CallOut { .. }, Some(node)) = (&sign.kind, sign.node) {
                by_node.entry(node).or_default().push(SignIx(ix));
            }
        }
        by_node
    }
}

fn position<T>(items: &[T], found: impl Fn(&T) -> bool) -> Option<u32> {
    items.iter().position(found).and_then(|at| u32::try_from(at).ok())
}
