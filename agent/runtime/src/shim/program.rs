//! From a container's words to what execve takes: the file found by `PATH`, the environment
//! without doubles.

use std::ffi::{CString, NulError};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::protocol::SpecContainer;
use crate::sys::{LaunchError, Stage};

/// Where programs are looked for when the container's environment has no `PATH`: as in containerd.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Of which kind a terminal is, where the container does not say so itself: as in containerd.
const TERM: (&str, &str) = ("TERM", "xterm");

/// What execve takes.
pub(super) struct Program {
    pub(super) file: CString,
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    pub(super) dir: CString,
}

/// Why a container's program does not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// It is in none of the directories of `PATH`.
    #[error("cannot run {program:?}: not found in PATH ({path})")]
    NotFound { program: String, path: String },
    /// It names nothing to run.
    #[error("cannot run: no command")]
    Empty,
    /// A word of it holds a zero byte.
    #[error("cannot run: {0}")]
    Nul(#[from] NulError),
    /// The process could not be made or set up.
    #[error("cannot run {program:?}: {}", detail(.error))]
    Launch { program: String, error: LaunchError },
    /// It can't see what it is to see.
    #[error(transparent)]
    View(#[from] super::volumes::Problem),
    /// It can't have process ids of its own.
    #[error("cannot run: no PID namespace of its own: {0}")]
    Pids(io::Error),
    /// It asks for what this process does not have itself.
    #[error("cannot run: {0}")]
    Beyond(String),
    /// Descriptors are short.
    #[error("cannot run: {0}")]
    Plumbing(io::Error),
}

impl Program {
    /// As it was called.
    pub(super) fn name(&self) -> String {
        self.argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

impl Problem {
    /// As one word, as a kubelet and a runtime say it.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::View(problem) => problem.code(),
            _ => "RunContainerError",
        }
    }
}

/// A container's own words or others, ready for execve, with the container's environment. Files are
/// looked for as this process sees them. What has a terminal is told of which kind, as container
/// runtimes do.
pub(super) fn find(
    argv: &[String],
    spec: &SpecContainer,
    terminal: bool,
) -> Result<Program, Problem> {
    let name = argv.first().filter(|name| !name.is_empty()).ok_or(Problem::Empty)?;
    let mut env = without_doubles(&spec.env);
    if terminal && !env.iter().any(|(key, _)| *key == TERM.0) {
        env.push(TERM);
    }
    let file = match name.contains('/') {
        // As with a shell: relative to the working directory.
        true => CString::new(name.as_str())?,
        false => in_path(name, env.iter().find(|(key, _)| *key == "PATH").map(|(_, v)| *v))?,
    };
    Ok(Program {
        file,
        argv: argv.iter().map(|word| CString::new(word.as_str())).collect::<Result<_, _>>()?,
        env: env
            .iter()
            .map(|(key, value)| CString::new(format!("{key}={value}")))
            .collect::<Result<_, _>>()?,
        dir: CString::new(spec.working_dir.as_deref().unwrap_or("/"))?,
    })
}

/// A later entry outdoes an earlier one, in the earlier one's place.
fn without_doubles(env: &[(String, String)]) -> Vec<(&str, &str)> {
    let mut kept: Vec<(&str, &str)> = Vec::with_capacity(env.len());
    for (key, value) in env {
        match kept.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => kept.push((key, value)),
        }
    }
    kept
}

fn in_path(name: &str, path: Option<&str>) -> Result<CString, Problem> {
    let path = path.unwrap_or(DEFAULT_PATH);
    programs_in(path, name)
        .find(|file| is_program(file))
        .map(|file| CString::new(file.as_os_str().as_bytes()).map_err(Problem::from))
        .unwrap_or_else(|| Err(Problem::NotFound { program: name.into(), path: path.into() }))
}

/// The files that a name without a slash may mean, in the order in which they are looked for.
pub fn programs_in<'a>(path: &'a str, name: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
    let directories = path.split(':').filter(|directory| directory.starts_with('/'));
    directories.map(move |directory| Path::new(directory).join(name))
}

/// Whether there is a file that this process may run.
pub fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, Access::EXEC_OK).is_ok()
}

/// execve's own words need no introduction; for the other steps it matters which one failed.
fn detail(error: &LaunchError) -> String {
    match error.stage {
        Stage::Exec => error.source.to_string(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(argv: &[&str], env: &[(&str, &str)]) -> SpecContainer {
        SpecContainer {
            name: "a".into(),
            argv: argv.iter().map(ToString::to_string).collect(),
            env: env.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            working_dir: None,
            user: None,
            group: None,
            no_new_privs: false,
            share: crate::limits::Share::default(),
            stop_signal: None,
            oom_score: None,
            mounts: Vec::new(),
            confinement: super::super::confine::Confinement::default(),
        }
    }

    fn look_up(spec: &SpecContainer) -> Result<Program, Problem> {
        find(&spec.argv, spec, false)
    }

    #[test]
    fn programs_are_found_by_the_containers_path() {
        let found = look_up(&spec(&["sh"], &[])).unwrap();
        assert!(found.file.to_str().unwrap().ends_with("/sh"));
        assert_eq!(found.argv, [c"sh".to_owned()]);
        let error = look_up(&spec(&["sh"], &[("PATH", "/nowhere:relative")])).err().unwrap();
        let line = "cannot run \"sh\": not found in PATH (/nowhere:relative)";
        assert_eq!(error.to_string(), line);
        assert!(matches!(look_up(&spec(&[""], &[])), Err(Problem::Empty)));
        assert!(matches!(look_up(&spec(&["sh", "a\0b"], &[])), Err(Problem::Nul(_))));
    }

    #[test]
    fn a_later_variable_outdoes_an_earlier_one() {
        let found = look_up(&spec(&["/x"], &[("A", "1"), ("B", "2"), ("A", "3")])).unwrap();
        assert_eq!(found.env, [c"A=3".to_owned(), c"B=2".to_owned()]);
    }

    #[test]
    fn a_terminal_has_a_kind_unless_the_container_says_which() {
        let words = ["/x".to_owned()];
        let found = find(&words, &spec(&[], &[("A", "1")]), true).unwrap();
        assert_eq!(found.env, [c"A=1".to_owned(), c"TERM=xterm".to_owned()]);
        let found = find(&words, &spec(&[], &[("TERM", "linux")]), true).unwrap();
        assert_eq!(found.env, [c"TERM=linux".to_owned()]);
    }
}
