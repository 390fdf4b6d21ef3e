//! A shared line of 64 units, some of them silent: what the others lose, on virtual time.
//!
//! The same bars are measured on real sockets by `cargo bench --bench shared`.

use super::*;

const UNITS: usize = 64;

/// A line to hold the bars on.
struct Case {
    name: &'static str,
    transactions: bool,
    round_trip_ms: u64,
    timeout_ms: u64,
}

const CASES: [Case; 3] = [
    // 64 controllers behind one TCP gateway: 2 blocks each, 0.64 s of a period of 1 s.
    Case { name: "tcp", transactions: true, round_trip_ms: 5, timeout_ms: 100 },
    // The same, with a time-out that is long beside the room in the period.
    Case { name: "tcp, slow to give up", transactions: true, round_trip_ms: 5, timeout_ms: 300 },
    // No room at all: as fast as it goes, so every time-out is felt.
    Case { name: "bus", transactions: false, round_trip_ms: 7, timeout_ms: 100 },
];

#[test]
fn silent_units_cost_the_others_next_to_nothing() {
    for case in &CASES {
        let none = measure(case, |_| DATA);
        let one = measure(case, |asked| if asked.unit == 20 { Outcome::Silent } else { DATA });
        let many = measure(case, |asked| if asked.unit % 4 == 1 { Outcome::Silent } else { DATA });
        for (silent, percent, with) in [(1, 5, &one), (16, 10, &many)] {
            let name = case.name;
            let growth = |with: u64, without: u64| 100 * with <= (100 + percent) * without;
            println!(
                "{name}, {silent} silent: mean {} us, was {}; p99 {} ms, was {}; at first {} ms",
                with.mean_us, none.mean_us, with.p99_ms, none.p99_ms, with.first_ms
            );
            assert!(growth(with.mean_us, none.mean_us), "{name}, {silent} silent: mean");
            assert!(growth(with.p99_ms, none.p99_ms), "{name}, {silent} silent: p99");
            // Until all silent units are known: their time-outs, as far as each period has room.
            let room_ms = PERIOD_MS - 900;
            let found_ms = silent * case.timeout_ms * PERIOD_MS / room_ms + 2 * PERIOD_MS;
            assert!(with.first_ms <= found_ms, "{name}: {} ms at first", with.first_ms);
            assert!(with.wasted_ms <= HOUR_MS / 50, "{name}: {} ms wasted", with.wasted_ms);
        }
    }
}

/// What healthy units saw.
struct Seen {
    mean_us: u64,
    p99_ms: u64,
    /// The longest interval in the first two minutes, the time to the first reading included.
    first_ms: u64,
    /// What time-outs took of the hour that was measured.
    wasted_ms: u64,
}

fn measure(case: &Case, act: Act) -> Seen {
    let warm_up_ms = 120_000;
    let mut bus = Bus::new(UNITS, 0);
    bus.agenda.transactions = case.transactions;
    bus.round_trip_ms = case.round_trip_ms;
    bus.set_timeout(case.timeout_ms);
    bus.act = act;
    bus.run(warm_up_ms);
    let wasted_ms = bus.wasted_ms;
    bus.run(HOUR_MS);
    let healthy = (0..UNITS).filter(|unit| bus.readings.contains_key(unit));
    let (mut steady, mut first_ms) = (Vec::new(), 0);
    for unit in healthy {
        let times = &bus.readings[&unit];
        first_ms = first_ms.max(times[0]);
        for pair in times.windows(2) {
            if pair[1] < warm_up_ms {
                first_ms = first_ms.max(pair[1] - pair[0]);
            } else if pair[0] >= warm_up_ms {
                steady.push(pair[1] - pair[0]);
            }
        }
    }
    steady.sort_unstable();
    Seen {
        mean_us: steady.iter().sum::<u64>() * 1_000 / steady.len() as u64,
        p99_ms: steady[steady.len() * 99 / 100],
        first_ms,
        wasted_ms: bus.wasted_ms - wasted_ms,
    }
}
