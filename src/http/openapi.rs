//! The contract as OpenAPI 3.1, made from the handlers themselves.

use axum::Json;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{ComponentsBuilder, Ref};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::{drivers, outputs, page, signs, staff, state, stream};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "parkway",
        description = "Edge gateway for underground parking. Where a token is configured, all but \
                       /healthz and /readyz demand it: `authorization: Bearer TOKEN`, or as the \
                       password of Basic for browsers. Where none is, only the names of this \
                       machine itself are answered. Every refusal has the form ErrorReply, a \
                       wrong path's (404) and a wrong method's (405, with an allow header) too.",
    ),
    modifiers(&Common),
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
        staff::count,
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

/// What every operation has in common, because `guard` and `body` stand before all handlers.
struct Common;

/// Each status, whom it concerns and when it comes.
const COMMON: [(&str, Whom, &str); 7] = [
    ("401", Whom::Guarded, "A token is configured, and this one was not sent."),
    ("403", Whom::Guarded, "No token is configured, and the host is not this machine's own name."),
    ("403", Whom::Orders, "So, or the order comes from another site's page."),
    ("400", Whom::Bodies, "The body is not JSON, or a key is missing, unknown or of a wrong type."),
    ("413", Whom::Bodies, "The body is larger than 16 KiB."),
    ("415", Whom::Bodies, "The body is not said to be application/json."),
    ("503", Whom::Guarded, "The gateway is stopping, or gave no answer within 10 s."),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// All but the two paths that need no token.
    Guarded,
    /// What is no mere look.
    Orders,
    /// What takes a body.
    Bodies,
}

impl Modify for Common {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = |scheme| SecurityScheme::Http(HttpBuilder::new().scheme(scheme).build());
        let components = document.components.take().unwrap_or(ComponentsBuilder::new().build());
        let mut components = components;
        components.add_security_scheme("bearer", scheme(HttpAuthScheme::Bearer));
        components.add_security_scheme("basic", scheme(HttpAuthScheme::Basic));
        document.components = Some(components);
        // Either of the two, or none: a gateway without a token demands none.
        let none: [&str; 0] = [];
        document.security = Some(vec![
            SecurityRequirement::new("bearer", none),
            SecurityRequirement::new("basic", none),
            SecurityRequirement::default(),
        ]);
        for (path, item) in &mut document.paths.paths {
            let open = super::guard::OPEN_PATHS.contains(&path.as_str());
            let PathItem { get, put, post, delete, .. } = item;
            for (operation, orders) in [(get, false), (put, true), (post, true), (delete, true)] {
                if let Some(operation) = operation {
                    concern(operation, open, orders);
                }
            }
        }
    }
}

fn concern(operation: &mut Operation, open: bool, orders: bool) {
    if open {
        operation.security = Some(vec![SecurityRequirement::default()]);
        return;
    }
    for (status, whom, text) in COMMON {
        let concerned = match whom {
            Whom::Guarded => true,
            Whom::Orders => orders,
            Whom::Bodies => operation.request_body.is_some(),
        };
        if concerned {
            let schema = Ref::from_schema_name("ErrorReply");
            let content = ContentBuilder::new().schema(Some(schema)).build();
            let response = ResponseBuilder::new().description(text);
            let response = RefOr::T(response.content("application/json", content).build());
            operation.responses.responses.insert(status.to_owned(), response);
        }
    }
}
