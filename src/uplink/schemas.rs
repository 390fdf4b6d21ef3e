//! The contract upstream, held to its schemas: every message we can send, every command we take.
//!
//! A variant of [`Body`] without a sample here fails, and so does one that no schema knows.

use std::collections::{BTreeMap, BTreeSet};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::command::{self, Fault, ReplyBody};
use super::state::{Absence, Presence, stamped};
use super::work::{self, envelope};
use crate::gateway::{Cars, GarageView, SignMode, SignView, Source};
use crate::record::*;
use crate::site::{Face, Site, Turn};
use crate::store::{self, chunk, thin};
use crate::time::{Mono, Now, Wall};

const GOOD: Option<Mono> = Some(Mono(0));

#[test]
fn every_record_is_as_its_lane_says() {
    let mut seen = BTreeSet::new();
    for lane in Lane::ALL {
        let records: Vec<Record> =
            samples().into_iter().filter(|(of, _)| *of == lane).map(record).collect();
        let (chunks, refused) =
            chunk::pack(&records, 120, "0b6c2f3e-9d3a-4f43-8c53-1f0e8f0b7c11", GOOD);
        assert_eq!(refused, 0);
        let validator = schema(lane.name());
        for chunk in chunks {
            let stamps = chunk.json.matches("\"at\":").count();
            assert_eq!(stamps, chunk.count as usize, "a key stands twice: {}", chunk.json);
            let message = envelope("jfb-edge-1", 0x1f, lane, &chunk);
            let message: Value = serde_json::from_str(&message).unwrap();
            agrees(&validator, &message);
            for line in message["records"].as_array().unwrap() {
                seen.insert(line["type"].as_str().unwrap().to_owned());
            }
            for wrong in spoiled(&message) {
                assert!(!validator.is_valid(&wrong), "a wrong message passed: {wrong}");
            }
        }
    }
    assert_eq!(seen, variants(), "left: with a sample; right: variants of Body");
}

/// What an unsure clock stamped goes by the same schema, as it is and put right.
#[test]
fn the_clocks_quality_is_as_the_schemas_say() {
    for lane in Lane::ALL {
        let records: Vec<Record> =
            samples().into_iter().filter(|(of, _)| *of == lane).map(record).collect();
        let validator = schema(lane.name());
        let (chunks, _) = chunk::pack(&records, 1, "boot", None);
        for chunk in chunks {
            for clock in ["unsure", "corrected", "guessed"] {
                let mut chunk = chunk.clone();
                let marks = "\"clock\":\"unsure\"";
                assert!(chunk.json.contains(marks));
                chunk.json = chunk.json.replace(marks, &format!("\"clock\":\"{clock}\""));
                let message = envelope("jfb-edge-1", 0x1f, lane, &chunk);
                let message: Value = serde_json::from_str(&message).unwrap();
                assert_eq!(validator.is_valid(&message), clock != "guessed", "{message}");
            }
        }
    }
}

/// A merged window says what it covers; nothing but a pair of numbers says that, and only there.
#[test]
fn merged_windows_are_as_the_schema_says() {
    let windows = [(1, 15), (16, 30)].map(|(first, last)| {
        let (chunks, _) = chunk::pack(
            &[record((Lane::Aggregates, Body::GarageWindow(window())))],
            last,
            "boot",
            GOOD,
        );
        let mut window: thin::Window = thin::windows(&chunks[0]).unwrap().remove(0);
        window.covers = Some([first, last]);
        window
    });
    let chunk = thin::pack(&windows, "boot").unwrap().remove(0);
    let message = envelope("jfb-edge-1", 0x1f, Lane::Aggregates, &chunk);
    let message: Value = serde_json::from_str(&message).unwrap();
    assert_eq!((&message["first"], &message["last"]), (&json!(1), &json!(30)));
    assert_eq!(message["records"][1]["covers"], json!([16, 30]));
    let validator = schema("aggregates");
    agrees(&validator, &message);
    for wrong in [json!(15), json!([1]), json!([0, 15]), json!([1, 2, 3]), json!(["1", "15"])] {
        let mut spoiled = message.clone();
        spoiled["records"][0]["covers"] = wrong;
        assert!(!validator.is_valid(&spoiled), "a wrong message passed: {spoiled}");
    }
    for lane in ["alarms", "events"] {
        assert!(!std::fs::read_to_string(path_of(lane)).unwrap().contains("covers"), "{lane}");
    }
}

#[test]
fn state_is_as_its_topics_say() {
    let now = Now { mono: Mono(1), wall: Wall(1_700_000_000_123) };
    let tally = Tally { free: 7, occupied: 3, ..Tally::default() };
    let garage = GarageView {
        id: "g01".to_owned(),
        name: "First".to_owned(),
        fullness: Fullness::AlmostFull,
        closed: true,
        incident: true,
        bays: 10,
        tally,
        ledger_free: 2,
        cars: Cars { sensed: 3, counted: Some(2), booked: 1 },
        count_error: Some(-1),
        doubtful: 1,
        by_class: BTreeMap::from([("car".to_owned(), tally)]),
    };
    let text = stamped(&garage, now);
    assert_eq!(text.matches("\"closed\"").count(), 2, "a key stands twice: {text}");
    agrees(&schema("state-garage"), &serde_json::from_str(&text).unwrap());

    let faces = [
        Face::Number(7),
        Face::Text("g01 B1".to_owned()),
        Face::Full,
        Face::Closed,
        Face::Blank,
        Face::Staff,
        Face::Valet,
        Face::Arrow(Turn::Straight),
    ];
    let modes = SignMode::ALL.into_iter().cycle();
    for ((face, mode), source) in faces.into_iter().zip(modes).zip(Source::ALL) {
        let sign = SignView {
            id: "s-g01".to_owned(),
            name: "Door".to_owned(),
            mode,
            face,
            kind: "direction",
            source,
            message: (source == Source::Message).then(|| "USE B2".to_owned()),
            mode_until: None,
            message_until: Some(Mono(7)),
        };
        agrees(&schema("state-sign"), &serde_json::from_str(&stamped(&sign, now)).unwrap());
    }

    let site = Site { config: "0badcafe".to_owned(), ..work::tests::site() };
    let mut status = store::Status { epoch: Some(7), ..store::Status::default() };
    status.lanes[0].oldest_at = Some(Wall(0));
    let degraded =
        store::Status { degraded: Some("no disk".to_owned()), ..store::Status::default() };
    for (status, good) in [(status, true), (degraded, false)] {
        let presence = stamped(&Presence::new(&site, "boot", &status, good), now);
        agrees(&schema("state-gateway"), &serde_json::from_str(&presence).unwrap());
    }
    for clean in [true, false] {
        let absence = stamped(&Absence::new("jfb-edge-1", "boot", clean), now);
        agrees(&schema("state-gateway"), &serde_json::from_str(&absence).unwrap());
    }
}

/// What the schema takes and what the gateway takes are the same commands.
#[test]
fn commands_are_as_their_schema_says() {
    let close = json!({"id": "c1", "expires_at": "2100-01-01T00:00:00Z", "action": "close",
        "target": "g01", "reason": "smoke", "by": "desk"});
    let open = json!({"id": "c1", "expires_at": "2100-01-01T00:00:00Z", "action": "open",
        "target": "g01", "by": "desk"});
    let with = |base: &Value, key: &str, value: Value| {
        let mut changed = base.clone();
        changed[key] = value;
        changed
    };
    let without = |base: &Value, key: &str| {
        let mut changed = base.clone();
        changed.as_object_mut().unwrap().remove(key);
        changed
    };
    let mut cases = vec![close.clone(), open.clone()];
    for key in ["id", "expires_at", "action", "target", "reason", "by"] {
        for base in [&close, &open] {
            cases.push(without(base, key));
            cases.push(with(base, key, json!("")));
            cases.push(with(base, key, json!(7)));
        }
    }
    for for_s in [json!(0), json!(1), json!(31_536_000), json!(31_536_001), json!("1"), json!(-1)] {
        cases.push(with(&close, "for_s", for_s.clone()));
        cases.push(with(&open, "for_s", for_s));
    }
    cases.push(with(&close, "reason", json!("x".repeat(201))));
    cases.push(with(&close, "by", json!("x".repeat(65))));
    cases.push(with(&close, "extra", json!(1)));
    let (validator, site) = (schema("command-closure"), work::tests::site());
    let mut taken = 0;
    for case in cases {
        let publish = command::tests::message(&case.to_string());
        let parsed = command::parse(&publish, "parkway/s", &site, Some(Wall(1_700_000_000_000)));
        // The schema cannot check a time or know the targets.
        let beyond = parsed.as_ref().is_err_and(|fault| {
            fault.code == "unknown_target" || fault.message.starts_with("expires_at is")
        });
        let by_schema = validator.is_valid(&case);
        assert!(by_schema == parsed.is_ok() || beyond, "{case}: {parsed:?}, schema {by_schema}");
        taken += u64::from(parsed.is_ok());
    }
    assert!(taken >= 4, "only {taken} commands were taken");
}

#[test]
fn replies_are_as_their_schema_says() {
    let validator = schema("command-reply");
    let reply = |ok, error| ReplyBody { id: "c1".to_owned(), ok, error };
    agrees(&validator, &serde_json::to_value(reply(true, None)).unwrap());
    // Every code that the source names.
    let source = include_str!("command.rs");
    let source = source.split("mod tests").next().unwrap();
    let mut codes: BTreeSet<&str> = BTreeSet::from(["busy"]);
    for rest in source.split("fault(\"").skip(1) {
        codes.insert(rest.split('"').next().unwrap());
    }
    assert!(codes.len() >= 10, "{codes:?}");
    for code in codes {
        let error = Some(Fault { code, message: "why".to_owned() });
        let body = serde_json::to_value(reply(false, error)).unwrap();
        assert!(validator.is_valid(&body), "{code} is not in the schema");
    }
}

fn samples() -> Vec<(Lane, Body)> {
    let window = Body::GarageWindow(window());
    events().into_iter().chain(alarms()).chain([(Lane::Aggregates, window)]).collect()
}

fn events() -> Vec<(Lane, Body)> {
    let text = |text: &str| text.to_owned();
    let lease = |bay: Option<&str>| LeaseBody {
        lease: text("0a1b2c3d-1"),
        at: text("n-cordon"),
        promise: if bay.is_some() { Promise::Bay } else { Promise::Garage },
        class: text("car"),
        destination: bay.map(|_| text("d1")),
        garage: Some(text("g01")),
        zone: bay.map(|_| text("g01/B1/A")),
        bay: bay.map(str::to_owned),
        travel_s: 180,
        hold_s: 300,
    };
    let (free, occupied) = (Sensed::Free, Sensed::Occupied);
    let events = [
        Body::Bay { bay: text("g01/B1/A/017"), from: free, to: occupied },
        Body::UnitBaseline {
            unit: text("zc"),
            bays: 3,
            free: 1,
            occupied: 1,
            unknown: 1,
            states: text("fou"),
        },
        Body::LeaseGranted(lease(Some("g01/B1/A/017"))),
        Body::LeaseMoved(lease(None)),
        Body::LeaseEnded {
            lease: text("0a1b2c3d-1"),
            end: End::TookOther,
            inferred: true,
            bay: None,
            held_s: 61,
        },
        Body::Closed { target: text("g01"), reason: text("smoke"), by: text("x"), expires_s: None },
        Body::Opened { target: text("link:a>b"), by: text("x") },
        Body::UnitRetry { unit: text("u-07"), by: text("x") },
        Body::OutputMode {
            output: text("b-g01"),
            state: text("on"),
            by: text("x"),
            expires_s: Some(60),
        },
        Body::OutputSwitched { output: text("b-g01"), on: true, why: text("full") },
        Body::SignMode {
            sign: text("s-g01"),
            mode: text("full"),
            by: text("x"),
            expires_s: Some(60),
        },
        Body::SignMessage { sign: text("c"), text: text("USE B2"), by: text("x"), for_s: 600 },
        Body::SignMessageEnded { sign: text("c"), by: text("expiry") },
        Body::Contact { contact: text("door-3"), active: true },
        Body::GarageFullness {
            garage: text("g01"),
            from: Fullness::Spaces,
            to: Fullness::AlmostFull,
        },
        Body::Quarantined { bay: text("g01/B1/A/017"), for_s: 600 },
        Body::BayTrust { bay: text("g01/B1/A/017"), doubted: true, errors: 4 },
        ledger_reset(),
        Body::Started { version: text("0.1.0"), leases: 3, closures: 0 },
    ];
    events.into_iter().map(|body| (Lane::Events, body)).collect()
}

fn ledger_reset() -> Body {
    let (garage, by) = ("g01".to_owned(), "night".to_owned());
    Body::LedgerReset { garage, from: Some(412), to: 405, offset: 3, by }
}

fn alarms() -> Vec<(Lane, Body)> {
    let text = |text: &str| text.to_owned();
    let alarms = [
        Body::UnitLost { unit: text("zc"), bays: 630, silent_ms: 5_000 },
        Body::UnitBack { unit: text("zc"), bays: 630, lost_ms: 9_000 },
        Body::SensorsFaulty {
            unit: text("zc"),
            fault: SensorFault::StuckFree,
            bays: 1,
            named: vec![text("g01/B1/A/017")],
        },
        Body::IncidentBegan {
            incident: text("fire-g01"),
            closes: vec![text("g01"), text("node:f1")],
            reason: text("contact fire-g01"),
            by: text("contact"),
        },
        Body::IncidentEnded { incident: text("g01"), by: text("desk"), lasted_s: 61 },
        Body::StoreDegraded { why: text("full") },
        Body::StoreBack { degraded_ms: 10_000 },
        Body::StoreSetAside {
            why: text("corrupt"),
            moved_to: text("set-aside-1"),
            epoch: Some(text("00000000000000ff")),
            waiting: vec![Span { of: Lane::Events, first: 7, last: 120 }],
        },
        Body::StoreSetAside {
            why: text("corrupt"),
            moved_to: text("set-aside-2"),
            epoch: None,
            waiting: vec![],
        },
        Body::KeptDropped { key: text("closure/g07"), why: text("no such place") },
        Body::LaneRefused { lane: Lane::Events, reason: text("QuotaExceeded") },
        Body::LaneAccepted { lane: Lane::Events },
        Body::ClockStepped { by_ms: -86_400_000 },
        Body::ClockUnsure { why: text("it is not synchronised") },
        Body::ClockGood { unsure_s: 3_600 },
        Body::Gap { of: Lane::Events, count: 9, first: Some(1), last: Some(9), why: text("bound") },
        Body::Gap { of: Lane::Alarms, count: 9, first: None, last: None, why: text("stall") },
    ];
    alarms.into_iter().map(|body| (Lane::Alarms, body)).collect()
}

fn window() -> GarageWindow {
    let tally = Tally { free: 7, held: 1, occupied: 2, ..Tally::default() };
    GarageWindow {
        garage: "g01".to_owned(),
        window_s: 60,
        cars_in: 4,
        cars_out: 2,
        counted_by: CountedBy::Loops,
        bays: 10,
        now: tally,
        by_class: BTreeMap::from([("car".to_owned(), tally)]),
        granted: 3,
    }
}

fn record((lane, body): (Lane, Body)) -> Record {
    let at = Now { mono: Mono(5_000_000_000), wall: Wall(1_700_000_000_123) };
    Record { lane, at, body }
}

/// The tags of all variants, from the source itself: a list here could be forgotten as well.
fn variants() -> BTreeSet<String> {
    let source = include_str!("../record.rs");
    let body = source.split("pub enum Body {").nth(1).unwrap().split("\n}").next().unwrap();
    let names = body.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?;
        name.starts_with(char::is_uppercase)
            .then(|| name.split(|c: char| !c.is_alphanumeric()).next().unwrap())
    });
    let snake = |name: &str| {
        let mut tag = String::new();
        for c in name.chars() {
            if c.is_uppercase() && !tag.is_empty() {
                tag.push('_');
            }
            tag.extend(c.to_lowercase());
        }
        tag
    };
    names.map(snake).collect()
}

/// The same message, each time with one thing wrong.
fn spoiled(message: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    for key in message.as_object().unwrap().keys() {
        let mut wrong = message.clone();
        wrong.as_object_mut().unwrap().remove(key);
        all.push(wrong);
    }
    for at in 0..message["records"].as_array().unwrap().len() {
        for key in message["records"][at].as_object().unwrap().keys() {
            let mut wrong = message.clone();
            wrong["records"][at].as_object_mut().unwrap().remove(key);
            all.push(wrong);
            let mut wrong = message.clone();
            wrong["records"][at][key] = json!([["wrong"]]);
            all.push(wrong);
        }
        let mut wrong = message.clone();
        wrong["records"][at]["surplus"] = json!(1);
        all.push(wrong);
    }
    all
}

fn agrees(validator: &Validator, message: &Value) {
    if let Err(error) = validator.validate(message) {
        panic!("{error} at {}: {message}", error.instance_path());
    }
}

fn schema(name: &str) -> Validator {
    let text = std::fs::read_to_string(path_of(name)).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    jsonschema::meta::validate(&schema).expect("the schema itself is wrong");
    jsonschema::draft202012::new(&schema).unwrap()
}

fn path_of(name: &str) -> std::path::PathBuf {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schema");
    folder.join(format!("{name}.schema.json"))
}
