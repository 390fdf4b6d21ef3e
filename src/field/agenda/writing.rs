//! Writes: which one is next, and what came of it.

use std::time::Duration;

use tracing::{debug, warn};

use super::{Agenda, Doing, Job, Outcome};
use crate::field::policy::{OnWrite, policy};
use crate::field::signs::Batch;
use crate::time::Mono;

/// How long a unit that was busy with a write is left in peace.
const BUSY: Duration = Duration::from_millis(100);
/// Busy answers to writes in a row before they count as refusals.
const BUSY_MAX: u32 = 3;

impl Agenda {
    /// When the next sign write is due. Before a stop nobody waits for a unit that was silent.
    pub(super) fn signs_due(&self) -> Option<Mono> {
        self.signs.due(|unit| {
            let unit = &self.units[unit];
            if self.stopping.is_some() && unit.breaker.is_open() {
                return Mono(u64::MAX);
            }
            unit.breaker.due(&self.budget).max(unit.alone_until)
        })
    }

    pub(super) fn next_write(&mut self, now: Mono) -> Option<Job> {
        let (units, stopping, budget) = (&self.units, self.stopping.is_some(), &self.budget);
        let batch = self.signs.next(now, |unit| {
            let unit = &units[unit];
            unit.may_be_asked(now, budget) && !(stopping && unit.breaker.is_open())
        })?;
        self.writes_in_a_row += 1;
        self.status.units[batch.unit].writes_total += 1;
        let address = self.units[batch.unit].address;
        let (first, words, replies) = (batch.first, batch.words.clone(), batch.replies);
        self.doing = Doing::Writing(batch);
        Some(Job::Write { address, first, words, replies })
    }

    pub(super) fn writing_done(&mut self, now: Mono, batch: Batch, outcome: Outcome) {
        let unit = batch.unit;
        let refusal = match &outcome {
            Outcome::Written => {
                self.signs.written(now, batch.slots);
                self.units[unit].write_was_taken();
                self.answered(now, unit);
                return;
            }
            // Nobody said that it arrived, so it says nothing about the unit.
            Outcome::Sent => {
                self.signs.written(now, batch.slots);
                return;
            }
            Outcome::Exception(code) => (*code, policy(*code).write),
            _ => (0, OnWrite::Silent),
        };
        self.status.units[unit].write_failures_total += 1;
        match refusal {
            (_, OnWrite::Silent) => self.failed(now, unit, &outcome),
            (_, OnWrite::Busy) if self.units[unit].busy_writes < BUSY_MAX => {
                self.units[unit].busy_writes += 1;
                // Absolute values only, so asking twice for what is under way does no harm.
                self.signs.hold(unit, now + BUSY);
                self.answered(now, unit);
            }
            (code, OnWrite::Busy | OnWrite::Refused) => self.write_refused(now, batch, code),
        }
    }

    fn write_refused(&mut self, now: Mono, batch: Batch, code: u8) {
        let Batch { unit, first, slots, .. } = batch;
        let state = &mut self.units[unit];
        let (id, name) = (&state.id, policy(code).name);
        if std::mem::replace(&mut state.write_refused, true) {
            debug!(unit = id, code, name, first, "unit refused a write");
        } else {
            warn!(unit = id, code, name, first, "unit refuses a write");
        }
        self.signs.refused(now, slots, &mut self.jitter);
        self.answered(now, unit);
    }
}
