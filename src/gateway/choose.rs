//! Which bay, or which zone or garage if no bay is sure, for a vehicle at a place.
//!
//! The plain cost: weighted drive to the door, drive inside, weighted walk, class penalty; all
//! integers in milliseconds, ties by the lowest index, so that equal inputs choose equally. A zone
//! whose unit is silent competes with what its ledger believes, at a penalty, so that a dead
//! controller neither closes a garage nor hides a sure bay next door.

use super::bays::Bays;
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
    pub cost_ms: u64,
    /// From `at` into the zone, unweighted.
    pub travel_ms: u64,
}

/// What choosing looks at.
pub struct View<'a> {
    pub site: &'a Site,
    pub tuning: &'a GuidanceTable,
    pub routes: &'a Routes,
    pub bays: &'a Bays,
    pub ledger: &'a Ledger,
}

/// The cheapest promise, or nothing where the site has no room that this vehicle can use. Bays
/// whose sensors are in doubt come after everything else.
pub fn choose(view: &View<'_>, want: &Want) -> Option<Choice> {
    cheapest(view, want, false).or_else(|| cheapest(view, want, true))
}

fn cheapest(view: &View<'_>, want: &Want, doubtful: bool) -> Option<Choice> {
    let class = &view.site.classes[want.class.at()];
    let mut best: Option<Choice> = None;
    for (ix, garage) in (0..).map(GarageIx).zip(&view.site.garages) {
        let Some(leg) = view.routes.leg(want.at, ix) else { continue };
        if want.within.is_some_and(|within| within != ix) || class.height_cm > garage.clearance_cm {
            continue;
        }
        // Where the drive alone costs more than the best, nothing inside can be better.
        let drive = u64::from(leg.cost_ms);
        if best.is_some_and(|best| best.cost_ms <= drive) {
            continue;
        }
        let base = drive + walk_out_ms(view, want, ix);
        let travel = u64::from(leg.drive_ms);
        sensed(view, want, (ix, doubtful), base, travel, &mut best);
        guessed(view, want, ix, base, travel, &mut best);
    }
    best
}

/// Bays that are sensed free.
fn sensed(
    view: &View<'_>,
    want: &Want,
    (garage, doubtful): (GarageIx, bool),
    base: u64,
    travel: u64,
    best: &mut Option<Choice>,
) {
    let may_use = &view.site.classes[want.class.at()].may_use;
    for zone in view.site.garages[garage.at()].zones.clone().map(ZoneIx) {
        let inside = inside_ms(view, zone);
        for (class, penalty_s) in may_use {
            let floor = base + inside + u64::from(*penalty_s) * 1_000;
            if best.is_some_and(|best| best.cost_ms < floor) {
                continue;
            }
            let Some(bay) = view.bays.first_free(zone, *class, doubtful) else { continue };
            let cost_ms = floor + spread_ms(view, zone, bay);
            // Within a zone the classes' bays are mixed: equal costs go to the lowest bay.
            let lower = |best: Choice| {
                cost_ms < best.cost_ms
                    || cost_ms == best.cost_ms && best.bay.is_some_and(|other| bay < other)
            };
            if best.is_none_or(lower) {
                *best = Some(Choice {
                    promise: Promise::Bay,
                    garage,
                    zone: Some(zone),
                    bay: Some(bay),
                    cost_ms,
                    travel_ms: travel + u64::from(view.site.zones[zone.at()].drive_s) * 1_000,
                });
            }
        }
    }
}

/// Zones whose unit is silent, and the garage as a whole, by the ledger.
fn guessed(
    view: &View<'_>,
    want: &Want,
    garage: GarageIx,
    base: u64,
    travel: u64,
    best: &mut Option<Choice>,
) {
    if !view.ledger.any_silent(garage) {
        return;
    }
    let may_use = &view.site.classes[want.class.at()].may_use;
    let cheapest = may_use.iter().map(|(_, penalty_s)| *penalty_s).min().unwrap_or(0);
    let unsure = u64::from(view.tuning.unsure_penalty_s + cheapest) * 1_000;
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
            cost_ms: base + inside_ms(view, zone) + unsure,
            travel_ms: travel + u64::from(view.site.zones[zone.at()].drive_s) * 1_000,
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

/// On foot from the garage to the destination, weighted.
fn walk_out_ms(view: &View<'_>, want: &Want, garage: GarageIx) -> u64 {
    let walk_s = match want.destination {
        Some(destination) => view.site.destinations[destination.at()].walk_s[garage.at()],
        None => 0,
    };
    u64::from(walk_s) * 100 * u64::from(view.tuning.walk_weight_tenths)
}

/// From the door into a zone and back to the core on foot, weighted.
fn inside_ms(view: &View<'_>, zone: ZoneIx) -> u64 {
    let zone = &view.site.zones[zone.at()];
    u64::from(zone.drive_s) * 1_000
        + u64::from(zone.walk_s) * 100 * u64::from(view.tuning.walk_weight_tenths)
}

/// What a bay deep in its zone costs more on foot than the zone's first, weighted.
pub fn spread_ms(view: &View<'_>, zone: ZoneIx, bay: BayIx) -> u64 {
    let zone = &view.site.zones[zone.at()];
    let depth = u64::from(bay.0 - zone.bays.start);
    let weighted = u64::from(zone.spread_s) * 100 * u64::from(view.tuning.walk_weight_tenths);
    weighted * depth / zone.bays.len() as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::gateway::testing;
    use crate::record::Sensed;

    proptest! {
        /// The same bay at the same cost as a look at every bay.
        #[test]
        fn as_cheap_as_a_look_at_every_bay(
            states in proptest::collection::vec(0u8..4, 90),
            at in 0u32..6,
            class in 0u32..3,
            destination in proptest::option::of(0u32..2),
            surface in 10u32..60,
        ) {
            let site = Arc::new(testing::site());
            let mut bays = Bays::new(site.clone());
            for (ix, state) in (0..site.bays.len() as u32).zip(states.iter().cycle()) {
                bays.change(BayIx(ix), |bay| bay.sensed = match state {
                    0 => Sensed::Unknown,
                    1 => Sensed::Free,
                    _ => Sensed::Occupied,
                });
            }
            let tuning =
                GuidanceTable { surface_weight_tenths: surface, ..GuidanceTable::default() };
            let routes = Routes::new(&site, surface, &BTreeSet::new(), &BTreeSet::new());
            let ledger = Ledger::new(&site);
            let (site, bays) = (&*site, &bays);
            let view = View { site, tuning: &tuning, routes: &routes, bays, ledger: &ledger };
            let want = Want {
                at: NodeIx(at % site.nodes.len() as u32),
                class: ClassIx(class),
                destination: destination.map(DestinationIx),
                within: None,
            };
            let found = choose(&view, &want).map(|choice| (choice.bay, choice.cost_ms));
            prop_assert_eq!(found, oracle(&view, &want));
        }
    }

    /// Every bay, one by one.
    fn oracle(view: &View<'_>, want: &Want) -> Option<(Option<BayIx>, u64)> {
        let class = &view.site.classes[want.class.at()];
        let mut best: Option<(Option<BayIx>, u64)> = None;
        for (ix, bay) in (0..).map(BayIx).zip(&view.site.bays) {
            let penalty = class.may_use.iter().find(|(class, _)| *class == bay.class);
            let (Some((_, penalty_s)), Some(leg)) = (penalty, view.routes.leg(want.at, bay.garage))
            else {
                continue;
            };
            let tall = class.height_cm > view.site.garages[bay.garage.at()].clearance_cm;
            if tall || !view.bays.get(ix).offerable() {
                continue;
            }
            let cost = u64::from(leg.cost_ms)
                + walk_out_ms(view, want, bay.garage)
                + inside_ms(view, bay.zone)
                + u64::from(*penalty_s) * 1_000
                + spread_ms(view, bay.zone, ix);
            // Equal costs go to the lowest bay.
            if best.is_none_or(|(_, least)| cost < least) {
                best = Some((Some(ix), cost));
            }
        }
        best
    }
}
