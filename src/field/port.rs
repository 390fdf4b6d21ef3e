//! A serial port or a converter's socket: bytes out, bytes in by a deadline, nothing else.
//!
//! Both are read without blocking behind a `poll` with a deadline in nanoseconds, because the
//! silences of a bus are a few milliseconds and a port's own time-outs count whole ones.

use std::io::{Error, ErrorKind, Result};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serial2::rs4xx::{Rs485Config, TransceiverMode};
use serial2::{CharSize, FlowControl, SerialPort, Settings, StopBits};

use crate::site::{Framing, Parity, Wire};

/// How long a connection may take, for all addresses of a name together.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// What came by the deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// So many bytes, at least one.
    Bytes(usize),
    Nothing,
}

/// An open port, closed when dropped.
#[derive(Debug)]
pub enum Port {
    Serial(SerialPort),
    Stream(TcpStream),
}

impl Port {
    /// Opens what the line runs over, for itself alone.
    ///
    /// # Errors
    ///
    /// There is no such port or peer, another process has it, or it cannot do what is configured.
    pub fn open(wire: &Wire) -> Result<Port> {
        match wire {
            Wire::Serial { path, framing, rs485 } => serial(path, *framing, *rs485),
            Wire::RtuTcp { endpoint, .. } => stream(endpoint),
            Wire::Tcp { .. } => Err(Error::other("not an RTU line")),
        }
    }

    /// Whether it leads to a converter, which passes frames on whole.
    pub fn is_stream(&self) -> bool {
        matches!(self, Port::Stream(_))
    }

    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// The port broke, or did not take it by then.
    pub fn write(&self, mut bytes: &[u8], by: Instant) -> Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(self.fd(), bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => (),
                Err(Errno::AGAIN) => {
                    if !self.ready(PollFlags::OUT, by)? {
                        return Err(Error::new(ErrorKind::TimedOut, "the port takes no bytes"));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for bytes until then; takes those that are there even where that has passed.
    ///
    /// # Errors
    ///
    /// The port broke or the peer closed.
    pub fn read(&self, bytes: &mut [u8], until: Instant) -> Result<Heard> {
        loop {
            if !self.ready(PollFlags::IN, until)? {
                return Ok(Heard::Nothing);
            }
            match rustix::io::read(self.fd(), &mut *bytes) {
                // What an unplugged adapter says, too.
                Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "the port closed")),
                Ok(count) => return Ok(Heard::Bytes(count)),
                Err(Errno::INTR | Errno::AGAIN) => (),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until it can be read or written, or until then.
    fn ready(&self, what: PollFlags, until: Instant) -> Result<bool> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(Error::other)?;
            match poll(&mut [PollFd::from_borrowed_fd(self.fd(), what)], Some(&left)) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => (),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Port::Serial(port) => port.as_fd(),
            Port::Stream(stream) => stream.as_fd(),
        }
    }
}

fn serial(path: &str, framing: Framing, rs485: bool) -> Result<Port> {
    let port = SerialPort::open(path, |mut settings: Settings| {
        settings.set_raw();
        settings.set_baud_rate(framing.baud)?;
        settings.set_char_size(CharSize::Bits8);
        settings.set_flow_control(FlowControl::None);
        settings.set_stop_bits(if framing.stop_bits == 2 { StopBits::Two } else { StopBits::One });
        settings.set_parity(match framing.parity {
            Parity::None => serial2::Parity::None,
            Parity::Even => serial2::Parity::Even,
            Parity::Odd => serial2::Parity::Odd,
        });
        Ok(settings)
    })?;
    // No other process may read our answers or write between our frames. The lock keeps two
    // gateways apart; the exclusive mode, which root overcomes, keeps everything else out.
    let lock = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&port, lock).map_err(|_| in_use())?;
    rustix::termios::ioctl_tiocexcl(&port).map_err(|_| in_use())?;
    if rs485 {
        port.set_rs4xx_mode(TransceiverMode::Rs485(Rs485Config::new()))
            .map_err(|error| Error::new(error.kind(), format!("rs485 = true: {error}")))?;
    }
    port.discard_buffers()?;
    Ok(Port::Serial(port))
}

fn in_use() -> Error {
    Error::new(ErrorKind::ResourceBusy, "another process has the port")
}

fn stream(endpoint: &str) -> Result<Port> {
    let by = Instant::now() + CONNECT_MAX;
    let mut last = Error::other("the name has no address");
    for address in endpoint.to_socket_addrs()? {
        let left = by.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                // Without it a request may wait for an acknowledgement.
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                return Ok(Port::Stream(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
