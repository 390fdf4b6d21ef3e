//! What each outcome leads to: the table of codes, cut blocks, silence without transaction ids.

use super::*;
use crate::field::policy::{OnRead, POLICIES, policy};

#[test]
fn a_storm_of_any_exception_costs_no_connection_and_no_neighbour() {
    for code in 0..=255u8 {
        let mut bus = Bus::new(3, 4);
        // A function cannot capture: the code travels in the number of connections it may cost.
        bus.code = code;
        bus.act = |asked| if asked.unit == 1 { Outcome::Exception(0) } else { DATA };
        bus.run(60_000);
        assert_eq!(bus.connects.len(), 1, "code {code:02x}");
        for unit in [0, 2] {
            assert_eq!(bus.readings[&unit].len(), 60, "code {code:02x}: unit {unit}");
        }
        assert!(!bus.readings.contains_key(&1), "code {code:02x}");
        let tries = bus.log.iter().filter(|job| job.starts_with("read 1 ")).count();
        let status = &bus.agenda.status().units[1];
        assert_eq!(status.exceptions_total[&code], tries as u64, "code {code:02x}");
        assert_eq!((status.timeouts_total, status.bad_answers_total), (0, 0));
        let (state, tried) = match policy(code).read {
            // Two blocks that cannot be cut in use: three times at 0, 30 s and, not yet, 90 s.
            OnRead::Quarantine => (UnitState::Refuses, 4..=4),
            // Four cuts and their pieces a sweep, until each register is left out.
            OnRead::Split => (UnitState::Refuses, 9..=20),
            OnRead::Unknown => (UnitState::Refuses, 120..=120),
            // Three sweeps broken off at the first block; then both are unknown.
            OnRead::Busy => (UnitState::Refuses, 117..=117),
            OnRead::Silent => (UnitState::Open, 3..=10),
        };
        assert_eq!(status.state, state, "code {code:02x}");
        assert!(tried.contains(&tries), "code {code:02x}: {tries} tries");
    }
}

#[test]
fn every_policy_is_used_by_some_code() {
    let has = |read: OnRead| POLICIES.iter().any(|policy| policy.read == read);
    let all = [OnRead::Quarantine, OnRead::Split, OnRead::Unknown, OnRead::Busy, OnRead::Silent];
    assert!(all.into_iter().all(has));
}

#[test]
fn a_missing_register_costs_its_own_points_and_no_others() {
    let mut bus = Bus::with(2, profile(Some(detectors(640, None)), None), 0);
    // Register 21 does not exist in unit 1.
    bus.act =
        |asked| match asked.unit == 1 && (asked.first..asked.first + asked.count).contains(&21) {
            true => Outcome::Exception(2),
            false => DATA,
        };
    bus.run(20_000);
    let known = &bus.last[&1].known;
    let expected: Vec<u64> =
        (0..10).map(|n| if n == 5 { !(u64::from(u16::MAX) << 16) } else { !0 }).collect();
    assert_eq!(known, &expected);
    let status = bus.agenda.status();
    assert_eq!((status.units[1].blocks_cut, status.units[1].left_out), (1, 1));
    assert_eq!(status.units[1].state, UnitState::Refuses);
    assert_eq!(status.units[0].state, UnitState::Ok);
    // Every sweep gave a reading, and what was found is remembered: no refusal since.
    assert_eq!(bus.readings[&1].len(), 20);
    let refusals = status.units[1].exceptions_total[&2];
    assert!(refusals <= 8, "{refusals} refusals");
}

#[test]
fn a_unit_that_came_back_is_read_whole_again() {
    let mut bus = Bus::with(2, profile(Some(detectors(640, None)), None), 0);
    bus.act = |asked| match (asked.unit, asked.now_ms) {
        // It cannot do more than 8 registers at first; its repaired successor can.
        (1, 0..60_000) if asked.count > 8 => Outcome::Exception(3),
        (1, 60_000..90_000) => Outcome::Silent,
        _ => DATA,
    };
    bus.run(60_000);
    assert_eq!(bus.last[&1].known, [!0; 10]);
    assert_eq!(bus.agenda.status().units[1].blocks_cut, 1);
    bus.run(100_000);
    let status = &bus.agenda.status().units[1];
    assert_eq!((status.blocks_cut, status.state), (0, UnitState::Ok));
    assert_eq!(bus.last[&1].known, [!0; 10]);
}

#[test]
fn busy_is_no_news_until_it_lasts() {
    let mut bus = Bus::new(2, 0);
    bus.act = |asked| match (asked.unit, asked.now_ms / 1_000, asked.first) {
        // Two sweeps for a moment; from second 30 on the second block for good.
        (1, 10 | 11, _) | (1, 30.., 100) => Outcome::Exception(6),
        _ => DATA,
    };
    bus.run(25_000);
    // Nothing was said in those two sweeps, so nothing became unknown.
    assert_eq!(bus.readings[&1].len(), 23);
    bus.run(35_000);
    assert_eq!(bus.readings[&1].len(), 55);
    let last = &bus.last[&1];
    assert_eq!((last.known.as_slice(), last.counters.len()), ([!0].as_slice(), 0));
    assert_eq!(bus.connects.len(), 1);
}

#[test]
fn a_busy_write_is_tried_again_soon_and_a_refused_one_later() {
    for (code, soon) in [(5, true), (6, true), (2, false), (4, false)] {
        let mut bus = Bus::new(1, 1);
        bus.code = code;
        bus.act = |asked| match asked.write && asked.now_ms < 300 {
            true => Outcome::Exception(0),
            false => DATA,
        };
        bus.agenda.want(0, &[7]);
        bus.run(2_000);
        let writes: Vec<u64> = bus.writes.clone();
        assert_eq!(bus.agenda.status().units[0].signs_confirmed, 1, "code {code}: {writes:?}");
        let last = *writes.last().unwrap();
        assert_eq!(last < 500, soon, "code {code}: {writes:?}");
        assert!(writes.len() <= 4, "code {code}: {writes:?}");
    }
}

#[test]
fn without_transactions_a_silent_unit_is_left_alone_and_its_neighbours_are_not() {
    let mut bus = Bus::new(8, 4).without_transactions();
    bus.timeout_ms = TIMEOUT_MS;
    // Unit 0 is silent every few requests, and garbled at others: reads and writes of it alike.
    bus.act = |asked| match (asked.unit, asked.now_ms % 7) {
        (0, 0 | 1) => Outcome::Silent,
        (0, 2) => Outcome::Nonsense { why: "checksum".into() },
        _ => DATA,
    };
    for second in 0..600 {
        bus.agenda.want(0, &[second]);
        bus.run(1_000);
    }
    assert_eq!(bus.connects.len(), 1);
    assert!(bus.alone_until_ms > 0 && bus.agenda.status().units[0].timeouts_total > 20);
    for unit in 1..8 {
        assert!(bus.readings[&unit].len() >= 599, "unit {unit}: {}", bus.readings[&unit].len());
    }
}

#[test]
fn without_transactions_a_line_where_nobody_answers_is_opened_anew() {
    let mut bus = Bus::new(3, 0).without_transactions();
    bus.act = |asked| if asked.now_ms < 600_000 { Outcome::Silent } else { DATA };
    bus.run(600_000);
    // A converter that was restarted leaves a socket on which nothing comes any more.
    assert!((5..=60).contains(&bus.connects.len()), "{} connections", bus.connects.len());
    bus.run(100_000);
    for unit in 0..3 {
        assert!(bus.readings[&unit].len() >= 20, "unit {unit}: {}", bus.readings[&unit].len());
    }
}

#[test]
fn a_unit_behind_a_dead_line_is_not_ok() {
    let mut bus = Bus::new(2, 0);
    let states = |bus: &mut Bus| -> Vec<UnitState> {
        bus.agenda.status().units.iter().map(|unit| unit.state).collect()
    };
    assert_eq!(states(&mut bus), [UnitState::Unreached; 2]);
    bus.reachable = |now| !(10_000..40_000).contains(&now);
    bus.act = |asked| match asked.now_ms {
        10_000..40_000 => Outcome::Closed { why: "reset".into() },
        _ => DATA,
    };
    bus.run(9_000);
    assert_eq!(states(&mut bus), [UnitState::Ok; 2]);
    bus.run(20_000);
    assert_eq!(states(&mut bus), [UnitState::Unreached; 2]);
    bus.run(31_000);
    assert_eq!(states(&mut bus), [UnitState::Ok; 2]);
}

#[test]
fn an_order_to_try_again_is_followed_in_the_next_sweep() {
    let mut bus = Bus::new(8, 0);
    // Unit 5 is dead for ten minutes; 6 and 7 are for good, and use up the line's budget.
    bus.act = |asked| match (asked.unit, asked.now_ms) {
        (5, 0..600_000) | (6 | 7, _) => Outcome::Silent,
        _ => DATA,
    };
    bus.run(600_500);
    bus.agenda.retry(5);
    bus.run(1_500);
    assert_eq!(bus.agenda.status().units[5].state, UnitState::Ok);
    let probes = bus.starts[&6].len();
    bus.agenda.retry(6);
    bus.run(1_500);
    assert_eq!(bus.starts[&6].len(), probes + 1);
    assert_eq!(bus.agenda.status().units[6].state, UnitState::Open);
    // A place that the line does not have is nothing.
    bus.agenda.retry(99);
}
