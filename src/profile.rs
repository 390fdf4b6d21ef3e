//! Device profiles: where a kind of device keeps what we read and write. Registers are data.
//!
//! A profile comes from TOML and says table, addresses (0-based, as on the wire), layout, limits,
//! sentinels and bit meanings, so that no register number stands in Rust. `field` plans its
//! requests from it, `field/decode.rs` turns words into [`crate::gateway::Reading`].

mod read;
mod vector;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use read::{Bays, Contacts, Counters, Distance, Layout, Meaning, Number, WordOrder};
pub use vector::{Run, Shown, Switched, Vector};

use crate::site::{Face, Turn};

/// The four Modbus tables. Function codes follow: read 2, 1, 4, 3; write 15 or 5, 16 or 6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    Discrete,
    Coil,
    Input,
    Holding,
}

impl Table {
    /// Whether its items are single bits.
    pub fn is_bits(self) -> bool {
        matches!(self, Table::Discrete | Table::Coil)
    }

    /// The most items one read may ask for: 2,000 bits or 125 registers (Modbus spec V1.1b3, 6).
    pub fn read_max(self) -> u16 {
        if self.is_bits() { 2_000 } else { 125 }
    }

    /// The most items one write may carry: 1,968 bits or 123 registers (same source).
    pub fn write_max(self) -> u16 {
        if self.is_bits() { 1_968 } else { 123 }
    }

    /// Whether its items can be written at all.
    pub fn is_writable(self) -> bool {
        matches!(self, Table::Coil | Table::Holding)
    }
}

/// One kind of device. At least one part is present.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub id: String,
    /// Where the numbers come from: a manual, a page.
    pub source: String,
    pub bays: Option<Bays>,
    pub counters: Option<Counters>,
    pub contacts: Option<Contacts>,
    pub sign: Option<Display>,
    pub callout: Option<Display>,
    pub lamps: Option<Lamps>,
    pub outputs: Option<Outputs>,
    /// What registers must mean and faces must become: see `field/vector.rs`.
    #[serde(default, rename = "vector")]
    pub vectors: Vec<Vector>,
}

/// Displays behind the unit; always in holding registers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Display {
    /// First register of display 0.
    pub base: u16,
    /// Registers from one display to the next.
    pub stride: u16,
    /// How many displays, 1 to 256.
    pub displays: u16,
    pub format: Format,
    /// False for a display that executes a write without answering it.
    #[serde(default = "yes")]
    pub replies: bool,
    /// Each register is written by itself (function 6): what some displays demand.
    #[serde(default)]
    pub one_register: bool,
    /// What was written is read again and compared.
    #[serde(default)]
    pub read_back: bool,
    /// The most registers the unit takes in one write; the spec's limit where absent.
    pub write_max: Option<u16>,
}

/// Lamps at bays: one item of the table for each.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lamps {
    /// "coil" or "holding".
    pub table: Table,
    /// Address of lamp 0.
    pub base: u16,
    /// How many lamps, 1 to 2,000.
    pub points: u16,
    /// Value of each colour by its name; 0 or 1 in coils.
    pub colours: BTreeMap<String, u16>,
    #[serde(default = "yes")]
    pub replies: bool,
    #[serde(default)]
    pub read_back: bool,
    /// The most lamps the unit takes in one write; the spec's limit where absent.
    pub write_max: Option<u16>,
}

/// Switched outputs: relays for barriers, traffic lights and the like.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outputs {
    /// "coil" or "holding".
    pub table: Table,
    /// Address of output 0.
    pub base: u16,
    /// How many outputs, 1 to 256.
    pub count: u16,
    /// What switches one on and off; 0 or 1 in coils.
    #[serde(default = "one")]
    pub on: u16,
    #[serde(default)]
    pub off: u16,
    #[serde(default = "yes")]
    pub replies: bool,
    #[serde(default)]
    pub read_back: bool,
    /// The most outputs the unit takes in one write; the spec's limit where absent.
    pub write_max: Option<u16>,
}

/// How a face becomes registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Format {
    /// One register with a number up to `max`; words and arrows are shown by these values.
    Number {
        max: u16,
        full: u16,
        closed: u16,
        blank: u16,
        staff: Option<u16>,
        valet: Option<u16>,
        left: Option<u16>,
        straight: Option<u16>,
        right: Option<u16>,
    },
    /// ASCII, high byte first, padded with spaces: two characters a register, or one in its low
    /// byte.
    Text {
        chars: u16,
        #[serde(default = "two")]
        per_register: u16,
    },
    /// One register that lights an arrow, or nothing, or a word.
    Arrows {
        left: u16,
        straight: u16,
        right: u16,
        none: u16,
        full: Option<u16>,
        closed: Option<u16>,
    },
}

impl Format {
    /// A display of numbers with the three words that each has, and no more.
    pub const fn number(max: u16, full: u16, closed: u16, blank: u16) -> Format {
        Format::Number {
            max,
            full,
            closed,
            blank,
            staff: None,
            valet: None,
            left: None,
            straight: None,
            right: None,
        }
    }

    /// A display of text, two characters a register.
    pub const fn text(chars: u16) -> Format {
        Format::Text { chars, per_register: 2 }
    }

    /// The value that shows a face where one value shows it; `None` for numbers, for texts and
    /// for what the display has no value for.
    pub fn code(self, face: &Face) -> Option<u16> {
        match self {
            Format::Number { full, closed, blank, staff, valet, left, straight, right, .. } => {
                match face {
                    Face::Full => Some(full),
                    Face::Closed => Some(closed),
                    Face::Blank => Some(blank),
                    Face::Staff => staff,
                    Face::Valet => valet,
                    Face::Arrow(Turn::Left) => left,
                    Face::Arrow(Turn::Straight) => straight,
                    Face::Arrow(Turn::Right) => right,
                    Face::Number(_) | Face::Text(_) => None,
                }
            }
            Format::Text { .. } => None,
            Format::Arrows { left, straight, right, none, full, closed } => match face {
                Face::Full => full,
                Face::Closed => closed,
                Face::Blank => Some(none),
                Face::Arrow(Turn::Left) => Some(left),
                Face::Arrow(Turn::Straight) => Some(straight),
                Face::Arrow(Turn::Right) => Some(right),
                Face::Staff | Face::Valet | Face::Number(_) | Face::Text(_) => None,
            },
        }
    }

    /// Whether the display shows this face as it is meant: whole words, and no arrow for a number.
    pub fn can_show(self, face: &Face) -> bool {
        match (self, face) {
            (Format::Number { .. }, Face::Number(_)) => true,
            (Format::Number { .. } | Format::Arrows { .. }, _) => self.code(face).is_some(),
            // A number too large for it becomes all nines, which is true as far as it goes.
            (Format::Text { .. }, Face::Number(_)) => true,
            (Format::Text { chars, .. }, _) => {
                let text = face.to_string();
                let printable = |c: char| c == ' ' || c.is_ascii_graphic();
                text.len() <= usize::from(chars) && text.chars().all(printable)
            }
        }
    }
}

fn yes() -> bool {
    true
}

fn one() -> u16 {
    1
}

fn two() -> u16 {
    2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_display_can_show() {
        let number = Format::number(9_999, 10_001, 10_002, 10_000);
        let staffed = match number {
            Format::Number { max, full, closed, blank, valet, left, straight, right, .. } => {
                let staff = Some(10_003);
                Format::Number { max, full, closed, blank, staff, valet, left, straight, right }
            }
            other => other,
        };
        let arrows =
            Format::Arrows { left: 1, straight: 2, right: 3, none: 0, full: Some(4), closed: None };
        let (short, long) = (Format::text(4), Format::text(24));
        let text = Face::Text("LOW ROOF".to_owned());
        // By display: number, with STAFF, arrows, 4 characters, 24 characters.
        let table = [
            (Face::Number(7), [true, true, false, true, true]),
            (Face::Full, [true, true, true, true, true]),
            (Face::Closed, [true, true, false, false, true]),
            (Face::Blank, [true, true, true, true, true]),
            (Face::Staff, [false, true, false, false, true]),
            (Face::Valet, [false, false, false, false, true]),
            (Face::Arrow(Turn::Left), [false, false, true, true, true]),
            (Face::Text("车".to_owned()), [false, false, false, false, false]),
            (text, [false, false, false, false, true]),
        ];
        for (face, can) in table {
            let displays = [number, staffed, arrows, short, long];
            assert_eq!(displays.map(|display| display.can_show(&face)), can, "{face:?}");
        }
    }
}
