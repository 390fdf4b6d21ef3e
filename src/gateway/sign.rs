//! One sign's present: what people and hours order, what the gateway works out, what is shown.
//!
//! Which of these wins is the table in `precedence.rs`. A sign is an absolute face, so the newest
//! write makes every older one irrelevant. A count that cannot be known is held for `sign_hold_s`
//! and then gives way to the fallback: a sign never shows a zero it cannot know.

use std::collections::VecDeque;

use super::arrow::Room;
use super::bays::Bays;
use super::calm::Calm;
use super::door::{LeaseId, SignMode};
use super::precedence::{Source, Wants, decide};
use crate::config::GuidanceTable;
use crate::profile::Format;
use crate::record::Tally;
use crate::site::{Face, ScheduleMode, Scope, Sign, SignKind, Site};
use crate::time::Mono;

/// A mode that staff set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ModeOrder {
    pub mode: SignMode,
    pub by: String,
    /// When it ends by itself, and its full length for a start under another boot.
    pub until: Option<Mono>,
    pub length_s: Option<u64>,
}

/// A text that staff put there for a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    pub text: String,
    pub by: String,
    pub until: Mono,
    pub length_s: u64,
}

/// What the gateway works out for a sign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Worked {
    /// `at_once`: what was shown leads into what is closed, which waits for no delay.
    Known { face: Face, at_once: bool },
    /// Too much is unknown; `hold`: what was last worked out may stand for a while.
    Unknown { hold: bool },
}

/// What else bears on a sign's face.
#[derive(Clone, Copy, Debug)]
pub struct Around {
    pub now: Mono,
    pub stopping: bool,
    /// All it speaks of is under an incident.
    pub incident: bool,
    /// Of its display.
    pub format: Option<Format>,
    pub hold_ms: u64,
}

/// One sign's present.
#[derive(Clone, Debug)]
pub struct SignState {
    pub order: ModeOrder,
    /// Staff set the mode in this run: it is newer than any kept one.
    pub mode_set: bool,
    pub message: Option<Message>,
    /// The same for the message.
    pub message_set: bool,
    /// What the hours say.
    pub scheduled: Option<ScheduleMode>,
    /// From the configuration; a reload may change it.
    pub fallback: Face,
    /// What was last ordered and by whom; `None` until the first order of this run.
    pub shown: Option<(Source, Face)>,
    /// What each scope of a direction sign has; empty until first looked at.
    pub rooms: Vec<Room>,
    calm: Calm,
    /// Last automatic face, and since when it is only held.
    pub last: Option<Face>,
    held_since: Option<Mono>,
    queue: VecDeque<(LeaseId, String)>,
    called: Option<(LeaseId, String, Mono)>,
}

impl SignState {
    pub fn new(sign: &Sign) -> SignState {
        SignState {
            order: ModeOrder::default(),
            mode_set: false,
            message: None,
            message_set: false,
            scheduled: None,
            fallback: sign.fallback.clone(),
            shown: None,
            rooms: Vec::new(),
            calm: Calm::default(),
            last: None,
            held_since: None,
            queue: VecDeque::new(),
            called: None,
        }
    }

    /// Queues a call-out; the oldest waiting one gives way when the queue is full.
    pub fn call(&mut self, lease: LeaseId, text: String, queue_max: usize) {
        if self.queue.len() >= queue_max {
            self.queue.pop_front();
        }
        self.queue.push_back((lease, text));
    }

    /// Forgets a lease's call-out, shown or waiting.
    pub fn call_off(&mut self, lease: LeaseId) {
        self.queue.retain(|(other, _)| *other != lease);
        self.called.take_if(|(other, _, _)| *other == lease);
    }

    /// Shows a number it worked out, nobody ordered anything, and nothing waits to be shown.
    pub fn calmly_counts(&self) -> bool {
        matches!(self.shown, Some((Source::Automatic, Face::Number(_))))
            && self.order.mode == SignMode::Auto
            && self.message.is_none()
            && self.scheduled.is_none()
            && self.held_since.is_none()
            && self.calm.shows_number()
    }

    /// Shows another number where [`SignState::calmly_counts`]; false where it is the same.
    pub fn count_on(&mut self, number: u32) -> bool {
        let face = Face::Number(number);
        let (shown, last) = (Some((Source::Automatic, face.clone())), Some(face.clone()));
        self.calm.count(number);
        self.last = last;
        let other = self.shown != shown;
        self.shown = shown;
        other
    }

    /// When the sign changes by itself, orders of staff aside.
    pub fn due(&self, sign: &Sign, tuning: &GuidanceTable) -> Option<Mono> {
        let called = match (&sign.kind, &self.called) {
            (SignKind::CallOut { show_s, .. }, Some((_, _, since))) => {
                Some(since.plus_ms(u64::from(*show_s) * 1_000))
            }
            _ => None,
        };
        let hold_ms = u64::from(tuning.sign_hold_s) * 1_000;
        let held = self.held_since.map(|since| since.plus_ms(hold_ms));
        [called, held, self.calm.due(delay_ms(sign))].into_iter().flatten().min()
    }

    /// What the sign should show now, and who says so.
    pub fn decide(&mut self, sign: &Sign, worked: Worked, around: &Around) -> (Source, Face) {
        let (mut automatic, mut held) = (None, None);
        match worked {
            Worked::Known { face, at_once } => {
                self.held_since = None;
                let face = self.calm.pass(around.now, face, delay_ms(sign), at_once);
                self.last = Some(face.clone());
                automatic = Some(face);
            }
            Worked::Unknown { hold } => {
                let since = *self.held_since.get_or_insert(around.now);
                if hold && around.now.ms_since(since) < around.hold_ms {
                    held = self.last.clone();
                }
            }
        }
        let closed = around.format.is_none_or(|format| format.can_show(&Face::Closed));
        let (source, face) = decide(&Wants {
            stopping: around.stopping,
            incident: around.incident.then_some(if closed { Face::Closed } else { Face::Blank }),
            message: self.message.as_ref().map(|message| message.text.as_str()),
            operator: operator_face(self.order.mode, around.format),
            schedule: self.scheduled,
            automatic,
            held,
            fallback: &self.fallback,
        });
        if source != Source::Automatic {
            self.calm.clear();
        }
        (source, face)
    }

    /// The next of the waiting texts, each for its time; the fallback where none waits.
    pub fn call_out(&mut self, now: Mono, show_s: u32) -> Worked {
        let over = |since: Mono| now.ms_since(since) >= u64::from(show_s) * 1_000;
        if self.called.as_ref().is_none_or(|(_, _, since)| over(*since)) {
            self.called = self.queue.pop_front().map(|(lease, text)| (lease, text, now));
        }
        let face = match &self.called {
            Some((_, text, _)) => Face::Text(text.clone()),
            None => self.fallback.clone(),
        };
        Worked::Known { face, at_once: true }
    }
}

/// What a count sign says of its scopes.
pub fn count(sign: &Sign, site: &Site, bays: &Bays, unsure: u32, unknown_max: u32) -> Worked {
    let SignKind::Count { scopes, class, .. } = &sign.kind else {
        return Worked::Unknown { hold: false };
    };
    let mut tally = Tally::default();
    for scope in scopes {
        tally += bays.tally(*scope, *class);
    }
    let (all, open) = (tally.total(), tally.total() - tally.closed);
    if tally.unknown * 100 > open * unknown_max {
        return Worked::Unknown { hold: true };
    }
    if all == tally.closed && closed_by_staff(site, bays, scopes) {
        // Someone ordered it: that waits for no delay.
        return Worked::Known { face: Face::Closed, at_once: true };
    }
    Worked::Known { face: number(sign, tally.free, unsure), at_once: false }
}

/// Free bays less what is promised without a bay and what is kept back, within limits.
fn number(sign: &Sign, free: u32, unsure: u32) -> Face {
    let SignKind::Count { keep_back, offset, min, max, .. } = &sign.kind else {
        return Face::Blank;
    };
    let spare = free.saturating_sub(unsure).saturating_sub(*keep_back);
    let value = i64::from(spare) + i64::from(*offset);
    match u32::try_from(value.clamp(i64::from(*min), i64::from(*max))) {
        Ok(0) | Err(_) => Face::Full,
        Ok(value) => Face::Number(value),
    }
}

/// A closed sign is for closed doors: quarantined bays alone do not make one.
pub fn closed_by_staff(site: &Site, bays: &Bays, scopes: &[Scope]) -> bool {
    let all = scopes.iter().flat_map(|scope| site.scope_bays(*scope));
    all.map(crate::site::BayIx).all(|bay| bays.get(bay).closures > 0)
}

/// What a mode shows; `None` where it wants nothing, or the display has nothing for it.
pub fn operator_face(mode: SignMode, format: Option<Format>) -> Option<Face> {
    let face = match mode {
        SignMode::Auto => return None,
        SignMode::Blank => Face::Blank,
        SignMode::Full => Face::Full,
        SignMode::Closed => Face::Closed,
        SignMode::Staff => Face::Staff,
        SignMode::Valet => Face::Valet,
        SignMode::Test => test_face(format?)?,
    };
    format.is_none_or(|format| format.can_show(&face)).then_some(face)
}

/// All segments: 8s to the display's width. A lamp with arrows has none.
fn test_face(format: Format) -> Option<Face> {
    match format {
        Format::Number { max, .. } => {
            let eights = [8, 88, 888, 8_888];
            Some(Face::Number(eights.into_iter().rfind(|n| *n <= u32::from(max)).unwrap_or(8)))
        }
        Format::Text { chars, .. } => Some(Face::Text("8".repeat(usize::from(chars)))),
        Format::Arrows { .. } => None,
    }
}

fn delay_ms(sign: &Sign) -> u64 {
    u64::from(sign.change_delay_s) * 1_000
}
