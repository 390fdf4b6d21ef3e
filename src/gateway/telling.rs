//! Facts into words: what a step says in indexes becomes records, kept values and answers.
//!
//! A step decides in some hundred nanoseconds; naming a bay and writing JSON takes several times
//! that. So a step's effects carry facts, and whoever carries them out words them here: the owner
//! before it hands them to the store, the HTTP side when it answers. The same facts always give
//! the same words, and what upstream and drivers read is made nowhere else.

use std::sync::Arc;

use super::door::{Allocation, BayTold, Effect, LeaseTold, Why};
use super::keep::{KeptLease, KeptLife, KeptUnit, json, lease_key};
use super::lease::Lease;
use super::route;
use crate::record::{Body, Lane, LeaseBody, Promise, Record, Sensed};
use crate::site::{BayIx, LevelIx, LinkIx, NodeIx, Site, UnitIx};
use crate::time::Now;

/// What upstream was told last of each bay: for each unit a bit a point that says occupied, then
/// as many that say known.
#[derive(Clone, Debug)]
pub struct Told {
    units: Vec<Vec<u64>>,
}

impl Told {
    /// Nothing yet: all unknown.
    pub fn new(site: &Site) -> Told {
        let words = |unit: &crate::site::Unit| vec![0; 2 * unit.bays.len().div_ceil(64)];
        Told { units: site.units.iter().map(words).collect() }
    }

    /// Notes what is told of a bay now; gives what was told before.
    pub fn replace(&mut self, site: &Site, bay: BayIx, to: Sensed) -> Sensed {
        let place = &site.bays[bay.at()];
        let words = &mut self.units[place.unit.at()];
        let before = at(words, place.point.into());
        let (word, bit) = (usize::from(place.point / 64), 1 << (place.point % 64));
        let half = words.len() / 2;
        for (word, is) in [(word, to == Sensed::Occupied), (half + word, to != Sensed::Unknown)] {
            words[word] = if is { words[word] | bit } else { words[word] & !bit };
        }
        before
    }

    /// What was told of a unit, for [`letters`].
    pub fn of(&self, unit: UnitIx) -> Vec<u64> {
        self.units[unit.at()].clone()
    }
}

fn at(words: &[u64], point: usize) -> Sensed {
    let has = |word: usize| words[word] & 1 << (point % 64) != 0;
    match (has(words.len() / 2 + point / 64), has(point / 64)) {
        (false, _) => Sensed::Unknown,
        (true, true) => Sensed::Occupied,
        (true, false) => Sensed::Free,
    }
}

/// A letter (f, o, u) for each wired bay of a unit, in point order.
pub fn letters(site: &Site, unit: UnitIx, told: &[u64]) -> String {
    let points = site.units[unit.at()].bays.iter().enumerate();
    let letter = |(point, _)| match at(told, point) {
        Sensed::Free => 'f',
        Sensed::Occupied => 'o',
        Sensed::Unknown => 'u',
    };
    points.filter(|(_, bay)| bay.is_some()).map(letter).collect()
}

/// Turns the facts of one gateway's effects into records and kept values.
#[derive(Clone, Debug)]
pub struct Teller {
    site: Arc<Site>,
    boot: String,
}

impl Teller {
    pub(super) fn new(site: Arc<Site>, boot: String) -> Teller {
        Teller { site, boot }
    }

    /// Adds what an effect is in words: one [`Effect::Record`] or [`Effect::Keep`] for each of its
    /// tickets, in order; an effect that is no such fact as it is.
    pub fn word(&self, effect: Effect, words: &mut Vec<Effect>) {
        match effect {
            Effect::Lease { at, told, lease } => {
                if let Some(body) = self.lease_told(at, told, &lease) {
                    words.push(record(at, body));
                }
                let ended = matches!(told, LeaseTold::Ended { .. });
                let value = (!ended).then(|| json(&self.kept_lease(&lease)));
                words.push(Effect::Keep { key: lease_key(lease.id), value });
            }
            Effect::Bays { at, news } => {
                for BayTold { bay, from, to } in news {
                    words.push(record(at, Body::Bay { bay: self.site.bay_id(bay), from, to }));
                }
            }
            Effect::Unit { unit, wiring, told } => {
                let kept = KeptUnit { wiring, states: letters(&self.site, unit, &told) };
                let key = format!("unit/{}", self.site.units[unit.at()].id);
                words.push(Effect::Keep { key, value: Some(json(&kept)) });
            }
            other => words.push(other),
        }
    }

    fn lease_told(&self, at: Now, told: LeaseTold, lease: &Lease) -> Option<Body> {
        Some(match told {
            LeaseTold::Confirmed => return None,
            LeaseTold::Granted => Body::LeaseGranted(self.lease_body(lease)),
            LeaseTold::Moved => Body::LeaseMoved(self.lease_body(lease)),
            LeaseTold::Ended { end, inferred, stands } => Body::LeaseEnded {
                lease: lease.id.to_string(),
                end,
                inferred,
                bay: stands.map(|bay| self.site.bay_id(bay)),
                held_s: at.mono.ms_since(lease.granted) / 1_000,
            },
        })
    }

    fn lease_body(&self, lease: &Lease) -> LeaseBody {
        let destination = lease.destination.map(|ix| &self.site.destinations[ix.at()]);
        LeaseBody {
            lease: lease.id.to_string(),
            at: self.site.nodes[lease.life.seen.at()].id.clone(),
            promise: lease.promise,
            class: self.site.classes[lease.class.at()].id.clone(),
            destination: destination.map(|destination| destination.id.clone()),
            garage: Some(self.site.garages[lease.garage.at()].id.clone()),
            zone: lease.zone.map(|zone| self.site.zone_id(zone)),
            bay: lease.bay.map(|bay| self.site.bay_id(bay)),
            travel_s: lease.travel_ms / 1_000,
            hold_s: lease.hold_ms / 1_000,
        }
    }

    fn kept_lease(&self, lease: &Lease) -> KeptLease {
        KeptLease {
            boot: self.boot.clone(),
            request_id: lease.request_id.to_string(),
            at: self.site.nodes[lease.at.at()].id.clone(),
            class: self.site.classes[lease.class.at()].id.clone(),
            destination: lease.destination.map(|ix| self.site.destinations[ix.at()].id.clone()),
            promise: lease.promise,
            garage: self.site.garages[lease.garage.at()].id.clone(),
            zone: lease.zone.map(|zone| self.site.zone_id(zone)),
            bay: lease.bay.map(|bay| self.site.bay_id(bay)),
            granted: lease.granted,
            earliest: lease.earliest,
            deadline: lease.deadline,
            travel_ms: lease.travel_ms,
            hold_ms: lease.hold_ms,
            life: Some(KeptLife {
                state: lease.life.state,
                seen: self.site.nodes[lease.life.seen.at()].id.clone(),
                seen_at: lease.life.seen_at,
                moves: lease.life.moves,
                vehicle: lease.life.vehicle,
            }),
        }
    }
}

fn record(at: Now, body: Body) -> Effect {
    Effect::Record(Record::new(Lane::Events, at, body))
}

impl Allocation {
    /// The links to drive, in order.
    fn links(&self, site: &Site) -> Vec<LinkIx> {
        match (&self.routes, self.garage) {
            (Some(routes), Some(garage)) => routes.way(site, self.at, garage),
            (None, _) | (_, None) => self.out.clone(),
        }
    }

    /// Nodes to pass, from `at` to the garage's door or to an exit; none where neither is named.
    pub fn way(&self, site: &Site) -> Vec<NodeIx> {
        let links = self.links(site);
        let first = (self.garage.is_some() || !links.is_empty()).then_some(self.at);
        first.into_iter().chain(links.iter().map(|link| site.links[link.at()].to)).collect()
    }

    /// The portal the way passes.
    pub fn portal(&self, site: &Site) -> Option<NodeIx> {
        self.garage.and_then(|_| route::portal(site, self.at, &self.links(site)))
    }

    /// The level of the promised zone.
    pub fn level(&self, site: &Site) -> Option<LevelIx> {
        self.zone.map(|zone| site.zones[zone.at()].level)
    }

    /// One sentence for each place where there is a choice, and one for each promise level.
    pub fn directions(&self, site: &Site) -> Vec<String> {
        let mut told = route::directions(site, &self.links(site));
        let (Some(_), Some(garage)) = (self.lease, self.garage) else {
            told.push(self.elsewhere(site));
            return told;
        };
        told.push(format!("Enter {}.", site.garages[garage.at()].name));
        if let Some(zone) = self.zone.map(|zone| &site.zones[zone.at()]) {
            let level = &site.levels[zone.level.at()];
            told.push(format!("Go to level {}, zone {}.", level.id, zone.id));
        }
        if let Some(bay) = self.bay {
            told.push(format!("Take bay {:03}.", site.bays[bay.at()].number));
        }
        told
    }

    /// Where to go without a promise.
    fn elsewhere(&self, site: &Site) -> String {
        match (self.garage, self.out.last()) {
            (Some(garage), _) => {
                let name = &site.garages[garage.at()].name;
                format!("Follow the signs to {name}: it may have room.")
            }
            (None, Some(last)) => {
                let exit = &site.nodes[site.links[last.at()].to.at()].name;
                format!("No garage has room: leave by {exit}.")
            }
            (None, None) => "No garage has room: follow the signs to the surface.".to_owned(),
        }
    }

    /// Why there is no firmer promise; empty where there is a bay.
    pub fn reason(&self, site: &Site) -> String {
        let because = match self.why {
            Why::Firm => return String::new(),
            Why::Counted if self.promise == Promise::Zone => {
                return "the zone's sensors do not answer; by its count it has room".to_owned();
            }
            Why::Counted => {
                return "the garage's sensors do not answer; by its count it has room".to_owned();
            }
            Why::Unseen => "and some sensors do not answer",
            Why::Taken => "and all that could serve it are taken or promised",
        };
        format!(
            "no bay for class {} is known to be free, {because}. {} Ask again in 60 s with a new \
             request_id.",
            site.classes[self.class.at()].id,
            self.elsewhere(site)
        )
    }
}
