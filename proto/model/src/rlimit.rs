//! Resource limits (setrlimit(2)), which a service's unit has and Kubernetes has not: given by
//! annotations of a template.
//!
//! `everynode.dev/rlimits: nofile=1048576,core=0:infinity` is for every container of a pod,
//! `rlimits.everynode.dev/NAME` for the container NAME, instead. Each limit is `NAME=SOFT[:HARD]`, by
//! the names of prlimit(1) and in its units; one number is both. What is not named is the agent's.

use std::fmt;
use std::str::FromStr;

/// The annotation for all containers of a pod.
pub const RLIMITS_ANNOTATION: &str = "everynode.dev/rlimits";
/// What the annotation for one container begins with, before its name.
pub const RLIMITS_PREFIX: &str = "rlimits.everynode.dev/";

/// One resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// Of what.
    pub resource: Resource,
    /// What counts; `None` is no limit.
    pub soft: Option<u64>,
    /// Up to what the process may raise it; `None` is no limit.
    pub hard: Option<u64>,
}

/// Several, each resource at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rlimits(pub Vec<Rlimit>);

/// What a limit is of, named as in prlimit(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of getrlimit(2)")]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// Not a list of limits; says what of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRlimits(String);

impl Resource {
    const ALL: [(&'static str, Self); 16] = [
        ("as", Self::As),
        ("core", Self::Core),
        ("cpu", Self::Cpu),
        ("data", Self::Data),
        ("fsize", Self::Fsize),
        ("locks", Self::Locks),
        ("memlock", Self::Memlock),
        ("msgqueue", Self::Msgqueue),
        ("nice", Self::Nice),
        ("nofile", Self::Nofile),
        ("nproc", Self::Nproc),
        ("rss", Self::Rss),
        ("rtprio", Self::Rtprio),
        ("rttime", Self::Rttime),
        ("sigpending", Self::Sigpending),
        ("stack", Self::Stack),
    ];

    /// By its name in prlimit(1).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource)
    }

    /// Its name in prlimit(1).
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| *name)
    }
}

impl FromStr for Rlimits {
    type Err = InvalidRlimits;

    fn from_str(text: &str) -> Result<Self, InvalidRlimits> {
        let mut limits: Vec<Rlimit> = Vec::new();
        for word in text.split(',').map(str::trim) {
            let limit = rlimit(word)?;
            if limits.iter().any(|known| known.resource == limit.resource) {
                return Err(InvalidRlimits(format!("{} is given twice", limit.resource.name())));
            }
            limits.push(limit);
        }
        Ok(Self(limits))
    }
}

fn rlimit(word: &str) -> Result<Rlimit, InvalidRlimits> {
    let invalid = || {
        let what = "is not NAME=SOFT[:HARD], such as nofile=1048576, with numbers or `infinity`";
        InvalidRlimits(format!("{word:?} {what}"))
    };
    let (name, values) = word.split_once('=').ok_or_else(invalid)?;
    let resource = Resource::named(name).ok_or_else(|| {
        let names: Vec<_> = Resource::ALL.iter().map(|(name, _)| *name).collect();
        InvalidRlimits(format!("{name:?} is none of {}", names.join(", ")))
    })?;
    let value = |text: &str| match text {
        "infinity" | "unlimited" => Some(None),
        number => number.parse::<u64>().ok().filter(|one| *one < u64::MAX).map(Some),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let limit = Rlimit {
        resource,
        soft: value(soft).ok_or_else(invalid)?,
        hard: value(hard).ok_or_else(invalid)?,
    };
    match (limit.soft, limit.hard) {
        (soft, Some(hard)) if soft.is_none_or(|soft| soft > hard) => {
            Err(InvalidRlimits(format!("{word:?}: the soft limit is above the hard one")))
        }
        _ => Ok(limit),
    }
}

impl fmt::Display for InvalidRlimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidRlimits {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_a_unit_has_them() {
        let Rlimits(limits) = "nofile=1024:4096, core=0:infinity,nproc=unlimited".parse().unwrap();
        let limit = |resource, soft, hard| Rlimit { resource, soft, hard };
        assert_eq!(
            limits,
            [
                limit(Resource::Nofile, Some(1024), Some(4096)),
                limit(Resource::Core, Some(0), None),
                limit(Resource::Nproc, None, None),
            ]
        );
        assert_eq!(Resource::named("nofile").map(Resource::name), Some("nofile"));
    }

    #[test]
    fn what_is_no_limit_says_what_of_it() {
        for (text, said) in [
            ("", "NAME=SOFT"),
            ("nofile", "NAME=SOFT"),
            ("nofile=", "NAME=SOFT"),
            ("nofile=-1", "NAME=SOFT"),
            ("nofile=1:2:3", "NAME=SOFT"),
            ("files=1", "none of as, core"),
            ("nofile=2:1", "above the hard one"),
            ("nofile=infinity:1", "above the hard one"),
            ("nofile=1,nofile=1", "given twice"),
            ("nofile=18446744073709551615", "NAME=SOFT"),
        ] {
            let error = text.parse::<Rlimits>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
