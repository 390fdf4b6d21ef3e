//! Arrivals, and what drivers and staff say afterwards.
//!
//! Every question is answered in the step that brought it; whether the answer waits for its commit
//! is the owner's affair, told by the ticket in [`Effect::Answer`]. A request that comes again gets
//! the same lease, whatever else it says: the first answer is already on its way to a driver. Open
//! leases are known by their request over restarts, ended ones until the next.

use super::choose::{self, Choice, View, Want};
use super::door::{
    Allocation, Answer, Ask, Effect, LeaseId, LeaseTold, Refusal, ReplyId, Report, Request, Why,
};
use super::lease::Lease;
use super::{Gateway, Timer};
use crate::record::{Body, End, Lane, Promise, Sensed};
use crate::site::{BayIx, SignKind, Site, UnitIx};

/// How long an identified vehicle stands in a bay before its sensor must agree, in stale times:
/// a working unit was read and debounced many times over by then.
const PRESUMED_STALES: u64 = 3;

/// Whether any bay of the site serves each class.
pub fn served(site: &Site) -> Vec<bool> {
    let serves = |class: &crate::site::Class| {
        site.bays.iter().any(|bay| {
            let tall = class.height_cm > site.garages[bay.garage.at()].clearance_cm;
            !tall && class.may_use.iter().any(|(allowed, _)| *allowed == bay.class)
        })
    };
    site.classes.iter().map(serves).collect()
}

impl Gateway {
    pub(super) fn asked(&mut self, ask: Ask, reply: ReplyId, effects: &mut Vec<Effect>) {
        let answer = match ask {
            Ask::Arrive(request) => return self.arrive(request, reply, effects),
            Ask::Find(lease) => {
                // Only what it rests on itself: a question must not hurry the disk.
                let after = self.leases.find(lease).map_or(super::Ticket(0), |lease| lease.ticket);
                return self.answer(reply, after, self.view(lease), effects);
            }
            Ask::Report { lease, report } => self.report(lease, report, effects),
            Ask::Close { target, reason, by, expires_s, incident } => {
                self.close(target, reason, by, expires_s, incident, effects)
            }
            Ask::Open { target, by } => self.open(target, by, effects),
            Ask::Closures => {
                let answer = Answer::Closures(self.closure_views());
                return self.answer(reply, super::Ticket(0), answer, effects);
            }
            Ask::Retry { unit, by } => self.retry(unit, by, effects),
            Ask::SetOutput { output, mode, by, expires_s } => {
                self.set_output(output, mode, by, expires_s, effects)
            }
            Ask::SetMode { sign, mode, by, expires_s } => {
                self.set_mode(sign, mode, by, expires_s, effects)
            }
            Ask::ShowMessage { sign, text, by, for_s } => {
                self.show_message(sign, text, by, for_s, effects)
            }
            Ask::ClearMessage { sign, by } => self.clear_message(sign, by, effects),
        };
        let after = self.issued;
        self.answer(reply, after, answer, effects);
    }

    fn arrive(&mut self, request: Request, reply: ReplyId, effects: &mut Vec<Effect>) {
        if let Some(lease) = self.leases.by_request(&request.request_id) {
            let (after, answer) = (lease.ticket, self.allocation(lease));
            self.counts.repeats += 1;
            return self.answer(reply, after, answer, effects);
        }
        let (after, answer) = match self.refusal(&request) {
            Some(refusal) => {
                self.counts.refused += 1;
                (super::Ticket(0), Answer::Refused(refusal))
            }
            None => match self.find_place(&request) {
                Some(choice) => self.grant(request, &choice, effects),
                None => (super::Ticket(0), self.follow_signs(&request)),
            },
        };
        self.answer(reply, after, answer, effects);
    }

    fn refusal(&self, request: &Request) -> Option<Refusal> {
        let open = self.leases.at(request.at);
        if self.stopping {
            Some(Refusal::Stopping)
        } else if !self.served[request.class.at()] {
            Some(Refusal::ClassNotServed(request.class))
        } else if open >= self.tuning.leases_max {
            Some(Refusal::TooMany { at: request.at, open })
        } else if !self.routes.any(request.at) {
            Some(Refusal::NoWay(request.at))
        } else {
            None
        }
    }

    fn find_place(&self, request: &Request) -> Option<Choice> {
        let want = Want {
            at: request.at,
            class: request.class,
            destination: request.destination,
            within: None,
        };
        choose::choose(&self.view_all(), &want)
    }

    pub(super) fn view_all(&self) -> View<'_> {
        View {
            site: &self.site,
            tuning: &self.tuning,
            routes: &self.routes,
            doors: &self.doors,
            bays: &self.bays,
            ledger: &self.ledger,
        }
    }

    fn grant(
        &mut self,
        request: Request,
        choice: &Choice,
        effects: &mut Vec<Effect>,
    ) -> (super::Ticket, Answer) {
        let sure = choice.bay.is_none_or(|bay| self.bays.get(bay).offerable());
        assert!(sure, "only an offerable bay is chosen");
        self.next_lease += 1;
        let id = LeaseId { run: self.identity.run, number: self.next_lease };
        let travel_ms = choice.travel_ms + u64::from(request.eta_s) * 1_000;
        let hold_ms = travel_ms + u64::from(self.tuning.hold_extra_s) * 1_000;
        let now = self.now.mono;
        let mut lease = Lease {
            id,
            request_id: request.request_id,
            at: request.at,
            class: request.class,
            destination: request.destination,
            promise: choice.promise,
            garage: choice.garage,
            zone: choice.zone,
            bay: choice.bay,
            granted: now,
            earliest: self.earliest(travel_ms),
            expected: now.plus_ms(travel_ms),
            deadline: now.plus_ms(hold_ms),
            travel_ms,
            hold_ms,
            tail: request.tail,
            ticket: super::Ticket(0),
            end: None,
        };
        self.bind(&lease);
        self.windows[choice.garage.at()].granted += 1;
        *self.counts.granted.entry(promise_name(choice.promise)).or_default() += 1;
        self.tell_lease(LeaseTold::Granted, &lease, effects);
        lease.ticket = self.issued;
        self.arm(lease.deadline, Timer::Lease(id));
        let answer = self.allocation(&lease);
        self.call_out(&lease, effects);
        self.leases.open(lease);
        (self.issued, answer)
    }

    /// Takes the lease's bay out of what is offered, or books it in the ledger.
    pub(super) fn bind(&mut self, lease: &Lease) {
        match lease.bay {
            Some(bay) => self.bays.change(bay, |state| {
                assert!(state.lease.is_none(), "a bay carries one lease at most");
                state.lease = Some(lease.id);
            }),
            None => {
                self.ledger.promise(lease.garage, lease.zone, 1);
                self.bays.touch(lease.garage);
            }
        }
    }

    /// The reverse of [`Gateway::bind`].
    fn unbind(&mut self, lease: &Lease) {
        match lease.bay {
            Some(bay) => self.bays.change(bay, |state| {
                assert!(state.lease == Some(lease.id), "a lease's bay carries that lease");
                state.lease = None;
            }),
            None => {
                self.ledger.promise(lease.garage, lease.zone, -1);
                self.bays.touch(lease.garage);
            }
        }
    }

    /// Nobody drives in less than half the time, give or take `early_s` on long ways and a quarter
    /// of the time on short ones.
    pub(super) fn earliest(&self, travel_ms: u64) -> crate::time::Mono {
        let margin_ms = (u64::from(self.tuning.early_s) * 1_000).min(travel_ms / 4);
        self.now.mono.plus_ms(travel_ms * 4 / 5 - margin_ms / 4)
    }

    fn follow_signs(&mut self, request: &Request) -> Answer {
        *self.counts.granted.entry(promise_name(Promise::Signs)).or_default() += 1;
        let unseen = self.units.iter().any(|unit| unit.polled && !unit.fresh);
        Answer::Allocation(Allocation {
            lease: None,
            request_id: request.request_id.clone(),
            promise: Promise::Signs,
            class: request.class,
            at: request.at,
            destination: request.destination,
            garage: None,
            zone: None,
            bay: None,
            travel_s: 0,
            deadline: self.now.mono,
            expires_in_s: 0,
            end: None,
            why: if unseen { Why::Unseen } else { Why::Taken },
            routes: None,
        })
    }

    fn view(&self, id: LeaseId) -> Answer {
        match self.leases.find(id) {
            Some(lease) => self.allocation(lease),
            None => Answer::Refused(Refusal::NoSuchLease(id)),
        }
    }

    fn allocation(&self, lease: &Lease) -> Answer {
        Answer::Allocation(Allocation {
            lease: Some(lease.id),
            request_id: lease.request_id.clone(),
            promise: lease.promise,
            class: lease.class,
            at: lease.at,
            destination: lease.destination,
            garage: Some(lease.garage),
            zone: lease.zone,
            bay: lease.bay,
            travel_s: lease.travel_ms / 1_000,
            deadline: lease.deadline,
            expires_in_s: match lease.end {
                None => lease.deadline.ms_since(self.now.mono) / 1_000,
                Some(_) => 0,
            },
            end: lease.end,
            why: if lease.promise == Promise::Bay { Why::Firm } else { Why::Counted },
            routes: Some(self.routes.clone()),
        })
    }

    fn report(&mut self, id: LeaseId, report: Report, effects: &mut Vec<Effect>) -> Answer {
        let Some(lease) = self.leases.find(id) else {
            return Answer::Refused(Refusal::NoSuchLease(id));
        };
        if let Some(end) = lease.end {
            return Answer::Refused(Refusal::LeaseEnded { lease: id, end });
        }
        let promised = lease.bay;
        match report {
            Report::Cancelled => self.end_lease(id, End::Cancelled, false, None, effects),
            Report::Parked(bay) => {
                let stands = bay.or(promised);
                let end =
                    if stands == promised { End::Fulfilled } else { self.elsewhere(id, stands) };
                self.end_lease(id, end, false, stands, effects);
                if let Some(bay) = stands {
                    self.presume(bay, effects);
                }
            }
            Report::BayTaken => {
                if let Some(bay) = promised {
                    self.quarantine(bay, effects);
                }
                self.rehome(id, effects);
            }
        }
        self.view(id)
    }

    /// Parked in `stands`: another bay than promised, unless only a zone or garage was.
    fn elsewhere(&self, id: LeaseId, stands: Option<BayIx>) -> End {
        let (Some(lease), Some(bay)) = (self.leases.get(id), stands) else {
            return End::TookOther;
        };
        let bay = &self.site.bays[bay.at()];
        let kept = match lease.promise {
            Promise::Bay | Promise::Signs => false,
            Promise::Zone => lease.zone == Some(bay.zone),
            Promise::Garage => lease.garage == bay.garage,
        };
        if kept { End::Fulfilled } else { End::TookOther }
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
            self.rehome(victim, effects);
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
            self.end_lease(id, End::Expired, false, None, effects);
        } else {
            let deadline = lease.deadline;
            self.arm(deadline, Timer::Lease(id));
        }
    }

    /// Ends a lease: its bay is free to give again, upstream is told, the kept value goes.
    pub(super) fn end_lease(
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
        self.learn(&lease, end, inferred, bay, effects);
        if lease.bay.is_none() && matches!(end, End::Fulfilled | End::Expired) {
            // Nobody sees the place: a car that was sent there is taken to stand there.
            self.ledger.take(lease.garage, lease.zone);
        }
        *self.counts.ended.entry(end_name(end)).or_default() += 1;
        self.counts.inferred += u64::from(inferred);
        let told = LeaseTold::Ended { end, inferred, stands: bay };
        self.tell_lease(told, &lease, effects);
        self.leases.stamp(id, self.issued);
    }

    /// Finds a lease another place, or ends it as displaced.
    pub(super) fn rehome(&mut self, id: LeaseId, effects: &mut Vec<Effect>) {
        let Some(lease) = self.leases.get(id).cloned() else { return };
        // What made it homeless in this step must not look like room for it.
        self.refresh_ledger();
        let (class, destination) = (lease.class, lease.destination);
        let within = Some(lease.garage);
        // The same garage first: the driver may be inside already, and a missed fork is a lap.
        let inside = Want { at: lease.at, class, destination, within };
        let anywhere = Want { within: None, ..inside };
        let view = self.view_all();
        let choice = choose::choose(&view, &inside).or_else(|| choose::choose(&view, &anywhere));
        let Some(choice) = choice else {
            return self.end_lease(id, End::Displaced, true, None, effects);
        };
        self.unbind(&lease);
        self.call_off(&lease, effects);
        // Within the garage the driver goes on as before; to another one the whole way from where
        // they asked is an upper bound. The margin runs again: the lost time is no fault of theirs.
        let now = self.now.mono;
        let margin_ms = u64::from(self.tuning.hold_extra_s) * 1_000;
        let stays = choice.garage == lease.garage;
        let way_ms = if stays { 0 } else { choice.travel_ms };
        let earliest = if stays { lease.earliest } else { now.plus_ms(way_ms / 4) };
        let deadline = lease.deadline.max(now.plus_ms(way_ms + margin_ms));
        let moved = self.leases.rebind(id, |lease| {
            lease.promise = choice.promise;
            lease.garage = choice.garage;
            lease.zone = choice.zone;
            lease.bay = choice.bay;
            lease.earliest = earliest;
            lease.expected = lease.expected.max(now.plus_ms(way_ms));
            lease.travel_ms = lease.expected.ms_since(lease.granted);
            lease.deadline = deadline;
            lease.hold_ms = deadline.ms_since(lease.granted);
        });
        let Some(moved) = moved.cloned() else { return };
        self.bind(&moved);
        self.counts.moved += 1;
        self.arm(deadline, Timer::Lease(id));
        self.tell_lease(LeaseTold::Moved, &moved, effects);
        self.leases.stamp(id, self.issued);
        self.call_out(&moved, effects);
    }

    /// Puts a lease on the call-outs at its node, if its vehicle can be told apart.
    fn call_out(&mut self, lease: &Lease, effects: &mut Vec<Effect>) {
        let Some(tail) = &lease.tail else { return };
        let place = match (lease.bay, lease.zone) {
            (Some(bay), _) => self.site.bay_id(bay),
            (None, Some(zone)) => self.site.zone_id(zone),
            (None, None) => self.site.garages[lease.garage.at()].id.clone(),
        };
        let text = format!("{tail} {place}").to_uppercase();
        for sign in self.call_outs.get(&lease.at).cloned().unwrap_or_default() {
            if let SignKind::CallOut { queue, .. } = self.site.signs[sign.at()].kind {
                self.signs[sign.at()].call(lease.id, text.clone(), queue);
                self.show(sign, effects);
            }
        }
    }

    /// Takes a lease off the call-outs: its place is promised no more.
    fn call_off(&mut self, lease: &Lease, effects: &mut Vec<Effect>) {
        if lease.tail.is_none() {
            return;
        }
        for sign in self.call_outs.get(&lease.at).cloned().unwrap_or_default() {
            self.signs[sign.at()].call_off(lease.id);
            self.show(sign, effects);
        }
    }

    fn retry(&mut self, unit: UnitIx, by: String, effects: &mut Vec<Effect>) -> Answer {
        let id = self.site.units[unit.at()].id.clone();
        self.record(Lane::Events, Body::UnitRetry { unit: id, by }, effects);
        effects.push(Effect::Retry { unit });
        Answer::Done
    }
}

fn promise_name(promise: Promise) -> &'static str {
    match promise {
        Promise::Bay => "bay",
        Promise::Zone => "zone",
        Promise::Garage => "garage",
        Promise::Signs => "signs",
    }
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
