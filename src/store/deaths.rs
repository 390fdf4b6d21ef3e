//! A marker that counts the starts that died while they opened the store.
//!
//! It is written durably before and removed after; a store that kills its reader is found out by
//! it. Deaths count by boot of the machine, since a power cut says nothing against the store.

use std::fs;
use std::io;
use std::path::Path;

use super::open::{Folder, sync_dir};

/// Starts of one boot that may die while opening, one after another, before the store is set aside.
/// More than one, because an impatient operator can hit a good store here; few, because a store
/// that kills its reader must not keep the gateway from its backlog for ever.
pub const DEATHS_MAX: u32 = 3;
/// The same over all boots. A power cut says nothing against the store, but a store that takes the
/// whole machine down with it would never reach the other bound.
const DEATHS_EVER_MAX: u32 = 12;

/// Starts that died while opening, since the last one that did not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Deaths {
    /// In this boot of the machine.
    pub boot: u32,
    pub ever: u32,
}

impl Deaths {
    /// Whether the store must not be opened once more.
    pub fn too_many(self) -> bool {
        self.boot >= DEATHS_MAX || self.ever >= DEATHS_EVER_MAX
    }

    /// What the marker in a store's folder says; none without it.
    pub fn of(folder: &Path) -> Deaths {
        match fs::read_to_string(folder.join("opening")) {
            Ok(text) => Deaths::read(&text, &boot_id()),
            Err(_) => Deaths::default(),
        }
    }

    /// `BOOT EVER BOOT_ID`; what cannot be read counts as one.
    fn read(text: &str, boot_id: &str) -> Deaths {
        let mut words = text.split_whitespace();
        let mut count = || words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
        let (boot, ever) = (count(), count());
        let this_boot = words.next() == Some(boot_id);
        Deaths { boot: if this_boot { boot } else { 0 }, ever }
    }
}

impl Folder {
    /// Counts this start as dead until [`Folder::unmark`].
    pub(super) fn mark(&self, deaths: Deaths) -> io::Result<()> {
        let text = format!("{} {} {}\n", deaths.boot + 1, deaths.ever + 1, boot_id());
        self.write_durably("opening", &text)
    }

    pub(super) fn unmark(&self) {
        // If it cannot be removed, the next start only opens with more care.
        let _ = fs::remove_file(self.path.join("opening")).and_then(|()| sync_dir(&self.path));
    }
}

/// What the kernel calls this boot; `-` where it says nothing.
pub fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = id.trim();
    if id.is_empty() { "-".to_owned() } else { id.to_owned() }
}
