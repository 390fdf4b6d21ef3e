//! From a face to the registers of a display. Absolute values only, so that writing one twice
//! shows the same.
//!
//! A number that a display cannot show in full becomes the largest it can: 9,999 for 12,345 is
//! true as far as it goes, while 1,234 or 345 would be a lie.

use crate::profile::Format;
use crate::site::Face;

/// How many registers a display of this format takes.
pub fn width(format: Format) -> u16 {
    match format {
        Format::Number { .. } | Format::Arrows { .. } => 1,
        Format::Text { chars, per_register } => chars.div_ceil(per_register.max(1)),
    }
}

/// The registers that show `face`. What a display has no value for leaves it dark: nothing is
/// better than something wrong.
pub fn encode(face: &Face, format: Format) -> Vec<u16> {
    match format {
        Format::Number { max, blank, .. } => vec![match face {
            Face::Number(number) => u16::try_from(*number).map_or(max, |number| number.min(max)),
            _ => format.code(face).unwrap_or(blank),
        }],
        Format::Arrows { none, .. } => vec![format.code(face).unwrap_or(none)],
        Format::Text { chars, per_register } => {
            let chars = usize::from(chars);
            let shown = match face {
                Face::Number(number) => {
                    let digits = number.to_string();
                    if digits.len() > chars { "9".repeat(chars) } else { digits }
                }
                _ => face.to_string(),
            };
            pack(&shown, chars, usize::from(per_register.max(1)))
        }
    }
}

/// ASCII padded with spaces: two characters a register, the first one high, or one in the low
/// byte of each.
fn pack(text: &str, chars: usize, per_register: usize) -> Vec<u16> {
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c as u8 } else { b'?' };
    let mut bytes: Vec<u8> = text.chars().take(chars).map(printable).collect();
    bytes.resize(chars.next_multiple_of(per_register), b' ');
    let word = |chunk: &[u8]| chunk.iter().fold(0, |word, byte| word << 8 | u16::from(*byte));
    bytes.chunks_exact(per_register).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Turn;

    const NUMBER: Format = Format::Number {
        max: 9_999,
        full: 10_001,
        closed: 10_002,
        blank: 10_000,
        staff: Some(10_003),
        valet: None,
        left: Some(10_004),
        straight: None,
        right: None,
    };

    #[test]
    fn faces_of_a_number_display() {
        let table = [
            (Face::Number(0), 0),
            (Face::Number(9_999), 9_999),
            (Face::Number(10_001), 9_999),
            (Face::Number(u32::MAX), 9_999),
            (Face::Full, 10_001),
            (Face::Closed, 10_002),
            (Face::Blank, 10_000),
            (Face::Text("A7K2".into()), 10_000),
            (Face::Staff, 10_003),
            (Face::Valet, 10_000),
            (Face::Arrow(Turn::Left), 10_004),
            (Face::Arrow(Turn::Right), 10_000),
        ];
        for (face, word) in table {
            assert_eq!(encode(&face, NUMBER), [word], "{face:?}");
        }
    }

    #[test]
    fn faces_of_an_arrow_display() {
        let format =
            Format::Arrows { left: 1, straight: 2, right: 4, none: 0, full: None, closed: Some(8) };
        let table = [
            (Face::Arrow(Turn::Left), 1),
            (Face::Arrow(Turn::Straight), 2),
            (Face::Arrow(Turn::Right), 4),
            (Face::Closed, 8),
            (Face::Full, 0),
            (Face::Number(7), 0),
            (Face::Text("A7".into()), 0),
            (Face::Blank, 0),
        ];
        for (face, word) in table {
            assert_eq!(encode(&face, format), [word], "{face:?}");
        }
    }

    #[test]
    fn one_character_a_register() {
        let format = Format::Text { chars: 6, per_register: 1 };
        let words: Vec<u16> = b"<     ".iter().map(|byte| u16::from(*byte)).collect();
        assert_eq!(encode(&Face::Arrow(Turn::Left), format), words);
        assert_eq!(width(format), 6);
    }

    #[test]
    fn faces_of_a_text_display() {
        let table = [
            (Face::Text("A7 G1".into()), 7, "A7 G1   "),
            (Face::Text("A7 G1 and more".into()), 7, "A7 G1 a "),
            (Face::Text("车 é\n".into()), 6, "? ??  "),
            (Face::Full, 6, "FULL  "),
            (Face::Closed, 6, "CLOSED"),
            (Face::Blank, 4, "    "),
            (Face::Valet, 6, "VALET "),
            (Face::Arrow(Turn::Right), 2, "> "),
            (Face::Number(42), 4, "42  "),
            (Face::Number(12_345), 3, "999 "),
        ];
        for (face, chars, shown) in table {
            let words = encode(&face, Format::text(chars));
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            assert_eq!(String::from_utf8_lossy(&bytes), shown, "{face:?}");
            assert_eq!(words.len(), usize::from(width(Format::text(chars))));
        }
    }
}
