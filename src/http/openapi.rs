//! The contract as OpenAPI 3.1, made from the handlers themselves.

use axum::Json;
use utoipa::OpenApi;

use super::{drivers, outputs, page, signs, staff, state, stream};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "parkway",
        description = "Edge gateway for underground parking. Where a token is configured, all but \
                       /healthz and /readyz demand it: `authorization: Bearer TOKEN`, or as the \
                       password of Basic for browsers. Every refusal has the form ErrorReply.",
    ),
    paths(
        drivers::allocate,
        drivers::find,
        drivers::cancel,
        drivers::parked,
        drivers::bay_taken,
        drivers::seen,
        drivers::class,
        staff::closures,
        staff::close,
        staff::open,
        staff::retry,
        outputs::list,
        outputs::set,
        signs::signs,
        signs::sign,
        signs::set_mode,
        signs::set_message,
        signs::clear_message,
        state::state,
        state::site,
        state::metrics,
        state::healthz,
        state::readyz,
        stream::state,
        stream::signs,
        stream::sign,
        stream::allocation,
        page::operators,
        page::sign,
        page::css,
        page::js,
        page::sign_js,
        document,
    )
)]
pub struct Contract;

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "watching",
    responses((status = 200, content_type = "application/json", body = Object)))]
pub async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(Contract::openapi())
}
