//! Link, broker and consumer as a model, and the judge of what arrives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::outbox::Verdict;
use crate::record::{Body, Lane, Record, Sensed};

/// A message on its way.
#[derive(Clone, Debug)]
pub struct Message {
    pub epoch: u64,
    pub lane: Lane,
    pub token: u64,
    pub records: Vec<(u64, Record)>,
}

/// Everything beyond the gateway's socket.
#[derive(Debug, Default)]
pub struct Upstream {
    /// On its way to the broker, and answers on their way back.
    pub wire: VecDeque<Message>,
    pub answers: VecDeque<(Lane, u64, Verdict)>,
    pub refusing: [bool; 3],
    /// What the disk has ever made durable, by epoch and lane: what may arrive.
    pub committed: BTreeMap<(u64, usize), BTreeMap<u64, Record>>,
    /// What has arrived.
    arrived: BTreeMap<(u64, usize), BTreeMap<u64, Record>>,
    pub picture: Picture,
}

/// What a consumer believes.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    pub bays: BTreeMap<String, Sensed>,
    pub leases: BTreeSet<String>,
    pub closed: BTreeSet<String>,
}

impl Upstream {
    /// The broker takes the next message and answers; false where there is none.
    pub fn read(&mut self) -> bool {
        let Some(message) = self.wire.pop_front() else { return false };
        let Message { lane, token, .. } = message;
        let verdict = if self.refusing[lane as usize] {
            Verdict::Refused
        } else {
            self.deliver(message);
            Verdict::Taken
        };
        self.answers.push_back((lane, token, verdict));
        true
    }

    /// The link ends: up to `more` of what is under way still arrives, and no answer does.
    pub fn cut(&mut self, more: u64) {
        for _ in 0..more {
            self.read();
        }
        self.wire.clear();
        self.answers.clear();
    }

    fn deliver(&mut self, message: Message) {
        let Message { epoch, lane, records, .. } = message;
        let place = (epoch, lane as usize);
        let committed = self.committed.get(&place).cloned().unwrap_or_default();
        let arrived = self.arrived.entry(place).or_default();
        for (number, record) in records {
            let durable = committed.get(&number);
            assert_eq!(durable, Some(&record), "{} {number} was sent undurable", lane.name());
            let next = arrived.last_key_value().map_or(1, |(last, _)| last + 1);
            if let Some(before) = arrived.get(&number) {
                assert_eq!(before, &record, "{} {number} came twice, differently", lane.name());
                continue;
            }
            assert_eq!(number, next, "{} came out of order", lane.name());
            self.picture.follow(&record.body);
            arrived.insert(number, record);
        }
    }

    /// Whether all that was ever durable in this store has arrived.
    pub fn is_complete(&self, epoch: u64) -> bool {
        Lane::ALL.iter().all(|lane| {
            let place = (epoch, *lane as usize);
            let count =
                |of: &BTreeMap<_, BTreeMap<u64, Record>>| of.get(&place).map_or(0, BTreeMap::len);
            count(&self.committed) == count(&self.arrived)
        })
    }
}

impl Picture {
    fn follow(&mut self, body: &Body) {
        match body {
            Body::Bay { bay, to, .. } => _ = self.bays.insert(bay.clone(), *to),
            Body::LeaseGranted(lease) => _ = self.leases.insert(lease.lease.clone()),
            Body::LeaseEnded { lease, .. } => _ = self.leases.remove(lease),
            Body::Closed { target, .. } => _ = self.closed.insert(target.clone()),
            Body::Opened { target, .. } => _ = self.closed.remove(target),
            _ => (),
        }
    }
}
