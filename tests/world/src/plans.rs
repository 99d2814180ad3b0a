//! What templates want of a pod's containers: often nothing but one or two that run, often all that
//! there is.

use std::time::Duration;

use everynode_agent_core::{
    Handler, Hooks, Lifecycle, Plan, Planned, Probe, Probes, RestartBackoff, Role,
};

use crate::dice::Dice;

/// Of every pod.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// In the order of their names, in which a machine keeps them.
const ROLES: [(&str, Role); 5] = [
    ("a", Role::Init),
    ("b", Role::Sidecar),
    ("c", Role::Init),
    ("main", Role::Main),
    ("side", Role::Main),
];

/// Some plan.
pub(crate) fn plan(dice: &mut Dice) -> Plan {
    let plain = dice.one_in(2);
    let mut containers = Vec::new();
    for (name, role) in ROLES {
        if name == "main" || (dice.one_in(2) && (!plain || role == Role::Main)) {
            let lifecycle = if plain { Lifecycle::default() } else { lifecycle(role, dice) };
            containers.push(Planned { name: name.to_owned(), lifecycle });
        }
    }
    Plan { containers, grace: GRACE, restart: RestartBackoff::default() }
}

fn lifecycle(role: Role, dice: &mut Dice) -> Lifecycle {
    let mut lifecycle = Lifecycle { role, ..Lifecycle::default() };
    if role == Role::Init {
        return lifecycle;
    }
    let mut probe = |most: usize| {
        dice.one_in(3).then(|| Probe {
            handler: Handler::Tcp { host: None, port: 1 },
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold: u32::try_from(1 + dice.below(most)).unwrap_or(1),
            grace: None,
        })
    };
    lifecycle.probes = Probes { startup: probe(3), liveness: probe(3), readiness: probe(2) };
    let mut hook = || dice.one_in(3).then(|| Handler::Exec(vec!["pretended".to_owned()]));
    lifecycle.hooks = Hooks { post_start: hook(), pre_stop: hook() };
    lifecycle
}
