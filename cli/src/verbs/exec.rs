//! `exec`: a program in a container, with this terminal or these pipes.

mod choose;
mod talk;
mod terminal;

use everynode_proto::v1::exec_input::Message;
use everynode_proto::v1::pod_output::Message as Said;
use everynode_proto::v1::{ExecInput, ExecOptions, ExecRequest, PodOutput};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::args::ExecArgs;
use crate::context::Context;
use crate::error::Error;
use crate::out::Out;
use crate::stdio::{self, Text};
use choose::choose;
use talk::Talk;
use terminal::{Happened, Raw, Watch};

/// Messages that wait to be sent; what more there is waits where it comes from.
const OUTGOING: usize = 1;

pub(crate) async fn run(args: ExecArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    let target = choose::target(&args)?;
    let client = context.connect().await?;
    let namespace = context.namespace()?;
    let (name, container) = choose(&args, target, &client, &namespace, out).await?;
    let tty = wants_terminal(&args, out);
    let watch = if tty { Watch::new()? } else { Watch::default() };
    let raw = if tty { Some(Raw::begin()?) } else { None };
    let options = ExecOptions {
        command: args.command,
        stdin: args.stdin,
        tty,
        size: if tty { terminal::size() } else { None },
    };
    let mut talk = Talk::new(args.stdin);
    let request = ExecRequest { namespace, name, container, options: Some(options) };
    let (input, messages) = mpsc::channel(OUTGOING);
    let first = ExecInput { message: Some(Message::Open(request)) };
    input.send(first).await.map_err(|_| Error::Closed)?;
    let output = client.stream(client.pods().exec(ReceiverStream::new(messages))).await;
    let ended = match output {
        Ok(output) => converse(&mut talk, input, output, watch).await,
        Err(error) => Err(error),
    };
    // Before anything is said.
    drop(raw);
    match ended? {
        0 => Ok(()),
        code => {
            out.note(format!("command terminated with exit code {code}"));
            Err(Error::Exit(u8::try_from(code).unwrap_or(u8::MAX)))
        }
    }
}

/// Whether the program is to have a terminal: kubectl's rule and words.
fn wants_terminal(args: &ExecArgs, out: &mut Out) -> bool {
    let wants = args.tty && args.stdin;
    if wants && !terminal::is_one() && !args.quiet {
        let text = "Unable to use a TTY - input is not a terminal or the right kind of file";
        out.note(text);
    }
    wants && terminal::is_one()
}

/// Hands on in both directions until the program has ended and all is printed; its exit code.
async fn converse(
    talk: &mut Talk,
    input: mpsc::Sender<ExecInput>,
    mut output: Streaming<PodOutput>,
    mut watch: Watch,
) -> Result<i32, Error> {
    let (print, mut printed, printing) = printer();
    let mut stdin = talk.wants_data().then(terminal::stdin).transpose()?;
    let mut outgoing = None;
    let code = loop {
        outgoing = outgoing.or_else(|| talk.next());
        tokio::select! {
            said = output.message() => {
                let said = said?.ok_or_else(|| Error::Failed("nobody said how it ended".into()))?;
                let (length, text) = match said.message {
                    Some(Said::Stdout(data)) => (data.len(), Text::Out(data)),
                    Some(Said::Stderr(data)) => (data.len(), Text::Err(data)),
                    Some(Said::Credit(bytes)) => {
                        talk.granted(bytes)?;
                        continue;
                    }
                    Some(Said::Exited(exited)) => break exited.code,
                    // Of a kind that this version does not know.
                    None => continue,
                };
                talk.heard(length)?;
                // There is room for all that may be granted, unless the printer has ended.
                if print.try_send(text).is_err() {
                    break 0;
                }
            }
            Some(length) = printed.recv() => talk.printed(length),
            () = print.closed() => break 0,
            data = next(&mut stdin), if talk.wants_data() => talk.typed(data),
            permit = input.reserve(), if outgoing.is_some() => match permit {
                Ok(permit) => permit.send(ExecInput { message: outgoing.take() }),
                // It has ended, and says so itself.
                Err(_) => outgoing = None,
            },
            happened = watch.next() => match happened {
                Happened::Resized => talk.resized(terminal::size()),
                Happened::Signal(code) => return Err(Error::Exit(code)),
            },
        }
    };
    drop((print, printed));
    let ended = printing.await.map_err(|error| Error::Failed(error.to_string()))?;
    ended.map(|()| code)
}

/// What prints: where to put what is to be printed, and from where comes how much has been.
fn printer()
-> (mpsc::Sender<Text>, mpsc::Receiver<usize>, tokio::task::JoinHandle<Result<(), Error>>) {
    let (print, mut texts) = mpsc::channel(everynode_proto::credit::MAX_PIECES);
    let (say, printed) = mpsc::channel(1);
    let printing = tokio::spawn(async move {
        while let Some(text) = texts.recv().await {
            let (Text::Out(bytes) | Text::Err(bytes)) = &text;
            let length = bytes.len();
            stdio::write(text).await?;
            // When all has come, nobody counts any more.
            let _ = say.send(length).await;
        }
        Ok(())
    });
    (print, printed, printing)
}

/// What comes in next; `None` at the end.
async fn next(stdin: &mut Option<mpsc::Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    stdin.as_mut()?.recv().await
}
