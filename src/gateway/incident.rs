//! Incidents: what is burning is closed, whatever anybody ordered, until it is over.
//!
//! A fire contact makes one, or staff by a closure that is one. While it lasts its bays are given
//! to nobody, who is on the way is given another, signs over it show CLOSED before any message or
//! mode, direction signs lead elsewhere, and begin and end are told on the alarm lane.
//!
//! A contact counts once it reads the same for [`CONTACT_MS`]. One that cannot be read keeps its
//! last known state, over restarts too: silence neither starts an incident nor ends one.

use std::collections::BTreeMap;

use super::Gateway;
use super::close::Closure;
use super::door::{Effect, Reading};
use super::life::Event;
use super::snapshot::IncidentView;
use crate::record::{Body, Lane};
use crate::site::{ContactIx, ContactKind, GarageIx, Scope, Site, Target, UnitIx, ZoneIx};
use crate::time::Mono;

/// How long a contact must read the same: longer than it bounces, and with a sweep a second one
/// more sweep.
const CONTACT_MS: u64 = 200;

/// One contact's present.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ContactState {
    /// As last believed; `None` until then.
    pub active: Option<bool>,
    /// Since when the opposite is read.
    other_since: Option<Mono>,
    /// When its incident began in this run.
    since: Option<Mono>,
}

impl ContactState {
    /// Takes what was read, if anything was; true where it is believed to have changed.
    fn read(&mut self, at: Mono, read: Option<bool>) -> bool {
        // Silence decides nothing, in neither direction: what was read before it still counts.
        let Some(read) = read else { return false };
        if self.active == Some(read) {
            self.other_since = None;
            return false;
        }
        let since = *self.other_since.get_or_insert(at);
        if at.ms_since(since) < CONTACT_MS {
            return false;
        }
        self.other_since = None;
        // The first that is known is a change only from what is assumed: at rest.
        self.active.replace(read).unwrap_or(false) != read
    }
}

/// Contacts by the unit that reads them.
pub fn contacts_of(site: &Site) -> BTreeMap<UnitIx, Vec<ContactIx>> {
    let mut by_unit: BTreeMap<UnitIx, Vec<ContactIx>> = BTreeMap::new();
    for (ix, contact) in (0..).map(ContactIx).zip(&site.contacts) {
        by_unit.entry(contact.unit).or_default().push(ix);
    }
    by_unit
}

impl Gateway {
    /// A unit's contacts, as it read them.
    pub(super) fn contacts(&mut self, reading: &Reading, effects: &mut Vec<Effect>) {
        let site = self.site.clone();
        let count = self.contacts_of.get(&reading.unit).map_or(0, Vec::len);
        for at in 0..count {
            let ix = self.contacts_of[&reading.unit][at];
            let contact = &site.contacts[ix.at()];
            let read = contact.active(reading.contacts, reading.contacts_known);
            if self.contact_states[ix.at()].read(reading.at, read) {
                self.contact_changed(ix, effects);
            }
        }
    }

    fn contact_changed(&mut self, ix: ContactIx, effects: &mut Vec<Effect>) {
        let site = self.site.clone();
        let contact = &site.contacts[ix.at()];
        let active = self.contact_states[ix.at()].active == Some(true);
        self.keep_contact(ix, effects);
        let id = contact.id.clone();
        match (contact.kind, active) {
            (ContactKind::Note, _) => {
                self.record(Lane::Events, Body::Contact { contact: id, active }, effects);
            }
            (ContactKind::Fire, true) => {
                let closes = contact.closes.iter();
                let closes = closes.map(|scope| site.target_id(Target::Scope(*scope))).collect();
                let (reason, by) = (contact.name.clone(), "contact".to_owned());
                let body = Body::IncidentBegan { incident: id, closes, reason, by };
                self.record(Lane::Alarms, body, effects);
                self.ignite(ix);
                for scope in &contact.closes {
                    for lease in self.stranded(Target::Scope(*scope)) {
                        self.happened(lease, Event::Closed, None, effects);
                    }
                }
            }
            (ContactKind::Fire, false) => {
                let since = self.contact_states[ix.at()].since.take();
                let since = since.unwrap_or(self.now.mono);
                for scope in &contact.closes {
                    self.cover(Target::Scope(*scope), false);
                    self.burn(Target::Scope(*scope), false);
                }
                let lasted_s = self.now.mono.ms_since(since) / 1_000;
                let by = "contact".to_owned();
                let body = Body::IncidentEnded { incident: id, by, lasted_s };
                self.record(Lane::Alarms, body, effects);
            }
        }
    }

    /// Closes what an active fire contact closes.
    fn ignite(&mut self, ix: ContactIx) {
        self.contact_states[ix.at()].since = Some(self.now.mono);
        let site = self.site.clone();
        for scope in &site.contacts[ix.at()].closes {
            self.cover(Target::Scope(*scope), true);
            self.burn(Target::Scope(*scope), true);
        }
    }

    /// An active contact of an earlier run: it stays so until it is read otherwise. What was read
    /// in this run is newer.
    pub(super) fn restore_contact(&mut self, ix: ContactIx, effects: &mut Vec<Effect>) {
        match self.contact_states[ix.at()].active {
            None => {
                self.contact_states[ix.at()].active = Some(true);
                if self.site.contacts[ix.at()].kind == ContactKind::Fire {
                    self.ignite(ix);
                }
            }
            Some(true) => (),
            Some(false) => {
                // Upstream was told that it began, and must hear of its end.
                let contact = &self.site.contacts[ix.at()];
                let (id, kind) = (contact.id.clone(), contact.kind);
                let (lane, body) = match kind {
                    ContactKind::Fire => (
                        Lane::Alarms,
                        Body::IncidentEnded { incident: id, by: "contact".to_owned(), lasted_s: 0 },
                    ),
                    ContactKind::Note => {
                        (Lane::Events, Body::Contact { contact: id, active: false })
                    }
                };
                self.record(lane, body, effects);
                self.keep_contact(ix, effects);
            }
        }
    }

    /// All that incidents close now.
    pub(super) fn burning_targets(&self) -> Vec<Target> {
        let lit = self.lit().flat_map(|ix| self.site.contacts[ix.at()].closes.iter());
        lit.map(|scope| Target::Scope(*scope)).collect()
    }

    /// Fire contacts that are active.
    fn lit(&self) -> impl Iterator<Item = ContactIx> + '_ {
        let all = (0..).map(ContactIx).zip(&self.site.contacts);
        let fires = all.filter(|(_, contact)| contact.kind == ContactKind::Fire);
        let active = |ix: &ContactIx| self.contact_states[ix.at()].active == Some(true);
        fires.map(|(ix, _)| ix).filter(active)
    }

    /// Whether an incident closes a garage or a part of it, or the node of its door.
    pub fn garage_incident(&self, garage: GarageIx) -> bool {
        let table = &self.site.garages[garage.at()];
        let door = self.closures.get(&Target::Node(table.door));
        table.zones.clone().any(|zone| self.burning[zone as usize] > 0)
            || door.is_some_and(|closure| closure.incident)
    }

    /// Whether every zone of these scopes is under an incident.
    pub(super) fn under_incident(&self, scopes: &[Scope]) -> bool {
        let burns = |zone: ZoneIx| self.burning[zone.at()] > 0;
        let all = |scope: &Scope| self.site.scope_zones(*scope).map(ZoneIx).all(burns);
        !scopes.is_empty() && scopes.iter().all(all)
    }

    /// Counts an incident onto (or off) the zones it covers.
    pub(super) fn burn(&mut self, target: Target, on: bool) {
        self.turned = true;
        let scope = match target {
            Target::Scope(scope) => scope,
            Target::Node(node) => {
                // Behind a burning door nobody is sent, so its garage's signs say so too.
                let garages = (0..).map(GarageIx).zip(&self.site.garages);
                let behind = garages.filter(|(_, garage)| garage.door == node);
                let behind: Vec<_> =
                    behind.map(|(ix, _)| Target::Scope(Scope::Garage(ix))).collect();
                behind.into_iter().for_each(|garage| self.burn(garage, on));
                return self.touch_behind(node);
            }
            Target::Link(_) | Target::Bay(_) => return,
        };
        for zone in self.site.scope_zones(scope) {
            let burning = &mut self.burning[zone as usize];
            *burning = if on { *burning + 1 } else { *burning - 1 };
        }
        self.bays.touch(self.site.scope_garage(scope));
    }

    pub(super) fn tell_incident(
        &mut self,
        target: Target,
        closure: &Closure,
        effects: &mut Vec<Effect>,
    ) {
        let incident = self.site.target_id(target);
        let closes = vec![incident.clone()];
        let (reason, by) = (closure.reason.clone(), closure.by.clone());
        self.record(Lane::Alarms, Body::IncidentBegan { incident, closes, reason, by }, effects);
    }

    pub(super) fn tell_over(
        &mut self,
        target: Target,
        closure: &Closure,
        by: &str,
        effects: &mut Vec<Effect>,
    ) {
        let incident = self.site.target_id(target);
        let lasted_s = self.now.mono.ms_since(closure.since) / 1_000;
        let by = by.to_owned();
        self.record(Lane::Alarms, Body::IncidentEnded { incident, by, lasted_s }, effects);
    }

    pub(super) fn incident_views(&self) -> Vec<IncidentView> {
        let now = self.now.mono;
        let contact = |ix: ContactIx| {
            let contact = &self.site.contacts[ix.at()];
            let closes = contact.closes.iter();
            let since = self.contact_states[ix.at()].since.unwrap_or(now);
            IncidentView {
                id: contact.id.clone(),
                closes: closes.map(|scope| self.site.target_id(Target::Scope(*scope))).collect(),
                reason: contact.name.clone(),
                by: "contact".to_owned(),
                for_s: now.ms_since(since) / 1_000,
            }
        };
        let staff = self.closures.iter().filter(|(_, closure)| closure.incident);
        let closure = |(target, closure): (&Target, &Closure)| IncidentView {
            id: self.site.target_id(*target),
            closes: vec![self.site.target_id(*target)],
            reason: closure.reason.clone(),
            by: closure.by.clone(),
            for_s: now.ms_since(closure.since) / 1_000,
        };
        self.lit().map(contact).chain(staff.map(closure)).collect()
    }
}
