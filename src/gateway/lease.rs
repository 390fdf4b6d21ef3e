//! The open leases, and the ended ones for as long as someone may ask again.
//!
//! A lease is a promise with a deadline. It is found by its id, by the request that made it, by
//! its garage and by the node that asked; [`Leases`] keeps these views in step. What a lease's ends
//! mean for bays is decided in `ask.rs` and `fill.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::door::{LeaseId, Ticket};
use crate::record::{End, Promise};
use crate::site::{BayIx, ClassIx, DestinationIx, GarageIx, NodeIx, ZoneIx};
use crate::time::Mono;

/// Ended leases remembered for repeats and questions: two hours' worth at 2,100 arrivals an hour.
const ENDED_MAX: usize = 4_096;

/// One promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    pub id: LeaseId,
    pub request_id: String,
    pub at: NodeIx,
    pub class: ClassIx,
    pub destination: Option<DestinationIx>,
    pub promise: Promise,
    pub garage: GarageIx,
    pub zone: Option<ZoneIx>,
    pub bay: Option<BayIx>,
    pub granted: Mono,
    /// A promised bay that fills before this was taken by someone else.
    pub earliest: Mono,
    /// When the vehicle should stand in its bay.
    pub expected: Mono,
    pub deadline: Mono,
    pub travel_ms: u64,
    /// From grant to deadline.
    pub hold_ms: u64,
    /// Makes a call-out; in memory only.
    pub tail: Option<String>,
    /// What must be durable before this is answered.
    pub ticket: Ticket,
    pub end: Option<End>,
}

/// All leases.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    open: BTreeMap<LeaseId, Lease>,
    ended: BTreeMap<LeaseId, Lease>,
    /// Order in which leases ended, oldest first.
    ended_order: VecDeque<LeaseId>,
    by_request: BTreeMap<String, LeaseId>,
    by_garage: BTreeMap<GarageIx, BTreeSet<LeaseId>>,
    by_node: BTreeMap<NodeIx, u32>,
}

impl Leases {
    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// How many are open that were asked for at a node.
    pub fn at(&self, node: NodeIx) -> u32 {
        self.by_node.get(&node).copied().unwrap_or(0)
    }

    /// An open lease.
    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.open.get(&id)
    }

    /// An open lease or one that ended lately.
    pub fn find(&self, id: LeaseId) -> Option<&Lease> {
        self.open.get(&id).or_else(|| self.ended.get(&id))
    }

    /// The lease a request made.
    pub fn by_request(&self, request_id: &str) -> Option<&Lease> {
        self.find(*self.by_request.get(request_id)?)
    }

    /// Open leases of a garage, in the order they were made.
    pub fn of_garage(&self, garage: GarageIx) -> impl Iterator<Item = &Lease> {
        let ids = self.by_garage.get(&garage).into_iter().flatten();
        ids.map(|id| &self.open[id])
    }

    /// All open leases.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.open.values()
    }

    /// Adds an open lease.
    pub fn open(&mut self, lease: Lease) {
        assert!(lease.end.is_none(), "an ended lease is not opened");
        self.by_request.insert(lease.request_id.clone(), lease.id);
        self.by_garage.entry(lease.garage).or_default().insert(lease.id);
        *self.by_node.entry(lease.at).or_default() += 1;
        let former = self.open.insert(lease.id, lease);
        assert!(former.is_none(), "a lease id is never used twice");
    }

    /// Ends a lease and hands it out.
    pub fn end(&mut self, id: LeaseId, end: End) -> Option<Lease> {
        let mut lease = self.open.remove(&id)?;
        if let Some(ids) = self.by_garage.get_mut(&lease.garage) {
            ids.remove(&id);
        }
        if let Some(count) = self.by_node.get_mut(&lease.at) {
            *count -= 1;
        }
        lease.end = Some(end);
        self.ended.insert(id, lease.clone());
        self.ended_order.push_back(id);
        if self.ended_order.len() > ENDED_MAX {
            self.forget_oldest();
        }
        Some(lease)
    }

    /// Notes what must be durable before a lease, open or just ended, is told to anyone.
    pub fn stamp(&mut self, id: LeaseId, ticket: Ticket) {
        if let Some(lease) = self.open.get_mut(&id).or_else(|| self.ended.get_mut(&id)) {
            lease.ticket = ticket;
        }
    }

    /// Gives a lease another place; its id, request and deadline stay unless told otherwise.
    pub fn rebind(&mut self, id: LeaseId, change: impl FnOnce(&mut Lease)) -> Option<&Lease> {
        let lease = self.open.get_mut(&id)?;
        let garage = lease.garage;
        change(lease);
        let moved = lease.garage;
        if moved != garage {
            if let Some(ids) = self.by_garage.get_mut(&garage) {
                ids.remove(&id);
            }
            self.by_garage.entry(moved).or_default().insert(id);
        }
        self.open.get(&id)
    }

    fn forget_oldest(&mut self) {
        let Some(id) = self.ended_order.pop_front() else { return };
        if let Some(lease) = self.ended.remove(&id)
            && self.by_request.get(&lease.request_id) == Some(&id)
        {
            self.by_request.remove(&lease.request_id);
        }
    }
}
