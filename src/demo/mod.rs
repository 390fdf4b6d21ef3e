//! A whole site on one machine: what `parkway demo` shows.
//!
//! The reference site's zone controllers and panels are real Modbus TCP servers, its drivers ask
//! over HTTP, the broker in the city is an MQTT broker behind a network that fails, and the gateway
//! between them is `parkway run` as a process of its own. `world.rs` is the pure model of cars and
//! bays; all other files are thin. Nothing here is part of what is shipped.
//!
//! Threads: devices and drivers have one each; this file's own runs the broker, watches the gateway
//! and draws the screen.

mod arrived;
mod broker;
mod child;
mod devices;
mod drivers;
mod files;
mod http;
mod rng;
mod screen;
mod world;

use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use self::arrived::Arrived;
use self::child::{Folder, Gateway};
use self::devices::Devices;
use self::drivers::{Drivers, Seen};
use self::files::Wiring;
use self::screen::View;
use self::world::{Habits, World};
use crate::site::{LineIx, SignIx, Site, UnitIx};

/// How long the gateway may take to be ready: a debug build on a busy machine.
const READY_MAX: Duration = Duration::from_secs(60);

/// How long the first cars then wait for all controllers to be believed, so that none of them is
/// sent off for lack of a picture.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// Time before the first outage, and between one and the next.
const BEFORE_OUTAGE: Duration = Duration::from_secs(30);

/// One controller loses its power this often, ...
const POWER_EVERY: Duration = Duration::from_secs(180);
/// ... for the first time after so long, ...
const POWER_FIRST: Duration = Duration::from_secs(40);
/// ... and for so long: more than the gateway takes to notice, less than it takes to be dull.
const POWER_CUT: Duration = Duration::from_secs(20);

/// The controller that loses its power.
const POWERLESS: &str = "zc-08";

/// Signs on the screen: two garages, a portal, a street, and two call-outs.
const SIGNS: [&str; 6] =
    ["s-g01", "s-g12", "s-p-beiqu", "s-a-nanjimen", "c-p-beiqu", "c-a-nanjimen"];

/// What the demo was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// 1 to 100.
    pub speed: u32,
    pub outages: Vec<Duration>,
    pub lasts: Option<Duration>,
    pub http: Option<SocketAddr>,
    pub seed: u64,
}

/// Runs the demo until it is told to end, or its time is over, or its gateway dies.
pub fn run(options: Options) -> ExitCode {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(show(options)) {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> ExitCode {
    eprintln!("parkway demo: {error}");
    ExitCode::FAILURE
}

async fn show(options: Options) -> io::Result<ExitCode> {
    let mut stop = Stop::new()?;
    let folder = Folder::new()?;
    let mut stage = Stage::set(&options, &folder).await?;
    say(&format!("The page: {} (the gateway starts)", stage.page));
    let end = tokio::select! {
        ready = stage.ready() => ready?,
        () = stop.asked() => Some(End::Asked),
    };
    let end = match end {
        Some(end) => end,
        None => stage.play(&options, &mut stop).await?,
    };
    let dead = matches!(end, End::Died);
    if dead {
        eprintln!("The gateway died. Its last words:\n{}", stage.gateway.last_words());
    }
    let view = stage.view(options.lasts).await;
    let Stage { gateway, .. } = stage;
    let status = gateway.stop().await?;
    say(&format!("{}\nThe gateway stopped: {status}.", view.screen()));
    // An end before anything could be granted is only a failure where it came by itself.
    let idle = view.seen.granted == 0 && matches!(end, End::Over);
    if idle {
        eprintln!("No car was given a bay.");
    }
    Ok(if dead || idle { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Why the demo ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Asked,
    Over,
    Died,
}

/// Everything that was set up.
struct Stage {
    site: Arc<Site>,
    devices: Arc<Devices>,
    gateway: Gateway,
    page: String,
    http: SocketAddr,
    /// Taken when the drivers start.
    world: Option<World>,
    drivers: Drivers,
    arrived: Arc<Mutex<Arrived>>,
    network: watch::Sender<bool>,
    powerless: Option<UnitIx>,
    speed: u32,
    /// When the gateway was ready.
    began: Instant,
    trouble: Vec<String>,
}

impl Stage {
    /// Starts devices, broker and gateway, each pointed at the next.
    async fn set(options: &Options, folder: &Folder) -> io::Result<Stage> {
        let config = files::write(folder.path())?;
        let loaded = crate::config::load(&config).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            io::Error::other(problems.join("\n"))
        })?;
        let site = Arc::new(loaded.site);
        let (devices, listeners) = Devices::bind(&site)?;
        let devices = Arc::new(devices);
        let serving = devices.clone();
        thread("demo-devices", async move {
            if let Err(error) = serving.serve(listeners).await {
                eprintln!("the demo's devices ended: {error}");
            }
        })?;
        let city = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let broker = city.local_addr()?;
        let arrived = Arc::new(Mutex::new(Arrived::default()));
        let (network, up) = watch::channel(true);
        tokio::spawn(broker::serve(city, arrived.clone(), up));
        let http = http_address(options.http)?;
        let lines = (0..).map(LineIx).zip(&site.lines);
        let wiring = Wiring {
            endpoints: lines.map(|(ix, line)| (line.id.clone(), devices.endpoint(ix))).collect(),
            http,
            broker,
            store: folder.path().join("store"),
            speed: options.speed,
        };
        files::wire(folder.path(), &wiring)?;
        let world = World::new(site.clone(), Habits { seed: options.seed, ..Habits::default() });
        let drivers = Drivers {
            site: site.clone(),
            devices: devices.clone(),
            gateway: http,
            speed: options.speed,
            seen: Arc::new(Mutex::new(Seen::default())),
        };
        drivers.dress(&world);
        let gateway = Gateway::start(&config, options.speed, folder.path().join("parkway.log"))?;
        let units = (0..).map(UnitIx).zip(&site.units);
        let powerless = units.into_iter().find(|(_, unit)| unit.id == POWERLESS).map(|(ix, _)| ix);
        Ok(Stage {
            devices,
            gateway,
            page: format!("http://{http}/"),
            http,
            world: Some(world),
            drivers,
            arrived,
            network,
            powerless,
            speed: options.speed,
            began: Instant::now(),
            trouble: Vec::new(),
            site,
        })
    }

    /// Waits until drivers can be guided; `Some` where that will not be.
    async fn ready(&mut self) -> io::Result<Option<End>> {
        let began = Instant::now();
        let mut ready_at = None;
        while began.elapsed() < READY_MAX {
            tokio::select! {
                ended = self.gateway.ended() => return ended.map(|_| Some(End::Died)),
                () = tokio::time::sleep(Duration::from_millis(100)) => (),
            }
            if ready_at.is_none()
                && let Ok((200, _)) = http::ask(self.http, "GET", "/readyz", None).await
            {
                ready_at = Some(Instant::now());
            }
            let Some(ready_at) = ready_at else { continue };
            let state = http::ask(self.http, "GET", "/v1/state", None).await;
            if state.is_ok_and(|(_, state)| settled(&state)) || ready_at.elapsed() > SETTLE_MAX {
                return Ok(None);
            }
        }
        Err(io::Error::other(format!(
            "the gateway was not ready after {READY_MAX:?}. Its last words:\n{}",
            self.gateway.last_words()
        )))
    }

    /// Lets the cars go, and shows what happens until it ends.
    async fn play(&mut self, options: &Options, stop: &mut Stop) -> io::Result<End> {
        self.began = Instant::now();
        if let Some(world) = self.world.take() {
            thread("demo-drivers", self.drivers.clone().drive(world))?;
        }
        let screen = io::stdout().is_terminal();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut ticks: u64 = 0;
        loop {
            tokio::select! {
                () = stop.asked() => return Ok(End::Asked),
                ended = self.gateway.ended() => return ended.map(|_| End::Died),
                _ = second.tick() => (),
            }
            let elapsed = self.began.elapsed();
            if options.lasts.is_some_and(|lasts| elapsed >= lasts) {
                return Ok(End::Over);
            }
            self.trouble(elapsed, &options.outages);
            if screen {
                let text = self.view(options.lasts).await.screen();
                // Home, each line to its end, and nothing below: no flicker.
                say_raw(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")));
            } else if ticks.is_multiple_of(5) {
                say(&self.view(options.lasts).await.line());
            }
            ticks += 1;
        }
    }

    /// Breaks what is due to be broken, and mends it again.
    fn trouble(&mut self, elapsed: Duration, outages: &[Duration]) {
        self.trouble.clear();
        let cut = network_cut(elapsed, outages);
        self.network.send_if_modified(|up| std::mem::replace(up, !cut) == cut);
        if cut {
            self.trouble.push("the network is cut".to_owned());
        }
        let dark = power_cut(elapsed);
        if let Some(unit) = self.powerless {
            self.devices.set_silent(unit, dark);
        }
        if dark {
            self.trouble.push(format!("{POWERLESS} has no power"));
        }
    }

    async fn view(&self, lasts: Option<Duration>) -> View {
        // The gateway not answering is worth showing, not worth ending for.
        let state = http::ask(self.http, "GET", "/v1/state", None).await;
        let state = state.ok().filter(|(status, _)| *status == 200);
        let elapsed = self.began.elapsed();
        let signs = SIGNS.iter().filter_map(|id| self.site.sign(id));
        View {
            page: self.page.clone(),
            elapsed_s: lasts.map_or(elapsed, |lasts| elapsed.min(lasts)).as_secs(),
            speed: self.speed,
            seen: lock(&self.drivers.seen).clone(),
            arrived: lock(&self.arrived).clone(),
            state: state.map_or(Value::Null, |(_, state)| state),
            signs: signs.map(|sign| self.sign(sign)).collect(),
            trouble: self.trouble.clone(),
        }
    }

    fn sign(&self, ix: SignIx) -> (String, String) {
        let sign = &self.site.signs[ix.at()];
        let name = if sign.name == sign.id { &sign.id } else { &sign.name };
        (name.chars().take(40).collect(), self.devices.shows(ix).to_string())
    }
}

/// Whether every controller that has bays is believed.
fn settled(state: &Value) -> bool {
    let units = state["units"].as_array();
    units.is_some_and(|units| {
        units.iter().all(|unit| unit["bays"].as_u64() == Some(0) || unit["fresh"] == true)
    })
}

/// Whether the network is down at this time: each outage begins half a minute after the last.
fn network_cut(elapsed: Duration, outages: &[Duration]) -> bool {
    let mut begins = BEFORE_OUTAGE;
    for outage in outages {
        let ends = begins + *outage;
        if (begins..ends).contains(&elapsed) {
            return true;
        }
        begins = ends + BEFORE_OUTAGE;
    }
    false
}

/// Whether the powerless controller is without power at this time.
fn power_cut(elapsed: Duration) -> bool {
    let since = elapsed.checked_sub(POWER_FIRST);
    since.is_some_and(|since| since.as_secs() % POWER_EVERY.as_secs() < POWER_CUT.as_secs())
}

/// Where the page will be: what was asked for, or 8080, or any free port.
fn http_address(asked: Option<SocketAddr>) -> io::Result<SocketAddr> {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, 8_080));
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let bind = |address| std::net::TcpListener::bind(address)?.local_addr();
    match asked {
        // Asked for and taken: an error that says so beats a page elsewhere.
        Some(address) => bind(address)
            .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}"))),
        None => bind(usual).or_else(|_| bind(any)),
    }
}

/// The two ways to ask a program to end.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> io::Result<Stop> {
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Ok(Stop { interrupt: signal(interrupt)?, terminate: signal(terminate)? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
        }
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Runs something on a thread of its own, for as long as the process lives.
fn thread(name: &str, work: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    let runtime = runtime()?;
    std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(work))?;
    Ok(())
}

fn say(text: &str) {
    say_raw(&format!("{text}\n"));
}

/// Prints; a terminal that went away is no reason to leave the gateway running.
fn say_raw(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Takes a lock on what is only shown: a panic elsewhere does not spoil it.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_come_half_a_minute_after_each_other() {
        let outages = [60, 10].map(Duration::from_secs);
        let cut = |s| network_cut(Duration::from_secs(s), &outages);
        let seen: Vec<u64> = (1..200).filter(|s| cut(*s) != cut(*s - 1)).collect();
        assert_eq!(seen, [30, 90, 120, 130]);
        assert!(!network_cut(Duration::from_secs(40), &[]));
    }

    #[test]
    fn the_power_goes_and_comes_back() {
        let cut = |s| power_cut(Duration::from_secs(s));
        let seen: Vec<u64> = (1..300).filter(|s| cut(*s) != cut(*s - 1)).collect();
        assert_eq!(seen, [40, 60, 220, 240]);
    }

    #[test]
    fn a_taken_port_is_told_only_where_it_was_asked_for() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = taken.local_addr().expect("it is bound");
        let error = http_address(Some(address)).expect_err("it is taken");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert!(http_address(None).is_ok_and(|address| address.port() > 0));
    }
}
