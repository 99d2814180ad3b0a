//! What a stream is about: a container of a pod, by names from elsewhere.

use everynode_agent_core::PodRef;
use everynode_model::{PodKey, PodUid, Reason};
use everynode_proto::v1;

/// A container that there could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) pod: PodRef,
    pub(super) container: String,
}

impl Target {
    /// # Errors
    /// When what was named is nothing that could be here.
    pub(super) fn of(stream: &v1::OpenStream) -> Result<Self, Reason> {
        let bad = |what: &str| Reason::new("BadRequest", format!("{what} is not valid"));
        let key = PodKey::new(&stream.namespace, &stream.name);
        let key = key.map_err(|_| bad("the DaemonSet's name"))?;
        let uid: PodUid = stream.pod_uid.parse().map_err(|_| bad("the pod's uid"))?;
        let container = stream.container.clone();
        // It becomes part of a path.
        let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if container.is_empty() || !container.bytes().all(is_label) {
            return Err(bad("the container's name"));
        }
        Ok(Self { pod: PodRef { key, uid }, container })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const POD: &str = "00000000-0000-0000-0000-000000000007";

    fn asked(container: &str, pod: &str) -> v1::OpenStream {
        v1::OpenStream {
            namespace: "default".into(),
            name: "a".into(),
            pod_uid: pod.into(),
            container: container.into(),
            ..Default::default()
        }
    }

    /// One that is valid.
    pub(in crate::streams) fn target() -> Target {
        Target::of(&asked("main", POD)).unwrap()
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        assert_eq!(target().container, "main");
        for (container, pod) in [("../x", POD), ("", POD), ("main", ".."), ("a.b", POD)] {
            assert_eq!(Target::of(&asked(container, pod)).unwrap_err().code, "BadRequest");
        }
    }
}
