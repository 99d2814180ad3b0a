//! A pod's status as the Kubernetes API has it.

use everynode_proto::v1::container_status::State;
use everynode_proto::v1::{ContainerStatus, Failure, FormerFailure, Pod, PodPhase, PodStatus};
use serde_json::{Map, Value, json};

use super::row::{has_run, is_initialized, is_main};
use crate::age::rfc3339_millis;
use crate::failure;
use crate::kinds::manifest::{put, words};

/// A pod's `status`; images are told by its `spec`.
pub(super) fn status(pod: &Pod, spec: &Map<String, Value>) -> Value {
    let mut object = Map::new();
    object.insert("phase".into(), phase(pod).into());
    put(&mut object, "revision", pod.revision.as_str());
    if let Some(reason) = &pod.reason {
        put(&mut object, "reason", reason.code.as_str());
        put(&mut object, "message", reason.message.as_str());
    }
    if let Some(status) = &pod.status {
        put(&mut object, "startTime", status.started_at_millis.map(rfc3339_millis));
        object.insert("conditions".into(), conditions(pod).into());
        let mains = |wanted: bool| {
            let of_kind = status.containers.iter().filter(move |one| is_main(one) == wanted);
            let field = if wanted { "containers" } else { "initContainers" };
            let with_image = |one: &ContainerStatus| {
                let mut json = container_json(one, status.last_failure.as_ref());
                json["image"] = image(spec, field, &one.name);
                json["imageID"] = "".into();
                json
            };
            of_kind.map(with_image).collect::<Vec<_>>()
        };
        put(&mut object, "initContainerStatuses", mains(false));
        put(&mut object, "containerStatuses", mains(true));
        put(&mut object, "formerFailure", status.former_failure.as_ref().map(former_json));
    }
    Value::Object(object)
}

/// Kubernetes' conditions of a pod, in the kubelet's order.
pub(crate) fn conditions(pod: &Pod) -> Vec<Value> {
    let status = pod.status.clone().unwrap_or_default();
    let truth = |holds: bool| match (pod.stale, holds) {
        (true, _) => "Unknown",
        (_, true) => "True",
        (_, false) => "False",
    };
    let condition = |type_: &str, holds: bool, reason: &str, message: String| {
        let mut condition = Map::new();
        condition.insert("type".into(), type_.into());
        condition.insert("status".into(), truth(holds).into());
        if !holds {
            put(&mut condition, "reason", reason);
            put(&mut condition, "message", message);
        }
        Value::Object(condition)
    };
    let unready = |wanted: fn(&ContainerStatus) -> bool| {
        let all = status.containers.iter().filter(|one| wanted(one) && !one.ready);
        let names: Vec<&str> = all.map(|one| one.name.as_str()).collect();
        format!("[{}]", names.join(" "))
    };
    let incomplete = format!("containers with incomplete status: {}", unready(|one| !is_main(one)));
    let not_ready = format!("containers with unready status: {}", unready(|_| true));
    let why = status.reason.as_ref().map_or_else(|| not_ready.clone(), words);
    let initialized = is_initialized(&status);
    vec![
        condition("Initialized", initialized, "ContainersNotInitialized", incomplete),
        condition("Ready", status.ready, "ContainersNotReady", why),
        condition("ContainersReady", status.ready, "ContainersNotReady", not_ready),
        json!({"type": "PodScheduled", "status": "True"}),
    ]
}

/// A container's status.
pub(crate) fn container_json(container: &ContainerStatus, failed: Option<&Failure>) -> Value {
    let last = container.last_run.as_ref().map(failure::finished);
    let state = match &container.state {
        None => json!({}),
        Some(State::Waiting(reason)) => {
            json!({"waiting": {"reason": reason.code, "message": reason.message}})
        }
        Some(State::Running(running)) => json!({"running": {
            "startedAt": rfc3339_millis(running.since_millis), "pid": running.pid,
        }}),
        Some(State::Terminated(exit)) => {
            json!({"terminated": last.clone().unwrap_or_else(|| failure::exit_json(exit))})
        }
    };
    let mut json = json!({
        "name": container.name, "ready": container.ready, "restartCount": container.restarts,
        "started": container.started, "state": state, "lastState": {},
    });
    // What has ended for good is the state itself.
    let over = matches!(container.state, Some(State::Terminated(_)));
    // The pod's last failure knows more, and is all that an agent of an older version tells.
    let failed = failed.filter(|failure| failure.container == container.name);
    let failed = failed.map(|failure| merged(last.as_ref(), failure::terminated(failure)));
    if let Some(terminated) = failed.or(last).filter(|_| !over) {
        json["lastState"] = json!({"terminated": terminated});
    }
    json
}

/// A failure, with when its run began, if that is the run that ended last.
fn merged(last: Option<&Value>, mut failed: Value) -> Value {
    match last {
        Some(last) if last["finishedAt"] == failed["finishedAt"] => {
            if let Some(started) = last.get("startedAt") {
                failed["startedAt"] = started.clone();
            }
            failed
        }
        Some(last) => last.clone(),
        None => failed,
    }
}

/// As the kubelet computes it: `Pending` until each main container was started.
fn phase(pod: &Pod) -> &'static str {
    match &pod.status {
        _ if pod.stale => "Unknown",
        Some(status) if status.phase() == PodPhase::Stopping || runs(status) => "Running",
        _ => "Pending",
    }
}

fn runs(status: &PodStatus) -> bool {
    let mut mains = status.containers.iter().filter(|one| is_main(one));
    status.phase() == PodPhase::Running && is_initialized(status) && mains.all(has_run)
}

fn image(spec: &Map<String, Value>, field: &str, name: &str) -> Value {
    let all = spec.get(field).and_then(Value::as_array).into_iter().flatten();
    let image = all.filter(|one| one["name"] == name).find_map(|one| one["image"].as_str());
    image.unwrap_or_default().into()
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

#[cfg(test)]
mod tests {
    use everynode_proto::v1::container_status::Running;
    use everynode_proto::v1::exit::How;
    use everynode_proto::v1::{ContainerRole, Exit, FinishedRun, Reason};

    use super::*;

    fn exit(code: i32) -> Exit {
        Exit { how: Some(How::Code(code)) }
    }

    fn run(code: i32, at: i64) -> Option<FinishedRun> {
        let reason = if code == 0 { "Completed" } else { "Error" }.into();
        let started_at_millis = Some(at - 1000);
        Some(FinishedRun {
            exit: Some(exit(code)),
            reason,
            started_at_millis,
            finished_at_millis: at,
        })
    }

    /// An init container that is done, and a main one that has failed once.
    fn pod() -> Pod {
        let mut init = ContainerStatus {
            name: "init".into(),
            ready: true,
            state: Some(State::Terminated(exit(0))),
            last_run: run(0, 2000),
            ..ContainerStatus::default()
        };
        init.set_role(ContainerRole::Init);
        let main = ContainerStatus {
            name: "main".into(),
            ready: true,
            restarts: 1,
            started: true,
            state: Some(State::Running(Running { pid: 7, since_millis: 6000 })),
            last_run: run(3, 5000),
            ..ContainerStatus::default()
        };
        let mut status =
            PodStatus { containers: vec![init, main], ready: true, ..PodStatus::default() };
        status.set_phase(PodPhase::Running);
        Pod { status: Some(status), ..Pod::default() }
    }

    fn failed(code: i32, container: &str, text: &str) -> Failure {
        Failure {
            container: container.into(),
            exit: Some(exit(code)),
            at_millis: 5000,
            log_tail: text.into(),
            ..Failure::default()
        }
    }

    fn shown(pod: &Pod) -> Value {
        let spec = json!({"containers": [{"name": "main", "image": "x:1"}]});
        status(pod, spec.as_object().unwrap())
    }

    #[test]
    fn statuses_are_the_apis() {
        let shown = shown(&pod());
        assert_eq!(shown["phase"], "Running");
        let init = json!({
            "name": "init", "image": "", "imageID": "", "ready": true, "started": false,
            "restartCount": 0, "lastState": {},
            "state": {"terminated": {
                "exitCode": 0, "reason": "Completed", "startedAt": "1970-01-01T00:00:01Z",
                "finishedAt": "1970-01-01T00:00:02Z",
            }},
        });
        assert_eq!(shown["initContainerStatuses"], json!([init]));
        let main = &shown["containerStatuses"][0];
        assert_eq!((&main["image"], &main["started"]), (&json!("x:1"), &json!(true)));
        assert_eq!(main["lastState"]["terminated"]["exitCode"], 3);
        let conditions: Vec<String> = shown["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| {
                format!("{}={}", it["type"].as_str().unwrap(), it["status"].as_str().unwrap())
            })
            .collect();
        assert_eq!(
            conditions,
            ["Initialized=True", "Ready=True", "ContainersReady=True", "PodScheduled=True"]
        );
    }

    #[test]
    fn a_pod_that_is_being_initialized_is_pending() {
        let mut pod = pod();
        let status = pod.status.as_mut().unwrap();
        status.ready = false;
        status.containers[0].ready = false;
        status.containers[0].state = Some(State::Running(Running::default()));
        let waits = Reason { code: "PodInitializing".into(), message: String::new() };
        status.containers[1] = ContainerStatus {
            name: "main".into(),
            state: Some(State::Waiting(waits)),
            ..ContainerStatus::default()
        };
        let shown = shown(&pod);
        assert_eq!(shown["phase"], "Pending");
        let initialized = &shown["conditions"][0];
        assert_eq!(
            (&initialized["status"], &initialized["reason"], &initialized["message"]),
            (
                &json!("False"),
                &json!("ContainersNotInitialized"),
                &json!("containers with incomplete status: [init]")
            )
        );
    }

    #[test]
    fn a_container_shows_how_its_last_run_ended_and_a_place_what_failed_there_before() {
        let mut pod = pod();
        let status = pod.status.as_mut().unwrap();
        status.last_failure = Some(failed(3, "main", "boom\nbang"));
        let former = failed(4, "old", "");
        status.former_failure =
            Some(FormerFailure { revision: vec![0xab; 32], failure: Some(former) });
        let json = shown(&pod);
        let last = &json["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!((&last["exitCode"], &last["message"]), (&json!(3), &json!("boom\nbang")));
        assert_eq!(last["startedAt"], "1970-01-01T00:00:04Z");
        let former = &json["formerFailure"];
        assert_eq!(former["revision"], "ababababab");
        assert_eq!(
            (&former["container"], &former["terminated"]["exitCode"]),
            (&json!("old"), &json!(4))
        );
    }
}
