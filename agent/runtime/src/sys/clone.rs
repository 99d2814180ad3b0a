//! New processes: a copy of this one, in a cgroup from its first moment where the kernel can, and
//! the end of one that is to end at once.

use std::ffi::{c_int, c_long};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, WaitId, WaitIdOptions};

/// linux/sched.h; libc's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `sizeof(struct clone_args)` with its `cgroup` field, the last one (Linux 5.7).
const CLONE_ARGS_SIZE: usize = size_of::<libc::clone_args>();

/// How a process gets into its cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// `CLONE_INTO_CGROUP` where the kernel has it, else as below.
    #[default]
    Best,
    /// By writing itself into `cgroup.procs` before exec: kernels before 5.7.
    Fork,
}

impl Way {
    /// Starts something by the first of its ways that this kernel knows. `start` is told whether to
    /// fork, and `is_unknown` tells whether a failure says that the kernel knows no other way.
    pub(super) fn start<T, E>(
        self,
        start: impl Fn(bool) -> Result<T, E>,
        is_unknown: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        if self == Self::Best {
            match start(false) {
                Err(error) if is_unknown(&error) => {}
                outcome => return outcome,
            }
        }
        start(true)
    }
}

/// Tries `CLONE_INTO_CGROUP` with a child that ends at once; whether it got so far.
///
/// Some kernels (seen: 6.18) take a clone for a racing `cgroup.kill`, and kill the child, when the
/// target and the parent's cgroup have not been killed equally often; a fork that enters by itself
/// is spared.
pub(crate) fn try_clone_into(cgroup: BorrowedFd<'_>) -> io::Result<bool> {
    let masked = MaskAll::new();
    match clone_into(cgroup)? {
        // SAFETY: the child ends here.
        None => unsafe { libc::_exit(0) },
        Some(pid) => {
            drop(masked);
            Ok(reap(pid) == Some(0))
        }
    }
}

/// Whether an error of clone3 says that the kernel does not know it or its arguments.
pub(crate) fn not_supported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::E2BIG))
}

/// A copy of this process in that cgroup, or by `fork` one that has to enter it by itself; `None` in
/// the copy.
pub(super) fn copy_into(cgroup: BorrowedFd<'_>, fork: bool) -> io::Result<Option<Pid>> {
    if fork { plain_fork() } else { clone_into(cgroup) }
}

/// Where the copy enters that cgroup, by writing `0`.
pub(super) fn procs(cgroup: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(cgroup, c"cgroup.procs", flags, Mode::empty())?)
}

fn clone_into(cgroup: BorrowedFd<'_>) -> io::Result<Option<Pid>> {
    // SAFETY: all zeros is a valid clone_args; the kernel reads it and writes nothing. Without
    // CLONE_VM the child has its own copy of memory and stack, as after fork.
    let result = unsafe {
        let mut args: libc::clone_args = MaybeUninit::zeroed().assume_init();
        args.flags = CLONE_INTO_CGROUP;
        args.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
        libc::syscall(libc::SYS_clone3, &raw const args, CLONE_ARGS_SIZE)
    };
    pid_or_error(result)
}

fn plain_fork() -> io::Result<Option<Pid>> {
    // SAFETY: the child goes on in `become_program`, which needs no lock.
    pid_or_error(c_long::from(unsafe { libc::fork() }))
}

fn pid_or_error(result: c_long) -> io::Result<Option<Pid>> {
    match c_int::try_from(result) {
        Ok(pid) if pid >= 0 => Ok(Pid::from_raw(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Blocks every signal while it lives, so that none of the parent's handlers runs in the child.
pub(super) struct MaskAll {
    before: libc::sigset_t,
}

impl MaskAll {
    pub(super) fn new() -> Self {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: sigfillset initialises `all`, sigemptyset `before`; pthread_sigmask can't fail
        // with a valid `how`.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::sigemptyset(before.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self { before: before.assume_init() }
        }
    }
}

impl Drop for MaskAll {
    fn drop(&mut self) {
        // SAFETY: `before` is the mask that was read.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut())
        };
    }
}

/// Waits for one child of ours that is about to end, and for no other; its exit code.
pub(super) fn reap(pid: Pid) -> Option<i32> {
    loop {
        match rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            outcome => return outcome.ok()??.exit_status(),
        }
    }
}
