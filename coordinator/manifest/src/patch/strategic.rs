//! Applying a strategic merge patch; `k8s.io/apimachinery/pkg/util/strategicpatch` in short.

use serde_json::{Map, Value};

use super::PatchError;
use super::lists::{exactly, find, in_order};
use super::schema::{Field, Key, List, Type};

/// What is to be done with a map or an item: `replace` or `delete`.
pub(super) const DIRECTIVE: &str = "$patch";
/// Which fields of a map may stay.
pub(super) const RETAIN: &str = "$retainKeys";
/// Before a list's name: its order.
pub(super) const ORDER: &str = "$setElementOrder/";
/// Before a list's name: which texts go from it.
pub(super) const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;

/// The object with the patch applied.
pub(super) fn merged(object: Object, patch: Object) -> Result<Object, PatchError> {
    merge_map(object, patch, Type::Object)
}

fn merge_map(mut live: Object, mut patch: Object, of: Type) -> Result<Object, PatchError> {
    match patch.remove(DIRECTIVE) {
        None => {}
        Some(Value::String(word)) if word == "replace" => return without_directives(patch),
        Some(Value::String(word)) if word == "delete" => return Ok(Map::new()),
        Some(other) => return Err(unknown_directive(&other)),
    }
    retain(&mut live, &mut patch)?;
    order_lists(&mut live, &mut patch, of)?;
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix(DELETE_FROM) {
            delete_from(&mut live, list, &value).map_err(|error| error.within(&key))?;
            continue;
        }
        let field = of.field(&key);
        let merged = match (live.remove(&key), value) {
            (_, Value::Null) => continue,
            (Some(Value::Object(live)), Value::Object(patch)) => {
                merge_map(live, patch, field.of).map(|map| Some(Value::Object(map)))
            }
            (Some(Value::Array(live)), Value::Array(patch)) => {
                merge_list(live, patch, field).map(|list| Some(Value::Array(list)))
            }
            (_, value) => taken(value),
        };
        if let Some(merged) = merged.map_err(|error| error.within(&key))? {
            live.insert(key, merged);
        }
    }
    Ok(live)
}

/// Obeys `$retainKeys`: what is not among them goes.
fn retain(live: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN) else { return Ok(()) };
    let Value::Array(keys) = keys else {
        return Err(PatchError::new("must be a list").within(RETAIN));
    };
    let kept = |key: &str| keys.iter().any(|kept| kept.as_str() == Some(key));
    let patched = patch.iter().filter(|(key, value)| !value.is_null() && !key.starts_with('$'));
    if let Some((key, _)) = patched.into_iter().find(|(key, _)| !kept(key)) {
        let rule = format!("has no {key:?}, which the patch sets");
        return Err(PatchError::new(rule).within(RETAIN));
    }
    live.retain(|key, _| kept(key));
    Ok(())
}

/// Merges and orders the lists for which the patch gives an order, and takes them out of it.
fn order_lists(live: &mut Object, patch: &mut Object, of: Type) -> Result<(), PatchError> {
    let directives: Vec<String> =
        patch.keys().filter(|key| key.starts_with(ORDER)).cloned().collect();
    for directive in directives {
        let name = directive.trim_start_matches(ORDER).to_owned();
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(PatchError::new("must be a list").within(&directive));
        };
        let field = of.field(&name);
        let by = match field.list {
            List::Keyed(key) => Some(key),
            List::Set | List::Atomic => None,
        };
        if let Some(Value::Array(items)) = patch.get(&name) {
            check_order(items, &order, by).map_err(|error| error.within(&directive))?;
        }
        let list = match (live.get(&name), patch.remove(&name)) {
            (Some(Value::Array(before)), None) => before.clone(),
            (Some(Value::Array(before)), Some(Value::Array(patch))) => {
                merge_list(before.clone(), patch, field).map_err(|error| error.within(&name))?
            }
            (None, Some(Value::Array(patch))) => taken_list(patch)?,
            (_, None) => continue,
            (_, Some(other)) => {
                patch.insert(name, other);
                continue;
            }
        };
        let before = live.get(&name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let ordered = in_order(list, &order, before, by);
        live.insert(name, Value::Array(ordered));
    }
    Ok(())
}

/// Checks that the items of a patch's list are in its order, and in that order.
fn check_order(items: &[Value], order: &[Value], by: Option<Key>) -> Result<(), PatchError> {
    let set = items.iter().filter(|item| item.get(DIRECTIVE).is_none());
    let places: Option<Vec<usize>> = set.map(|item| find(order, item, by)).collect();
    match places {
        Some(places) if places.is_sorted() => Ok(()),
        Some(_) => Err(PatchError::new("the patch has its items in another order")),
        None => Err(PatchError::new("the patch has an item that is not among them")),
    }
}

fn merge_list(live: Vec<Value>, patch: Vec<Value>, field: Field) -> Result<Vec<Value>, PatchError> {
    match field.list {
        List::Atomic => taken_list(patch),
        List::Set => {
            let mut both = Vec::new();
            for item in live.iter().chain(&patch).filter(|item| !item.is_null()) {
                if !both.contains(item) {
                    both.push(item.clone());
                }
            }
            Ok(in_order(both, &patch, &live, None))
        }
        List::Keyed(key) => merge_keyed(live, patch, field.of, key),
    }
}

fn merge_keyed(
    mut live: Vec<Value>,
    patch: Vec<Value>,
    of: Type,
    key: Key,
) -> Result<Vec<Value>, PatchError> {
    let by = Some(key);
    let mut items = Vec::new();
    let mut replaces = false;
    for item in patch {
        match item.get(DIRECTIVE).and_then(Value::as_str) {
            None if item.get(DIRECTIVE).is_none() => {
                key.check(&item)?;
                items.push(item);
            }
            Some("replace") => replaces = true,
            Some("delete") => {
                key.check(&item)?;
                while let Some(place) = exactly(&live, &item, by) {
                    live.remove(place);
                }
            }
            _ => return Err(unknown_directive(&item)),
        }
    }
    if replaces {
        return taken_list(items);
    }
    let mut merged = live.clone();
    for item in &items {
        let Value::Object(patch) = item.clone() else { continue };
        match find(&merged, item, by) {
            Some(place) => {
                let Value::Object(before) = merged[place].take() else { continue };
                let name = item.get(key.field).map_or_else(String::new, plain_text);
                let done = merge_map(before, patch, of);
                merged[place] =
                    Value::Object(done.map_err(|error| error.within(&format!("[{name}]")))?);
            }
            None => merged.extend(taken(item.clone())?),
        }
    }
    Ok(in_order(merged, &items, &live, by))
}

fn delete_from(live: &mut Object, list: &str, gone: &Value) -> Result<(), PatchError> {
    let Value::Array(gone) = gone else { return Err(PatchError::new("must be a list")) };
    if let Some(Value::Array(items)) = live.get_mut(list) {
        items.retain(|item| !gone.contains(item));
    }
    Ok(())
}

/// What stands for a value of a patch where nothing was: the value without directives and nulls,
/// or nothing.
fn taken(value: Value) -> Result<Option<Value>, PatchError> {
    Ok(match value {
        Value::Null => None,
        Value::Object(map) if map.get(DIRECTIVE) == Some(&"delete".into()) => None,
        Value::Object(map) => Some(Value::Object(without_directives(map)?)),
        Value::Array(items) => Some(Value::Array(taken_list(items)?)),
        other => Some(other),
    })
}

fn taken_list(items: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    let marker = |item: &Value| {
        item.as_object().is_some_and(|map| map.len() == 1 && map.contains_key(DIRECTIVE))
    };
    let items = items.into_iter().filter(|item| !marker(item));
    // A null in a list is an item of it, if a wrong one: that is for the door to say.
    let kept = items.map(|item| if item.is_null() { Ok(Some(item)) } else { taken(item) });
    Ok(kept.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn without_directives(map: Object) -> Result<Object, PatchError> {
    let mut kept = Map::new();
    for (key, value) in map {
        let directive = key == DIRECTIVE
            || key == RETAIN
            || key.starts_with(ORDER)
            || key.starts_with(DELETE_FROM);
        if !directive && let Some(value) = taken(value).map_err(|error| error.within(&key))? {
            kept.insert(key, value);
        }
    }
    Ok(kept)
}

fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn unknown_directive(found: &Value) -> PatchError {
    PatchError::new(format!("unknown patch type found: {found}; there are replace and delete"))
        .within(DIRECTIVE)
}
