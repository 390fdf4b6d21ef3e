//! What silent units cost the others on a shared line, on real sockets and a bus at true speed.
//!
//! `cargo bench --bench shared -- [--full]` polls lines of 64 units, all at once and so under one
//! load: a Modbus TCP gateway (a sweep takes some 0.6 s of a period of 1 s) and an RTU bus at 9,600
//! baud on a pseudo-terminal (1.9 s of 2.5 s), each with no unit silent, with 1 and with 16. The
//! intervals between a healthy unit's readings may grow by 5 % beside 1 silent unit and by 10 %
//! beside 16, in the mean and at p99, compared with the line where all answer. Exits 1 above that.
//! What came before all silent units were known is told, and not judged.

#[path = "../peer/mod.rs"]
mod peer;

use std::process::ExitCode;
use std::time::Duration;

use parkway::field::{self, LineStatus};
use parkway::time::{Clock, Mono};
use peer::bus::{Bus, Way, honest, says};
use peer::{Act, Peer, Seen};
use tokio::sync::mpsc::channel;

const UNITS: u8 = 64;
const TIMEOUT_MS: u32 = 100;
/// What the TCP gateway's bus takes for an answer.
const THINKS: Duration = Duration::from_millis(9);
const BAUD: u32 = 9_600;
/// Until every silent unit is known: three failures of each, one in a sweep after the first ones.
const WARM_UP: Duration = Duration::from_secs(110);

/// Silent units, which they are, and the growth allowed in percent.
type Case = (usize, fn(u8) -> bool, f64);

const CASES: [Case; 3] =
    [(0, |_| false, 0.0), (1, |unit| unit == 20, 5.0), (16, |unit| unit % 4 == 1, 10.0)];

fn main() -> ExitCode {
    let full = std::env::args().any(|arg| arg == "--full");
    let steady = Duration::from_secs(if full { 900 } else { 90 });
    let peers = CASES.map(|(_, silent, _)| Peer::start(move |seen| over_tcp(seen, silent)));
    let buses = CASES.map(|(_, silent, _)| {
        Bus::start(Way::Pty, BAUD, move |seen| match silent(seen.unit) {
            true => Vec::new(),
            false => says(honest(seen)),
        })
    });
    let units: Vec<(u8, &str)> = (1..=UNITS).map(|unit| (unit, "few")).collect();
    let tcp = peers.iter().map(|peer| {
        format!("tcp = \"{}\"\nperiod_ms = 1000\ntimeout_ms = {TIMEOUT_MS}\n", peer.address)
    });
    let rtu = buses.iter().map(|bus| bus.keys(2_500, TIMEOUT_MS));
    let lines: Vec<_> = tcp.chain(rtu).map(|keys| (keys, units.as_slice())).collect();
    let (sender, mut readings) = channel(200_000);
    let clock = Clock::real();
    let began = clock.now().mono;
    let field = field::start(peer::site_of(&lines, ""), clock, sender).unwrap();
    std::thread::sleep(WARM_UP);
    let (warm, before) = (clock.now().mono, field.status());
    std::thread::sleep(steady);
    let after = field.status();
    field.flush_and_stop(Duration::from_secs(2));
    let mut times = vec![Vec::new(); lines.len() * usize::from(UNITS)];
    while let Ok(reading) = readings.try_recv() {
        times[reading.unit.at()].push(reading.at);
    }
    let mut fine = true;
    println!("line  silent  mean ms  grows  p99 ms  grows  max ms  at first ms  time-outs  missed");
    for (kind, name) in ["tcp", "rtu"].into_iter().enumerate() {
        let mut reference = None;
        for (case, (silent, _, percent)) in CASES.iter().enumerate() {
            let line = kind * CASES.len() + case;
            let ours = &times[line * usize::from(UNITS)..][..usize::from(UNITS)];
            let seen = look(ours, began, warm);
            let (mean, p99) = *reference.get_or_insert((seen.mean, seen.p99));
            let grows = [100.0 * (seen.mean / mean - 1.0), 100.0 * (seen.p99 / p99 - 1.0)];
            let share = wasted(&before[line], &after[line], steady);
            let missed = after[line].missed_slots_total - before[line].missed_slots_total;
            println!(
                "{name:4}  {silent:6}  {:7.1}  {:4.1}%  {:6.1}  {:4.1}%  {:6.1}  {:11.0}  \
                 {share:7.2} %  {missed}",
                seen.mean, grows[0], seen.p99, grows[1], seen.max, seen.first
            );
            fine &= seen.units == usize::from(UNITS) - silent;
            fine &= *silent == 0 || grows.iter().all(|grows| grows <= percent);
        }
    }
    let verdict = if fine { "ok" } else { "MISSED" };
    println!("bars: at most 5 % beside 1 silent unit, 10 % beside 16: {verdict}");
    ExitCode::from(u8::from(!fine))
}

fn over_tcp(seen: &Seen, silent: fn(u8) -> bool) -> Act {
    if silent(seen.unit) { Act::Silence } else { Act::Late(THINKS) }
}

/// Intervals of healthy units, in milliseconds.
struct Intervals {
    units: usize,
    mean: f64,
    p99: f64,
    max: f64,
    /// The longest before all silent units were known, the wait for the first reading included.
    first: f64,
}

fn look(units: &[Vec<Mono>], began: Mono, warm: Mono) -> Intervals {
    let (mut steady, mut first) = (Vec::new(), 0.0_f64);
    let healthy = units.iter().filter(|times| !times.is_empty());
    for times in healthy.clone() {
        first = first.max(ms(times[0].since(began)));
        for pair in times.windows(2) {
            let interval = ms(pair[1].since(pair[0]));
            if pair[0] >= warm {
                steady.push(interval);
            } else {
                first = first.max(interval);
            }
        }
    }
    steady.sort_by(f64::total_cmp);
    let at = |share: f64| steady[((steady.len() - 1) as f64 * share) as usize];
    let mean = steady.iter().sum::<f64>() / steady.len() as f64;
    Intervals { units: healthy.count(), mean, p99: at(0.99), max: at(1.0), first }
}

/// What time-outs took of the line's time, in percent.
fn wasted(before: &LineStatus, after: &LineStatus, steady: Duration) -> f64 {
    let all = |line: &LineStatus| line.units.iter().map(|unit| unit.timeouts_total).sum::<u64>();
    let took = f64::from(TIMEOUT_MS) * (all(after) - all(before)) as f64;
    100.0 * took / ms(steady)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
