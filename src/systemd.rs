//! What systemd gives a service and wants from it: readiness, a watchdog, credentials.
//!
//! All of it does nothing outside systemd, so the daemon runs the same from a shell. The watchdog
//! is pinged by the owner's loop and by nothing else: a timer's ping would only prove the timer.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Longest secret that is read. A token or password is some dozen bytes; a key file dropped in
/// by mistake must not become a header of every request.
const SECRET_BYTES_MAX: u64 = 4_096;

/// Longest status line sent; systemd shows one line.
const STATUS_CHARS_MAX: usize = 200;

/// Tells systemd that requests are served.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// Sets the line that `systemctl status` shows.
pub fn status(text: &str) {
    let line: String = text.chars().filter(|c| !c.is_control()).take(STATUS_CHARS_MAX).collect();
    send(&[NotifyState::Status(&line)]);
}

/// Tells systemd that a clean stop has begun.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// A message that does not reach systemd is no reason to stop guiding.
fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd does not listen");
    }
}

/// The owner's sign of life. Times are real: a demo's clock must not speed it up.
#[derive(Debug)]
pub struct Watchdog {
    every: Option<Duration>,
    pinged: Option<Instant>,
}

impl Watchdog {
    /// Reads once what systemd wants (`WATCHDOG_USEC`); without it, [`Watchdog::ping`] is free.
    pub fn from_env() -> Watchdog {
        Watchdog::with(sd_notify::watchdog_enabled())
    }

    fn with(interval: Option<Duration>) -> Watchdog {
        Watchdog { every: interval.map(|interval| interval / 2), pinged: None }
    }

    /// How often the loop must come by at least; `None` where nobody watches.
    pub fn every(&self) -> Option<Duration> {
        self.every
    }

    /// To be called in each turn of the loop: pings at most once in half an interval.
    pub fn ping(&mut self) {
        if self.due(Instant::now()) {
            send(&[NotifyState::Watchdog]);
        }
    }

    fn due(&mut self, now: Instant) -> bool {
        let Some(every) = self.every else { return false };
        // A quarter early, so that a loop which wakes once in `every` does not skip a turn.
        let rest = every * 3 / 4;
        if self.pinged.is_some_and(|last| now.saturating_duration_since(last) < rest) {
            return false;
        }
        self.pinged = Some(now);
        true
    }
}

/// Why a secret could not be had. Each names where it was looked for.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("credential {name:?} is wanted, but systemd passed none (LoadCredential={name}:...)")]
    NoCredentials { name: String },
    #[error("{name:?} is no name of a credential: it must be a plain file name")]
    BadName { name: String },
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} holds no secret: it is empty", path.display())]
    Empty { path: PathBuf },
    #[error("{} is longer than {SECRET_BYTES_MAX} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("{} is not one line of printable text", path.display())]
    NotText { path: PathBuf },
}

/// Reads a secret: the named credential, else the file, else there is none.
///
/// # Errors
///
/// Whatever stands between us and a secret that is configured; never its content.
pub fn secret(credential: Option<&str>, file: Option<&str>) -> Result<Option<String>, SecretError> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    match (credential, file) {
        (Some(name), file) => match (credential_path(folder.as_deref(), name), file) {
            (Ok(path), _) => read_secret(&path).map(Some),
            // The file stands in for a machine without systemd.
            (Err(SecretError::NoCredentials { .. }), Some(file)) => {
                read_secret(Path::new(file)).map(Some)
            }
            (Err(error), _) => Err(error),
        },
        (None, Some(file)) => read_secret(Path::new(file)).map(Some),
        (None, None) => Ok(None),
    }
}

fn credential_path(folder: Option<&Path>, name: &str) -> Result<PathBuf, SecretError> {
    let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
    if !plain {
        return Err(SecretError::BadName { name: name.to_owned() });
    }
    let folder = folder.ok_or_else(|| SecretError::NoCredentials { name: name.to_owned() })?;
    Ok(folder.join(name))
}

fn read_secret(path: &Path) -> Result<String, SecretError> {
    let path = path.to_owned();
    let mut bytes = Vec::new();
    let read =
        File::open(&path).and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes));
    if let Err(source) = read {
        return Err(SecretError::Unreadable { path, source });
    }
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(SecretError::TooLong { path });
    }
    let Ok(text) = String::from_utf8(bytes) else { return Err(SecretError::NotText { path }) };
    // Editors end a file with one newline, which nobody means as part of the secret.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(SecretError::Empty { path });
    }
    if text.chars().any(char::is_control) {
        return Err(SecretError::NotText { path });
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_pinged_at_most_twice_an_interval() {
        let mut watchdog = Watchdog::with(Some(Duration::from_secs(10)));
        let start = Instant::now();
        let pings = (0..200).filter(|i| watchdog.due(start + Duration::from_millis(i * 100)));
        // 20 s at 10 turns a second; a ping each 3.75 s.
        assert_eq!(pings.count(), 6);
        assert!(!Watchdog::with(None).due(start), "nobody watches");
    }

    #[test]
    fn a_secret_loses_one_newline_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (content, wanted) in [
            ("s3cret\n", Some("s3cret")),
            ("s3cret\r\n", Some("s3cret")),
            ("two words", Some("two words")),
            ("", None),
            ("\n", None),
            ("a\n\n", None),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read_secret(&path).ok().as_deref(), wanted, "{content:?}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_secret_names_the_path_and_not_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let missing = read_secret(&path).unwrap_err().to_string();
        assert!(missing.contains(path.to_str().unwrap()), "{missing}");

        std::fs::write(&path, "x".repeat(4_097)).unwrap();
        let long = read_secret(&path).unwrap_err();
        assert!(matches!(long, SecretError::TooLong { .. }), "{long}");
        std::fs::write(&path, "x".repeat(4_096)).unwrap();
        assert!(read_secret(&path).is_ok());

        std::fs::write(&path, b"hidden\xff").unwrap();
        let text = read_secret(&path).unwrap_err().to_string();
        assert!(text.contains("printable") && !text.contains("hidden"), "{text}");
    }

    #[test]
    fn a_credential_is_a_plain_name_in_the_folder() {
        let folder = Path::new("/run/credentials/parkway.service");
        let path = credential_path(Some(folder), "http-token").unwrap();
        assert_eq!(path, folder.join("http-token"));
        for name in ["", ".", "..", "../shadow", "a/b"] {
            let error = credential_path(Some(folder), name).unwrap_err();
            assert!(matches!(error, SecretError::BadName { .. }), "{name:?}: {error}");
        }
        let error = credential_path(None, "http-token").unwrap_err().to_string();
        assert!(error.contains("LoadCredential=http-token"), "{error}");
    }
}
