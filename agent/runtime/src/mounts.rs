//! Where the cgroup v2 hierarchy is mounted, alone or beside v1 in a hybrid set-up; and where v1
//! has kept a controller.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::MachineError;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// A cgroup2 mount of this process' mount namespace: of the whole hierarchy where there is one, and
/// else of the part that was given to this one.
///
/// # Errors
/// When there is none, or `/proc` can't be read.
pub(crate) fn cgroup2() -> Result<PathBuf, MachineError> {
    let mountinfo = read().map_err(|source| MachineError::io(MOUNTINFO, source))?;
    find(&mountinfo).ok_or(MachineError::NoCgroup2)
}

/// The mounts of this process' mount namespace.
pub(crate) fn read() -> std::io::Result<Vec<u8>> {
    std::fs::read(MOUNTINFO)
}

/// Where anything is mounted in this process' mount namespace, and whether it can be written there;
/// of several at one path the last is on top.
pub(crate) fn all() -> std::io::Result<Vec<(PathBuf, bool)>> {
    Ok(places(&read()?))
}

/// What is mounted below a directory, of this process' mount namespace, in the order of mounting.
pub(crate) fn below(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let paths = all()?.into_iter().map(|(path, _)| path);
    Ok(paths.filter(|path| path != directory && path.starts_with(directory)).collect())
}

/// proc_pid_mountinfo(5): where is the fifth field, the mount's own options the sixth.
fn places(mountinfo: &[u8]) -> Vec<(PathBuf, bool)> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let place = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ').skip(4);
        let path = std::ffi::OsString::from_vec(unescape(fields.next()?));
        let writable = fields.next()?.split(|byte| *byte == b',').any(|option| option == b"rw");
        Some((PathBuf::from(path), writable))
    };
    lines.filter_map(place).collect()
}

/// Where a v1 hierarchy with this controller is mounted.
pub(crate) fn legacy(mountinfo: &[u8], controller: &str) -> Option<PathBuf> {
    let wanted = controller.as_bytes();
    let has = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == wanted);
    find_mount(mountinfo, b"cgroup", has)
}

/// The directory in the hierarchy mounted at `to` of the same name as `cgroup` in the one at `from`.
pub(crate) fn mirror(to: &Path, from: &Path, cgroup: &Path) -> Option<PathBuf> {
    Some(to.join(cgroup.strip_prefix(from).ok()?))
}

fn find(mountinfo: &[u8]) -> Option<PathBuf> {
    find_mount(mountinfo, b"cgroup2", |_| true)
}

/// proc_pid_mountinfo(5): what is mounted is the fourth field, where the fifth, the type the one
/// after ` - `, the file system's own options the third after it.
fn find_mount(mountinfo: &[u8], of_type: &[u8], has: impl Fn(&[u8]) -> bool) -> Option<PathBuf> {
    let mounts = mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
        let options = fields.get(dash + 3).copied().unwrap_or_default();
        let is_wanted = fields.get(dash + 1) == Some(&of_type) && has(options);
        is_wanted.then(|| (fields[3] != b"/", fields[4]))
    });
    // The first of equals; `false` is less.
    let (_, path) = mounts.min_by_key(|(is_part, _)| *is_part)?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(unescape(path))))
}

/// Blanks, tabs, newlines and backslashes stand as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => out.push(*first),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_of_v1_is_found_by_its_name_alone_or_among_others() {
        let hybrid = b"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            33 31 0:30 / /sys/fs/cgroup/cpuset rw shared:3 - cgroup cgroup rw,cpuset\n\
            35 31 0:32 /docker/x /sys/fs/cgroup/part rw - cgroup cgroup rw,memory\n\
            36 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(legacy(hybrid, "cpu"), Some("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert_eq!(legacy(hybrid, "memory"), Some("/sys/fs/cgroup/memory".into()));
        assert_eq!(legacy(hybrid, "pids"), None);
    }

    #[test]
    fn every_place_is_writable_or_not() {
        let text = b"31 23 0:28 / / rw,relatime - ext4 /dev/vda rw\n\
            32 31 0:29 / /a\\040b ro,rw-odd shared:9 - tmpfs tmpfs rw\n";
        assert_eq!(places(text), [(PathBuf::from("/"), true), (PathBuf::from("/a b"), false)]);
    }

    #[test]
    fn found_alone_beside_v1_and_under_odd_names() {
        let hybrid = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw shared:9 master:2 - cgroup2 cgroup2 rw\n";
        assert_eq!(find(hybrid), Some("/sys/fs/cgroup/unified".into()));
        let odd = b"41 31 0:38 / /a\\040b\\134c rw - cgroup2 none rw";
        assert_eq!(find(odd), Some("/a b\\c".into()));
        let part = b"41 31 0:38 /kubepods/x /srv/part rw - cgroup2 none rw\n\
            42 31 0:38 / /sys/fs/cgroup rw - cgroup2 none rw";
        assert_eq!(find(part), Some("/sys/fs/cgroup".into()));
        let alone = part.split(|byte| *byte == b'\n').next().unwrap();
        assert_eq!(find(alone), Some("/srv/part".into()));
        assert_eq!(find(b"1 2 0:3 / /sys/fs/cgroup rw - cgroup cgroup2 rw\n\n"), None);
    }
}
