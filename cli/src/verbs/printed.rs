//! Objects as text: YAML, JSON, names.

use serde_json::{Value, json};

use crate::args::ObjectOutput;
use crate::error::Error;
use crate::kinds::printable;
use crate::out::Out;

/// The object as YAML that reads back as the same object, also by readers of YAML 1.1 (`yes`).
pub(crate) fn yaml(object: &Value) -> Result<String, Error> {
    let options = serde_saphyr::ser_options! { compact_list_indent: true };
    serde_saphyr::to_string_with_options(object, options)
        .map_err(|error| Error::Failed(format!("can't write YAML: {error}")))
}

/// The object as JSON, indented as kubectl does it.
pub(crate) fn json_text(object: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // A Value has only keys that are texts, and a Vec takes every byte.
    let _ = serde::Serialize::serialize(object, &mut serializer);
    bytes.push(b'\n');
    String::from_utf8(bytes).unwrap_or_default()
}

/// Several objects as one.
pub(crate) fn list_of(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}})
}

/// Prints what a verb did to objects, one after the other.
pub(crate) struct Printer {
    output: Option<ObjectOutput>,
    printed: usize,
}

impl Printer {
    /// Prints in this form; `None`: a line that says what was done.
    pub(crate) fn new(output: Option<ObjectOutput>) -> Self {
        Self { output, printed: 0 }
    }

    /// Prints that `object` (`daemonset.apps/x`) was `done`.
    pub(crate) fn print(
        &mut self,
        out: &mut Out,
        name: &str,
        done: &str,
        object: impl FnOnce() -> Result<Value, Error>,
    ) -> Result<(), Error> {
        self.printed += 1;
        match self.output {
            None => out.line(format!("{name} {done}")),
            Some(ObjectOutput::Name) => out.line(name),
            Some(ObjectOutput::Json) => out.text(&json_text(&printable(object()?))),
            Some(ObjectOutput::Yaml) => {
                let separator = if self.printed > 1 { "---\n" } else { "" };
                out.text(&format!("{separator}{}", yaml(&printable(object()?))?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_keeps_its_meaning() {
        let object = json!({"a": "yes", "b": "0644", "c": "1.10", "d": "null", "e": ["x", "y: z"],
            "f": "two\nlines\n", "g": {}, "h": [], "i": "", "j": "012", "k": "on", "l": "~",
            "m": "1e3", "n": "0x1f", "o": "12:30:45", "p": " x", "q": "2026-01-01"});
        let text = yaml(&object).unwrap();
        let back: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, object, "{text}");
        for (key, value) in [("a", "yes"), ("b", "0644"), ("k", "on"), ("c", "1.10")] {
            let line = text.lines().find(|line| line.starts_with(&format!("{key}:"))).unwrap();
            assert!(line.contains(['"', '\'']), "{value} is not quoted: {line}");
        }
    }

    #[test]
    fn json_is_indented_like_kubectls() {
        assert_eq!(json_text(&json!({"a": [1]})), "{\n    \"a\": [\n        1\n    ]\n}\n");
    }
}
