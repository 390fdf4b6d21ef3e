//! Lives of leases at the gateway's door: what becomes of a promise between its grant and its end.
//!
//! `life.rs` says what is done; each test here is a drive on which it is done.

use super::testing::{self, Story};
use super::{Allocation, Answer, Ask, LeaseId, Refusal, Report};
use crate::config::GuidanceTable;
use crate::record::{End, Lane, Promise, Sensed};
use crate::site::{
    BayIx, Class, ClassIx, GarageIx, Link, LinkKind, Node, NodeIx, NodeKind, Site, UnitIx,
};

/// The small ring with an exit behind fork 2.
fn site() -> Site {
    let mut site = testing::site();
    let from = site.node("f2").unwrap();
    let to = NodeIx(site.nodes.len() as u32);
    let (id, name) = ("x1".to_owned(), "East exit".to_owned());
    site.nodes.push(Node { id, name, kind: NodeKind::Exit });
    let (kind, text) = (LinkKind::Connector, "Exit".to_owned());
    let (length_m, speed_kmh) = (100, 20);
    site.links.push(Link { from, to, kind, length_m, speed_kmh, text, turn: None, closed: false });
    site
}

fn story(change: impl FnOnce(&mut GuidanceTable)) -> Story {
    // Without prices the ways alone decide.
    let (price_occupancy_s, price_class_s) = (0, 0);
    let tuning = GuidanceTable { debounce_ms: 0, ..GuidanceTable::default() };
    let mut tuning = GuidanceTable { price_occupancy_s, price_class_s, ..tuning };
    change(&mut tuning);
    let mut story = Story::at(site(), tuning);
    story.read_all(|_| Sensed::Free);
    story
}

fn seen(story: &mut Story, lease: LeaseId, at: &str) -> Allocation {
    let node = story.site.node(at).unwrap();
    match story.ask(Ask::Report { lease, report: Report::Seen(node) }) {
        Answer::Allocation(allocation) => allocation,
        other => panic!("{other:?}"),
    }
}

/// All bays of garage 1 but these are taken.
fn only(story: &mut Story, free: &[u32]) {
    story.read(UnitIx(0), |bay| if free.contains(&bay) { Sensed::Free } else { Sensed::Occupied });
}

#[test]
fn each_point_on_the_way_confirms_and_never_shortens_the_promise() {
    for (portal_after_ms, slow) in [(150_000, true), (65_000, false)] {
        let mut story = story(|_| ());
        let given = story.arrive("r1", "a1", "car");
        let (lease, mut deadline) = (given.lease.unwrap(), given.deadline);
        for (after_ms, at) in [(portal_after_ms, "p1"), (20_000, "f1"), (9_000, "g1-door")] {
            story.keep_alive(after_ms);
            let now = seen(&mut story, lease, at);
            assert_eq!((now.lease, now.bay, now.end), (given.lease, given.bay, None), "{at}");
            assert_eq!(story.site.nodes[now.at.at()].id, at);
            assert_eq!(now.way(&story.site)[0], story.site.node(at).unwrap(), "the way from there");
            assert!(now.deadline >= deadline, "{at}");
            deadline = now.deadline;
        }
        assert_eq!(deadline > given.deadline, slow, "a slow drive is no no-show");
        story.keep_alive(20_000);
        story.fill(given.bay.unwrap());
        assert_eq!(story.ends(), [(lease, End::Fulfilled, true)]);
    }
}

#[test]
fn the_same_reading_twice_is_written_once() {
    let mut story = story(|_| ());
    let given = story.arrive("r1", "a1", "car");
    let lease = given.lease.unwrap();
    story.keep_alive(29_000);
    seen(&mut story, lease, "p1");
    let issued = story.gateway.issued();
    story.keep_alive(30_000);
    seen(&mut story, lease, "p1");
    seen(&mut story, lease, "a1");
    assert_eq!(story.gateway.issued(), issued, "a camera's second look is no news");
    story.keep_alive(31_000);
    seen(&mut story, lease, "p1");
    assert!(story.gateway.issued() > issued, "after the window it is");
}

#[test]
fn a_driver_is_moved_once_and_only_for_a_gain() {
    for (move_gain_s, moves) in [(0, true), (30, true), (3_600, false)] {
        let mut story = story(|tuning| tuning.move_gain_s = move_gain_s);
        only(&mut story, &[]);
        let given = story.arrive("r1", "a1", "car");
        assert_eq!(story.bay(&given), "g2/B1/A/001");
        only(&mut story, &[10, 11, 12]);
        let at_portal = seen(&mut story, given.lease.unwrap(), "p1");
        assert_eq!(at_portal.bay == given.bay, !moves, "{move_gain_s}");
        if !moves {
            continue;
        }
        assert_eq!(story.bay(&at_portal), "g1/B1/A/011");
        // A better bay yet: but nobody is sent about twice.
        story.fill(BayIx(3));
        only(&mut story, &[3, 10, 11, 12]);
        let at_fork = seen(&mut story, given.lease.unwrap(), "f1");
        assert_eq!(at_fork.bay, at_portal.bay, "{move_gain_s}");
        story.restart("b1");
        assert_eq!(story.find(given.lease.unwrap()).bay, at_portal.bay);
        story.read_all(|_| Sensed::Free);
        let at_door = seen(&mut story, given.lease.unwrap(), "g1-door");
        assert_eq!(at_door.bay, at_portal.bay, "a restart forgets no move");
        assert_eq!(moved(&story), 1);
    }
}

fn moved(story: &Story) -> usize {
    let bodies = story.bodies(Lane::Events);
    bodies.filter(|body| matches!(body, crate::record::Body::LeaseMoved(_))).count()
}

#[test]
fn a_stolen_bay_is_one_message_and_counts_against_no_cap() {
    let mut story = story(|tuning| tuning.move_gain_s = 0);
    only(&mut story, &[]);
    let given = story.arrive("r1", "a1", "car");
    let lease = given.lease.unwrap();
    story.keep_alive(5_000);
    story.fill(given.bay.unwrap());
    let rehomed = story.find(lease);
    assert_eq!(story.bay(&rehomed), "g2/B1/A/002");
    assert_eq!((moved(&story), story.ends()), (1, vec![]));
    only(&mut story, &[10]);
    let at_portal = seen(&mut story, lease, "p1");
    assert_eq!(story.bay(&at_portal), "g1/B1/A/011", "the one move is left");
    assert_eq!(moved(&story), 2);
}

#[test]
fn a_missed_fork_is_revised_from_there() {
    let mut story = story(|_| ());
    let given = story.arrive("r1", "p1", "car");
    assert_eq!(story.bay(&given), "g1/B1/A/004");
    story.keep_alive(25_000);
    let past = seen(&mut story, given.lease.unwrap(), "f2");
    assert_eq!(story.bay(&past), "g2/B1/A/001", "a lap costs more than the next garage");
    // What cost no driver's choice leaves the one voluntary move.
    assert_eq!(story.gateway.leases.get(past.lease.unwrap()).unwrap().life.moves, 0);
}

#[test]
fn who_drives_into_another_garage_gets_a_bay_there_if_there_is_one() {
    for (room, garage) in [(true, "g2"), (false, "g1")] {
        let mut story = story(|_| ());
        if !room {
            story.read(UnitIx(1), |_| Sensed::Occupied);
        }
        let given = story.arrive("r1", "p1", "car");
        story.keep_alive(60_000);
        let inside = seen(&mut story, given.lease.unwrap(), "g2-door");
        assert!(story.bay(&inside).starts_with(garage), "{room}");
        assert_eq!(inside.end, None);
    }
}

#[test]
fn who_passes_without_stopping_gives_the_bay_back_and_fills_no_ledger() {
    let mut story = story(|_| ());
    let given = story.arrive("r1", "p1", "car");
    story.keep_alive(60_000);
    let gone = seen(&mut story, given.lease.unwrap(), "x1");
    assert_eq!(gone.end, Some(End::Expired));
    assert_eq!(story.arrive("r2", "p1", "car").bay, given.bay, "it is free for the next");
    let lease = given.lease.unwrap();
    let node = story.site.node("f1").unwrap();
    let late = story.ask(Ask::Report { lease, report: Report::Seen(node) });
    assert_eq!(late, Answer::Refused(Refusal::LeaseEnded { lease, end: End::Expired }));
}

#[test]
fn a_car_that_left_is_no_car_of_a_garage_that_nobody_sees() {
    let mut story = story(|_| ());
    story.keep_alive(1_000);
    story.go_silent(UnitIx(1), 8_000);
    let room = |story: &Story| story.gateway.ledger.room(&story.site, GarageIx(1));
    let before = room(&story);
    let given = story.arrive("r1", "p1", "van");
    assert_eq!((given.promise, room(&story)), (Promise::Zone, before - 1));
    story.keep_alive(60_000);
    seen(&mut story, given.lease.unwrap(), "x1");
    story.tick(0);
    assert_eq!(room(&story), before);
}

#[test]
fn a_promise_gets_weaker_with_its_sensors_and_firmer_with_them() {
    let mut story = story(|_| ());
    story.keep_alive(1_000);
    let given = story.arrive("r1", "a1", "van");
    assert_eq!(given.promise, Promise::Bay);
    let lease = given.lease.unwrap();
    story.go_silent(UnitIx(1), 8_000);
    let weaker = seen(&mut story, lease, "p1");
    assert_eq!((weaker.promise, weaker.garage), (Promise::Zone, given.garage));
    assert_eq!(weaker.end, None);
    story.read(UnitIx(1), |_| Sensed::Free);
    let firmer = seen(&mut story, lease, "f1");
    assert_eq!((firmer.promise, firmer.garage), (Promise::Bay, given.garage));
}

#[test]
fn a_class_that_was_wrong_moves_only_whom_it_must() {
    let class = |story: &Story, id: &str| story.site.class(id).unwrap();
    let mut story = story(|_| ());
    let given = story.arrive("r1", "p1", "car");
    let lease = given.lease.unwrap();
    let van = class(&story, "van");
    story.report(lease, Report::Class(van));
    let moved = story.find(lease);
    assert_eq!((story.bay(&moved).as_str(), moved.class), ("g2/B1/A/001", van), "too tall for g1");
    let car = class(&story, "car");
    story.report(lease, Report::Class(car));
    let stays = story.find(lease);
    assert_eq!((stays.bay, stays.class), (moved.bay, car), "it fits, and 300 s are not gained");
    let issued = story.gateway.issued();
    story.report(lease, Report::Class(car));
    assert_eq!(story.gateway.issued(), issued, "known already");
    let truck = class(&story, "truck");
    let refused = story.ask(Ask::Report { lease, report: Report::Class(truck) });
    assert_eq!(refused, Answer::Refused(Refusal::ClassNotServed(truck)));
    story.read(UnitIx(1), |_| Sensed::Occupied);
    let other = story.arrive("r2", "p1", "car").lease.unwrap();
    story.report(other, Report::Class(van));
    assert_eq!(story.find(other).end, Some(End::Displaced), "no bay under a high enough door");
}

#[test]
fn a_vehicle_read_twice_has_one_lease() {
    let mut story = story(|_| ());
    let first = story.arrive_as("r1", "a1", 77);
    let again = story.arrive_as("r2", "a1", 77);
    assert_eq!((again.lease, &*again.request_id), (first.lease, "r1"));
    story.keep_alive(120_000);
    let further = story.arrive_as("r3", "p1", 77);
    assert_eq!((further.lease, further.at), (first.lease, story.site.node("p1").unwrap()));
    assert_eq!(story.gateway.leases.len(), 1);
    story.restart("b1");
    story.read_all(|_| Sensed::Free);
    assert_eq!(story.arrive_as("r4", "f1", 77).lease, first.lease, "a restart knows it too");
    let other = story.arrive_as("r5", "f1", 78);
    assert_ne!(other.lease, first.lease);
}

#[test]
fn a_vehicle_that_parked_and_left_gets_a_new_lease() {
    let mut story = story(|_| ());
    let first = story.arrive_as("r1", "g1-door", 77);
    story.keep_alive(20_000);
    story.report(first.lease.unwrap(), Report::Parked(None));
    let late = story.arrive_as("r2", "g1-door", 77);
    assert_eq!((late.lease, late.end), (first.lease, Some(End::Fulfilled)), "the door's late look");
    let elsewhere = story.arrive_as("r3", "f1", 77);
    assert_ne!(elsewhere.lease, first.lease, "it is on its way again");
    story.report(elsewhere.lease.unwrap(), Report::Cancelled);
    let after = story.arrive_as("r4", "f1", 77);
    assert!(after.lease != elsewhere.lease && after.end.is_none(), "given back, then asked anew");
    story.report(after.lease.unwrap(), Report::Parked(None));
    story.keep_alive(61_000);
    let next = story.arrive_as("r5", "f1", 77);
    assert!(next.lease != after.lease && next.end.is_none(), "after the window");
}

#[test]
fn a_camera_further_on_that_repeats_the_request_is_a_sighting() {
    let mut story = story(|_| ());
    let given = story.arrive("r1", "a1", "car");
    story.keep_alive(120_000);
    let further = story.again("r1", "p1", "car");
    assert_eq!((further.lease, further.at), (given.lease, story.site.node("p1").unwrap()));
    let late = story.again("r1", "a1", "car");
    assert_eq!(late.at, further.at, "a late retry of the first camera takes nobody back");
}

#[test]
fn a_cut_way_moves_whom_it_stops_and_nobody_who_may_have_passed() {
    for (after_ms, garage) in [(1_000, "g1"), (100_000, "g2")] {
        let mut story = story(|_| ());
        story.read(UnitIx(0), |_| Sensed::Occupied);
        let given = story.arrive("r1", "p1", "car");
        assert!(story.bay(&given).starts_with("g2"));
        story.keep_alive(after_ms);
        story.read(UnitIx(0), |bay| if bay == 5 { Sensed::Free } else { Sensed::Occupied });
        story.close("link:f1>f2", None);
        let now = story.find(given.lease.unwrap());
        assert!(story.bay(&now).starts_with(garage), "closed {after_ms} ms after");
    }
}

#[test]
fn a_closed_garage_sends_on_from_where_a_car_was_seen_last() {
    let mut story = story(|_| ());
    let first = story.arrive("r1", "a1", "car").lease.unwrap();
    let second = story.arrive("r2", "a1", "car").lease.unwrap();
    story.keep_alive(120_000);
    seen(&mut story, first, "f1");
    story.close("g1", None);
    let (first, second) = (story.find(first), story.find(second));
    assert_eq!(
        [first.garage, second.garage],
        [story.gateway.leases.get(first.lease.unwrap()).map(|l| l.garage); 2]
    );
    assert!(story.bay(&first).starts_with("g2"));
    assert_eq!(first.way(&story.site)[0], story.site.node("f1").unwrap());
    assert_eq!(second.way(&story.site)[0], story.site.node("a1").unwrap());
}

#[test]
fn a_full_house_says_where_to_go() {
    let mut story = story(|_| ());
    story.read_all(|_| Sensed::Occupied);
    let full = story.arrive("r1", "p1", "car");
    let told = full.directions(&story.site);
    assert_eq!(told.last().unwrap(), "No garage has room: leave by East exit.");
    assert!(full.reason(&story.site).contains("leave by East exit. Ask again"));
    let way = full.way(&story.site);
    assert_eq!(way.last().copied(), story.site.node("x1"));
    // Some bays are in nobody's sight: there may be room.
    story.read(UnitIx(1), |bay| if bay < 60 { Sensed::Unknown } else { Sensed::Occupied });
    let unsure = story.arrive("r2", "p1", "car");
    assert_eq!((unsure.promise, unsure.lease), (Promise::Signs, None));
    assert_eq!(unsure.way(&story.site).last().copied(), story.site.node("g2-door"));
    let told = unsure.directions(&story.site);
    assert_eq!(told.last().unwrap(), "Follow the signs to g2: it may have room.");
    // No way out either.
    story.read_all(|_| Sensed::Occupied);
    story.close("node:x1", None);
    let shut = story.arrive("r3", "p1", "car").directions(&story.site);
    assert_eq!(shut, ["No garage has room: follow the signs to the surface."]);
}

#[test]
fn a_vehicle_of_which_only_the_place_is_known_gets_a_bay() {
    let mut story = story(|_| ());
    let given = story.arrive("own-1", "p1", "car");
    assert_eq!((given.promise, given.class), (Promise::Bay, ClassIx(0)));
}

#[test]
fn whatever_is_closed_is_given_to_nobody_until_its_time_is_over() {
    for (target, from, instead) in [
        ("g1/B1/A/004", "p1", "g1/B1/A/005"),
        ("g1/B1/A", "p1", "g1/B1/B/001"),
        ("g1/B1", "p1", "g2/B1/A/001"),
        ("g1", "p1", "g2/B1/A/001"),
        ("node:g1-door", "p1", "g2/B1/A/001"),
        ("link:f1>g1-door", "p1", "g2/B1/A/001"),
        ("link:f2>f1", "f2", "g2/B1/A/001"),
    ] {
        let mut story = story(|_| ());
        story.close(target, Some(60));
        let given = story.arrive("r1", from, "car");
        assert_eq!(story.bay(&given), instead, "{target}");
        story.report(given.lease.unwrap(), Report::Cancelled);
        story.keep_alive(60_000);
        let after = story.arrive("r2", "p1", "car");
        assert_eq!(story.bay(&after), "g1/B1/A/004", "{target} opens by itself");
    }
}

#[test]
fn a_class_is_what_the_site_says_it_is() {
    // Disabled, family, VIP and permit are classes like any other: who may use which bay, and at
    // what penalty, stands in the configuration.
    let mut site = site();
    let special = ClassIx(site.classes.len() as u32);
    let class = site.classes[0].clone();
    let may_use = vec![(special, 0), (ClassIx(0), 60)];
    site.classes.push(Class { id: "permit".to_owned(), may_use, ..class });
    let bay = site.target("g1/B1/B/030");
    let Some(crate::site::Target::Bay(bay)) = bay else { panic!("no bay") };
    site.bays[bay.at()].class = special;
    let tuning = GuidanceTable { debounce_ms: 0, price_class_s: 0, ..GuidanceTable::default() };
    let mut story = Story::at(site, tuning);
    story.read_all(|_| Sensed::Free);
    for round in 0..60 {
        let given = story.arrive(&format!("c{round}"), "p1", "car");
        assert_ne!(given.bay, Some(bay), "no permit, no bay of theirs");
    }
    let first = story.arrive("p1", "p1", "permit");
    assert_eq!(first.bay, Some(bay));
    let second = story.arrive("p2", "p1", "permit");
    assert!(second.bay.is_some_and(|other| other != bay), "where theirs are taken, any other");
}
