//! All about a pod, as its node tells it.

use std::fmt::Write as _;

use everynode_proto::v1::{ContainerStatus, Failure, Pod, PodStatus};
use serde_json::Value;

use super::template::{container_text, push_placement};
use super::{events, push_map};
use crate::age::{rfc3339_millis, unix_now};
use crate::connect::Client;
use crate::error::Error;
use crate::failure::{self, in_words};
use crate::kinds::{
    Kind as _, Pods, container_json, is_main, pod_conditions, ready_of, restarts, spec_of, standing,
};

pub(super) async fn describe(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<String, Error> {
    let pod = Pods::get(client, namespace, name).await?;
    let events = events::about(client, namespace, "Pod", name).await?;
    let spec = spec_of(&pod)?;
    let spec = if spec.is_empty() { Value::Null } else { Value::Object(spec) };
    Ok(text(&pod, &spec, unix_now()) + &events)
}

/// `spec` is null where it is not known.
fn text(pod: &Pod, spec: &Value, now: i64) -> String {
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
    push_containers(&mut text, &status, spec);
    push_conditions(&mut text, pod);
    if !spec.is_null() {
        push_placement(&mut text, "", spec);
    }
    text
}

/// Init containers and sidecars, then the main ones, each as far as it is known.
fn push_containers(text: &mut String, status: &PodStatus, spec: &Value) {
    for (title, field, main) in
        [("Init Containers", "initContainers", false), ("Containers", "containers", true)]
    {
        let ours: Vec<_> = status.containers.iter().filter(|one| is_main(one) == main).collect();
        let planned = spec[field].as_array().map_or(&[][..], Vec::as_slice);
        if ours.is_empty() && planned.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{title}:");
        for plan in planned {
            let said = ours.iter().find(|one| plan["name"] == one.name.as_str());
            let state = |text: &mut String| match said {
                Some(container) => push_state(text, container, status.last_failure.as_ref()),
                None => text.push_str("    State:\tWaiting\n    Ready:\tFalse\n"),
            };
            container_text(text, "", plan, state);
        }
        // Of a revision that is not kept any more, or of a coordinator that tells no specs.
        for container in ours {
            if !planned.iter().any(|plan| plan["name"] == container.name.as_str()) {
                let _ = writeln!(text, "  {}:", container.name);
                push_state(text, container, status.last_failure.as_ref());
            }
        }
    }
}

/// How a container is doing, as kubectl says it.
fn push_state(text: &mut String, container: &ContainerStatus, failed: Option<&Failure>) {
    let failed = failed.filter(|failure| failure.container == container.name);
    let json = container_json(container, failed);
    push_one_state(text, "State", &json["state"]);
    if json["lastState"]["terminated"].is_object() {
        push_one_state(text, "Last State", &json["lastState"]);
        failed.into_iter().for_each(|failure| push_printed(text, 6, failure));
    }
    let _ = writeln!(text, "    Ready:\t{}", if container.ready { "True" } else { "False" });
    let _ = writeln!(text, "    Restart Count:\t{}", container.restarts);
}

fn push_one_state(text: &mut String, title: &str, state: &Value) {
    let Some((kind, facts)) = state.as_object().and_then(|state| state.iter().next()) else {
        let _ = writeln!(text, "    {title}:\tWaiting");
        return;
    };
    let name = match kind.as_str() {
        "running" => "Running",
        "waiting" => "Waiting",
        _ => "Terminated",
    };
    let _ = writeln!(text, "    {title}:\t{name}");
    for (title, field) in [
        ("Reason", "reason"),
        ("Exit Code", "exitCode"),
        ("Signal", "signal"),
        ("Started", "startedAt"),
        ("Finished", "finishedAt"),
        ("PID", "pid"),
    ] {
        match &facts[field] {
            Value::String(fact) if !fact.is_empty() => _ = writeln!(text, "      {title}:\t{fact}"),
            Value::Number(fact) => _ = writeln!(text, "      {title}:\t{fact}"),
            _ => {}
        }
    }
    // Of what has ended it is what was printed, and stands by itself.
    let message = facts["message"].as_str().filter(|line| kind == "waiting" && !line.is_empty());
    if let Some(message) = message {
        let _ = writeln!(text, "      Message:\t{message}");
    }
}

fn push_conditions(text: &mut String, pod: &Pod) {
    if pod.status.is_none() {
        return;
    }
    text.push_str("Conditions:\n  Type\tStatus\n");
    for condition in pod_conditions(pod) {
        let fact = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        let _ = writeln!(text, "  {}\t{}", fact("type"), fact("status"));
    }
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

#[cfg(test)]
mod tests {
    use everynode_proto::v1::container_status::{Running, State};
    use everynode_proto::v1::exit::How;
    use everynode_proto::v1::{ContainerRole, Exit, FinishedRun, FormerFailure, PodPhase, Reason};
    use serde_json::json;

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
                restarts: 2,
                ..ContainerStatus::default()
            }],
            ..PodStatus::default()
        };
        status.set_phase(PodPhase::Running);
        let pod = Pod { node_name: "n1".into(), status: Some(status), ..Pod::default() };
        let shown = align_tabs(&text(&pod, &Value::Null, 60));
        for line in [
            "Status:          CrashLoopBackOff\n",
            "Restarts:        2 (60s ago)\n",
            "Last Failure:    Error at 1970-01-01T00:00:00Z, signal 9\n",
            "Former Failure:  revision ababababab: Error at 1970-01-01T00:00:00Z\n  Last Lines:\n    \
             before\n",
            "    State:        Waiting\n      Reason:     CrashLoopBackOff\n      Message:    again in \
             20s\n",
            "    Last State:   Terminated\n      Reason:     Error\n      Exit Code:  137\n      \
             Signal:     9\n      Finished:   1970-01-01T00:00:00Z\n",
            "      Last Lines:\n        one\n            two\n",
        ] {
            assert!(shown.contains(line), "{line}\nnot in\n{shown}");
        }
    }

    /// An init container that is done, and a main one that runs.
    fn initialized() -> Pod {
        let done = Exit { how: Some(How::Code(0)) };
        let mut init = ContainerStatus {
            name: "prepare".into(),
            ready: true,
            state: Some(State::Terminated(done)),
            last_run: Some(FinishedRun {
                exit: Some(done),
                reason: "Completed".into(),
                started_at_millis: Some(1000),
                finished_at_millis: 2000,
            }),
            ..ContainerStatus::default()
        };
        init.set_role(ContainerRole::Init);
        let main = ContainerStatus {
            name: "main".into(),
            ready: true,
            started: true,
            state: Some(State::Running(Running { pid: 7, since_millis: 3000 })),
            ..ContainerStatus::default()
        };
        let mut status =
            PodStatus { containers: vec![init, main], ready: true, ..PodStatus::default() };
        status.set_phase(PodPhase::Running);
        Pod { node_name: "n1".into(), status: Some(status), ..Pod::default() }
    }

    #[test]
    fn containers_are_laid_out_like_kubectls() {
        let spec = json!({
            "initContainers": [{"name": "prepare", "command": ["/prepare"]}],
            "containers": [{
                "name": "main", "command": ["/run"],
                "resources": {"limits": {"memory": "8Mi"}},
                "volumeMounts": [{"name": "log", "mountPath": "/var/log"}],
            }],
            "volumes": [{"name": "log", "hostPath": {"path": "/var/log"}}],
        });
        let shown = align_tabs(&text(&initialized(), &spec, 60));
        let expected = "\
Init Containers:
  prepare:
    Port:       <none>
    Host Port:  <none>
    Command:
      /prepare
    State:          Terminated
      Reason:       Completed
      Exit Code:    0
      Started:      1970-01-01T00:00:01Z
      Finished:     1970-01-01T00:00:02Z
    Ready:          True
    Restart Count:  0
    Environment:    <none>
    Mounts:         <none>
Containers:
  main:
    Port:       <none>
    Host Port:  <none>
    Command:
      /run
    State:          Running
      Started:      1970-01-01T00:00:03Z
      PID:          7
    Ready:          True
    Restart Count:  0
    Limits:
      memory:     8Mi
    Environment:  <none>
    Mounts:
      /var/log from log (rw)
Conditions:
  Type             Status
  Initialized      True
  Ready            True
  ContainersReady  True
  PodScheduled     True
Volumes:
  log:
    Type:        hostPath
    path:        /var/log
Node-Selectors:  <none>
Tolerations:     <none>
";
        assert!(shown.ends_with(expected), "{shown}");
    }
}
