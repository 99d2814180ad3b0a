//! Which pod of several, and which container of a pod, is meant where none is named: as in kubectl.

use everynode_model::DEFAULT_CONTAINER;
use everynode_proto::v1::{Pod, PodPhase};

use crate::connect::Client;
use crate::error::Error;
use crate::kinds::{is_main, name_of, pods_of};
use crate::out::Out;

/// The one that kubectl would take: one that runs, is ready, has been for long, was restarted often.
pub(super) fn best(mut pods: Vec<Pod>, out: &mut Out) -> Pod {
    let count = pods.len();
    pods.sort_by_key(|pod| {
        let status = pod.status.as_ref();
        let of_status = status.map(|it| (it.ready, it.ready_for_millis, it.restarts));
        std::cmp::Reverse((!pod.stale, runs(pod), of_status.unwrap_or_default()))
    });
    let pod = pods.swap_remove(0);
    if count > 1 {
        out.note(format!("Found {count} pods, using pod/{}", name_of(pod.metadata.as_ref())));
    }
    pod
}

/// The pods of a DaemonSet, on one node where that is named; one at least.
pub(super) async fn some_pods_of(
    client: &Client,
    namespace: &str,
    set: &str,
    node: Option<&str>,
) -> Result<Vec<Pod>, Error> {
    let pods = pods_of(client, namespace, set, node).await?;
    if pods.is_empty() {
        let on = node.map(|node| format!(" on node {node}")).unwrap_or_default();
        return Err(Error::Failed(format!("daemonset/{set} has no pods{on}")));
    }
    Ok(pods)
}

/// Whether it runs, as far as is known.
pub(super) fn runs(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.phase() == PodPhase::Running)
}

/// The containers of a pod; none of one that has said nothing.
pub(super) fn containers(pod: &Pod) -> Vec<&str> {
    let containers = pod.status.iter().flat_map(|status| &status.containers);
    containers.map(|container| container.name.as_str()).collect()
}

/// The container that is meant; init containers, which come first, are not. Empty of a pod that has
/// said nothing: the coordinator says why.
pub(super) fn container<'a>(pod: &'a Pod, out: &mut Out) -> &'a str {
    let there = containers(pod);
    let annotations = pod.metadata.as_ref().map(|metadata| &metadata.annotations);
    let default = annotations.and_then(|annotations| annotations.get(DEFAULT_CONTAINER));
    let meant = default.and_then(|default| there.iter().find(|name| *name == default));
    match (meant, there.as_slice()) {
        (Some(name), _) | (None, [name]) => name,
        (None, []) => "",
        (None, [first, ..]) => {
            let mut all = pod.status.iter().flat_map(|status| &status.containers);
            let main = all.find(|container| is_main(container)).map(|main| main.name.as_str());
            let (usual, there) = (main.unwrap_or(first), there.join(", "));
            out.note(format!("Defaulted container {usual:?} out of: {there}"));
            usual
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use everynode_proto::v1::{ContainerStatus, ObjectMeta, PodStatus};

    use super::*;
    use crate::out::testing::captured;

    /// One that runs.
    pub(in crate::verbs) fn pod(name: &str, ready_for: u64, containers: &[&str]) -> Pod {
        let container =
            |name: &&str| ContainerStatus { name: (*name).into(), ..ContainerStatus::default() };
        let mut status = PodStatus {
            ready: ready_for > 0,
            ready_for_millis: ready_for,
            containers: containers.iter().map(container).collect(),
            ..PodStatus::default()
        };
        status.set_phase(PodPhase::Running);
        let metadata = ObjectMeta { name: name.into(), ..ObjectMeta::default() };
        Pod { metadata: Some(metadata), status: Some(status), ..Pod::default() }
    }

    #[test]
    fn of_several_pods_the_one_that_has_been_ready_for_longest_is_taken() {
        let (mut out, _, err) = captured();
        let lost = Pod { stale: true, ..pod("lost", 99, &[]) };
        let pods = vec![pod("new", 0, &[]), pod("b", 5, &[]), lost, pod("a", 7, &[])];
        assert_eq!(name_of(best(pods, &mut out).metadata.as_ref()), "a");
        assert_eq!(err.text(), "Found 4 pods, using pod/a\n");
    }

    #[test]
    fn the_template_says_which_container_is_meant() {
        let (mut out, _, err) = captured();
        let mut two = pod("p", 1, &["a", "b"]);
        let metadata = two.metadata.as_mut().unwrap();
        metadata.annotations.insert(DEFAULT_CONTAINER.into(), "b".into());
        assert_eq!(container(&two, &mut out), "b");
        assert_eq!(err.text(), "");
        let metadata = two.metadata.as_mut().unwrap();
        metadata.annotations.insert(DEFAULT_CONTAINER.into(), "c".into());
        assert_eq!(container(&two, &mut out), "a");
        assert_eq!(container(&pod("p", 1, &[]), &mut out), "");
    }
}
