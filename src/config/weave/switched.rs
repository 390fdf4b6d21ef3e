//! Lamps at bays and switched outputs: where each is, and the tables that decide about them.

use std::collections::BTreeSet;

use super::Weave;
use crate::config::file::{LampTable as LampRule, OutputTable};
use crate::profile::Profile;
use crate::site::{
    ClassIx, ColourIx, GarageIx, GarageState, LampState, LampTable, Output, OutputKind, Site,
    UnitIx, ZoneLamps,
};

/// Outputs of a site: two for each of the reference site's portals and garages, and as many again.
const OUTPUTS_MAX: usize = 256;

impl Weave {
    pub(super) fn output(&mut self, table: OutputTable) {
        let key = format!("output[{}]", table.id);
        let rules = &mut self.rules;
        rules.name(format!("{key}.id"), &table.id);
        rules.add(&key, "output", &table.id, self.site.outputs.len(), &mut self.output_ids);
        if self.site.outputs.len() == OUTPUTS_MAX {
            rules.refuse("output (how many)", format!("more than {OUTPUTS_MAX}"));
        }
        let unit = UnitIx(rules.find(format!("{key}.unit"), "unit", &table.unit, &self.unit_ids));
        let count = profile_of(&self.site, unit).and_then(|profile| profile.outputs.as_ref());
        match count.map(|outputs| outputs.count) {
            None => rules.refuse(
                format!("{key}.unit"),
                format!("the profile of unit \"{}\" has no outputs", table.unit),
            ),
            Some(count) => {
                rules.range(format!("{key}.index"), table.index, 0, count.saturating_sub(1));
            }
        }
        let place = (unit.0, table.index);
        if let Some(other) = self.output_places.insert(place, table.id.clone()) {
            let text = format!("{} is already output \"{other}\"", table.index);
            rules.refuse(format!("{key}.index"), text);
        }
        let garage = format!("{key}.garage");
        let garage = GarageIx(rules.find(garage, "garage", &table.garage, &self.garage_ids));
        let unknown = table.on_when.contains(&GarageState::Unknown);
        if unknown && table.kind == OutputKind::Barrier {
            let text = "\"unknown\" would let a fault move a barrier";
            rules.refuse(format!("{key}.on_when"), text);
        }
        if table.on_when.is_empty() {
            rules.refuse(format!("{key}.on_when"), "is empty: it would never be on");
        }
        self.site.outputs.push(Output {
            name: table.name.unwrap_or_else(|| table.id.clone()),
            id: table.id,
            kind: table.kind,
            unit,
            index: table.index,
            garage,
            on_when: table.on_when,
            stop: table.stop,
        });
    }

    /// The lamps of a zone with so many bays.
    pub(super) fn zone_lamps(
        &mut self,
        key: &str,
        unit: Option<&str>,
        first: Option<u16>,
        bays: u32,
    ) -> Option<ZoneLamps> {
        let rules = &mut self.rules;
        let id = match (unit, first) {
            (None, None) => return None,
            (None, Some(_)) => {
                rules.refuse(format!("{key}.first_lamp"), "stands without lamps");
                return None;
            }
            (Some(id), _) => id,
        };
        let first = first.unwrap_or(0);
        let unit = UnitIx(rules.find(format!("{key}.lamps"), "unit", id, &self.unit_ids));
        let profile = profile_of(&self.site, unit);
        let Some(lamps) = profile.and_then(|profile| profile.lamps.as_ref()) else {
            let text = format!("the profile of unit \"{id}\" has no lamps");
            rules.refuse(format!("{key}.lamps"), text);
            return None;
        };
        let last = u32::from(first) + bays;
        if last > u32::from(lamps.points) {
            let text = format!(
                "{first} and {bays} bays need {last} lamps, but unit \"{id}\" has {}",
                lamps.points
            );
            rules.refuse(format!("{key}.first_lamp"), text);
            return None;
        }
        let mut places = (u32::from(first)..last).map(|place| (unit.0, place as u16));
        // One refusal a zone: the first lamp that is taken.
        if let Some((_, taken)) = places.find(|place| !self.lamp_places.insert(*place)) {
            let text = format!("lamp {taken} of unit \"{id}\" already belongs to a bay");
            rules.refuse(format!("{key}.first_lamp"), text);
        }
        Some(ZoneLamps { unit, first })
    }

    /// The table of colours, worked out of the rules once, so that no rule is ever searched again.
    pub(super) fn lamps(&mut self, rules: &[LampRule], stop: Option<&str>) {
        let zones = self.site.zones.iter().filter_map(|zone| zone.lamps);
        let units: BTreeSet<UnitIx> = zones.map(|lamps| lamps.unit).collect();
        let mut table = LampTable::default();
        let classes: Vec<Option<ClassIx>> = rules
            .iter()
            .map(|rule| {
                let class = rule.class.as_ref()?;
                let id = self.rules.find("lamp.class", "class", class, &self.class_ids);
                Some(ClassIx(id))
            })
            .collect();
        let colours: Vec<ColourIx> =
            rules.iter().map(|rule| colour(&mut table, &rule.colour)).collect();
        table.stop = stop.map(|stop| colour(&mut table, stop));
        if units.is_empty() {
            if !rules.is_empty() || stop.is_some() {
                self.rules.refuse("lamp", "no zone has lamps");
            }
            return;
        }
        for class in (0..self.site.classes.len() as u32).map(ClassIx) {
            for (state, lease, fault) in situations() {
                let fits = |(rule, only): &(&LampRule, &Option<ClassIx>)| {
                    only.is_none_or(|only| only == class)
                        && rule.state.is_none_or(|other| other == state)
                        && rule.lease.is_none_or(|other| other == lease)
                        && rule.fault.is_none_or(|other| other == fault)
                };
                match rules.iter().zip(&classes).position(|rule| fits(&rule)) {
                    Some(rule) => table.table.push(colours[rule]),
                    None => return self.no_colour(class, state, lease, fault),
                }
            }
        }
        for unit in units {
            let profile = profile_of(&self.site, unit);
            let Some(lamps) = profile.and_then(|profile| profile.lamps.as_ref()) else { continue };
            for colour in table.colours.iter().filter(|name| !lamps.colours.contains_key(*name)) {
                let unit = &self.site.units[unit.at()].id;
                let text = format!("\"{colour}\" is no colour of the lamps of unit \"{unit}\"");
                let of_rule = rules.iter().any(|rule| rule.colour == *colour);
                let key = if of_rule { "lamp.colour" } else { "site.lamp_stop" };
                self.rules.refuse(key, text);
            }
        }
        self.site.lamps = table;
    }

    /// One refusal is enough: a last rule without keys covers everything.
    fn no_colour(&mut self, class: ClassIx, state: LampState, lease: bool, fault: bool) {
        let class = &self.site.classes[class.at()].id;
        let text = format!(
            "no rule fits class \"{class}\", state {state:?}, lease {lease}, fault {fault}; a last \
             rule of a colour alone fits everything"
        );
        self.rules.refuse("lamp", text.to_lowercase());
    }
}

/// All situations of one class, in the order of [`LampTable::at`].
fn situations() -> impl Iterator<Item = (LampState, bool, bool)> {
    LampState::ALL.into_iter().flat_map(|state| {
        [(false, false), (false, true), (true, false), (true, true)]
            .map(|(lease, fault)| (state, lease, fault))
    })
}

fn colour(table: &mut LampTable, name: &str) -> ColourIx {
    let known = table.colours.iter().position(|other| other == name);
    let ix = known.unwrap_or_else(|| {
        table.colours.push(name.to_owned());
        table.colours.len() - 1
    });
    ColourIx(ix as u32)
}

fn profile_of(site: &Site, unit: UnitIx) -> Option<&Profile> {
    site.profiles.get(site.units.get(unit.at())?.profile as usize)
}
