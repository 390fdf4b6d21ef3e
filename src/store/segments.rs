//! What the heads of sled's log segments tell before sled opens the log.
//!
//! sled writes its log in segments of 512 KiB and frees those whose records have all been written
//! anew elsewhere. A log that was nearly drained can so have lost the segment at its last stable
//! point; then only the snapshot beside it says what is alive, and opened without it, sled takes
//! the log as torn at its beginning, blanks all of it and comes up empty. [`stands_alone`] tells
//! which kind a log is, so that a snapshot is only moved away where the log can do without. Layout
//! and rule: sled 0.34.7, `pagecache/logger.rs` (`SegmentHeader`) and `pagecache/iterator.rs`
//! (`check_contiguity_in_unstable_tail`).

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// sled's default, which we leave alone.
const SEGMENT_BYTES: u64 = 512 << 10;
const HEAD_BYTES: usize = 20;

/// What a segment's head says: where in the log it begins, and what was stable when it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Head {
    begins: i64,
    stable: i64,
}

/// Whether sled can rebuild the store from the log alone. A log without a segment can: it is empty.
///
/// # Errors
///
/// What the disk says; a file that is not there is an empty log.
pub fn stands_alone(log: &Path) -> io::Result<bool> {
    match File::open(log) {
        Ok(file) => Ok(joined(&heads(&file)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether the segment with the last stable point is there.
fn joined(heads: &[Head]) -> bool {
    let Some(stable) = heads.iter().map(|head| head.stable).max() else { return true };
    let segment = SEGMENT_BYTES as i64;
    let begins = stable.max(0) / segment * segment;
    heads.iter().any(|head| head.begins == begins)
}

fn heads(file: &File) -> io::Result<Vec<Head>> {
    let length = file.metadata()?.len();
    let mut heads = Vec::new();
    let mut at = 0;
    while at + HEAD_BYTES as u64 <= length {
        let mut bytes = [0; HEAD_BYTES];
        file.read_exact_at(&mut bytes, at)?;
        heads.extend(decode(&bytes));
        at += SEGMENT_BYTES;
    }
    Ok(heads)
}

/// A checksum of what follows, then both numbers, each with its bits turned; all little-endian.
fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<Head> {
    let (sum, rest) = bytes.split_first_chunk::<4>()?;
    let (begins, rest_of) = rest.split_first_chunk::<8>()?;
    let stable = rest_of.first_chunk::<8>()?;
    let turned = |bytes: &[u8; 8]| i64::from_le_bytes(*bytes) ^ i64::MAX;
    let head = Head { begins: turned(begins), stable: turned(stable) };
    (!crc32fast::hash(rest) == u32::from_le_bytes(*sum)).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = SEGMENT_BYTES as i64;

    #[test]
    fn only_a_log_with_its_last_stable_segment_stands_alone() {
        let cases: [(&[(i64, i64)], bool); 7] = [
            (&[], true),
            (&[(0, -1)], true),
            (&[(0, -1), (S, S - 1)], true),
            (&[(S, S - 1)], false),
            (&[(S, S - 1), (2 * S, S + 9)], true),
            (&[(2 * S, S + 9), (3 * S, S + 12)], false),
            (&[(5 * S, 4 * S + 9), (4 * S, 3 * S + 1), (6 * S, 5 * S)], true),
        ];
        for (heads, alone) in cases {
            let of = |&(begins, stable)| Head { begins, stable };
            let heads: Vec<Head> = heads.iter().map(of).collect();
            assert_eq!(joined(&heads), alone, "{heads:?}");
        }
    }

    #[test]
    fn heads_of_a_real_log_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("db");
        assert!(stands_alone(&log).unwrap(), "no file");
        let db = sled::open(dir.path()).unwrap();
        for n in 0..3_000_u32 {
            db.insert(n.to_be_bytes(), vec![7; 1_000]).unwrap();
        }
        db.flush().unwrap();
        drop(db);
        let heads = heads(&File::open(&log).unwrap()).unwrap();
        assert!(heads.len() >= 6, "{heads:?}");
        assert!(heads.iter().all(|head| head.begins % S == 0), "{heads:?}");
        assert!(stands_alone(&log).unwrap());
    }

    #[test]
    fn a_head_with_a_wrong_bit_is_none() {
        let dir = tempfile::tempdir().unwrap();
        drop(sled::open(dir.path()).unwrap());
        let mut bytes = [0; HEAD_BYTES];
        File::open(dir.path().join("db")).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        assert!(decode(&bytes).is_some());
        for bit in 0..HEAD_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
        assert_eq!(decode(&[0; HEAD_BYTES]), None);
    }
}
