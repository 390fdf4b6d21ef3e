//! What happens to the daemon, and the judge of its promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Dice;
use super::daemon::{Daemon, Outside, expired};
use super::disk::Disk;
use super::upstream::Upstream;
use crate::gateway::{Answer, Ask, Input, LeaseId, LeaseTold, Reading, Report, Request, testing};
use crate::outbox::Verdict;
use crate::record::{Body, Lane, Sensed};
use crate::site::{BayIx, Site, Target, UnitIx};
use crate::time::{Mono, Now, Wall};

/// Bays are read so often, in ms.
const PERIOD_MS: u64 = 1_000;
const BOOT_NS: u64 = 10_000_000_000;
const DAY_MS: i64 = 86_400_000;
const CLOSABLE: [&str; 4] = ["g1", "g1/B1/A", "g2/B1/A/007", "g2"];

/// What many seeds together have to bring about for the judge to have seen anything.
pub const MUST_HAPPEN: [&str; 13] = [
    "kill",
    "power cut",
    "torn commit",
    "promise restored",
    "undurable answer",
    "disk full",
    "stall",
    "set aside",
    "link lost",
    "ack lost",
    "refused",
    "clock set",
    "judged whole",
];

/// A promise that went out to a driver.
#[derive(Clone, Debug)]
struct Promised {
    bay: Option<BayIx>,
    /// Not to be ended before this for want of a car, in this boot.
    deadline: Mono,
    /// The same as last told durable; `None` where it never was.
    durable: Option<Mono>,
}

pub struct World {
    site: Arc<Site>,
    outside: Outside,
    daemon: Daemon,
    now: Now,
    next_sweep: Mono,
    boots: u32,
    runs: u32,
    truth: Vec<Sensed>,
    alive: [bool; 2],
    promised: BTreeMap<LeaseId, Promised>,
    /// Leases that durable records say are open, and their bays; and any ever granted so.
    durable: BTreeMap<String, Option<String>>,
    granted: BTreeSet<String>,
    /// By epoch: events up to here are in `durable`.
    folded: (u64, u64),
    requests: u64,
    /// A store went with what it had not delivered: the consumer may believe what is over.
    lost: bool,
    /// A commit was cut in two: records of it may stand without what was kept, or the other way.
    torn: bool,
    pub seen: BTreeMap<&'static str, u64>,
}

impl World {
    pub fn new(seed: u64) -> World {
        let site = Arc::new(testing::site());
        let mut outside = Outside {
            disk: Disk::new(1),
            stalled: false,
            full: false,
            upstream: Upstream::default(),
            dice: Dice(seed),
        };
        // Some boxes boot in 1970 and hear of the time later.
        let wall = if seed.is_multiple_of(3) { Wall(0) } else { Wall(1_795_438_800_000) };
        let now = Now { mono: Mono(BOOT_NS), wall };
        let daemon = Daemon::start(&site, 1, "boot-0", now, &mut outside);
        World {
            truth: vec![Sensed::Free; site.bays.len()],
            site,
            outside,
            daemon,
            now,
            next_sweep: now.mono,
            boots: 0,
            runs: 1,
            alive: [true; 2],
            promised: BTreeMap::new(),
            durable: BTreeMap::new(),
            granted: BTreeSet::new(),
            folded: (1, 1),
            requests: 0,
            lost: false,
            torn: false,
            seen: BTreeMap::new(),
        }
    }

    /// Everything at once.
    pub fn storm(&mut self, acts: usize) {
        for _ in 0..acts {
            self.act();
            self.judge_answers();
        }
    }

    fn act(&mut self) {
        match self.below(100) {
            0..18 => self.arrive(),
            18..28 => self.turn_bay(),
            28..33 => self.report(),
            33..36 => self.staff(),
            36..38 => self.alive[self.outside.dice.below(2) as usize] ^= true,
            38..55 => _ = self.outside.upstream.read(),
            55..70 => _ = self.answer_arrives(),
            70..76 => self.link(),
            76..80 => self.broker(),
            80..84 => self.disk(),
            84 => self.crash(),
            85 => self.set_clock(),
            _ => {
                let ms = [1, 10, 60, 300, 1_000, 5_000, 40_000][self.below(7) as usize];
                self.pass(ms);
            }
        }
    }

    /// No more faults, no more drivers: everything has to come to rest.
    pub fn calm(&mut self) {
        (self.outside.stalled, self.outside.full, self.alive) = (false, false, [true; 2]);
        self.reopen();
        for target in CLOSABLE {
            let target = self.site.target(target).expect("a place of the site");
            self.daemon.ask(self.now, Ask::Open { target, by: "staff".to_owned() });
        }
        self.daemon.link_down(self.now, &mut self.outside);
        self.outside.upstream.refusing = [false; 3];
        // Half an hour is longer than any lease; the last window's records may need a moment more.
        for round in 0.. {
            assert!(round < 4_000, "it does not come to rest");
            let epoch = self.outside.disk.epoch;
            if round > 3_600 && self.daemon.is_quiet() && self.outside.upstream.is_complete(epoch) {
                break;
            }
            if !self.daemon.linked {
                self.daemon.link_up(self.now, 20, &mut self.outside);
            }
            while self.outside.upstream.read() {}
            while self.answer_arrives() {}
            self.pass(500);
        }
        self.judge_answers();
        assert!(self.durable.is_empty() || self.torn, "never ended: {:?}", self.durable);
        self.judge_picture();
    }

    /// What the consumer knows is what is so.
    fn judge_picture(&mut self) {
        if self.lost || self.torn {
            return;
        }
        self.count("judged whole");
        let picture = self.outside.upstream.picture.clone();
        for (bay, told) in &picture.bays {
            let Some(Target::Bay(ix)) = self.site.target(bay) else { panic!("{bay} is no bay") };
            assert_eq!(*told, self.truth[ix.at()], "{bay} as known upstream");
        }
        assert!(picture.leases.is_empty(), "open upstream: {:?}", picture.leases);
        assert!(picture.closed.is_empty(), "closed upstream: {:?}", picture.closed);
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.outside.dice.below(bound)
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_insert(0) += 1;
    }

    /// Time goes on; everything that falls due in it is done at its time.
    fn pass(&mut self, ms: u64) {
        let end = self.now.mono.plus_ms(ms);
        for turns in 0.. {
            assert!(turns < 20_000, "something is due again and again");
            let due = self.daemon.due(self.now.mono, self.outside.stalled).min(self.next_sweep);
            let then = due.clamp(self.now.mono, end);
            self.now.wall.0 += then.ms_since(self.now.mono) as i64;
            self.now.mono = then;
            if self.next_sweep <= then {
                self.sweep();
            }
            self.daemon.turn(self.now, &mut self.outside);
            self.judge_answers();
            if then == end {
                break;
            }
        }
    }

    fn sweep(&mut self) {
        self.next_sweep = self.now.mono.plus_ms(PERIOD_MS);
        for unit in (0..2).filter(|unit| self.alive[*unit as usize]).map(UnitIx) {
            let (mut occupied, mut known) = (vec![0], vec![0]);
            for (point, bay) in self.site.units[unit.at()].bays.iter().enumerate() {
                let Some(bay) = bay else { continue };
                let state = self.truth[bay.at()];
                known[0] |= u64::from(state != Sensed::Unknown) << point;
                occupied[0] |= u64::from(state == Sensed::Occupied) << point;
            }
            let reading = Reading {
                unit,
                at: self.now.mono,
                occupied,
                known,
                counters: vec![0; 2],
                contacts: 0,
                contacts_known: 0,
            };
            self.daemon.input(self.now, Input::Reading(reading));
        }
    }

    fn arrive(&mut self) {
        // One in eight asks again under an old name.
        if self.requests == 0 || self.below(8) > 0 {
            self.requests += 1;
        }
        let at = ["a1", "p1", "f1", "f2"][self.below(4) as usize];
        let class = ["car", "ev", "van"][self.below(3) as usize];
        let request = Request {
            request_id: format!("r{}", self.requests).into(),
            at: self.site.node(at).expect("a node of the site"),
            destination: None,
            class: self.site.class(class).expect("a class of the site"),
            eta_s: 0,
            tail: None,
            vehicle: None,
        };
        self.daemon.ask(self.now, Ask::Arrive(request));
        self.judge_answers();
    }

    fn turn_bay(&mut self) {
        let bay = self.below(self.truth.len() as u64) as usize;
        let taken = self.truth[bay] == Sensed::Occupied;
        self.truth[bay] = if taken { Sensed::Free } else { Sensed::Occupied };
    }

    fn report(&mut self) {
        let Some(lease) = self.some_lease() else { return };
        let report = [Report::Cancelled, Report::Parked(None)][self.below(2) as usize];
        self.daemon.ask(self.now, Ask::Report { lease, report });
        self.judge_answers();
    }

    fn some_lease(&mut self) -> Option<LeaseId> {
        let at = self.below(self.promised.len().max(1) as u64) as usize;
        self.promised.keys().nth(at).copied()
    }

    fn staff(&mut self) {
        let target = CLOSABLE[self.below(4) as usize];
        let target = self.site.target(target).expect("a place of the site");
        let by = "staff".to_owned();
        let ask = if self.below(2) == 0 {
            Ask::Open { target, by }
        } else {
            let reason = "works".to_owned();
            Ask::Close { target, reason, by, expires_s: None, incident: false }
        };
        self.daemon.ask(self.now, ask);
        self.judge_answers();
    }

    fn link(&mut self) {
        if !self.daemon.linked {
            let receive_max = 2 + self.below(12) as usize;
            self.daemon.link_up(self.now, receive_max, &mut self.outside);
        } else if self.below(3) == 0 {
            self.count("link lost");
            self.daemon.link_down(self.now, &mut self.outside);
        }
    }

    fn broker(&mut self) {
        let lane = Lane::ALL[self.below(3) as usize];
        match self.below(4) {
            0 if self.outside.upstream.answers.pop_front().is_some() => self.count("ack lost"),
            1 => {
                // Again, and once more when its turn comes.
                let again = self.outside.upstream.answers.front().copied();
                if let Some(answer) = again {
                    self.acked(answer);
                }
            }
            2 => {
                let upstream = &mut self.outside.upstream;
                // A refusal ends only with nothing under way: a broker that refuses the first
                // of a burst and takes the second breaks any order.
                let quiet = self.daemon.is_quiet() && upstream.wire.is_empty();
                let refusing = &mut upstream.refusing[lane as usize];
                if !*refusing || quiet {
                    *refusing = !*refusing;
                }
            }
            _ => (),
        }
    }

    /// The broker's next answer; false where there is none.
    fn answer_arrives(&mut self) -> bool {
        let answer = self.outside.upstream.answers.pop_front();
        if let Some(answer) = answer {
            self.acked(answer);
        }
        answer.is_some()
    }

    fn acked(&mut self, answer: (Lane, u64, Verdict)) {
        if answer.2 == Verdict::Refused {
            self.count("refused");
        }
        self.daemon.acked(self.now, answer, &mut self.outside);
    }

    fn disk(&mut self) {
        match self.below(6) {
            0 => {
                self.outside.stalled ^= true;
                self.count("stall");
            }
            1 => {
                self.outside.full = true;
                self.count("disk full");
            }
            2 if self.below(12) == 0 => self.set_aside(),
            _ => {
                self.outside.full = false;
                self.reopen();
            }
        }
    }

    /// The disk has room again: the same store, less what no barrier covered.
    fn reopen(&mut self) {
        if self.daemon.away {
            self.outside.disk.cut_off(self.daemon.committed, self.daemon.kept.clone());
            self.daemon.reopened(self.now, &mut self.outside);
        }
    }

    /// The store's file is broken while the daemon runs.
    fn set_aside(&mut self) {
        self.reopen();
        self.count("set aside");
        self.lost = true;
        let old = &self.outside.disk;
        let kept = old.kept.clone();
        self.outside.disk = Disk { kept, ..Disk::new(old.epoch + 1) };
        self.folded = (self.outside.disk.epoch, 1);
        self.daemon.set_aside(self.now, &mut self.outside);
    }

    /// A step of the wall clock, up to a day either way.
    fn set_clock(&mut self) {
        self.count("clock set");
        self.now.wall.0 += self.below(2 * DAY_MS as u64) as i64 - DAY_MS;
    }

    fn crash(&mut self) {
        let power = self.below(2) == 0;
        self.count(if power { "power cut" } else { "kill" });
        let more = self.below(4);
        self.outside.upstream.cut(more);
        // The commit under way, if one is, leaves any beginning of itself.
        let writes = self.outside.disk.plan(&self.daemon.batch);
        if self.below(8) == 0 && !self.daemon.away {
            let all = writes.len();
            let cut = self.below(all as u64 + 1) as usize;
            writes.into_iter().take(cut).for_each(|write| self.outside.disk.apply(write));
            if cut > 0 && cut < all {
                self.count("torn commit");
            }
            self.torn |= cut > 0;
        }
        self.torn |= self.daemon.away;
        self.outside.disk.recover();
        self.outside.note_committed();
        let before = self.durable.clone();
        self.fold();
        let pause_ms = self.below(20_000);
        self.now.mono = self.now.mono.plus_ms(pause_ms);
        self.now.wall.0 += pause_ms as i64;
        if power {
            self.boots += 1;
            self.now.mono = Mono(BOOT_NS);
            if self.below(3) == 0 {
                self.now.wall = Wall(0);
            }
        }
        self.next_sweep = self.now.mono;
        self.runs += 1;
        let boot = format!("boot-{}", self.boots);
        let outside = &mut self.outside;
        self.daemon = Daemon::start(&self.site, self.runs, &boot, self.now, outside);
        self.outside.stalled = false;
        self.outside.full = false;
        self.restored(power, &before);
    }

    /// Every promise told as durable is there again, with its bay.
    fn restored(&mut self, power: bool, before: &BTreeMap<String, Option<String>>) {
        self.promised.retain(|_, promised| promised.durable.is_some());
        for id in self.promised.keys().copied().collect::<Vec<_>>() {
            let name = id.to_string();
            let Some(bay) = before.get(&name) else {
                self.promised.remove(&id);
                continue;
            };
            let Answer::Allocation(now) = self.daemon.look(self.now, Ask::Find(id)) else {
                // The torn commit may have ended it.
                let ended = !self.outside.disk.kept.contains_key(&format!("lease/{name}"));
                assert!(ended && self.torn, "{name} was promised and is forgotten");
                self.promised.remove(&id);
                continue;
            };
            self.count("promise restored");
            let there = now.bay.map(|bay| self.site.bay_id(bay));
            let moved = self.durable.get(&name) != Some(bay);
            assert!(there == *bay || moved || self.torn, "{name} had {bay:?}, has {there:?}");
            let promised = self.promised.get_mut(&id).expect("looked at above");
            promised.bay = now.bay;
            // Under another boot the full length runs again.
            let before = promised.durable.filter(|_| !power);
            promised.deadline = before.unwrap_or(now.deadline);
            promised.durable = Some(promised.deadline);
        }
    }

    /// Follows the durable records, as a reader of the disk would.
    fn fold(&mut self) {
        let (epoch, from) = self.folded;
        let place = (epoch, Lane::Events as usize);
        let Some(all) = self.outside.upstream.committed.get(&place) else { return };
        for (number, record) in all.range(from..) {
            match &record.body {
                Body::LeaseGranted(lease) | Body::LeaseMoved(lease) => {
                    self.granted.insert(lease.lease.clone());
                    self.durable.insert(lease.lease.clone(), lease.bay.clone());
                }
                Body::LeaseEnded { lease, .. } => _ = self.durable.remove(lease),
                _ => (),
            }
            self.folded.1 = number + 1;
        }
    }

    fn judge_answers(&mut self) {
        self.fold();
        for told in std::mem::take(&mut self.daemon.told) {
            let Some(promised) = self.promised.get_mut(&told.lease) else { continue };
            match told.told {
                LeaseTold::Ended { .. } => {
                    let early = told.at < promised.deadline;
                    assert!(!(expired(&told.told) && early), "{} ended early", told.lease);
                    self.promised.remove(&told.lease);
                }
                _ => promised.bay = told.bay,
            }
        }
        for given in std::mem::take(&mut self.daemon.given) {
            self.given(given);
        }
    }

    fn given(&mut self, given: super::daemon::Given) {
        let Answer::Allocation(allocation) = given.answer else { return };
        let (Some(lease), None) = (allocation.lease, allocation.end) else { return };
        let name = lease.to_string();
        if given.durable {
            assert!(self.granted.contains(&name), "{name} was told as durable and is not");
        } else {
            assert!(given.by <= self.now.mono, "{name} went out undurable before its time");
            self.count("undurable answer");
        }
        let Answer::Allocation(now) = self.daemon.look(self.now, Ask::Find(lease)) else { return };
        if now.end.is_some() {
            return;
        }
        // It may have been moved while its answer waited: who follows it hears so.
        let bay = now.bay;
        let other = self
            .promised
            .iter()
            .find(|(other, promised)| **other != lease && bay.is_some() && promised.bay == bay);
        assert!(other.is_none(), "{name} and {other:?} have the same bay");
        let deadline = allocation.deadline;
        let new = Promised { bay, deadline, durable: None };
        let promised = self.promised.entry(lease).or_insert(new);
        promised.deadline = promised.deadline.max(deadline);
        if given.durable {
            promised.durable = promised.durable.max(Some(deadline));
        }
    }
}
