//! The rules for devices: what a profile may say, and what its displays can show.

use super::check::Rules;
use super::file::SignKindName;
use super::writing;
use crate::profile::{Format, Layout, Profile, Table};
use crate::site::Face;

/// What a sign shows when the gateway does not know: never 0 and never FULL.
pub fn fallback(rules: &mut Rules, key: &str, text: &str) -> Face {
    let face = match text {
        "blank" => Face::Blank,
        "closed" => Face::Closed,
        text => text.parse().map_or_else(|_| Face::Text(text.to_owned()), Face::Number),
    };
    let full = text.eq_ignore_ascii_case("full");
    if full || face == Face::Number(0) || text.is_empty() {
        rules.refuse(
            format!("{key}.fallback"),
            format!("\"{text}\" would tell drivers that there is no room: use \"blank\" or a text"),
        );
    }
    face
}

/// The fallback must be something the display can show.
pub fn fits(rules: &mut Rules, key: &str, format: &Format, face: &Face, kind: SignKindName) {
    let key = format!("{key}.fallback");
    match (format, face) {
        (Format::Number { .. }, Face::Text(text)) => {
            rules.refuse(key, format!("\"{text}\" is a text, but the display shows numbers only"));
        }
        (Format::Number { max, .. }, Face::Number(n)) if *n > u32::from(*max) => {
            rules.refuse(key, format!("{n} is above the display's {max}"));
        }
        (Format::Text { chars }, Face::Text(text)) if text.len() > usize::from(*chars) => {
            rules
                .refuse(key, format!("\"{text}\" is longer than the display's {chars} characters"));
        }
        (Format::Text { .. }, Face::Text(text)) if !text.is_ascii() => {
            rules.refuse(key, format!("\"{text}\" is not ASCII, which is all the display knows"));
        }
        (Format::Number { .. }, _) if kind == SignKindName::CallOut => {
            rules.refuse(key, "a call-out needs a text display");
        }
        (Format::Number { .. } | Format::Text { .. }, _) => (),
    }
}

/// What holds for every device profile.
pub fn profile(rules: &mut Rules, key: &str, profile: &Profile) {
    let Profile { id: _, source, bays, counters, sign, callout, lamps, outputs } = profile;
    if source.trim().is_empty() {
        rules.refuse(format!("{key}.source"), "is empty: say where the register map comes from");
    }
    let reads = bays.is_some() || counters.is_some();
    let writes = sign.is_some() || callout.is_some() || lamps.is_some() || outputs.is_some();
    if !reads && !writes {
        let text = "describes nothing: it has no bays, counters, sign, callout, lamps or outputs";
        rules.refuse(key, text);
    }
    writing::profile(rules, key, profile);
    if let Some(bays) = bays {
        let key = format!("{key}.bays");
        rules.range(format!("{key}.points"), bays.points, 1, 2_000);
        let most = bays.table.read_max();
        rules.range(format!("{key}.block_max"), bays.block_max.unwrap_or(most), 1, most);
        if bays.table.is_bits() && bays.layout != Layout::Bits {
            rules.refuse(format!("{key}.layout"), "must be \"bits\" in a table of bits");
        }
        let one_a_point = bays.table.is_bits() || bays.layout != Layout::Bits;
        let items = if one_a_point { bays.points } else { bays.points.div_ceil(16) };
        for (name, base) in [("base", Some(bays.base)), ("fault_base", bays.fault_base)] {
            if base.is_some_and(|base| u32::from(base) + u32::from(items) > 65_536) {
                rules.refuse(format!("{key}.{name}"), "the points run past address 65535");
            }
        }
    }
    if let Some(counters) = counters {
        let key = format!("{key}.counters");
        rules.range(format!("{key}.count"), counters.count, 1, 32);
        if !matches!(counters.table, Table::Input | Table::Holding) {
            rules.refuse(format!("{key}.table"), "counters live in registers, not in bits");
        }
        if u32::from(counters.base) + 2 * u32::from(counters.count) > 65_536 {
            rules.refuse(format!("{key}.base"), "the counters run past address 65535");
        }
    }
    for (name, display) in [("sign", sign), ("callout", callout)] {
        let Some(display) = display else { continue };
        let key = format!("{key}.{name}");
        let width = match display.format {
            Format::Number { max, full, closed, blank } => {
                for (word, code) in [("full", full), ("closed", closed), ("blank", blank)] {
                    if code <= max {
                        let text = format!("{code} is a number the display counts to (max {max})");
                        rules.refuse(format!("{key}.format.{word}"), text);
                    }
                }
                1
            }
            Format::Text { chars } => {
                rules.range(format!("{key}.format.chars"), chars, 1, 246).div_ceil(2)
            }
        };
        rules.range(format!("{key}.displays"), display.displays, 1, 256);
        if display.stride < width {
            let text = format!("{} is below the {width} registers of a display", display.stride);
            rules.refuse(format!("{key}.stride"), text);
        }
        let last =
            u32::from(display.base) + u32::from(display.stride) * u32::from(display.displays);
        if last > 65_536 {
            rules.refuse(format!("{key}.base"), "the displays run past address 65535");
        }
    }
}
