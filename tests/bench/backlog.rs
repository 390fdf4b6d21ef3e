//! Fills a store as an outage does: `cargo bench --bench backlog -- FOLDER HOURS [MIB]`.
//!
//! 45,000 vehicles a day at the reference site, each with the records it makes, a window a minute
//! of each of 26 garages, and an alarm a minute; each commit on its own, as 200 ms intervals find
//! one or two records. Prints one line of JSON: records and commits, what the store's file holds,
//! what was given up or thinned by lane, and how resident memory moved after the first hour. A
//! folder in memory spares the barriers, which only take time here. `backlog.py` then has the
//! daemon start on it and drain it.

use std::path::Path;
use std::time::Instant;

use parkway::config::StoreTable;
use parkway::gateway::Ticket;
use parkway::record::{
    Body, CountedBy, End, GarageWindow, Lane, LeaseBody, Promise, Record, Sensed, Tally,
};
use parkway::store::{self, Item, Store};
use parkway::time::{Clock, Mono, Now, Wall};

const VEHICLES_A_DAY: u64 = 45_000;
const GARAGES: u64 = 26;
/// The outage begins there: 2026-11-01.
const BEGIN_MS: i64 = 1_793_491_200_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let (Some(folder), Some(hours)) = (args.first(), args.get(1)) else {
        // `cargo test --benches` only sees that it builds.
        return;
    };
    let hours: u64 = hours.parse().expect("HOURS is a number");
    let backlog_mib = args.get(2).map_or(1_024, |mib| mib.parse().expect("MIB is a number"));
    let table = StoreTable { backlog_mib, commit_ms: 5, ..StoreTable::default() };
    let (path, boot) = (Path::new(folder).to_owned(), "outage".to_owned());
    let (store, _) = store::start(&table, path, boot, Clock::real(), |_| true, |_| true);
    let began = Instant::now();
    let mut outage = Outage { store: &store, ticket: 0, records: 0 };
    let (mut first_kib, mut most_kib) = (0, 0);
    for minute in 0..hours * 60 {
        outage.minute(minute);
        if minute >= 60 {
            first_kib = if first_kib == 0 { resident_kib() } else { first_kib };
            most_kib = most_kib.max(resident_kib());
        }
    }
    let status = store.status();
    let dropped = status.lanes.each_ref().map(|lane| lane.dropped);
    let waiting = status.lanes.each_ref().map(|lane| lane.records);
    let bytes = status.lanes.each_ref().map(|lane| lane.bytes);
    let file = std::fs::metadata(Path::new(folder).join("db/db")).map_or(0, |file| file.len());
    println!(
        "{{\"hours\":{hours},\"records\":{},\"commits\":{},\"waiting\":{waiting:?},\
         \"bytes\":{bytes:?},\"dropped\":{dropped:?},\"file_mib\":{},\"first_kib\":{first_kib},\
         \"most_kib\":{most_kib},\"seconds\":{}}}",
        outage.records,
        outage.ticket,
        file >> 20,
        began.elapsed().as_secs(),
    );
    assert!(store.stop(std::time::Duration::from_secs(60)), "the store did not stop");
}

struct Outage<'a> {
    store: &'a Store,
    ticket: u64,
    records: u64,
}

impl Outage<'_> {
    fn minute(&mut self, minute: u64) {
        let vehicles = |minutes: u64| minutes * VEHICLES_A_DAY / 1_440;
        for vehicle in vehicles(minute)..vehicles(minute + 1) {
            let ms = minute * 60_000 + vehicle * 977 % 60_000;
            let bay = format!(
                "g{:02}/b{}/{}/{:03}",
                vehicle % 26,
                vehicle % 3,
                vehicle % 5,
                vehicle % 400
            );
            let change = |from, to| Body::Bay { bay: bay.clone(), from, to };
            self.commit(Lane::Events, ms, [Body::LeaseGranted(lease(vehicle, &bay))]);
            if vehicle.is_multiple_of(2) {
                self.commit(Lane::Events, ms + 60, [Body::LeaseMoved(lease(vehicle, &bay))]);
            }
            let end = Body::LeaseEnded {
                lease: format!("{vehicle:08x}-1"),
                end: End::Fulfilled,
                inferred: true,
                bay: Some(bay.clone()),
                held_s: 240,
            };
            self.commit(Lane::Events, ms + 90, [change(Sensed::Free, Sensed::Occupied), end]);
            self.commit(Lane::Events, ms + 120, [change(Sensed::Occupied, Sensed::Free)]);
        }
        let ms = minute * 60_000 + 59_999;
        self.commit(Lane::Aggregates, ms, (0..GARAGES).map(|garage| window(garage, minute)));
        let silent = format!("zc-{:02}", minute % 34);
        self.commit(
            Lane::Alarms,
            ms,
            [Body::UnitLost { unit: silent, bays: 618, silent_ms: 3_000 }],
        );
    }

    fn commit(&mut self, lane: Lane, ms: u64, bodies: impl IntoIterator<Item = Body>) {
        let at = Now { mono: Mono(ms * 1_000_000), wall: Wall(BEGIN_MS + ms as i64) };
        let items: Vec<Item> =
            bodies.into_iter().map(|body| Item::Record(Record::new(lane, at, body))).collect();
        self.ticket += 1;
        self.records += items.len() as u64;
        self.store.queue().push(items, Ticket(self.ticket), true);
        let durable = self.store.durable();
        while *durable.borrow() < Ticket(self.ticket) {
            std::thread::yield_now();
        }
    }
}

fn lease(vehicle: u64, bay: &str) -> LeaseBody {
    LeaseBody {
        lease: format!("{vehicle:08x}-1"),
        at: "p-beiqu".to_owned(),
        promise: Promise::Bay,
        class: "car".to_owned(),
        destination: Some("d-jiefangbei".to_owned()),
        garage: Some(bay[..3].to_owned()),
        zone: Some(bay[..8].to_owned()),
        bay: Some(bay.to_owned()),
        travel_s: 190,
        hold_s: 490,
    }
}

fn window(garage: u64, minute: u64) -> Body {
    let tally = Tally { free: 300, held: 4, occupied: 480, unknown: 20, closed: 3 };
    let classes = ["car", "ev", "disabled", "tall", "vip"];
    Body::GarageWindow(GarageWindow {
        garage: format!("g{garage:02}"),
        window_s: 60,
        cars_in: minute % 7,
        cars_out: minute % 5,
        counted_by: CountedBy::Loops,
        bays: 807,
        now: tally,
        by_class: classes.map(|class| (class.to_owned(), tally)).into(),
        granted: minute % 3,
    })
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
