//! `rollout`: how a DaemonSet's newest revision gets around, and back.

mod change;
mod history;
mod status;
mod undo;

use everynode_proto::convert::json::from_struct;
use everynode_proto::v1::{GetRequest, Revision};
use serde_json::{Value, json};

use crate::args::RolloutVerb;
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::out::Out;

/// Does what is said with a rollout.
pub(crate) async fn run(verb: &RolloutVerb, context: &Context, out: &mut Out) -> Result<(), Error> {
    match verb {
        RolloutVerb::Status(args) => status::run(args, context, out).await,
        RolloutVerb::History(args) => history::run(args, context, out).await,
        RolloutVerb::Undo(args) => undo::run(args, context, out).await,
        RolloutVerb::Restart(args) => change::run(change::Way::Restart, args, context, out).await,
        RolloutVerb::Pause(args) => change::run(change::Way::Pause, args, context, out).await,
        RolloutVerb::Resume(args) => change::run(change::Way::Resume, args, context, out).await,
    }
}

/// The revisions of a set that are kept, oldest first.
async fn revisions(client: &Client, namespace: &str, name: &str) -> Result<Vec<Revision>, Error> {
    let request = GetRequest { namespace: namespace.into(), name: name.into() };
    let list = client.answer(client.daemon_sets().revisions(client.request(request))).await?;
    Ok(list.items)
}

/// The one with this number, in kubectl's words where there is none.
fn numbered(revisions: &[Revision], number: i64) -> Result<&Revision, Error> {
    revisions.iter().find(|revision| revision.number == number).ok_or_else(|| {
        Error::Failed(format!("unable to find specified revision {number} in history"))
    })
}

fn template(revision: &Revision) -> Result<Value, Error> {
    Ok(match &revision.template {
        Some(template) => Value::Object(from_struct(template)?),
        None => json!({}),
    })
}
