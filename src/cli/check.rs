//! `parkway check FILE`: the daemon's own parser, then what the file amounts to.
//!
//! A technician reads this before a restart, so it says what the file alone does not show: how
//! busy each line will be and how long an outage the store outlasts. Both are estimates; the
//! figures they rest on are printed beside them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Config};
use crate::field::plan::{HOLE_MAX, plan};
use crate::site::{Line, NodeKind, SignKind, Site, Unit};

/// One request over TCP: the device's turnaround and the way there and back, in ms. Zone
/// controllers answer within some milliseconds; this is the slow side of ordinary.
const REQUEST_MS: u32 = 6;

/// Vehicles a day at the reference site, 21,000 bays: each bay is used a little over twice.
const VEHICLES_A_DAY: f64 = 45_000.0;
const REFERENCE_BAYS: f64 = 21_000.0;

/// Events a vehicle makes: its bay filled and emptied, its lease granted and ended, now and then
/// a move.
const EVENTS_A_VEHICLE: f64 = 4.5;

/// A record at rest.
const RECORD_BYTES: f64 = 300.0;

/// What each class adds to a garage's window.
const CLASS_BYTES: f64 = 80.0;

/// Alarms an hour on a bad day.
const ALARMS_AN_HOUR: f64 = 60.0;

/// Checks a configuration: prints what was accepted and exits 0, or all problems and exits 64.
pub fn run(path: &Path) -> ExitCode {
    match config::load(path) {
        Ok(config) => {
            print!("{}", report(path, &config));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            let count = problems.len();
            eprintln!("{count} problem{} in all", if count == 1 { "" } else { "s" });
            ExitCode::from(crate::run::USAGE)
        }
    }
}

/// What a configuration amounts to.
fn report(path: &Path, config: &Config) -> String {
    let site = &config.site;
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<9}{value}");
    };
    row("accepted", format!("{}: {} ({})", path.display(), site.name, site.id));
    row("bays", bays(site));
    row("", by_class(site));
    row("ways", ways(site));
    row("signs", signs(site));
    row("lines", lines(site));
    for (poll, lines) in polls(site) {
        row("", format!("{poll}: {lines}"));
    }
    for (ix, lane) in backlog(config).into_iter().enumerate() {
        row(if ix == 0 { "backlog" } else { "" }, lane);
    }
    row(
        "",
        format!(
            "(assumed: {:.0} vehicles a day of {EVENTS_A_VEHICLE} events, {RECORD_BYTES} bytes a \
             record, {CLASS_BYTES} more a class in a window)",
            vehicles_a_day(site)
        ),
    );
    text
}

fn bays(site: &Site) -> String {
    format!(
        "{} in {}, {}, {}",
        grouped(site.bays.len()),
        count(site.garages.len(), "garage"),
        count(site.levels.len(), "level"),
        count(site.zones.len(), "zone"),
    )
}

fn by_class(site: &Site) -> String {
    let of = |ix: usize| site.bays.iter().filter(|bay| bay.class.at() == ix).count();
    let classes = site.classes.iter().enumerate();
    let classes = classes.map(|(ix, class)| format!("{} {}", class.id, grouped(of(ix))));
    classes.collect::<Vec<_>>().join(", ")
}

fn ways(site: &Site) -> String {
    let of = |kind| site.nodes.iter().filter(|node| node.kind == kind).count();
    format!(
        "{}, {}, {}, {}; {}; {}",
        count(of(NodeKind::Approach), "approach"),
        count(of(NodeKind::Portal), "portal"),
        count(of(NodeKind::Exit), "exit"),
        count(of(NodeKind::Fork), "fork"),
        count(site.links.len(), "link"),
        count(site.destinations.len(), "destination"),
    )
}

fn signs(site: &Site) -> String {
    let call_outs = site.signs.iter().filter(|s| matches!(s.kind, SignKind::CallOut { .. }));
    let call_outs = call_outs.count();
    let counting = count(site.signs.len() - call_outs, "count sign");
    format!("{counting}, {}", count(call_outs, "call-out"))
}

fn lines(site: &Site) -> String {
    let polled = site.units.iter().filter(|unit| is_polled(site, unit)).count();
    let (lines, units) = (count(site.lines.len(), "line"), count(site.units.len(), "unit"));
    format!("{lines}, {units}, {} of them polled", grouped(polled))
}

/// How the lines' periods are used, lines alike together.
fn polls(site: &Site) -> Vec<(String, String)> {
    let mut alike: BTreeMap<(u32, u32), Vec<&str>> = BTreeMap::new();
    for line in &site.lines {
        alike.entry((requests(site, line), line.period_ms)).or_default().push(&line.id);
    }
    let mut told = Vec::new();
    for ((requests, period_ms), lines) in alike.into_iter().rev() {
        let names = match lines.as_slice() {
            [first, ..] if lines.len() > 6 => {
                format!("{} lines such as {first}", lines.len())
            }
            few => few.join(", "),
        };
        if requests == 0 {
            told.push(("written to only".to_owned(), names));
            continue;
        }
        let busy_ms = requests * REQUEST_MS;
        let share = f64::from(busy_ms) * 100.0 / f64::from(period_ms);
        let over = if share > 100.0 { ", TOO MUCH" } else { "" };
        let text = count(requests as usize, "request");
        told.push((format!("{text}, {busy_ms} of {period_ms} ms ({share:.1} %{over})"), names));
    }
    told
}

/// Requests of one sweep.
fn requests(site: &Site, line: &Line) -> u32 {
    line.units.iter().map(|unit| unit_requests(site, &site.units[unit.at()])).sum()
}

/// The field's own plan, so that what is told is what will be asked.
fn unit_requests(site: &Site, unit: &Unit) -> u32 {
    let profile = &site.profiles[unit.profile as usize];
    // A unit has at most some thousand blocks.
    plan(profile, &unit.bays, HOLE_MAX).blocks.len() as u32
}

fn is_polled(site: &Site, unit: &Unit) -> bool {
    unit_requests(site, unit) > 0
}

/// How long each lane's share of the store lasts with nobody listening.
fn backlog(config: &Config) -> Vec<String> {
    let site = &config.site;
    let store = &config.store;
    let windows_an_hour = site.garages.len() as f64 * 60.0;
    let window_bytes = RECORD_BYTES + CLASS_BYTES * site.classes.len() as f64;
    let lanes = [
        ("alarms", store.alarms_percent, ALARMS_AN_HOUR, RECORD_BYTES),
        (
            "events",
            store.events_percent,
            vehicles_a_day(site) * EVENTS_A_VEHICLE / 24.0,
            RECORD_BYTES,
        ),
        ("aggregates", store.aggregates_percent, windows_an_hour, window_bytes),
    ];
    let mib = f64::from(store.backlog_mib);
    let tell = |(lane, percent, an_hour, bytes): (&str, u32, f64, f64)| {
        let share_mib = mib * f64::from(percent) / 100.0;
        let hours = share_mib * 1_048_576.0 / (an_hour * bytes);
        format!(
            "{lane:<11}{share_mib:>6.0} MiB hold {hours:>7.0} h at {an_hour:.0} records an hour"
        )
    };
    lanes.map(tell).to_vec()
}

fn vehicles_a_day(site: &Site) -> f64 {
    VEHICLES_A_DAY * site.bays.len() as f64 / REFERENCE_BAYS
}

fn count(n: usize, what: &str) -> String {
    let plural = match what {
        _ if n == 1 => "",
        "approach" => "es",
        _ => "s",
    };
    format!("{} {what}{plural}", grouped(n))
}

/// 21000 as "21,000".
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (ix, digit) in digits.chars().enumerate() {
        if ix > 0 && (digits.len() - ix).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> Config {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/jiefangbei/parkway.toml");
        config::load(Path::new(path)).expect("the reference site is accepted")
    }

    #[test]
    fn the_reference_site_is_told_in_figures() {
        let text = report(Path::new("a.toml"), &reference());
        for words in [
            "21,000 in 26 garages",
            "ev 1,552",
            "6 approaches, 4 portals, 3 exits, 14 forks",
            "39 lines, 39 units, 34 of them polled",
            "written to only: panel-west, panel-south, panel-east, panel-north, panel-street",
            "45000 vehicles a day",
        ] {
            assert!(text.contains(words), "\"{words}\" is not in:\n{text}");
        }
    }

    #[test]
    fn requests_follow_blocks_and_what_is_wired() {
        let mut config = reference();
        let site = &mut config.site;
        // Detectors and faults lie side by side; the loops are a read of their own.
        assert_eq!(requests(site, &site.lines[line(site, "zc-01")]), 2);
        assert_eq!(requests(site, &site.lines[line(site, "panel-west")]), 0);
        let profile = site.profiles.iter_mut().find(|p| p.bays.is_some()).expect("one has bays");
        profile.bays.as_mut().expect("just found").block_max = Some(8);
        assert!(requests(site, &site.lines[line(site, "zc-01")]) >= 10);
    }

    #[test]
    fn backlog_hours_follow_the_share() {
        let mut config = reference();
        config.store.backlog_mib = 1_000;
        config.store.events_percent = 60;
        // 600 MiB / (45,000 x 4.5 / 24 x 300 bytes) = 248.5 h.
        assert!(backlog(&config)[1].contains("600 MiB hold     249 h"), "{:?}", backlog(&config));
    }

    #[test]
    fn thousands_are_grouped() {
        let told = [0, 999, 1_000, 21_000, 1_234_567].map(grouped);
        assert_eq!(told, ["0", "999", "1,000", "21,000", "1,234,567"]);
    }

    fn line(site: &Site, id: &str) -> usize {
        site.lines.iter().position(|line| line.id == id).expect("the line is configured")
    }
}
