//! The pages for people: files built into the binary, so that they work with no network at all.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::{ApiError, ErrorReply};

/// The operators' page: the site at a glance, live.
#[utoipa::path(get, path = "/", tag = "pages",
    responses((status = 200, content_type = "text/html", body = String)))]
pub async fn operators() -> Response {
    file("text/html; charset=utf-8", include_str!("assets/index.html"))
}

/// One sign's face, as large as the screen, live.
#[utoipa::path(get, path = "/signs/{id}", tag = "pages",
    params(("id" = String, Path, description = "The sign's id")),
    responses((status = 200, content_type = "text/html", body = String),
        (status = 404, body = ErrorReply)))]
pub async fn sign(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let id = id.map_or(String::new(), |Path(id)| id);
    app.site().sign(&id).ok_or_else(|| ApiError::unknown_sign(&id))?;
    Ok(file("text/html; charset=utf-8", include_str!("assets/sign.html")))
}

/// The pages' style.
#[utoipa::path(get, path = "/app.css", tag = "pages",
    responses((status = 200, content_type = "text/css", body = String)))]
pub async fn css() -> Response {
    file("text/css; charset=utf-8", include_str!("assets/app.css"))
}

/// What moves the operators' page.
#[utoipa::path(get, path = "/app.js", tag = "pages",
    responses((status = 200, content_type = "text/javascript", body = String)))]
pub async fn js() -> Response {
    file("text/javascript; charset=utf-8", include_str!("assets/app.js"))
}

/// What moves a sign's page.
#[utoipa::path(get, path = "/sign.js", tag = "pages",
    responses((status = 200, content_type = "text/javascript", body = String)))]
pub async fn sign_js() -> Response {
    file("text/javascript; charset=utf-8", include_str!("assets/sign.js"))
}

/// Never cached by age: after an update the page and its script must belong together.
fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    (StatusCode::OK, headers, text).into_response()
}
