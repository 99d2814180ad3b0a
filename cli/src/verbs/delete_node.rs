//! `delete node`: a machine is deregistered, its pods stop, and it says that it is empty.
//!
//! ```text
//!   asked ──> Leaving, connected ──────────────> gone: it confirmed
//!                 │        ^
//!                 v        │ calls again
//!             not connected ── for a while ────> pending: it will stop its pods when it next calls
//! ```

use std::time::Duration;

use everynode_proto::v1::{DeleteNodeRequest, DeleteNodeResponse, Node, WatchRequest};

use super::delete::within;
use crate::args::{DeleteArgs, DryRun};
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::kinds::Nodes;
use crate::out::Out;
use crate::watch::{Change, Watch};

/// How long a leaving node may be without a connection before it counts as unreachable: long enough
/// for an agent that is being restarted.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the waiting ended.
enum End {
    Confirmed,
    Unreachable,
}

/// Deregisters one node and, unless told otherwise, waits for its word.
pub(crate) async fn run(
    name: &str,
    args: &DeleteArgs,
    context: &Context,
    client: &Client,
    out: &mut Out,
) -> Result<(), Error> {
    let request = DeleteNodeRequest {
        name: name.into(),
        forget: args.forget,
        uid: args.uid.clone(),
        // Without storing it, the coordinator alone knows what would stop.
        dry_run: args.dry_run.dry_run != DryRun::None,
    };
    let response = client.answer(client.nodes().delete(client.request(request))).await?;
    if args.output.is_none() {
        tell_what_stops(name, &response, out);
    }
    let done = |said: &str| match args.output {
        Some(_) => format!("node/{name}"),
        None => format!("node \"{name}\" {said}"),
    };
    if args.dry_run.dry_run != DryRun::None {
        return out.line(done(&format!("deleted{}", args.dry_run.dry_run.mark())));
    }
    if args.forget {
        return out.line(done("deleted and forgotten"));
    }
    let pending = "removed; pending teardown: it will stop its pods when it next calls";
    if !response.connected {
        return out.line(done(pending));
    }
    if !args.wait {
        return out.line(done("removed; it is stopping its pods"));
    }
    let node = response.node.unwrap_or_default();
    let mut end = End::Confirmed;
    let waiting = async {
        end = wait(name, &node, context, client, out).await?;
        Ok(())
    };
    within(args, waiting, || {
        format!("timed out waiting for node \"{name}\" to confirm; it is removed all the same")
    })
    .await?;
    out.line(match end {
        End::Confirmed => done("deleted"),
        End::Unreachable => done(pending),
    })
}

fn tell_what_stops(name: &str, response: &DeleteNodeResponse, out: &mut Out) {
    if response.pods.is_empty() {
        out.note(format!("node \"{name}\" is not known to run any pods"));
    }
    for pod in &response.pods {
        out.note(format!("node \"{name}\": stops {}/{}", pod.namespace, pod.name));
    }
}

/// Follows the node, by its uid, until it is gone or has been unreachable for too long.
async fn wait(
    name: &str,
    node: &Node,
    context: &Context,
    client: &Client,
    out: &mut Out,
) -> Result<End, Error> {
    let uid = node.metadata.as_ref().map(|metadata| metadata.uid.clone()).unwrap_or_default();
    let is_it = |node: &Node| node.metadata.as_ref().is_some_and(|metadata| metadata.uid == uid);
    let request = WatchRequest { name: name.into(), ..WatchRequest::default() };
    let mut watch = Watch::<Nodes>::new(context, client.clone(), request, &[]);
    let (mut there, mut connected) = (false, true);
    out.progress(format!("waiting for node \"{name}\" to stop its pods and say so"));
    loop {
        let change = if connected {
            watch.next().await?
        } else {
            match tokio::time::timeout(PATIENCE, watch.next()).await {
                Ok(change) => change?,
                Err(_) => return Ok(End::Unreachable),
            }
        };
        match change {
            Change::Put(node) if is_it(&node) => (there, connected) = (true, node.connected),
            // Another machine has joined under the name, which was free: ours may still be leaving,
            // but can't be followed by its name any more.
            Change::Put(_) | Change::Lost(_) => {}
            Change::Gone(node) if is_it(&node) => return Ok(End::Confirmed),
            Change::Gone(_) => {}
            Change::Complete if !there => return Ok(End::Confirmed),
            Change::Complete => {}
        }
    }
}
