//! Switched outputs: what each is, and staff's orders for them.

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
use crate::gateway::{Ask, OutputMode, OutputView, Snapshot};
use crate::status::{RelayView, Status};

/// Longest order that ends by itself: 30 days in seconds, as for closures.
const ORDER_S_MAX: u32 = 30 * 86_400;
/// Longest name of who ordered, in characters: it goes into records.
const BY_CHARS_MAX: usize = 64;

/// Switch an output, or leave it to its garage's state again.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the published form of what `set` reads; a test compares the keys")]
pub struct OutputRequest {
    pub state: OutputMode,
    /// Who ordered it.
    #[schema(min_length = 1, max_length = 64, example = "control room, Li")]
    pub by: String,
    /// Automatic again after so many seconds; only beside "on" and "off".
    #[schema(minimum = 1, maximum = 2592000)]
    pub expires_s: Option<u32>,
}

/// An output, who decides about it, and what its line knows.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct OutputReply {
    #[serde(flatten)]
    pub output: OutputView,
    /// What was ordered arrived, and was read back where the unit can be read.
    pub confirmed: bool,
    /// Seconds since it last arrived; absent before the first time.
    pub age_s: Option<u64>,
    /// How often something else was read back.
    pub mismatches_total: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct OutputsReply {
    pub outputs: Vec<OutputReply>,
}

/// Both halves of each output.
pub fn replies(snapshot: &Snapshot, status: &Status) -> Vec<OutputReply> {
    let reply = |output: &OutputView| {
        let relay = status.relays.iter().find(|relay| relay.output == output.id);
        let RelayView { confirmed, age_s, mismatches_total, .. } =
            relay.cloned().unwrap_or_default();
        OutputReply { output: output.clone(), confirmed, age_s, mismatches_total }
    };
    snapshot.outputs.iter().map(reply).collect()
}

/// All outputs.
#[utoipa::path(get, path = "/v1/outputs", tag = "watching",
    responses((status = 200, body = OutputsReply)))]
pub async fn list(State(app): State<Arc<App>>) -> Json<OutputsReply> {
    let snapshot = app.context.owner.snapshot();
    Json(OutputsReply { outputs: replies(&snapshot, &(app.context.status)()) })
}

/// Switches an output, for a time or until it is set to "auto" again.
#[utoipa::path(put, path = "/v1/outputs/{id}", tag = "staff", request_body = OutputRequest,
    params(("id" = String, Path, description = "The output's id")),
    responses((status = 204), (status = 404, body = ErrorReply),
        (status = 422, body = ErrorReply)))]
pub async fn set(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let id = id.map_or(String::new(), |Path(id)| id);
    let output = app.site().output(&id).ok_or_else(|| ApiError::unknown_output(&id))?;
    let mut fields = Fields::read(&headers, body)?;
    let state = fields.text("state", 1..=16)?;
    let by = fields.text("by", 1..=BY_CHARS_MAX)?;
    let expires_s = fields.optional_number("expires_s", 1..=ORDER_S_MAX)?.map(u64::from);
    fields.end("state, by, expires_s")?;
    let mode = match state.as_str() {
        "auto" => OutputMode::Auto,
        "on" => OutputMode::On,
        "off" => OutputMode::Off,
        other => {
            let text = "state must be auto, on or off";
            return Err(ApiError::unprocessable("out_of_range", "state", other, text));
        }
    };
    if let (OutputMode::Auto, Some(seconds)) = (mode, expires_s) {
        let text = "expires_s stands beside on or off: auto has no end";
        let seconds = seconds.to_string();
        return Err(ApiError::unprocessable("out_of_range", "expires_s", &seconds, text));
    }
    app.ask(Ask::SetOutput { output, mode, by, expires_s }).await?;
    Ok(StatusCode::NO_CONTENT)
}
