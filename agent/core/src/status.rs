//! What is said of a place: to the coordinator, and to people who ask why.

use std::time::Duration;

use everynode_model::{
    ContainerState, ContainerStatus, FormerFailure, Intent, Item, Now, PodKey, PodPhase, PodStatus,
    Reason, WallTime,
};

use crate::container::{Container, Doing};
use crate::hold::Hold;
use crate::place::{Life, Place};
use crate::pod::Pod;

/// The statuses of the pods in a place, or of the one that is wanted there; where one is to take
/// over from another, that one comes last, also before it is made.
///
/// A stray or something unreadable has none: its marks don't say of which revision it is. A pod
/// that it keeps from starting is Pending and names it.
pub(crate) fn statuses(
    key: &PodKey,
    place: &Place,
    item: Option<&Item>,
    hold: Option<&Hold>,
    now: Now,
) -> Vec<PodStatus> {
    let there = place.lives().filter_map(|life| Some(of_pod(life, life.pod()?, now)));
    let mut statuses: Vec<PodStatus> = there.collect();
    if statuses.is_empty() || place.waits_beside() {
        statuses.extend(item.and_then(|item| of_wanted(key, place, item)));
    }
    for status in &mut statuses {
        status.reason = with_hold(hold, status.reason.take());
        status.former_failure = former(place, status);
    }
    statuses
}

/// What went wrong in the place before the pod of this status; one that is being taken down for it
/// has it as its own.
fn former(place: &Place, status: &PodStatus) -> Option<FormerFailure> {
    let former = place.memory.former.as_ref()?;
    let own = status.last_failure.as_ref().is_some_and(|own| own.is_same(&former.failure));
    (!own).then(|| former.clone())
}

/// Why a place is not simply running what is wanted: also where somebody keeps it from following
/// what may be wanted next.
pub(crate) fn why(place: &Place, item: Option<&Item>, hold: Option<&Hold>) -> Option<Reason> {
    with_hold(hold, reason(place).or_else(|| kept(place, item)))
}

/// A hold is what people have to know first, and what else keeps a pod from running is part of its
/// line.
fn with_hold(hold: Option<&Hold>, reason: Option<Reason>) -> Option<Reason> {
    let Some(held) = hold.map(Hold::why) else { return reason };
    Some(match reason {
        Some(reason) if reason.code != held.code => {
            Reason::new(held.code, format!("{}; {reason}", held.message))
        }
        _ => held,
    })
}

fn kept(place: &Place, item: Option<&Item>) -> Option<Reason> {
    let (item, pod) = (item?, place.pod()?);
    (item.intent == Intent::Keep && item.revision != pod.identity.revision).then(|| {
        let (is, other) = (pod.identity.revision.short(), item.revision.short());
        let line = format!("revision {is} is left as it is until {other} is ordered to run here");
        Reason::new("Kept", line)
    })
}

fn of_pod(life: &Life, pod: &Pod, now: Now) -> PodStatus {
    let stopping = matches!(life, Life::Stopping(..));
    let ready_since = pod.ready_since.filter(|_| !stopping);
    PodStatus {
        key: pod.at.key.clone(),
        uid: pod.at.uid,
        set: pod.identity.set,
        revision: pod.identity.revision,
        replace: pod.identity.replace,
        phase: match life {
            Life::Stopping(..) => PodPhase::Stopping,
            _ if pod.containers.iter().any(|container| container.runs > 0) => PodPhase::Running,
            _ => PodPhase::Pending,
        },
        reason: of_life(life),
        ready: ready_since.is_some(),
        ready_for: ready_since.map_or(Duration::ZERO, |since| now.steady.since(since)),
        started_at: pod.created.map(|created| created.wall),
        restarts: pod.restarts(),
        times_unready: pod.times_unready,
        last_failure: pod.last_failure.clone(),
        former_failure: None,
        containers: pod.containers.iter().map(|one| of_container(one, pod, stopping)).collect(),
    }
}

fn of_wanted(key: &PodKey, place: &Place, item: &Item) -> Option<PodStatus> {
    Some(PodStatus {
        key: key.clone(),
        uid: place.next?,
        set: item.set,
        revision: item.revision,
        replace: item.replace,
        phase: PodPhase::Pending,
        reason: of_wait(place).or_else(|| of_life(&place.life)),
        ready: false,
        ready_for: Duration::ZERO,
        started_at: None,
        restarts: place.memory.restarts,
        times_unready: place.memory.times_unready,
        last_failure: place.memory.last_failure.clone(),
        former_failure: None,
        containers: Vec::new(),
    })
}

fn of_container(container: &Container, pod: &Pod, stopping: bool) -> ContainerStatus {
    ContainerStatus {
        name: container.name.clone(),
        role: container.role(),
        state: match &container.doing {
            Doing::Due { reason, .. } | Doing::Asked { reason } => {
                ContainerState::Waiting(reason.clone())
            }
            Doing::Runs(run) => ContainerState::Running { pid: run.pid, since: run.since.wall },
            Doing::Ended(exit) => ContainerState::Terminated(*exit),
        },
        ready: !stopping && (container.is_done() || container.ready_since().is_some()),
        started: !stopping && container.is_started(),
        // What a predecessor or an earlier agent counted is known for the pod as a whole; with one
        // container it is that one's.
        restarts: match pod.containers.len() {
            1 => pod.restarts(),
            _ => container.restarts(),
        },
        last_run: container.last_run.clone(),
    }
}

/// Of two pods, the one that serves is told of first.
fn reason(place: &Place) -> Option<Reason> {
    place.lives().find_map(of_life).or_else(|| of_wait(place))
}

fn of_wait(place: &Place) -> Option<Reason> {
    place.waits.as_ref().filter(|_| !mutated!(HideReason)).map(|wait| wait.reason.clone())
}

fn of_life(life: &Life) -> Option<Reason> {
    match life {
        Life::Empty => None,
        Life::Creating(_) => Some(Reason::new("ContainerCreating", "the pod is being made")),
        Life::Running(pod) if pod.silent => Some(Reason::new(
            "SupervisorSilent",
            "the pod's supervisor is alive and does not answer, so that nothing is started or \
             counted in it; see what holds it up, or kill it to have the pod made anew",
        )),
        Life::Running(pod) => pod.why_not_ready().or_else(|| pod.resizing.reason()),
        Life::Stopping(_, stop) => Some(stop.reason()),
        Life::Held(held) => Some(held.reason()),
    }
}

/// A date as RFC 3339 writes it, in UTC and to the second.
pub fn rfc3339(at: WallTime) -> String {
    let seconds = at.unix_millis.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

/// Year, month and day of the Gregorian calendar, so many days after 1970-01-01. Counted in years
/// that begin in March, so that the leap day is a year's last, and eras of 400 years = 146,097
/// days.
fn civil(days: i64) -> (i64, i64, i64) {
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    let since_march_0 = days + 719_468;
    let era = since_march_0.div_euclid(146_097);
    let day_of_era = since_march_0.rem_euclid(146_097);
    let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, five months have 153 days.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year_of_era + era * 400 + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        let date = |seconds: i64| rfc3339(WallTime::from_unix_millis(seconds * 1000));
        assert_eq!(date(0), "1970-01-01T00:00:00Z");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(date(951_868_800), "2000-03-01T00:00:00Z");
        assert_eq!(date(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(date(-1), "1969-12-31T23:59:59Z");
        assert_eq!(date(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
