//! What a row says of a pod: kubectl's rules (`printPod` of Kubernetes' `printers.go`) for READY,
//! STATUS and RESTARTS.

use everynode_proto::v1::container_status::State;
use everynode_proto::v1::exit::How;
use everynode_proto::v1::{ContainerRole, ContainerStatus, Exit, Pod, PodPhase, PodStatus};

use crate::age::age_of_millis;
use crate::failure::exit_word;

/// How a pod stands, in a word for rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// All its containers run.
    Running,
    /// It is not running (yet, or right now), for this reason.
    Waiting(String),
    /// It is being stopped.
    Terminating,
    /// Its node is lost.
    Unknown,
}

/// Whether it is one of `spec.containers`.
pub(crate) fn is_main(container: &ContainerStatus) -> bool {
    !matches!(container.role(), ContainerRole::Init | ContainerRole::Sidecar)
}

/// How the pod stands.
pub(crate) fn standing(pod: &Pod) -> Standing {
    let pending = || {
        let code = pod.reason.as_ref().map(|reason| reason.code.clone());
        Standing::Waiting(code.filter(|code| !code.is_empty()).unwrap_or_else(|| "Pending".into()))
    };
    let Some(status) = &pod.status else { return pending() };
    // Its DaemonSet is gone; the node has not heard of it, or not said so yet.
    if pod.reason.as_ref().is_some_and(|reason| reason.code == "BeingRemoved") {
        return Standing::Terminating;
    }
    if pod.stale {
        return Standing::Unknown;
    }
    match status.phase() {
        PodPhase::Stopping => Standing::Terminating,
        PodPhase::Pending | PodPhase::Unspecified if status.containers.is_empty() => {
            let code = status.reason.as_ref().map(|reason| reason.code.clone());
            code.filter(|code| !code.is_empty()).map_or_else(pending, Standing::Waiting)
        }
        _ => of_containers(status),
    }
}

/// `1/2`: containers that are ready, of all that go on: without init containers.
pub(crate) fn ready_of(pod: &Pod) -> String {
    let said = pod.status.as_ref().map_or(&[][..], |status| &status.containers);
    let all = if said.is_empty() { &pod.planned } else { said };
    let stay = || all.iter().filter(|container| goes_on(container));
    let ready = stay().filter(|container| container.ready && !pod.stale).count();
    format!("{ready}/{}", stay().count())
}

/// `3 (2m ago)`: how often containers were restarted, and when the last of them had ended. Init
/// containers count until they are done.
pub(crate) fn restarts(pod: &Pod, now: i64) -> String {
    let Some(status) = &pod.status else { return "0".into() };
    let initialized = is_initialized(status);
    let counts = |one: &&ContainerStatus| goes_on(one) || !initialized;
    let left_out = status.containers.iter().filter(|one| !counts(one));
    let count = status.restarts.saturating_sub(left_out.map(|one| one.restarts).sum());
    let ends = status.containers.iter().filter(counts).filter_map(|one| one.last_run.as_ref());
    let last = ends.map(|run| run.finished_at_millis).max();
    // Of an agent that tells of no runs, or a pod that was made anew.
    let last = last.or_else(|| status.last_failure.as_ref().map(|failure| failure.at_millis));
    match last {
        Some(at) if count > 0 => format!("{count} ({} ago)", age_of_millis(at, now)),
        _ => count.to_string(),
    }
}

/// Whether init containers have ended and sidecars started; as in Kubernetes it stays so once a main
/// container was started.
pub(super) fn is_initialized(status: &PodStatus) -> bool {
    let mut mains = status.containers.iter().filter(|one| is_main(one));
    let made = !status.containers.is_empty();
    made && (initializing(status).is_none() || mains.any(has_run))
}

/// Whether it was ever started.
pub(super) fn has_run(container: &ContainerStatus) -> bool {
    let waits = matches!(&container.state, None | Some(State::Waiting(_)));
    !waits || container.last_run.is_some() || container.restarts > 0
}

fn goes_on(container: &ContainerStatus) -> bool {
    container.role() != ContainerRole::Init
}

/// A pod that is made and is to stay.
fn of_containers(status: &PodStatus) -> Standing {
    let phase = if status.phase() == PodPhase::Running { "Running" } else { "Pending" };
    let initializing = initializing(status);
    let word = match &initializing {
        Some(word) if !is_initialized(status) => word.clone(),
        word => of_mains(status, word.as_deref().unwrap_or(phase)),
    };
    if word == "Running" { Standing::Running } else { Standing::Waiting(word) }
}

/// The word of the first init container or sidecar that later ones wait for.
fn initializing(status: &PodStatus) -> Option<String> {
    let inits = || status.containers.iter().filter(|one| !is_main(one));
    let total = inits().count();
    inits().enumerate().find_map(|(number, one)| match &one.state {
        Some(State::Terminated(exit)) if is_success(exit) => None,
        _ if one.started && goes_on(one) => None,
        Some(State::Terminated(exit)) => Some(format!("Init:{}", end_of(one, exit))),
        Some(State::Waiting(reason)) if !is_to_come(&reason.code) => {
            Some(format!("Init:{}", reason.code))
        }
        _ => Some(format!("Init:{number}/{total}")),
    })
}

/// The word of the first main container that is in trouble; `word` where none is.
fn of_mains(status: &PodStatus, word: &str) -> String {
    let (mut word, mut failed, mut runs) = (word.to_owned(), None, false);
    for one in status.containers.iter().filter(|one| is_main(one)).rev() {
        match &one.state {
            Some(State::Waiting(reason)) if !reason.code.is_empty() => word = reason.code.clone(),
            Some(State::Terminated(exit)) => {
                word = end_of(one, exit);
                failed = (!is_success(exit)).then(|| word.clone()).or(failed);
            }
            Some(State::Running(_)) => runs |= one.ready,
            _ => {}
        }
    }
    // One that has ended well does not outweigh the others.
    match (word.as_str(), failed, runs) {
        ("Completed", _, true) if status.ready => "Running".into(),
        ("Completed", Some(failed), _) => failed,
        ("Completed", None, true) => "NotReady".into(),
        _ => word,
    }
}

/// What kubelets say of init containers that simply wait for their turn or their start.
fn is_to_come(code: &str) -> bool {
    matches!(code, "" | "PodInitializing" | "ContainerCreating")
}

fn is_success(exit: &Exit) -> bool {
    matches!(exit.how, Some(How::Code(0)))
}

fn end_of(container: &ContainerStatus, exit: &Exit) -> String {
    match &container.last_run {
        Some(run) if !run.reason.is_empty() => run.reason.clone(),
        _ => exit_word(exit).into(),
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Running => "Running",
            Self::Waiting(reason) => reason,
            Self::Terminating => "Terminating",
            Self::Unknown => "Unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use everynode_proto::v1::container_status::Running;
    use everynode_proto::v1::{Failure, FinishedRun, Reason};

    use super::*;

    fn running() -> State {
        State::Running(Running { pid: 7, since_millis: 0 })
    }

    fn waiting(code: &str) -> State {
        State::Waiting(Reason { code: code.into(), message: String::new() })
    }

    fn ended(code: i32) -> State {
        State::Terminated(Exit { how: Some(How::Code(code)) })
    }

    fn run(millis: i64) -> Option<FinishedRun> {
        let reason = "Error".into();
        Some(FinishedRun { reason, finished_at_millis: millis, ..FinishedRun::default() })
    }

    fn of(role: ContainerRole, ready: bool, state: State) -> ContainerStatus {
        let mut one = ContainerStatus { ready, state: Some(state), ..ContainerStatus::default() };
        one.started = matches!(one.state, Some(State::Running(_)));
        one.set_role(role);
        one
    }

    fn main(ready: bool, state: State) -> ContainerStatus {
        of(ContainerRole::Main, ready, state)
    }

    fn init(ready: bool, state: State) -> ContainerStatus {
        of(ContainerRole::Init, ready, state)
    }

    fn sidecar(ready: bool, state: State) -> ContainerStatus {
        of(ContainerRole::Sidecar, ready, state)
    }

    fn pod(containers: Vec<ContainerStatus>) -> Pod {
        let restarts = containers.iter().map(|one| one.restarts).sum();
        let ready = containers.iter().all(|one| one.ready);
        let mut status = PodStatus { containers, restarts, ready, ..PodStatus::default() };
        status.set_phase(PodPhase::Running);
        Pod { status: Some(status), ..Pod::default() }
    }

    /// STATUS and READY.
    fn shown(containers: Vec<ContainerStatus>) -> (String, String) {
        let pod = pod(containers);
        (standing(&pod).to_string(), ready_of(&pod))
    }

    #[test]
    fn init_containers_are_told_as_kubectl_tells_them() {
        let to_come = || main(false, waiting("PodInitializing"));
        let turn = || init(false, waiting("PodInitializing"));
        for (status, ready, containers) in [
            ("Init:0/2", "0/1", vec![init(false, running()), turn(), to_come()]),
            ("Init:0/1", "0/1", vec![init(false, waiting("ContainerCreating")), to_come()]),
            ("Init:1/2", "0/1", vec![init(true, ended(0)), init(false, running()), to_come()]),
            ("Init:Error", "0/1", vec![init(false, ended(1)), to_come()]),
            (
                "Init:CrashLoopBackOff",
                "0/1",
                vec![init(false, waiting("CrashLoopBackOff")), to_come()],
            ),
            ("PodInitializing", "0/1", vec![init(true, ended(0)), to_come()]),
            ("Running", "1/1", vec![init(true, ended(0)), main(true, running())]),
        ] {
            assert_eq!(shown(containers), (status.into(), ready.into()));
        }
    }

    #[test]
    fn sidecars_count_as_containers_that_go_on() {
        let to_come = || main(false, waiting("PodInitializing"));
        let both = vec![sidecar(true, running()), main(true, running())];
        assert_eq!(shown(both), ("Running".into(), "2/2".into()));
        let first = vec![sidecar(true, running()), init(false, running()), to_come()];
        assert_eq!(shown(first), ("Init:1/2".into(), "1/2".into()));
        let mut starting = sidecar(false, running());
        starting.started = false;
        assert_eq!(shown(vec![starting, to_come()]), ("Init:0/1".into(), "0/2".into()));
        let crashed = vec![sidecar(false, waiting("CrashLoopBackOff")), main(true, running())];
        assert_eq!(shown(crashed), ("Init:CrashLoopBackOff".into(), "1/2".into()));
    }

    #[test]
    fn main_containers_are_told_as_kubectl_tells_them() {
        let error = || main(false, waiting("CrashLoopBackOff"));
        for (status, containers) in [
            ("CrashLoopBackOff", vec![main(true, running()), error()]),
            ("ContainerCreating", vec![main(false, waiting("ContainerCreating")), error()]),
            ("Running", vec![main(false, running())]),
            ("NotReady", vec![main(false, ended(0)), main(true, running())]),
            ("Error", vec![main(false, ended(0)), main(false, ended(2)), main(true, running())]),
            ("Completed", vec![main(false, ended(0))]),
        ] {
            assert_eq!(shown(containers).0, status);
        }
    }

    #[test]
    fn standings() {
        let mut pod = pod(vec![main(true, running())]);
        assert_eq!(standing(&pod), Standing::Running);
        pod.stale = true;
        assert_eq!((standing(&pod), ready_of(&pod).as_str()), (Standing::Unknown, "0/1"));
        pod.stale = false;
        if let Some(status) = &mut pod.status {
            status.set_phase(PodPhase::Stopping);
        }
        assert_eq!(standing(&pod), Standing::Terminating);
        pod.status = None;
        assert_eq!(standing(&pod), Standing::Waiting("Pending".into()));
        pod.reason = Some(Reason { code: "NodeNotReady".into(), message: String::new() });
        assert_eq!(standing(&pod), Standing::Waiting("NodeNotReady".into()));
    }

    #[test]
    fn what_is_planned_counts_until_the_node_says_more() {
        let planned = vec![init(false, running()), main(false, running()), main(false, running())];
        let mut pod = Pod { planned, ..Pod::default() };
        assert_eq!(ready_of(&pod), "0/2");
        let reason = Some(Reason { code: "ProgramNotFound".into(), message: String::new() });
        let mut status = PodStatus { reason, ..PodStatus::default() };
        status.set_phase(PodPhase::Pending);
        pod.status = Some(status);
        assert_eq!(
            (standing(&pod).to_string(), ready_of(&pod)),
            ("ProgramNotFound".into(), "0/2".into())
        );
    }

    #[test]
    fn restarts_are_those_of_what_goes_on_and_the_date_is_the_last_ends() {
        let restarted = |one: ContainerStatus, restarts, at| ContainerStatus {
            restarts,
            last_run: run(at),
            ..one
        };
        let done = || restarted(init(true, ended(0)), 5, 940_000);
        let waits = init(false, waiting("CrashLoopBackOff"));
        let to_come = main(false, waiting("PodInitializing"));
        let of = |containers| restarts(&pod(containers), 1000);
        assert_eq!(of(vec![restarted(waits, 2, 990_000), to_come]), "2 (10s ago)");
        assert_eq!(of(vec![done(), main(true, running())]), "0");
        let again = restarted(main(true, running()), 3, 700_000);
        let side = restarted(sidecar(true, running()), 1, 640_000);
        assert_eq!(of(vec![done(), side, again]), "4 (5m ago)");
        let mut old = pod(vec![ContainerStatus { restarts: 3, ..main(true, running()) }]);
        if let Some(status) = &mut old.status {
            status.last_failure = Some(Failure { at_millis: 880_000, ..Failure::default() });
        }
        assert_eq!(restarts(&old, 1000), "3 (2m ago)");
    }
}
