//! Signs as they are configured, and the faces they can show.
//!
//! A face is absolute ("show 42"), never a change, so that the newest makes every older one
//! irrelevant. What a display can show is its format's affair ([`crate::profile::Format`]).

use serde::{Deserialize, Serialize};

use super::{ClassIx, NodeIx, Scope, UnitIx};

/// Minutes of a day without a clock change.
pub const DAY_MINUTES: u16 = 1_440;

#[derive(Clone, Debug)]
pub struct Sign {
    pub id: String,
    pub name: String,
    pub kind: SignKind,
    pub unit: UnitIx,
    /// Which of the unit's displays.
    pub index: u16,
    /// Where it hangs.
    pub node: Option<NodeIx>,
    /// Shown when the gateway does not know, and on stop. Never 0 and never FULL.
    pub fallback: Face,
    /// How long the automatic value must differ in kind (a number, FULL, CLOSED, another arrow)
    /// before it is shown, in seconds.
    pub change_delay_s: u32,
    /// What it does by itself at certain hours; no two overlap.
    pub schedule: Vec<Schedule>,
}

#[derive(Clone, Debug)]
pub enum SignKind {
    /// Free bays of some scopes, less what is promised and kept back.
    Count {
        scopes: Vec<Scope>,
        class: Option<ClassIx>,
        /// Bays never shown, so that the last ones cause no jam.
        keep_back: u32,
        /// Added before the limits.
        offset: i32,
        min: u32,
        max: u32,
    },
    /// Calls out allocations as they are made: a queue of texts, `show_s` each.
    CallOut { queue: usize, show_s: u32 },
    /// Points from its node to the cheapest of some scopes that has room.
    Direction {
        scopes: Vec<Scope>,
        class: Option<ClassIx>,
        /// A scope with no more free bays than this is full to who follows the arrow.
        keep_back: u32,
    },
}

/// Hours of the week in which a sign does something by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// Monday first: the days on which it begins.
    pub days: [bool; 7],
    /// Minute of the day, 0 to 1,439.
    pub from: u16,
    /// Minute of the day, 1 to 1,440; at or below `from` it is the next day's.
    pub to: u16,
    pub mode: ScheduleMode,
}

/// What a schedule can order. Tests and texts are for people to order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleMode {
    Blank,
    Full,
    Closed,
    Staff,
    Valet,
}

impl Schedule {
    /// Whether it holds at a minute of a day; 0 is Monday.
    pub fn holds(&self, day: usize, minute: u16) -> bool {
        let (today, yesterday) = (self.days[day % 7], self.days[(day + 6) % 7]);
        if self.from < self.to {
            return today && (self.from..self.to).contains(&minute);
        }
        (today && minute >= self.from) || (yesterday && minute < self.to)
    }
}

impl ScheduleMode {
    /// What is shown meanwhile.
    pub fn face(self) -> Face {
        match self {
            ScheduleMode::Blank => Face::Blank,
            ScheduleMode::Full => Face::Full,
            ScheduleMode::Closed => Face::Closed,
            ScheduleMode::Staff => Face::Staff,
            ScheduleMode::Valet => Face::Valet,
        }
    }
}

/// Which way a link leaves its node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(utoipa::ToSchema)]
pub enum Turn {
    Left,
    Straight,
    Right,
}

/// What a sign shows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Face {
    Number(u32),
    Text(String),
    Full,
    Closed,
    Blank,
    /// For staff only.
    Staff,
    /// Parked by an attendant.
    Valet,
    Arrow(Turn),
}

impl std::fmt::Display for Face {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Face::Number(n) => write!(f, "{n}"),
            Face::Text(text) => f.write_str(text),
            Face::Full => f.write_str("FULL"),
            Face::Closed => f.write_str("CLOSED"),
            Face::Blank => Ok(()),
            Face::Staff => f.write_str("STAFF"),
            Face::Valet => f.write_str("VALET"),
            Face::Arrow(Turn::Left) => f.write_str("<"),
            Face::Arrow(Turn::Straight) => f.write_str("^"),
            Face::Arrow(Turn::Right) => f.write_str(">"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_of_a_day_and_over_midnight() {
        let monday_night = Schedule {
            days: [true, false, false, false, false, false, false],
            from: 22 * 60,
            to: 6 * 60,
            mode: ScheduleMode::Closed,
        };
        let noon = Schedule { from: 12 * 60, to: 13 * 60, days: [true; 7], ..monday_night.clone() };
        let whole = Schedule { from: 0, to: DAY_MINUTES, ..monday_night.clone() };
        let table = [
            (&monday_night, 0, 22 * 60 - 1, false),
            (&monday_night, 0, 22 * 60, true),
            (&monday_night, 0, 0, false),
            (&monday_night, 1, 0, true),
            (&monday_night, 1, 6 * 60 - 1, true),
            (&monday_night, 1, 6 * 60, false),
            (&monday_night, 1, 23 * 60, false),
            (&noon, 6, 12 * 60, true),
            (&noon, 6, 13 * 60, false),
            (&whole, 0, 0, true),
            (&whole, 0, DAY_MINUTES - 1, true),
            (&whole, 1, 0, false),
            (&whole, 6, DAY_MINUTES - 1, false),
        ];
        for (schedule, day, minute, holds) in table {
            assert_eq!(schedule.holds(day, minute), holds, "{schedule:?} day {day} {minute}");
        }
    }
}
