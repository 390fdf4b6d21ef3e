//! sled held to the model: the same random commits, deliveries, faults and restarts on both, and
//! after each the same records under the same numbers, and the same kept values.

use super::Dice;
use super::disk::{Batch, Disk};
use crate::gateway::Ticket;
use crate::record::{Body, Lane, Record};
use crate::store::tests::{Rig, lines};
use crate::store::{Found, queue::Item};
use crate::time::{Mono, Now, Wall};

#[test]
fn the_store_does_what_its_model_does() {
    for seed in 0..6 {
        let mut pair = Pair::new(seed);
        for _ in 0..60 {
            pair.act();
            pair.compare();
        }
        pair.rig.stop();
    }
}

struct Pair {
    dir: tempfile::TempDir,
    rig: Rig,
    model: Disk,
    dice: Dice,
    ticket: u64,
    made: u64,
}

impl Pair {
    fn new(seed: u64) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let rig = Rig::start(dir.path());
        Pair { rig, dir, model: Disk::new(0), dice: Dice(seed), ticket: 0, made: 0 }
    }

    fn act(&mut self) {
        match self.dice.below(10) {
            0..5 => self.commit(),
            5..8 => self.deliver(),
            8 => self.suspect(),
            _ => self.restart(),
        }
    }

    /// Some records of all lanes, and values kept and forgotten: of a key, the last one counts.
    fn commit(&mut self) {
        let mut items = Vec::new();
        for _ in 0..self.dice.below(40) + 1 {
            let lane = Lane::ALL[self.dice.below(3) as usize];
            let key = format!("unit/{}", self.dice.below(6));
            items.push(match self.dice.below(4) {
                0 => Item::Keep { key, value: Some(self.dice.below(1 << 40).to_string().into()) },
                1 => Item::Keep { key, value: None },
                _ => self.record(lane),
            });
        }
        let batch = Batch { items: items.clone(), removals: Vec::new() };
        self.apply(&batch);
        self.ticket += items.len() as u64;
        self.rig.push(items, self.ticket);
        self.rig.durable(self.ticket);
    }

    fn record(&mut self, lane: Lane) -> Item {
        self.made += 1;
        // Now and then one that fills a chunk by itself.
        let long = if self.dice.below(20) == 0 { 5_000 } else { 5 };
        let body = Body::UnitRetry { unit: self.made.to_string(), by: "x".repeat(long) };
        let at = Now { mono: Mono(self.made * 1_000_000), wall: Wall(1_795_438_800_000) };
        Item::Record(Record::new(lane, at, body))
    }

    /// What is first in a lane was delivered, and perhaps what comes next with it.
    fn deliver(&mut self) {
        let lane = Lane::ALL[self.dice.below(3) as usize];
        let (epoch, next) = (self.rig.epoch(), self.model.next[lane as usize]);
        let (mut from, mut removals) = (0, Vec::new());
        for _ in 0..self.dice.below(3) + 1 {
            let bytes_max = [0, 2_000, 1 << 20][self.dice.below(3) as usize];
            let found = self.rig.store.read(epoch, lane, from, next, bytes_max);
            let Found::Chunk(chunk) = found else { break };
            self.rig.store.remove(epoch, lane, chunk.first, chunk.last);
            removals.push((lane, chunk.first, chunk.last));
            from = chunk.last + 1;
        }
        if removals.is_empty() {
            return;
        }
        self.apply(&Batch { items: Vec::new(), removals });
        self.rig.store.hurry();
        let mut tide = self.rig.store.tide();
        let began = std::time::Instant::now();
        while tide.borrow_and_update().removed[lane as usize] < from {
            assert!(began.elapsed().as_secs() < 20, "never removed");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn apply(&mut self, batch: &Batch) {
        let writes = self.model.plan(batch);
        writes.into_iter().for_each(|write| self.model.apply(write));
    }

    /// A fault that passes: opened anew, nothing is lost.
    fn suspect(&mut self) {
        let generation = self.rig.store.tide().borrow().generation;
        self.rig.queue.suspect("a test".to_owned());
        self.rig.opened_after(generation);
        // The next one in a row would set the store aside; a delivery says that it is well.
        while self.model.lanes.iter().all(|lane| lane.is_empty()) {
            self.commit();
        }
        let strikes = |pair: &Pair| pair.model.lanes.iter().map(|lane| lane.len()).sum::<usize>();
        let before = strikes(self);
        while strikes(self) == before {
            self.deliver();
        }
    }

    fn restart(&mut self) {
        let rig = Rig::start(&self.dir.path().join("unused"));
        std::mem::replace(&mut self.rig, rig).stop();
        let rig = Rig::start(self.dir.path());
        std::mem::replace(&mut self.rig, rig).stop();
        self.ticket = 0;
        assert_eq!(*self.rig.store.durable().borrow(), Ticket(0));
        let kept: Vec<_> = self.model.kept.clone().into_iter().collect();
        assert_eq!(self.rig.kept.entries, kept);
        self.model.recover();
    }

    fn compare(&self) {
        let status = self.rig.store.status();
        for lane in Lane::ALL {
            let (theirs, at) = (&status.lanes[lane as usize], lane as usize);
            let ours = &self.model.lanes[at];
            assert_eq!((theirs.next, theirs.records), (self.model.next[at], ours.len() as u64));
            let chunks = self.rig.chunks(lane);
            let read: Vec<(u64, Body)> = chunks
                .iter()
                .flat_map(lines)
                .map(|line| (line["seq"].as_u64().unwrap(), serde_json::from_value(line).unwrap()))
                .collect();
            let modelled: Vec<(u64, Body)> =
                ours.iter().map(|(number, record)| (*number, record.body.clone())).collect();
            assert_eq!(read, modelled, "{}", lane.name());
        }
    }
}
