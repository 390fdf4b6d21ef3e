//! The uplink's loop: connects, carries out what the outbox orders, and never thinks.
//!
//! Every error ends the connection, and every connection begins from the store. Between two of them
//! it waits 1 to 60 s, with jitter, so that a hundred gateways do not come back as one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::v5::MqttOptions;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, Publish};
use tokio::sync::{Semaphore, mpsc, watch};

use super::backoff::Backoff;
use super::command::{self, Fault, Reply};
use super::link::{Heard, Link, Lost};
use super::refused::Refused;
use super::state::{Absence, Board, PACE, Presence, stamped};
use super::{Parts, lock, password, tls};
use crate::gateway::Snapshot;
use crate::outbox::{Effect, Input, Limits, Outbox, Totals, Verdict};
use crate::record::Lane;
use crate::store::{Chunk, Found, Tide};
use crate::time::{Clock, Mono};

/// A connection that lived so long counts as a good one, and waits begin anew.
const STABLE: Duration = Duration::from_secs(30);
/// Refused commands are logged at most this often; the metric has them all.
const REFUSALS_TOLD_EVERY: Duration = Duration::from_secs(10);
/// How soon state is looked at again that the link had no room for.
const NO_ROOM: Duration = Duration::from_millis(250);
/// Commands carried out at once; each may wait for a commit.
const COMMANDS_MAX: usize = 8;
/// Answers that wait for the loop: a platform's burst after an outage, each of them answered.
const REPLIES_MAX: usize = 64;
/// How long a goodbye may take to reach the wire.
const GOODBYE_MAX: Duration = Duration::from_secs(1);
/// An envelope and its topic, above the records, in bytes.
const ENVELOPE_BYTES: usize = 512;

pub struct Worker {
    parts: Parts,
    base: String,
    /// The link's own waits are real time, whatever the speed of the gateway's clock.
    clock: Clock,
    outbox: Outbox,
    /// Of outboxes before this one.
    earlier: Totals,
    tide: watch::Receiver<Tide>,
    seen: Tide,
    /// Why a chunk is put aside, by lane.
    aside_why: [&'static str; 3],
    refused: Refused,
    board: Board,
    pictures: watch::Receiver<Arc<Snapshot>>,
    /// A picture came that was not looked at, and when the next may be.
    fresh: bool,
    look_at: Instant,
    replies_in: mpsc::Sender<(Reply, bool)>,
    replies: mpsc::Receiver<(Reply, bool)>,
    commands: Arc<Semaphore>,
    /// When a refused command was last logged.
    refusal_told: Option<Instant>,
}

/// Why a connection ended.
enum End {
    Stopped,
    Lost { why: String, unwelcome: bool, lasted: Duration },
}

impl Worker {
    pub fn new(parts: Parts) -> Worker {
        let tide = parts.store.tide();
        let (replies_in, replies) = mpsc::channel(REPLIES_MAX);
        Worker {
            base: format!("parkway/{}", parts.site.id),
            clock: Clock::real(),
            outbox: Outbox::new(limits(&parts)),
            earlier: Totals::default(),
            tide,
            seen: Tide::default(),
            aside_why: [""; 3],
            refused: Refused::default(),
            board: Board::default(),
            pictures: parts.handle.follow(),
            fresh: false,
            look_at: Instant::now(),
            replies_in,
            replies,
            commands: Arc::new(Semaphore::new(COMMANDS_MAX)),
            refusal_told: None,
            parts,
        }
    }

    /// Until the stop.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut stop = self.parts.stop.clone();
        loop {
            let (why, unwelcome) = match self.connection(&mut stop).await {
                End::Stopped => return,
                End::Lost { why, unwelcome, lasted } => {
                    if lasted >= STABLE {
                        backoff = Backoff::default();
                    }
                    (why, unwelcome)
                }
            };
            let wait = backoff.wait(unwelcome);
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            self.disconnected(&why, unwelcome, wait_ms);
            tokio::select! {
                () = tokio::time::sleep(wait) => (),
                _ = stop.changed() => return,
            }
        }
    }

    fn disconnected(&mut self, why: &str, unwelcome: bool, wait_ms: u64) {
        let mut status = lock(&self.parts.status);
        let was_connected = status.connected_since.take().is_some();
        // Told once an outage: the first attempt of a start counts as its beginning too.
        let news = was_connected || status.last_error.is_none();
        let broker = &self.parts.mqtt.broker;
        if unwelcome {
            tracing::error!(broker, why, wait_ms, "uplink: the broker refuses us");
        } else if news {
            tracing::warn!(broker, why, wait_ms, "uplink: no connection; records wait");
        } else {
            tracing::debug!(why, wait_ms, "uplink: still no connection");
        }
        status.last_error = Some(why.to_owned());
        status.in_flight = 0;
    }

    async fn connection(&mut self, stop: &mut watch::Receiver<bool>) -> End {
        let mut since: Option<Instant> = None;
        let lost = |why: String, unwelcome, since: Option<Instant>| {
            let lasted = since.map_or(Duration::ZERO, |since| since.elapsed());
            End::Lost { why, unwelcome, lasted }
        };
        let options = match self.options() {
            Ok(options) => options,
            Err(why) => return lost(why, true, None),
        };
        let mut link = Link::open(options, self.parts.mqtt.accept_unheard);
        loop {
            let due = self.outbox.due().map(|due| self.clock.wait(due));
            let tide_alive = self.tide.has_changed().is_ok();
            let (up, fresh) = (since.is_some(), self.fresh);
            let look = fresh.then(|| self.look_at.saturating_duration_since(Instant::now()));
            let ended = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => {
                    if since.is_some() {
                        self.say_goodbye(&mut link).await;
                    }
                    return End::Stopped;
                }
                heard = link.next() => self.heard(&mut link, heard, &mut since),
                // A reply given to a client that does not connect would be lost.
                Some((reply, ok)) = self.replies.recv(), if up => {
                    self.answer(&mut link, reply, ok)
                }
                changed = self.tide.changed(), if tide_alive => {
                    changed.map_or(Ok(()), |()| self.follow_tide(&mut link))
                }
                // While one waits to be looked at, newer ones need not wake us.
                Ok(()) = self.pictures.changed(), if up && !fresh => {
                    self.fresh = true;
                    Ok(())
                }
                () = sleep(look), if up && fresh => self.looked(&mut link),
                () = sleep(due), if due.is_some() => self.step(&mut link, Input::Tick),
            };
            self.note();
            if let Err(Lost { why, unwelcome }) = ended {
                self.offline(Input::LinkDown);
                return lost(why, unwelcome, since);
            }
        }
    }

    fn heard(
        &mut self,
        link: &mut Link,
        heard: Heard,
        since: &mut Option<Instant>,
    ) -> Result<(), Lost> {
        match heard {
            Heard::Up { receive_max } => {
                *since = Some(Instant::now());
                self.connected(link, receive_max)
            }
            Heard::Acked { lane, token, verdict, reason } => {
                let reason = format!("{reason:?}");
                if verdict == Verdict::Refused && !self.outbox.refuses(lane) {
                    let lane = lane.name();
                    tracing::error!(lane, reason, "uplink: the broker does not take records");
                }
                self.step(link, Input::Acked { lane, token, verdict })?;
                self.refused.answered(lane, self.outbox.refusals(lane), &reason);
                Ok(())
            }
            Heard::Message(publish) => {
                self.command(&publish);
                Ok(())
            }
            Heard::Lost(lost) => Err(lost),
            Heard::Goodbye | Heard::Nothing => Ok(()),
        }
    }

    fn connected(&mut self, link: &mut Link, receive_max: usize) -> Result<(), Lost> {
        tracing::info!(broker = self.parts.mqtt.broker, receive_max, "uplink: connected");
        {
            let mut status = lock(&self.parts.status);
            status.connected_since = Some(self.parts.clock.now());
            let again = status.totals.sent > 0 || status.last_error.is_some();
            status.reconnects += u64::from(again);
            status.last_error = None;
        }
        if !link.subscribe(&format!("{}/commands/#", self.base)) {
            tracing::warn!("uplink: no room to subscribe to commands");
        }
        self.board = Board::default();
        self.follow_store();
        self.send_state(link);
        self.step(link, Input::LinkUp { receive_max })
    }

    /// State, and with it whatever could not be done before: a picture comes at least every second.
    fn looked(&mut self, link: &mut Link) -> Result<(), Lost> {
        self.send_state(link);
        self.step(link, Input::Tick)
    }

    fn send_state(&mut self, link: &mut Link) {
        let at = self.parts.clock.now();
        let status = self.parts.store.status();
        let clock_good = self.parts.clock.good_since().is_some();
        let Parts { site, boot, .. } = &self.parts;
        let presence = Presence::new(site, boot, &status, clock_good);
        let mut sent = u64::from(self.board.send_presence(link, &self.base, at, presence));
        let picture = self.pictures.borrow_and_update().clone();
        sent += self.board.send(link, &self.base, Instant::now(), &picture);
        lock(&self.parts.status).state_sent += sent;
        self.fresh = link.is_full();
        let rest = match (self.fresh, sent) {
            (true, _) => NO_ROOM,
            // After a rest the first change is told at once.
            (false, 0) => Duration::ZERO,
            (false, _) => PACE,
        };
        self.look_at = Instant::now() + rest;
    }

    /// New marks of the store. Another opening of it ends the connection: answers still on their
    /// way belong to what was read before.
    fn follow_tide(&mut self, link: &mut Link) -> Result<(), Lost> {
        if self.tide.borrow().generation != self.seen.generation && self.seen.generation != 0 {
            let why = "the store was opened anew".to_owned();
            return Err(Lost { why, unwelcome: false });
        }
        let inputs = self.news();
        for input in inputs {
            self.step(link, input)?;
        }
        Ok(())
    }

    /// The same without a link: nothing can be ordered to be sent.
    fn follow_store(&mut self) {
        if self.tide.borrow().generation != self.seen.generation {
            let now = self.outbox.totals();
            self.earlier = sum(self.earlier, now);
            self.outbox = Outbox::new(limits(&self.parts));
            self.seen = Tide::default();
        }
        for input in self.news() {
            self.offline(input);
        }
    }

    fn news(&mut self) -> Vec<Input> {
        let tide = *self.tide.borrow_and_update();
        let mut inputs = Vec::new();
        for lane in Lane::ALL {
            let (next, upto) = (tide.committed[lane as usize], tide.removed[lane as usize]);
            if next != self.seen.committed[lane as usize] {
                inputs.push(Input::Committed { lane, next });
            }
            if upto != self.seen.removed[lane as usize] {
                inputs.push(Input::Removed { lane, upto });
            }
        }
        self.seen = tide;
        inputs
    }

    /// Carries out one input and all that follows from it.
    fn step(&mut self, link: &mut Link, input: Input) -> Result<(), Lost> {
        let mut inputs = VecDeque::from([input]);
        let mut effects = Vec::new();
        while let Some(input) = inputs.pop_front() {
            self.outbox.step(self.now(), input, &mut effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Send { lane, token, from, before } => {
                        inputs.push_back(self.send(link, lane, token, from, before));
                    }
                    Effect::Remove { lane, first, last } => {
                        self.parts.store.remove(self.epoch(), lane, first, last)
                    }
                    Effect::PutAside { lane, first } => {
                        let why = self.aside_why[lane as usize];
                        self.parts.store.put_aside(self.epoch(), lane, first, why);
                    }
                    Effect::Hurry => self.parts.store.hurry(),
                    Effect::Rebuild => {
                        let why = "no acknowledgement in time".to_owned();
                        return Err(Lost { why, unwelcome: false });
                    }
                }
            }
        }
        Ok(())
    }

    /// An input while there is no link.
    fn offline(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.outbox.step(self.now(), input, &mut effects);
        for effect in effects {
            match effect {
                Effect::PutAside { lane, first } => {
                    let why = self.aside_why[lane as usize];
                    self.parts.store.put_aside(self.epoch(), lane, first, why);
                }
                Effect::Remove { lane, first, last } => {
                    self.parts.store.remove(self.epoch(), lane, first, last)
                }
                Effect::Send { .. } | Effect::Hurry | Effect::Rebuild => {
                    unreachable!("the outbox orders no sending without a link")
                }
            }
        }
    }

    fn send(&mut self, link: &mut Link, lane: Lane, token: u64, from: u64, before: u64) -> Input {
        let bytes_max = link.packet_max.saturating_sub(ENVELOPE_BYTES);
        match self.parts.store.read(self.epoch(), lane, from, before, bytes_max) {
            Found::Chunk(chunk) => {
                let (first, last) = (chunk.first, chunk.last);
                if chunk.json.len() + ENVELOPE_BYTES > link.packet_max {
                    self.aside_why[lane as usize] = "bigger than the broker accepts";
                    return Input::Unreadable { lane, first };
                }
                let gateway = &self.parts.site.gateway;
                let payload = envelope(gateway, self.epoch(), lane, &chunk);
                let topic = format!("{}/{}", self.base, lane.name());
                if link.send_chunk(&topic, payload, lane, token) {
                    Input::Sent { lane, token, first, last, records: u64::from(chunk.count) }
                } else {
                    Input::Busy { lane }
                }
            }
            Found::Nothing => Input::Absent { lane },
            Found::Unreadable { first } => {
                self.aside_why[lane as usize] = "the disk returned nonsense";
                Input::Unreadable { lane, first }
            }
            Found::Away => Input::Busy { lane },
        }
    }

    /// Checks a command and puts it to the owner; the answer comes back through the loop.
    fn command(&mut self, publish: &Publish) {
        let mut reply = command::address(publish, &self.base);
        let clock = &self.parts.clock;
        let now = clock.good_since().map(|_| clock.now().wall);
        let parsed = command::parse(publish, &self.base, &self.parts.site, now);
        let room = self.commands.clone().try_acquire_owned();
        let (command, room) = match (parsed, room) {
            (Ok(command), Ok(room)) => (command, room),
            (Ok(_), Err(_)) => {
                let fault = command::fault("busy", "too many commands at once; try again");
                return self.refuse(reply, fault);
            }
            (Err(fault), _) => return self.refuse(reply, fault),
        };
        tracing::info!(id = reply.body.id, ask = ?command.ask, "uplink: command");
        let (handle, replies) = (self.parts.handle.clone(), self.replies_in.clone());
        tokio::spawn(async move {
            let outcome = command::carry_out(command, handle).await;
            reply.body.ok = outcome.is_ok();
            reply.body.error = outcome.err();
            let ok = reply.body.ok;
            // The loop may be between two connections; the answer then waits for the next one.
            let _ = replies.send((reply, ok)).await;
            drop(room);
        });
    }

    fn refuse(&mut self, mut reply: Reply, fault: Fault) {
        // Each is counted; a flood of them must not become a flood of lines.
        if self.refusal_told.is_none_or(|at| at.elapsed() >= REFUSALS_TOLD_EVERY) {
            self.refusal_told = Some(Instant::now());
            tracing::warn!(id = reply.body.id, code = fault.code, "uplink: command refused");
        }
        reply.body.ok = false;
        reply.body.error = Some(fault);
        // What names nobody to answer takes no room from one that does. A flood of bad commands
        // gets no more answers than fit; all of them are counted.
        if reply.topic.is_none() {
            lock(&self.parts.status).commands_refused += 1;
            return;
        }
        if let Err(error) = self.replies_in.try_send((reply, false)) {
            tracing::debug!(%error, "uplink: no room for a reply");
            lock(&self.parts.status).commands_refused += 1;
        }
    }

    fn answer(&mut self, link: &mut Link, reply: Reply, ok: bool) -> Result<(), Lost> {
        {
            let mut status = lock(&self.parts.status);
            status.commands_done += u64::from(ok);
            status.commands_refused += u64::from(!ok);
        }
        if let Some(topic) = reply.topic {
            let body = serde_json::to_string(&reply.body).expect("a reply is plain data");
            link.send_reply(&topic, body, reply.properties);
        }
        Ok(())
    }

    async fn say_goodbye(&mut self, link: &mut Link) {
        let absence = Absence::new(&self.parts.site.gateway, &self.parts.boot, true);
        let payload = stamped(&absence, self.parts.clock.now());
        link.send_state(&format!("{}/state/gateway", self.base), payload);
        if !link.disconnect() {
            return;
        }
        let gone = async { while !matches!(link.next().await, Heard::Goodbye | Heard::Lost(_)) {} };
        let _ = tokio::time::timeout(GOODBYE_MAX, gone).await;
    }

    fn options(&self) -> Result<MqttOptions, String> {
        let Parts { mqtt, site, boot, clock, .. } = &self.parts;
        let (host, port) = mqtt.broker.rsplit_once(':').ok_or("the broker has no port")?;
        let port: u16 = port.parse().map_err(|_| "the broker's port is no number")?;
        let mut options = MqttOptions::new(site.gateway.clone(), host, port);
        // 5 s is the least the client takes; the configuration asks for no less.
        options.set_keep_alive(Duration::from_secs(u64::from(mqtt.keep_alive_s.max(5))));
        if let Some(user) = &mqtt.user {
            options.set_credentials(user.clone(), password(mqtt)?.unwrap_or_default());
        }
        if let Some(transport) = tls::transport(mqtt)? {
            options.set_transport(transport);
        }
        let will = stamped(&Absence::new(&site.gateway, boot, false), clock.now());
        let topic = format!("{}/state/gateway", self.base);
        options.set_last_will(LastWill::new(topic, will, QoS::AtMostOnce, true, None));
        Ok(options)
    }

    fn note(&mut self) {
        self.refused.tell(|body| self.parts.handle.notice(body));
        let mut status = lock(&self.parts.status);
        status.totals = sum(self.earlier, self.outbox.totals());
        status.in_flight = self.outbox.in_flight() as u64;
        status.refusing = Lane::ALL.map(|lane| self.outbox.refuses(lane));
    }

    /// Of the store that the outbox works on; what is read and removed is only ever of that one.
    fn epoch(&self) -> u64 {
        self.seen.epoch.unwrap_or(0)
    }

    fn now(&self) -> Mono {
        self.clock.now().mono
    }
}

/// A chunk as it goes upstream. Everything put in here is a number or a name without quotes.
pub fn envelope(gateway: &str, epoch: u64, lane: Lane, chunk: &Chunk) -> String {
    let (lane, Chunk { first, last, boot, json, .. }) = (lane.name(), chunk);
    format!(
        "{{\"v\":1,\"gateway\":\"{gateway}\",\"epoch\":\"{epoch:016x}\",\"lane\":\"{lane}\",\
         \"boot\":\"{boot}\",\"first\":{first},\"last\":{last},\"records\":{json}}}"
    )
}

fn limits(parts: &Parts) -> Limits {
    Limits {
        window: parts.mqtt.window as usize,
        replay_per_s: u64::from(parts.mqtt.replay_per_s),
        ack_timeout_ms: u64::from(parts.mqtt.ack_timeout_s) * 1_000,
    }
}

fn sum(a: Totals, b: Totals) -> Totals {
    Totals {
        sent: a.sent + b.sent,
        resent: a.resent + b.resent,
        taken: a.taken + b.taken,
        refused: a.refused + b.refused,
        rebuilds: a.rebuilds + b.rebuilds,
    }
}

/// For ever, where there is nothing to wait for.
async fn sleep(length: Option<Duration>) {
    match length {
        Some(length) => tokio::time::sleep(length).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
pub mod tests {
    /// A small site, by the daemon's own parser.
    pub fn site() -> crate::site::Site {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("parkway.toml");
        std::fs::write(&file, include_str!("../../tests/common/small.toml")).unwrap();
        match crate::config::load(&file) {
            Ok(config) => config.site,
            Err(problems) => panic!("{}", problems[0]),
        }
    }
}
