//! Where in an object: `spec.template.spec.containers[0].image`.

use std::fmt;
use std::str::FromStr;

/// One step into an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// A field that the type has (or, for an unknown field, should have).
    Field(String),
    /// An item of a list, counted from 0.
    Index(usize),
    /// An entry of a free map, such as one label.
    Key(String),
}

/// The way from an object's root to one of its fields; empty for the root itself.
///
/// Shown and read as Kubernetes writes it: `.field`, `[0]` for items, `[key]` for map entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath(Vec<Segment>);

/// A text that is not a field path: an empty name, or a bracket without its partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a field path such as spec.containers[0].image")]
pub struct InvalidPath;

impl FieldPath {
    /// The object itself.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The path through these fields: `fields("spec.template")`. Neither `[` nor `]` has a
    /// meaning here; use [`FieldPath::from_str`] for texts from outside.
    pub fn fields(dotted: &str) -> Self {
        Self(dotted.split('.').map(|name| Segment::Field(name.into())).collect())
    }

    /// The field `name` of what this path leads to.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.with(Segment::Field(name.into()))
    }

    /// The field that these names with dots between them lead to.
    #[must_use]
    pub(crate) fn down(&self, dotted: &str) -> Self {
        self.join(&Self::fields(dotted))
    }

    /// The item `index` of the list that this path leads to.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    /// The entry `key` of the map that this path leads to.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.into()))
    }

    /// This path followed by `tail`.
    #[must_use]
    pub fn join(&self, tail: &Self) -> Self {
        Self(self.0.iter().chain(&tail.0).cloned().collect())
    }

    /// Its steps, from the root.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether `other` is this path or an ancestor of it.
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    pub(crate) fn with(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }

    pub(crate) fn push(&mut self, segment: Segment) {
        self.0.push(segment);
    }

    pub(crate) fn pop(&mut self) -> Option<Segment> {
        self.0.pop()
    }

    /// The names of its fields alone, with dots between them, as Go's decoder tells a path.
    pub(crate) fn without_entries(&self) -> String {
        let fields = self.0.iter().filter_map(|segment| match segment {
            Segment::Field(name) => Some(name.as_str()),
            Segment::Index(_) | Segment::Key(_) => None,
        });
        fields.collect::<Vec<_>>().join(".")
    }

    /// The nearest field or entry at or above this path: itself without trailing list indexes.
    pub(crate) fn enclosing_entry(&self) -> Self {
        let items = self.0.iter().rev().take_while(|step| matches!(step, Segment::Index(_)));
        Self(self.0[..self.0.len() - items.count()].to_vec())
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Field(name) if position == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => write!(f, "[{key}]")?,
            }
        }
        Ok(())
    }
}

impl FromStr for FieldPath {
    type Err = InvalidPath;

    /// Reads what `Display` writes. A key of digits alone comes back as an index; whoever follows
    /// the path takes it for a key where it meets a map.
    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let mut segments = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let (key, after) = inner.split_once(']').ok_or(InvalidPath)?;
                segments
                    .push(key.parse().map_or_else(|_| Segment::Key(key.into()), Segment::Index));
                rest = after;
            } else {
                let name = if segments.is_empty() { Some(rest) } else { rest.strip_prefix('.') };
                let name = name.ok_or(InvalidPath)?;
                let end = name.find(['.', '[']).unwrap_or(name.len());
                if end == 0 || name[..end].contains(']') {
                    return Err(InvalidPath);
                }
                segments.push(Segment::Field(name[..end].into()));
                rest = &name[end..];
            }
        }
        Ok(Self(segments))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in [
            "",
            "kind",
            "spec.template.spec.containers[0].image",
            "metadata.labels[a.b/c]",
            "a[1][2].b",
        ] {
            assert_eq!(text.parse::<FieldPath>().unwrap().to_string(), text);
        }
        for bad in [".", "a.", "a..b", "a[", "a]", "a[0]b", ".a"] {
            assert_eq!(bad.parse::<FieldPath>(), Err(InvalidPath), "{bad}");
        }
    }

    #[test]
    fn the_enclosing_entry_is_no_list_item() {
        let path: FieldPath = "spec.command[2]".parse().unwrap();
        assert_eq!(path.enclosing_entry().to_string(), "spec.command");
        assert_eq!(path.enclosing_entry().enclosing_entry().to_string(), "spec.command");
    }
}
