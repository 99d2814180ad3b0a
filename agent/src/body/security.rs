//! What confines a container: `securityContext` of pod and container, and the annotations with
//! resource limits.
//!
//! A container's word outdoes its pod's. A field takes away exactly what it says, beside whatever
//! else is said; one that this version does not know is refused.

use everynode_agent_core::{Capabilities, CapabilitySet, Seccomp, Security};
use everynode_model::{RLIMITS_ANNOTATION, RLIMITS_PREFIX, Reason, Rlimit, Rlimits};
use serde::Deserialize;
use serde_json::Value;

use super::fields::{Metadata, Rest, refuse};
use super::{CONFIG_ERROR, invalid, unsupported};

/// `spec.securityContext`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSecurity {
    run_as_user: Option<i64>,
    run_as_group: Option<i64>,
    run_as_non_root: Option<bool>,
    #[serde(default)]
    supplemental_groups: Vec<i64>,
    supplemental_groups_policy: Option<String>,
    fs_group: Option<i64>,
    seccomp_profile: Option<SeccompProfile>,
    #[serde(flatten)]
    rest: Rest,
}

/// `spec.containers[*].securityContext`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerSecurity {
    run_as_user: Option<i64>,
    run_as_group: Option<i64>,
    run_as_non_root: Option<bool>,
    allow_privilege_escalation: Option<bool>,
    /// Takes away nothing. With it a container has all capabilities in Kubernetes.
    privileged: Option<bool>,
    capabilities: Option<CapabilityLists>,
    seccomp_profile: Option<SeccompProfile>,
    read_only_root_filesystem: Option<bool>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CapabilityLists {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    drop: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SeccompProfile {
    #[serde(rename = "type")]
    kind: String,
    localhost_profile: Option<String>,
}

/// The capabilities that a container asks for.
#[derive(Clone, Copy, Default)]
struct Wanted {
    of: Capabilities,
    /// `add` has `ALL`.
    all: bool,
}

impl PodSecurity {
    /// Refuses what is not honoured.
    pub(super) fn check(&self) -> Result<(), Reason> {
        refuse_confining(&self.rest, "spec.securityContext")
    }

    /// The group of what is made for the pod.
    pub(super) fn fs_group(&self) -> Result<Option<u32>, Reason> {
        self.fs_group.map(|group| id(group, "spec.securityContext.fsGroup")).transpose()
    }
}

impl ContainerSecurity {
    pub(super) fn privileged(&self) -> bool {
        self.privileged == Some(true)
    }
}

/// Of the container at `path`, called `name`.
pub(super) fn security(
    container: &ContainerSecurity,
    pod: &PodSecurity,
    name: &str,
    path: &str,
    metadata: &Metadata,
    agent_user: u32,
) -> Result<Security, Reason> {
    let path = format!("{path}.securityContext");
    refuse_confining(&container.rest, &path)?;
    let (user, group) = who(container, pod, &path, agent_user)?;
    let wanted = container.capabilities.as_ref().map(|lists| lists.read(&path)).transpose()?;
    let in_a_container = in_a_container(wanted.unwrap_or_default(), container.privileged());
    Ok(Security {
        user,
        group,
        groups: groups(pod)?,
        strict_groups: strict_groups(pod)?,
        capabilities: wanted.map(|wanted| wanted.of),
        no_new_privs: container.allow_privilege_escalation == Some(false),
        seccomp: seccomp(container, pod, in_a_container, &path)?,
        read_only_root: container.read_only_root_filesystem == Some(true),
        privileged: container.privileged(),
        rlimits: rlimits(metadata, name)?,
    })
}

/// Under which user and group.
fn who(
    container: &ContainerSecurity,
    pod: &PodSecurity,
    path: &str,
    agent_user: u32,
) -> Result<(Option<u32>, Option<u32>), Reason> {
    let of = |field: &str, value: Option<i64>| {
        value.map(|value| id(value, &format!("{path}.{field}"))).transpose()
    };
    let user = of("runAsUser", container.run_as_user.or(pod.run_as_user))?;
    let group = of("runAsGroup", container.run_as_group.or(pod.run_as_group))?;
    let must_not_be_root = container.run_as_non_root.or(pod.run_as_non_root) == Some(true);
    if must_not_be_root && user.unwrap_or(agent_user) == 0 {
        let container = path.trim_end_matches(".securityContext");
        let line = format!("{container} has runAsNonRoot and would run as root: set runAsUser");
        return Err(Reason::new(CONFIG_ERROR, line));
    }
    Ok((user, group))
}

/// What is asked for beside the user's own.
fn groups(pod: &PodSecurity) -> Result<Vec<u32>, Reason> {
    let path = "spec.securityContext.supplementalGroups";
    let mut groups: Vec<u32> =
        pod.supplemental_groups.iter().map(|group| id(*group, path)).collect::<Result<_, _>>()?;
    groups.extend(pod.fs_group()?);
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

fn strict_groups(pod: &PodSecurity) -> Result<bool, Reason> {
    match pod.supplemental_groups_policy.as_deref() {
        None | Some("Merge") => Ok(false),
        Some("Strict") => Ok(true),
        Some(other) => {
            let path = "spec.securityContext.supplementalGroupsPolicy";
            Err(unsupported(path, &format!("{other:?} is not known to this agent")))
        }
    }
}

fn id(value: i64, path: &str) -> Result<u32, Reason> {
    u32::try_from(value).map_err(|_| invalid(path, "not a user or group id"))
}

impl CapabilityLists {
    fn read(&self, path: &str) -> Result<Wanted, Reason> {
        let (all, add) = named(&self.add, &format!("{path}.capabilities.add"))?;
        let (drop_all, drop) = named(&self.drop, &format!("{path}.capabilities.drop"))?;
        Ok(Wanted { of: Capabilities { from_none: drop_all && !all, add, drop }, all })
    }
}

/// Whether `ALL` is among them, and the others.
fn named(names: &[String], path: &str) -> Result<(bool, CapabilitySet), Reason> {
    let (mut all, mut set) = (false, 0);
    for name in names {
        if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
            all = true;
            continue;
        }
        match CapabilitySet::named(name) {
            Some(CapabilitySet(one)) => set |= one,
            None => return Err(unsupported(path, &format!("no capability {name:?} is known"))),
        }
    }
    Ok((all, CapabilitySet(set)))
}

fn seccomp(
    container: &ContainerSecurity,
    pod: &PodSecurity,
    capabilities: CapabilitySet,
    path: &str,
) -> Result<Seccomp, Reason> {
    let of_container = container.seccomp_profile.as_ref().map(|profile| (profile, path));
    let of_pod = pod.seccomp_profile.as_ref().map(|profile| (profile, "spec.securityContext"));
    let Some((profile, path)) = of_container.or(of_pod) else { return Ok(Seccomp::Unconfined) };
    let path = format!("{path}.seccompProfile");
    match (profile.kind.as_str(), profile.localhost_profile.as_deref()) {
        ("Unconfined", None) => Ok(Seccomp::Unconfined),
        ("RuntimeDefault", None) => Ok(Seccomp::RuntimeDefault(capabilities)),
        ("Localhost", Some(profile)) if is_below(profile) => {
            Ok(Seccomp::Localhost { profile: profile.to_owned(), capabilities })
        }
        (kind, profile) => {
            let profile = profile.map(|profile| format!(" with {profile:?}")).unwrap_or_default();
            Err(unsupported(&path, &format!("{kind:?}{profile} is no profile of this agent's")))
        }
    }
}

/// Whether a path stays under the directory that it is relative to.
fn is_below(path: &str) -> bool {
    let plain = |part: std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
    !path.is_empty() && std::path::Path::new(path).components().all(plain)
}

/// The capabilities that these fields give to a container of containerd's, by which profiles go: what
/// a host process has besides must let none of its system calls through.
fn in_a_container(wanted: Wanted, privileged: bool) -> CapabilitySet {
    match (privileged, wanted.all) {
        (true, _) => CapabilitySet::ALL,
        (false, true) => wanted.of.of(CapabilitySet::ALL),
        (false, false) => wanted.of.of(CapabilitySet::CONTAINER),
    }
}

/// Those of the container, or else those of all.
fn rlimits(metadata: &Metadata, name: &str) -> Result<Vec<Rlimit>, Reason> {
    let own = format!("{RLIMITS_PREFIX}{name}");
    let found = [&*own, RLIMITS_ANNOTATION].into_iter().find_map(|key| metadata.annotation(key));
    let Some((text, at)) = found else { return Ok(Vec::new()) };
    let parsed = text.parse::<Rlimits>().map_err(|error| invalid(&at, &error.to_string()));
    Ok(parsed?.0)
}

/// Refuses what is left of a security context, except where it asks for no confinement.
fn refuse_confining(rest: &Rest, path: &str) -> Result<(), Reason> {
    let confines = |(name, value): &(&String, &Value)| match name.as_str() {
        // Of volumes; either way all of one is the group's in the end.
        "fsGroupChangePolicy" => false,
        "procMount" => *value != "Default",
        "appArmorProfile" => value.get("type") != Some(&"Unconfined".into()),
        _ => true,
    };
    refuse(rest.iter().filter(confines), path, &[])
}
