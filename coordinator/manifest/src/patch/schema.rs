//! How fields merge: the `patchStrategy` and `patchMergeKey` of Kubernetes' types, as far as the
//! kinds here have them. What is not in the tables merges as a map, or is replaced as a list.

/// Where in an object something is, as far as merging differs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// A whole object.
    Object,
    Metadata,
    Spec,
    Template,
    PodSpec,
    Container,
    /// Anything in which no list merges.
    Free,
}

/// How two lists become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// The newer one is taken.
    Atomic,
    /// Texts and numbers, each once.
    Set,
    /// Maps that are told apart by a key.
    Keyed(Key),
}

/// What tells the maps of a list apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// The field; Kubernetes' merge key.
    pub(super) field: &'static str,
    /// A second field, and what it is where it is left out.
    ///
    /// Kubernetes has none, and so makes one of two ports of the same number, one TCP and one UDP,
    /// as every DNS server has. That is a known fault there, and nothing to be compatible with.
    pub(super) second: Option<(&'static str, &'static str)>,
    /// Whether at most one of several fields may be set (`$retainKeys`): setting another clears it.
    pub(super) one_of: bool,
}

/// How a field merges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// What it is, or what the items of its list are.
    pub(super) of: Type,
    pub(super) list: List,
}

impl Type {
    /// The field of this name.
    pub(super) fn field(self, name: &str) -> Field {
        match (self, name) {
            (Self::Object | Self::Template, "metadata") => plain(Self::Metadata),
            (Self::Object, "spec") => plain(Self::Spec),
            (Self::Metadata, "finalizers") => Field { of: Self::Free, list: List::Set },
            (Self::Metadata, "ownerReferences") => keyed(Self::Free, "uid"),
            (Self::Spec, "template") => plain(Self::Template),
            (Self::Template, "spec") => plain(Self::PodSpec),
            (Self::PodSpec, "containers" | "initContainers" | "ephemeralContainers") => {
                keyed(Self::Container, "name")
            }
            (Self::PodSpec, "volumes" | "resourceClaims") => one_of("name"),
            (Self::PodSpec, "imagePullSecrets" | "schedulingGates") => keyed(Self::Free, "name"),
            (Self::PodSpec, "hostAliases") => keyed(Self::Free, "ip"),
            (Self::PodSpec, "topologySpreadConstraints") => keyed(Self::Free, "topologyKey"),
            (Self::Container, "env") => keyed(Self::Free, "name"),
            (Self::Container, "volumeMounts") => keyed(Self::Free, "mountPath"),
            (Self::Container, "volumeDevices") => keyed(Self::Free, "devicePath"),
            (Self::Container, "ports") => ports(),
            _ => plain(Self::Free),
        }
    }
}

const fn plain(of: Type) -> Field {
    Field { of, list: List::Atomic }
}

const fn keyed(of: Type, field: &'static str) -> Field {
    Field { of, list: List::Keyed(Key { field, second: None, one_of: false }) }
}

const fn one_of(field: &'static str) -> Field {
    Field { of: Type::Free, list: List::Keyed(Key { field, second: None, one_of: true }) }
}

const fn ports() -> Field {
    let key = Key { field: "containerPort", second: Some(("protocol", "TCP")), one_of: false };
    Field { of: Type::Free, list: List::Keyed(key) }
}
