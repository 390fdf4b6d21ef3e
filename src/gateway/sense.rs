//! From a unit's readings to debounced bay states: visits only bays that changed or may.
//!
//! A reading is two bits a point (occupied, known). A new value counts once it was read several
//! times in a row and has lasted, longer for free than for occupied: a spike of a ranger over a
//! parked car lasts a second or two, and a bay wrongly offered costs a driver more than a bay
//! offered late. It takes longest where a car is booked. Losing a value counts at once, because a
//! bay that may be taken must not be offered meanwhile. Comparing whole words makes a reading
//! without news cost nothing: at 21,000 bays that is nearly every reading.

use crate::config::GuidanceTable;
use crate::record::Sensed;
use crate::site::BayIx;
use crate::time::Mono;

/// How long and how often a new value must be read before it counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// Readings in a row, the first included, to occupied and to free; at least 1.
    pub reads: [u8; 2],
    pub occupied_ms: u64,
    pub free_ms: u64,
    /// To free, where a car is booked or under way.
    pub booked_free_ms: u64,
}

impl Patience {
    /// The same for every value, with two readings; 0 takes each reading at its word.
    #[cfg(test)]
    pub fn plain(ms: u64) -> Patience {
        let reads = if ms == 0 { 1 } else { 2 };
        Patience { reads: [reads; 2], occupied_ms: ms, free_ms: ms, booked_free_ms: ms }
    }

    /// From the configuration: a `debounce_ms` of 0 takes each reading at its word.
    pub fn new(tuning: &GuidanceTable) -> Patience {
        let truth = &tuning.truth;
        let occupied_ms = u64::from(tuning.debounce_ms);
        if occupied_ms == 0 {
            return Patience { reads: [1; 2], occupied_ms: 0, free_ms: 0, booked_free_ms: 0 };
        }
        let free_ms = u64::from(truth.free_debounce_ms).max(occupied_ms);
        Patience {
            reads: [truth.debounce_reads, truth.debounce_reads.saturating_add(1)],
            occupied_ms,
            free_ms,
            booked_free_ms: u64::from(truth.booked_free_ms).max(free_ms),
        }
    }

    fn ms(&self, occupied: bool, booked: bool) -> u64 {
        match (occupied, booked) {
            (true, _) => self.occupied_ms,
            (false, false) => self.free_ms,
            (false, true) => self.booked_free_ms,
        }
    }
}

/// Reads come a little early or late: what is 5 % short of a time has lasted it, or a debounce of
/// one sweep would take two.
pub fn lasted(ms: u64, enough_ms: u64) -> bool {
    ms >= enough_ms - enough_ms / 20
}

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
    reads: Vec<u8>,
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
            reads: vec![0; bays.len()],
        }
    }

    /// What counts at a point.
    pub fn get(&self, point: u16) -> Sensed {
        let (word, bit) = (usize::from(point) / 64, 1 << (point % 64));
        let is = |words: &[u64]| words.get(word).is_some_and(|word| word & bit != 0);
        match (is(&self.known), is(&self.occupied)) {
            (false, _) => Sensed::Unknown,
            (true, true) => Sensed::Occupied,
            (true, false) => Sensed::Free,
        }
    }

    /// Takes a reading; adds each bay whose state changed.
    ///
    /// Words missing at the end of the reading are unknown points. `booked` says of a bay whether
    /// a car should stand there or is on its way; asked only of bays that seem to empty.
    pub fn read(
        &mut self,
        at: Mono,
        occupied: &[u64],
        known: &[u64],
        patience: (Patience, impl Fn(BayIx) -> bool),
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
                } else if self.settled(point, at, raw_occupied & bit != 0, &patience) {
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
        point: usize,
        at: Mono,
        occupied: bool,
        (patience, booked): &(Patience, impl Fn(BayIx) -> bool),
    ) -> bool {
        let (word, bit) = (point / 64, 1 << (point % 64));
        let same = (self.candidate[word] & bit != 0) == occupied;
        if self.pending[word] & bit == 0 || !same {
            self.pending[word] |= bit;
            self.candidate[word] &= !bit;
            self.candidate[word] |= if occupied { bit } else { 0 };
            self.since[point] = at;
            self.reads[point] = 0;
        }
        self.reads[point] = self.reads[point].saturating_add(1);
        if self.reads[point] < patience.reads[usize::from(!occupied)] {
            return false;
        }
        let booked = !occupied && self.bays[point].is_some_and(booked);
        lasted(at.ms_since(self.since[point]), patience.ms(occupied, booked))
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
        points.read(Mono(0), &[0], &[0b101], plain(0), &mut changes);
        changes.clear();
        points.read(Mono(1), &[], &[], plain(0), &mut changes);
        assert_eq!(changes, [(BayIx(7), Sensed::Unknown), (BayIx(9), Sensed::Unknown)]);
    }

    #[test]
    fn losing_the_unit_loses_every_known_bay_once() {
        let mut points = Points::new(&WIRED);
        let mut changes = Vec::new();
        points.read(Mono(0), &[0b100], &[0b101], plain(0), &mut changes);
        changes.clear();
        points.lose(&mut changes);
        assert_eq!(changes, [(BayIx(7), Sensed::Unknown), (BayIx(9), Sensed::Unknown)]);
        changes.clear();
        points.lose(&mut changes);
        assert_eq!(changes, []);
    }

    #[test]
    fn it_takes_longer_to_free_than_to_occupy_and_longest_where_a_car_is_booked() {
        let patience =
            Patience { reads: [3; 2], occupied_ms: 1_000, free_ms: 2_000, booked_free_ms: 5_000 };
        // Since the first differing reading: the reading that made it count.
        let counts = |from: u64, to: u64, booked: bool, period_ms: u64| {
            let mut points = Points::new(&WIRED);
            let mut changes = Vec::new();
            for second in 0..10 {
                let at = Mono(second * 1_000_000_000);
                points.read(at, &[from], &[1], (patience, |_| false), &mut changes);
            }
            changes.clear();
            for n in 0..100 {
                let at = Mono((20_000 + n * period_ms) * 1_000_000);
                points.read(at, &[to], &[1], (patience, |_| booked), &mut changes);
                if !changes.is_empty() {
                    return n * period_ms;
                }
            }
            panic!("it never counted");
        };
        // (occupied?, booked, period) -> ms
        for (occupied, booked, period_ms, expected_ms) in [
            (true, false, 1_000, 2_000),
            (true, true, 500, 1_000),
            (false, false, 1_000, 2_000),
            (false, true, 1_000, 5_000),
            (true, false, 10_000, 20_000),
            (false, false, 100, 1_900),
        ] {
            let (from, to) = if occupied { (0, 1) } else { (1, 0) };
            let ms = counts(from, to, booked, period_ms);
            assert_eq!(ms, expected_ms, "{occupied} {booked} {period_ms}");
        }
    }

    #[test]
    fn no_spike_counts_however_long_one_sweep_is() {
        let patience = Patience::plain(1_000);
        let mut points = Points::new(&WIRED);
        let mut changes = Vec::new();
        for (s, occupied) in [(0, 1), (60, 1), (120, 0), (180, 1), (240, 0), (300, 1)] {
            let at = Mono(s * 1_000_000_000);
            points.read(at, &[occupied], &[1], (patience, |_| false), &mut changes);
        }
        assert_eq!(changes, [(BayIx(7), Sensed::Occupied)]);
        assert_eq!(points.get(0), Sensed::Occupied);
    }

    fn plain(ms: u64) -> (Patience, impl Fn(BayIx) -> bool) {
        (Patience::plain(ms), |_| false)
    }

    type Line<'a> = (u64, u64, u64, &'a [(u32, Sensed)]);

    fn check(story: &[Line<'_>]) {
        let mut points = Points::new(&WIRED);
        for (ms, occupied, known, expected) in story {
            let mut changes = Vec::new();
            points.read(Mono(ms * 1_000_000), &[*occupied], &[*known], plain(900), &mut changes);
            let expected: Vec<_> = expected.iter().map(|(bay, to)| (BayIx(*bay), *to)).collect();
            assert_eq!(changes, expected, "at {ms} ms");
        }
    }
}
