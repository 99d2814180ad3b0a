//! The content of ConfigMaps and Secrets as a part of a revision.
//!
//! ```text
//!   template ──normal form──┐
//!                           ├──▶ body ──SHA-256──▶ revision
//!   what it reads of each ──┘      │
//!   object, as a blob              └─ "config": [{"kind", "name", "blob": SHA-256 of the blob}]
//! ```
//!
//! A template that reads nothing has the body and the revision it always had. One that does names in
//! its body the digest of what it reads: only the keys that it names, so that a change of another key
//! restarts nobody. An object that is not there is named without a blob.
//!
//! A blob is 32 bytes of salt and then the content, as sorted JSON: `data` with texts and `binaryData`
//! with base64, where a Secret's values are. The salt is a digest under a key that no agent and no
//! reader has, so that nobody can try values against a digest; and equal content has an equal digest.

use std::collections::BTreeMap;

use everynode_model::{Digest, ObjectKey, ObjectKind};
use serde_json::{Map, Value, json};

use crate::FieldPath;
use crate::check::Check;
use crate::normal::write_sorted;
use crate::uses::{Use, Uses};

/// The annotation that says what becomes of a changed object.
const ON_CHANGE: &str = "config.everynode.dev/on-change";

/// Checks the annotation [`ON_CHANGE`]: `rollout` is what happens without it, and all there is so far.
pub(crate) fn check(
    check: &mut Check,
    path: &FieldPath,
    annotations: Option<&BTreeMap<String, String>>,
) {
    let told = annotations.and_then(|all| all.get(ON_CHANGE)).map(String::as_str);
    let rule = match told {
        None | Some("rollout") => return,
        Some("live" | "reload") => {
            "files in a running pod are not changed yet, and variables of a running program \
             can't be changed: \"rollout\" replaces the pods, by steps"
        }
        Some(_) => "must be \"rollout\"",
    };
    check.invalid(path.key(ON_CHANGE), told.unwrap_or_default(), rule);
}

/// What blobs are salted with: made once for each cluster.
#[derive(Clone)]
pub struct BlobKey(pub [u8; 32]);

/// A revision with the content that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// What agents get.
    pub body: Vec<u8>,
    /// Its digest.
    pub revision: Digest,
    /// The content that it names.
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    /// What pods can't start without and is not there, one line each, in the kubelet's words.
    pub missing: Vec<String>,
}

/// The revision of `template_body` (a template's normal form) that reads what `uses` says of
/// `objects` (canonical objects; what is not in it is not there).
pub fn compose(
    template_body: &[u8],
    uses: &Uses,
    objects: &BTreeMap<ObjectKey, Value>,
    key: &BlobKey,
) -> Composed {
    let mut composed = Composed {
        body: template_body.to_vec(),
        revision: Digest::of(template_body),
        blobs: BTreeMap::new(),
        missing: Vec::new(),
    };
    if uses.is_empty() {
        return composed;
    }
    let mut config = Vec::new();
    for (at, of) in uses {
        let mut entry = json!({"kind": at.kind.as_str(), "name": at.name});
        let object = objects.get(at);
        composed.missing.extend(missing(at, of, object));
        if let Some(object) = object {
            let blob = blob(&content(at.kind, of, object), key);
            let digest = Digest::of(&blob);
            entry["blob"] = digest.to_string().into();
            composed.blobs.insert(digest, blob);
        }
        config.push(entry);
    }
    let mut body: Value = serde_json::from_slice(template_body).unwrap_or_default();
    body["config"] = Value::Array(config);
    composed.body = sorted(&body);
    composed.revision = Digest::of(&composed.body);
    composed
}

/// The template's normal form in a body.
pub fn template_of(body: &[u8]) -> Vec<u8> {
    let mut read: Value = serde_json::from_slice(body).unwrap_or_default();
    let config = read.as_object_mut().and_then(|fields| fields.remove("config"));
    if config.is_some() { sorted(&read) } else { body.to_vec() }
}

/// By object, the digest of the content that a body names; `None` where it was not there.
pub fn named_content(body: &[u8], namespace: &str) -> BTreeMap<ObjectKey, Option<Digest>> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let entries = body.get("config").and_then(Value::as_array).into_iter().flatten();
    let named = entries.filter_map(|entry| {
        let kind = ObjectKind::parse(entry.get("kind")?.as_str()?)?;
        let name = entry.get("name")?.as_str()?.to_owned();
        let blob = entry.get("blob").and_then(Value::as_str).and_then(|text| text.parse().ok());
        Some((ObjectKey { kind, namespace: namespace.to_owned(), name }, blob))
    });
    named.collect()
}

fn missing(at: &ObjectKey, of: &Use, object: Option<&Value>) -> Vec<String> {
    let Some(object) = object else {
        let kind = at.kind.as_str().to_lowercase();
        return of.needed.then(|| format!("{kind} {:?} not found", at.name)).into_iter().collect();
    };
    let has =
        |key: &str| ["data", "binaryData"].iter().any(|field| object[*field].get(key).is_some());
    let needed = of.keys.iter().filter(|(key, needed)| **needed && !has(key));
    needed.map(|(key, _)| format!("couldn't find key {key} in {at}")).collect()
}

/// What is read of an object.
fn content(kind: ObjectKind, of: &Use, object: &Value) -> Value {
    let mut content = Map::new();
    let values = |field: &str| object.get(field).and_then(Value::as_object).into_iter().flatten();
    for field in ["data", "binaryData"] {
        let read = values(field).filter(|(key, _)| of.whole || of.keys.contains_key(*key));
        let read: Map<String, Value> =
            read.map(|(key, value)| (key.clone(), value.clone())).collect();
        if !read.is_empty() {
            let field = if kind == ObjectKind::Secret { "binaryData" } else { field };
            content.insert(field.to_owned(), Value::Object(read));
        }
    }
    Value::Object(content)
}

fn blob(content: &Value, key: &BlobKey) -> Vec<u8> {
    let content = sorted(content);
    let salt = Digest::of_parts([b"everynode blob".as_slice(), key.0.as_slice(), &content]);
    [salt.as_bytes().as_slice(), &content].concat()
}

fn sorted(value: &Value) -> Vec<u8> {
    let mut out = String::new();
    write_sorted(value, &mut out);
    out.into_bytes()
}

impl std::fmt::Debug for BlobKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlobKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{normal_form, uses};

    const KEY: BlobKey = BlobKey([7; 32]);

    fn template(env: Value) -> Value {
        json!({"spec": {"containers": [{"name": "c", "command": ["c"], "env": env}]}})
    }

    fn of_key(kind: &str, name: &str, key: &str, optional: bool) -> Value {
        let from = json!({"name": name, "key": key, "optional": optional});
        json!([{"name": "A", "valueFrom": {kind: from}}])
    }

    fn at(kind: ObjectKind, name: &str) -> ObjectKey {
        ObjectKey { kind, namespace: "default".into(), name: name.into() }
    }

    fn composed(template: &Value, objects: &[(ObjectKey, Value)]) -> Composed {
        let objects = objects.iter().cloned().collect();
        compose(&normal_form(template), &uses(template, "default"), &objects, &KEY)
    }

    #[test]
    fn a_template_that_reads_nothing_is_what_it_always_was() {
        let template = template(json!([{"name": "A", "value": "1"}]));
        let composed = composed(&template, &[(at(ObjectKind::ConfigMap, "x"), json!({}))]);
        assert_eq!(composed.body, normal_form(&template));
        assert_eq!(composed.revision, Digest::of(&normal_form(&template)));
        assert!(composed.blobs.is_empty() && composed.missing.is_empty());
    }

    #[test]
    fn only_what_is_read_makes_another_revision() {
        let template = template(of_key("configMapKeyRef", "x", "a", false));
        let with = |data: Value| {
            composed(&template, &[(at(ObjectKind::ConfigMap, "x"), json!({"data": data}))])
        };
        let first = with(json!({"a": "1", "b": "1"}));
        assert_eq!(first, with(json!({"a": "1", "b": "2", "c": "3"})));
        let second = with(json!({"a": "2", "b": "1"}));
        assert_ne!(first.revision, second.revision);
        assert_eq!(template_of(&second.body), normal_form(&template));
        assert_eq!(template_of(&normal_form(&template)), normal_form(&template));
        let named = named_content(&first.body, "default");
        assert_eq!(
            named.into_values().flatten().collect::<Vec<_>>(),
            [*first.blobs.keys().next().unwrap()]
        );
        let content = first.blobs.values().next().unwrap();
        assert_eq!(&content[32..], br#"{"data":{"a":"1"}}"#);
    }

    #[test]
    fn what_is_missing_is_told_in_the_kubelets_words() {
        let missing = |env: Value, objects: &[(ObjectKey, Value)]| {
            composed(&template(env), objects).missing.join("; ")
        };
        let map = [(at(ObjectKind::ConfigMap, "x"), json!({"data": {"b": "1"}}))];
        let needed = of_key("configMapKeyRef", "x", "a", false);
        assert_eq!(missing(needed.clone(), &[]), "configmap \"x\" not found");
        assert_eq!(missing(needed, &map), "couldn't find key a in ConfigMap default/x");
        let secret = of_key("secretKeyRef", "x", "a", false);
        assert_eq!(missing(secret, &map), "secret \"x\" not found");
        for optional in
            [of_key("configMapKeyRef", "x", "a", true), of_key("secretKeyRef", "y", "a", true)]
        {
            assert_eq!(missing(optional, &map), "");
        }
    }

    #[test]
    fn nobody_can_try_values_against_a_digest() {
        let template = template(of_key("secretKeyRef", "x", "a", false));
        let object = json!({"data": {"a": "aHVudGVyMg=="}});
        let objects = [(at(ObjectKind::Secret, "x"), object)].into();
        let uses = uses(&template, "default");
        let under =
            |key: u8| compose(&normal_form(&template), &uses, &objects, &BlobKey([key; 32]));
        assert_ne!(under(1).revision, under(2).revision);
        assert_eq!(under(1), under(1));
        let content = under(1).blobs.into_values().next().unwrap();
        assert_eq!(&content[32..], br#"{"binaryData":{"a":"aHVudGVyMg=="}}"#);
        assert_eq!(format!("{KEY:?}"), "BlobKey(…)");
    }
}
