//! The surface, held to its contract: a stand-in owner answers, real requests go in.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::http::{Request, Response, header};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tower::ServiceExt as _;
use utoipa::OpenApi as _;

use super::*;
use crate::gateway::{
    Allocation, ClosureView, GarageView, LeaseId, Refusal, Report, SignMode, SignView, Snapshot,
    UnitView,
};
use crate::owner::Urgent;
use crate::record::{End, Fullness, Promise, Tally};
use crate::site::{BayIx, ClassIx, Face, GarageIx, LevelIx, NodeIx, ZoneIx};
use crate::status::{LineState, LineView, Ready, UplinkState, UplinkView};
use crate::time::Mono;

const LEASE: LeaseId = LeaseId { run: 0x0a1b_2c3d, number: 1 };

/// Method, path, body, then what must come back: status, code, field.
type BadRequest = (&'static str, &'static str, String, u16, &'static str, Option<&'static str>);

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let bench = Bench::new();
    for (method, path, body, status, code, field) in bad_requests() {
        let request = request(method, path, Some(body.clone()));
        let (got, reply) = bench.json(request).await;
        let shown = format!("{method} {path} {}: {reply}", &body[..body.len().min(80)]);
        assert_eq!(got, status, "{shown}");
        assert_eq!(reply["error"]["code"], code, "{shown}");
        assert_eq!(reply["error"]["field"].as_str(), field, "{shown}");
        assert!(reply["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{shown}");
    }
}

fn bad_requests() -> Vec<BadRequest> {
    let ask = "/v1/allocations";
    let lease = "/v1/allocations/0a1b2c3d-1";
    let parked = "/v1/allocations/0a1b2c3d-1/parked";
    let mode = "/v1/signs/s-g01/mode";
    let arrival = |key: &str, value: Value| {
        let mut body = json!({ "request_id": "r1", "at": "n-cordon" });
        body[key] = value;
        body.to_string()
    };
    let closure = |key: &str, value: Value| {
        let mut body = json!({ "target": "g01", "reason": "water", "by": "Li" });
        body[key] = value;
        body.to_string()
    };
    let long = "x".repeat(65);
    vec![
        // Not JSON, or not an object.
        ("POST", ask, "".into(), 400, "malformed_json", None),
        ("POST", ask, "{".into(), 400, "malformed_json", None),
        ("POST", ask, "[]".into(), 400, "malformed_json", None),
        ("POST", ask, "\"x\"".into(), 400, "malformed_json", None),
        ("POST", ask, "{\"at\":\"a\"} x".into(), 400, "malformed_json", None),
        ("POST", ask, "[".repeat(10_000), 400, "malformed_json", None),
        ("POST", ask, "{\"eta_s\":1e999}".into(), 400, "malformed_json", None),
        ("POST", ask, " ".repeat(16 * 1_024 + 1), 413, "too_large", None),
        // Keys.
        ("POST", ask, "{}".into(), 400, "missing_field", Some("request_id")),
        ("POST", ask, "{\"request_id\":\"r\"}".into(), 400, "missing_field", Some("at")),
        ("POST", ask, arrival("plate", json!("x")), 400, "unknown_field", Some("body")),
        // Wrong types.
        ("POST", ask, arrival("request_id", json!(7)), 400, "wrong_type", Some("request_id")),
        ("POST", ask, arrival("at", json!(["n"])), 400, "wrong_type", Some("at")),
        ("POST", ask, arrival("class", json!({})), 400, "wrong_type", Some("class")),
        ("POST", ask, arrival("eta_s", json!("60")), 400, "wrong_type", Some("eta_s")),
        ("POST", ask, arrival("eta_s", json!(1.5)), 400, "wrong_type", Some("eta_s")),
        ("POST", ask, arrival("eta_s", json!(true)), 400, "wrong_type", Some("eta_s")),
        // Bounds.
        ("POST", ask, arrival("request_id", json!("")), 422, "out_of_range", Some("request_id")),
        ("POST", ask, arrival("request_id", json!(long)), 422, "out_of_range", Some("request_id")),
        (
            "POST",
            ask,
            arrival("request_id", json!("a\nb")),
            422,
            "out_of_range",
            Some("request_id"),
        ),
        ("POST", ask, arrival("eta_s", json!(-1)), 422, "out_of_range", Some("eta_s")),
        ("POST", ask, arrival("eta_s", json!(7_201)), 422, "out_of_range", Some("eta_s")),
        ("POST", ask, arrival("eta_s", json!(1_u64 << 40)), 422, "out_of_range", Some("eta_s")),
        (
            "POST",
            ask,
            arrival("plate_tail", json!("12345")),
            422,
            "out_of_range",
            Some("plate_tail"),
        ),
        ("POST", ask, arrival("plate_tail", json!("a b")), 422, "out_of_range", Some("plate_tail")),
        // Names this site does not know.
        ("POST", ask, arrival("at", json!("n-nowhere")), 422, "unknown_node", Some("at")),
        (
            "POST",
            ask,
            arrival("destination", json!("x")),
            422,
            "unknown_destination",
            Some("destination"),
        ),
        ("POST", ask, arrival("class", json!("boat")), 422, "unknown_class", Some("class")),
        ("POST", parked, json!({"bay": "g01/B1/A"}).to_string(), 422, "unknown_bay", Some("bay")),
        (
            "POST",
            parked,
            json!({"bay": "g01/B1/A/999"}).to_string(),
            422,
            "unknown_bay",
            Some("bay"),
        ),
        ("POST", parked, json!({"bay": 17}).to_string(), 400, "wrong_type", Some("bay")),
        // What the gateway refuses.
        (
            "POST",
            ask,
            arrival("request_id", json!("no-class")),
            409,
            "class_not_served",
            Some("class"),
        ),
        ("POST", ask, arrival("request_id", json!("no-way")), 409, "no_way", Some("at")),
        ("POST", ask, arrival("request_id", json!("too-many")), 429, "too_many", Some("at")),
        ("POST", ask, arrival("request_id", json!("stopping")), 503, "stopping", None),
        ("GET", "/v1/allocations/0a1b2c3d-9", "".into(), 404, "unknown_lease", Some("lease")),
        ("GET", "/v1/allocations/nonsense", "".into(), 404, "unknown_lease", Some("lease")),
        ("GET", "/v1/allocations/%ff", "".into(), 404, "unknown_lease", Some("lease")),
        ("DELETE", "/v1/allocations/0a1b2c3d-2", "".into(), 409, "lease_ended", Some("lease")),
        (
            "POST",
            "/v1/allocations/0a1b2c3d-2/bay-taken",
            "".into(),
            409,
            "lease_ended",
            Some("lease"),
        ),
        // Staff.
        (
            "POST",
            "/v1/closures",
            closure("target", json!("g99")),
            422,
            "unknown_target",
            Some("target"),
        ),
        (
            "POST",
            "/v1/closures",
            closure("target", json!("link:p1>n")),
            422,
            "unknown_target",
            Some("target"),
        ),
        (
            "POST",
            "/v1/closures",
            closure("reason", json!("y".repeat(201))),
            422,
            "out_of_range",
            Some("reason"),
        ),
        (
            "POST",
            "/v1/closures",
            closure("expires_s", json!(0)),
            422,
            "out_of_range",
            Some("expires_s"),
        ),
        ("POST", "/v1/closures", closure("by", json!(null)), 400, "missing_field", Some("by")),
        (
            "POST",
            "/v1/openings",
            json!({"target": "g01", "by": "Li"}).to_string(),
            409,
            "not_closed",
            Some("target"),
        ),
        (
            "PUT",
            mode,
            json!({"mode": "loud", "by": "Li"}).to_string(),
            422,
            "out_of_range",
            Some("mode"),
        ),
        ("PUT", mode, json!({"mode": "test"}).to_string(), 400, "missing_field", Some("by")),
        ("PUT", "/v1/signs/s-99/mode", "{}".into(), 404, "unknown_sign", Some("id")),
        ("GET", "/v1/signs/s-99", "".into(), 404, "unknown_sign", Some("id")),
        ("GET", "/signs/s-99", "".into(), 404, "unknown_sign", Some("id")),
        // Paths and methods.
        ("GET", "/v2/state", "".into(), 404, "unknown_path", Some("path")),
        ("GET", "/v1/state/", "".into(), 404, "unknown_path", Some("path")),
        ("PUT", ask, "{}".into(), 405, "unknown_method", Some("method")),
        ("PATCH", lease, "{}".into(), 405, "unknown_method", Some("method")),
        ("DELETE", "/", "".into(), 405, "unknown_method", Some("method")),
    ]
}

#[tokio::test]
async fn bodies_that_are_not_utf_8_or_not_json_by_type_are_refused() {
    let bench = Bench::new();
    let mut bytes = b"{\"request_id\":\"".to_vec();
    bytes.extend([0xff, 0xfe]);
    bytes.extend(b"\",\"at\":\"n-cordon\"}");
    let mut bad = request("POST", "/v1/allocations", None);
    *bad.body_mut() = Body::from(bytes);
    let (status, reply) = bench.json(bad).await;
    assert_eq!((status, &reply["error"]["code"]), (400, &json!("malformed_json")), "{reply}");

    let honest = r#"{"request_id":"r1","at":"n-cordon"}"#;
    for (kind, status) in [
        ("application/json", 200),
        ("application/json; charset=gbk", 200),
        ("Application/JSON;charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
    ] {
        let mut sent = request("POST", "/v1/allocations", Some(honest.to_owned()));
        sent.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
        let (got, reply) = bench.json(sent).await;
        assert_eq!(got, status, "{kind:?}: {reply}");
    }
}

#[tokio::test]
async fn an_arrival_is_answered_with_names() {
    let bench = Bench::new();
    let body = json!({ "request_id": "r1", "at": "n-cordon", "eta_s": 60, "plate_tail": "8K21" });
    let (status, reply) =
        bench.json(request("POST", "/v1/allocations", Some(body.to_string()))).await;
    assert_eq!(status, 200, "{reply}");
    assert_eq!(
        reply,
        json!({
            "lease": "0a1b2c3d-1", "request_id": "r1", "promise": "bay", "class": "car",
            "at": "n-cordon", "destination": null, "way": ["n-cordon", "p1", "g01-door"],
            "portal": "p1", "garage": "g01", "level": "g01/B1", "zone": "g01/B1/A",
            "bay": "g01/B1/A/017", "directions": ["Ring portal 1"], "travel_s": 130,
            "expires_in_s": 250, "durable": true, "end": null, "reason": "",
        })
    );
    let Ask::Arrive(asked) = bench.last_ask() else { panic!("no arrival") };
    assert_eq!((asked.eta_s, asked.tail.as_deref()), (60, Some("8K21")));
    assert_eq!(asked.class, ClassIx(0), "car where the class is absent");
}

#[tokio::test]
async fn reports_and_orders_reach_the_owner_as_meant() {
    let bench = Bench::new();
    let lease = "/v1/allocations/0a1b2c3d-1";
    let report = |report| Ask::Report { lease: LEASE, report };
    let site = &bench.app.context.site;
    let bay = site.target("g01/B1/A/003").unwrap();
    let sign = site.sign("s-g01").unwrap();
    let by = || "Li".to_owned();
    let close = Ask::Close { target: bay, reason: "oil".into(), by: by(), expires_s: Some(60) };
    for (method, path, body, status, ask) in [
        ("GET", lease.to_owned(), None, 200, Ask::Find(LEASE)),
        ("DELETE", lease.to_owned(), None, 200, report(Report::Cancelled)),
        ("POST", format!("{lease}/bay-taken"), None, 200, report(Report::BayTaken)),
        ("POST", format!("{lease}/parked"), None, 200, report(Report::Parked(None))),
        (
            "POST",
            format!("{lease}/parked"),
            Some(json!({ "bay": "g01/B1/A/003" })),
            200,
            report(Report::Parked(Some(BayIx(2)))),
        ),
        (
            "POST",
            "/v1/closures".to_owned(),
            Some(json!({"target": "g01/B1/A/003", "reason": "oil", "by": "Li", "expires_s": 60})),
            204,
            close,
        ),
        (
            "POST",
            "/v1/openings".to_owned(),
            Some(json!({ "target": "node:p1", "by": "Li" })),
            204,
            Ask::Open { target: site.target("node:p1").unwrap(), by: by() },
        ),
        (
            "PUT",
            "/v1/signs/s-g01/mode".to_owned(),
            Some(json!({ "mode": "test", "by": "Li" })),
            204,
            Ask::SetMode { sign, mode: SignMode::Test, by: by() },
        ),
    ] {
        let (got, reply) = bench.json(request(method, &path, body.map(|b| b.to_string()))).await;
        assert_eq!(got, status, "{method} {path}: {reply}");
        assert_eq!(bench.last_ask(), ask, "{method} {path}");
    }
    let (status, reply) = bench.json(request("GET", "/v1/closures", None)).await;
    assert_eq!(status, 200);
    assert_eq!(reply["closures"][0]["target"], "g01/B1");
}

#[tokio::test]
async fn the_token_guards_all_but_health() {
    let bench = Bench::new();
    bench.token.send_replace(Some("s3cret".to_owned()));
    for (method, path, _) in routes() {
        let path = path.replace("{lease}", "0a1b2c3d-1").replace("{id}", "s-g01");
        let reply = bench.send(request(method.as_str(), &path, None)).await;
        let open = ["/healthz", "/readyz"].contains(&path.as_str());
        assert_eq!(reply.status() != 401, open, "{method} {path}");
    }
    let unknown = bench.send(request("GET", "/nowhere", None)).await;
    assert_eq!(unknown.status(), 401, "nor is it told what exists");
    assert_eq!(unknown.headers().get_all(header::WWW_AUTHENTICATE).iter().count(), 2);
    for (sent, status) in [
        ("Bearer s3cret", 200),
        ("Basic b3BzOnMzY3JldA==", 200),
        ("Bearer s3cre", 401),
        ("Bearer", 401),
        ("s3cret", 401),
    ] {
        let mut asked = request("GET", "/v1/state", None);
        asked.headers_mut().insert(header::AUTHORIZATION, sent.parse().unwrap());
        assert_eq!(bench.send(asked).await.status(), status, "{sent}");
    }
    bench.token.send_replace(Some("other".to_owned()));
    let mut asked = request("GET", "/v1/state", None);
    asked.headers_mut().insert(header::AUTHORIZATION, "Bearer s3cret".parse().unwrap());
    assert_eq!(bench.send(asked).await.status(), 401, "the old token, after a change");
}

#[tokio::test]
async fn another_sites_page_gives_no_orders() {
    let bench = Bench::new();
    for (method, path, from, status) in [
        ("POST", "/v1/allocations/0a1b2c3d-1/bay-taken", "cross-site", 403),
        ("DELETE", "/v1/allocations/0a1b2c3d-1", "same-site", 403),
        ("DELETE", "/v1/allocations/0a1b2c3d-1", "same-origin", 200),
        ("GET", "/v1/state", "cross-site", 200),
    ] {
        let mut sent = request(method, path, None);
        sent.headers_mut().insert("sec-fetch-site", from.parse().unwrap());
        assert_eq!(bench.send(sent).await.status(), status, "{method} {path} {from}");
    }
}

#[tokio::test]
async fn the_state_shows_what_the_gateway_and_the_adapters_say() {
    let bench = Bench::new();
    let (status, state) = bench.json(request("GET", "/v1/state", None)).await;
    assert_eq!(status, 200);
    assert_eq!(state["totals"]["free"], 7);
    assert_eq!(state["totals"]["bays"], 20);
    assert_eq!(state["garages"][0]["unknown"], 2);
    assert_eq!(
        (&state["garages"][0]["closed"], &state["garages"][0]["shut"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(state["signs"][0]["shows"], "7");
    assert_eq!(state["signs"][0]["face"], json!({ "number": 7 }));
    assert_eq!(state["lines"][0]["state"], "up");
    assert_eq!(state["uplink"]["state"], "connecting");
    assert_eq!(state["store"]["state"], "opening");
    assert_eq!(state["ready"], true);
    let (_, site) = bench.json(request("GET", "/v1/site", None)).await;
    assert_eq!(site["garages"][0]["zones"][0]["id"], "g01/B1/A");
}

#[tokio::test]
async fn ready_needs_store_and_polls_and_never_the_uplink() {
    let bench = Bench::new();
    let (status, _) = bench.json(request("GET", "/readyz", None)).await;
    assert_eq!(status, 200, "the uplink is only connecting");
    bench.status.send_modify(|s| s.ready.polled = false);
    let (status, reply) = bench.json(request("GET", "/readyz", None)).await;
    assert_eq!((status, &reply["missing"]), (503, &json!(["polled"])));
    bench.status.send_modify(|s| s.ready = Ready { store: false, polled: true, stopping: true });
    let (_, reply) = bench.json(request("GET", "/readyz", None)).await;
    assert_eq!(reply["missing"], json!(["store", "running"]));
    assert_eq!(bench.json(request("GET", "/healthz", None)).await.0, 200);
}

#[tokio::test]
async fn every_route_is_in_the_document_and_the_other_way_round() {
    let served: BTreeSet<(String, String)> = routes()
        .into_iter()
        .map(|(method, path, _)| (method.as_str().to_lowercase(), path.to_owned()))
        .collect();
    let document = serde_json::to_value(openapi::Contract::openapi()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut told = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            told.insert((method.clone(), path.clone()));
        }
    }
    assert_eq!(served, told);
    // The table's methods are the handlers' own: each answers, and not with 405.
    let bench = Bench::new();
    for (method, path, _) in routes() {
        let path = path.replace("{lease}", "0a1b2c3d-1").replace("{id}", "s-g01");
        let reply = bench.send(request(method.as_str(), &path, None)).await;
        assert!(![404, 405].contains(&reply.status().as_u16()), "{method} {path}");
    }
}

#[tokio::test]
async fn the_documents_bodies_have_the_keys_that_are_read() {
    let bench = Bench::new();
    let document = serde_json::to_value(openapi::Contract::openapi()).unwrap();
    for (name, method, path) in [
        ("AllocationRequest", "POST", "/v1/allocations"),
        ("ParkedRequest", "POST", "/v1/allocations/0a1b2c3d-1/parked"),
        ("CloseRequest", "POST", "/v1/closures"),
        ("OpenRequest", "POST", "/v1/openings"),
        ("ModeRequest", "PUT", "/v1/signs/s-g01/mode"),
    ] {
        let schema = &document["components"]["schemas"][name];
        let keys = schema["properties"].as_object().unwrap_or_else(|| panic!("{name}: {schema}"));
        let mut body = json!({ "none-such": 1 });
        for (key, about) in keys {
            body[key] = json!(null);
            let required = schema["required"].as_array().is_some_and(|r| r.contains(&json!(key)));
            if required {
                body[key] = match key.as_str() {
                    "at" => json!("n-cordon"),
                    "target" => json!("g01"),
                    "mode" => json!("auto"),
                    _ => json!("x"),
                };
            }
            assert!(about.is_object());
        }
        // Only the key that is in no document is complained about, after all others were read.
        let (_, reply) = bench.json(request(method, path, Some(body.to_string()))).await;
        assert_eq!(reply["error"]["value"], "none-such", "{name}: {reply}");
        let known = reply["error"]["message"].as_str().unwrap().split("known are ").nth(1).unwrap();
        let known: BTreeSet<&str> = known.split(", ").collect();
        assert_eq!(known, keys.keys().map(String::as_str).collect(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn followers_see_the_state_each_second_and_end_on_stop() {
    let bench = Bench::new();
    let reply = bench.send(request("GET", "/v1/state/stream", None)).await;
    assert_eq!(reply.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut events = reply.into_body().into_data_stream();
    for _ in 0..3 {
        let event = events.next().await.unwrap().unwrap();
        let text = std::str::from_utf8(&event).unwrap();
        assert!(text.starts_with("event: state\ndata: {"), "{text}");
    }
    bench.app.stop.cancel();
    while let Some(rest) = events.next().await {
        rest.unwrap();
    }
    tokio::task::yield_now().await;
    assert_eq!(bench.app.followers.available_permits(), FOLLOWERS_MAX, "its place is free");
}

#[tokio::test(start_paused = true)]
async fn a_sign_is_sent_at_once_and_again_only_when_it_changes() {
    let bench = Bench::new();
    let reply = bench.send(request("GET", "/v1/signs/stream", None)).await;
    let mut events = reply.into_body().into_data_stream();
    let mut signs = Vec::new();
    let mut beats = 0;
    while signs.len() < 2 {
        let event = events.next().await.unwrap().unwrap();
        let text = String::from_utf8(event.to_vec()).unwrap();
        if text.starts_with("event: beat") {
            beats += 1;
            // The same picture again, then another face.
            bench.snapshot.send_modify(|_| ());
            if beats == 3 {
                let mut next = Snapshot::clone(&bench.snapshot.borrow());
                next.signs[0].face = Face::Full;
                bench.snapshot.send_replace(Arc::new(next));
            }
        } else {
            signs.push(text);
        }
    }
    assert_eq!(beats, 3, "the face changed after the third beat");
    assert!(signs[0].contains(r#""shows":"7""#), "{}", signs[0]);
    assert!(signs[1].contains(r#""shows":"FULL""#), "{}", signs[1]);
}

#[tokio::test]
async fn followers_are_bounded_and_leave_their_place() {
    let bench = Bench::new();
    let places = bench.app.followers.clone();
    let taken = places.try_acquire_many(u32::try_from(FOLLOWERS_MAX).unwrap() - 1).unwrap();
    let last = bench.send(request("GET", "/v1/signs/stream", None)).await;
    assert_eq!(last.status(), 200);
    let (status, reply) = bench.json(request("GET", "/v1/state/stream", None)).await;
    assert_eq!((status, &reply["error"]["code"]), (429, &json!("too_many")));
    drop(last);
    drop(taken);
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.app.followers.available_permits(), FOLLOWERS_MAX);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_does_not_answer_is_not_waited_for_without_end() {
    let bench = Bench::silent();
    let body = json!({ "request_id": "r1", "at": "n-cordon" }).to_string();
    let (status, reply) = bench.json(request("POST", "/v1/allocations", Some(body))).await;
    assert_eq!((status, &reply["error"]["code"]), (503, &json!("too_slow")));
}

#[tokio::test]
async fn pages_load_nothing_from_elsewhere() {
    let bench = Bench::new();
    for path in ["/", "/signs/s-g01", "/app.css", "/app.js", "/sign.js"] {
        let reply = bench.send(request("GET", path, None)).await;
        assert_eq!(reply.status(), 200, "{path}");
        let policy = reply.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'self'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        let text = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap();
        let text = std::str::from_utf8(&text).unwrap();
        for foreign in ["http://", "https://", "//cdn", "@import", " style=\"", "onclick="] {
            let found = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(foreign), "{path} has {foreign}");
        }
    }
}

/// A router with a stand-in owner behind it.
struct Bench {
    app: Arc<App>,
    token: watch::Sender<Option<String>>,
    status: Arc<watch::Sender<Status>>,
    snapshot: Arc<watch::Sender<Arc<Snapshot>>>,
    asked: Arc<Mutex<Vec<Ask>>>,
    _silent: Option<mpsc::Receiver<Urgent>>,
}

impl Bench {
    fn new() -> Bench {
        let (mut bench, mut inbox) = Bench::build();
        let asked = bench.asked.clone();
        tokio::spawn(async move {
            while let Some(urgent) = inbox.recv().await {
                let Urgent::Ask { ask, reply } = urgent else { continue };
                let answer = answer(&ask);
                asked.lock().unwrap().push(ask);
                let _ = reply.send(Answered { answer, durable: true, at: Default::default() });
            }
        });
        bench._silent = None;
        bench
    }

    fn silent() -> Bench {
        let (mut bench, inbox) = Bench::build();
        bench._silent = Some(inbox);
        bench
    }

    fn build() -> (Bench, mpsc::Receiver<Urgent>) {
        let (urgent, inbox) = mpsc::channel(8);
        let (snapshot, pictures) = watch::channel(Arc::new(picture()));
        let (token, tokens) = watch::channel(None);
        let status = Arc::new(watch::channel(adapters()).0);
        let read = status.clone();
        let context = Context {
            site: Arc::new(site()),
            owner: Handle::new(urgent, pictures),
            status: Arc::new(move || read.borrow().clone()),
            metrics: Metrics::new(),
            token: tokens,
        };
        let app = App::new(context, CancellationToken::new());
        let (snapshot, asked) = (Arc::new(snapshot), Arc::default());
        (Bench { app, token, status, snapshot, asked, _silent: None }, inbox)
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        router(&self.app).oneshot(request).await.unwrap()
    }

    async fn json(&self, request: Request<Body>) -> (u16, Value) {
        let reply = self.send(request).await;
        let status = reply.status().as_u16();
        let body = axum::body::to_bytes(reply.into_body(), 1 << 20).await.unwrap();
        if body.is_empty() {
            return (status, Value::Null);
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        (status, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("no JSON: {text}")))
    }

    fn last_ask(&self) -> Ask {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

fn request(method: &str, path: &str, body: Option<String>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    request.body(body.map_or(Body::empty(), Body::from)).unwrap()
}

/// What the stand-in says; request ids and lease numbers choose the refusals.
fn answer(ask: &Ask) -> Answer {
    let refused = Answer::Refused;
    let ended = |lease| refused(Refusal::LeaseEnded { lease, end: End::Expired });
    match ask {
        Ask::Arrive(request) => match request.request_id.as_str() {
            "no-class" => refused(Refusal::ClassNotServed(request.class)),
            "no-way" => refused(Refusal::NoWay(request.at)),
            "too-many" => refused(Refusal::TooMany { at: request.at, open: 2_000 }),
            "stopping" => refused(Refusal::Stopping),
            _ => Answer::Allocation(Box::new(allocation())),
        },
        Ask::Find(lease) | Ask::Report { lease, .. } => match lease.number {
            1 => Answer::Allocation(Box::new(allocation())),
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
        }]),
        Ask::Close { .. } | Ask::Open { .. } | Ask::SetMode { .. } => Answer::Done,
    }
}

fn allocation() -> Allocation {
    Allocation {
        lease: Some(LEASE),
        request_id: "r1".into(),
        promise: Promise::Bay,
        class: ClassIx(0),
        at: NodeIx(0),
        destination: None,
        way: vec![NodeIx(0), NodeIx(1), NodeIx(2)],
        portal: Some(NodeIx(1)),
        garage: Some(GarageIx(0)),
        level: Some(LevelIx(0)),
        zone: Some(ZoneIx(0)),
        bay: Some(BayIx(16)),
        directions: vec!["Ring portal 1".into()],
        travel_s: 130,
        deadline: Mono(0),
        expires_in_s: 250,
        end: None,
        reason: String::new(),
    }
}

fn picture() -> Snapshot {
    let tally = Tally { free: 7, held: 1, occupied: 9, unknown: 2, closed: 1 };
    Snapshot {
        version: 3,
        garages: vec![GarageView {
            id: "g01".into(),
            name: "North".into(),
            fullness: Fullness::Spaces,
            closed: false,
            bays: 20,
            tally,
            ledger_free: 1,
            by_class: BTreeMap::from([("car".into(), tally)]),
        }],
        units: vec![UnitView { id: "zc-01".into(), age_ms: Some(300), fresh: true, bays: 20 }],
        signs: vec![SignView {
            id: "s-g01".into(),
            name: "North".into(),
            mode: SignMode::Auto,
            face: Face::Number(7),
            kind: "count",
        }],
        leases_open: 1,
        ..Snapshot::default()
    }
}

fn adapters() -> Status {
    Status {
        lines: vec![LineView { id: "zc-01".into(), state: LineState::Up, ..Default::default() }],
        uplink: UplinkView { state: UplinkState::Connecting, ..Default::default() },
        ready: Ready { store: true, polled: true, stopping: false },
        ..Default::default()
    }
}

fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("parkway.toml");
    std::fs::write(&path, SITE).unwrap();
    let problems = |p: Vec<crate::config::Problem>| {
        p.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    crate::config::load(&path).map_err(problems).unwrap().site
}

const SITE: &str = r#"
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
sign = { base = 0, stride = 1, displays = 64, format = { kind = "number", max = 9999, full = 10001, closed = 10002, blank = 10000 } }
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
"#;
