//! A Modbus RTU bus that can lie: units behind a pseudo-terminal, or behind a TCP converter.
//!
//! A pseudo-terminal has no speed, so the bus paces what it says: each byte is passed on at the
//! instant at which a wire of that speed would have delivered it whole, and a request counts as
//! heard when its last byte would have arrived. A converter passes an answer on in one piece. What
//! is still to be said outlives a closed port, as it does on a real bus.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parkway::field::rtu::crc;
use parkway::site::{Framing, Parity};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::{Seen, answer};

/// How long an honest unit thinks.
pub const THINKS: Duration = Duration::from_millis(3);
/// How often a bus with nothing to do looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);
/// More bytes than an answer can have are said without sleeping in between.
const BABBLE: usize = 256;
/// How long a request may be on its way through the terminal on a busy machine.
const DELIVERY: Duration = Duration::from_millis(5);

/// A request as a unit heard it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub seen: Seen,
    /// From the last byte that any unit said to the request's first.
    pub quiet: Option<Duration>,
}

/// What is said after a request: pauses, each followed by bytes.
pub type Said = Vec<(Duration, Vec<u8>)>;

type Act = dyn Fn(&Seen) -> Said + Send + Sync;

/// Where the bus can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Pty,
    Converter,
}

/// A running bus; it ends when dropped.
pub struct Bus {
    way: Way,
    framing: Framing,
    /// Holds the name of the port, which stays when the port goes.
    folder: tempfile::TempDir,
    address: Mutex<Option<SocketAddr>>,
    shared: Arc<Shared>,
    running: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    framing: Framing,
    way: Way,
    act: Box<Act>,
    log: Mutex<Vec<Asked>>,
    faults: Mutex<Vec<String>>,
    opened: AtomicUsize,
    stop: AtomicBool,
}

/// A line of 8N1 characters.
pub fn framing(baud: u32) -> Framing {
    Framing { baud, parity: Parity::None, stop_bits: 1 }
}

/// The honest answer, without its pause.
pub fn honest(seen: &Seen) -> Vec<u8> {
    framed(&answer(seen)[6..])
}

/// These bytes and their checksum.
pub fn framed(bytes: &[u8]) -> Vec<u8> {
    [bytes, &crc(bytes).to_le_bytes()].concat()
}

/// Says one thing after thinking.
pub fn says(bytes: Vec<u8>) -> Said {
    vec![(THINKS, bytes)]
}

impl Bus {
    pub fn start(way: Way, baud: u32, act: impl Fn(&Seen) -> Said + Send + Sync + 'static) -> Bus {
        let framing = framing(baud);
        let shared = Arc::new(Shared {
            framing,
            way,
            act: Box::new(act),
            log: Mutex::default(),
            faults: Mutex::default(),
            opened: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let folder = tempfile::tempdir().unwrap();
        let (address, running) = (Mutex::default(), Mutex::default());
        let bus = Bus { way, framing, folder, address, shared, running };
        bus.plug();
        bus
    }

    /// The keys of the line in TOML.
    pub fn keys(&self, period_ms: u32, timeout_ms: u32) -> String {
        let wire = match self.way {
            Way::Pty => format!("serial = {:?}", self.path()),
            Way::Converter => format!("rtu_tcp = \"{}\"", self.address.lock().unwrap().unwrap()),
        };
        let baud = self.framing.baud;
        format!("{wire}\nbaud = {baud}\nperiod_ms = {period_ms}\ntimeout_ms = {timeout_ms}\n")
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("port")
    }

    /// Everything asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.log.lock().unwrap().clone()
    }

    /// Requests that were none: broken frames, bytes too many.
    pub fn faults(&self) -> Vec<String> {
        self.shared.faults.lock().unwrap().clone()
    }

    /// How often the port was opened or the converter connected to; only the latter is known.
    pub fn connections(&self) -> usize {
        self.shared.opened.load(Ordering::Relaxed)
    }

    /// Takes the port away: what has it open finds it broken.
    pub fn unplug(&self) {
        let Some(running) = self.running.lock().unwrap().take() else { return };
        self.shared.stop.store(true, Ordering::Relaxed);
        running.join().unwrap();
    }

    /// Brings it back under the same name.
    pub fn plug(&self) {
        self.shared.stop.store(false, Ordering::Relaxed);
        let shared = self.shared.clone();
        let running = match self.way {
            Way::Pty => {
                let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
                let master = openpt(flags).unwrap();
                grantpt(&master).unwrap();
                unlockpt(&master).unwrap();
                let name = ptsname(&master, Vec::new()).unwrap();
                let _ = std::fs::remove_file(self.path());
                std::os::unix::fs::symlink(name.to_str().unwrap(), self.path()).unwrap();
                let mut master = File::from(master);
                rustix::io::ioctl_fionbio(&master, true).unwrap();
                thread::spawn(move || serve(&mut master, &shared, &mut Voice::default()))
            }
            Way::Converter => {
                let known = *self.address.lock().unwrap();
                let listener = match known {
                    Some(address) => super::bind_again(address),
                    None => TcpListener::bind("127.0.0.1:0").unwrap(),
                };
                *self.address.lock().unwrap() = Some(listener.local_addr().unwrap());
                thread::spawn(move || converter(&listener, &shared))
            }
        };
        *self.running.lock().unwrap() = Some(running);
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.unplug();
    }
}

/// Bytes that are still to be said, each at its instant.
#[derive(Default)]
struct Voice {
    due: VecDeque<(Instant, u8)>,
    spoke: Option<Instant>,
    /// When this machine last held it up for a silence or longer, and for how long.
    held_up: Option<(Instant, Duration)>,
}

fn converter(listener: &TcpListener, shared: &Shared) {
    listener.set_nonblocking(true).unwrap();
    let mut voice = Voice::default();
    while !shared.stop.load(Ordering::Relaxed) {
        let accepted: Option<TcpStream> = listener.accept().ok().map(|(stream, _)| stream);
        let Some(mut stream) = accepted else {
            readable(listener, LOOK);
            continue;
        };
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        shared.opened.fetch_add(1, Ordering::Relaxed);
        serve(&mut stream, shared, &mut voice);
    }
}

/// Speaks and listens until told to stop, or a peer of the converter closes.
fn serve(port: &mut (impl Read + Write + AsFd), shared: &Shared, voice: &mut Voice) {
    let (mut heard, mut begun, mut bytes) = (Vec::new(), Instant::now(), [0; 512]);
    let mut quiet = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let next = match voice.speak(port, shared.framing) {
            // Waking up late would leave silences in it.
            Some(_) if voice.due.len() > BABBLE => Duration::ZERO,
            Some(due) => due.saturating_duration_since(Instant::now()).min(LOOK),
            None => LOOK,
        };
        readable(port, next);
        match port.read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => {
                if heard.is_empty() {
                    begun = Instant::now();
                    quiet = voice.quiet(begun);
                }
                heard.extend_from_slice(&bytes[..count]);
                if let Some(request) = whole(&mut heard, shared) {
                    let seen = shared.note(&request, begun, quiet);
                    let end = begun + shared.framing.characters(request.len() as u32);
                    voice.plan((shared.act)(&seen), end, shared);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            // Nobody has the terminal open.
            Err(_) if shared.way == Way::Pty => thread::sleep(Duration::from_millis(2)),
            Err(_) => return,
        }
    }
}

impl Voice {
    /// Says what is due; gives when the next byte is.
    fn speak(&mut self, port: &mut impl Write, framing: Framing) -> Option<Instant> {
        let mut bytes = Vec::new();
        let first = self.due.front().map(|(due, _)| *due);
        while let Some(&(due, byte)) = self.due.front() {
            if due > Instant::now() {
                break;
            }
            bytes.push(byte);
            self.due.pop_front();
        }
        if !bytes.is_empty() {
            let now = Instant::now();
            let late = first.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
            // The byte before it ended a character earlier.
            let pause = late + framing.characters(1);
            if pause >= framing.silence() {
                self.held_up = Some((now, pause));
            }
            self.spoke = Some(now);
            // A port that nobody has open loses what is said on it.
            let _ = port.write_all(&bytes);
        }
        self.due.front().map(|(due, _)| *due)
    }

    /// How long the bus was silent before what was heard at `begun`. It was sent a moment earlier:
    /// a talker that was held up just then had been silent, for all others.
    fn quiet(&self, begun: Instant) -> Option<Duration> {
        let since = begun.saturating_duration_since(self.spoke?);
        let held_up = self.held_up.filter(|(end, _)| begun.duration_since(*end) < DELIVERY);
        Some(since.max(held_up.map_or(Duration::ZERO, |(_, pause)| pause)))
    }

    fn plan(&mut self, said: Said, mut at: Instant, shared: &Shared) {
        for (pause, bytes) in said {
            at += pause;
            let end = at + shared.framing.characters(bytes.len() as u32);
            for byte in bytes {
                at += shared.framing.characters(1);
                self.due.push_back((if shared.way == Way::Pty { at } else { end }, byte));
            }
        }
        // Two units that speak at once garble each other.
        self.due.make_contiguous().sort_by_key(|(due, _)| *due);
    }
}

impl Shared {
    fn note(&self, request: &[u8], at: Instant, quiet: Option<Duration>) -> Seen {
        let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
        let words = match request[1] {
            6 => vec![word(4)],
            16 => (0..usize::from(word(4))).map(|n| word(7 + 2 * n)).collect(),
            _ => Vec::new(),
        };
        let mut log = self.log.lock().unwrap();
        let seen = Seen {
            at,
            connection: self.opened.load(Ordering::Relaxed),
            number: log.len(),
            transaction: 0,
            unit: request[0],
            function: request[1],
            first: word(2),
            count: word(4),
            words,
        };
        log.push(Asked { seen: seen.clone(), quiet });
        seen
    }
}

/// Takes the request out of what was heard, once it is whole.
fn whole(heard: &mut Vec<u8>, shared: &Shared) -> Option<Vec<u8>> {
    let length = match heard.get(1)? {
        1..=6 => 8,
        15 | 16 => 9 + usize::from(*heard.get(6)?),
        _ => heard.len(),
    };
    if heard.len() < length {
        return None;
    }
    let request = std::mem::take(heard);
    if request.len() > length || crc(&request) != 0 {
        shared.faults.lock().unwrap().push(format!("{request:?}"));
        return None;
    }
    Some(request)
}

fn readable(port: &impl AsFd, within: Duration) {
    let within = Timespec::try_from(within).unwrap();
    let _ = poll(&mut [PollFd::new(port, PollFlags::IN)], Some(&within));
}
