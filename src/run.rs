//! The daemon's life: start, serve, stop (being built).

use std::path::Path;
use std::process::ExitCode;

/// Runs until stopped.
pub fn run(_config: &Path, _clock_speed: u32) -> ExitCode {
    eprintln!("parkway: \"run\" is being built");
    ExitCode::FAILURE
}
