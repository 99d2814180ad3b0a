//! Makes a pod: its cgroups, its directory, its supervisor inside them.
//!
//! ```text
//!   check the template ── place empty? ── directories ── supervisor started in its leaf
//!        │                   │               │              │── connected ── Created
//!     Invalid             Occupied          Io              └─ no answer: killed, seen empty
//! ```

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use everynode_agent_core::{ContainerSpec, PodRef, PodSpec};
use everynode_model::{PodKey, PodUid};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions};
use seccompiler::BpfProgram;

use super::link::Link;
use super::{Inner, blocking, joined};
use crate::CreateRequest;
use crate::cgroup::{self, Cgroup};
use crate::error::CreateError;
use crate::limits::Share;
use crate::logs::POD;
use crate::place::{self, Mark};
use crate::seccomp;
use crate::shim::plan::WirePlan;
use crate::shim::protocol::{
    self, Identity, LOGS, MAX_CONTAINERS, SOCKET, Spec, SpecContainer, SpecVolume,
};
use crate::sys::{self, Confinement, Launch};
use crate::watch::Spot;

/// How long a new supervisor may take to answer: an exec and a look at its specification, on a
/// machine that may be starting everything else too.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long what was begun may take to die when it is taken back.
const UNDO_WITHIN: Duration = Duration::from_secs(2);

/// Goes on to its end also when nobody waits for it any more: a place stays taken until it is
/// known whether a supervisor was started there.
pub(super) async fn create(inner: &Arc<Inner>, request: CreateRequest) -> Result<(), CreateError> {
    let inner = Arc::clone(inner);
    joined(tokio::spawn(async move { whole(&inner, request).await })).await
}

async fn whole(inner: &Arc<Inner>, request: CreateRequest) -> Result<(), CreateError> {
    check(&request.spec)?;
    let _creating = Creating::begin(inner, &request.pod.key)?;
    let pod = request.pod.clone();
    let marks = request.marks;
    let mark = Mark { marks, pod: pod.uid };
    if let Some(old) = request.beside {
        inner.watch_old(&pod.key, old).await;
    }
    let beside = request.beside.is_some();
    let shared = Arc::clone(inner);
    blocking(move || shared.begin(&request, &mark)).await?;
    // Only now is it certain where its socket is.
    let address = inner.address(pod.clone(), marks);
    let connected = match address.connect(ANSWER_WITHIN).await {
        Ok(connected) => connected,
        Err(error) => {
            let error = CreateError::NoAnswer(error.to_string());
            let (shared, key) = (Arc::clone(inner), pod.key.clone());
            return Err(blocking(move || shared.undo(&key, &mark, error)).await);
        }
    };
    let place = Spot::Place(pod.key.clone());
    inner.watch.arm(&place, inner.root.place(&pod.key), Some(pod.clone())).await;
    if beside {
        let cgroup = inner.root.pod(&pod.key, &mark);
        inner.watch.arm(&Spot::Pod(pod.clone()), cgroup, None).await;
    }
    let link = Link::new(connected, inner.events.clone());
    inner.links().insert(pod.uid, link);
    Ok(())
}

/// Keeps a second pod from being created in a place at the same time.
struct Creating {
    inner: Arc<Inner>,
    key: PodKey,
}

impl Creating {
    fn begin(inner: &Arc<Inner>, key: &PodKey) -> Result<Self, CreateError> {
        let mut creating = inner.creating.lock().unwrap_or_else(PoisonError::into_inner);
        match creating.insert(key.clone()) {
            true => Ok(Self { inner: Arc::clone(inner), key: key.clone() }),
            false => Err(CreateError::Occupied(key.clone())),
        }
    }
}

impl Drop for Creating {
    fn drop(&mut self) {
        self.inner.creating.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl Inner {
    /// Up to the running supervisor; takes back what it made where it fails.
    fn begin(&self, request: &CreateRequest, mark: &Mark) -> Result<(), CreateError> {
        let key = &request.pod.key;
        let place = self.root.place(key);
        let at = |source| CreateError::io(place.path(), source);
        if place.populated().map_err(at)? && !self.lives_alone(key, request.beside).map_err(at)? {
            return Err(CreateError::Occupied(key.clone()));
        }
        self.make_cgroups(key, mark, &request.spec)
            // Before anything runs in it.
            .and_then(|()| self.controllers.hold(&self.root.pod(key, mark), &request.spec))
            .and_then(|shares| self.launch(request, mark, shares))
            .map_err(|error| self.undo(key, mark, error))
    }

    /// Whether nothing but the pod `old` is alive in the place.
    fn lives_alone(&self, key: &PodKey, old: Option<PodUid>) -> io::Result<bool> {
        let Some(old) = old else { return Ok(false) };
        for (pod, mark) in self.root.pods(key)? {
            if mark.is_none_or(|mark| mark.pod != old) && pod.populated()? {
                return Ok(false);
            }
        }
        // Somebody may live in the place itself, under no mark.
        self.root.place(key).is_without_own()
    }

    /// From now on the end of the pod that another is made beside is told by itself: its place may
    /// not become empty with it.
    async fn watch_old(&self, key: &PodKey, old: PodUid) {
        let found = self.root.found(key, old).unwrap_or_default();
        // A directory that is not there any more is as empty as any.
        let gone = || self.root.place(key).child(&old.to_string());
        let cgroup = found.map_or_else(gone, |(cgroup, _)| cgroup);
        self.watch.arm(&Spot::Pod(PodRef { key: key.clone(), uid: old }), cgroup, None).await;
    }

    fn make_cgroups(&self, key: &PodKey, mark: &Mark, spec: &PodSpec) -> Result<(), CreateError> {
        let pod = self.root.pod(key, mark);
        let leaves = spec.container_names().map(place::container_leaf);
        let leaves = leaves.chain([place::SHIM.to_owned()]).map(|leaf| pod.child(&leaf));
        let mut wanted = vec![self.root.namespace(key), self.root.place(key), pod.clone()];
        wanted.extend(leaves);
        let made = cgroup::make_all(|| wanted.iter().try_for_each(Cgroup::make));
        made.map_err(|source| CreateError::io(pod.path(), source))
    }

    fn launch(
        &self,
        request: &CreateRequest,
        mark: &Mark,
        shares: Vec<Share>,
    ) -> Result<(), CreateError> {
        let filters =
            |one: &ContainerSpec| seccomp::filters(&one.security.seccomp, &self.seccomp_dir);
        let seccomp = request.spec.containers.iter().map(filters).collect::<Result<Vec<_>, _>>()?;
        let (listener, stderr) = self.make_files(&request.pod)?;
        // Where there was no room for logs now, there may be later.
        let directory = self.usual_directory(request.pod.uid);
        let at = |source: io::Error| CreateError::io(&directory, source);
        let pod = self.root.pod(&request.pod.key, mark);
        let spec = self.spec_file(request, &pod, &directory, shares, &seccomp).map_err(at)?;
        let leaf = pod.child(place::SHIM).open().map_err(|e| CreateError::io(pod.path(), e))?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| CreateError::io("/dev/null", errno))?;
        let [program, arguments @ ..] = self.shim_command.as_slice() else {
            return Err(CreateError::Launch(io::Error::other("no command is configured")));
        };
        // People see in `ps` whose supervisor it is; the key's characters hold no zero byte.
        let title = CString::new(format!("everynode-shim: {}", request.pod.key));
        let pid = Launch {
            program: program.clone(),
            argv: [title.unwrap_or_default()].into_iter().chain(arguments.to_vec()).collect(),
            env: Vec::new(),
            // The third and fourth as `shim::SPEC_FD` and `shim::LISTENER_FD` expect.
            fds: vec![null.as_fd(), null.as_fd(), stderr.as_fd(), spec.as_fd(), listener.as_fd()],
            terminal: false,
            cgroup: leaf.as_fd(),
            // What it uses itself is not its containers'.
            enter: &[],
            dir: c"/".to_owned(),
            confinement: &Confinement::default(),
            other_pids: false,
            proc: None,
            oom_score: None,
            way: self.way,
        }
        .start()
        .map_err(CreateError::launch)?;
        // By descriptor, as another child of this process may have the number next.
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => drop(tokio::spawn(reap(pidfd))),
            // What began to live is not taken back for that.
            Err(error) => tracing::warn!(%error, "a supervisor's end will leave a zombie"),
        }
        Ok(())
    }

    /// The pod's directories, with the socket that listens and the file for last words. A disk that
    /// takes nothing keeps no daemon from coming back: then both are in memory, and lines of its
    /// logs are dropped until the disk takes them.
    fn make_files(&self, pod: &PodRef) -> Result<(OwnedFd, std::fs::File), CreateError> {
        let usual = self.usual_directory(pod.uid);
        let made = make_private(&usual.join(LOGS)).and_then(|()| files_in(&usual, &pod.key));
        match (made, self.spare_directory(pod.uid)) {
            (Err(error), Some(spare)) if takes_nothing(&error) => {
                tracing::warn!(directory = %usual.display(), %error, "made in memory instead");
                // Half of it would be taken for a pod's.
                let _ = std::fs::remove_dir_all(&usual);
                let made = make_private(&spare).and_then(|()| files_in(&spare, &pod.key));
                made.map_err(|source| CreateError::io(&spare, source))
            }
            (made, _) => made.map_err(|source| CreateError::io(&usual, source)),
        }
    }

    /// The whole specification in memory, so that the supervisor needs nobody to read it from.
    fn spec_file(
        &self,
        request: &CreateRequest,
        pod: &Cgroup,
        directory: &Path,
        shares: Vec<Share>,
        seccomp: &[Vec<BpfProgram>],
    ) -> io::Result<OwnedFd> {
        let text = |path: &Path| {
            let text = path.to_str().map(str::to_owned);
            text.ok_or_else(|| io::Error::other("the path is not UTF-8"))
        };
        let spec = Spec {
            identity: Identity::of(request),
            restarts: request.restarts,
            containers: SpecContainer::all(&request.spec, shares, seccomp),
            plan: WirePlan::of(&request.spec),
            volumes: SpecVolume::all(&request.spec),
            fs_group: request.spec.fs_group,
            namespaces: request.spec.namespaces.into(),
            cgroup: text(pod.path())?,
            directory: text(directory)?,
            max_log_file: Some(self.max_log_file),
            old_kernel: self.old_kernel,
        };
        let line = protocol::line(&spec);
        if line.len() > protocol::MAX_SPEC {
            return Err(io::Error::other("the specification is too long"));
        }
        let file = rustix::fs::memfd_create("everynode-spec", MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(file);
        file.write_all(&line)?;
        io::Seek::rewind(&mut file)?;
        Ok(file.into())
    }

    /// Kills what was begun and removes it; `error`, in doubt where that did not succeed.
    fn undo(&self, key: &PodKey, mark: &Mark, error: CreateError) -> CreateError {
        let pod = self.root.pod(key, mark);
        match pod.force_until_empty(self.force, UNDO_WITHIN) {
            Ok(true) => {}
            Ok(false) | Err(_) => return CreateError::InDoubt(Box::new(error)),
        }
        // What stays is found by the next list, and removed.
        let _ = pod.remove_tree();
        self.controllers.release(&pod);
        self.watch.remove(key, &self.root.place(key));
        let _ = self.root.namespace(key).remove();
        let _ = self.remove_directories(mark.pod);
        error
    }
}

/// What the coordinator should have refused; the machine does not rely on it.
fn check(spec: &PodSpec) -> Result<(), CreateError> {
    let invalid = |what: String| Err(CreateError::Invalid(what));
    let names: BTreeSet<&str> = spec.container_names().collect();
    if names.len() != spec.containers.len() || names.is_empty() {
        return invalid("containers must be at least one, with names of their own".to_owned());
    }
    if names.len() > MAX_CONTAINERS {
        return invalid(format!("more than {MAX_CONTAINERS} containers"));
    }
    spec.containers.iter().try_for_each(check_container)
}

fn check_container(container: &ContainerSpec) -> Result<(), CreateError> {
    let invalid =
        |what: &str| Err(CreateError::Invalid(format!("container {:?}: {what}", container.name)));
    // A namespace's name follows the same rule as a container's: a DNS label.
    if PodKey::new(&container.name, "x").is_err() {
        return invalid("the name must be a DNS label");
    }
    if container.argv.first().is_none_or(String::is_empty) {
        return invalid("a host process needs a command");
    }
    let variables = container.env.iter().flat_map(|(key, value)| [key, value]);
    let mut texts = container.argv.iter().chain(variables).chain(&container.working_dir);
    if texts.any(|text| text.contains('\0')) {
        return invalid("a zero byte in command, environment or working directory");
    }
    if container.env.iter().any(|(key, _)| key.is_empty() || key.contains('=')) {
        return invalid("a variable's name must not be empty nor hold '='");
    }
    Ok(())
}

/// A directory for its owner alone.
fn make_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Whether a disk says that it is full, or read-only.
fn takes_nothing(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

fn files_in(directory: &Path, key: &PodKey) -> io::Result<(OwnedFd, std::fs::File)> {
    let listener = listen_in(directory)?;
    // For people who look for its logs when nothing else is left to say whose they are.
    std::fs::write(directory.join(POD), key.to_string())?;
    Ok((listener, shim_log(directory)?))
}

/// A socket that listens in a directory.
fn listen_in(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::open(directory, flags, Mode::empty())?;
    // A former try's; nobody listens there, as the place is empty.
    let _ = rustix::fs::unlinkat(&open, SOCKET, rustix::fs::AtFlags::empty());
    // Through a descriptor: a socket's path may have no more than 108 bytes, a directory's may.
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd()));
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

/// Where a supervisor's last words go, should it fail: it says nothing else.
fn shim_log(directory: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(directory.join("shim.log"))
}

/// Waits for one supervisor's end, so that no zombie stays; never for another child of this
/// process. For its whole life, also when the runtime is dropped.
async fn reap(pidfd: OwnedFd) {
    let Ok(pidfd) = sys::readable(pidfd) else { return };
    loop {
        let Ok(mut ready) = pidfd.readable().await else { return };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Ok(None) | Err(rustix::io::Errno::INTR) => ready.clear_ready(),
            Ok(Some(_)) | Err(_) => return,
        }
    }
}
