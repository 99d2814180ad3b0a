//! Whether the host paths of a pod are what they have to be, before the pod that it replaces is
//! stopped. Nothing is made here: what can be made is made for the pod.

use everynode_agent_core::{ContainerSpec, HostPathKind, PodSpec, VolumeSource};
use everynode_model::Reason;
use everynode_runtime::host_path_problem;
use std::path::Path;

/// Why a pod of this spec could not run, by what it mounts of the machine.
pub(super) fn check(spec: &PodSpec) -> Result<(), Reason> {
    for volume in &spec.volumes {
        let VolumeSource::HostPath(path, kind) = &volume.source else { continue };
        let is_made =
            [HostPathKind::Any, HostPathKind::DirectoryOrCreate, HostPathKind::FileOrCreate]
                .contains(kind)
                && !Path::new(path).exists();
        if let Some(problem) = host_path_problem(path, *kind).filter(|_| !is_made) {
            return Err(Reason::new("FailedMount", format!("volume {:?}: {problem}", volume.name)));
        }
    }
    Ok(())
}

/// Whether a container sees something else than the machine at a path.
pub(super) fn covers(container: &ContainerSpec, path: &Path) -> bool {
    container.mounts.iter().any(|mount| path.starts_with(&mount.path))
}

#[cfg(test)]
mod tests {
    use everynode_agent_core::{Volume, VolumeMount};

    use super::*;

    #[test]
    fn a_host_path_that_must_be_there_is_looked_for() {
        let said = |path: &str, kind| {
            let source = VolumeSource::HostPath(path.into(), kind);
            let volumes = vec![Volume { name: "v".into(), source }];
            let checked = check(&PodSpec { volumes, ..PodSpec::default() });
            checked.err().map(|reason| reason.to_string())
        };
        let failed = |path: &str| {
            Some(format!(
                "FailedMount: volume \"v\": hostPath type check failed: {path} is not a directory"
            ))
        };
        assert_eq!(said("/proc", HostPathKind::Directory), None);
        assert_eq!(said("/dev/null", HostPathKind::Any), None);
        assert_eq!(said("/nowhere/at/all", HostPathKind::Directory), failed("/nowhere/at/all"));
        assert_eq!(said("/dev/null", HostPathKind::DirectoryOrCreate), failed("/dev/null"));
        for kind in [HostPathKind::Any, HostPathKind::DirectoryOrCreate, HostPathKind::FileOrCreate]
        {
            assert_eq!(said("/nowhere/at/all", kind), None, "it is made later");
        }
        assert!(!Path::new("/nowhere").exists());
    }

    #[test]
    fn what_is_in_a_volume_is_not_the_machines() {
        let mounts = vec![VolumeMount { path: "/etc/x/".into(), ..VolumeMount::default() }];
        let container = ContainerSpec { mounts, ..ContainerSpec::default() };
        assert!(
            covers(&container, Path::new("/etc/x/y")) && covers(&container, Path::new("/etc/x"))
        );
        assert!(!covers(&container, Path::new("/etc/xy")));
    }
}
