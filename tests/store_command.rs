//! `parkway store` as people run it: on a sound store, a broken one, one set aside, and beside a
//! live daemon.

#[path = "common/store.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{Daemon, copy, fill, spoil, wait};
use parkway::gateway::Ticket;
use parkway::record::{Body, CountedBy, GarageWindow, Lane, Record, Tally};
use parkway::store::Item;
use parkway::time::{Mono, Now, Wall};
use serde_json::Value;

#[test]
fn a_sound_store_is_told_and_written_out_and_never_changed() {
    let dir = tempfile::tempdir().unwrap();
    let filled = fill(dir.path(), 40);
    let before = pictures(dir.path());
    let folder = dir.path().to_str().unwrap();

    let (code, told, errors) = store(&["check", folder]);
    assert_eq!(code, 0, "{told}{errors}");
    assert!(told.ends_with("sound\n"), "{told}");
    let epoch = format!("{:016x}", filled.epoch);
    assert!(told.contains(&format!("{epoch} inside, {epoch} beside")), "{told}");
    let (head, next) = (filled.head[1], filled.next[1]);
    let events = format!("{head}..={}: {} records in", next - 1, next - head);
    assert!(told.contains(&events) && told.contains("kept       40 values"), "{told}");

    let (code, lines, errors) = store(&["export", folder, "--kept"]);
    assert_eq!(code, 0, "{errors}");
    let lines = parse(&lines);
    let (kept, records): (Vec<_>, Vec<_>) = lines.iter().partition(|l| l.get("kept").is_some());
    let all: u64 = filled.next.iter().zip(filled.head).map(|(next, head)| next - head).sum();
    assert_eq!((records.len() as u64, kept.len()), (all, 40));
    assert!(records.iter().all(|l| l["epoch"] == epoch && l["boot"] == "boot"));
    assert!(kept.iter().all(|l| l["value"]["zone"] == "A" && l["value"]["vehicle"].is_null()));

    let span = ["--lane", "events", "--from", "1000", "--to", "1009"];
    let (code, lines, errors) = store(&[&["export", folder][..], &span].concat());
    assert_eq!(code, 0, "{errors}");
    let numbers: Vec<u64> = parse(&lines).iter().map(|l| l["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1000..1010).collect::<Vec<_>>());

    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("records");
    let to_file = ["export", folder, "--out", file.to_str().unwrap()];
    assert_eq!(store(&to_file).0, 0);
    assert_eq!(parse(&std::fs::read_to_string(&file).unwrap()).len() as u64, all);
    assert_eq!(store(&to_file).0, 64, "an existing file was written over");
    assert_eq!(pictures(dir.path()), before, "the store was changed");
}

/// Records fewer than numbers are no damage where windows were merged, and who asks for a number
/// gets the record that covers it.
#[test]
fn a_thinned_store_is_sound_and_its_numbers_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let numbers = thinned(dir.path());
    let folder = dir.path().to_str().unwrap();
    let (code, told, errors) = store(&["check", folder]);
    assert_eq!(code, 0, "{told}{errors}");
    assert!(told.contains(&format!("1..={numbers}: ")), "{told}");
    assert!(told.contains(&format!(" merged from {numbers} in ")), "{told}");

    let lane = ["export", folder, "--lane", "aggregates"];
    let (code, lines, errors) = store(&lane);
    assert_eq!(code, 0, "{errors}");
    let mut next = 1;
    for line in parse(&lines) {
        let seq = line["seq"].as_u64().unwrap();
        let first = line["covers"][0].as_u64().unwrap_or(seq);
        assert_eq!(first, next, "a number is missing or covered twice");
        if first < seq {
            for number in [first, first + 1, seq] {
                let number = number.to_string();
                let one = [&lane[..], &["--from", &number, "--to", &number]].concat();
                let found = parse(&store(&one).1);
                assert_eq!((found.len(), &found[0]), (1, &line), "{number}");
            }
            next = seq + 1;
            break;
        }
        next = seq + 1;
    }
    assert!(next < numbers, "nothing was merged");
}

/// A store with more windows than its lane holds as minutes; how many there were.
fn thinned(folder: &Path) -> u64 {
    let table = parkway::config::StoreTable {
        commit_ms: 5,
        backlog_mib: 16,
        alarms_percent: 10,
        events_percent: 88,
        aggregates_percent: 2,
        ..Default::default()
    };
    let path = folder.to_owned();
    let clock = parkway::time::Clock::real();
    let (store, _) =
        parkway::store::start(&table, path, "boot".to_owned(), clock, |_| true, |_| true);
    let durable = store.durable();
    let mut numbers = 0;
    for minute in 1..=200 {
        let ms = 1_767_225_600_000 + minute * 60_000;
        let at = Now { mono: Mono(ms * 1_000_000), wall: Wall(ms as i64) };
        let window = |garage: u64| GarageWindow {
            garage: format!("g{garage}"),
            window_s: 60,
            cars_in: 1,
            cars_out: 1,
            counted_by: CountedBy::Loops,
            bays: 0,
            now: Tally::default(),
            by_class: BTreeMap::new(),
            granted: 1,
        };
        let body = |garage| Body::GarageWindow(window(garage));
        let record = |garage| Item::Record(Record::new(Lane::Aggregates, at, body(garage)));
        store.queue().push((0..10).map(record).collect(), Ticket(minute), false);
        wait("never durable", || *durable.borrow() >= Ticket(minute));
        numbers += 10;
    }
    assert!(store.stop(Duration::from_secs(20)));
    numbers
}

#[test]
fn what_is_no_store_and_what_has_no_room_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let (code, _, errors) = store(&["check", folder]);
    assert_eq!((code, errors.contains("no store in it")), (64, true), "{errors}");
    let (code, _, errors) = store(&["export", folder, "--from", "9", "--to", "3"]);
    assert_eq!((code, errors.contains("--from 9 is above --to 3")), (64, true), "{errors}");
    fill(dir.path(), 40);
    let (code, _, errors) = store(&["check", folder, "--scratch", "/proc"]);
    assert_eq!(code, 1);
    assert!(errors.contains("/proc"), "{errors}");
}

/// Whatever is broken is told with exit code 1, what can be read is written out, and all of it is
/// what was written.
#[test]
fn a_broken_store_is_called_broken_and_still_read() {
    let good = tempfile::tempdir().unwrap();
    let filled = fill(good.path(), 40);
    let (mut random, mut short, mut whole) = (0x9e37_79b9_7f4a_7c15_u64, 0, 0);
    for round in 0..8 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let dir = tempfile::tempdir().unwrap();
        // As one that was set aside lies there: sled's folder with the notes in it.
        copy(&good.path().join("db"), dir.path());
        for name in ["epoch", "numbers"] {
            std::fs::copy(good.path().join(name), dir.path().join(name)).unwrap();
        }
        let what = spoil(&dir.path().join("db"), random, round % 2 == 0);
        let before = pictures(dir.path());
        let folder = dir.path().to_str().unwrap();
        let (checked, told, errors) = store(&["check", folder]);
        let (code, lines, _) = store(&["export", folder, "--lane", "events"]);
        let mut seen = BTreeSet::new();
        for line in parse(&lines) {
            let seq = line["seq"].as_u64().unwrap();
            assert_eq!(line["bay"], seq.to_string(), "{what}: not what was written");
            assert!(seen.insert(seq), "{what}: {seq} comes twice");
        }
        let all = (filled.next[1] - filled.head[1]) as usize;
        assert!([0, 1].contains(&code) && [0, 1].contains(&checked), "{what}: {code} {checked}");
        if seen.len() < all {
            assert_eq!(checked, 1, "{what}: {} of {all}, and called\n{told}{errors}", seen.len());
            short += 1;
        } else {
            whole += 1;
        }
        assert_eq!(pictures(dir.path()), before, "{what}: the store was changed");
    }
    eprintln!("8 broken stores: {whole} with all events, {short} with some or none");
    assert!(short > 0, "nothing was ever broken");
}

#[test]
fn beside_a_live_daemon_all_three_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let daemon = Daemon::start(dir.path(), &path);
    daemon.allocation(Duration::from_secs(20)).expect("it guides");
    let (folder, http) = (path.to_str().unwrap(), format!("http://{}", daemon.address));
    wait("it never wrote", || std::fs::metadata(path.join("numbers")).is_ok());

    let (code, told, errors) = store(&["status", folder, "--http", &http]);
    assert_eq!(code, 0, "{told}{errors}");
    assert!(told.starts_with("state      ok\n") && told.contains("held by a process"), "{told}");
    let (code, told, errors) = store(&["check", folder]);
    assert_eq!(code, 0, "{told}{errors}");
    assert!(errors.contains("beside a live gateway"), "{errors}");
    let (code, lines, errors) = store(&["export", folder]);
    assert_eq!(code, 0, "{errors}");
    assert!(parse(&lines).iter().any(|line| line["type"] == "started"), "{lines}");
    daemon.allocation(Duration::from_secs(5)).expect("it still guides");
    drop(daemon);

    let (code, told, errors) = store(&["status", folder, "--http", &http]);
    assert_eq!((code, told.contains("held by nobody")), (0, true), "{told}");
    assert!(errors.contains("nobody answers at"), "{errors}");
    let (code, _, _) = store(&["status", dir.path().to_str().unwrap(), "--http", &http]);
    assert_eq!(code, 1, "neither a gateway nor a store, and no failure");
}

fn store(words: &[&str]) -> (i32, String, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_parkway")).arg("store").args(words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn parse(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All files with their contents.
fn pictures(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for file in std::fs::read_dir(folder).unwrap().flatten() {
        let path = file.path();
        if path.is_dir() {
            all.extend(pictures(&path));
        } else {
            all.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}
