//! The real program and its store files: damaged ones, copies, restores, and being killed on the way.

// Clippy knows tests by their attribute, not by their directory.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod damaged;
mod kills;
mod place;
mod restored;
