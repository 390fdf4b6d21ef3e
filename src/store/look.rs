//! Looking into a store without being its daemon: what is there, what cannot be read, what left.
//!
//! Works on a copy (`copy.rs`) of any store, sound or broken. Each access to sled runs under
//! `catch_unwind`; a leaf that cannot be read is stepped over, and what lies behind it is read.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use sled::{Db, IVec, Tree};

pub use super::copy::{Copy, Place};
use super::deaths::Deaths;
use super::left::Left;
use super::note::Note;
use super::numbers::{left_key, next_key};
use super::open::said;
use super::segments;
use crate::record::Lane;
use crate::store::Chunk;

/// Numbers tried one by one behind a broken leaf, which holds some hundred records; then in
/// growing steps.
const NEAR: u64 = 1_024;

/// What stands beside the database: readable beside a live daemon too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beside {
    pub epoch: Option<u64>,
    /// Starts that died while opening it, since the last one that did not.
    pub died: u32,
    /// By lane, the number that comes next, and the lowest not delivered.
    pub numbers: Option<([u64; 3], [u64; 3])>,
}

/// An opened copy.
#[derive(Debug)]
pub struct Contents {
    /// What was done to open it, where it did not open as it was.
    pub mended: Option<&'static str>,
    pub epoch: Option<u64>,
    pub beside: Beside,
    lanes: [Tree; 3],
    kept: Tree,
    aside: Tree,
    left: [Option<Left>; 3],
    next: [u64; 3],
    _db: Db,
    _copy: Copy,
}

/// Something met on the way through a lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Met {
    Chunk(Chunk),
    /// Numbers `first..before` are there and cannot be read.
    Unreadable {
        first: u64,
        before: u64,
        why: String,
    },
    /// Numbers `first..before` are not there, and nobody was told.
    Missing {
        first: u64,
        before: u64,
    },
}

/// What stands beside the database in `folder`.
pub fn beside(folder: &std::path::Path) -> Beside {
    let epoch = fs::read_to_string(folder.join("epoch")).ok();
    let epoch = epoch.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    let note = Note::read(folder);
    let numbers = note.filter(|note| epoch.is_none_or(|epoch| epoch == note.epoch));
    let died = Deaths::of(folder).ever;
    Beside {
        died,
        epoch: epoch.or(note.map(|note| note.epoch)),
        numbers: numbers.map(|note| (note.next, note.head)),
    }
}

impl Contents {
    /// Opens a copy: as it is, else without its `conf`, else without snapshots where the log can
    /// do without; else sled would blank it and an empty store be told.
    ///
    /// # Errors
    ///
    /// What sled says when all of that fails.
    pub fn open(copy: Copy) -> Result<Contents, String> {
        let db = copy.folder().join("db");
        remove(&db, |name| name.ends_with(".generating"));
        let mut mended = None;
        let alone = segments::stands_alone(&db.join("db")).map_err(|error| error.to_string())?;
        if !alone && !has(&db, |name| name.starts_with("snap.")) {
            return Err("its snapshot is missing".to_owned());
        }
        let mut opened = trees(&copy);
        for (how, prefix) in [("without its conf", "conf"), ("without its snapshots", "snap.")] {
            if opened.is_ok() || (prefix == "snap." && !alone) {
                break;
            }
            remove(&db, |name| name.starts_with(prefix));
            mended = Some(how);
            opened = trees(&copy);
        }
        let (db, [alarms, events, aggregates, kept, aside, meta]) = opened?;
        let lanes = [alarms, events, aggregates];
        let (mut left, mut next) = ([None, None, None], [1; 3]);
        let beside = beside(copy.folder());
        for lane in Lane::ALL {
            let at = lane as usize;
            left[at] = value(&meta, &left_key(lane)).and_then(|value| Left::decode(&value));
            let floor = value(&meta, &next_key(lane)).and_then(|value| number(&value));
            let last = quietly(|| lanes[at].last()).ok().flatten();
            let last = last.map_or(0, |(key, value)| {
                let first = number(&key).unwrap_or(0);
                Chunk::decode(first, &value).map_or(first, |chunk| chunk.last)
            });
            next[at] = floor.unwrap_or(1).max(last + 1);
        }
        let epoch = value(&meta, "epoch").and_then(|value| number(&value));
        Ok(Contents { mended, epoch, beside, lanes, kept, aside, left, next, _db: db, _copy: copy })
    }

    /// The number a lane's next record would get, as far as the database itself knows.
    pub fn next(&self, lane: Lane) -> u64 {
        self.next[lane as usize]
    }

    /// The same by the note beside it, where that speaks of this store.
    pub fn noted(&self, lane: Lane) -> Option<u64> {
        let (next, _) = self.beside.numbers.filter(|_| self.epoch == self.beside.epoch)?;
        Some(next[lane as usize])
    }

    /// Kept values; and why some are not among them, if so.
    pub fn kept(&self) -> (Vec<(String, Vec<u8>)>, Option<String>) {
        let mut all: Vec<(String, Vec<u8>)> = Vec::new();
        loop {
            let after = all.last().map(|(key, _)| [key.as_bytes(), &[0]].concat());
            let after = after.unwrap_or_default();
            match quietly(|| self.kept.range(after..).next().transpose()) {
                Ok(None) => return (all, None),
                Ok(Some((key, value))) => match String::from_utf8(key.to_vec()) {
                    Ok(key) => all.push((key, value.to_vec())),
                    Err(_) => return (all, Some("a key is no text".to_owned())),
                },
                Err(why) => return (all, Some(why)),
            }
        }
    }

    /// Chunks that the daemon put aside inside the store.
    pub fn put_aside(&self) -> usize {
        self.aside.len()
    }

    /// Goes through a lane from `from` to before `before`, in order. Ends where `each` says no.
    pub fn walk(&self, lane: Lane, from: u64, before: u64, each: &mut dyn FnMut(Met) -> bool) {
        let tree = &self.lanes[lane as usize];
        let mut left = self.left[lane as usize].clone();
        let mut at = from;
        while at < before {
            let (mets, after) = match first_in(tree, at, before) {
                Ok(Some((first, value))) => {
                    // An earlier daemon kept no account: a lane begins where it begins.
                    let left = left.get_or_insert(Left::new(first));
                    let mut mets = missing(left, at, first);
                    let (met, after) = read(tree, first, before, &value);
                    mets.push(met);
                    (mets, after)
                }
                Ok(None) => {
                    let left = left.get_or_insert(Left::new(before));
                    (missing(left, at, before), before)
                }
                Err(why) => {
                    let after = readable_after(tree, at, before);
                    (vec![Met::Unreadable { first: at, before: after, why }], after)
                }
            };
            at = after;
            for met in mets {
                if !each(met) {
                    return;
                }
            }
        }
    }
}

fn missing(left: &Left, from: u64, before: u64) -> Vec<Met> {
    let spans = left.unaccounted(from, before).into_iter();
    spans.map(|(first, before)| Met::Missing { first, before }).collect()
}

/// A chunk, or how far what stands in its place reaches; and where to go on.
fn read(tree: &Tree, first: u64, before: u64, value: &IVec) -> (Met, u64) {
    if let Some(chunk) = Chunk::decode(first, value) {
        let after = chunk.last.saturating_add(1);
        return (Met::Chunk(chunk), after);
    }
    let next = first_in(tree, first + 1, before);
    let after = next.map_or(first + 1, |next| next.map_or(before, |(first, _)| first));
    let why = "not what was written".to_owned();
    (Met::Unreadable { first, before: after, why }, after)
}

/// The nearest number above `at` from where the lane can be read on; found to the number among
/// the nearest, and else not too early.
fn readable_after(tree: &Tree, at: u64, before: u64) -> u64 {
    let (mut step, mut tried) = (1, at);
    loop {
        tried = tried.saturating_add(step).min(before);
        if tried == before || first_in(tree, tried, before).is_ok() {
            return tried;
        }
        if tried - at >= NEAR {
            step *= 2;
        }
    }
}

fn first_in(tree: &Tree, from: u64, before: u64) -> Result<Option<(u64, IVec)>, String> {
    if from >= before {
        return Ok(None);
    }
    let range = from.to_be_bytes()..before.to_be_bytes();
    let found = quietly(|| tree.range(range).next().transpose())?;
    let Some((key, value)) = found else { return Ok(None) };
    let first = number(&key).ok_or("a key is no number")?;
    // Else a broken tree could lead round in a circle.
    if first < from || first >= before {
        return Err(format!("the key {first} stands among {from}..{before}"));
    }
    Ok(Some((first, value)))
}

fn trees(copy: &Copy) -> Result<(Db, [Tree; 6]), String> {
    quietly(|| {
        let config = sled::Config::new().path(copy.folder().join("db"));
        let db = config.cache_capacity(8 << 20).flush_every_ms(None).open()?;
        let [alarms, events, aggregates] = Lane::ALL.map(|lane| db.open_tree(lane.name()));
        let [kept, aside, meta] = ["kept", "aside", "meta"].map(|name| db.open_tree(name));
        Ok((db.clone(), [alarms?, events?, aggregates?, kept?, aside?, meta?]))
    })
}

fn value(meta: &Tree, key: &str) -> Option<IVec> {
    quietly(|| meta.get(key)).ok().flatten()
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// An error or a panic of sled, as words.
fn quietly<T>(work: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("sled panicked: {}", said(&*panic))),
    }
}

fn has(folder: &std::path::Path, wanted: impl Fn(&str) -> bool) -> bool {
    let mut files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.any(|file| wanted(&file.file_name().to_string_lossy()))
}

fn remove(folder: &std::path::Path, wanted: impl Fn(&str) -> bool) {
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        if wanted(&file.file_name().to_string_lossy()) {
            let _ = fs::remove_file(file.path());
        }
    }
}
