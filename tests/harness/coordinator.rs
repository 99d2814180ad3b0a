//! The coordinator, in a namespace of its own, and the command line tool beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clock::WrongClock;
use crate::daemon::Daemon;
use crate::failure::{Context as _, Outcome};
use crate::ground::Ground;
use crate::net::{Address, Family, Namespace, Switch};
use crate::proc::{self, Process};
use crate::said::Said;
use crate::{ensure, failure, wait};

/// The port on which it listens.
pub const PORT: u16 = 7443;

/// Quick ones, so that a lost node is seen to be lost within seconds.
const TIMES: [&str; 6] = ["--heartbeat", "1s", "--lease", "3s", "--registration-window", "3s"];

/// A coordinator. Dropped, it is killed.
#[derive(Debug)]
pub struct Coordinator {
    dir: PathBuf,
    program: PathBuf,
    tool: PathBuf,
    address: Address,
    /// Beyond the usual ones.
    flags: Vec<String>,
    process: Option<Daemon>,
    /// A wrong one, if any.
    clock: Option<WrongClock>,
    namespace: Namespace,
}

impl Coordinator {
    /// A coordinator that is plugged in and not started.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(ground: &Ground, switch: &Switch, fleet: &str) -> Outcome<Self> {
        let dir = Ground::dir(fleet)?.join("coordinator");
        fs::create_dir(&dir).context(dir.display())?;
        let address = Address { number: 254, family: Family::Dual };
        Ok(Self {
            dir,
            program: ground.program("everynode-coordinator"),
            tool: ground.program("everynode"),
            address,
            flags: Vec::new(),
            process: None,
            clock: None,
            namespace: switch.plug(fleet, "coordinator", address)?,
        })
    }

    /// Its addresses, as agents are given them.
    pub fn addresses(&self) -> String {
        format!("{}:{PORT},[{}]:{PORT}", self.address.v4(), self.address.v6())
    }

    /// The one under which the tool and others reach it.
    pub fn address(&self) -> String {
        format!("{}:{PORT}", self.address.v4())
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The administrator's configuration that it writes.
    pub fn admin(&self) -> PathBuf {
        self.data_dir().join("admin.conf")
    }

    /// A command on the coordinator's machine.
    pub fn command(&self, program: &Path) -> Command {
        self.namespace.command(program)
    }

    /// A coordinator's command line on its machine, on any data directory and port.
    pub fn coordinator_command(&self, data: &Path, port: u16) -> Command {
        let mut command = self.command(&self.program);
        // What the host's own coordinator is told is nothing to this one.
        command.env("EVERYNODE_COORDINATOR_CONFIG", "/dev/null");
        command.arg("--data-dir").arg(data);
        command.args(["--listen", &format!("[::]:{port}"), "--advertise", &self.addresses()]);
        if let Some(clock) = &self.clock {
            clock.give_to(&mut command);
        }
        command
            .args(TIMES)
            .args(&self.flags)
            .env("EVERYNODE_LOG", "info,everynode_coordinator=debug");
        command
    }

    /// Further flags, from its next start on.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// Sets its date, for the one that runs if it has such a clock already, and for those after it;
    /// as [`WrongClock::set`].
    ///
    /// # Errors
    /// When it can't be set.
    pub fn set_clock(&mut self, to: &str) -> Outcome {
        let clock = match self.clock.take() {
            Some(clock) => clock,
            None => WrongClock::told_by(self.dir.join("clock"))?,
        };
        self.clock.insert(clock).set(to)
    }

    /// Loses all that it had stored: its next start makes another cluster.
    ///
    /// # Errors
    /// When it runs, or what it has can't be removed.
    pub fn lose_all(&mut self) -> Outcome {
        ensure!(self.process.is_none(), "the coordinator runs");
        fs::remove_dir_all(self.data_dir()).context(self.data_dir().display())
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(&mut self) -> Outcome {
        self.launch()?;
        self.answers()
    }

    /// Starts it, and waits for nothing.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn launch(&mut self) -> Outcome {
        ensure!(self.process.is_none(), "the coordinator runs already");
        let command = self.coordinator_command(&self.data_dir(), PORT);
        self.process = Some(Daemon::start(command, &self.dir.join("log"))?);
        Ok(())
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn answers(&self) -> Outcome {
        wait::soon("the coordinator answers", || self.tool(&["version"])?.ok().map(drop))
    }

    /// The running program.
    pub fn process_mut(&mut self) -> Option<&mut Daemon> {
        self.process.as_mut()
    }

    /// Every living process in its network.
    pub fn processes(&self) -> Vec<Process> {
        proc::in_network(self.namespace.inode())
    }

    /// Ends it with no chance to do anything.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Outcome {
        self.process.take().ok_or_else(|| failure!("no coordinator runs"))?.kill()
    }

    /// The pid of the running one.
    ///
    /// # Errors
    /// When none runs.
    pub fn pid(&self) -> Outcome<u32> {
        let process = self.process.as_ref();
        process.map(Daemon::pid).ok_or_else(|| failure!("no coordinator runs"))
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Looks after what is stored: `store` with these words, run to its end.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn keep(&self, words: &[&str]) -> Outcome<Said> {
        let mut command = self.command(&self.program);
        command.arg("store").args(words).arg("--data-dir").arg(self.data_dir());
        Said::by(command)
    }

    /// The command line tool, as the administrator, not yet run.
    pub fn tool_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&self.tool);
        command.arg("--config").arg(self.admin()).args(arguments);
        command
    }

    /// The same, as the last words of another command, which runs it.
    pub fn tool_under(&self, mut outer: Command, arguments: &[&str]) -> Command {
        let tool = self.tool_command(arguments);
        outer.arg(tool.get_program()).args(tool.get_args());
        outer.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
        outer
    }

    /// The command line tool, as the administrator, run to its end.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn tool(&self, arguments: &[&str]) -> Outcome<Said> {
        Said::by(self.tool_command(arguments))
    }
}
