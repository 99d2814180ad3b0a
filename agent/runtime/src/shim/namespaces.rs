//! What of the machine's namespaces a pod does not share.
//!
//! Network and IPC are left by the supervisor itself, at its start, before it has anything: whatever
//! it starts is in the pod's, each run of a container anew, and they end with the last process of the
//! pod, however that ends. Nothing pins them anywhere.
//!
//! Process ids can be left only for processes that are started, so each start goes through a moment in
//! which the supervisor's next child is born elsewhere:
//!
//! ```text
//!   the machine's ── new, or the pod's, or a container's ── child started there ── the machine's
//! ```
//!
//! The first process of a namespace is its `init`: it reaps the orphans there, a signal that it does not
//! handle does nothing to it, and all others end with it. Of a container's that is its program; of one
//! that a pod's containers share it is a process of ours that only reaps ([`sys::start_first`]).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

use everynode_agent_core::{Namespaces as Wanted, Pids};
use everynode_model::Reason;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::LinkNameSpaceType;
use serde::{Deserialize, Serialize};

use super::volumes::System;
use crate::cgroup::Cgroup;
use crate::sys::{self, Kind, Way};

/// As in a specification; without any of it all is the machine's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireNamespaces {
    #[serde(default)]
    network: bool,
    #[serde(default)]
    ipc: bool,
    #[serde(default)]
    pids: WirePids,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WirePids {
    #[default]
    Machine,
    Container,
    Pod,
}

/// The pod's namespaces, as its supervisor keeps them.
pub(super) struct Namespaces {
    wanted: WireNamespaces,
    /// Why nothing can be started.
    failed: Option<Reason>,
    /// The machine's process ids, in which the supervisor stays.
    home: Option<Rc<Pidspace>>,
    /// The cgroup of the first process of those that containers share.
    leaf: Cgroup,
    way: Way,
    shared: Option<Shared>,
}

/// A namespace of process ids, which exists for as long as somebody is in it or has it open.
pub(super) struct Pidspace(OwnedFd);

/// Process ids that the pod's containers share.
struct Shared {
    first: Pid,
    space: Pidspace,
}

/// Until it is dropped, children of the supervisor are born in other process ids than the machine's.
pub(super) struct Elsewhere {
    home: Rc<Pidspace>,
}

impl From<Wanted> for WireNamespaces {
    fn from(wanted: Wanted) -> Self {
        let pids = match wanted.pids {
            Pids::Machine => WirePids::Machine,
            Pids::Container => WirePids::Container,
            Pids::Pod => WirePids::Pod,
        };
        Self { network: wanted.network, ipc: wanted.ipc, pids }
    }
}

impl WireNamespaces {
    /// Leaves the machine's network and IPC for the pod's.
    ///
    /// Called once, at the supervisor's start. Where it fails, nothing is ever started: what is half
    /// left is not the machine's, and not what was asked for.
    pub(super) fn leave(self, leaf: Cgroup, way: Way) -> Namespaces {
        let failed = |what: &'static str| {
            move |error: io::Error| {
                let line = format!("the pod can't have {what} of its own: {error}");
                Reason::new("CreatePodSandboxError", line)
            }
        };
        let left = || {
            if self.ipc {
                sys::new_namespace(Kind::Ipc).map_err(failed("an IPC namespace"))?;
            }
            if self.network {
                sys::new_namespace(Kind::Network)
                    .and_then(|()| sys::bring_up(c"lo"))
                    .map_err(failed("a network namespace"))?;
            }
            match self.pids {
                WirePids::Machine => Ok(None),
                _ => Pidspace::of("self").map(Some).map_err(failed("a PID namespace")),
            }
        };
        let (home, failed) = match left() {
            Ok(home) => (home.map(Rc::new), None),
            Err(reason) => (None, Some(reason)),
        };
        Namespaces { wanted: self, failed, home, leaf, way, shared: None }
    }
}

impl Namespaces {
    /// Why nothing can be started in the pod, if nothing can.
    pub(super) fn check(&self) -> Result<(), Reason> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Which of the machine's file systems would show its containers what is not theirs.
    pub(super) fn system(&self) -> System {
        let WireNamespaces { network, ipc, pids } = self.wanted;
        System { network, ipc, pids: pids != WirePids::Machine }
    }

    /// Gets ready for the start of a container; `None` where it shares the machine's process ids.
    pub(super) fn for_start(&mut self) -> io::Result<Option<Elsewhere>> {
        let Some(home) = self.home.clone() else { return Ok(None) };
        match self.wanted.pids {
            WirePids::Machine => return Ok(None),
            WirePids::Container => sys::new_namespace(Kind::Pids)?,
            WirePids::Pod => self.shared(&home)?.enter()?,
        }
        Ok(Some(Elsewhere { home }))
    }

    /// Gets ready for the start of a program beside a container's.
    pub(super) fn for_exec(&self, space: Option<&Pidspace>) -> io::Result<Option<Elsewhere>> {
        let Some(home) = self.home.clone() else { return Ok(None) };
        space.ok_or(io::ErrorKind::NotFound)?.enter()?;
        Ok(Some(Elsewhere { home }))
    }

    /// The process ids that a container has, by its first process.
    pub(super) fn space_of(&self, pid: Pid) -> io::Result<Option<Pidspace>> {
        match self.home {
            Some(_) => Pidspace::of(&pid.as_raw_nonzero().to_string()).map(Some),
            None => Ok(None),
        }
    }

    /// Takes note of a reaped process; whether it was the first of those that containers share, with
    /// which all of them end. The next start begins anew.
    pub(super) fn reaped(&mut self, pid: Pid) -> bool {
        self.shared.take_if(|shared| shared.first == pid).is_some()
    }

    /// When no container runs any more: ends what is ours.
    pub(super) fn end(&mut self) {
        let Some(Shared { first, .. }) = self.shared.take() else { return };
        let _ = rustix::process::kill_process(first, Signal::KILL);
        // Its end waits until all others of its namespace are reaped, so by us those that we started.
        let any = || rustix::process::wait(WaitOptions::empty());
        while let Ok(Some((reaped, _))) = rustix::io::retry_on_intr(any) {
            if reaped == first {
                return;
            }
        }
    }

    fn shared(&mut self, home: &Rc<Pidspace>) -> io::Result<&Pidspace> {
        if self.shared.is_none() {
            self.leaf.make()?;
            let leaf = self.leaf.open()?;
            sys::new_namespace(Kind::Pids)?;
            let elsewhere = Elsewhere { home: Rc::clone(home) };
            let first = sys::start_first(leaf.as_fd(), self.way)?;
            drop(elsewhere);
            let space = Pidspace::of(&first.as_raw_nonzero().to_string())?;
            self.shared = Some(Shared { first, space });
        }
        let shared = self.shared.as_ref().map(|shared| &shared.space);
        shared.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Pidspace {
    /// That of a process.
    fn of(pid: &str) -> io::Result<Self> {
        let path = format!("/proc/{pid}/ns/pid");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// From now on children are born there.
    fn enter(&self) -> io::Result<()> {
        let kind = Some(LinkNameSpaceType::ProcessID);
        Ok(rustix::thread::move_into_link_name_space(self.0.as_fd(), kind)?)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // Where this fails, so does the next start: it leaves or enters anew, and from elsewhere the
        // kernel lets nobody.
        let _ = self.home.enter();
    }
}
