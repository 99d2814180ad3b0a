//! A machine whose agent does not run: what its identity, its ledger and the cgroups say. Touches
//! nothing.

use std::collections::BTreeMap;
use std::path::Path;

use everynode_agent_core::{Ledger, Standing};
use everynode_model::{Intent, PodKey, Reason, pod_name};
use everynode_runtime::{Alive, MachineError, alive};

use super::{Container, Held, Order, Pod, Report, Why, Words, certificate, standing};
use crate::identity::{IdentityError, IdentityFiles};
use crate::ledger::disk::{Copies, read};
use crate::ledger::{LoadError, Loaded};

/// Why nothing is known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfflineError {
    /// There is no identity in the directory.
    #[error("no agent is running with --data-dir {0}, and no machine has joined a cluster with it")]
    NotJoined(std::path::PathBuf),
    /// There is one that can't be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The ledger can't be read.
    #[error(transparent)]
    Ledger(#[from] LoadError),
    /// The cgroups can't be read.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// The machine of this data directory and cgroup root.
///
/// # Errors
/// When it can't be looked at.
pub(crate) fn offline(data_dir: &Path, cgroup_root: &Path) -> Result<Report, OfflineError> {
    let identity = IdentityFiles::new(data_dir).load()?;
    let identity = identity.ok_or_else(|| OfflineError::NotJoined(data_dir.to_owned()))?;
    let Copies { loaded, .. } = read(data_dir, &identity.ever())?;
    let formers = identity.formers.clone();
    let new =
        Ledger { formers: formers.clone(), ..Ledger::joined(identity.cluster, identity.node) };
    let (ledger, trouble) = match loaded {
        Loaded::Ledger(ledger) => (*ledger, None),
        Loaded::Recovered(ledger, trouble) => (*ledger, Some(trouble)),
        Loaded::Lost(trouble) => (new, Some(trouble)),
        Loaded::Nothing => (new, None),
    };
    let ledger = Ledger { formers, ..ledger };
    let alive = alive(cgroup_root)?;
    let pods = pods(&ledger, &alive);
    Ok(Report {
        agent_running: false,
        node: identity.name.to_string(),
        node_uid: identity.node.to_string(),
        cluster: identity.cluster.to_string(),
        standing: standing(ledger.standing).into(),
        certificate: certificate(&identity),
        coordinators: identity.addresses,
        connected: false,
        session: "none: no agent runs".into(),
        order: ledger
            .accepted
            .map(|stamp| Order { term: stamp.term.0, generation: stamp.generation.0 }),
        assigned: ledger.assignment.len(),
        troubles: trouble.iter().map(Words::from).collect(),
        holds: ledger.holds.all().map(Held::of).collect(),
        why: why(&pods),
        pods,
    })
}

/// What lives here, and what is to.
fn pods(ledger: &Ledger, alive: &[Alive]) -> Vec<Pod> {
    let mut by_place: BTreeMap<PodKey, Vec<Pod>> = BTreeMap::new();
    for one in alive {
        by_place.entry(one.key.clone()).or_default().push(living(ledger, one));
    }
    let wanted = ledger.assignment.items().filter(|item| item.intent != Intent::Stop);
    let wanted = wanted.chain(ledger.holds.kept.values());
    for item in wanted.filter(|_| ledger.standing == Standing::Active) {
        by_place.entry(item.key.clone()).or_insert_with(|| {
            let not_running = || Reason::new("NotRunning", "no agent runs that would start it");
            let hold = ledger.holds.of(&item.key);
            let why = hold.map_or_else(not_running, everynode_agent_core::Hold::why);
            vec![Pod {
                why: Some((&why).into()),
                held: hold.is_some(),
                phase: "Pending".into(),
                revision: item.revision.short(),
                ..of_place(&item.key)
            }]
        });
    }
    by_place.into_values().flatten().collect()
}

/// What is alive; of which revision, its supervisor knows, which only an agent may ask.
fn living(ledger: &Ledger, alive: &Alive) -> Pod {
    let hold = ledger.holds.of(&alive.key);
    let whose = alive.marks.map(|marks| (marks.cluster, marks.node));
    let reason = match whose {
        Some(_) if alive.marks.is_some_and(|marks| ledger.is_ours(marks)) => match alive.supervised
        {
            true => hold.map(everynode_agent_core::Hold::why),
            false => Some(Reason::new("UnsupervisedPod", "it is alive without a supervisor")),
        },
        Some((cluster, _)) if cluster == ledger.cluster => Some(Reason::new(
            "StrayPod",
            "a pod of this cluster, made under another node uid, lives in this place",
        )),
        Some(_) => Some(Reason::new("HeldByAnotherCluster", "it is a pod of another cluster")),
        None => Some(Reason::new("HeldByUnknown", "its marks can't be read")),
    };
    let container = |(name, pids): &(String, Vec<u32>)| Container {
        name: name.clone(),
        ready: !pids.is_empty(),
        pid: pids.first().copied(),
        waiting: pids.is_empty().then(|| Words {
            reason: "NotRunning".into(),
            message: "no agent runs that would start it again".into(),
        }),
        ..Container::default()
    };
    let containers: Vec<Container> = alive.containers.iter().map(container).collect();
    Pod {
        name: alive.pod.map(|uid| pod_name(&alive.key, uid.uuid().as_bytes())).unwrap_or_default(),
        uid: alive.pod.map(|uid| uid.to_string()).unwrap_or_default(),
        phase: "Running".into(),
        why: reason.as_ref().map(Words::from),
        held: hold.is_some(),
        ready: containers.iter().all(|container| container.ready),
        containers,
        ..of_place(&alive.key)
    }
}

fn of_place(key: &PodKey) -> Pod {
    Pod { namespace: key.namespace().into(), daemon_set: key.name().into(), ..Pod::default() }
}

fn why(pods: &[Pod]) -> Vec<Why> {
    let down = |pod: &Pod| pod.containers.iter().find_map(|container| container.waiting.clone());
    let why = |pod: &Pod| {
        let words = pod.why.clone().or_else(|| down(pod))?;
        Some(Why { what: format!("{}/{}", pod.namespace, pod.daemon_set), words })
    };
    pods.iter().filter_map(why).collect()
}
