//! The rules for what a profile says is written: displays, lamps and outputs.

use super::check::Rules;
use crate::field::plan::{items_per_point, points_per_item};
use crate::profile::{Display, Lamps, Outputs, Profile, Table};

/// A run of items that belongs to one part of a profile.
struct Area {
    part: &'static str,
    table: Table,
    base: u16,
    items: u32,
}

/// What holds for every part that is written.
pub fn profile(rules: &mut Rules, key: &str, profile: &Profile) {
    let mut areas = Vec::new();
    for (part, display) in [("sign", &profile.sign), ("callout", &profile.callout)] {
        let Some(display) = display else { continue };
        self::display(rules, &format!("{key}.{part}"), display);
        let items = u32::from(display.stride) * u32::from(display.displays);
        areas.push(Area { part, table: Table::Holding, base: display.base, items });
    }
    if let Some(part) = &profile.lamps {
        lamps(rules, &format!("{key}.lamps"), part);
        let (table, base, items) = (part.table, part.base, u32::from(part.points));
        areas.push(Area { part: "lamps", table, base, items });
    }
    if let Some(part) = &profile.outputs {
        outputs(rules, &format!("{key}.outputs"), part);
        let (table, base, items) = (part.table, part.base, u32::from(part.count));
        areas.push(Area { part: "outputs", table, base, items });
    }
    let read = read_areas(profile);
    for (n, area) in areas.iter().enumerate() {
        let Area { part, table, base, items } = area;
        if u32::from(*base) + items > 65_536 {
            rules.refuse(format!("{key}.{part}.base"), format!("{part} run past address 65535"));
        }
        // Two owners of one address would overwrite each other for ever.
        let first = u32::from(*base);
        let meets = |other: &&Area| {
            let start = u32::from(other.base);
            *table == other.table && first < start + other.items && start < first + items
        };
        // And what is written over a detector would read as a bay.
        if let Some(other) = areas[..n].iter().chain(&read).find(meets) {
            let text = format!("{base} and {items} items lie across those of {}", other.part);
            rules.refuse(format!("{key}.{part}.base"), text);
        }
    }
}

/// What the profile reads.
fn read_areas(profile: &Profile) -> Vec<Area> {
    let mut areas = Vec::new();
    if let Some(bays) = &profile.bays {
        let items = u32::from(bays.points).div_ceil(points_per_item(bays).into());
        let width = items * u32::from(items_per_point(bays));
        areas.push(Area { part: "bays", table: bays.table, base: bays.base, items: width });
        let faults = bays.fault_base.into_iter();
        areas.extend(faults.map(|base| Area { part: "bays", table: bays.table, base, items }));
    }
    if let Some(counters) = &profile.counters {
        let (table, base) = (counters.table, counters.base);
        let items = u32::from(counters.words()) * u32::from(counters.count);
        areas.push(Area { part: "counters", table, base, items });
    }
    if let Some(contacts) = &profile.contacts {
        let (table, base) = (contacts.table, contacts.base);
        let items = u32::from(contacts.count).div_ceil(if table.is_bits() { 1 } else { 16 });
        areas.push(Area { part: "contacts", table, base, items });
    }
    areas
}

fn display(rules: &mut Rules, key: &str, display: &Display) {
    write_max(rules, key, display.write_max, Table::Holding);
    if display.one_register && display.write_max.is_some() {
        rules.refuse(format!("{key}.write_max"), "stands beside one_register; keep one");
    }
}

fn lamps(rules: &mut Rules, key: &str, lamps: &Lamps) {
    rules.range(format!("{key}.points"), lamps.points, 1, 2_000);
    writable(rules, key, lamps.table);
    write_max(rules, key, lamps.write_max, lamps.table);
    rules.range(format!("{key}.colours (how many)"), lamps.colours.len(), 1, 32);
    for (name, value) in &lamps.colours {
        let key = format!("{key}.colours.{name}");
        rules.name(&key, name);
        value_fits(rules, &key, lamps.table, *value);
    }
}

fn outputs(rules: &mut Rules, key: &str, outputs: &Outputs) {
    rules.range(format!("{key}.count"), outputs.count, 1, 256);
    writable(rules, key, outputs.table);
    write_max(rules, key, outputs.write_max, outputs.table);
    for (name, value) in [("on", outputs.on), ("off", outputs.off)] {
        value_fits(rules, &format!("{key}.{name}"), outputs.table, value);
    }
    if outputs.on == outputs.off {
        rules.refuse(format!("{key}.on"), format!("{} is off too", outputs.on));
    }
}

fn writable(rules: &mut Rules, key: &str, table: Table) {
    if !table.is_writable() {
        rules.refuse(format!("{key}.table"), "must be \"coil\" or \"holding\": it is written");
    }
}

fn write_max(rules: &mut Rules, key: &str, most: Option<u16>, table: Table) {
    let spec = table.write_max();
    rules.range(format!("{key}.write_max"), most.unwrap_or(spec), 1, spec);
}

fn value_fits(rules: &mut Rules, key: &str, table: Table, value: u16) {
    if table.is_bits() {
        rules.range(key, value, 0, 1);
    }
}
