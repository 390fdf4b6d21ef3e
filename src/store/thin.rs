//! Old windows merged into coarser ones: fewer records, the same totals, each number accounted for.
//!
//! What a city draws its curves from is worth more in coarse steps than not at all. Windows of one
//! garage that follow each other within a quarter of an hour, later within an hour, become one:
//! cars, answers and lengths add up; the time and the picture are those of the last. No IO: takes
//! the records of neighbouring chunks, gives back fewer.
//!
//! A merged record takes as many numbers as it stands for, side by side: `covers` names the first
//! and the last of them, and the last is its own. So the numbers of what is merged are dealt out
//! anew, which is right only where nobody outside has seen them yet (`thinner.rs`). In return no
//! two records ever cover the same number, and whatever is delivered, dropped or lost later is
//! counted to the number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::chunk::{self, Chunk};
use crate::record::GarageWindow;
use crate::time::Wall;

/// Lengths of merged windows in seconds, in the order in which they are made: they begin at full
/// quarters and hours of the wall clock.
pub const SPANS_S: [u64; 2] = [900, 3_600];
/// Windows further apart than this stay apart: the daemon was away, and a window's time and length
/// must say when it began.
const HOLE_MS: u64 = 60_000;
/// By how much windows that woke up late may together exceed a span.
const LATE_S: u64 = 60;

/// A window as it stands in a chunk.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Window {
    pub seq: u64,
    /// First and last number of what was merged into it; absent where it stands for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covers: Option<[u64; 2]>,
    pub mono_ms: u64,
    pub at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(flatten)]
    pub totals: GarageWindow,
}

/// Nothing else is merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    GarageWindow,
}

/// Windows of one garage on their way to become one.
struct Group {
    window: Window,
    /// How many numbers it stands for.
    numbers: u64,
    /// Where its last window stood among those given.
    place: usize,
}

impl Window {
    /// Lowest number it stands for.
    pub fn first(&self) -> u64 {
        self.covers.map_or(self.seq, |[first, _]| first)
    }

    /// When it ended; by the other clock where the wall clock's time cannot be read.
    fn ended(&self) -> Wall {
        let at = self.at.parse::<jiff::Timestamp>().ok();
        let mono_ms = i64::try_from(self.mono_ms).unwrap_or(i64::MAX);
        Wall(at.map_or(mono_ms, jiff::Timestamp::as_millisecond))
    }

    /// Which quarter or hour its middle lies in, counted from 1970.
    pub fn bucket(&self, span_s: u64) -> i64 {
        let ms = |s: u64| i64::try_from(s.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let middle = self.ended().0.saturating_sub(ms(self.totals.window_s) / 2);
        middle.div_euclid(ms(span_s))
    }

    /// Whether `next`, the garage's next window, may become one with this one.
    fn is_followed_by(&self, next: &Window, span_s: u64) -> bool {
        let began_ms = next.mono_ms.saturating_sub(next.totals.window_s.saturating_mul(1_000));
        let length_s = self.totals.window_s.saturating_add(next.totals.window_s);
        self.totals.counted_by == next.totals.counted_by
            && self.bucket(span_s) == next.bucket(span_s)
            && length_s <= span_s + LATE_S
            && self.mono_ms <= next.mono_ms
            && began_ms <= self.mono_ms.saturating_add(HOLE_MS)
    }

    /// Becomes one with the window after it. The number comes later.
    fn absorb(&mut self, next: &Window) {
        let (before, next) = (self.totals.clone(), next.clone());
        *self = next;
        self.totals.window_s += before.window_s;
        self.totals.cars_in += before.cars_in;
        self.totals.cars_out += before.cars_out;
        self.totals.granted += before.granted;
    }
}

/// The windows of a chunk; `None` where anything else is in it.
pub fn windows(chunk: &Chunk) -> Option<Vec<Window>> {
    let windows: Vec<Window> = serde_json::from_str(&chunk.json).ok()?;
    let mut next = chunk.first;
    for window in &windows {
        if window.first() != next || window.seq < next {
            return None;
        }
        next = window.seq + 1;
    }
    (next == chunk.last + 1).then_some(windows)
}

/// Merges windows that stand for neighbouring numbers, each garage's by themselves, in the order
/// of their ends. What comes back stands for the same numbers.
pub fn merge(windows: &[Window], span_s: u64) -> Vec<Window> {
    let mut groups: Vec<Group> = Vec::new();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, window) in windows.iter().enumerate() {
        let numbers = window.seq - window.first() + 1;
        let garage = window.totals.garage.as_str();
        let group = open.get(garage).map(|at| &mut groups[*at]);
        match group.filter(|group| group.window.is_followed_by(window, span_s)) {
            Some(group) => {
                group.window.absorb(window);
                group.numbers += numbers;
                group.place = place;
            }
            None => {
                open.insert(garage, groups.len());
                groups.push(Group { window: window.clone(), numbers, place });
            }
        }
    }
    groups.sort_by_key(|group| group.place);
    let mut next = windows.first().map_or(0, Window::first);
    let deal = |Group { mut window, numbers, .. }: Group| {
        let (first, last) = (next, next + numbers - 1);
        next = last + 1;
        window.seq = last;
        window.covers = (first < last).then_some([first, last]);
        window
    };
    groups.into_iter().map(deal).collect()
}

/// Merged windows as chunks; `None` where one of them cannot be said in JSON.
pub fn pack(windows: &[Window], boot: &str) -> Option<Vec<Chunk>> {
    let mut chunks = Vec::new();
    for window in windows {
        let json = serde_json::to_string(window).ok()?;
        let numbers = (window.first(), window.seq);
        chunk::add(&mut chunks, boot, window.ended(), numbers, &json);
    }
    Some(chunks)
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{CountedBy, Tally};

    /// A minute, and where it differs from the one before it; by what, how many are left.
    #[test]
    fn what_belongs_together_becomes_one_and_nothing_else() {
        let minute = |change: &dyn Fn(&mut Window)| {
            let mut window = window("g01", 2, 120_000, 60);
            change(&mut window);
            merge(&[self::window("g01", 1, 60_000, 60), window], 900).len()
        };
        assert_eq!(minute(&|_| ()), 1);
        assert_eq!(minute(&|w| w.totals.garage = "g02".to_owned()), 2, "another garage");
        assert_eq!(minute(&|w| w.totals.counted_by = CountedBy::Bays), 2, "counted otherwise");
        assert_eq!(minute(&|w| w.at = Wall(3_600_000).to_string()), 2, "another quarter");
        assert_eq!(minute(&|w| w.mono_ms = 180_001), 2, "a hole of more than a minute");
        assert_eq!(minute(&|w| w.mono_ms = 180_000), 1, "a restart of a minute");
        assert_eq!(minute(&|w| w.mono_ms = 59_999), 2, "time went back");
        assert_eq!(minute(&|w| w.totals.window_s = 901), 2, "longer than the span");
        assert_eq!(minute(&|w| w.totals.bays = 11), 1, "a changed garage");
        assert_eq!(minute(&|w| w.clock = Some("unsure".to_owned())), 1);
    }

    #[test]
    fn counts_add_up_and_the_picture_is_the_last() {
        let mut all: Vec<Window> = (1..=15).map(|n| window("g01", n, n * 60_000, 60)).collect();
        all[14].totals.now = Tally { free: 1, occupied: 9, ..Tally::default() };
        all[14].totals.by_class = BTreeMap::from([("ev".to_owned(), all[14].totals.now)]);
        all[14].clock = Some("unsure".to_owned());
        let merged = merge(&all, 900);
        assert_eq!(merged.len(), 1);
        let (one, last) = (&merged[0], &all[14]);
        assert_eq!((one.seq, one.covers), (15, Some([1, 15])));
        assert_eq!((one.mono_ms, &one.at, &one.clock), (last.mono_ms, &last.at, &last.clock));
        let sum = (1..=15).sum::<u64>();
        let totals = &one.totals;
        assert_eq!((totals.cars_in, totals.cars_out, totals.granted), (sum, 2 * sum, 3 * sum));
        assert_eq!((totals.window_s, totals.now), (900, last.totals.now));
        assert_eq!(totals.by_class, last.totals.by_class);
    }

    /// Two garages by turns: the numbers are dealt out so that each covers its own, side by side.
    #[test]
    fn no_number_is_covered_twice() {
        let of = |n: u64| if n % 2 == 1 { "g01" } else { "g02" };
        let all: Vec<_> = (1..=30).map(|n| window(of(n), n, n.div_ceil(2) * 60_000, 60)).collect();
        let quarters = merge(&all, 900);
        let covered: Vec<_> = quarters.iter().map(|w| (w.covers, w.seq)).collect();
        assert_eq!(covered, [(Some([1, 15]), 15), (Some([16, 30]), 30)]);
        assert_eq!(merge(&quarters, 900), quarters, "done once, it stays");
    }

    #[test]
    fn it_reads_what_a_chunk_holds_and_writes_it_alike() {
        let all: Vec<_> = (1..=40).map(|n| window("g01", n, n * 60_000, 60)).collect();
        let chunks = pack(&all, "boot").unwrap();
        assert!(chunks.len() > 1 && chunks.iter().all(|chunk| chunk.stored_bytes() <= 4_096));
        let read: Vec<_> = chunks.iter().flat_map(|chunk| windows(chunk).unwrap()).collect();
        assert_eq!(read, all);
        for wrong in [
            Chunk { json: chunks[0].json.replacen("garage_window", "bay", 1), ..chunks[0].clone() },
            Chunk {
                json: chunks[0].json.replacen("\"seq\":2", "\"seq\":3", 1),
                ..chunks[0].clone()
            },
            Chunk { last: chunks[0].last + 1, ..chunks[0].clone() },
        ] {
            assert_eq!(windows(&wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        /// Whatever comes: sums stay, each number is covered once, the last picture stays.
        #[test]
        fn merging_conserves(steps in prop::collection::vec((0..4_usize, 0..200_u64, 1..130_u64,
            any::<bool>(), 0..50_u64, -2_000_000..2_000_000_i64), 1..200), start in 1..99_u64) {
            let (mut all, mut mono_ms) = (Vec::new(), 1_800_000_000_000);
            for (n, step) in steps.into_iter().enumerate() {
                let (garage, wait_s, window_s, loops, cars, jump_ms) = step;
                mono_ms += wait_s * 1_000;
                let garage = ["g01", "g02", "g03", "g04"][garage];
                let mut next = window(garage, start + n as u64, mono_ms, window_s);
                next.totals.cars_in = cars;
                // Now and then the wall clock is set.
                if jump_ms % 7 == 0 {
                    next.at = Wall(mono_ms as i64 + jump_ms).to_string();
                }
                if !loops && cars % 5 == 0 {
                    next.totals.counted_by = CountedBy::Bays;
                }
                all.push(next);
            }
            let mut before = all.clone();
            for span_s in SPANS_S {
                let merged = merge(&before, span_s);
                prop_assert_eq!(sums(&merged), sums(&all));
                let mut next = start;
                for window in &merged {
                    prop_assert_eq!(window.first(), next);
                    prop_assert_eq!(window.covers.is_some(), window.first() < window.seq);
                    next = window.seq + 1;
                }
                prop_assert_eq!(next, start + all.len() as u64);
                prop_assert!(merged.windows(2).all(|two| two[0].mono_ms <= two[1].mono_ms));
                for garage in ["g01", "g02", "g03", "g04"] {
                    let newest = |of: &[Window]| {
                        let newest = of.iter().rfind(|w| w.totals.garage == garage);
                        newest.map(|w| (w.mono_ms, w.at.clone(), w.totals.now, w.totals.bays))
                    };
                    prop_assert_eq!(newest(&merged), newest(&all));
                }
                before = merged;
            }
            let chunks = pack(&before, "boot").unwrap();
            let read: Vec<_> = chunks.iter().flat_map(|chunk| windows(chunk).unwrap()).collect();
            prop_assert_eq!(&read, &before);
            let held = |chunk: &Chunk| Chunk::decode(chunk.first, &chunk.encode());
            prop_assert!(chunks.iter().all(|chunk| held(chunk).as_ref() == Some(chunk)));
        }
    }

    /// By garage and way of counting: cars in and out, answers, seconds.
    pub fn sums(windows: &[Window]) -> BTreeMap<(String, bool), [u64; 4]> {
        let mut sums: BTreeMap<_, [u64; 4]> = BTreeMap::new();
        for GarageWindow { garage, counted_by, cars_in, cars_out, granted, window_s, .. } in
            windows.iter().map(|window| &window.totals)
        {
            let sum = sums.entry((garage.clone(), *counted_by == CountedBy::Loops)).or_default();
            for (sum, more) in sum.iter_mut().zip([cars_in, cars_out, granted, window_s]) {
                *sum += more;
            }
        }
        sums
    }

    /// A window that ended at `mono_ms` by both clocks; its counts grow with its number.
    fn window(garage: &str, seq: u64, mono_ms: u64, window_s: u64) -> Window {
        Window {
            seq,
            covers: None,
            mono_ms,
            at: Wall(mono_ms as i64).to_string(),
            clock: None,
            kind: Kind::GarageWindow,
            totals: totals(garage, window_s, seq),
        }
    }

    pub fn totals(garage: &str, window_s: u64, n: u64) -> GarageWindow {
        let now = Tally { free: (n % 10) as u32, ..Tally::default() };
        GarageWindow {
            garage: garage.to_owned(),
            window_s,
            cars_in: n,
            cars_out: 2 * n,
            counted_by: CountedBy::Loops,
            bays: 10,
            now,
            by_class: BTreeMap::from([("car".to_owned(), now)]),
            granted: 3 * n,
        }
    }
}
