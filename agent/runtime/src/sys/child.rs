//! What a new process has of its parent's and is rid of first: signals and descriptors.

use std::mem::MaybeUninit;
use std::ptr;

/// Bytes of the kernel's set of 64 signals.
const KERNEL_SIGSET: usize = 8;

/// Every signal back to its default and none blocked, as a program expects to begin. Rust itself
/// ignores SIGPIPE, and exec would keep that.
///
/// # Safety
/// Only in the child: it changes what the whole process does on a signal.
pub(super) unsafe fn default_signals() {
    // SAFETY: a kernel sigaction of zeros is SIG_DFL without flags, and no longer than this; for
    // SIGKILL and SIGSTOP the kernel refuses, which is right. Raw, as the C library keeps two
    // numbers for itself, which somebody before us may have ignored all the same.
    unsafe {
        let default = [0_u64; 8];
        for signal in 1..=64 {
            let none = ptr::null::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, KERNEL_SIGSET);
        }
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// Marks every descriptor from `first` on to be closed by exec.
///
/// # Safety
/// Only in the child: it changes every descriptor.
pub(super) unsafe fn close_rest_on_exec(first: usize) {
    // SAFETY: changes nothing but flags of the child's own descriptors.
    unsafe {
        let done = libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if done == 0 {
            return;
        }
        // Before Linux 5.11. All of ours are opened close-on-exec, so this only adds what a
        // library forgot; the first 1024 are what such a process can be expected to have.
        for fd in (0..1024).skip(first) {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

/// Closes every descriptor.
///
/// # Safety
/// Only in the child.
pub(super) unsafe fn close_all() {
    // SAFETY: they are the child's own, and nothing uses them any more.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) == 0 {
            return;
        }
        // Before Linux 5.9; as in `close_rest_on_exec`.
        for fd in 0..1024 {
            libc::close(fd);
        }
    }
}
