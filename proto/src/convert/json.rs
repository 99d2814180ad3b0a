//! An object's `spec` on the wire: `google.protobuf.Struct` ⇄ JSON.
//!
//! A Struct knows only doubles. Whole numbers up to 2^53 become integers again; that covers every
//! number in a DaemonSet.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as ProtoValue};
use serde_json::{Map, Number, Value};

use crate::error::Invalid;

/// How deep an object may be nested: as deep as protobuf messages are read, and ten times what
/// any DaemonSet needs.
const MAX_DEPTH: usize = 100;

/// A JSON object as a Struct.
pub fn to_struct(object: &Map<String, Value>) -> Struct {
    let fields = object.iter().map(|(key, value)| (key.clone(), to_proto(value))).collect();
    Struct { fields }
}

/// A Struct as a JSON object.
///
/// # Errors
/// When it is nested too deep or holds a number that JSON has not (NaN, infinity).
pub fn from_struct(object: &Struct) -> Result<Map<String, Value>, Invalid> {
    fields(object, 0)
}

fn to_proto(value: &Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        // Beyond 2^53 a double is the nearest there is.
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.iter().map(to_proto).collect() })
        }
        Value::Object(object) => Kind::StructValue(to_struct(object)),
    };
    ProtoValue { kind: Some(kind) }
}

fn fields(object: &Struct, depth: usize) -> Result<Map<String, Value>, Invalid> {
    let within = |key: &String, error: Invalid| match error.field.as_str() {
        "" => Invalid { field: key.clone(), ..error },
        _ => error.within(key),
    };
    object
        .fields
        .iter()
        .map(|(key, value)| match from_proto(value, depth + 1) {
            Ok(value) => Ok((key.clone(), value)),
            Err(error) => Err(within(key, error)),
        })
        .collect()
}

fn from_proto(value: &ProtoValue, depth: usize) -> Result<Value, Invalid> {
    if depth > MAX_DEPTH {
        return Err(Invalid::new("", format!("nested deeper than {MAX_DEPTH}")));
    }
    Ok(match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::NumberValue(number)) => Value::Number(whole_or_double(*number)?),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::ListValue(list)) => Value::Array(
            list.values
                .iter()
                .map(|value| from_proto(value, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        Some(Kind::StructValue(object)) => Value::Object(fields(object, depth)?),
    })
}

fn whole_or_double(number: f64) -> Result<Number, Invalid> {
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= WHOLE {
        // Whole and within 2^53: the conversion is exact.
        #[allow(clippy::cast_possible_truncation)]
        return Ok(Number::from(number as i64));
    }
    Number::from_f64(number).ok_or_else(|| Invalid::new("", "not a finite number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn there_and_back() {
        let value = json!({"a": [1, -2, 0.5, true, null, "x"], "b": {"c": {}}});
        let object = value.as_object().unwrap();
        assert_eq!(from_struct(&to_struct(object)).as_ref(), Ok(object));
    }

    #[test]
    fn what_json_has_not_is_refused_by_path() {
        let number = ProtoValue { kind: Some(Kind::NumberValue(f64::NAN)) };
        let inner = Struct { fields: [("b".to_owned(), number)].into() };
        let value = ProtoValue { kind: Some(Kind::StructValue(inner)) };
        let outer = Struct { fields: [("a".to_owned(), value)].into() };
        assert_eq!(from_struct(&outer).unwrap_err().field, "a.b");
    }

    /// Bytes of a Struct with this many lists in one another, as no client would make them.
    fn nested(levels: usize) -> Vec<u8> {
        let framed = |tag: u8, inner: &[u8]| {
            let mut bytes = vec![tag];
            prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
            bytes.extend_from_slice(inner);
            bytes
        };
        // ListValue.values and Value.list_value, in one another.
        let mut value = Vec::new();
        for _ in 0..levels {
            value = framed(0x32, &framed(0x0a, &value));
        }
        let entry = [framed(0x0a, b"a"), framed(0x12, &value)].concat();
        framed(0x0a, &entry)
    }

    #[test]
    fn bytes_that_nest_without_end_are_refused_before_they_are_values() {
        use prost::Message as _;
        let levels = |count| Struct::decode(nested(count).as_slice());
        // A DaemonSet has about 20.
        let shallow = levels(30).unwrap();
        assert!(from_struct(&shallow).is_ok());
        assert!(levels(10_000).unwrap_err().to_string().contains("recursion limit"));
    }

    #[test]
    fn nesting_is_bounded() {
        let mut object = Struct::default();
        for _ in 0..200 {
            let value = ProtoValue { kind: Some(Kind::StructValue(object)) };
            object = Struct { fields: [("a".to_owned(), value)].into() };
        }
        assert!(from_struct(&object).is_err());
    }
}
