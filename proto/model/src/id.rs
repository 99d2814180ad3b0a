//! Names and numbers that identify things, each its own type so that none stands in for another.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

/// A name that breaks a rule of RFC 1123 as Kubernetes applies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidName {
    /// The name is empty.
    Empty,
    /// It has more characters than allowed.
    TooLong {
        /// The most it may have.
        max: usize,
    },
    /// It has a character that is neither a lower-case letter, a digit, `-` nor (where allowed)
    /// `.`, or begins or ends with something other than a letter or digit.
    Malformed,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The id with this value.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Its value.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::try_parse(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// Which cluster: made once, with the coordinator's first start.
    ClusterId
}
uuid_id! {
    /// Which registered machine: given at join, carried in its certificate, never used again.
    NodeUid
}
uuid_id! {
    /// Which DaemonSet, across deletion and re-creation under the same name.
    SetUid
}
uuid_id! {
    /// Which ConfigMap, Secret or Namespace, across deletion and re-creation under the same name.
    ObjectUid
}
impl ObjectUid {
    /// The uid of what is in a cluster without ever having been created, by its name.
    pub fn from_name(cluster: ClusterId, name: &str) -> Self {
        let digest = crate::Digest::of_parts([cluster.0.as_bytes().as_slice(), name.as_bytes()]);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_bytes()[..16]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

uuid_id! {
    /// Which pod: the same through restarts of its containers, another for every replacement.
    PodUid
}
uuid_id! {
    /// A random mark of one reign: tells two coordinators apart that claim the same term.
    ReignId
}
uuid_id! {
    /// A random mark of one session, kept by both ends.
    SessionNonce
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Which coordinator's reign: raised durably before a coordinator serves.
    Term
}
counter! {
    /// Which assignment of one node within one term; starts again in every term.
    Generation
}

/// A node's name: a DNS subdomain (RFC 1123), at most 253 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

/// A DaemonSet's namespace and name; on a node, the name of its one place to run.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl NodeName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// When it is not a DNS subdomain.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        check_subdomain(name)?;
        Ok(Self(name.into()))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PodKey {
    /// Checks and takes a namespace (DNS label) and a DaemonSet's name (DNS subdomain).
    ///
    /// # Errors
    /// When either breaks its rule.
    pub fn new(namespace: &str, name: &str) -> Result<Self, InvalidName> {
        check_label(namespace)?;
        check_subdomain(name)?;
        Ok(Self { namespace: namespace.into(), name: name.into() })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The DaemonSet's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The DaemonSet as Kubernetes' messages name it: `daemonsets.apps "agent"`.
    pub fn in_messages(&self) -> String {
        format!("daemonsets.apps {:?}", self.name())
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("must not be empty"),
            Self::TooLong { max } => write!(f, "must be no more than {max} characters"),
            Self::Malformed => f.write_str(
                "must consist of lower case letters, digits, '-' or '.', \
                 and must start and end with a letter or digit",
            ),
        }
    }
}

impl std::error::Error for InvalidName {}

/// RFC 1123 label: at most 63 of `a-z 0-9 -`, a letter or digit at both ends.
fn check_label(text: &str) -> Result<(), InvalidName> {
    match text {
        "" => Err(InvalidName::Empty),
        _ if text.len() > 63 => Err(InvalidName::TooLong { max: 63 }),
        _ if label_shape(text) => Ok(()),
        _ => Err(InvalidName::Malformed),
    }
}

/// RFC 1123 subdomain: labels joined by dots, at most 253 characters in all. As in Kubernetes, a
/// label within it may be longer than 63.
fn check_subdomain(text: &str) -> Result<(), InvalidName> {
    match text {
        "" => Err(InvalidName::Empty),
        _ if text.len() > 253 => Err(InvalidName::TooLong { max: 253 }),
        _ if text.split('.').all(label_shape) => Ok(()),
        _ => Err(InvalidName::Malformed),
    }
}

fn label_shape(text: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|byte| edge(byte) || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_rfc_1123() {
        for good in ["a", "node-1", "10.0.0.1", "a.b-c.d", &"a".repeat(253)] {
            assert!(NodeName::new(good).is_ok(), "{good}");
        }
        for bad in ["A", "-a", "a-", "a..b", ".a", "a_b", "a/b", "ü"] {
            assert_eq!(NodeName::new(bad), Err(InvalidName::Malformed), "{bad}");
        }
        assert_eq!(NodeName::new(""), Err(InvalidName::Empty));
        assert_eq!(NodeName::new(&"a".repeat(254)), Err(InvalidName::TooLong { max: 253 }));
    }

    #[test]
    fn a_namespace_has_no_dots() {
        assert!(PodKey::new("kube-system", "a.b").is_ok());
        assert_eq!(PodKey::new("a.b", "x"), Err(InvalidName::Malformed));
    }
}
