//! The door: one object in; its canonical form out, or everything that is wrong with it.

use everynode_model::{Digest, PodKey};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Map, Value};

use crate::check::Check;
use crate::defaults::fill_in;
use crate::honour::warn_of_ignored;
use crate::kinds::{Role, exact_kind, nearest_kind};
use crate::normal::normal_form;
use crate::selector::selector as selector_of;
use crate::typed::read_typed;
use crate::{ErrorKind, FieldError, FieldPath, Rejected, Warning, validate};

/// The annotation in which `apply` keeps what was last applied; kubectl's own.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The largest canonical object: with its revision beside it, which holds the template once more,
/// it fits into one transaction of the store (1 MiB).
const MAX_OBJECT_BYTES: usize = 480 * 1024;

/// The most errors that are told: more than anyone reads, and they go back over the wire.
const MAX_ERRORS: usize = 100;

/// A DaemonSet that passed the door.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// The canonical object: `apiVersion`, `kind`, `metadata` (name, namespace, labels,
    /// annotations) and `spec`, with defaults filled in. Admitting it again gives the same.
    pub object: Value,
    /// The template's normal form ([`crate::NORMAL_FORM`]): what agents get.
    pub body: Vec<u8>,
    /// The digest of the body: the template's revision.
    pub revision: Digest,
    /// Its namespace and name.
    pub key: PodKey,
    /// What will not work as the writer may think.
    pub warnings: Vec<Warning>,
}

/// Admits a new DaemonSet. What the server sets (uid, generation, status, …) is passed over, so
/// that the output of `get -o yaml` can be admitted again.
///
/// # Errors
/// When it is an object of another kind, or breaks a rule; then all the rules it breaks are told.
pub fn admit(value: &Value) -> Result<Admitted, Rejected> {
    let identity = Identity::of(value);
    let legacy = identity.check(value)?;
    let (object, mut warnings) = prepared(value, &identity, legacy);
    // Before anything that takes time in proportion.
    let mut check = Check::default();
    check_size(&mut check, &object);
    if !check.errors.is_empty() {
        return Err(identity.invalid(check.errors));
    }
    let read = read_typed::<DaemonSet>(&object);
    let mut check = Check::new(read.errors, read.left_out);
    let Some(mut set) = read.value else { return Err(identity.invalid(check.errors)) };
    fill_in(&mut set);
    let selector_given = object.pointer("/spec/selector").is_some_and(Value::is_object);
    validate::check(&mut check, &set, selector_given);
    let object = serde_json::to_value(&set).unwrap_or_default();
    check_size(&mut check, &object);
    let template = object.pointer("/spec/template").unwrap_or(&Value::Null);
    if set.spec.template.spec.as_ref().is_some_and(validate::is_process) {
        warn_of_ignored(&mut check, template);
    }
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let key = PodKey::new(set.metadata.namespace.as_deref().unwrap_or_default(), name);
    match key {
        Ok(key) if check.errors.is_empty() => {
            warnings.append(&mut check.warnings);
            let body = normal_form(template);
            let revision = Digest::of(&body);
            Ok(Admitted { body, revision, key, warnings, object })
        }
        _ => Err(identity.invalid(check.errors)),
    }
}

/// Admits `new` in place of `old` (a canonical object).
///
/// # Errors
/// As [`admit`], and when it changes what may not change: the namespace, the name, the selector.
/// All of it is told together.
pub fn admit_update(old: &Value, new: &Value) -> Result<Admitted, Rejected> {
    let admitted = admit(new);
    let mut errors = match &admitted {
        Ok(admitted) => changes_of_the_immutable(old, &admitted.object),
        // What was not admitted is judged as it was written; of another kind there is no more to say.
        Err(Rejected::Invalid { .. }) => changes_of_the_immutable(old, new),
        Err(Rejected::OtherKind { .. }) => return admitted,
    };
    match admitted {
        Ok(admitted) if errors.is_empty() => Ok(admitted),
        Ok(_) => Err(Identity::of(new).invalid(errors)),
        Err(rejected) => {
            errors.extend_from_slice(rejected.errors());
            Err(Identity::of(new).invalid(errors))
        }
    }
}

fn changes_of_the_immutable(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut immutable = |path: &str, value: Option<&Value>| {
        errors.push(FieldError {
            path: FieldPath::fields(path),
            at: None,
            kind: ErrorKind::Invalid,
            value: value.cloned(),
            detail: "field is immutable".into(),
        });
    };
    for (path, pointer) in
        [("metadata.name", "/metadata/name"), ("metadata.namespace", "/metadata/namespace")]
    {
        let after = new.pointer(pointer);
        // What is not given is no change, but an error of its own or a default.
        if after.is_some_and(|after| Some(after) != old.pointer(pointer)) {
            immutable(path, after);
        }
    }
    let selects = |object: &Value| {
        let selector = object.pointer("/spec/selector")?;
        read_typed::<LabelSelector>(selector).value.map(|read| selector_of(&read))
    };
    if let Some(after) = selects(new)
        && selects(old) != Some(after)
    {
        immutable("spec.selector", new.pointer("/spec/selector"));
    }
    errors
}

/// Whether the spec of `new` differs from that of `old` (both canonical), so that its generation
/// is to be raised. Defaults that `old` was stored without make no difference.
pub fn spec_changed(old: &Value, new: &Value) -> bool {
    let old = admit(old).map_or_else(|_| old.clone(), |admitted| admitted.object);
    old.get("spec") != new.get("spec")
}

/// What an object says it is.
pub(crate) struct Identity<'a> {
    pub(crate) kind: &'a str,
    pub(crate) api_version: &'a str,
    pub(crate) name: &'a str,
}

impl<'a> Identity<'a> {
    pub(crate) fn of(value: &'a Value) -> Self {
        let text = |pointer| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        Self { kind: text("/kind"), api_version: text("/apiVersion"), name: text("/metadata/name") }
    }

    /// Checks that it is a DaemonSet, of `apps/v1` or (`true`) of an API that is no more.
    fn check(&self, value: &Value) -> Result<bool, Rejected> {
        let mut errors: Vec<FieldError> = [("kind", self.kind), ("apiVersion", self.api_version)]
            .into_iter()
            .filter(|(_, text)| text.is_empty())
            .map(|(field, _)| error(field, ErrorKind::Required, None, ""))
            .collect();
        if !errors.is_empty() {
            return Err(self.invalid(errors));
        }
        match (self.kind, self.api_version) {
            ("DaemonSet", "apps/v1") => Ok(false),
            ("DaemonSet", "extensions/v1beta1" | "apps/v1beta1" | "apps/v1beta2") => Ok(true),
            ("DaemonSet", other) => {
                let detail = "supported values: \"apps/v1\"";
                errors.push(error("apiVersion", ErrorKind::Unsupported, Some(other), detail));
                Err(self.invalid(errors))
            }
            _ => Err(self.other_kind(value)),
        }
    }

    /// What to say of an object that is no DaemonSet.
    fn other_kind(&self, value: &Value) -> Rejected {
        let known = exact_kind(self.kind);
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        // A group with a dot is someone's own: such kinds can't all be known.
        if known.is_none() && !group.contains('.') {
            let detail = match nearest_kind(self.kind) {
                Some(meant) => format!("no such kind; did you mean {meant:?}?"),
                None => format!("there is no such kind in {:?}", self.api_version),
            };
            let kind = error("kind", ErrorKind::Unsupported, Some(self.kind), &detail);
            return self.invalid(vec![kind]);
        }
        let spec = |field: &str| value.get("spec").and_then(|spec| spec.get(field)).is_some();
        Rejected::OtherKind {
            kind: self.kind.into(),
            name: self.name.into(),
            workload: known.is_some_and(|known| known.role == Role::Workload),
            daemon_set_like: spec("selector") && spec("template") && !spec("replicas"),
        }
    }

    pub(crate) fn invalid(&self, mut errors: Vec<FieldError>) -> Rejected {
        // Never empty, so that no refusal is without a reason.
        if errors.is_empty() {
            errors.push(error("metadata.name", ErrorKind::Invalid, Some(self.name), ""));
        }
        errors.sort_by(|a, b| (&a.path, &a.at, a.kind).cmp(&(&b.path, &b.at, b.kind)));
        // As in Kubernetes, nothing is told twice.
        errors.dedup_by(|a, b| a.to_string() == b.to_string());
        errors.truncate(MAX_ERRORS);
        Rejected::Invalid { kind: self.kind.into(), name: self.name.into(), errors }
    }
}

fn check_size(check: &mut Check, object: &Value) {
    let size = object.to_string().len();
    if size > MAX_OBJECT_BYTES {
        let rule = format!("is more than the {MAX_OBJECT_BYTES} bytes that one object may have");
        check.invalid(FieldPath::root(), size, rule);
    }
}

/// What the server sets, and what Everynode does not keep.
const SERVER_SET: [&str; 8] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];
const NOT_KEPT: [&str; 3] = ["finalizers", "generateName", "ownerReferences"];

/// The object as `apps/v1`, without what the server sets, and what there is to say about that.
fn prepared(value: &Value, identity: &Identity<'_>, legacy: bool) -> (Value, Vec<Warning>) {
    let mut object = value.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        fields.insert("apiVersion".into(), "apps/v1".into());
    }
    let mut warnings = without_what_is_not_kept(&mut object);
    let mut warn = |path: &str, message: String| {
        warnings.push(Warning { path: FieldPath::fields(path), message });
    };
    let spec = object.get_mut("spec").and_then(Value::as_object_mut);
    if let Some(spec) = spec.filter(|_| legacy) {
        let message =
            format!("{} is no more: read as apps/v1, with its defaults", identity.api_version);
        warn("apiVersion", message);
        let given = spec.get("updateStrategy").is_some_and(|strategy| {
            strategy.get("type").is_some_and(|kind| !kind.is_null() && kind != "")
        });
        if identity.api_version == "extensions/v1beta1" && !given {
            let message = "no type given: RollingUpdate, as in apps/v1; in extensions/v1beta1 that \
                           was OnDelete";
            warn("spec.updateStrategy", message.into());
        }
        spec.remove("templateGeneration");
        if let Some(labels) = labels_for_selector(spec) {
            warn("spec.selector", "not given: the labels of the template are taken".into());
            spec.insert("selector".into(), serde_json::json!({"matchLabels": labels}));
        }
    }
    (object, warnings)
}

/// Takes from the metadata what the server sets and what Everynode does not keep, and says of the
/// latter that it is gone.
pub(crate) fn without_what_is_not_kept(object: &mut Value) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        SERVER_SET.iter().for_each(|field| drop(metadata.remove(*field)));
        for field in NOT_KEPT {
            if metadata.remove(field).is_some_and(|value| !value.is_null()) {
                let path = FieldPath::fields(&format!("metadata.{field}"));
                warnings.push(Warning { path, message: "not kept".into() });
            }
        }
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        let emptied = annotations.is_some_and(|annotations| {
            annotations.remove("deprecated.daemonset.template.generation").is_some()
                && annotations.is_empty()
        });
        if emptied {
            metadata.remove("annotations");
        }
    }
    warnings
}

/// The labels that stood for a missing selector before `apps/v1`.
fn labels_for_selector(spec: &Map<String, Value>) -> Option<Value> {
    if spec.get("selector").is_some_and(|selector| !selector.is_null()) {
        return None;
    }
    let labels = spec.get("template")?.pointer("/metadata/labels")?;
    labels.as_object().filter(|labels| !labels.is_empty())?;
    Some(labels.clone())
}

fn error(path: &str, kind: ErrorKind, value: Option<&str>, detail: &str) -> FieldError {
    let value = value.map(Value::from);
    FieldError { path: FieldPath::fields(path), at: None, kind, value, detail: detail.into() }
}
