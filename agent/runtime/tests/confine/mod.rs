//! What a container may do, told by itself: each field from inside a real process. Needs root, and
//! says so.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "for tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use everynode_agent_core::{
    Capabilities, CapabilitySet, ContainerSpec, HostPathKind, Seccomp, Security, Volume,
    VolumeMount, VolumeSource,
};
use everynode_model::{Exit, Rlimits};
use everynode_runtime::contract::{Machine, exited, request};

use crate::bed::{self, Bed, shell, spec_of};

/// A machine on which processes may be confined; none where this one is not root.
fn bed(old_kernel: bool) -> Option<Bed> {
    if bed::ordinary_user() {
        eprintln!("skipped: only root can become another user");
        return None;
    }
    Bed::new(old_kernel)
}

/// What a script prints under that security; its exit has to be 0.
async fn said(bed: &Bed, security: Security, script: &str) -> Vec<String> {
    let mut machine = Machine::open(bed).await;
    let main = ContainerSpec { security, ..shell("main", script) };
    let pod = machine.create(request("confined", spec_of([main]))).await;
    machine.start(&pod, "main").await;
    machine.expect(exited(&pod, "main", Exit::Code(0))).await;
    let lines = bed.log(&pod, "main");
    machine.end(&pod).await;
    lines.into_iter().map(|line| line.split_once(" F ").unwrap().1.to_owned()).collect()
}

/// Why a container is not started.
async fn refused(bed: &Bed, security: Security) -> String {
    let mut machine = Machine::open(bed).await;
    let main = ContainerSpec { security, ..shell("main", "true") };
    let pod = machine.create(request("refused", spec_of([main]))).await;
    let error = machine.runtime.start(&pod, "main").await.unwrap_err();
    machine.end(&pod).await;
    error.to_string()
}

fn capabilities(from_none: bool, add: &[&str], drop: &[&str]) -> Capabilities {
    let set = |names: &[&str]| {
        CapabilitySet(names.iter().map(|name| CapabilitySet::named(name).unwrap().0).sum())
    };
    Capabilities { from_none, add: set(add), drop: set(drop) }
}

fn masks(lines: &[String]) -> Vec<(&str, u64)> {
    let mask =
        |line: &'_ String| u64::from_str_radix(line.split_once('\t').unwrap().1, 16).unwrap();
    lines.iter().map(|line| (line.split_once(':').unwrap().0, mask(line))).collect()
}

const CAPS: &str = "grep ^Cap /proc/self/status";

#[tokio::test]
async fn capabilities_are_exactly_those_that_are_left() {
    for old_kernel in [false, true] {
        let Some(bed) = bed(old_kernel) else { return };
        let plain = said(&bed, Security::default(), CAPS).await;
        let own = fs::read_to_string("/proc/self/status").unwrap();
        for line in &plain {
            assert!(own.contains(line), "with no field it has what root of this host has: {line}");
        }
        let one = Security {
            capabilities: Some(capabilities(true, &["NET_BIND_SERVICE", "CHOWN"], &["CHOWN"])),
            ..Security::default()
        };
        let bit = 1 << 10;
        let sets =
            [("CapInh", 0), ("CapPrm", bit), ("CapEff", bit), ("CapBnd", bit), ("CapAmb", 0)];
        assert_eq!(masks(&said(&bed, one.clone(), CAPS).await), sets);
        // As in Kubernetes, another user has none but what a file gives it.
        let other = Security { user: Some(65534), ..one };
        let sets = [("CapInh", 0), ("CapPrm", 0), ("CapEff", 0), ("CapBnd", bit), ("CapAmb", 0)];
        assert_eq!(masks(&said(&bed, other, CAPS).await), sets);
        let without = Security {
            capabilities: Some(capabilities(false, &[], &["SYS_ADMIN"])),
            ..Security::default()
        };
        let (all, admin) = (masks(&plain), 1 << 21);
        let left: Vec<_> = all.iter().map(|(name, mask)| (*name, mask & !admin)).collect();
        assert_eq!(masks(&said(&bed, without, CAPS).await), left);
        bed.is_clean();
    }
}

#[tokio::test]
async fn a_setuid_program_gains_no_more_than_is_left() {
    let Some(bed) = bed(false) else { return };
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let grep = directory.path().join("grep");
    fs::copy("/bin/grep", &grep).unwrap();
    fs::set_permissions(&grep, fs::Permissions::from_mode(0o4755)).unwrap();
    let script = format!("{} -E '^(Uid|CapEff)' /proc/self/status", grep.display());
    let nobody = Security { user: Some(65534), ..Security::default() };
    let free = said(&bed, nobody.clone(), &script).await;
    if !free[0].starts_with("Uid:\t65534\t0") {
        eprintln!("skipped: {} takes no setuid programs", directory.path().display());
        return;
    }
    let bounded = Security { capabilities: Some(capabilities(true, &[], &[])), ..nobody.clone() };
    let lines = said(&bed, bounded, &script).await;
    assert!(lines[0].starts_with("Uid:\t65534\t0"), "{lines:?}");
    assert_eq!(lines[1], "CapEff:\t0000000000000000");
    let lines = said(&bed, Security { no_new_privs: true, ..nobody }, &script).await;
    assert!(lines[0].starts_with("Uid:\t65534\t65534"), "{lines:?}");
}

#[tokio::test]
async fn what_the_agent_has_not_is_refused_by_name() {
    let Some(bed) = bed(false) else { return };
    let all = CapabilitySet(
        fs::read_to_string("/proc/self/status")
            .map(|status| {
                let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
                u64::from_str_radix(line, 16).unwrap()
            })
            .unwrap(),
    );
    let resource = CapabilitySet::named("SYS_RESOURCE").unwrap();
    if resource.within(all) {
        // A root that may do everything is refused nothing: there is no more to see.
        return;
    }
    let wants = capabilities(false, &["SYS_RESOURCE"], &[]);
    let why = refused(&bed, Security { capabilities: Some(wants), ..Security::default() }).await;
    assert!(why.contains("the agent has no capability SYS_RESOURCE to give"), "{why}");
    let Rlimits(rlimits) = "nofile=infinity".parse().unwrap();
    let why = refused(&bed, Security { rlimits, ..Security::default() }).await;
    assert!(why.contains("limit nofile: infinity is above the agent's own hard limit"), "{why}");
    bed.is_clean();
}

#[tokio::test]
async fn groups_are_those_asked_for_and_the_user_s() {
    let Some(bed) = bed(false) else { return };
    let groups = "grep ^Groups /proc/self/status";
    assert_eq!(said(&bed, Security::default(), groups).await, ["Groups:\t "], "none inherited");
    let of_daemon = Security { user: Some(1), groups: vec![7777, 8888], ..Security::default() };
    let lines = said(&bed, of_daemon.clone(), groups).await;
    assert!(lines[0].contains("7777 8888"), "{lines:?}");
    let strict = Security { strict_groups: true, ..of_daemon };
    assert_eq!(said(&bed, strict, groups).await, ["Groups:\t7777 8888 "]);
    bed.is_clean();
}

#[tokio::test]
async fn the_default_profile_lets_no_forbidden_call_through() {
    if !PathBuf::from("/usr/bin/perl").exists() || std::env::consts::ARCH != "x86_64" {
        eprintln!("skipped: the calls are made by /usr/bin/perl, with x86_64's numbers");
        return;
    }
    for old_kernel in [false, true] {
        let Some(bed) = bed(old_kernel) else { return };
        // Bad arguments: who may call is told EINVAL or EFAULT.
        let call = |name: &str, numbers: &str| {
            format!("perl -e 'print \"{name} \", syscall({numbers}) < 0 ? $!+0 : \"ok\", \"\\n\"';")
        };
        let script = [
            call("keyctl", "250, 99"),
            call("unshare", "272, 0x7fffffff"),
            call("mount", "165, 0, 0, 0, 0, 0"),
            call("personality", "135, 0x0040000"),
            call("clone3", "435, 0, 0"),
            call("io_uring_setup", "425, 0, 0"),
            call("chroot", "161, 0"),
            "grep ^Seccomp: /proc/self/status".to_owned(),
        ]
        .concat();
        let free = said(&bed, Security::default(), &script).await;
        assert_eq!(free.last().unwrap(), "Seccomp:\t0");
        assert!(!free.contains(&"keyctl 1".to_owned()), "{free:?}");
        let profile = |capabilities| Seccomp::RuntimeDefault(capabilities);
        for no_new_privs in [false, true] {
            let seccomp = profile(CapabilitySet::CONTAINER);
            let lines =
                said(&bed, Security { seccomp, no_new_privs, ..Security::default() }, &script)
                    .await;
            let expected = [
                "keyctl 1",
                "unshare 1",
                "mount 1",
                "personality 1",
                "clone3 38",
                "io_uring_setup 1",
                "chroot 14",
                "Seccomp:\t2",
            ];
            assert_eq!(lines, expected, "no_new_privs: {no_new_privs}");
        }
        // With no capability left at all the filter is there all the same.
        let least = Security {
            seccomp: profile(CapabilitySet(0)),
            capabilities: Some(capabilities(true, &[], &[])),
            user: Some(65534),
            ..Security::default()
        };
        let lines = said(&bed, least, &script).await;
        assert_eq!(lines[6..], ["chroot 1", "Seccomp:\t2"]);
        let with = Security { seccomp: profile(CapabilitySet::ALL), ..Security::default() };
        let lines = said(&bed, with, &script).await;
        assert_eq!(lines[..3], ["keyctl 1", "unshare 22", "mount 14"]);
        bed.is_clean();
    }
}

#[tokio::test]
async fn a_profile_of_the_node_is_followed_and_awaited() {
    let Some(bed) = bed(false) else { return };
    let seccomp = Seccomp::Localhost {
        profile: "own/no-mkdir.json".to_owned(),
        capabilities: CapabilitySet::CONTAINER,
    };
    let security = Security { seccomp, ..Security::default() };
    let mut machine = Machine::open(&bed).await;
    let main = ContainerSpec { security: security.clone(), ..shell("main", "true") };
    let error = machine.runtime.create(request("early", spec_of([main]))).await.unwrap_err();
    assert!(error.retry() && error.to_string().contains("cannot load seccomp profile"), "{error}");
    let profile = bed.seccomp_dir().join("own/no-mkdir.json");
    fs::create_dir_all(profile.parent().unwrap()).unwrap();
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    fs::write(&profile, text).unwrap();
    drop(machine);
    let script = "mkdir /tmp/x/y 2>&1 || echo refused";
    let lines = said(&bed, security.clone(), script).await;
    assert!(lines[0].ends_with("No space left on device") && lines[1] == "refused", "{lines:?}");
    fs::write(&profile, "{}").unwrap();
    machine = Machine::open(&bed).await;
    let main = ContainerSpec { security, ..shell("main", "true") };
    let error = machine.runtime.create(request("odd", spec_of([main]))).await.unwrap_err();
    assert!(error.to_string().contains("missing field `defaultAction`"), "{error}");
    drop(machine);
    bed.is_clean();
}

#[tokio::test]
async fn limits_are_as_asked_and_else_inherited() {
    let Some(bed) = bed(false) else { return };
    let script = "grep -E 'Max (open files|core|processes)' /proc/self/limits";
    let own = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
    let own: Vec<_> = String::from_utf8(own.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(said(&bed, Security::default(), script).await, own);
    let Rlimits(rlimits) = "nofile=77:88,core=0".parse().unwrap();
    let lines = said(&bed, Security { rlimits, ..Security::default() }, script).await;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&lines[0])[4..6], ["0", "0"]);
    assert_eq!(lines[1], own[1]);
    assert_eq!(words(&lines[2])[3..5], ["77", "88"]);
    bed.is_clean();
}

#[tokio::test]
async fn nothing_of_the_machine_is_written_under_a_read_only_root() {
    for old_kernel in [false, true] {
        let Some(bed) = bed(old_kernel) else { return };
        let directory = tempfile::tempdir().unwrap();
        let tries = |path: &str| {
            format!("if 2>&- >>{path}; then echo {path} written; else echo {path} refused; fi;")
        };
        let plain = directory.path().join("plain").display().to_string();
        // Nothing is written by opening; /sys and /proc have files that are there anyhow.
        let sys = fs::read_dir("/sys/kernel").unwrap().map(|entry| entry.unwrap().path());
        let sys = sys.filter(|path| path.ends_with("profiling") || path.ends_with("uevent_helper"));
        let sys = sys.last().map(|path| path.display().to_string());
        let paths = [
            plain.as_str(),
            "/usr/x",
            "/run/x",
            "/dev/null",
            "/dev/shm/everynode-test",
            "/proc/sys/kernel/core_pattern",
            "/proc/self/oom_score_adj",
        ];
        let script: String =
            paths.into_iter().map(tries).chain(sys.as_deref().map(tries)).collect();
        let script = script + "rm -f /dev/shm/everynode-test";
        let read_only = Security { read_only_root: true, ..Security::default() };
        let lines = said(&bed, read_only.clone(), &script).await;
        let words: Vec<&str> = lines.iter().map(|line| line.split_once(' ').unwrap().1).collect();
        let (no, yes) = ("refused", "written");
        assert_eq!(words[..7], [no, no, no, yes, yes, no, yes], "{lines:?}");
        assert_eq!(words.get(7), sys.as_ref().map(|_| &no), "{lines:?}");
        assert!(!directory.path().join("plain").exists());
        let privileged = Security { privileged: true, ..read_only };
        let lines = said(&bed, privileged, &script).await;
        let words: Vec<&str> = lines.iter().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(words[..7], [no, no, no, yes, yes, yes, yes], "{lines:?}");
        // Without the field, as ever.
        let lines = said(&bed, Security::default(), &tries(&plain)).await;
        assert!(lines[0].ends_with("written") && directory.path().join("plain").exists());
        bed.is_clean();
    }
}

#[tokio::test]
async fn volumes_are_written_under_a_read_only_root_and_nothing_comes_in_later() {
    let Some(bed) = bed(false) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (data, later) = (directory.path().join("data"), directory.path().join("later"));
    fs::create_dir(&data).unwrap();
    fs::create_dir(&later).unwrap();
    let script = format!(
        "echo x > {data}/x && mkdir {data}/ready; until [ -e {data}/go ]; do sleep 0.01; done; \
         2>&- >{later}/x && exit 1; exec sleep 100000",
        data = data.display(),
        later = later.display()
    );
    let mut main = shell("main", &script);
    main.security.read_only_root = true;
    main.mounts = vec![VolumeMount {
        volume: "data".into(),
        path: data.display().to_string(),
        ..VolumeMount::default()
    }];
    let mut spec = spec_of([main]);
    let source = VolumeSource::HostPath(data.display().to_string(), HostPathKind::default());
    spec.volumes = vec![Volume { name: "data".into(), source }];
    let mut machine = Machine::open(&bed).await;
    let pod = machine.create(request("volumes", spec)).await;
    let pid = machine.start(&pod, "main").await;
    bed::until(|| data.join("ready").exists()).await;
    let Some(disk) = bed::Mounted::tmpfs(&later) else { return };
    fs::write(data.join("go"), "").unwrap();
    let sleeps = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim() == "sleep";
    bed::until(sleeps).await;
    drop(disk);
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn without_a_field_a_process_is_as_root_s_shell_has_it() {
    let Some(bed) = bed(false) else { return };
    // What differs is who asks, and where.
    let script = "grep -vE '^(Name|Umask|State|Tgid|Ngid|Pid|PPid|NSpid|NSpgid|NSsid|NStgid|Vm|Rss|\
                  Threads|SigQ|voluntary|nonvoluntary|Groups|Kthread|HugetlbPages|Core|Cpus|Mems|FD|\
                  Sig|Shd|untag|THP|x86)' /proc/self/status; cat /proc/self/oom_score_adj; umask; \
                  nice; ulimit -a; \
                  for ns in mnt net pid ipc uts user cgroup; do readlink /proc/self/ns/$ns; done";
    let lines = said(&bed, Security::default(), script).await;
    let own =
        std::process::Command::new("sh").args(["-c", &format!("umask 022; {script}")]).output();
    let own = String::from_utf8(own.unwrap().stdout).unwrap();
    assert_eq!(lines, own.lines().collect::<Vec<_>>());
    bed.is_clean();
}
