//! The asking end of the socket: the subcommands of `everynode-agent`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::{Answer, Question, socket};
use crate::data_dir::spare_of;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody listens.
    #[error(
        "no agent is running with --data-dir {0}: start it first \
         (a machine leaves its cluster through its running agent)"
    )]
    NotRunning(PathBuf),
    /// Not for this user.
    #[error("{0}: permission denied: only root may ask the agent")]
    Denied(PathBuf),
    /// The agent ended in the middle.
    #[error("the agent ended before it had answered")]
    Ended,
    /// Something else.
    #[error("cannot talk to the agent: {0}")]
    Io(#[from] io::Error),
}

/// Asks, shows what is answered, and says whether it was done. Why a hold was refused is shown as
/// errors are.
pub(crate) async fn ask(
    directory: &Path,
    question: Question,
    out: &mut (dyn Write + Send),
) -> Result<bool, AskError> {
    let stream = connect(directory).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NotRunning(directory.to_owned())
        }
        io::ErrorKind::PermissionDenied => AskError::Denied(directory.to_owned()),
        _ => error.into(),
    })?;
    let of_holds = matches!(question, Question::Hold { .. } | Question::Release { .. });
    let (read, mut write) = stream.into_split();
    let mut line = serde_json::to_vec(&question).map_err(io::Error::from)?;
    line.push(b'\n');
    write.write_all(&line).await?;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line).map_err(io::Error::from)? {
            Answer::Text(text) => show(out, &text)?,
            Answer::End { done: false, text } if of_holds => {
                show(&mut io::stderr(), &text)?;
                return Ok(false);
            }
            Answer::End { done, text } => {
                show(out, &text)?;
                return Ok(done);
            }
        }
    }
    Err(AskError::Ended)
}

/// Where the agent listens, or where it does if its disk took no socket.
async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let usual = socket::connect(directory).await;
    let (Err(_), Ok(path)) = (&usual, directory.canonicalize()) else { return usual };
    socket::connect(&spare_of(&path)).await.or(usual)
}

fn show(out: &mut dyn Write, text: &str) -> io::Result<()> {
    writeln!(out, "{}", text.trim_end())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::super::{Request, serve};
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn a_question_is_answered_line_by_line_in_a_directory_of_any_length() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("d".repeat(150));
        std::fs::create_dir(&directory).unwrap();
        let (sender, mut requests) = mpsc::channel::<Request>(1);
        let server = serve(&directory, sender).unwrap();
        let agent = async {
            let request = requests.recv().await.unwrap();
            assert_eq!(request.question, Question::Leave);
            assert!(request.say("one".into()));
            request.finish(false, "two".into());
        };
        let mut out = Vec::new();
        let (done, ()) = tokio::join!(ask(&directory, Question::Leave, &mut out), agent);
        assert!(!done.unwrap());
        assert_eq!(out, b"one\ntwo\n");
        server.abort();
    }

    #[tokio::test]
    async fn without_an_agent_it_is_said_so() {
        let directory = tempfile::tempdir().unwrap();
        let ask = async || ask(directory.path(), Question::Report, &mut Vec::new()).await;
        assert!(matches!(ask().await, Err(AskError::NotRunning(_))));
        // Left behind by one that was killed.
        drop(socket::listen(directory.path()).unwrap());
        assert!(matches!(ask().await, Err(AskError::NotRunning(_))));
    }

    #[tokio::test]
    async fn those_who_gave_up_waiting_take_nobodys_place() {
        let directory = tempfile::tempdir().unwrap();
        let (sender, mut requests) = mpsc::channel::<Request>(1);
        let _server = serve(directory.path(), sender).unwrap();
        let mut unanswered = Vec::new();
        for _ in 0..=super::super::CONNECTIONS {
            let mut out = Vec::new();
            let asked = ask(directory.path(), Question::Leave, &mut out);
            tokio::select! {
                answer = asked => panic!("nobody has answered: {answer:?}"),
                request = requests.recv() => unanswered.push(request.unwrap()),
            }
        }
        assert_eq!(unanswered.len(), super::super::CONNECTIONS + 1);
    }

    #[tokio::test]
    async fn an_agent_that_ends_in_the_middle_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let (sender, mut requests) = mpsc::channel::<Request>(1);
        let _server = serve(directory.path(), sender).unwrap();
        let mut out = Vec::new();
        let (answer, ()) = tokio::join!(ask(directory.path(), Question::Leave, &mut out), async {
            drop(requests.recv().await);
        });
        assert!(matches!(answer, Err(AskError::Ended)));
    }
}
