//! Where a direction sign points: along the first link of the cheapest open way to the cheapest
//! of its scopes that has room.
//!
//! Room is a free bay that nobody was promised, or room by the ledger where nobody can see. A
//! scope that is mostly unknown has neither room nor none, so it takes no driver while another has
//! room, and makes no sign say FULL.

use super::choose::View;
use super::route::Routes;
use crate::site::{ClassIx, NodeIx, Scope, Site, Turn, ZoneIx};

/// What a scope has for who follows an arrow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    Free,
    Full,
    /// By staff or an incident, all of it.
    Closed,
    Unknown,
}

/// What a direction sign has to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pointed {
    Arrow(Turn),
    Full,
    /// Nothing is open, or no open way leads there.
    Closed,
    Unknown,
}

/// What a scope has, of one class or of all, beyond what is kept back.
pub fn room(view: &View<'_>, scope: Scope, class: Option<ClassIx>, keep_back: u32) -> Room {
    let tally = view.bays.tally(scope, class);
    let open = tally.total() - tally.closed;
    if open == 0 {
        let mut bays = view.site.scope_bays(scope).map(crate::site::BayIx);
        let shut = bays.all(|bay| view.bays.get(bay).closures > 0);
        return if shut { Room::Closed } else { Room::Full };
    }
    let promised = view.ledger.promised(view.site, scope);
    if tally.free.saturating_sub(promised) > keep_back || believed(view, scope, class) {
        return Room::Free;
    }
    if tally.unknown * 100 > open * view.tuning.unknown_max_percent {
        return Room::Unknown;
    }
    Room::Full
}

/// Whether the ledger believes in room where nobody can see.
fn believed(view: &View<'_>, scope: Scope, class: Option<ClassIx>) -> bool {
    if let (Scope::Garage(garage), None) = (scope, class) {
        return view.ledger.room(view.site, garage) > 0;
    }
    view.site.scope_zones(scope).map(ZoneIx).any(|zone| {
        let bays = view.site.zones[zone.at()].bays.len() as u32;
        let fitting = class.map_or(bays, |class| view.bays.compatible(zone, &[(class, 0)]));
        view.ledger.silent(zone) && view.ledger.zone_room(zone, fitting, bays)
    })
}

/// Where to point from a node, given what each scope has.
pub fn point(
    site: &Site,
    routes: &Routes,
    node: NodeIx,
    scopes: &[Scope],
    rooms: &[Room],
) -> Pointed {
    let mut best: Option<(u32, Turn)> = None;
    let (mut full, mut unknown) = (false, false);
    for (scope, room) in scopes.iter().zip(rooms) {
        let Some((cost_ms, turn)) = way(site, routes, node, *scope) else { continue };
        match room {
            Room::Free if best.is_none_or(|(least, _)| cost_ms < least) => {
                best = Some((cost_ms, turn));
            }
            Room::Free | Room::Closed => (),
            Room::Full => full = true,
            Room::Unknown => unknown = true,
        }
    }
    match (best, unknown, full) {
        (Some((_, turn)), _, _) => Pointed::Arrow(turn),
        (None, true, _) => Pointed::Unknown,
        (None, false, true) => Pointed::Full,
        (None, false, false) => Pointed::Closed,
    }
}

/// Whether an arrow still leads to anything open, full or not.
pub fn leads(
    site: &Site,
    routes: &Routes,
    node: NodeIx,
    scopes: &[Scope],
    rooms: &[Room],
    arrow: Turn,
) -> bool {
    let mut open = scopes.iter().zip(rooms).filter(|(_, room)| **room != Room::Closed);
    open.any(|(scope, _)| way(site, routes, node, *scope).is_some_and(|(_, turn)| turn == arrow))
}

fn way(site: &Site, routes: &Routes, node: NodeIx, scope: Scope) -> Option<(u32, Turn)> {
    let garage = site.scope_garage(scope);
    let cost_ms = routes.leg(node, garage)?.cost_ms;
    let link = routes.next(node, garage)?;
    Some((cost_ms, site.links[link.at()].turn?))
}
