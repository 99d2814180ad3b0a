//! Mount namespaces: whoever enters one sees the files that are mounted there.
//!
//! The supervisor has one thread, so it can go into a namespace, prepare it with all that a program
//! has, start a process there and come back; the process stays.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::thread::LinkNameSpaceType;

use crate::sys;

/// A mount namespace, which exists for as long as somebody is in it or has it open.
pub(super) struct Namespace(OwnedFd);

impl Namespace {
    /// The one that this process is in.
    pub(super) fn current() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open("/proc/self/ns/mnt", flags, Mode::empty())?))
    }

    /// A copy of the present one, which is entered. What is mounted in the present one later is
    /// there, too; nothing that is mounted in the copy gets out.
    pub(super) fn copy() -> io::Result<Self> {
        sys::new_namespace(sys::Kind::Mounts)?;
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", slave)?;
        Self::current()
    }

    /// Enters it; the root and the working directory become its root.
    pub(super) fn enter(&self) -> io::Result<()> {
        let kind = Some(LinkNameSpaceType::Mount);
        Ok(rustix::thread::move_into_link_name_space(self.0.as_fd(), kind)?)
    }
}
