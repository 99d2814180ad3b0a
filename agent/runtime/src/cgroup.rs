//! One cgroup v2 directory: whether anything in it is alive, making it, forcing it empty,
//! removing it. Files and directories only; which cgroup is whose is [`crate::place`]'s.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

/// How deep the cgroups that a container makes in its own are followed. The kernel's own default
/// has no limit; nobody nests deeper, and a bound keeps a hostile one from exhausting the stack.
const MAX_DEPTH: usize = 64;

/// How long a freezer may take to stop everything before the killing begins all the same: a
/// process in an uninterruptible wait never freezes.
const FREEZE_WAIT: Duration = Duration::from_millis(500);

/// How many processes are held by descriptor at once: a fork bomb has more than this process may
/// have open, and they stay frozen until the last is hit.
const PIDFDS: usize = 128;

/// How often directories are made anew when a `remove` beside them is faster.
const MAKE_TRIES: usize = 5;

/// How long to wait for the dead to be gone before forcing again.
const FORCE_AGAIN: Duration = Duration::from_millis(200);

/// A cgroup, by its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

/// How to force a cgroup empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Force {
    /// `cgroup.kill` (Linux 5.14).
    Kill,
    /// Freeze, SIGKILL each, thaw: what is frozen can't fork.
    FreezeKillThaw,
}

/// An open `cgroup.events`: says when it may have changed (`POLLPRI`) and what it says.
///
/// The kernel tells each open file of a change until that same file is read again, so waiting and
/// reading must go through one descriptor.
pub(crate) struct Events {
    file: OwnedFd,
}

impl Cgroup {
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn child(&self, name: &str) -> Self {
        Self::at(self.path.join(name))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the directory; one that is there already is fine.
    pub(crate) fn make(&self) -> io::Result<()> {
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        }
    }

    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&self.path, flags, Mode::empty())?)
    }

    /// Whether any process in it or below it is alive; a zombie is not. A cgroup that does not
    /// exist has nobody in it.
    pub(crate) fn populated(&self) -> io::Result<bool> {
        match self.events() {
            Ok(events) => events.populated(),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn events(&self) -> io::Result<Events> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(self.file("cgroup.events"), flags, Mode::empty())?;
        Ok(Events { file })
    }

    /// The best way that this kernel has.
    pub(crate) fn best_force(&self) -> Force {
        match self.file("cgroup.kill").exists() {
            true => Force::Kill,
            false => Force::FreezeKillThaw,
        }
    }

    /// Kills everything in it once; what dies is gone a moment later.
    pub(crate) fn force(&self, how: Force) -> io::Result<()> {
        let outcome = match how {
            Force::Kill => self.write("cgroup.kill", "1"),
            Force::FreezeKillThaw => self.freeze_kill_thaw(),
        };
        match outcome {
            Err(error) if is_gone(&error) => Ok(()),
            outcome => outcome,
        }
    }

    /// Kills again and again until it is empty or the time is up; whether it is empty.
    pub(crate) fn force_until_empty(&self, how: Force, within: Duration) -> io::Result<bool> {
        let start = Instant::now();
        // Before the first kill, and the same all the time: a cgroup that is made under the same
        // name when this one is gone is another.
        let events = match self.events() {
            Ok(events) => events,
            Err(error) if is_gone(&error) => return Ok(true),
            Err(error) => return Err(error),
        };
        loop {
            self.force(how)?;
            let left = within.saturating_sub(start.elapsed());
            if events.wait_empty(left.min(FORCE_AGAIN))? {
                return Ok(true);
            }
            if left.is_zero() {
                return Ok(false);
            }
        }
    }

    /// Waits until it is empty or the time is up; whether it is.
    pub(crate) fn wait_empty(&self, within: Duration) -> io::Result<bool> {
        match self.events() {
            Ok(events) => events.wait_empty(within),
            Err(error) if is_gone(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The processes in it and below it.
    pub(crate) fn pids(&self) -> io::Result<BTreeSet<i32>> {
        let mut pids = BTreeSet::new();
        self.walk(0, &mut |cgroup| {
            // A threaded cgroup refuses; its processes are listed by the domain above it.
            let listed = fs::read_to_string(cgroup.file("cgroup.procs")).unwrap_or_default();
            // 0 stands for a process of another pid namespace, which can't be named from here.
            let listed = listed.lines().filter_map(|line| line.parse::<i32>().ok());
            pids.extend(listed.filter(|pid| *pid > 0));
        })?;
        Ok(pids)
    }

    /// Whether no process is in it itself, whatever is below it.
    pub(crate) fn is_without_own(&self) -> io::Result<bool> {
        match fs::read_to_string(self.file("cgroup.procs")) {
            Ok(listed) => Ok(listed.trim().is_empty()),
            Err(error) if is_gone(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Removes it and all below it; it must be empty. One that is not there is fine.
    pub(crate) fn remove_tree(&self) -> io::Result<()> {
        let mut found = Vec::new();
        self.walk(0, &mut |cgroup| found.push(cgroup.path.clone()))?;
        found.iter().rev().try_for_each(|path| Self::at(path).remove())
    }

    /// Removes the directory itself; one that is not there is fine.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir(&self.path) {
            Err(error) if is_gone(&error) => Ok(()),
            outcome => outcome,
        }
    }

    /// The names of the directories in it, in order, but those that no text can name.
    pub(crate) fn child_names(&self) -> io::Result<Vec<String>> {
        let names = self.children()?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// The names of all directories in it, in order.
    fn children(&self) -> io::Result<Vec<OsString>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if is_gone(&error) => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.push(entry.file_name());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Visits it and all below it, parents first.
    fn walk(&self, depth: usize, visit: &mut impl FnMut(&Self)) -> io::Result<()> {
        visit(self);
        if depth == MAX_DEPTH {
            return Err(io::Error::other("cgroups nested too deeply"));
        }
        let mut below = self.children()?.into_iter().map(|name| Self::at(self.path.join(name)));
        below.try_for_each(|child| child.walk(depth + 1, visit))
    }

    fn freeze_kill_thaw(&self) -> io::Result<()> {
        self.write("cgroup.freeze", "1")?;
        let killed = self.kill_frozen();
        // Whatever happened: a place left frozen would look like a hang.
        self.write("cgroup.freeze", "0")?;
        killed
    }

    fn kill_frozen(&self) -> io::Result<()> {
        self.events()?.wait(FREEZE_WAIT, |events| events.says("frozen"))?;
        let listed: Vec<i32> = self.pids()?.into_iter().collect();
        listed.chunks(PIDFDS).try_for_each(|pids| self.kill_some(pids))
    }

    fn kill_some(&self, pids: &[i32]) -> io::Result<()> {
        let open = |pid: &i32| {
            let fd = rustix::process::pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty());
            Some((*pid, fd.ok()?))
        };
        let held: Vec<(i32, OwnedFd)> = pids.iter().filter_map(open).collect();
        // A number listed before and after its descriptor was opened is still the same process,
        // or another one of this cgroup; a stranger is never hit, even where freezing failed.
        let still = self.pids()?;
        for (_, pidfd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
        }
        Ok(())
    }

    /// Writes one of its files, which must be there.
    pub(crate) fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let path = self.file(file);
        let opened = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(opened, value.as_bytes())?;
        Ok(())
    }
}

impl Events {
    /// Whether any process in it or below it is alive.
    pub(crate) fn populated(&self) -> io::Result<bool> {
        self.says("populated")
    }

    /// For waiting together with other descriptors; read it after every wake-up.
    pub(crate) fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(&self.file, PollFlags::PRI)
    }

    /// Waits until nothing in it is alive or the time is up; whether nothing is.
    fn wait_empty(&self, within: Duration) -> io::Result<bool> {
        self.wait(within, |events| events.populated().map(|populated| !populated))
    }

    fn says(&self, key: &str) -> io::Result<bool> {
        // Two short lines; more are for future kernels.
        let mut buffer = [0; 256];
        let length = match rustix::io::pread(&self.file, &mut buffer, 0) {
            Ok(length) => length,
            // Removed while open.
            Err(rustix::io::Errno::NODEV) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        match value {
            Some("0") => Ok(false),
            Some(_) => Ok(true),
            None => Err(io::Error::other(format!("cgroup.events without \"{key}\""))),
        }
    }

    fn wait(&self, within: Duration, done: impl Fn(&Self) -> io::Result<bool>) -> io::Result<bool> {
        let start = Instant::now();
        loop {
            if done(self)? {
                return Ok(true);
            }
            let left = within.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            let timeout = left.try_into().map_err(io::Error::other)?;
            match rustix::event::poll(&mut [self.poll_fd()], Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Makes directories in directories: again where a parent was removed as empty between its making
/// and its child's.
pub(crate) fn make_all(make: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let mut outcome = make();
    for _ in 1..MAKE_TRIES {
        if !matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            break;
        }
        outcome = make();
    }
    outcome
}

/// Whether the error says that the cgroup is not there (any more).
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}
