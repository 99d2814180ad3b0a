//! What a node says of its pods: cumulative, so that a skipped report hides nothing.

use std::fmt;
use std::time::Duration;

use crate::{Digest, LogTail, PodKey, PodUid, SetUid, WallTime};

/// The word for a pod that somebody at its machine holds as it is, or stopped: it follows no order
/// until it is released.
pub const HELD_ON_NODE: &str = "HeldOnNode";

/// The kubelet's word for a pod that was ended for having more on disk than it may.
pub const EVICTED: &str = "Evicted";

/// Where a pod is in its life. `describe` and `why` show it; only the agent decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodPhase {
    /// Wanted, not started; the reason says what it waits for.
    Pending,
    /// At least one container has run and none is being taken down for good.
    Running,
    /// Being stopped; its death has not been seen yet.
    Stopping,
}

/// Why something is as it is: one CamelCase word for programs, one line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Such as `CrashLoopBackOff`; Kubernetes' word where it has one.
    pub code: String,
    /// One line, without a trailing dot.
    pub message: String,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Its end was seen, its status was not: whoever would have reaped it was dead.
    Unknown,
}

/// What a container is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Not running, and why.
    Waiting(Reason),
    /// Running under this process id of the host.
    Running {
        /// Its process id.
        pid: u32,
        /// Since when.
        since: WallTime,
    },
    /// Ended, and not to be started again in this pod.
    Terminated(Exit),
}

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end, with exit code 0, before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: the next one starts as soon as it has started
    /// (with a startup probe: has passed it), and it ends after the main containers.
    Sidecar,
    /// One of `spec.containers`.
    #[default]
    Main,
}

/// A run of a container that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedRun {
    /// How it ended.
    pub exit: Exit,
    /// Kubernetes' word for it, such as `OOMKilled`.
    pub reason: String,
    /// When it began, where that is known.
    pub started: Option<WallTime>,
    /// When it ended; no later than that, where nobody was there.
    pub finished: WallTime,
}

/// One container's part of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Its name in the template.
    pub name: String,
    /// What it is to its pod.
    pub role: Role,
    /// What it is doing.
    pub state: ContainerState,
    /// Whether it is ready to serve.
    pub ready: bool,
    /// Whether its present run is past its postStart hook and its startup probe.
    pub started: bool,
    /// How often it was started again, over the pod's life.
    pub restarts: u64,
    /// The run that ended last: the one that [`ContainerState::Terminated`] tells of, or else the one
    /// before the present state.
    pub last_run: Option<Box<FinishedRun>>,
}

/// The last time something of a pod went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which container; empty where it was the pod as a whole.
    pub container: String,
    /// How it ended, where a process did.
    pub exit: Option<Exit>,
    /// Why, in a word and a line.
    pub reason: Reason,
    /// When.
    pub at: WallTime,
    /// What it printed last, where it ran and that is known.
    pub log_tail: LogTail,
}

/// The last failure of a pod that was here before, for people: it stays when another pod took the
/// place of the one that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerFailure {
    /// Of which revision that pod was.
    pub revision: Digest,
    /// What went wrong.
    pub failure: Failure,
}

/// All that a node says of one pod. Counters only ever grow within one pod's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodStatus {
    /// The DaemonSet's namespace and name.
    pub key: PodKey,
    /// Which pod.
    pub uid: PodUid,
    /// Which DaemonSet of that name it belongs to.
    pub set: SetUid,
    /// Which revision it is of.
    pub revision: Digest,
    /// The replace counter it was started under.
    pub replace: u64,
    /// Where it is in its life.
    pub phase: PodPhase,
    /// Why it is not simply running; `None` when it is.
    pub reason: Option<Reason>,
    /// Whether every container is ready.
    pub ready: bool,
    /// How long it has been ready without a break, by the node's boot clock, at the time of the
    /// report; zero when it is not.
    pub ready_for: Duration,
    /// When it was started; `None` before.
    pub started_at: Option<WallTime>,
    /// How often any of its containers was started again.
    pub restarts: u64,
    /// How often it stopped being ready, as far as the node's present agent knows.
    pub times_unready: u64,
    /// The last thing that went wrong.
    pub last_failure: Option<Failure>,
    /// The last thing that went wrong in this place before this pod was ordered.
    pub former_failure: Option<FormerFailure>,
    /// Its containers, in the template's order.
    pub containers: Vec<ContainerStatus>,
}

/// A pod's name: its DaemonSet's, and five characters drawn from its identity, of Kubernetes'
/// alphabet for generated names (no vowels, so that no words come about).
pub fn pod_name(key: &PodKey, identity: &[u8]) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut number = Digest::of(identity).leading_u64();
    let mut name = format!("{}-", key.name());
    for _ in 0..5 {
        // The remainder is below 27.
        name.push(char::from(ALPHABET[usize::try_from(number % 27).unwrap_or_default()]));
        number /= 27;
    }
    name
}

impl PodStatus {
    /// Whether somebody at its machine holds it.
    pub fn is_held(&self) -> bool {
        self.reason.as_ref().is_some_and(|reason| reason.code == HELD_ON_NODE)
    }

    /// All that is known to have gone wrong.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        let former = self.former_failure.as_ref().map(|former| &former.failure);
        self.last_failure.iter().chain(former)
    }

    /// The same, to change.
    pub fn failures_mut(&mut self) -> impl Iterator<Item = &mut Failure> {
        let former = self.former_failure.as_mut().map(|former| &mut former.failure);
        self.last_failure.iter_mut().chain(former)
    }
}

impl Failure {
    /// Whether it is the same failure, whatever is known by now of what was printed.
    pub fn is_same(&self, other: &Self) -> bool {
        let facts = |one: &Self| (one.container.clone(), one.exit, one.reason.clone(), one.at);
        facts(self) == facts(other)
    }
}

impl Reason {
    /// A reason with this word and line.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

impl PodPhase {
    /// The word for it; Kubernetes' where it has one.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Stopping => "Terminating",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => f.write_str(&self.code),
            message => write!(f, "{}: {message}", self.code),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown => f.write_str("unknown exit status"),
        }
    }
}
