//! A real durability barrier for sled, and the proof at start-up that it is the one in use.
//!
//! sled 0.34 ends each write of its log with sync_file_range(2), which neither flushes the drive's
//! cache nor commits the file's size: after a power cut, records it called flushed are gone. This
//! file defines that symbol itself, as fdatasync(2). An extra fdatasync after `flush()` is not
//! enough, because sled reuses log segments between two of them. The linker could still pick
//! the C library's symbol, so [`works`] writes something and looks whether the count moved.
#![allow(unsafe_code)]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

static BARRIERS: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    /// fdatasync(2) of the C library: 0, or -1 with `errno` set, as sled expects to find it.
    fn fdatasync(fd: i32) -> i32;
}

/// What sled calls where it needs its bytes on the disk. Offset, length and flags do not matter:
/// the whole file is made durable.
#[unsafe(no_mangle)]
pub extern "C" fn sync_file_range(fd: i32, _offset: i64, _length: i64, _flags: u32) -> i32 {
    BARRIERS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: fdatasync takes any number; one that is not an open file makes it return EBADF.
    unsafe { fdatasync(fd) }
}

/// Barriers since this process began.
pub fn count() -> u64 {
    BARRIERS.load(Ordering::Relaxed)
}

/// Whether a flush in this process reaches [`sync_file_range`] above. Uses and removes a small
/// database in `folder`; run once, before anything is called durable.
///
/// # Errors
///
/// What sled says when it cannot write there.
pub fn works(folder: &Path) -> Result<bool, sled::Error> {
    let path = folder.join("barrier-test");
    // An older one may be left from a start that was killed here.
    let _ = std::fs::remove_dir_all(&path);
    let before = count();
    {
        let db = sled::Config::new().path(&path).flush_every_ms(None).open()?;
        db.insert(b"probe", b"1")?;
        db.flush()?;
    }
    let moved = count() > before;
    let _ = std::fs::remove_dir_all(&path);
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_reaches_our_barrier() {
        let folder = tempfile::tempdir().unwrap();
        assert!(works(folder.path()).unwrap());
        assert!(count() > 0);
        assert!(!folder.path().join("barrier-test").exists());
    }
}
