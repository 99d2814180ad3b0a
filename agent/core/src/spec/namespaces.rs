//! Which of the machine's namespaces a pod does not share: `hostNetwork`, `hostIPC`, `hostPID` and
//! `shareProcessNamespace`.
//!
//! As in Kubernetes, a field that is not there shares nothing. What is decided so at the agent's door
//! is here what is to be made; a spec that says nothing shares everything with the machine.

/// What a pod has of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// A network of which only loopback is there: not `hostNetwork`.
    pub network: bool,
    /// System V's and POSIX' queues and shared memory, with `/dev/shm`: not `hostIPC`.
    pub ipc: bool,
    /// Who sees whose processes.
    pub pids: Pids,
}

/// Who sees whose processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pids {
    /// Each container sees all of the machine's (`hostPID`).
    #[default]
    Machine,
    /// Each container sees its own; its program is the first of them, number 1.
    Container,
    /// Each container sees those of the pod; none of their programs is number 1
    /// (`shareProcessNamespace`).
    Pod,
}

impl Namespaces {
    /// Whether anything is the pod's own.
    pub fn is_any_own(&self) -> bool {
        *self != Self::default()
    }
}
