//! The program of a daemon itself is delivered: rolled out, taken back, and cleared away.
//!
//! ```text
//!   n1 ── its mirror ──┐
//!   n2 ── a directory  ├──▶ n9: files over HTTPS, which counts what it sends
//!   n3 ────────────────┘
//! ```

mod files;
mod images;
mod registry;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use everynode_tests::ground::Ground;
use everynode_tests::manifests::DaemonSet;
use everynode_tests::proc::Process;
use everynode_tests::runner::say;
use everynode_tests::{Fleet, Outcome, ensure, wait};

use files::{File, Files};

pub(crate) use images::images_are_pulled_and_go_back;

const SET: &str = "parcel";
/// Not what its supervisor is called, too.
const PROGRAM: &str = "delivered";
const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Which asks the server of files itself.
const DIRECT: &str = "n3";

/// Two versions over three machines, back without fetching, four bad ones that stop nothing, and in the
/// end nothing is left.
pub(crate) fn programs_are_delivered_and_go_back(ground: &Ground) -> Outcome {
    Fleet::play(ground, 0, |fleet| {
        let files = Files::serve(fleet)?;
        join(fleet, &files)?;
        let first =
            files.archive(fleet, "one.tar.gz", "delivered-1/bin", &files::program(fleet, 1)?)?;
        let second = files.plain("two", &files::program(fleet, 2)?)?;

        // Out of an archive; each once, from where it was told to ask.
        let one =
            manifest(&files.reference(&first, "#delivered-1"), "/opt/delivered/bin/delivered");
        everywhere(fleet, &one, &first)?;
        let log = files.sent()?;
        let whole = |path: &str, of: &File| format!("{path} 0 {}", of.size);
        let wanted = [whole("/mirror/one.tar.gz", &first), whole("/one.tar.gz", &first)];
        ensure!(log == wanted, "{log:?}, not {wanted:?}");

        // One file; a connection breaks, and only the rest of it comes again.
        files.cut(&second, 100_000)?;
        let two = manifest(&files.reference(&second, "#delivered"), "/opt/delivered/delivered");
        everywhere(fleet, &two, &second)?;
        let log = files.sent()?;
        let mut wanted = [
            whole("/mirror/two", &second),
            "/two 0 100000".into(),
            format!("/two 100000 {}", second.size - 100_000),
        ];
        wanted.sort();
        ensure!(log == wanted, "{log:?}, not {wanted:?}");

        // Back, and forward again: nobody is asked.
        for back_at in [&first, &second, &first] {
            fleet.tool(&["rollout", "undo", "ds/parcel"])?.ok()?;
            running_everywhere(fleet, back_at)?;
            fleet.rolled_out(SET, "60s")?;
        }
        ensure!(files.sent()?.is_empty(), "what was here was fetched again");

        bad_ones_stop_nothing(fleet, &files, &first)?;
        cleared_away(fleet, &files, &first)?;
        nothing_is_left(fleet)
    })
}

/// Three machines with a certificate authority to trust; one has a mirror, one a directory of files.
fn join(fleet: &mut Fleet<'_>, files: &Files) -> Outcome {
    let joining = fleet.joining(&[])?;
    for (number, name) in (1..).zip(NODES) {
        fleet.add_machine(number)?;
        let machine = fleet.machine_mut(name)?;
        machine.tell("EVERYNODE_AGENT_ARTIFACT_CA", files.authority.clone());
        match name {
            "n1" => machine
                .tell("EVERYNODE_AGENT_ARTIFACT_MIRROR", format!("{0}={0}mirror/", files.url)),
            "n2" => machine.tell("EVERYNODE_AGENT_ARTIFACT_DIR", files.directory.clone()),
            _ => {}
        }
        machine.start_agent(Some(&joining))?;
    }
    NODES.iter().try_for_each(|name| fleet.ready(name))
}

fn manifest(reference: &str, command: &str) -> String {
    let container = format!(
        "- name: main
  command: [{command}]
  volumeMounts: [{{name: program, mountPath: /opt/delivered}}]
"
    );
    DaemonSet {
        name: SET,
        spec: "updateStrategy: {rollingUpdate: {maxUnavailable: 3}}\n",
        pod: &format!("volumes: [{{name: program, image: {{reference: '{reference}'}}}}]\n"),
        containers: &container,
        ..DaemonSet::default()
    }
    .to_string()
}

fn everywhere(fleet: &Fleet<'_>, manifest: &str, of: &File) -> Outcome {
    fleet.apply(manifest)?;
    running_everywhere(fleet, of)?;
    fleet.rolled_out(SET, "60s")
}

fn running_everywhere(fleet: &Fleet<'_>, of: &File) -> Outcome {
    NODES.iter().try_for_each(|name| {
        wait::soon(&format!("{name} runs {}", of.name), || runs(fleet, name, of).map(drop))
    })
}

/// The only instance on a machine, whose program is what was delivered.
fn runs(fleet: &Fleet<'_>, name: &str, of: &File) -> Outcome<Process> {
    let process = fleet.machine(name)?.only(PROGRAM)?;
    let program = fs::read(format!("/proc/{}/exe", process.pid))?;
    ensure!(program == of.program, "{name} runs another version than that of {}", of.name);
    Ok(process)
}

/// What can't be delivered, or can't run, is told, and what runs goes on.
fn bad_ones_stop_nothing(fleet: &Fleet<'_>, files: &Files, runs_now: &File) -> Outcome {
    let census =
        || NODES.iter().map(|name| runs(fleet, name, runs_now)).collect::<Outcome<Vec<_>>>();
    let before = census()?;
    let bin = "/opt/delivered/delivered";
    let other = files.plain("other", &files::for_another_machine(fleet)?)?;
    let wrong = files.reference(&other, "#delivered").replace(&other.digest, &"0".repeat(64));
    let missing = files.reference(&other, "").replace("/other@", "/missing@");
    let good = files.reference(&other, "#delivered");
    let never = manifest(&missing, bin).replace("image: {", "image: {pullPolicy: Never, ");
    for (manifest, words) in [
        (manifest(&wrong, bin), ["ErrImagePull", "its digest is sha256:", "next try at"]),
        (manifest(&missing, bin), ["ErrImagePull", "404 Not Found", "next try at"]),
        (never, ["ErrImageNeverPull", "pullPolicy is Never", "next try at"]),
        (manifest(&good, bin), ["RunContainerError", "a program for s390x", "next try at"]),
    ] {
        if words[0] == "RunContainerError" && runs_others() {
            say(
                "artifacts: skipped the wrong one, this machine runs programs of other architectures",
            );
            continue;
        }
        fleet.apply(&manifest)?;
        wait::soon(&format!("people are told {words:?}"), || {
            for name in NODES {
                let why = fleet.tool(&["why", "node", name])?.ok()?;
                // It may have been tried again already.
                let why = why.replace("ImagePullBackOff", "ErrImagePull");
                for word in words {
                    ensure!(why.contains(word), "{name}: {word:?} is not in {why}");
                }
            }
            Ok(())
        })?;
        ensure!(census()? == before, "what runs was stopped for what can't");
    }
    files.sent().map(drop)
}

/// Of each machine what runs and what ran before is kept, and nothing else.
fn cleared_away(fleet: &Fleet<'_>, files: &Files, first: &File) -> Outcome {
    let third = files.plain("three", &files::program(fleet, 3)?)?;
    let three = manifest(&files.reference(&third, "#delivered"), "/opt/delivered/delivered");
    everywhere(fleet, &three, &third)?;
    let kept = |wanted: [String; 2]| {
        let wanted = BTreeSet::from(wanted);
        wait::soon("what nobody needs is cleared away", || {
            for name in NODES {
                let whole = fleet.machine(name)?.data_dir().join("artifacts/sha256");
                let there = fs::read_dir(whole)?.flatten();
                let there: BTreeSet<String> =
                    there.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
                ensure!(there == wanted, "{name} keeps {there:?}, not {wanted:?}");
            }
            Ok(())
        })
    };
    let third = format!("{}.delivered", third.digest);
    kept([first.digest.clone(), third.clone()])?;
    let fourth = files.plain("four", &files::program(fleet, 4)?)?;
    let four = manifest(&files.reference(&fourth, "#delivered"), "/opt/delivered/delivered");
    everywhere(fleet, &four, &fourth)?;
    kept([third, format!("{}.delivered", fourth.digest)])
}

/// Of a machine that leaves, and of a DaemonSet that is deleted.
fn nothing_is_left(fleet: &Fleet<'_>) -> Outcome {
    let [leaves, ..] = NODES;
    fleet.machine(leaves)?.ask_agent("leave")?.ok()?;
    let artifacts =
        |name: &str| -> Outcome<PathBuf> { Ok(fleet.machine(name)?.data_dir().join("artifacts")) };
    wait::soon("nothing is left of a machine that has left", || {
        ensure!(!artifacts(leaves)?.exists(), "artifacts are left");
        fleet.machine(leaves)?.empty()
    })?;
    fleet.tool(&["delete", "ds", SET, "--allow-removal"])?.ok()?;
    wait::soon("nothing is kept for a DaemonSet that is gone", || {
        for name in [NODES[1], DIRECT] {
            fleet.machine(name)?.none(PROGRAM)?;
            let left: Vec<_> = ["sha256", "partial", "unpack", "removed"]
                .iter()
                .flat_map(|part| fs::read_dir(artifacts(name).ok()?.join(part)).ok())
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .collect();
            ensure!(left.is_empty(), "{name} keeps {left:?}");
        }
        Ok(())
    })
}

/// Whether the kernel was told of further formats of programs.
fn runs_others() -> bool {
    let formats = fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    formats.map(|format| format.file_name()).any(|name| name != "register" && name != "status")
}
