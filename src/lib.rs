//! parkway: an edge gateway for underground parking.
//!
//! Two pure machines decide: [`gateway`] (bays, leases, signs) and [`outbox`] (delivery). Each has
//! one owner and one door, `step(now, input, &mut effects)`. Around them stand thin adapters, one a
//! folder or file: [`field`] (Modbus), [`store`] (sled), [`uplink`] (MQTT), [`http`], [`metrics`],
//! [`systemd`]. [`run`] joins them into the daemon; `demo` puts a whole site around that daemon;
//! [`probe`] is an installer's own way to a device.
//!
//! | to change | look in |
//! |---|---|
//! | what may be configured, and its bounds | `config/file.rs`, `config/check.rs` |
//! | which bay a driver gets | `gateway/choose.rs`, `gateway/route.rs` |
//! | how a lease ends | `gateway/ask.rs`, `gateway/fill.rs` |
//! | what a sign shows, and who decides it | `gateway/precedence.rs`, `gateway/sign.rs` |
//! | what a line asks next, and what an answer means | `field/agenda.rs`, `field/policy.rs` |
//! | where a kind of device keeps its data | `config/profiles`, `profile.rs` |
//! | what upstream is told | `record.rs`, `config/schema` |
//! | what a full store keeps | `store/thin.rs`, `store/floor.rs` |
//! | what survives a restart | `gateway/keep.rs`, `store` |
//!
//! `tests/tidy.rs` holds the architecture: which files are pure, and how large things may grow.
//! `sim` (tests only) puts both machines into one world that fails in every way, from a seed.
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
pub mod outbox;
pub mod owner;
pub mod probe;
pub mod profile;
pub mod record;
pub mod run;
#[cfg(test)]
mod sim;
pub mod site;
pub mod status;
pub mod store;
pub mod systemd;
pub mod time;
pub mod uplink;
