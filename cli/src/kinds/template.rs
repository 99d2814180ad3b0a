//! What a pod template runs, in the few words that a row has room for.

use everynode_proto::v1::PodStatus;
use everynode_proto::v1::container_status::State;
use serde_json::Value;

/// What a container is made of: its image, or for a host process its program.
fn program(container: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    text(&container["image"])
        .filter(|image| !image.is_empty())
        .or_else(|| text(&container["command"][0]))
        .unwrap_or_else(|| "<none>".into())
}

/// The names and the programs of a template's containers, each list joined by commas.
pub(super) fn containers_and_programs(spec: &Value) -> (String, String) {
    let containers = spec["template"]["spec"]["containers"].as_array();
    let containers = containers.map_or(&[][..], Vec::as_slice);
    let names: Vec<&str> =
        containers.iter().map(|container| container["name"].as_str().unwrap_or_default()).collect();
    let programs: Vec<String> = containers.iter().map(program).collect();
    (names.join(","), programs.join(","))
}

/// The process ids of a pod's running containers, on its node.
pub(super) fn running_pids(status: Option<&PodStatus>) -> Vec<u32> {
    let containers = status.into_iter().flat_map(|status| &status.containers);
    let pid = |state: &State| match state {
        State::Running(running) => Some(running.pid),
        _ => None,
    };
    containers.filter_map(|container| container.state.as_ref().and_then(pid)).collect()
}
