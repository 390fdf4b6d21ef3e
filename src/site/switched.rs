//! What the gateway switches besides signs: the lamp at each bay, and relays for barriers and
//! lights. Which one is on, and in what colour, is a table of the configuration: no colour and no
//! rule of a house stands in the code.

use serde::{Deserialize, Serialize};

use super::{ClassIx, ColourIx, GarageIx, UnitIx};

/// The lamps of a zone: one a bay, in consecutive places of one unit.
#[derive(Clone, Copy, Debug)]
pub struct ZoneLamps {
    pub unit: UnitIx,
    /// Place of the first bay's lamp among the unit's.
    pub first: u16,
}

/// What a bay is to its lamp.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LampState {
    Free,
    Occupied,
    /// No fresh good sample says either.
    Unknown,
    /// Closed by staff, or in quarantine.
    Closed,
}

impl LampState {
    pub const ALL: [LampState; 4] =
        [LampState::Free, LampState::Occupied, LampState::Unknown, LampState::Closed];
}

/// The colour of a lamp in every situation of its bay.
#[derive(Clone, Debug, Default)]
pub struct LampTable {
    /// Names of the colours, as profiles have them.
    pub colours: Vec<String>,
    /// By class, then state, lease and fault; empty where the site has no lamps.
    pub table: Vec<ColourIx>,
    /// What all lamps get when the gateway stops; `None` leaves them as they are.
    pub stop: Option<ColourIx>,
}

impl LampTable {
    /// Situations of one class: four states, with a lease or not, at fault or not.
    pub const SITUATIONS: usize = 16;

    /// Where a situation stands in `table`.
    pub fn at(class: ClassIx, state: LampState, lease: bool, fault: bool) -> usize {
        let within = state as usize * 4 + usize::from(lease) * 2 + usize::from(fault);
        class.at() * LampTable::SITUATIONS + within
    }

    /// The colour for a situation; `None` where the site has no lamps.
    pub fn colour(
        &self,
        class: ClassIx,
        state: LampState,
        lease: bool,
        fault: bool,
    ) -> Option<ColourIx> {
        self.table.get(LampTable::at(class, state, lease, fault)).copied()
    }
}

/// Something that is switched on and off by the state of a garage.
#[derive(Clone, Debug)]
pub struct Output {
    pub id: String,
    pub name: String,
    pub kind: OutputKind,
    pub unit: UnitIx,
    /// Which of the unit's outputs.
    pub index: u16,
    pub garage: GarageIx,
    /// In which states of its garage it is on; a state in which nothing is known keeps it as it
    /// is, unless it is named here.
    pub on_when: Vec<GarageState>,
    pub stop: OutputStop,
}

/// What an output moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// Lets cars through or not: never moved by a fault or a lost unit.
    Barrier,
    /// A traffic light, a lamp, a text that lights up.
    Light,
}

/// What a garage is to its outputs: the first of incident, closed, unknown that holds, else its
/// fullness.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[derive(utoipa::ToSchema)]
pub enum GarageState {
    Spaces,
    AlmostFull,
    Full,
    Closed,
    Incident,
    Unknown,
}

/// What an output is set to when the gateway stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputStop {
    On,
    Off,
    #[default]
    Keep,
}
