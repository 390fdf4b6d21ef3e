//! What the gateway believes, as scenarios over hours: a controller that dies under load, sensors
//! that flap, stick and contradict, and the three counts of a garage.

use std::collections::BTreeSet;

use super::testing::Story;
use super::*;
use crate::record::{Promise, Sensed, SensorFault};
use crate::site::Face;

const G1: GarageIx = GarageIx(0);
const U1: UnitIx = UnitIx(0);

/// Cars under way: when they come and with what promise.
struct Driver {
    at: Mono,
    given: Allocation,
}

/// A garage as it is, whatever anybody knows of it.
struct Floor {
    story: Story,
    stands: BTreeSet<u32>,
    drivers: Vec<Driver>,
    asked: u32,
    dead: bool,
}

impl Floor {
    /// A minute passes: a car leaves garage 1, who is due comes in, one asks at the portal.
    fn minute(&mut self) -> Option<Promise> {
        if let Some(bay) = self.stands.range(3..50).nth(self.asked as usize % 7).copied() {
            self.stands.remove(&bay);
            self.story.counters[1] += 1;
        }
        let now = self.story.now.mono;
        let (here, left): (Vec<Driver>, _) = self.drivers.drain(..).partition(|d| d.at <= now);
        self.drivers = left;
        for driver in here {
            self.park(&driver);
        }
        self.read(60_000);
        self.asked += 1;
        let given = self.story.arrive(&format!("d{}", self.asked), "p1", "car");
        let promise = given.promise;
        self.drivers.push(Driver { at: now.plus_ms(60_000 + given.travel_s * 1_000), given });
        Some(promise)
    }

    fn park(&mut self, driver: &Driver) {
        let Some(garage) = driver.given.garage else { return };
        let bays = self.story.site.garages[garage.at()].bays.clone();
        let promised = driver.given.bay.filter(|bay| !self.stands.contains(&bay.0));
        let any = || bays.clone().find(|bay| *bay > 2 && !self.stands.contains(bay));
        let Some(bay) = promised.map(|bay| bay.0).or_else(any) else {
            panic!("a car was sent to {garage:?}, where no bay is empty");
        };
        self.stands.insert(bay);
        self.story.counters[0] += u32::from(garage == G1);
    }

    /// Units are read every two seconds; of a dead controller only its loops, which are elsewhere.
    fn read(&mut self, ms: u64) {
        for _ in 0..ms / 2_000 {
            self.story.pass(2_000);
            let stands = self.stands.clone();
            let state = |bay| if stands.contains(&bay) { Sensed::Occupied } else { Sensed::Free };
            // The loops are on the second unit.
            self.story.read(UnitIx(1), state);
            if !self.dead {
                self.story.read(U1, state);
            }
        }
    }
}

/// The door's loops on a unit of their own: they live on when the bays' controller dies.
#[test]
fn a_garage_whose_controller_dies_under_load_keeps_receiving_cars() {
    let mut story = Story::loops_apart();
    story.counters = [1_000, 1_000];
    let stands: BTreeSet<u32> = (3..45).chain(50..88).collect();
    let mut floor = Floor { story, stands, drivers: Vec::new(), asked: 0, dead: false };
    floor.read(10_000);
    for _ in 0..30 {
        floor.minute();
    }
    floor.dead = true;
    let mut promises = BTreeSet::new();
    let (mut into_dark, mut from) = (0, floor.story.effects.len());
    for minute in 0..180 {
        promises.extend(floor.minute());
        let given = &floor.drivers.last().expect("one just asked").given;
        if given.garage == Some(G1) && minute > 0 {
            assert_eq!(given.bay, None, "a bay that nobody can see was promised");
            into_dark += 1;
        }
        for effect in floor.story.effects.drain(from..) {
            if let Effect::Write { sign, face } = effect {
                let full = matches!(face, Face::Full | Face::Number(0));
                assert!(!(full && sign == SignIx(0)), "minute {minute}: the sign says {face}");
            }
        }
        from = floor.story.effects.len();
        let taken = floor.stands.range(3..50).count() as i64;
        let book = floor.story.gateway.ledger.occupied(G1).expect("it was seen");
        assert_eq!(book, taken, "minute {minute}: the ledger is wrong");
    }
    assert!(into_dark >= 100, "only {into_dark} cars were sent into the dark garage");
    assert!(promises.contains(&Promise::Zone), "{promises:?}");
}

#[test]
fn a_sensor_that_flaps_is_unknown_until_it_is_calm() {
    let mut story = Story::seen();
    story.tick(600_001);
    story.read_all(|_| Sensed::Free);
    let bay = BayIx(10);
    for n in 0..9 {
        story.pass(20_000);
        let other = if n % 2 == 0 { Sensed::Occupied } else { Sensed::Free };
        story.read_all(|ix| if ix == 10 { other } else { Sensed::Free });
    }
    assert!(story.gateway.bays.get(bay).is_unknown());
    let told = story.bay_events();
    for _ in 0..10 {
        story.keep_alive(20_000);
        story.read_all(|ix| if ix == 10 { Sensed::Occupied } else { Sensed::Free });
        story.read_all(|_| Sensed::Free);
    }
    assert_eq!(story.bay_events(), told, "it tells nothing while it flaps");
    story.read_all(|_| Sensed::Free);
    story.keep_alive(540_000);
    assert!(story.gateway.bays.get(bay).is_unknown(), "not calm for long enough");
    story.keep_alive(120_000);
    assert!(story.gateway.bays.get(bay).offerable());
    let faulty = |body: &&Body| match body {
        Body::SensorsFaulty { fault, named, .. } => {
            *fault == SensorFault::Flapping && named[0] == "g1/B1/A/011"
        }
        _ => false,
    };
    assert_eq!(story.bodies(Lane::Alarms).filter(faulty).count(), 1, "told once");
}

#[test]
fn a_bay_that_stays_free_while_its_zone_fills_goes_last_and_is_told_after_a_day() {
    let mut story = Story::seen();
    let quiet = BayIx(4);
    // All but three bays fill and empty again every two hours; one never does.
    for hour in 0..26 {
        let fills = hour % 2 == 0;
        let busy = move |ix: u32| fills && ix != quiet.0 && ix != 5 && ix != 6;
        story.read_all(|ix| if busy(ix) { Sensed::Occupied } else { Sensed::Free });
        if hour == 5 {
            let bay = story.gateway.bays.get(quiet);
            assert!(bay.doubt && bay.offerable(), "after three times, doubtful and not closed");
        }
        story.keep_alive(3_600_000);
    }
    let stuck: Vec<&Body> = story
        .bodies(Lane::Alarms)
        .filter(|body| matches!(body, Body::SensorsFaulty { fault: SensorFault::StuckFree, .. }))
        .collect();
    assert_eq!(stuck.len(), 1, "one record for all of a unit: {stuck:?}");
    let Body::SensorsFaulty { named, bays, .. } = stuck[0] else { panic!() };
    assert_eq!((named[0].as_str(), *bays), ("g1/B1/A/005", 3));
    story.fill(quiet);
    assert!(!story.gateway.bays.get(quiet).doubt, "a sensor that sees a car is not stuck");
}

#[test]
fn a_bay_that_is_never_left_is_told_after_three_days_once() {
    let mut story = Story::unseen();
    story.read_all(|ix| if ix == 7 { Sensed::Occupied } else { Sensed::Free });
    let told = |story: &Story| {
        let all = story.bodies(Lane::Alarms);
        all.filter(|body| matches!(body, Body::SensorsFaulty { .. })).count()
    };
    story.keep_alive(71 * 3_600_000);
    assert_eq!(told(&story), 0);
    story.keep_alive(49 * 3_600_000);
    assert_eq!(told(&story), 1);
}

#[test]
fn an_identified_vehicle_that_its_sensor_does_not_see_is_believed() {
    let mut story = Story::seen();
    let given = story.arrive("r1", "p1", "car");
    let bay = given.bay.unwrap();
    story.report(given.lease.unwrap(), Report::Parked(None));
    story.keep_alive(16_000);
    let state = *story.gateway.bays.get(bay);
    assert!(state.quarantine.is_some() && state.doubt && state.booked, "{state:?}");
    story.restart("b1");
    let state = *story.gateway.bays.get(bay);
    assert!(state.quarantine.is_some() && state.doubt && state.strikes == 1, "{state:?}");
}

#[test]
fn strikes_outlive_the_quarantine_and_a_restart_until_a_driver_is_seen_to_park() {
    let mut story = Story::seen();
    let given = story.arrive("r1", "p1", "car");
    let bay = given.bay.unwrap();
    story.report(given.lease.unwrap(), Report::BayTaken(None));
    story.keep_alive(601_000);
    assert_eq!(story.gateway.bays.get(bay).quarantine, None);
    story.restart("b2");
    assert_eq!(story.gateway.bays.get(bay).strikes, 1);
    story.gateway.quarantine(bay, &mut story.effects);
    let until = story.gateway.bays.get(bay).quarantine.unwrap();
    assert_eq!(until, story.now.mono.plus_ms(1_200_000));
}

#[test]
fn the_three_counts_of_a_garage_stand_side_by_side() {
    let mut story = Story::unseen();
    let stands = |bay| if bay < 10 { Sensed::Occupied } else { Sensed::Free };
    story.counters = [100, 90];
    story.read_all(stands);
    let cars = |story: &mut Story| {
        let garage = story.gateway.snapshot().garages.remove(0);
        (garage.cars, garage.count_error)
    };
    let expected = |sensed, counted, booked| Cars { sensed, counted: Some(counted), booked };
    assert_eq!(cars(&mut story), (expected(10, 10, 0), Some(0)));
    // One is led in; two more come by themselves, of which the loop misses one.
    let given = story.arrive("r1", "p1", "car");
    story.keep_alive(given.travel_s * 1_000);
    story.counters[0] += 2;
    let led = given.bay.unwrap().0;
    let more = |bay| {
        if bay == led || bay == 40 || bay == 41 { Sensed::Occupied } else { stands(bay) }
    };
    story.read_all(more);
    assert_eq!(cars(&mut story), (expected(13, 12, 1), Some(-1)));
    // Staff count.
    let (garage, by) = (G1, "me".to_owned());
    assert_eq!(story.ask(Ask::SetCount { garage, occupied: 13, by: by.clone() }), Answer::Done);
    assert_eq!(cars(&mut story), (expected(13, 13, 1), Some(0)));
    let refusal = Refusal::TooManyCars { garage, bays: 50 };
    let answer = story.ask(Ask::SetCount { garage, occupied: 51, by: by.clone() });
    assert_eq!(answer, Answer::Refused(refusal));
    let garage = GarageIx(1);
    let answer = story.ask(Ask::SetCount { garage, occupied: 1, by });
    assert_eq!(answer, Answer::Refused(Refusal::NotCounted(garage)));
    story.restart("b2");
    story.read_all(more);
    assert_eq!(cars(&mut story).0.counted, Some(13), "kept over a restart");
    let reset = Body::LedgerReset {
        garage: "g1".to_owned(),
        from: Some(12),
        to: 13,
        offset: 0,
        by: "me".to_owned(),
    };
    assert!(story.bodies(Lane::Events).any(|body| *body == reset));
}

#[test]
fn a_count_is_set_to_what_is_seen_each_night_and_waits_for_a_dark_unit() {
    let mut story = Story::with_nights(4 * 60, 3);
    // 1 March 2026, 02:00 UTC.
    story.now.wall = crate::time::Wall(1_772_330_400_000);
    story.counters = [100, 90];
    story.read_all(|bay| if bay < 10 { Sensed::Occupied } else { Sensed::Free });
    story.keep_alive(3_600_000);
    story.counters[0] += 7;
    story.read_all(|bay| if bay < 10 { Sensed::Occupied } else { Sensed::Free });
    let resets = |story: &Story| {
        let all = story.bodies(Lane::Events).filter_map(|body| match body {
            Body::LedgerReset { from, to, offset, by, .. } => {
                Some((*from, *to, *offset, by.clone()))
            }
            _ => None,
        });
        all.collect::<Vec<_>>()
    };
    story.keep_alive(3_540_000);
    assert_eq!(resets(&story), []);
    story.keep_alive(120_000);
    let night = || "night".to_owned();
    assert_eq!(resets(&story), [(Some(17), 13, 3, night())]);
    // The wall clock steps back an hour and comes to four again.
    story.now.wall.0 -= 3_600_000;
    story.keep_alive(2 * 3_600_000);
    assert_eq!(resets(&story).len(), 1);
    // The next night its controller is dark at four, and back at five.
    story.keep_alive(20 * 3_600_000);
    story.go_silent(U1, 4 * 3_600_000);
    assert_eq!(resets(&story).len(), 1);
    story.read_all(|bay| if bay < 12 { Sensed::Occupied } else { Sensed::Free });
    story.keep_alive(120_000);
    assert_eq!(resets(&story).last(), Some(&(Some(13), 15, 3, night())));
}
