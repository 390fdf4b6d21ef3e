//! The owner of the gateway: one thread that waits, steps and carries out.
//!
//! Everything else talks to it through a [`Handle`].

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::gateway::{Answer, Ask, Snapshot};
use crate::record::Body;
use crate::time::Now;

/// What the owner is sent besides readings.
#[derive(Debug)]
pub enum Urgent {
    Ask { ask: Ask, reply: oneshot::Sender<Answered> },
    Notice(Body),
    Retune(crate::config::GuidanceTable),
    Stop,
}

/// An answer and whether what it rests on was durable when it was given.
#[derive(Clone, PartialEq, Debug)]
pub struct Answered {
    pub answer: Answer,
    pub durable: bool,
    pub at: Now,
}

/// How the rest of the process talks to the owner; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    urgent: mpsc::Sender<Urgent>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
}

impl Handle {
    pub fn new(urgent: mpsc::Sender<Urgent>, snapshot: watch::Receiver<Arc<Snapshot>>) -> Handle {
        Handle { urgent, snapshot }
    }

    /// Asks and waits; `None` once the owner has stopped.
    pub async fn ask(&self, ask: Ask) -> Option<Answered> {
        let (reply, answer) = oneshot::channel();
        self.urgent.send(Urgent::Ask { ask, reply }).await.ok()?;
        answer.await.ok()
    }

    /// Puts something on the alarm lane, from a thread that may not wait: false if the owner's
    /// queue is full or the owner has stopped.
    pub fn notice(&self, body: Body) -> bool {
        self.urgent.try_send(Urgent::Notice(body)).is_ok()
    }

    /// New weights and thresholds.
    pub async fn retune(&self, guidance: crate::config::GuidanceTable) -> bool {
        self.urgent.send(Urgent::Retune(guidance)).await.is_ok()
    }

    /// Asks the owner to put signs to their fallback and stop.
    pub async fn stop(&self) -> bool {
        self.urgent.send(Urgent::Stop).await.is_ok()
    }

    /// The newest picture.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// To be woken at each new picture.
    pub fn follow(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }
}
