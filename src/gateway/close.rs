//! Closures by staff, and quarantine of bays that turned out taken.
//!
//! A closure covers a node, a link, a garage, a level, a zone or a bay, with a reason, a name and
//! perhaps an end; it is kept over restarts, so that a restart reopens nothing that staff closed.
//! Closures may overlap: a bay counts how many cover it. Drivers on their way to closed bays are
//! given others in the same step. A closed node or link concerns those who cannot have passed it
//! yet; nobody knows of the others whether they have.

use std::collections::BTreeSet;

use super::door::{Answer, ClosureView, Effect, LeaseId, Refusal};
use super::lease::Lease;
use super::life::Event;
use super::{Gateway, Timer};
use crate::record::{Body, Lane};
use crate::site::{BayIx, GarageIx, NodeIx, Scope, Target};
use crate::time::Mono;

/// Longest quarantine, in seconds: a day, after which someone has walked past.
const QUARANTINE_MAX_S: u64 = 86_400;

/// One closure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closure {
    pub reason: String,
    pub by: String,
    pub until: Option<Mono>,
    /// Full length, for a start under another boot.
    pub length_s: Option<u64>,
    /// An incident: it also tells on the alarm lane, on signs and at outputs.
    pub incident: bool,
    /// When it was put in force in this run.
    pub since: Mono,
}

impl Gateway {
    pub(super) fn close(
        &mut self,
        target: Target,
        reason: String,
        by: String,
        expires_s: Option<u64>,
        incident: bool,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let now = self.now.mono;
        let until = expires_s.map(|s| now.plus_ms(s.saturating_mul(1_000)));
        let before = self.closures.get(&target).filter(|before| before.incident).cloned();
        let since = before.as_ref().map_or(now, |before| before.since);
        let closure = Closure { reason, by, until, length_s: expires_s, incident, since };
        self.record(
            Lane::Events,
            Body::Closed {
                target: self.site.target_id(target),
                reason: closure.reason.clone(),
                by: closure.by.clone(),
                expires_s,
            },
            effects,
        );
        match before {
            None if incident => self.tell_incident(target, &closure, effects),
            Some(before) if !incident => self.tell_over(target, &before, &closure.by, effects),
            None | Some(_) => (),
        }
        let ahead = self.ahead(target);
        self.apply_closure(target, closure);
        self.keep_closure(target, effects);
        for lease in ahead {
            self.happened(lease, Event::WayCut, None, effects);
        }
        for lease in self.stranded(target) {
            self.happened(lease, Event::Closed, None, effects);
        }
        Answer::Done
    }

    /// Puts a closure in force; one of the same target is replaced.
    pub(super) fn apply_closure(&mut self, target: Target, closure: Closure) {
        if let Some(until) = closure.until {
            self.arm(until, Timer::Closure(target));
        }
        let incident = closure.incident;
        let before = self.closures.insert(target, closure);
        if before.is_none() {
            self.cover(target, true);
        }
        let was = before.is_some_and(|before| before.incident);
        if was != incident {
            self.burn(target, incident);
        }
    }

    pub(super) fn open(&mut self, target: Target, by: String, effects: &mut Vec<Effect>) -> Answer {
        let Some(closure) = self.closures.remove(&target) else {
            return Answer::Refused(Refusal::NotClosed(target));
        };
        self.cover(target, false);
        if closure.incident {
            self.burn(target, false);
            self.tell_over(target, &closure, &by, effects);
        }
        let id = self.site.target_id(target);
        self.record(Lane::Events, Body::Opened { target: id, by }, effects);
        self.keep_closure(target, effects);
        Answer::Done
    }

    pub(super) fn closure_due(&mut self, target: Target, effects: &mut Vec<Effect>) {
        let until = self.closures.get(&target).and_then(|closure| closure.until);
        if until.is_some_and(|until| until <= self.now.mono) {
            self.open(target, "expiry".to_owned(), effects);
        }
    }

    pub(super) fn closure_views(&self) -> Vec<ClosureView> {
        let view = |(target, closure): (&Target, &Closure)| ClosureView {
            target: self.site.target_id(*target),
            reason: closure.reason.clone(),
            by: closure.by.clone(),
            expires_in_s: closure.until.map(|until| until.ms_since(self.now.mono) / 1_000),
            incident: closure.incident,
        };
        self.closures.iter().map(view).collect()
    }

    /// Counts a closure onto (or off) every bay it covers, or cuts (or joins) ways.
    pub(super) fn cover(&mut self, target: Target, closed: bool) {
        match target {
            Target::Node(node) => {
                self.cut();
                self.touch_behind(node);
            }
            Target::Link(_) => self.cut(),
            Target::Bay(bay) => self.cover_bay(bay, closed),
            Target::Scope(scope) => {
                for bay in self.site.scope_bays(scope).map(BayIx) {
                    self.cover_bay(bay, closed);
                }
                self.bays.touch(self.site.scope_garage(scope));
            }
        }
    }

    /// A closed door is a closed garage to its outputs.
    pub(super) fn touch_behind(&mut self, door: NodeIx) {
        for (ix, garage) in (0..).map(GarageIx).zip(&self.site.garages) {
            if garage.door == door {
                self.bays.touch(ix);
            }
        }
    }

    /// Ways by what is closed now, by staff or by an incident.
    fn cut(&mut self) {
        (self.closed_nodes, self.closed_links) = (BTreeSet::new(), BTreeSet::new());
        for target in self.closures.keys() {
            match target {
                Target::Node(node) => _ = self.closed_nodes.insert(*node),
                Target::Link(link) => _ = self.closed_links.insert(*link),
                Target::Scope(_) | Target::Bay(_) => (),
            }
        }
        self.reroute();
    }

    fn cover_bay(&mut self, bay: BayIx, closed: bool) {
        self.bays.change(bay, |state| {
            if closed {
                state.closures += 1;
            } else {
                state.closures -= 1;
            }
        });
    }

    /// Open leases that lead to what was closed.
    pub(super) fn stranded(&self, target: Target) -> Vec<LeaseId> {
        let all = self.leases.iter();
        let hit = all.filter(|lease| match target {
            Target::Bay(bay) => lease.bay == Some(bay),
            Target::Scope(scope) => match (scope, lease.zone) {
                (Scope::Garage(garage), _) => lease.garage == garage,
                (Scope::Zone(closed), Some(zone)) => closed == zone,
                (Scope::Level(level), Some(zone)) => self.site.zones[zone.at()].level == level,
                (Scope::Zone(_) | Scope::Level(_), None) => false,
            },
            // Who is concerned by a cut way is known only before it is cut: see `ahead`.
            Target::Node(_) | Target::Link(_) => false,
        });
        hit.map(|lease| lease.id).collect()
    }

    /// Open leases whose way leads over a node or link that they cannot have passed yet: whoever
    /// has passed it is not helped by another way.
    fn ahead(&self, target: Target) -> Vec<LeaseId> {
        let hit = |lease: &&Lease| {
            // Nobody drives in less than half the time.
            let driven_ms = self.now.mono.ms_since(lease.life.seen_at) * 2;
            let (mut node, mut after_ms) = (lease.life.seen, 0);
            for ix in self.routes.way(&self.site, node, lease.garage) {
                let link = &self.site.links[ix.at()];
                let there = target == Target::Link(ix) || target == Target::Node(node);
                if there && after_ms >= driven_ms {
                    return true;
                }
                (node, after_ms) = (link.to, after_ms + u64::from(link.drive_ms()));
            }
            target == Target::Node(node) && after_ms >= driven_ms
        };
        match target {
            Target::Node(_) | Target::Link(_) => {
                self.leases.iter().filter(hit).map(|lease| lease.id).collect()
            }
            Target::Scope(_) | Target::Bay(_) => Vec::new(),
        }
    }

    /// A bay that read free turned out taken: out with it, longer each time in a row.
    pub(super) fn quarantine(&mut self, bay: BayIx, effects: &mut Vec<Effect>) {
        let first_s = u64::from(self.tuning.quarantine_s);
        let strikes = self.bays.get(bay).strikes;
        let length_s = (first_s << strikes.min(12)).min(QUARANTINE_MAX_S);
        let until = self.now.mono.plus_ms(length_s * 1_000);
        self.bays.change(bay, |state| {
            state.quarantine = Some(until);
            state.strikes = strikes.saturating_add(1);
        });
        self.arm(until, Timer::Quarantine(bay));
        let id = self.site.bay_id(bay);
        self.record(Lane::Events, Body::Quarantined { bay: id, for_s: length_s }, effects);
        self.keep_quarantine(bay, length_s, effects);
        self.contradicted(bay, effects);
        self.keep_trust(bay, effects);
    }

    /// Its time is over, or a car was seen to leave it. Its strikes stay: only a driver who parks
    /// there and is seen to proves the sensor right.
    pub(super) fn release(&mut self, bay: BayIx, effects: &mut Vec<Effect>) {
        if self.bays.get(bay).quarantine.is_some() {
            self.bays.change(bay, |state| state.quarantine = None);
            self.keep_quarantine(bay, 0, effects);
        }
    }

    pub(super) fn quarantine_due(&mut self, bay: BayIx, effects: &mut Vec<Effect>) {
        if self.bays.get(bay).quarantine.is_some_and(|until| until <= self.now.mono) {
            self.release(bay, effects);
        }
    }
}
