//! A machine is taken to another coordinator with all that runs on it.

use everynode_agent_core::ledger::MAX_FORMERS;
use everynode_agent_core::{
    Action, Departure, Event, Found, HoldChange, Ledger, Marks, Scope, Standing,
};
use everynode_model::{ClusterId, Exit, Intent, Item, NodeUid, SetUid};
use uuid::Uuid;

use super::bench::*;

const THEIRS: Marks =
    Marks { cluster: ClusterId::new(Uuid::from_u128(71)), node: NodeUid::new(Uuid::from_u128(72)) };

/// The new coordinator's DaemonSet of that name.
fn anew(name: &str, text: &str) -> Item {
    Item { set: SetUid::new(Uuid::from_u128(70)), ..item(name, text) }
}

fn rejoined(items: impl IntoIterator<Item = Item>) -> Bench {
    let mut bench = Bench::running(items);
    assert_eq!(bench.apply(Event::Rejoined(THEIRS)), [], "nothing is stopped, started or written");
    bench
}

/// What a look finds of the pod that `bench` has in a place, made under these marks and this set.
fn alive(bench: &Bench, made_as: &Item, marks: Marks) -> Found {
    let uid = bench.pod(made_as.key.name()).uid.uuid().as_u128();
    found(made_as, uid, Some(marks))
}

#[test]
fn the_same_revision_goes_on_under_the_new_set() {
    let mut bench = rejoined([item("a", "1")]);
    let pod = bench.pod("a");
    assert_eq!(bench.pass_secs(86_400), [], "however long no order comes");
    assert_eq!(bench.accept([anew("a", "1")]), []);
    let status = bench.status("a");
    assert_eq!((status.uid, status.set), (pod.uid, anew("a", "1").set));
    assert!(status.ready && bench.why("a").is_empty());

    // And so it is after the agent was started anew: the supervisor only knows the former set.
    let found = alive(&bench, &item("a", "1"), OURS);
    let (mut bench, actions) = bench.restarted(vec![found]);
    assert_eq!(actions, []);
    assert_eq!(bench.accept([anew("a", "1")]), []);
    // It is as any other now: replaced when that is asked for, or its set was made anew.
    let replaced = Item { replace: 1, ..anew("a", "1") };
    assert_eq!(bench.accept([replaced]), [Action::Terminate(pod)]);
}

#[test]
fn a_pod_that_was_replaced_before_goes_on_where_the_new_node_counts_from_the_start() {
    let replaced = Item { replace: 7, ..item("a", "1") };
    let mut bench = rejoined([replaced.clone()]);
    let pod = bench.pod("a");
    assert_eq!(bench.accept([item("a", "1")]), [], "the same set of the same cluster");
    let found = alive(&bench, &replaced, OURS);
    let (mut bench, actions) = bench.restarted(vec![found]);
    assert_eq!(actions, []);
    let again = Item { replace: 9, ..item("a", "1") };
    assert_eq!(bench.accept([again.clone()]), [Action::Terminate(pod)]);
    let made = made(&bench.empty("a"));
    bench.created(&made);
    assert_eq!(bench.accept([again]), [], "and what was made for that stays");
}

#[test]
fn a_set_that_the_new_coordinator_makes_anew_is_another() {
    let mut bench = rejoined([item("a", "1")]);
    bench.accept([anew("a", "1")]);
    let pod = bench.pod("a");
    let again = Item { set: SetUid::new(Uuid::from_u128(90)), ..anew("a", "1") };
    assert_eq!(bench.accept([again]), [Action::Terminate(pod)]);
    assert!(bench.node.ledger().heirs.is_empty(), "nobody counts for the former sets any more");
}

#[test]
fn a_pod_that_outlives_its_heir_is_the_former_sets_again_as_it_is_to_the_next_agent() {
    let mut bench = Bench::new();
    let pod = made(&bench.accept([item("a", "1")]));
    bench.apply(Event::Rejoined(THEIRS));
    // It is still being made while it is ordered, ordered no more, and ordered once again.
    assert_eq!(bench.accept([anew("a", "1")]), []);
    assert_eq!(bench.status("a").set, anew("a", "1").set);
    assert_eq!(bench.accept([]), []);
    assert_eq!(bench.accept([anew("a", "1")]), []);
    let again = alive(&bench, &item("a", "1"), OURS);
    let (_, actions) = bench.restarted(vec![again]);
    assert_eq!(actions, [Action::Terminate(pod.clone())]);
    assert_eq!(bench.created(&pod), actions, "both see the same");
}

#[test]
fn what_it_does_not_want_is_stopped_and_another_revision_replaces() {
    let mut bench = rejoined([item("a", "1"), item("b", "1")]);
    let (a, b) = (bench.pod("a"), bench.pod("b"));
    let actions = bench.accept([anew("a", "2")]);
    assert_eq!(actions, [Action::Terminate(a), Action::Terminate(b)]);
    let made = made(&bench.empty("a"));
    bench.created(&made);
    assert_eq!(bench.status("a").revision, revision("2"));
    assert!(matches!(bench.empty("b").as_slice(), [Action::Remove(_)]));
}

#[test]
fn until_then_what_crashes_is_restarted_as_it_was_and_still_goes_over() {
    let mut bench = rejoined([item("a", "1")]);
    let former = bench.pod("a");
    let actions = bench.exit("a", Exit::Code(1));
    assert!(matches!(actions.as_slice(), [Action::Start { .. }]), "{actions:?}");
    bench.bring_up(actions);
    // The whole pod dies: the next one bears the new marks and is still the former set's.
    let mut actions = bench.empty("a");
    actions.extend(bench.pass_secs(600));
    let made = made(&actions);
    let started = bench.created(&made);
    bench.bring_up(started);
    assert_ne!(bench.pod("a").uid, former.uid);
    assert_eq!(bench.status("a").set, item("a", "1").set);
    assert_eq!(bench.accept([anew("a", "1")]), []);
    let found = alive(&bench, &item("a", "1"), THEIRS);
    assert_eq!(bench.restarted(vec![found]).1, []);
}

#[test]
fn a_start_under_the_former_ledger_comes_to_the_same() {
    // The agent died between the identity and the ledger.
    let bench = Bench::running([item("a", "1")]);
    let ledger = bench.node.ledger().clone().rejoined(THEIRS);
    let mut again = Bench::unseen(ledger);
    let actions = again.apply(Event::Looked(vec![alive(&bench, &item("a", "1"), OURS)]));
    assert_eq!(actions, []);
    assert_eq!(again.accept([anew("a", "1")]), []);
    // After a reboot everything is made from the same ledger.
    let mut rebooted = Bench::unseen(bench.node.ledger().clone().rejoined(THEIRS));
    made(&rebooted.apply(Event::Looked(Vec::new())));
}

#[test]
fn kept_pods_go_over_whatever_their_revision() {
    let mut bench = rejoined([item("a", "1")]);
    let keep = Item { intent: Intent::Keep, ..anew("a", "2") };
    assert_eq!(bench.accept([keep]), []);
    assert_eq!(bench.why("a"), "Kept");
}

#[test]
fn it_may_be_taken_on_and_on_and_the_oldest_is_nobodys_in_the_end() {
    let to = |number: u128| Marks {
        cluster: ClusterId::new(Uuid::from_u128(200 + number)),
        node: NodeUid::new(Uuid::from_u128(300 + number)),
    };
    let of =
        |number: u128| Item { set: SetUid::new(Uuid::from_u128(400 + number)), ..item("a", "1") };
    let mut bench = Bench::running([item("a", "1")]);
    let pod = bench.pod("a");
    for number in 1..=MAX_FORMERS as u128 {
        bench.apply(Event::Rejoined(to(number)));
        // Every other one is left before it has ordered anything.
        if number.is_multiple_of(2) {
            assert_eq!(bench.accept([of(number)]), []);
        }
        let found = alive(&bench, &item("a", "1"), OURS);
        let (again, actions) = bench.restarted(vec![found]);
        assert_eq!(actions, [], "{number}");
        bench = again;
    }
    assert_eq!(bench.pod("a"), pod);
    bench.apply(Event::Rejoined(to(99)));
    let found = alive(&bench, &item("a", "1"), OURS);
    let (bench, actions) = bench.restarted(vec![found]);
    assert_eq!((actions, bench.why("a")), (Vec::new(), "HeldByAnotherCluster".into()));
}

#[test]
fn back_to_where_it_came_from_with_the_same_sets() {
    let mut bench = rejoined([item("a", "1")]);
    bench.accept([anew("a", "1")]);
    bench.apply(Event::Rejoined(OURS));
    assert_eq!(bench.node.ledger().formers, [THEIRS]);
    assert_eq!(bench.accept([item("a", "1")]), []);
    assert_eq!(bench.status("a").set, item("a", "1").set);
    // Its counters are its own again.
    let pod = bench.pod("a");
    let replaced = Item { replace: 1, ..item("a", "1") };
    assert_eq!(bench.accept([replaced.clone()]), [Action::Terminate(pod)]);
    let made = made(&bench.empty("a"));
    let started = bench.created(&made);
    bench.bring_up(started);
    let found = alive(&bench, &replaced, OURS);
    assert_eq!(bench.restarted(vec![found]).1, [], "the counter is not taken for the former's");
}

#[test]
fn the_former_cluster_gives_no_orders_any_more() {
    let mut bench = Bench::running([item("a", "1")]);
    // One is on its way to the disk, one waits behind it.
    bench.apply(order(7, [item("a", "1"), item("b", "1")]));
    bench.apply(order(8, []));
    assert_eq!(bench.apply(Event::Rejoined(THEIRS)), []);
    let actions = bench.apply(Event::Persisted);
    let made = made(&actions);
    assert_eq!(
        made.key,
        key("b"),
        "what was being written counts, and nobody is told: {actions:?}"
    );
    let actions = bench.apply(order(9, []));
    assert!(
        matches!(actions.as_slice(), [Action::Acknowledge { refused: Some(why), .. }]
            if why.code == "OtherCluster"),
        "{actions:?}"
    );
}

#[test]
fn strays_of_former_clusters_wait_for_the_first_order() {
    let stray = Marks { node: NodeUid::new(Uuid::from_u128(9)), ..OURS };
    let ledger = Ledger::joined(OURS.cluster, OURS.node).rejoined(THEIRS);
    let mut bench = Bench::unseen(ledger);
    assert_eq!(bench.apply(Event::Looked(vec![found(&item("a", "1"), 50, Some(stray))])), []);
    let actions = bench.accept([anew("a", "1")]);
    assert!(matches!(actions.as_slice(), [Action::Terminate(_)]), "{actions:?}");
    made(&bench.empty("a"));
}

#[test]
fn a_leaving_machine_that_is_taken_over_goes_on_stopping_and_starts_nothing() {
    let mut bench = Bench::running([item("a", "1")]);
    bench.apply(Event::Deregistered);
    bench.apply(Event::Persisted);
    assert_eq!(bench.node.ledger().standing, Standing::Leaving(Departure::Deregistered));
    bench.apply(Event::Rejoined(THEIRS));
    assert!(matches!(bench.empty("a").as_slice(), [Action::Remove(_)]));
    assert_eq!(bench.pass_secs(600), []);
    made(&bench.accept([anew("a", "1")]));
}

#[test]
fn what_was_held_on_a_leaving_machine_does_not_come_back_with_it() {
    let mut bench = Bench::running([item("a", "1")]);
    let change = HoldChange::Hold {
        scope: Scope::Node,
        stop: false,
        by: "root".into(),
        reason: String::new(),
        lasting: None,
    };
    bench.apply(Event::HoldRequested { request: 1, change });
    bench.apply(Event::Persisted);
    bench.apply(Event::Deregistered);
    bench.apply(Event::Persisted);
    bench.apply(Event::Rejoined(THEIRS));
    assert!(matches!(bench.empty("a").as_slice(), [Action::Remove(_)]));
    assert_eq!(bench.pass_secs(600), []);
    made(&bench.accept([anew("a", "1")]));
}

#[test]
fn a_silent_supervisors_pod_goes_over_when_it_answers() {
    let bench = Bench::running([item("a", "1")]);
    let mut again = Bench::unseen(bench.node.ledger().clone().rejoined(THEIRS));
    let alive = alive(&bench, &item("a", "1"), OURS);
    let silent = Found { supervised: None, silent: true, ..alive.clone() };
    assert_eq!(again.apply(Event::Looked(vec![silent])), []);
    assert_eq!(again.accept([anew("a", "1")]), []);
    assert_eq!(again.apply(Event::Answered(alive)), []);
    assert_eq!(again.status("a").set, anew("a", "1").set);
}
