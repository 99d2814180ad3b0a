//! What probes cost the agent: thousands a second of one machine, beside the same requests by a bare
//! client in the same run.
//!
//! Sixteen pods of 63 containers, each with two probes a second: readiness by HTTP, liveness by TCP,
//! and some of the first by a program. Whom they ask is this program (`serve`), and so is the bare
//! client (`ask`), which asks as often and does nothing else.

use std::path::Path;
use std::time::{Duration, Instant};

use everynode_tests::daemon::Daemon;
use everynode_tests::manifests::{DaemonSet, script};
use everynode_tests::proc::{resident, threads};
use everynode_tests::said::Said;
use everynode_tests::{Context as _, Fleet, Machine, Outcome, ensure, failure, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::samples::fraction;

const PODS: usize = 16;
/// The most that a pod may have is one more.
const CONTAINERS: usize = 63;
/// How many containers of the first pod are asked by a program.
const BY_PROGRAM: usize = 40;
const PORT: u16 = 9300;
/// For how long is measured, in seconds.
const SECONDS: u64 = 20;
/// All of them start.
const START: Duration = Duration::from_secs(180);

/// The rows of the table.
pub(crate) fn of(fleet: &Fleet<'_>) -> Outcome<Vec<String>> {
    let machine = fleet.machine("n1")?;
    let agent = machine.agent_pid().ok_or_else(|| failure!("no agent runs"))?;
    let _server = Daemon::start(this(machine, &["serve"])?, &fleet.path("served.log"))?;
    let (idle_threads, idle) = (threads(agent)?, resident(agent)?);
    for pod in 0..PODS {
        fleet.apply(&probed(pod))?;
    }
    wait::within(START, "all are ready", || {
        let rows = fleet.tool(&["get", "pods", "--no-headers"])?.ok()?;
        let all = format!("{CONTAINERS}/{CONTAINERS}");
        let ready = rows.lines().filter(|row| row.split_whitespace().nth(1) == Some(&all)).count();
        ensure!(ready == PODS, "{ready} of {PODS}");
        Ok(())
    })?;
    let (begun, used, asked) = (Instant::now(), cpu(agent)?, served(machine)?);
    let mut most = 0;
    while begun.elapsed().as_secs() < SECONDS {
        most = most.max(threads(agent)?);
        wait::idle(Duration::from_millis(200));
    }
    let asked = served(machine)? - asked;
    let agent_share = share(cpu(agent)? - used, begun);
    let per_second = asked / SECONDS;
    let words = ["ask", &per_second.to_string()];
    let bare = Said::by(this(machine, &words)?)?.ok()?;
    let bare: u64 = bare.trim().parse().map_err(|_| failure!("the client said {bare:?}"))?;
    let bare_share = fraction(bare, SECONDS * 10_000);
    let containers = PODS * CONTAINERS;
    Ok(vec![
        format!(
            "probes of {containers} containers: {per_second}/s by HTTP and TCP, {BY_PROGRAM}/s programs"
        ),
        format!(
            "  processor: agent {agent_share:.1} %, the same requests by a bare client {bare_share:.1} %, ratio {:.1}",
            agent_share / bare_share
        ),
        format!(
            "  threads of the agent: {idle_threads} before there was a pod, at most {most} now"
        ),
        format!("  resident: {idle} KiB before there was a pod, {} KiB now", resident(agent)?),
    ])
}

/// What this program is, when it is not the one that measures; `None` where it is.
pub(crate) fn other_half(words: &[String]) -> Option<std::io::Result<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match words {
        [word] if word == "serve" => Some(runtime.and_then(|runtime| runtime.block_on(serve()))),
        [word, rate] if word == "ask" => {
            let rate = rate.parse().unwrap_or(1);
            Some(runtime.and_then(|runtime| runtime.block_on(ask(rate))))
        }
        _ => None,
    }
}

/// Answers every request with how many connections there were.
async fn serve() -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", PORT)).await?;
    let mut count = 0_u64;
    loop {
        let (mut stream, _) = listener.accept().await?;
        count += 1;
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{count}",
            count.to_string().len()
        );
        tokio::spawn(async move {
            if stream.read(&mut [0; 1024]).await? > 0 {
                stream.write_all(answer.as_bytes()).await?;
            }
            std::io::Result::Ok(())
        });
    }
}

/// Asks so often a second, every other time over HTTP; prints the processor's time, in microseconds.
async fn ask(rate: u64) -> std::io::Result<()> {
    let end = tokio::time::Instant::now() + Duration::from_secs(SECONDS);
    let one = |n: u64| async move {
        // Spread over the second, as probes are.
        let first = tokio::time::Instant::now() + Duration::from_micros(n * 1_000_000 / rate);
        let mut turns = tokio::time::interval_at(first, Duration::from_secs(1));
        while turns.tick().await < end {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", PORT)).await else { continue };
            if n.is_multiple_of(2) {
                let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(request).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        }
    };
    let all: Vec<_> = (0..rate).map(|n| tokio::spawn(one(n))).collect();
    for one in all {
        one.await?;
    }
    crate::say(&(ticks(std::process::id())? * MICROS_PER_TICK).to_string());
    Ok(())
}

/// The kernel counts in hundredths of a second.
const MICROS_PER_TICK: u64 = 10_000;

/// Of a processor, in percent.
fn share(micros: u64, begun: Instant) -> f64 {
    let elapsed = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    fraction(micros * 100, elapsed.max(1))
}

fn cpu(pid: u32) -> Outcome<u64> {
    Ok(ticks(pid)? * MICROS_PER_TICK)
}

/// `utime` and `stime` of proc_pid_stat(5).
fn ticks(pid: u32) -> std::io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let fields = fields.split_whitespace().skip(11).take(2);
    Ok(fields.filter_map(|field| field.parse::<u64>().ok()).sum())
}

fn served(machine: &Machine) -> Outcome<u64> {
    let mut curl = machine.command(Path::new("/usr/bin/curl"));
    curl.args(["-sS", "--noproxy", "*", "--max-time", "5", &format!("http://127.0.0.1:{PORT}/")]);
    let count = Said::by(curl)?.ok()?;
    count.trim().parse().map_err(|_| failure!("the server said {count:?}"))
}

fn this(machine: &Machine, words: &[&str]) -> Outcome<std::process::Command> {
    let mut command = machine.command(&std::env::current_exe().context("this program")?);
    command.args(words);
    Ok(command)
}

fn probed(pod: usize) -> String {
    let container = |n: usize| {
        let readiness = match pod == 0 && n < BY_PROGRAM {
            true => "exec: {command: ['true']}".to_owned(),
            false => format!("httpGet: {{host: 127.0.0.1, port: {PORT}}}"),
        };
        script(&format!("c{n}"), "exec sleep 1000000")
            + &format!(
                "  readinessProbe: {{{readiness}, periodSeconds: 1, timeoutSeconds: 10}}
  livenessProbe: {{tcpSocket: {{host: 127.0.0.1, port: {PORT}}}, periodSeconds: 1, timeoutSeconds: 10}}
"
            )
    };
    let containers: String = (0..CONTAINERS).map(container).collect();
    DaemonSet {
        name: &format!("probed-{pod}"),
        pod: "terminationGracePeriodSeconds: 1\n",
        containers: &containers,
        ..DaemonSet::default()
    }
    .to_string()
}
