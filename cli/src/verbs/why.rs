//! `why`: for each node and DaemonSet in question, the reason why it is as it is.

use everynode_proto::v1::{Reason, WhyGroup, WhyLine, WhyRequest};

use crate::args::WhyArgs;
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{Kind as _, Pods, Resource};
use crate::out::Out;
use crate::table::Table;
use crate::targets::Targets;

/// Prints the reasons. Asked about everything, it is silent about what is as it should be.
pub(crate) async fn run(args: &WhyArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    let object = if args.what.is_empty() { None } else { Some(Targets::one(&args.what)?) };
    let client = context.connect().await?;
    let request = match object {
        None => WhyRequest::default(),
        Some((Resource::Nodes, node)) => WhyRequest { node, ..WhyRequest::default() },
        Some((Resource::DaemonSets, daemon_set)) => {
            WhyRequest { namespace: context.namespace()?, daemon_set, ..WhyRequest::default() }
        }
        Some((Resource::Pods, name)) => {
            let pod = Pods::get(&client, &context.namespace()?, &name).await?;
            let key = pod.daemon_set.unwrap_or_default();
            WhyRequest {
                node: pod.node_name,
                namespace: key.namespace,
                daemon_set: key.name,
                ..WhyRequest::default()
            }
        }
        Some((other, _)) => {
            let kind = other.names().kind;
            return Err(Error::Usage(format!(
                "why takes a node, a pod or a daemonset, not a {kind}"
            )));
        }
    };
    let everything = request == WhyRequest::default();
    let of_one_set = request.node.is_empty() && !everything;
    if !args.all && (everything || of_one_set) {
        let asked = WhyRequest { counted: true, ..request.clone() };
        let groups = client.answer(client.cluster().why(client.request(asked))).await?.groups;
        let faults: u32 = groups.iter().filter(|group| !group.fine).map(|group| group.nodes).sum();
        if of_one_set || faults > MOST_LINES {
            context.tell_warnings(out);
            return print_counted(&groups, everything, out);
        }
        let asked = WhyRequest { only_faults: true, ..request };
        let lines = client.answer(client.cluster().why(client.request(asked))).await?.lines;
        context.tell_warnings(out);
        let all: u32 = groups.iter().map(|group| group.nodes).sum();
        print(&lines, out)?;
        out.note(summary(all - faults, all));
        return Ok(());
    }
    let answer = client.answer(client.cluster().why(client.request(request))).await?;
    context.tell_warnings(out);
    print(&answer.lines, out)?;
    if answer.lines.is_empty() {
        out.note(summary(0, 0));
    }
    Ok(())
}

/// The most lines that plain `why` prints before it counts: two screens.
const MOST_LINES: u32 = 50;

fn summary(fine: u32, all: u32) -> String {
    match (fine, all) {
        (_, 0) => "nothing is wanted there".to_owned(),
        (fine, all) if fine == all => format!("all {all} are as wanted"),
        (fine, all) => format!("{fine} of {all} are as wanted"),
    }
}

/// By reason, with some of the nodes; of everything only what is not as it should be.
fn print_counted(groups: &[WhyGroup], everything: bool, out: &mut Out) -> Result<(), Error> {
    let mut rows =
        vec![["DAEMONSET", "NODES", "AS WANTED", "WHY", "SUCH AS"].map(str::to_owned).to_vec()];
    rows.extend(groups.iter().filter(|group| !(everything && group.fine)).map(group_row));
    if rows.len() > 1 {
        out.text(&Table::default().lay_out(&rows))?;
    }
    let count = |fine: bool| -> u32 {
        groups.iter().filter(|group| group.fine || !fine).map(|group| group.nodes).sum()
    };
    out.note(summary(count(true), count(false)));
    Ok(())
}

fn group_row(group: &WhyGroup) -> Vec<String> {
    let key = group.daemon_set.clone().unwrap_or_default();
    let rest = (group.nodes as usize).saturating_sub(group.examples.len());
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    vec![
        format!("{}/{}", key.namespace, key.name),
        group.nodes.to_string(),
        if group.fine { "yes" } else { "no" }.into(),
        words(group.fine, group.reason.as_ref()),
        format!("{}{more}", group.examples.join(", ")),
    ]
}

fn print(lines: &[WhyLine], out: &mut Out) -> Result<(), Error> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut rows = vec![["NODE", "DAEMONSET", "AS WANTED", "WHY"].map(str::to_owned).to_vec()];
    rows.extend(lines.iter().map(row));
    out.text(&Table::default().lay_out(&rows))
}

fn row(line: &WhyLine) -> Vec<String> {
    let key = line.daemon_set.clone().unwrap_or_default();
    let set =
        if key.name.is_empty() { "-".into() } else { format!("{}/{}", key.namespace, key.name) };
    let why = words(line.fine, line.reason.as_ref());
    vec![line.node.clone(), set, if line.fine { "yes" } else { "no" }.into(), why]
}

fn words(fine: bool, reason: Option<&Reason>) -> String {
    match reason {
        None if fine => "runs the wanted revision".into(),
        None => "no reason is known".into(),
        Some(reason) if reason.message.is_empty() => reason.code.clone(),
        Some(reason) => format!("{}: {}", reason.code, reason.message),
    }
}

#[cfg(test)]
mod tests {
    use everynode_proto::v1::PodKey;

    use super::*;
    use crate::out::testing::captured;

    fn key() -> Option<PodKey> {
        Some(PodKey { namespace: "default".into(), name: "d".into() })
    }

    #[test]
    fn a_line_for_each_node() {
        let reason = Reason { code: "NodeNotReady".into(), message: "not heard of for 2m".into() };
        let line = |node: &str, reason: Option<Reason>| WhyLine {
            node: node.into(),
            daemon_set: key(),
            fine: reason.is_none(),
            reason,
            failure: None,
        };
        let (mut streams, out, _) = captured();
        print(&[line("n1", None), line("n2", Some(reason))], &mut streams).unwrap();
        assert_eq!(
            out.text(),
            "NODE   DAEMONSET   AS WANTED   WHY\n\
             n1     default/d   yes         runs the wanted revision\n\
             n2     default/d   no          NodeNotReady: not heard of for 2m\n"
        );
    }

    #[test]
    fn reasons_are_counted_with_examples() {
        let group = |fine, code: &str, nodes, examples: &[&str]| WhyGroup {
            daemon_set: key(),
            fine,
            reason: Some(Reason { code: code.into(), message: String::new() }),
            nodes,
            examples: examples.iter().map(|&name| name.to_owned()).collect(),
        };
        let groups =
            [group(false, "NodeLost", 12, &["a", "b", "c"]), group(true, "Running", 88, &["d"])];
        let (mut streams, out, notes) = captured();
        print_counted(&groups, false, &mut streams).unwrap();
        assert_eq!(
            out.text(),
            "DAEMONSET   NODES   AS WANTED   WHY        SUCH AS\n\
             default/d   12      no          NodeLost   a, b, c and 9 more\n\
             default/d   88      yes         Running    d and 87 more\n"
        );
        assert_eq!(notes.text(), "88 of 100 are as wanted\n");
        let (mut streams, out, _) = captured();
        print_counted(&groups, true, &mut streams).unwrap();
        assert!(!out.text().contains("Running"), "of everything only what is not as wanted");
    }
}
