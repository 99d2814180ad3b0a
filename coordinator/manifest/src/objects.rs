//! The door for ConfigMaps, Secrets and Namespaces, with Kubernetes' defaults and rules.
//!
//! A Secret's values are in its canonical object and nowhere else: no error and no warning shows
//! one. Whether a namespace is there is not known here.

use std::fmt;

use everynode_model::{Labels, ObjectKey, ObjectKind};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::admit::{Identity, LAST_APPLIED, without_what_is_not_kept};
use crate::check::Check;
use crate::typed::read_typed;
use crate::validate::{check_metadata, check_named, syntax};
use crate::{ErrorKind, FieldError, FieldPath, Rejected, Warning};

/// The most bytes of values in one ConfigMap or Secret, as in Kubernetes.
const MAX_DATA: usize = 1024 * 1024;

/// The largest canonical object (a Secret's values count in base64): with its record it fits into
/// one transaction of the store (1 MiB).
const MAX_OBJECT_BYTES: usize = 960 * 1024;

/// What stands in errors for a Secret's value; Kubernetes' words.
const REDACTED: &str = "<secret contents redacted>";

/// Why a change of what was declared immutable is refused; Kubernetes' words.
const SEALED: &str = "field is immutable when `immutable` is set";

/// The label by which Kubernetes lets a namespace be selected by its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A ConfigMap, Secret or Namespace that passed the door.
#[derive(Clone, PartialEq)]
pub struct AdmittedObject {
    /// Its kind, namespace and name.
    pub key: ObjectKey,
    /// Its labels.
    pub labels: Labels,
    /// The canonical object; admitting it again gives the same. A Secret's `stringData` is part of
    /// its `data`.
    pub object: Value,
    /// What will not work as the writer may think.
    pub warnings: Vec<Warning>,
}

/// Admits a new ConfigMap, Secret or Namespace (`v1`). What the server sets is passed over.
///
/// # Errors
/// When it is an object of another kind, or breaks a rule; then all the rules it breaks are told.
pub fn admit_object(value: &Value) -> Result<AdmittedObject, Rejected> {
    let identity = Identity::of(value);
    let kind = kind_of(&identity)?;
    let mut object = value.clone();
    let warnings = without_what_is_not_kept(&mut object);
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    let admitted = match kind {
        ObjectKind::ConfigMap => checked(&object, config_map, |map| &map.metadata),
        ObjectKind::Secret => checked(&object, secret, |secret| &secret.metadata),
        ObjectKind::Namespace => checked(&object, namespace, |namespace| &namespace.metadata),
    };
    let (object, metadata) = admitted.map_err(|mut errors| {
        if kind == ObjectKind::Secret {
            errors.iter_mut().for_each(redact);
        }
        identity.invalid(errors)
    })?;
    let namespace = metadata.namespace.unwrap_or_default();
    let key = ObjectKey { kind, namespace, name: metadata.name.unwrap_or_default() };
    Ok(AdmittedObject { key, labels: metadata.labels.unwrap_or_default(), object, warnings })
}

/// Admits `new` in place of `old` (a canonical object of the same kind, namespace and name).
///
/// # Errors
/// As [`admit_object`], and when it changes a Secret's type or what was declared immutable.
pub fn admit_object_update(old: &Value, new: &Value) -> Result<AdmittedObject, Rejected> {
    let admitted = admit_object(new)?;
    let new = &admitted.object;
    let mut check = Check::default();
    if old.get("type") != new.get("type") {
        let shown = new.get("type").cloned().unwrap_or_default();
        check.invalid(FieldPath::fields("type"), shown, "field is immutable");
    }
    if old.get("immutable") == Some(&Value::Bool(true)) {
        for field in ["immutable", "data", "binaryData"] {
            if old.get(field) != new.get(field) {
                check.forbidden(FieldPath::fields(field), SEALED);
            }
        }
    }
    if check.errors.is_empty() {
        Ok(admitted)
    } else {
        Err(Identity::of(new).invalid(check.errors))
    }
}

/// Takes a Secret's values out of it: each is told by its length, in words that no base64 is, so that
/// what is shown can't be put back by mistake.
pub fn redact_secret(secret: &mut Value) {
    use base64::Engine as _;
    let values = secret.get_mut("data").and_then(Value::as_object_mut);
    for value in values.into_iter().flat_map(serde_json::Map::values_mut) {
        let decoded = base64::prelude::BASE64_STANDARD.decode(value.as_str().unwrap_or_default());
        *value = format!("<redacted: {} bytes>", decoded.map_or(0, |bytes| bytes.len())).into();
    }
    // The file that was applied has them, too.
    let annotations = secret.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    if let Some(annotations) = annotations {
        annotations.remove(LAST_APPLIED);
    }
}

fn kind_of(identity: &Identity<'_>) -> Result<ObjectKind, Rejected> {
    let Some(kind) = ObjectKind::parse(identity.kind) else {
        return Err(Rejected::OtherKind {
            kind: identity.kind.into(),
            name: identity.name.into(),
            workload: false,
            daemon_set_like: false,
        });
    };
    let mut check = Check::default();
    check.one_of(FieldPath::fields("apiVersion"), identity.api_version, &["v1"]);
    if check.errors.is_empty() { Ok(kind) } else { Err(identity.invalid(check.errors)) }
}

/// Reads `object`, lets `judge` fill in defaults and check, and gives it back as JSON.
fn checked<T: DeserializeOwned + Serialize>(
    object: &Value,
    judge: impl Fn(&mut Check, &mut T),
    metadata: impl Fn(&T) -> &ObjectMeta,
) -> Result<(Value, ObjectMeta), Vec<FieldError>> {
    let read = read_typed::<T>(object);
    let mut check = Check::new(read.errors, read.left_out);
    let Some(mut typed) = read.value else { return Err(check.errors) };
    judge(&mut check, &mut typed);
    let object = serde_json::to_value(&typed).unwrap_or_default();
    let size = object.to_string().len();
    if size > MAX_OBJECT_BYTES && check.errors.is_empty() {
        let rule = format!("is more than the {MAX_OBJECT_BYTES} bytes that one object may have");
        check.invalid(FieldPath::root(), size, rule);
    }
    if check.errors.is_empty() { Ok((object, metadata(&typed).clone())) } else { Err(check.errors) }
}

fn config_map(check: &mut Check, map: &mut ConfigMap) {
    in_a_namespace(&mut map.metadata);
    check_metadata(check, &map.metadata);
    let (data, binary) = (FieldPath::fields("data"), FieldPath::fields("binaryData"));
    let mut size = 0;
    for (key, value) in map.data.iter().flatten() {
        size += value.len();
        check_key(check, &data, key);
        if map.binary_data.as_ref().is_some_and(|other| other.contains_key(key)) {
            check.invalid(data.key(key), key.as_str(), "duplicate of key present in binaryData");
            check.invalid(binary.key(key), key.as_str(), "duplicate of key present in data");
        }
    }
    for (key, value) in map.binary_data.iter().flatten() {
        size += value.0.len();
        check_key(check, &binary, key);
    }
    if size > MAX_DATA {
        check.too_long(FieldPath::root(), MAX_DATA);
    }
}

fn secret(check: &mut Check, secret: &mut Secret) {
    in_a_namespace(&mut secret.metadata);
    check_metadata(check, &secret.metadata);
    if let Some(texts) = secret.string_data.take().filter(|texts| !texts.is_empty()) {
        let bytes = texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes())));
        secret.data.get_or_insert_default().extend(bytes);
    }
    let path = FieldPath::fields("data");
    let mut size = 0;
    for (key, value) in secret.data.iter().flatten() {
        size += value.0.len();
        check_key(check, &path, key);
    }
    if size > MAX_DATA {
        check.too_long(path, MAX_DATA);
    }
    if secret.type_.as_deref().unwrap_or_default().is_empty() {
        secret.type_ = Some("Opaque".into());
    }
    check_type(check, secret);
}

/// What a Secret of a known type must have.
fn check_type(check: &mut Check, secret: &Secret) {
    let path = FieldPath::fields("data");
    let value = |key: &str| secret.data.as_ref()?.get(key).map(|value| value.0.as_slice());
    let required = |check: &mut Check, key: &str| check.required(path.key(key), "");
    let mut json = |key: &str| match value(key) {
        None => required(check, key),
        // The parser's message may quote what it found.
        Some(text) if serde_json::from_slice::<serde_json::Map<String, Value>>(text).is_err() => {
            check.invalid(path.key(key), REDACTED, "must be a JSON object");
        }
        Some(_) => {}
    };
    match secret.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            let annotations = secret.metadata.annotations.as_ref();
            if annotations.and_then(|all| all.get(ACCOUNT)).is_none_or(String::is_empty) {
                check.required(FieldPath::fields("metadata.annotations").key(ACCOUNT), "");
            }
        }
        "kubernetes.io/dockercfg" => json(".dockercfg"),
        "kubernetes.io/dockerconfigjson" => json(".dockerconfigjson"),
        "kubernetes.io/basic-auth"
            if value("username").is_none() && value("password").is_none() =>
        {
            required(check, "username");
            required(check, "password");
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(<[u8]>::is_empty) => {
            required(check, "ssh-privatekey");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if value(key).is_none() {
                    required(check, key);
                }
            }
        }
        _ => {}
    }
}

fn namespace(check: &mut Check, namespace: &mut Namespace) {
    // Finalizers are all that its spec has, and nothing here would ever take one away.
    namespace.spec = None;
    let metadata = &mut namespace.metadata;
    if metadata.namespace.take().is_some_and(|given| !given.is_empty()) {
        check.forbidden(FieldPath::fields("metadata.namespace"), "not allowed on this type");
    }
    check_named(check, metadata, syntax::dns_label);
    if let Some(name) = metadata.name.clone() {
        metadata.labels.get_or_insert_default().insert(NAME_LABEL.into(), name);
    }
}

fn check_key(check: &mut Check, path: &FieldPath, key: &str) {
    check.each(&path.key(key), key, syntax::config_key(key));
}

fn in_a_namespace(metadata: &mut ObjectMeta) {
    if metadata.namespace.as_deref().unwrap_or_default().is_empty() {
        metadata.namespace = Some("default".into());
    }
}

/// Takes a Secret's value out of an error: one of a wrong type is shown, and its reader quotes it.
fn redact(error: &mut FieldError) {
    let path = error.place().to_string();
    let in_data = path.starts_with("data") || path.starts_with("stringData");
    // The annotation in which `apply` keeps the file has the values, too.
    let in_annotations = path.starts_with("metadata.annotations");
    if error.kind == ErrorKind::Type && (in_data || in_annotations) {
        error.value = Some(REDACTED.into());
        error.detail = match path.starts_with("data") {
            true => "must be text in base64".into(),
            false => "must be text".into(),
        };
    }
}

impl fmt::Debug for AdmittedObject {
    /// Without the object: it may be a Secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, labels, warnings, object: _ } = self;
        let mut shown = f.debug_struct("AdmittedObject");
        shown.field("key", key).field("labels", labels);
        shown.field("warnings", warnings).finish_non_exhaustive()
    }
}
