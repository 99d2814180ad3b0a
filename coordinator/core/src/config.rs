//! The numbers that a coordinator decides by, each with its reason.

use std::time::Duration;

/// The numbers that a coordinator decides by; [`Config::default`] is what it runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a node that is not heard of still counts as there. 40 s: Kubernetes'
    /// `node-monitor-grace-period` before 1.32, four times its heartbeat.
    pub lease: Duration,
    /// How long after it began to lead a coordinator waits for nodes to call before it takes a
    /// rollout step. 60 s: two heartbeats at their longest, so that every node that can call has
    /// had two chances.
    pub registration_window: Duration,
    /// How often a node must be heard of; the session layer tells it. 10 s, as a kubelet.
    pub heartbeat_interval: Duration,
    /// How many events are kept. 1,000: all that a person reads, in well under 1 MiB.
    pub max_events: usize,
    /// How many events may be written per minute; more are only kept in memory. 600: a
    /// fleet-wide crash loop must not turn into a fleet-wide write load.
    pub event_writes_per_minute: u32,
    /// How many nodes there may be, tombstones included. 200,000: twice the largest fleet that
    /// was measured; a chunk of grants then still fits well into one write.
    pub max_nodes: usize,
    /// How many join tokens there may be. 1,000: they are looked through one by one when they end.
    pub max_tokens: usize,
    /// How many DaemonSets there may be. 500: a node's assignment is computed by asking each.
    pub max_sets: usize,
    /// How many ConfigMaps, Secrets and Namespaces there may be. 2,000: four for each DaemonSet.
    pub max_objects: usize,
    /// How many places of one node are kept track of. 1,000: what [`Self::max_sets`] allows,
    /// twice, so that a set deleted and created again shows both.
    pub max_places: usize,
    /// How many bytes are kept of what containers printed before they failed. 64 MiB: some 10,000
    /// failed pods; a fleet on which all fail costs no more.
    pub max_printed: usize,
    /// How long a node's tombstone is kept after it confirmed its departure. 30 days: longer than
    /// a machine stays in a cupboard before it asks again whether its confirmation arrived.
    pub tombstone_age: Duration,
    /// How many percent of a DaemonSet's running pods one operation may end without being asked for.
    /// 10: no careful change of labels or selectors reaches so far, and a mistyped one does.
    pub removal_percent: u32,
    /// How long an expired token is kept, to say "expired" and not "invalid". One day.
    pub expired_token_age: Duration,
}

/// How many writes one decision or step may have: below the store's 128 operations in one
/// transaction, which leaves room for what the shell adds (audit, blobs).
pub(crate) const MAX_WRITES: usize = 120;

/// How many grants the chunks of one decision or step may hold together. At about 60 bytes each
/// that is some 700 KiB: below the store's 1 MiB for one transaction.
pub(crate) const MAX_GRANTS: usize = 12_000;

impl Default for Config {
    fn default() -> Self {
        const DAY: u64 = 24 * 60 * 60;
        Self {
            lease: Duration::from_secs(40),
            registration_window: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(10),
            max_events: 1_000,
            event_writes_per_minute: 600,
            max_nodes: 200_000,
            max_tokens: 1_000,
            max_sets: 500,
            max_objects: 2_000,
            max_places: 1_000,
            max_printed: 64 * 1024 * 1024,
            tombstone_age: Duration::from_secs(30 * DAY),
            removal_percent: 10,
            expired_token_age: Duration::from_secs(DAY),
        }
    }
}
