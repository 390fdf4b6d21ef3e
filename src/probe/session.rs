//! One task on one line: read again and again, scan, find out, write.
//!
//! Everything printed goes through [`Out`], so that a closed pipe ends the probe quietly and a
//! script gets one JSON object a line. Every loop here is bounded by its range or by `--count`;
//! only a refreshing read without one runs until Ctrl-C.

use std::io::{self, IsTerminal, Write};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::field::agenda::Outcome;
use crate::field::plan::Block;
use crate::probe::ask::{Change, Reading, Span, table_name};
use crate::probe::fit::{self, Answer, Fit, Verdict};
use crate::probe::scan::{self, Kind, Scan};
use crate::probe::show::{self, Values};
use crate::probe::times::Times;
use crate::probe::wire::{Port, Told};
use crate::profile::{Profile, Table};
use crate::time::Wall;

/// A pause between the requests of a scan: a unit at work has other masters to serve.
const SCAN_PAUSE: Duration = Duration::from_millis(5);
/// Exceptions by which a gateway says that the unit behind it does not answer.
const GATEWAY_SILENT: [u8; 2] = [0x0a, 0x0b];
/// What a scan tries one after another to find a unit's time: most have one of them.
const HELLO: [Table; 4] = [Table::Holding, Table::Input, Table::Coil, Table::Discrete];

/// Where words go.
#[derive(Debug)]
pub struct Out {
    pub json: bool,
    /// Whether the table may be drawn over itself and marked in inverse.
    pub terminal: bool,
}

impl Out {
    pub fn new(json: bool) -> Out {
        Out { json, terminal: !json && io::stdout().is_terminal() }
    }

    /// A line for people; scripts do not get it.
    pub fn say(&self, text: impl AsRef<str>) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        writeln!(io::stdout().lock(), "{}", text.as_ref())
    }

    /// An object for scripts; people do not get it.
    pub fn object(&self, object: &Value) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        writeln!(io::stdout().lock(), "{object}")
    }

    /// Shows how far something is, where somebody watches.
    fn progress(&self, text: &str) {
        if self.terminal && io::stderr().is_terminal() {
            // Nothing depends on it.
            let _ = write!(io::stderr(), "\r\x1b[K{text}");
        }
    }
}

/// A line, a unit on it and how its values are read.
pub struct Session<'a> {
    pub port: &'a mut Port,
    pub unit: u8,
    pub reading: Reading,
    pub out: &'a Out,
    /// Whether anything answered, if only to refuse.
    pub answered: bool,
}

impl Session<'_> {
    fn read(&mut self, table: Table, first: u16, count: u16) -> Told {
        let told = self.port.read(self.unit, table, first, count);
        self.answered |= is_answer(&told.outcome);
        told
    }

    /// A whole range, in as many requests as it takes; and the time of the slowest.
    fn read_all(&mut self, span: Span) -> Result<(Values, Duration), String> {
        let mut slowest = Duration::ZERO;
        let (mut bits, mut words) = (Vec::new(), Vec::new());
        for (first, count) in span.requests() {
            let told = self.read(span.table, first, count);
            slowest = slowest.max(told.took);
            match told.outcome {
                Outcome::Bits(more) => bits.extend(more),
                Outcome::Words(more) => words.extend(more),
                other => return Err(failure(&other)),
            }
        }
        let values = if span.table.is_bits() { Values::Bits(bits) } else { Values::Words(words) };
        Ok((values, slowest))
    }

    /// Reads ranges, again every so often, and shows them.
    ///
    /// # Errors
    ///
    /// The output is closed.
    pub fn watch(
        &mut self,
        spans: &[Span],
        every: Option<Duration>,
        count: Option<u32>,
    ) -> io::Result<()> {
        let mut before: Vec<Option<Values>> = vec![None; spans.len()];
        let times = count.unwrap_or(if every.is_some() { u32::MAX } else { 1 });
        let redraw = self.out.terminal && every.is_some();
        for round in 0..times {
            if round > 0 {
                sleep(every.unwrap_or(Duration::from_secs(1)));
            }
            let at = now();
            if redraw {
                // Home and clear: the table stays where it is.
                write!(io::stdout().lock(), "\x1b[H\x1b[2J")?;
            }
            if self.out.terminal {
                self.out.say(format!("{}, unit {}, {at}", self.port.wire(), self.unit))?;
            }
            for (n, span) in spans.iter().enumerate() {
                let came = self.read_all(*span);
                self.tell(*span, &at, &came, before[n].as_ref(), every.is_some())?;
                if let Ok((values, _)) = came {
                    before[n] = Some(values);
                }
            }
        }
        Ok(())
    }

    fn tell(
        &self,
        span: Span,
        at: &str,
        came: &Result<(Values, Duration), String>,
        before: Option<&Values>,
        again: bool,
    ) -> io::Result<()> {
        let (out, reading) = (self.out, self.reading);
        let name = show::name(span, reading.base);
        match came {
            Err(why) => {
                out.say(format!("{name}: {why}"))?;
                out.object(&json!({ "at": at, "unit": self.unit,
                    "table": table_name(span.table), "first": span.first, "error": why }))
            }
            Ok((values, took)) => {
                let took_ms = took.as_secs_f64() * 1_000.0;
                let mut object = show::json(span, values, reading);
                object["at"] = json!(at);
                object["unit"] = json!(self.unit);
                object["ms"] = json!((took_ms * 1_000.0).round() / 1_000.0);
                out.object(&object)?;
                if again && !out.terminal {
                    return out.say(format!("{at} {}", show::line(span, values, reading)));
                }
                let table = show::table(span, values, before, reading, out.terminal);
                out.say(format!("{}{:>9}  in {took_ms:.1} ms", table, ""))?;
                match before.and_then(|before| show::changes(span, values, before, reading)) {
                    Some(changes) => out.say(format!("  changed  {changes}")),
                    None => Ok(()),
                }
            }
        }
    }

    /// Who answers on the line, and how fast.
    ///
    /// # Errors
    ///
    /// The output is closed.
    pub fn scan_units(&mut self, units: &[u8]) -> io::Result<()> {
        let (mut there, mut refused) = (0, 0);
        for (n, unit) in units.iter().enumerate() {
            self.unit = *unit;
            self.out.progress(&format!("unit {unit}, {} of {}", n + 1, units.len()));
            let told = self.read(Table::Holding, 0, 1);
            if is_answer(&told.outcome) {
                there += 1;
                refused += u32::from(matches!(told.outcome, Outcome::Exception(_)));
                let (word, ms) = (say(&told.outcome), told.took.as_secs_f64() * 1_000.0);
                self.out.progress("");
                self.out.say(format!("unit {unit:>3}  {ms:>7.1} ms  {word}"))?;
                self.out.object(&json!({ "unit": unit, "ms": ms, "answer": word }))?;
            } else if let Outcome::NotConnected { why } = &told.outcome {
                self.out.progress("");
                self.out.say(format!("unit {unit:>3}  the line is gone: {why}"))?;
            }
            sleep(SCAN_PAUSE);
        }
        self.out.progress("");
        let only = match refused {
            0 => String::new(),
            // Some gateways refuse for units that are not there.
            some => format!(", {some} of them with an exception"),
        };
        self.out.say(format!("{there} of {} addresses answer{only}", units.len()))
    }

    /// Which addresses of a range there are.
    ///
    /// # Errors
    ///
    /// The output is closed.
    pub fn scan(&mut self, span: Span) -> io::Result<()> {
        let mut scan = Scan::new(span, span.table.read_max());
        while let Some((first, count)) = scan.next() {
            let told = self.read(span.table, first, count);
            scan.told(match told.outcome {
                Outcome::Bits(_) | Outcome::Words(_) => scan::Answer::Read,
                Outcome::Exception(code) => scan::Answer::Exception(code),
                _ => scan::Answer::Silent,
            });
            let place = show::name(span, self.reading.base);
            self.out.progress(&format!("{place}: {} %", scan.percent(span)));
            sleep(SCAN_PAUSE);
        }
        self.out.progress("");
        let mut there = 0;
        for run in scan.runs() {
            let found = Span { table: span.table, first: run.first, last: run.last };
            let name = show::name(found, self.reading.base);
            let word = match run.kind {
                Kind::There => {
                    there += found.count();
                    "there".to_owned()
                }
                Kind::Missing => continue,
                Kind::Refused(code) => show::exception(code),
                Kind::Unanswered => "no answer".to_owned(),
            };
            self.out.say(format!("{name}: {word} ({})", found.count()))?;
            self.out.object(&json!({ "unit": self.unit, "table": table_name(span.table),
                "first": run.first, "last": run.last, "is": word }))?;
        }
        let ended = scan.over().map_or(String::new(), |why| format!("; given up: {why}"));
        self.out.say(format!(
            "{}: {there} of {} there, up to {} answered in one read, {} requests{ended}",
            show::name(span, self.reading.base),
            span.count(),
            scan.answered_max(),
            scan.requests(),
        ))
    }

    /// Which profiles fit, the best first.
    ///
    /// # Errors
    ///
    /// The output is closed.
    pub fn fits(&mut self, profiles: &[&Profile]) -> io::Result<Vec<Fit>> {
        let mut known = Vec::new();
        let mut fits = Vec::new();
        for profile in profiles {
            self.out.progress(&format!("trying {}", profile.id));
            let reads = fit::reads(profile);
            let blocks = self.answers(&reads.blocks, &mut known);
            let written = reads.written.iter().map(|(block, _)| self.answer(block, &mut known));
            let written: Vec<Answer> = written.collect();
            let beyond = reads.beyond.map(|span| {
                let block =
                    Block { table: span.table, first: span.first, count: 1, parts: Vec::new() };
                self.answer(&block, &mut known)
            });
            fits.push(fit::judge(profile, &reads, &blocks, &written, beyond.as_ref()));
        }
        self.out.progress("");
        fit::rank(&mut fits);
        for fit in &fits {
            self.out.say(fit::told(fit))?;
            self.out.object(&json!({ "unit": self.unit, "profile": fit.profile,
                "fits": fit.verdict == Verdict::Fits, "reasons": fit.reasons,
                "points": fit.decoded.as_ref().map(|d| d.points.as_str()),
                "counters": fit.decoded.as_ref().map(|d| d.counters.as_slice()),
                "contacts": fit.decoded.as_ref().map(|d| d.contacts.as_str()) }))?;
        }
        Ok(fits)
    }

    fn answers(&mut self, blocks: &[Block], known: &mut Vec<(Block, Answer)>) -> Vec<Answer> {
        blocks.iter().map(|block| self.answer(block, known)).collect()
    }

    /// One block's answer; what was asked for another profile is not asked again.
    fn answer(&mut self, block: &Block, known: &mut Vec<(Block, Answer)>) -> Answer {
        let same = |other: &Block| {
            (other.table, other.first, other.count) == (block.table, block.first, block.count)
        };
        if let Some((_, answer)) = known.iter().find(|(other, _)| same(other)) {
            return answer.clone();
        }
        let told = self.read(block.table, block.first, block.count);
        let answer = match told.outcome {
            Outcome::Bits(bits) => Answer::Came(Values::Bits(bits)),
            Outcome::Words(words) => Answer::Came(Values::Words(words)),
            Outcome::Exception(code) => {
                let answered = self.prefix(block, code);
                Answer::Refused { code, answered }
            }
            _ => Answer::Nothing,
        };
        known.push((block.clone(), answer.clone()));
        answer
    }

    /// How many of a refused block's first items are answered alone: by halving, so in a few
    /// requests.
    fn prefix(&mut self, block: &Block, code: u8) -> u16 {
        if block.count == 1 || code == 1 {
            return 0;
        }
        let (mut good, mut bad) = (0, block.count);
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            let told = self.read(block.table, block.first, middle);
            match told.outcome {
                Outcome::Bits(_) | Outcome::Words(_) => good = middle,
                Outcome::Exception(_) => bad = middle,
                _ => break,
            }
        }
        good
    }

    /// What the unit answers at all, and how fast: `samples` reads of the first thing it has.
    pub fn times(&mut self, span: Option<Span>, samples: u32) -> (Times, Option<Span>) {
        let mut times = Times::default();
        let Some(span) = span.or_else(|| self.hello()) else { return (times, None) };
        for _ in 0..samples {
            let told = self.port.read_span(self.unit, span);
            if is_answer(&told.outcome) {
                times.add(told.took_us());
            } else {
                times.lost += 1;
            }
        }
        (times, Some(span))
    }

    /// Something the unit answers, if only with an exception.
    fn hello(&mut self) -> Option<Span> {
        let mut refused = None;
        for table in HELLO {
            let told = self.read(table, 0, 1);
            let span = Span { table, first: 0, last: 0 };
            match told.outcome {
                Outcome::Bits(_) | Outcome::Words(_) => return Some(span),
                Outcome::Exception(_) => refused = refused.or(Some(span)),
                _ => (),
            }
        }
        refused
    }

    /// Writes once: what was there, the write, what is there now. Whether it was confirmed.
    ///
    /// # Errors
    ///
    /// The output is closed.
    pub fn write(&mut self, change: &Change) -> io::Result<bool> {
        let count = u16::try_from(change.words.len()).unwrap_or(u16::MAX);
        let last = change.first.saturating_add(count.saturating_sub(1));
        let span = Span { table: change.table, first: change.first, last };
        let name = show::name(span, self.reading.base);
        self.report(&name, "before", span)?;
        let told = self.port.write(self.unit, change);
        self.answered |= is_answer(&told.outcome);
        let word = match &told.outcome {
            Outcome::Written => "written, confirmed by the unit".to_owned(),
            other => format!("NOT confirmed: {}; it was sent once", failure(other)),
        };
        self.out.say(format!("{name} write : {word}"))?;
        let after = self.report(&name, "after", span)?;
        let holds = after.is_none_or(|after| after == asked(change));
        if !holds {
            self.out.say(format!("{name}: the unit does not hold what was written"))?;
        }
        self.out.object(&json!({ "unit": self.unit, "table": table_name(span.table),
            "first": span.first, "written": told.outcome == Outcome::Written, "holds": holds }))?;
        Ok(told.outcome == Outcome::Written && holds)
    }

    /// Reads and shows what stands there; `None` where it cannot be read.
    fn report(&mut self, name: &str, when: &str, span: Span) -> io::Result<Option<Values>> {
        match self.read_all(span) {
            Ok((values, _)) => {
                let line = show::line(span, &values, self.reading);
                let values_only = line.strip_prefix(name).unwrap_or(&line).trim();
                self.out.say(format!("{name} {when:<6}: {values_only}"))?;
                Ok(Some(values))
            }
            Err(why) => {
                self.out.say(format!("{name} {when:<6}: cannot be read, {why}"))?;
                Ok(None)
            }
        }
    }
}

fn asked(change: &Change) -> Values {
    match change.table {
        Table::Coil => Values::Bits(change.words.iter().map(|word| *word != 0).collect()),
        _ => Values::Words(change.words.clone()),
    }
}

/// Whether a unit stands behind it. A gateway that says "nobody there" is not one.
pub fn is_answer(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Bits(_) | Outcome::Words(_) | Outcome::Written => true,
        Outcome::Exception(code) => !GATEWAY_SILENT.contains(code),
        _ => false,
    }
}

fn say(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exception(code) => show::exception(*code),
        _ => "answers".to_owned(),
    }
}

/// Why something did not come.
pub fn failure(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exception(code) => show::exception(*code),
        Outcome::Silent => "no answer in time".to_owned(),
        Outcome::Nonsense { why } => format!("an answer to something else: {why}"),
        Outcome::Closed { why } => format!(
            "the other end closed the connection ({why}): many controllers serve one master only"
        ),
        Outcome::NotConnected { why } => format!("not connected: {why}"),
        _ => "an answer of another kind".to_owned(),
    }
}

/// The wall clock, for people.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)).to_string()
}
