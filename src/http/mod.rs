//! HTTP: how cameras, approach devices, staff and monitoring talk to the gateway.
//!
//! A thin edge: it checks what was sent, asks the owner, and puts the answer in words. It holds
//! no state of its own but who is connected. `routes` is the whole surface, and a test holds it
//! to the published OpenAPI document, so that neither can grow without the other.

mod body;
mod drivers;
mod error;
mod guard;
mod openapi;
mod outputs;
mod page;
mod server;
mod signs;
mod staff;
mod state;
mod stream;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, post, put};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::gateway::{Answer, Ask};
use crate::metrics::Metrics;
use crate::owner::{Answered, Handle};
use crate::site::Site;
use crate::status::Status;

use body::BODY_BYTES_MAX;
use error::ApiError;

pub use server::serve;

/// Most followers of the event streams. Each holds a connection, and the rest of the 256 must
/// stay free for cameras and monitoring.
const FOLLOWERS_MAX: usize = 128;

/// What a rendered state may be old when followers share it: half of their interval.
const STATE_SHARED_FOR: Duration = Duration::from_millis(500);

/// What HTTP needs from the rest of the process.
#[derive(Clone)]
pub struct Context {
    pub site: Arc<Site>,
    pub owner: Handle,
    /// How the adapters are doing now; cheap, called at each scrape and once a second a page.
    pub status: Arc<dyn Fn() -> Status + Send + Sync>,
    pub metrics: Metrics,
    /// The bearer token that is demanded, `None` for none; may change while running.
    pub token: watch::Receiver<Option<String>>,
}

/// What handlers share.
struct App {
    context: Context,
    /// Cancelled when the daemon stops: streams end.
    stop: CancellationToken,
    followers: Arc<Semaphore>,
    /// The state as JSON, shared by all followers so that twenty screens cost as much as one.
    rendered: Mutex<Option<(Instant, Arc<str>)>>,
}

impl App {
    fn new(context: Context, stop: CancellationToken) -> Arc<App> {
        let followers = Arc::new(Semaphore::new(FOLLOWERS_MAX));
        Arc::new(App { context, stop, followers, rendered: Mutex::new(None) })
    }

    fn site(&self) -> &Site {
        &self.context.site
    }

    /// Asks the owner; a refusal becomes an error.
    async fn ask(&self, ask: Ask) -> Result<Answered, ApiError> {
        let answered = self.context.owner.ask(ask).await.ok_or_else(ApiError::stopping)?;
        match &answered.answer {
            Answer::Refused(refusal) => Err(ApiError::refused(self.site(), refusal)),
            Answer::Allocation(_) | Answer::Closures(_) | Answer::Done => Ok(answered),
        }
    }
}

/// A route: method, path as in the OpenAPI document, handler.
type Route = (Method, &'static str, MethodRouter<Arc<App>>);

/// Everything that is served.
fn routes() -> Vec<Route> {
    vec![
        (Method::POST, "/v1/allocations", post(drivers::allocate)),
        (Method::GET, "/v1/allocations/{lease}", get(drivers::find)),
        (Method::DELETE, "/v1/allocations/{lease}", delete(drivers::cancel)),
        (Method::POST, "/v1/allocations/{lease}/parked", post(drivers::parked)),
        (Method::POST, "/v1/allocations/{lease}/bay-taken", post(drivers::bay_taken)),
        (Method::POST, "/v1/allocations/{lease}/seen", post(drivers::seen)),
        (Method::POST, "/v1/allocations/{lease}/class", post(drivers::class)),
        (Method::GET, "/v1/allocations/{lease}/stream", get(stream::allocation)),
        (Method::GET, "/v1/closures", get(staff::closures)),
        (Method::POST, "/v1/closures", post(staff::close)),
        (Method::POST, "/v1/openings", post(staff::open)),
        (Method::POST, "/v1/garages/{id}/count", post(staff::count)),
        (Method::GET, "/v1/outputs", get(outputs::list)),
        (Method::PUT, "/v1/outputs/{id}", put(outputs::set)),
        (Method::GET, "/v1/signs", get(signs::signs)),
        (Method::GET, "/v1/signs/stream", get(stream::signs)),
        (Method::GET, "/v1/signs/{id}/stream", get(stream::sign)),
        (Method::GET, "/v1/signs/{id}", get(signs::sign)),
        (Method::PUT, "/v1/signs/{id}/mode", put(signs::set_mode)),
        (Method::PUT, "/v1/signs/{id}/message", put(signs::set_message)),
        (Method::DELETE, "/v1/signs/{id}/message", delete(signs::clear_message)),
        (Method::POST, "/v1/units/{id}/retry", post(staff::retry)),
        (Method::GET, "/v1/state", get(state::state)),
        (Method::GET, "/v1/state/stream", get(stream::state)),
        (Method::GET, "/v1/site", get(state::site)),
        (Method::GET, "/v1/openapi.json", get(openapi::document)),
        (Method::GET, "/metrics", get(state::metrics)),
        (Method::GET, "/healthz", get(state::healthz)),
        (Method::GET, "/readyz", get(state::readyz)),
        (Method::GET, "/", get(page::operators)),
        (Method::GET, "/signs/{id}", get(page::sign)),
        (Method::GET, "/app.css", get(page::css)),
        (Method::GET, "/app.js", get(page::js)),
        (Method::GET, "/sign.js", get(page::sign_js)),
    ]
}

/// The routes behind their guards, outermost last.
fn router(app: &Arc<App>) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (_, path, handler)| router.route(path, handler))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(guard::in_time))
        .layer(from_fn(guard::same_site))
        .layer(from_fn_with_state(app.clone(), guard::host))
        .layer(from_fn_with_state(app.clone(), guard::token))
        .layer(from_fn_with_state(app.clone(), guard::headers))
        .with_state(app.clone())
}

async fn unknown_path(uri: Uri) -> ApiError {
    let text = "there is nothing at this path; see /v1/openapi.json";
    ApiError::new(StatusCode::NOT_FOUND, "unknown_path", text).blame("path", uri.path())
}

async fn unknown_method(method: Method) -> ApiError {
    let text = "this path does not serve this method; see /v1/openapi.json";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "unknown_method", text)
        .blame("method", method.as_str())
}

#[cfg(test)]
mod tests;
