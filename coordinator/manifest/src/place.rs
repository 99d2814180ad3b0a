//! Where in the text: a second reading of the YAML that keeps positions instead of values.

use std::fmt;
use std::sync::OnceLock;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::path::Segment;
use crate::{FieldPath, read};

/// A position in a text: line and column count characters from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A file's text, with its positions read when they are first asked for: most files are right.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file's name, as people know it.
    pub(crate) name: String,
    pub(crate) text: String,
    positions: OnceLock<Vec<Spanned<Node>>>,
}

/// The shape of a document, with the place of every key and item.
#[derive(Debug)]
pub(crate) enum Node {
    Leaf,
    Map(Vec<(Spanned<String>, Node)>),
    List(Vec<Spanned<Node>>),
}

impl Source {
    pub(crate) fn new(name: &str, text: String) -> Self {
        Self { name: name.into(), text, positions: OnceLock::new() }
    }

    /// The place of `path` in the `index`th document that is not empty, or of its nearest ancestor
    /// that is written there. `None` for JSON that is not YAML.
    pub(crate) fn locate(&self, index: usize, path: &FieldPath) -> Option<Place> {
        let documents = self.positions.get_or_init(|| read::yaml_positions(&self.text));
        let document = documents.get(index)?;
        let (mut place, mut node) = (place_of(document), &document.value);
        for segment in path.segments() {
            let Some((next, inner)) = node.step(segment) else { break };
            (place, node) = (next, inner);
        }
        Some(place)
    }
}

impl Node {
    fn step(&self, segment: &Segment) -> Option<(Place, &Self)> {
        match (self, segment) {
            (Self::List(items), Segment::Index(index)) => {
                items.get(*index).map(|item| (place_of(item), &item.value))
            }
            (Self::Map(entries), Segment::Field(key) | Segment::Key(key)) => find(entries, key),
            // A label's key may be all digits.
            (Self::Map(entries), Segment::Index(index)) => find(entries, &index.to_string()),
            _ => None,
        }
    }
}

fn find<'a>(entries: &'a [(Spanned<String>, Node)], key: &str) -> Option<(Place, &'a Node)> {
    let (name, node) = entries.iter().find(|(name, _)| name.value == key)?;
    Some((place_of(name), node))
}

fn place_of<T>(spanned: &Spanned<T>) -> Place {
    let number = |at: u64| usize::try_from(at).unwrap_or(1).max(1);
    Place { line: number(spanned.referenced.line()), column: number(spanned.referenced.column()) }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shape;

        impl<'de> Visitor<'de> for Shape {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Node::Map(entries))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_str<E>(self, _: &str) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Node, D::Error> {
                inner.deserialize_any(self)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                inner: D,
            ) -> Result<Node, D::Error> {
                inner.deserialize_any(self)
            }

            fn visit_bytes<E>(self, _: &[u8]) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
                Ok(Node::Leaf)
            }

            fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
                Ok(Node::Leaf)
            }
        }

        deserializer.deserialize_any(Shape)
    }
}
