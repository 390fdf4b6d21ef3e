//! Lines and their units: one owner an endpoint, one unit an address.

use super::{Ids, Weave};
use crate::config::file::LineTable;
use crate::site::{Line, LineIx, Unit, UnitIx};

impl Weave {
    pub(super) fn lines(&mut self, tables: Vec<LineTable>, stale_ms: u32) {
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
}
