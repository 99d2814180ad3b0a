//! The profile behind `RuntimeDefault`: what Docker's and containerd's default profiles let
//! through, for 64-bit Linux, and without io_uring as in their later versions.
//!
//! Some system calls go with a capability. Which ones the container has there is decided by its
//! fields alone, not by what root of this host has: so it is as strict here as it is in Kubernetes.

use everynode_agent_core::CapabilitySet;

use super::profile::{Action, Comparison, Condition, EPERM, Profile, Rule, has};

/// To everybody, with any arguments.
const EVERYBODY: &str = "\
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
    clock_adjtime clock_getres clock_gettime clock_nanosleep close close_range connect \
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old \
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit \
    exit_group faccessat faccessat2 fadvise64 fallocate fanotify_mark fchdir fchmod fchmodat \
    fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr \
    fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait futex_waitv \
    futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 \
    getegid geteuid getgid getgroups getitimer getpeername getpgid getpgrp getpid getppid \
    getpriority getrandom getresgid getresuid getrlimit getrusage getsid getsockname getsockopt \
    gettid gettimeofday getuid getxattr inotify_add_watch inotify_init inotify_init1 \
    inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit ioctl \
    ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self \
    lchown lgetxattr link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat \
    madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod \
    mknodat mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open mq_timedreceive \
    mq_timedsend mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap \
    name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open \
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64 \
    preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev pselect6 ptrace \
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg recvmsg \
    remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir rseq \
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend \
    rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min \
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select \
    semctl semget semop semtimedop sendfile sendmmsg sendmsg sendto set_robust_list \
    set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setitimer setpgid \
    setpriority setregid setresgid setresuid setreuid setrlimit setsid setsockopt setuid \
    setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 socketpair splice \
    stat statfs statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time \
    timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create \
    timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat utime \
    utimensat utimes vfork vmsplice wait4 waitid write writev \
";

/// To those with the capability.
const WITH_CAPABILITY: &[(&str, &str)] = &[
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount \
        mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module init_module finit_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("SYS_RAWIO", "iopl ioperm"),
    ("SYS_TIME", "settimeofday clock_settime"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

/// Of one processor alone.
#[cfg(target_arch = "x86_64")]
const OF_THE_PROCESSOR: &str = "arch_prctl modify_ldt";
#[cfg(target_arch = "riscv64")]
const OF_THE_PROCESSOR: &str = "riscv_flush_icache";
#[cfg(not(any(target_arch = "x86_64", target_arch = "riscv64")))]
const OF_THE_PROCESSOR: &str = "";

/// Execution domains that personality(2) may change to: Linux, with 32-bit addresses or an old
/// version number, and the question for the present one.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// socket(2)'s first argument for virtual machines' sockets, which no namespace holds back.
const AF_VSOCK: u64 = 40;
/// clone(2)'s flags for new namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// Function not implemented: programs then try what came before.
const ENOSYS: u32 = 38;

/// As a container with these capabilities has it.
pub(super) fn default_profile(capabilities: CapabilitySet) -> Profile {
    let has = |name: &str| has(capabilities, name);
    let mut rules = vec![Rule::allow(EVERYBODY), Rule::allow(OF_THE_PROCESSOR)];
    let granted = WITH_CAPABILITY.iter().filter(|(capability, _)| has(capability));
    rules.extend(granted.map(|(_, names)| Rule::allow(names)));
    rules.push(Rule::allow("socket").where_first(Comparison::Ne, AF_VSOCK));
    let known =
        PERSONALITIES.map(|one| Rule::allow("personality").where_first(Comparison::Eq, one));
    rules.extend(known);
    if !has("SYS_ADMIN") {
        rules.push(Rule::allow("clone").where_first(Comparison::MaskedEq(NEW_NAMESPACES), 0));
        // Its flags are in memory, where no filter sees them.
        rules.push(Rule { action: Action::Errno(ENOSYS), ..Rule::allow("clone3") });
    }
    Profile { default: Action::Errno(EPERM), rules }
}

impl Rule {
    fn allow(names: &str) -> Self {
        let names = names.split_whitespace().map(str::to_owned).collect();
        Self { names, action: Action::Allow, conditions: Vec::new() }
    }

    fn where_first(mut self, comparison: Comparison, value: u64) -> Self {
        self.conditions.push(Condition { index: 0, comparison, value });
        self
    }
}
