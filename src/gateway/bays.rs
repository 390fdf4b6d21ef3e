//! Every bay's facts, and the index that finds the cheapest bay to give.
//!
//! A bay is five separate facts: what its sensor says, whose lease it carries, its class, its
//! health (quarantine) and its closures. Only a bay that is sensed free with none of the others is
//! *offerable*. Each change goes through [`Bays::change`], which keeps the totals and the index in
//! step, so that neither is ever recounted. The index itself is `index.rs`.
//!
//! A zone may keep its last bays back: once it has no more free ones than that, none is promised,
//! and they are left to drivers who follow no promise.

use std::sync::Arc;

use super::door::LeaseId;
use super::index::{Index, Offer};
use super::lamp;
use crate::config::GuidanceTable;
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

    /// Whether it would be offerable but for the lease it carries.
    pub fn stays_offerable(&self) -> bool {
        Bay { lease: None, ..*self }.offerable()
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

impl Kind {
    /// Whether it is seen, and whether it is taken or promised, as numbers.
    fn counts(self) -> (i32, i32) {
        match self {
            Kind::Free => (1, 0),
            Kind::Held | Kind::Occupied => (1, 1),
            Kind::Unknown | Kind::Closed => (0, 0),
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
    /// By garage, then class.
    classes: Vec<Tally>,
    garages: Vec<Tally>,
    /// By zone: its free bays, and whether they are kept back.
    free: Vec<u32>,
    withheld: Vec<bool>,
    pub(super) index: Index,
    /// Bays sensed occupied by garage, closed ones included.
    occupied: Vec<u32>,
    /// Garages whose totals changed since they were last taken.
    changed: Vec<bool>,
    /// The same ones, in no order.
    changes: Vec<GarageIx>,
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
        let mut by_class = vec![Tally::default(); site.garages.len() * classes];
        for bay in &site.bays {
            let cell = &mut cells[bay.zone.at() * classes + bay.class.at()];
            cell.bays += 1;
            cell.tally.unknown += 1;
            garages[bay.garage.at()].unknown += 1;
            by_class[bay.garage.at() * classes + bay.class.at()].unknown += 1;
        }
        Bays {
            bays: vec![Bay::default(); site.bays.len()],
            cells,
            classes: by_class,
            free: vec![0; site.zones.len()],
            withheld: site.zones.iter().map(|zone| zone.keep_back > 0).collect(),
            index: Index::new(&site, &GuidanceTable::default()),
            changed: vec![true; garages.len()],
            changes: (0..garages.len() as u32).map(GarageIx).collect(),
            occupied: vec![0; garages.len()],
            garages,
            lit: lamp::lit(&site),
            dim: Vec::new(),
            site,
        }
    }

    /// Other weights and prices: the index is made anew.
    pub fn retune(&mut self, tuning: &GuidanceTable) {
        if self.index.follows(tuning) {
            return;
        }
        self.index = Index::new(&self.site, tuning);
        for ix in (0..self.bays.len() as u32).map(BayIx) {
            self.index.offer(ix, self.offer(ix));
            let (seen, taken) = self.bays[ix.at()].kind().counts();
            self.index.count(ix, seen, taken);
        }
        for (ix, tally) in (0..).map(GarageIx).zip(&self.garages) {
            self.index.fill(ix, *tally);
        }
        self.index.price_classes();
    }

    /// Brings the prices up to date with the changes since [`Bays::take_changed`]: to be called
    /// before anything is chosen and before those are taken.
    #[inline]
    pub fn price(&mut self) {
        for garage in &self.changes {
            self.index.fill(*garage, self.garages[garage.at()]);
        }
        if !self.changes.is_empty() {
            self.index.price_classes();
        }
    }

    /// One bay's facts.
    #[inline]
    pub fn get(&self, bay: BayIx) -> &Bay {
        &self.bays[bay.at()]
    }

    /// Changes a bay's facts, and with them every total it is part of.
    pub fn change<T>(&mut self, ix: BayIx, change: impl FnOnce(&mut Bay) -> T) -> T {
        let bay = &mut self.bays[ix.at()];
        let (before, was, doubted) = (bay.kind(), bay.sensed == Sensed::Occupied, bay.doubt);
        let lamp = (bay.lease.is_some(), bay.is_unknown());
        let result = change(bay);
        let (after, is, doubts) = (bay.kind(), bay.sensed == Sensed::Occupied, bay.doubt);
        if before != after || lamp != (bay.lease.is_some(), bay.is_unknown()) {
            self.dim(ix);
        }
        let garage = self.site.bays[ix.at()].garage;
        if was != is {
            let occupied = &mut self.occupied[garage.at()];
            *occupied = if is { *occupied + 1 } else { *occupied - 1 };
            self.touch(garage);
        }
        if before != after {
            self.touch(garage);
            self.recount(ix, before, after);
        }
        if before != after || doubted != doubts {
            self.index.offer(ix, self.offer(ix));
        }
        result
    }

    /// A bay counts as something else now: totals, prices, and whether its zone keeps back.
    #[inline]
    fn recount(&mut self, ix: BayIx, before: Kind, after: Kind) {
        let place = &self.site.bays[ix.at()];
        let (zone, garage, class) = (place.zone, place.garage, place.class.at());
        let classes = self.site.classes.len();
        for tally in [
            &mut self.cells[zone.at() * classes + class].tally,
            &mut self.classes[garage.at() * classes + class],
            &mut self.garages[garage.at()],
        ] {
            *count(tally, before) -= 1;
            *count(tally, after) += 1;
        }
        let ((seen_before, taken_before), (seen, taken)) = (before.counts(), after.counts());
        self.index.count(ix, seen - seen_before, taken - taken_before);
        let free = &mut self.free[zone.at()];
        *free = *free + u32::from(after == Kind::Free) - u32::from(before == Kind::Free);
        let keep_back = self.site.zones[zone.at()].keep_back;
        let withheld = keep_back > 0 && *free <= keep_back;
        if std::mem::replace(&mut self.withheld[zone.at()], withheld) != withheld {
            for bay in self.site.zones[zone.at()].bays.clone().map(BayIx) {
                self.index.offer(bay, self.offer(bay));
            }
        }
    }

    /// How a bay may be given now.
    #[inline]
    pub fn offer(&self, ix: BayIx) -> Offer {
        let bay = &self.bays[ix.at()];
        if !bay.offerable() || self.withheld[self.site.bays[ix.at()].zone.at()] {
            Offer::Not
        } else if bay.doubt {
            Offer::Doubtful
        } else {
            Offer::Trusted
        }
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
    #[inline]
    pub fn tally(&self, scope: Scope, class: Option<ClassIx>) -> Tally {
        if let Scope::Garage(garage) = scope {
            let classes = self.site.classes.len();
            return match class {
                Some(class) => self.classes[garage.at() * classes + class.at()],
                None => self.garages[garage.at()],
            };
        }
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

    /// Garages whose totals changed since they were last taken, in no order.
    pub fn changed(&self) -> &[GarageIx] {
        &self.changes
    }

    /// The same in order, and unmarks them; `into` is emptied first.
    pub fn take_changed(&mut self, into: &mut Vec<GarageIx>) {
        into.clear();
        into.append(&mut self.changes);
        into.sort_unstable();
        into.iter().for_each(|garage| self.changed[garage.at()] = false);
    }

    /// Notes that something besides its bays changed for a garage.
    #[inline]
    pub fn touch(&mut self, garage: GarageIx) {
        if !std::mem::replace(&mut self.changed[garage.at()], true) {
            self.changes.push(garage);
        }
    }

    fn cell(&self, zone: ZoneIx, class: ClassIx) -> &Cell {
        &self.cells[zone.at() * self.site.classes.len() + class.at()]
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
        /// Totals equal a recount after any changes.
        #[test]
        fn totals_equal_a_recount(
            steps in proptest::collection::vec((0u32..90, 0u8..9), 1..400),
        ) {
            let site = Arc::new(testing::site());
            let mut bays = Bays::new(site.clone());
            for (bay, what) in steps {
                bays.change(BayIx(bay % site.bays.len() as u32), |bay| alter(bay, what));
            }
            for (ix, zone) in (0..).map(ZoneIx).zip(&site.zones) {
                for class in (0..site.classes.len() as u32).map(ClassIx) {
                    let mut expected = Tally::default();
                    for bay in zone.bays.clone().map(BayIx) {
                        if site.bays[bay.at()].class == class {
                            *count(&mut expected, bays.get(bay).kind()) += 1;
                        }
                    }
                    prop_assert_eq!(bays.tally(Scope::Zone(ix), Some(class)), expected);
                }
            }
            for (ix, garage) in (0..).map(GarageIx).zip(&site.garages) {
                let zones = garage.zones.clone().map(ZoneIx);
                let mut total = Tally::default();
                zones.for_each(|zone| total += bays.tally(Scope::Zone(zone), None));
                prop_assert_eq!(bays.garage(ix), total);
                let classes = (0..site.classes.len() as u32).map(ClassIx);
                let mut total = Tally::default();
                classes.for_each(|it| total += bays.tally(Scope::Garage(ix), Some(it)));
                prop_assert_eq!(bays.garage(ix), total);
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
