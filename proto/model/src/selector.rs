//! Labels, and the one rule by which requirements on them are met (apimachinery's `labels`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Labels by key.
pub type Labels = BTreeMap<String, String>;

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The label is there, with one of the values.
    In,
    /// The label is absent, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The label is an integer greater than the one value.
    Gt,
    /// The label is an integer less than the one value.
    Lt,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub values: BTreeSet<String>,
}

/// Requirements of which every one must be met; without any, everything meets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(pub Vec<Requirement>);

/// A text that is not a label selector (`a=b,c!=d,e in (x,y),f notin (z),g,!h,i>1,j<9`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSelector {
    /// The part that could not be read.
    pub part: String,
}

impl Requirement {
    /// Whether `labels` meet this requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.get(&self.key).map(String::as_str))
    }

    /// Whether a value, or the lack of one, meets this requirement.
    ///
    /// As in Kubernetes, `Gt` and `Lt` fail where either side is not an integer.
    pub fn matches_value(&self, value: Option<&str>) -> bool {
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => self.compare(value, |value, bound| value > bound),
            Operator::Lt => self.compare(value, |value, bound| value < bound),
        }
    }

    fn compare(&self, value: Option<&str>, holds: fn(i64, i64) -> bool) -> bool {
        let value = value.and_then(|value| value.parse().ok());
        let bound = self.values.first().and_then(|bound| bound.parse().ok());
        self.values.len() == 1 && value.zip(bound).is_some_and(|(value, bound)| holds(value, bound))
    }
}

impl Selector {
    /// A selector that wants each of `labels` as it is.
    pub fn from_labels(labels: &Labels) -> Self {
        let equal = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: [value.clone()].into(),
        };
        Self(labels.iter().map(equal).collect())
    }

    /// Whether `labels` meet every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }
}

impl FromStr for Selector {
    type Err = InvalidSelector;

    /// Reads kubectl's `-l` syntax. Only an empty text selects everything: an empty part is a
    /// mistake, and would widen what is meant.
    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        split_outside_parentheses(text)
            .map(str::trim)
            .map(parse_requirement)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Operator {
    /// Kubernetes' word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
            Self::Gt => "Gt",
            Self::Lt => "Lt",
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = || self.values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match (self.operator, self.values.len()) {
            (Operator::In, 1) => write!(f, "{}={}", self.key, values()),
            (Operator::NotIn, 1) => write!(f, "{}!={}", self.key, values()),
            (Operator::In, _) => write!(f, "{} in ({})", self.key, values()),
            (Operator::NotIn, _) => write!(f, "{} notin ({})", self.key, values()),
            (Operator::Exists, _) => f.write_str(&self.key),
            (Operator::DoesNotExist, _) => write!(f, "!{}", self.key),
            (Operator::Gt, _) => write!(f, "{}>{}", self.key, values()),
            (Operator::Lt, _) => write!(f, "{}<{}", self.key, values()),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for InvalidSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unable to parse requirement {:?}: write it as key=value, key!=value, ",
            self.part
        )?;
        f.write_str("key in (a,b), key notin (a,b), key, !key, key>number or key<number")
    }
}

impl std::error::Error for InvalidSelector {}

/// A label's or taint's key: an optional DNS subdomain and `/`, then at most 63 of
/// `A-Z a-z 0-9 - _ .` with a letter or digit at both ends.
pub fn valid_qualified_name(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    !name.is_empty()
        && valid_label_value(name)
        && prefix.is_none_or(|prefix| crate::NodeName::new(prefix).is_ok())
}

/// A label's value: empty, or at most 63 of `A-Z a-z 0-9 - _ .` with a letter or digit at both
/// ends.
pub fn valid_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.last().is_none_or(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn split_outside_parentheses(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |character| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    })
}

fn parse_requirement(part: &str) -> Result<Requirement, InvalidSelector> {
    let one = |value: &str| BTreeSet::from([value.trim().to_owned()]);
    let (key, operator, values) = if let Some((key, value)) = part.split_once("!=") {
        (key, Operator::NotIn, one(value))
    } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        (key, Operator::In, one(value))
    } else if let Some((key, values)) = split_word(part, "notin") {
        (key, Operator::NotIn, parse_values(values, part)?)
    } else if let Some((key, values)) = split_word(part, "in") {
        (key, Operator::In, parse_values(values, part)?)
    } else if let Some((key, bound)) = part.split_once('>') {
        (key, Operator::Gt, one(bound))
    } else if let Some((key, bound)) = part.split_once('<') {
        (key, Operator::Lt, one(bound))
    } else if let Some(key) = part.strip_prefix('!') {
        (key, Operator::DoesNotExist, BTreeSet::new())
    } else {
        (part, Operator::Exists, BTreeSet::new())
    };
    let key = key.trim();
    let valid = |value: &String| match operator {
        Operator::Gt | Operator::Lt => valid_label_value(value) && value.parse::<i64>().is_ok(),
        _ => valid_label_value(value),
    };
    if !valid_qualified_name(key) || !values.iter().all(valid) {
        return Err(InvalidSelector { part: part.into() });
    }
    Ok(Requirement { key: key.into(), operator, values })
}

fn split_word<'a>(part: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    let (key, rest) = part.split_once(char::is_whitespace)?;
    Some((key, rest.trim_start().strip_prefix(word)?))
}

fn parse_values(text: &str, part: &str) -> Result<BTreeSet<String>, InvalidSelector> {
    text.trim()
        .strip_prefix('(')
        .and_then(|text| text.strip_suffix(')'))
        .map(|list| list.split(',').map(|value| value.trim().to_owned()).collect())
        .ok_or_else(|| InvalidSelector { part: part.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_syntax_of_kubectl() {
        let selector: Selector = "a=b, c!=d,e in (x, y),f notin (z),g,!h".parse().unwrap();
        assert!(selector.matches(&labels(&[("a", "b"), ("e", "y"), ("g", "")])));
        assert!(!selector.matches(&labels(&[("a", "b"), ("e", "y")])));
        assert!(!selector.matches(&labels(&[("a", "b"), ("e", "y"), ("g", ""), ("h", "1")])));
        assert_eq!(selector.to_string(), "a=b,c!=d,e in (x,y),f!=z,g,!h");
        assert_eq!("".parse(), Ok(Selector::default()));
        assert_eq!(" ".parse(), Ok(Selector::default()));
        for bad in ["a b", "=", "e in x", "a=b c", "!", "a in (b", ",", "a=b,", ",a", "a,,b"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let text = "a=b,c!=d,e in (x,y),f notin (y,z),g,!h,i>1,j<22";
        let selector: Selector = text.parse().unwrap();
        assert_eq!(selector.to_string(), text);
        assert_eq!(selector.0[6].operator, Operator::Gt);
        for bad in ["a>", "a>b", "a>=1", "a<1<2", ">1", "a>1.5"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_absent_label_is_not_in_any_set() {
        let not_in: Selector = "a!=b".parse().unwrap();
        assert!(not_in.matches(&labels(&[])));
        assert!(!not_in.matches(&labels(&[("a", "b")])));
    }

    #[test]
    fn greater_and_less_want_integers() {
        let requirement = |operator, value: &str| Requirement {
            key: "n".into(),
            operator,
            values: [value.to_owned()].into(),
        };
        assert!(requirement(Operator::Gt, "5").matches(&labels(&[("n", "6")])));
        assert!(!requirement(Operator::Gt, "5").matches(&labels(&[("n", "5")])));
        assert!(requirement(Operator::Lt, "5").matches(&labels(&[("n", "-1")])));
        assert!(!requirement(Operator::Lt, "5").matches(&labels(&[("n", "x")])));
        assert!(!requirement(Operator::Lt, "x").matches(&labels(&[("n", "1")])));
        assert!(!requirement(Operator::Gt, "5").matches(&labels(&[])));
    }
}
