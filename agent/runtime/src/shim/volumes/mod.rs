//! The volumes of a pod, and what each run of a container sees of them.
//!
//! Every run of a container that mounts something, or must not write, has a mount namespace of its
//! own, a copy of the machine's: it sees the machine's files, also what is mounted on the machine
//! later (not under a read-only root: [`root`]), and over them its mounts. One for each run, and
//! not one for the pod, because two containers may mount different things at the same path; anew
//! for each, so that none finds what the run before mounted.
//!
//! ```text
//!   the machine's namespace ──── copy ───▶ a container's: its mounts, attached from descriptors
//!     │    host paths, directories ──────────▲
//!     └─ copy ─▶ the pod's: what is in memory┘
//! ```
//!
//! The supervisor itself stays in the machine's. It holds the pod's namespace open: in there is
//! what is in memory and outlives a container, and nobody runs. So all mounts end with the
//! processes of the pod and its supervisor, however these end; what is in memory has never been on
//! the machine's.
//!
//! - [`tree`]: mounts by descriptor. [`namespace`]: going in and out.
//! - [`host_path`], [`files`]: what is in a volume. [`beneath`]: a part of one.
//! - [`target`]: where it is seen; [`stand_in`]: where the machine has no such place.
//! - [`root`]: what of the machine's files is seen read-only. [`system`]: what of the machine's is not
//!   seen, as the pod has its own.

mod beneath;
mod files;
pub(crate) mod host_path;
mod namespace;
mod root;
mod stand_in;
mod system;
mod target;
mod tree;
pub(super) mod wire;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{Gid, Mode, OFlags};
use rustix::mount::MountPropagationFlags;

use namespace::Namespace;
pub(super) use root::of_the_machine;
pub(super) use system::System;
use target::Targets;
use tree::Tree;
use wire::{SpecMount, SpecPropagation, SpecReadOnly, SpecSource, SpecVolume};

/// The directory of the volumes on disk in the pod's.
pub(crate) const VOLUMES: &str = "volumes";

/// The volumes of a pod.
pub(super) struct Volumes {
    volumes: Vec<Volume>,
    /// Where those on disk are.
    directory: PathBuf,
    group: files::Group,
    /// The machine's, once it is about to be left.
    home: Option<Rc<Namespace>>,
    /// The pod's, made when it is needed.
    pod: Option<Namespace>,
    /// The pod's shared memory, likewise.
    shared_memory: Option<OwnedFd>,
}

struct Volume {
    name: String,
    state: State,
}

enum State {
    /// Not made yet, or it failed: then it is tried again with the next start.
    Wanted(SpecSource),
    /// By its path, looked up anew for each run.
    HostPath(String),
    /// A directory of the agent's that is never written to: the part of it that is the volume, looked up
    /// anew for each run.
    Artifact { directory: String, inside: Option<String> },
    /// Made for the pod: on disk.
    Disk(OwnedFd),
    /// Made for the pod: in its namespace.
    InMemory(OwnedFd),
}

/// That a container must not write to the machine's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadOnlyRoot {
    /// Whether it may in /sys and all of /proc.
    pub(super) privileged: bool,
}

/// Why a container can't see what it is to see.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// The volume can't be made.
    #[error("volume {volume:?}: {why}")]
    Volume { volume: String, why: String },
    /// There is no such part of it.
    #[error("subPath {path:?} of volume {volume:?}: {why}")]
    SubPath { volume: String, path: String, why: String },
    /// It can't be seen where it is to be.
    #[error("mountPath {path}: {why}")]
    Target { path: String, why: String },
    /// It could write to the machine's files.
    #[error("readOnlyRootFilesystem can't be honoured: {0}")]
    ReadOnlyRoot(io::Error),
    /// It would see what is not its pod's.
    #[error("its own {what} can't be mounted: {why}")]
    System { what: &'static str, why: String },
    /// The kernel gives no namespace.
    #[error("its mounts need a mount namespace: {0}")]
    Namespace(io::Error),
}

/// What one run of a container sees, for as long as this is kept or anything of the run is alive.
pub(super) struct Seen {
    own: Namespace,
    home: Rc<Namespace>,
}

/// The supervisor inside what a container sees; until it is dropped.
pub(super) struct Inside<'a> {
    home: &'a Namespace,
}

/// A mount that is to be attached.
struct Source<'a> {
    mount: &'a SpecMount,
    tree: Tree,
}

impl Volumes {
    /// Makes nothing yet.
    pub(super) fn new(volumes: Vec<SpecVolume>, group: Option<u32>, directory: PathBuf) -> Self {
        let wanted = |SpecVolume { name, source }| Volume { name, state: State::Wanted(source) };
        let volumes = volumes.into_iter().map(wanted).collect();
        Self {
            volumes,
            directory: directory.join(VOLUMES),
            group: group.map(Gid::from_raw),
            home: None,
            pod: None,
            shared_memory: None,
        }
    }

    /// Makes what a run of a container sees; `None` where that is what the machine sees.
    ///
    /// All volumes of the pod are made first, as in Kubernetes: none of its containers starts while
    /// one is lacking.
    pub(super) fn seen(
        &mut self,
        mounts: &[SpecMount],
        read_only: Option<ReadOnlyRoot>,
        system: System,
    ) -> Result<Option<Seen>, Problem> {
        let as_it_is = mounts.is_empty() && read_only.is_none() && system.is_the_machines();
        if self.volumes.is_empty() && as_it_is {
            return Ok(None);
        }
        if self.home.is_none() {
            // Nobody has left it yet.
            self.home = Namespace::current().ok().map(Rc::new);
        }
        self.go_home()?;
        for number in 0..self.volumes.len() {
            let made = self.make(number);
            self.go_home()?;
            made?;
        }
        if as_it_is { Ok(None) } else { self.show(mounts, read_only, system).map(Some) }
    }

    /// What a run of a container sees, of volumes that are made.
    fn show(
        &mut self,
        mounts: &[SpecMount],
        read_only: Option<ReadOnlyRoot>,
        system: System,
    ) -> Result<Seen, Problem> {
        let in_proc = |mount: &&SpecMount| target::parts(&mount.path).first() == Some(&"proc");
        if let Some(mount) = mounts.iter().find(in_proc).filter(|_| system.pids) {
            let why = "is inside /proc, which shows the container's own processes".to_owned();
            return Err(Problem::Target { path: mount.path.clone(), why });
        }
        // What is mounted inside of another mount comes after it.
        let mut mounts: Vec<&SpecMount> = mounts.iter().collect();
        mounts.sort_by_key(|mount| target::parts(&mount.path).len());
        let sources =
            mounts.iter().map(|mount| self.source(mount)).collect::<Result<Vec<_>, _>>()?;
        let shared_memory = system.ipc.then(|| self.shared_memory()).transpose();
        self.go_home()?;
        let shared_memory = shared_memory.map_err(Problem::system(system::SHM))?;
        let home = Rc::clone(self.home()?);
        let _inside = Inside { home: &home };
        let own = Namespace::copy().map_err(Problem::Namespace)?;
        if system.network {
            system::show_network().map_err(Problem::system("/sys"))?;
        }
        if let Some(ReadOnlyRoot { privileged }) = read_only {
            root::make_read_only(privileged).map_err(Problem::ReadOnlyRoot)?;
        }
        let mut targets = Targets::new(&own);
        if let Some(tree) = &shared_memory {
            system::show_ipc(tree, &mut targets)?;
        }
        for source in &sources {
            source.attach(&mut targets)?;
        }
        targets.finish().map_err(Problem::Namespace)?;
        Ok(Seen { own, home: Rc::clone(&home) })
    }

    /// The pod's shared memory, to be seen by one more container.
    fn shared_memory(&mut self) -> io::Result<Tree> {
        if self.shared_memory.is_none() {
            self.shared_memory = Some(keep(&mut self.pod, &Tree::shared_memory()?)?);
        }
        self.enter_pod()?;
        let made = self.shared_memory.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Tree::alone(made.as_fd())
    }

    fn home(&self) -> Result<&Rc<Namespace>, Problem> {
        let none = || Problem::Namespace(io::Error::other("/proc/self/ns/mnt can't be opened"));
        self.home.as_ref().ok_or_else(none)
    }

    /// Also where a former return has failed.
    fn go_home(&self) -> Result<(), Problem> {
        self.home()?.enter().map_err(Problem::Namespace)
    }

    /// Makes a volume; may leave the pod's namespace entered.
    fn make(&mut self, number: usize) -> Result<(), Problem> {
        let Volume { name, state } = &self.volumes[number];
        let State::Wanted(source) = state else { return Ok(()) };
        let failed = |why: String| Problem::Volume { volume: name.clone(), why };
        let io = |error: io::Error| failed(error.to_string());
        let made = match source {
            SpecSource::HostPath { path, kind } => {
                host_path::make(path, (*kind).into()).map_err(failed)?;
                State::HostPath(path.clone())
            }
            SpecSource::Artifact { directory, inside } => {
                let (directory, inside) = (directory.clone(), inside.clone());
                State::Artifact { directory, inside }
            }
            SpecSource::Disk {} => State::Disk(self.on_disk(name).map_err(io)?),
            SpecSource::Memory { size } => {
                let made = in_memory(&mut self.pod, *size, self.group);
                State::InMemory(made.map_err(io)?)
            }
            SpecSource::Files { files } => {
                let made = in_memory(&mut self.pod, None, self.group).map_err(io)?;
                files::write(made.as_fd(), files, self.group).map_err(io)?;
                State::InMemory(made)
            }
        };
        self.volumes[number].state = made;
        Ok(())
    }

    /// A directory beside the pod's logs; one that is there is gone on with.
    fn on_disk(&self, name: &str) -> io::Result<OwnedFd> {
        let directory = self.directory.join(name);
        std::fs::create_dir_all(&directory)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::open(&directory, flags, Mode::empty())?;
        files::give(made.as_fd(), 0o777, self.group)?;
        Ok(made)
    }

    /// A copy of what a mount shows.
    fn source<'a>(&self, mount: &'a SpecMount) -> Result<Source<'a>, Problem> {
        let failed = |why: String| Problem::Volume { volume: mount.volume.clone(), why };
        let known = self.volumes.iter().find(|volume| volume.name == mount.volume);
        let volume = known.ok_or_else(|| failed("the pod has no such volume".to_owned()))?;
        let io = |error: io::Error| failed(error.to_string());
        let looked_up;
        let root = match &volume.state {
            State::Wanted(_) => return Err(failed("it is not made yet".to_owned())),
            State::HostPath(path) => {
                looked_up =
                    target::look(path).map_err(|errno| failed(format!("{path}: {errno}")))?;
                looked_up.as_fd()
            }
            State::Artifact { directory, inside } => {
                looked_up = artifact(directory, inside.as_deref()).map_err(failed)?;
                looked_up.as_fd()
            }
            State::Disk(made) => made.as_fd(),
            State::InMemory(made) => {
                self.enter_pod().map_err(io)?;
                made.as_fd()
            }
        };
        let tree = match &mount.sub_path {
            // Not what is mounted over it: in the pod's namespace that is the next volume.
            None if matches!(volume.state, State::InMemory(_)) => Tree::alone(root).map_err(io),
            None => Tree::of(root).map_err(io),
            Some(path) => part(&volume.state, root, path)
                .and_then(|part| Tree::of(part.as_fd()))
                .map_err(|error| sub_path_problem(mount, path, &error)),
        };
        self.go_home()?;
        Ok(Source { mount, tree: tree? })
    }

    fn enter_pod(&self) -> io::Result<()> {
        self.pod.as_ref().map_or(Ok(()), Namespace::enter)
    }
}

impl Source<'_> {
    fn attach(&self, targets: &mut Targets<'_>) -> Result<(), Problem> {
        let SpecMount { path, read_only, propagation, .. } = self.mount;
        let failed = |why: String| Problem::Target { path: path.clone(), why };
        let io = |error: io::Error| failed(error.to_string());
        let target = targets.open(path, self.tree.as_fd()).map_err(failed)?;
        self.tree.attach(target.as_fd()).map_err(io)?;
        match propagation {
            SpecPropagation::None => self.tree.set_propagation(MountPropagationFlags::PRIVATE),
            SpecPropagation::HostToContainer => {
                self.tree.set_propagation(MountPropagationFlags::DOWNSTREAM)
            }
            // It was copied from the machine's, and shares with that.
            SpecPropagation::Bidirectional => Ok(()),
        }
        .map_err(io)?;
        match read_only {
            SpecReadOnly::No => Ok(()),
            SpecReadOnly::Top => self.tree.make_read_only(false),
            SpecReadOnly::Recursive => self.tree.make_read_only(true),
            SpecReadOnly::RecursiveIfPossible => match self.tree.make_read_only(true) {
                Err(error) if tree::is_unknown(&error) => self.tree.make_read_only(false),
                outcome => outcome,
            },
        }
        .map_err(|error| failed(format!("can't be made read-only: {error}")))
    }
}

impl Seen {
    /// Goes inside.
    pub(super) fn enter(&self) -> Result<Inside<'_>, Problem> {
        self.own.enter().map_err(Problem::Namespace)?;
        Ok(Inside { home: &self.home })
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        // Where this fails, the next start is refused until it succeeds.
        let _ = self.home.enter();
    }
}

impl Problem {
    /// As one word: the kubelet's where it has one.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::Volume { .. } => "FailedMount",
            Self::SubPath { .. } => "CreateContainerConfigError",
            Self::Target { .. }
            | Self::Namespace(_)
            | Self::ReadOnlyRoot(_)
            | Self::System { .. } => "RunContainerError",
        }
    }

    fn system(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::System { what, why: error.to_string() }
    }
}

/// A part of a volume; where nothing is, one is made, but in what was delivered.
fn part(state: &State, root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    match state {
        State::Artifact { .. } => beneath::find(root, path),
        _ => beneath::open(root, path),
    }
}

/// The directory of an artifact.
fn artifact(directory: &str, inside: Option<&str>) -> Result<OwnedFd, String> {
    let whole = target::look(directory).map_err(|errno| format!("its artifact: {errno}"))?;
    match inside {
        None => Ok(whole),
        Some(inside) => beneath::find(whole.as_fd(), inside)
            .map_err(|error| format!("{inside} of its artifact: {error}")),
    }
}

/// A directory in memory; leaves the pod's namespace entered.
fn in_memory(
    pod: &mut Option<Namespace>,
    size: Option<u64>,
    group: files::Group,
) -> io::Result<OwnedFd> {
    let made = keep(pod, &Tree::in_memory(size)?)?;
    files::give(made.as_fd(), 0o777, group)?;
    Ok(made)
}

/// Mounts a new file system in the pod's namespace, which is left entered. Where does not matter:
/// who has the descriptor has the mount, and nobody looks for it by a path.
fn keep(pod: &mut Option<Namespace>, tree: &Tree) -> io::Result<OwnedFd> {
    match pod {
        Some(pod) => pod.enter()?,
        None => *pod = Some(Namespace::copy()?),
    }
    tree.attach(target::look("/")?.as_fd())?;
    // Its copies in containers share what is mounted in them, where these ask for that.
    tree.set_propagation(MountPropagationFlags::SHARED)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(tree, ".", flags, Mode::empty())?)
}

fn sub_path_problem(mount: &SpecMount, path: &str, error: &io::Error) -> Problem {
    let why = match error.kind() {
        io::ErrorKind::CrossesDevices => "it leads out of the volume".to_owned(),
        _ => error.to_string(),
    };
    Problem::SubPath { volume: mount.volume.clone(), path: path.to_owned(), why }
}
