//! From an object along the steps to values; `jsonpath.go` of client-go.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::{Part, Slice, Step};

/// A value of the object, or one that the template says.
pub(super) type Found<'a> = Cow<'a, Value>;

type Outcome<'a> = Result<Vec<Found<'a>>, String>;

/// What each part leads to, in order; a range's parts once for each of its values.
pub(super) fn parts<'a>(
    parts: &'a [Part],
    object: &'a Value,
) -> Result<Vec<Vec<Found<'a>>>, String> {
    let mut found = Vec::new();
    gather(parts, Cow::Borrowed(object), &mut found)?;
    Ok(found)
}

fn gather<'a>(
    parts: &'a [Part],
    object: Found<'a>,
    found: &mut Vec<Vec<Found<'a>>>,
) -> Result<(), String> {
    for part in parts {
        match part {
            Part::Text(text) => found.push(vec![Cow::Owned(text.as_str().into())]),
            Part::Expression(steps) => found.push(walk(steps, vec![object.clone()])?),
            Part::Range(over, body) => {
                for value in walk(over, vec![object.clone()])? {
                    gather(body, value, found)?;
                }
            }
        }
    }
    Ok(())
}

fn walk<'a>(steps: &'a [Step], from: Vec<Found<'a>>) -> Outcome<'a> {
    steps.iter().try_fold(from, |values, step| take(step, values))
}

fn take<'a>(step: &'a Step, values: Vec<Found<'a>>) -> Outcome<'a> {
    let mut found = Vec::new();
    match step {
        Step::Field(name) => found.extend(values.into_iter().filter_map(|value| get(value, name))),
        Step::Wildcard => values.into_iter().for_each(|value| found.extend(children(value))),
        Step::Recursive => values.into_iter().for_each(|value| descend(value, &mut found)),
        Step::Literal(literal) => found.extend(values.iter().map(|_| Cow::Borrowed(literal))),
        Step::Slice(slice) => {
            for value in values.into_iter().filter(|value| !value.is_null()) {
                found.extend(sliced(*slice, value)?);
            }
        }
        Step::Union(several) => {
            for steps in several {
                found.extend(walk(steps, values.clone())?);
            }
        }
        Step::Filter { left, operator, right } => {
            for value in values {
                if !value.is_array() {
                    let shown = super::go_text(&value);
                    return Err(format!("{shown} is not array or slice and cannot be filtered"));
                }
                for item in children(value) {
                    if holds(&item, left, operator, right)? {
                        found.push(item);
                    }
                }
            }
        }
    }
    Ok(found)
}

fn get<'a>(value: Found<'a>, name: &str) -> Option<Found<'a>> {
    match value {
        Cow::Borrowed(value) => value.as_object()?.get(name).map(Cow::Borrowed),
        Cow::Owned(mut value) => value.as_object_mut()?.remove(name).map(Cow::Owned),
    }
}

fn children(value: Found<'_>) -> Vec<Found<'_>> {
    match value {
        Cow::Borrowed(Value::Array(items)) => items.iter().map(Cow::Borrowed).collect(),
        Cow::Borrowed(Value::Object(map)) => map.values().map(Cow::Borrowed).collect(),
        Cow::Owned(Value::Array(items)) => items.into_iter().map(Cow::Owned).collect(),
        Cow::Owned(Value::Object(map)) => {
            map.into_iter().map(|(_, value)| Cow::Owned(value)).collect()
        }
        _ => Vec::new(),
    }
}

/// The value and all below it that has anything in it; to Go also a text has characters in it.
/// Objects come from messages, whose depth is bounded where they are read.
fn descend<'a>(value: Found<'a>, found: &mut Vec<Found<'a>>) {
    let has = match &*value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !text.is_empty(),
        _ => false,
    };
    if has {
        found.push(value.clone());
        children(value).into_iter().for_each(|child| descend(child, found));
    }
}

fn sliced(slice: Slice, value: Found<'_>) -> Outcome<'_> {
    let Value::Array(items) = &*value else {
        return Err(format!("{} is not array or slice", go_type(&value)));
    };
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let from_end = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
    let from = from_end(slice.from.unwrap_or(0));
    let to = match slice.to {
        // The one behind the last, counted from the end.
        Some(0) if slice.single => length,
        Some(to) => from_end(to),
        None => length,
    };
    if from == to {
        return Ok(Vec::new());
    }
    let outside = |at: i64| Err(format!("array index out of bounds: index {at}, length {length}"));
    if from >= length || from < 0 {
        return outside(from);
    }
    if to > length || to < 0 {
        return outside(to - 1);
    }
    if from > to {
        return Err(format!("starting index {from} is greater than ending index {to}"));
    }
    let step = slice.step.unwrap_or(1);
    let Some(step) = usize::try_from(step).ok().filter(|step| *step > 0) else {
        return Err(format!("step must be > 0, got {step}"));
    };
    let (from, count) = (usize::try_from(from), usize::try_from(to - from));
    let (from, count) = (from.unwrap_or_default(), count.unwrap_or_default());
    Ok(children(value).into_iter().skip(from).take(count).step_by(step).collect())
}

fn holds(item: &Value, left: &[Step], operator: &str, right: &[Step]) -> Result<bool, String> {
    let one = |steps| -> Result<Option<Value>, String> {
        let mut values = walk(steps, vec![Cow::Borrowed(item)])?;
        match values.len() {
            0 => Ok(None),
            1 => Ok(values.pop().map(Cow::into_owned)),
            _ => Err("can only compare one element at a time".into()),
        }
    };
    if operator == "exists" {
        return Ok(walk(left, vec![Cow::Borrowed(item)]).is_ok_and(|values| !values.is_empty()));
    }
    let (Some(left), Some(right)) = (one(left)?, one(right)?) else { return Ok(false) };
    let order = compare(&left, &right)?;
    Ok(match operator {
        "==" => order == Ordering::Equal,
        "!=" => order != Ordering::Equal,
        "<" => order == Ordering::Less,
        ">" => order == Ordering::Greater,
        "<=" => order != Ordering::Greater,
        ">=" => order != Ordering::Less,
        other => return Err(format!("unrecognized filter operator {other}")),
    })
}

fn compare(left: &Value, right: &Value) -> Result<Ordering, String> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Ok(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Ok(left.cmp(right)),
        (Value::Number(a), Value::Number(b)) if a.is_f64() == b.is_f64() => {
            match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => Ok(a.cmp(&b)),
                _ => Ok(a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Less)),
            }
        }
        (Value::Array(_) | Value::Object(_) | Value::Null, _)
        | (_, Value::Array(_) | Value::Object(_) | Value::Null) => {
            Err("invalid type for comparison".into())
        }
        _ => Err("incompatible types for comparison".into()),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
