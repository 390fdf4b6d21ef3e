//! Each lane's numbers, noted beside the database after each commit.
//!
//! What sled has lost can only be told by something that is not sled. The note says which store it
//! speaks of, and for each lane the number that comes next and the lowest one not yet delivered. It
//! needs no barrier: after a kill the kernel still has it, and after a power cut an older note only
//! shows less. A torn or broken note fails its CRC and says nothing.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The file's name in the store's folder, and in that of a store set aside.
pub const NAME: &str = "numbers";
/// Epoch, three numbers that come next; three lowest.
const WORDS: usize = 7;
/// Notes of earlier daemons had no lowest numbers.
const WORDS_BEFORE: usize = 4;

/// What a store held when it was last written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note {
    pub epoch: u64,
    /// By lane: the number its next record gets.
    pub next: [u64; 3],
    /// By lane: the lowest number not yet delivered or given up; 1 where that was not noted.
    pub head: [u64; 3],
}

impl Note {
    /// Writes it into `folder`.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let words = [self.epoch].into_iter().chain(self.next).chain(self.head);
        let mut bytes: Vec<u8> = words.flat_map(u64::to_be_bytes).collect();
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(folder.join(NAME))?;
        file.write_all_at(&bytes, 0)
    }

    /// The note in `folder`, if there is a sound one.
    pub fn read(folder: &Path) -> Option<Note> {
        Note::decode(&fs::read(folder.join(NAME)).ok()?)
    }

    fn decode(bytes: &[u8]) -> Option<Note> {
        let (words, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(words).to_be_bytes() != *crc {
            return None;
        }
        let (words, rest) = words.as_chunks::<8>();
        let complete = [WORDS, WORDS_BEFORE].contains(&words.len()) && rest.is_empty();
        let word = |at: usize| words.get(at).map_or(1, |word| u64::from_be_bytes(*word));
        complete.then(|| Note {
            epoch: word(0),
            next: [word(1), word(2), word(3)],
            head: [word(4), word(5), word(6)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_over_a_shorter_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut old: Vec<u8> = [9_u64, 2, 3, 4].into_iter().flat_map(u64::to_be_bytes).collect();
        old.extend(crc32fast::hash(&old).to_be_bytes());
        fs::write(dir.path().join(NAME), old).unwrap();
        let before = Note { epoch: 9, next: [2, 3, 4], head: [1; 3] };
        assert_eq!(Note::read(dir.path()), Some(before));
        let note = Note { epoch: 9, next: [5, 6, 7], head: [1, 2, 3] };
        note.write(dir.path()).unwrap();
        assert_eq!(Note::read(dir.path()), Some(note));
    }

    #[test]
    fn a_broken_note_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        Note { epoch: 1, next: [2; 3], head: [1; 3] }.write(dir.path()).unwrap();
        let bytes = fs::read(dir.path().join(NAME)).unwrap();
        for at in 0..bytes.len() {
            assert_eq!(Note::decode(&bytes[..at]), None, "cut at {at}");
            let mut wrong = bytes.clone();
            wrong[at] ^= 4;
            assert_eq!(Note::decode(&wrong), None, "byte {at}");
        }
    }
}
