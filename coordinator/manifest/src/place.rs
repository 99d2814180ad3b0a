//! Where in the text the parts of a document stand.

use crate::FieldPath;
use crate::path::Segment;

/// A position in a text: line and column count characters from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A file's text, and the shape of each of its documents that are not empty.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file's name, as people know it.
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) documents: Vec<Node>,
}

/// The shape of a value, with the place of every key and item.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) inside: Inside,
}

/// What is in a value. An alias has nothing in it: its parts stand elsewhere.
#[derive(Debug)]
pub(crate) enum Inside {
    Leaf,
    Map(Vec<(String, Place, Node)>),
    List(Vec<Node>),
}

impl Source {
    /// The place of `path` in the `index`th document that is not empty, or of its nearest ancestor
    /// that is written there.
    pub(crate) fn locate(&self, index: usize, path: &FieldPath) -> Option<Place> {
        let mut node = self.documents.get(index)?;
        let mut place = node.place;
        for segment in path.segments() {
            let Some((next, inner)) = node.step(segment) else { break };
            (place, node) = (next, inner);
        }
        Some(place)
    }
}

impl Node {
    fn step(&self, segment: &Segment) -> Option<(Place, &Self)> {
        match (&self.inside, segment) {
            (Inside::List(items), Segment::Index(index)) => {
                items.get(*index).map(|item| (item.place, item))
            }
            (Inside::Map(entries), Segment::Field(key) | Segment::Key(key)) => find(entries, key),
            // A label's key may be all digits.
            (Inside::Map(entries), Segment::Index(index)) => find(entries, &index.to_string()),
            _ => None,
        }
    }
}

fn find<'a>(entries: &'a [(String, Place, Node)], key: &str) -> Option<(Place, &'a Node)> {
    // The last: a key that is written replaces one that was merged in before it.
    let (_, place, node) = entries.iter().rev().find(|(name, ..)| name == key)?;
    Some((*place, node))
}
