//! Volumes, looked at by real processes from inside. Needs a writable cgroup v2 hierarchy and the
//! right to mount; says so and passes without.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "for tests")]

#[allow(dead_code, reason = "shared with other tests")]
mod bed;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use everynode_agent_core::{
    ArtifactSource, ContainerSpec, HostPathKind, PodRef, PodSpec, Propagation, ReadOnly, Volume,
    VolumeFile, VolumeMount, VolumeSource,
};
use everynode_model::Exit;
use everynode_runtime::RuntimeEvent;
use everynode_runtime::contract::{Machine, exited, request};

use bed::{Bed, Mounted, run, shell, spec_of};

/// A machine with a directory to mount at, or none where nothing can be mounted.
struct Place {
    bed: Bed,
    directory: tempfile::TempDir,
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
        Some(Self { bed, directory })
    }

    /// Where containers see what is mounted.
    fn seen(&self) -> PathBuf {
        self.directory.path().join("seen")
    }

    /// On the machine.
    fn host(&self) -> PathBuf {
        self.directory.path().join("host")
    }

    /// Nothing of this test is mounted on the machine, and nothing is left.
    fn is_clean(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let here = self.directory.path().to_str().unwrap();
        let pods = self.bed.run_dir();
        let ours = [here, pods.to_str().unwrap(), " - tmpfs everynode "];
        let left = mounts.lines().filter(|line| ours.iter().any(|own| line.contains(own)));
        assert_eq!(left.collect::<Vec<_>>(), [""; 0]);
        self.bed.is_clean();
    }
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
async fn what_was_delivered_is_run_and_never_written_to() {
    let Some(place) = Place::new() else { return };
    let (bed, seen, host) = (&place.bed, place.seen(), place.host());
    fs::create_dir_all(host.join("top/bin")).unwrap();
    fs::create_dir(host.join("top/conf")).unwrap();
    fs::write(host.join("top/bin/run"), "#!/bin/sh\necho delivered\n").unwrap();
    fs::set_permissions(host.join("top/bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../../../..", host.join("top/out")).unwrap();
    let artifact = |inside: &str| {
        VolumeSource::Artifact(ArtifactSource {
            directory: host.to_str().unwrap().into(),
            inside: Some(inside.into()),
        })
    };
    let read_only = |mount: VolumeMount| VolumeMount { read_only: ReadOnly::Top, ..mount };
    let part = |path: &str| VolumeMount { sub_path: Some(path.into()), ..mount("v", &seen) };
    let script =
        format!("{0}/bin/run; touch {0}/x 2>/dev/null || echo no; ls {0}/conf", seen.display());
    let volumes = vec![volume("v", artifact("top")), volume("conf", VolumeSource::Disk)];
    let conf = mount("conf", &seen.join("conf"));
    let a = with_mounts(shell("a", &script), [read_only(mount("v", &seen)), conf]);
    let b = with_mounts(shell("b", &format!("{}/run", seen.display())), [read_only(part("bin"))]);
    let c = with_mounts(shell("c", "true"), [read_only(part("made"))]);
    let d = with_mounts(shell("d", "true"), [read_only(part("out"))]);
    let mut machine = Machine::open(bed).await;
    let pod = machine.create(request("delivered", pod_of(volumes, [a, b, c, d]))).await;
    assert_eq!(run(&mut machine, bed, &pod, "a").await, ["delivered", "no"]);
    assert_eq!(run(&mut machine, bed, &pod, "b").await, ["delivered"]);
    let said = refusal(&mut machine, &pod, "c").await;
    assert!(said.contains("subPath \"made\""), "{said}");
    assert!(!host.join("top/made").exists(), "nothing is made in what was delivered");
    let said = refusal(&mut machine, &pod, "d").await;
    assert!(said.contains("subPath \"out\""), "{said}");
    machine.end(&pod).await;

    for inside in ["no", "top/out"] {
        let a = with_mounts(shell("a", "true"), [mount("v", &seen)]);
        let volumes = vec![volume("v", artifact(inside))];
        let pod = machine.create(request("delivered", pod_of(volumes, [a]))).await;
        let said = refusal(&mut machine, &pod, "a").await;
        assert!(said.contains(&format!("volume \"v\": {inside} of its artifact")), "{said}");
        machine.end(&pod).await;
    }
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

#[tokio::test]
async fn a_path_that_the_machine_has_not_is_made_for_the_container_alone() {
    let Some(place) = Place::new() else { return };
    let (bed, host) = (&place.bed, place.host());
    fs::create_dir(host.join("sub")).unwrap();
    fs::write(host.join("file"), "the machine's").unwrap();
    symlink("file", host.join("link")).unwrap();
    let files = || VolumeSource::Files(vec![file("conf", "port 80")]);
    let mut machine = Machine::open(bed).await;
    let (deep, beside) = (host.join("not/there"), host.join("one.conf"));
    let at = host.display();
    let script = format!(
        "cat {at}/not/there/conf {at}/one.conf; echo; cat {at}/link; echo; ls {at}; \
         echo new > {at}/sub/new; touch {at}/new 2>&1 | grep -o 'Read-only.*'; \
         cat /everynode-test-of-volumes/deep/conf; echo; test -d /proc/1 && ls -d /etc /tmp"
    );
    let mut one = mount("v", &beside);
    one.sub_path = Some("conf".into());
    let root = mount("v", Path::new("/everynode-test-of-volumes/deep"));
    let a = with_mounts(shell("a", &script), [mount("v", &deep), one, root]);
    let pod = machine.create(request("absent", pod_of(vec![volume("v", files())], [a]))).await;
    for _ in 0..2 {
        let said = run(&mut machine, bed, &pod, "a").await;
        let listed = ["file", "link", "not", "one.conf", "sub"];
        let expected = [
            &["port 80port 80", "the machine's"][..],
            &listed,
            &["Read-only file system", "port 80", "/etc", "/tmp"],
        ];
        assert_eq!(said, expected.concat());
    }
    assert_eq!(fs::read_to_string(host.join("sub/new")).unwrap(), "new\n");
    assert!(!deep.exists() && !beside.exists() && !host.join("not").exists());
    assert!(!Path::new("/everynode-test-of-volumes").exists());
    machine.end(&pod).await;
    place.is_clean();
}

#[tokio::test]
async fn a_mount_within_a_volume_is_made_in_the_volume() {
    let Some(place) = Place::new() else { return };
    let (bed, seen) = (&place.bed, place.seen());
    let mut machine = Machine::open(bed).await;
    let inner = seen.join("in/side");
    let script = format!("cat {}/conf; echo; ls {}", inner.display(), seen.display());
    let files = VolumeSource::Files(vec![file("conf", "port 80")]);
    let volumes = vec![volume("outer", VolumeSource::Disk), volume("inner", files)];
    // Whatever order they are written in.
    let a = with_mounts(shell("a", &script), [mount("inner", &inner), mount("outer", &seen)]);
    let pod = machine.create(request("nested", pod_of(volumes, [a]))).await;
    for _ in 0..2 {
        assert_eq!(run(&mut machine, bed, &pod, "a").await, ["port 80", "in"]);
    }
    machine.end(&pod).await;
    place.is_clean();
}

#[tokio::test]
async fn what_is_mounted_later_goes_where_it_is_asked_to_go() {
    let Some(place) = Place::new() else { return };
    let (bed, host) = (&place.bed, place.host());
    let Some(later) = shared(&host) else { return };
    for name in ["from-host", "from-pod"] {
        fs::create_dir(host.join(name)).unwrap();
    }
    let mut machine = Machine::open(bed).await;
    for (propagation, sees_host, sees_pod) in [
        (Propagation::None, false, false),
        (Propagation::HostToContainer, true, false),
        (Propagation::Bidirectional, true, true),
    ] {
        let at = place.seen();
        let script = format!(
            "mount -t tmpfs everynode-pod {0}/from-pod && echo mounted; until [ -e {1}/go ]; do sleep 0.01; done; \
             grep -c ' {0}/from-host ' /proc/self/mountinfo; umount {0}/from-pod",
            at.display(),
            place.directory.path().display(),
        );
        let mut seen = mount("v", &at);
        seen.propagation = propagation;
        let mut a = with_mounts(shell("a", &script), [seen]);
        a.argv[2].push_str("; true");
        let volumes = vec![volume("v", host_path(&host, HostPathKind::Directory))];
        let pod = machine.create(request("later", pod_of(volumes, [a]))).await;
        machine.start(&pod, "a").await;
        bed::until(|| bed.log(&pod, "a") == ["stdout F mounted"]).await;
        let inner = Mounted::tmpfs(&host.join("from-host"));
        let of_pod = format!(" {}/from-pod ", host.display());
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(mountinfo.contains(&of_pod), sees_pod, "{propagation:?}");
        let go = place.directory.path().join("go");
        fs::write(&go, "").unwrap();
        machine.expect(exited(&pod, "a", Exit::Code(0))).await;
        let count = if sees_host { "stdout F 1" } else { "stdout F 0" };
        assert_eq!(bed.log(&pod, "a"), ["stdout F mounted", count], "{propagation:?}");
        fs::remove_file(go).unwrap();
        drop(inner);
        machine.end(&pod).await;
    }
    drop(later);
    place.is_clean();
}

/// One whose mounts are told to others.
fn shared(at: &Path) -> Option<Mounted> {
    let mounted = Mounted::tmpfs(at)?;
    let mut command = std::process::Command::new("mount");
    assert!(command.arg("--make-shared").arg(at).status().unwrap().success());
    Some(mounted)
}

#[tokio::test]
async fn read_only_is_as_deep_as_asked() {
    let Some(place) = Place::new() else { return };
    let (bed, host, seen) = (&place.bed, place.host(), place.seen());
    fs::create_dir(host.join("below")).unwrap();
    let Some(inner) = Mounted::tmpfs(&host.join("below")) else { return };
    let mut machine = Machine::open(bed).await;
    for (read_only, top, below) in [
        (ReadOnly::No, "w", "w"),
        (ReadOnly::Top, "r", "w"),
        (ReadOnly::RecursiveIfPossible, "r", "r"),
        (ReadOnly::Recursive, "r", "r"),
    ] {
        let test = "if touch $1/x 2>/dev/null; then echo w; else echo r; fi";
        let script = format!("t() {{ {test}; }}; t {0}; t {0}/below", seen.display());
        let mut of_host = mount("v", &seen);
        of_host.read_only = read_only;
        let a = with_mounts(shell("a", &script), [of_host]);
        let volumes = vec![volume("v", host_path(&host, HostPathKind::Directory))];
        let pod = machine.create(request("read-only", pod_of(volumes, [a]))).await;
        assert_eq!(run(&mut machine, bed, &pod, "a").await, [top, below], "{read_only:?}");
        machine.end(&pod).await;
    }
    // The machine itself may still write there.
    fs::write(host.join("x"), "").unwrap();
    drop(inner);
    place.is_clean();
}

#[tokio::test]
async fn nothing_is_left_when_everybody_is_killed() {
    let Some(place) = Place::new() else { return };
    let (bed, seen) = (&place.bed, place.seen());
    let absent = place.host().join("not/there");
    for round in 0..5 {
        let mut machine = Machine::open(bed).await;
        let volumes = vec![
            volume("disk", VolumeSource::Disk),
            volume("memory", VolumeSource::Memory(None)),
            volume("files", VolumeSource::Files(vec![file("a", "b")])),
        ];
        let script =
            format!("mount -t tmpfs everynode-pod {0}; echo x > {0}/x; sleep 1000", seen.display());
        let mounts =
            [mount("disk", &seen), mount("memory", &place.host()), mount("files", &absent)];
        let a = with_mounts(shell("a", &script), mounts);
        let pod = machine.create(request("killed", pod_of(volumes, [a]))).await;
        let shim = bed.shim_of(&pod);
        let runtime = std::sync::Arc::clone(&machine.runtime);
        let of_pod = pod.clone();
        // The supervisor dies while it mounts, or before, or after.
        let starting = tokio::spawn(async move { runtime.start(&of_pod, "a").await.map(drop) });
        for _ in 0..round * 200 {
            tokio::task::yield_now().await;
        }
        bed::kill(shim, "KILL");
        let _ = starting.await.unwrap();
        let clusters = [everynode_runtime::contract::marks().cluster].into();
        machine.runtime.kill(&pod.key, &clusters).await.unwrap();
        while machine.next_of_all().await != RuntimeEvent::PlaceEmpty(pod.key.clone()) {}
        machine.runtime.remove(&pod).await.unwrap();
        place.is_clean();
    }
}

#[tokio::test]
async fn what_is_made_for_a_pod_is_its_groups() {
    let Some(place) = Place::new() else { return };
    let (bed, seen, host) = (&place.bed, place.seen(), place.host());
    let mut machine = Machine::open(bed).await;
    let script = format!(
        "stat -L -c '%a %g' {0} {1} {1}/d {1}/d/conf; touch {0}/x; stat -c %g {0}/x",
        seen.display(),
        host.display()
    );
    let a = with_mounts(shell("a", &script), [mount("disk", &seen), mount("files", &host)]);
    let files = VolumeSource::Files(vec![VolumeFile { mode: 0o400, ..file("d/conf", "") }]);
    let volumes = vec![volume("disk", VolumeSource::Disk), volume("files", files)];
    let spec = PodSpec { fs_group: Some(4711), ..pod_of(volumes, [a]) };
    let pod = machine.create(request("group", spec)).await;
    let expected = ["2777 4711", "2777 4711", "2755 4711", "440 4711", "4711"];
    assert_eq!(run(&mut machine, bed, &pod, "a").await, expected);
    machine.end(&pod).await;
    place.is_clean();
}

#[tokio::test]
async fn volumes_in_memory_are_not_one_another() {
    let Some(place) = Place::new() else { return };
    let (bed, seen, host) = (&place.bed, place.seen(), place.host());
    let mut machine = Machine::open(bed).await;
    let script = format!("ls {}; touch {1}/x; ls {1}", seen.display(), host.display());
    let a = with_mounts(shell("a", &script), [mount("files", &seen), mount("memory", &host)]);
    let files = VolumeSource::Files(vec![file("conf", "")]);
    let memory = volume("memory", VolumeSource::Memory(None));
    let spec = pod_of(vec![volume("files", files), memory], [a]);
    let pod = machine.create(request("several", spec)).await;
    assert_eq!(run(&mut machine, bed, &pod, "a").await, ["conf", "x"]);
    machine.end(&pod).await;
    place.is_clean();
}
