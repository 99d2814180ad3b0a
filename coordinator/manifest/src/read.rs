//! Text to documents: YAML (of which JSON is a part), strictly, within bounds.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::{Error as YamlError, Options, Spanned};

use crate::place::{Node, Source};
use crate::render::excerpt;
use crate::{FieldPath, Place};

/// The longest text that is read: what Kubernetes' API server takes in one request.
pub const MAX_MANIFEST_BYTES: usize = 3 * 1024 * 1024;

/// The deepest nesting: custom resource definitions with recursive schemas, the deepest manifests
/// there are, stay below 60; the reader's stack is safe well beyond 100.
const MAX_DEPTH: usize = 100;

/// The most values that one file may expand to: 3 MiB of the smallest values stay below twice
/// that, and real manifests of that size below a tenth of it.
const MAX_VALUES: usize = 500_000;

/// The most events that aliases may repeat: a hundred uses of a thousand-line anchor.
const MAX_REPEATED: usize = 100_000;

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
/// List` and the like) taken apart, or JSON. `name` is what errors call the file.
///
/// YAML is read as Kubernetes reads it: version 1.1's booleans (`yes`, `on`) and octal numbers
/// (`0644`), merge keys, and no key twice.
///
/// # Errors
/// When the text is no YAML, breaks a bound, or has a document that is not an object. Then none of
/// its objects is given out: half a file is never what was meant.
pub fn read(name: &str, bytes: &[u8]) -> Result<Vec<Document>, ReadErrors> {
    let whole = |message: String| {
        let file = name.to_owned();
        ReadErrors(vec![ReadError { file, place: None, message, excerpt: String::new() }])
    };
    if bytes.len() > MAX_MANIFEST_BYTES {
        let most = MAX_MANIFEST_BYTES / (1024 * 1024);
        return Err(whole(format!("{} bytes are more than the {most} MiB allowed", bytes.len())));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| whole(format!("not UTF-8 text (at byte {})", error.valid_up_to())))?;
    // A byte order mark is no part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Arc::new(Source::new(name, text.to_owned()));
    let values: Vec<Value> = yaml(text).map_err(|error| yaml_error(&source, &error))?;
    let mut documents = Vec::new();
    let mut errors = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let document = Document::new(value, &source, index, FieldPath::root());
        take_apart(document, &mut documents, &mut errors);
    }
    if errors.is_empty() { Ok(documents) } else { Err(ReadErrors(errors)) }
}

/// The positions of the documents of a text that [`read`] has read.
pub(crate) fn yaml_positions(text: &str) -> Vec<Spanned<Node>> {
    // What the first reading took, this one takes too; were it not so, places would be missing.
    yaml(text).unwrap_or_default()
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
        for (position, item) in items.into_iter().enumerate() {
            // Lists may hold lists; the bound on depth ends this.
            let item = Document::new(item, &document.source, document.index, root.index(position));
            take_apart(item, out, errors);
        }
    } else {
        out.push(document);
    }
}

fn yaml<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, YamlError> {
    serde_saphyr::from_multiple_with_options(text, options())
}

fn options() -> Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPEATED },
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_nodes: MAX_VALUES,
            max_events: 2 * MAX_VALUES,
            // The bound on repeated events says all that is to be said about aliases.
            enforce_alias_anchor_ratio: false,
        },
    }
}

fn yaml_error(source: &Source, error: &YamlError) -> ReadErrors {
    let place = error.location().map(|at| {
        let number = |at: u64| usize::try_from(at).unwrap_or(1).max(1);
        Place { line: number(at.line()), column: number(at.column()) }
    });
    ReadErrors(vec![ReadError {
        file: source.name.clone(),
        place,
        message: yaml_message(error),
        excerpt: place.map_or_else(String::new, |place| excerpt(&source.text, place)),
    }])
}

/// The parser's reason in our words where its own speak of its settings.
fn yaml_message(error: &YamlError) -> String {
    use serde_saphyr::budget::BudgetBreach;
    match error {
        YamlError::AliasError { error, .. } => yaml_message(error),
        YamlError::DuplicateMappingKey { key, .. } => {
            format!("the key {:?} is there twice", key.as_deref().unwrap_or_default())
        }
        YamlError::Budget { breach: BudgetBreach::Depth { .. }, .. } => too_deep(),
        YamlError::Budget { .. } => format!("expands to more than {MAX_VALUES} values"),
        YamlError::AliasReplayLimitExceeded { .. }
        | YamlError::AliasReplayStackDepthExceeded { .. } => {
            format!("its aliases repeat more than {MAX_REPEATED} values")
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            // The place is told apart from the message.
            let first = first.split_once(" at line ").map_or(first, |(message, _)| message);
            match first {
                "recursion limit exceeded" => too_deep(),
                "expected string scalar" => {
                    "a key must be text (a template that is still to be filled in?)".into()
                }
                other => other.to_owned(),
            }
        }
    }
}

fn too_deep() -> String {
    format!("nested deeper than {MAX_DEPTH} levels")
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
        assert_eq!(values(text), [json!({"a": "😀/", "b": [1000.0]})]);
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
            "f.yaml:4:3: the key \"c\" is there twice\n  4 |   c: 3\n    |   ^"
        );
        assert!(message(b"a:\n\t- b\n").starts_with("f.yaml:2:"), "{}", message(b"a:\n\t- b\n"));
        assert!(message(b"hello\n").contains("f.yaml:1:1: not an object"));
        assert!(message(b"a: {{ .Values.x }}\n").contains("template"));
    }

    #[test]
    fn what_would_exhaust_the_reader_is_refused_in_a_line() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned()
            + &('b'..'h')
                .zip('a'..)
                .map(|(next, last)| {
                    format!("{next}: &{next} [{}]\n", format!("*{last},").repeat(10))
                })
                .collect::<String>();
        assert!(
            message(bomb.as_bytes()).contains("repeat more than"),
            "{}",
            message(bomb.as_bytes())
        );
        for deep in ["[".repeat(20_000), "- ".repeat(20_000), "{a: ".repeat(20_000)] {
            assert!(
                message(deep.as_bytes()).contains("nested deeper"),
                "{}",
                message(deep.as_bytes())
            );
        }
        let big = vec![b'#'; 10 * 1024 * 1024];
        assert_eq!(message(&big), "f.yaml: 10485760 bytes are more than the 3 MiB allowed");
        assert_eq!(message(b"a: \xff\n"), "f.yaml: not UTF-8 text (at byte 3)");
        let many = "- 1\n".repeat(MAX_VALUES + 1);
        assert!(
            message(many.as_bytes()).contains("expands to more"),
            "{}",
            message(many.as_bytes())
        );
    }
}
