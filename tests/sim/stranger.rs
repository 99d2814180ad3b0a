//! Somebody who is none of us and connects all the same: says nothing, or half of something, and
//! never hangs up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use turmoil::net::TcpStream;

use crate::net::ADDRESS;

/// Between looks at how many connections there are to be.
const AGAIN: Duration = Duration::from_millis(500);
/// What is said, one after the other: nothing, the beginning of a TLS handshake, another protocol.
const WORDS: [&[u8]; 3] =
    [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\n"];

/// How many connections a stranger holds. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Stranger(Arc<AtomicUsize>);

impl Stranger {
    /// From now on it holds so many.
    pub(crate) fn hold(&self, connections: usize) {
        self.0.store(connections, Ordering::Relaxed);
    }

    /// What runs on the stranger's host.
    pub(crate) async fn software(self) -> turmoil::Result {
        let mut held = Vec::new();
        loop {
            let wanted = self.0.load(Ordering::Relaxed);
            held.truncate(wanted);
            while held.len() < wanted {
                // Nobody may be there.
                let Ok(mut stream) = TcpStream::connect(ADDRESS).await else { break };
                let _ = stream.write_all(WORDS[held.len() % WORDS.len()]).await;
                held.push(stream);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
