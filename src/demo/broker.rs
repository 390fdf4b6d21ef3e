//! The city's side: an MQTT broker in this process, a listener that counts what arrives, and a
//! relay in front of it that plays the mobile network.
//!
//! The broker itself never goes away, for rumqttd cannot be stopped; an outage is the relay
//! dropping every connection and every attempt at one. What the listener counts comes from the
//! broker's inside and so is what a consumer in the city would get, outage or not.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rumqttd::{Broker, Config, ConnectionSettings, Notification, RouterConfig, ServerSettings};
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What arrived on one lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lane {
    pub messages: u64,
    /// Records, each once.
    pub records: u64,
    /// Records that came again.
    pub repeats: u64,
    /// Records that a later one overtook: lost, unless the gateway said so in a gap record.
    pub missing: u64,
    next: u64,
}

/// What arrived at the broker.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Arrived {
    pub lanes: BTreeMap<String, Lane>,
    /// Messages of the current state.
    pub state: u64,
    /// Messages that are not what the gateway promises to send.
    pub malformed: u64,
}

/// What is read of a message on a lane.
#[derive(Deserialize)]
struct Chunk {
    epoch: String,
    lane: String,
    first: u64,
    last: u64,
    records: Vec<serde_json::Value>,
}

impl Arrived {
    /// Counts a message.
    fn take(&mut self, topic: &str, payload: &[u8]) {
        if topic.contains("/state/") {
            self.state += 1;
            return;
        }
        let chunk = serde_json::from_slice::<Chunk>(payload);
        let whole = |chunk: &Chunk| {
            let length = chunk.records.len() as u64;
            topic.ends_with(&format!("/{}", chunk.lane))
                && !chunk.epoch.is_empty()
                && chunk.last.checked_sub(chunk.first).is_some_and(|gap| gap + 1 == length)
        };
        let Some(chunk) = chunk.ok().filter(whole) else {
            self.malformed += 1;
            return;
        };
        // The demo's gateway has one store for its life, so one epoch.
        let lane = self.lanes.entry(chunk.lane).or_default();
        let first_ever = lane.messages == 0;
        lane.messages += 1;
        let expected = if first_ever { chunk.first } else { lane.next };
        lane.repeats += expected.min(chunk.last + 1).saturating_sub(chunk.first);
        lane.missing += chunk.first.saturating_sub(expected);
        lane.records += (chunk.last + 1).saturating_sub(expected.max(chunk.first));
        lane.next = expected.max(chunk.last + 1);
    }

    pub fn repeats(&self) -> u64 {
        self.lanes.values().map(|lane| lane.repeats).sum()
    }

    pub fn missing(&self) -> u64 {
        self.lanes.values().map(|lane| lane.missing).sum()
    }
}

/// Starts the broker and the listener, on threads of their own that live as long as the process.
///
/// # Errors
///
/// No port can be had, or the broker's router refuses the listener.
pub fn start() -> io::Result<(SocketAddr, Arc<Mutex<Arrived>>)> {
    // rumqttd binds by itself and does not tell where, so a free port is found for it.
    let listen = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut broker = Broker::new(config(listen));
    let (mut ask, mut inbox) = broker.link("demo-city").map_err(io::Error::other)?;
    ask.subscribe("parkway/#").map_err(io::Error::other)?;
    let arrived = Arc::new(Mutex::new(Arrived::default()));
    let counted = arrived.clone();
    std::thread::Builder::new().name("demo-broker".to_owned()).spawn(move || {
        if let Err(error) = broker.start() {
            eprintln!("the demo's broker ended: {error}");
        }
    })?;
    std::thread::Builder::new().name("demo-city".to_owned()).spawn(move || {
        // `ask` is what keeps the subscription.
        let _ask = ask;
        while let Ok(notification) = inbox.recv() {
            match notification {
                Some(Notification::Forward(forward)) => {
                    let topic = String::from_utf8_lossy(&forward.publish.topic).into_owned();
                    super::lock(&counted).take(&topic, &forward.publish.payload);
                }
                // The router paused after a burst; it goes on when told that we are ready.
                Some(Notification::Unschedule) if inbox.ready().is_err() => break,
                Some(_) | None => (),
            }
        }
    })?;
    Ok((listen, arrived))
}

fn config(listen: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 5_000,
        max_payload_size: 1 << 20,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = ServerSettings {
        name: "demo".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    let router = RouterConfig {
        max_connections: 100,
        max_outgoing_packet_count: 1_000,
        // A topic keeps at most 4 x 4 MiB, so a demo left alone over night stays small.
        max_segment_size: 4 << 20,
        max_segment_count: 4,
        ..RouterConfig::default()
    };
    let v5 = Some(std::iter::once(("1".to_owned(), server)).collect());
    Config { id: 0, router, v5, ..Config::default() }
}

/// Carries connections from `listener` to the broker while `up` is true.
///
/// # Errors
///
/// The port cannot be listened on any more.
pub async fn relay(
    listener: TcpListener,
    broker: SocketAddr,
    up: watch::Receiver<bool>,
) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let up = up.clone();
        if *up.borrow() {
            tokio::spawn(carry(stream, broker, up));
        }
    }
}

async fn carry(mut from: TcpStream, broker: SocketAddr, mut up: watch::Receiver<bool>) {
    let Ok(mut to) = TcpStream::connect(broker).await else { return };
    // Small acknowledgements must not wait for company.
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => (),
        _ = up.wait_for(|up| !up) => (),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{LastWill, Packet, PubAckReason};
    use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn repeats_and_losses_are_told_apart() {
        let mut arrived = Arrived::default();
        for (first, last) in [(5, 7), (8, 9), (8, 12), (5, 12), (15, 15), (16, 17)] {
            arrived.take("parkway/x/events", chunk("events", first, last).as_bytes());
        }
        let lane = arrived.lanes["events"];
        assert_eq!((lane.records, lane.repeats, lane.missing), (11, 10, 2), "{lane:?}");
        for payload in ["{}", "x", &chunk("alarms", 1, 2), &chunk("events", 3, 2)] {
            arrived.take("parkway/x/events", payload.as_bytes());
        }
        assert_eq!(arrived.malformed, 4);
        arrived.take("parkway/x/state/gateway", b"{}");
        assert_eq!(arrived.state, 1);
    }

    #[tokio::test]
    async fn mqtt_5_passes_the_relay_and_an_outage_cuts_it() {
        let (broker, arrived) = start().expect("a port is free");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let door = listener.local_addr().expect("it is bound");
        let (switch, up) = watch::channel(true);
        tokio::spawn(relay(listener, broker, up));

        let will = LastWill::new("parkway/x/state/gateway", "gone", QoS::AtLeastOnce, true, None);
        let (gateway, mut wire) = connect("gateway", door, Some(will)).await;
        for n in 0..200_u64 {
            let text = chunk("events", 3 * n, 3 * n + 2);
            let sent = gateway.publish("parkway/x/events", QoS::AtLeastOnce, false, text);
            sent.await.expect("the client takes it");
            let acked = until(&mut wire, |packet| match packet {
                Packet::PubAck(ack) => Some(ack.reason),
                _ => None,
            });
            assert_eq!(acked.await, PubAckReason::Success, "message {n}");
        }
        let kept = gateway.publish("parkway/x/state/gateway", QoS::AtMostOnce, true, "here");
        kept.await.expect("the client takes it");
        let drive = tokio::spawn(async move { while wire.poll().await.is_ok() {} });

        // Who comes later is told what is kept.
        let (late, mut inbox) = connect("late", broker, None).await;
        // The broker has the kept message a moment after the client has sent it.
        tokio::time::sleep(Duration::from_millis(300)).await;
        late.subscribe("parkway/x/state/#", QoS::AtLeastOnce).await.expect("the client takes it");
        assert_eq!(text(&mut inbox).await, "here");

        // Cut: the connection ends, the will is published, and no new one comes about.
        switch.send(false).expect("the relay listens");
        timeout(Duration::from_secs(5), drive).await.expect("it ends").expect("no panic");
        assert_eq!(text(&mut inbox).await, "gone");
        let (_client, mut again) = client("gateway", door, None);
        assert!(again.poll().await.is_err(), "connected during the outage");
        switch.send(true).expect("the relay listens");
        let _ = connect("gateway", door, None).await;

        let arrived = super::super::lock(&arrived).clone();
        let lane = arrived.lanes["events"];
        assert_eq!((lane.messages, lane.records, lane.missing), (200, 600, 0), "{arrived:?}");
        assert!(arrived.state >= 1, "{arrived:?}");
    }

    fn chunk(lane: &str, first: u64, last: u64) -> String {
        let records: Vec<_> = (first..=last).map(|seq| serde_json::json!({ "seq": seq })).collect();
        serde_json::json!({
            "v": 1, "epoch": "00", "lane": lane, "first": first, "last": last, "records": records,
        })
        .to_string()
    }

    fn client(id: &str, to: SocketAddr, will: Option<LastWill>) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(id, to.ip().to_string(), to.port());
        options.set_keep_alive(Duration::from_secs(5));
        if let Some(will) = will {
            options.set_last_will(will);
        }
        AsyncClient::new(options, 10)
    }

    async fn connect(id: &str, to: SocketAddr, will: Option<LastWill>) -> (AsyncClient, EventLoop) {
        for _ in 0..50 {
            let (client, mut wire) = client(id, to, will.clone());
            if let Ok(Event::Incoming(Packet::ConnAck(_))) = wire.poll().await {
                return (client, wire);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{id} cannot connect");
    }

    async fn text(wire: &mut EventLoop) -> String {
        let payload = until(wire, |packet| match packet {
            Packet::Publish(publish) => Some(publish.payload),
            _ => None,
        });
        String::from_utf8_lossy(&payload.await).into_owned()
    }

    async fn until<T>(wire: &mut EventLoop, wanted: impl Fn(Packet) -> Option<T>) -> T {
        let wait = async {
            loop {
                if let Event::Incoming(packet) = wire.poll().await.expect("the broker is there")
                    && let Some(found) = wanted(packet)
                {
                    return found;
                }
            }
        };
        timeout(Duration::from_secs(10), wait).await.expect("it comes in time")
    }
}
