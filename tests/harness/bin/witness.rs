//! The lock witness: a workload that notices when it is not alone on its node.
//!
//! `everynode-witness --dir D [--mark M] [--child]`, with the node's name in `$NODE`. It takes an
//! exclusive lock on `D/NODE.lock`, which goes with its death, and appends what happens to
//! `D/NODE.log` (see `everynode_tests::witness`). With `--child` a child holds the lock while the
//! first process only waits: a death that takes the first alone must not count as a death.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::time::{ClockId, clock_gettime};
use tokio::signal::unix::{Signal, SignalKind, signal};

struct Witness {
    lock: File,
    log: File,
    mark: String,
}

/// Between two attempts at a lock that somebody else has.
const AGAIN: Duration = Duration::from_millis(10);

/// How long it takes to end once it is asked to: real daemons take their time, and a supervisor
/// that does not wait for them would start the next one meanwhile.
const ENDING: Duration = Duration::from_millis(200);

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut ending = signal(SignalKind::terminate())?;
    if words.iter().any(|word| word == "--child") {
        return parent(&words, &mut ending).await;
    }
    let mut witness = Witness::open(&words)?;
    witness.say("started")?;
    tokio::select! {
        taken = witness.take() => taken?,
        _ = ending.recv() => return Ok(()),
    }
    ending.recv().await;
    witness.say("stopping")?;
    tokio::time::sleep(ENDING).await;
    witness.say("ended")
}

/// Leaves everything to a child and waits for its end.
async fn parent(words: &[String], ending: &mut Signal) -> io::Result<()> {
    let words = words.iter().filter(|word| *word != "--child");
    let mut child = std::process::Command::new(std::env::current_exe()?).args(words).spawn()?;
    let mut ended = signal(SignalKind::child())?;
    tokio::select! {
        _ = ended.recv() => {}
        // The supervisor asks all of the pod, so the child was asked too.
        _ = ending.recv() => {}
    }
    child.wait().map(drop)
}

impl Witness {
    fn open(words: &[String]) -> io::Result<Self> {
        let after = |flag: &str| {
            let at = words.iter().position(|word| word == flag)?;
            words.get(at + 1).cloned()
        };
        let need = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let node = std::env::var("NODE").map_err(|_| need("NODE is not set"))?;
        let dir = PathBuf::from(after("--dir").ok_or_else(|| need("--dir is missing"))?);
        let open = |name: String| OpenOptions::new().create(true).append(true).open(dir.join(name));
        Ok(Self {
            lock: open(format!("{node}.lock"))?,
            log: open(format!("{node}.log"))?,
            mark: after("--mark").unwrap_or_else(|| "-".into()),
        })
    }

    /// Has the lock when it returns; writes down once that it had to wait for it.
    async fn take(&mut self) -> io::Result<()> {
        let mut waited = false;
        while let Err(error) = flock(&self.lock, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(error.into());
            }
            if !std::mem::replace(&mut waited, true) {
                self.say("overlap")?;
            }
            tokio::time::sleep(AGAIN).await;
        }
        self.say("locked")
    }

    /// One line in one write: whole, or not there.
    fn say(&mut self, what: &str) -> io::Result<()> {
        let now = clock_gettime(ClockId::Boottime);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        let line = format!("{micros} {} {} {what}\n", std::process::id(), self.mark);
        self.log.write_all(line.as_bytes())
    }
}
