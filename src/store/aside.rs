//! What cannot be opened is moved away, never deleted while it is among the newest three.
//!
//! A store set aside keeps its log, its epoch and its numbers together in one folder, for `parkway
//! store export` and a person's look; the next opening then makes a new one. Snapshots that hid a
//! good log go to folders of their own. Names carry the time, but always grow.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use super::note::{self, Note};
use super::open::{Folder, sync_dir};
use crate::time::Wall;

/// Stores set aside that are kept for a later look; each may be as big as the backlog's bound.
const ASIDE_MAX: usize = 3;

/// A store that was set aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Aside {
    pub why: String,
    pub moved_to: String,
    /// What was in it, as far as is known without opening it.
    pub note: Option<Note>,
}

impl Folder {
    /// Renames the store, so that the next [`Folder::open`] makes a new one.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn set_aside(&self, why: &str, now: Wall) -> Result<Aside, String> {
        let moved_to = self.unused("set-aside-", now);
        let moved = self.path.join(&moved_to);
        let say = |error: io::Error| self.say(&error);
        if self.db().exists() {
            fs::rename(self.db(), &moved).map_err(say)?;
        }
        let note = Note::read(&self.path);
        if note.is_some() {
            fs::create_dir_all(&moved).map_err(say)?;
            fs::rename(self.path.join(note::NAME), moved.join(note::NAME)).map_err(say)?;
        }
        // After the database: in between, a kept epoch without its store is set aside again.
        if self.path.join("epoch").exists() {
            fs::create_dir_all(&moved).map_err(say)?;
            fs::rename(self.path.join("epoch"), moved.join("epoch")).map_err(say)?;
        }
        self.unmark();
        sync_dir(&self.path).map_err(say)?;
        self.forget_oldest_asides();
        Ok(Aside { why: why.to_owned(), moved_to, note })
    }

    /// Lets sled rebuild the store from its log.
    pub(super) fn move_snapshots(&self, now: Wall) {
        let aside = self.path.join(self.unused("snapshots-", now));
        for path in self.snapshots() {
            let Some(name) = path.file_name() else { continue };
            let moved =
                fs::create_dir_all(&aside).and_then(|()| fs::rename(&path, aside.join(name)));
            if moved.is_err() {
                let _ = fs::remove_file(&path);
            }
        }
        self.forget_oldest_asides();
    }

    /// Keeps the newest of what was moved away.
    fn forget_oldest_asides(&self) {
        for prefix in ["set-aside-", "snapshots-"] {
            let asides = self.asides(prefix);
            let surplus = asides.len().saturating_sub(ASIDE_MAX);
            for (_, name) in &asides[..surplus] {
                let _ = fs::remove_dir_all(self.path.join(name));
            }
        }
    }

    /// What was moved away under such names, by their number, oldest first.
    fn asides(&self, prefix: &str) -> Vec<(i64, String)> {
        let Ok(files) = fs::read_dir(&self.path) else { return Vec::new() };
        let names = files.flatten().map(|file| file.file_name().to_string_lossy().into_owned());
        let numbered = names.filter_map(|name| {
            let number = name.strip_prefix(prefix)?.split('.').next()?.parse().ok()?;
            Some((number, name))
        });
        BTreeSet::from_iter(numbered).into_iter().collect()
    }

    /// A name for what is moved away: the time, but above what is there, as the clock may go back.
    fn unused(&self, prefix: &str, now: Wall) -> String {
        let newest = self.asides(prefix).last().map_or(i64::MIN, |(number, _)| *number);
        format!("{prefix}{}", now.0.max(newest.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn only_the_newest_asides_stay() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::take(dir.path()).unwrap();
        for n in 0..5 {
            fs::create_dir_all(dir.path().join("db")).unwrap();
            folder.set_aside("test", Wall(NOW + n)).unwrap();
        }
        let left = fs::read_dir(dir.path()).unwrap().flatten();
        let names = left.map(|file| file.file_name().to_string_lossy().into_owned());
        let asides: Vec<String> = names.filter(|name| name.starts_with("set-aside-")).collect();
        assert_eq!(asides.len(), ASIDE_MAX);
        assert!(asides.contains(&format!("set-aside-{}", NOW + 4)));
    }
}
