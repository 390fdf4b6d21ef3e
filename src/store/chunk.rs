//! How records lie on the disk: some of one lane and one commit to a value, checked by a CRC.
//!
//! A value is a header and the JSON array that goes upstream as it is, so that sending needs no
//! decoding. Values stay at 4 KiB or below wherever one record does, because sled moves a leaf of
//! big ones to a file that it never makes durable. The first byte is the layout's version: a
//! later daemon reads what an earlier one left. In version 1 each number has its record; in
//! version 2 some were merged (`thin.rs`), and records are fewer than numbers. What fits version 1
//! is written so: a store that was never thinned can still be read by an earlier daemon.

use serde::Serialize;

use super::clocks;
use crate::record::{Body, Record};
use crate::time::{Mono, Wall};

/// A layout with a record for each number, and one with fewer.
const VERSION_WHOLE: u8 = 1;
const VERSION_THINNED: u8 = 2;
/// A chunk is closed before it grows above this, in bytes of JSON: 4 KiB with header and key.
const TARGET_BYTES: usize = 3_584;
/// A single record may be bigger than the target, up to this; above, it is given up and counted.
pub const RECORD_BYTES_MAX: usize = 65_536;
/// Version, CRC, count, last number, time of the first record, length of the boot id.
const HEADER_BYTES: usize = 1 + 4 + 4 + 8 + 8 + 1;

/// Some records of one lane, in order, as stored and as sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Lowest number it stands for: the chunk's key.
    pub first: u64,
    /// Highest number it stands for, that of its last record.
    pub last: u64,
    /// Its records: as many as its numbers, or fewer where some were merged.
    pub count: u32,
    /// When the first was recorded.
    pub at: Wall,
    /// The boot whose clock stamped them.
    pub boot: String,
    /// The JSON array of records.
    pub json: String,
}

impl Chunk {
    /// The value to store under `first`.
    pub fn encode(&self) -> Vec<u8> {
        // Boot ids are 36 characters; one byte of length is what a UUID needs.
        let boot_len = u8::try_from(self.boot.len()).expect("a boot id is a short word");
        let mut value = Vec::with_capacity(HEADER_BYTES + self.boot.len() + self.json.len());
        let whole = self.last - self.first + 1 == u64::from(self.count);
        value.push(if whole { VERSION_WHOLE } else { VERSION_THINNED });
        value.extend([0; 4]);
        value.extend(self.count.to_be_bytes());
        value.extend(self.last.to_be_bytes());
        value.extend(self.at.0.to_be_bytes());
        value.push(boot_len);
        value.extend(self.boot.as_bytes());
        value.extend(self.json.as_bytes());
        let crc = crc32fast::hash(&value[5..]);
        value[1..5].copy_from_slice(&crc.to_be_bytes());
        value
    }

    /// Whether `next` follows without a gap, under the same clock, and both fit in `bytes_max`.
    pub fn takes(&self, next: &Chunk, bytes_max: usize) -> bool {
        next.first == self.last + 1
            && next.boot == self.boot
            && self.json.len() + next.json.len() <= bytes_max
    }

    /// Appends what [`Chunk::takes`] allowed.
    pub fn join(&mut self, next: &Chunk) {
        self.last = next.last;
        self.count += next.count;
        self.json.truncate(self.json.len() - 1);
        self.json.push(',');
        self.json.push_str(&next.json[1..]);
    }

    /// Reads what [`Chunk::encode`] wrote; `None` for anything else.
    pub fn decode(first: u64, value: &[u8]) -> Option<Chunk> {
        if value.len() < HEADER_BYTES {
            return None;
        }
        let crc = u32::from_be_bytes(value[1..5].try_into().ok()?);
        if crc32fast::hash(&value[5..]) != crc {
            return None;
        }
        let boot_end = HEADER_BYTES + usize::from(value[HEADER_BYTES - 1]);
        let count = u32::from_be_bytes(value[5..9].try_into().ok()?);
        let last = u64::from_be_bytes(value[9..17].try_into().ok()?);
        // A sound value under another's key is no sound chunk.
        let numbers = last.checked_sub(first)?.checked_add(1)?;
        let sound = match value[0] {
            VERSION_WHOLE => numbers == u64::from(count),
            VERSION_THINNED => numbers > u64::from(count) && count > 0,
            _ => false,
        };
        if !sound {
            return None;
        }
        Some(Chunk {
            first,
            count,
            last,
            at: Wall(i64::from_be_bytes(value[17..25].try_into().ok()?)),
            boot: std::str::from_utf8(value.get(HEADER_BYTES..boot_end)?).ok()?.to_owned(),
            json: std::str::from_utf8(&value[boot_end..]).ok()?.to_owned(),
        })
    }

    /// When the first was recorded, by the boot's other clock.
    pub fn mono_ms(&self) -> Option<u64> {
        let (_, rest) = self.json.split_once("\"mono_ms\":")?;
        rest.split_once(',')?.0.parse().ok()
    }

    /// When the first was recorded, by the offset of its boot's clocks where its own was unsure.
    pub fn recorded_at(&self, offset_ms: Option<i64>) -> Wall {
        let line = self.json.split_once("\"type\":").map_or("", |(head, _)| head);
        let unsure = line.contains("\"clock\":\"unsure\"");
        let known = offset_ms.filter(|_| unsure).zip(self.mono_ms());
        known.map_or(self.at, |(offset_ms, mono_ms)| clocks::wall(mono_ms, offset_ms))
    }

    /// What it takes on the disk, before sled's own overhead.
    pub fn stored_bytes(&self) -> u64 {
        (8 + HEADER_BYTES + self.boot.len() + self.json.len()) as u64
    }
}

/// One record as it stands in a chunk and upstream.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    mono_ms: u64,
    at: String,
    /// "unsure" where the wall clock was not good.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock: Option<&'static str>,
    #[serde(flatten)]
    body: &'a Body,
}

/// Numbers records from `next` on and packs them; second, how many were too big to keep. Those
/// stamped before `good_since`, or with it absent, are marked as stamped by an unsure clock.
pub fn pack(
    records: &[Record],
    mut next: u64,
    boot: &str,
    good_since: Option<Mono>,
) -> (Vec<Chunk>, u64) {
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut refused = 0;
    for record in records {
        let Some(json) = line(record, next, good_since) else {
            refused += 1;
            continue;
        };
        add(&mut chunks, boot, record.at.wall, (next, next), &json);
        next += 1;
    }
    (chunks, refused)
}

/// Puts a record that stands for numbers `first..=last` behind those before it, in a new chunk
/// where it does not fit into theirs.
pub fn add(chunks: &mut Vec<Chunk>, boot: &str, at: Wall, (first, last): (u64, u64), json: &str) {
    match chunks.last_mut() {
        Some(chunk) if chunk.json.len() + json.len() < TARGET_BYTES => {
            chunk.json.pop();
            chunk.json.push(',');
            chunk.json.push_str(json);
            chunk.json.push(']');
            chunk.last = last;
            chunk.count += 1;
        }
        Some(_) | None => chunks.push(Chunk {
            first,
            last,
            count: 1,
            at,
            boot: boot.to_owned(),
            json: format!("[{json}]"),
        }),
    }
}

fn line(record: &Record, seq: u64, good_since: Option<Mono>) -> Option<String> {
    let line = Line {
        seq,
        mono_ms: record.at.mono.0 / 1_000_000,
        at: record.at.wall.to_string(),
        clock: good_since.is_none_or(|since| record.at.mono < since).then_some("unsure"),
        body: &record.body,
    };
    // Bodies hold strings, numbers and maps with string keys: nothing that JSON cannot say.
    let json = serde_json::to_string(&line).ok()?;
    (json.len() <= RECORD_BYTES_MAX).then_some(json)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Lane, Sensed};
    use crate::time::Now;

    #[test]
    fn a_line_reads_as_the_contract_says() {
        let (chunks, refused) = pack(&[bay("g01/B1/A/017")], 120, "boot", GOOD);
        assert_eq!(refused, 0);
        assert_eq!(
            chunks[0].json,
            "[{\"seq\":120,\"mono_ms\":5000,\"at\":\"1970-01-01T00:00:01.000Z\",\
             \"type\":\"bay\",\"bay\":\"g01/B1/A/017\",\"from\":\"free\",\"to\":\"occupied\"}]"
        );
    }

    #[test]
    fn what_an_unsure_clock_stamped_says_so_and_is_put_right() {
        let at = Mono(5_000_000_000);
        for (good_since, unsure) in
            [(None, true), (Some(at.plus_ms(1)), true), (Some(at), false), (Some(Mono(0)), false)]
        {
            let (chunks, _) = pack(&[bay("a"), bay("b")], 1, "boot", good_since);
            let marks = chunks[0].json.matches("Z\",\"clock\":\"unsure\",\"type\"").count();
            assert_eq!(marks, if unsure { 2 } else { 0 }, "{good_since:?}");
            assert_eq!(chunks[0].mono_ms(), Some(5_000));
            assert_eq!(chunks[0].recorded_at(None), Wall(1_000));
            let known = if unsure { Wall(5_700) } else { Wall(1_000) };
            assert_eq!(chunks[0].recorded_at(Some(700)), known, "{good_since:?}");
        }
    }

    #[test]
    fn a_record_above_the_bound_is_refused_and_takes_no_number() {
        let big = bay(&"x".repeat(RECORD_BYTES_MAX));
        let long = bay(&"x".repeat(10_000));
        let (chunks, refused) = pack(&[bay("a"), big, long, bay("b")], 7, "boot", GOOD);
        assert_eq!(refused, 1);
        let spans: Vec<_> = chunks.iter().map(|c| (c.first, c.last)).collect();
        assert_eq!(spans, [(7, 7), (8, 8), (9, 9)]);
    }

    #[test]
    fn any_flipped_bit_or_cut_is_seen() {
        let (chunks, _) = pack(&[bay("g01/B1/A/017")], 9, "0b6c", GOOD);
        let value = chunks[0].encode();
        assert_eq!(Chunk::decode(9, &value).as_ref(), Some(&chunks[0]));
        for at in 0..value.len() {
            assert_eq!(Chunk::decode(9, &value[..at]), None, "cut at {at}");
            for bit in 0..8 {
                let mut wrong = value.clone();
                wrong[at] ^= 1 << bit;
                assert_eq!(Chunk::decode(9, &wrong), None, "byte {at} bit {bit}");
            }
        }
    }

    /// The first byte is beside the CRC: what it says must fit the numbers.
    #[test]
    fn a_thinned_chunk_has_a_layout_of_its_own() {
        let (chunks, _) = pack(&[bay("a"), bay("b")], 9, "boot", GOOD);
        for (last, version) in [(10, VERSION_WHOLE), (40, VERSION_THINNED)] {
            let chunk = Chunk { last, ..chunks[0].clone() };
            let mut value = chunk.encode();
            assert_eq!((value[0], Chunk::decode(9, &value)), (version, Some(chunk)));
            for wrong in [0, VERSION_WHOLE, VERSION_THINNED, 3] {
                value[0] = wrong;
                assert_eq!(Chunk::decode(9, &value).is_some(), wrong == version, "{wrong}");
            }
            assert_eq!(Chunk::decode(last, &value), None, "two records under one number");
        }
    }

    proptest! {
        #[test]
        fn packing_keeps_all_in_order(names in prop::collection::vec("[a-z\"\\\\]{0,600}", 0..60)) {
            let records: Vec<Record> = names.iter().map(|name| bay(name)).collect();
            let (chunks, refused) = pack(&records, 1, "boot", GOOD);
            prop_assert_eq!(refused, 0);
            let mut seen = Vec::new();
            for chunk in &chunks {
                let back = Chunk::decode(chunk.first, &chunk.encode()).unwrap();
                prop_assert_eq!(&back, chunk);
                prop_assert!(chunk.count == 1 || chunk.stored_bytes() <= 4_096);
                let lines: Vec<serde_json::Value> = serde_json::from_str(&chunk.json).unwrap();
                prop_assert_eq!(lines.len() as u64, chunk.last - chunk.first + 1);
                seen.extend(lines);
            }
            for (at, line) in seen.iter().enumerate() {
                prop_assert_eq!(line["seq"].as_u64().unwrap(), at as u64 + 1);
                prop_assert_eq!(line["bay"].as_str().unwrap(), &names[at]);
            }
            prop_assert_eq!(seen.len(), names.len());
        }
    }

    const GOOD: Option<Mono> = Some(Mono(0));

    fn bay(name: &str) -> Record {
        let body = Body::Bay { bay: name.to_owned(), from: Sensed::Free, to: Sensed::Occupied };
        let at = Now { mono: Mono(5_000_000_000), wall: Wall(1_000) };
        Record { lane: Lane::Events, at, body }
    }
}
