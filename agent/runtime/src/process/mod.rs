//! Pods of host processes: each in cgroups of its own, under a supervisor of its own
//! ([`crate::shim`]) that outlives the agent.
//!
//! The supervisor's word is evidence; the empty cgroup is proof. What is kept here can all be
//! found again on the machine: places and marks in the cgroup tree, supervisors by their sockets
//! in `<run_dir>/<pod uid>/`.

mod connect;
mod create;
mod exec;
mod kill;
mod link;
mod list;
mod remove;
mod resize;
mod socket;
mod sweep;
pub(crate) mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everynode_agent_core::{Found, Marks, PodRef};
use everynode_model::{ClusterId, PodKey, PodUid, Reason};
use futures_util::future::BoxFuture;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use crate::cgroup::Force;
use crate::error::{
    CreateError, ExecError, KillError, ListError, MachineError, OpenError, RemoveError,
    ResizeError, StartError, TerminateError,
};
use crate::limits::{Controller, Controllers};
use crate::lock::RootLock;
use crate::machine::{self, Look};
use crate::place::{self, Mark, Root};
use crate::shim::protocol::{Message, Request};
use crate::sys::Way;
use crate::watch::Watch;
use crate::{CreateRequest, ExecRequest, Executed, ResizeRequest, Runtime, RuntimeEvent};
use connect::Address;
use link::{Link, NoAnswer};

/// Events that wait for their reader: some for each of many pods ending at once. When it is full
/// the supervisors wait, and what they would say is kept by them.
const EVENTS: usize = 1024;

/// Where and how.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our root, relative to the cgroup v2 mount. Two agents on one machine need two roots, and
    /// are then two machines to themselves.
    pub cgroup_root: PathBuf,
    /// For the pods' sockets and logs; made, for its owner alone. Of any length.
    pub run_dir: PathBuf,
    /// In memory: for a pod's socket where the disk of `run_dir` takes nothing. `None`: such a pod
    /// waits for the disk. Made when it is needed.
    pub spare_dir: Option<PathBuf>,
    /// Where `localhostProfile` of a `seccompProfile` is looked for.
    pub seccomp_dir: PathBuf,
    /// The size in bytes from which a container's log goes on in another file;
    /// [`MAX_LOG_FILE`](crate::MAX_LOG_FILE) where nobody says.
    pub max_log_file: u64,
    /// The program that calls [`crate::shim::main`], and its arguments: for an agent
    /// `/proc/self/exe` and `shim`.
    pub shim_command: Vec<OsString>,
    /// Do as on a kernel that has neither `cgroup.kill` nor `CLONE_INTO_CGROUP`, for tests.
    pub old_kernel: bool,
}

/// The runtime of host processes. Dropping it leaves all pods as they are.
pub struct ProcessRuntime {
    inner: Arc<Inner>,
    watching: AbortHandle,
}

/// What calls share.
struct Inner {
    root: Root,
    controllers: Controllers,
    run_dir: PathBuf,
    spare_dir: Option<PathBuf>,
    seccomp_dir: PathBuf,
    max_log_file: u64,
    shim_command: Vec<CString>,
    old_kernel: bool,
    force: Force,
    way: Way,
    watch: Arc<Watch>,
    events: mpsc::Sender<RuntimeEvent>,
    /// The supervisors that are connected, or were.
    links: Mutex<BTreeMap<PodUid, Link>>,
    /// The places in which a pod is just being created.
    creating: Mutex<BTreeSet<PodKey>>,
    /// How many programs were run in containers, so that each has a number of its own.
    execs: AtomicU64,
    /// Whether directories of pods that are no more were looked for.
    swept: AtomicBool,
    _lock: RootLock,
}

impl ProcessRuntime {
    /// Takes the machine's lock and looks what it can do. The events are to be read at all times.
    ///
    /// # Errors
    /// When the machine can't run host processes, or another agent does.
    pub async fn open(config: Config) -> Result<(Self, mpsc::Receiver<RuntimeEvent>), OpenError> {
        let Look { capabilities, root, controllers } = machine::look(&config.cgroup_root)?;
        let lock = RootLock::acquire(&root).await?;
        let at_run_dir = |source| MachineError::io(&config.run_dir, source);
        let mut make = std::fs::DirBuilder::new();
        make.recursive(true).mode(0o700).create(&config.run_dir).map_err(at_run_dir)?;
        let run_dir = config.run_dir.canonicalize().map_err(at_run_dir)?;
        let (events, receiver) = mpsc::channel(EVENTS);
        let watch = Watch::new(events.clone())
            .map_err(|source| MachineError::io("inotify", source))
            .map(Arc::new)?;
        let inner = Arc::new(Inner {
            force: match config.old_kernel {
                true => Force::FreezeKillThaw,
                false => root.cgroup().best_force(),
            },
            way: match capabilities.clone_into_cgroup && !config.old_kernel {
                true => Way::Best,
                false => Way::Fork,
            },
            controllers,
            root,
            run_dir,
            spare_dir: config.spare_dir,
            seccomp_dir: config.seccomp_dir,
            max_log_file: config.max_log_file,
            shim_command: words(&config.shim_command),
            old_kernel: config.old_kernel,
            watch: Arc::clone(&watch),
            events,
            links: Mutex::default(),
            creating: Mutex::default(),
            execs: AtomicU64::new(0),
            swept: AtomicBool::new(false),
            _lock: lock,
        });
        inner.sweep_places();
        let watching = tokio::spawn(async move { watch.run().await }).abort_handle();
        Ok((Self { inner, watching }, receiver))
    }
}

impl ProcessRuntime {
    /// Where what enforces limits is, or why it can't be used.
    pub fn limits(&self) -> BTreeMap<Controller, Result<PathBuf, String>> {
        self.inner.controllers.homes()
    }
}

impl Runtime for ProcessRuntime {
    fn name(&self) -> &'static str {
        "process"
    }

    fn makes_namespaces(&self) -> bool {
        machine::makes_namespaces()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Found>, ListError>> {
        Box::pin(list::list(&self.inner))
    }

    fn create(&self, request: CreateRequest) -> BoxFuture<'_, Result<(), CreateError>> {
        Box::pin(create::create(&self.inner, request))
    }

    fn resize<'a>(
        &'a self,
        pod: &'a PodRef,
        request: ResizeRequest,
    ) -> BoxFuture<'a, Result<(), ResizeError>> {
        Box::pin(resize::resize(&self.inner, pod, request))
    }

    fn start<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
    ) -> BoxFuture<'a, Result<u32, StartError>> {
        Box::pin(self.inner.start(pod, container))
    }

    fn terminate<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), TerminateError>> {
        Box::pin(self.inner.terminate(pod))
    }

    fn close<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), TerminateError>> {
        Box::pin(self.inner.close(pod))
    }

    fn stop<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
    ) -> BoxFuture<'a, Result<(), TerminateError>> {
        Box::pin(self.inner.stop(pod, container))
    }

    fn kill_container<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
    ) -> BoxFuture<'a, Result<(), KillError>> {
        Box::pin(kill::kill_container(&self.inner, pod, container))
    }

    fn exec<'a>(
        &'a self,
        pod: &'a PodRef,
        container: &'a str,
        request: ExecRequest,
    ) -> BoxFuture<'a, Result<Executed, ExecError>> {
        Box::pin(exec::exec(&self.inner, pod, container, request))
    }

    fn socket<'a>(
        &'a self,
        pod: &'a PodRef,
        v6: bool,
    ) -> BoxFuture<'a, Result<Option<TcpSocket>, ExecError>> {
        Box::pin(socket::socket(&self.inner, pod, v6))
    }

    fn kill<'a>(
        &'a self,
        key: &'a PodKey,
        clusters: &'a BTreeSet<ClusterId>,
    ) -> BoxFuture<'a, Result<(), KillError>> {
        Box::pin(kill::kill(&self.inner, key, clusters))
    }

    fn kill_pod<'a>(
        &'a self,
        pod: &'a PodRef,
        clusters: &'a BTreeSet<ClusterId>,
    ) -> BoxFuture<'a, Result<(), KillError>> {
        Box::pin(kill::kill_pod(&self.inner, pod, clusters))
    }

    fn remove<'a>(&'a self, pod: &'a PodRef) -> BoxFuture<'a, Result<(), RemoveError>> {
        Box::pin(remove::remove(&self.inner, pod))
    }
}

impl Drop for ProcessRuntime {
    fn drop(&mut self) {
        self.watching.abort();
        // Their tasks end with them, and their connections.
        self.inner.links().clear();
    }
}

impl Inner {
    async fn start(&self, pod: &PodRef, container: &str) -> Result<u32, StartError> {
        let request = Request::Start { container: container.to_owned() };
        match self.ask(pod.uid, request).await {
            Ok(Message::Started { pid, .. }) => Ok(pid),
            Ok(Message::Refused { code, message }) => {
                Err(StartError::Refused(Reason::new(code, message)))
            }
            Err(NoAnswer::Silent) => Err(StartError::Silent(pod.clone())),
            Ok(_) | Err(NoAnswer::Lost) => Err(StartError::NotSupervised(pod.clone())),
        }
    }

    async fn terminate(&self, pod: &PodRef) -> Result<(), TerminateError> {
        self.watch.stopping_now(pod);
        self.order(pod, Request::Terminate {}, Message::Terminating {}).await
    }

    async fn close(&self, pod: &PodRef) -> Result<(), TerminateError> {
        self.watch.stopping_now(pod);
        self.order(pod, Request::Close {}, Message::Closed {}).await
    }

    async fn stop(&self, pod: &PodRef, container: &str) -> Result<(), TerminateError> {
        let container = container.to_owned();
        let done = Message::Stopping { container: container.clone() };
        self.order(pod, Request::Stop { container }, done).await
    }

    /// Asks for something that has one good answer.
    async fn order(
        &self,
        pod: &PodRef,
        request: Request,
        done: Message,
    ) -> Result<(), TerminateError> {
        match self.ask(pod.uid, request).await {
            Ok(answer) if answer == done => Ok(()),
            _ => Err(TerminateError::NotSupervised(pod.clone())),
        }
    }

    /// Asks a supervisor that was ever connected.
    async fn ask(&self, pod: PodUid, request: Request) -> Result<Message, NoAnswer> {
        let asker = self.links().get(&pod).map(Link::asker);
        match asker {
            Some(asker) => asker.ask(request).await,
            None => Err(NoAnswer::Lost),
        }
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<PodUid, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a pod's socket is: beside its logs, or in memory if the disk took none.
    fn pod_directory(&self, pod: PodUid) -> PathBuf {
        let spare = self.spare_directory(pod).filter(|spare| spare.is_dir());
        spare.unwrap_or_else(|| self.usual_directory(pod))
    }

    /// Where a pod's logs are, and its socket if it can be there.
    fn usual_directory(&self, pod: PodUid) -> PathBuf {
        self.run_dir.join(pod.to_string())
    }

    fn spare_directory(&self, pod: PodUid) -> Option<PathBuf> {
        self.spare_dir.as_ref().map(|spare| spare.join(pod.to_string()))
    }

    /// Removes all that a pod has there.
    fn remove_directories(&self, pod: PodUid) -> Result<(), (PathBuf, io::Error)> {
        for directory in self.spare_directory(pod).into_iter().chain([self.usual_directory(pod)]) {
            match tree::remove(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err((directory, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where a pod's supervisor is to be found.
    fn address(&self, pod: PodRef, marks: Marks) -> Address {
        let mark = Mark { marks, pod: pod.uid };
        let leaf = self.root.pod(&pod.key, &mark).child(place::SHIM);
        Address { directory: self.pod_directory(pod.uid), leaf, pod, marks }
    }
}

/// Words of a command; a zero byte can't come from a command line, so what follows it is no loss.
fn words(command: &[OsString]) -> Vec<CString> {
    let word = |word: &OsString| {
        let bytes = word.as_bytes();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        CString::new(&bytes[..end]).unwrap_or_default()
    };
    command.iter().map(word).collect()
}

/// Runs what waits or touches disks away from the threads that everything else runs on.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work)).await
}

/// What a task of its own has done.
async fn joined<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The process ends: nobody will hear the answer.
            Err(_) => std::future::pending().await,
        },
    }
}
