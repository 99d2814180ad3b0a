//! The machine: kernel, cgroups, user, clock, name.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use everynode_model::NodeName;
use everynode_runtime::{
    Capabilities, Controller, MachineError, lowers_oom_scores, makes_namespaces,
};

use super::Line;

/// 2026-01-01T00:00:00Z. This program is younger, so a clock before that is wrong.
const FIRST_PLAUSIBLE: u64 = 1_767_225_600;
/// Without `cgroup.freeze` and waiting by pidfd no death can be proved.
const OLDEST_KERNEL: (u32, u32) = (5, 4);

pub(super) fn lines(cgroup_root: &Path, node: Option<&NodeName>) -> Vec<Line> {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy().into_owned();
    let host = system.nodename().to_string_lossy().into_owned();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut lines = vec![kernel(&release)];
    lines.extend(cgroups(everynode_runtime::probe(cgroup_root)));
    let rights = [namespaces(makes_namespaces()), scores(lowers_oom_scores())];
    lines.extend(rights);
    lines.extend([user(), clock(seconds), name(&host, node)]);
    lines
}

fn kernel(release: &str) -> Line {
    const NAME: &str = "kernel";
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let version = (numbers.next().and_then(Result::ok), numbers.next().and_then(Result::ok));
    match version {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST_KERNEL => {
            Line::pass(NAME, format!("Linux {release}"))
        }
        (Some(_), Some(_)) => Line::fail(
            NAME,
            format!("Linux {release} can't stop processes for certain: 5.4 or newer is needed"),
        ),
        _ => Line::warn(NAME, format!("{release:?} is no version of Linux that can be read")),
    }
}

fn cgroups(found: Result<Capabilities, MachineError>) -> Vec<Line> {
    let found = match found {
        Ok(found) => found,
        Err(error @ MachineError::NoCgroup2) => {
            return vec![Line::fail("cgroup v2", error.to_string())];
        }
        Err(error) => return vec![Line::fail("cgroup root", error.to_string())],
    };
    let stop = match found.cgroup_kill {
        true => "cgroup.kill",
        false => "freeze, kill and thaw (before Linux 5.14)",
    };
    let start = match found.clone_into_cgroup {
        true => "clone3",
        false => "moved before exec (before Linux 5.7)",
    };
    vec![
        Line::pass("cgroup v2", found.mount.display().to_string()),
        Line::pass("cgroup root", format!("{} is delegated and writable", found.root.display())),
        agents(&found.root),
        Line::pass("forced stop", stop),
        Line::pass("start in a cgroup", start),
        limits(&found.limits),
    ]
}

/// Whether another agent manages the root; one of this data directory is told there, too.
fn agents(root: &Path) -> Line {
    const NAME: &str = "cgroup root's lock";
    match File::open(root).map(|root| root.try_lock()) {
        Ok(Ok(())) => Line::pass(NAME, "free: no agent runs with this cgroup root"),
        Ok(Err(TryLockError::WouldBlock)) => {
            Line::pass(NAME, "held: an agent runs with this cgroup root, and only one may")
        }
        Ok(Err(TryLockError::Error(error))) | Err(error) => {
            Line::warn(NAME, format!("{}: {error}", root.display()))
        }
    }
}

/// What enforces limits: a pod that requires one runs only where it is enforced, every other all the
/// same.
fn limits(found: &BTreeMap<Controller, Result<PathBuf, String>>) -> Line {
    const NAME: &str = "limits";
    let word = |(controller, home): (&Controller, &Result<PathBuf, String>)| match home {
        Ok(mount) => format!("{controller} by {}", mount.display()),
        Err(why) => format!("{controller} not enforced: {why}"),
    };
    let measured = "ephemeral-storage measured every 10 s".to_owned();
    let line = found.iter().map(word).chain([measured]).collect::<Vec<_>>().join("; ");
    // Huge pages are for the few who have set some aside.
    let lacks = |(controller, home): (&Controller, &Result<PathBuf, String>)| {
        home.is_err() && *controller != Controller::Hugetlb
    };
    match found.iter().any(lacks) {
        true => Line::warn(NAME, line),
        false => Line::pass(NAME, line),
    }
}

fn namespaces(can: bool) -> Line {
    const NAME: &str = "namespaces";
    match can {
        true => Line::pass(NAME, "network, IPC and process ids of a pod's own"),
        false => Line::warn(
            NAME,
            "none of a pod's own without CAP_SYS_ADMIN and CAP_NET_ADMIN: only pods run that say \
             hostNetwork, hostIPC and hostPID: true",
        ),
    }
}

/// Who is not promised it may still be killed later than others: nothing is refused for that.
fn scores(can_lower: bool) -> Line {
    const NAME: &str = "oom_score_adj";
    match can_lower {
        true => Line::pass(NAME, "by each pod's class of service"),
        false => Line::warn(
            NAME,
            "only raised, for want of CAP_SYS_RESOURCE: pods of the class Guaranteed are killed as \
             soon as the agent would be",
        ),
    }
}

fn user() -> Line {
    match rustix::process::geteuid().as_raw() {
        0 => Line::pass("user", "root: pods may run as any user"),
        uid => Line::pass("user", format!("uid {uid}: pods run as this user only")),
    }
}

fn clock(seconds: u64) -> Line {
    const NAME: &str = "clock";
    let millis = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
    let date = everynode_agent_core::rfc3339(everynode_model::WallTime::from_unix_millis(millis));
    match seconds >= FIRST_PLAUSIBLE {
        true => Line::pass(NAME, date),
        false => Line::warn(
            NAME,
            format!(
                "{date} can't be right: certificates are believed without their dates until it \
                 is set (timedatectl set-ntp true)"
            ),
        ),
    }
}

fn name(host: &str, node: Option<&NodeName>) -> Line {
    const NAME: &str = "node name";
    match (node, NodeName::new(&host.to_lowercase())) {
        (Some(node), _) => Line::pass(NAME, format!("{node}, as it has joined")),
        (None, Ok(name)) => Line::pass(NAME, format!("{name}, the host's")),
        (None, Err(error)) => Line::warn(
            NAME,
            format!("the host's name {host:?} can't be a node's ({error}): join with --node-name"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let verdict = |release| kernel(release).verdict;
        for fine in ["5.4.0-x", "5.10.0", "6.1.0-18-amd64", "10.0"] {
            assert_eq!(verdict(fine), Verdict::Pass, "{fine}");
        }
        assert_eq!(verdict("5.3.18"), Verdict::Fail);
        assert_eq!(verdict("4.19.0"), Verdict::Fail);
        assert_eq!(verdict("next"), Verdict::Warn);
    }

    #[test]
    fn an_odd_clock_or_name_warns_and_says_what_to_do() {
        assert_eq!(clock(FIRST_PLAUSIBLE).verdict, Verdict::Pass);
        let odd = clock(5);
        assert_eq!(odd.verdict, Verdict::Warn);
        assert!(odd.detail.starts_with("1970-01-01T00:00:05Z"), "{}", odd.detail);
        assert_eq!(name("Host-1", None).detail, "host-1, the host's");
        assert!(name("my_host", None).detail.contains("--node-name"));
        let node = NodeName::new("n").unwrap();
        assert_eq!(name("my_host", Some(&node)).verdict, Verdict::Pass);
    }

    #[test]
    fn a_limit_that_nothing_enforces_warns() {
        let line = |missing| {
            let home = |one| match one == missing {
                true => (one, Err("nowhere".to_owned())),
                false => (one, Ok(PathBuf::from("/m"))),
            };
            limits(&[Controller::Memory, Controller::Hugetlb].map(home).into())
        };
        assert_eq!(
            line(Controller::Pids).detail,
            "memory by /m; hugetlb by /m; ephemeral-storage measured every 10 s"
        );
        assert_eq!(line(Controller::Hugetlb).verdict, Verdict::Pass);
        let warned = line(Controller::Memory);
        assert_eq!(warned.verdict, Verdict::Warn);
        assert!(warned.detail.starts_with("memory not enforced: nowhere; hugetlb by /m; "));
    }

    #[test]
    fn what_is_missing_is_named() {
        let lines = cgroups(Err(MachineError::NoCgroup2));
        assert_eq!((lines[0].name, lines[0].verdict), ("cgroup v2", Verdict::Fail));
        assert!(lines[0].detail.contains("mount -t cgroup2"));
    }
}
