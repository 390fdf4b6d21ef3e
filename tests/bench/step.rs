//! How long the gateway takes for one step at the reference site: `cargo bench --bench step`.
//!
//! Prints p50, p99 and the worst of each kind of step at 21,000 bays, 95 % full, and beside them
//! in the same run the same question answered by a naive look at every bay. The bar for an
//! arrival is a p99 under 50 us; this program fails where it is missed (`PARKWAY_NO_BAR=1` only
//! prints, for a machine that is busy with something else).

use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parkway::config;
use parkway::gateway::{Ask, Effect, Gateway, Identity, Input, Reading, ReplyId, Report, Request};
use parkway::site::{ClassIx, DestinationIx, NodeIx, NodeKind, Site, UnitIx};
use parkway::time::{Mono, Now, Wall};

const ARRIVALS: usize = 20_000;
const BAR_P99: Duration = Duration::from_micros(50);

fn main() -> ExitCode {
    // `cargo test --benches` asks for a quick look, not for figures.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/jiefangbei/parkway.toml");
    let config = match config::load(&path) {
        Ok(config) => config,
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
            return ExitCode::FAILURE;
        }
    };
    let mut rig = Rig::new(config);
    let arrivals = rig.arrivals(if quick { 200 } else { ARRIVALS });
    let (same, one, all) = rig.readings(if quick { 20 } else { 2_000 });
    let naive = rig.naive(if quick { 20 } else { 2_000 });
    println!("{} bays, 95 % full, one thread", rig.site.bays.len());
    println!("{:<42} {:>9} {:>9} {:>9}", "step", "p50 us", "p99 us", "worst us");
    let p99 = row("arrival: granted, recorded, kept, answered", arrivals.0);
    row("cancelled: bay back, recorded, answered", arrivals.1);
    row("reading of 630 bays: nothing changed", same);
    row("reading of 630 bays: one changed", one);
    row("reading of 630 bays: all changed", all);
    row("reference: naive look at every bay", naive);
    if !quick && p99 > BAR_P99 && std::env::var_os("PARKWAY_NO_BAR").is_none() {
        println!("an arrival's p99 misses its bar of {BAR_P99:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn row(name: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 1_000];
    let us = |time: Duration| time.as_nanos() as f64 / 1_000.0;
    println!("{name:<42} {:>9.2} {:>9.2} {:>9.2}", us(at(500)), us(at(990)), us(at(1_000)));
    at(990)
}

struct Rig {
    site: Arc<Site>,
    gateway: Gateway,
    now: Now,
    effects: Vec<Effect>,
    origins: Vec<NodeIx>,
    dice: u64,
    asked: u64,
}

impl Rig {
    fn new(config: config::Config) -> Rig {
        let site = Arc::new(config.site);
        let identity = Identity { run: 1, boot: "bench".to_owned(), version: "0".to_owned() };
        let guidance = config::GuidanceTable { debounce_ms: 0, ..config.guidance };
        let gateway = Gateway::new(site.clone(), guidance, identity);
        let origin = |(_, node): &(NodeIx, &parkway::site::Node)| {
            matches!(node.kind, NodeKind::Approach | NodeKind::Portal)
        };
        let nodes = (0..).map(NodeIx).zip(&site.nodes);
        let origins = nodes.filter(origin).map(|(ix, _)| ix).collect();
        let now = Now { mono: Mono(1_000_000_000), wall: Wall(0) };
        let mut rig = Rig { site, gateway, now, effects: Vec::new(), origins, dice: 1, asked: 0 };
        for unit in rig.bay_units() {
            let reading = rig.reading(unit, 950);
            rig.step(Input::Reading(reading));
        }
        rig
    }

    fn bay_units(&self) -> Vec<UnitIx> {
        let units = (0..).map(UnitIx).zip(&self.site.units);
        units.filter(|(_, unit)| !unit.bays.is_empty()).map(|(ix, _)| ix).collect()
    }

    /// A unit's bays, each occupied with this chance in a thousand.
    fn reading(&mut self, unit: UnitIx, occupied_permille: u64) -> Reading {
        let points = self.site.units[unit.at()].bays.len();
        let mut occupied = vec![0u64; points.div_ceil(64)];
        for point in 0..points {
            if self.below(1_000) < occupied_permille {
                occupied[point / 64] |= 1 << (point % 64);
            }
        }
        let known = vec![u64::MAX; occupied.len()];
        Reading {
            unit,
            at: self.now.mono,
            occupied,
            known,
            counters: vec![0, 0],
            contacts: 0,
            contacts_known: 0,
        }
    }

    fn step(&mut self, input: Input) -> Duration {
        self.now.mono = Mono(self.now.mono.0 + 1_000);
        self.effects.clear();
        let started = Instant::now();
        self.gateway.step(self.now, input, &mut self.effects);
        started.elapsed()
    }

    /// Arrives and cancels, so that the site stays as full as it is.
    fn arrivals(&mut self, count: usize) -> (Vec<Duration>, Vec<Duration>) {
        let (mut arrive, mut cancel) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let request = self.request();
            self.asked += 1;
            let reply = ReplyId(self.asked);
            arrive.push(self.step(Input::Asked { ask: Ask::Arrive(request), reply }));
            let Some(lease) = self.granted() else { continue };
            let ask = Ask::Report { lease, report: Report::Cancelled };
            cancel.push(self.step(Input::Asked { ask, reply }));
        }
        (arrive, cancel)
    }

    fn request(&mut self) -> Request {
        let origin = self.below(self.origins.len() as u64) as usize;
        let at = self.origins[origin];
        let destinations = self.site.destinations.len() as u64;
        Request {
            request_id: format!("bench-{}", self.asked).into(),
            at,
            destination: Some(DestinationIx(self.below(destinations) as u32)),
            class: ClassIx(0),
            eta_s: 0,
            tail: None,
            vehicle: None,
        }
    }

    fn granted(&self) -> Option<parkway::gateway::LeaseId> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Answer { answer: parkway::gateway::Answer::Allocation(allocation), .. } => {
                allocation.lease
            }
            _ => None,
        })
    }

    fn readings(&mut self, rounds: usize) -> (Vec<Duration>, Vec<Duration>, Vec<Duration>) {
        let (mut same, mut one, mut all) = (Vec::new(), Vec::new(), Vec::new());
        let units = self.bay_units();
        for round in 0..rounds {
            let unit = units[round % units.len()];
            let mut reading = self.reading(unit, 950);
            self.step(Input::Reading(reading.clone()));
            same.push(self.step(Input::Reading(reading.clone())));
            reading.occupied[0] ^= 1;
            one.push(self.step(Input::Reading(reading.clone())));
            reading.occupied.iter_mut().for_each(|word| *word = !*word);
            all.push(self.step(Input::Reading(reading.clone())));
            reading.occupied.iter_mut().for_each(|word| *word = !*word);
            self.step(Input::Reading(reading));
        }
        (same, one, all)
    }

    /// The cheapest of all bays by looking at each: one cost, one comparison, nothing else.
    fn naive(&mut self, rounds: usize) -> Vec<Duration> {
        let free: Vec<bool> = (0..self.site.bays.len()).map(|_| self.below(20) == 0).collect();
        let drive_ms: Vec<u64> =
            (0..self.site.garages.len()).map(|_| self.below(900_000)).collect();
        let mut times = Vec::new();
        for _ in 0..rounds {
            let destination = self.below(self.site.destinations.len() as u64) as usize;
            let walk_s = &self.site.destinations[destination].walk_s;
            let started = Instant::now();
            let mut best = (u64::MAX, 0);
            for (ix, bay) in self.site.bays.iter().enumerate() {
                if !free[ix] || bay.class != ClassIx(0) {
                    continue;
                }
                let zone = &self.site.zones[bay.zone.at()];
                let walk = u64::from(zone.walk_s + walk_s[bay.garage.at()]) * 2_000;
                let cost = drive_ms[bay.garage.at()] + u64::from(zone.drive_s) * 1_000 + walk;
                best = best.min((cost, ix));
            }
            black_box(best);
            times.push(started.elapsed());
        }
        times
    }

    /// splitmix64: the same site every time.
    fn below(&mut self, bound: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
