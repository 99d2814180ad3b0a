//! kubectl's JSONPath: templates of text and of `{expressions}` over an object.
//!
//! ```text
//! {.items[0].metadata.name}             fields; a dot in a name is written \.
//! {.items[*]} {.a[-1]} {.a[0:4:2]}      all, from the end, slices
//! {.items[?(@.status.phase=="Running")].metadata.name}   those for which it holds
//! {..name}                              of that name at any depth
//! {['metadata.name','spec']} {.a[0,2]}  several
//! {range .items[*]}{.kind}{"\n"}{end}   once for each
//! ```
//!
//! It follows `k8s.io/client-go/util/jsonpath` also where that is odd: what people paste from
//! elsewhere has to print the same. [`parse`] reads, [`eval`] walks; values of maps come in order of
//! their keys, where Go has none.

mod eval;
mod parse;

use serde_json::{Number, Value};

/// A template, read.
#[derive(Debug, PartialEq)]
pub(crate) struct JsonPath {
    parts: Vec<Part>,
}

/// What stands beside each other in a template.
#[derive(Debug, PartialEq)]
enum Part {
    /// Printed as it is.
    Text(String),
    /// `{…}`.
    Expression(Vec<Step>),
    /// `{range …}…{end}`.
    Range(Vec<Step>, Vec<Part>),
}

/// A step on the way to values; each goes from all values that the one before led to.
#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Recursive,
    Slice(Slice),
    Union(Vec<Vec<Step>>),
    Filter {
        left: Vec<Step>,
        operator: String,
        right: Vec<Step>,
    },
    /// A value of its own.
    Literal(Value),
}

/// `[from:to:step]`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Slice {
    from: Option<i64>,
    to: Option<i64>,
    step: Option<i64>,
    /// `[n]`, of which `to` was made.
    single: bool,
}

impl JsonPath {
    /// Reads a template.
    ///
    /// # Errors
    /// In kubectl's words.
    pub(crate) fn template(text: &str) -> Result<Self, String> {
        let parts = parse::template(text)
            .map_err(|error| format!("error parsing jsonpath {text}, {error}"))?;
        Ok(Self { parts })
    }

    /// Reads one expression, with or without its braces and its first dot, as flags take it.
    ///
    /// # Errors
    /// In kubectl's words.
    pub(crate) fn relaxed(text: &str) -> Result<Self, String> {
        let braced = text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
        let inner = braced.unwrap_or(text);
        let field = inner.strip_prefix('.').unwrap_or(inner);
        if field.is_empty() || field.contains(['{', '}']) {
            return Err(format!(
                "unexpected path string, expected a 'name1.name2' or '.name1.name2' or \
                 '{{name1.name2}}' or '{{.name1.name2}}', got {text:?}"
            ));
        }
        Self::template(&format!("{{.{field}}}"))
    }

    /// The template filled in. What is not there is printed as nothing.
    ///
    /// # Errors
    /// In kubectl's words, where something is there and can't be gone through.
    pub(crate) fn print(&self, object: &Value) -> Result<String, String> {
        let found = eval::parts(&self.parts, object)?;
        Ok(found.iter().map(|values| printed(values)).collect())
    }

    /// The values that a single expression leads to.
    ///
    /// # Errors
    /// As [`JsonPath::print`].
    pub(crate) fn find(&self, object: &Value) -> Result<Vec<Value>, String> {
        let found = eval::parts(&self.parts, object)?;
        Ok(found.into_iter().flatten().map(std::borrow::Cow::into_owned).collect())
    }
}

fn printed(values: &[eval::Found<'_>]) -> String {
    let texts: Vec<String> = values.iter().map(|value| json_or_plain(value)).collect();
    texts.join(" ")
}

/// Maps and lists as JSON in one line, as Go writes it; the rest bare.
fn json_or_plain(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Array(_) | Value::Object(_) => {
            let json = value.to_string();
            // In JSON these stand within texts only.
            json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
        }
        other => go_text(other),
    }
}

/// A value as Go's `%v` has it: `map[a:1 b:2]`, `[1 2]`.
pub(crate) fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::Bool(value) => value.to_string(),
        Value::String(text) => text.clone(),
        Value::Number(number) => go_number(number),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// Go writes exponents from 1e21 and below 1e-4, with two digits.
fn go_number(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    if float == 0.0 || (1e-4..1e21).contains(&float.abs()) {
        return float.to_string();
    }
    let text = format!("{float:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests;
