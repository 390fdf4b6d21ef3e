//! The listener against streams of everything a bus may carry, in pieces of any size.

use proptest::prelude::*;

use super::*;

const UNIT: u8 = 17;

/// A frame of these bytes with a true checksum.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut frame = bytes.to_vec();
    frame.extend(crc(bytes).to_le_bytes());
    frame
}

/// An honest unit's answer; `seed` varies what it holds.
fn honest(address: u8, ask: Ask<'_>, seed: u8) -> Vec<u8> {
    let request = encode(address, ask);
    match ask {
        Ask::Read { table, count, .. } => {
            let length = data_len(table, count);
            let mut bytes = vec![address, request[1], length as u8];
            bytes.extend((0..length).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed)));
            framed(&bytes)
        }
        Ask::Write { .. } => framed(&request[..6]),
    }
}

#[test]
fn frames_are_as_the_standard_prints_them() {
    let words = [10, 258];
    let coil = |values| Ask::Write { table: Table::Coil, first: 19, values };
    let read = |table| Ask::Read { table, first: 107, count: 3 };
    let table: [(Ask<'_>, &[u8]); 9] = [
        (read(Table::Coil), &[17, 1, 0, 107, 0, 3]),
        (read(Table::Discrete), &[17, 2, 0, 107, 0, 3]),
        (read(Table::Holding), &[17, 3, 0, 107, 0, 3]),
        (read(Table::Input), &[17, 4, 0, 107, 0, 3]),
        (Ask::Write { table: Table::Holding, first: 1, values: &[3] }, &[17, 6, 0, 1, 0, 3]),
        (
            Ask::Write { table: Table::Holding, first: 1, values: &words },
            &[17, 16, 0, 1, 0, 2, 4, 0, 10, 1, 2],
        ),
        (coil(&[1]), &[17, 5, 0, 19, 0xff, 0]),
        (coil(&[0]), &[17, 5, 0, 19, 0, 0]),
        (coil(&[1, 0, 1, 1, 0, 0, 1, 1, 1, 0]), &[17, 15, 0, 19, 0, 10, 2, 0xcd, 1]),
    ];
    for (ask, bytes) in table {
        assert_eq!(encode(UNIT, ask), framed(bytes), "{ask:?}");
    }
    // A request that many manuals print in full.
    let ask = Ask::Read { table: Table::Holding, first: 0, count: 10 };
    assert_eq!(encode(1, ask), [1, 3, 0, 0, 0, 0x0a, 0xc5, 0xcd]);
}

/// A stream; whether it holds the answer; then foreign frames, misfits, echoes, bytes of noise.
type Case = (&'static str, Vec<u8>, bool, [u32; 4]);

#[test]
fn only_the_answer_is_the_answer() {
    let ask = Ask::Read { table: Table::Holding, first: 4, count: 3 };
    let answer = || framed(&[17, 3, 6, 0, 1, 0, 2, 0, 3]);
    let join = |parts: &[&[u8]]| parts.concat();
    let mut bad_sum = answer();
    bad_sum[7] ^= 1;
    let echo = encode(UNIT, ask);
    let table: [Case; 15] = [
        ("alone", answer(), true, [0, 0, 0, 0]),
        ("silence", vec![], false, [0, 0, 0, 0]),
        ("after noise", join(&[&[0, 255, 17, 3], &answer()]), true, [0, 0, 0, 4]),
        ("after its own beginning", join(&[&answer()[..5], &answer()]), true, [0, 0, 0, 5]),
        ("after another's", join(&[&framed(&[9, 3, 2, 0, 1]), &answer()]), true, [1, 0, 0, 0]),
        ("after an echo", join(&[&echo, &answer()]), true, [0, 0, 1, 0]),
        ("another's alone", framed(&[9, 3, 6, 0, 1, 0, 2, 0, 3]), false, [1, 0, 0, 0]),
        ("too short", framed(&[17, 3, 4, 0, 1, 0, 2]), false, [0, 1, 0, 0]),
        ("too long", framed(&[17, 3, 8, 0, 1, 0, 2, 0, 3, 0, 4]), false, [0, 1, 0, 0]),
        ("of another function", framed(&[17, 4, 6, 0, 1, 0, 2, 0, 3]), false, [0, 1, 0, 0]),
        ("a late refusal", framed(&[17, 0x84, 2]), false, [0, 1, 0, 0]),
        (
            "two misfits, then it",
            join(&[&framed(&[17, 4, 2, 0, 1]), &answer()]),
            true,
            [0, 1, 0, 0],
        ),
        ("a bad checksum", bad_sum, false, [0, 0, 0, 11]),
        ("cut short", answer()[..10].to_vec(), false, [0, 0, 0, 10]),
        ("zeros", vec![0; 600], false, [0, 0, 0, 600]),
    ];
    for (name, stream, found, heard) in table {
        for piece in [1, 2, 7, 600] {
            let mut listener = Listener::new(UNIT, ask);
            let got = stream.chunks(piece).find_map(|part| listener.take(part));
            let expected = found.then(|| Answer::Words(vec![1, 2, 3]));
            assert_eq!(got, expected, "{name} in pieces of {piece}");
            let Heard { foreign, misfits, echoes, noise } = listener.heard();
            assert_eq!([foreign, misfits, echoes, noise], heard, "{name} in pieces of {piece}");
        }
    }
}

#[test]
fn a_refusal_and_an_echoed_write_are_answers() {
    let read = Ask::Read { table: Table::Discrete, first: 0, count: 9 };
    let mut listener = Listener::new(UNIT, read);
    assert_eq!(listener.take(&framed(&[17, 0x82, 2])), Some(Answer::Exception(2)));
    let mut listener = Listener::new(UNIT, read);
    let bits = [true, false, true, false, false, false, false, true, true];
    assert_eq!(listener.take(&framed(&[17, 2, 2, 0x85, 0x01])), Some(Answer::Bits(bits.into())));
    let write = Ask::Write { table: Table::Holding, first: 7, values: &[42] };
    let mut listener = Listener::new(UNIT, write);
    assert_eq!(listener.take(&framed(&[17, 6, 0, 7, 0, 43])), None, "another value");
    assert_eq!(listener.take(&framed(&[17, 6, 0, 7, 0, 42])), Some(Answer::Written));
    let write = Ask::Write { table: Table::Holding, first: 7, values: &[42, 43] };
    let mut listener = Listener::new(UNIT, write);
    assert_eq!(listener.take(&framed(&[17, 16, 0, 7, 0, 1])), None, "fewer registers");
    assert_eq!(listener.take(&framed(&[17, 16, 0, 7, 0, 2])), Some(Answer::Written));
}

/// Whether an answer stands anywhere in the stream, in the plainest possible way.
fn holds_answer(stream: &[u8], ask: Ask<'_>) -> bool {
    let function = encode(UNIT, ask)[1];
    let here = |bytes: &[u8]| {
        let refusal = bytes.len() >= 5 && bytes[0] == UNIT && bytes[1] == function | 0x80;
        let refusal = refusal && framed(&bytes[..3]) == bytes[..5];
        let length = answer_len(ask);
        let begin = match ask {
            Ask::Read { table, count, .. } => vec![UNIT, function, data_len(table, count) as u8],
            Ask::Write { .. } => encode(UNIT, ask)[..6].to_vec(),
        };
        let answer = bytes.len() >= length
            && bytes.starts_with(&begin)
            && framed(&bytes[..length - 2]) == bytes[..length];
        refusal || answer
    };
    (0..stream.len()).any(|at| here(&stream[at..]))
}

/// One thing on a bus.
#[derive(Clone, Debug)]
enum Piece {
    Noise(Vec<u8>),
    /// Somebody's sound frame, perhaps ours: address, function, data.
    Frame(u8, u8, Vec<u8>),
    /// The answer, or so much of it, with this bit turned over.
    Answer {
        seed: u8,
        keep: usize,
        flip: Option<usize>,
    },
    Echo,
}

fn piece() -> impl Strategy<Value = Piece> {
    let address = prop_oneof![Just(UNIT), any::<u8>()];
    let function = prop_oneof![1u8..7, 15u8..17, 129u8..145, any::<u8>()];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Piece::Noise),
        (address, function, prop::collection::vec(any::<u8>(), 0..12))
            .prop_map(|(address, function, data)| Piece::Frame(address, function, data)),
        (any::<u8>(), 0usize..260, prop::option::weighted(0.3, 0usize..2_000))
            .prop_map(|(seed, keep, flip)| Piece::Answer { seed, keep, flip }),
        Just(Piece::Echo),
    ]
}

fn ask() -> impl Strategy<Value = Ask<'static>> {
    const WORDS: [u16; 123] = [4_355; 123];
    let table = vec![Table::Coil, Table::Discrete, Table::Holding, Table::Input];
    prop_oneof![
        (prop::sample::select(table), any::<u16>(), 1u16..2_001).prop_map(
            |(table, first, count)| {
                let count = count.min(table.read_max());
                Ask::Read { table, first, count }
            }
        ),
        (any::<bool>(), any::<u16>(), 1usize..124).prop_map(|(bits, first, count)| {
            let table = if bits { Table::Coil } else { Table::Holding };
            Ask::Write { table, first, values: &WORDS[..count] }
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_answer_is_found_exactly_where_one_is(
        ask in ask(),
        pieces in prop::collection::vec(piece(), 0..6),
        cuts in prop::collection::vec(1usize..300, 1..8),
    ) {
        let mut stream = Vec::new();
        for piece in &pieces {
            match piece {
                Piece::Noise(bytes) => stream.extend(bytes),
                Piece::Frame(address, function, data) => {
                    stream.extend(framed(&[&[*address, *function][..], data].concat()));
                }
                Piece::Answer { seed, keep, flip } => {
                    let mut answer = honest(UNIT, ask, *seed);
                    if let Some(flip) = flip {
                        let at = flip / 8 % answer.len();
                        answer[at] ^= 1 << (flip % 8);
                    }
                    answer.truncate(*keep);
                    stream.extend(answer);
                }
                Piece::Echo => stream.extend(encode(UNIT, ask)),
            }
        }
        let mut listener = Listener::new(UNIT, ask);
        let (mut rest, mut got) = (&stream[..], None);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() || got.is_some() {
                break;
            }
            let (part, after) = rest.split_at((*cut).min(rest.len()));
            (rest, got) = (after, listener.take(part));
            prop_assert!(listener.buffer.len() <= FRAME_MAX);
        }
        prop_assert_eq!(got.is_some(), holds_answer(&stream, ask), "{:?}", got);
        let Heard { foreign, misfits, echoes, noise } = listener.heard();
        let frames = (foreign + misfits + echoes) as usize;
        prop_assert!(frames * AROUND + noise as usize <= stream.len());
        match (got, ask) {
            (Some(Answer::Bits(bits)), Ask::Read { table, count, .. }) => {
                prop_assert!(table.is_bits() && bits.len() == usize::from(count));
            }
            (Some(Answer::Words(words)), Ask::Read { table, count, .. }) => {
                prop_assert!(!table.is_bits() && words.len() == usize::from(count));
            }
            (Some(Answer::Written), ask) => {
                prop_assert!(matches!(ask, Ask::Write { .. }), "{:?}", ask);
            }
            (Some(Answer::Exception(_)) | None, _) => (),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn a_turned_bit_is_never_an_answer(ask in ask(), seed: u8, at: usize, bit in 0u8..8) {
        let mut answer = honest(UNIT, ask, seed);
        let at = at % answer.len();
        answer[at] ^= 1 << bit;
        prop_assert_eq!(Listener::new(UNIT, ask).take(&answer), None);
    }
}
