//! What a pod has of its own: `hostNetwork`, `hostIPC`, `hostPID` and `shareProcessNamespace`, by
//! Kubernetes' defaults. A field that is not there shares nothing with the machine.

use everynode_agent_core::{Namespaces, Pids};
use everynode_model::Reason;

use super::fields::Spec;
use super::invalid;

/// What the template asks for, where this agent can make namespaces if `can_make`.
pub(super) fn namespaces(spec: &Spec, can_make: bool) -> Result<Namespaces, Reason> {
    let shares = |field: Option<bool>| field == Some(true);
    let pids = match (shares(spec.host_pid), shares(spec.share_process_namespace)) {
        (true, true) => {
            return Err(invalid("spec.shareProcessNamespace", "must not be true beside hostPID"));
        }
        (true, false) => Pids::Machine,
        (false, true) => Pids::Pod,
        (false, false) => Pids::Container,
    };
    let namespaces =
        Namespaces { network: !shares(spec.host_network), ipc: !shares(spec.host_ipc), pids };
    if namespaces.is_any_own() && !can_make {
        let own = [
            ("hostNetwork", namespaces.network),
            ("hostIPC", namespaces.ipc),
            ("hostPID", pids != Pids::Machine),
        ];
        let names: Vec<&str> = own.iter().filter(|(_, own)| *own).map(|(name, _)| *name).collect();
        let line = format!(
            "this agent can't give a pod namespaces of its own: it has no CAP_SYS_ADMIN and \
             CAP_NET_ADMIN; to share the machine's, set {} to true",
            names.join(", ")
        );
        return Err(Reason::new("NamespacesNotSupported", line));
    }
    Ok(namespaces)
}
