//! `cluster status`, `cluster resume`: whether orders are given, and giving them again after a restore.

use everynode_proto::v1::{ClusterStatus, ClusterStatusRequest, Consequence, ResumeRequest};

use crate::age::{age, rfc3339, unix_now};
use crate::args::{ClusterVerb, DryRun, ResumeArgs};
use crate::context::Context;
use crate::error::Error;
use crate::out::Out;
use crate::table::{Table, align_tabs};

/// Does what is said with the cluster.
pub(crate) async fn run(verb: &ClusterVerb, context: &Context, out: &mut Out) -> Result<(), Error> {
    match verb {
        ClusterVerb::Status => {
            let client = context.connect().await?;
            let request = client.request(ClusterStatusRequest {});
            let status = client.answer(client.cluster().status(request)).await?;
            out.text(&text(&status, unix_now()))
        }
        ClusterVerb::Resume(args) => resume(args, context, out).await,
    }
}

async fn resume(args: &ResumeArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    let client = context.connect().await?;
    let (allow_removal, dry_run) = (client.allows_removal(), args.dry_run.dry_run != DryRun::None);
    let request = client.request(ClusterStatusRequest {});
    let status = client.answer(client.cluster().status(request)).await?;
    let away = status.nodes.saturating_sub(status.nodes_called);
    if status.hold.is_some() && away > 0 {
        out.note(format!(
            "Warning: {away} of {} nodes have not called yet: what they run is not known, and what \
             the store does not know of it is stopped or replaced when they call",
            status.nodes
        ));
    }
    if args.dry_run.dry_run == DryRun::Client {
        out.text(&changes(&status))?;
    } else {
        let request = client.request(ResumeRequest { allow_removal, dry_run });
        client.answer(client.cluster().resume(request)).await?;
    }
    let how = match args.dry_run.dry_run {
        DryRun::None => "",
        DryRun::Client => " (dry run)",
        DryRun::Server => " (server dry run)",
    };
    out.line(match status.hold {
        Some(_) => format!("cluster/{} resumed{how}", status.cluster_id),
        None => format!("cluster/{} unchanged{how}: orders are given", status.cluster_id),
    })
}

fn text(status: &ClusterStatus, now: i64) -> String {
    let (nodes, called) = (status.nodes, status.nodes_called);
    let orders = match &status.hold {
        None => "given".to_owned(),
        Some(hold) => {
            let since = hold.since.as_ref();
            format!(
                "held since {} ({} ago), when the store was restored from a copy of term {}",
                since.map_or_else(|| "<unknown>".into(), rfc3339),
                age(since, now),
                hold.copied_in_term
            )
        }
    };
    let head = align_tabs(&format!(
        "Cluster:\t{}\nTerm:\t{}\nNodes:\t{nodes}, {called} of them have called\nOrders:\t{orders}\n",
        status.cluster_id, status.term
    ));
    if status.hold.is_none() {
        return head;
    }
    let next = "Look at what resuming would change, apply what the store lacks, then: everynode \
                cluster resume\n";
    format!("{head}\n{}\n{next}", changes(status))
}

/// What resuming would change, as a table.
fn changes(status: &ClusterStatus) -> String {
    if status.consequences.is_empty() {
        return "Resuming changes nothing on the nodes that have called.\n".into();
    }
    let head = ["NODE", "DAEMONSET", "RESUMING WOULD", "WHY"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> =
        std::iter::once(head).chain(status.consequences.iter().map(row)).collect();
    Table::default().lay_out(&rows)
}

fn row(found: &Consequence) -> Vec<String> {
    let key = found.daemon_set.clone().unwrap_or_default();
    let reason = found.reason.clone().unwrap_or_default();
    vec![
        found.node.clone(),
        format!("{}/{}", key.namespace, key.name),
        format!("{} its pod", found.action),
        format!("{}: {}", reason.code, reason.message),
    ]
}

#[cfg(test)]
mod tests {
    use everynode_proto::v1::{Hold, PodKey, Reason};

    use super::*;

    #[test]
    fn a_hold_is_told_with_what_its_end_would_change() {
        let found = Consequence {
            node: "n1".into(),
            daemon_set: Some(PodKey { namespace: "default".into(), name: "d".into() }),
            action: "stop".into(),
            reason: Some(Reason { code: "UnknownDaemonSet".into(), message: "apply it".into() }),
        };
        let mut status = ClusterStatus {
            cluster_id: "c".into(),
            term: 1008,
            nodes: 4,
            nodes_called: 3,
            hold: Some(Hold {
                since: Some(prost_types::Timestamp { seconds: 60, nanos: 0 }),
                copied_in_term: 7,
            }),
            consequences: vec![found],
        };
        let told = text(&status, 120);
        for line in [
            "Nodes:    4, 3 of them have called\n",
            "Orders:   held since 1970-01-01T00:01:00Z (60s ago), when the store was restored from a copy of term 7\n",
            "n1     default/d   stop its pod     UnknownDaemonSet: apply it\n",
            "everynode cluster resume\n",
        ] {
            assert!(told.contains(line), "{line}\nnot in\n{told}");
        }
        status.hold = None;
        assert!(text(&status, 120).ends_with("Orders:   given\n"));
    }
}
