//! The retained picture: presence, garages, signs, as messages of state.
//!
//! State is not history: it is made from the newest snapshot only, sent with QoS 0 and retained,
//! everything fresh at each connect and then what changed: at once after a rest, and what keeps
//! changing every two seconds. A
//! replayed record can therefore never put an old state over a new one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::link::Link;
use crate::gateway::{GarageView, SignView, Snapshot};
use crate::record::Lane;
use crate::site::Site;
use crate::store;
use crate::time::{Now, Wall};

/// How often one topic may change, and all of them are looked at while any does. Bays are swept
/// once a second and their number is read by people; each message is a packet on a mobile link.
pub const PACE: Duration = Duration::from_secs(2);
/// How often presence repeats a backlog that changed; a changed store is told at once.
const BACKLOG_PACE: Duration = Duration::from_secs(30);

/// What was last sent, by position in the snapshot.
#[derive(Default)]
pub struct Board {
    garages: Vec<Option<(Instant, GarageView)>>,
    signs: Vec<Option<(Instant, SignView)>>,
    presence: Option<(Instant, Presence)>,
}

/// What presence says besides the time.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Presence {
    pub v: u32,
    pub online: bool,
    pub gateway: String,
    pub version: &'static str,
    pub boot: String,
    /// What it was configured with when it started: [`Site::config`].
    pub config: String,
    pub epoch: Option<String>,
    pub clock: ClockState,
    pub store: StoreState,
    pub store_why: Option<String>,
    pub backlog: BTreeMap<&'static str, Waiting>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreState {
    Ok,
    Degraded,
}

/// How far times of state can be believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockState {
    Good,
    Unsure,
}

/// One lane's backlog.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Waiting {
    pub records: u64,
    pub bytes: u64,
    pub oldest_at: Option<String>,
}

/// Presence of a gateway that is gone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Absence {
    pub v: u32,
    pub online: bool,
    pub gateway: String,
    pub version: &'static str,
    pub boot: String,
    /// It said goodbye; otherwise the broker noticed.
    pub clean: bool,
}

/// Any state with the time it was true.
#[derive(Serialize)]
struct Stamped<'a, T> {
    #[serde(flatten)]
    state: &'a T,
    at: &'a str,
}

impl Presence {
    pub fn new(site: &Site, boot: &str, status: &store::Status, clock_good: bool) -> Presence {
        let lanes = Lane::ALL.into_iter().zip(&status.lanes);
        Presence {
            v: 1,
            online: true,
            gateway: site.gateway.clone(),
            version: env!("CARGO_PKG_VERSION"),
            boot: boot.to_owned(),
            config: site.config.clone(),
            epoch: status.epoch.map(|epoch| format!("{epoch:016x}")),
            clock: if clock_good { ClockState::Good } else { ClockState::Unsure },
            store: match status.degraded {
                Some(_) => StoreState::Degraded,
                None => StoreState::Ok,
            },
            store_why: status.degraded.clone(),
            backlog: lanes.map(|(lane, waiting)| (lane.name(), Waiting::of(waiting))).collect(),
        }
    }

    /// Whether something changed that is told without delay.
    fn turned(&self, before: &Presence) -> bool {
        (self.store, self.clock, &self.epoch) != (before.store, before.clock, &before.epoch)
    }
}

impl Waiting {
    fn of(lane: &store::LaneStatus) -> Waiting {
        let oldest_at = lane.oldest_at.map(|at: Wall| at.to_string());
        Waiting { records: lane.records, bytes: lane.bytes, oldest_at }
    }
}

impl Absence {
    pub fn new(gateway: &str, boot: &str, clean: bool) -> Absence {
        Absence {
            v: 1,
            online: false,
            gateway: gateway.to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            boot: boot.to_owned(),
            clean,
        }
    }
}

impl Board {
    /// Sends what changed since it was last sent here, as far as the link has room; how many.
    pub fn send(&mut self, link: &mut Link, base: &str, now: Instant, picture: &Snapshot) -> u64 {
        let mut sent = 0;
        let at = picture.at.wall.to_string();
        self.garages.resize(picture.garages.len(), None);
        for (last, view) in self.garages.iter_mut().zip(&picture.garages) {
            let topic = || format!("{base}/state/garages/{}", view.id);
            sent += u64::from(send_one(link, last, view, now, &at, topic));
        }
        self.signs.resize(picture.signs.len(), None);
        for (last, view) in self.signs.iter_mut().zip(&picture.signs) {
            let topic = || format!("{base}/state/signs/{}", view.id);
            sent += u64::from(send_one(link, last, view, now, &at, topic));
        }
        sent
    }

    /// Sends presence where it changed.
    pub fn send_presence(&mut self, link: &mut Link, base: &str, at: Now, new: Presence) -> bool {
        let now = Instant::now();
        if let Some((sent, last)) = &self.presence {
            let pace = if new.turned(last) { PACE } else { BACKLOG_PACE };
            if new == *last || now.duration_since(*sent) < pace {
                return false;
            }
        }
        let sent = link.send_state(&format!("{base}/state/gateway"), stamped(&new, at));
        if sent {
            self.presence = Some((now, new));
        }
        sent
    }
}

fn send_one<T: Clone + PartialEq + Serialize>(
    link: &mut Link,
    last: &mut Option<(Instant, T)>,
    view: &T,
    now: Instant,
    at: &str,
    topic: impl Fn() -> String,
) -> bool {
    let wanted = match last {
        None => true,
        Some((sent, before)) => before != view && now.duration_since(*sent) >= PACE,
    };
    if !wanted || !link.send_state(&topic(), text(view, at)) {
        return false;
    }
    *last = Some((now, view.clone()));
    true
}

/// The JSON of a state and its time.
pub fn stamped<T: Serialize>(state: &T, at: Now) -> String {
    text(state, &at.wall.to_string())
}

/// The same where many states share one time.
fn text<T: Serialize>(state: &T, at: &str) -> String {
    let stamped = Stamped { state, at };
    // Views hold strings, numbers and maps with string keys: nothing that JSON cannot say.
    serde_json::to_string(&stamped).expect("a view is plain data")
}
