//! What follows from a step: ledger, fullness and signs of the garages that changed; and the
//! published picture.

use super::arrow::{self, Pointed};
use super::door::{Effect, SignMode};
use super::precedence::Source;
use super::sign::{self, Around, Worked};
use super::snapshot::{Cars, GarageView, SignView, Snapshot, UnitView};
use super::{Gateway, Timer};
use crate::record::{Body, Fullness, Lane};
use crate::site::{Face, GarageIx, Scope, Sign, SignIx, SignKind, Site};

/// Count and direction signs by the garages they look at.
pub fn signs_of(site: &Site) -> Vec<Vec<SignIx>> {
    let mut by_garage = vec![Vec::new(); site.garages.len()];
    for (ix, sign) in (0..).map(SignIx).zip(&site.signs) {
        for garage in scopes(sign).iter().map(|scope| site.scope_garage(*scope)) {
            let signs: &mut Vec<SignIx> = &mut by_garage[garage.at()];
            if signs.last() != Some(&ix) {
                signs.push(ix);
            }
        }
    }
    by_garage
}

/// The signs that are such.
pub fn which(site: &Site, such: impl Fn(&Sign) -> bool) -> Vec<SignIx> {
    let all = (0..).map(SignIx).zip(&site.signs);
    all.filter(|(_, sign)| such(sign)).map(|(ix, _)| ix).collect()
}

/// What a sign speaks of.
fn scopes(sign: &Sign) -> &[Scope] {
    match &sign.kind {
        SignKind::Count { scopes, .. } | SignKind::Direction { scopes, .. } => scopes,
        SignKind::CallOut { .. } => &[],
    }
}

impl Gateway {
    /// Brings everything that depends on totals up to date. All signs are written once at first.
    pub(super) fn settle(&mut self, effects: &mut Vec<Effect>) {
        self.refresh_ledger();
        let mut garages = std::mem::take(&mut self.settled);
        self.bays.take_changed(&mut garages);
        self.settle_garages(&garages, effects);
        self.settled = garages;
    }

    fn settle_garages(&mut self, garages: &[GarageIx], effects: &mut Vec<Effect>) {
        for garage in garages {
            self.update_fullness(*garage, effects);
            self.begin_count(*garage);
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
        for garage in garages {
            for at in 0..self.outputs_of[garage.at()].len() {
                self.switch(self.outputs_of[garage.at()][at], effects);
            }
        }
        let first = !std::mem::replace(&mut self.faced, true);
        let turned = std::mem::take(&mut self.turned);
        for garage in garages {
            for at in 0..self.signs_of[garage.at()].len() {
                let sign = self.signs_of[garage.at()][at];
                // A look at one garage's room is cheap; pointing anew is not.
                if first || self.recounted(sign, effects) {
                    continue;
                }
                if self.room_changed(sign, *garage) {
                    self.show(sign, effects);
                }
            }
        }
        if first {
            for sign in (0..self.signs.len() as u32).map(SignIx) {
                self.show(sign, effects);
            }
        } else if turned {
            for at in 0..self.directions.len() {
                self.show(self.directions[at], effects);
            }
        }
    }

    /// Brings books and prices of changed garages up to date; they stay marked as changed.
    pub(super) fn refresh_ledger(&mut self) {
        let unknown_max = self.tuning.unknown_max_percent;
        for garage in self.bays.changed() {
            self.ledger.refresh(&self.site, &self.bays, *garage, unknown_max);
        }
        self.bays.price();
    }

    /// One number for another on a sign on which nothing else bears: most of all changes, and
    /// nothing more than a count. False where it takes a closer look.
    fn recounted(&mut self, ix: SignIx, effects: &mut Vec<Effect>) -> bool {
        let SignKind::Count { scopes, .. } = &self.site.signs[ix.at()].kind else { return false };
        if !self.signs[ix.at()].calmly_counts() || self.under_incident(scopes) {
            return false;
        }
        let (sign, unsure) = (&self.site.signs[ix.at()], self.unsure(scopes));
        let unknown_max = self.tuning.unknown_max_percent;
        let worked = sign::count(sign, &self.site, &self.bays, unsure, unknown_max);
        let Worked::Known { face: Face::Number(number), .. } = worked else { return false };
        if self.signs[ix.at()].count_on(number) {
            effects.push(Effect::Write { sign: ix, face: Face::Number(number) });
        }
        true
    }

    /// Works out a sign's face and orders it written if it is another one.
    pub(super) fn show(&mut self, ix: SignIx, effects: &mut Vec<Effect>) {
        if self.stopping {
            return;
        }
        let worked = self.work_out(ix);
        let sign = &self.site.signs[ix.at()];
        let now = self.now.mono;
        let incident = self.under_incident(scopes(sign));
        let ordered = self.signs[ix.at()].order.mode != SignMode::Auto;
        let around = Around {
            now,
            stopping: false,
            incident,
            // Only what is ordered asks what the display can show.
            format: if incident || ordered { self.format(ix) } else { None },
            hold_ms: u64::from(self.tuning.sign_hold_s) * 1_000,
        };
        let state = &mut self.signs[ix.at()];
        let (source, face) = state.decide(sign, worked, &around);
        if let Some(due) = state.due(sign, &self.tuning).filter(|due| *due > now) {
            self.timers.arm(due, Timer::Sign(ix));
        }
        let other = state.shown.as_ref().is_none_or(|(_, shown)| *shown != face);
        if other {
            effects.push(Effect::Write { sign: ix, face: face.clone() });
        }
        state.shown = Some((source, face));
    }

    /// What the sign would show if nobody ordered anything.
    fn work_out(&mut self, ix: SignIx) -> Worked {
        let site = self.site.clone();
        let sign = &site.signs[ix.at()];
        match &sign.kind {
            SignKind::Count { scopes, .. } => {
                let unsure = self.unsure(scopes);
                sign::count(sign, &site, &self.bays, unsure, self.tuning.unknown_max_percent)
            }
            SignKind::CallOut { show_s, .. } => {
                self.signs[ix.at()].call_out(self.now.mono, *show_s)
            }
            SignKind::Direction { scopes, class, keep_back } => {
                if self.signs[ix.at()].rooms.is_empty() {
                    let view = self.view_all();
                    let room = |scope: &Scope| arrow::room(&view, *scope, *class, *keep_back);
                    self.signs[ix.at()].rooms = scopes.iter().map(room).collect();
                }
                self.point(ix, sign, scopes)
            }
        }
    }

    fn point(&self, ix: SignIx, sign: &Sign, scopes: &[Scope]) -> Worked {
        let state = &self.signs[ix.at()];
        let (site, routes, rooms) = (&*self.site, &self.routes, state.rooms.as_slice());
        // A checked site's direction signs hang somewhere.
        let Some(node) = sign.node else { return Worked::Unknown { hold: false } };
        let stands = match state.last {
            Some(Face::Arrow(arrow)) => arrow::leads(site, routes, node, scopes, rooms, arrow),
            Some(_) | None => true,
        };
        let pointed = arrow::point(site, routes, node, scopes, rooms);
        let wanted = match pointed {
            Pointed::Unknown => return Worked::Unknown { hold: stands },
            Pointed::Arrow(turn) => Face::Arrow(turn),
            Pointed::Full => Face::Full,
            Pointed::Closed => Face::Closed,
        };
        let can = self.format(ix).is_none_or(|format| format.can_show(&wanted));
        let face = if can { wanted } else { Face::Blank };
        Worked::Known { face, at_once: !stands || pointed == Pointed::Closed }
    }

    /// Looks again at what a direction sign's scopes in this garage have; true where that changed,
    /// and for every other sign.
    fn room_changed(&mut self, ix: SignIx, garage: GarageIx) -> bool {
        let site = self.site.clone();
        let SignKind::Direction { scopes, class, keep_back } = &site.signs[ix.at()].kind else {
            return true;
        };
        let mut changed = false;
        for (at, scope) in scopes.iter().enumerate() {
            if site.scope_garage(*scope) != garage || self.signs[ix.at()].rooms.is_empty() {
                continue;
            }
            let room = arrow::room(&self.view_all(), *scope, *class, *keep_back);
            let before = std::mem::replace(&mut self.signs[ix.at()].rooms[at], room);
            changed |= before != room;
        }
        changed
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
            // What burns stays closed while nobody watches: a fallback may be an arrow.
            if matches!(state.shown, Some((Source::Incident, _))) {
                continue;
            }
            state.shown = Some((Source::Stopping, state.fallback.clone()));
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
        let due = band.due(&self.limits);
        let armed = std::mem::replace(&mut self.bands_due[garage.at()], due);
        if let Some(due) = due.filter(|due| armed != Some(*due)) {
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
            incidents: self.incident_views(),
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
            incident: self.garage_incident(garage),
            bays: table.bays.len() as u32,
            tally: self.bays.garage(garage),
            ledger_free: self.ledger.room(&self.site, garage),
            cars: Cars {
                sensed: self.bays.occupied(garage),
                counted: self.counts_of[garage.at()].cars(),
                booked: self.trust.garage(garage).booked,
            },
            count_error: self.count_error(garage),
            doubtful: self.trust.garage(garage).doubtful,
            by_class: self.by_class(garage),
        }
    }

    fn sign_views(&self) -> Vec<SignView> {
        (0..self.signs.len() as u32).map(|sign| self.sign_view(SignIx(sign))).collect()
    }

    /// A sign as it is now.
    pub fn sign_view(&self, ix: SignIx) -> SignView {
        let (state, sign) = (&self.signs[ix.at()], &self.site.signs[ix.at()]);
        let (source, face) =
            state.shown.clone().unwrap_or((Source::Fallback, state.fallback.clone()));
        SignView {
            id: sign.id.clone(),
            name: sign.name.clone(),
            mode: state.order.mode,
            face,
            kind: match sign.kind {
                SignKind::Count { .. } => "count",
                SignKind::CallOut { .. } => "call-out",
                SignKind::Direction { .. } => "direction",
            },
            source,
            message: state.message.as_ref().map(|message| message.text.clone()),
            mode_until: state.order.until,
            message_until: state.message.as_ref().map(|message| message.until),
        }
    }
}

fn fullness(tier: usize) -> Fullness {
    match tier {
        0 => Fullness::Spaces,
        1 => Fullness::AlmostFull,
        _ => Fullness::Full,
    }
}
