//! The write machine as tables, and against a naive device.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const ALL: fn(usize) -> bool = |_| true;

#[test]
fn neighbours_share_a_write_and_strangers_do_not() {
    let mut orders = orders(&[(0, 0), (0, 1), (0, 3), (1, 4)]);
    (0..4).for_each(|slot| orders.want(slot, &[slot as u16 + 10]));
    let batches = drain(&mut orders, Mono(5));
    assert_eq!(batches, [(0, 0, vec![10, 11]), (0, 3, vec![12]), (1, 4, vec![13])]);
    assert!(orders.next(Mono(5), ALL).is_none());
}

#[test]
fn a_write_never_carries_more_than_the_unit_takes() {
    for (table, cap, count, expected) in [
        (Table::Holding, 123, 250, vec![123, 123, 4]),
        (Table::Holding, 8, 20, vec![8, 8, 4]),
        (Table::Holding, 1, 3, vec![1, 1, 1]),
        (Table::Coil, 1_968, 2_000, vec![1_968, 32]),
    ] {
        let place = |first| Place { table, cap, ..place(0, first) };
        let mut orders = Orders::new(&(0..count).map(place).collect::<Vec<_>>());
        (0..usize::from(count)).for_each(|slot| orders.want(slot, &[1]));
        let sizes: Vec<usize> =
            drain(&mut orders, Mono(0)).into_iter().map(|batch| batch.2.len()).collect();
        assert_eq!(sizes, expected, "{table:?} of {cap}");
    }
}

#[test]
fn what_is_wider_than_a_write_goes_out_in_parts() {
    for (cap, expected) in [
        (1, vec![(0, vec![1]), (1, vec![2]), (2, vec![3]), (3, vec![4]), (4, vec![9])]),
        (3, vec![(0, vec![1, 2, 3]), (3, vec![4]), (4, vec![9])]),
        (5, vec![(0, vec![1, 2, 3, 4, 9])]),
    ] {
        let wide = Place { width: 4, cap, ..place(0, 0) };
        let mut orders = Orders::new(&[wide, Place { cap, ..place(0, 4) }]);
        orders.want(0, &[1, 2, 3, 4]);
        orders.want(1, &[9]);
        let mut parts: Vec<_> = drain(&mut orders, Mono(0))
            .into_iter()
            .map(|(_, first, words)| (first, words))
            .collect();
        parts.sort();
        assert_eq!(parts, expected, "a cap of {cap}");
        assert!(orders.shown().all(|shown| shown.confirmed));
    }
}

#[test]
fn a_newer_value_begins_a_wide_place_anew() {
    let mut orders = Orders::new(&[Place { width: 3, cap: 1, ..place(0, 0) }]);
    orders.want(0, &[1, 2, 3]);
    let first = write(&mut orders, Mono(0));
    orders.written(Mono(0), Mono(0), first);
    orders.want(0, &[7, 8, 9]);
    let values: Vec<_> = drain(&mut orders, Mono(0)).into_iter().map(|batch| batch.2).collect();
    assert_eq!(values, [[7], [8], [9]]);
}

#[test]
fn only_what_changed_goes_out_and_small_gaps_with_it() {
    let lamp =
        |first| Place { table: Table::Coil, cap: 1_968, kind: Kind::Lamp, ..place(0, first) };
    let mut orders = Orders::new(&(0..630).map(lamp).collect::<Vec<_>>());
    (0..630).for_each(|slot| orders.want(slot, &[0]));
    assert_eq!(drain(&mut orders, Mono(0)).len(), 1);
    for slot in [3, 5, 40, 300, 301, 629] {
        orders.want(slot, &[1]);
    }
    let batches = drain(&mut orders, Mono(1));
    let sizes: Vec<_> = batches.iter().map(|batch| (batch.1, batch.2.len())).collect();
    assert_eq!(sizes, [(3, 38), (300, 2), (629, 1)]);
    assert_eq!(batches[0].2[..3], [1, 0, 1]);
}

#[test]
fn refreshes_come_together_even_where_changes_did_not() {
    let mut orders = orders(&(0..100).map(|n| (0, n)).collect::<Vec<_>>());
    (0..100).for_each(|slot| orders.want(slot, &[0]));
    drain(&mut orders, Mono(0));
    let mut now = Mono(0);
    for second in 1..60 {
        now = Mono(0).plus_ms(second * 1_000);
        orders.want(second as usize, &[1]);
        assert_eq!(drain(&mut orders, now).len(), 1);
    }
    assert!(orders.shown().all(|shown| shown.confirmed));
    let mut writes = 0;
    for second in 60..180 {
        now = now.max(Mono(0).plus_ms(second * 1_000));
        writes += drain(&mut orders, now).len();
    }
    assert!((2..=6).contains(&writes), "{writes} writes in two minutes");
}

#[test]
fn the_newest_value_wins_and_a_failed_one_is_never_sent_again() {
    let mut orders = orders(&[(0, 0)]);
    orders.want(0, &[1]);
    assert_eq!(write(&mut orders, Mono(0)).values, [1]);
    orders.hold(0, Mono(0).plus_ms(1_000));
    orders.want(0, &[2]);
    orders.want(0, &[3]);
    assert_eq!(orders.next(Mono(0).plus_ms(999), ALL), None);
    assert_eq!(write(&mut orders, Mono(0).plus_ms(1_000)).values, [3]);
}

#[test]
fn a_refused_write_is_halved_and_only_the_bad_place_waits() {
    let (mut orders, mut jitter) =
        (orders(&(0..100).map(|n| (0, n)).collect::<Vec<_>>()), Jitter::new(3));
    (0..100).for_each(|slot| orders.want(slot, &[slot as u16]));
    let bad = |batch: &Batch| batch.values.contains(&41);
    let mut tries = 0;
    while let Some(Step::Write(batch)) = orders.next(Mono(0), ALL) {
        tries += 1;
        if bad(&batch) {
            orders.refused(Mono(0), &batch, &mut jitter);
        } else {
            orders.written(Mono(0), Mono(0), batch);
        }
    }
    assert!(tries <= 16, "{tries} writes to find one of a hundred");
    assert_eq!(orders.shown().filter(|shown| shown.confirmed).count(), 99);
    let mut tries = 0;
    for second in 0..3_600 {
        let now = Mono(0).plus_ms(second * 1_000);
        while let Some(Step::Write(batch)) = orders.next(now, ALL) {
            if bad(&batch) {
                assert_eq!(batch.values.len(), 1, "a known bad place takes others along");
                tries += 1;
                orders.refused(now, &batch, &mut jitter);
            } else {
                orders.written(now, now, batch);
            }
        }
    }
    assert!((60..=90).contains(&tries), "{tries} tries in an hour");
    assert_eq!(orders.shown().filter(|shown| shown.confirmed).count(), 99);
}

#[test]
fn a_value_that_was_refused_does_not_delay_a_newer_one() {
    let (mut orders, mut jitter) = (orders(&[(0, 0)]), Jitter::new(3));
    orders.want(0, &[1]);
    for _ in 0..5 {
        let now = orders.due(|_| Mono(0)).unwrap();
        let batch = write(&mut orders, now);
        orders.refused(now, &batch, &mut jitter);
        assert_eq!(orders.next(now, ALL), None, "the same again would be refused again");
    }
    let now = Mono(0).plus_ms(1);
    orders.want(0, &[2]);
    assert_eq!(write(&mut orders, now).values, [2]);
}

#[test]
fn an_unanswered_write_is_halved_until_one_place_waits_alone() {
    let (mut orders, mut jitter) =
        (orders(&(0..16).map(|n| (0, n)).collect::<Vec<_>>()), Jitter::new(3));
    (0..16).for_each(|slot| orders.want(slot, &[slot as u16]));
    let (mut now, mut sizes) = (Mono(0), Vec::new());
    while sizes.len() < 60 {
        now = orders.due(|_| now).unwrap();
        let batch = write(&mut orders, now);
        if batch.values.contains(&11) {
            sizes.push(batch.values.len());
            orders.hold(0, now.plus_ms(1_000));
            orders.unanswered(now, &batch, &mut jitter);
        } else {
            orders.written(now, now, batch);
        }
    }
    assert_eq!(sizes[..5], [16, 8, 4, 2, 1]);
    assert!(now > Mono(0).plus_ms(50 * 30_000), "{now:?}: it is tried ever more rarely");
    assert_eq!(drain(&mut orders, now.plus_ms(1_000)).len(), 2, "those on both sides of it");
}

#[test]
fn what_was_not_taken_is_due_again_by_order() {
    let (mut orders, mut jitter) = (orders(&[(0, 0), (1, 0)]), Jitter::new(3));
    (0..2).for_each(|slot| orders.want(slot, &[9]));
    for _ in 0..2 {
        let batch = write(&mut orders, Mono(0));
        orders.refused(Mono(0), &batch, &mut jitter);
    }
    assert_eq!(orders.next(Mono(1), ALL), None);
    orders.again(1);
    assert_eq!(drain(&mut orders, Mono(1)), [(1, 0, vec![9])]);
}

#[test]
fn what_may_be_forgotten_is_written_again() {
    let mut orders = orders(&[(0, 0), (1, 0)]);
    orders.want(0, &[1]);
    orders.want(1, &[2]);
    assert_eq!(drain(&mut orders, Mono(0)).len(), 2);
    orders.forget(Some(1));
    assert_eq!(drain(&mut orders, Mono(1)), [(1, 0, vec![2])]);
    orders.forget(None);
    assert_eq!(drain(&mut orders, Mono(2)).len(), 2);
    assert_eq!(drain(&mut orders, Mono(2) + REFRESH - Duration::from_nanos(1)), []);
    assert_eq!(drain(&mut orders, Mono(2) + REFRESH).len(), 2);
}

#[test]
fn what_reads_back_otherwise_is_counted_told_once_and_written_again_ever_more_rarely() {
    let mut jitter = Jitter::new(5);
    let checked = |first| Place { read_back: true, ..place(0, first) };
    let mut orders = Orders::new(&[checked(0), checked(1)]);
    orders.want(0, &[1]);
    orders.want(1, &[2]);
    let (mut wrong, mut news, mut writes) = (0, 0, 0);
    for second in 0..600 {
        let now = Mono(0).plus_ms(second * 1_000);
        while let Some(step) = orders.next(now, ALL) {
            match step {
                Step::Write(batch) => {
                    writes += 1;
                    orders.written(now, now, batch);
                    assert!(orders.next(now, |_| false).is_none(), "not asked where it may not");
                }
                Step::ReadBack(batch) => {
                    // Place 1 keeps its own mind until minute five.
                    let sticks = |n: u16| if n == 2 && second < 300 { 99 } else { n };
                    let values: Vec<u16> = batch.values.iter().map(|n| sticks(*n)).collect();
                    for mismatch in orders.read_back(now, now, &batch, &values, &mut jitter) {
                        assert_eq!(mismatch.slot, 1);
                        (wrong, news) = (wrong + 1, news + u32::from(mismatch.news));
                    }
                }
            }
        }
        let shown: Vec<bool> = orders.shown().map(|shown| shown.confirmed).collect();
        assert!(shown[0] && (second < 300) >= !shown[1] || second < 361, "second {second}");
    }
    assert_eq!(news, 1);
    assert!((8..=13).contains(&wrong), "{wrong} mismatches in five minutes");
    assert!(writes < 40, "{writes}");
    assert!(orders.shown().all(|shown| shown.confirmed));
}

#[test]
fn a_newer_value_than_the_one_read_back_is_written_at_once() {
    let mut orders = Orders::new(&[Place { read_back: true, ..place(0, 0) }]);
    orders.want(0, &[1]);
    let batch = write(&mut orders, Mono(0));
    orders.written(Mono(0), Mono(0), batch);
    orders.want(0, &[2]);
    let Some(Step::ReadBack(batch)) = orders.next(Mono(0), ALL) else { panic!("it is read back") };
    assert_eq!(orders.read_back(Mono(0), Mono(0), &batch, &[1], &mut Jitter::new(1)), []);
    assert_eq!(write(&mut orders, Mono(0)).values, [2]);
}

#[test]
fn a_busy_sign_waits_for_one_lamp_at_a_time_and_lamps_get_every_second_write() {
    let lamp = |first| Place { kind: Kind::Lamp, cap: 1, ..place(0, first) };
    let mut places = vec![place(0, 0)];
    places.extend((1..=50).map(lamp));
    let mut orders = Orders::new(&places);
    (0..=50).for_each(|slot| orders.want(slot, &[0]));
    let (mut writes, mut waited) = (0, false);
    while orders.shown().skip(1).any(|shown| !shown.confirmed) {
        // A new value before every single write.
        writes += 1;
        orders.want(0, &[writes]);
        let batch = write(&mut orders, Mono(0));
        let waits = batch.first > 0;
        assert!(!(waits && waited), "the sign waits for more than one lamp at write {writes}");
        waited = waits;
        orders.written(Mono(0), Mono(0), batch);
        assert!(writes <= 104, "lamps do not get every second write");
    }
}

#[test]
fn what_was_to_be_read_back_is_written_anew_after_a_loss() {
    let lose: [fn(&mut Orders); 2] =
        [|orders| orders.hold(0, Mono(0).plus_ms(1_000)), |orders| orders.forget(None)];
    for (lose, due_ms) in lose.into_iter().zip([1_000, 0]) {
        let mut orders = Orders::new(&[Place { read_back: true, ..place(0, 0) }]);
        orders.want(0, &[1]);
        let batch = write(&mut orders, Mono(0));
        orders.written(Mono(0), Mono(0), batch);
        lose(&mut orders);
        assert_eq!(orders.due(|_| Mono(0)), Some(Mono(0).plus_ms(due_ms)));
        assert_eq!(write(&mut orders, Mono(0).plus_ms(due_ms)).values, [1]);
    }
}

#[test]
fn before_a_stop_signs_go_first_and_only_what_is_not_shown() {
    let lamp = |first| Place { kind: Kind::Lamp, cap: 1, ..place(0, first) };
    let mut orders = Orders::new(&[lamp(0), lamp(1), lamp(2), place(0, 9), place(0, 20)]);
    orders.want(0, &[1]);
    drain(&mut orders, Mono(0));
    (1..5).for_each(|slot| orders.want(slot, &[1]));
    orders.last_call();
    let mut firsts = Vec::new();
    while let Some(Step::Write(batch)) = orders.next(Mono(1), ALL) {
        firsts.push(batch.first);
        orders.written(Mono(1), Mono(1), batch);
    }
    assert_eq!(firsts, [9, 20, 1, 2]);
}

/// What may happen to a line.
#[derive(Clone, Debug)]
enum Event {
    Want {
        slot: usize,
        value: u16,
    },
    /// Some steps of work.
    Work {
        steps: u8,
    },
    Pass {
        ms: u32,
    },
    /// From now on a unit does so.
    Mood {
        unit: usize,
        mood: Mood,
    },
    /// The connection is lost; devices may have started anew.
    Lost,
    /// A device loses power for a moment, and nobody tells.
    Blackout {
        unit: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mood {
    Well,
    Silent,
    /// Executes, but its answer is lost.
    Deaf,
    Refuses,
    /// Refuses writes that hold this item.
    RefusesItem(u16),
    /// Takes the write and keeps something else.
    Garbles,
}

/// A device that does as it is told: all it knows are its items.
#[derive(Default)]
struct Device {
    items: BTreeMap<u16, u16>,
}

/// A line on virtual time: the machine, naive devices, and what was wanted of each item when.
struct World {
    orders: Orders,
    places: Vec<Place>,
    devices: Vec<Device>,
    moods: Vec<Mood>,
    wanted: BTreeMap<usize, Vec<u16>>,
    jitter: Jitter,
    now: Mono,
    writes: u64,
}

impl World {
    fn new(places: Vec<Place>) -> World {
        World {
            orders: Orders::new(&places),
            places,
            devices: (0..3).map(|_| Device::default()).collect(),
            moods: vec![Mood::Well; 3],
            wanted: BTreeMap::new(),
            jitter: Jitter::new(7),
            now: Mono(0),
            writes: 0,
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Want { slot, value } => {
                let slot = slot % self.places.len();
                let place = self.places[slot];
                let value = if place.table.is_bits() { value % 2 } else { value };
                let values: Vec<u16> = (0..place.width).map(|n| value.wrapping_add(n)).collect();
                self.orders.want(slot, &values);
                self.wanted.insert(slot, values);
            }
            Event::Work { steps } => (0..steps).for_each(|_| self.work()),
            Event::Pass { ms } => self.now = self.now.plus_ms(ms.into()),
            Event::Mood { unit, mood } => self.moods[unit] = mood,
            Event::Lost => self.orders.forget(None),
            Event::Blackout { unit } => self.devices[unit].items.clear(),
        }
    }

    fn work(&mut self) {
        let now = self.now;
        match self.orders.next(now, ALL) {
            None => (),
            Some(Step::Write(batch)) => self.write(batch),
            Some(Step::ReadBack(batch)) => match self.moods[batch.unit] {
                Mood::Silent | Mood::Deaf => self.fail(batch.unit),
                Mood::Refuses => self.orders.refused(now, &batch, &mut self.jitter),
                Mood::Well | Mood::RefusesItem(_) | Mood::Garbles => {
                    let items = &self.devices[batch.unit].items;
                    let at = |n| items.get(&(batch.first + n)).copied().unwrap_or(0);
                    let values: Vec<u16> = (0..batch.values.len() as u16).map(at).collect();
                    self.orders.read_back(now, now, &batch, &values, &mut self.jitter);
                }
            },
        }
    }

    fn write(&mut self, batch: Batch) {
        self.writes += 1;
        self.is_allowed(&batch);
        let now = self.now;
        let last = batch.first + (batch.values.len() - 1) as u16;
        let refuses = match self.moods[batch.unit] {
            Mood::Refuses => true,
            Mood::RefusesItem(item) => (batch.first..=last).contains(&item),
            Mood::Well | Mood::Silent | Mood::Deaf | Mood::Garbles => false,
        };
        if refuses {
            return self.orders.refused(now, &batch, &mut self.jitter);
        }
        if self.moods[batch.unit] != Mood::Silent {
            let garbles = self.moods[batch.unit] == Mood::Garbles;
            let items = (batch.first..).zip(&batch.values);
            let items = items.map(|(item, value)| (item, if garbles { 77 } else { *value }));
            self.devices[batch.unit].items.extend(items);
        }
        match self.moods[batch.unit] {
            Mood::Silent | Mood::Deaf => self.fail(batch.unit),
            _ => self.orders.written(now, now, batch),
        }
    }

    fn fail(&mut self, unit: usize) {
        self.orders.hold(unit, self.now.plus_ms(1_000));
    }

    /// Every item of a write is what is wanted of it now, and the unit takes that many.
    fn is_allowed(&self, batch: &Batch) {
        for (item, value) in (batch.first..).zip(&batch.values) {
            let ours = |place: &&Place| {
                place.unit == batch.unit
                    && place.table == batch.table
                    && (place.first..place.first + place.width).contains(&item)
            };
            let slot = self.places.iter().position(|place| ours(&place)).expect("a place of ours");
            let place = self.places[slot];
            let wanted = self.wanted[&slot][usize::from(item - place.first)];
            assert_eq!(*value, wanted, "item {item} of unit {} is stale", batch.unit);
            assert!(batch.values.len() <= usize::from(place.cap), "above the unit's limit");
        }
    }

    /// All is well from now on; after two refreshes everything is as it should be.
    fn calm(&mut self) {
        self.moods.fill(Mood::Well);
        let end = self.now.plus_ms(130_000);
        while self.now < end {
            let before = self.writes;
            for _ in 0..200 {
                self.work();
            }
            assert!(self.writes - before < 150, "it writes without end");
            self.now = self.now.plus_ms(500);
        }
    }

    fn is_right(&self) {
        for (slot, wanted) in &self.wanted {
            let place = self.places[*slot];
            for (item, value) in (place.first..).zip(wanted) {
                let holds = self.devices[place.unit].items.get(&item);
                assert_eq!(holds, Some(value), "item {item} of unit {}", place.unit);
            }
        }
        let shown = self.orders.shown().enumerate();
        for (slot, shown) in shown {
            assert_eq!(shown.wanted, self.wanted.contains_key(&slot));
            assert_eq!(shown.wanted, shown.confirmed, "slot {slot}");
        }
    }
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        Just(Mood::Well),
        Just(Mood::Silent),
        Just(Mood::Deaf),
        Just(Mood::Refuses),
        (0..40u16).prop_map(Mood::RefusesItem),
        Just(Mood::Garbles),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..100usize, any::<u16>()).prop_map(|(slot, value)| Event::Want { slot, value }),
        6 => (1..20u8).prop_map(|steps| Event::Work { steps }),
        3 => (1..70_000u32).prop_map(|ms| Event::Pass { ms }),
        2 => (0..3usize, mood()).prop_map(|(unit, mood)| Event::Mood { unit, mood }),
        1 => Just(Event::Lost),
        1 => (0..3usize).prop_map(|unit| Event::Blackout { unit }),
    ]
}

/// Unit 0: a panel of numbers and texts; unit 1: lamps in coils; unit 2: outputs, one at a time.
/// Coils and registers of a device never share an address here.
fn world() -> World {
    let mut places: Vec<Place> = (0..20).map(|first| place(0, first)).collect();
    places.extend((0..4).map(|n| Place { width: 5, cap: 3, ..place(0, 30 + 5 * n) }));
    let lamp = |first| Place { table: Table::Coil, kind: Kind::Lamp, cap: 16, ..place(1, first) };
    places.extend((0..40).map(lamp));
    let output = |first| Place { kind: Kind::Output, cap: 1, read_back: true, ..place(2, first) };
    places.extend((0..8).map(output));
    places.extend((20..30).map(|first| Place { read_back: true, ..place(2, first) }));
    World::new(places)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happened: nothing stale was ever written, nothing above a unit's limit; and once
    /// all is well everything shows the newest, so nothing starves.
    #[test]
    fn at_calm_every_item_is_the_newest(events in proptest::collection::vec(event(), 1..120)) {
        let mut world = world();
        events.iter().for_each(|event| world.happen(event));
        world.calm();
        world.is_right();
    }

    /// One unit that fails in any way keeps no other from being written.
    #[test]
    fn a_bad_unit_keeps_nothing_from_the_others(
        events in proptest::collection::vec(event(), 1..60),
        bad in mood(),
    ) {
        let mut world = world();
        events.iter().for_each(|event| world.happen(event));
        world.moods.fill(Mood::Well);
        world.moods[0] = bad;
        let end = world.now.plus_ms(130_000);
        while world.now < end {
            (0..100).for_each(|_| world.work());
            world.now = world.now.plus_ms(500);
        }
        for (slot, shown) in world.orders.shown().enumerate() {
            prop_assert!(shown.unit == 0 || shown.wanted == shown.confirmed, "slot {}", slot);
        }
    }
}

fn place(unit: usize, first: u16) -> Place {
    Place {
        unit,
        table: Table::Holding,
        first,
        width: 1,
        kind: Kind::Sign,
        cap: 123,
        replies: true,
        read_back: false,
    }
}

fn orders(places: &[(usize, u16)]) -> Orders {
    Orders::new(&places.iter().map(|(unit, first)| place(*unit, *first)).collect::<Vec<_>>())
}

fn write(orders: &mut Orders, now: Mono) -> Batch {
    match orders.next(now, ALL) {
        Some(Step::Write(batch)) => batch,
        other => panic!("{other:?}"),
    }
}

fn drain(orders: &mut Orders, now: Mono) -> Vec<(usize, u16, Vec<u16>)> {
    let mut batches = Vec::new();
    while let Some(Step::Write(batch)) = orders.next(now, ALL) {
        batches.push((batch.unit, batch.first, batch.values.clone()));
        orders.written(now, now, batch);
    }
    batches.sort();
    batches
}
