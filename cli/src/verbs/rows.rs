//! Objects as rows: which columns are shown, and what stands in them.

use crate::args::{GetArgs, Output};
use crate::kinds::{Kind, name_of, namespace_of, pairs};

/// What rows look like.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// With a column for what happened to it.
    events: bool,
    wide: bool,
    /// With a column for the namespace.
    namespaces: bool,
    /// With a column for the labels.
    labels: bool,
    /// With columns for these labels.
    label_columns: Vec<String>,
    /// With the kind before the name, as objects of several kinds are shown.
    mixed: bool,
}

impl Look {
    /// As the flags say.
    pub(crate) fn of(args: &GetArgs, mixed: bool) -> Self {
        Self {
            wide: args.output == Some(Output::Wide),
            namespaces: args.all_namespaces,
            labels: args.show_labels,
            label_columns: args.label_columns.clone(),
            events: args.output_watch_events,
            mixed,
        }
    }

    /// The names of the columns.
    pub(crate) fn heads<K: Kind>(&self) -> Vec<String> {
        let mut heads = Vec::new();
        if self.events {
            heads.push("EVENT".to_owned());
        }
        if self.namespaces && K::NAMES.namespaced {
            heads.push("NAMESPACE".to_owned());
        }
        let columns = K::COLUMNS.iter().filter(|column| self.wide || !column.wide);
        heads.extend(columns.map(|column| column.head.to_owned()));
        // As in kubectl, without what stands before the slash.
        let names =
            self.label_columns.iter().map(|label| label.rsplit('/').next().unwrap_or(label));
        heads.extend(names.map(str::to_uppercase));
        if self.labels {
            heads.push("LABELS".into());
        }
        heads
    }

    /// One object and what happened to it, as seen at `now` (seconds since 1970).
    pub(crate) fn row<K: Kind>(&self, event: &str, item: &K::Object, now: i64) -> Vec<String> {
        let metadata = K::metadata(item);
        let mut row = Vec::new();
        if self.events {
            row.push(event.to_owned());
        }
        if self.namespaces && K::NAMES.namespaced {
            row.push(namespace_of(metadata).to_owned());
        }
        let cells = K::row(item, now).into_iter().zip(K::COLUMNS);
        let cells = cells.filter(|(_, column)| self.wide || !column.wide);
        row.extend(cells.map(|(cell, column)| match column.head {
            "NAME" if self.mixed => format!("{}/{}", K::NAMES.singular, name_of(metadata)),
            _ => cell,
        }));
        let label =
            |name: &String| metadata.and_then(|metadata| metadata.labels.get(name).cloned());
        row.extend(
            self.label_columns.iter().map(|name| label(name).unwrap_or_else(|| "<none>".into())),
        );
        if self.labels {
            let labels = metadata.map(|metadata| pairs(&metadata.labels, ","));
            row.push(labels.unwrap_or_else(|| "<none>".into()));
        }
        row
    }
}
