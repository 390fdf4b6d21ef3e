//! Garages down to their bays, and which point of which unit senses each.

use std::collections::BTreeMap;

use super::{Ids, Weave};
use crate::config::file::{CounterTable, GarageTable, LevelTable, ZoneTable};
use crate::profile::Counters;
use crate::site::{
    Bay, BayIx, ClassIx, DoorCounter, Garage, GarageIx, Level, LevelIx, NodeIx, Site, UnitCounter,
    UnitIx, Zone, ZoneIx,
};

impl Weave {
    pub(super) fn garage(&mut self, table: GarageTable) {
        let key = format!("garage[{}]", table.id);
        let garage = GarageIx(self.site.garages.len() as u32);
        let rules = &mut self.rules;
        rules.name(format!("{key}.id"), &table.id);
        rules.add(&key, "garage", &table.id, garage.at(), &mut self.garage_ids);
        let door = format!("{key}.door");
        let door = NodeIx(rules.find(&door, "node", &table.door, &self.node_ids));
        rules.range(format!("{key}.clearance_cm"), table.clearance_cm, 150, 600);
        let door_counter = table.counter.map(|counter| self.door_counter(&key, &counter));
        let first = (self.site.levels.len(), self.site.zones.len(), self.site.bays.len());
        let mut levels = Ids::new();
        for (ix, level) in table.levels.into_iter().enumerate() {
            let key = format!("{key}.level[{}]", level.id);
            self.rules.name(format!("{key}.id"), &level.id);
            self.rules.add(&key, "level", &level.id, ix, &mut levels);
            self.level(&key, garage, level);
        }
        self.garage_at_m.push(table.at_m);
        self.site.garages.push(Garage {
            name: table.name.unwrap_or_else(|| table.id.clone()),
            id: table.id,
            door,
            clearance_cm: table.clearance_cm,
            levels: first.0 as u32..self.site.levels.len() as u32,
            zones: first.1 as u32..self.site.zones.len() as u32,
            bays: first.2 as u32..self.site.bays.len() as u32,
            door_counter,
        });
    }

    fn door_counter(&mut self, key: &str, table: &CounterTable) -> DoorCounter {
        let key = format!("{key}.counter");
        let cars_in = self.unit_counter(&key, ["unit", "cars_in"], &table.unit, table.cars_in);
        let (name, unit) = match &table.out_unit {
            Some(unit) => ("out_unit", unit),
            None => ("unit", &table.unit),
        };
        let cars_out = self.unit_counter(&key, [name, "cars_out"], unit, table.cars_out);
        if (cars_in.unit, cars_in.index) == (cars_out.unit, cars_out.index) {
            let text = format!("{} is cars_in too: two counters are needed", table.cars_out);
            self.rules.refuse(format!("{key}.cars_out"), text);
        }
        let reset_offset =
            self.rules.range(format!("{key}.reset_offset"), table.reset_offset, -1_000, 1_000);
        DoorCounter { cars_in, cars_out, reset_offset }
    }

    fn unit_counter(&mut self, key: &str, names: [&str; 2], id: &str, index: u16) -> UnitCounter {
        let known = self.unit_ids.contains_key(id);
        let unit =
            UnitIx(self.rules.find(format!("{key}.{}", names[0]), "unit", id, &self.unit_ids));
        let counters = counters_of(&self.site, unit);
        let count = counters.map_or(0, |counters| counters.count);
        let highest = counters.map_or(u32::MAX, Counters::highest);
        if known && index >= count {
            let text = format!("{index} is not below {count}, the counters of its unit");
            self.rules.refuse(format!("{key}.{}", names[1]), text);
        }
        UnitCounter { unit, index, highest }
    }

    fn level(&mut self, key: &str, garage: GarageIx, table: LevelTable) {
        let level = LevelIx(self.site.levels.len() as u32);
        self.rules.range(format!("{key}.drive_s"), table.drive_s, 0, 3_600);
        let first = (self.site.zones.len(), self.site.bays.len());
        let mut zones = Ids::new();
        for (ix, zone) in table.zones.into_iter().enumerate() {
            let key = format!("{key}.zone[{}]", zone.id);
            self.rules.name(format!("{key}.id"), &zone.id);
            self.rules.add(&key, "zone", &zone.id, ix, &mut zones);
            self.zone(&key, garage, level, table.drive_s, zone);
        }
        self.site.levels.push(Level {
            id: table.id,
            garage,
            zones: first.0 as u32..self.site.zones.len() as u32,
            bays: first.1 as u32..self.site.bays.len() as u32,
        });
    }

    fn zone(&mut self, key: &str, garage: GarageIx, level: LevelIx, drive_s: u32, t: ZoneTable) {
        let ix = ZoneIx(self.site.zones.len() as u32);
        let rules = &mut self.rules;
        for (name, value) in
            [("drive_s", t.drive_s), ("walk_s", t.walk_s), ("spread_s", t.spread_s)]
        {
            rules.range(format!("{key}.{name}"), value, 0, 3_600);
        }
        rules.range(format!("{key}.keep_back"), t.keep_back, 0, 1_000);
        let unit = UnitIx(rules.find(format!("{key}.unit"), "unit", &t.unit, &self.unit_ids));
        let numbers = rules.numbers(format!("{key}.bays"), &t.bays);
        let usual = ClassIx(rules.find(format!("{key}.class"), "class", &t.class, &self.class_ids));
        let mut special: BTreeMap<u16, ClassIx> = BTreeMap::new();
        for (class, list) in &t.classes {
            let key = format!("{key}.classes.{class}");
            let class = ClassIx(rules.find(&key, "class", class, &self.class_ids));
            for number in rules.numbers(&key, list) {
                if numbers.binary_search(&number).is_err() {
                    rules.refuse(&key, format!("{number} is not one of bays \"{}\"", t.bays));
                }
                if special.insert(number, class).is_some() {
                    rules.refuse(&key, format!("{number} already has a class"));
                }
            }
        }
        let first = self.site.bays.len() as u32;
        for (number, point) in numbers.into_iter().zip(u32::from(t.first_point)..) {
            let bay = BayIx(self.site.bays.len() as u32);
            self.wire(key, unit, point, bay);
            self.site.bays.push(Bay {
                number,
                zone: ix,
                garage,
                class: special.get(&number).copied().unwrap_or(usual),
                unit,
                point: point as u16,
            });
        }
        let bays = self.site.bays.len() as u32 - first;
        let lamps = self.zone_lamps(key, t.lamps.as_deref(), t.first_lamp, bays);
        self.site.zones.push(Zone {
            id: t.id,
            garage,
            level,
            bays: first..self.site.bays.len() as u32,
            unit,
            drive_s: drive_s.saturating_add(t.drive_s),
            walk_s: t.walk_s,
            spread_s: t.spread_s,
            keep_back: t.keep_back,
            lamps,
        });
    }

    /// Joins a bay to its unit's point; a point has one bay.
    fn wire(&mut self, key: &str, unit: UnitIx, point: u32, bay: BayIx) {
        let Some(table) = self.site.units.get_mut(unit.at()) else {
            return;
        };
        let profile = self.site.profiles.get(table.profile as usize);
        let points = profile.and_then(|p| p.bays.as_ref()).map_or(0, |bays| bays.points);
        if point >= u32::from(points) {
            let text =
                format!("point {point} is not below {points}, the points of unit \"{}\"", table.id);
            // One refusal a zone is enough: the first point that does not fit.
            if !self.rules.problems.iter().any(|problem| problem.key == format!("{key}.bays")) {
                self.rules.refuse(format!("{key}.bays"), text);
            }
            return;
        }
        let slots = &mut table.bays;
        if slots.is_empty() {
            slots.resize(usize::from(points), None);
        }
        if let Some(other) = slots[point as usize].replace(bay) {
            let key = format!("{key}.first_point");
            // One refusal a zone: the first point that is taken.
            if !self.rules.problems.iter().any(|problem| problem.key == key) {
                let other = self.site.bays.get(other.at()).map_or(0, |bay| bay.number);
                let unit = &table.id;
                let text = format!("point {point} of unit \"{unit}\" already senses bay {other}");
                self.rules.refuse(key, text);
            }
        }
    }
}

fn counters_of(site: &Site, unit: UnitIx) -> Option<&Counters> {
    let unit = site.units.get(unit.at())?;
    site.profiles.get(unit.profile as usize)?.counters.as_ref()
}
