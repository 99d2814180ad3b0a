//! Bytes of others, to this process' own outputs: as they are, whatever they are.
//!
//! Written on another thread, so that a reader who stops reading does not stop this one, which
//! answers the coordinator's question whether it is still there.

use std::io::{self, Write as _};

use crate::error::Error;

/// Some of one output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    Out(Vec<u8>),
    Err(Vec<u8>),
}

/// Writes it, for as long as that takes.
pub(crate) async fn write(text: Text) -> Result<(), Error> {
    let written = tokio::task::spawn_blocking(move || match text {
        Text::Out(bytes) => {
            let mut out = io::stdout().lock();
            out.write_all(&bytes).and_then(|()| out.flush())
        }
        Text::Err(bytes) => io::stderr().write_all(&bytes),
    });
    match written.await {
        Ok(written) => Ok(written?),
        Err(error) => Err(Error::Failed(format!("the output was not written: {error}"))),
    }
}
