//! The coordinator as a service, in its sandbox.

use everynode_tests::ground::Ground;
use everynode_tests::{Outcome, ensure};

use crate::play;

/// It is ready when systemd says so, survives a kill with all that it stored, and is nobody in
/// particular.
pub(crate) fn it_is_a_service_too(ground: &Ground) -> Outcome {
    play(ground, |_, machine| {
        machine.sh("systemctl enable --quiet --now everynode-coordinator")?;
        let tool = |line: &str| {
            let data = "/var/lib/everynode-coordinator";
            machine.sh(&format!("everynode --config {data}/admin.conf {line}"))
        };
        // Ready means ready: no second try.
        tool("version")?;
        let token = tool("token create --node-name n9")?;
        machine.sh("systemctl kill --signal KILL everynode-coordinator")?;
        machine.soon("systemd starts it again", || tool("version"))?;
        let kept = tool("token list")?;
        // enj1.ID.SECRET.AUTHORITY
        let id = token.split('.').nth(1).unwrap_or_default();
        ensure!(!id.is_empty() && kept.contains(id), "{token} is not in {kept}");
        let user = machine.sh("stat -c %U /proc/$(pidof everynode-coordinator)")?;
        ensure!(user != "root\n", "it runs as {user}");
        machine.sh("systemctl stop everynode-coordinator")?;
        ensure!(machine.sh("systemctl is-system-running")? == "running\n", "a unit has failed");
        Ok(())
    })
}
