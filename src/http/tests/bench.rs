//! A router or a real server with a stand-in owner behind it.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{Request, Response, header};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use super::super::*;
use crate::gateway::{
    Allocation, Cars, ClosureView, GarageView, LeaseId, OutputMode, OutputView, Refusal, SignMode,
    SignView, Snapshot, Source, Ticket, UnitView, Why, testing,
};
use crate::owner::{Given, Urgent};
use crate::record::{End, Fullness, Promise, Tally};
use crate::site::{BayIx, ClassIx, Face, GarageIx, GarageState, NodeIx, OutputKind, ZoneIx};
use crate::status::{LineState, LineView, Ready, RelayView, UplinkState, UplinkView};
use crate::time::{Clock, Mono};

pub const LEASE: LeaseId = LeaseId { run: 0x0a1b_2c3d, number: 1 };

/// A router with a stand-in owner behind it.
pub struct Bench {
    pub app: Arc<App>,
    pub token: watch::Sender<Option<String>>,
    pub status: Arc<watch::Sender<Status>>,
    pub snapshot: Arc<watch::Sender<Arc<Snapshot>>>,
    asked: Arc<Mutex<Vec<Ask>>>,
    _silent: Option<mpsc::Receiver<Urgent>>,
}

impl Bench {
    pub fn new() -> Bench {
        let (mut bench, mut inbox) = Bench::build();
        let asked = bench.asked.clone();
        tokio::spawn(async move {
            while let Some(urgent) = inbox.recv().await {
                let Urgent::Ask { ask, reply } = urgent else { continue };
                let answer = answer(&ask);
                asked.lock().unwrap().push(ask);
                let _ = reply.send(Given { answer, after: Ticket(0), by: Mono(0) });
            }
        });
        bench._silent = None;
        bench
    }

    pub fn silent() -> Bench {
        let (mut bench, inbox) = Bench::build();
        bench._silent = Some(inbox);
        bench
    }

    fn build() -> (Bench, mpsc::Receiver<Urgent>) {
        let (urgent, inbox) = mpsc::channel(8);
        let (snapshot, pictures) = watch::channel(Arc::new(picture()));
        let (_, durable) = watch::channel(Ticket(0));
        let (token, tokens) = watch::channel(None);
        let status = Arc::new(watch::channel(adapters()).0);
        let read = status.clone();
        let context = Context {
            site: Arc::new(site()),
            owner: Handle::new(
                urgent,
                pictures,
                tokio::sync::broadcast::Sender::new(8),
                durable,
                Clock::real(),
            ),
            status: Arc::new(move || read.borrow().clone()),
            metrics: Metrics::new(),
            token: tokens,
        };
        let app = App::new(context, CancellationToken::new());
        let (snapshot, asked) = (Arc::new(snapshot), Arc::default());
        (Bench { app, token, status, snapshot, asked, _silent: None }, inbox)
    }

    /// A real server on a free port of loopback, which ends with the bench's own stop.
    pub async fn serve(&self) -> (String, tokio::task::JoinHandle<std::io::Result<()>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = self.app.stop.clone();
        let stopped = async move { stop.cancelled().await };
        (url, tokio::spawn(serve(listener, self.app.context.clone(), stopped)))
    }

    pub async fn send(&self, request: Request<Body>) -> Response<Body> {
        router(&self.app).oneshot(request).await.unwrap()
    }

    pub async fn json(&self, request: Request<Body>) -> (u16, Value) {
        let reply = self.send(request).await;
        let status = reply.status().as_u16();
        let body = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap();
        if body.is_empty() {
            return (status, Value::Null);
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("no JSON: {text}")))
    }

    pub fn last_ask(&self) -> Ask {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

pub fn request(method: &str, path: &str, body: Option<String>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    request.body(body.map_or(Body::empty(), Body::from)).unwrap()
}

/// What the stand-in says; request ids and lease numbers choose the refusals.
pub fn answer(ask: &Ask) -> Answer {
    let refused = Answer::Refused;
    let ended = |lease| refused(Refusal::LeaseEnded { lease, end: End::Expired });
    match ask {
        Ask::Arrive(request) => match &*request.request_id {
            "no-class" => refused(Refusal::ClassNotServed(request.class)),
            "no-way" => refused(Refusal::NoWay(request.at)),
            "too-many" => refused(Refusal::TooMany { at: request.at, open: 2_000 }),
            "stopping" => refused(Refusal::Stopping),
            _ => Answer::Allocation(allocation()),
        },
        Ask::Find(lease) | Ask::Report { lease, .. } => match lease.number {
            1 => Answer::Allocation(allocation()),
            2 => ended(*lease),
            _ => refused(Refusal::NoSuchLease(*lease)),
        },
        Ask::Open { target: crate::site::Target::Scope(scope), .. } => {
            refused(Refusal::NotClosed(crate::site::Target::Scope(*scope)))
        }
        Ask::Closures => Answer::Closures(vec![ClosureView {
            target: "g01/B1".into(),
            reason: "water".into(),
            by: "Li".into(),
            expires_in_s: None,
            incident: false,
        }]),
        Ask::ClearMessage { sign, .. } => refused(Refusal::NoMessage(*sign)),
        Ask::ShowMessage { sign, text, .. } if text == "too long" => {
            refused(Refusal::CannotShow { sign: *sign, what: text.clone() })
        }
        Ask::Close { .. }
        | Ask::Open { .. }
        | Ask::SetMode { .. }
        | Ask::SetOutput { .. }
        | Ask::SetCount { .. }
        | Ask::Retry { .. }
        | Ask::ShowMessage { .. } => Answer::Done,
    }
}

pub fn allocation() -> Allocation {
    Allocation {
        lease: Some(LEASE),
        request_id: "r1".into(),
        promise: Promise::Bay,
        class: ClassIx(0),
        at: NodeIx(0),
        destination: None,
        garage: Some(GarageIx(0)),
        zone: Some(ZoneIx(0)),
        bay: Some(BayIx(16)),
        travel_s: 130,
        deadline: Mono(0),
        expires_in_s: 250,
        end: None,
        why: Why::Firm,
        out: Vec::new(),
        routes: Some(testing::routes(&site())),
    }
}

pub fn picture() -> Snapshot {
    let tally = Tally { free: 7, held: 1, occupied: 9, unknown: 2, closed: 1 };
    Snapshot {
        version: 3,
        garages: vec![GarageView {
            id: "g01".into(),
            name: "North".into(),
            fullness: Fullness::Spaces,
            closed: false,
            incident: false,
            bays: 20,
            tally,
            ledger_free: 1,
            cars: Cars { sensed: 9, counted: Some(10), booked: 4 },
            count_error: Some(1),
            doubtful: 2,
            by_class: BTreeMap::from([("car".into(), tally)]),
        }],
        units: vec![UnitView { id: "zc-01".into(), age_ms: Some(300), fresh: true, bays: 20 }],
        signs: vec![SignView {
            id: "s-g01".into(),
            name: "North".into(),
            mode: SignMode::Auto,
            face: Face::Number(7),
            kind: "count",
            source: Source::Automatic,
            message: None,
            mode_until: None,
            message_until: None,
        }],
        outputs: vec![OutputView {
            id: "bar-g01".into(),
            name: "North barrier".into(),
            kind: OutputKind::Barrier,
            garage: "g01".into(),
            garage_state: GarageState::Spaces,
            state: OutputMode::Off,
            by: Some("Li".into()),
            expires_in_s: Some(60),
            on: Some(false),
        }],
        leases_open: 1,
        ..Snapshot::default()
    }
}

pub fn adapters() -> Status {
    Status {
        lines: vec![LineView { id: "zc-01".into(), state: LineState::Up, ..Default::default() }],
        relays: vec![RelayView {
            output: "bar-g01".into(),
            confirmed: true,
            age_s: Some(4),
            mismatches_total: 0,
        }],
        uplink: UplinkView { state: UplinkState::Connecting, ..Default::default() },
        ready: Ready { store: true, polled: true, stopping: false },
        ..Default::default()
    }
}

pub fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parkway.toml");
    std::fs::write(&path, SITE).unwrap();
    let problems = |p: Vec<crate::config::Problem>| {
        p.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    crate::config::load(&path).map_err(problems).unwrap().site
}

pub const SITE: &str = r#"
[site]
id = "test"
name = "Test site"
gateway = "test-1"
[[class]]
id = "car"
[[node]]
id = "n-cordon"
kind = "approach"
[[node]]
id = "p1"
kind = "portal"
[[node]]
id = "g01-door"
kind = "door"
[[link]]
from = "n-cordon"
to = "p1"
kind = "surface"
length_m = 900
speed_kmh = 25
[[link]]
from = "p1"
to = "g01-door"
kind = "ring"
length_m = 300
speed_kmh = 20
[[destination]]
id = "d1"
at_m = [120, 40]
[[profile]]
id = "zone-controller"
source = "a test"
bays = { table = "holding", base = 0, points = 630, layout = { kind = "bits" } }
[[profile]]
id = "panel"
source = "a test"
[profile.sign]
base = 0
stride = 1
displays = 64
format = { kind = "number", max = 9999, full = 10001, closed = 10002, blank = 10000 }
[[profile]]
id = "io"
source = "a test"
outputs = { table = "coil", base = 0, count = 8 }
[[line]]
id = "zc-01"
tcp = "127.0.0.1:1502"
[[line.unit]]
id = "zc-01"
address = 1
profile = "zone-controller"
[[line.unit]]
id = "panel-1"
address = 2
profile = "panel"
[[line.unit]]
id = "io-1"
address = 3
profile = "io"
[[garage]]
id = "g01"
name = "North"
door = "g01-door"
at_m = [100, 20]
[[garage.level]]
id = "B1"
drive_s = 40
[[garage.level.zone]]
id = "A"
bays = "1-20"
unit = "zc-01"
first_point = 0
walk_s = 35
[[sign]]
id = "s-g01"
kind = "count"
unit = "panel-1"
index = 0
fallback = "blank"
shows = ["g01"]
[[output]]
id = "bar-g01"
unit = "io-1"
index = 0
kind = "barrier"
garage = "g01"
on_when = ["full"]
"#;

pub async fn connect(address: &str, path: &str) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

pub async fn read_until(stream: &mut tokio::net::TcpStream, wanted: &str) {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(wanted) {
        let mut chunk = [0; 4_096];
        let length = stream.read(&mut chunk).await.unwrap();
        assert!(length > 0, "the stream ended before {wanted:?}");
        text.extend(&chunk[..length]);
    }
}
