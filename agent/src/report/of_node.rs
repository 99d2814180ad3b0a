//! A running agent's account of its machine.

use everynode_agent_core::Node;
use everynode_model::{
    ContainerState, ContainerStatus, Digest, Exit, Now, PodStatus, Reason, Role, pod_name,
};

use super::{Container, Failure, Held, Order, Pod, Report, Why, Words, certificate, standing};
use crate::identity::Identity;
use crate::session::inbox::Link;

/// All that the core knows, for people.
pub(crate) fn of_node(
    node: &Node,
    identity: &Identity,
    link: &Link,
    troubles: &[Reason],
    now: Now,
) -> Report {
    let ledger = node.ledger();
    let (connected, session) = match link {
        Link::Up(address) => (true, format!("open, with {address}")),
        Link::Down(why) => (false, format!("none: {why}")),
    };
    let why = node.keys().filter_map(|key| {
        node.why(key).map(|reason| Why { what: key.to_string(), words: (&reason).into() })
    });
    let leaving = node.why_not_left();
    let leaving = leaving.map(|reason| Why { what: "node".into(), words: (&reason).into() });
    Report {
        agent_running: true,
        node: identity.name.to_string(),
        node_uid: identity.node.to_string(),
        cluster: identity.cluster.to_string(),
        standing: standing(node.standing()).into(),
        certificate: certificate(identity),
        coordinators: identity.addresses.clone(),
        connected,
        session,
        order: ledger
            .accepted
            .map(|stamp| Order { term: stamp.term.0, generation: stamp.generation.0 }),
        assigned: ledger.assignment.len(),
        troubles: troubles.iter().map(Words::from).collect(),
        holds: ledger.holds.all().map(Held::of).collect(),
        pods: node.keys().flat_map(|key| node.statuses(key, now)).map(|pod| of_pod(&pod)).collect(),
        why: why.chain(leaving).collect(),
    }
}

fn of_pod(pod: &PodStatus) -> Pod {
    Pod {
        namespace: pod.key.namespace().into(),
        daemon_set: pod.key.name().into(),
        name: pod_name(&pod.key, pod.uid.uuid().as_bytes()),
        uid: pod.uid.to_string(),
        phase: pod.phase.as_str().into(),
        why: pod.reason.as_ref().map(Words::from),
        held: pod.is_held(),
        ready: pod.ready,
        restarts: Some(pod.restarts),
        revision: pod.revision.short(),
        started_at: pod.started_at.map(|at| at.unix_millis),
        last_failure: pod.last_failure.as_ref().map(|it| of_failure(it, pod.revision)),
        former_failure: pod
            .former_failure
            .as_ref()
            .map(|former| of_failure(&former.failure, former.revision)),
        containers: pod.containers.iter().map(of_container).collect(),
    }
}

fn of_failure(failure: &everynode_model::Failure, revision: Digest) -> Failure {
    Failure {
        revision: revision.short(),
        container: failure.container.clone(),
        exit_code: failure.exit.and_then(exit_code),
        signal: match failure.exit {
            Some(Exit::Signal(signal)) => Some(signal),
            _ => None,
        },
        words: Some((&failure.reason).into()),
        at: failure.at.unix_millis,
        log_tail: failure.log_tail.as_str().into(),
    }
}

fn exit_code(exit: Exit) -> Option<i32> {
    match exit {
        Exit::Code(code) => Some(code),
        Exit::Signal(signal) => Some(128 + signal),
        Exit::Unknown => None,
    }
}

fn of_container(container: &ContainerStatus) -> Container {
    let base = Container {
        name: container.name.clone(),
        init: container.role == Role::Init,
        ready: container.ready,
        restarts: Some(container.restarts),
        ..Container::default()
    };
    match &container.state {
        ContainerState::Waiting(reason) => Container { waiting: Some(reason.into()), ..base },
        ContainerState::Running { pid, since } => {
            Container { pid: Some(*pid), since: Some(since.unix_millis), ..base }
        }
        ContainerState::Terminated(exit) => Container { exit_code: exit_code(*exit), ..base },
    }
}
