//! The index alone, for `tests/bench/step.rs`: what a step asks of it, and nothing else of a step.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::LeaseId;
use super::bays::Bays;
use super::index::Doors;
use super::route::Routes;
use crate::config::GuidanceTable;
use crate::record::Sensed;
use crate::site::{BayIx, ClassIx, DestinationIx, GarageIx, NodeIx, Site};

/// Any lease: the index only asks whether there is one.
const SOMEBODY: LeaseId = LeaseId { run: 0, number: 1 };

/// All bays and what leads to them.
pub struct Taker {
    bays: Bays,
    doors: Doors,
    changed: Vec<GarageIx>,
}

impl Taker {
    /// Every bay is free.
    pub fn new(site: &Arc<Site>, tuning: &GuidanceTable) -> Taker {
        let (nodes, links) = (BTreeSet::new(), BTreeSet::new());
        let routes = Routes::new(site, tuning.surface_weight_tenths, &nodes, &links);
        let mut bays = Bays::new(site.clone());
        bays.retune(tuning);
        let mut taker =
            Taker { bays, doors: Doors::new(site, tuning, &routes), changed: Vec::new() };
        (0..site.bays.len() as u32).for_each(|bay| taker.sense(BayIx(bay), Sensed::Free));
        taker.settle();
        taker
    }

    /// A sensor says so.
    pub fn sense(&mut self, bay: BayIx, sensed: Sensed) {
        self.bays.change(bay, |bay| bay.sensed = sensed);
    }

    /// Finds the cheapest bay and takes it; the prices follow.
    pub fn take(&mut self, at: NodeIx, to: Option<DestinationIx>, class: ClassIx) -> Option<BayIx> {
        let (bay, _) = self.bays.index.cheapest(self.doors.row(at, to), class, None)?;
        self.bays.change(bay, |bay| bay.lease = Some(SOMEBODY));
        self.settle();
        Some(bay)
    }

    /// Gives it back; the prices follow.
    pub fn release(&mut self, bay: BayIx) {
        self.bays.change(bay, |bay| bay.lease = None);
        self.settle();
    }

    /// What a step does with what changed: prices follow it.
    pub fn settle(&mut self) {
        self.bays.price();
        self.bays.take_changed(&mut self.changed);
    }
}
