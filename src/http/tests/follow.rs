//! Followers of one lease and of one sign, over a real socket and a real owner: what changes is
//! told within 100 ms.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use super::bench::{adapters, connect, request};
use super::*;
use crate::config::GuidanceTable;
use crate::gateway::{Gateway, Identity, Kept, Reading, Ticket, testing};
use crate::owner::{Owner, Ports};
use crate::site::UnitIx;
use crate::time::Clock;

/// What the issue promises, in ms.
const WITHIN: Duration = Duration::from_millis(100);

const ROUNDS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_followed_within_100_ms_and_to_its_end() {
    let live = Live::start().await;
    let given = live.post("/v1/allocations", json!({ "at": "p1" })).await;
    let lease = format!("/v1/allocations/{}", given["lease"].as_str().unwrap());
    let mut events = Events::open(&live.address, &format!("{lease}/stream"), "allocation").await;
    let first = events.next().await;
    assert_eq!(first["bay"], given["bay"], "at once");
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let moved = live.post(&format!("{lease}/bay-taken"), json!({})).await;
        let told = events.next().await;
        took.push(began.elapsed());
        assert_eq!(told["bay"], moved["bay"], "what a GET would say");
    }
    let confirmed = live.post(&format!("{lease}/seen"), json!({ "at": "f1" })).await;
    assert_eq!(confirmed["steps"], json!([{ "at": "f1", "text": "Garage 1", "arrow": null }]));
    assert_eq!(events.next().await["at"], "f1");
    live.send("DELETE", &lease, json!({})).await;
    assert_eq!(events.next().await["end"], "cancelled");
    assert!(events.ended().await, "nothing follows the end");
    judge("lease", took);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_is_followed_within_100_ms() {
    let live = Live::start().await;
    let mut events = Events::open(&live.address, "/v1/signs/s1/stream", "sign").await;
    assert_eq!(events.next().await["id"], "s1");
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let mode = ["full", "auto"][round % 2];
        let began = Instant::now();
        live.send("PUT", "/v1/signs/s1/mode", json!({ "mode": mode, "by": "Li" })).await;
        let told = loop {
            let told = events.next().await;
            if told["mode"] == mode && (mode == "full") == (told["shows"] == "FULL") {
                break told;
            }
        };
        took.push(began.elapsed());
        assert_eq!(told["id"], "s1", "and of no other");
    }
    judge("sign", took);
}

#[tokio::test]
async fn nobody_follows_what_is_not_there() {
    let live = Live::start().await;
    for path in ["/v1/allocations/0a1b2c3d-9/stream", "/v1/allocations/x/stream"] {
        let reply = router(&live.app).oneshot(request("GET", path, None)).await.unwrap();
        assert_eq!(reply.status(), 404, "{path}");
    }
    let reply = router(&live.app).oneshot(request("GET", "/v1/signs/x/stream", None)).await;
    assert_eq!(reply.unwrap().status(), 404);
    assert_eq!(live.app.followers.available_permits(), FOLLOWERS_MAX, "and no place is taken");
}

/// Nine of ten: the machine that runs this may run others beside it.
fn judge(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let ninth = took[took.len() * 9 / 10];
    assert!(ninth < WITHIN, "{what}: {took:?}");
}

/// A server with an owner behind it, on the small site with garage 1 all free.
struct Live {
    app: Arc<App>,
    address: String,
    _readings: mpsc::Sender<Reading>,
    _mark: watch::Sender<Ticket>,
}

impl Live {
    async fn start() -> Live {
        let site = Arc::new(testing::site());
        let tuning = GuidanceTable { debounce_ms: 0, ..GuidanceTable::default() };
        let identity = Identity { run: 1, boot: "b".to_owned(), version: "0".to_owned() };
        let gateway = Gateway::new(site.clone(), tuning, identity);
        let (readings, inbox) = mpsc::channel(8);
        let (mark, durable) = watch::channel(Ticket(u64::MAX));
        let ports = Ports {
            write: Box::new(|_, _| ()),
            lamp: Box::new(|_, _| ()),
            output: Box::new(|_, _| ()),
            retry: Box::new(|_| ()),
            commit: Box::new(|_, _, _| ()),
            durable,
            beat: Box::new(|| ()),
            stepped: Box::new(|_| ()),
        };
        let (owner, handle) = Owner::new(gateway, Clock::real(), inbox, ports);
        tokio::spawn(owner.run(Kept::default()));
        let context = Context {
            site,
            owner: handle,
            status: Arc::new(adapters),
            metrics: Metrics::new(),
            token: watch::channel(None).1,
        };
        let app = App::new(context, CancellationToken::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(serve(listener, app.context.clone(), std::future::pending()));
        let live = Live { app, address, _readings: readings, _mark: mark };
        live.all_free().await;
        live
    }

    async fn all_free(&self) {
        let at = Clock::real().now().mono;
        let reading = Reading {
            unit: UnitIx(0),
            at,
            occupied: vec![0],
            known: vec![u64::MAX],
            counters: vec![0, 0],
            contacts: 0,
            contacts_known: 0,
        };
        self._readings.send(reading).await.unwrap();
        let mut pictures = self.app.context.owner.follow();
        while pictures.borrow().garages.first().is_none_or(|garage| garage.tally.free == 0) {
            pictures.changed().await.unwrap();
        }
    }

    async fn post(&self, path: &str, body: serde_json::Value) -> serde_json::Value {
        self.send("POST", path, body).await
    }

    async fn send(&self, method: &str, path: &str, body: serde_json::Value) -> serde_json::Value {
        let asked = request(method, path, Some(body.to_string()));
        let reply = router(&self.app).oneshot(asked).await.unwrap();
        assert!(reply.status().is_success(), "{method} {path}: {}", reply.status());
        let body = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice(&body).unwrap_or_default()
    }
}

/// The events of one kind from a stream.
struct Events {
    stream: TcpStream,
    kind: String,
    text: String,
}

impl Events {
    async fn open(address: &str, path: &str, kind: &str) -> Events {
        let stream = connect(address, path).await;
        Events { stream, kind: format!("event: {kind}\ndata: "), text: String::new() }
    }

    async fn next(&mut self) -> serde_json::Value {
        loop {
            if let Some((_, rest)) = self.text.split_once(&self.kind)
                && let Some((data, rest)) = rest.split_once('\n')
            {
                let (data, rest) = (data.to_owned(), rest.to_owned());
                self.text = rest;
                return serde_json::from_str(&data).unwrap();
            }
            assert!(self.read().await, "the stream ended: {:?}", self.text);
        }
    }

    /// Whether the server closes the stream with no further event.
    async fn ended(&mut self) -> bool {
        while !self.text.contains("\r\n0\r\n\r\n") && self.read().await {}
        !self.text.contains(&self.kind)
    }

    async fn read(&mut self) -> bool {
        let mut chunk = [0; 4_096];
        let read = tokio::time::timeout(Duration::from_secs(10), self.stream.read(&mut chunk));
        let length = read.await.expect("an event within ten seconds").unwrap();
        self.text += std::str::from_utf8(&chunk[..length]).unwrap();
        length > 0
    }
}
