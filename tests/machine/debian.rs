//! The machine: Debian on the hardware of [`crate::qemu`], with Everynode installed on it as a
//! package would, and the agent as its service.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{self, EXPORTER_PROGRAM, WITNESS_PROGRAM};
use everynode_tests::proc::Process;
use everynode_tests::said::Said;
use everynode_tests::seen::Seen;
use everynode_tests::{Context as _, Fleet, Outcome, ensure, failure, wait};

use crate::guest::Guest;
use crate::qemu::{self, Qemu};

/// Its name, by which it joins.
pub(crate) const NAME: &str = "n1";

/// The agent's unit.
pub(crate) const AGENT: &str = "everynode-agent.service";

/// The programs that are installed on it.
const PROGRAMS: &[&str] = &[
    "everynode-agent",
    "everynode-coordinator",
    "everynode",
    "everynode-witness",
    "everynode-eyes",
];

/// The process runtime's tests, and the supervisor that they start.
pub(crate) const RUNTIME_TESTS: &str = "everynode-runtime-tests";
pub(crate) const SHIM: &str = "everynode-shim-test";

/// Where the executable of those tests is, whose name cargo alone knows.
const RUNTIME_TESTS_PATH: &str = "EVERYNODE_RUNTIME_TESTS";

/// The units, beside the tests.
const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/systemd");

/// Where the packages are that `tests/machine/run` made of the programs: two versions of the agent's.
const PACKAGES_PATH: &str = "EVERYNODE_MACHINE_PACKAGES";

/// And there.
pub(crate) const PACKAGES: &str = "/root/packages";

/// Where the lock witness writes there.
const WITNESS: &str = "/var/lib/witness";

/// For what a healthy machine does within a second or two, emulated on a busy host.
const SOON: Duration = Duration::from_secs(120);

/// A whole machine. Dropped, it is switched off.
pub(crate) struct Debian {
    dir: PathBuf,
    power: Option<(Qemu, Guest)>,
}

/// What runs on it, exactly once each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Both {
    pub(crate) boot: String,
    pub(crate) exporter: Process,
    pub(crate) witness: Process,
}

impl Debian {
    /// A machine that is switched off, with a disk of its own.
    pub(crate) fn new(ground: &Ground, fleet: &Fleet<'_>) -> Outcome<Self> {
        let dir = fleet.path("machine");
        fs::create_dir(&dir)?;
        qemu::make_disk(&dir)?;
        make_programs(ground, &dir)?;
        Ok(Self { dir, power: None })
    }

    /// Switches it on and waits until it answers.
    pub(crate) fn power_on(&mut self, fleet: &Fleet<'_>) -> Outcome {
        ensure!(self.power.is_none(), "the machine is on already");
        let qemu = Qemu::power_on(fleet, &self.dir)?;
        let guest = Guest::connect(&qemu::guest_socket(&self.dir))?;
        self.power = Some((qemu, guest));
        Ok(())
    }

    /// Pulls the plug.
    pub(crate) fn lose_power(&mut self) -> Outcome {
        self.hardware()?.0.lose_power()
    }

    /// Presses the power button and waits until it has switched itself off.
    pub(crate) fn press_power_button(&mut self) -> Outcome {
        let status = self.hardware()?.0.press_power_button()?;
        ensure!(status.success(), "the machine ended with {status}");
        Ok(())
    }

    /// Has somebody at the machine restart it, and waits until it goes down.
    pub(crate) fn reboot(&mut self) -> Outcome {
        self.sh("systemctl reboot --no-block")?;
        let (mut qemu, _) = self.hardware()?;
        let status = qemu.off()?;
        ensure!(status.success(), "the machine ended with {status}");
        Ok(())
    }

    /// Pulls its network cable, or plugs it in again.
    pub(crate) fn plug(&self, plugged: bool) -> Outcome {
        self.on()?.0.plug(plugged)
    }

    /// Brings what looks at it and what is to run on it, and nothing of Everynode: its packages, as
    /// files, if there are any.
    pub(crate) fn bring_tools(&self) -> Outcome {
        self.take_from_disk(&format!(
            "cp /mnt/bin/everynode-witness /mnt/bin/everynode-eyes /usr/bin/
            cp -r /mnt/packages {PACKAGES}"
        ))
    }

    /// Installs the programs and units, as a package would. Nothing is started.
    pub(crate) fn install(&self) -> Outcome {
        self.take_from_disk(
            "cp /mnt/bin/* /usr/bin/
            cp /mnt/units/* /etc/systemd/system/
            systemctl daemon-reload",
        )
    }

    /// Once it is up: takes from the disk that brings things, at `/mnt`, what `script` says.
    fn take_from_disk(&self, script: &str) -> Outcome {
        self.sh(&format!(
            "set -e
            systemctl is-system-running --wait >&2
            mount -o ro /dev/vdb /mnt
            {script}
            umount /mnt
            mkdir {WITNESS}"
        ))
        .map(drop)
    }

    /// Gives the agent a fresh token, enables and starts it; done when it has joined. All of that is
    /// on the disk then, as on a machine that has been up for a while; what comes after is there
    /// only if the agent sees to it.
    pub(crate) fn join(&self, fleet: &Fleet<'_>) -> Outcome {
        let joining = fleet.joining(&[])?;
        self.write("/etc/everynode-token", &joining.token)?;
        let lines = format!(
            "EVERYNODE_AGENT_COORDINATOR={}\nEVERYNODE_AGENT_JOIN_TOKEN_FILE=/etc/everynode-token\n",
            joining.coordinator
        );
        self.write("/etc/default/everynode-agent", &lines)?;
        self.sh(&format!("systemctl enable --quiet --now {AGENT} && sync"))?;
        fleet.ready(NAME)
    }

    /// Joins, and runs the exporter and the lock witness.
    pub(crate) fn join_and_run(&self, fleet: &Fleet<'_>) -> Outcome<Both> {
        self.join(fleet)?;
        self.run_both(fleet)
    }

    /// Runs the exporter and the lock witness.
    pub(crate) fn run_both(&self, fleet: &Fleet<'_>) -> Outcome<Both> {
        fleet.apply(&manifests::exporter(""))?;
        let witness = format!("/usr/bin/{WITNESS_PROGRAM}");
        fleet.apply(&manifests::witness(witness.as_ref(), WITNESS.as_ref(), &[]))?;
        self.runs_both()
    }

    /// Runs a script on it to its end.
    pub(crate) fn run(&self, script: &str) -> Outcome<Said> {
        self.on()?.1.run(script)
    }

    /// The output of a script that does what it is to do.
    pub(crate) fn sh(&self, script: &str) -> Outcome<String> {
        self.run(script)?.ok()
    }

    /// Makes a file of its own.
    pub(crate) fn write(&self, path: &str, content: &str) -> Outcome {
        let script = format!("umask 077 && cat >{path}");
        self.on()?.1.run_with(&script, content.as_bytes())?.ok().map(drop)
    }

    /// What lives on it.
    pub(crate) fn look(&self) -> Outcome<Seen> {
        Ok(serde_json::from_str(&self.sh("everynode-eyes")?)?)
    }

    /// What runs on it now.
    pub(crate) fn both(&self) -> Outcome<Both> {
        let seen = self.look()?;
        let (exporter, witness) = (seen.only(EXPORTER_PROGRAM)?, seen.only(WITNESS_PROGRAM)?);
        Ok(Both { boot: seen.boot, exporter, witness })
    }

    /// Waits until it runs one exporter, which answers, and one witness.
    pub(crate) fn runs_both(&self) -> Outcome<Both> {
        self.soon("one exporter and one witness run", || {
            let both = self.both()?;
            self.scrape()?;
            Ok(both)
        })
    }

    /// Looks until `look` succeeds.
    pub(crate) fn soon<T>(&self, what: &str, look: impl FnMut() -> Outcome<T>) -> Outcome<T> {
        wait::within(SOON, what, look)
    }

    /// The agent's only process, which is systemd's child in its unit's cgroup.
    pub(crate) fn agent(&self) -> Outcome<Process> {
        let seen = self.look()?;
        let home = format!("/system.slice/{AGENT}");
        let running: Vec<_> = seen.running("everynode-agent").collect();
        let [only] = running.as_slice() else {
            return Err(failure!("not one agent: {running:?}"));
        };
        ensure!(only.cgroup == home && only.process.parent == 1, "the agent: {only:?}");
        Ok(only.process.clone())
    }

    /// Ends a process at once, and sees it dead.
    pub(crate) fn kill(&self, process: &Process) -> Outcome {
        let Process { pid, .. } = process;
        self.sh(&format!("kill -9 {pid}"))?;
        self.soon("a killed process is dead", || {
            let seen = self.look()?;
            let lives = seen.processes.iter().any(|one| one.process == *process);
            ensure!(!lives, "{process:?}");
            Ok(())
        })
    }

    /// Reads the exporter's metrics over HTTP, there.
    pub(crate) fn scrape(&self) -> Outcome {
        let port = everynode_tests::machine::EXPORTER_PORT;
        let url = format!("http://127.0.0.1:{port}/metrics");
        let metrics = self.sh(&format!("curl -sS --fail --noproxy '*' --max-time 20 {url}"))?;
        ensure!(metrics.contains("nodename=\"n1\""), "the exporter is another's");
        Ok(())
    }

    /// What the witness has written there, brought here.
    pub(crate) fn bring_witness(&self, dir: &Path) -> Outcome {
        let log = self.sh(&format!("cat {WITNESS}/{NAME}.log 2>/dev/null || :"))?;
        fs::write(dir.join(format!("{NAME}.log")), log).context("the witness' log")
    }

    /// What a person wants to see of it when a scenario has gone wrong.
    pub(crate) fn report(&self) -> String {
        let mut text = String::new();
        for script in [
            "everynode-agent check",
            "systemctl --no-pager --failed",
            "systemctl --no-pager status 'everynode-*'",
            "systemd-cgls --no-pager --full",
            "journalctl --no-pager -n 120 -o short-monotonic",
            "journalctl --no-pager -b -1 -n 80 -o short-monotonic",
            "cat /var/lib/witness/*.log",
        ] {
            let said = self.run(script).map_or_else(|error| error.to_string(), |said| said.out);
            let _ = writeln!(text, "--- {NAME}: {script}\n{said}");
        }
        let console = fs::read(qemu::console(&self.dir)).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = console.lines().collect();
        let end = lines[lines.len().saturating_sub(40)..].join("\n");
        let _ = writeln!(text, "--- {NAME}: the console\n{end}");
        text
    }

    fn on(&self) -> Outcome<&(Qemu, Guest)> {
        self.power.as_ref().ok_or_else(|| failure!("the machine is off"))
    }

    fn hardware(&mut self) -> Outcome<(Qemu, Guest)> {
        self.power.take().ok_or_else(|| failure!("the machine is off"))
    }
}

/// Where packages are, if any were made.
pub(crate) fn packages() -> Option<PathBuf> {
    std::env::var_os(PACKAGES_PATH).map(PathBuf::from).filter(|dir| dir.is_dir())
}

/// A disk with the programs, without what only a debugger reads, and the units.
fn make_programs(ground: &Ground, dir: &Path) -> Outcome {
    let content = dir.join("content");
    let (programs, units) = (content.join("bin"), content.join("units"));
    fs::create_dir_all(&programs)?;
    let tests = std::env::var_os(RUNTIME_TESTS_PATH)
        .ok_or_else(|| failure!("{RUNTIME_TESTS_PATH} is not set; tests/machine/run sets it"))?;
    let built = PROGRAMS.iter().chain([&SHIM]).map(|name| (*name, ground.program(name)));
    for (name, path) in built.chain([(RUNTIME_TESTS, PathBuf::from(tests))]) {
        let mut command = Command::new("strip");
        command.arg("-o").arg(programs.join(name)).arg(path);
        Said::by(command)?.ok()?;
    }
    let mut command = Command::new("cp");
    command.arg("-r").arg(UNITS).arg(&units);
    Said::by(command)?.ok()?;
    if let Some(packages) = packages() {
        let mut command = Command::new("cp");
        command.arg("-r").arg(packages).arg(content.join("packages"));
        Said::by(command)?.ok()?;
    }
    let disk = dir.join("programs.raw");
    fs::File::create(&disk)?.set_len(256 << 20)?;
    let mut command = Command::new("mkfs.ext4");
    command.arg("-q").arg("-d").arg(&content).arg(&disk);
    Said::by(command)?.ok()?;
    fs::remove_dir_all(&content).context(content.display())
}
