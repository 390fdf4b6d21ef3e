//! Holds `systemd/parkway.service` to the daemon: names, paths, exit codes, and a reason for each
//! line. A unit that drifts from its binary fails on the day it is needed, at boot.

use std::collections::BTreeMap;

const UNIT: &str = include_str!("../systemd/parkway.service");

#[test]
fn it_starts_what_we_build_where_we_said() {
    let unit = settings();
    assert_eq!(unit["ExecStart"], ["/usr/bin/parkway run --config /etc/parkway/parkway.toml"]);
    assert_eq!(unit["ExecReload"], ["/bin/kill -HUP $MAINPID"]);
    for (key, value) in [
        ("User", "parkway"),
        ("Group", "parkway"),
        ("StateDirectory", "parkway"),
        ("ConfigurationDirectory", "parkway"),
        ("WantedBy", "multi-user.target"),
    ] {
        assert_eq!(unit[key], [value], "{key}");
    }
}

#[test]
fn it_is_watched_and_restarted_for_ever() {
    let unit = settings();
    for (key, value) in [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("WatchdogSec", "10"),
        ("Restart", "always"),
        ("StartLimitIntervalSec", "0"),
        // EX_USAGE, what `parkway run` exits with on a config it refuses.
        ("RestartPreventExitStatus", "64"),
    ] {
        assert_eq!(unit[key], [value], "{key}");
    }
    // A clean stop is promised in 5 s; systemd must not cut it short.
    assert!(unit["TimeoutStopSec"][0].parse::<u32>().unwrap() > 5);
    assert!(!unit.contains_key("ExecStartPre"), "its exit code would not stop the restarts");
}

#[test]
fn it_waits_for_no_network_and_no_broker() {
    for line in UNIT.lines().filter(|line| !line.starts_with('#')) {
        for word in ["network-online", "mosquitto", "Requires=", "BindsTo="] {
            assert!(!line.contains(word), "{line}: guidance must start without {word}");
        }
    }
}

#[test]
fn it_gives_no_more_than_the_daemon_needs() {
    let unit = settings();
    for (key, value) in [
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
        ("UMask", "0077"),
        // `time::boot_id` reads /proc/sys, which `pid` would hide.
        ("ProcSubset", "all"),
    ] {
        assert_eq!(unit[key], [value], "{key}");
    }
    assert_eq!(unit["SystemCallFilter"], ["@system-service", "~@privileged @resources"]);
    assert!(unit.contains_key("MemoryMax"));
}

#[test]
fn every_setting_has_its_reason_above_it() {
    let service = UNIT.split("[Service]").nth(1).unwrap().split("[Install]").next().unwrap();
    // One reason may stand for settings of the same name or the same stem that follow at once.
    let stems = ["User", "Group", "StateDirectory", "ConfigurationDirectory", "SystemCallFilter"];
    let more = ["Capabilit", "ProtectKernel", "PrivateDevices", "DevicePolicy"];
    let mut reason = false;
    for line in service.lines().filter(|line| !line.is_empty()) {
        let comment = line.starts_with("# ");
        let shared = stems.iter().chain(&more).any(|stem| line.contains(stem));
        assert!(comment || line.starts_with('#') || reason || shared, "no reason for {line}");
        reason = comment;
    }
}

#[test]
fn its_credentials_are_examples_and_plain_names() {
    let unit = settings();
    assert!(!unit.contains_key("LoadCredential"), "a missing file would keep the daemon down");
    for name in ["http-token", "mqtt-password"] {
        let line = format!("#LoadCredential={name}:/etc/parkway/{name}");
        assert!(UNIT.lines().any(|l| l == line), "{line}");
    }
}

fn settings() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut settings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in UNIT.lines().filter(|line| !line.starts_with(['#', '['])) {
        if let Some((key, value)) = line.split_once('=') {
            settings.entry(key).or_default().push(value);
        }
    }
    settings
}
