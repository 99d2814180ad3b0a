//! What an agent and a pod's supervisor say to each other: one JSON object per line over the
//! pod's unix socket, and the specification that the supervisor is started with.
//!
//! The supervisor may be years older than the agent that adopts it, so what is here only grows:
//! new fields have defaults, an unknown request is answered with a refusal.
//!
//! - The agent sends [`Request`]s, as many as it likes; each is answered by one [`Message`], in
//!   order.
//! - In between the supervisor sends what happened: `exited`, `executed`, and before it closes the
//!   connection for good, `leaving`.
//! - What `exec` runs has the agent's descriptors for its input and outputs: three come with the
//!   request (SCM_RIGHTS), in order, so that no byte of it passes through the supervisor. A request
//!   that brings descriptors says how many ([`super::brought`]).
//! - One agent at a time: a new connection replaces the old one, and what that had run by `exec` is
//!   killed.
//! - What happens without an agent is kept in the account, which `account` asks for.

use std::time::Duration;

use everynode_agent_core::{
    ContainerSpec, Lifecycle, Marks, PodRef, PodSpec, Supervised, SupervisedContainer,
};
use everynode_model::{Exit, PodKey, Reason, WallTime};
use rustix::process::WaitStatus;
use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};

use super::confine::Confinement;
use super::namespaces::WireNamespaces;
use super::plan::WirePlan;
use super::volumes::wire::SpecMount;
pub(crate) use super::volumes::wire::SpecVolume;
use crate::CreateRequest;
use crate::limits::Share;

/// The longest line: the words of a hook, and a whole plan, are part of the specification.
pub(crate) const MAX_LINE: usize = MAX_SPEC;

/// The longest line of what every agent and supervisor ever understood: the first ones take no
/// longer one. An account of 64 containers with the longest names is a third of it.
pub(crate) const FIRST_MAX_LINE: usize = 64 * 1024;

/// Why a change of limits is refused of which something was done and could not be undone.
pub(crate) const IN_DOUBT: &str = "LimitsInDoubt";

/// Why a request is refused that is younger than the supervisor.
pub(crate) const NOT_UNDERSTOOD: &str = "NotUnderstood";

/// The longest text of a refusal, which may quote a container's command and `PATH`: enough to read,
/// and in a line whatever has to be escaped of it.
const MAX_REFUSAL: usize = 4096;

/// The most containers in a pod, so that an account fits in a line. Real DaemonSets have a few.
pub(crate) const MAX_CONTAINERS: usize = 64;

/// The socket's name in the pod's directory.
pub(crate) const SOCKET: &str = "shim.sock";

/// The directory of the containers' logs in the pod's.
pub(crate) const LOGS: &str = "logs";

/// The most a specification may have: far above what a coordinator lets through.
pub(crate) const MAX_SPEC: usize = 8 * 1024 * 1024;

/// What an agent asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// For the account of the pod.
    Account {},
    /// To start a container.
    Start { container: String },
    /// To end the pod: nothing is started in it any more, and everybody is told to end.
    Terminate {},
    /// To end the pod in order: the same, and nobody is told to end by it.
    Close {},
    /// To tell a container to end.
    Stop { container: String },
    /// To run a program in a container that runs; brings three descriptors.
    Exec(ExecWanted),
    /// To kill what was run so.
    EndExec { id: u64 },
    /// To hold the pod, what runs of it and what will, to other limits; asked only of one whose account
    /// says that it does that.
    Resize(ResizeWanted),
    /// For the pod's plan.
    Plan {},
    /// For what a container printed last in the run that ended last.
    Printed { container: String },
    /// For a TCP socket in the pod's network, which is not connected; brings a descriptor, of a unix
    /// socket to which it is sent (SCM_RIGHTS).
    Socket {
        /// Whether it is for addresses of IPv6.
        v6: bool,
    },
}

/// What a supervisor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    /// Answers `account`.
    Account(Account),
    /// Answers `start`.
    Started { container: String, pid: u32 },
    /// Answers `terminate`.
    Terminating {},
    /// Answers `close`.
    Closed {},
    /// Answers `stop`, also for one that does not run.
    Stopping { container: String },
    /// Answers `exec`.
    Executing { id: u64, pid: u32 },
    /// Answers `end_exec`, also for one that has ended.
    EndingExec { id: u64 },
    /// Answers `resize`: all of it was done.
    Resized {},
    /// Answers `plan`.
    Plan(WirePlan),
    /// Answers what can't be done.
    Refused { code: String, message: String },
    /// Answers `socket`: it was sent.
    Socket {},
    /// Answers `printed`.
    Printed { container: String, text: String },
    /// Unasked: a container has ended, and what it printed last.
    Exited {
        container: String,
        exit: WireExit,
        /// Whether the kernel killed it for want of memory.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        oom: bool,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        printed: String,
    },
    /// Unasked: what was run by `exec` has ended, and nothing that it left behind is alive (or can
    /// be killed in time).
    Executed {
        id: u64,
        exit: WireExit,
        /// Whether it was killed when its time was over.
        #[serde(default)]
        timed_out: bool,
    },
    /// Unasked: all has ended as ordered, and so does the supervisor.
    Leaving {},
}

/// A program to run in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExecWanted {
    /// For the answers; the agent uses none twice on one connection.
    pub(crate) id: u64,
    pub(crate) container: String,
    pub(crate) argv: Vec<String>,
    /// Whether its input is a terminal, which is to control its session.
    #[serde(default)]
    pub(crate) terminal: bool,
    /// After which it is killed with all that it started; never without one.
    #[serde(default)]
    pub(crate) timeout_millis: Option<u64>,
}

/// Other limits, and of what the pod is from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResizeWanted {
    pub(crate) set: String,
    pub(crate) revision: String,
    pub(crate) replace: u64,
    /// What holds the pod as a whole.
    pub(crate) whole: Share,
    /// Each of its containers.
    pub(crate) containers: Vec<ResizeContainer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResizeContainer {
    pub(crate) name: String,
    /// What holds it to its limits.
    pub(crate) share: Share,
    /// Its next runs' `oom_score_adj`; a process that runs keeps its own, as with the kubelet.
    #[serde(default)]
    pub(crate) oom_score: Option<i16>,
}

/// The whole of what a supervisor knows of its pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) identity: Identity,
    pub(crate) terminating: bool,
    pub(crate) restarts: u64,
    pub(crate) containers: Vec<AccountContainer>,
    /// Whether it understands `resize`.
    #[serde(default)]
    pub(crate) resizes: bool,
    /// Whether one has failed half-way and could not be undone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) limits_in_doubt: bool,
    /// For how long it has been held to other limits than it was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resized_for_millis: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccountContainer {
    pub(crate) name: String,
    pub(crate) pid: Option<u32>,
    pub(crate) last_exit: Option<WireExit>,
    /// Whether the kernel killed it then for want of memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) oom: bool,
    pub(crate) for_millis: u64,
    /// Whether its present run was told to end by `stop` or `terminate`.
    #[serde(default)]
    pub(crate) asked: bool,
}

/// Which pod, whose, of what: fixed for the supervisor's life, but for what `resize` changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) pod: String,
    pub(crate) cluster: String,
    pub(crate) node: String,
    pub(crate) set: String,
    pub(crate) revision: String,
    pub(crate) replace: u64,
    pub(crate) grace_millis: u64,
    pub(crate) created_at_unix_millis: i64,
}

/// What a supervisor is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) identity: Identity,
    /// How often the containers were restarted before.
    pub(crate) restarts: u64,
    pub(crate) containers: Vec<SpecContainer>,
    /// How they live together: for agents.
    #[serde(default)]
    pub(crate) plan: WirePlan,
    #[serde(default)]
    pub(crate) volumes: Vec<SpecVolume>,
    #[serde(default)]
    pub(crate) fs_group: Option<u32>,
    /// What of the machine's it does not share.
    #[serde(default)]
    pub(crate) namespaces: WireNamespaces,
    /// The pod's cgroup directory.
    pub(crate) cgroup: String,
    /// The pod's directory for sockets and logs.
    pub(crate) directory: String,
    /// From which size a log goes on in another file, in bytes.
    #[serde(default)]
    pub(crate) max_log_file: Option<u64>,
    /// Whether to do without `cgroup.kill` and without `CLONE_INTO_CGROUP`, for tests of the ways
    /// of older kernels.
    #[serde(default)]
    pub(crate) old_kernel: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SpecContainer {
    pub(crate) name: String,
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) working_dir: Option<String>,
    pub(crate) user: Option<u32>,
    pub(crate) group: Option<u32>,
    pub(crate) no_new_privs: bool,
    /// What holds it to its limits.
    #[serde(default)]
    pub(crate) share: Share,
    /// Which signal asks it to end; SIGTERM without one.
    #[serde(default)]
    pub(crate) stop_signal: Option<i32>,
    /// Its `oom_score_adj`; the supervisor's without.
    #[serde(default)]
    pub(crate) oom_score: Option<i16>,
    #[serde(default)]
    pub(crate) mounts: Vec<SpecMount>,
    #[serde(default)]
    pub(crate) confinement: Confinement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WireExit {
    Code(i32),
    Signal(i32),
    Unknown,
}

/// An account that no supervisor of ours gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One line, with its end.
pub(crate) fn line(message: &impl Serialize) -> Vec<u8> {
    // Serialising these types can't fail: no maps with odd keys, no writer but memory.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

impl Identity {
    pub(crate) fn of(request: &CreateRequest) -> Self {
        Self {
            namespace: request.pod.key.namespace().to_owned(),
            name: request.pod.key.name().to_owned(),
            pod: request.pod.uid.to_string(),
            cluster: request.marks.cluster.to_string(),
            node: request.marks.node.to_string(),
            set: request.set.to_string(),
            revision: request.revision.to_string(),
            replace: request.replace,
            grace_millis: millis(request.spec.grace),
            created_at_unix_millis: request.created_at.unix_millis,
        }
    }

    /// Which pod, and whose.
    pub(crate) fn parse(&self) -> Result<(PodRef, Marks), Malformed> {
        let pod = PodRef {
            key: PodKey::new(&self.namespace, &self.name).map_err(|_| Malformed)?,
            uid: self.pod.parse().map_err(|_| Malformed)?,
        };
        let marks = Marks {
            cluster: self.cluster.parse().map_err(|_| Malformed)?,
            node: self.node.parse().map_err(|_| Malformed)?,
        };
        Ok((pod, marks))
    }
}

impl Account {
    /// With the plan of the pod; the default where its supervisor is too old to know it.
    pub(crate) fn parse(&self, plan: &WirePlan) -> Result<Supervised, Malformed> {
        let identity = &self.identity;
        let containers = self.containers.iter();
        Ok(Supervised {
            set: identity.set.parse().map_err(|_| Malformed)?,
            revision: identity.revision.parse().map_err(|_| Malformed)?,
            replace: identity.replace,
            grace: Duration::from_millis(identity.grace_millis),
            restart: plan.restart(),
            created_at: WallTime::from_unix_millis(identity.created_at_unix_millis),
            terminating: self.terminating,
            limits_in_doubt: self.limits_in_doubt,
            resized_for: self.resized_for_millis.map(Duration::from_millis),
            restarts: self.restarts,
            containers: containers.map(|c| c.parse(plan.lifecycle(&c.name))).collect(),
        })
    }
}

impl AccountContainer {
    fn parse(&self, lifecycle: Lifecycle) -> SupervisedContainer {
        SupervisedContainer {
            name: self.name.clone(),
            lifecycle,
            asked: self.asked,
            pid: self.pid,
            last_exit: self.last_exit.map(Exit::from),
            oom: self.oom,
            for_time: Duration::from_millis(self.for_millis),
        }
    }
}

impl SpecContainer {
    /// With the share of each container and the filters of each, in the same order.
    pub(crate) fn all(
        spec: &PodSpec,
        shares: Vec<Share>,
        seccomp: &[Vec<BpfProgram>],
    ) -> Vec<Self> {
        let with = spec.containers.iter().zip(shares).zip(seccomp);
        with.map(|((container, share), filters)| Self::of(container, share, filters)).collect()
    }

    fn of(container: &ContainerSpec, share: Share, seccomp: &[BpfProgram]) -> Self {
        Self {
            name: container.name.clone(),
            argv: container.argv.clone(),
            env: container.env.clone(),
            working_dir: container.working_dir.clone(),
            user: container.security.user,
            group: container.security.group,
            no_new_privs: container.security.no_new_privs,
            share,
            stop_signal: container.stop_signal,
            oom_score: container.oom_score,
            mounts: container.mounts.iter().map(SpecMount::of).collect(),
            confinement: Confinement::of(&container.security, seccomp),
        }
    }
}

impl Message {
    pub(crate) fn refused(reason: Reason) -> Self {
        let mut message = reason.message;
        if message.len() > MAX_REFUSAL {
            message.truncate(message.floor_char_boundary(MAX_REFUSAL));
            message.push('…');
        }
        Self::Refused { code: reason.code, message }
    }
}

impl From<WaitStatus> for WireExit {
    fn from(status: WaitStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

impl From<WireExit> for Exit {
    fn from(exit: WireExit) -> Self {
        match exit {
            WireExit::Code(code) => Self::Code(code),
            WireExit::Signal(signal) => Self::Signal(signal),
            WireExit::Unknown => Self::Unknown,
        }
    }
}

/// A duration in whole milliseconds; one beyond 584 million years is cut.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_model::LogTail;

    fn exited(container: &str, exit: WireExit, printed: &str) -> Message {
        Message::Exited { container: container.into(), exit, oom: false, printed: printed.into() }
    }

    #[test]
    fn a_refusal_fits_in_a_line_whatever_it_quotes() {
        for letter in ["\u{1}", "é", "€", "x"] {
            let refused = Message::refused(Reason::new("Bad", letter.repeat(100_000)));
            assert!(line(&refused).len() < FIRST_MAX_LINE / 2);
            let Message::Refused { message, .. } = refused else { panic!() };
            assert!(message.ends_with('…') && message.len() > 4000);
        }
    }

    #[test]
    fn what_is_said_today_is_understood_tomorrow() {
        let said = [
            (line(&Request::Start { container: "a".into() }), r#"{"start":{"container":"a"}}"#),
            (line(&Request::Account {}), r#"{"account":{}}"#),
            (
                line(&exited("a", WireExit::Signal(9), "")),
                r#"{"exited":{"container":"a","exit":{"signal":9}}}"#,
            ),
            (
                line(&exited("a", WireExit::Code(1), "boom")),
                r#"{"exited":{"container":"a","exit":{"code":1},"printed":"boom"}}"#,
            ),
            (line(&Request::Printed { container: "a".into() }), r#"{"printed":{"container":"a"}}"#),
            (line(&Message::Leaving {}), r#"{"leaving":{}}"#),
            (
                line(&Message::Exited {
                    container: "a".into(),
                    exit: WireExit::Signal(9),
                    oom: true,
                    printed: String::new(),
                }),
                r#"{"exited":{"container":"a","exit":{"signal":9},"oom":true}}"#,
            ),
            (line(&Request::Close {}), r#"{"close":{}}"#),
            (line(&Request::Plan {}), r#"{"plan":{}}"#),
            (line(&Message::Plan(WirePlan::default())), r#"{"plan":{}}"#),
            (
                line(&Message::Executed { id: 1, exit: WireExit::Code(0), timed_out: false }),
                r#"{"executed":{"id":1,"exit":{"code":0},"timed_out":false}}"#,
            ),
        ];
        for (line, expected) in said {
            assert_eq!(String::from_utf8(line).unwrap().trim_end(), expected);
        }
        // One of the first supervisors, which knew nothing of limits that change.
        let keys = "namespace name pod cluster node set revision".split(' ');
        let keys: String = keys.map(|key| format!("\"{key}\":\"\",")).collect();
        let first = format!(
            "{{\"identity\":{{{keys}\"replace\":0,\"grace_millis\":0,\"created_at_unix_millis\":0}},\
             \"terminating\":false,\"restarts\":0,\"containers\":[]}}"
        );
        let first: Account = serde_json::from_str(&first).unwrap();
        assert!(!first.resizes && !first.limits_in_doubt);
        // A field that a later version added does no harm.
        let later = r#"{"exited":{"container":"a","exit":"unknown","core":true}}"#;
        let understood: Message = serde_json::from_str(later).unwrap();
        assert_eq!(understood, exited("a", WireExit::Unknown, ""));
    }

    #[test]
    fn what_was_printed_fits_in_a_line() {
        for letter in ["\u{1}", "\"", "\\", "\t", "€"] {
            let tail = LogTail::of(&letter.repeat(1000).repeat(20).replace("", "\n"));
            let exited = exited(&"x".repeat(63), WireExit::Signal(9), tail.as_str());
            assert!(line(&exited).len() < FIRST_MAX_LINE / 2);
        }
    }
}
