//! `parkway check FILE`: the daemon's own parser, then what the file amounts to.
//!
//! A technician reads this before a restart, so it says what the file alone does not show: how
//! busy each line will be (`lines.rs`) and how long an outage the store outlasts. Both are
//! estimates; the figures they rest on are printed beside them.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use super::lines;
use crate::config::{self, Config};
use crate::field::budget::blocks;
use crate::field::places::{Kind, places};
use crate::gateway::WINDOW_MS;
use crate::site::{LineIx, NodeKind, SignKind, Site, Unit};
use crate::store::thin::SPANS_S;

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

/// Length of a window as it is first told.
const WINDOW_S: u64 = WINDOW_MS / 1_000;

/// Alarms an hour on a bad day.
const ALARMS_AN_HOUR: f64 = 60.0;

/// Checks a configuration: prints what was accepted and exits 0, or all problems and exits 64.
/// It exits 1 where the daemon would take the file, but a line's bytes alone outlast its period:
/// an installer must look before he goes on, a daemon that runs need not stop for it.
pub fn run(path: &Path) -> ExitCode {
    match config::load(path) {
        Ok(config) => {
            let told = lines::tell(&config.site);
            print!("{}", report(path, &config, &told));
            for warning in &told.warnings {
                eprintln!("WARNING: {warning}");
            }
            if told.impossible { ExitCode::FAILURE } else { ExitCode::SUCCESS }
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
fn report(path: &Path, config: &Config, told: &lines::Told) -> String {
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
    if let Some(switched) = switched(site) {
        row("switched", switched);
    }
    row("profiles", profiles(site));
    row("lines", line_count(site));
    for line in &told.rows {
        row("", line.clone());
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
    let arrows = site.signs.iter().filter(|s| matches!(s.kind, SignKind::Direction { .. }));
    let arrows = arrows.count();
    let counting = count(site.signs.len() - call_outs - arrows, "count sign");
    let (call_outs, arrows) = (count(call_outs, "call-out"), count(arrows, "direction sign"));
    format!("{counting}, {call_outs}, {arrows}")
}

/// Outputs, lamps and contacts, where the site has any.
fn switched(site: &Site) -> Option<String> {
    let lines = (0..).map(LineIx).take(site.lines.len());
    let places = lines.flat_map(|line| places(site, line));
    let lamps = places.filter(|(_, place)| place.kind == Kind::Lamp).count();
    let all = [(site.outputs.len(), "output"), (lamps, "lamp"), (site.contacts.len(), "contact")];
    let some = all.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| count(n, what));
    Some(some.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())
}

/// How many are written in the site's own files, and which of the shipped ones units use.
fn profiles(site: &Site) -> String {
    let shipped = config::shipped::used(site);
    let own = format!("{} of its own", site.profiles.len() - shipped.len());
    if shipped.is_empty() { own } else { format!("{own}; as shipped: {}", shipped.join(", ")) }
}

fn line_count(site: &Site) -> String {
    let polled = site.units.iter().filter(|unit| is_polled(site, unit)).count();
    let (lines, units) = (count(site.lines.len(), "line"), count(site.units.len(), "unit"));
    format!("{lines}, {units}, {} of them polled", grouped(polled))
}

fn is_polled(site: &Site, unit: &Unit) -> bool {
    !blocks(site, unit).is_empty()
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
        let mut text = format!(
            "{lane:<11}{share_mib:>6.0} MiB hold {hours:>7.0} h at {an_hour:.0} records an hour"
        );
        if lane == "aggregates" {
            // The newest hour stays as it is; beside days that is nothing.
            let [quarters, hourly] = SPANS_S.map(|span_s| hours * (span_s / WINDOW_S) as f64);
            let _ = write!(
                text,
                "; merged when full: {quarters:.0} h of quarters, {hourly:.0} h of hours"
            );
        }
        text
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
        let config = reference();
        let text = report(Path::new("a.toml"), &config, &lines::tell(&config.site));
        for words in [
            "21,000 in 26 garages",
            "ev 1,552",
            "6 approaches, 4 portals, 3 exits, 14 forks",
            "39 lines, 39 units, 34 of them polled",
            "34 lines such as zc-",
            "(assumed: 6.0 ms before a TCP unit answers;",
            "45000 vehicles a day",
        ] {
            assert!(text.contains(words), "\"{words}\" is not in:\n{text}");
        }
    }

    #[test]
    fn backlog_hours_follow_the_share() {
        let mut config = reference();
        config.store.backlog_mib = 1_000;
        config.store.events_percent = 60;
        // 600 MiB / (45,000 x 4.5 / 24 x 300 bytes) = 248.5 h.
        assert!(backlog(&config)[1].contains("600 MiB hold     249 h"), "{:?}", backlog(&config));
        // 300 MiB / (26 x 60 x (300 + 80 a class) bytes), and 15 and 60 times that.
        config.store.aggregates_percent = 30;
        let classes = config.site.classes.len() as f64;
        let hours = 300.0 * 1_048_576.0 / (26.0 * 60.0 * (300.0 + 80.0 * classes));
        let told = format!("merged when full: {:.0} h of quarters", hours * 15.0);
        assert!(backlog(&config)[2].contains(&told), "{told}: {:?}", backlog(&config));
    }

    #[test]
    fn thousands_are_grouped() {
        let told = [0, 999, 1_000, 21_000, 1_234_567].map(grouped);
        assert_eq!(told, ["0", "999", "1,000", "21,000", "1,234,567"]);
    }
}
