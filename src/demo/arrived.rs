//! What a consumer in the city gets: counts what arrives at the broker, each record once, and tells
//! repeats from losses by the records' numbers.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What arrived on one lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lane {
    pub messages: u64,
    /// Records, each once.
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
    records: Vec<serde_json::Value>,
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
            let length = chunk.records.len() as u64;
            topic.ends_with(&format!("/{}", chunk.lane))
                && !chunk.epoch.is_empty()
                && chunk.last.checked_sub(chunk.first).is_some_and(|gap| gap + 1 == length)
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

    fn chunk(lane: &str, first: u64, last: u64) -> String {
        let records: Vec<_> = (first..=last).map(|seq| serde_json::json!({ "seq": seq })).collect();
        serde_json::json!({
            "v": 1, "epoch": "00", "lane": lane, "first": first, "last": last, "records": records,
        })
        .to_string()
    }
}
