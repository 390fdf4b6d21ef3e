//! Switched outputs: barriers and lights that follow the state of their garage.
//!
//! What decides, highest first: stopping (the output's `stop`), an operator (until `expires_s` is
//! over or the mode is "auto" again), the garage's state against `on_when`. A garage whose state
//! is unknown keeps its outputs as they are, so that no fault and no lost unit moves a barrier;
//! only a light may name "unknown". After a start an output stays as it was found until its
//! garage's state is known. Every switching is a record, and so is every operator's order.

use super::door::{Answer, Effect, OutputMode};
use super::sign::closed_by_staff;
use super::snapshot::OutputView;
use super::{Gateway, Timer};
use crate::record::{Body, Lane};
use crate::site::{GarageIx, GarageState, OutputIx, OutputStop, Scope, Site, Target};
use crate::time::Mono;

/// One output's present.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OutputState {
    pub mode: OutputMode,
    /// Staff set the mode in this run: it is newer than any kept one.
    pub mode_set: bool,
    pub by: String,
    pub until: Option<Mono>,
    /// Full length of the order, for a start under another boot.
    pub length_s: Option<u64>,
    /// Ordered in this run.
    pub shown: Option<bool>,
    /// Last told upstream, in this run or an earlier one.
    pub told: Option<bool>,
}

/// Outputs by their garage.
pub fn outputs_of(site: &Site) -> Vec<Vec<OutputIx>> {
    let mut by_garage = vec![Vec::new(); site.garages.len()];
    for (ix, output) in (0..).map(OutputIx).zip(&site.outputs) {
        by_garage[output.garage.at()].push(ix);
    }
    by_garage
}

impl Gateway {
    /// What a garage is to its outputs.
    pub(super) fn garage_state(&self, garage: GarageIx) -> GarageState {
        let table = &self.site.garages[garage.at()];
        let scope = Scope::Garage(garage);
        let tally = self.bays.garage(garage);
        let all_closed = tally.closed == table.bays.len() as u32;
        if self.garage_incident(garage) {
            GarageState::Incident
        } else if self.closures.contains_key(&Target::Scope(scope))
            || self.closed_nodes.contains(&table.door)
            || (all_closed && closed_by_staff(&self.site, &self.bays, &[scope]))
        {
            GarageState::Closed
        } else if !self.bands_known[garage.at()] {
            GarageState::Unknown
        } else {
            match self.bands[garage.at()].tier() {
                0 => GarageState::Spaces,
                1 => GarageState::AlmostFull,
                _ => GarageState::Full,
            }
        }
    }

    /// Works out an output and orders it switched if it is to be otherwise.
    pub(super) fn switch(&mut self, ix: OutputIx, effects: &mut Vec<Effect>) {
        let output = &self.site.outputs[ix.at()];
        let garage = self.garage_state(output.garage);
        let state = &self.outputs[ix.at()];
        let (on, why) = match state.mode {
            OutputMode::On => (Some(true), "operator"),
            OutputMode::Off => (Some(false), "operator"),
            OutputMode::Auto => {
                let named = output.on_when.contains(&garage);
                let known = named || garage != GarageState::Unknown;
                // A fullness that is just settling after a start says nothing yet.
                let settled = state.shown.is_some() || !self.is_settling(output.garage, garage);
                ((known && settled).then_some(named), garage_name(garage))
            }
        };
        if let Some(on) = on {
            self.order(ix, on, why, effects);
        }
    }

    fn is_settling(&self, garage: GarageIx, state: GarageState) -> bool {
        let fullness =
            matches!(state, GarageState::Spaces | GarageState::AlmostFull | GarageState::Full);
        fullness && self.bands[garage.at()].due(&self.limits).is_some()
    }

    fn order(&mut self, ix: OutputIx, on: bool, why: &str, effects: &mut Vec<Effect>) {
        let state = &mut self.outputs[ix.at()];
        if state.shown.replace(on) != Some(on) {
            effects.push(Effect::Output { output: ix, on });
        }
        if state.told.replace(on) != Some(on) {
            let output = self.site.outputs[ix.at()].id.clone();
            let body = Body::OutputSwitched { output, on, why: why.to_owned() };
            self.record(Lane::Events, body, effects);
            self.keep_output(ix, effects);
        }
    }

    pub(super) fn set_output(
        &mut self,
        ix: OutputIx,
        mode: OutputMode,
        by: String,
        expires_s: Option<u64>,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let expires_s = expires_s.filter(|_| mode != OutputMode::Auto);
        let until = expires_s.map(|s| self.now.mono.plus_ms(s.saturating_mul(1_000)));
        let output = self.site.outputs[ix.at()].id.clone();
        let body = Body::OutputMode {
            output,
            state: mode_name(mode).to_owned(),
            by: by.clone(),
            expires_s,
        };
        self.record(Lane::Events, body, effects);
        let state = &mut self.outputs[ix.at()];
        (state.mode, state.mode_set) = (mode, true);
        (state.by, state.until, state.length_s) = (by, until, expires_s);
        if let Some(until) = until {
            self.arm(until, Timer::Output(ix));
        }
        self.keep_output(ix, effects);
        self.switch(ix, effects);
        Answer::Done
    }

    pub(super) fn output_due(&mut self, ix: OutputIx, effects: &mut Vec<Effect>) {
        let state = &self.outputs[ix.at()];
        let over = state.until.is_some_and(|until| until <= self.now.mono);
        if over && state.mode != OutputMode::Auto && !self.stopping {
            self.set_output(ix, OutputMode::Auto, "expiry".to_owned(), None, effects);
        }
    }

    /// The gateway stops: what the configuration says, whoever ordered otherwise.
    pub(super) fn outputs_stop(&mut self, effects: &mut Vec<Effect>) {
        for ix in (0..self.outputs.len() as u32).map(OutputIx) {
            match self.site.outputs[ix.at()].stop {
                OutputStop::On => self.order(ix, true, "stop", effects),
                OutputStop::Off => self.order(ix, false, "stop", effects),
                OutputStop::Keep => (),
            }
        }
    }

    pub(super) fn output_views(&self) -> Vec<OutputView> {
        let view = |(state, output): (&OutputState, &crate::site::Output)| {
            let ordered = state.mode != OutputMode::Auto;
            OutputView {
                id: output.id.clone(),
                name: output.name.clone(),
                kind: output.kind,
                garage: self.site.garages[output.garage.at()].id.clone(),
                garage_state: self.garage_state(output.garage),
                state: state.mode,
                by: ordered.then(|| state.by.clone()),
                expires_in_s: state
                    .until
                    .filter(|_| ordered)
                    .map(|until| until.ms_since(self.now.mono) / 1_000),
                on: state.shown,
            }
        };
        self.outputs.iter().zip(&self.site.outputs).map(view).collect()
    }
}

fn mode_name(mode: OutputMode) -> &'static str {
    match mode {
        OutputMode::Auto => "auto",
        OutputMode::On => "on",
        OutputMode::Off => "off",
    }
}

fn garage_name(state: GarageState) -> &'static str {
    match state {
        GarageState::Spaces => "spaces",
        GarageState::AlmostFull => "almost-full",
        GarageState::Full => "full",
        GarageState::Closed => "closed",
        GarageState::Incident => "incident",
        GarageState::Unknown => "unknown",
    }
}
