//! What `parkway check` says about the lines: how much of each period the wire takes.
//!
//! Lines that cost the same are told together, because a site has thirty alike. A period that
//! cannot be held is a warning: the daemon runs all the same, skips slots and counts them, and the
//! figure rests on an assumed turnaround that `parkway probe` can measure. Only where the bytes
//! alone need longer than the period is it certain, and then `check` ends with 1.

use std::collections::BTreeMap;

use crate::field::budget::{
    self, Budget, Judgement, Medium, PROBE_PERCENT, RTU_TURNAROUND_US, SWEEPS_LATE,
    TCP_TURNAROUND_US,
};
use crate::site::{LineIx, Site};

/// What the lines amount to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Told {
    pub rows: Vec<String>,
    /// Each begins with the lines' names.
    pub warnings: Vec<String>,
    /// Some period is shorter than its line's bytes.
    pub impossible: bool,
}

/// Puts the budgets of all lines in words, the busiest first.
pub fn tell(site: &Site) -> Told {
    let mut alike: BTreeMap<Budget, Vec<&str>> = BTreeMap::new();
    for (line, ix) in site.lines.iter().zip(0..) {
        alike.entry(budget::budget(site, LineIx(ix))).or_default().push(&line.id);
    }
    let mut alike: Vec<(Budget, String)> =
        alike.into_iter().map(|(budget, lines)| (budget, names(&lines))).collect();
    let share = |budget: &Budget| budget.sweep_us * 1_000 / budget.period_us().max(1);
    alike.sort_by_key(|(budget, _)| std::cmp::Reverse(share(budget)));
    let mut told = Told::default();
    for (budget, lines) in &alike {
        told.rows.push(format!("{lines}: {}", row(budget)));
        if budget.requests > 0 {
            told.rows.push(format!("  {}", with_one_dead(budget)));
        }
        told.warnings.extend(warning(budget).map(|text| format!("{lines}: {text}")));
        told.impossible |= budget.judgement() == Judgement::Impossible;
    }
    let mut media: Vec<Medium> = alike.iter().map(|(budget, _)| budget.medium).collect();
    media.dedup();
    told.rows.extend(assumptions(&media));
    told
}

fn names(lines: &[&str]) -> String {
    match lines {
        [first, ..] if lines.len() > 6 => format!("{} lines such as {first}", lines.len()),
        few => few.join(", "),
    }
}

fn row(budget: &Budget) -> String {
    let written = written(budget);
    if budget.requests == 0 {
        return match written.as_str() {
            "" => "neither read nor written to".to_owned(),
            _ => format!("written to only, {written} in {}", ms(budget.writes_us)),
        };
    }
    let mut text = format!(
        "{}, {} of {} ms ({})",
        plural(budget.requests, "request"),
        ms(budget.sweep_us),
        budget.period_ms,
        percent(budget, budget.sweep_us),
    );
    if !written.is_empty() {
        let share = percent(budget, budget.writes_us);
        text += &format!("; {written} at most {} more ({share})", ms(budget.writes_us));
    }
    if let Some(wire) = wire(budget.medium) {
        text += &format!("; {wire}");
    }
    text
}

/// What hangs on the line to be written to; nothing where nothing does.
fn written(budget: &Budget) -> String {
    let all = [(budget.signs, "sign"), (budget.outputs, "output"), (budget.lamps, "lamp")];
    let some = all.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| plural(n, what));
    some.collect::<Vec<_>>().join(", ")
}

fn with_one_dead(budget: &Budget) -> String {
    format!(
        "with one unit dead {} ({}) for {SWEEPS_LATE} sweeps, then at most {} ({})",
        ms(budget.dead_us),
        percent(budget, budget.dead_us),
        ms(budget.left_alone_us()),
        percent(budget, budget.left_alone_us()),
    )
}

fn warning(budget: &Budget) -> Option<String> {
    let (period, least) = (budget.period_ms, budget.least_ms());
    let calm = format!("{} ms hold all writes and one dead unit too", budget.calm_ms());
    match budget.judgement() {
        Judgement::Held => None,
        Judgement::LateWithOneDead => Some(format!(
            "period_ms {period} is not held in the {SWEEPS_LATE} sweeps that notice a dead unit: \
             {} ms would, or a shorter timeout_ms",
            budget.calm_ms()
        )),
        Judgement::LateWithSigns => Some(format!(
            "period_ms {period} is not held while all is written at once: {} ms would; {calm}",
            (budget.sweep_us + budget.writes_us).div_ceil(10_000) * 10
        )),
        Judgement::TooMuch => Some(format!(
            "period_ms {period} is too short: one sweep takes {}, the least period is {least} ms; \
             {calm}",
            ms(budget.sweep_us)
        )),
        Judgement::Impossible => Some(format!(
            "period_ms {period} is impossible: the bytes of one sweep alone take {}, with what \
             devices need the least period is {least} ms; {calm}",
            ms(budget.bytes_us)
        )),
    }
}

/// What stands behind the figures.
fn assumptions(media: &[Medium]) -> Vec<String> {
    let mut assumed = Vec::new();
    let turnaround = |what: &str, us| format!("{} before {what} answers", ms(us));
    if media.contains(&Medium::Tcp) {
        let us = TCP_TURNAROUND_US + budget::ROUND_TRIP_US;
        assumed.push(turnaround("a TCP unit", us));
    }
    if media.iter().any(|medium| *medium != Medium::Tcp) {
        assumed.push(turnaround("a serial one", RTU_TURNAROUND_US));
    }
    if media.iter().any(|medium| matches!(medium, Medium::Converter(_))) {
        let us = budget::CONVERTER_US + budget::ROUND_TRIP_US;
        assumed.push(format!("{} more through a converter", ms(us)));
    }
    if assumed.is_empty() {
        return Vec::new();
    }
    vec![
        format!("(assumed: {}; probes of dead units {PROBE_PERCENT} %;", assumed.join(", ")),
        " parkway probe --config FILE --line ID measures them)".to_owned(),
    ]
}

fn wire(medium: Medium) -> Option<String> {
    match medium {
        Medium::Tcp => None,
        Medium::Serial(framing) => Some(framing.to_string()),
        Medium::Converter(framing) => Some(format!("{framing} behind a converter")),
    }
}

/// Milliseconds, with a tenth below 100.
pub fn ms(us: u64) -> String {
    let ms = us as f64 / 1_000.0;
    if us < 99_950 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

fn percent(budget: &Budget, us: u64) -> String {
    format!("{:.1} %", budget.percent(us))
}

fn plural(n: u32, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn reference() -> Site {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/jiefangbei/parkway.toml");
        crate::config::load(Path::new(path)).expect("the reference site is accepted").site
    }

    #[test]
    fn lines_alike_are_told_together() {
        let told = tell(&reference());
        let text = told.rows.join("\n");
        for words in [
            "lines such as zc-",
            "2 requests, 12.0 ms of 1000 ms (1.2 %)",
            "panel-west: written to only, 14 signs in 84.0 ms",
            "then at most 32.0 ms (3.2 %)",
        ] {
            assert!(text.contains(words), "\"{words}\" is not in:\n{text}");
        }
        assert_eq!(told.warnings, Vec::<String>::new());
        assert!(!told.impossible);
    }

    #[test]
    fn requests_follow_blocks_and_what_is_wired() {
        let mut site = reference();
        let line = |site: &Site, id| site.lines.iter().position(|line| line.id == id).unwrap();
        let requests = |site: &Site, id| {
            let ix = u32::try_from(line(site, id)).unwrap();
            budget::budget(site, LineIx(ix)).requests
        };
        // Detectors and faults lie side by side; the loops are a read of their own.
        assert_eq!(requests(&site, "zc-01"), 2);
        assert_eq!(requests(&site, "panel-west"), 0);
        let profile = site.profiles.iter_mut().find(|p| p.bays.is_some()).expect("one has bays");
        profile.bays.as_mut().expect("just found").block_max = Some(8);
        assert!(requests(&site, "zc-01") >= 10);
    }

    #[test]
    fn a_period_that_is_too_short_is_warned_of_with_the_least_that_holds() {
        let mut site = reference();
        let line = site.lines.iter().position(|line| line.id == "zc-01").expect("it is configured");
        site.lines[line].period_ms = 11;
        let told = tell(&site);
        assert_eq!(told.warnings.len(), 1, "{told:?}");
        let expected = "zc-01: period_ms 11 is too short: one sweep takes 12.0 ms, the least \
                        period is 20 ms; 310 ms hold all writes and one dead unit too";
        assert_eq!(told.warnings[0], expected);
        assert!(!told.impossible, "over TCP nothing is certain");
    }
}
