//! Finding and ordering the items of lists that merge.

use serde_json::Value;

use super::PatchError;
use super::schema::Key;

/// What tells an item from others: by a key of maps, or by itself.
pub(super) type By = Option<Key>;

impl Key {
    /// The values of an item that tell it apart.
    fn of(self, item: &Value) -> (Option<&Value>, Option<&str>) {
        let second = self
            .second
            .map(|(field, default)| item.get(field).and_then(Value::as_str).unwrap_or(default));
        (item.get(self.field), second)
    }

    fn leaves_second_out(self, item: &Value) -> bool {
        self.second.is_some_and(|(field, _)| item.get(field).is_none())
    }

    /// An item with nothing but what tells it apart.
    pub(super) fn alone(self, item: &Value) -> serde_json::Map<String, Value> {
        let (first, second) = self.of(item);
        let mut alone = serde_json::Map::new();
        alone.extend(first.map(|value| (self.field.to_owned(), value.clone())));
        if let (Some((field, _)), Some(value)) = (self.second, second) {
            alone.insert(field.to_owned(), value.into());
        }
        alone
    }

    /// Checks that an item can be told apart.
    pub(super) fn check(self, item: &Value) -> Result<(), PatchError> {
        match item {
            Value::Object(map) if map.contains_key(self.field) => Ok(()),
            Value::Object(_) => {
                let rule =
                    format!("map: {item} does not contain declared merge key: {}", self.field);
                Err(PatchError::new(rule))
            }
            _ => Err(PatchError::new("must be a list of maps")),
        }
    }
}

/// Where `item` is in `list`, exactly.
pub(super) fn exactly(list: &[Value], item: &Value, by: By) -> Option<usize> {
    match by {
        None => list.iter().position(|other| other == item),
        Some(key) => list.iter().position(|other| key.of(other) == key.of(item)),
    }
}

/// Where `item` is in `list`; a second key that is not said may be any.
pub(super) fn find(list: &[Value], item: &Value, by: By) -> Option<usize> {
    exactly(list, item, by).or_else(|| {
        let key = by.filter(|key| key.second.is_some())?;
        list.iter().position(|other| {
            key.of(other).0 == key.of(item).0
                && (key.leaves_second_out(item) || key.leaves_second_out(other))
        })
    })
}

/// Puts items in order: those that are in `wanted` as they are there, the rest as in `live`, each
/// before the first of the others that it was before. Kubernetes' way to the letter.
pub(super) fn in_order(items: Vec<Value>, wanted: &[Value], live: &[Value], by: By) -> Vec<Value> {
    let (mut told, mut rest): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| find(wanted, item, by).is_some());
    told.sort_by_key(|item| find(wanted, item, by));
    rest.sort_by_key(|item| exactly(live, item, by).unwrap_or(usize::MAX));
    let mut ordered = Vec::with_capacity(told.len() + rest.len());
    let mut told = told.into_iter().peekable();
    for item in rest {
        let place = exactly(live, &item, by);
        while let Some(next) = told.peek() {
            let before = matches!((place, exactly(live, next, by)), (Some(a), Some(b)) if a < b);
            if before {
                break;
            }
            ordered.extend(told.next());
        }
        ordered.push(item);
    }
    ordered.extend(told);
    ordered
}

/// Whether the items of `some` are in `all` in the same order.
pub(super) fn same_order(some: &[Value], all: &[Value], by: By) -> bool {
    let places: Vec<usize> = some.iter().filter_map(|item| exactly(all, item, by)).collect();
    places.is_sorted()
}
