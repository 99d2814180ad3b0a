//! The coordinator: what should run where, for every machine of one cluster.
//!
//! Read in this order: [`boot`] (from a store to a fleet), [`driver`] (the one loop that owns it),
//! [`sessions`] (the machines' side), [`services`] (the people's side), [`serve`] (all of them on
//! one port). [`accept`], [`tls`], [`pki`] and [`auth`] are the door; [`records`] is what is stored.
//!
//! What is decided is decided in `everynode-coordinator-core`; this crate waits, reads and writes.

pub mod accept;
pub mod admin;
pub mod auth;
pub mod boot;
pub mod clock;
pub mod config;
pub mod driver;
pub mod entropy;
mod first;
mod held;
pub mod pki;
pub mod records;
pub mod serve;
mod service;
pub mod services;
pub mod sessions;
mod start;
mod status;
pub mod store;
mod streams;
pub mod tls;

pub use start::main_with_args;
