//! The patch that `apply` makes, on the client's side as kubectl does it.
//!
//! | last applied | now applied | live | |
//! | --- | --- | --- | --- |
//! | any | a value | another, or none | set |
//! | any | a value | the same | left |
//! | a value | nothing | any | removed |
//! | nothing | nothing | any | left: it is somebody else's |

use serde_json::{Map, Value};

use super::lists::{By, exactly, same_order};
use super::schema::{Field, Key, List, Type};
use super::strategic::{DELETE_FROM, DIRECTIVE, ORDER, RETAIN};

type Object = Map<String, Value>;

/// The strategic merge patch that makes `live` what `new` says and `last` said no more. An empty
/// map where nothing is to change.
pub fn three_way(last: &Value, live: &Value, new: &Value) -> Value {
    let none = Map::new();
    let map = |value| Value::as_object(value).unwrap_or(&none);
    Value::Object(maps(map(last), map(live), map(new), Type::Object))
}

fn maps(last: &Object, live: &Object, new: &Object, of: Type) -> Object {
    let mut patch = Map::new();
    for (key, new) in new {
        let field = of.field(key);
        match (live.get(key), new) {
            (None | Some(Value::Null), Value::Null) => {}
            (Some(Value::Object(live)), Value::Object(new)) => {
                let none = Map::new();
                let last = last.get(key).and_then(Value::as_object).unwrap_or(&none);
                let inner = maps(last, live, new, field.of);
                if !inner.is_empty() {
                    patch.insert(key.clone(), Value::Object(inner));
                }
            }
            (Some(Value::Array(live)), Value::Array(new)) => {
                let last = last.get(key).and_then(Value::as_array);
                lists(key, last.map_or(&[][..], Vec::as_slice), live, new, field, &mut patch);
            }
            (Some(live), new) if live == new => {}
            (_, new) => {
                patch.insert(key.clone(), new.clone());
            }
        }
    }
    let dropped = last.iter().filter(|(key, value)| {
        !value.is_null() && !new.contains_key(*key) && live.contains_key(*key)
    });
    patch.extend(dropped.map(|(key, _)| (key.clone(), Value::Null)));
    patch
}

fn lists(
    name: &str,
    last: &[Value],
    live: &[Value],
    new: &[Value],
    field: Field,
    patch: &mut Object,
) {
    match field.list {
        List::Keyed(key) => keyed(name, [last, live, new], field.of, key, patch),
        List::Set => set(name, last, live, new, patch),
        List::Atomic => {
            if live != new {
                patch.insert(name.to_owned(), new.into());
            }
        }
    }
}

fn keyed(name: &str, [last, live, new]: [&[Value]; 3], of: Type, key: Key, patch: &mut Object) {
    let by: By = Some(key);
    let found = |list: &[Value], item| exactly(list, item, by).map(|place| list[place].clone());
    let mut items = Vec::new();
    for item in new {
        let (Some(Value::Object(live)), Some(item_map)) = (found(live, item), item.as_object())
        else {
            let mut added = item.clone();
            if let (Value::Object(added), true) = (&mut added, key.second.is_some()) {
                added.extend(key.alone(item));
            }
            items.push(added);
            continue;
        };
        let last = found(last, item);
        let none = Map::new();
        let last = last.as_ref().and_then(Value::as_object).unwrap_or(&none);
        let mut inner = maps(last, &live, item_map, of);
        // Where one of several fields may be set, one that is there and not wanted has to go.
        let loses = key.one_of && live.keys().any(|field| !item_map.contains_key(field));
        if inner.is_empty() && !loses {
            continue;
        }
        if key.one_of {
            let kept = item_map.iter().filter(|(_, value)| !value.is_null());
            let kept: Vec<Value> = kept.map(|(field, _)| field.as_str().into()).collect();
            inner.insert(RETAIN.into(), kept.into());
        }
        inner.extend(key.alone(item));
        items.push(Value::Object(inner));
    }
    let dropped = last
        .iter()
        .filter(|item| exactly(new, item, by).is_none() && exactly(live, item, by).is_some());
    let dropped: Vec<Value> = dropped
        .map(|item| {
            let mut gone = key.alone(item);
            gone.insert(DIRECTIVE.into(), "delete".into());
            Value::Object(gone)
        })
        .collect();
    items.extend(dropped);
    if items.is_empty() && same_order(new, live, by) {
        return;
    }
    if !live.is_empty() && !new.is_empty() {
        let order = new.iter().map(|item| Value::Object(key.alone(item)));
        patch.insert(format!("{ORDER}{name}"), order.collect());
    }
    if !items.is_empty() {
        patch.insert(name.to_owned(), items.into());
    }
}

fn set(name: &str, last: &[Value], live: &[Value], new: &[Value], patch: &mut Object) {
    let added: Vec<Value> = new.iter().filter(|item| !live.contains(item)).cloned().collect();
    let gone = last.iter().filter(|item| !new.contains(item) && live.contains(item));
    let gone: Vec<Value> = gone.cloned().collect();
    if added.is_empty() && gone.is_empty() && same_order(new, live, None) {
        return;
    }
    if !live.is_empty() {
        patch.insert(format!("{ORDER}{name}"), new.into());
    }
    if !added.is_empty() {
        patch.insert(name.to_owned(), added.into());
    }
    if !gone.is_empty() {
        patch.insert(format!("{DELETE_FROM}{name}"), gone.into());
    }
}
