//! What staff order of signs, and the signs as they are: ordered, shown, confirmed.

use std::collections::BTreeMap;
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
use super::staff::BY_CHARS_MAX;
use crate::gateway::{Ask, SignMode, SignView, Snapshot};
use crate::site::SignIx;
use crate::status::DisplayView;
use crate::time::Mono;

/// Longest order that ends by itself: a day in seconds for a text, 30 for a mode. What is to
/// stand longer belongs in the configuration.
const MESSAGE_S_MAX: u32 = 86_400;
const MODE_S_MAX: u32 = 30 * 86_400;

/// Longest text: what one Modbus write carries.
const TEXT_CHARS_MAX: usize = 246;

/// Set what a sign does.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the published form of what `set_mode` reads; a test compares keys")]
pub struct ModeRequest {
    pub mode: SignMode,
    #[schema(min_length = 1, max_length = 64)]
    pub by: String,
    /// Back to "auto" by itself after so many seconds; for ever where absent.
    #[schema(minimum = 1, maximum = 2592000)]
    pub expires_s: Option<u32>,
}

/// Put a text on a sign for a time.
#[derive(Debug, ToSchema)]
#[expect(
    dead_code,
    reason = "the published form of what `set_message` reads; a test compares keys"
)]
pub struct MessageRequest {
    /// Printable ASCII, no longer than the display.
    #[schema(min_length = 1, max_length = 246, example = "USE LEVEL B2")]
    pub text: String,
    #[schema(min_length = 1, max_length = 64)]
    pub by: String,
    /// Seconds until it is off again.
    #[schema(minimum = 1, maximum = 86400)]
    pub for_s: u32,
}

/// Take it off.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the published form of what `clear_message` reads; a test compares")]
pub struct ClearRequest {
    #[schema(min_length = 1, max_length = 64)]
    pub by: String,
}

/// A sign: what it should show and why, and whether its display took it.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct SignReply {
    #[serde(flatten)]
    pub sign: SignView,
    /// The face as people read it; empty for a dark sign.
    pub shows: String,
    /// Seconds until the mode ends by itself; null where it does not.
    pub mode_expires_in_s: Option<u64>,
    /// Seconds until the message is off; null where there is none.
    pub message_expires_in_s: Option<u64>,
    /// The display took what it should show; null before the first attempt.
    pub confirmed: Option<bool>,
    /// Seconds since the display last took anything; null before.
    pub age_s: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SignsReply {
    pub signs: Vec<SignReply>,
}

/// All signs of a picture with what their lines know of them.
pub fn replies(snapshot: &Snapshot, displays: &[DisplayView]) -> Vec<SignReply> {
    worded(snapshot.at.mono, &snapshot.signs, displays)
}

/// The same of some signs as they were at an instant.
pub fn worded(at: Mono, signs: &[SignView], displays: &[DisplayView]) -> Vec<SignReply> {
    let displays: BTreeMap<&str, &DisplayView> =
        displays.iter().map(|display| (display.sign.as_str(), display)).collect();
    let one = |sign: &SignView| {
        let display = displays.get(sign.id.as_str());
        let left_s = |until: Option<Mono>| Some(until?.ms_since(at) / 1_000);
        SignReply {
            sign: sign.clone(),
            shows: sign.face.to_string(),
            mode_expires_in_s: left_s(sign.mode_until),
            message_expires_in_s: left_s(sign.message_until),
            confirmed: display.map(|display| display.confirmed),
            age_s: display.and_then(|display| display.age_s),
        }
    };
    signs.iter().map(one).collect()
}

/// All signs and what they show.
#[utoipa::path(get, path = "/v1/signs", tag = "watching",
    responses((status = 200, body = SignsReply)))]
pub async fn signs(State(app): State<Arc<App>>) -> Json<SignsReply> {
    Json(SignsReply { signs: app.sign_replies() })
}

/// One sign.
#[utoipa::path(get, path = "/v1/signs/{id}", tag = "watching",
    params(("id" = String, Path, description = "The sign's id")),
    responses((status = 200, body = SignReply), (status = 404, body = ErrorReply)))]
pub async fn sign(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<SignReply>, ApiError> {
    let id = id.map_or(String::new(), |Path(id)| id);
    let sign = app.sign_replies().into_iter().find(|reply| reply.sign.id == id);
    sign.map(Json).ok_or_else(|| ApiError::unknown_sign(&id))
}

/// Sets what a sign does, for a time or until it is set to "auto" again.
#[utoipa::path(put, path = "/v1/signs/{id}/mode", tag = "staff", request_body = ModeRequest,
    params(("id" = String, Path, description = "The sign's id")),
    responses((status = 204), (status = 404, body = ErrorReply),
        (status = 409, body = ErrorReply), (status = 422, body = ErrorReply)))]
pub async fn set_mode(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let sign = find(&app, id)?;
    let mut fields = Fields::read(&headers, body)?;
    let name = fields.text("mode", 1..=16)?;
    let by = fields.text("by", 1..=BY_CHARS_MAX)?;
    let expires_s = fields.optional_number("expires_s", 1..=MODE_S_MAX)?.map(u64::from);
    fields.end("mode, by, expires_s")?;
    let Some(mode) = SignMode::ALL.into_iter().find(|mode| mode.name() == name) else {
        let all = SignMode::ALL.map(SignMode::name).join(", ");
        let text = format!("mode must be one of {all}");
        return Err(ApiError::unprocessable("out_of_range", "mode", &name, text));
    };
    app.ask(Ask::SetMode { sign, mode, by, expires_s }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts a text on a sign for a time, before any mode. Only displays of text take one.
#[utoipa::path(put, path = "/v1/signs/{id}/message", tag = "staff",
    request_body = MessageRequest,
    params(("id" = String, Path, description = "The sign's id")),
    responses((status = 204), (status = 404, body = ErrorReply),
        (status = 409, body = ErrorReply), (status = 422, body = ErrorReply)))]
pub async fn set_message(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let sign = find(&app, id)?;
    let mut fields = Fields::read(&headers, body)?;
    let text = fields.text("text", 1..=TEXT_CHARS_MAX)?;
    let by = fields.text("by", 1..=BY_CHARS_MAX)?;
    let for_s = u64::from(fields.number("for_s", 1..=MESSAGE_S_MAX)?);
    fields.end("text, by, for_s")?;
    app.ask(Ask::ShowMessage { sign, text, by, for_s }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes the text off a sign before its time.
#[utoipa::path(delete, path = "/v1/signs/{id}/message", tag = "staff",
    request_body = ClearRequest,
    params(("id" = String, Path, description = "The sign's id")),
    responses((status = 204), (status = 404, body = ErrorReply),
        (status = 409, body = ErrorReply), (status = 422, body = ErrorReply)))]
pub async fn clear_message(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let sign = find(&app, id)?;
    let mut fields = Fields::read_optional(&headers, body)?;
    let by = fields.text("by", 1..=BY_CHARS_MAX)?;
    fields.end("by")?;
    app.ask(Ask::ClearMessage { sign, by }).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub fn find(app: &App, id: Result<Path<String>, PathRejection>) -> Result<SignIx, ApiError> {
    let id = id.map_or(String::new(), |Path(id)| id);
    app.site().sign(&id).ok_or_else(|| ApiError::unknown_sign(&id))
}
