//! Links that are worse than broken, between the uplink and mosquitto: half-open, slow, taken over
//! by another client of our name, and logins that the broker does not take.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::AtomicU64;

use super::*;

/// Bytes a second of a mobile link at its worst.
const SLOW: u64 = 20_000;
const FAST: u64 = u64::MAX;

/// The other side is gone and nobody says so: what is written goes nowhere, nothing comes.
#[test]
fn a_half_open_link_is_given_up_and_nothing_is_lost() {
    let Some(broker) = Broker::start("") else { return };
    let link = Link::start(broker.port, FAST);
    let dir = tempfile::tempdir().unwrap();
    let judge = Judge::start(broker.port);
    let rig = Rig::start(dir.path(), link.port);
    let feeder = Feeder::start(&rig.store);
    for cut in 1..=2 {
        judge.wait_for("events", Duration::from_secs(20), |judge| judge.moves());
        link.swallow();
        judge.wait_for("a new connection", Duration::from_secs(20), |_| {
            rig.uplink.status().reconnects >= cut
        });
    }
    judge.wait_for("events after the cuts", Duration::from_secs(20), |judge| judge.moves());
    let fed = feeder.stop();
    rig.drained(Duration::from_secs(30));
    complete(&judge, fed, 2 * WINDOW);
    assert!(rig.uplink.status().totals.rebuilds >= 2, "{:?}", rig.uplink.status());
    rig.stop();
}

/// A full window takes this link three times as long as may pass without an acknowledgement:
/// acknowledgements come one by one, so nothing is given up and nothing is sent twice.
#[test]
fn a_slow_link_is_filled_and_not_given_up() {
    let Some(broker) = Broker::start("") else { return };
    let link = Link::start(broker.port, SLOW);
    let dir = tempfile::tempdir().unwrap();
    let judge = Judge::start(broker.port);
    let rig = Rig::start(dir.path(), link.port);
    for n in 1..=2 {
        rig.store.queue().push((0..1_000).map(bay).collect(), Ticket(n), true);
    }
    let began = Instant::now();
    rig.drained(Duration::from_secs(90));
    let (status, bytes) = (rig.uplink.status(), link.carried.load(Ordering::Relaxed));
    eprintln!("{bytes} bytes in {:?}: {:?}", began.elapsed(), status.totals);
    let (records, repeats) = judge.lane(Lane::Events);
    assert_eq!(records, (1..=2_000).collect::<Vec<u64>>());
    assert_eq!((repeats, status.reconnects, status.totals.resent), (0, 0, 0));
    rig.stop();
}

/// Another client connects under our name, again and again: the broker throws us out each time.
#[test]
fn a_client_of_our_name_costs_repeats_and_no_record() {
    let Some(broker) = Broker::start("") else { return };
    let dir = tempfile::tempdir().unwrap();
    let judge = Judge::start(broker.port);
    let rig = Rig::start(dir.path(), broker.port);
    let feeder = Feeder::start(&rig.store);
    for taken in 1..=3 {
        judge.wait_for("events", Duration::from_secs(20), |judge| judge.moves());
        let mut options = MqttOptions::new("edge-1", "127.0.0.1", broker.port);
        options.set_clean_start(true);
        let (_client, mut connection) = Client::new(options, 8);
        // One that goes as soon as it was let in: else the two would throw each other out for ever.
        let let_in =
            connection.iter().any(|event| matches!(event, Ok(Event::Incoming(Packet::ConnAck(_)))));
        assert!(let_in);
        judge.wait_for("a new connection", Duration::from_secs(20), |_| {
            rig.uplink.status().reconnects >= taken
        });
    }
    let fed = feeder.stop();
    rig.drained(Duration::from_secs(30));
    complete(&judge, fed, 3 * WINDOW);
    rig.stop();
}

#[test]
fn a_login_that_is_refused_is_told_and_tried_slowly() {
    let Some(mut broker) = Broker::start("") else { return };
    let made = Command::new("mosquitto_passwd")
        .args(["-c", "-b"])
        .arg(broker.dir.path().join("passwords"))
        .args(["us", "right"])
        .status();
    assert!(made.is_ok_and(|status| status.success()), "no mosquitto_passwd");
    let guarded = broker.guarded();
    let judge = Judge::start(broker.port);
    for (password, told) in [("wrong", true), ("right", false)] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, password).unwrap();
        let login = format!("user = \"us\"\npassword_file = \"{}\"\n", file.display());
        let rig = Rig::with(dir.path(), guarded, &login);
        rig.store.queue().push((0..30).map(bay).collect(), Ticket(30), true);
        if told {
            judge.wait_for("a refusal", Duration::from_secs(10), |_| {
                rig.uplink.status().last_error.is_some()
            });
            // The next try comes after a quarter of a minute at the soonest.
            std::thread::sleep(Duration::from_secs(2));
            let status = rig.uplink.status();
            let why = status.last_error.unwrap();
            assert!(why.contains("BadUserNamePassword") || why.contains("NotAuthorized"), "{why}");
            assert_eq!((rig.waiting(), status.reconnects), (30, 0));
        } else {
            rig.drained(Duration::from_secs(20));
            assert_eq!(judge.lane(Lane::Events).0, (1..=30).collect::<Vec<u64>>());
        }
        rig.stop();
    }
}

fn complete(judge: &Judge, fed: [u64; 3], repeats_max: u64) {
    for lane in [Lane::Alarms, Lane::Events] {
        let (records, repeats) = judge.lane(lane);
        let all: Vec<u64> = (1..=fed[lane as usize]).collect();
        assert_eq!(records, all, "{} is not complete and in order", lane.name());
        assert!(repeats <= repeats_max, "{repeats} repeats");
    }
}

/// A wire to the broker that can be made worse.
struct Link {
    port: u16,
    /// Connections opened before the newest swallowing lead nowhere.
    swallowed: Arc<AtomicU64>,
    opened: Arc<AtomicU64>,
    /// Bytes towards the broker.
    carried: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Link {
    fn start(broker: u16, bytes_per_s: u64) -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Link {
            port: listener.local_addr().unwrap().port(),
            swallowed: Arc::default(),
            opened: Arc::default(),
            carried: Arc::default(),
            stop: Arc::default(),
        };
        let (swallowed, opened) = (link.swallowed.clone(), link.opened.clone());
        let (carried, stop) = (link.carried.clone(), link.stop.clone());
        std::thread::spawn(move || {
            for near in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(("127.0.0.1", broker))) else {
                    continue;
                };
                let number = opened.fetch_add(1, Ordering::Relaxed) + 1;
                for (from, to, up) in [(&near, &far, true), (&far, &near, false)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (swallowed, carried) = (swallowed.clone(), carried.clone());
                    std::thread::spawn(move || {
                        let gone = || swallowed.load(Ordering::Relaxed) >= number;
                        let rate = if up { bytes_per_s } else { FAST };
                        carry(from, to, rate, gone, |n| {
                            carried.fetch_add(if up { n } else { 0 }, Ordering::Relaxed);
                        });
                    });
                }
            }
        });
        link
    }

    /// From now on the connections that there are lead nowhere, and stay open.
    fn swallow(&self) {
        self.swallowed.store(self.opened.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Takes bytes from one side to the other, at most so many a second, until a side closes.
fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    bytes_per_s: u64,
    gone: impl Fn() -> bool,
    carried: impl Fn(u64),
) {
    // A small piece at a time: what waits, waits in the sender's buffers as on a slow wire.
    let mut piece = [0; 1_024];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        let pause_us = 1_000_000 * count as u64 / bytes_per_s;
        std::thread::sleep(Duration::from_micros(pause_us));
        if gone() {
            continue;
        }
        carried(count as u64);
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    if !gone() {
        let _ = to.shutdown(Shutdown::Both);
    }
}
