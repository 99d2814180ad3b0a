//! Configuration: ConfigMaps and Secrets reach real programs, roll out when they change, and come back.

use std::fs;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use everynode_tests::ground::Ground;
use everynode_tests::manifests::WITNESS_PROGRAM;
use everynode_tests::{Fleet, Outcome, ensure, wait};

use crate::updates::{everywhere, marked};

const NODES: [&str; 2] = ["n1", "n2"];
const SET: &str = "daemonset/lock-witness";

/// What nobody may see but the program that it is for.
const TOKEN: &str = "correct-horse-battery-staple";

/// A value's way from a file to programs' environments, a change of it, back, and forward again; an
/// object that is missing; a namespace from its creation to its end.
pub(crate) fn it_rolls_out_and_back(ground: &Ground) -> Outcome {
    Fleet::play(ground, 2, |fleet| {
        first(fleet)?;
        changed(fleet)?;
        back(fleet)?;
        a_secret_stays_one(fleet)?;
        missing(fleet)?;
        a_namespace_of_its_own(fleet)
    })
}

/// The witness, whose mark and token are from objects with these names.
fn reader(fleet: &Fleet<'_>, map: &str) -> String {
    marked(fleet, "$(MARK)")
        + &format!(
            "        - name: MARK
          valueFrom: {{configMapKeyRef: {{name: {map}, key: mark}}}}
        - name: TOKEN
          valueFrom: {{secretKeyRef: {{name: access, key: token}}}}
"
        )
}

fn map(name: &str, mark: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{mark: {mark}, note: x}}\n"
    )
}

fn secret() -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: access}}\nstringData: {{token: {TOKEN}}}\n"
    )
}

fn first(fleet: &Fleet<'_>) -> Outcome {
    let all = [reader(fleet, "settings"), map("settings", "red"), secret()].join("---\n");
    let file = fleet.write("all.yaml", &all)?;
    let said = fleet.tool(&["apply", "-f", &file, "--dry-run=server"])?.ok()?;
    ensure!(said.matches("created").count() == 3, "{said}");
    let said = fleet.tool(&["apply", "-f", &file])?.ok()?;
    ensure!(
        said.contains("configmap/settings created") && said.contains("secret/access created"),
        "{said}"
    );
    everywhere(fleet, &NODES, "red")?;
    for machine in fleet.machines() {
        let pid = machine.only(WITNESS_PROGRAM)?.pid;
        let environ = fs::read(format!("/proc/{pid}/environ"))?;
        let environ = String::from_utf8_lossy(&environ);
        ensure!(environ.contains(&format!("TOKEN={TOKEN}\0")), "{} has no token", machine.name());
    }
    let said = fleet.tool(&["apply", "-f", &file])?.ok()?;
    ensure!(said.matches("unchanged").count() == 3, "{said}");
    let listed = fleet.tool(&["get", "cm,secrets", "--no-headers"])?.ok()?;
    ensure!(listed.contains("settings   2") && listed.contains("Opaque"), "{listed}");
    done(fleet)
}

fn changed(fleet: &Fleet<'_>) -> Outcome {
    let file = fleet.write("map.yaml", &map("settings", "blue"))?;
    fleet.tool(&["diff", "-f", &file])?.refused(&[])?;
    let said = fleet.tool(&["apply", "-f", &file])?.ok()?;
    ensure!(said == "configmap/settings configured (restarts 2 nodes)\n", "{said}");
    everywhere(fleet, &NODES, "blue")?;
    done(fleet)?;
    // Nobody reads this key.
    let before = pids(fleet)?;
    let other = map("settings", "blue").replace("note: x", "note: other");
    let file = fleet.write("note.yaml", &other)?;
    let said = fleet.tool(&["apply", "-f", &file])?.ok()?;
    ensure!(said == "configmap/settings configured\n", "{said}");
    done(fleet)?;
    ensure!(pids(fleet)? == before, "a key that nobody reads restarted something");
    Ok(())
}

fn back(fleet: &Fleet<'_>) -> Outcome {
    let said = fleet.tool(&["rollout", "undo", SET])?;
    ensure!(said.err.contains("drifted from ConfigMap settings"), "{said:?}");
    said.ok()?;
    everywhere(fleet, &NODES, "red")?;
    done(fleet)?;
    let described = fleet.tool(&["describe", SET])?.ok()?;
    ensure!(
        described.contains("Pinned") && described.contains("drifted from ConfigMap settings"),
        "{described}"
    );
    let before = pids(fleet)?;
    fleet.apply(&reader(fleet, "settings"))?;
    done(fleet)?;
    ensure!(pids(fleet)? == before, "applying the same again ended what somebody went back to");
    fleet.apply(&map("settings", "green"))?;
    everywhere(fleet, &NODES, "green")?;
    done(fleet)?;
    let described = fleet.tool(&["describe", SET])?.ok()?;
    ensure!(!described.contains("Pinned"), "{described}");
    fleet.tool(&["delete", "configmap", "settings"])?.ok()?;
    let before = pids(fleet)?;
    fleet.machine("n1")?.only(WITNESS_PROGRAM)?.kill()?;
    wait::soon("the witness that was killed is back, with its content", || {
        ensure!(pids(fleet)? != before, "it is the same");
        everywhere(fleet, &["n1"], "green")
    })?;
    fleet.apply(&map("settings", "green"))?;
    done(fleet)
}

fn a_secret_stays_one(fleet: &Fleet<'_>) -> Outcome {
    let encoded = BASE64_STANDARD.encode(TOKEN);
    let seen = |text: &str| text.contains(TOKEN) || text.contains(&encoded);
    for words in [
        &["get", "secret", "access", "-o", "yaml"][..],
        &["get", "secrets", "-A", "-o", "json"],
        &["describe", "secret", "access"],
        &["get", "events", "-A", "-o", "yaml"],
        &["get", "pods", "-o", "yaml"],
        &["get", "controllerrevisions", "-o", "yaml"],
        &["why"],
    ] {
        let said = fleet.tool(words)?.ok()?;
        ensure!(!seen(&said), "{words:?} shows the token: {said}");
    }
    let said = fleet.tool(&["get", "secret", "access", "-o", "yaml", "--show-secrets"])?.ok()?;
    ensure!(said.contains(&encoded), "{said}");
    ensure!(!seen(&fleet.coordinator().log()), "the coordinator's log has the token");
    for machine in fleet.machines() {
        ensure!(!seen(&machine.log()), "the log of {} has the token", machine.name());
    }
    Ok(())
}

fn missing(fleet: &Fleet<'_>) -> Outcome {
    let before = pids(fleet)?;
    fleet.apply(&reader(fleet, "later"))?;
    wait::soon("the rollout waits for its ConfigMap", || {
        let said = fleet.tool(&["describe", SET])?.ok()?;
        ensure!(
            said.contains("ConfigMissing") && said.contains("configmap \"later\" not found"),
            "{said}"
        );
        Ok(())
    })?;
    ensure!(pids(fleet)? == before, "something was stopped for what could not start");
    fleet.apply(&map("later", "white"))?;
    everywhere(fleet, &NODES, "white")?;
    done(fleet)
}

fn a_namespace_of_its_own(fleet: &Fleet<'_>) -> Outcome {
    fleet.tool(&["delete", SET, "--cascade=foreground"])?.ok()?;
    let file = fleet.write("there.yaml", &marked(fleet, "there"))?;
    let refused = fleet.tool(&["apply", "-n", "team", "-f", &file])?;
    refused.refused(&["namespaces \"team\" not found"])?;
    let said = fleet.tool(&["apply", "-n", "team", "-f", &file, "--create-namespace"])?.ok()?;
    ensure!(said.contains("namespace/team created"), "{said}");
    everywhere(fleet, &NODES, "there")?;
    fleet.tool(&["delete", "namespace", "default"])?.refused(&["may not be deleted"])?;
    let said = fleet.tool(&["delete", "ns", "team"])?.ok()?;
    ensure!(said == "namespace \"team\" deleted (loses 2 nodes)\n", "{said}");
    fleet.tool(&["get", "ns", "team"])?.refused(&["namespaces \"team\" not found"])?;
    wait::soon("its pods are gone", || {
        fleet.machines().try_for_each(|machine| machine.none(WITNESS_PROGRAM))
    })
}

fn done(fleet: &Fleet<'_>) -> Outcome {
    fleet.rolled_out("lock-witness", "60s")
}

fn pids(fleet: &Fleet<'_>) -> Outcome<Vec<u32>> {
    fleet.machines().map(|machine| Ok(machine.only(WITNESS_PROGRAM)?.pid)).collect()
}
