//! What of namespaces no safe crate offers: new ones for this process or for those that it starts,
//! loopback, and a first process for those who share their process ids.

use std::ffi::{CStr, c_int, c_short};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Pid;

use super::child::{close_all, default_signals};
use super::clone::{MaskAll, Way, copy_into, not_supported, procs};

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Kind {
    /// Mounts; the new one is a copy.
    Mounts = libc::CLONE_NEWNS,
    /// Network; the new one has loopback alone, which is down.
    Network = libc::CLONE_NEWNET,
    /// Queues and shared memory of System V and POSIX.
    Ipc = libc::CLONE_NEWIPC,
    /// Process ids: for the processes that the caller starts from now on, not for itself. The first
    /// of them is number 1.
    Pids = libc::CLONE_NEWPID,
}

/// Gives the calling thread a namespace of its own. For a process with one thread: others would stay
/// where they are.
pub(crate) fn new_namespace(kind: Kind) -> io::Result<()> {
    // SAFETY: takes no memory, and leaves descriptors as they are.
    match unsafe { libc::unshare(kind as c_int) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Brings a network interface of the present namespace up: netdevice(7).
pub(crate) fn bring_up(interface: &CStr) -> io::Result<()> {
    let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    // One that is too long loses its end, and there is none of that name.
    let last = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..last].iter_mut().zip(interface.to_bytes()) {
        *to = (*from).cast_signed();
    }
    // SAFETY: both calls read and write one ifreq, in which the flags are what is set and asked for.
    let done = unsafe {
        let fd = socket.as_raw_fd();
        if libc::ioctl(fd, libc::SIOCGIFFLAGS, &raw mut request) == 0 {
            let up = c_short::try_from(libc::IFF_UP).unwrap_or_default();
            request.ifr_ifru.ifru_flags |= up;
            libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw const request)
        } else {
            -1
        }
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Starts what is to be the first process of a namespace of process ids, which was made for it before:
/// it reaps what others orphan there, and does nothing else until it is killed. It is in `cgroup` when
/// this returns, and has no descriptors.
pub(crate) fn start_first(cgroup: BorrowedFd<'_>, way: Way) -> io::Result<Pid> {
    way.start(|fork| start_first_by(cgroup, fork), not_supported)
}

fn start_first_by(cgroup: BorrowedFd<'_>, fork: bool) -> io::Result<Pid> {
    let procs = fork.then(|| procs(cgroup)).transpose()?;
    let (ready, held) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let masked = MaskAll::new();
    let pid = match copy_into(cgroup, fork)? {
        // SAFETY: we are the child, alone in a copy of the parent's memory, of whose threads none
        // held a lock: this is for a process with one.
        None => unsafe { be_first(procs.as_ref()) },
        Some(pid) => pid,
    };
    drop(masked);
    drop(held);
    // The other end closes when the child has entered its cgroup, or is dead.
    let _ = rustix::io::retry_on_intr(|| rustix::io::read(&ready, &mut [0_u8; 1]));
    Ok(pid)
}

/// # Safety
/// Only in a freshly cloned child with all signals blocked.
unsafe fn be_first(procs: Option<&OwnedFd>) -> ! {
    // SAFETY: plain system calls, on descriptors of the child's own.
    unsafe {
        if let Some(procs) = procs {
            // Should the parent die before that, nobody could find it.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            if libc::syscall(libc::SYS_write, procs.as_raw_fd(), c"0".as_ptr(), 1) < 0 {
                libc::_exit(127);
            }
            libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0);
        }
        libc::syscall(libc::SYS_setsid);
        libc::prctl(libc::PR_SET_NAME, c"pause".as_ptr(), 0, 0, 0);
        libc::chdir(c"/".as_ptr());
        default_signals();
        // Then the kernel reaps them by itself.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        // The socket at which its supervisor is known to be alive, too.
        close_all();
        loop {
            libc::poll(std::ptr::null_mut(), 0, -1);
        }
    }
}
