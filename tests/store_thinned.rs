//! SIGKILL at any moment while a full lane is thinned: no window is lost or counted twice.
//!
//! The child is this same test binary, told by an environment variable to write a day's windows
//! through the real store. A window's `cars_in` is 1 and its `cars_out` its minute, so sums show
//! each one that is missing or there twice. `PARKWAY_FULL=1` runs more rounds.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use parkway::config::StoreTable;
use parkway::gateway::Ticket;
use parkway::record::{Body, CountedBy, GarageWindow, Lane, Record, Tally};
use parkway::store::{self, Found, Item, Store};
use parkway::time::{Clock, Mono, Now, Wall};
use serde_json::Value;

const FOLDER: &str = "PARKWAY_THIN_TEST_STORE";
const FROM: &str = "PARKWAY_THIN_TEST_FROM";
const GARAGES: u64 = 8;
/// 2026-01-01.
const BEGIN_MS: u64 = 1_767_225_600_000;

/// Not a test of its own: the child's program, which does nothing unless it is told to.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let from: u64 = std::env::var(FROM).unwrap().parse().unwrap();
    let store = open(Path::new(&folder));
    let (queue, mark) = (store.queue(), store.durable());
    say("open 0");
    for minute in 0.. {
        queue.push(minute_of(from + minute), Ticket(minute + 1), false);
        while *mark.borrow() <= Ticket(minute) {
            std::thread::sleep(Duration::from_micros(200));
        }
        say(&format!("durable {}", from + minute + 1));
    }
}

#[test]
fn a_kill_while_thinning_leaves_all_windows_once() {
    let rounds = if std::env::var_os("PARKWAY_FULL").is_some() { 40 } else { 16 };
    let dir = tempfile::tempdir().unwrap();
    let (mut next, mut random, mut coarse) = (0, 0x2545_f491_4f6c_dd1d_u64, 0);
    for round in 0..rounds {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let durable = killed_after(dir.path(), next, Duration::from_millis(50 + random % 500));
        let seen = look(dir.path());
        assert!(seen.minutes >= durable.max(next), "round {round}: what was durable is missing");
        (next, coarse) = (seen.minutes, seen.coarse);
    }
    eprintln!("{rounds} kills over {next} minutes, {coarse} windows merged at the end");
    assert!(coarse > 0, "nothing was ever merged");
}

/// Runs the child for so long after it has opened the store, and says which minute was durable.
fn killed_after(folder: &Path, from: u64, length: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(FROM, from.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("open ")), "the child did not open its store");
    let killer = std::thread::spawn(move || {
        std::thread::sleep(length);
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let durable = lines.filter_map(|line| line.strip_prefix("durable ")?.parse().ok()).last();
    killer.join().unwrap();
    durable.unwrap_or(0)
}

struct Seen {
    minutes: u64,
    /// Windows that stand for several.
    coarse: usize,
}

/// Opens what the kill left and judges it as a consumer does.
fn look(folder: &Path) -> Seen {
    let store = open(folder);
    let tide = *store.tide().borrow();
    let (epoch, before) = (tide.epoch.unwrap(), tide.committed[Lane::Aggregates as usize]);
    let (mut next, mut coarse) = (1, 0);
    let mut sums: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    while let Found::Chunk(chunk) = store.read(epoch, Lane::Aggregates, next, before) {
        for window in serde_json::from_str::<Vec<Value>>(&chunk.json).unwrap() {
            let number = |key: &str| window[key].as_u64().unwrap();
            let first = window["covers"][0].as_u64().unwrap_or(number("seq"));
            assert_eq!(first, next, "a number is missing or covered twice");
            next = number("seq") + 1;
            coarse += usize::from(window.get("covers").is_some());
            let sum = sums.entry(window["garage"].as_str().unwrap().to_owned()).or_default();
            let more = [number("cars_in"), number("cars_out"), number("window_s")];
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
    }
    assert_eq!(next, before, "the lane ends too soon");
    let status = store.status();
    assert_eq!(status.lanes[Lane::Aggregates as usize].dropped, 0);
    assert_eq!(status.lanes[Lane::Alarms as usize].records, 0, "something was told as lost");
    let minutes = (next - 1) / GARAGES;
    for (garage, sum) in &sums {
        assert_eq!(sum, &[minutes, (0..minutes).sum(), 60 * minutes], "{garage}");
    }
    assert!(store.stop(Duration::from_secs(20)));
    Seen { minutes, coarse }
}

fn open(folder: &Path) -> Store {
    let table = StoreTable {
        commit_ms: 5,
        backlog_mib: 16,
        alarms_percent: 10,
        events_percent: 88,
        aggregates_percent: 2,
        ..StoreTable::default()
    };
    let (boot, path) = ("boot".to_owned(), folder.to_owned());
    store::start(&table, path, boot, Clock::real(), |_| true, |_| true).0
}

fn minute_of(minute: u64) -> Vec<Item> {
    let ms = BEGIN_MS + (minute + 1) * 60_000;
    let at = Now { mono: Mono(ms * 1_000_000), wall: Wall(ms as i64) };
    let window = |garage: u64| GarageWindow {
        garage: format!("g{garage}"),
        window_s: 60,
        cars_in: 1,
        cars_out: minute,
        counted_by: CountedBy::Loops,
        bays: 0,
        now: Tally::default(),
        by_class: BTreeMap::from([("car".to_owned(), Tally::default())]),
        granted: 0,
    };
    let record = |garage| Record::new(Lane::Aggregates, at, Body::GarageWindow(window(garage)));
    (0..GARAGES).map(|garage| Item::Record(record(garage))).collect()
}

/// One write a line, so that a kill cuts at most the last one.
fn say(line: &str) {
    let mut out = std::io::stdout();
    // A parent that went away ends this process soon enough.
    let _ = out.write_all(format!("\n{line}\n").as_bytes());
    let _ = out.flush();
}
