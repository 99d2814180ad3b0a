//! The ports of the machine that a template says its pods use.

use std::net::IpAddr;

use everynode_agent_core::HostPort;
use serde_json::Value;

use super::PROCESS;

/// The declared ports of the machine, of a template in its normal form; none of one that can't be
/// read, which is refused elsewhere.
///
/// Pods in the host's network use the machine's ports themselves: there a container's port is the
/// machine's. Host processes that are not in it reach none: nothing is forwarded to them. Init
/// containers are done before, and hold none.
pub fn host_ports(content: &[u8]) -> Vec<HostPort> {
    let template: Value = serde_json::from_slice(content).unwrap_or_default();
    let spec = &template["spec"];
    let in_host = spec["hostNetwork"] == true;
    if !in_host && spec["runtimeClassName"] == PROCESS {
        return Vec::new();
    }
    let listed = |list: &str| spec[list].as_array().into_iter().flatten();
    // Sidecars stay beside the others.
    let sidecars = listed("initContainers").filter(|init| init["restartPolicy"] == "Always");
    let ports = listed("containers")
        .chain(sidecars)
        .filter_map(|container| container["ports"].as_array())
        .flatten();
    ports.filter_map(|port| host_port(port, in_host)).collect()
}

fn host_port(port: &Value, in_host: bool) -> Option<HostPort> {
    let number = |field: &str| {
        let number = port[field].as_u64().and_then(|number| u16::try_from(number).ok());
        number.filter(|number| *number != 0)
    };
    let number = number("hostPort").or_else(|| number("containerPort").filter(|_| in_host))?;
    let address = port["hostIP"].as_str().and_then(|text| text.parse::<IpAddr>().ok());
    Some(HostPort {
        protocol: port["protocol"].as_str().unwrap_or("TCP").to_owned(),
        address: address.filter(|address| !address.is_unspecified()),
        port: number,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ports(spec: Value) -> Vec<String> {
        let content = json!({ "spec": spec }).to_string();
        host_ports(content.as_bytes()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_declared_is_used() {
        let containers = json!([
            {"ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP", "hostIP": "127.0.0.1"}]},
            {"ports": [{"containerPort": 1, "hostPort": 2, "hostIP": "0.0.0.0"}]},
            {},
        ]);
        let all = ["80/TCP", "127.0.0.1:53/UDP", "2/TCP"];
        assert_eq!(ports(json!({"hostNetwork": true, "containers": containers})), all);
        let process = |shares| json!({"runtimeClassName": "process", "hostNetwork": shares, "containers": containers});
        assert_eq!(ports(process(true)), all);
        assert_eq!(ports(process(false)), [""; 0]);
        assert_eq!(ports(json!({"containers": containers})), ["2/TCP"]);
        let before = json!([{"ports": [{"containerPort": 80}]}]);
        assert_eq!(ports(json!({"hostNetwork": true, "initContainers": before})), [""; 0]);
        let beside = json!([{"restartPolicy": "Always", "ports": [{"containerPort": 80}]}]);
        assert_eq!(ports(json!({"hostNetwork": true, "initContainers": beside})), ["80/TCP"]);
        assert_eq!(host_ports(b"{"), []);
    }
}
