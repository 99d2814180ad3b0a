//! Streams between agents and the coordinator: each ordered, and each able to die with messages in
//! it, on one side before the other.

use std::collections::VecDeque;
use std::sync::Arc;

use everynode_coordinator_core::{Hello, Order};
use everynode_model::{NodeUid, PodKey, PodStatus, Reason, SessionNonce, Stamp};

/// From an agent.
#[derive(Clone, Debug)]
pub(crate) enum Up {
    Hello(Box<Hello>),
    Status(Vec<(PodKey, Vec<PodStatus>)>),
    Ack(Stamp, Option<Reason>),
    Resend,
    Leave { empty: bool },
}

/// From the coordinator.
#[derive(Clone, Debug)]
pub(crate) enum Down {
    Welcome(SessionNonce),
    Order(Arc<Order>),
    Deregister,
    Farewell,
    /// The stream's end, and whether it is because the node is not known.
    End {
        unknown: bool,
    },
}

/// A stream.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Who dialled: which machine, and which life of its agent.
    pub(crate) seat: usize,
    pub(crate) life: u64,
    /// Whom it claims to be.
    pub(crate) node: NodeUid,
    /// Which life of the coordinator has the other end.
    pub(crate) desk_life: u64,
    /// Its session, once it was admitted.
    pub(crate) session: Option<SessionNonce>,
    pub(crate) up: VecDeque<Up>,
    pub(crate) down: VecDeque<Down>,
    /// Whether each side still holds its end.
    pub(crate) agent_holds: bool,
    pub(crate) desk_holds: bool,
}
