//! The seam between the deciding half and the shell: what comes in, and what is to be done.

use std::time::Duration;

use everynode_model::{
    Assignment, ClusterId, Digest, Exit, Labels, LogTail, NodeUid, PodKey, PodUid, Reason,
    SessionNonce, SetUid, Stamp, WallTime,
};

use crate::hold::HoldChange;
use crate::ledger::Ledger;
use crate::spec::{Handler, Lifecycle, Plan, PodRef, Probe, Probes, RestartBackoff, StorageUse};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The shell looked at the machine, once, before anything else: all that lives in our cgroup
    /// root (or another runtime's list).
    Looked(Vec<Found>),
    /// A whole order has arrived and its digest is right; its bodies are stored.
    Ordered {
        /// Whose, the how-manieth, of what.
        stamp: Stamp,
        /// What to run.
        assignment: Assignment,
        /// Whether an empty assignment is meant; one that is not is refused.
        empty_is_meant: bool,
        /// Which runtime each item's body asks for.
        runtimes: Vec<(PodKey, String)>,
    },
    /// The coordinator welcomed this session.
    Welcomed(SessionNonce),
    /// The coordinator says that this machine is removed.
    Deregistered,
    /// Somebody at the machine wants it to leave.
    LeaveRequested,
    /// The machine is about to go down: everything is stopped, and this node starts nothing any
    /// more. Nothing of it is written: the next agent starts what the ledger says.
    GoingDown,
    /// This machine was taken to another coordinator, as whom; that is written down. Whoever it was
    /// of before says nothing any more.
    Rejoined(Marks),
    /// Somebody at the machine wants something held, or released.
    HoldRequested {
        /// For [`Action::Answer`].
        request: u64,
        /// What is wanted.
        change: HoldChange,
    },
    /// The coordinator has taken note that this machine is empty (or nobody waits to hear it).
    DepartureConfirmed,
    /// The ledger last handed out in [`Action::Persist`] is on disk.
    Persisted,
    /// It is not, and the former one is still there.
    PersistFailed(Reason),
    /// How far it is with what a revision needs, which was asked for by [`Action::Stage`]; for people.
    Staging {
        /// For a pod in which place.
        key: PodKey,
        /// Which revision.
        revision: Digest,
        /// What is done, in one line.
        line: String,
    },
    /// What a revision needs is here, or not: the answer to [`Action::Stage`].
    Staged {
        /// For a pod in which place.
        key: PodKey,
        /// Which revision.
        revision: Digest,
        /// Else why, and when to try again.
        outcome: Result<(), Unstaged>,
    },
    /// What runs of a pod, and what will, is held to the limits of another revision; the answer to
    /// [`Action::Resize`].
    Resized {
        /// Which pod.
        pod: PodRef,
        /// Of which revision it is from now on.
        revision: Digest,
    },
    /// It is not; the answer to [`Action::Resize`].
    ResizeFailed {
        /// Which pod.
        pod: PodRef,
        /// To which revision it was to be brought.
        revision: Digest,
        /// Why.
        reason: Reason,
        /// Whether nobody knows to which limits it is held. Else to those of the revision that it is of.
        in_doubt: bool,
    },
    /// The pod's supervisor is there; none of its containers runs yet.
    Created {
        /// Which pod.
        pod: PodRef,
        /// What of its template is decided here.
        plan: Plan,
    },
    /// The pod could not be created.
    CreateFailed {
        /// Which pod.
        pod: PodRef,
        /// Why.
        reason: Reason,
        /// Whether it may be tried again with the same template: `false` for one that this
        /// machine can't honour, which waits for another order.
        retry: bool,
        /// Whether anything of it may be alive: then its place must be seen empty first.
        in_doubt: bool,
    },
    /// A container runs.
    Started {
        /// Which pod.
        pod: PodRef,
        /// Which of its containers.
        container: String,
        /// Its process id.
        pid: u32,
    },
    /// A container could not be started; nothing of it is alive.
    StartFailed {
        /// Which pod.
        pod: PodRef,
        /// Which of its containers.
        container: String,
        /// Why.
        reason: Reason,
    },
    /// A container's first process ended.
    Exited {
        /// Which pod.
        pod: PodRef,
        /// Which of its containers.
        container: String,
        /// How.
        exit: Exit,
    },
    /// A try of a probe is over: the answer to [`Action::Probe`]. Where the run that was asked has
    /// ended it may be left out, and is passed over.
    Probed {
        /// Which pod.
        pod: PodRef,
        /// Which of its containers.
        container: String,
        /// Which of its probes.
        kind: ProbeKind,
        /// That of the action.
        number: u64,
        /// Else why it failed, in one line. A try that took longer than the probe's timeout has.
        outcome: Result<(), String>,
    },
    /// A hook is over: the answer to [`Action::Hook`]. Where the run that it belongs to has ended it
    /// may be left out, and is passed over.
    HookDone {
        /// Which pod.
        pod: PodRef,
        /// Which of its containers.
        container: String,
        /// Which of its hooks.
        hook: HookKind,
        /// That of the action.
        number: u64,
        /// Else why it failed, in one line.
        outcome: Result<(), String>,
    },
    /// The kernel has killed something of a container for want of memory, in the run whose end is told
    /// next.
    OutOfMemory {
        /// Which pod.
        pod: PodRef,
        /// Which of its containers.
        container: String,
    },
    /// What a pod has on disk, as it was measured: see [`crate::Node::measured`].
    StorageUsed {
        /// Which pod.
        pod: PodRef,
        /// What it has.
        used: StorageUse,
    },
    /// A container that failed declares a port of the machine that somebody else holds.
    PortHeld {
        /// Which pod.
        pod: PodRef,
        /// Which of its containers.
        container: String,
        /// Who, in a line.
        line: String,
    },
    /// What a container printed last in the run that ended last.
    Printed {
        /// Which pod.
        pod: PodRef,
        /// Which of its containers.
        container: String,
        /// Its last lines.
        log_tail: LogTail,
    },
    /// A pod's supervisor was seen dead, or can never be reached again; what it started may be
    /// alive.
    SupervisorLost(PodRef),
    /// A pod's supervisor is alive and has not answered for a while: what runs goes on, and nobody
    /// would say if it ended.
    SupervisorSilent(PodRef),
    /// It is heard again, before it says what happened meanwhile.
    SupervisorHeard(PodRef),
    /// A supervisor that was [`Found::silent`] gives its account.
    Answered(Found),
    /// A place was seen empty: nothing that was started there is alive. The only proof of death.
    PlaceEmpty(PodKey),
    /// Of two pods in one place this one was seen empty: nothing of it is alive.
    PodEmpty(PodRef),
    /// A place was seen with nothing of our cluster alive in it, and is not empty: what lives
    /// there was never ours to touch.
    OursGone(PodKey),
    /// Forcing a place empty failed; it is still being tried.
    KillFailed {
        /// Which place.
        key: PodKey,
        /// Why.
        reason: Reason,
    },
    /// Time has passed; see [`crate::Node::wake_at`].
    Woke,
}

/// Something to do. A list is done in order: a ledger first, then stops, then starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this ledger durably, then say [`Event::Persisted`] or [`Event::PersistFailed`].
    Persist(Box<Ledger>),
    /// Answer the coordinator on an order.
    Acknowledge {
        /// The order.
        stamp: Stamp,
        /// `None`: accepted and on disk. Else why it was refused.
        refused: Option<Reason>,
    },
    /// Answer somebody at the machine who wanted something held or released.
    Answer {
        /// The request.
        request: u64,
        /// `None`: it counts, and is on disk. Else why it was refused.
        refused: Option<Reason>,
    },
    /// Bring here and check what a pod of this revision needs, and say [`Event::Staged`]. Of another
    /// revision asked for in the same place nobody waits to hear any more.
    Stage {
        /// For a pod in which place.
        key: PodKey,
        /// Which revision: the body's digest.
        revision: Digest,
        /// How often that has failed in a row.
        tries: u32,
    },
    /// Make the pod's supervisor, and no container yet.
    Create {
        /// The pod to make, with an id given by the shell's source (see [`crate::Node`]).
        pod: PodRef,
        /// Of which DaemonSet.
        set: SetUid,
        /// Of which revision: the body's digest.
        revision: Digest,
        /// Under which replace counter.
        replace: u64,
        /// The node's labels that its template reads.
        labels: Labels,
        /// How often its containers have been restarted before, for the count to go on.
        restarts: u64,
        /// The one pod that may be alive in the place meanwhile; `None`: nothing may.
        beside: Option<PodUid>,
    },
    /// Hold what runs of a pod, and what will, to the limits of another revision, which differs in
    /// nothing else, and say [`Event::Resized`] or [`Event::ResizeFailed`]. One at a time for each pod.
    Resize {
        /// Which pod.
        pod: PodRef,
        /// Of which DaemonSet it is from then on: of its own, under the name that the present
        /// coordinator has for it.
        set: SetUid,
        /// Of which revision.
        revision: Digest,
        /// Under which replace counter; likewise.
        replace: u64,
    },
    /// Start one container of a created pod.
    Start {
        /// Which pod.
        pod: PodRef,
        /// Which container.
        container: String,
    },
    /// End the pod at once: send SIGTERM to the first process of each container that runs, start
    /// nothing in it any more, and have its supervisor end after its last container. For pods whose
    /// containers end in no order and without a hook, and for those of which no plan is known.
    Terminate(PodRef),
    /// End the pod in order: start nothing in it any more, and have its supervisor end after its last
    /// container (at once, if none runs). Nobody is told to end by it; [`Action::Hook`] and
    /// [`Action::Stop`] follow for one container after the other. Starts ordered earlier may be
    /// refused by it, and are answered as ever.
    Close(PodRef),
    /// Send SIGTERM to the first process of one container, and remember that
    /// ([`SupervisedContainer::asked`]). Its end is told by [`Event::Exited`]; one that does not run
    /// is none of its business.
    Stop {
        /// Which pod.
        pod: PodRef,
        /// Which container.
        container: String,
    },
    /// Kill everything of one container, and nothing of any other. Its end is told by
    /// [`Event::Exited`]; repeated until then.
    KillContainer {
        /// Which pod.
        pod: PodRef,
        /// Which container.
        container: String,
    },
    /// Try a probe of a running container once, and say [`Event::Probed`]. At most one try of each
    /// probe is under way.
    Probe {
        /// Which pod.
        pod: PodRef,
        /// Which container.
        container: String,
        /// Which of its probes.
        kind: ProbeKind,
        /// For the answer; never used twice in a pod by one agent.
        number: u64,
        /// What to try, and how long that may take.
        probe: Box<Probe>,
    },
    /// Run a hook of a running container, and say [`Event::HookDone`].
    Hook {
        /// Which pod.
        pod: PodRef,
        /// Which container.
        container: String,
        /// Which of its hooks.
        hook: HookKind,
        /// For the answer; never used twice in a pod by one agent.
        number: u64,
        /// What to do.
        handler: Box<Handler>,
        /// How long it may take; `None`: as long as the run lasts. The run's end ends it in any case.
        within: Option<Duration>,
    },
    /// Force the place empty: everything in it that bears the mark of a cluster that the ledger
    /// [knows](Ledger::knows). Repeated until
    /// [`Event::PlaceEmpty`].
    Kill(PodKey),
    /// Force one pod empty, and nothing else in its place. Repeated until [`Event::PodEmpty`] or
    /// [`Event::PlaceEmpty`].
    KillPod(PodRef),
    /// Remove what is left of a dead pod: directories, sockets.
    Remove(PodRef),
    /// Tell the coordinator that this machine is empty and leaves.
    ConfirmDeparture,
    /// The machine has left: wipe the identity and end.
    Wipe,
}

/// Why a revision could not be staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unstaged {
    /// Why, in the kubelet's words where it has some.
    pub reason: Reason,
    /// How long to wait before the next try; drawn, so that machines don't all try at once. `None`
    /// where no further try with the same template can mend it: another order is waited for.
    pub again: Option<Duration>,
}

/// One of a container's probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Has it started?
    Startup,
    /// Is it alive?
    Liveness,
    /// Does it serve?
    Readiness,
}

impl Probes {
    /// One of them, where the template has it.
    pub(crate) fn of(&self, kind: ProbeKind) -> Option<&Probe> {
        match kind {
            ProbeKind::Startup => self.startup.as_ref(),
            ProbeKind::Liveness => self.liveness.as_ref(),
            ProbeKind::Readiness => self.readiness.as_ref(),
        }
    }
}

/// One of a container's hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookKind {
    /// Right after its start.
    PostStart,
    /// Before it is told to end.
    PreStop,
}

/// Whose something is, by the marks on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The cluster that ordered it.
    pub cluster: ClusterId,
    /// The node it was ordered for.
    pub node: NodeUid,
}

/// Something alive (or left over) in one of our places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The place.
    pub key: PodKey,
    /// Which pod; `None` where the marks can't be read.
    pub pod: Option<PodUid>,
    /// Whose it is; `None` where the marks can't be read.
    pub marks: Option<Marks>,
    /// Whether anything in it is alive.
    pub populated: bool,
    /// What its supervisor says, where it answers.
    pub supervised: Option<Supervised>,
    /// Whether it has a living supervisor that has not answered yet. A slow machine is enough for
    /// that, so it is no death: [`Event::Answered`] or [`Event::SupervisorLost`] says what became
    /// of it.
    pub silent: bool,
}

/// A living supervisor's account of its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supervised {
    /// Of which DaemonSet.
    pub set: SetUid,
    /// Of which revision.
    pub revision: Digest,
    /// Under which replace counter.
    pub replace: u64,
    /// How long after SIGTERM it is killed.
    pub grace: Duration,
    /// What its containers wait between restarts.
    pub restart: RestartBackoff,
    /// When the pod was created.
    pub created_at: WallTime,
    /// Whether it was already told to end: nothing is started in it any more.
    pub terminating: bool,
    /// Whether a change of its limits has failed half-way, and could not be undone.
    pub limits_in_doubt: bool,
    /// For how long it has been held to its present limits; `None`: since it was made.
    pub resized_for: Option<Duration>,
    /// How often its containers were restarted, with those of its predecessors here.
    pub restarts: u64,
    /// Its containers, in order.
    pub containers: Vec<SupervisedContainer>,
}

/// A living supervisor's account of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupervisedContainer {
    /// Its name.
    pub name: String,
    /// What its template says of its life; the default where its supervisor is too old to know.
    pub lifecycle: Lifecycle,
    /// Whether its present run was told to end ([`Action::Stop`], [`Action::Terminate`]).
    pub asked: bool,
    /// Its process id, when it runs.
    pub pid: Option<u32>,
    /// How its last run ended, if one did.
    pub last_exit: Option<Exit>,
    /// Whether the kernel killed something of it then for want of memory.
    pub oom: bool,
    /// For how long it has been in its present state, by the boot clock.
    pub for_time: Duration,
}

impl SupervisedContainer {
    /// Whether it was ever started.
    pub(crate) fn has_run(&self) -> bool {
        self.pid.is_some() || self.last_exit.is_some()
    }
}
