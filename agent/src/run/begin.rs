//! What there is to begin with: the machine as it is, and the ledger as it was.

use std::time::Duration;

use everynode_agent_core::{Found, Ledger};
use everynode_model::{Assignment, Intent, Item};
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

/// The ledger to begin with. Where there was one that can't be read, what runs is kept as it is,
/// until an order says what ought to run. One of who this machine was before it was taken to another
/// coordinator is turned into that one's.
pub(super) fn ledger_of(
    loaded: Loaded,
    identity: &Identity,
    found: &[Found],
    runtime: &str,
) -> Ledger {
    let formers = identity.formers.clone();
    let new =
        Ledger { formers: formers.clone(), ..Ledger::joined(identity.cluster, identity.node) };
    match loaded {
        Loaded::Nothing => new,
        Loaded::Ledger(ledger) if ledger.marks() == identity.marks() => {
            Ledger { formers, ..*ledger }
        }
        Loaded::Ledger(ledger) if formers.contains(&ledger.marks()) => {
            tracing::info!(node = %ledger.node, "going on with what the former coordinator ordered");
            Ledger { formers, ..ledger.rejoined(identity.marks()) }
        }
        Loaded::Ledger(ledger) => {
            tracing::warn!(node = %ledger.node, "the ledger is of an earlier identity: ignored");
            new
        }
        Loaded::Corrupt(why) => {
            tracing::error!(
                "both copies of the ledger are damaged ({why}): what runs here is left running, \
                 until the coordinator says what ought to"
            );
            kept_as_found(new, found, runtime)
        }
    }
}

fn kept_as_found(mut ledger: Ledger, found: &[Found], runtime: &str) -> Ledger {
    let ours =
        |found: &&Found| found.populated && found.marks.is_some_and(|marks| ledger.is_ours(marks));
    let keep = |found: &Found| {
        found.supervised.as_ref().map(|supervised| Item {
            key: found.key.clone(),
            set: supervised.set,
            revision: supervised.revision,
            replace: supervised.replace,
            intent: Intent::Keep,
            after: Vec::new(),
        })
    };
    ledger.assignment = Assignment::new(found.iter().filter(ours).filter_map(keep));
    let held = |item: &Item| (item.key.clone(), runtime.to_owned());
    ledger.places = ledger.assignment.items().map(held).collect();
    ledger
}
