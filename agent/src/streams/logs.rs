//! What a container has printed, and goes on printing, for a stream.
//!
//! Files are read on the threads that wait for disks, a piece at a time, and only when there is
//! room for it: who reads slowly holds up nothing but this.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use everynode_agent_core::PodRef;
use everynode_model::{Reason, WallTime};
use everynode_proto::v1;
use everynode_proto::v1::stream_end::{Complete, How};
use everynode_runtime::{LogDate, Run, logs_of, runs};
use tokio::sync::{Semaphore, mpsc};

use super::target::Target;
use super::wire::Piece;
use super::{AT_ONCE, Places, block};
use crate::logs::{Ahead, BETWEEN_LOOKS, GAP, Reader, Wish};

/// So many looks in which nothing came are between two looks at whether the container runs.
const LOOKS: u32 = 5;

/// What was asked for, checked.
pub(super) struct Job {
    pod: PodRef,
    container: String,
    directory: PathBuf,
    cgroup_root: PathBuf,
    wish: Wish,
    follow: bool,
    /// So many bytes may still be said.
    left: Option<u64>,
}

impl Job {
    pub(super) fn new(
        places: &Places,
        target: Target,
        options: &v1::LogOptions,
        now: WallTime,
    ) -> Self {
        let Target { pod, container } = target;
        let wish = Wish {
            run: if options.previous { Run::Previous } else { Run::Present },
            tail: options.tail_lines,
            since: since(options, now),
            timestamps: options.timestamps,
        };
        Self {
            directory: logs_of(&places.run_dir, pod.uid),
            pod,
            container,
            cgroup_root: places.cgroup_root.clone(),
            wish,
            follow: options.follow && !options.previous,
            left: options.limit_bytes,
        }
    }

    /// Whether more may be printed in this run. What can't be seen may run.
    fn may_go_on(&self) -> bool {
        runs(&self.cgroup_root, &self.pod, &self.container).unwrap_or(true)
    }
}

/// Says all of it; ends when nobody listens.
pub(super) async fn tell(
    job: Job,
    readers: Arc<Semaphore>,
    say: mpsc::Sender<Piece>,
) -> Result<How, Reason> {
    read(job, &readers, &say).await.map(|()| How::Complete(Complete {}))
}

/// What one look at the files has brought.
struct Look {
    reader: Reader,
    text: Vec<u8>,
    ahead: Ahead,
}

async fn read(mut job: Job, readers: &Semaphore, say: &mpsc::Sender<Piece>) -> Result<(), Reason> {
    let mut reader = open(&job, readers).await?;
    let (mut quiet, mut runs) = (0, job.follow);
    loop {
        if runs && u32::is_multiple_of(quiet, LOOKS) {
            runs = job.may_go_on();
        }
        let last = !runs;
        let look = look(reader, last, readers).await?;
        reader = look.reader;
        quiet = if look.text.is_empty() { quiet + 1 } else { 1 };
        let full = cut(look.text, &mut job.left);
        if say.send(Piece::Stdout(full.0)).await.is_err() || full.1 {
            return Ok(());
        }
        match look.ahead {
            Ahead::More => {}
            Ahead::Gap => {
                let _ = say.send(Piece::Stderr(format!("{GAP}\n").into())).await;
            }
            Ahead::Over => return Ok(()),
            Ahead::Nothing if last => return Ok(()),
            Ahead::Nothing => tokio::select! {
                () = say.closed() => return Ok(()),
                () = tokio::time::sleep(BETWEEN_LOOKS) => {}
            },
        }
    }
}

async fn open(job: &Job, readers: &Semaphore) -> Result<Reader, Reason> {
    let (directory, container) = (job.directory.clone(), job.container.clone());
    let wish = job.wish.clone();
    let opened = block(readers, move || Reader::open(directory, &container, wish)).await?;
    let reader = opened.map_err(unreadable)?;
    if job.wish.run == Run::Previous && !reader.exists() {
        let Job { container, pod, .. } = job;
        let pod = everynode_model::pod_name(&pod.key, pod.uid.uuid().as_bytes());
        let text = format!("previous terminated container {container:?} in pod {pod:?} not found");
        return Err(Reason::new("BadRequest", text));
    }
    Ok(reader)
}

/// Reads a piece; with `last`, also what was begun and is at its end.
async fn look(mut reader: Reader, last: bool, readers: &Semaphore) -> Result<Look, Reason> {
    let look = block(readers, move || {
        let (text, ahead) = reader.piece(AT_ONCE, last)?;
        Ok(Look { reader, text, ahead })
    });
    look.await?.map_err(unreadable)
}

/// As much of `text` as may be said, and whether that was all that may be.
fn cut(mut text: Vec<u8>, left: &mut Option<u64>) -> (Vec<u8>, bool) {
    let Some(left) = left else { return (text, false) };
    text.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= u64::try_from(text.len()).unwrap_or(*left);
    (text, *left == 0)
}

/// The first date that is wanted, as logs have it.
fn since(options: &v1::LogOptions, now: WallTime) -> Option<String> {
    let date = match (&options.since_time, options.since_seconds) {
        (Some(time), _) => Duration::new(
            u64::try_from(time.seconds).unwrap_or(0),
            u32::try_from(time.nanos).unwrap_or(0).min(999_999_999),
        ),
        (None, Some(seconds)) => {
            let now = Duration::from_millis(u64::try_from(now.unix_millis).unwrap_or(0));
            now.saturating_sub(Duration::from_secs(seconds))
        }
        (None, None) => return None,
    };
    Some(LogDate(date).to_string())
}

fn unreadable(error: std::io::Error) -> Reason {
    Reason::new("LogsUnreadable", format!("the logs can't be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_in_the_directory_of_its_pod() {
        let places = Places { run_dir: "/run".into(), cgroup_root: "x".into(), deny_exec: false };
        let target = crate::streams::target::tests::target();
        let options = v1::LogOptions { since_seconds: Some(3), ..Default::default() };
        let uid = target.pod.uid;
        let job = Job::new(&places, target, &options, WallTime::from_unix_millis(10_000));
        assert_eq!(job.directory, PathBuf::from(format!("/run/{uid}/logs")));
        assert_eq!(job.wish.since.as_deref(), Some("1970-01-01T00:00:07.000000000Z"));
    }

    #[test]
    fn no_more_is_said_than_was_asked_for() {
        let mut left = Some(5);
        assert_eq!(cut(b"abc".to_vec(), &mut left), (b"abc".to_vec(), false));
        assert_eq!(cut(b"def".to_vec(), &mut left), (b"de".to_vec(), true));
        assert_eq!(cut(b"x".to_vec(), &mut None), (b"x".to_vec(), false));
    }
}
