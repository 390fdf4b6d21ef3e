//! Server-sent events: the state once a second, and each sign when it changes.
//!
//! A follower gets the newest picture, never a queue of old ones: one that reads slowly sees
//! fewer events and holds up nobody. Each also has a beat, so that a page knows within seconds
//! when the gateway has gone silent.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::Event;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;

use super::error::{ApiError, ErrorReply};
use super::signs;
use super::{App, FOLLOWERS_MAX};
use crate::gateway::SignView;

/// From one state to the next: bays are swept once a second, so more would show nothing new.
const STATE_EVERY: Duration = Duration::from_secs(1);

/// From one beat of the sign stream to the next; pages call it lost after three.
const BEAT_EVERY: Duration = Duration::from_secs(2);

/// Events between a follower's task and its socket: one on the way and one behind it.
const EVENTS_WAITING: usize = 2;

type Events = ReceiverStream<Result<Event, Infallible>>;

/// One follower: where its events go, and its place among the followers.
struct Follower {
    app: Arc<App>,
    events: mpsc::Sender<Result<Event, Infallible>>,
    place: OwnedSemaphorePermit,
}

impl Follower {
    fn join(app: Arc<App>) -> Result<(Follower, Events), ApiError> {
        let Ok(place) = app.followers.clone().try_acquire_owned() else {
            let text = format!("there are already {FOLLOWERS_MAX} followers");
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many", text));
        };
        let (events, stream) = mpsc::channel(EVENTS_WAITING);
        let follower = Follower { app, events, place };
        Ok((follower, ReceiverStream::new(stream)))
    }

    /// Sends one event, however slow the reader; false when it is time to end.
    async fn send(&self, event: Event) -> bool {
        tokio::select! {
            () = self.app.stop.cancelled() => false,
            sent = self.events.send(Ok(event)) => sent.is_ok(),
        }
    }

    async fn follow_state(self) {
        let mut tick = tokio::time::interval(STATE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.app.stop.cancelled() => break,
                () = self.events.closed() => break,
                _ = tick.tick() => {}
            }
            let state = self.app.state_text();
            if !self.send(Event::default().event("state").data(&*state)).await {
                break;
            }
        }
        drop(self.place);
    }

    async fn follow_signs(self) {
        let mut pictures = self.app.context.owner.follow();
        let mut beat = tokio::time::interval(BEAT_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shown: BTreeMap<String, (SignView, Option<bool>)> = BTreeMap::new();
        pictures.mark_changed();
        loop {
            tokio::select! {
                biased;
                () = self.app.stop.cancelled() => break,
                () = self.events.closed() => break,
                changed = pictures.changed() => if changed.is_err() { break },
                _ = beat.tick() => {
                    if !self.send(Event::default().event("beat").data("{}")).await {
                        break;
                    }
                    continue;
                }
            }
            let snapshot = pictures.borrow_and_update().clone();
            let displays = (self.app.context.status)().displays;
            for reply in signs::replies(&snapshot, &displays) {
                // Ages grow by themselves: they are no news.
                let news = (reply.sign.clone(), reply.confirmed);
                if shown.get(&reply.sign.id) == Some(&news) {
                    continue;
                }
                let text = serde_json::to_string(&reply).expect("a sign is plain text and numbers");
                if !self.send(Event::default().event("sign").data(text)).await {
                    return;
                }
                shown.insert(reply.sign.id.clone(), news);
            }
        }
        drop(self.place);
    }
}

/// The state, once a second, as event `state`.
#[utoipa::path(get, path = "/v1/state/stream", tag = "watching",
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = 429, body = ErrorReply)))]
pub async fn state(State(app): State<Arc<App>>) -> Result<Sse<Events>, ApiError> {
    let (follower, events) = Follower::join(app)?;
    tokio::spawn(follower.follow_state());
    Ok(Sse::new(events))
}

/// Each sign at once, then each change, as event `sign`; a `beat` every two seconds.
#[utoipa::path(get, path = "/v1/signs/stream", tag = "watching",
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = 429, body = ErrorReply)))]
pub async fn signs(State(app): State<Arc<App>>) -> Result<Sse<Events>, ApiError> {
    let (follower, events) = Follower::join(app)?;
    tokio::spawn(follower.follow_signs());
    Ok(Sse::new(events))
}
