//! What each display of a line should show and what it was told: newest wins, nothing is replayed.
//!
//! A write that failed is not sent again; the sign only stays due, and at its next turn whatever is
//! wanted by then is written, as a new absolute value. A display that may have forgotten (its unit
//! or its line was gone) is due again, and so is each one a minute after its last write, because a
//! panel that lost power behind a converter tells nobody.

use std::ops::Range;
use std::time::Duration;

use crate::field::pace::{Delay, Jitter};
use crate::field::write;
use crate::profile::Format;
use crate::site::{Face, LineIx, SignIx, Site};
use crate::time::Mono;

/// The most registers one write may carry (Modbus spec V1.1b3, 6.12).
const WORDS_MAX: usize = 123;
/// The first wait after a refused write, in milliseconds.
const RETRY_FIRST_MS: u64 = 1_000;
/// The longest wait between writes that a unit refuses, in milliseconds.
const RETRY_MAX_MS: u64 = 60_000;
/// From a sign's last write to its next, without any change.
pub const REFRESH: Duration = Duration::from_secs(60);

/// One display.
#[derive(Clone, Debug)]
struct Slot {
    /// Position of its unit on the line.
    unit: usize,
    first: u16,
    format: Format,
    replies: bool,
    desired: Option<Vec<u16>>,
    confirmed: bool,
    /// When it is to be written; means nothing while nothing is desired.
    due: Mono,
    retry: Delay,
    /// A write together with others was refused: whose fault it was shows only one by one.
    alone: bool,
}

impl Slot {
    fn words(&self) -> usize {
        self.desired.as_ref().map_or(0, Vec::len)
    }

    /// Whether `next` lies right behind this one and may share its write.
    fn joins(&self, next: &Slot) -> bool {
        self.unit == next.unit
            && self.replies == next.replies
            && usize::from(self.first) + self.words() == usize::from(next.first)
            && !self.alone
            && !next.alone
    }
}

/// The displays of a line, by unit and address.
#[derive(Clone, Debug, Default)]
pub struct Signs {
    slots: Vec<Slot>,
    /// Where to look first, so that a busy sign does not starve the later ones.
    cursor: usize,
}

/// One write: neighbouring registers of one unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    pub unit: usize,
    pub first: u16,
    pub words: Vec<u16>,
    pub replies: bool,
    pub slots: Range<usize>,
}

/// Where a display is and how it is written to.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub unit: usize,
    pub first: u16,
    pub format: Format,
    pub replies: bool,
}

/// The signs of a line and where they are, by unit and address.
pub fn places(site: &Site, line: LineIx) -> Vec<(SignIx, Place)> {
    let mut places = Vec::new();
    for (sign, ix) in site.signs.iter().zip(0..) {
        let unit = site.lines[line.at()].units.iter().position(|unit| *unit == sign.unit);
        // `check` refuses a sign whose unit has no such displays.
        if let (Some(unit), Some(display)) = (unit, site.display(sign)) {
            let first = display.base + display.stride * sign.index;
            let (format, replies) = (display.format, display.replies);
            places.push((SignIx(ix), Place { unit, first, format, replies }));
        }
    }
    places.sort_by_key(|(_, place)| (place.unit, place.first));
    places
}

impl Signs {
    /// Signs at these places, which are ordered by unit and address.
    pub fn new(places: &[Place]) -> Signs {
        let order = |place: &Place| (place.unit, place.first);
        assert!(places.is_sorted_by_key(order), "signs lie by unit and address");
        let slot = |place: &Place| Slot {
            unit: place.unit,
            first: place.first,
            format: place.format,
            replies: place.replies,
            desired: None,
            confirmed: false,
            due: Mono(0),
            retry: Delay::new(RETRY_FIRST_MS, RETRY_MAX_MS),
            alone: false,
        };
        Signs { slots: places.iter().map(slot).collect(), cursor: 0 }
    }

    /// The sign should show this from now on.
    pub fn want(&mut self, slot: usize, face: &Face) {
        let slot = &mut self.slots[slot];
        let words = write::encode(face, slot.format);
        if slot.desired.as_ref() == Some(&words) {
            return;
        }
        // After a failed write the wait stands: a new face makes no silent unit answer.
        if slot.confirmed || slot.desired.is_none() {
            slot.due = Mono(0);
        }
        slot.desired = Some(words);
        slot.confirmed = false;
    }

    /// The next write that is due, if any, among units that `permits` allows.
    pub fn next(&mut self, now: Mono, permits: impl Fn(usize) -> bool) -> Option<Batch> {
        let due = |slot: &Slot| slot.desired.is_some() && slot.due <= now && permits(slot.unit);
        let (early, late) = self.slots.split_at(self.cursor.min(self.slots.len()));
        let from = match late.iter().position(due) {
            Some(at) => early.len() + at,
            None => early.iter().position(due)?,
        };
        // Neighbours on both sides that are due join, as far as one write can carry them.
        let mut slots = from..from + 1;
        let mut carried = self.slots[from].words();
        while slots.start > 0
            && due(&self.slots[slots.start - 1])
            && self.slots[slots.start - 1].joins(&self.slots[slots.start])
            && carried + self.slots[slots.start - 1].words() <= WORDS_MAX
        {
            slots.start -= 1;
            carried += self.slots[slots.start].words();
        }
        while slots.end < self.slots.len()
            && due(&self.slots[slots.end])
            && self.slots[slots.end - 1].joins(&self.slots[slots.end])
            && carried + self.slots[slots.end].words() <= WORDS_MAX
        {
            carried += self.slots[slots.end].words();
            slots.end += 1;
        }
        self.cursor = slots.end;
        let first = &self.slots[slots.start];
        let wanted = self.slots[slots.clone()].iter().flat_map(|slot| &slot.desired);
        let words = wanted.flatten().copied().collect();
        Some(Batch { unit: first.unit, first: first.first, words, replies: first.replies, slots })
    }

    /// The write arrived.
    pub fn written(&mut self, now: Mono, slots: Range<usize>) {
        for slot in &mut self.slots[slots] {
            slot.confirmed = true;
            slot.due = now + REFRESH;
            slot.retry.reset();
        }
    }

    /// The unit answered the write with a refusal.
    pub fn refused(&mut self, now: Mono, slots: Range<usize>, jitter: &mut Jitter) {
        let together = slots.len() > 1;
        for slot in &mut self.slots[slots] {
            slot.confirmed = false;
            slot.due = if together { now } else { now + slot.retry.grow(jitter) };
            slot.alone = true;
        }
    }

    /// The unit did not answer: none of its signs is written before `until`, all are after.
    pub fn hold(&mut self, unit: usize, until: Mono) {
        for slot in self.slots.iter_mut().filter(|slot| slot.unit == unit) {
            slot.confirmed = false;
            slot.due = until;
        }
    }

    /// Displays may have lost what they showed: of one unit, or of all.
    pub fn forget(&mut self, unit: Option<usize>) {
        for slot in &mut self.slots {
            if unit.is_none_or(|unit| unit == slot.unit) && slot.confirmed {
                slot.confirmed = false;
                slot.due = Mono(0);
            }
        }
    }

    /// Only what is not confirmed is written from now on, at once.
    pub fn last_call(&mut self) {
        for slot in &mut self.slots {
            slot.due = if slot.confirmed { Mono(u64::MAX) } else { Mono(0) };
        }
    }

    /// When the first sign is due, with `allowed` saying from when each unit may be written to.
    pub fn due(&self, allowed: impl Fn(usize) -> Mono) -> Option<Mono> {
        let wanted = self.slots.iter().filter(|slot| slot.desired.is_some());
        wanted.map(|slot| slot.due.max(allowed(slot.unit))).min()
    }

    /// How many of a unit's signs should show something, and how many are known to.
    pub fn counts(&self, unit: usize) -> (u32, u32) {
        let ours = self.slots.iter().filter(|slot| slot.unit == unit && slot.desired.is_some());
        ours.fold((0, 0), |(desired, confirmed), slot| {
            (desired + 1, confirmed + u32::from(slot.confirmed))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: Format = Format::number(9_999, 10_001, 10_002, 10_000);
    const ALL: fn(usize) -> bool = |_| true;

    #[test]
    fn neighbours_share_a_write_and_strangers_do_not() {
        let mut signs = signs(&[(0, 0), (0, 1), (0, 3), (1, 4)]);
        for slot in 0..4 {
            signs.want(slot, &Face::Number(slot as u32 + 10));
        }
        let batches = drain(&mut signs, Mono(5));
        assert_eq!(batches, [(0, 0, vec![10, 11]), (0, 3, vec![12]), (1, 4, vec![13])]);
        assert!(signs.next(Mono(5), ALL).is_none());
    }

    #[test]
    fn a_write_never_carries_more_than_the_spec_allows() {
        let mut signs = signs(&(0..250).map(|n| (0, n)).collect::<Vec<_>>());
        (0..250).for_each(|slot| signs.want(slot, &Face::Full));
        let sizes: Vec<usize> =
            drain(&mut signs, Mono(0)).into_iter().map(|batch| batch.2.len()).collect();
        assert_eq!(sizes, [123, 123, 4]);
    }

    #[test]
    fn the_newest_face_wins_and_a_failed_one_is_never_sent_again() {
        let mut signs = signs(&[(0, 0)]);
        signs.want(0, &Face::Number(1));
        assert_eq!(signs.next(Mono(0), ALL).unwrap().words, [1]);
        signs.hold(0, Mono(0).plus_ms(1_000));
        signs.want(0, &Face::Number(2));
        signs.want(0, &Face::Number(3));
        assert_eq!(signs.next(Mono(0).plus_ms(999), ALL), None);
        assert_eq!(signs.next(Mono(0).plus_ms(1_000), ALL).unwrap().words, [3]);
    }

    #[test]
    fn a_refused_write_is_tried_one_by_one_and_then_ever_more_rarely() {
        let (mut signs, mut jitter) = (signs(&[(0, 0), (0, 1)]), Jitter::new(3));
        signs.want(0, &Face::Number(1));
        signs.want(1, &Face::Number(2));
        let both = signs.next(Mono(0), ALL).unwrap();
        signs.refused(Mono(0), both.slots, &mut jitter);
        let good = signs.next(Mono(0), ALL).unwrap();
        let bad = signs.next(Mono(0), ALL).unwrap();
        let mut words = [good.words.clone(), bad.words.clone()];
        words.sort();
        assert_eq!(words, [[1], [2]]);
        signs.written(Mono(0), good.slots);
        let mut tries = 0;
        for second in 0..3_600 {
            let now = Mono(0).plus_ms(second * 1_000);
            while let Some(batch) = signs.next(now, |_| true) {
                if batch.slots == bad.slots {
                    tries += 1;
                    signs.refused(now, batch.slots, &mut jitter);
                } else {
                    signs.written(now, batch.slots);
                }
            }
        }
        assert!((60..=90).contains(&tries), "{tries} tries in an hour");
        assert_eq!(signs.counts(0), (2, 1));
    }

    #[test]
    fn what_may_be_forgotten_is_written_again() {
        let mut signs = signs(&[(0, 0), (1, 0)]);
        signs.want(0, &Face::Number(1));
        signs.want(1, &Face::Number(2));
        assert_eq!(drain(&mut signs, Mono(0)).len(), 2);
        signs.forget(Some(1));
        assert_eq!(drain(&mut signs, Mono(1)), [(1, 0, vec![2])]);
        signs.forget(None);
        assert_eq!(drain(&mut signs, Mono(2)).len(), 2);
        assert_eq!(drain(&mut signs, Mono(2) + REFRESH - Duration::from_nanos(1)), []);
        assert_eq!(drain(&mut signs, Mono(2) + REFRESH).len(), 2);
    }

    fn signs(places: &[(usize, u16)]) -> Signs {
        let place = |(unit, first): &(usize, u16)| Place {
            unit: *unit,
            first: *first,
            format: NUMBER,
            replies: true,
        };
        Signs::new(&places.iter().map(place).collect::<Vec<_>>())
    }

    fn drain(signs: &mut Signs, now: Mono) -> Vec<(usize, u16, Vec<u16>)> {
        let mut batches = Vec::new();
        while let Some(batch) = signs.next(now, ALL) {
            signs.written(now, batch.slots);
            batches.push((batch.unit, batch.first, batch.words));
        }
        batches.sort();
        batches
    }
}
