//! Where the gateway leaves what signs should show, and the line's owner picks it up.
//!
//! One place a sign, so it never grows and never blocks; a newer face replaces an older one that
//! was not picked up. Faces stay after they were picked up: an owner that starts anew reads them
//! all again.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::site::Face;

/// The faces of one line.
#[derive(Debug)]
pub struct Mailbox {
    slots: Mutex<Slots>,
    wake: Notify,
}

#[derive(Debug)]
struct Slots {
    faces: Vec<(Option<Face>, bool)>,
    any: bool,
}

impl Mailbox {
    pub fn new(slots: usize) -> Mailbox {
        let slots = Slots { faces: vec![(None, false); slots], any: false };
        Mailbox { slots: Mutex::new(slots), wake: Notify::new() }
    }

    /// Leaves a face. Holds the lock only to put it in place.
    pub fn put(&self, slot: usize, face: Face) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.faces[slot] = (Some(face), true);
        slots.any = true;
        drop(slots);
        self.wake.notify_one();
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
}
