//! `parkway status`: what the running daemon says about itself (being built).

use std::process::ExitCode;

/// Asks the daemon at `http`, such as "http://127.0.0.1:8080", and prints a page of text.
pub fn run(_http: &str) -> ExitCode {
    eprintln!("parkway: \"status\" is being built");
    ExitCode::FAILURE
}
