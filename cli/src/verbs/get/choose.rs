//! Which of the objects found are shown, and in which order: `--field-selector`, `--sort-by`.

use std::cmp::Ordering;

use serde_json::Value;

use crate::error::Error;
use crate::jsonpath::{JsonPath, go_text};

/// The fields by which Kubernetes lets objects be selected: of every kind, then kind by kind.
const FIELDS: &[(&str, &[&str])] = &[
    ("", &["metadata.name", "metadata.namespace"]),
    ("Pod", &["spec.nodeName", "status.phase"]),
    ("Node", &["spec.unschedulable"]),
    (
        "Event",
        &[
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.uid",
            "reason",
            "type",
        ],
    ),
];

/// What fields must be, and must not be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(Vec<Field>);

#[derive(Debug, PartialEq, Eq)]
struct Field {
    path: String,
    value: String,
    equal: bool,
}

impl Fields {
    /// `a=b,c!=d`, for objects of these kinds.
    pub(crate) fn parse(text: &str, kinds: &[&str]) -> Result<Self, Error> {
        let field = |part: &str| {
            let (path, value, equal) = if let Some((path, value)) = part.split_once("!=") {
                (path, value, false)
            } else if let Some((path, value)) = part.split_once('=') {
                (path, value.strip_prefix('=').unwrap_or(value), true)
            } else {
                let rule = "can't understand it; write FIELD=VALUE or FIELD!=VALUE";
                return Err(Error::Usage(format!("invalid selector {text:?}: {rule}")));
            };
            for kind in kinds {
                let known = |(of, fields): &(&str, &[&str])| {
                    (of.is_empty() || of == kind) && fields.contains(&path)
                };
                if !FIELDS.iter().any(known) {
                    return Err(Error::Usage(format!("{kind}: field label not supported: {path}")));
                }
            }
            Ok(Field { path: path.into(), value: value.into(), equal })
        };
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(field)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether nothing is asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the object is one of those meant.
    pub(crate) fn match_object(&self, object: &Value) -> bool {
        self.0.iter().all(|Field { path, value, equal }| {
            let found = path.split('.').fold(object, |object, field| &object[field]);
            let text = match found {
                // As in Kubernetes: a flag that is not there is not set.
                Value::Null if path == "spec.unschedulable" => "false".into(),
                Value::Null => String::new(),
                other => go_text(other),
            };
            (text == *value) == *equal
        })
    }
}

/// Sorts objects by what `path` leads to in each; those that have nothing there come first.
pub(crate) fn sort<T>(items: &mut [(Value, T)], path: &JsonPath, said: &str) -> Result<(), Error> {
    let mut keys = Vec::new();
    for (object, _) in items.iter() {
        let found = path.find(object).map_err(Error::Failed)?;
        keys.push(found.into_iter().next());
    }
    if !items.is_empty() && keys.iter().all(Option::is_none) {
        let rule = format!("couldn't find any field with path {said:?} in the list of objects");
        return Err(Error::Usage(rule));
    }
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|a, b| compare(keys[*a].as_ref(), keys[*b].as_ref()));
    // Each item goes to the place that its number has in the order.
    let mut places = vec![0; items.len()];
    order.iter().enumerate().for_each(|(place, item)| places[*item] = place);
    for item in 0..items.len() {
        while places[item] != item {
            let place = places[item];
            items.swap(item, place);
            places.swap(item, place);
        }
    }
    Ok(())
}

fn compare(one: Option<&Value>, other: Option<&Value>) -> Ordering {
    match (one, other) {
        (Some(Value::Number(one)), Some(Value::Number(other))) => {
            one.as_f64().partial_cmp(&other.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Some(Value::String(one)), Some(Value::String(other))) => natural(one, other),
        (Some(one), Some(other)) => go_text(one).cmp(&go_text(other)),
        (one, other) => one.is_some().cmp(&other.is_some()),
    }
}

/// `n2` before `n10`.
fn natural(one: &str, other: &str) -> Ordering {
    let (mut a, mut b) = (one, other);
    loop {
        match (a.chars().next(), b.chars().next()) {
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let (digits_a, rest_a) = digits(a);
                let (digits_b, rest_b) = digits(b);
                let by_value = digits_a.len().cmp(&digits_b.len()).then(digits_a.cmp(digits_b));
                if by_value != Ordering::Equal {
                    return by_value;
                }
                (a, b) = (rest_a, rest_b);
            }
            (Some(x), Some(y)) if x == y => {
                (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]);
            }
            (x, y) => return x.cmp(&y).then_with(|| one.cmp(other)),
        }
    }
}

/// The number that a text begins with, without its leading zeros, and the rest.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (digits.trim_start_matches('0'), rest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_select() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1"},
                         "status": {"phase": "Running"}});
        for (text, matches) in [
            ("", true),
            ("spec.nodeName=n1", true),
            ("spec.nodeName==n1,status.phase!=Running", false),
            ("metadata.namespace=", true),
            ("metadata.name!=p", false),
        ] {
            let fields = Fields::parse(text, &["Pod"]).unwrap();
            assert_eq!(fields.match_object(&pod), matches, "{text}");
        }
        let node = Fields::parse("spec.unschedulable=false", &["Node"]).unwrap();
        assert!(node.match_object(&json!({"spec": {}})));
        assert!(!node.match_object(&json!({"spec": {"unschedulable": true}})));
        for text in ["a", "status.hostIP=1"] {
            assert!(Fields::parse(text, &["Pod"]).is_err(), "{text}");
        }
    }

    #[test]
    fn objects_are_sorted() {
        let sorted = |values: &[Value]| {
            let mut items: Vec<_> = values.iter().map(|v| (json!({"k": v}), v.clone())).collect();
            let path = JsonPath::relaxed(".k").unwrap();
            sort(&mut items, &path, ".k").unwrap();
            items.into_iter().map(|(_, value)| value).collect::<Vec<Value>>()
        };
        assert_eq!(
            sorted(&[json!("n10"), json!("n9"), json!("n1"), json!("m")]),
            [json!("m"), json!("n1"), json!("n9"), json!("n10")]
        );
        assert_eq!(sorted(&[json!(10), json!(9), json!(1.5)]), [json!(1.5), json!(9), json!(10)]);
        let path = JsonPath::relaxed(".k").unwrap();
        let mut some = vec![(json!({"k": 1}), 1), (json!({}), 2), (json!({"k": 0}), 3)];
        sort(&mut some, &path, ".k").unwrap();
        assert_eq!(some.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [2, 3, 1]);
        let error = sort(&mut [(json!({}), 1)], &path, ".k").unwrap_err().to_string();
        assert!(error.contains("couldn't find any field with path \".k\""), "{error}");
    }
}
