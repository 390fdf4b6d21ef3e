//! Commands from upstream: closing and opening, each checked, each answered.
//!
//! A command is a request of the city platform, never needed for guidance. It must name when it
//! expires, because a broker may hold it for hours; a retained one is refused, because it would
//! come again at each connect. Whatever is wrong gets a reply with a code and is counted; nothing
//! in a payload can do more than that.

use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};
use serde::{Deserialize, Serialize};

use crate::gateway::{Answer, Ask, Refusal};
use crate::owner::{Answered, Handle};
use crate::site::Site;
use crate::time::Wall;

/// A closure with its reason fits ten times over.
const PAYLOAD_MAX: usize = 4_096;
/// Longest a closure may be asked for, in seconds: a year.
const FOR_MAX_S: u64 = 31_536_000;
/// How long the owner may take to answer before the asker is told so.
const ANSWER_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// A command that passed all checks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    pub ask: Ask,
}

/// What is answered, and where.
#[derive(Clone, PartialEq, Debug)]
pub struct Reply {
    pub topic: Option<String>,
    pub properties: PublishProperties,
    pub body: ReplyBody,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ReplyBody {
    /// The command's own id; empty where none could be read.
    pub id: String,
    pub ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Fault {
    pub code: &'static str,
    pub message: String,
}

/// The payload of `commands/closures`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    id: String,
    expires_at: String,
    action: Action,
    target: String,
    #[serde(default)]
    reason: String,
    by: String,
    for_s: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Close,
    Open,
}

/// Only to find whom to answer in a payload that is no [`Order`].
#[derive(Deserialize)]
struct Named {
    id: String,
}

/// Where the answer goes; the topic is filled in once the id is known.
pub fn address(publish: &Publish, base: &str) -> Reply {
    let id = serde_json::from_slice::<Named>(&publish.payload).map(|named| named.id);
    let id = id.ok().filter(|id| is_id(id)).unwrap_or_default();
    let given = publish.properties.as_ref();
    let correlation_data = given.and_then(|given| given.correlation_data.clone());
    let properties = PublishProperties { correlation_data, ..PublishProperties::default() };
    let wanted = given.and_then(|given| given.response_topic.clone());
    let own = (!id.is_empty()).then(|| format!("{base}/replies/{id}"));
    let topic = wanted.filter(|topic| may_answer_on(topic, base)).or(own);
    Reply { topic, properties, body: ReplyBody { id, ok: true, error: None } }
}

/// Checks a message on a command topic.
///
/// # Errors
///
/// What is wrong with it, for the reply.
pub fn parse(
    publish: &Publish,
    base: &str,
    site: &Site,
    now: Option<Wall>,
) -> Result<Command, Fault> {
    if publish.topic.as_ref() != format!("{base}/commands/closures").as_bytes() {
        return Err(fault("unknown_command", "commands go to commands/closures"));
    }
    if publish.retain {
        return Err(fault("retained", "a command must not be retained"));
    }
    if publish.payload.len() > PAYLOAD_MAX {
        let bytes = publish.payload.len();
        return Err(fault("too_large", format!("{bytes} bytes are above {PAYLOAD_MAX}")));
    }
    let order: Order = serde_json::from_slice(&publish.payload)
        .map_err(|error| fault("malformed", error.to_string()))?;
    let expires: jiff::Timestamp = order
        .expires_at
        .parse()
        .map_err(|_| fault("malformed", "expires_at is not a time such as 2026-01-31T08:00:00Z"))?;
    match now {
        Some(now) if expires.as_millisecond() <= now.0 => {
            return Err(fault("expired", format!("it expired at {expires}, now it is {now}")));
        }
        // The broker's clock serves as well: it throws a message away that outlives its expiry.
        None if !expires_by_itself(publish) => {
            let why = "this clock is not synchronised, so that expires_at cannot be judged; send \
                       it with a message expiry, or ask on the spot";
            return Err(fault("clock_unsure", why));
        }
        Some(_) | None => (),
    }
    judge(order, site)
}

fn judge(order: Order, site: &Site) -> Result<Command, Fault> {
    let Order { id, action, target, reason, by, for_s, expires_at: _ } = order;
    if !is_id(&id) {
        return Err(fault("malformed", "id must be 1 to 64 letters, digits, '-', '_' or '.'"));
    }
    if by.is_empty() || by.chars().count() > 64 {
        return Err(fault("malformed", "by must have 1 to 64 characters"));
    }
    if reason.chars().count() > 200 {
        return Err(fault("malformed", "reason must have at most 200 characters"));
    }
    if for_s.is_some_and(|for_s| !(1..=FOR_MAX_S).contains(&for_s)) {
        return Err(fault("malformed", format!("for_s must lie within 1 to {FOR_MAX_S}")));
    }
    let unknown = || fault("unknown_target", format!("there is no \"{target}\" here"));
    let target = site.target(&target).ok_or_else(unknown)?;
    let ask = match action {
        Action::Close if reason.is_empty() => {
            return Err(fault("malformed", "closing needs a reason"));
        }
        // An incident is declared on the spot, never from far away.
        Action::Close => Ask::Close { target, reason, by, expires_s: for_s, incident: false },
        Action::Open if for_s.is_some() => {
            return Err(fault("malformed", "opening takes no for_s"));
        }
        Action::Open => Ask::Open { target, by },
    };
    Ok(Command { ask })
}

/// Puts a command to the owner and waits for what became of it.
pub async fn carry_out(command: Command, handle: Handle) -> Result<(), Fault> {
    let answered = tokio::time::timeout(ANSWER_MAX, handle.ask(command.ask)).await;
    match answered {
        Err(_) => Err(fault("busy", "no answer within 10 s; it may still be carried out")),
        Ok(None) => Err(fault("stopping", "the gateway is stopping")),
        Ok(Some(Answered { answer: Answer::Refused(refusal), .. })) => Err(refused(&refusal)),
        Ok(Some(_)) => Ok(()),
    }
}

/// A fault in terms of the contract.
pub fn fault(code: &'static str, message: impl Into<String>) -> Fault {
    Fault { code, message: message.into() }
}

fn refused(refusal: &Refusal) -> Fault {
    match refusal {
        Refusal::NotClosed(_) => fault("not_closed", "it is not closed"),
        Refusal::Stopping => fault("stopping", "the gateway is stopping"),
        Refusal::TooMany { .. } => fault("too_many", "too many of these are open"),
        other => fault("refused", format!("{other:?}")),
    }
}

fn expires_by_itself(publish: &Publish) -> bool {
    publish.properties.as_ref().is_some_and(|all| all.message_expiry_interval.is_some())
}

fn is_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !id.is_empty() && id.len() <= 64 && id.chars().all(plain)
}

/// Answers go nowhere in our own tree but `replies`: a response topic is the asker's choice, and
/// must not make us overwrite state or write history.
fn may_answer_on(topic: &str, base: &str) -> bool {
    let plain = !topic.is_empty()
        && topic.len() <= 256
        && !topic.contains(['+', '#', '\0'])
        && !topic.starts_with('$');
    let ours = topic.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'));
    plain && (!ours || topic.starts_with(&format!("{base}/replies/")))
}

#[cfg(test)]
pub mod tests {
    use rumqttc::v5::mqttbytes::QoS;

    use super::*;
    use crate::site::{Scope, Target};

    const BASE: &str = "parkway/s";
    const NOW: Option<Wall> = Some(Wall(1_700_000_000_000));
    const GOOD: &str = r#"{"id":"c1","expires_at":"2030-01-01T00:00:00Z","action":"close",
        "target":"g01","reason":"smoke","by":"desk","for_s":600}"#;

    #[test]
    fn a_good_command_becomes_an_ask() {
        let expected = Ask::Close {
            target: Target::Scope(Scope::Garage(crate::site::GarageIx(0))),
            reason: "smoke".to_owned(),
            by: "desk".to_owned(),
            expires_s: Some(600),
            incident: false,
        };
        assert_eq!(read(GOOD).map(|command| command.ask), Ok(expected));
        let opening = r#"{"id":"c2","expires_at":"2030-01-01T00:00:00+08:00","action":"open",
            "target":"g01","by":"desk"}"#;
        assert!(matches!(read(opening), Ok(Command { ask: Ask::Open { .. } })));
    }

    #[test]
    fn whatever_is_wrong_has_a_code() {
        let changed = |from: &str, to: &str| {
            assert!(GOOD.contains(from));
            GOOD.replace(from, to)
        };
        let long = "x".repeat(201);
        let cases = [
            ("nonsense".to_owned(), "malformed"),
            ("{}".to_owned(), "malformed"),
            ("\u{0}".to_owned(), "malformed"),
            (changed("\"close\"", "\"explode\""), "malformed"),
            (changed("\"by\"", "\"extra\":1,\"by\""), "malformed"),
            (changed("c1", "a/b"), "malformed"),
            (changed("c1", ""), "malformed"),
            (changed("desk", ""), "malformed"),
            (changed("smoke", ""), "malformed"),
            (changed("smoke", &long), "malformed"),
            (changed("600", "0"), "malformed"),
            (changed("600", "31536001"), "malformed"),
            (changed("600", "-1"), "malformed"),
            (changed("2030-01-01T00:00:00Z", "tomorrow"), "malformed"),
            (changed("2030", "2020"), "expired"),
            (changed("g01", "g99"), "unknown_target"),
            (format!("{GOOD}{}", " ".repeat(5_000)), "too_large"),
        ];
        for (payload, code) in cases {
            assert_eq!(read(&payload).unwrap_err().code, code, "{payload}");
        }
        let mut retained = message(GOOD);
        retained.retain = true;
        assert_eq!(parse(&retained, BASE, &site(), NOW).unwrap_err().code, "retained");
        let mut elsewhere = message(GOOD);
        elsewhere.topic = "parkway/s/commands/reboot".into();
        assert_eq!(parse(&elsewhere, BASE, &site(), NOW).unwrap_err().code, "unknown_command");
    }

    /// Nothing that may be old is carried out by a clock that cannot tell.
    #[test]
    fn an_unsure_clock_takes_only_what_the_broker_lets_expire() {
        let stale = GOOD.replace("2030", "2020");
        for (interval, now, payload, code) in [
            (None, None, GOOD, Some("clock_unsure")),
            (Some(60), None, GOOD, None),
            (None, NOW, GOOD, None),
            (Some(60), NOW, &stale, Some("expired")),
        ] {
            let mut publish = message(payload);
            publish.properties = Some(PublishProperties {
                message_expiry_interval: interval,
                ..PublishProperties::default()
            });
            let refused = parse(&publish, BASE, &site(), now).err().map(|fault| fault.code);
            assert_eq!(refused, code, "{interval:?} {now:?}");
        }
    }

    #[test]
    fn answers_go_where_asked_but_not_over_our_own_topics() {
        for (wanted, topic) in [
            (None, "parkway/s/replies/c1"),
            (Some("desk/7/answers"), "desk/7/answers"),
            (Some("parkway/s/replies/desk-7"), "parkway/s/replies/desk-7"),
            (Some("parkway/s/state/gateway"), "parkway/s/replies/c1"),
            (Some("parkway/s/events"), "parkway/s/replies/c1"),
            (Some("$SYS/x"), "parkway/s/replies/c1"),
            (Some("desk/#"), "parkway/s/replies/c1"),
            (Some(""), "parkway/s/replies/c1"),
        ] {
            let mut publish = message(GOOD);
            publish.properties = Some(PublishProperties {
                response_topic: wanted.map(str::to_owned),
                correlation_data: Some(b"77".to_vec().into()),
                ..PublishProperties::default()
            });
            let reply = address(&publish, BASE);
            assert_eq!(reply.topic.as_deref(), Some(topic), "{wanted:?}");
            assert_eq!(reply.properties.correlation_data.as_deref(), Some(&b"77"[..]));
        }
        assert_eq!(address(&message("nonsense"), BASE).topic, None);
    }

    proptest::proptest! {
        #[test]
        fn no_payload_can_do_harm(payload in proptest::collection::vec(0_u8.., 0..200)) {
            let topic = "parkway/s/commands/closures";
            let publish = Publish::new(topic, QoS::AtLeastOnce, payload, None);
            proptest::prop_assert!(parse(&publish, BASE, &site(), NOW).is_err());
            address(&publish, BASE);
        }
    }

    fn read(payload: &str) -> Result<Command, Fault> {
        parse(&message(payload), BASE, &site(), NOW)
    }

    pub fn message(payload: &str) -> Publish {
        let topic = "parkway/s/commands/closures";
        Publish::new(topic, QoS::AtLeastOnce, payload.to_owned(), None)
    }

    fn site() -> Site {
        crate::uplink::work::tests::site()
    }
}
