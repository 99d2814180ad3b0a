//! Every rule as a named example. What can be told of a rule in one story is told here; that the
//! rules hold together is the walks' business.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)]

mod bench;
mod eviction;
mod failures;
mod holding;
mod leaving;
mod lives;
mod looking;
mod orders;
mod places;
mod pod;
mod ports;
mod rejoin;
mod resize;
mod staging;
mod surge;
