//! Which addresses of a table a unit has, found by asking.
//!
//! It reads as much at once as it may and halves on a refusal, because a refused block does not
//! say which of its items is missing; after an answer it doubles again. So a hole costs one
//! request an address, and a run of any length some more at its ends. Nothing is written, and a
//! unit that falls silent is left alone after three requests: some hang on what they do not know.

use std::collections::VecDeque;

use crate::probe::ask::Span;

/// Requests without an answer, in a row, before the scan is given up.
const SILENT_MAX: u32 = 3;
/// The exception of a unit that does not know the function: the whole table is missing.
const ILLEGAL_FUNCTION: u8 = 1;
/// Exceptions that say the block is refused as it stands: its address, or its length.
const REFUSED: [u8; 2] = [2, 3];

/// What came of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Read,
    Exception(u8),
    Silent,
}

/// What a run of addresses is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    There,
    /// Refused for its address or length.
    Missing,
    /// Refused for another reason, by its code.
    Refused(u8),
    Unanswered,
}

/// Neighbouring addresses of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    pub first: u16,
    pub last: u16,
    pub kind: Kind,
}

/// A scan under way: ask [`Scan::next`], tell [`Scan::told`].
#[derive(Clone, Debug)]
pub struct Scan {
    at: u32,
    end: u32,
    size: u32,
    size_max: u32,
    silent: u32,
    /// The longest block that was answered.
    answered_max: u32,
    requests: u32,
    over: Option<&'static str>,
    runs: VecDeque<Run>,
}

impl Scan {
    /// A scan that reads at most `block_max` items at once, and never above the spec's limit.
    pub fn new(span: Span, block_max: u16) -> Scan {
        let size_max = u32::from(block_max.clamp(1, span.table.read_max()));
        Scan {
            at: u32::from(span.first),
            end: u32::from(span.last) + 1,
            size: size_max,
            size_max,
            silent: 0,
            answered_max: 0,
            requests: 0,
            over: None,
            runs: VecDeque::new(),
        }
    }

    /// The next block to read: its first item and how many.
    pub fn next(&self) -> Option<(u16, u16)> {
        if self.over.is_some() || self.at >= self.end {
            return None;
        }
        let count = self.size.min(self.end - self.at);
        Some((u16::try_from(self.at).ok()?, u16::try_from(count).ok()?))
    }

    /// What came of it.
    pub fn told(&mut self, answer: Answer) {
        let Some((_, count)) = self.next() else { return };
        let count = u32::from(count);
        self.requests += 1;
        self.silent = if answer == Answer::Silent { self.silent + 1 } else { 0 };
        let kind = match answer {
            Answer::Read => {
                self.answered_max = self.answered_max.max(count);
                self.size = (self.size * 2).min(self.size_max);
                self.note(count, Kind::There);
                return;
            }
            Answer::Exception(ILLEGAL_FUNCTION) => {
                self.over = Some("the unit does not know this table's function");
                return;
            }
            Answer::Exception(code) if REFUSED.contains(&code) => Kind::Missing,
            Answer::Exception(code) => Kind::Refused(code),
            Answer::Silent => Kind::Unanswered,
        };
        if self.silent >= SILENT_MAX {
            self.over = Some("the unit fell silent");
        } else if count == 1 || matches!(kind, Kind::Refused(_)) {
            self.note(count, kind);
        } else {
            self.size = (count / 2).max(1);
        }
    }

    fn note(&mut self, count: u32, kind: Kind) {
        let first = u16::try_from(self.at).expect("`next` gave it");
        self.at += count;
        let last = u16::try_from(self.at - 1).expect("a span ends at 65535");
        match self.runs.back_mut() {
            Some(run) if run.kind == kind => run.last = last,
            _ => self.runs.push_back(Run { first, last, kind }),
        }
    }

    /// What was found so far, by address.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter()
    }

    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// The longest block that was answered at once, in items.
    pub fn answered_max(&self) -> u32 {
        self.answered_max
    }

    /// Why it ended before its last address.
    pub fn over(&self) -> Option<&'static str> {
        self.over
    }

    /// How far it is, in percent.
    pub fn percent(&self, span: Span) -> u32 {
        (self.at - u32::from(span.first)) * 100 / span.count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::profile::Table;

    fn run(span: Span, block_max: u16, unit: impl Fn(u32, u32) -> Answer) -> Scan {
        let mut scan = Scan::new(span, block_max);
        while let Some((first, count)) = scan.next() {
            assert!(scan.requests() < 200_000, "it does not end");
            scan.told(unit(u32::from(first), u32::from(count)));
        }
        scan
    }

    fn holding(first: u16, last: u16) -> Span {
        Span { table: Table::Holding, first, last }
    }

    #[test]
    fn ranges_are_found_to_the_register() {
        let has = [(0, 39), (100, 103), (200, 200)];
        let inside = |at: u32| has.iter().any(|(first, last)| (*first..=*last).contains(&at));
        let scan =
            run(holding(0, 500), 125, |first, count| match (first..first + count).all(inside) {
                true => Answer::Read,
                false => Answer::Exception(2),
            });
        let there: Vec<_> =
            scan.runs().filter(|r| r.kind == Kind::There).map(|r| (r.first, r.last)).collect();
        assert_eq!(there, [(0, 39), (100, 103), (200, 200)]);
        assert!(scan.requests() < 510, "{} requests", scan.requests());
    }

    #[test]
    fn a_whole_range_takes_few_requests_and_a_limit_is_found() {
        let scan = run(holding(0, 999), 125, |_, _| Answer::Read);
        assert_eq!((scan.requests(), scan.answered_max()), (8, 125));
        // At most eight registers at once, as some loop detectors have it.
        let few = |_, count| if count <= 8 { Answer::Read } else { Answer::Exception(3) };
        let scan = run(holding(0, 99), 125, few);
        assert!((5..=8).contains(&scan.answered_max()), "{}", scan.answered_max());
        assert_eq!(scan.runs().count(), 1);
    }

    #[test]
    fn a_missing_table_or_a_silent_unit_ends_it() {
        let scan = run(holding(0, 500), 125, |_, _| Answer::Exception(1));
        assert_eq!(scan.requests(), 1);
        assert!(scan.over().is_some());
        let scan = run(holding(0, 500), 125, |_, _| Answer::Silent);
        assert_eq!(scan.requests(), 3);
        assert!(scan.over().is_some());
        let scan = run(holding(0, 500), 125, |_, _| Answer::Exception(6));
        assert_eq!(scan.runs().next().map(|run| run.kind), Some(Kind::Refused(6)));
        assert_eq!(scan.requests(), 5);
    }

    proptest! {
        /// Whatever a unit has, the scan finds it exactly and in a bounded number of requests.
        #[test]
        fn the_scan_tells_the_truth(
            has in proptest::collection::vec(any::<bool>(), 1..300),
            first in 0u16..=65_000,
            block_max in 1u16..=125,
        ) {
            let last = first + has.len() as u16 - 1;
            let scan = run(holding(first, last), block_max, |at, count| {
                let at = (at - u32::from(first)) as usize;
                match has[at..at + count as usize].iter().all(|has| *has) {
                    true => Answer::Read,
                    false => Answer::Exception(2),
                }
            });
            let mut found = vec![false; has.len()];
            let mut covered = 0;
            for run in scan.runs() {
                covered += run.last - run.first + 1;
                for at in run.first..=run.last {
                    found[usize::from(at - first)] = run.kind == Kind::There;
                }
            }
            prop_assert_eq!(usize::from(covered), has.len());
            prop_assert_eq!(found, has.clone());
            prop_assert!(scan.requests() <= 2 * has.len() as u32 + 8);
        }
    }
}
