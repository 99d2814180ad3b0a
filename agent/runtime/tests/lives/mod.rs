//! What is run in a container of real processes, and how one is told to end.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "for tests")]

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use everynode_agent_core::PodRef;
use everynode_model::Exit;
use everynode_runtime::contract::{Does, Factory as _, Machine, exited, request};
use everynode_runtime::{
    Captured, Ends, ExecError, ExecRequest, MAX_OUTPUT, Reader, WindowSize, by_pipes, by_terminal,
    capture,
};

use crate::bed::{self, Bed, gone, pids, shell, spec_of};

/// Runs a script in the container `main`.
async fn run(machine: &Machine<'_>, pod: &PodRef, script: &str) -> Captured {
    let timeout = Some(Duration::from_secs(20));
    let argv = shell("", script).argv;
    capture(&*machine.runtime, pod, "main", argv, timeout).await.unwrap()
}

fn text(captured: &Captured) -> &str {
    str::from_utf8(&captured.output).unwrap()
}

#[tokio::test]
async fn a_program_is_run_as_its_container_is() {
    for old_kernel in [false, true] {
        let Some(bed) = Bed::new(old_kernel) else { return };
        if bed::ordinary_user() {
            return eprintln!("skipped: no other user can be set");
        }
        let mut machine = Machine::open(&bed).await;
        let mut main = bed.container("main", Does::Run);
        main.env = vec![("A".into(), "1".into()), ("PATH".into(), "/usr/bin:/bin".into())];
        main.working_dir = Some("/usr".into());
        main.security.user = Some(65534);
        main.security.group = Some(65533);
        main.security.no_new_privs = true;
        let pod = machine.create(request("exact", spec_of([main]))).await;
        let pid = machine.start(&pod, "main").await;
        let script = "pwd; id -u; id -G; env | grep -c ^A=1; grep NoNewPrivs /proc/self/status; \
                      cat; echo to >/dev/stderr; ls /proc/self/fd | tr '\\n' ' '";
        let captured = run(&machine, &pod, script).await;
        // ls has the directory itself open.
        let expected = "/usr\n65534\n65533\n1\nNoNewPrivs:\t1\nto\n0 1 2 3 ";
        assert_eq!(text(&captured), expected);
        // In a cgroup of its own inside the container's, which is gone with it.
        let captured = run(&machine, &pod, "cat /proc/self/cgroup").await;
        assert!(
            text(&captured).lines().any(|line| line.ends_with("/c-main/exec-2")),
            "{captured:?}"
        );
        let leaf = bed.pod_cgroup(&pod).join("c-main");
        assert_eq!(pids(&leaf), [pid]);
        assert!(!leaf.join("exec-2").exists());
        machine.end(&pod).await;
        bed.is_clean();
    }
}

#[tokio::test]
async fn of_what_it_prints_a_bound_is_kept_and_nobody_waits() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let pod = machine.create(request("loud", spec_of([bed.container("main", Does::Run)]))).await;
    machine.start(&pod, "main").await;
    let captured = run(&machine, &pod, "head -c 1000000 /dev/zero | tr '\\0' x; exit 3").await;
    assert_eq!(captured.executed.exit, Exit::Code(3));
    assert_eq!(captured.output, vec![b'x'; MAX_OUTPUT]);
    // One that closes its outputs is waited for all the same.
    let captured = run(&machine, &pod, "exec >&- 2>&-; sleep 0.1; exit 4").await;
    assert_eq!((captured.executed.exit, text(&captured)), (Exit::Code(4), ""));
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn no_more_are_run_at_once_than_a_supervisor_looks_after() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let pod = machine.create(request("many", spec_of([bed.container("main", Does::Run)]))).await;
    machine.start(&pod, "main").await;
    let argv = || shell("", "exec sleep 100000").argv;
    let runs = || capture(&*machine.runtime, &pod, "main", argv(), None);
    let mut running = futures_util::stream::FuturesUnordered::new();
    for number in 1..=64 {
        running.push(runs());
        tokio::select! {
            ended = futures_util::StreamExt::next(&mut running) => panic!("{ended:?}"),
            () = bed::until(|| alive(&bed, &pod).len() == 1 + number) => {}
        }
    }
    let refused = tokio::time::timeout(Duration::from_secs(30), runs()).await;
    let refused = refused.expect("one too many runs");
    let Err(ExecError::Refused(reason)) = refused else { panic!("{refused:?}") };
    assert_eq!(reason.code, "TooManyExecs");
    drop(running);
    bed::until(|| alive(&bed, &pod).len() == 1).await;
    assert_eq!(text(&run(&machine, &pod, "echo again").await), "again\n");
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn what_it_leaves_behind_is_dead_before_its_end_is_told() {
    for old_kernel in [false, true] {
        let Some(bed) = Bed::new(old_kernel) else { return };
        let mut machine = Machine::open(&bed).await;
        let main = bed.container("main", Does::Run);
        let pod = machine.create(request("forks", spec_of([main]))).await;
        let pid = machine.start(&pod, "main").await;
        // By its end, and by its time being over.
        for (script, timeout, timed_out) in [
            ("setsid sleep 100000 & setsid sleep 100000 & echo $$", 20_000, false),
            ("setsid sleep 100000 & setsid sleep 100000 & echo $$; wait", 200, true),
        ] {
            let argv = shell("", script).argv;
            let timeout = Some(Duration::from_millis(timeout));
            let captured = capture(&*machine.runtime, &pod, "main", argv, timeout).await.unwrap();
            assert_eq!(captured.executed.timed_out, timed_out);
            assert_eq!(alive(&bed, &pod), BTreeSet::from([pid]));
        }
        machine.end(&pod).await;
        bed.is_clean();
    }
}

#[tokio::test]
async fn it_ends_when_nobody_waits_for_it_and_with_its_agent() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let pod = machine.create(request("alone", spec_of([bed.container("main", Does::Run)]))).await;
    let pid = machine.start(&pod, "main").await;
    let sleep = || shell("", "sleep 100000").argv;
    {
        let mut waiting = Box::pin(capture(&*machine.runtime, &pod, "main", sleep(), None));
        tokio::select! {
            _ = &mut waiting => panic!("it sleeps"),
            () = bed::until(|| alive(&bed, &pod).len() > 1) => {}
        }
    }
    bed::until(|| alive(&bed, &pod) == BTreeSet::from([pid])).await;
    let runtime = std::sync::Arc::clone(&machine.runtime);
    let at = pod.clone();
    let waiting = tokio::spawn(async move { capture(&*runtime, &at, "main", sleep(), None).await });
    bed::until(|| alive(&bed, &pod).len() > 1).await;
    // Another agent's connection takes the place of this one's.
    drop(bed.connect(&pod));
    let error = waiting.await.unwrap().unwrap_err();
    assert!(matches!(error, ExecError::Interrupted(_)), "{error}");
    bed::until(|| alive(&bed, &pod) == BTreeSet::from([pid])).await;
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn a_program_has_a_terminal_of_its_own() {
    let Some(bed) = Bed::new(false) else { return };
    if bed::ordinary_user() {
        return eprintln!("skipped: no other user can be set");
    }
    let mut machine = Machine::open(&bed).await;
    let mut main = bed.container("main", Does::Run);
    main.security.user = Some(65534);
    let pod = machine.create(request("tty", spec_of([main]))).await;
    machine.start(&pod, "main").await;
    // A shell's `trap` and `read` would miss a signal that comes between them.
    let script = "tty >/dev/null && echo at /dev/tty >/dev/tty; echo to stdout >/dev/stdout; \
                  stty size; perl -MPOSIX -e '$SIG{WINCH} = sub {}; $| = 1; \
                  sigprocmask(SIG_BLOCK, POSIX::SigSet->new(28)); print \"$ENV{TERM}\\n\"; \
                  sigsuspend(POSIX::SigSet->new)'; \
                  stty size; read word; echo got $word; exit 3";
    let size = WindowSize { columns: 100, rows: 30 };
    let (request, mut ends) = by_terminal(shell("", script).argv, size).unwrap();
    let talk = async {
        let printed = until_printed(&ends, "xterm\r\n").await;
        assert_eq!(printed, "at /dev/tty\r\nto stdout\r\n30 100\r\nxterm\r\n");
        let terminal = ends.terminal.clone().unwrap();
        terminal.resize(WindowSize { columns: 101, rows: 31 }).unwrap();
        assert_eq!(until_printed(&ends, "31 101\r\n").await, "31 101\r\n");
        ends.stdin.as_mut().unwrap().write_all(b"word\n").await.unwrap();
        until_printed(&ends, "got word\r\n").await;
        assert_eq!(ends.stdout.read(&mut [0; 64]).await.unwrap(), 0, "nobody has it open");
    };
    let (executed, ()) = tokio::join!(machine.runtime.exec(&pod, "main", request), talk);
    assert_eq!(executed.unwrap().exit, Exit::Code(3));

    // Who hangs up ends what ran there.
    let (request, ends) = by_terminal(shell("", "echo on; sleep 100000").argv, size).unwrap();
    let talk = async {
        until_printed(&ends, "on\r\n").await;
        drop(ends);
    };
    let (executed, ()) = tokio::join!(machine.runtime.exec(&pod, "main", request), talk);
    assert_eq!(executed.unwrap().exit, Exit::Signal(1));
    machine.end(&pod).await;
    bed.is_clean();
}

/// More than pipes hold goes in and comes out, each output by itself.
#[tokio::test]
async fn a_program_has_pipes_of_its_own() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let pod = machine.create(request("pipes", spec_of([bed.container("main", Does::Run)]))).await;
    machine.start(&pod, "main").await;
    let (request, ends) = by_pipes(shell("", "cat; echo done >&2").argv, true).unwrap();
    let Ends { stdin, stdout, stderr, .. } = ends;
    let sent: Vec<u8> =
        (0..750_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let write = async {
        stdin.unwrap().write_all(&sent).await.unwrap();
    };
    let stderr = stderr.unwrap();
    let run = machine.runtime.exec(&pod, "main", request);
    let (executed, (), out, err) = tokio::join!(run, write, all(&stdout), all(&stderr));
    assert_eq!(executed.unwrap().exit, Exit::Code(0));
    assert!(out == sent, "{} of {} bytes came back", out.len(), sent.len());
    assert_eq!(err, b"done\n");

    let (request, ends) = by_pipes(shell("", "cat; exec sleep 100000").argv, false).unwrap();
    drop(ends);
    let long = vec!["x".repeat(100_000)];
    let refused = machine.runtime.exec(&pod, "main", ExecRequest { argv: long, ..request }).await;
    let Err(ExecError::Refused(reason)) = refused else { panic!("{refused:?}") };
    assert_eq!(reason.code, "TooLong");
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn a_container_is_told_to_end_by_its_own_signal() {
    let Some(bed) = Bed::new(false) else { return };
    let mut machine = Machine::open(&bed).await;
    // SIGQUIT, and the lowest of those that have no name.
    let (quit, free) = (3, 34);
    let mut by_name = bed.container("quit", Does::Run);
    by_name.stop_signal = Some(quit);
    let mut by_number = bed.container("free", Does::Run);
    by_number.stop_signal = Some(free);
    let pod = machine.create(request("signal", spec_of([by_name, by_number]))).await;
    for (name, signal) in [("quit", quit), ("free", free)] {
        machine.start(&pod, name).await;
        machine.runtime.stop(&pod, name).await.unwrap();
        machine.expect(exited(&pod, name, Exit::Signal(signal))).await;
    }
    let pid = machine.start(&pod, "quit").await;
    machine.runtime.terminate(&pod).await.unwrap();
    machine.expect(exited(&pod, "quit", Exit::Signal(quit))).await;
    gone(pid).await;
    machine.end(&pod).await;
    bed.is_clean();
}

/// Those alive in the container `main` and below.
fn alive(bed: &Bed, pod: &PodRef) -> BTreeSet<u32> {
    let leaf = bed.pod_cgroup(pod).join("c-main");
    let below = fs::read_dir(&leaf).unwrap().map(|entry| entry.unwrap().path());
    let below = below.filter(|path| path.is_dir());
    let listed = |path: std::path::PathBuf| {
        let listed = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        listed.lines().map(|line| line.parse().unwrap()).collect::<Vec<u32>>()
    };
    below.chain([leaf.clone()]).flat_map(listed).collect()
}

/// Reads until that is there, for half a minute at most between two words; all that was read.
async fn until_printed(ends: &Ends, last: &str) -> String {
    let mut printed = String::new();
    let mut buffer = [0; 1024];
    while !printed.ends_with(last) {
        let reading = ends.stdout.read(&mut buffer);
        let length = tokio::time::timeout(Duration::from_secs(30), reading).await;
        let length = length.unwrap_or_else(|_| panic!("after {printed:?}")).unwrap();
        assert!(length > 0, "{printed:?}");
        printed.push_str(str::from_utf8(&buffer[..length]).unwrap());
    }
    printed
}

/// Reads to the end.
async fn all(reader: &Reader) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 32 * 1024];
    while let length @ 1.. = reader.read(&mut buffer).await.unwrap() {
        all.extend_from_slice(&buffer[..length]);
    }
    all
}
