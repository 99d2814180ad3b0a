//! The steps of a start, by number in a child's report and by name for people.

use std::ffi::c_int;
use std::fmt;

/// The steps of a start, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Stage {
    Prepare,
    Clone,
    EnterCgroup,
    Processes,
    Session,
    Descriptors,
    Terminal,
    Limits,
    Groups,
    Group,
    User,
    Capabilities,
    NoNewPrivs,
    Directory,
    Seccomp,
    Exec,
}

impl Stage {
    const ALL: [Self; 16] = [
        Self::Prepare,
        Self::Clone,
        Self::EnterCgroup,
        Self::Processes,
        Self::Session,
        Self::Descriptors,
        Self::Terminal,
        Self::Limits,
        Self::Groups,
        Self::Group,
        Self::User,
        Self::Capabilities,
        Self::NoNewPrivs,
        Self::Directory,
        Self::Seccomp,
        Self::Exec,
    ];

    pub(super) fn from_number(number: c_int) -> Self {
        Self::ALL.into_iter().find(|stage| *stage as c_int == number).unwrap_or(Self::Exec)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "prepare the start",
            Self::Clone => "make a process in the cgroup",
            Self::EnterCgroup => "enter the cgroup",
            Self::Processes => "mount its own /proc",
            Self::Session => "make a session",
            Self::Descriptors => "set up descriptors",
            Self::Terminal => "take the terminal",
            Self::Limits => "set resource limits",
            Self::Groups => "set supplementary groups",
            Self::Group => "set the group",
            Self::User => "set the user",
            Self::Capabilities => "drop capabilities",
            Self::NoNewPrivs => "set no_new_privs",
            Self::Directory => "enter the working directory",
            Self::Seccomp => "filter system calls",
            Self::Exec => "execute the program",
        })
    }
}
