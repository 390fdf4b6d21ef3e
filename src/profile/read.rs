//! What a unit is read for: bay detectors, vehicle counters, contacts; and how each lies in its
//! table.

use serde::Deserialize;

use super::Table;

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
    /// The most items the unit answers in one read of them; the spec's limit where absent.
    pub block_max: Option<u16>,
}

/// How detectors lie in their table.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Layout {
    /// One bit a bay; in registers, bit 0 of the first register is point 0. 1 = occupied.
    Bits,
    /// One register a bay; every value but these two is unknown.
    Values { free: u16, occupied: u16 },
    /// One register a bay: a bit that says occupied, and bits any of which says that it is broken.
    Flags {
        /// Bit number, 0 to 15.
        detect: u8,
        /// Bit numbers, 0 to 15.
        #[serde(default)]
        faults: Vec<u8>,
    },
    /// One distance a bay, of a ranger above it.
    Distance(Distance),
}

/// What a ranger's values mean. Between the two thresholds a point stays occupied where its last
/// good value outside them said so, for `hold_s` only; else it is unknown, because a car may stand
/// there that came since.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distance {
    #[serde(default)]
    pub number: Number,
    /// Of a 32-bit number.
    #[serde(default)]
    pub word_order: WordOrder,
    /// Millimetres that a count of 1 stands for, 1 to 1,000.
    #[serde(default = "one")]
    pub count_mm: u16,
    /// Nearer than this, something stands there.
    pub occupied_below_mm: u32,
    /// Farther than this, nothing does.
    pub free_above_mm: u32,
    /// What the ranger can measure, both included; anything else is unknown.
    pub valid_mm: [u32; 2],
    /// Counts that mean no distance but an error: unknown even where they lie in range.
    #[serde(default)]
    pub errors: Vec<i64>,
    /// Counts that say: no object in range.
    #[serde(default)]
    pub none: Vec<i64>,
    /// What that says of the bay. A ranger that sees the floor of an empty bay should never say
    /// it, so that it is unknown where the profile does not know better.
    #[serde(default)]
    pub none_means: Meaning,
    /// How long a value between the thresholds keeps a bay occupied, 0 to 3,600 s.
    #[serde(default = "hold_s")]
    pub hold_s: u32,
}

/// How a number lies in registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Number {
    #[default]
    U16,
    I16,
    U32,
    I32,
}

impl Number {
    /// Registers it takes.
    pub fn words(self) -> u16 {
        match self {
            Number::U16 | Number::I16 => 1,
            Number::U32 | Number::I32 => 2,
        }
    }

    /// The least and the greatest it can be.
    pub fn range(self) -> (i64, i64) {
        match self {
            Number::U16 => (0, u16::MAX.into()),
            Number::I16 => (i16::MIN.into(), i16::MAX.into()),
            Number::U32 => (0, u32::MAX.into()),
            Number::I32 => (i32::MIN.into(), i32::MAX.into()),
        }
    }
}

/// What a value says of a bay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Meaning {
    Free,
    Occupied,
    #[default]
    Unknown,
}

/// Vehicle counters.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    pub table: Table,
    pub base: u16,
    /// How many counters, 1 to 32.
    pub count: u16,
    /// Bits of one: 16 or 32, which are one register or two.
    #[serde(default = "width")]
    pub width: u8,
    /// Of a 32-bit counter.
    #[serde(default)]
    pub word_order: WordOrder,
    /// The highest count, after which it begins at 0 again; what `width` can hold where absent.
    pub wrap: Option<u32>,
    /// The most registers the unit answers in one read of them; the spec's limit where absent.
    pub block_max: Option<u16>,
}

impl Counters {
    /// Registers of one counter.
    pub fn words(&self) -> u16 {
        u16::from(self.width).div_ceil(16)
    }

    /// The highest count.
    pub fn highest(&self) -> u32 {
        let full = if self.width == 16 { u16::MAX.into() } else { u32::MAX };
        self.wrap.unwrap_or(full)
    }
}

/// Which half of a 32-bit value stands at the lower address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WordOrder {
    #[default]
    HighFirst,
    LowFirst,
}

/// Contacts: inputs that are closed (1) or open (0), such as a fire panel's relay.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contacts {
    pub table: Table,
    /// Address of contact 0; in registers, bit 0 of the first register is contact 0.
    pub base: u16,
    /// How many, 1 to 64.
    pub count: u16,
    /// The most items the unit answers in one read of them; the spec's limit where absent.
    pub block_max: Option<u16>,
}

fn one() -> u16 {
    1
}

fn width() -> u8 {
    32
}

fn hold_s() -> u32 {
    30
}
