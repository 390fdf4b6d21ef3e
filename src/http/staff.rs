//! What staff order of places and units: closures, openings, another try of a unit. Each order
//! carries who gave it; `signs.rs` has those for signs.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::body::Fields;
use super::error::{ApiError, ErrorReply};
use crate::gateway::{Answer, Ask, ClosureView};
use crate::site::{Scope, Site, Target};

/// Longest closure that ends by itself: 30 days in seconds. Longer belongs in the plan.
const CLOSURE_S_MAX: u32 = 30 * 86_400;

/// Longest name of who ordered, and longest reason, in characters: both go into records.
pub const BY_CHARS_MAX: usize = 64;
const REASON_CHARS_MAX: usize = 200;

/// Bays that no garage has.
const BAYS_MAX: u32 = 100_000;

/// Longest target: `link:` and two ids.
const TARGET_CHARS_MAX: usize = 140;

/// Close something for a time, or until it is opened.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the published form of what `close` reads; a test compares the keys")]
pub struct CloseRequest {
    /// `node:ID`, `link:FROM>TO` or `garage[/level[/zone[/bay]]]`.
    #[schema(min_length = 1, max_length = 140, example = "g01/B1/A")]
    pub target: String,
    #[schema(min_length = 1, max_length = 200, example = "water on the floor")]
    pub reason: String,
    /// Who ordered it.
    #[schema(min_length = 1, max_length = 64, example = "control room, Li")]
    pub by: String,
    /// Opens by itself after so many seconds.
    #[schema(minimum = 1, maximum = 2592000)]
    pub expires_s: Option<u32>,
    /// An incident: signs over it show CLOSED before any message or mode, and the alarm lane
    /// tells its begin and end.
    pub incident: Option<bool>,
}

/// Open something that was closed.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the published form of what `open` reads; a test compares the keys")]
pub struct OpenRequest {
    #[schema(min_length = 1, max_length = 140, example = "g01/B1/A")]
    pub target: String,
    #[schema(min_length = 1, max_length = 64)]
    pub by: String,
}

/// How many cars stand in a garage.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the published form of what `count` reads; a test compares the keys")]
pub struct CountRequest {
    #[schema(minimum = 0, maximum = 100000)]
    pub occupied: u32,
    /// Who counted.
    #[schema(min_length = 1, max_length = 64)]
    pub by: String,
}

/// Try a unit again at once.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the published form of what `retry` reads; a test compares the keys")]
pub struct RetryRequest {
    #[schema(min_length = 1, max_length = 64)]
    pub by: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ClosuresReply {
    pub closures: Vec<ClosureView>,
}

/// What staff closed.
#[utoipa::path(get, path = "/v1/closures", tag = "staff",
    responses((status = 200, body = ClosuresReply)))]
pub async fn closures(State(app): State<Arc<App>>) -> Result<Json<ClosuresReply>, ApiError> {
    let closures = match app.ask(Ask::Closures).await?.answer {
        Answer::Closures(closures) => closures,
        Answer::Done | Answer::Allocation(_) | Answer::Refused(_) => Vec::new(),
    };
    Ok(Json(ClosuresReply { closures }))
}

/// Closes a node, a link, a garage or a part of one. Open leases there get another bay.
#[utoipa::path(post, path = "/v1/closures", tag = "staff", request_body = CloseRequest,
    responses((status = 204), (status = 422, body = ErrorReply)))]
pub async fn close(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let mut fields = Fields::read(&headers, body)?;
    let target = fields.text("target", 1..=TARGET_CHARS_MAX)?;
    let reason = fields.text("reason", 1..=REASON_CHARS_MAX)?;
    let by = fields.text("by", 1..=BY_CHARS_MAX)?;
    let expires_s = fields.optional_number("expires_s", 1..=CLOSURE_S_MAX)?.map(u64::from);
    let incident = fields.optional_flag("incident")?;
    fields.end("target, reason, by, expires_s, incident")?;
    let target = target_of(app.site(), &target)?;
    app.ask(Ask::Close { target, reason, by, expires_s, incident }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Opens what staff closed.
#[utoipa::path(post, path = "/v1/openings", tag = "staff", request_body = OpenRequest,
    responses((status = 204), (status = 409, body = ErrorReply),
        (status = 422, body = ErrorReply)))]
pub async fn open(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let mut fields = Fields::read(&headers, body)?;
    let target = fields.text("target", 1..=TARGET_CHARS_MAX)?;
    let by = fields.text("by", 1..=BY_CHARS_MAX)?;
    fields.end("target, by")?;
    let target = target_of(app.site(), &target)?;
    app.ask(Ask::Open { target, by }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks a unit in its line's next sweep, and for all that it refused before, whatever back-off it
/// or its line is in: for whoever just repaired it.
#[utoipa::path(post, path = "/v1/units/{id}/retry", tag = "staff", request_body = RetryRequest,
    params(("id" = String, Path, description = "The unit's id")),
    responses((status = 204), (status = 404, body = ErrorReply),
        (status = 422, body = ErrorReply)))]
pub async fn retry(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let id = id.map_or(String::new(), |Path(id)| id);
    let unit = app.site().unit(&id).ok_or_else(|| ApiError::unknown_unit(&id))?;
    let mut fields = Fields::read_optional(&headers, body)?;
    let by = fields.text("by", 1..=BY_CHARS_MAX)?;
    fields.end("by")?;
    app.ask(Ask::Retry { unit, by }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says how many cars stand in a garage, for its count by loops: after a walk through it.
#[utoipa::path(post, path = "/v1/garages/{id}/count", tag = "staff", request_body = CountRequest,
    params(("id" = String, Path, description = "The garage's id")),
    responses((status = 204), (status = 404, body = ErrorReply), (status = 409, body = ErrorReply),
        (status = 422, body = ErrorReply)))]
pub async fn count(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let id = id.map_or(String::new(), |Path(id)| id);
    let Some(Scope::Garage(garage)) = app.site().scope(&id) else {
        return Err(ApiError::unknown_garage(&id));
    };
    let mut fields = Fields::read(&headers, body)?;
    let occupied = fields.number("occupied", 0..=BAYS_MAX)?;
    let by = fields.text("by", 1..=BY_CHARS_MAX)?;
    fields.end("occupied, by")?;
    app.ask(Ask::SetCount { garage, occupied, by }).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn target_of(site: &Site, text: &str) -> Result<Target, ApiError> {
    site.target(text).ok_or_else(|| {
        let message = "target: this site has no such place; \
                       write node:ID, link:FROM>TO or garage[/level[/zone[/bay]]]";
        ApiError::unprocessable("unknown_target", "target", text, message)
    })
}
