//! What cameras and approach devices ask for drivers: a bay, and what became of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::body::Fields;
use super::error::{ApiError, ErrorReply};
use crate::gateway::{Allocation, Answer, Ask, LeaseId, Report, Request};
use crate::owner::Answered;
use crate::record::{End, Promise};
use crate::site::{BayIx, ClassIx, NodeIx, Site, Target, Turn};

/// Furthest arrival that can be asked for, in seconds. Later than that is a booking.
const ETA_S_MAX: u32 = 7_200;

/// Longest text about a plate, in characters: a hash of 256 bits in hexadecimal.
const PLATE_CHARS_MAX: usize = 64;

/// Longest id of anything in a site, in characters.
const ID_CHARS_MAX: usize = 64;

/// A vehicle wants a bay.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the published form of what `read` reads; a test compares the keys")]
pub struct AllocationRequest {
    /// The asker's own name for this request: asking again changes nothing. Without one, asking
    /// again is a second request, unless `vehicle` tells that it is the same one.
    #[schema(min_length = 1, max_length = 64, example = "cam-7/20261123/0042")]
    pub request_id: Option<String>,
    /// Node where the vehicle is, or will be in `eta_s`.
    #[schema(min_length = 1, max_length = 64, example = "n-cordon")]
    pub at: String,
    /// Where its people want to walk to.
    #[schema(max_length = 64)]
    pub destination: Option<String>,
    /// What the vehicle needs; the site's first class where absent.
    #[schema(max_length = 64, example = "car")]
    pub class: Option<String>,
    /// Seconds until it is at `at`; 0 where absent.
    #[schema(minimum = 0, maximum = 7200)]
    pub eta_s: Option<u32>,
    /// End of the plate, for call-out signs; never stored. What is no end of a plate (a misread
    /// one) is left out, not refused.
    #[schema(max_length = 64, example = "8K21")]
    pub plate_tail: Option<String>,
    /// The caller's keyed hash of the plate: a vehicle with an open lease gets no second one, and
    /// where it is read again further on, its lease is confirmed or revised from there.
    #[schema(max_length = 64, example = "5f2c9e0d1ab34476")]
    pub vehicle: Option<String>,
}

/// The vehicle of a lease stands.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the published form of what `parked` reads; a test compares the keys")]
pub struct ParkedRequest {
    /// Where it stands, if not in the promised bay.
    #[schema(max_length = 64, example = "g01/B1/A/017")]
    pub bay: Option<String>,
}

/// The promised bay was found taken.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the published form of what `bay_taken` reads")]
pub struct TakenRequest {
    /// Which bay was found taken: a report that comes twice then moves the driver once.
    #[schema(max_length = 64, example = "g01/B1/A/017")]
    pub bay: Option<String>,
}

/// The vehicle of a lease was read again.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the published form of what `seen` reads; a test compares the keys")]
pub struct SeenRequest {
    /// Node where it was read: a portal, a fork, a garage's door, an exit.
    #[schema(min_length = 1, max_length = 64, example = "p1")]
    pub at: String,
}

/// The vehicle of a lease is of another class.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "the published form of what `class` reads; a test compares the keys")]
pub struct ClassRequest {
    #[schema(min_length = 1, max_length = 64, example = "van")]
    pub class: String,
}

/// A fork or the like on the way.
#[derive(PartialEq, Debug, Serialize, ToSchema)]
pub struct Step {
    #[schema(example = "f1")]
    pub at: String,
    /// What the sign there says for this way, or the name of the next place.
    #[schema(example = "Garage 1")]
    pub text: String,
    /// Which way to turn; absent where the site does not say.
    pub arrow: Option<Turn>,
}

/// What a driver was given.
#[derive(Debug, Serialize, ToSchema)]
pub struct AllocationReply {
    /// Absent where nothing could be promised.
    #[schema(example = "0a1b2c3d-1")]
    pub lease: Option<String>,
    pub request_id: String,
    pub promise: Promise,
    pub class: String,
    pub at: String,
    pub destination: Option<String>,
    /// Nodes to pass, from `at` to the garage's door.
    pub way: Vec<String>,
    pub portal: Option<String>,
    #[schema(example = "g01")]
    pub garage: Option<String>,
    #[schema(example = "g01/B1")]
    pub level: Option<String>,
    #[schema(example = "g01/B1/A")]
    pub zone: Option<String>,
    #[schema(example = "g01/B1/A/017")]
    pub bay: Option<String>,
    /// One sentence for each place where there is a choice.
    pub directions: Vec<String>,
    /// The same places as text and arrow.
    pub steps: Vec<Step>,
    pub travel_s: u64,
    /// Seconds from now until the lease ends by itself.
    pub expires_in_s: u64,
    /// Whether it was on disk when this was sent: if not, a power cut may forget it.
    pub durable: bool,
    /// How the lease ended; absent while it is open.
    pub end: Option<End>,
    /// Why there is no firmer promise; empty where there is a bay.
    pub reason: String,
}

impl AllocationReply {
    pub fn new(site: &Site, allocation: &Allocation, durable: bool) -> AllocationReply {
        let node = |ix: crate::site::NodeIx| site.nodes[ix.at()].id.clone();
        AllocationReply {
            lease: allocation.lease.map(|lease| lease.to_string()),
            request_id: allocation.request_id.to_string(),
            promise: allocation.promise,
            class: site.classes[allocation.class.at()].id.clone(),
            at: node(allocation.at),
            destination: allocation.destination.map(|d| site.destinations[d.at()].id.clone()),
            way: allocation.way(site).into_iter().map(node).collect(),
            portal: allocation.portal(site).map(node),
            garage: allocation.garage.map(|g| site.garages[g.at()].id.clone()),
            level: allocation.level(site).map(|l| site.level_id(l)),
            zone: allocation.zone.map(|z| site.zone_id(z)),
            bay: allocation.bay.map(|b| site.bay_id(b)),
            directions: allocation.directions(site),
            steps: steps(site, &allocation.way(site)),
            travel_s: allocation.travel_s,
            expires_in_s: allocation.expires_in_s,
            durable,
            end: allocation.end,
            reason: allocation.reason(site),
        }
    }
}

/// The places on a way where there is a choice.
fn steps(site: &Site, way: &[NodeIx]) -> Vec<Step> {
    let link = |pair: &[NodeIx]| {
        let ways = || site.links.iter().filter(|link| link.from == pair[0]);
        let choice = ways().count() > 1;
        let link = ways().find(|link| link.to == pair[1])?;
        if !choice && link.text.is_empty() {
            return None;
        }
        let name = &site.nodes[link.to.at()].name;
        let text = if link.text.is_empty() { name } else { &link.text };
        let at = site.nodes[link.from.at()].id.clone();
        Some(Step { at, text: text.clone(), arrow: link.turn })
    };
    way.windows(2).filter_map(link).collect()
}

/// Gives an arriving vehicle a bay, or the firmest promise there is.
///
/// A full site is no error: the promise is then "signs", and `reason` says what to do.
#[utoipa::path(post, path = "/v1/allocations", tag = "drivers",
    request_body = AllocationRequest,
    responses((status = 200, body = AllocationReply), (status = 409, body = ErrorReply),
        (status = 422, body = ErrorReply), (status = 429, body = ErrorReply)))]
pub async fn allocate(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let request = read(app.site(), Fields::read(&headers, body)?)?;
    let began = Instant::now();
    let answered = app.ask(Ask::Arrive(request)).await;
    app.context.metrics.allocation(began.elapsed());
    Ok(reply(&app, &answered?))
}

fn read(site: &Site, mut fields: Fields) -> Result<Request, ApiError> {
    let request_id = fields.optional_text("request_id", 1..=64)?.unwrap_or_else(own_request_id);
    let at = fields.text("at", 1..=ID_CHARS_MAX)?;
    let destination = fields.optional_text("destination", 1..=ID_CHARS_MAX)?;
    let class = fields.optional_text("class", 1..=ID_CHARS_MAX)?;
    let eta_s = fields.optional_number("eta_s", 0..=ETA_S_MAX)?.unwrap_or(0);
    let tail = fields.optional_text("plate_tail", 0..=PLATE_CHARS_MAX)?.filter(|tail| {
        (1..=4).contains(&tail.chars().count()) && tail.chars().all(char::is_alphanumeric)
    });
    let vehicle = fields.optional_text("vehicle", 0..=PLATE_CHARS_MAX)?;
    let vehicle = vehicle.filter(|text| !text.is_empty()).map(|text| digest(&text));
    fields.end("request_id, at, destination, class, eta_s, plate_tail, vehicle")?;
    let node = site.node(&at).ok_or_else(|| unknown("unknown_node", "at", &at, "node"))?;
    let destination = match destination {
        None => None,
        Some(id) => Some(
            site.destination(&id)
                .ok_or_else(|| unknown("unknown_destination", "destination", &id, "destination"))?,
        ),
    };
    let class = match class {
        None => ClassIx(0),
        Some(id) => {
            site.class(&id).ok_or_else(|| unknown("unknown_class", "class", &id, "class"))?
        }
    };
    let (request_id, tail) = (request_id.into(), tail.map(Arc::from));
    Ok(Request { request_id, at: node, destination, class, eta_s, tail, vehicle })
}

fn unknown(code: &'static str, field: &'static str, value: &str, what: &str) -> ApiError {
    let text = format!("{field}: this site has no such {what}; see /v1/site");
    ApiError::unprocessable(code, field, value, text)
}

/// A name for a request that came without one: never used twice, also over restarts.
fn own_request_id() -> String {
    static RUN: OnceLock<u64> = OnceLock::new();
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let run = RUN.get_or_init(|| getrandom::u64().unwrap_or_default());
    format!("own-{run:016x}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// What the gateway knows a vehicle by: 64 bits (FNV-1a) of the caller's hash, so that nothing a
/// caller sends, a plate by mistake included, rests in clear.
fn digest(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// How a lease stands.
#[utoipa::path(get, path = "/v1/allocations/{lease}", tag = "drivers",
    params(("lease" = String, Path, description = "The lease's name, as given")),
    responses((status = 200, body = AllocationReply), (status = 404, body = ErrorReply)))]
pub async fn find(
    State(app): State<Arc<App>>,
    lease: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let answered = app.ask(Ask::Find(lease_of(lease)?)).await?;
    Ok(reply(&app, &answered))
}

/// Gives a lease back: the vehicle is not coming.
#[utoipa::path(delete, path = "/v1/allocations/{lease}", tag = "drivers",
    params(("lease" = String, Path, description = "The lease's name, as given")),
    responses((status = 200, body = AllocationReply), (status = 404, body = ErrorReply),
        (status = 409, body = ErrorReply)))]
pub async fn cancel(
    State(app): State<Arc<App>>,
    lease: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    report(&app, lease_of(lease)?, Report::Cancelled).await
}

/// The vehicle stands, identified: in the promised bay, or in the one that is named.
#[utoipa::path(post, path = "/v1/allocations/{lease}/parked", tag = "drivers",
    params(("lease" = String, Path, description = "The lease's name, as given")),
    request_body = Option<ParkedRequest>,
    responses((status = 200, body = AllocationReply), (status = 404, body = ErrorReply),
        (status = 409, body = ErrorReply), (status = 422, body = ErrorReply)))]
pub async fn parked(
    State(app): State<Arc<App>>,
    lease: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let lease = lease_of(lease)?;
    let mut fields = Fields::read_optional(&headers, body)?;
    let bay = fields.optional_text("bay", 1..=ID_CHARS_MAX)?;
    fields.end("bay")?;
    let bay = bay.map(|id| bay_of(app.site(), &id)).transpose()?;
    report(&app, lease, Report::Parked(bay)).await
}

/// Someone else stands in the promised bay: the driver gets another where there is one.
#[utoipa::path(post, path = "/v1/allocations/{lease}/bay-taken", tag = "drivers",
    params(("lease" = String, Path, description = "The lease's name, as given")),
    request_body = Option<TakenRequest>,
    responses((status = 200, body = AllocationReply), (status = 404, body = ErrorReply),
        (status = 409, body = ErrorReply), (status = 422, body = ErrorReply)))]
pub async fn bay_taken(
    State(app): State<Arc<App>>,
    lease: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let lease = lease_of(lease)?;
    let mut fields = Fields::read_optional(&headers, body)?;
    let bay = fields.optional_text("bay", 1..=ID_CHARS_MAX)?;
    fields.end("bay")?;
    let bay = bay.map(|id| bay_of(app.site(), &id)).transpose()?;
    report(&app, lease, Report::BayTaken(bay)).await
}

/// The vehicle was read again on its way: the lease is confirmed, or revised from there.
#[utoipa::path(post, path = "/v1/allocations/{lease}/seen", tag = "drivers",
    params(("lease" = String, Path, description = "The lease's name, as given")),
    request_body = SeenRequest,
    responses((status = 200, body = AllocationReply), (status = 404, body = ErrorReply),
        (status = 409, body = ErrorReply), (status = 422, body = ErrorReply)))]
pub async fn seen(
    State(app): State<Arc<App>>,
    lease: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let lease = lease_of(lease)?;
    let mut fields = Fields::read(&headers, body)?;
    let at = fields.text("at", 1..=ID_CHARS_MAX)?;
    fields.end("at")?;
    let node = app.site().node(&at).ok_or_else(|| unknown("unknown_node", "at", &at, "node"))?;
    report(&app, lease, Report::Seen(node)).await
}

/// The vehicle is of another class than was thought: it gets another bay where it needs one.
#[utoipa::path(post, path = "/v1/allocations/{lease}/class", tag = "drivers",
    params(("lease" = String, Path, description = "The lease's name, as given")),
    request_body = ClassRequest,
    responses((status = 200, body = AllocationReply), (status = 404, body = ErrorReply),
        (status = 409, body = ErrorReply), (status = 422, body = ErrorReply)))]
pub async fn class(
    State(app): State<Arc<App>>,
    lease: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let lease = lease_of(lease)?;
    let mut fields = Fields::read(&headers, body)?;
    let id = fields.text("class", 1..=ID_CHARS_MAX)?;
    fields.end("class")?;
    let class = app.site().class(&id);
    let class = class.ok_or_else(|| unknown("unknown_class", "class", &id, "class"))?;
    report(&app, lease, Report::Class(class)).await
}

async fn report(app: &App, lease: LeaseId, report: Report) -> Result<Response, ApiError> {
    let answered = app.ask(Ask::Report { lease, report }).await?;
    Ok(reply(app, &answered))
}

fn reply(app: &App, answered: &Answered) -> Response {
    match &answered.answer {
        Answer::Allocation(allocation) => {
            Json(AllocationReply::new(app.site(), allocation, answered.durable)).into_response()
        }
        Answer::Done | Answer::Closures(_) | Answer::Refused(_) => {
            StatusCode::NO_CONTENT.into_response()
        }
    }
}

/// A text that is no lease's name names no lease.
pub fn lease_of(path: Result<Path<String>, PathRejection>) -> Result<LeaseId, ApiError> {
    let Ok(Path(text)) = path else { return Err(ApiError::unknown_lease("")) };
    LeaseId::parse(&text).ok_or_else(|| ApiError::unknown_lease(&text))
}

fn bay_of(site: &Site, id: &str) -> Result<BayIx, ApiError> {
    match site.target(id) {
        Some(Target::Bay(bay)) => Ok(bay),
        Some(Target::Node(_) | Target::Link(_) | Target::Scope(_)) | None => {
            let text = "bay: this site has no such bay; a bay is written g01/B1/A/017";
            Err(ApiError::unprocessable("unknown_bay", "bay", id, text))
        }
    }
}
