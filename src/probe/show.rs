//! What was read, for people and for scripts: tables, changes, JSON lines.
//!
//! Registers stand ten to a row under their last digit, so that an address is found as in a
//! manual; bits twenty to a row. Addresses are told as the technician counts (`--base`).

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::probe::ask::{As, Reading, Span, table_name};
use crate::profile::WordOrder;

/// Changes told in one line; the table itself shows them all.
const CHANGES_MAX: usize = 8;

/// Items that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Values {
    Bits(Vec<bool>),
    Words(Vec<u16>),
}

/// What exceptions mean (Modbus application protocol V1.1b3, 7).
pub fn exception(code: u8) -> String {
    let meaning = match code {
        1 => "no such function",
        2 => "no such address",
        3 => "bad value or length",
        4 => "device failure",
        5 => "accepted, still at work",
        6 => "busy",
        8 => "memory parity error",
        10 => "gateway has no path",
        11 => "gateway: unit behind it is silent",
        _ => "of the device's own",
    };
    format!("exception {code:02X} ({meaning})")
}

/// The values from an index on, one text each; a wide value that is cut off is left out.
fn texts(values: &Values, reading: Reading) -> Vec<String> {
    let words = match values {
        Values::Bits(bits) => return bits.iter().map(|bit| u8::from(*bit).to_string()).collect(),
        Values::Words(words) => words,
    };
    words.chunks_exact(reading.as_.width()).map(|words| word_text(words, reading)).collect()
}

fn word_text(words: &[u16], reading: Reading) -> String {
    let wide = || match (reading.order, words) {
        (WordOrder::HighFirst, [high, low]) | (WordOrder::LowFirst, [low, high]) => {
            u32::from(*high) << 16 | u32::from(*low)
        }
        _ => 0,
    };
    match reading.as_ {
        As::U16 => words[0].to_string(),
        As::I16 => (words[0] as i16).to_string(),
        As::Hex => format!("{:04x}", words[0]),
        As::Bits => format!("{:016b}", words[0]),
        As::Ascii => words[0].to_be_bytes().map(printable).iter().collect(),
        As::U32 => wide().to_string(),
        As::I32 => (wide() as i32).to_string(),
        As::F32 => f32::from_bits(wide()).to_string(),
    }
}

fn printable(byte: u8) -> char {
    let byte = char::from(byte);
    if byte == ' ' || byte.is_ascii_graphic() { byte } else { '.' }
}

/// A table of one range. Cells that differ from `before` are marked: by `*`, or by inverse video
/// where `colour` says that a terminal is there.
pub fn table(
    span: Span,
    values: &Values,
    before: Option<&Values>,
    reading: Reading,
    colour: bool,
) -> String {
    let cells = texts(values, reading);
    let old = before.map(|before| texts(before, reading)).unwrap_or_default();
    let width = cells.iter().map(String::len).max().unwrap_or(1);
    let (step, a_row) = match (values, reading.as_) {
        (Values::Bits(_), _) => (1, 20),
        (_, As::Bits) => (1, 1),
        (_, As::U32 | As::I32 | As::F32) => (2, 5),
        _ => (1, 10),
    };
    let bits = matches!(values, Values::Bits(_));
    let first = u32::from(span.first) + u32::from(reading.base);
    // Wide values begin where they begin; single items stand under their last digit.
    let row_items = a_row * step;
    let start = if step == 1 { first / row_items * row_items } else { first };
    let mut text = String::new();
    if !bits && reading.as_ != As::Bits {
        let heads = (0..a_row).map(|n| {
            let offset = if step == 1 && a_row == 10 { n } else { n * step };
            format!("{:>width$} ", format!("+{offset}"), width = width.max(2))
        });
        let _ = writeln!(text, "{:>9}  {}", table_name(span.table), heads.collect::<String>());
    } else {
        let _ = writeln!(text, "{:>9}", table_name(span.table));
    }
    let last = first + (cells.len() as u32) * step;
    let mut row = start;
    while row < last {
        let _ = write!(text, "{row:>9}  ");
        for n in 0..a_row {
            let address = row + n * step;
            let cell = address.checked_sub(first).and_then(|at| {
                let at = (at / step) as usize;
                cells.get(at).map(|cell| (cell, old.get(at).is_some_and(|old| old != cell)))
            });
            text += &shown(cell, if bits { 1 } else { width.max(2) }, bits, colour);
            if bits && n == 9 {
                text.push(' ');
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        row += row_items;
    }
    text
}

/// One cell with its mark; empty where there is none.
fn shown(cell: Option<(&String, bool)>, width: usize, bits: bool, colour: bool) -> String {
    let space = if bits { "" } else { " " };
    match cell {
        None => format!("{:>width$}{space}", ""),
        Some((cell, true)) if colour => format!("\x1b[7m{cell:>width$}\x1b[0m{space}"),
        Some((cell, true)) if !bits => format!("{cell:>width$}*"),
        Some((cell, _)) => format!("{cell:>width$}{space}"),
    }
}

/// What differs from the last read, in words: `17: 0 -> 1`. `None` where nothing does.
pub fn changes(span: Span, values: &Values, before: &Values, reading: Reading) -> Option<String> {
    let (new, old) = (texts(values, reading), texts(before, reading));
    let step = if matches!(values, Values::Bits(_)) { 1 } else { reading.as_.width() };
    let first = usize::from(span.first) + usize::from(reading.base);
    let differ = new.iter().zip(&old).enumerate().filter(|(_, (new, old))| new != old);
    let all: Vec<String> =
        differ.map(|(n, (new, old))| format!("{}: {old} -> {new}", first + n * step)).collect();
    if all.is_empty() {
        return None;
    }
    let mut text = all[..all.len().min(CHANGES_MAX)].join(", ");
    if all.len() > CHANGES_MAX {
        let _ = write!(text, " and {} more", all.len() - CHANGES_MAX);
    }
    Some(format!("{} {text}", table_name(span.table)))
}

/// One range on one line, for a pipe.
pub fn line(span: Span, values: &Values, reading: Reading) -> String {
    let texts = texts(values, reading);
    let joined = match (values, reading.as_) {
        (Values::Bits(_), _) | (_, As::Ascii) => texts.concat(),
        _ => texts.join(" "),
    };
    format!("{} {joined}", name(span, reading.base))
}

/// "holding 0 to 7", as the technician counts.
pub fn name(span: Span, base: u16) -> String {
    let (first, last) =
        (u32::from(span.first) + u32::from(base), u32::from(span.last) + u32::from(base));
    if first == last {
        return format!("{} {first}", table_name(span.table));
    }
    format!("{} {first} to {last}", table_name(span.table))
}

/// One range for a script: addresses as on the wire, raw items beside the values.
pub fn json(span: Span, values: &Values, reading: Reading) -> Value {
    let mut object = json!({ "table": table_name(span.table), "first": span.first });
    match values {
        Values::Bits(bits) => {
            object["bits"] = bits.iter().map(|bit| u8::from(*bit)).collect();
        }
        Values::Words(words) => {
            object["words"] = json!(words);
            object["values"] = match reading.as_ {
                As::Ascii => json!(texts(values, reading).concat()),
                As::Hex | As::Bits => json!(texts(values, reading)),
                // Whole numbers and floats are numbers; what JSON has no number for is a text.
                _ => texts(values, reading)
                    .into_iter()
                    .map(|text| serde_json::from_str(&text).unwrap_or_else(|_| json!(text)))
                    .collect(),
            };
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::ask::span;

    const PLAIN: Reading = Reading { as_: As::U16, order: WordOrder::HighFirst, base: 0 };

    fn words(words: &[u16]) -> Values {
        Values::Words(words.to_vec())
    }

    #[test]
    fn values_are_told_as_asked() {
        let of = |as_, order, values: &[u16]| {
            let reading = Reading { as_, order, base: 0 };
            texts(&words(values), reading).join(" ")
        };
        let (high, low) = (WordOrder::HighFirst, WordOrder::LowFirst);
        for (as_, order, values, expected) in [
            (As::U16, high, &[0, 65_535][..], "0 65535"),
            (As::I16, high, &[0x7fff, 0x8000], "32767 -32768"),
            (As::Hex, high, &[0xab, 0xffff], "00ab ffff"),
            (As::Bits, high, &[5], "0000000000000101"),
            (As::Ascii, high, &[0x4142, 0x2000], "AB  ."),
            (As::U32, high, &[1, 2], "65538"),
            (As::U32, low, &[1, 2], "131073"),
            (As::U32, high, &[1, 2, 3], "65538"),
            (As::I32, high, &[0xffff, 0xfffe], "-2"),
            (As::F32, high, &[0x3fc0, 0], "1.5"),
            (As::F32, low, &[0, 0x3fc0], "1.5"),
        ] {
            assert_eq!(of(as_, order, values), expected, "{as_:?} {order:?} {values:?}");
        }
    }

    #[test]
    fn registers_stand_under_their_last_digit() {
        let values = words(&[7, 65_535, 3, 4]);
        let before = words(&[7, 65_535, 2, 4]);
        let told = table(span("holding:8..11", 0).unwrap(), &values, Some(&before), PLAIN, false);
        let expected = "  holding     +0    +1    +2    +3    +4    +5    +6    +7    +8    +9 \n\
                        \x20       0                                                      7 65535\n\
                        \x20      10      3*    4\n";
        assert_eq!(told, expected);
    }

    #[test]
    fn bits_stand_twenty_to_a_row_and_wide_values_five() {
        let bits: Vec<bool> = (0..22).map(|n| n % 3 == 0).collect();
        let told = table(span("coil:0..21", 0).unwrap(), &Values::Bits(bits), None, PLAIN, false);
        assert_eq!(told, "     coil\n        0  1001001001 0010010010\n       20  01\n");
        let reading = Reading { as_: As::U32, base: 1, ..PLAIN };
        let values = words(&[0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6]);
        let told = table(span("input:10..21", 1).unwrap(), &values, None, reading, false);
        let expected = "    input  +0 +2 +4 +6 +8 \n       10   1  2  3  4  5\n       20   6\n";
        assert_eq!(told, expected);
    }

    #[test]
    fn changes_are_named_and_bounded() {
        let span = span("holding:0..19", 0).unwrap();
        let (old, mut new) = (vec![0; 20], vec![0; 20]);
        assert_eq!(changes(span, &words(&new), &words(&old), PLAIN), None);
        new[3] = 9;
        let told = changes(span, &words(&new), &words(&old), PLAIN);
        assert_eq!(told.as_deref(), Some("holding 3: 0 -> 9"));
        let told = changes(span, &words(&[1; 20]), &words(&old), PLAIN).unwrap();
        assert!(told.ends_with("7: 0 -> 1 and 12 more"), "{told}");
    }

    #[test]
    fn scripts_get_raw_items_and_values() {
        let reading = Reading { as_: As::F32, ..PLAIN };
        let told = json(span("holding:4..5", 0).unwrap(), &words(&[0x3fc0, 0]), reading);
        assert_eq!(
            told,
            json!({"table": "holding", "first": 4, "words": [0x3fc0, 0], "values": [1.5]})
        );
        let not_a_number = json(span("holding:4..5", 0).unwrap(), &words(&[0x7fc0, 0]), reading);
        assert_eq!(not_a_number["values"], json!(["NaN"]));
    }
}
