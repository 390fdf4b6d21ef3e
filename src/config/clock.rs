//! What the configuration says of the wall clock: when it is to be believed.

use serde::Deserialize;

/// When the wall clock counts as good.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockTable {
    pub trust: ClockTrust,
    /// Made by the time service once it has set the clock, gone after a restart of the machine.
    pub file: String,
}

impl Default for ClockTable {
    fn default() -> ClockTable {
        let file = "/run/systemd/timesync/synchronized".to_owned();
        ClockTable { trust: ClockTrust::File, file }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockTrust {
    /// While `file` is there.
    #[default]
    File,
    /// As soon as it stands after the start of 2026: a box with a clock of its own.
    Always,
}
