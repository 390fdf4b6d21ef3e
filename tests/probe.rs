//! `parkway probe` as it is typed, against devices on real sockets and a bus at true speed.
//!
//! The claims: what it shows is what the unit holds; its exit code says whether anything answered;
//! and nothing is ever written that was not asked for, or twice.

mod peer;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use peer::bus::{Bus, Way, honest, says};
use peer::{Act, Peer, Seen, exception, register};
use serde_json::Value;

fn probe(line: &str) -> Output {
    let words = line.split(' ').filter(|word| !word.is_empty());
    Command::new(env!("CARGO_BIN_EXE_parkway")).arg("probe").args(words).output().unwrap()
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(text).unwrap()
}

/// Runs it and demands an exit code.
fn exits(line: &str, code: i32) -> String {
    let output = probe(line);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(code), "parkway probe {line}\n{text}");
    text
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

const WRITES: [u8; 4] = [5, 6, 15, 16];

#[test]
fn what_is_shown_is_what_the_unit_holds() {
    let peer = Peer::start(|_| Act::Answer);
    let tcp = format!("--tcp {} --unit 7", peer.address);
    // More than one request may carry.
    let told = objects(&exits(&format!("{tcp} --read holding:0..199 --json"), 0));
    let expected: Vec<u16> = (0..200).map(|at| register(7, at)).collect();
    assert_eq!(told[0]["words"], serde_json::json!(expected));
    let told = objects(&exits(&format!("{tcp} --read 30101..30102 --as u32 --json"), 0));
    let wide = u64::from(register(7, 100)) << 16 | u64::from(register(7, 101));
    assert_eq!((&told[0]["first"], &told[0]["values"][0]), (&100.into(), &wide.into()));
    let told = objects(&exits(&format!("{tcp} --read discrete:0..7 --json"), 0));
    let bits: Vec<u16> = (0..8).map(|bit| register(7, 0) >> bit & 1).collect();
    assert_eq!(told[0]["bits"], serde_json::json!(bits));
    let text = exits(&format!("{tcp} --read holding:5 --every 50ms --count 3"), 0);
    assert_eq!(text.matches(&format!("holding 5 {}\n", register(7, 5))).count(), 3, "{text}");
    assert!(peer.seen().iter().all(|seen| !WRITES.contains(&seen.function)));
}

#[test]
fn exit_codes_say_whether_anything_answered() {
    let refuses = Peer::start(|seen| exception(seen, 2));
    let text = exits(&format!("--tcp {} --unit 1 --read holding:5", refuses.address), 0);
    assert!(text.contains("exception 02 (no such address)"), "{text}");
    let silent = Peer::start(|_| Act::Silence);
    let quick = "--unit 1 --timeout-ms 50";
    let text = exits(&format!("--tcp {} {quick} --read holding:5", silent.address), 1);
    assert!(text.contains("no answer in time"), "{text}");
    exits(&format!("--tcp {} {quick}", silent.address), 1);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = exits(&format!("--tcp {nobody} --unit 1"), 1);
    assert!(text.contains("nothing serves that port"), "{text}");
    for wrong in [
        "",
        "--unit 1",
        "--tcp 127.0.0.1",
        "--tcp 127.0.0.1 --unit 256",
        "--tcp 127.0.0.1 --serial /dev/ttyS1 --unit 1",
        "--tcp 127.0.0.1 --unit 1 --read holding",
        "--tcp 127.0.0.1 --unit 1 --every 1s",
        "--tcp 127.0.0.1 --unit 1 --yes",
        "--tcp 127.0.0.1 --unit 1 --write input:1=1",
        "--serial /dev/ttyS1 --baud 300 --unit 1",
        "--config a.toml",
        "--config /nowhere/a.toml --line a",
    ] {
        exits(wrong, 64);
    }
}

#[test]
fn nothing_is_written_but_what_was_asked_for_and_that_once() {
    let held = Arc::new(Mutex::new([7u16; 16]));
    let ours = held.clone();
    let peer = Peer::start(move |seen| match seen.function {
        6 => {
            ours.lock().unwrap()[usize::from(seen.first)] = seen.count;
            Act::Answer
        }
        3 => {
            let mut pdu = vec![3, (seen.count * 2) as u8];
            let held = ours.lock().unwrap();
            let first = usize::from(seen.first);
            let Some(words) = held.get(first..first + usize::from(seen.count)) else {
                return exception(seen, 2);
            };
            pdu.extend(words.iter().flat_map(|word| word.to_be_bytes()));
            Act::Bytes(peer::frame(seen.transaction, seen.unit, &pdu))
        }
        _ => exception(seen, 1),
    });
    let tcp = format!("--tcp {} --unit 1", peer.address);
    let writes = || peer.seen().iter().filter(|seen| WRITES.contains(&seen.function)).count();
    exits(&tcp, 0);
    exits(&format!("{tcp} --scan holding:0..40 --scan coil:0..40"), 0);
    exits(&format!("{tcp} --scan-units 1..3"), 0);
    // Nobody is there to say yes.
    let text = exits(&format!("{tcp} --write holding:5=17"), 1);
    assert!(text.contains("needs --yes"), "{text}");
    assert_eq!(writes(), 0);
    let text = exits(&format!("{tcp} --write holding:5=17 --yes"), 0);
    assert!(text.contains("before: 7") && text.contains("after : 17"), "{text}");
    assert_eq!((writes(), held.lock().unwrap()[5]), (1, 17));
    exits(&format!("{tcp} --write coil:5=on --yes"), 1);
    assert_eq!(writes(), 2, "a refused write is not sent again");
}

#[test]
fn a_write_that_nobody_answers_is_sent_once_and_told_as_not_confirmed() {
    let peer = Peer::start(|seen| match seen.function {
        3 => Act::Answer,
        _ => Act::Silence,
    });
    let tcp = format!("--tcp {} --unit 1 --timeout-ms 60", peer.address);
    let text = exits(&format!("{tcp} --write holding:5=17,18 --yes"), 1);
    assert!(text.contains("NOT confirmed: no answer in time; it was sent once"), "{text}");
    let writes = peer.seen().iter().filter(|seen| WRITES.contains(&seen.function)).count();
    assert_eq!(writes, 1);
}

#[test]
fn a_late_answer_is_not_taken_for_the_next() {
    let asked = AtomicUsize::new(0);
    let late = Duration::from_millis(90);
    let peer = Peer::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => Act::Late(late),
        _ => Act::Answer,
    });
    let tcp = format!("--tcp {} --unit 1 --timeout-ms 60 --json", peer.address);
    let told = objects(&exits(&format!("{tcp} --read holding:1 --read holding:2"), 0));
    assert_eq!(told[0]["error"], "no answer in time");
    assert_eq!(told[1]["words"][0], register(1, 2));
}

#[test]
fn ranges_are_found() {
    let peer = Peer::start(|seen| {
        let last = seen.first + (seen.count - 1);
        let inside = |first, end| seen.first >= first && last <= end;
        match seen.function {
            3 if inside(10, 29) || inside(100, 101) => Act::Answer,
            3 => exception(seen, 2),
            _ => exception(seen, 1),
        }
    });
    let tcp = format!("--tcp {} --unit 1", peer.address);
    let text = exits(&format!("{tcp} --scan holding:0..150 --scan input:0..150"), 0);
    for words in [
        "holding 10 to 29: there (20)",
        "holding 100 to 101: there (2)",
        "holding 0 to 150: 22 of 151 there",
        "the unit does not know this table's function",
    ] {
        assert!(text.contains(words), "{words} is not in:\n{text}");
    }
}

#[test]
fn a_bus_is_scanned_read_and_timed() {
    let bus = Bus::start(Way::Pty, 9_600, |seen| match seen.unit {
        1 | 3 => says(honest(seen)),
        _ => Vec::new(),
    });
    let serial = format!("--serial {} --baud 9600", bus.path().display());
    let text = exits(&format!("{serial} --scan-units 1..4 --timeout-ms 60"), 0);
    assert!(text.contains("unit   1") && text.contains("unit   3"), "{text}");
    assert!(text.contains("2 of 4 addresses answer\n"), "{text}");
    let told = objects(&exits(&format!("{serial} --unit 3 --read holding:0..7 --json"), 0));
    let expected: Vec<u16> = (0..8).map(|at| register(3, at)).collect();
    assert_eq!(told[0]["words"], serde_json::json!(expected));
    // 8 and 21 characters of 1.04 ms and the unit's own 3 ms.
    let ms = told[0]["ms"].as_f64().unwrap();
    assert!((33.0..60.0).contains(&ms), "{ms} ms");
    assert_eq!(bus.faults(), Vec::<String>::new(), "silences are kept");
    exits(&format!("{serial} --unit 2 --timeout-ms 60 --read holding:0"), 1);
}

#[test]
fn a_converter_carries_rtu_frames() {
    let bus = Bus::start(Way::Converter, 9_600, |seen: &Seen| says(honest(seen)));
    let keys = bus.keys(1_000, 100);
    let endpoint = keys.split('"').nth(1).unwrap();
    let told = format!("--rtu-tcp {endpoint} --unit 9 --read input:4 --json");
    assert_eq!(objects(&exits(&told, 0))[0]["words"][0], register(9, 4));
}

#[test]
fn a_port_that_somebody_has_is_refused() {
    let bus = Bus::start(Way::Pty, 9_600, |seen| says(honest(seen)));
    let file = std::fs::File::options().read(true).write(true).open(bus.path()).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let text = exits(&format!("--serial {} --unit 1", bus.path().display()), 1);
    assert!(text.contains("another process has the port"), "{text}");
    assert!(text.contains("systemctl stop parkway"), "{text}");
}

#[test]
fn a_line_of_a_configuration_is_walked_unless_a_gateway_may_hold_it() {
    let peer = Peer::start(|seen| match seen.unit {
        1 => Act::Answer,
        _ => Act::Silence,
    });
    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.toml");
    let keys = format!("tcp = \"{}\"\ntimeout_ms = 200\n", peer.address);
    let listen = format!("[http]\nlisten = \"{}\"\n", http.local_addr().unwrap());
    let units: &[(u8, &str)] = &[(1, "bays"), (2, "plain")];
    std::fs::write(&path, peer::text_of(&[(keys, units)], &listen)).unwrap();
    let line = format!("--config {} --line l0 --samples 5", path.display());
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = http.accept().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            asked.extend(byte);
        }
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nok").unwrap();
    });
    let text = exits(&line, 64);
    assert!(text.contains("a gateway answers at"), "{text}");
    serving.join().unwrap();
    // Now nobody listens there any more; unit 2 is dead.
    let text = exits(&line, 1);
    for words in [
        "unit u0-1 (address 1, bays): min",
        "640 points wired",
        "silent: u0-2",
        "1 of 2 units measured",
        "configured: timeout_ms 200 is LESS",
    ] {
        assert!(text.contains(words), "{words} is not in:\n{text}");
    }
    exits(&format!("{line} --unit u0-1"), 0);
    let text = exits(&format!("{line} --unit 1 --profile bays"), 0);
    assert!(text.contains("bays               fits: "), "{text}");
    assert!(exits(&format!("{line} --unit 9"), 64).contains("has no unit \"9\""));
}
