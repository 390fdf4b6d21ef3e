//! parkway: an edge gateway for underground parking.
#![deny(unsafe_code)]

pub mod config;
pub mod gateway;
pub mod outbox;
pub mod owner;
pub mod profile;
pub mod record;
pub mod site;
pub mod store;
pub mod time;
pub mod uplink;
