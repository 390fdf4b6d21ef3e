//! What each exception reply means for the next request: one table, by code.
//!
//! A refusal is an answer: the unit lives, and so does the line. What follows from it differs by
//! code, and the table below is the only place that says how. Codes are those of the Modbus
//! application protocol V1.1b3, 7; 9 is not assigned there, and whatever else a unit invents is
//! counted and taken like 9.

/// What a refused read means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnRead {
    /// The unit cannot do this at all: the block is left out and tried again ever more rarely.
    Quarantine,
    /// Something in the block is not there, or it is too long: ask for less at once, and remember.
    Split,
    /// No data this time: the block's points are unknown.
    Unknown,
    /// Later: nothing more is asked in this sweep, and what was known stands until it is stale.
    Busy,
    /// A gateway says that the unit behind it does not answer.
    Silent,
}

/// What a refused write means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnWrite {
    /// Tried again ever more rarely.
    Refused,
    /// Tried again soon, a few times.
    Busy,
    /// As for a read.
    Silent,
}

/// One row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    pub code: u8,
    pub name: &'static str,
    pub read: OnRead,
    pub write: OnWrite,
}

const fn row(code: u8, name: &'static str, read: OnRead, write: OnWrite) -> Policy {
    Policy { code, name, read, write }
}

/// Every code with a policy of its own.
pub const POLICIES: [Policy; 11] = [
    row(0x01, "illegal function", OnRead::Quarantine, OnWrite::Refused),
    row(0x02, "illegal data address", OnRead::Split, OnWrite::Refused),
    row(0x03, "illegal data value", OnRead::Split, OnWrite::Refused),
    row(0x04, "device failure", OnRead::Unknown, OnWrite::Refused),
    row(0x05, "acknowledge", OnRead::Busy, OnWrite::Busy),
    row(0x06, "device busy", OnRead::Busy, OnWrite::Busy),
    row(0x07, "negative acknowledge", OnRead::Unknown, OnWrite::Refused),
    row(0x08, "memory parity error", OnRead::Unknown, OnWrite::Refused),
    row(0x09, "unassigned", OnRead::Unknown, OnWrite::Refused),
    row(0x0a, "gateway path unavailable", OnRead::Silent, OnWrite::Silent),
    row(0x0b, "gateway target did not respond", OnRead::Silent, OnWrite::Silent),
];

/// The row of a code; a code that no standard knows is no data and nothing more.
pub fn policy(code: u8) -> Policy {
    let known = POLICIES.iter().find(|policy| policy.code == code);
    known.copied().unwrap_or(row(code, "unknown", OnRead::Unknown, OnWrite::Refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_row_and_the_others_are_only_counted() {
        let codes: Vec<u8> = POLICIES.iter().map(|policy| policy.code).collect();
        assert_eq!(codes, (0x01..=0x0b).collect::<Vec<u8>>());
        for code in (0..=255).filter(|code| !codes.contains(code)) {
            let policy = policy(code);
            assert_eq!((policy.read, policy.write), (OnRead::Unknown, OnWrite::Refused));
        }
    }
}
