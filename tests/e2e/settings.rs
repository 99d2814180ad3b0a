//! Programs that are told by files instead of flags, and of whose files something is wrong.

use everynode_tests::daemon::Daemon;
use everynode_tests::ground::Ground;
use everynode_tests::said::Said;
use everynode_tests::{Fleet, Outcome, ensure};

use everynode_tests::coordinator::PORT;

/// A machine joins by what its file says and a credential of systemd's holds; a key that is none is
/// refused with its line, by both programs.
pub(crate) fn a_file_is_as_good_as_flags(ground: &Ground) -> Outcome {
    Fleet::play(ground, 0, |fleet| {
        let name = fleet.add_machine(1)?;
        let joining = fleet.joining(&[])?;
        let text = format!(
            "# What a machine is told.
coordinator: ['{}']
node-name: {name}
label:
  role: edge
  rack: '07'
taint: [dedicated=edge:NoSchedule]
",
            joining.coordinator
        );
        let file = fleet.write("agent.yaml", &text)?;
        let token = fleet.write("join-token", &joining.token)?;

        let machine = fleet.machine(&name)?;
        let mut command = machine.agent_command(&machine.data_dir(), None);
        command.args(["--config", &file]).env("CREDENTIALS_DIRECTORY", fleet.path(""));
        let mut check = machine.agent_command(&machine.data_dir(), None);
        check.args(["--config", &file, "check", "--join-token-file", &token]);
        let said = Said::by(check)?.ok()?;
        for line in [format!("pass  configuration: {file}\n"), "pass  coordinator: ".into()] {
            ensure!(said.contains(&line), "{line:?} is not in\n{said}");
        }
        let agent = Daemon::start(command, &machine.file("agent.log"))?;
        fleet.ready(&name)?;
        let node = fleet.tool(&["get", "node", &name, "-o", "yaml"])?.ok()?;
        for part in ["role: edge", "rack: \"07\"", "effect: NoSchedule"] {
            ensure!(node.contains(part), "{part} is not in\n{node}");
        }
        ensure!(agent.stop()?.success(), "the agent did not stop well");

        wrong_keys_are_refused(fleet, &name)
    })
}

fn wrong_keys_are_refused(fleet: &Fleet<'_>, name: &str) -> Outcome {
    let wrong = fleet.write("wrong.yaml", "# A slip.\nnode-nam: x\n")?;
    let words = [&format!("{wrong}:2"), "unknown key \"node-nam\"", "node-name"].map(str::to_owned);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let machine = fleet.machine(name)?;
    let mut command = machine.agent_command(&machine.data_dir(), None);
    command.args(["--config", &wrong]);
    Said::by(command)?.refused(&words)?;

    let wrong = fleet.write("wrong.yaml", "heartbeat: 10s\nlease: soon\n")?;
    let coordinator = fleet.coordinator();
    let mut command = coordinator.coordinator_command(&fleet.path("second"), PORT + 1);
    command.args(["--config", &wrong]);
    Said::by(command)?.refused(&[&format!("{wrong}:2: lease"), "soon"]).map(drop)
}
