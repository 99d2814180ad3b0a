//! Machines made of network namespaces, and eyes to look at them with.
//!
//! Read in this order: [`net`] (a switch and what is plugged into it), [`machine`] (a node: its
//! namespace, directory, cgroup root and agent), [`coordinator`], [`fleet`] (all of them, from the
//! first to the last, with a dump when something goes wrong). [`disk`] and [`limits`] make life hard
//! for them. [`proc`], [`cgroups`] and [`witness`] see by the machine's own means what runs, and
//! [`seen`] on machines elsewhere; [`wait`] is the only way to wait; [`runner`] runs
//! scenarios as `cargo test` runs tests.
//!
//! Nothing here asks Everynode what it does: what it shows to people is looked at by the scenarios
//! that are about that.

pub mod cgroups;
pub mod clock;
pub mod coordinator;
pub mod daemon;
pub mod disk;
pub mod dump;
pub mod failure;
pub mod fleet;
pub mod ground;
pub mod limits;
pub mod machine;
pub mod manifests;
pub mod net;
pub mod proc;
pub mod runner;
pub mod said;
pub mod seen;
pub mod wait;
pub mod witness;

pub use coordinator::Coordinator;
pub use failure::{Context, Failure, Outcome};
pub use fleet::Fleet;
pub use machine::Machine;
