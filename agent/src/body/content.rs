//! What a template reads of ConfigMaps and Secrets: named in the body by digests, and held beside it.
//!
//! A blob is 32 bytes of salt and then JSON: `data` with texts, `binaryData` with base64. How it is
//! made is the coordinator's (`coordinator/manifest`); its digest is all that must agree.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use everynode_model::{Digest, ObjectKind, Reason};
use serde::Deserialize;

/// The bytes that a blob begins with, which keep its digest from being guessed.
const SALT: usize = 32;

/// Blobs, by digest: those that a body names.
pub type Contents = BTreeMap<Digest, Vec<u8>>;

/// One object that a body names.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    kind: String,
    name: String,
    /// Absent where the object was not there.
    blob: Option<String>,
}

/// What a template reads, by kind and name.
#[derive(Debug, Default)]
pub(super) struct Config(BTreeMap<(ObjectKind, String), Content>);

/// What is read of one object.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Content {
    data: BTreeMap<String, String>,
    binary_data: BTreeMap<String, String>,
}

/// The digests of the blobs that a body names; none of one that can't be read, which is refused
/// elsewhere.
pub fn blobs_of(content: &[u8]) -> Vec<Digest> {
    #[derive(Default, Deserialize)]
    struct Body {
        #[serde(default)]
        config: Vec<Named>,
    }
    let body: Body = serde_json::from_slice(content).unwrap_or_default();
    body.config.iter().filter_map(|named| named.blob.as_ref()?.parse().ok()).collect()
}

impl Config {
    /// What `named` is, of these blobs.
    pub(super) fn read(named: &[Named], contents: &Contents) -> Result<Self, Reason> {
        let mut config = Self::default();
        for Named { kind, name, blob } in named {
            let (Some(kind), Some(blob)) = (ObjectKind::parse(kind), blob) else { continue };
            let digest = blob.parse::<Digest>().ok();
            let bytes = digest.and_then(|digest| contents.get(&digest)).ok_or_else(|| {
                Reason::new("BodyMissing", format!("the content of {kind} {name} is not here"))
            })?;
            // What stands in it may be secret: only where it is wrong is told.
            let content = serde_json::from_slice(bytes.get(SALT..).unwrap_or_default());
            let content = content.map_err(|_| {
                Reason::new("InvalidTemplate", format!("the content of {kind} {name} is damaged"))
            })?;
            config.0.insert((kind, name.clone()), content);
        }
        Ok(config)
    }

    /// What is read of an object; `None` where it was not there, and need not be.
    ///
    /// # Errors
    /// That it was not there, in the kubelet's words.
    pub(super) fn get(
        &self,
        kind: ObjectKind,
        name: &str,
        optional: bool,
    ) -> Result<Option<&Content>, String> {
        match self.0.get(&(kind, name.to_owned())) {
            None if !optional => {
                Err(format!("{} {name:?} not found", kind.as_str().to_lowercase()))
            }
            content => Ok(content),
        }
    }
}

impl Content {
    /// All values of an object of this kind and name, by key.
    pub(super) fn values(
        &self,
        kind: ObjectKind,
        name: &str,
    ) -> Result<BTreeMap<String, Vec<u8>>, Reason> {
        let texts = self.data.iter().map(|(key, text)| (key.clone(), text.clone().into_bytes()));
        let mut values: BTreeMap<String, Vec<u8>> = texts.collect();
        for (key, encoded) in &self.binary_data {
            let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| {
                Reason::new("InvalidTemplate", format!("key {key} of {kind} {name} is not base64"))
            })?;
            values.insert(key.clone(), bytes);
        }
        Ok(values)
    }

    /// The values that can be variables, by key: of a ConfigMap the texts alone, as in Kubernetes; of
    /// a Secret all.
    pub(super) fn variables(&self, kind: ObjectKind) -> impl Iterator<Item = (&str, Variable)> {
        let texts = self.data.iter().map(|(key, text)| (key.as_str(), Some(text.clone())));
        let bytes = self.binary_data.iter().filter(move |_| kind == ObjectKind::Secret);
        let decoded = bytes.map(|(key, encoded)| {
            let bytes = BASE64_STANDARD.decode(encoded).ok();
            (key.as_str(), bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
        });
        // No process can have a variable with a zero byte.
        texts.chain(decoded).map(|(key, text)| (key, text.filter(|text| !text.contains('\0'))))
    }
}

/// A value as text; `None` where it is none that a variable can have.
pub(super) type Variable = Option<String>;
