//! The configurations that the tree ships load, and broken ones are refused in words that help.
//!
//! The reference site is held to its published figures, so that nobody edits a garage out of it.
//! Each broken configuration is the starter with one change; what the refusal must say (file, key,
//! value, bound) stands beside the change.

#[path = "config/larger.rs"]
mod larger;

use std::collections::BTreeSet;
use std::path::Path;

use parkway::config::{self, Problem};
use parkway::site::{NodeIx, NodeKind, SignKind, Site};

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/jiefangbei/parkway.toml");
const STARTER: &str = include_str!("../config/parkway.toml");
const GARAGE: &str = include_str!("../config/garage.toml");

/// A change to the starter (what stands there, what stands there instead), and words that the
/// refusal must hold.
type Broken = (&'static str, &'static str, &'static [&'static str]);

const BROKEN_MAIN: &[Broken] = &[
    ("gateway = \"first-edge-1\"", "gateway = \"edge 1\"", &["site.gateway", "\"edge 1\"", "32"]),
    ("include = [\"garage.toml\"]", "include = [\"no.toml\"]", &["no.toml", "cannot read"]),
    ("# listen = \"127.0.0.1:8080\"", "listen = \"0.0.0.0:80\"", &["http.listen", "token_file"]),
    ("# listen = \"127.0.0.1:8080\"", "listen = \"here\"", &["http.listen", "\"here\""]),
    ("\"127.0.0.1:1883\"", "\"broker\"", &["mqtt.broker", "\"broker\"", "host:port"]),
    ("# user = \"...\"\n# password_c", "password_c", &["mqtt.user", "missing"]),
    ("# key_file = \"...\"", "key_file = \"k\"", &["mqtt.certificate_file", "beside a key"]),
    (
        "# certificate_file = \"...\"",
        "certificate_file = \"c\"",
        &["mqtt.key_file", "key_credential", "certificate_file"],
    ),
    (
        "# certificate_file = \"...\"",
        "key_file = \"k\"\ncertificate_file = \"c\"",
        &["mqtt.ca_file", "proven broker"],
    ),
    ("# keep_alive_s = 15", "keep_alive_s = 4", &["mqtt.keep_alive_s", "4", "5 to 600"]),
    ("# window = 8", "window = 11", &["mqtt.window", "11", "1 to 10"]),
    ("# commit_ms = 200", "commit_ms = 1", &["store.commit_ms", "5 to 10000"]),
    ("# backlog_mib = 1024", "backlog_mib = 8", &["store.backlog_mib", "8", "16 to 1048576"]),
    ("# free_min_mib = 256", "free_min_mib = 1048577", &["store.free_min_mib", "0 to 1048576"]),
    ("# events_percent = 60", "events_percent = 50", &["store", "make 90, not 100"]),
    ("# stale_ms = 5000", "stale_ms = 900", &["line[panel].period_ms", "1000", "stale_ms (900)"]),
    ("# unknown_max_percent = 20", "unknown_max_percent = 0", &["unknown_max_percent", "1 to 100"]),
    (
        "# full_falling = 97",
        "full_falling = 90",
        &["almost_full_rising", "90", "full_falling (90)"],
    ),
    ("[[class]]\nid = \"disabled\"", "[[class]]\nid = \"car\"", &["class[car]", "already"]),
    ("{ disabled = 0, car = 120 }", "{ cars = 0 }", &["may_use_s.cars", "did you mean \"car\""]),
    (
        "id = \"door\"\nkind = \"door\"",
        "id = \"portal\"\nkind = \"door\"",
        &["node[portal]", "already"],
    ),
    ("kind = \"portal\"", "kind = \"fork\"", &["node", "no node of kind \"portal\""]),
    ("to = \"portal\"", "to = \"portas\"", &["high-street>portas", "mean \"portal\""]),
    ("to = \"portal\"", "to = \"high-street\"", &["to itself"]),
    ("from = \"portal\"", "from = \"door\"", &["link", "to itself"]),
    (
        "from = \"portal\"\nto = \"door\"",
        "from = \"door\"\nto = \"portal\"",
        &["link", "no way", "\"door\""],
    ),
    ("speed_kmh = 25", "speed_kmh = 0", &["speed_kmh", "0 is outside 5 to 120"]),
    ("length_m = 250", "length_m = 30000", &["length_m", "30000", "1 to 20000"]),
    ("source = \"parkway's own reference controller", "source = \" \" # ", &["source", "empty"]),
    ("points = 630", "points = 2001", &["profile[zone-controller].bays.points", "1 to 2000"]),
    ("fault_base = 40", "fault_base = 65500", &["fault_base", "65535"]),
    ("stride = 16", "stride = 4", &["profile[panel].callout.stride", "4", "12 registers"]),
    ("displays = 64", "displays = 300", &["sign.displays", "300", "1 to 256"]),
    ("127.0.0.1:1503", "127.0.0.1:1502", &["line[zc-1].tcp", "\"127.0.0.1:1502\"", "\"panel\""]),
    ("127.0.0.1:1503", "LOCALHOST:01502", &["line[zc-1].tcp", "\"127.0.0.1:1502\"", "\"panel\""]),
    ("127.0.0.1:1503", "[::1]:1502", &["line[zc-1].tcp", "\"127.0.0.1:1502\"", "\"panel\""]),
    ("tcp = \"127.0.0.1:1503\"", "rtu_tcp = \"localhost:1502\"", &["line[zc-1].tcp", "\"panel\""]),
    ("tcp = \"127.0.0.1:1503\"", "rtu_tcp = \"a:b\"", &["line[panel].rtu_tcp", "\"a:b\""]),
    (
        "tcp = \"127.0.0.1:1503\"",
        "serial = \"ttyS1\"",
        &["line[panel].serial", "\"ttyS1\"", "full"],
    ),
    ("tcp = \"127.0.0.1:1503\"", "", &["line[panel]", "0 of tcp, rtu_tcp and serial", "one"]),
    (
        "tcp = \"127.0.0.1:1503\"",
        "tcp = \"a:1\"\nserial = \"/dev/a\"",
        &["line[panel]", "2 of tcp, rtu_tcp and serial", "one"],
    ),
    ("# gap_ms = 0", "baud = 9600", &["line[panel].baud", "tcp line"]),
    ("# gap_ms = 0", "parity = \"even\"", &["line[panel].parity", "tcp line"]),
    ("# gap_ms = 0", "rs485 = true", &["line[panel].rs485", "tcp line"]),
    (
        "tcp = \"127.0.0.1:1503\"",
        "serial = \"/dev/ttyS9\"\nbaud = 230400",
        &["line[panel].baud", "230400", "1200 to 115200"],
    ),
    (
        "tcp = \"127.0.0.1:1503\"",
        "serial = \"/dev/ttyS9\"\nstop_bits = 3",
        &["line[panel].stop_bits", "3", "1 to 2"],
    ),
    (
        "tcp = \"127.0.0.1:1503\"",
        "rtu_tcp = \"a:1\"\nrs485 = true",
        &["line[panel].rs485", "converter"],
    ),
    (
        "# turnaround_ms = 20",
        "turnaround_ms = 10001 #",
        &["line[panel].turnaround_ms", "10001", "0 to 10000"],
    ),
    (
        "# timeout_ms, gap_ms, turn",
        "gap_ms = 1001 #",
        &["line[panel].unit[panel].gap_ms", "1001", "0 to 1000"],
    ),
    ("# timeout_ms = 300", "timeout_ms = 5", &["line[panel].timeout_ms", "10 to 60000"]),
    ("\"FOLLOW THE SIGNS\"", "\"FOLLOW THE SIGNS TO THE GARAGE\"", &["fallback", "24 characters"]),
    ("node = \"portal\"", "", &["sign[call-out].node", "missing"]),
    ("# time_zone = \"UTC\"", "time_zone = \"+27:00\"", &["site.time_zone", "\"+27:00\""]),
    ("# time_zone = \"UTC\"", "time_zone = \"Mars/Crater\"", &["site.time_zone", "no zone"]),
    ("turn = \"straight\"", "", &["link[portal>door].turn", "missing", "d-portal"]),
    ("turn = \"straight\"", "turn = \"back\"", &["unknown variant `back`"]),
    ("straight = 10005, ", "", &["sign[d-portal].unit", "no arrow for portal>door"]),
    ("straight = 10005, ", "straight = 9, ", &["sign.format.straight", "9 is a number", "9999"]),
    ("fallback = \"straight\"", "fallback = \"GO ON\"", &["sign[d-portal].fallback", "numbers"]),
    ("# change_delay_s = 5", "change_delay_s = 601 #", &["d-portal].change_delay_s", "0 to 600"]),
    ("# change_delay_s = 5", "offset = 1 #", &["sign[d-portal].offset", "count sign"]),
    (
        "index = 1\nnode = \"portal\"",
        "index = 1\nnode = \"door\"",
        &["sign[d-portal].shows", "nothing to point to"],
    ),
    ("# show_s = 8", "keep_back = 8", &["sign[call-out].keep_back", "count sign"]),
    ("# walk_s = { main = 95 }", "walk_s = { mine = 1 }", &["walk_s.mine", "no garage \"mine\""]),
];

const BROKEN_GARAGE: &[Broken] = &[
    (
        "profile = \"zone-controller\"",
        "profile = \"zone\"",
        &["unit[zc-1].profile", "zone-controller"],
    ),
    ("tcp = \"127.0.0.1:1502\"", "tcp = \"127.0.0.1:0\"", &["line[zc-1].tcp", "1 to 65535"]),
    ("door = \"door\"", "door = \"gate\"", &["garage[main].door", "no node \"gate\""]),
    ("cars_out = 1", "cars_out = 4", &["counter.cars_out", "4 is not below 4"]),
    ("id = \"B2\"", "id = \"B1\"", &["level[B1]", "already"]),
    ("bays = \"31-80\"", "bays = \"80-31\"", &["level[B2].zone[A].bays", "runs backwards"]),
    ("first_point = 30", "first_point = 20", &["first_point", "point 20", "already senses"]),
    ("first_point = 30", "first_point = 600", &["zone[A].bays", "point 630", "630"]),
    ("disabled = \"1-4\"", "disabled = \"28-31\"", &["classes.disabled", "31 is not one of"]),
    ("disabled = \"1-4\"", "disable = \"1-4\"", &["no class \"disable\"", "mean \"disabled\""]),
    ("walk_s = 35", "walk_s = 4000", &["walk_s", "4000", "0 to 3600"]),
    ("fallback = \"blank\"", "fallback = \"full\"", &["sign[s-main].fallback", "no room"]),
    ("fallback = \"blank\"", "fallback = \"?\"", &["fallback", "\"?\"", "numbers only"]),
    ("shows = [\"main\"]", "shows = [\"main/B3\"]", &["sign[s-main].shows", "\"main/B3\""]),
    ("# min = 0", "min = 90\nmax = 20 #", &["sign[s-main].min", "90 is above max (20)"]),
    ("days = [\"sun\"]", "days = [\"so\"]", &["s-main].schedule[1].days", "\"so\" is no day"]),
    ("days = [\"sun\"]", "days = []", &["s-main].schedule[1].days", "empty"]),
    ("from = \"23:00\"", "from = \"24:00\"", &["schedule[1].from", "no time of day"]),
    ("from = \"23:00\"", "from = \"05:30\"", &["schedule[1].to", "no length"]),
    ("mode = \"closed\"", "mode = \"valet\"", &["schedule[1].mode", "cannot show VALET"]),
    ("mode = \"closed\"", "mode = \"test\"", &["unknown variant `test`"]),
    (
        "mode = \"closed\"",
        "mode = \"closed\"\n[[sign.schedule]]\ndays = [\"mon\"]\nfrom = \"05:29\"\n\
         to = \"06:00\"\nmode = \"full\" #",
        &["schedule[2].from", "same time as schedule[1]"],
    ),
    ("# offset = 0", "offset = 10000 #", &["sign[s-main].offset", "-9999 to 9999"]),
    ("index = 0", "index = 64", &["sign[s-main].index", "64 is outside 0 to 63"]),
    (
        "class = \"car\"                   #",
        "class = \"bus\" #",
        &["sign[s-main].class", "\"bus\""],
    ),
];

/// What TOML itself refuses: with line and column.
const NOT_TOML: &[Broken] = &[
    ("name = \"Our first garage\"", "name = Our first", &["line 10, column"]),
    ("# listen =", "port = 80 #", &["line 19, column 1", "unknown field `port`"]),
    ("# keep_alive_s = 15", "keep_alive_s = \"15\"", &["line 33, column 16", "invalid type"]),
    ("kind = \"surface\"", "kind = \"road\"", &["unknown variant `road`", "`surface`"]),
    ("broker = \"127.0.0.1:1883\"", "", &["missing field `broker`", "line 24, column 1"]),
];

#[test]
fn the_reference_site_has_its_published_figures() {
    let site = load(Path::new(REFERENCE)).expect("the reference site is accepted").site;
    assert_eq!(site.bays.len(), 21_000);
    assert_eq!(site.garages.len(), 26);
    let polled: Vec<_> = site.units.iter().filter(|unit| !unit.bays.is_empty()).collect();
    assert_eq!(polled.len(), 34);
    assert!(polled.iter().all(|unit| unit.bays.iter().flatten().count() <= 630));
    let of_kind = |kind| site.nodes.iter().filter(|node| node.kind == kind).count();
    assert_eq!(of_kind(NodeKind::Portal) + of_kind(NodeKind::Exit), 7, "connectors");
    let ring = site.links.iter().filter(|link| link.kind == parkway::site::LinkKind::Ring);
    assert_eq!(ring.map(|link| link.length_m).sum::<u32>(), 2_800);
    for garage in &site.garages {
        assert!((280..=1_600).contains(&garage.bays.len()), "{} is not of this site", garage.id);
        assert!(garage.door_counter.is_some(), "{} has no loops", garage.id);
    }
    for zone in &site.zones {
        assert!((60..=210).contains(&zone.bays.len()), "a zone of {}", zone.bays.len());
    }
    let no_bay = |class: &str| {
        let class = site.class(class).expect("the class is configured");
        !site.bays.iter().any(|bay| bay.class == class)
    };
    for class in ["car", "ev", "disabled", "tall", "permit", "vip", "family"] {
        assert!(!no_bay(class), "no bay of class {class}");
    }
}

#[test]
fn every_garage_can_be_reached_from_every_place() {
    let site = load(Path::new(REFERENCE)).expect("the reference site is accepted").site;
    for (from, node) in (0..).map(NodeIx).zip(&site.nodes) {
        if !matches!(node.kind, NodeKind::Approach | NodeKind::Portal | NodeKind::Fork) {
            continue;
        }
        let reached = reach(&site, from);
        for garage in &site.garages {
            assert!(reached.contains(&garage.door), "no way from {} to {}", node.id, garage.id);
        }
    }
}

#[test]
fn every_garage_is_signed_and_no_display_is_used_twice() {
    let site = load(Path::new(REFERENCE)).expect("the reference site is accepted").site;
    let mut displays = BTreeSet::new();
    for sign in &site.signs {
        let call_out = matches!(sign.kind, SignKind::CallOut { .. });
        assert!(displays.insert((sign.unit, call_out, sign.index)), "{} shares a display", sign.id);
    }
    for garage in &site.garages {
        assert!(site.sign(&format!("s-{}", garage.id)).is_some(), "{} has no sign", garage.id);
    }
    for node in site.nodes.iter().filter(|node| node.kind == NodeKind::Portal) {
        for kind in ["s", "c"] {
            assert!(
                site.sign(&format!("{kind}-{}", node.id)).is_some(),
                "{} lacks {kind}",
                node.id
            );
        }
    }
}

#[test]
fn the_starter_is_accepted_and_its_comments_tell_the_defaults() {
    let config = starter(STARTER, GARAGE).expect("the starter is accepted");
    assert_eq!(config.site.bays.len(), 80);
    // A comment that says "key = value" must say the default: taken out of its comment, it must
    // change nothing. Those with dots for a value have no default.
    let told = |text: &str| {
        let lines = text.lines().map(|line| match line.strip_prefix("# ") {
            Some(bare) if bare.contains(" = ") && !is_prose(bare) => bare,
            Some(_) | None => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let spelt = starter(&told(STARTER), &told(GARAGE)).expect("defaults spelt out are accepted");
    assert_eq!(spelt.guidance, config.guidance);
    assert_eq!(spelt.store, config.store);
    assert_eq!(spelt.mqtt, config.mqtt);
    assert_eq!(spelt.http, config.http);
    assert_eq!(spelt.log, config.log);
    assert_eq!(format!("{:?}", spelt.site.lines), format!("{:?}", config.site.lines));
    assert_eq!(format!("{:?}", spelt.site.signs), format!("{:?}", config.site.signs));
    assert_eq!(format!("{:?}", spelt.site.zones), format!("{:?}", config.site.zones));
    assert_eq!(format!("{:?}", spelt.site.garages), format!("{:?}", config.site.garages));
    assert_eq!(format!("{:?}", spelt.site.classes), format!("{:?}", config.site.classes));
}

#[test]
fn broken_configurations_are_refused_with_file_key_value_and_bound() {
    for (from, to, words) in BROKEN_MAIN {
        refused(&change(STARTER, from, to), GARAGE, to, words);
    }
    for (from, to, words) in BROKEN_GARAGE {
        let problems = refused(STARTER, &change(GARAGE, from, to), to, words);
        let found = problems.iter().any(|problem| problem.file.ends_with("garage.toml"));
        assert!(found, "{to}: the refusal names another file: {problems:?}");
    }
}

#[test]
fn what_is_not_toml_is_refused_with_line_and_column() {
    for (from, to, words) in NOT_TOML {
        refused(&change(STARTER, from, to), GARAGE, to, words);
    }
}

#[test]
fn a_display_belongs_to_one_sign() {
    let again = "[[sign]]\nid = \"s-2\"\nkind = \"count\"\nunit = \"panel\"\nindex = 0\n\
                 fallback = \"blank\"\nshows = [\"main/B1\"]\n";
    let words = ["sign[s-2].index", "already the display of sign \"s-main\""];
    refused(STARTER, &format!("{GARAGE}\n{again}"), "a shared display", &words);
}

#[test]
fn a_serial_port_has_one_owner_whatever_it_is_called() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (port, by_id) = (folder.path().join("ttyS1"), folder.path().join("by-id"));
    std::fs::write(&port, "").expect("a file can be written");
    std::os::unix::fs::symlink(&port, &by_id).expect("a link can be made");
    let tcp = |text: &str, path: &Path, more: &str| {
        let serial = format!("serial = {path:?}\n{more}");
        let from =
            if text == STARTER { "tcp = \"127.0.0.1:1503\"" } else { "tcp = \"127.0.0.1:1502\"" };
        change(text, from, &serial)
    };
    let main = tcp(STARTER, &by_id, "");
    let words = ["line[zc-1].serial", "ttyS1\" is already", "\"panel\""];
    refused(&main, &tcp(GARAGE, &port, ""), "one port by two names", &words);
    // A port that is not there today is judged by its name.
    let (here, gone) = (tcp(GARAGE, Path::new("/dev/no-such"), ""), Path::new("/dev/no-such"));
    refused(&tcp(STARTER, gone, ""), &here, "one name twice", &["no-such\" is already"]);
    let site = starter(&tcp(STARTER, &by_id, "parity = \"even\"\nbaud = 19200"), &here);
    let site = site.expect("two ports are accepted").site;
    let text = site.lines[0].wire.to_string();
    assert!(text.ends_with("by-id at 19200 8E1"), "{text}");
    assert_eq!(site.lines[1].wire.to_string(), "/dev/no-such at 9600 8N1");
    assert_eq!(site.units[0].turnaround_ms, 100);
    let waits = change(STARTER, "profile = \"panel\"", "profile = \"panel\"\ntimeout_ms = 700");
    let waits = change(&waits, "# gap_ms = 0", "gap_ms = 7");
    let units = starter(&waits, GARAGE).expect("it is accepted").site.units;
    assert_eq!((units[0].timeout_ms, units[0].gap_ms, units[0].turnaround_ms), (700, 7, 20));
    let nobody = change(&main, "address = 1", "address = 0");
    refused(&nobody, GARAGE, "address 0", &["unit[panel].address", "everybody"]);
}

/// Profiles and contacts added to the starter's garage, and words that the refusal must hold.
const BROKEN_PARTS: &[(&str, &[&str])] = &[
    (
        "[[profile]]\nid = \"ld120\"\nsource = \"mine\"\n\
         counters = { table = \"input\", base = 0, count = 1 }",
        &["profile[ld120].id", "ships with parkway", "another id"],
    ),
    (
        "counters = { table = \"holding\", base = 0, count = 1 }\n\
         outputs = { table = \"holding\", base = 1, count = 1, on = 1, off = 0 }",
        &["outputs.base", "lie across those of counters"],
    ),
    ("bays.layout = { kind = \"bits\" }\nbays.block_max = 126", &["bays.block_max", "1 to 125"]),
    (
        "bays.layout = { kind = \"values\", free = 1, occupied = 1 }",
        &["layout.occupied", "free too"],
    ),
    ("bays.layout = { kind = \"flags\", detect = 16 }", &["layout.detect", "16", "0 to 15"]),
    (
        "bays.layout = { kind = \"flags\", detect = 1, faults = [0, 1] }",
        &["layout.faults", "1 is the detect bit"],
    ),
    (
        "bays.layout = { kind = \"distance\", occupied_below_mm = 1900, free_above_mm = 1800, \
         valid_mm = [30, 3000] }",
        &["occupied_below_mm", "1900 is above free_above_mm (1800)"],
    ),
    (
        "bays.layout = { kind = \"distance\", occupied_below_mm = 1500, free_above_mm = 3000, \
         valid_mm = [30, 3000] }",
        &["free_above_mm", "3000 must be below", "(3000)"],
    ),
    (
        "bays.layout = { kind = \"distance\", occupied_below_mm = 1500, free_above_mm = 1800, \
         valid_mm = [30, 3000], errors = [65534], none = [65534] }",
        &["layout.none", "65534 stands in errors too"],
    ),
    (
        "bays.layout = { kind = \"distance\", occupied_below_mm = 1500, free_above_mm = 1800, \
         valid_mm = [30, 3000], none = [-1] }",
        &["layout.none", "-1 is outside 0 to 65535"],
    ),
    (
        "counters = { table = \"holding\", base = 0, count = 1, width = 24 }",
        &["counters.width", "24 is not 16 or 32"],
    ),
    (
        "counters = { table = \"holding\", base = 0, count = 1, width = 16, wrap = 99999 }",
        &["counters.wrap", "99999", "999 to 65535"],
    ),
    (
        "counters = { table = \"holding\", base = 0, count = 1, block_max = 1 }",
        &["counters.block_max", "1 is outside 2 to 125"],
    ),
    (
        "contacts = { table = \"discrete\", base = 0, count = 65 }",
        &["contacts.count", "65", "1 to 64"],
    ),
    (
        "contacts = { table = \"input\", base = 65535, count = 17 }",
        &["contacts.base", "run past address 65535"],
    ),
    (
        "contacts = { table = \"discrete\", base = 0, count = 2 }\n\
         vector = [{ name = \"a\", contacts = \"01\" }]",
        &["profile[p].vector[a]", "contact 1 is '0', not '1'"],
    ),
    (
        "contacts = { table = \"discrete\", base = 0, count = 2 }\nvector = [{ name = \"b\" }]",
        &["profile[p].vector[b]", "expects nothing"],
    ),
    ("[[contact]]\nkind = \"fire\"", &["contact[c].closes", "is missing"]),
    ("[[contact]]\nkind = \"note\"\ncloses = [\"main\"]", &["contact[c].closes", "belongs to"]),
    ("[[contact]]\nkind = \"fire\"\ncloses = [\"man\"]", &["contact[c].closes", "no", "\"man\""]),
    (
        "[[contact]]\nkind = \"fire\"\ncloses = [\"main\", \"main\"]",
        &["contact[c].closes", "\"main\" stands there twice"],
    ),
    ("[[contact]]\nkind = \"note\"\nindex = 16", &["contact[c].index", "16", "0 to 15"]),
    ("[[contact]]\nkind = \"note\"\nindex = 3", &["contact[c].index", "already contact \"d\""]),
    ("[[contact]]\nkind = \"note\"\nunit = \"zc-1\"", &["contact[c].unit", "no contacts"]),
];

#[test]
fn broken_profiles_and_contacts_are_refused() {
    for (part, words) in BROKEN_PARTS {
        let part = match part.strip_prefix("[[contact]]") {
            Some(rest) => {
                let default = |key: &str, text: &'static str| {
                    if rest.contains(&format!("\n{key} = ")) { "" } else { text }
                };
                let (unit, index) =
                    (default("unit", "unit = \"io\"\n"), default("index", "index = 0\n"));
                let other = "[[contact]]\nid = \"d\"\nunit = \"io\"\nindex = 3\nkind = \"note\"\n";
                format!("{IO}{other}[[contact]]\nid = \"c\"\n{unit}{index}{rest}")
            }
            None if part.starts_with("bays") => {
                let bays = "bays.table = \"input\"\nbays.base = 0\nbays.points = 1";
                format!("[[profile]]\nid = \"p\"\nsource = \"s\"\n{bays}\n{part}")
            }
            None if part.starts_with("[[") => (*part).to_owned(),
            None => format!("[[profile]]\nid = \"p\"\nsource = \"s\"\n{part}"),
        };
        refused(STARTER, &format!("{GARAGE}\n{part}\n"), &part, words);
    }
}

const IO: &str = "[[line]]\nid = \"io\"\ntcp = \"127.0.0.1:1599\"\n\
                  [[line.unit]]\nid = \"io\"\naddress = 1\nprofile = \"io-16\"\n";

#[test]
fn shipped_profiles_are_there_for_any_unit() {
    let loops = "[[line]]\nid = \"doors\"\nrtu_tcp = \"127.0.0.1:1598\"\n\
                 unit = [{ id = \"d-in\", address = 1, profile = \"ld120\" },\n\
                 { id = \"d-out\", address = 2, profile = \"ld120\" }]\n";
    let door = "counter = { unit = \"d-in\", cars_in = 0, cars_out = 0, out_unit = \"d-out\" } #";
    let contact = "[[contact]]\nid = \"fire\"\nunit = \"io\"\nindex = 2\nkind = \"fire\"\n\
                   closes = [\"main/B1\"]\nactive = \"open\"\n";
    let garage = change(GARAGE, "counter =", door);
    let garage = format!("{garage}\n{IO}{loops}{contact}");
    let site = starter(STARTER, &garage).expect("it is accepted").site;
    assert_eq!(config::shipped::used(&site), ["io-16", "ld120"]);
    let door = site.garages[0].door_counter.expect("the garage has loops");
    let unit = |unit: parkway::site::UnitIx| site.units[unit.at()].id.as_str();
    assert_eq!((unit(door.cars_in.unit), unit(door.cars_out.unit)), ("d-in", "d-out"));
    assert_eq!(door.cars_in.highest, u32::MAX);
    let fire = &site.contacts[site.contact("fire").expect("it is there").at()];
    assert_eq!((unit(fire.unit), fire.index, fire.active_open), ("io", 2, true));
    assert_eq!(fire.closes, [site.scope("main/B1").expect("it is there")]);
    // A slip in a shipped name is answered with it.
    let slip = change(&garage, "\nprofile = \"io-16\"", "\nprofile = \"io-8\"");
    refused(STARTER, &slip, "io-8", &["unit[io].profile", "mean \"io-16\""]);
    // One loop cannot count both ways.
    let same = change(&garage, "out_unit = \"d-out\"", "out_unit = \"d-in\"");
    refused(STARTER, &same, "one loop", &["counter.cars_out", "cars_in too"]);
}

#[test]
fn all_problems_of_all_files_are_told_at_once() {
    let main = change(STARTER, "speed_kmh = 20", "speed_kmh = 500");
    let main = change(&main, "# window = 8", "window = 0");
    let garage = change(GARAGE, "door = \"door\"", "door = \"gate\"");
    let garage = change(&garage, "shows = [\"main\"]", "shows = [\"other\"]");
    let problems = starter(&main, &garage).expect_err("four things are wrong");
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    let expected =
        ["mqtt.window", "link[portal>door].speed_kmh", "garage[main].door", "sign[s-main].shows"];
    assert_eq!(keys, expected);
}

#[test]
fn check_is_the_same_by_command() {
    let check = |file: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_parkway"));
        let output = command.arg("check").arg(file).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, told, errors) = check(Path::new(REFERENCE));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(told.contains("21,000 in 26 garages"), "{told}");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("parkway.toml");
    let main = change(STARTER, "speed_kmh = 20", "speed_kmh = 500");
    let main = change(&main, "# window = 8", "window = 0");
    std::fs::write(&file, main).expect("a file can be written");
    std::fs::write(folder.path().join("garage.toml"), GARAGE).expect("a file can be written");
    let (code, told, errors) = check(&file);
    assert_eq!((code, told.as_str()), (Some(64), ""));
    assert_eq!(errors.lines().count(), 3, "{errors}");
    assert!(errors.contains("mqtt.window: 0 is outside 1 to 10"), "{errors}");
    assert!(errors.ends_with("2 problems in all\n"), "{errors}");
}

// ---- helpers ----

fn load(path: &Path) -> Result<config::Config, String> {
    config::load(path).map_err(|problems| {
        problems.iter().map(|problem| format!("{problem}\n")).collect::<String>()
    })
}

/// Writes the two files of the starter to a folder of their own and loads them.
fn starter(main: &str, garage: &str) -> Result<config::Config, Vec<Problem>> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    write("parkway.toml", main).expect("a file can be written");
    write("garage.toml", garage).expect("a file can be written");
    config::load(&folder.path().join("parkway.toml"))
}

fn refused(main: &str, garage: &str, what: &str, words: &[&str]) -> Vec<Problem> {
    let problems = match starter(main, garage) {
        Ok(_) => panic!("accepted: {what}"),
        Err(problems) => problems,
    };
    let text: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
    for word in words {
        assert!(text.contains(word), "{what}: \"{word}\" is not in:\n{text}");
    }
    assert!(text.contains(".toml"), "{what}: no file is named in:\n{text}");
    problems
}

fn change(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the starter does not say: {from}");
    text.replacen(from, to, 1)
}

/// Whether a commented line is a sentence or has no default: not "key = value".
fn is_prose(line: &str) -> bool {
    let key = line.split(" = ").next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_lowercase() || c == '_';
    !key.chars().all(plain)
        || line.contains("\"...\"")
        || key == "layout"
        || key == "walk_s"
        || key == "replies"
}

fn reach(site: &Site, from: NodeIx) -> BTreeSet<NodeIx> {
    let mut reached = BTreeSet::from([from]);
    let mut edge = vec![from];
    while let Some(at) = edge.pop() {
        for link in site.links.iter().filter(|link| link.from == at && !link.closed) {
            if reached.insert(link.to) {
                edge.push(link.to);
            }
        }
    }
    reached
}
