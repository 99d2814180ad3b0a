//! A pod template at the agent's door: JSON in its normal form in, a [`PodSpec`] or a named refusal
//! out.
//!
//! What confines a pod and can't be honoured here is refused, whoever let it through before; so is
//! every field that this version does not know. What only informs or places is passed over, by
//! name ([`fields`]).

mod alike;
mod artifacts;
mod content;
mod env;
mod fields;
mod files;
mod lifecycle;
mod mounts;
mod namespaces;
mod oom;
mod ports;
mod pull_secrets;
mod resources;
mod security;
mod storage;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use everynode_agent_core::{ContainerSpec, PodSpec, Resources};
use everynode_model::{Labels, NodeName, PodKey, PodUid, Reason};
use serde_json::Value;

pub use alike::fixed_of;
pub use artifacts::{Delivered, artifacts_of};
pub use content::{Contents, blobs_of};
pub use oom::is_promised;
pub use ports::host_ports;
pub use pull_secrets::keyring_of;
pub use storage::storage_limits;

use content::Config;
use env::Sources;
use fields::{Container, Spec, Template};
use oom::Class;
use resources::Said;
use security::PodSecurity;

/// What this agent can honour, as it announces it: what needs more is never sent here.
pub use everynode_model::PROCESS_FEATURES as FEATURES;

/// `runtimeClassName` of pods of host processes.
const PROCESS: &str = "process";
/// Every other pod needs a container runtime.
const CRI: &str = "cri";
/// What stands before the others, and ends before or after them.
const INIT_CONTAINERS: &str = "initContainers";
/// The kubelet's word for a container that can't be configured as its template says.
const CONFIG_ERROR: &str = "CreateContainerConfigError";
/// Kubernetes' default of `terminationGracePeriodSeconds`.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// What of a pod's surroundings its template may refer to.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The pod's place.
    pub key: PodKey,
    /// The pod.
    pub uid: PodUid,
    /// The node's name.
    pub node_name: NodeName,
    /// Those of the node's labels that the template reads, as the pod was granted them.
    pub node_labels: Labels,
    /// The machine's name, as `HOSTNAME`: the pod shares it.
    pub hostname: String,
    /// The machine's first address, if it has one.
    pub address: Option<String>,
    /// Whether this agent can give pods namespaces of their own.
    pub makes_namespaces: bool,
    /// The agent's user: what a process is that names none.
    pub agent_user: u32,
    /// What the machine has (`cpu`, `memory`, …), as Kubernetes writes amounts: what a container may
    /// use that has no limit.
    pub capacity: BTreeMap<String, String>,
    /// The content that the template names.
    pub contents: Contents,
    /// Where what is delivered is, each in a directory of its own.
    pub artifacts: PathBuf,
}

/// Which runtime a template asks for; `None` for one that can't be read.
pub fn runtime_of(content: &[u8]) -> Option<&'static str> {
    let template: Template = serde_json::from_slice(content).ok()?;
    Some(match template.spec.runtime_class_name.as_deref() {
        Some(PROCESS) => PROCESS,
        _ => CRI,
    })
}

/// The pod that a template wants in these surroundings.
///
/// # Errors
/// A reason that no further try with the same template can mend.
pub fn pod_spec(content: &[u8], around: &Surroundings) -> Result<PodSpec, Reason> {
    let unread = |error: serde_json::Error| Reason::new("InvalidTemplate", error.to_string());
    let template: Template = serde_json::from_slice(content).map_err(unread)?;
    let Template { metadata, spec, config, rest } = template;
    if spec.runtime_class_name.as_deref() != Some(PROCESS) {
        let line = "this agent has no container runtime yet; \
                    `runtimeClassName: process` runs a `command` of the host";
        return Err(Reason::new("ContainersNotSupported", line));
    }
    fields::refuse_rest(&rest, "", &[])?;
    spec.check()?;
    let pod = spec.security_context.clone().unwrap_or_default();
    pod.check()?;
    if spec.containers.is_empty() {
        return Err(invalid("spec.containers", "at least one is needed"));
    }
    let said = Said::read(&metadata)?;
    let config = Config::read(&config, &around.contents)?;
    let all: Vec<&Container> = spec.init_containers.iter().chain(&spec.containers).collect();
    let namespaces = namespaces::namespaces(&spec, around.makes_namespaces)?;
    let from =
        Sources { metadata: &metadata, config: &config, around, namespaces, containers: &all };
    let class = Class::of(&all);
    let of = |list: &'static str, containers: &'_ [Container]| {
        let specs = containers.iter().enumerate().map(|(number, container)| {
            let read = container_spec(container, (list, number), &pod, said, &from)?;
            let oom_score = Some(oom::score(class, &spec, container, &around.capacity));
            Ok::<_, Reason>(ContainerSpec { oom_score, ..read })
        });
        specs.collect::<Result<Vec<_>, _>>()
    };
    let mut containers = of(INIT_CONTAINERS, &spec.init_containers)?;
    containers.extend(of("containers", &spec.containers)?);
    let volumes = volumes::volumes(&spec.volumes, &from)?;
    artifacts::mount_read_only(&volumes, &mut containers);
    Ok(PodSpec {
        containers,
        grace: grace(&spec)?,
        restart: lifecycle::backoff(&metadata)?,
        resources: Resources {
            pids_limit: said.pids_limit,
            ..spec.resources.resources("spec.resources", said)?
        },
        limits_required: said.required,
        volumes,
        fs_group: pod.fs_group()?,
        namespaces,
    })
}

fn grace(spec: &Spec) -> Result<Duration, Reason> {
    match spec.termination_grace_period_seconds {
        None => Ok(DEFAULT_GRACE),
        Some(seconds) => u64::try_from(seconds)
            .map(Duration::from_secs)
            .map_err(|_| invalid("spec.terminationGracePeriodSeconds", "must not be negative")),
    }
}

fn container_spec(
    container: &Container,
    (list, number): (&str, usize),
    pod: &PodSecurity,
    said: Said,
    from: &Sources<'_>,
) -> Result<ContainerSpec, Reason> {
    let path = &format!("spec.{list}[{number}]");
    container.check(path)?;
    let security = container.security_context.clone().unwrap_or_default();
    let env = env::environment(container, path, from)?;
    let mounts = mounts::mounts(&container.volume_mounts, path, &env, security.privileged())?;
    if container.command.is_empty() {
        let line = format!("{path}.command: required: {PROCESS} pods run a program of the host");
        return Err(Reason::new("CommandRequired", line));
    }
    let words = container.command.iter().chain(&container.args);
    let (lifecycle, stop_signal) = lifecycle::read(container, list == INIT_CONTAINERS, path, &env)?;
    Ok(ContainerSpec {
        name: container.name.clone(),
        argv: words.map(|word| env::expand(word, &env)).collect(),
        env,
        lifecycle,
        stop_signal,
        working_dir: container.working_dir.clone().filter(|directory| !directory.is_empty()),
        security: security::security(
            &security,
            pod,
            &container.name,
            path,
            from.metadata,
            from.around.agent_user,
        )?,
        mounts,
        resources: container.resources.resources(&format!("{path}.resources"), said)?,
        oom_score: None,
    })
}

/// A field whose value can mean nothing.
fn invalid(path: &str, why: &str) -> Reason {
    Reason::new("InvalidTemplate", format!("{path}: {why}"))
}

/// A field that asks for something this agent does not do.
fn unsupported(path: &str, why: &str) -> Reason {
    Reason::new("UnsupportedField", format!("{path}: {why}"))
}

/// Whether a value says nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests;
