//! Random sites against devices that lie in every way a wire allows, in virtual time.
//!
//! RTU lines are played byte by byte through the codec, lines with transaction ids frame by frame.
//! The oracle knows what each unit held when it spoke. It asserts that nothing panics or spins,
//! that data taken for a block is what that very unit held in that very block a moment ago, and
//! that a reading knows nothing that its own sweep did not bring. What no master can tell apart is
//! left out: an answer that nobody waits for any more (a second one to the same request, or one of
//! a unit that was not asked) and that has unit, function and length of the one waited for.
//!
//! `PARKWAY_STREAMS=1000000 cargo test --release --lib streams` plays a million answers, and
//! `PARKWAY_PLAY=7` the play of that number alone, telling what was sent and heard.

use std::collections::BTreeSet;
use std::panic::catch_unwind;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::field::decode::tests::{raw, says as distance};
use crate::field::plan::tests::any_unit;
use crate::field::plan::{items_per_point, points_per_item};
use crate::field::rtu::{self, Ask, Listener, encode};
use crate::profile::{Bays, Layout};
use crate::site::{Framing, Parity};

/// What a ranger last said outside its band and when; `None`: not known.
type Last = Option<(bool, Mono)>;

/// Answers in the short form: some seconds.
const STREAMS: u64 = 20_000;
/// Requests to one site.
const A_SITE: u64 = 60;
/// How often what units hold changes, in milliseconds.
const CHANGE_MS: u64 = 400;

#[test]
fn no_stream_of_answers_makes_a_reading_that_no_unit_gave() {
    let streams = std::env::var("PARKWAY_STREAMS").map_or(STREAMS, |n| n.parse().unwrap());
    if let Ok(number) = std::env::var("PARKWAY_PLAY") {
        println!("{:?}", play(number.parse().unwrap(), true));
        return;
    }
    let mut told = Told::default();
    for number in 0..streams.div_ceil(A_SITE) {
        match catch_unwind(|| play(number, false)) {
            Ok(more) => told.add(&more),
            Err(_) => panic!("PARKWAY_PLAY={number} plays only this one, and tells of it"),
        }
    }
    println!("{told:?}");
    assert!(told.taken > streams / 4 && told.free > 1_000 && told.late > streams / 60, "{told:?}");
}

/// One site and its requests; every play can be played alone.
fn play(number: u64, loud: bool) -> Told {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut play = Play::new(&mut runner, number, loud);
    while play.asked < A_SITE && play.now_ms < 120_000 {
        play.turn();
    }
    play.told
}

/// What was played.
#[derive(Clone, Debug, Default)]
struct Told {
    sites: u64,
    requests: u64,
    late: u64,
    /// Answers taken as data, and refusals.
    taken: u64,
    refused: u64,
    readings: u64,
    /// Points that a reading called free.
    free: u64,
    /// Second answers left out, because nobody could tell them from the one waited for.
    alike: u64,
}

impl Told {
    fn add(&mut self, more: &Told) {
        self.sites += 1;
        self.requests += more.requests;
        self.late += more.late;
        self.taken += more.taken;
        self.refused += more.refused;
        self.readings += more.readings;
        self.free += more.free;
        self.alike += more.alike;
    }
}

/// Bytes on their way.
#[derive(Clone, Debug)]
struct Flying {
    at_ms: u64,
    bytes: Vec<u8>,
    /// The request it came after, and whether it is more than the answer to that.
    to: u64,
    again: bool,
    /// The read that it would answer.
    asked: Read,
}

/// A read as it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Read {
    address: u8,
    table: Table,
    first: u16,
    count: u16,
}

impl Read {
    fn ask(self) -> Ask<'static> {
        Ask::Read { table: self.table, first: self.first, count: self.count }
    }

    /// Whether an answer to this looks like one to the other.
    fn is_like(self, other: Read) -> bool {
        let length = |read: Read| rtu::answer_len(read.ask());
        (self.address, self.table, length(self)) == (other.address, other.table, length(other))
            && (self.first, self.count) != (other.first, other.count)
    }
}

struct Play {
    agenda: Agenda,
    site: Arc<Site>,
    random: Jitter,
    timeout_ms: u64,
    now_ms: u64,
    asked: u64,
    flying: Vec<Flying>,
    /// Requests that got an answer.
    answered: BTreeSet<u64>,
    /// What a unit said: the read it answered, and when it looked.
    said: Vec<(Read, u64)>,
    /// The sweep under way, and what was taken in it from each unit.
    sweep: u64,
    taken: BTreeMap<u8, Vec<(Read, Vec<u16>)>>,
    /// What each unit's rangers last said outside their band, and when; `Some(None)`: not known.
    last: BTreeMap<(usize, usize), Option<Last>>,
    told: Told,
    /// Whether it tells what is sent and heard.
    loud: bool,
}

impl Play {
    fn new(runner: &mut TestRunner, number: u64, loud: bool) -> Play {
        let mut random = Jitter::new(number);
        let units = 1 + random.below(4) as usize;
        let timeout_ms = 40 + random.below(260);
        let mut made = Arc::unwrap_or_clone(site(units, profile(None, None), 0));
        made.profiles.clear();
        for n in 0..units {
            let (profile, bays) = any_unit().new_tree(runner).unwrap().current();
            let unit = &mut made.units[n];
            (unit.address, unit.profile, unit.bays) = (n as u8 + 1, n as u32, bays);
            unit.timeout_ms = timeout_ms as u32;
            made.profiles.push(profile);
        }
        made.lines[0].period_ms = 50 + random.below(1_500) as u32;
        if random.below(3) > 0 {
            let framing = Framing { baud: 19_200, parity: Parity::None, stop_bits: 1 };
            made.lines[0].wire = Wire::RtuTcp { endpoint: "127.0.0.1:1".into(), framing };
        }
        let status = LineStatus::new(LineIx(0), &made.lines[0].units);
        Play {
            agenda: Agenda::new(&made, LineIx(0), Mono(0), number, status),
            site: Arc::new(made),
            random,
            timeout_ms,
            now_ms: 0,
            asked: 0,
            flying: Vec::new(),
            answered: BTreeSet::new(),
            said: Vec::new(),
            sweep: 0,
            taken: BTreeMap::new(),
            last: BTreeMap::new(),
            told: Told::default(),
            loud,
        }
    }

    fn turn(&mut self) {
        if self.random.below(50) == 0 {
            self.agenda.retry(self.random.below(5) as usize);
        }
        let began_ms = self.now_ms;
        let outcome = match self.agenda.next(Mono(0).plus_ms(began_ms)) {
            Job::Wait { until } => {
                // Nothing to read at all: nothing to play either.
                let until = until.map_or(u64::MAX / 2, |until| until.0.div_ceil(1_000_000));
                assert!(until > began_ms, "a wait into the past would spin");
                self.now_ms = until;
                return;
            }
            Job::Connect => {
                self.now_ms += 1;
                if self.agenda.transactions {
                    self.flying.clear();
                }
                Outcome::Connected
            }
            Job::Read { address, table, first, count } => {
                self.read(Read { address, table, first, count })
            }
            job => panic!("no site has signs, yet {job:?}"),
        };
        let now = Mono(0).plus_ms(self.now_ms);
        if let Some(reading) = self.agenda.done(now, now, Duration::ZERO, outcome) {
            self.told.readings += 1;
            self.judge_reading(&reading);
        }
    }

    /// One exchange: what the unit does, and what the line makes of it.
    fn read(&mut self, read: Read) -> Outcome {
        self.asked += 1;
        self.told.requests += 1;
        let begun = self.agenda.units[usize::from(read.address) - 1].reads.asked();
        assert_eq!(begun.map(|block| (block.first, block.count)), Some((read.first, read.count)));
        if self.agenda.status.sweeps_total != self.sweep {
            (self.sweep, self.taken) = (self.agenda.status.sweeps_total, BTreeMap::new());
        }
        let asked_ms = self.now_ms;
        let by_ms = asked_ms + self.timeout_ms;
        self.flying.retain(|flying| flying.at_ms >= asked_ms);
        if self.loud {
            println!("{asked_ms} ms: request {} is {read:?}, until {by_ms} ms", self.asked);
        }
        self.answer(read);
        self.flying.sort_by_key(|flying| flying.at_ms);
        let mut listener = Listener::new(read.address, read.ask());
        let mut outcome = None;
        while let Some(next) = self.flying.first().filter(|next| next.at_ms < by_ms).cloned() {
            self.flying.remove(0);
            let unasked = next.again || self.answered.contains(&next.to);
            if unasked && next.to != self.asked && next.asked.is_like(read) {
                self.told.alike += 1;
                continue;
            }
            self.now_ms = next.at_ms.max(self.now_ms);
            if self.loud {
                println!("{} ms: request {} hears {next:?}", self.now_ms, self.asked);
            }
            outcome = match (self.agenda.transactions, listener.take(&next.bytes)) {
                // A frame with another transaction id, or one that does not fit, ends it.
                (true, None) => Some(Outcome::Nonsense { why: "misfit".into() }),
                (true, Some(_)) if next.to != self.asked => {
                    Some(Outcome::Nonsense { why: "transaction".into() })
                }
                (_, answer) => answer.map(|answer| self.judge_answer(read, asked_ms, answer)),
            };
            if outcome.is_some() {
                self.answered.insert(self.asked);
                break;
            }
        }
        let outcome = outcome.unwrap_or_else(|| {
            self.now_ms = by_ms;
            let heard = listener.heard();
            match heard.misfits + heard.noise {
                0 => Outcome::Silent,
                _ => Outcome::Nonsense { why: "noise".into() },
            }
        });
        let ends = matches!(outcome, Outcome::Silent | Outcome::Nonsense { .. });
        if self.agenda.transactions && ends {
            self.flying.clear();
        }
        outcome
    }

    /// What the unit sends, now or later.
    fn answer(&mut self, read: Read) {
        let (now_ms, timeout_ms) = (self.now_ms, self.timeout_ms);
        let soon_ms = now_ms + self.random.below(timeout_ms);
        // Up to three time-outs after its own.
        let late_ms = now_ms + timeout_ms + self.random.below(3 * timeout_ms);
        let true_frame = self.frame(read, soon_ms);
        match self.random.below(20) {
            0..9 => self.send(soon_ms, true_frame, read, false),
            9 | 10 => {
                self.told.late += 1;
                self.send(late_ms, true_frame, read, false);
            }
            11 => (),
            12 => {
                let code = self.random.below(13) as u8;
                let function = true_frame[1] | 0x80;
                self.send(soon_ms, summed(vec![read.address, function, code]), read, false);
            }
            13 => {
                self.send(soon_ms, true_frame.clone(), read, false);
                let again_ms = soon_ms + self.random.below(4 * timeout_ms);
                self.send(again_ms, true_frame, read, true);
            }
            14 => {
                let length = 1 + self.random.below(true_frame.len() as u64 - 1) as usize;
                self.send(soon_ms, true_frame[..length].to_vec(), read, false);
            }
            15 => {
                // Another unit speaks: it holds something else there.
                let stranger = Read { address: read.address % 4 + 1, ..read };
                let frame = self.frame(stranger, soon_ms);
                self.send(soon_ms, frame, stranger, true);
            }
            16 => {
                // Of another number of bytes: in a byte, 7 bits look like 8.
                let step = if read.table.is_bits() { 8 } else { 1 };
                let more = self.random.below(2) == 0 || read.count <= step;
                let count = if more { read.count + step } else { read.count - step };
                // The answer to what it looks like, should it find a later request waiting.
                let other = Read { count, ..read };
                let frame = self.frame(other, soon_ms);
                self.send(soon_ms, frame, other, false);
            }
            17 => {
                let length = 1 + self.random.below(80) as usize;
                let noise = self.noise(length);
                self.send(soon_ms, noise, read, false);
            }
            18 => {
                let mut bytes = self.noise(5);
                bytes.extend(true_frame);
                self.send(soon_ms, bytes, read, false);
            }
            _ => {
                let mut bytes = true_frame;
                let at = self.random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << self.random.below(8);
                self.send(soon_ms, bytes, read, false);
            }
        }
    }

    fn send(&mut self, at_ms: u64, bytes: Vec<u8>, asked: Read, again: bool) {
        self.flying.push(Flying { at_ms, bytes, to: self.asked, again, asked });
    }

    fn noise(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.random.below(256) as u8).collect()
    }

    /// A true answer of a unit that looks at its registers now or at the time it speaks.
    fn frame(&mut self, read: Read, at_ms: u64) -> Vec<u8> {
        self.said.push((read, at_ms));
        let held: Vec<u16> = (0..read.count).map(|n| holds(read, n, at_ms)).collect();
        let mut frame = vec![read.address, encode(read.address, read.ask())[1], 0];
        if read.table.is_bits() {
            let byte = |bits: &[u16]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | *bit as u8);
            frame.extend(held.chunks(8).map(byte));
        } else {
            frame.extend(held.iter().flat_map(|word| word.to_be_bytes()));
        }
        frame[2] = (frame.len() - 3) as u8;
        summed(frame)
    }

    /// Data may only be what this unit held in this block when it was asked, or a little before.
    fn judge_answer(&mut self, read: Read, asked_ms: u64, answer: rtu::Answer) -> Outcome {
        let (values, outcome) = match answer {
            rtu::Answer::Exception(code) => {
                self.told.refused += 1;
                return Outcome::Exception(code);
            }
            rtu::Answer::Bits(bits) => {
                (bits.iter().map(|bit| u16::from(*bit)).collect(), Outcome::Bits(bits))
            }
            rtu::Answer::Words(words) => (words.clone(), Outcome::Words(words)),
            rtu::Answer::Written => panic!("a read was answered as a write"),
        };
        let values: Vec<u16> = values;
        self.told.taken += 1;
        let fresh_ms = asked_ms.saturating_sub(5 * self.timeout_ms);
        let is_true = self.said.iter().rev().any(|(said, at_ms)| {
            *said == read
                && *at_ms >= fresh_ms
                && (0..read.count).all(|n| holds(read, n, *at_ms) == values[usize::from(n)])
        });
        assert!(is_true, "{read:?} at {} ms was given what it never said", self.now_ms);
        self.taken.entry(read.address).or_default().push((read, values));
        outcome
    }

    /// A reading may only know what this sweep brought.
    fn judge_reading(&mut self, reading: &Reading) {
        let unit = reading.unit.at();
        let taken = self.taken.remove(&(unit as u8 + 1)).unwrap_or_default();
        let Some(bays) = &self.site.profile(reading.unit).bays else {
            assert!(reading.known.iter().all(|known| *known == 0));
            return;
        };
        let wired: BTreeSet<usize> = (self.site.units[unit].bays.iter().enumerate())
            .filter_map(|(point, bay)| bay.map(|_| point))
            .collect();
        for point in 0..reading.known.len() * 64 {
            let bit = |words: &[u64]| words[point / 64] >> (point % 64) & 1 == 1;
            if !wired.contains(&point) {
                assert!(!bit(&reading.known), "point {point} has no bay");
                continue;
            }
            let said = said(bays, point, &taken);
            let last = self.last.entry((unit, point)).or_default();
            let held = *last;
            match said[..] {
                [Some(Some(taken))] => *last = Some(Some((taken, reading.at))),
                [] | [_] => (),
                // What overlaps came twice and differs: which one is remembered is not known.
                [..] => *last = Some(None),
            }
            if !bit(&reading.known) {
                assert!(!bit(&reading.occupied), "occupied but not known");
                continue;
            }
            self.told.free += u64::from(!bit(&reading.occupied));
            let occupied = bit(&reading.occupied);
            let fits = |said: &Option<Option<bool>>| match (said, bays, held) {
                (None, ..) => false,
                (Some(Some(taken)), ..) => *taken == occupied,
                (Some(None), Bays { layout: Layout::Distance(rule), .. }, Some(Some(last))) => {
                    let hold_ms = u64::from(rule.hold_s) * 1_000;
                    last.0 && occupied && reading.at.ms_since(last.1) <= hold_ms
                }
                // Never said anything, or it is not known what.
                (Some(None), _, held) => held.is_some(),
            };
            assert!(said.iter().any(fits), "point {point} of unit {unit}: {said:?}, {held:?}");
        }
    }
}

/// What came for a point, and what it says by the rule alone: `Some(None)` between two thresholds,
/// `None` where it says nothing. More than one where ranges overlap and were read at other times.
fn said(bays: &Bays, point: usize, taken: &[(Read, Vec<u16>)]) -> Vec<Option<Option<bool>>> {
    let came = |at: usize, count: usize| {
        taken.iter().filter(|(read, _)| read.table == bays.table).filter_map(
            move |(read, values)| {
                let offset = at.checked_sub(read.first.into())?;
                values.get(offset..offset + count)
            },
        )
    };
    let item = point / usize::from(points_per_item(bays));
    let flag = |word: u16| match points_per_item(bays) {
        16 => word >> (point % 16) & 1 == 1,
        _ => word != 0,
    };
    let size = usize::from(items_per_point(bays));
    let words = came(usize::from(bays.base) + item * size, size);
    let says = |words: &[u16]| match &bays.layout {
        Layout::Bits => Some(Some(flag(words[0]))),
        Layout::Values { free, occupied } => {
            let either = (words[0] == *free) != (words[0] == *occupied);
            either.then_some(Some(words[0] == *occupied))
        }
        Layout::Flags { detect, faults } => {
            let bit = |n: &u8| words[0] >> n & 1 == 1;
            (!faults.iter().any(bit)).then(|| Some(bit(detect)))
        }
        Layout::Distance(rule) => distance(rule, raw(words, rule.word_order)),
    };
    let faults: Vec<bool> = match bays.fault_base {
        None => vec![false],
        Some(base) => came(usize::from(base) + item, 1).map(|words| flag(words[0])).collect(),
    };
    let all = words.flat_map(|words| {
        faults.iter().map(|fault| if *fault { None } else { says(words) }).collect::<Vec<_>>()
    });
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What a unit holds in an item of a block at a time.
fn holds(read: Read, n: u16, at_ms: u64) -> u16 {
    let place = u64::from(read.address) << 40 | (read.table as u64) << 32;
    let at = u64::from(read.first + n) << 8;
    let word = Jitter::new(place ^ at ^ (at_ms / CHANGE_MS) << 48).below(7) as u16;
    // The last has a bit that is a fault to some layouts.
    let word = if word == 6 { 8 } else { word };
    if read.table.is_bits() { word & 1 } else { word }
}

fn summed(mut frame: Vec<u8>) -> Vec<u8> {
    frame.extend(rtu::crc(&frame).to_le_bytes());
    frame
}
