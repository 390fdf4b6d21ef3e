//! A bay filled: whose vehicle is it?
//!
//! Bay sensors carry no identity, so this is inference and marked so. A promised bay that fills at
//! a plausible time holds the one it was promised to; much too early it was taken by someone else
//! and its owner gets another. An unpromised bay that fills inside the window of a lease of its
//! zone is credited to the lease nearest its expected time: that driver took another bay.

use super::Gateway;
use super::door::{Effect, LeaseId};
use super::lease::Lease;
use super::life::Event;
use crate::record::Promise;
use crate::site::BayIx;

impl Gateway {
    /// A bay went from anything else to occupied; `news` where it was free and nothing but an
    /// arrival can explain it.
    pub(super) fn filled(&mut self, bay: BayIx, news: bool, effects: &mut Vec<Effect>) {
        if let Some(owner) = self.bays.get(bay).lease {
            if self.too_early(owner) {
                self.happened(owner, Event::Stolen, None, effects);
                return;
            }
            self.happened(owner, Event::Filled, Some(bay), effects);
            return;
        }
        // A bay that was unknown may have been taken long ago: nobody is credited with it.
        if news && let Some(lease) = self.nearest_expected(bay) {
            let other = lease.promise == Promise::Bay;
            let (id, event) =
                (lease.id, if other { Event::NeighbourFilled } else { Event::Filled });
            self.happened(id, event, Some(bay), effects);
        }
    }

    fn too_early(&self, id: LeaseId) -> bool {
        self.leases.get(id).is_some_and(|lease| self.now.mono < lease.earliest)
    }

    fn nearest_expected(&self, bay: BayIx) -> Option<&Lease> {
        let place = &self.site.bays[bay.at()];
        let early_ms = u64::from(self.tuning.early_s) * 1_000;
        let now = self.now.mono;
        let in_window = |lease: &&Lease| {
            let here = match lease.promise {
                Promise::Bay | Promise::Zone => lease.zone == Some(place.zone),
                Promise::Garage => true,
                Promise::Signs => false,
            };
            // The deadline needs no look: what has passed it ended before this input.
            here && lease.expected <= now.plus_ms(early_ms) && self.may_stand(lease, bay)
        };
        let off = |lease: &&Lease| {
            let (a, b) = (now.ms_since(lease.expected), lease.expected.ms_since(now));
            (a.max(b), lease.id)
        };
        self.leases.of_garage(place.garage).filter(in_window).min_by_key(off)
    }

    fn may_stand(&self, lease: &Lease, bay: BayIx) -> bool {
        let class = self.site.bays[bay.at()].class;
        let may_use = &self.site.classes[lease.class.at()].may_use;
        may_use.iter().any(|(allowed, _)| *allowed == class)
    }
}
