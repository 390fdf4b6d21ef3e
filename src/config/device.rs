//! The rules for devices: what a profile may say, and what its displays can show.

mod reads;

use super::check::Rules;
use super::file::SignKindName;
use super::writing;
use crate::field::vector;
use crate::profile::{Format, Profile};
use crate::site::{Face, Turn};

/// What a sign shows when the gateway does not know: never 0 and never FULL.
pub fn fallback(rules: &mut Rules, key: &str, text: &str, kind: SignKindName) -> Face {
    let face = match (text, kind) {
        ("blank", _) => Face::Blank,
        ("closed", _) => Face::Closed,
        ("left", SignKindName::Direction) => Face::Arrow(Turn::Left),
        ("straight", SignKindName::Direction) => Face::Arrow(Turn::Straight),
        ("right", SignKindName::Direction) => Face::Arrow(Turn::Right),
        (text, _) => text.parse().map_or_else(|_| Face::Text(text.to_owned()), Face::Number),
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

/// The kind must be one the display is made for, and the fallback something it can show.
pub fn fits(rules: &mut Rules, key: &str, format: Format, face: &Face, kind: SignKindName) {
    let key = format!("{key}.fallback");
    match (format, kind) {
        (Format::Number { .. } | Format::Arrows { .. }, SignKindName::CallOut) => {
            return rules.refuse(key, "a call-out needs a text display");
        }
        (Format::Arrows { .. }, SignKindName::Count) => {
            return rules.refuse(key, "a count sign needs a display of numbers or text");
        }
        _ => (),
    }
    match (format, face) {
        (Format::Number { .. }, Face::Text(text)) => {
            rules.refuse(key, format!("\"{text}\" is a text, but the display shows numbers only"));
        }
        (Format::Number { max, .. }, Face::Number(n)) if *n > u32::from(max) => {
            rules.refuse(key, format!("{n} is above the display's {max}"));
        }
        (Format::Text { chars, .. }, Face::Text(text)) if text.len() > usize::from(chars) => {
            rules
                .refuse(key, format!("\"{text}\" is longer than the display's {chars} characters"));
        }
        (Format::Text { .. }, Face::Text(text)) if !text.is_ascii() => {
            rules.refuse(key, format!("\"{text}\" is not ASCII, which is all the display knows"));
        }
        (format, face) if !format.can_show(face) => {
            rules.refuse(key, format!("the display cannot show \"{face}\""));
        }
        _ => (),
    }
}

/// What holds for every device profile.
pub fn profile(rules: &mut Rules, key: &str, profile: &Profile) {
    let before = rules.problems.len();
    let Profile { id: _, source, bays, counters, contacts, sign, callout, lamps, outputs, vectors } =
        profile;
    if source.trim().is_empty() {
        rules.refuse(format!("{key}.source"), "is empty: say where the register map comes from");
    }
    let reads = bays.is_some() || counters.is_some() || contacts.is_some();
    let writes = sign.is_some() || callout.is_some() || lamps.is_some() || outputs.is_some();
    if !reads && !writes {
        let text = "describes nothing: it has no bays, counters, contacts, sign, callout, lamps \
                    or outputs";
        rules.refuse(key, text);
    }
    writing::profile(rules, key, profile);
    if let Some(part) = bays {
        reads::bays(rules, &format!("{key}.bays"), part);
    }
    if let Some(part) = counters {
        reads::counters(rules, &format!("{key}.counters"), part);
    }
    if let Some(part) = contacts {
        reads::contacts(rules, &format!("{key}.contacts"), part);
    }
    for (name, display) in [("sign", sign), ("callout", callout)] {
        let Some(display) = display else { continue };
        let key = format!("{key}.{name}");
        let width = format(rules, &format!("{key}.format"), display.format);
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
    // Only what holds by all rules can be planned and read.
    if !vectors.is_empty() && rules.problems.len() == before {
        for (name, why) in vector::failures(profile) {
            rules.refuse(format!("{key}.vector[{name}]"), why);
        }
    }
}

/// How a face becomes registers; how many they are.
fn format(rules: &mut Rules, key: &str, format: Format) -> u16 {
    match format {
        Format::Number { max, full, closed, blank, staff, valet, left, straight, right } => {
            let more = [staff, valet, left, straight, right].map(|code| code.map(u32::from));
            let [staff, valet, left, straight, right] = more;
            for (word, code) in [
                ("full", Some(u32::from(full))),
                ("closed", Some(u32::from(closed))),
                ("blank", Some(u32::from(blank))),
                ("staff", staff),
                ("valet", valet),
                ("left", left),
                ("straight", straight),
                ("right", right),
            ] {
                if let Some(code) = code.filter(|code| *code <= u32::from(max)) {
                    let text = format!("{code} is a number the display counts to (max {max})");
                    rules.refuse(format!("{key}.{word}"), text);
                }
            }
            1
        }
        Format::Text { chars, per_register } => {
            rules.range(format!("{key}.per_register"), per_register, 1, 2);
            // One write carries 123 registers at the most.
            let most = 123 * per_register.clamp(1, 2);
            rules.range(format!("{key}.chars"), chars, 1, most).div_ceil(per_register.max(1))
        }
        Format::Arrows { left, straight, right, none, .. } => {
            let codes = [("left", left), ("straight", straight), ("right", right), ("none", none)];
            for (ix, (name, code)) in codes.iter().enumerate() {
                if let Some((other, _)) = codes[..ix].iter().find(|(_, other)| other == code) {
                    rules.refuse(format!("{key}.{name}"), format!("{code} is {other} already"));
                }
            }
            1
        }
    }
}
