//! What there is to begin with: the machine as it is, and the ledger as it was.

use std::time::Duration;

use everynode_agent_core::{Found, Ledger};
use everynode_model::Reason;
use everynode_runtime::Runtime;

use crate::identity::Identity;
use crate::ledger::Loaded;

/// Between attempts at looking at the machine.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Looks at the machine until it can be seen: nothing may be decided, and nobody told, before.
pub(super) async fn look(runtime: &dyn Runtime) -> Vec<Found> {
    loop {
        match runtime.list().await {
            Ok(found) => return found,
            Err(error) => tracing::error!("cannot look at what runs here: {error}"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The ledger to begin with, and what is wrong with it. Where there is none that can be used, what
/// runs here is all that is known: it is kept as it is until an order says what ought to run, and
/// the first one counts, whatever its number.
pub(super) fn ledger_of(
    loaded: Loaded,
    identity: &Identity,
    found: &[Found],
) -> (Ledger, Option<Reason>) {
    let formers = identity.formers.clone();
    let new =
        Ledger { formers: formers.clone(), ..Ledger::joined(identity.cluster, identity.node) };
    let present = |ledger: Ledger| match ledger.marks() == identity.marks() {
        true => Ledger { formers: formers.clone(), ..ledger },
        // Of who this machine was before it was taken to another coordinator.
        false => {
            tracing::info!(node = %ledger.node, "going on with what the former coordinator ordered");
            Ledger { formers: formers.clone(), ..ledger.rejoined(identity.marks()) }
        }
    };
    let ours =
        |found: &Found| found.populated && found.marks.is_some_and(|marks| new.is_ours(marks));
    match loaded {
        Loaded::Ledger(ledger) => (present(*ledger), None),
        Loaded::Recovered(ledger, trouble) => (present(*ledger), Some(trouble)),
        Loaded::Lost(trouble) => (new, Some(trouble)),
        Loaded::Nothing if found.iter().any(ours) => {
            let line = "pods of this node run here, and there is no ledger of them";
            (new, Some(Reason::new("LedgerMissing", line)))
        }
        Loaded::Nothing => (new, None),
    }
}
