//! `parkway probe`: its options, as people write them, and what each combination does.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::lines::ms;
use crate::cli::status;
use crate::config;
use crate::field::budget::{Bytes, Medium, Pace};
use crate::probe::ask::{self, As, Change, Reading, Span};
use crate::probe::fit::{self, Verdict};
use crate::probe::session::{Out, Session};
use crate::probe::site::{Walk, walk};
use crate::probe::times::{Share, advise, turnaround_us};
use crate::probe::wire::Port;
use crate::profile::{Profile, WordOrder};
use crate::run::USAGE;
use crate::site::{Framing, LineIx, Parity, Site, UnitIx, Wire};

/// Where Modbus TCP listens.
const MODBUS_PORT: u16 = 502;
/// How long an unknown unit is waited for: the slowest that are sold answer within it.
const TIMEOUT_MS: u32 = 1_000;
/// The same in a scan, where most addresses are nobody's.
const SCAN_TIMEOUT_MS: u32 = 300;
/// Requests that are timed where `--samples` says nothing: enough to see a slow one, over in a
/// second on a slow line.
const SAMPLES: u32 = 20;

#[derive(Args, Debug)]
#[command(after_help = "\
Ranges name both ends: holding:0..7 is eight registers, holding:100+8 eight from 100; manuals' own
40001..40008 are understood. Without --read, --scan, --scan-units or --write, a unit is asked which
profiles fit it and how fast it answers; with --config and --line, every unit of the line is read
as the gateway would. Nothing is ever written without --write.

  parkway probe --tcp 10.50.1.11 --unit 1
  parkway probe --tcp 10.50.1.11 --unit 1 --read holding:0..39 --as hex --every 1s
  parkway probe --serial /dev/ttyS1 --baud 9600 --scan-units 1..32
  parkway probe --config /etc/parkway/parkway.toml --line zc-1
  parkway probe --tcp 10.50.1.30 --unit 1 --write holding:0=17

Exit code: 0 answered (and written, where asked to), 1 no answer, 64 bad usage or configuration.")]
pub struct Probe {
    /// A unit on Modbus TCP; port 502 where none is named
    #[arg(long, value_name = "HOST[:PORT]", group = "where")]
    tcp: Option<String>,
    /// RTU frames through a converter
    #[arg(long, value_name = "HOST:PORT", group = "where")]
    rtu_tcp: Option<String>,
    /// A serial port
    #[arg(long, value_name = "DEVICE", group = "where")]
    serial: Option<String>,
    /// A line of this configuration; see --line
    #[arg(long, value_name = "FILE", group = "where", requires = "line")]
    config: Option<PathBuf>,
    /// Which line of the configuration
    #[arg(long, value_name = "ID", requires = "config")]
    line: Option<String>,
    /// Ask beside a running gateway, which shares the controller's few connections
    #[arg(long, requires = "config")]
    beside: bool,
    /// Bits a second, also of the bus behind a converter
    #[arg(long, value_name = "BAUD", default_value_t = 9_600,
          value_parser = clap::value_parser!(u32).range(1_200..=115_200))]
    baud: u32,
    /// The check bit of a character
    #[arg(long, value_enum, default_value = "none")]
    parity: Parity,
    /// Stop bits of a character
    #[arg(long, value_name = "1|2", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=2))]
    stop_bits: u8,
    /// Modbus address; with --config also a unit's id
    #[arg(long, value_name = "N")]
    unit: Option<String>,
    /// How long an answer is waited for; 1000, or 300 with --scan-units, where absent
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(10..=60_000))]
    timeout_ms: Option<u32>,
    /// Read a range: holding:0..7, input:100+8, coil:3, discrete:0..15; may be repeated
    #[arg(long, value_name = "TABLE:RANGE")]
    read: Vec<String>,
    /// How registers are shown and written
    #[arg(long = "as", value_enum, default_value = "u16")]
    as_: As,
    /// Which half of a 32-bit value stands first
    #[arg(long, value_enum, default_value = "high-first")]
    order: Order,
    /// What the first address is called: 1 for manuals that count from 1
    #[arg(long, value_name = "0|1", default_value_t = 0,
          value_parser = clap::value_parser!(u16).range(0..=1))]
    base: u16,
    /// Read again every so often, such as 500ms or 1s
    #[arg(long, value_name = "TIME", value_parser = every, requires = "read")]
    every: Option<Duration>,
    /// End after so many reads
    #[arg(long, value_name = "N", requires = "every",
          value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Find out which units answer: 1..32 or 1,3,7..9
    #[arg(long, value_name = "UNITS")]
    scan_units: Option<String>,
    /// Find out which addresses there are: holding:0..500; may be repeated
    #[arg(long, value_name = "TABLE:RANGE")]
    scan: Vec<String>,
    /// Only this profile: does it fit, and what does it make of the unit
    #[arg(long, value_name = "ID")]
    profile: Option<String>,
    /// How many requests are timed
    #[arg(long, value_name = "N", default_value_t = SAMPLES,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    samples: u32,
    /// Write, once: holding:5=17, holding:5=17,18 or coil:3=on; may be repeated
    #[arg(long, value_name = "TABLE:ADDRESS=VALUE")]
    write: Vec<String>,
    /// Write without asking first
    #[arg(long, requires = "write")]
    yes: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Order {
    HighFirst,
    LowFirst,
}

/// What there is to do, read and found sound.
struct Task {
    wire: Wire,
    unit: Option<u8>,
    site: Option<(Site, LineIx, Option<UnitIx>)>,
    profiles: Vec<Profile>,
    reading: Reading,
    reads: Vec<Span>,
    scans: Vec<Span>,
    scan_units: Vec<u8>,
    writes: Vec<Change>,
}

/// Probes as told.
pub fn run(probe: &Probe) -> ExitCode {
    let task = match task(probe) {
        Ok(task) => task,
        Err(problem) => {
            eprintln!("parkway: {problem}");
            return ExitCode::from(USAGE);
        }
    };
    let default_ms = if task.scan_units.is_empty() { TIMEOUT_MS } else { SCAN_TIMEOUT_MS };
    let within = Duration::from_millis(probe.timeout_ms.unwrap_or(default_ms).into());
    let mut port = match Port::open(task.wire.clone(), within) {
        Ok(port) => port,
        Err(error) => {
            eprintln!("parkway: {} cannot be opened: {error}{}", task.wire, hint(&error));
            return ExitCode::FAILURE;
        }
    };
    let out = Out::new(probe.json);
    match work(probe, &task, &mut port, &out) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read our words has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("parkway: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What an installer would try next.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            ": the address is right, but nothing serves that port, or its one master is there \
             already"
        }
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable => {
            ": check the address, the cable and the network"
        }
        io::ErrorKind::ResourceBusy => {
            ": one process owns a port; if it is the gateway, systemctl stop parkway"
        }
        io::ErrorKind::PermissionDenied => ": you need to be in the group of the device (dialout)",
        _ => "",
    }
}

fn task(probe: &Probe) -> Result<Task, String> {
    let order = match probe.order {
        Order::HighFirst => WordOrder::HighFirst,
        Order::LowFirst => WordOrder::LowFirst,
    };
    let reading = Reading { as_: probe.as_, order, base: probe.base };
    let span = |text: &String| ask::span(text, reading.base);
    let spans = |texts: &[String]| texts.iter().map(span).collect::<Result<Vec<_>, _>>();
    let changes = probe.write.iter().map(|text| ask::change(text, reading));
    let mut task = Task {
        wire: Wire::Tcp { endpoint: String::new() },
        unit: None,
        site: None,
        profiles: config::shipped::all(),
        reading,
        reads: spans(&probe.read)?,
        scans: spans(&probe.scan)?,
        scan_units: probe.scan_units.as_deref().map_or(Ok(Vec::new()), ask::units)?,
        writes: changes.collect::<Result<Vec<_>, _>>()?,
    };
    match (&probe.config, &probe.line) {
        (Some(path), Some(line)) => from_config(probe, path, line, &mut task)?,
        _ => {
            task.wire = wire(probe)?;
            let unit = |text: &String| {
                let number = text.parse::<u8>();
                number.map_err(|_| format!("--unit {text} is not an address of 0 to 255"))
            };
            task.unit = probe.unit.as_ref().map(unit).transpose()?;
            if task.unit.is_none() && task.scan_units.is_empty() {
                return Err("which unit? --unit N, or --scan-units 1..32 to find it".to_owned());
            }
        }
    }
    if let Some(only) = &probe.profile {
        task.profiles.retain(|profile| profile.id == *only);
        if task.profiles.is_empty() {
            let all: Vec<&str> = config::shipped::ids().collect();
            return Err(format!("there is no profile \"{only}\"; these ship: {}", all.join(", ")));
        }
    }
    Ok(task)
}

fn wire(probe: &Probe) -> Result<Wire, String> {
    let Probe { baud, parity, stop_bits, .. } = *probe;
    let framing = Framing { baud, parity, stop_bits };
    match (&probe.tcp, &probe.rtu_tcp, &probe.serial) {
        (Some(host), _, _) => {
            let has_port =
                host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let endpoint = if has_port { host.clone() } else { format!("{host}:{MODBUS_PORT}") };
            Ok(Wire::Tcp { endpoint })
        }
        (_, Some(endpoint), _) => Ok(Wire::RtuTcp { endpoint: endpoint.clone(), framing }),
        (_, _, Some(path)) => Ok(Wire::Serial { path: path.clone(), framing, rs485: false }),
        _ => Err("where? --tcp HOST, --rtu-tcp HOST:PORT, --serial DEVICE or --config FILE with \
                  --line ID"
            .to_owned()),
    }
}

/// The line, its unit and its profiles from a configuration.
fn from_config(
    probe: &Probe,
    path: &std::path::Path,
    id: &str,
    task: &mut Task,
) -> Result<(), String> {
    let config = config::load(path).map_err(|problems| {
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("{} is refused:\n{}", path.display(), all.join("\n"))
    })?;
    let site = config.site;
    let found = site.lines.iter().position(|line| line.id == id);
    let Some(at) = found else {
        let lines: Vec<&str> = site.lines.iter().map(|line| line.id.as_str()).collect();
        return Err(format!("there is no line \"{id}\": {}", lines.join(", ")));
    };
    let line = &site.lines[at];
    // One owner a line. A serial port's lock tells by itself; a controller that serves one master
    // only would throw one of the two out, and the gateway's units would count as silent.
    if !probe.beside && line.has_transactions() && status::is_there(&config.http.listen) {
        return Err(format!(
            "a gateway answers at {} and may hold line \"{id}\": stop it (systemctl stop parkway), \
             or say --beside if the controller serves two masters",
            config.http.listen
        ));
    }
    let unit = match &probe.unit {
        None => None,
        Some(text) => {
            let named = |unit: &&UnitIx| {
                let unit = &site.units[unit.at()];
                unit.id == *text || unit.address.to_string() == *text
            };
            let unit = line.units.iter().find(named);
            Some(*unit.ok_or_else(|| format!("line \"{id}\" has no unit \"{text}\""))?)
        }
    };
    task.wire = line.wire.clone();
    task.unit = unit.map(|unit| site.units[unit.at()].address);
    // The site's own first; one that ships and is used stands among them.
    let known = |profile: &Profile| site.profiles.iter().any(|other| other.id == profile.id);
    task.profiles.retain(|profile| !known(profile));
    task.profiles.splice(0..0, site.profiles.iter().cloned());
    let asks = !task.reads.is_empty() || !task.scans.is_empty() || !task.writes.is_empty();
    if asks && task.unit.is_none() {
        return Err("which unit of the line? --unit N".to_owned());
    }
    task.site = Some((site, LineIx(u32::try_from(at).unwrap_or(u32::MAX)), unit));
    Ok(())
}

/// Whether what was asked was answered.
fn work(probe: &Probe, task: &Task, port: &mut Port, out: &Out) -> io::Result<bool> {
    let nothing_named = task.reads.is_empty()
        && task.scans.is_empty()
        && task.scan_units.is_empty()
        && task.writes.is_empty();
    if let (Some((site, line, unit)), true, None) = (&task.site, nothing_named, &probe.profile) {
        let todo = Walk { site, line: *line, unit: *unit, samples: probe.samples };
        return walk(todo, port, task.reading, out);
    }
    let unit = task.unit.unwrap_or(0);
    let mut session = Session { port, unit, reading: task.reading, out, answered: false };
    if !task.scan_units.is_empty() {
        session.scan_units(&task.scan_units)?;
        session.unit = unit;
    }
    for span in &task.scans {
        session.scan(*span)?;
    }
    if !task.reads.is_empty() {
        session.watch(&task.reads, probe.every, probe.count)?;
    }
    let mut written = true;
    for change in &task.writes {
        if !probe.yes && !agreed(change)? {
            return Ok(false);
        }
        written &= session.write(change)?;
    }
    if nothing_named {
        identify(probe, task, &mut session)?;
    }
    Ok(session.answered && written)
}

/// A write is asked for twice: by its option, and here.
fn agreed(change: &Change) -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        eprintln!("parkway: nobody is there to ask: a write without a terminal needs --yes");
        return Ok(false);
    }
    eprint!(
        "write {:?} to {} {}? [y/N] ",
        change.words,
        ask::table_name(change.table),
        change.first
    );
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Which profiles fit, what the best makes of the unit, how fast it is and what that holds.
fn identify(probe: &Probe, task: &Task, session: &mut Session<'_>) -> io::Result<()> {
    let out = session.out;
    let (times, span) = session.times(None, probe.samples);
    let name = session.port.wire().to_string();
    out.say(format!("{name}, unit {}: {}", session.unit, times.told()))?;
    let Some(span) = span else {
        return out.say("no answer: check power, wiring, the address and who else asks");
    };
    let profiles: Vec<&Profile> = task.profiles.iter().collect();
    let fits = session.fits(&profiles)?;
    let best = fits.first().filter(|fit| fit.verdict <= Verdict::InPart);
    if let Some(best) = best {
        out.say(format!("as {}:", best.profile))?;
        for row in best.decoded.iter().flat_map(fit::decoded_rows) {
            out.say(row)?;
        }
    } else {
        out.say("no profile fits: --scan holding:0..500 shows what the unit has")?;
    }
    let medium = Medium::of(session.port.wire());
    let reads = best.and_then(|fit| profiles.iter().find(|p| p.id == fit.profile));
    let reads = reads.map(|profile| fit::reads(profile).blocks).unwrap_or_default();
    let reads: Vec<Bytes> = reads.iter().map(|b| Bytes::read(b.table, b.count)).collect();
    let pace = Pace { turnaround_us: turnaround_us(medium, times.max(), span), gap_us: 0 };
    let share = Share { slowest_us: times.max(), pace, reads };
    let advice = advise(medium, &[share]);
    let sweep = match advice.sweep_us {
        0 => String::new(),
        us => format!(" and period_ms {} or more; a sweep takes {}", advice.period_ms, ms(us)),
    };
    out.say(format!("this unit alone needs timeout_ms {}{sweep}", advice.timeout_ms))?;
    out.object(&json!({ "unit": session.unit, "timeout_ms": advice.timeout_ms,
        "period_ms": advice.period_ms, "median_us": times.percentile(50),
        "p99_us": times.percentile(99), "max_us": times.max(), "lost": times.lost }))
}

/// Reads "500ms" or "1s": 50 ms to an hour.
fn every(text: &str) -> Result<Duration, String> {
    let (number, unit_ms) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 1_000),
        (None, None) => (text, 1_000),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    ms.filter(|ms| (50..=3_600_000).contains(ms))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("\"{text}\" is not a time of 50ms to 3600s, such as 500ms or 1s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_written() {
        for (text, ms) in [("500ms", 500), ("1s", 1_000), ("2", 2_000), ("3600s", 3_600_000)] {
            assert_eq!(every(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "ms", "0", "10ms", "3601s", "1m", "-1s", "1.5s"] {
            assert!(every(text).is_err(), "{text} was accepted");
        }
    }
}
