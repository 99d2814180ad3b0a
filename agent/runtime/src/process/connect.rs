//! Finds a supervisor at its socket, and tells one that is slow from one that is dead.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use everynode_agent_core::{Marks, PodRef};
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::cgroup::Cgroup;
use crate::shim::plan::WirePlan;
use crate::shim::protocol::{self, Account, MAX_LINE, Message, Request, SOCKET};

/// How long one try at coming back may take: it only asks for the account, perhaps on a very busy
/// machine.
pub(super) const AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// The pauses before coming back: so that a supervisor that hangs up each time costs little, and a
/// death is noticed soon all the same.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const AGAIN_AT_MOST: Duration = Duration::from_secs(5);

/// A fresh connection, whose supervisor has given its account.
pub(super) struct Connected {
    pub(super) address: Address,
    pub(super) stream: UnixStream,
    /// What it has said beyond that.
    pub(super) received: Vec<u8>,
    /// What the supervisor said of its pod.
    pub(super) account: Account,
    /// How the pod's containers live together; the default where the supervisor is too old to know.
    pub(super) plan: WirePlan,
}

/// Whom to expect where.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) directory: PathBuf,
    /// The supervisor's own cgroup.
    pub(super) leaf: Cgroup,
    pub(super) pod: PodRef,
    pub(super) marks: Marks,
}

impl Address {
    /// Connects and asks for the account.
    ///
    /// # Errors
    /// Also when somebody else than the expected supervisor answers, or nobody in time.
    pub(super) async fn connect(&self, within: Duration) -> io::Result<Connected> {
        tokio::time::timeout(within, self.greet())
            .await
            .unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Whether nobody will ever answer, where connecting failed with this `error`.
    pub(super) fn is_dead(&self, error: &io::Error) -> bool {
        // A supervisor holds its socket for life. `Other` are our own: it is a stranger's.
        let nobody = matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::Other
        );
        // Not seen empty is not empty.
        nobody || !self.leaf.populated().unwrap_or(true)
    }

    /// Connects as soon as the supervisor answers; `None` when it is dead, or about to be killed.
    pub(super) async fn seek(&self, killed: &AtomicBool) -> Option<Connected> {
        let mut pause = AGAIN_AFTER;
        while !killed.load(Ordering::Acquire) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_AT_MOST);
            match self.connect(AGAIN_WITHIN).await {
                Ok(connected) => return Some(connected),
                Err(error) if self.is_dead(&error) => {
                    tracing::warn!(pod = %self.pod, %error, "its supervisor is lost");
                    return None;
                }
                Err(error) => {
                    tracing::warn!(pod = %self.pod, %error, "its supervisor does not answer");
                }
            }
        }
        None
    }

    async fn greet(&self) -> io::Result<Connected> {
        let mut stream = connect(&self.directory).await?;
        if stream.peer_cred()?.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("its socket belongs to another user"));
        }
        // The account last: what comes before it, it says too.
        let questions = [Request::Plan {}, Request::Account {}];
        stream.write_all(&questions.map(|question| protocol::line(&question)).concat()).await?;
        let (mut received, mut plan) = (Vec::new(), WirePlan::default());
        let account = loop {
            if !receive(&mut stream, &mut received).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(account) = first_account(&mut received, &mut plan)? {
                break account;
            }
        };
        match account.identity.parse() {
            Ok((pod, marks)) if pod == self.pod && marks == self.marks => {}
            _ => return Err(io::Error::other("it is the supervisor of another pod")),
        }
        Ok(Connected { address: self.clone(), stream, received, account, plan })
    }
}

/// Connects to the socket in a directory whose path may be longer than a socket's may be (108).
pub(super) async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd())).await
}

/// Reads what there is; `false` at the end. Loses nothing when it is dropped.
pub(super) async fn receive(stream: &mut UnixStream, received: &mut Vec<u8>) -> io::Result<bool> {
    if received.len() > MAX_LINE {
        return Err(io::Error::other("a line without end"));
    }
    received.reserve(4096);
    Ok(stream.read_buf(received).await? > 0)
}

/// The account, if it has come, and the plan before it. What else comes before it was told to all
/// who are connected, and the account says it too; what comes after stays.
fn first_account(received: &mut Vec<u8>, plan: &mut WirePlan) -> io::Result<Option<Account>> {
    while let Some(message) = next_message(received) {
        match message? {
            Message::Account(account) => return Ok(Some(account)),
            Message::Plan(told) => *plan = told,
            _ => {}
        }
    }
    Ok(None)
}

/// Takes the first whole line that says something known: what a later supervisor says beyond that
/// is not for us.
pub(super) fn next_message(received: &mut Vec<u8>) -> Option<io::Result<Message>> {
    loop {
        let end = received.iter().position(|byte| *byte == b'\n')?;
        let message = serde_json::from_slice(&received[..end]);
        received.drain(..=end);
        match message {
            Err(error) if error.is_data() => tracing::debug!(%error, "unknown message"),
            message => return Some(message.map_err(io::Error::from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_came_with_other_words_is_not_waited_for() {
        let identity = "namespace name pod cluster node set revision".split(' ');
        let identity: Vec<String> = identity.map(|key| format!("\"{key}\":\"\"")).collect();
        let numbers = "\"replace\":0,\"grace_millis\":0,\"created_at_unix_millis\":0";
        let account = format!(
            "{{\"account\":{{\"identity\":{{{},{numbers}}},\"terminating\":false,\
             \"restarts\":7,\"containers\":[]}}}}\n",
            identity.join(",")
        );
        let exited = "{\"exited\":{\"container\":\"a\",\"exit\":\"unknown\"}}\n";
        let plan = "{\"plan\":{\"restart_max_millis\":3000}}\n";
        let mut received = format!("{plan}{exited}{account}{exited}").into_bytes();
        let mut told = WirePlan::default();
        assert_eq!(first_account(&mut received, &mut told).unwrap().unwrap().restarts, 7);
        assert_eq!(told.restart().max, Some(Duration::from_secs(3)));
        assert_eq!(received, exited.as_bytes(), "what follows is heard later");
        assert!(first_account(&mut received, &mut told).unwrap().is_none());
    }

    #[test]
    fn what_a_later_supervisor_says_is_passed_over() {
        let mut received = b"{\"swapped\":{\"bytes\":7}}\n{\"leaving\":{}}\n{\"lea".to_vec();
        let message = next_message(&mut received).unwrap();
        assert_eq!(message.unwrap(), Message::Leaving {});
        assert!(next_message(&mut received).is_none(), "half a line is none");
        received.extend(b"\n");
        assert!(next_message(&mut received).unwrap().is_err());
    }
}
