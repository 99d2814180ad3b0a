//! Scenes on the fleet: what is tried, what the machine says of it, and whether it held.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::census::{Count, count};
use super::fleet::Fleet;
use super::processes::Process;
use super::view::{Row, View};
use crate::error::Error;
use crate::out::Out;

/// How often the machine is asked. Short, because two instances at once are a matter of moments.
const TICK: Duration = Duration::from_millis(100);

/// How long a scene may take: an agent that was killed is taken for alive for 40 s at most, and a
/// machine this busy is slow.
const SCENE: Duration = Duration::from_secs(60);

/// What the machine says of each node, by its name.
pub(super) type Census = BTreeMap<String, Count>;

/// The fleet, what was seen of it, and who shows it.
pub(super) struct Stage<'a> {
    pub(super) fleet: &'a mut Fleet,
    out: &'a mut Out,
    view: View,
    /// What did not hold, in the order in which it was seen.
    broken: Vec<String>,
    /// Nodes that were seen with two instances, told once each.
    doubled: Vec<String>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(fleet: &'a mut Fleet, out: &'a mut Out) -> Self {
        let view = View::new(out.is_terminal());
        Self { fleet, out, view, broken: Vec::new(), doubled: Vec::new() }
    }

    /// What did not hold.
    pub(super) fn broken(&self) -> Vec<String> {
        self.broken.clone()
    }

    /// A title above everything.
    pub(super) fn title(&mut self, lines: Vec<String>) -> Result<(), Error> {
        self.view.title(lines, self.out)
    }

    /// Begins a scene.
    pub(super) fn scene(&mut self, title: impl Into<String>) -> Result<(), Error> {
        self.view.begin(title.into(), self.out)
    }

    /// Waits until `done` says so of what the machine says; whether it did in time.
    pub(super) async fn until(&mut self, done: impl FnMut(&Census) -> bool) -> Result<bool, Error> {
        self.within(SCENE, done).await
    }

    /// Watches for this long whether `holds` stays true of what the machine says.
    pub(super) async fn hold(
        &mut self,
        time: Duration,
        mut holds: impl FnMut(&Census) -> bool,
    ) -> Result<bool, Error> {
        Ok(!self.within(time, |census| !holds(census)).await?)
    }

    /// Notes why things are not as they ought to be.
    pub(super) fn blame(&mut self, reasons: Vec<String>) {
        self.broken.extend(reasons);
    }

    /// Ends the scene: it held, or it did not.
    pub(super) fn verdict(&mut self, held: bool, otherwise: &str) -> Result<bool, Error> {
        if !held {
            self.broken.push(otherwise.to_owned());
        }
        let failure = (!held).then(|| otherwise.to_owned());
        let rows = self.rows();
        self.view.end(failure, rows, self.out)?;
        Ok(held)
    }

    /// What the machine says, now.
    pub(super) fn census(&mut self) -> Census {
        let mark = &self.fleet.place.mark;
        let nodes = self.fleet.nodes.iter();
        let census: Census =
            nodes.map(|node| (node.name.clone(), count(&node.cgroups, mark))).collect();
        for (node, count) in &census {
            if count.instances.len() > 1 && !self.doubled.contains(node) {
                self.doubled.push(node.clone());
                self.broken.push(format!("{node}: two instances at once: {:?}", count.instances));
            }
        }
        census
    }

    /// Leaves the terminal as it is.
    pub(super) fn close(mut self) -> Result<(), Error> {
        let rows = self.rows();
        self.view.close(rows, self.out)
    }

    async fn within(
        &mut self,
        time: Duration,
        mut done: impl FnMut(&Census) -> bool,
    ) -> Result<bool, Error> {
        let end = Instant::now() + time;
        loop {
            let census = self.census();
            let rows = self.rows_of(&census);
            self.view.show(rows, self.out)?;
            if done(&census) {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            tokio::time::sleep(TICK).await;
        }
    }

    fn rows(&mut self) -> Vec<Row> {
        let census = self.census();
        self.rows_of(&census)
    }

    fn rows_of(&mut self, census: &Census) -> Vec<Row> {
        let row = |node: &mut super::fleet::Machine| Row {
            name: node.name.clone(),
            agent: match node.agent.as_mut().and_then(Process::running_pid) {
                Some(pid) => format!("pid {pid}"),
                None if node.removed => "has left".into(),
                None => "down".into(),
            },
            instances: census
                .get(&node.name)
                .map(|count| count.instances.clone())
                .unwrap_or_default(),
            removed: node.removed,
        };
        self.fleet.nodes.iter_mut().map(row).collect()
    }
}
