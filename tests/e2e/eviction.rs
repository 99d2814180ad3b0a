//! A pod that has more on disk than it may.

use std::fs;
use std::path::PathBuf;

use everynode_tests::ground::Ground;
use everynode_tests::manifests::{self, DaemonSet};
use everynode_tests::{Fleet, Outcome, ensure, failure, wait};

/// What it is evicted for.
const WHY: &str = "Usage of EmptyDir volume \"cache\" exceeds the limit \"4Mi\"";

/// One fills a volume over its limit, is evicted, and comes again after the back-off; another beside it
/// keeps within the same limits, and that the agent is killed changes nothing for either.
pub(crate) fn who_has_too_much_on_disk_is_ended(ground: &Ground) -> Outcome {
    Fleet::play(ground, 1, |fleet| {
        fleet.apply(&daemon("calm", "exec tail -f /dev/null"))?;
        fleet.apply(&daemon("hog", FILLS_WHEN_TOLD))?;
        let first = wait::soon("both run", || {
            running(fleet, "calm")?;
            running(fleet, "hog")
        })?;
        let calm = fleet.machine("n1")?.only("tail")?;
        fleet.machine_mut("n1")?.take_agent()?.kill()?;
        fill(fleet, &first)?;
        fleet.machine_mut("n1")?.start_agent(None)?;

        let second = wait::soon("it is evicted, and another comes", || another(fleet, &first))?;
        let name = fleet.pod_name("hog", "n1")?;
        let described = fleet.tool(&["describe", "pod", &name])?.ok()?;
        ensure!(described.contains("Evicted") && described.contains(WHY), "{described}");
        let events = fleet.tool(&["get", "events"])?.ok()?;
        ensure!(events.contains("Evicted") && events.contains(WHY), "{events}");
        ensure!(!volume(fleet, &first)?.exists(), "what it had is gone with it");

        // The second time is no longer at once.
        fill(fleet, &second)?;
        wait::soon("it waits", || {
            let pod = fleet.pod("hog", "n1")?;
            let reason = pod["status"]["reason"].as_str().unwrap_or_default();
            let message = pod["status"]["message"].as_str().unwrap_or_default();
            ensure!(reason == "Evicted" && message.contains("next try at"), "{pod}");
            Ok(())
        })?;
        wait::soon("a third one comes", || another(fleet, &second))?;
        ensure!(fleet.machine("n1")?.only("tail")?.pid == calm.pid, "the calm one was restarted");
        Ok(())
    })
}

/// Fills its volume over the limit as soon as there is a certain file in it.
const FILLS_WHEN_TOLD: &str = "until [ -e /cache/go ]; do sleep 0.2; done
head -c 8M /dev/zero >/cache/file
while true; do sleep 1; done";

fn fill(fleet: &Fleet<'_>, pod: &str) -> Outcome {
    let go = volume(fleet, pod)?.join("go");
    fs::write(&go, "").map_err(|error| failure!("{}: {error}", go.display()))
}

fn volume(fleet: &Fleet<'_>, pod: &str) -> Outcome<PathBuf> {
    Ok(fleet.machine("n1")?.data_dir().join("run").join(pod).join("volumes/cache"))
}

/// The id of the DaemonSet's pod, which is ready.
fn running(fleet: &Fleet<'_>, set: &str) -> Outcome<String> {
    let pod = fleet.pod(set, "n1")?;
    ensure!(pod["status"]["containerStatuses"][0]["ready"] == true, "{pod}");
    Ok(pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
}

fn another(fleet: &Fleet<'_>, former: &str) -> Outcome<String> {
    let pod = running(fleet, "hog")?;
    ensure!(pod != former, "{former} is still there");
    Ok(pod)
}

fn daemon(name: &str, script: &str) -> String {
    let mount = "  volumeMounts: [{name: cache, mountPath: /cache}]\n";
    DaemonSet {
        name,
        template: "annotations:\n  everynode.dev/require-limits: 'true'\n",
        pod: "volumes: [{name: cache, emptyDir: {sizeLimit: 4Mi}}]\n",
        containers: &(manifests::script("main", script) + mount),
        ..DaemonSet::default()
    }
    .to_string()
}
