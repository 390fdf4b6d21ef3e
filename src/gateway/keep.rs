//! What survives a restart: leases, closures, sign modes, quarantines, ledgers, bay states.
//!
//! Each is a value under a key of its own, written by name and not by index, so that a changed
//! configuration drops only what it no longer has. A stored instant means something only under
//! the boot that wrote it; under another one the stored length runs again in full, which is late
//! rather than wrong. What cannot be read or no longer fits is told on the alarm lane, not fatal.

use serde::{Deserialize, Serialize};

use super::close::Closure;
use super::door::{Effect, Kept, LeaseId, OutputMode, SignMode, Ticket};
use super::lease::Lease;
use super::life::{Event, Life, State};
use super::sign::{Message, ModeOrder, operator_face};
use super::{Gateway, Timer};
use crate::record::{Body, End, Lane, Promise, Sensed};
use crate::site::{
    BayIx, ContactIx, Face, GarageIx, NodeIx, OutputIx, Scope, SignIx, Site, Target, Unit, UnitIx,
};
use crate::time::Mono;

#[derive(Serialize, Deserialize)]
pub struct KeptLease {
    pub boot: String,
    pub request_id: String,
    pub at: String,
    pub class: String,
    pub destination: Option<String>,
    pub promise: Promise,
    pub garage: String,
    pub zone: Option<String>,
    pub bay: Option<String>,
    pub granted: Mono,
    pub earliest: Mono,
    pub deadline: Mono,
    pub travel_ms: u64,
    pub hold_ms: u64,
    /// Absent in what earlier versions kept.
    #[serde(default)]
    pub life: Option<KeptLife>,
}

#[derive(Serialize, Deserialize)]
pub struct KeptLife {
    pub state: State,
    pub seen: String,
    pub seen_at: Mono,
    pub moves: u8,
    pub vehicle: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct KeptClosure {
    boot: String,
    reason: String,
    by: String,
    until: Option<Mono>,
    length_s: Option<u64>,
    #[serde(default)]
    incident: bool,
}

#[derive(Serialize, Deserialize)]
struct KeptMode {
    mode: SignMode,
    #[serde(default)]
    boot: String,
    #[serde(default)]
    by: String,
    until: Option<Mono>,
    length_s: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct KeptMessage {
    boot: String,
    text: String,
    by: String,
    until: Mono,
    length_s: u64,
}

#[derive(Serialize, Deserialize)]
struct KeptOutput {
    boot: String,
    mode: OutputMode,
    by: String,
    until: Option<Mono>,
    length_s: Option<u64>,
    /// What upstream was told last.
    on: Option<bool>,
}

/// Only of an active one.
#[derive(Serialize, Deserialize)]
struct KeptContact {
    active: bool,
}

#[derive(Serialize, Deserialize)]
struct KeptQuarantine {
    boot: String,
    until: Mono,
    length_s: u64,
    strikes: u8,
}

/// Only of a bay with anything against its sensor.
#[derive(Serialize, Deserialize)]
pub struct KeptTrust {
    #[serde(default)]
    pub errors: u8,
    #[serde(default)]
    pub strikes: u8,
}

#[derive(Serialize, Deserialize)]
pub struct KeptUnit {
    /// Of the names of its bays in order: another wiring makes the states meaningless.
    pub wiring: u32,
    /// One letter a bay: f, o or u.
    pub states: String,
}

#[derive(Serialize, Deserialize)]
pub struct KeptLedger {
    /// What is believed to stand there; absent while nobody knows.
    occupied: Option<i64>,
    #[serde(default)]
    pub counted: Option<i64>,
    #[serde(default)]
    pub reset_day: Option<i64>,
}

/// Key of a lease's value.
pub fn lease_key(id: LeaseId) -> String {
    format!("lease/{id}")
}

/// A digest of the names of a unit's bays, in point order.
pub fn wiring(site: &Site, unit: &Unit) -> u32 {
    let mut digest = crc32fast::Hasher::new();
    for bay in unit.bays.iter().flatten() {
        digest.update(site.bay_id(*bay).as_bytes());
        digest.update(b"\n");
    }
    digest.finalize()
}

impl Gateway {
    pub(super) fn keep_closure(&mut self, target: Target, effects: &mut Vec<Effect>) {
        let value = self.closures.get(&target).map(|closure| {
            json(&KeptClosure {
                boot: self.identity.boot.clone(),
                reason: closure.reason.clone(),
                by: closure.by.clone(),
                until: closure.until,
                length_s: closure.length_s,
                incident: closure.incident,
            })
        });
        self.keep(format!("closure/{}", self.site.target_id(target)), value, effects);
    }

    pub(super) fn keep_mode(&mut self, sign: SignIx, effects: &mut Vec<Effect>) {
        let ModeOrder { mode, by, until, length_s } = self.signs[sign.at()].order.clone();
        let boot = self.identity.boot.clone();
        let value =
            (mode != SignMode::Auto).then(|| json(&KeptMode { mode, boot, by, until, length_s }));
        self.keep(format!("sign/{}", self.site.signs[sign.at()].id), value, effects);
    }

    pub(super) fn keep_output(&mut self, output: OutputIx, effects: &mut Vec<Effect>) {
        let state = &self.outputs[output.at()];
        let kept = KeptOutput {
            boot: self.identity.boot.clone(),
            mode: state.mode,
            by: state.by.clone(),
            until: state.until,
            length_s: state.length_s,
            on: state.told,
        };
        let key = format!("output/{}", self.site.outputs[output.at()].id);
        self.keep(key, Some(json(&kept)), effects);
    }

    pub(super) fn keep_message(&mut self, sign: SignIx, effects: &mut Vec<Effect>) {
        let boot = self.identity.boot.clone();
        let value = self.signs[sign.at()].message.clone().map(|message| {
            let Message { text, by, until, length_s } = message;
            json(&KeptMessage { boot, text, by, until, length_s })
        });
        self.keep(format!("message/{}", self.site.signs[sign.at()].id), value, effects);
    }

    pub(super) fn keep_contact(&mut self, ix: ContactIx, effects: &mut Vec<Effect>) {
        let active = self.contact_states[ix.at()].active == Some(true);
        let value = active.then(|| json(&KeptContact { active }));
        self.keep(format!("contact/{}", self.site.contacts[ix.at()].id), value, effects);
    }

    pub(super) fn keep_quarantine(&mut self, bay: BayIx, length_s: u64, effects: &mut Vec<Effect>) {
        let state = self.bays.get(bay);
        let value = state.quarantine.map(|until| {
            let (boot, strikes) = (self.identity.boot.clone(), state.strikes);
            json(&KeptQuarantine { boot, until, length_s, strikes })
        });
        self.keep(format!("quarantine/{}", self.site.bay_id(bay)), value, effects);
    }

    pub(super) fn keep_trust(&mut self, bay: BayIx, effects: &mut Vec<Effect>) {
        let (errors, strikes) = (self.trust.get(bay).errors, self.bays.get(bay).strikes);
        let value = (errors > 0 || strikes > 0).then(|| json(&KeptTrust { errors, strikes }));
        self.keep(format!("trust/{}", self.site.bay_id(bay)), value, effects);
    }

    pub(super) fn keep_unit(&mut self, unit: UnitIx, effects: &mut Vec<Effect>) {
        self.issued.0 += 1;
        let wiring = self.units[unit.at()].wiring;
        effects.push(Effect::Unit { unit, wiring, told: self.told.of(unit) });
    }

    pub(super) fn keep_ledger(&mut self, garage: GarageIx, effects: &mut Vec<Effect>) {
        let occupied = self.ledger.occupied(garage);
        let (counted, reset_day) = self.kept_count(garage);
        if occupied.is_none() && counted.is_none() {
            return;
        }
        let key = format!("ledger/{}", self.site.garages[garage.at()].id);
        self.keep(key, Some(json(&KeptLedger { occupied, counted, reset_day })), effects);
    }

    /// Takes an earlier run's values; also late, when a store came back after the start.
    pub(super) fn restore(&mut self, kept: Kept, effects: &mut Vec<Effect>) {
        for (key, value) in kept.entries {
            if let Err(why) = self.restore_one(&key, &value, effects) {
                self.drop_kept(key, &value, why, effects);
            }
        }
        // A store that came late may close what was promised meanwhile.
        let burning = self.burning_targets();
        let closed = self.closures.keys().chain(&burning);
        let stranded: Vec<LeaseId> = closed.flat_map(|target| self.stranded(*target)).collect();
        for lease in stranded {
            self.happened(lease, Event::Closed, None, effects);
        }
        let body = Body::Started {
            version: self.identity.version.clone(),
            leases: self.leases.len() as u32,
            closures: self.closures.len() as u32,
        };
        self.record(Lane::Events, body, effects);
    }

    fn drop_kept(&mut self, key: String, value: &[u8], why: String, effects: &mut Vec<Effect>) {
        if let Some(lease) = key.strip_prefix("lease/") {
            // Upstream was told of its grant, and must hear of its end.
            let (lease, end) = (lease.to_owned(), End::Displaced);
            let body = Body::LeaseEnded { lease, end, inferred: true, bay: None, held_s: 0 };
            self.record(Lane::Events, body, effects);
        }
        if let Some(contact) = key.strip_prefix("contact/") {
            let (incident, by) = (contact.to_owned(), "restart".to_owned());
            let body = Body::IncidentEnded { incident, by, lasted_s: 0 };
            self.record(Lane::Alarms, body, effects);
        }
        if let Some(target) = key.strip_prefix("closure/")
            && parse::<KeptClosure>(value).is_ok_and(|kept| kept.incident)
        {
            let (incident, by) = (target.to_owned(), "restart".to_owned());
            let body = Body::IncidentEnded { incident, by, lasted_s: 0 };
            self.record(Lane::Alarms, body, effects);
        }
        self.record(Lane::Alarms, Body::KeptDropped { key: key.clone(), why }, effects);
        self.keep(key, None, effects);
    }

    fn restore_one(
        &mut self,
        key: &str,
        value: &[u8],
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let (kind, name) = key.split_once('/').ok_or("is no key of ours")?;
        match kind {
            "lease" => self.restore_lease(name, parse(value)?),
            "closure" => self.restore_closure(name, parse(value)?),
            "sign" => self.restore_mode(name, parse(value)?),
            "message" => self.restore_message(name, parse(value)?),
            "output" => self.restore_output(name, parse(value)?),
            "contact" => {
                let KeptContact { active } = parse(value)?;
                let contact = self.site.contact(name).ok_or("there is no such contact any more")?;
                if active {
                    self.restore_contact(contact, effects);
                }
                Ok(())
            }
            "quarantine" => self.restore_quarantine(name, parse(value)?),
            "trust" => match self.site.target(name) {
                Some(Target::Bay(bay)) => {
                    self.restore_trust(bay, &parse(value)?);
                    Ok(())
                }
                Some(_) | None => Err("there is no such bay any more".to_owned()),
            },
            "unit" => self.restore_unit(name, &parse(value)?),
            "ledger" => {
                let kept: KeptLedger = parse(value)?;
                match self.site.scope(name) {
                    Some(Scope::Garage(garage)) => {
                        self.restore_count(garage, &kept);
                        if let Some(occupied) = kept.occupied {
                            self.ledger.restore(garage, occupied);
                        }
                        self.bays.touch(garage);
                    }
                    Some(Scope::Level(_) | Scope::Zone(_)) | None => {
                        return Err("there is no such garage any more".to_owned());
                    }
                }
                Ok(())
            }
            _ => Err("is no key of ours".to_owned()),
        }
    }

    /// Whether stored instants mean anything now; those of an unknown boot never do.
    fn same_boot(&self, boot: &str) -> bool {
        boot == self.identity.boot && boot != crate::time::UNKNOWN_BOOT
    }

    fn restore_lease(&mut self, name: &str, kept: KeptLease) -> Result<(), String> {
        let id = LeaseId::parse(name).ok_or("is no lease id")?;
        if self.leases.find(id).is_some() {
            return Ok(());
        }
        if self.leases.by_request(&kept.request_id).is_some() {
            return Err("its driver asked again and has another lease".to_owned());
        }
        let gone = |what: &str| format!("its {what} is not in the configuration any more");
        let Some(Scope::Garage(garage)) = self.site.scope(&kept.garage) else {
            return Err(gone("garage"));
        };
        let zone = match kept.zone.as_deref().map(|zone| self.site.scope(zone)) {
            None => None,
            Some(Some(Scope::Zone(zone))) => Some(zone),
            Some(_) => return Err(gone("zone")),
        };
        let bay = match kept.bay.as_deref().map(|bay| self.site.target(bay)) {
            None => None,
            Some(Some(Target::Bay(bay))) => Some(bay),
            Some(_) => return Err(gone("bay")),
        };
        if bay.is_some_and(|bay| self.bays.get(bay).lease.is_some()) {
            return Err("its bay was given to another driver while the store was away".to_owned());
        }
        let now = self.now.mono;
        let same_boot = self.same_boot(&kept.boot);
        let granted = if same_boot { kept.granted } else { now };
        let deadline = if same_boot { kept.deadline } else { now.plus_ms(kept.hold_ms) };
        // Nobody knows how long the machine was off: whoever stands there now may have arrived.
        let earliest = if same_boot { kept.earliest } else { now };
        let at = self.site.node(&kept.at).ok_or_else(|| gone("node"))?;
        let lease = Lease {
            id,
            request_id: kept.request_id.into(),
            at,
            class: self.site.class(&kept.class).ok_or_else(|| gone("class"))?,
            destination: kept.destination.and_then(|id| self.site.destination(&id)),
            promise: kept.promise,
            garage,
            zone,
            bay,
            granted,
            earliest,
            expected: granted.plus_ms(kept.travel_ms),
            deadline,
            travel_ms: kept.travel_ms,
            hold_ms: kept.hold_ms,
            tail: None,
            life: self.restored_life(at, kept.life, same_boot),
            ticket: Ticket(0),
            end: None,
        };
        self.bind(&lease);
        self.identify(&lease);
        self.arm(deadline, Timer::Lease(id));
        self.leases.open(lease);
        Ok(())
    }

    fn restored_life(&self, at: NodeIx, kept: Option<KeptLife>, same_boot: bool) -> Life {
        let asked = Life::new(at, self.now.mono, None);
        let Some(kept) = kept else { return asked };
        let KeptLife { moves, vehicle, .. } = kept;
        // A node that is gone from the configuration: then where it asked.
        let Some(seen) = self.site.node(&kept.seen) else {
            return Life { moves, vehicle, ..asked };
        };
        let seen_at = if same_boot { kept.seen_at } else { self.now.mono };
        Life { state: kept.state, seen, seen_at, moves, vehicle }
    }

    fn restore_closure(&mut self, name: &str, kept: KeptClosure) -> Result<(), String> {
        let target = self.site.target(name).ok_or("there is no such place any more")?;
        if self.closures.contains_key(&target) {
            return Ok(());
        }
        let again = kept.length_s.map(|s| self.now.mono.plus_ms(s.saturating_mul(1_000)));
        let until = if self.same_boot(&kept.boot) { kept.until } else { again };
        let KeptClosure { reason, by, length_s, incident, .. } = kept;
        let since = self.now.mono;
        self.apply_closure(target, Closure { reason, by, until, length_s, incident, since });
        Ok(())
    }

    fn restore_mode(&mut self, name: &str, kept: KeptMode) -> Result<(), String> {
        let sign = self.site.sign(name).ok_or("there is no such sign any more")?;
        if self.signs[sign.at()].mode_set {
            return Ok(());
        }
        if kept.mode != SignMode::Auto && operator_face(kept.mode, self.format(sign)).is_none() {
            return Err("its display cannot show that any more".to_owned());
        }
        let again = kept.length_s.map(|s| self.now.mono.plus_ms(s.saturating_mul(1_000)));
        let until = if self.same_boot(&kept.boot) { kept.until } else { again };
        let (mode, by, length_s) = (kept.mode, kept.by, kept.length_s);
        self.apply_mode(sign, ModeOrder { mode, by, until, length_s });
        self.signs[sign.at()].shown = None;
        Ok(())
    }

    fn restore_message(&mut self, name: &str, kept: KeptMessage) -> Result<(), String> {
        let sign = self.site.sign(name).ok_or("there is no such sign any more")?;
        if self.signs[sign.at()].message_set {
            return Ok(());
        }
        let face = Face::Text(kept.text.clone());
        if !self.format(sign).is_some_and(|format| format.can_show(&face)) {
            return Err("its display cannot show that any more".to_owned());
        }
        let again = self.now.mono.plus_ms(kept.length_s.saturating_mul(1_000));
        let until = if self.same_boot(&kept.boot) { kept.until } else { again };
        let (text, by, length_s) = (kept.text, kept.by, kept.length_s);
        self.apply_message(sign, Message { text, by, until, length_s });
        self.signs[sign.at()].shown = None;
        Ok(())
    }

    fn restore_output(&mut self, name: &str, kept: KeptOutput) -> Result<(), String> {
        let ix = self.site.output(name).ok_or("there is no such output any more")?;
        let again = kept.length_s.map(|s| self.now.mono.plus_ms(s.saturating_mul(1_000)));
        let until = if self.same_boot(&kept.boot) { kept.until } else { again };
        let state = &mut self.outputs[ix.at()];
        state.told = state.told.or(kept.on);
        if state.mode_set {
            return Ok(());
        }
        (state.mode, state.by) = (kept.mode, kept.by);
        (state.until, state.length_s) = (until, kept.length_s);
        if let Some(until) = until {
            self.arm(until, Timer::Output(ix));
        }
        self.bays.touch(self.site.outputs[ix.at()].garage);
        Ok(())
    }

    fn restore_quarantine(&mut self, name: &str, kept: KeptQuarantine) -> Result<(), String> {
        let Some(Target::Bay(bay)) = self.site.target(name) else {
            return Err("there is no such bay any more".to_owned());
        };
        let same_boot = self.same_boot(&kept.boot);
        let again = self.now.mono.plus_ms(kept.length_s.saturating_mul(1_000));
        let until = if same_boot { kept.until } else { again };
        self.bays.change(bay, |state| {
            state.quarantine = Some(until);
            state.strikes = kept.strikes;
        });
        self.arm(until, Timer::Quarantine(bay));
        Ok(())
    }

    fn restore_unit(&mut self, name: &str, kept: &KeptUnit) -> Result<(), String> {
        let unit = self.site.units.iter().position(|unit| unit.id == name);
        let unit = UnitIx(unit.ok_or("there is no such unit any more")? as u32);
        if self.units[unit.at()].baselined {
            return Ok(());
        }
        let bays: Vec<BayIx> = self.site.units[unit.at()].bays.iter().flatten().copied().collect();
        if kept.wiring != self.units[unit.at()].wiring || kept.states.len() != bays.len() {
            return Err("its bays are wired otherwise now".to_owned());
        }
        for (bay, letter) in bays.into_iter().zip(kept.states.bytes()) {
            let state = match letter {
                b'f' => Sensed::Free,
                b'o' => Sensed::Occupied,
                _ => Sensed::Unknown,
            };
            self.told.replace(&self.site, bay, state);
        }
        self.units[unit.at()].baselined = true;
        Ok(())
    }
}

pub fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs of strings and numbers always serialise")
}

fn parse<T: serde::de::DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| error.to_string())
}
