//! All about a pod, as its node tells it.

use std::fmt::Write as _;

use everynode_proto::v1::container_status::State;
use everynode_proto::v1::{ContainerStatus, Failure, Pod};

use super::{events, push_map};
use crate::age::{rfc3339_millis, unix_now};
use crate::connect::Client;
use crate::error::Error;
use crate::failure::{self, exit_words, in_words};
use crate::kinds::{Kind as _, Pods, ready_of, restarts, standing};

pub(super) async fn describe(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<String, Error> {
    let pod = Pods::get(client, namespace, name).await?;
    let events = events::about(client, namespace, "Pod", name).await?;
    Ok(text(&pod, unix_now()) + &events)
}

fn text(pod: &Pod, now: i64) -> String {
    let metadata = pod.metadata.clone().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let mut text = String::new();
    let _ = writeln!(text, "Name:\t{}", metadata.name);
    let _ = writeln!(text, "Namespace:\t{}", metadata.namespace);
    let _ = writeln!(text, "Node:\t{}", pod.node_name);
    let started = status.started_at_millis.map_or_else(|| "<not yet>".into(), rfc3339_millis);
    let _ = writeln!(text, "Start Time:\t{started}");
    push_map(&mut text, "Labels", &metadata.labels, "=");
    push_map(&mut text, "Annotations", &metadata.annotations, ": ");
    let _ = writeln!(text, "Status:\t{}", standing(pod));
    if pod.stale {
        text.push_str("Stale:\ttrue (its node is lost; this is what it said last)\n");
    }
    for reason in [&pod.reason, &status.reason].into_iter().flatten().take(1) {
        let _ = writeln!(text, "Reason:\t{}", in_words(reason));
    }
    let _ = writeln!(text, "Ready:\t{}", ready_of(pod));
    let _ = writeln!(text, "Restarts:\t{}", restarts(pod, now));
    let _ = writeln!(text, "Revision:\t{}", pod.revision);
    let _ = writeln!(text, "UID:\t{}", metadata.uid);
    let owner = pod.daemon_set.as_ref().map(|key| format!("DaemonSet/{}", key.name));
    let _ = writeln!(text, "Controlled By:\t{}", owner.unwrap_or_else(|| "<none>".into()));
    if let Some(failure) = &status.last_failure {
        let _ = writeln!(text, "Last Failure:\t{}", failure::in_a_line(failure));
        // Of a container it stands with it.
        if !status.containers.iter().any(|container| container.name == failure.container) {
            push_printed(&mut text, 2, failure);
        }
    }
    if let Some((former, failure)) =
        status.former_failure.as_ref().and_then(|former| Some((former, former.failure.as_ref()?)))
    {
        let (revision, line) = (failure::revision(former), failure::in_a_line(failure));
        let _ = writeln!(text, "Former Failure:\trevision {revision}: {line}");
        push_printed(&mut text, 2, failure);
    }
    if !status.containers.is_empty() {
        text.push_str("Containers:\n");
    }
    for container in &status.containers {
        let last = status.last_failure.as_ref();
        push_container(&mut text, container, last.filter(|it| it.container == container.name));
    }
    text
}

/// How the run before ended.
fn push_last_state(text: &mut String, failure: &Failure) {
    let reason = failure.reason.clone().unwrap_or_default();
    let _ = writeln!(text, "    Last State:\tTerminated");
    let _ = writeln!(text, "      Reason:\t{}", reason.code);
    let exit = failure.exit.as_ref().map(failure::exit_json).unwrap_or_default();
    for (title, field) in [("Exit Code", "exitCode"), ("Signal", "signal")] {
        if let Some(number) = exit[field].as_i64() {
            let _ = writeln!(text, "      {title}:\t{number}");
        }
    }
    let _ = writeln!(text, "      Finished:\t{}", rfc3339_millis(failure.at_millis));
    push_printed(text, 6, failure);
}

/// What was printed last, under a title set in as far as `indent`.
fn push_printed(text: &mut String, indent: usize, failure: &Failure) {
    let lines = failure::lines(failure);
    if !lines.is_empty() {
        let _ = writeln!(text, "{:indent$}Last Lines:", "");
    }
    for line in lines {
        let _ = writeln!(text, "{:indent$}  {line}", "");
    }
}

fn push_container(text: &mut String, container: &ContainerStatus, last: Option<&Failure>) {
    let _ = writeln!(text, "  {}:", container.name);
    match &container.state {
        Some(State::Running(running)) => {
            let _ = writeln!(text, "    State:\tRunning");
            let _ = writeln!(text, "      Started:\t{}", rfc3339_millis(running.since_millis));
            let _ = writeln!(text, "      PID:\t{}", running.pid);
        }
        Some(State::Waiting(reason)) => {
            let _ = writeln!(text, "    State:\tWaiting");
            let _ = writeln!(text, "      Reason:\t{}", in_words(reason));
        }
        Some(State::Terminated(exit)) => {
            let _ = writeln!(text, "    State:\tTerminated ({})", exit_words(exit));
        }
        None => drop(writeln!(text, "    State:\tUnknown")),
    }
    if let Some(failure) = last {
        push_last_state(text, failure);
    }
    let _ = writeln!(text, "    Ready:\t{}", if container.ready { "True" } else { "False" });
    let _ = writeln!(text, "    Restart Count:\t{}", container.restarts);
}

#[cfg(test)]
mod tests {
    use everynode_proto::v1::exit::How;
    use everynode_proto::v1::{Exit, FormerFailure, PodPhase, PodStatus, Reason};

    use super::*;
    use crate::table::align_tabs;

    #[test]
    fn a_pod_says_what_happened_to_it() {
        let waiting = Reason { code: "CrashLoopBackOff".into(), message: "again in 20s".into() };
        let failed = Reason { code: "Error".into(), message: String::new() };
        let mut status = PodStatus {
            restarts: 2,
            last_failure: Some(Failure {
                exit: Some(Exit { how: Some(How::Signal(9)) }),
                reason: Some(failed.clone()),
                container: "main".into(),
                log_tail: "one\n\ttwo".into(),
                ..Failure::default()
            }),
            former_failure: Some(FormerFailure {
                revision: vec![0xab; 32],
                failure: Some(Failure {
                    reason: Some(failed),
                    log_tail: "before".into(),
                    ..Failure::default()
                }),
            }),
            containers: vec![ContainerStatus {
                name: "main".into(),
                state: Some(State::Waiting(waiting)),
                ..ContainerStatus::default()
            }],
            ..PodStatus::default()
        };
        status.set_phase(PodPhase::Running);
        let pod = Pod { node_name: "n1".into(), status: Some(status), ..Pod::default() };
        let shown = align_tabs(&text(&pod, 60));
        for line in [
            "Status:          CrashLoopBackOff\n",
            "Restarts:        2 (60s ago)\n",
            "Last Failure:    Error at 1970-01-01T00:00:00Z, signal 9\n",
            "Former Failure:  revision ababababab: Error at 1970-01-01T00:00:00Z\n  Last Lines:\n    \
             before\n",
            "      Reason:     CrashLoopBackOff: again in 20s\n",
            "    Last State:   Terminated\n",
            "      Exit Code:  137\n      Signal:     9\n",
            "      Last Lines:\n        one\n            two\n",
        ] {
            assert!(shown.contains(line), "{line}\nnot in\n{shown}");
        }
    }
}
