//! Requests that must be refused, and what their sender must be told.

use serde_json::{Value, json};

/// Method, path, body, then what must come back: status, code, field.
pub type BadRequest = (&'static str, &'static str, String, u16, &'static str, Option<&'static str>);

pub fn bad_requests() -> Vec<BadRequest> {
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
