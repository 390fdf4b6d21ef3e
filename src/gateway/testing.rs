//! A small site for the core's tests: two garages on a ring with one portal, 90 bays.

use std::path::Path;

use crate::config;
use crate::site::Site;

/// The site of `tests/site/small.toml`.
pub fn site() -> Site {
    config().site
}

/// The same with everything around it.
pub fn config() -> config::Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/site/small.toml");
    match config::load(&path) {
        Ok(config) => config,
        Err(problems) => panic!("{problems:?}"),
    }
}
