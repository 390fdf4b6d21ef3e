//! Which bay, or which zone or garage if no bay is sure, for a vehicle at a place.
//!
//! The cost: weighted drive to the door, drive inside, weighted walk, class penalty, and the prices
//! of `index.rs`; all integers in milliseconds, ties by the lowest bay, so that equal inputs choose
//! equally. A zone whose unit is silent competes with what its ledger believes, at a penalty, so
//! that a dead controller neither closes a garage nor hides a sure bay next door.

use super::bays::Bays;
use super::index::{Doors, NONE, part};
use super::ledger::Ledger;
use super::route::Routes;
use crate::config::GuidanceTable;
use crate::record::Promise;
use crate::site::{BayIx, ClassIx, DestinationIx, GarageIx, NodeIx, Site, ZoneIx};

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    pub at: NodeIx,
    pub class: ClassIx,
    pub destination: Option<DestinationIx>,
    /// Only in this garage: for a driver who is already inside.
    pub within: Option<GarageIx>,
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    pub promise: Promise,
    pub garage: GarageIx,
    pub zone: Option<ZoneIx>,
    pub bay: Option<BayIx>,
    /// With the prices: for comparing, never for telling.
    pub cost_ms: i32,
    /// From `at` into the zone, unweighted.
    pub travel_ms: u64,
}

/// A place that was promised before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub garage: GarageIx,
    pub zone: Option<ZoneIx>,
    pub bay: Option<BayIx>,
}

/// What choosing looks at.
pub struct View<'a> {
    pub site: &'a Site,
    pub tuning: &'a GuidanceTable,
    pub routes: &'a Routes,
    pub doors: &'a Doors,
    pub bays: &'a Bays,
    pub ledger: &'a Ledger,
}

/// The cheapest promise, or nothing where the site has no room that this vehicle can use. Bays
/// whose sensors are in doubt come after everything else.
pub fn choose(view: &View<'_>, want: &Want) -> Option<Choice> {
    let doors = view.doors.row(want.at, want.destination);
    let mut best = sensed(view, want, doors);
    if view.ledger.any_unseen() {
        let garages = (0..view.site.garages.len() as u32).map(GarageIx);
        let inside = |garage: &GarageIx| want.within.is_none_or(|within| within == *garage);
        for garage in garages.filter(inside).filter(|garage| view.ledger.any_silent(*garage)) {
            guessed(view, want, garage, doors[garage.at()], &mut best);
        }
    }
    best
}

/// What a place that was promised before would cost now, by the same reckoning; `None` where it
/// cannot be reached or does not serve the class.
pub fn cost_of(view: &View<'_>, want: &Want, place: &Place) -> Option<i32> {
    let door = view.doors.row(want.at, want.destination)[place.garage.at()];
    if door >= NONE || !serves(view, want.class, place) {
        return None;
    }
    if let Some(bay) = place.bay {
        let doubt = view.bays.get(bay).doubt;
        return Some(door + view.bays.index.cost_of(want.class, bay, doubt)?);
    }
    let may_use = &view.site.classes[want.class.at()].may_use;
    let zones = match place.zone {
        Some(zone) => zone.0..zone.0 + 1,
        None => view.site.garages[place.garage.at()].zones.clone(),
    };
    let serving = zones.map(ZoneIx).filter(|zone| view.bays.compatible(*zone, may_use) > 0);
    let inside = serving.map(|zone| inside_ms(view, zone)).min()?;
    let unsure = part(u64::from(view.tuning.unsure_penalty_s) * 1_000);
    Some(door + inside + view.bays.index.beyond(want.class, place.garage)? + unsure)
}

/// Whether a vehicle of the class may stand there.
pub fn serves(view: &View<'_>, class: ClassIx, place: &Place) -> bool {
    let class = &view.site.classes[class.at()];
    let garage = &view.site.garages[place.garage.at()];
    if class.height_cm > garage.clearance_cm {
        return false;
    }
    let compatible = |zone| view.bays.compatible(zone, &class.may_use) > 0;
    match (place.bay, place.zone) {
        (Some(bay), _) => {
            let kind = view.site.bays[bay.at()].class;
            class.may_use.iter().any(|(allowed, _)| *allowed == kind)
        }
        (None, Some(zone)) => compatible(zone),
        (None, None) => garage.zones.clone().map(ZoneIx).any(compatible),
    }
}

/// The cheapest bay that is sensed free.
fn sensed(view: &View<'_>, want: &Want, doors: &[i32]) -> Option<Choice> {
    let (bay, cost_ms) = view.bays.index.cheapest(doors, want.class, want.within)?;
    let place = &view.site.bays[bay.at()];
    Some(Choice {
        promise: Promise::Bay,
        garage: place.garage,
        zone: Some(place.zone),
        bay: Some(bay),
        cost_ms,
        travel_ms: travel_ms(view, want, place.garage, place.zone),
    })
}

/// Zones whose unit is silent, and the garage as a whole, by the ledger.
fn guessed(view: &View<'_>, want: &Want, garage: GarageIx, door: i32, best: &mut Option<Choice>) {
    let Some(beyond) = view.bays.index.beyond(want.class, garage).filter(|_| door < NONE) else {
        return;
    };
    let may_use = &view.site.classes[want.class.at()].may_use;
    let unsure = part(u64::from(view.tuning.unsure_penalty_s) * 1_000);
    let (mut nearest, mut any_room): (Option<Choice>, bool) = (None, false);
    for zone in view.site.garages[garage.at()].zones.clone().map(ZoneIx) {
        let compatible = view.bays.compatible(zone, may_use);
        if compatible == 0 || !view.ledger.silent(zone) {
            continue;
        }
        let choice = Choice {
            promise: Promise::Zone,
            garage,
            zone: Some(zone),
            bay: None,
            cost_ms: door + inside_ms(view, zone) + beyond + unsure,
            travel_ms: travel_ms(view, want, garage, zone),
        };
        let bays = view.site.zones[zone.at()].bays.len() as u32;
        if view.ledger.zone_room(zone, compatible, bays) {
            any_room = true;
            if best.is_none_or(|best| choice.cost_ms < best.cost_ms) {
                *best = Some(choice);
            }
        } else if nearest.is_none_or(|nearest| choice.cost_ms < nearest.cost_ms) {
            nearest = Some(choice);
        }
    }
    // No zone is sure of room, but together they may be: then the garage is promised.
    if let Some(nearest) = nearest
        && !any_room
        && view.ledger.room(view.site, garage) > 0
        && best.is_none_or(|best| nearest.cost_ms < best.cost_ms)
    {
        *best = Some(Choice { promise: Promise::Garage, zone: None, ..nearest });
    }
}

/// From where the vehicle is into a zone, unweighted.
fn travel_ms(view: &View<'_>, want: &Want, garage: GarageIx, zone: ZoneIx) -> u64 {
    let leg = view.routes.leg(want.at, garage).map_or(0, |leg| leg.drive_ms);
    u64::from(leg) + u64::from(view.site.zones[zone.at()].drive_s) * 1_000
}

/// From the door into a zone and back to the core on foot, weighted.
fn inside_ms(view: &View<'_>, zone: ZoneIx) -> i32 {
    let zone = &view.site.zones[zone.at()];
    let walk_ms = u64::from(zone.walk_s) * 100 * u64::from(view.tuning.walk_weight_tenths);
    part(u64::from(zone.drive_s) * 1_000 + walk_ms)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::gateway::{LeaseId, testing};
    use crate::record::Sensed;
    use crate::site::{Bay, Class};
    use crate::time::Mono;

    proptest! {
        /// The same bay at the same cost as a look at every bay, after any changes.
        #[test]
        fn as_cheap_as_a_look_at_every_bay(
            seed in any::<u64>(),
            prices in (0u32..3_000, 0u32..3_000, 0u32..300),
            weights in (10u32..60, 10u32..40),
            keep_back in 0u32..4,
        ) {
            let tuning = GuidanceTable {
                price_occupancy_s: prices.0,
                price_class_s: prices.1,
                unsure_penalty_s: prices.2,
                surface_weight_tenths: weights.0,
                walk_weight_tenths: weights.1,
                ..GuidanceTable::default()
            };
            Twin::new(seed, tuning, keep_back).run(60);
        }
    }

    /// `PARKWAY_STEPS=1000000 cargo test --release --lib gateway::choose` looks longer.
    #[test]
    fn as_cheap_as_a_look_at_every_bay_for_long() {
        let steps = std::env::var("PARKWAY_STEPS").ok().and_then(|text| text.parse().ok());
        let tuning = |seed: u32| GuidanceTable {
            price_occupancy_s: [0, 1_000, 2_500][seed as usize % 3],
            price_class_s: [1_000, 0][seed as usize % 2],
            ..GuidanceTable::default()
        };
        let steps: usize = steps.unwrap_or(4_000);
        for seed in 0..10 {
            Twin::new(seed.into(), tuning(seed), seed % 4).run(steps / 10);
        }
    }

    /// The index and everything it must agree with.
    struct Twin {
        site: Arc<Site>,
        tuning: GuidanceTable,
        bays: Bays,
        routes: Routes,
        closed: BTreeSet<NodeIx>,
        dice: Dice,
    }

    impl Twin {
        fn new(seed: u64, tuning: GuidanceTable, keep_back: u32) -> Twin {
            let mut site = testing::site();
            site.zones.iter_mut().step_by(2).for_each(|zone| zone.keep_back = keep_back);
            let site = Arc::new(site);
            let mut bays = Bays::new(site.clone());
            bays.retune(&tuning);
            let closed = BTreeSet::new();
            let routes = Routes::new(&site, tuning.surface_weight_tenths, &closed, &closed_links());
            Twin { site, tuning, bays, routes, closed, dice: Dice(seed) }
        }

        fn run(&mut self, steps: usize) {
            for _ in 0..self.site.bays.len() {
                let bay = BayIx(self.dice.below(self.site.bays.len()) as u32);
                self.bays.change(bay, |bay| bay.sensed = Sensed::Free);
            }
            for _ in 0..steps {
                self.act();
                self.compare();
            }
        }

        fn act(&mut self) {
            let ix = BayIx(self.dice.below(self.site.bays.len()) as u32);
            let what = self.dice.below(40);
            if what == 0 {
                let node = NodeIx(self.dice.below(self.site.nodes.len()) as u32);
                if !self.closed.remove(&node) {
                    self.closed.insert(node);
                }
                let weight = self.tuning.surface_weight_tenths;
                self.routes = Routes::new(&self.site, weight, &self.closed, &closed_links());
            }
            if what == 1 {
                self.tuning.price_occupancy_s = self.dice.below(3_000) as u32;
                self.bays.retune(&self.tuning);
            }
            self.bays.change(ix, |bay| match what {
                2..=13 => bay.sensed = Sensed::Occupied,
                14..=25 => bay.sensed = Sensed::Free,
                26 => bay.sensed = Sensed::Unknown,
                27..=28 => bay.closures = 1 - bay.closures.min(1),
                29..=32 => bay.doubt ^= true,
                33..=36 => bay.lease = bay.lease.xor(Some(LeaseId { run: 0, number: 1 })),
                37 => bay.quarantine = bay.quarantine.xor(Some(Mono(1))),
                _ => (),
            });
        }

        fn compare(&mut self) {
            self.bays.price();
            self.bays.take_changed(&mut Vec::new());
            let doors = Doors::new(&self.site, &self.tuning, &self.routes);
            let ledger = Ledger::new(&self.site);
            let view = View {
                site: &self.site,
                tuning: &self.tuning,
                routes: &self.routes,
                doors: &doors,
                bays: &self.bays,
                ledger: &ledger,
            };
            let destinations = self.site.destinations.len();
            let end = self.dice.below(destinations + 1);
            let within = self.dice.below(6);
            let want = Want {
                at: NodeIx(self.dice.below(self.site.nodes.len()) as u32),
                class: ClassIx(self.dice.below(self.site.classes.len()) as u32),
                destination: (end < destinations).then_some(DestinationIx(end as u32)),
                within: (within < 2).then_some(GarageIx(within as u32)),
            };
            let found = choose(&view, &want).map(|choice| (choice.bay, choice.cost_ms));
            assert_eq!(found, oracle(&view, &want), "{want:?}");
            if let Some(Choice { garage, zone, bay, cost_ms, .. }) = choose(&view, &want) {
                let place = Place { garage, zone, bay };
                assert_eq!(cost_of(&view, &want, &place), Some(cost_ms), "{want:?}");
            }
        }
    }

    fn closed_links() -> BTreeSet<crate::site::LinkIx> {
        BTreeSet::new()
    }

    /// Every bay, one by one: what it costs by the rules as they are written, with no index.
    fn oracle(view: &View<'_>, want: &Want) -> Option<(Option<BayIx>, i32)> {
        let class = &view.site.classes[want.class.at()];
        let mut cells: BTreeMap<(GarageIx, ClassIx), (bool, u64, BayIx)> = BTreeMap::new();
        for (ix, bay) in (0..).map(BayIx).zip(&view.site.bays) {
            let kept = view.site.zones[bay.zone.at()].bays.clone().map(BayIx);
            let free = kept.filter(|bay| view.bays.get(*bay).offerable()).count() as u32;
            let back = view.site.zones[bay.zone.at()].keep_back;
            let facts = view.bays.get(ix);
            if !facts.offerable()
                || back > 0 && free <= back
                || want.within.is_some_and(|within| within != bay.garage)
                || !may_stand(view.site, class, bay)
            {
                continue;
            }
            let Some(cost) = plain(view, want, ix) else { continue };
            let cell = (facts.doubt, cost, ix);
            let best = cells.entry((bay.garage, bay.class)).or_insert(cell);
            *best = cell.min(*best);
        }
        let doubt_ms = super::super::index::DOUBT_MS as u64;
        let costs = cells.into_iter().map(|((garage, _), (doubt, cost, bay))| {
            let doubt = if doubt { doubt_ms } else { 0 };
            let prices = garage_price(view, garage) + class_price(view, want.class, bay);
            (cost + doubt + prices, bay)
        });
        costs.min().map(|(cost, bay)| (Some(bay), cost as i32))
    }

    fn may_stand(site: &Site, class: &Class, bay: &Bay) -> bool {
        let allowed = class.may_use.iter().any(|(allowed, _)| *allowed == bay.class);
        allowed && class.height_cm <= site.garages[bay.garage.at()].clearance_cm
    }

    fn plain(view: &View<'_>, want: &Want, ix: BayIx) -> Option<u64> {
        let bay = &view.site.bays[ix.at()];
        let zone = &view.site.zones[bay.zone.at()];
        let leg = view.routes.leg(want.at, bay.garage)?;
        let may_use = &view.site.classes[want.class.at()].may_use;
        let (_, penalty_s) = may_use.iter().find(|(class, _)| *class == bay.class)?;
        let walk_s = want.destination.map_or(0, |destination| {
            view.site.destinations[destination.at()].walk_s[bay.garage.at()]
        });
        let weight = 100 * u64::from(view.tuning.walk_weight_tenths);
        let depth = u64::from(ix.0 - zone.bays.start);
        let spread_ms = u64::from(zone.spread_s) * weight * depth / zone.bays.len() as u64;
        Some(
            u64::from(leg.cost_ms)
                + u64::from(walk_s + zone.walk_s) * weight
                + u64::from(zone.drive_s) * 1_000
                + spread_ms
                + u64::from(*penalty_s) * 1_000,
        )
    }

    fn garage_price(view: &View<'_>, garage: GarageIx) -> u64 {
        let bays = view.site.garages[garage.at()].bays.clone().map(BayIx);
        let (seen, taken) = counted(view, bays);
        u64::from(view.tuning.price_occupancy_s) * 1_000 * taken * taken / (seen * seen).max(1)
    }

    /// How scarce it is what other classes have that can use this bay and less else.
    fn class_price(view: &View<'_>, own: ClassIx, bay: BayIx) -> u64 {
        let site = view.site;
        let pool = |class: &Class| -> Vec<BayIx> {
            let all = (0..).map(BayIx).zip(&site.bays);
            all.filter(|(_, bay)| may_stand(site, class, bay)).map(|(ix, _)| ix).collect()
        };
        let ours = pool(&site.classes[own.at()]).len();
        let users = site.classes.iter().filter(|class| {
            may_stand(site, class, &site.bays[bay.at()]) && pool(class).len() < ours
        });
        let price = |class: &Class| {
            let (seen, taken) = counted(view, pool(class).into_iter());
            let step = taken * 256 / seen.max(1);
            u64::from(view.tuning.price_class_s) * 1_000 * step * step / (256 * 256)
        };
        users.map(price).max().unwrap_or(0)
    }

    /// Bays that are seen, and those of them that are taken or promised.
    fn counted(view: &View<'_>, bays: impl Iterator<Item = BayIx>) -> (u64, u64) {
        let (mut seen, mut taken) = (0, 0);
        for bay in bays.map(|bay| view.bays.get(bay)) {
            let open = bay.closures == 0 && bay.quarantine.is_none();
            if open && bay.sensed != Sensed::Unknown {
                seen += 1;
                taken += u64::from(!bay.offerable());
            }
        }
        (seen, taken)
    }

    /// splitmix64: a seed tells the whole story.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % bound as u64) as usize
        }
    }
}
