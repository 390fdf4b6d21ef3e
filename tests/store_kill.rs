//! SIGKILL at any moment, also while starting: what was called durable is there, in order, and no
//! number is given twice.
//!
//! The child is this same test binary, told by an environment variable to write through the real
//! store and to print each ticket once it is durable. It also drains from the head, as the uplink
//! does, and prints what it removed before it orders the removal. `PARKWAY_FULL=1` runs more
//! rounds.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use parkway::config::StoreTable;
use parkway::gateway::{Kept, Ticket};
use parkway::record::{Body, Lane, Record, Sensed};
use parkway::store::{self, Found, Item, Store};
use parkway::time::Clock;

const FOLDER: &str = "PARKWAY_KILL_TEST_STORE";
/// Records a ticket.
const BURST: u64 = 7;

/// Not a test of its own: the child's program, which does nothing unless it is told to.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let from: u64 = std::env::var("PARKWAY_KILL_TEST_FROM").unwrap().parse().unwrap();
    let (store, kept, _notices) = open(Path::new(&folder));
    say(&format!("open {} {:016x}", kept.entries.len(), store.status().epoch.unwrap()));
    let (queue, mark) = (store.queue(), store.durable());
    let (mut ticket, mut told, mut head) = (0, 0, 1);
    loop {
        ticket += 1;
        let base = from + (ticket - 1) * BURST;
        let mut items: Vec<Item> = (0..BURST).map(|n| bay(base + n)).collect();
        let value = Some((base + BURST).to_string().into_bytes());
        items.push(Item::Keep { key: "newest".to_owned(), value });
        queue.push(items, Ticket(ticket), ticket % 3 == 0);
        let durable = mark.borrow().0;
        if durable > told {
            told = durable;
            say(&format!("durable {}", from + durable * BURST));
        }
        // The oldest chunk counts as delivered, quicker than chunks come: a log that is nearly
        // drained is the one that sled rebuilds from a snapshot alone.
        if ticket % 2 == 0 {
            let tide = *store.tide().borrow();
            let before = tide.committed[Lane::Events as usize];
            let epoch = tide.epoch.unwrap_or(0);
            if let Found::Chunk(chunk) = store.read(epoch, Lane::Events, head, before, usize::MAX) {
                head = chunk.last + 1;
                say(&format!("removing {} {}", chunk.first, chunk.last));
                store.remove(epoch, Lane::Events, chunk.first, chunk.last);
            }
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

#[test]
fn nothing_durable_is_missing_after_any_kill() {
    let rounds = if std::env::var_os("PARKWAY_FULL").is_some() { 500 } else { 24 };
    let dir = tempfile::tempdir().unwrap();
    let mut truth = Truth::default();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut opening = Duration::from_millis(60);
    let mut unopened = 0;
    for round in 0..rounds {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let began = Instant::now();
        let (mut child, lines) = run_child(dir.path(), truth.next);
        if round % 3 == 2 {
            // While it starts: somewhere within the time that the last start took.
            std::thread::sleep(opening * (random % 100) as u32 / 100);
        } else {
            let opened = wait_open(&lines);
            opening = began.elapsed();
            truth.hear(&opened);
            std::thread::sleep(Duration::from_millis(20 + random % 400));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let said: Vec<String> = lines.iter().collect();
        let opened = round % 3 != 2 || said.iter().any(|line| line.starts_with("open "));
        unopened += u64::from(!opened);
        said.iter().for_each(|line| truth.hear(line));
        truth.check(dir.path());
    }
    eprintln!(
        "{rounds} kills, {unopened} before the store was open: {} records durable, numbers up to \
         {} removed, epoch {}",
        truth.durable, truth.removed_upto, truth.epoch
    );
    assert!(truth.durable > rounds * BURST, "hardly anything was written");
    assert!(unopened * 6 >= rounds, "only {unopened} kills hit a start");
}

/// What the children said, and so what must be on the disk. A record's bay is its own number.
#[derive(Default)]
struct Truth {
    epoch: String,
    /// Bays below this are durable.
    durable: u64,
    /// Removal of numbers up to this was ordered: they may be there or not.
    removed_upto: u64,
    /// The number that each bay was seen under, for bays from `settled` on.
    numbers: BTreeMap<u64, u64>,
    /// Bays below this were seen removed, and are asked for no more.
    settled: u64,
    /// The next child's first bay.
    next: u64,
}

impl Truth {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["open", _, epoch] => {
                if self.epoch.is_empty() {
                    self.epoch = (*epoch).to_owned();
                }
                assert_eq!(*epoch, self.epoch, "the store was set aside");
            }
            ["durable", upto] => self.durable = upto.parse().unwrap(),
            ["removing", _, last] => self.removed_upto = last.parse().unwrap(),
            // A line cut by the kill says nothing.
            _ => (),
        }
    }

    fn check(&mut self, folder: &Path) {
        let (store, kept, notices) = open(folder);
        let told: Vec<Body> = notices.try_iter().collect();
        assert!(told.is_empty(), "a killed store gave notices: {told:?}");
        let lanes = read_all(&store);
        let mut newest = 0;
        for (seq, bay) in &lanes {
            assert!(*seq > newest, "{seq} comes after {newest}");
            newest = *seq;
            let before = self.numbers.insert(*bay, *seq);
            assert!(before.is_none_or(|before| before == *seq), "bay {bay} changed its number");
        }
        let by_seq: BTreeMap<u64, u64> =
            self.numbers.iter().map(|(bay, seq)| (*seq, *bay)).collect();
        assert_eq!(by_seq.len(), self.numbers.len(), "a number was given twice");
        let there: BTreeMap<u64, u64> = lanes.iter().map(|(seq, bay)| (*bay, *seq)).collect();
        for bay in self.settled..self.durable {
            let number = self.numbers.get(&bay);
            // One never seen was removed before anybody looked; its order was announced.
            let gone = number.is_none_or(|number| *number <= self.removed_upto);
            assert!(gone || there.contains_key(&bay), "bay {bay} was durable and is missing");
        }
        let steps = lanes.windows(2).all(|pair| pair[1].1 == pair[0].1 + 1);
        assert!(steps, "a record between two others is missing: {lanes:?}");
        let end = lanes.last().map_or(self.durable, |(_, bay)| bay + 1);
        assert!(end >= self.durable, "what was durable last is missing: {end} of {}", self.durable);
        let first_there = lanes.first().map_or(self.removed_upto + 1, |(seq, _)| *seq);
        assert!(first_there <= self.removed_upto + 1, "the head is {first_there}");
        if self.durable > 0 {
            let newest: u64 = value(&kept, "newest");
            assert!(newest >= self.durable, "the kept value is older than the durable mark");
        }
        self.settled = lanes.first().map_or(self.durable, |(_, bay)| *bay).max(self.settled);
        self.numbers = self.numbers.split_off(&self.settled);
        self.next = lanes.last().map_or(0, |(_, bay)| bay + 1).max(self.durable);
        assert!(store.stop(Duration::from_secs(20)));
    }
}

fn value(kept: &Kept, key: &str) -> u64 {
    let entry = kept.entries.iter().find(|(at, _)| at == key).expect("a kept value is missing");
    std::str::from_utf8(&entry.1).unwrap().parse().unwrap()
}

fn read_all(store: &Store) -> Vec<(u64, u64)> {
    let tide = *store.tide().borrow();
    let (epoch, before) = (tide.epoch.unwrap_or(0), tide.committed[Lane::Events as usize]);
    let (mut from, mut all) = (0, Vec::new());
    while let Found::Chunk(chunk) = store.read(epoch, Lane::Events, from, before, 0) {
        from = chunk.last + 1;
        let lines: Vec<serde_json::Value> = serde_json::from_str(&chunk.json).unwrap();
        all.extend(lines.iter().map(|line| {
            (line["seq"].as_u64().unwrap(), line["bay"].as_str().unwrap().parse::<u64>().unwrap())
        }));
    }
    all
}

fn run_child(folder: &Path, from: u64) -> (Child, Receiver<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env("PARKWAY_KILL_TEST_FROM", from.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    (child, lines)
}

fn wait_open(lines: &Receiver<String>) -> String {
    let began = Instant::now();
    loop {
        let left = Duration::from_secs(30).saturating_sub(began.elapsed());
        let line = lines.recv_timeout(left).expect("the child did not open its store");
        if line.starts_with("open ") {
            return line;
        }
    }
}

fn open(folder: &Path) -> (Store, Kept, Receiver<Body>) {
    let table = StoreTable { commit_ms: 5, ..StoreTable::default() };
    let (sender, notices) = channel();
    let tell = move |body| sender.send(body).is_ok();
    let (boot, path) = ("boot".to_owned(), folder.to_owned());
    let (store, kept) = store::start(&table, path, boot, Clock::real(), tell, |_| true);
    (store, kept, notices)
}

fn bay(n: u64) -> Item {
    let body = Body::Bay { bay: n.to_string(), from: Sensed::Free, to: Sensed::Occupied };
    Item::Record(Record::new(Lane::Events, Clock::real().now(), body))
}

/// One write a line, so that a kill cuts at most the last one.
fn say(line: &str) {
    let mut out = std::io::stdout();
    // A parent that went away ends this process soon enough.
    let _ = out.write_all(format!("\n{line}\n").as_bytes());
    let _ = out.flush();
}
