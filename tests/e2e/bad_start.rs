//! Programs that can't start, or can't join: one clear line, exit code 1, nothing half done.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use everynode_tests::coordinator::PORT;
use everynode_tests::ground::Ground;
use everynode_tests::said::Said;
use everynode_tests::{Fleet, Outcome, ensure, wait};

/// The user and group that own nothing.
const NOBODY: &str = "65534";

/// Wrong, expired, used up, revoked, another node's: refused, and no node is there afterwards.
pub(crate) fn tokens(ground: &Ground) -> Outcome {
    Fleet::play(ground, 0, |fleet| {
        let name = fleet.add_machine(1)?;
        let short = fleet.joining(&["--ttl", "1s"])?;
        let made = Instant::now();

        let good = fleet.joining(&[])?;
        let mut wrong = good.clone();
        wrong.token = other_secret(&good.token);
        refused(fleet, &name, &wrong, "TokenInvalid")?;
        let id = good.token.split('.').nth(1).unwrap_or_default();
        fleet.tool(&["token", "revoke", id])?.ok()?;
        refused(fleet, &name, &good, "TokenInvalid")?;
        let other = fleet.joining(&["--node-name", "another"])?;
        refused(fleet, &name, &other, "TokenForOtherNode")?;
        wait::soon("the token's second is over", || {
            ensure!(made.elapsed() > Duration::from_millis(1100), "{:?}", made.elapsed());
            Ok(())
        })?;
        refused(fleet, &name, &short, "TokenExpired")?;

        let mut nonsense = good;
        nonsense.token = "nonsense".into();
        let machine = fleet.machine(&name)?;
        Said::by(machine.agent_command(&machine.data_dir(), Some(&nonsense)))?
            .refused(&["--join-token"])?;
        ensure!(fleet.states(&name)?.is_empty(), "{name} is a node");

        // After all these it joins with a good one, in the same directory.
        let joining = fleet.joining(&["--uses", "1"])?;
        fleet.machine_mut(&name)?.start_agent(Some(&joining))?;
        fleet.ready(&name)?;
        let second = fleet.add_machine(3)?;
        refused(fleet, &second, &joining, "TokenUsedUp")
    })
}

/// Port taken, coordinator not there, directory in use, directory not writable.
pub(crate) fn places(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        let coordinator = fleet.coordinator();
        let second = fleet.path("second");
        let said = one_line(
            &Said::by(coordinator.coordinator_command(&second, PORT))?,
            &["7443", "in use"],
        )?;
        ensure!(said.contains("[::]:7443"), "{said}");
        ensure!(!second.exists(), "something was made before the address was found to be taken");
        one_line(
            &Said::by(coordinator.coordinator_command(&coordinator.data_dir(), PORT + 1))?,
            &["in use"],
        )?;

        let file = fleet.write("file", "")?;
        let below = Path::new(&file).join("data");
        one_line(&Said::by(coordinator.coordinator_command(&below, PORT + 1))?, &[&file])?;
        let second = fleet.add_machine(3)?;
        let machine = fleet.machine(&second)?;
        let joining = fleet.joining(&[])?;
        one_line(&Said::by(machine.agent_command(&below, Some(&joining)))?, &[&file])?;
        let nowhere = fleet.path("nowhere");
        one_line(&Said::by(machine.agent_command(&nowhere, None))?, &["has not joined"])?;
        not_root(fleet, ground)?;

        fleet.coordinator_mut().kill()?;
        let get = fleet.tool(&["get", "nodes"])?;
        one_line(&get, &["Unable to connect", "7443"])?;
        let nothing = fleet.path("no.conf").display().to_string();
        let get = fleet.coordinator().tool(&["get", "nodes", "--config", &nothing])?;
        ensure!(get.code == Some(1), "{get}");
        fleet.coordinator_mut().start()?;
        fleet.ready("n1")
    })
}

/// An ordinary user and a directory that is root's.
fn not_root(fleet: &Fleet<'_>, ground: &Ground) -> Outcome {
    let data = fleet.path("roots");
    fs::create_dir(&data)?;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755))?;
    for program in ["everynode-coordinator", "everynode-agent"] {
        // Where it was built, others may not be let in.
        let copy = fleet.path(program);
        fs::copy(ground.program(program), &copy)?;
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(copy);
        command.arg("--data-dir").arg(&data);
        one_line(&Said::by(command)?, &[&data.display().to_string(), "denied"])?;
    }
    ensure!(fs::read_dir(&data)?.next().is_none(), "something was left in {}", data.display());
    Ok(())
}

fn refused(
    fleet: &Fleet<'_>,
    name: &str,
    joining: &everynode_tests::machine::Joining,
    reason: &str,
) -> Outcome {
    let machine = fleet.machine(name)?;
    let said = Said::by(machine.agent_command(&machine.data_dir(), Some(joining)))?;
    one_line(&said, &["cannot join", reason])?;
    ensure!(fleet.states(name)?.is_empty(), "{name} is a node");
    machine.empty()
}

/// Exit code 1 and one line of error, with these words.
fn one_line(said: &Said, words: &[&str]) -> Outcome<String> {
    let line = said.clone().refused(words)?;
    let errors = line.lines().filter(|line| !line.contains("INFO") && !line.is_empty()).count();
    ensure!(errors == 1, "one line was expected of {said}");
    Ok(line)
}

/// The token with another secret of the same form: its first digit is changed.
fn other_secret(token: &str) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let change = |secret: &str| match secret.split_at(1) {
        ("0", rest) => format!("1{rest}"),
        (_, rest) => format!("0{rest}"),
    };
    let changed = |(number, part): (usize, &&str)| {
        if number == 2 { change(part) } else { (*part).to_owned() }
    };
    parts.iter().enumerate().map(changed).collect::<Vec<_>>().join(".")
}
