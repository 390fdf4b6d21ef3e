//! The rules for what a unit is read for: detectors, counters, contacts.

use crate::config::check::Rules;
use crate::field::plan::{items_per_point, points_per_item};
use crate::profile::{Bays, Contacts, Counters, Distance, Layout, Meaning, Table};

/// A part's own limit for one read, within the spec's; a number's two registers come together.
fn block_max(rules: &mut Rules, key: &str, table: Table, limit: Option<u16>, least: u16) {
    let most = table.read_max();
    rules.range(format!("{key}.block_max"), limit.unwrap_or(most), least, most);
}

pub fn bays(rules: &mut Rules, key: &str, bays: &Bays) {
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

pub fn counters(rules: &mut Rules, key: &str, counters: &Counters) {
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

pub fn contacts(rules: &mut Rules, key: &str, contacts: &Contacts) {
    rules.range(format!("{key}.count"), contacts.count, 1, 64);
    block_max(rules, key, contacts.table, contacts.block_max, 1);
    let per_item = if contacts.table.is_bits() { 1 } else { 16 };
    if u32::from(contacts.base) + u32::from(contacts.count).div_ceil(per_item) > 65_536 {
        rules.refuse(format!("{key}.base"), "the contacts run past address 65535");
    }
}
