//! The verbs that write objects: `create`, `apply`, `replace`, `diff`, `edit`, `patch`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{DryRunArgs, FileArgs, ObjectOutput};

/// What `create`, `apply` and `replace` have in common.
#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    #[command(flatten)]
    pub(crate) files: FileArgs,
    #[command(flatten)]
    pub(crate) dry_run: DryRunArgs,
    /// Create the namespaces that the objects are in, where they are not there
    #[arg(long)]
    pub(crate) create_namespace: bool,
    /// How to print what came of it
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<ObjectOutput>,
}

/// `create`, `replace`.
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    /// Keep the files in the objects, as apply does, so that they can be applied later
    #[arg(long)]
    pub(crate) save_config: bool,
}

/// `create`.
#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct CreateArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<CreateVerb>,
    #[command(flatten)]
    pub(crate) save: SaveArgs,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  everynode create -f monitoring.yaml

  # Configuration without a manifest: from values, a file, or all files of a directory.
  everynode create configmap settings --from-literal level=info --from-file rules.yaml
  everynode create secret generic access --from-file token=/root/token
  everynode create namespace monitoring";

#[derive(Debug, Subcommand)]
pub(crate) enum CreateVerb {
    /// Create a ConfigMap from values and files
    #[command(visible_alias = "cm")]
    Configmap(ValuesArgs),
    /// Create a Secret
    #[command(subcommand)]
    Secret(SecretVerb),
    /// Create a Namespace
    #[command(visible_alias = "ns")]
    Namespace(BareArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretVerb {
    /// Create a Secret from values and files
    Generic(ValuesArgs),
}

/// An object that is nothing but its name.
#[derive(Debug, Args)]
pub(crate) struct BareArgs {
    /// Its name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) dry_run: DryRunArgs,
    /// How to print what came of it
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<ObjectOutput>,
}

/// An object of keys and values.
#[derive(Debug, Args)]
pub(crate) struct ValuesArgs {
    #[command(flatten)]
    pub(crate) bare: BareArgs,
    /// A key and its value
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) from_literal: Vec<String>,
    /// A file, under its name or another key; of a directory, each file in it
    #[arg(long, value_name = "[KEY=]FILE")]
    pub(crate) from_file: Vec<String>,
    /// Of a Secret: its type
    #[arg(long)]
    pub(crate) r#type: Option<String>,
}

/// `apply`.
#[derive(Debug, Args)]
#[command(after_help = APPLY_EXAMPLES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct ApplyArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<ApplyVerb>,
    #[command(flatten)]
    pub(crate) write: WriteArgs,
    /// Refused: who owns a field is not kept
    #[arg(long, hide = true)]
    pub(crate) server_side: bool,
}

const APPLY_EXAMPLES: &str = "\
Examples:
  # Create or change what the file describes. What it said when it was last applied and says no more
  # is removed; what others have set (rollout restart, pause, label, edit) stays.
  everynode apply -f monitoring.yaml

  # Look first: what would change, and on how many nodes.
  everynode diff -f manifests/
  everynode apply -R -f manifests/ --dry-run=server";

#[derive(Debug, Subcommand)]
pub(crate) enum ApplyVerb {
    /// Show what was applied last
    ViewLastApplied(ViewLastAppliedArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ViewLastAppliedArgs {
    /// TYPE NAME... or TYPE/NAME...
    #[arg(value_name = "TYPE NAME", required = true)]
    pub(crate) what: Vec<String>,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// All of the type in the namespace
    #[arg(long, conflicts_with = "selector")]
    pub(crate) all: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value = "yaml")]
    pub(crate) output: ObjectOutput,
}

#[derive(Debug, Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    pub(crate) files: FileArgs,
}

const DIFF_EXAMPLES: &str = "\
Exit codes: 0 nothing would change, 1 something would, 2 it could not be told.

Examples:
  everynode diff -f monitoring.yaml
  EVERYNODE_EXTERNAL_DIFF='diff --color=always -u -N' everynode diff -f manifests/";

#[derive(Debug, Args)]
#[command(after_help = EDIT_EXAMPLES)]
pub(crate) struct EditArgs {
    /// TYPE NAME or TYPE/NAME
    #[arg(value_name = "TYPE NAME", required_unless_present = "filename")]
    pub(crate) what: Vec<String>,
    /// What a file names
    #[arg(
        short,
        long = "filename",
        value_name = "FILE",
        value_delimiter = ',',
        conflicts_with = "what"
    )]
    pub(crate) filename: Vec<PathBuf>,
    /// Read directories in directories too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
}

const EDIT_EXAMPLES: &str = "\
Examples:
  everynode edit daemonset/monitoring
  KUBE_EDITOR='nano' everynode edit node n1";

#[derive(Debug, Args)]
#[command(after_help = PATCH_EXAMPLES)]
pub(crate) struct PatchArgs {
    /// TYPE NAME or TYPE/NAME
    #[arg(value_name = "TYPE NAME", required_unless_present = "filename")]
    pub(crate) what: Vec<String>,
    /// What a file names
    #[arg(
        short,
        long = "filename",
        value_name = "FILE",
        value_delimiter = ',',
        conflicts_with = "what"
    )]
    pub(crate) filename: Vec<PathBuf>,
    /// Read directories in directories too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// How the patch is meant
    #[arg(long, value_enum, default_value = "strategic")]
    pub(crate) r#type: PatchType,
    /// The patch, as JSON or YAML
    #[arg(short, long, value_name = "PATCH", conflicts_with = "patch_file")]
    pub(crate) patch: Option<String>,
    /// A file with the patch
    #[arg(long, value_name = "FILE")]
    pub(crate) patch_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) dry_run: DryRunArgs,
    /// How to print what came of it
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<ObjectOutput>,
}

const PATCH_EXAMPLES: &str = "\
Examples:
  # One container of several, found by its name
  everynode patch ds agent -p '{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"agent\",\"args\":[\"-v\"]}]}}}}'

  # A merge patch replaces lists; null removes
  everynode patch ds agent --type merge -p '{\"metadata\":{\"annotations\":{\"note\":null}}}'

  # Operations, of which all or none are done
  everynode patch ds agent --type json -p '[{\"op\":\"replace\",\"path\":\"/spec/minReadySeconds\",\"value\":5}]'";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PatchType {
    Strategic,
    Merge,
    Json,
}
