//! The store: every record and kept value on disk before anybody relies on it, on sled.
//!
//! The promise. What one commit holds is durable together once its barrier has ended, `commit_ms`
//! (200 ms) and one disk access after it was handed over, at once where a driver waits; nothing is
//! sent upstream, or called durable, before. From then on it outlives a SIGKILL and a power cut at
//! any moment, also while starting; what is younger is lost by either. (A power cut within a
//! barrier may leave the beginning of its commit: records first, then kept values, so that a record
//! is sent whose kept value is not there, and never the other way.) Each lane arrives in order and
//! at least once: a kill, a cut or a lost link repeats at most the window of messages that were
//! under way or leaving (`mqtt.window`, 8 a lane), under the same numbers. Where a lane's share of
//! the bound is met, or the disk's free floor, aggregates are merged first, and then the oldest of
//! that lane go, told by a gap record; no lane takes from another, and on a filling disk aggregates
//! stop growing first, events next, alarms last. A file that damage made unreadable is set aside
//! and a new store made; what it had not delivered is told, as spans of numbers.
//! `tests/store_kill.rs`, `store_power.rs`, `store_damage.rs`, `store_thinned.rs` and
//! `store_full.rs` hold it to this.
//!
//! One plain thread writes (`writer.rs`); the owner hands over through a [`Queue`] that never
//! blocks, the uplink reads chunks through a [`Store`] and sees what is durable as marks that only
//! grow. No fault of the disk or of sled ends the process: the store goes away, says so, keeps
//! what waits in bounded memory, and comes back. There is no second engine behind a trait: one
//! set of tests holds sled to what is promised here.

mod aside;
pub mod barrier;
pub mod chunk;
mod clocks;
mod copy;
mod deaths;
mod floor;
mod left;
pub mod look;
mod message;
mod mirror;
mod note;
mod numbers;
mod open;
pub mod queue;
mod segments;
pub mod thin;
mod thinner;
mod write;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sled::Tree;
use tokio::sync::watch;

pub use chunk::Chunk;
pub use queue::{Item, Queue};

use crate::config::StoreTable;
use crate::gateway::{Kept, Ticket};
use crate::record::{Body, Lane};
use crate::time::{Clock, Mono, Wall};
use clocks::Clocks;
use message::{MESSAGE_BYTES, joined};
use queue::Removal;

/// How long a start waits for the store. A scan of a gigabyte takes 3 s from a slow card; guiding
/// without what was kept is better than not guiding.
const OPEN_MAX: Duration = Duration::from_secs(5);

/// What readers need to know of the store, as marks that only grow while `generation` stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tide {
    /// Grows with each opening: what was read before it means nothing after.
    pub generation: u64,
    /// `None` while there is no store.
    pub epoch: Option<u64>,
    /// By lane: numbers below this are durable and may be sent.
    pub committed: [u64; 3],
    /// By lane: chunks that begin below this are gone from the disk for good.
    pub removed: [u64; 3],
}

/// What the store is and has, for metrics, pages and presence.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Status {
    pub epoch: Option<u64>,
    /// Why there is no store now.
    pub degraded: Option<String>,
    pub lanes: [LaneStatus; 3],
    /// Values kept over restarts that were found at the start.
    pub restored: u64,
    pub commits: u64,
    /// The last commit, from its first write to its barrier.
    pub last_commit_ms: u64,
    /// The longest commit of this run.
    pub longest_commit_ms: u64,
    pub barriers: u64,
    /// Stores set aside by this run.
    pub set_aside: u64,
}

/// One lane of the backlog.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LaneStatus {
    /// Numbers that wait: a merged record counts as all that it covers.
    pub records: u64,
    pub bytes: u64,
    /// The most it may hold now: its share, or less on a disk that is nearly full.
    pub bytes_max: u64,
    /// When the oldest waiting record was made, put right as far as can be.
    pub oldest_at: Option<Wall>,
    /// The same by the other clock, where it was made in this boot.
    pub oldest_mono: Option<Mono>,
    /// The number the next record gets.
    pub next: u64,
    /// Records given up since this start, before or after they were numbered.
    pub dropped: u64,
    /// Records by which there are fewer since this start, because they were merged.
    pub merged: u64,
}

/// What a reader found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    Chunk(Chunk),
    /// There is nothing in that range.
    Nothing,
    /// A chunk stands there that cannot be read.
    Unreadable {
        first: u64,
    },
    /// There is no store now.
    Away,
}

/// A handle to the store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    durable: watch::Receiver<Ticket>,
    tide: watch::Receiver<Tide>,
    done: Arc<Mutex<mpsc::Receiver<()>>>,
}

/// What the store's thread and its handles have in common.
#[derive(Debug, Default)]
struct Shared {
    trees: Mutex<Option<Trees>>,
    status: Mutex<Status>,
    clocks: Mutex<Clocks>,
}

/// What readers read.
#[derive(Debug)]
struct Trees {
    epoch: u64,
    lanes: [Tree; 3],
}

/// Hands what was kept from the store's thread to the start, or says that it came too late.
#[derive(Debug, Default)]
struct First {
    state: Mutex<Handover>,
    given: Condvar,
}

#[derive(Debug, Default)]
enum Handover {
    #[default]
    Open,
    Given(Kept),
    Over,
}

impl First {
    /// Returns what nobody waits for any more.
    fn give(&self, kept: Kept) -> Option<Kept> {
        let mut state = lock(&self.state);
        if !matches!(*state, Handover::Open) {
            return Some(kept);
        }
        *state = Handover::Given(kept);
        self.given.notify_one();
        None
    }

    /// What was given `within` the time; after that it is too late.
    fn wait(&self, within: Duration) -> Kept {
        let open = |state: &mut Handover| matches!(*state, Handover::Open);
        let waited = self.given.wait_timeout_while(lock(&self.state), within, open);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        match std::mem::replace(&mut *state, Handover::Over) {
            Handover::Given(kept) => kept,
            Handover::Open | Handover::Over => Kept::default(),
        }
    }
}

/// Starts the store's thread and waits, at most 5 s, for what was kept by an earlier run. Never
/// fails: without a store it works in memory, says so by `notices`, and tries again within 10 s.
/// `notices` must not wait; where it returns false the notice is given again later. What was kept
/// in a store that opened only after the start goes to `late`, on the same terms.
pub fn start(
    settings: &StoreTable,
    path: PathBuf,
    boot: String,
    clock: Clock,
    notices: impl Fn(Body) -> bool + Send + 'static,
    late: impl Fn(Kept) -> bool + Send + 'static,
) -> (Store, Kept) {
    let queue = Arc::new(Queue::new());
    let shared = Arc::new(Shared::default());
    let (durable_out, durable) = watch::channel(Ticket(0));
    let (tide_out, tide) = watch::channel(Tide::default());
    let first = Arc::new(First::default());
    let giver = first.clone();
    let (finished, done) = mpsc::sync_channel(1);
    let writer = writer::Writer::new(writer::Parts {
        settings: settings.clone(),
        path,
        boot,
        clock,
        notices: Box::new(notices),
        late: Box::new(late),
        queue: queue.clone(),
        shared: shared.clone(),
        durable: durable_out,
        tide: tide_out,
    });
    let spawned = std::thread::Builder::new().name("store".to_owned()).spawn(move || {
        let ran = catch_unwind(AssertUnwindSafe(|| writer.run(&giver)));
        if ran.is_err() {
            // Nothing, where it came to that already: the start need not wait for more.
            giver.give(Kept::default());
            tracing::error!("store: its thread ended by a panic; nothing more is written");
        }
        let _ = finished.send(());
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "store: no thread for it; nothing is written");
    }
    let kept = first.wait(OPEN_MAX);
    let mut status = lock(&shared.status);
    if status.epoch.is_none() && status.degraded.is_none() {
        let waited_s = OPEN_MAX.as_secs();
        tracing::error!(waited_s, "store: still opening; guiding without what was kept");
        status.degraded = Some(format!("still opening after {waited_s} s"));
    }
    drop(status);
    let store = Store { queue, shared, durable, tide, done: Arc::new(Mutex::new(done)) };
    (store, kept)
}

impl Store {
    /// Where the owner puts what is to be written.
    pub fn queue(&self) -> Arc<Queue> {
        self.queue.clone()
    }

    /// The highest ticket that is durable; does not move while there is no store.
    pub fn durable(&self) -> watch::Receiver<Ticket> {
        self.durable.clone()
    }

    /// What may be read and what is gone.
    pub fn tide(&self) -> watch::Receiver<Tide> {
        self.tide.clone()
    }

    pub fn status(&self) -> Status {
        let mut status = lock(&self.shared.status).clone();
        status.barriers = barrier::count();
        status
    }

    /// Bytes that wait in memory for the disk, of at most [`queue::BYTES_MAX`].
    pub fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// The first chunk of `lane` that begins in `from..before`, if the store is still that of
    /// `epoch`, joined by those that follow without a gap in the same boot until a message of
    /// `bytes_max` or 16 KiB is full; with times put right where its clock was unsure and became
    /// good later. Reads from the page cache or the disk: a few microseconds, or one disk access.
    pub fn read(&self, epoch: u64, lane: Lane, from: u64, before: u64, bytes_max: usize) -> Found {
        if from >= before {
            return Found::Nothing;
        }
        let trees = lock(&self.shared.trees);
        let Some(trees) = trees.as_ref().filter(|trees| trees.epoch == epoch) else {
            return Found::Away;
        };
        let tree = &trees.lanes[lane as usize];
        let range = from.to_be_bytes()..before.to_be_bytes();
        let most = bytes_max.min(MESSAGE_BYTES);
        let right = |chunk: &mut Chunk| self.put_right(chunk);
        let read = catch_unwind(AssertUnwindSafe(|| joined(tree.range(range), most, right)));
        let why = match read {
            Ok(Ok(found)) => return found,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("sled panicked: {}", open::said(&*panic)),
        };
        // Under the lock of the trees: an opening anew waits for it, and clears what is said here.
        self.queue.suspect(why);
        Found::Away
    }

    fn put_right(&self, chunk: &mut Chunk) {
        let offset_ms = lock(&self.shared.clocks).offset_ms(&chunk.boot);
        if let Some(json) = offset_ms.and_then(|ms| clocks::corrected(&chunk.json, ms)) {
            chunk.json = json;
        }
    }

    /// Removes delivered chunks of the store of `epoch`, those that begin in `first..=last`, with
    /// the next commit; [`Tide::removed`] tells when they are gone.
    pub fn remove(&self, epoch: u64, lane: Lane, first: u64, last: u64) {
        self.queue.remove(Removal { epoch, lane, first, last, undelivered: None });
    }

    /// Commits what waits now instead of at the end of the interval.
    pub fn hurry(&self) {
        self.queue.hurry();
    }

    /// Takes a chunk that can never be delivered out of the lane; a gap record tells upstream.
    pub fn put_aside(&self, epoch: u64, lane: Lane, first: u64, why: &'static str) {
        let undelivered = Some(why);
        self.queue.remove(Removal { epoch, lane, first, last: first, undelivered });
    }

    /// Commits what waits and closes the store; true if that was done `within` the time given.
    pub fn stop(&self, within: Duration) -> bool {
        self.queue.stop();
        lock(&self.done).recv_timeout(within).is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these guard is replaced whole, so a panic elsewhere leaves it usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests;
