//! A nearly full garage whose sensors lie, simulated at `step`: how often is a promised bay taken?
//!
//! Cars really stand in bays here, and the gateway sees them only through sensors: some are stuck,
//! some samples are wrong, some cars are never seen. Drivers mostly follow, some take what they
//! pass, some never come. A conflict is a driver who comes to the promised bay and finds it taken.
//! The table: `cargo test --release --lib gateway::liars -- --nocapture`; without `--release`
//! one short world of each kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::config::{self, GuidanceTable};
use crate::site::{ClassIx, GarageIx, Site};
use crate::time::Wall;

/// Bays a zone, zones a garage, garages.
const SIZE: [u32; 3] = [60, 5, 2];
const SWEEP_MS: u64 = 1_000;

/// How a world lies.
#[derive(Clone, Copy, Debug)]
struct Lies {
    /// Sensors stuck at free, and at occupied, per 10,000.
    stuck_free: u64,
    stuck_occupied: u64,
    /// Samples that say the opposite, per 10,000.
    samples: u64,
    /// Cars that their sensor never sees, per 10,000.
    unseen: u64,
    /// Sensors that say the opposite at any time, per 10,000: for ten minutes on average each.
    spells: u64,
    /// Of 10,000 drivers: take a bay they pass; never come; tell us of a taken bay.
    ignore: u64,
    no_show: u64,
    tell: u64,
}

const HONEST: Lies = Lies {
    stuck_free: 0,
    stuck_occupied: 0,
    samples: 0,
    unseen: 0,
    spells: 0,
    ignore: 200,
    no_show: 100,
    tell: 3_000,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sensor {
    Good,
    Stuck(bool),
}

/// Who is under way.
struct Driver {
    lease: Option<LeaseId>,
    /// As last told.
    bay: Option<BayIx>,
    garage: GarageIx,
    arrives_ms: u64,
    ignores: bool,
}

struct World {
    site: Arc<Site>,
    gateway: Gateway,
    effects: Vec<Effect>,
    lies: Lies,
    seed: u64,
    now_ms: u64,
    /// When the car in each bay leaves.
    cars: Vec<Option<u64>>,
    /// What each sensor would say if its samples were right.
    seen: Vec<bool>,
    sensors: Vec<Sensor>,
    /// Until when each says the opposite.
    spells: Vec<u64>,
    drivers: Vec<Driver>,
    counters: [[u32; 2]; 2],
    requests: u64,
    tally: Tally,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    arrivals: u64,
    conflicts: u64,
    /// By cause: the sensor was stuck, did not see the car, somebody took it under our eyes.
    causes: BTreeMap<&'static str, u64>,
    turned_away: u64,
}

impl World {
    fn new(lies: Lies, seed: u64) -> World {
        let site = Arc::new(site());
        let identity = Identity { run: 1, boot: "b".to_owned(), version: "0".to_owned() };
        let count = site.bays.len();
        let mut world = World {
            gateway: Gateway::new(site.clone(), GuidanceTable::default(), identity),
            site,
            effects: Vec::new(),
            lies,
            seed,
            now_ms: 1_000,
            cars: vec![None; count],
            seen: vec![false; count],
            sensors: vec![Sensor::Good; count],
            spells: vec![0; count],
            drivers: Vec::new(),
            counters: [[0; 2]; 2],
            requests: 0,
            tally: Tally::default(),
        };
        for bay in 0..count {
            if world.draw(10_000) < 9_500 {
                world.cars[bay] = Some(world.stay());
                world.seen[bay] = true;
            }
        }
        // Exactly as many as said, spread at random.
        for (share, value) in [(lies.stuck_free, false), (lies.stuck_occupied, true)] {
            let mut left = count as u64 * share / 10_000;
            while left > 0 {
                let bay = world.draw(count as u64) as usize;
                if world.sensors[bay] == Sensor::Good {
                    world.sensors[bay] = Sensor::Stuck(value);
                    left -= 1;
                }
            }
        }
        world
    }

    /// 0 to `below`, the same each run (xorshift64*).
    fn draw(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        (self.seed.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below
    }

    fn chance(&mut self, of_10_000: u64) -> bool {
        of_10_000 > 0 && self.draw(10_000) < of_10_000
    }

    /// When a car that stops now leaves: after two and a half hours on average, five minutes at
    /// least.
    fn stay(&mut self) -> u64 {
        let share = (self.draw(1_000_000) + 1) as f64 / 1_000_000.0;
        self.now_ms + 300_000 + (-share.ln() * 8_700_000.0) as u64
    }

    fn now(&self) -> Now {
        Now { mono: Mono(self.now_ms * 1_000_000), wall: Wall(self.now_ms as i64) }
    }

    fn step(&mut self, input: Input) -> Option<Answer> {
        self.effects.clear();
        self.gateway.step(self.now(), input, &mut self.effects);
        self.effects.drain(..).rev().find_map(|effect| match effect {
            Effect::Answer { answer, .. } => Some(answer),
            _ => None,
        })
    }

    fn ask(&mut self, ask: Ask) -> Answer {
        self.requests += 1;
        let reply = ReplyId(self.requests);
        self.step(Input::Asked { ask, reply }).expect("each question is answered")
    }

    fn run(&mut self, hours: u64) {
        let end = self.now_ms + hours * 3_600_000;
        while self.now_ms < end {
            self.now_ms += SWEEP_MS;
            self.leave();
            self.cast();
            for at in 0..self.site.units.len() as u32 {
                self.sweep(UnitIx(at));
            }
            self.come();
            self.spawn();
        }
    }

    fn leave(&mut self) {
        for bay in 0..self.cars.len() {
            if self.cars[bay].is_some_and(|until| until <= self.now_ms) {
                self.cars[bay] = None;
                self.counters[self.site.bays[bay].garage.at()][1] += 1;
                self.seen[bay] = false;
            }
        }
    }

    /// New spells.
    fn cast(&mut self) {
        // So many begin in a second, times 1,000,000.
        let begin = self.cars.len() as u64 * self.lies.spells * 1_000_000 / 10_000 / 600;
        if self.draw(1_000_000) < begin {
            let bay = self.draw(self.cars.len() as u64) as usize;
            let share = (self.draw(1_000_000) + 1) as f64 / 1_000_000.0;
            self.spells[bay] = self.now_ms + (-share.ln() * 600_000.0) as u64;
        }
    }

    fn park(&mut self, bay: usize) {
        assert!(self.cars[bay].is_none(), "two cars in one bay");
        self.cars[bay] = Some(self.stay());
        self.counters[self.site.bays[bay].garage.at()][0] += 1;
        let unseen = self.chance(self.lies.unseen);
        self.seen[bay] = !unseen;
    }

    fn sweep(&mut self, unit: UnitIx) {
        let site = self.site.clone();
        let points = &site.units[unit.at()].bays;
        let mut occupied = vec![0; points.len().div_ceil(64)];
        let mut known = occupied.clone();
        for (point, bay) in points.iter().enumerate() {
            let Some(bay) = bay else { continue };
            let stands = match self.sensors[bay.at()] {
                Sensor::Good => {
                    let lies = self.spells[bay.at()] > self.now_ms;
                    self.seen[bay.at()] != (self.chance(self.lies.samples) != lies)
                }
                Sensor::Stuck(value) => value,
            };
            known[point / 64] |= 1 << (point % 64);
            occupied[point / 64] |= u64::from(stands) << (point % 64);
        }
        let garage = site.bays[points[0].expect("all are wired").at()].garage;
        let counters = self.counters[garage.at()].to_vec();
        let at = self.now().mono;
        let (contacts, contacts_known) = (0, 0);
        self.step(Input::Reading(Reading {
            unit,
            at,
            occupied,
            known,
            counters,
            contacts,
            contacts_known,
        }));
    }

    /// As many as keep 95 of 100 bays taken or wanted.
    fn spawn(&mut self) {
        let taken = self.cars.iter().flatten().count() + self.drivers.len();
        for _ in taken..self.cars.len() * 95 / 100 {
            self.requests += 1;
            let request = Request {
                request_id: format!("r{}", self.requests).into(),
                at: self.site.node("p1").expect("it is there"),
                destination: None,
                class: ClassIx(0),
                eta_s: 0,
                vehicle: None,
                tail: None,
            };
            let Answer::Allocation(given) = self.ask(Ask::Arrive(request)) else {
                panic!("refused");
            };
            self.tally.arrivals += 1;
            let Some(garage) = given.garage else {
                self.tally.turned_away += 1;
                continue;
            };
            if self.chance(self.lies.no_show) {
                continue;
            }
            let way_ms = given.travel_s * 1_000;
            let jitter_ms = self.draw(way_ms * 6 / 10);
            let ignores = self.chance(self.lies.ignore);
            self.drivers.push(Driver {
                lease: given.lease,
                bay: given.bay,
                garage,
                arrives_ms: self.now_ms + way_ms * 9 / 10 + jitter_ms,
                ignores,
            });
        }
    }

    fn come(&mut self) {
        let now_ms = self.now_ms;
        // Who is still 15 s away follows a change of plan.
        for at in 0..self.drivers.len() {
            let Driver { lease: Some(lease), arrives_ms, .. } = self.drivers[at] else { continue };
            if arrives_ms.saturating_sub(now_ms) / SWEEP_MS != 15 {
                continue;
            }
            if let Answer::Allocation(now) = self.ask(Ask::Find(lease))
                && now.end.is_none()
                && let Some(garage) = now.garage
            {
                (self.drivers[at].bay, self.drivers[at].garage) = (now.bay, garage);
            }
        }
        let mut at = 0;
        while at < self.drivers.len() {
            if self.drivers[at].arrives_ms <= now_ms {
                let driver = self.drivers.swap_remove(at);
                self.arrive(driver);
            } else {
                at += 1;
            }
        }
    }

    fn arrive(&mut self, mut driver: Driver) {
        let bay = match driver.bay {
            Some(bay) if !driver.ignores => bay,
            Some(_) | None => return self.park_anywhere(driver.garage),
        };
        if self.cars[bay.at()].is_none() {
            return self.park(bay.at());
        }
        self.tally.conflicts += 1;
        let spell = self.spells[bay.at()] > self.now_ms;
        let cause = match (self.sensors[bay.at()], self.seen[bay.at()]) {
            (Sensor::Stuck(_), _) => "stuck",
            (Sensor::Good, true) if spell => "spell",
            (Sensor::Good, false) => "unseen",
            (Sensor::Good, true) => "stolen",
        };
        *self.tally.causes.entry(cause).or_default() += 1;
        let Some(lease) = driver.lease.filter(|_| self.chance(self.lies.tell)) else {
            return self.park_anywhere(driver.garage);
        };
        let report = Report::BayTaken(None);
        match self.ask(Ask::Report { lease, report }) {
            Answer::Allocation(other) if other.end.is_none() => {
                (driver.bay, driver.arrives_ms) = (other.bay, self.now_ms + 20_000);
                self.drivers.push(driver);
            }
            _ => self.park_anywhere(driver.garage),
        }
    }

    /// The driver takes one of the first ten empty bays on the way.
    fn park_anywhere(&mut self, garage: GarageIx) {
        let bays = self.site.garages[garage.at()].bays.clone();
        let empty: Vec<u32> =
            bays.filter(|bay| self.cars[*bay as usize].is_none()).take(10).collect();
        match empty.len() {
            0 => self.tally.turned_away += 1,
            many => {
                let bay = empty[self.draw(many as u64) as usize];
                self.park(bay as usize);
            }
        }
    }
}

/// Two garages behind a portal, a unit a zone.
fn site() -> Site {
    let [bays, zones, garages] = SIZE;
    let mut text = HEAD.to_owned();
    let (mut lines, mut places) = (String::new(), String::new());
    for garage in 1..=garages {
        places += &format!(
            "[[node]]\nid = \"d{garage}\"\nkind = \"door\"\n[[link]]\nfrom = \"p1\"\nto = \
             \"d{garage}\"\nkind = \"ring\"\nlength_m = {}\nspeed_kmh = 20\n[[garage]]\nid = \
             \"g{garage}\"\ndoor = \"d{garage}\"\nat_m = [0, 0]\ncounter = {{ unit = \
             \"u{garage}1\", cars_in = 0, cars_out = 1 }}\n[[garage.level]]\nid = \"B1\"\n\
             drive_s = 20\n",
            garage * 300
        );
        for zone in 1..=zones {
            lines += &format!(
                "[[line.unit]]\nid = \"u{garage}{zone}\"\naddress = {}\nprofile = \"zc\"\n",
                garage * 10 + zone
            );
            places += &format!(
                "[[garage.level.zone]]\nid = \"Z{zone}\"\nbays = \"1-{bays}\"\nunit = \
                 \"u{garage}{zone}\"\nfirst_point = 0\nwalk_s = {}\nspread_s = 30\n",
                zone * 20
            );
        }
    }
    text += &lines;
    text += &places;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("liars.toml");
    std::fs::write(&path, text).expect("a file can be written");
    match config::load(&path) {
        Ok(config) => config.site,
        Err(problems) => panic!("{problems:?}"),
    }
}

const HEAD: &str = r#"
[site]
id = "liars"
name = "Liars"
gateway = "liars-1"
[[class]]
id = "car"
[[node]]
id = "p1"
kind = "portal"
[[profile]]
id = "zc"
source = "made up for tests"
bays = { table = "holding", base = 0, points = 64, layout = { kind = "bits" } }
counters = { table = "holding", base = 100, count = 2, word_order = "high-first" }
[[line]]
id = "l1"
tcp = "127.0.0.1:15021"
"#;

/// Runs worlds of different seeds; conflicts in 10,000 arrivals.
fn rate(name: &str, lies: Lies, seeds: u64, hours: u64) -> u64 {
    let mut all = Tally::default();
    for seed in 1..=seeds {
        let mut world = World::new(lies, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        world.run(hours);
        all.arrivals += world.tally.arrivals;
        all.conflicts += world.tally.conflicts;
        all.turned_away += world.tally.turned_away;
        for (cause, count) in world.tally.causes {
            *all.causes.entry(cause).or_default() += count;
        }
    }
    let rate = all.conflicts * 10_000 / all.arrivals.max(1);
    println!(
        "{name:44} {:6} arrivals {:5} conflicts {}.{:02} % {:?}",
        all.arrivals,
        all.conflicts,
        rate / 100,
        rate % 100,
        all.causes,
    );
    rate
}

const STUCK: Lies = Lies { stuck_free: 100, stuck_occupied: 100, ..HONEST };

/// Half of the stuck sensors read free. All worlds begin with nothing known of any sensor, so that
/// finding each stuck one is part of the figure.
#[test]
fn conflicts_stay_under_one_in_a_hundred_arrivals() {
    let (seeds, hours) = if cfg!(debug_assertions) { (1, 8) } else { (10, 24) };
    let bar = Lies { samples: 130, ..STUCK };
    let kinds = [
        ("sensors right, 2 % ignore us", HONEST, 100),
        ("2 % stuck, 1.3 % of samples wrong, all obey", Lies { ignore: 0, ..bar }, 100),
        ("the same, 2 % ignore us", bar, 100),
        ("the same, 5 % ignore us", Lies { ignore: 500, ..bar }, 150),
        ("2 % stuck, 1.3 % of cars never seen", Lies { unseen: 130, ..STUCK }, 250),
    ];
    for (name, lies, most) in kinds {
        let rate = rate(name, lies, seeds, hours);
        assert!(rate < most, "{name}: {rate} in 10,000");
    }
    if !cfg!(debug_assertions) {
        rate("2 % stuck, 1.3 % wrong for 10 min each", Lies { spells: 130, ..STUCK }, seeds, hours);
    }
}
