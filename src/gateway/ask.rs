//! Arrivals, and what drivers and staff say afterwards.
//!
//! Every question is answered in the step that brought it; whether the answer waits for its commit
//! is the owner's affair, told by the ticket in [`Effect::Answer`]. A request that comes again gets
//! the same lease, whatever else it says: the first answer is already on its way to a driver. Open
//! leases are known by their request over restarts, ended ones until the next.

use super::choose::{self, Choice, View, Want};
use super::door::{
    Allocation, Answer, Ask, Effect, LeaseId, LeaseTold, Refusal, ReplyId, Request, Why,
};
use super::lease::Lease;
use super::life::Life;
use super::{Gateway, Timer};
use crate::record::{Body, Lane, Promise};
use crate::site::{SignKind, Site, UnitIx};

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
            Ask::SetCount { garage, occupied, by } => self.set_count(garage, occupied, by, effects),
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
        if let Some(lease) = self.known(&request) {
            self.asked_again(lease, &request, effects);
            let after = self.leases.find(lease).map_or(super::Ticket(0), |lease| lease.ticket);
            return self.answer(reply, after, self.view(lease), effects);
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

    #[inline]
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

    #[inline]
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

    #[inline]
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
            life: Life::new(request.at, now, request.vehicle),
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
        self.identify(&lease);
        self.leases.open(lease);
        (self.issued, answer)
    }

    /// Takes the lease's bay out of what is offered, or books it in the ledger.
    #[inline]
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
    #[inline]
    pub(super) fn unbind(&mut self, lease: &Lease) {
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

    pub(super) fn view(&self, id: LeaseId) -> Answer {
        match self.leases.find(id) {
            Some(lease) => self.allocation(lease),
            None => Answer::Refused(Refusal::NoSuchLease(id)),
        }
    }

    #[inline]
    fn allocation(&self, lease: &Lease) -> Answer {
        Answer::Allocation(Allocation {
            lease: Some(lease.id),
            request_id: lease.request_id.clone(),
            promise: lease.promise,
            class: lease.class,
            at: lease.life.seen,
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
            out: Vec::new(),
            routes: Some(self.routes.clone()),
        })
    }

    /// Puts a lease on the call-outs at its node, if its vehicle can be told apart.
    pub(super) fn call_out(&mut self, lease: &Lease, effects: &mut Vec<Effect>) {
        let Some(tail) = &lease.tail else { return };
        let place = match (lease.bay, lease.zone) {
            (Some(bay), _) => self.site.bay_id(bay),
            (None, Some(zone)) => self.site.zone_id(zone),
            (None, None) => self.site.garages[lease.garage.at()].id.clone(),
        };
        let text = format!("{tail} {place}").to_uppercase();
        for sign in self.call_outs.get(&lease.life.seen).cloned().unwrap_or_default() {
            if let SignKind::CallOut { queue, .. } = self.site.signs[sign.at()].kind {
                self.signs[sign.at()].call(lease.id, text.clone(), queue);
                self.show(sign, effects);
            }
        }
    }

    /// Takes a lease off the call-outs: its place is promised no more.
    pub(super) fn call_off(&mut self, lease: &Lease, effects: &mut Vec<Effect>) {
        if lease.tail.is_none() {
            return;
        }
        for sign in self.call_outs.get(&lease.life.seen).cloned().unwrap_or_default() {
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

pub(super) fn promise_name(promise: Promise) -> &'static str {
    match promise {
        Promise::Bay => "bay",
        Promise::Zone => "zone",
        Promise::Garage => "garage",
        Promise::Signs => "signs",
    }
}
