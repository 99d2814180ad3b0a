//! Probes and hooks under way, each a task that ends with the run that it belongs to.

use std::collections::BTreeMap;

use everynode_agent_core::PodRef;
use everynode_runtime::RuntimeEvent;
use tokio::task::AbortHandle;

/// By pod and container. At most one try of each probe and one hook of a container is under way: the
/// core starts no second one.
#[derive(Default)]
pub(super) struct Tries(BTreeMap<PodRef, BTreeMap<String, Vec<AbortHandle>>>);

impl Tries {
    pub(super) fn add(&mut self, pod: PodRef, container: String, task: AbortHandle) {
        let tasks = self.0.entry(pod).or_default().entry(container).or_default();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// Ends those of runs and pods that have ended: nobody waits for their answers.
    pub(super) fn saw(&mut self, event: &RuntimeEvent) {
        match event {
            RuntimeEvent::Exited { pod, container, .. } => {
                let tasks = self.0.get_mut(pod).and_then(|tasks| tasks.remove(container));
                end(tasks.into_iter().flatten());
            }
            RuntimeEvent::SupervisorLost(pod) | RuntimeEvent::PodEmpty(pod) => {
                let tasks = self.0.remove(pod).unwrap_or_default();
                end(tasks.into_values().flatten());
            }
            RuntimeEvent::PlaceEmpty(key) => {
                let gone = self.0.extract_if(.., |pod, _| pod.key == *key);
                end(gone.flat_map(|(_, tasks)| tasks.into_values().flatten()));
            }
            _ => {}
        }
    }
}

fn end(tasks: impl Iterator<Item = AbortHandle>) {
    tasks.for_each(|task| task.abort());
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_model::{Exit, PodKey, PodUid};

    fn pod(name: &str) -> PodRef {
        let uid = PodUid::new(uuid::Uuid::from_u128(1));
        PodRef { key: PodKey::new("default", name).unwrap(), uid }
    }

    #[tokio::test]
    async fn a_try_ends_with_its_run() {
        let mut tries = Tries::default();
        let mut add = |name: &str, container: &str| {
            let task = tokio::spawn(std::future::pending::<()>());
            tries.add(pod(name), container.into(), task.abort_handle());
            task
        };
        let (a, b) = (add("x", "a"), add("x", "b"));
        let (lost, empty, stays) = (add("lost", "a"), add("empty", "a"), add("stays", "a"));
        let (x, container) = (pod("x"), "a".into());
        tries.saw(&RuntimeEvent::Exited { pod: x.clone(), container, exit: Exit::Code(0) });
        assert!(a.await.unwrap_err().is_cancelled() && !b.is_finished());
        tries.saw(&RuntimeEvent::SupervisorLost(pod("lost")));
        tries.saw(&RuntimeEvent::PlaceEmpty(pod("empty").key));
        tries.saw(&RuntimeEvent::PodEmpty(x));
        for task in [b, lost, empty] {
            assert!(task.await.unwrap_err().is_cancelled());
        }
        assert!(!stays.is_finished());
    }
}
