//! The papers against the code: what README and the metrics table say must be so.
//!
//! The configuration files are held by `tests/config.rs`, the unit by `tests/unit_file.rs`, the
//! schemas and the OpenAPI document by tests beside their code.

use std::fs;
use std::path::Path;
use std::process::Command;

use parkway::metrics;

/// `PARKWAY_WRITE=1 cargo test --test papers` writes it anew after a metric changed.
#[test]
fn the_metrics_table_is_the_codes_own() {
    let path = root().join("config/metrics.md");
    let table = format!(
        "# Metrics of parkway\n\nServed at `/metrics`. Base units; labels come from the \
         configuration only. A test holds this table to the code.\n\n\
         | series | kind | meaning |\n|---|---|---|\n{}",
        metrics::markdown()
    );
    if std::env::var_os("PARKWAY_WRITE").is_some() {
        fs::write(&path, &table).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap(), table);
}

#[test]
fn every_series_the_readme_names_exists() {
    let readme = readme();
    let known: Vec<&str> = metrics::describe().into_iter().map(|(name, _, _)| name).collect();
    let named: Vec<&str> = readme
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("parkway_"))
        .collect();
    assert!(named.len() >= 5, "the README names its first metrics");
    for name in named {
        assert!(known.contains(&name), "README names {name}, which is no metric");
    }
}

#[test]
fn every_command_and_file_the_readme_names_exists() {
    let readme = readme();
    for (command, options) in [
        ("run", "--config"),
        ("check", ""),
        ("probe", "--scan-units"),
        ("status", "--http"),
        ("store", "export"),
        ("demo", "--outage"),
    ] {
        assert!(readme.contains(&format!("`parkway {command}")), "README leaves out {command}");
        // What is shipped has no demo, and its tests run with --no-default-features too.
        if command == "demo" && !cfg!(feature = "demo") {
            continue;
        }
        let help =
            Command::new(env!("CARGO_BIN_EXE_parkway")).args([command, "--help"]).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains(options), "{command} has no {options}:\n{help}");
    }
    for path in [
        "src/http/assets/page.png",
        "config/parkway.toml",
        "config/garage.toml",
        "config/jiefangbei/parkway.toml",
        "config/schema/events.schema.json",
        "config/metrics.md",
        "systemd/parkway.service",
        "LICENSE",
        "tests/run",
    ] {
        let folder = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
        assert!(readme.contains(path) || readme.contains(folder), "README leaves out {path}");
        assert!(root().join(path).exists(), "{path} does not exist");
    }
}

/// An installer copies these: each must be understood, whatever answers.
#[test]
fn every_probe_the_readme_shows_is_understood() {
    let readme = readme();
    let help = Command::new(env!("CARGO_BIN_EXE_parkway")).args(["probe", "--help"]).output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    let shown = readme.lines().filter(|line| line.starts_with("parkway probe"));
    let mut commands = 0;
    for line in shown {
        commands += 1;
        let line = line.split('#').next().unwrap();
        for word in line.split_whitespace().filter(|word| word.starts_with("--")) {
            assert!(help.contains(word), "README uses {word}, which probe does not have");
        }
    }
    assert!(commands >= 4, "README shows how a garage is brought up");
}

#[test]
fn the_readme_is_short_enough_to_be_read() {
    assert!(readme().lines().count() <= 120);
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}
