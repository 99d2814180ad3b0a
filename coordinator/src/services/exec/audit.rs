//! That somebody ran a program, where, and how it ended: one line each in the log, always, and an
//! event of the pod. What went through its input and outputs is nobody's business.

use everynode_coordinator_core::{EventType, InvolvedObject, Observation, PodView};
use tonic::Status;

use super::Api;
use crate::driver::Handle;
use crate::streams::End;

/// Of every line. It is part of the contract (`operator.proto`): whoever collects these goes by it.
const TARGET: &str = "everynode::audit";

/// As much of a command is in an event, which are kept by the thousand; the line has all of it.
const MAX_IN_EVENT: usize = 512;

/// One program. That its end is said is seen to also when nobody waits for it any more.
pub(super) struct Audit {
    handle: Handle,
    user: String,
    namespace: String,
    pod: String,
    pod_uid: String,
    node: String,
    container: String,
    command: String,
    /// Whether its beginning was said, and its end was not.
    open: bool,
}

impl Audit {
    pub(super) fn new(
        api: &Api,
        pod: &PodView,
        container: &str,
        user: &str,
        command: &[String],
    ) -> Self {
        Self {
            handle: api.parts.handle.clone(),
            user: user.into(),
            namespace: pod.key.namespace().into(),
            pod: pod.name.clone(),
            pod_uid: pod.status.as_ref().map(|status| status.uid.to_string()).unwrap_or_default(),
            node: pod.node.name.to_string(),
            container: container.into(),
            command: quoted(command),
            open: false,
        }
    }

    /// Says that it is about to be run: before it can be.
    pub(super) async fn begun(&mut self) {
        self.open = true;
        let Self { user, namespace, pod, node, container, command, .. } = self;
        tracing::info!(target: TARGET, user, namespace, pod, node, container, command, "exec begins");
        let message = format!("{} by {}", self.what(), self.user);
        // Nobody listens only at a shutdown.
        let _ = self.handle.observe(self.event("ExecStarted", message)).await;
    }

    /// Says how it ended.
    pub(super) fn ended(mut self, end: &End) {
        match end {
            End::Exited(code) => self.end(&format!("exit code {code}")),
            End::Complete => self.end("the node did not say how"),
            End::CallerGone => self.end("the caller went away"),
            End::Failed(status) => self.refused(status),
        }
    }

    /// Says that it was not run, or what came between.
    pub(super) fn refused(&mut self, status: &Status) {
        self.end(status.message());
    }

    fn end(&mut self, how: &str) {
        self.open = false;
        let Self { user, namespace, pod, node, container, command, .. } = self;
        tracing::info!(
            target: TARGET, user, namespace, pod, node, container, command, how, "exec ended"
        );
        let message = format!("{} by {}: {how}", self.what(), self.user);
        let event = self.event("ExecEnded", message);
        if let Ok(tasks) = tokio::runtime::Handle::try_current() {
            let handle = self.handle.clone();
            tasks.spawn(async move { handle.observe(event).await });
        }
    }

    /// `sh in container main on node n1`
    fn what(&self) -> String {
        let mut command = self.command.as_str();
        let mut cut = "";
        if command.len() > MAX_IN_EVENT {
            command = &command[..command.floor_char_boundary(MAX_IN_EVENT)];
            cut = "…";
        }
        format!("{command}{cut} in container {} on node {}", self.container, self.node)
    }

    fn event(&self, reason: &str, message: String) -> Observation {
        let about = InvolvedObject {
            kind: "Pod".into(),
            namespace: self.namespace.clone(),
            name: self.pod.clone(),
            uid: self.pod_uid.clone(),
        };
        Observation::Noticed {
            about,
            event_type: EventType::Normal,
            reason: reason.into(),
            message,
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if self.open {
            self.end("nobody waited for its end");
        }
    }
}

/// Words one after the other, in quotes where it takes some to see what is a word: one line, whatever
/// is in them.
fn quoted(words: &[String]) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_@%+=:,./-".contains(letter);
    let quote = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("{word:?}"),
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_one_line_and_its_words_are_told_apart() {
        let words = ["sh", "-c", "echo 'a b'\n\u{1b}[2J", ""].map(str::to_owned);
        assert_eq!(quoted(&words), r#"sh -c "echo 'a b'\n\u{1b}[2J" """#);
    }
}
