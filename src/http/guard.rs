//! What every request passes: headers, the token, the rules of host and same site, the time limit.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::ApiError;

/// How long a request may take until its response's head. Covers a slow body too; an answer of
/// the owner takes milliseconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Nothing from outside, no frames, no forms: the pages need none.
const CONTENT_POLICY: &str = "default-src 'self'; img-src 'self' data:; base-uri 'none'; \
    object-src 'none'; form-action 'none'; frame-ancestors 'none'";

/// Paths that monitoring must reach without a secret; they tell nothing but up or not.
pub const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// Counts the request and puts the headers that protect a browser on every response.
pub async fn headers(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let began = Instant::now();
    let mut response = next.run(request).await;
    let status = response.status();
    tracing::debug!(%method, path, status = status.as_u16(), took = ?began.elapsed(), "request");
    app.context.metrics.request(status.as_u16());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Demands the token where one is configured.
pub async fn token(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let wanted = app.context.token.borrow().clone();
    if let Some(wanted) = wanted
        && !OPEN_PATHS.contains(&request.uri().path())
        && !sent_token(request.headers()).is_some_and(|sent| same(&sent, wanted.as_bytes()))
    {
        let text = "this gateway demands its token: authorization: Bearer TOKEN";
        return ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", text).into_response();
    }
    next.run(request).await
}

/// Where no token is demanded, refuses what comes by another name than this machine's own: a page
/// whose name was made to lead here (DNS rebinding) is of the same site to its browser. A program
/// that sends no host is no browser.
pub async fn host(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let guarded = app.context.token.borrow().is_none();
    let host = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    if let Some(host) = host.filter(|host| guarded && !is_local(host))
        && !OPEN_PATHS.contains(&request.uri().path())
    {
        let text = "without a token this gateway answers to localhost, 127.0.0.1 and [::1] only";
        return ApiError::new(StatusCode::FORBIDDEN, "foreign_host", text)
            .blame("host", host)
            .into_response();
    }
    next.run(request).await
}

/// Whether a host, with or without a port, is a loopback address: without a token no other is
/// listened on.
fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let port = authority.as_str().strip_prefix(authority.host());
    if !port.is_some_and(|port| port.is_empty() || port.starts_with(':')) {
        return false;
    }
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let address = name.parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback())
}

/// Refuses orders that a page of another site makes a browser send. Programs send no such header.
pub async fn same_site(request: Request, next: Next) -> Response {
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    let site = request.headers().get("sec-fetch-site").and_then(|v| v.to_str().ok());
    if let Some(site) = site.filter(|site| !reads && !["same-origin", "none"].contains(site)) {
        let text = "orders from another site's page are refused";
        return ApiError::new(StatusCode::FORBIDDEN, "cross_site", text)
            .blame("sec-fetch-site", site)
            .into_response();
    }
    next.run(request).await
}

/// Ends a request that takes too long. Streams are not concerned: theirs starts at once.
pub async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let text = format!("no answer within {} s", REQUEST_TIMEOUT.as_secs());
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_slow", text).into_response()
        }
    }
}

/// The token as sent: `Bearer TOKEN`, or as the password of `Basic`, for browsers.
fn sent_token(headers: &HeaderMap) -> Option<Vec<u8>> {
    let sent = headers.get(header::AUTHORIZATION)?.as_bytes();
    let at = sent.iter().position(|b| *b == b' ')?;
    let (scheme, rest) = (&sent[..at], sent[at..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(rest.to_vec());
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = decode_base64(rest)?;
    let colon = pair.iter().position(|b| *b == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// Compares in a time that depends on the length sent, never on where the first difference is.
fn same(sent: &[u8], wanted: &[u8]) -> bool {
    let mut different = u8::from(sent.len() != wanted.len());
    for (at, byte) in sent.iter().enumerate() {
        let other = wanted.get(at % wanted.len().max(1)).copied().unwrap_or(0);
        different = std::hint::black_box(different | (byte ^ other));
    }
    different == 0
}

/// RFC 4648 with the standard alphabet; `None` where it is not.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut held, mut bits) = (0_u32, 0);
    for byte in text {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).expect("masked to a byte"));
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_same_only_if_every_byte_is() {
        assert!(same(b"s3cret", b"s3cret"));
        for sent in ["", "s", "s3cre", "s3creT", "S3cret", "s3crets", "s3crets3cret"] {
            assert!(!same(sent.as_bytes(), b"s3cret"), "{sent:?}");
        }
    }

    #[test]
    fn only_loopback_is_local() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.2:80", "[::1]:8080"] {
            assert!(is_local(host), "{host}");
        }
        let foreign = ["", "?", "evil.example", "127.0.0.1.evil.example", "localhost.evil:8080"];
        for host in foreign.into_iter().chain(["10.0.0.1:8080", "[::2]", "[::1]evil", "0.0.0.0"]) {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn a_token_is_found_in_both_schemes() {
        for (sent, token) in [
            ("Bearer s3cret", Some("s3cret")),
            ("bearer   s3cret ", Some("s3cret")),
            // "ops:s3cret", and ":a:b" whose password holds a colon.
            ("Basic b3BzOnMzY3JldA==", Some("s3cret")),
            ("Basic OmE6Yg==", Some("a:b")),
            ("Basic !!!", None),
            ("Basic b3Bz", None),
            ("Digest x", None),
            ("s3cret", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(sent));
            assert_eq!(sent_token(&headers), token.map(|t| t.as_bytes().to_vec()), "{sent}");
        }
    }
}
