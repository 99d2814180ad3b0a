//! The file: YAML, read into keys and texts with the lines they are on.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

/// Far more than all settings of a program fill.
const MAX_FILE: u64 = 64 * 1024;

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// It is too large to be one.
    #[error("{0}: more than {MAX_FILE} bytes: this is no configuration")]
    Large(PathBuf),
    /// Something in it.
    #[error("{path}:{line}: {trouble}")]
    At {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong there.
        trouble: Trouble,
    },
}

/// What is wrong with one line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Not YAML, or not a mapping of keys to values.
    #[error("{0}")]
    Yaml(String),
    /// No such setting.
    #[error("unknown key {key:?}: the keys are {known}")]
    Unknown {
        /// As it is there.
        key: String,
        /// All that there are.
        known: String,
    },
    /// Nothing where something is wanted.
    #[error("{key}: has no value")]
    NoValue {
        /// The setting.
        key: String,
    },
    /// Not a value of this setting.
    #[error("{key}: {said}")]
    Value {
        /// The setting.
        key: String,
        /// What its flag says.
        said: String,
    },
}

impl FileError {
    pub(crate) fn at(path: &Path, line: u64, trouble: Trouble) -> Self {
        Self::At { path: path.into(), line, trouble }
    }
}

/// One key.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: u64,
    pub(crate) values: Values,
}

/// What is given for it, as texts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Values {
    /// Nothing, which is no value: `key:`, or `key: null`.
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Values {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, String> {
        match self {
            Self::None => [].iter(),
            Self::One(value) => std::slice::from_ref(value).iter(),
            Self::Many(values) => values.iter(),
        }
    }
}

pub(crate) fn read(path: &Path) -> Result<String, FileError> {
    let failed = |error| FileError::Io(path.into(), error);
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    let length = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    match u64::try_from(length) {
        Ok(length) if length <= MAX_FILE => Ok(text),
        _ => Err(FileError::Large(path.into())),
    }
}

pub(crate) fn read_if_there(path: &Path) -> Result<Option<String>, FileError> {
    match read(path) {
        Err(FileError::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// The entries of a file; one without any is an empty one. Values of keys that are lists may be given
/// as one text, a list or a mapping; those of others are one text, as it stands there.
pub(crate) fn entries(
    text: &str,
    is_list: impl Fn(&str) -> bool,
) -> Result<Vec<Entry>, (u64, Trouble)> {
    let read = serde_saphyr::with_deserializer_from_str(text, |document| {
        document.deserialize_option(Document(&is_list))
    });
    read.map_err(|error: serde_saphyr::Error| {
        let line = error.location().map_or(1, |location| location.line());
        (line, Trouble::Yaml(error.without_snippet().to_string()))
    })
}

/// The whole file, or nothing but comments.
struct Document<'a>(&'a dyn Fn(&str) -> bool);

impl<'de> Visitor<'de> for Document<'_> {
    type Value = Vec<Entry>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of settings to values")
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Vec<Entry>, E> {
        Ok(Vec::new())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Vec<Entry>, E> {
        Ok(Vec::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, document: D) -> Result<Vec<Entry>, D::Error> {
        document.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Entry>, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let (line, key) = (key.referenced.line(), key.value);
            let values = match (self.0)(&key) {
                true => map.next_value()?,
                false => map.next_value::<Option<String>>()?.map_or(Values::None, Values::One),
            };
            entries.push(Entry { key, line, values });
        }
        Ok(entries)
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Texts)
    }
}

/// One text, a list of them, or a mapping, each of whose entries is a text `KEY=VALUE`.
struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Values;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list of texts or a mapping to texts")
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Values, E> {
        Ok(Values::One(value.into()))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Values, E> {
        Ok(Values::None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Values, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element::<String>()? {
            values.push(value);
        }
        Ok(Values::Many(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
        let mut values = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            values.push(format!("{key}={value}"));
        }
        Ok(Values::Many(values))
    }
}
