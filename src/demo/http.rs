//! The little HTTP that cars and the screen speak: one request, one answer, one connection.
//!
//! A client library would bring more than the thirty lines it saves; the gateway on the other side
//! is what is being shown.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest wait for an answer. A gateway answers in milliseconds; a driver waits no longer.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Largest answer: the state of the reference site takes some 60 KiB.
const ANSWER_BYTES_MAX: u64 = 4 * 1_024 * 1_024;

/// Asks, and returns the status and the JSON (null where the answer has none).
///
/// # Errors
///
/// Nobody answers within five seconds, or what answers does not speak HTTP.
pub async fn ask(
    to: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> io::Result<(u16, Value)> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(WAIT_MAX, exchange(to, method, path, body)).await.map_err(late)?
}

async fn exchange(
    to: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    read(&answer).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Takes status and body out of an answer that is not chunked.
fn read(answer: &[u8]) -> Option<(u16, Value)> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_question_is_asked_and_its_answer_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let to = listener.local_addr().expect("it is bound");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client comes");
            let mut request = vec![0; 4_096];
            let length = stream.read(&mut request).await.expect("it asks");
            let answer = b"HTTP/1.1 409 Conflict\r\ncontent-length: 9\r\n\r\n{\"a\": 1}\n";
            stream.write_all(answer).await.expect("it listens");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let body = json!({ "at": "p1" });
        let answer = ask(to, "POST", "/v1/allocations", Some(&body)).await.expect("an answer");
        assert_eq!(answer, (409, json!({ "a": 1 })));
        let request = server.await.expect("the server ends");
        assert!(request.starts_with("POST /v1/allocations HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with("Content-Length: 11\r\n\r\n{\"at\":\"p1\"}"), "{request}");
    }

    #[test]
    fn what_is_not_http_is_no_answer() {
        for answer in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0\r\n\r\n", "HTTP/1.1 x\r\n\r\n{}"] {
            assert_eq!(read(answer.as_bytes()), None, "{answer}");
        }
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\nok"), Some((200, Value::Null)));
    }
}
