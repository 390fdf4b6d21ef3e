//! A line of a configuration, walked unit by unit: does each answer as its profile says, how
//! fast, and do the line's own time-out and period hold for them.

use std::io;
use std::time::Duration;

use serde_json::json;

use crate::field::budget::{Bytes, Medium, Pace, blocks};
use crate::field::plan::Block;
use crate::probe::ask::{Reading, Span};
use crate::probe::fit::{self, Answer};
use crate::probe::session::{Out, Session, failure, is_answer};
use crate::probe::show::Values;
use crate::probe::times::{Advice, Share, Times, advise, turnaround_us};
use crate::probe::wire::Port;
use crate::profile::Profile;
use crate::site::{LineIx, Site, Unit, UnitIx};

/// What to walk.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    pub site: &'a Site,
    pub line: LineIx,
    /// One of its units, or all.
    pub unit: Option<UnitIx>,
    /// Sweeps that are timed.
    pub samples: u32,
}

/// Walks it: whether every unit answered.
///
/// # Errors
///
/// The output is closed.
pub fn walk(walk: Walk<'_>, port: &mut Port, reading: Reading, out: &Out) -> io::Result<bool> {
    let Walk { site, line, unit, samples } = walk;
    let medium = Medium::of(&site.lines[line.at()].wire);
    let units: Vec<UnitIx> = match unit {
        Some(unit) => vec![unit],
        None => site.lines[line.at()].units.clone(),
    };
    let mut shares = Vec::new();
    let mut silent = Vec::new();
    for ix in &units {
        let unit = &site.units[ix.at()];
        port.wait_at_most(Duration::from_millis(unit.timeout_ms.into()));
        let mut session =
            Session { port: &mut *port, unit: unit.address, reading, out, answered: false };
        let share = one(&mut session, site, unit, samples, medium)?;
        if !session.answered {
            silent.push(unit.id.as_str());
        }
        shares.extend(share);
    }
    if !silent.is_empty() {
        out.say(format!(
            "silent: {}. Check power, wiring and polarity, the address, and on a bus the baud \
             rate and parity",
            silent.join(", ")
        ))?;
    }
    if !shares.is_empty() {
        let measured = shares.len();
        shares.extend(unmeasured(site, line, &shares, &units, &silent));
        let told = match shares.len() {
            all if all == measured => format!("{all} units measured"),
            all => format!("{measured} of {all} units measured, the others taken as the slowest"),
        };
        advice(site, line, &advise(medium, &shares), &told, out)?;
    }
    Ok(silent.is_empty())
}

/// The line's other units, taken to be as slow as the slowest that was measured.
fn unmeasured(
    site: &Site,
    line: LineIx,
    measured: &[Share],
    walked: &[UnitIx],
    silent: &[&str],
) -> Vec<Share> {
    let slowest_us = measured.iter().map(|share| share.slowest_us).max().unwrap_or(0);
    let turnaround_us = measured.iter().map(|share| share.pace.turnaround_us).max().unwrap_or(0);
    let others = site.lines[line.at()].units.iter().filter_map(|ix| {
        let unit = &site.units[ix.at()];
        let is_measured = walked.contains(ix) && !silent.contains(&unit.id.as_str());
        let blocks = blocks(site, unit);
        (!is_measured && !blocks.is_empty()).then(|| Share {
            slowest_us,
            pace: Pace { turnaround_us, gap_us: u64::from(unit.gap_ms) * 1_000 },
            reads: blocks.iter().map(|block| Bytes::read(block.table, block.count)).collect(),
        })
    });
    others.collect()
}

/// One unit: its plan's reads, what they mean, and their times.
fn one(
    session: &mut Session<'_>,
    site: &Site,
    unit: &Unit,
    samples: u32,
    medium: Medium,
) -> io::Result<Option<Share>> {
    let profile = &site.profiles[unit.profile as usize];
    let head = format!("unit {} (address {}, {})", unit.id, unit.address, profile.id);
    let blocks = blocks(site, unit);
    if blocks.is_empty() {
        // A panel is written to only: that it answers at all is what can be told.
        let (times, _) = session.times(None, samples.min(5));
        session.out.say(format!("{head}: nothing to read; {}", times.told()))?;
        return Ok(None);
    }
    let mut measure = Measure::default();
    let mut answers = Vec::new();
    for sample in 0..samples.max(1) {
        let last = measure.sweep(session, &blocks, medium);
        // A unit that says nothing at first is not asked all the rest.
        if sample == 0 && !session.answered {
            session.out.say(format!("{head}: {}", measure.why))?;
            return Ok(None);
        }
        answers = last;
    }
    session.out.say(format!("{head}: {}", measure.times.told()))?;
    told(session.out, unit, profile, &blocks, &answers, &measure)?;
    let pace =
        Pace { turnaround_us: measure.turnaround_us, gap_us: u64::from(unit.gap_ms) * 1_000 };
    let reads = blocks.iter().map(|block| Bytes::read(block.table, block.count)).collect();
    Ok(Some(Share { slowest_us: measure.times.max(), pace, reads }))
}

fn told(
    out: &Out,
    unit: &Unit,
    profile: &Profile,
    blocks: &[Block],
    answers: &[Answer],
    measure: &Measure,
) -> io::Result<()> {
    for (block, answer) in blocks.iter().zip(answers) {
        if let Answer::Refused { code, .. } = answer {
            let name =
                format!("{:?} {} to {}", block.table, block.first, block.first + block.count - 1);
            let text = crate::probe::show::exception(*code);
            out.say(format!("  {}: {text}", name.to_lowercase()))?;
        }
    }
    let decoded = fit::decode(profile, &unit.bays, blocks, answers);
    let of = |letter| decoded.points.matches(letter).count();
    if profile.bays.is_some() {
        out.say(format!(
            "  {} points wired: {} occupied, {} free, {} unknown",
            unit.bays.iter().flatten().count(),
            of('o'),
            of('f'),
            of('u')
        ))?;
    }
    for row in fit::decoded_rows(&decoded) {
        out.say(row)?;
    }
    out.object(&json!({ "unit": unit.id, "address": unit.address, "profile": profile.id,
        "points": decoded.points, "counters": decoded.counters,
        "contacts": decoded.contacts,
        "median_us": measure.times.percentile(50), "p99_us": measure.times.percentile(99),
        "max_us": measure.times.max(), "lost": measure.times.lost }))
}

/// Times of one unit's reads.
#[derive(Debug, Default)]
struct Measure {
    times: Times,
    /// The longest that the unit needed beside its bytes.
    turnaround_us: u64,
    /// Why the last read brought nothing.
    why: String,
}

impl Measure {
    fn sweep(
        &mut self,
        session: &mut Session<'_>,
        blocks: &[Block],
        medium: Medium,
    ) -> Vec<Answer> {
        use crate::field::agenda::Outcome;
        let mut answers = Vec::new();
        for block in blocks {
            let told = session.port.read(session.unit, block.table, block.first, block.count);
            if is_answer(&told.outcome) {
                session.answered = true;
                self.times.add(told.took_us());
                let last = block.first + (block.count - 1);
                let span = Span { table: block.table, first: block.first, last };
                self.turnaround_us =
                    self.turnaround_us.max(turnaround_us(medium, told.took_us(), span));
            } else {
                self.times.lost += 1;
                self.why = failure(&told.outcome);
            }
            answers.push(match told.outcome {
                Outcome::Bits(bits) => Answer::Came(Values::Bits(bits)),
                Outcome::Words(words) => Answer::Came(Values::Words(words)),
                Outcome::Exception(code) => Answer::Refused { code, answered: 0 },
                _ => Answer::Nothing,
            });
        }
        answers
    }
}

/// The line's own figures against what was measured.
fn advice(site: &Site, line: LineIx, advice: &Advice, measured: &str, out: &Out) -> io::Result<()> {
    let table = &site.lines[line.at()];
    let Advice { timeout_ms, period_ms, sweep_us } = *advice;
    let least_ms = table.units.iter().map(|unit| site.units[unit.at()].timeout_ms).min();
    let timeout = least_ms.unwrap_or(0);
    let word = |fine: bool| if fine { "fine" } else { "LESS THAN THAT" };
    out.say(format!(
        "line {}: one sweep takes {:.1} ms ({measured}); timeout_ms {timeout_ms} and period_ms \
         {period_ms} or more hold, one dead unit included",
        table.id,
        sweep_us as f64 / 1_000.0,
    ))?;
    out.say(format!(
        "  configured: timeout_ms {timeout} is {}, period_ms {} is {}",
        word(u64::from(timeout) >= timeout_ms),
        table.period_ms,
        word(u64::from(table.period_ms) >= period_ms),
    ))?;
    out.object(&json!({ "line": table.id, "sweep_us": sweep_us, "timeout_ms": timeout_ms,
        "period_ms": period_ms, "configured_timeout_ms": timeout,
        "configured_period_ms": table.period_ms }))
}
