//! Objects as rows: which columns are shown, and what stands in them.

use crate::args::{GetArgs, GetOutput};
use crate::kinds::{Kind, name_of, namespace_of, pairs};

/// What rows look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    wide: bool,
    /// With a column for the namespace.
    namespaces: bool,
    /// With a column for the labels.
    labels: bool,
    /// With the kind before the name, as objects of several kinds are shown.
    mixed: bool,
}

impl Look {
    /// As the flags say.
    pub(crate) fn of(args: &GetArgs, mixed: bool) -> Self {
        Self {
            wide: args.output == Some(GetOutput::Wide),
            namespaces: args.all_namespaces,
            labels: args.show_labels,
            mixed,
        }
    }

    /// The names of the columns.
    pub(crate) fn heads<K: Kind>(self) -> Vec<String> {
        let mut heads = Vec::new();
        if self.namespaces && K::NAMES.namespaced {
            heads.push("NAMESPACE".to_owned());
        }
        let columns = K::COLUMNS.iter().filter(|column| self.wide || !column.wide);
        heads.extend(columns.map(|column| column.head.to_owned()));
        if self.labels {
            heads.push("LABELS".into());
        }
        heads
    }

    /// One object, as seen at `now` (seconds since 1970).
    pub(crate) fn row<K: Kind>(self, item: &K::Object, now: i64) -> Vec<String> {
        let metadata = K::metadata(item);
        let mut row = Vec::new();
        if self.namespaces && K::NAMES.namespaced {
            row.push(namespace_of(metadata).to_owned());
        }
        let cells = K::row(item, now).into_iter().zip(K::COLUMNS);
        let cells = cells.filter(|(_, column)| self.wide || !column.wide);
        row.extend(cells.map(|(cell, column)| match column.head {
            "NAME" if self.mixed => format!("{}/{}", K::NAMES.singular, name_of(metadata)),
            _ => cell,
        }));
        if self.labels {
            let labels = metadata.map(|metadata| pairs(&metadata.labels, ","));
            row.push(labels.unwrap_or_else(|| "<none>".into()));
        }
        row
    }
}
