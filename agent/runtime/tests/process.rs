//! Pods of real processes in real cgroups: the contract in both ways of stopping and starting, and
//! what only this runtime promises. Needs a writable cgroup v2 hierarchy; says so and passes
//! without one.

mod bed;
mod confine;
mod limits;
mod lives;

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use everynode_agent_core::{ContainerSpec, PodSpec};
use everynode_model::{Exit, LogTail};
use everynode_runtime::contract::{self, Does, Factory as _, Machine, exited, request};
use everynode_runtime::process::ProcessRuntime;
use everynode_runtime::{KillError, OpenError, RuntimeEvent, StartError};

use bed::{Bed, gone, pids, shell, spec_of};

#[tokio::test]
async fn the_contract_on_this_kernel() {
    let Some(bed) = Bed::new(false) else { return };
    contract::every_case(&bed).await;
    bed.is_clean();
}

#[tokio::test]
async fn the_contract_on_an_old_kernel() {
    let Some(bed) = Bed::new(true) else { return };
    contract::every_case(&bed).await;
    bed.is_clean();
}

/// It may be raised by anybody; who may not lower it starts all the same.
#[tokio::test]
async fn who_is_killed_first_for_memory_is_as_asked() {
    let own: i16 = fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let containers = [("first", Some(1000)), ("last", Some(-997)), ("as-it-is", None)];
    let containers = containers.map(|(name, oom_score)| ContainerSpec {
        oom_score,
        ..shell(name, "cat /proc/self/oom_score_adj")
    });
    let pod = machine.create(request("scores", spec_of(containers))).await;
    let last = if everynode_runtime::lowers_oom_scores() { -997 } else { own };
    for (name, expected) in [("first", 1000), ("last", last), ("as-it-is", own)] {
        assert_eq!(bed::run(&mut machine, &bed, &pod, name).await, [expected.to_string()]);
    }
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn environment_directory_user_and_output_are_as_asked() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let mut env = shell("env", "");
    env.argv = vec!["/usr/bin/env".to_owned()];
    env.env = [("A", "1"), ("B", "x y"), ("A", "2")].map(|(k, v)| (k.into(), v.into())).to_vec();
    let mut who = shell(
        "who",
        "pwd; id -u; id -g; id -G; umask; grep NoNewPrivs /proc/self/status; echo to >/dev/stderr",
    );
    who.working_dir = Some("/usr".to_owned());
    who.security.user = Some(65534);
    who.security.group = Some(65533);
    who.security.no_new_privs = true;
    let pod = machine.create(request("exact", spec_of([env, who]))).await;
    for name in ["env", "who"] {
        if name == "who" && bed::ordinary_user() {
            // Less confined than asked is not run at all.
            let error = machine.runtime.start(&pod, name).await.unwrap_err();
            assert!(error.to_string().contains("set supplementary groups"), "{error}");
            return;
        }
        machine.start(&pod, name).await;
        machine.expect(exited(&pod, name, Exit::Code(0))).await;
    }
    // An exit is told after the last line is written.
    assert_eq!(bed.log(&pod, "env"), ["stdout F A=2", "stdout F B=x y"]);
    let mut said = bed.log(&pod, "who");
    said.sort();
    let expected = [
        "stderr F to",
        "stdout F /usr",
        "stdout F 0022",
        "stdout F 65533",
        "stdout F 65533",
        "stdout F 65534",
        "stdout F NoNewPrivs:\t1",
    ];
    assert_eq!(said, expected);
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn what_a_run_printed_last_is_told_with_its_end_and_to_the_next_agent() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    // The second run prints something else, and goes on.
    let once = "if mkdir ran 2>&-; then echo one; echo two >&2; exit 3; fi; echo again; sleep 1000";
    let mut main = shell("main", once);
    let directory = tempfile::tempdir().unwrap();
    main.working_dir = directory.path().to_str().map(str::to_owned);
    let pod = machine.create(request("evidence", spec_of([main]))).await;
    machine.start(&pod, "main").await;
    let printed = |text: &str| RuntimeEvent::Printed {
        pod: pod.clone(),
        container: "main".into(),
        log_tail: LogTail::of(text),
    };
    assert_eq!(machine.next_of_all().await, exited(&pod, "main", Exit::Code(3)));
    let RuntimeEvent::Printed { log_tail, .. } = machine.next_of_all().await else { panic!() };
    let mut lines: Vec<_> = log_tail.as_str().lines().collect();
    // Two pipes: which is read first is not said.
    lines.sort_unstable();
    assert_eq!(lines, ["one", "two"]);
    machine.start(&pod, "main").await;
    bed::until(|| bed.log(&pod, "main") == ["stdout F again"]).await;
    drop(machine);
    let mut machine = Machine::open(&bed).await;
    assert!(machine.found(&pod).await.is_some());
    assert_eq!(machine.next_of_all().await, printed(log_tail.as_str()), "of the run that failed");
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn a_container_inherits_nothing() {
    for old_kernel in [false, true] {
        let Some(bed) = Bed::new(old_kernel) else { return };
        let mut machine = Machine::open(&bed).await;
        let spec = spec_of([bed.container("a", Does::Run)]);
        let pod = machine.create(request("clean", spec)).await;
        let pid = machine.start(&pod, "a").await;
        // The loader has its own open for a moment; what was inherited would stay.
        bed::until(|| bed::fds(pid) == ["0", "1", "2"]).await;
        assert_eq!(fs::read_link(format!("/proc/{pid}/fd/0")).unwrap().to_str(), Some("/dev/null"));
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for mask in ["SigBlk", "SigIgn", "SigCgt"] {
            assert!(status.contains(&format!("{mask}:\t0000000000000000")), "{status}");
        }
        // Its own session, and its leaf.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        assert_eq!(stat.split(' ').nth(5), Some(pid.to_string().as_str()));
        let leaf = bed.pod_cgroup(&pod).join("c-a");
        assert_eq!(pids(&leaf), [pid]);
        machine.end(&pod).await;
        bed.is_clean();
    }
}

#[tokio::test]
async fn a_lost_supervisor_is_told_and_its_containers_are_still_counted() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let first = request("lost", spec_of([bed.container("a", Does::Run)]));
    let pod = machine.create(first.clone()).await;
    let pid = machine.start(&pod, "a").await;
    let shim = bed.shim_of(&pod);
    bed::kill(shim, "KILL");
    machine.expect(RuntimeEvent::SupervisorLost(pod.clone())).await;
    gone(shim).await;
    let found = machine.found(&pod).await.unwrap();
    assert!(found.populated && found.supervised.is_none());
    assert!(fs::exists(format!("/proc/{pid}")).unwrap(), "the container goes on");
    assert!(machine.runtime.start(&pod, "a").await.unwrap_err().in_doubt());
    assert!(machine.runtime.terminate(&pod).await.is_err());
    let mut second = first;
    second.pod.uid = contract::request("x", second.spec.clone()).pod.uid;
    assert!(machine.runtime.create(second.clone()).await.unwrap_err().in_doubt());
    machine.end(&pod).await;
    let pod = machine.create(second).await;
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn a_supervisor_that_hangs_is_listed_as_silent_until_it_answers() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let spec = spec_of([bed.container("a", Does::Run), bed.container("b", Does::Exit(4))]);
    let pod = machine.create(request("hangs", spec)).await;
    let pid = machine.start(&pod, "a").await;
    let shim = bed.shim_of(&pod);
    bed::kill(shim, "STOP");
    let mut machine = machine.reopen().await;
    let found = machine.found(&pod).await.unwrap();
    assert!(found.populated && found.silent && found.supervised.is_none());
    bed::kill(shim, "CONT");
    let RuntimeEvent::Answered(answered) = machine.next().await else { panic!("it is there") };
    assert!(!answered.silent);
    assert_eq!(answered.supervised.unwrap().containers[0].pid, Some(pid), "nothing was touched");
    machine.start(&pod, "b").await;
    machine.expect(exited(&pod, "b", Exit::Code(4))).await;
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn a_supervisor_that_dies_in_silence_is_lost() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let pod = machine.create(request("silent", spec_of([bed.container("a", Does::Run)]))).await;
    machine.start(&pod, "a").await;
    let shim = bed.shim_of(&pod);
    bed::kill(shim, "STOP");
    let mut machine = machine.reopen().await;
    assert!(machine.found(&pod).await.unwrap().silent);
    bed::kill(shim, "KILL");
    machine.expect(RuntimeEvent::SupervisorLost(pod.clone())).await;
    assert!(!machine.found(&pod).await.unwrap().silent);
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn a_slow_supervisor_is_not_lost_and_does_what_it_was_asked() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let spec = spec_of([bed.container("a", Does::Run), bed.container("b", Does::Run)]);
    let pod = machine.create(request("slow", spec)).await;
    let a = machine.start(&pod, "a").await;
    let shim = bed.shim_of(&pod);
    bed::kill(shim, "STOP");
    let error = machine.runtime.start(&pod, "b").await.unwrap_err();
    assert!(matches!(error, StartError::Silent(_)) && !error.in_doubt(), "{error}");
    bed::kill(shim, "CONT");
    let RuntimeEvent::Started { container, .. } = machine.next().await else { panic!("late") };
    assert_eq!(container, "b");
    assert!(machine.runtime.start(&pod, "b").await.is_err(), "it runs, once");
    let supervised = machine.supervised(&pod).await;
    assert_eq!(supervised.containers[0].pid, Some(a));
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn a_supervisor_that_nobody_can_reach_is_no_silent_one() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let pod =
        machine.create(request("unreachable", spec_of([bed.container("a", Does::Run)]))).await;
    fs::remove_file(bed.run_dir().join(pod.uid.to_string()).join("shim.sock")).unwrap();
    let mut machine = machine.reopen().await;
    let found = machine.found(&pod).await.unwrap();
    assert!(found.populated && !found.silent && found.supervised.is_none());
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn what_pods_of_an_earlier_boot_left_is_removed() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let pod = machine.create(request("stays", spec_of([bed.container("a", Does::Run)]))).await;
    machine.start(&pod, "a").await;
    let of_earlier =
        bed.run_dir().join(request("gone", spec_of([shell("a", "")])).pod.uid.to_string());
    let of_others = bed.run_dir().join("others");
    fs::create_dir_all(of_earlier.join("logs")).unwrap();
    fs::create_dir(&of_others).unwrap();
    let mut machine = machine.reopen().await;
    assert!(machine.found(&pod).await.unwrap().supervised.is_some());
    assert!(!of_earlier.exists() && of_others.exists());
    fs::remove_dir(of_others).unwrap();
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn one_that_hangs_can_be_killed() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let pod = machine.create(request("hanging", spec_of([bed.container("a", Does::Run)]))).await;
    machine.start(&pod, "a").await;
    bed::kill(bed.shim_of(&pod), "STOP");
    machine.runtime.kill(&pod.key, &[contract::marks().cluster].into()).await.unwrap();
    machine.expect(RuntimeEvent::PlaceEmpty(pod.key.clone())).await;
    machine.runtime.remove(&pod).await.unwrap();
    bed.is_clean();
}

#[tokio::test]
async fn a_broken_connection_is_mended_and_nothing_is_missed() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let spec = spec_of([bed.container("a", Does::Run), bed.container("b", Does::Run)]);
    let pod = machine.create(request("mended", spec)).await;
    let pid = machine.start(&pod, "a").await;
    for _ in 0..3 {
        // Whoever connects takes the agent's place: it loses its connection.
        let intruder = bed.connect(&pod);
        // In between, or after it is back: told once in either case.
        let b = machine.start(&pod, "b").await;
        bed::kill(b, "KILL");
        machine.expect(exited(&pod, "b", Exit::Signal(9))).await;
        drop(intruder);
    }
    bed::kill(pid, "TERM");
    machine.expect(exited(&pod, "a", Exit::Signal(15))).await;
    let intruder = bed.connect(&pod);
    machine.runtime.terminate(&pod).await.unwrap();
    machine.expect(RuntimeEvent::PlaceEmpty(pod.key.clone())).await;
    drop(intruder);
    machine.runtime.remove(&pod).await.unwrap();
    bed.is_clean();
}

#[tokio::test]
async fn a_signal_to_the_supervisor_is_no_order() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let spec = spec_of([bed.container("a", Does::Run), bed.container("b", Does::Exit(6))]);
    let pod = machine.create(request("signals", spec)).await;
    let pid = machine.start(&pod, "a").await;
    for signal in ["HUP", "INT", "TERM"] {
        bed::kill(bed.shim_of(&pod), signal);
        machine.start(&pod, "b").await;
        machine.expect(exited(&pod, "b", Exit::Code(6))).await;
    }
    let supervised = machine.supervised(&pod).await;
    assert!(!supervised.terminating);
    assert_eq!(supervised.containers[0].pid, Some(pid));
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn a_run_has_a_leaf_of_its_own_also_after_one_that_could_not_be_made() {
    for old_kernel in [false, true] {
        let Some(bed) = Bed::new(old_kernel) else { return };
        let mut machine = Machine::open(&bed).await;
        let pod = machine.create(request("leaf", spec_of([bed.container("a", Does::Die)]))).await;
        let leaf = bed.pod_cgroup(&pod).join("c-a");
        for _ in 0..3 {
            machine.start(&pod, "a").await;
            machine.expect(exited(&pod, "a", Exit::Signal(9))).await;
            // As after a start that removed it and could not make it again.
            fs::remove_dir(&leaf).unwrap();
        }
        machine.end(&pod).await;
        bed.is_clean();
    }
}

#[tokio::test]
async fn an_escaped_daemon_is_still_in_the_place() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let script = "trap '' TERM; (setsid sh -c 'sleep 100000 & sleep 100000' & ); \
                  while :; do sleep 100000; done";
    let pod = machine.create(request("daemon", spec_of([shell("a", script)]))).await;
    let pid = machine.start(&pod, "a").await;
    let leaf = bed.pod_cgroup(&pod).join("c-a");
    // The shell, its sleep; the daemon's shell and its two.
    bed::until(|| pids(&leaf).len() == 5).await;
    machine.runtime.terminate(&pod).await.unwrap();
    assert!(pids(&leaf).contains(&pid));
    assert_eq!(pids(&leaf).len(), 5, "SIGTERM is for the first process, which ignores it");
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn what_the_first_process_leaves_behind_is_dead_before_its_end_is_told() {
    for old_kernel in [false, true] {
        let Some(bed) = Bed::new(old_kernel) else { return };
        let mut machine = Machine::open(&bed).await;
        let script = "setsid sh -c \"trap '' TERM HUP; sleep 100000\" & exit 5";
        let pod = machine.create(request("leftovers", spec_of([shell("a", script)]))).await;
        let leaf = bed.pod_cgroup(&pod).join("c-a");
        for _ in 0..3 {
            machine.start(&pod, "a").await;
            machine.expect(exited(&pod, "a", Exit::Code(5))).await;
            assert_eq!(pids(&leaf), [0_u32; 0]);
        }
        machine.end(&pod).await;
        bed.is_clean();
    }
}

#[tokio::test]
async fn what_never_stops_forking_is_killed() {
    for old_kernel in [false, true] {
        let Some(bed) = Bed::new(old_kernel) else { return };
        let mut machine = Machine::open(&bed).await;
        // Each generation ends as soon as it has made the next: no list of ids stays true.
        let family = r#"F='sh -c "$0" "$0" &'; sh -c "$F" "$F""#;
        let script = format!("{family}; {family}; {family}; exec sleep 100000");
        let pod = machine.create(request("forks", spec_of([shell("a", &script)]))).await;
        machine.start(&pod, "a").await;
        machine.end(&pod).await;
        bed.is_clean();
    }
}

#[tokio::test]
async fn a_stranger_in_a_place_is_seen_and_not_touched() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let request = request("strange", PodSpec { ..spec_of([bed.container("a", Does::Run)]) });
    let place = bed.place_cgroup(&request.pod.key);
    let odd = place.join("odd");
    fs::create_dir_all(&odd).unwrap();
    let mut stranger = Command::new("sleep").arg("100000").process_group(0).spawn().unwrap();
    fs::write(odd.join("cgroup.procs"), stranger.id().to_string()).unwrap();
    let found = machine.runtime.list().await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].populated && found[0].pod.is_none() && found[0].marks.is_none());
    assert!(machine.runtime.create(request.clone()).await.unwrap_err().in_doubt());
    let error =
        machine.runtime.kill(&request.pod.key, &[request.marks.cluster].into()).await.unwrap_err();
    assert!(error.ours_gone());
    assert!(matches!(error, KillError::NotOurs(path) if path == odd));
    assert_eq!(pids(&odd), [stranger.id()]);
    // Its end is told: the place was found with something in it. Its zombie is no life.
    stranger.kill().unwrap();
    machine.expect(RuntimeEvent::PlaceEmpty(request.pod.key.clone())).await;
    stranger.wait().unwrap();
    fs::remove_dir(odd).unwrap();
    let pod = machine.create(request).await;
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn a_supervisor_that_is_stopped_is_told_silent_and_heard_again() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let pod = machine.create(request("stopped", spec_of([bed.container("a", Does::Run)]))).await;
    let pid = machine.start(&pod, "a").await;
    let shim = bed.shim_of(&pod);
    bed::kill(shim, "STOP");
    machine.expect(RuntimeEvent::SupervisorSilent(pod.clone())).await;
    bed::kill(pid, "KILL");
    bed::kill(shim, "CONT");
    machine.expect(RuntimeEvent::SupervisorHeard(pod.clone())).await;
    machine.expect(exited(&pod, "a", Exit::Signal(9))).await;
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn a_disk_that_takes_nothing_keeps_no_pod_from_coming_back() {
    let Some(bed) = Bed::new(false) else { return };
    let Some(disk) = bed::Mounted::full(&bed.run_dir()) else { return };
    let mut machine = Machine::open(&bed).await;
    let script = "while :; do echo line; sleep 0.05; done";
    let pod = machine.create(request("full", spec_of([shell("a", script)]))).await;
    let pid = machine.start(&pod, "a").await;
    // An agent that comes later finds it there.
    let mut machine = machine.reopen().await;
    assert!(machine.found(&pod).await.unwrap().supervised.is_some());
    assert!(fs::exists(format!("/proc/{pid}")).unwrap());
    // Logs go where they belong as soon as there is room.
    disk.make_room();
    let log = bed.run_dir().join(pod.uid.to_string()).join("logs/a.log");
    bed::until(|| fs::read_to_string(&log).is_ok_and(|text| text.contains("stdout F line"))).await;
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("lines dropped, the disk took none"), "{text}");
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn a_second_agent_is_refused_and_a_dead_ones_lock_is_free() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    // A living supervisor must not hold the lock for the agent that made it.
    let pod = machine.create(request("lock", spec_of([bed.container("a", Does::Run)]))).await;
    let refused = ProcessRuntime::open(bed.config()).await.err().unwrap();
    assert!(matches!(refused, OpenError::AnotherAgent(_)), "{refused}");
    let mut machine = machine.reopen().await;
    assert!(machine.found(&pod).await.unwrap().supervised.is_some());
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn what_cannot_be_created_leaves_nothing() {
    let Some(bed) = Bed::new(false) else { return };
    let mut config = bed.config();
    // A supervisor that ends at once, and one that is not there.
    for command in ["/bin/true", "/nonexistent/agent"] {
        config.shim_command = vec![command.into()];
        let (runtime, _events) = ProcessRuntime::open(config.clone()).await.unwrap();
        let runtime: &dyn everynode_runtime::Runtime = &runtime;
        let spec = spec_of([bed.container("a", Does::Run)]);
        let error = runtime.create(request("never", spec)).await.unwrap_err();
        assert!(error.retry() && !error.in_doubt(), "{error}");
        let mut twice = spec_of([shell("a", "x"), shell("a", "y")]);
        let error = runtime.create(request("never", twice.clone())).await.unwrap_err();
        assert!(!error.retry() && !error.in_doubt(), "{error}");
        twice.containers.truncate(1);
        twice.containers[0].argv.clear();
        let error = runtime.create(request("never", twice)).await.unwrap_err();
        assert_eq!(error.reason().code, "CreateContainerConfigError");
        bed.is_clean();
    }
}

#[test]
fn a_supervisor_does_nothing_without_its_whole_specification() {
    let script = "exec \"$0\" shim 3</dev/null 4</dev/null";
    let ended = Command::new("sh").args(["-c", script, bed::SHIM]).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let words = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(words, "everynode-shim: incomplete specification\n");
}
