//! Why not: every refusal of a runtime, by name.

use std::io;
use std::path::{Path, PathBuf};

use everynode_agent_core::PodRef;
use everynode_model::{PodKey, Reason};

use crate::seccomp::SeccompError;
use crate::sys::LaunchError;

/// What this machine lacks for running host processes.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// No cgroup v2 hierarchy is mounted.
    #[error(
        "no cgroup v2 hierarchy is mounted: boot with systemd.unified_cgroup_hierarchy=1, \
         or run `mount -t cgroup2 none /sys/fs/cgroup/unified`"
    )]
    NoCgroup2,
    /// The cgroup root's name is not a relative path of plain names.
    #[error(
        "cgroup root {0:?} must be a relative path without \".\" and \"..\", such as everynode"
    )]
    RootName(PathBuf),
    /// The cgroup root can't be made or written.
    #[error(
        "{path} is not writable by uid {uid}: run as root, or in a delegated cgroup \
         (systemd-run --user --scope -p Delegate=yes …) with --cgroup-root naming a directory in it"
    )]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// This process' effective user.
        uid: u32,
    },
    /// A process can't be put into the root from where this one is.
    #[error(
        "no process can be moved from this one's cgroup into {path}: uid {uid} may not write \
         cgroup.procs of their common ancestor; start the agent in the same delegated cgroup"
    )]
    NotMovable {
        /// The root.
        path: PathBuf,
        /// This process' effective user.
        uid: u32,
    },
    /// The kernel is older than 5.4: no `cgroup.freeze`, no waiting by pidfd.
    #[error("this kernel is too old to stop processes for certain: Linux 5.4 or newer is needed")]
    KernelTooOld,
    /// A file or directory of the machine can't be used.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a runtime can't be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The machine can't run host processes.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Somebody else holds the lock of the cgroup root.
    #[error("another agent manages this machine's pods (it holds the lock of {0})")]
    AnotherAgent(PathBuf),
}

/// Why places can't be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The cgroup root can't be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a pod was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Something is alive in the place, or another pod is just being created there.
    #[error("something is alive in the place of {0}")]
    Occupied(PodKey),
    /// The template asks for what no host process can be.
    #[error("{0}")]
    Invalid(String),
    /// A file or directory can't be made.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The template wants its limits enforced, and this machine can't.
    #[error("{0}")]
    NotEnforced(String),
    /// A container's seccomp profile is not there, or can't be followed.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// The supervisor can't be started.
    #[error("cannot start the pod's supervisor: {0}")]
    Launch(#[source] io::Error),
    /// The supervisor was started, and does not answer; it was killed again.
    #[error("the pod's supervisor does not answer: {0}")]
    NoAnswer(String),
    /// One of these, and what was begun could not be killed in time.
    #[error("{0}; and what was begun of it is still alive")]
    InDoubt(#[source] Box<CreateError>),
}

/// Why a container was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The pod's supervisor refused; nothing of the container is alive.
    #[error("{0}")]
    Refused(Reason),
    /// The pod's supervisor is alive and has not answered. It may start the container yet, and that
    /// is told then; it never starts one twice.
    #[error("the supervisor of {0} is alive and does not answer")]
    Silent(PodRef),
    /// The pod has no supervisor; it is told to be lost, where it ever was there.
    #[error("the supervisor of {0} is dead")]
    NotSupervised(PodRef),
}

/// Why a pod was not held to other limits.
#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    /// The runtime can't.
    #[error("the runtime {0} changes no limits of pods that run")]
    NotSupported(&'static str),
    /// The pod's supervisor can't.
    #[error("the pod's supervisor is of an older version, which changes no limits")]
    SupervisorTooOld,
    /// The pod has to be made anew for it.
    #[error("{0}")]
    NotInPlace(String),
    /// The template wants its limits enforced, and this machine can't.
    #[error("{0}")]
    NotEnforced(String),
    /// The pod's supervisor refused, and all is as it was.
    #[error("{0}")]
    Refused(Reason),
    /// It could not be done, nor undone.
    #[error("{0}")]
    InDoubt(String),
    /// The pod's supervisor does not answer, and was not asked yet.
    #[error("the supervisor of {0} is alive and does not answer")]
    NotAsked(PodRef),
    /// The pod's supervisor is alive and has not answered; it may be done yet.
    #[error("the supervisor of {0} is alive and does not say whether it is done")]
    Silent(PodRef),
    /// The pod has no supervisor; it is told to be lost, where it ever was there.
    #[error("the supervisor of {0} is dead")]
    NotSupervised(PodRef),
    /// The pod's cgroup can't be read.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a pod was not told to end.
#[derive(Debug, thiserror::Error)]
pub enum TerminateError {
    /// The pod has no supervisor that answers.
    #[error("the supervisor of {0} does not answer")]
    NotSupervised(PodRef),
}

/// Why it is not known how a program in a container ended.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It was not run: refused by the pod's supervisor, or not to be executed.
    #[error("{0}")]
    Refused(Reason),
    /// The pod's supervisor is alive and does not answer. What it runs has its timeout.
    #[error("the supervisor of {0} is alive and does not answer")]
    Silent(PodRef),
    /// The connection to the pod's supervisor broke, and the program was killed.
    #[error("the connection to the supervisor of {0} broke")]
    Interrupted(PodRef),
    /// The pod has no supervisor.
    #[error("the supervisor of {0} is dead")]
    NotSupervised(PodRef),
    /// This process is short of descriptors.
    #[error("no descriptors for it: {0}")]
    Plumbing(#[from] io::Error),
}

/// Why a place is not empty yet.
#[derive(Debug, thiserror::Error)]
pub enum KillError {
    /// What was killed is not dead yet: in an uninterruptible wait, most often.
    #[error("killed, and still alive: {0}")]
    StillAlive(String),
    /// Nothing of this cluster is alive there; what is was not touched.
    #[error("{0:?} holds processes that are not this cluster's")]
    NotOurs(PathBuf),
    /// The cgroup can't be used.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a dead pod's remains were not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// It is not dead.
    #[error("something of {0} is alive")]
    Alive(PodRef),
    /// A directory can't be removed.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

macro_rules! io_variant {
    ($($error:ident)*) => {$(
        impl $error {
            pub(crate) fn io(path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
                Self::Io { path: path.as_ref().to_owned(), source: source.into() }
            }
        }
    )*};
}
io_variant!(MachineError ListError CreateError ResizeError KillError RemoveError);

impl CreateError {
    /// Whether it may be tried again with the same template.
    pub fn retry(&self) -> bool {
        match self {
            Self::Invalid(_) | Self::NotEnforced(_) => false,
            Self::InDoubt(cause) => cause.retry(),
            _ => true,
        }
    }

    /// Whether anything may be alive in the place, which must then be seen empty first.
    pub fn in_doubt(&self) -> bool {
        matches!(self, Self::Occupied(_) | Self::InDoubt(_))
    }

    /// The same in a word (Kubernetes', where it has one) and a line.
    pub fn reason(&self) -> Reason {
        let code = match self {
            Self::Occupied(_) => "PlaceOccupied",
            Self::Invalid(_) => "CreateContainerConfigError",
            Self::NotEnforced(_) => "LimitsNotEnforced",
            _ => "CreateContainerError",
        };
        Reason::new(code, self.to_string())
    }

    pub(crate) fn launch(error: LaunchError) -> Self {
        Self::Launch(io::Error::new(error.source.kind(), error.to_string()))
    }
}

impl StartError {
    /// Whether the container may be alive with nobody left to say so.
    pub fn in_doubt(&self) -> bool {
        matches!(self, Self::NotSupervised(_))
    }

    /// The same in a word and a line.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused(reason) => reason.clone(),
            Self::Silent(_) => Reason::new("SupervisorSilent", self.to_string()),
            Self::NotSupervised(_) => Reason::new("SupervisorLost", self.to_string()),
        }
    }
}

impl ResizeError {
    /// Whether nobody knows to which limits the pod is held.
    pub fn in_doubt(&self) -> bool {
        matches!(self, Self::InDoubt(_) | Self::Silent(_) | Self::NotSupervised(_))
    }

    /// The same in a word (the kubelet's, where it has one) and a line.
    pub fn reason(&self) -> Reason {
        let code = match self {
            Self::Refused(reason) => return reason.clone(),
            Self::NotEnforced(_) => "LimitsNotEnforced",
            Self::NotSupported(_) | Self::SupervisorTooOld | Self::NotInPlace(_) => {
                "ResizeInfeasible"
            }
            _ => "ResizeError",
        };
        Reason::new(code, self.to_string())
    }
}

impl KillError {
    /// Whether nothing of the cluster is alive in the place, which is others' now.
    pub fn ours_gone(&self) -> bool {
        matches!(self, Self::NotOurs(_))
    }

    /// The same in a word and a line.
    pub fn reason(&self) -> Reason {
        Reason::new("FailedKillPod", self.to_string())
    }
}
