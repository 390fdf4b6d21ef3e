//! Builds the [`Site`] out of the tables, naming every cross-reference by index.
//!
//! Order matters only in that a name must be known before it is used: profiles, lines and units,
//! classes, nodes and links, garages, destinations, signs. A stand-in index 0 is used where a name
//! was refused; no site with a problem leaves this file.

mod contacts;
mod garages;
mod lines;
mod profiles;
mod schedule;
mod signs;
mod switched;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::tz::TimeZone;

use super::check::{self, Rules};
use super::file::{ClassTable, DestinationTable, LinkTable, MainFile, NodeTable, PartFile};
use super::{Config, Problem};
use crate::site::{Class, ClassIx, Destination, LampTable, Link, Node, NodeIx, NodeKind, Site};

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
    /// Which line has an endpoint, by one spelling of it.
    endpoints: BTreeMap<String, String>,
    /// Which device file each serial path leads to.
    devices: BTreeMap<String, String>,
    /// Which sign a display belongs to, by unit, kind and index.
    displays: BTreeMap<(u32, bool, u16), String>,
    output_ids: Ids,
    contact_ids: Ids,
    /// Which contact an input of a unit belongs to.
    inputs: BTreeMap<(u32, u16), String>,
    /// Which output a place of a unit belongs to.
    output_places: BTreeMap<(u32, u16), String>,
    /// Places of units that have a bay's lamp.
    lamp_places: BTreeSet<(u32, u16)>,
}

/// Checks all rules and builds the configuration; `devices` says which file each serial path leads
/// to, where one is there.
pub fn weave(
    path: PathBuf,
    main: MainFile,
    parts: Vec<(PathBuf, PartFile)>,
    devices: BTreeMap<String, String>,
    time_zone: Option<TimeZone>,
) -> Result<Config, Vec<Problem>> {
    let mut weave = Weave::new(path.clone(), &main, time_zone);
    weave.devices = devices;
    check::tables(&mut weave.rules, &main);
    let main_part = PartFile {
        profiles: main.profiles,
        garages: main.garages,
        lines: main.lines,
        signs: main.signs,
        outputs: main.outputs,
        contacts: main.contacts,
    };
    weave.classes(main.classes);
    weave.nodes(main.nodes);
    weave.links(main.links);
    let mut all = vec![(path.clone(), main_part)];
    all.extend(parts);
    let mut signs = Vec::new();
    let mut outputs = Vec::new();
    let mut contacts = Vec::new();
    let mut garages = Vec::new();
    for (file, part) in &mut all {
        weave.rules.file.clone_from(file);
        weave.profiles(std::mem::take(&mut part.profiles));
    }
    for (file, part) in all {
        weave.rules.file.clone_from(&file);
        weave.lines(part.lines, main.guidance.stale_ms);
        garages.push((file.clone(), part.garages));
        outputs.push((file.clone(), part.outputs));
        contacts.push((file.clone(), part.contacts));
        signs.push((file, part.signs));
    }
    weave.each(garages, Weave::garage);
    weave.rules.file.clone_from(&path);
    weave.destinations(main.destinations);
    weave.each(signs, Weave::sign);
    weave.each(outputs, Weave::output);
    weave.each(contacts, Weave::contact);
    weave.rules.file = path;
    weave.lamps(&main.lamps, main.site.lamp_stop.as_deref());
    weave.finish()?;
    let Weave { site, .. } = weave;
    Ok(Config {
        site,
        guidance: main.guidance,
        store: main.store,
        mqtt: main.mqtt,
        http: main.http,
        log: main.log,
        clock: main.clock,
    })
}

impl Weave {
    /// Takes the tables of one kind, file by file.
    fn each<T>(&mut self, files: Vec<(PathBuf, Vec<T>)>, take: fn(&mut Weave, T)) {
        for (file, tables) in files {
            self.rules.file = file;
            tables.into_iter().for_each(|table| take(self, table));
        }
    }

    fn new(path: PathBuf, main: &MainFile, time_zone: Option<TimeZone>) -> Weave {
        let mut rules = Rules::new(path);
        if time_zone.is_none() {
            let text = format!(
                "\"{}\" is no zone that this machine knows, and no offset such as \"+08:00\"",
                main.site.time_zone
            );
            rules.refuse("site.time_zone", text);
        }
        rules.name("site.id", &main.site.id);
        rules.name("site.gateway", &main.site.gateway);
        let ledger_reset = main.site.ledger_reset.as_deref().and_then(|text| {
            let minute = schedule::minute(text).filter(|minute| *minute < crate::site::DAY_MINUTES);
            if minute.is_none() {
                let text = format!("\"{text}\" is no time of day such as \"04:00\"");
                rules.refuse("site.ledger_reset", text);
            }
            minute
        });
        let site = Site {
            id: main.site.id.clone(),
            name: main.site.name.clone(),
            gateway: main.site.gateway.clone(),
            config: String::new(),
            time_zone: time_zone.unwrap_or(TimeZone::UTC),
            ledger_reset,
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
            outputs: Vec::new(),
            contacts: Vec::new(),
            lamps: LampTable::default(),
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
            devices: BTreeMap::new(),
            displays: BTreeMap::new(),
            output_ids: Ids::new(),
            contact_ids: Ids::new(),
            inputs: BTreeMap::new(),
            output_places: BTreeMap::new(),
            lamp_places: BTreeSet::new(),
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
            let key = format!("class[{}]", table.id);
            // From an hour to a year.
            let stuck = [
                ("stuck_occupied_h", table.stuck_occupied_h),
                ("stuck_free_h", table.stuck_free_h),
            ];
            for (name, hours) in stuck {
                rules.range(format!("{key}.{name}"), hours, 1, 8_760);
            }
            self.site.classes.push(Class {
                name: table.name.unwrap_or_else(|| table.id.clone()),
                id: table.id,
                may_use,
                height_cm: table.height_cm,
                stuck_occupied_h: table.stuck_occupied_h,
                stuck_free_h: table.stuck_free_h,
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
                turn: table.turn,
                closed: table.closed,
            });
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
}

fn walk(from: [i32; 2], to: [i32; 2]) -> u32 {
    let apart = |axis: usize| f64::from(from[axis]) - f64::from(to[axis]);
    let (dx, dy) = (apart(0), apart(1));
    // At most some thousand kilometres even for nonsense positions: the cast saturates.
    (dx.hypot(dy) * WALK_S_PER_M) as u32
}
