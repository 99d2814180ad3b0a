//! JSON objects one after another, as programs write them: `kubectl` reads them so, YAML would have
//! a line with `---` in between.

use serde::de::IgnoredAny;

use crate::Place;
use crate::compose::{Composed, YamlError, compose};
use crate::place::{Inside, Node};

/// The documents of a text: YAML, or a stream of JSON objects.
pub(crate) fn compose_all(text: &str) -> Result<Vec<Composed>, YamlError> {
    let Some(parts) = json_objects(text) else { return compose(text) };
    let mut documents = Vec::new();
    let mut from = Place { line: 1, column: 1 };
    for part in parts {
        let composed = compose(part).map_err(|error| at(part, from).unwrap_or(error))?;
        documents.extend(composed.into_iter().map(|mut document| {
            document.node.shift(from);
            document
        }));
        from = moved(end_of(part), from);
    }
    Ok(documents)
}

/// What is wrong with a part, told from where it stands: read once more, with nothing but space
/// before it, as a message may name a line.
fn at(part: &str, from: Place) -> Option<YamlError> {
    let space = "\n".repeat(from.line - 1) + &" ".repeat(from.column - 1);
    compose(&(space + part)).err()
}

/// The text in parts of one object each, if it is nothing but several JSON objects.
fn json_objects(text: &str) -> Option<Vec<&str>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let (mut parts, mut from) = (Vec::new(), 0);
    while let Some(value) = stream.next() {
        value.ok()?;
        parts.push(text.get(from..stream.byte_offset())?);
        from = stream.byte_offset();
    }
    (parts.len() > 1).then_some(parts)
}

/// Where a place of a part that begins at `from` stands in the whole.
const fn moved(place: Place, from: Place) -> Place {
    let column = if place.line == 1 { place.column + from.column - 1 } else { place.column };
    Place { line: place.line + from.line - 1, column }
}

fn end_of(part: &str) -> Place {
    let last = part.rsplit('\n').next().unwrap_or_default();
    Place { line: part.matches('\n').count() + 1, column: last.chars().count() + 1 }
}

impl Node {
    /// Moves all of it behind what stands before `from`.
    fn shift(&mut self, from: Place) {
        self.place = moved(self.place, from);
        match &mut self.inside {
            Inside::Leaf => {}
            Inside::Map(entries) => {
                for (_, place, node) in entries {
                    *place = moved(*place, from);
                    node.shift(from);
                }
            }
            Inside::List(items) => items.iter_mut().for_each(|item| item.shift(from)),
        }
    }
}
