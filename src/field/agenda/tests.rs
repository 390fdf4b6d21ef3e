//! A line of simulated units on virtual time: hours of a bus in milliseconds.

mod late;
mod policies;
mod shared;
mod streams;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::field::plan::tests::{counters, detectors, profile};
use crate::field::status::UnitState;
use crate::profile::{Display, Format, Profile};
use crate::site::{BayIx, Face, Line, Sign, SignKind, UnitIx, Wire};

const PERIOD_MS: u64 = 1_000;
const TIMEOUT_MS: u64 = 300;
const ROUND_TRIP_MS: u64 = 5;
const HOUR_MS: u64 = 3_600_000;

#[test]
fn a_dead_unit_never_makes_its_neighbours_late() {
    let mut bus = Bus::new(10, 0);
    bus.act = |asked| if asked.unit == 4 { Outcome::Silent } else { DATA };
    bus.run(HOUR_MS);
    for (unit, starts) in bus.starts.iter().filter(|(unit, _)| **unit != 4) {
        assert!(starts.len() >= 3_599, "unit {unit}: {} sweeps in an hour", starts.len());
        // Its own slot on the grid, and the neighbours before it; never the dead unit's time-out.
        let late = starts.iter().map(|at| at % PERIOD_MS).max().unwrap();
        assert!(late <= 10 * 2 * ROUND_TRIP_MS + TIMEOUT_MS, "unit {unit}: {late} ms late");
        let late = starts[4..].iter().map(|at| at % PERIOD_MS).max().unwrap();
        assert!(late <= 10 * 2 * ROUND_TRIP_MS, "unit {unit}: {late} ms late once it is known");
    }
    let probes = bus.starts[&4].len();
    assert!((62..=95).contains(&probes), "{probes} tries of a dead unit in an hour");
    assert_eq!(bus.agenda.status().missed_slots_total, 0);
    assert_eq!(bus.agenda.status().units[4].state, UnitState::Open);
}

#[test]
fn many_dead_units_cost_one_time_out_a_sweep() {
    let mut bus = Bus::new(40, 0);
    bus.act = |asked| if asked.unit >= 10 { Outcome::Silent } else { DATA };
    bus.run(HOUR_MS);
    for unit in 0..10 {
        let starts = &bus.starts[&unit];
        let gap = starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gap <= PERIOD_MS + 2 * TIMEOUT_MS, "unit {unit} waited {gap} ms");
        // While they are being found, a sweep may end one time-out after its period, twice.
        let late = starts.iter().map(|at| at % PERIOD_MS).max().unwrap();
        assert!(late <= TIMEOUT_MS + 10 * 2 * ROUND_TRIP_MS, "unit {unit}: {late} ms late");
        let late = starts[60..].iter().map(|at| at % PERIOD_MS).max().unwrap();
        assert!(late <= 10 * 2 * ROUND_TRIP_MS, "unit {unit}: {late} ms late once it is known");
    }
    for unit in 10..40 {
        let starts = &bus.starts[&unit];
        let gap = starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        // Each of 30 units in its turn, 51 time-outs from one to the next and on to a slot.
        let turn_ms = (51 * TIMEOUT_MS).next_multiple_of(PERIOD_MS);
        assert!(gap <= 30 * turn_ms + PERIOD_MS, "unit {unit} was left alone for {gap} ms");
    }
}

#[test]
fn a_unit_that_comes_back_is_read_within_a_probe() {
    let mut bus = Bus::new(2, 0);
    bus.act = |asked| match (asked.unit, asked.now_ms) {
        (1, 60_000..600_000) => Outcome::Silent,
        _ => DATA,
    };
    bus.run(700_000);
    let back = bus.readings[&1].iter().find(|at| **at >= 600_000).unwrap();
    assert!(*back <= 661_000, "first reading at {back} ms");
}

#[test]
fn a_gateway_that_reports_silence_keeps_its_connection() {
    let mut bus = Bus::new(2, 0);
    bus.act = |asked| if asked.unit == 1 { Outcome::Exception(11) } else { DATA };
    bus.run(60_000);
    assert_eq!(bus.connects.len(), 1);
    assert_eq!(bus.agenda.status().units[1].state, UnitState::Open);
    assert!(bus.starts[&1].len() < 12, "{}", bus.starts[&1].len());
}

#[test]
fn a_dead_endpoint_is_not_stormed() {
    let mut bus = Bus::new(1, 0);
    bus.reachable = |_| false;
    bus.run(HOUR_MS);
    let first_minute = bus.connects.iter().filter(|at| **at < 60_000).count();
    assert!(first_minute <= 10, "{first_minute} attempts in the first minute");
    assert!((240..=340).contains(&bus.connects.len()), "{} in an hour", bus.connects.len());
}

#[test]
fn a_peer_that_only_accepts_is_not_stormed() {
    let mut bus = Bus::new(3, 0);
    bus.act = |_| Outcome::Closed { why: "reset".into() };
    bus.run(HOUR_MS);
    assert!(bus.connects.len() < 1_100, "{} connections in an hour", bus.connects.len());
}

#[test]
fn slots_that_pass_while_the_line_is_down_are_counted() {
    let mut bus = Bus::new(1, 0);
    bus.reachable = |now| now >= 30_000;
    bus.run(120_000);
    let status = bus.agenda.status();
    assert_eq!(status.sweeps_total + status.missed_slots_total, 120);
    assert!((30..=46).contains(&status.missed_slots_total), "{}", status.missed_slots_total);
}

#[test]
fn a_unit_that_refuses_holes_is_read_around_them() {
    let mut bus = Bus::with(1, profile(Some(detectors(32, None)), Some(counters(10, 1))), 0);
    bus.act = |asked| if asked.count == 12 { Outcome::Exception(2) } else { DATA };
    bus.run(10_000);
    assert_eq!(bus.readings[&0].len(), 10);
    let unit = &bus.agenda.status().units[0];
    assert_eq!((unit.exceptions_total[&2], unit.blocks_cut, unit.left_out), (1, 1, 0));
}

#[test]
fn writes_go_first_but_do_not_starve_reads() {
    let mut bus = Bus::new(2, 200);
    for slot in 0..200 {
        bus.agenda.want(slot, &[slot as u16]);
    }
    bus.run(10_000);
    assert_eq!(bus.log[..3], ["connect", "write 0", "write 2"]);
    let writes = bus.log.iter().filter(|job| job.starts_with("write")).count();
    assert_eq!(writes, 200);
    // 200 writes take a second; the sweeps of both units go on between them.
    for unit in 0..2 {
        assert_eq!(bus.readings[&unit].len(), 10, "unit {unit}");
    }
}

#[test]
fn an_open_unit_costs_its_signs_no_time_outs_at_a_stop() {
    let mut bus = Bus::new(2, 4);
    bus.act = |asked| if asked.unit == 0 { Outcome::Silent } else { DATA };
    (0..4).for_each(|slot| bus.agenda.want(slot, &[1]));
    bus.run(60_000);
    (0..4).for_each(|slot| bus.agenda.want(slot, &[10_000]));
    bus.agenda.stop();
    let before = (bus.now_ms, bus.log.len());
    // Signs of unit 1 would be written here; all four hang on unit 0, which is given up.
    bus.run(10_000);
    assert!(bus.finished && bus.now_ms == before.0 && bus.log.len() == before.1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever comes back, the line goes on: it never waits into the past, never asks for
    /// nothing, and once everything answers again it is up to date within a probe.
    #[test]
    fn no_outcome_stops_a_line(seed: u64) {
        let mut bus = Bus::new(5, 20);
        bus.random = Some(Jitter::new(seed));
        for slot in 0..20 {
            bus.agenda.want(slot, &[slot as u16]);
            bus.run(1_000);
        }
        bus.run(60_000);
        bus.random = None;
        let calm = bus.now_ms;
        // The longest wait for a probe, the longest after a costly one, and a last sign's refresh.
        bus.run(150_000);
        for unit in 0..5 {
            let late = bus.readings[&unit].iter().filter(|at| **at > calm + 80_000).count();
            prop_assert!(late >= 69, "unit {}: {} readings", unit, late);
        }
        let status = bus.agenda.status();
        prop_assert_eq!((status.units[0].signs_desired, status.units[0].signs_confirmed), (20, 20));
    }
}

/// One request, as a simulated unit sees it.
#[derive(Clone, Copy, Debug)]
struct Asked {
    unit: usize,
    now_ms: u64,
    first: u16,
    count: u16,
    write: bool,
}

/// What a request gives; data is filled in.
type Act = fn(Asked) -> Outcome;

/// A good answer.
const DATA: Outcome = Outcome::Words(Vec::new());

/// The line's owner on virtual time.
struct Bus {
    agenda: Agenda,
    now_ms: u64,
    act: Act,
    reachable: fn(u64) -> bool,
    /// Outcomes by chance, where set.
    random: Option<Jitter>,
    connected: bool,
    finished: bool,
    log: Vec<String>,
    connects: Vec<u64>,
    /// When each unit's first block was asked for, and its readings given.
    starts: BTreeMap<usize, Vec<u64>>,
    readings: BTreeMap<usize, Vec<u64>>,
    last: BTreeMap<usize, Reading>,
    timeout_ms: u64,
    round_trip_ms: u64,
    /// What an exception of code 0 becomes.
    code: u8,
    writes: Vec<u64>,
    /// Unit 0 may not be asked until then, on a line without transactions.
    alone_until_ms: u64,
    /// Time spent in time-outs.
    wasted_ms: u64,
}

impl Bus {
    /// Units with two blocks each, and signs on the first, each at every second address.
    fn new(units: usize, signs: u16) -> Bus {
        let mut profile = profile(Some(detectors(64, None)), Some(counters(100, 1)));
        let format = Format::number(9_999, 10_001, 10_002, 10_000);
        profile.sign = Some(Display {
            base: 0,
            stride: 2,
            displays: 256,
            format,
            replies: true,
            one_register: false,
            read_back: false,
            write_max: None,
        });
        Bus::with(units, profile, signs)
    }

    fn with(units: usize, profile: Profile, signs: u16) -> Bus {
        let site = site(units, profile, signs);
        let ixs = &site.lines[0].units;
        let status = LineStatus::new(LineIx(0), ixs);
        Bus {
            agenda: Agenda::new(&site, LineIx(0), Mono(0), 7, status),
            now_ms: 0,
            act: |_| DATA,
            reachable: |_| true,
            random: None,
            connected: false,
            finished: false,
            log: Vec::new(),
            connects: Vec::new(),
            starts: BTreeMap::new(),
            readings: BTreeMap::new(),
            last: BTreeMap::new(),
            timeout_ms: TIMEOUT_MS,
            round_trip_ms: ROUND_TRIP_MS,
            code: 0,
            writes: Vec::new(),
            alone_until_ms: 0,
            wasted_ms: 0,
        }
    }

    fn set_timeout(&mut self, timeout_ms: u64) {
        self.timeout_ms = timeout_ms;
        for unit in &mut self.agenda.units {
            unit.timeout = Duration::from_millis(timeout_ms);
        }
    }

    /// A line whose answers carry no transaction id.
    fn without_transactions(mut self) -> Bus {
        self.agenda.transactions = false;
        self
    }

    /// Does what the agenda says for this long.
    fn run(&mut self, length_ms: u64) {
        let end_ms = self.now_ms + length_ms;
        while self.now_ms < end_ms && !self.finished {
            let now = Mono(0).plus_ms(self.now_ms);
            match self.agenda.next(now) {
                Job::Finished => self.finished = true,
                Job::Wait { until } => {
                    let until = until.map_or(end_ms, |until| until.0.div_ceil(1_000_000));
                    assert!(until > self.now_ms, "a wait into the past would spin");
                    self.now_ms = until.min(end_ms);
                }
                job => {
                    let outcome = match self.outcome(&job) {
                        Outcome::Exception(0) => Outcome::Exception(self.code),
                        outcome => outcome,
                    };
                    self.finish(job, outcome);
                }
            }
        }
    }

    fn outcome(&mut self, job: &Job) -> Outcome {
        let chance = self.random.as_mut().map_or(0, |random| random.below(12));
        match (job, chance) {
            (Job::Connect, 10 | 11) => Outcome::NotConnected { why: "refused".into() },
            (Job::Connect, _) if (self.reachable)(self.now_ms) => Outcome::Connected,
            (Job::Connect, _) => Outcome::NotConnected { why: "refused".into() },
            (_, 6 | 7) => Outcome::Silent,
            (_, 8) => Outcome::Nonsense { why: "length".into() },
            (_, 9) => Outcome::Closed { why: "reset".into() },
            (_, 10) => Outcome::Exception(11),
            (_, 11) => Outcome::Exception(2),
            (Job::Read { address, first, count, .. }, _) => {
                match (self.act)(self.asked(*address, *first, *count, false)) {
                    Outcome::Words(_) => Outcome::Words(vec![0; usize::from(*count)]),
                    outcome => outcome,
                }
            }
            (Job::Write { address, first, values, .. }, _) => {
                match (self.act)(self.asked(*address, *first, values.len() as u16, true)) {
                    Outcome::Words(_) => Outcome::Written,
                    outcome => outcome,
                }
            }
            (Job::Wait { .. } | Job::Finished, _) => unreachable!("handled by the caller"),
        }
    }

    /// Holds unit 0 to the rule that it is left alone after it failed to answer.
    fn watch_alone(&mut self, job: &Job, outcome: &Outcome, took_ms: u64) {
        let late = matches!(outcome, Outcome::Silent | Outcome::Nonsense { .. });
        self.wasted_ms += if *outcome == Outcome::Silent { took_ms } else { 0 };
        let (Job::Read { address: 0, .. } | Job::Write { address: 0, .. }) = job else {
            return;
        };
        if !self.agenda.transactions {
            let asked_ms = self.now_ms - took_ms;
            assert!(asked_ms >= self.alone_until_ms, "asked {asked_ms} of {}", self.alone_until_ms);
            if late {
                self.alone_until_ms = self.now_ms + 3 * self.timeout_ms;
            }
        }
    }

    fn asked(&self, address: u8, first: u16, count: u16, write: bool) -> Asked {
        Asked { unit: usize::from(address), now_ms: self.now_ms, first, count, write }
    }

    fn finish(&mut self, job: Job, outcome: Outcome) {
        match &job {
            Job::Connect => {
                assert!(!self.connected, "two connections");
                self.connects.push(self.now_ms);
                self.log.push("connect".into());
            }
            Job::Read { address, first, .. } => {
                assert!(self.connected, "a read without a connection");
                if *first == 0 {
                    self.starts.entry(usize::from(*address)).or_default().push(self.now_ms);
                }
                self.log.push(format!("read {address} {first}"));
            }
            Job::Write { first, .. } => {
                assert!(self.connected, "a write without a connection");
                self.log.push(format!("write {first}"));
                self.writes.push(self.now_ms);
            }
            Job::Wait { .. } | Job::Finished => (),
        }
        let took_ms = if outcome == Outcome::Silent { self.timeout_ms } else { self.round_trip_ms };
        self.now_ms += took_ms;
        self.connected = match outcome {
            Outcome::Closed { .. } | Outcome::NotConnected { .. } => false,
            Outcome::Silent | Outcome::Nonsense { .. } => {
                !self.agenda.transactions && matches!(self.agenda.link, Link::Up)
            }
            Outcome::Connected => true,
            _ => self.connected,
        };
        self.watch_alone(&job, &outcome, took_ms);
        let now = Mono(0).plus_ms(self.now_ms);
        let took = Duration::from_millis(took_ms);
        if let Some(reading) = self.agenda.done(now, now, took, outcome) {
            self.readings.entry(reading.unit.at()).or_default().push(self.now_ms);
            self.last.insert(reading.unit.at(), reading);
        }
        // Without transactions it is the agenda that gives the connection up.
        self.connected &= matches!(self.agenda.link, Link::Up);
    }
}

fn site(units: usize, profile: Profile, signs: u16) -> Arc<Site> {
    let points = profile.bays.as_ref().map_or(0, |bays| u32::from(bays.points));
    let unit = |n: usize| crate::site::Unit {
        id: format!("u{n}"),
        line: LineIx(0),
        address: n as u8,
        profile: 0,
        timeout_ms: TIMEOUT_MS as u32,
        gap_ms: 0,
        turnaround_ms: 20,
        bays: (0..points).map(|bay| Some(BayIx(bay))).collect(),
    };
    let sign = |index: u16| Sign {
        id: format!("s{index}"),
        name: String::new(),
        kind: SignKind::Count {
            scopes: vec![],
            class: None,
            keep_back: 0,
            offset: 0,
            min: 0,
            max: 9_999,
        },
        unit: UnitIx(0),
        index,
        node: None,
        fallback: Face::Blank,
        change_delay_s: 0,
        schedule: vec![],
    };
    let line = Line {
        id: "l0".into(),
        wire: Wire::Tcp { endpoint: "127.0.0.1:1".into() },
        period_ms: PERIOD_MS as u32,
        units: (0..units as u32).map(UnitIx).collect(),
    };
    Arc::new(Site {
        config: String::new(),
        time_zone: jiff::tz::TimeZone::UTC,
        ledger_reset: None,
        id: "t".into(),
        name: "T".into(),
        gateway: "g".into(),
        nodes: vec![],
        links: vec![],
        destinations: vec![],
        classes: vec![],
        garages: vec![],
        levels: vec![],
        zones: vec![],
        bays: vec![],
        lines: vec![line],
        units: (0..units).map(unit).collect(),
        profiles: vec![profile],
        signs: (0..signs).map(sign).collect(),
        contacts: Vec::new(),
        outputs: vec![],
        lamps: crate::site::LampTable::default(),
    })
}
