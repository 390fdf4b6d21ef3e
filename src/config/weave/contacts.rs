//! Contacts: which input each is, and what it closes.

use super::Weave;
use crate::config::file::{ActiveName, ContactTable};
use crate::site::{Contact, ContactKind, UnitIx};

/// Contacts of a site: some for each of the reference site's garages and portals.
const CONTACTS_MAX: usize = 256;

impl Weave {
    pub(super) fn contact(&mut self, table: ContactTable) {
        let key = format!("contact[{}]", table.id);
        let rules = &mut self.rules;
        rules.name(format!("{key}.id"), &table.id);
        rules.add(&key, "contact", &table.id, self.site.contacts.len(), &mut self.contact_ids);
        if self.site.contacts.len() == CONTACTS_MAX {
            rules.refuse("contact (how many)", format!("more than {CONTACTS_MAX}"));
        }
        let unit = format!("{key}.unit");
        let unit = UnitIx(rules.find(&unit, "unit", &table.unit, &self.unit_ids));
        let profile = self.site.units.get(unit.at()).map(|unit| unit.profile as usize);
        let profile = profile.and_then(|ix| self.site.profiles.get(ix));
        match profile.and_then(|profile| profile.contacts.as_ref()) {
            None => rules.refuse(
                format!("{key}.unit"),
                format!("the profile of unit \"{}\" has no contacts", table.unit),
            ),
            Some(contacts) => {
                let last = contacts.count.saturating_sub(1);
                rules.range(format!("{key}.index"), table.index, 0, last);
            }
        }
        if let Some(other) = self.inputs.insert((unit.0, table.index), table.id.clone()) {
            let text = format!("{} is already contact \"{other}\"", table.index);
            rules.refuse(format!("{key}.index"), text);
        }
        let mut closes = Vec::new();
        for path in table.closes.iter().flatten() {
            match self.site.scope(path) {
                Some(scope) if closes.contains(&scope) => {
                    rules.refuse(format!("{key}.closes"), format!("\"{path}\" stands there twice"));
                }
                Some(scope) => closes.push(scope),
                None => rules.refuse(
                    format!("{key}.closes"),
                    format!("there is no garage, level or zone \"{path}\""),
                ),
            }
        }
        let empty = table.closes.as_ref().is_none_or(Vec::is_empty);
        match table.kind {
            ContactKind::Fire if empty => {
                rules.refuse(format!("{key}.closes"), "is missing: a fire contact closes something")
            }
            ContactKind::Note if table.closes.is_some() => {
                rules.refuse(format!("{key}.closes"), "belongs to kind \"fire\": a note is told");
            }
            ContactKind::Fire | ContactKind::Note => (),
        }
        self.site.contacts.push(Contact {
            name: table.name.unwrap_or_else(|| table.id.clone()),
            id: table.id,
            unit,
            index: table.index,
            kind: table.kind,
            closes,
            active_open: table.active == ActiveName::Open,
        });
    }
}
