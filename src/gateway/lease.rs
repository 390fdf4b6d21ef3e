//! The open leases, and the ended ones for as long as someone may ask again.
//!
//! A lease is a promise with a deadline. It is found by its id, by the request that made it, by
//! its garage and by the node that asked; [`Leases`] keeps these views in step. What a lease's ends
//! mean for bays is decided in `life.rs` and done in `turn.rs`.
//!
//! Leases lie in slots that are used again, ids of this run lead to them by their number, and
//! requests by a hash whose order nothing ever asks for: opening and ending one costs a fixed
//! number of memory accesses, however many there are, and allocates nothing once warm.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::sync::Arc;

use super::door::{LeaseId, Ticket};
use super::life::Life;
use crate::record::{End, Promise};
use crate::site::{BayIx, ClassIx, DestinationIx, GarageIx, NodeIx, Site, ZoneIx};
use crate::time::Mono;

/// Ended leases remembered for repeats and questions: two hours' worth at 2,100 arrivals an hour.
const ENDED_MAX: usize = 4_096;

/// No slot: numbers that are forgotten.
const NONE: u32 = u32::MAX;

/// One promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    pub id: LeaseId,
    pub request_id: Arc<str>,
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
    pub tail: Option<Arc<str>>,
    /// What is known of its vehicle.
    pub life: Life,
    /// What must be durable before this is answered.
    pub ticket: Ticket,
    pub end: Option<End>,
}

#[derive(Clone, Debug)]
struct Slot {
    lease: Lease,
    /// Where it stands among its garage's, while open.
    place: usize,
}

#[expect(clippy::disallowed_types, reason = "only asked by key: its order is never seen")]
type ByRequest = std::collections::HashMap<Arc<str>, u32, Seed>;

/// All leases.
#[derive(Clone, Debug)]
pub struct Leases {
    slots: Vec<Option<Slot>>,
    spare: Vec<u32>,
    run: u32,
    /// Slots of this run's leases by number, from `first` on.
    numbers: VecDeque<u32>,
    first: u32,
    /// Slots of the leases of earlier runs.
    earlier: BTreeMap<LeaseId, u32>,
    by_request: ByRequest,
    /// Open ones, in no order.
    by_garage: Vec<Vec<u32>>,
    by_node: Vec<u32>,
    open: usize,
    /// Slots of ended leases, oldest first.
    ended: VecDeque<u32>,
}

impl Leases {
    /// None yet.
    pub fn new(site: &Site, run: u32) -> Leases {
        Leases {
            slots: Vec::new(),
            spare: Vec::new(),
            run,
            numbers: VecDeque::new(),
            first: 1,
            earlier: BTreeMap::new(),
            by_request: ByRequest::with_capacity_and_hasher(2 * ENDED_MAX, Seed(run)),
            by_garage: vec![Vec::new(); site.garages.len()],
            by_node: vec![0; site.nodes.len()],
            open: 0,
            ended: VecDeque::with_capacity(ENDED_MAX + 1),
        }
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open
    }

    /// How many are open that were asked for at a node.
    pub fn at(&self, node: NodeIx) -> u32 {
        self.by_node[node.at()]
    }

    /// An open lease.
    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.find(id).filter(|lease| lease.end.is_none())
    }

    /// An open lease or one that ended lately.
    #[inline]
    pub fn find(&self, id: LeaseId) -> Option<&Lease> {
        self.slot(id).map(|slot| self.lease(slot))
    }

    /// The lease a request made.
    pub fn by_request(&self, request_id: &str) -> Option<&Lease> {
        self.by_request.get(request_id).map(|slot| self.lease(*slot))
    }

    /// Open leases of a garage, in no order.
    pub fn of_garage(&self, garage: GarageIx) -> impl Iterator<Item = &Lease> {
        self.by_garage[garage.at()].iter().map(|slot| self.lease(*slot))
    }

    /// All open leases: those of earlier runs, then in the order they were made.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        let slots = self.earlier.values().chain(&self.numbers).filter(|slot| **slot != NONE);
        slots.map(|slot| self.lease(*slot)).filter(|lease| lease.end.is_none())
    }

    /// Adds an open lease.
    #[inline]
    pub fn open(&mut self, lease: Lease) {
        assert!(lease.end.is_none(), "an ended lease is not opened");
        assert!(self.slot(lease.id).is_none(), "a lease id is never used twice");
        let slot = self.spare.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        if lease.id.run == self.run && lease.id.number >= self.first {
            let at = (lease.id.number - self.first) as usize;
            while self.numbers.len() <= at {
                self.numbers.push_back(NONE);
            }
            self.numbers[at] = slot;
        } else {
            self.earlier.insert(lease.id, slot);
        }
        self.by_request.insert(lease.request_id.clone(), slot);
        let list = &mut self.by_garage[lease.garage.at()];
        let place = list.len();
        list.push(slot);
        self.by_node[lease.at.at()] += 1;
        self.open += 1;
        self.slots[slot as usize] = Some(Slot { lease, place });
    }

    /// Ends a lease and hands it out.
    #[inline]
    pub fn end(&mut self, id: LeaseId, end: End) -> Option<Lease> {
        let slot = self.slot(id).filter(|slot| self.lease(*slot).end.is_none())?;
        self.leave_garage(slot);
        let lease = self.lease_mut(slot);
        lease.end = Some(end);
        let lease = lease.clone();
        self.by_node[lease.at.at()] -= 1;
        self.open -= 1;
        self.ended.push_back(slot);
        if self.ended.len() > ENDED_MAX {
            self.forget_oldest();
        }
        Some(lease)
    }

    /// Notes what must be durable before a lease, open or just ended, is told to anyone.
    pub fn stamp(&mut self, id: LeaseId, ticket: Ticket) {
        if let Some(slot) = self.slot(id) {
            self.lease_mut(slot).ticket = ticket;
        }
    }

    /// Gives a lease another place; its id, request and deadline stay unless told otherwise.
    pub fn rebind(&mut self, id: LeaseId, change: impl FnOnce(&mut Lease)) -> Option<&Lease> {
        let slot = self.slot(id).filter(|slot| self.lease(*slot).end.is_none())?;
        self.leave_garage(slot);
        change(self.lease_mut(slot));
        let garage = self.lease(slot).garage;
        let list = &mut self.by_garage[garage.at()];
        let place = list.len();
        list.push(slot);
        self.slots[slot as usize].as_mut().expect("seen above").place = place;
        Some(self.lease(slot))
    }

    #[inline]
    fn slot(&self, id: LeaseId) -> Option<u32> {
        if id.run == self.run && id.number >= self.first {
            let slot = self.numbers.get((id.number - self.first) as usize);
            return slot.copied().filter(|slot| *slot != NONE);
        }
        self.earlier.get(&id).copied()
    }

    #[inline]
    fn lease(&self, slot: u32) -> &Lease {
        &self.slots[slot as usize].as_ref().expect("whatever names a slot fills it").lease
    }

    #[inline]
    fn lease_mut(&mut self, slot: u32) -> &mut Lease {
        &mut self.slots[slot as usize].as_mut().expect("whatever names a slot fills it").lease
    }

    #[inline]
    fn leave_garage(&mut self, slot: u32) {
        let Slot { lease, place } =
            self.slots[slot as usize].as_ref().expect("whatever names a slot fills it");
        let (garage, place) = (lease.garage.at(), *place);
        self.by_garage[garage].swap_remove(place);
        if let Some(moved) = self.by_garage[garage].get(place).copied() {
            let moved = self.slots[moved as usize].as_mut();
            moved.expect("whatever names a slot fills it").place = place;
        }
    }

    fn forget_oldest(&mut self) {
        let Some(slot) = self.ended.pop_front() else { return };
        let Some(Slot { lease, .. }) = self.slots[slot as usize].take() else { return };
        self.by_request.remove(&lease.request_id);
        self.spare.push(slot);
        if lease.id.run == self.run && lease.id.number >= self.first {
            self.numbers[(lease.id.number - self.first) as usize] = NONE;
            // A lease outlives those made after it by its deadline at most, so this stays short.
            while self.numbers.front() == Some(&NONE) {
                self.numbers.pop_front();
                self.first += 1;
            }
        } else {
            self.earlier.remove(&lease.id);
        }
    }
}

/// Hashes with what no asker knows, so that nobody can choose requests that all meet; and the same
/// way in each replay of a run.
#[derive(Clone, Copy, Debug)]
struct Seed(u32);

impl BuildHasher for Seed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u32(self.0);
        hasher
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::gateway::testing;

    proptest! {
        /// All views agree with a plain map after any opens, moves and ends.
        #[test]
        fn every_view_agrees_with_a_plain_map(
            steps in proptest::collection::vec((0u8..5, 0u32..60, 0u32..2), 1..200),
        ) {
            let site = testing::site();
            let mut leases = Leases::new(&site, 7);
            let mut plain: BTreeMap<LeaseId, Lease> = BTreeMap::new();
            let mut next = 0;
            for (what, which, garage) in steps {
                let id = plain.keys().nth(which as usize % plain.len().max(1)).copied();
                match (what, id) {
                    (0..=1, _) => {
                        // One of four is of an earlier run.
                        let run = if which % 4 == 0 { 3 } else { 7 };
                        next += 1;
                        let lease = lease(LeaseId { run, number: next }, garage);
                        plain.insert(lease.id, lease.clone());
                        leases.open(lease);
                    }
                    (2, Some(id)) => {
                        let moved = leases.rebind(id, |lease| lease.garage = GarageIx(garage));
                        let open = plain.get_mut(&id).filter(|lease| lease.end.is_none());
                        prop_assert_eq!(moved.is_some(), open.is_some());
                        if let Some(lease) = open {
                            lease.garage = GarageIx(garage);
                        }
                    }
                    (_, Some(id)) => {
                        let lease = plain.get_mut(&id).expect("drawn from it");
                        let ends = lease.end.is_none();
                        lease.end = lease.end.or(Some(End::Expired));
                        prop_assert_eq!(leases.end(id, End::Expired).is_some(), ends);
                    }
                    (_, None) => (),
                }
                agree(&leases, &plain);
            }
        }
    }

    #[test]
    fn ended_leases_are_forgotten_and_their_slots_used_again() {
        let mut leases = Leases::new(&testing::site(), 7);
        let (stays, all) = (LeaseId { run: 7, number: 1 }, 3 * ENDED_MAX as u32);
        leases.open(lease(stays, 0));
        for number in 2..=all {
            let id = LeaseId { run: 7, number };
            leases.open(lease(id, 1));
            leases.end(id, End::Cancelled);
        }
        assert_eq!(leases.slots.len(), ENDED_MAX + 2);
        assert_eq!(leases.by_request.len(), ENDED_MAX + 1);
        assert!(leases.find(LeaseId { run: 7, number: 2 }).is_none());
        assert!(leases.find(LeaseId { run: 7, number: all }).is_some());
        leases.end(stays, End::Expired);
        let last = LeaseId { run: 7, number: all + 1 };
        (0..ENDED_MAX as u32).for_each(|more| {
            let id = LeaseId { number: last.number + more, ..last };
            leases.open(lease(id, 1));
            leases.end(id, End::Cancelled);
        });
        assert_eq!(leases.numbers.len(), ENDED_MAX, "numbers are forgotten from the front");
    }

    fn agree(leases: &Leases, plain: &BTreeMap<LeaseId, Lease>) {
        let open: BTreeSet<LeaseId> =
            plain.values().filter(|lease| lease.end.is_none()).map(|lease| lease.id).collect();
        assert_eq!(leases.iter().map(|lease| lease.id).collect::<BTreeSet<_>>(), open);
        assert_eq!(leases.len(), open.len());
        assert_eq!(leases.at(NodeIx(0)), open.len() as u32);
        for (id, lease) in plain {
            assert_eq!(leases.find(*id), Some(lease));
            assert_eq!(leases.by_request(&lease.request_id), Some(lease));
            assert_eq!(leases.get(*id).is_some(), lease.end.is_none());
        }
        for garage in [GarageIx(0), GarageIx(1)] {
            let here: BTreeSet<LeaseId> = leases.of_garage(garage).map(|lease| lease.id).collect();
            let expected = open.iter().filter(|id| plain[id].garage == garage).copied();
            assert_eq!(here, expected.collect());
        }
    }

    fn lease(id: LeaseId, garage: u32) -> Lease {
        Lease {
            id,
            request_id: id.to_string().into(),
            at: NodeIx(0),
            class: ClassIx(0),
            destination: None,
            promise: Promise::Bay,
            garage: GarageIx(garage),
            zone: None,
            bay: None,
            granted: Mono(0),
            earliest: Mono(0),
            expected: Mono(0),
            deadline: Mono(0),
            travel_ms: 0,
            hold_ms: 0,
            tail: None,
            life: Life::new(NodeIx(0), Mono(0), None),
            ticket: Ticket(0),
            end: None,
        }
    }
}
