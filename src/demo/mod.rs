//! A whole site on one machine: what `parkway demo` shows.

mod devices;
mod files;
mod http;
mod rng;
mod world;
