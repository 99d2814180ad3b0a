//! The coordinator's deciding half: what should run where.
//!
//! [`Fleet`] holds the known world in two parts that never mix:
//!
//! - **Records** are durable. They change only in [`Fleet::record`], by [`Write`]s that the store
//!   has (or, in a batch under way, is about to have) taken; a restart replays the same records
//!   through the same function. If a batch fails, the shell throws the fleet away and restores it.
//! - **Observations** are what agents say and how long ago. They change only in
//!   [`Fleet::observe`] and [`Fleet::tick`], are never stored, and are reported anew by every
//!   agent that connects.
//!
//! [`Fleet::decide`] turns a command into writes or a refusal with a name; [`Fleet::step`] gives
//! the writes that a rollout wants next. A node's assignment is a pure function of the records
//! alone, so no order can run ahead of what is stored: [`Fleet::take_orders`].
//!
//! No I/O, no clock, no randomness: time and ids are arguments, waiting is [`Fleet::wake_at`].

#[macro_use]
pub mod mutation;

mod assign;
mod blobs;
mod clock;
pub mod command;
mod conditions;
pub mod config;
mod copies;
mod decide;
pub mod effect;
mod environment;
mod events;
mod fleet;
mod grants;
mod hold;
pub mod invariants;
mod lease;
pub mod observe;
pub mod placement;
pub mod record;
mod records;
mod rollout;
mod seen;
mod stage;
mod status;
mod sweep;
mod tails;
mod tolerance;
pub mod view;
mod views;
mod vitals;
mod why;

pub use command::{Command, Content, Decision, NodeChange, Outcome, PutMode, Refusal};
pub use config::Config;
pub use effect::Effect;
pub use fleet::{Fleet, LAST_TERM, RestoreError};
pub use hold::{Action, Consequence};
pub use observe::{Hello, Observation};
pub use placement::{Verdict, WhyNot, verdict};
pub use record::{
    ClusterRecord, Due, EventRecord, EventType, Grant, GrantHead, HoldRecord, InvolvedObject,
    NodeOrder, NodeRecord, NodeStanding, ObjectRecord, Opaque, Record, RecordKey, RevisionRecord,
    SetRecord, Stalled, TokenRecord, Write,
};
pub use view::{Changed, NodeView, Order, PodView, Readiness, SetStatus, SetView, Why, WhyCount};
pub use views::PodFilter;
pub use why::WhyFilter;
