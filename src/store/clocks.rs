//! What each boot's clocks were apart once its wall clock was good: kept, so that records stamped
//! before that can be put right even after a restart.
//!
//! Stored bytes stay as they are; a line that was stamped by an unsure clock says so, and gets its
//! time from its own `mono_ms` when it is sent. A boot whose clock was never good has no entry, and
//! its records stay unsure.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::time::{UNKNOWN_BOOT, Wall};

/// Boots that are remembered: a box that starts anew each hour, for more than two days.
const BOOTS_MAX: usize = 64;
/// A clock that is steered moves the offset slowly; less than this is not worth a write.
const WORTH_MS: i64 = 250;

/// Wall clock less monotonic clock in ms, by boot, the newest last.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Clocks(Vec<(String, i64)>);

impl Clocks {
    /// What [`Clocks::encode`] wrote; none where it cannot be read: records then stay unsure.
    pub fn decode(bytes: &[u8]) -> Clocks {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("names and numbers are plain data")
    }

    pub fn offset_ms(&self, boot: &str) -> Option<i64> {
        self.0.iter().find(|(known, _)| known == boot).map(|(_, offset_ms)| *offset_ms)
    }

    /// The clock of `boot` is good and stands so far off. True where that is worth keeping.
    pub fn note(&mut self, boot: &str, offset_ms: i64) -> bool {
        // Two boots without a name could not be told apart.
        if boot == UNKNOWN_BOOT {
            return false;
        }
        let known = self.offset_ms(boot);
        if known.is_some_and(|known| known.abs_diff(offset_ms) < WORTH_MS.unsigned_abs()) {
            return false;
        }
        self.0.retain(|(other, _)| other != boot);
        self.0.push((boot.to_owned(), offset_ms));
        let surplus = self.0.len().saturating_sub(BOOTS_MAX);
        self.0.drain(..surplus);
        true
    }
}

/// A line of a chunk as far as its time goes.
#[derive(Serialize, Deserialize)]
struct Line {
    seq: u64,
    mono_ms: u64,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The same lines, with the time computed where the clock was unsure; `None` where nothing is to
/// be changed. All else in them stays as it is.
pub fn corrected(json: &str, offset_ms: i64) -> Option<String> {
    // Nearly all chunks have none: those are not taken apart.
    if !json.contains("\"clock\":\"unsure\"") {
        return None;
    }
    let mut lines: Vec<Line> = serde_json::from_str(json).ok()?;
    for line in &mut lines {
        if line.clock.as_deref() == Some("unsure") {
            line.at = wall(line.mono_ms, offset_ms).to_string();
            line.clock = Some("corrected".to_owned());
        }
    }
    serde_json::to_string(&lines).ok()
}

/// What the wall clock would have shown.
pub fn wall(mono_ms: u64, offset_ms: i64) -> Wall {
    Wall(i64::try_from(mono_ms).unwrap_or(i64::MAX).saturating_add(offset_ms))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TWO: &str = "[{\"seq\":7,\"mono_ms\":5000,\"at\":\"1970-01-01T00:00:05.000Z\",\
        \"clock\":\"unsure\",\"type\":\"opened\",\"target\":\"\\\"clock\\\":\\\"unsure\\\"\",\
        \"by\":\"x\"},{\"seq\":8,\"mono_ms\":9000,\"at\":\"2026-11-27T10:00:00.000Z\",\
        \"type\":\"unit_retry\",\"unit\":\"u\",\"by\":\"18446744073709551615\"}]";

    #[test]
    fn only_what_was_unsure_is_put_right() {
        let sent = corrected(TWO, 1_795_773_600_000).unwrap();
        let expected = TWO
            .replace("1970-01-01T00:00:05.000Z", "2026-11-27T10:00:05.000Z")
            .replace("\"clock\":\"unsure\"", "\"clock\":\"corrected\"");
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(parse(&sent), parse(&expected));
        assert_eq!(corrected(&sent, 5), None, "done once, it stays");
        assert_eq!(corrected("[{\"clock\":\"unsure\"", 5), None, "what cannot be read stays");
    }

    #[test]
    fn boots_are_bounded_and_small_moves_are_not_kept() {
        let mut clocks = Clocks::default();
        assert!(clocks.note("a", 1_000));
        assert!(!clocks.note("a", 1_249));
        assert!(clocks.note("a", 1_250));
        assert!(!clocks.note(UNKNOWN_BOOT, 1_000));
        for ix in 0..BOOTS_MAX {
            assert!(clocks.note(&format!("b{ix}"), ix as i64));
        }
        assert_eq!(clocks.offset_ms("a"), None);
        assert_eq!(clocks.offset_ms("b0"), Some(0));
        assert_eq!(Clocks::decode(&clocks.encode()), clocks);
        assert_eq!(Clocks::decode(b"nonsense"), Clocks::default());
    }

    proptest! {
        #[test]
        fn order_and_distance_are_those_of_mono(a in 0..u64::MAX >> 20, more in 0..1_u64 << 40,
                                                offset_ms in -(1_i64 << 50)..1 << 50) {
            let (first, second) = (wall(a, offset_ms), wall(a + more, offset_ms));
            prop_assert_eq!(second.0 - first.0, more as i64);
        }
    }
}
