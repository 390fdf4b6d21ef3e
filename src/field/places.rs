//! Where everything that is written on a line lies, and how each is written to.
//!
//! The owner of a line knows places by their number only; [`Route`]s say which sign, lamp or
//! output has which. Places are in order of unit, table and address, so that neighbours can share
//! a write; a zone's lamps are neighbours, in bay order.

use crate::field::write;
use crate::profile::{Display, Format, Table};
use crate::site::{BayIx, ColourIx, LineIx, OutputIx, SignIx, Site, UnitIx, ZoneIx};

/// What a place is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Sign,
    Output,
    Lamp,
}

/// Where a value goes and how it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Position of its unit on the line.
    pub unit: usize,
    pub table: Table,
    pub first: u16,
    /// Items that make one value.
    pub width: u16,
    pub kind: Kind,
    /// The most items that the unit takes in one write.
    pub cap: u16,
    /// False where a write is executed without an answer.
    pub replies: bool,
    pub read_back: bool,
}

/// What a place belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Owner {
    Sign(SignIx),
    Output(OutputIx),
    Lamp(BayIx),
}

/// All places of a line, in order.
pub fn places(site: &Site, line: LineIx) -> Vec<(Owner, Place)> {
    let units = &site.lines[line.at()].units;
    let position = |unit: UnitIx| units.iter().position(|other| *other == unit);
    let mut places = Vec::new();
    // `check` refuses a sign, an output or a lamp whose unit has no such part.
    for (sign, ix) in site.signs.iter().zip(0..) {
        if let (Some(unit), Some(display)) = (position(sign.unit), site.display(sign)) {
            places.push((Owner::Sign(SignIx(ix)), sign_place(unit, display, sign.index)));
        }
    }
    for (output, ix) in site.outputs.iter().zip(0..) {
        let part = &site.profile(output.unit).outputs;
        if let (Some(unit), Some(part)) = (position(output.unit), part) {
            let place = Place {
                unit,
                table: part.table,
                first: part.base + output.index,
                width: 1,
                kind: Kind::Output,
                cap: part.write_max.unwrap_or(part.table.write_max()),
                replies: part.replies,
                read_back: part.read_back,
            };
            places.push((Owner::Output(OutputIx(ix)), place));
        }
    }
    for zone in &site.zones {
        let Some(lamps) = zone.lamps else { continue };
        let part = &site.profile(lamps.unit).lamps;
        let (Some(unit), Some(part)) = (position(lamps.unit), part) else { continue };
        for (bay, point) in zone.bays.clone().map(BayIx).zip(lamps.first..) {
            let place = Place {
                unit,
                table: part.table,
                first: part.base + point,
                width: 1,
                kind: Kind::Lamp,
                cap: part.write_max.unwrap_or(part.table.write_max()),
                replies: part.replies,
                read_back: part.read_back,
            };
            places.push((Owner::Lamp(bay), place));
        }
    }
    places.sort_by_key(|(_, place)| (place.unit, place.table, place.first));
    places
}

fn sign_place(unit: usize, display: &Display, index: u16) -> Place {
    let cap = if display.one_register { Some(1) } else { display.write_max };
    Place {
        unit,
        table: Table::Holding,
        first: display.base + display.stride * index,
        width: write::width(display.format),
        kind: Kind::Sign,
        cap: cap.unwrap_or(Table::Holding.write_max()),
        replies: display.replies,
        read_back: display.read_back,
    }
}

/// A place of the site: its line and its number there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    pub line: LineIx,
    pub slot: usize,
}

/// Which place everything has, and the values for it.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    signs: Vec<Option<(Route, Format)>>,
    /// With the values for on and off.
    outputs: Vec<Option<(Route, u16, u16)>>,
    /// By zone: its first lamp, and the value of each of the site's colours.
    zones: Vec<Option<(Route, Vec<u16>)>>,
}

impl Routes {
    /// Nobody has a place yet.
    pub fn new(site: &Site) -> Routes {
        Routes {
            signs: vec![None; site.signs.len()],
            outputs: vec![None; site.outputs.len()],
            zones: vec![None; site.zones.len()],
        }
    }

    /// Notes the places of a line.
    pub fn add(&mut self, site: &Site, line: LineIx, places: &[(Owner, Place)]) {
        for (slot, (owner, _)) in places.iter().enumerate() {
            let route = Route { line, slot };
            match owner {
                Owner::Sign(sign) => {
                    let format = site.display(&site.signs[sign.at()]).map(|display| display.format);
                    self.signs[sign.at()] = format.map(|format| (route, format));
                }
                Owner::Output(output) => {
                    let part = &site.profile(site.outputs[output.at()].unit).outputs;
                    let values = part.as_ref().map(|part| (route, part.on, part.off));
                    self.outputs[output.at()] = values;
                }
                Owner::Lamp(bay) => {
                    let zone = site.bays[bay.at()].zone;
                    if site.zones[zone.at()].bays.start == bay.0 {
                        self.zones[zone.at()] = Some((route, colours(site, zone)));
                    }
                }
            }
        }
    }

    /// A sign's place and the format of its display.
    pub fn sign(&self, sign: SignIx) -> Option<(Route, Format)> {
        self.signs[sign.at()]
    }

    /// An output's place and the value that switches it so.
    pub fn output(&self, output: OutputIx, on: bool) -> Option<(Route, u16)> {
        self.outputs[output.at()].map(|(route, yes, no)| (route, if on { yes } else { no }))
    }

    /// The place of a bay's lamp and the value of a colour there.
    pub fn lamp(&self, site: &Site, bay: BayIx, colour: ColourIx) -> Option<(Route, u16)> {
        let zone = site.bays[bay.at()].zone;
        let (first, values) = self.zones[zone.at()].as_ref()?;
        let within = (bay.0 - site.zones[zone.at()].bays.start) as usize;
        Some((Route { slot: first.slot + within, ..*first }, *values.get(colour.at())?))
    }
}

/// The value of each of the site's colours on the lamps of a zone; `check` knows that all exist.
fn colours(site: &Site, zone: ZoneIx) -> Vec<u16> {
    let unit = site.zones[zone.at()].lamps.map(|lamps| lamps.unit);
    let part = unit.and_then(|unit| site.profile(unit).lamps.as_ref());
    let value = |name: &String| part.and_then(|part| part.colours.get(name)).copied();
    site.lamps.colours.iter().map(|name| value(name).unwrap_or(0)).collect()
}
