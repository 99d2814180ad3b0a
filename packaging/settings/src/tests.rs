use std::fs;

use clap::Subcommand;
use tempfile::TempDir;

use super::*;

#[derive(Debug, Parser, PartialEq, Eq)]
#[command(name = "program")]
struct Cli {
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[arg(long, global = true, default_value = "/var/lib/it")]
    data_dir: PathBuf,
    #[arg(long, value_delimiter = ',')]
    label: Vec<String>,
    #[arg(long, default_value_t = 10)]
    limit: u32,
    #[arg(long)]
    name: Option<String>,
    #[arg(long, conflicts_with = "token_file")]
    token: Option<String>,
    #[arg(long)]
    token_file: Option<PathBuf>,
    #[arg(long, hide = true)]
    secret: Option<String>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand, PartialEq, Eq)]
enum Verb {
    Check {
        #[arg(long, value_delimiter = ',')]
        label: Vec<String>,
    },
    Leave,
}

/// By a file of this text, which is where it is looked for.
fn read_with(text: &str, line: &[&str]) -> Result<Cli, SettingsError> {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("it.yaml");
    fs::write(&file, text).unwrap();
    read(["program"].iter().chain(line).map(OsString::from), &file)
}

fn complaint(text: &str) -> String {
    let said = read_with(text, &[]).unwrap_err().to_string();
    let at = said.find("it.yaml:").unwrap_or_else(|| panic!("no file is named: {said}"));
    said[at..].to_owned()
}

#[test]
fn a_file_says_what_flags_say() {
    let text = "# a comment\ndata-dir: /d\nlimit: 25\nlabel: [a=b, c=d]\ntoken-file: '/run/t'\n";
    let flags =
        ["--data-dir=/d", "--limit=25", "--label=a=b", "--label=c=d", "--token-file=/run/t"];
    assert_eq!(read_with(text, &[]).unwrap(), read_with("", &flags).unwrap());
    // As it stands there, whatever YAML would take it for.
    for name in ["010", "1e3", "off", "'1'"] {
        let cli = read_with(&format!("name: {name}"), &[]).unwrap();
        assert_eq!(cli.name.as_deref(), Some(name.trim_matches('\'')));
    }
    // And as a mapping, or as one text.
    for label in ["label: {a: b, c: d}", "label: a=b,c=d"] {
        assert_eq!(read_with(label, &[]).unwrap().label, ["a=b", "c=d"]);
    }
}

#[test]
fn flags_outrank_the_file_and_the_file_outranks_defaults() {
    let text = "data-dir: /file\nlimit: 25\nlabel: [a=b]\n";
    let cli = read_with(text, &["--limit", "1", "--label", "x=y"]).unwrap();
    assert_eq!((cli.limit, cli.label), (1, vec!["x=y".to_owned()]));
    assert_eq!(cli.data_dir, Path::new("/file"));
    // On either side of a subcommand.
    for line in [["--data-dir=/flag", "leave"], ["leave", "--data-dir=/flag"]] {
        let cli = read_with(text, &line).unwrap();
        assert_eq!((cli.data_dir, cli.verb), ("/flag".into(), Some(Verb::Leave)));
    }
    assert_eq!(read_with("limit: 25", &[]).unwrap().data_dir, Path::new("/var/lib/it"));
}

/// `PATH` stands for a variable that a program would have of its own: no test may set one.
#[test]
fn the_environment_outranks_the_file() {
    #[derive(Debug, Parser)]
    struct Cli {
        #[arg(long)]
        config: Option<PathBuf>,
        #[arg(long, env = "PATH")]
        name: String,
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("it.yaml");
    fs::write(&file, "name: file").unwrap();
    let args = ["program".into(), "--config".into(), file.clone().into()];
    let cli: Cli = read(args, Path::new("/none")).unwrap();
    assert_eq!(cli.config, Some(file));
    assert_eq!(Some(cli.name), std::env::var("PATH").ok());
}

#[test]
fn what_excludes_another_flag_gives_way_to_it() {
    let cli = read_with("token: t", &["--token-file", "f"]).unwrap();
    assert_eq!((cli.token, cli.token_file), (None, Some("f".into())));
    let cli = read_with("token-file: f", &["--token", "t"]).unwrap();
    assert_eq!((cli.token, cli.token_file), (Some("t".into()), None));
    // Both in the file are a contradiction.
    assert!(matches!(read_with("token: t\ntoken-file: f", &[]), Err(SettingsError::Usage(_))));
}

#[test]
fn a_subcommand_gets_what_it_has_a_flag_for() {
    let label = |line: &[&str]| match read_with("label: [a=b]", line).unwrap().verb {
        Some(Verb::Check { label }) => label,
        other => panic!("{other:?}"),
    };
    assert_eq!(label(&["check"]), ["a=b"]);
    assert_eq!(label(&["check", "--label", "x=y"]), ["x=y"]);
}

#[test]
fn a_file_that_is_named_must_be_there_and_the_usual_one_need_not() {
    let read = |line: &[&str]| {
        read::<Cli>(line.iter().map(OsString::from), Path::new("/no/such/usual.yaml"))
    };
    assert_eq!(read(&["program"]).unwrap().limit, 10);
    let said = read(&["program", "--config", "/no/such/named.yaml"]).unwrap_err().to_string();
    assert!(said.starts_with("/no/such/named.yaml: "), "{said}");
    // What is no configuration at all says nothing.
    assert_eq!(read(&["program", "--config", "/dev/null"]).unwrap().limit, 10);
}

#[test]
fn complaints_name_line_and_key() {
    for (text, said) in [
        (
            "limit: 1\nlimits: 2\n",
            "it.yaml:2: unknown key \"limits\": the keys are data-dir, label",
        ),
        ("\n\nsecret: x\n", "it.yaml:3: unknown key \"secret\""),
        ("config: x\n", "it.yaml:1: unknown key \"config\""),
        ("limit: many\n", "it.yaml:1: limit: invalid value 'many' for '--limit <LIMIT>'"),
        ("limit: [1, 2]\n", "it.yaml:1: "),
        ("limit:\n", "it.yaml:1: limit: has no value"),
        ("label:\n", "it.yaml:1: label: has no value"),
        ("limit: 1\nlimit: 2\n", "it.yaml:2: "),
        ("- limit\n", "it.yaml:1: "),
        ("label: [[a]]\n", "it.yaml:1: "),
        ("limit: 1\n\tlabel: x\n", "it.yaml:1: "),
    ] {
        let told = complaint(text);
        assert!(told.starts_with(said), "{text:?}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let text = format!("# {}\n", "x".repeat(70_000));
    assert!(read_with(&text, &[]).unwrap_err().to_string().contains("no configuration"));
}
