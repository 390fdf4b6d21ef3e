//! `parkway demo` as people run it: a whole site, an outage, and a clean end.
#![cfg(feature = "demo")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Cars ask, park and leave; the network is cut for ten seconds and what waited arrives after it.
#[test]
fn a_site_runs_through_an_outage_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let demo = demo(folder.path(), &["--for", "70s", "--outage", "10s", "--speed", "40"]);
    let output = demo.wait_with_output().expect("it ends");
    let (text, errors) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{text}\n{errors}");
    assert!(text.starts_with("The page: http://127.0.0.1:"), "{text}");
    assert!(text.contains("connecting,") && text.contains("the network is cut"), "{text}");
    assert!(text.contains("The gateway stopped: exit status: 0."), "{text}");
    let summary = text.rsplit("parkway  ").next().unwrap_or_default();
    for (before, least) in
        [("arrived", 500), ("parked as promised", 100), ("given", 500), ("left a bay", 300)]
    {
        assert!(number(summary, before) >= least, "few {before}:\n{text}");
    }
    assert_eq!(number(summary, "missing"), 0, "{text}");
    assert_eq!(number(summary, "unanswered"), 0, "{text}");
    assert!(!text.contains("MALFORMED"), "{text}");
    for lane in ["events", "aggregates", "alarms"] {
        assert!(summary.contains(lane), "nothing on lane {lane}:\n{text}");
    }
    assert_eq!(left_behind(folder.path()), Vec::<String>::new());
}

#[test]
fn it_ends_when_asked_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut demo = demo(folder.path(), &[]);
    let stdout = demo.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(stdout).lines();
    // The page's address, and the first line of the running demo.
    for _ in 0..2 {
        lines.next().expect("a line comes").expect("it is text");
    }
    assert_eq!(left_behind(folder.path()).len(), 1);
    let pid = Pid::from_raw(demo.id() as i32).expect("it has an id");
    let asked = Instant::now();
    kill_process(pid, Signal::INT).expect("it runs");
    let rest: Vec<String> = lines.map(|line| line.expect("it is text")).collect();
    let status = demo.wait().expect("it ends");
    assert_eq!(status.code(), Some(0), "{rest:?}");
    assert!(asked.elapsed() < Duration::from_secs(12), "{:?}", asked.elapsed());
    assert_eq!(left_behind(folder.path()), Vec::<String>::new());
}

#[test]
fn a_taken_port_and_bad_words_are_told() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound").to_string();
    let output = command(folder.path(), &["--http", &address]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(texts(&output).1.contains(&address), "{}", texts(&output).1);
    for words in [["--speed", "0"], ["--speed", "101"], ["--for", "soon"], ["--outage", "0s"]] {
        let output = command(folder.path(), &words).output().expect("it runs");
        assert_eq!(output.status.code(), Some(64), "{words:?}");
    }
    assert_eq!(left_behind(folder.path()), Vec::<String>::new());
}

// ---- helpers ----

fn command(folder: &std::path::Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parkway"));
    command.arg("demo").args(words).env("TMPDIR", folder);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn demo(folder: &std::path::Path, words: &[&str]) -> Child {
    command(folder, words).args(["--http", "127.0.0.1:0"]).spawn().expect("it starts")
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The number that stands before some words.
fn number(text: &str, words: &str) -> u64 {
    let at = text.find(words).unwrap_or_else(|| panic!("\"{words}\" is not in:\n{text}"));
    let number = text[..at].trim_end().rsplit(' ').next().unwrap_or_default();
    number.parse().unwrap_or_else(|_| panic!("\"{number}\" stands before {words}"))
}

fn left_behind(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("it can be read");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.map(|entry| entry.file_name());
    let names = entries.map(|entry| name(entry).expect("it can be read"));
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}
