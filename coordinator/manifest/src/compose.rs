//! YAML's events to values: what each document says, and where each part of it stands.
//!
//! The parser is a library's; what is decided here is what Kubernetes' reader decides: merge keys,
//! no key twice, keys that are texts. Everything is counted on the way, so that neither nesting nor
//! aliases can ask for more than a file is allowed. There is no recursion.

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Value};

use crate::Place;
use crate::place::{Inside, Node};
use crate::scalar;

/// The deepest nesting: a DaemonSet has about 20 levels, custom resource definitions with recursive
/// schemas, the deepest manifests there are, stay below 60; whoever walks a value may recurse.
pub(crate) const MAX_DEPTH: usize = 100;

/// The most values in one file, keys and what aliases repeat among them: real manifests of the
/// longest text allowed stay below a fifth of it.
pub(crate) const MAX_VALUES: usize = 500_000;

/// The most values that anchors keep and aliases repeat: a hundred uses of a thousand-line anchor.
pub(crate) const MAX_REPEATED: usize = 100_000;

/// The most bytes of text that anchors keep and aliases repeat: as much as a file may have.
pub(crate) const MAX_REPEATED_BYTES: usize = crate::MAX_MANIFEST_BYTES;

/// One document.
pub(crate) struct Composed {
    pub(crate) value: Value,
    pub(crate) node: Node,
}

/// Why a text is not YAML that can be taken, in one line, and where.
#[derive(Debug)]
pub(crate) struct YamlError {
    pub(crate) place: Place,
    pub(crate) message: String,
}

/// The documents of `text` that are not empty.
pub(crate) fn compose(text: &str) -> Result<Vec<Composed>, YamlError> {
    let mut options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        emit_unresolved_aliases: true,
        // As libyaml reads it.
        block_scalar_eof_without_line_feed: true,
    };
    options.set_emit_comments(false);
    let mut composer = Composer::default();
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| syntax(text, &error))?;
        let place = place_of(&span);
        composer.take(event, place).map_err(|message| YamlError { place, message })?;
    }
    Ok(composer.documents)
}

/// What is built: a stack of open lists and maps.
#[derive(Default)]
struct Composer {
    open: Vec<Open>,
    /// By the parser's number; of this document.
    anchors: BTreeMap<usize, Anchor>,
    values: usize,
    repeated: usize,
    repeated_bytes: usize,
    documents: Vec<Composed>,
}

/// A list or map whose end has not been seen.
struct Open {
    place: Place,
    anchor: usize,
    inside: Collection,
}

enum Collection {
    List(Vec<Value>, Vec<Node>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Map<String, Value>,
    nodes: Vec<(String, Place, Node)>,
    /// The key whose value comes next.
    key: Option<Key>,
    /// Keys that came through a merge: one that is written down replaces them.
    merged: BTreeSet<String>,
    has_merge: bool,
}

enum Key {
    Text(String, Place),
    Merge(Place),
}

/// What an alias stands for.
struct Anchor {
    value: Value,
    size: Size,
}

#[derive(Clone, Copy, Default)]
struct Size {
    values: usize,
    bytes: usize,
    /// Levels below the value itself.
    depth: usize,
}

impl Composer {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(&text, style, anchor, tag.as_deref(), place)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.start(Collection::List(Vec::new(), Vec::new()), anchor, place)
            }
            Event::MappingStart(_, anchor, _) => {
                self.start(Collection::Map(OpenMap::default()), anchor, place)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, place),
            Event::UnresolvedAlias(name) => {
                Err(format!("there is no anchor &{name} before this alias"))
            }
            Event::DocumentStart(..) => {
                self.anchors.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        place: Place,
    ) -> Result<(), String> {
        self.count(1)?;
        let Some(map) = self.wants_key() else {
            let value = scalar::value(text, style, tag)?;
            return self.add(value, Inside::Leaf, anchor, place);
        };
        if text == "<<" && style == ScalarStyle::Plain && tag.is_none() {
            if std::mem::replace(&mut map.has_merge, true) {
                return Err("the key << is there twice; it takes a list of maps".into());
            }
            map.key = Some(Key::Merge(place));
            return Ok(());
        }
        let name = scalar::key(text, style, tag)?;
        map.open_key(name.clone(), place)?;
        self.keep(anchor, &Value::String(name))
    }

    fn start(&mut self, inside: Collection, anchor: usize, place: Place) -> Result<(), String> {
        self.count(1)?;
        if self.wants_key().is_some() {
            return Err(format!("a key must be text{TEMPLATE}"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep());
        }
        self.open.push(Open { place, anchor, inside });
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(Open { place, anchor, inside }) = self.open.pop() else { return Ok(()) };
        let (value, inside) = match inside {
            Collection::List(values, nodes) => (Value::Array(values), Inside::List(nodes)),
            Collection::Map(map) => (Value::Object(map.entries), Inside::Map(map.nodes)),
        };
        self.add(value, inside, anchor, place)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), String> {
        let Some(Anchor { value, size }) = self.anchors.get(&anchor) else {
            return Err("this alias stands within its own anchor".into());
        };
        if self.open.len() + size.depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let (size, key) = (*size, scalar::key_of_value(value));
        self.repeat(size)?;
        if let Some(map) = self.wants_key() {
            let key = key.ok_or("a key must be text, and this alias is none")?;
            return map.open_key(key, place);
        }
        let value = self.anchors.get(&anchor).map(|anchor| anchor.value.clone());
        self.add(value.unwrap_or_default(), Inside::Leaf, 0, place)
    }

    /// The innermost open map, if the next thing in it is a key.
    fn wants_key(&mut self) -> Option<&mut OpenMap> {
        match &mut self.open.last_mut()?.inside {
            Collection::Map(map) if map.key.is_none() => Some(map),
            _ => None,
        }
    }

    /// Puts a whole value where it belongs: into the innermost open list or map, or at the top.
    fn add(
        &mut self,
        value: Value,
        inside: Inside,
        anchor: usize,
        place: Place,
    ) -> Result<(), String> {
        self.keep(anchor, &value)?;
        let node = Node { place, inside };
        match self.open.last_mut().map(|open| &mut open.inside) {
            Some(Collection::List(values, nodes)) => {
                values.push(value);
                nodes.push(node);
                Ok(())
            }
            Some(Collection::Map(map)) => map.close_key(value, node),
            // An empty document, or one that says `null`, says nothing.
            None if value.is_null() => Ok(()),
            None => {
                self.documents.push(Composed { value, node });
                Ok(())
            }
        }
    }

    /// Keeps an anchored value for its aliases. The copy counts as a repetition, so that anchors
    /// within anchors are bounded, too.
    fn keep(&mut self, anchor: usize, value: &Value) -> Result<(), String> {
        if anchor != 0 {
            let size = size_of(value);
            self.repeat(size)?;
            self.anchors.insert(anchor, Anchor { value: value.clone(), size });
        }
        Ok(())
    }

    fn count(&mut self, values: usize) -> Result<(), String> {
        self.values += values;
        if self.values <= MAX_VALUES {
            return Ok(());
        }
        Err(format!("more than the {MAX_VALUES} values that one file may have; split it"))
    }

    fn repeat(&mut self, size: Size) -> Result<(), String> {
        self.repeated += size.values;
        self.repeated_bytes += size.bytes;
        if self.repeated > MAX_REPEATED || self.repeated_bytes > MAX_REPEATED_BYTES {
            return Err(format!(
                "anchors and aliases repeat more than the {MAX_REPEATED} values or \
                 {MAX_REPEATED_BYTES} bytes allowed; write them out"
            ));
        }
        self.count(size.values)
    }
}

impl OpenMap {
    fn open_key(&mut self, name: String, place: Place) -> Result<(), String> {
        if self.entries.contains_key(&name) && !self.merged.contains(&name) {
            let first = self.nodes.iter().find(|(written, ..)| *written == name);
            let line = first.map_or(place.line, |(_, first, _)| first.line);
            return Err(format!("the key {name:?} is there twice, first in line {line}"));
        }
        self.key = Some(Key::Text(name, place));
        Ok(())
    }

    fn close_key(&mut self, value: Value, node: Node) -> Result<(), String> {
        match self.key.take() {
            Some(Key::Text(name, place)) => {
                self.merged.remove(&name);
                self.entries.insert(name.clone(), value);
                self.nodes.push((name, place, node));
                Ok(())
            }
            Some(Key::Merge(place)) => self.merge(value, place),
            // A value without its key does not come from a parser.
            None => Ok(()),
        }
    }

    /// Takes in the entries of a map, or of a list of maps of which the first has the last word.
    fn merge(&mut self, value: Value, place: Place) -> Result<(), String> {
        let wrong = || "<< takes a map or a list of maps".to_owned();
        let maps = match value {
            Value::Array(maps) => maps,
            map => vec![map],
        };
        for map in maps {
            let Value::Object(map) = map else { return Err(wrong()) };
            for (name, value) in map {
                if self.merged.contains(&name) {
                    continue;
                }
                if self.entries.contains_key(&name) {
                    // YAML's rule is that the written one counts, kubectl's reader lets the later.
                    return Err(format!(
                        "the key {name:?} stands before << which has it, too, and readers differ \
                         on which counts: put << first"
                    ));
                }
                self.merged.insert(name.clone());
                self.nodes.push((name.clone(), place, Node { place, inside: Inside::Leaf }));
                self.entries.insert(name, value);
            }
        }
        Ok(())
    }
}

fn size_of(value: &Value) -> Size {
    let mut size = Size { values: 1, ..Size::default() };
    let mut add = |inner: Size| {
        size.values += inner.values;
        size.bytes += inner.bytes;
        size.depth = size.depth.max(inner.depth + 1);
    };
    match value {
        Value::Array(items) => items.iter().for_each(|item| add(size_of(item))),
        Value::Object(entries) => {
            for (name, value) in entries {
                let inner = size_of(value);
                add(Size { values: inner.values + 1, bytes: inner.bytes + name.len(), ..inner });
            }
        }
        Value::String(text) => size.bytes = text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    size
}

/// The parser's reason; in our words where something can be done that its own don't say.
fn syntax(text: &str, error: &ScanError) -> YamlError {
    let mark = error.marker();
    let place = Place { line: mark.line().max(1), column: mark.col() + 1 };
    let about_tabs = matches!(
        error.kind(),
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInPlainScalar
    );
    let tab = indenting_tab(text, place.line);
    if let Some(place) = tab.filter(|tab| about_tabs || tab.line == place.line) {
        let message = "a tab where YAML has only spaces: indent with spaces".into();
        return YamlError { place, message };
    }
    let message = match error.kind() {
        ErrorKind::RecursionLimitExceeded => too_deep(),
        ErrorKind::ExpectedDocumentStart => {
            "more text behind the end of this document: put a line with --- in between".to_owned()
        }
        kind => kind.to_string(),
    };
    let line = text.lines().nth(place.line - 1).unwrap_or_default();
    let hint = if line.contains("{{") { TEMPLATE } else { "" };
    YamlError { place, message: message + hint }
}

const TEMPLATE: &str = " (a template that is still to be filled in?)";

/// The first tab among the spaces before a line's text, from `line` on.
fn indenting_tab(text: &str, line: usize) -> Option<Place> {
    text.lines().enumerate().skip(line - 1).find_map(|(index, text)| {
        let column = text.find('\t')?;
        let indents = text[..column].bytes().all(|byte| byte == b' ');
        indents.then_some(Place { line: index + 1, column: column + 1 })
    })
}

fn too_deep() -> String {
    format!("nested deeper than {MAX_DEPTH} levels")
}

fn place_of(span: &Span) -> Place {
    Place { line: span.start.line().max(1), column: span.start.col() + 1 }
}
