//! A store made by the real writer, damage to its files, and the daemon itself on top of it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use parkway::config::StoreTable;
use parkway::gateway::Ticket;
use parkway::record::{Body, Lane, Record, Sensed};
use parkway::store::{self, Found, Item};
use parkway::time::Clock;

/// What a filled store holds: its epoch, and for each lane the lowest number and the next.
pub struct Filled {
    pub epoch: u64,
    pub head: [u64; 3],
    pub next: [u64; 3],
}

/// So many commits of records in all lanes, some of them delivered, and kept values; closed
/// cleanly. A record's bay is its own number.
pub fn fill(folder: &Path, commits: u64) -> Filled {
    let table = StoreTable { commit_ms: 5, ..StoreTable::default() };
    let (boot, path) = ("boot".to_owned(), folder.to_owned());
    let (store, _) = store::start(&table, path, boot, Clock::real(), |_| true, |_| true);
    let (queue, durable) = (store.queue(), store.durable());
    let mut next = [1; 3];
    for ticket in 1..=commits {
        let mut items = Vec::new();
        for (lane, records) in [(Lane::Alarms, 3), (Lane::Events, 50), (Lane::Aggregates, 10)] {
            for _ in 0..records {
                items.push(record(lane, next[lane as usize]));
                next[lane as usize] += 1;
            }
        }
        let value = Some(br#"{"vehicle":77,"zone":"A"}"#.to_vec());
        items.push(Item::Keep { key: format!("lease/{}", ticket % 40), value });
        queue.push(items, Ticket(ticket), true);
        wait("never durable", || *durable.borrow() >= Ticket(ticket));
    }
    let epoch = store.status().epoch.unwrap();
    let mut head = [1; 3];
    for lane in [Lane::Events, Lane::Aggregates] {
        let at = lane as usize;
        for _ in 0..3 {
            let found = store.read(epoch, lane, head[at], next[at], 0);
            let Found::Chunk(chunk) = found else { panic!("not read: {found:?}") };
            store.remove(epoch, lane, chunk.first, chunk.first);
            store.hurry();
            head[at] = chunk.last + 1;
            wait("never removed", || store.tide().borrow().removed[at] > chunk.first);
        }
    }
    assert!(store.stop(Duration::from_secs(20)));
    Filled { epoch, head, next }
}

pub fn record(lane: Lane, n: u64) -> Item {
    let body = Body::Bay { bay: n.to_string(), from: Sensed::Free, to: Sensed::Occupied };
    Item::Record(Record::new(lane, Clock::real().now(), body))
}

pub fn wait(failure: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "{failure}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Bytes of a file up to its last one that is not zero: behind it there is nothing to break.
fn used(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1
}

/// Flips a bit of a file, or cuts it there.
pub fn spoil(path: &Path, random: u64, cut: bool) -> String {
    let mut bytes = fs::read(path).unwrap();
    let at = usize::try_from(random % used(path)).unwrap().min(bytes.len().saturating_sub(1));
    let bit = random >> 60 & 7;
    if cut {
        bytes.truncate(at);
    } else if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
    fs::write(path, bytes).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    if cut { format!("{name} cut to {at}") } else { format!("{name} byte {at} bit {bit}") }
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(file.file_name());
        if file.path().is_dir() {
            copy(&file.path(), &target);
        } else {
            fs::copy(file.path(), target).unwrap();
        }
    }
}

/// The daemon, on the smallest site and the given store; nobody else is there.
pub struct Daemon {
    child: Child,
    pub address: String,
}

impl Daemon {
    pub fn start(folder: &Path, store: &Path) -> Daemon {
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{}", port());
        let site = include_str!("small.toml").replace("127.0.0.1:1883", "127.0.0.1:9");
        let site = site.replace("127.0.0.1:5020", "127.0.0.1:9");
        let file: PathBuf = folder.join("parkway.toml");
        let path = store.display();
        let tables = format!("[http]\nlisten = \"{address}\"\n[store]\npath = \"{path}\"\n");
        fs::write(&file, format!("{tables}{site}")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_parkway"));
        command.arg("run").arg("--config").arg(file);
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        Daemon { child: quiet.spawn().unwrap(), address }
    }

    /// The answer to a driver who asks, once there is one.
    pub fn allocation(&self, within: Duration) -> Option<String> {
        let began = Instant::now();
        while began.elapsed() < within {
            let body = r#"{"request_id": "r1", "at": "p1", "class": "car"}"#;
            if let Ok(answer) = self.post("/v1/allocations", body)
                && answer.starts_with("HTTP/1.0 2")
            {
                return Some(answer);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    fn post(&self, path: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.0\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}",
            self.address
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its store is looked at or thrown away afterwards; a kill may not hurt it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
