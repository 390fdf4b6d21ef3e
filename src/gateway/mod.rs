//! The decision core: what each bay is, who holds it, what to offer next and what signs show.
//!
//! A [`Gateway`] does no IO and reads no clock. It is told what happened and when, through one
//! door, [`Gateway::step`], and says what must be done about it as [`Effect`]s. It has one owner
//! (`owner.rs`), so it has no locks; equal inputs give equal effects, so that any day can be
//! replayed in a test. Each step first expires what is due, then applies the input, then settles
//! what follows (ledger, fullness, signs), so that no input ever sees a stale promise.
//!
//! An unknown bay is never offered: a driver sent to a full bay is worse than a bay left empty.

mod arrow;
mod ask;
mod band;
mod bays;
#[cfg(test)]
mod board;
mod calm;
mod census;
mod choose;
mod close;
mod door;
#[cfg(test)]
mod fair;
mod fill;
mod full;
mod health;
#[cfg(test)]
mod history;
mod incident;
mod index;
mod keep;
mod lamp;
mod lease;
mod ledger;
#[cfg(test)]
mod liars;
mod life;
#[cfg(test)]
mod lives;
#[doc(hidden)]
pub mod measure;
mod order;
mod output;
mod passage;
mod precedence;
mod route;
mod sense;
mod show;
mod sign;
mod snapshot;
#[cfg(test)]
mod story;
#[cfg(test)]
mod switched;
mod telling;
#[cfg(test)]
pub mod testing;
mod timers;
#[cfg(test)]
mod truth;
mod turn;
mod unit;
#[cfg(test)]
mod wall;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use door::*;
pub use lease::Lease;
pub use precedence::Source;
pub use snapshot::*;
pub use telling::Teller;
pub use window::WINDOW_MS;

use crate::config::GuidanceTable;
use crate::record::{Body, Lane, Record};
use crate::site::{
    BayIx, ContactIx, GarageIx, LinkIx, NodeIx, OutputIx, SignIx, SignKind, Site, Target, UnitIx,
};
use crate::time::{Mono, Now};

/// What may fall due. Each handler checks again whether it is: a timer is only a reminder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Lease(LeaseId),
    Closure(Target),
    Quarantine(BayIx),
    Presumed(BayIx),
    Unit(UnitIx),
    Band(GarageIx),
    Sign(SignIx),
    Output(OutputIx),
    Order(SignIx),
    Schedules,
    Window,
}

/// Who this start of the gateway is; drawn by its owner.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Random, so that lease ids of two starts never meet.
    pub run: u32,
    /// The machine's boot: says whether a kept [`Mono`] still means anything.
    pub boot: String,
    pub version: String,
}

/// The decision core.
#[derive(Debug)]
pub struct Gateway {
    site: Arc<Site>,
    identity: Identity,
    tuning: GuidanceTable,
    limits: band::Thresholds,
    now: Now,
    timers: timers::Timers,
    issued: Ticket,
    next_lease: u32,
    started: bool,
    stopping: bool,
    units: Vec<unit::UnitState>,
    bays: bays::Bays,
    /// Last told upstream, by bay.
    told: telling::Told,
    routes: Arc<route::Routes>,
    doors: index::Doors,
    closed_nodes: BTreeSet<NodeIx>,
    closed_links: BTreeSet<LinkIx>,
    closures: BTreeMap<Target, close::Closure>,
    contact_states: Vec<incident::ContactState>,
    contacts_of: BTreeMap<UnitIx, Vec<ContactIx>>,
    /// By zone: how many incidents cover it.
    burning: Vec<u16>,
    leases: lease::Leases,
    vehicles: life::Vehicles,
    ledger: ledger::Ledger,
    trust: health::Trust,
    /// By garage, for those with loops.
    counts_of: Vec<census::Count>,
    /// By garage: its ledger was kept in this run.
    ledger_kept: Vec<bool>,
    bands: Vec<band::Band>,
    /// By garage: when its band was last armed for.
    bands_due: Vec<Option<Mono>>,
    /// By garage: enough of its bays are known for a fullness.
    bands_known: Vec<bool>,
    windows: Vec<window::Window>,
    window_since: Mono,
    signs: Vec<sign::SignState>,
    /// All signs were written once.
    faced: bool,
    /// Room for what a reading changed, as heard and as believed.
    heard: Vec<(BayIx, crate::record::Sensed)>,
    moves: Vec<unit::Move>,
    /// Room for the garages that a step changed.
    settled: Vec<GarageIx>,
    /// Count and direction signs by the garages they look at.
    signs_of: Vec<Vec<SignIx>>,
    directions: Vec<SignIx>,
    /// Ways or incidents changed: every direction sign wants a look.
    turned: bool,
    /// Signs with hours of their own.
    scheduled: Vec<SignIx>,
    call_outs: BTreeMap<NodeIx, Vec<SignIx>>,
    lamps: lamp::Lamps,
    outputs: Vec<output::OutputState>,
    outputs_of: Vec<Vec<OutputIx>>,
    /// Whether any bay of the site serves a class.
    served: Vec<bool>,
    counts: Counts,
    version: u64,
}

impl Gateway {
    /// A gateway that knows nothing yet: every bay unknown, every sign unwritten.
    pub fn new(site: Arc<Site>, tuning: GuidanceTable, identity: Identity) -> Gateway {
        let (no_nodes, no_links) = (BTreeSet::new(), BTreeSet::new());
        let weight = tuning.surface_weight_tenths;
        let routes = Arc::new(route::Routes::new(&site, weight, &no_nodes, &no_links));
        let mut bays = bays::Bays::new(site.clone());
        bays.retune(&tuning);
        Gateway {
            doors: index::Doors::new(&site, &tuning, &routes),
            routes,
            limits: limits(&tuning),
            now: Now::default(),
            timers: timers::Timers::default(),
            issued: Ticket(0),
            next_lease: 0,
            started: false,
            stopping: false,
            units: site.units.iter().map(|unit| unit::UnitState::new(&site, unit)).collect(),
            bays,
            told: telling::Told::new(&site),
            closed_nodes: no_nodes,
            closed_links: no_links,
            closures: BTreeMap::new(),
            contact_states: vec![incident::ContactState::default(); site.contacts.len()],
            contacts_of: incident::contacts_of(&site),
            burning: vec![0; site.zones.len()],
            leases: lease::Leases::new(&site, identity.run),
            vehicles: life::Vehicles::default(),
            ledger: ledger::Ledger::new(&site),
            trust: health::Trust::new(&site),
            counts_of: vec![census::Count::default(); site.garages.len()],
            ledger_kept: vec![false; site.garages.len()],
            bands: vec![band::Band::default(); site.garages.len()],
            bands_due: vec![None; site.garages.len()],
            bands_known: vec![false; site.garages.len()],
            windows: vec![window::Window::default(); site.garages.len()],
            window_since: Mono(0),
            signs: site.signs.iter().map(sign::SignState::new).collect(),
            faced: false,
            heard: Vec::new(),
            moves: Vec::new(),
            settled: Vec::new(),
            signs_of: show::signs_of(&site),
            directions: show::which(&site, |sign| matches!(sign.kind, SignKind::Direction { .. })),
            turned: false,
            scheduled: show::which(&site, |sign| !sign.schedule.is_empty()),
            call_outs: site.call_outs(),
            lamps: lamp::Lamps::new(&site),
            outputs: vec![output::OutputState::default(); site.outputs.len()],
            outputs_of: output::outputs_of(&site),
            served: ask::served(&site),
            counts: Counts::default(),
            version: 0,
            site,
            identity,
            tuning,
        }
    }

    /// The one door: applies an input at an instant, adds what must be done.
    ///
    /// # Panics
    ///
    /// Where `now` is before the last step's: time is the owner's to keep.
    pub fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        assert!(self.now.mono <= now.mono, "time went back");
        self.now = now;
        if !self.started {
            self.start();
        }
        self.expire(effects);
        // A unit lost just now must not promise the room of its last silence.
        self.refresh_ledger();
        match input {
            Input::Restore(kept) => self.restore(kept, effects),
            Input::Reading(reading) => self.reading(&reading, effects),
            Input::Asked { ask, reply } => self.asked(ask, reply, effects),
            Input::Notice(body) => self.record(Lane::Alarms, body, effects),
            Input::Retune(tuning) => self.retune(tuning),
            Input::Fallbacks(faces) => self.set_fallbacks(faces, effects),
            Input::Stopping => self.stop(effects),
            Input::Tick => (),
        }
        self.settle(effects);
    }

    /// When a step is wanted even if nothing happens.
    pub fn due(&self) -> Option<Mono> {
        self.timers.first()
    }

    /// What turns the facts of this gateway's effects into records and kept values.
    pub fn teller(&self) -> Teller {
        Teller::new(self.site.clone(), self.identity.boot.clone())
    }

    /// What has been ordered to be written so far.
    pub fn issued(&self) -> Ticket {
        self.issued
    }

    fn start(&mut self) {
        self.started = true;
        self.window_since = self.now.mono;
        self.arm(self.now.mono.plus_ms(window::WINDOW_MS), Timer::Window);
        if !self.scheduled.is_empty() {
            self.arm(self.now.mono, Timer::Schedules);
        }
        let stale = self.now.mono.plus_ms(u64::from(self.tuning.stale_ms));
        for unit in (0..self.units.len() as u32).map(UnitIx) {
            if self.units[unit.at()].polled {
                self.units[unit.at()].last_at = self.now.mono;
                self.arm(stale, Timer::Unit(unit));
            }
        }
    }

    fn expire(&mut self, effects: &mut Vec<Effect>) {
        while let Some(timer) = self.timers.pop_due(self.now.mono) {
            match timer {
                Timer::Lease(lease) => self.lease_due(lease, effects),
                Timer::Closure(target) => self.closure_due(target, effects),
                Timer::Quarantine(bay) => self.quarantine_due(bay, effects),
                Timer::Presumed(bay) => self.presumed_due(bay, effects),
                Timer::Unit(unit) => self.unit_due(unit, effects),
                Timer::Band(garage) => self.bays.touch(garage),
                Timer::Sign(sign) => self.show(sign, effects),
                Timer::Output(output) => self.output_due(output, effects),
                Timer::Order(sign) => self.order_due(sign, effects),
                Timer::Schedules => self.schedules_due(effects),
                Timer::Window => self.window_due(effects),
            }
        }
    }

    fn retune(&mut self, tuning: GuidanceTable) {
        let weights =
            |tuning: &GuidanceTable| (tuning.surface_weight_tenths, tuning.walk_weight_tenths);
        let reweighed = weights(&tuning) != weights(&self.tuning);
        self.bays.retune(&tuning);
        self.limits = limits(&tuning);
        self.tuning = tuning;
        if reweighed {
            self.reroute();
        }
        // A shorter patience counts from now on, not when the old one would have run out.
        for unit in (0..self.units.len() as u32).map(UnitIx) {
            if self.units[unit.at()].polled {
                self.arm(self.now.mono, Timer::Unit(unit));
            }
        }
        for garage in (0..self.site.garages.len() as u32).map(GarageIx) {
            self.bays.touch(garage);
        }
    }

    fn reroute(&mut self) {
        let weight = self.tuning.surface_weight_tenths;
        let (nodes, links) = (&self.closed_nodes, &self.closed_links);
        self.routes = Arc::new(route::Routes::new(&self.site, weight, nodes, links));
        self.doors = index::Doors::new(&self.site, &self.tuning, &self.routes);
        self.turned = true;
    }

    #[inline]
    fn arm(&mut self, due: Mono, timer: Timer) {
        self.timers.arm(due, timer);
    }

    fn record(&mut self, lane: Lane, body: Body, effects: &mut Vec<Effect>) {
        self.issued.0 += 1;
        effects.push(Effect::Record(Record::new(lane, self.now, body)));
    }

    /// Tells of a lease and keeps (or forgets) it.
    #[inline]
    fn tell_lease(&mut self, told: LeaseTold, lease: &Lease, effects: &mut Vec<Effect>) {
        self.issued.0 += if told == LeaseTold::Confirmed { 1 } else { 2 };
        effects.push(Effect::Lease { at: self.now, told, lease: lease.clone() });
    }

    fn keep(&mut self, key: String, value: Option<Vec<u8>>, effects: &mut Vec<Effect>) {
        self.issued.0 += 1;
        effects.push(Effect::Keep { key, value });
    }

    #[inline]
    fn answer(&self, reply: ReplyId, after: Ticket, answer: Answer, effects: &mut Vec<Effect>) {
        let by = self.now.mono.plus_ms(u64::from(self.tuning.commit_wait_ms));
        effects.push(Effect::Answer { reply, after, by, answer });
    }
}

fn limits(tuning: &GuidanceTable) -> band::Thresholds {
    let table = &tuning.fullness;
    band::Thresholds {
        rising: vec![table.almost_full_rising, table.full_rising],
        falling: vec![table.almost_full_falling, table.full_falling],
        dwell_ms: u64::from(table.dwell_s) * 1_000,
    }
}
