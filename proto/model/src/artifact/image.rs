//! The name of an image in a registry: the grammar of `distribution/reference`, with Docker's
//! defaults, as Kubernetes reads it.
//!
//! ```text
//!   [REGISTRY[:PORT]/]COMPONENT[/COMPONENT…][:TAG]
//! ```
//!
//! What stands before the first `/` is a registry if it has a `.`, a `:` or a capital letter, or is
//! `localhost`; otherwise the registry is `docker.io`, whose names without a `/` are in `library/`.

use std::fmt;

/// The registry of names that name none.
const DOCKER: &str = "docker.io";
/// What that was called.
const DOCKER_ONCE: &str = "index.docker.io";
/// Where its names without a `/` are.
const LIBRARY: &str = "library";
/// The longest name of a repository, and the longest tag: `distribution/reference` has them.
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

/// An image of a registry, whatever its content is now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName {
    /// The host, and the port if one is named: `registry.example:5000`.
    pub registry: String,
    /// What it is called there: `team/exporter`.
    pub repository: String,
    /// For people: what is meant is said by a digest.
    pub tag: Option<String>,
}

impl ImageName {
    /// Reads a name without a digest; `None` for what is none.
    pub fn parse(text: &str) -> Option<Self> {
        // A colon after the last slash is a tag's: before it, it is a port's.
        let (name, tag) = match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (text, None),
        };
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if is_registry(first) => (first, path),
            _ => (DOCKER, name),
        };
        let registry = if registry == DOCKER_ONCE { DOCKER } else { registry };
        let repository = match registry == DOCKER && !path.contains('/') {
            true => format!("{LIBRARY}/{path}"),
            false => path.to_owned(),
        };
        // That is what the identity of an image looks like.
        let is_identity = |it: &str| it.len() == 64 && it.bytes().all(|it| it.is_ascii_hexdigit());
        let good = is_host(registry)
            && repository.len() <= MAX_REPOSITORY
            && repository.split('/').all(is_component)
            && tag.is_none_or(is_tag)
            && !is_identity(name);
        let (registry, tag) = (registry.to_owned(), tag.map(str::to_owned));
        good.then_some(Self { registry, repository, tag })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))
    }
}

fn is_registry(first: &str) -> bool {
    let marks = |byte: u8| matches!(byte, b'.' | b':') || byte.is_ascii_uppercase();
    first == "localhost" || first.bytes().any(marks)
}

/// `HOST` or `HOST:PORT`; the host is a name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(known)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let good = match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']').unwrap_or_default();
            !inner.is_empty() && inner.bytes().all(|it| it.is_ascii_hexdigit() || it == b':')
        }
        None => host.split('.').all(label),
    };
    good && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Letters and digits, and between them `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separates = |between: &str| {
        matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
    };
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.into_iter().all(|byte| byte.is_some_and(plain))
        && text.split(|letter: char| u8::try_from(letter).is_ok_and(plain)).all(separates)
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let known = |byte: u8| word(byte) || matches!(byte, b'.' | b'-');
    text.len() <= MAX_TAG && text.bytes().next().is_some_and(word) && text.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_dockers_defaults() {
        for (text, whole) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("team/x", "docker.io/team/x"),
            ("docker.io/x", "docker.io/library/x"),
            ("index.docker.io/team/x:a", "docker.io/team/x:a"),
            ("localhost/x", "localhost/x"),
            ("localhost:5000/x:5", "localhost:5000/x:5"),
            ("Host/x", "Host/x"),
            ("quay.io/a/b__c/d-.e", ""),
            ("quay.io/a/b__c/d--e.f_g", "quay.io/a/b__c/d--e.f_g"),
            ("192.0.2.1:5000/x", "192.0.2.1:5000/x"),
            ("[fd00::1]:5000/x:1_.-", "[fd00::1]:5000/x:1_.-"),
            ("[fd00::1]/x", "[fd00::1]/x"),
        ] {
            let read = ImageName::parse(text).map(|name| name.to_string()).unwrap_or_default();
            assert_eq!(read, whole, "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_none() {
        let identity = "a".repeat(64);
        let (long, tag) = ("a".repeat(256), format!("x:{}", "a".repeat(129)));
        for text in [
            "",
            "/x",
            "x/",
            "x//y",
            "X",
            "a/B",
            "x:",
            "x:.a",
            "x:a/b:",
            "quay.io",
            "quay.io/",
            "-.io/x",
            "a..b/x",
            "h:0/x",
            "h:99999/x",
            "[::1/x",
            "[]/x",
            "[g::1]/x",
            "h.io/-x",
            "h.io/x-",
            "h.io/_x",
            "h.io/a..b",
            "h.io/a___b",
            "h.io/x#y",
            "h.io/{arch}",
            "h.io/x?y",
            "ü.io/x",
            "h.io/ü",
            &identity,
            &long,
            &tag,
        ] {
            // What looks like a host alone is a name of Docker's.
            let of_docker = text == "quay.io";
            assert_eq!(ImageName::parse(text).is_some(), of_docker, "{text}");
        }
        assert!(ImageName::parse(&format!("library/{identity}")).is_some());
    }
}
