//! Fair to every class: the tall vans' test, at the reference site with low doors.
//!
//! The site fills to 95 % in one morning, one vehicle in ten is tall, and only four of the garages
//! are high enough for it. Without prices ordinary cars stand where only vans could; with them no
//! vehicle is refused as long as bays are left for the others.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::bays::Bays;
use super::choose::{View, Want, choose};
use super::history::Dice;
use super::index::Doors;
use super::ledger::Ledger;
use super::route::Routes;
use crate::config::{self, GuidanceTable};
use crate::record::Sensed;
use crate::site::{BayIx, DestinationIx, NodeIx, NodeKind};

/// What the site's tall class needs.
const TALL_CM: u32 = 225;

#[test]
fn no_van_is_refused_up_to_95_percent_because_cars_took_its_bays() {
    let unpriced = refused(GuidanceTable {
        price_occupancy_s: 0,
        price_class_s: 0,
        ..GuidanceTable::default()
    });
    assert!(unpriced > 0, "a morning in which prices are not needed proves nothing");
    let priced = refused(GuidanceTable::default());
    println!("vans refused: {unpriced} without prices, {priced} with them");
    assert_eq!(priced, 0);
}

/// How many tall vehicles find nothing while the site fills to 95 %.
fn refused(tuning: GuidanceTable) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/jiefangbei/parkway.toml");
    let mut site = config::load(&path).expect("the reference site is sound").site;
    for (ix, garage) in site.garages.iter_mut().enumerate() {
        garage.clearance_cm = if (4..8).contains(&ix) { TALL_CM } else { 200 };
    }
    let site = Arc::new(site);
    let none = (BTreeSet::new(), BTreeSet::new());
    let routes = Routes::new(&site, tuning.surface_weight_tenths, &none.0, &none.1);
    let (doors, ledger) = (Doors::new(&site, &tuning, &routes), Ledger::new(&site));
    let mut bays = Bays::new(site.clone());
    bays.retune(&tuning);
    for bay in (0..site.bays.len() as u32).map(BayIx) {
        bays.change(bay, |bay| bay.sensed = Sensed::Free);
    }
    let nodes = (0..).map(NodeIx).zip(&site.nodes);
    let portals: Vec<NodeIx> =
        nodes.filter(|(_, node)| node.kind == NodeKind::Portal).map(|(ix, _)| ix).collect();
    let (car, tall) = (site.class("car").unwrap(), site.class("tall").unwrap());
    let (mut dice, mut refused, mut parked) = (Dice(1), 0, 0);
    let usable = site.bays.iter().filter(|bay| {
        bay.class == car
            || bay.class == tall && site.garages[bay.garage.at()].clearance_cm >= TALL_CM
    });
    let usable = usable.count();
    while parked * 100 < usable * 95 {
        let class = if dice.below(10) == 0 { tall } else { car };
        let destination = DestinationIx(dice.below(site.destinations.len()) as u32);
        let at = portals[dice.below(portals.len())];
        bays.price();
        let want = Want { at, class, destination: Some(destination), within: None };
        bays.price();
        let view = View {
            site: &site,
            tuning: &tuning,
            routes: &routes,
            doors: &doors,
            bays: &bays,
            ledger: &ledger,
        };
        match choose(&view, &want).and_then(|choice| choice.bay) {
            Some(bay) => {
                bays.change(bay, |bay| bay.sensed = Sensed::Occupied);
                parked += 1;
            }
            None => {
                assert_eq!(class, tall, "a car found nothing at {parked} parked of {usable}");
                refused += 1;
            }
        }
    }
    refused
}
