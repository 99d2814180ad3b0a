//! Images of registries: an index or a manifest by its digest, the manifest for this machine, and
//! its layers. Each is a file of its own, fetched, gone on with and verified like every other.
//!
//! ```text
//!   index ──▶ manifest ──▶ layers         partial/REF.DIGEST each, REF the reference's digest
//!     └── by digest, size and platform ──┘
//! ```
//!
//! - [`documents`]: what they say. [`registry`]: whom to ask, and how ([`challenge`]).
//! - [`keyring`]: names and passwords. How layers become files is not here: `unpack/layers.rs`.

mod challenge;
mod documents;
mod keyring;
mod registry;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Weak;

use everynode_model::{Artifact, Digest, ImageName};

use super::download::{Source as _, Target, Tell, blocking, copy, download};
use super::fetch::{Client, FetchError};
use super::problem::Problem;
use super::store::Settings;
use documents::{Blob, Document, for_this_machine, layers};
use registry::Registry;

pub(super) use documents::ImageError;
pub use keyring::Keyring;

/// The largest index or manifest: registries take no larger ones.
const MAX_DOCUMENT: u64 = 4 << 20;
/// How much is quoted of what somebody else has written, in bytes, about: a line of a terminal or two.
const MAX_QUOTED: usize = 200;

/// A layer that is on this machine.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    /// The file.
    pub(super) path: PathBuf,
    /// What it is called in the volume, where it is one file; otherwise it is an archive.
    pub(super) name: Option<String>,
}

/// Where to fetch from, and what for.
#[derive(Clone, Copy)]
pub(super) struct Pull<'a> {
    pub(super) artifact: &'a Artifact,
    pub(super) image: &'a ImageName,
    pub(super) settings: &'a Settings,
    /// Those of the pod, and those of the machine.
    pub(super) keyrings: [&'a Keyring; 2],
    /// Where what is on its way is.
    pub(super) partial: &'a Path,
    /// Gone when nobody waits for it any more.
    pub(super) waiting: &'a Weak<()>,
}

/// A content of an image.
#[derive(Clone, Copy)]
enum Part {
    /// An index or a manifest.
    Document,
    Layer,
}

impl Pull<'_> {
    /// Brings the layers here, from the lowest; what is here of them is gone on with.
    pub(super) async fn layers(&self, tell: Tell<'_>) -> Result<Vec<Fetched>, Problem> {
        let ca = self.settings.ca.clone();
        let client = blocking(move || Ok(Client::new(ca.as_deref())?)).await?;
        let registries = self.registries(&client);
        let layers = self.plan(&registries).await?;
        let sizes = layers.iter().map(|layer| layer.blob.size);
        let all = sizes.fold(0_u64, u64::saturating_add);
        if all > self.settings.max_bytes {
            return Err(Problem::TooLarge(self.settings.max_bytes));
        }
        let (mut fetched, mut had) = (Vec::new(), 0_u64);
        for layer in layers {
            let tell = |have: u64, _: Option<u64>| tell(had.saturating_add(have), Some(all));
            let target = self.target(layer.blob.digest, Some(layer.blob.size), all);
            self.bring(&registries, Part::Layer, &target, &tell).await?;
            had = had.saturating_add(layer.blob.size);
            fetched.push(Fetched { path: target.path, name: layer.file });
        }
        Ok(fetched)
    }

    /// In the order in which they are asked.
    fn registries<'a>(&self, client: &'a Client) -> Vec<Registry<'a>> {
        let name = format!("{}/{}", self.image.registry, self.image.repository);
        let mirrors = self.settings.mirrors.iter().filter_map(|mirror| mirror.address(&name));
        let mirrors = mirrors.filter_map(|at| Registry::mirror(client, &at, self.keyrings));
        mirrors.chain([Registry::new(client, self.image, self.keyrings)]).collect()
    }

    /// What the image is made of on this machine.
    async fn plan(&self, registries: &[Registry<'_>]) -> Result<Vec<documents::Layer>, Problem> {
        let of = self.artifact.digest;
        let (of, found) = match self.document(registries, of, None).await? {
            Document::Index(entries) => {
                let Blob { digest, size } = for_this_machine(of, &entries)?;
                (digest, self.document(registries, digest, Some(size)).await?)
            }
            manifest => (of, manifest),
        };
        match found {
            Document::Manifest(found) => Ok(layers(of, &found)?),
            Document::Index(_) => {
                let why = "it is an index in an index".into();
                Err(ImageError::Document { of, why }.into())
            }
        }
    }

    async fn document(
        &self,
        registries: &[Registry<'_>],
        of: Digest,
        size: Option<u64>,
    ) -> Result<Document, Problem> {
        let target = self.target(of, size, MAX_DOCUMENT);
        if size.is_some_and(|size| size > MAX_DOCUMENT) {
            let why = format!("it has more than {MAX_DOCUMENT} bytes");
            return Err(ImageError::Document { of, why }.into());
        }
        self.bring(registries, Part::Document, &target, &|_, _| ()).await?;
        let text = blocking(move || Ok(fs::read(&target.path)?)).await?;
        Ok(Document::read(of, &text)?)
    }

    fn target(&self, digest: Digest, size: Option<u64>, max: u64) -> Target {
        let path = self.partial.join(format!("{}.{digest}", self.artifact.digest));
        Target { path, digest, max, size, waiting: self.waiting.clone() }
    }

    /// From the machine's directory, or the first registry that has it.
    async fn bring(
        &self,
        registries: &[Registry<'_>],
        part: Part,
        target: &Target,
        tell: Tell<'_>,
    ) -> Result<(), Problem> {
        if self.copied(target).await? {
            return Ok(());
        }
        let mut failed = None;
        for registry in registries {
            let content = match part {
                Part::Document => registry.manifest(target.digest),
                Part::Layer => registry.blob(target.digest),
            };
            let outcome = download(&content, target, tell).await;
            match outcome.map_err(|problem| not_this(problem, content.address())) {
                Err(problem) if problem.is_of_its_source() => {
                    tracing::warn!("{problem}");
                    failed = Some(problem);
                }
                outcome => return outcome,
            }
        }
        let nobody = || Problem::Fetch(FetchError::Address(self.artifact.address.clone()));
        Err(failed.unwrap_or_else(nobody))
    }

    /// Whether it is in the machine's directory, as what it should be.
    async fn copied(&self, target: &Target) -> Result<bool, Problem> {
        let Some(directory) = &self.settings.directory else { return Ok(false) };
        let (path, target) = (directory.join(target.digest.to_string()), target.clone());
        let copy = |path: &Path, target: &Target| {
            copy(path, target).map_err(|it| not_this(it, &path.display().to_string()))
        };
        blocking(move || match path.is_file().then(|| copy(&path, &target)) {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(problem)) if problem.is_of_its_source() => {
                tracing::warn!("{problem}");
                Ok(false)
            }
            Some(Err(problem)) => Err(problem),
        })
        .await
    }
}

/// What is larger than a part of an image may be is something else, and the next source may have
/// the part. The machine's own limit is looked at before any layer is asked for.
fn not_this(problem: Problem, from: &str) -> Problem {
    match problem {
        Problem::TooLarge(max) => {
            let line = format!("more than {max} bytes");
            FetchError::Broken { address: from.into(), line }.into()
        }
        other => other,
    }
}

/// The beginning of what somebody else has written, fit for a line and a terminal.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for letter in text.chars() {
        if quoted.len() >= MAX_QUOTED {
            quoted.push('…');
            break;
        }
        match letter {
            '"' | '\'' | '\\' => quoted.push(letter),
            other => quoted.extend(other.escape_debug()),
        }
    }
    quoted
}
