//! `rollout status`, `rollout history`.

use std::time::Duration;

use everynode_model::HELD_ON_NODE;
use everynode_proto::v1::{
    Condition, DaemonSet, DaemonSetStatus, GetRequest, Revision, WatchRequest,
};
use serde_json::{Value, json};

use super::describe::template_text;
use crate::args::RolloutVerb;
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{DaemonSets, Kind as _, spec_json};
use crate::out::Out;
use crate::table::{Table, align_tabs};
use crate::targets::one_daemon_set;
use crate::watch::{Change, Watch};

/// Does what is said with a rollout.
pub(crate) async fn run(verb: &RolloutVerb, context: &Context, out: &mut Out) -> Result<(), Error> {
    match verb {
        RolloutVerb::Status { what, watch, timeout } => {
            let name = one_daemon_set(what)?;
            let client = context.connect().await?;
            let followed = status(&name, *watch, context, &client, out);
            if timeout.is_zero() {
                return followed.await;
            }
            in_time(*timeout, followed).await
        }
        RolloutVerb::History { what, revision } => {
            let name = one_daemon_set(what)?;
            let client = context.connect().await?;
            history(&name, *revision, context, &client, out).await
        }
    }
}

async fn in_time(
    timeout: Duration,
    followed: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    tokio::time::timeout(timeout, followed)
        .await
        .unwrap_or_else(|_| Err(Error::Failed("timed out waiting for the condition".into())))
}

/// How far a rollout is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Done(String),
    Waits(String),
    Failed(String),
}

async fn status(
    name: &str,
    follows: bool,
    context: &Context,
    client: &Client,
    out: &mut Out,
) -> Result<(), Error> {
    let namespace = context.namespace()?;
    let first = DaemonSets::get(client, &namespace, name).await?;
    let spec = spec_json(&first)?;
    if spec["updateStrategy"]["type"].as_str() == Some("OnDelete") {
        return Err(Error::Failed(
            "rollout status is only available for RollingUpdate strategy type".into(),
        ));
    }
    let mut said = String::new();
    if let Some(end) = tell(progress(name, &first), &mut said, out)? {
        return end;
    }
    if !follows {
        return Ok(());
    }
    let request = WatchRequest { namespace, name: name.into(), ..WatchRequest::default() };
    let mut watch = Watch::<DaemonSets>::new(context, client.clone(), request, &[]);
    loop {
        match watch.next().await? {
            Change::Put(set) => {
                if let Some(end) = tell(progress(name, &set), &mut said, out)? {
                    return end;
                }
            }
            Change::Gone(_) => return Err(Error::Failed("object has been deleted".into())),
            Change::Lost(error) => out.note(format!("{error}; waiting for it to come back")),
            Change::Complete => {}
        }
    }
}

/// Prints how far it is, unless that has just been said; the outcome when it has ended.
fn tell(
    progress: Progress,
    said: &mut String,
    out: &mut Out,
) -> Result<Option<Result<(), Error>>, Error> {
    Ok(match progress {
        Progress::Done(line) => {
            out.line(line)?;
            Some(Ok(()))
        }
        Progress::Failed(line) => Some(Err(Error::Failed(line))),
        Progress::Waits(line) => {
            if *said != line {
                out.line(&line)?;
                *said = line;
            }
            None
        }
    })
}

/// How far it is, in kubectl's words.
fn progress(name: &str, set: &DaemonSet) -> Progress {
    let status = set.status.clone().unwrap_or_default();
    let generation = set.metadata.as_ref().map_or(0, |metadata| metadata.generation);
    if generation > status.observed_generation {
        return Progress::Waits("Waiting for daemon set spec update to be observed...".into());
    }
    let (desired, updated, available) =
        (status.desired_number_scheduled, status.updated_number_scheduled, status.number_available);
    if updated >= desired && available >= desired {
        return Progress::Done(format!("daemon set {name:?} successfully rolled out"));
    }
    if let Some(reason) = failure(&status) {
        return Progress::Failed(format!("daemon set {name:?}: {reason}"));
    }
    let held = held(name, &status);
    Progress::Waits(if updated < desired {
        format!(
            "Waiting for daemon set {name:?} rollout to finish: {updated} out of {desired} new pods \
             have been updated{held}..."
        )
    } else {
        format!(
            "Waiting for daemon set {name:?} rollout to finish: {available} of {desired} updated \
             pods are available{held}..."
        )
    })
}

/// Says so where nothing else is to do, and people at nodes hold what is left: they may release it
/// at any time, so it is no failure.
fn held(name: &str, status: &DaemonSetStatus) -> String {
    let says = |condition: &Condition| {
        condition.r#type == "Progressing" && condition.reason == HELD_ON_NODE
    };
    match status.conditions.iter().any(says) {
        true => format!(" (held at their nodes; `everynode why daemonset {name}` says by whom)"),
        false => String::new(),
    }
}

/// Why it will not go on by itself, if so.
fn failure(status: &DaemonSetStatus) -> Option<String> {
    let stuck = status.conditions.iter().find(|condition| {
        condition.r#type == "Progressing"
            && condition.status == "False"
            && FINAL.contains(&condition.reason.as_str())
    })?;
    Some(match stuck.message.as_str() {
        "" => stuck.reason.clone(),
        message => format!("{}: {message}", stuck.reason),
    })
}

/// Reasons of `Progressing: False` for which a rollout waits for somebody to act.
const FINAL: [&str; 5] =
    ["Held", "ProgressDeadlineExceeded", "RolloutFailed", "RolledBack", "RevisionFailed"];

async fn history(
    name: &str,
    number: Option<i64>,
    context: &Context,
    client: &Client,
    out: &mut Out,
) -> Result<(), Error> {
    let request = GetRequest { namespace: context.namespace()?, name: name.into() };
    let list = client.answer(client.daemon_sets().revisions(client.request(request))).await?;
    match number {
        None => print_history(name, &list.items, out),
        Some(number) => {
            let found = list.items.iter().find(|revision| revision.number == number);
            let found = found.ok_or_else(|| {
                Error::Failed(format!("unable to find the specified revision {number}"))
            })?;
            let template = match &found.template {
                Some(template) => {
                    Value::Object(everynode_proto::convert::json::from_struct(template)?)
                }
                None => json!({}),
            };
            out.line(format!("daemonset.apps/{name} with revision #{number}"))?;
            out.text(&align_tabs(&template_text(&template)))
        }
    }
}

fn print_history(name: &str, revisions: &[Revision], out: &mut Out) -> Result<(), Error> {
    let mut rows = vec![vec!["REVISION".to_owned(), "CHANGE-CAUSE".into()]];
    rows.extend(revisions.iter().map(|revision| {
        let cause =
            if revision.change_cause.is_empty() { "<none>" } else { &revision.change_cause };
        vec![revision.number.to_string(), cause.to_owned()]
    }));
    out.line(format!("daemonset.apps/{name} "))?;
    out.text(&Table::default().lay_out(&rows))
}

#[cfg(test)]
mod tests {
    use everynode_proto::v1::ObjectMeta;

    use super::*;
    use crate::out::testing::captured;

    fn set(generation: i64, desired: i32, updated: i32, available: i32) -> DaemonSet {
        DaemonSet {
            metadata: Some(ObjectMeta { generation, ..ObjectMeta::default() }),
            spec: None,
            status: Some(DaemonSetStatus {
                observed_generation: 1,
                desired_number_scheduled: desired,
                updated_number_scheduled: updated,
                number_available: available,
                ..DaemonSetStatus::default()
            }),
        }
    }

    #[test]
    fn the_words_are_kubectls() {
        let waits = |line: &str| Progress::Waits(line.into());
        assert_eq!(
            progress("d", &set(2, 3, 3, 3)),
            waits("Waiting for daemon set spec update to be observed...")
        );
        assert_eq!(
            progress("d", &set(1, 3, 1, 3)),
            waits(
                "Waiting for daemon set \"d\" rollout to finish: 1 out of 3 new pods have been updated..."
            )
        );
        assert_eq!(
            progress("d", &set(1, 3, 3, 2)),
            waits(
                "Waiting for daemon set \"d\" rollout to finish: 2 of 3 updated pods are available..."
            )
        );
        let done = Progress::Done("daemon set \"d\" successfully rolled out".into());
        assert_eq!(progress("d", &set(1, 3, 3, 3)), done);
        assert_eq!(
            progress("d", &set(1, 0, 0, 0)),
            Progress::Done("daemon set \"d\" successfully rolled out".into())
        );
    }

    #[test]
    fn a_rollout_that_waits_for_somebody_has_failed() {
        let mut set = set(1, 3, 1, 3);
        if let Some(status) = &mut set.status {
            status.conditions = vec![Condition {
                r#type: "Progressing".into(),
                status: "False".into(),
                reason: "ProgressDeadlineExceeded".into(),
                message: "n2 has not become available for 10m".into(),
            }];
        }
        let expected =
            "daemon set \"d\": ProgressDeadlineExceeded: n2 has not become available for 10m";
        assert_eq!(progress("d", &set), Progress::Failed(expected.into()));
    }

    #[test]
    fn what_people_hold_is_waited_for_and_explained() {
        let mut set = set(1, 3, 2, 3);
        if let Some(status) = &mut set.status {
            status.conditions = vec![Condition {
                r#type: "Progressing".into(),
                status: "False".into(),
                reason: HELD_ON_NODE.into(),
                message: String::new(),
            }];
        }
        let expected = "Waiting for daemon set \"d\" rollout to finish: 2 out of 3 new pods have been \
                        updated (held at their nodes; `everynode why daemonset d` says by whom)...";
        assert_eq!(progress("d", &set), Progress::Waits(expected.into()));
    }

    #[test]
    fn history_is_kubectls() {
        let revision = |number, cause: &str| Revision {
            number,
            change_cause: cause.into(),
            ..Revision::default()
        };
        let (mut streams, out, _) = captured();
        print_history("d", &[revision(1, ""), revision(2, "more")], &mut streams).unwrap();
        assert_eq!(
            out.text(),
            "daemonset.apps/d \nREVISION   CHANGE-CAUSE\n1          <none>\n2          more\n"
        );
    }
}
