//! Lines and their units: one owner an endpoint, one unit an address.

use std::net::IpAddr;

use super::{Ids, Weave};
use crate::config::check::Rules;
use crate::config::file::{LineTable, UnitTable};
use crate::site::{Framing, Line, LineIx, Parity, Unit, UnitIx, Wire};

/// What most devices come with.
const BAUD: u32 = 9_600;
/// On a TCP line: long enough to notice a refusal or a closed connection.
const TURNAROUND_TCP_MS: u32 = 20;
/// On a bus every other unit heard the write too and needs time to see that it was not meant
/// (Modbus over serial line 1.02, 2.4.1: 100 to 200 ms).
const TURNAROUND_RTU_MS: u32 = 100;
/// Names that Linux distributions give to this machine itself in `/etc/hosts`.
const HERE: [&str; 4] = ["localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"];
/// A device file's name; Linux allows no longer path.
const PATH_MAX: usize = 4_096;

impl Weave {
    pub(super) fn lines(&mut self, tables: Vec<LineTable>, stale_ms: u32) {
        for table in tables {
            self.line(table, stale_ms);
        }
    }

    fn line(&mut self, table: LineTable, stale_ms: u32) {
        let key = format!("line[{}]", table.id);
        let line = LineIx(self.site.lines.len() as u32);
        let rules = &mut self.rules;
        rules.name(format!("{key}.id"), &table.id);
        rules.add(&key, "line", &table.id, line.at(), &mut self.line_ids);
        let wire = wire(rules, &key, &table);
        // Two owners of one endpoint would read each other's answers.
        let (kind, named, same) = self.one_endpoint(&wire);
        if let Some(other) = self.endpoints.insert(same, table.id.clone()) {
            let text = format!("\"{named}\" is already the endpoint of line \"{other}\"");
            self.rules.refuse(format!("{key}.{kind}"), text);
        }
        let rules = &mut self.rules;
        rules.range(format!("{key}.period_ms"), table.period_ms, 50, 600_000);
        if stale_ms <= table.period_ms {
            let text = format!(
                "{} must be below guidance.stale_ms ({stale_ms}), or its bays are never known",
                table.period_ms
            );
            rules.refuse(format!("{key}.period_ms"), text);
        }
        let rtu = !wire.has_transactions();
        let turnaround_ms = if rtu { TURNAROUND_RTU_MS } else { TURNAROUND_TCP_MS };
        let turnaround_ms = table.turnaround_ms.unwrap_or(turnaround_ms);
        waits(rules, &key, table.timeout_ms, table.gap_ms, turnaround_ms);
        rules.range(format!("{key}.unit (how many)"), table.units.len(), 1, 250);
        let mut addresses = Ids::new();
        let mut units = Vec::new();
        for unit in table.units {
            let key = format!("{key}.unit[{}]", unit.id);
            let default = Unit {
                id: String::new(),
                line,
                address: unit.address,
                profile: 0,
                timeout_ms: table.timeout_ms,
                gap_ms: table.gap_ms,
                turnaround_ms,
                bays: Vec::new(),
            };
            if rtu && unit.address == 0 {
                let text = "0 is everybody's address on RTU, which nobody answers";
                self.rules.refuse(format!("{key}.address"), text);
            }
            let address = unit.address.to_string();
            self.rules.add(format!("{key}.address"), "unit at", &address, 0, &mut addresses);
            units.push(self.unit(&key, unit, default));
        }
        self.site.lines.push(Line { id: table.id, wire, period_ms: table.period_ms, units });
    }

    fn unit(&mut self, key: &str, table: UnitTable, default: Unit) -> UnitIx {
        let ix = UnitIx(self.site.units.len() as u32);
        let rules = &mut self.rules;
        rules.name(format!("{key}.id"), &table.id);
        rules.add(key, "unit", &table.id, ix.at(), &mut self.unit_ids);
        let profile = format!("{key}.profile");
        let profile = self.find_profile(&profile, &table.profile);
        let rules = &mut self.rules;
        let unit = Unit {
            id: table.id,
            profile,
            timeout_ms: table.timeout_ms.unwrap_or(default.timeout_ms),
            gap_ms: table.gap_ms.unwrap_or(default.gap_ms),
            turnaround_ms: table.turnaround_ms.unwrap_or(default.turnaround_ms),
            ..default
        };
        let own = [table.timeout_ms, table.gap_ms, table.turnaround_ms];
        if own.iter().any(Option::is_some) {
            waits(rules, key, unit.timeout_ms, unit.gap_ms, unit.turnaround_ms);
        }
        self.site.units.push(unit);
        ix
    }

    /// The key that names the endpoint, what stands there, and one form for all its spellings.
    fn one_endpoint(&self, wire: &Wire) -> (&'static str, String, String) {
        match wire {
            Wire::Tcp { endpoint } => ("tcp", endpoint.clone(), one_host_port(endpoint)),
            Wire::RtuTcp { endpoint, .. } => ("rtu_tcp", endpoint.clone(), one_host_port(endpoint)),
            Wire::Serial { path, .. } => {
                let same = self.devices.get(path).map_or_else(|| one_path(path), Clone::clone);
                ("serial", path.clone(), same)
            }
        }
    }
}

fn waits(rules: &mut Rules, key: &str, timeout_ms: u32, gap_ms: u32, turnaround_ms: u32) {
    rules.range(format!("{key}.timeout_ms"), timeout_ms, 10, 60_000);
    rules.range(format!("{key}.gap_ms"), gap_ms, 0, 1_000);
    rules.range(format!("{key}.turnaround_ms"), turnaround_ms, 0, 10_000);
}

/// What the line runs over; a stand-in where that was refused.
fn wire(rules: &mut Rules, key: &str, table: &LineTable) -> Wire {
    let framing = framing(rules, key, table);
    match (&table.tcp, &table.rtu_tcp, &table.serial) {
        (Some(endpoint), None, None) => {
            rules.endpoint(format!("{key}.tcp"), endpoint);
            let given = [
                ("baud", table.baud.is_some()),
                ("parity", table.parity.is_some()),
                ("stop_bits", table.stop_bits.is_some()),
                ("rs485", table.rs485.is_some()),
            ];
            for (name, _) in given.into_iter().filter(|(_, given)| *given) {
                rules.refuse(format!("{key}.{name}"), "means nothing on a tcp line");
            }
            Wire::Tcp { endpoint: endpoint.clone() }
        }
        (None, Some(endpoint), None) => {
            rules.endpoint(format!("{key}.rtu_tcp"), endpoint);
            if table.rs485.is_some() {
                rules.refuse(format!("{key}.rs485"), "is for serial lines: the converter does it");
            }
            Wire::RtuTcp { endpoint: endpoint.clone(), framing }
        }
        (None, None, Some(path)) => {
            if !path.starts_with('/') || path.len() > PATH_MAX || path.contains('\0') {
                let text = format!("\"{path}\" is not the full path of a port, as /dev/ttyS1 is");
                rules.refuse(format!("{key}.serial"), text);
            }
            let rs485 = table.rs485.unwrap_or(false);
            Wire::Serial { path: path.clone(), framing, rs485 }
        }
        (tcp, rtu_tcp, serial) => {
            let given = [tcp, rtu_tcp, serial].into_iter().flatten().count();
            let text = format!("has {given} of tcp, rtu_tcp and serial; it needs exactly one");
            rules.refuse(key, text);
            // Its own id: it must not seem to share an endpoint with another refused line.
            Wire::Tcp { endpoint: format!("{}:1", table.id) }
        }
    }
}

fn framing(rules: &mut Rules, key: &str, table: &LineTable) -> Framing {
    let baud = table.baud.unwrap_or(BAUD);
    rules.range(format!("{key}.baud"), baud, 1_200, 115_200);
    let stop_bits = table.stop_bits.unwrap_or(1);
    rules.range(format!("{key}.stop_bits"), stop_bits, 1, 2);
    Framing { baud, parity: table.parity.unwrap_or(Parity::None), stop_bits }
}

/// One spelling for each way to write a host and port: `localhost:0502` and `[::1]:502` are
/// `127.0.0.1:502`, because a server that listens on one of them nearly always is the other's.
fn one_host_port(endpoint: &str) -> String {
    let (host, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, ""));
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    let address = name.parse::<IpAddr>().ok().or_else(|| short_ipv4(&name));
    let name = match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V6(address)) if address.is_loopback() => "127.0.0.1".to_owned(),
        // To connect to no address in particular is to connect to this machine.
        Some(address) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Some(address) => address.to_string(),
        None if HERE.contains(&name.as_str()) => "127.0.0.1".to_owned(),
        None => name,
    };
    let port = port.parse::<u16>().map_or_else(|_| port.to_owned(), |port| port.to_string());
    format!("{name} port {port}")
}

/// An IPv4 address as the system's resolver takes it too: one to four parts, each decimal, octal
/// or hexadecimal, the last filling what is left (`127.1`, `0x7f.0.0.1`, `2130706433`).
fn short_ipv4(name: &str) -> Option<IpAddr> {
    let parts: Option<Vec<u32>> = name.split('.').map(number).collect();
    let parts = parts.filter(|parts| parts.len() <= 4)?;
    let (last, firsts) = parts.split_last()?;
    let left = 32 - 8 * firsts.len() as u32;
    if u64::from(*last) >> left != 0 || firsts.iter().any(|part| *part > 255) {
        return None;
    }
    let high = firsts.iter().fold(0u64, |all, part| all << 8 | u64::from(*part)) << left;
    u32::try_from(high | u64::from(*last)).ok().map(|all| IpAddr::from(all.to_be_bytes()))
}

/// A number as C writes it.
fn number(text: &str) -> Option<u32> {
    let good = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    u32::from_str_radix(digits, radix).ok().filter(|_| good(digits))
}

/// A path without doubled slashes and steps to itself: a port that is not plugged in today has no
/// file to ask for its name.
fn one_path(path: &str) -> String {
    let steps = path.split('/').filter(|step| !step.is_empty() && *step != ".");
    steps.fold(String::new(), |all, step| all + "/" + step)
}

#[cfg(test)]
mod tests {
    use super::{one_host_port, one_path, short_ipv4};

    #[test]
    fn an_endpoint_has_one_name_however_it_is_written() {
        let here: &[&str] = &[
            "127.0.0.1:502",
            "localhost:502",
            "LocalHost.:0502",
            "[::1]:502",
            "::1:502",
            "0.0.0.0:502",
            "[::]:502",
            "ip6-localhost:502",
            "ip6-loopback:502",
            "localhost.localdomain:502",
            "0x7f000001:502",
            "0x7f.1:502",
            "127.1:502",
            "2130706433:502",
            "[::ffff:127.0.0.1]:502",
        ];
        let alike: [&[&str]; 4] = [
            here,
            &["[::ffff:10.0.0.1]:502", "10.0.0.1:502", "0xa.1:502", "10.0.1:502", "012.1:502"],
            &["Converter.Garage:4001", "converter.garage.:4001"],
            &["[2001:db8:0:0::1]:502", "[2001:DB8::1]:502"],
        ];
        for spellings in alike {
            for spelling in spellings {
                assert_eq!(one_host_port(spelling), one_host_port(spellings[0]), "{spelling}");
            }
        }
        let firsts: std::collections::BTreeSet<_> =
            alike.iter().map(|spellings| one_host_port(spellings[0])).collect();
        assert_eq!(firsts.len(), alike.len());
        assert_ne!(one_host_port("10.0.0.1:502"), one_host_port("10.0.0.1:503"));
        assert_ne!(one_host_port("127.0.0.1:502"), one_host_port("127.0.0.2:502"));
        for name in ["", ".", "1.", "1.2.3.4.5", "256.1", "1.16777216", "0x", "face", "+1", "-1"] {
            assert_eq!(short_ipv4(name), None, "{name}");
        }
    }

    #[test]
    fn a_path_has_one_spelling() {
        for path in ["/dev/ttyUSB9", "//dev/ttyUSB9", "/dev//ttyUSB9", "/dev/./ttyUSB9"] {
            assert_eq!(one_path(path), "/dev/ttyUSB9");
        }
        assert_ne!(one_path("/dev/ttyUSB9"), one_path("/dev/ttyUSB8"));
    }
}
