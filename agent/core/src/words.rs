//! Kubernetes' words for what becomes of a container, and dates in lines.

use std::time::Duration;

use everynode_model::{Exit, Now, Reason, Timestamp, WallTime};

use crate::status::rfc3339;

/// Of one whose turn to start has come.
pub(crate) fn creating() -> Reason {
    Reason::new("ContainerCreating", "its start is ordered")
}

/// Of one that comes after others.
pub(crate) fn initializing() -> Reason {
    Reason::new("PodInitializing", "its turn comes after other containers of the pod")
}

/// Of one whose limits could be neither changed nor put back under a former agent.
pub(crate) fn limits_in_doubt() -> Reason {
    Reason::new("ResizeError", "a change of them failed and could not be undone")
}

/// What to say of a try that comes after `wait`.
pub(crate) fn next_try(message: &str, wait: Duration, now: Now) -> String {
    let at = rfc3339(later(now, wait).wall);
    match message {
        "" => format!("next try at {at}"),
        message => format!("{message}; next try at {at}"),
    }
}

/// Of one that has ended so and is started again after `wait`. `why` is the reason for its end: a stop
/// that others ordered, or [`ended`].
pub(crate) fn waiting(name: &str, exit: Exit, why: &Reason, wait: Duration, now: Now) -> Reason {
    if wait.is_zero() {
        return why.clone();
    }
    let line = format!("back-off {}s restarting failed container={name} ({exit})", wait.as_secs());
    let line = match why.code.as_str() {
        "Unhealthy" | "PostStartHookError" => format!("{line}: {}", why.message),
        _ => line,
    };
    Reason::new("CrashLoopBackOff", next_try(&line, wait, now))
}

/// Kubernetes' word for an end, and a line.
pub(crate) fn ended(name: &str, exit: Exit, oom: bool) -> Reason {
    Reason::new(of_exit(exit, oom), format!("container {name} ended: {exit}"))
}

/// Kubernetes' word for an end.
pub(crate) fn of_exit(exit: Exit, oom: bool) -> &'static str {
    match exit {
        _ if oom => "OOMKilled",
        Exit::Code(0) => "Completed",
        Exit::Code(_) | Exit::Signal(_) => "Error",
        Exit::Unknown => "ContainerStatusUnknown",
    }
}

/// What time it was before.
pub(crate) fn earlier(now: Now, by: Duration) -> Now {
    Now {
        steady: Timestamp::from_start(now.steady.since_start().saturating_sub(by)),
        wall: WallTime::from_unix_millis(now.wall.unix_millis.saturating_sub(millis(by))),
    }
}

/// Says `line` beside what a reason says, and once.
pub(crate) fn add(line: &str, reason: &mut Reason) {
    if !reason.message.ends_with(line) {
        reason.message = format!("{}; {line}", reason.message);
    }
}

fn later(now: Now, by: Duration) -> Now {
    Now {
        steady: now.steady.after(by),
        wall: WallTime::from_unix_millis(now.wall.unix_millis.saturating_add(millis(by))),
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
