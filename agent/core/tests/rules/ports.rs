//! Two pods that say they use the same port of the machine.

use everynode_agent_core::{Action, Event, HostPort, Ledger};
use everynode_model::{Exit, Intent};

use crate::bench::{Bench, CLUSTER, NODE, OURS, found, item, key, revision};

fn port(port: u16) -> Vec<HostPort> {
    vec![HostPort { protocol: "TCP".into(), address: None, port }]
}

fn created(actions: &[Action]) -> Vec<String> {
    let keys = actions.iter().filter_map(|action| match action {
        Action::Create { pod, .. } => Some(pod.key.name().to_owned()),
        _ => None,
    });
    keys.collect()
}

fn waits(bench: &Bench, name: &str) -> String {
    let why = bench.node.why(&key(name)).unwrap();
    format!("{}: {}", why.code, why.message)
}

#[test]
fn of_two_that_could_start_the_lowest_name_does() {
    let mut bench = Bench::new();
    bench.node.know_ports([(revision("1"), port(80)), (revision("2"), port(81))]);
    let actions = bench.accept([item("b", "1"), item("a", "1"), item("c", "2")]);
    assert_eq!(created(&actions), ["a", "c"]);
    assert_eq!(
        waits(&bench, "b"),
        "HostPortConflict: port 80/TCP of this machine is held by default/a"
    );
}

#[test]
fn the_holder_keeps_it_until_nothing_of_it_lives() {
    let mut bench = Bench::new();
    bench.node.know_ports([(revision("1"), port(80))]);
    let actions = bench.accept([item("z", "1")]);
    bench.bring_up(actions);
    let actions = bench.accept([item("a", "1"), item("z", "1")]);
    assert_eq!(created(&actions), [""; 0]);
    // The holder is to go: its port is free when its place is empty, and not before.
    let actions = bench.accept([item("a", "1")]);
    assert_eq!(created(&actions), [""; 0]);
    let actions = bench.empty("z");
    assert_eq!(created(&actions), ["a"]);
}

#[test]
fn a_new_revision_of_the_same_set_is_no_conflict() {
    let mut bench = Bench::new();
    bench.node.know_ports([(revision("1"), port(80)), (revision("2"), port(80))]);
    let actions = bench.accept([item("a", "1")]);
    bench.bring_up(actions);
    bench.accept([item("a", "2")]);
    let actions = bench.empty("a");
    assert_eq!(created(&actions), ["a"]);
}

#[test]
fn a_pod_of_a_former_revision_that_was_found_holds_its_ports() {
    let keep = |text| {
        let mut item = item("z", text);
        item.intent = Intent::Keep;
        item
    };
    let mut bench = Bench::unseen(Ledger::joined(CLUSTER, NODE));
    bench.node.know_ports([(revision("1"), port(80)), (revision("3"), port(80))]);
    bench.accept([keep("2")]);
    bench.apply(Event::Looked(vec![found(&item("z", "1"), 9, Some(OURS))]));
    // The order's revisions use none or another; what lives is remembered.
    bench.node.know_ports([(revision("2"), Vec::new()), (revision("3"), port(80))]);
    let actions = bench.accept([keep("2"), item("a", "3")]);
    assert_eq!(created(&actions), [""; 0]);
    assert!(waits(&bench, "a").contains("held by default/z"), "{}", waits(&bench, "a"));
}

#[test]
fn who_else_holds_a_port_is_told_with_the_failure_and_once() {
    let mut bench = Bench::running([item("a", "1")]);
    bench.node.know_ports([(revision("1"), port(80))]);
    let pod = bench.pod("a");
    assert_eq!(bench.node.host_ports(&pod), port(80));
    bench.exit("a", Exit::Code(1));
    let line = "port 80/TCP is held by pid 812 (nginx)".to_owned();
    for _ in 0..2 {
        let (pod, container, line) = (pod.clone(), "main".to_owned(), line.clone());
        bench.apply(Event::PortHeld { pod, container, line });
    }
    let told = bench.status("a").last_failure.unwrap().reason.message;
    assert_eq!(told, format!("container main ended: exit code 1; {line}"));
}
