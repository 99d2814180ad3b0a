//! `node hold|release|stop|start`, and what there is instead of `drain`.

use everynode_proto::v1::node_change::{Change, Hold, Stop};
use everynode_proto::v1::{ChangeNodeRequest, NodeChange};

use super::effect;
use crate::args::{DrainArgs, DryRun, NodeVerb, NodesArgs};
use crate::context::Context;
use crate::error::Error;
use crate::out::Out;

/// Gives the order to each node; one that can't take it does not hold up the rest.
pub(crate) async fn run(verb: &NodeVerb, context: &Context, out: &mut Out) -> Result<(), Error> {
    match verb {
        NodeVerb::Hold(args) => {
            let seconds = args.time.as_secs().max(u64::from(!args.time.is_zero()));
            let hold = Change::Hold(Hold { seconds, reason: args.reason.clone() });
            order(hold, "held", &args.nodes, args.dry_run.dry_run, context, out).await
        }
        NodeVerb::Release(nodes) => {
            order(Change::Release(true), "released", nodes, DryRun::None, context, out).await
        }
        NodeVerb::Stop(args) => {
            let stop = Change::Stop(Stop { reason: args.reason.clone() });
            order(stop, "stopped", &args.nodes, args.dry_run.dry_run, context, out).await
        }
        NodeVerb::Start(nodes) => {
            order(Change::Start(true), "started", nodes, DryRun::None, context, out).await
        }
    }
}

async fn order(
    change: Change,
    done: &str,
    nodes: &NodesArgs,
    dry_run: DryRun,
    context: &Context,
    out: &mut Out,
) -> Result<(), Error> {
    let client = context.connect().await?;
    let mut failed = false;
    for name in &nodes.nodes {
        let name = name.split_once('/').map_or(name.as_str(), |(_, name)| name);
        let change = NodeChange { change: Some(change.clone()), overwrite: true };
        let request = ChangeNodeRequest {
            name: name.into(),
            changes: vec![change],
            dry_run: dry_run != DryRun::None,
            ..ChangeNodeRequest::default()
        };
        match client.answer(client.nodes().change(client.request(request))).await {
            Ok(node) => {
                let effect = effect::words_of_node(node.effect.as_ref());
                out.line(format!("node/{name} {done}{effect}{}", dry_run.mark()))?;
            }
            Err(error @ Error::Refused(_)) => {
                failed = true;
                out.note(error);
            }
            Err(error) => return Err(error),
        }
    }
    if failed { Err(Error::Told) } else { Ok(()) }
}

/// Explains.
pub(crate) fn drain(args: &DrainArgs) -> Result<(), Error> {
    let is_name = |word: &&String| !word.starts_with('-');
    let name = args.what.iter().find(is_name).map_or("NODE", String::as_str);
    Err(Error::Usage(format!(
        "nothing can be drained: every pod is a DaemonSet's, and belongs where it is\n\
         to stop the pods of a node, also across reboots: everynode node stop {name}\n\
         to keep them as they are, whatever is applied:   everynode node hold {name}\n\
         to keep new ones away:                           everynode taint nodes {name} KEY:NoSchedule\n\
         to let the machine go for good:                  everynode delete node {name}"
    )))
}
