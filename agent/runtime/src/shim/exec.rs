//! What is run in a container beside its first process: a probe, a hook, somebody's shell.
//!
//! ```text
//!              its time is over: killed
//!                 ┌─────┐
//!   launched ──▶ Running ── first process reaped ──▶ Emptying ── leaf seen empty, ──▶ told, forgotten
//!                                                                or too long
//! ```
//!
//! Each has a cgroup of its own inside its container's: so it ends with the container at the
//! latest, and what it forked ends with it.

use std::time::Duration;

use everynode_model::Reason;
use rustix::process::{Pid, WaitStatus};

use super::clock;
use super::emptying::{Emptying, KILL_AGAIN};
use super::protocol::{Message, WireExit};
use crate::cgroup::{Cgroup, Events, Force};

/// The most that run at once in a pod: three probes and a hook of each of a dozen containers, and
/// some people.
const MAX_EXECS: usize = 64;

/// All that run in a pod.
#[derive(Default)]
pub(super) struct Execs {
    running: Vec<Exec>,
    made: u64,
}

struct Exec {
    /// Under which the present agent knows it; `None` for a former one's.
    id: Option<u64>,
    leaf: Cgroup,
    force: Force,
    state: State,
    timed_out: bool,
}

enum State {
    Running {
        pid: Pid,
        /// By the boot clock.
        kill_at: Option<Duration>,
    },
    Emptying {
        exit: WireExit,
        emptying: Emptying,
    },
}

impl Execs {
    /// The name of a cgroup for one more, in its container's.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn next_leaf(&mut self) -> Result<String, Reason> {
        if self.running.len() >= MAX_EXECS {
            let line = format!("{MAX_EXECS} programs are being run in this pod already");
            return Err(Reason::new("TooManyExecs", line));
        }
        self.made += 1;
        Ok(format!("exec-{}", self.made))
    }

    /// Takes note of one that was launched.
    pub(super) fn launched(
        &mut self,
        id: u64,
        pid: Pid,
        leaf: Cgroup,
        force: Force,
        timeout: Option<Duration>,
    ) {
        let kill_at = timeout.map(|timeout| clock::boot().saturating_add(timeout));
        let state = State::Running { pid, kill_at };
        self.running.push(Exec { id: Some(id), leaf, force, state, timed_out: false });
    }

    /// Kills one.
    pub(super) fn end(&mut self, id: u64) {
        self.running.iter().filter(|exec| exec.id == Some(id)).for_each(Exec::kill);
    }

    /// Kills all, whose agent is gone: nobody knows what they were for.
    pub(super) fn end_all(&mut self) {
        for exec in &mut self.running {
            exec.kill();
            exec.id = None;
        }
    }

    /// Takes note of a reaped process; whether it was one of theirs.
    pub(super) fn reaped(&mut self, pid: Pid, status: WaitStatus) -> bool {
        self.running.iter_mut().any(|exec| exec.reaped(pid, status))
    }

    /// Kills those whose time is over, goes on with emptying; what is to be told.
    pub(super) fn progress(&mut self) -> Vec<Message> {
        let now = clock::boot();
        let mut told = Vec::new();
        self.running.retain_mut(|exec| match exec.progress(now) {
            None => true,
            Some(exit) => {
                let timed_out = exec.timed_out;
                told.extend(exec.id.map(|id| Message::Executed { id, exit, timed_out }));
                false
            }
        });
        told
    }

    /// When [`Self::progress`] is due without being told to, by the boot clock.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        self.running.iter().filter_map(Exec::wake_at).min()
    }

    /// What to wait for.
    pub(super) fn leaf_events(&self) -> impl Iterator<Item = &Events> {
        self.running.iter().filter_map(|exec| match &exec.state {
            State::Emptying { emptying, .. } => emptying.events(),
            State::Running { .. } => None,
        })
    }
}

impl Exec {
    fn kill(&self) {
        // What can't be killed now is tried again when its first process has ended.
        let _ = self.leaf.force(self.force);
    }

    fn reaped(&mut self, pid: Pid, status: WaitStatus) -> bool {
        if !matches!(self.state, State::Running { pid: running, .. } if running == pid) {
            return false;
        }
        let emptying = Emptying::begin(&self.leaf);
        self.state = State::Emptying { exit: status.into(), emptying };
        true
    }

    /// Its exit, when it is time to tell it.
    fn progress(&mut self, now: Duration) -> Option<WireExit> {
        match &mut self.state {
            State::Running { kill_at, .. } => {
                if kill_at.is_some_and(|at| now >= at) {
                    *kill_at = Some(now + KILL_AGAIN);
                    self.timed_out = true;
                    self.kill();
                }
                None
            }
            State::Emptying { exit, emptying } => {
                let populated = emptying.progress(&self.leaf, self.force, now);
                if populated && !emptying.is_late(now) {
                    return None;
                }
                // What is still alive is emptied with the container.
                let _ = self.leaf.remove_tree();
                Some(*exit)
            }
        }
    }

    fn wake_at(&self) -> Option<Duration> {
        match &self.state {
            State::Running { kill_at, .. } => *kill_at,
            State::Emptying { emptying, .. } => Some(emptying.wake_at()),
        }
    }
}
