//! A copy of a store's files to look into: beside a live daemon and on a dead store alike.
//!
//! sled locks its files and writes to them even when it only opens, so nobody looks into a store
//! itself: the files are copied, and the original is never changed. Beside a live daemon the copy
//! may be torn, since sled goes on writing; what stands beside the database is copied first and
//! then says at most as much as the database. The copy goes when this goes.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Room that must be left where the copy lies: sled writes there while it opens.
const SPARE_BYTES: u64 = 64 << 20;
/// Files are as many as a store of ours can have; more is not a store.
const FILES_MAX: usize = 10_000;

/// A store's folder, or one that was set aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub folder: PathBuf,
    /// Where sled's own files are.
    db: PathBuf,
    /// Whether another process holds it now.
    pub live: bool,
}

/// A private copy, removed with this.
#[derive(Debug)]
pub struct Copy {
    folder: PathBuf,
    pub bytes: u64,
}

impl Place {
    /// Finds the store in `folder`.
    ///
    /// # Errors
    ///
    /// That there is none, or what the disk says.
    pub fn find(folder: &Path) -> Result<Place, String> {
        let within = folder.join("db");
        let kind = fs::metadata(&within).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("{}: no store in it", folder.display()),
            _ => format!("{}: {error}", within.display()),
        })?;
        // A store that was set aside is sled's folder itself, with what stood beside it.
        let db = if kind.is_dir() { within } else { folder.to_owned() };
        Ok(Place { folder: folder.to_owned(), db, live: held(folder) })
    }

    /// Copies it to a new folder within `scratch`.
    ///
    /// # Errors
    ///
    /// Too little room there, or what the disk says.
    pub fn copy(&self, scratch: &Path) -> Result<Copy, String> {
        let files = self.files()?;
        let bytes = files.iter().map(|(_, _, bytes)| bytes).sum();
        enough(scratch, bytes)?;
        let folder = scratch.join(format!("parkway-store-{:016x}", super::open::random()));
        let say = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        let private = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        private(&folder).map_err(|error| say(&folder, error))?;
        let copy = Copy { folder, bytes };
        for (from, name, _) in files {
            let to = copy.folder.join(name);
            let parent = to.parent().unwrap_or(&copy.folder);
            private(parent).map_err(|error| say(parent, error))?;
            match fs::copy(&from, &to) {
                // sled replaces its snapshots.
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.live => (),
                Err(error) => return Err(say(&from, error)),
                Ok(_) => (),
            }
        }
        Ok(copy)
    }

    /// What there is: where, under which name in the copy, how big; the log last.
    fn files(&self) -> Result<Vec<(PathBuf, PathBuf, u64)>, String> {
        let mut found = Vec::new();
        for name in ["epoch", super::note::NAME] {
            let path = self.folder.join(name);
            if let Ok(about) = fs::metadata(&path) {
                found.push((path, PathBuf::from(name), about.len()));
            }
        }
        let mut own = Vec::new();
        for folder in [self.db.clone(), self.db.join("blobs")] {
            let listed = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                listed => listed.map_err(|error| format!("{}: {error}", folder.display()))?,
            };
            for file in listed.flatten().take(FILES_MAX) {
                let path = file.path();
                let Ok(about) = fs::symlink_metadata(&path) else { continue };
                let Ok(name) = path.strip_prefix(&self.db) else { continue };
                let ours = ["epoch", super::note::NAME].iter().any(|ours| name == Path::new(ours));
                if about.is_file() && !ours {
                    own.push((path.clone(), Path::new("db").join(name), about.len()));
                }
            }
        }
        own.sort_by_key(|(_, name, _)| (name == Path::new("db/db"), name.clone()));
        found.extend(own);
        Ok(found)
    }

    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files().unwrap_or_default().iter().map(|(_, _, bytes)| bytes).sum()
    }
}

impl Copy {
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed lies in the system's own temporary folder.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether a daemon holds the folder. Asked by a lock of our own, for a moment.
fn held(folder: &Path) -> bool {
    let Ok(lock) = File::open(folder.join("lock")) else { return false };
    matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
}

fn enough(scratch: &Path, bytes: u64) -> Result<(), String> {
    let say = |error| format!("{}: {error}", scratch.display());
    let stat = rustix::fs::statvfs(scratch).map_err(say)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < bytes + SPARE_BYTES {
        return Err(format!(
            "{}: {} MiB free, but a copy takes {} MiB and {} MiB to spare; name another folder",
            scratch.display(),
            free >> 20,
            bytes.div_ceil(1 << 20),
            SPARE_BYTES >> 20,
        ));
    }
    Ok(())
}
