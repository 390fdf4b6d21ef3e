//! Stories of lamps and outputs, and lamps against a naive recount.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::testing::Story;
use super::{Answer, Ask, Effect, Input, OutputMode, OutputView};
use crate::record::{Body, Lane, Sensed};
use crate::site::{BayIx, GarageState, UnitIx};

#[test]
fn a_lamp_follows_its_bay_and_only_a_change_is_written() {
    let mut story = Story::unseen();
    assert_eq!(lamps(&story), [], "a lamp was written before its bay was known");
    story.read_all(|_| Sensed::Free);
    let seen = lamps(&story);
    assert_eq!(seen.len(), 20, "every bay with a lamp, and no other");
    assert_eq!((seen[0].1.as_str(), seen[3].1.as_str()), ("blue", "green"));

    let from = story.effects.len();
    story.keep_alive(8_000);
    assert_eq!(lamps_since(&story, from), [], "nothing changed");
    story.fill(BayIx(5));
    story.fill(BayIx(30));
    assert_eq!(lamps_since(&story, from), [(5, "red".into())], "zone B has no lamps");

    let from = story.effects.len();
    let mine = story.arrive("r1", "p1", "car");
    let bay = mine.bay.unwrap();
    assert_eq!(lamps_since(&story, from), [(bay.0, "red".into())], "a promised bay");
    story.close("g1/B1/A", None);
    assert_eq!(lamps_since(&story, from).iter().filter(|(_, colour)| colour == "off").count(), 20);
    story.open("g1/B1/A");
    assert_eq!(lamp(&story, 0), "blue");
}

#[test]
fn a_fault_is_another_colour_than_a_silent_unit() {
    let mut story = Story::seen();
    story.pass(1_000);
    story.read_all(|bay| if bay == 2 { Sensed::Unknown } else { Sensed::Free });
    assert_eq!(lamp(&story, 2), "yellow");
    story.go_silent(UnitIx(0), 10_000);
    assert_eq!((lamp(&story, 2), lamp(&story, 9)), ("off".into(), "off".into()));
    story.read_all(|_| Sensed::Free);
    assert_eq!((lamp(&story, 2), lamp(&story, 9)), ("blue".into(), "green".into()));
}

#[test]
fn lamps_go_off_at_a_stop_where_that_is_configured() {
    let mut story = Story::seen();
    let from = story.effects.len();
    story.step(Input::Stopping);
    let off = lamps_since(&story, from);
    assert!(off.len() == 20 && off.iter().all(|(_, colour)| colour == "off"), "{off:?}");
}

#[test]
fn after_a_restart_a_lamp_waits_for_its_unit_and_is_then_written_once() {
    let mut story = Story::seen();
    let from = story.effects.len();
    story.restart("b1");
    story.tick(1_000);
    assert_eq!(lamps_since(&story, from), []);
    story.read_all(|_| Sensed::Free);
    assert_eq!(lamps_since(&story, from).len(), 20);
    // A unit that stays silent is known to be so after a while.
    let from = story.effects.len();
    story.restart("b1");
    story.tick(6_000);
    let off = lamps_since(&story, from);
    assert!(off.len() == 20 && off.iter().all(|(_, colour)| colour == "off"), "{off:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever happened, every lamp was last told what the table says of its bay.
    #[test]
    fn every_lamp_is_what_a_recount_says(
        steps in proptest::collection::vec((0..9u8, 0..50u32, any::<u64>()), 1..40),
    ) {
        let mut story = Story::seen();
        for (n, (what, bay, bits)) in steps.into_iter().enumerate() {
            story.pass(700);
            match what {
                0 => { story.arrive(&format!("r{n}"), "p1", "car"); }
                1 => { story.arrive(&format!("r{n}"), "p1", "ev"); }
                2 => story.close("g1/B1/A", Some(3)),
                3 => story.close("g1", Some(5)),
                4 => story.go_silent(UnitIx(0), 7_000),
                5 => story.tick(40_000),
                _ => story.read(UnitIx(0), |ix| match (bits >> (ix % 21) & 3, ix == bay) {
                    (0, _) => Sensed::Unknown,
                    (1, _) | (_, true) => Sensed::Occupied,
                    _ => Sensed::Free,
                }),
            }
            let told: BTreeMap<u32, String> = lamps(&story).into_iter().collect();
            for ix in 0..20 {
                let bay = story.gateway.bays.get(BayIx(ix));
                let fresh = story.gateway.units[0].fresh;
                let expected = match (bay.closures > 0 || bay.quarantine.is_some(), bay.sensed) {
                    (true, _) => "off",
                    (false, Sensed::Unknown) => if fresh { "yellow" } else { "off" },
                    (false, Sensed::Occupied) => "red",
                    (false, Sensed::Free) if bay.presumed.is_some() => "red",
                    (false, Sensed::Free) if bay.lease.is_some() => "red",
                    (false, Sensed::Free) if ix < 3 => "blue",
                    (false, Sensed::Free) => "green",
                };
                prop_assert_eq!(told[&ix].as_str(), expected, "bay {}, {:?}", ix, bay);
            }
        }
    }
}

#[test]
fn a_barrier_follows_its_garage_and_a_lost_unit_does_not_move_it() {
    let mut story = Story::unseen();
    assert!(switched(&story, "bar-1").is_empty(), "nothing is known");
    story.read_all(|_| Sensed::Free);
    assert_eq!(switched(&story, "bar-1"), [false]);
    story.read_all(|_| Sensed::Occupied);
    story.keep_alive(12_000);
    assert_eq!(switched(&story, "bar-1"), [false, true], "full, once that lasted");
    story.go_silent(UnitIx(0), 60_000);
    assert_eq!(view(&mut story, "bar-1").garage_state, GarageState::Unknown);
    assert_eq!(switched(&story, "bar-1"), [false, true], "a lost unit moved a barrier");
    story.read_all(|_| Sensed::Free);
    // Down a tier at a time.
    story.keep_alive(40_000);
    assert_eq!(switched(&story, "bar-1"), [false, true, false]);
    story.close("node:g1-door", None);
    assert_eq!(view(&mut story, "bar-1").garage_state, GarageState::Closed);
    story.open("node:g1-door");
    story.close("g1", None);
    story.open("g1");
    story.close("g1/B1", None);
    let expected = [false, true, false, true, false, true, false, true];
    assert_eq!(switched(&story, "bar-1"), expected);
    let told = story
        .bodies(Lane::Events)
        .filter(|body| matches!(body, Body::OutputSwitched { output, .. } if output == "bar-1"));
    assert_eq!(told.count(), expected.len());
}

#[test]
fn a_light_may_show_that_nothing_is_known_and_has_its_own_stop() {
    let mut story = Story::unseen();
    story.tick(0);
    assert_eq!(switched(&story, "light-2"), [true]);
    story.read_all(|_| Sensed::Free);
    assert_eq!(switched(&story, "light-2"), [true, false]);
    let from = switched(&story, "bar-1").len();
    story.step(Input::Stopping);
    assert_eq!(switched(&story, "light-2"), [true, false, true]);
    assert_eq!(switched(&story, "bar-1").len(), from, "a barrier that keeps moved at the stop");
}

#[test]
fn an_order_of_staff_wins_until_it_expires_also_over_a_restart() {
    let mut story = Story::seen();
    set(&mut story, OutputMode::On, Some(600));
    assert_eq!(switched(&story, "bar-1"), [false, true]);
    story.close("g1", None);
    story.open("g1");
    assert_eq!(switched(&story, "bar-1"), [false, true], "a closure moved what staff hold");
    story.keep_alive(200_000);
    story.restart("b1");
    assert_eq!(switched(&story, "bar-1"), [false, true, true], "written anew");
    let now = view(&mut story, "bar-1");
    assert_eq!((now.state, now.by.as_deref()), (OutputMode::On, Some("Li")));
    assert_eq!(now.expires_in_s, Some(400));
    story.read_all(|_| Sensed::Free);
    story.keep_alive(404_000);
    let now = view(&mut story, "bar-1");
    assert_eq!((now.state, now.on, now.by), (OutputMode::Auto, Some(false), None));
    let orders: Vec<(String, String)> = story
        .bodies(Lane::Events)
        .filter_map(|body| match body {
            Body::OutputMode { state, by, .. } => Some((state.clone(), by.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(orders, [("on".into(), "Li".into()), ("auto".into(), "expiry".into())]);
    // Under another boot the full length runs again.
    set(&mut story, OutputMode::Off, Some(600));
    story.keep_alive(100_000);
    story.restart("b2");
    assert_eq!(view(&mut story, "bar-1").expires_in_s, Some(600));
}

#[test]
fn a_restart_of_a_full_garage_does_not_open_its_barrier() {
    let mut story = Story::unseen();
    story.read_all(|_| Sensed::Occupied);
    story.keep_alive(12_000);
    assert_eq!(switched(&story, "bar-1"), [true], "not before it was known to be full");
    story.restart("b1");
    story.tick(500);
    story.read_all(|_| Sensed::Occupied);
    story.keep_alive(12_000);
    assert_eq!(switched(&story, "bar-1"), [true, true], "its barrier opened for a moment");
    let told = story
        .bodies(Lane::Events)
        .filter(|body| matches!(body, Body::OutputSwitched { output, .. } if output == "bar-1"));
    assert_eq!(told.count(), 1, "a restart is no switching");
}

fn set(story: &mut Story, mode: OutputMode, expires_s: Option<u64>) {
    let output = story.site.output("bar-1").unwrap();
    let by = "Li".to_owned();
    assert_eq!(story.ask(Ask::SetOutput { output, mode, by, expires_s }), Answer::Done);
}

fn view(story: &mut Story, id: &str) -> OutputView {
    story.gateway.snapshot().outputs.into_iter().find(|output| output.id == id).unwrap()
}

/// Every order for an output, in turn.
fn switched(story: &Story, id: &str) -> Vec<bool> {
    let ix = story.site.output(id).unwrap();
    let order = |effect: &Effect| match effect {
        Effect::Output { output, on } if *output == ix => Some(*on),
        _ => None,
    };
    story.effects.iter().filter_map(order).collect()
}

fn lamps(story: &Story) -> Vec<(u32, String)> {
    lamps_since(story, 0)
}

fn lamps_since(story: &Story, from: usize) -> Vec<(u32, String)> {
    let order = |effect: &Effect| match effect {
        Effect::Lamp { bay, colour } => {
            Some((bay.0, story.site.lamps.colours[colour.at()].clone()))
        }
        _ => None,
    };
    story.effects[from..].iter().filter_map(order).collect()
}

fn lamp(story: &Story, bay: u32) -> String {
    let all: BTreeMap<u32, String> = lamps(story).into_iter().collect();
    all[&bay].clone()
}
