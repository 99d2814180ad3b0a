//! A coordinator and its machines, from the first to the last.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::coordinator::Coordinator;
use crate::failure::{Context as _, Outcome};
use crate::ground::Ground;
use crate::machine::{Joining, Machine};
use crate::manifests::{EXPORTER_PROGRAM, WITNESS_PROGRAM};
use crate::net::{Address, Family, Switch};
use crate::proc::Process;
use crate::said::Said;
use crate::{cgroups, dump, ensure, failure, manifests, wait, witness};

/// The machine without IPv4, in every fleet that has as many.
pub const V6_ONLY: &str = "n2";

/// What runs on a machine, by its name: its only exporter and its only witness.
pub type Counted = (String, Process, Process);

/// A coordinator and its machines. Dropped, nothing is left of them.
#[derive(Debug)]
pub struct Fleet<'g> {
    ground: &'g Ground,
    name: String,
    dir: PathBuf,
    machines: Vec<Machine>,
    coordinator: Coordinator,
    switch: Switch,
}

impl<'g> Fleet<'g> {
    /// Plays a scenario on a fleet of `nodes` machines `n1`, `n2`, …, all joined and Ready. At its
    /// end no lock witness may ever have met another.
    ///
    /// # Errors
    /// The scenario's failure, with a report on the fleet.
    pub fn play(
        ground: &'g Ground,
        nodes: u8,
        scenario: impl FnOnce(&mut Self) -> Outcome,
    ) -> Outcome {
        let mut fleet = Self::new(ground)?;
        let played = fleet
            .grow(nodes)
            .and_then(|()| scenario(&mut fleet))
            .and_then(|()| witness::no_overlap(&fleet.witness_dir()));
        played.map_err(|failure| failure.with_report(&dump::fleet(&fleet)))
    }

    fn new(ground: &'g Ground) -> Outcome<Self> {
        let name = ground.name();
        let dir = Ground::dir(&name)?;
        fs::create_dir(dir.join("witness"))?;
        let switch = Switch::new(&name)?;
        let coordinator = Coordinator::new(ground, &switch, &name)?;
        let mut fleet = Self { ground, name, dir, machines: Vec::new(), coordinator, switch };
        fleet.coordinator.start()?;
        Ok(fleet)
    }

    fn grow(&mut self, nodes: u8) -> Outcome {
        let joining = self.joining(&[])?;
        for number in 1..=nodes {
            let name = self.add_machine(number)?;
            self.machine_mut(&name)?.start_agent(Some(&joining))?;
        }
        for number in 1..=nodes {
            self.ready(&format!("n{number}"))?;
        }
        Ok(())
    }

    /// One more machine, plugged in, without an agent; its name.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn add_machine(&mut self, number: u8) -> Outcome<String> {
        let name = format!("n{number}");
        let family = if name == V6_ONLY { Family::V6Only } else { Family::Dual };
        let address = Address { number, family };
        let machine = Machine::new(self.ground, &self.switch, &self.name, &name, address)?;
        self.machines.push(machine);
        Ok(name)
    }

    /// What a machine needs to join, with a fresh token made with these words.
    ///
    /// # Errors
    /// When there is no token.
    pub fn joining(&self, words: &[&str]) -> Outcome<Joining> {
        let words: Vec<&str> =
            ["token", "create"].into_iter().chain(words.iter().copied()).collect();
        let token = self.tool(&words)?.ok()?.trim().to_owned();
        Ok(Joining { coordinator: self.coordinator.addresses(), token, labels: Vec::new() })
    }

    /// The coordinator.
    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    /// The coordinator, to start and kill it.
    pub fn coordinator_mut(&mut self) -> &mut Coordinator {
        &mut self.coordinator
    }

    /// All machines.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.machines.iter()
    }

    /// The machine of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn machine(&self, name: &str) -> Outcome<&Machine> {
        let found = self.machines.iter().find(|machine| machine.name() == name);
        found.ok_or_else(|| failure!("there is no machine {name}"))
    }

    /// The machine of this name, to do something to it.
    ///
    /// # Errors
    /// When there is none.
    pub fn machine_mut(&mut self, name: &str) -> Outcome<&mut Machine> {
        let found = self.machines.iter_mut().find(|machine| machine.name() == name);
        found.ok_or_else(|| failure!("there is no machine {name}"))
    }

    /// Cuts a machine off the network.
    ///
    /// # Errors
    /// When the kernel won't.
    pub fn cut(&self, name: &str) -> Outcome {
        self.switch.cut(self.machine(name)?.address())
    }

    /// Plugs it in again.
    ///
    /// # Errors
    /// When the kernel won't.
    pub fn heal(&self, name: &str) -> Outcome {
        self.switch.heal(self.machine(name)?.address())
    }

    /// The path of one of the programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.ground.program(name)
    }

    /// Its name, which nothing else on this computer has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the lock witnesses write.
    pub fn witness_dir(&self) -> PathBuf {
        self.dir.join("witness")
    }

    /// The lock witness' DaemonSet, with further words for its command line.
    pub fn witness(&self, words: &[&str]) -> String {
        manifests::witness(&self.ground.program(WITNESS_PROGRAM), &self.witness_dir(), words)
    }

    /// Where a file of the fleet's is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A file of the fleet's with this content.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, name: &str, content: &str) -> Outcome<String> {
        let path = self.path(name);
        fs::write(&path, content).context(path.display())?;
        Ok(path.display().to_string())
    }

    /// How many sessions have been opened by all agents together: the same number before and after
    /// says that none has ended.
    pub fn sessions(&self) -> usize {
        let opened = |log: String| log.matches("session open").count();
        self.machines.iter().map(|machine| opened(machine.log())).sum()
    }

    /// Sees that people were never told that a node was lost.
    ///
    /// # Errors
    /// When they were.
    pub fn nobody_was_lost(&self) -> Outcome {
        let events = self.tool(&["get", "events", "-A"])?.ok()?;
        ensure!(!events.contains("NodeNotReady"), "a node was said to be lost: {events}");
        Ok(())
    }

    /// The command line tool, run to its end.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn tool(&self, words: &[&str]) -> Outcome<Said> {
        self.coordinator.tool(words)
    }

    /// Applies a manifest.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply(&self, manifest: &str) -> Outcome {
        let file = self.write("manifest.yaml", manifest)?;
        self.tool(&["apply", "-f", &file])?.ok().map(drop)
    }

    /// Waits until people are told that a DaemonSet is rolled out; `timeout` as they write it.
    ///
    /// # Errors
    /// When it is not by then.
    pub fn rolled_out(&self, set: &str, timeout: &str) -> Outcome {
        let set = format!("daemonset/{set}");
        self.tool(&["rollout", "status", &set, "--timeout", timeout])?.ok().map(drop)
    }

    /// Runs the exporter and the lock witness everywhere, and sees one of each on every machine.
    ///
    /// # Errors
    /// When they don't come.
    pub fn run_both(&self) -> Outcome {
        self.apply(&manifests::exporter(""))?;
        self.apply(&self.witness(&[]))?;
        for machine in &self.machines {
            self.runs_both(machine.name())?;
        }
        Ok(())
    }

    /// Waits until a machine runs one exporter, which answers, and one witness.
    ///
    /// # Errors
    /// When it does not.
    pub fn runs_both(&self, name: &str) -> Outcome<[Process; 2]> {
        let machine = self.machine(name)?;
        wait::soon(&format!("{name} runs one exporter and one witness"), || {
            let exporter = machine.only(EXPORTER_PROGRAM)?;
            let witness = machine.only(WITNESS_PROGRAM)?;
            machine.scrape()?;
            Ok([exporter, witness])
        })
    }

    /// What runs on each machine now, in order.
    ///
    /// # Errors
    /// When anything is not there exactly once.
    pub fn census(&self) -> Outcome<Vec<Counted>> {
        self.machines.iter().map(|machine| self.census_of(machine.name())).collect()
    }

    /// What runs on one machine now.
    ///
    /// # Errors
    /// When anything is not there exactly once.
    pub fn census_of(&self, name: &str) -> Outcome<Counted> {
        let machine = self.machine(name)?;
        let exporter = machine.only(EXPORTER_PROGRAM)?;
        Ok((name.to_owned(), exporter, machine.only(WITNESS_PROGRAM)?))
    }

    /// The states in which people are shown nodes of this name: a machine that was replaced is
    /// shown as Leaving beside the one that took its name, until it has said that it is empty.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub fn states(&self, node: &str) -> Outcome<Vec<String>> {
        let rows = self.tool(&["get", "nodes", "--no-headers"])?.ok()?;
        let rows = rows.lines().map(|row| row.split_whitespace().take(2).collect::<Vec<_>>());
        let state = |row: Vec<&str>| (row[..1] == [node]).then(|| row[1..].concat());
        Ok(rows.filter_map(state).collect())
    }

    /// Waits until people are shown a node as Ready.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn ready(&self, node: &str) -> Outcome {
        self.shown(node, &["Ready"])
    }

    /// Waits until people are shown a node in one of these states.
    ///
    /// # Errors
    /// When it does not come about.
    pub fn shown(&self, node: &str, wanted: &[&str]) -> Outcome {
        wait::soon(&format!("{node} is shown as {wanted:?}"), || {
            let states = self.states(node)?;
            ensure!(states.iter().any(|state| wanted.contains(&state.as_str())), "{states:?}");
            Ok(())
        })
    }

    /// Waits until people are not shown a node any more.
    ///
    /// # Errors
    /// When it stays.
    pub fn gone(&self, node: &str) -> Outcome {
        wait::soon(&format!("{node} is not shown any more"), || {
            let states = self.states(node)?;
            ensure!(states.is_empty(), "{states:?}");
            Ok(())
        })
    }

    /// The pod of a DaemonSet on a node, as people are shown it; not one of a lost machine of the
    /// same name, which a machine that replaced it may have beside its own.
    ///
    /// # Errors
    /// When there is none.
    pub fn pod(&self, set: &str, node: &str) -> Outcome<Value> {
        let pods = self.tool(&["get", "pods", "-o", "json"])?.json()?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let of = |pod: &Value| {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            let lost = pod["status"]["phase"] == "Unknown";
            pod["spec"]["nodeName"] == node && name.starts_with(set) && !lost
        };
        pods.into_iter().find(of).ok_or_else(|| failure!("no pod of {set} on {node}"))
    }

    /// The name of [`Self::pod`].
    ///
    /// # Errors
    /// When there is none.
    pub fn pod_name(&self, set: &str, node: &str) -> Outcome<String> {
        Ok(self.pod(set, node)?["metadata"]["name"].as_str().unwrap_or_default().to_owned())
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        self.machines.clear();
        // What can't be removed now is by the next run.
        let _ = cgroups::mount().and_then(|mount| cgroups::wipe(&mount.join(&self.name)));
        let _ = fs::remove_dir_all(&self.dir);
    }
}
