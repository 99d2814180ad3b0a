//! `why`: for each node and DaemonSet in question, the reason why it is as it is.

use everynode_proto::v1::{WhyLine, WhyRequest};

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
            WhyRequest { node: pod.node_name, namespace: key.namespace, daemon_set: key.name }
        }
        Some((other, _)) => {
            let kind = other.names().kind;
            return Err(Error::Usage(format!(
                "why takes a node, a pod or a daemonset, not a {kind}"
            )));
        }
    };
    let everything = request == WhyRequest::default();
    let answer = client.answer(client.cluster().why(client.request(request))).await?;
    context.tell_warnings(out);
    print(&answer.lines, everything, out)
}

fn print(lines: &[WhyLine], everything: bool, out: &mut Out) -> Result<(), Error> {
    let fine = lines.iter().filter(|line| line.fine).count();
    let shown: Vec<&WhyLine> = lines.iter().filter(|line| !(everything && line.fine)).collect();
    if !shown.is_empty() {
        let mut rows = vec![["NODE", "DAEMONSET", "AS WANTED", "WHY"].map(str::to_owned).to_vec()];
        rows.extend(shown.into_iter().map(row));
        out.text(&Table::default().lay_out(&rows))?;
    }
    if everything || lines.is_empty() {
        out.note(match (fine, lines.len()) {
            (_, 0) => "nothing is wanted there".to_owned(),
            (fine, all) if fine == all => format!("all {all} are as wanted"),
            (fine, all) => format!("{fine} of {all} are as wanted"),
        });
    }
    Ok(())
}

fn row(line: &WhyLine) -> Vec<String> {
    let key = line.daemon_set.clone().unwrap_or_default();
    let set =
        if key.name.is_empty() { "-".into() } else { format!("{}/{}", key.namespace, key.name) };
    let why = match &line.reason {
        None if line.fine => "runs the wanted revision".into(),
        None => "no reason is known".into(),
        Some(reason) if reason.message.is_empty() => reason.code.clone(),
        Some(reason) => format!("{}: {}", reason.code, reason.message),
    };
    vec![line.node.clone(), set, if line.fine { "yes" } else { "no" }.into(), why]
}

#[cfg(test)]
mod tests {
    use everynode_proto::v1::{PodKey, Reason};

    use super::*;
    use crate::out::testing::captured;

    fn line(node: &str, reason: Option<(&str, &str)>) -> WhyLine {
        WhyLine {
            node: node.into(),
            daemon_set: Some(PodKey { namespace: "default".into(), name: "d".into() }),
            fine: reason.is_none(),
            reason: reason
                .map(|(code, message)| Reason { code: code.into(), message: message.into() }),
        }
    }

    #[test]
    fn of_everything_only_what_is_not_as_wanted_is_told() {
        let lines = [line("n1", None), line("n2", Some(("NodeNotReady", "not heard of for 2m")))];
        let (mut streams, out, notes) = captured();
        print(&lines, true, &mut streams).unwrap();
        assert_eq!(
            out.text(),
            "NODE   DAEMONSET   AS WANTED   WHY\n\
             n2     default/d   no          NodeNotReady: not heard of for 2m\n"
        );
        assert_eq!(notes.text(), "1 of 2 are as wanted\n");
        let (mut streams, out, _) = captured();
        print(&lines, false, &mut streams).unwrap();
        assert!(out.text().contains("n1     default/d   yes         runs the wanted revision\n"));
    }
}
