//! Units: readings in, silence noticed, one record for a lost unit and not one for each bay.
//!
//! Freshness belongs to the unit. A unit heard from again is believed after its bays had time to
//! settle (`debounce_ms`); until then its zones stay with the ledger. The first complete picture
//! of a unit is one baseline record; after a restart only differences to the kept picture are told.

use super::door::{BayTold, Effect, Reading};
use super::ledger::Way;
use super::passage::Passed;
use super::sense::{Patience, Points, lasted};
use super::{Gateway, Timer, keep, telling};
use crate::record::{Body, Lane, Sensed};
use crate::site::{BayIx, GarageIx, Scope, Site, Unit, UnitIx, ZoneIx};
use crate::time::Mono;

/// One unit's present.
#[derive(Clone, Debug)]
pub struct UnitState {
    points: Points,
    /// Whether it has anything to read.
    pub polled: bool,
    /// Last reading, or the start.
    pub last_at: Mono,
    /// When it began to answer; `None` while silent.
    since: Option<Mono>,
    /// Readings since then.
    reads: u8,
    /// Answers, and its bays had time to settle.
    pub fresh: bool,
    /// Told upstream as lost, since then.
    lost_at: Option<Mono>,
    /// Upstream knows its bays, by a baseline of this store's life.
    pub baselined: bool,
    heard: bool,
    /// See [`keep::wiring`]: worked out once, because each changed bay is kept under it.
    pub wiring: u32,
    /// The doors it counts at: whose, which way, which of its counters.
    doors: Vec<(GarageIx, Way, u16)>,
}

impl UnitState {
    pub fn new(site: &Site, unit: &Unit) -> UnitState {
        UnitState {
            points: Points::new(&unit.bays),
            polled: unit.bays.iter().any(Option::is_some)
                || site.contacts.iter().any(|c| site.units[c.unit.at()].id == unit.id),
            last_at: Mono(0),
            since: None,
            reads: 0,
            fresh: false,
            lost_at: None,
            baselined: false,
            heard: false,
            wiring: keep::wiring(site, unit),
            doors: doors(site, unit),
        }
    }

    /// Told upstream as lost, and not heard since.
    pub fn is_lost(&self) -> bool {
        self.lost_at.is_some()
    }

    /// What counts at one of its points, whatever is believed of it.
    pub fn point(&self, point: u16) -> Sensed {
        self.points.get(point)
    }

    /// Age of the last reading; `None` before the first.
    pub fn age_ms(&self, now: Mono) -> Option<u64> {
        self.heard.then(|| now.ms_since(self.last_at))
    }
}

/// The door counters that a unit reads.
fn doors(site: &Site, unit: &Unit) -> Vec<(GarageIx, Way, u16)> {
    let mut doors = Vec::new();
    for (ix, garage) in (0..).map(GarageIx).zip(&site.garages) {
        let Some(door) = garage.door_counter else { continue };
        for (way, counter) in [(Way::In, door.cars_in), (Way::Out, door.cars_out)] {
            if site.units[counter.unit.at()].id == unit.id {
                doors.push((ix, way, counter.index));
            }
        }
    }
    doors
}

/// One bay's change within a reading.
#[derive(Debug)]
pub struct Move {
    bay: BayIx,
    from: Sensed,
    to: Sensed,
    /// Its filling says nothing of any other driver: an identified vehicle was expected there, it
    /// was known to be taken, or staff closed it.
    explained: bool,
    /// It had been as it was for longer than a blip.
    steady: bool,
    leased: bool,
}

impl Gateway {
    pub(super) fn reading(&mut self, reading: &Reading, effects: &mut Vec<Effect>) {
        self.counts.readings += 1;
        let ix = reading.unit;
        let patience = Patience::new(&self.tuning);
        let unit = &mut self.units[ix.at()];
        unit.heard = true;
        unit.last_at = reading.at;
        if unit.since.is_none() {
            unit.since = Some(reading.at);
            unit.reads = 0;
            let stale = reading.at.plus_ms(u64::from(self.tuning.stale_ms));
            self.arm(stale, Timer::Unit(ix));
            self.unit_back(ix, effects);
        }
        let mut changes = std::mem::take(&mut self.heard);
        let unit = &mut self.units[ix.at()];
        let (occupied, known) = (&reading.occupied, &reading.known);
        let booked = |bay: BayIx| {
            let bay = self.bays.get(bay);
            bay.booked || bay.lease.is_some()
        };
        unit.points.read(reading.at, occupied, known, (patience, booked), &mut changes);
        unit.reads = unit.reads.saturating_add(1);
        let since = unit.since.map_or(0, |since| reading.at.ms_since(since));
        let settled = unit.reads >= patience.reads[1] && lasted(since, patience.free_ms);
        let first = settled && !unit.fresh;
        unit.fresh |= settled;
        if !changes.is_empty() {
            self.sensed(ix, &changes, effects);
        }
        changes.clear();
        self.heard = changes;
        self.counters(reading);
        self.contacts(reading, effects);
        if first {
            self.believe(ix, effects);
        }
    }

    /// Bays changed by a reading: all are brought up to date before any consequence is drawn, or a
    /// driver would be moved to a bay that the same reading shows taken.
    pub(super) fn sensed(
        &mut self,
        unit: UnitIx,
        changes: &[(BayIx, Sensed)],
        effects: &mut Vec<Effect>,
    ) {
        let told = self.units[unit.at()].baselined;
        let mut moves = std::mem::take(&mut self.moves);
        for (bay, to) in changes.iter().copied() {
            let steady = self.steady(bay);
            let to = self.heed(bay, to, effects);
            if to == Sensed::Free {
                self.book(bay, false);
            }
            moves.push(self.bays.change(bay, |state| {
                let explained =
                    state.presumed.is_some() || state.quarantine.is_some() || state.closures > 0;
                if to == Sensed::Occupied {
                    state.presumed = None;
                }
                let from = std::mem::replace(&mut state.sensed, to);
                Move { bay, from, to, explained, steady, leased: state.lease.is_some() }
            }));
        }
        self.counts.bay_changes += changes.len() as u64;
        self.tell(moves.iter().map(|change| change.bay), told, effects);
        // Bays with an owner first: a neighbour that fills in the same sweep must not be credited
        // to a driver whose own bay fills too.
        moves.sort_by_key(|change| !change.leased);
        for change in moves.drain(..) {
            self.moved(change, effects);
        }
        self.moves = moves;
        if told && !changes.is_empty() {
            self.keep_unit(unit, effects);
        }
    }

    /// Tells what bays are now, where that is news upstream.
    fn tell(&mut self, bays: impl Iterator<Item = BayIx>, told: bool, effects: &mut Vec<Effect>) {
        let mut news = Vec::new();
        for bay in bays {
            let to = self.bays.get(bay).sensed;
            let from = self.told.replace(&self.site, bay, to);
            if told && from != to {
                news.push(BayTold { bay, from, to });
            }
        }
        if !news.is_empty() {
            self.issued.0 += news.len() as u64;
            effects.push(Effect::Bays { at: self.now, news });
        }
    }

    fn moved(&mut self, change: Move, effects: &mut Vec<Effect>) {
        let Move { bay, from, to, explained, steady, leased: _ } = change;
        let window = &mut self.windows[self.site.bays[bay.at()].garage.at()];
        match (from, to) {
            (Sensed::Free, Sensed::Occupied) => {
                window.filled += 1;
                self.expose(bay);
                self.filled(bay, !explained && steady, effects);
            }
            (Sensed::Occupied, Sensed::Free) => {
                window.emptied += 1;
                if steady {
                    self.release(bay, effects);
                }
            }
            (Sensed::Unknown, Sensed::Occupied) => self.filled(bay, false, effects),
            (Sensed::Unknown, Sensed::Free) | (_, Sensed::Unknown) => (),
            (Sensed::Free, Sensed::Free) | (Sensed::Occupied, Sensed::Occupied) => (),
        }
    }

    fn counters(&mut self, reading: &Reading) {
        if reading.counters.is_empty() {
            return;
        }
        for at in 0..self.units[reading.unit.at()].doors.len() {
            let (ix, way, index) = self.units[reading.unit.at()].doors[at];
            let Some(count) = reading.counters.get(usize::from(index)).copied() else { continue };
            let window = &mut self.windows[ix.at()];
            match self.ledger.count(ix, way, count, reading.at) {
                Passed::Cars(0) => continue,
                Passed::Cars(cars) => {
                    let bays = self.site.garages[ix.at()].bays.len() as u32;
                    let [under, over] = self.counts_of[ix.at()].pass(way, cars, bays);
                    self.counts.count_under += under;
                    self.counts.count_over += over;
                    match way {
                        Way::In => window.cars_in += u64::from(cars),
                        Way::Out => window.cars_out += u64::from(cars),
                    }
                }
                Passed::Rebased { reset } => {
                    self.counts.counter_resets += u64::from(reset);
                    continue;
                }
            }
            self.bays.touch(ix);
        }
    }

    /// The unit's bays have settled: its zones are seen again.
    fn believe(&mut self, ix: UnitIx, effects: &mut Vec<Effect>) {
        self.dim_unit(ix);
        for zone in self.zones_of(ix) {
            self.ledger.find(&self.site, zone);
            self.bays.touch(self.site.zones[zone.at()].garage);
        }
        if std::mem::replace(&mut self.units[ix.at()].baselined, true) {
            // A bay that became unknown by itself meanwhile made no change to tell then.
            let bays = self.site.units[ix.at()].bays.clone();
            self.tell(bays.into_iter().flatten(), true, effects);
            return self.keep_unit(ix, effects);
        }
        let states = telling::letters(&self.site, ix, &self.told.of(ix));
        let count = |letter: u8| states.bytes().filter(|b| *b == letter).count() as u32;
        let body = Body::UnitBaseline {
            unit: self.site.units[ix.at()].id.clone(),
            bays: states.len() as u32,
            free: count(b'f'),
            occupied: count(b'o'),
            unknown: count(b'u'),
            states,
        };
        self.record(Lane::Events, body, effects);
        self.keep_unit(ix, effects);
    }

    fn unit_back(&mut self, ix: UnitIx, effects: &mut Vec<Effect>) {
        let Some(lost_at) = self.units[ix.at()].lost_at.take() else { return };
        let unit = &self.site.units[ix.at()];
        let body = Body::UnitBack {
            unit: unit.id.clone(),
            bays: unit.bays.iter().flatten().count() as u32,
            lost_ms: self.now.mono.ms_since(lost_at),
        };
        self.record(Lane::Alarms, body, effects);
    }

    pub(super) fn unit_due(&mut self, ix: UnitIx, effects: &mut Vec<Effect>) {
        let unit = &self.units[ix.at()];
        let stale = unit.last_at.plus_ms(u64::from(self.tuning.stale_ms));
        if stale > self.now.mono {
            return self.arm(stale, Timer::Unit(ix));
        }
        if unit.lost_at.is_some() {
            return;
        }
        for zone in self.zones_of(ix) {
            let before = self.bays.tally(Scope::Zone(zone), None);
            self.ledger.lose(&self.site, zone, before);
            // Also where all bays are closed and no total changes: an old room must not stand.
            self.bays.touch(self.site.zones[zone.at()].garage);
        }
        for (garage, table) in (0..).map(GarageIx).zip(&self.site.garages) {
            let Some(door) = table.door_counter else { continue };
            for (way, counter) in [(Way::In, door.cars_in), (Way::Out, door.cars_out)] {
                if counter.unit == ix {
                    self.ledger.lose_counter(garage, way);
                }
            }
        }
        let now = self.now.mono;
        let mut changes = Vec::new();
        let unit = &mut self.units[ix.at()];
        unit.points.lose(&mut changes);
        unit.since = None;
        unit.fresh = false;
        unit.lost_at = Some(now);
        let silent_ms = now.ms_since(unit.last_at);
        for (bay, _) in changes {
            self.bays.change(bay, |state| state.sensed = Sensed::Unknown);
        }
        self.dim_unit(ix);
        let unit = &self.site.units[ix.at()];
        let body = Body::UnitLost {
            unit: unit.id.clone(),
            bays: unit.bays.iter().flatten().count() as u32,
            silent_ms,
        };
        self.record(Lane::Alarms, body, effects);
    }

    fn zones_of(&self, unit: UnitIx) -> Vec<ZoneIx> {
        let zones = (0..).map(ZoneIx).zip(&self.site.zones);
        zones.filter(|(_, zone)| zone.unit == unit).map(|(ix, _)| ix).collect()
    }
}
