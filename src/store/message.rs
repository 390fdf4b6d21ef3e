//! Which chunks go in one message: what follows without a gap, up to a size.
//!
//! A quiet site's commit is a chunk of one or two records, and a broker and a consumer take some
//! thousand messages a second, of whatever size: a backlog of small ones would drain slowly. Always
//! as many as fit go together, so that the same chunks sent again are no more messages than before.

use super::Found;
use super::chunk::Chunk;

/// A message joins chunks up to so much JSON; a bigger chunk goes alone.
pub const MESSAGE_BYTES: usize = 16 << 10;

/// What lies first in a range, with what joins it up to `bytes_max` of JSON; one chunk in any case.
/// `put_right` makes of each what is sent, before it is measured.
///
/// # Errors
///
/// What sled says.
pub fn joined(
    range: impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
    bytes_max: usize,
    put_right: impl Fn(&mut Chunk),
) -> Result<Found, sled::Error> {
    let mut whole: Option<Chunk> = None;
    for entry in range {
        let (key, value) = entry?;
        let first = key.as_ref().try_into().map_or(0, u64::from_be_bytes);
        let mut chunk = Chunk::decode(first, &value);
        if let Some(chunk) = &mut chunk {
            put_right(chunk);
        }
        match (&mut whole, chunk) {
            (None, None) => return Ok(Found::Unreadable { first }),
            (None, Some(chunk)) => whole = Some(chunk),
            (Some(whole), Some(next)) if whole.takes(&next, bytes_max) => whole.join(&next),
            (Some(_), _) => break,
        }
    }
    Ok(whole.map_or(Found::Nothing, Found::Chunk))
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

    /// A clock that became good makes lines longer: what no longer fits stays for the next message,
    /// or a broker's limit would have it put aside.
    #[test]
    fn what_is_measured_is_what_is_sent() {
        let entries: Vec<(u64, Vec<u8>)> = (1..=3).map(|n| (n, chunk(n, "boot"))).collect();
        let size = Chunk::decode(1, &entries[0].1).unwrap().json.len();
        let longer = |chunk: &mut Chunk| chunk.json.insert_str(chunk.json.len() - 1, "   ");
        let found = joined(range(&entries), 3 * size, longer).unwrap();
        let Found::Chunk(chunk) = found else { panic!("nothing found") };
        assert_eq!((chunk.last, chunk.json.matches("   ").count()), (2, 2));
        assert!(chunk.json.len() <= 3 * size);
    }

    #[test]
    fn joined_records_are_one_array() {
        let entries: Vec<(u64, Vec<u8>)> = (7..=9).map(|n| (n, chunk(n, "boot"))).collect();
        let found = joined(range(&entries), MESSAGE_BYTES, |_| ()).unwrap();
        let Found::Chunk(chunk) = found else { panic!("nothing found") };
        assert_eq!((chunk.first, chunk.last, chunk.count), (7, 9, 3));
        let lines: Vec<serde_json::Value> = serde_json::from_str(&chunk.json).unwrap();
        let numbers: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [7, 8, 9]);
    }

    /// Where a message of these entries ends.
    fn end(entries: &[(u64, Vec<u8>)], bytes_max: usize) -> Option<u64> {
        match joined(range(entries), bytes_max, |_| ()).unwrap() {
            Found::Chunk(chunk) => Some(chunk.last + 1),
            Found::Unreadable { first } => Some(first + 1),
            Found::Nothing | Found::Away => None,
        }
    }

    fn range(
        entries: &[(u64, Vec<u8>)],
    ) -> impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>> {
        entries.iter().map(|(first, value)| Ok((first.to_be_bytes()[..].into(), value[..].into())))
    }

    fn chunk(n: u64, boot: &str) -> Vec<u8> {
        let body = Body::Bay { bay: n.to_string(), from: Sensed::Free, to: Sensed::Occupied };
        let record = Record::new(Lane::Events, Now::default(), body);
        pack(&[record], n, boot, None).0[0].encode()
    }
}
