//! Text to documents: YAML (of which JSON is a part), strictly, within bounds.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::compose::YamlError;
use crate::place::Source;
use crate::render::excerpt;
use crate::stream::compose_all;
use crate::{FieldPath, Place};

/// The longest text that is read: what Kubernetes' API server takes in one request.
pub const MAX_MANIFEST_BYTES: usize = 3 * 1024 * 1024;

/// The most objects in one file: the largest published manifests have a few hundred.
pub const MAX_OBJECTS: usize = 10_000;

/// One object of a file, and where its fields stand in it.
#[derive(Clone, Debug)]
pub struct Document {
    /// The object; always a JSON object.
    pub value: Value,
    /// Its `kind`; empty where it has none.
    pub kind: String,
    /// Its `apiVersion`; empty where it has none.
    pub api_version: String,
    /// Its `metadata.name`; empty where it has none.
    pub name: String,
    source: Arc<Source>,
    /// Which of the file's documents that are not empty.
    index: usize,
    /// Where in that document the object is: the root, or an item of a list.
    root: FieldPath,
}

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    /// The file's name.
    pub file: String,
    /// Where in it; `None` where it is about the whole.
    pub place: Option<Place>,
    /// What is wrong, in one line.
    pub message: String,
    /// The source line with a caret below; empty without a place.
    pub excerpt: String,
}

/// Every reason why a file could not be read; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadErrors(pub Vec<ReadError>);

/// Reads the objects of a file: several YAML documents, empty ones passed over, lists (`kind:
/// List` and the like) taken apart, or JSON, also one object after another. `name` is what errors call the file.
///
/// YAML is read as Kubernetes reads it: version 1.1's booleans (`yes`, `on`) and octal numbers
/// (`0644`), merge keys, and no key twice. The text is UTF-8, or UTF-16 that says so by its byte
/// order mark, as some editors and shells write it.
///
/// # Errors
/// When the text is no YAML, breaks a bound, or has a document that is not an object. Then none of
/// its objects is given out: half a file is never what was meant.
pub fn read(name: &str, bytes: &[u8]) -> Result<Vec<Document>, ReadErrors> {
    if bytes.len() > MAX_MANIFEST_BYTES {
        let rule = format!(
            "larger than the {} MiB ({MAX_MANIFEST_BYTES} bytes) that a manifest may have; split it",
            MAX_MANIFEST_BYTES / (1024 * 1024)
        );
        return Err(ReadErrors::whole(name, rule));
    }
    let text = decode(bytes).map_err(|undecoded| undecoded.told(name, bytes))?;
    let told = |text: &str, YamlError { place, message }| {
        let excerpt = excerpt(text, place);
        ReadErrors(vec![ReadError { file: name.to_owned(), place: Some(place), message, excerpt }])
    };
    check_characters(&text).map_err(|error| told(&text, error))?;
    let composed = compose_all(&text).map_err(|error| told(&text, error))?;
    let (values, nodes): (Vec<Value>, Vec<_>) =
        composed.into_iter().map(|document| (document.value, document.node)).unzip();
    let source =
        Arc::new(Source { name: name.to_owned(), text: text.into_owned(), documents: nodes });
    let mut documents = Vec::new();
    let mut errors = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let document = Document::new(value, &source, index, FieldPath::root());
        take_apart(document, &mut documents, &mut errors);
        if documents.len() + errors.len() > MAX_OBJECTS {
            let rule = format!("more than the {MAX_OBJECTS} objects that one file may have");
            return Err(ReadErrors::whole(name, rule));
        }
    }
    if errors.is_empty() { Ok(documents) } else { Err(ReadErrors(errors)) }
}

impl Document {
    /// The file it comes from.
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// Where `path` of this object, or its nearest ancestor that is written down, stands.
    pub fn locate(&self, path: &FieldPath) -> Option<Place> {
        self.source.locate(self.index, &self.root.join(path))
    }

    /// The text of the file it comes from.
    pub(crate) fn text(&self) -> &str {
        &self.source.text
    }

    fn new(value: Value, source: &Arc<Source>, index: usize, root: FieldPath) -> Self {
        let text = |pointer| {
            let found = value.pointer(pointer).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let (kind, api_version, name) =
            (text("/kind"), text("/apiVersion"), text("/metadata/name"));
        Self { value, kind, api_version, name, source: Arc::clone(source), index, root }
    }

    /// Gives an item of this list the kind that its name says, where it has none: in answers of
    /// Kubernetes' API (`DaemonSetList`) the items have none.
    fn name_kind(&self, item: &mut Value) {
        let Some(fields) = item.as_object_mut() else { return };
        let kind = self.kind.strip_suffix("List").unwrap_or_default();
        if !kind.is_empty() && !fields.contains_key("kind") && !fields.contains_key("apiVersion") {
            fields.insert("apiVersion".into(), self.api_version.clone().into());
            fields.insert("kind".into(), kind.into());
        }
    }

    /// Whether it is a list of objects, such as `kubectl get -o yaml` writes.
    fn is_list(&self) -> bool {
        self.kind.ends_with("List") && self.value.get("items").is_some_and(Value::is_array)
    }
}

fn take_apart(mut document: Document, out: &mut Vec<Document>, errors: &mut Vec<ReadError>) {
    if !document.value.is_object() {
        let place = document.locate(&FieldPath::root());
        errors.push(ReadError {
            file: document.file().to_owned(),
            place,
            message: "not an object: a manifest begins with `apiVersion:` and `kind:`".into(),
            excerpt: place.map_or_else(String::new, |place| excerpt(document.text(), place)),
        });
    } else if document.is_list() {
        let items = document.value.get_mut("items").map(Value::take);
        let Some(Value::Array(items)) = items else { return };
        let root = document.root.field("items");
        for (position, mut item) in items.into_iter().enumerate() {
            document.name_kind(&mut item);
            // Lists may hold lists; the bound on depth ends this.
            let item = Document::new(item, &document.source, document.index, root.index(position));
            take_apart(item, out, errors);
        }
    } else {
        out.push(document);
    }
}

/// Why bytes are not text.
struct Undecoded {
    /// The first byte that is wrong, in what but for it would be UTF-8.
    offset: Option<usize>,
    message: String,
}

impl Undecoded {
    fn told(self, name: &str, bytes: &[u8]) -> ReadErrors {
        let Some(offset) = self.offset else { return ReadErrors::whole(name, self.message) };
        let before = String::from_utf8_lossy(&bytes[..offset]);
        let line = before.rsplit('\n').next().unwrap_or_default();
        let place =
            Place { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 };
        ReadErrors(vec![ReadError {
            file: name.to_owned(),
            place: Some(place),
            message: self.message,
            excerpt: excerpt(&String::from_utf8_lossy(bytes), place),
        }])
    }
}

/// The text without its byte order mark, which is no part of it.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Undecoded> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => {
            Err(Undecoded { offset: None, message: "UTF-32 text: save the file as UTF-8".into() })
        }
        [0xff, 0xfe, units @ ..] => utf16(units, u16::from_le_bytes).map(Cow::Owned),
        [0xfe, 0xff, units @ ..] => utf16(units, u16::from_be_bytes).map(Cow::Owned),
        _ => {
            let text = std::str::from_utf8(bytes).map_err(|error| {
                let offset = error.valid_up_to();
                let byte = bytes.get(offset).copied().unwrap_or_default();
                let message = format!(
                    "not UTF-8 text: byte 0x{byte:02x} at offset {offset}; save the file as UTF-8"
                );
                Undecoded { offset: Some(offset), message }
            })?;
            Ok(Cow::Borrowed(text.strip_prefix('\u{feff}').unwrap_or(text)))
        }
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Undecoded> {
    let broken = |position: usize| {
        // Behind the byte order mark.
        let offset = 2 + 2 * position;
        let message = format!(
            "not UTF-16 text: a broken character at offset {offset}; save the file as UTF-8"
        );
        Undecoded { offset: None, message }
    };
    let (pairs, rest) = bytes.as_chunks();
    let mut position = 0;
    let mut text = String::with_capacity(bytes.len());
    for character in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        let character = character.map_err(|_| broken(position))?;
        position += character.len_utf16();
        text.push(character);
    }
    if rest.is_empty() { Ok(text) } else { Err(broken(position)) }
}

/// Checks that every character may stand in a manifest: no NUL, none that acts on a terminal.
/// JSON takes as they are those from DEL on.
fn check_characters(text: &str) -> Result<(), YamlError> {
    let json = text.trim_start().starts_with('{');
    let allowed = |character: char| {
        !character.is_control()
            || matches!(character, '\t' | '\n' | '\r' | '\u{85}')
            || (json && character >= '\u{7f}')
    };
    let Some(at) = text.find(|character| !allowed(character)) else { return Ok(()) };
    let before = &text[..at];
    let line = before.rsplit('\n').next().unwrap_or_default();
    let place = Place { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 };
    let code = text[at..].chars().next().map_or(0, u32::from);
    let hint = if code == 0 { " (a binary file, or UTF-16 without its mark?)" } else { "" };
    let message = format!("the control character U+{code:04X} may not stand in a manifest{hint}");
    Err(YamlError { place, message })
}

impl ReadErrors {
    fn whole(name: &str, message: String) -> Self {
        let file = name.to_owned();
        Self(vec![ReadError { file, place: None, message, excerpt: String::new() }])
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(Place { line, column }) => {
                write!(f, "{}:{line}:{column}: {}", self.file, self.message)?;
            }
            None => write!(f, "{}: {}", self.file, self.message)?,
        }
        if self.excerpt.is_empty() { Ok(()) } else { write!(f, "\n{}", self.excerpt) }
    }
}

impl fmt::Display for ReadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.0.iter().enumerate() {
            let newline = if position == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ReadError {}
impl std::error::Error for ReadErrors {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values(text: &str) -> Vec<Value> {
        read("f.yaml", text.as_bytes())
            .unwrap()
            .into_iter()
            .map(|document| document.value)
            .collect()
    }

    fn message(text: &[u8]) -> String {
        read("f.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn the_yaml_that_kubernetes_reads() {
        let text =
            "--- # nothing\n---\na: yes\nb: 0644\nc: 1.10\nd: on\ne: \"no\"\nf: {<<: {g: 1}}\n";
        let expected = json!({"a": true, "b": 420, "c": 1.1, "d": true, "e": "no", "f": {"g": 1}});
        assert_eq!(values(text), [expected]);
        assert_eq!(values("\u{feff}a: 1\r\nb: 2\r\n"), [json!({"a": 1, "b": 2})]);
        assert_eq!(values(""), Vec::<Value>::new());
    }

    #[test]
    fn json_is_read_with_its_escapes_and_tabs() {
        let text = "{\n\t\"a\": \"\\ud83d\\ude00\\/\",\n\t\"b\": [\n\t\t1e3\n\t]\n}\n";
        assert_eq!(values(text), [json!({"a": "😀/", "b": [1000]})]);
    }

    #[test]
    fn lists_are_taken_apart_and_places_kept() {
        let text = "kind: List\nitems:\n- kind: A\n  metadata: {name: x}\n- kind: PodList\n  items:\n  - kind: B\n";
        let documents = read("f.yaml", text.as_bytes()).unwrap();
        let kinds: Vec<&str> = documents.iter().map(|document| document.kind.as_str()).collect();
        assert_eq!(kinds, ["A", "B"]);
        assert_eq!(documents[0].name, "x");
        let place = documents[1].locate(&FieldPath::fields("kind")).unwrap();
        assert_eq!(place, Place { line: 7, column: 5 });
    }

    #[test]
    fn a_field_is_found_or_else_its_nearest_ancestor() {
        let text =
            "a: 1\n---\n---\nspec:\n  list:\n  - name: x\n    imagee: y\n  labels:\n    8080: z\n";
        let document = &read("f.yaml", text.as_bytes()).unwrap()[1];
        for (path, line, column) in [
            ("spec.list[0].imagee", 7, 5),
            ("spec.list[0].image", 6, 5),
            ("spec.list[1].image", 5, 3),
            ("spec.labels[8080]", 9, 5),
            ("kind", 4, 1),
            ("", 4, 1),
        ] {
            let place = document.locate(&path.parse().unwrap());
            assert_eq!(place, Some(Place { line, column }), "{path}");
        }
    }

    #[test]
    fn errors_show_the_place() {
        assert_eq!(
            message(b"a: 1\nb:\n  c: 2\n  c: 3\n"),
            "f.yaml:4:3: the key \"c\" is there twice, first in line 3\n  4 |   c: 3\n    |   ^"
        );
        assert!(message(b"a:\n\t- b\n").starts_with("f.yaml:2:"), "{}", message(b"a:\n\t- b\n"));
        assert!(message(b"hello\n").contains("f.yaml:1:1: not an object"));
        assert!(message(b"a: {{ .Values.x }}\n").contains("template"));
    }
}
