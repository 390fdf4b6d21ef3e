//! The reference site cut down or copied side by side, in memory: 1,000 to 100,000 bays.
//!
//! Copies hang at the same doors, with their units and count signs, so that a step has in each
//! garage what it has in the real one. Names come twice: nothing looks anything up by name.

use parkway::site::{BayIx, GarageIx, LevelIx, Scope, Sign, SignKind, Site, UnitIx, ZoneIx};

/// A site of about so many bays: whole garages.
pub fn sized(whole: &Site, bays: usize) -> Site {
    let mut site = whole.clone();
    if bays == whole.bays.len() {
        return site;
    }
    let mut garages = 0;
    cut(&mut site, 0);
    while site.bays.len() < bays {
        add(&mut site, whole, garages % whole.garages.len());
        garages += 1;
    }
    site
}

/// Leaves only the streets.
fn cut(site: &mut Site, garages: usize) {
    site.garages.truncate(garages);
    site.levels.clear();
    site.zones.clear();
    site.bays.clear();
    site.signs.clear();
    site.outputs.clear();
    site.contacts.clear();
    site.units.iter_mut().for_each(|unit| unit.bays.clear());
    site.destinations.iter_mut().for_each(|destination| destination.walk_s.clear());
}

/// Adds a copy of one garage.
fn add(site: &mut Site, whole: &Site, which: usize) {
    let (from, ix) = (&whole.garages[which], GarageIx(site.garages.len() as u32));
    let (level, zone, bay, unit) = (
        site.levels.len() as u32,
        site.zones.len() as u32,
        site.bays.len() as u32,
        site.units.len(),
    );
    let (level0, zone0, bay0) = (from.levels.start, from.zones.start, from.bays.start);
    let moved = |range: &std::ops::Range<u32>, to: u32, from: u32| {
        range.start + to - from..range.end + to - from
    };
    let mut garage = from.clone();
    garage.levels = moved(&from.levels, level, level0);
    garage.zones = moved(&from.zones, zone, zone0);
    garage.bays = moved(&from.bays, bay, bay0);
    garage.door_counter = None;
    site.garages.push(garage);
    for (to, from) in site.destinations.iter_mut().zip(&whole.destinations) {
        to.walk_s.push(from.walk_s[which]);
    }
    for mut it in whole.levels[from.levels.start as usize..from.levels.end as usize].iter().cloned()
    {
        it.garage = ix;
        it.zones = moved(&it.zones, zone, zone0);
        it.bays = moved(&it.bays, bay, bay0);
        site.levels.push(it);
    }
    let mut units: Vec<UnitIx> = Vec::new();
    let mut copied = |old: UnitIx| {
        let at = units.iter().position(|unit| *unit == old).unwrap_or_else(|| {
            units.push(old);
            units.len() - 1
        });
        UnitIx((unit + at) as u32)
    };
    for mut it in whole.zones[from.zones.start as usize..from.zones.end as usize].iter().cloned() {
        it.garage = ix;
        it.level = LevelIx(it.level.0 + level - level0);
        it.bays = moved(&it.bays, bay, bay0);
        it.unit = copied(it.unit);
        it.lamps = None;
        site.zones.push(it);
    }
    for mut it in whole.bays[from.bays.start as usize..from.bays.end as usize].iter().cloned() {
        it.garage = ix;
        it.zone = ZoneIx(it.zone.0 + zone - zone0);
        it.unit = copied(it.unit);
        site.bays.push(it);
    }
    for old in units {
        let mut unit = whole.units[old.at()].clone();
        for point in &mut unit.bays {
            let here = |bay: &BayIx| from.bays.contains(&bay.0);
            *point = point.filter(here).map(|old| BayIx(old.0 + bay - bay0));
        }
        site.units.push(unit);
    }
    let shift = |scope: Scope| match scope {
        Scope::Garage(_) => Scope::Garage(ix),
        Scope::Level(old) => Scope::Level(LevelIx(old.0 + level - level0)),
        Scope::Zone(old) => Scope::Zone(ZoneIx(old.0 + zone - zone0)),
    };
    let signs = whole.signs.iter().filter(|sign| ours(whole, sign, which));
    for mut sign in signs.cloned() {
        if let SignKind::Count { scopes, .. } = &mut sign.kind {
            scopes.iter_mut().for_each(|scope| *scope = shift(*scope));
        }
        site.signs.push(sign);
    }
}

/// A count sign that looks at this garage only.
fn ours(whole: &Site, sign: &Sign, which: usize) -> bool {
    let SignKind::Count { scopes, .. } = &sign.kind else { return false };
    scopes.iter().all(|scope| whole.scope_garage(*scope).at() == which)
}
