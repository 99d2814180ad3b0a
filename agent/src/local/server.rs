//! The agent's end of the socket.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use super::{ASKING, Answer, CONNECTIONS, MAX_QUESTION, Question, Request, socket};

/// After a failure to accept, which at a file limit would come again at once.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Listens in the data directory and hands on what is asked. Ends when dropped.
///
/// # Errors
/// When the socket can't be made.
pub(crate) fn serve(
    directory: &Path,
    requests: mpsc::Sender<Request>,
) -> io::Result<tokio::task::AbortHandle> {
    let listener = socket::listen(directory)?;
    Ok(tokio::spawn(accept(listener, requests)).abort_handle())
}

async fn accept(listener: UnixListener, requests: mpsc::Sender<Request>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = requests.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &requests).await {
                        tracing::debug!("local socket: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept on the local socket: {error}");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, requests: &mpsc::Sender<Request>) -> io::Result<()> {
    let user = stream.peer_cred()?.uid();
    let (read, mut write) = stream.into_split();
    if user != 0 && user != rustix::process::geteuid().as_raw() {
        let text = format!("only root may ask this (uid {user} did)");
        return say(&mut write, &Answer::End { done: false, text }).await;
    }
    let mut line = String::new();
    let limit = u64::try_from(MAX_QUESTION).unwrap_or(u64::MAX);
    let mut reader = BufReader::new(read.take(limit));
    tokio::time::timeout(ASKING, reader.read_line(&mut line)).await??;
    let Ok(question) = serde_json::from_str::<Question>(&line) else {
        let text = "this agent does not know the question".to_owned();
        return say(&mut write, &Answer::End { done: false, text }).await;
    };
    // Nothing more is read than whether whoever asked is still there.
    let mut read = reader.into_inner().into_inner();
    let (request, mut answers) = Request::new(question);
    if requests.send(request).await.is_err() {
        let text = "the agent is ending".to_owned();
        return say(&mut write, &Answer::End { done: false, text }).await;
    }
    let answered = async {
        while let Some(answer) = answers.recv().await {
            say(&mut write, &answer).await?;
            if matches!(answer, Answer::End { .. }) {
                break;
            }
        }
        Ok(())
    };
    // Who gave up waiting, for a machine to leave or a pod to end, keeps nobody else from asking.
    tokio::select! {
        answered = answered => answered,
        () = gone(&mut read) => Ok(()),
    }
}

/// Waits until the other end is closed.
async fn gone(read: &mut (impl AsyncRead + Unpin)) {
    let mut surplus = [0; 64];
    while matches!(read.read(&mut surplus).await, Ok(1..)) {}
}

async fn say(write: &mut (impl AsyncWrite + Unpin), answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    write.write_all(&line).await
}
