//! What a caller is told when it cannot have what it asked for.
//!
//! Every refusal has one JSON form: a code for programs, a sentence for people, and where one
//! value is to blame, its field and the value as sent. Nothing else ever answers, not even for a
//! wrong path or method.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::gateway::Refusal;
use crate::record::End;
use crate::site::Site;

/// Longest piece of a caller's value that is sent back.
const ECHO_CHARS_MAX: usize = 64;

/// Seconds after which a caller that was too early may ask again: the time in which some of an
/// approach's open leases usually end.
const RETRY_AFTER_S: u64 = 5;

/// A refusal, before it is put on the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiError {
    pub status: StatusCode,
    pub body: ErrorBody,
}

/// The form of every refusal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct ErrorReply {
    pub error: ErrorBody,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// For programs; never changes its meaning.
    #[schema(example = "unknown_node")]
    pub code: &'static str,
    /// For people: what is wrong and what would be right.
    pub message: String,
    /// The key of the body, or the part of the path, that is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub field: Option<&'static str>,
    /// What was sent there, at most 64 characters of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub value: Option<String>,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> ApiError {
        let body = ErrorBody { code, message: message.into(), field: None, value: None };
        ApiError { status, body }
    }

    /// Names the value to blame.
    pub fn blame(mut self, field: &'static str, value: &str) -> ApiError {
        self.body.field = Some(field);
        self.body.value = Some(shorten(value));
        self
    }

    /// A value of the right type that this site does not know, or that is out of its bounds.
    pub fn unprocessable(
        code: &'static str,
        field: &'static str,
        value: &str,
        message: impl Into<String>,
    ) -> ApiError {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, message).blame(field, value)
    }

    /// The daemon stops, or its owner is gone.
    pub fn stopping() -> ApiError {
        let text = "the gateway is stopping; ask again in a few seconds";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", text)
    }

    /// Puts a gateway's refusal in a caller's words.
    pub fn refused(site: &Site, refusal: &Refusal) -> ApiError {
        let new = ApiError::new;
        match refusal {
            Refusal::ClassNotServed(class) => {
                let id = &site.classes[class.at()].id;
                let text = format!("no bay of this site serves the class {id}");
                new(StatusCode::CONFLICT, "class_not_served", text).blame("class", id)
            }
            Refusal::NoWay(node) => {
                let id = &site.nodes[node.at()].id;
                let text = format!("no garage can be reached from {id} with what is closed now");
                new(StatusCode::CONFLICT, "no_way", text).blame("at", id)
            }
            Refusal::TooMany { at, open } => {
                let id = &site.nodes[at.at()].id;
                let text = format!("{id} already has {open} open leases; let drivers follow signs");
                new(StatusCode::TOO_MANY_REQUESTS, "too_many", text).blame("at", id)
            }
            Refusal::NoSuchLease(lease) => ApiError::unknown_lease(&lease.to_string()),
            Refusal::LeaseEnded { lease, end } => {
                let id = lease.to_string();
                let text = format!("the lease {id} has ended: {}", end_text(*end));
                new(StatusCode::CONFLICT, "lease_ended", text).blame("lease", &id)
            }
            Refusal::NotClosed(target) => {
                let id = site.target_id(*target);
                let text = format!("{id} is not closed by staff");
                new(StatusCode::CONFLICT, "not_closed", text).blame("target", &id)
            }
            Refusal::CannotShow { sign, what } => {
                let id = &site.signs[sign.at()].id;
                let text = format!("the display of sign {id} cannot show {what}");
                new(StatusCode::CONFLICT, "cannot_show", text).blame("id", id)
            }
            Refusal::NoMessage(sign) => {
                let id = &site.signs[sign.at()].id;
                let text = format!("sign {id} shows no message of staff");
                new(StatusCode::CONFLICT, "no_message", text).blame("id", id)
            }
            Refusal::TooManyCars { garage, bays } => {
                let id = &site.garages[garage.at()].id;
                let text = format!("garage {id} has {bays} bays");
                new(StatusCode::CONFLICT, "too_many_cars", text).blame("id", id)
            }
            Refusal::NotCounted(garage) => {
                let id = &site.garages[garage.at()].id;
                let text = format!("garage {id} has no loops, and sensors see all of its bays");
                new(StatusCode::CONFLICT, "not_counted", text).blame("id", id)
            }
            Refusal::Stopping => ApiError::stopping(),
        }
    }

    pub fn unknown_lease(id: &str) -> ApiError {
        let text = "there is no such lease, or it ended too long ago";
        ApiError::new(StatusCode::NOT_FOUND, "unknown_lease", text).blame("lease", id)
    }

    pub fn unknown_garage(id: &str) -> ApiError {
        let text = "there is no such garage; GET /v1/site lists them";
        ApiError::new(StatusCode::NOT_FOUND, "unknown_garage", text).blame("id", id)
    }

    pub fn unknown_output(id: &str) -> ApiError {
        let text = "there is no such output; GET /v1/outputs lists them";
        ApiError::new(StatusCode::NOT_FOUND, "unknown_output", text).blame("id", id)
    }

    pub fn unknown_unit(id: &str) -> ApiError {
        let text = "there is no such unit; GET /v1/state lists them";
        ApiError::new(StatusCode::NOT_FOUND, "unknown_unit", text).blame("id", id)
    }

    pub fn unknown_sign(id: &str) -> ApiError {
        let text = "there is no such sign; GET /v1/signs lists them";
        ApiError::new(StatusCode::NOT_FOUND, "unknown_sign", text).blame("id", id)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(ErrorReply { error: self.body })).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        if status == StatusCode::UNAUTHORIZED {
            // Programs send the token as a bearer; a browser asks its user, and sends the token
            // as the password, which is the only way to open a page.
            let ways = ["Bearer realm=\"parkway\"", "Basic realm=\"parkway\", charset=\"UTF-8\""];
            for way in ways {
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(way));
            }
        }
        response
    }
}

fn end_text(end: End) -> &'static str {
    match end {
        End::Fulfilled => "the driver parked where promised",
        End::TookOther => "the driver parked in another bay",
        End::Displaced => "the bay was taken by someone else",
        End::Expired => "nobody came in time",
        End::Cancelled => "it was given back",
    }
}

fn shorten(value: &str) -> String {
    let mut short: String = value.chars().take(ECHO_CHARS_MAX).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    short
}
