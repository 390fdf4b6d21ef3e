//! Power cuts at random points: what was called durable is there, in order, and the daemon starts.
//!
//! A child writes through the real store, drains it, and is killed and started again a few times,
//! while `power/record.c` writes down all that reaches the files and all it says. For each cut
//! `power/disk.rs` rebuilds a folder as it could have been left, with pages torn and reordered, and
//! the store opens it. `PARKWAY_FULL=1` tries 200 cuts; `PARKWAY_CUT=SEED` tries one again.

#[path = "common/store.rs"]
#[allow(dead_code)]
mod common;
#[path = "power/disk.rs"]
mod disk;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use disk::{Disk, Event, Random, What};
use parkway::config::StoreTable;
use parkway::gateway::Ticket;
use parkway::record::{Body, Lane};
use parkway::store::{self, Found, Item, Store};
use parkway::time::Clock;

const FOLDER: &str = "POWER_FOLDER";
/// Records a ticket.
const BURST: u64 = 7;
/// Each child's records are told by their thousands of millions.
const CHILD: u64 = 1_000_000_000;
const CHILDREN: u64 = 8;

/// Not a test of its own: the child's program, which does nothing unless it is told to.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let from: u64 = std::env::var("POWER_FROM").unwrap().parse().unwrap();
    let every: u64 = std::env::var("POWER_DRAIN").unwrap().parse().unwrap();
    let (store, _) = open(Path::new(&folder), |_| true);
    let (queue, mark, tide) = (store.queue(), store.durable(), store.tide());
    let (epoch, committed) = {
        let tide = tide.borrow();
        (tide.epoch.unwrap(), tide.committed[Lane::Events as usize])
    };
    // From here on the uplink may send what was found.
    say(&format!("open {committed} {epoch:016x}"));
    let (mut ticket, mut told, mut head) = (0, 0, 1);
    loop {
        ticket += 1;
        let base = from + (ticket - 1) * BURST;
        let mut items: Vec<Item> =
            (0..BURST).map(|n| common::record(Lane::Events, base + n)).collect();
        let value = Some((base + BURST).to_string().into_bytes());
        items.push(Item::Keep { key: "newest".to_owned(), value });
        queue.push(items, Ticket(ticket), ticket % 3 == 0);
        let durable = mark.borrow().0;
        if durable > told {
            told = durable;
            let committed = tide.borrow().committed[Lane::Events as usize];
            say(&format!("durable {} {committed} {epoch:016x}", from + durable * BURST));
        }
        if ticket % every == 0 {
            let before = tide.borrow().committed[Lane::Events as usize];
            if let Found::Chunk(chunk) = store.read(epoch, Lane::Events, head, before, usize::MAX) {
                head = chunk.last + 1;
                say(&format!("removing {}", chunk.last));
                store.remove(epoch, Lane::Events, chunk.first, chunk.last);
            }
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

#[test]
fn nothing_durable_is_missing_after_any_power_cut() {
    let full = std::env::var_os("PARKWAY_FULL").is_some();
    let one: Option<u64> = std::env::var("PARKWAY_CUT").ok().map(|seed| seed.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let library = recorder(dir.path());
    let events = (0..5).find_map(|n| recorded(&dir.path().join(format!("record-{n}")), &library));
    let events = events.expect("every record missed something");
    let count = if full { 200 } else { 40 };
    let cuts = one.map_or(1..=count, |seed| seed..=seed);
    let mut seen = Seen::default();
    for seed in cuts {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.below(2);
        }
        let place = place(&events, &mut random);
        let folder = dir.path().join(format!("cut-{seed}"));
        fs::create_dir(&folder).unwrap();
        Disk::after(&events[..place]).leave(&folder, &mut random);
        let said = Said::before(&events[..place]);
        eprintln!("PARKWAY_CUT={seed}: after event {place} of {}", events.len());
        seen.look(&folder, &said);
        if seed % 10 == 0 {
            starts(dir.path(), &folder);
        }
        fs::remove_dir_all(&folder).unwrap();
    }
    eprintln!(
        "{} cuts in {} events: {} records had to be there and were, {} more came through",
        seen.cuts,
        events.len(),
        seen.owed,
        seen.more
    );
    assert!(one.is_some() || seen.owed > 1_000, "hardly anything was durable");
}

/// Anywhere, or just after something was promised, each every other time.
fn place(events: &[Event], random: &mut Random) -> usize {
    let anywhere = 1 + random.below(events.len() as u64 - 1) as usize;
    let promise = |event: &Event| match &event.what {
        What::Say { text } => text.contains("open ") || text.contains("durable "),
        _ => false,
    };
    if random.below(2) == 0 {
        return anywhere;
    }
    let said = events[anywhere..].iter().position(promise).unwrap_or(0);
    (anywhere + said + 1 + random.below(3) as usize).min(events.len())
}

/// The record of several children, each killed; every third while it starts. `None` where a kill
/// came between a deed and its record.
fn recorded(dir: &Path, library: &Path) -> Option<Vec<Event>> {
    let store = dir.join("store");
    fs::create_dir(dir).unwrap();
    let mut events = Vec::new();
    for n in 0..CHILDREN {
        let log = dir.join(format!("log-{n}"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(FOLDER, &store)
            .env("POWER_FROM", (n * CHILD).to_string())
            .env("POWER_LOG", &log)
            // Some leave a backlog, some nearly nothing, which is the harder case for sled.
            .env("POWER_DRAIN", if n % 2 == 0 { "2" } else { "200" })
            .env("LD_PRELOAD", library)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ms = if n % 3 == 2 { 20 + 15 * n } else { 500 };
        std::thread::sleep(Duration::from_millis(ms));
        child.kill().unwrap();
        child.wait().unwrap();
        events.extend(disk::read(&fs::read(&log).unwrap_or_default()));
        if !Disk::after(&events).is_all_of(&store) {
            eprintln!("child {n} was killed between a deed and its record");
            return None;
        }
    }
    let barriers = events.iter().filter(|e| matches!(e.what, What::BarrierEnds { .. })).count();
    assert!(barriers > 50, "{barriers} barriers in {} events", events.len());
    Some(events)
}

fn recorder(dir: &Path) -> PathBuf {
    let library = dir.join("record.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/record.c");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]);
    let built = gcc.arg(&library).arg(source).arg("-ldl").status().expect("gcc is installed");
    assert!(built.success());
    library
}

/// What the children had said before the cut, and so what must be there.
#[derive(Default)]
struct Said {
    epoch: Option<String>,
    /// Values kept are at least this new.
    newest: u64,
    /// Numbers below this are durable ...
    committed: u64,
    /// ... except those up to here, whose removal was ordered.
    removed: u64,
}

impl Said {
    fn before(events: &[Event]) -> Said {
        let mut said = Said::default();
        for event in events {
            let What::Say { text } = &event.what else { continue };
            let words: Vec<&str> = text.split_whitespace().collect();
            match words[..] {
                ["open", committed, epoch] => said.hear(committed, epoch),
                ["durable", newest, committed, epoch] => {
                    said.newest = newest.parse().unwrap();
                    said.hear(committed, epoch);
                }
                ["removing", last] => said.removed = said.removed.max(last.parse().unwrap()),
                _ => (),
            }
        }
        said
    }

    fn hear(&mut self, committed: &str, epoch: &str) {
        self.committed = self.committed.max(committed.parse().unwrap());
        assert!(self.epoch.as_deref().is_none_or(|before| before == epoch), "set aside");
        self.epoch = Some(epoch.to_owned());
    }
}

#[derive(Default)]
struct Seen {
    cuts: u64,
    owed: u64,
    more: u64,
}

impl Seen {
    fn look(&mut self, folder: &Path, said: &Said) {
        let (sender, notices) = channel();
        let (store, kept) = open(folder, move |body| sender.send(body).is_ok());
        let told: Vec<Body> = notices.try_iter().collect();
        let tide = *store.tide().borrow();
        let epoch = tide.epoch.map(|epoch| format!("{epoch:016x}"));
        assert!(said.epoch.is_none() || said.epoch == epoch, "another store: {told:?}");
        // Before anything was durable, a store may well be found half made.
        assert!(said.epoch.is_none() || told.is_empty(), "{told:?}");
        let there = read_all(&store);
        let numbers: Vec<u64> = there.iter().map(|(number, _)| *number).collect();
        let steps = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
        assert!(steps, "numbers are missing in the middle: {numbers:?}");
        if said.removed + 1 < said.committed {
            let (first, last) = (numbers.first().unwrap(), numbers.last().unwrap());
            assert!(*first <= said.removed + 1, "{first} of {} is the head", said.removed + 1);
            assert!(*last + 1 >= said.committed, "{last} of {} is the end", said.committed);
        }
        let owed = said.committed.saturating_sub(said.removed + 1);
        self.owed += owed;
        self.more += (numbers.len() as u64).saturating_sub(owed);
        self.cuts += 1;
        for pair in there.windows(2) {
            let next_child = pair[1].1 % CHILD == 0 && pair[1].1 > pair[0].1;
            assert!(pair[1].1 == pair[0].1 + 1 || next_child, "{pair:?}");
        }
        if said.newest > 0 {
            let newest = kept.entries.iter().find(|(key, _)| key == "newest");
            let newest = &newest.expect("a kept value is missing").1;
            let newest: u64 = std::str::from_utf8(newest).unwrap().parse().unwrap();
            assert!(newest >= said.newest, "the kept value is older than the durable mark");
        }
        assert!(store.stop(Duration::from_secs(20)));
    }
}

/// The daemon itself opens such a store and guides.
fn starts(dir: &Path, store: &Path) {
    let daemon = common::Daemon::start(dir, store);
    assert!(daemon.allocation(Duration::from_secs(10)).is_some(), "no driver was answered");
}

fn read_all(store: &Store) -> Vec<(u64, u64)> {
    let tide = *store.tide().borrow();
    let (epoch, before) = (tide.epoch.unwrap(), tide.committed[Lane::Events as usize]);
    let (mut from, mut all) = (0, Vec::new());
    while let Found::Chunk(chunk) = store.read(epoch, Lane::Events, from, before, 0) {
        from = chunk.last + 1;
        let lines: Vec<serde_json::Value> = serde_json::from_str(&chunk.json).unwrap();
        all.extend(lines.iter().map(|line| {
            (line["seq"].as_u64().unwrap(), line["bay"].as_str().unwrap().parse::<u64>().unwrap())
        }));
    }
    all
}

fn open(
    folder: &Path,
    tell: impl Fn(Body) -> bool + Send + 'static,
) -> (Store, parkway::gateway::Kept) {
    let table = StoreTable { commit_ms: 5, ..StoreTable::default() };
    let (boot, path) = ("boot".to_owned(), folder.to_owned());
    store::start(&table, path, boot, Clock::real(), tell, |_| true)
}

/// One write a line, so that a cut leaves whole ones.
fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(format!("\n{line}\n").as_bytes());
    let _ = out.flush();
}
