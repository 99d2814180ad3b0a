//! What confines a container: Kubernetes' PodSecurityContext and SecurityContext, for a process of
//! the host.
//!
//! A process of the host begins with what the host's root has. Each field takes away what it says,
//! also beside `privileged: true`; a field that is not there takes away nothing.

use everynode_model::Rlimit;

/// What confines a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// `runAsUser`; root, or the agent's user, without one.
    pub user: Option<u32>,
    /// `runAsGroup`; with a user but no group, group 0 as in Kubernetes.
    pub group: Option<u32>,
    /// `supplementalGroups` and `fsGroup`, in order of their numbers.
    pub groups: Vec<u32>,
    /// `supplementalGroupsPolicy: Strict`: not also the groups of its user in /etc/group.
    pub strict_groups: bool,
    /// `capabilities`; all of the agent's without the field.
    pub capabilities: Option<Capabilities>,
    /// `allowPrivilegeEscalation: false`: set the kernel's no_new_privs.
    pub no_new_privs: bool,
    /// `seccompProfile`.
    pub seccomp: Seccomp,
    /// `readOnlyRootFilesystem`: of the machine's files it writes none but those that are mounted for
    /// it, and /dev and /proc.
    pub read_only_root: bool,
    /// `privileged: true`, which takes nothing away: then a read-only root leaves /sys and all of
    /// /proc writable.
    pub privileged: bool,
    /// Resource limits (setrlimit(2)); those that are not named are the agent's.
    pub rlimits: Vec<Rlimit>,
}

/// `capabilities.add` and `capabilities.drop`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `drop` has `ALL`, and `add` has not.
    pub from_none: bool,
    /// Named in `add`.
    pub add: CapabilitySet,
    /// Named in `drop`; outdoes `add`.
    pub drop: CapabilitySet,
}

/// Capabilities as the kernel counts them: bit N is number N of capabilities(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySet(pub u64);

/// Which system calls are let through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// All of them (`Unconfined`, and no field).
    #[default]
    Unconfined,
    /// Those of the container runtimes' default profile; some only with the capabilities that a
    /// container would have with these fields in Kubernetes (`RuntimeDefault`).
    RuntimeDefault(CapabilitySet),
    /// Those of a profile on the node, by its path under the agent's directory of them; in it some
    /// may depend on the same capabilities (`Localhost`).
    Localhost {
        /// `localhostProfile`: relative, without `..`.
        profile: String,
        /// As for the default profile.
        capabilities: CapabilitySet,
    },
}

/// capabilities(7) by number, without their `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capabilities {
    /// What is left of `all`, in containerd's order: `ALL` first, then what is named.
    pub fn of(&self, all: CapabilitySet) -> CapabilitySet {
        let from = if self.from_none { 0 } else { all.0 };
        CapabilitySet((from | self.add.0) & !self.drop.0)
    }
}

impl CapabilitySet {
    /// What containerd and CRI-O give to a container that asks for nothing: CHOWN, DAC_OVERRIDE,
    /// FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD,
    /// AUDIT_WRITE and SETFCAP.
    pub const CONTAINER: Self = Self(0xa804_25fb);
    /// All that there are.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// One by its name, in any case, with or without `CAP_`.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        NAMES.iter().position(|known| *known == name).map(|number| Self(1 << number))
    }

    /// Whether all of these are among `others`.
    pub const fn within(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }

    /// Their names, by number.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let has = move |(number, _): &(usize, &&str)| self.0 & (1 << number) != 0;
        NAMES.iter().enumerate().filter(has).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> CapabilitySet {
        CapabilitySet(names.iter().map(|name| CapabilitySet::named(name).unwrap().0).sum())
    }

    #[test]
    fn capabilities_are_those_of_the_kernel_and_of_containerd() {
        assert_eq!(set(&["CHOWN", "cap_sys_admin", "CAP_BPF"]), CapabilitySet(0x80_0020_0001));
        assert_eq!(CapabilitySet::named("ROOT"), None);
        let names: Vec<_> = CapabilitySet::CONTAINER.names().collect();
        assert_eq!(names.len(), 14);
        assert_eq!(set(&names), CapabilitySet::CONTAINER);
        assert!(names.contains(&"SETFCAP") && !names.contains(&"SYS_ADMIN"));
    }

    #[test]
    fn what_is_dropped_by_name_outdoes_what_is_added() {
        let all = CapabilitySet(0b1111);
        let of = |from_none, add, drop| {
            let (add, drop) = (CapabilitySet(add), CapabilitySet(drop));
            Capabilities { from_none, add, drop }.of(all).0
        };
        assert_eq!(of(false, 0, 0), 0b1111);
        assert_eq!(of(false, 0, 0b10), 0b1101);
        assert_eq!(of(true, 0b100, 0), 0b100);
        assert_eq!(of(true, 0b110, 0b010), 0b100);
    }
}
