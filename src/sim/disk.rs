//! The store as a model: what one barrier makes durable, and what a crash leaves of the next.
//!
//! A commit is a row of small writes in the order in which sled's log would get them. A crash in
//! the middle leaves any beginning of that row; a barrier leaves all of it.

use std::collections::BTreeMap;

use crate::record::{Lane, Record};
use crate::store::queue::Item;

/// What is on the disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub epoch: u64,
    /// By lane, then number.
    pub lanes: [BTreeMap<u64, Record>; 3],
    pub kept: BTreeMap<String, Vec<u8>>,
    /// By lane: the number its next record gets.
    pub next: [u64; 3],
}

/// What waits for the next commit.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub items: Vec<Item>,
    /// Delivered: lane, first and last number.
    pub removals: Vec<(Lane, u64, u64)>,
}

/// One small write.
#[derive(Clone, Debug)]
pub enum Write {
    Remove(Lane, u64),
    Append(Lane, u64, Record),
    Keep(String, Option<Vec<u8>>),
    Next(Lane, u64),
}

impl Disk {
    /// A new store.
    pub fn new(epoch: u64) -> Disk {
        Disk { epoch, next: [1; 3], ..Disk::default() }
    }

    /// What a commit of this batch writes, in order: removals, records by lane with the alarms
    /// last, kept values, numbers.
    pub fn plan(&self, batch: &Batch) -> Vec<Write> {
        let mut writes = Vec::new();
        for (lane, first, last) in &batch.removals {
            let gone = self.lanes[*lane as usize].range(first..=last);
            writes.extend(gone.map(|(number, _)| Write::Remove(*lane, *number)));
        }
        let mut next = self.next;
        for lane in [Lane::Events, Lane::Aggregates, Lane::Alarms] {
            let next = &mut next[lane as usize];
            for item in &batch.items {
                if let Item::Record(record) = item
                    && record.lane == lane
                {
                    writes.push(Write::Append(lane, *next, record.clone()));
                    *next += 1;
                }
            }
        }
        let mut kept = BTreeMap::new();
        for item in &batch.items {
            if let Item::Keep { key, value } = item {
                kept.insert(key.clone(), value.clone());
            }
        }
        writes.extend(kept.into_iter().map(|(key, value)| Write::Keep(key, value)));
        writes.extend(Lane::ALL.map(|lane| Write::Next(lane, next[lane as usize])));
        writes
    }

    pub fn apply(&mut self, write: Write) {
        match write {
            Write::Remove(lane, number) => _ = self.lanes[lane as usize].remove(&number),
            Write::Append(lane, number, record) => {
                self.lanes[lane as usize].insert(number, record);
            }
            Write::Keep(key, Some(value)) => _ = self.kept.insert(key, value),
            Write::Keep(key, None) => _ = self.kept.remove(&key),
            Write::Next(lane, next) => self.next[lane as usize] = next,
        }
    }

    /// Opened after a crash: no number that stands on the disk is given again.
    pub fn recover(&mut self) {
        for (next, lane) in self.next.iter_mut().zip(&self.lanes) {
            let last = lane.last_key_value().map_or(0, |(number, _)| *number);
            *next = (*next).max(last + 1);
        }
    }

    /// Opened anew in the same run: what no barrier covered is cut off or put back, and waits in
    /// memory to be written again.
    pub fn cut_off(&mut self, next: [u64; 3], kept: BTreeMap<String, Vec<u8>>) {
        for (lane, next) in self.lanes.iter_mut().zip(next) {
            lane.split_off(&next);
        }
        (self.next, self.kept) = (next, kept);
    }
}
