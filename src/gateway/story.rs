//! Scenarios at the gateway's door: seconds and inputs in, effects out.
//!
//! Each test reads as what happens in a garage.

use super::testing::Story;
use super::{Answer, Ask, Effect, Input, Refusal, Report, SignMode};
use crate::config::GuidanceTable;
use crate::record::{Body, End, Lane, Promise, Sensed};
use crate::site::{BayIx, Face, GarageIx, UnitIx};

#[test]
fn an_unknown_bay_is_never_offered() {
    let mut story = Story::unseen();
    let answer = story.arrive("r1", "p1", "car");
    assert_eq!((answer.promise, answer.lease), (Promise::Signs, None));
    assert!(
        answer.reason(&story.site).contains("sensors do not answer"),
        "{}",
        answer.reason(&story.site)
    );
}

#[test]
fn the_cheapest_bay_of_the_class_is_given_once() {
    let mut story = Story::seen();
    let first = story.arrive("r1", "p1", "car");
    assert_eq!(story.bay(&first), "g1/B1/A/004", "001 to 003 are for electric cars");
    assert_eq!(story.again("r1", "p1", "car").bay, first.bay);
    let second = story.arrive("r2", "p1", "car");
    assert_eq!(story.bay(&second), "g1/B1/A/005");
    let electric = story.arrive("r3", "p1", "ev");
    assert_eq!(story.bay(&electric), "g1/B1/A/001");
    assert_eq!(first.portal(&story.site), story.site.node("p1"));
    let told = first.directions(&story.site);
    assert!(told.iter().any(|line| line == "Take bay 004."), "{told:?}");
}

#[test]
fn a_tall_van_goes_where_the_door_is_high_enough() {
    let mut story = Story::seen();
    let van = story.arrive("r1", "p1", "van");
    assert_eq!(story.bay(&van), "g2/B1/A/001");
}

#[test]
fn what_cannot_be_served_is_refused_with_the_reason() {
    let mut story = Story::seen();
    let truck = story.site.class("truck").unwrap();
    assert_eq!(story.refused("r1", "p1", "truck"), Refusal::ClassNotServed(truck));
    let door = story.site.node("g1-door").unwrap();
    let near = story.arrive("r2", "g1-door", "car");
    assert_eq!(near.way(&story.site), [door]);
    story.close("node:p1", None);
    let approach = story.site.node("a1").unwrap();
    assert_eq!(story.refused("r3", "a1", "car"), Refusal::NoWay(approach));
}

#[test]
fn open_leases_are_capped_by_place() {
    let mut story =
        Story::tuned(GuidanceTable { leases_max: 2, debounce_ms: 0, ..GuidanceTable::default() });
    story.read_all(|_| Sensed::Free);
    story.arrive("r1", "p1", "car");
    story.arrive("r2", "p1", "car");
    let at = story.site.node("p1").unwrap();
    assert_eq!(story.refused("r3", "p1", "car"), Refusal::TooMany { at, open: 2 });
    assert_eq!(story.arrive("r4", "f1", "car").promise, Promise::Bay);
}

#[test]
fn a_report_of_a_taken_bay_that_comes_twice_moves_the_driver_once() {
    let mut story = Story::seen();
    let given = story.arrive("r1", "p1", "car");
    let lease = given.lease.unwrap();
    story.report(lease, Report::BayTaken(given.bay));
    let moved = story.find(lease).bay;
    assert_ne!(moved, given.bay);
    story.report(lease, Report::BayTaken(given.bay));
    assert_eq!(story.find(lease).bay, moved);
}

#[test]
fn a_lease_lapses_exactly_at_its_deadline() {
    let mut story = Story::seen();
    let given = story.arrive("r1", "p1", "car");
    assert_eq!(given.expires_in_s, given.travel_s + 120);
    story.keep_alive(given.deadline.ms_since(story.now.mono) - 1);
    assert_eq!(story.ends(), []);
    story.tick(1);
    assert_eq!(story.ends(), [(given.lease.unwrap(), End::Expired, false)]);
    assert!(story.gateway.bays.get(given.bay.unwrap()).offerable(), "the bay can be given again");
    // Perhaps nobody came because it is taken: the next driver is sent to a surer one.
    assert_ne!(story.arrive("r2", "p1", "car").bay, given.bay);
}

#[test]
fn the_promised_bay_filling_in_time_is_fulfilment_and_too_early_is_theft() {
    let mut story = Story::seen();
    let given = story.arrive("r1", "a1", "car");
    story.keep_alive(10_000);
    story.fill(given.bay.unwrap());
    assert_eq!(story.ends(), [], "nobody drives 1.1 km in 10 s");
    let moved = story.find(given.lease.unwrap());
    assert_eq!(story.bay(&moved), "g1/B1/A/005");
    story.keep_alive(given.travel_s * 1_000);
    story.fill(moved.bay.unwrap());
    assert_eq!(story.ends(), [(given.lease.unwrap(), End::Fulfilled, true)]);
}

#[test]
fn another_bay_of_the_zone_is_credited_to_the_lease_nearest_its_time() {
    let mut story = Story::seen();
    let early = story.arrive("r1", "p1", "car");
    story.tick(4_000);
    let late = story.arrive("r2", "a1", "car");
    story.keep_alive(early.travel_s * 1_000 - 4_000);
    story.fill(BayIx(15));
    assert_eq!(story.ends(), [(early.lease.unwrap(), End::TookOther, true)]);
    assert_eq!(story.find(late.lease.unwrap()).end, None);
    let left = story.gateway.bays.get(early.bay.unwrap());
    assert!(left.offerable(), "its bay is free again");
    assert_ne!(story.arrive("r3", "p1", "car").bay, early.bay, "though it may yet come");
}

#[test]
fn of_two_leases_in_their_window_the_nearer_is_credited() {
    let mut story = Story::seen();
    let first = story.arrive("r1", "p1", "car");
    story.keep_alive(20_000);
    let second = story.arrive("r2", "p1", "car");
    story.keep_alive(second.travel_s * 1_000);
    story.fill(BayIx(15));
    assert_eq!(story.ends(), [(second.lease.unwrap(), End::TookOther, true)]);
    story.fill(BayIx(16));
    assert_eq!(story.ends()[1..], [(first.lease.unwrap(), End::TookOther, true)]);
}

#[test]
fn an_identified_driver_ends_the_lease_and_holds_the_bay_before_its_sensor() {
    let mut story = Story::seen();
    let given = story.arrive("r1", "p1", "car");
    story.report(given.lease.unwrap(), Report::Parked(None));
    assert_eq!(story.ends(), [(given.lease.unwrap(), End::Fulfilled, false)]);
    assert_ne!(story.arrive("r2", "p1", "car").bay, given.bay);
    let answer = story.ask(Ask::Report { lease: given.lease.unwrap(), report: Report::Cancelled });
    let refused = Refusal::LeaseEnded { lease: given.lease.unwrap(), end: End::Fulfilled };
    assert_eq!(answer, Answer::Refused(refused));
}

#[test]
fn an_identified_vehicles_bay_filling_is_credited_to_nobody_else() {
    let mut story = Story::seen();
    let first = story.arrive("r1", "p1", "car");
    let second = story.arrive("r2", "p1", "car");
    story.keep_alive(second.travel_s * 1_000);
    story.report(first.lease.unwrap(), Report::Parked(None));
    story.fill(first.bay.unwrap());
    assert_eq!(story.find(second.lease.unwrap()).end, None);
}

#[test]
fn in_one_sweep_an_owners_bay_counts_before_its_neighbour() {
    let mut story = Story::seen();
    let gone = story.arrive("r1", "p1", "car");
    let owner = story.arrive("r2", "p1", "car");
    story.report(gone.lease.unwrap(), Report::Cancelled);
    story.keep_alive(owner.travel_s * 1_000);
    // The neighbour's point comes first in the reading.
    let (neighbour, own) = (gone.bay.unwrap().0, owner.bay.unwrap().0);
    assert!(neighbour < own);
    story.read(UnitIx(0), |bay| {
        if bay == neighbour || bay == own { Sensed::Occupied } else { Sensed::Free }
    });
    assert_eq!(story.ends()[1..], [(owner.lease.unwrap(), End::Fulfilled, true)]);
}

#[test]
fn a_moved_lease_is_durable_only_with_its_move() {
    let mut story = Story::seen();
    let given = story.arrive("r1", "p1", "car");
    story.close(&story.bay(&given), None);
    let moved = story.gateway.issued();
    story.again("r1", "p1", "car");
    let after = story.effects.iter().rev().find_map(|effect| match effect {
        Effect::Answer { after, .. } => Some(*after),
        _ => None,
    });
    assert_eq!(after, Some(moved));
}

#[test]
fn whoever_parked_while_the_power_was_off_keeps_the_bay() {
    let mut story = Story::seen();
    let given = story.arrive("r1", "a1", "car");
    story.restart("b2");
    let bay = given.bay.unwrap().0;
    story.read_all(|other| if other == bay { Sensed::Occupied } else { Sensed::Free });
    assert_eq!(story.ends(), [(given.lease.unwrap(), End::Fulfilled, true)]);
}

#[test]
fn bays_that_went_unknown_unseen_are_told_when_the_unit_is_back() {
    let mut story = Story::seen();
    story.go_silent(UnitIx(0), 6_000);
    story.read(UnitIx(0), |bay| if bay == 9 { Sensed::Unknown } else { Sensed::Free });
    assert_eq!(story.bay_events(), 1);
}

#[test]
fn a_mostly_closed_garage_whose_open_rest_is_unknown_shows_no_full() {
    let mut story = Story::seen();
    story.close("g1/B1/B", None);
    story.read(UnitIx(0), |bay| if bay < 20 { Sensed::Unknown } else { Sensed::Free });
    story.keep_alive(121_000);
    assert_eq!(story.face("s1"), Face::Blank);
}

#[test]
fn a_driver_who_was_moved_is_called_out_anew() {
    let mut story = Story::seen();
    story.arrive_with_tail("r1", "A12");
    story.close("g1/B1/A/004", None);
    assert_eq!(story.face("c1"), Face::Text("A12 G1/B1/A/005".to_owned()));
}

#[test]
fn a_shorter_patience_counts_at_once() {
    let mut story =
        Story::tuned(GuidanceTable { debounce_ms: 0, stale_ms: 600_000, ..Default::default() });
    story.read_all(|_| Sensed::Free);
    story.tick(10_000);
    story.step(Input::Retune(GuidanceTable { debounce_ms: 0, ..Default::default() }));
    story.tick(0);
    assert_eq!(story.bodies(Lane::Alarms).count(), 2, "both units are lost");
}

#[test]
fn parking_identified_in_anothers_bay_moves_that_other() {
    let mut story = Story::seen();
    let first = story.arrive("r1", "p1", "car");
    let second = story.arrive("r2", "p1", "car");
    story.report(first.lease.unwrap(), Report::Parked(second.bay));
    assert_eq!(story.ends(), [(first.lease.unwrap(), End::TookOther, false)]);
    let moved = story.find(second.lease.unwrap());
    assert_eq!(moved.end, None);
    assert_eq!(moved.bay, first.bay, "the bay that the first left is the nearest");
}

#[test]
fn a_bay_reported_taken_goes_into_quarantine_and_longer_each_time() {
    let mut story = Story::seen();
    let given = story.arrive("r1", "p1", "car");
    story.report(given.lease.unwrap(), Report::BayTaken(None));
    let moved = story.find(given.lease.unwrap());
    assert_ne!(moved.bay, given.bay);
    story.report(given.lease.unwrap(), Report::Cancelled);
    assert_ne!(story.arrive("r2", "p1", "car").bay, given.bay);
    story.keep_alive(600_000);
    let other = story.arrive("r3", "p1", "car");
    assert_ne!(other.bay, given.bay, "doubtful ones come last");
    story.report(other.lease.unwrap(), Report::Cancelled);
    let last = given.bay.unwrap();
    story.read_all(|bay| if bay == last.0 { Sensed::Free } else { Sensed::Occupied });
    story.keep_alive(4_000);
    let again = story.arrive("r4", "p1", "car");
    assert_eq!(again.bay, given.bay, "600 s are over, and it is the last");
    story.report(again.lease.unwrap(), Report::BayTaken(None));
    let lengths: Vec<u64> = story
        .bodies(Lane::Events)
        .filter_map(|body| match body {
            Body::Quarantined { for_s, .. } => Some(*for_s),
            _ => None,
        })
        .collect();
    assert_eq!(lengths, [600, 1_200]);
}

#[test]
fn a_closure_moves_who_is_on_the_way_and_ends_by_itself() {
    let mut story = Story::seen();
    let given = story.arrive("r1", "p1", "car");
    story.close("g1", Some(300));
    assert_eq!(story.find(given.lease.unwrap()).garage, Some(GarageIx(1)));
    assert_eq!(story.face("s1"), Face::Closed);
    assert_eq!(story.arrive("r2", "p1", "car").garage, Some(GarageIx(1)));
    assert_eq!(story.arrive("r3", "p1", "ev").garage, Some(GarageIx(1)), "a plain bay will do");
    story.keep_alive(300_000);
    assert_eq!(story.arrive("r4", "p1", "car").garage, Some(GarageIx(0)));
    let answer = story.ask(Ask::Open { target: story.target("g1"), by: "me".to_owned() });
    assert_eq!(answer, Answer::Refused(Refusal::NotClosed(story.target("g1"))));
}

#[test]
fn overlapping_closures_open_only_together() {
    let mut story = Story::seen();
    story.close("g1/B1/A", None);
    story.close("g1/B1/A/004", None);
    story.open("g1/B1/A");
    let given = story.arrive("r1", "p1", "car");
    assert_eq!(story.bay(&given), "g1/B1/A/005");
}

#[test]
fn a_full_site_says_so_and_what_to_do() {
    let mut story = Story::unseen();
    story.read_all(|_| Sensed::Occupied);
    let answer = story.arrive("r1", "p1", "car");
    assert_eq!((answer.promise, answer.lease), (Promise::Signs, None));
    let (reason, directions) = (answer.reason(&story.site), answer.directions(&story.site));
    assert!(reason.contains("taken or promised"), "{reason}");
    assert!(reason.contains("Ask again in 60 s"), "{reason}");
    assert_eq!(directions, ["No garage has room: follow the signs to the surface."]);
    assert_eq!(story.face("s1"), Face::Full);
}

#[test]
fn a_count_sign_keeps_back_and_follows_promises() {
    let mut story = Story::seen();
    assert_eq!(story.face("s1"), Face::Number(48), "50 bays less 2 kept back");
    story.arrive("r1", "p1", "car");
    assert_eq!(story.face("s1"), Face::Number(47));
}

#[test]
fn a_dead_controller_is_one_record_and_neither_full_nor_zero() {
    let mut story = Story::seen();
    story.go_silent(UnitIx(0), 6_000);
    let lost: Vec<_> = story.bodies(Lane::Alarms).collect();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert!(matches!(lost[0], Body::UnitLost { bays: 50, .. }), "{lost:?}");
    assert_eq!(story.face("s1"), Face::Number(48), "held");
    let given = story.arrive("r1", "g1-door", "car");
    assert_eq!((given.promise, given.garage), (Promise::Zone, Some(GarageIx(0))));
    assert_eq!(given.bay, None);
    story.go_silent(UnitIx(0), 120_000);
    assert_eq!(story.face("s1"), Face::Blank, "its fallback");
    story.read(UnitIx(0), |_| Sensed::Free);
    assert_eq!(story.face("s1"), Face::Number(47), "less the zone still promised");
    assert_eq!(story.arrive("r2", "g1-door", "car").promise, Promise::Bay);
}

#[test]
fn a_silent_garage_takes_no_more_than_its_ledger_believes() {
    let mut story = Story::unseen();
    story.read(UnitIx(0), |bay| if bay < 48 { Sensed::Occupied } else { Sensed::Free });
    story.read(UnitIx(1), |_| Sensed::Occupied);
    story.go_silent(UnitIx(0), 6_000);
    let promises: Vec<Promise> =
        (0..4).map(|n| story.arrive(&format!("r{n}"), "p1", "car").promise).collect();
    assert_eq!(promises, [Promise::Zone, Promise::Zone, Promise::Signs, Promise::Signs]);
}

#[test]
fn a_call_out_shows_each_tail_in_turn_and_then_its_fallback() {
    let mut story = Story::seen();
    story.arrive_with_tail("r1", "A12");
    assert_eq!(story.face("c1"), Face::Text("A12 G1/B1/A/004".to_owned()));
    story.arrive_with_tail("r2", "B34");
    story.tick(4_999);
    assert_eq!(story.face("c1"), Face::Text("A12 G1/B1/A/004".to_owned()));
    story.tick(1);
    assert_eq!(story.face("c1"), Face::Text("B34 G1/B1/A/005".to_owned()));
    story.tick(5_000);
    assert_eq!(story.face("c1"), Face::Text("FOLLOW SIGNS".to_owned()));
}

#[test]
fn an_operators_mode_outranks_the_count_until_set_back() {
    let mut story = Story::seen();
    let sign = story.site.sign("s1").unwrap();
    story.ask(Ask::SetMode { sign, mode: SignMode::Full, by: "me".to_owned(), expires_s: None });
    story.arrive("r1", "p1", "car");
    assert_eq!(story.face("s1"), Face::Full);
    story.restart("b1");
    story.read_all(|_| Sensed::Free);
    assert_eq!(story.face("s1"), Face::Full, "over a restart too");
    story.ask(Ask::SetMode { sign, mode: SignMode::Auto, by: "me".to_owned(), expires_s: None });
    assert_eq!(story.face("s1"), Face::Number(47));
}

#[test]
fn stopping_leaves_every_sign_at_its_fallback() {
    let mut story = Story::seen();
    story.step(Input::Stopping);
    story.read(UnitIx(0), |_| Sensed::Occupied);
    let faces = ["s1", "s2", "c1"].map(|sign| story.face(sign));
    assert_eq!(faces, [Face::Blank, Face::Blank, Face::Text("FOLLOW SIGNS".to_owned())]);
    assert_eq!(story.refused("r1", "p1", "car"), Refusal::Stopping);
}

#[test]
fn a_restart_forgets_no_lease_and_no_closure() {
    let mut story = Story::seen();
    let given = story.arrive("r1", "p1", "car");
    story.close("g2", None);
    story.tick(7_000);
    story.restart("b1");
    let found = story.find(given.lease.unwrap());
    assert_eq!((found.bay, found.deadline), (given.bay, given.deadline));
    assert_eq!(story.again("r1", "p1", "car").lease, given.lease);
    story.read_all(|_| Sensed::Free);
    let next = story.arrive("r2", "p1", "car");
    assert_ne!(next.bay, given.bay);
    assert_ne!(next.lease, given.lease, "lease ids of two starts never meet");
    let closures = story.ask(Ask::Closures);
    assert!(matches!(closures, Answer::Closures(all) if all.len() == 1));
}

#[test]
fn under_another_boot_the_full_length_runs_again() {
    let mut story = Story::seen();
    let given = story.arrive("r1", "p1", "car");
    let length_s = given.expires_in_s;
    story.tick(10_000);
    story.restart("b2");
    assert_eq!(story.find(given.lease.unwrap()).expires_in_s, length_s);
}

#[test]
fn a_restart_tells_differences_and_not_every_bay() {
    let mut story = Story::seen();
    let baselines = |story: &Story| {
        let all = story.bodies(Lane::Events);
        all.filter(|body| matches!(body, Body::UnitBaseline { .. })).count()
    };
    assert_eq!(baselines(&story), 2);
    assert_eq!(story.bay_events(), 0);
    story.restart("b1");
    story.read_all(|bay| if bay == 4 { Sensed::Occupied } else { Sensed::Free });
    assert_eq!((baselines(&story), story.bay_events()), (2, 1));
}

#[test]
fn a_kept_value_that_no_longer_fits_is_told_and_dropped() {
    let mut story = Story::seen();
    story.kept.insert("closure/g9".to_owned(), b"{}".to_vec());
    story.kept.insert("lease/nonsense".to_owned(), b"\xff".to_vec());
    story.restart("b1");
    let told: Vec<String> = story
        .bodies(Lane::Alarms)
        .filter_map(|body| match body {
            Body::KeptDropped { key, .. } => Some(key.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["closure/g9", "lease/nonsense"]);
    assert!(!story.kept.contains_key("closure/g9"));
}

#[test]
fn an_incident_whose_place_is_gone_is_told_as_over() {
    let mut story = Story::seen();
    let kept = br#"{"boot":"b0","reason":"smoke","by":"desk","incident":true}"#.to_vec();
    story.kept.insert("closure/g9".to_owned(), kept);
    story.kept.insert("closure/g8".to_owned(), br#"{"boot":"b0","reason":"","by":"x"}"#.to_vec());
    story.restart("b1");
    let ended = |body: &&Body| matches!(body, Body::IncidentEnded { .. });
    let ended: Vec<&Body> = story.bodies(Lane::Alarms).filter(ended).collect();
    let (incident, by) = ("g9".to_owned(), "restart".to_owned());
    assert_eq!(ended, [&Body::IncidentEnded { incident, by, lasted_s: 0 }]);
}

#[test]
fn every_minute_each_garage_adds_up() {
    let mut story = Story::seen();
    story.arrive("r1", "p1", "car");
    story.fill(BayIx(30));
    story.close("g1/B1/A/009", None);
    story.counters = [7, 3];
    story.read(UnitIx(0), |bay| if bay == 30 { Sensed::Occupied } else { Sensed::Free });
    story.keep_alive(60_000);
    let windows: Vec<_> = story
        .bodies(Lane::Aggregates)
        .filter_map(|body| match body {
            Body::GarageWindow(window) => Some(window.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(windows.len(), 2);
    let first = &windows[0];
    assert_eq!((first.cars_in, first.cars_out, first.granted), (7, 3, 1));
    for window in &windows {
        assert_eq!(window.now.total(), window.bays);
        let classes: u32 = window.by_class.values().map(|tally| tally.total()).sum();
        assert_eq!(classes, window.bays);
    }
}
