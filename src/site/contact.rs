//! Contacts: inputs of the site that say something of the whole, such as a fire panel's relay.

use serde::Deserialize;

use super::{Scope, UnitIx};

/// An input and what it means.
#[derive(Clone, Debug)]
pub struct Contact {
    pub id: String,
    pub name: String,
    pub unit: UnitIx,
    /// Which of the unit's contacts.
    pub index: u16,
    pub kind: ContactKind,
    /// What it closes while active; empty for a note.
    pub closes: Vec<Scope>,
    /// Active while open: a loop that is closed in peace, so that a cut wire raises the alarm.
    pub active_open: bool,
}

/// What an active contact does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContactKind {
    /// An incident on what it closes.
    Fire,
    /// It is recorded, no more.
    Note,
}

impl Contact {
    /// Whether it is active by a reading's contacts; `None` where they do not say.
    pub fn active(&self, contacts: u64, known: u64) -> Option<bool> {
        let bit = 1u64.checked_shl(self.index.into())?;
        (known & bit != 0).then_some((contacts & bit != 0) != self.active_open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_wire_is_active_where_open_is_and_an_unread_one_says_nothing() {
        let contact = |index, active_open| Contact {
            id: String::new(),
            name: String::new(),
            unit: UnitIx(0),
            index,
            kind: ContactKind::Note,
            closes: Vec::new(),
            active_open,
        };
        // (index, active while open, contacts, known) -> active
        let table = [
            (0, false, 0b01, 0b01, Some(true)),
            (0, false, 0b10, 0b01, Some(false)),
            (0, true, 0b00, 0b01, Some(true)),
            (0, true, 0b01, 0b01, Some(false)),
            (1, true, 0b00, 0b01, None),
            (63, false, 1 << 63, 1 << 63, Some(true)),
            (64, true, 0, u64::MAX, None),
        ];
        for (index, open, contacts, known, active) in table {
            assert_eq!(contact(index, open).active(contacts, known), active, "{index} {open}");
        }
    }
}
