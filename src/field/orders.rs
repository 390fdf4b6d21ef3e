//! What everything written on a line should be and what it was told: displays, lamps, outputs.
//!
//! A place holds one wanted value, absolute, and the newest wins; nothing is queued, so nothing
//! old can be written after something newer. A write that failed is not sent again: its places
//! only stay due, and at their next turn whatever is wanted by then is written. A device that may
//! have forgotten (its unit or its line was gone) is due again, and so is each place a minute
//! after its last write, because a panel that lost power behind a converter tells nobody.
//!
//! Neighbours of one unit and table share a write as far as the unit takes it; a place that is
//! wider than that is written in parts. A write that a unit refuses is halved until it is known
//! whose fault it was. Where the profile asks for it, what was written is read again, and counts
//! as shown only if it is the same.
//!
//! Signs and outputs that changed go first, but every second write is the next one in the round,
//! so that nothing starves.

use std::ops::Range;
use std::time::Duration;

use crate::field::pace::Jitter;
use crate::field::places::{Kind, Place};
use crate::profile::Table;
use crate::time::Mono;

/// The first wait after a refused or mismatched write, in milliseconds.
const RETRY_FIRST_MS: u64 = 1_000;
/// The longest wait between writes that a unit refuses, in milliseconds.
const RETRY_MAX_MS: u64 = 60_000;
/// From a place's last write to its next, without any change.
pub const REFRESH: Duration = Duration::from_secs(60);
/// Places between two changed ones that are written along, as their own last value: that costs
/// less than a frame of its own, some 30 characters on a serial line.
const GAP_WORDS_MAX: u16 = 8;
const GAP_BITS_MAX: u16 = 64;

/// One place.
#[derive(Clone, Debug)]
struct Slot {
    place: Place,
    /// Where its wanted values lie among all.
    at: usize,
    wanted: bool,
    /// It is known to show what is wanted.
    confirmed: bool,
    /// When it is to be written; means nothing while nothing is wanted.
    due: Mono,
    /// `due` is a wait after a failure: a newer value does not shorten it, for it makes no silent
    /// unit answer.
    held: bool,
    /// How much of the wanted values is written.
    done: u16,
    /// With how many others at the most it may share a write, itself included.
    share: u16,
    /// Refusals and mismatches in a row.
    tries: u8,
    /// A mismatch was told.
    told: bool,
    written_at: Option<Mono>,
}

impl Slot {
    fn values(&self) -> Range<usize> {
        self.at..self.at + usize::from(self.place.width)
    }

    /// Whether `next` lies right behind this one and may share its write.
    fn joins(&self, next: &Slot) -> bool {
        let (a, b) = (&self.place, &next.place);
        a.unit == b.unit
            && a.table == b.table
            && a.cap == b.cap
            && a.replies == b.replies
            && a.read_back == b.read_back
            && u32::from(a.first) + u32::from(a.width) == u32::from(b.first)
            && (self.done, next.done) == (0, 0)
    }

    fn is_due(&self, now: Mono) -> bool {
        self.wanted && self.due <= now
    }

    /// Changed, and a driver looks at it.
    fn is_urgent(&self, now: Mono) -> bool {
        self.is_due(now) && !self.confirmed && self.place.kind != Kind::Lamp
    }

    /// Written and, where that is asked for, seen to be so.
    fn confirm(&mut self, now: Mono, at: Mono) {
        self.confirmed = true;
        self.due = now + REFRESH;
        self.written_at = Some(at);
        self.tries = 0;
        self.told = false;
    }

    /// Not before its next wait is over, which grows.
    fn back_off(&mut self, now: Mono, jitter: &mut Jitter) {
        let wait_ms = (RETRY_FIRST_MS << self.tries.min(6)).min(RETRY_MAX_MS);
        self.tries = self.tries.saturating_add(1);
        self.due = now.plus_ms(wait_ms - jitter.below(wait_ms / 4 + 1));
        // It is this value that is not taken: another one need not wait.
        self.held = false;
    }
}

/// One write, or the reading back of one: neighbouring items of one unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    pub unit: usize,
    pub table: Table,
    pub first: u16,
    pub values: Vec<u16>,
    pub replies: bool,
    read_back: bool,
    slots: Range<usize>,
}

/// What to do next for the places of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    Write(Batch),
    /// Read what this wrote.
    ReadBack(Batch),
}

/// A place that does not hold what was written to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mismatch {
    pub slot: usize,
    /// The first in a row.
    pub news: bool,
}

/// A place as others see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    pub unit: usize,
    pub kind: Kind,
    pub wanted: bool,
    pub confirmed: bool,
    /// On the site's clock.
    pub written_at: Option<Mono>,
}

/// The places of a line, by unit, table and address.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    slots: Vec<Slot>,
    /// Wanted values of all slots.
    values: Vec<u16>,
    /// Where the round goes on, and where to look first for what is urgent.
    cursor: usize,
    urgent_cursor: usize,
    /// The last write was an urgent one: the next is the round's.
    was_urgent: bool,
    /// A write that is to be read back.
    check: Option<Batch>,
    /// Nothing is due before this.
    soonest: Mono,
    last_call: bool,
}

impl Orders {
    /// Places in order of unit, table and address.
    pub fn new(places: &[Place]) -> Orders {
        let order = |place: &Place| (place.unit, place.table, place.first);
        assert!(places.is_sorted_by_key(order), "places lie by unit, table and address");
        let mut at = 0;
        let slot = |place: &Place| {
            let slot = Slot {
                place: *place,
                at,
                wanted: false,
                confirmed: false,
                due: Mono(0),
                held: false,
                done: 0,
                share: u16::MAX,
                tries: 0,
                told: false,
                written_at: None,
            };
            at += usize::from(place.width);
            slot
        };
        let slots: Vec<Slot> = places.iter().map(slot).collect();
        Orders { slots, values: vec![0; at], soonest: Mono(u64::MAX), ..Orders::default() }
    }

    /// The place should hold these values from now on.
    pub fn want(&mut self, slot: usize, values: &[u16]) {
        let slot = &mut self.slots[slot];
        assert!(values.len() == usize::from(slot.place.width), "a value has its place's width");
        let wanted = &mut self.values[slot.values()];
        if slot.wanted && wanted == values {
            return;
        }
        wanted.copy_from_slice(values);
        if !(slot.wanted && slot.held) {
            slot.due = Mono(0);
        }
        slot.wanted = true;
        slot.confirmed = false;
        slot.done = 0;
        self.soonest = self.soonest.min(slot.due);
    }

    /// What is to be done now, if anything, among units that `permits` allows.
    pub fn next(&mut self, now: Mono, permits: impl Fn(usize) -> bool) -> Option<Step> {
        if let Some(check) = self.check.take_if(|check| permits(check.unit)) {
            return Some(Step::ReadBack(check));
        }
        if now < self.soonest {
            return None;
        }
        let urgent = |slot: &Slot| slot.is_urgent(now) && permits(slot.place.unit);
        let due = |slot: &Slot| slot.is_due(now) && permits(slot.place.unit);
        let first = (!self.was_urgent || self.last_call)
            .then(|| find(&self.slots, self.urgent_cursor, urgent))
            .flatten();
        self.was_urgent = first.is_some();
        let from = match first {
            Some(from) => from,
            None => match find(&self.slots, self.cursor, due) {
                Some(from) => from,
                None => {
                    let wanted = self.slots.iter().filter(|slot| slot.wanted);
                    self.soonest = wanted.map(|slot| slot.due).min().unwrap_or(Mono(u64::MAX));
                    return None;
                }
            },
        };
        let batch = self.batch(now, from);
        let end = batch.slots.end - usize::from(self.is_part(&batch));
        *(if self.was_urgent { &mut self.urgent_cursor } else { &mut self.cursor }) = end;
        Some(Step::Write(batch))
    }

    /// A write that leaves some of its only place for the next one.
    fn is_part(&self, batch: &Batch) -> bool {
        let slot = &self.slots[batch.slots.start];
        slot.done + (batch.values.len() as u16) < slot.place.width && batch.slots.len() == 1
    }

    /// The write that begins at a slot: as much as belongs together.
    fn batch(&self, now: Mono, from: usize) -> Batch {
        let slot = &self.slots[from];
        let Place { unit, table, first, width, cap, replies, read_back, .. } = slot.place;
        if slot.done > 0 || width > cap {
            let part = slot.at + usize::from(slot.done)..slot.values().end;
            let values = self.values[part].iter().copied().take(cap.into()).collect();
            let (first, slots) = (first + slot.done, from..from + 1);
            return Batch { unit, table, first, values, replies, read_back, slots };
        }
        let slots = self.run(now, from);
        let first = self.slots[slots.start].place.first;
        let values = self.slots[slots.start].at..self.slots[slots.end - 1].values().end;
        let values = self.values[values].to_vec();
        Batch { unit, table, first, values, replies, read_back, slots }
    }

    /// Neighbours of a slot that share its write: those that are due, those in a small gap
    /// between such, and at a refresh all, so that refreshes stay few.
    fn run(&self, now: Mono, from: usize) -> Range<usize> {
        let slot = &self.slots[from];
        let (cap, refresh) = (slot.place.cap, slot.confirmed);
        let gap_max = if slot.place.table.is_bits() { GAP_BITS_MAX } else { GAP_WORDS_MAX };
        let (mut start, mut end) = (from, from + 1);
        let (mut items, mut share) = (slot.place.width, slot.share);
        let fits =
            |items: u16, slots: usize, share: u16| items <= cap && slots <= usize::from(share);
        while start > 0 {
            let (other, next) = (&self.slots[start - 1], &self.slots[start]);
            let (more, least) = (items.saturating_add(other.place.width), share.min(other.share));
            let joins = other.is_due(now) && other.joins(next);
            if !joins || !fits(more, end - start + 1, least) {
                break;
            }
            (start, items, share) = (start - 1, more, least);
        }
        let (mut reach, mut gap) = (end, 0);
        while let Some(other) = self.slots.get(reach) {
            let (more, least) = (items.saturating_add(other.place.width), share.min(other.share));
            if !self.slots[reach - 1].joins(other) || !fits(more, reach + 1 - start, least) {
                break;
            }
            if other.is_due(now) || (refresh && other.confirmed) {
                (end, gap) = (reach + 1, 0);
            } else {
                gap += other.place.width;
                if !other.confirmed || gap > gap_max {
                    break;
                }
            }
            (reach, items, share) = (reach + 1, more, least);
        }
        start..end
    }

    /// The write arrived; `at` is the same instant on the site's clock.
    pub fn written(&mut self, now: Mono, at: Mono, batch: Batch) {
        if batch.read_back {
            // Nothing more to do for them until it was read.
            for slot in &mut self.slots[batch.slots.clone()] {
                slot.confirmed = false;
                slot.due = now + REFRESH;
                slot.held = false;
            }
            self.check = Some(batch);
        } else {
            let values = batch.values.clone();
            self.arrived(now, at, &batch, &values, |_| ());
        }
    }

    /// What a write was read back as: gives the places that hold something else.
    pub fn read_back(
        &mut self,
        now: Mono,
        at: Mono,
        batch: &Batch,
        values: &[u16],
        jitter: &mut Jitter,
    ) -> Vec<Mismatch> {
        let mut wrong = Vec::new();
        self.arrived(now, at, batch, values, |slot| wrong.push(slot));
        let told = wrong.iter().map(|slot| {
            let place = &mut self.slots[*slot];
            place.done = 0;
            place.back_off(now, jitter);
            let news = !std::mem::replace(&mut place.told, true);
            Mismatch { slot: *slot, news }
        });
        let told = told.collect();
        self.soonest = Mono(0);
        told
    }

    /// A write is known to be in the device as `values`.
    fn arrived(
        &mut self,
        now: Mono,
        at: Mono,
        batch: &Batch,
        values: &[u16],
        mut wrong: impl FnMut(usize),
    ) {
        let mut from = 0;
        for ix in batch.slots.clone() {
            let slot = &mut self.slots[ix];
            let done = usize::from(slot.done);
            let items = (slot.values().len() - done).min(batch.values.len() - from);
            let part = from..from + items;
            from += items;
            slot.held = false;
            slot.share = slot.share.saturating_mul(2);
            let wanted = &self.values[slot.at + done..slot.at + done + items];
            if *wanted != batch.values[part.clone()] {
                // Something newer is wanted meanwhile: this write confirms nothing.
                (slot.confirmed, slot.due) = (false, Mono(0));
            } else if values.get(part.clone()) != Some(wanted) {
                slot.confirmed = false;
                wrong(ix);
            } else if done + items < usize::from(slot.place.width) {
                slot.done += items as u16;
                (slot.confirmed, slot.due) = (false, Mono(0));
            } else {
                slot.done = 0;
                slot.confirm(now, at);
            }
            self.soonest = self.soonest.min(slot.due);
        }
    }

    /// The unit answered the write, or its reading back, with a refusal.
    pub fn refused(&mut self, now: Mono, batch: &Batch, jitter: &mut Jitter) {
        let together = batch.slots.len();
        for slot in &mut self.slots[batch.slots.clone()] {
            slot.confirmed = false;
            slot.done = 0;
            slot.share = u16::try_from(together / 2).unwrap_or(u16::MAX).max(1);
            if together > 1 {
                (slot.due, slot.held) = (now, false);
            } else {
                slot.back_off(now, jitter);
            }
            self.soonest = self.soonest.min(slot.due);
        }
    }

    /// A unit that answers its reads did not answer this write: halves of it next, to find the
    /// place that is at fault, which alone is tried ever more rarely.
    pub fn unanswered(&mut self, now: Mono, batch: &Batch, jitter: &mut Jitter) {
        let together = batch.slots.len();
        for slot in &mut self.slots[batch.slots.clone()] {
            slot.share = u16::try_from(together / 2).unwrap_or(u16::MAX).max(1);
            if together == 1 {
                slot.back_off(now, jitter);
            }
        }
    }

    /// The unit did not answer: none of its places is written before `until`, all are after, but
    /// for those that wait longer because they were not taken before.
    pub fn hold(&mut self, unit: usize, until: Mono) {
        self.check.take_if(|check| check.unit == unit);
        for slot in self.slots.iter_mut().filter(|slot| slot.place.unit == unit) {
            slot.confirmed = false;
            slot.done = 0;
            if slot.tries > 0 && slot.due > until {
                continue;
            }
            slot.held = true;
            slot.due = until;
        }
        self.soonest = self.soonest.min(until);
    }

    /// Someone wants to know: what a unit did not take is written again at once.
    pub fn again(&mut self, unit: usize) {
        for slot in self.slots.iter_mut().filter(|slot| slot.place.unit == unit) {
            if !slot.confirmed {
                (slot.due, slot.tries) = (Mono(0), 0);
            }
        }
        self.soonest = Mono(0);
    }

    /// Devices may have lost what they were told: of one unit, or of all.
    pub fn forget(&mut self, unit: Option<usize>) {
        let check = self.check.take_if(|check| unit.is_none_or(|unit| unit == check.unit));
        let checked = check.map_or(0..0, |check| check.slots);
        for (ix, slot) in self.slots.iter_mut().enumerate() {
            let ours = unit.is_none_or(|unit| unit == slot.place.unit);
            if ours && (slot.confirmed || slot.done > 0 || checked.contains(&ix)) {
                slot.confirmed = false;
                slot.done = 0;
                slot.due = Mono(0);
            }
        }
        self.soonest = Mono(0);
    }

    /// Only what is not confirmed is written from now on, at once, what drivers see first.
    pub fn last_call(&mut self) {
        let checked = self.check.as_ref().map_or(0..0, |check| check.slots.clone());
        for (ix, slot) in self.slots.iter_mut().enumerate() {
            let settled = slot.confirmed || checked.contains(&ix);
            slot.due = if settled { Mono(u64::MAX) } else { Mono(0) };
        }
        self.soonest = Mono(0);
        self.last_call = true;
    }

    /// When the first place is due, with `allowed` saying from when each unit may be written to.
    pub fn due(&self, allowed: impl Fn(usize) -> Mono) -> Option<Mono> {
        let check = self.check.iter().map(|check| allowed(check.unit));
        let wanted = self.slots.iter().filter(|slot| slot.wanted);
        let writes = wanted.map(|slot| slot.due.max(allowed(slot.place.unit)));
        check.chain(writes).min()
    }

    /// Where a slot is.
    pub fn place(&self, slot: usize) -> &Place {
        &self.slots[slot].place
    }

    /// How many slots of the same kind come before one.
    pub fn nth_of_kind(&self, slot: usize) -> usize {
        let kind = self.slots[slot].place.kind;
        self.slots[..slot].iter().filter(|other| other.place.kind == kind).count()
    }

    /// Every place as others see it, in order.
    pub fn shown(&self) -> impl Iterator<Item = Shown> {
        self.slots.iter().map(|slot| Shown {
            unit: slot.place.unit,
            kind: slot.place.kind,
            wanted: slot.wanted,
            confirmed: slot.confirmed,
            written_at: slot.written_at,
        })
    }
}

/// The first that fits, from a position on and around.
fn find(slots: &[Slot], from: usize, fits: impl Fn(&Slot) -> bool) -> Option<usize> {
    let (early, late) = slots.split_at(from.min(slots.len()));
    match late.iter().position(&fits) {
        Some(at) => Some(early.len() + at),
        None => early.iter().position(fits),
    }
}

#[cfg(test)]
mod tests;
