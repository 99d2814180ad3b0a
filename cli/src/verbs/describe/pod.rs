//! All about a pod, as its node tells it.

use std::fmt::Write as _;

use everynode_proto::v1::container_status::State;
use everynode_proto::v1::exit::How;
use everynode_proto::v1::{ContainerStatus, Exit, Pod, Reason};

use super::{events, push_map};
use crate::age::{rfc3339_millis, unix_now};
use crate::connect::Client;
use crate::error::Error;
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
    let owner = pod.daemon_set.clone().unwrap_or_default();
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
    let _ = writeln!(text, "Controlled By:\tDaemonSet/{}", owner.name);
    if let Some(failure) = &status.last_failure {
        let reason = failure.reason.clone().unwrap_or_default();
        let exit = failure.exit.as_ref().map(|exit| format!(", {}", exit_words(exit)));
        let _ = writeln!(
            text,
            "Last Failure:\t{} at {}{}",
            in_words(&reason),
            rfc3339_millis(failure.at_millis),
            exit.unwrap_or_default()
        );
    }
    if !status.containers.is_empty() {
        text.push_str("Containers:\n");
    }
    for container in &status.containers {
        push_container(&mut text, container);
    }
    text
}

fn push_container(text: &mut String, container: &ContainerStatus) {
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
    let _ = writeln!(text, "    Ready:\t{}", if container.ready { "True" } else { "False" });
    let _ = writeln!(text, "    Restart Count:\t{}", container.restarts);
}

fn in_words(reason: &Reason) -> String {
    match reason.message.as_str() {
        "" => reason.code.clone(),
        message => format!("{}: {message}", reason.code),
    }
}

fn exit_words(exit: &Exit) -> String {
    match exit.how {
        Some(How::Code(code)) => format!("exit code {code}"),
        Some(How::Signal(signal)) => format!("signal {signal}"),
        Some(How::Unknown(_)) | None => "unknown exit status".into(),
    }
}

#[cfg(test)]
mod tests {
    use everynode_proto::v1::{Failure, PodPhase, PodStatus};

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
                reason: Some(failed),
                ..Failure::default()
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
            "Status:         CrashLoopBackOff\n",
            "Restarts:       2 (60s ago)\n",
            "Last Failure:   Error at 1970-01-01T00:00:00Z, signal 9\n",
            "      Reason:       CrashLoopBackOff: again in 20s\n",
        ] {
            assert!(shown.contains(line), "{line}\nnot in\n{shown}");
        }
    }
}
