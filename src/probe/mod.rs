//! Commissioning: asks a unit live, without a gateway, and says what it is and what it can hold.
//!
//! `ask` (what was typed), `show` (how it is told), `scan` (what to ask next), `fit` (which
//! profiles fit) and `times` (which time-out and period hold) decide and do no IO. `wire` holds
//! the line, `session` does one task on it, `site` a whole line of a configuration. The command
//! line is `cli/probe.rs`.
//!
//! A probe reads. It writes only what it was told to write, once, and reads it back.

pub mod ask;
pub mod fit;
pub mod scan;
pub mod session;
pub mod show;
pub mod site;
pub mod times;
pub mod wire;
