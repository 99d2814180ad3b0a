//! What is here, how it comes here, and how it goes: at most two files at a time, each once.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use everynode_model::{Artifact, Digest, Packing, Reason};
use tokio::sync::Semaphore;

use super::download::{At, Target, Tell, blocking, copy, download, has_room};
use super::fetch::{Client, FetchError};
use super::kept::{Kept, Wanted};
use super::oci::{Fetched, Keyring, Pull};
use super::problem::Problem;
use super::unpack::{Bounds, UnpackError, make_directory, unpack, unpack_layers};
use super::{name, plain_name};
use crate::data_dir::{remove_all, write_durably};

/// The largest file, if nothing else is said.
const DEFAULT_MAX_BYTES: u64 = 1 << 30;
/// How many times as much an archive may hold unpacked: programs are packed to a third of their size.
const UNPACKED: u64 = 4;
/// Files fetched at a time: one more than one slow server can hold up, and no more for a machine's line.
const AT_A_TIME: usize = 2;
/// The kubelet's word for what did not come.
pub(crate) const FAILED: &str = "ErrImagePull";
/// Where all of it is, in the agent's directory.
const DIRECTORY: &str = "artifacts";
/// Where what is whole is.
const WHOLE: &str = "sha256";
/// What is on its way.
const PARTIAL: &str = "partial";
/// What is being unpacked.
const UNPACK: &str = "unpack";
/// What is on its way out.
const REMOVED: &str = "removed";
/// Which artifacts are kept for whom; without it, none is kept besides what runs.
const KEPT: &str = "kept.json";

/// What this machine says of artifacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A directory of files, called by their digest or by their name: looked at first.
    pub directory: Option<PathBuf>,
    /// Where else files are asked for, in this order, before their own address.
    pub mirrors: Vec<Mirror>,
    /// A file of certificate authorities that are trusted besides the machine's.
    pub ca: Option<PathBuf>,
    /// A file of names and passwords for registries, as Docker has it.
    pub registry_config: Option<PathBuf>,
    /// The largest file; of an image, all of its layers together.
    pub max_bytes: u64,
}

/// Addresses that begin with `of` are there, too, with `at` instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    of: String,
    at: String,
}

/// The artifacts of this machine.
#[derive(Clone)]
pub struct Artifacts(Arc<Store>);

struct Store {
    root: PathBuf,
    settings: Settings,
    places: Semaphore,
    /// Those that are on their way; nobody begins a second time, and none of them is cleared away.
    /// Held through single calls of the disk: taken on threads for those alone.
    under_way: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    /// What is wanted, as the loop has said last; held for no longer than that takes.
    wanted: Mutex<Told>,
    /// As it is on the disk. Held while things are cleared away, on threads for that alone.
    kept: Mutex<Option<Kept>>,
}

/// What the loop has said of what it wants.
#[derive(Default)]
struct Told {
    wanted: Option<Wanted>,
    /// Somebody sees to it.
    seen_to: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let max_bytes = DEFAULT_MAX_BYTES;
        let (directory, ca, registry_config) = Default::default();
        Self { directory, mirrors: Vec::new(), ca, registry_config, max_bytes }
    }
}

impl Mirror {
    /// Reads `PREFIX=PREFIX`: of what, and where that is. The first is the beginning of an address,
    /// or of an image's whole name (`docker.io/library/x`).
    pub fn parse(text: &str) -> Option<Self> {
        let at = ["=https://", "=http://"].iter().filter_map(|start| text.find(start)).min()?;
        let (of, at) = text.split_at(at);
        let at = at.trim_start_matches('=');
        let is_of_image =
            !of.contains("://") && of.split_once('/').is_some_and(|(it, _)| !it.is_empty());
        (is_of_image || of.starts_with("https://")).then(|| Self { of: of.into(), at: at.into() })
    }

    /// Where what has this address or name is.
    pub(super) fn address(&self, of: &str) -> Option<String> {
        of.strip_prefix(&self.of).map(|rest| format!("{}{rest}", self.at))
    }
}

impl Artifacts {
    /// Those of a data directory. Makes nothing yet.
    pub fn new(data_dir: &Path, settings: Settings) -> Self {
        // Supervisors are somewhere else than their agent.
        let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        Self(Arc::new(Store {
            root: data_dir.join(DIRECTORY),
            settings,
            places: Semaphore::new(AT_A_TIME),
            under_way: Mutex::default(),
            wanted: Mutex::default(),
            kept: Mutex::default(),
        }))
    }

    /// Brings an artifact here, if it is not. May be dropped at any time: what has come is gone on
    /// with by the next try. Registries are told what is in `keyring`, or the machine's own. How
    /// far it is goes to `tell`, some times a second at most.
    ///
    /// # Errors
    /// Why not, in the kubelet's word for that.
    pub async fn bring(
        &self,
        artifact: &Artifact,
        keyring: &Keyring,
        tell: impl Fn(u64, Option<u64>) + Send + Sync + 'static,
    ) -> Result<(), Reason> {
        // A task of its own, which ends between two pieces when nobody waits for it any more: it never
        // leaves a file that somebody still writes to.
        let waits = Arc::new(());
        let (store, artifact, keyring, waiting) =
            (Arc::clone(&self.0), artifact.clone(), keyring.clone(), Arc::downgrade(&waits));
        let brought = tokio::spawn(async move {
            let brought = store.bring(&artifact, &keyring, waiting, &tell).await;
            tokio::task::spawn_blocking(move || store.clear_again());
            brought.map_err(|problem| Reason::new(FAILED, format!("{artifact}: {problem}")))
        });
        brought.await.unwrap_or_else(|error| Err(Reason::new(FAILED, error.to_string())))
    }

    /// Where they are: each in a directory called by its [`name`].
    pub fn directory(&self) -> PathBuf {
        self.0.root.join(WHOLE)
    }

    /// Whether it is here, whole.
    pub async fn has(&self, artifact: &Artifact) -> bool {
        self.0.is_whole(artifact).await.unwrap_or(false)
    }

    /// Has what nobody needs cleared away, but for what is on its way. `wanted` is all that is wanted;
    /// the last word counts. Waits for nothing.
    pub fn keep(&self, wanted: Wanted) {
        let mut told = lock(&self.0.wanted);
        told.wanted = Some(wanted);
        if !std::mem::replace(&mut told.seen_to, true) {
            let store = Arc::clone(&self.0);
            tokio::task::spawn_blocking(move || store.see_to_it());
        }
    }

    /// Removes everything.
    ///
    /// # Errors
    /// What could not be removed, and why.
    pub fn wipe(data_dir: &Path) -> io::Result<()> {
        remove_all(&data_dir.join(DIRECTORY))
    }
}

impl Store {
    async fn bring(
        self: &Arc<Self>,
        artifact: &Artifact,
        keyring: &Keyring,
        waiting: Weak<()>,
        tell: Tell<'_>,
    ) -> Result<(), Problem> {
        let (this, digest) = (Arc::clone(self), artifact.digest);
        let turn = blocking(move || Ok(this.turn(digest))).await?;
        let _turn = turn.lock().await;
        if self.is_whole(artifact).await? {
            return Ok(());
        }
        // Never closed.
        let _place = self.places.acquire().await;
        if waiting.strong_count() == 0 {
            return Err(Problem::Unwanted);
        }
        tracing::info!(%artifact, "fetching");
        match self.fetch(artifact, keyring, &waiting, tell).await {
            // What is kept for going back is worth less than what is to run.
            Err(Problem::Space { .. }) if self.make_room().await? => {
                self.fetch(artifact, keyring, &waiting, tell).await
            }
            outcome => outcome,
        }
    }

    async fn is_whole(&self, artifact: &Artifact) -> Result<bool, Problem> {
        let path = self.whole(artifact);
        blocking(move || Ok(path.is_dir())).await
    }

    async fn fetch(
        self: &Arc<Self>,
        artifact: &Artifact,
        keyring: &Keyring,
        waiting: &Weak<()>,
        tell: Tell<'_>,
    ) -> Result<(), Problem> {
        let this = Arc::clone(self);
        blocking(move || {
            for directory in [WHOLE, PARTIAL, UNPACK] {
                let directory = this.root.join(directory);
                DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            }
            Ok(())
        })
        .await?;
        match artifact.image() {
            Some(_) => self.fetch_image(artifact, keyring, waiting, tell).await,
            None => self.fetch_file(artifact, waiting, tell).await,
        }
    }

    async fn fetch_image(
        self: &Arc<Self>,
        artifact: &Artifact,
        keyring: &Keyring,
        waiting: &Weak<()>,
        tell: Tell<'_>,
    ) -> Result<(), Problem> {
        let image = artifact.image();
        let image = image.ok_or_else(|| FetchError::Address(artifact.address.clone()))?;
        let this = Arc::clone(self);
        let own = blocking(move || this.own_keyring()).await?;
        let (settings, partial) = (&self.settings, &self.root.join(PARTIAL));
        let keyrings = [keyring, &own];
        let pull = Pull { artifact, image: &image, settings, keyrings, partial, waiting };
        let layers = pull.layers(tell).await?;
        let (this, artifact) = (Arc::clone(self), artifact.clone());
        blocking(move || this.put_in_place(&artifact, |into| this.unpack_layers(&layers, into)))
            .await
    }

    async fn fetch_file(
        self: &Arc<Self>,
        artifact: &Artifact,
        waiting: &Weak<()>,
        tell: Tell<'_>,
    ) -> Result<(), Problem> {
        let path = self.root.join(PARTIAL).join(artifact.digest.to_string());
        let (max, waiting) = (self.settings.max_bytes, waiting.clone());
        let target = Target { path, digest: artifact.digest, max, size: None, waiting };
        let (this, of, to) = (Arc::clone(self), artifact.clone(), target.clone());
        if !blocking(move || this.copy(&of, &to)).await? {
            self.download(artifact, &target, tell).await?;
        }
        let (this, artifact, partial) = (Arc::clone(self), artifact.clone(), target.path);
        blocking(move || {
            this.put_in_place(&artifact, |into| match artifact.packing() {
                Packing::Plain => become_program(&partial, &into.join(plain_name(&artifact))),
                packing => this.unpack(packing, &partial, into),
            })
        })
        .await
    }

    /// Names and passwords that the machine has for all. Read each time: they may change.
    fn own_keyring(&self) -> Result<Keyring, Problem> {
        let mut keyring = Keyring::default();
        let Some(path) = &self.settings.registry_config else { return Ok(keyring) };
        let named = |line: String| {
            io::Error::other(format!("--registry-config {}: {line}", path.display()))
        };
        let text = fs::read(path).map_err(|error| named(error.to_string()))?;
        keyring.add_config(&text).map_err(|error| named(error.to_string()))?;
        Ok(keyring)
    }

    /// From a file of this machine; whether there is one. Another one of its name is none.
    fn copy(&self, artifact: &Artifact, target: &Target) -> Result<bool, Problem> {
        let names = [artifact.digest.to_string(), artifact.file_name().to_owned()];
        let directory = self.settings.directory.iter();
        let given = directory.flat_map(|directory| names.iter().map(|name| directory.join(name)));
        for path in given.filter(|path| path.is_file()) {
            match copy(&path, target) {
                Ok(()) => return Ok(true),
                Err(problem) if problem.is_of_its_source() => tracing::warn!("{problem}"),
                Err(problem) => return Err(problem),
            }
        }
        let Some(own) = artifact.address.strip_prefix("file://") else { return Ok(false) };
        copy(Path::new(own), target).map(|()| true)
    }

    /// From the first of its addresses that has it.
    async fn download(
        self: &Arc<Self>,
        artifact: &Artifact,
        target: &Target,
        tell: Tell<'_>,
    ) -> Result<(), Problem> {
        let this = Arc::clone(self);
        let client = blocking(move || Ok(Client::new(this.settings.ca.as_deref())?)).await?;
        let mirrors = self.settings.mirrors.iter();
        let mirrors = mirrors.filter_map(|mirror| mirror.address(&artifact.address));
        let mut failed = None;
        for address in mirrors.chain([artifact.address.clone()]) {
            let source = At { client: &client, address: &address };
            match download(&source, target, tell).await {
                Err(problem) if problem.is_of_its_source() => {
                    tracing::warn!("{problem}");
                    failed = Some(problem);
                }
                outcome => return outcome,
            }
        }
        let nobody = || Problem::Fetch(FetchError::Address(artifact.address.clone()));
        Err(failed.unwrap_or_else(nobody))
    }

    /// What was verified becomes the directory of its name, or nothing does.
    fn put_in_place(
        &self,
        artifact: &Artifact,
        fill: impl FnOnce(&Path) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let into = self.root.join(UNPACK).join(name(artifact));
        remove(&into);
        make_directory(&into)?;
        if let Err(problem) = fill(&into) {
            remove(&into);
            return Err(problem);
        }
        rustix::fs::syncfs(File::open(&into)?).map_err(io::Error::from)?;
        fs::rename(&into, self.whole(artifact))?;
        File::open(self.root.join(WHOLE))?.sync_all()?;
        let partial = self.root.join(PARTIAL);
        let parts = names(&partial).into_iter();
        let parts = parts.filter(|name| digest_of(name) == Some(artifact.digest));
        parts.for_each(|name| remove(&partial.join(name)));
        Ok(())
    }

    fn unpack(&self, packing: Packing, partial: &Path, into: &Path) -> Result<(), Problem> {
        let file = File::open(partial)?;
        self.bounded(into, |bounds| unpack(file, packing, into, bounds))
    }

    fn unpack_layers(&self, layers: &[Fetched], into: &Path) -> Result<(), Problem> {
        self.bounded(into, |bounds| unpack_layers(layers, into, bounds))
    }

    fn bounded(
        &self,
        into: &Path,
        work: impl FnOnce(Bounds<'_>) -> Result<(), UnpackError>,
    ) -> Result<(), Problem> {
        let max = self.settings.max_bytes.saturating_mul(UNPACKED);
        let has_room = |needed: u64| has_room(into, needed).map_err(|problem| problem.to_string());
        let unpacked = work(Bounds { max, has_room: &has_room });
        unpacked.map_err(|error| Problem::Unpack(error.to_string()))
    }

    fn whole(&self, artifact: &Artifact) -> PathBuf {
        self.root.join(WHOLE).join(name(artifact))
    }

    fn turn(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut under_way = lock(&self.under_way);
        under_way.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(under_way.entry(digest).or_default())
    }

    /// Gives up what is kept for going back; whether that may have helped.
    async fn make_room(self: &Arc<Self>) -> Result<bool, Problem> {
        let this = Arc::clone(self);
        blocking(move || {
            let mut kept = lock(&this.kept);
            let Some(known) = kept.as_mut() else { return Ok(false) };
            let before = known.clone();
            known.forget_before();
            let changed = *known != before;
            if changed {
                tracing::warn!("the disk has no room: nothing is kept for going back");
                this.clear(known);
            }
            Ok(changed)
        })
        .await
    }

    /// Until what is wanted is what was seen to.
    fn see_to_it(&self) {
        loop {
            // First: what was taken out of `wanted` must be in `kept` before anybody looks at both.
            let mut kept = lock(&self.kept);
            let wanted = {
                let mut told = lock(&self.wanted);
                let wanted = told.wanted.take();
                told.seen_to = wanted.is_some();
                wanted
            };
            let Some(wanted) = wanted else { return };
            let kept = kept.get_or_insert_with(|| self.read_kept());
            let before = kept.clone();
            kept.turn(wanted, |name| self.root.join(WHOLE).join(name).is_dir());
            if *kept != before
                && let Err(error) = self.write_kept(kept)
            {
                tracing::warn!("{KEPT} was not written: {error}");
            }
            self.clear(kept);
        }
    }

    /// What was on its way could not be cleared away, whether anybody waits for it still or not.
    fn clear_again(&self) {
        if let Some(kept) = &*lock(&self.kept) {
            self.clear(kept);
        }
    }

    fn clear(&self, kept: &Kept) {
        let is_here = |name: &str| self.root.join(WHOLE).join(name).is_dir();
        for name in names(&self.root.join(WHOLE)) {
            if !kept.has(&name) {
                self.drop_one(WHOLE, &name);
            }
        }
        for directory in [PARTIAL, UNPACK] {
            for name in names(&self.root.join(directory)) {
                let digest = digest_of(&name).map(|digest| digest.to_string());
                if digest.is_none_or(|digest| !kept.wants(&digest, is_here)) {
                    self.drop_one(directory, &name);
                }
            }
        }
        // Also what a process that was killed has left.
        remove(&self.root.join(REMOVED));
    }

    /// Out of the way by one rename, so that never a part of it is taken for all.
    fn drop_one(&self, directory: &str, name: &str) {
        let path = self.root.join(directory).join(name);
        let removed = self.root.join(REMOVED);
        // No try begins meanwhile.
        let under_way = lock(&self.under_way);
        let turn = digest_of(name).and_then(|digest| under_way.get(&digest));
        if turn.is_some_and(|turn| Arc::strong_count(turn) > 1) || self.is_wanted(name) {
            return;
        }
        tracing::info!(name, directory, "an artifact is not needed any more");
        let moved = fs::create_dir_all(&removed)
            .and_then(|()| fs::rename(&path, removed.join(format!("{directory}-{name}"))));
        if let Err(error) = moved {
            tracing::warn!(path = %path.display(), "not removed: {error}");
        }
    }

    /// Whether it is wanted by what nobody has seen to yet.
    fn is_wanted(&self, name: &str) -> bool {
        let told = lock(&self.wanted);
        let mut places = told.wanted.iter().flat_map(|wanted| wanted.values());
        places.any(|names| names.contains(name))
    }

    fn read_kept(&self) -> Kept {
        let read = fs::read(self.root.join(KEPT));
        read.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn write_kept(&self, kept: &Kept) -> io::Result<()> {
        if !self.root.is_dir() {
            return Ok(());
        }
        let text = serde_json::to_vec(kept).map_err(io::Error::other)?;
        write_durably(&self.root.join(KEPT), &text)
    }
}

/// A file that is not unpacked is a program.
fn become_program(partial: &Path, at: &Path) -> Result<(), Problem> {
    fs::set_permissions(partial, Permissions::from_mode(0o755))?;
    Ok(fs::rename(partial, at)?)
}

/// Whose directory it is.
fn digest_of(name: &str) -> Option<Digest> {
    name.split('.').next()?.parse().ok()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn remove(path: &Path) {
    let removed = match path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), "not removed: {error}");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
