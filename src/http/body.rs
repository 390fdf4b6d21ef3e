//! Reads a request's JSON body key by key, so that each mistake is told by field, value and bound.
//!
//! A derived reader would stop at the first odd type without naming the field, and could not tell
//! a wrong type (400) from a value out of bounds (422). Bodies here have at most seven keys.

use std::ops::RangeInclusive;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

use super::error::ApiError;

/// Largest body that is read. The largest honest one, a closure with a long reason, has 1 KiB.
pub const BODY_BYTES_MAX: usize = 16 * 1_024;

/// A body's keys, each taken out as it is read.
#[derive(Debug)]
pub struct Fields {
    left: Map<String, Value>,
}

impl Fields {
    /// Takes a body apart.
    ///
    /// # Errors
    ///
    /// 413 too large, 415 not said to be JSON, 400 not JSON or no object.
    pub fn read(
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
    ) -> Result<Fields, ApiError> {
        let body = body.map_err(|rejection| too_large_or_broken(&rejection))?;
        if body.is_empty() {
            return Err(malformed("the body is empty; a JSON object is wanted".to_owned()));
        }
        demand_json(headers)?;
        match serde_json::from_slice(&body) {
            Ok(Value::Object(left)) => Ok(Fields { left }),
            Ok(other) => {
                Err(malformed(format!("the body is {}; an object is wanted", kind(&other))))
            }
            Err(error) => Err(malformed(format!("the body is not JSON: {error}"))),
        }
    }

    /// The same, where no body at all means no keys.
    ///
    /// # Errors
    ///
    /// As for [`Fields::read`].
    pub fn read_optional(
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
    ) -> Result<Fields, ApiError> {
        match body {
            Ok(body) if body.is_empty() => Ok(Fields { left: Map::new() }),
            body => Fields::read(headers, body),
        }
    }

    /// A text that must be there, with a length in characters.
    pub fn text(
        &mut self,
        field: &'static str,
        chars: RangeInclusive<usize>,
    ) -> Result<String, ApiError> {
        self.optional_text(field, chars)?.ok_or_else(|| missing(field))
    }

    /// A text that may be absent or null.
    pub fn optional_text(
        &mut self,
        field: &'static str,
        chars: RangeInclusive<usize>,
    ) -> Result<Option<String>, ApiError> {
        let text = match self.left.remove(field) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text,
            Some(other) => return Err(wrong_type(field, &other, "a string")),
        };
        let length = text.chars().count();
        if !chars.contains(&length) {
            let (low, high) = (chars.start(), chars.end());
            let message = format!("{field} has {length} characters; {low} to {high} are allowed");
            return Err(ApiError::unprocessable("out_of_range", field, &text, message));
        }
        if text.chars().any(char::is_control) {
            let message = format!("{field} holds control characters");
            let shown = text.escape_debug().to_string();
            return Err(ApiError::unprocessable("out_of_range", field, &shown, message));
        }
        Ok(Some(text))
    }

    /// A whole number that may be absent or null.
    pub fn optional_number(
        &mut self,
        field: &'static str,
        bounds: RangeInclusive<u32>,
    ) -> Result<Option<u32>, ApiError> {
        let number = match self.left.remove(field) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number,
            Some(other) => return Err(wrong_type(field, &other, "a whole number")),
        };
        if number.is_f64() {
            return Err(wrong_type(field, &Value::Number(number), "a whole number"));
        }
        let whole = number.as_u64().and_then(|n| u32::try_from(n).ok());
        match whole.filter(|n| bounds.contains(n)) {
            Some(whole) => Ok(Some(whole)),
            None => {
                let (low, high) = (bounds.start(), bounds.end());
                let message = format!("{field} is {number}; {low} to {high} are allowed");
                Err(ApiError::unprocessable("out_of_range", field, &number.to_string(), message))
            }
        }
    }

    /// True or false; false where it is absent or null.
    pub fn optional_flag(&mut self, field: &'static str) -> Result<bool, ApiError> {
        match self.left.remove(field) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(wrong_type(field, &other, "true or false")),
        }
    }

    /// A whole number that must be there.
    pub fn number(
        &mut self,
        field: &'static str,
        bounds: RangeInclusive<u32>,
    ) -> Result<u32, ApiError> {
        self.optional_number(field, bounds)?.ok_or_else(|| missing(field))
    }

    /// That was all: a key left over is a typing error, and guessing would hide it.
    pub fn end(self, known: &str) -> Result<(), ApiError> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(key) => {
                let message = format!("the body has an unknown key; known are {known}");
                let error = ApiError::new(StatusCode::BAD_REQUEST, "unknown_field", message);
                Err(error.blame("body", key))
            }
        }
    }
}

/// Any JSON type will do, whatever its charset parameter says: JSON is UTF-8, and bytes that are
/// not are refused by its parser. A missing or other type is refused, because a browser sends
/// those across sites without asking.
fn demand_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let essence = sent.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
    {
        return Ok(());
    }
    let text = "the body must be sent with content-type: application/json";
    let error = ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text);
    Err(error.blame("content-type", sent))
}

fn too_large_or_broken(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let text = format!("the body is larger than {BODY_BYTES_MAX} bytes");
        return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text);
    }
    malformed("the body ended before its time".to_owned())
}

fn malformed(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "malformed_json", message)
}

fn missing(field: &'static str) -> ApiError {
    let text = format!("{field} is missing");
    let mut error = ApiError::new(StatusCode::BAD_REQUEST, "missing_field", text);
    error.body.field = Some(field);
    error
}

fn wrong_type(field: &'static str, value: &Value, wanted: &str) -> ApiError {
    let text = format!("{field} is {}; {wanted} is wanted", kind(value));
    ApiError::new(StatusCode::BAD_REQUEST, "wrong_type", text).blame(field, &value.to_string())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
