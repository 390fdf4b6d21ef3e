//! The surface, held to its contract: a stand-in owner answers, real requests go in.

mod bad;
mod bench;
mod follow;

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::header;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_stream::StreamExt as _;
use utoipa::OpenApi as _;

use super::*;
use crate::gateway::{OutputMode, Report, SignMode, Snapshot};
use crate::site::{BayIx, ClassIx, Face};
use crate::status::Ready;
use bad::bad_requests;
use bench::{Bench, LEASE, connect, read_until, request};

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
            "bay": "g01/B1/A/017",
            "directions": ["Enter North.", "Go to level B1, zone A.", "Take bay 017."],
            "steps": [], "travel_s": 130,
            "expires_in_s": 250, "durable": true, "end": null, "reason": "",
        })
    );
    let Ask::Arrive(asked) = bench.last_ask() else { panic!("no arrival") };
    assert_eq!((asked.eta_s, asked.tail.as_deref()), (60, Some("8K21")));
    assert_eq!(asked.class, ClassIx(0), "car where the class is absent");
}

#[tokio::test]
async fn a_vehicle_of_which_nothing_is_known_but_the_place_is_asked_for() {
    let bench = Bench::new();
    let mut ids = BTreeSet::new();
    for body in [
        json!({ "at": "n-cordon" }),
        json!({ "at": "n-cordon" }),
        json!({ "at": "n-cordon", "plate_tail": "" }),
        json!({ "at": "n-cordon", "plate_tail": "?K-", "vehicle": "" }),
        json!({ "at": "n-cordon", "plate_tail": "AB12345", "vehicle": null }),
    ] {
        let text = body.to_string();
        let (status, reply) = bench.json(request("POST", "/v1/allocations", Some(text))).await;
        assert_eq!(status, 200, "{body}: {reply}");
        let Ask::Arrive(asked) = bench.last_ask() else { panic!("no arrival") };
        assert_eq!((asked.class, asked.tail, asked.vehicle), (ClassIx(0), None, None), "{body}");
        assert!(ids.insert(asked.request_id), "a name was made twice");
    }
    let body = json!({ "at": "n-cordon", "vehicle": "a" }).to_string();
    bench.json(request("POST", "/v1/allocations", Some(body))).await;
    let Ask::Arrive(asked) = bench.last_ask() else { panic!("no arrival") };
    assert_eq!(asked.vehicle, Some(0xaf63_dc4c_8601_ec8c), "FNV-1a of the published test vector");
}

#[tokio::test]
async fn reports_and_orders_reach_the_owner_as_meant() {
    let bench = Bench::new();
    let lease = "/v1/allocations/0a1b2c3d-1";
    let report = |report| Ask::Report { lease: LEASE, report };
    let site = &bench.app.context.site;
    let bay = site.target("g01/B1/A/003").unwrap();
    let sign = site.sign("s-g01").unwrap();
    let output = site.output("bar-g01").unwrap();
    let by = || "Li".to_owned();
    let (reason, expires_s) = ("oil".to_owned(), Some(60));
    let close = Ask::Close { target: bay, reason, by: by(), expires_s, incident: true };
    for (method, path, body, status, ask) in [
        ("GET", lease.to_owned(), None, 200, Ask::Find(LEASE)),
        ("DELETE", lease.to_owned(), None, 200, report(Report::Cancelled)),
        ("POST", format!("{lease}/bay-taken"), None, 200, report(Report::BayTaken(None))),
        (
            "POST",
            format!("{lease}/seen"),
            Some(json!({ "at": "p1" })),
            200,
            report(Report::Seen(site.node("p1").unwrap())),
        ),
        (
            "POST",
            format!("{lease}/class"),
            Some(json!({ "class": "car" })),
            200,
            report(Report::Class(ClassIx(0))),
        ),
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
            Some(json!({"target": "g01/B1/A/003", "reason": "oil", "by": "Li",
                "expires_s": 60, "incident": true})),
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
            Ask::SetMode { sign, mode: SignMode::Test, by: by(), expires_s: None },
        ),
        (
            "PUT",
            "/v1/signs/s-g01/mode".to_owned(),
            Some(json!({ "mode": "valet", "by": "Li", "expires_s": 3600 })),
            204,
            Ask::SetMode { sign, mode: SignMode::Valet, by: by(), expires_s: Some(3_600) },
        ),
        (
            "PUT",
            "/v1/signs/s-g01/message".to_owned(),
            Some(json!({ "text": "USE B2", "by": "Li", "for_s": 600 })),
            204,
            Ask::ShowMessage { sign, text: "USE B2".into(), by: by(), for_s: 600 },
        ),
        (
            "DELETE",
            "/v1/signs/s-g01/message".to_owned(),
            Some(json!({ "by": "Li" })),
            409,
            Ask::ClearMessage { sign, by: by() },
        ),
        (
            "PUT",
            "/v1/outputs/bar-g01".to_owned(),
            Some(json!({ "state": "off", "by": "Li", "expires_s": 90 })),
            204,
            Ask::SetOutput { output, mode: OutputMode::Off, by: by(), expires_s: Some(90) },
        ),
        (
            "POST",
            format!("/v1/units/{}/retry", site.units[0].id),
            Some(json!({ "by": "Li" })),
            204,
            Ask::Retry { unit: crate::site::UnitIx(0), by: by() },
        ),
        (
            "POST",
            "/v1/garages/g01/count".to_owned(),
            Some(json!({ "occupied": 412, "by": "Li" })),
            204,
            Ask::SetCount { garage: crate::site::GarageIx(0), occupied: 412, by: by() },
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
        let id = if path.contains("outputs") { "bar-g01" } else { "s-g01" };
        let path = path.replace("{lease}", "0a1b2c3d-1").replace("{id}", id);
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
async fn without_a_token_another_name_gets_nothing() {
    let bench = Bench::new();
    for (path, host, status) in [
        ("/v1/state", "evil.example:8080", 403),
        ("/v1/state", "localhost:8080", 200),
        ("/healthz", "evil.example", 200),
    ] {
        let mut sent = request("GET", path, None);
        sent.headers_mut().insert("host", host.parse().unwrap());
        assert_eq!(bench.send(sent).await.status(), status, "{path} {host}");
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
        (&state["garages"][0]["closed"], &state["garages"][0]["garage_closed"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(state["signs"][0]["shows"], "7");
    assert_eq!(state["signs"][0]["face"], json!({ "number": 7 }));
    let (_, outputs) = bench.json(request("GET", "/v1/outputs", None)).await;
    assert_eq!(outputs["outputs"], state["outputs"]);
    let output = &outputs["outputs"][0];
    assert_eq!((&output["on"], &output["state"]), (&json!(false), &json!("off")));
    assert_eq!((&output["confirmed"], &output["age_s"]), (&json!(true), &json!(4)));
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
    let text = document.to_string();
    for link in text.split("\"$ref\":\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(&link[1..]).is_some(), "{link} leads nowhere");
    }
    // The table's methods are the handlers' own: each answers, and not with 405.
    let bench = Bench::new();
    for (method, path, _) in routes() {
        let id = match path {
            path if path.contains("/units/") => &bench.app.site().units[0].id,
            path if path.contains("/outputs/") => "bar-g01",
            path if path.contains("/garages/") => "g01",
            _ => "s-g01",
        };
        let path = path.replace("{lease}", "0a1b2c3d-1").replace("{id}", id);
        let reply = bench.send(request(method.as_str(), &path, None)).await;
        assert!(![404, 405].contains(&reply.status().as_u16()), "{method} {path}");
    }
}

#[tokio::test]
async fn the_document_tells_what_stands_before_every_route() {
    let document = serde_json::to_value(openapi::Contract::openapi()).unwrap();
    for scheme in ["bearer", "basic"] {
        assert_eq!(document["components"]["securitySchemes"][scheme]["scheme"], scheme);
    }
    let told = |path: &str, method: &str| -> String {
        let operation = &document["paths"][path][method];
        let statuses = operation["responses"].as_object().unwrap().keys();
        statuses.cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(told("/healthz", "get"), "200 503");
    assert_eq!(told("/v1/state", "get"), "200 401 403 503");
    assert_eq!(told("/v1/closures", "post"), "204 400 401 403 413 415 422 503");
    // An order without its body is told which key it lacks.
    let bench = Bench::new();
    let unit = format!("/v1/units/{}/retry", bench.app.site().units[0].id);
    for (method, path) in [("DELETE", "/v1/signs/s-g01/message"), ("POST", unit.as_str())] {
        let (status, reply) = bench.json(request(method, path, None)).await;
        assert_eq!((status, &reply["error"]["field"]), (400, &json!("by")), "{path}");
    }
}

#[tokio::test]
async fn the_documents_bodies_have_the_keys_that_are_read() {
    let bench = Bench::new();
    let document = serde_json::to_value(openapi::Contract::openapi()).unwrap();
    for (name, method, path) in [
        ("AllocationRequest", "POST", "/v1/allocations"),
        ("ParkedRequest", "POST", "/v1/allocations/0a1b2c3d-1/parked"),
        ("TakenRequest", "POST", "/v1/allocations/0a1b2c3d-1/bay-taken"),
        ("SeenRequest", "POST", "/v1/allocations/0a1b2c3d-1/seen"),
        ("ClassRequest", "POST", "/v1/allocations/0a1b2c3d-1/class"),
        ("CloseRequest", "POST", "/v1/closures"),
        ("OpenRequest", "POST", "/v1/openings"),
        ("ModeRequest", "PUT", "/v1/signs/s-g01/mode"),
        ("OutputRequest", "PUT", "/v1/outputs/bar-g01"),
        ("RetryRequest", "POST", "/v1/units/zc-01/retry"),
        ("CountRequest", "POST", "/v1/garages/g01/count"),
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
                    "mode" | "state" => json!("auto"),
                    "occupied" => json!(1),
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

#[tokio::test]
async fn parkway_status_shows_what_the_page_shows() {
    let bench = Bench::new();
    bench.token.send_replace(Some("s3cret".to_owned()));
    let (url, server) = bench.serve().await;
    let ask = move |token: Option<&'static str>| {
        let url = url.clone();
        tokio::task::spawn_blocking(move || crate::cli::status::status(&url, token))
    };
    let text = ask(Some("s3cret")).await.unwrap().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "Test site (test-1): ready, parkway 0.1.0");
    assert_eq!(
        lines[1],
        "bays     7 free, 1 held, 9 occupied, 2 unknown, 1 closed of 20; 1 leases open"
    );
    assert_eq!(lines[3], "lines    1 of 1 up");
    let refused = ask(None).await.unwrap().unwrap_err().to_string();
    assert!(refused.ends_with("answered 401 Unauthorized"), "{refused}");
    bench.app.stop.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_ends_streams_and_closes_the_port() {
    let bench = Bench::new();
    let (url, server) = bench.serve().await;
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let mut follower = connect(&address, "/v1/state/stream").await;
    let mut idle = tokio::net::TcpStream::connect(&address).await.unwrap();
    read_until(&mut follower, "event: state").await;
    let began = Instant::now();
    bench.app.stop.cancel();
    server.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let mut rest = Vec::new();
    follower.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the stream ends as HTTP wants it to");
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn half_a_request_is_not_waited_for() {
    let bench = Bench::new();
    let (url, _server) = bench.serve().await;
    let address = url.strip_prefix("http://").unwrap();
    let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    let began = tokio::time::Instant::now();
    let mut rest = Vec::new();
    let ended = slow.read_to_end(&mut rest);
    tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap().unwrap();
    let took = began.elapsed();
    assert!((9..12).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let bench = Bench::new();
    let (url, _server) = bench.serve().await;
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let mut held = Vec::new();
    for _ in 0..256 {
        held.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    let mut one_more = connect(&address, "/healthz").await;
    let mut first = [0; 1];
    let early = tokio::time::timeout(Duration::from_millis(300), one_more.read(&mut first)).await;
    assert!(early.is_err(), "served beyond the bound");
    drop(held.pop());
    let late = tokio::time::timeout(Duration::from_secs(5), one_more.read(&mut first)).await;
    assert_eq!(late.unwrap().unwrap(), 1);
}
