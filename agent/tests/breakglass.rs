//! People at a machine, with the real agent or without one, and never a coordinator: they hold,
//! release, read logs and ask; and files that are damaged cost nothing that runs.
//!
//! Needs root and a writable cgroup v2; says so and passes where there is none.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod bed;

use std::fs;
use std::process::Command;

use bed::{Machine, eventually, is_alive};
use everynode_agent_core::Ledger;
use everynode_model::Digest;
use serde_json::Value;

const SKIPPED: &str = "skipped: this machine can't run host processes for us";

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn a_pod_is_held_stopped_and_released_across_agents() {
    let Some(machine) = Machine::joined("hold").await else { return println!("{SKIPPED}") };
    let agent = machine.start();
    let first = machine.pid();
    let said = machine.ok("hold sleeper --for 2h --reason looking");
    assert!(said.starts_with("default/sleeper held until "), "{said}");
    assert!(machine.ok("status").contains("default/sleeper: held as it is at the node by "));
    let held = machine.ok("pods");
    assert!(held.contains("Running,Held"), "{held}");
    assert!(machine.ok("why sleeper").contains("HeldOnNode"));

    // Whoever comes next holds it, too.
    agent.end();
    let agent = machine.start();
    machine.answers();
    let pods = machine.ok("pods -o json");
    assert!(pods.contains("HeldOnNode"), "{pods}");
    let pod = &json(&pods)["items"][0];
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["running"]["pid"], first);

    let said = machine.ok("hold sleeper --stop");
    assert!(said.ends_with("default/sleeper stopped\n"), "{said}");
    assert!(!is_alive(first), "answered when it was down");
    agent.end();
    let agent = machine.start();
    machine.answers();
    assert!(machine.ok("pods").contains("HeldOnNode"));

    assert_eq!(machine.ok("release sleeper"), "default/sleeper released\n");
    assert_ne!(machine.pid(), first);
    assert_eq!(machine.ok("release sleeper"), "default/sleeper is not held\n");
    let refused = machine.run("hold typo");
    assert_eq!(refused.status.code(), Some(1));
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert!(complaint.starts_with("error: no pod default/typo"), "{complaint}");
    machine.run("leave");
    agent.end();
}

#[tokio::test]
async fn with_the_agent_dead_its_files_and_the_cgroups_answer() {
    let Some(machine) = Machine::joined("offline").await else { return println!("{SKIPPED}") };
    let agent = machine.start();
    let pid = machine.pid();
    let name = machine.ok("pods -o name");
    machine.ok("hold sleeper");
    agent.end();

    let status = machine.run("status");
    assert_eq!(status.status.code(), Some(0));
    let note = String::from_utf8(status.stderr).unwrap();
    assert_eq!(note, "agent not running: from the ledger and the cgroups\n");
    assert!(String::from_utf8(status.stdout).unwrap().contains("not running"));
    let status = json(&machine.ok("status -o json"));
    assert_eq!((&status["agentRunning"], &status["node"]), (&false.into(), &"alone".into()));
    assert_eq!(status["holds"][0]["pod"], "default/sleeper");
    assert_eq!(machine.pid(), pid);
    assert_eq!(machine.ok("pods -o name"), name);
    assert!(machine.ok("why").contains("HeldOnNode"));
    assert_eq!(machine.ok("logs sleeper"), "up\n");
    assert_eq!(machine.ok(&format!("logs {}", name.trim())), "up\n");

    // Nothing of it is alive; the ledger still knows, and the files are still there.
    kill(pid);
    eventually(|| machine.ok("pods").contains("0/1").then_some(()));
    machine.die();
    assert!(machine.ok("pods").contains("HeldOnNode"));
    assert_eq!(machine.ok("logs sleeper --tail 1"), "up\n");
    let refused = machine.run("logs other");
    assert!(String::from_utf8(refused.stderr).unwrap().contains("no logs of default/other"));
}

#[tokio::test]
async fn earlier_runs_are_told_from_the_present_one() {
    let Some(machine) = Machine::joined("logs").await else { return println!("{SKIPPED}") };
    let agent = machine.start();
    let first = machine.pid();
    eventually(|| (machine.ok("logs sleeper") == "up\n").then_some(()));
    assert_eq!(machine.run("logs sleeper --previous").status.code(), Some(1));
    kill(first);
    let previous = || machine.run("logs sleeper --previous");
    eventually(|| previous().status.success().then_some(()));
    assert_eq!(previous().stdout, b"up\n");
    eventually(|| (machine.ok("logs sleeper") == "up\n").then_some(()));
    assert!(machine.ok("logs sleeper --timestamps --tail 1").starts_with("20"));
    machine.run("leave");
    agent.end();
}

/// What a damaged ledger is called, and whether its order is still known.
enum Expected {
    Recovered,
    Unknown(&'static str),
}

/// Spoils a ledger's copies, given what they hold.
type Spoil = fn(&Machine, [Vec<u8>; 2]);

fn put(machine: &Machine, contents: [Option<&[u8]>; 2]) {
    for (name, content) in ["ledger.a", "ledger.b"].into_iter().zip(contents) {
        let path = machine.path().join(name);
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }
}

/// Another machine's ledger, whole.
async fn foreign() -> Vec<u8> {
    use everynode_agent::ledger::{DiskLedger, LedgerStore as _};
    let directory = tempfile::tempdir().unwrap();
    let id = "6ba7b811-9dad-41d1-80b4-00c04fd430c8".parse().unwrap();
    let ledger = Ledger::joined("6ba7b811-9dad-41d1-80b4-00c04fd430c8".parse().unwrap(), id);
    DiskLedger::new(directory.path()).save(ledger).await.unwrap();
    fs::read(directory.path().join("ledger.a")).unwrap()
}

#[tokio::test]
async fn no_damage_to_the_ledger_stops_what_runs() {
    use Expected::{Recovered, Unknown};
    let Some(machine) = Machine::joined("damage").await else { return println!("{SKIPPED}") };
    let agent = machine.start();
    let pid = machine.pid();
    machine.mirrored();
    agent.end();
    let whole =
        [fs::read(machine.path().join("ledger.a")), fs::read(machine.path().join("ledger.b"))];
    let whole = whole.map(Result::unwrap);
    let other = foreign().await;
    fs::write(machine.path().join("other"), &other).unwrap();
    let cases: [(Spoil, Expected); 8] = [
        (|machine, [a, b]| put(machine, [Some(&a[..a.len() / 2]), Some(&b)]), Recovered),
        (|machine, [a, b]| put(machine, [Some(&a), Some(&vec![0; b.len()])]), Recovered),
        (|machine, [a, _]| put(machine, [Some(&a), None]), Recovered),
        (|machine, _| put(machine, [Some(b""), Some(b"")]), Unknown("LedgerDamaged")),
        (
            |machine, [a, b]| put(machine, [Some(&a[..a.len() - 1]), Some(&vec![0; b.len()])]),
            Unknown("LedgerDamaged"),
        ),
        (|machine, _| put(machine, [None, None]), Unknown("LedgerMissing")),
        (
            |machine, _| {
                let other = fs::read(machine.path().join("other")).unwrap();
                put(machine, [Some(&other), Some(&other)]);
            },
            Unknown("LedgerOfAnother"),
        ),
        (
            |machine, [a, _]| {
                let checksum = Digest::of_parts([b"9 9".as_slice(), b"{}"]);
                let newer = format!("everynode-ledger 9 9 {checksum}\n{{}}");
                put(machine, [Some(&a), Some(newer.as_bytes())]);
            },
            Unknown("LedgerNewer"),
        ),
    ];
    for (spoil, expected) in cases {
        for name in ["ledger.a.damaged", "ledger.b.damaged"] {
            let _ = fs::remove_file(machine.path().join(name));
        }
        put(&machine, [Some(&whole[0]), Some(&whole[1])]);
        spoil(&machine, whole.clone());
        let agent = machine.start();
        let status = machine.answers();
        let trouble = &status["troubles"][0]["reason"];
        assert_eq!(machine.pid(), pid, "{trouble}");
        match expected {
            Unknown(code) => assert_eq!(trouble, code),
            Recovered => {
                // One that is missing is as one that was never written.
                assert!(trouble == "LedgerCopyDamaged" || trouble.is_null(), "{trouble}");
                machine.mirrored();
            }
        }
        assert_eq!(machine.ok("pods").lines().count(), 2);
        agent.end();
    }
    // What the last one found is kept, and comes back when it dies.
    put(&machine, [Some(b"x"), Some(b"y")]);
    let agent = machine.start();
    machine.answers();
    machine.mirrored();
    kill(pid);
    eventually(|| Some(machine.pid()).filter(|next| *next != pid));
    machine.run("leave");
    agent.end();
}
