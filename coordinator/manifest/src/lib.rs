//! The door for objects: YAML or JSON text in, valid objects out, or every reason why not.
//!
//! ```text
//! bytes --read--> Document --admit--> Admitted { canonical object, body, revision }
//!                    |                    |
//!                 positions            to_model --> everynode_model::DaemonSet
//!                 for people
//! ```
//!
//! - [`read()`] turns a file into documents that know where each of their fields stands.
//! - [`admit()`] turns one object into its canonical Kubernetes JSON, with defaults filled in and
//!   every rule checked, and says everything that is wrong with it at once.
//! - [`admit_object()`] does the same for ConfigMaps, Secrets and Namespaces, and [`uses()`] tells
//!   what of the former two a template reads.
//! - [`normal_form`] is a template's meaning as bytes: its digest is the revision, and the bytes
//!   are the body that agents get; [`compose()`] makes the content it reads a part of both.
//! - [`verdict()`] says what becomes of an object here, before anything is started.
//! - [`to_model`] gives the deciding code what it needs of a canonical object.
//!
//! It reads no files, stores nothing and knows no nodes.

mod admit;
mod check;
mod compose;
mod content;
mod defaults;
mod error;
mod honour;
mod kinds;
mod model;
mod node_labels;
mod normal;
mod objects;
mod patch;
mod path;
mod place;
mod quantity;
mod read;
mod render;
mod rollout;
mod scalar;
mod selector;
mod stream;
mod suggest;
mod typed;
mod uses;
mod validate;
mod verdict;

pub use admit::{Admitted, LAST_APPLIED, admit, admit_update, spec_changed};
pub use content::{BlobKey, Composed, compose, named_content, template_of};
pub use error::{ErrorKind, FieldError, Rejected, Warning};
pub use honour::needed_features;
pub use kinds::{KNOWN_KINDS, KnownKind, Role, find_kind};
pub use model::{ModelError, daemon_set_from, to_model};
pub use node_labels::node_labels;
pub use normal::{NORMAL_FORM, normal_form};
pub use objects::{AdmittedObject, admit_object, admit_object_update, redact_secret};
pub use patch::{PatchError, PatchKind, patch, three_way};
pub use path::{FieldPath, InvalidPath, Segment};
pub use place::Place;
pub use quantity::{InvalidQuantity, Quantity};
pub use read::{Document, MAX_MANIFEST_BYTES, MAX_OBJECTS, ReadError, ReadErrors, read};
pub use rollout::ROLLOUT_PREFIX;
pub use uses::{Use, Uses, uses};
pub use verdict::{Finding, Outcome, Verdict, verdict};
