//! The owner of one Modbus TCP line: does what its [`Agenda`] says, one thing at a time.
//!
//! It alone holds the connection, so there is never more than one request in flight, and a late
//! answer can reach nobody else. Whatever ends in doubt (a time-out, an answer that does not fit)
//! ends the connection: a kept one would hand the late answer to the next request.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_modbus::client::{Client, Context, tcp};
use tokio_modbus::slave::SlaveContext;
use tokio_modbus::{Error, Request, Response, Slave};

use crate::field::agenda::{Agenda, Job, Outcome};
use crate::field::mailbox::Mailbox;
use crate::field::status::LineStatus;
use crate::gateway::Reading;
use crate::profile::Table;
use crate::site::{LineIx, Site, Wire};
use crate::time::{Clock, Mono};

/// How long a connection may take, name look-up included.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// A busy line publishes its status at least this often.
const PUBLISH_EVERY: Duration = Duration::from_millis(500);

/// What a line is given.
#[derive(Clone, Debug)]
pub struct Line {
    pub site: Arc<Site>,
    pub line: LineIx,
    pub clock: Clock,
    /// The instant that the grid of slots counts from.
    pub epoch: Instant,
    /// The line's share of the period, so that lines do not all ask at once.
    pub stagger: Duration,
    pub seed: u64,
    pub mailbox: Arc<Mailbox>,
    pub readings: mpsc::Sender<Reading>,
    pub status: watch::Sender<LineStatus>,
    pub stop: watch::Receiver<bool>,
}

/// What every owner of a line does between two jobs, be it a task or a thread.
#[derive(Debug)]
pub struct Turns<'a> {
    line: &'a Line,
    agenda: Agenda,
    published: Mono,
    /// When the job under way was given out.
    begun: Mono,
}

impl<'a> Turns<'a> {
    pub fn new(line: &'a Line) -> Turns<'a> {
        let before = line.status.borrow().clone();
        let first = line.mono() + line.stagger;
        let agenda = Agenda::new(&line.site, line.line, first, line.seed, before);
        Turns { line, agenda, published: Mono(0), begun: Mono(0) }
    }

    /// Looks at what is new, publishes the status now and then, and says what to do.
    pub fn next(&mut self) -> Job {
        self.line.mailbox.take(|slot, values| self.agenda.want(slot, values));
        for unit in self.line.mailbox.take_retries() {
            self.agenda.retry(unit);
        }
        if *self.line.stop.borrow() {
            self.agenda.stop();
        }
        let now = self.line.mono();
        let job = self.agenda.next(now);
        let idle = matches!(job, Job::Wait { .. } | Job::Finished);
        if idle || now.since(self.published) >= PUBLISH_EVERY {
            self.published = now;
            self.line.status.send_modify(|status| status.take(self.agenda.status()));
        }
        self.begun = now;
        job
    }

    /// Tells what came of it, and passes a reading on. An exchange took `took` on the wire; all of
    /// the time since [`Turns::next`] where that is not known.
    pub fn done(&mut self, took: Option<Duration>, outcome: Outcome) {
        let done = self.line.mono();
        let took = took.unwrap_or_else(|| done.since(self.begun));
        let at = self.line.clock.now().mono;
        if let Some(reading) = self.agenda.done(done, at, took, outcome)
            && self.line.readings.try_send(reading).is_err()
        {
            self.agenda.status().readings_dropped_total += 1;
        }
    }
}

impl Line {
    /// Serves the line until it is told to stop and the last sign is written.
    pub async fn run(self) {
        let (mut turns, mut wire, mut stop) = (Turns::new(&self), None, self.stop.clone());
        loop {
            let outcome = match turns.next() {
                Job::Finished => return,
                Job::Wait { until } => {
                    self.wait(until, &mut stop).await;
                    continue;
                }
                Job::Connect => self.connect(&mut wire).await,
                job => self.exchange(&mut wire, job).await,
            };
            turns.done(None, outcome);
        }
    }

    /// Real time since the epoch: a demo's clock is faster, devices are not.
    fn mono(&self) -> Mono {
        Mono(0) + self.epoch.elapsed()
    }

    async fn wait(&self, until: Option<Mono>, stop: &mut watch::Receiver<bool>) {
        let deadline = until.map(|until| self.epoch + until.since(Mono(0)));
        tokio::select! {
            biased;
            // An error means that nobody is left to stop or to ask for anything.
            changed = stop.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            },
            () = self.mailbox.wake() => (),
            () = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            } => (),
        }
    }

    async fn connect(&self, wire: &mut Option<Context>) -> Outcome {
        let Wire::Tcp { endpoint } = &self.site.lines[self.line.at()].wire else {
            return Outcome::NotConnected { why: "not a Modbus TCP line".to_owned() };
        };
        match timeout(CONNECT_MAX, TcpStream::connect(endpoint)).await {
            Ok(Ok(stream)) => {
                // Without it a write waits for an acknowledgement; if it cannot be set, it waits.
                let _ = stream.set_nodelay(true);
                *wire = Some(tcp::attach(stream));
                Outcome::Connected
            }
            Ok(Err(error)) => Outcome::NotConnected { why: error.to_string() },
            Err(_) => Outcome::NotConnected { why: format!("no answer in {CONNECT_MAX:?}") },
        }
    }

    /// One request and its answer. The connection survives an answer and nothing else.
    async fn exchange(&self, wire: &mut Option<Context>, job: Job) -> Outcome {
        let Some(context) = wire else {
            return Outcome::Closed { why: "not connected".to_owned() };
        };
        let unit = |address| {
            self.site.unit_at(self.line, address).expect("the agenda asks units of its line")
        };
        let outcome = match job {
            Job::Read { address, table, first, count } => {
                let within = Duration::from_millis(unit(address).timeout_ms.into());
                read(context, within, address, table, first, count).await
            }
            Job::Write { address, table, first, values, replies } => {
                // A display that answers no write is listened to all the same, to notice a refusal
                // or a closed connection, and for a late answer not to meet the next request.
                let unit = unit(address);
                let within_ms = if replies { unit.timeout_ms } else { unit.turnaround_ms.max(1) };
                let within = Duration::from_millis(within_ms.into());
                match write(context, within, address, table, first, &values).await {
                    Outcome::Silent if !replies => Outcome::Sent,
                    outcome => outcome,
                }
            }
            Job::Connect | Job::Wait { .. } | Job::Finished => unreachable!("not an exchange"),
        };
        if let Outcome::Silent | Outcome::Nonsense { .. } | Outcome::Closed { .. } = outcome {
            *wire = None;
        }
        outcome
    }
}

pub(crate) async fn read(
    context: &mut Context,
    within: Duration,
    address: u8,
    table: Table,
    first: u16,
    count: u16,
) -> Outcome {
    let request = match table {
        Table::Discrete => Request::ReadDiscreteInputs(first, count),
        Table::Coil => Request::ReadCoils(first, count),
        Table::Input => Request::ReadInputRegisters(first, count),
        Table::Holding => Request::ReadHoldingRegisters(first, count),
    };
    let count = usize::from(count);
    match call(context, within, address, request).await {
        // Bits come in whole bytes; the last one is padded.
        Ok(Response::ReadDiscreteInputs(mut bits) | Response::ReadCoils(mut bits))
            if bits.len() == count.next_multiple_of(8) =>
        {
            bits.truncate(count);
            Outcome::Bits(bits)
        }
        Ok(Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words))
            if words.len() == count =>
        {
            Outcome::Words(words)
        }
        Ok(_) => Outcome::Nonsense { why: format!("not an answer of {count} items") },
        Err(outcome) => outcome,
    }
}

pub(crate) async fn write(
    context: &mut Context,
    within: Duration,
    address: u8,
    table: Table,
    first: u16,
    values: &[u16],
) -> Outcome {
    let bits: Vec<bool>;
    let request = match (table.is_bits(), values) {
        (true, [value]) => Request::WriteSingleCoil(first, *value != 0),
        (true, values) => {
            bits = values.iter().map(|value| *value != 0).collect();
            Request::WriteMultipleCoils(first, Cow::Borrowed(&bits))
        }
        (false, [word]) => Request::WriteSingleRegister(first, *word),
        (false, words) => Request::WriteMultipleRegisters(first, Cow::Borrowed(words)),
    };
    match call(context, within, address, request).await {
        Ok(Response::WriteSingleRegister(at, word)) if at == first && [word] == values => {
            Outcome::Written
        }
        Ok(Response::WriteSingleCoil(at, on))
            if at == first && matches!(values, [value] if (*value != 0) == on) =>
        {
            Outcome::Written
        }
        Ok(
            Response::WriteMultipleRegisters(at, count) | Response::WriteMultipleCoils(at, count),
        ) if at == first && usize::from(count) == values.len() => Outcome::Written,
        Ok(_) => Outcome::Nonsense { why: "not an echo of the write".to_owned() },
        Err(outcome) => outcome,
    }
}

/// Sends a request and waits for its answer; the wait starts as the request is written.
pub(crate) async fn call(
    context: &mut Context,
    within: Duration,
    address: u8,
    request: Request<'_>,
) -> Result<Response, Outcome> {
    context.set_slave(Slave(address));
    match timeout(within, context.call(request)).await {
        Ok(Ok(Ok(response))) => Ok(response),
        Ok(Ok(Err(exception))) => Err(Outcome::Exception(exception.into())),
        Ok(Err(Error::Protocol(error))) => Err(Outcome::Nonsense { why: error.to_string() }),
        // The kind of a transport error is whatever errno was left: it decides nothing.
        Ok(Err(Error::Transport(error))) => Err(Outcome::Closed { why: error.to_string() }),
        Err(_) => Err(Outcome::Silent),
    }
}
