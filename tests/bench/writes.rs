//! How long an order for a sign takes to its register, while 21,000 bays are polled.
//!
//! `cargo bench --bench writes -- [ORDERS] [PERIOD_MS]` polls 34 controllers of 630 bays and gives
//! a sign a new number every few milliseconds: one on a line of its own, one on a line that also
//! polls 630 bays. It fails where the 99th percentile of either is 50 ms or more, where a sweep
//! lost its slot, or where an order did not arrive though nothing newer was ordered.

#[path = "../peer/mod.rs"]
mod peer;

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use parkway::field;
use parkway::site::{Face, SignIx};
use parkway::time::Clock;
use peer::{Act, LineOf, Peer};

const LINES: usize = 34;
const BAR: Duration = Duration::from_millis(50);

const SIGNS: &str = r#"
[[sign]]
id = "alone"
kind = "count"
unit = "u34-1"
index = 0
fallback = "blank"
shows = ["g01"]
[[sign]]
id = "shared"
kind = "count"
unit = "u0-2"
index = 0
fallback = "blank"
shows = ["g01"]
"#;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |at: usize, default: u32| args.get(at).map_or(default, |arg| arg.parse().unwrap());
    let (orders, period_ms) = (number(0, 1_000), number(1, 1_000));
    let (sender, arrived) = channel();
    let peers: Vec<Peer> = (0..=LINES)
        .map(|line| {
            let sender = sender.clone();
            Peer::start(move |seen| {
                if seen.function == 6 {
                    let _ = sender.send((line == LINES, seen.words[0], seen.at));
                }
                Act::Answer
            })
        })
        .collect();
    let lines: Vec<LineOf<'_>> = (0..=LINES)
        .map(|line| LineOf {
            address: peers[line].address,
            period_ms,
            timeout_ms: 300,
            units: match line {
                0 => &[(1, "plain"), (2, "panel")],
                LINES => &[(1, "panel")],
                _ => &[(1, "plain")],
            },
        })
        .collect();
    let site = peer::site(&lines, SIGNS);
    let (readings_out, mut readings) = tokio::sync::mpsc::channel(10_000);
    let field = field::start(site, Clock::real(), readings_out).unwrap();
    // Two sweeps of every line first.
    std::thread::sleep(Duration::from_millis(u64::from(2 * period_ms + 200)));
    let (mut alone, mut shared) = (Vec::new(), Vec::new());
    for n in 0..orders {
        let (sign, times) = if n % 2 == 0 { (0, &mut alone) } else { (1, &mut shared) };
        let value = 1 + n % 9_000;
        let before = Instant::now();
        field.write(SignIx(sign), Face::Number(value));
        times.push(arrival(&arrived, sign == 0, value as u16) - before);
        // Not in step with any sweep.
        std::thread::sleep(Duration::from_micros(u64::from(3_000 + (n * 7_919) % 11_000)));
    }
    let status = field.status();
    field.flush_and_stop(Duration::from_secs(1));
    let missed: u64 = status.iter().map(|line| line.missed_slots_total).sum();
    let polls: u64 = status.iter().flat_map(|line| &line.units).map(|unit| unit.polls_total).sum();
    let mut count = 0;
    while readings.try_recv().is_ok() {
        count += 1;
    }
    println!(
        "{} bays at {period_ms} ms: {polls} polls, {count} readings, {missed} slots missed",
        LINES * 630
    );
    let good = report("on a line of its own", &mut alone) & report("on a polled line", &mut shared);
    assert!(good, "a 99th percentile is not below {BAR:?}");
    assert!(missed == 0, "{missed} sweeps lost their slot");
}

/// When this value reached its device; older ones that come in between do not count.
fn arrival(arrived: &Receiver<(bool, u16, Instant)>, alone: bool, value: u16) -> Instant {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let (where_, what, at) = arrived.recv_timeout(left).expect("an order arrives in 5 s");
        if (where_, what) == (alone, value) {
            return at;
        }
    }
}

fn report(what: &str, times: &mut [Duration]) -> bool {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!(
        "{what}: {} orders, median {:?}, p99 {:?}, longest {:?}",
        times.len(),
        at(50),
        at(99),
        at(100)
    );
    at(99) < BAR
}
