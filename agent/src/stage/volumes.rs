//! Whether what a pod mounts is what it has to be, before the pod that it replaces is stopped; and where
//! what a container sees is to be looked at meanwhile. Nothing is made here: what can be made is made
//! for the pod.

use std::path::{Path, PathBuf};

use everynode_agent_core::{
    ArtifactSource, ContainerSpec, HostPathKind, PodSpec, VolumeMount, VolumeSource,
};
use everynode_model::Reason;
use everynode_runtime::host_path_problem;

/// Why a pod of this spec could not run, by what it mounts.
pub(super) fn check(spec: &PodSpec) -> Result<(), Reason> {
    for volume in &spec.volumes {
        let problem = match &volume.source {
            VolumeSource::HostPath(path, kind) => host_path(path, *kind),
            VolumeSource::Artifact(source) => artifact(source),
            VolumeSource::Disk | VolumeSource::Memory(_) | VolumeSource::Files(_) => None,
        };
        if let Some(problem) = problem {
            return Err(Reason::new("FailedMount", format!("volume {:?}: {problem}", volume.name)));
        }
    }
    Ok(())
}

fn host_path(path: &str, kind: HostPathKind) -> Option<String> {
    let made = [HostPathKind::Any, HostPathKind::DirectoryOrCreate, HostPathKind::FileOrCreate];
    let is_made = made.contains(&kind) && !Path::new(path).exists();
    host_path_problem(path, kind).filter(|_| !is_made)
}

fn artifact(source: &ArtifactSource) -> Option<String> {
    let is_there = root(source).is_some_and(|root| root.is_dir());
    (!is_there).then(|| match &source.inside {
        Some(inside) => format!("the archive has no directory {inside:?}"),
        None => "what was delivered is not there any more".into(),
    })
}

/// Where a container sees what is at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// On the machine, at this path: its own, or one in what was delivered.
    At(PathBuf),
    /// In a volume that is not here yet.
    NotYet,
    /// Nowhere: what was delivered does not have it.
    Nowhere,
}

/// Where on the machine is what a container will see at a path.
pub(super) fn seen(container: &ContainerSpec, spec: &PodSpec, path: &Path) -> Seen {
    let covering = container.mounts.iter().filter(|mount| path.starts_with(&mount.path));
    // What is mounted inside of another mount comes after it.
    let covering = covering.max_by_key(|mount| Path::new(&mount.path).components().count());
    let Some(mount) = covering else { return Seen::At(path.to_owned()) };
    let volume = spec.volumes.iter().find(|volume| volume.name == mount.volume);
    let Some(VolumeSource::Artifact(source)) = volume.map(|volume| &volume.source) else {
        return Seen::NotYet;
    };
    match inside(source, mount, path) {
        Some(at) if at.exists() => Seen::At(at),
        // A link may lead to what only the container has.
        Some(at) if at.is_symlink() => Seen::NotYet,
        _ => Seen::Nowhere,
    }
}

fn inside(source: &ArtifactSource, mount: &VolumeMount, path: &Path) -> Option<PathBuf> {
    let part = root(source)?.join(mount.sub_path.as_deref().unwrap_or_default());
    let below = path.strip_prefix(&mount.path).ok()?;
    // What a path ends in a file's name must not end in a slash.
    Some(match below.as_os_str().is_empty() {
        true => part,
        false => part.join(below),
    })
}

/// The directory that is all of the volume; `None` where it would be another's.
fn root(source: &ArtifactSource) -> Option<PathBuf> {
    let whole = Path::new(&source.directory);
    let Some(inside) = &source.inside else { return Some(whole.to_owned()) };
    let (whole, root) = (whole.canonicalize().ok()?, whole.join(inside).canonicalize().ok()?);
    root.starts_with(whole).then_some(root)
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
        let delivered = tempfile::tempdir().unwrap();
        let at = |path: &str| delivered.path().join(path);
        std::fs::create_dir_all(at("top/bin")).unwrap();
        std::fs::write(at("top/bin/run"), "").unwrap();
        std::os::unix::fs::symlink("/no/such", at("top/bin/link")).unwrap();
        let source = |inside: Option<&str>| ArtifactSource {
            directory: delivered.path().to_str().unwrap().into(),
            inside: inside.map(Into::into),
        };
        let volume = |name: &str, source| Volume { name: name.into(), source };
        let artifact = |inside| VolumeSource::Artifact(source(inside));
        let volumes = vec![
            volume("disk", VolumeSource::Disk),
            volume("all", artifact(None)),
            volume("top", artifact(Some("top"))),
        ];
        let mount = |name: &str, path: &str, sub_path: Option<&str>| VolumeMount {
            volume: name.into(),
            path: path.into(),
            sub_path: sub_path.map(Into::into),
            ..VolumeMount::default()
        };
        let mounts = vec![
            mount("all", "/opt/x", None),
            mount("disk", "/opt/x/data", None),
            mount("top", "/top", None),
            mount("top", "/bin/run", Some("bin/run")),
        ];
        let container = ContainerSpec { mounts, ..ContainerSpec::default() };
        let spec = PodSpec { volumes, ..PodSpec::default() };
        let seen = |path: &str| seen(&container, &spec, Path::new(path));
        let run = || Seen::At(at("top/bin/run").canonicalize().unwrap());
        assert_eq!(seen("/opt/xy"), Seen::At("/opt/xy".into()));
        assert_eq!(seen("/opt/x/top/bin/run"), Seen::At(at("top/bin/run")));
        assert_eq!((seen("/top/bin/run"), seen("/bin/run")), (run(), run()));
        assert_eq!((seen("/opt/x/data/a"), seen("/opt/x/data")), (Seen::NotYet, Seen::NotYet));
        assert_eq!((seen("/top/bin/link"), seen("/top/bin/no")), (Seen::NotYet, Seen::Nowhere));

        assert_eq!(check(&spec), Ok(()));
        for inside in ["no", "top/bin/run", "../.."] {
            let spec = PodSpec {
                volumes: vec![volume("v", artifact(Some(inside)))],
                ..PodSpec::default()
            };
            let why = check(&spec).unwrap_err().to_string();
            assert!(why.starts_with("FailedMount: volume \"v\": the archive has no"), "{why}");
        }
    }
}
