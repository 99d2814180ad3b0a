//! What a pod has on the machine's disk, as `du` counts it: read from the run directory alone, of pods
//! that live and of dead ones. Asks no supervisor, takes no lock, changes nothing.
//!
//! ```text
//!   RUN-DIR/POD-UID/logs/CONTAINER.log…    what a container has: all files of its runs
//!   RUN-DIR/POD-UID/volumes/NAME/…         what is in an emptyDir on disk
//! ```
//!
//! Counted are blocks that are taken, of files and of directories; what has several links is counted
//! once. Links are not followed and mounts not entered, so that nothing outside is ever counted. A file
//! that is deleted and still open has no name any more: nobody sees it here, and no kubelet does.
//!
//! A walk holds one descriptor, however deep it is, and rests as long as it works.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fs::{self, DirEntry};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use everynode_agent_core::StorageUse;
use everynode_model::PodUid;
use rustix::fs::{AtFlags, CWD, FileType, RawDir, SeekFrom, Stat};
use rustix::io::Errno;

use crate::logs::logs_of;
use crate::process::tree::open;
use crate::shim::VOLUMES;

/// What is read of a directory at a time, in bytes: some forty names. After each directory in it, it is
/// read again from there.
const AT_ONCE: usize = 4096;

/// After so many entries it is looked at how long they took.
const BETWEEN_RESTS: u32 = 1000;

/// Files with several links of which it is remembered that they were counted: half a MiB of numbers.
/// Each link of further ones counts as its share.
const MOST_LINKED: usize = 1 << 16;

/// How deep directories may be in one another: some MiB to find the way back. What is deeper is not
/// counted.
const DEEPEST: usize = 1 << 17;

/// What a pod has; nothing where it has no directory. What can't be read is not counted.
///
/// # Errors
/// When the pod's own directories can't be read.
pub fn storage(run_dir: &Path, pod: PodUid) -> io::Result<StorageUse> {
    let mut used = StorageUse::default();
    for (name, path) in entries(&logs_of(run_dir, pod))? {
        // Names of containers are DNS labels.
        let container = name.split('.').next().unwrap_or_default().to_owned();
        let bytes = fs::symlink_metadata(path).map_or(0, |found| bytes(found.blocks()));
        let sum = used.containers.entry(container).or_default();
        *sum = sum.saturating_add(bytes);
    }
    for (name, path) in entries(&run_dir.join(pod.to_string()).join(VOLUMES))? {
        used.volumes.insert(name, usage_of(&path)?);
    }
    Ok(used)
}

/// What is in a directory, by name; nothing where it is not.
fn entries(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let named = |entry: DirEntry| (entry.file_name().to_string_lossy().into_owned(), entry.path());
    entries.map(|entry| entry.map(named)).collect()
}

/// Blocks of stat(2) are of 512 bytes, whatever the file system has.
fn bytes(blocks: u64) -> u64 {
    blocks.saturating_mul(512)
}

/// A directory with all that is in it.
fn usage_of(directory: &Path) -> io::Result<u64> {
    let root = open(CWD, &CString::new(directory.as_os_str().as_encoded_bytes())?, None)?;
    let found = rustix::fs::fstat(&root)?;
    let device = found.st_dev;
    let mut walk =
        Walk { device, total: 0, linked: HashSet::new(), above: Vec::new(), pace: Pace::new() };
    walk.count(&found);
    walk.all(root)?;
    Ok(walk.total)
}

struct Walk {
    device: u64,
    total: u64,
    /// The files with several links that were counted, by inode: all are on one device.
    linked: HashSet<u64>,
    above: Vec<Above>,
    pace: Pace,
}

/// A directory that is gone on with after one in it.
struct Above {
    inode: u64,
    /// Where in it.
    next: u64,
}

/// What comes after some entries of a directory.
enum Next {
    /// One in it, and where to go on afterwards.
    Below(OwnedFd, u64),
    /// Nothing: it was read to its end.
    End,
}

impl Walk {
    fn all(&mut self, root: OwnedFd) -> io::Result<()> {
        let mut at = root;
        loop {
            match self.read(&at)? {
                Next::Below(child, next) => {
                    let inode = rustix::fs::fstat(&at)?.st_ino;
                    self.above.push(Above { inode, next });
                    at = child;
                }
                Next::End => {
                    let Some(Above { inode, next }) = self.above.pop() else { return Ok(()) };
                    let parent = open(at.as_fd(), c"..", None)?;
                    let found = rustix::fs::fstat(&parent)?;
                    if (found.st_dev, found.st_ino) != (self.device, inode) {
                        // Moved elsewhere meanwhile, where nothing is counted: the next walk sees it.
                        return Ok(());
                    }
                    rustix::fs::seek(&parent, SeekFrom::Start(next))?;
                    at = parent;
                }
            }
        }
    }

    /// Counts what is in a directory, from where it was left to the next directory in it.
    fn read(&mut self, directory: &OwnedFd) -> io::Result<Next> {
        let mut buffer = [MaybeUninit::uninit(); AT_ONCE];
        let mut entries = RawDir::new(directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                // It was removed.
                Err(Errno::NOENT) => break,
                entry => entry?,
            };
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            self.pace.rest();
            if let Some(child) = self.entry(directory, name) {
                return Ok(Next::Below(child, entry.next_entry_cookie()));
            }
        }
        Ok(Next::End)
    }

    /// Counts one; a directory that is to be read is given back.
    fn entry(&mut self, directory: &OwnedFd, name: &CStr) -> Option<OwnedFd> {
        let found = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if found.st_dev != self.device {
            return None;
        }
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            self.count(&found);
            return None;
        }
        // Not what is mounted here, of the same file system, either.
        let child = open(directory.as_fd(), name, Some(self.device));
        match child {
            Err(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => return None,
            _ => self.count(&found),
        }
        child.ok().filter(|_| self.above.len() < DEEPEST)
    }

    #[allow(clippy::useless_conversion, reason = "numbers of links are shorter on some processors")]
    fn count(&mut self, found: &Stat) {
        let all = bytes(u64::try_from(found.st_blocks).unwrap_or_default());
        let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        let bytes = match u64::from(found.st_nlink) {
            0 | 1 => all,
            // Those in it link to it.
            _ if is_directory => all,
            _ if self.linked.contains(&found.st_ino) => 0,
            links if self.linked.len() >= MOST_LINKED => all / links,
            _ => {
                self.linked.insert(found.st_ino);
                all
            }
        };
        self.total = self.total.saturating_add(bytes);
    }
}

/// Works half of the time, so that a walk through millions of files leaves the disk to others.
struct Pace {
    entries: u32,
    since: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { entries: 0, since: Instant::now() }
    }

    /// Before each entry.
    #[expect(clippy::disallowed_methods, reason = "whoever walks does so on a thread of its own")]
    fn rest(&mut self) {
        self.entries += 1;
        if self.entries >= BETWEEN_RESTS {
            thread::sleep(self.since.elapsed());
            *self = Self::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{Mode, OFlags};

    use super::*;

    fn write(path: PathBuf, kib: usize) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, vec![7; kib << 10]).unwrap();
        // Some file systems say how many blocks there are only when they are written.
        fs::File::open(path).unwrap().sync_all().unwrap();
    }

    fn du(path: &Path) -> u64 {
        let out = std::process::Command::new("du").args(["-sx", "-B1"]).arg(path).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn logs_are_their_containers_and_volumes_apart() {
        let run = tempfile::tempdir().unwrap();
        let pod = PodUid::new(uuid::Uuid::from_u128(5));
        let own = run.path().join(pod.to_string());
        assert_eq!(storage(run.path(), pod).unwrap(), StorageUse::default());
        for (file, kib) in [("a.log", 8), ("a.log.2", 4), ("a.log.previous.1", 4), ("b.log", 4)] {
            write(own.join("logs").join(file), kib);
        }
        write(own.join("volumes/cache/x/y"), 64);
        fs::create_dir(own.join("volumes/empty")).unwrap();
        write(own.join("spec"), 100);
        let used = storage(run.path(), pod).unwrap();
        assert_eq!(used.containers, [("a".to_owned(), 16 << 10), ("b".to_owned(), 4 << 10)].into());
        for name in ["cache", "empty"] {
            assert_eq!(used.volumes[name], du(&own.join("volumes").join(name)), "{name}");
        }
        assert!(used.volumes["cache"] >= 64 << 10 && used.volumes.len() == 2, "{used:?}");
    }

    #[test]
    fn it_is_what_du_says_whatever_is_there() {
        let place = tempfile::tempdir().unwrap();
        let (pod, other) = (place.path().join("pod"), place.path().join("other"));
        write(other.join("large"), 1024);
        write(pod.join("a/b/c"), 100);
        fs::hard_link(pod.join("a/b/c"), pod.join("a/again")).unwrap();
        fs::hard_link(pod.join("a/b/c"), pod.join("third")).unwrap();
        symlink(&other, pod.join("a/link")).unwrap();
        symlink("..", pod.join("a/up")).unwrap();
        // Of a terabyte, all but one block is a hole.
        let sparse = fs::File::create(pod.join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        // More than is read at once, with directories in between.
        for n in 0..500 {
            write(pod.join(format!("many/{n}-file")), 1);
            fs::create_dir(pod.join(format!("many/{n}-directory"))).unwrap();
            write(pod.join(format!("many/{n}-directory/file")), 1);
        }
        assert_eq!(usage_of(&pod).unwrap(), du(&pod));
    }

    #[test]
    fn no_depth_takes_more_than_a_descriptor() {
        let place = tempfile::tempdir().unwrap();
        let mut at =
            open(CWD, &CString::new(place.path().to_str().unwrap()).unwrap(), None).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "deep", Mode::RWXU).unwrap();
            at = open(at.as_fd(), c"deep", None).unwrap();
        }
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let file = rustix::fs::openat(&at, "file", flags, Mode::RWXU).unwrap();
        rustix::io::write(&file, &[7; 100 << 10]).unwrap();
        rustix::fs::fsync(&file).unwrap();
        let (file, directory) =
            (rustix::fs::fstat(&file).unwrap(), rustix::fs::fstat(&at).unwrap());
        let all = file.st_blocks + 3001 * directory.st_blocks;
        assert_eq!(usage_of(place.path()).unwrap(), bytes(all.try_into().unwrap()));
    }

    #[test]
    fn what_is_mounted_is_not_counted() {
        use rustix::mount::{UnmountFlags, mount_bind, unmount};
        let place = tempfile::tempdir().unwrap();
        let (pod, other) = (place.path().join("pod"), place.path().join("other"));
        write(other.join("large"), 1024);
        fs::create_dir_all(pod.join("mounted")).unwrap();
        if let Err(error) = mount_bind(&other, pod.join("mounted")) {
            println!("skipped: nothing can be mounted: {error}");
            return;
        }
        let used = usage_of(&pod);
        unmount(pod.join("mounted"), UnmountFlags::DETACH).unwrap();
        assert!(used.unwrap() < 512 << 10);
    }
}
