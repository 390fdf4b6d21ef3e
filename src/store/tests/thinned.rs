//! A lane of windows near its bound: merged before dropped, whatever is under way meanwhile.

use std::collections::BTreeMap;

use super::*;
use crate::store::thin::{self, Window, tests::sums, tests::totals};
use crate::time::Now;

/// Garages that tell of each minute: a chunk a minute.
const GARAGES: u64 = 8;
/// 2026-01-01, a full hour.
const BEGIN_MS: u64 = 1_767_225_600_000;

/// Half a day in a lane for an hour, while a consumer takes a little, the store is closed and
/// opened now and then, and once it fails.
#[test]
fn near_its_bound_windows_are_merged_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::with(dir.path(), &narrow());
    rig.push(vec![bay(0), bay(1), alarm()], 1);
    rig.durable(1);
    let mut ticket = 1;
    let mut known: Vec<Chunk> = Vec::new();
    let mut taken: Vec<Window> = Vec::new();
    for minute in 0..720 {
        ticket += 1;
        rig.queue.push(windows_of(minute, 60), Ticket(ticket), false);
        rig.durable(ticket);
        if minute % 20 == 19 {
            // What is or was under way stays as it is, until it leaves.
            let now = rig.chunks(Lane::Aggregates);
            assert!(now.starts_with(&known), "what was under way changed");
            known = now[..now.len().min(40)].to_vec();
        }
        if minute % 120 == 119 && minute < 700 {
            let delivered = known.remove(0);
            taken.extend(thin::windows(&delivered).unwrap());
            rig.store.remove(rig.epoch(), Lane::Aggregates, delivered.first);
        }
        if minute % 200 == 199 {
            rig.stop();
            rig = Rig::with(dir.path(), &narrow());
            ticket = 0;
        }
        if minute == 500 {
            let generation = rig.store.tide().borrow().generation;
            rig.queue.suspect("test".to_owned());
            rig.opened_after(generation);
        }
    }
    let chunks = rig.chunks(Lane::Aggregates);
    let there: Vec<Window> = chunks.iter().flat_map(|c| thin::windows(c).unwrap()).collect();
    assert_eq!(there[0].first(), taken.last().unwrap().seq + 1, "between what left and what waits");
    assert!(neighbours(&there), "a number is missing or covered twice");
    taken.extend(there);
    assert_eq!((taken[0].first(), taken.last().unwrap().seq), (1, 720 * GARAGES));
    assert_eq!(sums(&taken), sums_of(720));
    let lengths = |s: u64| taken.iter().filter(|w| w.totals.window_s == s).count();
    assert!(lengths(900) > 0 && lengths(3_600) > 0, "{} of an hour", lengths(3_600));
    let odd = taken.iter().filter(|w| ![60, 900, 3_600].contains(&w.totals.window_s)).count();
    assert!(odd < 60, "{odd} windows are neither a minute nor a quarter nor an hour");
    let status = rig.store.status();
    let lane = &status.lanes[Lane::Aggregates as usize];
    assert_eq!(lane.dropped, 0);
    assert!(lane.merged > 0 && lane.bytes <= lane.bytes_max, "{lane:?}");
    let counted: u64 = chunks.iter().map(Chunk::stored_bytes).sum();
    assert_eq!(lane.bytes, counted, "bytes are counted wrong");
    assert_eq!(rig.read_all(Lane::Events), [(1, 0), (2, 1)]);
    assert_eq!(rig.chunks(Lane::Alarms).iter().flat_map(lines).count(), 1, "a merge was told");
}

/// Where nothing can be merged any more the oldest go, and a gap says which numbers: those of
/// merged windows too.
#[test]
fn what_is_dropped_after_all_is_told_to_the_number() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::with(dir.path(), &narrow());
    let mut next = 1;
    for minute in 0..180 {
        rig.queue.push(windows_of(minute, 60), Ticket(minute + 1), false);
        rig.durable(minute + 1);
        next += GARAGES;
    }
    assert!(rig.store.status().lanes[Lane::Aggregates as usize].merged > 0);
    for hour in 0..200 {
        rig.queue.push(windows_of(180 + hour * 60, 3_600), Ticket(200 + hour), false);
        rig.durable(200 + hour);
        next += GARAGES;
    }
    let chunks = rig.chunks(Lane::Aggregates);
    let there: Vec<Window> = chunks.iter().flat_map(|c| thin::windows(c).unwrap()).collect();
    assert!(neighbours(&there) && there.last().unwrap().seq == next - 1);
    let (mut told, mut count) = (1, 0);
    for gap in rig.chunks(Lane::Alarms).iter().flat_map(lines) {
        assert_eq!((gap["type"].as_str(), gap["of"].as_str()), (Some("gap"), Some("aggregates")));
        assert_eq!(gap["first"].as_u64(), Some(told), "gaps leave something out");
        told = gap["last"].as_u64().unwrap() + 1;
        count += gap["count"].as_u64().unwrap();
    }
    assert_eq!((told, count), (there[0].first(), told - 1));
    assert!(told > 100 * GARAGES, "only {told} went: no merged window among them");
    assert_eq!(rig.store.status().lanes[Lane::Aggregates as usize].dropped, count);
}

/// 2 % of 16 MiB for aggregates.
fn narrow() -> StoreTable {
    StoreTable {
        backlog_mib: 16,
        alarms_percent: 10,
        events_percent: 88,
        aggregates_percent: 2,
        free_min_mib: 0,
        ..quick()
    }
}

/// What the garages tell at the end of a window that begins with that minute.
fn windows_of(minute: u64, window_s: u64) -> Vec<Item> {
    let ms = BEGIN_MS + minute * 60_000 + window_s * 1_000;
    let at = Now { mono: Mono(ms * 1_000_000), wall: Wall(ms as i64) };
    let body = |garage: u64| Body::GarageWindow(totals(&format!("g{garage}"), window_s, minute));
    let item = |garage| Item::Record(Record::new(Lane::Aggregates, at, body(garage)));
    (0..GARAGES).map(item).collect()
}

/// What minutes `0..minutes` come to.
fn sums_of(minutes: u64) -> BTreeMap<(String, bool), [u64; 4]> {
    let n: u64 = (0..minutes).sum();
    let sum = [n, 2 * n, 3 * n, 60 * minutes];
    (0..GARAGES).map(|garage| ((format!("g{garage}"), true), sum)).collect()
}

fn neighbours(windows: &[Window]) -> bool {
    windows.windows(2).all(|two| two[0].seq + 1 == two[1].first())
}

fn alarm() -> Item {
    let body = Body::StoreDegraded { why: "test".to_owned() };
    Item::Record(Record::new(Lane::Alarms, Clock::real().now(), body))
}
