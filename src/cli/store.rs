//! `parkway store`: what a store holds, whether all of it can be read, and the records themselves.
//!
//! For a technician beside a running gateway, and for whoever has a dead store on a desk. `status`
//! asks the gateway and reads what stands beside the database; `check` and `export` look into a
//! private copy. Nothing in a store's folder is ever changed.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::{status, token_in};
use crate::record::Lane;
use crate::run::USAGE;
use crate::store::Chunk;
use crate::store::look::{self, Contents, Met, Place};
use crate::time::Wall;

/// Copies made of a live store until one is whole.
const COPIES_MAX: usize = 3;
/// Damaged spans named by lane; the rest is counted.
const NAMED_MAX: usize = 20;
/// Kept fields that no export shows, though they are only hashes.
const WITHHELD: &[&str] = &["vehicle", "plate", "tail"];

#[derive(Subcommand, Debug)]
pub enum Store {
    /// What the gateway says of its store, and what stands beside the database
    Status {
        #[command(flatten)]
        of: Of,
        /// The gateway's address
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
        http: String,
        /// File with the bearer token, where the gateway asks for one
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Read all of a copy: 0 sound, 1 damaged, 64 bad usage or no store
    Check {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        copied: Copied,
    },
    /// Write its waiting records as lines of JSON: 0 all read, 1 some not, 64 bad usage or no store
    Export(Export),
}

#[derive(Args, Debug)]
pub struct Of {
    /// The store's folder, or a set-aside-… one; else $STATE_DIRECTORY/store, else
    /// /var/lib/parkway/store
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Copied {
    /// Where the copy is made; the system's folder for temporary files where absent
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct Export {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    copied: Copied,
    /// Write here instead of to standard output; must not exist
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only this lane: alarms, events or aggregates
    #[arg(long, value_parser = lane)]
    lane: Option<Lane>,
    /// Only records from this number on
    #[arg(long, value_name = "SEQ", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..))]
    from: u64,
    /// Only records up to this number
    #[arg(long, value_name = "SEQ", default_value_t = u64::MAX - 1, hide_default_value = true)]
    to: u64,
    /// The values kept over restarts too: leases, closures, sign modes
    #[arg(long)]
    kept: bool,
}

fn lane(word: &str) -> Result<Lane, String> {
    let found = Lane::ALL.into_iter().find(|lane| lane.name() == word);
    found.ok_or_else(|| "no lane; there are alarms, events, aggregates".to_owned())
}

/// Does what was asked; says why it could not.
pub fn run(store: &Store) -> ExitCode {
    let done = match store {
        Store::Status { of, http, token_file } => match token_in(token_file.as_deref()) {
            Ok(token) => Ok(tell_status(&of.folder(), http, token.as_deref())),
            Err(code) => return code,
        },
        Store::Check { of, copied } => check(&of.folder(), &copied.scratch()),
        Store::Export(export) => export.run(),
    };
    done.unwrap_or_else(|failure| {
        let (code, why) = match failure {
            Failure::Usage(why) => (ExitCode::from(USAGE), why),
            Failure::Failed(why) => (ExitCode::FAILURE, why),
        };
        eprintln!("parkway: {why}");
        code
    })
}

enum Failure {
    Usage(String),
    Failed(String),
}

impl Of {
    fn folder(&self) -> PathBuf {
        self.folder.clone().unwrap_or_else(crate::run::packaged_store)
    }
}

impl Copied {
    fn scratch(&self) -> PathBuf {
        self.scratch.clone().unwrap_or_else(std::env::temp_dir)
    }
}

fn tell_status(folder: &Path, http: &str, token: Option<&str>) -> ExitCode {
    let told = status::store(http, token);
    match &told {
        Ok(text) => print!("{text}"),
        Err(error) => eprintln!("parkway: {error}"),
    }
    let found = Place::find(folder);
    match &found {
        Ok(place) => print!("{}", beside(place)),
        Err(why) => eprintln!("parkway: {why}"),
    }
    if told.is_ok() || found.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What can be told of a store without opening it.
fn beside(place: &Place) -> String {
    let mut out = String::new();
    let held = if place.live { ", held by a process" } else { ", held by nobody" };
    let folder = place.folder.display();
    let _ = writeln!(out, "folder     {folder}: {}{held}", mib(place.bytes()));
    let beside = look::beside(&place.folder);
    let epoch = beside.epoch.map_or("none".to_owned(), |epoch| format!("{epoch:016x}"));
    let _ = writeln!(out, "noted      epoch {epoch}");
    for lane in Lane::ALL {
        let Some((next, head)) = beside.numbers else { break };
        let (next, head) = (next[lane as usize], head[lane as usize]);
        let waiting = next.saturating_sub(head);
        let _ = writeln!(out, "           {} next {next}, {waiting} not delivered", lane.name());
    }
    if beside.died > 0 {
        let _ = writeln!(out, "opening    {} starts did not end it", beside.died);
    }
    asides(&place.folder, &mut out);
    out
}

/// Stores set aside in the same folder.
fn asides(folder: &Path, out: &mut String) {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = files.map(|file| file.file_name()).collect();
    names.sort();
    for name in names.iter().filter(|name| name.to_string_lossy().starts_with("set-aside-")) {
        let place = Place::find(&folder.join(name));
        let size = place.map_or("empty".to_owned(), |place| mib(place.bytes()));
        let _ = writeln!(out, "aside      {}: {size}", name.to_string_lossy());
    }
}

/// Opens a copy; of a live store several, until one is whole.
fn open(folder: &Path, scratch: &Path) -> Result<(Place, Contents), Failure> {
    let place = Place::find(folder).map_err(Failure::Usage)?;
    silence_sled();
    let copies = if place.live { COPIES_MAX } else { 1 };
    let mut why = String::new();
    for copy in 1..=copies {
        let copied = place.copy(scratch).map_err(Failure::Failed)?;
        let beside =
            if place.live { " beside a live gateway: its newest may be cut off" } else { "" };
        let size = mib(copied.bytes);
        eprintln!("parkway: {} copied to {}, {size}{beside}", folder.display(), scratch.display());
        match Contents::open(copied) {
            // A copy of a moving file may look broken; another one hardly does at the same place.
            Ok(contents) if copy == copies || whole(&contents) => return Ok((place, contents)),
            Ok(_) => why = "it was torn while it was copied".to_owned(),
            Err(error) => why = error,
        }
    }
    Err(Failure::Failed(format!("{}: its copy does not open: {why}", folder.display())))
}

fn whole(contents: &Contents) -> bool {
    Lane::ALL.into_iter().all(|lane| Survey::of(contents, lane).damage.is_empty())
}

/// A broken store makes sled panic; that is told in our words.
fn silence_sled() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|at| at.file().contains("sled-")) {
            before(panic);
        }
    }));
}

/// One lane, read through.
#[derive(Default)]
struct Survey {
    first: Option<u64>,
    last: u64,
    records: u64,
    /// What they stand for: more where old windows were merged.
    numbers: u64,
    chunks: u64,
    bytes: u64,
    oldest: Option<Wall>,
    unreadable: u64,
    damage: Vec<String>,
}

impl Survey {
    fn of(contents: &Contents, lane: Lane) -> Survey {
        let mut survey = Survey::default();
        contents.walk(lane, 0, contents.next(lane), &mut |met| {
            survey.meet(met);
            true
        });
        survey
    }

    fn meet(&mut self, met: Met) {
        match met {
            Met::Chunk(chunk) => {
                self.first.get_or_insert(chunk.first);
                self.oldest.get_or_insert(chunk.at);
                self.last = chunk.last;
                self.records += u64::from(chunk.count);
                self.numbers += chunk.last - chunk.first + 1;
                self.chunks += 1;
                self.bytes += chunk.stored_bytes();
            }
            Met::Unreadable { first, before, why } => {
                self.unreadable += 1;
                self.damage.push(format!("UNREADABLE {first}..={}: {why}", before - 1));
            }
            Met::Missing { first, before } => {
                let (count, last) = (before - first, before - 1);
                self.damage.push(format!("MISSING {first}..={last}: {count} never told as gone"));
            }
        }
    }

    fn tell(&self, lane: Lane, out: &mut String) {
        let span = match (self.first, self.oldest) {
            (Some(first), Some(oldest)) => {
                let merged = match self.numbers - self.records {
                    0 => String::new(),
                    _ => format!(" merged from {}", self.numbers),
                };
                let Survey { last, records, chunks, bytes, .. } = self;
                format!(
                    "{first}..={last}: {records} records{merged} in {chunks} chunks, {bytes} \
                     bytes, the oldest of {oldest}"
                )
            }
            _ => "nothing waits".to_owned(),
        };
        let _ = writeln!(out, "{:<11}{span}; {} unreadable", lane.name(), self.unreadable);
        for damage in self.damage.iter().take(NAMED_MAX) {
            let _ = writeln!(out, "           {damage}");
        }
        if self.damage.len() > NAMED_MAX {
            let _ = writeln!(out, "           and {} more", self.damage.len() - NAMED_MAX);
        }
    }
}

fn check(folder: &Path, scratch: &Path) -> Result<ExitCode, Failure> {
    let (place, contents) = open(folder, scratch)?;
    let (mut out, mut faults) = (String::new(), Vec::new());
    let hex = |epoch: Option<u64>| epoch.map_or("none".to_owned(), |epoch| format!("{epoch:016x}"));
    let (inside, beside) = (hex(contents.epoch), hex(contents.beside.epoch));
    let _ = writeln!(out, "epoch      {inside} inside, {beside} beside");
    if contents.epoch.is_none() || contents.epoch != contents.beside.epoch {
        faults.push("the epochs differ".to_owned());
    }
    if let Some(how) = contents.mended {
        faults.push(format!("it opens only {how}"));
    }
    for lane in Lane::ALL {
        let mut survey = Survey::of(&contents, lane);
        let (next, noted) = (contents.next(lane), contents.noted(lane).unwrap_or(0));
        // The tail of a live store's copy may be cut off; that of a closed one may not.
        if next < noted && !place.live {
            survey.damage.push(format!("MISSING {next}..={}: the end is cut off", noted - 1));
        }
        survey.tell(lane, &mut out);
        if !survey.damage.is_empty() {
            faults.push(format!("{} damaged spans of {}", survey.damage.len(), lane.name()));
        }
    }
    let (kept, unreadable) = contents.kept();
    let _ = writeln!(out, "kept       {} values", kept.len());
    faults.extend(unreadable.map(|why| format!("kept values after {}: {why}", kept.len())));
    let _ = writeln!(out, "put aside  {} chunks inside", contents.put_aside());
    asides(&place.folder, &mut out);
    let sound = faults.is_empty();
    let _ = match sound {
        true => writeln!(out, "sound"),
        false => writeln!(out, "DAMAGED: {}", faults.join("; ")),
    };
    print!("{out}");
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Export {
    fn run(&self) -> Result<ExitCode, Failure> {
        if self.from > self.to {
            let why = format!("--from {} is above --to {}", self.from, self.to);
            return Err(Failure::Usage(why));
        }
        let out: Box<dyn Write> =
            match &self.out {
                None => Box::new(io::stdout().lock()),
                Some(path) => Box::new(File::create_new(path).map_err(|error| {
                    Failure::Usage(format!("--out {}: {error}", path.display()))
                })?),
            };
        let (_, contents) = open(&self.of.folder(), &self.copied.scratch())?;
        let mut sink = Sink { out: BufWriter::new(out), failed: None, lines: 0, bad: 0 };
        for lane in Lane::ALL {
            if self.lane.is_none_or(|only| only == lane) {
                self.lane(&contents, lane, &mut sink);
            }
        }
        if self.kept {
            kept(&contents, &mut sink);
        }
        let flushed = sink.out.flush();
        match sink.failed.or(flushed.err()) {
            // Whoever read it has enough.
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(ExitCode::SUCCESS);
            }
            Some(error) => return Err(Failure::Failed(format!("writing failed: {error}"))),
            None => (),
        }
        eprintln!(
            "parkway: {} lines written, {} unreadable or missing spans",
            sink.lines, sink.bad
        );
        Ok(if sink.bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn lane(&self, contents: &Contents, lane: Lane, sink: &mut Sink) {
        let before = contents.next(lane);
        let epoch = contents.epoch.map(|epoch| format!("{epoch:016x}"));
        // From the lane's beginning: the chunk that holds --from may begin before it.
        contents.walk(lane, 0, before, &mut |met| {
            let span = |first: u64, before: u64| first <= self.to && before > self.from;
            match met {
                Met::Chunk(chunk) if chunk.first > self.to => return false,
                Met::Chunk(chunk) if chunk.last < self.from => (),
                Met::Chunk(chunk) => self.chunk(&chunk, lane, epoch.as_deref(), sink),
                Met::Unreadable { first, before, why } if span(first, before) => {
                    let (lane, last) = (lane.name(), before - 1);
                    sink.bad(&format!("{lane} {first}..={last} unreadable: {why}"));
                }
                Met::Missing { first, before } if span(first, before) => {
                    sink.bad(&format!("{} {first}..={} missing", lane.name(), before - 1));
                }
                Met::Unreadable { .. } | Met::Missing { .. } => (),
            }
            sink.failed.is_none()
        });
    }

    fn chunk(&self, chunk: &Chunk, lane: Lane, epoch: Option<&str>, sink: &mut Sink) {
        let Ok(records) = serde_json::from_str::<Vec<Map<String, Value>>>(&chunk.json) else {
            sink.bad(&format!("{} {}..={} is no JSON", lane.name(), chunk.first, chunk.last));
            return;
        };
        for mut record in records {
            let seq = record.get("seq").and_then(Value::as_u64).unwrap_or(0);
            // A merged record stands for all that it covers.
            let first = record.get("covers").and_then(|covers| covers[0].as_u64()).unwrap_or(seq);
            if first <= self.to && seq >= self.from {
                record.insert("epoch".to_owned(), epoch.into());
                record.insert("lane".to_owned(), lane.name().into());
                record.insert("boot".to_owned(), chunk.boot.as_str().into());
                sink.line(&record);
            }
        }
    }
}

fn kept(contents: &Contents, sink: &mut Sink) {
    let (values, unreadable) = contents.kept();
    for (key, value) in values {
        let Ok(mut value) = serde_json::from_slice::<Value>(&value) else {
            sink.bad(&format!("kept {key} is no JSON"));
            continue;
        };
        withhold(&mut value);
        sink.line(&Map::from_iter([("kept".to_owned(), key.into()), ("value".to_owned(), value)]));
    }
    if let Some(why) = unreadable {
        sink.bad(&format!("further kept values are unreadable: {why}"));
    }
}

/// Puts a null in the place of whatever tells one vehicle from another.
fn withhold(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if WITHHELD.contains(&name.as_str()) {
                    *field = Value::Null;
                }
                withhold(field);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(withhold),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

/// Where lines go, and what went wrong on the way.
struct Sink {
    out: BufWriter<Box<dyn Write>>,
    failed: Option<io::Error>,
    lines: u64,
    bad: u64,
}

impl Sink {
    fn line(&mut self, fields: &Map<String, Value>) {
        let written = serde_json::to_writer(&mut self.out, fields).map_err(io::Error::from);
        match written.and_then(|()| self.out.write_all(b"\n")) {
            Ok(()) => self.lines += 1,
            Err(error) => self.failed = self.failed.take().or(Some(error)),
        }
    }

    fn bad(&mut self, what: &str) {
        self.bad += 1;
        eprintln!("parkway: {what}");
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_that_tells_vehicles_apart_is_shown() {
        let mut value = json!({"vehicle": 7, "life": [{"plate": "A1", "moves": 1}], "tail": "23"});
        withhold(&mut value);
        assert_eq!(
            value,
            json!({"vehicle": null, "life": [{"plate": null, "moves": 1}], "tail": null})
        );
    }

    #[test]
    fn a_lane_has_a_name() {
        assert_eq!(lane("events"), Ok(Lane::Events));
        assert!(lane("bays").unwrap_err().contains("alarms, events, aggregates"));
    }
}
