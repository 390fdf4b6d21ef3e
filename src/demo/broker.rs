//! The city's MQTT 5 broker: small, in this process, and cut off while the demo's network is down.
//!
//! It takes messages at QoS 0 and 1, keeps what is retained, publishes wills, and passes on at
//! QoS 0. There are no sessions to resume and no rights: nobody but the demo's gateway comes here.
//! The packets are those of rumqttc; the tests of the uplink use mosquitto.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use rumqttc::v5::mqttbytes::v5::{
    Codec, ConnAck, ConnectReturnCode, LastWill, Packet, PingResp, PubAck, Publish, SubAck,
    SubscribeReasonCode, UnsubAck, UnsubAckReason,
};
use rumqttc::v5::mqttbytes::{QoS, matches};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, watch};
use tokio_stream::StreamExt;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::FramedRead;

use super::arrived::Arrived;
use super::lock;

/// The largest packet: above the gateway's largest message.
const PACKET_BYTES_MAX: u32 = 1 << 20;
/// Messages a slow subscriber may be behind; then the oldest are lost to it.
const BEHIND_MAX: usize = 1_000;

/// What all connections share.
#[derive(Clone)]
struct Hub {
    arrived: Arc<Mutex<Arrived>>,
    retained: Arc<Mutex<BTreeMap<String, Publish>>>,
    news: broadcast::Sender<Publish>,
}

/// Answers every client on `listener` while `up` is true, and counts what they publish.
///
/// # Errors
///
/// The port cannot be listened on any more.
pub async fn serve(
    listener: TcpListener,
    arrived: Arc<Mutex<Arrived>>,
    up: watch::Receiver<bool>,
) -> io::Result<()> {
    let (news, _) = broadcast::channel(BEHIND_MAX);
    let hub = Hub { arrived, retained: Arc::default(), news };
    loop {
        let (stream, _) = listener.accept().await?;
        if *up.borrow() {
            tokio::spawn(attend(stream, hub.clone(), up.clone()));
        }
    }
}

/// One connection, from its CONNECT to its end; where that was no DISCONNECT, its will follows.
async fn attend(stream: TcpStream, hub: Hub, mut up: watch::Receiver<bool>) {
    // Small acknowledgements must not wait for company.
    let _ = stream.set_nodelay(true);
    let (from, to) = stream.into_split();
    let codec = Codec {
        max_incoming_size: Some(PACKET_BYTES_MAX),
        max_outgoing_size: Some(PACKET_BYTES_MAX),
    };
    let mut from = FramedRead::new(from, codec);
    let Some(Ok(Packet::Connect(_, mut will, _))) = from.next().await else { return };
    let mut client = Client { hub, to, filters: Vec::new() };
    tokio::select! {
        // A connection that breaks is an end like any other.
        _ = client.talk(&mut from, &mut will) => (),
        _ = up.wait_for(|up| !up) => (),
    }
    if let Some(will) = will {
        let topic = String::from_utf8_lossy(&will.topic).into_owned();
        let mut said = Publish::new(topic, QoS::AtMostOnce, will.message, None);
        said.retain = will.retain;
        client.hub.publish(said);
    }
}

/// A connected client.
struct Client {
    hub: Hub,
    to: OwnedWriteHalf,
    filters: Vec<String>,
}

impl Client {
    async fn talk(
        &mut self,
        from: &mut FramedRead<OwnedReadHalf, Codec>,
        will: &mut Option<LastWill>,
    ) -> io::Result<()> {
        let mut news = self.hub.news.subscribe();
        let code = ConnectReturnCode::Success;
        self.say(Packet::ConnAck(ConnAck { session_present: false, code, properties: None }))
            .await?;
        loop {
            tokio::select! {
                packet = from.next() => match packet {
                    Some(Ok(Packet::Disconnect(_))) => {
                        *will = None;
                        return Ok(());
                    }
                    Some(Ok(packet)) => self.take(packet).await?,
                    Some(Err(error)) => return Err(io::Error::other(error)),
                    None => return Ok(()),
                },
                message = news.recv() => match message {
                    Ok(message) => self.forward(&message, false).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => (),
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
            }
        }
    }

    async fn take(&mut self, packet: Packet) -> io::Result<()> {
        match packet {
            Packet::Publish(message) => {
                let answer = match message.qos {
                    QoS::AtMostOnce => None,
                    QoS::AtLeastOnce => Some(Packet::PubAck(PubAck::new(message.pkid, None))),
                    QoS::ExactlyOnce => return Err(io::Error::other("QoS 2 is not served")),
                };
                self.hub.publish(message);
                match answer {
                    Some(answer) => self.say(answer).await,
                    None => Ok(()),
                }
            }
            Packet::Subscribe(asked) => {
                let filters: Vec<String> = asked.filters.into_iter().map(|f| f.path).collect();
                let granted = SubscribeReasonCode::Success(QoS::AtMostOnce);
                let return_codes = vec![granted; filters.len()];
                self.say(Packet::SubAck(SubAck {
                    pkid: asked.pkid,
                    return_codes,
                    properties: None,
                }))
                .await?;
                self.filters.extend(filters.iter().cloned());
                self.tell_retained(&filters).await
            }
            Packet::Unsubscribe(asked) => {
                self.filters.retain(|filter| !asked.filters.contains(filter));
                let reasons = vec![UnsubAckReason::Success; asked.filters.len()];
                self.say(Packet::UnsubAck(UnsubAck { pkid: asked.pkid, reasons, properties: None }))
                    .await
            }
            Packet::PingReq(_) => self.say(Packet::PingResp(PingResp)).await,
            _ => Ok(()),
        }
    }

    async fn tell_retained(&mut self, filters: &[String]) -> io::Result<()> {
        let retained: Vec<Publish> = {
            let retained = lock(&self.hub.retained);
            let wanted = |topic: &str| filters.iter().any(|filter| matches(topic, filter));
            retained.iter().filter(|(topic, _)| wanted(topic)).map(|(_, m)| m.clone()).collect()
        };
        for message in retained {
            self.forward(&message, true).await?;
        }
        Ok(())
    }

    async fn forward(&mut self, message: &Publish, retain: bool) -> io::Result<()> {
        let topic = String::from_utf8_lossy(&message.topic).into_owned();
        if !self.filters.iter().any(|filter| matches(&topic, filter)) {
            return Ok(());
        }
        let mut copy = Publish::new(topic, QoS::AtMostOnce, message.payload.clone(), None);
        copy.retain = retain;
        self.say(Packet::Publish(copy)).await
    }

    async fn say(&mut self, packet: Packet) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, Some(PACKET_BYTES_MAX)).map_err(io::Error::other)?;
        self.to.write_all(&bytes).await
    }
}

impl Hub {
    fn publish(&self, message: Publish) {
        let topic = String::from_utf8_lossy(&message.topic).into_owned();
        lock(&self.arrived).take(&topic, &message.payload);
        if message.retain && message.payload.is_empty() {
            lock(&self.retained).remove(&topic);
        } else if message.retain {
            lock(&self.retained).insert(topic, message.clone());
        }
        // Nobody subscribed is no fault.
        let _ = self.news.send(message);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::net::SocketAddr;

    use rumqttc::v5::mqttbytes::v5::PubAckReason;
    use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn it_takes_keeps_and_passes_on_and_an_outage_cuts_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let door = listener.local_addr().expect("it is bound");
        let (switch, up) = watch::channel(true);
        let arrived = Arc::new(Mutex::new(Arrived::default()));
        tokio::spawn(serve(listener, arrived.clone(), up));

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
        let (late, mut inbox) = connect("late", door, None).await;
        late.subscribe("parkway/x/state/#", QoS::AtLeastOnce).await.expect("the client takes it");
        assert_eq!(text(&mut inbox).await, "here");

        // Cut: the connections end, the will is published, and no new one comes about.
        switch.send(false).expect("the broker listens");
        timeout(Duration::from_secs(5), drive).await.expect("it ends").expect("no panic");
        let (_client, mut again) = client("gateway", door, None);
        assert!(again.poll().await.is_err(), "connected during the outage");
        switch.send(true).expect("the broker listens");
        let (later, mut inbox) = connect("later", door, None).await;
        later.subscribe("parkway/x/state/#", QoS::AtLeastOnce).await.expect("the client takes it");
        assert_eq!(text(&mut inbox).await, "gone");

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
