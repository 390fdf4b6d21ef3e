//! The index that finds the cheapest bay: what a vehicle pays to the door, and within a garage a
//! bit a bay in the order of what it costs from there.
//!
//! A bay's cost separates: the way to the garage and on foot to the destination, what the bay
//! costs inside, and prices that belong to the garage and the class. So no order for each origin
//! and destination is needed: one row of garages, added up and compared, finds the garage, and the
//! garage's first bay of that class is already known. A bay that fills or empties sets one bit.
//!
//! Two prices spread the load; drivers are never told them. A garage costs more the fuller it is,
//! with the square of its occupancy, so that no garage is filled to its last bay while another has
//! room. And bays that some class cannot do without cost every more flexible class more, the
//! fewer are left, so that ordinary cars do not stand where only tall vehicles could.
//!
//! Doubtful bays come after all others, and after promises by count
//! too. All costs are whole milliseconds, and equal ones go to the lowest bay.

use super::route::Routes;
use crate::config::GuidanceTable;
use crate::record::Tally;
use crate::site::{BayIx, ClassIx, DestinationIx, GarageIx, NodeIx, Site};

/// Above every sum of costs: there is no way, no room, or no right. Four of these fit an `i32`.
pub const NONE: i32 = 1 << 28;
/// Highest part of a cost, 18 hours: what is more counts as that.
const PART_MAX: u64 = (1 << 26) - 1;
/// No bay of a cell can be given.
const NOWHERE: u32 = u32::MAX;
/// Set in the key of a doubtful bay, so that it comes after all others.
const DOUBT: u32 = 1 << 31;
/// What a doubtful bay costs more: nine hours, so that anything else comes before it, a zone by its
/// count too.
pub const DOUBT_MS: i32 = 1 << 25;
/// Occupancy is told in so many steps where it prices a class.
const STEPS: u32 = 256;

/// A part of a cost.
pub fn part(ms: u64) -> i32 {
    ms.min(PART_MAX) as i32
}

/// From everywhere to every garage's door and on foot to every destination, weighted.
#[derive(Clone, Debug)]
pub struct Doors {
    garages: usize,
    /// Destinations and none.
    ends: usize,
    /// By node, then destination (none last), then garage.
    costs: Vec<i32>,
}

impl Doors {
    /// Adds the walks to the ways.
    pub fn new(site: &Site, tuning: &GuidanceTable, routes: &Routes) -> Doors {
        let (garages, ends) = (site.garages.len(), site.destinations.len() + 1);
        let mut costs = Vec::with_capacity(site.nodes.len() * ends * garages);
        for node in (0..site.nodes.len() as u32).map(NodeIx) {
            for end in 0..ends {
                for garage in (0..garages as u32).map(GarageIx) {
                    let walk_s = site.destinations.get(end).map_or(0, |d| d.walk_s[garage.at()]);
                    let walk_ms = u64::from(walk_s) * 100 * u64::from(tuning.walk_weight_tenths);
                    let leg = routes.leg(node, garage);
                    costs.push(leg.map_or(NONE, |leg| part(u64::from(leg.cost_ms) + walk_ms)));
                }
            }
        }
        Doors { garages, ends, costs }
    }

    /// What each garage's door costs.
    pub fn row(&self, at: NodeIx, destination: Option<DestinationIx>) -> &[i32] {
        let end = destination.map_or(self.ends - 1, |destination| destination.at());
        let first = (at.at() * self.ends + end) * self.garages;
        &self.costs[first..first + self.garages]
    }
}

/// What a bay costs from its garage's door: the drive, and the walk back to the core, weighted.
pub fn inside(site: &Site, walk_weight_tenths: u32, ix: BayIx) -> i32 {
    let zone = &site.zones[site.bays[ix.at()].zone.at()];
    let weight = 100 * u64::from(walk_weight_tenths);
    let depth = u64::from(ix.0 - zone.bays.start);
    let spread_ms = u64::from(zone.spread_s) * weight * depth / zone.bays.len() as u64;
    part(u64::from(zone.drive_s) * 1_000 + u64::from(zone.walk_s) * weight + spread_ms)
}

/// `price_s` when full, and with the square of the occupancy below that.
fn priced(price_s: u32, taken: u32, of: u32) -> i32 {
    let (taken, of) = (u64::from(taken), u64::from(of.max(1)));
    part(u64::from(price_s) * 1_000 * taken * taken / (of * of))
}

/// Where a bay stands in the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offer {
    Not,
    Trusted,
    Doubtful,
}

/// One way for a class to be served: bays of this class.
#[derive(Clone, Copy, Debug)]
struct Way {
    class: ClassIx,
    /// Where its row of what that costs more begins.
    first: usize,
}

/// What a class has to itself and shares.
#[derive(Clone, Copy, Debug, Default)]
struct Pool {
    /// Bays that serve it, whatever their state.
    bays: u32,
    /// Of these: neither unknown nor closed, and taken or promised.
    seen: u32,
    taken: u32,
    /// Occupancy as priced.
    step: u32,
}

/// The index.
#[derive(Clone, Debug)]
pub struct Index {
    garages: usize,
    /// By bay: what it costs inside, its cell and its bit.
    inside: Vec<i32>,
    cell: Vec<u32>,
    bit: Vec<u32>,
    /// By cell (class, then garage): its words, and the bays of its bits in order.
    words: Vec<std::ops::Range<u32>>,
    order: Vec<BayIx>,
    trusted: Vec<u64>,
    doubtful: Vec<u64>,
    /// By cell: bit of the first bay to give, what it costs and which it is.
    first: Vec<u32>,
    cost: Vec<i32>,
    bay: Vec<BayIx>,
    /// By garage: its price.
    price: Vec<i32>,
    /// By class that asks.
    ways: Vec<Vec<Way>>,
    /// By way, then garage: penalty and whether it fits; which classes depend on these bays more;
    /// and the penalty with the price of that.
    fixed: Vec<i32>,
    spared: Vec<u32>,
    extra: Vec<i32>,
    /// By cell: the classes it serves.
    serves: Vec<u32>,
    pools: Vec<Pool>,
    price_garage_s: u32,
    price_class_s: u32,
    walk_weight_tenths: u32,
}

impl Index {
    /// Nothing to give yet.
    pub fn new(site: &Site, tuning: &GuidanceTable) -> Index {
        let (garages, classes) = (site.garages.len(), site.classes.len());
        let mut index = Index {
            garages,
            inside: Vec::new(),
            cell: Vec::new(),
            bit: vec![0; site.bays.len()],
            words: Vec::new(),
            order: Vec::new(),
            trusted: Vec::new(),
            doubtful: Vec::new(),
            first: vec![NOWHERE; classes * garages],
            cost: vec![NONE; classes * garages],
            bay: vec![BayIx(u32::MAX); classes * garages],
            price: vec![0; garages],
            ways: Vec::new(),
            fixed: Vec::new(),
            spared: Vec::new(),
            extra: Vec::new(),
            serves: vec![0; classes * garages],
            pools: vec![Pool::default(); classes],
            price_garage_s: tuning.price_occupancy_s,
            price_class_s: tuning.price_class_s,
            walk_weight_tenths: tuning.walk_weight_tenths,
        };
        index.line_up(site);
        index.class_ways(site);
        index
    }

    /// Whether another tuning takes another index.
    pub fn follows(&self, tuning: &GuidanceTable) -> bool {
        self.price_garage_s == tuning.price_occupancy_s
            && self.price_class_s == tuning.price_class_s
            && self.walk_weight_tenths == tuning.walk_weight_tenths
    }

    /// Puts the bays of each cell in order.
    fn line_up(&mut self, site: &Site) {
        let bays = (0..site.bays.len() as u32).map(BayIx);
        self.inside = bays.clone().map(|ix| inside(site, self.walk_weight_tenths, ix)).collect();
        let cell = |bay: &crate::site::Bay| bay.class.0 * self.garages as u32 + bay.garage.0;
        self.cell = site.bays.iter().map(cell).collect();
        let mut cells = vec![Vec::new(); self.first.len()];
        bays.for_each(|ix| cells[self.cell[ix.at()] as usize].push(ix));
        for mut bays in cells {
            bays.sort_by_key(|ix| (self.inside[ix.at()], *ix));
            let start = self.order.len() as u32 / 64;
            for ix in bays {
                self.bit[ix.at()] = self.order.len() as u32;
                self.order.push(ix);
            }
            self.order.resize(self.order.len().next_multiple_of(64), BayIx(u32::MAX));
            self.words.push(start..self.order.len() as u32 / 64);
        }
        self.trusted = vec![0; self.order.len() / 64];
        self.doubtful = self.trusted.clone();
    }

    /// Works out who may use what, and who depends on it most.
    fn class_ways(&mut self, site: &Site) {
        let fits = |class: &crate::site::Class, garage: usize| {
            class.height_cm <= site.garages[garage].clearance_cm
        };
        for (ix, class) in site.classes.iter().enumerate() {
            for (allowed, _) in &class.may_use {
                for garage in (0..self.garages).filter(|garage| fits(class, *garage)) {
                    self.serves[allowed.at() * self.garages + garage] |= 1 << ix;
                }
            }
        }
        for cell in &self.cell {
            for (ix, pool) in self.pools.iter_mut().enumerate() {
                pool.bays += self.serves[*cell as usize] >> ix & 1;
            }
        }
        for (ix, class) in site.classes.iter().enumerate() {
            let mut ways = Vec::new();
            for (allowed, penalty_s) in &class.may_use {
                ways.push(Way { class: *allowed, first: self.fixed.len() });
                for garage in 0..self.garages {
                    let penalty = part(u64::from(*penalty_s) * 1_000);
                    self.fixed.push(if fits(class, garage) { penalty } else { NONE });
                    let serves = self.serves[allowed.at() * self.garages + garage];
                    let poorer = |other: &usize| {
                        serves >> other & 1 == 1 && self.pools[*other].bays < self.pools[ix].bays
                    };
                    let poorer = (0..self.pools.len()).filter(poorer);
                    self.spared.push(poorer.map(|other| 1 << other).sum());
                }
            }
            self.ways.push(ways);
        }
        self.extra = self.fixed.clone();
    }

    /// The cheapest bay to give, and its priced cost: in one garage, or in any.
    pub fn cheapest(
        &self,
        doors: &[i32],
        class: ClassIx,
        within: Option<GarageIx>,
    ) -> Option<(BayIx, i32)> {
        let (mut least, mut best) = (NONE - 1, None);
        let range = match within {
            Some(garage) => garage.at()..garage.at() + 1,
            None => 0..self.garages,
        };
        let (doors, price) = (&doors[range.clone()], &self.price[range.clone()]);
        for way in &self.ways[class.at()] {
            let cells = way.class.at() * self.garages;
            let cells = cells + range.start..cells + range.end;
            let extra = &self.extra[way.first + range.start..way.first + range.end];
            let lanes = doors.iter().zip(price).zip(extra).zip(&self.cost[cells.clone()]);
            let sums = lanes.map(|(((door, price), extra), cost)| door + price + extra + cost);
            let lowest = sums.clone().fold(NONE, i32::min);
            if lowest > least {
                continue;
            }
            let bays = sums.zip(&self.bay[cells]).filter(|(sum, _)| *sum == lowest);
            let bay = bays.map(|(_, bay)| *bay).min();
            best = if lowest < least { bay } else { best.into_iter().chain(bay).min() };
            least = lowest;
        }
        best.map(|bay| (bay, least))
    }

    /// What a bay costs a class beyond its garage's door, with the prices, whoever has it now;
    /// `None` where it does not serve it.
    pub fn cost_of(&self, class: ClassIx, bay: BayIx, doubt: bool) -> Option<i32> {
        let (kind, garage) = (
            self.cell[bay.at()] as usize / self.garages,
            self.cell[bay.at()] as usize % self.garages,
        );
        let way = self.ways[class.at()].iter().find(|way| way.class.at() == kind)?;
        let extra = Some(self.extra[way.first + garage]).filter(|extra| *extra < NONE)?;
        let doubt_ms = if doubt { DOUBT_MS } else { 0 };
        Some(extra + self.price[garage] + self.inside[bay.at()] + doubt_ms)
    }

    /// What a garage costs a class at least beyond its door and a bay's inside: for promises that
    /// name no bay. `None` where the class fits nowhere in it.
    pub fn beyond(&self, class: ClassIx, garage: GarageIx) -> Option<i32> {
        let ways = self.ways[class.at()].iter();
        let least = ways.map(|way| self.extra[way.first + garage.at()]).min()?;
        (least < NONE).then(|| least + self.price[garage.at()])
    }

    /// Puts a bay where it belongs now.
    #[inline]
    pub fn offer(&mut self, bay: BayIx, offer: Offer) {
        let (bit, cell) = (self.bit[bay.at()], self.cell[bay.at()] as usize);
        let (word, mask) = (bit as usize / 64, 1u64 << (bit % 64));
        let before = if self.trusted[word] & mask != 0 {
            bit
        } else if self.doubtful[word] & mask != 0 {
            bit | DOUBT
        } else {
            NOWHERE
        };
        self.trusted[word] &= !mask;
        self.doubtful[word] &= !mask;
        let after = match offer {
            Offer::Not => NOWHERE,
            Offer::Trusted => {
                self.trusted[word] |= mask;
                bit
            }
            Offer::Doubtful => {
                self.doubtful[word] |= mask;
                bit | DOUBT
            }
        };
        if after < self.first[cell] {
            self.lead(cell, after);
        } else if before != after && before == self.first[cell] {
            self.lead(cell, self.look(cell));
        }
    }

    fn look(&self, cell: usize) -> u32 {
        let words = self.words[cell].clone();
        let first = |bits: &[u64]| {
            let word = words.clone().find(|word| bits[*word as usize] != 0)?;
            Some(word * 64 + bits[word as usize].trailing_zeros())
        };
        let doubtful = || first(&self.doubtful).map(|bit| bit | DOUBT);
        first(&self.trusted).or_else(doubtful).unwrap_or(NOWHERE)
    }

    fn lead(&mut self, cell: usize, first: u32) {
        self.first[cell] = first;
        (self.bay[cell], self.cost[cell]) = if first == NOWHERE {
            (BayIx(u32::MAX), NONE)
        } else {
            let bay = self.order[(first & !DOUBT) as usize];
            let doubt_ms = if first & DOUBT == 0 { 0 } else { DOUBT_MS };
            (bay, self.inside[bay.at()] + doubt_ms)
        };
    }

    /// A garage's totals changed: it has another price.
    #[inline]
    pub fn fill(&mut self, garage: GarageIx, tally: Tally) {
        let taken = tally.held + tally.occupied;
        self.price[garage.at()] = priced(self.price_garage_s, taken, taken + tally.free);
    }

    /// A bay came to be seen or not (`seen` +1, 0, -1), and taken or not.
    #[inline]
    pub fn count(&mut self, bay: BayIx, seen: i32, taken: i32) {
        let mut serves = self.serves[self.cell[bay.at()] as usize];
        while serves != 0 {
            let pool = &mut self.pools[serves.trailing_zeros() as usize];
            serves &= serves - 1;
            pool.seen = pool.seen.wrapping_add_signed(seen);
            pool.taken = pool.taken.wrapping_add_signed(taken);
        }
    }

    /// Prices the classes by what was counted: once before anything is chosen, not at each bay.
    pub fn price_classes(&mut self) {
        let mut moved = false;
        for pool in &mut self.pools {
            let step = pool.taken * STEPS / pool.seen.max(1);
            moved |= std::mem::replace(&mut pool.step, step) != step;
        }
        if !moved {
            return;
        }
        let mut prices = [0; 32];
        for (price_ms, pool) in prices.iter_mut().zip(&self.pools) {
            *price_ms = priced(self.price_class_s, pool.step, STEPS);
        }
        let lanes = self.extra.iter_mut().zip(&self.fixed).zip(&self.spared);
        for ((extra, fixed), spared) in lanes.filter(|((_, fixed), _)| **fixed < NONE) {
            let (mut spared, mut most) = (*spared, 0);
            while spared != 0 {
                most = most.max(prices[spared.trailing_zeros() as usize]);
                spared &= spared - 1;
            }
            *extra = fixed + most;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use crate::config::{self, GuidanceTable};
    use crate::gateway::measure::Taker;
    use crate::site::{ClassIx, DestinationIx, NodeIx, NodeKind, Site};

    /// The reference site, from dawn to 95 % full with nothing but cars, then tall vehicles.
    #[test]
    fn cars_that_came_first_leave_room_for_tall_vehicles() {
        let (refused, _) = vans(1_000, 1_000);
        assert_eq!(refused, 0, "a tall vehicle found no place while cars stand in its bays");
        let (refused, _) = vans(0, 0);
        assert!(refused > 0, "without prices this test says nothing");
    }

    /// How many of 600 tall vehicles find nothing, and how many get a bay.
    fn vans(price_occupancy_s: u32, price_class_s: u32) -> (usize, usize) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/jiefangbei/parkway.toml");
        let site = Arc::new(config::load(&path).expect("the reference site is right").site);
        let tuning = GuidanceTable { price_occupancy_s, price_class_s, ..GuidanceTable::default() };
        let mut taker = Taker::new(&site, &tuning);
        let [car, tall] = ["car", "tall"].map(|class| site.class(class).expect("it has one"));
        let cars = site.bays.iter().filter(|bay| bay.class == car).count();
        for driver in 0..cars * 95 / 100 {
            assert!(arrive(&site, &mut taker, driver, car), "there is room for every car");
        }
        let found = (0..600).filter(|driver| arrive(&site, &mut taker, *driver, tall)).count();
        (600 - found, found)
    }

    fn arrive(site: &Site, taker: &mut Taker, driver: usize, class: ClassIx) -> bool {
        let nodes = (0..).map(NodeIx).zip(&site.nodes);
        let portals: Vec<NodeIx> =
            nodes.filter(|(_, node)| node.kind == NodeKind::Portal).map(|(ix, _)| ix).collect();
        let to = DestinationIx((driver / portals.len() % site.destinations.len()) as u32);
        taker.take(portals[driver % portals.len()], Some(to), class).is_some()
    }
}
