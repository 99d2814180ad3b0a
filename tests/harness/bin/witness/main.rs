//! The lock witness: a workload that notices when it is not alone on its node, and when something
//! around it happens out of turn.
//!
//! `everynode-witness --dir D [--mark M] [--role R] …`, with the node's name in `$NODE`. It takes an
//! exclusive lock on `D/NODE.lock`, which goes with its death, and appends what happens to
//! `D/NODE.log` (see `everynode_tests::witness`).
//!
//! - `--beside`: there may be two, an old and a new; a third is an overlap.
//! - `--child`: a child holds the lock while the first process only waits: a death that takes the
//!   first alone must not count as a death.
//! - `--stubborn`: pays no heed to SIGTERM.
//! - `--port N`: answers every HTTP request on it.
//! - `--print`: prints enough for its log to rotate every second or two.
//! - `--same FILE`: the file holds the mark, else its revision is mixed up with another.
//! - `--pod P`: sees to the order in its pod (see [`order`]), by files in a volume.
//! - `--role init|side|hook|probe`: one of the others in that pod.

mod diary;
mod order;
mod work;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::diary::Diary;
use crate::order::Pod;

/// Between two attempts at a lock that somebody else has.
const AGAIN: Duration = Duration::from_millis(10);

/// How a lock is held by whoever must be the only one.
const ALONE: FlockOperation = FlockOperation::NonBlockingLockExclusive;

/// How long it takes to end once it is asked to: real daemons take their time, and a supervisor
/// that does not wait for them would start the next one meanwhile.
const ENDING: Duration = Duration::from_millis(200);

/// The command line.
pub(crate) struct Words(Vec<String>);

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<ExitCode> {
    let words = Words(std::env::args().skip(1).collect());
    let mut ending = signal(SignalKind::terminate())?;
    match words.after("--role") {
        None if words.has("--child") => parent(&words, &mut ending).await?,
        None => witness(&words, &mut ending).await?,
        Some("init") => order::init(&words).await?,
        Some("side") => order::side(&words, &mut ending).await?,
        Some("hook") => order::hook(&words).await?,
        Some("probe") if order::is_up(&words)? => {}
        Some(_) => return Ok(ExitCode::FAILURE),
    }
    Ok(ExitCode::SUCCESS)
}

/// Leaves everything to a child and waits for its end.
async fn parent(words: &Words, ending: &mut Signal) -> io::Result<()> {
    let words = words.0.iter().filter(|word| *word != "--child");
    let mut child = std::process::Command::new(std::env::current_exe()?).args(words).spawn()?;
    let mut ended = signal(SignalKind::child())?;
    tokio::select! {
        _ = ended.recv() => {}
        // The supervisor asks all of the pod, so the child was asked too.
        _ = ending.recv() => {}
    }
    child.wait().map(drop)
}

async fn witness(words: &Words, ending: &mut Signal) -> io::Result<()> {
    let mut diary = Diary::open(words)?;
    let pod = Pod::of(words);
    diary.say("started")?;
    for file in words.all_after("--same") {
        let is = fs::read_to_string(file).unwrap_or_default();
        if is.trim() != diary.mark() {
            diary.early(&format!("{file} holds {is:?}"))?;
        }
    }
    let _up = pod.as_ref().map(|pod| pod.main_is_up(&mut diary)).transpose()?;
    let _lock = tokio::select! {
        taken = take(words, &mut diary) => taken?,
        _ = ending.recv() => return Ok(()),
    };
    tokio::select! {
        _ = ending.recv() => {}
        failed = work::work(words) => failed?,
    }
    if let Some(pod) = &pod {
        pod.main_is_told(&mut diary)?;
    }
    diary.say("stopping")?;
    if words.has("--stubborn") {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(ENDING).await;
    diary.say("ended")
}

/// Has the lock when it returns; writes down once that it had to wait for it.
async fn take(words: &Words, diary: &mut Diary) -> io::Result<File> {
    let places = if words.has("--beside") { &["lock", "second-lock"][..] } else { &["lock"] };
    let (dir, node) = (words.dir()?, words.node()?);
    let open = |place: &&str| open(dir.join(format!("{node}.{place}")));
    let mut locks = places.iter().map(open).collect::<io::Result<Vec<_>>>()?;
    let mut waited = false;
    loop {
        for n in 0..locks.len() {
            if try_lock(&locks[n], ALONE)? {
                diary.say("locked")?;
                return Ok(locks.swap_remove(n));
            }
        }
        if !std::mem::replace(&mut waited, true) {
            diary.say("overlap")?;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// A file to append to, or to lock.
pub(crate) fn open(path: PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Whether the lock could be had.
pub(crate) fn try_lock(file: &File, how: FlockOperation) -> io::Result<bool> {
    match flock(file, how) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Words {
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|word| word == flag)
    }

    pub(crate) fn after(&self, flag: &str) -> Option<&str> {
        self.all_after(flag).next()
    }

    pub(crate) fn all_after(&self, flag: &str) -> impl Iterator<Item = &str> {
        let pairs = self.0.windows(2).filter(move |pair| pair[0] == flag);
        pairs.map(|pair| pair[1].as_str())
    }

    pub(crate) fn dir(&self) -> io::Result<PathBuf> {
        self.after("--dir").map(PathBuf::from).ok_or_else(|| missing("--dir"))
    }

    #[expect(clippy::unused_self, reason = "it is told as the words are")]
    pub(crate) fn node(&self) -> io::Result<String> {
        std::env::var("NODE").map_err(|_| missing("$NODE"))
    }
}

pub(crate) fn missing(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{what} is missing"))
}
