//! What runs pods on this machine: the [`Runtime`] contract, and
//! [`process`], its first implementation.
//!
//! A runtime does as it is told and says what it sees. It decides nothing: when to start again,
//! how long to wait before killing, what may live here is the agent's core's business.

mod alive;
mod cgroup;
#[cfg(feature = "contract")]
pub mod contract;
mod descriptors;
mod ends;
mod error;
mod exec;
mod limits;
mod lock;
mod log_date;
mod logs;
mod machine;
mod mounts;
mod place;
pub mod process;
mod seccomp;
pub mod shim;
mod storage;
mod sys;
mod usage;
mod watch;

use std::collections::BTreeSet;

use everynode_agent_core::{Found, Marks, PodRef, PodSpec};
use everynode_model::{ClusterId, Digest, Exit, LogTail, PodKey, PodUid, SetUid, WallTime};
use futures_util::future::BoxFuture;
use tokio::net::TcpSocket;

pub use alive::{Alive, alive, runs};
pub use ends::{Ends, LAST_BYTES, Reader, Terminal, WindowSize, Writer, by_pipes, by_terminal};
pub use error::{
    CreateError, ExecError, KillError, ListError, MachineError, OpenError, RemoveError,
    ResizeError, StartError, TerminateError,
};
pub use exec::{Captured, ExecRequest, Executed, MAX_OUTPUT, capture};
pub use limits::Controller;
pub use log_date::LogDate;
pub use logs::{PodLogs, Run, log_file, logs, logs_of, newest_run_since};
pub use machine::{Capabilities, lowers_oom_scores, makes_namespaces, probe};
pub use place::place_of;
pub use seccomp::SeccompError;
pub use shim::{DEFAULT_PATH, MAX_LOG_FILE, host_path_problem, is_program, programs_in};
pub use storage::storage;
pub use usage::{PodUse, Use, machine_usage, usage};

/// Runs pods, each in its place: at most one pod alive per namespace and name, or two where one is
/// made to take over from the other; never three.
///
/// # The contract
///
/// **Death is seen, never assumed.** [`RuntimeEvent::PlaceEmpty`] is said only after the place was
/// seen with nothing alive in it, and is said for every place that becomes so. `create` refuses a
/// populated place, whoever lives there, but for the one pod that the request names. Of two pods in
/// one place, [`RuntimeEvent::PodEmpty`] says the same of each; it may be said of any pod.
///
/// **The order of events is the order of facts.** All come through one bounded channel, handed out
/// when the runtime is made; whoever keeps state feeds it from there, and takes from the answer of
/// a call only its refusal:
/// - [`RuntimeEvent::Created`] is in the channel before `create` answers, and
///   [`RuntimeEvent::Started`] before `start` does; an end of the same run comes after them.
/// - A `PlaceEmpty` read between calling `create` and its `Created` speaks of the time before; one
///   read after it says that the created pod is dead.
/// - An `OutOfMemory` comes right before the `Exited` of the run that it is about.
/// - An `Exited` may come after the `PlaceEmpty` of its place; it is old news then.
///
/// The channel must be read at all times: a runtime that can't say what it saw waits.
///
/// **Nothing depends on the agent's life.** Pods go on when the runtime is dropped or killed; a new
/// one finds them by `list`, which connects to their supervisors, so that their events flow again.
/// What happened in between is in what they say of themselves. `list` is called once before
/// anything else, and may be called at any time.
///
/// **Calls** may be made at once for different pods. For one place, calls of `create` overlap with
/// nothing but the `remove` of a former pod: a second `create` is refused, and a `kill` that has
/// not answered yet would take the new pod for the old one. `kill` is repeated until `PlaceEmpty`,
/// `kill_pod` until `PodEmpty`. A dropped future may have had its effect. Each call is bounded in
/// time.
///
/// **Marks.** Whatever is made bears cluster, node and pod for as long as anything of it lives;
/// `kill` touches only what bears one of the given clusters'.
pub trait Runtime: Send + Sync + 'static {
    /// The `runtimeClassName` that asks for it.
    fn name(&self) -> &'static str;

    /// Whether it can give pods namespaces of their own.
    fn makes_namespaces(&self) -> bool {
        true
    }

    /// All that is alive or left over, in order of places, with what living supervisors say. One
    /// that does not answer within seconds is listed as silent, and what becomes of it is told:
    /// [`RuntimeEvent::Answered`] or [`RuntimeEvent::SupervisorLost`].
    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, ListError>>;

    /// Makes a pod: its place, its supervisor, its containers' cgroups. No container runs yet.
    fn create(&self, request: CreateRequest) -> BoxFuture<'_, Result<(), CreateError>>;

    /// Holds what runs of a pod, and what will, to the limits of another revision, of which the pod is
    /// from then on; the same processes go on. It is done whole or not at all, and may be repeated; a
    /// limit of memory below what is in use is a refusal, and so is all that a pod has to be made anew
    /// for. A runtime that can't do it at all need not.
    fn resize<'a>(
        &'a self,
        _pod: &'a PodRef,
        _request: ResizeRequest,
    ) -> BoxFuture<'a, Result<(), ResizeError>> {
        Box::pin(std::future::ready(Err(ResizeError::NotSupported(self.name()))))
    }

    /// Starts a container that does not run, with nothing of a former run alive, and answers its
    /// process id. A program that can't be executed is a refusal. Where the supervisor takes too
    /// long to answer, the start may still come, and is told then.
    fn start<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
    ) -> BoxFuture<'a, Result<u32, StartError>>;

    /// Tells the first process of each container to end (SIGTERM, or the container's own signal),
    /// once a run; nothing is started in the pod any more, and its supervisor ends after the last
    /// container. Answers when that is under way.
    fn terminate<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), TerminateError>>;

    /// Ends the pod in order: as `terminate`, but nobody is told to end by it; `stop` follows for
    /// one container after the other. What is run by `exec` still may be.
    fn close<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), TerminateError>>;

    /// Tells the first process of one container to end, once a run, and remembers that it was told
    /// ([`asked`](everynode_agent_core::SupervisedContainer::asked)). Done for one that does not
    /// run.
    fn stop<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
    ) -> BoxFuture<'a, Result<(), TerminateError>>;

    /// Kills everything of one container, and nothing of any other. Its end is told by `Exited`,
    /// unless this fails.
    fn kill_container<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
    ) -> BoxFuture<'a, Result<(), KillError>>;

    /// Runs a program in a container that runs, confined as that is, and answers when it has ended
    /// and nothing that it started is alive. It ends with the container at the latest, when its
    /// time is over, and when the answer is not waited for any more.
    fn exec<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
        request: ExecRequest,
    ) -> BoxFuture<'a, Result<Executed, ExecError>>;

    /// A new TCP socket in the network that a pod has of its own, for addresses of IPv6 or of IPv4, not
    /// connected; `None` where its network is the machine's.
    fn socket<'a>(
        &'a self,
        _pod: &'a PodRef,
        _v6: bool,
    ) -> BoxFuture<'a, Result<Option<TcpSocket>, ExecError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Forces the place empty: kills all that bears one of these clusters' marks. Always followed
    /// by a `PlaceEmpty` unless it fails, also for a place that was empty.
    fn kill<'a>(
        &'a self,
        key: &'a PodKey,
        clusters: &'a BTreeSet<ClusterId>,
    ) -> BoxFuture<'a, Result<(), KillError>>;

    /// Forces one pod empty, and nothing else in its place. Always followed by a `PodEmpty` unless
    /// it fails, also for a pod that is not there.
    fn kill_pod<'a>(
        &'a self,
        pod: &'a PodRef,
        clusters: &'a BTreeSet<ClusterId>,
    ) -> BoxFuture<'a, Result<(), KillError>>;

    /// Removes what is left of a dead pod, logs included. Done before is done.
    fn remove<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), RemoveError>>;
}

/// A pod to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// Which pod, in which place.
    pub pod: PodRef,
    /// Whose it will be.
    pub marks: Marks,
    /// Of which DaemonSet.
    pub set: SetUid,
    /// Of which revision.
    pub revision: Digest,
    /// Under which replace counter.
    pub replace: u64,
    /// How often its containers were restarted before, for the count to go on.
    pub restarts: u64,
    /// What to run.
    pub spec: PodSpec,
    /// The date to remember as that of its creation.
    pub created_at: WallTime,
    /// The one pod that may be alive in the place meanwhile: the one that it takes over from.
    pub beside: Option<PodUid>,
}

/// Other limits for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResizeRequest {
    /// Of which DaemonSet the pod is from then on.
    pub set: SetUid,
    /// Of which revision.
    pub revision: Digest,
    /// Under which replace counter.
    pub replace: u64,
    /// What that revision says; nothing of it counts but limits, requests and what follows from those.
    pub spec: PodSpec,
}

/// What a runtime saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// The pod's supervisor is there; none of its containers runs yet.
    Created(PodRef),
    /// A container runs.
    Started {
        /// Which pod.
        pod: PodRef,
        /// Which of its containers.
        container: String,
        /// Its first process.
        pid: u32,
    },
    /// A container's first process has ended, and what it left behind was killed and seen gone, as
    /// with a pid namespace. (Where that did not succeed in time, `start` will be refused.)
    Exited {
        /// Which pod.
        pod: PodRef,
        /// Which of its containers.
        container: String,
        /// How.
        exit: Exit,
    },
    /// The kernel has killed something of a container for want of memory, in the run that is about
    /// to be told as over: said before its `Exited`.
    OutOfMemory {
        /// Which pod.
        pod: PodRef,
        /// Which of its containers.
        container: String,
    },
    /// What a container printed last in the run that ended last: said after its `Exited`, and again
    /// of one that had failed before the supervisor was connected to.
    Printed {
        /// Which pod.
        pod: PodRef,
        /// Which of its containers.
        container: String,
        /// Its last lines.
        log_tail: LogTail,
    },
    /// The pod's supervisor was seen dead, or can never be reached again; what it started may be
    /// alive. Not said of one that ended after its containers as it was told to, nor of one that
    /// was killed by `kill`, nor of one that is slow.
    SupervisorLost(PodRef),
    /// The pod's supervisor is alive and has not answered for some time: said once, until it is
    /// heard again.
    SupervisorSilent(PodRef),
    /// It is heard again. Said before what it says.
    SupervisorHeard(PodRef),
    /// A supervisor that was listed as silent gives its account; from then on its events flow.
    Answered(Found),
    /// A place in which something was alive was seen empty.
    PlaceEmpty(PodKey),
    /// A pod in which something was alive was seen empty; another may live in its place.
    PodEmpty(PodRef),
}
