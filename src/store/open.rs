//! Opening the database so that no fault of it ends the process or looks like an empty one.
//!
//! sled 0.34 can return an error for ever after a kill, panic on a cut file, or open a cut file
//! as an empty store. So: half-made snapshots are removed, all runs under `catch_unwind`, a
//! marker counts starts that died in here, and the store's epoch is kept twice, inside and beside
//! the database; if they differ, what opened is not what was written. A cut file can also open
//! with only its beginning: so the lanes' numbers are noted beside it after each commit, without
//! a barrier, and what is missing at the end is told and its numbers are not given again. What
//! cannot be opened is renamed, never deleted while it is among the newest three, and a new store
//! takes its place.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use sled::{Db, Tree};

use super::aside::Aside;
use super::barrier;
use super::clocks::Clocks;
use super::deaths::{DEATHS_MAX, Deaths};
use super::floor;
use super::left::Left;
use super::note::Note;
use super::numbers::{bytes_key, left_of, next_number, number};
use super::segments;
use crate::record::Lane;
use crate::time::Wall;

/// sled's page cache. It is no bound in 0.34; our reads go from head to tail and stay small.
const CACHE_BYTES: u64 = 8 << 20;
/// How often sled collects segments; without it the log would only grow. Each time it syncs the
/// file once more, a twentieth of the daemon's CPU when it did so each second; and it may take up
/// to half of this time for collecting.
const FLUSH_EVERY_MS: u64 = 5_000;
/// Free space without which nothing is opened or written: sled cannot open on a full disk.
const FREE_MIN_BYTES: u64 = 64 << 20;

/// The key of [`Opened::clocks`].
pub const CLOCKS: &str = "clocks";

/// How long a database of this process that was dropped may take to let its lock go, and how
/// often to look. Some ms are usual; its last flush may wait for a slow disk.
const UNLOCK_MAX: std::time::Duration = std::time::Duration::from_secs(3);
const UNLOCK_LOOK: std::time::Duration = std::time::Duration::from_millis(10);

/// The store's folder, locked: two daemons on one store would destroy it.
#[derive(Debug)]
pub struct Folder {
    pub(super) path: PathBuf,
    _lock: File,
}

/// An open store.
#[derive(Debug)]
pub struct Opened {
    pub db: Db,
    pub lanes: [Tree; 3],
    pub kept: Tree,
    pub aside: Tree,
    pub meta: Tree,
    /// Drawn when the store was made: numbers of records mean something only with it.
    pub epoch: u64,
    /// Each lane's next number.
    pub next: [u64; 3],
    /// Each lane's bytes, as last counted.
    pub bytes: [u64; 3],
    /// By lane, which numbers have left it.
    pub left: [Left; 3],
    /// Numbers that were given and are not there: by lane, from and before.
    pub lost: Vec<(Lane, u64, u64)>,
    pub entries: Vec<(String, Vec<u8>)>,
    /// What boots' clocks were apart.
    pub clocks: Clocks,
}

/// Why a database did not open, by what to do.
enum Fault {
    /// The disk or its rights: try again later.
    Disk(String),
    /// The files: set them aside.
    Files(String),
}

impl Folder {
    /// Makes the folder if it is not there, and takes it for this process.
    ///
    /// # Errors
    ///
    /// What hinders: rights, the disk, another daemon, or barriers that are not ours.
    pub fn take(path: &Path) -> Result<Folder, String> {
        let say = |error: io::Error| format!("{}: {error}", path.display());
        fs::create_dir_all(path).map_err(say)?;
        let lock = File::create(path.join("lock")).map_err(say)?;
        lock.try_lock().map_err(|_| format!("{}: used by another process", path.display()))?;
        enough_room(path)?;
        match barrier::works(path) {
            Ok(true) => Ok(Folder { path: path.to_owned(), _lock: lock }),
            Ok(false) => Err("sled's barriers do not reach the disk in this build".to_owned()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// Opens the store; sets it aside and makes a new one where it cannot be trusted.
    ///
    /// # Errors
    ///
    /// What hinders now and may pass: rights, a full disk.
    pub fn open(&self, now: Wall) -> Result<(Opened, Option<Aside>), String> {
        enough_room(&self.path)?;
        let deaths = Deaths::of(&self.path);
        if deaths.too_many() {
            let why = format!("{} starts died while opening it", deaths.ever);
            let aside = self.set_aside(&why, now)?;
            return Ok((self.open_new(now)?, Some(aside)));
        }
        self.mark(deaths).map_err(|error| self.say(&error))?;
        let tried = self.try_ways(deaths.boot, now);
        match tried {
            Ok(opened) => {
                self.unmark();
                Ok((opened, None))
            }
            Err(Fault::Disk(why)) => {
                self.unmark();
                Err(why)
            }
            Err(Fault::Files(why)) => {
                let aside = self.set_aside(&why, now)?;
                Ok((self.open_new(now)?, Some(aside)))
            }
        }
    }

    /// Notes each lane's numbers, for the next opening.
    pub fn note(&self, note: &Note) {
        if let Err(error) = note.write(&self.path) {
            tracing::debug!(%error, "store: numbers not noted");
        }
    }

    fn noted(&self, epoch: u64) -> Option<Note> {
        Note::read(&self.path).filter(|note| note.epoch == epoch)
    }

    fn open_new(&self, now: Wall) -> Result<Opened, String> {
        self.try_ways(0, now).map_err(|fault| match fault {
            Fault::Disk(why) | Fault::Files(why) => why,
        })
    }

    /// Once as it is, once more with a new `conf`, and at last without its snapshots where the log
    /// tells all that they do. `died` starts have ended in here before; the last one allowed begins
    /// with the last way.
    fn try_ways(&self, died: u32, now: Wall) -> Result<Opened, Fault> {
        let disk = |error: io::Error| Fault::Disk(self.say(&error));
        self.wait_for_the_last().map_err(disk)?;
        self.remove_half_snapshots();
        let alone = segments::stands_alone(&self.db().join("db")).map_err(disk)?;
        if !alone && self.snapshots().is_empty() {
            // sled would blank the log; as it is, a later look may still find something.
            return Err(Fault::Files("its snapshot is missing".to_owned()));
        }
        if died + 1 < DEATHS_MAX || !alone {
            let why = match self.try_once() {
                Err(Fault::Files(why)) => why,
                other => return other,
            };
            // It says nothing that sled would not write again; a broken one hides a good log.
            tracing::warn!(why, "store: opening with a new conf");
            let _ = fs::remove_file(self.db().join("conf"));
            match self.try_once() {
                Err(Fault::Files(why)) if alone => {
                    tracing::warn!(why, "store: opening without snapshots");
                }
                other => return other,
            }
        }
        self.move_snapshots(now);
        self.try_once()
    }

    fn try_once(&self) -> Result<Opened, Fault> {
        let opened = catch_unwind(AssertUnwindSafe(|| self.open_trees()));
        match opened {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(error)) => Err(self.judge(error)),
            Err(panic) => Err(Fault::Files(format!("sled panicked: {}", said(&*panic)))),
        }
    }

    fn open_trees(&self) -> Result<Opened, sled::Error> {
        self.sync_log()?;
        let db = self.open_db()?;
        // A snapshot that sled made has taken the place of another, by names alone.
        sync_dir(&self.db())?;
        let meta = db.open_tree("meta")?;
        let lanes = [
            db.open_tree(Lane::Alarms.name())?,
            db.open_tree(Lane::Events.name())?,
            db.open_tree(Lane::Aggregates.name())?,
        ];
        let kept = db.open_tree("kept")?;
        let aside = db.open_tree("aside")?;
        let epoch = self.epoch(&db, &meta)?;
        let mut next = [1; 3];
        let mut bytes = [0; 3];
        for lane in Lane::ALL {
            let tree = &lanes[lane as usize];
            next[lane as usize] = next_number(tree, &meta, lane)?;
            if !tree.is_empty() {
                bytes[lane as usize] = number(&meta, &bytes_key(lane))?.unwrap_or(0);
            }
        }
        let mut entries = Vec::new();
        for entry in kept.iter() {
            let (key, value) = entry?;
            if let Ok(key) = std::str::from_utf8(&key) {
                entries.push((key.to_owned(), value.to_vec()));
            }
        }
        let mut lost = Vec::new();
        let mut left = [1; 3].map(Left::new);
        let noted = self.noted(epoch);
        for lane in Lane::ALL {
            let at = lane as usize;
            left[at] = left_of(&lanes[at], &meta, lane, next[at])?;
            let Some(noted) = noted else { continue };
            // A file that lost its end has forgotten deliveries too.
            left[at].leave(0, noted.head[at]);
            if next[at] < noted.next[at] {
                lost.push((lane, next[at], noted.next[at]));
                next[at] = noted.next[at];
            }
        }
        let clocks = meta.get(CLOCKS)?.map_or_else(Clocks::default, |v| Clocks::decode(&v));
        Ok(Opened { db, lanes, kept, aside, meta, epoch, next, bytes, left, lost, entries, clocks })
    }

    /// Waits for a database of this process that was dropped: it keeps its lock until sled's
    /// threads have ended, and writes until then. Since the folder is ours alone, a held lock can
    /// only be that, and passes.
    fn wait_for_the_last(&self) -> io::Result<()> {
        let file = match File::open(self.db().join("db")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let began = std::time::Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if began.elapsed() < UNLOCK_MAX => {
                    std::thread::sleep(UNLOCK_LOOK);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(io::Error::other(
                        "the store before it has not let go of its files",
                    ));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    fn open_db(&self) -> Result<Db, sled::Error> {
        self.wait_for_the_last()?;
        sled::Config::new()
            .path(self.db())
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(FLUSH_EVERY_MS))
            .open()
    }

    /// The store's epoch; an error where what opened is not what was written.
    fn epoch(&self, db: &Db, meta: &Tree) -> Result<u64, sled::Error> {
        let inside = number(meta, "epoch")?;
        let beside = fs::read_to_string(self.path.join("epoch")).ok();
        let beside = beside.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
        match (inside, beside) {
            (Some(inside), Some(beside)) if inside == beside => Ok(inside),
            // Made by a start that was killed before it wrote the file; or the file is broken,
            // which the note beside it tells from a store that is not ours.
            (Some(inside), beside) if beside.is_none() || self.noted(inside).is_some() => {
                self.keep_epoch(inside)?;
                Ok(inside)
            }
            (None, None) => {
                let epoch = random();
                meta.insert("epoch", &epoch.to_be_bytes())?;
                db.flush()?;
                self.keep_epoch(epoch)?;
                Ok(epoch)
            }
            (None, Some(_)) => {
                Err(sled::Error::ReportableBug("the store came back empty".to_owned()))
            }
            (Some(_), _) => {
                Err(sled::Error::ReportableBug("this is not the store used before".to_owned()))
            }
        }
    }

    /// Makes the log durable as it is. After a kill its end may be in the page cache only; sled
    /// would count it in, and what was sent upstream by its word could be gone after a power cut.
    fn sync_log(&self) -> io::Result<()> {
        match File::open(self.db().join("db")) {
            Ok(file) => file.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// sled makes its files durable but not their names.
    fn sync_new(&self) -> io::Result<()> {
        for name in ["conf", "db"] {
            File::open(self.db().join(name))?.sync_all()?;
        }
        sync_dir(&self.db())?;
        sync_dir(&self.path)?;
        self.path.parent().map_or(Ok(()), sync_dir)
    }

    /// After this the store counts as made, so its files come first: an epoch whose store a power
    /// cut took back would look like a store that lost everything.
    fn keep_epoch(&self, epoch: u64) -> io::Result<()> {
        self.sync_new()?;
        self.write_durably("epoch", &format!("{epoch:016x}\n"))
    }

    fn judge(&self, error: sled::Error) -> Fault {
        match error {
            sled::Error::Io(error)
                if !matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
                ) =>
            {
                Fault::Disk(self.say(&error))
            }
            other => Fault::Files(other.to_string()),
        }
    }

    pub(super) fn write_durably(&self, name: &str, text: &str) -> io::Result<()> {
        let new = self.path.join(format!("{name}.new"));
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(new, self.path.join(name))?;
        sync_dir(&self.path)
    }

    fn remove_half_snapshots(&self) {
        for path in self.snapshots() {
            if path.extension().is_some_and(|end| end == "generating") {
                tracing::info!(file = %path.display(), "store: removing a half-made snapshot");
                let _ = fs::remove_file(path);
            }
        }
    }

    pub(super) fn snapshots(&self) -> Vec<PathBuf> {
        let Ok(files) = fs::read_dir(self.db()) else { return Vec::new() };
        let paths = files.flatten().map(|file| file.path());
        let snapshot = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap."))
        };
        paths.filter(snapshot).collect()
    }

    pub(super) fn db(&self) -> PathBuf {
        self.path.join("db")
    }

    pub(super) fn say(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.path.display())
    }
}

/// Refuses to touch a disk that is nearly full.
///
/// # Errors
///
/// How little is left, or what the disk says.
pub fn enough_room(path: &Path) -> Result<(), String> {
    let free = floor::free_bytes(path)?;
    if free < FREE_MIN_BYTES {
        let mib = free >> 20;
        return Err(format!("{}: only {mib} MiB left on the disk", path.display()));
    }
    Ok(())
}

/// What a panic said.
pub fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

pub fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without the kernel's random numbers, the process id and the time still differ between stores.
    if getrandom::fill(&mut bytes).is_err() {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let mixed = (time.tv_nsec as u64) << 32 | u64::from(std::process::id());
        return mixed ^ (time.tv_sec as u64).rotate_left(17);
    }
    u64::from_be_bytes(bytes)
}

pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::deaths::boot_id;
    use super::super::look;
    use super::*;

    const NOW: Wall = Wall(1_700_000_000_000);

    #[test]
    fn a_store_keeps_its_epoch_and_values() {
        let dir = tempfile::tempdir().unwrap();
        let epoch = filled(dir.path());
        let (opened, aside) = Folder::take(dir.path()).unwrap().open(NOW).unwrap();
        assert_eq!((opened.epoch, aside), (epoch, None));
        assert_eq!(opened.entries, [("lease/1".to_owned(), b"{}".to_vec())]);
        assert!(!dir.path().join("opening").exists());
    }

    #[test]
    fn a_second_daemon_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Folder::take(dir.path()).unwrap();
        let why = Folder::take(dir.path()).unwrap_err();
        assert!(why.contains("another process"), "{why}");
    }

    #[test]
    fn a_half_made_snapshot_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let epoch = filled(dir.path());
        let name = "db/snap.00000000000FFFFF.generating";
        fs::write(dir.path().join(name), b"cut").unwrap();
        let (opened, aside) = Folder::take(dir.path()).unwrap().open(NOW).unwrap();
        assert_eq!((opened.epoch, aside), (epoch, None));
    }

    #[test]
    fn a_store_that_came_back_empty_is_not_taken_for_new() {
        let dir = tempfile::tempdir().unwrap();
        let epoch = filled(dir.path());
        fs::remove_dir_all(dir.path().join("db")).unwrap();
        let (opened, aside) = Folder::take(dir.path()).unwrap().open(NOW).unwrap();
        assert_ne!(opened.epoch, epoch);
        assert!(aside.unwrap().why.contains("empty"));
    }

    #[test]
    fn three_deaths_of_one_boot_set_it_aside_and_two_or_power_cuts_do_not() {
        let (here, other) = (boot_id(), "another-boot");
        let cases = [(1, 1, &*here, true), (2, 2, &here, true), (9, 11, other, true)];
        for (boot, ever, id, kept) in
            cases.into_iter().chain([(3, 3, &*here, false), (1, 12, other, false)])
        {
            let dir = tempfile::tempdir().unwrap();
            let epoch = filled(dir.path());
            fs::write(dir.path().join("opening"), format!("{boot} {ever} {id}\n")).unwrap();
            let (opened, aside) = Folder::take(dir.path()).unwrap().open(NOW).unwrap();
            assert_eq!(
                (opened.epoch == epoch, aside.is_none()),
                (kept, kept),
                "{boot} {ever} {id}"
            );
            assert!(!dir.path().join("opening").exists());
            if let Some(aside) = aside {
                let db = dir.path().join(aside.moved_to).join("db");
                assert!(db.exists(), "nothing kept for a later look");
            }
        }
    }

    /// What three starts killed while opening a nearly drained store did once: the snapshot was
    /// moved away although nothing else told what was alive.
    #[test]
    fn a_snapshot_that_alone_tells_what_is_alive_is_never_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let epoch = drained(dir.path());
        let log = dir.path().join("db/db");
        assert!(!segments::stands_alone(&log).unwrap(), "not the case that is meant");
        for boot in 1..DEATHS_MAX {
            fs::write(dir.path().join("opening"), format!("{boot} {boot} {}\n", boot_id()))
                .unwrap();
            let (opened, aside) = Folder::take(dir.path()).unwrap().open(NOW).unwrap();
            assert_eq!((opened.epoch, aside), (epoch, None), "after {boot} deaths");
            assert_eq!(opened.entries.len(), 1, "after {boot} deaths");
        }
        for path in Folder::take(dir.path()).unwrap().snapshots() {
            fs::remove_file(path).unwrap();
        }
        let before = fs::read(&log).unwrap();
        let (_, aside) = Folder::take(dir.path()).unwrap().open(NOW).unwrap();
        let aside = aside.unwrap();
        assert!(aside.why.contains("snapshot"), "{aside:?}");
        let moved_to = dir.path().join(aside.moved_to);
        let after = fs::read(moved_to.join("db")).unwrap();
        assert!(before == after, "what could have been looked at was blanked");
        // Nor is it told as a store in which nothing waits.
        let copy = look::Place::find(&moved_to).unwrap().copy(dir.path()).unwrap();
        let why = look::Contents::open(copy).unwrap_err();
        assert!(why.contains("snapshot"), "{why}");
    }

    /// Every cut and many flips of each file: it opens, as the same store or as a new one that
    /// says so.
    #[test]
    fn broken_files_never_stop_it() {
        for (file, keep) in [("db", 0), ("db", 4_096), ("db", 100_000), ("conf", 0), ("conf", 9)] {
            let dir = tempfile::tempdir().unwrap();
            let epoch = filled(dir.path());
            let path = dir.path().join("db").join(file);
            File::options().write(true).open(path).unwrap().set_len(keep).unwrap();
            let (opened, aside) = Folder::take(dir.path()).unwrap().open(NOW).unwrap();
            assert_eq!(opened.epoch == epoch, aside.is_none(), "{file} cut to {keep}");
            if opened.epoch == epoch {
                assert_eq!(opened.entries.len(), 1, "{file} cut to {keep} lost a value silently");
            }
        }
    }

    /// A store with one kept value, closed cleanly.
    fn filled(path: &Path) -> u64 {
        let folder = Folder::take(path).unwrap();
        let (opened, aside) = folder.open(NOW).unwrap();
        assert_eq!(aside, None);
        opened.kept.insert("lease/1", b"{}").unwrap();
        opened.db.flush().unwrap();
        opened.epoch
    }

    /// A store as kills left it, filled and drained until its log cannot do without its snapshot:
    /// what an open one has on the disk is what a kill leaves.
    fn drained(path: &Path) -> u64 {
        let epoch = filled(path);
        let folder = Folder::take(path).unwrap();
        for round in 0..400_u32 {
            let (opened, _) = folder.open(NOW).unwrap();
            let count = (round * 37) % 600;
            for n in 0..count {
                opened.lanes[1].insert(n.to_be_bytes(), vec![round as u8; 900]).unwrap();
            }
            for n in 0..count {
                opened.lanes[1].remove(n.to_be_bytes()).unwrap();
            }
            opened.db.flush().unwrap();
            let killed = tempfile::tempdir().unwrap();
            for file in fs::read_dir(path.join("db")).unwrap().flatten() {
                if file.path().is_file() {
                    let _ = fs::copy(file.path(), killed.path().join(file.file_name()));
                }
            }
            drop(opened);
            folder.wait_for_the_last().unwrap();
            fs::remove_dir_all(path.join("db")).unwrap();
            fs::rename(killed.keep(), path.join("db")).unwrap();
            if !segments::stands_alone(&path.join("db/db")).unwrap() {
                return epoch;
            }
        }
        panic!("sled kept its last stable segment each time");
    }
}
