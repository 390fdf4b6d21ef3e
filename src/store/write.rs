//! What one commit does to the lanes: removals, new chunks, the bound, and gaps told on the way.
//!
//! Everything here happens before the commit's one barrier (`writer.rs`). Nothing leaves a lane
//! without a word: it was delivered, or a gap record says which numbers went and why; what is
//! found to be missing although nobody took it is told in the same way.

use super::chunk::{self, Chunk};
use super::left::Left;
use super::numbers;
use super::open::Opened;
use super::queue::Removal;
use crate::record::{Body, Lane, Record};
use crate::time::Mono;

/// Removed at once when a lane meets its bound, as a share of the bound: one gap record then tells
/// of many records instead of each commit making one.
const SLAB: u64 = 64;
/// What a gap says where numbers are neither there nor known to have left.
const VANISHED: &str = "the store's file lost them";
/// Unreadable chunks kept for a later look: 4 MiB at the most.
const ASIDE_MAX: usize = 64;

/// What a written batch changed.
pub struct Outcome {
    pub next: [u64; 3],
    pub bytes: [u64; 3],
    pub left: [Left; 3],
    pub given_up: [u64; 3],
}

/// A batch being written.
pub struct Write<'a> {
    pub opened: &'a Opened,
    pub outcome: Outcome,
    pub gaps: Vec<Body>,
    pub boot: &'a str,
    /// Since when the wall clock has been good.
    pub good_since: Option<Mono>,
}

impl Write<'_> {
    pub fn remove(&mut self, removal: &Removal) -> Result<(), String> {
        let at = removal.lane as usize;
        let tree = &self.opened.lanes[at];
        // What is gone already went because the lane's bound was faster than the delivery.
        let range = removal.first.to_be_bytes()..=removal.last.to_be_bytes();
        for entry in tree.range(range) {
            let (key, value) = entry.map_err(|error| error.to_string())?;
            tree.remove(&key).map_err(|error| error.to_string())?;
            let bytes = (key.len() + value.len()) as u64;
            self.outcome.bytes[at] = self.outcome.bytes[at].saturating_sub(bytes);
            if let Some(why) = removal.undelivered {
                self.put_aside(removal, &value, why)?;
            }
        }
        Ok(())
    }

    fn put_aside(&mut self, removal: &Removal, value: &[u8], why: &str) -> Result<(), String> {
        let Removal { lane, first, .. } = *removal;
        let tree = &self.opened.lanes[lane as usize];
        let after = tree.get_gt(first.to_be_bytes()).map_err(|error| error.to_string())?;
        let after = after.and_then(|(key, _)| key.as_ref().try_into().ok());
        let next = after.map_or(self.outcome.next[lane as usize], u64::from_be_bytes);
        let count = next.saturating_sub(first);
        tracing::error!(lane = lane.name(), first, count, why, "store: records set aside");
        if self.opened.aside.len() < ASIDE_MAX {
            let key = format!("{}/{first:020}", lane.name());
            self.opened.aside.insert(key, value).map_err(|error| error.to_string())?;
        }
        self.gap(lane, count, Some((first, next.saturating_sub(1))), why);
        Ok(())
    }

    /// Counts records as given up, and says so on the alarm lane.
    pub fn gap(&mut self, of: Lane, count: u64, span: Option<(u64, u64)>, why: &str) {
        if count == 0 {
            return;
        }
        tracing::warn!(lane = of.name(), count, why, "store: records given up");
        let (first, last) = span.unzip();
        self.gaps.push(Body::Gap { of, count, first, last, why: why.to_owned() });
        if let Some((first, last)) = span {
            self.outcome.given_up[of as usize] += count;
            self.outcome.left[of as usize].leave(first, last + 1);
        }
    }

    /// Tells those of `first..before` that are neither delivered nor told.
    pub fn vanished(&mut self, lane: Lane, first: u64, before: u64) {
        for (first, before) in self.outcome.left[lane as usize].unaccounted(first, before) {
            self.gap(lane, before - first, Some((first, before - 1)), VANISHED);
        }
    }

    /// Looks whether a lane begins where it should.
    pub fn find_vanished(&mut self, lane: Lane) -> Result<(), String> {
        let at = lane as usize;
        let lowest = numbers::lowest(&self.opened.lanes[at]).map_err(|error| error.to_string())?;
        let there = lowest.unwrap_or(self.outcome.next[at]);
        self.vanished(lane, 0, there);
        Ok(())
    }

    pub fn append(&mut self, lane: Lane, records: &[Record]) -> Result<(), String> {
        let at = lane as usize;
        let (chunks, refused) =
            chunk::pack(records, self.outcome.next[at], self.boot, self.good_since);
        for chunk in chunks {
            let key = chunk.first.to_be_bytes();
            let value = chunk.encode();
            self.opened.lanes[at].insert(key, value).map_err(|error| error.to_string())?;
            self.outcome.next[at] = chunk.last + 1;
            self.outcome.bytes[at] += chunk.stored_bytes();
        }
        if refused > 0 {
            // An alarm too big for its own lane is only logged: its gap would be the same.
            self.gap(lane, refused, None, "bigger than 64 KiB");
            self.outcome.given_up[at] += refused;
        }
        Ok(())
    }

    /// Removes the oldest chunks of a lane above its bound, which is what `why` says.
    pub fn bound(&mut self, lane: Lane, bytes_max: u64, why: &str) -> Result<(), String> {
        let at = lane as usize;
        if self.outcome.bytes[at] <= bytes_max {
            return Ok(());
        }
        let goal = bytes_max - bytes_max / SLAB;
        let tree = &self.opened.lanes[at];
        let mut span: Option<(u64, u64)> = None;
        while self.outcome.bytes[at] > goal {
            let Some((key, value)) = tree.pop_min().map_err(|error| error.to_string())? else {
                break;
            };
            let first = u64::from_be_bytes(key.as_ref().try_into().unwrap_or([0; 8]));
            let last = Chunk::decode(first, &value).map_or(first, |chunk| chunk.last);
            span = Some((span.map_or(first, |(first, _)| first), last));
            let bytes = (key.len() + value.len()) as u64;
            self.outcome.bytes[at] = self.outcome.bytes[at].saturating_sub(bytes);
        }
        if let Some((first, last)) = span {
            self.gap(lane, last - first + 1, Some((first, last)), why);
        }
        Ok(())
    }

    /// Behind the chunks they count: see `numbers::next_number`.
    pub fn numbers(
        &mut self,
        next: [u64; 3],
        bytes: [u64; 3],
        left: &[Left; 3],
    ) -> Result<(), String> {
        for lane in Lane::ALL {
            let at = lane as usize;
            if self.outcome.left[at] != left[at] {
                keep_left(self.opened, lane, &self.outcome.left[at])?;
            }
            let pairs = [
                (numbers::next_key(lane), self.outcome.next[at], next[at]),
                (numbers::bytes_key(lane), self.outcome.bytes[at], bytes[at]),
            ];
            for (key, value, before) in pairs {
                if value != before {
                    let written = self.opened.meta.insert(key, &value.to_be_bytes());
                    written.map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    }
}

/// Counts what was delivered as gone, on the disk too: before the removals, so that a kill in
/// between has it sent again rather than told as lost.
pub fn count_delivered(
    opened: &Opened,
    removals: &[Removal],
    left: &mut [Left; 3],
) -> Result<(), String> {
    let mut changed = [false; 3];
    let ours = |r: &&Removal| r.epoch == opened.epoch && r.undelivered.is_none();
    for removal in removals.iter().filter(ours) {
        let at = removal.lane as usize;
        // What is gone already was counted when it went.
        for entry in
            opened.lanes[at].range(removal.first.to_be_bytes()..=removal.last.to_be_bytes())
        {
            let (key, value) = entry.map_err(|error| error.to_string())?;
            let first = key.as_ref().try_into().map_or(0, u64::from_be_bytes);
            let before = Chunk::decode(first, &value).map_or(first, |chunk| chunk.last) + 1;
            left[at].leave(first, before);
            changed[at] = true;
        }
    }
    for lane in Lane::ALL.into_iter().filter(|lane| changed[*lane as usize]) {
        keep_left(opened, lane, &left[lane as usize])?;
    }
    Ok(())
}

fn keep_left(opened: &Opened, lane: Lane, left: &Left) -> Result<(), String> {
    let kept = opened.meta.insert(numbers::left_key(lane), left.encode());
    kept.map(drop).map_err(|error| error.to_string())
}
