//! The owner of one RTU line, on a thread of its own: does what its agenda says.
//!
//! A thread, because an async timer ends up to a millisecond late, and an exchange on a bus at
//! 9,600 baud takes 23. Between two requests it keeps the silence that the framing demands and
//! not much more: the wait begins at the last byte that was heard. The time-out begins when the
//! request's last byte is on the wire. What comes before a request is thrown away, and `rtu` takes
//! nothing but the answer to the request for one.
//!
//! A port stays open after a silence: on a bus one unit's silence says nothing about the others.
//! It is opened anew after an error, and when nobody has answered for some seconds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{debug, error};

use crate::field::REST;
use crate::field::agenda::{Job, Outcome};
use crate::field::line::{Line, Turns};
use crate::field::port::{Heard, Port};
use crate::field::rtu::{Answer, Ask, FRAME_MAX, Listener, answer_len, encode};
use crate::site::{Framing, Unit};
use crate::time::Mono;

/// What a thread of ours needs, with room to spare; only what is used is ever resident.
const STACK_BYTES: usize = 256 * 1024;
/// A port on which nobody answered for so long is opened anew: an adapter may be stuck.
const DEAF: Duration = Duration::from_secs(10);
/// How much later than the wire's own time an answer may end: an adapter passes bytes on in lumps,
/// most of them every 16 ms at the latest.
const LUMP: Duration = Duration::from_millis(20);
/// How long a line that is never silent is listened to before a request is given up, in time-outs.
const BABBLE_TIMEOUTS: u32 = 3;

/// Runs an owner on a thread of its own until it is told to stop and the last sign is written, or
/// until everything is to be dropped; starts it anew if it panics. `ended` goes with the thread.
///
/// # Errors
///
/// The system gives no thread.
pub fn start(
    line: Line,
    drop_all: watch::Receiver<bool>,
    ended: std::sync::mpsc::Sender<()>,
) -> std::io::Result<()> {
    let id = line.site.lines[line.line.at()].id.clone();
    let builder = thread::Builder::new().name(format!("rtu {id}")).stack_size(STACK_BYTES);
    builder.spawn(move || {
        let ended = ended;
        while catch_unwind(AssertUnwindSafe(|| Bus::new(&line, &drop_all).run())).is_err() {
            error!(line = id, "line owner panicked, starting it anew");
            thread::sleep(REST);
            line.mailbox.repeat();
        }
        drop(ended);
    })?;
    Ok(())
}

struct Bus<'a> {
    line: &'a Line,
    drop_all: &'a watch::Receiver<bool>,
    framing: Framing,
    port: Option<Port>,
    /// When the last byte went or came, as far as is known.
    quiet_since: Instant,
    /// Silence that the unit asked last wants after it.
    gap: Duration,
    answered_at: Instant,
}

impl<'a> Bus<'a> {
    fn new(line: &'a Line, drop_all: &'a watch::Receiver<bool>) -> Bus<'a> {
        let wire = &line.site.lines[line.line.at()].wire;
        let epoch = line.epoch.into_std();
        Bus {
            line,
            drop_all,
            framing: wire.framing().expect("only RTU lines are started here"),
            port: None,
            quiet_since: epoch,
            gap: Duration::ZERO,
            answered_at: epoch,
        }
    }

    fn run(&mut self) {
        let mut turns = Turns::new(self.line);
        while !*self.drop_all.borrow() {
            match turns.next() {
                Job::Finished => return,
                Job::Wait { until } => {
                    let epoch = self.line.epoch.into_std();
                    self.line.mailbox.wait(until.map(|until| epoch + until.since(Mono(0))));
                }
                Job::Connect => {
                    let outcome = self.connect();
                    turns.done(None, outcome);
                }
                job => {
                    let (outcome, took) = self.exchange(&job);
                    turns.done(Some(took), outcome);
                }
            }
        }
    }

    fn connect(&mut self) -> Outcome {
        let deaf = self.answered_at.elapsed() >= DEAF;
        if self.port.is_some() && !deaf {
            return Outcome::Connected;
        }
        // First closed: a port that is locked for others is locked for us too.
        self.port = None;
        match Port::open(&self.line.site.lines[self.line.line.at()].wire) {
            Ok(port) => {
                self.port = Some(port);
                self.quiet_since = Instant::now();
                self.answered_at = self.quiet_since;
                Outcome::Connected
            }
            Err(error) => Outcome::NotConnected { why: error.to_string() },
        }
    }

    /// One request and its answer, and the time from the request's first byte.
    fn exchange(&mut self, job: &Job) -> (Outcome, Duration) {
        let (address, ask, replies) = match job {
            Job::Read { address, table, first, count } => {
                (*address, Ask::Read { table: *table, first: *first, count: *count }, true)
            }
            Job::Write { address, table, first, values, replies } => {
                let ask = Ask::Write { table: *table, first: *first, values };
                (*address, ask, *replies)
            }
            Job::Connect | Job::Wait { .. } | Job::Finished => unreachable!("not an exchange"),
        };
        let Some(port) = self.port.take() else {
            return (Outcome::Closed { why: "not connected".to_owned() }, Duration::ZERO);
        };
        let mut begun = Instant::now();
        let outcome = match self.talk(&port, address, ask, replies, &mut begun) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Closed { why: error.to_string() },
        };
        // Bytes that make no sense are stepped over; only what is broken is opened anew.
        let broken = matches!(outcome, Outcome::Closed { .. });
        self.port = (!broken).then_some(port);
        if let Outcome::Bits(_) | Outcome::Words(_) | Outcome::Written | Outcome::Exception(_) =
            outcome
        {
            self.answered_at = Instant::now();
        }
        (outcome, begun.elapsed())
    }

    fn talk(
        &mut self,
        port: &Port,
        address: u8,
        ask: Ask<'_>,
        replies: bool,
        begun: &mut Instant,
    ) -> std::io::Result<Outcome> {
        let site = self.line.site.clone();
        let unit =
            site.unit_at(self.line.line, address).expect("the agenda asks units of its line");
        if !self.fall_silent(port, unit)? {
            return Ok(Outcome::Nonsense { why: "the line is never silent".to_owned() });
        }
        let frame = encode(address, ask);
        *begun = Instant::now();
        port.write(&frame, *begun + millis(unit.timeout_ms))?;
        // The kernel takes a frame at once; the wire needs longer.
        let sent = *begun + self.framing.characters(frame.len() as u32);
        self.quiet_since = sent;
        let first_by = sent + millis(if replies { unit.timeout_ms } else { unit.turnaround_ms });
        let last_by = first_by + self.framing.characters(answer_len(ask) as u32) + LUMP;
        let mut listener = Listener::new(address, ask);
        // A converter passes an answer on when it has all of it.
        let mut until = if port.is_stream() { last_by } else { first_by };
        let mut bytes = [0; FRAME_MAX];
        loop {
            match port.read(&mut bytes, until)? {
                Heard::Bytes(count) => {
                    self.quiet_since = Instant::now();
                    until = last_by;
                    if let Some(answer) = listener.take(&bytes[..count]) {
                        return Ok(outcome(answer));
                    }
                }
                Heard::Nothing => break,
            }
        }
        let heard = listener.heard();
        if heard != Default::default() {
            debug!(unit = unit.id, ?heard, "no answer, but something else");
        }
        Ok(match heard {
            _ if !replies => Outcome::Sent,
            heard if heard.misfits > 0 => {
                Outcome::Nonsense { why: format!("{} frames that do not fit", heard.misfits) }
            }
            heard if heard.noise > 0 => {
                Outcome::Nonsense { why: format!("{} bytes of no sound frame", heard.noise) }
            }
            _ => Outcome::Silent,
        })
    }

    /// Waits until the line was silent for long enough, throwing away what still comes: a late
    /// answer, or noise. False where that never happens.
    fn fall_silent(&mut self, port: &Port, unit: &Unit) -> std::io::Result<bool> {
        let gap = millis(unit.gap_ms);
        let silence = self.framing.silence().max(gap).max(self.gap);
        self.gap = gap;
        let give_up = Instant::now() + silence + millis(unit.timeout_ms) * BABBLE_TIMEOUTS;
        let mut bytes = [0; FRAME_MAX];
        loop {
            match port.read(&mut bytes, self.quiet_since + silence)? {
                Heard::Nothing => return Ok(true),
                Heard::Bytes(_) if Instant::now() > give_up => return Ok(false),
                Heard::Bytes(_) => self.quiet_since = Instant::now(),
            }
        }
    }
}

fn outcome(answer: Answer) -> Outcome {
    match answer {
        Answer::Bits(bits) => Outcome::Bits(bits),
        Answer::Words(words) => Outcome::Words(words),
        Answer::Written => Outcome::Written,
        Answer::Exception(code) => Outcome::Exception(code),
    }
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}
