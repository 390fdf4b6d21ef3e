//! Device profiles: where a kind of device keeps what we read and write. Registers are data.
//!
//! A profile comes from TOML and says table, addresses (0-based, as on the wire), layout, limits,
//! sentinels and bit meanings, so that no register number stands in Rust. `field` plans its
//! requests from it, `field/decode.rs` turns words into [`crate::gateway::Reading`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
    pub sign: Option<Display>,
    pub callout: Option<Display>,
    pub lamps: Option<Lamps>,
    pub outputs: Option<Outputs>,
}

/// Bay detectors behind the unit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bays {
    pub table: Table,
    /// Address of point 0.
    pub base: u16,
    /// How many detectors the unit can have, 1 to 2,000.
    pub points: u16,
    pub layout: Layout,
    /// Address of the fault flags, packed like the detectors; absent where there are none.
    pub fault_base: Option<u16>,
    /// The most items the unit answers in one read; the spec's limit where absent.
    pub block_max: Option<u16>,
}

/// How detectors lie in their table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Layout {
    /// One bit a bay; in registers, bit 0 of the first register is point 0. 1 = occupied.
    Bits,
    /// One register a bay; every value but these two is unknown.
    Values { free: u16, occupied: u16 },
}

/// Vehicle counters, two registers each.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    pub table: Table,
    pub base: u16,
    /// How many counters, 1 to 32.
    pub count: u16,
    pub word_order: WordOrder,
}

/// Which half of a 32-bit value stands at the lower address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WordOrder {
    HighFirst,
    LowFirst,
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
    /// One register with a number up to `max`; words are shown by these values.
    Number { max: u16, full: u16, closed: u16, blank: u16 },
    /// ASCII, two characters a register, high byte first, padded with spaces.
    Text { chars: u16 },
}

fn yes() -> bool {
    true
}

fn one() -> u16 {
    1
}
