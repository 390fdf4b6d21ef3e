//! Bit flips and cuts anywhere in a store's files: it opens within 5 s, in the same store or in a
//! new one, and every number that was ever given is delivered, or told as gone.
//!
//! Each round breaks one file of a copy of the same store, opens it, and drains it as the uplink
//! does; in some the file breaks while it is open. `PARKWAY_FULL=1` runs 200 rounds, and more of
//! those that start the whole daemon.

#[path = "common/store.rs"]
mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{Daemon, Filled, copy, fill, record, spoil};
use parkway::config::StoreTable;
use parkway::gateway::Ticket;
use parkway::record::{Body, Lane};
use parkway::store::{self, Found, Store};
use parkway::time::Clock;

/// A start must guide within this, whatever became of its store.
const GUIDING_MAX: Duration = Duration::from_secs(5);
/// Places broken at once in a file that is open.
const HURTS: u32 = 40;

#[test]
fn every_number_is_delivered_or_told_after_any_damage() {
    let rounds = if full() { 200 } else { 15 };
    let good = tempfile::tempdir().unwrap();
    // Several of sled's segments, so that damage in one leaves others.
    let filled = fill(good.path(), 400);
    let files = files(good.path());
    let (mut random, mut sums) = (0x9e37_79b9_7f4a_7c15_u64, Sums::default());
    // Where sled put what varies with the disk's speed, so it goes on until each kind was seen.
    let mut round = 0;
    while round < rounds || (round < 4 * rounds && !sums.has_all()) {
        next_random(&mut random);
        let dir = tempfile::tempdir().unwrap();
        copy(good.path(), dir.path());
        // Two of three in the log, which is nearly all of it.
        let other = usize::try_from(random >> 32).unwrap() % files.len();
        let file = if round % 3 < 2 { Path::new("db/db") } else { &files[other] };
        let path = dir.path().join(file);
        // In every fifth round the file breaks under a store that is open: reading it then fails,
        // or makes sled panic, in the middle of the way.
        let live = round % 5 == 4;
        let mut what = if live { "live".to_owned() } else { spoil(&path, random, round % 2 == 0) };
        let mut told = Told::open(dir.path());
        if live {
            what = hurt(&dir.path().join("db/db"), &mut random, round % 10 == 4);
        }
        assert!(told.took < GUIDING_MAX, "{what}: guiding after {:?}", told.took);
        told.drain(&what);
        told.account(&filled, &what);
        sums.add(&told, &filled);
        assert!(told.store.stop(Duration::from_secs(20)), "{what}: did not stop");
        round += 1;
    }
    eprintln!("{round} rounds of damage: {sums:?}");
    assert!(sums.gaps > 0, "no file ever lost a part of its records");
    assert!(sums.aside > 0, "no store was ever set aside");
    assert!(sums.unharmed > 0, "no store ever survived");
}

/// The whole daemon on a broken store: a driver who asks is answered.
#[test]
fn a_driver_is_answered_within_5_s_on_a_broken_store() {
    let rounds = if full() { 20 } else { 3 };
    let good = tempfile::tempdir().unwrap();
    fill(good.path(), 40);
    let (mut random, mut longest) = (0x2545_f491_4f6c_dd1d_u64, Duration::ZERO);
    for round in 0..rounds {
        next_random(&mut random);
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        copy(good.path(), &store);
        let what = spoil(&store.join("db/db"), random, round % 2 == 0);
        let began = Instant::now();
        let daemon = Daemon::start(dir.path(), &store);
        let answer = daemon.allocation(GUIDING_MAX);
        assert!(answer.is_some_and(|answer| answer.contains("\"promise\"")), "{what}: unanswered");
        longest = longest.max(began.elapsed());
    }
    eprintln!("{rounds} starts on broken stores: answered within {longest:?}");
}

/// Breaks a file in many places, or cuts it, while it is open.
fn hurt(path: &Path, random: &mut u64, cut: bool) -> String {
    let file = File::options().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    if cut {
        file.set_len(*random % length).unwrap();
        return format!("cut to {} of {length} while open", *random % length);
    }
    for _ in 0..HURTS {
        next_random(random);
        file.write_all_at(&random.to_be_bytes(), *random % length).unwrap();
    }
    format!("{HURTS} places broken while open, the last at {}", *random % length)
}

/// What upstream has got in the end, and how the store came up.
struct Told {
    store: Store,
    notices: Receiver<Body>,
    took: Duration,
    /// By lane, numbers delivered from the old store and numbers told as gone.
    delivered: [BTreeSet<u64>; 3],
    gone: [BTreeSet<u64>; 3],
    /// The old store was set aside.
    aside: bool,
}

impl Told {
    fn open(folder: &Path) -> Told {
        let table = StoreTable { commit_ms: 5, ..StoreTable::default() };
        let (sender, notices) = channel();
        let tell = move |body| sender.send(body).is_ok();
        let (boot, path) = ("later".to_owned(), folder.to_owned());
        let began = Instant::now();
        let (store, _) = store::start(&table, path, boot, Clock::real(), tell, |_| true);
        let took = began.elapsed();
        // What a start always says; its commit carries what was found missing.
        store.queue().push(vec![record(Lane::Events, 0)], Ticket(1), true);
        let (delivered, gone) = Default::default();
        Told { store, notices, took, delivered, gone, aside: false }
    }

    /// Reads and removes until nothing is left, whichever store it is by then.
    fn drain(&mut self, what: &str) {
        let began = Instant::now();
        let durable = self.store.durable();
        let mut quiet = 0;
        while quiet < 3 {
            assert!(began.elapsed() < Duration::from_secs(40), "{what}: never drained");
            let moved = Lane::ALL.map(|lane| self.drain_lane(lane)).contains(&true);
            let written = *durable.borrow() >= Ticket(1) && self.store.status().degraded.is_none();
            let waiting = self.store.status().lanes.iter().any(|lane| lane.records > 0);
            quiet = if moved || !written || waiting { 0 } else { quiet + 1 };
            self.store.hurry();
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// True if anything stood there.
    fn drain_lane(&mut self, lane: Lane) -> bool {
        let tide = *self.store.tide().borrow();
        let (Some(epoch), before) = (tide.epoch, tide.committed[lane as usize]) else {
            return false;
        };
        let (mut from, mut moved) = (0, false);
        loop {
            match self.store.read(epoch, lane, from, before, 0) {
                Found::Chunk(chunk) => {
                    self.hear(lane, epoch, &chunk.json);
                    self.store.remove(epoch, lane, chunk.first, chunk.first);
                    from = chunk.last + 1;
                }
                Found::Unreadable { first } => {
                    self.store.put_aside(epoch, lane, first, "the disk returned nonsense");
                    from = first + 1;
                }
                Found::Nothing | Found::Away => return moved,
            }
            moved = true;
        }
    }

    fn hear(&mut self, lane: Lane, _epoch: u64, json: &str) {
        for line in serde_json::from_str::<Vec<serde_json::Value>>(json).unwrap() {
            let seq = line["seq"].as_u64().unwrap();
            if line["type"] == "gap" {
                let of = Lane::ALL.into_iter().find(|lane| line["of"] == lane.name()).unwrap();
                let (first, last) = (line["first"].as_u64().unwrap(), line["last"].as_u64());
                self.gone[of as usize].extend(first..=last.unwrap());
            } else if line["bay"] != "0" {
                assert_eq!(line["bay"], seq.to_string(), "{}: not what was written", lane.name());
                self.delivered[lane as usize].insert(seq);
            }
        }
    }

    /// Every number from the head to the last one: there, or told.
    fn account(&mut self, filled: &Filled, what: &str) {
        for notice in self.notices.try_iter() {
            let Body::StoreSetAside { epoch, waiting, why, .. } = notice else { continue };
            self.aside = true;
            assert_eq!(epoch, Some(format!("{:016x}", filled.epoch)), "{what}: {why}");
            for span in waiting {
                self.gone[span.of as usize].extend(span.first..=span.last);
            }
        }
        let epoch = self.store.status().epoch;
        assert_eq!(self.aside, epoch != Some(filled.epoch), "{what}: a new store untold");
        for lane in Lane::ALL {
            let at = lane as usize;
            let (delivered, gone) = (&self.delivered[at], &self.gone[at]);
            let silent = |seq: &u64| !delivered.contains(seq) && !gone.contains(seq);
            let silent: Vec<u64> = (filled.head[at]..filled.next[at]).filter(silent).collect();
            assert!(silent.is_empty(), "{what}: {} lost without a word: {silent:?}", lane.name());
            let both = delivered.intersection(gone).count();
            assert!(self.aside || both == 0, "{what}: {both} of {} told as gone", lane.name());
            let before = (1..filled.head[at]).filter(|seq| gone.contains(seq)).count();
            assert_eq!(before, 0, "{what}: delivered long ago, and told as gone");
        }
    }
}

#[derive(Default, Debug)]
struct Sums {
    aside: u32,
    gaps: u32,
    unharmed: u32,
    delivered: usize,
    told_as_gone: usize,
    slowest_start: Duration,
}

impl Sums {
    fn has_all(&self) -> bool {
        [self.aside, self.gaps, self.unharmed].iter().all(|seen| *seen > 0)
    }

    fn add(&mut self, told: &Told, filled: &Filled) {
        let gone: usize = told.gone.iter().map(BTreeSet::len).sum();
        match (told.aside, gone) {
            (true, _) => self.aside += 1,
            (false, 0) => self.unharmed += 1,
            (false, _) => self.gaps += 1,
        }
        assert!(filled.next.iter().all(|next| *next > 1));
        self.delivered += told.delivered.iter().map(BTreeSet::len).sum::<usize>();
        self.told_as_gone += gone;
        self.slowest_start = self.slowest_start.max(told.took);
    }
}

/// All that a store consists of, in order of name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for part in ["", "db"] {
        for file in std::fs::read_dir(folder.join(part)).unwrap().flatten() {
            if file.metadata().unwrap().is_file() && file.metadata().unwrap().len() > 0 {
                all.push(file.path().strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    all.sort();
    all
}

fn full() -> bool {
    std::env::var_os("PARKWAY_FULL").is_some()
}

fn next_random(random: &mut u64) {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
}
