//! The agent's end of a stream: sends what there is to say as far as there is credit, and takes in what
//! goes to a program.

use std::time::Duration;

use everynode_proto::credit::Room;
use everynode_proto::v1;
use everynode_proto::v1::node_input::Message as Heard;
use everynode_proto::v1::node_output::Message;
use everynode_proto::v1::stream_end::How;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::stdin::Inlet;

/// How long the coordinator may take to end its call after the last message.
const LAST: Duration = Duration::from_secs(10);

/// Something to say. Data may have any length.
#[derive(Debug)]
pub(super) enum Piece {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    End(How),
}

/// See the module.
pub(super) struct Wire {
    output: mpsc::Sender<v1::NodeOutput>,
    input: Streaming<v1::NodeInput>,
    pieces: mpsc::Receiver<Piece>,
    room: Room,
    /// What goes the other way.
    inlet: Option<Inlet>,
}

impl Piece {
    const fn is_empty(&self) -> bool {
        match self {
            Self::Stdout(data) | Self::Stderr(data) => data.is_empty(),
            Self::End(_) => false,
        }
    }

    /// Takes off as much as there is room for, which there must be.
    fn take(&mut self, most: usize) -> Message {
        let first = |data: &mut Vec<u8>| {
            let rest = data.split_off(most.min(data.len()));
            std::mem::replace(data, rest)
        };
        match self {
            Self::Stdout(data) => Message::Stdout(first(data)),
            Self::Stderr(data) => Message::Stderr(first(data)),
            Self::End(how) => Message::End(v1::StreamEnd { how: Some(how.clone()) }),
        }
    }
}

impl Wire {
    pub(super) fn new(
        output: mpsc::Sender<v1::NodeOutput>,
        input: Streaming<v1::NodeInput>,
        pieces: mpsc::Receiver<Piece>,
        inlet: Option<Inlet>,
    ) -> Self {
        Self { output, input, pieces, room: Room::default(), inlet }
    }

    /// Sends until all is said, or nobody wants to hear it.
    pub(super) async fn run(self) {
        let Self { output, mut input, mut pieces, mut room, mut inlet } = self;
        let mut piece: Option<Piece> = None;
        loop {
            let most = match &piece {
                Some(Piece::End(_)) => usize::MAX,
                Some(_) => room.piece(),
                None => 0,
            };
            let owed = inlet.as_ref().is_some_and(Inlet::owes);
            tokio::select! {
                biased;
                heard = input.message() => {
                    let Ok(Some(heard)) = heard else { return };
                    if !hear(heard, &mut room, inlet.as_mut()) {
                        return;
                    }
                }
                () = taken(inlet.as_mut()) => {}
                permit = output.reserve(), if most > 0 || owed => {
                    let Ok(permit) = permit else { return };
                    if let Some(bytes) = inlet.as_mut().and_then(Inlet::grant) {
                        let message = Some(Message::Credit(bytes));
                        permit.send(v1::NodeOutput { message });
                        continue;
                    }
                    let Some(saying) = &mut piece else { continue };
                    let message = saying.take(most);
                    if let Message::Stdout(data) | Message::Stderr(data) = &message
                        && room.spend(data.len()).is_err()
                    {
                        return;
                    }
                    let is_last = matches!(message, Message::End(_));
                    permit.send(v1::NodeOutput { message: Some(message) });
                    if is_last {
                        break;
                    }
                    piece.take_if(|piece| piece.is_empty());
                }
                next = pieces.recv(), if piece.is_none() => match next {
                    Some(next) => piece = Some(next).filter(|next| !next.is_empty()),
                    None => return,
                },
            }
        }
        // This call's sending half ends, and the other is waited for: to drop it at once could
        // overtake what was sent last.
        drop(output);
        let ended = async { while let Ok(Some(_)) = input.message().await {} };
        let _ = tokio::time::timeout(LAST, ended).await;
    }
}

/// Whether the other side keeps to the rules. What this version does not know is passed over.
fn hear(heard: v1::NodeInput, room: &mut Room, inlet: Option<&mut Inlet>) -> bool {
    match (heard.message, inlet) {
        (Some(Heard::Credit(bytes)), _) => room.grant(bytes).is_ok(),
        (Some(Heard::Stdin(data)), Some(inlet)) => inlet.take(data).is_ok(),
        (Some(Heard::Resize(size)), Some(inlet)) => inlet.resize(size).is_ok(),
        (Some(Heard::StdinEnd(_)), Some(inlet)) => {
            inlet.end();
            true
        }
        // Nothing was granted for it.
        (Some(Heard::Stdin(_) | Heard::Resize(_)), None) => false,
        (Some(Heard::StdinEnd(_)) | None, _) => true,
    }
}

/// Waits until something of what has come was taken.
async fn taken(inlet: Option<&mut Inlet>) {
    match inlet {
        Some(inlet) => inlet.taken().await,
        None => std::future::pending().await,
    }
}
