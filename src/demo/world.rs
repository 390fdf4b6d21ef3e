//! The world of the demo: bays that really are taken or free, and the people who drive to them.
//!
//! A pure model: [`World::step`] is told the time and what the gateway answered, and says who asks
//! and which detectors and loops move. It knows what is true; the gateway only knows what its
//! detectors say. Time is the site's, in ms since the demo began, and runs as fast as the adapter
//! lets it.
//!
//! Drivers are no better than real ones: 15 of 100 ignore what they were told and take what they
//! see, which is how promised bays come to be taken.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::rng::Rng;
use crate::site::{BayIx, ClassIx, DestinationIx, GarageIx, NodeIx, NodeKind, Site, ZoneIx};

/// How the demo's people behave. All waits in site time.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    pub seed: u64,
    /// Arrivals a minute over the whole site.
    pub cars_a_minute: f64,
    /// Share of drivers who go where they were sent, in percent.
    pub obey_percent: u32,
    /// Share of bays taken at the beginning, in percent: each garage has its own around it.
    pub taken_percent: u32,
    /// Detectors that lie dead at the beginning; as many again may fail later.
    pub faults: usize,
}

impl Default for Habits {
    fn default() -> Habits {
        Habits { seed: 1, cars_a_minute: 30.0, obey_percent: 85, taken_percent: 70, faults: 20 }
    }
}

/// Garages a driver tries before going home.
const TRIES_MAX: u32 = 4;

/// From a garage where nothing was free to the next, in seconds.
const NEXT_GARAGE_S: f64 = 180.0;

/// From a taken bay to another one nearby, in seconds.
const NEXT_BAY_S: f64 = 40.0;

/// From a bay back to the door, in seconds.
const WAY_OUT_S: f64 = 60.0;

/// Share of the way that lies before the garage's door.
const DOOR_SHARE: f64 = 0.8;

/// A driver who found a taken bay tells the gateway this many times in a hundred.
const TELLS_PERCENT: u32 = 60;

/// Time between two detector failures or repairs, in seconds.
const FAULT_EVERY_S: f64 = 300.0;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CarIx(pub u64);

/// What the world is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// The gateway's answer to a car.
    Answered { car: CarIx, answer: Answer },
    /// Time passed.
    Tick,
}

/// What a car was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Given(Given),
    /// The gateway has nothing to promise.
    Refused,
    /// Nobody answered.
    Failed,
}

/// A promise, as far as it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    pub lease: String,
    pub garage: GarageIx,
    pub zone: Option<ZoneIx>,
    pub bay: Option<BayIx>,
    pub travel_s: u64,
}

/// What happens in the world.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A car asks for a bay.
    Ask { car: CarIx, at: NodeIx, class: ClassIx, destination: Option<DestinationIx> },
    /// A car found its promised bay taken and says so.
    Tell { car: CarIx, lease: String },
    /// A bay filled or emptied.
    Bay { bay: BayIx, taken: bool },
    /// A detector failed or was repaired.
    Fault { bay: BayIx, faulty: bool },
    /// A car passed the loops at a garage's door.
    Door { garage: GarageIx, way: Way },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    In,
    Out,
}

/// What has happened so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub arrived: u64,
    /// Asked or driving, now.
    pub under_way: u64,
    /// Stood in the very bay (or zone, or garage) that was promised.
    pub as_promised: u64,
    /// Stood somewhere else.
    pub elsewhere: u64,
    /// The gateway had nothing to promise.
    pub refused: u64,
    /// Nobody answered.
    pub unanswered: u64,
    /// Went home without a bay.
    pub gave_up: u64,
    /// Promised bays found taken.
    pub conflicts: u64,
    pub left: u64,
    /// Bays taken, now.
    pub taken: u64,
}

#[derive(Clone, Debug)]
struct Car {
    class: ClassIx,
    obeys: bool,
    given: Option<Given>,
    garage: GarageIx,
    tries: u32,
}

#[derive(Clone, Copy, Debug)]
enum Job {
    Arrive,
    /// Passes the loops of its garage.
    Enter(CarIx),
    /// Reaches the bay it has in mind.
    Park(CarIx),
    Leave(BayIx),
    Out(GarageIx),
    Faults,
}

pub struct World {
    site: Arc<Site>,
    habits: Habits,
    rng: Rng,
    now_ms: u64,
    /// What happens when; the second number keeps jobs of the same ms apart.
    agenda: BTreeMap<(u64, u64), Job>,
    jobs: u64,
    cars: BTreeMap<CarIx, Car>,
    taken: Vec<bool>,
    faulty: Vec<bool>,
    counts: Counts,
}

impl World {
    /// A site at an ordinary moment: partly full, cars about to leave, cars about to come.
    pub fn new(site: Arc<Site>, habits: Habits) -> World {
        let bays = site.bays.len();
        let mut world = World {
            site,
            habits,
            rng: Rng::new(habits.seed),
            now_ms: 0,
            agenda: BTreeMap::new(),
            jobs: 0,
            cars: BTreeMap::new(),
            taken: vec![false; bays],
            faulty: vec![false; bays],
            counts: Counts::default(),
        };
        world.fill();
        world.plan(0.0, Job::Arrive);
        world.plan(FAULT_EVERY_S, Job::Faults);
        world
    }

    fn fill(&mut self) {
        for garage in 0..self.site.garages.len() {
            let middle = f64::from(self.habits.taken_percent) / 100.0;
            let share = self.rng.between(middle - 0.2, (middle + 0.2).min(0.98));
            for bay in self.site.garages[garage].bays.clone() {
                self.taken[bay as usize] = self.rng.unit() < share;
            }
        }
        self.counts.taken = self.taken.iter().filter(|taken| **taken).count() as u64;
        // Spread so that as many leave a minute as come.
        let stay_s = self.counts.taken as f64 * 60.0 / self.habits.cars_a_minute;
        for bay in (0..).map(BayIx).take(self.taken.len()) {
            if self.taken[bay.at()] {
                let after_s = self.rng.between(0.0, stay_s);
                self.plan(after_s, Job::Leave(bay));
            }
        }
        for _ in 0..self.habits.faults {
            let bay = self.rng.below(self.faulty.len());
            self.faulty[bay] = true;
        }
    }

    pub fn taken(&self, bay: BayIx) -> bool {
        self.taken[bay.at()]
    }

    pub fn faulty(&self, bay: BayIx) -> bool {
        self.faulty[bay.at()]
    }

    pub fn counts(&self) -> Counts {
        Counts { under_way: self.cars.len() as u64, ..self.counts }
    }

    /// When something happens next, in ms.
    pub fn due_ms(&self) -> Option<u64> {
        self.agenda.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    /// Lets everything happen that is due, then takes the input in.
    pub fn step(&mut self, now_ms: u64, input: Input, effects: &mut Vec<Effect>) {
        let until_ms = now_ms.max(self.now_ms);
        while let Some(entry) = self.agenda.first_entry() {
            if entry.key().0 > until_ms {
                break;
            }
            let ((at_ms, _), job) = entry.remove_entry();
            self.now_ms = at_ms;
            self.happen(job, effects);
        }
        self.now_ms = until_ms;
        match input {
            Input::Answered { car, answer } => self.answered(car, answer),
            Input::Tick => (),
        }
    }

    fn plan(&mut self, after_s: f64, job: Job) {
        self.jobs += 1;
        let at_ms = self.now_ms + (after_s.max(0.0) * 1_000.0) as u64;
        self.agenda.insert((at_ms, self.jobs), job);
    }

    fn happen(&mut self, job: Job, effects: &mut Vec<Effect>) {
        match job {
            Job::Arrive => {
                self.arrive(effects);
                let wait_s = self.rng.wait(60.0 / self.habits.cars_a_minute);
                self.plan(wait_s, Job::Arrive);
            }
            Job::Enter(car) => {
                let Some(driver) = self.cars.get(&car) else { return };
                effects.push(Effect::Door { garage: driver.garage, way: Way::In });
                let way_s = driver.given.as_ref().map_or(200, |given| given.travel_s) as f64;
                self.plan(way_s * (1.0 - DOOR_SHARE), Job::Park(car));
            }
            Job::Park(car) => self.park(car, effects),
            Job::Leave(bay) => {
                self.taken[bay.at()] = false;
                self.counts.left += 1;
                self.counts.taken -= 1;
                effects.push(Effect::Bay { bay, taken: false });
                self.plan(WAY_OUT_S, Job::Out(self.site.bays[bay.at()].garage));
            }
            Job::Out(garage) => effects.push(Effect::Door { garage, way: Way::Out }),
            Job::Faults => {
                self.fault(effects);
                let wait_s = self.rng.wait(FAULT_EVERY_S);
                self.plan(wait_s, Job::Faults);
            }
        }
    }

    fn arrive(&mut self, effects: &mut Vec<Effect>) {
        self.counts.arrived += 1;
        let car = CarIx(self.counts.arrived);
        // Most are asked where they can still be steered.
        let kind = if self.rng.percent(70) { NodeKind::Approach } else { NodeKind::Portal };
        let at = self.some_node(kind);
        let class = self.some_class();
        let destinations = self.site.destinations.len();
        let destination = (destinations > 0 && self.rng.percent(80))
            .then(|| DestinationIx(self.rng.below(destinations) as u32));
        let obeys = self.rng.percent(self.habits.obey_percent);
        let garage = GarageIx(self.rng.below(self.site.garages.len()) as u32);
        self.cars.insert(car, Car { class, obeys, given: None, garage, tries: 0 });
        effects.push(Effect::Ask { car, at, class, destination });
    }

    fn some_node(&mut self, kind: NodeKind) -> NodeIx {
        let nodes = (0..).zip(&self.site.nodes);
        let mut fit: Vec<u32> = nodes.filter(|(_, n)| n.kind == kind).map(|(ix, _)| ix).collect();
        if fit.is_empty() {
            // A site without approaches asks at its portals; every site has one.
            let nodes = (0..).zip(&self.site.nodes);
            fit = nodes.filter(|(_, n)| n.kind == NodeKind::Portal).map(|(ix, _)| ix).collect();
        }
        NodeIx(fit[self.rng.below(fit.len())])
    }

    /// Vehicles come in the proportion of the bays that are made for them.
    fn some_class(&mut self) -> ClassIx {
        let bay = self.rng.below(self.site.bays.len());
        self.site.bays[bay].class
    }

    fn answered(&mut self, car: CarIx, answer: Answer) {
        let Some(driver) = self.cars.get_mut(&car) else { return };
        let again = driver.given.is_some();
        match answer {
            Answer::Given(given) if again => {
                // Told that its bay was taken: sent to another, which is near.
                driver.given = Some(given);
                self.plan(NEXT_BAY_S, Job::Park(car));
            }
            Answer::Given(given) => {
                let wait_s = given.travel_s as f64 * DOOR_SHARE;
                if driver.obeys {
                    driver.garage = given.garage;
                }
                driver.given = Some(given);
                let pace = self.rng.between(0.85, 1.25);
                self.plan(wait_s * pace, Job::Enter(car));
            }
            Answer::Refused | Answer::Failed if again => {
                driver.obeys = false;
                self.plan(NEXT_BAY_S, Job::Park(car));
            }
            Answer::Refused => {
                self.counts.refused += 1;
                self.cars.remove(&car);
            }
            Answer::Failed => {
                // As before there was a gateway: drive to some garage and look.
                self.counts.unanswered += 1;
                driver.obeys = false;
                let wait_s = self.rng.between(180.0, 420.0);
                self.plan(wait_s, Job::Enter(car));
            }
        }
    }

    /// A car stands before the bay it has in mind.
    fn park(&mut self, car: CarIx, effects: &mut Vec<Effect>) {
        let Some(driver) = self.cars.get(&car).cloned() else { return };
        let promised = driver.given.as_ref().filter(|_| driver.obeys);
        if let Some(bay) = promised.and_then(|given| given.bay) {
            if !self.taken[bay.at()] {
                self.counts.as_promised += 1;
                return self.stand(car, bay, effects);
            }
            self.counts.conflicts += 1;
            let lease = promised.map(|given| given.lease.clone()).unwrap_or_default();
            if driver.tries == 0 && self.rng.percent(TELLS_PERCENT) {
                self.try_again(car);
                effects.push(Effect::Tell { car, lease });
                return;
            }
        }
        let zone = promised.and_then(|given| given.zone);
        let near = promised.and_then(|given| given.bay);
        let garage = self.site.garages[driver.garage.at()].bays.clone();
        let zone_bays = zone.map(|zone| self.site.zones[zone.at()].bays.clone());
        let found = zone_bays.and_then(|bays| self.find(bays, driver.class, near));
        if let Some(bay) = found.or_else(|| self.find(garage, driver.class, near)) {
            // Without a bay in the promise, its zone or garage is what was promised.
            let kept = promised.is_some_and(|given| {
                let here = &self.site.bays[bay.at()];
                given.bay.is_none() && given.zone.is_none_or(|zone| zone == here.zone)
            });
            let count =
                if kept { &mut self.counts.as_promised } else { &mut self.counts.elsewhere };
            *count += 1;
            return self.stand(car, bay, effects);
        }
        // Nothing free: out again and on to some other garage, at most so many times.
        effects.push(Effect::Door { garage: driver.garage, way: Way::Out });
        if driver.tries >= TRIES_MAX {
            self.counts.gave_up += 1;
            self.cars.remove(&car);
            return;
        }
        self.try_again(car);
        let garage = GarageIx(self.rng.below(self.site.garages.len()) as u32);
        if let Some(driver) = self.cars.get_mut(&car) {
            driver.obeys = false;
            driver.garage = garage;
        }
        self.plan(NEXT_GARAGE_S, Job::Enter(car));
    }

    fn try_again(&mut self, car: CarIx) {
        if let Some(driver) = self.cars.get_mut(&car) {
            driver.tries += 1;
        }
    }

    fn stand(&mut self, car: CarIx, bay: BayIx, effects: &mut Vec<Effect>) {
        self.cars.remove(&car);
        self.taken[bay.at()] = true;
        self.counts.taken += 1;
        effects.push(Effect::Bay { bay, taken: true });
        // From ten minutes to eight hours, short stays more often than long ones.
        let stay_s = 600.0 * 48.0_f64.powf(self.rng.unit());
        self.plan(stay_s, Job::Leave(bay));
    }

    /// A free bay that the class may use: the nearest to `near`, else the first after some bay.
    fn find(&mut self, bays: Range<u32>, class: ClassIx, near: Option<BayIx>) -> Option<BayIx> {
        let may_use = &self.site.classes[class.at()].may_use;
        let fits = |bay: &u32| {
            let class = self.site.bays[*bay as usize].class;
            !self.taken[*bay as usize] && may_use.iter().any(|(used, _)| *used == class)
        };
        let free = bays.filter(fits);
        if let Some(near) = near {
            return free.min_by_key(|bay| bay.abs_diff(near.0)).map(BayIx);
        }
        let free: Vec<u32> = free.collect();
        let drawn = (!free.is_empty()).then(|| self.rng.below(free.len()));
        drawn.map(|ix| BayIx(free[ix]))
    }

    /// A detector fails, or one that failed is repaired, so that their number stays about even.
    fn fault(&mut self, effects: &mut Vec<Effect>) {
        let broken: Vec<usize> = (0..self.faulty.len()).filter(|ix| self.faulty[*ix]).collect();
        let repair = broken.len() > self.habits.faults && !broken.is_empty();
        let at = if repair {
            broken[self.rng.below(broken.len())]
        } else {
            self.rng.below(self.faulty.len())
        };
        self.faulty[at] = !repair;
        effects.push(Effect::Fault { bay: BayIx(at as u32), faulty: !repair });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Answers every car with a free bay of its class that nobody else holds, as a perfect
    /// gateway would, and plays some hours.
    struct Play {
        world: World,
        held: BTreeMap<CarIx, BayIx>,
        doors: BTreeMap<GarageIx, i64>,
        bays: u64,
    }

    #[test]
    fn people_who_obey_find_what_was_promised() {
        let mut play = Play::new(Habits { obey_percent: 100, ..Habits::default() });
        play.run(3_600_000);
        let counts = play.world.counts();
        assert!(counts.arrived > 1_600, "{counts:?}");
        assert_eq!(counts.conflicts, 0, "{counts:?}");
        assert_eq!(counts.elsewhere, 0, "{counts:?}");
        assert!(counts.as_promised > 1_400, "{counts:?}");
        play.check();
    }

    #[test]
    fn people_who_ignore_it_take_promised_bays() {
        let mut play = Play::new(Habits { taken_percent: 80, ..Habits::default() });
        play.run(2 * 3_600_000);
        let counts = play.world.counts();
        assert!(counts.conflicts > 0, "{counts:?}");
        let share = counts.elsewhere * 100 / (counts.elsewhere + counts.as_promised);
        assert!((10..22).contains(&share), "{counts:?}");
        play.check();
    }

    #[test]
    fn without_a_gateway_people_still_park() {
        let mut play = Play::new(Habits::default());
        let mut effects = Vec::new();
        for minute in 0..60 {
            play.world.step(minute * 60_000, Input::Tick, &mut effects);
            for effect in std::mem::take(&mut effects) {
                if let Effect::Ask { car, .. } = effect {
                    let answer = Answer::Failed;
                    play.world.step(minute * 60_000, Input::Answered { car, answer }, &mut effects);
                }
            }
        }
        let counts = play.world.counts();
        assert_eq!(counts.as_promised, 0, "{counts:?}");
        assert!(counts.elsewhere > 1_000, "{counts:?}");
        assert_eq!(counts.unanswered, counts.arrived);
    }

    #[test]
    fn the_same_seed_is_the_same_day() {
        let day = |seed| {
            let mut play = Play::new(Habits { seed, ..Habits::default() });
            play.run(900_000);
            play.world.counts()
        };
        assert_eq!(day(5), day(5));
        assert_ne!(day(5), day(6));
    }

    impl Play {
        fn new(habits: Habits) -> Play {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/jiefangbei/parkway.toml");
            let config = crate::config::load(std::path::Path::new(path)).expect("it is accepted");
            let world = World::new(Arc::new(config.site), habits);
            let bays = world.counts().taken;
            Play { world, held: BTreeMap::new(), doors: BTreeMap::new(), bays }
        }

        fn run(&mut self, until_ms: u64) {
            let mut effects = Vec::new();
            while let Some(due_ms) = self.world.due_ms().filter(|due_ms| *due_ms < until_ms) {
                self.world.step(due_ms, Input::Tick, &mut effects);
                for effect in std::mem::take(&mut effects) {
                    self.take(due_ms, effect);
                }
            }
        }

        fn take(&mut self, now_ms: u64, effect: Effect) {
            match effect {
                Effect::Ask { car, class, .. } => self.answer(now_ms, car, class),
                Effect::Tell { car, .. } => {
                    self.held.remove(&car);
                    let class = self.world.cars[&car].class;
                    self.answer(now_ms, car, class);
                }
                Effect::Bay { bay, taken } => {
                    assert_eq!(self.world.taken(bay), taken);
                    self.bays = if taken { self.bays + 1 } else { self.bays - 1 };
                    self.held.retain(|_, held| *held != bay);
                }
                Effect::Door { garage, way } => {
                    *self.doors.entry(garage).or_default() += if way == Way::In { 1 } else { -1 };
                }
                Effect::Fault { .. } => (),
            }
        }

        fn answer(&mut self, now_ms: u64, car: CarIx, class: ClassIx) {
            let site = self.world.site.clone();
            let held: BTreeSet<BayIx> = self.held.values().copied().collect();
            let fits = |bay: &BayIx| {
                site.bays[bay.at()].class == class && !self.world.taken(*bay) && !held.contains(bay)
            };
            let mut bays = (0..).map(BayIx).take(site.bays.len());
            let answer = match bays.find(fits) {
                None => Answer::Refused,
                Some(bay) => {
                    self.held.insert(car, bay);
                    let zone = site.bays[bay.at()].zone;
                    Answer::Given(Given {
                        lease: String::new(),
                        garage: site.bays[bay.at()].garage,
                        zone: Some(zone),
                        bay: Some(bay),
                        travel_s: 300,
                    })
                }
            };
            let mut effects = Vec::new();
            self.world.step(now_ms, Input::Answered { car, answer }, &mut effects);
            effects.into_iter().for_each(|effect| self.take(now_ms, effect));
        }

        /// What was told along the way adds up to what is true now.
        fn check(&self) {
            let counts = self.world.counts();
            assert_eq!(self.bays, counts.taken);
            assert_eq!(self.world.taken.iter().filter(|taken| **taken).count() as u64, self.bays);
            let ended = counts.as_promised + counts.elsewhere + counts.refused + counts.gave_up;
            assert_eq!(counts.arrived, ended + counts.under_way, "a car vanished: {counts:?}");
            assert!(self.doors.len() > 20, "few doors moved: {:?}", self.doors);
        }
    }
}
