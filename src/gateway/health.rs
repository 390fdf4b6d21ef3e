//! How far each bay's sensor is trusted: errors, flapping, values that never change.
//!
//! A sensor that reads free over a parked car is the dangerous one. Nobody can park there, so the
//! bay stays the cheapest and would be given again and again. So what contradicts a sensor is
//! counted against it, by weight of the evidence, and what confirms it is counted off; above a
//! threshold its bay is *doubtful*: given after all others, never closed. A bay that reads free
//! while its zone fills around it earns doubt without any driver finding it taken.
//!
//! A reading costs nothing here: only a bay's change does, and a look at all bays once a minute.

use super::door::Effect;
use super::lease::Lease;
use super::{Gateway, keep};
use crate::record::{Body, End, Lane, Sensed, SensorFault};
use crate::site::{BayIx, UnitIx, ZoneIx};
use crate::time::Mono;

/// A driver, or a vehicle that was identified, says the sensor is wrong: beyond doubt at once.
const ERROR_SEEN: u8 = 4;
/// Nobody seems to have come to a promised bay: the sensor may not have seen the car.
const ERROR_EXPIRED: u8 = 2;
/// A driver took another bay, of their own will or because theirs was taken; or it flapped.
const ERROR_INFERRED: u8 = 1;
/// From so many on, each further one keeps the bay out for a time.
const ERRORS_SURE: u8 = 4;
/// Seen to come, or to leave: a sensor that sees cars has not stuck.
const PROOF: i8 = -2;
/// A sensor that is not stuck may have missed one car, which is gone some time later; twice as
/// long with each error.
const FORGET_MS: u64 = 900_000;
/// As many as nobody should wait to have confirmed away.
const ERRORS_MAX: u8 = 12;
/// How long a bay must have been occupied, or free, before its change is a car's: nobody parks and
/// leaves within, and no other car comes in behind one that just left. A blip of the sensor is
/// over by then.
pub const VISIT_MS: u64 = 15_000;
/// In parts of a fill: so many fills a free bay should have seen before it is doubtful. Were every
/// free bay of a zone as likely to be taken, one in 150 would still be free after five.
const EXPOSURE_MAX: u32 = 5 * EXPOSURE_ONE;
const EXPOSURE_ONE: u32 = 1_024;
/// Bays named in one record.
const NAMED_MAX: usize = 20;

/// What is known of one bay's sensor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    /// Against it, less what confirmed it since.
    pub errors: u8,
    pub fault: Option<SensorFault>,
    /// When `errors` changed last.
    erred_at: Mono,
    /// It saw a car come or leave in this run: it is not stuck.
    proven: bool,
    /// Not told upstream yet.
    news: bool,
    /// Changes since `flap_from`.
    changes: u8,
    flap_from: Mono,
    /// Last known value, and since when.
    value: Sensed,
    pub changed_at: Mono,
    /// Its zone's exposure then.
    exposure: u32,
    /// A driver seems to have left it for another bay, and may yet come.
    given_up: Option<Mono>,
}

/// The trust in all sensors.
#[derive(Clone, Debug)]
pub struct Trust {
    bays: Vec<Health>,
    /// By zone: in parts of a fill, how often each of its free bays should have been taken.
    exposure: Vec<u32>,
    /// By unit: a fault of one of its sensors is not told yet.
    news: Vec<bool>,
}

impl Trust {
    pub fn new(site: &crate::site::Site) -> Trust {
        Trust {
            bays: vec![Health::default(); site.bays.len()],
            exposure: vec![0; site.zones.len()],
            news: vec![false; site.units.len()],
        }
    }

    pub fn get(&self, bay: BayIx) -> &Health {
        &self.bays[bay.at()]
    }

    /// Sensors of a garage at fault, by fault.
    pub fn faults(&self, bays: std::ops::Range<u32>) -> [u32; 3] {
        let mut faults = [0; 3];
        for health in &self.bays[bays.start as usize..bays.end as usize] {
            if let Some(fault) = health.fault {
                faults[fault as usize] += 1;
            }
        }
        faults
    }
}

impl Gateway {
    /// A bay's sensor says something else than before, debounced; what is to be believed of it.
    pub(super) fn heed(&mut self, bay: BayIx, to: Sensed, effects: &mut Vec<Effect>) -> Sensed {
        let steady = self.steady(bay);
        let now = self.now.mono;
        let zone = self.site.bays[bay.at()].zone;
        let window_ms = u64::from(self.tuning.truth.flap_window_s) * 1_000;
        let flap_max = self.tuning.truth.flap_max;
        let exposure = self.trust.exposure[zone.at()];
        let health = &mut self.trust.bays[bay.at()];
        if to == Sensed::Unknown || to == health.value {
            // Silence, and the same again after it, are no news of the sensor.
            return if health.fault == Some(SensorFault::Flapping) { Sensed::Unknown } else { to };
        }
        let first = std::mem::replace(&mut health.value, to) == Sensed::Unknown;
        health.changed_at = now;
        health.exposure = exposure;
        if first {
            return to;
        }
        if now.ms_since(health.flap_from) > window_ms {
            (health.flap_from, health.changes) = (now, 0);
        }
        health.changes = health.changes.saturating_add(1);
        let flaps = health.changes > flap_max;
        if flaps && health.fault != Some(SensorFault::Flapping) {
            health.errors = (health.errors + ERROR_INFERRED).min(ERRORS_MAX);
            self.fault(bay, Some(SensorFault::Flapping));
        } else if !flaps && health.fault.is_some_and(|fault| fault != SensorFault::Flapping) {
            self.fault(bay, None);
        }
        if steady {
            self.trust.bays[bay.at()].proven = true;
            self.weigh(bay, PROOF, effects);
        }
        self.judge(bay);
        match self.trust.get(bay).fault {
            Some(SensorFault::Flapping) => Sensed::Unknown,
            Some(SensorFault::StuckFree | SensorFault::StuckOccupied) | None => to,
        }
    }

    fn fault(&mut self, bay: BayIx, fault: Option<SensorFault>) {
        let unit = self.site.bays[bay.at()].unit;
        let health = &mut self.trust.bays[bay.at()];
        health.fault = fault;
        health.news = fault.is_some();
        self.trust.news[unit.at()] |= fault.is_some();
    }

    /// A car came into a zone: each of its free bays might have been the one it took.
    pub(super) fn expose(&mut self, bay: BayIx) {
        let zone = self.site.bays[bay.at()].zone;
        let tally = self.bays.tally(crate::site::Scope::Zone(zone), None);
        // The one it took was free too.
        let step = EXPOSURE_ONE / (tally.free + tally.held + 1);
        let exposure = &mut self.trust.exposure[zone.at()];
        *exposure = exposure.wrapping_add(step);
    }

    /// Counts against a sensor, or for it where negative; kept over restarts.
    fn weigh(&mut self, bay: BayIx, errors: i8, effects: &mut Vec<Effect>) {
        let health = &mut self.trust.bays[bay.at()];
        let before = health.errors;
        health.errors = before.saturating_add_signed(errors).min(ERRORS_MAX);
        if health.errors != before {
            health.erred_at = self.now.mono;
            let (was, is) = (self.doubted(before), self.doubted(self.trust.get(bay).errors));
            self.judge(bay);
            if was != is {
                let errors = u32::from(self.trust.get(bay).errors);
                let id = self.site.bay_id(bay);
                self.record(Lane::Events, Body::BayTrust { bay: id, doubted: is, errors }, effects);
            }
            self.keep_trust(bay, effects);
        }
    }

    fn doubted(&self, errors: u8) -> bool {
        errors > self.tuning.truth.doubt_max
    }

    /// Works out whether a bay is doubtful.
    pub(super) fn judge(&mut self, bay: BayIx) {
        let health = self.trust.get(bay);
        let exposure = self.trust.exposure[self.site.bays[bay.at()].zone.at()];
        let doubt = self.doubted(health.errors)
            || health.fault.is_some()
            || health.given_up.is_some_and(|until| until > self.now.mono)
            || exposed(health, exposure);

        if self.bays.get(bay).doubt != doubt {
            self.bays.change(bay, |state| state.doubt = doubt);
        }
    }

    /// A driver found the bay taken, or was seen to stand where the sensor sees nothing.
    pub(super) fn contradicted(&mut self, bay: BayIx, effects: &mut Vec<Effect>) {
        self.weigh(bay, ERROR_SEEN as i8, effects);
    }

    /// A lease ended: what that says of the bays.
    pub(super) fn learn(
        &mut self,
        lease: &Lease,
        end: End,
        inferred: bool,
        stands: Option<BayIx>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(bay) = stands {
            self.bays.change(bay, |state| state.booked = true);
            // It filled when it should have: the sensor sees cars come.
            if end == End::Fulfilled && lease.bay == Some(bay) && inferred {
                self.confirmed(bay, effects);
            }
        }
        let Some(promised) = lease.bay.filter(|bay| stands != Some(*bay)) else { return };
        if self.bays.get(promised).sensed != Sensed::Free {
            return;
        }
        match end {
            End::TookOther => {
                if inferred {
                    // Perhaps it was another car, and the driver is still on the way.
                    self.trust.bays[promised.at()].given_up = Some(lease.deadline);
                }
                self.weigh(promised, ERROR_INFERRED as i8, effects);
                self.judge(promised);
            }
            End::Expired => {
                self.weigh(promised, ERROR_EXPIRED as i8, effects);
                if self.trust.get(promised).errors >= ERRORS_SURE {
                    self.quarantine(promised, effects);
                }
            }
            End::Fulfilled | End::Displaced | End::Cancelled => (),
        }
    }

    fn confirmed(&mut self, bay: BayIx, effects: &mut Vec<Effect>) {
        let strikes = self.bays.change(bay, |state| std::mem::take(&mut state.strikes));
        self.weigh(bay, -2, effects);
        if strikes > 0 {
            self.keep_trust(bay, effects);
        }
    }

    /// Once a minute: what was too calm, or is calm again.
    pub(super) fn health_due(&mut self, effects: &mut Vec<Effect>) {
        for bay in (0..self.site.bays.len() as u32).map(BayIx) {
            self.look(bay, effects);
        }
        for unit in (0..self.site.units.len() as u32).map(UnitIx) {
            if std::mem::take(&mut self.trust.news[unit.at()]) {
                self.tell_faults(unit, effects);
            }
        }
    }

    fn look(&mut self, bay: BayIx, effects: &mut Vec<Effect>) {
        let now = self.now.mono;
        let health = self.trust.get(bay);
        let old = now.ms_since(health.erred_at) >= FORGET_MS << health.errors;
        if health.errors > 0 && health.proven && old {
            self.weigh(bay, -1, effects);
        }
        let health = self.trust.get(bay);
        let for_ms = now.ms_since(health.changed_at);
        match (health.fault, health.value) {
            (Some(SensorFault::Flapping), _) => {
                if for_ms >= u64::from(self.tuning.truth.flap_window_s) * 1_000 {
                    self.trust.bays[bay.at()].changes = 0;
                    self.fault(bay, None);
                    self.judge(bay);
                    self.calm(bay, effects);
                }
                return;
            }
            (Some(_), _) | (None, Sensed::Unknown) => return,
            (None, Sensed::Occupied | Sensed::Free) => (),
        }
        let (value, place) = (health.value, &self.site.bays[bay.at()]);
        let class = &self.site.classes[place.class.at()];
        let exposed = exposed(health, self.trust.exposure[place.zone.at()]);
        let (hours, stuck) = match value {
            Sensed::Occupied => (class.stuck_occupied_h, Some(SensorFault::StuckOccupied)),
            Sensed::Free | Sensed::Unknown => {
                (class.stuck_free_h, exposed.then_some(SensorFault::StuckFree))
            }
        };
        if for_ms >= u64::from(hours) * 3_600_000 && stuck.is_some() {
            self.fault(bay, stuck);
        }
        self.judge(bay);
    }

    /// A bay whose sensor flapped is believed again.
    fn calm(&mut self, bay: BayIx, effects: &mut Vec<Effect>) {
        let place = &self.site.bays[bay.at()];
        let (unit, raw) = (place.unit, self.units[place.unit.at()].point(place.point));
        if raw != Sensed::Unknown {
            self.sensed(unit, &[(bay, raw)], effects);
        }
    }

    /// One record for a unit and fault, however many of its sensors have it.
    fn tell_faults(&mut self, unit: UnitIx, effects: &mut Vec<Effect>) {
        let bays: Vec<BayIx> = self.site.units[unit.at()].bays.iter().flatten().copied().collect();
        for fault in SensorFault::ALL {
            let new = |bay: &&BayIx| {
                let health = self.trust.get(**bay);
                health.news && health.fault == Some(fault)
            };
            let new: Vec<BayIx> = bays.iter().filter(new).copied().collect();
            if new.is_empty() {
                continue;
            }
            for bay in &new {
                self.trust.bays[bay.at()].news = false;
                self.keep_trust(*bay, effects);
            }
            let named = new.iter().take(NAMED_MAX).map(|bay| self.site.bay_id(*bay)).collect();
            let unit = self.site.units[unit.at()].id.clone();
            let body = Body::SensorsFaulty { unit, fault, bays: new.len() as u32, named };
            self.record(Lane::Alarms, body, effects);
        }
    }

    /// What an earlier run kept of a sensor.
    pub(super) fn restore_trust(&mut self, bay: BayIx, kept: &keep::KeptTrust) {
        let health = &mut self.trust.bays[bay.at()];
        health.errors = health.errors.max(kept.errors.min(ERRORS_MAX));
        self.bays.change(bay, |state| {
            state.strikes = state.strikes.max(kept.strikes);
        });
        self.judge(bay);
    }

    /// Whether the bay has been as it is for as long as a visit takes.
    pub(super) fn steady(&self, bay: BayIx) -> bool {
        self.now.mono.ms_since(self.trust.get(bay).changed_at) >= VISIT_MS
    }

    /// Bays of a zone in which a car of ours is booked.
    pub(super) fn booked(&self, zone: ZoneIx) -> u32 {
        let bays = self.site.zones[zone.at()].bays.clone().map(BayIx);
        bays.filter(|bay| self.bays.get(*bay).booked).count() as u32
    }
}

fn exposed(health: &Health, exposure: u32) -> bool {
    health.value == Sensed::Free && exposure.wrapping_sub(health.exposure) >= EXPOSURE_MAX
}
