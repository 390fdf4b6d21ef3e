//! The store's thread: everything that waits goes in one barrier, and only then is it durable.
//!
//! A commit writes removals, chunks, kept values and each lane's next number, in this order, and
//! ends with one flush. Any error or panic of sled closes the store: what was taken goes back to
//! the queue, what may half stand on the disk is cut off when the store opens again, and its
//! numbers are given again, since none was published. A lane above its bound loses its oldest
//! chunks, told by a gap record. Before it comes to that, old windows are merged into coarser ones
//! (`thinner.rs`), after the mark and where nobody waits; and on a disk that gets full the bounds
//! come down to what is there (`floor.rs`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::aside::Aside;
use super::chunk::Chunk;
use super::clocks::Clocks;
use super::floor::{self, Floor};
use super::left::Left;
use super::mirror::Mirror;
use super::note::Note;
use super::numbers;
use super::open::{self, Folder, Opened};
use super::queue::{Batch, Queue, Taken};
use super::thinner::{KNOWN_BYTES, Thinned, Thinner};
use super::write::{Outcome, Write, count_delivered};
use super::{First, LaneStatus, Shared, Tide, Trees, lock};
use crate::config::StoreTable;
use crate::gateway::{Kept, Ticket};
use crate::record::{Body, Lane, Record, Span};
use crate::time::{Clock, Mono};

/// First and longest wait before a store that could not be opened or written is tried again. Most
/// faults pass at once or need a person.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How often an idle thread looks after notices that nobody took.
const IDLE: Duration = Duration::from_secs(1);
/// Merging begins where a lane has less than this share of its bound left.
const THIN_SHARE: u64 = 8;
/// Notices that wait for an owner with a full queue; more are only logged.
const NOTICES_MAX: usize = 16;

/// What a writer is made of.
pub struct Parts {
    pub settings: StoreTable,
    pub path: PathBuf,
    pub boot: String,
    pub clock: Clock,
    pub notices: Box<dyn Fn(Body) -> bool + Send>,
    /// Takes what was kept when the store opened only after the start.
    pub late: Box<dyn Fn(Kept) -> bool + Send>,
    pub queue: Arc<Queue>,
    pub shared: Arc<Shared>,
    pub durable: watch::Sender<Ticket>,
    pub tide: watch::Sender<Tide>,
}

pub struct Writer {
    parts: Parts,
    folder: Option<Folder>,
    opened: Option<Opened>,
    /// Marks of the last barrier; `committed` is where numbering goes on.
    mark: Tide,
    bytes: [u64; 3],
    /// What has left each lane, and is told or delivered whatever becomes of the next commit.
    left: [Left; 3],
    bytes_max: [u64; 3],
    floor: Floor,
    thinner: Thinner,
    dropped: [u64; 3],
    merged: [u64; 3],
    degraded_since: Option<Instant>,
    /// Doubles with each failure, until a commit succeeds.
    retry: Duration,
    /// Reads that failed inside sled since the last delivered chunk went.
    strikes: u32,
    notices: Vec<Body>,
    /// Kept values found too late for the start, until the owner takes them.
    late: Option<Kept>,
    kept: Mirror,
    /// Numbers missing at the end when it was opened, until a commit has told them.
    owed: Vec<(Lane, u64, u64)>,
}

impl Writer {
    pub fn new(parts: Parts) -> Writer {
        let table = &parts.settings;
        let shares = [table.alarms_percent, table.events_percent, table.aggregates_percent];
        let backlog_bytes = u64::from(table.backlog_mib) << 20;
        Writer {
            bytes_max: shares.map(|percent| backlog_bytes / 100 * u64::from(percent)),
            floor: Floor::new(u64::from(table.free_min_mib) << 20),
            thinner: Thinner::default(),
            parts,
            folder: None,
            opened: None,
            mark: Tide::default(),
            bytes: [0; 3],
            left: [1; 3].map(Left::new),
            dropped: [0; 3],
            merged: [0; 3],
            degraded_since: None,
            retry: RETRY_MIN,
            strikes: 0,
            notices: Vec::new(),
            late: None,
            kept: Mirror::default(),
            owed: Vec::new(),
        }
    }

    /// Works until the queue is stopped; hands what was kept to `first`.
    pub fn run(mut self, first: &First) {
        let entries = self.open();
        let found = self.opened.is_some();
        // The start did not wait any longer: then it is late.
        self.late = first.give(Kept { entries }).filter(|_| found);
        let gather = Duration::from_millis(u64::from(self.parts.settings.commit_ms));
        let mut last_try = false;
        loop {
            self.give_notices();
            if self.opened.is_none() {
                if last_try {
                    tracing::error!("store: stopped without a disk; what waited is lost");
                    return;
                }
                self.parts.queue.rest(self.retry);
                self.retry = (self.retry * 2).min(RETRY_MAX);
                last_try = self.parts.queue.stopping();
                self.open_again();
                continue;
            }
            match self.parts.queue.take(gather, IDLE) {
                Taken::Batch(batch) => self.commit(batch),
                Taken::Suspected(why) => self.suspected(&why),
                // A clock that became good is kept even where nothing else happens.
                Taken::Nothing if self.clock_news().is_some() => self.commit(Batch::default()),
                Taken::Nothing => (),
                Taken::Stopped => return self.close(),
            }
        }
    }

    /// Opens a store that was away. What its first opening in this run finds goes to the running
    /// gateway; what a store lost and found again holds, the gateway knows better.
    fn open_again(&mut self) {
        let first = self.mark.generation == 0;
        let entries = self.open();
        if first && self.opened.is_some() {
            self.late = Some(Kept { entries });
        }
    }

    /// Opens or makes the store, and says which way it went; what was kept, if it opened.
    fn open(&mut self) -> Vec<(String, Vec<u8>)> {
        match self.try_open() {
            Ok((mut opened, aside)) => {
                let entries = std::mem::take(&mut opened.entries);
                if self.mark.generation == 0 {
                    self.kept = Mirror::of(&entries);
                }
                if let Some(aside) = aside {
                    self.tell_aside(aside);
                }
                if let Err(why) = self.adopt(opened) {
                    self.degrade(&why);
                    return Vec::new();
                }
                self.back();
                let mut status = lock(&self.parts.shared.status);
                status.restored = entries.len() as u64;
                entries
            }
            Err(why) => {
                self.degrade(&why);
                Vec::new()
            }
        }
    }

    fn try_open(&mut self) -> Result<(Opened, Option<Aside>), String> {
        let now = self.parts.clock.now().wall;
        if self.folder.is_none() {
            self.folder = Some(Folder::take(&self.parts.path)?);
        }
        self.folder.as_ref().expect("taken above").open(now)
    }

    /// Takes over an opened store. If it is the one used before in this run, what was written
    /// without a barrier is cut off or put back: it is still in the queue and gets the same numbers
    /// again.
    fn adopt(&mut self, mut opened: Opened) -> Result<(), String> {
        if self.mark.epoch == Some(opened.epoch) {
            for lane in Lane::ALL {
                let tail = self.mark.committed[lane as usize];
                let tree = &opened.lanes[lane as usize];
                for key in tree.range(tail.to_be_bytes()..).keys() {
                    let key = key.map_err(|error| error.to_string())?;
                    tree.remove(key).map_err(|error| error.to_string())?;
                }
                opened.next[lane as usize] = tail;
                // The failed commit's floor would leave numbers out if this process died now.
                let floor = opened.meta.insert(numbers::next_key(lane), &tail.to_be_bytes());
                floor.map_err(|error| error.to_string())?;
                // Its gap records were cut off with the tail: they are not told yet.
                let left = self.left[lane as usize].encode();
                let left = opened.meta.insert(numbers::left_key(lane), left);
                left.map_err(|error| error.to_string())?;
            }
        } else {
            self.mark.removed = [0; 3];
            self.left = opened.left.clone();
            self.owed.clear();
        }
        if self.mark.generation > 0 {
            self.kept.restore(&opened.kept).map_err(|error| error.to_string())?;
            opened.db.flush().map_err(|error| error.to_string())?;
        }
        for (lane, first, before) in std::mem::take(&mut opened.lost) {
            tracing::error!(lane = lane.name(), first, before, "store: its end is missing");
            self.owed.push((lane, first, before));
        }
        self.mark.generation += 1;
        self.mark.epoch = Some(opened.epoch);
        self.mark.committed = opened.next;
        self.bytes = opened.bytes;
        self.thinner = Thinner::default();
        // Whoever met a fault in the trees before these has said so: that is over.
        self.parts.queue.forget_suspicion();
        let trees = Trees { epoch: opened.epoch, lanes: opened.lanes.clone() };
        *lock(&self.parts.shared.trees) = Some(trees);
        *lock(&self.parts.shared.clocks) = std::mem::take(&mut opened.clocks);
        let epoch = format!("{:016x}", opened.epoch);
        self.opened = Some(opened);
        tracing::info!(epoch, next = ?self.mark.committed, "store: open");
        self.publish();
        Ok(())
    }

    fn commit(&mut self, mut batch: Batch) {
        let began = Instant::now();
        let forgotten = batch.forgotten;
        let written = catch_unwind(AssertUnwindSafe(|| self.write(&mut batch)));
        let written =
            written.unwrap_or_else(|panic| Err(format!("sled panicked: {}", open::said(&*panic))));
        match written {
            Ok(outcome) => {
                self.mark.committed = outcome.next;
                self.owed.clear();
                let epoch = self.mark.epoch;
                for removal in batch.removals.iter().filter(|r| Some(r.epoch) == epoch) {
                    let mark = &mut self.mark.removed[removal.lane as usize];
                    *mark = (*mark).max(removal.last + 1);
                    self.strikes = 0;
                }
                self.bytes = outcome.bytes;
                self.left = outcome.left;
                self.kept.follow(batch.kept);
                let given_up = forgotten.iter().zip(outcome.given_up);
                for (sum, (forgotten, given_up)) in self.dropped.iter_mut().zip(given_up) {
                    *sum += forgotten + given_up;
                }
                self.retry = RETRY_MIN;
                self.count_commit(began.elapsed());
                // Before the mark: who is told of it finds what it covers.
                self.tell_status();
                self.parts.durable.send_if_modified(|mark| {
                    let grows = batch.upto > *mark;
                    *mark = batch.upto.max(*mark);
                    grows
                });
                // Drivers wait for the mark; nobody waits for these.
                if let (Some(folder), Some(epoch)) = (&self.folder, self.mark.epoch) {
                    let head = self.left.each_ref().map(Left::head);
                    folder.note(&Note { epoch, next: self.mark.committed, head });
                }
                self.parts.tide.send_replace(self.mark);
                self.thin();
            }
            Err(why) => {
                self.parts.queue.put_back(batch);
                self.degrade(&why);
            }
        }
    }

    /// Merges some old windows of the aggregates lane where it is nearly full. Where somebody
    /// waits, that comes first: the commit for him ends here again.
    fn thin(&mut self) {
        let (lane, at) = (Lane::Aggregates, Lane::Aggregates as usize);
        let (most, _) = self.floor.bound(lane, self.bytes_max[at]);
        if self.bytes[at] <= most - most / THIN_SHARE || self.parts.queue.urgent() {
            return;
        }
        let thinned = catch_unwind(AssertUnwindSafe(|| self.thin_slice(lane)));
        let thinned =
            thinned.unwrap_or_else(|panic| Err(format!("sled panicked: {}", open::said(&*panic))));
        match thinned {
            Ok(Some(thinned)) => {
                let Thinned { bytes, records } = thinned;
                tracing::debug!(lane = lane.name(), bytes, records, "store: windows merged");
                self.bytes[at] = self.bytes[at].saturating_sub(bytes);
                self.merged[at] += records;
                self.tell_status();
            }
            Ok(None) => (),
            Err(why) => self.degrade(&why),
        }
    }

    /// One slice up to and with its own barrier: what is read after it is durable.
    fn thin_slice(&mut self, lane: Lane) -> Result<Option<Thinned>, String> {
        let at = lane as usize;
        let opened = self.opened.as_ref().ok_or("there is no store")?;
        let next = self.mark.committed[at];
        let step = self.thinner.step(&opened.lanes[at], next, KNOWN_BYTES);
        let Some(thinned) = step.map_err(|error| error.to_string())? else { return Ok(None) };
        // Behind what it counts, as in a commit.
        let bytes = self.bytes[at].saturating_sub(thinned.bytes);
        let counted = opened.meta.insert(numbers::bytes_key(lane), &bytes.to_be_bytes());
        counted.map_err(|error| error.to_string())?;
        opened.db.flush().map_err(|error| error.to_string())?;
        Ok(Some(thinned))
    }

    /// The boots' clocks, where there is something new to keep of them.
    fn clock_news(&self) -> Option<Clocks> {
        self.parts.clock.good_since()?;
        let offset_ms = self.parts.clock.now().offset_ms();
        let mut clocks = lock(&self.parts.shared.clocks).clone();
        clocks.note(&self.parts.boot, offset_ms).then_some(clocks)
    }

    /// Everything up to and with the barrier.
    fn write(&mut self, batch: &mut Batch) -> Result<Outcome, String> {
        open::enough_room(&self.parts.path)?;
        self.floor.look(floor::free_bytes(&self.parts.path)?, self.bytes);
        let now = self.parts.clock.now();
        let opened = self.opened.as_ref().ok_or("there is no store")?;
        count_delivered(opened, &batch.removals, &mut self.left)?;
        let (next, bytes, left) = (self.mark.committed, self.bytes, self.left.clone());
        let outcome = Outcome { next, bytes, left, given_up: [0; 3] };
        let (boot, good_since) = (self.parts.boot.as_str(), self.parts.clock.good_since());
        let mut write = Write { opened, outcome, gaps: Vec::new(), boot, good_since };
        // What was ordered for a store before this one would hit others' numbers here.
        for removal in batch.removals.iter().filter(|r| r.epoch == opened.epoch) {
            write.remove(removal)?;
        }
        for (at, count) in batch.forgotten.into_iter().enumerate() {
            let why = "the disk stalled and memory for waiting records was full";
            write.gap(Lane::ALL[at], count, None, why);
        }
        for (lane, first, before) in &self.owed {
            write.vanished(*lane, *first, *before);
        }
        // Alarms last: gaps of the other lanes are alarms.
        for lane in [Lane::Events, Lane::Aggregates, Lane::Alarms] {
            let (most, why) = self.floor.bound(lane, self.bytes_max[lane as usize]);
            if lane == Lane::Alarms {
                write.bound(lane, most, &why)?;
            }
            let records = batch.lanes[lane as usize].make_contiguous();
            write.append(lane, records)?;
            if lane != Lane::Alarms {
                write.bound(lane, most, &why)?;
            }
            write.find_vanished(lane)?;
            if lane == Lane::Alarms {
                let gaps = std::mem::take(&mut write.gaps).into_iter();
                let gaps: Vec<_> = gaps.map(|gap| Record::new(lane, now, gap)).collect();
                write.append(lane, &gaps)?;
            }
        }
        for (key, value) in &batch.kept {
            match value {
                Some(value) => opened.kept.insert(key, value.as_slice()).map(drop),
                None => opened.kept.remove(key).map(drop),
            }
            .map_err(|error| error.to_string())?;
        }
        write.numbers(self.mark.committed, self.bytes, &self.left)?;
        let outcome = write.outcome;
        let clocks = self.clock_news();
        if let Some(clocks) = &clocks {
            let kept = opened.meta.insert(open::CLOCKS, clocks.encode());
            kept.map_err(|error| error.to_string())?;
        }
        opened.db.flush().map_err(|error| error.to_string())?;
        if let Some(clocks) = clocks {
            *lock(&self.parts.shared.clocks) = clocks;
        }
        Ok(outcome)
    }

    /// A reader met a fault inside sled. The first time the store is opened anew, which cures a
    /// passing one; the second time, with nothing delivered in between, it is set aside.
    fn suspected(&mut self, why: &str) {
        self.strikes += 1;
        tracing::warn!(why, strikes = self.strikes, "store: a read failed");
        if self.strikes < 2 {
            self.degrade(why);
            self.open();
            return;
        }
        self.close();
        let now = self.parts.clock.now().wall;
        let Some(folder) = &self.folder else { return };
        match folder.set_aside(why, now) {
            Ok(aside) => {
                self.strikes = 0;
                self.tell_aside(aside);
                self.open();
            }
            Err(why) => self.degrade(&why),
        }
    }

    fn tell_aside(&mut self, aside: Aside) {
        tracing::error!(why = aside.why, moved_to = aside.moved_to, "store: set aside");
        lock(&self.parts.shared.status).set_aside += 1;
        let Aside { why, moved_to, note } = aside;
        let epoch = note.map(|note| format!("{:016x}", note.epoch));
        let waiting = note.map_or_else(Vec::new, waiting);
        self.notice(Body::StoreSetAside { why, moved_to, epoch, waiting });
    }

    fn degrade(&mut self, why: &str) {
        self.close();
        lock(&self.parts.shared.status).degraded = Some(why.to_owned());
        if self.degraded_since.is_none() {
            tracing::error!(why, "store: degraded; records wait in memory");
            self.degraded_since = Some(Instant::now());
            self.notice(Body::StoreDegraded { why: why.to_owned() });
        } else {
            tracing::debug!(why, "store: still degraded");
        }
    }

    fn back(&mut self) {
        lock(&self.parts.shared.status).degraded = None;
        if let Some(since) = self.degraded_since.take() {
            let degraded_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(degraded_ms, "store: written again");
            self.notice(Body::StoreBack { degraded_ms });
        }
    }

    /// Lets go of sled and its files, whatever state they are in.
    fn close(&mut self) {
        let trees = lock(&self.parts.shared.trees).take();
        let opened = self.opened.take();
        let dropped = catch_unwind(AssertUnwindSafe(move || drop((trees, opened))));
        if dropped.is_err() {
            tracing::warn!("store: sled panicked while closing");
        }
    }

    fn notice(&mut self, body: Body) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push(body);
        }
        self.give_notices();
    }

    fn give_notices(&mut self) {
        if let Some(kept) = self.late.take()
            && !(self.parts.late)(kept.clone())
        {
            self.late = Some(kept);
        }
        while let Some(body) = self.notices.first() {
            if !(self.parts.notices)(body.clone()) {
                return;
            }
            self.notices.remove(0);
        }
    }

    fn count_commit(&self, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut status = lock(&self.parts.shared.status);
        status.commits += 1;
        status.last_commit_ms = ms;
        status.longest_commit_ms = status.longest_commit_ms.max(ms);
    }

    /// Tells readers and watchers what is durable now.
    fn publish(&mut self) {
        self.tell_status();
        self.parts.tide.send_replace(self.mark);
    }

    /// What health, metrics and the uplink's state say of the lanes.
    fn tell_status(&mut self) {
        let Some(opened) = &self.opened else { return };
        let mut lanes: [LaneStatus; 3] = Default::default();
        for (at, status) in lanes.iter_mut().enumerate() {
            let head = catch_unwind(AssertUnwindSafe(|| head(&opened.lanes[at])));
            if matches!(head, Ok(Ok(None))) {
                self.bytes[at] = 0;
            }
            let head = head.ok().and_then(Result::ok).flatten();
            let next = self.mark.committed[at];
            *status = LaneStatus {
                records: head.as_ref().map_or(0, |(first, _)| next.saturating_sub(*first)),
                bytes: self.bytes[at],
                bytes_max: self.floor.bound(Lane::ALL[at], self.bytes_max[at]).0,
                oldest_at: head.as_ref().and_then(|(_, chunk)| chunk.as_ref()).map(|chunk| {
                    chunk.recorded_at(lock(&self.parts.shared.clocks).offset_ms(&chunk.boot))
                }),
                oldest_mono: head
                    .and_then(|(_, chunk)| chunk.filter(|chunk| chunk.boot == self.parts.boot))
                    .and_then(|chunk| Some(Mono(chunk.mono_ms()?.saturating_mul(1_000_000)))),
                next,
                dropped: self.dropped[at],
                merged: self.merged[at],
            };
        }
        let mut status = lock(&self.parts.shared.status);
        status.lanes = lanes;
        status.epoch = self.mark.epoch;
    }
}

/// What a store set aside had not delivered, as far as was noted.
fn waiting(note: Note) -> Vec<Span> {
    let spans = Lane::ALL.map(|lane| {
        let (first, next) = (note.head[lane as usize], note.next[lane as usize]);
        (first < next).then(|| Span { of: lane, first, last: next - 1 })
    });
    spans.into_iter().flatten().collect()
}

/// A lane's first number and chunk.
fn head(tree: &sled::Tree) -> Result<Option<(u64, Option<Chunk>)>, sled::Error> {
    let Some((key, value)) = tree.first()? else { return Ok(None) };
    let first = u64::from_be_bytes(key.as_ref().try_into().unwrap_or([0; 8]));
    Ok(Some((first, Chunk::decode(first, &value))))
}
