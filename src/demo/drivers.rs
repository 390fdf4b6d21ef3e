//! Lets the world happen: asks the gateway over HTTP for each car and moves the devices.
//!
//! Runs on a thread of its own, so that what a car waits for its answer is the gateway's doing and
//! not the screen's or the broker's.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use super::devices::Devices;
use super::http;
use super::world::{Answer, CarIx, Counts, Effect, Given, Input, World};
use crate::site::{BayIx, GarageIx, Scope, Site, Target, ZoneIx};

/// Requests under way at once: more than a gateway that answers needs, and few enough that one
/// that does not is left alone.
const ASKS_MAX: usize = 64;

/// Waits kept for the percentiles on the screen.
const WAITS_KEPT: usize = 10_000;

/// What the screen shows of the drivers.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub counts: Counts,
    /// Answers to allocations, whatever they said.
    pub answered: u64,
    /// Allocations with a lease.
    pub granted: u64,
    /// Of these, answered before they were on disk.
    pub not_durable: u64,
    /// Newest waits for an answer to an allocation, in µs.
    waits_us: VecDeque<u32>,
}

impl Seen {
    fn waited(&mut self, wait: Duration) {
        if self.waits_us.len() == WAITS_KEPT {
            self.waits_us.pop_front();
        }
        self.waits_us.push_back(u32::try_from(wait.as_micros()).unwrap_or(u32::MAX));
    }

    /// The wait that `percent` of the newest did not exceed, in ms; `None` before the first.
    pub fn wait_ms(&self, percent: usize) -> Option<f64> {
        let mut waits: Vec<u32> = self.waits_us.iter().copied().collect();
        waits.sort_unstable();
        let at = (waits.len() * percent).div_ceil(100).checked_sub(1)?;
        waits.get(at).map(|us| f64::from(*us) / 1_000.0)
    }
}

/// What the drivers share with the rest of the demo.
#[derive(Clone)]
pub struct Drivers {
    pub site: Arc<Site>,
    pub devices: Arc<Devices>,
    pub gateway: SocketAddr,
    pub speed: u32,
    pub seen: Arc<Mutex<Seen>>,
}

/// One car's question.
struct Question {
    car: CarIx,
    path: String,
    body: Value,
    /// A new allocation, not a word about an old one.
    new: bool,
}

impl Drivers {
    /// Puts the devices into the state that the world begins with.
    pub fn dress(&self, world: &World) {
        for bay in (0..).map(BayIx).take(self.site.bays.len()) {
            self.devices.set_bay(bay, world.taken(bay));
            self.devices.set_fault(bay, world.faulty(bay));
        }
    }

    /// Plays the world until the thread ends.
    pub async fn drive(self, mut world: World) {
        let began = Instant::now();
        let now_ms = || began.elapsed().as_millis() as u64 * u64::from(self.speed);
        // As many answers may wait as questions may be under way.
        let (answered, mut answers) = mpsc::channel(ASKS_MAX);
        let asks = Arc::new(Semaphore::new(ASKS_MAX));
        let mut effects = Vec::new();
        loop {
            let due_ms = world.due_ms().unwrap_or(u64::MAX).saturating_sub(now_ms());
            let wait = Duration::from_millis(due_ms.div_ceil(u64::from(self.speed)).min(1_000));
            let input = tokio::select! {
                biased;
                Some((car, answer)) = answers.recv() => Input::Answered { car, answer },
                () = tokio::time::sleep(wait) => Input::Tick,
            };
            world.step(now_ms(), input, &mut effects);
            for effect in effects.drain(..) {
                let Some(question) = self.carry_out(effect) else { continue };
                let (drivers, asks, answered) = (self.clone(), asks.clone(), answered.clone());
                tokio::spawn(async move {
                    let Ok(_turn) = asks.acquire().await else { return };
                    let answer = drivers.ask(&question).await;
                    // Fails only when the demo ends.
                    let _ = answered.send((question.car, answer)).await;
                });
            }
            super::lock(&self.seen).counts = world.counts();
        }
    }

    /// Moves the devices; what a car wants to know becomes a question.
    fn carry_out(&self, effect: Effect) -> Option<Question> {
        match effect {
            Effect::Bay { bay, taken } => self.devices.set_bay(bay, taken),
            Effect::Fault { bay, faulty } => self.devices.set_fault(bay, faulty),
            Effect::Door { garage, way } => self.devices.count(garage, way),
            Effect::Tell { car, lease } => {
                let path = format!("/v1/allocations/{lease}/bay-taken");
                return Some(Question { car, path, body: json!({}), new: false });
            }
            Effect::Ask { car, at, class, destination } => {
                let mut body = json!({
                    "request_id": format!("demo-{}", car.0),
                    "at": self.site.nodes[at.at()].id,
                    "class": self.site.classes[class.at()].id,
                    "plate_tail": plate_tail(car),
                });
                if let Some(destination) = destination {
                    body["destination"] = json!(self.site.destinations[destination.at()].id);
                }
                let path = "/v1/allocations".to_owned();
                return Some(Question { car, path, body, new: true });
            }
        }
        None
    }

    async fn ask(&self, question: &Question) -> Answer {
        let began = Instant::now();
        let reply = http::ask(self.gateway, "POST", &question.path, Some(&question.body)).await;
        let answer = answer(&self.site, &reply);
        if question.new && reply.is_ok() {
            let mut seen = super::lock(&self.seen);
            seen.waited(began.elapsed());
            seen.answered += 1;
            if matches!(answer, Answer::Given(_)) {
                seen.granted += 1;
                let durable = reply.is_ok_and(|(_, reply)| reply["durable"] == true);
                seen.not_durable += u64::from(!durable);
            }
        }
        answer
    }
}

/// What a reply means to a driver.
fn answer(site: &Site, reply: &io::Result<(u16, Value)>) -> Answer {
    let (status, reply) = match reply {
        Ok((status, reply)) => (*status, reply),
        Err(_) => return Answer::Failed,
    };
    match given(site, reply) {
        Some(given) if status == 200 => Answer::Given(given),
        Some(_) | None => Answer::Refused,
    }
}

fn given(site: &Site, reply: &Value) -> Option<Given> {
    // A lease that has ended promises nothing.
    if !reply["end"].is_null() {
        return None;
    }
    let target = |key: &str| site.target(reply[key].as_str()?);
    let garage: GarageIx = match target("garage")? {
        Target::Scope(scope) => site.scope_garage(scope),
        Target::Node(_) | Target::Link(_) | Target::Bay(_) => return None,
    };
    let zone: Option<ZoneIx> = match target("zone") {
        Some(Target::Scope(Scope::Zone(zone))) => Some(zone),
        Some(_) | None => None,
    };
    let bay: Option<BayIx> = match target("bay") {
        Some(Target::Bay(bay)) => Some(bay),
        Some(_) | None => None,
    };
    let lease = reply["lease"].as_str()?.to_owned();
    let travel_s = reply["travel_s"].as_u64()?.min(3_600);
    Some(Given { lease, garage, zone, bay, travel_s })
}

/// Two letters and two digits, like the end of a plate.
fn plate_tail(car: CarIx) -> String {
    let letter = |n: u64| char::from(b'A' + (n % 26) as u8);
    let n = car.0.wrapping_mul(7_919);
    format!("{}{}{:02}", letter(n), letter(n / 26), n / 676 % 100)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::world::Habits;
    use super::*;

    fn site() -> Site {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/jiefangbei/parkway.toml");
        crate::config::load(std::path::Path::new(path)).expect("it is accepted").site
    }

    #[test]
    fn replies_become_promises() {
        let site = site();
        let whole = json!({
            "lease": "0a1b2c3d-1", "promise": "bay", "garage": "g01", "zone": "g01/B1/A",
            "bay": "g01/B1/A/017", "travel_s": 240, "end": null,
        });
        let Answer::Given(given) = answer(&site, &Ok((200, whole.clone()))) else {
            panic!("a promise was not understood")
        };
        assert_eq!((given.lease.as_str(), given.travel_s), ("0a1b2c3d-1", 240));
        assert_eq!(given.bay.map(|bay| site.bay_id(bay)).as_deref(), Some("g01/B1/A/017"));
        let changed = |key: &str, value: Value| {
            let mut reply = whole.clone();
            reply[key] = value;
            answer(&site, &Ok((200, reply)))
        };
        let Answer::Given(garage_only) = changed("bay", Value::Null) else {
            panic!("a promise without a bay was not understood")
        };
        assert_eq!(garage_only.bay, None);
        for (key, value) in
            [("lease", Value::Null), ("end", json!("displaced")), ("garage", json!("g99"))]
        {
            assert_eq!(changed(key, value), Answer::Refused, "{key}");
        }
        assert_eq!(answer(&site, &Ok((503, whole))), Answer::Refused);
        assert_eq!(answer(&site, &Err(io::ErrorKind::TimedOut.into())), Answer::Failed);
    }

    /// A gateway in name only: promises the bays of g01 in turn, ten seconds' drive away.
    #[tokio::test]
    async fn cars_ask_park_and_move_detectors_and_loops() {
        let site = Arc::new(site());
        let (devices, listeners) = Devices::bind(&site).expect("ports are free");
        drop(listeners);
        let devices = Arc::new(devices);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let gateway = listener.local_addr().expect("it is bound");
        tokio::spawn(promise(listener));
        let habits = Habits { taken_percent: 20, obey_percent: 100, ..Habits::default() };
        let world = World::new(site.clone(), habits);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let drivers =
            Drivers { site, devices: devices.clone(), gateway, speed: 100, seen: seen.clone() };
        drivers.dress(&world);
        let before = devices.occupied();
        assert_eq!(before, world.counts().taken);
        let driving = tokio::spawn(drivers.drive(world));
        let parked = async {
            while super::super::lock(&seen).counts.as_promised < 20 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), parked).await.expect("cars park in time");
        driving.abort();
        let _ = driving.await;
        let seen = super::super::lock(&seen).clone();
        let counts = seen.counts;
        assert_eq!(devices.occupied(), counts.taken, "detectors tell another story: {counts:?}");
        assert_eq!(
            devices.occupied(),
            before + counts.as_promised + counts.elsewhere - counts.left
        );
        assert!(seen.granted >= 20 && seen.not_durable == 0, "{seen:?}");
        assert!(seen.wait_ms(50).is_some_and(|ms| ms > 0.0));
    }

    async fn promise(listener: TcpListener) {
        for number in 1.. {
            let (mut stream, _) = listener.accept().await.expect("a car asks");
            let mut request = vec![0; 4_096];
            let length = stream.read(&mut request).await.expect("it asks");
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let new = request.contains("\"request_id\":\"demo-");
            assert!(new || request.contains("/bay-taken"), "{request}");
            let bay = format!("g01/B1/A/{:03}", number % 180 + 1);
            let reply = json!({
                "lease": format!("00000000-{number}"), "garage": "g01", "zone": "g01/B1/A",
                "bay": bay, "travel_s": 10, "durable": true, "end": null,
            });
            let reply = format!("HTTP/1.1 200 OK\r\n\r\n{reply}");
            stream.write_all(reply.as_bytes()).await.expect("it listens");
        }
    }

    #[test]
    fn percentiles_are_of_the_newest_waits() {
        let mut seen = Seen::default();
        assert_eq!(seen.wait_ms(50), None);
        (0..WAITS_KEPT).for_each(|_| seen.waited(Duration::from_secs(9)));
        (1..=WAITS_KEPT as u64).for_each(|ms| seen.waited(Duration::from_micros(ms)));
        assert_eq!(seen.wait_ms(50), Some(5.0));
        assert_eq!(seen.wait_ms(99), Some(9.9));
    }

    #[test]
    fn plates_end_in_four_characters() {
        let tails: std::collections::BTreeSet<_> = (1..500).map(CarIx).map(plate_tail).collect();
        assert!(tails.iter().all(|tail| tail.len() == 4));
        assert_eq!(tails.len(), 499);
    }
}
