//! Connections: how many, how slow, and how they end.
//!
//! hyper is driven directly because `axum::serve` has neither a time-out for a request's head nor
//! a bound on connections: one forgotten `nc` a minute would fill the process in a day.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{App, Context, router};

/// Most open connections. A site has some dozen cameras and screens; each costs about 20 KiB.
const CONNECTIONS_MAX: usize = 256;

/// Within this a request's head must be complete, and an idle connection is closed after it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest head of a request, in bytes: the smallest that hyper takes.
const HEAD_BYTES_MAX: usize = 8 * 1_024;

/// How long a peer may leave sent bytes unacknowledged before its connection is dropped, in ms:
/// a screen that lost its power must not hold a place for a quarter of an hour.
const SILENT_PEER_MS: u32 = 30_000;

/// Pause after a failed accept (too many open files): trying at once would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long open requests have to end on stop. The whole daemon has 5 s.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves until `stop`, then ends streams, lets requests finish for up to 2 s and returns.
///
/// Binding is the caller's, so that an address in use is known before anything else starts.
///
/// # Errors
///
/// The listener has no address of its own, which is a listener that never was bound.
pub async fn serve(
    listener: TcpListener,
    context: Context,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "serving HTTP");
    let stopping = CancellationToken::new();
    let app = App::new(context, stopping.clone());
    let service = TowerToHyperService::new(router(&app));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        // A place first: a connection beyond the bound waits in the kernel, not in our memory.
        let (place, stream) = tokio::select! {
            () = &mut stop => break,
            // Reaps what ended, so that the set stays as small as what is open.
            Some(_) = connections.join_next() => continue,
            next = next_connection(&listener, &places) => next,
        };
        app.context.metrics.connected(CONNECTIONS_MAX - places.available_permits());
        let (service, stopping) = (service.clone(), stopping.clone());
        connections.spawn(async move {
            connection(stream, service, stopping).await;
            drop(place);
        });
    }
    drop(listener);
    stopping.cancel();
    let drained =
        tokio::time::timeout(DRAIN, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::info!(open = connections.len(), "cutting HTTP connections that did not end");
        connections.shutdown().await;
    }
    Ok(())
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn next_connection(listener: &TcpListener, places: &Arc<Semaphore>) -> (Place, TcpStream) {
    let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
    let mut told = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (place, stream),
            Err(error) if told => tracing::debug!(%error, "still no HTTP connection"),
            Err(error) => tracing::warn!(%error, "cannot accept an HTTP connection"),
        }
        told = true;
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

async fn connection(
    stream: TcpStream,
    service: TowerToHyperService<axum::Router>,
    stopping: CancellationToken,
) {
    prepare(&stream);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        // A client that has said all closes its side (`nc -N`), and is owed its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Peers hang up in the middle all the time.
        tracing::debug!(%error, "an HTTP connection broke");
    }
}

/// Neither option is needed to serve, so a kernel that refuses one is not an error.
fn prepare(stream: &TcpStream) {
    let delay = stream.set_nodelay(true);
    let silent = rustix::net::sockopt::set_tcp_user_timeout(stream, SILENT_PEER_MS);
    if delay.is_err() || silent.is_err() {
        tracing::debug!("an HTTP connection keeps the kernel's own time-outs");
    }
}
