//! What happens to a lease after it was given: reports, sightings, thefts, closures, its end.
//!
//! What is done about each event stands in `life.rs`; here it is carried out. A sighting further
//! on the way is decided by the same cost as the first promise, from where the vehicle is now. A
//! place is changed against no driver's will but where it is lost: an undisturbed driver is moved
//! once at most, and only for a gain of `guidance.move_gain_s`.

use super::choose::{self, Choice, Place, Want};
use super::door::{Answer, Effect, LeaseId, LeaseTold, Refusal, Report, Request};
use super::lease::Lease;
use super::life::{self, Act, Event, State};
use super::{Gateway, Timer};
use crate::record::{End, Promise, Sensed};
use crate::site::{BayIx, ClassIx, GarageIx, NodeIx, NodeKind};

/// How long an identified vehicle stands in a bay before its sensor must agree, in stale times:
/// a working unit was read and debounced many times over by then.
const PRESUMED_STALES: u64 = 3;

/// Why a lease has its times reckoned anew.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Because {
    /// It was just seen where it is.
    Seen,
    /// Its place was lost, or another was found for it, somewhere on its way.
    Other,
}

impl Gateway {
    pub(super) fn report(
        &mut self,
        id: LeaseId,
        report: Report,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let Some(lease) = self.leases.find(id) else {
            return Answer::Refused(Refusal::NoSuchLease(id));
        };
        let act = match report {
            Report::Cancelled => self.happened(id, Event::GivenBack, None, effects),
            // The same report again, after the lease was moved, must not cost the new bay.
            Report::BayTaken(Some(bay)) if lease.end.is_none() && lease.bay != Some(bay) => {
                Act::Tell
            }
            Report::BayTaken(_) => self.happened(id, Event::FoundTaken, None, effects),
            Report::Parked(bay) => {
                let stands = bay.or(lease.bay);
                let there = stands == lease.bay || self.in_promise(lease, stands);
                let event = if there { Event::Parked } else { Event::ParkedElsewhere };
                let act = self.happened(id, event, stands, effects);
                if let (false, Some(bay)) = (act == Act::Refuse, stands) {
                    self.presume(bay, effects);
                }
                act
            }
            Report::Seen(node) => self.seen(id, node, effects),
            Report::Class(class) if !self.served[class.at()] => {
                return Answer::Refused(Refusal::ClassNotServed(class));
            }
            Report::Class(class) => self.correct(id, class, effects),
        };
        match (act, self.leases.find(id).and_then(|lease| lease.end)) {
            (Act::Refuse, Some(end)) => Answer::Refused(Refusal::LeaseEnded { lease: id, end }),
            _ => self.view(id),
        }
    }

    /// The one way in which an open lease changes: what the table says is done.
    pub(super) fn happened(
        &mut self,
        id: LeaseId,
        event: Event,
        bay: Option<BayIx>,
        effects: &mut Vec<Effect>,
    ) -> Act {
        let Some(lease) = self.leases.find(id) else { return Act::Nothing };
        let act = life::act(state(lease), event);
        match act {
            Act::Tell => self.counts.repeats += 1,
            Act::Refuse | Act::Nothing => (),
            Act::Confirm | Act::Revise | Act::Enter => self.revise(id, event, act, effects),
            Act::Quarantine => {
                if let Some(bay) = lease.bay {
                    self.quarantine(bay, effects);
                }
                self.rehome(id, effects);
            }
            Act::Rehome => self.rehome(id, effects),
            Act::Fulfil => self.end_lease(id, End::Fulfilled, event == Event::Filled, bay, effects),
            Act::TookOther => {
                self.end_lease(id, End::TookOther, event == Event::NeighbourFilled, bay, effects)
            }
            Act::Cancel => self.end_lease(id, End::Cancelled, false, None, effects),
            Act::Expire => self.end_lease(id, End::Expired, false, None, effects),
            Act::Leave => {
                // It stands nowhere: no ledger may book it.
                self.end_lease(id, End::Expired, true, None, effects)
            }
        }
        act
    }

    /// The lease a request is about, if it makes none of its own.
    pub(super) fn known(&mut self, request: &Request) -> Option<LeaseId> {
        if let Some(lease) = self.leases.by_request(&request.request_id) {
            return Some(lease.id);
        }
        let window_ms = u64::from(self.tuning.duplicate_s) * 1_000;
        let id = self.vehicles.find(request.vehicle?, self.now.mono, window_ms)?;
        let lease = self.leases.find(id)?;
        // Parked a moment ago and read again by the same camera is a late reading; read by another
        // one it is under way again.
        (lease.end.is_none() || request.at == lease.life.seen).then_some(id)
    }

    /// A request about a lease that there is: a retry of the first one, or a camera further on.
    pub(super) fn asked_again(
        &mut self,
        id: LeaseId,
        request: &Request,
        effects: &mut Vec<Effect>,
    ) {
        let retry = self
            .leases
            .find(id)
            .is_some_and(|lease| lease.at == request.at && lease.request_id == request.request_id);
        // A retry that comes late must not take anybody back to where they asked.
        if retry {
            self.happened(id, Event::Repeat, None, effects);
        } else {
            self.seen(id, request.at, effects);
        }
    }

    /// Keeps the vehicle of a new lease for later readings.
    pub(super) fn identify(&mut self, lease: &Lease) {
        if let Some(vehicle) = lease.life.vehicle {
            self.vehicles.open(vehicle, lease.id);
        }
    }

    /// Its vehicle was read at a node.
    pub(super) fn seen(&mut self, id: LeaseId, node: NodeIx, effects: &mut Vec<Effect>) -> Act {
        let Some(lease) = self.leases.find(id).cloned() else { return Act::Nothing };
        let event = self.sighting(&lease, node);
        if event != Event::Repeat && lease.end.is_none() {
            self.call_off(&lease, effects);
            let now = self.now.mono;
            self.leases.rebind(id, |lease| {
                lease.life.state = life::next(lease.life.state, event);
                (lease.life.seen, lease.life.seen_at) = (node, now);
            });
            self.counts.sightings += 1;
        }
        self.happened(id, event, None, effects)
    }

    fn sighting(&self, lease: &Lease, node: NodeIx) -> Event {
        let window_ms = u64::from(self.tuning.duplicate_s) * 1_000;
        let within = |since| self.now.mono.ms_since(since) <= window_ms;
        let life = &lease.life;
        if node == life.seen && within(life.seen_at) || node == lease.at && within(lease.granted) {
            return Event::Repeat;
        }
        let door = self.site.garages.iter().any(|garage| garage.door == node);
        if node == self.site.garages[lease.garage.at()].door {
            return Event::AtDoor;
        } else if door {
            return Event::OtherDoor;
        } else if self.site.nodes[node.at()].kind == NodeKind::Exit {
            return Event::Leaving;
        }
        let left_ms = |from| self.routes.leg(from, lease.garage).map(|leg| leg.drive_ms);
        match (left_ms(node), left_ms(life.seen)) {
            (Some(now), Some(before)) if now <= before => Event::Nearer,
            (Some(_), None) => Event::Nearer,
            (Some(_), Some(_)) | (None, _) => Event::Astray,
        }
    }

    /// Its vehicle is of another class than it was thought to be.
    fn correct(&mut self, id: LeaseId, class: ClassIx, effects: &mut Vec<Effect>) -> Act {
        let Some(lease) = self.leases.find(id) else { return Act::Nothing };
        if lease.class == class {
            return self.happened(id, Event::Repeat, None, effects);
        }
        let fits = choose::serves(&self.view_all(), class, &place(lease));
        if lease.end.is_none() {
            self.leases.rebind(id, |lease| lease.class = class);
        }
        let event = if fits { Event::ClassFits } else { Event::ClassMisfits };
        self.happened(id, event, None, effects)
    }

    /// Parked in `stands`: where a zone or garage was promised, any bay of it will do.
    fn in_promise(&self, lease: &Lease, stands: Option<BayIx>) -> bool {
        let Some(bay) = stands else { return false };
        let bay = &self.site.bays[bay.at()];
        match lease.promise {
            Promise::Bay | Promise::Signs => false,
            Promise::Zone => lease.zone == Some(bay.zone),
            Promise::Garage => lease.garage == bay.garage,
        }
    }

    /// An identified vehicle stands there before its sensor says so: not to be given meanwhile.
    fn presume(&mut self, bay: BayIx, effects: &mut Vec<Effect>) {
        let until = self.now.mono.plus_ms(u64::from(self.tuning.stale_ms) * PRESUMED_STALES);
        let displaced = self.bays.change(bay, |state| {
            state.presumed = Some(until);
            state.lease
        });
        self.arm(until, Timer::Presumed(bay));
        // Whoever was promised this bay would find it taken.
        if let Some(victim) = displaced {
            self.happened(victim, Event::Stolen, None, effects);
        }
    }

    /// An identified vehicle stands there, and its sensor should have said so by now.
    pub(super) fn presumed_due(&mut self, bay: BayIx, effects: &mut Vec<Effect>) {
        if self.bays.get(bay).presumed.is_none_or(|until| until > self.now.mono) {
            return;
        }
        let sees_nothing = self.bays.change(bay, |state| {
            state.presumed = None;
            state.sensed == Sensed::Free
        });
        if sees_nothing {
            self.quarantine(bay, effects);
        }
    }

    pub(super) fn lease_due(&mut self, id: LeaseId, effects: &mut Vec<Effect>) {
        let Some(lease) = self.leases.get(id) else { return };
        if lease.deadline <= self.now.mono {
            self.happened(id, Event::Overdue, None, effects);
        } else {
            let deadline = lease.deadline;
            self.arm(deadline, Timer::Lease(id));
        }
    }

    /// Ends a lease: its bay is free to give again, upstream is told, the kept value goes.
    fn end_lease(
        &mut self,
        id: LeaseId,
        end: End,
        inferred: bool,
        bay: Option<BayIx>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(lease) = self.leases.end(id, end) else { return };
        self.unbind(&lease);
        self.call_off(&lease, effects);
        // It was seen to leave: that it did not come says nothing of its bay.
        let gone = end == End::Expired && inferred;
        if !gone {
            self.learn(&lease, end, inferred, bay, effects);
        }
        if lease.bay.is_none() && matches!(end, End::Fulfilled | End::Expired) && !gone {
            // Nobody sees the place: a car that was sent there is taken to stand there.
            self.ledger.take(lease.garage, lease.zone);
        }
        if let Some(vehicle) = lease.life.vehicle {
            let parked = matches!(end, End::Fulfilled | End::TookOther);
            self.vehicles.end(vehicle, id, parked, self.now.mono);
        }
        *self.counts.ended.entry(end_name(end)).or_default() += 1;
        self.counts.inferred += u64::from(inferred);
        let told = LeaseTold::Ended { end, inferred, stands: bay };
        self.tell_lease(told, &lease, effects);
        self.leases.stamp(id, self.issued);
    }

    /// Finds a lease another place, or ends it as displaced.
    fn rehome(&mut self, id: LeaseId, effects: &mut Vec<Effect>) {
        let Some(lease) = self.leases.get(id).cloned() else { return };
        // What made it homeless in this step must not look like room for it.
        self.refresh_ledger();
        match self.near(&lease) {
            Some(choice) => self.move_to(&lease, &choice, Because::Other, effects),
            None => self.end_lease(id, End::Displaced, true, None, effects),
        }
    }

    /// The same garage first: the driver may be inside already, and a missed fork is a lap.
    fn near(&self, lease: &Lease) -> Option<Choice> {
        let (view, anywhere) = (self.view_all(), want(lease));
        let inside = Want { within: Some(lease.garage), ..anywhere };
        choose::choose(&view, &inside).or_else(|| choose::choose(&view, &anywhere))
    }

    /// The same decision as the first, from where the vehicle is now.
    fn revise(&mut self, id: LeaseId, event: Event, act: Act, effects: &mut Vec<Effect>) {
        self.refresh_ledger();
        let Some(lease) = self.leases.get(id).cloned() else { return };
        let because = match event {
            Event::ClassFits | Event::WayCut => Because::Other,
            _ => Because::Seen,
        };
        match self.better(&lease, act) {
            Some((choice, voluntary)) => {
                self.leases.rebind(id, |lease| lease.life.moves += u8::from(voluntary));
                self.move_to(&lease, &choice, because, effects);
            }
            None => self.stand(&lease, event, because, effects),
        }
    }

    /// A place to move to, and whether the driver could as well have kept the present one.
    fn better(&self, lease: &Lease, act: Act) -> Option<(Choice, bool)> {
        let (view, anywhere) = (self.view_all(), want(lease));
        if act == Act::Enter {
            let within = (0..).map(GarageIx).zip(&self.site.garages);
            let within = within.filter(|(_, garage)| garage.door == lease.life.seen);
            let entered = within.map(|(ix, _)| Want { within: Some(ix), ..anywhere });
            return entered
                .filter_map(|want| choose::choose(&view, &want))
                .next()
                .map(|c| (c, false));
        }
        // A bay that is not known to be free any more is no promise to repeat.
        let sure = lease.bay.is_none_or(|bay| self.bays.get(bay).stays_offerable());
        let here = choose::cost_of(&view, &anywhere, &place(lease));
        let Some(here_ms) = here.filter(|_| sure) else {
            return self.near(lease).map(|choice| (choice, false));
        };
        if lease.bay.is_none() {
            // Its sensors answer again: what was a zone becomes a bay.
            let inside = Want { within: Some(lease.garage), ..anywhere };
            let firmer = choose::choose(&view, &inside).filter(|choice| choice.bay.is_some());
            if let Some(choice) = firmer {
                return Some((choice, false));
            }
        }
        let best = choose::choose(&view, &anywhere)?;
        let gain_ms = i64::from(here_ms) - i64::from(best.cost_ms);
        let firm = best.bay.is_some() || lease.bay.is_none();
        let threshold_ms = i64::from(self.tuning.move_gain_s) * 1_000;
        let moves = match act {
            Act::Revise => gain_ms > 0,
            _ => gain_ms > 0 && gain_ms >= threshold_ms && lease.life.moves == 0,
        };
        (moves && firm).then_some((best, act != Act::Revise))
    }

    /// The place stands; where the vehicle was seen, its times are reckoned from there.
    fn stand(&mut self, lease: &Lease, event: Event, because: Because, effects: &mut Vec<Effect>) {
        if event == Event::WayCut {
            return;
        }
        let leg = self.routes.leg(lease.life.seen, lease.garage);
        let inside_s = lease.zone.map_or(0, |zone| self.site.zones[zone.at()].drive_s);
        if let (Some(leg), Because::Seen) = (leg, because) {
            let travel_ms = u64::from(leg.drive_ms) + u64::from(inside_s) * 1_000;
            self.reckon(lease.id, travel_ms);
        }
        let Some(lease) = self.leases.get(lease.id).cloned() else { return };
        let other = event == Event::ClassFits;
        let told = if other { LeaseTold::Moved } else { LeaseTold::Confirmed };
        self.told(told, &lease, effects);
    }

    /// Gives an open lease another place.
    fn move_to(
        &mut self,
        lease: &Lease,
        choice: &Choice,
        because: Because,
        effects: &mut Vec<Effect>,
    ) {
        self.unbind(lease);
        self.call_off(lease, effects);
        let stays = choice.garage == lease.garage;
        let moved = self.leases.rebind(lease.id, |lease| {
            lease.promise = choice.promise;
            lease.garage = choice.garage;
            lease.zone = choice.zone;
            lease.bay = choice.bay;
        });
        let Some(moved) = moved.cloned() else { return };
        self.bind(&moved);
        match because {
            Because::Seen => self.reckon(lease.id, choice.travel_ms),
            // Within the garage the driver goes on as before; to another one the whole way from
            // where they were seen is an upper bound. The margin runs again: the lost time is no
            // fault of theirs.
            Because::Other => {
                let way_ms = if stays { 0 } else { choice.travel_ms };
                let now = self.now.mono;
                let earliest = if stays { moved.earliest } else { now.plus_ms(way_ms / 4) };
                self.reckon_to(lease.id, earliest, moved.expected.max(now.plus_ms(way_ms)), way_ms);
            }
        }
        self.counts.moved += 1;
        let Some(moved) = self.leases.get(lease.id).cloned() else { return };
        self.told(LeaseTold::Moved, &moved, effects);
    }

    /// A vehicle that is where it is now, so long before its place.
    fn reckon(&mut self, id: LeaseId, travel_ms: u64) {
        let expected = self.now.mono.plus_ms(travel_ms);
        self.reckon_to(id, self.earliest(travel_ms), expected, travel_ms);
    }

    /// Never sooner over than it was told.
    fn reckon_to(
        &mut self,
        id: LeaseId,
        earliest: crate::time::Mono,
        expected: crate::time::Mono,
        way_ms: u64,
    ) {
        let margin_ms = u64::from(self.tuning.hold_extra_s) * 1_000;
        let late = self.now.mono.plus_ms(way_ms + margin_ms);
        let changed = self.leases.rebind(id, |lease| {
            lease.earliest = earliest;
            lease.expected = expected;
            lease.travel_ms = expected.ms_since(lease.granted);
            lease.deadline = lease.deadline.max(late);
            lease.hold_ms = lease.deadline.ms_since(lease.granted);
        });
        if let Some(deadline) = changed.map(|lease| lease.deadline) {
            self.arm(deadline, Timer::Lease(id));
        }
    }

    /// A change of an open lease is kept, and whoever follows it hears of it.
    fn told(&mut self, told: LeaseTold, lease: &Lease, effects: &mut Vec<Effect>) {
        self.tell_lease(told, lease, effects);
        self.leases.stamp(lease.id, self.issued);
        self.call_out(lease, effects);
    }
}

fn state(lease: &Lease) -> State {
    if lease.end.is_some() { State::Ended } else { lease.life.state }
}

fn want(lease: &Lease) -> Want {
    let Lease { class, destination, .. } = *lease;
    Want { at: lease.life.seen, class, destination, within: None }
}

fn place(lease: &Lease) -> Place {
    Place { garage: lease.garage, zone: lease.zone, bay: lease.bay }
}

fn end_name(end: End) -> &'static str {
    match end {
        End::Fulfilled => "fulfilled",
        End::TookOther => "took_other",
        End::Displaced => "displaced",
        End::Expired => "expired",
        End::Cancelled => "cancelled",
    }
}
