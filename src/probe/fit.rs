//! Which profiles fit a unit, judged by what it answers to their own reads.
//!
//! A profile's reads are the field's plan with every point wired, so that what fits here is read
//! the same way by the daemon. A refusal is evidence against, an answer that decodes is evidence
//! for, and what cannot be told by reading (a display that is only written to) is said to be so.
//! Zeros fit many maps: the address behind the profile's last one says whether the unit ends
//! where the map does.

use std::collections::BTreeMap;

use crate::field::decode::{Items, Sweep};
use crate::field::plan::{Block, HOLE_MAX, plan};
use crate::field::write::{encode, width};
use crate::probe::ask::{Span, table_name};
use crate::probe::show::{Values, exception};
use crate::profile::{Display, Format, Profile, Table};
use crate::site::{BayIx, Face, Turn, UnitIx};
use crate::time::Mono;

/// Exceptions that speak of the map: no such function, address, or length.
const OF_THE_MAP: [u8; 3] = [1, 2, 3];
/// Points told in one row.
const ROW: usize = 50;
/// Displays told in one line.
const SHOWN_MAX: usize = 6;

/// What came of one block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Came(Values),
    /// Refused, with how many of its first items are answered alone.
    Refused {
        code: u8,
        answered: u16,
    },
    Nothing,
}

/// The reads that judge a profile.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reads {
    /// Detectors, counters, contacts: decoded as the daemon does.
    pub blocks: Vec<Block>,
    /// What is written to, where a unit lets it be read: displays, lamps, outputs.
    pub written: Vec<(Block, Written)>,
    /// The item behind the last one.
    pub beyond: Option<Span>,
}

/// What something that is written to may hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    Display(Format),
    /// "lamps" or "outputs", and the name of each value that one can have.
    Items(&'static str, BTreeMap<u16, String>),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    Fits,
    /// Part of it answers, or what it says is doubtful.
    InPart,
    /// Reading cannot tell.
    Untold,
    No,
}

/// The judgement of one profile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fit {
    pub profile: String,
    pub verdict: Verdict,
    pub reasons: Vec<String>,
    /// Items that were read for it; more say more.
    pub items: u32,
    /// The unit ends where the map does.
    pub ends: bool,
    pub decoded: Option<Decoded>,
}

/// What a profile makes of what was read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decoded {
    /// A letter a point: 'f' free, 'o' occupied, 'u' unknown.
    pub points: String,
    pub counters: Vec<u32>,
    /// A letter a contact: '1' closed, '0' open, 'u' unknown.
    pub contacts: String,
}

/// What to read to judge a profile.
pub fn reads(profile: &Profile) -> Reads {
    let mut written = Vec::new();
    for display in [&profile.sign, &profile.callout].into_iter().flatten() {
        written.extend(display_blocks(display));
    }
    if let Some(lamps) = &profile.lamps {
        let names = lamps.colours.iter().map(|(name, value)| (*value, name.clone())).collect();
        let what = Written::Items("lamps", names);
        written.extend(item_blocks(lamps.table, lamps.base, lamps.points, &what));
    }
    if let Some(outputs) = &profile.outputs {
        let names = [(outputs.on, "on".to_owned()), (outputs.off, "off".to_owned())];
        let what = Written::Items("outputs", names.into());
        written.extend(item_blocks(outputs.table, outputs.base, outputs.count, &what));
    }
    let blocks = plan(profile, &wired(profile), HOLE_MAX).blocks;
    let last = blocks.iter().max_by_key(|block| block.first);
    let beyond = last.and_then(|block| {
        let at = block.first.checked_add(block.count)?;
        Some(Span { table: block.table, first: at, last: at })
    });
    Reads { blocks, written, beyond }
}

/// Every point, as if a bay hung on each.
fn wired(profile: &Profile) -> Vec<Option<BayIx>> {
    let points = profile.bays.as_ref().map_or(0, |bays| bays.points);
    vec![Some(BayIx(0)); points.into()]
}

/// A display's registers, one read each: between them there may be none.
fn display_blocks(display: &Display) -> Vec<(Block, Written)> {
    let count = width(display.format);
    let at = |n: u16| display.base.checked_add(display.stride.checked_mul(n)?);
    let block = |first| Block { table: Table::Holding, first, count, parts: Vec::new() };
    let firsts = (0..display.displays).filter_map(at);
    firsts.map(|first| (block(first), Written::Display(display.format))).collect()
}

fn item_blocks(table: Table, base: u16, count: u16, what: &Written) -> Vec<(Block, Written)> {
    let last = base.saturating_add(count.saturating_sub(1));
    let requests = Span { table, first: base, last }.requests().into_iter();
    let block = |(first, count)| Block { table, first, count, parts: Vec::new() };
    requests.map(|request| (block(request), what.clone())).collect()
}

/// Judges a profile by what its reads brought, in the order of [`reads`].
pub fn judge(
    profile: &Profile,
    reads: &Reads,
    blocks: &[Answer],
    written: &[Answer],
    beyond: Option<&Answer>,
) -> Fit {
    let mut fit = Fit {
        profile: profile.id.clone(),
        verdict: Verdict::Fits,
        reasons: Vec::new(),
        items: 0,
        ends: false,
        decoded: None,
    };
    if blocks.is_empty() {
        fit.verdict = Verdict::Untold;
    }
    for (block, answer) in reads.blocks.iter().zip(blocks) {
        fit.answered(block, answer);
    }
    if !blocks.is_empty() && fit.verdict != Verdict::No {
        fit.decode(profile, reads, blocks);
    }
    if fit.verdict <= Verdict::InPart {
        fit.ends =
            matches!(beyond, Some(Answer::Refused { code, .. }) if OF_THE_MAP.contains(code));
        if fit.ends {
            fit.reasons.push("the unit ends where the map does".to_owned());
        }
    }
    fit.written(&reads.written, written);
    fit
}

impl Fit {
    fn worse(&mut self, verdict: Verdict, reason: String) {
        self.verdict = self.verdict.max(verdict);
        self.reasons.push(reason);
    }

    fn answered(&mut self, block: &Block, answer: &Answer) {
        let (table, first) = (table_name(block.table), block.first);
        let last = block.first.saturating_add(block.count - 1);
        let place = match block.count {
            1 => format!("{table} {first}"),
            _ => format!("{table} {first} to {last}"),
        };
        match answer {
            Answer::Came(_) => self.items += u32::from(block.count),
            Answer::Refused { code, answered: 0 } if OF_THE_MAP.contains(code) => {
                self.worse(Verdict::No, format!("{place} refused with {}", exception(*code)));
            }
            Answer::Refused { code, answered } if OF_THE_MAP.contains(code) => {
                self.items += u32::from(*answered);
                let rest = first.saturating_add(*answered);
                self.worse(
                    Verdict::InPart,
                    format!(
                        "{table} {first} to {} answered, {rest} to {last} refused with {}: fewer \
                         points fitted, or a smaller block_max?",
                        rest - 1,
                        exception(*code)
                    ),
                );
            }
            Answer::Refused { code, .. } => {
                self.worse(Verdict::InPart, format!("{place}: {}", exception(*code)));
            }
            Answer::Nothing => {
                self.worse(Verdict::InPart, format!("{place}: no answer"));
            }
        }
    }

    /// What the daemon would make of it.
    fn decode(&mut self, profile: &Profile, reads: &Reads, blocks: &[Answer]) {
        let decoded = decode(profile, &wired(profile), &reads.blocks, blocks);
        let of = |letter| decoded.points.matches(letter).count();
        let (free, occupied, unknown) = (of('f'), of('o'), of('u'));
        if profile.bays.is_some() {
            let told = format!("{occupied} points occupied, {free} free, {unknown} unknown");
            match () {
                () if free + occupied == 0 => {
                    self.worse(Verdict::No, format!("{told}: no point says anything it can say"));
                }
                () if unknown > free + occupied => {
                    self.worse(Verdict::InPart, format!("{told}: most are unknown"));
                }
                () if occupied == 0 => {
                    self.reasons.push(format!("{told}: put something on one to be sure"));
                }
                () => self.reasons.push(told),
            }
        }
        if !decoded.counters.is_empty() {
            let counts: Vec<String> = decoded.counters.iter().map(u32::to_string).collect();
            self.reasons.push(format!("counters {}", counts.join(", ")));
        }
        if !decoded.contacts.is_empty() {
            self.reasons.push(format!("contacts {}", decoded.contacts));
        }
        self.decoded = Some(decoded);
    }

    fn written(&mut self, wanted: &[(Block, Written)], answers: &[Answer]) {
        let mut shown = Vec::new();
        let mut refused = 0;
        for ((block, what), answer) in wanted.iter().zip(answers) {
            let Answer::Came(values) = answer else {
                refused += 1;
                continue;
            };
            match held(values, what) {
                Ok(text) => {
                    self.items += u32::from(block.count);
                    shown.push(text);
                }
                Err(why) => {
                    let table = table_name(block.table);
                    self.worse(Verdict::No, format!("{table} {}: {why}", block.first));
                    return;
                }
            }
        }
        if refused > 0 {
            self.reasons.push(format!(
                "{refused} of {} reads of what it writes to are refused",
                wanted.len()
            ));
        }
        if !shown.is_empty() {
            let more = if shown.len() > SHOWN_MAX { ", ..." } else { "" };
            shown.truncate(SHOWN_MAX);
            self.reasons.push(format!("shows {}{more}", shown.join(", ")));
            // Nearly any number is a face, so displays alone prove nothing.
            if self.verdict == Verdict::Untold {
                self.verdict = Verdict::InPart;
            }
        }
    }
}

/// What something that is written to holds, or why that cannot be it.
fn held(values: &Values, what: &Written) -> Result<String, String> {
    match (what, values) {
        (Written::Display(format), Values::Words(words)) => face(words, *format),
        (Written::Display(_), Values::Bits(_)) => Err("not registers".to_owned()),
        (Written::Items(what, names), values) => {
            let items: Vec<u16> = match values {
                Values::Bits(bits) => bits.iter().map(|bit| u16::from(*bit)).collect(),
                Values::Words(words) => words.clone(),
            };
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for item in &items {
                let name = names.get(item);
                let name = name.ok_or_else(|| format!("{item} is no value of its {what}"))?;
                *counts.entry(name).or_default() += 1;
            }
            let told: Vec<String> =
                counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
            Ok(format!("{what} {}", told.join(", ")))
        }
    }
}

/// What a display's registers show, or why they cannot be that: whatever `write` would have
/// written for it.
fn face(words: &[u16], format: Format) -> Result<String, String> {
    let words_for = |face: &Face| encode(face, format);
    // Dark first, because that is also how a display shows what it has no value for.
    let named = [
        (Face::Blank, "blank"),
        (Face::Full, "FULL"),
        (Face::Closed, "CLOSED"),
        (Face::Staff, "STAFF"),
        (Face::Valet, "VALET"),
        (Face::Arrow(Turn::Left), "left"),
        (Face::Arrow(Turn::Straight), "straight"),
        (Face::Arrow(Turn::Right), "right"),
    ];
    if let Some((_, name)) = named.iter().find(|(face, _)| words_for(face) == words) {
        return Ok((*name).to_owned());
    }
    if let (Format::Text { .. }, words) = (format, words) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let printable = |byte: &u8| *byte == 0 || *byte == b' ' || byte.is_ascii_graphic();
        if !bytes.iter().all(printable) {
            return Err("no text".to_owned());
        }
        let text = bytes.iter().filter(|byte| **byte != 0).map(|byte| char::from(*byte));
        return Ok(format!("\"{}\"", text.collect::<String>().trim_end()));
    }
    match words {
        [word] if words_for(&Face::Number(u32::from(*word))) == words => Ok(word.to_string()),
        words => Err(format!("{words:?} is nothing this display can show")),
    }
}

/// What a profile makes of blocks that came; used for a unit of a configuration as well.
pub fn decode(
    profile: &Profile,
    bays: &[Option<BayIx>],
    blocks: &[Block],
    answers: &[Answer],
) -> Decoded {
    let mut sweep = Sweep::new(profile, bays);
    sweep.begin();
    for (block, answer) in blocks.iter().zip(answers) {
        match answer {
            Answer::Came(Values::Bits(bits)) => sweep.take(block, Items::Bits(bits)),
            Answer::Came(Values::Words(words)) => sweep.take(block, Items::Words(words)),
            Answer::Refused { .. } | Answer::Nothing => (),
        }
    }
    let Some(reading) = sweep.finish(UnitIx(0), Mono(0)) else {
        return Decoded { points: "u".repeat(bays.len()), ..Decoded::default() };
    };
    let bit =
        |words: &[u64], at: usize| words.get(at / 64).is_some_and(|w| w >> (at % 64) & 1 == 1);
    let letter = |point: usize| match (bit(&reading.known, point), bit(&reading.occupied, point)) {
        _ if bays[point].is_none() => '-',
        (false, _) => 'u',
        (true, true) => 'o',
        (true, false) => 'f',
    };
    let contacts = profile.contacts.as_ref().map_or(0, |contacts| contacts.count);
    let closed = |n: u16| match (reading.contacts_known >> n & 1, reading.contacts >> n & 1) {
        (0, _) => 'u',
        (_, 1) => '1',
        _ => '0',
    };
    Decoded {
        points: (0..bays.len()).map(letter).collect(),
        counters: reading.counters,
        contacts: (0..contacts.min(64)).map(closed).collect(),
    }
}

/// The best first: what fits, then what fits in part; the more was read, the more it says.
pub fn rank(fits: &mut [Fit]) {
    fits.sort_by_key(|fit| {
        (fit.verdict, std::cmp::Reverse((fit.ends, fit.items)), fit.profile.clone())
    });
}

/// "zone-controller  fits: ..." in one line.
pub fn told(fit: &Fit) -> String {
    let verdict = match fit.verdict {
        Verdict::Fits => "fits",
        Verdict::InPart => "fits in part",
        Verdict::Untold => "cannot be told by reading",
        Verdict::No => "does not fit",
    };
    let reasons = if fit.reasons.is_empty() {
        "it has nothing to read".to_owned()
    } else {
        fit.reasons.join("; ")
    };
    format!("{:<18} {verdict}: {reasons}", fit.profile)
}

/// Points as letters, fifty to a row, and the counters.
pub fn decoded_rows(decoded: &Decoded) -> Vec<String> {
    let letters: Vec<char> = decoded.points.chars().collect();
    let mut rows = Vec::new();
    let wired = |row: &[char]| row.iter().any(|letter| *letter != '-');
    for (n, row) in letters.chunks(ROW).enumerate().filter(|(_, row)| wired(row)) {
        let tens: Vec<String> = row.chunks(10).map(|ten| ten.iter().collect()).collect();
        rows.push(format!("{:>9}  {}", n * ROW, tens.join(" ")));
    }
    if !letters.is_empty() {
        rows.insert(0, "   points  f free, o occupied, u unknown, - not wired".to_owned());
    }
    if !decoded.counters.is_empty() {
        let counts: Vec<String> = decoded.counters.iter().map(u32::to_string).collect();
        rows.push(format!(" counters  {}", counts.join(" ")));
    }
    if !decoded.contacts.is_empty() {
        rows.push(format!(" contacts  {} (1 closed, 0 open)", decoded.contacts));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(toml: &str) -> Profile {
        toml::from_str(toml).expect("a profile")
    }

    fn controller() -> Profile {
        profile(
            "id = \"zc\"\nsource = \"a test\"\n\
             bays = { table = \"holding\", base = 0, points = 64, layout = { kind = \"bits\" } }\n\
             counters = { table = \"holding\", base = 100, count = 2, \
             word_order = \"high-first\" }",
        )
    }

    /// Judges a unit whose memory is `holds` from 0 on; what lies behind is refused.
    fn against(profile: &Profile, holds: &[u16]) -> Fit {
        let reads = reads(profile);
        let ask = |first: u16, count: u16| {
            let range = usize::from(first)..usize::from(first) + usize::from(count);
            match holds.get(range) {
                Some(words) => Answer::Came(Values::Words(words.to_vec())),
                None => {
                    let answered = holds.len().saturating_sub(first.into()) as u16;
                    Answer::Refused { code: 2, answered }
                }
            }
        };
        let all = |blocks: &[Block]| -> Vec<Answer> {
            blocks.iter().map(|block| ask(block.first, block.count)).collect()
        };
        let beyond = reads.beyond.map(|span| ask(span.first, 1));
        let written: Vec<Block> = reads.written.iter().map(|(block, _)| block.clone()).collect();
        judge(profile, &reads, &all(&reads.blocks), &all(&written), beyond.as_ref())
    }

    fn holds(count: usize, set: &[(usize, u16)]) -> Vec<u16> {
        let mut words = vec![0; count];
        for (at, word) in set {
            words[*at] = *word;
        }
        words
    }

    #[test]
    fn profiles_are_judged_by_what_came() {
        let full = holds(104, &[(0, 0b111), (100, 1), (101, 2), (103, 7)]);
        let fit = against(&controller(), &full);
        assert_eq!((fit.verdict, fit.ends), (Verdict::Fits, true), "{fit:?}");
        let decoded = fit.decoded.clone().expect("it fits");
        assert!(decoded.points.starts_with("ooof"), "{}", decoded.points);
        assert_eq!(decoded.counters, [65_538, 7]);
        let text = told(&fit);
        assert!(text.contains("fits: 3 points occupied, 61 free, 0 unknown"), "{text}");

        let small = holds(40, &[]);
        let fit = against(&controller(), &small);
        assert_eq!(fit.verdict, Verdict::No);
        let text = told(&fit);
        assert!(text.contains("holding 100 to 101 refused with exception 02"), "{text}");

        let fit = against(&controller(), &holds(104, &[]));
        assert!(told(&fit).contains("put something on one to be sure"), "{fit:?}");
        assert_eq!(against(&controller(), &holds(2_000, &[])).verdict, Verdict::Fits);
        assert!(!against(&controller(), &holds(2_000, &[])).ends);
    }

    #[test]
    fn values_that_mean_nothing_do_not_fit() {
        let values = profile(
            "id = \"v\"\nsource = \"a test\"\nbays = { table = \"holding\", base = 0, points = 4, \
             layout = { kind = \"values\", free = 1, occupied = 2 } }",
        );
        assert_eq!(against(&values, &[9, 9, 9, 9]).verdict, Verdict::No);
        assert_eq!(against(&values, &[9, 9, 9, 1]).verdict, Verdict::InPart);
        assert_eq!(against(&values, &[1, 2, 9, 1]).verdict, Verdict::Fits);
        assert_eq!(against(&values, &[1, 2]).verdict, Verdict::No, "nothing of it came");
    }

    #[test]
    fn displays_are_told_where_they_can_be_read() {
        let panel = profile(
            "id = \"p\"\nsource = \"a test\"\n[sign]\nbase = 0\nstride = 1\ndisplays = 3\n\
             format = { kind = \"number\", max = 999, full = 1001, closed = 1002, blank = 1000 }",
        );
        let fit = against(&panel, &[12, 1_001, 1_000]);
        assert_eq!(fit.verdict, Verdict::InPart);
        assert!(told(&fit).contains("shows 12, FULL, blank"), "{fit:?}");
        assert_eq!(against(&panel, &[12, 1_001, 4_000]).verdict, Verdict::No);
        let fit = against(&panel, &[]);
        assert_eq!(fit.verdict, Verdict::Untold);
        assert!(told(&fit).contains("3 of 3 reads of what it writes to are refused"), "{fit:?}");
    }

    #[test]
    fn the_best_comes_first() {
        let fit = |profile: &str, verdict, items, ends| Fit {
            profile: profile.to_owned(),
            verdict,
            reasons: Vec::new(),
            items,
            ends,
            decoded: None,
        };
        let mut fits = [
            fit("no", Verdict::No, 900, false),
            fit("small", Verdict::Fits, 4, false),
            fit("large", Verdict::Fits, 80, false),
            fit("exact", Verdict::Fits, 40, true),
            fit("part", Verdict::InPart, 400, false),
        ];
        rank(&mut fits);
        let order: Vec<&str> = fits.iter().map(|fit| fit.profile.as_str()).collect();
        assert_eq!(order, ["exact", "large", "small", "part", "no"]);
    }
}
