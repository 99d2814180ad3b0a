//! JSON to Kubernetes' types, with everything that does not fit, not just the first of it.
//!
//! serde stops at the first value of a wrong type and passes over unknown fields in silence. Here
//! a [`Probe`] stands between the JSON and the type. It sees the field names that each struct
//! announces, so that it can tell unknown ones and what they may have been meant for; and where a
//! value does not fit, its field is noted, left out, and the whole is read again.
//!
//! What JSON leaves open is decided as Kubernetes' API server does: `null` is an absent field, and
//! where it can't be absent (a map's entry, a list's item) the empty value.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde_json::Value;

use crate::path::Segment;
use crate::suggest::nearest;
use crate::{ErrorKind, FieldError, FieldPath};

/// How many values of a wrong type are told at once: more than anyone mends in one go, and each
/// costs one more reading of the whole.
const MAX_TYPE_ERRORS: usize = 32;

/// How many unknown fields are told: as above, and each is compared with every known one.
const MAX_UNKNOWN: usize = 32;

/// What became of reading an object as a type.
pub(crate) struct Typed<T> {
    /// The object without its misfits; `None` where nothing could be made of it.
    pub(crate) value: Option<T>,
    /// Every unknown field and every value of a wrong type.
    pub(crate) errors: Vec<FieldError>,
    /// The fields that were left out for their type; what depends on them can't be judged.
    pub(crate) left_out: BTreeSet<FieldPath>,
}

/// Reads `value` as a `T`.
pub(crate) fn read_typed<T: DeserializeOwned>(value: &Value) -> Typed<T> {
    let mut errors = Vec::new();
    let mut left_out = BTreeSet::new();
    for _ in 0..=MAX_TYPE_ERRORS {
        let seen =
            RefCell::new(Seen { left_out: std::mem::take(&mut left_out), ..Seen::default() });
        let read = T::deserialize(Probe { value, seen: &seen });
        let seen = seen.into_inner();
        left_out = seen.left_out;
        match read {
            Ok(value) => {
                errors.extend(seen.unknown);
                return Typed { value: Some(value), errors, left_out };
            }
            Err(misfit) => {
                let (path, value) = seen.failed.unwrap_or_default();
                let again = left_out.insert(path.enclosing_entry());
                let detail = misfit.detail(&path, value.as_ref(), seen.failed_in);
                errors.push(FieldError { path, at: None, kind: ErrorKind::Type, value, detail });
                if !again || errors.last().is_some_and(|error| error.path.segments().is_empty()) {
                    break;
                }
            }
        }
    }
    Typed { value: None, errors, left_out }
}

/// What one reading came across.
#[derive(Default)]
struct Seen {
    /// Where the reading is.
    path: FieldPath,
    /// Fields to be passed over.
    left_out: BTreeSet<FieldPath>,
    unknown: Vec<FieldError>,
    /// Where the reading broke off, and the value there where it is short.
    failed: Option<(FieldPath, Option<Value>)>,
    /// The types that the reading is in, outermost first.
    types: Vec<&'static str>,
    /// The innermost type where the reading broke off.
    failed_in: Option<&'static str>,
}

/// Why a value does not fit.
#[derive(Debug)]
struct Misfit {
    /// For people.
    message: String,
    /// What Kubernetes' decoder calls the field's type, where that is a simple one.
    wanted: Option<&'static str>,
}

impl Misfit {
    fn new(message: String) -> Self {
        Self { message, wanted: None }
    }

    /// The message, and behind it the API server's own words: what people search for.
    fn detail(self, path: &FieldPath, value: Option<&Value>, within: Option<&str>) -> String {
        let Self { message, wanted } = self;
        let (Some(wanted), Some(within), Some(value)) = (wanted, within, value) else {
            return message;
        };
        let found = match value {
            Value::Number(number) if wanted.starts_with("int") => format!("number {number}"),
            Value::Number(_) => "number".into(),
            Value::Bool(_) => "bool".into(),
            _ => "string".into(),
        };
        let field = path.without_entries();
        format!(
            "{message} (json: cannot unmarshal {found} into Go struct field {within}.{field} of \
             type {wanted})"
        )
    }
}

/// A value on its way into a type.
struct Probe<'a> {
    value: &'a Value,
    seen: &'a RefCell<Seen>,
}

/// The entries of a map or the fields of a struct.
struct Entries<'a> {
    /// `None` where `null` stands for an empty map.
    entries: Option<serde_json::map::Iter<'a>>,
    /// The names a struct has; `None` for a free map.
    fields: Option<&'static [&'static str]>,
    next: Option<(Segment, &'a Value)>,
    seen: &'a RefCell<Seen>,
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    seen: &'a RefCell<Seen>,
}

/// Reads `value`, which is at `segment` of where the reading is, and notes where it failed.
fn step<'de, S: de::DeserializeSeed<'de>>(
    seed: S,
    segment: Segment,
    value: &Value,
    seen: &RefCell<Seen>,
) -> Result<S::Value, Misfit> {
    seen.borrow_mut().path.push(segment);
    let read = seed.deserialize(Probe { value, seen });
    let mut seen = seen.borrow_mut();
    if read.is_err() && seen.failed.is_none() {
        let shown = (!value.is_object() && !value.is_array()).then(|| value.clone());
        seen.failed = Some((seen.path.clone(), shown));
        seen.failed_in = seen.types.last().copied();
    }
    seen.path.pop();
    read
}

impl<'a> Probe<'a> {
    fn entries(&self, fields: Option<&'static [&'static str]>) -> Option<Entries<'a>> {
        let entries = match self.value {
            Value::Object(map) => Some(map.iter()),
            Value::Null => None,
            _ => return None,
        };
        Some(Entries { entries, fields, next: None, seen: self.seen })
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::String(value) => visitor.visit_str(value),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(value), ..) => visitor.visit_i64(value),
                (_, Some(value), _) => visitor.visit_u64(value),
                (.., value) => visitor.visit_f64(value.unwrap_or(f64::NAN)),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        let Some(fields) = self.entries(Some(fields)) else { return self.deserialize_any(visitor) };
        let seen = self.seen;
        seen.borrow_mut().types.push(name);
        let read = visitor.visit_map(fields);
        seen.borrow_mut().types.pop();
        read
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.entries(None) {
            Some(entries) => visitor.visit_map(entries),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let items: &[Value] = match self.value {
            Value::Array(items) => items,
            Value::Null => &[],
            _ => return self.deserialize_any(visitor),
        };
        visitor.visit_seq(Items { items: items.iter().enumerate(), seen: self.seen })
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.value {
            Value::Null => visitor.visit_str(""),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct enum identifier ignored_any
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Misfit;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Misfit> {
        for (name, value) in self.entries.iter_mut().flatten() {
            let mut seen = self.seen.borrow_mut();
            let segment = match self.fields {
                Some(fields) if !fields.contains(&name.as_str()) => {
                    if seen.unknown.len() < MAX_UNKNOWN {
                        let unknown = unknown_field(seen.path.field(name), name, fields);
                        seen.unknown.push(unknown);
                    }
                    continue;
                }
                Some(_) if value.is_null() => continue,
                Some(_) => Segment::Field(name.clone()),
                None => Segment::Key(name.clone()),
            };
            if seen.left_out.contains(&seen.path.with(segment.clone())) {
                continue;
            }
            drop(seen);
            self.next = Some((segment, value));
            return seed.deserialize(name.as_str().into_deserializer()).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: de::DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, Misfit> {
        let (segment, value) =
            self.next.take().ok_or_else(|| Misfit::new("value before its key".into()))?;
        step(seed, segment, value, self.seen)
    }
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Misfit;

    fn next_element_seed<S: de::DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Misfit> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        step(seed, Segment::Index(index), value, self.seen).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = expected.to_string();
        let wanted = match expected.as_str() {
            "i32" | "i64" | "u32" | "u64" => "an integer",
            "a sequence" => "a list",
            "a map" | "a string" => &expected,
            "a boolean" => "true or false",
            "f64" => "a number",
            "IntOrString" => "an integer or a string",
            "Quantity" => "a quantity such as 500m or 1Gi",
            // The rest are the names of types: `Container`, `PodSpec`, ….
            _ => "a map",
        };
        let (found, advice) = match found {
            de::Unexpected::Bool(_) => ("true or false", "; write it in quotes"),
            de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) | de::Unexpected::Float(_) => {
                ("a number", "; write it in quotes")
            }
            de::Unexpected::Str(_) => ("a string", ""),
            de::Unexpected::Seq => ("a list", ""),
            de::Unexpected::Map => ("a map", ""),
            _ => ("nothing", ""),
        };
        let advice = if wanted == "a string" { advice } else { "" };
        let message = format!("must be {wanted}, not {found}{advice}");
        Self { message, wanted: simple_type(&expected) }
    }

    fn invalid_value(_found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = expected.to_string();
        let message = match expected.as_str() {
            "i32" | "i64" | "u32" | "u64" => "must be an integer within its range".into(),
            expected => format!("must be {expected}"),
        };
        Self { message, wanted: simple_type(&expected) }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misfit {}

/// What Go calls the type that serde calls `expected`.
fn simple_type(expected: &str) -> Option<&'static str> {
    match expected {
        "i32" => Some("int32"),
        "i64" => Some("int64"),
        "a string" => Some("string"),
        "a boolean" => Some("bool"),
        _ => None,
    }
}

fn unknown_field(path: FieldPath, name: &str, known: &[&str]) -> FieldError {
    let detail = nearest(name, known.iter().copied())
        .map_or_else(String::new, |meant| format!("did you mean {meant:?}?"));
    FieldError { path, at: None, kind: ErrorKind::Unknown, value: None, detail }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::DaemonSet;
    use k8s_openapi::api::core::v1::{Container, PodSpec};
    use serde_json::{Map, json};

    use super::*;

    fn errors<T: DeserializeOwned>(value: &Value) -> Vec<String> {
        read_typed::<T>(value).errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn everything_that_does_not_fit_is_told_at_once() {
        let found = errors::<DaemonSet>(&json!({
            "metadata": {"labels": {"v": 1.1, "w": "x"}, "lables": {}},
            "spec": {"minReadySeconds": "5", "template": {"spec": {"containers": [
                {"name": "a", "ports": [{"containerPort": "80"}], "command": ["sh", 5]},
                {"name": "b", "imagee": "x", "stdin": "no", "unheardOf": 1},
            ]}}},
        }));
        for expected in [
            "metadata.labels[v]: Invalid value: 1.1: must be a string, not a number; write it in quotes",
            "spec.minReadySeconds: Invalid value: \"5\": must be an integer, not a string",
            "spec.template.spec.containers[0].ports[0].containerPort: Invalid value: \"80\": must be an integer, not a string",
            "spec.template.spec.containers[0].command[1]: Invalid value: 5: must be a string, not a number; write it in quotes",
            "spec.template.spec.containers[1].stdin: Invalid value: \"no\": must be true or false, not a string",
            "metadata.lables: Unknown field: did you mean \"labels\"?",
            "spec.template.spec.containers[1].imagee: Unknown field: did you mean \"image\"?",
            "spec.template.spec.containers[1].unheardOf: Unknown field",
        ] {
            // Behind it may stand the API server's words.
            let told = |error: &String| {
                let rest = error.strip_prefix(expected);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" (json: cannot "))
            };
            assert!(found.iter().any(told), "{expected}\nnot in {found:#?}");
        }
        assert_eq!(found.len(), 8, "{found:#?}");
    }

    #[test]
    fn null_is_absent_or_empty() {
        let read = read_typed::<Container>(&json!({
            "name": "a", "image": null, "env": null, "args": [null, "x"], "resources": null,
        }));
        assert!(read.errors.is_empty());
        let container = read.value.unwrap();
        assert_eq!(container.image, None);
        assert_eq!(container.args, Some(vec![String::new(), "x".into()]));
        let spec =
            read_typed::<PodSpec>(&json!({"containers": [null], "nodeSelector": {"a": null}}));
        assert!(spec.errors.is_empty());
        assert_eq!(spec.value.unwrap().node_selector.unwrap()["a"], "");
    }

    #[test]
    fn quantities_and_ports_may_be_numbers() {
        let read = read_typed::<Container>(&json!({
            "name": "a",
            "resources": {"limits": {"cpu": 1, "memory": 0.5}},
            "livenessProbe": {"httpGet": {"port": 80}},
            "readinessProbe": {"httpGet": {"port": "web"}},
        }));
        assert!(read.errors.is_empty(), "{:?}", read.errors);
        let limits = read.value.unwrap().resources.unwrap().limits.unwrap();
        assert_eq!((limits["cpu"].0.as_str(), limits["memory"].0.as_str()), ("1", "0.5"));
    }

    #[test]
    fn the_errors_are_bounded_and_a_wrong_root_is_one() {
        let unknown: Map<String, Value> = (0..500).map(|i| (format!("u{i}"), json!(i))).collect();
        assert_eq!(errors::<Container>(&Value::Object(unknown)).len(), MAX_UNKNOWN);
        let labels: Map<String, Value> = (0..500).map(|i| (format!("l{i:03}"), json!(i))).collect();
        let found = errors::<DaemonSet>(&json!({"metadata": {"labels": labels}}));
        assert_eq!(found.len(), MAX_TYPE_ERRORS + 1);
        assert_eq!(errors::<DaemonSet>(&json!([])).len(), 1);
        assert_eq!(
            errors::<DaemonSet>(&json!({"spec": {"template": {"spec": {"containers": ["a"]}}}})),
            ["spec.template.spec.containers[0]: Invalid value: \"a\": must be a map, not a string"]
        );
    }
}
