//! `get`, and the ways to print objects.

use std::path::PathBuf;

use clap::Args;

/// `get`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GetArgs {
    /// TYPE[,TYPE...] [NAME...] or TYPE/NAME...: daemonsets (ds), nodes (no), pods (po),
    /// configmaps (cm), secrets, namespaces (ns), controllerrevisions, events (ev), tokens
    #[arg(value_name = "TYPE NAME", required = true)]
    pub(crate) what: Vec<String>,
    /// How to print: wide, yaml, json, name, jsonpath=TEMPLATE, jsonpath-file=FILE,
    /// jsonpath-as-json=TEMPLATE, custom-columns=HEAD:PATH,..., custom-columns-file=FILE
    #[arg(short, long, value_parser = output)]
    pub(crate) output: Option<Output>,
    /// Go on and print what changes
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Print only what changes
    #[arg(long)]
    pub(crate) watch_only: bool,
    /// With what happened to each object: ADDED, MODIFIED or DELETED
    #[arg(long)]
    pub(crate) output_watch_events: bool,
    /// Those with these labels: a=b,c!=d,e in (x,y),f,!g
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Those with these fields: metadata.name=x, spec.nodeName=n1, status.phase!=Running,
    /// involvedObject.kind=Node, type=Warning
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) field_selector: Option<String>,
    /// Events only: about this object (TYPE/NAME)
    #[arg(long = "for", value_name = "TYPE/NAME")]
    pub(crate) about: Option<String>,
    /// Events only: of this type, Normal or Warning
    #[arg(long, value_name = "TYPE", value_parser = ["Normal", "Warning"], ignore_case = true)]
    pub(crate) types: Option<String>,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Without the line of column names
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// Labels as the last column
    #[arg(long)]
    pub(crate) show_labels: bool,
    /// These labels as columns
    #[arg(short = 'L', long, value_name = "LABEL", value_delimiter = ',')]
    pub(crate) label_columns: Vec<String>,
    /// In order of a field: .metadata.creationTimestamp
    #[arg(long, value_name = "PATH", conflicts_with = "watch")]
    pub(crate) sort_by: Option<String>,
    /// With the values of Secrets, which are else shown by their lengths
    #[arg(long)]
    pub(crate) show_secrets: bool,
    /// What is not there is no error
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
}

const EXAMPLES: &str = "\
Examples:
  # On which node each pod of monitoring-daemon is
  everynode get pods -l app=monitoring -o custom-columns=POD:.metadata.name,NODE:.spec.nodeName

  # The names of nodes that are Ready
  everynode get nodes -o jsonpath='{range .items[?(@.status.phase==\"Ready\")]}{.metadata.name}{\"\\n\"}{end}'

  # What happened last, and what happens next
  everynode get events --sort-by=.lastTimestamp
  everynode get pods -w --output-watch-events

  # What is wrong with one object, as far as events tell
  everynode get events --for daemonset/monitoring-daemon --types Warning";

/// How objects are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Wide,
    Yaml,
    Json,
    Name,
    JsonPath(Template),
    JsonPathAsJson(Template),
    CustomColumns(Template),
}

/// A template, as it is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Template {
    Text(String),
    File(PathBuf),
}

/// Reads `-o`.
fn output(text: &str) -> Result<Output, String> {
    let (form, template) = match text.split_once('=') {
        Some((form, template)) => (form, Some(template)),
        None => (text, None),
    };
    let said = |make: fn(Template) -> Output, of: fn(&str) -> Template| match template {
        Some(template) if !template.is_empty() => Ok(make(of(template))),
        _ => Err(format!("template format specified but no template given: {form}=…")),
    };
    let text_of = |text: &str| Template::Text(text.to_owned());
    let file_of = |text: &str| Template::File(text.into());
    match (form, template) {
        ("wide", None) => Ok(Output::Wide),
        ("yaml", None) => Ok(Output::Yaml),
        ("json", None) => Ok(Output::Json),
        ("name", None) => Ok(Output::Name),
        ("jsonpath", _) => said(Output::JsonPath, text_of),
        ("jsonpath-file", _) => said(Output::JsonPath, file_of),
        ("jsonpath-as-json", _) => said(Output::JsonPathAsJson, text_of),
        ("custom-columns", _) => said(Output::CustomColumns, text_of),
        ("custom-columns-file", _) => said(Output::CustomColumns, file_of),
        ("go-template" | "go-template-file" | "template" | "templatefile", _) => Err(
            "Go's templates are not read here; use jsonpath=…, custom-columns=…, or json and jq"
                .into(),
        ),
        _ => Err(format!(
            "unable to match a printer suitable for the output format {text:?}, allowed formats are: \
             custom-columns,custom-columns-file,json,jsonpath,jsonpath-as-json,jsonpath-file,name,\
             wide,yaml"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_to_print() {
        let text = |text: &str| Template::Text(text.into());
        for (said, meant) in [
            ("wide", Output::Wide),
            ("jsonpath={.a=='x'}", Output::JsonPath(text("{.a=='x'}"))),
            ("jsonpath-file=/f", Output::JsonPath(Template::File("/f".into()))),
            ("custom-columns=A:.a", Output::CustomColumns(text("A:.a"))),
        ] {
            assert_eq!(output(said), Ok(meant));
        }
        for said in ["xml", "jsonpath", "jsonpath=", "yaml=x", "go-template={{.a}}"] {
            assert!(output(said).is_err(), "{said}");
        }
    }
}
