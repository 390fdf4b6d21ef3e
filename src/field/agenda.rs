//! What a line does next, decided without doing it: connect, write a sign, read a block, or wait.
//!
//! The owner of the line asks [`Agenda::next`], does that one thing, and tells [`Agenda::done`].
//! Sign writes go before reads, and reads follow a fixed grid. Units that answered last time are
//! read first in each sweep, and few may use up their time-out in it: that, not a short time-out,
//! is what keeps a dead unit's neighbours punctual.
//!
//! After a time-out the connection is given up, because a late answer on it would be taken for the
//! answer to the next request. A refusal is an answer, and keeps it.

use std::time::Duration;

use tracing::{debug, info, warn};

use crate::field::breaker::{Breaker, Change, State};
use crate::field::decode::{Items, Sweep};
use crate::field::orders::{Batch, Orders, Step};
use crate::field::pace::{Delay, Grid, Jitter};
use crate::field::places::{Kind, places};
use crate::field::plan::{HOLE_MAX, Plan, plan};
use crate::field::status::{LineState, LineStatus, UnitState};
use crate::gateway::Reading;
use crate::profile::Table;
use crate::site::{LineIx, Site, UnitIx};
use crate::time::Mono;

/// The first wait before connecting again, in milliseconds.
const CONNECT_FIRST_MS: u64 = 250;
/// The longest, in milliseconds: how late a returned line may be noticed.
const CONNECT_MAX_MS: u64 = 15_000;
/// How long after an answer a line counts as alive: a connection given up within it is replaced at
/// once, because other units are waiting. Longer than any sweep that a healthy line needs.
const LIVELY: Duration = Duration::from_secs(10);
/// Units that may fail in one sweep before the rest of it is left out: those that failed come last
/// in the next, so the healthy ones behind them are late once, not for as long as they fail.
const FAILURES_A_SWEEP_MAX: u32 = 2;
/// How long the signs of a unit that did not answer are left alone.
const HOLD: Duration = Duration::from_secs(1);
/// Writes in a row while a read is due: many signs may delay a sweep, not starve it.
const WRITES_IN_A_ROW_MAX: u32 = 4;
/// Connections tried for the last writes before a stop.
const LAST_CONNECTS_MAX: u32 = 3;
/// Exceptions by which a gateway says that the unit behind it does not answer.
const GATEWAY_SILENT: [u8; 2] = [0x0a, 0x0b];
/// The exception of a unit that was asked for an address it does not have.
const ILLEGAL_ADDRESS: u8 = 0x02;

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Job {
    Connect,
    Read {
        address: u8,
        table: Table,
        first: u16,
        count: u16,
    },
    Write {
        address: u8,
        /// Coils or holding registers.
        table: Table,
        first: u16,
        /// Registers, or 0 and 1 for coils; one by function 6 or 5, more by 16 or 15.
        values: Vec<u16>,
        /// False where no answer comes.
        replies: bool,
    },
    /// Nothing until then, or until something new is wanted.
    Wait {
        until: Option<Mono>,
    },
    /// Everything was written that could be, after [`Agenda::stop`].
    Finished,
}

/// What came of it. The last three end the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Connected,
    NotConnected {
        why: String,
    },
    Bits(Vec<bool>),
    Words(Vec<u16>),
    /// The write was confirmed.
    Written,
    /// The write went out to a display that confirms none.
    Sent,
    Exception(u8),
    /// No answer in time.
    Silent,
    /// An answer to something else, or of another length.
    Nonsense {
        why: String,
    },
    /// The connection broke.
    Closed {
        why: String,
    },
}

/// What is being done.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Doing {
    Nothing,
    Connecting,
    Reading { unit: usize },
    Writing(Batch),
    ReadingBack(Batch),
}

#[derive(Clone, Copy, Debug)]
enum Link {
    Cut { retry_at: Mono },
    Up,
}

/// One unit of the line.
#[derive(Debug)]
struct Unit {
    id: String,
    ix: UnitIx,
    address: u8,
    /// Silence after its exchanges.
    gap: Duration,
    plan: Plan,
    /// The same without holes, until it is needed.
    strict: Option<Plan>,
    sweep: Sweep,
    breaker: Breaker,
    tried: Mono,
    /// It refused a block of this sweep, and of the last one.
    refuses: bool,
    refused: bool,
    /// It refused its last write.
    write_refused: bool,
}

/// One sweep under way.
#[derive(Debug, Default)]
struct Round {
    /// Units to read: those that answered last time, then the others, longest untried first.
    order: Vec<usize>,
    healthy: usize,
    /// Where in `order`, and which block of that unit.
    at: usize,
    block: usize,
    /// Units that failed in it.
    failures: u32,
    active: bool,
}

/// The decisions of one line.
#[derive(Debug)]
pub struct Agenda {
    id: String,
    endpoint: String,
    units: Vec<Unit>,
    signs: Orders,
    grid: Grid,
    round: Round,
    link: Link,
    doing: Doing,
    delay: Delay,
    jitter: Jitter,
    quiet_until: Mono,
    writes_in_a_row: u32,
    /// Connections left for the last writes, once stopping.
    stopping: Option<u32>,
    connected_before: bool,
    /// When any unit last answered.
    answered_at: Option<Mono>,
    status: LineStatus,
}

impl Agenda {
    /// A line whose first sweep begins at `first`; `status` carries counters on from before.
    pub fn new(
        site: &Site,
        line: LineIx,
        first: Mono,
        seed: u64,
        mut status: LineStatus,
    ) -> Agenda {
        let table = &site.lines[line.at()];
        let unit = |ix: &UnitIx| {
            let unit = &site.units[ix.at()];
            let profile = site.profile(*ix);
            let loose = plan(profile, &unit.bays, HOLE_MAX);
            let strict = loose.bridged.then(|| plan(profile, &unit.bays, 0));
            Unit {
                id: unit.id.clone(),
                ix: *ix,
                address: unit.address,
                gap: Duration::from_millis(unit.gap_ms.into()),
                plan: loose,
                strict,
                sweep: Sweep::new(profile, &unit.bays),
                breaker: Breaker::default(),
                tried: Mono(0),
                refuses: false,
                refused: false,
                write_refused: false,
            }
        };
        let places = places(site, line);
        status.own(places.iter().map(|(owner, _)| *owner));
        let places: Vec<_> = places.into_iter().map(|(_, place)| place).collect();
        Agenda {
            id: table.id.clone(),
            endpoint: table.wire.to_string(),
            units: table.units.iter().map(unit).collect(),
            signs: Orders::new(&places),
            grid: Grid::new(first, Duration::from_millis(table.period_ms.into())),
            round: Round::default(),
            link: Link::Cut { retry_at: Mono(0) },
            doing: Doing::Nothing,
            delay: Delay::new(CONNECT_FIRST_MS, CONNECT_MAX_MS),
            jitter: Jitter::new(seed),
            quiet_until: Mono(0),
            writes_in_a_row: 0,
            stopping: None,
            connected_before: false,
            answered_at: None,
            status,
        }
    }

    /// A place of the line, by its number, should hold this.
    pub fn want(&mut self, slot: usize, values: &[u16]) {
        self.signs.want(slot, values);
    }

    /// No more reads; signs that are not up to date get one more try.
    pub fn stop(&mut self) {
        if self.stopping.is_none() {
            self.stopping = Some(LAST_CONNECTS_MAX);
            self.signs.last_call();
        }
    }

    /// The counters, brought up to date.
    pub fn status(&mut self) -> &mut LineStatus {
        for (unit, status) in self.units.iter().zip(&mut self.status.units) {
            status.state = match unit.breaker.state() {
                State::Closed { failures: 0 } => UnitState::Ok,
                State::Closed { .. } => UnitState::Suspect,
                State::Open { .. } => UnitState::Open,
            };
            (status.signs_desired, status.signs_confirmed) = (0, 0);
        }
        self.note_shown();
        &mut self.status
    }

    /// What is wanted and what is known to be so.
    fn note_shown(&mut self) {
        let LineStatus { units, signs, outputs, lamps, .. } = &mut self.status;
        let (mut signs, mut outputs) = (signs.iter_mut(), outputs.iter_mut());
        (lamps.desired, lamps.confirmed) = (0, 0);
        for shown in self.signs.shown() {
            let (wanted, confirmed) = (u32::from(shown.wanted), u32::from(shown.confirmed));
            match shown.kind {
                Kind::Sign => {
                    units[shown.unit].signs_desired += wanted;
                    units[shown.unit].signs_confirmed += confirmed;
                    let sign = signs.next().expect("a status for each sign");
                    (sign.confirmed, sign.written_at) = (shown.confirmed, shown.written_at);
                }
                Kind::Output => {
                    let output = outputs.next().expect("a status for each output");
                    (output.confirmed, output.written_at) = (shown.confirmed, shown.written_at);
                }
                Kind::Lamp => {
                    lamps.desired += wanted;
                    lamps.confirmed += confirmed;
                }
            }
        }
    }

    /// What to do now. Whatever it is, [`Agenda::done`] is told before the next question, except
    /// for a wait, which has no outcome.
    pub fn next(&mut self, now: Mono) -> Job {
        assert!(self.doing == Doing::Nothing, "one thing at a time");
        if self.stopping.is_some() && self.signs_due().is_none_or(|due| due > now) {
            return Job::Finished;
        }
        if let Link::Cut { retry_at } = self.link {
            return self.reconnect(now, retry_at);
        }
        if now < self.quiet_until {
            return Job::Wait { until: Some(self.quiet_until) };
        }
        let job = if self.writes_in_a_row < WRITES_IN_A_ROW_MAX {
            self.next_write(now).or_else(|| self.next_read(now))
        } else {
            self.writes_in_a_row = 0;
            self.next_read(now).or_else(|| self.next_write(now))
        };
        job.unwrap_or_else(|| {
            let polls = self.units.iter().any(|unit| !unit.plan.blocks.is_empty());
            let sweep = polls.then(|| self.grid.next());
            Job::Wait { until: sweep.into_iter().chain(self.signs_due()).min() }
        })
    }

    fn reconnect(&mut self, now: Mono, retry_at: Mono) -> Job {
        match &mut self.stopping {
            Some(0) => return Job::Finished,
            Some(left) => *left -= 1,
            None if now < retry_at => return Job::Wait { until: Some(retry_at) },
            None => (),
        }
        self.doing = Doing::Connecting;
        Job::Connect
    }

    /// When the next sign write is due. Before a stop nobody waits for a unit that was silent.
    fn signs_due(&self) -> Option<Mono> {
        self.signs.due(|unit| match self.units[unit].breaker.due() {
            Mono(0) => Mono(0),
            _ if self.stopping.is_some() => Mono(u64::MAX),
            due => due,
        })
    }

    fn next_write(&mut self, now: Mono) -> Option<Job> {
        let (units, stopping) = (&self.units, self.stopping.is_some());
        let step = self.signs.next(now, |unit| match units[unit].breaker.state() {
            State::Closed { .. } => true,
            State::Open { until } => until <= now && !stopping,
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

    fn next_read(&mut self, now: Mono) -> Option<Job> {
        if self.stopping.is_some() {
            return None;
        }
        loop {
            if !self.round.active && !self.begin_round(now) {
                return None;
            }
            let round = &mut self.round;
            let failures_max = if round.at < round.healthy { FAILURES_A_SWEEP_MAX } else { 1 };
            let next = round.order.get(round.at).filter(|_| round.failures < failures_max);
            let Some(&ix) = next else {
                round.active = false;
                continue;
            };
            let unit = &mut self.units[ix];
            if round.block == 0 {
                if !unit.breaker.permits(now) {
                    round.at += 1;
                    continue;
                }
                unit.sweep.begin();
                unit.refuses = false;
                unit.tried = now;
            }
            let block = &unit.plan.blocks[round.block];
            let (table, first, count) = (block.table, block.first, block.count);
            self.writes_in_a_row = 0;
            self.status.units[ix].polls_total += 1;
            self.doing = Doing::Reading { unit: ix };
            return Some(Job::Read { address: unit.address, table, first, count });
        }
    }

    /// Begins a sweep if its slot has come.
    fn begin_round(&mut self, now: Mono) -> bool {
        let polled = |n: &usize| !self.units[*n].plan.blocks.is_empty();
        if !(0..self.units.len()).any(|n| polled(&n)) {
            return false;
        }
        let Some(missed) = self.grid.take(now) else {
            return false;
        };
        self.status.missed_slots_total += missed;
        self.status.sweeps_total += 1;
        let mut order = std::mem::take(&mut self.round.order);
        order.clear();
        order.extend((0..self.units.len()).filter(polled));
        // Stable: healthy units keep their order, and so their distance from sweep to sweep.
        order.sort_by_key(|n| match self.units[*n].breaker.is_healthy() {
            true => (false, Mono(0)),
            false => (true, self.units[*n].tried),
        });
        let healthy = order.partition_point(|n| self.units[*n].breaker.is_healthy());
        self.round = Round { order, healthy, active: true, ..Round::default() };
        true
    }

    /// What came of the last job, at `now`; `at` is the same instant on the site's clock, `took`
    /// the time from the request to its answer. Gives a unit's reading when its last block came.
    pub fn done(
        &mut self,
        now: Mono,
        at: Mono,
        took: Duration,
        outcome: Outcome,
    ) -> Option<Reading> {
        let doing = std::mem::replace(&mut self.doing, Doing::Nothing);
        match doing {
            Doing::Connecting => {
                self.connecting_done(now, outcome);
                None
            }
            Doing::Reading { unit } => {
                self.quiet_until = now + self.units[unit].gap;
                self.status.attempted = true;
                self.note_answer(unit, at, took, &outcome);
                self.reading_done(now, at, unit, outcome)
            }
            Doing::Writing(batch) => {
                self.quiet_until = now + self.units[batch.unit].gap;
                self.note_answer(batch.unit, at, took, &outcome);
                self.writing_done(now, at, batch, outcome);
                None
            }
            Doing::ReadingBack(batch) => {
                self.note_answer(batch.unit, at, took, &outcome);
                self.read_back_done(now, at, &batch, outcome);
                None
            }
            Doing::Nothing => unreachable!("an outcome follows a job"),
        }
    }

    fn connecting_done(&mut self, now: Mono, outcome: Outcome) {
        if let Outcome::NotConnected { why } = outcome {
            self.status.attempted = true;
            self.status.connect_failures_total += 1;
            if self.status.state != LineState::Down {
                warn!(line = self.id, endpoint = self.endpoint, why, "line is down");
                self.status.state = LineState::Down;
            }
            self.round.active = false;
            self.signs.forget(None);
            self.link = Link::Cut { retry_at: now + self.delay.grow(&mut self.jitter) };
            return;
        }
        if self.status.state == LineState::Down || !self.connected_before {
            info!(line = self.id, "line is up");
        }
        // A line of displays alone has no poll to attempt.
        self.status.attempted |= self.units.iter().all(|unit| unit.plan.blocks.is_empty());
        self.status.reconnects_total += u64::from(self.connected_before);
        self.connected_before = true;
        self.status.state = LineState::Up;
        self.link = Link::Up;
    }

    /// Counts what came.
    fn note_answer(&mut self, unit: usize, at: Mono, took: Duration, outcome: &Outcome) {
        let status = &mut self.status.units[unit];
        match outcome {
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

    fn reading_done(
        &mut self,
        now: Mono,
        at: Mono,
        unit: usize,
        outcome: Outcome,
    ) -> Option<Reading> {
        let Unit { sweep, plan, strict, id, refuses, refused, .. } = &mut self.units[unit];
        let block = &plan.blocks[self.round.block];
        match &outcome {
            Outcome::Bits(bits) => sweep.take(block, Items::Bits(bits)),
            Outcome::Words(words) => sweep.take(block, Items::Words(words)),
            // The unit may lack what lies in a hole: from now on only what is wired is asked for.
            Outcome::Exception(ILLEGAL_ADDRESS) if strict.is_some() => {
                info!(unit = id, first = block.first, "unit refuses holes, reading around them");
                *plan = strict.take().expect("just seen");
                self.answered(now, unit);
                self.next_unit();
                return None;
            }
            Outcome::Exception(code) if !GATEWAY_SILENT.contains(code) => {
                *refuses = true;
                if !std::mem::replace(refused, true) {
                    warn!(unit = id, code, table = ?block.table, first = block.first,
                        count = block.count, "unit refuses a read, its points stay unknown");
                }
            }
            _ => {
                self.round.failures += 1;
                self.next_unit();
                self.failed(now, unit, &outcome);
                return None;
            }
        }
        self.answered(now, unit);
        self.round.block += 1;
        if self.round.block < self.units[unit].plan.blocks.len() {
            return None;
        }
        self.next_unit();
        let state = &mut self.units[unit];
        if state.refused && !state.refuses {
            info!(unit = state.id, "unit refuses nothing any more");
            state.refused = false;
        }
        state.sweep.finish(state.ix, at)
    }

    fn next_unit(&mut self) {
        self.round.at += 1;
        self.round.block = 0;
    }

    fn writing_done(&mut self, now: Mono, at: Mono, batch: Batch, outcome: Outcome) {
        let unit = batch.unit;
        match outcome {
            Outcome::Written => {
                self.signs.written(now, at, batch);
                self.units[unit].write_refused = false;
                self.answered(now, unit);
            }
            // Nobody said that it arrived, so it says nothing about the unit.
            Outcome::Sent => self.signs.written(now, at, batch),
            Outcome::Exception(code) if !GATEWAY_SILENT.contains(&code) => {
                self.refused(now, &batch, code, "a write");
            }
            _ => {
                self.status.units[unit].write_failures_total += 1;
                self.failed(now, unit, &outcome);
            }
        }
    }

    /// What was written is read again.
    fn read_back_done(&mut self, now: Mono, at: Mono, batch: &Batch, outcome: Outcome) {
        let unit = batch.unit;
        let values = match outcome {
            Outcome::Words(words) => words,
            Outcome::Bits(bits) => bits.into_iter().map(u16::from).collect(),
            Outcome::Exception(code) if !GATEWAY_SILENT.contains(&code) => {
                return self.refused(now, batch, code, "reading back");
            }
            _ => {
                self.status.units[unit].write_failures_total += 1;
                return self.failed(now, unit, &outcome);
            }
        };
        self.answered(now, unit);
        let id = &self.units[unit].id;
        for wrong in self.signs.read_back(now, at, batch, &values, &mut self.jitter) {
            let place = self.signs.place(wrong.slot);
            let (kind, first) = (place.kind, place.first);
            if wrong.news {
                warn!(unit = id, ?kind, first, "unit holds something else than was written to it");
            } else {
                debug!(unit = id, ?kind, first, "unit still holds something else");
            }
            let nth = self.signs.nth_of_kind(wrong.slot);
            match kind {
                Kind::Sign => self.status.signs[nth].mismatch_total += 1,
                Kind::Output => self.status.outputs[nth].mismatch_total += 1,
                Kind::Lamp => self.status.lamps.mismatch_total += 1,
            }
        }
    }

    /// The unit answered a write with a refusal.
    fn refused(&mut self, now: Mono, batch: &Batch, code: u8, what: &str) {
        let (unit, first) = (batch.unit, batch.first);
        let state = &mut self.units[unit];
        let again = std::mem::replace(&mut state.write_refused, true);
        if again {
            debug!(unit = state.id, code, first, "unit refused {what}");
        } else {
            warn!(unit = state.id, code, first, "unit refuses {what}");
        }
        self.status.units[unit].write_failures_total += 1;
        self.signs.refused(now, batch, &mut self.jitter);
        self.answered(now, unit);
    }

    /// The unit gave an answer.
    fn answered(&mut self, now: Mono, unit: usize) {
        self.answered_at = Some(now);
        self.delay.reset();
        let state = &mut self.units[unit];
        if state.breaker.answered() == Some(Change::Recovered) {
            info!(line = self.id, unit = state.id, "unit answers again");
        }
    }

    /// The unit gave none, or none that fits.
    fn failed(&mut self, now: Mono, unit: usize, outcome: &Outcome) {
        let state = &mut self.units[unit];
        if state.breaker.failed(now, &mut self.jitter) == Some(Change::Opened) {
            warn!(line = self.id, unit = state.id, last = ?outcome, "unit does not answer");
        }
        let until = if self.stopping.is_some() { Mono(u64::MAX) } else { now + HOLD };
        self.signs.hold(unit, until);
        match outcome {
            Outcome::Exception(_) => (),
            Outcome::Silent => self.cut(now),
            _ => {
                // The peer may have started anew, with its displays blank.
                self.signs.forget(None);
                self.cut(now);
            }
        }
    }

    /// The connection is gone. On a line that is alive it is replaced at once, which the limit of
    /// failures in a sweep and the breakers keep rare; on any other, after an ever longer wait.
    fn cut(&mut self, now: Mono) {
        let lively = self.answered_at.is_some_and(|at| now.since(at) < LIVELY);
        let wait = if lively { Duration::ZERO } else { self.delay.grow(&mut self.jitter) };
        self.status.state = LineState::Connecting;
        self.link = Link::Cut { retry_at: now + wait };
    }
}

#[cfg(test)]
mod tests;
