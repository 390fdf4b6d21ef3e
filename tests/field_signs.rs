//! Signs over the field, on real sockets: at once, newest wins, again after a loss, last at a stop.

mod peer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use parkway::field::{self, Field};
use parkway::site::{Face, SignIx};
use parkway::time::Clock;
use peer::{Act, LineOf, Peer, Seen, exception, site};
use tokio::sync::mpsc::channel;

const SIGNS: &str = r#"
[[sign]]
id = "s0"
kind = "count"
unit = "u0-1"
index = 0
fallback = "blank"
shows = ["g01"]
[[sign]]
id = "s1"
kind = "count"
unit = "u0-1"
index = 1
fallback = "blank"
shows = ["g01"]
[[sign]]
id = "c0"
kind = "call-out"
node = "p1"
unit = "u0-1"
index = 2
fallback = "blank"
"#;

const ONE_SIGN: &str = r#"
[[sign]]
id = "s0"
kind = "count"
unit = "u0-1"
index = 0
fallback = "blank"
shows = ["g01"]
"#;

#[test]
fn a_face_interrupts_the_wait_between_sweeps() {
    let peer = Peer::start(|_| Act::Answer);
    let field = start(&peer, &[(1, "panel"), (2, "bays")], 4_000, SIGNS);
    wait_until("the line is up", || peer.connections() == 1);
    std::thread::sleep(Duration::from_millis(100));
    let mut worst = Duration::ZERO;
    for n in 0..50 {
        let before = Instant::now();
        field.write(SignIx(0), Face::Number(n));
        wait_until("the face arrives", || last_write(&peer).is_some_and(|w| w.words == [n as u16]));
        worst = worst.max(last_write(&peer).unwrap().at - before);
    }
    println!("50 faces, longest way to the wire {worst:?}");
    assert!(worst < Duration::from_millis(50), "{worst:?}");
    field.write(SignIx(2), Face::Text("A7 G1".into()));
    wait_until("a text arrives", || last_write(&peer).is_some_and(|w| w.first == 1032));
    assert_eq!(last_write(&peer).unwrap().words, [0x4137, 0x2047, 0x3120, 0x2020]);
    wait_until("all confirmed", || {
        let unit = &field.status()[0].units[0];
        (unit.signs_desired, unit.signs_confirmed) == (2, 2)
    });
}

#[test]
fn neighbours_go_out_together_and_only_the_newest_face_of_each() {
    let held = Arc::new(AtomicBool::new(true));
    let hold = held.clone();
    let peer = Peer::start(move |_| {
        while hold.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Act::Answer
    });
    let field = start(&peer, &[(1, "panel")], 1_000, SIGNS);
    wait_until("the line is up", || peer.connections() == 1);
    field.write(SignIx(0), Face::Number(1));
    wait_until("the first is out", || peer.seen().len() == 1);
    for n in 2..=9 {
        field.write(SignIx(0), Face::Number(n));
        field.write(SignIx(1), Face::Full);
    }
    held.store(false, Ordering::Relaxed);
    wait_until("the second is out", || peer.seen().len() == 2);
    let writes: Vec<_> = peer.seen().into_iter().map(|w| (w.function, w.first, w.words)).collect();
    assert_eq!(writes, [(6, 0, vec![1]), (16, 0, vec![9, 10_001])]);
}

#[test]
fn a_failed_write_is_not_repeated_but_the_newest_face_is_written_later() {
    let silent = Arc::new(AtomicBool::new(true));
    let mute = silent.clone();
    let peer =
        Peer::start(move |_| if mute.load(Ordering::Relaxed) { Act::Silence } else { Act::Answer });
    let field = start(&peer, &[(1, "panel")], 1_000, ONE_SIGN);
    field.write(SignIx(0), Face::Number(1));
    wait_until("the first is out", || !writes(&peer).is_empty());
    field.write(SignIx(0), Face::Number(2));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(writes(&peer).len(), 1, "written again before its turn");
    silent.store(false, Ordering::Relaxed);
    wait_until("the newest arrives", || writes(&peer).len() > 1);
    assert_eq!(last_write(&peer).unwrap().words, [2]);
    wait_until("it is confirmed", || field.status()[0].units[0].signs_confirmed == 1);
    let unit = &field.status()[0].units[0];
    assert_eq!((unit.writes_total, unit.write_failures_total, unit.timeouts_total), (2, 1, 1));
    assert_eq!(peer.connections(), 2);
}

#[test]
fn a_peer_that_started_anew_is_told_everything_again() {
    let close = Arc::new(AtomicBool::new(false));
    let closing = close.clone();
    let peer = Peer::start(move |seen| {
        let closes = seen.unit == 2 && closing.swap(false, Ordering::Relaxed);
        if closes { Act::Close } else { Act::Answer }
    });
    let field = start(&peer, &[(1, "panel"), (2, "bays")], 100, SIGNS);
    field.write(SignIx(0), Face::Number(7));
    field.write(SignIx(1), Face::Closed);
    wait_until("both are shown", || field.status()[0].units[0].signs_confirmed == 2);
    let before = writes(&peer).len();
    close.store(true, Ordering::Relaxed);
    wait_until("it is told again", || writes(&peer).len() > before);
    let again = last_write(&peer).unwrap();
    assert_eq!((again.connection, again.words), (1, vec![7, 10_002]));
}

#[test]
fn a_display_that_never_answers_is_written_on_one_connection() {
    let peer = Peer::start(|_| Act::Silence);
    let field = start(&peer, &[(1, "mute")], 1_000, ONE_SIGN);
    for n in 1..=20 {
        field.write(SignIx(0), Face::Number(n));
        wait_until("it arrives", || last_write(&peer).is_some_and(|w| w.words == [n as u16]));
    }
    assert_eq!(peer.connections(), 1);
    wait_until("it counts as sent", || field.status()[0].units[0].signs_confirmed == 1);
    assert_eq!(field.status()[0].units[0].write_failures_total, 0);
}

#[test]
fn a_refused_register_does_not_hold_back_its_neighbour() {
    let peer = Peer::start(|seen| {
        let reaches = seen.first == 1 || seen.words.len() > 1;
        if reaches { exception(seen, 2) } else { Act::Answer }
    });
    let field = start(&peer, &[(1, "panel")], 1_000, SIGNS);
    field.write(SignIx(1), Face::Number(8));
    field.write(SignIx(0), Face::Number(7));
    wait_until("the good one is shown", || field.status()[0].units[0].signs_confirmed == 1);
    let tries = writes(&peer).len();
    std::thread::sleep(Duration::from_millis(500));
    assert!(writes(&peer).len() - tries <= 1, "a refused write is repeated without a pause");
    assert_eq!(peer.connections(), 1);
}

#[test]
fn the_last_faces_are_on_the_wire_before_it_stops() {
    let shown = Arc::new(Mutex::new(Vec::new()));
    let note = shown.clone();
    // Every answer takes 20 ms, so that the last faces are still waiting when the stop comes.
    let peer = Peer::start(move |seen: &Seen| {
        std::thread::sleep(Duration::from_millis(20));
        note.lock().unwrap().push((seen.first, seen.words.clone()));
        Act::Answer
    });
    let field = start(&peer, &[(1, "panel")], 1_000, SIGNS);
    wait_until("the line is up", || peer.connections() == 1);
    for (sign, face) in [(0, Face::Number(5)), (2, Face::Text("X".into()))] {
        field.write(SignIx(sign), face);
    }
    for sign in 0..3 {
        field.write(SignIx(sign), Face::Blank);
    }
    let before = Instant::now();
    field.flush_and_stop(Duration::from_secs(2));
    assert!(before.elapsed() < Duration::from_millis(500), "{:?}", before.elapsed());
    let shown = shown.lock().unwrap();
    assert!(shown.contains(&(0, vec![10_000, 10_000])), "{shown:?}");
    assert!(shown.contains(&(1032, vec![0x2020; 4])), "{shown:?}");
    field.flush_and_stop(Duration::from_secs(2));
}

#[test]
fn a_line_that_is_gone_does_not_hold_the_stop() {
    let gone = Peer::start(|_| Act::Silence);
    let lines = [LineOf {
        address: gone.address,
        period_ms: 1_000,
        timeout_ms: 5_000,
        units: &[(1, "panel")],
    }];
    let (sender, _readings) = channel(10);
    let field = field::start(site(&lines, ONE_SIGN), Clock::real(), sender).unwrap();
    field.write(SignIx(0), Face::Number(1));
    wait_until("it is asked", || !gone.seen().is_empty());
    let before = Instant::now();
    field.flush_and_stop(Duration::from_millis(300));
    assert!(before.elapsed() < Duration::from_millis(600), "{:?}", before.elapsed());
}

fn start(peer: &Peer, units: &[(u8, &str)], period_ms: u32, signs: &str) -> Field {
    let lines = [LineOf { address: peer.address, period_ms, timeout_ms: 100, units }];
    let (sender, readings) = channel(1_000);
    // Nobody reads them here; a full queue must not matter.
    std::mem::forget(readings);
    field::start(site(&lines, signs), Clock::real(), sender).unwrap()
}

fn writes(peer: &Peer) -> Vec<Seen> {
    peer.seen().into_iter().filter(|seen| matches!(seen.function, 6 | 16)).collect()
}

fn last_write(peer: &Peer) -> Option<Seen> {
    writes(peer).pop()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(8);
    while !done() {
        assert!(Instant::now() < until, "not in 8 seconds: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
