//! What a witness does for others while it lives: answers probes, prints.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::Words;

/// How much is printed at once, and how often: a log file of 32 KiB is full after four times.
const PRINTED: usize = 8 * 1024;
const EVERY: Duration = Duration::from_millis(300);

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Goes on for ever.
pub(crate) async fn work(words: &Words) -> io::Result<()> {
    let port = words.after("--port").and_then(|port| port.parse().ok());
    let never = tokio::try_join!(answer(port), print(words.has("--print")))?;
    match never.0 {}
}

async fn answer(port: Option<u16>) -> io::Result<Infallible> {
    let Some(port) = port else { return std::future::pending().await };
    let listener = TcpListener::bind(("::", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(answer_one(stream));
    }
}

/// Whoever only looks whether somebody listens asks nothing.
async fn answer_one(mut stream: TcpStream) -> io::Result<()> {
    if stream.read(&mut [0; 1024]).await? > 0 {
        stream.write_all(ANSWER).await?;
    }
    Ok(())
}

async fn print(wanted: bool) -> io::Result<Infallible> {
    if !wanted {
        return std::future::pending().await;
    }
    let text = "one of many lines that are only there to be printed\n".repeat(PRINTED / 52);
    loop {
        // Its reader may be dead for a moment, and then nobody takes it.
        let _ = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
        tokio::time::sleep(EVERY).await;
    }
}
