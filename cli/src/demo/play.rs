//! The scenes: what happens to a fleet, and what must then be true on its machines.

use std::time::Duration;

use everynode_proto::v1::Node;
use rustix::process::Signal;

use super::processes::signal;
use super::stage::{Census, Stage};
use crate::args::DemoArgs;
use crate::error::Error;

/// How long "it goes on as before" is watched before it is believed.
const CALM: Duration = Duration::from_secs(2);
/// How often the coordinator is asked about its nodes while one is waited for.
const ASK: Duration = Duration::from_millis(200);
/// After how many questions the waiting is over: with the pauses between them, a minute.
const QUESTIONS: usize = 300;

/// Plays all scenes; then, unless told to end, shows the fleet until somebody has seen enough.
pub(super) async fn run(stage: &mut Stage<'_>, args: &DemoArgs) -> Result<(), Error> {
    stage.fleet.start_coordinator().await?;
    introduce(stage, args)?;
    if !scenes(stage, args.nodes).await? {
        stage.blame(stage.fleet.reasons().await);
    }
    if args.once {
        return Ok(());
    }
    stage.scene("Ctrl-C ends the demo and removes every trace of it")?;
    loop {
        stage.hold(Duration::from_secs(3600), |_| true).await?;
    }
}

/// Plays one scene after the other, up to the first that fails.
async fn scenes(stage: &mut Stage<'_>, nodes: u32) -> Result<bool, Error> {
    Ok(nodes_join(stage, nodes).await?
        && one_each(stage).await?
        && a_node_joins(stage).await?
        && an_instance_is_killed(stage, 0).await?
        && an_agent_is_killed(stage, 1).await?
        && a_node_leaves(stage, 2).await?)
}

fn introduce(stage: &mut Stage<'_>, args: &DemoArgs) -> Result<(), Error> {
    let fleet = &stage.fleet;
    let title = vec![
        format!(
            "A coordinator at {} and {} nodes, all on this machine.",
            fleet.address(),
            args.nodes
        ),
        format!(
            "Instances are counted by cgroup.procs below {} and by /proc.",
            fleet.place.cgroups.display()
        ),
        format!(
            "Look for yourself: everynode --config {} get pods -o wide",
            fleet.admin_conf().display()
        ),
    ];
    stage.title(title)
}

async fn nodes_join(stage: &mut Stage<'_>, nodes: u32) -> Result<bool, Error> {
    stage.scene(format!("{nodes} machines join, each with a token of its own"))?;
    for _ in 0..nodes {
        stage.fleet.add_node().await?;
    }
    let all: Vec<String> = stage.fleet.nodes.iter().map(|node| node.name.clone()).collect();
    let ready = ready(stage, &all).await?;
    stage.verdict(ready, "not every machine has become Ready")
}

async fn one_each(stage: &mut Stage<'_>) -> Result<bool, Error> {
    stage.scene("a DaemonSet is created: each node runs exactly one instance")?;
    stage.fleet.create_example().await?;
    let held = stage.until(|census| census.values().all(|node| node.instances.len() == 1)).await?
        && stage.hold(CALM, |census| census.values().all(|node| node.instances.len() == 1)).await?;
    stage.verdict(held, "not every node runs exactly one instance")
}

async fn a_node_joins(stage: &mut Stage<'_>) -> Result<bool, Error> {
    stage.scene("another machine joins: it gets its instance, the others keep theirs")?;
    let before = stage.census();
    let name = stage.fleet.add_node().await?;
    let held = stage.until(|census| only(census, &name).is_some()).await?;
    let others = stage.census();
    let untouched = before.iter().all(|(node, count)| {
        others.get(node).is_some_and(|after| after.instances == count.instances)
    });
    stage.verdict(held && untouched, "the new node did not get exactly one, or others lost theirs")
}

async fn an_instance_is_killed(stage: &mut Stage<'_>, index: usize) -> Result<bool, Error> {
    let Some(name) = stage.fleet.nodes.get(index).map(|node| node.name.clone()) else {
        return Ok(false);
    };
    stage.scene(format!("the instance on {name} is killed (kill -9): it comes back"))?;
    let Some(pid) = only(&stage.census(), &name) else {
        return stage.verdict(false, "there was not exactly one instance to kill");
    };
    signal(pid.unsigned_abs(), Signal::KILL);
    let back = stage.until(|census| only(census, &name).is_some_and(|now| now != pid)).await?;
    stage.verdict(back, "it did not come back")
}

async fn an_agent_is_killed(stage: &mut Stage<'_>, index: usize) -> Result<bool, Error> {
    let Some(name) = stage.fleet.nodes.get(index).map(|node| node.name.clone()) else {
        return Ok(false);
    };
    stage.scene(format!(
        "the agent on {name} is killed (kill -9) and started again: the instance goes on, its pid \
         the same"
    ))?;
    let Some(pid) = only(&stage.census(), &name) else {
        return stage.verdict(false, "there was not exactly one instance to begin with");
    };
    if let Some(agent) = stage.fleet.nodes.get_mut(index).and_then(|node| node.agent.as_mut()) {
        agent.kill();
    }
    let same = |census: &Census| only(census, &name) == Some(pid);
    let alone = stage.hold(CALM, same).await?;
    // Were it not seen to be gone, nobody could tell that it has come back.
    noticed(stage, &name).await?;
    stage.fleet.start_agent(index)?;
    let answers = ready(stage, std::slice::from_ref(&name)).await?;
    let adopted = stage.hold(CALM, same).await?;
    stage.verdict(
        alone && answers && adopted,
        match (alone, answers) {
            (false, _) => "the instance did not go on without its agent",
            (true, false) => "the agent did not come back",
            (true, true) => "the instance was not taken over as it was",
        },
    )
}

async fn a_node_leaves(stage: &mut Stage<'_>, index: usize) -> Result<bool, Error> {
    let Some(name) = stage.fleet.nodes.get(index).map(|node| node.name.clone()) else {
        return Ok(false);
    };
    stage.scene(format!("{name} is deleted: its instance stops, its agent says so and ends"))?;
    stage.fleet.remove_node(index).await?;
    let empty = |census: &Census| census.get(&name).is_none_or(|count| count.processes.is_empty());
    let emptied = stage.until(empty).await?;
    let ended = match stage.fleet.nodes.get_mut(index).and_then(|node| node.agent.as_mut()) {
        Some(agent) => agent.ends(Duration::from_secs(20)).await,
        None => true,
    };
    stage.verdict(
        emptied && ended,
        if emptied { "its agent did not end" } else { "something still runs there" },
    )
}

/// Waits until the coordinator says that all of these are ready.
async fn ready(stage: &mut Stage<'_>, names: &[String]) -> Result<bool, Error> {
    let is_ready = |node: &Node| node.state == "Ready" && node.connected;
    let all = |nodes: &[Node]| {
        names.iter().all(|name| nodes.iter().any(|node| is_ready(node) && is_called(node, name)))
    };
    told(stage, all).await
}

/// Waits until the coordinator knows that this node's agent is away.
async fn noticed(stage: &mut Stage<'_>, name: &str) -> Result<bool, Error> {
    told(stage, |nodes| nodes.iter().any(|node| is_called(node, name) && !node.connected)).await
}

/// Waits until what the coordinator says of its nodes is as wanted, and shows the fleet meanwhile.
async fn told(stage: &mut Stage<'_>, wanted: impl Fn(&[Node]) -> bool) -> Result<bool, Error> {
    for _ in 0..QUESTIONS {
        if wanted(&stage.fleet.registered().await?) {
            return Ok(true);
        }
        stage.hold(ASK, |_| true).await?;
    }
    Ok(false)
}

fn is_called(node: &Node, name: &str) -> bool {
    node.metadata.as_ref().is_some_and(|metadata| metadata.name == name)
}

/// The process id of a node's only instance; `None` where there are none or several.
fn only(census: &Census, name: &str) -> Option<i32> {
    match census.get(name)?.instances.as_slice() {
        [pid] => Some(*pid),
        _ => None,
    }
}
