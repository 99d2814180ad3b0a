//! systemd's own word on the units.

use std::fs;
use std::path::Path;
use std::process::Command;

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/systemd");

/// No unit has a directive, value or reference that systemd warns of.
#[test]
fn systemd_has_nothing_to_say_of_them() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: no systemd-analyze here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let units: Vec<_> = fs::read_dir(UNITS).unwrap().map(|unit| unit.unwrap().path()).collect();
    assert!(units.len() >= 3, "{units:?}");
    let checked: Vec<_> = units.iter().map(|unit| installed(unit, dir.path())).collect();
    let said = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        // Its own units are found there, and those of nobody else.
        .env("SYSTEMD_UNIT_PATH", format!("{}:/lib/systemd/system", dir.path().display()))
        .args(checked)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && told.is_empty(), "{}: {told}", said.status);
}

/// Pods are left alone when the agent's unit stops, and its watchdog is the main process' alone.
#[test]
fn the_agents_unit_ends_nothing_but_the_agent() {
    let unit = fs::read_to_string(Path::new(UNITS).join("everynode-agent.service")).unwrap();
    for line in ["Type=notify", "NotifyAccess=main", "KillMode=process", "Restart=on-failure"] {
        assert!(unit.lines().any(|it| it == line), "{line} is not in\n{unit}");
    }
}

/// A copy of the unit whose program is here, which systemd looks for.
fn installed(unit: &Path, dir: &Path) -> std::path::PathBuf {
    let content =
        fs::read_to_string(unit).unwrap().replace("/usr/bin/everynode", "/bin/true everynode");
    let copy = dir.join(unit.file_name().unwrap());
    fs::write(&copy, content).unwrap();
    copy
}
