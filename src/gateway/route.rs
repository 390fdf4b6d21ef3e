//! The way from any node to any garage's door: precomputed, and again when a link closes.
//!
//! Two times belong to a way: what it costs (a surface second weighs more, see
//! `guidance.surface_weight_tenths`) decides which way and which garage; what it takes is told to
//! the driver and makes the lease's length. One backward search a garage: 26 searches over some
//! hundred links, a millisecond at most, only at start and when something closes.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::fmt;

use crate::site::{GarageIx, LinkIx, LinkKind, NodeIx, NodeKind, Site};

/// What it is to reach one garage from one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leg {
    /// Weighted, for choosing.
    pub cost_ms: u32,
    /// Unweighted, for telling.
    pub drive_ms: u32,
    /// The first link of the way; `None` at the door itself.
    next: Option<LinkIx>,
}

/// All ways of the site under the present closures.
#[derive(Clone, PartialEq, Eq)]
pub struct Routes {
    garages: usize,
    /// By node, then garage; `None` where there is no way.
    legs: Vec<Option<Leg>>,
}

/// How many, not which: thousands of legs are no help in a message.
impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Routes({})", self.legs.len())
    }
}

impl Routes {
    /// Searches all ways, leaving out closed nodes and links.
    pub fn new(
        site: &Site,
        surface_weight_tenths: u32,
        closed_nodes: &BTreeSet<NodeIx>,
        closed_links: &BTreeSet<LinkIx>,
    ) -> Routes {
        let garages = site.garages.len();
        let mut legs = vec![None; site.nodes.len() * garages];
        let mut into: Vec<Vec<(LinkIx, u32, u32)>> = vec![Vec::new(); site.nodes.len()];
        for (ix, link) in (0..).map(LinkIx).zip(&site.links) {
            let passable = !link.closed
                && !closed_links.contains(&ix)
                && !closed_nodes.contains(&link.from)
                && !closed_nodes.contains(&link.to);
            if passable {
                let drive_ms = link.drive_ms();
                let weight =
                    if link.kind == LinkKind::Surface { surface_weight_tenths } else { 10 };
                // 14,400,000 ms at most times 100 tenths stays inside u32 (see Link::drive_ms).
                into[link.to.at()].push((ix, drive_ms, drive_ms / 10 * weight));
            }
        }
        for (garage, door) in site.garages.iter().map(|garage| garage.door).enumerate() {
            if !closed_nodes.contains(&door) {
                search(site, &into, door, |node, leg| {
                    legs[node.at() * garages + garage] = Some(leg)
                });
            }
        }
        Routes { garages, legs }
    }

    /// How to reach a garage from a node.
    pub fn leg(&self, from: NodeIx, garage: GarageIx) -> Option<Leg> {
        self.legs[from.at() * self.garages + garage.at()]
    }

    /// The first link of the way; `None` at the door itself or where there is no way.
    pub fn next(&self, from: NodeIx, garage: GarageIx) -> Option<LinkIx> {
        self.leg(from, garage)?.next
    }

    /// Whether any garage can be reached from there.
    pub fn any(&self, from: NodeIx) -> bool {
        let first = from.at() * self.garages;
        self.legs[first..first + self.garages].iter().any(Option::is_some)
    }

    /// The links to drive, in order; empty at the door or where there is no way.
    pub fn way(&self, site: &Site, from: NodeIx, garage: GarageIx) -> Vec<LinkIx> {
        let mut way = Vec::new();
        let mut node = from;
        while let Some(next) = self.next(node, garage) {
            way.push(next);
            node = site.links[next.at()].to;
            assert!(way.len() <= site.links.len(), "a shortest way never meets a link twice");
        }
        way
    }
}

/// Dijkstra against the direction of travel, from the door outwards.
fn search(
    site: &Site,
    into: &[Vec<(LinkIx, u32, u32)>],
    door: NodeIx,
    mut settle: impl FnMut(NodeIx, Leg),
) {
    let mut done = vec![false; site.nodes.len()];
    // Least cost first; the link's index makes equal costs come out the same way every time.
    let mut open = BinaryHeap::from([Reverse((0u32, 0u32, None, door))]);
    while let Some(Reverse((cost_ms, drive_ms, next, node))) = open.pop() {
        if std::mem::replace(&mut done[node.at()], true) {
            continue;
        }
        settle(node, Leg { cost_ms, drive_ms, next });
        for (link, drive, cost) in &into[node.at()] {
            let from = site.links[link.at()].from;
            if !done[from.at()] {
                let cost_ms = cost_ms.saturating_add(*cost);
                open.push(Reverse((cost_ms, drive_ms.saturating_add(*drive), Some(*link), from)));
            }
        }
    }
}

/// The portal a way passes: where it starts if that is one, else the first it meets.
pub fn portal(site: &Site, from: NodeIx, way: &[LinkIx]) -> Option<NodeIx> {
    let ends = way.iter().map(|link| site.links[link.at()].to);
    std::iter::once(from).chain(ends).find(|node| site.nodes[node.at()].kind == NodeKind::Portal)
}

/// One sentence for each place where the driver has a choice.
pub fn directions(site: &Site, way: &[LinkIx]) -> Vec<String> {
    let mut told = Vec::new();
    for link in way.iter().map(|link| &site.links[link.at()]) {
        let choices = site.links.iter().filter(|other| other.from == link.from).count();
        if choices > 1 || !link.text.is_empty() {
            let to = &site.nodes[link.to.at()].name;
            let sign = if link.text.is_empty() { to } else { &link.text };
            told.push(format!("At {} follow \"{sign}\".", site.nodes[link.from.at()].name));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::testing;

    #[test]
    fn a_missed_fork_costs_the_rest_of_the_lap() {
        let site = testing::site();
        let routes = Routes::new(&site, 20, &BTreeSet::new(), &BTreeSet::new());
        let portal = site.node("p1").unwrap();
        let near = routes.leg(portal, GarageIx(0)).unwrap();
        let past = routes.leg(site.node("f2").unwrap(), GarageIx(0)).unwrap();
        assert!(past.drive_ms > near.drive_ms, "{past:?} {near:?}");
    }

    #[test]
    fn surface_weighs_double_and_takes_single() {
        let site = testing::site();
        let from = site.node("a1").unwrap();
        let plain = Routes::new(&site, 10, &BTreeSet::new(), &BTreeSet::new());
        let heavy = Routes::new(&site, 20, &BTreeSet::new(), &BTreeSet::new());
        let (plain, heavy) =
            (plain.leg(from, GarageIx(0)).unwrap(), heavy.leg(from, GarageIx(0)).unwrap());
        assert_eq!(plain.drive_ms, heavy.drive_ms);
        assert_eq!(heavy.cost_ms - plain.cost_ms, 120_000, "1 km of surface at 30 km/h");
    }

    #[test]
    fn a_closed_portal_cuts_its_approach_off() {
        let site = testing::site();
        let closed = BTreeSet::from([site.node("p1").unwrap()]);
        let routes = Routes::new(&site, 20, &closed, &BTreeSet::new());
        assert!(!routes.any(site.node("a1").unwrap()));
        assert!(routes.any(site.node("f1").unwrap()));
    }

    #[test]
    fn the_way_ends_at_the_door_and_names_portal_and_forks() {
        let site = testing::site();
        let routes = Routes::new(&site, 20, &BTreeSet::new(), &BTreeSet::new());
        let from = site.node("a1").unwrap();
        let way = routes.way(&site, from, GarageIx(1));
        assert_eq!(site.links[way.last().unwrap().at()].to, site.garages[1].door);
        assert_eq!(portal(&site, from, &way), site.node("p1"));
        let told = directions(&site, &way);
        assert!(told.iter().any(|line| line.contains("Fork 2")), "{told:?}");
    }
}
