//! Every bay's facts, and the index that finds the cheapest bay to give.
//!
//! A bay is five separate facts: what its sensor says, whose lease it carries, its class, its
//! health (quarantine) and its closures. Only a bay that is sensed free with none of the others is
//! *offerable*. Each change goes through [`Bays::change`], which keeps the totals and the index in
//! step, so that neither is ever recounted.
//!
//! The index is a bit a bay, grouped in cells of one zone and class; a zone's bays are in order of
//! their walking cost, so the cheapest of a cell is its lowest bit. Choosing looks at one word or
//! two of some hundred cells, not at 21,000 bays.

use std::sync::Arc;

use super::door::LeaseId;
use super::lamp;
use crate::record::{Sensed, Tally};
use crate::site::{BayIx, ClassIx, GarageIx, LampState, Scope, Site, ZoneIx};
use crate::time::Mono;

/// The facts of one bay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bay {
    pub sensed: Sensed,
    pub lease: Option<LeaseId>,
    /// How many closures cover it.
    pub closures: u16,
    /// Kept out until then, because it turned out taken while it read free.
    pub quarantine: Option<Mono>,
    /// How often in a row that happened.
    pub strikes: u8,
    /// An identified vehicle stands here, though the sensor need not say so yet.
    pub presumed: Option<Mono>,
    /// Its sensor earned distrust: given after all others.
    pub doubt: bool,
    /// A car that was led here was credited with it, and was not seen to leave.
    pub booked: bool,
}

/// What a bay counts as: exactly one of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Free,
    Held,
    Occupied,
    Unknown,
    Closed,
}

impl Bay {
    /// Whether it may be promised to a driver.
    pub fn offerable(&self) -> bool {
        self.kind() == Kind::Free
    }

    /// What it is to its lamp.
    pub fn lamp_state(&self) -> LampState {
        match self.kind() {
            Kind::Free | Kind::Held => LampState::Free,
            Kind::Occupied => LampState::Occupied,
            Kind::Unknown => LampState::Unknown,
            Kind::Closed => LampState::Closed,
        }
    }

    /// No fresh good sample says what it is, closed or not.
    pub fn is_unknown(&self) -> bool {
        self.sensed == Sensed::Unknown
    }

    fn kind(&self) -> Kind {
        if self.closures > 0 || self.quarantine.is_some() {
            return Kind::Closed;
        }
        match (self.sensed, self.presumed, self.lease) {
            (Sensed::Unknown, _, _) => Kind::Unknown,
            (Sensed::Occupied, _, _) | (Sensed::Free, Some(_), _) => Kind::Occupied,
            (Sensed::Free, None, Some(_)) => Kind::Held,
            (Sensed::Free, None, None) => Kind::Free,
        }
    }
}

/// One zone's bays of one class.
#[derive(Clone, Debug, Default)]
struct Cell {
    tally: Tally,
    /// All bays of the cell, whatever their state.
    bays: u32,
}

/// All bays.
#[derive(Clone, Debug)]
pub struct Bays {
    site: Arc<Site>,
    bays: Vec<Bay>,
    /// By zone, then class.
    cells: Vec<Cell>,
    /// Where each zone's words begin; a zone has `words` for each class.
    offsets: Vec<usize>,
    free: Vec<u64>,
    /// The offerable bays that are doubtful; they are not in `free`.
    doubtful: Vec<u64>,
    garages: Vec<Tally>,
    /// Bays sensed occupied by garage, closed ones included.
    occupied: Vec<u32>,
    /// Garages whose totals changed since they were last taken.
    changed: Vec<bool>,
    /// Bays that have a lamp; empty where none has.
    pub(super) lit: Vec<bool>,
    /// Bays whose lamp may need another colour.
    pub(super) dim: Vec<BayIx>,
}

impl Bays {
    /// All bays, unknown.
    pub fn new(site: Arc<Site>) -> Bays {
        let classes = site.classes.len();
        let mut cells = vec![Cell::default(); site.zones.len() * classes];
        let mut garages = vec![Tally::default(); site.garages.len()];
        for bay in &site.bays {
            let cell = &mut cells[bay.zone.at() * classes + bay.class.at()];
            cell.bays += 1;
            cell.tally.unknown += 1;
            garages[bay.garage.at()].unknown += 1;
        }
        let mut offsets = Vec::with_capacity(site.zones.len());
        let mut words = 0;
        for zone in &site.zones {
            offsets.push(words);
            words += zone.bays.len().div_ceil(64) * classes;
        }
        Bays {
            bays: vec![Bay::default(); site.bays.len()],
            cells,
            offsets,
            free: vec![0; words],
            doubtful: vec![0; words],
            changed: vec![true; garages.len()],
            occupied: vec![0; garages.len()],
            garages,
            lit: lamp::lit(&site),
            dim: Vec::new(),
            site,
        }
    }

    /// One bay's facts.
    pub fn get(&self, bay: BayIx) -> &Bay {
        &self.bays[bay.at()]
    }

    /// Changes a bay's facts, and with them every total it is part of.
    pub fn change<T>(&mut self, ix: BayIx, change: impl FnOnce(&mut Bay) -> T) -> T {
        let bay = &mut self.bays[ix.at()];
        let (before, was) = (bay.kind(), bay.sensed == Sensed::Occupied);
        let doubt = bay.doubt;
        let lamp = (bay.lease.is_some(), bay.is_unknown());
        let result = change(bay);
        let (after, is) = (bay.kind(), bay.sensed == Sensed::Occupied);
        let offered = (after == Kind::Free, bay.doubt);
        let dims = before != after || lamp != (bay.lease.is_some(), bay.is_unknown());
        if dims {
            self.dim(ix);
        }
        let place = &self.site.bays[ix.at()];
        if was != is {
            let occupied = &mut self.occupied[place.garage.at()];
            *occupied = if is { *occupied + 1 } else { *occupied - 1 };
            self.changed[place.garage.at()] = true;
        }
        if (before == Kind::Free, doubt) != offered {
            let (word, bit) = self.bit(ix);
            self.free[word] &= !bit;
            self.doubtful[word] &= !bit;
            match offered {
                (true, false) => self.free[word] |= bit,
                (true, true) => self.doubtful[word] |= bit,
                (false, _) => (),
            }
        }
        if before == after {
            return result;
        }
        let place = &self.site.bays[ix.at()];
        let cell = place.zone.at() * self.site.classes.len() + place.class.at();
        for tally in [&mut self.cells[cell].tally, &mut self.garages[place.garage.at()]] {
            *count(tally, before) -= 1;
            *count(tally, after) += 1;
        }
        self.changed[place.garage.at()] = true;
        result
    }

    /// Totals of a garage.
    pub fn garage(&self, garage: GarageIx) -> Tally {
        self.garages[garage.at()]
    }

    /// Cars seen in a garage's bays, closed bays included.
    pub fn occupied(&self, garage: GarageIx) -> u32 {
        self.occupied[garage.at()]
    }

    /// Totals of any part of the site, of one class or of all.
    pub fn tally(&self, scope: Scope, class: Option<ClassIx>) -> Tally {
        let mut total = Tally::default();
        for zone in self.site.scope_zones(scope).map(ZoneIx) {
            match class {
                Some(class) => total += self.cell(zone, class).tally,
                None => {
                    for class in 0..self.site.classes.len() {
                        total += self.cell(zone, ClassIx(class as u32)).tally;
                    }
                }
            }
        }
        total
    }

    /// How many bays of a zone have one of these classes.
    pub fn compatible(&self, zone: ZoneIx, classes: &[(ClassIx, u32)]) -> u32 {
        classes.iter().map(|(class, _)| self.cell(zone, *class).bays).sum()
    }

    /// The cheapest offerable bay of a cell, of the trusted or of the doubtful ones.
    pub fn first_free(&self, zone: ZoneIx, class: ClassIx, doubtful: bool) -> Option<BayIx> {
        if self.cell(zone, class).tally.free == 0 {
            return None;
        }
        let free = if doubtful { &self.doubtful } else { &self.free };
        let words = self.site.zones[zone.at()].bays.len().div_ceil(64);
        let start = self.offsets[zone.at()] + class.at() * words;
        let mut words = free[start..start + words].iter().enumerate();
        let (word, bits) = words.find(|(_, word)| **word != 0)?;
        let offset = word as u32 * 64 + bits.trailing_zeros();
        Some(BayIx(self.site.zones[zone.at()].bays.start + offset))
    }

    /// Garages whose totals changed since they were last taken, in order.
    pub fn changed(&self) -> Vec<GarageIx> {
        let marked = self.changed.iter().enumerate().filter(|(_, changed)| **changed);
        marked.map(|(ix, _)| GarageIx(ix as u32)).collect()
    }

    /// The same, and unmarks them.
    pub fn take_changed(&mut self) -> Vec<GarageIx> {
        let garages = self.changed();
        self.changed.fill(false);
        garages
    }

    /// Notes that something besides its bays changed for a garage.
    pub fn touch(&mut self, garage: GarageIx) {
        self.changed[garage.at()] = true;
    }

    fn cell(&self, zone: ZoneIx, class: ClassIx) -> &Cell {
        &self.cells[zone.at() * self.site.classes.len() + class.at()]
    }

    fn bit(&self, bay: BayIx) -> (usize, u64) {
        let place = &self.site.bays[bay.at()];
        let zone = &self.site.zones[place.zone.at()];
        let words = zone.bays.len().div_ceil(64);
        let offset = (bay.0 - zone.bays.start) as usize;
        let start = self.offsets[place.zone.at()] + place.class.at() * words;
        (start + offset / 64, 1 << (offset % 64))
    }
}

fn count(tally: &mut Tally, kind: Kind) -> &mut u32 {
    match kind {
        Kind::Free => &mut tally.free,
        Kind::Held => &mut tally.held,
        Kind::Occupied => &mut tally.occupied,
        Kind::Unknown => &mut tally.unknown,
        Kind::Closed => &mut tally.closed,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gateway::testing;

    proptest! {
        /// Totals and index equal a recount after any changes.
        #[test]
        fn totals_and_index_equal_a_recount(
            steps in proptest::collection::vec((0u32..90, 0u8..10), 1..400),
        ) {
            let site = Arc::new(testing::site());
            let mut bays = Bays::new(site.clone());
            for (bay, what) in steps {
                bays.change(BayIx(bay % site.bays.len() as u32), |bay| alter(bay, what));
            }
            for (ix, zone) in (0..).map(ZoneIx).zip(&site.zones) {
                for class in (0..site.classes.len() as u32).map(ClassIx) {
                    let mut expected = Tally::default();
                    let (mut first, mut last) = (None, None);
                    for bay in zone.bays.clone().map(BayIx) {
                        if site.bays[bay.at()].class == class {
                            *count(&mut expected, bays.get(bay).kind()) += 1;
                            let bay = Some(bay).filter(|bay| bays.get(*bay).offerable());
                            let doubt = bay.is_some_and(|bay| bays.get(bay).doubt);
                            first = first.or(bay.filter(|_| !doubt));
                            last = last.or(bay.filter(|_| doubt));
                        }
                    }
                    prop_assert_eq!(bays.tally(Scope::Zone(ix), Some(class)), expected);
                    prop_assert_eq!(bays.first_free(ix, class, false), first);
                    prop_assert_eq!(bays.first_free(ix, class, true), last);
                }
            }
            for (ix, garage) in (0..).map(GarageIx).zip(&site.garages) {
                prop_assert_eq!(bays.garage(ix), bays.tally(Scope::Garage(ix), None));
                prop_assert_eq!(bays.garage(ix).total(), garage.bays.len() as u32);
            }
        }
    }

    fn alter(bay: &mut Bay, what: u8) {
        match what {
            0 => bay.sensed = Sensed::Free,
            1 => bay.sensed = Sensed::Occupied,
            2 => bay.sensed = Sensed::Unknown,
            3 => bay.closures += 1,
            4 => bay.closures = bay.closures.saturating_sub(1),
            5 => bay.lease = Some(LeaseId { run: 0, number: 1 }),
            6 => bay.lease = None,
            7 => bay.quarantine = bay.quarantine.xor(Some(Mono(1))),
            8 => bay.doubt = !bay.doubt,
            _ => bay.presumed = bay.presumed.xor(Some(Mono(1))),
        }
    }
}
