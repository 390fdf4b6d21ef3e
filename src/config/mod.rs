//! From TOML files to a [`Config`] that cannot be wrong, or to all the reasons why not at once.
//!
//! `parkway check` and the daemon use the same [`load`]. `file.rs` is what a person writes,
//! `check.rs`, `device.rs` and `writing.rs` hold the rules, `weave/` builds the [`Site`] from what
//! passed.

mod check;
mod clock;
mod device;
mod file;
pub mod shipped;
mod truth;
mod weave;
mod writing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

pub use clock::{ClockTable, ClockTrust};
pub use file::{FullnessTable, GuidanceTable, HttpTable, LogTable, MqttTable, StoreTable};
pub use truth::TruthTable;

use crate::site::Site;

/// The largest file that is read: many times a site of 100,000 bays.
const FILE_MAX_BYTES: u64 = 16 << 20;

/// Everything the daemon was told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub site: Site,
    pub guidance: GuidanceTable,
    pub store: StoreTable,
    pub mqtt: Option<MqttTable>,
    pub http: HttpTable,
    pub log: LogTable,
    pub clock: ClockTable,
}

/// One thing wrong with a configuration, for a technician with a phone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub file: PathBuf,
    /// The key as it stands in the file, such as `line[zc-01].timeout_ms`.
    pub key: String,
    /// What is wrong: the value and its bound.
    pub text: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.key.is_empty() {
            return write!(f, "{}: {}", self.file.display(), self.text);
        }
        write!(f, "{}: {}: {}", self.file.display(), self.key, self.text)
    }
}

/// Reads a main file and all it includes.
///
/// # Errors
///
/// Every file that cannot be read or is not TOML of our shape (with line and column), or else
/// every rule that does not hold.
pub fn load(path: &Path) -> Result<Config, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut digest = crc32fast::Hasher::new();
    let main: file::MainFile = match parse(path, &mut digest) {
        Ok(main) => main,
        Err(problem) => return Err(vec![problem]),
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut parts = Vec::new();
    for include in &main.site.include {
        let path = folder.join(include);
        match parse::<file::PartFile>(&path, &mut digest) {
            Ok(part) => parts.push((path, part)),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let part_lines = parts.iter().flat_map(|(_, part)| &part.lines);
    let devices = devices(main.lines.iter().chain(part_lines));
    let zone = time_zone(&main.site.time_zone);
    let mut config = weave::weave(path.to_owned(), main, parts, devices, zone)?;
    config.site.config = format!("{:08x}", digest.finalize());
    Ok(config)
}

/// Which file each serial path leads to: `/dev/serial/by-id/...` and `/dev/ttyUSB0` may be one
/// port. A path that leads nowhere today stands for itself.
fn devices<'a>(lines: impl Iterator<Item = &'a file::LineTable>) -> BTreeMap<String, String> {
    let resolve = |path: &String| {
        let file = std::fs::canonicalize(path).ok()?;
        Some((path.clone(), file.to_string_lossy().into_owned()))
    };
    lines.filter_map(|line| line.serial.as_ref()).filter_map(resolve).collect()
}

/// A zone by its name in the machine's zone files, or a fixed offset; `None` for neither.
fn time_zone(name: &str) -> Option<TimeZone> {
    jiff::fmt::temporal::DateTimeParser::new().parse_time_zone(name).ok()
}

fn parse<T: serde::de::DeserializeOwned>(
    path: &Path,
    digest: &mut crc32fast::Hasher,
) -> Result<T, Problem> {
    let problem = |text: String| Problem { file: path.to_owned(), key: String::new(), text };
    let about =
        std::fs::metadata(path).map_err(|error| problem(format!("cannot read: {error}")))?;
    if !about.is_file() || about.len() > FILE_MAX_BYTES {
        return Err(problem(format!("is no file of at most {FILE_MAX_BYTES} bytes")));
    }
    let text =
        std::fs::read_to_string(path).map_err(|error| problem(format!("cannot read: {error}")))?;
    digest.update(text.as_bytes());
    // The error of the toml crate shows the line, the column and the offending text.
    toml::from_str(&text).map_err(|error| problem(error.to_string().trim_end().to_owned()))
}
