//! Programs in images of registries: pulled by name, password and token, rolled out and taken back,
//! and gone on with after a broken connection and a killed agent.
//!
//! ```text
//!   n1 ──────────────────────┐
//!   n3 ── its mirror (files) ┴──▶ n9: a registry with passwords, one with tokens
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use everynode_model::{Digest, go_arch};
use everynode_tests::ground::Ground;
use everynode_tests::manifests::DaemonSet;
use everynode_tests::proc::Process;
use everynode_tests::runner::say;
use everynode_tests::{Fleet, Outcome, ensure, wait};

use super::files::{self, Files};
use super::registry::{self, Image, Layout, PASSWORD, Registries};
use super::{PROGRAM, SET};

/// Both have IPv4: not every tool reads a name with an address of IPv6.
const NODES: [&str; 2] = ["n1", "n3"];
/// Which has a mirror, and whose agent is killed.
const MIRRORED: &str = "n3";
const SECRET: &str = "regcred";
/// How much comes before the agent is killed, and how much after that before the connection breaks.
const BEFORE_KILL: usize = 700_000;
const BEFORE_CUT: usize = 100_000;

/// Three versions over two machines, back without asking anybody, bad ones that stop nothing, and
/// one that comes in three pieces under two agents.
pub(crate) fn images_are_pulled_and_go_back(ground: &Ground) -> Outcome {
    if let Some(program) = registry::lacking() {
        say(&format!("images: skipped, there is no {program} here"));
        return Ok(());
    }
    Fleet::play(ground, 0, |fleet| {
        let files = Files::serve(fleet)?;
        let registries = Registries::start(fleet, &files)?;
        join(fleet, &files, &registries)?;
        let password = fleet.write("password.json", &registries.secret(SECRET, PASSWORD))?;
        fleet.tool(&["apply", "-f", &password])?.ok()?;

        let first = container(fleet, &registries)?;
        everywhere(fleet, &of_container(&first.reference), &first)?;
        nothing_was_taken_away_but_what_was_marked(fleet)?;

        let second = file(fleet, &registries, 2)?;
        registries.tokens_given()?;
        everywhere(fleet, &of_file(&second.reference), &second)?;
        let given = registries.tokens_given()?;
        let wanted = vec!["200 repository:team/two:pull"; NODES.len()];
        ensure!(given == wanted, "{given:?}, not {wanted:?}");

        let asked = || said_by_registries(fleet);
        let before = asked();
        for back_at in [&first, &second, &first] {
            fleet.tool(&["rollout", "undo", "ds/parcel"])?.ok()?;
            running_everywhere(fleet, back_at)?;
            fleet.rolled_out(SET, "60s")?;
        }
        ensure!(asked() == before, "what was here was asked for again");

        bad_ones_stop_nothing(fleet, &registries, &first)?;
        fleet.tool(&["apply", "-f", &password])?.ok()?;
        gone_on_with_after_a_kill(fleet, &files, &registries)?;
        no_password_is_told(fleet)
    })
}

fn join(fleet: &mut Fleet<'_>, files: &Files, registries: &Registries) -> Outcome {
    let joining = fleet.joining(&[])?;
    for (number, name) in [1, 3].into_iter().zip(NODES) {
        fleet.add_machine(number)?;
        let machine = fleet.machine_mut(name)?;
        machine.tell("EVERYNODE_AGENT_ARTIFACT_CA", files.authority.clone());
        if name == MIRRORED {
            let mirror = format!("{}/team/={}mirror/", registries.basic, files.url);
            machine.tell("EVERYNODE_AGENT_ARTIFACT_MIRROR", mirror);
        }
        machine.start_agent(Some(&joining))?;
    }
    NODES.iter().try_for_each(|name| fleet.ready(name))
}

/// An image for several architectures, of two layers: of the lower one a file is replaced, and one
/// taken away.
fn container(fleet: &Fleet<'_>, registries: &Registries) -> Outcome<Image> {
    let layout = Layout::new(fleet, "container")?;
    let (lower, upper) = (fleet.path("lower/opt/delivered"), fleet.path("upper/opt/delivered"));
    fs::create_dir_all(&lower)?;
    fs::create_dir_all(&upper)?;
    for name in [PROGRAM, "stays", "goes"] {
        fs::write(lower.join(name), "lower")?;
    }
    let program = files::program(fleet, 1)?;
    fs::write(upper.join(PROGRAM), &program)?;
    fs::set_permissions(upper.join(PROGRAM), fs::Permissions::from_mode(0o755))?;
    fs::write(upper.join(".wh.goes"), "")?;
    let layers = [layout.archive(&fleet.path("lower"))?, layout.archive(&fleet.path("upper"))?];
    let manifests = [
        layout.manifest(registry::another_arch(), &layers[..1])?,
        layout.manifest(go_arch(), &layers)?,
    ];
    let digest = layout.index(&manifests)?;
    let to = (registries.basic.as_str(), "team/parcel:1");
    registries.push(fleet, &layout, &digest, to, &program)
}

/// An artifact of one file, where tokens are wanted.
fn file(fleet: &Fleet<'_>, registries: &Registries, version: u8) -> Outcome<Image> {
    let layout = Layout::new(fleet, "file")?;
    let program = files::program(fleet, version)?;
    let digest = layout.top(layout.manifest(go_arch(), &[layout.file(PROGRAM, &program)?])?)?;
    registries.push(fleet, &layout, &digest, (&registries.tokens, "team/two:2"), &program)
}

fn of_container(reference: &str) -> String {
    manifest(reference, ", subPath: opt/delivered")
}

fn of_file(reference: &str) -> String {
    manifest(reference, "")
}

fn manifest(reference: &str, mount: &str) -> String {
    let container = format!(
        "- name: main
  command: [/opt/delivered/{PROGRAM}]
  volumeMounts: [{{name: program, mountPath: /opt/delivered{mount}}}]
"
    );
    let pod = format!(
        "imagePullSecrets: [{{name: {SECRET}}}]
volumes: [{{name: program, image: {{reference: '{reference}'}}}}]
"
    );
    DaemonSet {
        name: SET,
        spec: "updateStrategy: {rollingUpdate: {maxUnavailable: 2}}\n",
        pod: &pod,
        containers: &container,
        ..DaemonSet::default()
    }
    .to_string()
}

fn everywhere(fleet: &Fleet<'_>, manifest: &str, of: &Image) -> Outcome {
    fleet.apply(manifest)?;
    running_everywhere(fleet, of)?;
    fleet.rolled_out(SET, "60s")
}

fn running_everywhere(fleet: &Fleet<'_>, of: &Image) -> Outcome {
    NODES.iter().try_for_each(|name| {
        let what = format!("{name} runs what is in {}", of.reference);
        wait::soon(&what, || runs(fleet, name, of).map(drop))
    })
}

fn runs(fleet: &Fleet<'_>, name: &str, of: &Image) -> Outcome<Process> {
    let process = fleet.machine(name)?.only(PROGRAM)?;
    let program = fs::read(format!("/proc/{}/exe", process.pid))?;
    ensure!(program == of.program, "{name} runs another version than that of {}", of.reference);
    Ok(process)
}

fn nothing_was_taken_away_but_what_was_marked(fleet: &Fleet<'_>) -> Outcome {
    for name in NODES {
        let process = fleet.machine(name)?.only(PROGRAM)?;
        let mounted = PathBuf::from(format!("/proc/{}/root/opt/delivered", process.pid));
        let mut there: Vec<_> = fs::read_dir(&mounted)?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        there.sort();
        ensure!(there == [PROGRAM, "stays"], "{name} has {there:?} there");
    }
    Ok(())
}

/// All that the registries have said of requests.
fn said_by_registries(fleet: &Fleet<'_>) -> usize {
    let logs = ["basic", "tokens"].map(|name| fleet.path(&format!("registry-{name}.log")));
    let lines = logs.iter().map(|log| fs::read_to_string(log).unwrap_or_default());
    lines.map(|log| log.matches("\"GET /v2/").count()).sum()
}

/// What can't be pulled is told, and what runs goes on; a tag alone is no revision.
fn bad_ones_stop_nothing(fleet: &Fleet<'_>, registries: &Registries, runs_now: &Image) -> Outcome {
    let tag = format!("{}/team/parcel:1", registries.basic);
    let file = fleet.write("tag.yaml", &of_container(&tag))?;
    let path = "spec.template.spec.volumes[0].image.reference: Invalid value";
    fleet.tool(&["apply", "-f", &file])?.refused(&[path, "append `@sha256:HEX`"])?;

    let census =
        || NODES.iter().map(|name| runs(fleet, name, runs_now)).collect::<Outcome<Vec<_>>>();
    let before = census()?;
    let told = |words: [&str; 3]| {
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
        Ok(())
    };
    let nothing = Digest::of(b"nothing").to_string();
    let wrong = format!("{tag}@sha256:{nothing}");
    fleet.apply(&of_container(&wrong))?;
    told(["ErrImagePull", "404 Not Found", "next try at"])?;

    let layout = Layout::new(fleet, "elsewhere")?;
    let digest = layout.index(&[layout.manifest(registry::another_arch(), &[])?])?;
    let to = (registries.basic.as_str(), "team/elsewhere");
    let elsewhere = registries.push(fleet, &layout, &digest, to, b"")?;
    fleet.apply(&of_container(&elsewhere.reference))?;
    let platform = format!("no match for platform linux/{}", go_arch());
    told(["ErrImagePull", &platform, "next try at"])?;

    let secret = fleet.write("wrong.json", &registries.secret(SECRET, "wrong"))?;
    fleet.tool(&["apply", "-f", &secret])?.ok()?;
    for registry in [&registries.basic, &registries.tokens] {
        fleet.apply(&of_container(&format!("{registry}/team/locked@sha256:{nothing}")))?;
        told([&format!("{registry}/v2/team/locked/"), ": unauthorized: ", "next try at"])?;
    }
    Ok(())
}

/// A layer comes in three pieces: the agent is killed after the first, and the connection breaks
/// after the second.
fn gone_on_with_after_a_kill(
    fleet: &mut Fleet<'_>,
    files: &Files,
    registries: &Registries,
) -> Outcome {
    let layout = Layout::new(fleet, "three")?;
    let program = files::program(fleet, 3)?;
    let digest = layout.top(layout.manifest(go_arch(), &[layout.file(PROGRAM, &program)?])?)?;
    let third =
        registries.push(fleet, &layout, &digest, (&registries.basic, "team/three"), &program)?;
    layout.serve(&PathBuf::from(&files.directory).join("v2/mirror/three"))?;
    let blob = format!("v2/mirror/three/blobs/sha256:{}", Digest::of(&program));
    files.disturb(&blob, "hold", BEFORE_KILL)?;
    files.disturb(&blob, "cut", BEFORE_CUT)?;
    files.sent()?;
    fleet.apply(&of_file(&third.reference))?;

    let partial = fleet.machine(MIRRORED)?.data_dir().join("artifacts/partial");
    let partial = partial.join(format!("{digest}.{}", Digest::of(&program)));
    let had = wait::soon("a part of the layer is there", || {
        let had = fs::metadata(&partial)?.len();
        ensure!(had >= 262_144, "{had} bytes");
        Ok(had)
    })?;
    fleet.machine_mut(MIRRORED)?.take_agent()?.kill()?;
    fleet.machine_mut(MIRRORED)?.start_agent(None)?;
    running_everywhere(fleet, &third)?;
    fleet.rolled_out(SET, "60s")?;

    let all = program.len();
    let log = files.sent()?;
    let mut spans: Vec<(usize, usize)> = log
        .iter()
        .filter_map(|line| line.strip_prefix(&format!("/{blob} ")))
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(from, sent)| Some((from.parse().ok()?, sent.parse().ok()?)))
        .collect();
    spans.sort_unstable();
    let [(0, BEFORE_KILL), (from, BEFORE_CUT), (last, rest)] = spans[..] else {
        return Err(everynode_tests::failure!("{log:?}"));
    };
    let goes_on = from as u64 >= had && last == from + BEFORE_CUT && last + rest == all;
    ensure!(goes_on, "of {all} bytes, {had} were there before the kill: {spans:?}");
    Ok(())
}

/// In no log, no reason and no event.
fn no_password_is_told(fleet: &Fleet<'_>) -> Outcome {
    for name in NODES {
        let machine = fleet.machine(name)?;
        ensure!(!machine.log().contains(PASSWORD), "{name} has logged a password");
        let why = fleet.tool(&["why", "node", name])?.ok()?;
        ensure!(!why.contains(PASSWORD), "why tells a password");
    }
    let events = fleet.tool(&["get", "events"])?.ok()?;
    ensure!(!events.contains(PASSWORD), "an event tells a password");
    Ok(())
}
