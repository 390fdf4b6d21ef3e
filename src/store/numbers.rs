//! Each lane's numbers as they stand inside the database: under which keys, and how they are read.

use sled::Tree;

use super::chunk::Chunk;
use super::left::Left;
use crate::record::Lane;

/// The key of a lane's next number in the `meta` tree.
pub fn next_key(lane: Lane) -> String {
    format!("next/{}", lane.name())
}

/// The key of a lane's bytes in the `meta` tree.
pub fn bytes_key(lane: Lane) -> String {
    format!("bytes/{}", lane.name())
}

/// The floor is written behind the chunks it counts: so the last chunk or the floor, whichever is
/// higher, is right after any cut, and a drained lane starts no number again.
pub fn next_number(tree: &Tree, meta: &Tree, lane: Lane) -> Result<u64, sled::Error> {
    let floor = number(meta, &next_key(lane))?.unwrap_or(1);
    // Touched so that a broken head is found here rather than in the middle of a drain.
    tree.first()?;
    let Some((key, value)) = tree.last()? else { return Ok(floor) };
    let first = u64::from_be_bytes(key.as_ref().try_into().unwrap_or([0; 8]));
    let last = Chunk::decode(first, &value).map_or(first, |chunk| chunk.last);
    Ok(floor.max(last + 1))
}

/// The key of what has left a lane in the `meta` tree.
pub fn left_key(lane: Lane) -> String {
    format!("left/{}", lane.name())
}

/// What has left a lane. One that an earlier daemon wrote begins where it begins.
pub fn left_of(tree: &Tree, meta: &Tree, lane: Lane, next: u64) -> Result<Left, sled::Error> {
    let known = meta.get(left_key(lane))?.and_then(|value| Left::decode(&value));
    Ok(known.unwrap_or(Left::new(lowest(tree)?.unwrap_or(next))))
}

/// The number of a lane's first chunk.
pub fn lowest(tree: &Tree) -> Result<Option<u64>, sled::Error> {
    let first = tree.first()?;
    Ok(first.map(|(key, _)| u64::from_be_bytes(key.as_ref().try_into().unwrap_or([0; 8]))))
}

/// A number under `key`.
pub fn number(meta: &Tree, key: &str) -> Result<Option<u64>, sled::Error> {
    let value = meta.get(key)?;
    Ok(value.and_then(|value| value.as_ref().try_into().ok()).map(u64::from_be_bytes))
}
