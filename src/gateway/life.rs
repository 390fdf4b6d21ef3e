//! The life of a lease as one table: how far its vehicle is known to be, what may happen, what
//! then is done.
//!
//! Every change of an open lease goes through [`act`], which has a line for each cell: a new state
//! or event does not compile before each of its cells is decided. `turn.rs` carries out what the
//! table says. The table as people read it is `life.md`, and a test holds it to this code.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::door::LeaseId;
use crate::site::NodeIx;
use crate::time::Mono;

/// How far a lease's vehicle is known to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It asked, and was not seen since.
    #[default]
    Promised,
    /// It was seen again on its way.
    Confirmed,
    /// It was seen at its garage's door.
    Inside,
    /// The lease is over.
    Ended,
}

/// What may happen to a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The same request again, or the same vehicle read again at the same place.
    Repeat,
    /// Seen no further from its garage than before.
    Nearer,
    /// Seen further from it: a missed fork, or a way of its own.
    Astray,
    /// Seen at its garage's door.
    AtDoor,
    /// Seen at another garage's door.
    OtherDoor,
    /// Seen at an exit: it passed without stopping.
    Leaving,
    /// Identified where it was promised a place.
    Parked,
    /// Identified in another place.
    ParkedElsewhere,
    /// Its driver found the bay taken.
    FoundTaken,
    /// The bay filled before its vehicle could be there, or another one is known to stand there.
    Stolen,
    /// A promised bay or zone filled in its time.
    Filled,
    /// Another bay of its zone filled in its time.
    NeighbourFilled,
    /// What it was promised was closed.
    Closed,
    /// A way was closed that it cannot have passed yet.
    WayCut,
    /// Its class turned out otherwise, and its place still serves it.
    ClassFits,
    /// Its class turned out otherwise, and its place does not serve it.
    ClassMisfits,
    /// Whoever asked gave it back.
    GivenBack,
    /// Its time is over.
    Overdue,
}

/// What is done about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Nothing changes; whoever asked hears how it stands.
    Tell,
    /// It has ended, and whoever reports it hears how.
    Refuse,
    /// Nothing.
    Nothing,
    /// The place stands, with a new deadline; or once another, for a gain of `move_gain_s`.
    Confirm,
    /// The cheapest place from there, if it is cheaper; not counted as a voluntary move.
    Revise,
    /// A place in the garage it went into, if there is one.
    Enter,
    /// Another place: in the same garage if there is one, else the cheapest; else displaced.
    Rehome,
    /// The same, and the bay is kept out for a while.
    Quarantine,
    /// It is over: parked as promised.
    Fulfil,
    /// It is over: parked elsewhere.
    TookOther,
    /// It is over: given back.
    Cancel,
    /// It is over: nobody came in time.
    Expire,
    /// It is over: the vehicle left without parking.
    Leave,
}

impl Event {
    /// Whether someone told it and waits for an answer.
    fn reported(self) -> bool {
        match self {
            Event::Stolen | Event::Filled | Event::NeighbourFilled | Event::Closed => false,
            Event::WayCut | Event::Overdue => false,
            Event::Repeat
            | Event::Nearer
            | Event::Astray
            | Event::AtDoor
            | Event::OtherDoor
            | Event::Leaving
            | Event::Parked
            | Event::ParkedElsewhere
            | Event::FoundTaken
            | Event::ClassFits
            | Event::ClassMisfits
            | Event::GivenBack => true,
        }
    }
}

/// The table: what is done when `event` happens to a lease in `state`.
pub fn act(state: State, event: Event) -> Act {
    match state {
        State::Promised | State::Confirmed => open(event),
        State::Inside => match event {
            // A car inside is past every fork: no cut way concerns it.
            Event::WayCut => Act::Nothing,
            // It was at its door and is out again, so that it goes its own way.
            Event::Nearer => Act::Revise,
            event => open(event),
        },
        State::Ended => match event {
            Event::Repeat => Act::Tell,
            event if event.reported() => Act::Refuse,
            _ => Act::Nothing,
        },
    }
}

fn open(event: Event) -> Act {
    match event {
        Event::Repeat => Act::Tell,
        Event::Nearer | Event::AtDoor | Event::ClassFits => Act::Confirm,
        Event::Astray | Event::WayCut => Act::Revise,
        Event::OtherDoor => Act::Enter,
        Event::Leaving => Act::Leave,
        Event::Parked | Event::Filled => Act::Fulfil,
        Event::ParkedElsewhere | Event::NeighbourFilled => Act::TookOther,
        Event::FoundTaken => Act::Quarantine,
        Event::Stolen | Event::Closed | Event::ClassMisfits => Act::Rehome,
        Event::GivenBack => Act::Cancel,
        Event::Overdue => Act::Expire,
    }
}

/// The state after an act that leaves the lease open.
pub fn next(state: State, event: Event) -> State {
    match event {
        Event::AtDoor | Event::OtherDoor => State::Inside,
        Event::Nearer | Event::Astray => State::Confirmed,
        _ => state,
    }
}

/// What is known of a lease's vehicle besides the promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life {
    pub state: State,
    /// Where it was seen last.
    pub seen: NodeIx,
    pub seen_at: Mono,
    /// Voluntary moves so far: one at most.
    pub moves: u8,
    /// Digest of the caller's hash of its plate.
    pub vehicle: Option<u64>,
}

impl Life {
    /// Of a vehicle that asks at a node.
    pub fn new(at: NodeIx, now: Mono, vehicle: Option<u64>) -> Life {
        Life { state: State::Promised, seen: at, seen_at: now, moves: 0, vehicle }
    }
}

/// Leases by their vehicle: the open ones, and those of vehicles that parked a moment ago, so that
/// a late second reading of the same camera makes no second lease.
#[derive(Clone, Debug, Default)]
pub struct Vehicles {
    leases: BTreeMap<u64, LeaseId>,
    /// Oldest first. Bounded: by the ends within one window.
    parked: VecDeque<(Mono, u64, LeaseId)>,
}

impl Vehicles {
    /// The lease of a vehicle that is open or ended within the window.
    pub fn find(&mut self, vehicle: u64, now: Mono, window_ms: u64) -> Option<LeaseId> {
        while let Some((at, ended, lease)) = self.parked.front().copied() {
            if now.ms_since(at) <= window_ms {
                break;
            }
            self.parked.pop_front();
            self.forget(ended, lease);
        }
        self.leases.get(&vehicle).copied()
    }

    /// A lease was opened for it.
    pub fn open(&mut self, vehicle: u64, lease: LeaseId) {
        self.leases.insert(vehicle, lease);
    }

    /// Its lease ended; a vehicle that parked is remembered for a window.
    pub fn end(&mut self, vehicle: u64, lease: LeaseId, parked: bool, now: Mono) {
        if parked {
            self.parked.push_back((now, vehicle, lease));
        } else {
            self.forget(vehicle, lease);
        }
    }

    fn forget(&mut self, vehicle: u64, lease: LeaseId) {
        if self.leases.get(&vehicle) == Some(&lease) {
            self.leases.remove(&vehicle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 4] = [State::Promised, State::Confirmed, State::Inside, State::Ended];

    const EVENTS: [Event; 18] = [
        Event::Repeat,
        Event::Nearer,
        Event::Astray,
        Event::AtDoor,
        Event::OtherDoor,
        Event::Leaving,
        Event::Parked,
        Event::ParkedElsewhere,
        Event::FoundTaken,
        Event::Stolen,
        Event::Filled,
        Event::NeighbourFilled,
        Event::Closed,
        Event::WayCut,
        Event::ClassFits,
        Event::ClassMisfits,
        Event::GivenBack,
        Event::Overdue,
    ];

    /// `PARKWAY_WRITE=1 cargo test --lib gateway::life` writes it anew.
    #[test]
    fn the_table_people_read_is_the_codes_own() {
        assert!((0..).zip(STATES).all(|(ix, state)| state as usize == ix));
        assert!((0..).zip(EVENTS).all(|(ix, event)| event as usize == ix));
        assert_eq!(
            (STATES.len(), EVENTS.len()),
            (State::Ended as usize + 1, Event::Overdue as usize + 1)
        );
        let mut text = String::from(
            "# The life of a lease\n\nWhat is done when an event (row) finds a lease in a state \
             (column); `life.rs` says what each word means, and a test holds this to it.\n\n| |",
        );
        for state in STATES {
            text += &format!(" {state:?} |");
        }
        text += "\n|---|---|---|---|---|\n";
        for event in EVENTS {
            text += &format!("| {event:?} |");
            for state in STATES {
                let (act, next) = (act(state, event), next(state, event));
                let goes_on = matches!(act, Act::Confirm | Act::Revise | Act::Enter);
                match goes_on && next != state {
                    true => text += &format!(" {act:?}, {next:?} |"),
                    false => text += &format!(" {act:?} |"),
                }
            }
            text += "\n";
        }
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gateway/life.md");
        if std::env::var_os("PARKWAY_WRITE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), text);
    }

    #[test]
    fn an_ended_lease_is_never_touched() {
        for event in EVENTS {
            let act = act(State::Ended, event);
            assert!(matches!(act, Act::Tell | Act::Refuse | Act::Nothing), "{event:?}: {act:?}");
        }
    }

    #[test]
    fn a_parked_vehicle_is_remembered_for_a_window_and_a_cancelled_one_not() {
        let lease = |number| LeaseId { run: 1, number };
        let mut vehicles = Vehicles::default();
        let at = |s: u64| Mono(s * 1_000_000_000);
        vehicles.open(7, lease(1));
        vehicles.end(7, lease(1), true, at(100));
        assert_eq!(vehicles.find(7, at(160), 60_000), Some(lease(1)));
        assert_eq!(vehicles.find(7, at(161), 60_000), None);
        vehicles.open(7, lease(2));
        vehicles.end(7, lease(2), false, at(200));
        assert_eq!(vehicles.find(7, at(200), 60_000), None);
        vehicles.open(7, lease(3));
        vehicles.end(7, lease(3), true, at(200));
        vehicles.open(7, lease(4));
        assert_eq!(vehicles.find(7, at(400), 60_000), Some(lease(4)), "the newer one stays");
    }
}
