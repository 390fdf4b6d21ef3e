//! Writes: which one is next, and what came of it.

use std::time::Duration;

use tracing::{debug, warn};

use super::{Agenda, Doing, Job, Outcome};
use crate::field::orders::{Batch, Step};
use crate::field::places::Kind;
use crate::field::policy::{OnWrite, policy};
use crate::time::Mono;

/// How long a unit that was busy with a write is left in peace.
const BUSY: Duration = Duration::from_millis(100);
/// Busy answers to writes in a row before they count as refusals.
const BUSY_MAX: u32 = 3;

impl Agenda {
    /// When the next write is due. Before a stop nobody waits for a unit that was silent.
    pub(super) fn orders_due(&self) -> Option<Mono> {
        self.orders.due(|unit| {
            let unit = &self.units[unit];
            if self.stopping.is_some() && unit.breaker.is_open() {
                return Mono(u64::MAX);
            }
            if self.stopping.is_none() && unit.is_to_be_read_first() {
                return Mono(u64::MAX);
            }
            unit.breaker.due(&self.budget).max(unit.alone_until)
        })
    }

    pub(super) fn next_write(&mut self, now: Mono) -> Option<Job> {
        let (units, stopping, budget) = (&self.units, self.stopping.is_some(), &self.budget);
        let step = self.orders.next(now, |unit| {
            let unit = &units[unit];
            unit.may_be_asked(now, budget)
                && !(stopping && unit.breaker.is_open())
                && (stopping || !unit.is_to_be_read_first())
        })?;
        self.writes_in_a_row += 1;
        let job = match step {
            Step::Write(batch) => {
                self.status.units[batch.unit].writes_total += 1;
                let address = self.units[batch.unit].address;
                let (table, first, replies) = (batch.table, batch.first, batch.replies);
                let values = batch.values.clone();
                self.doing = Doing::Writing(batch);
                Job::Write { address, table, first, values, replies }
            }
            Step::ReadBack(batch) => {
                let address = self.units[batch.unit].address;
                let (table, first) = (batch.table, batch.first);
                let count = u16::try_from(batch.values.len()).expect("a write has a spec's limit");
                self.doing = Doing::ReadingBack(batch);
                Job::Read { address, table, first, count }
            }
        };
        Some(job)
    }

    pub(super) fn writing_done(&mut self, now: Mono, at: Mono, batch: Batch, outcome: Outcome) {
        let unit = batch.unit;
        let refusal = match &outcome {
            Outcome::Written => {
                self.orders.written(now, at, batch);
                self.units[unit].write_was_taken();
                self.answered(now, unit);
                return;
            }
            // Nobody said that it arrived, so it says nothing about the unit.
            Outcome::Sent => {
                self.orders.written(now, at, batch);
                return;
            }
            Outcome::Exception(code) => (*code, policy(*code).write),
            _ => (0, OnWrite::Silent),
        };
        self.refused_or_silent(now, &batch, &outcome, refusal, "a write");
    }

    /// What was written is read again.
    pub(super) fn read_back_done(&mut self, now: Mono, at: Mono, batch: &Batch, outcome: Outcome) {
        let unit = batch.unit;
        let values = match outcome {
            Outcome::Words(words) => words,
            Outcome::Bits(bits) => bits.into_iter().map(u16::from).collect(),
            Outcome::Exception(code) => {
                let refusal = (code, policy(code).write);
                let what = "reading back";
                return self.refused_or_silent(now, batch, &outcome, refusal, what);
            }
            _ => {
                let refusal = (0, OnWrite::Silent);
                return self.refused_or_silent(now, batch, &outcome, refusal, "");
            }
        };
        self.answered(now, unit);
        let id = &self.units[unit].id;
        for wrong in self.orders.read_back(now, at, batch, &values, &mut self.jitter) {
            let place = self.orders.place(wrong.slot);
            let (kind, first) = (place.kind, place.first);
            if wrong.news {
                warn!(unit = id, ?kind, first, "unit holds something else than was written to it");
            } else {
                debug!(unit = id, ?kind, first, "unit still holds something else");
            }
            let nth = self.orders.nth_of_kind(wrong.slot);
            match kind {
                Kind::Sign => self.status.signs[nth].mismatch_total += 1,
                Kind::Output => self.status.outputs[nth].mismatch_total += 1,
                Kind::Lamp => self.status.lamps.mismatch_total += 1,
            }
        }
    }

    /// No confirmation came of a write, or of reading it back: what its code means, or silence.
    fn refused_or_silent(
        &mut self,
        now: Mono,
        batch: &Batch,
        outcome: &Outcome,
        refusal: (u8, OnWrite),
        what: &str,
    ) {
        let unit = batch.unit;
        self.status.units[unit].write_failures_total += 1;
        match refusal {
            (_, OnWrite::Silent) => {
                self.failed(now, unit, outcome);
                self.units[unit].owes_a_sweep = true;
                if self.units[unit].is_polled() && self.stopping.is_none() {
                    self.orders.unanswered(now, batch, &mut self.jitter);
                }
            }
            (_, OnWrite::Busy) if self.units[unit].busy_writes < BUSY_MAX => {
                self.units[unit].busy_writes += 1;
                // Absolute values only, so asking twice for what is under way does no harm.
                self.orders.hold(unit, now + BUSY);
                self.answered(now, unit);
            }
            (code, OnWrite::Busy | OnWrite::Refused) => self.write_refused(now, batch, code, what),
        }
    }

    fn write_refused(&mut self, now: Mono, batch: &Batch, code: u8, what: &str) {
        let (unit, first) = (batch.unit, batch.first);
        let state = &mut self.units[unit];
        let (id, name) = (&state.id, policy(code).name);
        if std::mem::replace(&mut state.write_refused, true) {
            debug!(unit = id, code, name, first, "unit refused {what}");
        } else {
            warn!(unit = id, code, name, first, "unit refuses {what}");
        }
        self.orders.refused(now, batch, &mut self.jitter);
        self.answered(now, unit);
    }
}
