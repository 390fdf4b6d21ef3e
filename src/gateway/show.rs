//! What follows from a step: ledger, fullness and signs of the garages that changed; and the
//! published picture.

use super::door::Effect;
use super::snapshot::{GarageView, SignView, Snapshot, UnitView};
use super::{Gateway, Timer};
use crate::record::{Body, Fullness, Lane};
use crate::site::{Face, GarageIx, Scope, SignIx, SignKind, Site};

/// Count signs by the garages they look at.
pub fn signs_of(site: &Site) -> Vec<Vec<SignIx>> {
    let mut by_garage = vec![Vec::new(); site.garages.len()];
    for (ix, sign) in (0..).map(SignIx).zip(&site.signs) {
        let SignKind::Count { scopes, .. } = &sign.kind else { continue };
        for garage in scopes.iter().map(|scope| site.scope_garage(*scope)) {
            let signs: &mut Vec<SignIx> = &mut by_garage[garage.at()];
            if signs.last() != Some(&ix) {
                signs.push(ix);
            }
        }
    }
    by_garage
}

impl Gateway {
    /// Brings everything that depends on totals up to date. All signs are written once at first.
    pub(super) fn settle(&mut self, effects: &mut Vec<Effect>) {
        self.refresh_ledger();
        let garages = self.bays.take_changed();
        for garage in &garages {
            self.update_fullness(*garage, effects);
            // Once as soon as there is something to keep: a kill in the first minute must not
            // leave the next start without books.
            let known = self.ledger.occupied(*garage).is_some();
            if known && !std::mem::replace(&mut self.ledger_kept[garage.at()], true) {
                self.keep_ledger(*garage, effects);
            }
        }
        if self.stopping {
            return;
        }
        self.light(effects);
        for garage in &garages {
            for at in 0..self.outputs_of[garage.at()].len() {
                self.switch(self.outputs_of[garage.at()][at], effects);
            }
        }
        if self.signs.iter().any(|sign| sign.shown.is_none()) {
            for sign in (0..self.signs.len() as u32).map(SignIx) {
                self.show(sign, effects);
            }
            return;
        }
        for garage in garages {
            for at in 0..self.signs_of[garage.at()].len() {
                self.show(self.signs_of[garage.at()][at], effects);
            }
        }
    }

    /// Brings the books of changed garages up to date; they stay marked as changed.
    pub(super) fn refresh_ledger(&mut self) {
        let unknown_max = self.tuning.unknown_max_percent;
        for garage in self.bays.changed() {
            self.ledger.refresh(&self.site, &self.bays, garage, unknown_max);
        }
    }

    /// Works out a sign's face and orders it written if it is another one.
    pub(super) fn show(&mut self, ix: SignIx, effects: &mut Vec<Effect>) {
        if self.stopping {
            return;
        }
        let sign = &self.site.signs[ix.at()];
        let unsure = match &sign.kind {
            SignKind::Count { scopes, .. } => self.unsure(scopes),
            SignKind::CallOut { .. } | SignKind::Direction { .. } => 0,
        };
        let state = &mut self.signs[ix.at()];
        let now = self.now.mono;
        let face = state.face(now, sign, &self.site, &self.bays, unsure, &self.tuning);
        if let Some(due) = state.due(sign, &self.tuning).filter(|due| *due > now) {
            self.timers.insert((due, Timer::Sign(ix)));
        }
        if state.shown.as_ref() != Some(&face) {
            state.shown = Some(face.clone());
            effects.push(Effect::Write { sign: ix, face });
        }
    }

    /// Open promises without a bay in these parts of the site.
    fn unsure(&self, scopes: &[Scope]) -> u32 {
        scopes.iter().map(|scope| self.ledger.promised(&self.site, *scope)).sum()
    }

    pub(super) fn stop(&mut self, effects: &mut Vec<Effect>) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        // The minute that has begun is told as far as it went.
        self.window_due(effects);
        for (ix, state) in (0..).map(SignIx).zip(&mut self.signs) {
            state.shown = Some(state.fallback.clone());
            effects.push(Effect::Write { sign: ix, face: state.fallback.clone() });
        }
        self.outputs_stop(effects);
        self.lamps_stop(effects);
    }

    /// Other texts for when the gateway does not know, one for each sign.
    pub(super) fn set_fallbacks(&mut self, faces: Vec<Face>, effects: &mut Vec<Effect>) {
        assert!(faces.len() == self.signs.len(), "a reload changes no signs, only their texts");
        for (state, face) in self.signs.iter_mut().zip(faces) {
            state.fallback = face;
        }
        for sign in (0..self.signs.len() as u32).map(SignIx) {
            self.show(sign, effects);
        }
    }

    fn update_fullness(&mut self, garage: GarageIx, effects: &mut Vec<Effect>) {
        let tally = self.bays.garage(garage);
        let seen = tally.free + tally.held + tally.occupied;
        // What is mostly unknown has no fullness: the band keeps its tier.
        let known = seen > 0
            && tally.unknown * 100 <= (seen + tally.unknown) * self.tuning.unknown_max_percent;
        self.bands_known[garage.at()] = known;
        if !known {
            return;
        }
        let taken_percent = (tally.held + tally.occupied) * 100 / seen;
        let band = &mut self.bands[garage.at()];
        let moved = band.update(self.now.mono, taken_percent, &self.limits);
        if let Some(due) = band.due(&self.limits) {
            self.arm(due, Timer::Band(garage));
        }
        if let Some((from, to)) = moved {
            let garage = self.site.garages[garage.at()].id.clone();
            let body = Body::GarageFullness { garage, from: fullness(from), to: fullness(to) };
            self.record(Lane::Events, body, effects);
        }
    }

    /// The picture for everyone else.
    pub fn snapshot(&mut self) -> Snapshot {
        self.version += 1;
        let garages = (0..self.site.garages.len() as u32).map(GarageIx);
        let units = self.units.iter().zip(&self.site.units).filter(|(state, _)| state.polled);
        Snapshot {
            at: self.now,
            version: self.version,
            garages: garages.map(|garage| self.garage_view(garage)).collect(),
            units: units
                .map(|(state, unit)| UnitView {
                    id: unit.id.clone(),
                    age_ms: state.age_ms(self.now.mono),
                    fresh: state.fresh,
                    bays: unit.bays.iter().flatten().count() as u32,
                })
                .collect(),
            signs: self.sign_views(),
            outputs: self.output_views(),
            counts: self.counts.clone(),
            leases_open: self.leases.len() as u32,
        }
    }

    fn garage_view(&self, garage: GarageIx) -> GarageView {
        let table = &self.site.garages[garage.at()];
        let scope = crate::site::Target::Scope(Scope::Garage(garage));
        GarageView {
            id: table.id.clone(),
            name: table.name.clone(),
            fullness: fullness(self.bands[garage.at()].tier()),
            closed: self.closures.contains_key(&scope),
            bays: table.bays.len() as u32,
            tally: self.bays.garage(garage),
            ledger_free: self.ledger.room(&self.site, garage),
            by_class: self.by_class(garage),
        }
    }

    fn sign_views(&self) -> Vec<SignView> {
        let view = |(state, sign): (&super::sign::SignState, &crate::site::Sign)| SignView {
            id: sign.id.clone(),
            name: sign.name.clone(),
            mode: state.mode,
            face: state.shown.clone().unwrap_or_else(|| state.fallback.clone()),
            kind: match sign.kind {
                SignKind::Count { .. } => "count",
                SignKind::CallOut { .. } => "call-out",
                SignKind::Direction { .. } => "direction",
            },
        };
        self.signs.iter().zip(&self.site.signs).map(view).collect()
    }
}

fn fullness(tier: usize) -> Fullness {
    match tier {
        0 => Fullness::Spaces,
        1 => Fullness::AlmostFull,
        _ => Fullness::Full,
    }
}
