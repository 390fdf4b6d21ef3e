//! One life of the daemon, from a start to a crash: the two machines and what the adapters do with
//! their effects, by the rules of `owner.rs`, `store/writer.rs` and `uplink/work.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::disk::{Batch, Disk};
use super::upstream::{Message, Upstream};
use crate::config::GuidanceTable;
use crate::gateway::{
    Answer, Effect, Gateway, Identity, Input, LeaseId, LeaseTold, ReplyId, Teller, Ticket,
};
use crate::outbox::{self, Limits, Outbox, Verdict};
use crate::record::{Body, End, Lane};
use crate::site::{BayIx, Site};
use crate::store::queue::Item;
use crate::time::{Mono, Now};

pub const LIMITS: Limits = Limits { window: 3, replay_per_s: 2_000, ack_timeout_ms: 5_000 };
/// As in the store: how long items, and removals alone, wait for a barrier.
const COMMIT_MS: u64 = 200;
const REMOVAL_MS: u64 = 2_000;
/// Records that join in a message.
const MESSAGE_RECORDS: usize = 8;

/// An answer on its way to whoever asked.
pub struct Given {
    pub answer: Answer,
    pub durable: bool,
    pub by: Mono,
}

/// Something that happened to a lease, as the machine said it.
pub struct Told {
    pub lease: LeaseId,
    pub bay: Option<BayIx>,
    pub at: Mono,
    pub told: LeaseTold,
}

pub struct Daemon {
    gateway: Gateway,
    teller: Teller,
    outbox: Outbox,
    pub linked: bool,
    /// The store is not open.
    pub away: bool,
    pub batch: Batch,
    upto: Ticket,
    urgent: bool,
    since: Option<Mono>,
    removal_since: Option<Mono>,
    durable: Ticket,
    /// Numbers as of the last barrier.
    pub committed: [u64; 3],
    pub kept: BTreeMap<String, Vec<u8>>,
    removed: [u64; 3],
    waiting: Vec<(ReplyId, Ticket, Mono, Answer)>,
    pub given: Vec<Given>,
    pub told: Vec<Told>,
    replies: u64,
}

impl Daemon {
    /// Started on a disk that was recovered.
    pub fn start(site: &Arc<Site>, run: u32, boot: &str, now: Now, world: &mut Outside) -> Daemon {
        let identity = Identity { run, boot: boot.to_owned(), version: "0".to_owned() };
        let tuning = GuidanceTable { debounce_ms: 0, ..GuidanceTable::default() };
        let gateway = Gateway::new(site.clone(), tuning, identity);
        let mut daemon = Daemon {
            teller: gateway.teller(),
            gateway,
            outbox: Outbox::new(LIMITS),
            linked: false,
            away: false,
            batch: Batch::default(),
            upto: Ticket(0),
            urgent: false,
            since: None,
            removal_since: None,
            durable: Ticket(0),
            committed: world.disk.next,
            kept: world.disk.kept.clone(),
            removed: [0; 3],
            waiting: Vec::new(),
            given: Vec::new(),
            told: Vec::new(),
            replies: 0,
        };
        let entries = world.disk.kept.clone().into_iter().collect();
        daemon.input(now, Input::Restore(crate::gateway::Kept { entries }));
        daemon.tell_tide(now, world);
        daemon
    }

    /// One input of the gateway and what follows from it.
    pub fn input(&mut self, now: Now, input: Input) {
        let (mut facts, mut words) = (Vec::new(), Vec::new());
        self.gateway.step(now, input, &mut facts);
        for fact in facts {
            if let Effect::Lease { told, lease, .. } = &fact {
                let (lease, bay, at) = (lease.id, lease.bay, now.mono);
                self.told.push(Told { lease, bay, at, told: *told });
            }
            self.teller.word(fact, &mut words);
        }
        for effect in words {
            let item = match effect {
                Effect::Record(record) => Item::Record(record),
                Effect::Keep { key, value } => Item::Keep { key, value },
                Effect::Answer { reply, after, by, answer } => {
                    self.urgent |= after > self.durable;
                    self.waiting.push((reply, after, by, answer));
                    continue;
                }
                _ => continue,
            };
            self.batch.items.push(item);
            self.since.get_or_insert(now.mono);
        }
        self.upto = self.gateway.issued();
        self.answer(now.mono);
    }

    /// Asks; the answer comes in [`Daemon::given`] once it may go out.
    pub fn ask(&mut self, now: Now, ask: crate::gateway::Ask) {
        self.replies += 1;
        self.input(now, Input::Asked { ask, reply: ReplyId(self.replies) });
    }

    /// Asks what rests on nothing new, and is answered in the same step.
    pub fn look(&mut self, now: Now, ask: crate::gateway::Ask) -> Answer {
        // What is due belongs to no question.
        self.input(now, Input::Tick);
        self.replies += 1;
        let reply = ReplyId(self.replies);
        let mut effects = Vec::new();
        self.gateway.step(now, Input::Asked { ask, reply }, &mut effects);
        let answer = effects.into_iter().find_map(|effect| match effect {
            Effect::Answer { answer, .. } => Some(answer),
            _ => None,
        });
        answer.expect("every question is answered in its step")
    }

    /// When something is due, at the soonest.
    pub fn due(&self, now: Mono, stalled: bool) -> Mono {
        let answers = self.waiting.iter().map(|(_, _, by, _)| *by);
        let commit = if stalled || self.away { None } else { self.commit_at(now) };
        // A store that is away, or a client that is full, is asked again a little later.
        let outbox = self.outbox.due().map(|due| due.max(now.plus_ms(20)));
        let all = answers.chain(commit).chain(outbox).chain(self.gateway.due());
        all.min().unwrap_or(now.plus_ms(1_000)).max(now)
    }

    fn commit_at(&self, now: Mono) -> Option<Mono> {
        let items = self.since.map(|since| since.plus_ms(COMMIT_MS));
        let removals = self.removal_since.map(|since| since.plus_ms(REMOVAL_MS));
        let due = items.into_iter().chain(removals).min();
        if self.urgent { due.map(|_| now) } else { due }
    }

    /// Does what is due by now.
    pub fn turn(&mut self, now: Now, world: &mut Outside) {
        if self.gateway.due().is_some_and(|due| due <= now.mono) {
            self.input(now, Input::Tick);
        }
        let commits = self.commit_at(now.mono).is_some_and(|due| due <= now.mono);
        if commits && !world.stalled && !self.away {
            self.commit(now, world);
        }
        self.answer(now.mono);
        self.deliver(now, outbox::Input::Tick, world);
    }

    /// One barrier: all that waits is durable.
    fn commit(&mut self, now: Now, world: &mut Outside) {
        if world.full {
            // What the failed commit wrote stands half on the disk, and waits to be written again.
            let writes = world.disk.plan(&self.batch);
            let half = world.dice.below(writes.len() as u64 + 1) as usize;
            writes.into_iter().take(half).for_each(|write| world.disk.apply(write));
            self.away = true;
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        for write in world.disk.plan(&batch) {
            world.disk.apply(write);
        }
        for (lane, _, last) in &batch.removals {
            let removed = &mut self.removed[*lane as usize];
            *removed = (*removed).max(last + 1);
        }
        (self.since, self.removal_since, self.urgent) = (None, None, false);
        self.durable = self.upto;
        self.committed = world.disk.next;
        self.kept = world.disk.kept.clone();
        world.note_committed();
        self.tell_tide(now, world);
        self.answer(now.mono);
    }

    /// Lets every answer go whose commit is done or whose time has come.
    fn answer(&mut self, now: Mono) {
        let waiting = std::mem::take(&mut self.waiting);
        for (reply, after, by, answer) in waiting {
            let durable = after <= self.durable;
            if durable || by <= now {
                assert!(now <= by || durable, "an answer went out late");
                self.given.push(Given { answer, durable, by });
            } else {
                self.waiting.push((reply, after, by, answer));
            }
        }
    }

    fn tell_tide(&mut self, now: Now, world: &mut Outside) {
        for lane in Lane::ALL {
            let (next, upto) = (self.committed[lane as usize], self.removed[lane as usize]);
            self.deliver(now, outbox::Input::Committed { lane, next }, world);
            self.deliver(now, outbox::Input::Removed { lane, upto }, world);
        }
    }

    pub fn link_up(&mut self, now: Now, receive_max: usize, world: &mut Outside) {
        self.linked = true;
        self.deliver(now, outbox::Input::LinkUp { receive_max }, world);
    }

    pub fn link_down(&mut self, now: Now, world: &mut Outside) {
        if self.linked {
            self.linked = false;
            let more = world.dice.below(4);
            world.upstream.cut(more);
            self.deliver(now, outbox::Input::LinkDown, world);
        }
    }

    pub fn acked(
        &mut self,
        now: Now,
        (lane, token, verdict): (Lane, u64, Verdict),
        world: &mut Outside,
    ) {
        self.deliver(now, outbox::Input::Acked { lane, token, verdict }, world);
    }

    /// The store is open again, the same or another: whatever was read before it means nothing.
    pub fn reopened(&mut self, now: Now, world: &mut Outside) {
        self.link_down(now, world);
        self.away = false;
        self.outbox = Outbox::new(LIMITS);
        self.batch.removals.clear();
        self.committed = world.disk.next;
        self.removed = [0; 3];
        self.tell_tide(now, world);
    }

    /// Another store took the place of this one.
    pub fn set_aside(&mut self, now: Now, world: &mut Outside) {
        self.reopened(now, world);
        let body = Body::StoreSetAside {
            why: "a test".to_owned(),
            moved_to: "aside".to_owned(),
            epoch: None,
            waiting: Vec::new(),
        };
        self.input(now, Input::Notice(body));
    }

    /// Whether nothing of a lane is between us and the broker.
    pub fn is_quiet(&self) -> bool {
        self.outbox.in_flight() == 0
    }

    /// One input of the outbox and what follows from it.
    fn deliver(&mut self, now: Now, input: outbox::Input, world: &mut Outside) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            self.outbox.step(now.mono, input, &mut effects);
            for effect in effects {
                match effect {
                    outbox::Effect::Send { lane, token, from, before } => {
                        inputs.push_back(self.send(lane, token, from..before, world));
                    }
                    outbox::Effect::Remove { lane, first, last } => {
                        self.batch.removals.push((lane, first, last));
                        self.removal_since.get_or_insert(now.mono);
                    }
                    outbox::Effect::PutAside { .. } => panic!("nothing is unreadable here"),
                    outbox::Effect::Hurry => self.urgent = true,
                    outbox::Effect::Rebuild => {
                        self.linked = false;
                        world.upstream.cut(0);
                    }
                }
            }
        }
    }

    fn send(
        &mut self,
        lane: Lane,
        token: u64,
        range: std::ops::Range<u64>,
        world: &mut Outside,
    ) -> outbox::Input {
        assert!(self.linked, "sent without a link");
        if self.away {
            return outbox::Input::Busy { lane };
        }
        let mut records: Vec<(u64, _)> = Vec::new();
        for (number, record) in world.disk.lanes[lane as usize].range(range) {
            let follows = records.last().is_none_or(|(last, _)| last + 1 == *number);
            if !follows || records.len() == MESSAGE_RECORDS {
                break;
            }
            records.push((*number, record.clone()));
        }
        let Some((first, _)) = records.first() else { return outbox::Input::Absent { lane } };
        let (first, last, count) = (*first, first + records.len() as u64 - 1, records.len() as u64);
        let epoch = world.disk.epoch;
        world.upstream.wire.push_back(Message { epoch, lane, token, records });
        outbox::Input::Sent { lane, token, first, last, records: count }
    }
}

/// What the daemon stands in.
pub struct Outside {
    pub disk: Disk,
    /// No barrier ends.
    pub stalled: bool,
    /// Every commit fails.
    pub full: bool,
    pub upstream: Upstream,
    pub dice: super::Dice,
}

impl Outside {
    /// What stands on the disk now may be sent.
    pub fn note_committed(&mut self) {
        for lane in Lane::ALL {
            let place = (self.disk.epoch, lane as usize);
            let all = self.upstream.committed.entry(place).or_default();
            let from = all.last_key_value().map_or(0, |(last, _)| last + 1);
            let new = self.disk.lanes[lane as usize].range(from..);
            all.extend(new.map(|(number, record)| (*number, record.clone())));
        }
    }
}

/// Whether a lease ended because nobody came.
pub fn expired(told: &LeaseTold) -> bool {
    matches!(told, LeaseTold::Ended { end: End::Expired, inferred: false, .. })
}
