//! `parkway demo`: its options, as people write them.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::demo::Options;

#[derive(Args, Debug)]
pub struct Demo {
    /// How much faster than real the site's clock runs: cars, leases, windows
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    speed: u32,
    /// Cut the network for so long, such as 60s or 5m, half a minute after the start; a further
    /// one follows half a minute after the last
    #[arg(long, value_name = "TIME", value_parser = length)]
    outage: Vec<Duration>,
    /// End after so long, with a summary; runs until Ctrl-C where absent
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    lasts: Option<Duration>,
    /// Where the page is served; 127.0.0.1:8080, or any free port where that is taken
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// Makes another day of the same kind
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Runs the demo.
pub fn run(demo: Demo) -> ExitCode {
    let Demo { speed, outage, lasts, http, seed } = demo;
    crate::demo::run(Options { speed, outages: outage, lasts, http, seed })
}

/// Reads "90", "90s", "5m" or "1h": one second to one day.
fn length(text: &str) -> Result<Duration, String> {
    let (number, unit_s) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        Some(_) | None => (text, 1),
    };
    let length_s = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_s));
    length_s
        .filter(|length_s| (1..=86_400).contains(length_s))
        .map(Duration::from_secs)
        .ok_or_else(|| format!("\"{text}\" is not a time of 1s to 24h, such as 60s or 5m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_written() {
        for (text, length_s) in [("60s", 60), ("5m", 300), ("24h", 86_400), ("7", 7)] {
            assert_eq!(length(text), Ok(Duration::from_secs(length_s)), "{text}");
        }
        for text in ["", "s", "0", "25h", "-1s", "1.5m", "60 s", "5d", "é"] {
            assert!(length(text).is_err(), "{text} was accepted");
        }
    }
}
