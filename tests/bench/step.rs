//! How long the gateway takes for one step: `cargo bench --bench step`.
//!
//! Prints p50, p99 and the worst of each kind of step, the clock's own cost included, at 95 % full:
//! first at the reference site's 21,000 bays, warm and with the caches flushed before each step by
//! a walk over 64 MiB, then how it grows from 1,000 to 100,000 bays. Beside it in the same run the
//! same question answered by a naive look at every bay. What a step says is worded outside of it
//! (`gateway/telling.rs`); that has a row of its own.
//!
//! Bars at 21,000 bays: the index gives a bay within 200 ns at p50 and 1 us at p99; an arrival, a
//! cancelled lease and a reading of which nothing or one bay changed within 500 ns and 2 us, at p99
//! 10 us from cold caches. A reading that changes all 630 bays is 630 changes: it has a bar a bay.
//! This program fails where one is missed (`PARKWAY_NO_BAR=1` only prints, for a machine that is
//! busy with something else).

#[path = "sites.rs"]
mod sites;

use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parkway::config::{self, GuidanceTable, TruthTable};
use parkway::gateway::measure::Taker;
use parkway::gateway::{
    Answer, Ask, Effect, Gateway, Identity, Input, LeaseId, Reading, ReplyId, Report, Request,
};
use parkway::record::Sensed;
use parkway::site::{BayIx, ClassIx, DestinationIx, NodeIx, NodeKind, Site, UnitIx};
use parkway::time::{Mono, Now, Wall};

const SIZES: [usize; 5] = [1_000, 5_000, 21_000, 50_000, 100_000];
const REFERENCE: usize = 21_000;
const TAKE: Bar = (200, 1_000);
const STEP: Bar = (500, 2_000);
const COLD: Bar = (u64::MAX, 10_000);
/// For each of 630 bays that change at once.
const EACH_BAY: Bar = (100, 200);

/// In nanoseconds: p50, p99.
type Bar = (u64, u64);

/// How often each thing is measured.
#[derive(Clone, Copy)]
struct Rounds {
    warm: usize,
    cold: usize,
}

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
    let rounds =
        if quick { Rounds { warm: 50, cold: 2 } } else { Rounds { warm: 20_000, cold: 300 } };
    let mut table = Table { missed: Vec::new() };
    println!("{REFERENCE} bays, 95 % full, one thread; load {}", load());
    println!("{:<44} {:>8} {:>8} {:>8}   bar: p50, p99", "ns", "p50", "p99", "worst");
    table.row("the clock alone", (0..1_000).map(|_| Instant::now().elapsed()).collect(), None);
    reference(&mut table, &config.site, &config.guidance, rounds);
    grows(
        &config.site,
        &config.guidance,
        if quick { rounds } else { Rounds { warm: 5_000, cold: 0 } },
    );
    if quick || table.missed.is_empty() || std::env::var_os("PARKWAY_NO_BAR").is_some() {
        return ExitCode::SUCCESS;
    }
    println!("missed: {}", table.missed.join("; "));
    ExitCode::FAILURE
}

/// Everything at the reference site.
fn reference(table: &mut Table, site: &Site, guidance: &GuidanceTable, rounds: Rounds) {
    let site = Arc::new(site.clone());
    let mut index = Index::new(&site, guidance);
    let (takes, gives) = index.takes(rounds.warm, None);
    table.row("index: cheapest bay taken", takes, Some(TAKE));
    table.row("index: bay given back", gives, Some(TAKE));
    let mut rig = Rig::new(&site, guidance);
    let mut flush = Flush::new();
    rig.arrivals(rounds.warm / 4, None);
    let warm = rig.arrivals(rounds.warm, None);
    table.row("arrival: granted, recorded, kept, answered", warm.arrive, Some(STEP));
    table.row("cancelled: bay back, recorded, answered", warm.cancel, Some(STEP));
    let warm_readings = rig.readings(rounds.warm / 10, None);
    table.row("reading of 630 bays: nothing changed", warm_readings.same, Some(STEP));
    table.row("reading of 630 bays: one changed", warm_readings.one, Some(STEP));
    let each: Vec<Duration> = warm_readings.all.iter().map(|time| *time / 630).collect();
    table.row("reading of 630 bays: all changed", warm_readings.all, None);
    table.row("  for each of them", each, Some(EACH_BAY));
    let (takes, _) = index.takes(rounds.cold, Some(&mut flush));
    table.row("cold: index, cheapest bay taken", takes, Some(COLD));
    let cold = rig.arrivals(rounds.cold, Some(&mut flush));
    table.row("cold: arrival", cold.arrive, Some(COLD));
    table.row("cold: cancelled", cold.cancel, Some(COLD));
    let cold = rig.readings(rounds.cold, Some(&mut flush));
    table.row("cold: reading, nothing changed", cold.same, Some(COLD));
    table.row("cold: reading, one changed", cold.one, Some(COLD));
    table.row("cold: reading, all 630 changed", cold.all, None);
    table.row("outside the step: an arrival worded", warm.word, None);
    table.row("naive look at every bay", index.naive(rounds.warm / 10), None);
}

/// How it grows with the bays.
fn grows(whole: &Site, guidance: &GuidanceTable, rounds: Rounds) {
    println!(
        "\np50 and p99 in ns   {:>8} {:>15} {:>15} {:>15} {:>15} {:>17}",
        "garages", "index take", "arrival", "cancelled", "one bay changed", "naive look"
    );
    for size in SIZES {
        let site = Arc::new(sites::sized(whole, size));
        let mut index = Index::new(&site, guidance);
        let mut rig = Rig::new(&site, guidance);
        rig.arrivals(rounds.warm / 4, None);
        let arrivals = rig.arrivals(rounds.warm, None);
        let columns = [
            index.takes(rounds.warm, None).0,
            arrivals.arrive,
            arrivals.cancel,
            rig.readings(rounds.warm / 10, None).one,
            index.naive(rounds.warm / 10),
        ];
        print!("{:>7} bays       {:>8}", site.bays.len(), site.garages.len());
        for mut times in columns {
            times.sort_unstable();
            print!(" {:>7} {:>7}", at(&times, 500).as_nanos(), at(&times, 990).as_nanos());
        }
        println!();
    }
}

fn at(sorted: &[Duration], permille: usize) -> Duration {
    sorted.get((sorted.len().max(1) - 1) * permille / 1_000).copied().unwrap_or_default()
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

struct Table {
    missed: Vec<String>,
}

impl Table {
    fn row(&mut self, name: &str, mut times: Vec<Duration>, bar: Option<Bar>) {
        times.sort_unstable();
        let [p50, p99, worst] = [500, 990, 1_000].map(|share| at(&times, share).as_nanos() as u64);
        print!("{name:<44} {p50:>8} {p99:>8} {worst:>8}");
        if let Some((p50_bar, p99_bar)) = bar {
            let ok = p50 <= p50_bar && p99 <= p99_bar;
            let p50_bar = if p50_bar == u64::MAX { "-".to_owned() } else { p50_bar.to_string() };
            print!("   {p50_bar}, {p99_bar}: {}", if ok { "ok" } else { "MISSED" });
            if !ok {
                self.missed.push(name.trim().to_owned());
            }
        }
        println!();
    }
}

/// Drives everything else out of the caches.
struct Flush(Vec<u64>);

impl Flush {
    fn new() -> Flush {
        Flush(vec![1; 64 * 1_024 * 1_024 / 8])
    }

    fn walk(&mut self) {
        for line in self.0.iter_mut().step_by(8) {
            *line = line.wrapping_mul(3);
        }
        black_box(&self.0);
    }
}

/// splitmix64: the same site every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

fn origins(site: &Site) -> Vec<NodeIx> {
    let nodes = (0..).map(NodeIx).zip(&site.nodes);
    let origin =
        |node: &parkway::site::Node| matches!(node.kind, NodeKind::Approach | NodeKind::Portal);
    nodes.filter(|(_, node)| origin(node)).map(|(ix, _)| ix).collect()
}

/// The index with nothing around it.
struct Index {
    site: Arc<Site>,
    taker: Taker,
    free: Vec<bool>,
    origins: Vec<NodeIx>,
    dice: Dice,
}

impl Index {
    fn new(site: &Arc<Site>, guidance: &GuidanceTable) -> Index {
        let (mut taker, mut dice) = (Taker::new(site, guidance), Dice(1));
        let free: Vec<bool> = site.bays.iter().map(|_| dice.below(20) == 0).collect();
        for (ix, _) in free.iter().enumerate().filter(|(_, free)| !**free) {
            taker.sense(BayIx(ix as u32), Sensed::Occupied);
        }
        taker.settle();
        Index { site: site.clone(), taker, free, origins: origins(site), dice }
    }

    /// Takes and gives back; bays taken stay so for 100 turns, so that the site is moved in.
    fn takes(
        &mut self,
        rounds: usize,
        mut flush: Option<&mut Flush>,
    ) -> (Vec<Duration>, Vec<Duration>) {
        let (mut takes, mut gives) = (Vec::new(), Vec::new());
        let mut taken = std::collections::VecDeque::new();
        for _ in 0..rounds {
            let at = self.origins[self.dice.below(self.origins.len())];
            let to = DestinationIx(self.dice.below(self.site.destinations.len()) as u32);
            flush.iter_mut().for_each(|flush| flush.walk());
            let started = Instant::now();
            let bay = self.taker.take(at, Some(to), ClassIx(0));
            takes.push(started.elapsed());
            taken.extend(bay);
            if taken.len() > self.site.bays.len() / 100
                && let Some(bay) = taken.pop_front()
            {
                let started = Instant::now();
                self.taker.release(bay);
                gives.push(started.elapsed());
            }
        }
        taken.into_iter().for_each(|bay| self.taker.release(bay));
        (takes, gives)
    }

    /// The cheapest of all bays by looking at each: one cost, one comparison, nothing else.
    fn naive(&mut self, rounds: usize) -> Vec<Duration> {
        let drive_ms: Vec<u64> =
            self.site.garages.iter().map(|_| self.dice.below(900_000) as u64).collect();
        let mut times = Vec::new();
        for _ in 0..rounds {
            let destination = self.dice.below(self.site.destinations.len());
            let walk_s = &self.site.destinations[destination].walk_s;
            let started = Instant::now();
            let mut best = (u64::MAX, 0);
            for (ix, bay) in self.site.bays.iter().enumerate() {
                if !self.free[ix] || bay.class != ClassIx(0) {
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
}

#[derive(Default)]
struct Arrivals {
    arrive: Vec<Duration>,
    cancel: Vec<Duration>,
    /// Wording one.
    word: Vec<Duration>,
}

#[derive(Default)]
struct Readings {
    same: Vec<Duration>,
    one: Vec<Duration>,
    all: Vec<Duration>,
}

/// A gateway at the site, read once.
struct Rig {
    site: Arc<Site>,
    gateway: Gateway,
    now: Now,
    effects: Vec<Effect>,
    origins: Vec<NodeIx>,
    dice: Dice,
    asked: u64,
}

impl Rig {
    fn new(site: &Arc<Site>, guidance: &GuidanceTable) -> Rig {
        let identity = Identity { run: 1, boot: "bench".to_owned(), version: "0".to_owned() };
        // Every reading counts at once, and no bay is suspected for changing at each.
        let truth = TruthTable {
            debounce_reads: 1,
            free_debounce_ms: 0,
            booked_free_ms: 0,
            flap_max: u8::MAX,
            ..guidance.truth.clone()
        };
        let guidance = GuidanceTable { debounce_ms: 0, truth, ..guidance.clone() };
        let mut rig = Rig {
            gateway: Gateway::new(site.clone(), guidance, identity),
            origins: origins(site),
            site: site.clone(),
            now: Now { mono: Mono(1_000_000_000), wall: Wall(0) },
            effects: Vec::new(),
            dice: Dice(1),
            asked: 0,
        };
        for unit in rig.bay_units() {
            let reading = rig.reading(unit);
            rig.step(Input::Reading(reading));
        }
        rig
    }

    fn bay_units(&self) -> Vec<UnitIx> {
        let units = (0..).map(UnitIx).zip(&self.site.units);
        units.filter(|(_, unit)| !unit.bays.is_empty()).map(|(ix, _)| ix).collect()
    }

    /// A unit's bays, 95 % of them occupied.
    fn reading(&mut self, unit: UnitIx) -> Reading {
        let points = self.site.units[unit.at()].bays.len();
        let mut occupied = vec![0u64; points.div_ceil(64)];
        for point in 0..points {
            if self.dice.below(1_000) < 950 {
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

    /// Arrives, and cancels what arrived a hundredth of the site ago: as full as it was.
    fn arrivals(&mut self, count: usize, mut flush: Option<&mut Flush>) -> Arrivals {
        let mut times = Arrivals::default();
        let mut open = std::collections::VecDeque::new();
        let (teller, mut words) = (self.gateway.teller(), Vec::new());
        for round in 0..count {
            let request = self.request();
            self.asked += 1;
            let reply = ReplyId(self.asked);
            flush.iter_mut().for_each(|flush| flush.walk());
            times.arrive.push(self.step(Input::Asked { ask: Ask::Arrive(request), reply }));
            open.extend(self.granted());
            if round % 10 == 0 {
                let started = Instant::now();
                self.effects.drain(..).for_each(|effect| teller.word(effect, &mut words));
                times.word.push(started.elapsed());
                words.clear();
            }
            if open.len() > self.site.bays.len() / 100
                && let Some(lease) = open.pop_front()
            {
                flush.iter_mut().for_each(|flush| flush.walk());
                times.cancel.push(self.cancel(lease));
            }
        }
        for lease in open {
            flush.iter_mut().for_each(|flush| flush.walk());
            times.cancel.push(self.cancel(lease));
        }
        times
    }

    fn cancel(&mut self, lease: LeaseId) -> Duration {
        let ask = Ask::Report { lease, report: Report::Cancelled };
        self.step(Input::Asked { ask, reply: ReplyId(self.asked) })
    }

    fn request(&mut self) -> Request {
        Request {
            request_id: format!("bench-{}", self.asked).into(),
            at: self.origins[self.dice.below(self.origins.len())],
            destination: Some(DestinationIx(self.dice.below(self.site.destinations.len()) as u32)),
            class: ClassIx(0),
            eta_s: 0,
            tail: None,
            vehicle: None,
        }
    }

    fn granted(&self) -> Option<LeaseId> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Answer { answer: Answer::Allocation(allocation), .. } => allocation.lease,
            _ => None,
        })
    }

    fn readings(&mut self, rounds: usize, mut flush: Option<&mut Flush>) -> Readings {
        let mut times = Readings::default();
        let units = self.bay_units();
        let flip = |words: &mut Vec<u64>| words.iter_mut().for_each(|word| *word = !*word);
        for round in 0..rounds {
            let unit = units[round % units.len()];
            let mut reading = self.reading(unit);
            let point = self.dice.below(self.site.units[unit.at()].bays.len());
            let mut cold = || flush.iter_mut().for_each(|flush| flush.walk());
            // Each as new as if it came from the line: a reading that was just built is warm.
            self.step(Input::Reading(reading.clone()));
            cold();
            times.same.push(self.step(Input::Reading(reading.clone())));
            reading.occupied[point / 64] ^= 1 << (point % 64);
            cold();
            times.one.push(self.step(Input::Reading(reading.clone())));
            if round % 10 == 0 {
                flip(&mut reading.occupied);
                cold();
                times.all.push(self.step(Input::Reading(reading.clone())));
                flip(&mut reading.occupied);
                self.step(Input::Reading(reading));
            }
        }
        times
    }
}
