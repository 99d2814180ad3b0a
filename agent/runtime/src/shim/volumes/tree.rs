//! Mounts by descriptor: no path is looked up twice, so none can be changed in between.
//!
//! Needs the calls of Linux 5.2 (`open_tree`, `move_mount`, `fsopen`); what came with 5.12
//! (`mount_setattr`) is done the old way before it.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags,
};

use crate::sys;

/// How much shared memory a pod may have: containerd's number.
const SHARED_MEMORY: u64 = 64 * 1024 * 1024;

/// What such a file system is not for, as in the container runtimes.
const PLAIN: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// A mount, with all that is mounted below it.
pub(super) struct Tree(OwnedFd);

impl Tree {
    /// A copy of what is at a descriptor, which is nowhere yet. The descriptor's mount must be of
    /// the present namespace.
    pub(super) fn of(place: BorrowedFd<'_>) -> io::Result<Self> {
        Self::copy(place, OpenTreeFlags::AT_RECURSIVE)
    }

    /// The same without what is mounted there or below.
    pub(super) fn alone(place: BorrowedFd<'_>) -> io::Result<Self> {
        Self::copy(place, OpenTreeFlags::empty())
    }

    fn copy(place: BorrowedFd<'_>, more: OpenTreeFlags) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        Ok(Self(rustix::mount::open_tree(place, "", flags | more)?))
    }

    /// A new file system in memory that anybody may write to, of so many bytes at most; half of the
    /// machine's memory without a number.
    pub(super) fn in_memory(size: Option<u64>) -> io::Result<Self> {
        let context = tmpfs("0777", size)?;
        // Since Linux 6.4: then secrets are never swapped out.
        let _ = rustix::mount::fsconfig_set_flag(context.as_fd(), "noswap");
        Self::create(&context, MountAttrFlags::empty())
    }

    /// A new `/dev/shm`, as containerd makes it.
    pub(super) fn shared_memory() -> io::Result<Self> {
        Self::create(&tmpfs("1777", Some(SHARED_MEMORY))?, PLAIN)
    }

    /// A file system that shows what the kernel knows of this process' namespaces: `sysfs`, `mqueue`.
    pub(super) fn of_kernel(kind: &str) -> io::Result<Self> {
        Self::create(&rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?, PLAIN)
    }

    fn create(context: &OwnedFd, attributes: MountAttrFlags) -> io::Result<Self> {
        rustix::mount::fsconfig_create(context.as_fd())?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        Ok(Self(rustix::mount::fsmount(context.as_fd(), flags, attributes)?))
    }

    /// Mounts it over `target`.
    pub(super) fn attach(&self, target: BorrowedFd<'_>) -> io::Result<()> {
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(rustix::mount::move_mount(self.0.as_fd(), "", target, "", flags)?)
    }

    /// Once it is attached: nobody writes there any more, nor, with `all`, to what is mounted
    /// below.
    pub(super) fn make_read_only(&self, all: bool) -> io::Result<()> {
        match sys::set_read_only(self.0.as_fd(), all) {
            Err(error) if is_unknown(&error) && !all => {
                // Flags that are not named again would be gone.
                let flags = self.flags()? | MountFlags::BIND | MountFlags::RDONLY;
                Ok(rustix::mount::mount_remount(self.path(), flags, "")?)
            }
            outcome => outcome,
        }
    }

    /// Once it is attached.
    pub(super) fn set_propagation(&self, to: MountPropagationFlags) -> io::Result<()> {
        match sys::set_propagation(self.0.as_fd(), to) {
            Err(error) if is_unknown(&error) => {
                let to = to | MountPropagationFlags::REC;
                Ok(rustix::mount::mount_change(self.path(), to)?)
            }
            outcome => outcome,
        }
    }

    fn flags(&self) -> io::Result<MountFlags> {
        let stat = rustix::fs::fstatvfs(&self.0)?;
        let known = [
            (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
            (StatVfsMountFlags::NODEV, MountFlags::NODEV),
            (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
            (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
            (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
            (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
        ];
        let set = known.into_iter().filter(|(has, _)| stat.f_flag.contains(*has));
        Ok(set.fold(MountFlags::empty(), |flags, (_, flag)| flags | flag))
    }

    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn tmpfs(mode: &str, size: Option<u64>) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "source", "everynode")?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "mode", mode)?;
    if let Some(size) = size {
        rustix::mount::fsconfig_set_string(context.as_fd(), "size", size.to_string())?;
    }
    Ok(context)
}

/// Whether the kernel says that it does not know a call.
pub(super) fn is_unknown(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOSYS.raw_os_error())
}
