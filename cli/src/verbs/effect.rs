//! How far a change reaches, in a few words behind what was done; and asking before many nodes are
//! changed one by one.

use everynode_proto::v1::{ChangeNodeRequest, Effect, Node, NodeChange};

use crate::args::DryRun;
use crate::connect::Client;
use crate::error::Error;
use crate::kinds::name_of;

/// ` (gains 3 nodes, loses 1, restarts 40)`; nothing where nothing comes of it.
pub(crate) fn words(effect: Option<&Effect>) -> String {
    let Some(effect) = effect else { return String::new() };
    let counts = [("gains", effect.gains), ("loses", effect.loses), ("restarts", effect.restarts)];
    let mut parts = Vec::new();
    for (verb, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        let unit = match (parts.is_empty(), count) {
            (true, 1) => " node",
            (true, _) => " nodes",
            (false, _) => "",
        };
        parts.push(format!("{verb} {count}{unit}"));
    }
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// ` (gains 1 pod, loses 2)`: the same, of what one node has.
pub(crate) fn words_of_node(effect: Option<&Effect>) -> String {
    words(effect).replace(" nodes", " pods").replace(" node", " pod")
}

/// Asks what changing all of `nodes` comes to, before the first is changed: each alone would never be
/// too much. Whether it may go on with removals.
pub(crate) async fn allowed(
    client: &Client,
    nodes: &[Node],
    changes: &[NodeChange],
    dry_run: DryRun,
) -> Result<bool, Error> {
    let mut names = nodes.iter().map(|node| name_of(node.metadata.as_ref()).to_owned());
    let (Some(name), true) = (names.next(), nodes.len() > 1 && dry_run != DryRun::Client) else {
        return Ok(client.allows_removal());
    };
    let request = ChangeNodeRequest {
        name,
        changes: changes.to_vec(),
        dry_run: true,
        allow_removal: client.allows_removal(),
        names: names.collect(),
    };
    client.answer(client.nodes().change(client.request(request))).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_told_in_few_words() {
        let told = |gains, loses, restarts| words(Some(&Effect { gains, loses, restarts }));
        assert_eq!(told(3, 1, 40), " (gains 3 nodes, loses 1, restarts 40)");
        assert_eq!(told(0, 1, 0), " (loses 1 node)");
        assert_eq!(told(0, 0, 0), "");
        assert_eq!(words(None), "");
        let node = words_of_node(Some(&Effect { gains: 0, loses: 2, restarts: 0 }));
        assert_eq!(node, " (loses 2 pods)");
    }
}
