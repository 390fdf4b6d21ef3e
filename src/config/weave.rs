//! Builds the [`Site`] out of the tables, naming every cross-reference by index.
//!
//! Order matters only in that a name must be known before it is used: profiles, lines and units,
//! classes, nodes and links, garages, destinations, signs. A stand-in index 0 is used where a name
//! was refused; no site with a problem leaves this file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::check::{self, Rules};
use super::device;
use super::file::{
    ClassTable, DestinationTable, GarageTable, LevelTable, LineTable, LinkTable, MainFile,
    NodeTable, PartFile, SignKindName, SignTable, ZoneTable,
};
use super::{Config, Problem};
use crate::profile::{Display, Profile};
use crate::site::{
    Bay, BayIx, Class, ClassIx, Destination, DoorCounter, Garage, GarageIx, Level, LevelIx, Line,
    LineIx, Link, Node, NodeIx, NodeKind, Sign, SignKind, Site, Unit, UnitIx, Zone, ZoneIx,
};

/// Seconds to walk a metre of straight line: streets make it 1.3 times longer, people do 1.3 m/s.
const WALK_S_PER_M: f64 = 1.0;

type Ids = BTreeMap<String, u32>;

struct Weave {
    rules: Rules,
    site: Site,
    node_ids: Ids,
    class_ids: Ids,
    garage_ids: Ids,
    garage_at_m: Vec<[i32; 2]>,
    line_ids: Ids,
    unit_ids: Ids,
    profile_ids: Ids,
    sign_ids: Ids,
    endpoints: BTreeMap<String, String>,
    /// Which sign a display belongs to, by unit, kind and index.
    displays: BTreeMap<(u32, bool, u16), String>,
}

/// Checks all rules and builds the configuration.
pub fn weave(
    path: PathBuf,
    main: MainFile,
    parts: Vec<(PathBuf, PartFile)>,
) -> Result<Config, Vec<Problem>> {
    let mut weave = Weave::new(path.clone(), &main);
    check::guidance(&mut weave.rules, &main.guidance);
    check::store(&mut weave.rules, &main.store);
    check::http(&mut weave.rules, &main.http);
    check::log(&mut weave.rules, &main.log);
    if let Some(mqtt) = &main.mqtt {
        check::mqtt(&mut weave.rules, mqtt);
    }
    let main_part = PartFile {
        profiles: main.profiles,
        garages: main.garages,
        lines: main.lines,
        signs: main.signs,
    };
    weave.classes(main.classes);
    weave.nodes(main.nodes);
    weave.links(main.links);
    let mut all = vec![(path.clone(), main_part)];
    all.extend(parts);
    let mut signs = Vec::new();
    let mut garages = Vec::new();
    for (file, part) in &mut all {
        weave.rules.file.clone_from(file);
        weave.profiles(std::mem::take(&mut part.profiles));
    }
    for (file, part) in all {
        weave.rules.file.clone_from(&file);
        weave.lines(part.lines, main.guidance.stale_ms);
        garages.push((file.clone(), part.garages));
        signs.push((file, part.signs));
    }
    for (file, garages) in garages {
        weave.rules.file = file;
        garages.into_iter().for_each(|garage| weave.garage(garage));
    }
    weave.rules.file.clone_from(&path);
    weave.destinations(main.destinations);
    for (file, signs) in signs {
        weave.rules.file = file;
        signs.into_iter().for_each(|sign| weave.sign(sign));
    }
    weave.rules.file = path;
    weave.finish()?;
    let Weave { site, .. } = weave;
    Ok(Config {
        site,
        guidance: main.guidance,
        store: main.store,
        mqtt: main.mqtt,
        http: main.http,
        log: main.log,
    })
}

impl Weave {
    fn new(path: PathBuf, main: &MainFile) -> Weave {
        let mut rules = Rules::new(path);
        rules.name("site.id", &main.site.id);
        rules.name("site.gateway", &main.site.gateway);
        let site = Site {
            id: main.site.id.clone(),
            name: main.site.name.clone(),
            gateway: main.site.gateway.clone(),
            nodes: Vec::new(),
            links: Vec::new(),
            destinations: Vec::new(),
            classes: Vec::new(),
            garages: Vec::new(),
            levels: Vec::new(),
            zones: Vec::new(),
            bays: Vec::new(),
            lines: Vec::new(),
            units: Vec::new(),
            profiles: Vec::new(),
            signs: Vec::new(),
        };
        Weave {
            rules,
            site,
            node_ids: Ids::new(),
            class_ids: Ids::new(),
            garage_ids: Ids::new(),
            garage_at_m: Vec::new(),
            line_ids: Ids::new(),
            unit_ids: Ids::new(),
            profile_ids: Ids::new(),
            sign_ids: Ids::new(),
            endpoints: BTreeMap::new(),
            displays: BTreeMap::new(),
        }
    }

    /// Whole-site rules, and the verdict.
    fn finish(&mut self) -> Result<(), Vec<Problem>> {
        if self.site.bays.is_empty() {
            self.rules.refuse("garage", "the site has no bays");
        }
        if !self.site.nodes.iter().any(|node| node.kind == NodeKind::Portal) {
            self.rules.refuse("node", "the site has no node of kind \"portal\"");
        }
        if self.rules.problems.is_empty() {
            self.ways();
        }
        if self.rules.problems.is_empty() {
            return Ok(());
        }
        Err(std::mem::take(&mut self.rules.problems))
    }

    /// A garage that no driver can ever be sent to is a slip of the pen.
    fn ways(&mut self) {
        let outside = |node: &Node| matches!(node.kind, NodeKind::Approach | NodeKind::Portal);
        let mut reached: Vec<bool> = self.site.nodes.iter().map(outside).collect();
        // At most one pass a node: each pass but the last reaches another.
        while self.site.links.iter().any(|link| reached[link.from.at()] && !reached[link.to.at()]) {
            for link in &self.site.links {
                reached[link.to.at()] |= reached[link.from.at()];
            }
        }
        for garage in self.site.garages.iter().filter(|garage| !reached[garage.door.at()]) {
            let door = &self.site.nodes[garage.door.at()].id;
            let text = format!("no way leads to node \"{door}\", the door of \"{}\"", garage.id);
            self.rules.refuse("link", text);
        }
    }

    fn classes(&mut self, tables: Vec<ClassTable>) {
        let rules = &mut self.rules;
        rules.range("class (how many)", tables.len(), 1, 16);
        for (ix, table) in tables.iter().enumerate() {
            let key = format!("class[{}].id", table.id);
            rules.name(&key, &table.id);
            rules.add(&key, "class", &table.id, ix, &mut self.class_ids);
        }
        for table in tables {
            let own = || BTreeMap::from([(table.id.clone(), 0)]);
            let mut may_use = Vec::new();
            for (bay_class, penalty_s) in table.may_use_s.clone().unwrap_or_else(own) {
                let key = format!("class[{}].may_use_s.{bay_class}", table.id);
                let bay_class = ClassIx(rules.find(&key, "class", &bay_class, &self.class_ids));
                may_use.push((bay_class, rules.range(&key, penalty_s, 0, 3_600)));
            }
            let key = format!("class[{}].height_cm", table.id);
            rules.range(key, table.height_cm, 0, 600);
            self.site.classes.push(Class {
                name: table.name.unwrap_or_else(|| table.id.clone()),
                id: table.id,
                may_use,
                height_cm: table.height_cm,
            });
        }
    }

    fn nodes(&mut self, tables: Vec<NodeTable>) {
        self.rules.range("node (how many)", tables.len(), 1, 400);
        for (ix, table) in tables.into_iter().enumerate() {
            let key = format!("node[{}].id", table.id);
            self.rules.name(&key, &table.id);
            self.rules.add(&key, "node", &table.id, ix, &mut self.node_ids);
            let name = table.name.unwrap_or_else(|| table.id.clone());
            self.site.nodes.push(Node { id: table.id, name, kind: table.kind });
        }
    }

    fn links(&mut self, tables: Vec<LinkTable>) {
        let rules = &mut self.rules;
        rules.range("link (how many)", tables.len(), 0, 2_000);
        let mut seen = Ids::new();
        for (ix, table) in tables.into_iter().enumerate() {
            let key = format!("link[{}>{}]", table.from, table.to);
            rules.add(&key, "link", &format!("{}>{}", table.from, table.to), ix, &mut seen);
            if table.from == table.to {
                rules.refuse(&key, "leads from a node to itself");
            }
            self.site.links.push(Link {
                from: NodeIx(rules.find(
                    format!("{key}.from"),
                    "node",
                    &table.from,
                    &self.node_ids,
                )),
                to: NodeIx(rules.find(format!("{key}.to"), "node", &table.to, &self.node_ids)),
                kind: table.kind,
                length_m: rules.range(format!("{key}.length_m"), table.length_m, 1, 20_000),
                speed_kmh: rules.range(format!("{key}.speed_kmh"), table.speed_kmh, 5, 120).max(1),
                text: table.text,
                closed: table.closed,
            });
        }
    }

    fn profiles(&mut self, profiles: Vec<Profile>) {
        for profile in profiles {
            let key = format!("profile[{}]", profile.id);
            let ix = self.site.profiles.len();
            self.rules.name(format!("{key}.id"), &profile.id);
            self.rules.add(&key, "profile", &profile.id, ix, &mut self.profile_ids);
            device::profile(&mut self.rules, &key, &profile);
            self.site.profiles.push(profile);
        }
    }

    fn lines(&mut self, tables: Vec<LineTable>, stale_ms: u32) {
        for table in tables {
            let key = format!("line[{}]", table.id);
            let line = LineIx(self.site.lines.len() as u32);
            let rules = &mut self.rules;
            rules.name(format!("{key}.id"), &table.id);
            rules.add(&key, "line", &table.id, line.at(), &mut self.line_ids);
            rules.endpoint(format!("{key}.tcp"), &table.tcp);
            // Two owners of one endpoint would read each other's answers.
            if let Some(other) = self.endpoints.insert(table.tcp.clone(), table.id.clone()) {
                let text = format!("\"{}\" is already the endpoint of line \"{other}\"", table.tcp);
                rules.refuse(format!("{key}.tcp"), text);
            }
            rules.range(format!("{key}.period_ms"), table.period_ms, 50, 600_000);
            rules.range(format!("{key}.timeout_ms"), table.timeout_ms, 10, 60_000);
            rules.range(format!("{key}.gap_ms"), table.gap_ms, 0, 1_000);
            if stale_ms <= table.period_ms {
                let text = format!(
                    "{} must be below guidance.stale_ms ({stale_ms}), or its bays are never known",
                    table.period_ms
                );
                rules.refuse(format!("{key}.period_ms"), text);
            }
            rules.range(format!("{key}.unit (how many)"), table.units.len(), 1, 250);
            let mut addresses = Ids::new();
            let mut units = Vec::new();
            for unit in table.units {
                let key = format!("{key}.unit[{}]", unit.id);
                let ix = UnitIx(self.site.units.len() as u32);
                rules.name(format!("{key}.id"), &unit.id);
                rules.add(&key, "unit", &unit.id, ix.at(), &mut self.unit_ids);
                let address = unit.address.to_string();
                rules.add(format!("{key}.address"), "unit at", &address, 0, &mut addresses);
                let profile = format!("{key}.profile");
                let profile = rules.find(profile, "profile", &unit.profile, &self.profile_ids);
                units.push(ix);
                self.site.units.push(Unit {
                    id: unit.id,
                    line,
                    address: unit.address,
                    profile,
                    bays: Vec::new(),
                });
            }
            self.site.lines.push(Line {
                id: table.id,
                endpoint: table.tcp,
                period_ms: table.period_ms,
                timeout_ms: table.timeout_ms,
                gap_ms: table.gap_ms,
                units,
            });
        }
    }

    fn garage(&mut self, table: GarageTable) {
        let key = format!("garage[{}]", table.id);
        let garage = GarageIx(self.site.garages.len() as u32);
        let rules = &mut self.rules;
        rules.name(format!("{key}.id"), &table.id);
        rules.add(&key, "garage", &table.id, garage.at(), &mut self.garage_ids);
        let door = format!("{key}.door");
        let door = NodeIx(rules.find(&door, "node", &table.door, &self.node_ids));
        rules.range(format!("{key}.clearance_cm"), table.clearance_cm, 150, 600);
        let door_counter = table.counter.map(|counter| {
            if counter.cars_in == counter.cars_out {
                let text = format!("{} is cars_in too: two counters are needed", counter.cars_out);
                rules.refuse(format!("{key}.counter.cars_out"), text);
            }
            let unit_key = format!("{key}.counter.unit");
            let unit = UnitIx(rules.find(&unit_key, "unit", &counter.unit, &self.unit_ids));
            let count = counters_of(&self.site, unit);
            for (name, ix) in [("cars_in", counter.cars_in), ("cars_out", counter.cars_out)] {
                if ix >= count {
                    let text = format!("{ix} is not below {count}, the counters of its unit");
                    rules.refuse(format!("{key}.counter.{name}"), text);
                }
            }
            DoorCounter { unit, cars_in: counter.cars_in, cars_out: counter.cars_out }
        });
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
        self.site.zones.push(Zone {
            id: t.id,
            garage,
            level,
            bays: first..self.site.bays.len() as u32,
            unit,
            drive_s: drive_s.saturating_add(t.drive_s),
            walk_s: t.walk_s,
            spread_s: t.spread_s,
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

    fn destinations(&mut self, tables: Vec<DestinationTable>) {
        self.rules.range("destination (how many)", tables.len(), 0, 1_000);
        let mut seen = Ids::new();
        for (ix, table) in tables.into_iter().enumerate() {
            let key = format!("destination[{}]", table.id);
            self.rules.name(format!("{key}.id"), &table.id);
            self.rules.add(&key, "destination", &table.id, ix, &mut seen);
            let mut walk_s: Vec<u32> =
                self.garage_at_m.iter().map(|garage| walk(table.at_m, *garage)).collect();
            for (garage, seconds) in table.walk_s {
                let key = format!("{key}.walk_s.{garage}");
                let garage = self.rules.find(&key, "garage", &garage, &self.garage_ids) as usize;
                self.rules.range(key, seconds, 0, 7_200);
                if let Some(slot) = walk_s.get_mut(garage) {
                    *slot = seconds;
                }
            }
            let name = table.name.unwrap_or_else(|| table.id.clone());
            self.site.destinations.push(Destination { id: table.id, name, walk_s });
        }
    }

    fn sign(&mut self, table: SignTable) {
        let key = format!("sign[{}]", table.id);
        let rules = &mut self.rules;
        rules.name(format!("{key}.id"), &table.id);
        rules.add(&key, "sign", &table.id, self.site.signs.len(), &mut self.sign_ids);
        if table.id == "stream" {
            rules.refuse(format!("{key}.id"), "\"stream\" is a path of the HTTP interface");
        }
        let unit = UnitIx(rules.find(format!("{key}.unit"), "unit", &table.unit, &self.unit_ids));
        let node = table
            .node
            .as_ref()
            .map(|node| NodeIx(rules.find(format!("{key}.node"), "node", node, &self.node_ids)));
        if table.kind == SignKindName::CallOut && node.is_none() {
            rules.refuse(format!("{key}.node"), "is missing: a call-out hangs somewhere");
        }
        let fallback = device::fallback(rules, &key, &table.fallback);
        let display = display_of(&self.site, unit, table.kind);
        match display {
            None => rules.refuse(
                format!("{key}.unit"),
                format!("the profile of unit \"{}\" has no such display", table.unit),
            ),
            Some(display) => {
                let last = display.displays.saturating_sub(1);
                rules.range(format!("{key}.index"), table.index, 0, last);
                device::fits(rules, &key, &display.format, &fallback, table.kind);
            }
        }
        let display = (unit.0, table.kind == SignKindName::Count, table.index);
        // Two signs on one display would overwrite each other.
        if let Some(other) = self.displays.insert(display, table.id.clone()) {
            let text = format!("{} is already the display of sign \"{other}\"", table.index);
            rules.refuse(format!("{key}.index"), text);
        }
        let kind = self.sign_kind(&key, &table);
        self.site.signs.push(Sign {
            name: table.name.unwrap_or_else(|| table.id.clone()),
            id: table.id,
            kind,
            unit,
            index: table.index,
            node,
            fallback,
        });
    }

    fn sign_kind(&mut self, key: &str, table: &SignTable) -> SignKind {
        let rules = &mut self.rules;
        if table.kind == SignKindName::CallOut {
            for (name, given) in [
                ("shows", table.shows.is_some()),
                ("class", table.class.is_some()),
                ("keep_back", table.keep_back.is_some()),
                ("offset", table.offset.is_some()),
                ("min", table.min.is_some()),
                ("max", table.max.is_some()),
            ] {
                if given {
                    rules.refuse(format!("{key}.{name}"), "belongs to a count sign");
                }
            }
            let queue = rules.range(format!("{key}.queue"), table.queue.unwrap_or(4), 1, 16);
            let show_s = rules.range(format!("{key}.show_s"), table.show_s.unwrap_or(8), 1, 120);
            return SignKind::CallOut { queue: queue as usize, show_s };
        }
        for (name, given) in [("queue", table.queue.is_some()), ("show_s", table.show_s.is_some())]
        {
            if given {
                rules.refuse(format!("{key}.{name}"), "belongs to a call-out");
            }
        }
        let mut scopes = Vec::new();
        for path in table.shows.iter().flatten() {
            match self.site.scope(path) {
                Some(scope) => scopes.push(scope),
                None => rules.refuse(
                    format!("{key}.shows"),
                    format!("there is no garage, level or zone \"{path}\""),
                ),
            }
        }
        if scopes.is_empty() && table.shows.as_ref().is_none_or(Vec::is_empty) {
            rules.refuse(format!("{key}.shows"), "is missing: a count sign counts something");
        }
        let class = table.class.as_ref().map(|class| {
            ClassIx(rules.find(format!("{key}.class"), "class", class, &self.class_ids))
        });
        let min = table.min.unwrap_or(0);
        let max = rules.range(format!("{key}.max"), table.max.unwrap_or(9_999), 1, 65_535);
        if min > max {
            rules.refuse(format!("{key}.min"), format!("{min} is above max ({max})"));
        }
        let offset = rules.range(format!("{key}.offset"), table.offset.unwrap_or(0), -9_999, 9_999);
        let keep_back = table.keep_back.unwrap_or(0);
        let keep_back = rules.range(format!("{key}.keep_back"), keep_back, 0, 1_000);
        SignKind::Count { scopes, class, keep_back, offset, min, max }
    }
}

fn walk(from: [i32; 2], to: [i32; 2]) -> u32 {
    let apart = |axis: usize| f64::from(from[axis]) - f64::from(to[axis]);
    let (dx, dy) = (apart(0), apart(1));
    // At most some thousand kilometres even for nonsense positions: the cast saturates.
    (dx.hypot(dy) * WALK_S_PER_M) as u32
}

fn counters_of(site: &Site, unit: UnitIx) -> u16 {
    let profile = site.units.get(unit.at()).and_then(|u| site.profiles.get(u.profile as usize));
    profile.and_then(|p| p.counters.as_ref()).map_or(0, |counters| counters.count)
}

fn display_of(site: &Site, unit: UnitIx, kind: SignKindName) -> Option<Display> {
    let profile = site.profiles.get(site.units.get(unit.at())?.profile as usize)?;
    match kind {
        SignKindName::Count => profile.sign.clone(),
        SignKindName::CallOut => profile.callout.clone(),
    }
}
