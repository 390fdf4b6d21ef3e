//! A whole site on one machine: what `parkway demo` shows.

pub mod rng;
pub mod world;
