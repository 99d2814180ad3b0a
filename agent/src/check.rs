//! `everynode-agent check`: what this machine can honour, tried and told line by line.
//!
//! A line is `FAIL` where pods can't run here, or a machine can't join, until somebody has acted; it
//! says what to do. `warn` is what will be missed later. Each try is undone; a running agent is not
//! disturbed.

mod coordinator;
mod files;
mod host;

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{CheckArgs, Json};
use crate::config::{CONFIG_FILE, ConfigError};
use crate::identity::{Identity, IdentityFiles};

/// Why nothing was tried.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// How one try went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Warn,
    Fail,
    Note,
}

/// One thing that was tried: its name, how it went, and what was found or what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    name: &'static str,
    verdict: Verdict,
    detail: String,
}

/// Tries everything; says whether pods of host processes can run here.
///
/// # Errors
/// When what was given can't be used, or the result can't be printed.
pub(crate) async fn check(
    args: &CheckArgs,
    (config, data_dir, cgroup_root): (Option<&Path>, &Path, &Path),
    deny_exec: bool,
    out: &mut (dyn Write + Send),
) -> Result<bool, CheckError> {
    let identity = IdentityFiles::new(data_dir).load();
    let known = identity.as_ref().ok().and_then(Option::as_ref);
    let mut lines = vec![configuration(config, Path::new(CONFIG_FILE))];
    lines.extend(host::lines(cgroup_root, known.map(|identity| &identity.name)));
    lines.extend(files::lines(data_dir, identity.as_ref()));
    lines.push(coordinator::line(args, known).await?);
    lines.push(exec(deny_exec));
    let images = "this agent has no container runtime yet".to_owned();
    lines.push(Line { name: "containers with images", verdict: Verdict::Note, detail: images });
    let fine = lines.iter().all(|line| line.verdict != Verdict::Fail);
    match args.output {
        None => lines.iter().try_for_each(|line| {
            writeln!(out, "{}  {}: {}", line.verdict.as_str(), line.name, line.detail)
        })?,
        Some(Json::Json) => {
            let checks: Vec<Value> = lines.iter().map(Line::json).collect();
            let all = json!({"ok": fine, "checks": checks});
            // Serialising a value to memory can't fail.
            writeln!(out, "{}", serde_json::to_string_pretty(&all).unwrap_or_default())?;
        }
    }
    Ok(fine)
}

/// Whether people elsewhere may run programs in pods: what the machine says here outdoes their roles.
fn exec(denied: bool) -> Line {
    const NAME: &str = "exec";
    match denied {
        true => Line {
            name: NAME,
            verdict: Verdict::Note,
            detail: "denied by --deny-exec: nobody runs programs in pods from elsewhere".to_owned(),
        },
        false => Line::pass(NAME, "as the coordinator lets people (--deny-exec denies it here)"),
    }
}

/// Which file was read; one with anything wrong in it would have been refused before.
fn configuration(named: Option<&Path>, usual: &Path) -> Line {
    const NAME: &str = "configuration";
    match named.or_else(|| usual.exists().then_some(usual)) {
        Some(file) => Line::pass(NAME, file.display().to_string()),
        None => Line::pass(NAME, format!("flags and the environment; no {}", usual.display())),
    }
}

impl Line {
    fn pass(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Pass, detail: detail.into() }
    }

    fn warn(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, detail: detail.into() }
    }

    fn fail(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, detail: detail.into() }
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "result": self.verdict.as_str().to_lowercase(),
            "detail": self.detail,
        })
    }
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Note => "note",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_denies_exec_is_told_so() {
        assert_eq!(exec(false).verdict, Verdict::Pass);
        let denied = exec(true);
        assert!(denied.verdict == Verdict::Note && denied.detail.starts_with("denied by"));
    }
}
