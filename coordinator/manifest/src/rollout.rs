//! Annotations under `rollout.everynode.dev/`: how carefully a changed template is rolled out.
//!
//! | annotation | value |
//! | --- | --- |
//! | `canary` | how many nodes get a revision first: `"2"`, or `"10%"` of the desired ones, rounded up |
//! | `canary-selector` | which ones, by their labels, as in `get -l`: `role=canary` |
//! | `canary-wait` | how long their pods must be available before the others follow (`"10m"`), or `manual` |
//! | `canary-approved` | the hash of the revision that may go on; `rollout resume` writes it |
//! | `partition` | so many nodes (`"3"`, `"50%"`) keep what they have |
//! | `paused` | `"true"`: no step is taken |
//! | `progress-deadline-seconds` | how long a rollout may make no progress before it has failed: longer than `minReadySeconds` |
//! | `on-failure` | `hold`, or `rollback` to the last revision that was rolled out to the end |
//!
//! A key that is not among them is refused: a misspelt `cannary` would roll out to everybody.

use std::collections::BTreeMap;
use std::time::Duration;

use everynode_model::{Canary, CanaryWait, IntOrPercent, OnFailure, RolloutPolicy, Selector};

use crate::FieldPath;
use crate::check::Check;

/// What all of them begin with.
pub const ROLLOUT_PREFIX: &str = "rollout.everynode.dev/";

const KEYS: [&str; 8] = [
    "canary",
    "canary-selector",
    "canary-wait",
    "canary-approved",
    "partition",
    "paused",
    "progress-deadline-seconds",
    "on-failure",
];

/// After how long a rollout that is to be rolled back has failed, if nothing else is said:
/// Kubernetes' default for a Deployment.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(600);

/// Checks the annotations of a DaemonSet; `on_delete` where nothing is rolled out by steps,
/// `min_ready` after how many seconds a pod is available: sooner no rollout can be seen to succeed.
pub(crate) fn check(
    check: &mut Check,
    path: &FieldPath,
    annotations: Option<&BTreeMap<String, String>>,
    on_delete: bool,
    min_ready: Option<i32>,
) {
    let read = Read::of(annotations);
    let min_ready = u64::try_from(min_ready.unwrap_or_default()).unwrap_or_default();
    let short = |deadline: &Duration| deadline.as_secs() <= min_ready;
    if let Some(deadline) = read.policy.progress_deadline.filter(short) {
        let key = format!("{ROLLOUT_PREFIX}progress-deadline-seconds");
        let seconds = deadline.as_secs().to_string();
        check.invalid(path.key(&key), seconds, "must be greater than minReadySeconds");
    }
    for (key, message) in read.errors {
        let value = annotations.and_then(|all| all.get(&key)).cloned().unwrap_or_default();
        check.invalid(path.key(&key), value, message);
    }
    if on_delete {
        let stray =
            ["canary", "canary-selector", "partition", "progress-deadline-seconds", "on-failure"];
        for key in stray.map(|name| format!("{ROLLOUT_PREFIX}{name}")) {
            if annotations.is_some_and(|all| all.contains_key(&key)) {
                let rule = "may not be used when spec.updateStrategy.type is OnDelete";
                check.forbidden(path.key(&key), rule);
            }
        }
    }
}

/// What the annotations ask for; what can't be read counts as not there.
pub(crate) fn policy(annotations: Option<&BTreeMap<String, String>>) -> RolloutPolicy {
    Read::of(annotations).policy
}

#[derive(Default)]
struct Read {
    policy: RolloutPolicy,
    /// By annotation, what is wrong with it.
    errors: Vec<(String, String)>,
}

impl Read {
    fn of(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let mut read = Self::default();
        let of_ours = |(key, value): (&String, &String)| {
            let name = key.strip_prefix(ROLLOUT_PREFIX)?;
            Some((name.to_owned(), value.trim().to_owned()))
        };
        let ours: BTreeMap<String, String> =
            annotations.into_iter().flatten().filter_map(of_ours).collect();
        for name in ours.keys().filter(|name| !KEYS.contains(&name.as_str())) {
            read.wrong(name, format!("no such rollout setting; there are {}", KEYS.join(", ")));
        }
        let text = |name: &str| ours.get(name).map(String::as_str);
        read.policy.paused = read.parsed("paused", text("paused"), boolean).unwrap_or(false);
        read.policy.partition = read.parsed("partition", text("partition"), share);
        read.read_canary(&text);
        let deadline = "progress-deadline-seconds";
        read.policy.progress_deadline = read.parsed(deadline, text(deadline), seconds);
        let failure = read.parsed("on-failure", text("on-failure"), on_failure);
        read.policy.on_failure = failure.unwrap_or_default();
        if read.policy.on_failure == OnFailure::Rollback {
            read.policy.progress_deadline.get_or_insert(DEFAULT_DEADLINE);
        }
        read
    }

    fn read_canary<'a>(&mut self, text: &impl Fn(&str) -> Option<&'a str>) {
        let nodes = self.parsed("canary", text("canary"), |text| match share(text)? {
            nodes if nodes.is_zero() => Err("must be at least 1, or be left out".into()),
            nodes => Ok(nodes),
        });
        let selector =
            self.parsed("canary-selector", text("canary-selector"), |text| match text.is_empty() {
                true => Err("must select something: a label selector such as role=canary".into()),
                false => text.parse::<Selector>().map_err(|error| error.to_string()),
            });
        let wait = self.parsed("canary-wait", text("canary-wait"), canary_wait);
        let there = text("canary").is_some() || text("canary-selector").is_some();
        // An approval may stay behind when the canary is taken away; a wait for nothing is a mistake.
        if !there && text("canary-wait").is_some() {
            self.wrong("canary-wait", "wants canary or canary-selector beside it".into());
        }
        let approved = text("canary-approved").map(str::to_owned);
        let wait = wait.unwrap_or(CanaryWait::For(Duration::ZERO));
        let canary = Canary { selector, nodes, wait, approved };
        self.policy.canary = there.then(|| Box::new(canary));
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        text: Option<&str>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(text?).map_err(|message| self.wrong(name, message)).ok()
    }

    fn wrong(&mut self, name: &str, message: String) {
        self.errors.push((format!("{ROLLOUT_PREFIX}{name}"), message));
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be \"true\" or \"false\"".into())
}

fn share(text: &str) -> Result<IntOrPercent, String> {
    match IntOrPercent::parse(text) {
        Ok(IntOrPercent::Percent(101..)) => Err("must not be greater than 100%".into()),
        Ok(share) => Ok(share),
        Err(error) => Err(error.to_string()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(0) | Err(_) => Err("must be a whole number of seconds, at least 1".into()),
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
    }
}

fn on_failure(text: &str) -> Result<OnFailure, String> {
    match text {
        "hold" => Ok(OnFailure::Hold),
        "rollback" => Ok(OnFailure::Rollback),
        _ => Err("must be \"hold\" or \"rollback\"".into()),
    }
}

fn canary_wait(text: &str) -> Result<CanaryWait, String> {
    /// Longer is a forgotten rollout.
    const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);
    if text == "manual" {
        return Ok(CanaryWait::Manual);
    }
    match humantime::parse_duration(text) {
        Ok(time) if time <= LONGEST => Ok(CanaryWait::For(time)),
        Ok(_) => Err("must not be longer than 30 days".into()),
        Err(_) => Err("must be \"manual\" or a time such as \"10m\" or \"1h30m\"".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Read {
        let pairs = pairs.iter().map(|(name, value)| {
            let prefix = if name.contains('/') { "" } else { ROLLOUT_PREFIX };
            (format!("{prefix}{name}"), (*value).to_owned())
        });
        Read::of(Some(&pairs.collect()))
    }

    #[test]
    fn nothing_asked_adds_nothing() {
        assert_eq!(read(&[("example.com/canary", "x")]).policy, RolloutPolicy::default());
        assert_eq!(policy(None), RolloutPolicy::default());
    }

    #[test]
    fn each_setting_is_read() {
        let read = read(&[
            ("canary", "10%"),
            ("canary-selector", "role=canary,site in (a,b)"),
            ("canary-wait", "1h30m"),
            ("canary-approved", "0123456789"),
            ("partition", "3"),
            ("paused", "true"),
            ("progress-deadline-seconds", "90"),
            ("on-failure", "rollback"),
        ]);
        assert_eq!(read.errors, []);
        let canary = Canary {
            selector: Some("role=canary,site in (a,b)".parse().unwrap()),
            nodes: Some(IntOrPercent::Percent(10)),
            wait: CanaryWait::For(Duration::from_secs(5_400)),
            approved: Some("0123456789".into()),
        };
        let policy = RolloutPolicy {
            paused: true,
            canary: Some(Box::new(canary)),
            partition: Some(IntOrPercent::Int(3)),
            progress_deadline: Some(Duration::from_secs(90)),
            on_failure: OnFailure::Rollback,
        };
        assert_eq!(read.policy, policy);
    }

    #[test]
    fn a_rollback_has_a_deadline() {
        let read = read(&[("on-failure", "rollback")]);
        assert_eq!(read.policy.progress_deadline, Some(DEFAULT_DEADLINE));
    }

    #[test]
    fn what_can_not_be_meant_is_refused() {
        for (name, value, what) in [
            ("cannary", "1", "no such rollout setting"),
            ("canary", "0", "at least 1"),
            ("canary", "0%", "at least 1"),
            ("canary", "-1", "must be a number or a percentage"),
            ("canary", "101%", "100%"),
            ("canary-selector", "", "select something"),
            ("canary-selector", "a=b=c", ""),
            ("canary-wait", "1h", "beside it"),
            ("partition", "half", "must be a number"),
            ("paused", "yes", "\"true\" or \"false\""),
            ("progress-deadline-seconds", "0", "at least 1"),
            ("progress-deadline-seconds", "10m", "whole number"),
            ("on-failure", "undo", "\"hold\" or \"rollback\""),
        ] {
            let errors = read(&[(name, value)]).errors;
            assert!(
                errors.iter().any(|(_, told)| told.contains(what)),
                "{name}={value}: {errors:?}"
            );
        }
        let long = read(&[("canary", "1"), ("canary-wait", "soon")]).errors;
        assert!(long[0].1.contains("such as \"10m\""), "{long:?}");
    }
}
