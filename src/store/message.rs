//! Which chunks go in one message: what follows without a gap, up to a size.
//!
//! A quiet site's commit is a chunk of one or two records, and a broker and a consumer take some
//! thousand messages a second, of whatever size: a backlog of small ones would drain slowly. Always
//! as many as fit go together, so that the same chunks sent again are no more messages than before.

use super::Found;
use super::chunk::Chunk;

/// A message joins chunks up to so much JSON; a bigger chunk goes alone.
pub const MESSAGE_BYTES: usize = 16 << 10;

/// A message being put together.
pub struct Message {
    pub found: Found,
    bytes_max: usize,
}

impl Message {
    /// Joins chunks up to so much JSON; one fits in any case.
    pub fn new(bytes_max: usize) -> Message {
        Message { found: Found::Nothing, bytes_max }
    }

    /// Takes a lane's next entry; false where nothing more fits. What cannot be read is a message
    /// of its own.
    pub fn take(&mut self, key: &[u8], value: &[u8]) -> bool {
        let first = key.try_into().map_or(0, u64::from_be_bytes);
        let chunk = Chunk::decode(first, value);
        match (&mut self.found, chunk) {
            (Found::Nothing, None) => self.found = Found::Unreadable { first },
            (Found::Nothing, Some(chunk)) => self.found = Found::Chunk(chunk),
            (Found::Chunk(whole), Some(next)) if whole.takes(&next, self.bytes_max) => {
                whole.join(&next);
            }
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::pack;
    use super::*;
    use crate::record::{Body, Lane, Record, Sensed};
    use crate::time::Now;

    #[test]
    fn what_follows_without_a_gap_goes_together_up_to_a_size() {
        let whole: Vec<(u64, Vec<u8>)> = (1..=5).map(|n| (n, chunk(n, "boot"))).collect();
        let size = Chunk::decode(1, &whole[0].1).unwrap().json.len();
        assert_eq!(end(&[], size), None);
        assert_eq!(end(&whole, 0), Some(2), "one fits in any case");
        assert_eq!(end(&whole, 3 * size), Some(4));
        assert_eq!(end(&whole, 99 * size), Some(6));
        let cases = [
            ("another clock", 2, (3, chunk(3, "other")), 3),
            ("unreadable", 2, (3, b"nonsense".to_vec()), 3),
            ("unreadable first", 0, (1, b"nonsense".to_vec()), 2),
            ("a gap", 2, (4, chunk(4, "boot")), 3),
        ];
        for (what, at, entry, after) in cases {
            let mut entries = whole.clone();
            entries[at] = entry;
            assert_eq!(end(&entries, 99 * size), Some(after), "{what}");
        }
    }

    #[test]
    fn joined_records_are_one_array() {
        let mut message = Message::new(MESSAGE_BYTES);
        for n in 7..=9_u64 {
            assert!(message.take(&n.to_be_bytes(), &chunk(n, "boot")));
        }
        let Found::Chunk(chunk) = message.found else { panic!("nothing found") };
        assert_eq!((chunk.first, chunk.last, chunk.count), (7, 9, 3));
        let lines: Vec<serde_json::Value> = serde_json::from_str(&chunk.json).unwrap();
        let numbers: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [7, 8, 9]);
    }

    /// Where a message of these entries ends.
    fn end(entries: &[(u64, Vec<u8>)], bytes_max: usize) -> Option<u64> {
        let mut message = Message::new(bytes_max);
        for (first, value) in entries {
            if !message.take(&first.to_be_bytes(), value) {
                break;
            }
        }
        match message.found {
            Found::Chunk(chunk) => Some(chunk.last + 1),
            Found::Unreadable { first } => Some(first + 1),
            Found::Nothing | Found::Away => None,
        }
    }

    fn chunk(n: u64, boot: &str) -> Vec<u8> {
        let body = Body::Bay { bay: n.to_string(), from: Sensed::Free, to: Sensed::Occupied };
        let record = Record::new(Lane::Events, Now::default(), body);
        pack(&[record], n, boot, None).0[0].encode()
    }
}
