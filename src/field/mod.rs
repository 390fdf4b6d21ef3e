//! Everything on Modbus: polls every line, hands readings to the gateway, writes its signs.
//!
//! One thread with its own runtime serves all Modbus TCP lines, one owner task each; every RTU line
//! has a thread, because a bus counts in tenths of a millisecond. Nothing in here can block the
//! gateway: what is to be written is left in a mailbox, readings are dropped and counted when
//! the gateway is behind (a newer one comes with the next sweep), and a silent unit sends nothing,
//! because the gateway judges freshness.
//!
//! `plan`, `split`, `decode`, `policy`, `breaker`, `budget`, `pace`, `write`, `places`, `orders`,
//! `rtu` and `agenda` decide and do no IO; `line`, `bus` and `port` do IO and decide nothing.

pub mod agenda;
pub mod breaker;
pub mod budget;
mod bus;
pub mod decode;
mod line;
mod mailbox;
pub mod orders;
pub mod pace;
pub mod places;
pub mod plan;
pub mod policy;
mod port;
pub mod rtu;
pub mod split;
mod status;
pub mod vector;
pub mod write;

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use crate::field::line::Line;
use crate::field::mailbox::Mailbox;
use crate::field::places::{Route, Routes};
use crate::gateway::Reading;
use crate::site::{BayIx, ColourIx, Face, LineIx, OutputIx, SignIx, Site};
use crate::time::Clock;

pub use status::{
    LampsStatus, LineState, LineStatus, OutputStatus, SignStatus, UnitState, UnitStatus,
};

/// How long an owner that panicked rests before it starts anew.
const REST: Duration = Duration::from_secs(1);
/// Threads for looking up names: a hanging resolver may hold this many.
const LOOKUP_THREADS_MAX: usize = 4;
/// Lines that begin their sweeps together: some milliseconds of work. Spreading every line for
/// itself took five times the CPU, nearly all of it for waking up (`tests/bench/field.rs`); and
/// what comes together is decided, committed and sent upstream together.
const PHASE_LINES: usize = 128;
/// What the thread gets to end after it was told to drop everything.
const DROP_MAX: Duration = Duration::from_millis(200);

/// The handle of all lines; cheap to clone.
#[derive(Clone, Debug)]
pub struct Field {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    lines: Vec<(Arc<Mailbox>, watch::Receiver<LineStatus>)>,
    site: Arc<Site>,
    routes: Routes,
    /// True: write what is left and end.
    flush: watch::Sender<bool>,
    /// True: end now.
    drop_all: watch::Sender<bool>,
    /// Ends with the thread.
    ended: Mutex<mpsc::Receiver<()>>,
}

/// Starts the `field` thread, which connects and polls at once.
///
/// # Errors
///
/// The system gives no thread or no event queue.
pub fn start(
    site: Arc<Site>,
    clock: Clock,
    readings: tokio::sync::mpsc::Sender<Reading>,
) -> std::io::Result<Field> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUP_THREADS_MAX)
        .build()?;
    let (flush, flush_rx) = watch::channel(false);
    let (drop_all, drop_rx) = watch::channel(false);
    let (ended_tx, ended) = mpsc::channel::<()>();
    let mut routes = Routes::new(&site);
    let (mut lines, mut owners, mut buses) = (Vec::new(), Vec::new(), Vec::new());
    let guard = runtime.enter();
    let epoch = Instant::now();
    drop(guard);
    let phases = u32::try_from(site.lines.len().div_ceil(PHASE_LINES)).unwrap_or(u32::MAX).max(1);
    for (table, ix) in site.lines.iter().zip(0..) {
        let line = LineIx(ix);
        let places = places::places(&site, line);
        routes.add(&site, line, &places);
        let mailbox = Arc::new(Mailbox::new(places.iter().map(|(_, place)| place)));
        let mut status = LineStatus::new(line, &table.units);
        status.own(places.iter().map(|(owner, _)| *owner));
        let (status, status_rx) = watch::channel(status);
        lines.push((mailbox.clone(), status_rx));
        let owner = Line {
            site: site.clone(),
            line,
            clock,
            epoch,
            stagger: Duration::from_millis(table.period_ms.into()) * (ix % phases) / phases,
            // Different at each start, so that gateways that lost power together spread out.
            seed: clock.now().wall.0.unsigned_abs() ^ u64::from(ix) << 48,
            mailbox,
            readings: readings.clone(),
            status,
            stop: flush_rx.clone(),
        };
        if table.has_transactions() {
            owners.push(owner);
        } else {
            buses.push(owner);
        }
    }
    // Dropped on an error below, it ends what was started until then.
    let inner = Inner { lines, site, routes, flush, drop_all, ended: Mutex::new(ended) };
    for owner in buses {
        bus::start(owner, drop_rx.clone(), ended_tx.clone())?;
    }
    thread::Builder::new().name("field".to_owned()).spawn(move || {
        runtime.block_on(serve(owners, drop_rx));
        // A look-up that hangs must not hold the stop.
        runtime.shutdown_background();
        drop(ended_tx);
    })?;
    Ok(Field { inner: Arc::new(inner) })
}

/// Runs every line to its end, or until everything is to be dropped.
async fn serve(owners: Vec<Line>, mut drop_all: watch::Receiver<bool>) {
    let mut lines = JoinSet::new();
    for owner in owners {
        lines.spawn(keep_running(owner));
    }
    tokio::select! {
        // An error means that the last handle is gone, and with it the need for a field.
        _ = drop_all.wait_for(|drop_all| *drop_all) => (),
        () = async { while lines.join_next().await.is_some() {} } => (),
    }
}

/// One device's bytes must not end a line for good, even where a decoder panics over them.
async fn keep_running(owner: Line) {
    loop {
        let mut run = JoinSet::new();
        run.spawn(owner.clone().run());
        match run.join_next().await {
            Some(Err(panic)) if panic.is_panic() => {
                let line = &owner.site.lines[owner.line.at()].id;
                error!(line, %panic, "line owner panicked, starting it anew");
                sleep(REST).await;
                owner.mailbox.repeat();
            }
            Some(_) | None => return,
        }
    }
}

impl Inner {
    /// Threads look up from their wait.
    fn ring(&self) {
        self.lines.iter().for_each(|(mailbox, _)| mailbox.ring());
    }
}

impl Drop for Inner {
    /// Nobody is left to stop the lines.
    fn drop(&mut self) {
        self.drop_all.send_replace(true);
        self.ring();
    }
}

impl Field {
    /// Shows this on a sign as soon as its line can. Never waits; the newest face wins.
    pub fn write(&self, sign: SignIx, face: Face) {
        // A sign without a place cannot pass `check`.
        if let Some((route, format)) = self.inner.routes.sign(sign) {
            self.put(route, &write::encode(&face, format));
        }
    }

    /// Gives a bay's lamp a colour, like [`Field::write`].
    pub fn lamp(&self, bay: BayIx, colour: ColourIx) {
        if let Some((route, value)) = self.inner.routes.lamp(&self.inner.site, bay, colour) {
            self.put(route, &[value]);
        }
    }

    /// Switches an output, like [`Field::write`].
    pub fn output(&self, output: OutputIx, on: bool) {
        if let Some((route, value)) = self.inner.routes.output(output, on) {
            self.put(route, &[value]);
        }
    }

    fn put(&self, route: Route, values: &[u16]) {
        self.inner.lines[route.line.at()].0.put(route.slot, values);
    }

    /// Every line as it was within the last period, or half a second where that is longer.
    pub fn status(&self) -> Vec<LineStatus> {
        self.inner.lines.iter().map(|(_, status)| status.borrow().clone()).collect()
    }

    /// Whether every line has attempted a poll, or at least to connect.
    pub fn attempted(&self) -> bool {
        self.inner.lines.iter().all(|(_, status)| status.borrow().attempted)
    }

    /// Stops polling, waits until the last faces are on the wire, `within` at most, and ends the
    /// thread. Blocks the caller; later calls return at once.
    pub fn flush_and_stop(&self, within: Duration) {
        self.inner.flush.send_replace(true);
        self.inner.ring();
        let ended = self.inner.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(within) {
            self.inner.drop_all.send_replace(true);
            self.inner.ring();
            let _ = ended.recv_timeout(DROP_MAX);
        }
        let unwritten: u32 = self
            .status()
            .iter()
            .flat_map(|line| &line.units)
            .map(|unit| unit.signs_desired - unit.signs_confirmed)
            .sum();
        if unwritten > 0 {
            warn!(unwritten, "signs keep an old face");
        } else {
            info!("all signs are written, lines are closed");
        }
    }
}
