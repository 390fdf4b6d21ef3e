//! The decision core (being built).
mod door;
mod snapshot;

pub use door::*;
pub use snapshot::*;
