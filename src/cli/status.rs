//! `parkway status`: a running gateway in a few lines, for a technician over SSH.
//!
//! It asks over HTTP like anyone else, so what it shows is what the page shows, and it works on a
//! gateway whose owner is stuck in exactly the way the page does: it says so.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::Value;

/// How long to wait for the gateway at each step.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer that is read: the state of the reference site has 40 KiB.
const ANSWER_BYTES_MAX: u64 = 4 * 1_024 * 1_024;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error("{url:?} is no address; write http://HOST[:PORT]")]
    BadUrl { url: String },
    #[error("nobody answers at {address}: {source}")]
    Unreachable { address: String, source: std::io::Error },
    #[error("{address} answered {status}")]
    Refused { address: String, status: String },
    #[error("{address} answers, but not as parkway does")]
    Foreign { address: String },
}

/// Asks the gateway at `url` and puts its state in words.
///
/// # Errors
///
/// Whatever keeps the state from being shown, with the address that was asked.
pub fn status(url: &str, token: Option<&str>) -> Result<String, StatusError> {
    ask(url, token, summary)
}

/// Asks the gateway at `url` and puts its store in words.
///
/// # Errors
///
/// As [`status`].
pub fn store(url: &str, token: Option<&str>) -> Result<String, StatusError> {
    ask(url, token, store_summary)
}

fn ask(
    url: &str,
    token: Option<&str>,
    words: impl Fn(&Value) -> Option<String>,
) -> Result<String, StatusError> {
    let address = address_of(url)?;
    let answer = get(&address, "/v1/state", token)
        .map_err(|source| StatusError::Unreachable { address: address.clone(), source })?;
    let foreign = || StatusError::Foreign { address: address.clone() };
    let text = String::from_utf8(answer).map_err(|_| foreign())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(foreign)?;
    let line = head.lines().next().unwrap_or("");
    let status = line.strip_prefix("HTTP/1.").and_then(|l| l.get(2..)).ok_or_else(foreign)?;
    if !status.starts_with("200") {
        return Err(StatusError::Refused { address, status: status.to_owned() });
    }
    let state: Value = serde_json::from_str(body).map_err(|_| foreign())?;
    words(&state).ok_or_else(foreign)
}

/// Whether a gateway serves there, ours or one that wants a token first.
pub fn is_there(address: &str) -> bool {
    get(address, "/healthz", None).is_ok_and(|answer| answer.starts_with(b"HTTP/1."))
}

fn address_of(url: &str) -> Result<String, StatusError> {
    let bad = || StatusError::BadUrl { url: url.to_owned() };
    if url.starts_with("https:") {
        return Err(bad());
    }
    let rest = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    if rest.is_empty() || rest.contains(['/', '@', ' ']) {
        return Err(bad());
    }
    let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Ok(if has_port { rest.to_owned() } else { format!("{rest}:80") })
}

/// HTTP/1.0, so that the answer is one piece and ends with the connection.
fn get(address: &str, path: &str, token: Option<&str>) -> std::io::Result<Vec<u8>> {
    let nobody = || std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    let socket = address.to_socket_addrs()?.next().ok_or_else(nobody)?;
    let mut stream = TcpStream::connect_timeout(&socket, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let token = token.map_or(String::new(), |t| format!("authorization: Bearer {t}\r\n"));
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {address}\r\n{token}\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// `None` where the answer is not a state.
fn summary(state: &Value) -> Option<String> {
    let text = |path: &str| state.pointer(path).and_then(Value::as_str);
    let number = |path: &str| state.pointer(path).and_then(Value::as_u64);
    let mut out = String::new();
    let ready = if state.get("ready")?.as_bool()? { "ready" } else { "NOT READY" };
    let (name, daemon) = (text("/name")?, text("/daemon")?);
    let _ = writeln!(out, "{name} ({}): {ready}, parkway {daemon}", text("/gateway")?);
    let _ = writeln!(
        out,
        "bays     {} free, {} held, {} occupied, {} unknown, {} closed of {}; {} leases open",
        number("/totals/free")?,
        number("/totals/held")?,
        number("/totals/occupied")?,
        number("/totals/unknown")?,
        number("/totals/closed")?,
        number("/totals/bays")?,
        number("/leases_open")?,
    );
    incidents(state, &mut out);
    let garages = state.get("garages")?.as_array()?;
    let full = names(garages, |g| g.get("fullness").and_then(Value::as_str) == Some("full"));
    let shut = names(garages, |g| g.get("garage_closed").and_then(Value::as_bool) == Some(true));
    let _ =
        writeln!(out, "garages  {}{}{}", garages.len(), list("full", &full), list("closed", &shut));
    let lines = state.get("lines")?.as_array()?;
    let down = names(lines, |l| l.get("state").and_then(Value::as_str) != Some("up"));
    let _ = writeln!(
        out,
        "lines    {} of {} up{}",
        lines.len() - down.len(),
        lines.len(),
        list("not", &down)
    );
    mute(lines, &mut out);
    let units = state.get("units")?.as_array()?;
    let lost = names(units, |u| u.get("fresh").and_then(Value::as_bool) == Some(false));
    let _ = writeln!(
        out,
        "units    {} of {} fresh{}",
        units.len() - lost.len(),
        units.len(),
        list("lost", &lost)
    );
    let _ = writeln!(
        out,
        "uplink   {} for {} s, {} outstanding",
        text("/uplink/state")?,
        number("/uplink/since_s")?,
        number("/uplink/outstanding")?,
    );
    let lanes = state.pointer("/store/lanes")?.as_array()?.iter();
    let waiting: Vec<String> = lanes
        .filter_map(|l| {
            let records = l.get("backlog_records")?.as_u64()?;
            Some(format!("{} {records}", l.get("lane")?.as_str()?))
        })
        .collect();
    let _ = writeln!(out, "store    {}, waiting: {}", text("/store/state")?, waiting.join(", "));
    Some(out)
}

/// `None` where the answer is not a state.
fn store_summary(state: &Value) -> Option<String> {
    let store = state.get("store")?;
    let text = |path: &str| store.get(path).and_then(Value::as_str);
    let mut out = String::new();
    let _ = writeln!(out, "state      {}", text("state")?);
    let _ =
        writeln!(out, "epoch      {}", text("epoch").filter(|e| !e.is_empty()).unwrap_or("none"));
    for lane in store.get("lanes")?.as_array()? {
        let number = |key: &str| lane.get(key).and_then(Value::as_u64);
        let _ = writeln!(
            out,
            "{:<10} {} committed, {} waiting in {} bytes, the oldest for {} s; {} given up",
            lane.get("lane")?.as_str()?,
            number("committed_total")?,
            number("backlog_records")?,
            number("backlog_bytes")?,
            number("oldest_age_s")?,
            number("dropped_total")?,
        );
    }
    let commits = store.get("commits_total").and_then(Value::as_u64)?;
    let last_ms = store.get("last_commit_ms").and_then(Value::as_u64);
    let last = last_ms.map_or(String::new(), |ms| format!(", the last took {ms} ms"));
    let _ = writeln!(out, "commits    {commits} since its start{last}");
    Some(out)
}

/// What burns, first of all.
fn incidents(state: &Value, out: &mut String) {
    for incident in state.get("incidents").and_then(Value::as_array).into_iter().flatten() {
        let part = |key| incident.get(key).and_then(Value::as_str).unwrap_or("");
        let for_s = incident.get("for_s").and_then(Value::as_u64).unwrap_or(0);
        let (id, reason, by) = (part("id"), part("reason"), part("by"));
        let _ = writeln!(out, "INCIDENT {id}: {reason} (by {by}, for {for_s} s)");
    }
}

/// Lines that are up with none of their units answering.
fn mute(lines: &[Value], out: &mut String) {
    let mute = names(lines, |l| {
        let up = l.get("state").and_then(Value::as_str) == Some("up");
        let units = l.get("units").and_then(Value::as_array).filter(|units| !units.is_empty());
        let open = |u: &Value| u.get("state").and_then(Value::as_str) == Some("open");
        up && units.is_some_and(|units| units.iter().all(open))
    });
    if !mute.is_empty() {
        let _ = writeln!(out, "         nobody answers{}", list("on", &mute));
    }
}

fn names(items: &[Value], wanted: impl Fn(&Value) -> bool) -> Vec<&str> {
    let wanted = items.iter().filter(|item| wanted(item));
    wanted.filter_map(|item| item.get("id").and_then(Value::as_str)).collect()
}

/// At most eight names: more is a table, and the page has it.
fn list(what: &str, names: &[&str]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let more =
        if names.len() > 8 { format!(" and {} more", names.len() - 8) } else { String::new() };
    format!("; {what}: {}{more}", names.iter().take(8).copied().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (url, address) in [
            ("http://127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("http://edge-1/", Some("edge-1:80")),
            ("127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("http://[::1]:8080", Some("[::1]:8080")),
            ("http://[::1]", Some("[::1]:80")),
            ("https://edge-1", None),
            ("http://", None),
            ("http://edge-1/v1", None),
        ] {
            assert_eq!(address_of(url).ok().as_deref(), address, "{url}");
        }
    }

    #[test]
    fn who_is_not_parkway_is_told_apart_from_who_is_not_there() {
        for (answer, wanted) in [
            ("HTTP/1.0 200 OK\r\n\r\n{}", "not as parkway does"),
            ("HTTP/1.0 200 OK\r\n\r\n<html>", "not as parkway does"),
            ("SSH-2.0-OpenSSH\r\n", "not as parkway does"),
            ("", "not as parkway does"),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n{}", "answered 503 Service Unavailable"),
        ] {
            let error = status(&answering(answer), None).unwrap_err().to_string();
            assert!(error.contains(wanted), "{answer:?}: {error}");
        }
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = status(&gone.to_string(), None).unwrap_err().to_string();
        assert!(error.starts_with(&format!("nobody answers at {gone}")), "{error}");
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(list("lost", &[]), "");
        assert_eq!(list("lost", &["a", "b"]), "; lost: a b");
        let many = ["a"; 10];
        assert_eq!(list("lost", &many), "; lost: a a a a a a a a and 2 more");
    }

    /// A server that reads a request's start, says one thing and hangs up.
    fn answering(answer: &'static str) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address.to_string()
    }
}
