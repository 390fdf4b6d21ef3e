//! A Modbus TCP device on loopback that can lie, and a site of such devices.
//!
//! It works on raw sockets and threads, because a lie is a frame that no server library would
//! send. Every request is noted, so that a test can say what reached the wire and when.
#![allow(dead_code)]

pub mod bus;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parkway::gateway::Reading;
use parkway::site::Site;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    /// Which connection, from 0.
    pub connection: usize,
    /// Which request of all, from 0.
    pub number: usize,
    pub transaction: u16,
    pub unit: u8,
    pub function: u8,
    pub first: u16,
    /// How many are asked for, or the value of a single write.
    pub count: u16,
    /// Registers of a write; coils as 0 and 1.
    pub words: Vec<u16>,
}

/// What the device does about a request.
pub enum Act {
    /// The true answer.
    Answer,
    /// These bytes, whatever they are.
    Bytes(Vec<u8>),
    /// The true answer, too late.
    Late(Duration),
    Silence,
    Close,
}

/// A running device; it closes when dropped.
pub struct Peer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    streams: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
}

impl Peer {
    /// A device that does what `act` says.
    pub fn start(act: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Peer {
        Peer::start_at(TcpListener::bind("127.0.0.1:0").unwrap(), act)
    }

    pub fn start_at(
        listener: TcpListener,
        act: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Peer {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (ours, act) = (shared.clone(), Arc::new(act));
        // Blocking calls throughout: a device that polls would cost more than what it measures.
        let accepting = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if ours.stop.load(Ordering::Relaxed) {
                    return;
                }
                let connection = ours.connections.fetch_add(1, Ordering::Relaxed);
                ours.streams.lock().unwrap().push(stream.try_clone().unwrap());
                let (shared, act) = (ours.clone(), act.clone());
                thread::spawn(move || serve(stream, connection, &shared, &*act));
            }
        });
        Peer { address, shared, accepting: Mutex::new(Some(accepting)) }
    }

    /// Everything asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.log.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Closes every connection and the port.
    pub fn stop(&self) {
        let Some(accepting) = self.accepting.lock().unwrap().take() else { return };
        self.shared.stop.store(true, Ordering::Relaxed);
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the accepting thread, which then ends and closes the port.
        let _ = TcpStream::connect(self.address);
        accepting.join().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(
    mut stream: TcpStream,
    connection: usize,
    shared: &Shared,
    act: &(impl Fn(&Seen) -> Act + ?Sized),
) {
    stream.set_nodelay(true).unwrap();
    let mut head = [0u8; 7];
    while stream.read_exact(&mut head).is_ok() {
        let mut body = vec![0u8; usize::from(u16::from_be_bytes([head[4], head[5]])) - 1];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let word = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        let words = match body[0] {
            6 => vec![word(3)],
            5 => vec![u16::from(word(3) != 0)],
            15 => {
                let bit = |n: usize| u16::from(body[6 + n / 8] >> (n % 8) & 1);
                (0..usize::from(word(3))).map(bit).collect()
            }
            16 => (0..usize::from(word(3))).map(|n| word(6 + 2 * n)).collect(),
            _ => Vec::new(),
        };
        let mut log = shared.log.lock().unwrap();
        let seen = Seen {
            at: Instant::now(),
            connection,
            number: log.len(),
            transaction: u16::from_be_bytes([head[0], head[1]]),
            unit: head[6],
            function: body[0],
            first: word(1),
            count: word(3),
            words,
        };
        log.push(seen.clone());
        drop(log);
        let bytes = match act(&seen) {
            Act::Answer => answer(&seen),
            Act::Bytes(bytes) => bytes,
            Act::Late(by) => {
                thread::sleep(by);
                answer(&seen)
            }
            Act::Silence => continue,
            Act::Close => {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        };
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// What register `address` of a unit holds: different for every unit and address.
pub fn register(unit: u8, address: u16) -> u16 {
    let mixed = (u32::from(unit) * 65_537 + u32::from(address)).wrapping_mul(0x9e37_79b1);
    (mixed >> 16) as u16
}

/// The answer of an honest device.
pub fn answer(seen: &Seen) -> Vec<u8> {
    let pdu = match seen.function {
        3 | 4 => {
            let mut pdu = vec![seen.function, (seen.count * 2) as u8];
            for n in 0..seen.count {
                pdu.extend(register(seen.unit, seen.first + n).to_be_bytes());
            }
            pdu
        }
        1 | 2 => {
            let bytes = seen.count.div_ceil(8);
            let mut pdu = vec![seen.function, bytes as u8];
            pdu.extend((0..bytes).map(|n| register(seen.unit, seen.first / 8 + n) as u8));
            pdu
        }
        function => {
            let mut pdu = vec![function];
            pdu.extend(seen.first.to_be_bytes());
            pdu.extend(seen.count.to_be_bytes());
            pdu
        }
    };
    frame(seen.transaction, seen.unit, &pdu)
}

/// An answer to a read with these items, registers or coils.
pub fn holding(seen: &Seen, items: &[u16]) -> Act {
    let mut pdu = vec![seen.function];
    if matches!(seen.function, 1 | 2) {
        let mut bytes = vec![0u8; items.len().div_ceil(8)];
        for (n, item) in items.iter().enumerate() {
            bytes[n / 8] |= u8::from(*item != 0) << (n % 8);
        }
        pdu.push(bytes.len() as u8);
        pdu.extend(bytes);
    } else {
        pdu.push((items.len() * 2) as u8);
        items.iter().for_each(|item| pdu.extend(item.to_be_bytes()));
    }
    Act::Bytes(frame(seen.transaction, seen.unit, &pdu))
}

/// A refusal.
pub fn exception(seen: &Seen, code: u8) -> Act {
    Act::Bytes(frame(seen.transaction, seen.unit, &[seen.function | 0x80, code]))
}

pub fn frame(transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut bytes = transaction.to_be_bytes().to_vec();
    bytes.extend([0, 0]);
    bytes.extend((pdu.len() as u16 + 1).to_be_bytes());
    bytes.push(unit);
    bytes.extend(pdu);
    bytes
}

/// What a test says about a line.
pub struct LineOf<'a> {
    pub address: SocketAddr,
    pub period_ms: u32,
    pub timeout_ms: u32,
    /// Address and profile of each unit: "bays" (640 points in two blocks of 20 registers, and two
    /// counters), "plain" (630 points in one block), "few" (64 in 4 registers), "dense" (256 points
    /// with faults and two counters, all in one block of 36 registers), "panel" (64 numbers from 0,
    /// 8 texts of 8 characters from 1000), "mute" (4 numbers that answer no write), "slow" (a
    /// text of 4 registers, one at a time) or "lit" (630 points, a lamp for each in coils from
    /// 1000, and 8 outputs in coils from 2000 that are read back).
    pub units: &'a [(u8, &'a str)],
}

/// A site of these lines, read by the daemon's own parser; signs are named in TOML.
pub fn site(lines: &[LineOf<'_>], signs: &str) -> Arc<Site> {
    let tables: Vec<_> = lines.iter().map(|line| (line.keys(), line.units)).collect();
    site_of(&tables, signs)
}

impl LineOf<'_> {
    fn keys(&self) -> String {
        let LineOf { address, period_ms, timeout_ms, .. } = self;
        format!("tcp = \"{address}\"\nperiod_ms = {period_ms}\ntimeout_ms = {timeout_ms}\n")
    }
}

/// The same of lines whose keys are given in TOML.
pub fn site_of(lines: &[(String, &[(u8, &str)])], signs: &str) -> Arc<Site> {
    let mut text = String::from(HEAD);
    let mut zones = String::new();
    for (n, (keys, units)) in lines.iter().enumerate() {
        text += &format!("[[line]]\nid = \"l{n}\"\n{keys}");
        for (unit, profile) in *units {
            text += &format!(
                "[[line.unit]]\nid = \"u{n}-{unit}\"\naddress = {unit}\nprofile = \"{profile}\"\n"
            );
            let bays = match *profile {
                "bays" => 640,
                "plain" | "lit" => 630,
                "dense" => 256,
                "few" => 64,
                _ => 0,
            };
            if bays > 0 {
                zones += &format!(
                    "[[garage.level.zone]]\nid = \"z{n}-{unit}\"\nbays = \"1-{bays}\"\n\
                     unit = \"u{n}-{unit}\"\nfirst_point = 0\nwalk_s = 30\n"
                );
                if *profile == "lit" {
                    zones += &format!("lamps = \"u{n}-{unit}\"\n");
                }
            }
        }
    }
    text += GARAGE;
    text += &zones;
    // A site needs a bay; where no line of the test has one, a line nobody answers does.
    if zones.is_empty() {
        text += "[[garage.level.zone]]\nid = \"z\"\nbays = \"1\"\nunit = \"spare\"\n\
                 first_point = 0\nwalk_s = 30\n[[line]]\nid = \"spare\"\ntcp = \"127.0.0.1:9\"\n\
                 [[line.unit]]\nid = \"spare\"\naddress = 1\nprofile = \"bays\"\n";
    }
    text += signs;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.toml");
    std::fs::write(&path, text).unwrap();
    Arc::new(load(&path))
}

fn load(path: &Path) -> Site {
    match parkway::config::load(path) {
        Ok(config) => config.site,
        Err(problems) => panic!("{problems:#?}"),
    }
}

/// The port of a peer that just stopped; its listener may take a moment to go.
pub fn bind_again(address: SocketAddr) -> TcpListener {
    for _ in 0..100 {
        if let Ok(listener) = TcpListener::bind(address) {
            return listener;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("{address} stays in use");
}

/// The occupied bits that "bays" of this unit must give, in words of 64.
pub fn occupied(unit: u8) -> Vec<u64> {
    let word = |n: u16| (0..4).map(|k| u64::from(register(unit, 4 * n + k)) << (16 * k)).sum();
    (0..10).map(word).collect()
}

/// The counters that "bays" of this unit must give.
pub fn counters(unit: u8) -> Vec<u32> {
    let pair = |at: u16| u32::from(register(unit, at)) << 16 | u32::from(register(unit, at + 1));
    vec![pair(100), pair(102)]
}

/// Whether a reading of the unit at this address is true wherever it claims to know.
pub fn is_true(reading: &Reading, address: u8) -> bool {
    let truth = occupied(address);
    let said = reading.occupied.iter().zip(&reading.known).zip(&truth);
    said.into_iter().all(|((occupied, known), truth)| *occupied == truth & known)
        && (reading.counters.is_empty() || reading.counters == counters(address))
}

const HEAD: &str = r#"
[site]
id = "test"
name = "Test"
gateway = "edge-1"
[[class]]
id = "car"
[[node]]
id = "p1"
kind = "portal"
[[node]]
id = "door"
kind = "door"
[[link]]
from = "p1"
to = "door"
kind = "ring"
length_m = 100
speed_kmh = 20
[[destination]]
id = "d1"
at_m = [0, 0]
[[profile]]
id = "bays"
source = "a test"
bays = { table = "holding", base = 0, points = 640, layout = { kind = "bits" }, block_max = 20 }
counters = { table = "holding", base = 100, count = 2, word_order = "high-first" }
[[profile]]
id = "plain"
source = "a test"
bays = { table = "holding", base = 0, points = 630, layout = { kind = "bits" } }
[[profile]]
id = "few"
source = "a test"
bays = { table = "holding", base = 0, points = 64, layout = { kind = "bits" } }
[[profile]]
id = "dense"
source = "a test"
counters = { table = "holding", base = 32, count = 2, word_order = "high-first" }
[profile.bays]
table = "holding"
base = 0
points = 256
layout = { kind = "bits" }
fault_base = 16
[[profile]]
id = "panel"
source = "a test"
callout = { base = 1000, stride = 16, displays = 8, format = { kind = "text", chars = 8 } }
[profile.sign]
base = 0
stride = 1
displays = 64
format = { kind = "number", max = 9999, full = 10001, closed = 10002, blank = 10000 }
[[profile]]
id = "slow"
source = "a test"
[profile.sign]
base = 50
stride = 4
displays = 2
one_register = true
format = { kind = "text", chars = 8 }
[[profile]]
id = "lit"
source = "a test"
bays = { table = "holding", base = 0, points = 630, layout = { kind = "bits" } }
lamps = { table = "coil", base = 1000, points = 630, colours = { off = 0, green = 1 } }
outputs = { table = "coil", base = 2000, count = 8, read_back = true }
[[profile]]
id = "mute"
source = "a test"
[profile.sign]
base = 0
stride = 1
displays = 4
replies = false
format = { kind = "number", max = 9999, full = 10001, closed = 10002, blank = 10000 }
"#;

const GARAGE: &str = r#"
[[garage]]
id = "g01"
name = "G"
door = "door"
at_m = [0, 0]
[[garage.level]]
id = "B1"
drive_s = 10
"#;
