//! What pods have of their own, looked at by real processes from inside and from the machine. Needs a
//! writable cgroup v2 hierarchy and root; says so and passes without.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "for tests")]

#[allow(dead_code, reason = "shared with other tests")]
mod bed;

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use everynode_agent_core::{ContainerSpec, Namespaces, Pids, PodRef, PodSpec, VolumeMount};
use everynode_agent_core::{Volume, VolumeSource};
use everynode_model::Exit;
use everynode_runtime::contract::{Does, Factory as _, Machine, exited, request};
use everynode_runtime::{Captured, ExecError, Runtime, RuntimeEvent, capture};

use bed::{Bed, gone, kill, lines, run, shell, spec_of, until};

/// Answers whoever connects to port 1 of loopback.
const SERVER: &str = "exec perl -MSocket -e '$| = 1; \
    socket(S, PF_INET, SOCK_STREAM, 0); setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1); \
    bind(S, sockaddr_in(1, INADDR_LOOPBACK)) or die; listen(S, 5); print \"ready\\n\"; \
    while (accept(C, S)) { print C \"hello\\n\"; close C }'";

const OWN: Namespaces = Namespaces { network: true, ipc: true, pids: Pids::Container };

fn bed(old_kernel: bool) -> Option<Bed> {
    let bed = Bed::new(old_kernel)?;
    if bed::ordinary_user() {
        eprintln!("skipped: no namespaces can be made here");
        return None;
    }
    Some(bed)
}

fn pod_of<const N: usize>(namespaces: Namespaces, containers: [ContainerSpec; N]) -> PodSpec {
    PodSpec { namespaces, ..spec_of(containers) }
}

async fn within(machine: &Machine<'_>, pod: &PodRef, container: &str, script: &str) -> String {
    let argv = shell("", script).argv;
    let timeout = Some(Duration::from_secs(20));
    let captured = capture(&*machine.runtime, pod, container, argv, timeout).await;
    let Captured { output, .. } = captured.unwrap();
    String::from_utf8(output).unwrap()
}

async fn printed(bed: &Bed, pod: &PodRef, container: &str, line: &str) {
    until(|| lines(bed, pod, container).iter().any(|printed| printed == line)).await;
}

/// What somebody on this machine hears who connects to port 1 of a pod by the runtime.
async fn heard(runtime: &dyn Runtime, pod: &PodRef) -> String {
    let socket = runtime.socket(pod, false).await.unwrap().unwrap();
    let stream = socket.connect(SocketAddr::from(([127, 0, 0, 1], 1))).await.unwrap();
    let mut stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Which of this machine's processes are in a namespace.
fn in_namespace(of: &str, wanted: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let there = all.filter(|process| {
        fs::read_link(process.join("ns").join(of)).is_ok_and(|found| found.ends_with(wanted))
    });
    there.map(|process| process.display().to_string()).collect()
}

fn namespace(pid: u32, of: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{of}")).unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_network_of_its_own_is_loopback_that_its_containers_share() {
    let Some(bed) = bed(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let writable =
        "awk '$5 == \"/sys\" { print substr($6, 1, 2) }' /proc/self/mountinfo | tail -n 1";
    let looks = format!(
        "ls /sys/class/net; grep -c : /proc/net/dev; cat /sys/class/net/lo/flags; {writable}"
    );
    let looks = shell("looks", &looks);
    let machines = Command::new("sh").args(["-c", writable]).output().unwrap().stdout;
    let machines = str::from_utf8(&machines).unwrap().trim();
    let client = shell("client", "exec 3<>/dev/tcp/127.0.0.1/1; cat <&3");
    let client = ContainerSpec {
        argv: ["bash".into()].into_iter().chain(client.argv[1..].to_vec()).collect(),
        ..client
    };
    let namespaces = Namespaces { network: true, ..Namespaces::default() };
    let containers = [shell("server", SERVER), client, looks];
    let pod = machine.create(request("own-net", pod_of(namespaces, containers))).await;
    let pid = machine.start(&pod, "server").await;
    printed(&bed, &pod, "server", "ready").await;
    assert_eq!(run(&mut machine, &bed, &pod, "looks").await, ["lo", "1", "0x9", machines]);
    assert_eq!(run(&mut machine, &bed, &pod, "client").await, ["hello"]);
    // Not this machine's loopback, whose port 1 nobody has.
    assert!(TcpStream::connect(("127.0.0.1", 1)).is_err());
    assert_eq!(heard(&*machine.runtime, &pod).await, "hello\n");
    assert_ne!(namespace(pid, "net"), namespace(std::process::id(), "net"));
    assert_eq!(namespace(pid, "ipc"), namespace(std::process::id(), "ipc"));
    assert_eq!(namespace(pid, "pid"), namespace(std::process::id(), "pid"));
    // The next run, under the next agent, is in the same.
    let network = namespace(pid, "net");
    let mut machine = machine.reopen().await;
    machine.found(&pod).await.unwrap();
    assert_eq!(heard(&*machine.runtime, &pod).await, "hello\n");
    kill(pid, "KILL");
    machine.expect(exited(&pod, "server", Exit::Signal(9))).await;
    let pid = machine.start(&pod, "server").await;
    assert_eq!(namespace(pid, "net"), network);
    machine.end(&pod).await;
    until(|| in_namespace("net", &network).is_empty()).await;
    bed.is_clean();
}

/// What goes with a question is gone with the connection: it can't be asked again.
#[tokio::test]
async fn who_asks_for_a_socket_hears_that_the_connection_broke() {
    let Some(bed) = bed(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let namespaces = Namespaces { network: true, ..Namespaces::default() };
    let containers = [bed.container("a", Does::Run)];
    let pod = machine.create(request("breaks", pod_of(namespaces, containers))).await;
    let shim = bed.shim_of(&pod);
    kill(shim, "STOP");
    let breaks = async {
        // Until it is asked.
        tokio::task::yield_now().await;
        // Whoever connects takes the agent's place.
        let intruder = bed.connect(&pod);
        kill(shim, "CONT");
        intruder
    };
    let (socket, _intruder) = tokio::join!(machine.runtime.socket(&pod, false), breaks);
    let Err(ExecError::Refused(reason)) = socket else { panic!("{socket:?}") };
    assert_eq!(reason.code, "ConnectionLost");
    assert!(machine.runtime.socket(&pod, false).await.unwrap().is_some());
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn the_machines_network_needs_no_supervisor_to_be_reached() {
    let Some(bed) = bed(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let pod = machine.create(request("host-net", spec_of([bed.container("a", Does::Run)]))).await;
    machine.start(&pod, "a").await;
    assert!(machine.runtime.socket(&pod, false).await.unwrap().is_none());
    machine.end(&pod).await;
}

#[tokio::test]
async fn a_container_sees_its_own_processes_and_is_their_first() {
    for old_kernel in [false, true] {
        let Some(bed) = bed(old_kernel) else { return };
        let mut machine = Machine::open(&bed).await;
        let namespaces = Namespaces { pids: Pids::Container, ..Namespaces::default() };
        let script =
            "echo $$; cat /proc/self/comm; set -- /proc/[0-9]*; echo $#; exec sleep 100000";
        let containers = [shell("a", script), bed.container("b", Does::Run)];
        let pod = machine.create(request("own-pids", pod_of(namespaces, containers))).await;
        let a = machine.start(&pod, "a").await;
        let b = machine.start(&pod, "b").await;
        // By the shell itself: nobody else is there.
        until(|| lines(&bed, &pod, "a") == ["1", "cat", "1"]).await;
        until(|| fs::read_to_string(format!("/proc/{a}/comm")).unwrap() == "sleep\n").await;
        let said = within(&machine, &pod, "a", "cat /proc/1/comm; kill -KILL 1; echo $?").await;
        assert_eq!(said, "sleep\n0\n", "its first process can't be killed from inside");
        assert_ne!(namespace(a, "pid"), namespace(b, "pid"));
        assert_eq!(
            within(&machine, &pod, "b", "cat /proc/self/mounts | grep -c ' /proc proc '").await,
            "2\n"
        );
        // What it has run ends with it, and a signal that it does not handle does nothing.
        machine.runtime.stop(&pod, "a").await.unwrap();
        assert_eq!(within(&machine, &pod, "a", "cat /proc/1/comm").await, "sleep\n");
        kill(a, "KILL");
        machine.expect(exited(&pod, "a", Exit::Signal(9))).await;
        let again = machine.start(&pod, "a").await;
        assert_ne!(a, again);
        machine.end(&pod).await;
        bed.is_clean();
    }
}

#[tokio::test]
async fn containers_that_share_their_processes_have_a_first_one_of_ours() {
    for old_kernel in [false, true] {
        let Some(bed) = bed(old_kernel) else { return };
        let mut machine = Machine::open(&bed).await;
        let namespaces = Namespaces { pids: Pids::Pod, ..Namespaces::default() };
        // Its child is orphaned, and reaped when it is dead.
        let orphans = "(sleep 0.01 &); echo done; exec sleep 100000";
        let containers = [shell("a", orphans), bed.container("b", Does::Run)];
        let pod = machine.create(request("shared", pod_of(namespaces, containers))).await;
        let a = machine.start(&pod, "a").await;
        let b = machine.start(&pod, "b").await;
        printed(&bed, &pod, "a", "done").await;
        assert_eq!(namespace(a, "pid"), namespace(b, "pid"));
        assert_eq!(within(&machine, &pod, "b", "cat /proc/1/comm").await, "pause\n");
        // It holds nothing, so that its supervisor's end is seen.
        let first = bed::pids(&bed.pod_cgroup(&pod).join("pause"))[0];
        assert_eq!(bed::fds(first), [""; 0]);
        until(|| in_namespace("pid", &namespace(a, "pid")).len() == 3).await;
        // SIGTERM is what it is to any program.
        machine.runtime.stop(&pod, "b").await.unwrap();
        machine.expect(exited(&pod, "b", Exit::Signal(15))).await;
        // When the first one dies all do, and the next start begins anew.
        kill(first, "KILL");
        machine.expect(exited(&pod, "a", Exit::Signal(9))).await;
        gone(first).await;
        machine.start(&pod, "a").await;
        machine.runtime.terminate(&pod).await.unwrap();
        machine.expect(exited(&pod, "a", Exit::Signal(15))).await;
        machine.until(&RuntimeEvent::PlaceEmpty(pod.key.clone())).await;
        machine.runtime.remove(&pod).await.unwrap();
        bed.is_clean();
    }
}

#[tokio::test]
async fn shared_memory_and_queues_are_the_pods() {
    let Some(bed) = bed(false) else { return };
    let queues = || Command::new("ipcs").arg("-q").output().unwrap().stdout.len();
    let before = queues();
    let mut machine = Machine::open(&bed).await;
    let namespaces = Namespaces { ipc: true, ..Namespaces::default() };
    let name = format!("everynode-test-{}", std::process::id());
    // Where the machine shows its own.
    let queue = Path::new("/dev/mqueue").join(&name);
    let shown = fs::File::create(&queue).is_ok();
    let a = shell("a", &format!("ipcmk -Q >/dev/null; echo x >/dev/shm/{name}"));
    let b = shell(
        "b",
        &format!(
            "cat /dev/shm/{name}; ipcs -q | grep -c 0x; stat -fc '%b %S' /dev/shm; \
             stat -c %a /dev/shm; ls /dev/mqueue 2>/dev/null || true"
        ),
    );
    let pod = machine.create(request("own-ipc", pod_of(namespaces, [a, b]))).await;
    assert_eq!(run(&mut machine, &bed, &pod, "a").await, [""; 0]);
    assert_eq!(run(&mut machine, &bed, &pod, "b").await, ["x", "1", "16384 4096", "1777"]);
    assert_eq!(queues(), before);
    if shown {
        fs::remove_file(queue).unwrap();
    }
    assert!(!fs::exists(format!("/dev/shm/{name}")).unwrap());
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn with_a_read_only_root_what_is_its_own_is_no_way_out() {
    let Some(bed) = bed(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let script = "echo 7 2>/dev/null >/proc/sys/kernel/panic || echo no; \
                  echo 2>/dev/null >/sys/kernel/uevent_seqnum || echo no; \
                  touch /dev/shm/x && echo yes; echo $$; ls /sys/fs/cgroup | head -c 1 | wc -c";
    let mut a = shell("a", script);
    a.security.read_only_root = true;
    let pod = machine.create(request("own-ro", pod_of(OWN, [a]))).await;
    assert_eq!(run(&mut machine, &bed, &pod, "a").await, ["no", "no", "yes", "1", "1"]);
    let before = fs::read_to_string("/proc/sys/kernel/panic").unwrap();
    assert_ne!(before, "7\n");
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn nothing_is_mounted_where_its_processes_are_shown() {
    let Some(bed) = bed(false) else { return };
    let mut machine = Machine::open(&bed).await;
    let mut a = shell("a", "true");
    let path = "/proc/fs/x".to_owned();
    a.mounts = vec![VolumeMount { volume: "v".into(), path, ..VolumeMount::default() }];
    let volumes = vec![Volume { name: "v".into(), source: VolumeSource::Disk }];
    let spec = PodSpec { volumes, ..pod_of(OWN, [a]) };
    let pod = machine.create(request("in-proc", spec)).await;
    let error = machine.runtime.start(&pod, "a").await.unwrap_err().to_string();
    assert!(error.contains("mountPath /proc/fs/x: is inside /proc"), "{error}");
    machine.end(&pod).await;
    bed.is_clean();
}

#[tokio::test]
async fn nothing_is_left_of_it_when_its_supervisor_is_killed() {
    for pids in [Pids::Container, Pids::Pod] {
        let Some(bed) = bed(false) else { return };
        let mut machine = Machine::open(&bed).await;
        let spec = pod_of(Namespaces { pids, ..OWN }, [shell("server", SERVER)]);
        let pod = machine.create(request("killed", spec)).await;
        let pid = machine.start(&pod, "server").await;
        let namespaces = ["net", "ipc", "pid"].map(|of| (of, namespace(pid, of)));
        let shim = bed.shim_of(&pod);
        kill(shim, "KILL");
        gone(shim).await;
        machine.expect(RuntimeEvent::SupervisorLost(pod.clone())).await;
        assert!(fs::exists(format!("/proc/{pid}")).unwrap(), "its end is seen, not assumed");
        machine.end(&pod).await;
        for (of, namespace) in namespaces {
            until(|| in_namespace(of, &namespace).is_empty()).await;
        }
        bed.is_clean();
    }
}
