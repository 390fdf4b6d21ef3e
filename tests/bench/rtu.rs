//! How much of a bus the owner of its line wastes, as the units see it.
//!
//! `cargo bench --bench rtu -- [SECONDS]` puts 60 units on one line at 9,600 baud, on a
//! pseudo-terminal at true speed, and takes the time from an answer's last byte to the next
//! request's first, less the 3.5 characters that the standard demands. The median may be 0.5 ms:
//! an exchange of 4 registers takes 28 ms, so that more would cost every sweep. Exits 1 above it.

#[path = "../peer/mod.rs"]
mod peer;

use std::process::ExitCode;
use std::time::Duration;

use parkway::field;
use parkway::time::Clock;
use peer::bus::{Bus, Way, framing, honest, says};
use tokio::sync::mpsc::channel;

const UNITS: u8 = 60;
const BAUD: u32 = 9_600;
const PERIOD_MS: u32 = 2_500;
/// The bar on the median.
const WASTE_MAX: Duration = Duration::from_micros(500);
/// A longer silence lies between two sweeps.
const SWEEP_GAP_MIN: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let seconds = std::env::args().skip(1).find(|arg| arg != "--bench");
    let seconds = seconds.map_or(15, |arg| arg.parse().unwrap());
    let bus = Bus::start(Way::Pty, BAUD, |seen| says(honest(seen)));
    let units: Vec<(u8, &str)> = (1..=UNITS).map(|unit| (unit, "few")).collect();
    let site = peer::site_of(&[(bus.keys(PERIOD_MS, 100), &units)], "");
    let (sender, mut readings) = channel(10_000);
    let field = field::start(site, Clock::real(), sender).unwrap();
    std::thread::sleep(Duration::from_secs(seconds));
    let line = field.status().remove(0);
    field.flush_and_stop(Duration::from_secs(1));
    let mut count = 0;
    while readings.try_recv().is_ok() {
        count += 1;
    }
    let silence = framing(BAUD).silence();
    let quiet = bus.asked().into_iter().filter_map(|asked| asked.quiet);
    let within: Vec<Duration> = quiet.filter(|quiet| *quiet < SWEEP_GAP_MIN).collect();
    let early = within.iter().filter(|quiet| **quiet < silence).count();
    let mut waste: Vec<Duration> =
        within.iter().map(|quiet| quiet.saturating_sub(silence)).collect();
    waste.sort();
    let at = |percent: usize| waste[(waste.len() - 1) * percent / 100];
    println!(
        "{UNITS} units at {BAUD} baud: {} sweeps, {count} readings, {} slots missed",
        line.sweeps_total, line.missed_slots_total
    );
    println!(
        "wasted between answer and request: p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms of {} gaps; \
         {early} came too early",
        ms(at(50)),
        ms(at(99)),
        ms(at(100)),
        waste.len()
    );
    let fine = at(50) <= WASTE_MAX && early == 0 && line.missed_slots_total == 0;
    ExitCode::from(u8::from(!fine))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
