//! The verbs, one file each.

mod annotate;
mod apply;
mod batch;
mod change;
mod cluster;
mod completion;
mod cordon;
mod create;
mod delete;
mod delete_node;
mod describe;
mod diff;
mod edit;
mod effect;
mod exec;
mod get;
mod label;
mod logs;
mod node;
mod patch;
mod pick;
mod printed;
mod reference;
mod rollout;
mod rows;
mod select;
mod taint;
mod token;
mod top;
mod values;
mod verdict;
mod version;
mod wait;
mod why;

use crate::args::Verb;
use crate::context::Context;
use crate::error::Error;
use crate::out::Out;

pub(crate) use change::Named;

/// Does what the command line says.
pub(crate) async fn run(verb: Verb, context: &Context, out: &mut Out) -> Result<(), Error> {
    match verb {
        Verb::Create(args) => create::run_create(&args, context, out).await,
        Verb::Apply(args) => create::run_apply(&args, context, out).await,
        Verb::Replace(args) => create::run(create::Way::Replace, &args, context, out).await,
        Verb::Diff(args) => diff::run(&args, context, out).await,
        Verb::Edit(args) => edit::run(&args, context, out).await,
        Verb::Patch(args) => patch::run(&args, context, out).await,
        Verb::Delete(args) => delete::run(&args, context, out).await,
        Verb::Get(args) => get::run(&args, context, out).await,
        Verb::Describe(args) => describe::run(&args, context, out).await,
        Verb::Logs(args) => logs::run(&args, context, out).await,
        Verb::Exec(args) => exec::run(args, context, out).await,
        Verb::Top(verb) => top::run(&verb, context, out).await,
        Verb::Label(args) => label::run(&args, context, out).await,
        Verb::Annotate(args) => {
            annotate::run(annotate::Map::Annotations, &args, context, out).await
        }
        Verb::Taint(args) => taint::run(&args, context, out).await,
        Verb::Node(verb) => node::run(&verb, context, out).await,
        Verb::Drain(args) => node::drain(&args),
        Verb::Cordon(args) => cordon::run(&args, true, context, out).await,
        Verb::Uncordon(args) => cordon::run(&args, false, context, out).await,
        Verb::Wait(args) => wait::run(&args, context, out).await,
        Verb::Why(args) => why::run(&args, context, out).await,
        Verb::Cluster(verb) => cluster::run(&verb, context, out).await,
        Verb::Token(verb) => token::run(&verb, context, out).await,
        Verb::Rollout(verb) => rollout::run(&verb, context, out).await,
        Verb::Version(args) => version::run(&args, context, out).await,
        Verb::Completion(args) => completion::run(&args, out),
        Verb::Reference(args) => reference::run(&args),
        Verb::Demo(args) => crate::demo::run(&args, out).await,
    }
}
