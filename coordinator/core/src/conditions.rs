//! A DaemonSet's conditions: `Progressing`, `Available`, `Degraded`, and `Pinned` where its revision
//! has another content than what it reads has now. Kubernetes never had any for
//! DaemonSets; the reasons are a Deployment's where it has one.
//!
//! | `Progressing` | reason |
//! | --- | --- |
//! | True | `ContentDue`: another revision is about to be made; `RollingOut`; `CanaryWaiting`: for canaries, their time or a person; `NodesAway`: for somebody to try it on; `RollingBack` |
//! | False | `Complete`; `RolledBack`, `ProgressDeadlineExceeded`: the newest revision has failed; `RolloutPaused`; `Partitioned`: as far as asked; `OnDelete`; `HeldOnNode` |

use everynode_model::{HELD_ON_NODE, ObjectKey, Reason, Strategy};

use crate::Fleet;
use crate::record::GrantHead;
use crate::records::SetRecords;
use crate::stage::Stage;
use crate::status::Tally;
use crate::why::canary_message;

/// Type, whether it holds, and why.
pub(crate) type Condition = (String, bool, Reason);

/// See the module.
pub(crate) fn conditions(
    records: &SetRecords,
    head: &GrantHead,
    tally: &Tally,
    due: &[ObjectKey],
) -> Vec<Condition> {
    let progressing = due_after(due).unwrap_or_else(|| progressing(records, head, tally));
    let mut all = vec![
        ("Progressing", progressing),
        ("Available", available(records, tally)),
        ("Degraded", degraded(tally)),
    ];
    all.extend(pinned(records).map(|reason| ("Pinned", (true, reason))));
    all.into_iter().map(|(name, (holds, reason))| (name.to_owned(), holds, reason)).collect()
}

/// That its revision is to follow an object that it reads, if so: whatever is said of the present one is
/// about to be old.
fn due_after(due: &[ObjectKey]) -> Option<(bool, Reason)> {
    let changed: Vec<String> = due.iter().map(|key| format!("{} {}", key.kind, key.name)).collect();
    let message =
        format!("{} was changed, and the revision of that is about to be made", changed.join(", "));
    (!due.is_empty()).then(|| (true, Reason::new("ContentDue", message)))
}

fn progressing(records: &SetRecords, head: &GrantHead, tally: &Tally) -> (bool, Reason) {
    let status = tally.status;
    let moved = format!("{} of {} pods are of the newest revision", status.updated, status.desired);
    let told = |code, why: String| Reason::new(code, format!("{moved}; {why}"));
    let strategy = records.record.as_ref().map(|record| record.set.strategy);
    let stage = Stage::of(records, tally);
    if let (Some(why), true) = (head.failure(), head.is_under_way()) {
        let left = tally.to_move();
        return match stage {
            Some(Stage::Back { .. }) if left > 0 => {
                (true, told("RollingBack", format!("{why}; {left} nodes are still to go back")))
            }
            Some(Stage::Back { .. }) => (false, told("RolledBack", why.to_owned())),
            _ => (false, told("ProgressDeadlineExceeded", why.to_owned())),
        };
    }
    let held = format!("{} of the others are held at their nodes", tally.held);
    match (stage, tally.to_move()) {
        (Some(Stage::Canary { limit, .. }), _) => {
            (true, told("CanaryWaiting", canary_message(records, tally, limit)))
        }
        (_, 0) if tally.held > 0 => (false, told(HELD_ON_NODE, held)),
        (Some(Stage::Open { .. }), 0) if head.is_under_way() && tally.is_untried() => {
            (true, told("NodesAway", "no node on which it could be tried can be reached".into()))
        }
        (_, 0) => (false, Reason::new("Complete", moved)),
        (Some(Stage::Stopped { reason, why }), _) => (false, told(reason, why)),
        _ if strategy == Some(Strategy::OnDelete) => (false, Reason::new("OnDelete", moved)),
        (Some(Stage::Open { limit }), _) if tally.moved >= limit && tally.moving == 0 => {
            let kept = (status.desired as usize).saturating_sub(limit);
            (false, told("Partitioned", format!("partition keeps {kept} where they are")))
        }
        _ => (true, Reason::new("RollingOut", moved)),
    }
}

fn available(records: &SetRecords, tally: &Tally) -> (bool, Reason) {
    let (available, desired) = (tally.status.available, tally.status.desired);
    let missing = desired.saturating_sub(available) as usize;
    let have = format!("{available} of {desired} pods are available");
    match missing <= Fleet::may_lack(records, tally) {
        true => (true, Reason::new("MinimumAvailable", have)),
        false => (false, Reason::new("TooFewAvailable", have)),
    }
}

/// That the revision has another content than the objects it reads have now; only where that is so.
fn pinned(records: &SetRecords) -> Option<Reason> {
    let drifted = &records.record.as_ref()?.drifted;
    let from: Vec<String> =
        drifted.iter().map(|key| format!("drifted from {} {}", key.kind, key.name)).collect();
    let until = "its content is that of the revision gone back to, until the template or what it \
                 reads is next changed";
    (!from.is_empty()).then(|| Reason::new("Drifted", format!("{}: {until}", from.join(", "))))
}

fn degraded(tally: &Tally) -> (bool, Reason) {
    match tally.lacking() {
        0 if tally.held > 0 => {
            let held = format!("{} of the others are held at their nodes", tally.held);
            (false, Reason::new(HELD_ON_NODE, held))
        }
        0 => (false, Reason::new("AsExpected", "no reachable node lacks its pod")),
        bad => (true, Reason::new("PodsUnavailable", format!("{bad} nodes lack an available pod"))),
    }
}
