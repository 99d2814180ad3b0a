//! The real agent with real processes, and no coordinator: what its ledger says, it does.
//!
//! Needs root and a writable cgroup v2; says so and passes where there is none.

// Clippy knows tests by their attribute, not by their directory.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod bed;

use std::process::Command;

use bed::{Machine, eventually, is_alive};

#[tokio::test]
async fn a_joined_machine_needs_nobody() {
    let Some(machine) = Machine::joined("alone").await else {
        println!("skipped: this machine can't run host processes for us");
        return;
    };
    // From the ledger alone.
    let agent = machine.start();
    let first = machine.pid();
    let status = String::from_utf8(machine.run("status").stdout).unwrap();
    assert!(status.contains("nothing listens on 127.0.0.1:9"), "{status}");

    // One agent per directory.
    let second = machine.command().output().unwrap();
    let complaint = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(complaint.contains(&format!("pid {}", agent.id())), "{complaint}");

    // The agent's death is nobody else's.
    agent.end();
    assert!(is_alive(first));
    let agent = machine.start();
    assert_eq!(machine.pid(), first);

    // A death is seen and mended.
    let killed = Command::new("kill").args(["-9", &first.to_string()]).status().unwrap();
    assert!(killed.success());
    let next = eventually(|| Some(machine.pid()).filter(|pid| *pid != first));

    // Leaving with no coordinator: all stops, and it is said what is still to do.
    let left = machine.run("leave");
    let said = String::from_utf8(left.stdout).unwrap();
    assert_eq!(left.status.code(), Some(1), "{said}");
    assert!(said.contains("no coordinator is in reach"), "{said}");
    assert!(!is_alive(next));

    // SIGTERM ends it orderly.
    let id = agent.id().to_string();
    assert!(Command::new("kill").arg(id).status().unwrap().success());
    assert_eq!(agent.wait().code(), Some(0));
    let after = machine.run("leave");
    assert_eq!(after.status.code(), Some(1));
    assert!(String::from_utf8(after.stderr).unwrap().contains("no agent is running"));
}
