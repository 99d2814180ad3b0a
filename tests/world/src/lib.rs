//! Both cores in one process: a whole fleet walked at random through everything that can happen to
//! it, every promise looked at after every step. No tokio, no sockets, no clock: some thousands of
//! steps a second, and the same ones again for the same seed.
//!
//! Read in this order: `world` (a walk), `machine` (the ground truth), `seat` and `agents` (an agent's
//! shell), `desk` and `coordinator` (the other one), `faults` and `people` (what is done to them),
//! `invariants` (what holds always), `ending` (what holds in the end).
//!
//! The shells here are models of the real ones, which `tests/sim` runs.

#![allow(
    clippy::expect_used,
    reason = "a world that can't be made is a mistake in it, found by its first walk"
)]

pub mod law;
pub mod log;
#[cfg(feature = "mutations")]
pub mod mutations;
pub mod run;
pub mod world;

mod account;
mod agents;
mod coordinator;
mod desk;
mod dice;
mod ending;
mod faults;
mod invariants;
mod machine;
mod names;
mod people;
mod plans;
mod seat;
mod store;
mod watch;
mod wire;
