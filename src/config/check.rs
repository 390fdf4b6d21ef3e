//! The rules of a configuration: every refusal names the file, the key, the value and the bound.
//!
//! [`Rules`] gathers problems instead of stopping at the first, because a technician who edits
//! over a slow link should need one round trip. The functions return what they checked, or a
//! stand-in where it failed: nothing is built while any problem stands.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;

use super::Problem;
use super::file::{
    FullnessTable, GuidanceTable, HttpTable, LogTable, MainFile, MqttTable, StoreTable,
};
use crate::outbox::WINDOW_MAX;

/// Gathers what is wrong, file by file.
pub struct Rules {
    pub file: PathBuf,
    pub problems: Vec<Problem>,
}

impl Rules {
    pub fn new(file: PathBuf) -> Rules {
        Rules { file, problems: Vec::new() }
    }

    /// Notes a problem of the current file.
    pub fn refuse(&mut self, key: impl Display, text: impl Display) {
        let (key, text) = (key.to_string(), text.to_string());
        self.problems.push(Problem { file: self.file.clone(), key, text });
    }

    /// A number must lie within `low..=high`.
    pub fn range<T: PartialOrd + Display + Copy>(
        &mut self,
        key: impl Display,
        value: T,
        low: T,
        high: T,
    ) -> T {
        if value < low || value > high {
            self.refuse(key, format!("{value} is outside {low} to {high}"));
        }
        value
    }

    /// A name in topics and paths: 1 to 32 of letters, digits, '-', '_' and '.'.
    pub fn name(&mut self, key: impl Display, value: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if value.is_empty() || value.len() > 32 || !value.chars().all(plain) {
            self.refuse(
                key,
                format!("\"{value}\" is not a name: 1 to 32 letters, digits, '-', '_' or '.'"),
            );
        }
    }

    /// Host and port, as `host:port`.
    pub fn endpoint(&mut self, key: impl Display, value: &str) {
        let good = value.rsplit_once(':').is_some_and(|(host, port)| {
            let named = !host.is_empty() && !host.contains(['/', '@', ' ']);
            // What looks like an IPv4 address must be one: no name is made of digits and dots.
            let dotted = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let host = named && (!dotted || host.parse::<std::net::IpAddr>().is_ok());
            host && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !good {
            self.refuse(key, format!("\"{value}\" is not host:port with a port of 1 to 65535"));
        }
    }

    /// Looks a name up in a table of what exists.
    pub fn find(
        &mut self,
        key: impl Display,
        what: &str,
        id: &str,
        known: &BTreeMap<String, u32>,
    ) -> u32 {
        if let Some(ix) = known.get(id) {
            return *ix;
        }
        self.refuse(key, format!("there is no {what} \"{id}\"{}", nearest(id, known)));
        0
    }

    /// Notes an id in a table; an id must be new there.
    pub fn add(
        &mut self,
        key: impl Display,
        what: &str,
        id: &str,
        ix: usize,
        known: &mut BTreeMap<String, u32>,
    ) {
        let ix = u32::try_from(ix).unwrap_or(u32::MAX);
        if known.insert(id.to_owned(), ix).is_some() {
            self.refuse(key, format!("there is already a {what} \"{id}\""));
        }
    }

    /// Bay numbers such as "1-210" or "1-12,15": ascending, each once, 1 to 9999.
    pub fn numbers(&mut self, key: impl Display, text: &str) -> Vec<u16> {
        match numbers(text) {
            Ok(numbers) => numbers,
            Err(why) => {
                self.refuse(key, format!("\"{text}\" is not a list of bay numbers: {why}"));
                Vec::new()
            }
        }
    }
}

/// Reads "1-12,15-40".
fn numbers(text: &str) -> Result<Vec<u16>, String> {
    let mut all: Vec<u16> = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let number = text.trim().parse::<u16>().ok().filter(|n| (1..=9_999).contains(n));
            number.ok_or_else(|| format!("\"{}\" is not a number of 1 to 9999", text.trim()))
        };
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(format!("{first}-{last} runs backwards"));
        }
        if all.last().is_some_and(|previous| first <= *previous) {
            return Err(format!("{first} comes after a number at or above it"));
        }
        all.extend(first..=last);
    }
    Ok(all)
}

/// A hint for a misspelt name: the known one that shares the longest beginning.
fn nearest(id: &str, known: &BTreeMap<String, u32>) -> String {
    let shared = |other: &str| id.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    match known.keys().max_by_key(|other| shared(other)) {
        Some(other) if shared(other) > 1 => format!("; did you mean \"{other}\"?"),
        Some(_) | None => String::new(),
    }
}

/// The main file's tables that name nothing else.
pub fn tables(rules: &mut Rules, main: &MainFile) {
    guidance(rules, &main.guidance);
    store(rules, &main.store);
    http(rules, &main.http);
    log(rules, &main.log);
    if !main.clock.file.starts_with('/') {
        rules.refuse("clock.file", format!("\"{}\" does not begin with /", main.clock.file));
    }
    if let Some(table) = &main.mqtt {
        mqtt(rules, table);
    }
}

/// Weights, waits and thresholds.
fn guidance(rules: &mut Rules, table: &GuidanceTable) {
    let ranges = [
        ("surface_weight_tenths", table.surface_weight_tenths, 10, 100),
        ("walk_weight_tenths", table.walk_weight_tenths, 10, 100),
        ("hold_extra_s", table.hold_extra_s, 10, 3_600),
        ("commit_wait_ms", table.commit_wait_ms, 0, 5_000),
        ("debounce_ms", table.debounce_ms, 0, 60_000),
        ("stale_ms", table.stale_ms, 200, 600_000),
        ("unknown_max_percent", table.unknown_max_percent, 1, 100),
        ("sign_hold_s", table.sign_hold_s, 0, 3_600),
        ("unsure_penalty_s", table.unsure_penalty_s, 0, 3_600),
        ("price_occupancy_s", table.price_occupancy_s, 0, 10_000),
        ("price_class_s", table.price_class_s, 0, 10_000),
        ("leases_max", table.leases_max, 1, 100_000),
        ("early_s", table.early_s, 0, 600),
        ("quarantine_s", table.quarantine_s, 10, 86_400),
        ("move_gain_s", table.move_gain_s, 0, 3_600),
        ("duplicate_s", table.duplicate_s, 0, 3_600),
    ];
    for (key, value, low, high) in ranges {
        rules.range(format!("guidance.{key}"), value, low, high);
    }
    fullness(rules, &table.fullness);
    super::truth::truth(rules, &table.truth);
}

/// Thresholds in order, or the sign would hunt (SP falling < AF rising, ... ; domain practice).
fn fullness(rules: &mut Rules, table: &FullnessTable) {
    let FullnessTable {
        almost_full_rising,
        almost_full_falling,
        full_rising,
        full_falling,
        dwell_s,
    } = table;
    let key = "guidance.fullness";
    let pairs = [
        ("almost_full_falling", almost_full_falling, "almost_full_rising", almost_full_rising),
        ("almost_full_rising", almost_full_rising, "full_falling", full_falling),
        ("full_falling", full_falling, "full_rising", full_rising),
    ];
    for (low_key, low, high_key, high) in pairs {
        if low >= high {
            rules.refuse(
                format!("{key}.{low_key}"),
                format!("{low} must be below {high_key} ({high}), or the state would hunt"),
            );
        }
    }
    rules.range(format!("{key}.full_rising"), *full_rising, 1, 100);
    rules.range(format!("{key}.dwell_s"), *dwell_s, 0, 3_600);
}

/// The store's bounds.
fn store(rules: &mut Rules, table: &StoreTable) {
    rules.range("store.commit_ms", table.commit_ms, 5, 10_000);
    rules.range("store.backlog_mib", table.backlog_mib, 16, 1_048_576);
    rules.range("store.free_min_mib", table.free_min_mib, 0, 1_048_576);
    let shares = [
        ("store.alarms_percent", table.alarms_percent),
        ("store.events_percent", table.events_percent),
        ("store.aggregates_percent", table.aggregates_percent),
    ];
    for (key, share) in shares {
        rules.range(key, share, 1, 98);
    }
    let total: u64 = shares.iter().map(|(_, share)| u64::from(*share)).sum();
    if total != 100 {
        rules.refuse("store", format!("the lanes' percentages make {total}, not 100"));
    }
}

/// The link upstream.
/// TLS is one thing: an authority, and with it perhaps a certificate with its key.
fn tls(rules: &mut Rules, table: &MqttTable) {
    if table.key_credential.is_some() && table.key_file.is_some() {
        rules.refuse("mqtt.key_file", "stands beside key_credential; keep one");
    }
    let key = table.key_credential.is_some() || table.key_file.is_some();
    if key && table.certificate_file.is_none() {
        rules.refuse("mqtt.certificate_file", "is missing beside a key");
    }
    if table.certificate_file.is_some() && !key {
        rules.refuse("mqtt.key_file", "or key_credential is missing beside certificate_file");
    }
    if (key || table.certificate_file.is_some()) && table.ca_file.is_none() {
        rules.refuse("mqtt.ca_file", "is missing: a certificate is shown to a proven broker only");
    }
}

fn mqtt(rules: &mut Rules, table: &MqttTable) {
    rules.endpoint("mqtt.broker", &table.broker);
    rules.range("mqtt.keep_alive_s", table.keep_alive_s, 5, 600);
    rules.range("mqtt.ack_timeout_s", table.ack_timeout_s, 2, 600);
    rules.range("mqtt.window", table.window, 1, WINDOW_MAX as u32);
    rules.range("mqtt.replay_per_s", table.replay_per_s, 10, 1_000_000);
    if table.password_credential.is_some() && table.password_file.is_some() {
        rules.refuse("mqtt.password_file", "stands beside password_credential; keep one");
    }
    tls(rules, table);
    let password = table.password_credential.is_some() || table.password_file.is_some();
    if password && table.user.is_none() {
        rules.refuse("mqtt.user", "is missing beside a password");
    }
}

/// A level that the daemon's own filter takes.
fn log(rules: &mut Rules, table: &LogTable) {
    if let Err(error) = crate::log::judge(&table.level) {
        rules.refuse("log.level", error);
    }
}

/// Nobody unknown gives orders: off loopback, a token is demanded.
fn http(rules: &mut Rules, table: &HttpTable) {
    let token = table.token_credential.is_some() || table.token_file.is_some();
    match table.listen.parse::<std::net::SocketAddr>() {
        Err(_) => rules.refuse(
            "http.listen",
            format!("\"{}\" is not an address and port, such as 127.0.0.1:8080", table.listen),
        ),
        Ok(address) if !address.ip().is_loopback() && !token => rules.refuse(
            "http.listen",
            format!(
                "{address} can be reached from outside: set token_credential or token_file, or \
                 listen on 127.0.0.1"
            ),
        ),
        Ok(_) => (),
    }
    if table.token_credential.is_some() && table.token_file.is_some() {
        rules.refuse("http.token_file", "stands beside token_credential; keep one");
    }
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn bay_numbers_read_as_written() {
        assert_eq!(numbers("1-3, 7,9-10"), Ok(vec![1, 2, 3, 7, 9, 10]));
        for wrong in ["", "0", "3-1", "1,1", "5,2-4", "a", "1-", "10000", "1--2"] {
            assert!(numbers(wrong).is_err(), "{wrong} was accepted");
        }
    }
}
