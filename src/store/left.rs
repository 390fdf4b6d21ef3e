//! Which numbers of a lane have left its store, and so which are missing without anybody knowing.
//!
//! A flipped bit can make sled lose a leaf without a word: the chunks around it are there, the
//! ones in it never were. Numbers are given without holes, so a hole that was neither delivered
//! nor told is a loss. This is the lane's account of what went: everything below `head`, and spans
//! beyond it. It lies in the store as one value, written before the removals it counts, so that a
//! kill between the two shows too little missing rather than too much.

use std::collections::BTreeMap;

/// Spans beyond the head that are remembered. Deliveries in flight and told gaps are a few; a
/// store with more of them is told twice rather than remembered without a bound.
const BEYOND_MAX: usize = 256;

/// What is gone from a lane, delivered or told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    /// Every number below this is gone.
    head: u64,
    /// Gone as well: first number, and the one behind the last.
    beyond: BTreeMap<u64, u64>,
}

impl Left {
    /// A lane that begins at `head`.
    pub fn new(head: u64) -> Left {
        Left { head, beyond: BTreeMap::new() }
    }

    /// Numbers `first..before` are gone, and whoever must know does.
    pub fn leave(&mut self, first: u64, before: u64) {
        if first < before && self.beyond.len() < BEYOND_MAX {
            let end = self.beyond.entry(first).or_insert(before);
            *end = before.max(*end);
        }
        while let Some((&first, &before)) = self.beyond.first_key_value() {
            if first > self.head {
                return;
            }
            self.head = self.head.max(before);
            self.beyond.remove(&first);
        }
    }

    /// Spans of `from..before` that are neither below the head nor known to be gone.
    pub fn unaccounted(&self, from: u64, before: u64) -> Vec<(u64, u64)> {
        let (mut from, mut spans) = (from.max(self.head), Vec::new());
        for (&first, &end) in &self.beyond {
            if from >= before {
                break;
            }
            if first > from {
                spans.push((from, first.min(before)));
            }
            from = from.max(end);
        }
        if from < before {
            spans.push((from, before));
        }
        spans
    }

    pub fn head(&self) -> u64 {
        self.head
    }

    /// As stored: the head, then pairs.
    pub fn encode(&self) -> Vec<u8> {
        let pairs = self.beyond.iter().flat_map(|(first, before)| [*first, *before]);
        [self.head].into_iter().chain(pairs).flat_map(u64::to_be_bytes).collect()
    }

    /// Reads what [`Left::encode`] wrote; `None` for anything else.
    pub fn decode(value: &[u8]) -> Option<Left> {
        let (words, rest) = value.as_chunks::<8>();
        let (head, pairs) = words.split_first()?;
        let (pairs, odd) = pairs.as_chunks::<2>();
        if !rest.is_empty() || !odd.is_empty() {
            return None;
        }
        let pair = |[first, before]: &[[u8; 8]; 2]| {
            (u64::from_be_bytes(*first), u64::from_be_bytes(*before))
        };
        Some(Left { head: u64::from_be_bytes(*head), beyond: pairs.iter().map(pair).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Left {
        /// Spans below `there`, the lowest number that is there, which left without a word.
        fn missing(&self, there: u64) -> Vec<(u64, u64)> {
            self.unaccounted(0, there)
        }
    }

    #[test]
    fn what_leaves_in_order_leaves_no_hole() {
        let mut left = Left::new(1);
        left.leave(1, 21);
        left.leave(21, 30);
        assert_eq!((left.head(), left.missing(30)), (30, vec![]));
    }

    #[test]
    fn what_leaves_out_of_order_waits_for_the_head() {
        let mut left = Left::new(1);
        left.leave(21, 41);
        left.leave(61, 71);
        assert_eq!(left.head(), 1);
        assert_eq!(left.missing(1), []);
        left.leave(1, 21);
        assert_eq!(left.head(), 41);
        assert_eq!(left.missing(80), [(41, 61), (71, 80)]);
        left.leave(41, 61);
        assert_eq!((left.head(), left.missing(71)), (71, vec![]));
    }

    #[test]
    fn a_span_that_vanished_is_missing_until_it_is_told() {
        let mut left = Left::new(5);
        assert_eq!(left.missing(9), [(5, 9)]);
        left.leave(5, 9);
        assert_eq!(left.missing(9), []);
        // What was told in the middle is not told again when the head comes there.
        left.leave(20, 30);
        assert_eq!(left.unaccounted(9, 35), [(9, 20), (30, 35)]);
        left.leave(9, 20);
        assert_eq!(left.missing(30), []);
    }

    #[test]
    fn it_reads_what_it_wrote_and_nothing_else() {
        let mut left = Left::new(7);
        left.leave(9, 12);
        left.leave(20, 21);
        let value = left.encode();
        assert_eq!(Left::decode(&value).as_ref(), Some(&left));
        for cut in 1..16 {
            assert_eq!(Left::decode(&value[..value.len() - cut]), None, "{cut} cut off");
        }
        assert_eq!(Left::decode(b""), None);
    }

    #[test]
    fn it_stays_small() {
        let mut left = Left::new(1);
        for n in 1..10_000 {
            left.leave(n * 10, n * 10 + 1);
        }
        assert_eq!(left.encode().len(), 8 + 16 * BEYOND_MAX);
        left.leave(1, 2);
        assert_eq!(left.head(), 1, "a full account forgets the newest, and tells it again");
    }
}
