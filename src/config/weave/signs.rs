//! Signs: which display each has, and what its kind needs to know.

use super::Weave;
use crate::config::device;
use crate::config::file::{SignKindName, SignTable};
use crate::profile::Display;
use crate::site::{ClassIx, NodeIx, Sign, SignKind, Site, UnitIx};

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

fn display_of(site: &Site, unit: UnitIx, kind: SignKindName) -> Option<Display> {
    let profile = site.profiles.get(site.units.get(unit.at())?.profile as usize)?;
    match kind {
        SignKindName::Count => profile.sign.clone(),
        SignKindName::CallOut => profile.callout.clone(),
    }
}
