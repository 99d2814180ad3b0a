//! Programs that people have run in containers.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use everynode_tests::daemon::Daemon;
use everynode_tests::ground::Ground;
use everynode_tests::manifests::DaemonSet;
use everynode_tests::proc::{self, Process};
use everynode_tests::said::{Said, same};
use everynode_tests::{Context as _, Fleet, Outcome, ensure, failure, wait};
use rustix::process::Signal;

use crate::upkeep::Upkeep;

/// Exit codes, outputs, inputs, and all that confines a container.
pub(crate) fn a_program_runs_as_its_container_does(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        let pod = confined(fleet)?;
        let said = exec(fleet, &[&pod, "--", "sh", "-c", "echo out; echo err >&2; exit 3"])?;
        ensure!(said.code == Some(3) && said.out == "out\n", "{said}");
        ensure!(said.err == "err\ncommand terminated with exit code 3\n", "{said}");
        let killed = exec(fleet, &[&pod, "--", "sh", "-c", "kill -TERM $$"])?;
        ensure!(killed.code == Some(128 + 15), "{killed}");

        // Much more than all windows on the way hold, of every value.
        let sent: Vec<u8> =
            (0..1_500_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let file = fleet.path("sent");
        fs::write(&file, &sent)?;
        let mut command = fleet.coordinator().tool_command(&["exec", "-i", &pod, "--", "cat"]);
        let output = command.stdin(fs::File::open(&file)?).output().context("cat")?;
        ensure!(output.status.success() && output.stdout == sent, "{}", output.stdout.len());

        let inside = |script: &str| {
            let words = ["ds/app", "--node", "n1", "-c", "main", "--", "sh", "-c", script];
            exec(fleet, &words)?.ok()
        };
        same(&inside("id -u; id -g; pwd; echo $WORD")?, "65534\n65533\n/usr\nfrom the template\n")?;
        let status = inside("cat /proc/self/status")?;
        for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
            ensure!(status.contains(line), "{line:?} is not in\n{status}");
        }
        let cgroup = inside("cat /proc/self/cgroup")?;
        ensure!(cgroup.lines().any(|line| line.contains("/c-main/exec-")), "{cgroup}");
        let written = exec(fleet, &[&pod, "-c", "main", "--", "touch", "/ro/x"])?;
        ensure!(written.code == Some(1), "{written}");
        ensure!(written.err.contains("Read-only file system"), "{written}");

        refusals(fleet, &pod)?;
        audited(fleet, &pod)
    })
}

fn refusals(fleet: &mut Fleet<'_>, pod: &str) -> Outcome {
    let refused = |words: &[&str], why: &str| exec(fleet, words)?.refused(&[why]).map(drop);
    refused(&["nobody-x", "--", "ls"], "pods \"nobody-x\" not found")?;
    refused(&["ds/nobody", "--", "ls"], "daemonsets.apps \"nobody\" not found")?;
    refused(&[pod, "-c", "third", "--", "ls"], &format!("container third not found in pod {pod}"))?;
    refused(&[pod, "--", "no-such-program"], "cannot run \"no-such-program\": not found in PATH")?;
    refused(&[pod, "ls"], "Use exec [POD] -- [COMMAND] instead")?;
    // The template says which container is meant, so nothing is said of that.
    let quiet = exec(fleet, &[pod, "--", "sh", "-c", "echo $NAME"])?;
    ensure!(quiet.err.is_empty() && quiet.out == "side\n", "{quiet}");
    let warned = exec(fleet, &["-it", pod, "--", "true"])?;
    ensure!(warned.err.starts_with("Unable to use a TTY - input is not a terminal"), "{warned}");
    warned.ok().map(drop)
}

/// Who ran what where, and how it ended; and nothing of what went in or came out.
fn audited(fleet: &Fleet<'_>, pod: &str) -> Outcome {
    let script = "read word; exit 7";
    let mut command =
        fleet.coordinator().tool_command(&["exec", "-i", pod, "--", "sh", "-c", script]);
    let file = fleet.path("secret");
    fs::write(&file, "opensesame\n")?;
    let output = command.stdin(fs::File::open(&file)?).output().context("sh")?;
    ensure!(output.status.code() == Some(7), "{output:?}");
    wait::soon("its end is an event of the pod", || {
        let events = fleet.tool(&["get", "events"])?.ok()?;
        let what = format!("sh -c \"{script}\" in container side on node n1 by admin");
        for (reason, line) in
            [("ExecStarted", what.clone()), ("ExecEnded", format!("{what}: exit code 7"))]
        {
            let said = |row: &str| {
                row.contains(reason) && row.contains(&format!("pod/{pod}")) && row.contains(&line)
            };
            ensure!(events.lines().any(said), "{reason} {line} is not in\n{events}");
        }
        Ok(())
    })?;
    let log = fleet.coordinator().log();
    let audited = |line: &&str| line.contains("exec begins") || line.contains("exec ended");
    let lines = log.lines().filter(audited).filter(|line| line.contains("read word")).count();
    ensure!(lines == 2, "{lines} lines of the audit");
    let agent = fleet.machine("n1")?.log();
    ensure!(agent.contains("read word"), "the agent's own log does not say it");
    ensure!(!log.contains("opensesame") && !agent.contains("opensesame"), "its input is told");
    Ok(())
}

/// What somebody with a terminal sees.
pub(crate) fn a_terminal_is_one(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        let pod = confined(fleet)?;
        let script = fleet.write("terminal.py", TERMINAL)?;
        let mut terminal = Command::new("python3");
        terminal.arg(&script);
        let words = ["exec", "-it", &pod, "-c", "main", "--"];
        let said = Said::by(fleet.coordinator().tool_under(terminal, &words))?.ok()?;
        same(&said, "all of it\n")?;
        wait::soon("nothing of it is left", || {
            ensure!(run_inside(fleet)?.is_empty(), "{:?}", run_inside(fleet)?);
            Ok(())
        })
    })
}

/// A terminal of 33 by 111, with the tool in it, as somebody who sits there would use it.
const TERMINAL: &str = r#"
import fcntl, os, pty, select, signal, struct, sys, termios

def begin(words):
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    before = termios.tcgetattr(theirs)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        for fd in (0, 1, 2):
            os.dup2(theirs, fd)
        os.execvp(sys.argv[1], sys.argv[1:] + words)
    return ours, theirs, before, pid

read = {}

def until(ours, text):
    seen = read.pop(ours, b"")
    while text not in seen:
        if not select.select([ours], [], [], 30)[0]:
            sys.exit(f"{text} has not come: {seen}")
        seen += os.read(ours, 4096)
    end = seen.index(text) + len(text)
    read[ours] = seen[end:]
    return seen[:end]

def ended(pid, theirs, before, code):
    status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) == code, status
    assert termios.tcgetattr(theirs) == before, "the terminal is not as it was"

# A shell's trap and read would miss a signal that comes between them.
change = ("$SIG{WINCH} = sub {}; $| = 1; sigprocmask(SIG_BLOCK, POSIX::SigSet->new(%d));"
          " print qq($ENV{TERM}\\n); sigsuspend(POSIX::SigSet->new)" % signal.SIGWINCH)
words = ["sh", "-c", "tty; stty size; id -u >/dev/tty; perl -MPOSIX -e '" + change + "'; stty size;"
         " read word; echo got $word; exit 9"]
ours, theirs, before, pid = begin(words)
seen = until(ours, b"xterm\r\n")
assert b"/dev/pts/" in seen and b"33 111\r\n" in seen and b"65534\r\n" in seen, seen
assert termios.tcgetattr(theirs) != before, "keys are not handed on as they are"
fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 122, 0, 0))
until(ours, b"44 122\r\n")
os.write(ours, b"word\r")
# Once: the terminal there echoes it, and none here.
assert until(ours, b"got word\r\n").count(b"word") == 2
until(ours, b"command terminated with exit code 9")
ended(pid, theirs, before, 9)

# A key that interrupts what runs there, and not the tool.
ours, theirs, before, pid = begin(["sh", "-c", "trap 'echo caught; exit 4' INT; echo on; while :; do sleep 1; done"])
until(ours, b"on\r\n")
os.write(ours, b"\x03")
until(ours, b"caught\r\n")
ended(pid, theirs, before, 4)

# The tool itself is asked to end; what runs there has ignored it all.
ours, theirs, before, pid = begin(["sh", "-c", "trap '' HUP TERM; echo on; exec sleep 100000"])
until(ours, b"on\r\n")
os.kill(pid, signal.SIGTERM)
ended(pid, theirs, before, 128 + signal.SIGTERM)
print("all of it")
"#;

/// Whoever goes, takes what they have run with them; the pod knows nothing of it.
pub(crate) fn it_ends_with_whoever_wanted_it(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        let pod = confined(fleet)?;
        let daemon = fleet.machine("n1")?.only("tail")?;
        // One that ends with its input, and one that nothing but a kill ends.
        let stubborn = "trap '' HUP TERM PIPE; exec sleep 20000";
        for (words, program) in [
            (&["cat"][..], "cat"),
            (&["sh", "-c", stubborn], "sleep"),
            (&["sleep", "2e4"], "sleep"),
        ] {
            let client = begun(fleet, &pod, words, program)?;
            client.kill()?;
            wait::soon("it has gone with its client", || fleet.machine("n1")?.none(program))?;
        }
        let mut client = begun(fleet, &pod, &["sh", "-c", stubborn], "sleep")?;
        fleet.machine_mut("n1")?.take_agent()?.kill()?;
        wait::soon("it has gone with its agent", || fleet.machine("n1")?.none("sleep"))?;
        ensure!(client.ended()?.code() == Some(1), "{}", client.said());
        ensure!(client.said().contains("node \"n1\" ended the stream"), "{}", client.said());
        fleet.machine_mut("n1")?.start_agent(None)?;
        wait::soon("its successor runs programs there", || {
            same(&exec(fleet, &[&pod, "--", "echo", "here"])?.ok()?, "here\n")
        })?;

        // A pod that goes takes what is run in it along.
        ensure!(fleet.machine("n1")?.only("tail")? == daemon, "the daemon was restarted");
        let mut client = begun(fleet, &pod, &["sh", "-c", stubborn], "sleep")?;
        fleet.tool(&["delete", "pod", &pod])?.ok()?;
        let ended = client.ended()?;
        ensure!(ended.code() == Some(137), "{ended}: {}", client.said());
        wait::soon("another pod is there", || {
            ensure!(fleet.machine("n1")?.only("tail")? != daemon, "the same");
            Ok(())
        })?;
        denied(fleet)
    })
}

/// By the machine's own settings: from its next start on, whatever anybody says elsewhere.
fn denied(fleet: &mut Fleet<'_>) -> Outcome {
    let daemon = fleet.machine("n1")?.only("tail")?;
    fleet.machine_mut("n1")?.take_agent()?.kill()?;
    let file = fleet.write("agent.yaml", "deny-exec: true\n")?;
    let machine = fleet.machine_mut("n1")?;
    machine.tell("EVERYNODE_AGENT_CONFIG", file);
    machine.start_agent(None)?;
    wait::soon("the machine itself denies it", || {
        let said = exec(fleet, &["ds/app", "--node", "n1", "--", "true"])?;
        let words =
            ["(ExecDenied)", "this machine denies exec: --deny-exec in its agent's settings"];
        said.refused(&words).map(drop)
    })?;
    wait::soon("which is told, too", || {
        let events = fleet.tool(&["get", "events"])?.ok()?;
        let told =
            |row: &str| row.contains("ExecEnded") && row.contains("this machine denies exec");
        ensure!(events.lines().any(told), "{events}");
        Ok(())
    })?;
    ensure!(fleet.machine("n1")?.only("tail")? == daemon, "the daemon was restarted");
    let agent = fleet.machine_mut("n1")?.take_agent()?;
    ensure!(agent.stop()?.success(), "the agent did not stop well");
    Ok(())
}

/// One who stops reading, or a program that does, holds up nothing and costs a window.
pub(crate) fn nobody_waits_for_a_slow_one(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        let pod = confined(fleet)?;
        let before = Upkeep::of(fleet)?;
        let length = 64 * 1024 * 1024;
        let gate = fleet.path("gate");
        let script = format!(
            "echo begun; while [ ! -e {} ]; do sleep 0.1; done; exec head -c {length} /dev/zero",
            gate.display()
        );
        let words = ["exec", &pod, "--", "sh", "-c", &script];
        let mut slow =
            Daemon::start(fleet.coordinator().tool_command(&words), &fleet.path("slow"))?;
        wait::soon("it has begun", || {
            ensure!(slow.said().starts_with("begun"), "nothing yet");
            Ok(())
        })?;
        proc::signal(slow.pid(), Signal::STOP)?;
        fs::write(&gate, "")?;
        // A program that reads nothing, and somebody who types for ever.
        let mut typing =
            fleet.coordinator().tool_command(&["exec", "-i", &pod, "--", "sleep", "2e4"]);
        let mut typing = typing
            .stdin(fs::File::open("/dev/zero")?)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("typing")?;
        for number in 0..20 {
            let said = exec(fleet, &[&pod, "--", "echo", &number.to_string()])?.ok()?;
            same(&said, &format!("{number}\n"))?;
        }
        before.is_still(fleet)?;
        proc::signal(slow.pid(), Signal::CONT)?;
        ensure!(slow.ended()?.success(), "it did not end well");
        let came = fs::metadata(fleet.path("slow"))?.len();
        ensure!(came == length + 6, "{came} bytes have come");
        typing.kill()?;
        typing.wait()?;

        wait::soon("all of it has gone", || fleet.machine("n1")?.none("sleep"))?;
        // No more at a time than the contract says, and the next one as soon as one has ended.
        let mut clients = Vec::new();
        for _ in 0..16 {
            let words = ["exec", &pod, "--", "sleep", "20000"];
            let command = fleet.coordinator().tool_command(&words);
            clients.push(Daemon::start(command, &fleet.path("many"))?);
        }
        wait::soon("sixteen run", || {
            let run = fleet.machine("n1")?.running("sleep").len();
            ensure!(run == 16, "{run} run");
            Ok(())
        })?;
        exec(fleet, &[&pod, "--", "true"])?.refused(&["(TooManyExecs)"])?;
        clients.pop().ok_or_else(|| failure!("none"))?.kill()?;
        wait::soon("there is room again", || exec(fleet, &[&pod, "--", "true"])?.ok().map(drop))
    })
}

fn exec(fleet: &Fleet<'_>, words: &[&str]) -> Outcome<Said> {
    let words: Vec<&str> = ["exec"].iter().chain(words).copied().collect();
    fleet.tool(&words)
}

/// A client with an input that does not end, when the program that it has run is there.
fn begun(fleet: &Fleet<'_>, pod: &str, words: &[&str], program: &str) -> Outcome<Daemon> {
    let words: Vec<&str> =
        ["exec", "-i", pod, "-c", "main", "--"].iter().chain(words).copied().collect();
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"exec 9<>"$0"; exec "$@" <&9"#]).arg(fifo(fleet, "fifo")?);
    let tool = fleet.coordinator().tool_under(shell, &words);
    let client = Daemon::start(tool, &fleet.path("client"))?;
    wait::soon("it runs", || {
        fleet
            .machine("n1")?
            .running(program)
            .first()
            .cloned()
            .ok_or_else(|| failure!("no {program}: {}", client.said()))
    })?;
    Ok(client)
}

/// Something that can be opened and never ends.
fn fifo(fleet: &Fleet<'_>, name: &str) -> Outcome<PathBuf> {
    let path = fleet.path(name);
    if !path.exists() {
        let mut command = Command::new("mkfifo");
        command.arg(&path);
        Said::by(command)?.ok()?;
    }
    Ok(path)
}

/// What runs in the containers beside their own programs.
fn run_inside(fleet: &Fleet<'_>) -> Outcome<Vec<Process>> {
    Ok(fleet.machine("n1")?.running("sleep"))
}

/// A pod of two containers, one of which is confined by all that a template has; its name.
fn confined(fleet: &Fleet<'_>) -> Outcome<String> {
    let main = "- name: main
  command: [/usr/bin/tail, -f, /dev/null]
  workingDir: /usr
  env: [{name: WORD, value: from the template}]
  securityContext:
    runAsUser: 65534
    runAsGroup: 65533
    allowPrivilegeEscalation: false
    capabilities: {drop: [ALL]}
  volumeMounts: [{name: ro, mountPath: /ro, readOnly: true}]
";
    let side = "- name: side
  command: [/bin/sh, -c, 'read x <\"$0\"', FIFO]
  env: [{name: NAME, value: side}]
";
    let side = side.replace("FIFO", &fifo(fleet, "fifo.side")?.display().to_string());
    fleet.apply(
        &DaemonSet {
            name: "app",
            template: "annotations: {kubectl.kubernetes.io/default-container: side}\n",
            pod: "terminationGracePeriodSeconds: 1\nvolumes: [{name: ro, emptyDir: {}}]\n",
            containers: &format!("{main}{side}"),
            ..DaemonSet::default()
        }
        .to_string(),
    )?;
    fleet.rolled_out("app", "60s")?;
    fleet.pod_name("app", "n1")
}
