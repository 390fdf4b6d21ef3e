//! What the gateway believes about bays that nobody can see: counted, not sensed.
//!
//! While all units of a garage answer, its ledger follows the sensors. When one goes silent, the
//! ledger goes on from the last sensed occupancy with the door's loops (or, without loops, with
//! the leases it gave), and says how much room is left in the silent zones. So a dead controller
//! of 630 bays does not read as full, and no driver is sent to a bay nobody knows anything about:
//! the promise is then a zone or a garage, never a bay.

use super::bays::Bays;
use super::passage::{Counter, Passed};
use crate::record::Tally;
use crate::site::{BayIx, GarageIx, Scope, Site, ZoneIx};
use crate::time::Mono;

/// A garage's books.
#[derive(Clone, Debug, Default)]
struct GarageBook {
    /// Bays occupied when all could last be seen; `None` until then.
    base: Option<i64>,
    /// By the loops, since `base`.
    net_in: i64,
    /// Cars sent into what cannot be seen while no loop counted them.
    assumed: i64,
    /// The loops at its door, in and out, where it has them.
    doors: [Option<Side>; 2],
    silent: u32,
    /// Believed free in silent zones.
    room: i64,
    /// Open leases that name the garage only.
    promised: i64,
}

/// A zone's books.
#[derive(Clone, Debug, Default)]
struct ZoneBook {
    silent: bool,
    /// As last seen.
    before: Tally,
    /// Cars taken to stand there since: leases that ended without anybody seeing it.
    taken: i64,
    room: i64,
    /// Open leases that name the zone only.
    promised: i64,
}

/// The loop for one way through a door.
#[derive(Clone, Copy, Debug)]
struct Side {
    counter: Counter,
    /// The unit that reads it answers.
    counting: bool,
}

impl GarageBook {
    /// Whether every car through the door is counted.
    fn counting(&self) -> bool {
        self.doors.iter().all(|side| side.is_some_and(|side| side.counting))
    }
}

/// Which way cars pass a door.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    In,
    Out,
}

/// The books of all garages.
#[derive(Clone, Debug)]
pub struct Ledger {
    garages: Vec<GarageBook>,
    zones: Vec<ZoneBook>,
    /// Silent zones in all.
    silent: u32,
    /// Open leases in all that name no bay.
    promised: i64,
}

impl Ledger {
    /// Nothing known yet; every zone counts as silent until its unit answers.
    pub fn new(site: &Site) -> Ledger {
        let mut garages = vec![GarageBook::default(); site.garages.len()];
        for (book, garage) in garages.iter_mut().zip(&site.garages) {
            book.doors = garage.door_counter.map_or([None; 2], |door| {
                [door.cars_in, door.cars_out]
                    .map(|door| Some(Side { counter: Counter::new(door.highest), counting: false }))
            });
            book.silent = garage.zones.len() as u32;
        }
        let zones = vec![ZoneBook { silent: true, ..ZoneBook::default() }; site.zones.len()];
        Ledger { garages, zones, silent: site.zones.len() as u32, promised: 0 }
    }

    /// Occupancy an earlier run kept.
    pub fn restore(&mut self, garage: GarageIx, occupied: i64) {
        self.garages[garage.at()].base.get_or_insert(occupied);
    }

    /// How many cars stand in the garage, by who knows better.
    pub fn set(&mut self, garage: GarageIx, occupied: i64) {
        let book = &mut self.garages[garage.at()];
        (book.base, book.net_in, book.assumed) = (Some(occupied), 0, 0);
    }

    /// The occupancy to keep: sensed plus counted.
    pub fn occupied(&self, garage: GarageIx) -> Option<i64> {
        let book = &self.garages[garage.at()];
        book.base.map(|base| base + book.net_in + book.assumed)
    }

    /// Whether the garage has loops at its door.
    pub fn counted(&self, garage: GarageIx) -> bool {
        self.garages[garage.at()].doors[0].is_some()
    }

    /// Takes one of the door's counters.
    pub fn count(&mut self, garage: GarageIx, way: Way, count: u32, at: Mono) -> Passed {
        let book = &mut self.garages[garage.at()];
        let Some(side) = &mut book.doors[way as usize] else {
            return Passed::Rebased { reset: false };
        };
        let passed = side.counter.read(count, at);
        let missed = !std::mem::replace(&mut side.counting, true);
        match passed {
            Passed::Cars(cars) => {
                if missed && book.counting() {
                    // The counters went on while their unit was silent: they know the assumed cars.
                    book.assumed = 0;
                }
                book.net_in += if way == Way::In { i64::from(cars) } else { -i64::from(cars) };
            }
            // What was assumed meanwhile stands: no count says better.
            Passed::Rebased { reset: true } => book.net_in += std::mem::take(&mut book.assumed),
            Passed::Rebased { reset: false } => (),
        }
        passed
    }

    /// A zone's unit went silent; `before` is what was last seen there.
    pub fn lose(&mut self, site: &Site, zone: ZoneIx, before: Tally) {
        let book = &mut self.zones[zone.at()];
        if !std::mem::replace(&mut book.silent, true) {
            book.before = before;
            book.taken = 0;
            self.garages[site.zones[zone.at()].garage.at()].silent += 1;
            self.silent += 1;
        }
    }

    /// The unit that reads one of a garage's loops went silent.
    pub fn lose_counter(&mut self, garage: GarageIx, way: Way) {
        if let Some(side) = &mut self.garages[garage.at()].doors[way as usize] {
            side.counting = false;
        }
    }

    /// A zone's unit answers again.
    pub fn find(&mut self, site: &Site, zone: ZoneIx) {
        if std::mem::replace(&mut self.zones[zone.at()].silent, false) {
            self.garages[site.zones[zone.at()].garage.at()].silent -= 1;
            self.silent -= 1;
        }
    }

    /// A lease that names only this place was opened (+1) or ended (-1).
    pub fn promise(&mut self, garage: GarageIx, zone: Option<ZoneIx>, step: i64) {
        self.promised += step;
        match zone {
            Some(zone) => self.zones[zone.at()].promised += step,
            None => self.garages[garage.at()].promised += step,
        }
    }

    /// A car is taken to stand somewhere unseen; where loops count, they know already.
    pub fn take(&mut self, garage: GarageIx, zone: Option<ZoneIx>) {
        if let Some(zone) = zone {
            self.zones[zone.at()].taken += 1;
        }
        let book = &mut self.garages[garage.at()];
        if !book.counting() {
            book.assumed += 1;
        }
    }

    /// Works out the room in a garage's silent zones from what is sensed now.
    ///
    /// Where all units answer, the sensors are the books; but with more than `unknown_max` percent
    /// of the bays unknown (a dead detector bus behind a living controller) they are not, and what
    /// was last known goes on.
    pub fn refresh(&mut self, site: &Site, bays: &Bays, garage: GarageIx, unknown_max: u32) {
        let zones = site.garages[garage.at()].zones.clone().map(ZoneIx);
        let live = i64::from(bays.occupied(garage));
        let unknown = bays.garage(garage).unknown;
        let all = site.garages[garage.at()].bays.len() as u32;
        let book = &mut self.garages[garage.at()];
        if book.silent == 0 {
            book.room = 0;
            if unknown * 100 <= all * unknown_max {
                book.base = Some(live);
                book.net_in = 0;
                book.assumed = 0;
            }
            return;
        }
        let silent: Vec<(ZoneIx, i64)> = zones
            .filter(|zone| self.zones[zone.at()].silent)
            .map(|zone| (zone, i64::from(bays.tally(Scope::Zone(zone), None).unknown)))
            .collect();
        let unseen: i64 = silent.iter().map(|(_, unknown)| unknown).sum();
        book.room = match book.base {
            None => 0,
            Some(base) if book.doors[0].is_some() => {
                let inside = (base + book.net_in + book.assumed - live).clamp(0, unseen);
                // Bays there that are still promised to drivers under way.
                let pledged = silent.iter().map(|(zone, _)| leased(site, bays, *zone)).sum::<i64>();
                (unseen - inside - pledged).max(0)
            }
            Some(_) => {
                let books = silent.iter().map(|(zone, _)| &self.zones[zone.at()]);
                let free: i64 = books.map(|zone| i64::from(zone.before.free)).sum();
                (free - book.assumed).clamp(0, unseen)
            }
        };
        // Shared out by the zones' free bays when last seen, less the cars taken to stand there
        // since; or by size where none were seen.
        let room = book.room;
        let seen = |zone: ZoneIx, zones: &[ZoneBook]| {
            let book = &zones[zone.at()];
            (i64::from(book.before.free) - book.taken).max(0)
        };
        let any: i64 = silent.iter().map(|(zone, _)| seen(*zone, &self.zones)).sum();
        let total = if any > 0 { any } else { unseen };
        for (zone, unknown) in silent {
            let share = if any > 0 { seen(zone, &self.zones) } else { unknown };
            let share = (room * share).checked_div(total).unwrap_or(0);
            self.zones[zone.at()].room = share.min(unknown);
        }
    }

    /// Whether any zone of the site cannot be seen.
    pub fn any_unseen(&self) -> bool {
        self.silent > 0
    }

    /// Whether any zone of the garage cannot be seen.
    pub fn any_silent(&self, garage: GarageIx) -> bool {
        self.garages[garage.at()].silent > 0
    }

    /// Whether a zone cannot be seen.
    pub fn silent(&self, zone: ZoneIx) -> bool {
        self.zones[zone.at()].silent
    }

    /// Free bays believed in, in what cannot be seen of a garage, less what is promised there.
    pub fn room(&self, site: &Site, garage: GarageIx) -> u32 {
        let book = &self.garages[garage.at()];
        let zones = site.garages[garage.at()].zones.clone();
        let promised: i64 = zones.map(|zone| self.zones[zone as usize].promised).sum();
        u32::try_from(book.room - promised - book.promised).unwrap_or(0)
    }

    /// Open leases that name a place without a bay, in what can be seen of a part of the site:
    /// cars on their way to bays that are counted as free. What leads into silence is no such bay.
    pub fn promised(&self, site: &Site, scope: Scope) -> u32 {
        if self.promised == 0 {
            return 0;
        }
        let seen = site
            .scope_zones(scope)
            .map(|zone| &self.zones[zone as usize])
            .filter(|zone| !zone.silent);
        let zones: i64 = seen.map(|zone| zone.promised).sum();
        let garage = match scope {
            Scope::Garage(garage) if !self.any_silent(garage) => self.garages[garage.at()].promised,
            Scope::Garage(_) | Scope::Level(_) | Scope::Zone(_) => 0,
        };
        u32::try_from(zones + garage).unwrap_or(0)
    }

    /// Whether a silent zone of `bays` bays should have one of its `compatible` ones free.
    pub fn zone_room(&self, zone: ZoneIx, compatible: u32, bays: u32) -> bool {
        let book = &self.zones[zone.at()];
        book.room * i64::from(compatible) / i64::from(bays.max(1)) > book.promised
    }
}

fn leased(site: &Site, bays: &Bays, zone: ZoneIx) -> i64 {
    let all = site.zones[zone.at()].bays.clone().map(BayIx);
    all.filter(|bay| bays.get(*bay).lease.is_some()).count() as i64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gateway::testing;
    use crate::record::Sensed;

    const G: GarageIx = GarageIx(0);

    #[test]
    fn loops_carry_a_silent_garage_on() {
        let (site, mut bays, mut ledger) = seen(10);
        door(&mut ledger, 100, 50);
        lose_all(&site, &mut bays, &mut ledger);
        let free = ledger.room(&site, G);
        assert_eq!(free, site.garages[0].bays.len() as u32 - 10);
        assert_eq!(door(&mut ledger, 105, 51), [Passed::Cars(5), Passed::Cars(1)]);
        ledger.refresh(&site, &bays, G, 20);
        assert_eq!(ledger.room(&site, G), free - 4);
    }

    #[test]
    fn a_written_counter_moves_nothing_and_a_wrap_is_no_jump() {
        let (site, mut bays, mut ledger) = seen(10);
        door(&mut ledger, u32::MAX - 1, 50);
        lose_all(&site, &mut bays, &mut ledger);
        let free = ledger.room(&site, G);
        assert_eq!(door(&mut ledger, 1, 50), [Passed::Cars(3), Passed::Cars(0)]);
        assert_eq!(door(&mut ledger, 90_000, 0), [Passed::Rebased { reset: true }; 2]);
        ledger.refresh(&site, &bays, G, 20);
        assert_eq!(ledger.room(&site, G), free - 3);
    }

    #[test]
    fn a_garage_never_seen_promises_nothing() {
        let site = Arc::new(testing::site());
        let bays = Bays::new(site.clone());
        let mut ledger = Ledger::new(&site);
        ledger.refresh(&site, &bays, G, 20);
        assert_eq!(ledger.room(&site, G), 0);
        assert!(!ledger.zone_room(ZoneIx(0), 10, 10));
    }

    #[test]
    fn loops_that_died_with_their_unit_count_nobody_but_the_leases_do() {
        let (site, mut bays, mut ledger) = seen(site_bays() - 2);
        door(&mut ledger, 100, 50);
        lose_all(&site, &mut bays, &mut ledger);
        ledger.lose_counter(G, Way::In);
        ledger.lose_counter(G, Way::Out);
        ledger.take(G, Some(ZoneIx(0)));
        ledger.take(G, None);
        ledger.refresh(&site, &bays, G, 20);
        assert_eq!(ledger.room(&site, G), 0);
        // Back again, the counter knows of the two, and of one that left.
        door(&mut ledger, 102, 51);
        ledger.refresh(&site, &bays, G, 20);
        assert_eq!(ledger.room(&site, G), 1);
    }

    #[test]
    fn detectors_that_fail_together_do_not_empty_the_books() {
        let (site, mut bays, mut ledger) = seen(30);
        for bay in site.garages[0].bays.clone() {
            bays.change(BayIx(bay), |bay| bay.sensed = Sensed::Unknown);
        }
        ledger.refresh(&site, &bays, G, 20);
        assert_eq!(ledger.occupied(G), Some(30));
    }

    #[test]
    fn promises_use_the_room_up() {
        let (site, mut bays, mut ledger) = seen(site_bays() - 2);
        lose_all(&site, &mut bays, &mut ledger);
        assert_eq!(ledger.room(&site, G), 2);
        ledger.promise(G, None, 1);
        ledger.promise(G, Some(ZoneIx(0)), 1);
        assert_eq!(ledger.room(&site, G), 0);
    }

    #[test]
    fn one_loop_that_died_alone_leaves_cars_to_the_leases_until_it_is_back() {
        let (site, mut bays, mut ledger) = seen(site_bays() - 4);
        door(&mut ledger, 100, 50);
        lose_all(&site, &mut bays, &mut ledger);
        ledger.lose_counter(G, Way::In);
        ledger.take(G, None);
        let room = |ledger: &mut Ledger| {
            ledger.refresh(&site, &bays, G, 20);
            ledger.room(&site, G)
        };
        assert_eq!(room(&mut ledger), 3);
        assert_eq!(ledger.count(G, Way::Out, 51, Mono(0)), Passed::Cars(1));
        assert_eq!(room(&mut ledger), 4);
        // Back again, it knows of the one that was assumed, and of another.
        assert_eq!(ledger.count(G, Way::In, 102, Mono(0)), Passed::Cars(2));
        assert_eq!(room(&mut ledger), 3);
    }

    fn door(ledger: &mut Ledger, cars_in: u32, cars_out: u32) -> [Passed; 2] {
        [(Way::In, cars_in), (Way::Out, cars_out)]
            .map(|(way, count)| ledger.count(G, way, count, Mono(0)))
    }

    fn site_bays() -> u32 {
        testing::site().garages[0].bays.len() as u32
    }

    /// A garage all of whose bays were seen, `occupied` of them taken.
    fn seen(occupied: u32) -> (Arc<Site>, Bays, Ledger) {
        let site = Arc::new(testing::site());
        let mut bays = Bays::new(site.clone());
        let mut ledger = Ledger::new(&site);
        for bay in site.garages[0].bays.clone() {
            let sensed = if bay < occupied { Sensed::Occupied } else { Sensed::Free };
            bays.change(BayIx(bay), |bay| bay.sensed = sensed);
        }
        for zone in site.garages[0].zones.clone().map(ZoneIx) {
            ledger.find(&site, zone);
        }
        ledger.refresh(&site, &bays, G, 20);
        (site, bays, ledger)
    }

    fn lose_all(site: &Site, bays: &mut Bays, ledger: &mut Ledger) {
        for zone in site.garages[0].zones.clone().map(ZoneIx) {
            ledger.lose(site, zone, bays.tally(Scope::Zone(zone), None));
        }
        for bay in site.garages[0].bays.clone() {
            bays.change(BayIx(bay), |bay| bay.sensed = Sensed::Unknown);
        }
        ledger.refresh(site, bays, G, 20);
    }
}
