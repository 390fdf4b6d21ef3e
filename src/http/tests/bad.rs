//! Requests that must be refused, and what their sender must be told.

use serde_json::{Value, json};

/// Method, path, body, then what must come back: status, code, field.
pub type BadRequest = (&'static str, &'static str, String, u16, &'static str, Option<&'static str>);

const ASK: &str = "/v1/allocations";
const LEASE: &str = "/v1/allocations/0a1b2c3d-1";
const PARKED: &str = "/v1/allocations/0a1b2c3d-1/parked";
const MODE: &str = "/v1/signs/s-g01/mode";
const OUTPUT: &str = "/v1/outputs/bar-g01";

pub fn bad_requests() -> Vec<BadRequest> {
    [not_json(), keys(), wrong_types(), bounds(), names(), refused(), staff(), paths()].concat()
}

/// Not JSON, or not an object.
fn not_json() -> Vec<BadRequest> {
    vec![
        ("POST", ASK, "".into(), 400, "malformed_json", None),
        ("POST", ASK, "{".into(), 400, "malformed_json", None),
        ("POST", ASK, "[]".into(), 400, "malformed_json", None),
        ("POST", ASK, "\"x\"".into(), 400, "malformed_json", None),
        ("POST", ASK, "{\"at\":\"a\"} x".into(), 400, "malformed_json", None),
        ("POST", ASK, "[".repeat(10_000), 400, "malformed_json", None),
        ("POST", ASK, "{\"eta_s\":1e999}".into(), 400, "malformed_json", None),
        ("POST", ASK, " ".repeat(16 * 1_024 + 1), 413, "too_large", None),
    ]
}

const SEEN: &str = "/v1/allocations/0a1b2c3d-1/seen";
const CLASS: &str = "/v1/allocations/0a1b2c3d-1/class";

/// Keys.
fn keys() -> Vec<BadRequest> {
    vec![
        ("POST", ASK, "{}".into(), 400, "missing_field", Some("at")),
        ("POST", ASK, "{\"request_id\":\"r\"}".into(), 400, "missing_field", Some("at")),
        ("POST", ASK, arrival("plate", json!("x")), 400, "unknown_field", Some("body")),
    ]
}

/// Wrong types.
fn wrong_types() -> Vec<BadRequest> {
    vec![
        ("POST", ASK, arrival("request_id", json!(7)), 400, "wrong_type", Some("request_id")),
        ("POST", ASK, arrival("at", json!(["n"])), 400, "wrong_type", Some("at")),
        ("POST", ASK, arrival("class", json!({})), 400, "wrong_type", Some("class")),
        ("POST", ASK, arrival("eta_s", json!("60")), 400, "wrong_type", Some("eta_s")),
        ("POST", ASK, arrival("eta_s", json!(1.5)), 400, "wrong_type", Some("eta_s")),
        ("POST", ASK, arrival("eta_s", json!(true)), 400, "wrong_type", Some("eta_s")),
    ]
}

/// Bounds.
fn bounds() -> Vec<BadRequest> {
    vec![
        ("POST", ASK, arrival("request_id", json!("")), 422, "out_of_range", Some("request_id")),
        (
            "POST",
            ASK,
            arrival("request_id", json!("x".repeat(65))),
            422,
            "out_of_range",
            Some("request_id"),
        ),
        (
            "POST",
            ASK,
            arrival("request_id", json!("a\nb")),
            422,
            "out_of_range",
            Some("request_id"),
        ),
        ("POST", ASK, arrival("eta_s", json!(-1)), 422, "out_of_range", Some("eta_s")),
        ("POST", ASK, arrival("eta_s", json!(7_201)), 422, "out_of_range", Some("eta_s")),
        ("POST", ASK, arrival("eta_s", json!(1_u64 << 40)), 422, "out_of_range", Some("eta_s")),
        (
            "POST",
            ASK,
            arrival("vehicle", json!("x".repeat(65))),
            422,
            "out_of_range",
            Some("vehicle"),
        ),
        ("POST", SEEN, json!({ "at": "nowhere" }).to_string(), 422, "unknown_node", Some("at")),
        (
            "POST",
            CLASS,
            json!({ "class": "boat" }).to_string(),
            422,
            "unknown_class",
            Some("class"),
        ),
    ]
}

/// Names this site does not know.
fn names() -> Vec<BadRequest> {
    vec![
        ("POST", ASK, arrival("at", json!("n-nowhere")), 422, "unknown_node", Some("at")),
        (
            "POST",
            ASK,
            arrival("destination", json!("x")),
            422,
            "unknown_destination",
            Some("destination"),
        ),
        ("POST", ASK, arrival("class", json!("boat")), 422, "unknown_class", Some("class")),
        ("POST", PARKED, json!({"bay": "g01/B1/A"}).to_string(), 422, "unknown_bay", Some("bay")),
        (
            "POST",
            PARKED,
            json!({"bay": "g01/B1/A/999"}).to_string(),
            422,
            "unknown_bay",
            Some("bay"),
        ),
        ("POST", PARKED, json!({"bay": 17}).to_string(), 400, "wrong_type", Some("bay")),
    ]
}

/// What the gateway refuses.
fn refused() -> Vec<BadRequest> {
    vec![
        (
            "POST",
            ASK,
            arrival("request_id", json!("no-class")),
            409,
            "class_not_served",
            Some("class"),
        ),
        ("POST", ASK, arrival("request_id", json!("no-way")), 409, "no_way", Some("at")),
        ("POST", ASK, arrival("request_id", json!("too-many")), 429, "too_many", Some("at")),
        ("POST", ASK, arrival("request_id", json!("stopping")), 503, "stopping", None),
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
    ]
}

/// Staff.
fn staff() -> Vec<BadRequest> {
    let order = |text: &str| text.replace('\'', "\"");
    vec![
        ("PUT", "/v1/outputs/none", "{}".into(), 404, "unknown_output", Some("id")),
        ("PUT", OUTPUT, order("{'by':'Li'}"), 400, "missing_field", Some("state")),
        ("PUT", OUTPUT, order("{'state':'up','by':'L'}"), 422, "out_of_range", Some("state")),
        (
            "PUT",
            OUTPUT,
            order("{'state':'auto','by':'L','expires_s':9}"),
            422,
            "out_of_range",
            Some("expires_s"),
        ),
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
            MODE,
            json!({"mode": "loud", "by": "Li"}).to_string(),
            422,
            "out_of_range",
            Some("mode"),
        ),
        ("PUT", MODE, json!({"mode": "test"}).to_string(), 400, "missing_field", Some("by")),
        ("PUT", "/v1/signs/s-99/mode", "{}".into(), 404, "unknown_sign", Some("id")),
        ("GET", "/v1/signs/s-99", "".into(), 404, "unknown_sign", Some("id")),
        ("GET", "/signs/s-99", "".into(), 404, "unknown_sign", Some("id")),
    ]
}

/// Paths and methods.
fn paths() -> Vec<BadRequest> {
    vec![
        ("GET", "/v2/state", "".into(), 404, "unknown_path", Some("path")),
        ("GET", "/v1/state/", "".into(), 404, "unknown_path", Some("path")),
        ("PUT", ASK, "{}".into(), 405, "unknown_method", Some("method")),
        ("PATCH", LEASE, "{}".into(), 405, "unknown_method", Some("method")),
        ("DELETE", "/", "".into(), 405, "unknown_method", Some("method")),
    ]
}

/// An arrival that would be served, but for one key.
fn arrival(key: &str, value: Value) -> String {
    let mut body = json!({ "request_id": "r1", "at": "n-cordon" });
    body[key] = value;
    body.to_string()
}

/// The same for a closure.
fn closure(key: &str, value: Value) -> String {
    let mut body = json!({ "target": "g01", "reason": "water", "by": "Li" });
    body[key] = value;
    body.to_string()
}
