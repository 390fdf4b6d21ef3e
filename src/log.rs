//! Where the daemon's words go: the journal under systemd, else the terminal.
//!
//! One place decides the format and the filter, so the rest only says what happened, with values
//! as fields. Crates that speak through `log` (sled, the Modbus and MQTT clients) are heard too,
//! but only from WARN on unless a filter says otherwise: a bare level means our own words. The
//! filter can be changed while running; a filter that cannot be read changes nothing.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// Why a filter was refused.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "log.level {level:?}: {why}; write error, warn, info, debug or trace, \
         or a filter such as \"info,parkway::field=debug\""
    )]
    BadLevel { level: String, why: String },
    /// Someone else in this process already set up logging.
    #[error("logging is already set up")]
    Twice,
}

/// Changes the filter while running.
#[derive(Clone, Debug)]
pub struct LogControl {
    filter: reload::Handle<Targets, Registry>,
}

impl LogControl {
    /// Puts another filter in place.
    ///
    /// # Errors
    ///
    /// The level is no filter: the old one stays.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        let filter = parse(level)?;
        self.filter
            .reload(filter)
            .map_err(|error| LogError::BadLevel { level: level.to_owned(), why: error.to_string() })
    }
}

/// Sets up logging for the process, once, before anything speaks.
///
/// # Errors
///
/// The level is no filter, or logging is already set up.
pub fn init(level: &str) -> Result<LogControl, LogError> {
    let (filter, handle) = reload::Layer::new(parse(level)?);
    let journal = if stderr_is_the_journal() {
        // Without its socket we speak to stderr, which systemd puts in the journal as plain text.
        tracing_journald::layer().ok().map(|l| l.with_syslog_identifier("parkway".to_owned()))
    } else {
        None
    };
    let output: Box<dyn Layer<_> + Send + Sync> = match journal {
        Some(layer) => Box::new(layer),
        None => Box::new(
            tracing_subscriber::fmt::layer()
                .with_ansi(std::io::stderr().is_terminal())
                .with_writer(std::io::stderr),
        ),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(output)
        .try_init()
        .map_err(|_| LogError::Twice)?;
    Ok(LogControl { filter: handle })
}

/// Whether a level is one, for those who only check a configuration.
///
/// # Errors
///
/// The level is no filter.
pub fn judge(level: &str) -> Result<(), LogError> {
    parse(level).map(|_| ())
}

/// Strict, unlike `RUST_LOG`: a typing error must not silence the daemon. A bare level is ours
/// alone: at debug the store's and the Modbus client's crates would say several lines a request.
fn parse(level: &str) -> Result<Targets, LogError> {
    let bad = |why: String| LogError::BadLevel { level: level.to_owned(), why };
    if level.trim().is_empty() {
        return Err(bad("it is empty".to_owned()));
    }
    let parts: Vec<&str> = level.split(',').map(str::trim).collect();
    for part in &parts {
        // A lone word is taken for a module by the filter's own parser, so "inof" would pass.
        let is_level = ["off", "error", "warn", "info", "debug", "trace"].contains(part);
        if !is_level && !part.contains('=') {
            return Err(bad(format!("{part:?} is no level")));
        }
    }
    let filter = match parts[..] {
        [bare @ ("info" | "debug" | "trace")] => format!("warn,parkway={bare}"),
        _ => parts.join(","),
    };
    filter.parse().map_err(|error: tracing_subscriber::filter::ParseError| bad(error.to_string()))
}

/// systemd says in `JOURNAL_STREAM` which socket leads to the journal. Only where that is our
/// stderr do we run as the service; a shell started from a service inherits the variable too.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_level_is_named() {
        for level in ["", "inof", "info,parkway::field=loud", "info,,debug", "parkway=nine"] {
            let error = parse(level).map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("log.level {level:?}")), "{error}");
        }
        for level in ["info", "off", "warn,parkway=trace", "info, parkway::field=debug"] {
            assert!(parse(level).is_ok(), "{level}");
        }
    }

    #[test]
    fn the_filter_changes_while_running_and_a_bad_one_changes_nothing() {
        let (_layer, handle) = reload::Layer::<Targets, Registry>::new(parse("info").unwrap());
        let control = LogControl { filter: handle };
        control.set("debug").unwrap();
        assert!(control.set("lots").is_err());
        let now = control.filter.with_current(|filter| filter.to_string()).unwrap();
        assert_eq!(now, "parkway=debug,warn");
    }

    #[test]
    fn a_bare_level_is_ours_alone() {
        // (filter, ours at debug, sled at debug, sled at warn)
        for (level, ours, theirs, theirs_warn) in [
            ("debug", true, false, true),
            (" trace ", true, false, true),
            ("info", false, false, true),
            ("error", false, false, false),
            ("off", false, false, false),
            ("debug,parkway=info", false, true, true),
            ("info,sled=debug", false, true, true),
        ] {
            let subscriber = tracing_subscriber::registry().with(parse(level).unwrap());
            let heard = tracing::subscriber::with_default(subscriber, || {
                (
                    tracing::enabled!(target: "parkway::field", tracing::Level::DEBUG),
                    tracing::enabled!(target: "sled::db", tracing::Level::DEBUG),
                    tracing::enabled!(target: "sled::db", tracing::Level::WARN),
                )
            });
            assert_eq!(heard, (ours, theirs, theirs_warn), "{level:?}");
        }
    }
}
