//! From a unit's readings to debounced bay states: visits only bays that changed or may.
//!
//! A reading is two bits a point (occupied, known). A new value counts once it was read twice and
//! has lasted `debounce_ms`; losing a value counts at once, because a bay that may be taken must
//! not be offered meanwhile. Comparing whole words makes a reading without news cost nothing: at
//! 21,000 bays that is nearly every reading.

use crate::record::Sensed;
use crate::site::BayIx;
use crate::time::Mono;

/// One unit's points.
#[derive(Clone, Debug)]
pub struct Points {
    /// The bay at each point.
    bays: Vec<Option<BayIx>>,
    wired: Vec<u64>,
    occupied: Vec<u64>,
    known: Vec<u64>,
    /// Points whose last sample differs from what counts.
    pending: Vec<u64>,
    /// The pending value, and since when; meaningless where `pending` is 0.
    candidate: Vec<u64>,
    since: Vec<Mono>,
}

impl Points {
    /// All unknown.
    pub fn new(bays: &[Option<BayIx>]) -> Points {
        let words = bays.len().div_ceil(64);
        let mut wired = vec![0; words];
        for (point, bay) in bays.iter().enumerate() {
            if bay.is_some() {
                wired[point / 64] |= 1 << (point % 64);
            }
        }
        Points {
            bays: bays.to_vec(),
            wired,
            occupied: vec![0; words],
            known: vec![0; words],
            pending: vec![0; words],
            candidate: vec![0; words],
            since: vec![Mono(0); bays.len()],
        }
    }

    /// Takes a reading; adds each bay whose state changed.
    ///
    /// Words missing at the end of the reading are unknown points.
    pub fn read(
        &mut self,
        at: Mono,
        occupied: &[u64],
        known: &[u64],
        debounce_ms: u64,
        changes: &mut Vec<(BayIx, Sensed)>,
    ) {
        for word in 0..self.wired.len() {
            let raw_known = known.get(word).copied().unwrap_or(0) & self.wired[word];
            let raw_occupied = occupied.get(word).copied().unwrap_or(0) & raw_known;
            let differs = (raw_known ^ self.known[word]) | (raw_occupied ^ self.occupied[word]);
            let mut visit = differs | self.pending[word];
            while visit != 0 {
                let bit = visit & visit.wrapping_neg();
                visit ^= bit;
                let point = word * 64 + bit.trailing_zeros() as usize;
                if differs & bit == 0 {
                    self.pending[word] &= !bit;
                } else if raw_known & bit == 0 {
                    self.set(word, bit, Sensed::Unknown, changes);
                } else if self.settled(word, bit, point, at, raw_occupied, debounce_ms) {
                    let to = if raw_occupied & bit == 0 { Sensed::Free } else { Sensed::Occupied };
                    self.set(word, bit, to, changes);
                }
            }
        }
    }

    /// The unit went silent: every known bay becomes unknown.
    pub fn lose(&mut self, changes: &mut Vec<(BayIx, Sensed)>) {
        for word in 0..self.wired.len() {
            let mut visit = self.known[word];
            while visit != 0 {
                let bit = visit & visit.wrapping_neg();
                visit ^= bit;
                self.set(word, bit, Sensed::Unknown, changes);
            }
            self.pending[word] = 0;
        }
    }

    /// Whether a differing sample has lasted; starts its clock where it is new.
    fn settled(
        &mut self,
        word: usize,
        bit: u64,
        point: usize,
        at: Mono,
        raw_occupied: u64,
        debounce_ms: u64,
    ) -> bool {
        let same = (self.candidate[word] ^ raw_occupied) & bit == 0;
        if self.pending[word] & bit != 0 && same {
            // Reads come a little early or late: one that is 5 % short of the time has lasted it,
            // or a debounce of one sweep would take two.
            return at.ms_since(self.since[point]) >= debounce_ms - debounce_ms / 20;
        }
        self.pending[word] |= bit;
        self.candidate[word] = (self.candidate[word] & !bit) | (raw_occupied & bit);
        self.since[point] = at;
        debounce_ms == 0
    }

    fn set(&mut self, word: usize, bit: u64, to: Sensed, changes: &mut Vec<(BayIx, Sensed)>) {
        self.pending[word] &= !bit;
        self.occupied[word] &= !bit;
        self.known[word] |= bit;
        match to {
            Sensed::Occupied => self.occupied[word] |= bit,
            Sensed::Free => (),
            Sensed::Unknown => self.known[word] &= !bit,
        }
        let point = word * 64 + bit.trailing_zeros() as usize;
        let bay = self.bays[point].expect("only wired points are visited");
        changes.push((bay, to));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRED: [Option<BayIx>; 3] = [Some(BayIx(7)), None, Some(BayIx(9))];

    #[test]
    fn a_value_counts_after_two_reads_and_its_time() {
        // (ms, occupied, known) -> changes
        check(&[
            (0, 0b000, 0b111, &[]),
            (854, 0b000, 0b111, &[]),
            (855, 0b000, 0b111, &[(7, Sensed::Free), (9, Sensed::Free)]),
            (1_900, 0b001, 0b111, &[]),
            (2_900, 0b001, 0b111, &[(7, Sensed::Occupied)]),
        ]);
    }

    #[test]
    fn a_flicker_counts_for_nothing_and_a_lost_value_at_once() {
        check(&[
            (0, 0b000, 0b101, &[]),
            (1_000, 0b000, 0b101, &[(7, Sensed::Free), (9, Sensed::Free)]),
            (2_000, 0b001, 0b101, &[]),
            (3_000, 0b000, 0b101, &[]),
            (4_000, 0b001, 0b101, &[]),
            (4_500, 0b001, 0b100, &[(7, Sensed::Unknown)]),
            (5_000, 0b001, 0b101, &[]),
            (6_000, 0b001, 0b101, &[(7, Sensed::Occupied)]),
        ]);
    }

    #[test]
    fn a_short_reading_is_unknown_not_free() {
        let mut points = Points::new(&WIRED);
        let mut changes = Vec::new();
        points.read(Mono(0), &[0], &[0b101], 0, &mut changes);
        changes.clear();
        points.read(Mono(1), &[], &[], 0, &mut changes);
        assert_eq!(changes, [(BayIx(7), Sensed::Unknown), (BayIx(9), Sensed::Unknown)]);
    }

    #[test]
    fn losing_the_unit_loses_every_known_bay_once() {
        let mut points = Points::new(&WIRED);
        let mut changes = Vec::new();
        points.read(Mono(0), &[0b100], &[0b101], 0, &mut changes);
        changes.clear();
        points.lose(&mut changes);
        assert_eq!(changes, [(BayIx(7), Sensed::Unknown), (BayIx(9), Sensed::Unknown)]);
        changes.clear();
        points.lose(&mut changes);
        assert_eq!(changes, []);
    }

    type Line<'a> = (u64, u64, u64, &'a [(u32, Sensed)]);

    fn check(story: &[Line<'_>]) {
        let mut points = Points::new(&WIRED);
        for (ms, occupied, known, expected) in story {
            let mut changes = Vec::new();
            points.read(Mono(ms * 1_000_000), &[*occupied], &[*known], 900, &mut changes);
            let expected: Vec<_> = expected.iter().map(|(bay, to)| (BayIx(*bay), *to)).collect();
            assert_eq!(changes, expected, "at {ms} ms");
        }
    }
}
