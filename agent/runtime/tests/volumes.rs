//! Volumes, looked at by real processes from inside. Needs a writable cgroup v2 hierarchy and the
//! right to mount; says so and passes without.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "for tests")]

#[allow(dead_code, reason = "shared with other tests")]
mod bed;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use everynode_agent_core::{
    ContainerSpec, HostPathKind, PodRef, PodSpec, ReadOnly, Volume, VolumeFile, VolumeMount,
    VolumeSource,
};
use everynode_model::Exit;
use everynode_runtime::contract::{Machine, exited, request};

use bed::{Bed, shell, spec_of};

/// A machine with a directory to mount at, or none where nothing can be mounted.
struct Place {
    bed: Bed,
    directory: tempfile::TempDir,
    mounts_before: String,
}

impl Place {
    fn new() -> Option<Self> {
        let bed = Bed::new(false)?;
        if bed::ordinary_user() {
            eprintln!("skipped: nothing can be mounted here");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("seen")).unwrap();
        fs::create_dir(directory.path().join("host")).unwrap();
        Some(Self { bed, directory, mounts_before: mounts() })
    }

    /// Where containers see what is mounted.
    fn seen(&self) -> PathBuf {
        self.directory.path().join("seen")
    }

    /// On the machine.
    fn host(&self) -> PathBuf {
        self.directory.path().join("host")
    }

    /// Nothing is mounted here that was not before, and nothing is left.
    fn is_clean(&self) {
        assert_eq!(mounts(), self.mounts_before);
        self.bed.is_clean();
    }
}

/// Of this process' namespace, of this test alone.
fn mounts() -> String {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().filter(|line| line.contains("everynode")).collect::<Vec<_>>().join("\n")
}

fn volume(name: &str, source: VolumeSource) -> Volume {
    Volume { name: name.into(), source }
}

fn host_path(path: &Path, kind: HostPathKind) -> VolumeSource {
    VolumeSource::HostPath(path.to_str().unwrap().into(), kind)
}

fn mount(volume: &str, path: &Path) -> VolumeMount {
    VolumeMount {
        volume: volume.into(),
        path: path.to_str().unwrap().into(),
        ..VolumeMount::default()
    }
}

fn file(path: &str, content: &str) -> VolumeFile {
    VolumeFile { path: path.into(), mode: 0o640, content: content.into() }
}

fn with_mounts(
    mut container: ContainerSpec,
    mounts: impl IntoIterator<Item = VolumeMount>,
) -> ContainerSpec {
    container.mounts = mounts.into_iter().collect();
    container
}

fn pod_of<const N: usize>(volumes: Vec<Volume>, containers: [ContainerSpec; N]) -> PodSpec {
    PodSpec { volumes, ..spec_of(containers) }
}

/// Runs a container to its end; what it printed.
async fn run(machine: &mut Machine<'_>, bed: &Bed, pod: &PodRef, container: &str) -> Vec<String> {
    machine.start(pod, container).await;
    machine.expect(exited(pod, container, Exit::Code(0))).await;
    let log = bed.log(pod, container);
    log.iter().map(|line| line.strip_prefix("stdout F ").unwrap_or(line).to_owned()).collect()
}

async fn refusal(machine: &mut Machine<'_>, pod: &PodRef, container: &str) -> String {
    machine.runtime.start(pod, container).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_host_path_is_seen_in_its_container_and_nowhere_else() {
    let Some(place) = Place::new() else { return };
    let (bed, seen, host) = (&place.bed, place.seen(), place.host());
    fs::write(host.join("here"), "from the host").unwrap();
    let mut machine = Machine::open(bed).await;
    let script = format!("cat {0}/here; echo; echo back > {0}/there; ls {0}", seen.display());
    let volumes = vec![volume("v", host_path(&host, HostPathKind::Directory))];
    let a = with_mounts(shell("a", &script), [mount("v", &seen)]);
    let b = shell("b", &format!("ls {}; readlink /proc/self/ns/mnt", seen.display()));
    let pod = machine.create(request("host-path", pod_of(volumes, [a, b]))).await;
    assert_eq!(run(&mut machine, bed, &pod, "a").await, ["from the host", "here", "there"]);
    assert_eq!(fs::read_to_string(host.join("there")).unwrap(), "back\n");
    // A container that mounts nothing is where the machine is.
    let ours = fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(run(&mut machine, bed, &pod, "b").await, [ours.to_str().unwrap()]);
    machine.end(&pod).await;
    place.is_clean();
}

#[tokio::test]
async fn a_host_path_is_what_it_has_to_be() {
    let Some(place) = Place::new() else { return };
    let (bed, seen, host) = (&place.bed, place.seen(), place.host());
    let (file, socket, new) = (host.join("file"), host.join("socket"), host.join("new/er"));
    fs::write(&file, "").unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let null = Path::new("/dev/null");
    let mut machine = Machine::open(bed).await;
    use HostPathKind::*;
    for (path, kind, refused) in [
        (&*host, Any, None),
        (&*host, Directory, None),
        (&*file, Directory, Some("is not a directory")),
        (&*new, Directory, Some("is not a directory")),
        (&*new, Socket, Some("is not a socket file")),
        (&*new, File, Some("is not a file")),
        (&*host, File, Some("is not a file")),
        (&*host, FileOrCreate, Some("is not a file")),
        (&*file, DirectoryOrCreate, Some("is not a directory")),
        (null, BlockDevice, Some("is not a block device")),
        (&*file, CharDevice, Some("is not a character device")),
        (&*new, DirectoryOrCreate, None),
    ] {
        let volumes = vec![volume("v", host_path(path, kind))];
        let a = with_mounts(shell("a", "true"), [mount("v", &seen)]);
        let pod = machine.create(request("kinds", pod_of(volumes, [a]))).await;
        match refused {
            None => assert_eq!(run(&mut machine, bed, &pod, "a").await, [""; 0]),
            Some(why) => {
                let said = refusal(&mut machine, &pod, "a").await;
                let why = format!("hostPath type check failed: {} {why}", path.display());
                assert!(said.contains(&why), "{said}");
            }
        }
        machine.end(&pod).await;
    }
    assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o755);
    // Over a file there must be a file, also a socket's or a device's.
    let over = place.directory.path().join("over");
    fs::write(&over, "").unwrap();
    for (path, kind, test) in [
        (&*file, File, "-f"),
        (&*host.join("made"), FileOrCreate, "-f"),
        (&*socket, Socket, "-S"),
        (null, CharDevice, "-c"),
    ] {
        let volumes = vec![volume("v", host_path(path, kind))];
        let script = format!("test {test} {}", over.display());
        let a = with_mounts(shell("a", &script), [mount("v", &over)]);
        let pod = machine.create(request("kinds", pod_of(volumes, [a]))).await;
        run(&mut machine, bed, &pod, "a").await;
        machine.end(&pod).await;
    }
    assert!(!fs::metadata(&over).unwrap().file_type().is_socket());
    place.is_clean();
}

#[tokio::test]
async fn containers_share_a_directory_that_lives_as_long_as_the_pod() {
    let Some(place) = Place::new() else { return };
    let (bed, seen) = (&place.bed, place.seen());
    for (name, source, filesystem) in [
        ("disk", VolumeSource::Disk, None),
        ("memory", VolumeSource::Memory(Some(65536)), Some("tmpfs")),
    ] {
        let mut machine = Machine::open(bed).await;
        let at = seen.display();
        let count =
            format!("echo x >> {at}/runs; stat -c %a {at}; stat -f -c %T {at}; wc -l < {at}/runs");
        let other = place.directory.path().join("host");
        let a = with_mounts(shell("a", &count), [mount("v", &seen)]);
        let b =
            with_mounts(shell("b", &format!("cat {}/runs", other.display())), [mount("v", &other)]);
        let volumes = vec![volume("v", source)];
        let pod = machine.create(request(name, pod_of(volumes, [a, b]))).await;
        for runs in ["1", "2"] {
            let said = run(&mut machine, bed, &pod, "a").await;
            assert_eq!((said[0].as_str(), said[2].as_str()), ("777", runs));
            assert!(filesystem.is_none_or(|filesystem| said[1] == filesystem), "{said:?}");
        }
        assert_eq!(run(&mut machine, bed, &pod, "b").await, ["x", "x"]);
        // The agent is another one now; the pod is the same.
        drop(machine);
        let mut machine = Machine::open(bed).await;
        assert!(machine.found(&pod).await.is_some());
        assert_eq!(run(&mut machine, bed, &pod, "a").await[2], "3");
        machine.end(&pod).await;
        let full =
            format!("dd if=/dev/zero of={at}/big bs=4096 count=100 2>&1 | grep -o 'No space.*'");
        let a = with_mounts(shell("a", &full), [mount("v", &seen)]);
        if filesystem.is_some() {
            let volumes = vec![volume("v", VolumeSource::Memory(Some(65536)))];
            let pod = machine.create(request(name, pod_of(volumes, [a]))).await;
            assert_eq!(run(&mut machine, bed, &pod, "a").await, ["No space left on device"]);
            machine.end(&pod).await;
        }
    }
    place.is_clean();
}

#[tokio::test]
async fn files_are_laid_out_as_the_kubelet_does() {
    let Some(place) = Place::new() else { return };
    let (bed, seen) = (&place.bed, place.seen());
    let mut machine = Machine::open(bed).await;
    let mut bytes = file("tls/key", "");
    (bytes.content, bytes.mode) = (vec![0, 255, 10], 0o400);
    let files = vec![file("server.conf", "port 80\n"), bytes, file("tls/cert", "c")];
    let at = seen.display();
    let script = format!(
        "cd {at}; ls -A | sed 's/^\\.\\.[0-9]*$/..TIME/'; cat server.conf; readlink server.conf tls; \
         readlink ..data | grep -c '^\\.\\.[0-9]'; stat -L -c '%a %U' server.conf tls/key tls .; \
         od -An -tx1 tls/key; stat -f -c %T .; touch x 2>&1 | grep -o 'Read-only.*'; \
         echo x 2>&1 > server.conf | true; cat server.conf"
    );
    let mut seen_ro = mount("v", &seen);
    seen_ro.read_only = ReadOnly::Top;
    let a = with_mounts(shell("a", &script), [seen_ro.clone()]);
    let one = place.directory.path().join("one");
    fs::write(&one, "the machine's").unwrap();
    let mut of_one = mount("v", &one);
    of_one.sub_path = Some("server.conf".into());
    let b = with_mounts(shell("b", &format!("cat {}", one.display())), [of_one]);
    let volumes = vec![volume("v", VolumeSource::Files(files))];
    let pod = machine.create(request("files", pod_of(volumes, [a, b]))).await;
    let said = run(&mut machine, bed, &pod, "a").await;
    let expected = [
        "..TIME",
        "..data",
        "server.conf",
        "tls",
        "port 80",
        "..data/server.conf",
        "..data/tls",
        "1",
        "640 root",
        "400 root",
        "755 root",
        "777 root",
        " 00 ff 0a",
        "tmpfs",
        "Read-only file system",
        "port 80",
    ];
    let said: Vec<_> = said.iter().filter(|line| !line.starts_with("stderr")).collect();
    assert_eq!(said, expected);
    assert_eq!(run(&mut machine, bed, &pod, "b").await, ["port 80"]);
    // It has never been on a disk.
    let uid = pod.uid.to_string();
    assert!(!bed.run_dir().join(uid).join("volumes").exists());
    machine.end(&pod).await;
    assert_eq!(fs::read_to_string(&one).unwrap(), "the machine's");
    place.is_clean();
}

#[tokio::test]
async fn a_part_of_a_volume_never_leads_out_of_it() {
    let Some(place) = Place::new() else { return };
    let (bed, seen, host) = (&place.bed, place.seen(), place.host());
    let secret = place.directory.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "hunter2").unwrap();
    fs::create_dir_all(host.join("deep/er")).unwrap();
    fs::write(host.join("deep/er/x"), "inside").unwrap();
    symlink("deep/er", host.join("within")).unwrap();
    symlink(&secret, host.join("absolute")).unwrap();
    symlink("../secret", host.join("relative")).unwrap();
    symlink("/proc/self/root", host.join("magic")).unwrap();
    symlink("nothing", host.join("dangling")).unwrap();
    let mut machine = Machine::open(bed).await;
    let ok = [("deep/er", "x"), ("within", "x"), ("within/../er", "x"), ("made/new", "")];
    let out =
        ["absolute", "relative", "absolute/key", "magic/etc", "../secret", "deep/../../secret"];
    for (part, listed) in ok
        .map(|(part, listed)| (part, Some(listed)))
        .into_iter()
        .chain(out.map(|part| (part, None)))
    {
        let mut of_part = mount("v", &seen);
        of_part.sub_path = Some(part.into());
        let a = with_mounts(shell("a", &format!("ls {}", seen.display())), [of_part]);
        let volumes = vec![volume("v", host_path(&host, HostPathKind::Directory))];
        let pod = machine.create(request("part", pod_of(volumes, [a]))).await;
        match listed.filter(|_| !part.contains("..")) {
            Some(listed) => {
                let said = run(&mut machine, bed, &pod, "a").await.join(" ");
                assert_eq!(said, listed, "{part}");
            }
            None => {
                let said = refusal(&mut machine, &pod, "a").await;
                assert!(said.contains("it leads out of the volume"), "{part}: {said}");
            }
        }
        machine.end(&pod).await;
    }
    assert_eq!(fs::metadata(host.join("made/new")).unwrap().permissions().mode() & 0o777, 0o755);
    place.is_clean();
}
