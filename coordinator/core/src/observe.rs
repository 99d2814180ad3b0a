//! What agents say. None of it is stored; all of it is said again on the next connection.

use everynode_model::{
    Features, NodeCondition, NodeUid, PodKey, PodStatus, Reason, SessionNonce, Stamp,
};

use crate::record::{EventType, InvolvedObject};

/// Something seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// An agent's session began, and this is what it said first. Replaces all that was known of
    /// the node before.
    Connected {
        /// Which node, by its certificate.
        node: NodeUid,
        /// This session's mark.
        session: SessionNonce,
        /// What it said.
        hello: Box<Hello>,
    },
    /// The agent said something in that session, for the first time after its Hello: it was welcomed,
    /// and has the session's mark.
    Answered {
        /// Which node.
        node: NodeUid,
        /// Which session.
        session: SessionNonce,
    },
    /// That session ended. Of a session that was replaced, nothing is heeded.
    Disconnected {
        /// Which node.
        node: NodeUid,
        /// Which session.
        session: SessionNonce,
    },
    /// The node's places as they are now; places not named have not changed.
    Status {
        /// Which node.
        node: NodeUid,
        /// Which session.
        session: SessionNonce,
        /// By place; no pods: the place is empty and nothing is wanted there.
        places: Vec<(PodKey, Vec<PodStatus>)>,
    },
    /// How the node's machine is doing, all of it, as something of that has changed.
    Conditions {
        /// Which node.
        node: NodeUid,
        /// Which session.
        session: SessionNonce,
        /// All that it knows of.
        conditions: Vec<NodeCondition>,
    },
    /// The node has an order on disk, or refused it.
    Acknowledged {
        /// Which node.
        node: NodeUid,
        /// Which order.
        stamp: Stamp,
        /// Why it was refused.
        refused: Option<Reason>,
    },
    /// The shell noticed something that people should see.
    Noticed {
        /// About what.
        about: InvolvedObject,
        /// News or trouble.
        event_type: EventType,
        /// A CamelCase word.
        reason: String,
        /// One line.
        message: String,
    },
}

/// What an agent says of its machine when a session begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The machine's id (`/etc/machine-id`).
    pub machine_id: String,
    /// The boot's id.
    pub boot_id: String,
    /// The agent's version.
    pub agent_version: String,
    /// What it can honour.
    pub features: Features,
    /// Facts to show: `os`, `arch`, `kernel`, `addresses`, and what there is (`cpu`, `memory`); by name.
    pub facts: std::collections::BTreeMap<String, String>,
    /// How it is doing.
    pub conditions: Vec<NodeCondition>,
    /// The newest order it has on disk.
    pub accepted: Option<Stamp>,
    /// The mark of the newest session that it has on disk.
    pub last_session: Option<SessionNonce>,
    /// All its places.
    pub places: Vec<(PodKey, Vec<PodStatus>)>,
}
