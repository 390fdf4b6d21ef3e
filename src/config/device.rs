//! The rules for devices: what a profile may say, and what its displays can show.

use super::check::Rules;
use super::file::SignKindName;
use super::writing;
use crate::field::plan::{items_per_point, points_per_item};
use crate::profile::{
    Bays, Contacts, Counters, Display, Distance, Format, Layout, Meaning, Profile, Table,
};
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
    let Profile { id: _, source, bays, counters, contacts, sign, callout, .. } = profile;
    if source.trim().is_empty() {
        rules.refuse(format!("{key}.source"), "is empty: say where the register map comes from");
    }
    let reads = bays.is_some() || counters.is_some() || contacts.is_some();
    let writes =
        sign.is_some() || callout.is_some() || profile.lamps.is_some() || profile.outputs.is_some();
    if !reads && !writes {
        let text = "describes nothing: it has no bays, counters, contacts, sign, callout, lamps \
                    or outputs";
        rules.refuse(key, text);
    }
    writing::profile(rules, key, profile);
    if let Some(part) = bays {
        bays_part(rules, &format!("{key}.bays"), part);
    }
    if let Some(part) = counters {
        counters_part(rules, &format!("{key}.counters"), part);
    }
    if let Some(part) = contacts {
        contacts_part(rules, &format!("{key}.contacts"), part);
    }
    for (name, display) in [("sign", sign), ("callout", callout)] {
        if let Some(display) = display {
            display_part(rules, &format!("{key}.{name}"), display);
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

/// A part's own limit for one read, within the spec's; a number's two registers come together.
fn block_max(rules: &mut Rules, key: &str, table: Table, limit: Option<u16>, least: u16) {
    let most = table.read_max();
    rules.range(format!("{key}.block_max"), limit.unwrap_or(most), least, most);
}

fn bays_part(rules: &mut Rules, key: &str, bays: &Bays) {
    rules.range(format!("{key}.points"), bays.points, 1, 2_000);
    let step = items_per_point(bays);
    block_max(rules, key, bays.table, bays.block_max, step);
    if bays.table.is_bits() && bays.layout != Layout::Bits {
        rules.refuse(format!("{key}.layout"), "must be \"bits\" in a table of bits");
    }
    let items = u32::from(bays.points).div_ceil(points_per_item(bays).into());
    let ends = [
        ("base", Some(bays.base), items * u32::from(step)),
        ("fault_base", bays.fault_base, items),
    ];
    for (name, base, items) in ends {
        if base.is_some_and(|base| u32::from(base) + items > 65_536) {
            rules.refuse(format!("{key}.{name}"), "the points run past address 65535");
        }
    }
    let key = format!("{key}.layout");
    match &bays.layout {
        Layout::Bits => (),
        Layout::Values { free, occupied } => {
            if free == occupied {
                let text = format!("{occupied} means free too: nothing would ever be known");
                rules.refuse(format!("{key}.occupied"), text);
            }
        }
        Layout::Flags { detect, faults } => {
            rules.range(format!("{key}.detect"), *detect, 0, 15);
            for fault in faults {
                rules.range(format!("{key}.faults"), *fault, 0, 15);
            }
            if faults.contains(detect) {
                let text = format!("{detect} is the detect bit: a car would be a fault");
                rules.refuse(format!("{key}.faults"), text);
            }
        }
        Layout::Distance(distance) => ranger(rules, &key, distance),
    }
}

/// Thresholds in order and inside what the ranger can measure, or one side is never read.
fn ranger(rules: &mut Rules, key: &str, ranger: &Distance) {
    rules.range(format!("{key}.count_mm"), ranger.count_mm, 1, 1_000);
    rules.range(format!("{key}.hold_s"), ranger.hold_s, 0, 3_600);
    let (below, above) = (ranger.occupied_below_mm, ranger.free_above_mm);
    let [nearest, farthest] = ranger.valid_mm;
    if nearest >= farthest {
        let text = format!("[{nearest}, {farthest}] is not a range from near to far");
        rules.refuse(format!("{key}.valid_mm"), text);
    }
    if below > above {
        let text = format!("{below} is above free_above_mm ({above}): a value would mean both");
        rules.refuse(format!("{key}.occupied_below_mm"), text);
    }
    if below <= nearest {
        let text = format!("{below} must be above the nearest valid distance ({nearest})");
        rules.refuse(format!("{key}.occupied_below_mm"), text);
    }
    let none_is_free = ranger.none_means == Meaning::Free && !ranger.none.is_empty();
    if above >= farthest && !none_is_free {
        let text = format!("{above} must be below the farthest valid distance ({farthest})");
        rules.refuse(format!("{key}.free_above_mm"), text);
    }
    let (least, greatest) = ranger.number.range();
    for (name, counts) in [("errors", &ranger.errors), ("none", &ranger.none)] {
        for count in counts {
            rules.range(format!("{key}.{name}"), *count, least, greatest);
        }
    }
    if let Some(both) = ranger.none.iter().find(|count| ranger.errors.contains(count)) {
        rules.refuse(format!("{key}.none"), format!("{both} stands in errors too"));
    }
}

fn counters_part(rules: &mut Rules, key: &str, counters: &Counters) {
    rules.range(format!("{key}.count"), counters.count, 1, 32);
    if !matches!(counters.table, Table::Input | Table::Holding) {
        rules.refuse(format!("{key}.table"), "counters live in registers, not in bits");
        return;
    }
    if !matches!(counters.width, 16 | 32) {
        rules.refuse(format!("{key}.width"), format!("{} is not 16 or 32", counters.width));
        return;
    }
    block_max(rules, key, counters.table, counters.block_max, counters.words());
    let widest = if counters.width == 16 { u16::MAX.into() } else { u32::MAX };
    // Below 1,000, the cars of a minute or two could go round and look like none.
    rules.range(format!("{key}.wrap"), counters.highest(), 999, widest);
    let items = u32::from(counters.words()) * u32::from(counters.count);
    if u32::from(counters.base) + items > 65_536 {
        rules.refuse(format!("{key}.base"), "the counters run past address 65535");
    }
}

fn contacts_part(rules: &mut Rules, key: &str, contacts: &Contacts) {
    rules.range(format!("{key}.count"), contacts.count, 1, 64);
    block_max(rules, key, contacts.table, contacts.block_max, 1);
    let per_item = if contacts.table.is_bits() { 1 } else { 16 };
    if u32::from(contacts.base) + u32::from(contacts.count).div_ceil(per_item) > 65_536 {
        rules.refuse(format!("{key}.base"), "the contacts run past address 65535");
    }
}

fn display_part(rules: &mut Rules, key: &str, display: &Display) {
    let width = format(rules, &format!("{key}.format"), display.format);
    rules.range(format!("{key}.displays"), display.displays, 1, 256);
    if display.stride < width {
        let text = format!("{} is below the {width} registers of a display", display.stride);
        rules.refuse(format!("{key}.stride"), text);
    }
    let last = u32::from(display.base) + u32::from(display.stride) * u32::from(display.displays);
    if last > 65_536 {
        rules.refuse(format!("{key}.base"), "the displays run past address 65535");
    }
}
