//! What of mounts no safe crate offers: attributes of a whole tree at once.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::mount::MountPropagationFlags;

/// `MOUNT_ATTR_RDONLY`; libc's constant has another type on some machines.
const READ_ONLY: u64 = 1;

/// Makes a mount read-only, or with `all` also every mount below it (Linux 5.12).
pub(crate) fn set_read_only(mount: BorrowedFd<'_>, all: bool) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: READ_ONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    set_attributes(mount, all, &attr)
}

/// Makes a mount writable again, and none below it (Linux 5.12).
pub(crate) fn set_writable(mount: BorrowedFd<'_>) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: 0, attr_clr: READ_ONLY, propagation: 0, userns_fd: 0 };
    set_attributes(mount, false, &attr)
}

/// Says with whom a mount and all below it share what is mounted there later (Linux 5.12).
pub(crate) fn set_propagation(
    mount: BorrowedFd<'_>,
    propagation: MountPropagationFlags,
) -> io::Result<()> {
    let propagation = u64::from(propagation.bits());
    let attr = libc::mount_attr { attr_set: 0, attr_clr: 0, propagation, userns_fd: 0 };
    set_attributes(mount, true, &attr)
}

fn set_attributes(mount: BorrowedFd<'_>, all: bool, attr: &libc::mount_attr) -> io::Result<()> {
    let recursive = if all { libc::AT_RECURSIVE } else { 0 };
    let flags = libc::AT_EMPTY_PATH | recursive;
    // SAFETY: the path ends with NUL, and the kernel reads no more of `attr` than it is long.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
