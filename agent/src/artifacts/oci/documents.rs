//! What registries say of an image: an index, which has a manifest for each platform, and a
//! manifest, which has layers (OCI image specification 1.1, and Docker's image manifest version 2,
//! schema 2).

use std::collections::BTreeMap;

use everynode_model::{Digest, go_arch};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::quoted;

/// The documents that are asked for.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// What an artifact without content has as its one layer.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// What something is called in the volume.
const TITLE: &str = "org.opencontainers.image.title";
/// Whether what has a title is a directory that ORAS packed.
const UNPACK: &str = "io.deis.oras.content.unpack";
/// Four times as many as a kernel puts one over the other.
const MAX_LAYERS: usize = 512;

/// Why an image is none for this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::artifacts) enum ImageError {
    /// Not what it should be.
    #[error("{of} is no manifest of an image: {why}")]
    Document { of: Digest, why: String },
    /// Not for this machine.
    #[error("no match for platform {wanted} in the index {of}: it has {has}")]
    Platform { of: Digest, wanted: String, has: String },
    /// A layer that can't be unpacked.
    #[error("layer {number} can't be used: {why}")]
    Layer { number: usize, why: String },
}

/// What an index or a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Vec<Descriptor>),
}

/// A content, by its digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// A content that is to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) blob: Blob,
    /// What it is called, where it is one file; otherwise it is an archive.
    pub(super) file: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    layers: Option<Vec<Descriptor>>,
    /// Of Docker's first manifests, which name no digests of what they say.
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    /// Reads a document whose digest is `of`. What it is goes by what stands in it: one that could
    /// be read in two ways is none (CVE-2021-41190).
    pub(super) fn read(of: Digest, text: &[u8]) -> Result<Self, ImageError> {
        let no = |why: String| ImageError::Document { of, why };
        let written: Written =
            serde_json::from_slice(text).map_err(|error| no(quoted(&error.to_string())))?;
        if written.fs_layers.is_some() {
            return Err(no("it is Docker's schema 1, which is not supported any more".into()));
        }
        let (document, types) = match (written.manifests, written.layers) {
            (Some(manifests), None) => (Self::Index(manifests), INDEXES),
            (None, Some(layers)) => (Self::Manifest(layers), MANIFESTS),
            (Some(_), Some(_)) => return Err(no("it has both manifests and layers".into())),
            (None, None) => return Err(no("it has neither manifests nor layers".into())),
        };
        match written.media_type {
            Some(other) if !types.contains(&other.as_str()) => {
                Err(no(format!("it is {}", quoted(&other))))
            }
            _ => Ok(document),
        }
    }
}

/// The manifest of an index `of` that is for this machine.
pub(super) fn for_this_machine(of: Digest, entries: &[Descriptor]) -> Result<Blob, ImageError> {
    choose(of, entries, go_arch())
}

/// The layers of a manifest `of`, from the lowest.
pub(super) fn layers(of: Digest, layers: &[Descriptor]) -> Result<Vec<Layer>, ImageError> {
    if layers.len() > MAX_LAYERS {
        let why = format!("more than {MAX_LAYERS} layers");
        return Err(ImageError::Document { of, why });
    }
    let read = layers.iter().enumerate().filter(|(_, layer)| layer.media_type != EMPTY);
    read.map(|(number, layer)| {
        layer.layer().map_err(|why| ImageError::Layer { number: number + 1, why })
    })
    .collect()
}

fn choose(of: Digest, entries: &[Descriptor], arch: &str) -> Result<Blob, ImageError> {
    let manifests = entries.iter().filter(|it| MANIFESTS.contains(&it.media_type.as_str()));
    let mut fitting: Vec<(usize, &Descriptor)> = Vec::new();
    let mut has = Vec::new();
    for entry in manifests {
        let Some(platform) = &entry.platform else { continue };
        has.push(platform.to_string());
        fitting.extend(platform.rank(arch).map(|rank| (rank, entry)));
    }
    let Some((_, chosen)) = fitting.into_iter().min_by_key(|(rank, _)| *rank) else {
        let has = if has.is_empty() { "none".into() } else { quoted(&has.join(", ")) };
        return Err(ImageError::Platform { of, wanted: format!("linux/{arch}"), has });
    };
    chosen.blob().map_err(|why| ImageError::Document { of, why })
}

impl Platform {
    /// How well it is for a machine of an architecture, 0 the best; `None` where it is not.
    fn rank(&self, arch: &str) -> Option<usize> {
        if self.os != "linux" || self.architecture != arch {
            return None;
        }
        let variant = self.variant.as_deref().unwrap_or_default();
        // What every such machine can run, and the best for one: others may need more than it has.
        // An agent for 32-bit ARM is one for its version 7.
        let known: &[&str] = match arch {
            "arm" => &["v7", "v6", "v5", ""],
            "arm64" => &["v8", ""],
            "amd64" => &["v1", ""],
            _ => &[""],
        };
        known.iter().position(|known| *known == variant)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl Descriptor {
    fn blob(&self) -> Result<Blob, String> {
        let digest = self.digest.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        let digest =
            digest.ok_or_else(|| format!("{} is no digest by SHA-256", quoted(&self.digest)))?;
        Ok(Blob { digest, size: self.size })
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn layer(&self) -> Result<Layer, String> {
        let blob = self.blob()?;
        // As ORAS has it: a title is a file's, whatever its type, or a directory's that it has
        // packed.
        let file = self.annotation(TITLE).filter(|_| self.annotation(UNPACK) != Some("true"));
        let kind = self.media_type.as_str();
        let is_archive = [".tar", ".tar.gzip", ".tar+gzip"].iter().any(|end| kind.ends_with(end));
        match file {
            None if kind.ends_with("zstd") => Err(format!(
                "{}: what zstd has packed is not unpacked, since its window is not bounded",
                quoted(kind)
            )),
            None if !is_archive => Err(format!(
                "{} is no tar archive, and nothing says what it is called ({TITLE})",
                quoted(kind)
            )),
            file => Ok(Layer { blob, file: file.map(str::to_owned) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of() -> Digest {
        Digest::of(b"")
    }

    fn read(document: Value) -> Result<Document, String> {
        Document::read(of(), document.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    fn descriptor(kind: &str, more: Value) -> Value {
        let mut descriptor =
            json!({"mediaType": kind, "digest": format!("sha256:{}", of()), "size": 3});
        descriptor.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        descriptor
    }

    fn chosen(platforms: &[&str], arch: &str) -> Result<usize, String> {
        let entries = platforms.iter().enumerate().map(|(number, platform)| {
            let parts: Vec<_> = platform.split('/').collect();
            let mut platform = json!({"os": parts[0], "architecture": parts[1]});
            if let Some(variant) = parts.get(2) {
                platform["variant"] = json!(variant);
            }
            descriptor(MANIFESTS[number % 2], json!({"platform": platform, "size": number}))
        });
        let other =
            descriptor(INDEXES[0], json!({"platform": {"os": "linux", "architecture": arch}}));
        let none = descriptor(MANIFESTS[0], json!({}));
        let entries: Vec<Value> = [other, none].into_iter().chain(entries).collect();
        let Ok(Document::Index(entries)) = read(json!({"manifests": entries})) else {
            panic!("an index")
        };
        let chosen = choose(of(), &entries, arch).map_err(|error| error.to_string());
        Ok(usize::try_from(chosen?.size).unwrap())
    }

    #[test]
    fn of_an_index_what_this_machine_runs_is_taken() {
        let all =
            ["windows/amd64", "linux/arm64/v8", "linux/amd64", "unknown/unknown", "linux/s390x"];
        assert_eq!((chosen(&all, "amd64"), chosen(&all, "arm64")), (Ok(2), Ok(1)));
        let variants = ["linux/arm/v5", "linux/arm/v8", "linux/arm/v7", "linux/arm"];
        assert_eq!(chosen(&variants, "arm"), Ok(2));
        assert_eq!(chosen(&["linux/amd64/v3", "linux/amd64"], "amd64"), Ok(1));
        let none = chosen(&["linux/arm64/v9", "linux/amd64/v3"], "amd64").unwrap_err();
        assert!(
            none.starts_with("no match for platform linux/amd64 in the index e3b0c4"),
            "{none}"
        );
        assert!(none.ends_with("it has linux/arm64/v9, linux/amd64/v3"), "{none}");
        assert!(chosen(&[], "amd64").unwrap_err().ends_with("it has none"));
    }

    #[test]
    fn a_document_is_read_in_one_way_or_not() {
        let empty = json!([]);
        let index = |kind: &str| read(json!({"mediaType": kind, "manifests": empty}));
        let manifest = |kind: &str| read(json!({"mediaType": kind, "layers": empty, "config": {}}));
        for (list, single) in INDEXES.into_iter().zip(MANIFESTS) {
            assert_eq!(index(list), Ok(Document::Index(Vec::new())));
            assert_eq!(manifest(single), Ok(Document::Manifest(Vec::new())));
            assert!(index(single).is_err() && manifest(list).is_err());
        }
        assert_eq!(read(json!({"layers": []})), Ok(Document::Manifest(Vec::new())));
        for (document, why) in [
            (json!({"layers": [], "manifests": []}), "it has both"),
            (json!({"config": {}}), "it has neither"),
            (json!({"schemaVersion": 1, "fsLayers": [], "layers": []}), "schema 1"),
            (json!({"layers": [{"size": -1}]}), "invalid value"),
        ] {
            let said = read(document).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    /// A document has up to 4 MiB, and what is said of it reaches terminals.
    #[test]
    fn little_of_a_document_is_quoted() {
        let long = "\u{80}\u{1b}".repeat(1000);
        let entry = |platform: Value| {
            descriptor(MANIFESTS[0], json!({"digest": long, "platform": platform}))
        };
        let of_index = |platform: Value| {
            let read = read(json!({"manifests": [entry(platform)]}));
            let Ok(Document::Index(entries)) = read else { panic!("an index") };
            choose(of(), &entries, "amd64").unwrap_err().to_string()
        };
        let of_layer = |layer: Value| {
            let Ok(Document::Manifest(read)) = read(json!({"layers": [layer]})) else {
                panic!("layers")
            };
            layers(of(), &read).unwrap_err().to_string()
        };
        for said in [
            read(json!({"layers": long})).unwrap_err(),
            read(json!({"layers": [], "mediaType": long})).unwrap_err(),
            of_index(json!({"os": long, "architecture": "amd64"})),
            of_index(json!({"os": "linux", "architecture": "amd64"})),
            of_layer(descriptor(&long, json!({}))),
            of_layer(descriptor(&format!("{long}zstd"), json!({}))),
        ] {
            assert!(said.len() < 500 && !said.contains(char::is_control), "{said:?}");
        }
    }

    #[test]
    fn layers_are_archives_or_files() {
        let of_one = |kind: &str, annotations: Value| {
            let one = descriptor(kind, json!({"annotations": annotations}));
            let Ok(Document::Manifest(read)) = read(json!({"layers": [one]})) else {
                panic!("layers")
            };
            let layers = layers(of(), &read).map_err(|error| error.to_string());
            layers.map(|layers| layers.into_iter().map(|layer| layer.file).collect::<Vec<_>>())
        };
        let oci = "application/vnd.oci.image.layer.v1.tar";
        let none = || json!(null);
        for kind in
            [oci, &format!("{oci}+gzip"), "application/vnd.docker.image.rootfs.diff.tar.gzip"]
        {
            assert_eq!(of_one(kind, none()), Ok(vec![None]), "{kind}");
        }
        let title = || json!({TITLE: "x"});
        for kind in [oci, "application/octet-stream", "application/vnd.oci.image.layer.v1.tar+zstd"]
        {
            assert_eq!(of_one(kind, title()), Ok(vec![Some("x".into())]), "{kind}");
        }
        let packed = json!({TITLE: "x", UNPACK: "true"});
        assert_eq!(of_one(&format!("{oci}+gzip"), packed), Ok(vec![None]));
        assert_eq!(of_one(EMPTY, none()), Ok(vec![]));
        let why = of_one(&format!("{oci}+zstd"), none()).unwrap_err();
        assert!(why.starts_with("layer 1 can't be used") && why.contains("zstd"), "{why}");
        assert!(of_one("application/json", none()).unwrap_err().contains("no tar archive"));
        let wrong = json!({"layers": [{"mediaType": oci, "digest": "sha512:00", "size": 1}]});
        let Ok(Document::Manifest(read)) = read(wrong) else { panic!("layers") };
        assert!(layers(of(), &read).unwrap_err().to_string().contains("no digest"));
    }
}
