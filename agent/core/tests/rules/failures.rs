//! What is told of a failure, and for how long.

use std::time::Duration;

use everynode_agent_core::{Event, Lifecycle, SupervisedContainer};
use everynode_model::{Exit, LogTail};

use crate::bench::{Bench, OURS, found, item, reason};

fn printed(bench: &mut Bench, container: &str, text: &str) {
    let pod = bench.pod("a");
    let log_tail = LogTail::of(text);
    bench.apply(Event::Printed { pod, container: container.into(), log_tail });
}

/// The exit and the last lines of the pod's own last failure, and of the former one.
fn told(bench: &Bench) -> [Option<(Option<Exit>, String)>; 2] {
    let status = bench.status("a");
    let failures = [status.last_failure, status.former_failure.map(|former| former.failure)];
    failures.map(|one| one.map(|failure| (failure.exit, failure.log_tail.as_str().to_owned())))
}

fn failure(code: i32, text: &str) -> Option<(Option<Exit>, String)> {
    Some((Some(Exit::Code(code)), text.to_owned()))
}

#[test]
fn a_failure_is_told_with_what_was_printed_last() {
    let mut bench = Bench::running([item("a", "1")]);
    printed(&mut bench, "main", "of no failure");
    bench.exit("a", Exit::Code(3));
    assert_eq!(told(&bench), [failure(3, ""), None]);
    printed(&mut bench, "other", "of another container");
    printed(&mut bench, "main", "boom");
    assert_eq!(told(&bench), [failure(3, "boom"), None]);
    let pod = bench.pod("a");
    bench.apply(Event::Started { pod, container: "main".into(), pid: 8 });
    assert_eq!(told(&bench), [failure(3, "boom"), None], "it stays while the next run goes well");
}

#[test]
fn the_failure_of_a_replaced_revision_stays_and_is_named_with_it() {
    let mut bench = Bench::running([item("a", "1")]);
    bench.exit("a", Exit::Code(3));
    printed(&mut bench, "main", "boom");
    bench.accept([item("a", "2")]);
    assert_eq!(told(&bench), [failure(3, "boom"), None], "told once while it is taken down");
    let actions = bench.empty("a");
    let create = actions.into_iter().skip(1).collect();
    assert_eq!(told(&bench), [None, failure(3, "boom")]);
    bench.bring_up(create);
    let former = bench.status("a").former_failure.unwrap();
    assert_eq!(former.revision, item("a", "1").revision);
    assert_eq!(told(&bench), [None, failure(3, "boom")]);
    // One that is replaced without having failed takes nothing away.
    bench.accept([item("a", "3")]);
    bench.empty("a");
    assert_eq!(bench.status("a").former_failure, Some(former));
}

#[test]
fn a_revision_that_only_waits_is_replaced_with_its_failure_told() {
    let mut bench = Bench::new();
    let pod = crate::bench::made(&bench.accept([item("a", "1")]));
    let (retry, in_doubt) = (false, false);
    bench.apply(Event::CreateFailed { pod, reason: reason(), retry, in_doubt });
    bench.accept([item("a", "2")]);
    let former = bench.status("a").former_failure.unwrap();
    assert_eq!((former.revision, former.failure.reason), (item("a", "1").revision, reason()));
}

#[test]
fn an_agent_that_starts_anew_hears_again_what_was_printed() {
    let mut former = Bench::running([item("a", "1")]);
    former.exit("a", Exit::Code(3));
    let mut alive = found(&item("a", "1"), 50, Some(OURS));
    let main = SupervisedContainer {
        name: "main".into(),
        lifecycle: Lifecycle::default(),
        asked: false,
        pid: Some(7),
        last_exit: Some(Exit::Code(3)),
        oom: false,
        for_time: Duration::from_secs(60),
    };
    alive.supervised.as_mut().unwrap().containers = vec![main];
    let (mut bench, _) = former.restarted(vec![alive]);
    assert_eq!(told(&bench), [failure(3, ""), None]);
    printed(&mut bench, "main", "boom");
    assert_eq!(told(&bench), [failure(3, "boom"), None]);
}
