//! `everynode-agent check`: what this machine can honour, tried and printed line by line.

use std::io::{self, Write};
use std::path::Path;

use crate::data_dir::{make_private, remove_durably, write_durably};

/// One thing that was tried: its name, and what was found or what is wrong.
struct Line(&'static str, Result<String, String>);

/// Tries everything; says whether pods of host processes can run here.
///
/// # Errors
/// When the result can't be printed.
pub(crate) fn check(data_dir: &Path, cgroup_root: &Path, out: &mut dyn Write) -> io::Result<bool> {
    let mut lines = machine(cgroup_root);
    lines.push(Line("data directory", durable(data_dir)));
    lines.push(Line("user", user()));
    for Line(name, found) in &lines {
        match found {
            Ok(detail) => writeln!(out, "pass  {name}: {detail}")?,
            Err(problem) => writeln!(out, "FAIL  {name}: {problem}")?,
        }
    }
    writeln!(out, "note  containers with images: this agent has no container runtime yet")?;
    Ok(lines.iter().all(|Line(_, found)| found.is_ok()))
}

fn machine(cgroup_root: &Path) -> Vec<Line> {
    match everynode_runtime::probe(cgroup_root) {
        Ok(found) => {
            let or_else =
                |there: bool, yes: &str, no: &str| Ok((if there { yes } else { no }).into());
            vec![
                Line("cgroup v2", Ok(found.mount.display().to_string())),
                Line("cgroup root", Ok(format!("{} is writable", found.root.display()))),
                Line(
                    "forced stop",
                    or_else(
                        found.cgroup_kill,
                        "cgroup.kill",
                        "freeze, kill and thaw (before 5.14)",
                    ),
                ),
                Line(
                    "start in a cgroup",
                    or_else(found.clone_into_cgroup, "clone3", "moved before exec (before 5.7)"),
                ),
            ]
        }
        Err(error) => vec![Line("host processes", Err(error.to_string()))],
    }
}

fn durable(data_dir: &Path) -> Result<String, String> {
    let trial = data_dir.join("check.trial");
    make_private(data_dir)
        .and_then(|()| write_durably(&trial, b"trial"))
        .and_then(|()| remove_durably(&trial))
        .map(|()| format!("{} takes durable writes", data_dir.display()))
        .map_err(|error| format!("{}: {error}", data_dir.display()))
}

fn user() -> Result<String, String> {
    match rustix::process::geteuid().as_raw() {
        0 => Ok("root: pods may run as any user".into()),
        uid => Ok(format!("uid {uid}: pods run as this user only")),
    }
}
