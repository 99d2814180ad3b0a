//! `seccompProfile`: from a profile to the filters that the kernel runs.
//!
//! A filter knows one word for what matches and one for what does not. A profile has more, so it
//! becomes several filters, of which the kernel follows the strictest word: one lets through what
//! any rule speaks of and answers all else as the profile's default says; and one for each further
//! action says that where its own rules match.
//!
//! Programs of another processor's system calls (32-bit ones) are ended at their first, under any
//! profile: a filter can't tell what their numbers mean.

mod default;
mod profile;

use std::io;
use std::path::{Path, PathBuf};

use everynode_agent_core::Seccomp;
use seccompiler::{BpfProgram, TargetArch};

use default::default_profile;
use profile::{Malformed, Profile};

/// The longest profile that is read; Docker's own has 20 kB.
const MAX_PROFILE: u64 = 1 << 20;

/// Why a profile can't be followed: the container is not run.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// There is no such profile on this machine, or it can't be read.
    #[error("cannot load seccomp profile {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says what can't be done exactly.
    #[error("seccomp profile {name}: {problem}")]
    Malformed {
        /// Which.
        name: String,
        /// What.
        problem: String,
    },
}

/// The filters for a container; none for `Unconfined`. `root` is where profiles of the node are.
///
/// # Errors
/// When the profile is not there, or can't be followed to the letter.
pub(crate) fn filters(seccomp: &Seccomp, root: &Path) -> Result<Vec<BpfProgram>, SeccompError> {
    let (name, profile) = match seccomp {
        Seccomp::Unconfined => return Ok(Vec::new()),
        Seccomp::RuntimeDefault(capabilities) => {
            ("RuntimeDefault", Ok(default_profile(*capabilities)))
        }
        Seccomp::Localhost { profile, capabilities } => {
            (profile.as_str(), Profile::read(&read(&root.join(profile))?, *capabilities))
        }
    };
    let compiled = arch().and_then(|arch| profile?.compile(arch));
    compiled.map_err(|problem| SeccompError::Malformed {
        name: name.to_owned(),
        problem: problem.to_string(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, SeccompError> {
    let at = |source| SeccompError::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(at)?.len();
    if length > MAX_PROFILE {
        return Err(at(io::Error::other("it is longer than a mebibyte")));
    }
    std::fs::read(path).map_err(at)
}

fn arch() -> Result<TargetArch, Malformed> {
    let name = std::env::consts::ARCH;
    name.try_into().map_err(|_| Malformed(format!("no filters can be made for {name}")))
}
