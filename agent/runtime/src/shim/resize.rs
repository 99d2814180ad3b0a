//! Other limits for a pod that runs, written in one go by its supervisor: whoever asked may be gone
//! before it is done, and finds out from the account.
//!
//! ```text
//!   memory in use above a new limit? ── yes ──▶ refused, nothing is written
//!        │ no
//!        ▼
//!   the pod's limits that grow, each container's, the pod's that shrink ──▶ done: what starts from now
//!        │ one can't be written                                             on has them, too
//!        ▼
//!   what was is written back, last first ──▶ refused; in doubt where one of those can't be
//! ```
//!
//! So no container is ever held to more than its pod, as the kernel wants it, and nothing to less than
//! the weaker of what was and what comes.

use std::io;
use std::path::PathBuf;

use everynode_model::Reason;

use super::protocol::{IN_DOUBT, Message, ResizeWanted};
use super::{Shim, clock};
use crate::cgroup::Cgroup;
use crate::limits::{Setting, Share};
use crate::usage;

/// Why it was not done.
#[derive(Debug)]
struct Failed {
    why: String,
    /// Whether something could not be put back.
    in_doubt: bool,
}

/// One file of a cgroup, and what stands and is to stand in it.
struct Change {
    cgroup: Cgroup,
    file: String,
    from: String,
    to: String,
    weak: bool,
}

impl Shim {
    /// Holds what runs, and what will, to other limits.
    pub(super) fn resize(&mut self, wanted: ResizeWanted) -> Message {
        if self.terminating {
            return Message::refused(Reason::new("Terminating", "the pod is being ended"));
        }
        let known = |name: &String| self.containers.iter().position(|one| one.name() == name);
        let numbers: Vec<_> = wanted.containers.iter().map(|one| known(&one.name)).collect();
        if numbers.len() != self.containers.len() || numbers.contains(&None) {
            let line = "other containers than the pod has are to be limited";
            return Message::refused(Reason::new("ResizeError", line));
        }
        let leaves = numbers.iter().flatten().zip(&wanted.containers);
        let leaves = leaves.map(|(number, one)| (self.containers[*number].leaf(), &one.share));
        match write(&self.pod, &wanted.whole, leaves) {
            Ok(()) => {
                for (number, one) in numbers.into_iter().flatten().zip(wanted.containers) {
                    self.containers[number].limit(one.share, one.oom_score);
                }
                self.identity.set = wanted.set;
                self.identity.revision = wanted.revision;
                self.identity.replace = wanted.replace;
                self.limits_in_doubt = false;
                self.resized_at = Some(clock::boot());
                Message::Resized {}
            }
            Err(Failed { why, in_doubt }) => {
                self.limits_in_doubt |= in_doubt;
                let code = if in_doubt { IN_DOUBT } else { "ResizeError" };
                Message::refused(Reason::new(code, why))
            }
        }
    }
}

/// Brings a pod, and the containers in these leaves, to these limits, or leaves them as they were.
fn write<'a>(
    pod: &Cgroup,
    whole: &Share,
    leaves: impl Iterator<Item = (&'a Cgroup, &'a Share)>,
) -> Result<(), Failed> {
    let unread = |error: io::Error| Failed { why: error.to_string(), in_doubt: false };
    let (grow, shrink) = changes(pod, whole).map_err(unread)?;
    let mut all = grow;
    for (leaf, share) in leaves {
        let (grow, shrink) = changes(leaf, share).map_err(unread)?;
        all.extend(grow.into_iter().chain(shrink));
    }
    all.extend(shrink);
    match all.iter().find_map(Change::is_below_use) {
        Some(why) => Err(Failed { why, in_doubt: false }),
        None => write_all(&all),
    }
}

fn write_all(all: &[Change]) -> Result<(), Failed> {
    for (number, change) in all.iter().enumerate() {
        if let Err(error) = change.write(&change.to) {
            let path = change.path();
            let why = format!("{} can't be written to {}: {error}", change.to, path.display());
            let back = all[..number].iter().rev().map(|change| change.write(&change.from));
            // All of it is tried, whatever comes of one.
            let stuck: Vec<io::Error> = back.filter_map(Result::err).collect();
            return Err(match stuck.first() {
                Some(error) => {
                    let why = format!("{why}; and what was can't be put back: {error}");
                    Failed { why, in_doubt: true }
                }
                None => Failed { why, in_doubt: false },
            });
        }
    }
    Ok(())
}

/// What has to be written of a share: what grows, and what shrinks. Of memory with and without swap the
/// one may never be below the other, so what grows is written last file first.
fn changes(leaf: &Cgroup, share: &Share) -> io::Result<(Vec<Change>, Vec<Change>)> {
    let (mut grow, mut shrink) = (Vec::new(), Vec::new());
    let legacy = share.legacy.iter().map(|one| (Cgroup::at(&one.directory), &one.settings));
    for (cgroup, settings) in [(leaf.clone(), &share.leaf)].into_iter().chain(legacy) {
        // A container that never ran may have none yet; it is made with what holds it.
        if !cgroup.path().is_dir() {
            continue;
        }
        for setting in settings {
            match Change::of(&cgroup, setting) {
                Ok(Some(change)) if change.grows() => grow.push(change),
                Ok(Some(change)) => shrink.push(change),
                Ok(None) => {}
                Err(_) if setting.weak => {}
                Err(error) => return Err(at(cgroup.file(&setting.file), &error)),
            }
        }
    }
    grow.reverse();
    Ok((grow, shrink))
}

impl Change {
    /// `None` where that stands there already.
    fn of(cgroup: &Cgroup, Setting { file, value, weak }: &Setting) -> io::Result<Option<Self>> {
        let from = std::fs::read_to_string(cgroup.file(file))?.trim().to_owned();
        let (file, to) = (file.clone(), value.clone());
        let change = Self { cgroup: cgroup.clone(), file, from, to, weak: *weak };
        Ok((amount(&change.from) != amount(&change.to)).then_some(change))
    }

    fn grows(&self) -> bool {
        amount(&self.from) < amount(&self.to)
    }

    fn path(&self) -> PathBuf {
        self.cgroup.file(&self.file)
    }

    fn write(&self, value: &str) -> io::Result<()> {
        match self.cgroup.write(&self.file, value) {
            Err(error) if !self.weak => Err(at(self.path(), &error)),
            _ => Ok(()),
        }
    }

    /// Where the kernel would kill to bring it down to a limit of memory; what it would give back
    /// unasked does not count, as with the kubelet.
    fn is_below_use(&self) -> Option<String> {
        if !["memory.max", "memory.limit_in_bytes"].contains(&self.file.as_str()) || self.grows() {
            return None;
        }
        let (limit, uses) = (amount(&self.to)?, usage::in_use(self.cgroup.path())?);
        let name = self.cgroup.path().file_name().unwrap_or_default().to_string_lossy();
        let whose = match name.strip_prefix("c-") {
            Some(container) => format!("container {container:?}"),
            None => "the pod".to_owned(),
        };
        let line =
            || format!("the memory limit of {whose} would be {limit}, below its use, {uses}");
        (uses > limit).then(line)
    }
}

/// A limit as a number, of which none is the largest; the first of two is what counts.
fn amount(text: &str) -> Option<u64> {
    match text.split_whitespace().next()? {
        "max" | "-1" => Some(u64::MAX),
        // v1 shows none as the largest multiple of a page.
        number => number.parse().ok().map(|it| if it >= 1 << 62 { u64::MAX } else { it }),
    }
}

fn at(path: PathBuf, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::limits::Legacy;

    fn setting(file: &str, value: &str, weak: bool) -> Setting {
        Setting { file: file.into(), value: value.into(), weak }
    }

    fn share(settings: &[(&str, &str)]) -> Share {
        let leaf = settings.iter().map(|(file, value)| setting(file, value, false)).collect();
        Share { leaf, legacy: Vec::new() }
    }

    fn cgroup(directory: &std::path::Path, files: &[(&str, &str)]) -> Cgroup {
        fs::create_dir_all(directory).unwrap();
        files.iter().for_each(|(file, text)| fs::write(directory.join(file), text).unwrap());
        Cgroup::at(directory)
    }

    fn order(pod: &Cgroup, whole: &Share, leaf: &Cgroup, own: &Share) -> Vec<String> {
        let (grow, shrink) = changes(pod, whole).unwrap();
        let (more, less) = changes(leaf, own).unwrap();
        let all = grow.into_iter().chain(more).chain(less).chain(shrink);
        let name = |change: &Change| change.path().strip_prefix(pod.path()).unwrap().to_owned();
        all.map(|change| format!("{}={}", name(&change).display(), change.to)).collect()
    }

    #[test]
    fn a_pod_grows_before_its_containers_and_shrinks_after_them() {
        let directory = tempfile::tempdir().unwrap();
        let files = [("cpu.max", "max 100000\n"), ("memory.max", "100\n"), ("pids.max", "5\n")];
        let pod = cgroup(directory.path(), &files);
        let leaf = cgroup(&directory.path().join("c-a"), &files);
        let to = share(&[("cpu.max", "5000 100000"), ("memory.max", "200"), ("pids.max", "5")]);
        let expected = [
            "memory.max=200",
            "c-a/memory.max=200",
            "c-a/cpu.max=5000 100000",
            "cpu.max=5000 100000",
        ];
        assert_eq!(order(&pod, &to, &leaf, &to), expected);
    }

    #[test]
    fn with_swap_is_never_below_without() {
        let directory = tempfile::tempdir().unwrap();
        let files = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"];
        let none = "9223372036854771712";
        let of = |value: &str| {
            let settings = files.iter().map(|file| setting(file, value, true)).collect();
            let legacy = Legacy { directory: directory.path().to_owned(), settings };
            Share { leaf: Vec::new(), legacy: vec![legacy] }
        };
        for (from, to, expected) in [("100", "200", [1, 0]), (none, "200", [0, 1])] {
            files.iter().for_each(|file| fs::write(directory.path().join(file), from).unwrap());
            let (grow, shrink) = changes(&Cgroup::at("/nowhere"), &of(to)).unwrap();
            let written: Vec<_> = grow.iter().chain(&shrink).map(|it| it.file.as_str()).collect();
            assert_eq!(written, expected.map(|number| files[number]), "{from} to {to}");
        }
        fs::write(directory.path().join(files[0]), none).unwrap();
        fs::write(directory.path().join(files[1]), none).unwrap();
        let (grow, shrink) = changes(&Cgroup::at("/nowhere"), &of("-1")).unwrap();
        assert!(grow.is_empty() && shrink.is_empty(), "none is none, however it is written");
    }

    #[test]
    fn below_what_is_in_use_nothing_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let stat = ("memory.stat", "inactive_file 40\n");
        let files = [("memory.max", "99"), ("memory.current", "100"), stat, ("pids.max", "9")];
        let leaf = cgroup(&directory.path().join("c-a"), &files);
        let pod = cgroup(directory.path(), &[]);
        let to = |bytes: &str| share(&[("pids.max", "3"), ("memory.max", bytes)]);
        let written = |share: &Share| {
            let outcome = write(&pod, &Share::default(), [(&leaf, share)].into_iter());
            outcome.map_err(|failed| (failed.why, failed.in_doubt))
        };
        let line = "the memory limit of container \"a\" would be 59, below its use, 60";
        assert_eq!(written(&to("59")), Err((line.to_owned(), false)));
        assert_eq!(fs::read_to_string(leaf.file("pids.max")).unwrap(), "9");
        assert_eq!(written(&to("60")), Ok(()));
        assert_eq!(fs::read_to_string(leaf.file("memory.max")).unwrap(), "60");
    }

    #[test]
    fn what_cannot_be_done_is_undone() {
        if rustix::process::geteuid().is_root() {
            // Root may write anything, but not where nothing is.
            let directory = tempfile::tempdir().unwrap();
            let pod = cgroup(directory.path(), &[("pids.max", "5")]);
            let change = |file: &str, from: &str| Change {
                cgroup: pod.clone(),
                file: file.into(),
                from: from.into(),
                to: "7".into(),
                weak: false,
            };
            let all = [change("pids.max", "5"), change("gone", "1")];
            let failed = write_all(&all).unwrap_err();
            assert!(!failed.in_doubt && failed.why.contains("gone"), "{failed:?}");
            assert_eq!(fs::read_to_string(pod.file("pids.max")).unwrap(), "5");
        } else {
            let directory = tempfile::tempdir().unwrap();
            let pod = cgroup(directory.path(), &[("pids.max", "5"), ("memory.max", "5")]);
            let mode = fs::Permissions::from_mode(0o400);
            fs::set_permissions(pod.file("memory.max"), mode).unwrap();
            let to = share(&[("memory.max", "7"), ("pids.max", "7")]);
            let failed = write(&pod, &to, std::iter::empty()).unwrap_err();
            assert!(!failed.in_doubt, "{failed:?}");
            assert_eq!(fs::read_to_string(pod.file("pids.max")).unwrap(), "5");
        }
    }
}
