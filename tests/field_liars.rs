//! The field against devices that are late, wrong, mute or gone, on real sockets.
//!
//! The claim of every test here: whatever a device sends, no reading ever says something that the
//! unit's own registers do not hold, and the other units of its line stay on their grid.

mod peer;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parkway::field::{self, Field, LineState, UnitState};
use parkway::gateway::Reading;
use parkway::site::{Site, Wire};
use parkway::time::Clock;
use peer::{
    Act, LineOf, Peer, Seen, answer, bind_again, exception, frame, is_true, occupied, site,
};
use tokio::sync::mpsc::{Receiver, channel, error::TryRecvError};

const PERIOD: Duration = Duration::from_millis(100);
const LIE: u8 = 2;

#[test]
fn an_honest_line_is_read_in_full_on_one_connection() {
    let peer = Peer::start(|_| Act::Answer);
    let mut run = Run::start(&peer, &[(1, "bays"), (2, "bays"), (250, "bays")]);
    let readings = run.collect(Duration::from_secs(1));
    for (unit, address) in [(0, 1), (1, 2), (2, 250)] {
        let ours: Vec<_> = readings.iter().filter(|r| r.unit.at() == unit).collect();
        assert!(ours.len() >= 8, "unit {unit}: {} readings in ten periods", ours.len());
        for reading in ours {
            assert_eq!(reading.occupied, occupied(address));
            assert_eq!(reading.known, [u64::MAX; 10]);
            assert_eq!(reading.counters, peer::counters(address));
        }
    }
    assert_eq!(peer.connections(), 1);
    let line = &run.field.status()[0];
    assert_eq!((line.state, line.reconnects_total), (LineState::Up, 0));
    assert!(run.field.attempted() && line.units.iter().all(|u| u.state == UnitState::Ok));
}

#[test]
fn a_late_answer_lands_nowhere() {
    // Every seventh answer, of any unit and block, comes 1.5 time-outs late on its connection.
    let peer = Peer::start(|seen| match seen.number % 7 {
        6 => Act::Late(Duration::from_millis(75)),
        _ => Act::Answer,
    });
    let mut run = Run::start(&peer, &[(1, "bays"), (2, "bays"), (3, "bays")]);
    let readings = run.collect(Duration::from_secs(3));
    assert_true(&readings, &[1, 2, 3]);
    let line = &run.field.status()[0];
    assert!(line.reconnects_total > 3, "{line:?}");
    assert!(line.units.iter().map(|unit| unit.timeouts_total).sum::<u64>() > 3, "{line:?}");
}

/// Lies about a true answer, by name.
type Lie = (&'static str, fn(&Seen) -> Act);

const LIES: [Lie; 13] = [
    ("late, always", |_| Act::Late(Duration::from_millis(75))),
    ("silent", |_| Act::Silence),
    ("closes the connection", |_| Act::Close),
    ("cut in the middle", |seen| Act::Bytes(answer(seen)[..20].to_vec())),
    ("another unit's answer", |seen| Act::Bytes(answer(&Seen { unit: 3, ..seen.clone() }))),
    ("the right unit with another's transaction", |seen| {
        let transaction = seen.transaction.wrapping_add(1);
        Act::Bytes(answer(&Seen { transaction, ..seen.clone() }))
    }),
    ("fewer registers, a sound frame", |seen| {
        Act::Bytes(answer(&Seen { count: seen.count - 1, ..seen.clone() }))
    }),
    ("more registers, a sound frame", |seen| {
        Act::Bytes(answer(&Seen { count: seen.count + 4, ..seen.clone() }))
    }),
    ("no registers", |seen| Act::Bytes(frame(seen.transaction, seen.unit, &[3, 0]))),
    ("an odd number of bytes", |seen| {
        Act::Bytes(frame(seen.transaction, seen.unit, &[3, 3, 0, 0, 0]))
    }),
    ("another function", |seen| Act::Bytes(answer(&Seen { function: 4, ..seen.clone() }))),
    ("garbage", |seen| Act::Bytes((0..60).map(|n| (n * 37 + seen.number) as u8).collect())),
    ("zeros", |_| Act::Bytes(vec![0; 64])),
];

#[test]
fn a_lying_unit_says_nothing_and_its_neighbours_are_read() {
    for (name, lie) in LIES {
        let act = move |seen: &Seen| if seen.unit == LIE { lie(seen) } else { Act::Answer };
        let peer = Peer::start(act);
        let mut run = Run::start(&peer, &[(1, "bays"), (LIE, "bays"), (3, "bays")]);
        let readings = run.collect(Duration::from_millis(1_500));
        assert!(readings.iter().all(|r| r.unit.at() != 1), "{name}: the liar was believed");
        for unit in [0, 2] {
            let ours = readings.iter().filter(|r| r.unit.at() == unit).count();
            assert!(ours >= 7, "{name}: unit {unit} gave {ours} readings in 15 periods");
        }
        assert_true(&readings, &[1, LIE, 3]);
        let status = &run.field.status()[0];
        assert_eq!(status.units[1].state, UnitState::Open, "{name}");
        assert!(peer.connections() <= 8, "{name}: {} connections", peer.connections());
    }
}

#[test]
fn a_refusal_keeps_the_connection_and_only_its_own_block_is_unknown() {
    // Unit 1 refuses everything, in every way; unit 2 refuses its second block.
    let peer = Peer::start(|seen| match (seen.unit, seen.first) {
        (1, _) => exception(seen, [1, 2, 3, 4, 5, 6, 8, 10, 11, 99][seen.number % 10]),
        (2, 20) => exception(seen, 4),
        _ => Act::Answer,
    });
    let mut run = Run::start(&peer, &[(1, "bays"), (2, "bays"), (3, "bays")]);
    let readings = run.collect(Duration::from_secs(1));
    assert_eq!(peer.connections(), 1);
    assert_eq!(run.field.status()[0].reconnects_total, 0);
    assert!(readings.iter().all(|r| r.unit.at() != 0));
    assert_true(&readings, &[1, 2, 3]);
    let partial: Vec<_> = readings.iter().filter(|r| r.unit.at() == 1).collect();
    assert!(partial.len() >= 8, "{}", partial.len());
    for reading in partial {
        assert_eq!(reading.known, [!0, !0, !0, !0, !0, 0, 0, 0, 0, 0]);
        assert_eq!(reading.counters, peer::counters(2));
    }
    let codes = &run.field.status()[0].units[1].exceptions_total;
    assert!(codes[&4] >= 8 && codes.len() == 1, "{codes:?}");
}

#[test]
fn a_silent_unit_among_nine_does_not_make_them_late() {
    let units: Vec<(u8, &str)> = (1..=10).map(|unit| (unit, "bays")).collect();
    let peer = Peer::start(|seen| if seen.unit == 5 { Act::Silence } else { Act::Answer });
    let address = peer.address;
    let lines = [LineOf { address, period_ms: 200, timeout_ms: 100, units: &units }];
    let mut run = Run::of(site(&lines, ""));
    let readings = run.collect(Duration::from_secs(6));
    assert_true(&readings, &(1..=10).collect::<Vec<_>>());
    let (mut worst_ms, mut means) = (0, Vec::new());
    for unit in (0..10).filter(|unit| *unit != 4) {
        let times: Vec<_> = readings.iter().filter(|r| r.unit.at() == unit).map(|r| r.at).collect();
        let gaps = times.windows(2).map(|pair| pair[1].ms_since(pair[0]));
        worst_ms = worst_ms.max(gaps.max().unwrap());
        let whole_ms = times[times.len() - 1].ms_since(times[0]) as f64;
        means.push(whole_ms / (times.len() - 1) as f64);
    }
    let worst_mean = means.iter().copied().fold(0.0, f64::max);
    println!("nine healthy units beside a silent one: worst mean {worst_mean:.1} ms of 200");
    println!("longest gap {worst_ms} ms; missed {}", run.field.status()[0].missed_slots_total);
    assert!((198.0..206.0).contains(&worst_mean), "{means:?}");
    assert!(worst_ms < 300, "a gap of {worst_ms} ms in a period of 200");
    assert_eq!(run.field.status()[0].missed_slots_total, 0);
}

#[test]
fn a_refused_line_comes_back_and_is_not_stormed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let lines = [LineOf { address, period_ms: 100, timeout_ms: 50, units: &[(1, "bays")] }];
    let mut run = Run::of(site(&lines, ""));
    assert!(run.collect(Duration::from_secs(2)).is_empty());
    assert!(run.field.attempted());
    let line = &run.field.status()[0];
    assert_eq!(line.state, LineState::Down);
    assert!((2..=5).contains(&line.connect_failures_total), "{line:?}");
    let peer = Peer::start_at(TcpListener::bind(address).unwrap(), |_| Act::Answer);
    let reading = run.wait_for(Duration::from_secs(10), |_| true).expect("the line comes back");
    assert!(is_true(&reading, 1));
    // The peer starts anew: sockets closed, port free, then there again.
    peer.stop();
    drop(peer);
    std::thread::sleep(Duration::from_millis(300));
    while run.readings.try_recv().is_ok() {}
    let again = Peer::start_at(bind_again(address), |_| Act::Answer);
    assert!(run.wait_for(Duration::from_secs(10), |_| true).is_some());
    assert_eq!(again.connections(), 1);
}

#[test]
fn a_name_that_nobody_knows_is_only_a_line_that_is_down() {
    let lines = [LineOf {
        address: "127.0.0.1:1".parse().unwrap(),
        period_ms: 100,
        timeout_ms: 50,
        units: &[(1, "bays")],
    }];
    let mut unknown = Arc::unwrap_or_clone(site(&lines, ""));
    let endpoint = "no-such-host.invalid:502".to_owned();
    unknown.lines[0].wire = Wire::Tcp { endpoint };
    let run = Run::of(Arc::new(unknown));
    let until = Instant::now() + Duration::from_secs(5);
    while !run.field.attempted() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(run.field.attempted());
    assert_eq!(run.field.status()[0].state, LineState::Down);
}

/// Every reading is of a unit's own registers; the addresses are by unit index.
fn assert_true(readings: &[Reading], addresses: &[u8]) {
    assert!(!readings.is_empty());
    for reading in readings {
        assert!(is_true(reading, addresses[reading.unit.at()]), "{reading:?}");
    }
}

/// A started field and its readings.
struct Run {
    field: Field,
    readings: Receiver<Reading>,
}

impl Run {
    /// One line of this peer with a period of 100 ms and a time-out of 50.
    fn start(peer: &Peer, units: &[(u8, &str)]) -> Run {
        let period_ms = PERIOD.as_millis() as u32;
        let line = LineOf { address: peer.address, period_ms, timeout_ms: 50, units };
        Run::of(site(&[line], ""))
    }

    fn of(site: Arc<Site>) -> Run {
        let (sender, readings) = channel(10_000);
        Run { field: field::start(site, Clock::real(), sender).unwrap(), readings }
    }

    /// Everything read in this time.
    fn collect(&mut self, time: Duration) -> Vec<Reading> {
        std::thread::sleep(time);
        std::iter::from_fn(|| self.readings.try_recv().ok()).collect()
    }

    fn wait_for(&mut self, most: Duration, wanted: impl Fn(&Reading) -> bool) -> Option<Reading> {
        let until = Instant::now() + most;
        while Instant::now() < until {
            match self.readings.try_recv() {
                Ok(reading) if wanted(&reading) => return Some(reading),
                Ok(_) => (),
                Err(TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(5)),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
        None
    }
}
