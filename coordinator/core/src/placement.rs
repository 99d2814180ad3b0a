//! Whether a node should run a DaemonSet: the one place that knows, asked for every kind of event.
//!
//! The rules are those of Kubernetes' DaemonSet controller (`nodeShouldRunDaemonPod`): `nodeName`,
//! then `nodeSelector` and required node affinity, then taints with the automatic tolerations.
//! Not looked at: resources, ports, readiness, cordon. A toleration for a time ends when that is a
//! record (`tolerance`).

use std::fmt;

use everynode_model::{
    DaemonSet, Effect, Labels, NodeSelectorTerm, Placement, Reason, Requirement, Taint,
};

use crate::record::NodeRecord;

/// What placement says of one DaemonSet on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether a pod belongs there, or the first reason why not.
    pub run: Result<(), WhyNot>,
    /// Whether a pod that is there already may stay. Follows from `run` being ok; beyond that it
    /// holds where nothing but `NoSchedule` taints stand in the way.
    pub keep: bool,
}

/// Why a DaemonSet does not belong on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// The DaemonSet was deleted, and its pods were not.
    Orphaned,
    /// The template names another node.
    OtherNode {
        /// Which.
        wanted: String,
    },
    /// A label of `nodeSelector` is not there, or has another value.
    Label {
        /// Its key.
        key: String,
        /// The value it should have.
        wanted: String,
        /// The value it has, if any.
        has: Option<String>,
    },
    /// No term of the required node affinity is met.
    Affinity {
        /// One requirement per term that is not met.
        unmet: Vec<String>,
    },
    /// A taint is not tolerated.
    Taint(Taint),
    /// A taint is tolerated for a time, which is over.
    ToleratedFor {
        /// Which.
        taint: Taint,
        /// For how many seconds.
        seconds: u64,
    },
}

/// For how long a taint is tolerated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tolerance {
    /// Not at all.
    None,
    /// For so many seconds after it came.
    For(u64),
    /// As long as it stands.
    Forever,
}

/// The taints that a DaemonSet's pods tolerate without saying so.
const ALWAYS_TOLERATED: [(&str, Effect); 6] = [
    ("node.kubernetes.io/not-ready", Effect::NoExecute),
    ("node.kubernetes.io/unreachable", Effect::NoExecute),
    ("node.kubernetes.io/disk-pressure", Effect::NoSchedule),
    ("node.kubernetes.io/memory-pressure", Effect::NoSchedule),
    ("node.kubernetes.io/pid-pressure", Effect::NoSchedule),
    ("node.kubernetes.io/unschedulable", Effect::NoSchedule),
];

/// Likewise, of pods that share the host's network.
const TOLERATED_ON_HOST_NETWORK: (&str, Effect) =
    ("node.kubernetes.io/network-unavailable", Effect::NoSchedule);

/// What placement says of `set` on `node`.
pub fn verdict(set: &DaemonSet, node: &NodeRecord) -> Verdict {
    let placement = &set.placement;
    // What a DaemonSet selects means nothing to a pod that nobody owns; taints do, as in Kubernetes.
    if !set.is_orphaned()
        && let Err(why) = selected(placement, node)
    {
        return Verdict { run: Err(why), keep: false };
    }
    let untolerated = |effect: Effect| {
        let of_effect = node.taints.iter().filter(move |taint| taint.effect == effect);
        of_effect.filter_map(|taint| untolerated(placement, node, taint)).next()
    };
    if let Some(why) = untolerated(Effect::NoExecute) {
        return Verdict { run: Err(why), keep: false };
    }
    match untolerated(Effect::NoSchedule) {
        _ if set.is_orphaned() => Verdict { run: Err(WhyNot::Orphaned), keep: true },
        Some(why) => Verdict { run: Err(why), keep: true },
        None => Verdict { run: Ok(()), keep: true },
    }
}

impl WhyNot {
    /// This as a reason for people and programs.
    pub fn reason(&self) -> Reason {
        let code = match self {
            Self::Orphaned => "Orphaned",
            Self::OtherNode { .. } => "NodeNameMismatch",
            Self::Label { .. } => "NodeSelectorMismatch",
            Self::Affinity { .. } => "NodeAffinityMismatch",
            Self::Taint(_) => "UntoleratedTaint",
            Self::ToleratedFor { .. } => "TolerationEnded",
        };
        Reason::new(code, self.to_string())
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orphaned => f.write_str("its DaemonSet was deleted without its pods"),
            Self::OtherNode { wanted } => write!(f, "the template names node {wanted}"),
            Self::Label { key, wanted, has: None } => {
                write!(f, "the node lacks the label {key}={wanted}")
            }
            Self::Label { key, wanted, has: Some(has) } => {
                write!(f, "the node's label {key} is {has:?}, not {wanted:?}")
            }
            Self::Affinity { unmet } if unmet.is_empty() => {
                f.write_str("the required node affinity has no terms, so that no node meets it")
            }
            Self::Affinity { unmet } => {
                write!(f, "the required node affinity wants {}", unmet.join(", or "))
            }
            Self::Taint(taint) => write!(f, "the node's taint {taint} is not tolerated"),
            Self::ToleratedFor { taint, seconds } => {
                write!(f, "the node's taint {taint} is tolerated for {seconds}s, which are over")
            }
        }
    }
}

fn selected(placement: &Placement, node: &NodeRecord) -> Result<(), WhyNot> {
    match &placement.node_name {
        Some(wanted) if wanted != node.name.as_str() => {
            return Err(WhyNot::OtherNode { wanted: wanted.clone() });
        }
        _ => {}
    }
    selector_matches(&placement.node_selector, &node.labels)?;
    let Some(terms) = &placement.required_affinity else { return Ok(()) };
    let mut unmet = Vec::new();
    for term in terms {
        match first_unmet(term, node) {
            None => return Ok(()),
            Some(requirement) => unmet.push(requirement),
        }
    }
    Err(WhyNot::Affinity { unmet })
}

fn selector_matches(wanted: &Labels, labels: &Labels) -> Result<(), WhyNot> {
    match wanted.iter().find(|(key, value)| labels.get(*key) != Some(*value)) {
        None => Ok(()),
        Some((key, value)) => Err(WhyNot::Label {
            key: key.clone(),
            wanted: value.clone(),
            has: labels.get(key).cloned(),
        }),
    }
}

/// What of `term` the node does not meet; an empty term is met by none.
fn first_unmet(term: &NodeSelectorTerm, node: &NodeRecord) -> Option<String> {
    if term.match_expressions.is_empty() && term.match_fields.is_empty() {
        return Some("nothing (an empty term, which no node meets)".into());
    }
    let field_met = |field: &Requirement| {
        field.key == "metadata.name" && field.matches_value(Some(node.name.as_str()))
    };
    let label = term.match_expressions.iter().find(|label| !label.matches(&node.labels));
    let field = term.match_fields.iter().find(|field| !field_met(field));
    label.or(field).map(ToString::to_string)
}

fn untolerated(placement: &Placement, node: &NodeRecord, taint: &Taint) -> Option<WhyNot> {
    match tolerance(placement, taint) {
        Tolerance::None => Some(WhyNot::Taint(taint.clone())),
        // None at all is over at once; a time is when it is written down.
        Tolerance::For(0) => Some(WhyNot::ToleratedFor { taint: taint.clone(), seconds: 0 }),
        Tolerance::For(seconds) => {
            let over = node.stood.get(taint).is_some_and(|stood| *stood >= seconds);
            over.then(|| WhyNot::ToleratedFor { taint: taint.clone(), seconds })
        }
        Tolerance::Forever => None,
    }
}

/// For how long `taint` is tolerated: of several tolerations that answer it, the shortest time
/// counts, as in Kubernetes; the automatic ones outdo the template's.
pub(crate) fn tolerance(placement: &Placement, taint: &Taint) -> Tolerance {
    let is = |(key, effect): &(&str, Effect)| *key == taint.key && *effect == taint.effect;
    if ALWAYS_TOLERATED.iter().any(is) || (placement.host_network && is(&TOLERATED_ON_HOST_NETWORK))
    {
        return Tolerance::Forever;
    }
    let answering = placement.tolerations.iter().filter(|toleration| toleration.tolerates(taint));
    // A negative time is none.
    let seconds = |given: i64| u64::try_from(given).unwrap_or_default();
    let times = answering.map(|toleration| toleration.seconds.map(seconds));
    let timed = |effect| effect == Effect::NoExecute;
    times.fold(Tolerance::None, |shortest, time| match (shortest, time) {
        (shortest @ Tolerance::For(_), None) => shortest,
        (Tolerance::For(shortest), Some(time)) => Tolerance::For(shortest.min(time)),
        (_, Some(time)) if timed(taint.effect) => Tolerance::For(time),
        _ => Tolerance::Forever,
    })
}
