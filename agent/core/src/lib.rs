//! The agent's deciding half: exactly one of each, here.
//!
//! [`Node`] holds what this machine was told and what is known to live on it. Events go in, actions
//! come out, and what to wait for is [`Node::wake_at`]. It does no I/O, reads no clock and draws no
//! number, so the same code runs a real machine and a million simulated steps.
//!
//! Read in this order: `node` (one event, start to end), `order` (which orders count), `book` (the
//! ledger on disk and the one write in flight), `hold` (what somebody at the machine keeps as it is),
//! `place` (one place's life, drawn), `pod`, `container` and `trial` (what is in it), `ending` (in which
//! order that ends), `eviction` (who has more on disk than it may), `ports` (who holds which of the
//! machine's), `staging` (what must be here before a pod is made), `resize` (other limits for one that
//! runs), `reconcile` (what is wanted against what is there), `check` (the promises as functions).

#[macro_use]
pub mod mutation;

pub mod check;
pub mod event;
pub mod hold;
pub mod ledger;
pub mod spec;

mod after;
mod backoff;
mod book;
mod container;
mod ending;
mod eviction;
mod found;
mod node;
mod order;
mod place;
mod pod;
mod ports;
mod pressure;
mod reconcile;
mod resize;
mod staging;
mod status;
mod stop;
mod surge;
mod trial;
mod words;

pub use backoff::{Doubling, Policy};
pub use event::{
    Action, Event, Found, HookKind, Marks, ProbeKind, Supervised, SupervisedContainer, Unstaged,
};
pub use hold::{Hold, HoldChange, Holds, Scope};
pub use ledger::{Departure, Ledger, Standing};
pub use node::Node;
pub use order::Refusal;
pub use ports::HostPort;
pub use pressure::{Pressure, Readings, Room};
pub use spec::{
    ArtifactSource, Capabilities, CapabilitySet, ContainerSpec, Handler, Hooks, HostPathKind,
    Lifecycle, Namespaces, Pids, Plan, Planned, PodRef, PodSpec, Probe, Probes, Propagation,
    ReadOnly, Resources, RestartBackoff, Role, Seccomp, Security, StorageLimits, StorageUse,
    Volume, VolumeFile, VolumeMount, VolumeSource,
};
pub use status::rfc3339;
