//! What a pod of host processes runs may be delivered: the reference of an `image` volume.
//!
//! ```text
//!   https://HOST[:PORT]/PATH[#INSIDE]@DIGESTS      file:///PATH[#INSIDE]@DIGESTS
//!   DIGESTS = sha256:HEX                  the same for every machine
//!           | ARCH=sha256:HEX,…           one for each architecture
//!
//!   [REGISTRY[:PORT]/]REPOSITORY[:TAG]@sha256:HEX
//! ```
//!
//! The last is an image of a registry ([`ImageName`]). Its digest is of a manifest, or of an index,
//! which has a manifest for each architecture. All else is said of files:
//!
//! `{arch}` in the address stands for the machine's architecture, in Go's words (`amd64`, `arm64`), as
//! everywhere in Kubernetes. A digest is required: it makes what runs a part of the revision. What it
//! is of is the file that is fetched, before it is unpacked.
//!
//! What `PATH` ends in says what the volume holds: of `.tar`, `.tar.gz` and `.tgz` what is packed in it,
//! and of everything else the one file. `INSIDE` is a directory of the archive, which becomes all of the
//! volume, or another name for the file.

mod image;

use std::fmt;

use crate::Digest;

pub use image::ImageName;

/// The longest reference: as long as an OCI reference and some digests may be.
const MAX_BYTES: usize = 2048;
/// The longest name of a file: with a digest before it, it still is one.
const MAX_NAME: usize = 128;
/// Where an address stands for several.
const ARCH: &str = "{arch}";
/// Archives that are not unpacked: as one file they would be what nobody meant.
const NOT_UNPACKED: [&str; 9] =
    [".zip", ".tar.xz", ".txz", ".tar.bz2", ".tbz", ".tbz2", ".tar.zst", ".tzst", ".tar.lz4"];

/// One file or image to be delivered, as a template names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactReference {
    address: String,
    inside: Option<String>,
    digests: Digests,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Digests {
    Same(Digest),
    Each(Vec<(String, Digest)>),
}

/// One file or image to be delivered to one machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Artifact {
    /// Its address: `https://…` or `file:///…`; or the whole name of an image.
    pub address: String,
    /// What its bytes must be; of an image those of its index or manifest.
    pub digest: Digest,
    /// Of an archive the directory that is the volume, relative and without `..`; of a file its name
    /// in the volume.
    pub inside: Option<String>,
}

/// How something is packed, by what its address is, and ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As the layers of an image.
    Image,
    /// Not: it is what it is.
    Plain,
    /// A tar archive.
    Tar,
    /// One that is compressed by gzip.
    TarGz,
}

/// Why a text is no reference of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactError {
    /// It says nothing, or too much.
    Length,
    /// Another kind of address.
    Address(String),
    /// No name of an image.
    Image(String),
    /// An image whose content nothing fixes.
    NoImageDigest,
    /// Somebody's password would be for all to read.
    Credentials,
    /// An archive of a kind that is not unpacked.
    Packing(String),
    /// What follows `#` can't be inside.
    Inside(String),
    /// Nothing fixes its content.
    NoDigest,
    /// A digest that is none.
    Digest(String),
    /// Two digests for one architecture.
    Twice(String),
    /// One digest for files that differ.
    OneForAll,
}

/// This machine's architecture as Go, and therefore Kubernetes, calls it.
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

impl ArtifactReference {
    /// Reads a reference.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ArtifactError> {
        if text.is_empty()
            || text.len() > MAX_BYTES
            || !text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(ArtifactError::Length);
        }
        if !text.contains("://") {
            return Self::parse_image(text);
        }
        let (located, digests) = match text.rsplit_once('@') {
            Some((located, digests)) if digests.contains("sha256:") => (located, Some(digests)),
            _ => (text, None),
        };
        let (address, inside) = match located.split_once('#') {
            Some((address, inside)) => (address, Some(inside)),
            None => (located, None),
        };
        check_address(address)?;
        if let Some(inside) = inside
            && !is_inside(inside, Packing::of(address))
        {
            return Err(ArtifactError::Inside(inside.into()));
        }
        let digests = Digests::parse(digests.ok_or(ArtifactError::NoDigest)?)?;
        if located.contains(ARCH) && matches!(digests, Digests::Same(_)) {
            return Err(ArtifactError::OneForAll);
        }
        Ok(Self { address: address.into(), inside: inside.map(Into::into), digests })
    }

    fn parse_image(text: &str) -> Result<Self, ArtifactError> {
        let (name, of) = match text.split_once('@') {
            Some((name, of)) => (name, Some(of)),
            None => (text, None),
        };
        let name = ImageName::parse(name).ok_or_else(|| ArtifactError::Image(name.into()))?;
        let digest = digest(of.ok_or(ArtifactError::NoImageDigest)?)?;
        Ok(Self { address: name.to_string(), inside: None, digests: Digests::Same(digest) })
    }

    /// Whether it is an image of a registry.
    pub fn is_image(&self) -> bool {
        Packing::of(&self.address) == Packing::Image
    }

    /// What is delivered to a machine of this architecture; `None` where nothing is. Of an image it
    /// is the same for all: its index knows more.
    pub fn for_arch(&self, arch: &str) -> Option<Artifact> {
        let digest = match &self.digests {
            Digests::Same(digest) => *digest,
            Digests::Each(each) => each.iter().find(|(known, _)| known == arch)?.1,
        };
        Some(Artifact {
            address: self.address.replace(ARCH, arch),
            digest,
            inside: self.inside.as_ref().map(|inside| inside.replace(ARCH, arch)),
        })
    }
}

impl Digests {
    fn parse(text: &str) -> Result<Self, ArtifactError> {
        if !text.contains('=') {
            return digest(text).map(Self::Same);
        }
        let mut each: Vec<(String, Digest)> = Vec::new();
        for part in text.split(',') {
            let (arch, of) =
                part.split_once('=').ok_or_else(|| ArtifactError::Digest(part.into()))?;
            let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            if arch.is_empty() || !arch.bytes().all(known) {
                return Err(ArtifactError::Digest(part.into()));
            }
            if each.iter().any(|(known, _)| known == arch) {
                return Err(ArtifactError::Twice(arch.into()));
            }
            each.push((arch.into(), digest(of)?));
        }
        Ok(Self::Each(each))
    }
}

impl Artifact {
    /// The name of the file: what stands after the address' last `/`, before a query.
    pub fn file_name(&self) -> &str {
        name_of(&self.address)
    }

    /// The name of an image; `None` of a file.
    pub fn image(&self) -> Option<ImageName> {
        (self.packing() == Packing::Image).then(|| ImageName::parse(&self.address)).flatten()
    }

    /// How it is packed.
    pub fn packing(&self) -> Packing {
        Packing::of(&self.address)
    }
}

impl Packing {
    fn of(address: &str) -> Self {
        let name = name_of(address);
        if !address.contains("://") {
            Self::Image
        } else if ends(name, &[".tar.gz", ".tgz"]) {
            Self::TarGz
        } else if ends(name, &[".tar"]) {
            Self::Tar
        } else {
            Self::Plain
        }
    }
}

impl fmt::Display for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        if let Some(inside) = &self.inside {
            write!(f, "#{inside}")?;
        }
        write!(f, "@sha256:{}", self.digest)
    }
}

impl fmt::Display for ArtifactError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "must be 1 to {MAX_BYTES} characters without spaces"),
            Self::Address(_) => f.write_str(
                "host processes are delivered files by `https://HOST/PATH` or `file:///PATH`, and \
                 images by `REGISTRY/REPOSITORY`",
            ),
            Self::Image(name) => write!(
                f,
                "{name:?} is no name of an image, `REGISTRY/REPOSITORY:TAG` (a part of one is \
                 mounted by `subPath`); files are delivered by `https://HOST/PATH` or `file:///PATH`"
            ),
            Self::NoImageDigest => f.write_str(
                "needs a digest, so that what runs is part of the revision, whatever becomes of a \
                 tag: append `@sha256:HEX`, of the manifest or the index",
            ),
            Self::Credentials => {
                f.write_str("must not have a user or a password: whoever may look would see it")
            }
            Self::Packing(name) => write!(
                f,
                "{name} can't be unpacked: of archives, only .tar, .tar.gz and .tgz can be"
            ),
            Self::Inside(inside) => write!(
                f,
                "{inside:?} must be a directory of the archive, relative and without `..`, or a \
                 file's name"
            ),
            Self::NoDigest => f.write_str(
                "needs a digest, so that what runs is part of the revision: append `@sha256:HEX`",
            ),
            Self::Digest(text) => write!(
                f,
                "{text:?} is no digest: `sha256:` and 64 hexadecimal digits (of files also \
                 `ARCH=sha256:HEX,…`)"
            ),
            Self::Twice(arch) => write!(f, "{arch} has more than one digest"),
            Self::OneForAll => f.write_str(
                "`{arch}` needs a digest for each: `@amd64=sha256:HEX,arm64=sha256:HEX`",
            ),
        }
    }
}

impl std::error::Error for ArtifactError {}

fn check_address(address: &str) -> Result<(), ArtifactError> {
    let other = || ArtifactError::Address(address.into());
    if let Some(rest) = address.strip_prefix("https://") {
        let (host, path) = rest.split_once('/').ok_or_else(other)?;
        if host.contains('@') {
            return Err(ArtifactError::Credentials);
        }
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]{}".contains(&byte);
        if host.is_empty() || !host.bytes().all(known) || !is_file(path) {
            return Err(other());
        }
    } else if !address.strip_prefix("file:///").is_some_and(is_file) {
        return Err(other());
    }
    let name = name_of(address);
    match ends(name, &NOT_UNPACKED) {
        true => Err(ArtifactError::Packing(name.into())),
        false => Ok(()),
    }
}

/// Whether a path ends in the name of a file.
fn is_file(path: &str) -> bool {
    is_name(name_of(path)) && !path.split('/').any(|part| part == "..")
}

fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME && !name.contains('/')
}

fn is_inside(inside: &str, packing: Packing) -> bool {
    match packing {
        Packing::Image => false,
        Packing::Plain => is_name(inside),
        Packing::Tar | Packing::TarGz => inside.split('/').all(is_name),
    }
}

fn name_of(address: &str) -> &str {
    let path = address.split('?').next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

/// Whether a name is more than one of these ends.
fn ends(name: &str, ends: &[&str]) -> bool {
    ends.iter().any(|end| name.len() > end.len() && name.ends_with(end))
}

fn digest(text: &str) -> Result<Digest, ArtifactError> {
    let of = text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
    of.ok_or_else(|| ArtifactError::Digest(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn a_reference_names_one_file_for_each_machine() {
        let same = format!("https://dl.example:8443/a/b.tar.gz?x=1@sha256:{A}");
        let same = ArtifactReference::parse(&same).unwrap().for_arch("riscv64").unwrap();
        assert_eq!(same.address, "https://dl.example:8443/a/b.tar.gz?x=1");
        assert_eq!((same.digest.to_string(), same.file_name()), (A.into(), "b.tar.gz"));

        let each = format!("file:///srv/x-{{arch}}#x@amd64=sha256:{A},arm64=sha256:{B}");
        let each = ArtifactReference::parse(&each).unwrap();
        let shown = |arch: &str| each.for_arch(arch).map(|it| it.to_string());
        assert_eq!(shown("arm64"), Some(format!("file:///srv/x-arm64#x@sha256:{B}")));
        assert_eq!(shown("amd64"), Some(format!("file:///srv/x-amd64#x@sha256:{A}")));
        assert_eq!(shown("s390x"), None);
    }

    #[test]
    fn its_name_says_how_it_is_packed() {
        let of = |name: &str| {
            let text = format!("https://h/{name}@amd64=sha256:{A}");
            let artifact = ArtifactReference::parse(&text).unwrap().for_arch("amd64").unwrap();
            (artifact.packing(), artifact.inside)
        };
        assert_eq!(of("a"), (Packing::Plain, None));
        assert_eq!(of("a-{arch}#a"), (Packing::Plain, Some("a".into())));
        assert_eq!(of(".tgz"), (Packing::Plain, None));
        assert_eq!(of("a.tar"), (Packing::Tar, None));
        assert_eq!(of("a.tgz#b/c"), (Packing::TarGz, Some("b/c".into())));
        let inside = Some("a.linux-amd64".into());
        assert_eq!(of("a.tar.gz?raw=1#a.linux-{arch}"), (Packing::TarGz, inside));
    }

    #[test]
    fn an_image_is_the_same_for_each_machine() {
        let text = format!("x:1@sha256:{A}");
        let reference = ArtifactReference::parse(&text).unwrap();
        let artifact = reference.for_arch("riscv64").unwrap();
        assert!(reference.is_image());
        assert_eq!(artifact.packing(), Packing::Image);
        assert_eq!(artifact.to_string(), format!("docker.io/library/x:1@sha256:{A}"));
        assert_eq!(artifact.image().unwrap().repository, "library/x");
        let file = ArtifactReference::parse(&format!("file:///x@sha256:{A}")).unwrap();
        assert!(!file.is_image() && file.for_arch("a").unwrap().image().is_none());
    }

    #[test]
    fn what_is_none_says_why() {
        use ArtifactError::{
            Address, Credentials, Inside, Length, NoDigest, OneForAll, Packing, Twice,
        };
        let why = |text: String| ArtifactReference::parse(&text).unwrap_err();
        assert_eq!(why(String::new()), Length);
        assert_eq!(why(format!("https://h/a b@sha256:{A}")), Length);
        assert_eq!(why("https://h/a:v1".into()), NoDigest);
        assert_eq!(why("https://h/a@sha512:12".into()), NoDigest);
        assert_eq!(why(format!("https://user:secret@h/a@sha256:{A}")), Credentials);
        let long = format!("https://h/{}", "a".repeat(129));
        for address in [
            "http://h/a",
            "oci://h/a",
            "https://h/",
            "https:///a",
            "https://h%2f/a",
            "file:///a/../b",
            "file://a/b",
            &long,
        ] {
            assert_eq!(why(format!("{address}@sha256:{A}")), Address(address.into()));
        }
        for name in ["a.zip", "a.tar.xz", "a.tar.zst"] {
            assert_eq!(why(format!("https://h/{name}?x=1@sha256:{A}")), Packing(name.into()));
        }
        for (name, inside) in [
            ("a", ""),
            ("a", "b/c"),
            ("a", ".."),
            ("a.tgz", "b/../c"),
            ("a.tgz", "/b"),
            ("a.tgz", "b/"),
        ] {
            assert_eq!(why(format!("https://h/{name}#{inside}@sha256:{A}")), Inside(inside.into()));
        }
        assert_eq!(why("quay.io/a:1".into()), ArtifactError::NoImageDigest);
        assert_eq!(why(format!("quay.io/A@sha256:{A}")), ArtifactError::Image("quay.io/A".into()));
        assert_eq!(why(format!("a#b@sha256:{A}")), ArtifactError::Image("a#b".into()));
        for digests in
            ["sha256:12", "sha512:aa", "", &format!("amd64=sha256:{A}"), &format!("sha256:{A}@x")]
        {
            let error = why(format!("quay.io/a@{digests}"));
            assert!(matches!(error, ArtifactError::Digest(_)), "{digests}: {error}");
        }
        for digests in ["sha256:12", "amd64=sha256:12", "AMD=sha256:aa", "sha256:a,sha256:b"] {
            let error = why(format!("https://h/a@{digests}"));
            assert!(matches!(error, ArtifactError::Digest(_)), "{digests}: {error}");
        }
        assert_eq!(why(format!("https://h/a@x=sha256:{A},x=sha256:{B}")), Twice("x".into()));
        for location in ["a-{arch}", "a.tgz#a-{arch}"] {
            assert_eq!(why(format!("https://h/{location}@sha256:{A}")), OneForAll);
        }
    }
}
