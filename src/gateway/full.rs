//! No bay can be promised: where to go all the same.
//!
//! Nobody is left at a fork without a word. The garage that most likely has room is named; where
//! none has, the nearest exit.

use std::collections::VecDeque;

use super::Gateway;
use super::ask::promise_name;
use super::door::{Allocation, Answer, Request, Why};
use crate::record::Promise;
use crate::site::{ClassIx, Garage, GarageIx, LinkIx, NodeIx, NodeKind, Scope};

impl Gateway {
    pub(super) fn follow_signs(&mut self, request: &Request) -> Answer {
        *self.counts.granted.entry(promise_name(Promise::Signs)).or_default() += 1;
        let unseen = self.units.iter().any(|unit| unit.polled && !unit.fresh);
        let garage = self.hopeful(request);
        let out = if garage.is_none() { self.way_out(request.at) } else { Vec::new() };
        let leg = garage.and_then(|garage| self.routes.leg(request.at, garage));
        let out_ms = out.iter().map(|link| u64::from(self.site.links[link.at()].drive_ms())).sum();
        Answer::Allocation(Allocation {
            lease: None,
            request_id: request.request_id.clone(),
            promise: Promise::Signs,
            class: request.class,
            at: request.at,
            destination: request.destination,
            garage,
            zone: None,
            bay: None,
            travel_s: leg.map_or(out_ms, |leg| u64::from(leg.drive_ms)) / 1_000,
            deadline: self.now.mono,
            expires_in_s: 0,
            end: None,
            why: if unseen { Why::Unseen } else { Why::Taken },
            out,
            routes: Some(self.routes.clone()),
        })
    }

    /// The garage in reach with most bays for the class that nobody sees and nobody closed.
    fn hopeful(&self, request: &Request) -> Option<GarageIx> {
        let class = &self.site.classes[request.class.at()];
        let unseen = |(ix, garage): (GarageIx, &Garage)| {
            if class.height_cm > garage.clearance_cm || self.routes.leg(request.at, ix).is_none() {
                return None;
            }
            let scope = Scope::Garage(ix);
            let of_class = |(kind, _): &(ClassIx, u32)| self.bays.tally(scope, Some(*kind)).unknown;
            let unknown: u32 = class.may_use.iter().map(of_class).sum();
            (unknown > 0).then_some((unknown, std::cmp::Reverse(ix)))
        };
        let best = (0..).map(GarageIx).zip(&self.site.garages).filter_map(unseen).max();
        best.map(|(_, std::cmp::Reverse(ix))| ix)
    }

    /// The way with the fewest links to an exit; empty where there is none.
    fn way_out(&self, from: NodeIx) -> Vec<LinkIx> {
        let mut came: Vec<Option<LinkIx>> = vec![None; self.site.nodes.len()];
        let mut open = VecDeque::from([from]);
        while let Some(node) = open.pop_front() {
            if self.site.nodes[node.at()].kind == NodeKind::Exit {
                let mut way = Vec::new();
                let mut back = node;
                while let (true, Some(link)) = (back != from, came[back.at()]) {
                    way.push(link);
                    back = self.site.links[link.at()].from;
                }
                way.reverse();
                return way;
            }
            for (ix, link) in (0..).map(LinkIx).zip(&self.site.links) {
                let shut = link.closed
                    || self.closed_links.contains(&ix)
                    || self.closed_nodes.contains(&link.to);
                if link.from == node && !shut && link.to != from && came[link.to.at()].is_none() {
                    came[link.to.at()] = Some(ix);
                    open.push_back(link.to);
                }
            }
        }
        Vec::new()
    }
}
