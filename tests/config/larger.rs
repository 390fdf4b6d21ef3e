//! The larger garage that the starter has in its comments: it is accepted as it stands there, and
//! slips in its lamps and outputs are refused in words that help.

use super::{Broken, GARAGE, STARTER, change, refused, starter};
use parkway::config;

/// Changes to the larger garage's main file.
const BROKEN_LAMPS: &[Broken] = &[
    (
        "\"green\"\n[[lamp]]\ncolour = \"off\"",
        "\"green\"",
        &["lamp: no rule", "class \"car\", state unknown, lease false, fault false", "a last rule"],
    ),
    ("colour = \"amber\"", "colour = \"pink\"", &["lamp.colour", "\"pink\"", "unit \"lamps-1\""]),
    ("lamp_stop = \"off\"", "lamp_stop = \"dim\"", &["site.lamp_stop", "\"dim\" is no colour"]),
    ("\"disabled\"\nstate", "\"disable\"\nstate", &["lamp.class", "mean \"disabled\""]),
    ("state = \"closed\"\nc", "state = \"shut\"\nc", &["unknown variant `shut`", "`free`"]),
];

/// Changes to the larger garage's own file.
const BROKEN_SWITCHED: &[Broken] = &[
    ("first_lamp = 0", "first_lamp = 240", &["zone[A].first_lamp", "270 lamps", "has 256"]),
    ("lamps = \"lamps-1\"\n", "", &["zone[A].first_lamp", "stands without lamps"]),
    ("lamps = \"lamps-1\"", "lamps = \"io-1\"", &["zone[A].lamps", "\"io-1\" has no lamps"]),
    ("walk_s = 35", "walk_s = 35\nlamps = \"lamps-1\"\nfirst_lamp = 29", &["lamp 29", "already"]),
    ("lamps = \"lamps-1\"\nfirst_lamp = 0", "", &["lamp: no zone has lamps"]),
    ("index = 1\nkind", "index = 16\nkind", &["output[barrier-main].index", "16", "0 to 15"]),
    (
        "index = 1\nkind",
        "index = 0\nkind",
        &["barrier-main].index", "already output \"light-main\""],
    ),
    (
        "unit = \"io-1\"\nindex = 0",
        "unit = \"zc-1\"\nindex = 0",
        &["light-main].unit", "no outputs"],
    ),
    (
        "garage = \"main\"",
        "garage = \"mein\"",
        &["output[light-main].garage", "no garage \"mein\""],
    ),
    ("[\"closed\", \"incident\"]", "[\"unknown\"]", &["barrier-main].on_when", "\"unknown\""]),
    ("[\"closed\", \"incident\"]", "[]", &["barrier-main].on_when", "is empty"]),
    ("[\"closed\", \"incident\"]", "[\"shut\"]", &["unknown variant `shut`", "`almost-full`"]),
    ("stop = \"off\"", "stop = \"dark\"", &["unknown variant `dark`", "`keep`"]),
];

#[test]
fn the_larger_garage_in_the_starters_comments_works_too() {
    let (main, garage) = (larger(STARTER), larger(GARAGE));
    let site = starter(&main, &garage).expect("the larger garage is accepted").site;
    assert_eq!(config::shipped::used(&site), ["bay-lamp", "io-16"]);
    assert_eq!((site.contacts.len(), site.outputs.len()), (1, 2));
    assert_eq!(site.zones.iter().filter(|zone| zone.lamps.is_some()).count(), 1);
    for (from, to, words) in BROKEN_LAMPS {
        refused(&change(&main, from, to), &garage, to, words);
    }
    for (from, to, words) in BROKEN_SWITCHED {
        refused(&main, &change(&garage, from, to), to, words);
    }
}

/// Takes what begins with "#   " out of its comment.
fn larger(text: &str) -> String {
    let lines = text.lines().map(|line| line.strip_prefix("#   ").unwrap_or(line));
    lines.map(|line| format!("{line}\n")).collect()
}
