//! Late answers on a line whose answers carry no transaction id: what no codec can tell apart.
//!
//! Two blocks of one unit have the same table and length, too short for the planner to cut them
//! apart, so an answer fits either. Every detector of the unit is broken, so it may never be read
//! as free: neither by its own word, nor because one block's answer was taken for the other's.

use super::*;

const DETECT: u16 = 0;
const FAULTS: u16 = 200;

/// One unit on a wire that may bring an answer late.
struct Late {
    agenda: Agenda,
    now_ms: u64,
    timeout_ms: u64,
    /// When an answer arrives, and what it says.
    flying: Vec<(u64, Vec<u16>)>,
    /// Requests until now, late ones, and late ones that arrived while another waited.
    asked: u64,
    late: u64,
}

impl Late {
    fn new(timeout_ms: u64) -> Late {
        let unit = profile(Some(detectors(16, Some(FAULTS))), None);
        let bus = Bus::with(2, unit, 0).without_transactions();
        let mut late = Late {
            agenda: bus.agenda,
            now_ms: 0,
            timeout_ms,
            flying: Vec::new(),
            asked: 0,
            late: 0,
        };
        for unit in &mut late.agenda.units {
            unit.timeout = Duration::from_millis(timeout_ms);
        }
        late
    }

    /// Plays for so long; every `nth` answer of unit 0 comes so much after its time-out.
    fn play(&mut self, length_ms: u64, nth: u64, late_ms: u64) {
        let end_ms = self.now_ms + length_ms;
        while self.now_ms < end_ms {
            let now = Mono(0).plus_ms(self.now_ms);
            let (outcome, took_ms) = match self.agenda.next(now) {
                Job::Finished => return,
                Job::Wait { until } => {
                    self.now_ms = until.expect("it polls").0.div_ceil(1_000_000);
                    continue;
                }
                Job::Connect => (Outcome::Connected, 1),
                Job::Read { address: 0, first, count, .. } => self.ask(first, count, nth, late_ms),
                Job::Read { count, .. } => (Outcome::Words(vec![0; count.into()]), 5),
                job @ Job::Write { .. } => unreachable!("{job:?}: nothing is written here"),
            };
            self.now_ms += took_ms;
            let now = Mono(0).plus_ms(self.now_ms);
            let took = Duration::from_millis(took_ms);
            let Some(reading) = self.agenda.done(now, now, took, outcome) else { continue };
            if reading.unit == UnitIx(0) {
                assert_eq!(reading.known, [0], "{late_ms} ms late: a broken detector has a say");
            }
        }
    }

    /// What comes first of the unit, its frames having the length asked for. What came before the
    /// request was thrown away, as a line does.
    fn ask(&mut self, first: u16, count: u16, nth: u64, late_ms: u64) -> (Outcome, u64) {
        assert_eq!(count, 1, "both blocks have one length");
        let says = vec![if first == DETECT { 0 } else { u16::MAX }; count.into()];
        self.asked += 1;
        let is_late = self.asked.is_multiple_of(nth);
        self.late += u64::from(is_late);
        let wait_ms = if is_late { self.timeout_ms + late_ms } else { 5 };
        self.flying.retain(|(at_ms, _)| *at_ms >= self.now_ms);
        self.flying.push((self.now_ms + wait_ms, says));
        self.flying.sort();
        let until_ms = self.now_ms + self.timeout_ms;
        match self.flying.first() {
            Some((at_ms, _)) if *at_ms < until_ms => {
                let (at_ms, words) = self.flying.remove(0);
                (Outcome::Words(words), at_ms - self.now_ms)
            }
            _ => (Outcome::Silent, self.timeout_ms),
        }
    }
}

#[test]
fn a_late_answer_is_never_taken_for_that_of_a_block_of_its_length() {
    for timeout_ms in [100, 300, 700] {
        for late_ms in (0..3 * timeout_ms).step_by(23).chain([3 * timeout_ms - 1]) {
            for nth in 2..=5 {
                let mut late = Late::new(timeout_ms);
                late.play(60_000, nth, late_ms);
                assert!(late.late > 3, "{} of {} were late", late.late, late.asked);
            }
        }
    }
}
