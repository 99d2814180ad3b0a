//! The forms in which whole objects are printed: YAML, JSON, names, templates, columns of one's own.

use std::fs;

use serde_json::Value;

use crate::args::{Output, Template};
use crate::error::Error;
use crate::jsonpath::{JsonPath, go_text};
use crate::table::Table;
use crate::verbs::printed::{json_text, yaml};

/// The longest template: what fits a command line many times over.
const MAX_TEMPLATE_BYTES: u64 = 1024 * 1024;

/// How objects are printed.
#[derive(Debug)]
pub(crate) enum Form {
    /// A row each; the kind knows which.
    Rows,
    Yaml,
    Json,
    Name,
    JsonPath {
        template: String,
        path: JsonPath,
    },
    JsonPathAsJson {
        template: String,
        path: JsonPath,
    },
    /// Heads and what stands below.
    Columns(Vec<(String, JsonPath)>),
}

impl Form {
    /// As `-o` says; templates are read here, so that a slip is told before anything is asked.
    pub(crate) fn of(output: Option<&Output>) -> Result<Self, Error> {
        Ok(match output {
            None | Some(Output::Wide) => Self::Rows,
            Some(Output::Yaml) => Self::Yaml,
            Some(Output::Json) => Self::Json,
            Some(Output::Name) => Self::Name,
            Some(Output::JsonPath(template)) => {
                let template = content(template)?;
                Self::JsonPath { path: read(&template)?, template }
            }
            Some(Output::JsonPathAsJson(template)) => {
                let template = content(template)?;
                Self::JsonPathAsJson { path: read(&template)?, template }
            }
            Some(Output::CustomColumns(template)) => Self::Columns(match template {
                Template::Text(text) => columns(text.split(','))?,
                file @ Template::File(_) => from_file(&content(file)?)?,
            }),
        })
    }

    /// The object, or list of objects, as text. Of columns there is a row for each object, below
    /// their heads where `heads` says so.
    pub(crate) fn text(
        &self,
        object: &Value,
        heads: bool,
        table: &mut Table,
    ) -> Result<String, Error> {
        match self {
            Self::Yaml => yaml(object),
            Self::Json => Ok(json_text(object)),
            Self::JsonPath { template, path } => {
                path.print(object).map_err(|error| failed(template, &error))
            }
            Self::JsonPathAsJson { template, path } => {
                let found = path.find(object).map_err(|error| failed(template, &error))?;
                Ok(json_text(&found.into()))
            }
            Self::Columns(columns) => {
                let mut rows = Vec::new();
                if heads {
                    rows.push(columns.iter().map(|(head, _)| head.clone()).collect());
                }
                let items = object["items"].as_array().filter(|_| object["kind"] == "List");
                for item in items.map_or_else(|| std::slice::from_ref(object), Vec::as_slice) {
                    rows.push(row(columns, item)?);
                }
                Ok(table.lay_out(&rows))
            }
            Self::Rows | Self::Name => Ok(String::new()),
        }
    }
}

fn row(columns: &[(String, JsonPath)], item: &Value) -> Result<Vec<String>, Error> {
    let cell = |(_, path): &(String, JsonPath)| {
        let values = path.find(item).map_err(Error::Failed)?;
        let texts: Vec<String> = values.iter().map(go_text).collect();
        Ok(if texts.is_empty() { "<none>".into() } else { texts.join(",") })
    };
    columns.iter().map(cell).collect()
}

/// `HEAD:PATH`s.
fn columns<'a>(specs: impl Iterator<Item = &'a str>) -> Result<Vec<(String, JsonPath)>, Error> {
    let column = |spec: &str| {
        let usage = || {
            Error::Usage(format!(
                "unexpected custom-columns spec: {spec}, expected <header>:<json-path-expr>"
            ))
        };
        let (head, path) = spec.split_once(':').ok_or_else(usage)?;
        Ok((head.to_owned(), JsonPath::relaxed(path).map_err(Error::Usage)?))
    };
    specs.map(column).collect()
}

/// Two lines: heads, and below each its path.
fn from_file(text: &str) -> Result<Vec<(String, JsonPath)>, Error> {
    let mut lines = text.lines();
    let (heads, paths) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let (heads, paths): (Vec<&str>, Vec<&str>) =
        (heads.split_whitespace().collect(), paths.split_whitespace().collect());
    if heads.is_empty() || heads.len() != paths.len() {
        return Err(Error::Usage(format!(
            "number of headers ({}) and field specifications ({}) don't match",
            heads.len(),
            paths.len()
        )));
    }
    let specs: Vec<String> =
        heads.iter().zip(paths).map(|(head, path)| format!("{head}:{path}")).collect();
    columns(specs.iter().map(String::as_str))
}

fn read(template: &str) -> Result<JsonPath, Error> {
    JsonPath::template(template).map_err(Error::Usage)
}

fn content(template: &Template) -> Result<String, Error> {
    match template {
        Template::Text(text) => Ok(text.clone()),
        Template::File(path) => {
            let failed = |source| Error::File { path: path.display().to_string(), source };
            if fs::metadata(path).map_err(failed)?.len() > MAX_TEMPLATE_BYTES {
                let rule = format!("larger than the {MAX_TEMPLATE_BYTES} bytes of a template");
                return Err(Error::Usage(format!("{}: {rule}", path.display())));
            }
            fs::read_to_string(path).map_err(failed)
        }
    }
}

fn failed(template: &str, error: &str) -> Error {
    Error::Failed(format!(
        "error executing jsonpath {template:?}: Error executing template: {error}"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(output: Output, object: &Value) -> String {
        Form::of(Some(&output)).unwrap().text(object, true, &mut Table::default()).unwrap()
    }

    #[test]
    fn columns_of_ones_own() {
        let list = json!({"kind": "List", "items": [
            {"a": {"b": 1, "c": ["x", "y"]}, "m": {"k": "v"}}, {"a": {}}]});
        let columns = "B:.a.b,ALL:{.a.c[*]},M:m,LIST:.a.c".to_owned();
        assert_eq!(
            text(Output::CustomColumns(Template::Text(columns)), &list),
            "B        ALL      M          LIST\n\
             1        x,y      map[k:v]   [x y]\n\
             <none>   <none>   <none>     <none>\n"
        );
    }

    #[test]
    fn jsonpath_as_json_is_a_list() {
        let output = Output::JsonPathAsJson(Template::Text("{.a}{.b}".into()));
        assert_eq!(text(output, &json!({"a": 1})), "[\n    1\n]\n");
    }

    #[test]
    fn slips_are_told_before_anything_is_asked() {
        for (output, words) in [
            (Output::CustomColumns(Template::Text("A".into())), "unexpected custom-columns spec"),
            (Output::JsonPath(Template::Text("{.a".into())), "unclosed action"),
            (Output::JsonPath(Template::File("/no/such".into())), "/no/such: "),
        ] {
            let error = Form::of(Some(&output)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(from_file("A B\n.a\n").is_err());
        assert_eq!(from_file("A  B\n.a .b\n").unwrap().len(), 2);
    }
}
