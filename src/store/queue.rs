//! What waits between the owner and the store: bounded in bytes, never blocking the owner.
//!
//! A stalled disk may hold the store's thread for minutes; the owner must not notice. So the queue
//! takes everything at once and, past its bound, forgets: aggregates first, then events, then
//! alarms, oldest first, each counted by lane so that a gap record can tell. Kept values are never
//! forgotten: the newest of a key replaces the one that waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::gateway::Ticket;
use crate::record::{Lane, Record};

/// Bound on what waits: two minutes of 21,000 bays changing as fast as cars can park.
pub const BYTES_MAX: usize = 16 << 20;
/// What a record is counted as. Its strings are ids of at most 32 characters a part; the
/// exact size would cost the owner a walk over each record.
const RECORD_BYTES: usize = 512;
/// How long a delivered chunk may stay where nothing else is written: its removal usually shares a
/// barrier with the next records. Until then a crash sends it again, within the same window as
/// what is under way; whoever's window is full says [`Queue::hurry`].
const REMOVAL_MAX: Duration = Duration::from_secs(2);

/// One thing to write.
#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    Record(Record),
    Keep { key: String, value: Option<Vec<u8>> },
}

/// Chunks that go, by their first records' numbers: those in `first..=last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removal {
    /// The store it was read from: another one has other chunks under the same numbers.
    pub epoch: u64,
    pub lane: Lane,
    pub first: u64,
    pub last: u64,
    /// Why it goes undelivered; `None` where it was delivered.
    pub undelivered: Option<&'static str>,
}

/// Shared by the owner, the uplink and the store's thread.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    woken: Condvar,
}

/// Everything to be covered by the next barrier.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// By lane, oldest first.
    pub lanes: [VecDeque<Record>; 3],
    pub kept: BTreeMap<String, Option<Vec<u8>>>,
    /// Chunks that go.
    pub removals: Vec<Removal>,
    /// Durable once this batch is.
    pub upto: Ticket,
    /// Records forgotten since the last batch, by lane: to be told by a gap record.
    pub forgotten: [u64; 3],
    bytes: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    batch: Batch,
    urgent: bool,
    /// When the oldest item came.
    since: Option<Instant>,
    /// When the oldest removal came.
    removal_since: Option<Instant>,
    stopping: bool,
    suspected: Option<String>,
}

/// What the store's thread got.
#[derive(Debug)]
pub enum Taken {
    Batch(Batch),
    /// A reader met a fault inside the database.
    Suspected(String),
    /// Nothing came within the time given.
    Nothing,
    /// Nothing is left and nothing will come.
    Stopped,
}

impl Queue {
    pub fn new() -> Queue {
        Queue::default()
    }

    /// Hands over items that end at ticket `upto`. An urgent push is committed at once, because
    /// somebody waits for it. Never waits for the disk.
    pub fn push(&self, items: Vec<Item>, upto: Ticket, urgent: bool) {
        let mut waiting = self.lock();
        for item in items {
            waiting.batch.add(item);
        }
        waiting.batch.upto = waiting.batch.upto.max(upto);
        waiting.batch.forget_above(BYTES_MAX);
        waiting.urgent |= urgent;
        // Whoever takes knows already when an older item is due.
        let news = urgent || waiting.since.is_none();
        waiting.since.get_or_insert_with(Instant::now);
        if news {
            self.woken.notify_one();
        }
    }

    /// Orders chunks to be forgotten, with the next commit.
    pub fn remove(&self, removal: Removal) {
        let mut waiting = self.lock();
        waiting.batch.removals.push(removal);
        // Wakes nobody: who waits for items looks here at least once in its patience.
        waiting.removal_since.get_or_insert_with(Instant::now);
    }

    /// Lets what waits be committed at once.
    pub fn hurry(&self) {
        self.lock().urgent = true;
        self.woken.notify_one();
    }

    /// Whether somebody waits for what was pushed since the last batch.
    pub(super) fn urgent(&self) -> bool {
        self.lock().urgent
    }

    /// Tells the store's thread that reading failed inside the database.
    pub fn suspect(&self, why: String) {
        let mut waiting = self.lock();
        waiting.suspected.get_or_insert(why);
        self.woken.notify_one();
    }

    /// What was suspected before a new opening says nothing about it.
    pub(super) fn forget_suspicion(&self) {
        self.lock().suspected = None;
    }

    /// What waits, in bytes as counted against [`BYTES_MAX`].
    pub fn bytes(&self) -> usize {
        self.lock().batch.bytes
    }

    /// Lets the store's thread commit what waits and end.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.woken.notify_one();
    }

    /// Waits for something to commit: until it is `gather` old ([`REMOVAL_MAX`] for removals), or
    /// urgent, or the end. At most `patience` if nothing comes at all.
    pub(super) fn take(&self, gather: Duration, patience: Duration) -> Taken {
        let began = Instant::now();
        let mut waiting = self.lock();
        loop {
            if let Some(why) = waiting.suspected.take() {
                return Taken::Suspected(why);
            }
            let left = |since: Option<Instant>, most: Duration| {
                since.map(|since| most.saturating_sub(since.elapsed()))
            };
            let removals = left(waiting.removal_since, REMOVAL_MAX);
            let due = left(waiting.since, gather).into_iter().chain(removals).min();
            if due.is_some_and(|due| due.is_zero() || waiting.urgent || waiting.stopping) {
                waiting.urgent = false;
                (waiting.since, waiting.removal_since) = (None, None);
                return Taken::Batch(std::mem::take(&mut waiting.batch));
            }
            if waiting.stopping {
                return Taken::Stopped;
            }
            let patience = patience.saturating_sub(began.elapsed());
            if due.is_none() && patience.is_zero() {
                return Taken::Nothing;
            }
            let woken = self.woken.wait_timeout(waiting, due.unwrap_or(patience));
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Returns what could not be committed: it goes before what came since.
    pub(super) fn put_back(&self, batch: Batch) {
        let mut waiting = self.lock();
        let newer = std::mem::replace(&mut waiting.batch, batch);
        waiting.batch.follow(newer);
        waiting.batch.forget_above(BYTES_MAX);
        waiting.since.get_or_insert_with(Instant::now);
    }

    /// Whether the end was asked for.
    pub(super) fn stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Waits until the end is asked for, or `patience` is over.
    pub(super) fn rest(&self, patience: Duration) {
        let waiting = self.lock();
        let idle = |waiting: &mut Waiting| !waiting.stopping;
        drop(self.woken.wait_timeout_while(waiting, patience, idle));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing inside can panic halfway; a poisoned lock still holds a whole queue.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(VecDeque::is_empty)
            && self.kept.is_empty()
            && self.removals.is_empty()
            && self.forgotten == [0; 3]
    }

    fn add(&mut self, item: Item) {
        match item {
            Item::Record(record) => {
                self.bytes += RECORD_BYTES;
                self.lanes[record.lane as usize].push_back(record);
            }
            Item::Keep { key, value } => {
                self.bytes += kept_bytes(&key, value.as_deref());
                let key_len = key.len();
                if let Some(older) = self.kept.insert(key, value) {
                    self.bytes -= 64 + key_len + older.map_or(0, |value| value.len());
                }
            }
        }
    }

    /// Appends what came later.
    fn follow(&mut self, newer: Batch) {
        for lane in newer.lanes {
            for record in lane {
                self.add(Item::Record(record));
            }
        }
        for (key, value) in newer.kept {
            self.add(Item::Keep { key, value });
        }
        self.removals.extend(newer.removals);
        self.upto = self.upto.max(newer.upto);
        for (sum, more) in self.forgotten.iter_mut().zip(newer.forgotten) {
            *sum += more;
        }
    }

    /// Forgets the oldest records of the least important lane until the rest fits.
    fn forget_above(&mut self, bytes_max: usize) {
        for lane in [Lane::Aggregates, Lane::Events, Lane::Alarms] {
            let at = lane as usize;
            while self.bytes > bytes_max && self.lanes[at].pop_front().is_some() {
                self.bytes -= RECORD_BYTES;
                self.forgotten[at] += 1;
            }
        }
    }
}

fn kept_bytes(key: &str, value: Option<&[u8]>) -> usize {
    64 + key.len() + value.map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Body;
    use crate::time::Now;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn everything_that_waits_shares_one_barrier() {
        let queue = Queue::new();
        queue.push(vec![record(Lane::Events), keep("a", "1")], Ticket(2), false);
        queue.push(vec![record(Lane::Alarms), keep("a", "2")], Ticket(4), true);
        let Taken::Batch(batch) = queue.take(Duration::from_secs(60), NOW) else {
            panic!("an urgent push was not taken at once");
        };
        assert_eq!(batch.upto, Ticket(4));
        assert_eq!(batch.lanes.each_ref().map(VecDeque::len), [1, 1, 0]);
        assert_eq!(batch.kept, BTreeMap::from([("a".to_owned(), Some(b"2".to_vec()))]));
        assert!(matches!(queue.take(NOW, NOW), Taken::Nothing));
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn past_its_bound_it_forgets_aggregates_then_events_then_alarms() {
        let mut batch = Batch::default();
        for lane in Lane::ALL {
            for _ in 0..4 {
                batch.add(record(lane));
            }
        }
        batch.add(keep("lease/1", "x"));
        batch.forget_above(7 * RECORD_BYTES);
        assert_eq!(batch.lanes.each_ref().map(VecDeque::len), [4, 2, 0]);
        assert_eq!(batch.forgotten, [0, 2, 4]);
        batch.forget_above(0);
        assert_eq!(batch.forgotten, [4, 4, 4]);
        assert_eq!(batch.kept.len(), 1, "a kept value was forgotten");
    }

    #[test]
    fn what_comes_back_goes_before_what_came_since() {
        let queue = Queue::new();
        queue.push(vec![record(Lane::Events), keep("a", "old"), keep("b", "old")], Ticket(3), true);
        let Taken::Batch(mut failed) = queue.take(NOW, NOW) else { panic!("nothing taken") };
        failed.lanes[1][0].at.wall.0 = -1;
        queue.push(vec![record(Lane::Events), keep("a", "new")], Ticket(5), true);
        queue.put_back(failed);
        let Taken::Batch(batch) = queue.take(NOW, NOW) else { panic!("nothing taken") };
        let walls: Vec<_> = batch.lanes[1].iter().map(|r| r.at.wall.0).collect();
        assert_eq!(walls, [-1, 0]);
        assert_eq!(batch.kept["a"], Some(b"new".to_vec()));
        assert_eq!(batch.kept["b"], Some(b"old".to_vec()));
        assert_eq!(batch.upto, Ticket(5));
    }

    #[test]
    fn bytes_are_counted_back_to_zero() {
        let mut batch = Batch::default();
        for value in ["a", "long enough to differ", ""] {
            batch.add(keep("k", value));
        }
        batch.add(Item::Keep { key: "k".to_owned(), value: None });
        assert_eq!(batch.bytes, kept_bytes("k", None));
    }

    #[test]
    fn a_stop_lets_what_waits_out_first() {
        let queue = Queue::new();
        queue.push(vec![record(Lane::Events)], Ticket(1), false);
        queue.stop();
        assert!(matches!(queue.take(Duration::from_secs(60), NOW), Taken::Batch(_)));
        assert!(matches!(queue.take(Duration::from_secs(60), NOW), Taken::Stopped));
    }

    fn record(lane: Lane) -> Item {
        let body = Body::StoreDegraded { why: "test".to_owned() };
        Item::Record(Record { lane, at: Now::default(), body })
    }

    fn keep(key: &str, value: &str) -> Item {
        Item::Keep { key: key.to_owned(), value: Some(value.as_bytes().to_vec()) }
    }
}
