//! A report as people read it: kubectl's columns and words.

use std::fmt::Write as _;

use everynode_agent_core::{Hold, rfc3339};
use everynode_model::{HELD_ON_NODE, WallTime};

use super::{Held, Pod, Report};

/// The machine itself.
pub(crate) fn status(report: &Report) -> String {
    let agent = if report.agent_running { "running" } else { "not running" };
    let order = match &report.order {
        Some(order) => format!("term {}, generation {}", order.term, order.generation),
        None => "none yet".into(),
    };
    let rows = [
        ("Agent", agent.to_owned()),
        ("Node", report.node.clone()),
        ("Node UID", report.node_uid.clone()),
        ("Cluster", report.cluster.clone()),
        ("Standing", report.standing.clone()),
        ("Certificate", report.certificate.clone()),
        ("Coordinators", report.coordinators.join(", ")),
        ("Session", report.session.clone()),
        ("Order", order),
        ("Assigned", report.assigned.to_string()),
    ];
    let troubles = report.troubles.iter().map(|words| ("Trouble", words.to_string()));
    let holds = report.holds.iter().map(|hold| ("Held", held(hold)));
    let rows = rows.into_iter().chain(troubles).chain(holds);
    table(rows.map(|(name, value)| vec![format!("{name}:"), value]))
}

/// The pods, one a line; `now` in milliseconds since 1970.
pub(crate) fn pods<'a>(pods: impl Iterator<Item = &'a Pod>, wide: bool, now: i64) -> String {
    let head = ["NAMESPACE", "DAEMONSET", "READY", "STATUS", "RESTARTS", "REVISION", "PIDS"];
    let more = ["AGE", "POD"].into_iter().filter(|_| wide);
    let head: Vec<String> = head.into_iter().chain(more).map(str::to_owned).collect();
    let rows = pods.map(|pod| row(pod, wide, now));
    table(std::iter::once(head).chain(rows))
}

/// One line for each thing that does not simply run as it ought to.
pub(crate) fn why(report: &Report) -> String {
    if report.why.is_empty() {
        return "everything that is to run here runs\n".into();
    }
    table(report.why.iter().map(|why| vec![why.what.clone(), why.words.to_string()]))
}

/// What went wrong with a pod, and before it in its place, with what was printed last.
pub(crate) fn failures(pod: &Pod) -> String {
    let mut out = String::new();
    for (title, failure) in
        [("last failure", &pod.last_failure), ("former failure", &pod.former_failure)]
    {
        let Some(failure) = failure else { continue };
        let (revision, at) = (&failure.revision, date(failure.at));
        let words = failure.words.as_ref().map(ToString::to_string).unwrap_or_default();
        // Writing to a String can't fail.
        let _ = writeln!(out, "{title} (revision {revision}, {at}): {words}");
        failure.log_tail.lines().for_each(|line| _ = writeln!(out, "  {line}"));
    }
    out
}

fn held(held: &Held) -> String {
    let hold = Hold {
        stop: held.stop,
        by: held.by.clone(),
        reason: held.reason.clone(),
        since: WallTime::from_unix_millis(held.since),
        until: held.until.map(WallTime::from_unix_millis),
    };
    let what = held.pod.as_deref().unwrap_or("everything on this node");
    format!("{what}: {}", hold.why().message)
}

fn row(pod: &Pod, wide: bool, now: i64) -> Vec<String> {
    let stay = || pod.containers.iter().filter(|container| !container.init);
    let ready = stay().filter(|container| container.ready).count();
    let pids = pod.containers.iter().filter_map(|container| container.pid);
    let pids: Vec<String> = pids.map(|pid| pid.to_string()).collect();
    let mut row = vec![
        pod.namespace.clone(),
        pod.daemon_set.clone(),
        format!("{ready}/{}", stay().count()),
        standing(pod),
        pod.restarts.map_or_else(|| "<unknown>".into(), |count| count.to_string()),
        if pod.revision.is_empty() { "<unknown>".into() } else { pod.revision.clone() },
        if wide && pids.is_empty() { "<none>".into() } else { pids.join(",") },
    ];
    if wide {
        let age = pod.started_at.map(|at| age((now - at).div_euclid(1000)));
        row.push(age.unwrap_or_else(|| "<unknown>".into()));
        row.push(pod.name.clone());
    }
    row
}

/// How a pod stands, in a word; that it is held beside it, as kubectl says of a node that is
/// cordoned.
fn standing(pod: &Pod) -> String {
    let waiting = pod.containers.iter().find_map(|container| container.waiting.as_ref());
    let word = match (pod.phase.as_str(), waiting, &pod.why) {
        ("Running", Some(waiting), _) => waiting.reason.clone(),
        ("Pending", _, Some(why)) => why.reason.clone(),
        (phase, ..) => phase.to_owned(),
    };
    if pod.held && word != HELD_ON_NODE { format!("{word},Held") } else { word }
}

/// kubectl's short form of a time in seconds, in its largest unit.
fn age(seconds: i64) -> String {
    match seconds {
        ..-1 => "<invalid>".into(),
        -1..120 => format!("{}s", seconds.max(0)),
        120..10_800 => format!("{}m", seconds / 60),
        10_800..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Columns three spaces apart, as kubectl's.
pub(crate) fn table(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String can't fail.
            let _ = write!(line, "{cell:<width$}   ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A date for people.
pub(super) fn date(millis: i64) -> String {
    rfc3339(WallTime::from_unix_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::super::{Container, Failure, Words};
    use super::*;

    fn words(reason: &str) -> Words {
        Words { reason: reason.into(), message: String::new() }
    }

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let rows = [vec!["A", "LONG", "C"], vec!["xx", "y", ""]];
        let rows = rows.map(|row| row.into_iter().map(str::to_owned).collect());
        assert_eq!(table(rows), "A    LONG   C\nxx   y\n");
    }

    #[test]
    fn failures_are_told_with_what_was_printed() {
        let failure = Failure {
            revision: "abc".into(),
            words: Some(words("Error")),
            log_tail: "one\ntwo".into(),
            ..Failure::default()
        };
        let pod = Pod { former_failure: Some(failure), ..Pod::default() };
        let told = "former failure (revision abc, 1970-01-01T00:00:00Z): Error\n  one\n  two\n";
        assert_eq!((failures(&pod).as_str(), failures(&Pod::default()).as_str()), (told, ""));
    }

    #[test]
    fn a_row_says_how_it_stands_and_that_it_is_held() {
        let container = Container { pid: Some(7), ready: true, ..Container::default() };
        let pod = Pod {
            phase: "Running".into(),
            held: true,
            why: Some(words(HELD_ON_NODE)),
            containers: vec![container.clone()],
            ..Pod::default()
        };
        assert_eq!(standing(&pod), "Running,Held");
        let waits = Container { waiting: Some(words("CrashLoopBackOff")), ..Container::default() };
        let crashing = Pod { containers: vec![container, waits], ..pod.clone() };
        assert_eq!(standing(&crashing), "CrashLoopBackOff,Held");
        assert_eq!(standing(&Pod { phase: "Pending".into(), ..pod.clone() }), HELD_ON_NODE);
        let row = row(&Pod { started_at: Some(0), ..pod }, true, 7_200_000);
        assert_eq!(row[2..8], ["1/1", "Running,Held", "<unknown>", "<unknown>", "7", "120m"]);
    }
}
