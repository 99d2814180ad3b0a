//! The system calls that no safe crate offers: starting a process inside a cgroup, and signals as
//! a file descriptor.
//!
//! The only place with unsafe code, with what is under `sys/`. A process is started without a moment
//! outside its cgroup:
//!
//! ```text
//!   prepare ── clone3 into the cgroup ──────────────┐
//!      │                                            ├── child: set itself up ── execve
//!      └── (before Linux 5.7) fork ── enter cgroup ─┘            │
//!                                                     first failure: (stage, errno) by pipe
//! ```
//!
//! Writing a process id to `cgroup.procs` from outside would leave such a moment, and costs up to
//! 100 ms per sporadic start since Linux 6.0; the child that writes its own is the fallback.
//! Between clone and exec the child of a many-threaded process may take no lock, so it does
//! nothing but raw system calls on what was prepared before.

#![allow(unsafe_code)]

mod confine;
mod mount;

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) use confine::{Confinement, Limit, UNLIMITED, bounding_set, rlimit};
pub(crate) use mount::{new_mount_namespace, set_propagation, set_read_only, set_writable};

/// How a process gets into its cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// `CLONE_INTO_CGROUP` where the kernel has it, else as below.
    #[default]
    Best,
    /// By writing itself into `cgroup.procs` before exec: kernels before 5.7.
    Fork,
}

/// A process to start, with all it needs prepared.
pub(crate) struct Launch<'a> {
    /// The file to execute; relative to `dir` unless absolute.
    pub(crate) program: CString,
    /// Its arguments, `argv[0]` first.
    pub(crate) argv: Vec<CString>,
    /// Its whole environment, `NAME=value` each.
    pub(crate) env: Vec<CString>,
    /// What become its descriptors 0, 1, 2 and so on; it has no others.
    pub(crate) fds: Vec<BorrowedFd<'a>>,
    /// Whether descriptor 0 is a terminal, which is to control its session.
    pub(crate) terminal: bool,
    /// The directory of the cgroup it starts in.
    pub(crate) cgroup: BorrowedFd<'a>,
    /// `cgroup.procs` of further cgroups, in hierarchies of v1, which it enters before exec.
    pub(crate) enter: &'a [OwnedFd],
    /// Its working directory.
    pub(crate) dir: CString,
    /// What it gives up of what this process has.
    pub(crate) confinement: &'a Confinement,
    /// How it gets into its cgroup.
    pub(crate) way: Way,
}

/// Why a process could not be started; nothing of it is alive.
#[derive(Debug)]
pub(crate) struct LaunchError {
    /// What failed.
    pub(crate) stage: Stage,
    /// How.
    pub(crate) source: io::Error,
}

/// The steps of a start, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Stage {
    Prepare,
    Clone,
    EnterCgroup,
    Session,
    Descriptors,
    Terminal,
    Limits,
    Groups,
    Group,
    User,
    Capabilities,
    NoNewPrivs,
    Directory,
    Seccomp,
    Exec,
}

/// What the child reads: everything points into memory that outlives it.
struct Prepared<'a> {
    program: *const c_char,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    /// All above the targets 0…n, so that no dup2 overwrites a source still needed.
    sources: Vec<OwnedFd>,
    /// `cgroup.procs`, where the child has to enter the cgroup by itself.
    enter: Option<OwnedFd>,
    /// `cgroup.procs` in hierarchies of v1.
    enter_more: Vec<OwnedFd>,
    parent: c_int,
    terminal: bool,
    dir: *const c_char,
    confinement: &'a Confinement,
    report: OwnedFd,
}

/// Lowest number for descriptors that the child keeps aside: above every target number.
const ABOVE_TARGETS: RawFd = 16;

/// linux/sched.h; libc's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Bytes of the kernel's set of 64 signals.
const KERNEL_SIGSET: usize = 8;

/// `sizeof(struct clone_args)` with its `cgroup` field, the last one (Linux 5.7).
const CLONE_ARGS_SIZE: usize = size_of::<libc::clone_args>();

impl Launch<'_> {
    /// Starts the process and waits until it has executed its program; its id, ours to reap.
    ///
    /// # Errors
    /// Names the step that failed; the child, if there was one, is reaped.
    pub(crate) fn start(&self) -> Result<Pid, LaunchError> {
        if self.way == Way::Best {
            match self.start_by(false) {
                Err(error) if error.stage == Stage::Clone && not_supported(&error.source) => {}
                outcome => return outcome,
            }
        }
        self.start_by(true)
    }

    fn start_by(&self, fork: bool) -> Result<Pid, LaunchError> {
        let at = |stage| move |source: io::Error| LaunchError { stage, source };
        let (report, prepared) = self.prepare(fork).map_err(at(Stage::Prepare))?;
        let masked = MaskAll::new();
        let cloned = if fork { plain_fork() } else { clone_into(self.cgroup) };
        let pid = match cloned.map_err(at(Stage::Clone))? {
            // SAFETY: we are the child, alone in a copy of the parent's memory; `prepared` points
            // to values that `self` and this frame own, and neither is dropped: it never returns.
            None => unsafe { prepared.become_program() },
            Some(pid) => pid,
        };
        drop(masked);
        // Ours must be the only copy left: the child's closes by exec or death.
        drop(prepared);
        match read_report(&report) {
            None => Ok(pid),
            Some(error) => {
                reap(pid);
                Err(error)
            }
        }
    }

    fn prepare(&self, fork: bool) -> io::Result<(OwnedFd, Prepared<'_>)> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let aside = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, ABOVE_TARGETS);
        let enter = match fork {
            true => Some(rustix::fs::openat(
                self.cgroup,
                c"cgroup.procs",
                OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )?),
            false => None,
        };
        let prepared = Prepared {
            program: self.program.as_ptr(),
            argv: null_ended(&self.argv),
            env: null_ended(&self.env),
            sources: self.fds.iter().map(|fd| aside(*fd)).collect::<Result<_, _>>()?,
            enter: enter.map(|fd| aside(fd.as_fd())).transpose()?,
            enter_more: self.enter.iter().map(|fd| aside(fd.as_fd())).collect::<Result<_, _>>()?,
            parent: rustix::process::getpid().as_raw_nonzero().get(),
            terminal: self.terminal,
            dir: self.dir.as_ptr(),
            confinement: self.confinement,
            report: aside(write.as_fd())?,
        };
        Ok((read, prepared))
    }
}

impl Prepared<'_> {
    /// The child's part, in the order of [`Stage`].
    ///
    /// # Safety
    /// Only in a freshly cloned child with all signals blocked; every pointer must be valid. Makes
    /// raw system calls only: another thread of the parent may have held any lock.
    unsafe fn become_program(&self) -> ! {
        // SAFETY: plain system calls on valid descriptors and NUL-ended strings.
        unsafe {
            if let Some(procs) = &self.enter {
                self.enter_cgroup(procs.as_raw_fd());
            }
            for procs in &self.enter_more {
                let done = libc::syscall(libc::SYS_write, procs.as_raw_fd(), c"0".as_ptr(), 1);
                self.must(Stage::EnterCgroup, done);
            }
            self.must(Stage::Session, libc::syscall(libc::SYS_setsid));
            for (source, target) in self.sources.iter().zip(0..) {
                let done = libc::dup2(source.as_raw_fd(), target);
                self.must(Stage::Descriptors, c_long::from(done));
            }
            close_rest_on_exec(self.sources.len());
            if self.terminal {
                let done = libc::syscall(libc::SYS_ioctl, 0, libc::TIOCSCTTY, 0);
                self.must(Stage::Terminal, done);
            }
            libc::umask(0o022);
            default_signals();
            self.give_up();
            self.must(Stage::Directory, c_long::from(libc::chdir(self.dir)));
            self.give_up_last();
            libc::execve(self.program, self.argv.as_ptr(), self.env.as_ptr());
            self.fail(Stage::Exec)
        }
    }

    /// Enters the cgroup; should the parent die before that, the child dies with it, as nobody
    /// could find it.
    ///
    /// # Safety
    /// As [`Self::become_program`].
    unsafe fn enter_cgroup(&self, procs: RawFd) {
        // SAFETY: as in `become_program`.
        unsafe {
            let stage = Stage::EnterCgroup;
            let done = libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            self.must(stage, c_long::from(done));
            if libc::syscall(libc::SYS_getppid) != c_long::from(self.parent) {
                libc::_exit(127);
            }
            self.must(stage, libc::syscall(libc::SYS_write, procs, c"0".as_ptr(), 1));
            // From here it is in its place, where everybody finds it.
            libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0);
        }
    }

    /// # Safety
    /// As [`Self::become_program`].
    unsafe fn must(&self, stage: Stage, result: c_long) {
        if result < 0 {
            // SAFETY: as in `become_program`.
            unsafe { self.fail(stage) }
        }
    }

    /// Tells the parent and ends.
    ///
    /// # Safety
    /// As [`Self::become_program`].
    unsafe fn fail(&self, stage: Stage) -> ! {
        // SAFETY: errno is the child's own; the buffer is as long as is written; a pipe takes
        // eight bytes at once.
        unsafe {
            let report: [c_int; 2] = [stage as c_int, *libc::__errno_location()];
            let size = size_of_val(&report);
            libc::syscall(libc::SYS_write, self.report.as_raw_fd(), report.as_ptr(), size);
            libc::_exit(127)
        }
    }
}

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
    // SAFETY: an OwnedFd is open and the same for as long as it lives, and nothing is moved out of
    // the AsyncFd but by dropping it.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    registered.map_err(io::Error::from)
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

/// A copy of this process in that cgroup; `None` in the copy.
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
struct MaskAll {
    before: libc::sigset_t,
}

impl MaskAll {
    fn new() -> Self {
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

/// Every signal back to its default and none blocked, as a program expects to begin. Rust itself
/// ignores SIGPIPE, and exec would keep that.
///
/// # Safety
/// Only in the child: it changes what the whole process does on a signal.
unsafe fn default_signals() {
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
unsafe fn close_rest_on_exec(first: usize) {
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

/// What the child wrote before it ended; `None` when exec has closed the pipe.
fn read_report(pipe: &OwnedFd) -> Option<LaunchError> {
    let mut report = [0; 8];
    let length = loop {
        match rustix::io::read(pipe, &mut report) {
            Err(rustix::io::Errno::INTR) => {}
            outcome => break outcome.unwrap_or(0),
        }
    };
    if length != report.len() {
        return None;
    }
    let [a, b, c, d, e, f, g, h] = report;
    Some(LaunchError {
        stage: Stage::from_number(c_int::from_ne_bytes([a, b, c, d])),
        source: io::Error::from_raw_os_error(c_int::from_ne_bytes([e, f, g, h])),
    })
}

/// Waits for one child of ours that is about to end, and for no other; its exit code.
fn reap(pid: Pid) -> Option<i32> {
    loop {
        match rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            outcome => return outcome.ok()??.exit_status(),
        }
    }
}

fn null_ended(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| CStr::as_ptr(s)).chain([ptr::null()]).collect()
}

impl Stage {
    const ALL: [Self; 15] = [
        Self::Prepare,
        Self::Clone,
        Self::EnterCgroup,
        Self::Session,
        Self::Descriptors,
        Self::Terminal,
        Self::Limits,
        Self::Groups,
        Self::Group,
        Self::User,
        Self::Capabilities,
        Self::NoNewPrivs,
        Self::Directory,
        Self::Seccomp,
        Self::Exec,
    ];

    fn from_number(number: c_int) -> Self {
        Self::ALL.into_iter().find(|stage| *stage as c_int == number).unwrap_or(Self::Exec)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare the start",
            Self::Clone => "make a process in the cgroup",
            Self::EnterCgroup => "enter the cgroup",
            Self::Session => "make a session",
            Self::Descriptors => "set up descriptors",
            Self::Terminal => "take the terminal",
            Self::Limits => "set resource limits",
            Self::Groups => "set supplementary groups",
            Self::Group => "set the group",
            Self::User => "set the user",
            Self::Capabilities => "drop capabilities",
            Self::NoNewPrivs => "set no_new_privs",
            Self::Directory => "enter the working directory",
            Self::Seccomp => "filter system calls",
            Self::Exec => "execute the program",
        })
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.stage, self.source)
    }
}

impl std::error::Error for LaunchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Cgroup, Force};
    use std::time::Duration;

    /// A cgroup of the test's own, or none where there can't be one.
    fn leaf(name: &str) -> Option<Cgroup> {
        let root = format!("everynode-test-sys-{name}-{}", std::process::id());
        let found = crate::machine::probe(std::path::Path::new(&root));
        let found = found.inspect_err(|reason| eprintln!("skipped: {reason}")).ok()?;
        // In the root itself nobody may live, where controllers were switched on for what is in it.
        let leaf = Cgroup::at(found.root).child("leaf");
        leaf.make().unwrap();
        Some(leaf)
    }

    fn remove(leaf: &Cgroup) {
        Cgroup::at(leaf.path().parent().unwrap()).remove_tree().unwrap();
    }

    fn launch(cgroup: &Cgroup, way: Way, program: &CStr, dir: &CStr) -> Result<Pid, LaunchError> {
        launch_words(cgroup, way, &[program, c"100000"], dir)
    }

    fn launch_words(
        cgroup: &Cgroup,
        way: Way,
        words: &[&CStr],
        dir: &CStr,
    ) -> Result<Pid, LaunchError> {
        let directory = cgroup.open().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let launch = Launch {
            program: words[0].to_owned(),
            argv: words.iter().map(|word| CString::from(*word)).collect(),
            env: Vec::new(),
            fds: vec![null.as_fd(), null.as_fd(), null.as_fd()],
            terminal: false,
            cgroup: directory.as_fd(),
            enter: &[],
            dir: dir.to_owned(),
            confinement: &Confinement::default(),
            way,
        };
        launch.start()
    }

    #[test]
    fn a_start_is_inside_and_a_zombie_is_not_alive() {
        for (way, force) in [(Way::Best, Force::Kill), (Way::Fork, Force::FreezeKillThaw)] {
            let Some(cgroup) = leaf(&format!("{way:?}")) else { return };
            let pid = launch(&cgroup, way, c"/bin/sleep", c"/").unwrap();
            assert!(cgroup.pids().unwrap().contains(&pid.as_raw_nonzero().get()));
            assert!(cgroup.populated().unwrap());
            assert!(cgroup.force_until_empty(force, Duration::from_secs(10)).unwrap());
            // Not reaped yet.
            assert!(std::fs::exists(format!("/proc/{}", pid.as_raw_nonzero())).unwrap());
            remove(&cgroup);
            assert_eq!(reap(pid), None, "it was killed");
        }
    }

    #[test]
    fn a_failed_start_names_its_step_and_leaves_nobody() {
        for way in [Way::Best, Way::Fork] {
            let Some(cgroup) = leaf(&format!("fails-{way:?}")) else { return };
            for (program, dir, stage) in [
                (c"/nonexistent", c"/", Stage::Exec),
                (c"/bin/sleep", c"/nowhere", Stage::Directory),
            ] {
                let error = launch(&cgroup, way, program, dir).unwrap_err();
                assert_eq!(error.stage, stage);
                assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
                assert_eq!(cgroup.pids().unwrap().len(), 0);
            }
            remove(&cgroup);
        }
    }

    #[test]
    fn one_pass_over_the_frozen_misses_nobody() {
        let Some(cgroup) = leaf("frozen") else { return };
        // Each generation ends as soon as it has made the next.
        let script = c"f() { f & }; f; f; f; exec sleep 100000";
        let words = [c"/bin/sh", c"-c", script];
        let pid = launch_words(&cgroup, Way::Fork, &words, c"/").unwrap();
        // Until all three families are there, for half a minute at most.
        let start = std::time::Instant::now();
        while cgroup.pids().unwrap().len() < 4 {
            assert!(start.elapsed() < Duration::from_secs(30));
        }
        cgroup.force(Force::FreezeKillThaw).unwrap();
        let dying = cgroup.pids().unwrap();
        while cgroup.populated().unwrap() {
            assert!(cgroup.pids().unwrap().is_subset(&dying), "nobody is born after the pass");
        }
        assert_eq!(reap(pid), None);
        remove(&cgroup);
    }
}
