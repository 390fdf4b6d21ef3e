//! What polling costs: the field alone, with its devices in another process.
//!
//! `cargo bench --bench field -- [LINES] [SECONDS]` starts that many controllers of 630 bays (40
//! registers each, one read a second), polls them, and prints CPU time, memory and punctuality;
//! `poll_loop.c` beside it is what to compare with, on the printed endpoints, while it runs.

#[path = "../peer/mod.rs"]
mod peer;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use parkway::field;
use parkway::time::Clock;
use peer::{Act, LineOf, Peer};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc::channel;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |at: usize, default: u64| args.get(at).map_or(default, |arg| arg.parse().unwrap());
    if args.first().is_some_and(|arg| arg == "serve") {
        return serve(number(1, 34));
    }
    let (lines, seconds) = (number(0, 34), number(1, 10));
    let mut devices = Command::new(std::env::current_exe().unwrap())
        .args(["serve", &lines.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut endpoints = String::new();
    BufReader::new(devices.stdout.take().unwrap()).read_line(&mut endpoints).unwrap();
    println!("devices: {}", endpoints.trim());
    measure(&endpoints, seconds);
    drop(devices.stdin.take());
    devices.wait().unwrap();
}

/// Serves until its standard input ends.
fn serve(lines: u64) {
    let peers: Vec<Peer> = (0..lines).map(|_| Peer::start(|_| Act::Answer)).collect();
    let endpoints: Vec<String> = peers.iter().map(|peer| peer.address.to_string()).collect();
    println!("{}", endpoints.join(" "));
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn measure(endpoints: &str, seconds: u64) {
    let lines: Vec<LineOf<'_>> = endpoints
        .split_whitespace()
        .map(|endpoint| LineOf {
            address: endpoint.parse().unwrap(),
            period_ms: 1_000,
            timeout_ms: 300,
            units: &[(1, "plain")],
        })
        .collect();
    let site = peer::site(&lines, "");
    let (sender, mut readings) = channel(10_000);
    let before = cpu();
    let field = field::start(site, Clock::real(), sender).unwrap();
    std::thread::sleep(Duration::from_secs(seconds));
    let spent = cpu() - before;
    let status = field.status();
    field.flush_and_stop(Duration::from_secs(1));
    let mut last = vec![None; lines.len()];
    let (mut count, mut worst_ms) = (0u64, 0);
    while let Ok(reading) = readings.try_recv() {
        count += 1;
        if let Some(before) = last[reading.unit.at()].replace(reading.at) {
            worst_ms = worst_ms.max(reading.at.ms_since(before));
        }
    }
    let polls: u64 = status.iter().flat_map(|line| &line.units).map(|unit| unit.polls_total).sum();
    let missed: u64 = status.iter().map(|line| line.missed_slots_total).sum();
    println!("polls {polls} readings {count} missed {missed} longest gap {worst_ms} ms");
    println!(
        "cpu_s {:.4} ({:.1} us a poll)",
        spent.as_secs_f64(),
        spent.as_secs_f64() * 1e6 / polls as f64
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    println!("{}", line.split_whitespace().collect::<Vec<_>>().join(" "));
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
