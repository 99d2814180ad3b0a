//! `label nodes N k=v k-`; of other kinds see [`annotate`].

use everynode_proto::v1::node_change::{Change, Label};
use everynode_proto::v1::{ChangeNodeRequest, Node, NodeChange};

use super::annotate::{self, Map};
use super::effect;
use super::select::{nodes, split};
use crate::args::{ChangeArgs, DryRun};
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{Resource, name_of};
use crate::out::Out;

/// Changes labels, on each object all or none.
pub(crate) async fn run(args: &ChangeArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    let first = args.what.first().map_or("", |first| first.split('/').next().unwrap_or(first));
    let of_nodes = Resource::named(first)? == Resource::Nodes;
    if of_nodes && args.resource_version.is_some() {
        return Err(Error::Usage(
            "--resource-version is not for nodes: say --overwrite, or not".into(),
        ));
    }
    if !of_nodes || args.list || args.output.is_some() {
        return annotate::run(Map::Labels, args, context, out).await;
    }
    let is_change = |argument: &str| argument.contains('=') || argument.ends_with('-');
    let split = split("label", &args.what, is_change)?;
    let changes = parse(&split.changes, args.overwrite)?;
    let removes_only =
        changes.iter().all(|change| matches!(change.change, Some(Change::RemoveLabel(_))));
    let client = context.connect().await?;
    let all = nodes(&client, &split.names, args.selector.as_deref(), args.all).await?;
    let dry_run = args.dry_run.dry_run;
    let allow_removal = effect::allowed(&client, &all, &changes, dry_run).await?;
    for node in all {
        let name = name_of(node.metadata.as_ref()).to_owned();
        let request = ChangeNodeRequest {
            name: name.clone(),
            changes: changes.clone(),
            dry_run: dry_run == DryRun::Server,
            allow_removal,
            names: Vec::new(),
        };
        let after = match dry_run {
            DryRun::Client => None,
            _ => Some(client.answer(client.nodes().change(client.request(request))).await?),
        };
        let done = match &after {
            Some(after) if labels(after) == labels(&node) => "not labeled",
            _ if removes_only => "unlabeled",
            _ => "labeled",
        };
        let effect = effect::words_of_node(after.as_ref().and_then(|node| node.effect.as_ref()));
        out.line(format!("node/{name} {done}{effect}{}", dry_run.mark()))?;
    }
    Ok(())
}

impl DryRun {
    /// What is put behind a word that says what was done.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}

fn labels(node: &Node) -> Option<&std::collections::HashMap<String, String>> {
    node.metadata.as_ref().map(|metadata| &metadata.labels)
}

fn parse(changes: &[String], overwrite: bool) -> Result<Vec<NodeChange>, Error> {
    let one = |text: &String| {
        let change = match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) => {
                Change::SetLabel(Label { key: key.into(), value: value.into() })
            }
            (None, Some(key)) if !key.is_empty() => Change::RemoveLabel(key.into()),
            _ => return Err(Error::Usage(format!("{text:?} is neither KEY=VALUE nor KEY-"))),
        };
        Ok(NodeChange { change: Some(change), overwrite })
    };
    changes.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_and_removed() {
        let changes = parse(&["a=b=c-".into(), "d-".into(), "e=".into()], true).unwrap();
        let set = |key: &str, value: &str| {
            Some(Change::SetLabel(Label { key: key.into(), value: value.into() }))
        };
        assert_eq!(changes[0].change, set("a", "b=c-"));
        assert_eq!(changes[1].change, Some(Change::RemoveLabel("d".into())));
        assert_eq!(changes[2].change, set("e", ""));
        assert!(changes.iter().all(|change| change.overwrite));
        assert!(parse(&["-".into()], false).is_err());
    }
}
