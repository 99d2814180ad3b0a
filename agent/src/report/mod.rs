//! What people at a machine are told of it, with or without a running agent.
//!
//! [`of_node()`] is an agent's account, which goes over the local socket as JSON; [`offline()`] is what
//! the ledger and the cgroups say where no agent runs. [`text`] and [`json`] show either.

mod json;
mod of_node;
mod offline;
mod text;

use everynode_agent_core::{Hold, Scope};
use everynode_model::Reason;
use serde::{Deserialize, Serialize};

pub(crate) use json::{pods as pods_json, status as status_json};
pub(crate) use of_node::of_node;
pub(crate) use offline::{OfflineError, offline};
pub(crate) use text::{
    failures as failures_text, pods as pods_table, status as status_text, table, why as why_text,
};

/// A machine, as far as people want to know it. Dates are in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// Whether an agent runs here; else this is what the ledger and the cgroups say.
    pub agent_running: bool,
    /// The node's name.
    pub node: String,
    /// The node's uid.
    pub node_uid: String,
    /// Its cluster.
    pub cluster: String,
    /// Whether it stays, in words.
    pub standing: String,
    /// Until when its certificate is valid, in words.
    pub certificate: String,
    /// Where its coordinators are.
    pub coordinators: Vec<String>,
    /// Whether there is a session with one.
    pub connected: bool,
    /// With which, or why there is none.
    pub session: String,
    /// The newest order that it accepted.
    pub order: Option<Order>,
    /// How many DaemonSets that order has.
    pub assigned: usize,
    /// What is wrong with the agent itself.
    pub troubles: Vec<Words>,
    /// What somebody here holds.
    pub holds: Vec<Held>,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// What does not simply run as it ought to.
    pub why: Vec<Why>,
}

/// Which order counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Whose reign.
    pub term: u64,
    /// The how-manieth in it.
    pub generation: u64,
}

/// A reason: a word and a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    /// A CamelCase word.
    pub reason: String,
    /// One line.
    pub message: String,
}

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// `NAMESPACE/NAME`; `None`: everything here.
    pub pod: Option<String>,
    /// Whether it is stopped, too.
    pub stop: bool,
    /// Who wanted it.
    pub by: String,
    /// What for.
    pub reason: String,
    /// Since when.
    pub since: i64,
    /// When it ends by itself.
    pub until: Option<i64>,
}

/// A pod that lives here, or is to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Its DaemonSet's namespace.
    pub namespace: String,
    /// Its DaemonSet's name.
    pub daemon_set: String,
    /// Its own name, as a coordinator shows it.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// `Pending`, `Running` or `Terminating`.
    pub phase: String,
    /// Why it is not simply running.
    pub why: Option<Words>,
    /// Whether somebody here holds it.
    pub held: bool,
    /// Whether all its containers are ready.
    pub ready: bool,
    /// How often any was restarted, where that is known.
    pub restarts: Option<u64>,
    /// Of which revision it is, in short, where that is known.
    pub revision: String,
    /// When it was made.
    pub started_at: Option<i64>,
    /// What went wrong with it last.
    pub last_failure: Option<Failure>,
    /// What went wrong last in its place before it.
    pub former_failure: Option<Failure>,
    /// Its containers.
    pub containers: Vec<Container>,
}

/// What went wrong with a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failure {
    /// Of which revision the pod was, in short.
    pub revision: String,
    /// Which container; empty: the pod as a whole.
    pub container: String,
    /// How it ended; 128 and the signal's number where one ended it.
    pub exit_code: Option<i32>,
    /// By which signal.
    pub signal: Option<i32>,
    /// Why.
    pub words: Option<Words>,
    /// When.
    pub at: i64,
    /// What it printed last.
    pub log_tail: String,
}

/// A container of a pod: it runs, or waits, or has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Whether it is an init container that ends before the pod runs.
    pub init: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// How often it was restarted, where that is known.
    pub restarts: Option<u64>,
    /// Its first process, when it runs.
    pub pid: Option<u32>,
    /// Since when it runs.
    pub since: Option<i64>,
    /// Why it waits.
    pub waiting: Option<Words>,
    /// How it ended, if it has; 128 and the signal's number where one ended it.
    pub exit_code: Option<i32>,
}

/// Why something is not as it ought to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// `NAMESPACE/NAME`; `node`: the machine as a whole.
    pub what: String,
    /// Why.
    #[serde(flatten)]
    pub words: Words,
}

impl From<&Reason> for Words {
    fn from(reason: &Reason) -> Self {
        Self { reason: reason.code.clone(), message: reason.message.clone() }
    }
}

impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Reason::new(self.reason.as_str(), self.message.as_str()).fmt(f)
    }
}

impl Held {
    fn of((scope, hold): (Scope, &Hold)) -> Self {
        Self {
            pod: match scope {
                Scope::Node => None,
                Scope::Place(key) => Some(key.to_string()),
            },
            stop: hold.stop,
            by: hold.by.clone(),
            reason: hold.reason.clone(),
            since: hold.since.unix_millis,
            until: hold.until.map(|until| until.unix_millis),
        }
    }
}

fn certificate(identity: &crate::identity::Identity) -> String {
    match identity.validity() {
        Some(validity) => {
            let until = text::date(validity.not_after.saturating_mul(1000));
            format!("valid until {until}; renewed by itself")
        }
        None => "unreadable".into(),
    }
}

/// How a machine's standing is called.
fn standing(standing: everynode_agent_core::Standing) -> &'static str {
    use everynode_agent_core::{Departure, Standing};
    match standing {
        Standing::Active => "active",
        Standing::Leaving(Departure::Deregistered) => "leaving (removed by its coordinator)",
        Standing::Leaving(Departure::Requested) => "leaving (asked for at this machine)",
        Standing::Left => "left",
    }
}
