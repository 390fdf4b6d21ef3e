//! Runs a profile's test vectors by the code that reads and writes devices: planner, decoder,
//! encoder. What passes here is what the field will do; a table of its own could agree with itself.

use std::collections::BTreeMap;

use crate::field::decode::{Items, Sweep};
use crate::field::plan::{HOLE_MAX, plan};
use crate::field::write::encode;
use crate::gateway::Reading;
use crate::profile::{Display, Profile, Run, Shown, Switched, Table, Vector};
use crate::site::{BayIx, UnitIx};
use crate::time::Mono;

/// What does not come out as the vectors say: the vector's name, and what came instead. `profile`
/// must have passed the other rules.
pub fn failures(profile: &Profile) -> Vec<(String, String)> {
    let told = |vector: &Vector| {
        let name = vector.name.clone();
        judge(profile, vector).err().map(|why| (name, why))
    };
    profile.vectors.iter().filter_map(told).collect()
}

fn judge(profile: &Profile, vector: &Vector) -> Result<(), String> {
    let Vector { name: _, before, holds, bays, counters, contacts, sign, callout, lamp, output } =
        vector;
    let reads = bays.is_some() || counters.is_some() || contacts.is_some();
    let writes = sign.is_some() || callout.is_some() || lamp.is_some() || output.is_some();
    if !reads && !writes {
        return Err("expects nothing".to_owned());
    }
    if reads {
        let reading = read(profile, before, holds)?;
        if let Some(letters) = bays {
            let points = profile.bays.as_ref().map_or(0, |bays| bays.points);
            same("point", letters, points, |n| {
                let (word, bit) = (usize::from(n) / 64, n % 64);
                letter(reading.occupied[word] >> bit, reading.known[word] >> bit, ['f', 'o'])
            })?;
        }
        if let Some(counters) = counters
            && *counters != reading.counters
        {
            return Err(format!("counters are {:?}, not {counters:?}", reading.counters));
        }
        if let Some(letters) = contacts {
            let count = profile.contacts.as_ref().map_or(0, |contacts| contacts.count);
            same("contact", letters, count, |n| {
                letter(reading.contacts >> n, reading.contacts_known >> n, ['0', '1'])
            })?;
        }
    }
    shows("sign", profile.sign.as_ref(), sign.as_ref())?;
    shows("callout", profile.callout.as_ref(), callout.as_ref())?;
    lamps(profile, lamp.as_ref())?;
    outputs(profile, output.as_ref())
}

/// What the gateway would get of a unit that holds this, all of whose points have bays.
fn read(profile: &Profile, before: &[Run], holds: &[Run]) -> Result<Reading, String> {
    let points = profile.bays.as_ref().map_or(0, |bays| bays.points);
    let bays: Vec<_> = (0..points).map(|n| Some(BayIx(n.into()))).collect();
    let plan = plan(profile, &bays, HOLE_MAX);
    let mut sweep = Sweep::new(profile, &bays);
    let mut last = None;
    for (runs, second) in [(before, 1), (holds, 2)] {
        if second == 1 && runs.is_empty() {
            continue;
        }
        let memory = memory(runs)?;
        let item = |table: Table, at: u16| memory.get(&(table, at)).copied().unwrap_or(0);
        sweep.begin();
        for block in &plan.blocks {
            let items =
                (block.first..=block.first + (block.count - 1)).map(|at| item(block.table, at));
            if block.table.is_bits() {
                let bits: Vec<bool> = items.map(|item| item != 0).collect();
                sweep.take(block, Items::Bits(&bits));
            } else {
                sweep.take(block, Items::Words(&items.collect::<Vec<_>>()));
            }
        }
        last = sweep.finish(UnitIx(0), Mono(second * 1_000_000_000));
    }
    last.ok_or_else(|| "the profile reads nothing".to_owned())
}

fn memory(runs: &[Run]) -> Result<BTreeMap<(Table, u16), u16>, String> {
    let mut memory = BTreeMap::new();
    for run in runs {
        for (at, item) in (u32::from(run.first)..).zip(&run.items) {
            let at = u16::try_from(at).map_err(|_| "items run past address 65535".to_owned())?;
            if run.table.is_bits() && *item > 1 {
                return Err(format!("{item} is not 0 or 1, in a table of bits"));
            }
            if memory.insert((run.table, at), *item).is_some() {
                return Err(format!("address {at} is given twice"));
            }
        }
    }
    Ok(memory)
}

fn letter(on: u64, known: u64, names: [char; 2]) -> char {
    if known & 1 == 0 { 'u' } else { names[(on & 1) as usize] }
}

/// Compares letter by letter what is told with what came.
fn same(what: &str, told: &str, count: u16, came: impl Fn(u16) -> char) -> Result<(), String> {
    if told.is_empty() || told.chars().count() > usize::from(count) {
        let text = format!("{} letters for {count} {what}s", told.chars().count());
        return Err(text);
    }
    for (n, told) in (0..).zip(told.chars()) {
        let came = came(n);
        if told != came {
            return Err(format!("{what} {n} is '{came}', not '{told}'"));
        }
    }
    Ok(())
}

fn shows(what: &str, display: Option<&Display>, told: Option<&Shown>) -> Result<(), String> {
    let Some(told) = told else { return Ok(()) };
    let Some(display) = display.filter(|display| told.display < display.displays) else {
        return Err(format!("there is no {what} {}", told.display));
    };
    let first = display.base + display.stride * told.display;
    let words = encode(&told.face, display.format);
    if (first, &words) == (told.first, &told.words) {
        return Ok(());
    }
    Err(format!(
        "the {what} is written {words:?} at {first}, not {:?} at {}",
        told.words, told.first
    ))
}

fn lamps(profile: &Profile, told: Option<&Switched>) -> Result<(), String> {
    let Some(told) = told else { return Ok(()) };
    let lamps = profile.lamps.as_ref().filter(|lamps| told.index < lamps.points);
    let Some(lamps) = lamps else { return Err(format!("there is no lamp {}", told.index)) };
    let Some(item) = lamps.colours.get(&told.to) else {
        return Err(format!("there is no colour \"{}\"", told.to));
    };
    written(told, lamps.base + told.index, *item)
}

fn outputs(profile: &Profile, told: Option<&Switched>) -> Result<(), String> {
    let Some(told) = told else { return Ok(()) };
    let outputs = profile.outputs.as_ref().filter(|outputs| told.index < outputs.count);
    let Some(outputs) = outputs else { return Err(format!("there is no output {}", told.index)) };
    let item = match told.to.as_str() {
        "on" => outputs.on,
        "off" => outputs.off,
        other => return Err(format!("\"{other}\" is not \"on\" or \"off\"")),
    };
    written(told, outputs.base + told.index, item)
}

fn written(told: &Switched, at: u16, item: u16) -> Result<(), String> {
    if (at, item) == (told.at, told.item) {
        return Ok(());
    }
    Err(format!("{item} is written at {at}, not {} at {}", told.item, told.at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"
id = "p"
source = "a test"
bays = { table = "input", base = 10, points = 3, layout = { kind = "flags", detect = 1, faults = [0, 4] } }
counters = { table = "holding", base = 9, count = 1, width = 32 }
contacts = { table = "discrete", base = 4, count = 2 }
sign = { base = 7, stride = 1, displays = 2, format = { kind = "number", max = 99, full = 100, closed = 101, blank = 102 } }
lamps = { table = "coil", base = 20, points = 4, colours = { red = 1, green = 0 } }
outputs = { table = "coil", base = 30, count = 4 }
[[vector]]
name = "v"
"#;

    #[test]
    fn a_vector_says_what_comes_instead() {
        let holds = "holds = [{ table = \"input\", first = 10, items = [2, 0, 3] }, \
                     { table = \"discrete\", first = 5, items = [1] }, \
                     { table = \"holding\", first = 9, items = [1, 2] }]\n";
        let table = [
            ("bays = \"ofu\"\ncounters = [65538]\ncontacts = \"01\"", None),
            ("bays = \"of\"", None),
            ("bays = \"off\"", Some("point 2 is 'u', not 'f'")),
            ("bays = \"ofuu\"", Some("4 letters for 3 points")),
            ("counters = [131073]", Some("counters are [65538], not [131073]")),
            ("contacts = \"11\"", Some("contact 0 is '0', not '1'")),
            ("sign = { display = 1, face = \"full\", first = 8, words = [100] }", None),
            (
                "sign = { face = { number = 5 }, first = 8, words = [5] }",
                Some("the sign is written [5] at 7, not [5] at 8"),
            ),
            (
                "sign = { display = 2, face = \"full\", first = 9, words = [100] }",
                Some("no sign 2"),
            ),
            ("callout = { face = \"full\", first = 9, words = [1] }", Some("no callout 0")),
            ("lamp = { index = 3, to = \"red\", at = 23, item = 1 }", None),
            ("lamp = { index = 3, to = \"red\", at = 23, item = 0 }", Some("1 is written at 23")),
            ("lamp = { index = 3, to = \"blue\", at = 23, item = 0 }", Some("no colour \"blue\"")),
            ("output = { index = 1, to = \"off\", at = 31, item = 0 }", None),
            ("output = { index = 4, to = \"off\", at = 34, item = 0 }", Some("no output 4")),
            ("", Some("expects nothing")),
        ];
        for (told, expected) in table {
            let text = format!("{PROFILE}{holds}{told}\n");
            let profile: Profile = toml::from_str(&text).expect("it is a profile");
            let failures = failures(&profile);
            match (failures.as_slice(), expected) {
                ([], None) => (),
                ([(name, why)], Some(words)) => {
                    assert_eq!(name, "v");
                    assert!(why.contains(words), "{told}: {why}");
                }
                _ => panic!("{told}: {failures:?}"),
            }
        }
    }
}
