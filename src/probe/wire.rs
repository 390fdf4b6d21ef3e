//! The line that a probe asks on: opened by it, asked one thing at a time, closed with it.
//!
//! Calls wait, because a probe does nothing else meanwhile. As in the field, a connection
//! survives an answer and nothing else: a late answer must not be taken for the next one's.

use std::io;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_modbus::client::{Context, tcp};
use tokio_modbus::{Request, Response};

use crate::field::agenda::Outcome;
use crate::field::line;
use crate::probe::ask::{Change, Span};
use crate::profile::Table;
use crate::site::Wire;

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// A line under the probe's hands.
pub struct Port {
    wire: Wire,
    within: Duration,
    link: Link,
}

enum Link {
    Tcp { runtime: Runtime, context: Option<Context> },
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
        let link = match &wire {
            Wire::Tcp { .. } => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Link::Tcp { runtime, context: None }
            }
            Wire::RtuTcp { .. } | Wire::Serial { .. } => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "RTU lines are not probed yet",
                ));
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
        let (Link::Tcp { runtime, context }, Wire::Tcp { endpoint }) = (&mut self.link, &self.wire)
        else {
            return Ok(());
        };
        if context.is_some() {
            return Ok(());
        }
        let stream = runtime.block_on(async {
            match timeout(CONNECT_MAX, TcpStream::connect(endpoint.as_str())).await {
                Ok(stream) => stream,
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer in {CONNECT_MAX:?}"),
                )),
            }
        })?;
        // Without it a request waits for an acknowledgement; if it cannot be set, it waits.
        let _ = stream.set_nodelay(true);
        // Registers the stream with the runtime's reactor, so the runtime must be entered.
        let _entered = runtime.enter();
        *context = Some(tcp::attach(stream));
        Ok(())
    }

    /// Reads one block; it must be within the protocol's limits.
    pub fn read(&mut self, unit: u8, table: Table, first: u16, count: u16) -> Told {
        self.exchange(move |context, within| {
            Box::pin(line::read(context, within, unit, table, first, count))
        })
    }

    /// Reads one block of a span that fits into one request.
    pub fn read_span(&mut self, unit: u8, span: Span) -> Told {
        let count = u16::try_from(span.count()).unwrap_or(u16::MAX);
        self.read(unit, span.table, span.first, count)
    }

    /// Writes once; nothing here ever repeats a write.
    pub fn write(&mut self, unit: u8, change: &Change) -> Told {
        let change = change.clone();
        self.exchange(move |context, within| {
            Box::pin(async move {
                if change.table == Table::Coil {
                    write_coils(context, within, unit, &change).await
                } else {
                    line::write(context, within, unit, change.first, &change.words).await
                }
            })
        })
    }

    fn exchange<F>(&mut self, ask: F) -> Told
    where
        F: for<'a> FnOnce(
            &'a mut Context,
            Duration,
        ) -> std::pin::Pin<Box<dyn Future<Output = Outcome> + 'a>>,
    {
        if let Err(error) = self.connect() {
            let why = error.to_string();
            return Told { outcome: Outcome::NotConnected { why }, took: Duration::ZERO };
        }
        let Link::Tcp { runtime, context } = &mut self.link;
        let Some(connected) = context else {
            let why = "not connected".to_owned();
            return Told { outcome: Outcome::NotConnected { why }, took: Duration::ZERO };
        };
        let began = Instant::now();
        let outcome = runtime.block_on(ask(connected, self.within));
        let took = began.elapsed();
        if let Outcome::Silent | Outcome::Nonsense { .. } | Outcome::Closed { .. } = outcome {
            *context = None;
        }
        Told { outcome, took }
    }
}

async fn write_coils(
    context: &mut Context,
    within: Duration,
    unit: u8,
    change: &Change,
) -> Outcome {
    let bits: Vec<bool> = change.words.iter().map(|word| *word != 0).collect();
    let request = match bits.as_slice() {
        [bit] => Request::WriteSingleCoil(change.first, *bit),
        bits => Request::WriteMultipleCoils(change.first, bits.to_vec().into()),
    };
    match line::call(context, within, unit, request).await {
        Ok(Response::WriteSingleCoil(at, bit)) if at == change.first && [bit] == *bits => {
            Outcome::Written
        }
        Ok(Response::WriteMultipleCoils(at, count))
            if at == change.first && usize::from(count) == bits.len() =>
        {
            Outcome::Written
        }
        Ok(_) => Outcome::Nonsense { why: "not an echo of the write".to_owned() },
        Err(outcome) => outcome,
    }
}
