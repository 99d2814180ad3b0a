//! The first thing a person tries.

use std::fs;
use std::process::Command;

use everynode_tests::ground::Ground;
use everynode_tests::said::Said;
use everynode_tests::{Outcome, cgroups, ensure, proc};

/// `everynode demo --once` plays its scenes, ends with 0, and leaves nothing.
pub(crate) fn it_shows_and_leaves_nothing(ground: &Ground) -> Outcome {
    let temporary = Ground::dir(&ground.name())?;
    let shown = play(ground, &temporary);
    let left: Vec<_> = fs::read_dir(&temporary)?.flatten().map(|entry| entry.path()).collect();
    fs::remove_dir_all(&temporary)?;
    shown?;
    ensure!(left.is_empty(), "files are left: {left:?}");
    Ok(())
}

fn play(ground: &Ground, temporary: &std::path::Path) -> Outcome {
    let groups = |prefix: &str| -> Outcome<Vec<_>> {
        let all = cgroups::tree(&cgroups::mount()?);
        Ok(all.into_iter().filter(|path| path.to_string_lossy().contains(prefix)).collect())
    };
    let before = groups("everynode-demo")?;
    let mut command = Command::new(ground.program("everynode"));
    command.args(["demo", "--once"]).env("TMPDIR", temporary);
    Said::by(command)?.ok()?;
    let after = groups("everynode-demo")?;
    ensure!(after == before, "cgroups are left: {after:?}");
    let marks = temporary.display().to_string();
    let left: Vec<_> = proc::all()
        .into_iter()
        .filter(|process| process.command.iter().any(|word| word.contains(&marks)))
        .collect();
    ensure!(left.is_empty(), "processes are left: {left:?}");
    Ok(())
}
