//! A whole site on one machine: what `parkway demo` shows.

mod broker;
mod devices;
mod files;
mod http;
mod rng;
mod world;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock on what is only shown: a panic elsewhere does not spoil it.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
