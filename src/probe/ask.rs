//! What a technician types, read: ranges, units, writes and how values are shown.
//!
//! Both ends of a range are in it, because that is how people count: `holding:0..7` are eight
//! registers. `holding:100+8` says the same by first and how many. Manuals that count from 1 are
//! met by `--base 1`, and their classic five-digit numbers (40010) are read as they stand.

use std::str::FromStr;

use crate::profile::{Table, WordOrder};

/// Units of one address space.
const UNITS_MAX: usize = 256;
/// The most registers one write may carry (Modbus spec V1.1b3, 6.12).
const WORDS_MAX: usize = 123;

/// Items of one table, by their addresses on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span {
    pub table: Table,
    pub first: u16,
    /// The last one, which is in it.
    pub last: u16,
}

/// Registers or coils to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub table: Table,
    pub first: u16,
    /// Registers; for coils 0 or 1 each.
    pub words: Vec<u16>,
}

/// How registers are shown and written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum As {
    U16,
    I16,
    U32,
    I32,
    F32,
    Hex,
    Bits,
    Ascii,
}

/// How people count and which half of a wide value comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    pub as_: As,
    pub order: WordOrder,
    /// What address 0 on the wire is called: 0 or 1.
    pub base: u16,
}

impl Span {
    /// How many items, 1 to 65,536.
    pub fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }

    /// The requests that read it, none above the spec's limit.
    pub fn requests(self) -> Vec<(u16, u16)> {
        let step = self.table.read_max();
        let starts = (self.first..=self.last).step_by(usize::from(step));
        starts.map(|first| (first, (self.last - first).min(step - 1) + 1)).collect()
    }
}

impl As {
    /// Registers that make one value.
    pub fn width(self) -> usize {
        match self {
            As::U32 | As::I32 | As::F32 => 2,
            As::U16 | As::I16 | As::Hex | As::Bits | As::Ascii => 1,
        }
    }
}

pub fn table_name(table: Table) -> &'static str {
    match table {
        Table::Discrete => "discrete",
        Table::Coil => "coil",
        Table::Input => "input",
        Table::Holding => "holding",
    }
}

fn table(name: &str) -> Result<Table, String> {
    match name {
        "holding" => Ok(Table::Holding),
        "input" => Ok(Table::Input),
        "coil" => Ok(Table::Coil),
        "discrete" => Ok(Table::Discrete),
        _ => Err(format!("\"{name}\" is no table: holding, input, coil or discrete")),
    }
}

/// A number as people write it: 17, 0x11.
fn number(text: &str) -> Result<i64, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => i64::from_str_radix(digits, 16),
        None => i64::from_str(text),
    };
    parsed.map_err(|_| format!("\"{text}\" is not a number"))
}

/// Reads `holding:0..7`, `holding:100+8`, `coil:3` or, in classic numbers, `40001..40008`.
///
/// # Errors
///
/// What is wrong with it, for whoever typed it.
pub fn span(text: &str, base: u16) -> Result<Span, String> {
    let (table, rest, base) = match text.split_once(':') {
        Some((name, rest)) => (table(name)?, rest, i64::from(base)),
        None => classic(text)?,
    };
    let address = |text: &str| -> Result<i64, String> {
        let typed = number(text.trim())?;
        // The second end may be classic as well, or stand alone: 40001..40008.
        let wire = typed - base;
        if (0..=65_535).contains(&wire) {
            return Ok(wire);
        }
        Err(format!("{typed} is no address: {base} to {}", base + 65_535))
    };
    let (first, last) = if let Some((first, count)) = rest.split_once('+') {
        let (first, count) = (address(first)?, number(count.trim())?);
        if count < 1 {
            return Err(format!("{count} is not how many to read"));
        }
        (first, first + count - 1)
    } else if let Some((first, last)) = rest.split_once("..") {
        (address(first)?, address(last)?)
    } else {
        let first = address(rest)?;
        (first, first)
    };
    if last < first {
        return Err(format!("\"{text}\" runs backwards"));
    }
    match (u16::try_from(first), u16::try_from(last)) {
        (Ok(first), Ok(last)) => Ok(Span { table, first, last }),
        _ => Err(format!("\"{text}\" runs past address 65535")),
    }
}

/// The table that a classic number names, and the number of its first item: 10001 is the first
/// discrete input. Five or six digits, so that "00009" is a coil and "9" is not.
fn classic(text: &str) -> Result<(Table, &str, i64), String> {
    let digits = text.split(['.', '+']).next().unwrap_or("");
    let wide = matches!(digits.len(), 5 | 6) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let table = match digits.as_bytes().first() {
        Some(b'0') if wide => Table::Coil,
        Some(b'1') if wide => Table::Discrete,
        Some(b'3') if wide => Table::Input,
        Some(b'4') if wide => Table::Holding,
        _ => {
            return Err(format!(
                "\"{text}\" is no range: write holding:0..7, holding:100+8, coil:3 or, as manuals \
                 do, 40001..40008"
            ));
        }
    };
    let leading = i64::from(digits.as_bytes()[0] - b'0');
    let tens = if digits.len() == 5 { 10_000 } else { 100_000 };
    Ok((table, text, leading * tens + 1))
}

/// Reads "1..32", "1,3,7..9": unit addresses, ascending and each once.
///
/// # Errors
///
/// What is wrong with it.
pub fn units(text: &str) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once("..").unwrap_or((part, part));
        let address = |text: &str| -> Result<u8, String> {
            u8::try_from(number(text.trim())?)
                .map_err(|_| format!("\"{text}\" is not a unit of 0 to 255"))
        };
        let (first, last) = (address(first)?, address(last)?);
        if last < first {
            return Err(format!("\"{part}\" runs backwards"));
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    debug_assert!(all.len() <= UNITS_MAX, "addresses are bytes");
    Ok(all)
}

/// Reads `holding:5=17`, `holding:5=17,18`, `coil:3=on` or, with `--as ascii`, `holding:0=FULL`.
///
/// # Errors
///
/// What is wrong with it.
pub fn change(text: &str, reading: Reading) -> Result<Change, String> {
    let (place, values) = text
        .split_once('=')
        .ok_or_else(|| format!("\"{text}\" is no write: holding:5=17 or coil:3=on"))?;
    let Span { table, first, last } = span(place, reading.base)?;
    if last != first {
        return Err(format!("\"{place}\" is a range: name the first address, then the values"));
    }
    let words = match table {
        Table::Coil => values.split(',').map(coil).collect::<Result<Vec<u16>, _>>()?,
        Table::Holding => registers(values, reading)?,
        Table::Discrete | Table::Input => {
            return Err(format!("{} can only be read", table_name(table)));
        }
    };
    if words.is_empty() || words.len() > WORDS_MAX {
        return Err(format!("{} values: one write carries 1 to {WORDS_MAX}", words.len()));
    }
    if usize::from(first) + words.len() > 65_536 {
        return Err(format!("\"{text}\" runs past address 65535"));
    }
    Ok(Change { table, first, words })
}

fn coil(text: &str) -> Result<u16, String> {
    match text.trim() {
        "1" | "on" => Ok(1),
        "0" | "off" => Ok(0),
        other => Err(format!("\"{other}\" is no coil's value: on, off, 1 or 0")),
    }
}

fn registers(values: &str, reading: Reading) -> Result<Vec<u16>, String> {
    if reading.as_ == As::Ascii {
        if !values.is_ascii() {
            return Err(format!("\"{values}\" is not ASCII"));
        }
        let pair = |pair: &[u8]| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&b' ')]);
        return Ok(values.as_bytes().chunks(2).map(pair).collect());
    }
    let mut words = Vec::new();
    for value in values.split(',').map(str::trim) {
        let wide = match reading.as_ {
            As::F32 => {
                let float = value.parse::<f32>().ok().filter(|float| float.is_finite());
                Some(float.ok_or_else(|| format!("\"{value}\" is not a number"))?.to_bits())
            }
            As::U32 | As::I32 => {
                let bound = if reading.as_ == As::U32 { 0..=0xffff_ffff } else { I32 };
                Some(within(value, bound)? as u32)
            }
            As::U16 | As::Hex | As::Bits | As::I16 | As::Ascii => None,
        };
        match wide {
            Some(wide) => {
                let (high, low) = ((wide >> 16) as u16, wide as u16);
                words.extend(match reading.order {
                    WordOrder::HighFirst => [high, low],
                    WordOrder::LowFirst => [low, high],
                });
            }
            None => {
                let bound = if reading.as_ == As::I16 { -32_768..=32_767 } else { 0..=65_535 };
                words.push(within(value, bound)? as u16);
            }
        }
    }
    Ok(words)
}

const I32: std::ops::RangeInclusive<i64> = -0x8000_0000..=0x7fff_ffff;

/// A number in its bounds; a negative one becomes its two's complement where it is cut to width.
fn within(text: &str, bound: std::ops::RangeInclusive<i64>) -> Result<i64, String> {
    let value = number(text)?;
    if bound.contains(&value) {
        return Ok(value);
    }
    Err(format!("{value} is outside {} to {}", bound.start(), bound.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Reading = Reading { as_: As::U16, order: WordOrder::HighFirst, base: 0 };

    #[test]
    fn ranges_read_as_written() {
        use Table::{Coil, Discrete, Holding, Input};
        for (text, base, table, first, last) in [
            ("holding:0..7", 0, Holding, 0, 7),
            ("holding:1..8", 1, Holding, 0, 7),
            ("holding:100+8", 0, Holding, 100, 107),
            ("coil:3", 0, Coil, 3, 3),
            ("input:0x34", 0, Input, 52, 52),
            ("discrete:65535", 0, Discrete, 65_535, 65_535),
            ("holding:65536", 1, Holding, 65_535, 65_535),
            ("40001..40008", 0, Holding, 0, 7),
            ("40010+2", 0, Holding, 9, 10),
            ("30002", 1, Input, 1, 1),
            ("10001..10006", 0, Discrete, 0, 5),
            ("00009", 0, Coil, 8, 8),
            ("465536", 0, Holding, 65_535, 65_535),
        ] {
            assert_eq!(span(text, base), Ok(Span { table, first, last }), "{text}");
        }
        for (text, base) in [
            ("holding", 0),
            ("holding:", 0),
            ("holding:a", 0),
            ("holding:-1", 0),
            ("holding:0", 1),
            ("holding:65536", 0),
            ("holding:8..7", 0),
            ("holding:65535+2", 0),
            ("holding:0+0", 0),
            ("register:1", 0),
            ("20001", 0),
            ("40000", 0),
            ("9", 0),
            ("", 0),
        ] {
            assert!(span(text, base).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn a_long_range_is_cut_at_the_limit_of_the_protocol() {
        let cut = |text| span(text, 0).unwrap().requests();
        assert_eq!(cut("holding:0..124"), [(0, 125)]);
        assert_eq!(cut("holding:0..125"), [(0, 125), (125, 1)]);
        assert_eq!(cut("coil:0..2000"), [(0, 2_000), (2_000, 1)]);
        assert_eq!(cut("input:65535"), [(65_535, 1)]);
        assert_eq!(cut("input:0..65535").len(), 525);
    }

    #[test]
    fn units_read_as_written() {
        assert_eq!(units("1..4,9, 3"), Ok(vec![1, 2, 3, 4, 9]));
        assert_eq!(units("0..255").map(|all| all.len()), Ok(256));
        for text in ["", "256", "-1", "4..1", "1-3", "a"] {
            assert!(units(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn writes_read_as_written() {
        let of = |as_| Reading { as_, ..PLAIN };
        let low = Reading { order: WordOrder::LowFirst, ..of(As::U32) };
        for (text, reading, first, words) in [
            ("holding:5=17", PLAIN, 5, vec![17]),
            ("holding:5=17,0x12", PLAIN, 5, vec![17, 18]),
            ("40006=17", PLAIN, 5, vec![17]),
            ("holding:5=-1", of(As::I16), 5, vec![0xffff]),
            ("holding:5=65537", of(As::U32), 5, vec![1, 1]),
            ("holding:5=131073", low, 5, vec![1, 2]),
            ("holding:5=-2", of(As::I32), 5, vec![0xffff, 0xfffe]),
            ("holding:5=1.5", of(As::F32), 5, vec![0x3fc0, 0]),
            ("holding:5=FULL ", of(As::Ascii), 5, vec![0x4655, 0x4c4c, 0x2020]),
            ("coil:3=on,off,1", PLAIN, 3, vec![1, 0, 1]),
        ] {
            let change = change(text, reading).map(|change| (change.first, change.words));
            assert_eq!(change, Ok((first, words)), "{text}");
        }
        for text in [
            "holding:5",
            "holding:5=",
            "holding:5=65536",
            "holding:5=-1",
            "holding:5..6=1",
            "input:5=1",
            "discrete:5=1",
            "coil:5=2",
            "holding:65535=1,2",
        ] {
            assert!(change(text, PLAIN).is_err(), "{text} was accepted");
        }
    }
}
