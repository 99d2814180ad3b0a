//! The service `Streams`: where agents bring what was asked for.

use std::time::Duration;

use everynode_proto::v1;
use everynode_proto::v1::node_output::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{NodeEnd, QUEUE, Streams};
use crate::auth;
use crate::first::first;

/// How long an agent may take to say which stream it attaches to.
const ATTACH: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Clone)]
pub(crate) struct StreamService {
    streams: Streams,
}

impl StreamService {
    /// Over this registry.
    pub(crate) const fn new(streams: Streams) -> Self {
        Self { streams }
    }
}

#[tonic::async_trait]
impl v1::streams_server::Streams for StreamService {
    type AttachStream = ReceiverStream<Result<v1::NodeInput, Status>>;

    /// Whoever knows the mark of the node's present session, which only that session was told, is
    /// its agent: what is recorded of the node was looked at when the session was opened.
    async fn attach(
        &self,
        request: Request<Streaming<v1::NodeOutput>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (node, _) = auth::node_of(&request)?;
        let mut input = request.into_inner();
        let attach = first(&mut input, ATTACH, ["an", "Attach"], |said| match said.message {
            Some(Message::Attach(attach)) => Some(attach),
            _ => None,
        });
        let attach = attach.await?;
        let (output, messages) = mpsc::channel(QUEUE);
        self.streams.attach(node, &attach, NodeEnd { input, output })?;
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}
