//! Schedules of signs: hours that can be read, modes that can be shown, and no two at once.

use crate::config::check::Rules;
use crate::config::file::ScheduleTable;
use crate::profile::Format;
use crate::site::{DAY_MINUTES, Schedule};

/// Entries a sign may have: one for each day of the week and as many again.
const ENTRIES_MAX: usize = 14;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A sign's schedule; `format` is its display's, where it has one.
pub fn schedule(
    rules: &mut Rules,
    key: &str,
    tables: &[ScheduleTable],
    format: Option<Format>,
) -> Vec<Schedule> {
    rules.range(format!("{key}.schedule (how many)"), tables.len(), 0, ENTRIES_MAX);
    let mut all: Vec<Schedule> = Vec::new();
    for (ix, table) in tables.iter().enumerate() {
        let key = format!("{key}.schedule[{}]", ix + 1);
        let Some(entry) = entry(rules, &key, table) else { continue };
        if format.is_some_and(|format| !format.can_show(&entry.mode.face())) {
            let text = format!("the display cannot show {}", entry.mode.face());
            rules.refuse(format!("{key}.mode"), text);
        }
        if let Some(other) = all.iter().position(|other| overlap(other, &entry)) {
            let text = format!("is at the same time as schedule[{}]", other + 1);
            rules.refuse(format!("{key}.from"), text);
        }
        all.push(entry);
    }
    all
}

fn entry(rules: &mut Rules, key: &str, table: &ScheduleTable) -> Option<Schedule> {
    let mut days = [table.days.is_none(); 7];
    for day in table.days.iter().flatten() {
        match DAYS.iter().position(|name| name == day) {
            Some(ix) => days[ix] = true,
            None => rules.refuse(
                format!("{key}.days"),
                format!("\"{day}\" is no day: write {}", DAYS.join(", ")),
            ),
        }
    }
    if table.days.as_ref().is_some_and(Vec::is_empty) {
        rules.refuse(format!("{key}.days"), "is empty: leave it out for all days");
    }
    let mut time = |name: &str, text: &str, last: u16| {
        let minute = minute(text).filter(|minute| *minute <= last);
        if minute.is_none() {
            let text = format!("\"{text}\" is no time of day such as \"06:30\"");
            rules.refuse(format!("{key}.{name}"), text);
        }
        minute
    };
    let from = time("from", &table.from, DAY_MINUTES - 1);
    let to = time("to", &table.to, DAY_MINUTES);
    let (from, to) = (from?, to?);
    if from == to || to == 0 {
        let text = format!(
            "\"{}\" to \"{}\" is no length; a whole day ends at \"24:00\"",
            table.from, table.to
        );
        rules.refuse(format!("{key}.to"), text);
        return None;
    }
    Some(Schedule { days, from, to, mode: table.mode })
}

/// "HH:MM" as minutes of the day, 0 to 1,440.
pub fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str, most: u16| {
        let plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|number| plain && *number <= most)
    };
    let at = number(hours, 24)? * 60 + number(minutes, 59)?;
    (at <= DAY_MINUTES).then_some(at)
}

/// Whether any minute of the week belongs to both: what begins is inside the other, or the other
/// way round.
fn overlap(one: &Schedule, other: &Schedule) -> bool {
    let begins_in =
        |a: &Schedule, b: &Schedule| (0..7).any(|day| a.days[day] && b.holds(day, a.from));
    begins_in(one, other) || begins_in(other, one)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::site::ScheduleMode;

    #[test]
    fn times_read_as_written() {
        let good = [("00:00", 0), ("06:30", 390), ("23:59", 1_439), ("24:00", 1_440)];
        for (text, expected) in good {
            assert_eq!(minute(text), Some(expected), "{text}");
        }
        for text in ["", "6:30", "06:3", "24:01", "25:00", "06:60", "+6:30", "0630", "06:30:00"] {
            assert_eq!(minute(text), None, "{text}");
        }
    }

    fn any() -> impl Strategy<Value = Schedule> {
        (proptest::array::uniform7(any_day()), 0..DAY_MINUTES, 1..=DAY_MINUTES).prop_map(
            |(days, from, to)| {
                let to = if to == from { to + 1 } else { to };
                Schedule { days, from, to, mode: ScheduleMode::Blank }
            },
        )
    }

    fn any_day() -> impl Strategy<Value = bool> {
        proptest::bool::weighted(0.3)
    }

    proptest! {
        #[test]
        fn overlap_is_a_minute_in_both(one in any(), other in any()) {
            let minutes = (0..7).flat_map(|day| (0..DAY_MINUTES).map(move |minute| (day, minute)));
            let both = minutes.into_iter().any(|(d, m)| one.holds(d, m) && other.holds(d, m));
            prop_assert_eq!(overlap(&one, &other), both);
        }
    }
}
