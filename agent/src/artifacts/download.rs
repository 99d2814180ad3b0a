//! A file that is fetched, on the disk: gone on with where a connection broke, or an agent died.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use everynode_model::Digest;
use http::StatusCode;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, timeout_at};

use super::fetch::{Client, Coming, FetchError};
use super::problem::Problem;

/// How often a file is gone on with in one try, each time further than before.
const RESUMES: usize = 16;
/// What is written at a time: few turns of a thread, and little of an agent's memory.
const PIECE: usize = 256 << 10;
/// How long one may take. Whoever serves less than 4 KiB a second keeps others from their turn.
const PIECE_WITHIN: Duration = Duration::from_secs(60);
/// What is read at a time.
const CHUNK: usize = 64 << 10;
/// What has to stay free on the disk, for the ledger and for logs.
pub(super) const RESERVE: u64 = 64 << 20;

/// Where a file is put, and what of it is taken.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The file.
    pub(super) path: PathBuf,
    /// What its bytes must be.
    pub(super) digest: Digest,
    /// The most bytes.
    pub(super) max: u64,
    /// How many they are, where that is known: neither more nor fewer are taken.
    pub(super) size: Option<u64>,
    /// Gone when nobody waits for it any more.
    pub(super) waiting: Weak<()>,
}

/// Where a file is asked for.
pub(super) trait Source: Sync {
    /// Its address, for people.
    fn address(&self) -> &str;

    /// The file from byte `from` on.
    fn get(&self, from: u64) -> impl Future<Output = Result<Coming, FetchError>> + Send;
}

/// A plain address.
pub(super) struct At<'a> {
    pub(super) client: &'a Client,
    pub(super) address: &'a str,
}

impl Source for At<'_> {
    fn address(&self) -> &str {
        self.address
    }

    async fn get(&self, from: u64) -> Result<Coming, FetchError> {
        self.client.get(self.address, from).await
    }
}

/// How far it is: bytes, of how many, if that is known.
pub(super) type Tell<'a> = &'a (dyn Fn(u64, Option<u64>) + Send + Sync);

/// Brings a file from where it is; it is there and verified afterwards, and what is of no use is
/// not.
pub(super) async fn download(
    source: &impl Source,
    target: &Target,
    tell: Tell<'_>,
) -> Result<(), Problem> {
    let mut partial = open(target).await?;
    if partial.is(target) {
        // All of it came before: nobody has to be asked.
        return Ok(());
    }
    if target.size.is_some_and(|size| size <= partial.length) {
        partial.on_thread(target, |partial, _| Ok(partial.begin_anew()?)).await?;
    }
    let mut had = None;
    for _ in 0..RESUMES {
        if had.is_some_and(|had| had >= partial.length) {
            break;
        }
        let began_at = partial.length;
        had = Some(began_at);
        match go_on(source, target, &mut partial, tell).await {
            Ok(()) => {}
            Err(Problem::Fetch(FetchError::Broken { address, line })) => {
                tracing::info!(address, "broken off: {line}");
                continue;
            }
            // Nothing is left of it to be asked for: what is here is all, or something else.
            Err(Problem::Fetch(FetchError::Refused { status, .. }))
                if status == StatusCode::RANGE_NOT_SATISFIABLE && began_at > 0 => {}
            Err(problem) => return Err(problem),
        }
        match partial.finish(source.address(), target).await {
            // What was gone on with was of something else, or damaged by a power cut.
            Err(Problem::Digest { .. }) if began_at > 0 => {
                partial = open(target).await?;
                had = None;
            }
            outcome => return outcome,
        }
    }
    let line = "every connection breaks off before it brings anything".into();
    Err(FetchError::Broken { address: source.address().into(), line }.into())
}

/// Copies a file of this machine, which may be written meanwhile: what counts is the copy.
pub(super) fn copy(from: &Path, target: &Target) -> Result<(), Problem> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", from.display()));
    let mut source = File::open(from).map_err(named)?;
    let found = source.metadata().map_err(named)?;
    if !found.is_file() {
        return Err(named(io::Error::other("not a regular file")).into());
    }
    let mut partial = Partial::open(&target.path)?;
    partial.begin_anew()?;
    partial.expect(found.len(), target)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match source.read(&mut buffer).map_err(named)? {
            0 => break,
            read => partial.take(buffer.get(..read).unwrap_or_default(), target)?,
        }
    }
    partial.verify(&from.display().to_string(), target)
}

/// Whether so many bytes have room beside what has to stay free.
pub(super) fn has_room(path: &Path, needed: u64) -> Result<(), Problem> {
    let system = rustix::fs::statvfs(path).map_err(io::Error::from)?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    match needed.saturating_add(RESERVE) > free {
        true => Err(Problem::Space { needed, free, reserve: RESERVE }),
        false => Ok(()),
    }
}

/// Runs what waits for a disk on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Problem::Disk(io::Error::other(error))))
}

/// A file on its way, and the digest of what has come.
#[derive(Debug)]
struct Partial {
    file: File,
    digest: Sha256,
    length: u64,
}

async fn open(target: &Target) -> Result<Partial, Problem> {
    let path = target.path.clone();
    blocking(move || Ok(Partial::open(&path)?)).await
}

/// From one connection, as far as it lasts.
async fn go_on(
    source: &impl Source,
    target: &Target,
    partial: &mut Partial,
    tell: Tell<'_>,
) -> Result<(), Problem> {
    let mut coming = source.get(partial.length).await?;
    let (anew, length) = (coming.from != partial.length, coming.length.unwrap_or(0));
    let other_size = || Problem::of_size(source.address(), target);
    if target.size.zip(coming.length).is_some_and(|(size, length)| size != length) {
        return Err(other_size());
    }
    partial
        .on_thread(target, move |partial, target| {
            if anew {
                partial.begin_anew()?;
            }
            partial.expect(length, target)
        })
        .await?;
    tell(partial.length, coming.length);
    loop {
        let (piece, more) = piece(&mut coming).await;
        let length = partial.length.saturating_add(piece.len() as u64);
        if target.size.is_some_and(|size| length > size) {
            return Err(other_size());
        }
        partial.on_thread(target, move |partial, target| partial.take(&piece, target)).await?;
        tell(partial.length, coming.length);
        if target.waiting.strong_count() == 0 {
            return Err(Problem::Unwanted);
        }
        if !more? {
            break;
        }
    }
    match coming.length.or(target.size) {
        Some(length) if length > partial.length => {
            let line = format!("it ended after {} of {length} bytes", partial.length);
            Err(coming.broken(line).into())
        }
        _ => Ok(()),
    }
}

/// What has come since, and whether there may be more. What came before a connection broke counts.
async fn piece(coming: &mut Coming) -> (Vec<u8>, Result<bool, FetchError>) {
    let mut piece = Vec::new();
    let until = Instant::now() + PIECE_WITHIN;
    while piece.len() < PIECE {
        match timeout_at(until, coming.next()).await {
            Ok(Ok(Some(bytes))) => piece.extend_from_slice(&bytes),
            Ok(Ok(None)) => return (piece, Ok(false)),
            Ok(Err(error)) => return (piece, Err(error)),
            Err(_) => {
                let line = format!("{} bytes within {PIECE_WITHIN:?}: too slow", piece.len());
                return (piece, Err(coming.broken(line)));
            }
        }
    }
    (piece, Ok(true))
}

impl Problem {
    fn of_size(from: &str, target: &Target) -> Self {
        Self::Size { from: from.into(), size: target.size.unwrap_or(target.max) }
    }
}

impl Partial {
    /// What an earlier try has left is gone on with.
    fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path)?;
        let (mut digest, mut length) = (Sha256::new(), 0_u64);
        let mut buffer = vec![0; CHUNK];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Self { file, digest, length }),
                read => {
                    digest.update(buffer.get(..read).unwrap_or_default());
                    length = length.saturating_add(read as u64);
                }
            }
        }
    }

    /// Of what has come so far.
    fn digest(&self) -> Digest {
        Digest::from_bytes(self.digest.clone().finalize().into())
    }

    fn is(&self, target: &Target) -> bool {
        self.digest() == target.digest && target.size.is_none_or(|size| size == self.length)
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        (self.digest, self.length) = (Sha256::new(), 0);
        Ok(())
    }

    /// Before anything of a file of this length comes.
    fn expect(&self, length: u64, target: &Target) -> Result<(), Problem> {
        if length > target.max {
            return Err(Problem::TooLarge(target.max));
        }
        has_room(&target.path, length.saturating_sub(self.length))
    }

    /// Does what waits for the disk on a thread for that. On an error it is of no use any more.
    async fn on_thread(
        &mut self,
        target: &Target,
        work: impl FnOnce(&mut Self, &Target) -> Result<(), Problem> + Send + 'static,
    ) -> Result<(), Problem> {
        let target = target.clone();
        let digest = std::mem::take(&mut self.digest);
        let mut there = Self { file: self.file.try_clone()?, digest, length: self.length };
        *self = blocking(move || work(&mut there, &target).map(|()| there)).await?;
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], target: &Target) -> Result<(), Problem> {
        let length = self.length.saturating_add(bytes.len() as u64);
        if length > target.max {
            std::fs::remove_file(&target.path)?;
            return Err(Problem::TooLarge(target.max));
        }
        has_room(&target.path, bytes.len() as u64)?;
        self.digest.update(bytes);
        self.file.write_all(bytes)?;
        self.length = length;
        Ok(())
    }

    async fn finish(self, from: &str, target: &Target) -> Result<(), Problem> {
        let (from, target) = (from.to_owned(), target.clone());
        blocking(move || self.verify(&from, &target)).await
    }

    /// All has come: is it what was wanted? What is not must not be gone on with.
    fn verify(self, from: &str, target: &Target) -> Result<(), Problem> {
        let is = self.digest();
        let problem = if is != target.digest {
            Problem::Digest { from: from.into(), is }
        } else if target.size.is_some_and(|size| size != self.length) {
            Problem::of_size(from, target)
        } else {
            return Ok(());
        };
        std::fs::remove_file(&target.path)?;
        Err(problem)
    }
}
