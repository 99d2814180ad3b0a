//! What a container gives up: as its supervisor is told, and from that what the child is handed.

use std::fs;

use everynode_agent_core::{Capabilities, CapabilitySet, Security};
use everynode_model::{Resource, Rlimit};
use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};

use super::program::Problem;
use super::volumes::ReadOnlyRoot;
use crate::sys;

/// As in a specification; without any of it nothing is given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confinement {
    /// Beside the user's in /etc/group.
    #[serde(default)]
    groups: Vec<u32>,
    #[serde(default)]
    strict_groups: bool,
    #[serde(default)]
    capabilities: Option<WireCapabilities>,
    /// Instructions of each filter: code, jumps where true and false, and operand, from high to
    /// low.
    #[serde(default)]
    seccomp: Vec<Vec<u64>>,
    #[serde(default)]
    rlimits: Vec<WireRlimit>,
    #[serde(default)]
    read_only_root: bool,
    #[serde(default)]
    privileged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct WireCapabilities {
    from_none: bool,
    add: u64,
    drop: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct WireRlimit {
    resource: String,
    soft: Option<u64>,
    hard: Option<u64>,
}

/// Whom a container runs as.
#[derive(Clone, Copy, Debug)]
pub(super) struct Who {
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
}

impl Confinement {
    /// Of a container for which these filters were made.
    pub(crate) fn of(security: &Security, seccomp: &[BpfProgram]) -> Self {
        let rlimit = |limit: &Rlimit| WireRlimit {
            resource: limit.resource.name().to_owned(),
            soft: limit.soft,
            hard: limit.hard,
        };
        let capabilities = |of: Capabilities| WireCapabilities {
            from_none: of.from_none,
            add: of.add.0,
            drop: of.drop.0,
        };
        Self {
            groups: security.groups.clone(),
            strict_groups: security.strict_groups,
            capabilities: security.capabilities.map(capabilities),
            seccomp: seccomp.iter().map(|program| program.iter().map(packed).collect()).collect(),
            rlimits: security.rlimits.iter().map(rlimit).collect(),
            read_only_root: security.read_only_root,
            privileged: security.privileged,
        }
    }

    /// Whether it must not write to the machine's files.
    pub(super) fn read_only_root(&self) -> Option<ReadOnlyRoot> {
        let privileged = self.privileged;
        self.read_only_root.then_some(ReadOnlyRoot { privileged })
    }

    /// What the child is handed.
    ///
    /// # Errors
    /// What this process does not have itself, and so can't give.
    pub(super) fn prepare(
        &self,
        who: Who,
        no_new_privs: bool,
    ) -> Result<sys::Confinement, Problem> {
        let rlimits = self.rlimits.iter().map(WireRlimit::prepare);
        Ok(sys::Confinement {
            rlimits: rlimits.collect::<Result<_, _>>()?,
            user: who.user,
            group: who.group,
            groups: self.groups_of(who),
            capabilities: self.capabilities.map(WireCapabilities::prepare).transpose()?,
            no_new_privs,
            seccomp: self.seccomp.iter().map(|f| f.iter().map(unpacked).collect()).collect(),
        })
    }

    /// Its supplementary groups, none of them inherited; `None` where they can't be set and nobody
    /// asked for any.
    fn groups_of(&self, who: Who) -> Option<Vec<u32>> {
        let me = rustix::process::geteuid().as_raw();
        let asked = who.user.is_some() || who.group.is_some() || !self.groups.is_empty();
        if me != 0 && !asked {
            return None;
        }
        let mut groups = self.groups.clone();
        if !self.strict_groups {
            // As in the container runtimes, what can't be read names nobody.
            let text = |path| fs::read_to_string(path).unwrap_or_default();
            groups.extend(memberships(
                who.user.unwrap_or(me),
                &text("/etc/passwd"),
                &text("/etc/group"),
            ));
        }
        groups.sort_unstable();
        groups.dedup();
        Some(groups)
    }
}

impl WireCapabilities {
    fn prepare(self) -> Result<u64, Problem> {
        let of = Capabilities {
            from_none: self.from_none,
            add: CapabilitySet(self.add),
            drop: CapabilitySet(self.drop),
        };
        let all = CapabilitySet(sys::bounding_set());
        let left = of.of(all);
        if left.within(all) {
            return Ok(left.0);
        }
        let beyond: Vec<_> = CapabilitySet(left.0 & !all.0).names().collect();
        let line = format!("the agent has no capability {} to give", beyond.join(", "));
        Err(Problem::Beyond(line))
    }
}

impl WireRlimit {
    fn prepare(&self) -> Result<(u32, sys::Limit), Problem> {
        let beyond = |line: String| Problem::Beyond(format!("limit {}: {line}", self.resource));
        let resource = Resource::named(&self.resource).ok_or_else(|| beyond("unknown".into()))?;
        let resource = known(resource);
        let unlimited = sys::UNLIMITED;
        let wanted = sys::Limit {
            soft: self.soft.unwrap_or(unlimited),
            hard: self.hard.unwrap_or(unlimited),
        };
        let own = rustix::process::getrlimit(resource).maximum.unwrap_or(unlimited);
        let may_raise = || {
            rustix::thread::capabilities(None).is_ok_and(|sets| {
                sets.effective.contains(rustix::thread::CapabilitySet::SYS_RESOURCE)
            })
        };
        if wanted.hard > own && !may_raise() {
            let (wanted, own) = (word(wanted.hard), word(own));
            return Err(beyond(format!(
                "{wanted} is above the agent's own hard limit of {own}, and it has no \
                 CAP_SYS_RESOURCE to raise it"
            )));
        }
        Ok((resource as u32, wanted))
    }
}

fn word(limit: u64) -> String {
    if limit == sys::UNLIMITED { "infinity".to_owned() } else { limit.to_string() }
}

/// As the kernel counts them.
const fn known(resource: Resource) -> rustix::process::Resource {
    use rustix::process::Resource as Known;
    match resource {
        Resource::Cpu => Known::Cpu,
        Resource::Fsize => Known::Fsize,
        Resource::Data => Known::Data,
        Resource::Stack => Known::Stack,
        Resource::Core => Known::Core,
        Resource::Rss => Known::Rss,
        Resource::Nproc => Known::Nproc,
        Resource::Nofile => Known::Nofile,
        Resource::Memlock => Known::Memlock,
        Resource::As => Known::As,
        Resource::Locks => Known::Locks,
        Resource::Sigpending => Known::Sigpending,
        Resource::Msgqueue => Known::Msgqueue,
        Resource::Nice => Known::Nice,
        Resource::Rtprio => Known::Rtprio,
        Resource::Rttime => Known::Rttime,
    }
}

/// The groups that name a user as their member: passwd(5) and group(5). A user without a name is in
/// none.
fn memberships(user: u32, passwd: &str, group: &str) -> Vec<u32> {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let names: Vec<String> = passwd
        .lines()
        .map(fields)
        .filter(|line| line.get(2).is_some_and(|id| id.parse() == Ok(user)))
        .filter_map(|line| line.into_iter().next())
        .collect();
    let of_user = |line: &Vec<String>| {
        let members = line.get(3).map(String::as_str).unwrap_or_default();
        members.split(',').any(|member| names.iter().any(|name| name == member))
    };
    let groups = group.lines().map(fields).filter(of_user);
    groups.filter_map(|line| line.get(2)?.parse().ok()).collect()
}

fn packed(instruction: &seccompiler::sock_filter) -> u64 {
    let seccompiler::sock_filter { code, jt, jf, k } = *instruction;
    u64::from(code) << 48 | u64::from(jt) << 40 | u64::from(jf) << 32 | u64::from(k)
}

fn unpacked(packed: &u64) -> libc::sock_filter {
    let [a, b, jt, jf, c, d, e, f] = packed.to_be_bytes();
    let (code, k) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
    libc::sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_in_the_groups_that_name_it() {
        let passwd = "root:x:0:0::/:/bin/sh\na:x:7:7::/:\nalso-a:x:7:7::/:\nodd\nb:x:8:8::/:\n";
        let group = "root:x:0:\nadm:x:4:b,a\nx:x:5:also-a\ny:x:6:ab\nz:x:9:\nodd\n:::a\n";
        assert_eq!(memberships(7, passwd, group), [4, 5]);
        assert_eq!(memberships(8, passwd, group), [4]);
        assert_eq!(memberships(0, passwd, group), [0; 0]);
        assert_eq!(memberships(99, passwd, group), [0; 0], "a number without a name");
    }

    #[test]
    fn instructions_come_through_as_they_are() {
        let one = seccompiler::sock_filter { code: 0x1234, jt: 0x56, jf: 0x78, k: 0x9abc_def0 };
        assert_eq!(packed(&one), 0x1234_5678_9abc_def0);
        let back = unpacked(&packed(&one));
        assert_eq!((back.code, back.jt, back.jf, back.k), (0x1234, 0x56, 0x78, 0x9abc_def0));
    }

    #[test]
    fn what_the_agent_has_not_is_not_given() {
        let all = WireCapabilities { from_none: false, add: 0, drop: 0 };
        assert_eq!(all.prepare().ok(), Some(sys::bounding_set()));
        let none = WireCapabilities { from_none: true, ..all };
        assert_eq!(none.prepare().ok(), Some(0));
        let none_such = WireCapabilities { add: 1 << 63, ..none };
        assert!(none_such.prepare().is_err());
    }
}
