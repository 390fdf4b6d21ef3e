//! The daemon's life: start, serve, reload, stop.
//!
//! Start order is what guiding needs: configuration, the HTTP port (a port in use must be known at
//! once), the store or its absence within 5 s, the owner, the field, the uplink. READY follows when
//! every line was tried once; it never waits for the broker. Stop order is the reverse of trust:
//! signs to their fallback first, the store last, because everything may still write to it. A
//! clean stop takes at most 5 s.

mod clock;
mod reload;
mod view;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, GuidanceTable};
use crate::field::{self, Field};
use crate::gateway::{Gateway, Identity, Kept};
use crate::http;
use crate::log::LogControl;
use crate::metrics::Metrics;
use crate::owner::{Handle, Owner, Ports};
use crate::store::{self, Store};
use crate::systemd::{self, Watchdog};
use crate::time::Clock;
use crate::uplink::{self, Uplink};

/// Readings that may wait for the owner, as sweeps of all units. More would only be older news.
const SWEEPS_WAITING: usize = 2;

/// How often readiness is looked at until it is there, and the status line for good: people read
/// that, nobody parses it.
const LOOK: Duration = Duration::from_millis(100);
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// Parts of the 5 s a clean stop may take: signs on the wire, goodbye to the broker, last commit.
const SIGNS_STOP: Duration = Duration::from_millis(1_500);
const UPLINK_STOP: Duration = Duration::from_millis(1_000);
const STORE_STOP: Duration = Duration::from_millis(1_500);

/// Bad usage or configuration: trying again without a change is no use (EX_USAGE of sysexits.h).
pub const USAGE: u8 = 64;

/// The owner thread ended by itself: the process must too, so that systemd starts a new one.
/// EX_SOFTWARE of sysexits.h.
const BROKEN: u8 = 70;

/// Runs until stopped. Exit codes: 0 stopped, 1 could not start, 64 bad configuration.
pub fn run(path: &Path, clock_speed: u32) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
            return ExitCode::from(USAGE);
        }
    };
    let log = match crate::log::init(&config.log.level) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{}: log.level: {error}", path.display());
            return ExitCode::from(USAGE);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(daemon(path, config, Clock::scaled(clock_speed), log)),
        Err(error) => Err(format!("cannot make a runtime: {error}")),
    };
    match result {
        Ok(code) => code,
        Err(why) => {
            tracing::error!("cannot start: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that runs, and what ends it.
struct Daemon {
    store: Store,
    field: Field,
    uplink: Arc<Uplink>,
    handle: Handle,
    owner: JoinHandle<()>,
    stopping: Arc<AtomicBool>,
}

async fn daemon(
    path: &Path,
    config: Config,
    clock: Clock,
    log: LogControl,
) -> Result<ExitCode, String> {
    let listen = &config.http.listen;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| format!("http.listen: {listen} cannot be bound: {error}"))?;
    let (token_out, token) = watch::channel(token(&config)?);
    let signals = Signals::new()?;
    let metrics = Metrics::new();
    let clock = clock.watched();
    let watcher = clock::Watcher::new(clock, config.clock.clone());
    let owner_ended = CancellationToken::new();
    let daemon = start(&config, clock, &metrics, owner_ended.clone())?;
    let watching = tokio::spawn(watcher.run(daemon.handle.clone()));
    let status = view::viewer(&config, clock, &daemon);
    let stop = CancellationToken::new();
    let context = http::Context {
        site: Arc::new(config.site.clone()),
        owner: daemon.handle.clone(),
        status: status.clone(),
        metrics,
        token,
    };
    let served = tokio::spawn(http::serve(listener, context, stop.clone().cancelled_owned()));
    let mut reload = reload::Reload::new(path, config, clock, log, token_out);
    let broken = turn(&daemon, &status, signals, &owner_ended, &mut reload).await;
    daemon.stopping.store(true, Ordering::Relaxed);
    systemd::stopping();
    stop.cancel();
    watching.abort();
    let code = finish(daemon, broken).await;
    // Streams were told to end; what is left of them is not worth waiting for.
    let _ = tokio::time::timeout(Duration::from_millis(500), served).await;
    tracing::info!("stopped");
    Ok(code)
}

/// The bearer token that HTTP demands, if any.
fn token(config: &Config) -> Result<Option<String>, String> {
    let table = &config.http;
    systemd::secret(table.token_credential.as_deref(), table.token_file.as_deref())
        .map_err(|error| format!("http token: {error}"))
}

/// Where the store lives: as configured, else where systemd says, else the packaged place.
fn store_path(config: &Config) -> PathBuf {
    if let Some(path) = &config.store.path {
        return PathBuf::from(path);
    }
    packaged_store()
}

/// Where the store lives if the configuration names no place.
pub fn packaged_store() -> PathBuf {
    let folder = std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
    folder.unwrap_or_else(|| PathBuf::from("/var/lib/parkway")).join("store")
}

fn start(
    config: &Config,
    clock: Clock,
    metrics: &Metrics,
    ended: CancellationToken,
) -> Result<Daemon, String> {
    let site = Arc::new(config.site.clone());
    let boot = crate::time::boot_id();
    // The store may have something to say before there is an owner to say it to.
    let late: Arc<OnceLock<Handle>> = Arc::new(OnceLock::new());
    let (told, restored) = (late.clone(), late.clone());
    let (store, kept) = store::start(
        &config.store,
        store_path(config),
        boot.clone(),
        clock,
        move |body| told.get().is_some_and(|handle| handle.notice(body)),
        move |kept| restored.get().is_some_and(|handle| handle.restore(kept)),
    );
    let mut run = [0u8; 4];
    getrandom::fill(&mut run).map_err(|error| format!("no random numbers: {error}"))?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let identity = Identity { run: u32::from_be_bytes(run), boot, version };
    let guidance = scaled(&config.guidance, clock.speed());
    let gateway = Gateway::new(site.clone(), guidance, identity);
    let (readings_out, readings) = mpsc::channel((site.units.len() * SWEEPS_WAITING).max(1));
    let field = field::start(site, clock, readings_out)
        .map_err(|error| format!("cannot start the field: {error}"))?;
    let ports = ports(&store, &field, metrics);
    let (owner, handle) = Owner::new(gateway, clock, readings, ports);
    let owner = own(owner, kept, ended)?;
    // Set once, here: the store's thread reads it from now on.
    let _ = late.set(handle.clone());
    let uplink = Arc::new(uplink::start(config, clock, store.clone(), handle.clone()));
    let stopping = Arc::new(AtomicBool::new(false));
    Ok(Daemon { store, field, uplink, handle, owner, stopping })
}

fn ports(store: &Store, field: &Field, metrics: &Metrics) -> Ports {
    let (queue, field, timer) = (store.queue(), field.clone(), metrics.step_timer());
    let retried = field.clone();
    let (lamps, outputs) = (field.clone(), field.clone());
    let mut watchdog = Watchdog::from_env();
    Ports {
        write: Box::new(move |sign, face| field.write(sign, face)),
        retry: Box::new(move |unit| retried.retry(unit)),
        lamp: Box::new(move |bay, colour| lamps.lamp(bay, colour)),
        output: Box::new(move |output, on| outputs.output(output, on)),
        commit: Box::new(move |items, upto, urgent| queue.push(items, upto, urgent)),
        durable: store.durable(),
        beat: Box::new(move || watchdog.ping()),
        stepped: Box::new(move |took| timer.observe(took)),
    }
}

/// Puts the owner on a thread of its own; `ended` says when that thread is over, panic or not.
fn own(owner: Owner, kept: Kept, ended: CancellationToken) -> Result<JoinHandle<()>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| format!("cannot make the owner's runtime: {error}"))?;
    let guard = ended.drop_guard();
    std::thread::Builder::new()
        .name("owner".to_owned())
        .spawn(move || {
            let _guard = guard;
            runtime.block_on(owner.run(kept));
        })
        .map_err(|error| format!("cannot start the owner's thread: {error}"))
}

/// A demo's clock runs fast, but polls and commits do not: what is measured in polls or commits
/// must grow with the clock's speed, or every unit would be stale between two polls.
fn scaled(guidance: &GuidanceTable, speed: u32) -> GuidanceTable {
    let mut scaled = guidance.clone();
    scaled.debounce_ms = scaled.debounce_ms.saturating_mul(speed);
    scaled.truth.free_debounce_ms = scaled.truth.free_debounce_ms.saturating_mul(speed);
    scaled.truth.booked_free_ms = scaled.truth.booked_free_ms.saturating_mul(speed);
    scaled.stale_ms = scaled.stale_ms.saturating_mul(speed);
    scaled.commit_wait_ms = scaled.commit_wait_ms.saturating_mul(speed);
    scaled
}

/// Serves until told to stop. True where the owner ended by itself.
async fn turn(
    daemon: &Daemon,
    status: &view::Viewer,
    mut signals: Signals,
    owner_ended: &CancellationToken,
    reload: &mut reload::Reload,
) -> bool {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ready = false;
    loop {
        tokio::select! {
            () = owner_ended.cancelled() => {
                tracing::error!("the gateway's thread ended; a new start can guide");
                return true;
            }
            _ = signals.terminate.recv() => return false,
            _ = signals.interrupt.recv() => return false,
            _ = signals.hangup.recv() => reload.reload(&daemon.handle).await,
            _ = look.tick() => {
                let status = status();
                if !ready && status.ready.all() {
                    ready = true;
                    look = tokio::time::interval(STATUS_EVERY);
                    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    systemd::ready();
                    tracing::info!("ready");
                }
                if ready {
                    systemd::status(&view::line(&daemon.handle.snapshot(), &status));
                }
            }
        }
    }
}

async fn finish(daemon: Daemon, broken: bool) -> ExitCode {
    let Daemon { store, field, uplink, handle, owner, stopping: _ } = daemon;
    handle.stop().await;
    // Joining blocks, and HTTP streams on this thread have to end meanwhile.
    let stopped = tokio::task::spawn_blocking(move || {
        let panicked = owner.join().is_err();
        field.flush_and_stop(SIGNS_STOP);
        if !uplink.stop(UPLINK_STOP) {
            tracing::info!("uplink: not all of it ended in time; records wait in the store");
        }
        if !store.stop(STORE_STOP) {
            tracing::warn!("store: the last commit did not end in time");
        }
        panicked
    });
    let panicked = stopped.await.unwrap_or(true);
    if panicked || broken { ExitCode::from(BROKEN) } else { ExitCode::SUCCESS }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Signals, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("cannot hear signals: {error}"));
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}
