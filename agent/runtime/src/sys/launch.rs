//! Starting a process inside a cgroup, without a moment outside it:
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

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::Pid;

use super::child::{close_rest_on_exec, default_signals};
use super::clone::{MaskAll, Way, copy_into, not_supported, procs, reap};
use super::confine::Confinement;
use super::stage::Stage;

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
    /// Whether it will be in another namespace of process ids than this process.
    pub(crate) other_pids: bool,
    /// Whether it mounts `/proc` of those anew, in the mount namespace that this process is in; and
    /// what of it becomes read-only.
    pub(crate) proc: Option<&'a [&'a CStr]>,
    /// Its `oom_score_adj`, in digits; this process' without. Where it may not have that, it keeps this
    /// process': nothing is less confined by it.
    pub(crate) oom_score: Option<CString>,
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

/// What the child reads: everything points into memory that outlives it.
pub(super) struct Prepared<'a> {
    program: *const c_char,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    /// All above the targets 0…n, so that no dup2 overwrites a source still needed.
    sources: Vec<OwnedFd>,
    /// `cgroup.procs`, where the child has to enter the cgroup by itself.
    enter: Option<OwnedFd>,
    /// `cgroup.procs` in hierarchies of v1.
    enter_more: Vec<OwnedFd>,
    /// By which a child that has to enter its cgroup by itself knows its parent to be alive.
    parent: Parent,
    proc: Option<&'a [&'a CStr]>,
    oom_score: Option<&'a CStr>,
    terminal: bool,
    dir: *const c_char,
    pub(super) confinement: &'a Confinement,
    report: OwnedFd,
}

/// What a child knows its parent by.
enum Parent {
    /// Its process id.
    Id(c_int),
    /// From another namespace of process ids every parent is 0: by its end of the report's pipe,
    /// which is the child's by this number, too.
    Reader(RawFd),
}

/// Lowest number for descriptors that the child keeps aside: above every target number.
const ABOVE_TARGETS: RawFd = 16;

impl Launch<'_> {
    /// Starts the process and waits until it has executed its program; its id, ours to reap.
    ///
    /// # Errors
    /// Names the step that failed; the child, if there was one, is reaped.
    pub(crate) fn start(&self) -> Result<Pid, LaunchError> {
        let is_unknown =
            |error: &LaunchError| error.stage == Stage::Clone && not_supported(&error.source);
        self.way.start(|fork| self.start_by(fork), is_unknown)
    }

    fn start_by(&self, fork: bool) -> Result<Pid, LaunchError> {
        let at = |stage| move |source: io::Error| LaunchError { stage, source };
        let (report, prepared) = self.prepare(fork).map_err(at(Stage::Prepare))?;
        let masked = MaskAll::new();
        let pid = match copy_into(self.cgroup, fork).map_err(at(Stage::Clone))? {
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
        let enter = fork.then(|| procs(self.cgroup)).transpose()?;
        let prepared = Prepared {
            program: self.program.as_ptr(),
            argv: null_ended(&self.argv),
            env: null_ended(&self.env),
            sources: self.fds.iter().map(|fd| aside(*fd)).collect::<Result<_, _>>()?,
            enter: enter.map(|fd| aside(fd.as_fd())).transpose()?,
            enter_more: self.enter.iter().map(|fd| aside(fd.as_fd())).collect::<Result<_, _>>()?,
            parent: match self.other_pids {
                true => Parent::Reader(read.as_raw_fd()),
                false => Parent::Id(rustix::process::getpid().as_raw_nonzero().get()),
            },
            proc: self.proc,
            oom_score: self.oom_score.as_deref(),
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
            if let Some(read_only) = self.proc {
                self.show_processes(read_only);
            }
            if let Some(score) = self.oom_score {
                let flags = libc::O_WRONLY | libc::O_CLOEXEC;
                let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), flags);
                libc::syscall(libc::SYS_write, file, score.as_ptr(), score.count_bytes());
                libc::close(file);
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
            if !self.parent_lives() {
                libc::_exit(127);
            }
            self.must(stage, libc::syscall(libc::SYS_write, procs, c"0".as_ptr(), 1));
            // From here it is in its place, where everybody finds it.
            libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0);
        }
    }

    /// Mounts `/proc` anew: only who is among those processes can.
    ///
    /// # Safety
    /// As [`Self::become_program`].
    unsafe fn show_processes(&self, read_only: &[&CStr]) {
        let stage = Stage::Processes;
        let plain = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        let (proc, none) = (c"proc".as_ptr(), ptr::null());
        // SAFETY: as in `become_program`; no data is passed.
        unsafe {
            let done = libc::mount(proc, c"/proc".as_ptr(), proc, plain, ptr::null());
            self.must(stage, c_long::from(done));
            for path in read_only.iter().map(|path| path.as_ptr()) {
                let bind = libc::MS_BIND | libc::MS_REC;
                if libc::mount(path, path, none, bind, ptr::null()) != 0 {
                    // What is not there is not written.
                    if *libc::__errno_location() == libc::ENOENT {
                        continue;
                    }
                    self.fail(stage);
                }
                let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | plain;
                let done = libc::mount(none, path, none, flags, ptr::null());
                self.must(stage, c_long::from(done));
            }
        }
    }

    /// # Safety
    /// As [`Self::become_program`].
    unsafe fn parent_lives(&self) -> bool {
        // SAFETY: as in `become_program`.
        unsafe {
            match self.parent {
                Parent::Id(id) => libc::syscall(libc::SYS_getppid) == c_long::from(id),
                Parent::Reader(reader) => {
                    libc::close(reader);
                    let fd = self.report.as_raw_fd();
                    let mut report = libc::pollfd { fd, events: 0, revents: 0 };
                    libc::poll(&raw mut report, 1, 0) == 0
                }
            }
        }
    }

    /// # Safety
    /// As [`Self::become_program`].
    pub(super) unsafe fn must(&self, stage: Stage, result: c_long) {
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

fn null_ended(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| CStr::as_ptr(s)).chain([ptr::null()]).collect()
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
            other_pids: false,
            proc: None,
            oom_score: None,
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
