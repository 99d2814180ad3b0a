//! What a caller of a stream says first: what the stream is for. It comes in time, or there is none.

use std::time::Duration;

use everynode_proto::error::Invalid;
use tonic::{Status, Streaming};

/// What `take` makes of the first message; `article` and `noun` are what people are told it must be.
///
/// # Errors
/// When none has come `within` that time, or another one.
pub(crate) async fn first<M, T>(
    stream: &mut Streaming<M>,
    within: Duration,
    [article, noun]: [&str; 2],
    take: impl FnOnce(M) -> Option<T>,
) -> Result<T, Status> {
    let said = tokio::time::timeout(within, stream.message()).await;
    let said = said.map_err(|_| Status::deadline_exceeded(format!("no {noun} came")))??;
    let another =
        || Invalid::new("message", format!("the first one must be {article} {noun}")).into();
    said.and_then(take).ok_or_else(another)
}
