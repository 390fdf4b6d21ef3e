//! How many cars stand in a garage, by three witnesses: seen in bays, counted at the door, booked.
//!
//! None is right for long. Sensors lie; loops miss a car in a hundred and never forget it; drivers
//! who were not led are booked nowhere. So the three stand side by side, their difference is a
//! figure that somebody watches, and the count is set anew each night, or by staff, with a record.
//!
//! The night is found on the wall clock, which may step. A reset is due when the last time of day
//! at which it should be belongs to another day than the one that was done; within [`APART_MS`]
//! of the last one none is, so that a clock that steps back does not make a second, and one that
//! steps over the hour makes it late instead of never.

use super::door::{Answer, Effect, Refusal};
use super::ledger::Way;
use super::{Gateway, keep};
use crate::record::{Body, Lane};
use crate::site::{GarageIx, Site};
use crate::time::quality::PLAUSIBLE_FROM;
use crate::time::{Mono, Now};

/// Two resets of a garage are at least so far apart: half a day.
const APART_MS: u64 = 43_200_000;
const DAY_MS: i64 = 86_400_000;

/// A garage's cars by its loops.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// `None` until there was something to begin with.
    cars: Option<i64>,
    night: Night,
}

impl Count {
    /// Cars inside by the door, 0 to the garage's bays.
    pub fn cars(&self) -> Option<u32> {
        self.cars.map(|cars| u32::try_from(cars).unwrap_or(0))
    }

    /// Cars went through the door of a garage with so many bays. Gives those by which there would
    /// have been less than none inside, and more than it has bays.
    pub fn pass(&mut self, way: Way, cars: u32, bays: u32) -> [u64; 2] {
        let Some(inside) = &mut self.cars else { return [0; 2] };
        let step = if way == Way::In { i64::from(cars) } else { -i64::from(cars) };
        let exact = *inside + step;
        *inside = exact.clamp(0, i64::from(bays));
        [-exact, exact - i64::from(bays)].map(|lost| lost.max(0).unsigned_abs())
    }
}

/// When a garage's count was set anew by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Night {
    /// The day of it, in days since 1970 where the site is.
    day: Option<i64>,
    /// In this run.
    at: Option<Mono>,
}

impl Night {
    /// Whether a reset is due, `day` being the one whose time of reset came last.
    fn due(&mut self, day: i64, now: Mono) -> bool {
        match self.day {
            // A count that has just begun needs none.
            None => self.day = Some(day),
            Some(done) if done == day => return false,
            // The clock went back, and nobody knows how long ago the last one was.
            Some(done) if day < done && self.at.is_none() => self.at = Some(now),
            Some(_) => return self.at.is_none_or(|at| now.ms_since(at) >= APART_MS),
        }
        false
    }
}

/// The day whose reset came last, at a minute of the day where the site is; `None` while the clock
/// is implausible.
fn reset_day(site: &Site, now: Now, minute: u16) -> Option<i64> {
    if now.wall < PLAUSIBLE_FROM {
        return None;
    }
    let zoned = jiff::Timestamp::from_millisecond(now.wall.0).ok()?;
    let offset_s = zoned.to_zoned(site.time_zone.clone()).offset().seconds();
    let local = now.wall.0 + i64::from(offset_s) * 1_000;
    Some((local - i64::from(minute) * 60_000).div_euclid(DAY_MS))
}

impl Gateway {
    /// A count begins with what is seen, once all is.
    pub(super) fn begin_count(&mut self, garage: GarageIx) {
        if self.counts_of[garage.at()].cars.is_none()
            && self.ledger.counted(garage)
            && !self.ledger.any_silent(garage)
            && self.bays.garage(garage).unknown == 0
        {
            self.counts_of[garage.at()].cars = Some(i64::from(self.bays.occupied(garage)));
        }
    }

    /// Counted less seen, while all can be seen and counted.
    pub(super) fn count_error(&self, garage: GarageIx) -> Option<i64> {
        let cars = self.counts_of[garage.at()].cars?;
        let known = !self.ledger.any_silent(garage) && self.bays.garage(garage).unknown == 0;
        known.then(|| cars - i64::from(self.bays.occupied(garage)))
    }

    /// Staff say how many cars stand in a garage.
    pub(super) fn set_count(
        &mut self,
        garage: GarageIx,
        occupied: u32,
        by: String,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let bays = self.site.garages[garage.at()].bays.len() as u32;
        if occupied > bays {
            return Answer::Refused(Refusal::TooManyCars { garage, bays });
        }
        if !self.ledger.counted(garage) && !self.ledger.any_silent(garage) {
            return Answer::Refused(Refusal::NotCounted(garage));
        }
        self.reset_count(garage, occupied, 0, by, effects);
        Answer::Done
    }

    /// Once a minute: counts that are due to be set to what is seen.
    pub(super) fn night(&mut self, effects: &mut Vec<Effect>) {
        let Some(minute) = self.site.ledger_reset else { return };
        let Some(day) = reset_day(&self.site, self.now, minute) else { return };
        for garage in (0..self.site.garages.len() as u32).map(GarageIx) {
            let Some(door) = self.site.garages[garage.at()].door_counter else { continue };
            let unseen = self.bays.garage(garage).unknown - self.site.unsensed(garage);
            // What cannot be seen now is counted on, and set as soon as it can.
            if unseen > 0 || !self.counts_of[garage.at()].night.due(day, self.now.mono) {
                continue;
            }
            self.counts_of[garage.at()].night = Night { day: Some(day), at: Some(self.now.mono) };
            let seen = i64::from(self.bays.occupied(garage)) + i64::from(door.reset_offset);
            let bays = self.site.garages[garage.at()].bays.len() as i64;
            let to = seen.clamp(0, bays) as u32;
            self.reset_count(garage, to, door.reset_offset, "night".to_owned(), effects);
        }
    }

    fn reset_count(
        &mut self,
        garage: GarageIx,
        to: u32,
        offset: i32,
        by: String,
        effects: &mut Vec<Effect>,
    ) {
        let from = self.counts_of[garage.at()].cars();
        self.counts_of[garage.at()].cars = Some(i64::from(to));
        if self.ledger.any_silent(garage) {
            self.ledger.set(garage, i64::from(to));
        }
        self.bays.touch(garage);
        let id = self.site.garages[garage.at()].id.clone();
        let body = Body::LedgerReset { garage: id, from, to, offset, by };
        self.record(Lane::Events, body, effects);
        self.keep_ledger(garage, effects);
    }

    pub(super) fn kept_count(&self, garage: GarageIx) -> (Option<i64>, Option<i64>) {
        let count = &self.counts_of[garage.at()];
        (count.cars, count.night.day)
    }

    pub(super) fn restore_count(&mut self, garage: GarageIx, kept: &keep::KeptLedger) {
        let bays = self.site.garages[garage.at()].bays.len() as i64;
        let count = &mut self.counts_of[garage.at()];
        count.cars = count.cars.or(kept.counted.map(|cars| cars.clamp(0, bays)));
        count.night.day = count.night.day.or(kept.reset_day);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    #[test]
    fn each_night_has_one_reset_whatever_the_clock_does() {
        // (hours on the wall, hours passed since the line before) -> reset
        type Story<'a> = (&'a str, &'a [(i64, u64, bool)]);
        let stories: [Story; 6] = [
            (
                "a plain week",
                &[
                    (10, 0, false),
                    (27, 17, false),
                    (28, 1, true),
                    (51, 23, false),
                    (52, 1, true),
                    (60, 8, false),
                    (76, 16, true),
                ],
            ),
            (
                "an hour back, over it",
                &[
                    (10, 0, false),
                    (28, 18, true),
                    (27, 0, false),
                    (28, 1, false),
                    (29, 1, false),
                    (52, 23, true),
                ],
            ),
            (
                "an hour on, over it",
                &[(10, 0, false), (27, 17, false), (29, 0, true), (30, 1, false), (52, 22, true)],
            ),
            (
                "a day back",
                &[
                    (34, 0, false),
                    (52, 18, true),
                    (28, 0, false),
                    (39, 11, false),
                    (40, 1, true),
                    (51, 11, false),
                    (52, 1, true),
                ],
            ),
            (
                "years on, and back",
                &[
                    (10, 0, false),
                    (90_010, 5, true),
                    (12, 1, false),
                    (23, 11, true),
                    (28, 5, false),
                    (35, 7, true),
                    (52, 17, true),
                ],
            ),
            (
                "asleep for three days",
                &[(10, 0, false), (82, 72, true), (83, 1, false), (100, 17, true)],
            ),
        ];
        for (name, story) in stories {
            let (mut night, mut passed) = (Night::default(), 0);
            for (wall, since, expected) in story {
                passed += since;
                let now = Mono(passed * HOUR_MS * 1_000_000);
                let day = (wall - 4).div_euclid(24);
                let due = night.due(day, now);
                assert_eq!(due, *expected, "{name}: at {wall} h");
                if due {
                    night = Night { day: Some(day), at: Some(now) };
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_behind_after_a_restart_waits() {
        let mut night = Night { day: Some(5), at: None };
        let hours = |hours: u64| Mono(hours * HOUR_MS * 1_000_000);
        assert!(!night.due(4, hours(1)));
        assert!(!night.due(4, hours(12)));
        assert!(night.due(4, hours(13)));
        assert!(Night { day: Some(5), at: None }.due(6, hours(1)), "one on time does not");
    }

    #[test]
    fn a_count_stays_between_none_and_all_and_says_what_it_lost() {
        let mut count = Count { cars: Some(2), ..Count::default() };
        assert_eq!((count.pass(Way::Out, 3, 10), count.cars()), ([1, 0], Some(0)));
        assert_eq!((count.pass(Way::In, 12, 10), count.cars()), ([0, 2], Some(10)));
        let mut unknown = Count::default();
        assert_eq!(unknown.pass(Way::In, 1, 10), [0; 2]);
        assert_eq!(unknown.cars(), None);
    }
}
