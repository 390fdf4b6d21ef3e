//! The command line: which words start what, and what each exit code means.
//!
//! 0 stopped as asked, 1 could not start or failed, 64 bad usage or configuration (EX_USAGE). A
//! bad word must not look like a crash to systemd, which restarts on 1 and stays down on 64.

mod check;
#[cfg(feature = "demo")]
mod demo;
mod lines;
mod probe;
pub mod status;
mod store;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::run::USAGE;

/// Edge gateway for underground parking.
#[derive(Parser, Debug)]
#[command(name = "parkway", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the gateway until it is stopped
    Run {
        /// Main configuration file
        #[arg(long, value_name = "FILE", default_value = "/etc/parkway/parkway.toml")]
        config: PathBuf,
        /// How much faster than real its clock runs: for the demo only
        #[arg(long, value_name = "N", default_value_t = 1, hide = true,
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        clock_speed: u32,
    },
    /// Check a configuration, and tell everything that is wrong with it or what it amounts to
    Check {
        /// Main configuration file
        #[arg(value_name = "FILE", default_value = "/etc/parkway/parkway.toml")]
        config: PathBuf,
    },
    /// Read, scan and time a unit or a line live, and say which profiles fit; for bringing up
    Probe(Box<probe::Probe>),
    /// Show a whole site at work on this machine: controllers, cars, broker and gateway
    #[cfg(feature = "demo")]
    Demo(demo::Demo),
    /// Ask a running gateway how it is
    Status {
        /// Its address
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
        http: String,
        /// File with the bearer token, where the gateway asks for one
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Look into a store, live, stopped or set aside; the store itself is never changed
    #[command(subcommand)]
    Store(store::Store),
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, but not to whoever asked for them.
            let asked = !error.use_stderr();
            // Nothing is left to do where the text cannot be printed.
            let _ = error.print();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    match cli.command {
        Command::Run { config, clock_speed } => crate::run::run(&config, clock_speed),
        Command::Check { config } => check::run(&config),
        Command::Probe(probe) => probe::run(&probe),
        #[cfg(feature = "demo")]
        Command::Demo(demo) => demo::run(demo),
        Command::Status { http, token_file } => told(&http, token_file.as_deref()),
        Command::Store(store) => store::run(&store),
    }
}

/// Prints how a running gateway is. The token comes from a file, because an argument would stand
/// in every process list.
fn told(http: &str, token_file: Option<&Path>) -> ExitCode {
    let token = match token_in(token_file) {
        Ok(token) => token,
        Err(code) => return code,
    };
    match status::status(http, token.as_deref()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("parkway: {error}");
            ExitCode::FAILURE
        }
    }
}

fn token_in(file: Option<&Path>) -> Result<Option<String>, ExitCode> {
    let token = file.map(std::fs::read_to_string).transpose().map_err(|error| {
        eprintln!("parkway: --token-file cannot be read: {error}");
        ExitCode::from(USAGE)
    })?;
    Ok(token.map(|token| token.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn bad_words_are_refused() {
        let refused = |line: &str| Cli::try_parse_from(line.split(' ')).is_err();
        for line in [
            "parkway walk",
            "parkway run --clock-speed 0",
            "parkway run --clock-speed 1001",
            "parkway check a b",
            "parkway status --http",
            "parkway store",
            "parkway store export --lane bays",
            "parkway store export --from 0",
            "parkway store check a b",
        ] {
            assert!(refused(line), "{line} was accepted");
        }
        assert!(!refused("parkway run --config a.toml --clock-speed 20"));
        assert!(!refused("parkway check a.toml"));
        assert!(!refused("parkway store check"));
        assert!(!refused("parkway store export a --lane events --from 3 --to 9 --kept --out b"));
    }
}
