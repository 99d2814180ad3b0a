//! A program run in the container: its exit code is the answer.

use std::time::Duration;

use everynode_model::Exit;
use everynode_runtime::{Captured, ExecError, Runtime, capture};

use super::{AGAIN, Target};

/// The most of its output that is told: what fits on a few lines of a terminal.
const MAX_TOLD: usize = 1024;

/// Runs it: why it failed, in one line. `None` where the run that it was for has ended. Where its
/// supervisor is silent, or the connection to it breaks, nothing is known of the container: then it is
/// tried again, until somebody gives up waiting. (The kubelet, too, throws away what it could not try.)
pub(super) async fn run(
    runtime: &dyn Runtime,
    target: &Target,
    words: &[String],
    timeout: Option<Duration>,
) -> Option<Result<(), String>> {
    loop {
        let (pod, container) = (&target.pod, &target.container);
        match capture(runtime, pod, container, words.to_vec(), timeout).await {
            Ok(captured) => return Some(judge(words, &captured)),
            Err(ExecError::NotSupervised(_)) => return None,
            Err(ExecError::Refused(reason)) => match &*reason.code {
                "NotRunning" | "NoSuchContainer" => return None,
                "ConnectionLost" | "TooManyExecs" => {}
                _ => return Some(Err(one_line(reason.message.as_bytes()))),
            },
            Err(ExecError::Silent(_) | ExecError::Interrupted(_) | ExecError::Plumbing(_)) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn judge(words: &[String], captured: &Captured) -> Result<(), String> {
    let exit = captured.executed.exit;
    let command = || format!("command \"{}\"", one_line(words.join(" ").as_bytes()));
    if captured.executed.timed_out {
        return Err(format!("{} timed out", command()));
    }
    if exit == Exit::Code(0) {
        return Ok(());
    }
    match one_line(&captured.output) {
        nothing if nothing.is_empty() => Err(format!("{}: {exit}", command())),
        said => Err(said),
    }
}

/// Lines after each other, without what controls a terminal, up to a bound.
fn one_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut line: String = lines.join("; ").chars().filter(|letter| !letter.is_control()).collect();
    if line.len() > MAX_TOLD {
        line.truncate(line.floor_char_boundary(MAX_TOLD));
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use everynode_runtime::Executed;

    fn failed(exit: Exit, timed_out: bool, output: &str) -> String {
        let executed = Executed { exit, timed_out };
        let captured = Captured { executed, output: output.into() };
        judge(&["cat".into(), "/x".into()], &captured).unwrap_err()
    }

    #[test]
    fn what_it_printed_is_why_it_failed() {
        let why = failed(Exit::Code(1), false, "cat: /x: No such file\n\n\u{1b}[1m again\r\n");
        assert_eq!(why, "cat: /x: No such file; [1m again");
        assert_eq!(failed(Exit::Code(1), false, ""), "command \"cat /x\": exit code 1");
        assert_eq!(failed(Exit::Signal(9), true, "x"), "command \"cat /x\" timed out");
        assert!(failed(Exit::Code(1), false, &"é".repeat(5000)).len() < MAX_TOLD + 4);
    }
}
