//! `rollout restart`, `rollout pause`, `rollout resume`: small changes of a DaemonSet, by annotations.

use std::collections::HashMap;

use everynode_proto::convert::json::to_struct;
use everynode_proto::v1::{DaemonSet, ListRequest, PutDaemonSetRequest};
use serde_json::json;

use crate::age::{rfc3339_seconds, unix_now};
use crate::args::RolloutArgs;
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::kinds::{DaemonSets, Kind as _, name_of, spec_json};
use crate::out::Out;
use crate::targets::daemon_sets;

/// Of the template: when it was last restarted; nothing else of it changes.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// No step is taken while it says "true".
const PAUSED: &str = "rollout.everynode.dev/paused";

/// `manual`: after its canaries a rollout waits for a person.
const CANARY_WAIT: &str = "rollout.everynode.dev/canary-wait";

/// The hash of the revision that a person has let go on beyond its canaries.
const CANARY_APPROVED: &str = "rollout.everynode.dev/canary-approved";

/// How often a change that was overtaken by another is made again.
const TRIES: usize = 5;

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Restart,
    Pause,
    Resume,
}

/// Changes each set that is named; one that can't be does not hold up the rest.
pub(super) async fn run(
    way: Way,
    args: &RolloutArgs,
    context: &Context,
    out: &mut Out,
) -> Result<(), Error> {
    let names = args.selector.is_none().then(|| daemon_sets(&args.what)).transpose()?;
    let (client, namespace) = (context.connect().await?, context.namespace()?);
    let names = match names {
        Some(names) => names,
        None => selected(&client, &namespace, args).await?,
    };
    let mut failed = false;
    for name in names {
        match change(way, &client, &namespace, &name).await {
            Ok(done) => out.line(format!("daemonset.apps/{name} {done}"))?,
            Err(error @ (Error::Refused(_) | Error::Failed(_))) => {
                failed = true;
                out.note(error);
            }
            Err(error) => return Err(error),
        }
    }
    if failed { Err(Error::Told) } else { Ok(()) }
}

async fn selected(
    client: &Client,
    namespace: &str,
    args: &RolloutArgs,
) -> Result<Vec<String>, Error> {
    let request = ListRequest {
        namespace: namespace.into(),
        label_selector: args.selector.clone().unwrap_or_default(),
        ..ListRequest::default()
    };
    let found = DaemonSets::list(client, request).await?.items;
    Ok(found.iter().map(|set| name_of(set.metadata.as_ref()).to_owned()).collect())
}

async fn change(way: Way, client: &Client, namespace: &str, name: &str) -> Result<String, Error> {
    let mut tries = 1;
    loop {
        let mut set = DaemonSets::get(client, namespace, name).await?;
        let done = match way {
            Way::Restart => restart(&mut set, unix_now())?,
            Way::Pause => pause(&mut set)?,
            Way::Resume => resume(&mut set)?,
        };
        set.status = None;
        let request =
            PutDaemonSetRequest { daemon_set: Some(set), ..PutDaemonSetRequest::default() };
        match client.answer(client.daemon_sets().replace(client.request(request))).await {
            Err(Error::Refused(refusal)) if refusal.reason == "Conflict" && tries < TRIES => {
                tries += 1;
            }
            answer => return answer.map(|_| done),
        }
    }
}

fn restart(set: &mut DaemonSet, now: i64) -> Result<String, Error> {
    if annotations(set).get(PAUSED).is_some_and(|value| value == "true") {
        let text = "can't restart paused daemonset (run rollout resume first)";
        return Err(failed(set, text));
    }
    let mut spec = spec_json(set)?;
    let annotations = &mut spec["template"]["metadata"]["annotations"];
    let at = rfc3339_seconds(now);
    if annotations[RESTARTED_AT] == at.as_str() {
        let text = "if restart has already been triggered within the past second, please wait \
                    before attempting to trigger another";
        return Err(failed(set, text));
    }
    annotations[RESTARTED_AT] = json!(at);
    set.spec = spec.as_object().map(to_struct);
    Ok("restarted".into())
}

fn pause(set: &mut DaemonSet) -> Result<String, Error> {
    match annotations(set).insert(PAUSED.into(), "true".into()) {
        Some(value) if value == "true" => Err(failed(set, "is already paused")),
        _ => Ok("paused".into()),
    }
}

/// Goes on with what is paused; else with what waits for a person after its canaries.
fn resume(set: &mut DaemonSet) -> Result<String, Error> {
    let newest = set.status.as_ref().map(|status| status.update_revision.clone());
    let annotations = annotations(set);
    if annotations.get(PAUSED).is_some_and(|value| value == "true") {
        annotations.remove(PAUSED);
        return Ok("resumed".into());
    }
    let by_hand = annotations.get(CANARY_WAIT).is_some_and(|value| value.trim() == "manual");
    let newest = newest.filter(|newest| {
        by_hand && !newest.is_empty() && annotations.get(CANARY_APPROVED) != Some(newest)
    });
    match newest {
        Some(newest) => {
            let done = format!("resumed: revision {newest} may go on beyond its canaries");
            annotations.insert(CANARY_APPROVED.into(), newest);
            Ok(done)
        }
        None => Err(failed(set, "is not paused")),
    }
}

fn annotations(set: &mut DaemonSet) -> &mut HashMap<String, String> {
    &mut set.metadata.get_or_insert_default().annotations
}

fn failed(set: &DaemonSet, text: &str) -> Error {
    Error::Failed(format!("daemonsets.apps {:?} {text}", name_of(set.metadata.as_ref())))
}

#[cfg(test)]
mod tests {
    use everynode_proto::v1::{DaemonSetStatus, ObjectMeta};

    use super::*;

    fn set(annotated: &[(&str, &str)]) -> DaemonSet {
        let pairs = annotated.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let status =
            DaemonSetStatus { update_revision: "abc".into(), ..DaemonSetStatus::default() };
        DaemonSet {
            effect: None,
            metadata: Some(ObjectMeta { annotations: pairs.collect(), ..ObjectMeta::default() }),
            spec: json!({"template": {"metadata": {"labels": {"a": "b"}}}})
                .as_object()
                .map(to_struct),
            status: Some(status),
        }
    }

    #[test]
    fn a_restart_changes_the_template_and_nothing_else() {
        let mut set = set(&[]);
        assert_eq!(restart(&mut set, 60).unwrap(), "restarted");
        let expected = json!({"template": {"metadata": {"labels": {"a": "b"},
            "annotations": {"kubectl.kubernetes.io/restartedAt": "1970-01-01T00:01:00Z"}}}});
        assert_eq!(spec_json(&set).unwrap(), expected);
        assert!(restart(&mut set, 60).unwrap_err().to_string().contains("within the past second"));
        restart(&mut set, 61).unwrap();
        pause(&mut set).unwrap();
        assert!(restart(&mut set, 62).unwrap_err().to_string().contains("run rollout resume"));
    }

    #[test]
    fn what_is_paused_is_resumed_before_canaries_are_approved() {
        let mut set = set(&[(CANARY_WAIT, "manual")]);
        pause(&mut set).unwrap();
        assert!(pause(&mut set).unwrap_err().to_string().ends_with("is already paused"));
        assert_eq!(resume(&mut set).unwrap(), "resumed");
        assert_eq!(annotations(&mut set).get(CANARY_APPROVED), None);
        assert!(resume(&mut set).unwrap().contains("revision abc"));
        assert_eq!(annotations(&mut set)[CANARY_APPROVED], "abc");
        assert!(resume(&mut set).unwrap_err().to_string().ends_with("is not paused"));
    }

    #[test]
    fn what_does_not_wait_is_not_resumed() {
        for annotated in [&[][..], &[(CANARY_WAIT, "10m")], &[(PAUSED, "false")]] {
            assert!(resume(&mut set(annotated)).is_err(), "{annotated:?}");
        }
    }
}
