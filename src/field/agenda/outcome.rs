//! What an outcome means: for the unit's points, for the unit, and for its line.
//!
//! A reply and an exception prove that unit and line live; which exception does what is the table
//! in `policy`. Silence makes the unit suspect, and nobody else. Nonsense and a broken connection
//! make the line suspect, as far as it can be told apart: without transactions a garbled frame may
//! be one bad cable end, so such a line is opened anew only once nobody on it answers.

use std::time::Duration;

use tracing::{debug, info, warn};

use super::{Agenda, Link, Outcome};
use crate::field::breaker::Change;
use crate::field::decode::Items;
use crate::field::policy::{OnRead, policy};
use crate::field::split::Refused;
use crate::field::status::LineState;
use crate::gateway::Reading;
use crate::time::Mono;

/// How long after an answer a line counts as alive: a connection given up within it is replaced at
/// once, because other units are waiting. Longer than any sweep that a healthy line needs.
const LIVELY: Duration = Duration::from_secs(10);
/// How long the signs of a unit that did not answer are left alone.
const HOLD: Duration = Duration::from_secs(1);
/// Time-outs that a unit is left alone for after one, where answers carry no transaction id.
const ALONE_TIMEOUTS: u32 = 3;
/// Sweeps in a row that a unit may break off as busy; then its busy blocks are unknown.
const BUSY_SWEEPS_MAX: u32 = 3;

impl Agenda {
    /// Counts what came.
    pub(super) fn note_answer(&mut self, unit: usize, at: Mono, took: Duration, out: &Outcome) {
        self.units[unit].reached = true;
        let status = &mut self.status.units[unit];
        match out {
            Outcome::Bits(_) | Outcome::Words(_) | Outcome::Written => {
                status.round_trip_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                status.answered_at = Some(at);
            }
            Outcome::Exception(code) => {
                *status.exceptions_total.entry(*code).or_default() += 1;
            }
            Outcome::Silent => status.timeouts_total += 1,
            Outcome::Nonsense { .. } | Outcome::Closed { .. } => status.bad_answers_total += 1,
            Outcome::Sent | Outcome::Connected | Outcome::NotConnected { .. } => (),
        }
    }

    pub(super) fn reading_done(
        &mut self,
        now: Mono,
        at: Mono,
        unit: usize,
        outcome: Outcome,
    ) -> Option<Reading> {
        let state = &mut self.units[unit];
        let block = state.reads.asked().expect("a read under way has a block");
        let (table, first) = (block.table, block.first);
        let refusal = match &outcome {
            Outcome::Bits(bits) => {
                state.sweep.take(block, Items::Bits(bits));
                None
            }
            Outcome::Words(words) => {
                state.sweep.take(block, Items::Words(words));
                None
            }
            Outcome::Exception(code) => Some((*code, policy(*code).read)),
            _ => Some((0, OnRead::Silent)),
        };
        match refusal {
            None => {
                if state.reads.answered() {
                    info!(unit = state.id, ?table, first, "unit answers a block whole again");
                }
            }
            Some((_, OnRead::Silent)) => {
                let reading = state.cut_short(at);
                self.round.failed();
                self.failed(now, unit, &outcome);
                return reading;
            }
            Some((_, OnRead::Busy)) if state.busy_sweeps < BUSY_SWEEPS_MAX => {
                state.busy_sweeps += 1;
                state.owes_a_sweep = false;
                self.round.next_unit();
                self.answered(now, unit);
                return None;
            }
            Some((code, on)) => self.refused(now, unit, code, on),
        }
        self.answered(now, unit);
        let state = &mut self.units[unit];
        if state.reads.current(now).is_some() {
            return None;
        }
        self.round.next_unit();
        if state.refused && !state.refuses {
            info!(unit = state.id, "unit gives all its data again");
        }
        state.refused = state.refuses;
        state.cut_short = 0;
        state.owes_a_sweep = false;
        state.busy_sweeps = if state.busy { state.busy_sweeps } else { 0 };
        state.sweep.finish(state.ix, at)
    }

    /// The unit lives, and says no.
    fn refused(&mut self, now: Mono, unit: usize, code: u8, on: OnRead) {
        let state = &mut self.units[unit];
        let block = state.reads.asked().expect("a refused read has a block");
        let (table, first, count) = (block.table, block.first, block.count);
        let (id, name) = (&state.id, policy(code).name);
        let what = match on {
            OnRead::Split | OnRead::Quarantine => {
                state.reads.refused(now, on == OnRead::Split, &mut self.jitter)
            }
            OnRead::Unknown | OnRead::Busy | OnRead::Silent => {
                state.refuses = true;
                state.busy |= on == OnRead::Busy;
                state.reads.step_over();
                if !state.refused {
                    warn!(
                        unit = id,
                        code,
                        name,
                        ?table,
                        first,
                        count,
                        "unit gives no data, these points are unknown"
                    );
                }
                return;
            }
        };
        match what {
            Refused::Cut(pieces) => info!(
                unit = id,
                code,
                name,
                ?table,
                first,
                count,
                pieces,
                "unit refuses a block, reading it in pieces"
            ),
            Refused::LeftOut(items) => warn!(
                unit = id,
                code,
                name,
                ?table,
                first,
                items,
                "unit refuses what cannot be cut, left out: these points stay unknown"
            ),
            Refused::Known => {
                debug!(unit = id, code, name, ?table, first, count, "unit refuses a block again")
            }
        }
    }

    /// The unit gave an answer.
    pub(super) fn answered(&mut self, now: Mono, unit: usize) {
        self.answered_at = Some(now);
        self.delay.reset();
        let state = &mut self.units[unit];
        state.proven = true;
        if state.breaker.answered() == Some(Change::Recovered) {
            info!(line = self.id, unit = state.id, "unit answers again");
            // It may be another device by now, or one that has started up in full.
            state.reads.try_whole();
            self.budget.refund(now);
            self.units.iter_mut().for_each(|unit| unit.breaker.hurry(now));
        }
    }

    /// The unit gave none, or none that fits.
    pub(super) fn failed(&mut self, now: Mono, unit: usize, outcome: &Outcome) {
        let state = &mut self.units[unit];
        let probe = state.breaker.is_open();
        if probe {
            self.budget.spend(now, now.since(self.since));
        }
        if state.breaker.failed(now, &mut self.jitter) == Some(Change::Opened) {
            warn!(line = self.id, unit = state.id, last = ?outcome, "unit does not answer");
        }
        let until = if self.stopping.is_some() { Mono(u64::MAX) } else { now + HOLD };
        self.orders.hold(unit, until);
        match outcome {
            Outcome::Exception(_) => (),
            Outcome::Silent | Outcome::Nonsense { .. } if !self.transactions => {
                state.alone_until = now + state.timeout * ALONE_TIMEOUTS;
                if !self.is_lively(now) {
                    self.cut(now, probe);
                }
            }
            Outcome::Silent => self.cut(now, probe),
            _ => {
                // The peer may have started anew, with its displays blank.
                self.orders.forget(None);
                self.cut(now, probe);
            }
        }
    }

    /// Whether any unit answered lately.
    fn is_lively(&self, now: Mono) -> bool {
        self.answered_at.is_some_and(|at| now.since(at) < LIVELY)
    }

    /// The connection is gone. On a line that is alive it is replaced at once, which the limit of
    /// failures in a sweep and the breakers keep rare; on any other, after an ever longer wait.
    fn cut(&mut self, now: Mono, probe: bool) {
        let lively = self.is_lively(now);
        let wait = if lively { Duration::ZERO } else { self.delay.grow(&mut self.jitter) };
        self.cut_by_probe = probe;
        self.status.state = LineState::Connecting;
        self.link = Link::Cut { retry_at: now + wait };
    }
}
