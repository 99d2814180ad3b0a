//! What a pod and its containers may use of the machine, and what of it they are sure to get.
//!
//! How a pod's share follows from its containers' is the kubelet's rule (`ResourceConfigForPod`): a
//! request counts always, a limit only where every container has one.

use std::collections::BTreeMap;

use super::{ContainerSpec, PodSpec, Role};

/// Limits and requests of a container, or of a pod as a whole. A limit of zero is none, as in
/// Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// `limits.cpu`, in thousandths of a processor.
    pub cpu_limit: Option<u64>,
    /// `requests.cpu`, in thousandths of a processor.
    pub cpu_request: Option<u64>,
    /// `limits.memory`, in bytes.
    pub memory_limit: Option<u64>,
    /// `limits.hugepages-SIZE`: bytes of such pages, by the size of one in bytes.
    pub hugepages: BTreeMap<u64, u64>,
    /// How many processes and threads there may be; of a pod as a whole.
    pub pids_limit: Option<u64>,
}

impl Resources {
    /// What decides how processors are shared when they are short: a request, or else the limit, as
    /// Kubernetes takes a limit alone for a request of the same amount.
    pub fn cpu_share(&self) -> u64 {
        self.cpu_request.or(self.cpu_limit).unwrap_or_default()
    }
}

impl PodSpec {
    /// What the pod as a whole is held to: what is said of it (`spec.resources`), or else what its
    /// containers come to.
    pub fn whole(&self) -> Resources {
        let said = &self.resources;
        let sum = |of: fn(&Resources) -> Option<u64>| self.together(|one| of(&one.resources));
        let share = self.together(|one| Some(one.resources.cpu_share()));
        Resources {
            cpu_limit: said.cpu_limit.or_else(|| sum(|one| one.cpu_limit)),
            cpu_request: Some(said.cpu_request.or(said.cpu_limit).or(share).unwrap_or_default()),
            memory_limit: said.memory_limit.or_else(|| sum(|one| one.memory_limit)),
            hugepages: self.hugepages(),
            pids_limit: said.pids_limit,
        }
    }

    /// What one container is held to: no more than its pod.
    pub fn share_of(&self, container: &ContainerSpec) -> Resources {
        let (own, whole) = (&container.resources, self.whole());
        let least = |own: Option<u64>, whole: Option<u64>| {
            own.map(|own| whole.map_or(own, |whole| own.min(whole)))
        };
        Resources {
            cpu_limit: least(own.cpu_limit, whole.cpu_limit),
            memory_limit: least(own.memory_limit, whole.memory_limit),
            cpu_request: Some(own.cpu_share()),
            ..own.clone()
        }
    }

    /// Of every size that anything is said of: pages are limited by name, so that what is not said
    /// of a container is nothing to it.
    fn hugepages(&self) -> BTreeMap<u64, u64> {
        let all = self.containers.iter().flat_map(|one| one.resources.hugepages.keys());
        let sizes = all.chain(self.resources.hugepages.keys());
        let of = |size: &u64| {
            let said = self.resources.hugepages.get(size).copied();
            said.or_else(|| {
                self.together(|one| one.resources.hugepages.get(size).copied().or(Some(0)))
            })
        };
        sizes.filter_map(|size| Some((*size, of(size)?))).collect()
    }

    /// The most that its containers use together at any time: those that stay, or an init container
    /// beside the sidecars before it. `None` where one of them says nothing.
    fn together(&self, of: impl Fn(&ContainerSpec) -> Option<u64>) -> Option<u64> {
        let (mut stay, mut most) = (0_u64, 0_u64);
        for container in &self.containers {
            let own = of(container)?;
            match container.lifecycle.role {
                Role::Init => most = most.max(stay.saturating_add(own)),
                Role::Sidecar | Role::Main => stay = stay.saturating_add(own),
            }
        }
        Some(most.max(stay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Lifecycle;

    fn container(role: Role, cpu: Option<u64>, memory: Option<u64>) -> ContainerSpec {
        ContainerSpec {
            lifecycle: Lifecycle { role, ..Lifecycle::default() },
            resources: Resources { cpu_limit: cpu, memory_limit: memory, ..Resources::default() },
            ..ContainerSpec::default()
        }
    }

    fn pod(containers: &[ContainerSpec]) -> PodSpec {
        PodSpec { containers: containers.to_vec(), ..PodSpec::default() }
    }

    #[test]
    fn a_pod_is_limited_where_all_of_its_containers_are() {
        let main = |cpu, memory| container(Role::Main, cpu, memory);
        let whole = pod(&[main(Some(500), Some(10)), main(Some(250), None)]).whole();
        assert_eq!((whole.cpu_limit, whole.memory_limit), (Some(750), None));
        assert_eq!(whole.cpu_request, Some(750), "a limit alone is a request, too");
        let unlimited = Resources { cpu_request: Some(0), ..Resources::default() };
        assert_eq!(pod(&[main(None, None)]).whole(), unlimited);
    }

    #[test]
    fn init_containers_count_beside_the_sidecars_before_them() {
        let whole = pod(&[
            container(Role::Sidecar, Some(100), Some(1)),
            container(Role::Init, Some(500), Some(1)),
            container(Role::Sidecar, Some(100), Some(1)),
            container(Role::Main, Some(200), Some(1)),
        ])
        .whole();
        assert_eq!((whole.cpu_limit, whole.memory_limit), (Some(600), Some(3)));
    }

    #[test]
    fn what_is_said_of_the_pod_outdoes_the_sum_and_bounds_each() {
        let mut pod = pod(&[container(Role::Main, Some(900), None)]);
        pod.containers[0].resources.hugepages.insert(2 << 20, 4 << 20);
        pod.resources.cpu_limit = Some(300);
        pod.resources.memory_limit = Some(7);
        let whole = pod.whole();
        assert_eq!((whole.cpu_limit, whole.memory_limit), (Some(300), Some(7)));
        assert_eq!(whole.hugepages, BTreeMap::from([(2 << 20, 4 << 20)]));
        let share = pod.share_of(&pod.containers[0]);
        assert_eq!((share.cpu_limit, share.memory_limit), (Some(300), None));
    }
}
