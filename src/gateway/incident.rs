//! Incidents: what is burning is closed, whatever anybody ordered, until it is over.
//!
//! Staff declare one as a closure that is an incident. While it lasts its bays are given to
//! nobody, who is on the way is given another, signs over it show CLOSED before any message or
//! mode, direction signs lead elsewhere, and begin and end are told on the alarm lane.

use super::Gateway;
use super::close::Closure;
use super::door::Effect;
use super::snapshot::IncidentView;
use crate::record::{Body, Lane};
use crate::site::{GarageIx, Scope, Target, ZoneIx};

impl Gateway {
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
            Target::Node(node) => return self.touch_behind(node),
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
        let staff = self.closures.iter().filter(|(_, closure)| closure.incident);
        let view = |(target, closure): (&Target, &Closure)| IncidentView {
            id: self.site.target_id(*target),
            closes: vec![self.site.target_id(*target)],
            reason: closure.reason.clone(),
            by: closure.by.clone(),
            for_s: self.now.mono.ms_since(closure.since) / 1_000,
        };
        staff.map(view).collect()
    }
}
