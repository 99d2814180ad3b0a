//! Pods.

use everynode_proto::v1::container_status::State;
use everynode_proto::v1::{
    ContainerStatus, EventKind, Failure, FormerFailure, GetRequest, ListRequest, ObjectMeta, Pod,
    PodEvent, PodPhase, PodStatus, WatchRequest,
};
use serde_json::{Map, Value, json};
use tonic::Streaming;

use super::manifest::{head, put, words};
use super::template::running_pids;
use super::{Column, Kind, Listed, Names, column, wide};
use crate::age::{age, age_of_millis, rfc3339_millis};
use crate::connect::Client;
use crate::error::Error;
use crate::failure::{self, exit_json, exit_word};

/// The kind of pods.
pub(crate) struct Pods;

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

impl Kind for Pods {
    type Object = Pod;
    type Event = PodEvent;

    const NAMES: Names =
        Names { kind: "Pod", api_version: "v1", singular: "pod", namespaced: true };
    const COLUMNS: &'static [Column] = &[
        column("NAME"),
        column("READY"),
        column("STATUS"),
        column("RESTARTS"),
        column("AGE"),
        wide("NODE"),
        wide("REVISION"),
        wide("PID"),
    ];

    fn metadata(object: &Pod) -> Option<&ObjectMeta> {
        object.metadata.as_ref()
    }

    fn metadata_mut(object: &mut Pod) -> Option<&mut ObjectMeta> {
        object.metadata.as_mut()
    }

    fn row(object: &Pod, now: i64) -> Vec<String> {
        let metadata = object.metadata.as_ref();
        let created = metadata.and_then(|metadata| metadata.creation_timestamp.as_ref());
        let pids: Vec<String> =
            running_pids(object.status.as_ref()).iter().map(u32::to_string).collect();
        vec![
            super::name_of(metadata).into(),
            ready_of(object),
            standing(object).to_string(),
            restarts(object, now),
            age(created, now),
            or_none(&object.node_name),
            or_none(&object.revision),
            or_none(&pids.join(",")),
        ]
    }

    fn manifest(object: &Pod) -> Result<Value, Error> {
        let mut manifest = head(&Self::NAMES, object.metadata.as_ref());
        let mut spec = Map::new();
        put(&mut spec, "nodeName", object.node_name.as_str());
        manifest.insert("spec".into(), Value::Object(spec));
        manifest.insert("status".into(), status_json(object));
        Ok(Value::Object(manifest))
    }

    async fn get(client: &Client, namespace: &str, name: &str) -> Result<Pod, Error> {
        let request = GetRequest { namespace: namespace.into(), name: name.into() };
        client.answer(client.pods().get(client.request(request))).await
    }

    async fn list(client: &Client, request: ListRequest) -> Result<Listed<Pod>, Error> {
        let list = client.answer(client.pods().list(client.request(request))).await?;
        Ok(Listed { resource_version: list.resource_version, items: list.items })
    }

    async fn watch(client: &Client, request: WatchRequest) -> Result<Streaming<PodEvent>, Error> {
        client.stream(client.pods().watch(request)).await
    }

    fn change(event: PodEvent) -> (EventKind, Option<Pod>) {
        (event.kind(), event.object)
    }
}

/// The pods of a DaemonSet; on one node, where that is named.
pub(crate) async fn pods_of(
    client: &Client,
    namespace: &str,
    set: &str,
    node: Option<&str>,
) -> Result<Vec<Pod>, Error> {
    let request = ListRequest {
        namespace: namespace.into(),
        field: node.unwrap_or_default().into(),
        ..ListRequest::default()
    };
    let mut pods = Pods::list(client, request).await?.items;
    pods.retain(|pod| pod.daemon_set.as_ref().is_some_and(|key| key.name == set));
    Ok(pods)
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
        PodPhase::Running => {
            status.containers.iter().find_map(trouble).map_or(Standing::Running, Standing::Waiting)
        }
        PodPhase::Pending | PodPhase::Unspecified => {
            let code = status.reason.as_ref().map(|reason| reason.code.clone());
            code.filter(|code| !code.is_empty()).map_or_else(pending, Standing::Waiting)
        }
    }
}

/// `1/2`: containers that are ready, of all.
pub(crate) fn ready_of(pod: &Pod) -> String {
    let containers = pod.status.as_ref().map_or(&[][..], |status| &status.containers);
    let ready = containers.iter().filter(|container| container.ready && !pod.stale).count();
    format!("{ready}/{}", containers.len())
}

/// `3 (2m ago)`: how often containers were restarted, and when something last went wrong.
pub(crate) fn restarts(pod: &Pod, now: i64) -> String {
    let Some(status) = &pod.status else { return "0".into() };
    match &status.last_failure {
        Some(failure) if status.restarts > 0 => {
            format!("{} ({} ago)", status.restarts, age_of_millis(failure.at_millis, now))
        }
        _ => status.restarts.to_string(),
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

fn trouble(container: &ContainerStatus) -> Option<String> {
    match container.state.as_ref()? {
        State::Waiting(reason) => Some(reason.code.clone()),
        State::Terminated(exit) => Some(exit_word(exit).into()),
        State::Running(_) => None,
    }
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

fn status_json(pod: &Pod) -> Value {
    let mut object = Map::new();
    let phase = match (&pod.status, pod.stale) {
        (_, true) => "Unknown",
        (Some(status), _) if status.phase() != PodPhase::Pending => "Running",
        _ => "Pending",
    };
    object.insert("phase".into(), phase.into());
    put(&mut object, "revision", pod.revision.as_str());
    if let Some(reason) = &pod.reason {
        put(&mut object, "reason", reason.code.as_str());
        put(&mut object, "message", reason.message.as_str());
    }
    if let Some(status) = &pod.status {
        put(&mut object, "startTime", status.started_at_millis.map(rfc3339_millis));
        object.insert("conditions".into(), json!([ready_condition(pod, status)]));
        let containers = status.containers.iter();
        let containers = containers.map(|one| container_json(one, status.last_failure.as_ref()));
        put(&mut object, "containerStatuses", containers.collect::<Vec<_>>());
        put(&mut object, "formerFailure", status.former_failure.as_ref().map(former_json));
    }
    Value::Object(object)
}

fn ready_condition(pod: &Pod, status: &PodStatus) -> Value {
    let ready = match (pod.stale, status.ready) {
        (true, _) => "Unknown",
        (_, true) => "True",
        (_, false) => "False",
    };
    let mut condition = Map::new();
    condition.insert("type".into(), "Ready".into());
    condition.insert("status".into(), ready.into());
    put(&mut condition, "message", status.reason.as_ref().map(words));
    Value::Object(condition)
}

/// What Kubernetes has no place for: of a pod that is gone.
fn former_json(former: &FormerFailure) -> Value {
    let failure = former.failure.clone().unwrap_or_default();
    let mut object = Map::new();
    put(&mut object, "revision", failure::revision(former));
    put(&mut object, "container", failure.container.as_str());
    put(&mut object, "terminated", failure::terminated(&failure));
    Value::Object(object)
}

fn container_json(container: &ContainerStatus, last: Option<&Failure>) -> Value {
    let state = match &container.state {
        None => json!({}),
        Some(State::Waiting(reason)) => {
            json!({"waiting": {"reason": reason.code, "message": reason.message}})
        }
        Some(State::Running(running)) => json!({"running": {
            "startedAt": rfc3339_millis(running.since_millis), "pid": running.pid,
        }}),
        Some(State::Terminated(exit)) => json!({"terminated": exit_json(exit)}),
    };
    let mut json = json!({
        "name": container.name, "ready": container.ready, "restartCount": container.restarts,
        "state": state,
    });
    if let Some(failure) = last.filter(|failure| failure.container == container.name) {
        json["lastState"] = json!({"terminated": failure::terminated(failure)});
    }
    json
}

#[cfg(test)]
mod tests {
    use everynode_proto::v1::container_status::Running;
    use everynode_proto::v1::exit::How;
    use everynode_proto::v1::{Exit, Reason};

    use super::*;

    fn container(ready: bool, state: State) -> ContainerStatus {
        ContainerStatus { name: "main".into(), ready, restarts: 0, state: Some(state) }
    }

    fn running() -> State {
        State::Running(Running { pid: 7, since_millis: 0 })
    }

    fn waiting(code: &str) -> State {
        State::Waiting(Reason { code: code.into(), message: String::new() })
    }

    fn pod(containers: Vec<ContainerStatus>) -> Pod {
        let mut status = PodStatus { containers, restarts: 3, ..PodStatus::default() };
        status.set_phase(PodPhase::Running);
        status.last_failure = Some(Failure { at_millis: 880_000, ..Failure::default() });
        Pod { node_name: "n1".into(), status: Some(status), ..Pod::default() }
    }

    #[test]
    fn a_row_says_what_kubectl_would() {
        let pod =
            pod(vec![container(true, running()), container(false, waiting("CrashLoopBackOff"))]);
        let row = Pods::row(&pod, 1000);
        assert_eq!(row[1..4], ["1/2", "CrashLoopBackOff", "3 (2m ago)"]);
        assert_eq!(row[5..], ["n1", "<none>", "7"]);
        assert_eq!(row.len(), Pods::COLUMNS.len());
    }

    #[test]
    fn standings() {
        let mut pod = pod(vec![container(true, running())]);
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
    fn a_container_shows_how_its_last_run_ended_and_a_place_what_failed_there_before() {
        let exit = |code| Some(Exit { how: Some(How::Code(code)) });
        let failed = |code, container: &str, text: &str| Failure {
            container: container.into(),
            exit: exit(code),
            log_tail: text.into(),
            ..Failure::default()
        };
        let mut pod = pod(vec![container(true, running())]);
        let status = pod.status.as_mut().unwrap();
        status.last_failure = Some(failed(3, "main", "boom\nbang"));
        let former = failed(4, "old", "");
        status.former_failure =
            Some(FormerFailure { revision: vec![0xab; 32], failure: Some(former) });
        let json = status_json(&pod);
        let last = &json["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!((&last["exitCode"], &last["message"]), (&json!(3), &json!("boom\nbang")));
        let former = &json["formerFailure"];
        assert_eq!(former["revision"], "ababababab");
        assert_eq!(
            (&former["container"], &former["terminated"]["exitCode"]),
            (&json!("old"), &json!(4))
        );
    }
}
