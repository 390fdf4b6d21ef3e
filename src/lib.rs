//! parkway: an edge gateway for underground parking.
#![deny(unsafe_code)]

pub mod cli;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
pub mod field;
pub mod gateway;
pub mod http;
pub mod log;
pub mod metrics;
pub mod owner;
pub mod profile;
pub mod record;
pub mod run;
pub mod site;
pub mod status;
pub mod store {
    pub mod queue;
}
pub mod systemd;
pub mod time;
