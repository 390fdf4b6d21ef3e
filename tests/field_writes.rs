//! Lamps, outputs and displays that take one register at a time, on real sockets, against a device
//! that holds what it was told and may lie about it.

mod peer;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use parkway::field::{self, Field};
use parkway::site::{BayIx, ColourIx, Face, OutputIx, SignIx};
use parkway::time::Clock;
use peer::{Act, LineOf, Peer, Seen, holding, site};
use tokio::sync::mpsc::channel;

const LIT: &str = r#"
[[lamp]]
state = "free"
colour = "green"
[[lamp]]
colour = "off"
[[output]]
id = "bar"
unit = "u0-1"
index = 3
kind = "barrier"
garage = "g01"
on_when = ["full"]
"#;

const GREEN: ColourIx = ColourIx(0);
const OFF: ColourIx = ColourIx(1);

#[test]
fn the_lamps_of_a_unit_go_out_in_few_frames_and_then_only_those_that_changed() {
    let device = Device::new();
    let peer = device.start();
    let field = start(&peer, &[(1, "lit")], LIT);
    (0..630).for_each(|bay| field.lamp(BayIx(bay), if bay % 3 == 0 { GREEN } else { OFF }));
    wait_until("all lamps are lit", || confirmed(&field) == (630, 630));
    let frames = writes(&peer);
    // The field may wake while the first lamps are being left.
    assert!(frames.len() <= 6, "{} frames for 630 lamps", frames.len());
    assert!(frames.iter().all(|frame| matches!(frame.function, 5 | 15)));
    for bay in 0..630 {
        assert_eq!(device.item(1000 + bay), Some(u16::from(bay % 3 == 0)), "lamp {bay}");
    }
    field.lamp(BayIx(7), GREEN);
    wait_until("one lamp changes", || device.item(1007) == Some(1));
    let last = writes(&peer).pop().unwrap();
    assert_eq!((last.function, last.first, last.words), (5, 1007, vec![1]));
}

#[test]
fn an_output_that_holds_something_else_is_counted_and_written_again() {
    let device = Device::new();
    device.sticks.store(true, Ordering::Relaxed);
    let peer = device.start();
    let field = start(&peer, &[(1, "lit")], LIT);
    field.output(OutputIx(0), true);
    wait_until("the lie is seen", || field.status()[0].outputs[0].mismatch_total == 1);
    assert!(!field.status()[0].outputs[0].confirmed);
    assert_eq!(field.status()[0].outputs[0].written_at, None);
    device.sticks.store(false, Ordering::Relaxed);
    wait_until("it is written again", || field.status()[0].outputs[0].confirmed);
    assert_eq!(device.item(2003), Some(1));
    assert_eq!(writes(&peer).len(), 2, "written more often than its back-off says");
    assert!(field.status()[0].outputs[0].written_at.is_some());
    // Off again, and read back at once.
    field.output(OutputIx(0), false);
    wait_until("it is off", || device.item(2003) == Some(0));
    assert_eq!(field.status()[0].outputs[0].mismatch_total, 1);
}

#[test]
fn a_display_of_single_registers_gets_each_by_itself_and_a_newer_text_whole() {
    let device = Device::new();
    let peer = device.start();
    let field = start(&peer, &[(1, "lit"), (2, "slow")], TEXT_AND_LAMPS);
    field.write(SignIx(0), Face::Text("ABCDEFGH".into()));
    wait_until("the text stands", || field.status()[0].signs[0].confirmed);
    let frames: Vec<(u8, u16, Vec<u16>)> =
        writes(&peer).into_iter().map(|frame| (frame.function, frame.first, frame.words)).collect();
    let word = |two: &[u8; 2]| vec![u16::from_be_bytes(*two)];
    let expected = [(54, b"AB"), (55, b"CD"), (56, b"EF"), (57, b"GH")]
        .map(|(first, two)| (6, first, word(two)));
    assert_eq!(frames, expected);
    for text in ["12345678", "IJKLMNOP", "QRSTUVWX"] {
        field.write(SignIx(0), Face::Text(text.into()));
    }
    let last = |first: u16| device.item(first).unwrap_or(0).to_be_bytes();
    wait_until("the newest stands", || {
        [54, 55, 56, 57].map(last).concat() == b"QRSTUVWX" && field.status()[0].signs[0].confirmed
    });
}

#[test]
fn lamps_and_outputs_are_told_again_when_the_peer_started_anew() {
    let device = Device::new();
    let peer = device.start();
    let field = start(&peer, &[(1, "lit")], LIT);
    (0..630).for_each(|bay| field.lamp(BayIx(bay), GREEN));
    field.output(OutputIx(0), true);
    wait_until("all is shown", || {
        confirmed(&field) == (630, 630) && field.status()[0].outputs[0].confirmed
    });
    device.items.lock().unwrap().clear();
    device.closes.store(true, Ordering::Relaxed);
    wait_until("all is told again", || {
        (0..630).all(|bay| device.item(1000 + bay) == Some(1)) && device.item(2003) == Some(1)
    });
}

const TEXT_AND_LAMPS: &str = concat!(
    r#"
[[sign]]
id = "s0"
kind = "count"
unit = "u0-2"
index = 1
fallback = "blank"
shows = ["g01"]
"#,
    "[[lamp]]\nstate = \"free\"\ncolour = \"green\"\n[[lamp]]\ncolour = \"off\"\n"
);

/// What a device holds; coils and registers share no address here.
struct Device {
    items: Arc<Mutex<BTreeMap<u16, u16>>>,
    /// It takes every write and keeps what it had.
    sticks: Arc<AtomicBool>,
    /// It closes the connection, once.
    closes: Arc<AtomicBool>,
}

impl Device {
    fn new() -> Device {
        Device { items: Arc::default(), sticks: Arc::default(), closes: Arc::default() }
    }

    fn start(&self) -> Peer {
        let (items, sticks) = (self.items.clone(), self.sticks.clone());
        let closes = self.closes.clone();
        Peer::start(move |seen| {
            if closes.swap(false, Ordering::Relaxed) {
                return Act::Close;
            }
            let mut items = items.lock().unwrap();
            match seen.function {
                5 | 6 | 15 | 16 => {
                    if !sticks.load(Ordering::Relaxed) {
                        items.extend((seen.first..).zip(seen.words.iter().copied()));
                    }
                    Act::Answer
                }
                _ => {
                    let at = |n| items.get(&(seen.first + n)).copied().unwrap_or(0);
                    holding(seen, &(0..seen.count).map(at).collect::<Vec<_>>())
                }
            }
        })
    }

    fn item(&self, address: u16) -> Option<u16> {
        self.items.lock().unwrap().get(&address).copied()
    }
}

fn start(peer: &Peer, units: &[(u8, &str)], tables: &str) -> Field {
    let lines = [LineOf { address: peer.address, period_ms: 200, timeout_ms: 300, units }];
    let (sender, readings) = channel(1_000);
    // Nobody reads them here; a full queue must not matter.
    std::mem::forget(readings);
    field::start(site(&lines, tables), Clock::real(), sender).unwrap()
}

fn confirmed(field: &Field) -> (u32, u32) {
    let lamps = field.status()[0].lamps;
    (lamps.desired, lamps.confirmed)
}

fn writes(peer: &Peer) -> Vec<Seen> {
    peer.seen().into_iter().filter(|seen| matches!(seen.function, 5 | 6 | 15 | 16)).collect()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(8);
    while !done() {
        assert!(Instant::now() < until, "not in 8 seconds: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
