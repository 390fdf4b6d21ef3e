//! What a power cut could have left of files, from the record of what was done to them.
//!
//! The record is `record.c`'s. What was written before a barrier began that ended before the cut is
//! there. Of what was written later, each page or each sector may be there or not, in any order,
//! and so may a change of length. Names (made, renamed, removed) are those of a journal: they reach
//! the disk in their order, at the latest with a barrier on a folder; a barrier on a file carries
//! no name. That is less than ext4 promises with its defaults, and what xfs and btrfs do.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One thing done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    pub file: u64,
    pub what: What,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    Make { name: String },
    Write { at: usize, data: Vec<u8> },
    Cut { length: usize },
    BarrierBegins { number: u64 },
    BarrierEnds { number: u64 },
    Rename { from: String, to: String },
    Unlink { name: String },
    Mkdir { name: String },
    Rmdir { name: String },
    Say { text: String },
}

const HEAD_BYTES: usize = 32;

/// Reads a record; an event cut by a kill at its end is left out.
pub fn read(log: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut rest = log;
    while rest.len() >= HEAD_BYTES {
        let number = |at: usize| u64::from_ne_bytes(rest[at..at + 8].try_into().unwrap()) as usize;
        let word = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().unwrap());
        let (kind, name_bytes, file, at, bytes) =
            (word(0), word(4) as usize, number(8) as u64, number(16), number(24));
        let end = HEAD_BYTES + name_bytes + bytes;
        if rest.len() < end {
            break;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = text(&rest[HEAD_BYTES..HEAD_BYTES + name_bytes]);
        let data = &rest[HEAD_BYTES + name_bytes..end];
        let what = match kind {
            1 => What::Make { name },
            2 => What::Write { at, data: data.to_vec() },
            3 => What::Cut { length: at },
            4 => What::BarrierBegins { number: at as u64 },
            5 => What::BarrierEnds { number: at as u64 },
            6 => What::Rename { from: name, to: text(data) },
            7 => What::Unlink { name },
            8 => What::Mkdir { name },
            9 => What::Rmdir { name },
            10 => What::Say { text: text(data) },
            other => panic!("an event of kind {other}"),
        };
        events.push(Event { file, what });
        rest = &rest[end..];
    }
    events
}

/// A file as far as barriers reach, and what was done to it since.
#[derive(Default)]
struct File {
    durable: Vec<u8>,
    /// With the place of each in the record.
    later: Vec<(usize, What)>,
}

/// A folder at one moment.
#[derive(Default)]
pub struct Disk {
    files: Vec<File>,
    /// The file that an inode number means now.
    now: BTreeMap<u64, usize>,
    begun: BTreeMap<(u64, u64), usize>,
    /// What happened to names, with the place in the record and the file where one was made.
    names: Vec<(usize, What, usize)>,
    /// So many of them are there whatever happens.
    names_kept: usize,
}

impl Disk {
    /// What these events leave when the power goes after the last of them.
    pub fn after(events: &[Event]) -> Disk {
        let mut disk = Disk::default();
        for (place, event) in events.iter().enumerate() {
            disk.take(place, event);
        }
        disk
    }

    fn take(&mut self, place: usize, event: &Event) {
        match &event.what {
            What::Make { .. } => {
                self.files.push(File::default());
                let file = self.files.len() - 1;
                self.now.insert(event.file, file);
                self.names.push((place, event.what.clone(), file));
            }
            What::Write { .. } | What::Cut { .. } => {
                let file = self.now[&event.file];
                self.files[file].later.push((place, event.what.clone()));
            }
            What::BarrierBegins { number } => {
                self.begun.insert((event.file, *number), place);
            }
            What::BarrierEnds { number } => {
                let Some(began) = self.begun.remove(&(event.file, *number)) else { return };
                match self.now.get(&event.file) {
                    Some(file) => self.files[*file].settle(began),
                    // A folder: its inode was never made as a file.
                    None => {
                        let kept = self.names.iter().filter(|(place, ..)| *place < began).count();
                        self.names_kept = self.names_kept.max(kept);
                    }
                }
            }
            What::Rename { .. } | What::Unlink { .. } | What::Mkdir { .. } | What::Rmdir { .. } => {
                self.names.push((place, event.what.clone(), usize::MAX));
            }
            What::Say { .. } => (),
        }
    }

    /// Whether the folder holds just what the record says: a process killed between a deed and its
    /// record leaves one that does not.
    pub fn is_all_of(&self, folder: &Path) -> bool {
        let names = self.names_after(self.names.len()).1;
        names.into_iter().all(|(name, file)| {
            let mut bytes = self.files[file].durable.clone();
            for (_, what) in &self.files[file].later {
                apply(&mut bytes, what, 0, usize::MAX);
            }
            fs::read(folder.join(name)).is_ok_and(|there| there == bytes)
        })
    }

    /// Makes one of the folders that could be found afterwards.
    pub fn leave(&self, folder: &Path, random: &mut Random) {
        let spare = (self.names.len() - self.names_kept) as u64;
        let kept = self.names_kept + random.below(spare + 1) as usize;
        let (folders, names) = self.names_after(kept);
        for name in folders {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        for (name, file) in names {
            fs::write(folder.join(name), self.files[file].leave(random)).unwrap();
        }
    }

    /// Folders, and files by name, after so many changes of names.
    fn names_after(&self, kept: usize) -> (Vec<&str>, BTreeMap<&str, usize>) {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let mut folders = vec![""];
        for (_, what, file) in &self.names[..kept] {
            match what {
                What::Make { name } => drop(names.insert(name, *file)),
                What::Unlink { name } => drop(names.remove(name.as_str())),
                What::Mkdir { name } => folders.push(name),
                What::Rmdir { name } => folders.retain(|folder| folder != name),
                What::Rename { from, to } => {
                    let file = names.remove(from.as_str()).expect("only files are renamed here");
                    names.insert(to, file);
                }
                _ => unreachable!("not about names"),
            }
        }
        (folders, names)
    }
}

impl File {
    /// A barrier that began there has ended.
    fn settle(&mut self, began: usize) {
        let covered = self.later.partition_point(|(place, _)| *place < began);
        for (_, what) in self.later.drain(..covered) {
            apply(&mut self.durable, &what, 0, usize::MAX);
        }
    }

    fn leave(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let mode = random.below(6);
        let whole = random.below(self.later.len() as u64 + 1) as usize;
        for (n, (_, what)) in self.later.iter().enumerate() {
            let (page, chance) = match mode {
                0 => (0, 0),
                1 => (0, 100),
                // In order up to a moment, and the write at that moment torn.
                2 if n < whole => (0, 100),
                2 if n == whole => (512, 50),
                2 => (0, 0),
                3 => (4_096, 50),
                4 => (512, 50),
                _ => (4_096, 90),
            };
            match what {
                What::Write { at, data } if page > 0 => {
                    let mut from = *at;
                    while from < at + data.len() {
                        let to = (from / page + 1) * page;
                        if random.below(100) < chance {
                            apply(&mut bytes, what, from, to);
                        }
                        from = to;
                    }
                }
                _ if random.below(100) < chance => apply(&mut bytes, what, 0, usize::MAX),
                _ => (),
            }
        }
        bytes
    }
}

/// Applies what of it lies in `from..to`.
fn apply(bytes: &mut Vec<u8>, what: &What, from: usize, to: usize) {
    match what {
        What::Cut { length } => bytes.resize(*length, 0),
        What::Write { at, data } => {
            let (from, to) = (from.max(*at), to.min(at + data.len()));
            if bytes.len() < to {
                bytes.resize(to, 0);
            }
            bytes[from..to].copy_from_slice(&data[from - at..to - at]);
        }
        _ => unreachable!("not about bytes"),
    }
}

/// xorshift64*: a seed tells a cut.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
