//! All about a DaemonSet, and why nodes don't run it.

use std::fmt::Write as _;

use everynode_proto::v1::{DaemonSet, Pod, PodPhase, WhyLine, WhyRequest};
use serde_json::Value;

use super::{events, push_lines, push_map, template_text};
use crate::connect::Client;
use crate::error::Error;
use crate::kinds::{DaemonSets, Kind as _, pods_of, selector, spec_json};

/// The most nodes that are listed one by one with their reason: a screen; `why` has them all.
const MOST_REASONS: usize = 20;

pub(super) async fn describe(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<String, Error> {
    let set = DaemonSets::get(client, namespace, name).await?;
    let pods = pods_of(client, namespace, name, None).await?;
    let request = WhyRequest {
        namespace: namespace.into(),
        daemon_set: name.into(),
        only_faults: true,
        ..WhyRequest::default()
    };
    let why = client.answer(client.cluster().why(client.request(request))).await?.lines;
    let events = events::about(client, namespace, "DaemonSet", name).await?;
    Ok(text(&set, &pods, &why)? + &events)
}

fn text(set: &DaemonSet, pods: &[Pod], why: &[WhyLine]) -> Result<String, Error> {
    let metadata = set.metadata.clone().unwrap_or_default();
    let status = set.status.clone().unwrap_or_default();
    let spec = spec_json(set)?;
    let mut text = String::new();
    let _ = writeln!(text, "Name:\t{}", metadata.name);
    let _ = writeln!(text, "Namespace:\t{}", metadata.namespace);
    let _ = writeln!(text, "Selector:\t{}", selector(&spec["selector"]));
    let _ = writeln!(text, "Node-Selector:\t{}", node_selector(&spec));
    push_map(&mut text, "Labels", &metadata.labels, "=");
    push_map(&mut text, "Annotations", &metadata.annotations, ": ");
    for (title, number) in [
        ("Desired Number of Nodes Scheduled", status.desired_number_scheduled),
        ("Current Number of Nodes Scheduled", status.current_number_scheduled),
        ("Number of Nodes Scheduled with Up-to-date Pods", status.updated_number_scheduled),
        ("Number of Nodes Scheduled with Available Pods", status.number_available),
        ("Number of Nodes Misscheduled", status.number_misscheduled),
    ] {
        let _ = writeln!(text, "{title}: {number}");
    }
    let _ = writeln!(text, "Pods Status:\t{}", pods_status(pods));
    text.push_str(&template_text(&spec["template"]));
    if !status.conditions.is_empty() {
        text.push_str(
            "Conditions:\n  Type\tStatus\tReason\tMessage\n  ----\t------\t------\t-------\n",
        );
    }
    for condition in &status.conditions {
        let _ = writeln!(
            text,
            "  {}\t{}\t{}\t{}",
            condition.r#type, condition.status, condition.reason, condition.message
        );
    }
    push_reasons(&mut text, why);
    Ok(text)
}

fn node_selector(spec: &Value) -> String {
    let entries = spec["template"]["spec"]["nodeSelector"].as_object();
    let pairs: Vec<String> = entries
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if pairs.is_empty() { "<none>".into() } else { pairs.join(",") }
}

/// Counts by phase; a daemon never succeeds or fails for good.
fn pods_status(pods: &[Pod]) -> String {
    let phase = |pod: &Pod| pod.status.as_ref().map(|status| status.phase());
    let running = pods.iter().filter(|pod| phase(pod) == Some(PodPhase::Running)).count();
    format!("{running} Running / {} Waiting / 0 Succeeded / 0 Failed", pods.len() - running)
}

fn push_reasons(text: &mut String, why: &[WhyLine]) {
    let lines: Vec<String> = why
        .iter()
        .filter(|line| !line.fine)
        .map(|line| {
            let reason = line.reason.clone().unwrap_or_default();
            format!("{}:\t{}: {}", line.node, reason.code, reason.message)
        })
        .collect();
    if lines.is_empty() {
        push_lines(text, "Not As Wanted", &[]);
        return;
    }
    let _ = writeln!(text, "Not As Wanted:");
    for line in lines.iter().take(MOST_REASONS) {
        let _ = writeln!(text, "  {line}");
    }
    if lines.len() > MOST_REASONS {
        let more = lines.len() - MOST_REASONS;
        let _ = writeln!(text, "  … and {more} more nodes: everynode why daemonset NAME --all");
    }
}

#[cfg(test)]
mod tests {
    use everynode_proto::convert::json::to_struct;
    use everynode_proto::v1::{Condition, DaemonSetStatus, ObjectMeta, PodStatus, Reason};
    use serde_json::json;

    use super::*;
    use crate::table::align_tabs;

    #[test]
    fn a_daemon_set_is_laid_out_like_kubectls() {
        let spec = json!({
            "selector": {"matchLabels": {"app": "m"}},
            "template": {
                "metadata": {"labels": {"app": "m"}},
                "spec": {"runtimeClassName": "process",
                         "containers": [{"name": "agent", "command": ["/bin/agent"]}]},
            },
        });
        let condition = Condition {
            r#type: "Progressing".into(),
            status: "True".into(),
            reason: "RollingOut".into(),
            message: "1 of 2".into(),
        };
        let set = DaemonSet {
            effect: None,
            metadata: Some(ObjectMeta {
                name: "monitoring-daemon".into(),
                namespace: "default".into(),
                labels: [("app", "m"), ("tier", "ops")]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
                ..ObjectMeta::default()
            }),
            spec: Some(to_struct(spec.as_object().unwrap())),
            status: Some(DaemonSetStatus {
                desired_number_scheduled: 2,
                current_number_scheduled: 2,
                updated_number_scheduled: 1,
                number_available: 1,
                conditions: vec![condition],
                ..DaemonSetStatus::default()
            }),
        };
        let mut running = PodStatus::default();
        running.set_phase(PodPhase::Running);
        let pods = [Pod { status: Some(running), ..Pod::default() }, Pod::default()];
        let reason = Reason { code: "NodeLost".into(), message: "last heard of 9 s ago".into() };
        let why = [
            WhyLine { node: "n1".into(), fine: true, ..WhyLine::default() },
            WhyLine { node: "n2".into(), reason: Some(reason), ..WhyLine::default() },
        ];
        let expected = "\
Name:           monitoring-daemon
Namespace:      default
Selector:       app=m
Node-Selector:  <none>
Labels:         app=m
                tier=ops
Annotations:    <none>
Desired Number of Nodes Scheduled: 2
Current Number of Nodes Scheduled: 2
Number of Nodes Scheduled with Up-to-date Pods: 1
Number of Nodes Scheduled with Available Pods: 1
Number of Nodes Misscheduled: 0
Pods Status:  1 Running / 1 Waiting / 0 Succeeded / 0 Failed
Pod Template:
  Labels:         app=m
  Runtime Class:  process
  Containers:
   agent:
    Port:       <none>
    Host Port:  <none>
    Command:
      /bin/agent
    Environment:   <none>
    Mounts:        <none>
  Network:         loopback alone (hostNetwork is not true)
  Volumes:         <none>
  Node-Selectors:  <none>
  Tolerations:     <none>
Conditions:
  Type         Status  Reason      Message
  ----         ------  ------      -------
  Progressing  True    RollingOut  1 of 2
Not As Wanted:
  n2:  NodeLost: last heard of 9 s ago
";
        assert_eq!(align_tabs(&text(&set, &pods, &why).unwrap()), expected);
    }
}
