//! The roles in a pod: each sees to it that its turn has come, by files in a volume of the pod, and
//! by locks on them, which go with whoever holds them.
//!
//! ```text
//!   init (holds init) ─ prepared ─▶ side (side-up) ─▶ main (holds main; main-up)
//!                                    main: hook (holds hook) ─▶ SIGTERM ─▶ dead ─▶ side: SIGTERM
//! ```
//!
//! What may happen at any time is a death; so nothing here wants somebody to be alive.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::FlockOperation;
use tokio::signal::unix::Signal;

use crate::diary::Diary;
use crate::{AGAIN, ALONE, Words, missing, open, try_lock};

/// How long init containers and hooks take: long enough to be killed meanwhile.
const TAKES: Duration = Duration::from_millis(100);

/// The volume that the containers of a pod share.
pub(crate) struct Pod(PathBuf);

impl Pod {
    pub(crate) fn of(words: &Words) -> Option<Self> {
        words.after("--pod").map(|dir| Self(dir.into()))
    }

    fn needed(words: &Words) -> io::Result<Self> {
        Self::of(words).ok_or_else(|| missing("--pod"))
    }

    /// The main container is there: gives what shows that it is.
    pub(crate) fn main_is_up(&self, diary: &mut Diary) -> io::Result<File> {
        for before in ["prepared", "side-up"] {
            if !self.0.join(before).exists() {
                diary.early(&format!("main is started before {before}"))?;
            }
        }
        if self.is_held("init")? {
            diary.early("main is started while an init container runs")?;
        }
        let lock = self.file("main")?;
        if !try_lock(&lock, ALONE)? {
            diary.early("main is started while another of its pod runs")?;
        }
        fs::write(self.0.join("main-up"), "")?;
        Ok(lock)
    }

    /// It was told to end.
    pub(crate) fn main_is_told(&self, diary: &mut Diary) -> io::Result<()> {
        if self.is_held("hook")? {
            diary.early("main is told to end while its hook runs")?;
        }
        Ok(())
    }

    /// Two who look at once are not in each other's way.
    fn is_held(&self, name: &str) -> io::Result<bool> {
        try_lock(&self.file(name)?, FlockOperation::NonBlockingLockShared).map(|taken| !taken)
    }

    fn file(&self, name: &str) -> io::Result<File> {
        open(self.0.join(name))
    }
}

/// Prepares the pod, once and before all others.
pub(crate) async fn init(words: &Words) -> io::Result<()> {
    let (pod, mut diary) = (Pod::needed(words)?, Diary::open(words)?);
    let lock = pod.file("init")?;
    if !try_lock(&lock, ALONE)? {
        diary.early("an init container runs twice")?;
    }
    for after in ["side-up", "main-up"] {
        if pod.0.join(after).exists() {
            diary.early(&format!("an init container is started after {after}"))?;
        }
    }
    tokio::time::sleep(TAKES).await;
    fs::write(pod.0.join("prepared"), "")?;
    diary.say("prepared")
}

/// Is there before the main container, and after it.
pub(crate) async fn side(words: &Words, ending: &mut Signal) -> io::Result<()> {
    let (pod, mut diary) = (Pod::needed(words)?, Diary::open(words)?);
    if !pod.0.join("prepared").exists() || pod.is_held("init")? {
        diary.early("a sidecar is started before its init container has ended")?;
    }
    fs::write(pod.0.join("side-up"), "")?;
    diary.say("side-up")?;
    ending.recv().await;
    if pod.is_held("main")? {
        diary.early("a sidecar is told to end before main has ended")?;
    }
    diary.say("side-down")
}

/// The main container's preStop. One that was killed may take a moment to be gone.
pub(crate) async fn hook(words: &Words) -> io::Result<()> {
    let (pod, mut diary) = (Pod::needed(words)?, Diary::open(words)?);
    let lock = pod.file("hook")?;
    while !try_lock(&lock, ALONE)? {
        tokio::time::sleep(AGAIN).await;
    }
    diary.say("hook")?;
    tokio::time::sleep(TAKES).await;
    diary.say("hooked")
}

/// Whether there is the file that somebody of the pod makes once it is up.
pub(crate) fn is_up(words: &Words) -> io::Result<bool> {
    Ok(Pod::needed(words)?.0.join(words.after("--up").unwrap_or("main-up")).exists())
}
