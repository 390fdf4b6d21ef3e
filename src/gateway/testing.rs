//! A small site and a gateway on it for the core's tests: two garages on a ring, 90 bays.
//!
//! [`Story`] is the one helper that knows the door's API: it keeps what a store would have kept,
//! repeats what units last read, and panics where a test asks for what did not happen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::route::Routes;
use super::{
    Allocation, Answer, Ask, Effect, Gateway, Identity, Input, Kept, LeaseId, Reading, Refusal,
    ReplyId, Report, Request, SignMode, Source,
};
use crate::config::{self, GuidanceTable};
use crate::record::{Body, End, Lane, Sensed};
use crate::site::{BayIx, Face, SignIx, Site, Target, UnitIx};
use crate::time::{Mono, Now, Wall};

/// The site of `tests/site/small.toml`.
pub fn site() -> Site {
    config().site
}

/// The same with everything around it.
pub fn config() -> config::Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/site/small.toml");
    match config::load(&path) {
        Ok(config) => config,
        Err(problems) => panic!("{problems:?}"),
    }
}

/// The same ring with a direction sign at fork 1, a sign with hours, and a fire panel's contacts.
pub fn board_site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board.toml");
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/site/small.toml"),
    );
    let mut text = text.unwrap();
    for (old, new) in [
        ("gateway = \"small-1\"", "gateway = \"small-1\"\ntime_zone = \"+08:00\""),
        ("blank = 10000 }", "blank = 10000, staff = 10003, straight = 10005, right = 10006 }"),
        ("text = \"Garage 1\"", "text = \"Garage 1\"\nturn = \"right\""),
        ("length_m = 500", "length_m = 500\nturn = \"straight\""),
    ] {
        assert_eq!(text.matches(old).count(), 1, "{old}");
        text = text.replace(old, new);
    }
    std::fs::write(&path, text + BOARD).unwrap();
    match config::load(&path) {
        Ok(config) => config.site,
        Err(problems) => panic!("{problems:?}"),
    }
}

const BOARD: &str = r#"
[[profile]]
id = "fire"
source = "made up for tests"
contacts = { table = "discrete", base = 0, count = 16 }
[[line]]
id = "l9"
tcp = "127.0.0.1:15029"
[[line.unit]]
id = "fire"
address = 1
profile = "fire"
[[contact]]
id = "fire-g1"
unit = "fire"
index = 3
kind = "fire"
closes = ["g1"]
active = "open"
[[contact]]
id = "hatch"
unit = "fire"
index = 4
kind = "note"
[[sign]]
id = "d1"
kind = "direction"
unit = "panel"
index = 2
node = "f1"
fallback = "straight"
shows = ["g1", "g2"]
[[sign]]
id = "s3"
kind = "count"
unit = "panel"
index = 3
fallback = "blank"
shows = ["g2"]
change_delay_s = 10
[[sign.schedule]]
days = ["mon"]
from = "22:00"
to = "06:00"
mode = "staff"
"#;

/// The fire loop is closed in peace, the hatch open.
pub const AT_REST: u64 = 1 << 3;

/// All ways of a site with nothing closed.
pub fn routes(site: &Site) -> Arc<Routes> {
    Arc::new(Routes::new(site, 20, &BTreeSet::new(), &BTreeSet::new()))
}

/// A gateway, what it ordered, and what a store would have kept.
pub struct Story {
    pub site: Arc<Site>,
    pub gateway: Gateway,
    pub now: Now,
    pub effects: Vec<Effect>,
    pub kept: BTreeMap<String, Vec<u8>>,
    /// What this run was told and when, and how many effects there were after it.
    pub journal: Vec<(Now, Input, usize)>,
    pub counters: [u32; 2],
    tuning: GuidanceTable,
    runs: u32,
    boot: String,
    replies: u64,
    last: BTreeMap<UnitIx, Reading>,
}

impl Story {
    /// Nothing read yet.
    pub fn unseen() -> Story {
        Story::tuned(GuidanceTable { debounce_ms: 0, ..GuidanceTable::default() })
    }

    /// The loops of garage 1 are read by the unit of garage 2, and live on without its own.
    pub fn loops_apart() -> Story {
        let mut site = site();
        let door = site.garages[0].door_counter.as_mut().unwrap();
        (door.cars_in.unit, door.cars_out.unit) = (UnitIx(1), UnitIx(1));
        let tuning = GuidanceTable { debounce_ms: 0, ..GuidanceTable::default() };
        Story::at(site, tuning)
    }

    /// Garage 1 is counted anew at a minute of each day, with so many cars that nobody sees.
    pub fn with_nights(minute: u16, reset_offset: i32) -> Story {
        let mut site = site();
        site.ledger_reset = Some(minute);
        site.garages[0].door_counter.as_mut().unwrap().reset_offset = reset_offset;
        let tuning = GuidanceTable { debounce_ms: 0, ..GuidanceTable::default() };
        Story::at(site, tuning)
    }

    /// All bays seen free.
    pub fn seen() -> Story {
        let mut story = Story::unseen();
        story.read_all(|_| Sensed::Free);
        story
    }

    pub fn tuned(tuning: GuidanceTable) -> Story {
        Story::at(site(), tuning)
    }

    /// [`board_site`], nothing read yet.
    pub fn unseen_board() -> Story {
        let tuning = GuidanceTable { debounce_ms: 0, ..GuidanceTable::default() };
        Story::at(board_site(), tuning)
    }

    /// All its bays seen free, its contacts at rest.
    pub fn board() -> Story {
        let mut story = Story::unseen_board();
        story.read_all(|_| Sensed::Free);
        story.contacts(AT_REST, u64::MAX);
        story.keep_alive(1_000);
        story
    }

    pub fn at(site: Site, tuning: GuidanceTable) -> Story {
        let site = Arc::new(site);
        let identity = Identity { run: 1, boot: "b1".to_owned(), version: "0".to_owned() };
        Story {
            gateway: Gateway::new(site.clone(), tuning.clone(), identity),
            site,
            now: Now { mono: Mono(1_000_000_000), wall: Wall(0) },
            effects: Vec::new(),
            kept: BTreeMap::new(),
            journal: Vec::new(),
            counters: [0, 0],
            tuning,
            runs: 1,
            boot: "b1".to_owned(),
            replies: 0,
            last: BTreeMap::new(),
        }
    }

    /// Killed and started again, with what was kept.
    pub fn restart(&mut self, boot: &str) {
        self.runs += 1;
        self.boot = boot.to_owned();
        self.gateway = self.newborn();
        self.last.clear();
        self.journal.clear();
        let entries = self.kept.clone().into_iter().collect();
        self.step(Input::Restore(Kept { entries }));
    }

    fn newborn(&self) -> Gateway {
        let (run, boot) = (self.runs, self.boot.clone());
        let identity = Identity { run, boot, version: "0".to_owned() };
        Gateway::new(self.site.clone(), self.tuning.clone(), identity)
    }

    /// A second gateway, told the same at the same times: it must order the same and be the same.
    pub fn replay(&mut self) {
        let mut again = self.newborn();
        let (mut facts, mut effects) = (Vec::new(), Vec::new());
        for (now, input, _) in &self.journal {
            again.step(*now, input.clone(), &mut facts);
        }
        let teller = again.teller();
        facts.into_iter().for_each(|fact| teller.word(fact, &mut effects));
        let ours = &self.effects[self.effects.len() - effects.len()..];
        assert!(ours == effects, "the same story went otherwise when it was told again");
        let [ours, theirs] = [&mut self.gateway, &mut again].map(|gateway| {
            let picture = super::Snapshot { version: 0, ..gateway.snapshot() };
            format!("{picture:?}")
        });
        assert_eq!(ours, theirs, "the same story left another picture");
    }

    /// Killed with the writes of the last steps not on disk: `durable` effects are all that is.
    pub fn crash(&mut self, boot: &str, durable: usize) {
        let mut kept = BTreeMap::new();
        for effect in &self.effects[..durable] {
            if let Effect::Keep { key, value } = effect {
                match value {
                    Some(value) => kept.insert(key.clone(), value.clone()),
                    None => kept.remove(key),
                };
            }
        }
        self.effects.truncate(durable);
        self.kept = kept;
        self.restart(boot);
    }

    pub fn step(&mut self, input: Input) -> Option<Answer> {
        let from = self.effects.len();
        let told = input.clone();
        let mut facts = Vec::new();
        let issued = self.gateway.issued().0;
        self.gateway.step(self.now, input, &mut facts);
        let teller = self.gateway.teller();
        facts.into_iter().for_each(|fact| teller.word(fact, &mut self.effects));
        let written = |effect: &&Effect| matches!(effect, Effect::Record(_) | Effect::Keep { .. });
        let written = self.effects[from..].iter().filter(written).count() as u64;
        assert_eq!(self.gateway.issued().0 - issued, written, "a ticket for each thing written");
        self.journal.push((self.now, told, self.effects.len()));
        let mut answer = None;
        for effect in &self.effects[from..] {
            match effect {
                Effect::Keep { key, value: Some(value) } => {
                    self.kept.insert(key.clone(), value.clone());
                }
                Effect::Keep { key, value: None } => {
                    self.kept.remove(key);
                }
                Effect::Answer { answer: given, .. } => answer = Some(given.clone()),
                Effect::Lease { .. } | Effect::Bays { .. } | Effect::Unit { .. } => {
                    panic!("facts are worded")
                }
                Effect::Record(_)
                | Effect::Write { .. }
                | Effect::Retry { .. }
                | Effect::Lamp { .. }
                | Effect::Output { .. } => (),
            }
        }
        answer
    }

    pub fn ask(&mut self, ask: Ask) -> Answer {
        self.replies += 1;
        let reply = ReplyId(self.replies);
        self.step(Input::Asked { ask, reply }).expect("every question is answered in its step")
    }

    pub fn request(&self, request_id: &str, at: &str, class: &str) -> Request {
        Request {
            request_id: request_id.into(),
            at: self.site.node(at).unwrap(),
            destination: None,
            class: self.site.class(class).unwrap(),
            eta_s: 0,
            tail: None,
            vehicle: None,
        }
    }

    pub fn arrive(&mut self, request_id: &str, at: &str, class: &str) -> Allocation {
        let request = self.request(request_id, at, class);
        match self.ask(Ask::Arrive(request)) {
            Answer::Allocation(allocation) => allocation,
            other => panic!("{other:?}"),
        }
    }

    /// A vehicle that is known by the hash of its plate.
    pub fn arrive_as(&mut self, request_id: &str, at: &str, vehicle: u64) -> Allocation {
        let mut request = self.request(request_id, at, "car");
        request.vehicle = Some(vehicle);
        match self.ask(Ask::Arrive(request)) {
            Answer::Allocation(allocation) => allocation,
            other => panic!("{other:?}"),
        }
    }

    pub fn again(&mut self, request_id: &str, at: &str, class: &str) -> Allocation {
        let before = self.gateway.leases.len();
        let answer = self.arrive(request_id, at, class);
        assert_eq!(self.gateway.leases.len(), before, "asking again made a lease");
        answer
    }

    pub fn arrive_with_tail(&mut self, request_id: &str, tail: &str) {
        let mut request = self.request(request_id, "p1", "car");
        request.tail = Some(tail.into());
        self.ask(Ask::Arrive(request));
    }

    pub fn refused(&mut self, request_id: &str, at: &str, class: &str) -> Refusal {
        let request = self.request(request_id, at, class);
        match self.ask(Ask::Arrive(request)) {
            Answer::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    pub fn find(&mut self, lease: LeaseId) -> Allocation {
        match self.ask(Ask::Find(lease)) {
            Answer::Allocation(allocation) => allocation,
            other => panic!("{other:?}"),
        }
    }

    pub fn report(&mut self, lease: LeaseId, report: Report) {
        self.ask(Ask::Report { lease, report });
    }

    pub fn target(&self, text: &str) -> Target {
        self.site.target(text).unwrap()
    }

    pub fn close(&mut self, target: &str, expires_s: Option<u64>) {
        let (reason, by) = ("works".to_owned(), "me".to_owned());
        let target = self.target(target);
        assert_eq!(
            self.ask(Ask::Close { target, reason, by, expires_s, incident: false }),
            Answer::Done
        );
    }

    pub fn open(&mut self, target: &str) {
        let target = self.target(target);
        assert_eq!(self.ask(Ask::Open { target, by: "me".to_owned() }), Answer::Done);
    }

    pub fn bay(&self, allocation: &Allocation) -> String {
        self.site.bay_id(allocation.bay.expect("a bay was promised"))
    }

    /// Time passes, nothing is read.
    pub fn tick(&mut self, ms: u64) {
        self.pass(ms);
        self.step(Input::Tick);
    }

    pub fn pass(&mut self, ms: u64) {
        self.now.mono = self.now.mono.plus_ms(ms);
        self.now.wall.0 += ms as i64;
    }

    /// Time passes while every unit heard so far goes on reading the same.
    pub fn keep_alive(&mut self, ms: u64) {
        let mut left = ms;
        while left > 0 {
            let part = left.min(4_000);
            self.pass(part);
            left -= part;
            let readings: Vec<Reading> = self.last.values().cloned().collect();
            for mut reading in readings {
                reading.at = self.now.mono;
                self.step(Input::Reading(reading));
            }
        }
    }

    /// One unit says nothing, the others go on.
    pub fn go_silent(&mut self, unit: UnitIx, ms: u64) {
        let silent = self.last.remove(&unit);
        self.keep_alive(ms);
        if let Some(silent) = silent {
            self.last.insert(unit, silent);
        }
        if self.last.len() == 1 {
            self.tick(0);
        }
        self.last.remove(&unit);
    }

    pub fn read_all(&mut self, state: impl Fn(u32) -> Sensed + Copy) {
        self.read(UnitIx(0), state);
        self.read(UnitIx(1), state);
    }

    /// A unit reads its bays as told, by bay index.
    pub fn read(&mut self, unit: UnitIx, state: impl Fn(u32) -> Sensed) {
        let loops = self.site.garages[0].door_counter.unwrap().cars_in.unit;
        let (mut occupied, mut known) = (vec![0], vec![0]);
        for (point, bay) in self.site.units[unit.at()].bays.iter().enumerate() {
            let Some(bay) = bay else { continue };
            let state = state(bay.0);
            known[0] |= u64::from(state != Sensed::Unknown) << point;
            occupied[0] |= u64::from(state == Sensed::Occupied) << point;
        }
        let counters = if unit == loops { self.counters.to_vec() } else { Vec::new() };
        let reading = Reading {
            unit,
            at: self.now.mono,
            occupied,
            known,
            counters,
            contacts: 0,
            contacts_known: 0,
        };
        self.last.insert(unit, reading.clone());
        self.step(Input::Reading(reading));
    }

    /// The board's contacts as read, on a unit of their own.
    pub fn contacts(&mut self, contacts: u64, contacts_known: u64) {
        let unit = self.site.contacts[0].unit;
        let reading = Reading {
            unit,
            at: self.now.mono,
            occupied: Vec::new(),
            known: Vec::new(),
            counters: Vec::new(),
            contacts,
            contacts_known,
        };
        self.last.insert(unit, reading.clone());
        self.step(Input::Reading(reading));
    }

    /// What a sign shows now and who says so.
    pub fn shown(&self, id: &str) -> (Source, Face) {
        let shown = self.gateway.signs[self.site.sign(id).unwrap().at()].shown.clone();
        let (source, face) = shown.expect("every sign is written at start");
        assert_eq!(face, self.face(id), "shown is what was written");
        (source, face)
    }

    pub fn mode(&mut self, sign: &str, mode: SignMode, expires_s: Option<u64>) -> Answer {
        let sign = self.site.sign(sign).unwrap();
        self.ask(Ask::SetMode { sign, mode, by: "me".to_owned(), expires_s })
    }

    pub fn message(&mut self, sign: &str, text: &str, for_s: u64) -> Answer {
        let sign = self.site.sign(sign).unwrap();
        let (text, by) = (text.to_owned(), "me".to_owned());
        self.ask(Ask::ShowMessage { sign, text, by, for_s })
    }

    pub fn incident(&mut self, target: &str, expires_s: Option<u64>) {
        let (reason, by) = ("smoke".to_owned(), "me".to_owned());
        let target = self.target(target);
        self.ask(Ask::Close { target, reason, by, expires_s, incident: true });
    }

    /// One more bay of what was last read fills.
    pub fn fill(&mut self, bay: BayIx) {
        let place = self.site.bays[bay.at()].clone();
        let mut reading = self.last[&place.unit].clone();
        reading.at = self.now.mono;
        reading.occupied[0] |= 1 << place.point;
        self.last.insert(place.unit, reading.clone());
        self.step(Input::Reading(reading));
    }

    /// What a sign shows now.
    pub fn face(&self, id: &str) -> Face {
        let ix = self.site.sign(id).unwrap();
        let writes = self.effects.iter().rev();
        let mut faces = writes.filter_map(|effect| match effect {
            Effect::Write { sign, face } if *sign == ix => Some(face.clone()),
            _ => None,
        });
        faces.next().expect("every sign is written at start")
    }

    pub fn bodies(&self, lane: Lane) -> impl Iterator<Item = &Body> {
        self.effects.iter().filter_map(move |effect| match effect {
            Effect::Record(record) if record.lane == lane => Some(&record.body),
            _ => None,
        })
    }

    pub fn bay_events(&self) -> usize {
        self.bodies(Lane::Events).filter(|body| matches!(body, Body::Bay { .. })).count()
    }

    pub fn ends(&self) -> Vec<(LeaseId, End, bool)> {
        let ends = self.bodies(Lane::Events).filter_map(|body| match body {
            Body::LeaseEnded { lease, end, inferred, .. } => {
                Some((LeaseId::parse(lease).unwrap(), *end, *inferred))
            }
            _ => None,
        });
        ends.collect()
    }

    pub fn signs(&self) -> impl Iterator<Item = SignIx> + use<> {
        (0..self.site.signs.len() as u32).map(SignIx)
    }
}
