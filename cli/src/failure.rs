//! What went wrong with a pod, in words and as Kubernetes' JSON.

use everynode_proto::convert;
use everynode_proto::v1::exit::How;
use everynode_proto::v1::{Exit, Failure, FinishedRun, FormerFailure, Reason};
use serde_json::{Map, Value, json};

use crate::age::rfc3339_millis;
use crate::kinds::put;

/// Kubernetes' word for an end by want of memory.
const OOM_KILLED: &str = "OOMKilled";

/// How an end is called in a line.
pub(crate) fn exit_words(exit: &Exit) -> String {
    match exit.how {
        Some(How::Code(code)) => format!("exit code {code}"),
        Some(How::Signal(signal)) => format!("signal {signal}"),
        Some(How::Unknown(_)) | None => "unknown exit status".into(),
    }
}

/// How an exit is called in rows; kubectl's words.
pub(crate) fn exit_word(exit: &Exit) -> &'static str {
    match exit.how {
        Some(How::Code(0)) => "Completed",
        _ => "Error",
    }
}

/// `Error: container main ended at 2026-01-02T03:04:05Z, exit code 3`.
pub(crate) fn in_a_line(failure: &Failure) -> String {
    let reason = in_words(&failure.reason.clone().unwrap_or_default());
    let exit = failure.exit.as_ref().map(|exit| format!(", {}", exit_words(exit)));
    format!("{reason} at {}{}", rfc3339_millis(failure.at_millis), exit.unwrap_or_default())
}

/// `exit code 3: the last line`, for one line among others.
pub(crate) fn in_short(failure: &Failure) -> String {
    let exit = failure.exit.as_ref().filter(|_| !ran_out_of_memory(failure)).map(exit_words);
    let what = exit.unwrap_or_else(|| in_words(&failure.reason.clone().unwrap_or_default()));
    match failure.log_tail.trim() {
        "" => what,
        last => format!("{what}: {last}"),
    }
}

/// A reason's word and line.
pub(crate) fn in_words(reason: &Reason) -> String {
    match reason.message.as_str() {
        "" => reason.code.clone(),
        message => format!("{}: {message}", reason.code),
    }
}

/// Of which revision the pod was, in short.
pub(crate) fn revision(former: &FormerFailure) -> String {
    convert::digest("revision", &former.revision).map(|it| it.short()).unwrap_or_default()
}

/// What was printed last, as lines to be set in; tabs would align what follows them.
pub(crate) fn lines(failure: &Failure) -> Vec<String> {
    match failure.log_tail.as_str() {
        "" if failure.log_tail_id != 0 => {
            vec!["(no longer kept here: `everynode-agent why NAME` on the machine has it)".into()]
        }
        text => text.lines().map(|line| line.replace('\t', "    ")).collect(),
    }
}

/// How a container ended, as Kubernetes shows it.
pub(crate) fn exit_json(exit: &Exit) -> Value {
    let reason = exit_word(exit);
    match exit.how {
        Some(How::Code(code)) => json!({"exitCode": code, "reason": reason}),
        // As shells and container runtimes say it.
        Some(How::Signal(signal)) => {
            json!({"exitCode": 128 + signal, "signal": signal, "reason": reason})
        }
        Some(How::Unknown(_)) | None => json!({"reason": "ContainerStatusUnknown"}),
    }
}

/// The same of a run that is over.
pub(crate) fn finished(run: &FinishedRun) -> Value {
    let mut state = run.exit.as_ref().map_or_else(|| json!({}), exit_json);
    if !run.reason.is_empty() {
        state["reason"] = run.reason.clone().into();
    }
    if let Some(at) = run.started_at_millis {
        state["startedAt"] = rfc3339_millis(at).into();
    }
    state["finishedAt"] = rfc3339_millis(run.finished_at_millis).into();
    state
}

/// The same of a failure, with what was printed last as its message: as with Kubernetes'
/// `terminationMessagePolicy: FallbackToLogsOnError`.
pub(crate) fn terminated(failure: &Failure) -> Value {
    let mut state = match failure.exit.as_ref().map(exit_json) {
        Some(Value::Object(state)) => state,
        _ => Map::new(),
    };
    let reason = failure.reason.clone().unwrap_or_default();
    match ran_out_of_memory(failure) {
        true => drop(state.insert("reason".into(), OOM_KILLED.into())),
        false => drop(state.entry("reason").or_insert(reason.code.into())),
    }
    state.insert("finishedAt".into(), rfc3339_millis(failure.at_millis).into());
    let message =
        if failure.log_tail.is_empty() { reason.message } else { failure.log_tail.clone() };
    put(&mut state, "message", message);
    Value::Object(state)
}

/// Whether the kernel killed it for want of memory: no exit says so.
fn ran_out_of_memory(failure: &Failure) -> bool {
    failure.reason.as_ref().is_some_and(|reason| reason.code == OOM_KILLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure {
            container: "main".into(),
            exit: Some(Exit { how: Some(How::Signal(9)) }),
            reason: Some(Reason { code: "Error".into(), message: "it ended".into() }),
            at_millis: 0,
            log_tail: "one\n\ttwo".into(),
            log_tail_id: 1,
        }
    }

    #[test]
    fn a_signal_is_an_exit_code_beyond_128() {
        assert_eq!(exit_json(&Exit { how: Some(How::Signal(9)) })["exitCode"], 137);
    }

    #[test]
    fn a_terminated_state_has_what_was_printed_as_its_message() {
        let expected = json!({
            "exitCode": 137, "signal": 9, "reason": "Error", "message": "one\n\ttwo",
            "finishedAt": "1970-01-01T00:00:00Z",
        });
        assert_eq!(terminated(&failure()), expected);
        let reason = Reason { code: "OOMKilled".into(), message: "it ended".into() };
        let oom = Failure { reason: Some(reason), ..failure() };
        assert_eq!(terminated(&oom)["reason"], "OOMKilled");
        assert_eq!(terminated(&oom)["exitCode"], 137);
        assert_eq!(in_short(&oom), "OOMKilled: it ended: one\n\ttwo");
        let silent = Failure { log_tail: String::new(), ..failure() };
        assert_eq!(terminated(&silent)["message"], "it ended");
    }

    #[test]
    fn what_is_not_kept_is_said_to_be_elsewhere() {
        assert_eq!(lines(&failure()), ["one", "    two"]);
        let known = Failure { log_tail: String::new(), ..failure() };
        assert!(lines(&known)[0].contains("everynode-agent why"));
        assert!(lines(&Failure { log_tail_id: 0, ..known }).is_empty());
    }
}
