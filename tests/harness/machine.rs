//! A node: a network namespace, a hostname, a directory, a root for cgroups, and an agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clock::WrongClock;
use crate::daemon::Daemon;
use crate::failure::{Context as _, Outcome};
use crate::ground::Ground;
use crate::net::{Address, Namespace, Switch};
use crate::proc::{self, Process};
use crate::said::Said;
use crate::{cgroups, ensure, failure};

/// What an agent needs to join.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The coordinator's addresses, `HOST:PORT,…`.
    pub coordinator: String,
    /// The token.
    pub token: String,
    /// Labels to begin with.
    pub labels: Vec<String>,
}

/// A node. Dropped, all that is in it is killed and removed.
#[derive(Debug)]
pub struct Machine {
    name: String,
    address: Address,
    dir: PathBuf,
    /// Relative to the mount, as the agent is told it.
    root: String,
    mount: PathBuf,
    program: PathBuf,
    boots: u32,
    /// What its agents are told by their environment.
    told: Vec<(String, String)>,
    agent: Option<Daemon>,
    /// A wrong one, if any.
    clock: Option<WrongClock>,
    /// Last, so that it is removed last.
    namespace: Namespace,
}

/// The exporter's port on every machine.
pub const EXPORTER_PORT: u16 = 9100;

impl Machine {
    /// A machine that is plugged in and runs nothing yet.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(
        ground: &Ground,
        switch: &Switch,
        fleet: &str,
        name: &str,
        address: Address,
    ) -> Outcome<Self> {
        let dir = Ground::dir(fleet)?.join(name);
        fs::create_dir(&dir).context(dir.display())?;
        let namespace = switch.plug(fleet, name, address)?;
        let mut machine = Self {
            name: name.to_owned(),
            address,
            dir,
            root: format!("{fleet}/{name}"),
            mount: cgroups::mount()?,
            program: ground.program("everynode-agent"),
            boots: 0,
            told: Vec::new(),
            agent: None,
            clock: None,
            namespace,
        };
        fs::write(machine.file("machine-id"), format!("{:032x}\n", address.number))?;
        machine.boot()?;
        Ok(machine)
    }

    /// Its name, which is also its hostname.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its place in the network.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The data directory of its agent.
    pub fn data_dir(&self) -> PathBuf {
        self.file("data")
    }

    /// A file of its own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The root of its cgroups.
    pub fn cgroup(&self) -> PathBuf {
        self.mount.join(&self.root)
    }

    /// A command that runs on it: in its network, under its hostname.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = self.namespace.command("unshare");
        let script = r#"hostname "$0" && exec "$@""#;
        command.args(["-m", "-u", "sh", "-c", script, &self.name]).arg(program);
        // What the host's own agent is told is nothing to this one.
        command.env("EVERYNODE_AGENT_CONFIG", "/dev/null");
        command
    }

    /// The agent's program with a verb and its words, on its data directory, run to the end.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn ask_agent(&self, words: &str) -> Outcome<Said> {
        let mut command = self.command(&self.program);
        command.args(words.split(' ')).arg("--data-dir").arg(self.data_dir());
        Said::by(command)
    }

    /// An agent's command line for this machine, on any data directory.
    pub fn agent_command(&self, data: &Path, joining: Option<&Joining>) -> Command {
        let mut command = self.command(&self.program);
        command.arg("--data-dir").arg(data);
        command.args(["--cgroup-root", &self.root]);
        if let Some(clock) = &self.clock {
            clock.give_to(&mut command);
        }
        command.envs(self.told.iter().cloned());
        command.arg("--boot-id-file").arg(self.file("boot-id"));
        command.arg("--machine-id-file").arg(self.file("machine-id"));
        if let Some(joining) = joining {
            command.args(["--node-name", &self.name, "--coordinator", &joining.coordinator]);
            command.args(["--join-token", &joining.token]);
            command.args(joining.labels.iter().flat_map(|label| ["--label", label]));
        }
        command
    }

    /// Tells the agents that are started from now on something: a variable of theirs.
    pub fn tell(&mut self, variable: &str, value: impl Into<String>) {
        self.told.push((variable.to_owned(), value.into()));
    }

    /// Sets its date, for the agent that runs if it has such a clock already, and for those after
    /// it; as [`WrongClock::set`].
    ///
    /// # Errors
    /// When it can't be set.
    pub fn set_clock(&mut self, to: &str) -> Outcome {
        let clock = match self.clock.take() {
            Some(clock) => clock,
            None => WrongClock::told_by(self.file("clock"))?,
        };
        self.clock.insert(clock).set(to)
    }

    /// The command line that takes it to another coordinator.
    pub fn rejoin_command(&self, joining: &Joining) -> Command {
        let mut command = self.command(&self.program);
        command.arg("rejoin").arg("--data-dir").arg(self.data_dir());
        command.arg("--machine-id-file").arg(self.file("machine-id"));
        command.args(["--coordinator", &joining.coordinator, "--join-token", &joining.token]);
        command
    }

    /// Starts the agent: with a token to join, else with what it knows.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_agent(&mut self, joining: Option<&Joining>) -> Outcome {
        ensure!(self.agent.is_none(), "the agent of {} runs already", self.name);
        let command = self.agent_command(&self.data_dir(), joining);
        self.agent = Some(Daemon::start(command, &self.file("agent.log"))?);
        Ok(())
    }

    /// The running agent, out of the machine's hands.
    ///
    /// # Errors
    /// When there is none.
    pub fn take_agent(&mut self) -> Outcome<Daemon> {
        self.agent.take().ok_or_else(|| failure!("no agent runs on {}", self.name))
    }

    /// The pid of the running agent.
    pub fn agent_pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Daemon::pid)
    }

    /// All that its agents have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.file("agent.log")).unwrap_or_default()
    }

    /// Loses power: everything on it is dead at once, cgroups and sockets are gone. What is on
    /// disk stays.
    ///
    /// # Errors
    /// When something survives.
    pub fn lose_power(&mut self) -> Outcome {
        if let Some(agent) = self.agent.take() {
            agent.kill()?;
        }
        cgroups::wipe(&self.cgroup())
    }

    /// Has another boot id from now on.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn boot(&mut self) -> Outcome {
        self.boots += 1;
        let id = format!("{:08}-0000-4000-8000-{:012}\n", self.boots, self.address.number);
        fs::write(self.file("boot-id"), id)?;
        Ok(())
    }

    /// The running agent.
    pub fn agent_mut(&mut self) -> Option<&mut Daemon> {
        self.agent.as_mut()
    }

    /// The inode of its network's namespace: what its processes are told by.
    pub fn network(&self) -> u64 {
        self.namespace.inode()
    }

    /// Every living process on it: in its network, wherever its cgroup.
    pub fn processes(&self) -> Vec<Process> {
        proc::in_network(self.network())
    }

    /// The instances of a program on it: in its network, wherever their cgroup.
    pub fn running(&self, program: &str) -> Vec<Process> {
        let here = self.processes().into_iter();
        here.filter(|process| process.program() == program).collect()
    }

    /// The only instance of a program on it, which is in a container's cgroup below its root.
    ///
    /// # Errors
    /// When there is none, or more than one, or it is somewhere else.
    pub fn only(&self, program: &str) -> Outcome<Process> {
        let running = self.running(program);
        let [only] = running.as_slice() else {
            return Err(failure!("{} instances of {program} on {}", running.len(), self.name));
        };
        let members = cgroups::members(&self.cgroup());
        let home = members.iter().find(|(_, process)| process.pid == only.pid);
        let (home, _) = home.ok_or_else(|| {
            failure!("{program} ({}) on {} is in no cgroup of ours", only.pid, self.name)
        })?;
        let leaf = home.file_name().unwrap_or_default().to_string_lossy();
        ensure!(leaf.starts_with("c-"), "{program} on {} is in {}", self.name, home.display());
        Ok(only.clone())
    }

    /// Sees that no instance of a program runs on it.
    ///
    /// # Errors
    /// When one does.
    pub fn none(&self, program: &str) -> Outcome {
        let running = self.running(program);
        ensure!(running.is_empty(), "{program} runs on {}: {running:?}", self.name);
        Ok(())
    }

    /// The supervisor of a process on it: its parent, in the cgroup `shim` of the same pod.
    ///
    /// # Errors
    /// When it has none.
    pub fn shim_of(&self, process: &Process) -> Outcome<Process> {
        let members = cgroups::members(&self.cgroup());
        let shim = members.into_iter().find(|(cgroup, member)| {
            member.pid == process.parent && cgroup.file_name().is_some_and(|leaf| leaf == "shim")
        });
        let (_, shim) = shim.ok_or_else(|| failure!("{process:?} has no supervisor"))?;
        Ok(shim)
    }

    /// Sees that nothing of ours lives on it, and that the cgroups are gone.
    ///
    /// # Errors
    /// When something is left.
    pub fn empty(&self) -> Outcome {
        let members = cgroups::members(&self.cgroup());
        ensure!(members.is_empty(), "something of ours lives on {}: {members:?}", self.name);
        let cgroups = cgroups::tree(&self.cgroup());
        // The root itself stays: agents lock it, and a lock on a removed directory is nobody's.
        ensure!(cgroups.len() <= 1, "cgroups are left on {}: {cgroups:?}", self.name);
        Ok(())
    }

    /// Reads the exporter's metrics over HTTP, on the machine.
    ///
    /// # Errors
    /// When it does not answer, or answers for another machine.
    pub fn scrape(&self) -> Outcome<String> {
        let url = format!("http://{}:{EXPORTER_PORT}/metrics", self.address.host());
        let mut command = self.namespace.command("curl");
        command.args(["-sS", "--globoff", "--fail", "--noproxy", "*", "--max-time", "5", &url]);
        let metrics = Said::by(command)?.ok()?;
        let hostname = format!("nodename=\"{}\"", self.name);
        ensure!(metrics.contains(&hostname), "the exporter of {} is another's", self.name);
        Ok(metrics)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What can't be killed or removed now is by the next run.
        let _ = self.lose_power();
    }
}
