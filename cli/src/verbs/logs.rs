//! `logs`: what containers print, from their nodes.

mod choose;

use everynode_proto::credit::{Broken, Window};
use everynode_proto::v1::logs_input::Message;
use everynode_proto::v1::pod_output::Message as Said;
use everynode_proto::v1::{LogOptions, LogsInput, LogsRequest};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::args::LogsArgs;
use crate::connect::Client;
use crate::context::Context;
use crate::error::Error;
use crate::out::Out;
use crate::stdio::{self, Text};
use choose::{Chosen, choose};

/// The most of a line that is kept back until its end has come, where lines of several containers
/// are put one after the other.
const MAX_KEPT: usize = 1024 * 1024;

/// Who prints.
struct Source {
    client: Client,
    namespace: String,
    chosen: Chosen,
    options: LogOptions,
    /// Whether each line is to be whole, as there are other sources.
    whole_lines: bool,
    prefix: Option<String>,
}

pub(crate) async fn run(args: &LogsArgs, context: &Context, out: &mut Out) -> Result<(), Error> {
    let client = context.connect().await?;
    let namespace = context.namespace()?;
    let chosen = choose(args, &client, &namespace, out).await?;
    if args.follow && chosen.len() > args.max_log_requests {
        return Err(Error::Usage(format!(
            "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, \
             use --max-log-requests to increase the limit",
            chosen.len(),
            args.max_log_requests
        )));
    }
    let several = chosen.len() > 1;
    let prefix = args.prefix || args.all_pods;
    let source = |chosen: Chosen| Source {
        client: client.clone(),
        namespace: namespace.clone(),
        prefix: prefix.then(|| format!("[pod/{}/{}] ", chosen.pod, chosen.container)),
        chosen,
        options: options(args),
        whole_lines: several && args.follow,
    };
    let sources = chosen.into_iter().map(source);
    if args.follow { together(sources, args, out).await } else { in_turn(sources, args, out).await }
}

fn options(args: &LogsArgs) -> LogOptions {
    let tail = args.tail.unwrap_or_else(|| if args.selector.is_some() { 10 } else { -1 });
    LogOptions {
        previous: args.previous,
        follow: args.follow,
        tail_lines: u64::try_from(tail).ok(),
        since_seconds: args.since.map(|since| since.as_secs()),
        since_time: args.since_time,
        timestamps: args.timestamps,
        limit_bytes: args.limit_bytes.filter(|bytes| *bytes > 0),
    }
}

/// One after the other.
async fn in_turn(
    sources: impl Iterator<Item = Source>,
    args: &LogsArgs,
    out: &mut Out,
) -> Result<(), Error> {
    for source in sources {
        let (say, mut said) = mpsc::channel(1);
        // One that can't print takes no more, and so ends the other, too.
        let print = async move {
            while let Some(text) = said.recv().await {
                stdio::write(text).await?;
            }
            Ok::<_, Error>(())
        };
        let (printed, read) = tokio::join!(print, source.read(say));
        printed?;
        judge(read, args, out)?;
    }
    Ok(())
}

/// All at once, as their lines come.
async fn together(
    sources: impl Iterator<Item = Source>,
    args: &LogsArgs,
    out: &mut Out,
) -> Result<(), Error> {
    let (say, mut said) = mpsc::channel(1);
    let mut reading = JoinSet::new();
    for source in sources {
        reading.spawn(source.read(say.clone()));
    }
    drop(say);
    loop {
        tokio::select! {
            text = said.recv() => match text {
                Some(text) => stdio::write(text).await?,
                None => break,
            },
            Some(Ok(read)) = reading.join_next() => judge(read, args, out)?,
        }
    }
    while let Some(Ok(read)) = reading.join_next().await {
        judge(read, args, out)?;
    }
    Ok(())
}

fn judge(read: Result<(), Error>, args: &LogsArgs, out: &mut Out) -> Result<(), Error> {
    match read {
        Err(error) if args.ignore_errors && !matches!(error, Error::Closed) => {
            out.note(error);
            Ok(())
        }
        read => read,
    }
}

impl Source {
    /// Reads to the end; grants what it has handed on, and so reads no faster than it is printed.
    async fn read(self, say: mpsc::Sender<Text>) -> Result<(), Error> {
        let mut lines = Lines { prefix: self.prefix, whole: self.whole_lines, kept: Vec::new() };
        let (input, messages) = mpsc::channel(2);
        let open = Message::Open(LogsRequest {
            namespace: self.namespace,
            name: self.chosen.pod,
            container: self.chosen.container,
            options: Some(self.options),
        });
        let mut window = Window::default();
        for message in [Some(open), window.grant().map(Message::Credit)].into_iter().flatten() {
            let _ = input.send(LogsInput { message: Some(message) }).await;
        }
        let mut pods = self.client.pods();
        let mut output = self.client.stream(pods.logs(ReceiverStream::new(messages))).await?;
        while let Some(said) = output.message().await? {
            let (size, text) = match said.message {
                Some(Said::Stdout(data)) => (data.len(), Text::Out(lines.take(data))),
                Some(Said::Stderr(data)) => (data.len(), Text::Err(data)),
                Some(Said::Credit(_) | Said::Exited(_)) | None => continue,
            };
            window.take(size).map_err(unruly)?;
            say.send(text).await.map_err(|_| Error::Closed)?;
            window.hand_on(size);
            if let Some(bytes) = window.grant() {
                // One that has ended says so itself.
                let _ = input.send(LogsInput { message: Some(Message::Credit(bytes)) }).await;
            }
        }
        let rest = Text::Out(lines.rest());
        say.send(rest).await.map_err(|_| Error::Closed)
    }
}

fn unruly(broken: Broken) -> Error {
    Error::Failed(format!("the coordinator sends more than was asked for: {broken}"))
}

/// Puts a prefix before lines, and keeps back what is not a whole line where that matters.
struct Lines {
    prefix: Option<String>,
    whole: bool,
    kept: Vec<u8>,
}

impl Lines {
    fn take(&mut self, data: Vec<u8>) -> Vec<u8> {
        if self.prefix.is_none() && !self.whole {
            return data;
        }
        self.kept.extend_from_slice(&data);
        let end = match self.kept.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if self.kept.len() < MAX_KEPT => return Vec::new(),
            None => self.kept.len(),
        };
        let rest = self.kept.split_off(end);
        let lines = std::mem::replace(&mut self.kept, rest);
        self.prefixed(lines)
    }

    /// What has come of a line that does not end.
    fn rest(&mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut self.kept);
        self.prefixed(rest)
    }

    fn prefixed(&self, lines: Vec<u8>) -> Vec<u8> {
        let Some(prefix) = &self.prefix else { return lines };
        let lines = lines.split_inclusive(|byte| *byte == b'\n');
        lines.flat_map(|line| [prefix.as_bytes(), line]).flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_containers_stay_whole_and_say_whose_they_are() {
        let mut lines = Lines { prefix: Some("[a] ".into()), whole: true, kept: Vec::new() };
        assert_eq!(lines.take(b"one\ntw".to_vec()), b"[a] one\n");
        assert_eq!(lines.take(b"o".to_vec()), b"");
        assert_eq!(lines.take(b"\nthree\n\nfo".to_vec()), b"[a] two\n[a] three\n[a] \n");
        assert_eq!(lines.rest(), b"[a] fo");
        let mut plain = Lines { prefix: None, whole: false, kept: Vec::new() };
        assert_eq!(plain.take(b"one\ntw".to_vec()), b"one\ntw");
        let mut long = Lines { prefix: None, whole: true, kept: Vec::new() };
        assert_eq!(long.take(vec![b'x'; MAX_KEPT + 1]).len(), MAX_KEPT + 1, "and no longer");
    }
}
