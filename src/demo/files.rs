//! The reference site's files, carried in the binary and wired to this machine.
//!
//! The demo runs the very files that `config/jiefangbei` holds; only what ties them to the real
//! place is changed: endpoints, broker, store, and waits that must follow the demo's fast clock
//! because polling and commits do not.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

macro_rules! garages {
    ($($id:literal)*) => {
        [$((
            concat!("garages/", $id, ".toml"),
            include_str!(concat!("../../config/jiefangbei/garages/", $id, ".toml")),
        )),*]
    };
}

const MAIN: (&str, &str) = ("parkway.toml", include_str!("../../config/jiefangbei/parkway.toml"));

const GARAGES: [(&str, &str); 26] = garages![
    "g01" "g02" "g03" "g04" "g05" "g06" "g07" "g08" "g09" "g10" "g11" "g12" "g13"
    "g14" "g15" "g16" "g17" "g18" "g19" "g20" "g21" "g22" "g23" "g24" "g25" "g26"
];

/// What stands in for the real place.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// By line.
    pub endpoints: BTreeMap<String, SocketAddr>,
    pub http: SocketAddr,
    pub broker: SocketAddr,
    pub store: PathBuf,
    pub speed: u32,
}

/// Writes the files as they are, so that they can be loaded, and returns the main one.
///
/// # Errors
///
/// The folder cannot be written.
pub fn write(folder: &Path) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder.join("garages"))?;
    for (name, text) in files() {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(folder.join(MAIN.0))
}

/// Writes them again, wired to this machine.
///
/// # Errors
///
/// The folder cannot be written.
pub fn wire(folder: &Path, wiring: &Wiring) -> io::Result<()> {
    for (name, text) in files() {
        let mut table: Table = text.parse().map_err(io::Error::other)?;
        rewire(&mut table, wiring);
        if name == MAIN.0 {
            place(&mut table, wiring);
        }
        let text = toml::to_string(&table).map_err(io::Error::other)?;
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}

fn files() -> impl Iterator<Item = (&'static str, &'static str)> {
    std::iter::once(MAIN).chain(GARAGES)
}

/// Gives each line its controller on this machine.
fn rewire(table: &mut Table, wiring: &Wiring) {
    for line in table.get_mut("line").and_then(Value::as_array_mut).into_iter().flatten() {
        let id = line.get("id").and_then(Value::as_str).unwrap_or_default();
        let endpoint = wiring.endpoints.get(id).map(SocketAddr::to_string);
        if let (Some(endpoint), Some(line)) = (endpoint, line.as_table_mut()) {
            line.insert("tcp".to_owned(), Value::String(endpoint));
        }
    }
}

fn place(table: &mut Table, wiring: &Wiring) {
    let Wiring { endpoints: _, http, broker, store, speed } = wiring;
    let mut set = |part: &str, key: &str, value: Value| {
        let part = table.entry(part).or_insert_with(|| Value::Table(Table::new()));
        if let Some(part) = part.as_table_mut() {
            part.insert(key.to_owned(), value);
        }
    };
    let number = |n: u32| Value::Integer(i64::from(n));
    set("http", "listen", Value::String(http.to_string()));
    set("store", "path", Value::String(store.display().to_string()));
    set("mqtt", "broker", Value::String(broker.to_string()));
    // Its clock runs as fast as it was told: there is no service that could set it.
    set("clock", "trust", Value::String("always".to_owned()));
    // The gateway itself stretches what is measured in polls and commits. What is measured in
    // drivers' time loses some seconds to each poll, which are `speed` times as many on its clock.
    set("guidance", "hold_extra_s", number((120 + 4 * speed).min(3_600)));
    set("guidance", "early_s", number((30 + 2 * speed).min(600)));
    if let Some(mqtt) = table.get_mut("mqtt").and_then(Value::as_table_mut) {
        mqtt.remove("user");
        mqtt.remove("password_credential");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wired_files_are_accepted_and_point_here() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let main = write(folder.path()).expect("files can be written");
        let plain = crate::config::load(&main).expect("the carried files are accepted");
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let ports = (20_000..).map(address);
        let names = plain.site.lines.iter().map(|line| line.id.clone());
        let wiring = Wiring {
            endpoints: names.zip(ports).collect(),
            http: address(8_081),
            broker: address(1_884),
            store: folder.path().join("store"),
            speed: 20,
        };
        wire(folder.path(), &wiring).expect("files can be written");
        let wired = crate::config::load(&main).expect("the wired files are accepted");
        assert_eq!(wired.site.bays.len(), plain.site.bays.len());
        assert!(
            wired.site.lines.iter().all(|line| line.wire.to_string().starts_with("127.0.0.1:20"))
        );
        assert_eq!(wired.http.listen, "127.0.0.1:8081");
        assert_eq!(wired.guidance.hold_extra_s, 200);
        let mqtt = wired.mqtt.expect("the demo has a broker");
        assert_eq!((mqtt.broker.as_str(), mqtt.user), ("127.0.0.1:1884", None));
        assert_eq!(wired.store.path.as_deref(), folder.path().join("store").to_str());
        assert_eq!(wired.store.backlog_mib, plain.store.backlog_mib);
    }
}
