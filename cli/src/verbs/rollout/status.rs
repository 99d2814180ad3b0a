//! `rollout status`: how far a rollout is, until it has ended.
//!
//! On a terminal a bar that moves; in a pipe kubectl's lines, each once.

use std::time::{Duration, Instant};

use everynode_model::HELD_ON_NODE;
use everynode_proto::v1::{
    Condition, DaemonSet, DaemonSetStatus, WatchRequest, WhyLine, WhyRequest,
};

use super::{numbered, revisions};
use crate::args::StatusArgs;
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::failure;
use crate::kinds::{DaemonSets, Kind as _, spec_json};
use crate::out::Out;
use crate::targets::one_daemon_set;
use crate::watch::{Change, Watch};

/// Follows a rollout.
pub(super) async fn run(args: &StatusArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    let name = one_daemon_set(&args.what)?;
    let client = context.connect().await?;
    let followed = status(&name, args, context, &client, out);
    if args.timeout.is_zero() {
        return followed.await;
    }
    in_time(args.timeout, followed).await
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
    args: &StatusArgs,
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
    let pinned = pinned(args.revision, client, &namespace, name).await?;
    let mut said = Said::new(args.watch);
    if let Some(end) = said.tell(progress(name, pinned.as_ref(), &first), &first, out)? {
        return told(end, client, (&namespace, name), out).await;
    }
    if !args.watch {
        return Ok(());
    }
    let request =
        WatchRequest { namespace: namespace.clone(), name: name.into(), ..WatchRequest::default() };
    let mut watch = Watch::<DaemonSets>::new(context, client.clone(), request, &[]);
    loop {
        match watch.next().await? {
            Change::Put(set) => {
                let progress = progress(name, pinned.as_ref(), &set);
                if let Some(end) = said.tell(progress, &set, out)? {
                    return told(end, client, (&namespace, name), out).await;
                }
            }
            Change::Gone(_) => return Err(Error::Failed("object has been deleted".into())),
            Change::Lost(error) => out.note(format!("{error}; waiting for it to come back")),
            Change::Complete => {}
        }
    }
}

/// The most nodes that are named with what went wrong there; `why` has them all.
const MOST_NODES: usize = 10;

/// An outcome; before one that is bad, on which nodes the newest revision failed, and how.
async fn told(
    end: Result<(), Error>,
    client: &Client,
    (namespace, name): (&str, &str),
    out: &mut Out,
) -> Result<(), Error> {
    if end.is_ok() {
        return end;
    }
    let request = WhyRequest {
        namespace: namespace.into(),
        daemon_set: name.into(),
        only_faults: true,
        ..WhyRequest::default()
    };
    // Should that not be answered, the outcome is told all the same.
    let answer = client.answer(client.cluster().why(client.request(request))).await;
    failures(&answer.unwrap_or_default().lines).into_iter().for_each(|line| out.note(line));
    end
}

fn failures(lines: &[WhyLine]) -> Vec<String> {
    let failed = lines.iter().filter_map(|line| Some((line, line.failure.as_ref()?)));
    let all: Vec<_> =
        failed.map(|(line, it)| format!("node {}: {}", line.node, failure::in_short(it))).collect();
    let more = all.len().saturating_sub(MOST_NODES);
    let more = (more > 0).then(|| format!("and {more} more nodes: everynode why daemonset NAME"));
    all.into_iter().take(MOST_NODES).chain(more).collect()
}

/// A revision that the newest one must be: its number and its hash.
type Pinned = (i64, String);

async fn pinned(
    number: i64,
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<Pinned>, Error> {
    if number == 0 {
        return Ok(None);
    }
    let all = revisions(client, namespace, name).await?;
    let named = &numbered(&all, number)?.name;
    let hash = named.rsplit_once('-').map_or(named.as_str(), |(_, hash)| hash);
    Ok(Some((number, hash.to_owned())))
}

/// What was said last, and since when how much was done.
struct Said {
    line: String,
    bar: bool,
    began: Instant,
    /// How many were updated when it began.
    first: Option<i32>,
}

impl Said {
    /// `follows`: more is to come.
    fn new(follows: bool) -> Self {
        Self { line: String::new(), bar: follows, began: Instant::now(), first: None }
    }

    /// Says how far it is, unless that has just been said; the outcome when it has ended.
    fn tell(
        &mut self,
        progress: Progress,
        set: &DaemonSet,
        out: &mut Out,
    ) -> Result<Option<Result<(), Error>>, Error> {
        Ok(match progress {
            Progress::Done(line) => {
                out.line(line)?;
                Some(Ok(()))
            }
            Progress::Failed(line) => Some(Err(Error::Failed(line))),
            Progress::Waits(line) => {
                let status = set.status.clone().unwrap_or_default();
                let first = *self.first.get_or_insert(status.updated_number_scheduled);
                if self.bar && out.is_terminal() {
                    let moved = status.updated_number_scheduled.saturating_sub(first);
                    out.progress(bar(&status, moved, self.began.elapsed()));
                } else if self.line != line {
                    out.line(&line)?;
                }
                self.line = line;
                None
            }
        })
    }
}

/// How wide the bar is: with its words it fits a line of 80.
const BAR: i64 = 24;

/// `[#####>     ] 12/40 updated, 11 available, 6 a minute`, and what it waits for.
fn bar(status: &DaemonSetStatus, moved: i32, after: Duration) -> String {
    let (desired, updated) = (status.desired_number_scheduled, status.updated_number_scheduled);
    // Between 0 and 24.
    let filled = (BAR * i64::from(updated) / i64::from(desired.max(1))).clamp(0, BAR);
    let filled = usize::try_from(filled).unwrap_or_default();
    let empty = usize::try_from(BAR).unwrap_or_default() - filled;
    let bar = "#".repeat(filled) + &".".repeat(empty);
    let available = status.number_available;
    let rate = match (moved, after.as_secs()) {
        (..=0, _) | (_, 0) => String::new(),
        (moved, seconds) => format!(", {} a minute", i64::from(moved) * 60 / seconds.cast_signed()),
    };
    let waits = waiting(status).map(|(short, _)| format!(" ({short})")).unwrap_or_default();
    format!("[{bar}] {updated}/{desired} updated, {available} available{rate}{waits}")
}

/// How far it is, in kubectl's words.
fn progress(name: &str, pinned: Option<&Pinned>, set: &DaemonSet) -> Progress {
    let status = set.status.clone().unwrap_or_default();
    let generation = set.metadata.as_ref().map_or(0, |metadata| metadata.generation);
    if generation > status.observed_generation {
        return Progress::Waits("Waiting for daemon set spec update to be observed...".into());
    }
    if let Some((number, hash)) = pinned.filter(|(_, hash)| *hash != status.update_revision) {
        let newest = &status.update_revision;
        return Progress::Failed(format!(
            "desired revision ({number}, {hash}) is different from the running revision ({newest})"
        ));
    }
    if progressing(&status).is_some_and(|condition| condition.reason == "ContentDue") {
        let line = format!("Waiting for daemon set {name:?} to follow what its pods read...");
        return Progress::Waits(line);
    }
    let (desired, updated, available) =
        (status.desired_number_scheduled, status.updated_number_scheduled, status.number_available);
    if updated >= desired && available >= desired {
        return Progress::Done(format!("daemon set {name:?} successfully rolled out"));
    }
    if let Some(reason) = stuck(&status) {
        return Progress::Failed(format!("daemon set {name:?}: {reason}"));
    }
    let progressing = progressing(&status);
    if progressing.is_some_and(|condition| condition.reason == "Partitioned") {
        return Progress::Done(format!(
            "partitioned roll out complete: {updated} new pods have been updated..."
        ));
    }
    let waits = waiting(&status).map(|(short, advice)| {
        let advice = advice.map(|advice| format!("; {}", advice.replace("NAME", name)));
        format!(" ({short}{})", advice.unwrap_or_default())
    });
    let waits = waits.unwrap_or_default();
    Progress::Waits(if updated < desired {
        format!(
            "Waiting for daemon set {name:?} rollout to finish: {updated} out of {desired} new pods \
             have been updated{waits}..."
        )
    } else {
        format!(
            "Waiting for daemon set {name:?} rollout to finish: {available} of {desired} updated \
             pods are available{waits}..."
        )
    })
}

/// What a person has to do before it goes on, and how: at any time somebody may, so it is no failure.
fn waiting(status: &DaemonSetStatus) -> Option<(&'static str, Option<&'static str>)> {
    Some(match progressing(status)?.reason.as_str() {
        HELD_ON_NODE => {
            ("held at their nodes", Some("`everynode why daemonset NAME` says by whom"))
        }
        "NodesAway" => ("no node can be reached", Some("`everynode get nodes` says since when")),
        "RolloutPaused" => ("paused", Some("`everynode rollout resume daemonset/NAME` goes on")),
        "ConfigMissing" => (
            "waits for what its pods read",
            Some("`everynode describe daemonset NAME` says for what"),
        ),
        "CanaryWaiting" => {
            ("waits after its canaries", Some("`everynode describe daemonset NAME` says for what"))
        }
        _ => return None,
    })
}

fn progressing(status: &DaemonSetStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.r#type == "Progressing")
}

/// Why it will not go on by itself, if so.
fn stuck(status: &DaemonSetStatus) -> Option<String> {
    let stuck = progressing(status).filter(|condition| {
        condition.status == "False" && FINAL.contains(&condition.reason.as_str())
    })?;
    Some(match stuck.message.as_str() {
        "" => stuck.reason.clone(),
        message => format!("{}: {message}", stuck.reason),
    })
}

/// Reasons of `Progressing: False` for which a rollout waits for somebody to act.
const FINAL: [&str; 5] =
    ["Held", "ProgressDeadlineExceeded", "RolloutFailed", "RolledBack", "RevisionFailed"];

#[cfg(test)]
mod tests {
    use everynode_proto::v1::exit::How;
    use everynode_proto::v1::{Exit, Failure, ObjectMeta};

    use super::*;

    fn set(generation: i64, desired: i32, updated: i32, available: i32) -> DaemonSet {
        DaemonSet {
            effect: None,
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
            progress("d", None, &set(2, 3, 3, 3)),
            waits("Waiting for daemon set spec update to be observed...")
        );
        assert_eq!(
            progress("d", None, &set(1, 3, 1, 3)),
            waits(
                "Waiting for daemon set \"d\" rollout to finish: 1 out of 3 new pods have been updated..."
            )
        );
        assert_eq!(
            progress("d", None, &set(1, 3, 3, 2)),
            waits(
                "Waiting for daemon set \"d\" rollout to finish: 2 of 3 updated pods are available..."
            )
        );
        let done = Progress::Done("daemon set \"d\" successfully rolled out".into());
        assert_eq!(progress("d", None, &set(1, 3, 3, 3)), done);
        assert_eq!(
            progress("d", None, &set(1, 0, 0, 0)),
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
        assert_eq!(progress("d", None, &set), Progress::Failed(expected.into()));
    }

    #[test]
    fn a_failed_rollout_names_nodes_with_the_exit_and_the_last_line() {
        let line = |node: &str, text: &str| WhyLine {
            node: node.into(),
            failure: Some(Failure {
                exit: Some(Exit { how: Some(How::Code(3)) }),
                log_tail: text.into(),
                ..Failure::default()
            }),
            ..WhyLine::default()
        };
        let fine = WhyLine { failure: None, ..line("n0", "") };
        assert_eq!(
            failures(&[fine, line("n1", "boom"), line("n2", "")]),
            ["node n1: exit code 3: boom", "node n2: exit code 3"]
        );
        let many = failures(&vec![line("n", ""); MOST_NODES + 2]);
        assert_eq!(many.len(), MOST_NODES + 1);
        assert!(many[MOST_NODES].starts_with("and 2 more nodes"));
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
        assert_eq!(progress("d", None, &set), Progress::Waits(expected.into()));
    }

    #[test]
    fn what_waits_for_somebody_is_told_and_waited_for() {
        for (reason, words) in [
            ("RolloutPaused", "(paused; `everynode rollout resume daemonset/d` goes on)..."),
            ("CanaryWaiting", "(waits after its canaries; "),
            ("NodesAway", "(no node can be reached; "),
            ("ConfigMissing", "(waits for what its pods read; "),
        ] {
            let mut set = set(1, 3, 1, 3);
            set.status.as_mut().unwrap().conditions = vec![Condition {
                r#type: "Progressing".into(),
                status: "Unknown".into(),
                reason: reason.into(),
                message: String::new(),
            }];
            let Progress::Waits(line) = progress("d", None, &set) else { panic!("{reason}") };
            assert!(line.contains(words), "{line}");
        }
    }

    #[test]
    fn another_revision_than_the_one_asked_for_is_a_failure() {
        let mut set = set(1, 3, 1, 3);
        set.status.as_mut().unwrap().update_revision = "abc".into();
        let of = |hash: &str| progress("d", Some(&(2, hash.to_owned())), &set);
        assert!(matches!(of("abc"), Progress::Waits(_)));
        assert!(matches!(of("xyz"), Progress::Failed(_)));
    }

    #[test]
    fn a_bar_shows_the_share_and_the_pace() {
        let status = set(1, 4, 1, 3).status.unwrap();
        assert_eq!(
            bar(&status, 1, Duration::from_secs(30)),
            "[######..................] 1/4 updated, 3 available, 2 a minute"
        );
        let none = set(1, 0, 0, 0).status.unwrap();
        assert_eq!(
            bar(&none, 0, Duration::ZERO),
            "[........................] 0/0 updated, 0 available"
        );
    }
}
