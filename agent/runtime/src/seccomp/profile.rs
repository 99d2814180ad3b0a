//! A profile as it is written (the JSON of OCI's runtime specification, and Docker's, which adds
//! conditions on capabilities), and what it becomes.
//!
//! What can't be followed exactly is refused: a profile is a promise.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use everynode_agent_core::CapabilitySet;
use seccompiler::{BpfProgram, TargetArch};
use serde::Deserialize;
use serde_json::{Value, json};

/// A profile for one container.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) default: Action,
    pub(super) rules: Vec<Rule>,
}

/// What is done where one of these system calls meets all of the conditions.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) names: Vec<String>,
    pub(super) action: Action,
    pub(super) conditions: Vec<Condition>,
}

/// On the argument `index`, as an unsigned number of 64 bits.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) index: u8,
    pub(super) comparison: Comparison,
    pub(super) value: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Of the bits of this mask.
    MaskedEq(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    Allow,
    Log,
    Trace(u32),
    Errno(u32),
    Trap,
    KillThread,
    KillProcess,
}

/// What of a profile can't be followed, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) String);

/// As it is written; a field that is not here is one that would not be followed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    default_action: String,
    default_errno_ret: Option<u32>,
    /// Of other processors; what theirs call is ended.
    #[serde(default)]
    #[expect(dead_code, reason = "taken note of by its name")]
    architectures: Value,
    #[serde(default)]
    #[expect(dead_code, reason = "taken note of by its name")]
    arch_map: Value,
    #[serde(default)]
    syscalls: Vec<FileRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileRule {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<FileCondition>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
    #[serde(default)]
    #[expect(dead_code, reason = "for people")]
    comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileCondition {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Docker's: of which containers and kernels a rule is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

pub(super) const EPERM: u32 = 1;

impl Profile {
    /// What a profile says for a container with these capabilities.
    pub(super) fn read(text: &[u8], capabilities: CapabilitySet) -> Result<Self, Malformed> {
        let file: File =
            serde_json::from_slice(text).map_err(|error| Malformed(error.to_string()))?;
        let mut rules = Vec::new();
        for rule in file.syscalls {
            let included = match &rule.includes {
                None => true,
                Some(filter) => filter.conditions(capabilities)?.all(|holds| holds),
            };
            let excluded = match &rule.excludes {
                None => false,
                Some(filter) => filter.conditions(capabilities)?.any(|holds| holds),
            };
            if included && !excluded {
                rules.extend(rule.resolve()?);
            }
        }
        Ok(Self { default: action(&file.default_action, file.default_errno_ret)?, rules })
    }

    /// The filters.
    pub(super) fn compile(&self, arch: TargetArch) -> Result<Vec<BpfProgram>, Malformed> {
        let mut by_action: BTreeMap<Action, Vec<Value>> = BTreeMap::new();
        let mut unconditional: BTreeSet<(&str, Action)> = BTreeSet::new();
        for rule in self.rules.iter().filter(|rule| rule.conditions.is_empty()) {
            unconditional.extend(rule.names.iter().map(|name| (name.as_str(), rule.action)));
        }
        let unknown = self.unknown(arch)?;
        for rule in self.rules.iter().filter(|rule| rule.action != self.default) {
            for name in rule.names.iter().filter(|name| !unknown.contains(name.as_str())) {
                let always = unconditional.contains(&(name.as_str(), rule.action));
                // To the compiler a condition would narrow the same call's rule without one.
                if !always || rule.conditions.is_empty() {
                    by_action.entry(rule.action).or_default().push(rule.json(name));
                }
            }
        }
        let mut filters = Vec::new();
        if self.default != Action::Allow {
            let any = by_action.values().flatten().cloned().collect();
            filters.push(compile(self.default, Action::Allow, any, arch)?);
        }
        for (action, rules) in by_action.into_iter().filter(|(action, _)| *action != Action::Allow)
        {
            filters.push(compile(Action::Allow, action, rules, arch)?);
        }
        Ok(filters)
    }

    /// Names that this processor's system calls don't have: other processors', or too new ones. To
    /// let such a one through or not makes no difference to a program; one that was to be refused
    /// and would be let through does.
    fn unknown(&self, arch: TargetArch) -> Result<BTreeSet<&str>, Malformed> {
        let all: BTreeSet<&str> = self.rules.iter().flat_map(Rule::names).collect();
        let unknown = unknown_of(&all.into_iter().collect::<Vec<_>>(), arch);
        let refuse = self.rules.iter().filter(|rule| rule.action.is_stricter_than(self.default));
        match refuse.flat_map(Rule::names).find(|name| unknown.contains(name)) {
            Some(name) => {
                Err(Malformed(format!("{name:?} is no system call that can be refused here")))
            }
            None => Ok(unknown),
        }
    }
}

impl FileRule {
    /// Rules of which each is met as a whole. As in runc, several conditions on one argument are
    /// alternatives.
    fn resolve(self) -> Result<Vec<Rule>, Malformed> {
        let action = action(&self.action, self.errno_ret)?;
        let names: Vec<String> = self.names.into_iter().chain(self.name).collect();
        let conditions = self.args.unwrap_or_default().into_iter().map(FileCondition::resolve);
        let conditions: Vec<Condition> = conditions.collect::<Result<_, _>>()?;
        let arguments: BTreeSet<u8> = conditions.iter().map(|one| one.index).collect();
        if arguments.len() == conditions.len() {
            return Ok(vec![Rule { names, action, conditions }]);
        }
        let alternative = |one| Rule { names: names.clone(), action, conditions: vec![one] };
        Ok(conditions.into_iter().map(alternative).collect())
    }
}

impl FileCondition {
    fn resolve(self) -> Result<Condition, Malformed> {
        let (comparison, value) = match self.op.as_str() {
            "SCMP_CMP_EQ" => (Comparison::Eq, self.value),
            "SCMP_CMP_NE" => (Comparison::Ne, self.value),
            "SCMP_CMP_LT" => (Comparison::Lt, self.value),
            "SCMP_CMP_LE" => (Comparison::Le, self.value),
            "SCMP_CMP_GT" => (Comparison::Gt, self.value),
            "SCMP_CMP_GE" => (Comparison::Ge, self.value),
            "SCMP_CMP_MASKED_EQ" => (Comparison::MaskedEq(self.value), self.value_two),
            other => return Err(Malformed(format!("{other:?} is no comparison"))),
        };
        Ok(Condition { index: self.index, comparison, value })
    }
}

impl Filter {
    /// Whether each of its conditions holds here.
    fn conditions(
        &self,
        capabilities: CapabilitySet,
    ) -> Result<impl Iterator<Item = bool>, Malformed> {
        let has = |name: &String| has(capabilities, name);
        let mut conditions: Vec<bool> = self.caps.iter().map(has).collect();
        if !self.arches.is_empty() {
            conditions.push(self.arches.iter().any(|arch| arch == go_arch()));
        }
        if let Some(oldest) = &self.min_kernel {
            let release = rustix::system::uname();
            let here = version(&release.release().to_string_lossy());
            let oldest = version(oldest);
            conditions.push(here.zip(oldest).map(|(here, oldest)| here >= oldest).ok_or_else(
                || Malformed("minKernel is no version that can be compared".to_owned()),
            )?);
        }
        Ok(conditions.into_iter())
    }
}

/// Whether a container with these capabilities has this one.
pub(super) fn has(capabilities: CapabilitySet, name: &str) -> bool {
    CapabilitySet::named(name).is_some_and(|one| one.within(capabilities))
}

/// The first two numbers of a kernel's version.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The processor's name in Docker's profiles.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn action(name: &str, errno: Option<u32>) -> Result<Action, Malformed> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(EPERM)),
        "SCMP_ACT_TRACE" => Action::Trace(errno.unwrap_or(EPERM)),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        other => return Err(Malformed(format!("{other:?} is no action that can be taken here"))),
    })
}

impl Rule {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// As the compiler reads it.
    fn json(&self, name: &str) -> Value {
        let conditions = self.conditions.iter().map(|one| {
            let op = match one.comparison {
                Comparison::Eq => json!("eq"),
                Comparison::Ne => json!("ne"),
                Comparison::Lt => json!("lt"),
                Comparison::Le => json!("le"),
                Comparison::Gt => json!("gt"),
                Comparison::Ge => json!("ge"),
                Comparison::MaskedEq(mask) => json!({"masked_eq": mask}),
            };
            json!({"index": one.index, "type": "qword", "op": op, "val": one.value})
        });
        match self.conditions.is_empty() {
            true => json!({"syscall": name}),
            false => json!({"syscall": name, "args": conditions.collect::<Vec<_>>()}),
        }
    }
}

impl Action {
    /// Whether a program can do less after it; with whichever error it is refused is the same.
    fn is_stricter_than(self, other: Self) -> bool {
        let both_refuse = matches!((self, other), (Self::Errno(_), Self::Errno(_)));
        self > other && !both_refuse
    }

    fn json(self) -> Value {
        match self {
            Self::Allow => json!("allow"),
            Self::Log => json!("log"),
            Self::Trace(number) => json!({"trace": number}),
            Self::Errno(number) => json!({"errno": number}),
            Self::Trap => json!("trap"),
            Self::KillThread => json!("kill_thread"),
            Self::KillProcess => json!("kill_process"),
        }
    }
}

fn compile(
    mismatch: Action,
    matching: Action,
    rules: Vec<Value>,
    arch: TargetArch,
) -> Result<BpfProgram, Malformed> {
    const NAME: &str = "filter";
    let filter = json!({NAME: {
        "mismatch_action": mismatch.json(), "match_action": matching.json(), "filter": rules,
    }});
    let mut compiled = seccompiler::compile_from_json(filter.to_string().as_bytes(), arch)
        .map_err(|error| Malformed(error.to_string()))?;
    compiled.remove(NAME).ok_or_else(|| Malformed("no filter came of it".to_owned()))
}

/// The compiler alone knows the names, and makes the table of them anew each time that it is asked:
/// so for as many at once as there are.
fn unknown_of<'a>(names: &[&'a str], arch: TargetArch) -> BTreeSet<&'a str> {
    let rules = names.iter().map(|name| json!({"syscall": name})).collect();
    match names {
        [] => BTreeSet::new(),
        _ if compile(Action::Allow, Action::Trap, rules, arch).is_ok() => BTreeSet::new(),
        [name] => [*name].into(),
        _ => {
            let (some, others) = names.split_at(names.len() / 2);
            &unknown_of(some, arch) | &unknown_of(others, arch)
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::default::default_profile;

    const X86: TargetArch = TargetArch::x86_64;
    const ALL: CapabilitySet = CapabilitySet::ALL;
    const CONTAINER: CapabilitySet = CapabilitySet::CONTAINER;

    fn read(profile: &Value, capabilities: CapabilitySet) -> Result<Profile, Malformed> {
        Profile::read(profile.to_string().as_bytes(), capabilities)
    }

    fn compiled(profile: &Value) -> Result<usize, Malformed> {
        Ok(read(profile, CONTAINER)?.compile(X86)?.len())
    }

    /// The action of the first rule that names it without condition.
    fn word(profile: &Profile, name: &str) -> Action {
        let mut rules = profile.rules.iter().filter(|rule| rule.conditions.is_empty());
        rules
            .find(|rule| rule.names.iter().any(|known| known == name))
            .map_or(profile.default, |rule| rule.action)
    }

    #[test]
    fn the_default_profile_goes_by_capabilities_and_is_whole_on_every_processor() {
        let (few, all) = (default_profile(CONTAINER), default_profile(ALL));
        for name in ["mount", "unshare", "setns", "bpf", "reboot", "keyctl", "kexec_load"] {
            assert_eq!(word(&few, name), Action::Errno(1), "{name}");
        }
        assert_eq!(word(&few, "clone3"), Action::Errno(38));
        assert_eq!(word(&few, "chroot"), Action::Allow, "one of a container's capabilities");
        for name in ["mount", "unshare", "clone3", "reboot"] {
            assert_eq!(word(&all, name), Action::Allow, "{name}");
        }
        assert_eq!(word(&all, "keyctl"), Action::Errno(1), "to nobody");
        for arch in [TargetArch::x86_64, TargetArch::aarch64, TargetArch::riscv64] {
            assert_eq!(few.compile(arch).unwrap().len(), 2);
            assert_eq!(all.compile(arch).unwrap().len(), 1);
        }
    }

    #[test]
    fn docker_s_conditions_on_capabilities_and_processors_count() {
        let rule = |condition: &str, filter: Value| {
            json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", condition: filter}]})
        };
        let allowed = |profile: &Value, capabilities| {
            word(&read(profile, capabilities).unwrap(), "mount") == Action::Allow
        };
        let admin = rule("includes", json!({"caps": ["CAP_SYS_ADMIN"], "minKernel": "4.8"}));
        assert!(allowed(&admin, ALL) && !allowed(&admin, CONTAINER));
        let others = rule("excludes", json!({"caps": ["CAP_SYS_ADMIN"], "arches": ["s390x"]}));
        assert!(!allowed(&others, ALL) && allowed(&others, CONTAINER));
        assert!(!allowed(&rule("includes", json!({"arches": ["s390x"]})), ALL));
        assert!(!allowed(&rule("includes", json!({"minKernel": "99.0"})), ALL));
        assert!(read(&rule("includes", json!({"minKernel": "new"})), ALL).is_err());
    }

    #[test]
    fn what_can_not_be_followed_to_the_letter_is_refused() {
        let base =
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"]});
        assert_eq!(compiled(&base), Ok(0), "nothing is filtered");
        for (change, said) in [
            (json!({"listenerPath": "/run/x"}), "unknown field"),
            (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "no action"),
            (json!({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}), "no action"),
            (json!({"syscalls": [{"names": ["nosuch"], "action": "SCMP_ACT_KILL"}]}), "nosuch"),
            (
                json!({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL",
                    "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_LIKE"}]}]}),
                "no comparison",
            ),
            (
                json!({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL",
                    "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}),
                "index",
            ),
        ] {
            let mut profile = base.clone();
            profile.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let error = compiled(&profile).unwrap_err().to_string();
            assert!(error.contains(said), "{profile}: {error}");
        }
        // Refused anyhow by what is said of all else.
        let strict = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read", "nosuch"], "action": "SCMP_ACT_ALLOW"},
            {"name": "nosuch", "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]});
        assert_eq!(compiled(&strict), Ok(1));
    }

    #[test]
    fn conditions_on_one_argument_are_alternatives_and_none_narrows_a_rule_without() {
        let eq = |value| json!({"index": 0, "value": value, "op": "SCMP_CMP_EQ"});
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [eq(0), eq(8)]},
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [eq(3)]},
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"}]});
        let profile = read(&profile, CONTAINER).unwrap();
        assert_eq!(profile.rules.len(), 4);
        assert!(profile.rules[..2].iter().all(|rule| rule.conditions.len() == 1));
        let plain = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"}]});
        let plain = read(&plain, CONTAINER).unwrap().compile(X86).unwrap();
        let mut only_read = profile;
        only_read.rules.drain(..2);
        assert_eq!(only_read.compile(X86).unwrap(), plain);
    }
}
