//! Sweeps: which unit is read next, and when the rest of a sweep is given up.
//!
//! Units that answered last time are read first, in a fixed order, so that each keeps its distance
//! from sweep to sweep. Those that did not come last, one failure of them a sweep, those that are
//! probed only as far as the line's budget goes: so a silent unit costs its neighbours nothing
//! while the period has room for one time-out. When many fall silent at once, the sweep that finds
//! out ends with its period, and the next one begins with whom it left behind. Nothing is asked
//! twice in a sweep.

use std::time::Duration;

use super::{Agenda, Doing, Job};
use crate::time::Mono;

/// One sweep under way.
#[derive(Debug)]
pub(super) struct Round {
    period: Duration,
    /// Units to read: those that answered last time, then the others, longest untried first.
    order: Vec<usize>,
    healthy: usize,
    at: usize,
    /// Something was asked of the unit at `at` in this sweep.
    begun: bool,
    /// Units that failed in it, and how many of them had failed before.
    failures: u32,
    known_failures: u32,
    /// When a sweep with failures gives up what is left of it.
    ends: Mono,
    active: bool,
}

impl Round {
    pub fn new(period: Duration) -> Round {
        Round {
            period,
            order: Vec::new(),
            healthy: 0,
            at: 0,
            begun: false,
            failures: 0,
            known_failures: 0,
            ends: Mono(0),
            active: false,
        }
    }

    /// No more of this sweep.
    pub fn end(&mut self) {
        self.active = false;
    }

    pub fn next_unit(&mut self) {
        self.at += 1;
        self.begun = false;
    }

    /// The unit at hand did not answer.
    pub fn failed(&mut self) {
        self.failures += 1;
        self.known_failures += u32::from(self.at >= self.healthy);
        self.next_unit();
    }

    /// The unit whose turn it is; `None` where the sweep is over.
    fn unit(&self, now: Mono) -> Option<usize> {
        let known = self.at >= self.healthy;
        let spent = (known && self.known_failures > 0)
            || (self.failures > 0 && !self.begun && now >= self.ends);
        self.order.get(self.at).copied().filter(|_| !spent)
    }
}

impl Agenda {
    pub(super) fn next_read(&mut self, now: Mono) -> Option<Job> {
        if self.stopping.is_some() {
            return None;
        }
        loop {
            if !self.round.active && !self.begin_round(now) {
                return None;
            }
            let Some(ix) = self.round.unit(now) else {
                self.end_round();
                continue;
            };
            let unit = &mut self.units[ix];
            if !self.round.begun {
                unit.left_behind = false;
                if !unit.may_be_asked(now, &self.budget) {
                    self.round.next_unit();
                    continue;
                }
                unit.sweep.begin();
                unit.reads.begin();
                (unit.refuses, unit.busy) = (false, false);
            } else if unit.alone_until > now {
                // A write between two of its blocks was not answered.
                self.round.next_unit();
                continue;
            }
            let Some(block) = unit.reads.current(now) else {
                self.round.next_unit();
                continue;
            };
            let (table, first, count) = (block.table, block.first, block.count);
            unit.tried = now;
            self.round.begun = true;
            self.writes_in_a_row = 0;
            self.status.units[ix].polls_total += 1;
            self.doing = Doing::Reading { unit: ix };
            return Some(Job::Read { address: unit.address, table, first, count });
        }
    }

    /// Begins a sweep if its slot has come.
    fn begin_round(&mut self, now: Mono) -> bool {
        let units = &self.units;
        let polled = |n: &usize| units[*n].is_polled();
        if !(0..units.len()).any(|n| polled(&n)) {
            return false;
        }
        let Some(missed) = self.grid.take(now) else {
            return false;
        };
        self.status.missed_slots_total += missed;
        self.status.sweeps_total += 1;
        let round = &mut self.round;
        round.order.clear();
        round.order.extend((0..units.len()).filter(polled));
        // Stable: healthy units keep their order, and so their distance from sweep to sweep. Who
        // never answered yet may be one of many that never will, so it waits for those who do.
        round.order.sort_by_key(|n| match &units[*n] {
            unit if !unit.breaker.is_healthy() => (2, unit.tried),
            unit => (u8::from(!unit.proven), Mono(u64::from(!unit.left_behind))),
        });
        round.healthy = round.order.partition_point(|n| units[*n].breaker.is_healthy());
        (round.at, round.begun, round.active) = (0, false, true);
        (round.failures, round.known_failures) = (0, 0);
        round.ends = now + round.period;
        true
    }

    fn end_round(&mut self) {
        let round = &mut self.round;
        round.active = false;
        let behind = round.order.get(round.at..round.healthy).unwrap_or_default();
        for ix in behind {
            self.units[*ix].left_behind = true;
        }
    }
}
