//! Test vectors: what a profile promises, in the device's own words, so that a slip in an address or
//! a bit is found at a desk. `field/vector.rs` runs them.

use serde::Deserialize;

use super::Table;
use crate::site::Face;

/// A test vector: what a unit holds, and what parkway must make of it; or what a face becomes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    pub name: String,
    /// What the unit held a second before: for what depends on what was last known.
    #[serde(default)]
    pub before: Vec<Run>,
    /// What the unit holds; 0 elsewhere.
    #[serde(default)]
    pub holds: Vec<Run>,
    /// A letter a point from point 0 on: 'f' free, 'o' occupied, 'u' unknown.
    pub bays: Option<String>,
    pub counters: Option<Vec<u32>>,
    /// A letter a contact from contact 0 on: '1' closed, '0' open, 'u' unknown.
    pub contacts: Option<String>,
    pub sign: Option<Shown>,
    pub callout: Option<Shown>,
    /// `to` is a colour.
    pub lamp: Option<Switched>,
    /// `to` is "on" or "off".
    pub output: Option<Switched>,
}

/// Items of a table from an address on; in a table of bits 0 or 1.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub table: Table,
    pub first: u16,
    pub items: Vec<u16>,
}

/// A lamp or an output, what it is set to, and what is written where for it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switched {
    pub index: u16,
    pub to: String,
    pub at: u16,
    pub item: u16,
}

/// A face on one of the unit's displays, and the registers that show it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    #[serde(default)]
    pub display: u16,
    pub face: Face,
    pub first: u16,
    pub words: Vec<u16>,
}
