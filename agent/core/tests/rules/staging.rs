//! What a revision needs is here before anything makes room for it.

use std::time::Duration;

use everynode_agent_core::{Action, Event, Unstaged};
use everynode_model::{Digest, Intent, Item, PodPhase, SetUid, Surge};
use uuid::Uuid;

use crate::bench::{Bench, item, key, made, reason, revision};

/// The first revision runs; the second has something to be staged, and is ordered.
fn ordered(next: Item) -> (Bench, Vec<Action>) {
    let mut bench = Bench::running([item("a", "1")]);
    bench.know_stages([revision("2"), revision("3")]);
    let actions = bench.accept([next]);
    (bench, actions)
}

fn stage(text: &str, tries: u32) -> Action {
    Action::Stage { key: key("a"), revision: revision(text), tries }
}

fn staged(text: &str) -> Event {
    Event::Staged { key: key("a"), revision: revision(text), outcome: Ok(()) }
}

fn failed(of: Digest, again: u64) -> Event {
    let outcome = Err(Unstaged { reason: reason(), again: Some(Duration::from_secs(again)) });
    Event::Staged { key: key("a"), revision: of, outcome }
}

#[test]
fn a_pod_is_stopped_only_for_one_whose_revision_is_staged() {
    let (mut bench, actions) = ordered(item("a", "2"));
    assert_eq!(actions, [stage("2", 0)]);
    let statuses = bench.statuses("a");
    assert_eq!(statuses.len(), 2, "the one that waits is told of");
    assert!(statuses[0].ready && statuses[0].revision == revision("1"));
    assert_eq!(statuses[1].phase, PodPhase::Pending);
    assert_eq!(statuses[1].reason.as_ref().map(|it| it.code.as_str()), Some("Staging"));
    let old = bench.statuses("a")[0].uid;
    let actions = bench.apply(staged("2"));
    assert!(matches!(&actions[..], [Action::Terminate(pod)] if pod.uid == old));
    made(&bench.empty("a"));
}

#[test]
fn one_that_cannot_be_staged_stops_nothing_and_is_tried_again_when_it_is_due() {
    let (mut bench, _) = ordered(item("a", "2"));
    for tries in 1..20 {
        assert_eq!(bench.apply(failed(revision("2"), 30)), []);
        assert_eq!(bench.status("a").reason.unwrap().code, reason().code);
        assert!(bench.status("a").reason.unwrap().message.contains("next try at"));
        assert_eq!(bench.pass_secs(29), []);
        assert_eq!(bench.pass_secs(1), [stage("2", tries)]);
        assert!(bench.statuses("a")[0].ready, "what runs is left alone");
    }
    assert_eq!(bench.apply(failed(revision("2"), 1_000_000)), []);
    assert_eq!(bench.pass_secs(300), [stage("2", 20)], "no wait is longer");
}

#[test]
fn one_that_no_try_can_mend_waits_for_another_order() {
    let (mut bench, _) = ordered(item("a", "2"));
    let outcome = Err(Unstaged { reason: reason(), again: None });
    let never = Event::Staged { key: key("a"), revision: revision("2"), outcome };
    assert_eq!(bench.apply(never), []);
    assert_eq!(bench.pass_secs(100_000), []);
    assert_eq!(bench.status("a").reason, Some(reason()));
    assert_eq!(bench.status("a").last_failure.map(|failure| failure.reason), Some(reason()));
    assert_eq!(bench.accept([item("a", "3")]), [stage("3", 0)]);
}

#[test]
fn how_far_it_is_is_told_and_decides_nothing() {
    let (mut bench, _) = ordered(item("a", "2"));
    let staging = |text, line: &str| {
        let (revision, line) = (revision(text), line.to_owned());
        Event::Staging { key: key("a"), revision, line }
    };
    assert_eq!(bench.apply(staging("3", "another")), []);
    assert_eq!(bench.apply(staging("2", "half")), []);
    let waits = &bench.statuses("a")[1];
    assert_eq!(waits.reason.as_ref().unwrap().to_string(), "Staging: half");
    assert_eq!(bench.apply(failed(revision("2"), 1)), []);
    assert_eq!(bench.apply(staging("2", "late")), []);
    assert_eq!(bench.status("a").reason.unwrap().code, reason().code);
}

#[test]
fn nobody_waits_for_what_is_not_wanted_any_more() {
    let (mut bench, _) = ordered(item("a", "2"));
    assert_eq!(bench.accept([item("a", "3")]), [stage("3", 0)]);
    assert_eq!(bench.apply(staged("2")), [], "a late word about another revision");
    assert_eq!(bench.accept([item("a", "1")]), [], "and back to what runs");
    assert_eq!((bench.statuses("a").len(), bench.why("a")), (1, String::new()));
    assert_eq!(bench.apply(staged("3")), []);
}

#[test]
fn nothing_is_made_of_what_is_not_staged_and_a_failed_creation_asks_anew() {
    let mut bench = Bench::new();
    bench.know_stages([revision("2")]);
    assert_eq!(bench.accept([item("a", "2")]), [stage("2", 0)]);
    let pod = made(&bench.apply(staged("2")));
    let failed = Event::CreateFailed { pod, reason: reason(), retry: true, in_doubt: false };
    let actions = bench.apply(failed);
    assert_eq!(actions[1..], [stage("2", 0)], "what was here need not be any more");
    made(&bench.apply(staged("2")));
}

#[test]
fn what_was_deleted_ends_without_waiting() {
    let other = Item { set: SetUid::new(Uuid::from_u128(11)), ..item("a", "2") };
    let (_, actions) = ordered(other);
    assert!(matches!(&actions[..], [Action::Terminate(_)]), "{actions:?}");
}

#[test]
fn a_pod_that_is_kept_has_nothing_staged() {
    let (bench, actions) = ordered(Item { intent: Intent::Keep, ..item("a", "2") });
    assert_eq!(actions, []);
    assert_eq!(bench.why("a"), "Kept");
}

#[test]
fn one_that_is_to_take_over_is_made_when_it_is_staged() {
    let surge = Some(Surge { min_ready: Duration::ZERO });
    let (mut bench, actions) = ordered(Item { surge, ..item("a", "2") });
    assert_eq!(actions, [stage("2", 0)]);
    let actions = bench.apply(staged("2"));
    assert!(matches!(&actions[..], [Action::Create { beside: Some(_), .. }]), "{actions:?}");
}

#[test]
fn an_old_pod_that_dies_meanwhile_is_not_made_again() {
    let (mut bench, _) = ordered(item("a", "2"));
    let actions = bench.empty("a");
    assert!(matches!(&actions[..], [Action::Remove(_)]), "{actions:?}");
    made(&bench.apply(staged("2")));
}
