//! The real store and uplink against Debian's mosquitto: stopped, frozen, refusing.
//!
//! A judge subscribes with a client of its own and keeps every message. What it must have seen in
//! the end: each record once committed, in order after dropping repeats, repeats at most a window
//! for each fault. Skipped, with a message, where mosquitto is not installed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parkway::config::Config;
use parkway::gateway::{Answer, GarageView, SignMode, SignView, Snapshot, Source, Ticket};
use parkway::owner::{Given, Handle, Urgent};
use parkway::record::{Body, CountedBy, Fullness, GarageWindow, Lane, Record, Sensed, Tally};
use parkway::site::Face;
use parkway::store::{self, Item, Store};
use parkway::time::{Clock, Mono, Now, Wall};
use parkway::uplink::{self, Uplink};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties};
use rumqttc::v5::{Client, Event, MqttOptions};
use serde_json::Value;
use tokio::sync::{broadcast, mpsc, watch};

#[path = "peer/links.rs"]
mod links;
#[path = "peer/tls.rs"]
mod tls;

const WINDOW: u64 = 8;
/// Garages that tell of a minute.
const GARAGES: u64 = 8;

#[test]
fn nothing_is_lost_while_the_broker_stops_and_freezes() {
    let Some(mut broker) = Broker::start("") else { return };
    let dir = tempfile::tempdir().unwrap();
    let judge = Judge::start(broker.port);
    let rig = Rig::start(dir.path(), broker.port);
    let feeder = Feeder::start(&rig.store);

    std::thread::sleep(Duration::from_secs(2));
    broker.stop();
    std::thread::sleep(Duration::from_secs(2));
    broker.run();
    judge.wait_for("events after the stop", Duration::from_secs(20), |judge| judge.moves());
    broker.signal("STOP");
    std::thread::sleep(Duration::from_secs(4));
    broker.signal("CONT");
    judge.wait_for("events after the freeze", Duration::from_secs(40), |judge| judge.moves());
    let fed = feeder.stop();
    rig.drained(Duration::from_secs(60));

    for lane in [Lane::Alarms, Lane::Events] {
        let (records, repeats) = judge.lane(lane);
        let all: Vec<u64> = (1..=fed[lane as usize]).collect();
        assert_eq!(records, all, "{} is not complete and in order", lane.name());
        eprintln!("{}: {} records, {repeats} repeated messages", lane.name(), records.len());
        // Two faults; the judge's own reconnects make the broker refuse, which repeats nothing.
        assert!(repeats <= 2 * WINDOW, "{repeats} repeats");
    }
    let status = rig.uplink.status();
    eprintln!("{:?} after {} reconnects", status.totals, status.reconnects);
    assert!(status.reconnects >= 2);
    rig.stop();
}

#[test]
fn a_backlog_drains_at_its_rate() {
    let Some(mut broker) = Broker::start("") else { return };
    broker.stop();
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), broker.port);
    for n in 1..=20 {
        rig.store.queue().push((0..1_000).map(bay).collect(), Ticket(n), true);
    }
    while rig.store.status().lanes[Lane::Events as usize].records < 20_000 {
        std::thread::sleep(Duration::from_millis(10));
    }
    broker.run();
    let judge = Judge::start(broker.port);
    while rig.uplink.status().connected_since.is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let began = Instant::now();
    rig.drained(Duration::from_secs(60));
    let took = began.elapsed();
    eprintln!("20,000 records at 5,000 a second in {took:?}");
    assert!(took > Duration::from_secs(3), "faster than its rate: {took:?}");
    assert_eq!(judge.lane(Lane::Events).0, (1..=20_000).collect::<Vec<u64>>());
    rig.stop();
}

/// Half a day of windows in a lane for an hour, and another hour while the drain is broken off:
/// all of it arrives, in coarser steps, and what was under way keeps its numbers.
#[test]
fn a_thinned_lane_arrives_complete() {
    let Some(mut broker) = Broker::start("") else { return };
    broker.stop();
    let dir = tempfile::tempdir().unwrap();
    let narrow = "replay_per_s = 100\n[store]\ncommit_ms = 5\nbacklog_mib = 16\n\
                  alarms_percent = 10\nevents_percent = 88\naggregates_percent = 2\n";
    let rig = Rig::with(dir.path(), broker.port, narrow);
    let feed = |minutes: std::ops::Range<u64>| {
        let mark = rig.store.durable();
        for minute in minutes {
            rig.store.queue().push(minute_of(minute), Ticket(minute + 1), false);
            while *mark.borrow() <= Ticket(minute) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    };
    feed(0..720);
    broker.run();
    let judge = Judge::start(broker.port);
    judge.wait_for("the first windows", Duration::from_secs(20), |judge| {
        judge.lane(Lane::Aggregates).0.len() > 100
    });
    broker.stop();
    feed(720..780);
    broker.run();
    rig.drained(Duration::from_secs(60));
    let (numbers, repeats) = judge.lane(Lane::Aggregates);
    assert_eq!(numbers, (1..=780 * GARAGES).collect::<Vec<u64>>());
    assert!(repeats <= WINDOW, "{repeats} repeats");
    let (mut seen, mut cars, mut sent) = (0, 0, 0);
    for (_, message) in judge.heard.lock().unwrap().iter() {
        for line in message["records"].as_array().into_iter().flatten() {
            let seq = line["seq"].as_u64().unwrap();
            if seq <= seen {
                continue;
            }
            seen = seq;
            cars += line["cars_in"].as_u64().unwrap();
            sent += 1;
        }
    }
    eprintln!("{} windows in {sent} records, {repeats} repeated messages", 780 * GARAGES);
    assert_eq!(cars, GARAGES * (0..780).sum::<u64>());
    assert!(sent < 780 * GARAGES / 4, "hardly anything was merged: {sent}");
    rig.stop();
}

#[test]
fn what_the_broker_refuses_is_not_delivered() {
    // State as well: mosquitto turns away a client whose will it would not take.
    let acl = "topic readwrite parkway/s/alarms\ntopic readwrite parkway/s/state/#\n\
               topic read parkway/s/#\n";
    let Some(broker) = Broker::start(acl) else { return };
    let dir = tempfile::tempdir().unwrap();
    let judge = Judge::start(broker.port);
    let rig = Rig::start(dir.path(), broker.port);
    let queue = rig.store.queue();
    queue.push((0..30).map(bay).chain([alarm()]).collect(), Ticket(31), true);
    judge.wait_for("the alarm", Duration::from_secs(10), |judge| {
        !judge.lane(Lane::Alarms).0.is_empty()
    });
    std::thread::sleep(Duration::from_secs(1));
    let status = rig.uplink.status();
    assert!(status.refusing[Lane::Events as usize], "{status:?}");
    assert_eq!(
        status.backlog[Lane::Events as usize].records,
        30,
        "a refused record left the store"
    );
    assert_eq!(judge.lane(Lane::Events).0, Vec::<u64>::new());
    let told = |count: usize| {
        let began = Instant::now();
        while rig.notices.lock().unwrap().len() < count {
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", rig.notices);
            std::thread::sleep(Duration::from_millis(20));
        }
        rig.notices.lock().unwrap().clone()
    };
    let refused = Body::LaneRefused { lane: Lane::Events, reason: "NotAuthorized".to_owned() };
    assert_eq!(told(1), std::slice::from_ref(&refused));

    broker.write_acl("topic readwrite parkway/s/#\n");
    broker.signal("HUP");
    rig.drained(Duration::from_secs(30));
    assert_eq!(judge.lane(Lane::Events).0, (1..=30).collect::<Vec<u64>>());
    assert_eq!(told(2), [refused, Body::LaneAccepted { lane: Lane::Events }]);
    rig.stop();
}

/// Nobody subscribes: records wait, unless the configuration says that the broker keeps them.
#[test]
fn what_nobody_hears_waits_or_counts_as_delivered() {
    let Some(broker) = Broker::start("") else { return };
    for (mqtt, left) in [("", 30), ("accept_unheard = true", 0)] {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::with(dir.path(), broker.port, mqtt);
        rig.store.queue().push((0..30).map(bay).collect(), Ticket(30), true);
        let began = Instant::now();
        let answered = |totals: parkway::outbox::Totals| totals.taken + totals.refused > 0;
        while !answered(rig.uplink.status().totals) || left == 0 && rig.waiting() > 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", rig.uplink.status());
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(rig.waiting(), left, "{mqtt}");
        rig.stop();
    }
}

#[test]
fn state_is_retained_and_commands_are_answered() {
    let Some(broker) = Broker::start("") else { return };
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), broker.port);
    let long = Duration::from_secs(10);
    // The judge comes later: what it gets first was retained.
    std::thread::sleep(Duration::from_secs(1));
    let judge = Judge::start(broker.port);
    judge.wait_for("presence", long, |judge| {
        judge.newest("state/gateway").is_some_and(|state| state["online"] == true)
    });
    judge.wait_for("a garage", long, |judge| {
        judge.newest("state/garages/g01").is_some_and(|state| state["free"] == 7)
    });
    judge.wait_for("a sign", long, |judge| {
        judge.newest("state/signs/s-g01").is_some_and(|state| state["face"]["number"] == 7)
    });

    let close = r#"{"id":"c1","expires_at":"2100-01-01T00:00:00Z","action":"close","target":"g01",
        "reason":"smoke","by":"desk"}"#;
    judge.say("commands/closures", close, Some("desk/answers"));
    judge.wait_for("the reply", long, |judge| {
        judge.newest_of("desk/answers").is_some_and(|reply| reply["ok"] == true)
    });
    for (wrong, code) in [
        (close.replace("2100", "2001").replace("c1", "c2"), "expired"),
        (close.replace("g01", "g99").replace("c1", "c2"), "unknown_target"),
        (close.replace("close", "burn").replace("c1", "c2"), "malformed"),
    ] {
        judge.say("commands/closures", &wrong, None);
        judge.wait_for(code, long, |judge| {
            judge.newest("replies/c2").is_some_and(|reply| reply["error"]["code"] == code)
        });
    }
    let status = rig.uplink.status();
    assert_eq!((status.commands_done, status.commands_refused), (1, 3));

    rig.stop();
    judge.wait_for("goodbye", long, |judge| {
        judge.newest("state/gateway").is_some_and(|s| s["online"] == false && s["clean"] == true)
    });
}

/// A mosquitto of our own, on a port of its own.
struct Broker {
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Broker {
    fn start(acl: &str) -> Option<Broker> {
        mosquitto()?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        // A thousand under way, so that nothing waits inside the broker when it is stopped.
        let mut config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
             max_inflight_messages 1000\nmax_queued_messages 0\nlog_type none\n"
        );
        if !acl.is_empty() {
            config += &format!("acl_file {}\n", dir.path().join("acl").display());
        }
        // Started by root it would give up root's rights, and with them our folder.
        config += "user root\n";
        std::fs::write(dir.path().join("config"), config).unwrap();
        let mut broker = Broker { dir, port, child: None };
        broker.write_acl(acl);
        broker.run();
        Some(broker)
    }

    /// Adds a listener that asks for the names in `passwords`; its port.
    fn guarded(&mut self) -> u16 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let file = self.dir.path().join("config");
        let config = std::fs::read_to_string(&file).unwrap();
        let passwords = self.dir.path().join("passwords");
        let guarded = format!(
            "per_listener_settings true\n{config}listener {port} 127.0.0.1\n\
             allow_anonymous false\npassword_file {}\n",
            passwords.display()
        );
        std::fs::write(file, guarded).unwrap();
        self.stop();
        self.run();
        port
    }

    fn write_acl(&self, acl: &str) {
        std::fs::write(self.dir.path().join("acl"), acl).unwrap();
    }

    fn run(&mut self) {
        let mut command = Command::new(mosquitto().unwrap());
        command.arg("-c").arg(self.dir.path().join("config"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.child = Some(child);
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap();
        assert!(sent.success());
    }

    fn stop(&mut self) {
        self.signal("TERM");
        self.child.take().unwrap().wait().unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn mosquitto() -> Option<PathBuf> {
    let places = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"];
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED: mosquitto is not installed (apt-get install mosquitto)");
    }
    found
}

/// Store, uplink and an owner that says yes to everything.
struct Rig {
    store: Store,
    uplink: Uplink,
    notices: Arc<Mutex<Vec<Body>>>,
    _pictures: watch::Sender<Arc<Snapshot>>,
}

impl Rig {
    fn start(dir: &Path, port: u16) -> Rig {
        Rig::with(dir, port, "")
    }

    fn with(dir: &Path, port: u16, mqtt: &str) -> Rig {
        let file = dir.join("parkway.toml");
        let text = include_str!("common/small.toml").replace("1883", &port.to_string());
        let mqtt = format!("ack_timeout_s = 2\nkeep_alive_s = 5\n{mqtt}\n[[class]]");
        let text = text.replace("[[class]]", &mqtt);
        std::fs::write(&file, text).unwrap();
        let config: Config = parkway::config::load(&file).unwrap();
        let path = dir.join("store");
        let boot = "boot".to_owned();
        let clock = Clock::real();
        let (store, _) = store::start(&config.store, path, boot, clock, |_| true, |_| true);
        let (urgent, asked) = mpsc::channel(16);
        let (pictures, picture) = watch::channel(Arc::new(picture()));
        let notices = Arc::new(Mutex::new(Vec::new()));
        let noticed = notices.clone();
        std::thread::spawn(move || agree(asked, &noticed));
        let durable = watch::channel(Ticket(0)).1;
        let handle = Handle::new(urgent, picture, broadcast::Sender::new(8), durable, clock);
        let uplink = uplink::start(&config, clock, store.clone(), handle);
        Rig { store, uplink, notices, _pictures: pictures }
    }

    fn waiting(&self) -> u64 {
        self.store.status().lanes.iter().map(|lane| lane.records).sum()
    }

    fn drained(&self, patience: Duration) {
        let began = Instant::now();
        loop {
            let waiting = self.waiting();
            if waiting == 0 && self.store.queued_bytes() == 0 {
                return;
            }
            let status = self.uplink.status();
            assert!(began.elapsed() < patience, "{waiting} records left: {status:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(self) {
        assert!(self.uplink.stop(Duration::from_secs(5)), "the uplink did not stop");
        assert!(self.store.stop(Duration::from_secs(20)), "the store did not stop");
    }
}

fn agree(mut asked: mpsc::Receiver<Urgent>, notices: &Mutex<Vec<Body>>) {
    while let Some(urgent) = asked.blocking_recv() {
        match urgent {
            Urgent::Ask { reply, .. } => {
                let by = Clock::real().now().mono;
                let _ = reply.send(Given { answer: Answer::Done, after: Ticket(0), by });
            }
            Urgent::Notice(body) => notices.lock().unwrap().push(body),
            _ => (),
        }
    }
}

fn picture() -> Snapshot {
    let tally = Tally { free: 7, occupied: 3, ..Tally::default() };
    let garage = GarageView {
        id: "g01".to_owned(),
        name: "First".to_owned(),
        fullness: Fullness::Spaces,
        closed: false,
        incident: false,
        bays: 10,
        tally,
        ledger_free: 0,
        cars: parkway::gateway::Cars { sensed: 3, counted: None, booked: 0 },
        count_error: None,
        doubtful: 0,
        by_class: [("car".to_owned(), tally)].into(),
    };
    let sign = SignView {
        id: "s-g01".to_owned(),
        name: "Door".to_owned(),
        mode: SignMode::Auto,
        face: Face::Number(7),
        kind: "count",
        source: Source::Automatic,
        message: None,
        mode_until: None,
        message_until: None,
    };
    Snapshot { garages: vec![garage], signs: vec![sign], ..Snapshot::default() }
}

/// Makes records as long as it lives: 250 events and 5 alarms a second.
struct Feeder {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<[u64; 3]>,
}

impl Feeder {
    fn start(store: &Store) -> Feeder {
        let (queue, stop) = (store.queue(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut fed = [0; 3];
            let mut ticket = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mut items: Vec<Item> = (0..5).map(bay).collect();
                if ticket % 10 == 0 {
                    items.push(alarm());
                    fed[Lane::Alarms as usize] += 1;
                }
                fed[Lane::Events as usize] += 5;
                ticket += 1;
                queue.push(items, Ticket(ticket), false);
                std::thread::sleep(Duration::from_millis(20));
            }
            fed
        });
        Feeder { stop, thread }
    }

    fn stop(self) -> [u64; 3] {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn bay(n: u64) -> Item {
    let body =
        Body::Bay { bay: format!("g01/B1/A/{n:03}"), from: Sensed::Free, to: Sensed::Occupied };
    Item::Record(Record::new(Lane::Events, Clock::real().now(), body))
}

fn alarm() -> Item {
    let body = Body::UnitLost { unit: "zc-01".to_owned(), bays: 10, silent_ms: 5_000 };
    Item::Record(Record::new(Lane::Alarms, Clock::real().now(), body))
}

/// What garages tell of a minute of 2026: as many cars as its number.
fn minute_of(minute: u64) -> Vec<Item> {
    let ms = 1_767_225_600_000 + (minute + 1) * 60_000;
    let at = Now { mono: Mono(ms * 1_000_000), wall: Wall(ms as i64) };
    let window = |garage: u64| GarageWindow {
        garage: format!("g{garage}"),
        window_s: 60,
        cars_in: minute,
        cars_out: 0,
        counted_by: CountedBy::Loops,
        bays: 0,
        now: Tally::default(),
        by_class: [("car".to_owned(), Tally::default())].into(),
        granted: 0,
    };
    let record = |garage| Record::new(Lane::Aggregates, at, Body::GarageWindow(window(garage)));
    (0..GARAGES).map(|garage| Item::Record(record(garage))).collect()
}

/// Keeps every message it ever got, in order.
struct Judge {
    client: Client,
    heard: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Judge {
    fn start(port: u16) -> Judge {
        let mut options = MqttOptions::new("judge", "127.0.0.1", port);
        options.set_clean_start(true);
        options.set_max_packet_size(Some(1 << 20));
        options.set_keep_alive(Duration::from_secs(60));
        let (client, mut connection) = Client::new(options, 64);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (out, subscriber) = (heard.clone(), client.clone());
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        subscriber.try_subscribe("parkway/s/#", QoS::AtLeastOnce).unwrap();
                        subscriber.try_subscribe("desk/#", QoS::AtLeastOnce).unwrap();
                    }
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                        let payload = serde_json::from_slice(&publish.payload);
                        out.lock().unwrap().push((topic, payload.unwrap_or(Value::Null)));
                    }
                    Ok(_) => (),
                    Err(_) => std::thread::sleep(Duration::from_millis(100)),
                }
            }
        });
        let judge = Judge { client, heard };
        // Its subscription must stand before anything is judged.
        std::thread::sleep(Duration::from_millis(500));
        judge
    }

    fn say(&self, topic: &str, payload: &str, answer_to: Option<&str>) {
        let properties = PublishProperties {
            response_topic: answer_to.map(str::to_owned),
            ..PublishProperties::default()
        };
        let topic = format!("parkway/s/{topic}");
        let (qos, payload) = (QoS::AtLeastOnce, payload.to_owned());
        self.client.publish_with_properties(topic, qos, false, payload, properties).unwrap();
    }

    /// Numbers that records stand for, after dropping repeats, in the order they came, and repeated
    /// messages.
    fn lane(&self, lane: Lane) -> (Vec<u64>, u64) {
        let topic = format!("parkway/s/{}", lane.name());
        let (mut records, mut repeats) = (Vec::new(), 0);
        for (_, message) in self.heard.lock().unwrap().iter().filter(|(at, _)| *at == topic) {
            let (first, last) =
                (message["first"].as_u64().unwrap(), message["last"].as_u64().unwrap());
            let lines = message["records"].as_array().unwrap();
            assert_eq!(message["gateway"], "edge-1");
            // A merged record stands for all that it covers.
            let covered = lines.iter().flat_map(|line| {
                let seq = line["seq"].as_u64().unwrap();
                line["covers"][0].as_u64().unwrap_or(seq)..=seq
            });
            let covered: Vec<u64> = covered.collect();
            assert_eq!(covered, (first..=last).collect::<Vec<u64>>());
            let before = records.len();
            for seq in covered {
                if records.last().is_none_or(|newest| seq > *newest) {
                    records.push(seq);
                }
            }
            repeats += u64::from(records.len() == before);
        }
        (records, repeats)
    }

    fn moves(&self) -> bool {
        let before = self.lane(Lane::Events).0.len();
        std::thread::sleep(Duration::from_secs(1));
        self.lane(Lane::Events).0.len() > before + 100
    }

    fn newest(&self, topic: &str) -> Option<Value> {
        self.newest_of(&format!("parkway/s/{topic}"))
    }

    fn newest_of(&self, topic: &str) -> Option<Value> {
        let heard = self.heard.lock().unwrap();
        heard.iter().rev().find(|(at, _)| at == topic).map(|(_, message)| message.clone())
    }

    fn wait_for(&self, what: &str, patience: Duration, there: impl Fn(&Judge) -> bool) {
        let began = Instant::now();
        while !there(self) {
            assert!(began.elapsed() < patience, "no {what} within {patience:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
