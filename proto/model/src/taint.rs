//! Taints and tolerations, with the meaning of Kubernetes' core/v1.

use std::fmt;
use std::str::FromStr;

use crate::selector::{valid_label_value, valid_qualified_name};

/// What an untolerated taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// New pods stay away; running ones stay.
    NoSchedule,
    /// A wish; daemons pay no heed to it.
    PreferNoSchedule,
    /// New pods stay away and running ones leave.
    NoExecute,
}

/// A mark on a node that keeps pods away which do not tolerate it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Taint {
    /// A qualified name.
    pub key: String,
    /// A label value, may be empty.
    pub value: String,
    /// What it does.
    pub effect: Effect,
}

/// How a toleration's value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TolerationOperator {
    /// The values are the same.
    #[default]
    Equal,
    /// Any value.
    Exists,
}

/// A pod's leave to be where a taint is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toleration {
    /// Which taint; empty with `Exists` means every one.
    pub key: String,
    /// How the value is compared.
    pub operator: TolerationOperator,
    /// The value to compare.
    pub value: String,
    /// Which effect; `None` means every one.
    pub effect: Option<Effect>,
    /// For how many seconds a NoExecute taint is tolerated; `None` means for ever.
    pub seconds: Option<i64>,
}

/// A text that is not `key[=value]:Effect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTaint;

impl Toleration {
    /// Whether this toleration answers `taint` (Kubernetes' `ToleratesTaint`).
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.effect.is_none_or(|effect| effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && match self.operator {
                TolerationOperator::Exists => true,
                TolerationOperator::Equal => !self.key.is_empty() && self.value == taint.value,
            }
    }
}

impl Effect {
    /// Kubernetes' word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

impl FromStr for Effect {
    type Err = InvalidTaint;

    fn from_str(text: &str) -> Result<Self, InvalidTaint> {
        [Self::NoSchedule, Self::PreferNoSchedule, Self::NoExecute]
            .into_iter()
            .find(|effect| effect.as_str() == text)
            .ok_or(InvalidTaint)
    }
}

impl FromStr for Taint {
    type Err = InvalidTaint;

    fn from_str(text: &str) -> Result<Self, InvalidTaint> {
        let (pair, effect) = text.rsplit_once(':').ok_or(InvalidTaint)?;
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !valid_qualified_name(key) || !valid_label_value(value) {
            return Err(InvalidTaint);
        }
        Ok(Self { key: key.into(), value: value.into(), effect: effect.parse()? })
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.as_str() {
            "" => write!(f, "{}:{}", self.key, self.effect),
            value => write!(f, "{}={value}:{}", self.key, self.effect),
        }
    }
}

impl fmt::Display for InvalidTaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a taint is key=value:Effect or key:Effect, \
             with the effect NoSchedule, PreferNoSchedule or NoExecute",
        )
    }
}

impl std::error::Error for InvalidTaint {}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(text: &str) -> Taint {
        text.parse().unwrap()
    }

    #[test]
    fn an_empty_key_tolerates_only_with_exists() {
        let everything =
            Toleration { operator: TolerationOperator::Exists, ..Toleration::default() };
        assert!(everything.tolerates(&taint("a=b:NoExecute")));
        assert!(!Toleration::default().tolerates(&taint("a:NoExecute")));
    }

    #[test]
    fn key_value_and_effect_all_count() {
        let toleration = Toleration {
            key: "a".into(),
            value: "b".into(),
            effect: Some(Effect::NoSchedule),
            ..Toleration::default()
        };
        assert!(toleration.tolerates(&taint("a=b:NoSchedule")));
        assert!(!toleration.tolerates(&taint("a=c:NoSchedule")));
        assert!(!toleration.tolerates(&taint("a=b:NoExecute")));
        assert!(!toleration.tolerates(&taint("x=b:NoSchedule")));
    }

    #[test]
    fn text_and_back() {
        for text in ["a=b:NoSchedule", "example.com/x:NoExecute"] {
            assert_eq!(taint(text).to_string(), text);
        }
        for bad in ["", "a", "a=b", "a=b:Never", ":NoSchedule", "a b:NoSchedule"] {
            assert_eq!(bad.parse::<Taint>(), Err(InvalidTaint), "{bad}");
        }
    }
}
