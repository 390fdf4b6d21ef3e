//! What each sign shows: a count, a call-out or its fallback, and never a zero it cannot know.
//!
//! Precedence, highest first: stopping (fallback), the operator's mode, unknown (hold the last
//! count for `sign_hold_s`, then fallback), the automatic value. A sign is an absolute face, so
//! the newest write makes every older one irrelevant.

use std::collections::VecDeque;

use super::bays::Bays;
use super::door::{LeaseId, SignMode};
use crate::config::GuidanceTable;
use crate::record::Tally;
use crate::site::{Face, Scope, Sign, SignKind, Site};
use crate::time::Mono;

/// One sign's present.
#[derive(Clone, Debug)]
pub struct SignState {
    pub mode: SignMode,
    /// Staff set the mode in this run: it is newer than any kept one.
    pub mode_set: bool,
    /// From the configuration; a reload may change it.
    pub fallback: Face,
    /// What was last ordered; `None` until the first order of this run.
    pub shown: Option<Face>,
    /// Last automatic count, and since when it is only held.
    last_count: Option<Face>,
    held_since: Option<Mono>,
    queue: VecDeque<(LeaseId, String)>,
    called: Option<(LeaseId, String, Mono)>,
}

impl SignState {
    pub fn new(sign: &Sign) -> SignState {
        SignState {
            mode: SignMode::Auto,
            mode_set: false,
            fallback: sign.fallback.clone(),
            shown: None,
            last_count: None,
            held_since: None,
            queue: VecDeque::new(),
            called: None,
        }
    }

    /// Queues a call-out; the oldest waiting one gives way when the queue is full.
    pub fn call(&mut self, lease: LeaseId, text: String, queue_max: usize) {
        if self.queue.len() >= queue_max {
            self.queue.pop_front();
        }
        self.queue.push_back((lease, text));
    }

    /// Forgets a lease's call-out, shown or waiting.
    pub fn call_off(&mut self, lease: LeaseId) {
        self.queue.retain(|(other, _)| *other != lease);
        self.called.take_if(|(other, _, _)| *other == lease);
    }

    /// When the sign changes by itself.
    pub fn due(&self, sign: &Sign, tuning: &GuidanceTable) -> Option<Mono> {
        let called = match (&sign.kind, &self.called) {
            (SignKind::CallOut { show_s, .. }, Some((_, _, since))) => {
                Some(since.plus_ms(u64::from(*show_s) * 1_000))
            }
            _ => None,
        };
        let hold_ms = u64::from(tuning.sign_hold_s) * 1_000;
        called.or(self.held_since.map(|since| since.plus_ms(hold_ms)))
    }

    /// What the sign should show now.
    pub fn face(
        &mut self,
        now: Mono,
        sign: &Sign,
        site: &Site,
        bays: &Bays,
        unsure: u32,
        tuning: &GuidanceTable,
    ) -> Face {
        let automatic = match &sign.kind {
            SignKind::Count { .. } => self.count(now, sign, site, bays, unsure, tuning),
            SignKind::CallOut { show_s, .. } => self.call_out(now, *show_s),
            SignKind::Direction { .. } => self.fallback.clone(),
        };
        match self.mode {
            SignMode::Auto => automatic,
            SignMode::Blank => Face::Blank,
            SignMode::Full => Face::Full,
            SignMode::Closed => Face::Closed,
            SignMode::Staff => Face::Staff,
            SignMode::Valet => Face::Valet,
            SignMode::Test => test_face(sign),
        }
    }

    fn count(
        &mut self,
        now: Mono,
        sign: &Sign,
        site: &Site,
        bays: &Bays,
        unsure: u32,
        tuning: &GuidanceTable,
    ) -> Face {
        let SignKind::Count { scopes, class, .. } = &sign.kind else { return Face::Blank };
        let mut tally = Tally::default();
        for scope in scopes {
            tally += bays.tally(*scope, *class);
        }
        let (all, open) = (tally.total(), tally.total() - tally.closed);
        if tally.unknown * 100 > open * tuning.unknown_max_percent {
            let since = *self.held_since.get_or_insert(now);
            let held = now.ms_since(since) < u64::from(tuning.sign_hold_s) * 1_000;
            return match &self.last_count {
                Some(last) if held => last.clone(),
                Some(_) | None => self.fallback.clone(),
            };
        }
        self.held_since = None;
        let face = if all == tally.closed && closed_by_staff(site, bays, scopes) {
            Face::Closed
        } else {
            number(sign, tally.free, unsure)
        };
        self.last_count = Some(face.clone());
        face
    }

    fn call_out(&mut self, now: Mono, show_s: u32) -> Face {
        let over = |since: Mono| now.ms_since(since) >= u64::from(show_s) * 1_000;
        if self.called.as_ref().is_none_or(|(_, _, since)| over(*since)) {
            self.called = self.queue.pop_front().map(|(lease, text)| (lease, text, now));
        }
        match &self.called {
            Some((_, text, _)) => Face::Text(text.clone()),
            None => self.fallback.clone(),
        }
    }
}

/// Free bays less what is promised without a bay and what is kept back, within limits.
fn number(sign: &Sign, free: u32, unsure: u32) -> Face {
    let SignKind::Count { keep_back, offset, min, max, .. } = &sign.kind else {
        return Face::Blank;
    };
    let spare = free.saturating_sub(unsure).saturating_sub(*keep_back);
    let value = i64::from(spare) + i64::from(*offset);
    match u32::try_from(value.clamp(i64::from(*min), i64::from(*max))) {
        Ok(0) | Err(_) => Face::Full,
        Ok(value) => Face::Number(value),
    }
}

/// A closed sign is for closed doors: quarantined bays alone do not make one.
pub fn closed_by_staff(site: &Site, bays: &Bays, scopes: &[Scope]) -> bool {
    let all = scopes.iter().flat_map(|scope| site.scope_bays(*scope));
    all.map(crate::site::BayIx).all(|bay| bays.get(bay).closures > 0)
}

fn test_face(sign: &Sign) -> Face {
    match &sign.kind {
        SignKind::Count { max, .. } => {
            let eights = [8u32, 88, 888, 8_888];
            Face::Number(eights.into_iter().rfind(|n| n <= max).unwrap_or(8))
        }
        SignKind::CallOut { .. } | SignKind::Direction { .. } => Face::Text("88888888".to_owned()),
    }
}
