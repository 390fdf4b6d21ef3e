//! Where the gateway leaves what should be written, and the line's owner picks it up.
//!
//! One place a sign, lamp or output, so it never grows and never blocks; a newer value replaces
//! an older one that was not picked up. Values stay after they were picked up: an owner that
//! starts anew reads them all again.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::field::places::Place;

/// The values of one line.
#[derive(Debug)]
pub struct Mailbox {
    slots: Mutex<Slots>,
    /// Wakes an owner that is a task.
    wake: Notify,
    /// Wakes an owner that is a thread.
    bell: Condvar,
}

#[derive(Debug)]
struct Slots {
    /// Where each slot's values begin, and the end of the last.
    starts: Vec<usize>,
    values: Vec<u16>,
    /// A value was left at all.
    set: Vec<bool>,
    /// Slots with a value that was not picked up, each once.
    new: Vec<usize>,
    is_new: Vec<bool>,
    rung: bool,
}

impl Mailbox {
    pub fn new<'a>(places: impl Iterator<Item = &'a Place>) -> Mailbox {
        let mut starts = vec![0];
        let mut end = 0;
        for place in places {
            end += usize::from(place.width);
            starts.push(end);
        }
        let slots = starts.len() - 1;
        let (set, is_new) = (vec![false; slots], vec![false; slots]);
        let slots =
            Slots { starts, values: vec![0; end], set, new: Vec::new(), is_new, rung: false };
        Mailbox { slots: Mutex::new(slots), wake: Notify::new(), bell: Condvar::new() }
    }

    /// Leaves a value. Holds the lock only to put it in place.
    pub fn put(&self, slot: usize, values: &[u16]) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let range = slots.starts[slot]..slots.starts[slot + 1];
        slots.values[range].copy_from_slice(values);
        slots.set[slot] = true;
        if !std::mem::replace(&mut slots.is_new[slot], true) {
            slots.new.push(slot);
        }
        drop(slots);
        self.wake.notify_one();
        self.bell.notify_one();
    }

    /// Hands over every value that is new since the last time.
    pub fn take(&self, mut each: impl FnMut(usize, &[u16])) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = &mut *slots;
        for slot in slots.new.drain(..) {
            slots.is_new[slot] = false;
            each(slot, &slots.values[slots.starts[slot]..slots.starts[slot + 1]]);
        }
    }

    /// Makes every value new again.
    pub fn repeat(&self) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.is_new = slots.set.clone();
        slots.new = (0..slots.set.len()).filter(|slot| slots.set[*slot]).collect();
    }

    /// Until a value is left.
    pub async fn wake(&self) {
        self.wake.notified().await;
    }

    /// Blocks until a value is left, the bell is rung, or until then.
    pub fn wait(&self, until: Option<Instant>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        while slots.new.is_empty() && !std::mem::take(&mut slots.rung) {
            let Some(until) = until else {
                slots = self.bell.wait(slots).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.bell.wait_timeout(slots, left);
            (slots, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends a [`Mailbox::wait`], under way or the next: there is something else to look at.
    pub fn ring(&self) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).rung = true;
        self.bell.notify_one();
    }
}
