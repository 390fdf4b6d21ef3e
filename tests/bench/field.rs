//! What polling costs: the field alone, beside a bare libmodbus loop that makes the same requests.
//!
//! `cargo bench --bench field [-- --full] [LINES] [SECONDS]` polls that many controllers of 256
//! bays (one request of 36 registers each) at a period of 1 s and of 100 ms, and prints a table; a
//! bar that is missed makes it fail. The devices are `devices.c` and the reference is `poll_loop.c`,
//! both built here with `cc` and processes of their own. The loop runs at the same time, so that
//! whatever else the machine does weighs on both.

#[path = "../peer/mod.rs"]
mod peer;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use parkway::field;
use parkway::time::Clock;
use peer::LineOf;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc::channel;

const REGISTERS: u32 = 36;
/// The bar: the field's CPU time over the loop's.
const TIMES_MAX: f64 = 1.5;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let full = args.iter().any(|arg| arg == "--full");
    let numbers: Vec<u64> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let lines = numbers.first().copied().unwrap_or(64);
    let seconds = numbers.get(1).copied().unwrap_or(if full { 300 } else { 20 });
    let folder = tempfile::tempdir().unwrap();
    let (devices, poll_loop) = (build(folder.path(), "devices"), build(folder.path(), "poll_loop"));
    println!("| field alone, {lines} lines of 256 bays | CPU | libmodbus loop | times | bar | |");
    println!("|---|---|---|---|---|---|");
    let mut fine = true;
    for period_ms in [1_000, 100] {
        let (addresses, mut serving) = serve(&devices, lines);
        fine &= measure(&addresses, period_ms, seconds, &poll_loop);
        drop(serving.stdin.take());
        serving.wait().unwrap();
    }
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Builds one of the C programs beside this file.
fn build(folder: &Path, name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench");
    let program = folder.join(name);
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-I/usr/include/modbus", "-o"]).arg(&program);
    cc.arg(here.join(format!("{name}.c")));
    if name == "poll_loop" {
        cc.arg("-lmodbus");
    }
    assert!(cc.status().unwrap().success(), "cc builds {name}.c (needs libmodbus-dev)");
    program
}

fn serve(devices: &Path, lines: u64) -> (Vec<SocketAddr>, Child) {
    let free: Vec<TcpListener> =
        (0..lines).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<SocketAddr> = free.iter().map(|port| port.local_addr().unwrap()).collect();
    drop(free);
    let mut child = Command::new(devices)
        .args(addresses.iter().map(|address| address.port().to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready.trim(), "ready");
    (addresses, child)
}

fn measure(addresses: &[SocketAddr], period_ms: u32, seconds: u64, poll_loop: &Path) -> bool {
    let lines: Vec<LineOf<'_>> = addresses
        .iter()
        .map(|address| LineOf {
            address: *address,
            period_ms,
            timeout_ms: 90,
            units: &[(1, "dense")],
        })
        .collect();
    let site = peer::site(&lines, "");
    let (sender, mut readings) = channel(1 << 20);
    let field = field::start(site, Clock::real(), sender).unwrap();
    // Connecting is not polling.
    std::thread::sleep(Duration::from_secs(2));
    let polled = |status: &[field::LineStatus]| {
        let units = status.iter().flat_map(|line| &line.units);
        units.map(|unit| unit.polls_total).sum::<u64>()
    };
    let (before, polls) = (cpu(ClockId::ProcessCPUTime), polled(&field.status()));
    let beside = Command::new(poll_loop)
        .args([REGISTERS.to_string(), seconds.to_string(), period_ms.to_string()])
        .args(addresses.iter().map(SocketAddr::to_string))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(seconds));
    let spent = cpu(ClockId::ProcessCPUTime) - before;
    let status = field.status();
    let polls = polled(&status) - polls;
    let said = beside.wait_with_output().unwrap().stdout;
    field.flush_and_stop(Duration::from_secs(1));
    let reference = reference(&String::from_utf8(said).unwrap());
    let missed: u64 = status.iter().map(|line| line.missed_slots_total).sum();
    let mut worst_ms = 0;
    let mut last = vec![None; lines.len()];
    while let Ok(reading) = readings.try_recv() {
        if let Some(before) = last[reading.unit.at()].replace(reading.at) {
            worst_ms = worst_ms.max(reading.at.ms_since(before));
        }
    }
    let times = spent.as_secs_f64() / reference;
    let fine = times <= TIMES_MAX && missed == 0;
    println!(
        "| {period_ms} ms, {polls} polls, {missed} slots missed, longest gap {worst_ms} ms \
         | {:.3} s, {:.1} us a poll | {reference:.3} s | {times:.2} | {TIMES_MAX} | {} |",
        spent.as_secs_f64(),
        spent.as_secs_f64() * 1e6 / polls as f64,
        if fine { "ok" } else { "MISSED" }
    );
    fine
}

/// CPU seconds from what the loop says of itself.
fn reference(said: &str) -> f64 {
    let mut words = said.split_whitespace();
    assert!(said.contains("failures 0"), "the loop failed: {said}");
    words.find(|word| *word == "cpu_s").expect("the loop says what it took");
    words.next().unwrap().parse().unwrap()
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
