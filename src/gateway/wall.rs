//! The wall clock decides nothing: the same story under any wall clock ends the same.
//!
//! Hours of signs and the night's reset are the stated exceptions, so the site here has neither;
//! that they bear a clock that is set is held beside them, in `board.rs` and `census.rs`.

use proptest::prelude::*;

use super::testing::Story;
use super::{Ask, Effect, Gateway, Identity, SignMode};
use crate::config::GuidanceTable;
use crate::record::{End, Sensed};
use crate::time::Wall;

const DAY_MS: i64 = 86_400_000;
const GOOD_MS: i64 = 1_795_000_000_000;

/// One act of a story, chosen by a number.
fn act(story: &mut Story, which: u8, ix: usize) {
    let request = format!("r{ix}");
    match which % 7 {
        0 | 1 => {
            let request = story.request(&request, "p1", "car");
            story.ask(Ask::Arrive(request));
        }
        2 => {
            let odd = u32::from(which / 7);
            story.read_all(|bay| if bay % 5 < odd % 5 { Sensed::Occupied } else { Sensed::Free });
        }
        3 => story.keep_alive(u64::from(which) * 500),
        4 => story.tick(u64::from(which) * 2_000),
        5 => story.close("g1", Some(60 + u64::from(which))),
        _ => {
            let sign = story.site.signs[0].id.clone();
            story.mode(&sign, SignMode::Full, Some(30 + u64::from(which)));
        }
    }
}

/// What a gateway did, without the wall clock's part in it.
fn deeds(effects: &[Effect]) -> Vec<Effect> {
    let mut deeds = effects.to_vec();
    for effect in &mut deeds {
        if let Effect::Record(record) = effect {
            record.at.wall = Wall(0);
        }
    }
    deeds
}

/// The story told to another gateway, with other wall times.
fn retold(story: &Story, wall: impl Fn(usize, Wall) -> Wall) -> Vec<Effect> {
    let tuning = GuidanceTable { debounce_ms: 0, ..GuidanceTable::default() };
    let identity = Identity { run: 1, boot: "b1".to_owned(), version: "0".to_owned() };
    let mut other = Gateway::new(story.site.clone(), tuning, identity);
    let mut facts = Vec::new();
    for (ix, (now, input, _)) in story.journal.iter().enumerate() {
        let mut now = *now;
        now.wall = wall(ix, now.wall);
        other.step(now, input.clone(), &mut facts);
    }
    let (teller, mut effects) = (other.teller(), Vec::new());
    facts.into_iter().for_each(|fact| teller.word(fact, &mut effects));
    deeds(&effects)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_wall_clock_leads_to_the_same_deeds(
        acts in prop::collection::vec(0_u8.., 1..40),
        walls in prop::collection::vec(
            prop_oneof![Just(0), Just(GOOD_MS), Just(i64::MAX), -DAY_MS * 30..GOOD_MS * 2],
            1..20,
        ),
    ) {
        let mut story = Story::seen();
        for (ix, which) in acts.into_iter().enumerate() {
            act(&mut story, which, ix);
        }
        let told = deeds(&story.effects);
        let other = retold(&story, |ix, _| Wall(walls[ix % walls.len()]));
        prop_assert_eq!(told, other);
    }
}

/// (what the wall clock does at the half of a lease's time): it ends when its time is over.
#[test]
fn a_lease_and_a_closure_end_by_the_other_clock() {
    let closed = |story: &mut Story| story.gateway.snapshot().garages[1].closed;
    for jump_ms in [0, DAY_MS, -DAY_MS, -GOOD_MS, i64::MAX / 2] {
        let mut story = Story::seen();
        story.now.wall = Wall(GOOD_MS);
        let given = story.arrive("r1", "p1", "car");
        story.close("g2", Some(100));
        let hold_ms = given.deadline.ms_since(story.now.mono);
        assert!(hold_ms > 110_000, "{hold_ms} ms are too short for this test");
        story.keep_alive(50_000);
        story.now.wall = Wall(story.now.wall.0.saturating_add(jump_ms).min(i64::MAX / 2));
        story.keep_alive(49_000);
        assert!(closed(&mut story), "closed less long, by {jump_ms}");
        story.keep_alive(2_000);
        assert!(!closed(&mut story), "closed for longer, by {jump_ms}");
        story.keep_alive(hold_ms - 101_000 - 1_000);
        assert_eq!(story.ends(), [], "ended early, by {jump_ms}");
        story.keep_alive(3_000);
        let ends: Vec<_> = story.ends().into_iter().map(|(_, end, _)| end).collect();
        assert_eq!(ends, [End::Expired], "by {jump_ms}");
    }
}
