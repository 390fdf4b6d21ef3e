//! A disk that fills up and gets room again: the store goes, says so, keeps what waits, comes back,
//! and no number is missing or given twice. With a free-disk floor it never comes to that. Needs
//! the right to mount; skipped with a message without it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use parkway::config::StoreTable;
use parkway::gateway::Ticket;
use parkway::record::{Body, Lane, Record, Sensed};
use parkway::store::{self, Found, Item};
use parkway::time::Clock;

#[test]
fn a_full_disk_passes() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(dir.path(), 72) else {
        eprintln!("SKIPPED: no right to mount a tmpfs");
        return;
    };
    let (sender, notices) = channel();
    let tell = move |body| sender.send(body).is_ok();
    let (boot, path) = ("boot".to_owned(), disk.path.join("store"));
    // Without the floor, which would keep it from filling.
    let table = StoreTable { commit_ms: 5, free_min_mib: 0, ..StoreTable::default() };
    let (store, _) = store::start(&table, path, boot, Clock::real(), tell, |_| true);
    let (queue, mark) = (store.queue(), store.durable());

    let mut count = 0;
    let began = Instant::now();
    let degraded = loop {
        count += 1_000;
        queue.push((count - 1_000..count).map(bay).collect(), Ticket(count), true);
        if let Ok(notice) = notices.recv_timeout(Duration::from_millis(20)) {
            break notice;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the disk never filled");
    };
    assert!(matches!(&degraded, Body::StoreDegraded { why } if why.contains("MiB left")));
    let stuck = *mark.borrow();
    assert!(stuck < Ticket(count), "something was called durable on a full disk");
    count += 10;
    queue.push((count - 10..count).map(bay).collect(), Ticket(count), true);

    disk.grow();
    let back = notices.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(matches!(back, Body::StoreBack { .. }), "{back:?}");
    let began = Instant::now();
    while *mark.borrow() < Ticket(count) {
        assert!(began.elapsed() < Duration::from_secs(20), "never durable");
        std::thread::sleep(Duration::from_millis(5));
    }
    let tide = *store.tide().borrow();
    let (epoch, before) = (tide.epoch.unwrap_or(0), tide.committed[Lane::Events as usize]);
    let (mut from, mut next) = (0, 1);
    while let Found::Chunk(chunk) = store.read(epoch, Lane::Events, from, before, 0) {
        let lines: Vec<serde_json::Value> = serde_json::from_str(&chunk.json).unwrap();
        for line in lines {
            assert_eq!(line["seq"].as_u64(), Some(next));
            assert_eq!(line["bay"].as_str().unwrap(), (next - 1).to_string());
            next += 1;
        }
        from = chunk.last + 1;
    }
    assert_eq!(next, count + 1);
    assert_eq!(store.status().lanes[Lane::Events as usize].dropped, 0);
    assert!(store.stop(Duration::from_secs(20)));
}

/// Events without end and nobody to take them: their lane stops growing, its oldest go and are
/// told, the alarms stay, and the disk keeps room.
#[test]
fn a_free_disk_floor_is_kept_and_alarms_last_longest() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(dir.path(), 110) else {
        eprintln!("SKIPPED: no right to mount a tmpfs");
        return;
    };
    let (sender, notices) = channel();
    let tell = move |body| sender.send(body).is_ok();
    let (boot, path) = ("boot".to_owned(), disk.path.join("store"));
    let table = StoreTable { commit_ms: 5, free_min_mib: 104, ..StoreTable::default() };
    let (store, _) = store::start(&table, path, boot, Clock::real(), tell, |_| true);
    let (queue, mark) = (store.queue(), store.durable());
    let dropped = |lane: Lane| store.status().lanes[lane as usize].dropped;

    let (mut count, mut after) = (0, 0);
    while after < 150 {
        count += 1_000;
        let mut items: Vec<Item> = (count - 1_000..count).map(bay).collect();
        let why = count.to_string();
        let body = Body::StoreDegraded { why };
        items.push(Item::Record(Record::new(Lane::Alarms, Clock::real().now(), body)));
        queue.push(items, Ticket(count), true);
        let began = Instant::now();
        while *mark.borrow() < Ticket(count) {
            assert!(began.elapsed() < Duration::from_secs(20), "not durable: {count}");
            std::thread::sleep(Duration::from_millis(1));
        }
        after += u64::from(dropped(Lane::Events) > 0);
        assert!(count < 2_000_000, "the events were never frozen");
    }
    assert!(notices.try_recv().is_err(), "the store went away");
    let stat = rustix::fs::statvfs(&disk.path).unwrap();
    let free_mib = (stat.f_bavail * stat.f_frsize) >> 20;
    eprintln!("{count} events, {} given up, {free_mib} MiB left", dropped(Lane::Events));
    assert!(free_mib > 64, "only {free_mib} MiB left");
    assert_eq!(dropped(Lane::Alarms), 0);
    let tide = *store.tide().borrow();
    let (epoch, before) = (tide.epoch.unwrap(), tide.committed[Lane::Alarms as usize]);
    let (mut from, mut told, mut alarms) = (0, 1, 0);
    while let Found::Chunk(chunk) = store.read(epoch, Lane::Alarms, from, before, 0) {
        from = chunk.last + 1;
        for line in serde_json::from_str::<Vec<serde_json::Value>>(&chunk.json).unwrap() {
            if line["type"] == "gap" {
                assert_eq!((&line["of"], line["first"].as_u64()), (&"events".into(), Some(told)));
                assert!(line["why"].as_str().unwrap().contains("104 MiB"), "{line}");
                told = line["last"].as_u64().unwrap() + 1;
            } else {
                alarms += 1;
            }
        }
    }
    assert_eq!((alarms, told - 1), (count / 1_000, dropped(Lane::Events)));
    assert!(store.stop(Duration::from_secs(20)));
}

fn bay(n: u64) -> Item {
    let body = Body::Bay { bay: n.to_string(), from: Sensed::Free, to: Sensed::Occupied };
    Item::Record(Record::new(Lane::Events, Clock::real().now(), body))
}

/// A small disk of our own.
struct Disk {
    path: PathBuf,
}

impl Disk {
    fn mount(at: &Path, mib: u32) -> Option<Disk> {
        let size = format!("size={mib}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Disk { path: at.to_owned() })
    }

    fn grow(&self) {
        let mut remount = Command::new("mount");
        remount.args(["-o", "remount,size=300m"]).arg(&self.path);
        assert!(remount.status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the store's files may still be open after a failed assertion.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
