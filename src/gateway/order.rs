//! What staff and the clock order of signs: modes, messages, hours.
//!
//! Every order carries who gave it and may carry an end, is recorded, and is kept over restarts;
//! the time that is left is kept as a lease's is. A display that cannot show what is ordered
//! refuses it, because a sign that silently shows something else is worse than an error.
//!
//! Hours are the one thing that the wall clock decides: looked at each minute of it, so that a
//! clock set right is followed within a minute, and at rest while it shows a date before this
//! program was written.

use jiff::Timestamp;

use super::door::{Answer, Effect, Refusal, SignMode};
use super::sign::{Message, ModeOrder, operator_face};
use super::{Gateway, Timer};
use crate::profile::Format;
use crate::record::{Body, Lane};
use crate::site::{Face, Schedule, ScheduleMode, SignIx};
use crate::time::quality::PLAUSIBLE_FROM;

const MINUTE_MS: i64 = 60_000;

impl Gateway {
    pub(super) fn set_mode(
        &mut self,
        sign: SignIx,
        mode: SignMode,
        by: String,
        expires_s: Option<u64>,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let can = operator_face(mode, self.format(sign)).is_some();
        if mode != SignMode::Auto && !can {
            return Answer::Refused(Refusal::CannotShow { sign, what: mode.name().to_owned() });
        }
        // Automatic has no end: it is what an end leads to.
        let expires_s = expires_s.filter(|_| mode != SignMode::Auto);
        let until = expires_s.map(|s| self.now.mono.plus_ms(s.saturating_mul(1_000)));
        let order = ModeOrder { mode, by: by.clone(), until, length_s: expires_s };
        self.apply_mode(sign, order);
        self.signs[sign.at()].mode_set = true;
        self.keep_mode(sign, effects);
        let id = self.site.signs[sign.at()].id.clone();
        let mode = mode.name().to_owned();
        self.record(Lane::Events, Body::SignMode { sign: id, mode, by, expires_s }, effects);
        self.show(sign, effects);
        Answer::Done
    }

    /// Puts a mode in force.
    pub(super) fn apply_mode(&mut self, sign: SignIx, order: ModeOrder) {
        if let Some(until) = order.until {
            self.arm(until, Timer::Order(sign));
        }
        self.signs[sign.at()].order = order;
    }

    pub(super) fn show_message(
        &mut self,
        sign: SignIx,
        text: String,
        by: String,
        for_s: u64,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        // Digits are text too: a display of numbers must not pass for one of texts.
        let texts = matches!(self.format(sign), Some(Format::Text { .. }));
        let face = Face::Text(text.clone());
        if !texts || !self.format(sign).is_some_and(|format| format.can_show(&face)) {
            return Answer::Refused(Refusal::CannotShow { sign, what: format!("\"{text}\"") });
        }
        let until = self.now.mono.plus_ms(for_s.saturating_mul(1_000));
        let message = Message { text: text.clone(), by: by.clone(), until, length_s: for_s };
        self.apply_message(sign, message);
        self.signs[sign.at()].message_set = true;
        self.keep_message(sign, effects);
        let id = self.site.signs[sign.at()].id.clone();
        self.record(Lane::Events, Body::SignMessage { sign: id, text, by, for_s }, effects);
        self.show(sign, effects);
        Answer::Done
    }

    /// Puts a message in force; the one before gives way.
    pub(super) fn apply_message(&mut self, sign: SignIx, message: Message) {
        self.arm(message.until, Timer::Order(sign));
        self.signs[sign.at()].message = Some(message);
    }

    pub(super) fn clear_message(
        &mut self,
        sign: SignIx,
        by: String,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        if self.signs[sign.at()].message.take().is_none() {
            return Answer::Refused(Refusal::NoMessage(sign));
        }
        self.signs[sign.at()].message_set = true;
        self.keep_message(sign, effects);
        let id = self.site.signs[sign.at()].id.clone();
        self.record(Lane::Events, Body::SignMessageEnded { sign: id, by }, effects);
        self.show(sign, effects);
        Answer::Done
    }

    /// Ends what has an end: a mode, a message.
    pub(super) fn order_due(&mut self, sign: SignIx, effects: &mut Vec<Effect>) {
        let now = self.now.mono;
        let state = &self.signs[sign.at()];
        let (mode_over, message_over) = (
            state.order.until.is_some_and(|until| until <= now),
            state.message.as_ref().is_some_and(|message| message.until <= now),
        );
        let by = || "expiry".to_owned();
        if mode_over {
            self.set_mode(sign, SignMode::Auto, by(), None, effects);
        }
        if message_over {
            self.clear_message(sign, by(), effects);
        }
    }

    /// The minute has changed, or the clock was set: what do the hours say?
    pub(super) fn schedules_due(&mut self, effects: &mut Vec<Effect>) {
        let local = self.local();
        for at in 0..self.scheduled.len() {
            let ix = self.scheduled[at];
            let schedule = &self.site.signs[ix.at()].schedule;
            let says = local.and_then(|(day, minute)| says(schedule, day, minute));
            if std::mem::replace(&mut self.signs[ix.at()].scheduled, says) != says {
                self.show(ix, effects);
            }
        }
        let into_minute = self.now.wall.0.rem_euclid(MINUTE_MS);
        // 1 to 60,000 by construction.
        let left_ms = u64::try_from(MINUTE_MS - into_minute).unwrap_or(1);
        self.arm(self.now.mono.plus_ms(left_ms), Timer::Schedules);
    }

    /// Day (0 is Monday) and minute where the site is; `None` while the clock is implausible.
    fn local(&self) -> Option<(usize, u16)> {
        if self.now.wall < PLAUSIBLE_FROM {
            return None;
        }
        let zoned = Timestamp::from_millisecond(self.now.wall.0).ok()?;
        let zoned = zoned.to_zoned(self.site.time_zone.clone());
        let day = usize::try_from(zoned.weekday().to_monday_zero_offset()).ok()?;
        let minute = i32::from(zoned.hour()) * 60 + i32::from(zoned.minute());
        Some((day, u16::try_from(minute).ok()?))
    }

    /// How a sign's display turns faces into registers.
    pub(super) fn format(&self, sign: SignIx) -> Option<Format> {
        self.site.display(&self.site.signs[sign.at()]).map(|display| display.format)
    }
}

fn says(schedule: &[Schedule], day: usize, minute: u16) -> Option<ScheduleMode> {
    schedule.iter().find(|entry| entry.holds(day, minute)).map(|entry| entry.mode)
}
