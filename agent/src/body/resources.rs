//! What a template says of resources: limits and requests of its containers, and of the pod.
//!
//! Amounts are in the normal form: a plain decimal number, processors in whole ones, the rest in
//! bytes. `ephemeral-storage` is read apart ([`super::storage`]). Resources that only a Kubernetes node
//! has are limits of nothing here, and passed over, unless the template wants its limits enforced;
//! devices are refused.

use std::collections::BTreeMap;

use everynode_agent_core::Resources;
use everynode_model::{PIDS_LIMIT, REQUIRE_LIMITS, Reason};
use serde::Deserialize;

use super::fields::{Metadata, ResourceRef, Rest, refuse_rest};
use super::{invalid, storage, unsupported};

/// `resources`, as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    limits: BTreeMap<String, String>,
    requests: BTreeMap<String, String>,
    /// Claims, and what Kubernetes may add.
    #[serde(flatten)]
    rest: Rest,
}

/// What is said of all resources of a template at once, by annotations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// It must not run where a limit is not enforced.
    pub(super) required: bool,
    /// How many processes the pod may have.
    pub(super) pids_limit: Option<u64>,
}

impl Said {
    pub(super) fn read(metadata: &Metadata) -> Result<Self, Reason> {
        let required = match metadata.annotation(REQUIRE_LIMITS) {
            None | Some(("false", _)) => false,
            Some(("true", _)) => true,
            Some((other, at)) => return Err(unread(&at, other)),
        };
        let pids_limit =
            metadata.annotation(PIDS_LIMIT).map(|(text, at)| match text.parse::<u64>() {
                Ok(most) if most > 0 => Ok(most),
                _ => Err(unread(&at, text)),
            });
        Ok(Self { required, pids_limit: pids_limit.transpose()? })
    }
}

impl Wanted {
    /// A limit, of those that are more than nothing.
    pub(super) fn limit(&self, name: &str) -> Option<&str> {
        given(self.limits.get(name))
    }

    /// A request, likewise; the limit, where there is none.
    pub(super) fn request(&self, name: &str) -> Option<&str> {
        match self.requests.get(name) {
            Some(text) => given(Some(text)),
            None => self.limit(name),
        }
    }

    /// What of it the kernel is to enforce.
    pub(super) fn resources(&self, path: &str, said: Said) -> Result<Resources, Reason> {
        refuse_rest(&self.rest, path, &[])?;
        let mut resources = Resources::default();
        for (name, text) in &self.limits {
            let path = format!("{path}.limits[{name}]");
            let read = |factor| amount(text, factor).ok_or_else(|| unread(&path, text));
            match name.as_str() {
                "cpu" => resources.cpu_limit = some(read(1000)?),
                "memory" => resources.memory_limit = some(read(1)?),
                storage::NAME => _ = read(1)?,
                _ => match name.strip_prefix("hugepages-") {
                    Some(size) => {
                        let size = page_size(size).ok_or_else(|| unread(&path, name))?;
                        resources.hugepages.insert(size, read(1)?);
                    }
                    None if said.required => return Err(unsupported(&path, "nothing enforces it")),
                    None => {}
                },
            }
        }
        if let Some(text) = self.requests.get("cpu") {
            let path = format!("{path}.requests[cpu]");
            resources.cpu_request = Some(amount(text, 1000).ok_or_else(|| unread(&path, text))?);
        }
        Ok(resources)
    }

    /// An amount for the container's own eyes, in units of a divisor and rounded up, as the kubelet
    /// tells it: of a limit that is not there, what the machine has; of a request, the limit, or none.
    pub(super) fn told(
        &self,
        of: &ResourceRef,
        capacity: &BTreeMap<String, String>,
        path: &str,
    ) -> Result<String, Reason> {
        let unknown = || unsupported(&format!("{path}.resource"), &format!("{:?}", of.resource));
        let (list, name) = of.resource.split_once('.').ok_or_else(unknown)?;
        let limit = self.limit(name);
        let text = match list {
            "limits" => limit.or_else(|| capacity.get(name).map(String::as_str)),
            "requests" => self.requests.get(name).map(String::as_str).or(limit),
            _ => return Err(unknown()),
        };
        let amount = match text {
            Some(text) => nanos(text).ok_or_else(|| unread(path, text))?,
            None => 0,
        };
        let divisor = of.divisor.as_deref().map_or(Some(NANOS), nanos);
        let divisor = divisor.ok_or_else(|| {
            unread(&format!("{path}.divisor"), of.divisor.as_deref().unwrap_or_default())
        })?;
        Ok(amount.div_ceil(if divisor == 0 { NANOS } else { divisor }).to_string())
    }
}

/// Of which the finest amount is one.
const NANOS: u128 = 1_000_000_000;

fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| nanos(text).is_some_and(|amount| amount > 0))
}

/// Billionths of an amount, of the normal form or with the suffix of a fact (`16Ki`).
pub(super) fn nanos(text: &str) -> Option<u128> {
    let (number, factor) = match text.strip_suffix("Ki") {
        Some(number) => (number, NANOS << 10),
        None => (text, NANOS),
    };
    scaled(number, factor)
}

/// A limit of zero is none, as in Kubernetes.
fn some(amount: u64) -> Option<u64> {
    Some(amount).filter(|amount| *amount > 0)
}

/// `factor` times a plain decimal number, rounded up as Kubernetes rounds.
pub(super) fn amount(text: &str, factor: u128) -> Option<u64> {
    scaled(text, factor).map(|amount| u64::try_from(amount).unwrap_or(u64::MAX))
}

fn scaled(text: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    // What the normal form has at most: nanos, of 63 bits.
    let digits = |part: &str, most| {
        let are = part.bytes().all(|byte| byte.is_ascii_digit()) && part.len() <= most;
        if are { part.parse::<u128>().ok() } else { None }
    };
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let parts = (digits(fraction, 9)? * factor).div_ceil(scale);
    Some(digits(whole, 19)? * factor + parts)
}

/// The size of a page, as it is part of a resource's name: `2Mi`.
fn page_size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let power = ["", "Ki", "Mi", "Gi", "Ti"].iter().position(|one| *one == suffix)?;
    number.parse::<u64>().ok()?.checked_mul(1 << (10 * power))
}

fn unread(path: &str, text: &str) -> Reason {
    invalid(path, &format!("{text:?} can't be read"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(resources: Value, required: bool) -> Result<Resources, Reason> {
        let wanted: Wanted = serde_json::from_value(resources).unwrap();
        wanted.resources("spec.resources", Said { required, pids_limit: None })
    }

    #[test]
    fn amounts_are_read_and_rounded_up() {
        let limits = json!({"limits": {
            "cpu": "0.0005", "memory": "1073741824", "hugepages-2Mi": "4194304", "nvidia.com/gpu": "1",
        }, "requests": {"cpu": "1.5", "memory": "5"}});
        let expected = Resources {
            cpu_limit: Some(1),
            cpu_request: Some(1500),
            memory_limit: Some(1 << 30),
            hugepages: [(2 << 20, 4 << 20)].into(),
            pids_limit: None,
        };
        assert_eq!(read(limits, false), Ok(expected));
        assert_eq!(
            read(json!({"limits": {"cpu": "0", "memory": "0"}}), true),
            Ok(Resources::default())
        );
    }

    #[test]
    fn a_container_is_told_what_it_may_use() {
        let resources =
            json!({"limits": {"cpu": "0.25", "memory": "1000"}, "requests": {"cpu": "0.1"}});
        let wanted: Wanted = serde_json::from_value(resources).unwrap();
        let capacity = [("cpu", "2"), ("memory", "16Ki"), ("ephemeral-storage", "4Ki")];
        let capacity = capacity.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let told = |wanted: &Wanted, resource: &str, divisor: &str| {
            let divisor = (!divisor.is_empty()).then(|| divisor.to_owned());
            let of = ResourceRef { container_name: None, resource: resource.into(), divisor };
            wanted.told(&of, &capacity, "ref").map_err(|reason| reason.message)
        };
        for (resource, divisor, limited, free) in [
            ("limits.cpu", "", "1", "2"),
            ("limits.cpu", "0.001", "250", "2000"),
            ("limits.memory", "", "1000", "16384"),
            ("limits.memory", "1024", "1", "16"),
            ("limits.memory", "0", "1000", "16384"),
            ("limits.ephemeral-storage", "1", "4096", "4096"),
            ("requests.cpu", "0.001", "100", "0"),
            ("requests.memory", "1", "1000", "0"),
        ] {
            assert_eq!(told(&wanted, resource, divisor).as_deref(), Ok(limited), "{resource}");
            assert_eq!(told(&Wanted::default(), resource, divisor).as_deref(), Ok(free));
        }
        assert_eq!(told(&wanted, "cpu", ""), Err("ref.resource: \"cpu\"".into()));
        assert_eq!(
            told(&wanted, "limits.cpu", "x"),
            Err("ref.divisor: \"x\" can't be read".into())
        );
    }

    #[test]
    fn what_can_not_be_read_or_enforced_is_refused() {
        for (resources, required, expected) in [
            (
                json!({"limits": {"cpu": "1x"}}),
                false,
                "spec.resources.limits[cpu]: \"1x\" can't be read",
            ),
            (
                json!({"limits": {"memory": ""}}),
                false,
                "spec.resources.limits[memory]: \"\" can't be read",
            ),
            (
                json!({"limits": {"hugepages-2MB": "1"}}),
                false,
                "spec.resources.limits[hugepages-2MB]: \"hugepages-2MB\" can't be read",
            ),
            (
                json!({"limits": {"ephemeral-storage": "1", "x.org/y": "1"}}),
                true,
                "spec.resources.limits[x.org/y]: nothing enforces it",
            ),
            (
                json!({"limits": {"ephemeral-storage": "1x"}}),
                false,
                "spec.resources.limits[ephemeral-storage]: \"1x\" can't be read",
            ),
            (
                json!({"claims": [{"name": "a"}]}),
                false,
                "spec.resources.claims: this agent does not honour it for host processes",
            ),
        ] {
            assert_eq!(read(resources, required).unwrap_err().message, expected);
        }
    }

    #[test]
    fn annotations_speak_for_the_whole_pod() {
        let said = |key: &str, value: &str| {
            let annotations = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            Said::read(&Metadata { annotations, ..Metadata::default() })
        };
        assert_eq!(said("other", "x"), Ok(Said::default()));
        assert!(said(REQUIRE_LIMITS, "true").unwrap().required);
        assert_eq!(said(PIDS_LIMIT, "7").unwrap().pids_limit, Some(7));
        for (key, value) in [(REQUIRE_LIMITS, "yes"), (PIDS_LIMIT, "0"), (PIDS_LIMIT, "-1")] {
            assert_eq!(said(key, value).unwrap_err().code, "InvalidTemplate");
        }
    }
}
