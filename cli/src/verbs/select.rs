//! Which nodes a verb changes: those named, those with labels, or all.

use everynode_proto::v1::{ListRequest, Node};

use crate::connect::Client;
use crate::error::Error;
use crate::kinds::{Kind as _, Nodes, Resource};

/// The arguments of `label` and `taint` apart: names, and what changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// Of nodes.
    pub(crate) names: Vec<String>,
    /// `k=v`, `k-`, `k=v:Effect`, ….
    pub(crate) changes: Vec<String>,
}

/// Takes `nodes N... CHANGE...` or `node/N... CHANGE...` apart; `is_change` tells changes from
/// names.
pub(crate) fn split(
    verb: &str,
    arguments: &[String],
    is_change: fn(&str) -> bool,
) -> Result<Split, Error> {
    let usage = |text: &str| Error::Usage(format!("{verb}: {text}"));
    let Some((first, rest)) = arguments.split_first() else { return Err(usage("name the nodes")) };
    let (kind, mut names, rest) = match first.split_once('/') {
        Some((kind, name)) => (kind, vec![name.to_owned()], rest),
        None => (first.as_str(), Vec::new(), rest),
    };
    if Resource::named(kind)? != Resource::Nodes {
        return Err(usage("only nodes can be changed so; edit and apply the manifest of others"));
    }
    let mut changes = Vec::new();
    for argument in rest {
        if is_change(argument) {
            changes.push(argument.clone());
        } else if changes.is_empty() {
            let name = argument.split_once('/').map_or(argument.as_str(), |(_, name)| name);
            names.push(name.to_owned());
        } else {
            return Err(usage(&format!("{argument:?} is neither a change nor before the changes")));
        }
    }
    if changes.is_empty() {
        return Err(usage("say what to change"));
    }
    Ok(Split { names, changes })
}

/// The nodes with these names; or without any, those with these labels, or all.
pub(crate) async fn nodes(
    client: &Client,
    names: &[String],
    selector: Option<&str>,
    all: bool,
) -> Result<Vec<Node>, Error> {
    match (names, selector, all) {
        ([], None, false) => {
            Err(Error::Usage("name the nodes, or say -l SELECTOR or --all".into()))
        }
        ([], selector, _) => {
            let label_selector = selector.unwrap_or_default().to_owned();
            let request = ListRequest { label_selector, ..ListRequest::default() };
            Ok(Nodes::list(client, request).await?.items)
        }
        (_, Some(_), _) | (_, _, true) => {
            Err(Error::Usage("give names, or a selector or --all, not both".into()))
        }
        (names, ..) => {
            let mut nodes = Vec::new();
            for name in names {
                nodes.push(Nodes::get(client, "", name).await?);
            }
            Ok(nodes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Split, Error> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        split("label", &words, |argument| argument.contains('=') || argument.ends_with('-'))
    }

    #[test]
    fn names_come_before_changes() {
        let expected =
            Split { names: vec!["a".into(), "b".into()], changes: vec!["x=1".into(), "y-".into()] };
        for line in ["nodes a b x=1 y-", "node/a b x=1 y-", "node/a node/b x=1 y-"] {
            assert_eq!(parse(line).unwrap(), expected, "{line}");
        }
        for line in ["", "nodes", "nodes a", "nodes x=1 a", "ds a x=1"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
