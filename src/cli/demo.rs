//! `parkway demo`: its options.

use std::process::ExitCode;

use clap::Args;

#[derive(Args, Debug)]
pub struct Demo {}

pub fn run(_demo: Demo) -> ExitCode {
    ExitCode::FAILURE
}
