//! What a bay's sensor must do to be believed, and their bounds.
//!
//! A sensor is right in 98 of 100 cases, so that among the last free bays of a full garage every
//! third may be taken. These are the limits by which the gateway tells them apart.

use serde::Deserialize;

use super::check::Rules;

/// Limits of belief; all may change by SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TruthTable {
    /// Readings in a row that occupied takes, free one more: 1 to 20. With 1.3 % of samples wrong
    /// and a sweep a second, two would fill 600 of 1,000 free bays an hour by mistake, three 8.
    pub debounce_reads: u8,
    /// How long a bay must read free before it counts, in ms: 0 to 600,000, at least
    /// `debounce_ms`.
    pub free_debounce_ms: u32,
    /// The same where a car is booked, or promised the bay and under way.
    pub booked_free_ms: u32,
    /// Changes of a bay within `flap_window_s` above which its sensor flaps: 2 to 100.
    pub flap_max: u8,
    /// In seconds, also how long it must then be calm: 10 to 86,400.
    pub flap_window_s: u32,
    /// Errors of a sensor above which its bay goes last: 1 to 100. A driver who found the bay
    /// taken counts 4, a driver who seems to have found it so 1.
    pub doubt_max: u8,
}

impl Default for TruthTable {
    fn default() -> TruthTable {
        TruthTable {
            debounce_reads: 3,
            free_debounce_ms: 3_000,
            booked_free_ms: 5_000,
            flap_max: 6,
            flap_window_s: 600,
            doubt_max: 1,
        }
    }
}

/// Every limit within its bounds.
pub fn truth(rules: &mut Rules, table: &TruthTable) {
    let ranges = [
        ("debounce_reads", u32::from(table.debounce_reads), 1, 20),
        ("free_debounce_ms", table.free_debounce_ms, 0, 600_000),
        ("booked_free_ms", table.booked_free_ms, 0, 600_000),
        ("flap_max", table.flap_max.into(), 2, 100),
        ("flap_window_s", table.flap_window_s, 10, 86_400),
        ("doubt_max", table.doubt_max.into(), 1, 100),
    ];
    for (key, value, low, high) in ranges {
        rules.range(format!("guidance.truth.{key}"), value, low, high);
    }
}
