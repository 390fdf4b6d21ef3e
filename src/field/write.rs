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
        Format::Number { .. } => 1,
        Format::Text { chars } => chars.div_ceil(2),
    }
}

/// The registers that show `face`.
pub fn encode(face: &Face, format: Format) -> Vec<u16> {
    match format {
        Format::Number { max, full, closed, blank } => vec![match face {
            Face::Number(number) => u16::try_from(*number).map_or(max, |number| number.min(max)),
            // A display of numbers has no words; nothing is better than a wrong number.
            Face::Text(_) | Face::Blank => blank,
            Face::Full => full,
            Face::Closed => closed,
        }],
        Format::Text { chars } => {
            let chars = usize::from(chars);
            let shown = match face {
                Face::Number(number) => {
                    let digits = number.to_string();
                    if digits.len() > chars { "9".repeat(chars) } else { digits }
                }
                Face::Text(_) | Face::Full | Face::Closed | Face::Blank => face.to_string(),
            };
            pack(&shown, chars)
        }
    }
}

/// Two ASCII characters a register, the first one high, padded with spaces.
fn pack(text: &str, chars: usize) -> Vec<u16> {
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c as u8 } else { b'?' };
    let mut bytes: Vec<u8> = text.chars().take(chars).map(printable).collect();
    bytes.resize(chars.next_multiple_of(2), b' ');
    bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: Format =
        Format::Number { max: 9_999, full: 10_001, closed: 10_002, blank: 10_000 };

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
        ];
        for (face, word) in table {
            assert_eq!(encode(&face, NUMBER), [word], "{face:?}");
        }
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
            (Face::Number(42), 4, "42  "),
            (Face::Number(12_345), 3, "999 "),
        ];
        for (face, chars, shown) in table {
            let words = encode(&face, Format::Text { chars });
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            assert_eq!(String::from_utf8_lossy(&bytes), shown, "{face:?}");
            assert_eq!(words.len(), usize::from(width(Format::Text { chars })));
        }
    }
}
