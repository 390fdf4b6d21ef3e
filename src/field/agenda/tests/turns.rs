//! Reads and writes of one unit in turns: what one of them failing means for the other.

use super::*;

/// Signs side by side, so that one write carries many, and two blocks to read.
fn bus(signs: u16) -> Bus {
    let mut profile = profile(Some(detectors(64, None)), Some(counters(100, 1)));
    let format = Format::number(9_999, 10_001, 10_002, 10_000);
    profile.sign = Some(Display {
        base: 1_000,
        stride: 1,
        displays: 256,
        format,
        replies: true,
        one_register: false,
        read_back: false,
        write_max: None,
    });
    Bus::with(2, profile, signs)
}

fn is_write(job: &str) -> bool {
    job.starts_with("write")
}

#[test]
fn a_unit_that_ignores_writes_answers_a_read_before_the_next() {
    for transactions in [true, false] {
        let mut bus = bus(8);
        bus.agenda.transactions = transactions;
        bus.act = |asked| if asked.write { Outcome::Silent } else { DATA };
        (0..8).for_each(|slot| bus.agenda.want(slot, &[7]));
        bus.run(600_000);
        let jobs: Vec<_> = bus.log.iter().filter(|job| *job != "connect").collect();
        for (n, pair) in jobs.windows(2).enumerate() {
            assert!(!(is_write(pair[0]) && is_write(pair[1])), "jobs {n} and on: {pair:?}");
        }
        // Each of eight alone at last, and each ever more rarely.
        let writes = bus.writes.len();
        assert!((20..=220).contains(&writes), "{writes} writes in ten minutes");
        for unit in 0..2 {
            // A silent write costs its unit a slot, and the peace after it at most one more; what
            // follows is a whole sweep.
            let gaps = bus.readings[&unit].windows(2).map(|pair| pair[1] - pair[0]);
            let gap = gaps.max().unwrap();
            assert!(
                gap <= 3 * PERIOD_MS + TIMEOUT_MS,
                "unit {unit}: {gap} ms from one reading to the next"
            );
        }
    }
}

#[test]
fn one_place_that_is_never_answered_keeps_its_neighbours_from_nothing() {
    let mut bus = bus(8);
    bus.act = |asked| match asked.write && (asked.first..asked.first + asked.count).contains(&1_005)
    {
        true => Outcome::Silent,
        false => DATA,
    };
    (0..8).for_each(|slot| bus.agenda.want(slot, &[7]));
    bus.run(60_000);
    let status = bus.agenda.status();
    let confirmed: Vec<bool> = status.signs.iter().map(|sign| sign.confirmed).collect();
    let expected: Vec<bool> = (0..8).map(|n| n != 5).collect();
    assert_eq!(confirmed, expected);
}

#[test]
fn between_two_blocks_too_a_silent_write_leaves_the_unit_alone() {
    let mut bus = bus(1).without_transactions();
    let mut cut = 0;
    for value in 0..50 {
        // One job at a time, until the first of the unit's two blocks was read.
        let begun = bus.starts.get(&0).map_or(0, Vec::len);
        while bus.starts.get(&0).map_or(0, Vec::len) == begun {
            bus.run(1);
        }
        let writes = bus.writes.len();
        bus.act = |asked| if asked.write { Outcome::Silent } else { DATA };
        bus.agenda.want(0, &[value]);
        bus.run(1);
        bus.act = |_| DATA;
        cut += usize::from(bus.writes.len() > writes);
        // The bus holds it to three time-outs of peace.
        bus.run(5_000);
    }
    assert!(cut == 50 && bus.alone_until_ms > 0, "{cut} sweeps had a write between their blocks");
}

#[test]
fn what_comes_before_a_lasting_silence_is_told_and_the_rest_is_unknown() {
    let mut bus = bus(0);
    bus.act = |asked| match (asked.unit, asked.first, asked.now_ms) {
        (0, 100, 10_000..) => Outcome::Silent,
        _ => DATA,
    };
    bus.run(9_900);
    assert_eq!(bus.readings[&0].len(), 10);
    assert_eq!(bus.last[&0].counters.len(), 1);
    // Two sweeps that end in silence say nothing; the third tells what it has.
    bus.run(2_000);
    assert_eq!(bus.readings[&0].len(), 10);
    bus.run(1_000);
    assert_eq!(bus.readings[&0].len(), 11);
    let last = &bus.last[&0];
    assert_eq!((last.known.as_slice(), last.counters.len()), ([!0].as_slice(), 0));
}

#[test]
fn an_order_to_try_again_makes_writes_due_too() {
    let mut bus = bus(1);
    bus.act = |asked| match (asked.write, asked.now_ms) {
        (true, ..600_000) => Outcome::Exception(4),
        _ => DATA,
    };
    bus.agenda.want(0, &[7]);
    bus.run(600_100);
    let writes = bus.writes.len();
    bus.agenda.retry(0);
    bus.run(1_000);
    assert_eq!(bus.writes.len(), writes + 1);
    assert!(bus.agenda.status().signs[0].confirmed);
}
