//! What is shipped can't be broken on purpose: no program has the feature by which the cores can.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test asks cargo, and fails by panicking"
)]

use std::process::Command;

/// The cores in what is built from these packages, each with its features.
fn cores(packages: &[&str]) -> Vec<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let tree = ["tree", "--locked", "--offline", "--edges", "normal,build"];
    let form = ["--prefix", "none", "--format", "{p} has: {f}"];
    let output = Command::new(cargo).args(tree).args(form).args(packages).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_core = |line: &&str| {
        line.starts_with("everynode-agent-core ") || line.starts_with("everynode-coordinator-core ")
    };
    told.lines().filter(is_core).map(str::to_owned).collect()
}

fn can_be_broken(core: &str) -> bool {
    core.ends_with("has: mutations")
}

#[test]
fn no_program_knows_a_mutation() {
    let broken = cores(&["--package", "world", "--features", "mutations"]);
    assert!(broken.len() == 2 && broken.iter().all(|core| can_be_broken(core)), "{broken:?}");
    for packages in [
        ["--package", "everynode-cli"].as_slice(),
        &["--package", "everynode-coordinator"],
        &["--package", "everynode-agent"],
        // What tests/run builds, all at once.
        &["--workspace"],
    ] {
        let shipped = cores(packages);
        let sound = !shipped.is_empty() && !shipped.iter().any(|core| can_be_broken(core));
        assert!(sound, "{packages:?}: {shipped:?}");
    }
}
