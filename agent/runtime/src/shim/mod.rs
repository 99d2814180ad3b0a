//! The supervisor of one pod: the agent's binary, run again with nothing of the agent in it.
//!
//! It starts the containers, reaps them and what they orphan, keeps their exits and logs, and
//! outlives its agent. It decides nothing: when to start again and when to kill is the agent's
//! business, which comes by the socket (`protocol`). It ends when it was told to end its pod and
//! nothing of it is alive; its own end then empties the place. A signal is no order: whoever sends
//! one to everything on the machine would end pods that their agent goes on taking for wanted.
//!
//! ```text
//!   fd 3: specification ─┐       ┌─ SIGCHLD
//!   fd 4: listener ──────┼─ poll ┼─ the agent's requests
//!                        │       ├─ the containers' outputs ── logs
//!                        │       └─ leaves becoming empty
//!                        └── no threads, no async runtime: a megabyte of its own at most
//! ```

mod agent;
pub(crate) mod brought;
mod clock;
pub(crate) mod confine;
mod container;
mod emptying;
mod exec;
mod log;
pub(crate) mod namespaces;
mod output;
pub(crate) mod plan;
mod program;
pub(crate) mod protocol;
mod resize;
mod socket;
mod volumes;

pub use log::MAX_LOG_FILE;
pub use program::{DEFAULT_PATH, is_program, programs_in};
pub(crate) use volumes::VOLUMES;
pub use volumes::host_path::problem as host_path_problem;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use everynode_model::Reason;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Signal, WaitOptions};

use crate::cgroup::Cgroup;
use crate::place;
use crate::sys::{self, Way};
use agent::{Agent, Unknown};
use container::Container;
use exec::Execs;
use log::Log;
use namespaces::Namespaces;
use plan::WirePlan;
use protocol::{
    Account, ExecWanted, Identity, LOGS, MAX_SPEC, Message, NOT_UNDERSTOOD, Request, Spec,
    SpecContainer,
};
use volumes::Volumes;

/// Where the agent put what the supervisor needs.
pub(crate) const SPEC_FD: i32 = 3;
pub(crate) const LISTENER_FD: i32 = 4;

/// What is not left to end the supervisor.
const SIGNALS: [Signal; 4] = [Signal::CHILD, Signal::TERM, Signal::INT, Signal::HUP];

/// One buffer for all outputs.
const BUFFER: usize = 64 * 1024;

struct Shim {
    identity: Identity,
    pod: Cgroup,
    /// Whether a change of limits has failed half-way and could not be undone.
    limits_in_doubt: bool,
    /// When its limits were changed last, by the boot clock.
    resized_at: Option<Duration>,
    plan: WirePlan,
    restarts_before: u64,
    containers: Vec<Container>,
    execs: Execs,
    volumes: Volumes,
    namespaces: Namespaces,
    terminating: bool,
    signals: OwnedFd,
    listener: OwnedFd,
    agent: Option<Agent>,
    buffer: Vec<u8>,
}

/// What a round of waiting found.
#[derive(Default)]
struct Ready {
    signals: bool,
    listener: bool,
    agent: bool,
    outputs: bool,
}

/// The supervisor's whole life. To be called before any thread or async runtime exists, when the
/// agent's first argument is `shim`.
pub fn main() -> ExitCode {
    match Shim::begin().and_then(Shim::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "everynode-shim: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Shim {
    fn begin() -> io::Result<Self> {
        let spec = read_spec()?;
        let listener = sys::inherited(LISTENER_FD)?;
        let signals = sys::signal_fd(&SIGNALS)?;
        // What a container orphans comes to us, and not to init.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let (pod, directory) = (Cgroup::at(&spec.cgroup), Path::new(&spec.directory));
        let max_log_file = spec.max_log_file.unwrap_or(MAX_LOG_FILE);
        let new = |c: SpecContainer| {
            let log = Log::new(&directory.join(LOGS), &c.name, max_log_file);
            Container::new(c, &pod, log, spec.old_kernel)
        };
        let way = if spec.old_kernel { Way::Fork } else { Way::Best };
        Ok(Self {
            identity: spec.identity,
            limits_in_doubt: false,
            resized_at: None,
            plan: spec.plan,
            restarts_before: spec.restarts,
            containers: spec.containers.into_iter().map(new).collect(),
            execs: Execs::default(),
            volumes: Volumes::new(spec.volumes, spec.fs_group, directory.to_owned()),
            namespaces: spec.namespaces.leave(pod.child(place::PAUSE), way),
            pod,
            terminating: false,
            signals,
            listener,
            agent: None,
            buffer: vec![0; BUFFER],
        })
    }

    fn run(mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            if ready.outputs {
                for container in &mut self.containers {
                    container.read_outputs(&mut self.buffer);
                }
            }
            if ready.signals {
                self.take_signals();
            }
            if ready.listener {
                self.take_connection();
            }
            if ready.agent {
                self.hear_agent();
            }
            self.progress();
            if self.terminating && self.containers.iter().all(Container::is_over) {
                self.namespaces.end();
                self.tell(&Message::Leaving {});
                return Ok(());
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let readable = |fd| PollFd::new(fd, PollFlags::IN);
        let mut fds = vec![readable(&self.signals), readable(&self.listener)];
        fds.extend(self.agent.as_ref().map(Agent::poll_fd));
        let outputs_from = fds.len();
        fds.extend(self.containers.iter().flat_map(Container::pipes).map(readable));
        let leaves_from = fds.len();
        let leaves = self.containers.iter().filter_map(Container::leaf_events);
        let leaves = leaves.chain(self.execs.leaf_events());
        fds.extend(leaves.map(crate::cgroup::Events::poll_fd));
        let timeout = self.timeout();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        Ok(Ready {
            signals: is_ready(&fds[0]),
            listener: is_ready(&fds[1]),
            agent: fds[2..outputs_from].iter().any(is_ready),
            outputs: fds[outputs_from..leaves_from].iter().any(is_ready),
        })
    }

    fn timeout(&self) -> Option<Timespec> {
        let containers = self.containers.iter().filter_map(Container::wake_at);
        let due = containers.chain(self.execs.wake_at()).min()?;
        due.saturating_sub(clock::boot()).try_into().ok()
    }

    fn take_signals(&mut self) {
        // One of each kind at most, of 128 bytes each; all but SIGCHLD are taken to be ignored.
        let mut infos = [0_u8; 128 * SIGNALS.len()];
        let _ = rustix::io::read(&self.signals, &mut infos);
        self.reap();
    }

    /// All that are dead: the supervisor is the only parent here, so it may wait for any child.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let _ = self.containers.iter_mut().any(|container| container.reaped(pid, status))
                || self.execs.reaped(pid, status)
                || self.namespaces.reaped(pid);
        }
    }

    fn take_connection(&mut self) {
        if let Ok(Some(agent)) = Agent::accept(&self.listener) {
            self.execs.end_all();
            self.agent = Some(agent);
        }
    }

    fn hear_agent(&mut self) {
        let Some(mut agent) = self.agent.take() else { return };
        agent.flush();
        for request in agent.receive() {
            let answer = self.answer(request, &mut agent);
            agent.send(&answer);
        }
        if agent.is_closed() {
            self.execs.end_all();
        } else {
            self.agent = Some(agent);
        }
    }

    fn answer(&mut self, request: Result<Request, Unknown>, agent: &mut Agent) -> Message {
        match request {
            Ok(Request::Account {}) => Message::Account(self.account()),
            Ok(Request::Start { container }) => match self.start(&container) {
                Ok(pid) => Message::Started { container, pid },
                Err(reason) => Message::refused(reason),
            },
            Ok(Request::Printed { container }) => {
                let known = self.containers.iter().find(|known| known.name() == container);
                let text = known.map(|known| known.last_tail().as_str().to_owned());
                Message::Printed { container, text: text.unwrap_or_default() }
            }
            Ok(Request::Terminate {}) => {
                self.terminating = true;
                self.containers.iter_mut().for_each(Container::stop);
                Message::Terminating {}
            }
            Ok(Request::Close {}) => {
                self.terminating = true;
                Message::Closed {}
            }
            Ok(Request::Stop { container }) => {
                let known = self.containers.iter_mut().find(|known| known.name() == container);
                known.into_iter().for_each(Container::stop);
                Message::Stopping { container }
            }
            Ok(Request::Exec(wanted)) => {
                let id = wanted.id;
                match self.exec(&wanted, agent.take_fds()) {
                    Ok(pid) => Message::Executing { id, pid },
                    Err(reason) => Message::refused(reason),
                }
            }
            Ok(Request::EndExec { id }) => {
                self.execs.end(id);
                Message::EndingExec { id }
            }
            Ok(Request::Resize(wanted)) => self.resize(wanted),
            Ok(Request::Plan {}) => Message::Plan(self.plan.clone()),
            Ok(Request::Socket { v6 }) => match self.socket(v6, agent.take_fds()) {
                Ok(()) => Message::Socket {},
                Err(reason) => Message::refused(reason),
            },
            Err(unknown) => {
                agent.drop_fds(unknown);
                Message::refused(Reason::new(NOT_UNDERSTOOD, "no such request"))
            }
        }
    }

    fn exec(&mut self, wanted: &ExecWanted, fds: Option<[OwnedFd; 3]>) -> Result<u32, Reason> {
        let ExecWanted { id, container, argv, terminal, timeout_millis } = wanted;
        let Some(fds) = fds else {
            return Err(Reason::new("ExecError", "the request brought no descriptors"));
        };
        let known = self.containers.iter().find(|known| known.name() == container);
        let Some(known) = known else {
            return Err(Reason::new("NoSuchContainer", format!("no container {container:?}")));
        };
        let leaf = self.execs.next_leaf()?;
        let (pid, leaf, force) = known.exec(argv, &fds, *terminal, &leaf, &self.namespaces)?;
        self.execs.launched(*id, pid, leaf, force, timeout_millis.map(Duration::from_millis));
        Ok(pid.as_raw_nonzero().get().unsigned_abs())
    }

    fn socket(&self, v6: bool, fds: Option<[OwnedFd; 1]>) -> Result<(), Reason> {
        self.namespaces.check()?;
        let sent = match fds {
            Some([to]) => socket::hand_out(v6, &to),
            None => Err(io::Error::other("the request brought no descriptor")),
        };
        sent.map_err(|error| Reason::new("SocketError", error.to_string()))
    }

    fn start(&mut self, name: &str) -> Result<u32, Reason> {
        if self.terminating {
            return Err(Reason::new("Terminating", "the pod is being ended"));
        }
        self.namespaces.check()?;
        let known = self.containers.iter_mut().find(|container| container.name() == name);
        match known {
            Some(container) => container.start(&mut self.volumes, &mut self.namespaces),
            None => Err(Reason::new("NoSuchContainer", format!("no container {name:?}"))),
        }
    }

    fn progress(&mut self) {
        // Before the containers that they ran in: their ends are told in this order.
        for message in self.execs.progress() {
            self.tell(&message);
        }
        for number in 0..self.containers.len() {
            if let Some(exit) = self.containers[number].progress() {
                let container = self.containers[number].name().to_owned();
                let printed = self.containers[number].last_tail().as_str().to_owned();
                let oom = self.containers[number].last_oom();
                self.tell(&Message::Exited { container, exit, oom, printed });
            }
        }
    }

    /// Tells the agent, if there is one; the account keeps it in any case.
    fn tell(&mut self, message: &Message) {
        if let Some(agent) = &mut self.agent {
            agent.send(message);
            if agent.is_closed() {
                self.agent = None;
                self.execs.end_all();
            }
        }
    }

    fn account(&self) -> Account {
        let restarts = self.containers.iter().map(Container::restarts).sum::<u64>();
        Account {
            identity: self.identity.clone(),
            terminating: self.terminating,
            restarts: self.restarts_before.saturating_add(restarts),
            containers: self.containers.iter().map(Container::account).collect(),
            resizes: true,
            limits_in_doubt: self.limits_in_doubt,
            resized_for_millis: self
                .resized_at
                .map(|at| protocol::millis(clock::boot().saturating_sub(at))),
        }
    }
}

/// Reads the whole specification, or does nothing at all: one that is cut short has no end of line.
fn read_spec() -> io::Result<Spec> {
    let mut text = Vec::new();
    let limit = u64::try_from(MAX_SPEC).unwrap_or(u64::MAX);
    File::from(sys::inherited(SPEC_FD)?).take(limit).read_to_end(&mut text)?;
    match text.strip_suffix(b"\n") {
        Some(whole) => serde_json::from_slice(whole).map_err(io::Error::other),
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "incomplete specification")),
    }
}
