//! Objects that are kept beside DaemonSets: what configures their pods, and what names are unique in.

use std::fmt;

/// A kind of object that is kept beside DaemonSets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Configuration, by keys.
    ConfigMap,
    /// The same, whose values are shown to few.
    Secret,
    /// What names are unique in.
    Namespace,
}

/// Which object: unique among those of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its namespace; empty for a Namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The namespaces that are there from the beginning and can't be deleted: of Kubernetes' four those
/// that manifests name.
pub const BUILT_IN_NAMESPACES: [&str; 2] = ["default", "kube-system"];

impl ObjectKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ConfigMap, Self::Secret, Self::Namespace];

    /// The kind as manifests write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::Namespace => "Namespace",
        }
    }

    /// The kind as paths and messages write it (Kubernetes' resource).
    pub const fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
            Self::Namespace => "namespaces",
        }
    }

    /// The kind that manifests write so.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl ObjectKey {
    /// The key of a namespace.
    pub fn namespace(name: &str) -> Self {
        Self { kind: ObjectKind::Namespace, namespace: String::new(), name: name.to_owned() }
    }

    /// The object as Kubernetes' messages name it: `configmaps "rules"`.
    pub fn in_messages(&self) -> String {
        format!("{} {:?}", self.kind.plural(), self.name)
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ObjectKey {
    /// As people write it: `ConfigMap monitoring/rules`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}
