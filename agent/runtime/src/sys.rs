//! The system calls that no safe crate offers: starting a process inside a cgroup ([`launch`]),
//! mounts ([`mount`]), namespaces ([`namespace`]), and signals as a file descriptor.
//!
//! The only place with unsafe code, with what is under `sys/`.

#![allow(unsafe_code)]

mod child;
mod clone;
mod confine;
mod launch;
mod mount;
mod namespace;
mod stage;

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) use clone::{Way, not_supported, try_clone_into};
pub(crate) use confine::{Confinement, Limit, UNLIMITED, bounding_set};
pub(crate) use launch::{Launch, LaunchError};
pub(crate) use mount::{set_propagation, set_read_only, set_writable};
pub(crate) use namespace::{Kind, bring_up, new_namespace, start_first};
pub(crate) use stage::Stage;

/// Blocks these signals for the calling thread and returns a descriptor they are read from, 128
/// bytes each (`signalfd_siginfo`, the number first).
pub(crate) fn signal_fd(signals: &[rustix::process::Signal]) -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `set` is initialised by sigemptyset before any use; the descriptor is new and ours.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal.as_raw());
        }
        let blocked = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
        if blocked != 0 {
            return Err(io::Error::from_raw_os_error(blocked));
        }
        let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// The signal of this number, where it is one that may be sent to a program: a named one, or one of
/// the real-time signals that the C library leaves to programs.
pub(crate) fn signal(number: c_int) -> Option<Signal> {
    if let Some(named) = Signal::from_named_raw(number) {
        return Some(named);
    }
    let free = (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number);
    // SAFETY: it is not one of those that the C library keeps for itself.
    free.then(|| unsafe { Signal::from_raw_unchecked(number) })
}

/// Takes a descriptor that this process was started with. To be called once for each number, before
/// anything else is opened.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: it is only used here, to ask whether it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and nothing else in this process knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A descriptor that tokio tells to be readable.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::READABLE)
}

/// A descriptor that tokio tells to be readable, and to be writable.
pub(crate) fn both_ways(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(fd, Interest::READABLE | Interest::WRITABLE)
}

fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open and the same for as long as it lives, and nothing is moved out of
    // the AsyncFd but by dropping it.
    let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
    registered.map_err(io::Error::from)
}
