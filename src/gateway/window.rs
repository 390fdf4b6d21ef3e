//! Totals of a minute and a garage for the aggregates lane.
//!
//! Windows follow the monotonic clock and never overlap; a machine that slept gives one long
//! window, whose length it says, instead of many empty ones.

use std::collections::BTreeMap;

use super::door::Effect;
use super::{Gateway, Timer};
use crate::record::{Body, CountedBy, GarageWindow, Lane};
use crate::site::{ClassIx, GarageIx, Scope};

/// A minute: what the city platform draws its curves from.
pub const WINDOW_MS: u64 = 60_000;

/// What is counted during a window.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// By the door's loops.
    pub cars_in: u64,
    pub cars_out: u64,
    /// By bays.
    pub filled: u64,
    pub emptied: u64,
    pub granted: u64,
}

impl Gateway {
    pub(super) fn window_due(&mut self, effects: &mut Vec<Effect>) {
        let length_ms = self.now.mono.ms_since(self.window_since);
        let window_s = (length_ms + 500) / 1_000;
        // On the grid as long as that holds, so that a late wake-up does not shift all windows.
        let on_grid = self.window_since.plus_ms(WINDOW_MS);
        let late = on_grid.plus_ms(WINDOW_MS) <= self.now.mono || on_grid > self.now.mono;
        self.window_since = if late { self.now.mono } else { on_grid };
        self.arm(self.window_since.plus_ms(WINDOW_MS), Timer::Window);
        self.health_due(effects);
        self.night(effects);
        for garage in (0..self.site.garages.len() as u32).map(GarageIx) {
            let window = std::mem::take(&mut self.windows[garage.at()]);
            let body = Body::GarageWindow(self.garage_window(garage, window_s, &window));
            self.record(Lane::Aggregates, body, effects);
            self.keep_ledger(garage, effects);
        }
    }

    fn garage_window(&self, garage: GarageIx, window_s: u64, window: &Window) -> GarageWindow {
        let loops = self.ledger.counted(garage);
        let counted = if loops {
            (CountedBy::Loops, window.cars_in, window.cars_out)
        } else {
            (CountedBy::Bays, window.filled, window.emptied)
        };
        let table = &self.site.garages[garage.at()];
        GarageWindow {
            garage: table.id.clone(),
            window_s,
            counted_by: counted.0,
            cars_in: counted.1,
            cars_out: counted.2,
            bays: table.bays.len() as u32,
            now: self.bays.garage(garage),
            by_class: self.by_class(garage),
            granted: window.granted,
        }
    }

    /// Totals by the classes the garage has.
    pub(super) fn by_class(&self, garage: GarageIx) -> BTreeMap<String, crate::record::Tally> {
        let classes = (0..self.site.classes.len() as u32).map(ClassIx);
        let tally = |class: ClassIx| self.bays.tally(Scope::Garage(garage), Some(class));
        let named = classes.map(|class| (self.site.classes[class.at()].id.clone(), tally(class)));
        named.filter(|(_, tally)| tally.total() > 0).collect()
    }
}
