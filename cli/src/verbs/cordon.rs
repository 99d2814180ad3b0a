//! `cordon`, `uncordon`.

use everynode_proto::v1::node_change::Change;
use everynode_proto::v1::{ChangeNodeRequest, NodeChange};

use crate::args::NodesArgs;
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{Kind as _, Nodes};
use crate::out::Out;

/// Marks nodes as unschedulable or schedulable.
pub(crate) async fn run(
    args: &NodesArgs,
    unschedulable: bool,
    context: &Context,
    out: &mut Out,
) -> Result<(), Error> {
    let word = if unschedulable { "cordoned" } else { "uncordoned" };
    let client = context.connect().await?;
    for name in &args.nodes {
        let name = name.split_once('/').map_or(name.as_str(), |(_, name)| name);
        if Nodes::get(&client, "", name).await?.unschedulable == unschedulable {
            out.line(format!("node/{name} already {word}"))?;
            continue;
        }
        let change =
            NodeChange { change: Some(Change::Unschedulable(unschedulable)), overwrite: true };
        let request =
            ChangeNodeRequest { name: name.into(), changes: vec![change], ..Default::default() };
        client.answer(client.nodes().change(client.request(request))).await?;
        out.line(format!("node/{name} {word}"))?;
    }
    if unschedulable {
        out.note(
            "DaemonSets ignore this, as in Kubernetes: their pods stay and new ones come. To keep \
             them away: everynode taint nodes NAME KEY:NoSchedule (NoExecute also stops those that run); \
             to stop or keep what runs: everynode node stop NAME, everynode node hold NAME",
        );
    }
    Ok(())
}
