//! Server-sent events: the state once a second; signs and leases when they change.
//!
//! Changes come from the owner in the turn in which they happen, not with the next picture. A
//! follower gets the newest picture, never a queue of old ones: one that reads slowly sees
//! fewer events and holds up nobody. Each also has a beat, so that a page knows within seconds
//! when the gateway has gone silent.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::Event;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;

use super::drivers::{AllocationReply, lease_of};
use super::error::{ApiError, ErrorReply};
use super::signs::{self, SignReply};
use super::{App, FOLLOWERS_MAX};
use crate::gateway::{Answer, Ask, LeaseId, SignView};
use crate::owner::{Answered, News};
use crate::site::SignIx;
use crate::time::Mono;

/// From one state to the next: bays are swept once a second, so more would show nothing new.
const STATE_EVERY: Duration = Duration::from_secs(1);

/// From one beat of the sign stream to the next; pages call it lost after three.
const BEAT_EVERY: Duration = Duration::from_secs(2);

/// Events between a follower's task and its socket: one on the way and one behind it.
const EVENTS_WAITING: usize = 2;

type Events = ReceiverStream<Result<Event, Infallible>>;

/// What a follower was told of a sign last, and as of when.
struct Shown {
    at: Mono,
    sign: SignView,
    confirmed: Option<bool>,
}

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

    async fn follow_signs(self, mut news: broadcast::Receiver<Arc<News>>, only: Option<SignIx>) {
        let only = only.map(|sign| self.app.site().signs[sign.at()].id.clone());
        let mut pictures = self.app.context.owner.follow();
        let mut beat = tokio::time::interval(BEAT_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shown: BTreeMap<String, Shown> = BTreeMap::new();
        pictures.mark_changed();
        loop {
            let (at, signs) = tokio::select! {
                biased;
                () = self.app.stop.cancelled() => break,
                () = self.events.closed() => break,
                news = news.recv() => match news {
                    Ok(news) if news.signs.is_empty() => continue,
                    Ok(news) => (news.at, news.signs.clone()),
                    // What was missed is in the next picture, which is always at hand.
                    Err(RecvError::Lagged(_)) => {
                        pictures.mark_changed();
                        continue;
                    }
                    Err(RecvError::Closed) => break,
                },
                changed = pictures.changed() => match changed {
                    Ok(()) => {
                        let picture = pictures.borrow_and_update().clone();
                        (picture.at.mono, picture.signs.clone())
                    }
                    Err(_) => break,
                },
                _ = beat.tick() => {
                    if !self.send(Event::default().event("beat").data("{}")).await {
                        break;
                    }
                    continue;
                }
            };
            let displays = (self.app.context.status)().displays;
            for reply in signs::worded(at, &signs, &displays) {
                let id = &reply.sign.id;
                if only.as_ref().is_some_and(|only| only != id) {
                    continue;
                }
                let before = shown.get(id);
                // Ages grow by themselves: they are no news. Nor is a picture from before it.
                let same = |shown: &Shown| {
                    shown.at > at || shown.sign == reply.sign && shown.confirmed == reply.confirmed
                };
                if before.is_some_and(same) {
                    continue;
                }
                let text = serde_json::to_string(&reply).expect("a sign is plain text and numbers");
                if !self.send(Event::default().event("sign").data(text)).await {
                    return;
                }
                let SignReply { sign, confirmed, .. } = reply;
                shown.insert(sign.id.clone(), Shown { at, sign, confirmed });
            }
        }
        drop(self.place);
    }

    async fn follow_lease(
        self,
        id: LeaseId,
        mut news: broadcast::Receiver<Arc<News>>,
        mut answered: Answered,
    ) {
        let mut beat = tokio::time::interval(BEAT_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Answer::Allocation(allocation) = &answered.answer {
            let reply = AllocationReply::new(self.app.site(), allocation, answered.durable);
            let text = serde_json::to_string(&reply).expect("a lease is plain text and numbers");
            let sent = self.send(Event::default().event("allocation").data(text)).await;
            if !sent || allocation.end.is_some() || !self.turns(id, &mut news, &mut beat).await {
                break;
            }
            match self.app.ask(Ask::Find(id)).await {
                Ok(again) => answered = again,
                // Forgotten, or the owner is gone: whoever asks again is told which.
                Err(_) => break,
            }
        }
        drop(self.place);
    }

    /// Waits until a lease changes, and beats meanwhile; false when it is time to end.
    async fn turns(
        &self,
        id: LeaseId,
        news: &mut broadcast::Receiver<Arc<News>>,
        beat: &mut Interval,
    ) -> bool {
        loop {
            tokio::select! {
                biased;
                () = self.app.stop.cancelled() => return false,
                () = self.events.closed() => return false,
                news = news.recv() => match news {
                    Ok(news) if !news.leases.contains(&id) => (),
                    // Who missed something looks again.
                    Ok(_) | Err(RecvError::Lagged(_)) => return true,
                    Err(RecvError::Closed) => return false,
                },
                _ = beat.tick() => {
                    if !self.send(Event::default().event("beat").data("{}")).await {
                        return false;
                    }
                }
            }
        }
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
    let news = app.context.owner.news();
    let (follower, events) = Follower::join(app)?;
    tokio::spawn(follower.follow_signs(news, None));
    Ok(Sse::new(events))
}

/// One sign at once, then each change within 100 ms, as event `sign`; a `beat` every two seconds.
#[utoipa::path(get, path = "/v1/signs/{id}/stream", tag = "watching",
    params(("id" = String, Path, description = "The sign's id")),
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = 404, body = ErrorReply), (status = 429, body = ErrorReply)))]
pub async fn sign(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Sse<Events>, ApiError> {
    let sign = signs::find(&app, id)?;
    let news = app.context.owner.news();
    let (follower, events) = Follower::join(app)?;
    tokio::spawn(follower.follow_signs(news, Some(sign)));
    Ok(Sse::new(events))
}

/// A lease at once, then each change within 100 ms, as event `allocation` with what a GET would
/// say; the stream ends after the lease's end. A `beat` every two seconds.
#[utoipa::path(get, path = "/v1/allocations/{lease}/stream", tag = "drivers",
    params(("lease" = String, Path, description = "The lease's name, as given")),
    responses((status = 200, content_type = "text/event-stream", body = String),
        (status = 404, body = ErrorReply), (status = 429, body = ErrorReply)))]
pub async fn allocation(
    State(app): State<Arc<App>>,
    lease: Result<Path<String>, PathRejection>,
) -> Result<Sse<Events>, ApiError> {
    let lease = lease_of(lease)?;
    // From here on nothing is missed: what changes before the first look is in it.
    let news = app.context.owner.news();
    let now = app.ask(Ask::Find(lease)).await?;
    let (follower, events) = Follower::join(app)?;
    tokio::spawn(follower.follow_lease(lease, news, now));
    Ok(Sse::new(events))
}
