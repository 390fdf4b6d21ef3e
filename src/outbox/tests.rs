//! Scenarios at `step`, and a seeded simulation: any fault at any moment, then calm.
//!
//! Safety: nothing is removed that the consumer has not got; after dropping repeats the consumer
//! has the lane in order with nothing left out; a fault repeats at most a window. Liveness: once
//! it is calm, everything drains.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

const LIMITS: Limits = Limits { window: 3, replay_per_s: 1_000, ack_timeout_ms: 2_000 };
const BUSY: Lane = Lane::Events;

#[test]
fn one_goes_alone_and_then_a_window() {
    let mut rig = Rig::new(LIMITS);
    rig.give(BUSY, 5);
    rig.step(0, Input::LinkUp { receive_max: 20 });
    assert_eq!(rig.log(), ["send events 1"]);
    rig.take(1, BUSY, 1);
    assert_eq!(rig.log(), ["remove events 1", "send events 2", "send events 3"]);
    rig.take(2, BUSY, 2);
    assert_eq!(rig.log(), ["remove events 2", "hurry"]);
    // Removed, but not yet on the disk: it still counts.
    rig.step(3, Input::Removed { lane: BUSY, upto: 3 });
    assert_eq!(rig.log(), ["send events 4", "send events 5"]);
}

/// Answers that take longer than a quarter of the time-out close the window again, quick ones open
/// it; and what is answered one by one is no silence, however long the last one takes.
#[test]
fn a_slow_link_is_not_filled_up_and_not_given_up() {
    let mut rig = Rig::new(Limits { window: 8, ..LIMITS });
    rig.give(BUSY, 40);
    rig.step(0, Input::LinkUp { receive_max: 20 });
    let mut at = 0;
    let mut next = 1;
    let mut answer = |rig: &mut Rig, took: u64| {
        at += took;
        rig.take(at, BUSY, next);
        next += 1;
        rig.step(at, Input::Removed { lane: BUSY, upto: next });
        rig.flying(BUSY).len()
    };
    assert_eq!([10; 6].map(|took| answer(&mut rig, took)), [2, 4, 8, 8, 8, 8]);
    // Each a second and a half after the one before it: the last waits for 12 s.
    assert_eq!([1_500; 8].map(|took| answer(&mut rig, took)), [7, 6, 5, 4, 3, 2, 1, 1]);
    assert_eq!(rig.outbox.totals().rebuilds, 0);
    assert_eq!(rig.outbox.totals().resent, 0);
}

/// One answer that never comes stops its lane, and not for ever.
#[test]
fn a_withheld_answer_is_missed_although_others_come() {
    let mut rig = Rig::new(LIMITS);
    rig.give(BUSY, 1);
    rig.give(Lane::Alarms, 30);
    rig.step(0, Input::LinkUp { receive_max: 20 });
    for n in 1..8 {
        rig.take(n * 1_000, Lane::Alarms, n);
        rig.step(n * 1_000, Input::Removed { lane: Lane::Alarms, upto: n + 1 });
    }
    assert_eq!(rig.outbox.totals().rebuilds, 0);
    assert_eq!(rig.outbox.due(), Some(Mono::default().plus_ms(8_000)));
    rig.step(8_000, Input::Tick);
    assert_eq!(rig.outbox.totals().rebuilds, 1);
}

#[test]
fn what_is_not_durable_is_not_sent() {
    let mut rig = Rig::new(LIMITS);
    rig.step(0, Input::LinkUp { receive_max: 20 });
    rig.step(1, Input::Tick);
    assert_eq!(rig.log(), Vec::<String>::new());
    rig.give(BUSY, 1);
    assert_eq!(rig.log(), ["send events 1"]);
}

#[test]
fn alarms_go_before_events_before_aggregates() {
    let mut rig = Rig::new(LIMITS);
    for lane in [Lane::Aggregates, Lane::Events, Lane::Alarms] {
        rig.give(lane, 1);
    }
    rig.step(0, Input::LinkUp { receive_max: 20 });
    assert_eq!(rig.log(), ["send alarms 1", "send events 1", "send aggregates 1"]);
}

#[test]
fn acknowledged_out_of_order_leaves_in_order() {
    let mut rig = Rig::new(LIMITS);
    rig.give(BUSY, 4);
    rig.step(0, Input::LinkUp { receive_max: 20 });
    rig.take(1, BUSY, 1);
    rig.log();
    rig.take(2, BUSY, 3);
    assert_eq!(rig.log(), Vec::<String>::new());
    rig.take(3, BUSY, 2);
    assert_eq!(rig.log(), ["remove events 2", "remove events 3", "hurry"]);
}

#[test]
fn a_window_full_of_removals_asks_for_a_commit_once() {
    let mut rig = Rig::new(LIMITS);
    rig.give(BUSY, 9);
    rig.step(0, Input::LinkUp { receive_max: 20 });
    for first in 1..=3 {
        rig.take(first, BUSY, first);
    }
    assert_eq!(rig.log().iter().filter(|line| *line == "hurry").count(), 1);
    rig.step(4, Input::Tick);
    assert_eq!(rig.log(), Vec::<String>::new());
    rig.step(5, Input::Removed { lane: BUSY, upto: 4 });
    assert_eq!(rig.log(), ["send events 4", "send events 5", "send events 6"]);
}

#[test]
fn a_lost_link_sends_again_from_the_first_unacknowledged() {
    let mut rig = Rig::new(LIMITS);
    rig.give(BUSY, 4);
    rig.step(0, Input::LinkUp { receive_max: 20 });
    rig.take(1, BUSY, 1);
    rig.step(2, Input::LinkDown);
    rig.log();
    rig.take(3, BUSY, 2);
    assert_eq!(rig.log(), Vec::<String>::new(), "an answer to a lost link was believed");
    rig.step(4, Input::LinkUp { receive_max: 20 });
    assert_eq!(rig.log(), ["send events 2"]);
    assert_eq!(rig.outbox.totals().resent, 1);
}

#[test]
fn silence_rebuilds_exactly_at_the_timeout() {
    let mut rig = Rig::new(LIMITS);
    rig.give(BUSY, 1);
    rig.step(0, Input::LinkUp { receive_max: 20 });
    rig.step(1_999, Input::Tick);
    assert_eq!(rig.log(), ["send events 1"]);
    assert_eq!(rig.outbox.due(), Some(Mono::default().plus_ms(2_000)));
    rig.step(2_000, Input::Tick);
    assert_eq!(rig.log(), ["rebuild"]);
    assert_eq!(rig.outbox.due(), None);
}

#[test]
fn a_refusal_is_no_delivery_and_waits_longer_each_time() {
    let mut rig = Rig::new(LIMITS);
    rig.give(BUSY, 1);
    rig.give(Lane::Aggregates, 1);
    rig.step(0, Input::LinkUp { receive_max: 20 });
    rig.log();
    for (at, resumed) in [(1_000, 2_000), (2_500, 4_500), (5_000, 9_000)] {
        rig.answer(at, BUSY, 1, Verdict::Refused);
        rig.take(at, Lane::Aggregates, 1);
        rig.step(resumed - 1, Input::Tick);
        assert!(!rig.log().contains(&"send events 1".to_owned()), "before {resumed}");
        rig.step(resumed, Input::Tick);
        assert_eq!(rig.log(), ["send events 1"], "at {resumed}");
        assert!(rig.outbox.refuses(BUSY));
    }
    rig.take(9_001, BUSY, 1);
    assert_eq!(rig.log(), ["remove events 1"]);
    assert!(!rig.outbox.refuses(BUSY));
}

#[test]
fn an_unreadable_chunk_is_passed_after_those_before_it() {
    let mut rig = Rig::new(LIMITS);
    rig.broken.insert(2);
    rig.give(BUSY, 3);
    rig.step(0, Input::LinkUp { receive_max: 20 });
    rig.take(1, BUSY, 1);
    assert_eq!(rig.log(), ["send events 1", "remove events 1"]);
    rig.step(2, Input::Removed { lane: BUSY, upto: 2 });
    assert_eq!(rig.log(), ["put aside events 2", "send events 3"]);
}

#[test]
fn a_backlog_drains_at_its_rate_and_what_is_live_does_not_wait() {
    let limits = Limits { replay_per_s: 10, ..LIMITS };
    let mut rig = Rig::new(limits);
    rig.give(BUSY, 40);
    rig.step(0, Input::LinkUp { receive_max: 20 });
    let mut at = 0;
    let mut acked = 0;
    while acked < 40 && at < 20_000 {
        at += 10;
        rig.step(at, Input::Tick);
        while let Some(first) = rig.flying(BUSY).first().copied() {
            rig.take(at, BUSY, first);
            rig.step(at, Input::Removed { lane: BUSY, upto: first + 1 });
            acked += 1;
        }
    }
    assert!((3_800..4_200).contains(&at), "40 records at 10 a second took {at} ms");
    rig.log();
    rig.give(BUSY, 2);
    assert_eq!(rig.log(), ["send events 41", "send events 42"]);
}

#[test]
fn the_broker_says_how_many_may_be_under_way() {
    let mut rig = Rig::new(LIMITS);
    for lane in Lane::ALL {
        rig.give(lane, 9);
    }
    rig.step(0, Input::LinkUp { receive_max: 3 });
    assert_eq!(rig.log(), ["send alarms 1", "send events 1"]);
}

#[test]
fn simulation() {
    let seeds = if std::env::var_os("PARKWAY_FULL").is_some() { 20_000 } else { 600 };
    let mut sum = BTreeMap::new();
    for seed in 1..=seeds {
        let mut sim = Sim::new(seed);
        for _ in 0..700 {
            sim.fault_or_work();
        }
        sim.calm();
        for (what, count) in sim.seen {
            *sum.entry(what).or_insert(0_u64) += count;
        }
    }
    // A simulation that never met a fault proves nothing.
    let faults = ["crash", "link lost", "ack lost", "ack twice", "refused", "dropped", "rebuild"];
    for what in faults.into_iter().chain(["hurry"]) {
        assert!(sum.get(what).copied().unwrap_or(0) > seeds, "too few of {what}: {sum:?}");
    }
}

/// Answers `Send` as the adapter does, one record a chunk, and keeps a log.
struct Rig {
    outbox: Outbox,
    last: [u64; 3],
    broken: BTreeSet<u64>,
    tokens: BTreeMap<(Lane, u64), u64>,
    log: Vec<String>,
    at_ms: u64,
}

impl Rig {
    fn new(limits: Limits) -> Rig {
        Rig {
            outbox: Outbox::new(limits),
            last: [0; 3],
            broken: BTreeSet::new(),
            tokens: BTreeMap::new(),
            log: Vec::new(),
            at_ms: 0,
        }
    }

    fn give(&mut self, lane: Lane, records: u64) {
        self.last[lane as usize] += records;
        let next = self.last[lane as usize] + 1;
        self.step(self.at_ms, Input::Committed { lane, next });
    }

    fn take(&mut self, at_ms: u64, lane: Lane, first: u64) {
        self.answer(at_ms, lane, first, Verdict::Taken);
    }

    fn answer(&mut self, at_ms: u64, lane: Lane, first: u64, verdict: Verdict) {
        let token = self.tokens[&(lane, first)];
        self.step(at_ms, Input::Acked { lane, token, verdict });
    }

    fn flying(&self, lane: Lane) -> Vec<u64> {
        self.outbox.lanes[lane as usize].flight.iter().map(|flight| flight.first).collect()
    }

    fn step(&mut self, at_ms: u64, input: Input) {
        self.at_ms = at_ms;
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            self.outbox.step(Mono::default().plus_ms(at_ms), input, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Send { lane, token, from, .. } => {
                        let first = from.max(1);
                        if self.broken.contains(&first) {
                            inputs.push_back(Input::Unreadable { lane, first });
                            continue;
                        }
                        self.tokens.insert((lane, first), token);
                        self.log.push(format!("send {} {first}", lane.name()));
                        inputs.push_back(Input::Sent {
                            lane,
                            token,
                            first,
                            last: first,
                            records: 1,
                        });
                    }
                    Effect::Remove { lane, first, .. } => {
                        self.log.push(format!("remove {} {first}", lane.name()));
                    }
                    Effect::PutAside { lane, first } => {
                        self.log.push(format!("put aside {} {first}", lane.name()));
                    }
                    Effect::Hurry => self.log.push("hurry".to_owned()),
                    Effect::Rebuild => self.log.push("rebuild".to_owned()),
                }
            }
        }
    }

    fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }
}

/// A message of the simulation holds so many records.
const MESSAGE_RECORDS: u64 = 8;

/// A store, a wire, a broker and a consumer, all of which can fail.
struct Sim {
    outbox: Outbox,
    random: u64,
    at_ms: u64,
    link: bool,
    disk: [Disk; 3],
    /// On its way to the broker, and answers on their way back.
    wire: VecDeque<Message>,
    answers: VecDeque<(Lane, u64, Verdict)>,
    refusing: [bool; 3],
    consumer: [Consumer; 3],
    seen: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Copy)]
struct Message {
    lane: Lane,
    token: u64,
    first: u64,
    last: u64,
}

/// One lane: chunks by first number, and what no barrier covers yet.
#[derive(Default)]
struct Disk {
    next: u64,
    durable: BTreeMap<u64, u64>,
    written: BTreeMap<u64, u64>,
    removing: BTreeSet<u64>,
    /// Chunks that begin below this were ordered to go, and are gone.
    gone: u64,
    removed: u64,
    /// All that was ever durable, and what of it the lane's bound took.
    committed: BTreeMap<u64, u64>,
    dropped: BTreeSet<u64>,
}

#[derive(Default)]
struct Consumer {
    got: BTreeSet<u64>,
    repeats: u64,
    /// Repeats that faults so far account for.
    allowed: u64,
}

impl Sim {
    fn new(seed: u64) -> Sim {
        Sim {
            outbox: Outbox::new(LIMITS),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            at_ms: 0,
            link: false,
            disk: std::array::from_fn(|_| Disk { next: 1, ..Disk::default() }),
            wire: VecDeque::new(),
            answers: VecDeque::new(),
            refusing: [false; 3],
            consumer: Default::default(),
            seen: BTreeMap::new(),
        }
    }

    /// xorshift64: any generator will do, as long as a seed repeats a run.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_insert(0) += 1;
    }

    fn fault_or_work(&mut self) {
        self.at_ms += self.below(120);
        let lane = Lane::ALL[self.below(3) as usize];
        match self.below(100) {
            0..25 => self.write(lane),
            25..45 => self.barrier(),
            45..65 => self.broker_reads(),
            65..80 => self.answer_arrives(),
            80..83 => self.lose_link(),
            83..89 => self.connect(),
            89 => self.crash(),
            90..92 => self.lose_answer(),
            92..94 => self.repeat_answer(),
            94..96 => self.toggle_refusal(lane),
            96 => self.drop_oldest(lane),
            97 => self.at_ms += 1_500,
            _ => self.step(Input::Tick),
        }
    }

    fn write(&mut self, lane: Lane) {
        let last_ahead = self.below(5);
        let disk = &mut self.disk[lane as usize];
        disk.written.insert(disk.next, disk.next + last_ahead);
        disk.next += last_ahead + 1;
    }

    fn barrier(&mut self) {
        for lane in Lane::ALL {
            let disk = &mut self.disk[lane as usize];
            for first in std::mem::take(&mut disk.removing) {
                disk.durable.remove(&first);
            }
            disk.removed = disk.removed.max(disk.gone);
            disk.committed.extend(&disk.written);
            disk.durable.append(&mut disk.written);
            let (next, upto) = (disk.next, disk.removed);
            self.step(Input::Committed { lane, next });
            self.step(Input::Removed { lane, upto });
        }
    }

    fn broker_reads(&mut self) {
        let Some(message) = self.wire.pop_front() else { return };
        let Message { lane, token, first, last } = message;
        if self.refusing[lane as usize] {
            self.count("refused");
            self.allow(lane);
            self.answers.push_back((lane, token, Verdict::Refused));
            return;
        }
        self.deliver(lane, first, last);
        self.answers.push_back((lane, token, Verdict::Taken));
    }

    fn deliver(&mut self, lane: Lane, first: u64, last: u64) {
        let (disk, consumer) = (&self.disk[lane as usize], &mut self.consumer[lane as usize]);
        assert!(disk.committed.contains_key(&first), "{first} was sent before it was durable");
        let mut again = false;
        for chunk in disk.committed.range(first..=last).map(|(first, _)| *first) {
            again |= !consumer.got.insert(chunk);
        }
        if again {
            consumer.repeats += 1;
            let Consumer { repeats, allowed, .. } = consumer;
            assert!(repeats <= allowed, "{repeats} repeats where {allowed} are accounted for");
        }
        for earlier in disk.committed.range(..first).map(|(first, _)| first) {
            let there = consumer.got.contains(earlier) || disk.dropped.contains(earlier);
            assert!(there, "{} {first} came before {earlier}", lane.name());
        }
    }

    fn answer_arrives(&mut self) {
        let Some((lane, token, verdict)) = self.answers.pop_front() else { return };
        self.step(Input::Acked { lane, token, verdict });
    }

    fn connect(&mut self) {
        if !self.link {
            self.link = true;
            let receive_max = 2 + self.below(12) as usize;
            self.step(Input::LinkUp { receive_max });
        }
    }

    fn lose_link(&mut self) {
        if self.link {
            self.count("link lost");
            self.cut();
            self.step(Input::LinkDown);
        }
    }

    /// Some of what was on the way still arrives; no answer does.
    fn cut(&mut self) {
        self.link = false;
        for _ in 0..self.below(4) {
            self.broker_reads();
        }
        for lane in Lane::ALL {
            self.allow(lane);
        }
        self.wire.clear();
        self.answers.clear();
    }

    fn crash(&mut self) {
        self.count("crash");
        self.cut();
        self.outbox = Outbox::new(LIMITS);
        for lane in Lane::ALL {
            let disk = &mut self.disk[lane as usize];
            if let Some((first, _)) = disk.written.first_key_value() {
                disk.next = *first;
            }
            disk.written.clear();
            disk.removing.clear();
            disk.gone = disk.removed;
            let next = disk.next;
            self.step(Input::Committed { lane, next });
        }
    }

    fn lose_answer(&mut self) {
        if self.answers.pop_front().is_some() {
            self.count("ack lost");
        }
    }

    fn repeat_answer(&mut self) {
        if let Some((lane, token, verdict)) = self.answers.front().copied() {
            self.count("ack twice");
            self.step(Input::Acked { lane, token, verdict });
        }
    }

    /// A refusal may begin at any time. It ends only with nothing of the lane under way: a
    /// broker that refuses the first message of a burst and takes the second breaks any order.
    fn toggle_refusal(&mut self, lane: Lane) {
        let quiet = self.outbox.lanes[lane as usize].flight.is_empty()
            && self.wire.iter().all(|message| message.lane != lane);
        let refusing = &mut self.refusing[lane as usize];
        if !*refusing {
            *refusing = true;
        } else if quiet {
            *refusing = false;
        }
    }

    /// The lane met its bound.
    fn drop_oldest(&mut self, lane: Lane) {
        let disk = &mut self.disk[lane as usize];
        if let Some((first, _)) = disk.durable.pop_first() {
            disk.removing.remove(&first);
            disk.dropped.insert(first);
            self.count("dropped");
        }
    }

    fn allow(&mut self, lane: Lane) {
        let consumer = &mut self.consumer[lane as usize];
        consumer.allowed = consumer.repeats + LIMITS.window as u64;
    }

    fn step(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            self.outbox.step(Mono::default().plus_ms(self.at_ms), input, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Send { lane, token, from, before } => {
                        inputs.push_back(self.send(lane, token, from, before));
                    }
                    Effect::Remove { lane, first, last } => {
                        let got = &self.consumer[lane as usize].got;
                        let disk = &mut self.disk[lane as usize];
                        for chunk in disk.committed.range(first..=last).map(|(first, _)| first) {
                            let there = got.contains(chunk) || disk.dropped.contains(chunk);
                            assert!(there, "{chunk} removed before it was delivered");
                        }
                        disk.removing.extend(disk.durable.range(first..=last).map(|(at, _)| at));
                        disk.gone = disk.gone.max(last + 1);
                    }
                    Effect::PutAside { .. } => panic!("nothing is unreadable here"),
                    Effect::Hurry => self.count("hurry"),
                    Effect::Rebuild => {
                        self.count("rebuild");
                        self.cut();
                    }
                }
            }
        }
        let under_way: usize = self.outbox.lanes.iter().map(|row| row.flight.len()).sum();
        assert!(under_way <= 3 * LIMITS.window);
    }

    fn send(&mut self, lane: Lane, token: u64, from: u64, before: u64) -> Input {
        assert!(self.link, "sent without a link");
        let disk = &self.disk[lane as usize];
        let mut chunks = disk.durable.range(from..before).map(|(first, last)| (*first, *last));
        let Some((first, mut last)) = chunks.next() else {
            return Input::Absent { lane };
        };
        // What follows without a gap joins it, up to the size of a message.
        for (next, end) in chunks.take_while(|(_, end)| end - first < MESSAGE_RECORDS) {
            if next == last + 1 {
                last = end;
            }
        }
        self.wire.push_back(Message { lane, token, first, last });
        Input::Sent { lane, token, first, last, records: last - first + 1 }
    }

    /// No more faults: everything committed must arrive and leave.
    fn calm(&mut self) {
        self.lose_link();
        self.refusing = [false; 3];
        self.barrier();
        for _ in 0..20_000 {
            self.connect();
            self.at_ms += 20;
            self.broker_reads();
            self.answer_arrives();
            self.barrier();
            self.step(Input::Tick);
            if self.disk.iter().all(|disk| disk.durable.is_empty()) {
                break;
            }
        }
        for (disk, consumer) in self.disk.iter().zip(&self.consumer) {
            assert!(disk.durable.is_empty(), "the backlog did not drain");
            for first in disk.committed.keys() {
                let there = consumer.got.contains(first) || disk.dropped.contains(first);
                assert!(there, "{first} was committed and never delivered");
            }
        }
    }
}
