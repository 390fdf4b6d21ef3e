//! The lamp at a bay: a colour chosen by the configuration's table over class, state, lease and
//! fault, ordered only when it changes.
//!
//! A bay that did not change costs nothing, and a site without lamps does no work at all: bays
//! whose facts changed are noted by [`Bays::change`](super::bays::Bays::change) where their zone
//! has lamps, and only those are looked at. After a start a lamp stays as it was found until its
//! bay's unit was heard and its bays have settled, or the unit was found silent: a restart must
//! not make 21,000 lamps blink.

use super::Gateway;
use super::bays::Bays;
use super::door::Effect;
use crate::site::{BayIx, ColourIx, Site, UnitIx};

/// What every lamp was told last.
#[derive(Clone, Debug, Default)]
pub struct Lamps {
    /// By bay; empty where the site has no lamps.
    shown: Vec<Option<ColourIx>>,
}

impl Lamps {
    pub fn new(site: &Site) -> Lamps {
        let any = site.zones.iter().any(|zone| zone.lamps.is_some());
        Lamps { shown: vec![None; if any { site.bays.len() } else { 0 }] }
    }
}

impl Gateway {
    /// Brings the lamps of changed bays up to date.
    pub(super) fn light(&mut self, effects: &mut Vec<Effect>) {
        for at in 0..self.bays.dim.len() {
            self.light_one(self.bays.dim[at], effects);
        }
        self.bays.dim.clear();
    }

    fn light_one(&mut self, bay: BayIx, effects: &mut Vec<Effect>) {
        let place = &self.site.bays[bay.at()];
        let unit = &self.units[place.unit.at()];
        let shown = self.lamps.shown[bay.at()];
        if shown.is_none() && !unit.fresh && !unit.is_lost() {
            return;
        }
        let facts = self.bays.get(bay);
        let (state, lease) = (facts.lamp_state(), facts.lease.is_some());
        let fault = facts.is_unknown() && unit.fresh;
        let colour = self.site.lamps.colour(place.class, state, lease, fault);
        if let Some(colour) = colour.filter(|colour| shown != Some(*colour)) {
            self.lamps.shown[bay.at()] = Some(colour);
            effects.push(Effect::Lamp { bay, colour });
        }
    }

    /// A unit's word is worth something else now: all its bays' lamps are looked at.
    pub(super) fn dim_unit(&mut self, unit: UnitIx) {
        for bay in self.site.units[unit.at()].bays.iter().flatten() {
            self.bays.dim(*bay);
        }
    }

    /// The gateway stops: every lamp gets the colour for that, or stays.
    pub(super) fn lamps_stop(&mut self, effects: &mut Vec<Effect>) {
        let Some(colour) = self.site.lamps.stop else { return };
        for zone in self.site.zones.iter().filter(|zone| zone.lamps.is_some()) {
            for bay in zone.bays.clone().map(BayIx) {
                if self.lamps.shown[bay.at()].replace(colour) != Some(colour) {
                    effects.push(Effect::Lamp { bay, colour });
                }
            }
        }
    }
}

/// Which bays have lamps.
pub fn lit(site: &Site) -> Vec<bool> {
    let any = site.zones.iter().any(|zone| zone.lamps.is_some());
    let lit = |bay: &crate::site::Bay| site.zones[bay.zone.at()].lamps.is_some();
    if any { site.bays.iter().map(lit).collect() } else { Vec::new() }
}

impl Bays {
    /// Notes that a bay's lamp may need another colour.
    pub fn dim(&mut self, bay: BayIx) {
        if self.lit.get(bay.at()) == Some(&true) {
            self.dim.push(bay);
        }
    }
}
