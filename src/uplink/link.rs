//! One connection to the broker: rumqttc as a lossy pipe.
//!
//! A client serves one connection and is thrown away with it: rumqttc's own recovery loses what was
//! queued, can livelock, and sends a refused packet again for ever. It also returns no token for a
//! publish; but it assigns packet ids in the order of our requests, so the queue of what was
//! handed over and its `Outgoing` events tell which id is which. Its event loop is polled by a task
//! of its own, because polling may not be cancelled.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, Packet, PubAckReason, Publish, PublishProperties,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::outbox::Verdict;
use crate::record::Lane;

/// What may wait inside the client: the windows of three lanes, replies, and a burst of state.
const QUEUE: usize = 256;
/// Left free for records and replies while state is sent.
const RESERVED: usize = 64;
/// More than the windows of all lanes, so that packet ids never come round to one still open.
const INFLIGHT: u16 = 256;
/// Incoming packets above this are not for us: commands are at most 4 KiB.
const INCOMING_BYTES: u32 = 16 * 1_024;
/// Commands that the broker may send before we acknowledge one.
const RECEIVE_MAX: u16 = 16;
/// Name lookup, connect and CONNACK together; a 5G modem may need some seconds to wake.
const CONNECT_MAX: Duration = Duration::from_secs(10);

pub struct Link {
    client: AsyncClient,
    events: mpsc::Receiver<Result<Event, Lost>>,
    poller: JoinHandle<()>,
    /// Handed over with QoS 1 and not yet given a packet id, oldest first.
    unnumbered: VecDeque<(Lane, u64)>,
    by_id: BTreeMap<u16, (Lane, u64)>,
    /// Publishes handed over that the event loop has not taken up yet.
    queued: Arc<AtomicUsize>,
    /// What the broker accepts, in bytes.
    pub packet_max: usize,
    accept_unheard: bool,
}

/// What came up a connection.
#[derive(Debug)]
pub enum Heard {
    Up { receive_max: usize },
    Acked { lane: Lane, token: u64, verdict: Verdict, reason: PubAckReason },
    Message(Publish),
    Goodbye,
    Lost(Lost),
    Nothing,
}

/// Why a connection is over.
#[derive(Clone, Debug)]
pub struct Lost {
    pub why: String,
    /// The broker does not want us: trying again soon only fills its log.
    pub unwelcome: bool,
}

impl Link {
    /// Begins to connect; [`Link::next`] tells how it went. `accept_unheard` as in the
    /// configuration.
    pub fn open(mut options: MqttOptions, accept_unheard: bool) -> Link {
        options.set_clean_start(true);
        options.set_outgoing_inflight_upper_limit(INFLIGHT);
        options.set_max_packet_size(Some(INCOMING_BYTES));
        options.set_receive_maximum(Some(RECEIVE_MAX));
        options.set_connection_timeout(CONNECT_MAX.as_secs());
        let mut network = options.network_options();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(CONNECT_MAX.as_secs());
        options.set_network_options(network);
        let (client, event_loop) = AsyncClient::new(options, QUEUE);
        let (sender, events) = mpsc::channel(QUEUE);
        let queued = Arc::new(AtomicUsize::new(0));
        Link {
            client,
            events,
            poller: tokio::spawn(poll(event_loop, sender, queued.clone())),
            unnumbered: VecDeque::new(),
            by_id: BTreeMap::new(),
            queued,
            packet_max: usize::MAX,
            accept_unheard,
        }
    }

    /// Waits for the next thing that concerns us. May be cancelled.
    pub async fn next(&mut self) -> Heard {
        match self.events.recv().await {
            Some(Ok(event)) => self.heard(event),
            Some(Err(lost)) => Heard::Lost(lost),
            None => {
                Heard::Lost(Lost { why: "the MQTT client panicked".to_owned(), unwelcome: false })
            }
        }
    }

    /// Hands a chunk over; false where it does not fit now.
    pub fn send_chunk(&mut self, topic: &str, payload: String, lane: Lane, token: u64) -> bool {
        let sent = self.client.try_publish(topic, QoS::AtLeastOnce, false, payload);
        if sent.is_ok() {
            self.count(true);
            self.unnumbered.push_back((lane, token));
        }
        sent.is_ok()
    }

    /// Hands retained state over; false where it should wait for the records.
    pub fn send_state(&mut self, topic: &str, payload: String) -> bool {
        if self.is_full() {
            return false;
        }
        let sent = self.client.try_publish(topic, QoS::AtMostOnce, true, payload);
        self.count(sent.is_ok());
        sent.is_ok()
    }

    /// Answers a command.
    pub fn send_reply(&mut self, topic: &str, payload: String, properties: PublishProperties) {
        let qos = QoS::AtMostOnce;
        let sent = self.client.try_publish_with_properties(topic, qos, false, payload, properties);
        self.count(sent.is_ok());
    }

    /// Whether state has to wait for the records.
    pub fn is_full(&self) -> bool {
        self.queued.load(Ordering::Relaxed) + RESERVED >= QUEUE
    }

    fn count(&self, sent: bool) {
        self.queued.fetch_add(usize::from(sent), Ordering::Relaxed);
    }

    pub fn subscribe(&mut self, filter: &str) -> bool {
        self.client.try_subscribe(filter, QoS::AtLeastOnce).is_ok()
    }

    /// Says goodbye; [`Heard::Goodbye`] follows once it is on the wire.
    pub fn disconnect(&mut self) -> bool {
        self.client.try_disconnect().is_ok()
    }

    fn heard(&mut self, event: Event) -> Heard {
        match event {
            Event::Incoming(Packet::ConnAck(ack)) => {
                let properties = ack.properties.as_ref();
                let receive_max = properties.and_then(|p| p.receive_max).unwrap_or(u16::MAX);
                let packet_max = properties.and_then(|p| p.max_packet_size);
                self.packet_max = packet_max.map_or(usize::MAX, |bytes| bytes as usize);
                Heard::Up { receive_max: usize::from(receive_max.min(INFLIGHT)) }
            }
            Event::Incoming(Packet::PubAck(ack)) => match self.by_id.remove(&ack.pkid) {
                Some((lane, token)) => {
                    let verdict = verdict(ack.reason, self.accept_unheard);
                    Heard::Acked { lane, token, verdict, reason: ack.reason }
                }
                None => Heard::Nothing,
            },
            Event::Incoming(Packet::Publish(publish)) => Heard::Message(publish),
            Event::Outgoing(Outgoing::Publish(id)) => {
                if let Some(token) = self.unnumbered.pop_front() {
                    self.by_id.insert(id, token);
                }
                Heard::Nothing
            }
            // An id came round to one still open: from here on the client is of no use.
            Event::Outgoing(Outgoing::AwaitAck(_)) => Heard::Lost(Lost {
                why: "the broker left a packet id open".to_owned(),
                unwelcome: false,
            }),
            Event::Outgoing(Outgoing::Disconnect) => Heard::Goodbye,
            Event::Incoming(_) | Event::Outgoing(_) => Heard::Nothing,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

/// Polls until the first error, which is the last thing it tells. What was read together with the
/// error comes before it: some brokers answer with a refusal and close at once.
async fn poll(
    mut event_loop: EventLoop,
    sender: mpsc::Sender<Result<Event, Lost>>,
    queued: Arc<AtomicUsize>,
) {
    let error = loop {
        match event_loop.poll().await {
            Ok(event) => {
                if matches!(event, Event::Outgoing(Outgoing::Publish(_))) {
                    queued.fetch_sub(1, Ordering::Relaxed);
                }
                // State goes out by the dozen, and nobody waits to hear of it.
                if !concerns_us(&event) {
                    continue;
                }
                if sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            Err(error) => break lost(&error),
        }
    };
    for event in std::mem::take(&mut event_loop.state.events) {
        if sender.send(Ok(event)).await.is_err() {
            return;
        }
    }
    // The link may be gone already; then nobody needs to know.
    let _ = sender.send(Err(error)).await;
}

fn concerns_us(event: &Event) -> bool {
    match event {
        Event::Incoming(packet) => {
            matches!(packet, Packet::ConnAck(_) | Packet::PubAck(_) | Packet::Publish(_))
        }
        // Without QoS there is no packet id.
        Event::Outgoing(Outgoing::Publish(id)) => *id > 0,
        Event::Outgoing(out) => matches!(out, Outgoing::AwaitAck(_) | Outgoing::Disconnect),
    }
}

/// A reason that says no is no delivery, and one that says "nobody listens" only where the
/// configuration says that the broker keeps records by itself.
fn verdict(reason: PubAckReason, accept_unheard: bool) -> Verdict {
    match reason {
        PubAckReason::Success => Verdict::Taken,
        PubAckReason::NoMatchingSubscribers if accept_unheard => Verdict::Taken,
        _ => Verdict::Refused,
    }
}

fn lost(error: &ConnectionError) -> Lost {
    // A certificate that is not accepted, by us or by the broker, takes a person to change.
    let certificate = match error {
        ConnectionError::Tls(_) => true,
        ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => {
            error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
        }
        _ => false,
    };
    let refused = matches!(
        error,
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::NotAuthorized
                | ConnectReturnCode::BadUserNamePassword
                | ConnectReturnCode::Banned
                | ConnectReturnCode::ClientIdentifierNotValid
                | ConnectReturnCode::BadClientId
        )
    );
    Lost { why: error.to_string(), unwelcome: certificate || refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_broker_keeps_is_delivered() {
        use PubAckReason as R;
        for (reason, by_default, accepting) in [
            (R::Success, Verdict::Taken, Verdict::Taken),
            (R::NoMatchingSubscribers, Verdict::Refused, Verdict::Taken),
            (R::UnspecifiedError, Verdict::Refused, Verdict::Refused),
            (R::ImplementationSpecificError, Verdict::Refused, Verdict::Refused),
            (R::NotAuthorized, Verdict::Refused, Verdict::Refused),
            (R::TopicNameInvalid, Verdict::Refused, Verdict::Refused),
            (R::QuotaExceeded, Verdict::Refused, Verdict::Refused),
            (R::PayloadFormatInvalid, Verdict::Refused, Verdict::Refused),
        ] {
            assert_eq!(verdict(reason, false), by_default, "{reason:?}");
            assert_eq!(verdict(reason, true), accepting, "{reason:?}, accepting");
        }
    }
}
