//! What a reader of the records alone believes: who holds which bay, what is closed, what burns.
//!
//! It judges while it reads, so it shares no mistake with the index inside the gateway. A crash
//! takes it back to the last durable step by reading the durable effects again.

use std::collections::{BTreeMap, BTreeSet};

use crate::gateway::Effect;
use crate::record::{Body, LeaseBody, Sensed};
use crate::site::{Scope, Site, Target};

/// The picture by records.
#[derive(Clone, Default, Debug)]
pub struct Told {
    /// Open leases as told last.
    pub leases: BTreeMap<String, LeaseBody>,
    pub ended: BTreeSet<String>,
    /// Which lease has which bay.
    pub given: BTreeMap<String, String>,
    pub closed: BTreeSet<String>,
    /// What incidents close, by incident.
    pub burning: BTreeMap<String, Vec<String>>,
}

impl Told {
    /// Follows one effect. `read` is what a sweep of this run read last of each bay; without it
    /// only the books are kept.
    pub fn read(&mut self, effect: &Effect, site: &Site, read: Option<&[Sensed]>) {
        let Effect::Record(record) = effect else { return };
        match &record.body {
            Body::LeaseGranted(lease) => {
                let fresh = !self.ended.contains(&lease.lease);
                let before = self.leases.insert(lease.lease.clone(), lease.clone());
                assert!(before.is_none() && fresh, "{} was granted twice", lease.lease);
                self.place(lease, site, read);
            }
            Body::LeaseMoved(lease) => {
                let before = self.leases.insert(lease.lease.clone(), lease.clone());
                assert!(before.is_some(), "{} was moved and is not open", lease.lease);
                self.place(lease, site, read);
            }
            Body::LeaseEnded { lease, .. } => {
                assert!(self.leases.remove(lease).is_some(), "{lease} ended and is not open");
                self.ended.insert(lease.clone());
                self.given.remove(lease);
            }
            Body::Closed { target, .. } => _ = self.closed.insert(target.clone()),
            Body::Opened { target, .. } => _ = self.closed.remove(target),
            Body::IncidentBegan { incident, closes, .. } => {
                let before = self.burning.insert(incident.clone(), closes.clone());
                assert_eq!(before, None, "{incident} began twice");
            }
            Body::IncidentEnded { incident, .. } => {
                assert!(self.burning.remove(incident).is_some(), "{incident} never began");
            }
            _ => (),
        }
    }

    /// A place was given: nobody else's, open, known to be free, and fit for the vehicle.
    fn place(&mut self, lease: &LeaseBody, site: &Site, read: Option<&[Sensed]>) {
        let before = self.given.remove(&lease.lease);
        let places = [&lease.bay, &lease.zone, &lease.garage];
        let place = places.into_iter().flatten().next().expect("a lease has a place");
        let mut shut = self.closed.iter().chain(self.burning.values().flatten());
        let shut = shut.find(|shut| format!("{place}/").starts_with(&format!("{shut}/")));
        assert_eq!(shut, None, "{place} was given");
        self.fits(lease, site);
        let Some(bay) = &lease.bay else { return };
        let other = self.given.iter().find(|(_, given)| *given == bay);
        assert!(other.is_none(), "{bay} given to {} and {other:?}", lease.lease);
        // A vehicle whose class was corrected keeps its bay, whatever is known of that meanwhile.
        let given = before.as_ref() != Some(bay);
        if let (Some(read), Some(Target::Bay(ix)), true) = (read, site.target(bay), given) {
            assert_eq!(read[ix.at()], Sensed::Free, "{bay} was given");
        }
        self.given.insert(lease.lease.clone(), bay.clone());
    }

    /// No lease breaks the class table or a height limit, also after a move.
    fn fits(&self, lease: &LeaseBody, site: &Site) {
        let class = &site.classes[site.class(&lease.class).expect("a class of the site").at()];
        let garage = lease.garage.as_deref().and_then(|garage| site.scope(garage));
        let Some(Scope::Garage(garage)) = garage else { panic!("{lease:?} has no garage") };
        let clearance_cm = site.garages[garage.at()].clearance_cm;
        assert!(class.height_cm <= clearance_cm, "{} is too tall for its garage", lease.lease);
        let Some(bay) = &lease.bay else { return };
        let Some(Target::Bay(bay)) = site.target(bay) else { panic!("{bay} is no bay") };
        let allowed = class.may_use.iter().any(|(class, _)| *class == site.bays[bay.at()].class);
        assert!(allowed, "{} got a bay its class may not use", lease.lease);
    }
}
