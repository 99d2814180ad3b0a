//! The steps by which a child gives up what its container may not have.
//!
//! runc's order: what needs a right comes before the right is given up. A seccomp filter may be
//! installed without no_new_privs by who has CAP_SYS_ADMIN only, so then it comes first; with it
//! the filter comes last, and has to let nothing through but exec.
//!
//! ```text
//!   rlimits ─ (seccomp) ─ bounding set ─ groups, gid, uid ─ capabilities ─ no_new_privs
//!           ─ chdir ─ (seccomp)
//! ```
//!
//! Of the sets of capabilities only the bounding set outlives exec by itself: a process of root's
//! has all of it after exec, one of another user none. Nothing is inheritable or ambient, as in the
//! container runtimes.

use std::ffi::{c_int, c_long, c_uint};
use std::ptr;

use super::launch::Prepared;
use super::stage::Stage;

/// What a child gives up before it executes its program.
#[derive(Debug, Default)]
pub(crate) struct Confinement {
    /// Limits, by the kernel's number of the resource.
    pub(crate) rlimits: Vec<(u32, Limit)>,
    /// Its user; unchanged without one.
    pub(crate) user: Option<u32>,
    /// Its group; unchanged without one.
    pub(crate) group: Option<u32>,
    /// Its supplementary groups; unchanged without a list.
    pub(crate) groups: Option<Vec<u32>>,
    /// What is left of its capabilities, bit by number; unchanged without.
    pub(crate) capabilities: Option<u64>,
    /// Whether exec may never again gain privileges.
    pub(crate) no_new_privs: bool,
    /// Filters of system calls; the strictest word of all of them counts.
    pub(crate) seccomp: Vec<Vec<libc::sock_filter>>,
}

/// The kernel's rlimit64; the C libraries name it differently.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// No limit.
pub(crate) const UNLIMITED: u64 = u64::MAX;

/// The highest number that a capability may ever have: sets are of 64 bits.
const LAST_CAPABILITY: c_int = 63;

/// linux/capability.h, version 3: two words of 32 bits for each set.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Those of the calling process' bounding set, bit by number.
pub(crate) fn bounding_set() -> u64 {
    // SAFETY: PR_CAPBSET_READ changes nothing; beyond the last capability it is an error.
    let has = |number: &c_int| unsafe { libc::prctl(libc::PR_CAPBSET_READ, *number, 0, 0, 0) } == 1;
    (0..=LAST_CAPABILITY).filter(has).map(|number| 1_u64 << number).sum()
}

impl Prepared<'_> {
    /// Everything but what comes after `chdir`.
    ///
    /// # Safety
    /// As [`Self::become_program`].
    pub(super) unsafe fn give_up(&self) {
        let confinement = self.confinement;
        // SAFETY: plain system calls on memory that outlives the child. The raw ones replace
        // wrappers that would signal the parent's other threads (setuid and its like).
        unsafe {
            for (resource, limit) in &confinement.rlimits {
                let none = ptr::null_mut::<Limit>();
                let limit = ptr::from_ref(limit);
                let done = libc::syscall(libc::SYS_prlimit64, 0, *resource, limit, none);
                self.must(Stage::Limits, done);
            }
            if !confinement.no_new_privs {
                self.filter();
            }
            if let Some(left) = confinement.capabilities {
                self.bound(left);
            }
            self.become_user();
            if let Some(left) = confinement.capabilities {
                self.keep(left);
            }
            if confinement.no_new_privs {
                let done = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                self.must(Stage::NoNewPrivs, c_long::from(done));
            }
        }
    }

    /// What comes last, right before exec.
    ///
    /// # Safety
    /// As [`Self::become_program`].
    pub(super) unsafe fn give_up_last(&self) {
        if self.confinement.no_new_privs {
            // SAFETY: the caller's promise.
            unsafe { self.filter() }
        }
    }

    /// # Safety
    /// As [`Self::become_program`].
    unsafe fn become_user(&self) {
        let Confinement { user, group, groups, .. } = self.confinement;
        // SAFETY: as in `give_up`.
        unsafe {
            if let Some(groups) = groups {
                let done = libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr());
                self.must(Stage::Groups, done);
            }
            if let Some(group) = *group {
                self.must(Stage::Group, libc::syscall(libc::SYS_setgid, group));
            }
            if let Some(user) = *user {
                self.must(Stage::User, libc::syscall(libc::SYS_setuid, user));
            }
        }
    }

    /// Drops all but these from the bounding set.
    ///
    /// # Safety
    /// As [`Self::become_program`].
    unsafe fn bound(&self, left: u64) {
        for number in (0..=LAST_CAPABILITY).filter(|number| left & (1 << number) == 0) {
            // SAFETY: as in `give_up`.
            unsafe {
                if libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) == 1 {
                    let done = libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0);
                    self.must(Stage::Capabilities, c_long::from(done));
                }
            }
        }
    }

    /// Keeps at most these of what it has; nothing is inheritable, and so nothing ambient.
    ///
    /// # Safety
    /// As [`Self::become_program`].
    unsafe fn keep(&self, left: u64) {
        let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
        let mut data = [CapData::default(); 2];
        // SAFETY: as in `give_up`; header and data are as version 3 has them.
        unsafe {
            let done = libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr());
            self.must(Stage::Capabilities, done);
            #[allow(clippy::cast_possible_truncation, reason = "the lower and the upper half")]
            for (half, left) in data.iter_mut().zip([left as u32, (left >> 32) as u32]) {
                half.permitted &= left;
                half.effective &= left;
                half.inheritable = 0;
            }
            let done = libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr());
            self.must(Stage::Capabilities, done);
        }
    }

    /// # Safety
    /// As [`Self::become_program`].
    unsafe fn filter(&self) {
        for filter in &self.confinement.seccomp {
            let program = libc::sock_fprog {
                // A longer one than the kernel's 4096 is refused by it; none wraps to a short one.
                len: u16::try_from(filter.len()).unwrap_or(u16::MAX),
                filter: filter.as_ptr().cast_mut(),
            };
            let mode: c_uint = libc::SECCOMP_SET_MODE_FILTER;
            // SAFETY: as in `give_up`; the kernel copies the filter and writes nothing.
            unsafe {
                let done = libc::syscall(libc::SYS_seccomp, mode, 0, &raw const program);
                self.must(Stage::Seccomp, done);
            }
        }
    }
}
