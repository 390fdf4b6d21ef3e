//! Merges a lane's old windows on the disk, a slice at a time, so that the lane need not drop them.
//!
//! A slice is a row of neighbouring chunks of one boot within one quarter of an hour (later: one
//! hour) that is over. Its chunks go and the merged ones come in one atomic batch: a kill leaves
//! either. The lane's first bytes stay as they are, as many as can be under way to the broker:
//! what was ever published keeps its number and its body, and what is merged was seen by nobody.
//! The barrier comes before the next commit, so nothing is published before it is durable.

use sled::{Batch, IVec, Tree};

use super::chunk::Chunk;
use super::thin::{self, SPANS_S, Window};
use crate::outbox::WINDOW_MAX;

/// Chunks read at once: 1 MiB, a quarter of an hour of 150 garages, some ten ms of work.
const SLICE_CHUNKS: usize = 256;

/// The most JSON that a message joins of chunks; a bigger chunk goes alone.
const MESSAGE_BYTES: usize = 16 << 10;
/// So much at a lane's beginning may be known outside: a full window of full messages.
pub const KNOWN_BYTES: usize = WINDOW_MAX * MESSAGE_BYTES;

/// How far a lane has been merged, by span. Forgotten with the process: it looks again.
#[derive(Debug, Default)]
pub struct Thinner {
    cursors: [u64; SPANS_S.len()],
    /// Nothing was left to merge when this number was the next one.
    idle_at: u64,
}

/// What a slice gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thinned {
    /// Bytes by which the lane is smaller.
    pub bytes: u64,
    /// Records by which there are fewer.
    pub records: u64,
}

/// Chunks to be merged.
#[derive(Debug, Default)]
struct Slice {
    keys: Vec<IVec>,
    bytes: u64,
    windows: Vec<Window>,
    boot: String,
    /// Where the next slice begins.
    before: u64,
}

impl Thinner {
    /// Merges the oldest slice that can be merged; first all quarters, then hours. `None` where
    /// nothing is left now, or where so much was looked through that the rest waits. `next` is the
    /// lane's next number; its first `known_bytes` of JSON are left alone.
    ///
    /// # Errors
    ///
    /// What sled says.
    pub fn step(
        &mut self,
        tree: &Tree,
        next: u64,
        known_bytes: usize,
    ) -> Result<Option<Thinned>, sled::Error> {
        if self.idle_at == next {
            return Ok(None);
        }
        let Some(from) = behind(tree, known_bytes)? else { return Ok(None) };
        let mut looked = 0;
        for (cursor, span_s) in self.cursors.iter_mut().zip(SPANS_S) {
            while let Some(slice) = Slice::read(tree, from.max(*cursor), span_s)? {
                *cursor = slice.before;
                if let Some(thinned) = slice.merge(tree, span_s)? {
                    return Ok(Some(thinned));
                }
                looked += slice.keys.len();
                if looked >= SLICE_CHUNKS {
                    return Ok(None);
                }
            }
        }
        self.idle_at = next;
        Ok(None)
    }
}

/// Where what nobody outside can know begins. A message is at most [`MESSAGE_BYTES`], or one chunk.
fn behind(tree: &Tree, known_bytes: usize) -> Result<Option<u64>, sled::Error> {
    let mut passed = 0;
    for entry in tree.iter() {
        let (key, value) = entry?;
        let first = u64::from_be_bytes(key.as_ref().try_into().unwrap_or([0xff; 8]));
        if passed >= known_bytes {
            return Ok(Some(first));
        }
        let json = Chunk::decode(first, &value).map_or(0, |chunk| chunk.json.len());
        passed += json.min(MESSAGE_BYTES);
    }
    Ok(None)
}

impl Slice {
    /// The slice that begins at `from`; `None` where it may still grow.
    fn read(tree: &Tree, from: u64, span_s: u64) -> Result<Option<Slice>, sled::Error> {
        let mut slice = Slice { before: from, ..Slice::default() };
        for entry in tree.range(from.to_be_bytes()..) {
            let (key, value) = entry?;
            let first = u64::from_be_bytes(key.as_ref().try_into().unwrap_or([0xff; 8]));
            let chunk = Chunk::decode(first, &value);
            let read = chunk.and_then(|chunk| Some((thin::windows(&chunk)?, chunk)));
            let Some((windows, chunk)) = read else {
                // Nothing to merge, or nothing that can be read: that is told where it leaves.
                if slice.keys.is_empty() {
                    slice.keys.push(key);
                    slice.before = first.saturating_add(1);
                }
                return Ok(Some(slice));
            };
            if slice.keys.len() == SLICE_CHUNKS || !slice.goes_on(&chunk, &windows, span_s) {
                return Ok(Some(slice));
            }
            slice.bytes += chunk.stored_bytes();
            slice.before = chunk.last + 1;
            slice.boot = chunk.boot;
            slice.windows.extend(windows);
            slice.keys.push(key);
        }
        Ok(None)
    }

    /// Whether a chunk belongs to this slice. A hole in the numbers ends it, or what is missing
    /// would look as if it had been merged.
    fn goes_on(&self, chunk: &Chunk, windows: &[Window], span_s: u64) -> bool {
        let (Some(ours), Some(theirs)) = (self.windows.first(), windows.first()) else {
            return self.windows.is_empty();
        };
        let same_time = ours.bucket(span_s) == theirs.bucket(span_s);
        chunk.first == self.before && chunk.boot == self.boot && same_time
    }

    /// Puts what it becomes in its place; `None` where that would save nothing.
    fn merge(&self, tree: &Tree, span_s: u64) -> Result<Option<Thinned>, sled::Error> {
        let merged = thin::merge(&self.windows, span_s);
        if merged.len() == self.windows.len() {
            return Ok(None);
        }
        let Some(chunks) = thin::pack(&merged, &self.boot) else { return Ok(None) };
        let bytes: u64 = chunks.iter().map(Chunk::stored_bytes).sum();
        if bytes >= self.bytes {
            return Ok(None);
        }
        let mut batch = Batch::default();
        for key in &self.keys {
            batch.remove(key);
        }
        // After the removals: the first one has the key of the first that goes.
        for chunk in &chunks {
            batch.insert(&chunk.first.to_be_bytes(), chunk.encode());
        }
        tree.apply_batch(batch)?;
        let records = (self.windows.len() - merged.len()) as u64;
        Ok(Some(Thinned { bytes: self.bytes - bytes, records }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Body, Lane, Record};
    use crate::store::chunk;
    use crate::store::thin::tests::totals;
    use crate::time::{Mono, Now, Wall};

    /// Half an hour of one garage, a minute a chunk; numbers, and what they become.
    #[test]
    fn a_quarter_that_is_over_becomes_one_behind_what_is_under_way() {
        let tree = lane(&[(1, 46, "boot")]);
        let mut thinner = Thinner::default();
        let mut fewer = 0;
        while let Some(thinned) = thinner.step(&tree, 47, ten(&tree)).unwrap() {
            fewer += thinned.records;
        }
        // 11 to 15 are the rest of the first quarter; 46 begins the fourth, so the third is over.
        let merged = [(11, 15), (16, 30), (31, 45), (46, 46)];
        assert_eq!(spans(&tree), (1..=10).map(|n| (n, n)).chain(merged).collect::<Vec<_>>());
        assert_eq!(fewer, 46 - 14);
        assert_eq!(thinner.step(&tree, 47, ten(&tree)).unwrap(), None);
    }

    #[test]
    fn what_may_still_grow_is_left() {
        let tree = lane(&[(1, 30, "boot")]);
        let mut thinner = Thinner::default();
        while thinner.step(&tree, 31, ten(&tree)).unwrap().is_some() {}
        assert_eq!(spans(&tree).last(), Some(&(30, 30)));
        tree.insert(31_u64.to_be_bytes(), minute(31, 31, "boot").encode()).unwrap();
        assert!(thinner.step(&tree, 32, ten(&tree)).unwrap().is_some(), "it never looked again");
        assert_eq!(spans(&tree)[11..], [(16, 30), (31, 31)]);
    }

    /// A hole is told when the lane comes to it: it may not look as if it had been merged.
    #[test]
    fn what_is_missing_or_of_another_boot_is_not_merged_over() {
        let tree = lane(&[(1, 19, "boot"), (21, 25, "boot"), (26, 31, "other")]);
        tree.insert(33_u64.to_be_bytes(), b"nonsense").unwrap();
        tree.insert(34_u64.to_be_bytes(), minute(34, 46, "other").encode()).unwrap();
        let mut thinner = Thinner::default();
        while thinner.step(&tree, 99, ten(&tree)).unwrap().is_some() {}
        // Each of them is over, since nothing can be added to it: so hours were made as well.
        let merged = [(11, 19), (21, 25), (26, 31), (34, 34)];
        assert_eq!(spans(&tree)[10..], merged);
        assert_eq!(tree.len(), 10 + 4 + 1, "what cannot be read went");
    }

    /// The JSON of a lane's first ten chunks.
    fn ten(tree: &Tree) -> usize {
        let first = (1..=10_u64).map(|n| (n, tree.get(n.to_be_bytes()).unwrap().unwrap()));
        first.map(|(n, value)| Chunk::decode(n, &value).unwrap().json.len()).sum()
    }

    /// A chunk of one window under that number, which ended with that minute.
    fn minute(n: u64, minute: u64, boot: &str) -> Chunk {
        let ms = 1_767_225_600_000 + minute * 60_000;
        let at = Now { mono: Mono(ms * 1_000_000), wall: Wall(ms as i64) };
        let body = Body::GarageWindow(totals("g01", 60, n));
        let (chunks, _) =
            chunk::pack(&[Record::new(Lane::Aggregates, at, body)], n, boot, Some(Mono(0)));
        chunks[0].clone()
    }

    fn lane(rows: &[(u64, u64, &str)]) -> Tree {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let tree = db.open_tree("aggregates").unwrap();
        for (first, last, boot) in rows {
            for n in *first..=*last {
                tree.insert(n.to_be_bytes(), minute(n, n, boot).encode()).unwrap();
            }
        }
        tree
    }

    /// First and last number of what can be read.
    fn spans(tree: &Tree) -> Vec<(u64, u64)> {
        let entries = tree.iter().map(Result::unwrap);
        let chunks = entries.filter_map(|(key, value)| {
            Chunk::decode(u64::from_be_bytes(key.as_ref().try_into().unwrap()), &value)
        });
        chunks.map(|chunk| (chunk.first, chunk.last)).collect()
    }
}
