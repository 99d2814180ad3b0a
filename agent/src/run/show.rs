//! What the core knows, for the coordinator (Hello) and for people at the machine.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use everynode_agent_core::{Departure, Node, Standing, rfc3339};
use everynode_model::{Digest, Now, PodStatus, WallTime};
use everynode_proto::convert::status;
use everynode_proto::v1;

use super::places;
use crate::body::FEATURES;
use crate::facts::Machine;
use crate::identity::Identity;
use crate::session::inbox::Link;

pub(super) fn hello(
    node: &Node,
    machine: &Machine,
    held: &BTreeSet<Digest>,
    now: Now,
) -> v1::Hello {
    let ledger = node.ledger();
    v1::Hello {
        protocol_versions: vec![1],
        agent_version: env!("CARGO_PKG_VERSION").into(),
        machine_id: machine.machine_id.clone(),
        boot_id: machine.boot_id.clone(),
        features: FEATURES.iter().map(|&feature| feature.into()).collect(),
        facts: machine.facts.clone().into_iter().collect(),
        accepted: ledger.accepted.as_ref().map(Into::into),
        places: places(node, now).iter().map(|(key, pods)| status::place(key, pods)).collect(),
        bodies: held.iter().map(|digest| digest.as_bytes().to_vec()).collect(),
        last_session: ledger.session.map(|session| session.to_string()).unwrap_or_default(),
    }
}

pub(super) fn status(node: &Node, identity: &Identity, link: &Link) -> String {
    let ledger = node.ledger();
    let standing = match node.standing() {
        Standing::Active => "active",
        Standing::Leaving(Departure::Deregistered) => "leaving (removed by its coordinator)",
        Standing::Leaving(Departure::Requested) => "leaving (asked for at this machine)",
        Standing::Left => "left",
    };
    let session = match link {
        Link::Up(address) => format!("open, with {address}"),
        Link::Down(why) => format!("none: {why}"),
    };
    let accepted = match &ledger.accepted {
        Some(stamp) => format!("term {}, generation {}", stamp.term, stamp.generation),
        None => "none yet".into(),
    };
    let rows = [
        ("Node", identity.name.to_string()),
        ("Node UID", identity.node.to_string()),
        ("Cluster", identity.cluster.to_string()),
        ("Standing", standing.into()),
        ("Certificate", certificate(identity)),
        ("Coordinators", identity.addresses.join(", ")),
        ("Session", session),
        ("Order", accepted),
        ("Assigned", ledger.assignment.len().to_string()),
    ];
    table(rows.map(|(name, value)| vec![format!("{name}:"), value]))
}

fn certificate(identity: &Identity) -> String {
    let date = |seconds: i64| rfc3339(WallTime::from_unix_millis(seconds.saturating_mul(1000)));
    match identity.validity() {
        Some(validity) => format!("valid until {}; renewed by itself", date(validity.not_after)),
        None => "unreadable".into(),
    }
}

pub(super) fn pods(node: &Node, now: Now) -> String {
    let head = ["NAMESPACE", "DAEMONSET", "READY", "STATUS", "RESTARTS", "REVISION", "PIDS"];
    let rows = places(node, now).into_iter().flat_map(|(_, pods)| pods).map(|pod| row(&pod));
    table(std::iter::once(head.map(str::to_owned).to_vec()).chain(rows))
}

/// One line for each place that does not simply run what it ought to.
pub(super) fn why(node: &Node) -> String {
    let rows = node
        .keys()
        .filter_map(|key| node.why(key).map(|reason| vec![key.to_string(), reason.to_string()]));
    let rows: Vec<_> = rows.collect();
    match (rows.is_empty(), node.why_not_left()) {
        (true, None) => "everything that is to run here runs\n".into(),
        (_, leaving) => {
            table(rows.into_iter().chain(leaving.map(|why| vec!["node".into(), why.to_string()])))
        }
    }
}

fn row(pod: &PodStatus) -> Vec<String> {
    use everynode_model::ContainerState;
    let ready = pod.containers.iter().filter(|container| container.ready).count();
    let pids = pod.containers.iter().filter_map(|container| match container.state {
        ContainerState::Running { pid, .. } => Some(pid.to_string()),
        _ => None,
    });
    let word = pod.reason.as_ref().map_or_else(|| pod.phase.as_str(), |reason| &reason.code);
    vec![
        pod.key.namespace().into(),
        pod.key.name().into(),
        format!("{ready}/{}", pod.containers.len()),
        word.into(),
        pod.restarts.to_string(),
        pod.revision.short(),
        pids.collect::<Vec<_>>().join(","),
    ]
}

/// Columns three spaces apart, as kubectl's.
fn table(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String can't fail.
            let _ = write!(line, "{cell:<width$}   ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let rows = [vec!["A", "LONG", "C"], vec!["xx", "y", ""]];
        let rows = rows.map(|row| row.into_iter().map(str::to_owned).collect());
        assert_eq!(table(rows), "A    LONG   C\nxx   y\n");
    }
}
