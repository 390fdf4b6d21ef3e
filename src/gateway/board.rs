//! Scenarios of signs at the gateway's door: who decides, for how long, and where arrows point.

use super::testing::{AT_REST, Story};
use super::{Answer, Ask, Effect, Input, Refusal, SignMode, Source};
use crate::record::{Body, Lane, Sensed};
use crate::site::{Face, GarageIx, Turn, UnitIx};
use crate::time::Wall;

/// Monday 2026-11-23, 22:00 at +08:00.
const MONDAY_22: i64 = 1_795_442_400_000;

const RIGHT: Face = Face::Arrow(Turn::Right);
const STRAIGHT: Face = Face::Arrow(Turn::Straight);

fn tells(story: &Story) -> Vec<&'static str> {
    let alarms = story.bodies(Lane::Alarms);
    let name = |body: &Body| match body {
        Body::IncidentBegan { .. } => Some("began"),
        Body::IncidentEnded { .. } => Some("ended"),
        _ => None,
    };
    alarms.filter_map(name).collect()
}

fn text(text: &str) -> Face {
    Face::Text(text.to_owned())
}

#[test]
fn a_message_stands_for_its_time_and_over_a_restart() {
    let mut story = Story::board();
    assert_eq!(story.message("c1", "USE LEVEL B2", 60), Answer::Done);
    assert_eq!(story.shown("c1"), (Source::Message, text("USE LEVEL B2")));
    story.mode("c1", SignMode::Blank, None);
    assert_eq!(story.shown("c1"), (Source::Message, text("USE LEVEL B2")));
    story.tick(40_000);
    story.restart("b1");
    story.tick(19_999);
    assert_eq!(story.shown("c1"), (Source::Message, text("USE LEVEL B2")));
    story.tick(1);
    assert_eq!(story.shown("c1"), (Source::Operator, Face::Blank));
    let ended = story.bodies(Lane::Events).filter_map(|body| match body {
        Body::SignMessageEnded { by, .. } => Some(by.as_str()),
        _ => None,
    });
    assert_eq!(ended.collect::<Vec<_>>(), ["expiry"]);
    assert!(!story.kept.contains_key("message/c1"), "{:?}", story.kept.keys());
}

#[test]
fn under_another_boot_a_message_runs_its_full_length_again() {
    let mut story = Story::board();
    story.message("c1", "USE B2", 60);
    story.tick(40_000);
    story.restart("b2");
    story.tick(59_999);
    assert_eq!(story.shown("c1").0, Source::Message);
    story.tick(1);
    assert_eq!(story.shown("c1").0, Source::Automatic);
}

#[test]
fn a_message_is_taken_off_once() {
    let mut story = Story::board();
    story.message("c1", "USE B2", 60);
    story.message("c1", "USE B3", 60);
    assert_eq!(story.shown("c1").1, text("USE B3"));
    let sign = story.site.sign("c1").unwrap();
    let clear = Ask::ClearMessage { sign, by: "me".to_owned() };
    assert_eq!(story.ask(clear.clone()), Answer::Done);
    assert_eq!(story.shown("c1"), (Source::Automatic, text("FOLLOW SIGNS")));
    assert_eq!(story.ask(clear), Answer::Refused(Refusal::NoMessage(sign)));
}

#[test]
fn a_display_refuses_what_it_cannot_show() {
    let mut story = Story::board();
    // By sign, mode, and whether its display has it: numbers and some codes, texts.
    let table = [
        ("s1", SignMode::Staff, true),
        ("s1", SignMode::Valet, false),
        ("s1", SignMode::Test, true),
        ("c1", SignMode::Valet, true),
        ("c1", SignMode::Test, true),
        ("d1", SignMode::Closed, true),
        ("d1", SignMode::Valet, false),
    ];
    for (id, mode, can) in table {
        let sign = story.site.sign(id).unwrap();
        let what = mode.name().to_owned();
        let expected =
            if can { Answer::Done } else { Answer::Refused(Refusal::CannotShow { sign, what }) };
        let before = story.shown(id);
        assert_eq!(story.mode(id, mode, None), expected, "{id} {mode:?}");
        assert!(can || story.shown(id) == before, "{id} {mode:?}");
        story.mode(id, SignMode::Auto, None);
    }
    for (id, long) in [("s1", "88"), ("c1", "1234567890123456789012345"), ("c1", "火")] {
        let answer = story.message(id, long, 60);
        assert!(matches!(answer, Answer::Refused(Refusal::CannotShow { .. })), "{id} {long}");
    }
}

#[test]
fn a_mode_with_an_end_ends_by_itself() {
    let mut story = Story::board();
    story.mode("s1", SignMode::Full, Some(60));
    story.keep_alive(30_000);
    story.restart("b1");
    story.read_all(|_| Sensed::Free);
    story.keep_alive(29_999);
    assert_eq!(story.shown("s1"), (Source::Operator, Face::Full));
    story.keep_alive(1);
    assert_eq!(story.shown("s1"), (Source::Automatic, Face::Number(48)));
    // A later order without an end is not ended by the earlier one's.
    story.mode("s1", SignMode::Full, Some(60));
    story.mode("s1", SignMode::Closed, None);
    story.keep_alive(61_000);
    assert_eq!(story.shown("s1"), (Source::Operator, Face::Closed));
}

#[test]
fn hours_hold_where_the_site_is_and_people_outrank_them() {
    let mut story = Story::board();
    // (wall, what s3 shows): the clock is set, and a minute later it is followed.
    let table = [
        (MONDAY_22 - 60_000, Source::Automatic),
        (MONDAY_22, Source::Schedule),
        (MONDAY_22 + 8 * 3_600_000 - 1_000, Source::Schedule),
        (MONDAY_22 + 8 * 3_600_000, Source::Automatic),
        (MONDAY_22 + 24 * 3_600_000, Source::Automatic),
        (MONDAY_22 + 7 * 24 * 3_600_000, Source::Schedule),
        // A Monday night of 1970, and of 2025: no clock of this program is right then.
        (4 * 86_400_000 + 14 * 3_600_000, Source::Automatic),
        (MONDAY_22 - 52 * 7 * 86_400_000, Source::Automatic),
    ];
    for (wall, source) in table {
        story.keep_alive(60_000);
        story.now.wall = Wall(wall - 500);
        // The next reading's step sees the clock; the timer comes within the minute.
        story.keep_alive(60_000);
        story.now.wall = Wall(wall);
        story.gateway.arm(story.now.mono, super::Timer::Schedules);
        story.tick(0);
        let face = if source == Source::Schedule { Face::Staff } else { Face::Number(40) };
        assert_eq!(story.shown("s3"), (source, face), "at {}", Wall(wall));
    }
}

#[test]
fn hours_begin_on_the_minute_and_need_no_delay() {
    let mut story = Story::board();
    story.now.wall = Wall(MONDAY_22 - 90_000);
    story.keep_alive(60_000);
    let left_ms = u64::try_from(MONDAY_22 - story.now.wall.0).unwrap();
    story.keep_alive(left_ms - 1);
    assert_eq!(story.shown("s3").0, Source::Automatic);
    story.keep_alive(1);
    assert_eq!(story.shown("s3"), (Source::Schedule, Face::Staff));
    story.mode("s3", SignMode::Blank, None);
    assert_eq!(story.shown("s3"), (Source::Operator, Face::Blank));
    story.incident("g2", None);
    assert_eq!(story.shown("s3"), (Source::Incident, Face::Closed));
    story.open("g2");
    story.mode("s3", SignMode::Auto, None);
    assert_eq!(story.shown("s3"), (Source::Schedule, Face::Staff));
    story.step(Input::Stopping);
    assert_eq!(story.shown("s3"), (Source::Stopping, Face::Blank));
}

#[test]
fn a_count_changes_its_kind_only_after_the_delay() {
    let mut story = Story::board();
    let full = |story: &mut Story| story.read(UnitIx(1), |_| Sensed::Occupied);
    let one = |story: &mut Story| {
        story.read(UnitIx(1), |bay| if bay == 60 { Sensed::Free } else { Sensed::Occupied });
    };
    one(&mut story);
    assert_eq!(story.shown("s3").1, Face::Number(1), "a number follows a number at once");
    full(&mut story);
    story.keep_alive(9_000);
    assert_eq!(story.shown("s3").1, Face::Number(1));
    assert_eq!(story.face("s2"), Face::Full, "no delay, no wait");
    one(&mut story);
    full(&mut story);
    story.keep_alive(9_999);
    assert_eq!(story.shown("s3").1, Face::Number(1), "it began anew");
    story.tick(1);
    assert_eq!(story.shown("s3").1, Face::Full);
    story.close("g2", None);
    assert_eq!(story.shown("s3").1, Face::Closed, "an order waits for nothing");
    story.open("g2");
    assert_eq!(story.shown("s3").1, Face::Closed);
    story.keep_alive(10_000);
    assert_eq!(story.shown("s3").1, Face::Full);
}

#[test]
fn a_fire_contact_closes_until_it_rests() {
    let mut story = Story::board();
    let given = story.arrive("r1", "p1", "car");
    story.mode("s1", SignMode::Full, None);
    story.contacts(0, u64::MAX);
    assert_eq!(tells(&story), [""; 0], "one reading may be a bounce");
    story.keep_alive(1_000);
    assert_eq!(tells(&story), ["began"]);
    assert_eq!(story.find(given.lease.unwrap()).garage, Some(GarageIx(1)));
    assert_eq!(story.shown("s1"), (Source::Incident, Face::Closed));
    assert_eq!(story.shown("d1"), (Source::Automatic, STRAIGHT), "led elsewhere, at once");
    assert!(story.gateway.garage_incident(GarageIx(0)));
    assert!(!story.gateway.garage_incident(GarageIx(1)));
    assert_eq!(story.arrive("r2", "f1", "car").garage, Some(GarageIx(1)));
    let snapshot = story.gateway.snapshot();
    assert_eq!((snapshot.incidents.len(), snapshot.garages[0].incident), (1, true));
    story.contacts(AT_REST, u64::MAX);
    story.keep_alive(1_000);
    assert_eq!(tells(&story), ["began", "ended"]);
    assert_eq!(story.shown("s1"), (Source::Operator, Face::Full));
    assert_eq!(story.arrive("r3", "f1", "car").garage, Some(GarageIx(0)));
    assert!(story.gateway.snapshot().incidents.is_empty());
}

#[test]
fn silence_and_restarts_neither_light_a_fire_nor_put_it_out() {
    let mut story = Story::board();
    let io = story.site.contacts[0].unit;
    story.go_silent(io, 60_000);
    assert_eq!(tells(&story), [""; 0], "silence lights nothing");
    story.contacts(0, u64::MAX);
    story.keep_alive(1_000);
    assert_eq!(tells(&story), ["began"]);
    story.contacts(AT_REST, 0);
    story.keep_alive(10_000);
    story.go_silent(io, 60_000);
    assert_eq!(story.shown("s1").0, Source::Incident, "nor puts anything out");
    story.restart("b2");
    story.read_all(|_| Sensed::Free);
    assert_eq!(story.shown("s1").0, Source::Incident, "nor does a restart");
    assert_eq!(story.arrive("r1", "f1", "car").garage, Some(GarageIx(1)));
    assert_eq!(tells(&story), ["began"], "and upstream knows already");
    story.contacts(AT_REST, u64::MAX);
    story.keep_alive(1_000);
    assert_eq!(tells(&story), ["began", "ended"]);
    assert_eq!(story.arrive("r2", "f1", "car").garage, Some(GarageIx(0)));
}

#[test]
fn reads_that_fail_between_do_not_keep_a_contact_from_counting() {
    let mut story = Story::board();
    for n in 0..4 {
        // Every second read brings nothing, for longer than a contact bounces.
        story.contacts(0, if n % 2 == 0 { u64::MAX } else { 0 });
        story.pass(150);
    }
    assert_eq!(tells(&story), ["began"]);
    for n in 0..4 {
        story.contacts(AT_REST, if n % 2 == 0 { u64::MAX } else { 0 });
        story.pass(150);
    }
    assert_eq!(tells(&story), ["began", "ended"]);
}

#[test]
fn what_staff_closed_stays_closed_after_the_fire() {
    let mut story = Story::board();
    story.close("g1", None);
    story.contacts(0, u64::MAX);
    story.keep_alive(1_000);
    assert_eq!(story.shown("s1").0, Source::Incident);
    story.contacts(AT_REST, u64::MAX);
    story.keep_alive(1_000);
    assert_eq!(story.shown("s1"), (Source::Automatic, Face::Closed));
    assert_eq!(story.arrive("r1", "f1", "car").garage, Some(GarageIx(1)));
}

#[test]
fn a_bouncing_contact_lights_nothing_and_a_note_is_an_event() {
    let mut story = Story::board();
    for _ in 0..50 {
        story.contacts(0, u64::MAX);
        story.pass(100);
        story.contacts(AT_REST, u64::MAX);
        story.pass(100);
    }
    assert_eq!(tells(&story), [""; 0]);
    story.contacts(AT_REST | 1 << 4, u64::MAX);
    story.keep_alive(1_000);
    story.contacts(AT_REST, u64::MAX);
    story.keep_alive(1_000);
    let notes = story.bodies(Lane::Events).filter_map(|body| match body {
        Body::Contact { contact, active } => Some((contact.as_str(), *active)),
        _ => None,
    });
    assert_eq!(notes.collect::<Vec<_>>(), [("hatch", true), ("hatch", false)]);
    assert_eq!(tells(&story), [""; 0], "a note closes nothing");
}

#[test]
fn staff_declare_an_incident_and_it_ends_by_itself() {
    let mut story = Story::board();
    let given = story.arrive("r1", "p1", "car");
    story.incident("g1", Some(300));
    assert_eq!(tells(&story), ["began"]);
    assert_eq!(story.find(given.lease.unwrap()).garage, Some(GarageIx(1)));
    story.restart("b1");
    story.read_all(|_| Sensed::Free);
    assert_eq!(story.shown("s1"), (Source::Incident, Face::Closed), "over a restart");
    story.incident("g1", Some(300));
    assert_eq!(tells(&story), ["began"], "it is the same one");
    story.close("g1", Some(300));
    assert_eq!(tells(&story), ["began", "ended"], "closed, but no incident any more");
    assert_eq!(story.shown("s1"), (Source::Automatic, Face::Closed));
    story.incident("g1/B1", Some(100));
    story.incident("g1/B1/A", Some(50));
    assert_eq!(story.shown("s1").0, Source::Incident, "all of it burns");
    story.keep_alive(51_000);
    assert_eq!(story.shown("s1").0, Source::Incident);
    story.keep_alive(50_000);
    assert_eq!(story.shown("s1").0, Source::Automatic);
    assert_eq!(tells(&story).len(), 6);
}

#[test]
fn an_incident_in_a_part_closes_no_sign_of_the_whole() {
    let mut story = Story::board();
    story.incident("g1/B1/A", None);
    assert_eq!(story.shown("s1"), (Source::Automatic, Face::Number(28)), "30 less 2 kept back");
    assert!(story.gateway.garage_incident(GarageIx(0)), "its outputs know");
}

#[test]
fn an_arrow_leads_to_the_nearest_with_room() {
    let mut story = Story::board();
    // So that the last bay of a full garage is given at all.
    let tuning = story.gateway.tuning.clone();
    story.step(Input::Retune(crate::config::GuidanceTable { price_occupancy_s: 0, ..tuning }));
    assert_eq!(story.shown("d1"), (Source::Automatic, RIGHT), "g1 is next door");
    story.read(UnitIx(0), |_| Sensed::Occupied);
    story.keep_alive(4_999);
    assert_eq!(story.shown("d1").1, RIGHT, "not flapping");
    story.tick(1);
    assert_eq!(story.shown("d1").1, STRAIGHT);
    story.read(UnitIx(0), |bay| if bay == 9 { Sensed::Free } else { Sensed::Occupied });
    story.keep_alive(1_000);
    // The one bay is promised: nobody else may be led there.
    story.arrive("r1", "f1", "car");
    story.keep_alive(10_000);
    assert_eq!(story.shown("d1").1, STRAIGHT);
    story.read(UnitIx(1), |_| Sensed::Occupied);
    story.keep_alive(5_000);
    assert_eq!(story.shown("d1").1, Face::Full);
    story.close("g1", None);
    story.close("g2", None);
    assert_eq!(story.shown("d1").1, Face::Closed, "an order waits for nothing");
}

#[test]
fn an_arrow_never_leads_into_what_is_closed() {
    let mut story = Story::board();
    story.close("g1", None);
    assert_eq!(story.shown("d1").1, STRAIGHT);
    story.open("g1");
    story.keep_alive(5_000);
    assert_eq!(story.shown("d1").1, RIGHT);
    story.close("link:f1>g1-door", None);
    assert_eq!(story.shown("d1").1, STRAIGHT, "a closed way is none");
    story.close("node:f2", None);
    assert_eq!(story.shown("d1").1, Face::Closed, "no way leads anywhere");
    story.open("node:f2");
    story.keep_alive(5_000);
    assert_eq!(story.shown("d1").1, STRAIGHT);
}

#[test]
fn an_arrow_that_nobody_can_vouch_for_is_held_and_then_gives_way() {
    let mut story = Story::board();
    story.read_all(|_| Sensed::Unknown);
    assert_eq!(story.shown("d1"), (Source::Held, RIGHT));
    story.keep_alive(119_000);
    assert_eq!(story.shown("d1"), (Source::Held, RIGHT));
    story.keep_alive(1_000);
    assert_eq!(story.shown("d1"), (Source::Fallback, STRAIGHT));
    story.read(UnitIx(0), |_| Sensed::Free);
    assert_eq!(story.shown("d1"), (Source::Automatic, RIGHT));
    story.read_all(|_| Sensed::Unknown);
    story.close("g1", None);
    assert_eq!(story.shown("d1").0, Source::Fallback, "a held arrow into a closed door is worse");
}

#[test]
fn a_dead_controller_s_garage_is_led_to_by_its_books() {
    let mut story = Story::board();
    story.go_silent(UnitIx(0), 6_000);
    story.keep_alive(10_000);
    assert_eq!(story.shown("d1"), (Source::Automatic, RIGHT), "its ledger believes in room");
}

#[test]
fn a_sign_whose_garages_did_not_change_is_not_pointed_anew() {
    let mut story = Story::board();
    let writes = |story: &Story| {
        let ix = story.site.sign("d1").unwrap();
        let to = |effect: &&Effect| matches!(effect, Effect::Write { sign, .. } if *sign == ix);
        story.effects.iter().filter(to).count()
    };
    let before = writes(&story);
    for bay in 0..40 {
        story.fill(crate::site::BayIx(bay));
    }
    assert_eq!(writes(&story), before);
}
