//! `taint nodes N k=v:Effect k:Effect- k-`.

use std::str::FromStr as _;

use everynode_model::Effect;
use everynode_proto::v1::node_change::Change;
use everynode_proto::v1::{ChangeNodeRequest, NodeChange, Taint};

use super::effect;
use super::select::{nodes, split};
use crate::args::{ChangeArgs, DryRun};
use crate::context::Context;
use crate::error::Error;
use crate::kinds::name_of;
use crate::out::Out;

/// Changes taints of nodes, on each node all or none.
pub(crate) async fn run(args: &ChangeArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    let is_change = |argument: &str| argument.contains([':', '=']) || argument.ends_with('-');
    if args.list || args.output.is_some() || args.resource_version.is_some() {
        return Err(Error::Usage(
            "taint takes no --list, --output or --resource-version; see everynode describe node"
                .into(),
        ));
    }
    let split = split("taint", &args.what, is_change)?;
    let changes = parse(&split.changes, args.overwrite)?;
    let sets = changes.iter().filter(|change| matches!(change.change, Some(Change::SetTaint(_))));
    let done = match sets.count() {
        0 => "untainted",
        some if some == changes.len() => "tainted",
        _ => "modified",
    };
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
        let effect = effect::words_of_node(after.as_ref().and_then(|node| node.effect.as_ref()));
        out.line(format!("node/{name} {done}{effect}{}", dry_run.mark()))?;
    }
    Ok(())
}

fn parse(changes: &[String], overwrite: bool) -> Result<Vec<NodeChange>, Error> {
    let one = |text: &String| {
        let change = match text.strip_suffix('-') {
            Some(removed) => Change::RemoveTaint(taint(removed, true).ok_or_else(|| bad(text))?),
            None => Change::SetTaint(taint(text, false).ok_or_else(|| bad(text))?),
        };
        Ok(NodeChange { change: Some(change), overwrite })
    };
    changes.iter().map(one).collect()
}

/// `key[=value]:Effect`; to remove one, the effect may be left out.
fn taint(text: &str, removed: bool) -> Option<Taint> {
    let (pair, effect) = match text.split_once(':') {
        Some((pair, effect)) => (pair, Effect::from_str(effect).ok()?.as_str()),
        None if removed => (text, ""),
        None => return None,
    };
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    (!key.is_empty()).then(|| Taint { key: key.into(), value: value.into(), effect: effect.into() })
}

fn bad(text: &str) -> Error {
    Error::Usage(format!(
        "{text:?} is not KEY=VALUE:EFFECT, KEY:EFFECT- or KEY- (effects: NoSchedule, \
         PreferNoSchedule, NoExecute)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Change> {
        parse(&[text.to_owned()], false).ok()?.remove(0).change
    }

    fn taint(key: &str, value: &str, effect: &str) -> Taint {
        Taint { key: key.into(), value: value.into(), effect: effect.into() }
    }

    #[test]
    fn taints_are_set_and_removed() {
        for (text, change) in [
            ("a=b:NoExecute", Change::SetTaint(taint("a", "b", "NoExecute"))),
            ("a:NoSchedule", Change::SetTaint(taint("a", "", "NoSchedule"))),
            ("a:NoSchedule-", Change::RemoveTaint(taint("a", "", "NoSchedule"))),
            ("a=b:NoSchedule-", Change::RemoveTaint(taint("a", "b", "NoSchedule"))),
            ("a-", Change::RemoveTaint(taint("a", "", ""))),
        ] {
            assert_eq!(parsed(text), Some(change), "{text}");
        }
        for text in ["a", "a=b", ":NoExecute", "a:Never", "a:Never-", "-"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
