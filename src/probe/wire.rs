//! The line that a probe asks on: opened by it, asked one thing at a time, closed with it.
//!
//! Calls wait, because a probe does nothing else meanwhile. It keeps the field's own rules: over
//! TCP a connection survives an answer and nothing else; on RTU each frame has its silence, and a
//! unit that was silent is left alone for a while, because its late answer would be taken for the
//! next one's.

use std::io;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_modbus::client::{Context, tcp};

use crate::field::agenda::Outcome;
use crate::field::line;
use crate::field::port::{self, Heard};
use crate::field::rtu::{Answer, Ask, FRAME_MAX, Listener, answer_len, encode};
use crate::probe::ask::{Change, Span};
use crate::profile::Table;
use crate::site::{Framing, Wire};

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How much later than the wire's own time an answer may end: an adapter passes bytes on in lumps,
/// most of them every 16 ms at the latest.
const LUMP: Duration = Duration::from_millis(20);
/// How long a unit that was silent is left alone, in time-outs.
const LEFT_ALONE_TIMEOUTS: u32 = 3;
/// How long a line that is never silent is listened to before a request is given up.
const BABBLE_MAX: Duration = Duration::from_secs(3);

/// A line under the probe's hands.
pub struct Port {
    wire: Wire,
    within: Duration,
    link: Link,
}

enum Link {
    Tcp { runtime: Runtime, context: Option<Context> },
    Rtu(Bus),
}

/// A bus of characters.
struct Bus {
    framing: Framing,
    port: Option<port::Port>,
    /// When the last byte went or came.
    quiet_since: Instant,
    /// A unit that was silent, and until when it is not asked.
    alone: Option<(u8, Instant)>,
}

/// One answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    pub outcome: Outcome,
    /// From the request's first byte to the answer's last.
    pub took: Duration,
}

impl Told {
    pub fn took_us(&self) -> u64 {
        u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX)
    }
}

impl Port {
    /// Takes the line; answers are waited for `within` so long.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or the port is not ours to take.
    pub fn open(wire: Wire, within: Duration) -> io::Result<Port> {
        let link = match wire.framing() {
            None => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Link::Tcp { runtime, context: None }
            }
            Some(framing) => {
                let quiet_since = Instant::now();
                Link::Rtu(Bus { framing, port: None, quiet_since, alone: None })
            }
        };
        let mut port = Port { wire, within, link };
        port.connect()?;
        Ok(port)
    }

    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Waits so long for an answer from now on.
    pub fn wait_at_most(&mut self, within: Duration) {
        self.within = within;
    }

    fn connect(&mut self) -> io::Result<()> {
        match (&mut self.link, &self.wire) {
            (Link::Tcp { runtime, context }, Wire::Tcp { endpoint }) if context.is_none() => {
                *context = Some(connect(runtime, endpoint)?);
            }
            (Link::Rtu(bus), wire) if bus.port.is_none() => {
                bus.port = Some(port::Port::open(wire)?);
                bus.quiet_since = Instant::now();
            }
            _ => (),
        }
        Ok(())
    }

    /// Reads one block; it must be within the protocol's limits.
    pub fn read(&mut self, unit: u8, table: Table, first: u16, count: u16) -> Told {
        self.exchange(unit, Ask::Read { table, first, count })
    }

    /// Reads one block of a span that fits into one request.
    pub fn read_span(&mut self, unit: u8, span: Span) -> Told {
        let count = u16::try_from(span.count()).unwrap_or(u16::MAX);
        self.read(unit, span.table, span.first, count)
    }

    /// Writes once; nothing here ever repeats a write.
    pub fn write(&mut self, unit: u8, change: &Change) -> Told {
        let Change { table, first, words } = change;
        self.exchange(unit, Ask::Write { table: *table, first: *first, values: words })
    }

    fn exchange(&mut self, unit: u8, ask: Ask<'_>) -> Told {
        if let Err(error) = self.connect() {
            let why = error.to_string();
            return Told { outcome: Outcome::NotConnected { why }, took: Duration::ZERO };
        }
        match &mut self.link {
            Link::Rtu(bus) => bus.exchange(unit, ask, self.within),
            Link::Tcp { runtime, context } => {
                let Some(connected) = context else {
                    let why = "not connected".to_owned();
                    return Told { outcome: Outcome::NotConnected { why }, took: Duration::ZERO };
                };
                let began = Instant::now();
                let outcome = runtime.block_on(over_tcp(connected, self.within, unit, ask));
                let took = began.elapsed();
                if let Outcome::Silent | Outcome::Nonsense { .. } | Outcome::Closed { .. } = outcome
                {
                    *context = None;
                }
                Told { outcome, took }
            }
        }
    }
}

fn connect(runtime: &Runtime, endpoint: &str) -> io::Result<Context> {
    let stream = runtime.block_on(async {
        match timeout(CONNECT_MAX, TcpStream::connect(endpoint)).await {
            Ok(stream) => stream,
            Err(_) => {
                let why = format!("no answer in {CONNECT_MAX:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            }
        }
    })?;
    // Without it a request waits for an acknowledgement; if it cannot be set, it waits.
    let _ = stream.set_nodelay(true);
    Ok(tcp::attach(stream))
}

async fn over_tcp(context: &mut Context, within: Duration, unit: u8, ask: Ask<'_>) -> Outcome {
    match ask {
        Ask::Read { table, first, count } => {
            line::read(context, within, unit, table, first, count).await
        }
        Ask::Write { table, first, values } => {
            line::write(context, within, unit, table, first, values).await
        }
    }
}

impl Bus {
    fn exchange(&mut self, unit: u8, ask: Ask<'_>, within: Duration) -> Told {
        let Some(port) = self.port.take() else {
            let why = "not connected".to_owned();
            return Told { outcome: Outcome::NotConnected { why }, took: Duration::ZERO };
        };
        let mut began = Instant::now();
        match self.talk(&port, unit, ask, within, &mut began) {
            Ok(outcome) => {
                let took = began.elapsed();
                if let Outcome::Silent | Outcome::Nonsense { .. } = outcome {
                    let until = Instant::now() + within * LEFT_ALONE_TIMEOUTS;
                    self.alone = Some((unit, until));
                }
                self.port = Some(port);
                Told { outcome, took }
            }
            // What is broken is opened anew.
            Err(error) => {
                Told { outcome: Outcome::Closed { why: error.to_string() }, took: began.elapsed() }
            }
        }
    }

    fn talk(
        &mut self,
        port: &port::Port,
        unit: u8,
        ask: Ask<'_>,
        within: Duration,
        began: &mut Instant,
    ) -> io::Result<Outcome> {
        if !self.fall_silent(port, unit)? {
            return Ok(Outcome::Nonsense { why: "the line is never silent".to_owned() });
        }
        let frame = encode(unit, ask);
        *began = Instant::now();
        port.write(&frame, *began + within)?;
        // The kernel takes a frame at once; the wire needs longer.
        let sent = *began + self.framing.characters(frame.len() as u32);
        self.quiet_since = sent;
        let first_by = sent + within;
        let last_by = first_by + self.framing.characters(answer_len(ask) as u32) + LUMP;
        // A converter passes an answer on when it has all of it.
        let mut until = if port.is_stream() { last_by } else { first_by };
        let mut listener = Listener::new(unit, ask);
        let mut bytes = [0; FRAME_MAX];
        while let Heard::Bytes(count) = port.read(&mut bytes, until)? {
            self.quiet_since = Instant::now();
            until = last_by;
            if let Some(answer) = listener.take(&bytes[..count]) {
                return Ok(match answer {
                    Answer::Bits(bits) => Outcome::Bits(bits),
                    Answer::Words(words) => Outcome::Words(words),
                    Answer::Written => Outcome::Written,
                    Answer::Exception(code) => Outcome::Exception(code),
                });
            }
        }
        let heard = listener.heard();
        // A technician with the wrong baud rate or swapped wires sees exactly this.
        Ok(match heard {
            heard if heard.noise > 0 => Outcome::Nonsense {
                why: format!("{} bytes of no sound frame: baud rate, parity?", heard.noise),
            },
            heard if heard.misfits + heard.foreign > 0 => Outcome::Nonsense {
                why: format!(
                    "{} frames that answer something else: is another master on the bus?",
                    heard.misfits + heard.foreign
                ),
            },
            heard if heard.echoes > 0 => Outcome::Nonsense {
                why: "our own request alone: the adapter hears itself, and nobody answers".into(),
            },
            _ => Outcome::Silent,
        })
    }

    /// Waits until the line was silent for long enough, and a silent unit was left alone, throwing
    /// away what still comes. False where that never happens.
    fn fall_silent(&mut self, port: &port::Port, unit: u8) -> io::Result<bool> {
        let give_up = Instant::now() + BABBLE_MAX;
        let alone = self.alone.take_if(|(silent, _)| *silent == unit).map(|(_, until)| until);
        let mut bytes = [0; FRAME_MAX];
        loop {
            let silent = self.quiet_since + self.framing.silence();
            let until = alone.map_or(silent, |alone| alone.max(silent));
            match port.read(&mut bytes, until)? {
                Heard::Nothing => return Ok(true),
                Heard::Bytes(_) if Instant::now() > give_up.max(until) => return Ok(false),
                Heard::Bytes(_) => self.quiet_since = Instant::now(),
            }
        }
    }
}
