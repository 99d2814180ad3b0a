//! Rules for Windows pods, in Kubernetes' words: such a manifest is kept and shown, though no node
//! of Everynode runs it.

use k8s_openapi::api::core::v1::{
    Container, PodSpec, SecurityContext, WindowsSecurityContextOptions,
};

use super::syntax;
use crate::FieldPath;
use crate::check::Check;

const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";
const NOT_ON_LINUX: &str = "windows options cannot be set for a linux pod";

/// Checks what the pod's operating system forbids, and the options of Windows.
pub(super) fn check(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    let options = pod.security_context.as_ref().and_then(|of| of.windows_options.as_ref());
    if let Some(options) = options {
        check_options(check, &path.down("securityContext.windowsOptions"), options);
    }
    for (path, container) in containers(path, pod) {
        if let Some(options) = options_of(container) {
            check_options(check, &path.down("securityContext.windowsOptions"), options);
        }
    }
    check_host_process(check, path, pod, options.and_then(|options| options.host_process));
    match pod.os.as_ref().map(|os| os.name.as_str()) {
        Some("linux") => check_linux(check, path, pod),
        Some("windows") => check_windows(check, path, pod),
        _ => {}
    }
}

fn check_linux(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    let of_pod = pod.security_context.as_ref();
    if of_pod.is_some_and(|security| security.windows_options.is_some()) {
        check.forbidden(path.down("securityContext.windowsOptions"), NOT_ON_LINUX);
    }
    for (path, container) in containers(path, pod) {
        if options_of(container).is_some() {
            check.forbidden(path.down("securityContext.windowsOptions"), NOT_ON_LINUX);
        }
    }
}

fn check_windows(check: &mut Check, path: &FieldPath, pod: &PodSpec) {
    let mut forbid = |path: FieldPath, given: bool| {
        if given {
            check.forbidden(path, NOT_ON_WINDOWS);
        }
    };
    for (field, given) in [
        ("hostIPC", pod.host_ipc == Some(true)),
        ("hostPID", pod.host_pid == Some(true)),
        ("hostUsers", pod.host_users.is_some()),
        ("shareProcessNamespace", pod.share_process_namespace.is_some()),
    ] {
        forbid(path.field(field), given);
    }
    if let Some(security) = &pod.security_context {
        let at = path.field("securityContext");
        for (field, given) in [
            ("appArmorProfile", security.app_armor_profile.is_some()),
            ("fsGroup", security.fs_group.is_some()),
            ("fsGroupChangePolicy", security.fs_group_change_policy.is_some()),
            ("runAsGroup", security.run_as_group.is_some()),
            ("runAsUser", security.run_as_user.is_some()),
            ("seLinuxOptions", security.se_linux_options.is_some()),
            ("seccompProfile", security.seccomp_profile.is_some()),
            ("supplementalGroups", security.supplemental_groups.is_some()),
            ("supplementalGroupsPolicy", security.supplemental_groups_policy.is_some()),
            ("sysctls", security.sysctls.as_ref().is_some_and(|sysctls| !sysctls.is_empty())),
        ] {
            forbid(at.field(field), given);
        }
    }
    for (path, container) in containers(path, pod) {
        if let Some(security) = &container.security_context {
            let at = path.field("securityContext");
            forbidden_in_container(security)
                .into_iter()
                .for_each(|(field, given)| forbid(at.field(field), given));
        }
    }
    if pod.resources.is_some() {
        check.forbidden(path.field("resources"), "may not be set for a windows pod");
    }
}

fn forbidden_in_container(security: &SecurityContext) -> [(&'static str, bool); 10] {
    [
        ("allowPrivilegeEscalation", security.allow_privilege_escalation.is_some()),
        ("appArmorProfile", security.app_armor_profile.is_some()),
        ("capabilities", security.capabilities.is_some()),
        ("privileged", security.privileged.is_some()),
        ("procMount", security.proc_mount.is_some()),
        ("readOnlyRootFilesystem", security.read_only_root_filesystem.is_some()),
        ("runAsGroup", security.run_as_group.is_some()),
        ("runAsUser", security.run_as_user.is_some()),
        ("seLinuxOptions", security.se_linux_options.is_some()),
        ("seccompProfile", security.seccomp_profile.is_some()),
    ]
}

/// Processes of a Windows host: all of a pod's containers are, or none, in the host's network.
fn check_host_process(check: &mut Check, path: &FieldPath, pod: &PodSpec, of_pod: Option<bool>) {
    let (mut all, mut of_host) = (0, 0);
    for (path, container) in containers(path, pod) {
        all += 1;
        let own = options_of(container).and_then(|options| options.host_process);
        if let (Some(of_pod), Some(own)) = (of_pod, own)
            && of_pod != own
        {
            let rule = format!(
                "pod hostProcess value must be identical if both are specified, was {of_pod}"
            );
            check.invalid(path.down("securityContext.windowsOptions.hostProcess"), own, rule);
        }
        of_host += usize::from(own.or(of_pod) == Some(true));
    }
    if of_host == 0 {
        return;
    }
    if of_host != all {
        let rule = "If pod contains any hostProcess containers then all containers must be \
                    HostProcess containers";
        check.invalid(path.clone(), "", rule);
    }
    if pod.host_network != Some(true) {
        let rule = "hostNetwork must be true if pod contains any hostProcess containers";
        check.invalid(path.field("hostNetwork"), false, rule);
    }
}

fn check_options(check: &mut Check, path: &FieldPath, options: &WindowsSecurityContextOptions) {
    /// What Active Directory takes of a credential spec.
    const MAX_SPEC_KIB: usize = 64;
    if let Some(name) = options.gmsa_credential_spec_name.as_deref() {
        // The name of an object of the API.
        check.each(&path.field("gmsaCredentialSpecName"), name, syntax::dns_subdomain(name));
    }
    if let Some(spec) = options.gmsa_credential_spec.as_deref() {
        let path = path.field("gmsaCredentialSpec");
        if spec.is_empty() {
            check.invalid(path, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > MAX_SPEC_KIB * 1024 {
            let rule = format!("gmsaCredentialSpec size must be under {MAX_SPEC_KIB} KiB");
            check.invalid(path, spec, rule);
        }
    }
    if let Some(name) = options.run_as_user_name.as_deref() {
        let messages = user_name(name).into_iter().map(Into::into).collect();
        check.each(&path.field("runAsUserName"), name, messages);
    }
}

/// What is wrong with the name of a Windows user, `USER` or `DOMAIN\USER`.
fn user_name(name: &str) -> Vec<&'static str> {
    const FORBIDDEN: &str = "\"/\\:;|=,+*?<>@[]";
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if name.chars().any(|character| character.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts.as_slice() {
        [user] => (None, *user),
        [domain, user] => (Some(*domain), *user),
        _ => return vec!["runAsUserName cannot contain more than one backslash"],
    };
    let mut wrong = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= 256) {
        wrong.push("runAsUserName's Domain length must be under 256 characters");
    }
    if domain.is_some_and(|domain| !is_net_bios(domain) && !is_dns(domain)) {
        wrong.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        wrong.push("runAsUserName's User cannot be empty");
    } else if user.len() > 104 {
        wrong.push("runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|character| ['.', ' '].contains(&character)) {
        wrong.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.chars().any(|character| FORBIDDEN.contains(character)) {
        wrong.push(
            "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]",
        );
    }
    wrong
}

fn is_net_bios(domain: &str) -> bool {
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.chars().any(|character| "\\/:*?\"<>|".contains(character))
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|character| character.is_ascii_alphanumeric() || character == '-')
    })
}

fn options_of(container: &Container) -> Option<&WindowsSecurityContextOptions> {
    container.security_context.as_ref()?.windows_options.as_ref()
}

fn containers<'a>(
    path: &'a FieldPath,
    pod: &'a PodSpec,
) -> impl Iterator<Item = (FieldPath, &'a Container)> {
    let lists = [
        ("containers", pod.containers.as_slice()),
        ("initContainers", pod.init_containers.as_deref().unwrap_or_default()),
    ];
    lists.into_iter().flat_map(move |(field, list)| {
        let list = list.iter().enumerate();
        list.map(move |(index, container)| (path.field(field).index(index), container))
    })
}
