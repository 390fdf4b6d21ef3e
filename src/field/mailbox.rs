//! Where the gateway leaves what signs should show, and the line's owner picks it up.
//!
//! One place a sign, so it never grows and never blocks; a newer face replaces an older one that
//! was not picked up. Faces stay after they were picked up: an owner that starts anew reads them
//! all again. Beside them lie the units that staff want tried again, one place each as well.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::site::Face;

/// The faces of one line.
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
    faces: Vec<(Option<Face>, bool)>,
    any: bool,
    rung: bool,
    /// Units to try again, by their place on the line.
    retries: BTreeSet<usize>,
}

impl Mailbox {
    pub fn new(slots: usize) -> Mailbox {
        let faces = vec![(None, false); slots];
        let slots = Slots { faces, any: false, rung: false, retries: BTreeSet::new() };
        Mailbox { slots: Mutex::new(slots), wake: Notify::new(), bell: Condvar::new() }
    }

    /// Leaves a face. Holds the lock only to put it in place.
    pub fn put(&self, slot: usize, face: Face) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.faces[slot] = (Some(face), true);
        slots.any = true;
        drop(slots);
        self.wake.notify_one();
        self.bell.notify_one();
    }

    /// Leaves the wish to have a unit tried again.
    pub fn retry(&self, unit: usize) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retries.insert(unit);
        slots.rung = true;
        drop(slots);
        self.wake.notify_one();
        self.bell.notify_one();
    }

    /// Hands over the units to try again.
    pub fn take_retries(&self) -> BTreeSet<usize> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut slots.retries)
    }

    /// Hands over every face that is new since the last time.
    pub fn take(&self, mut each: impl FnMut(usize, &Face)) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut slots.any) {
            return;
        }
        for (slot, (face, new)) in slots.faces.iter_mut().enumerate() {
            if let (Some(face), true) = (face, std::mem::take(new)) {
                each(slot, face);
            }
        }
    }

    /// Makes every face new again.
    pub fn repeat(&self) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for (face, new) in &mut slots.faces {
            *new = face.is_some();
        }
        slots.any = true;
    }

    /// Until a face is left.
    pub async fn wake(&self) {
        self.wake.notified().await;
    }

    /// Blocks until a face is left, the bell is rung, or until then.
    pub fn wait(&self, until: Option<Instant>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        while !slots.any && !std::mem::take(&mut slots.rung) {
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
