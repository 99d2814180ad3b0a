//! A report as programs read it: pods as Kubernetes has them, the rest in the same style.

use serde_json::{Map, Value, json};

use super::text::date;
use super::{Container, Failure, Pod, Report};

/// The machine itself.
pub(crate) fn status(report: &Report) -> Value {
    let mut value = serde_json::to_value(report).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("pods");
        fields.remove("why");
        let holds = report.holds.iter().map(|hold| {
            json!({
                "pod": hold.pod, "stop": hold.stop, "by": hold.by, "reason": hold.reason,
                "since": date(hold.since), "until": hold.until.map(date),
            })
        });
        fields.insert("holds".into(), holds.collect());
    }
    value
}

/// A `List` of pods.
pub(crate) fn pods<'a>(pods: impl Iterator<Item = &'a Pod>, node: &str) -> Value {
    let items: Vec<Value> = pods.map(|one| pod(one, node)).collect();
    json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
}

fn pod(pod: &Pod, node: &str) -> Value {
    let mut status = Map::new();
    let phase = if pod.phase == "Pending" { "Pending" } else { "Running" };
    status.insert("phase".into(), phase.into());
    status.insert("revision".into(), pod.revision.clone().into());
    if let Some(why) = &pod.why {
        status.insert("reason".into(), why.reason.clone().into());
        status.insert("message".into(), why.message.clone().into());
    }
    if let Some(at) = pod.started_at {
        status.insert("startTime".into(), date(at).into());
    }
    let ready = if pod.ready { "True" } else { "False" };
    status.insert("conditions".into(), json!([{"type": "Ready", "status": ready}]));
    let containers = pod.containers.iter().map(|one| container(one, pod.last_failure.as_ref()));
    status.insert("containerStatuses".into(), containers.collect::<Vec<_>>().into());
    if let Some(former) = &pod.former_failure {
        let terminated = terminated(former);
        let former = json!({
            "revision": former.revision, "container": former.container, "terminated": terminated,
        });
        status.insert("formerFailure".into(), former);
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid,
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet",
                "name": pod.daemon_set}]},
        "spec": {"nodeName": node},
        "status": status,
    })
}

fn container(container: &Container, last: Option<&Failure>) -> Value {
    let state = match (container.pid, &container.waiting) {
        (Some(pid), _) => json!({"running": {"pid": pid, "startedAt": container.since.map(date)}}),
        (None, Some(why)) => json!({"waiting": {"reason": why.reason, "message": why.message}}),
        (None, None) => json!({"terminated": {"exitCode": container.exit_code}}),
    };
    let mut json = json!({
        "name": container.name, "ready": container.ready, "restartCount": container.restarts,
        "state": state,
    });
    if let Some(failure) = last.filter(|failure| failure.container == container.name) {
        json["lastState"] = json!({"terminated": terminated(failure)});
    }
    json
}

/// With what was printed last as its message, as `everynode get pods` has it.
fn terminated(failure: &Failure) -> Value {
    let words = failure.words.as_ref();
    let reason = words.map_or("", |words| &words.reason);
    let message = words.map_or("", |words| &words.message);
    let message = if failure.log_tail.is_empty() { message } else { &failure.log_tail };
    let mut json = json!({"reason": reason, "message": message, "finishedAt": date(failure.at)});
    failure.exit_code.into_iter().for_each(|code| json["exitCode"] = code.into());
    failure.signal.into_iter().for_each(|signal| json["signal"] = signal.into());
    json
}

#[cfg(test)]
mod tests {
    use super::super::{Held, Words};
    use super::*;

    #[test]
    fn a_pod_is_kubernetes() {
        let running =
            Container { name: "c".into(), pid: Some(7), since: Some(0), ..Container::default() };
        let failed = Failure {
            container: "c".into(),
            exit_code: Some(137),
            signal: Some(9),
            log_tail: "boom".into(),
            ..Failure::default()
        };
        let pod = Pod {
            last_failure: Some(failed.clone()),
            former_failure: Some(Failure { revision: "abc".into(), ..failed }),
            name: "a-bcdfg".into(),
            daemon_set: "a".into(),
            phase: "Running".into(),
            why: Some(Words { reason: "HeldOnNode".into(), message: "m".into() }),
            containers: vec![running],
            ..Pod::default()
        };
        let list = pods(std::iter::once(&pod), "n");
        let pod = &list["items"][0];
        assert_eq!(
            (list["kind"].as_str(), pod["spec"]["nodeName"].as_str()),
            (Some("List"), Some("n"))
        );
        assert_eq!(pod["status"]["reason"], "HeldOnNode");
        let state = &pod["status"]["containerStatuses"][0]["state"]["running"];
        assert_eq!(*state, json!({"pid": 7, "startedAt": "1970-01-01T00:00:00Z"}));
        let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!((&last["exitCode"], &last["message"]), (&json!(137), &json!("boom")));
        let former = &pod["status"]["formerFailure"];
        assert_eq!(
            (&former["revision"], &former["terminated"]["signal"]),
            (&json!("abc"), &json!(9))
        );
    }

    #[test]
    fn a_status_has_dates_and_no_pods() {
        let held = Held {
            pod: None,
            stop: false,
            by: "root".into(),
            reason: String::new(),
            since: 0,
            until: Some(1000),
        };
        let status = status(&Report { holds: vec![held], ..Report::default() });
        assert_eq!(status["holds"][0]["until"], "1970-01-01T00:00:01Z");
        assert_eq!(status["agentRunning"], false);
        assert!(status.get("pods").is_none());
    }
}
