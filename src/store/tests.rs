//! The whole store on a real disk: what is promised, seen from outside.

use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::record::{Record, Sensed};

mod thinned;

#[test]
fn what_is_durable_is_there_after_a_restart_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path());
    rig.push(vec![bay(0), keep("lease/1", Some("{}")), keep("gone", None)], 3);
    rig.durable(3);
    let epoch = rig.store.status().epoch;
    rig.stop();

    let rig = Rig::start(dir.path());
    assert_eq!(rig.kept.entries, [("lease/1".to_owned(), b"{}".to_vec())]);
    assert_eq!(rig.store.status().epoch, epoch);
    assert_eq!(rig.read_all(Lane::Events), [(1, 0)]);
    rig.push(vec![bay(1)], 1);
    rig.durable(1);
    assert_eq!(rig.read_all(Lane::Events), [(1, 0), (2, 1)]);
    assert!(rig.notices.try_recv().is_err(), "a good store gave a notice");
}

/// (boot, whether its clock becomes good before it ends) -> what its record says in the next one.
#[test]
fn what_an_unsure_clock_stamped_is_put_right_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let said = |rig: &Rig| -> Vec<_> {
        let all: Vec<_> = rig.chunks(Lane::Events).iter().flat_map(lines).collect();
        all.iter().map(|line| (line["clock"].clone(), line["at"].clone())).collect()
    };
    let (stamped, unsure) = (serde_json::json!("1970-01-01T00:00:00.000Z"), "unsure");
    for (n, (boot, becomes_good)) in [("a", false), ("b", true)].into_iter().enumerate() {
        let clock = Clock::real().watched();
        let rig = Rig::by(dir.path(), &quick(), clock, boot);
        let at = crate::time::Now { mono: clock.now().mono, wall: Wall(0) };
        let body = Body::UnitRetry { unit: "u".to_owned(), by: "x".to_owned() };
        rig.push(vec![Item::Record(Record::new(Lane::Events, at, body))], 1);
        rig.durable(1);
        assert_eq!(said(&rig)[n], (unsure.into(), stamped.clone()));
        if becomes_good {
            clock.judged(Some(clock.now().mono), 0);
            // Kept by itself, within the second after which an idle thread looks.
            let began = std::time::Instant::now();
            while said(&rig)[n].0 == unsure {
                assert!(began.elapsed() < Duration::from_secs(20), "never put right");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        rig.stop();
    }
    let rig = Rig::by(dir.path(), &quick(), Clock::real().watched(), "c");
    let said = said(&rig);
    assert_eq!(said[0], (unsure.into(), stamped), "the first boot never knew the time");
    assert_eq!(said[1].0, "corrected");
    let now = Clock::real().now();
    let at: jiff::Timestamp = said[1].1.as_str().unwrap().parse().unwrap();
    let age_ms = now.wall.0 - at.as_millisecond();
    assert!((0..60_000).contains(&age_ms), "{age_ms} ms old");
}

/// A clock that went back must not make the newest look like the oldest, which goes.
#[test]
fn of_stores_set_aside_the_newest_stay_whatever_the_clock_says() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open::Folder::take(dir.path()).unwrap();
    let mut moved = Vec::new();
    for wall in [1_800_000_000_000, 1_800_000_000_000, 5, 40, 900] {
        std::fs::create_dir(dir.path().join("db")).unwrap();
        moved.push(folder.set_aside("a test", Wall(wall)).unwrap().moved_to);
    }
    let left: Vec<bool> = moved.iter().map(|name| dir.path().join(name).exists()).collect();
    assert_eq!(left, [false, false, true, true, true], "{moved:?}");
}

#[test]
fn a_drained_lane_gives_no_number_twice() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path());
    rig.push(vec![bay(0), bay(1)], 2);
    rig.durable(2);
    rig.store.remove(rig.epoch(), Lane::Events, 1, 1);
    let mut tide = rig.store.tide();
    while tide.borrow_and_update().removed[Lane::Events as usize] < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(rig.read_all(Lane::Events), []);
    let lane = rig.store.status().lanes[Lane::Events as usize].clone();
    assert_eq!((lane.records, lane.bytes, lane.next), (0, 0, 3));
    rig.stop();

    let rig = Rig::start(dir.path());
    rig.push(vec![bay(2)], 1);
    rig.durable(1);
    assert_eq!(rig.read_all(Lane::Events), [(3, 2)]);
}

#[test]
fn a_lane_above_its_bound_loses_its_oldest_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    // 1 % of 16 MiB for events: about 160 KiB, or 1,400 records.
    let table = StoreTable {
        backlog_mib: 16,
        alarms_percent: 10,
        events_percent: 1,
        aggregates_percent: 89,
        ..quick()
    };
    let rig = Rig::with(dir.path(), &table);
    for n in 0..4 {
        rig.push((0..1_000).map(|i| bay(n * 1_000 + i)).collect(), (n + 1) * 1_000);
        rig.durable((n + 1) * 1_000);
    }
    let status = rig.store.status();
    let lane = &status.lanes[Lane::Events as usize];
    assert!(lane.bytes <= lane.bytes_max, "{} of {}", lane.bytes, lane.bytes_max);
    let left = rig.read_all(Lane::Events);
    assert_eq!(left.last(), Some(&(4_000, 3_999)), "the newest went");
    assert_eq!(lane.dropped, 4_000 - left.len() as u64);
    let gaps = rig.chunks(Lane::Alarms);
    let mut told = 0;
    for gap in gaps.iter().flat_map(lines) {
        assert_eq!((gap["type"].as_str(), gap["of"].as_str()), (Some("gap"), Some("events")));
        assert_eq!(gap["first"].as_u64().unwrap(), told + 1, "gaps leave something out");
        told = gap["last"].as_u64().unwrap();
    }
    assert_eq!(told, lane.dropped);
}

#[test]
fn without_a_disk_it_keeps_waiting_and_says_so_once() {
    let dir = tempfile::tempdir().unwrap();
    // A file where the folder should be: root may write anywhere, but not below a file.
    let path = dir.path().join("taken");
    std::fs::write(&path, b"").unwrap();
    let rig = Rig::start(&path);
    assert!(matches!(rig.notices.try_recv(), Ok(Body::StoreDegraded { .. })));
    rig.push(vec![bay(0)], 1);
    assert_eq!(*rig.store.durable().borrow(), Ticket(0));
    assert!(rig.store.status().degraded.is_some());
    assert_eq!(rig.store.read(rig.epoch(), Lane::Events, 1, 2, 0), Found::Away);
    assert!(rig.store.queued_bytes() > 0);
    assert!(rig.notices.try_recv().is_err(), "told twice");
}

#[test]
fn a_broken_value_is_put_aside_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path());
    for n in 0..3 {
        rig.push(vec![bay(n)], n + 1);
        rig.durable(n + 1);
    }
    {
        let trees = lock(&rig.store.shared.trees);
        let tree = &trees.as_ref().unwrap().lanes[Lane::Events as usize];
        tree.insert(2_u64.to_be_bytes(), b"nonsense").unwrap();
    }
    assert_eq!(rig.store.read(rig.epoch(), Lane::Events, 2, 4, 0), Found::Unreadable { first: 2 });
    rig.store.remove(rig.epoch(), Lane::Events, 1, 1);
    rig.store.put_aside(rig.epoch(), Lane::Events, 2, "test");
    let mut tide = rig.store.tide();
    while tide.borrow_and_update().removed[Lane::Events as usize] < 3 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(rig.read_all(Lane::Events), [(3, 2)]);
    let gap = &lines(&rig.chunks(Lane::Alarms)[0])[0];
    assert_eq!((gap["first"].as_u64(), gap["last"].as_u64()), (Some(2), Some(2)));
}

/// As a broken leaf does it: the tree is sound, and something that was in it is not.
#[test]
fn what_vanishes_from_the_middle_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path());
    for n in 0..5 {
        rig.push(vec![bay(n)], n + 1);
        rig.durable(n + 1);
    }
    {
        let trees = lock(&rig.store.shared.trees);
        let tree = &trees.as_ref().unwrap().lanes[Lane::Events as usize];
        for first in [2_u64, 3] {
            tree.remove(first.to_be_bytes()).unwrap();
        }
    }
    // Out of order, and over a restart: what was delivered is never told as gone.
    for (ticket, first) in [(6, 4), (7, 1)] {
        rig.store.remove(rig.epoch(), Lane::Events, first, first);
        rig.push(vec![bay(ticket)], ticket);
        rig.durable(ticket);
    }
    rig.stop();
    let rig = Rig::start(dir.path());
    rig.store.remove(rig.epoch(), Lane::Events, 5, 5);
    rig.push(vec![bay(8)], 1);
    rig.durable(1);
    assert_eq!(rig.read_all(Lane::Events), [(6, 6), (7, 7), (8, 8)]);
    let told = rig.chunks(Lane::Alarms);
    let told: Vec<_> = told.iter().flat_map(lines).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let numbers = ["count", "first", "last"].map(|key| told[0][key].as_u64().unwrap());
    assert_eq!(numbers, [2, 2, 3]);
    assert_eq!(rig.store.status().lanes[Lane::Events as usize].records, 3);
}

/// What a failed commit left half written is cut off, and its numbers are given again.
#[test]
fn what_no_barrier_covered_is_gone_when_it_opens_anew() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path());
    rig.push(vec![bay(0)], 1);
    rig.durable(1);
    {
        let trees = lock(&rig.store.shared.trees);
        let tree = &trees.as_ref().unwrap().lanes[Lane::Events as usize];
        let Item::Record(half) = bay(77) else { panic!("a bay is a record") };
        let (chunks, _) = chunk::pack(&[half.clone(), half], 2, "boot", Some(crate::time::Mono(0)));
        tree.insert(2_u64.to_be_bytes(), chunks[0].encode()).unwrap();
    }
    rig.queue.suspect("test".to_owned());
    rig.push(vec![bay(1)], 2);
    rig.durable(2);
    assert_eq!(rig.read_all(Lane::Events), [(1, 0), (2, 1)]);
}

#[test]
fn a_read_that_fails_twice_sets_the_store_aside_and_the_new_one_knows_every_promise() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let rig = Rig::start(dir.path());
    rig.push(vec![bay(1), keep("lease/2", Some("new")), keep("lease/3", Some("over"))], 1);
    rig.durable(1);
    rig.push(vec![keep("lease/3", None)], 2);
    rig.durable(2);
    let epoch = rig.store.status().epoch;
    rig.queue.suspect("test".to_owned());
    let first = rig.notices.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(first, Body::StoreDegraded { .. }), "{first:?}");
    let second = rig.notices.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(second, Body::StoreBack { .. }), "{second:?}");
    assert_eq!(rig.read_all(Lane::Events), [(1, 0), (2, 1)], "opening anew lost something");
    rig.queue.suspect("test".to_owned());
    let third = rig.notices.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(third, Body::StoreSetAside { .. }), "{third:?}");
    rig.push(vec![bay(2)], 3);
    rig.durable(3);
    assert_ne!(rig.store.status().epoch, epoch);
    assert_eq!(rig.read_all(Lane::Events), [(1, 2)]);
    rig.stop();
    let kept = Rig::start(dir.path()).kept.entries;
    let kept: Vec<_> = kept.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
    assert_eq!(kept, [("lease/1", &b"old"[..]), ("lease/2", b"new")]);
}

/// What a store of this run gave up says nothing about the one that took its place.
#[test]
fn orders_for_a_store_set_aside_do_not_touch_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path());
    rig.push(vec![bay(0)], 1);
    rig.durable(1);
    let old = rig.epoch();
    for _ in 0..2 {
        let generation = rig.store.tide().borrow().generation;
        rig.queue.suspect("test".to_owned());
        rig.opened_after(generation);
    }
    rig.push(vec![bay(1)], 2);
    rig.durable(2);
    assert_ne!(rig.epoch(), old);
    assert_eq!(rig.store.read(old, Lane::Events, 0, 2, 0), Found::Away);
    rig.store.remove(old, Lane::Events, 1, 1);
    rig.push(vec![bay(2)], 3);
    rig.durable(3);
    assert_eq!(rig.read_all(Lane::Events), [(1, 1), (2, 2)]);
    assert_eq!(rig.store.tide().borrow().removed, [0; 3]);
}

#[test]
fn what_was_kept_comes_late_where_the_folder_was_blocked_at_first() {
    let dir = tempfile::tempdir().unwrap();
    let (path, away) = (dir.path().join("store"), dir.path().join("away"));
    filled(&path);
    std::fs::rename(&path, &away).unwrap();
    std::fs::write(&path, b"").unwrap();
    comes_late_and_once(&path, || {
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&away, &path).unwrap();
    });
}

#[test]
fn what_was_kept_comes_late_where_another_process_held_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let other = open::Folder::take(dir.path()).unwrap();
    comes_late_and_once(dir.path(), || drop(other));
}

/// An opening that ends after the start gave up waiting, and one that ends in time.
#[test]
fn what_was_kept_is_handed_over_or_given_back() {
    let kept = || Kept { entries: vec![("lease/1".to_owned(), b"{}".to_vec())] };
    let first = First::default();
    assert!(first.wait(Duration::from_millis(1)).entries.is_empty());
    assert_eq!(first.give(kept()).unwrap().entries, kept().entries, "lost between the two");
    let first = First::default();
    assert!(first.give(kept()).is_none());
    assert!(first.give(Kept::default()).is_some(), "what was given is replaced");
    assert_eq!(first.wait(Duration::ZERO).entries, kept().entries);
}

/// A flipped bit or a cut anywhere in the database: whatever is read is right, and writing goes on,
/// in this store or, told, in a new one.
#[test]
fn broken_bytes_never_stop_it_and_are_never_believed() {
    let rounds = if std::env::var_os("PARKWAY_FULL").is_some() { 200 } else { 10 };
    let good = tempfile::tempdir().unwrap();
    let rig = Rig::start(good.path());
    for n in 0..40 {
        rig.push((0..50).map(|i| bay(n * 50 + i)).collect(), n + 1);
        rig.durable(n + 1);
    }
    let epoch = rig.store.status().epoch;
    rig.stop();
    let (mut aside, mut short, mut random) = (0, 0, 0x9e37_79b9_7f4a_7c15_u64);
    for round in 0..rounds {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let dir = tempfile::tempdir().unwrap();
        copy(good.path(), dir.path());
        spoil(&dir.path().join("db/db"), random, round % 3 == 0);
        let rig = Rig::start(dir.path());
        rig.push(vec![bay(9_999)], 1);
        let began = std::time::Instant::now();
        loop {
            // Reading may set the store aside; what it returns until then must be true.
            for (seq, bay) in rig.read_all(Lane::Events) {
                let same = rig.store.status().epoch == epoch && bay != 9_999;
                assert!(!same || seq == bay + 1, "round {round}: {seq} is not bay {bay}");
            }
            let away = rig.store.read(rig.epoch(), Lane::Events, 0, 1, 0) == Found::Away;
            if !away && *rig.store.durable().borrow() >= Ticket(1) {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "round {round}: never durable");
            std::thread::sleep(Duration::from_millis(5));
        }
        if rig.store.status().epoch == epoch {
            let newest = *rig.read_all(Lane::Events).last().unwrap();
            assert!(newest.1 == 9_999 && newest.0 > 2_000, "{newest:?}: a number was given twice");
            let gaps = rig.chunks(Lane::Alarms);
            let missing: u64 =
                gaps.iter().flat_map(lines).map(|g| g["count"].as_u64().unwrap()).sum();
            let there = rig.read_all(Lane::Events).len() as u64 - 1;
            assert_eq!(there + missing, 2_000, "round {round}: lost and not told");
            short += u64::from(missing > 0);
        }
        let told = rig.notices.try_iter().any(|body| matches!(body, Body::StoreSetAside { .. }));
        assert_eq!(told, rig.store.status().epoch != epoch, "round {round}: a new store untold");
        aside += u64::from(told);
        rig.stop();
    }
    eprintln!("{rounds} broken stores, {aside} set aside, {short} short");
    assert!(aside + short > 0, "nothing was ever broken");
}

/// A store with one lease and one record, closed.
fn filled(path: &std::path::Path) {
    let rig = Rig::start(path);
    rig.push(vec![bay(0), keep("lease/1", Some("old"))], 1);
    rig.durable(1);
    rig.stop();
}

fn comes_late_and_once(path: &std::path::Path, unblock: impl FnOnce()) {
    let rig = Rig::start(path);
    assert!(matches!(rig.notices.try_recv(), Ok(Body::StoreDegraded { .. })));
    assert!(rig.kept.entries.is_empty() && rig.late.try_recv().is_err(), "it was not blocked");
    // What the gateway decides meanwhile is newer than what comes late.
    rig.push(vec![bay(1), keep("lease/2", Some("new"))], 1);
    unblock();
    let late = rig.late.recv_timeout(Duration::from_secs(20)).expect("never restored");
    assert_eq!(late.entries, [("lease/1".to_owned(), b"old".to_vec())]);
    rig.durable(1);
    assert_eq!(rig.read_all(Lane::Events), [(1, 0), (2, 1)]);
    let generation = rig.store.tide().borrow().generation;
    rig.queue.suspect("test".to_owned());
    rig.opened_after(generation);
    rig.push(vec![bay(2)], 2);
    rig.durable(2);
    // Longer than an idle thread needs to give it again.
    assert!(rig.late.recv_timeout(Duration::from_millis(1_500)).is_err(), "restored twice");
    rig.stop();
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(file.file_name());
        if file.path().is_dir() {
            copy(&file.path(), &target);
        } else {
            std::fs::copy(file.path(), target).unwrap();
        }
    }
}

fn spoil(path: &std::path::Path, random: u64, cut: bool) {
    let mut bytes = std::fs::read(path).unwrap();
    // Behind the last written byte there is nothing to break.
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
    let at = usize::try_from(random % used).unwrap();
    if cut {
        bytes.truncate(at);
    } else {
        bytes[at] ^= 1 << (random >> 60 & 7);
    }
    std::fs::write(path, bytes).unwrap();
}

/// A store on a real disk, and what it says.
pub(crate) struct Rig {
    pub(crate) store: Store,
    pub(crate) queue: Arc<Queue>,
    pub(crate) kept: Kept,
    notices: Receiver<Body>,
    late: Receiver<Kept>,
}

impl Rig {
    pub(crate) fn start(path: &std::path::Path) -> Rig {
        Rig::with(path, &quick())
    }

    fn with(path: &std::path::Path, table: &StoreTable) -> Rig {
        Rig::by(path, table, Clock::real(), "boot")
    }

    fn by(path: &std::path::Path, table: &StoreTable, clock: Clock, boot: &str) -> Rig {
        let (sender, notices) = channel();
        let tell = move |body| sender.send(body).is_ok();
        let boot = boot.to_owned();
        let (too_late, late) = channel();
        // The first two times nobody has room for it: it must come again.
        let refusals = std::sync::atomic::AtomicU64::new(2);
        let restore = move |kept| {
            let full = refusals.load(std::sync::atomic::Ordering::Relaxed) > 0;
            if full {
                refusals.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                return false;
            }
            too_late.send(kept).is_ok()
        };
        let (store, kept) = start(table, path.to_owned(), boot, clock, tell, restore);
        Rig { queue: store.queue(), store, kept, notices, late }
    }

    pub(crate) fn push(&self, items: Vec<Item>, upto: u64) {
        self.queue.push(items, Ticket(upto), true);
    }

    pub(crate) fn durable(&self, upto: u64) {
        let mark = self.store.durable();
        let began = std::time::Instant::now();
        while *mark.borrow() < Ticket(upto) {
            assert!(began.elapsed() < Duration::from_secs(20), "never durable");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.store.tide().borrow().epoch.unwrap_or(0)
    }

    /// `(seq, bay)` of all that is committed.
    fn read_all(&self, lane: Lane) -> Vec<(u64, u64)> {
        let chunks = self.chunks(lane);
        let lines = chunks.iter().flat_map(lines);
        let pair = |line: serde_json::Value| {
            (line["seq"].as_u64().unwrap(), line["bay"].as_str().unwrap().parse().unwrap())
        };
        lines.map(pair).collect()
    }

    pub(crate) fn chunks(&self, lane: Lane) -> Vec<Chunk> {
        // Not the tide: it comes a moment after the mark that `durable` waited for.
        let status = self.store.status();
        let (epoch, before) = (status.epoch.unwrap_or(0), status.lanes[lane as usize].next);
        let mut from = 0;
        let mut all = Vec::new();
        while let Found::Chunk(chunk) = self.store.read(epoch, lane, from, before, 0) {
            from = chunk.last + 1;
            all.push(chunk);
        }
        all
    }

    pub(crate) fn opened_after(&self, generation: u64) {
        let began = std::time::Instant::now();
        while self.store.tide().borrow().generation <= generation {
            assert!(began.elapsed() < Duration::from_secs(20), "never opened anew");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn stop(self) {
        assert!(self.store.stop(Duration::from_secs(20)), "did not stop");
    }
}

fn quick() -> StoreTable {
    StoreTable { commit_ms: 5, ..StoreTable::default() }
}

fn bay(n: u64) -> Item {
    let body = Body::Bay { bay: n.to_string(), from: Sensed::Free, to: Sensed::Occupied };
    Item::Record(Record::new(Lane::Events, Clock::real().now(), body))
}

fn keep(key: &str, value: Option<&str>) -> Item {
    Item::Keep { key: key.to_owned(), value: value.map(|v| v.as_bytes().to_vec()) }
}

pub(crate) fn lines(chunk: &Chunk) -> Vec<serde_json::Value> {
    serde_json::from_str(&chunk.json).unwrap()
}
