//! The subcommands: people at this machine, with or without a running agent.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use everynode_model::{InvalidName, PodKey};

use crate::check::{self, check};
use crate::cli::{Command, Common, Json, PodsFormat, What};
use crate::local::client::{self, AskError};
use crate::local::{Question, Target};
use crate::logs::{self, LogsError};
use crate::report::{self, OfflineError, Report};

/// The namespace of names that say none.
const DEFAULT_NAMESPACE: &str = "default";

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeopleError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Offline(#[from] OfflineError),
    #[error(transparent)]
    Logs(#[from] LogsError),
    #[error(transparent)]
    Check(#[from] check::CheckError),
    #[error("{0}: {1}")]
    Name(String, InvalidName),
    #[error("{0} not found: neither ordered nor alive on this node")]
    NotFound(PodKey),
    #[error("the agent's answer makes no sense ({0}): is it of another version?")]
    Answer(#[source] serde_json::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Does what was asked for; `false` when it was not done and that has been said.
///
/// # Errors
/// When it can't be done.
pub(crate) async fn follow(
    command: Command,
    common: &Common,
    deny_exec: bool,
    out: &mut (dyn Write + Send),
) -> Result<bool, PeopleError> {
    let Common { config, data_dir, cgroup_root } = common;
    match command {
        Command::Status { output } => {
            let report = report(data_dir, cgroup_root).await?;
            match output {
                None => write!(out, "{}", report::status_text(&report))?,
                Some(Json::Json) => print_json(&report::status_json(&report), out)?,
            }
        }
        Command::Pods { namespace, output } => {
            let report = report(data_dir, cgroup_root).await?;
            let shown =
                |pod: &&report::Pod| namespace.as_ref().is_none_or(|it| *it == pod.namespace);
            print_pods(&report, report.pods.iter().filter(shown), output, out)?;
        }
        Command::Why { name, namespace } => {
            let key = name.map(|name| key(&name, namespace.as_deref())).transpose()?;
            let report = report(data_dir, cgroup_root).await?;
            match key {
                None => write!(out, "{}", report::why_text(&report))?,
                Some(key) => why(&report, key, out)?,
            }
        }
        Command::Logs(args) => {
            let key = key(&args.name, args.namespace.as_deref())?;
            logs::print(data_dir, cgroup_root, &key, &args, out).await?;
        }
        Command::Hold { what, stop, lasting, reason } => {
            let target = target(&what)?;
            let seconds = lasting.map(|time| time.as_secs());
            let hold = Question::Hold { target, stop, by: who(), reason, seconds };
            return Ok(client::ask(data_dir, hold, out).await?);
        }
        Command::Release { what } => {
            let release = Question::Release { target: target(&what)? };
            return Ok(client::ask(data_dir, release, out).await?);
        }
        // A rejoin needs an identity to come, which is its caller's business.
        Command::Rejoin(_) => return Ok(client::ask(data_dir, Question::Rejoin, out).await?),
        Command::Shutdown => return Ok(client::ask(data_dir, Question::Shutdown, out).await?),
        Command::Leave => return Ok(client::ask(data_dir, Question::Leave, out).await?),
        Command::Check(args) => {
            let files = (config.as_deref(), data_dir.as_path(), cgroup_root.as_path());
            return Ok(check(&args, files, deny_exec, out).await?);
        }
    }
    Ok(true)
}

/// What the agent says, or, where none runs, what its files and the cgroups do.
async fn report(data_dir: &Path, cgroup_root: &Path) -> Result<Report, PeopleError> {
    let mut answer = Vec::new();
    match client::ask(data_dir, Question::Report, &mut answer).await {
        Ok(true) => serde_json::from_slice(&answer).map_err(PeopleError::Answer),
        Ok(false) => {
            Err(io::Error::other(String::from_utf8_lossy(&answer).trim().to_owned()).into())
        }
        Err(AskError::NotRunning(_)) => {
            let report = report::offline(data_dir, cgroup_root)?;
            let _ = writeln!(io::stderr(), "agent not running: from the ledger and the cgroups");
            Ok(report)
        }
        Err(error) => Err(error.into()),
    }
}

fn print_pods<'a>(
    report: &Report,
    pods: impl Iterator<Item = &'a report::Pod>,
    output: Option<PodsFormat>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let pods: Vec<_> = pods.collect();
    match output {
        Some(PodsFormat::Json) => {
            print_json(&report::pods_json(pods.into_iter(), &report.node), out)
        }
        Some(PodsFormat::Name) => pods.iter().try_for_each(|pod| writeln!(out, "pod/{}", pod.name)),
        None | Some(PodsFormat::Wide) if pods.is_empty() => {
            writeln!(io::stderr(), "No resources found")
        }
        None => write!(out, "{}", report::pods_table(pods.into_iter(), false, now())),
        Some(PodsFormat::Wide) => {
            write!(out, "{}", report::pods_table(pods.into_iter(), true, now()))
        }
    }
}

/// Of one place, why, or that all is well.
fn why(report: &Report, key: PodKey, out: &mut dyn Write) -> Result<(), PeopleError> {
    let name = key.to_string();
    let lines = || report.why.iter().filter(|why| why.what == name || why.what == "node");
    let here = |pod: &report::Pod| {
        (pod.namespace.as_str(), pod.daemon_set.as_str()) == (key.namespace(), key.name())
    };
    if !report.pods.iter().any(here) && !lines().any(|why| why.what == name) {
        return Err(PeopleError::NotFound(key));
    }
    let rows: Vec<_> = lines().map(|why| vec![why.what.clone(), why.words.to_string()]).collect();
    match rows.is_empty() {
        true => writeln!(out, "{name} runs as ordered")?,
        false => write!(out, "{}", report::table(rows))?,
    }
    for pod in report.pods.iter().filter(|pod| here(pod)) {
        write!(out, "{}", report::failures_text(pod))?;
    }
    Ok(())
}

fn print_json(value: &serde_json::Value, out: &mut dyn Write) -> io::Result<()> {
    // Serialising a value to memory can't fail.
    writeln!(out, "{}", serde_json::to_string_pretty(value).unwrap_or_default())
}

fn target(what: &What) -> Result<Target, PeopleError> {
    let Some(name) = &what.name else { return Ok(Target::All) };
    let key = key(name, what.namespace.as_deref())?;
    Ok(Target::Pod(key.namespace().into(), key.name().into()))
}

/// `NAME`, `daemonset/NAME` as kubectl has it, or `NAMESPACE/NAME` as it is shown here.
fn key(text: &str, namespace: Option<&str>) -> Result<PodKey, PeopleError> {
    const KINDS: [&str; 6] = ["daemonset", "daemonsets", "daemonset.apps", "ds", "pod", "pods"];
    let (before, name) = text.split_once('/').unwrap_or(("", text));
    let shown = Some(before).filter(|before| !before.is_empty() && !KINDS.contains(before));
    let namespace = namespace.or(shown).unwrap_or(DEFAULT_NAMESPACE);
    PodKey::new(namespace, name).map_err(|error| PeopleError::Name(text.into(), error))
}

/// Who sits here: the user behind `sudo` where there is one.
fn who() -> String {
    let user = rustix::process::geteuid().as_raw();
    let own = if user == 0 { "root".into() } else { format!("uid {user}") };
    match std::env::var("SUDO_USER") {
        Ok(name) if !name.is_empty() => name,
        _ => own,
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Where pods keep their sockets and logs.
pub(crate) fn run_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_they_are_shown_and_as_kubectl_has_them() {
        let key = |text, namespace| key(text, namespace).map(|key| key.to_string()).ok();
        assert_eq!(key("a", None).as_deref(), Some("default/a"));
        assert_eq!(key("a", Some("b")).as_deref(), Some("b/a"));
        assert_eq!(key("ds/a", Some("b")).as_deref(), Some("b/a"));
        assert_eq!(key("b/a", None).as_deref(), Some("b/a"));
        assert_eq!(key("A B", None), None);
    }
}
