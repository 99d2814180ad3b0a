//! One container: its first process, its cgroup, its output.
//!
//! ```text
//!                 start                first process ended
//!   Idle ──────────────────▶ Running ──────────────────────▶ Emptying ──┐ leaf seen empty:
//!     ▲ never ran               ▲                             │         │ exit is told
//!                               │ start                       │ too long: exit is told
//!                             Ended ◀─────────────────────────┼─────────┘
//!                               ▲        leaf seen empty      ▼
//!                               └────────────────────────── Stuck  (start is refused)
//! ```
//!
//! As when a pid namespace loses its first process, what it left behind is killed before the end
//! is told: so the next start is the only one.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use everynode_model::{LogTail, Reason};
use rustix::fs::{FileType, Gid, Uid};
use rustix::process::{Pid, Signal, WaitStatus};

use super::clock;
use super::confine::Who;
use super::emptying::Emptying;
use super::log::{Log, Stream};
use super::namespaces::{Elsewhere, Namespaces, Pidspace};
use super::output::Output;
use super::program::{self, Problem};
use super::protocol::{AccountContainer, SpecContainer, WireExit, millis};
use super::volumes::{self, Seen, Volumes};
use crate::cgroup::{Cgroup, Events, Force};
use crate::ends;
use crate::limits::Share;
use crate::place;
use crate::sys::{self, Launch, Way};

/// How long a start waits for strangers in the leaf to die; the supervisor does nothing else then.
const CLEAR_WITHIN: Duration = Duration::from_secs(1);

/// A container and what became of it.
pub(super) struct Container {
    spec: SpecContainer,
    leaf: Cgroup,
    force: Force,
    way: Way,
    state: State,
    since: Duration,
    starts: u64,
    /// Whether the present run was told to end.
    asked: bool,
    last_exit: Option<WireExit>,
    /// Whether the run that ended so was killed for want of memory.
    last_oom: bool,
    /// How often anything of it had been killed for that before its run began.
    oom_kills: u64,
    /// What the run that ended so printed last.
    last_tail: LogTail,
    outputs: Vec<Output>,
    log: Log,
    /// What its present run sees, if that is not what the machine sees.
    seen: Option<Seen>,
    /// Its process ids, if they are not the machine's.
    pids: Option<Pidspace>,
}

enum State {
    Idle,
    Running(Pid),
    Emptying { pid: Pid, exit: WireExit, leaf: Emptying },
    Stuck { leaf: Emptying },
    Ended,
}

impl Container {
    pub(super) fn new(spec: SpecContainer, pod: &Cgroup, log: Log, old_kernel: bool) -> Self {
        let leaf = pod.child(&place::container_leaf(&spec.name));
        Self {
            force: if old_kernel { Force::FreezeKillThaw } else { leaf.best_force() },
            way: if old_kernel { Way::Fork } else { Way::Best },
            spec,
            leaf,
            state: State::Idle,
            since: clock::boot(),
            starts: 0,
            asked: false,
            last_exit: None,
            last_oom: false,
            oom_kills: 0,
            last_tail: LogTail::default(),
            outputs: Vec::new(),
            log,
            seen: None,
            pids: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(super) const fn leaf(&self) -> &Cgroup {
        &self.leaf
    }

    /// From now on its runs are held to these.
    pub(super) fn limit(&mut self, share: Share, oom_score: Option<i16>) {
        self.spec.share = share;
        self.spec.oom_score = oom_score;
    }

    /// Starts it; answers its process id.
    pub(super) fn start(
        &mut self,
        volumes: &mut Volumes,
        namespaces: &mut Namespaces,
    ) -> Result<u32, Reason> {
        match self.state {
            State::Idle | State::Ended => {}
            State::Running(_) | State::Emptying { .. } => {
                return Err(self.refusal("AlreadyRunning", "it runs"));
            }
            State::Stuck { .. } => {
                return Err(self.refusal("LeftoversAlive", "its former run can't be killed"));
            }
        }
        self.clear_leaf()?;
        self.renew_leaf().map_err(|error| self.refusal("RunContainerError", &error.to_string()))?;
        self.oom_kills = self.spec.share.oom_kills(&self.leaf);
        self.log.begin_run();
        let pid = self.launch(volumes, namespaces).map_err(|problem| {
            self.outputs.clear();
            self.seen = None;
            self.pids = None;
            self.refusal(problem.code(), &problem.to_string())
        })?;
        self.state = State::Running(pid);
        self.since = clock::boot();
        self.starts += 1;
        self.asked = false;
        Ok(pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// Tells its first process to end, once a run: a second SIGTERM makes many programs give up
    /// their orderly end.
    pub(super) fn stop(&mut self) {
        if let State::Running(pid) = self.state
            && !std::mem::replace(&mut self.asked, true)
        {
            let named = self.spec.stop_signal.and_then(sys::signal);
            // Not reaped yet, so the number is still its own.
            let _ = rustix::process::kill_process(pid, named.unwrap_or(Signal::TERM));
        }
    }

    /// Runs a program in it as it runs its own: as the same user, with its environment, in a cgroup
    /// of that name inside its own. The three descriptors become the program's.
    pub(super) fn exec(
        &self,
        argv: &[String],
        fds: &[OwnedFd; 3],
        terminal: bool,
        leaf: &str,
        namespaces: &Namespaces,
    ) -> Result<(Pid, Cgroup, Force), Reason> {
        let State::Running(_) = self.state else {
            return Err(self.refusal("NotRunning", "it does not run"));
        };
        let leaf = self.leaf.child(leaf);
        let failed = |problem: Problem| self.refusal("ExecError", &problem.to_string());
        leaf.make().map_err(|error| failed(Problem::Plumbing(error)))?;
        for fd in fds {
            self.lend(fd, terminal);
        }
        let fds = fds.iter().map(AsFd::as_fd).collect();
        let launched = namespaces
            .for_exec(self.pids.as_ref())
            .map_err(Problem::Pids)
            .and_then(|pids| self.launch_in(&leaf, argv, fds, terminal, pids, None));
        match launched {
            Ok(pid) => Ok((pid, leaf, self.force)),
            Err(problem) => {
                let _ = leaf.remove_tree();
                Err(failed(problem))
            }
        }
    }

    /// Takes note of a reaped process; whether it was this container's first.
    pub(super) fn reaped(&mut self, pid: Pid, status: WaitStatus) -> bool {
        if !matches!(self.state, State::Running(running) if running == pid) {
            return false;
        }
        self.state =
            State::Emptying { pid, exit: status.into(), leaf: Emptying::begin(&self.leaf) };
        true
    }

    /// Goes on with emptying; the exit when it is time to tell it.
    pub(super) fn progress(&mut self) -> Option<WireExit> {
        let now = clock::boot();
        let (State::Emptying { leaf, .. } | State::Stuck { leaf }) = &mut self.state else {
            return None;
        };
        let populated = leaf.progress(&self.leaf, self.force, now);
        self.settle(populated, now)
    }

    fn settle(&mut self, populated: bool, now: Duration) -> Option<WireExit> {
        let told = match std::mem::replace(&mut self.state, State::Ended) {
            State::Emptying { exit, .. } if !populated => Some(exit),
            State::Emptying { exit, leaf, .. } if leaf.is_late(now) => {
                self.state = State::Stuck { leaf };
                Some(exit)
            }
            State::Stuck { .. } if !populated => None,
            other => {
                self.state = other;
                return None;
            }
        };
        if !populated {
            self.finish_outputs();
            self.seen = None;
            self.pids = None;
        }
        if told.is_some() {
            self.since = now;
            self.last_exit = told;
            self.last_oom = self.ran_out_of_memory();
            self.last_tail = self.log.take_tail();
        }
        told
    }

    /// Whether nothing of it is alive.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Idle | State::Ended)
    }

    /// When [`Self::progress`] is due without being told to, by the boot clock.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        match &self.state {
            State::Emptying { leaf, .. } | State::Stuck { leaf } => Some(leaf.wake_at()),
            _ => None,
        }
    }

    /// What to wait for beside its outputs.
    pub(super) fn leaf_events(&self) -> Option<&Events> {
        match &self.state {
            State::Emptying { leaf, .. } | State::Stuck { leaf } => leaf.events(),
            _ => None,
        }
    }

    pub(super) fn pipes(&self) -> impl Iterator<Item = &OwnedFd> {
        self.outputs.iter().map(Output::pipe)
    }

    /// Reads what there is of its output, up to a bound.
    pub(super) fn read_outputs(&mut self, buffer: &mut [u8]) {
        let log = &mut self.log;
        self.outputs.retain_mut(|output| output.read(buffer, log));
    }

    pub(super) fn account(&self) -> AccountContainer {
        let pid = match self.state {
            // Until the end is told it counts as running, so that it is not told twice.
            State::Running(pid) | State::Emptying { pid, .. } => Some(pid),
            _ => None,
        };
        AccountContainer {
            name: self.spec.name.clone(),
            pid: pid.map(|pid| pid.as_raw_nonzero().get().unsigned_abs()),
            last_exit: self.last_exit,
            oom: self.last_oom,
            for_millis: millis(clock::boot().saturating_sub(self.since)),
            asked: self.asked && pid.is_some(),
        }
    }

    /// Whether the run that ended last was killed for want of memory.
    pub(super) fn last_oom(&self) -> bool {
        self.last_oom
    }

    /// What it printed last in the run that ended last.
    pub(super) fn last_tail(&self) -> &LogTail {
        &self.last_tail
    }

    /// How often it was started again.
    pub(super) fn restarts(&self) -> u64 {
        self.starts.saturating_sub(1)
    }

    /// Every run has a leaf of its own: into one in which anything was killed, some kernels would
    /// kill what is cloned next (see [`crate::sys::try_clone_into`]).
    fn renew_leaf(&self) -> io::Result<()> {
        self.leaf.remove_tree()?;
        self.leaf.make()?;
        self.spec.share.apply(&self.leaf)
    }

    /// A program that went on to its own good end lost at most a child of its.
    fn ran_out_of_memory(&self) -> bool {
        self.last_exit != Some(WireExit::Code(0))
            && self.spec.share.oom_kills(&self.leaf) > self.oom_kills
    }

    fn clear_leaf(&self) -> Result<(), Reason> {
        let cleared = match self.leaf.populated() {
            Ok(true) => self.leaf.force_until_empty(self.force, CLEAR_WITHIN),
            outcome => outcome.map(|_| true),
        };
        match cleared {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.refusal("LeftoversAlive", "strangers in its cgroup stay alive")),
            Err(error) => Err(self.refusal("LeftoversAlive", &error.to_string())),
        }
    }

    fn launch(
        &mut self,
        volumes: &mut Volumes,
        namespaces: &mut Namespaces,
    ) -> Result<Pid, Problem> {
        let read_only = self.spec.confinement.read_only_root();
        self.seen = volumes.seen(&self.spec.mounts, read_only, namespaces.system())?;
        let plumbing = |source: io::Error| Problem::Plumbing(source);
        let null = ends::nothing().map_err(plumbing)?;
        let stdout = self.output(Stream::Stdout).map_err(plumbing)?;
        let stderr = self.output(Stream::Stderr).map_err(plumbing)?;
        let fds = vec![null.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let pids = namespaces.for_start().map_err(Problem::Pids)?;
        let proc = pids.as_ref().map(|_| volumes::of_the_machine(read_only));
        let pid = self.launch_in(&self.leaf, &self.spec.argv, fds, false, pids, proc)?;
        // Of one that has ended at once there is nothing to enter.
        self.pids = namespaces.space_of(pid).unwrap_or_default();
        Ok(pid)
    }

    /// Starts a program as this container's confinement wants it: its own, and each that is run
    /// beside it.
    fn launch_in(
        &self,
        leaf: &Cgroup,
        argv: &[String],
        fds: Vec<BorrowedFd<'_>>,
        terminal: bool,
        pids: Option<Elsewhere>,
        proc: Option<&[&CStr]>,
    ) -> Result<Pid, Problem> {
        let who = Who { user: self.spec.user, group: self.group() };
        let confinement = self.spec.confinement.prepare(who, self.spec.no_new_privs)?;
        let leaf = leaf.open().map_err(Problem::Plumbing)?;
        let doors = self.spec.share.doors().map_err(Problem::Plumbing)?;
        // From here on all paths are as the container sees them.
        let _inside = self.seen.as_ref().map(Seen::enter).transpose()?;
        let program = program::find(argv, &self.spec, terminal)?;
        let name = program.name();
        let launch = Launch {
            program: program.file,
            argv: program.argv,
            env: program.env,
            fds,
            terminal,
            cgroup: leaf.as_fd(),
            enter: &doors,
            dir: program.dir,
            confinement: &confinement,
            other_pids: pids.is_some(),
            proc,
            oom_score: self.spec.oom_score.map(oom_score),
            way: self.way,
        };
        launch.start().map_err(|error| Problem::Launch { program: name, error })
    }

    /// A pipe for one output; the end for the container.
    fn output(&mut self, stream: Stream) -> io::Result<OwnedFd> {
        let (output, write) = Output::new(stream)?;
        self.lend(&write, false);
        self.outputs.push(output);
        Ok(write)
    }

    /// Gives a pipe, or a terminal of its own, to the container's user, so that it may open
    /// /dev/stdout, as programs in containers do. Who may not do this may not set the user either,
    /// which then says so by its name.
    fn lend(&self, fd: &OwnedFd, terminal: bool) {
        let Some(user) = self.spec.user else { return };
        let is_pipe = rustix::fs::fstat(fd)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        // Anything else that an agent sends is not only this program's.
        if is_pipe || terminal {
            let group = self.group().map(Gid::from_raw);
            let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(user)), group);
        }
    }

    /// With a user but no group, group 0, as in Kubernetes.
    fn group(&self) -> Option<u32> {
        self.spec.group.or_else(|| self.spec.user.map(|_| 0))
    }

    /// Everybody who wrote is dead: what is in the pipes is all.
    fn finish_outputs(&mut self) {
        for output in std::mem::take(&mut self.outputs) {
            output.finish(&mut self.log);
        }
    }

    fn refusal(&self, code: &str, why: &str) -> Reason {
        Reason::new(code, format!("container {:?}: {why}", self.spec.name))
    }
}

/// As it is written into `/proc`.
fn oom_score(score: i16) -> CString {
    // Digits hold no zero byte.
    CString::new(score.to_string()).unwrap_or_default()
}
