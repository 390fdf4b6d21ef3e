//! Whether the wall clock can be believed: watched once a second, told on change.
//!
//! A box underground starts at 1970, or two weeks back, and learns the time from a network that
//! may come an hour later. Nothing is decided by that clock; but what was stamped by it must be
//! known for what it is, so that it can be put right before it is sent. Pure: whoever watches
//! hands in both clocks and whether the machine calls its clock synchronised.

use super::{Mono, Now, Wall};
use crate::record::Body;

/// Before this, the start of 2026, no gateway was built: a clock that says so was never set.
pub const PLAUSIBLE_FROM: Wall = Wall(1_767_225_600_000);

/// A wall clock that moved by more than this against the other one was set, not steered: a daemon
/// steers by at most half a millisecond a second, and a busy machine reads both clocks within this.
pub const STEP_MIN_MS: i64 = 1_000;

/// How long a clock may be unsure before someone should look: each start has some minutes of it.
const UNSURE_TOLD_MS: u64 = 600_000;

/// What was seen of the clock so far.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Watch {
    /// The wall clock less the other one at the last look, in ms.
    offset_ms: Option<i64>,
    /// Since when it has been good, or unsure where it is not.
    good_since: Option<Mono>,
    unsure_since: Option<Mono>,
    told_unsure: bool,
    steps: u64,
}

impl Watch {
    /// Looks at both clocks; what is worth telling is added to `news`.
    pub fn look(&mut self, now: Now, synchronised: bool, news: &mut Vec<Body>) {
        let offset_ms = now.offset_ms();
        if let Some(before) = self.offset_ms {
            let by_ms = offset_ms.saturating_sub(before);
            if by_ms.saturating_abs() >= STEP_MIN_MS {
                self.steps += 1;
                news.push(Body::ClockStepped { by_ms });
            }
        }
        self.offset_ms = Some(offset_ms);
        if synchronised && now.wall >= PLAUSIBLE_FROM {
            self.good_since.get_or_insert(now.mono);
            let since = self.unsure_since.take();
            if std::mem::take(&mut self.told_unsure) {
                let unsure_s = since.map_or(0, |since| now.mono.ms_since(since) / 1_000);
                news.push(Body::ClockGood { unsure_s });
            }
            return;
        }
        self.good_since = None;
        let since = *self.unsure_since.get_or_insert(now.mono);
        if !self.told_unsure && now.mono.ms_since(since) >= UNSURE_TOLD_MS {
            self.told_unsure = true;
            let why = if synchronised { "it stands before 2026" } else { "it is not synchronised" };
            news.push(Body::ClockUnsure { why: why.to_owned() });
        }
    }

    /// Since when the clock has been good; `None` while it is not.
    pub fn good_since(&self) -> Option<Mono> {
        self.good_since
    }

    /// Steps seen.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;
    const GOOD: i64 = 1_795_000_000_000;

    fn stepped(by_ms: i64) -> Body {
        Body::ClockStepped { by_ms }
    }

    /// (second, wall less elapsed time in ms, synchronised) -> (good since that second, news).
    #[test]
    fn steps_and_sync_are_told_once() {
        type Case = (u64, i64, bool, Option<u64>, Vec<Body>);
        let unsure = Body::ClockUnsure { why: "it is not synchronised".to_owned() };
        let stories: [(&str, Vec<Case>); 4] = [
            (
                "starts at 1970, the time comes after an hour",
                vec![
                    (0, 0, false, None, vec![]),
                    (599, 0, false, None, vec![]),
                    (600, 0, false, None, vec![unsure]),
                    (3_599, 0, false, None, vec![]),
                    (3_600, GOOD, false, None, vec![stepped(GOOD)]),
                    (3_601, GOOD, true, Some(3_601), vec![Body::ClockGood { unsure_s: 3_601 }]),
                    (9_999, GOOD, true, Some(3_601), vec![]),
                ],
            ),
            (
                "good after a minute, as at each start: nobody need look",
                vec![(0, GOOD, false, None, vec![]), (60, GOOD, true, Some(60), vec![])],
            ),
            (
                "a day either way, and steering is no step",
                vec![
                    (0, GOOD, true, Some(0), vec![]),
                    (1, GOOD + DAY_MS, true, Some(0), vec![stepped(DAY_MS)]),
                    (2, GOOD, true, Some(0), vec![stepped(-DAY_MS)]),
                    (3, GOOD + 999, true, Some(0), vec![]),
                    (4, GOOD + 1_998, true, Some(0), vec![]),
                ],
            ),
            (
                "called synchronised at 1970 is not good, nor is what was lost again",
                vec![
                    (0, 0, true, None, vec![]),
                    (1, GOOD, true, Some(1), vec![stepped(GOOD)]),
                    (2, GOOD, false, None, vec![]),
                    (3, GOOD, true, Some(3), vec![]),
                ],
            ),
        ];
        for (name, story) in stories {
            let mut watch = Watch::default();
            for (at_s, offset_ms, synchronised, good_since, expected) in story {
                let wall = Wall(offset_ms + i64::try_from(at_s).unwrap() * 1_000);
                let now = Now { mono: Mono(at_s * 1_000_000_000), wall };
                let mut news = Vec::new();
                watch.look(now, synchronised, &mut news);
                assert_eq!(news, expected, "{name}, at {at_s} s");
                let since = good_since.map(|s| Mono(s * 1_000_000_000));
                assert_eq!(watch.good_since(), since, "{name}, at {at_s} s");
            }
        }
    }
}
