//! Who decides what a sign shows: one table, highest first, and nothing else.
//!
//! Each source says what it wants, or nothing; the first that wants something is shown, and its
//! name is told with the face ([`Source`]), so that nobody has to guess why a sign says what it
//! says. Stopping stands first, because what hangs there while nobody decides must be true for
//! ever; an incident comes before every person, because a person may be late.

use serde::{Deserialize, Serialize};

use crate::site::{Face, ScheduleMode};

/// What decides, highest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(utoipa::ToSchema)]
pub enum Source {
    /// All that the sign speaks of is under an incident: closed.
    Incident,
    /// The daemon stops: the fallback.
    Stopping,
    /// A text that staff put there for a time.
    Message,
    /// A mode that staff set.
    Operator,
    /// The hours in the configuration.
    Schedule,
    /// What the gateway works out.
    Automatic,
    /// What it last worked out, for a while, because too much is unknown now.
    Held,
    /// Nothing is known: the fallback.
    Fallback,
}

impl Source {
    pub const ALL: [Source; 8] = {
        let mut all = [Source::Stopping; 8];
        let mut at = 0;
        while at < all.len() {
            all[at] = PRECEDENCE[at].0;
            at += 1;
        }
        all
    };

    /// The source's name in replies and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Source::Stopping => "stopping",
            Source::Incident => "incident",
            Source::Message => "message",
            Source::Operator => "operator",
            Source::Schedule => "schedule",
            Source::Automatic => "automatic",
            Source::Held => "held",
            Source::Fallback => "fallback",
        }
    }
}

/// What each source wants of a sign at one instant.
#[derive(Clone, Debug)]
pub struct Wants<'a> {
    pub stopping: bool,
    pub incident: Option<Face>,
    pub message: Option<&'a str>,
    pub operator: Option<Face>,
    pub schedule: Option<ScheduleMode>,
    pub automatic: Option<Face>,
    pub held: Option<Face>,
    pub fallback: &'a Face,
}

/// A line of the table: who, and what it wants.
type Line = (Source, fn(&Wants<'_>) -> Option<Face>);

/// The table.
const PRECEDENCE: [Line; 8] = [
    (Source::Incident, |wants| wants.incident.clone()),
    (Source::Stopping, |wants| wants.stopping.then(|| wants.fallback.clone())),
    (Source::Message, |wants| wants.message.map(|text| Face::Text(text.to_owned()))),
    (Source::Operator, |wants| wants.operator.clone()),
    (Source::Schedule, |wants| wants.schedule.map(ScheduleMode::face)),
    (Source::Automatic, |wants| wants.automatic.clone()),
    (Source::Held, |wants| wants.held.clone()),
    (Source::Fallback, |wants| Some(wants.fallback.clone())),
];

/// The first that wants something, and what.
pub fn decide(wants: &Wants<'_>) -> (Source, Face) {
    let mut lines = PRECEDENCE.iter();
    let first = lines.find_map(|(source, wanted)| Some((*source, wanted(wants)?)));
    first.expect("the last line of the table always wants something")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every combination of the seven that may want nothing: the winner is the highest there.
    #[test]
    fn the_highest_that_wants_something_is_shown() {
        let fallback = Face::Text("FALLBACK".to_owned());
        let text = |text: &str| Face::Text(text.to_owned());
        // Source, by name in this order, and what it shows here.
        let order = [
            (Source::Incident, Face::Closed),
            (Source::Stopping, fallback.clone()),
            (Source::Message, text("LOW ROOF")),
            (Source::Operator, text("888")),
            (Source::Schedule, Face::Valet),
            (Source::Automatic, Face::Number(7)),
            (Source::Held, Face::Number(6)),
            (Source::Fallback, fallback.clone()),
        ];
        for set in 0..128_u32 {
            let wants = |bit: u32| set & 1 << bit != 0;
            let given = Wants {
                incident: wants(0).then_some(Face::Closed),
                stopping: wants(1),
                message: wants(2).then_some("LOW ROOF"),
                operator: wants(3).then(|| text("888")),
                schedule: wants(4).then_some(ScheduleMode::Valet),
                automatic: wants(5).then_some(Face::Number(7)),
                held: wants(6).then_some(Face::Number(6)),
                fallback: &fallback,
            };
            let highest = set.trailing_zeros().min(7) as usize;
            assert_eq!(decide(&given), order[highest], "{given:?}");
        }
    }

    #[test]
    fn the_table_is_in_the_order_of_its_names() {
        assert!(PRECEDENCE.is_sorted_by_key(|(source, _)| *source));
    }
}
