//! Reports: what a node says of its pods.

use std::time::Duration;

use everynode_model::{
    ContainerState, ContainerStatus, Exit, Failure, FinishedRun, FormerFailure, LogTail, PodKey,
    PodPhase, PodStatus, Reason, Role, WallTime,
};

use super::{digest, id, required};
use crate::error::Invalid;
use crate::v1;
use crate::v1::container_status::{Running, State};
use crate::v1::exit::How;

/// How many pods one place may hold: the old one and the new, and room for what was found there.
const MAX_PODS: usize = 8;

/// How many containers a pod may have: several times what any manifest has.
const MAX_CONTAINERS: usize = 256;

/// How much is kept of a reason's line, in bytes. What is more is cut, by who says it and by who is
/// told: one long line costs neither memory nor a whole report, which may be too large to be taken.
const MAX_LINE: usize = 1024;

/// A place and what is in it, as a message.
pub fn place(key: &PodKey, pods: &[PodStatus]) -> v1::Place {
    v1::Place { key: Some(key.into()), pods: pods.iter().map(Into::into).collect() }
}

/// A place and what is in it, from a message.
///
/// # Errors
/// When a field can't be taken.
pub fn try_place(place: &v1::Place) -> Result<(PodKey, Vec<PodStatus>), Invalid> {
    let key = PodKey::try_from(required("key", place.key.as_ref())?)?;
    within("pods", place.pods.len(), MAX_PODS)?;
    let pods = place.pods.iter().map(|pod| try_pod(&key, pod)).collect::<Result<_, _>>()?;
    Ok((key, pods))
}

/// One pod of the place `key`, from a message.
///
/// # Errors
/// When a field can't be taken.
pub fn try_pod(key: &PodKey, pod: &v1::PodStatus) -> Result<PodStatus, Invalid> {
    within("containers", pod.containers.len(), MAX_CONTAINERS)?;
    Ok(PodStatus {
        key: key.clone(),
        uid: id("uid", &pod.uid)?,
        set: id("set_uid", &pod.set_uid)?,
        revision: digest("revision", &pod.revision)?,
        replace: pod.replace,
        phase: phase(pod.phase())?,
        reason: pod.reason.as_ref().map(Into::into),
        ready: pod.ready,
        ready_for: Duration::from_millis(pod.ready_for_millis),
        started_at: pod.started_at_millis.map(WallTime::from_unix_millis),
        restarts: pod.restarts,
        times_unready: pod.times_unready,
        last_failure: pod.last_failure.as_ref().map(failure).transpose()?,
        former_failure: pod.former_failure.as_ref().map(former_failure).transpose()?,
        containers: pod.containers.iter().map(container).collect::<Result<_, _>>()?,
    })
}

/// All that is known to have gone wrong with a pod, to change.
pub fn failures_mut(pod: &mut v1::PodStatus) -> impl Iterator<Item = &mut v1::Failure> {
    let former = pod.former_failure.as_mut().and_then(|former| former.failure.as_mut());
    pod.last_failure.iter_mut().chain(former)
}

impl From<&PodStatus> for v1::PodStatus {
    fn from(pod: &PodStatus) -> Self {
        Self {
            uid: pod.uid.to_string(),
            set_uid: pod.set.to_string(),
            revision: pod.revision.as_bytes().to_vec(),
            replace: pod.replace,
            phase: v1::PodPhase::from(pod.phase).into(),
            reason: pod.reason.as_ref().map(Into::into),
            ready: pod.ready,
            ready_for_millis: u64::try_from(pod.ready_for.as_millis()).unwrap_or(u64::MAX),
            started_at_millis: pod.started_at.map(|at| at.unix_millis),
            restarts: pod.restarts,
            times_unready: pod.times_unready,
            last_failure: pod.last_failure.as_ref().map(Into::into),
            former_failure: pod.former_failure.as_ref().map(|former| v1::FormerFailure {
                revision: former.revision.as_bytes().to_vec(),
                failure: Some((&former.failure).into()),
            }),
            containers: pod.containers.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Reason> for v1::Reason {
    fn from(reason: &Reason) -> Self {
        Self { code: cut(&reason.code), message: cut(&reason.message) }
    }
}

impl From<&v1::Reason> for Reason {
    fn from(reason: &v1::Reason) -> Self {
        Self { code: cut(&reason.code), message: cut(&reason.message) }
    }
}

impl From<Exit> for v1::Exit {
    fn from(exit: Exit) -> Self {
        let how = match exit {
            Exit::Code(code) => How::Code(code),
            Exit::Signal(signal) => How::Signal(signal),
            Exit::Unknown => How::Unknown(true),
        };
        Self { how: Some(how) }
    }
}

impl From<&v1::Exit> for Exit {
    /// A way of ending that this side does not know is an unknown one.
    fn from(exit: &v1::Exit) -> Self {
        match exit.how {
            Some(How::Code(code)) => Self::Code(code),
            Some(How::Signal(signal)) => Self::Signal(signal),
            Some(How::Unknown(_)) | None => Self::Unknown,
        }
    }
}

impl From<PodPhase> for v1::PodPhase {
    fn from(phase: PodPhase) -> Self {
        match phase {
            PodPhase::Pending => Self::Pending,
            PodPhase::Running => Self::Running,
            PodPhase::Stopping => Self::Stopping,
        }
    }
}

impl From<&Failure> for v1::Failure {
    fn from(failure: &Failure) -> Self {
        Self {
            container: cut(&failure.container),
            exit: failure.exit.map(Into::into),
            reason: Some((&failure.reason).into()),
            at_millis: failure.at.unix_millis,
            log_tail: failure.log_tail.as_str().to_owned(),
            log_tail_id: failure.log_tail.id(),
        }
    }
}

impl From<&ContainerStatus> for v1::ContainerStatus {
    fn from(container: &ContainerStatus) -> Self {
        let state = match &container.state {
            ContainerState::Waiting(reason) => State::Waiting(reason.into()),
            ContainerState::Running { pid, since } => {
                State::Running(Running { pid: *pid, since_millis: since.unix_millis })
            }
            ContainerState::Terminated(exit) => State::Terminated((*exit).into()),
        };
        Self {
            name: container.name.clone(),
            ready: container.ready,
            restarts: container.restarts,
            state: Some(state),
            role: v1::ContainerRole::from(container.role).into(),
            started: container.started,
            last_run: container.last_run.as_deref().map(Into::into),
        }
    }
}

impl From<Role> for v1::ContainerRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Init => Self::Init,
            Role::Sidecar => Self::Sidecar,
            Role::Main => Self::Main,
        }
    }
}

impl From<v1::ContainerRole> for Role {
    /// Agents that did not say knew of main containers only, as far as people could see; and a role
    /// of a later version is for showing, too.
    fn from(role: v1::ContainerRole) -> Self {
        match role {
            v1::ContainerRole::Init => Self::Init,
            v1::ContainerRole::Sidecar => Self::Sidecar,
            v1::ContainerRole::Main | v1::ContainerRole::Unspecified => Self::Main,
        }
    }
}

impl From<&FinishedRun> for v1::FinishedRun {
    fn from(run: &FinishedRun) -> Self {
        Self {
            exit: Some(run.exit.into()),
            reason: cut(&run.reason),
            started_at_millis: run.started.map(|at| at.unix_millis),
            finished_at_millis: run.finished.unix_millis,
        }
    }
}

fn within(field: &str, count: usize, max: usize) -> Result<(), Invalid> {
    if count > max { Err(Invalid::new(field, format!("more than {max}"))) } else { Ok(()) }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_LINE)].to_owned()
}

fn phase(phase: v1::PodPhase) -> Result<PodPhase, Invalid> {
    match phase {
        v1::PodPhase::Pending => Ok(PodPhase::Pending),
        v1::PodPhase::Running => Ok(PodPhase::Running),
        v1::PodPhase::Stopping => Ok(PodPhase::Stopping),
        v1::PodPhase::Unspecified => Err(Invalid::new("phase", "not one this version knows")),
    }
}

fn failure(failure: &v1::Failure) -> Result<Failure, Invalid> {
    Ok(Failure {
        container: cut(&failure.container),
        exit: failure.exit.as_ref().map(Into::into),
        reason: required("last_failure.reason", failure.reason.as_ref())?.into(),
        at: WallTime::from_unix_millis(failure.at_millis),
        log_tail: match failure.log_tail.as_str() {
            "" => LogTail::known_elsewhere(failure.log_tail_id),
            text => LogTail::of(text),
        },
    })
}

fn former_failure(former: &v1::FormerFailure) -> Result<FormerFailure, Invalid> {
    let failed = required("former_failure.failure", former.failure.as_ref())?;
    let revision = digest("former_failure.revision", &former.revision)?;
    Ok(FormerFailure { revision, failure: failure(failed)? })
}

fn container(container: &v1::ContainerStatus) -> Result<ContainerStatus, Invalid> {
    let state = match required("containers.state", container.state.as_ref())? {
        State::Waiting(reason) => ContainerState::Waiting(reason.into()),
        State::Running(Running { pid, since_millis }) => {
            ContainerState::Running { pid: *pid, since: WallTime::from_unix_millis(*since_millis) }
        }
        State::Terminated(exit) => ContainerState::Terminated(exit.into()),
    };
    Ok(ContainerStatus {
        name: cut(&container.name),
        role: container.role().into(),
        state,
        ready: container.ready,
        started: container.started,
        restarts: container.restarts,
        last_run: container.last_run.as_ref().map(finished_run).map(Box::new),
    })
}

fn finished_run(run: &v1::FinishedRun) -> FinishedRun {
    FinishedRun {
        exit: run.exit.as_ref().map_or(Exit::Unknown, Into::into),
        reason: cut(&run.reason),
        started: run.started_at_millis.map(WallTime::from_unix_millis),
        finished: WallTime::from_unix_millis(run.finished_at_millis),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_model::{Digest, PodUid, SetUid};
    use uuid::Uuid;

    #[test]
    fn there_and_back() {
        let key = PodKey::new("default", "a").unwrap();
        let pod = PodStatus {
            key: key.clone(),
            uid: PodUid::new(Uuid::from_u128(1)),
            set: SetUid::new(Uuid::from_u128(2)),
            revision: Digest::of(b"x"),
            replace: 1,
            phase: PodPhase::Running,
            reason: Some(Reason::new("CrashLoopBackOff", "back-off 10s")),
            ready: false,
            ready_for: Duration::from_millis(1500),
            started_at: Some(WallTime::from_unix_millis(5)),
            restarts: 2,
            times_unready: 3,
            last_failure: Some(Failure {
                container: "main".into(),
                exit: Some(Exit::Signal(9)),
                reason: Reason::new("Error", ""),
                at: WallTime::from_unix_millis(-4),
                log_tail: LogTail::of("it was the cat"),
            }),
            former_failure: Some(FormerFailure {
                revision: Digest::of(b"y"),
                failure: Failure {
                    container: String::new(),
                    exit: None,
                    reason: Reason::new("SupervisorLost", ""),
                    at: WallTime::from_unix_millis(-5),
                    log_tail: LogTail::known_elsewhere(7),
                },
            }),
            containers: vec![ContainerStatus {
                name: "main".into(),
                role: Role::Sidecar,
                state: ContainerState::Running { pid: 7, since: WallTime::from_unix_millis(6) },
                ready: true,
                started: true,
                restarts: 2,
                last_run: Some(Box::new(FinishedRun {
                    exit: Exit::Code(3),
                    reason: "Error".into(),
                    started: Some(WallTime::from_unix_millis(3)),
                    finished: WallTime::from_unix_millis(4),
                })),
            }],
        };
        assert_eq!(try_place(&place(&key, std::slice::from_ref(&pod))), Ok((key, vec![pod])));
    }

    #[test]
    fn what_is_too_much_is_cut_or_refused() {
        let long = v1::Reason { code: "A".into(), message: "ü".repeat(MAX_LINE) };
        assert_eq!(Reason::from(&long).message.len(), MAX_LINE);
        let long = "ü".repeat(MAX_LINE);
        let told = v1::Reason::from(&Reason::new(long.clone(), long.clone()));
        assert_eq!((told.code.len(), told.message.len()), (MAX_LINE, MAX_LINE));
        let at = WallTime::from_unix_millis(0);
        let told = v1::Failure::from(&Failure {
            container: long.clone(),
            exit: None,
            reason: Reason::new("Error", ""),
            at,
            log_tail: LogTail::of(""),
        });
        assert_eq!(told.container.len(), MAX_LINE);
        let run = FinishedRun { exit: Exit::Unknown, reason: long, started: None, finished: at };
        assert_eq!(v1::FinishedRun::from(&run).reason.len(), MAX_LINE);
        let key = PodKey::new("default", "a").unwrap();
        let mut crowded = place(&key, &[]);
        crowded.pods = vec![v1::PodStatus::default(); MAX_PODS + 1];
        assert_eq!(try_place(&crowded).unwrap_err().field, "pods");
    }

    #[test]
    fn a_container_of_an_agent_that_says_no_role_is_a_main_one() {
        let state = Some(State::Waiting(v1::Reason::default()));
        let said = v1::ContainerStatus { name: "a".into(), state, ..Default::default() };
        let taken = container(&said).unwrap();
        assert_eq!((taken.role, taken.started, taken.last_run), (Role::Main, false, None));
    }

    #[test]
    fn a_phase_of_a_later_version_is_refused() {
        let key = PodKey::new("default", "a").unwrap();
        let mut message = v1::PodStatus {
            uid: Uuid::nil().to_string(),
            set_uid: Uuid::nil().to_string(),
            revision: vec![0; 32],
            ..Default::default()
        };
        message.phase = 99;
        assert_eq!(try_pod(&key, &message).unwrap_err().field, "phase");
    }
}
