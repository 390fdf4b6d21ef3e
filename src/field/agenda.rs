//! What a line does next, decided without doing it: connect, write a sign, read a block, or wait.
//!
//! The owner of the line asks [`Agenda::next`], does that one thing, and tells [`Agenda::done`].
//! Sign writes go before reads, and reads follow a fixed grid (`round`). What an outcome means is
//! told in `outcome`: a reply, an exception (the unit says no, and lives), silence (the unit is
//! suspect), a broken frame or connection (the line is suspect).
//!
//! A late answer must not be taken for the answer to the next request. Where answers carry a
//! transaction id, the connection is given up after a time-out. Where they do not (RTU), it is
//! kept, and the unit that was silent is asked nothing, neither read nor written, until three more
//! of its time-outs have passed; the other units go on at once.

mod outcome;
mod round;
mod unit;
mod writing;

use std::time::Duration;

use tracing::{info, warn};

use crate::field::breaker::Budget;
use crate::field::orders::{Batch, Orders};
use crate::field::pace::{Delay, Grid, Jitter};
use crate::field::places::{Kind, places};
use crate::field::status::{LineState, LineStatus};
use crate::gateway::Reading;
use crate::profile::Table;
use crate::site::{LineIx, Site};
use crate::time::Mono;

use round::Round;
use unit::Unit;

/// The first wait before connecting again, in milliseconds.
const CONNECT_FIRST_MS: u64 = 250;
/// The longest, in milliseconds: how late a returned line may be noticed.
const CONNECT_MAX_MS: u64 = 15_000;
/// Writes in a row while a read is due: many signs may delay a sweep, not starve it.
const WRITES_IN_A_ROW_MAX: u32 = 4;
/// Connections tried for the last writes before a stop.
const LAST_CONNECTS_MAX: u32 = 3;

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

/// What came of it. `Closed` ends the connection; silence and nonsense end one with transactions.
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
    /// An answer to something else, or of another length, or no frame at all.
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

/// The decisions of one line.
#[derive(Debug)]
pub struct Agenda {
    id: String,
    endpoint: String,
    /// Whether an answer names the request that it belongs to.
    transactions: bool,
    units: Vec<Unit>,
    orders: Orders,
    grid: Grid,
    round: Round,
    budget: Budget,
    link: Link,
    doing: Doing,
    /// When that was given out.
    since: Mono,
    delay: Delay,
    jitter: Jitter,
    quiet_until: Mono,
    writes_in_a_row: u32,
    /// Connections left for the last writes, once stopping.
    stopping: Option<u32>,
    connected_before: bool,
    /// The connection was given up for a probe, so that the new one is part of its cost.
    cut_by_probe: bool,
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
        let places = places(site, line);
        status.own(places.iter().map(|(owner, _)| *owner));
        let places: Vec<_> = places.into_iter().map(|(_, place)| place).collect();
        let period = Duration::from_millis(table.period_ms.into());
        Agenda {
            id: table.id.clone(),
            endpoint: table.wire.to_string(),
            transactions: table.has_transactions(),
            units: table.units.iter().map(|ix| Unit::new(site, line, *ix)).collect(),
            orders: Orders::new(&places),
            grid: Grid::new(first, period),
            round: Round::new(period),
            budget: Budget::new(table.units.len() > 1),
            link: Link::Cut { retry_at: Mono(0) },
            doing: Doing::Nothing,
            since: Mono(0),
            delay: Delay::new(CONNECT_FIRST_MS, CONNECT_MAX_MS),
            jitter: Jitter::new(seed),
            quiet_until: Mono(0),
            writes_in_a_row: 0,
            stopping: None,
            connected_before: false,
            cut_by_probe: false,
            answered_at: None,
            status,
        }
    }

    /// A place of the line, by its number, should hold this.
    pub fn want(&mut self, slot: usize, values: &[u16]) {
        self.orders.want(slot, values);
    }

    /// Someone wants to know how a unit is, by its place on the line: it is asked in the next
    /// sweep, for whole blocks, whatever back-off it or its line is in.
    pub fn retry(&mut self, unit: usize) {
        let Some(state) = self.units.get_mut(unit) else {
            return;
        };
        info!(line = self.id, unit = state.id, "unit is tried again by order");
        state.retry();
        self.orders.again(unit);
        if let Link::Cut { retry_at } = &mut self.link {
            *retry_at = Mono(0);
            self.delay.reset();
        }
    }

    /// No more reads; signs that are not up to date get one more try.
    pub fn stop(&mut self) {
        if self.stopping.is_none() {
            self.stopping = Some(LAST_CONNECTS_MAX);
            self.orders.last_call();
        }
    }

    /// The counters, brought up to date.
    pub fn status(&mut self) -> &mut LineStatus {
        for (unit, status) in self.units.iter().zip(&mut self.status.units) {
            unit.tell(status);
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
        for shown in self.orders.shown() {
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
        self.since = now;
        if self.stopping.is_some() && self.orders_due().is_none_or(|due| due > now) {
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
            let polls = self.units.iter().any(Unit::is_polled);
            let sweep = polls.then(|| self.grid.next());
            Job::Wait { until: sweep.into_iter().chain(self.orders_due()).min() }
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
                self.quiet_until = now + self.units[batch.unit].gap;
                self.note_answer(batch.unit, at, took, &outcome);
                self.read_back_done(now, at, &batch, outcome);
                None
            }
            Doing::Nothing => unreachable!("an outcome follows a job"),
        }
    }

    fn connecting_done(&mut self, now: Mono, outcome: Outcome) {
        if std::mem::take(&mut self.cut_by_probe) {
            self.budget.spend(now, now.since(self.since));
        }
        if let Outcome::NotConnected { why } = outcome {
            self.status.attempted = true;
            self.status.connect_failures_total += 1;
            if self.status.state != LineState::Down {
                warn!(line = self.id, endpoint = self.endpoint, why, "line is down");
                self.status.state = LineState::Down;
            }
            self.round.end();
            self.units.iter_mut().for_each(Unit::lost_line);
            self.orders.forget(None);
            self.link = Link::Cut { retry_at: now + self.delay.grow(&mut self.jitter) };
            return;
        }
        if self.status.state == LineState::Down || !self.connected_before {
            info!(line = self.id, "line is up");
        }
        // A line of displays alone has no poll to attempt.
        self.status.attempted |= !self.units.iter().any(Unit::is_polled);
        self.status.reconnects_total += u64::from(self.connected_before);
        self.connected_before = true;
        self.status.state = LineState::Up;
        self.link = Link::Up;
    }
}

#[cfg(test)]
mod tests;
