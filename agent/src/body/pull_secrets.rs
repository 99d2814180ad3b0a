//! `imagePullSecrets`: names and passwords for registries, as the template's Secrets have them.
//!
//! As with the kubelet, one that is not there, or can't be read, stops nothing: the image is asked
//! for without it, and a registry that refuses that says so.

use everynode_model::ObjectKind;
use serde::Deserialize;

use super::PROCESS;
use super::content::{Config, Contents, Named};
use crate::artifacts::Keyring;

/// The keys of Secrets of the types `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg`.
const CONFIG: &str = ".dockerconfigjson";
const OLD_CONFIG: &str = ".dockercfg";

/// The names and passwords that a template of host processes names; none of one that can't be read,
/// which is refused elsewhere.
pub fn keyring_of(content: &[u8], contents: &Contents) -> Keyring {
    #[derive(Default, Deserialize)]
    struct Secret {
        #[serde(default)]
        name: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Spec {
        image_pull_secrets: Vec<Secret>,
        runtime_class_name: String,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        spec: Spec,
        config: Vec<Named>,
    }
    let mut keyring = Keyring::default();
    let Body { spec, config } = serde_json::from_slice(content).unwrap_or_default();
    let Ok(config) = Config::read(&config, contents) else { return keyring };
    let names = spec.image_pull_secrets.iter().map(|secret| secret.name.as_str());
    for name in names.filter(|_| spec.runtime_class_name == PROCESS) {
        add(&mut keyring, name, &config);
    }
    keyring
}

fn add(keyring: &mut Keyring, name: &str, config: &Config) {
    let content = config.get(ObjectKind::Secret, name, true).ok().flatten();
    let values = content.and_then(|content| content.values(ObjectKind::Secret, name).ok());
    let Some(values) = values else { return keyring.lacks(name) };
    let added = match (values.get(CONFIG), values.get(OLD_CONFIG)) {
        (Some(file), _) => keyring.add_config(file),
        (None, Some(file)) => keyring.add_old_config(file),
        (None, None) => return keyring.lacks(&format!("{name} with a key {CONFIG}")),
    };
    if let Err(error) = added {
        tracing::warn!(secret = name, "passed over: {error}");
        keyring.lacks(&format!("{name} that can be read"));
    }
}

#[cfg(test)]
mod tests {
    use everynode_model::Digest;
    use serde_json::{Value, json};

    use super::*;

    fn keyring(secrets: &[(&str, Option<Value>)], class: &str) -> (String, Vec<String>) {
        let (mut contents, mut config) = (Contents::new(), Vec::new());
        for (name, data) in secrets {
            let mut entry = json!({"kind": "Secret", "name": name});
            if let Some(data) = data {
                let blob = [vec![0; 32], json!({"binaryData": data}).to_string().into()].concat();
                let digest = Digest::of(&blob);
                entry["blob"] = json!(digest.to_string());
                contents.insert(digest, blob);
            }
            config.push(entry);
        }
        let names: Vec<Value> = secrets.iter().map(|(name, _)| json!({"name": name})).collect();
        let spec = json!({"runtimeClassName": class, "imagePullSecrets": names});
        let body = json!({"spec": spec, "config": config}).to_string();
        let keyring = keyring_of(body.as_bytes(), &contents);
        (format!("{keyring:?}"), keyring.absent().to_vec())
    }

    #[test]
    fn both_types_are_read_and_nothing_is_needed() {
        // {"auths":{"a.io":{"auth":"dTpw"}}} and {"a.io":{"auth":"dTpw"}}
        let new = json!({CONFIG: "eyJhdXRocyI6eyJhLmlvIjp7ImF1dGgiOiJkVHB3In19fQ=="});
        let old = json!({OLD_CONFIG: "eyJhLmlvIjp7ImF1dGgiOiJkVHB3In19"});
        let (read, absent) = keyring(&[("a", Some(new.clone())), ("b", Some(old))], PROCESS);
        assert_eq!((read.as_str(), absent), ("Keyring(2 keys)", vec![]));
        let bad = [
            ("a", None),
            ("b", Some(json!({}))),
            ("c", Some(json!({CONFIG: "eA=="}))),
            ("d", Some(json!({CONFIG: "!"}))),
        ];
        let (read, absent) = keyring(&bad, PROCESS);
        assert_eq!(read, "Keyring(0 keys)");
        assert_eq!(absent, ["a", "b with a key .dockerconfigjson", "c that can be read", "d"]);
        assert_eq!(keyring(&[("a", Some(new))], "").0, "Keyring(0 keys)");
    }
}
