//! Signs: which display each has, and what its kind needs to know.

use super::{Weave, schedule};
use crate::config::check::Rules;
use crate::config::device;
use crate::config::file::{SignKindName, SignTable};
use crate::profile::{Display, Format};
use crate::site::{ClassIx, Face, NodeIx, Scope, Sign, SignKind, Site, Turn, UnitIx};

impl Weave {
    pub(super) fn sign(&mut self, table: SignTable) {
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
        if table.kind != SignKindName::Count && node.is_none() {
            rules.refuse(format!("{key}.node"), "is missing: say where it hangs");
        }
        let fallback = device::fallback(rules, &key, &table.fallback, table.kind);
        let display = display_of(&self.site, unit, table.kind);
        match &display {
            None => rules.refuse(
                format!("{key}.unit"),
                format!("the profile of unit \"{}\" has no such display", table.unit),
            ),
            Some(display) => {
                let last = display.displays.saturating_sub(1);
                rules.range(format!("{key}.index"), table.index, 0, last);
                device::fits(rules, &key, display.format, &fallback, table.kind);
            }
        }
        let format = display.map(|display| display.format);
        let entries = schedule::schedule(rules, &key, &table.schedule, format);
        let delay_s = table.change_delay_s.unwrap_or(match table.kind {
            SignKindName::Count | SignKindName::CallOut => 0,
            SignKindName::Direction => 5,
        });
        let change_delay_s = rules.range(format!("{key}.change_delay_s"), delay_s, 0, 600);
        if table.kind == SignKindName::CallOut && delay_s > 0 {
            rules.refuse(format!("{key}.change_delay_s"), "belongs to a count or direction sign");
        }
        let place = (unit.0, table.kind != SignKindName::CallOut, table.index);
        // Two signs on one display would overwrite each other.
        if let Some(other) = self.displays.insert(place, table.id.clone()) {
            let text = format!("{} is already the display of sign \"{other}\"", table.index);
            rules.refuse(format!("{key}.index"), text);
        }
        let kind = self.sign_kind(&key, &table);
        if let (SignKind::Direction { scopes, .. }, Some(node)) = (&kind, node) {
            self.arrows(&key, node, scopes, format);
        }
        self.site.signs.push(Sign {
            name: table.name.unwrap_or_else(|| table.id.clone()),
            id: table.id,
            kind,
            unit,
            index: table.index,
            node,
            fallback,
            change_delay_s,
            schedule: entries,
        });
    }

    fn sign_kind(&mut self, key: &str, table: &SignTable) -> SignKind {
        let rules = &mut self.rules;
        if table.kind == SignKindName::CallOut {
            refuse_others(
                rules,
                key,
                "belongs to a count sign",
                &[
                    ("shows", table.shows.is_some()),
                    ("class", table.class.is_some()),
                    ("keep_back", table.keep_back.is_some()),
                    ("offset", table.offset.is_some()),
                    ("min", table.min.is_some()),
                    ("max", table.max.is_some()),
                ],
            );
            let queue = rules.range(format!("{key}.queue"), table.queue.unwrap_or(4), 1, 16);
            let show_s = rules.range(format!("{key}.show_s"), table.show_s.unwrap_or(8), 1, 120);
            return SignKind::CallOut { queue: queue as usize, show_s };
        }
        refuse_others(
            rules,
            key,
            "belongs to a call-out",
            &[("queue", table.queue.is_some()), ("show_s", table.show_s.is_some())],
        );
        let scopes = self.scopes(key, table);
        let rules = &mut self.rules;
        let class = table.class.as_ref().map(|class| {
            ClassIx(rules.find(format!("{key}.class"), "class", class, &self.class_ids))
        });
        let keep_back = table.keep_back.unwrap_or(0);
        let keep_back = rules.range(format!("{key}.keep_back"), keep_back, 0, 1_000);
        if table.kind == SignKindName::Direction {
            refuse_others(
                rules,
                key,
                "belongs to a count sign",
                &[
                    ("offset", table.offset.is_some()),
                    ("min", table.min.is_some()),
                    ("max", table.max.is_some()),
                ],
            );
            return SignKind::Direction { scopes, class, keep_back };
        }
        let min = table.min.unwrap_or(0);
        let max = rules.range(format!("{key}.max"), table.max.unwrap_or(9_999), 1, 65_535);
        if min > max {
            rules.refuse(format!("{key}.min"), format!("{min} is above max ({max})"));
        }
        let offset = rules.range(format!("{key}.offset"), table.offset.unwrap_or(0), -9_999, 9_999);
        SignKind::Count { scopes, class, keep_back, offset, min, max }
    }

    fn scopes(&mut self, key: &str, table: &SignTable) -> Vec<Scope> {
        let rules = &mut self.rules;
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
            rules.refuse(format!("{key}.shows"), "is missing: say which garages, levels or zones");
        }
        scopes
    }

    /// A sign that points must know which way each link leaves, and have an arrow for it.
    fn arrows(&mut self, key: &str, node: NodeIx, scopes: &[Scope], format: Option<Format>) {
        let (site, rules) = (&self.site, &mut self.rules);
        let Some(place) = site.nodes.get(node.at()).map(|node| &node.id) else { return };
        let mut turns: Vec<Turn> = Vec::new();
        for link in site.links.iter().filter(|link| link.from == node) {
            let to = &site.nodes[link.to.at()].id;
            let link_key = format!("link[{place}>{to}].turn");
            let Some(turn) = link.turn else {
                rules.refuse(link_key, format!("is missing: {key} points there"));
                continue;
            };
            if turns.contains(&turn) {
                let text = format!("two links leave {place} this way, and {key} has one arrow");
                rules.refuse(link_key, text);
            }
            if format.is_some_and(|format| !format.can_show(&Face::Arrow(turn))) {
                let text = format!("the display has no arrow for {place}>{to}");
                rules.refuse(format!("{key}.unit"), text);
            }
            turns.push(turn);
        }
        for scope in scopes {
            let garage = &site.garages[site.scope_garage(*scope).at()];
            if garage.door == node {
                let text = format!("{place} is the door of \"{}\": nothing to point to", garage.id);
                rules.refuse(format!("{key}.shows"), text);
            }
        }
    }
}

fn refuse_others(rules: &mut Rules, key: &str, text: &str, others: &[(&str, bool)]) {
    for (name, _) in others.iter().filter(|(_, given)| *given) {
        rules.refuse(format!("{key}.{name}"), text);
    }
}

fn display_of(site: &Site, unit: UnitIx, kind: SignKindName) -> Option<Display> {
    let profile = site.profiles.get(site.units.get(unit.at())?.profile as usize)?;
    match kind {
        SignKindName::Count | SignKindName::Direction => profile.sign.clone(),
        SignKindName::CallOut => profile.callout.clone(),
    }
}
