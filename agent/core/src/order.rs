//! Which orders count: only newer ones, of our cluster, that mean what they say.
//!
//! ```text
//!            of another cluster ──────────────▶ OtherCluster
//!            while leaving ───────────────────▶ Leaving
//!   order ─▶ same place, other content ───────▶ ContradictoryOrder   (an alarm)
//!            the accepted one again ──────────▶ acknowledged, nothing written, nothing done
//!            the one being written again ─────▶ silence: its answer is coming
//!            not newer ───────────────────────▶ StaleOrder
//!            empty and not marked as meant ───▶ UnmarkedEmpty
//!            else ────────────────────────────▶ to be written
//! ```
//!
//! A newer stamp on the same content is written too: what was accepted must never go back across a
//! restart of the agent. It costs one write and restarts nothing.

use everynode_model::{Assignment, ClusterId, PodKey, Reason, Stamp};

/// A whole order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) stamp: Stamp,
    pub(crate) assignment: Assignment,
    pub(crate) empty_is_meant: bool,
    pub(crate) runtimes: Vec<(PodKey, String)>,
}

/// What an order is measured against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fence {
    pub(crate) cluster: ClusterId,
    pub(crate) leaving: bool,
    /// On disk.
    pub(crate) accepted: Option<Stamp>,
    /// On its way to the disk; newer than `accepted`.
    pub(crate) coming: Option<Stamp>,
}

/// What becomes of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is to be written, and counts from then on.
    Write,
    /// It is the accepted one.
    AlreadyAccepted,
    /// It is being written.
    AlreadyComing,
    /// It is refused.
    Refused(Refusal),
}

/// Why an order is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is another cluster's.
    OtherCluster {
        /// Whose.
        cluster: ClusterId,
    },
    /// This machine leaves its cluster; nothing starts here any more.
    Leaving,
    /// It claims the place of a known order with other content, or the term of another reign.
    ContradictoryOrder {
        /// The known order.
        known: Stamp,
    },
    /// An order as new or newer was accepted.
    StaleOrder {
        /// That order.
        known: Stamp,
    },
    /// It is empty and not marked as meant so.
    UnmarkedEmpty,
}

impl Fence {
    /// What becomes of `order`.
    pub(crate) fn judge(&self, order: &Order) -> Verdict {
        let stamp = &order.stamp;
        if stamp.cluster != self.cluster && !mutated!(AcceptOtherCluster) {
            return Verdict::Refused(Refusal::OtherCluster { cluster: stamp.cluster });
        }
        if self.leaving {
            return Verdict::Refused(Refusal::Leaving);
        }
        if let Some(known) = self.coming.or(self.accepted) {
            if *stamp == known {
                let coming = self.coming.is_some();
                return if coming { Verdict::AlreadyComing } else { Verdict::AlreadyAccepted };
            }
            if stamp.contradicts(&known) && !mutated!(AcceptContradiction) {
                return Verdict::Refused(Refusal::ContradictoryOrder { known });
            }
            if !stamp.is_newer_than(&known) && !mutated!(AcceptOlder) {
                return Verdict::Refused(Refusal::StaleOrder { known });
            }
        }
        if order.assignment.is_empty() && !order.empty_is_meant && !mutated!(AcceptUnmeantEmpty) {
            return Verdict::Refused(Refusal::UnmarkedEmpty);
        }
        Verdict::Write
    }
}

impl Refusal {
    /// The word for it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OtherCluster { .. } => "OtherCluster",
            Self::Leaving => "Leaving",
            Self::ContradictoryOrder { .. } => "ContradictoryOrder",
            Self::StaleOrder { .. } => "StaleOrder",
            Self::UnmarkedEmpty => "UnmarkedEmpty",
        }
    }
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        let message = match refusal {
            Refusal::OtherCluster { cluster } => {
                format!("the order is of cluster {cluster}, which this machine does not belong to")
            }
            Refusal::Leaving => "this machine is leaving its cluster and starts nothing".into(),
            Refusal::ContradictoryOrder { known } => format!(
                "term {} generation {} is known with other content or from another reign ({})",
                known.term, known.generation, known.reign
            ),
            Refusal::StaleOrder { known } => {
                format!("term {} generation {} was accepted before", known.term, known.generation)
            }
            Refusal::UnmarkedEmpty => "the order is empty and not marked as meant so".into(),
        };
        Self::new(refusal.code(), message)
    }
}
