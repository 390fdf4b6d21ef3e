//! RTU lines against a bus at true speed whose units are late, wrong, mute or unplugged.
//!
//! The claim is that of `field_liars.rs`, where it is harder to keep: an RTU answer does not say
//! what it answers. Whatever a bus carries, no reading says what the unit's registers do not hold.

mod peer;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parkway::field::{self, Field, LineState, UnitState};
use parkway::gateway::Reading;
use parkway::site::{Face, SignIx, Site};
use parkway::time::Clock;
use peer::bus::{Bus, Said, THINKS, Way, framed, framing, honest, says};
use peer::{Seen, answer, is_true, site_of};
use tokio::sync::mpsc::{Receiver, channel};

const LIE: u8 = 2;
/// Below the silence that every speed of these tests demands.
const SHORT: Duration = Duration::from_millis(1);
const TIMEOUT_MS: u32 = 60;
const TIMEOUT: Duration = Duration::from_millis(TIMEOUT_MS as u64);

#[test]
fn an_honest_bus_is_read_in_full_and_its_silences_are_kept() {
    let cases =
        [(Way::Pty, 9_600), (Way::Pty, 19_200), (Way::Pty, 115_200), (Way::Converter, 9_600)];
    side_by_side(cases.map(|(way, baud)| {
        move || {
            let bus = Bus::start(way, baud, |seen| says(honest(seen)));
            let mut run = Run::start(&bus, 200, &[(1, "few"), (2, "few"), (247, "few")]);
            let readings = run.collect(Duration::from_secs(2));
            for (unit, address) in [(0, 1), (1, 2), (2, 247)] {
                let ours: Vec<_> = readings.iter().filter(|r| r.unit.at() == unit).collect();
                assert!(ours.len() >= 8, "{way:?} {baud}: {} readings", ours.len());
                assert!(ours.iter().all(|r| is_true(r, address) && r.known == [u64::MAX]));
            }
            let asked = bus.asked();
            let shortest = asked.iter().filter_map(|asked| asked.quiet).min().unwrap();
            println!("{way:?} {baud}: {} requests, shortest silence {shortest:?}", asked.len());
            assert!(shortest >= framing(baud).silence(), "{way:?} {baud}: {shortest:?}");
            assert_eq!(bus.faults(), Vec::<String>::new());
            let line = &run.field.status()[0];
            assert_eq!((line.state, line.reconnects_total), (LineState::Up, 0));
            assert!(line.units.iter().all(|unit| unit.state == UnitState::Ok));
        }
    }));
}

#[test]
fn a_unit_that_needs_a_longer_silence_gets_it_on_both_sides() {
    let bus = Bus::start(Way::Pty, 19_200, |seen| says(honest(seen)));
    let units: &[(u8, &str)] = &[(1, "few"), (2, "few"), (3, "few")];
    let mut site = Arc::unwrap_or_clone(site_of(&[(bus.keys(200, TIMEOUT_MS), units)], ""));
    site.units[1].gap_ms = 15;
    let mut run = Run::of(Arc::new(site));
    run.collect(Duration::from_secs(1));
    let asked = bus.asked();
    let shortest = |unit: u8| {
        let ours = asked.iter().filter(|asked| asked.seen.unit == unit);
        ours.filter_map(|asked| asked.quiet).min().unwrap()
    };
    assert!(shortest(2) >= Duration::from_millis(15), "{:?}", shortest(2));
    assert!(shortest(3) >= Duration::from_millis(15), "{:?}", shortest(3));
}

/// What unit 2 says instead, by name, and whether the truth is in it.
type Lie = (&'static str, bool, fn(&Seen) -> Said);

const LIES: [Lie; 18] = [
    ("silent", false, |_| vec![]),
    ("half a time-out late", true, |seen| vec![(TIMEOUT / 2, honest(seen))]),
    ("1.5 time-outs late", false, |seen| vec![(TIMEOUT * 3 / 2, honest(seen))]),
    ("2.5 time-outs late", false, |seen| vec![(TIMEOUT * 5 / 2, honest(seen))]),
    ("said twice", true, |seen| vec![(THINKS, honest(seen)), (SHORT, honest(seen))]),
    ("said three times, run together", true, |seen| says(honest(seen).repeat(3))),
    ("cut in the middle", false, |seen| says(honest(seen)[..6].to_vec())),
    ("another unit's answer", false, |seen| says(honest(&Seen { unit: 3, ..seen.clone() }))),
    ("another's, then its own", true, |seen| {
        [honest(&Seen { unit: 3, ..seen.clone() }), honest(seen)].map(|said| (THINKS, said)).into()
    }),
    ("fewer registers", false, |seen| {
        says(honest(&Seen { count: seen.count - 1, ..seen.clone() }))
    }),
    ("more registers", false, |seen| says(honest(&Seen { count: seen.count + 3, ..seen.clone() }))),
    ("another function", false, |seen| says(honest(&Seen { function: 4, ..seen.clone() }))),
    ("a bad checksum", false, |seen| {
        let mut said = honest(seen);
        said[5] ^= 0x10;
        says(said)
    }),
    ("noise before it", true, |seen| says([&[0, 3, 2, 255, 16][..], &honest(seen)].concat())),
    ("noise after it", true, |seen| says([&honest(seen)[..], &[2, 3, 8, 0, 1, 2]].concat())),
    ("its own beginning before it", true, |seen| {
        says([&honest(seen)[..7], &honest(seen)].concat())
    }),
    ("the request's echo before it", true, |seen| {
        let request = [&[seen.unit, seen.function][..], &seen.first.to_be_bytes()].concat();
        let request = framed(&[&request[..], &seen.count.to_be_bytes()].concat());
        says([request, honest(seen)].concat())
    }),
    ("a frame of the other protocol", false, |seen| says(answer(seen))),
];

#[test]
fn a_lying_unit_says_nothing_untrue_and_its_neighbours_are_read() {
    side_by_side(LIES.map(|(name, truth, lie)| move || lie_to(Way::Pty, 19_200, name, truth, lie)));
}

#[test]
fn a_lying_unit_behind_a_converter_says_nothing_untrue() {
    side_by_side(
        LIES.map(|(name, truth, lie)| move || lie_to(Way::Converter, 19_200, name, truth, lie)),
    );
}

fn lie_to(way: Way, baud: u32, name: &str, truth: bool, lie: fn(&Seen) -> Said) {
    let bus = Bus::start(
        way,
        baud,
        move |seen| {
            if seen.unit == LIE { lie(seen) } else { says(honest(seen)) }
        },
    );
    let mut run = Run::start(&bus, 250, &[(1, "few"), (LIE, "few"), (3, "few")]);
    let readings = run.collect(Duration::from_secs(3));
    assert_true(name, &readings, &[1, LIE, 3]);
    let of = |unit: usize| readings.iter().filter(|r| r.unit.at() == unit).count();
    println!("{way:?}, {name}: {} / {} / {} readings", of(0), of(1), of(2));
    assert_eq!(of(1) > 0, truth, "{name}: {} readings of the liar", of(1));
    for unit in [0, 2] {
        assert!(of(unit) >= 8, "{name}: unit {unit} gave {} readings in 12 periods", of(unit));
    }
    let state = run.field.status()[0].units[1].state;
    assert_eq!(state, if truth { UnitState::Ok } else { UnitState::Open }, "{name}");
}

#[test]
fn a_late_answer_lands_in_no_other_block() {
    // Every fourth or fifth answer comes one to three time-outs late. Two things keep it from the
    // next request: blocks of one unit differ in length, and a unit that was silent is left alone.
    side_by_side([(Way::Pty, 5), (Way::Pty, 4), (Way::Converter, 5), (Way::Converter, 4)].map(
        |(way, every)| {
            move || {
                let bus = Bus::start(way, 38_400, move |seen| {
                    let late = TIMEOUT + TIMEOUT * (seen.number as u32 / every * 7 % 20) / 10;
                    match seen.number as u32 % every {
                        0 => vec![(late, honest(seen))],
                        // Slow enough for a late answer to come whole before it.
                        _ => vec![(TIMEOUT / 2, honest(seen))],
                    }
                });
                let mut run = Run::start(&bus, 50, &[(1, "bays")]);
                let readings = run.collect(Duration::from_secs(8));
                assert_true("late", &readings, &[1]);
                let status = run.field.status().remove(0);
                println!("{way:?}: {} readings, {status:?}", readings.len());
                assert!(status.units[0].timeouts_total > 3, "{status:?}");
            }
        },
    ));
}

#[test]
fn a_bus_that_is_never_silent_is_waited_for_and_then_given_up() {
    // Once asked, unit 2 babbles for two seconds.
    let bus = Bus::start(Way::Pty, 19_200, |seen| match (seen.unit, seen.number) {
        (LIE, 1) => says((0..4_000).map(|n: u32| (n * 7) as u8).collect()),
        _ => says(honest(seen)),
    });
    let mut run = Run::start(&bus, 250, &[(1, "few"), (LIE, "few"), (3, "few")]);
    // Long enough for a unit's second back-off, where a probe of it fell into the babble.
    let readings = run.collect(Duration::from_secs(9));
    assert_true("babble", &readings, &[1, LIE, 3]);
    let after: Vec<_> = readings.iter().rev().take(6).map(|r| r.unit.at()).collect();
    assert!([0, 1, 2].iter().all(|unit| after.contains(unit)), "{after:?}");
    let asked = bus.asked();
    let babbling: Vec<_> =
        asked.iter().filter(|a| a.quiet < Some(framing(19_200).silence())).collect();
    assert!(babbling.iter().all(|asked| asked.quiet.is_none()), "{babbling:?}");
}

#[test]
fn a_refusal_is_an_answer() {
    let bus = Bus::start(Way::Pty, 19_200, |seen| match seen.unit {
        LIE => says(framed(&[LIE, seen.function | 0x80, 4])),
        _ => says(honest(seen)),
    });
    let mut run = Run::start(&bus, 200, &[(1, "few"), (LIE, "few")]);
    let readings = run.collect(Duration::from_secs(1));
    assert_true("refusal", &readings, &[1, LIE]);
    let line = &run.field.status()[0];
    assert!(line.units[1].exceptions_total[&4] >= 4, "{line:?}");
    assert_eq!((line.units[1].state, line.reconnects_total), (UnitState::Refuses, 0));
}

#[test]
fn a_sign_write_wakes_an_idle_bus_at_once() {
    let bus = Bus::start(Way::Pty, 19_200, |seen| says(honest(seen)));
    let run = Run::of(site_of(&[(bus.keys(4_000, TIMEOUT_MS), &[(1, "panel")])], &signs(1)));
    run.settle();
    let mut waits: Vec<Duration> = Vec::new();
    for n in 1..=20 {
        thread::sleep(Duration::from_millis(40));
        let put = Instant::now();
        run.field.write(SignIx(0), Face::Number(n));
        let at = wait_for(|| bus.asked().into_iter().find(|asked| asked.seen.words == [n as u16]));
        waits.push(at.expect("it is written").seen.at.saturating_duration_since(put));
    }
    waits.sort();
    println!("from a write to its first byte: median {:?}, worst {:?}", waits[10], waits[19]);
    assert!(waits[10] < Duration::from_millis(5), "{waits:?}");
}

#[test]
fn a_write_that_gets_no_answer_is_followed_by_the_turnaround() {
    let bus = Bus::start(Way::Pty, 19_200, |seen| match seen.function {
        6 | 16 => vec![],
        _ => says(honest(seen)),
    });
    let units: &[(u8, &str)] = &[(1, "mute"), (2, "few")];
    let keys = bus.keys(50, TIMEOUT_MS) + "turnaround_ms = 120\n";
    let run = Run::of(site_of(&[(keys, units)], &signs(1)));
    for n in 1..=5 {
        run.field.write(SignIx(0), Face::Number(n));
        thread::sleep(Duration::from_millis(200));
    }
    let asked = bus.asked();
    let pairs = asked.windows(2).filter(|pair| pair[0].seen.unit == 1);
    let after: Vec<Duration> = pairs.map(|pair| pair[1].seen.at - pair[0].seen.at).collect();
    assert!(after.len() >= 4, "{after:?}");
    assert!(after.iter().all(|wait| *wait >= Duration::from_millis(120)), "{after:?}");
    assert_eq!(run.field.status()[0].units[0].state, UnitState::Ok);
}

#[test]
fn the_last_faces_are_written_before_a_stop() {
    let bus = Bus::start(Way::Pty, 19_200, |seen| says(honest(seen)));
    let run =
        Run::of(site_of(&[(bus.keys(4_000, TIMEOUT_MS), &[(1, "panel"), (2, "few")])], &signs(4)));
    run.settle();
    for sign in 0..4 {
        run.field.write(SignIx(sign), Face::Number(70 + sign));
    }
    let begun = Instant::now();
    run.field.flush_and_stop(Duration::from_secs(2));
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    let status = &run.field.status()[0].units[0];
    assert_eq!((status.signs_desired, status.signs_confirmed), (4, 4));
    let asked = bus.asked().len();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(bus.asked().len(), asked, "a stopped line asks");
}

#[test]
fn a_dropped_field_lets_go_of_its_port() {
    let bus = Bus::start(Way::Pty, 19_200, |seen| says(honest(seen)));
    let first = Run::start(&bus, 100, &[(1, "few")]);
    first.settle();
    // Another gateway on the same port is kept out while the first one runs.
    let mut second = Run::start(&bus, 100, &[(1, "few")]);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(second.field.status()[0].state, LineState::Down);
    drop(first);
    assert!(wait_for(|| second.readings.try_recv().ok()).is_some(), "the port is still held");
}

#[test]
fn an_unplugged_adapter_is_down_and_comes_back() {
    for way in [Way::Pty, Way::Converter] {
        let bus = Bus::start(way, 19_200, |seen| says(honest(seen)));
        let mut run = Run::start(&bus, 100, &[(1, "few")]);
        assert!(!run.collect(Duration::from_millis(600)).is_empty());
        bus.unplug();
        if way == Way::Pty {
            std::fs::remove_file(bus.path()).unwrap();
        }
        run.collect(Duration::from_millis(1_000));
        let line = run.field.status().remove(0);
        assert_eq!(line.state, LineState::Down, "{way:?}");
        assert!((1..=6).contains(&line.connect_failures_total), "{way:?}: {line:?}");
        bus.plug();
        let back = Instant::now();
        let reading = wait_for(|| run.readings.try_recv().ok());
        assert!(is_true(&reading.expect("it comes back"), 1));
        println!("{way:?}: back after {:?}", back.elapsed());
    }
}

// ---- helpers ----

/// Runs all of them at once: a bus is slow, not busy.
fn side_by_side<const N: usize>(tests: [impl FnOnce() + Send; N]) {
    thread::scope(|scope| {
        let running = tests.map(|test| scope.spawn(test));
        for test in running {
            if let Err(panic) = test.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// Signs on the first displays of unit 1 of line 0.
fn signs(count: usize) -> String {
    let sign = |n: usize| {
        format!(
            "[[sign]]\nid = \"s{n}\"\nkind = \"count\"\nunit = \"u0-1\"\nindex = {n}\n\
             fallback = \"blank\"\nshows = [\"g01\"]\n"
        )
    };
    (0..count).map(sign).collect()
}

fn assert_true(what: &str, readings: &[Reading], addresses: &[u8]) {
    for reading in readings {
        assert!(is_true(reading, addresses[reading.unit.at()]), "{what}: {reading:?}");
    }
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        if let Some(found) = look() {
            return Some(found);
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}

struct Run {
    field: Field,
    readings: Receiver<Reading>,
}

impl Run {
    fn start(bus: &Bus, period_ms: u32, units: &[(u8, &str)]) -> Run {
        Run::of(site_of(&[(bus.keys(period_ms, TIMEOUT_MS), units)], ""))
    }

    fn of(site: Arc<Site>) -> Run {
        let (sender, readings) = channel(10_000);
        Run { field: field::start(site, Clock::real(), sender).unwrap(), readings }
    }

    fn settle(&self) {
        assert!(wait_for(|| self.field.attempted().then_some(())).is_some());
        thread::sleep(Duration::from_millis(100));
    }

    fn collect(&mut self, time: Duration) -> Vec<Reading> {
        thread::sleep(time);
        std::iter::from_fn(|| self.readings.try_recv().ok()).collect()
    }
}
