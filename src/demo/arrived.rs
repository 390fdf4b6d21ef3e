//! What a consumer in the city gets: counts what arrives at the broker, each record once, and tells
//! repeats from losses by the records' numbers.
//!
//! A record stands for its own number, or for all that its `covers` names: then windows were merged
//! before they were sent. A number that nothing stands for and no gap record names was lost.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What arrived on one lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lane {
    pub messages: u64,
    /// Records, each once; a merged one counts as all that it covers.
    pub records: u64,
    /// Records that came again.
    pub repeats: u64,
    /// Records that a later one overtook: lost, unless the gateway said so in a gap record.
    pub missing: u64,
    next: u64,
}

/// What arrived at the broker.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Arrived {
    pub lanes: BTreeMap<String, Lane>,
    /// Messages of the current state.
    pub state: u64,
    /// Messages that are not what the gateway promises to send.
    pub malformed: u64,
}

/// What is read of a message on a lane.
#[derive(Deserialize)]
struct Chunk {
    epoch: String,
    lane: String,
    first: u64,
    last: u64,
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    seq: u64,
    covers: Option<[u64; 2]>,
}

impl Chunk {
    /// Whether its records stand for `first` to `last`, each number once and in order.
    fn is_whole(&self) -> bool {
        let mut next = self.first;
        let in_order = self.records.iter().all(|record| {
            let [first, last] = record.covers.unwrap_or([record.seq; 2]);
            let fits = first == next && last == record.seq && first <= last;
            next = last.saturating_add(1);
            fits
        });
        in_order && !self.records.is_empty() && next == self.last.saturating_add(1)
    }
}

impl Arrived {
    /// Counts a message.
    pub fn take(&mut self, topic: &str, payload: &[u8]) {
        if topic.contains("/state/") {
            self.state += 1;
            return;
        }
        let chunk = serde_json::from_slice::<Chunk>(payload);
        let whole = |chunk: &Chunk| {
            topic.ends_with(&format!("/{}", chunk.lane))
                && !chunk.epoch.is_empty()
                && chunk.is_whole()
        };
        let Some(chunk) = chunk.ok().filter(whole) else {
            self.malformed += 1;
            return;
        };
        // The demo's gateway has one store for its life, so one epoch.
        let lane = self.lanes.entry(chunk.lane).or_default();
        let first_ever = lane.messages == 0;
        lane.messages += 1;
        let expected = if first_ever { chunk.first } else { lane.next };
        lane.repeats += expected.min(chunk.last + 1).saturating_sub(chunk.first);
        lane.missing += chunk.first.saturating_sub(expected);
        lane.records += (chunk.last + 1).saturating_sub(expected.max(chunk.first));
        lane.next = expected.max(chunk.last + 1);
    }

    pub fn repeats(&self) -> u64 {
        self.lanes.values().map(|lane| lane.repeats).sum()
    }

    pub fn missing(&self) -> u64 {
        self.lanes.values().map(|lane| lane.missing).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_and_losses_are_told_apart() {
        let mut arrived = Arrived::default();
        for (first, last) in [(5, 7), (8, 9), (8, 12), (5, 12), (15, 15), (16, 17)] {
            arrived.take("parkway/x/events", chunk("events", first, last).as_bytes());
        }
        let lane = arrived.lanes["events"];
        assert_eq!((lane.records, lane.repeats, lane.missing), (11, 10, 2), "{lane:?}");
        for payload in ["{}", "x", &chunk("alarms", 1, 2), &chunk("events", 3, 2)] {
            arrived.take("parkway/x/events", payload.as_bytes());
        }
        assert_eq!(arrived.malformed, 4);
        arrived.take("parkway/x/state/gateway", b"{}");
        assert_eq!(arrived.state, 1);
    }

    /// (records as their numbers and what they cover, first and last) and whether that is whole.
    #[test]
    fn what_merged_records_cover_has_arrived() {
        let record =
            |seq: u64, first: u64| serde_json::json!({ "seq": seq, "covers": [first, seq] });
        for (records, last, good) in [
            (vec![record(15, 1), record(30, 16)], 30, true),
            (vec![record(15, 1), serde_json::json!({ "seq": 16 })], 16, true),
            (vec![record(15, 1), record(30, 17)], 30, false),
            (vec![record(15, 1), record(30, 15)], 30, false),
            (vec![record(15, 2)], 15, false),
            (vec![record(15, 1)], 16, false),
            (vec![serde_json::json!({ "seq": 15, "covers": [1, 14] })], 14, false),
            (vec![], 0, false),
        ] {
            let mut arrived = Arrived::default();
            let text = message("aggregates", 1, last, &records);
            arrived.take("parkway/x/aggregates", text.as_bytes());
            assert_eq!(arrived.malformed, u64::from(!good), "{text}");
            let counted = arrived.lanes.get("aggregates").map_or(0, |lane| lane.records);
            assert_eq!(counted, if good { last } else { 0 }, "{text}");
        }
        let mut arrived = Arrived::default();
        for (first, last) in [(1, 15), (17, 30)] {
            let text = message("aggregates", first, last, &[record(last, first)]);
            arrived.take("parkway/x/aggregates", text.as_bytes());
        }
        assert_eq!(arrived.missing(), 1, "nobody covers 16");
    }

    fn chunk(lane: &str, first: u64, last: u64) -> String {
        let records: Vec<_> = (first..=last).map(|seq| serde_json::json!({ "seq": seq })).collect();
        message(lane, first, last, &records)
    }

    fn message(lane: &str, first: u64, last: u64, records: &[serde_json::Value]) -> String {
        serde_json::json!({
            "v": 1, "epoch": "00", "lane": lane, "first": first, "last": last, "records": records,
        })
        .to_string()
    }
}
