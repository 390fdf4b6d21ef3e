//! What waits between the owner and the store: bounded in bytes, never blocking the owner.
//!
//! (Signatures fixed; body to be built by the store.)

use crate::record::Record;

/// One thing to write.
#[derive(Clone, PartialEq, Debug)]
pub enum Item {
    Record(Record),
    Keep { key: String, value: Option<Vec<u8>> },
}
