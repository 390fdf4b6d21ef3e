//! Delivery, decided: what to send, what is delivered, when the connection is no good.
//!
//! An [`Outbox`] does no IO and reads no clock. It is told what the store holds and what the
//! broker answered, and orders chunks sent, removed, or the client thrown away. The MQTT client
//! is a lossy pipe: at every loss of the link all that was under way is forgotten and sent again
//! from the store, so nothing rests on the client's own memory. Each lane is a strict FIFO with a
//! small window; a chunk counts against it until its removal is on the disk, so a crash or a lost
//! link repeats at most a window. After a link-up or a refusal a lane sends one chunk alone
//! first: a broker that refuses it must not accept the next one behind its back. (A refusal that
//! begins and ends within one round trip can still let a later chunk pass an earlier one; it is
//! then sent again as well.) Then the window opens as answers come quickly, and closes as they
//! come slowly: what is queued on a link of some kilobytes a second must not look like silence.
//!
//! One instance serves one opening of the store; a new opening gets a new outbox.

use std::collections::VecDeque;

use crate::record::Lane;
use crate::time::Mono;

/// The largest window: so many messages from a lane's beginning may be known outside.
pub const WINDOW_MAX: usize = 10;
/// First and longest wait after the broker refused a chunk of a lane.
const REFUSED_MS: u64 = 1_000;
const REFUSED_MAX_MS: u64 = 60_000;
/// A tenth of a second of the replay rate may go at once.
const BURSTS_A_SECOND: u64 = 10;
/// An answer that took this share of the time-out is a slow one.
const SLOW_SHARE: u64 = 4;
/// A lane without an answer is given up after so many time-outs while others are answered: their
/// messages may lie before its own, but a broker that withholds one answer must not stop it.
const PATIENCE: u64 = 4;
const NS_A_SECOND: i128 = 1_000_000_000;

/// What the outbox is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Numbers of a lane below `next` are durable.
    Committed { lane: Lane, next: u64 },
    /// Chunks of a lane that begin below `upto` are gone from the disk for good.
    Removed { lane: Lane, upto: u64 },
    /// Connected; the broker takes so many unacknowledged messages.
    LinkUp { receive_max: usize },
    /// Not connected: whatever was under way may or may not have arrived.
    LinkDown,
    /// [`Effect::Send`] handed this message to the client under this token; its records may be
    /// fewer than its numbers.
    Sent { lane: Lane, token: u64, first: u64, last: u64, records: u64 },
    /// [`Effect::Send`] found nothing in its range.
    Absent { lane: Lane },
    /// [`Effect::Send`] found a chunk that cannot be read.
    Unreadable { lane: Lane, first: u64 },
    /// [`Effect::Send`] could not reach the store or the client now; the next input tries again.
    Busy { lane: Lane },
    /// The broker answered for a token.
    Acked { lane: Lane, token: u64, verdict: Verdict },
    /// Nothing happened, but a deadline may have passed.
    Tick,
}

/// What an acknowledgement says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Delivered.
    Taken,
    /// Refused, or taken with nobody to give it to: not delivered.
    Refused,
}

/// What the outbox orders.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Publish what begins first in `from..before`, and answer with `Sent`, `Absent`,
    /// `Unreadable` or `Busy` before anything else of that lane.
    Send { lane: Lane, token: u64, from: u64, before: u64 },
    /// Delivered: remove what begins in `first..=last` from the store.
    Remove { lane: Lane, first: u64, last: u64 },
    /// Take a chunk that cannot be read out of the lane, and tell.
    PutAside { lane: Lane, first: u64 },
    /// Sending waits for removals to reach the disk: do not wait for a full commit interval.
    Hurry,
    /// The link is no good, whatever it says: drop the client and make a new one.
    Rebuild,
}

/// Bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages a lane may have under way or leaving: 1 to [`WINDOW_MAX`].
    pub window: usize,
    /// Records a second while a backlog drains.
    pub replay_per_s: u64,
    /// Without any acknowledgement for so long, the link is no good.
    pub ack_timeout_ms: u64,
}

/// What is under way, for status.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    pub sent: u64,
    /// Sent again after a lost link or a refusal.
    pub resent: u64,
    pub taken: u64,
    pub refused: u64,
    pub rebuilds: u64,
}

#[derive(Debug)]
pub struct Outbox {
    limits: Limits,
    /// `None` while the link is down; else how many messages the broker takes at once.
    link: Option<usize>,
    lanes: [Row; 3],
    next_token: u64,
    bucket: Bucket,
    totals: Totals,
    now: Mono,
    /// When the broker last answered anything.
    answered: Mono,
}

/// One lane.
#[derive(Debug, Default)]
struct Row {
    /// Durable below this.
    next: u64,
    /// The next chunk to send begins here or later.
    cursor: u64,
    /// What was ever sent lies below this: sending it again is a repeat.
    high: u64,
    /// Sent, oldest first, without a contiguous acknowledgement.
    flight: VecDeque<Flight>,
    /// First numbers of delivered chunks that are still on the disk.
    leaving: VecDeque<u64>,
    /// A `Send` waits for its answer.
    asked: bool,
    /// A `Hurry` waits for its removals.
    hurried: bool,
    /// A chunk that cannot be read, once all before it has left.
    bad: Option<u64>,
    /// No sending before this, after a refusal.
    held: Option<Mono>,
    refusals: u32,
    /// How many may be under way: 1 after a link-up or a refusal.
    open: Open,
    /// When the broker last answered for it.
    answered: Mono,
    /// Below this it is backlog, and sent at the replay rate.
    backlog_end: u64,
}

/// How far a window is open.
#[derive(Debug)]
struct Open(usize);

impl Open {
    fn answered(&mut self, slow: bool, window: usize) {
        self.0 = if slow { (self.0 - 1).max(1) } else { (self.0 * 2).min(window) };
    }
}

impl Default for Open {
    fn default() -> Open {
        Open(1)
    }
}

#[derive(Debug)]
struct Flight {
    token: u64,
    first: u64,
    last: u64,
    sent: Mono,
    taken: bool,
}

/// Records that may be sent, as a bucket that fills with time.
#[derive(Debug)]
struct Bucket {
    per_s: u64,
    /// In records times nanoseconds; below zero after a chunk bigger than what was there.
    level: i128,
    filled: Mono,
}

impl Outbox {
    /// Knows nothing yet: the first inputs say what is durable, from where on.
    pub fn new(limits: Limits) -> Outbox {
        let bucket = Bucket { per_s: limits.replay_per_s, level: 0, filled: Mono::default() };
        Outbox {
            limits,
            link: None,
            lanes: Default::default(),
            next_token: 1,
            bucket,
            totals: Totals::default(),
            now: Mono::default(),
            answered: Mono::default(),
        }
    }

    pub fn step(&mut self, now: Mono, input: Input, effects: &mut Vec<Effect>) {
        assert!(self.now <= now, "time went back");
        self.now = now;

        match input {
            Input::Committed { lane, next } => self.row(lane).committed(next),
            Input::Removed { lane, upto } => self.row(lane).removed(upto),
            Input::LinkUp { receive_max } => self.link_up(receive_max),
            Input::LinkDown => self.link_down(),
            Input::Sent { lane, token, first, last, records } => {
                self.sent(lane, token, (first, last), records);
            }
            Input::Absent { lane } => self.row(lane).absent(),
            Input::Unreadable { lane, first } => self.row(lane).unreadable(first),
            Input::Busy { lane } => return self.row(lane).asked = false,
            Input::Acked { lane, token, verdict } => self.acked(lane, token, verdict, effects),
            Input::Tick => (),
        }
        for lane in Lane::ALL {
            self.pass_bad(lane, effects);
        }
        if self.link.is_some() {
            self.watch(effects);
            self.fill(effects);
            self.hurry(effects);
        }
    }

    /// When to come back with a [`Input::Tick`] if nothing else happens.
    pub fn due(&self) -> Option<Mono> {
        self.link?;
        let acks = self.lanes.iter().filter_map(|row| self.late_at(row));
        let held = self.lanes.iter().filter_map(|row| row.held.filter(|until| *until > self.now));
        let throttled = self.lanes.iter().any(|row| row.throttled() && row.cursor < row.next);
        let refill = throttled.then(|| self.bucket.ready_at()).flatten();
        acks.chain(held).chain(refill).min()
    }

    /// Chunks sent and not answered for, over all lanes.
    pub fn in_flight(&self) -> usize {
        self.lanes.iter().map(|row| row.flight.len()).sum()
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether the broker refuses what this lane sends.
    pub fn refuses(&self, lane: Lane) -> bool {
        self.refusals(lane) > 0
    }

    /// How many answers to this lane running were refusals.
    pub fn refusals(&self, lane: Lane) -> u32 {
        self.lanes[lane as usize].refusals
    }

    fn row(&mut self, lane: Lane) -> &mut Row {
        &mut self.lanes[lane as usize]
    }

    fn link_up(&mut self, receive_max: usize) {
        assert!(self.link.is_none(), "the link came up twice");
        self.link = Some(receive_max.max(1));
        for row in &mut self.lanes {
            row.backlog_end = row.next;
        }
        self.bucket.level = self.bucket.full();
        self.bucket.filled = self.now;
    }

    fn link_down(&mut self) {
        self.link = None;
        for row in &mut self.lanes {
            // Still held after a refusal: mosquitto 2.0.11 closes the connection with it, and the
            // other lanes need one that lasts.
            row.forget_flight();
        }
    }

    fn sent(&mut self, lane: Lane, token: u64, (first, last): (u64, u64), records: u64) {
        let now = self.now;
        let row = &mut self.lanes[lane as usize];
        row.asked = false;
        self.totals.sent += 1;
        if first < row.high {
            self.totals.resent += 1;
        }
        row.high = row.high.max(last + 1);
        if row.throttled() && lane != Lane::Alarms {
            self.bucket.take(now, records);
        }
        row.cursor = last + 1;
        row.flight.push_back(Flight { token, first, last, sent: now, taken: false });
        if row.cursor >= row.backlog_end && row.next > row.cursor + self.limits.replay_per_s {
            // What gathered during a long drain is backlog as well.
            row.backlog_end = row.next;
        }
    }

    fn acked(&mut self, lane: Lane, token: u64, verdict: Verdict, effects: &mut Vec<Effect>) {
        let now = self.now;
        let row = &mut self.lanes[lane as usize];
        let Some(flight) = row.flight.iter_mut().find(|flight| flight.token == token) else {
            // An answer to something forgotten: it will be sent again.
            return;
        };
        (row.answered, self.answered) = (now, now);
        match verdict {
            Verdict::Taken => {
                let slow = now.ms_since(flight.sent) * SLOW_SHARE > self.limits.ack_timeout_ms;
                // The same answer again says nothing.
                if !std::mem::replace(&mut flight.taken, true) {
                    row.open.answered(slow, self.limits.window);
                }
                self.totals.taken += 1;
                row.refusals = 0;
            }
            Verdict::Refused => {
                self.totals.refused += 1;
                let doubled = REFUSED_MS << row.refusals.min(16);
                row.held = Some(now.plus_ms(doubled.min(REFUSED_MAX_MS)));
                row.refusals += 1;
                row.forget_flight();
            }
        }
        // Only what is contiguous leaves: a consumer may not see a later chunk kept, an earlier
        // one sent again.
        while row.flight.front().is_some_and(|flight| flight.taken) {
            let done = row.flight.pop_front().expect("looked at above");
            row.leaving.push_back(done.first);
            effects.push(Effect::Remove { lane, first: done.first, last: done.last });
        }
    }

    /// A chunk that cannot be read is passed once all before it is gone, so that what leaves a
    /// lane leaves it in order.
    fn pass_bad(&mut self, lane: Lane, effects: &mut Vec<Effect>) {
        let row = self.row(lane);
        if let Some(first) = row.bad
            && row.flight.is_empty()
            && row.leaving.is_empty()
        {
            row.bad = None;
            row.cursor = first + 1;
            effects.push(Effect::PutAside { lane, first });
        }
    }

    /// When a lane has waited too long: since it was last answered, or sent what is oldest.
    fn late_at(&self, row: &Row) -> Option<Mono> {
        let limit = self.limits.ack_timeout_ms;
        let sent = row.flight.iter().filter(|f| !f.taken).map(|f| f.sent).min()?;
        let waits = sent.max(row.answered);
        Some(waits.max(self.answered).plus_ms(limit).min(waits.plus_ms(limit * PATIENCE)))
    }

    /// Liveness is acknowledgements, not the state of a socket.
    fn watch(&mut self, effects: &mut Vec<Effect>) {
        let late = |row: &Row| self.late_at(row).is_some_and(|at| at <= self.now);
        if self.lanes.iter().any(late) {
            self.totals.rebuilds += 1;
            self.link_down();
            effects.push(Effect::Rebuild);
        }
    }

    /// Orders at most one chunk: the answer to it brings us back here.
    fn fill(&mut self, effects: &mut Vec<Effect>) {
        let Some(receive_max) = self.link else { return };
        self.bucket.fill(self.now);
        // One below what the broker takes: at the limit the client would hold back state as well.
        let room = self.in_flight() < receive_max.saturating_sub(1).max(1);
        if !room || self.lanes.iter().any(|row| row.asked) {
            return;
        }
        for lane in Lane::ALL {
            let (now, limits, full) = (self.now, self.limits, self.bucket.level > 0);
            let row = self.row(lane);
            if row.held.is_some_and(|until| now < until) {
                continue;
            }
            row.held = None;
            let open = row.flight.len() + row.leaving.len() < limits.window
                && row.flight.len() < row.open.0;
            let allowed = lane == Lane::Alarms || !row.throttled() || full;
            if row.cursor < row.next && open && allowed && row.bad.is_none() {
                row.asked = true;
                let (from, before) = (row.cursor, row.next);
                let token = self.next_token;
                self.next_token += 1;
                effects.push(Effect::Send { lane, token, from, before });
                return;
            }
        }
    }

    /// With removals in half of a full window, the next barrier sets the pace of a drain.
    fn hurry(&mut self, effects: &mut Vec<Effect>) {
        let window = self.limits.window;
        let mut wanted = false;
        for row in &mut self.lanes {
            let full = row.flight.len() + row.leaving.len() >= window;
            let by_removals = row.leaving.len() * 2 >= window;
            if full && by_removals && row.cursor < row.next && !row.hurried {
                row.hurried = true;
                wanted = true;
            }
        }
        if wanted {
            effects.push(Effect::Hurry);
        }
    }
}

impl Row {
    fn committed(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    fn removed(&mut self, upto: u64) {
        while self.leaving.front().is_some_and(|first| *first < upto) {
            self.leaving.pop_front();
            self.hurried = false;
        }
    }

    /// The lane's bound was faster than we.
    fn absent(&mut self) {
        self.asked = false;
        self.cursor = self.next;
    }

    fn unreadable(&mut self, first: u64) {
        self.asked = false;
        self.bad = Some(first);
    }

    fn throttled(&self) -> bool {
        self.cursor < self.backlog_end
    }

    fn forget_flight(&mut self) {
        if let Some(oldest) = self.flight.front() {
            self.cursor = oldest.first;
        }
        self.flight.clear();
        self.asked = false;
        self.bad = None;
        self.open = Open::default();
    }
}

impl Bucket {
    fn fill(&mut self, now: Mono) {
        let elapsed_ns = i128::from(now.0.saturating_sub(self.filled.0));
        self.level = (self.level + elapsed_ns * i128::from(self.per_s)).min(self.full());
        self.filled = now;
    }

    fn full(&self) -> i128 {
        i128::from(self.per_s.div_ceil(BURSTS_A_SECOND)) * NS_A_SECOND
    }

    fn take(&mut self, now: Mono, records: u64) {
        self.fill(now);
        self.level -= i128::from(records) * NS_A_SECOND;
    }

    /// When something may be sent again; `None` where it may now.
    fn ready_at(&self) -> Option<Mono> {
        if self.level > 0 {
            return None;
        }
        let missing = u128::try_from(1 - self.level).expect("the level is not above zero");
        let ns = missing.div_ceil(u128::from(self.per_s));
        Some(Mono(self.filled.0.saturating_add(u64::try_from(ns).unwrap_or(u64::MAX))))
    }
}

#[cfg(test)]
mod tests;
