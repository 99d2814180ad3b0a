//! Real programs of this machine behind a runtime that does nothing else than to start them.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use everynode_agent_core::{Found, PodRef};
use everynode_model::{ClusterId, PodKey};
use everynode_proto::credit::WINDOW;
use everynode_runtime::{
    CreateError, CreateRequest, ExecRequest, KillError, ListError, RemoveError, StartError,
    TerminateError,
};
use futures_util::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use super::*;
use crate::streams::target::tests::target;

/// How long a program may take in a test before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs programs on this machine. Whoever waits no longer kills them, as the real one does.
#[derive(Default)]
struct Host {
    /// By whom each was ended at last, as its parent sees it.
    ended: Arc<Mutex<Vec<Exit>>>,
    /// Whether nobody sees how they end.
    blind: bool,
}

struct KillOnDrop(Option<Pid>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Runtime for Host {
    fn name(&self) -> &'static str {
        "process"
    }

    fn exec<'a>(
        &'a self,
        _: &'a PodRef,
        _: &'a str,
        request: ExecRequest,
    ) -> BoxFuture<'a, Result<Executed, ExecError>> {
        let ExecRequest { argv, stdin, stdout, stderr, .. } = request;
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).stdin(Stdio::from(stdin));
        let mut child =
            command.stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr)).spawn().unwrap();
        // It has copies of our descriptors for as long as it lives.
        drop(command);
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        let (say, told) = oneshot::channel();
        let ended = Arc::clone(&self.ended);
        std::thread::spawn(move || {
            let status = child.wait().unwrap();
            let exit = match (status.code(), status.signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::Unknown,
            };
            ended.lock().unwrap().push(exit);
            let _ = say.send(exit);
        });
        let guard = KillOnDrop(pid);
        Box::pin(async move {
            let exit = told.await.unwrap();
            // It is gone, and its id may be another's by now.
            std::mem::forget(guard);
            Ok(Executed { exit: if self.blind { Exit::Unknown } else { exit }, timed_out: false })
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, ListError>> {
        unreachable!()
    }

    fn create(&self, _: CreateRequest) -> BoxFuture<'_, Result<(), CreateError>> {
        unreachable!()
    }

    fn start<'a>(&'a self, _: &'a PodRef, _: &'a str) -> BoxFuture<'a, Result<u32, StartError>> {
        unreachable!()
    }

    fn terminate<'a>(&'a self, _: &'a PodRef) -> BoxFuture<'a, Result<(), TerminateError>> {
        unreachable!()
    }

    fn close<'a>(&'a self, _: &'a PodRef) -> BoxFuture<'a, Result<(), TerminateError>> {
        unreachable!()
    }

    fn stop<'a>(&'a self, _: &'a PodRef, _: &'a str) -> BoxFuture<'a, Result<(), TerminateError>> {
        unreachable!()
    }

    fn kill_container<'a>(
        &'a self,
        _: &'a PodRef,
        _: &'a str,
    ) -> BoxFuture<'a, Result<(), KillError>> {
        unreachable!()
    }

    fn kill<'a>(
        &'a self,
        _: &'a PodKey,
        _: &'a BTreeSet<ClusterId>,
    ) -> BoxFuture<'a, Result<(), KillError>> {
        unreachable!()
    }

    fn kill_pod<'a>(
        &'a self,
        _: &'a PodRef,
        _: &'a BTreeSet<ClusterId>,
    ) -> BoxFuture<'a, Result<(), KillError>> {
        unreachable!()
    }

    fn remove<'a>(&'a self, _: &'a PodRef) -> BoxFuture<'a, Result<(), RemoveError>> {
        unreachable!()
    }
}

/// A program that was asked for.
struct Asked {
    inlet: Option<Inlet>,
    pieces: mpsc::Receiver<Piece>,
    run: tokio::task::JoinHandle<Result<How, Reason>>,
}

fn ask(host: Host, script: &str, options: v1::ExecOptions) -> Asked {
    let command = ["sh", "-c", script].map(str::to_owned).into();
    let options = v1::ExecOptions { command, ..options };
    let (inlet, outlet) = input(&options);
    let (say, pieces) = mpsc::channel(1);
    let job = Job { target: target(), options };
    let turns = Arc::new(Semaphore::new(1));
    Asked { inlet, pieces, run: tokio::spawn(run(job, Arc::new(host), turns, outlet, say)) }
}

fn with_input() -> v1::ExecOptions {
    v1::ExecOptions { stdin: true, ..Default::default() }
}

impl Asked {
    /// What both outputs had, and how it ended.
    async fn all(mut self) -> (String, String, Result<i32, String>) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let pieces = async {
            while let Some(piece) = self.pieces.recv().await {
                match piece {
                    Piece::Stdout(data) => out.extend(data),
                    Piece::Stderr(data) => err.extend(data),
                    Piece::End(_) => panic!("its end is told by whoever ran it"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, pieces).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(out), text(err), how(self.run.await.unwrap()))
    }
}

fn how(ended: Result<How, Reason>) -> Result<i32, String> {
    ended.map_err(|reason| reason.code).map(|how| match how {
        How::Exited(v1::Exited { code }) => code,
        other => panic!("{other:?}"),
    })
}

#[tokio::test]
async fn both_outputs_are_told_apart_and_the_exit_code_is_its_own() {
    let asked = ask(Host::default(), "echo out; echo err >&2; exit 3", Default::default());
    assert_eq!(asked.all().await, ("out\n".into(), "err\n".into(), Ok(3)));
    // More than a pipe has room for, read to its end.
    let asked = ask(Host::default(), "head -c 300000 /dev/zero | tr '\\0' x", Default::default());
    let (out, _, ended) = asked.all().await;
    assert_eq!((out.len(), ended), (300_000, Ok(0)));
}

#[tokio::test]
async fn a_signal_is_128_and_its_number() {
    for (signal, code) in [("KILL", 137), ("TERM", 143)] {
        let asked = ask(Host::default(), &format!("kill -{signal} $$"), Default::default());
        assert_eq!(asked.all().await.2, Ok(code));
    }
    let blind = Host { blind: true, ..Host::default() };
    assert_eq!(ask(blind, "exit 0", Default::default()).all().await.2, Err("ExitUnknown".into()));
}

#[tokio::test]
async fn without_input_it_reads_nothing() {
    let (inlet, outlet) = input(&v1::ExecOptions::default());
    assert!(inlet.is_none() && outlet.is_none());
    assert_eq!(ask(Host::default(), "cat; echo end", Default::default()).all().await.0, "end\n");
    let (inlet, outlet) = input(&v1::ExecOptions { tty: true, ..Default::default() });
    assert!(inlet.is_some() && outlet.is_some(), "a terminal is typed at");
}

#[tokio::test]
async fn input_is_granted_as_the_program_takes_it_and_has_an_end() {
    let mut asked = ask(Host::default(), "read line; echo got $line; cat", with_input());
    let mut inlet = asked.inlet.take().unwrap();
    assert!(inlet.take(b"too early".to_vec()).is_err(), "nothing was granted");
    let granted = inlet.grant().unwrap();
    assert_eq!(granted, WINDOW);
    inlet.take(b"one\n".to_vec()).unwrap();
    let first = tokio::time::timeout(PATIENCE, asked.pieces.recv()).await.unwrap();
    assert!(matches!(first, Some(Piece::Stdout(data)) if data == b"got one\n"));
    // What it has taken is granted again, once that is worth a message.
    let half = vec![b'x'; everynode_proto::credit::MAX_PIECE];
    let mut sent = 4;
    while sent < WINDOW as usize / 2 {
        inlet.take(half.clone()).unwrap();
        sent += half.len();
        // Its output is not read: it is taken none the less as long as there is room for it.
        let piece = async {
            tokio::select! {
                () = inlet.taken() => {}
                _ = asked.pieces.recv() => {}
            }
        };
        tokio::time::timeout(PATIENCE, piece).await.unwrap();
    }
    inlet.end();
    let (out, _, ended) = asked.all().await;
    assert_eq!(ended, Ok(0), "its input has ended: {} bytes came last", out.len());
}

#[tokio::test]
async fn whoever_stops_listening_hangs_up() {
    // It sees the end of its input, and may end in order.
    let host = Host::default();
    let ended = Arc::clone(&host.ended);
    let asked = ask(host, "trap '' PIPE; cat; exit 5", with_input());
    drop(asked.pieces);
    let run = tokio::time::timeout(PATIENCE, asked.run).await.unwrap().unwrap();
    assert_eq!(how(run), Ok(5));
    assert_eq!(*ended.lock().unwrap(), [Exit::Code(5)]);
}

#[tokio::test(start_paused = true)]
async fn what_goes_on_unheard_is_killed() {
    let host = Host::default();
    let ended = Arc::clone(&host.ended);
    let asked = ask(host, "exec sleep 100000", with_input());
    let began = tokio::time::Instant::now();
    drop(asked.pieces);
    assert_eq!(how(asked.run.await.unwrap()), Err("ExitUnknown".into()));
    assert_eq!(began.elapsed(), HANGUP);
    // Seen by its parent, which is a thread of its own and on no pretended clock.
    let deadline = std::time::Instant::now() + PATIENCE;
    while ended.lock().unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "it lives on");
        std::thread::yield_now();
    }
    assert_eq!(*ended.lock().unwrap(), [Exit::Signal(9)]);
}

#[tokio::test]
async fn who_has_its_output_open_after_its_end_is_not_waited_for() {
    let began = std::time::Instant::now();
    let asked = ask(Host::default(), "sleep 20 & echo $!; exit 0", Default::default());
    let (out, _, ended) = asked.all().await;
    let left = Pid::from_raw(out.trim().parse().unwrap()).unwrap();
    let lives = kill_process(left, Signal::KILL);
    assert_eq!((ended, lives), (Ok(0), Ok(())), "after {:?}", began.elapsed());
}

#[tokio::test]
async fn only_so_many_at_a_time() {
    let job = Job { target: target(), options: v1::ExecOptions::default() };
    let (say, _pieces) = mpsc::channel(1);
    let none = Arc::new(Semaphore::new(0));
    let refused = run(job, Arc::new(Host::default()), none, None, say).await.unwrap_err();
    assert_eq!(refused.code, "TooManyExecs");
    assert_eq!(denied().code, "ExecDenied");
}
