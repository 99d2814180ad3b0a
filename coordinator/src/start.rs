//! The program: from arguments to a serving coordinator and an exit code.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use everynode_model::Term;
use everynode_settings::SettingsError;
use everynode_store::sqlite::Options;
use everynode_store::{SqliteStore, Store, StoreError};
use rustix::fs::Access;
use sd_notify::NotifyState;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::accept::{Limits, raise_file_limit};
use crate::admin::{self, AdminError};
use crate::boot::{self, BootError};
use crate::clock::{Clock, SystemClock};
use crate::config::{Cli, Command, ConfigError, LogFormat, ServeArgs, StoreCommand};
use crate::entropy::Entropy;
use crate::serve::{self, ServeError, Settings, World};
use crate::service::tell;
use crate::store::witness::{Witness, WitnessError};
use crate::store::{LookError, MARGIN, Restore, RestoreError, Restored, Unsound, backup, look};

/// The store's file in the data directory.
const STORE: &str = "store.db";

/// Connections that may wait in the kernel until they are accepted: a whole rack that comes back at
/// once. The kernel's own limit (`net.core.somaxconn`, 4,096) applies.
const BACKLOG: u32 = 4096;

/// Why the program ends with 1.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the data directory {path} can't be used: {source}")]
    DataDir { path: PathBuf, source: io::Error },
    #[error("the store can't be opened: {0}")]
    Store(#[source] StoreError),
    #[error("admin-conf wants the store for itself, and the coordinator is running: stop it first")]
    Running,
    #[error("there is no store in {path}: start the coordinator once, or check --data-dir")]
    NoStore { path: PathBuf },
    #[error(
        "{path} is gone, and a cluster was served from there: put it back with \
         everynode-coordinator store restore, or choose another --data-dir for a new cluster"
    )]
    StoreGone { path: PathBuf },
    #[error("{doing} failed: {source}")]
    StoreTask { doing: &'static str, source: LookError },
    #[error("nothing was restored: {0}")]
    Restore(#[from] RestoreError),
    #[error("{path}: {count} faults")]
    Faults { path: PathBuf, count: usize },
    #[error(transparent)]
    Witness(#[from] WitnessError),
    #[error("can't listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("the runtime can't be started: {0}")]
    Runtime(#[source] io::Error),
}

/// Runs the program with these arguments, the program's name first: what `main` does, and what the
/// demo does in a process of its own.
pub fn main_with_args(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::read(args) {
        Ok(cli) => cli,
        Err(SettingsError::File(error)) => {
            let _closed = writeln!(io::stderr(), "everynode-coordinator: {error}");
            return ExitCode::FAILURE;
        }
        Err(SettingsError::Usage(error)) => {
            // Help and version are asked for; all else is a usage error, which is 1 as in kubectl.
            let _closed = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _closed = writeln!(io::stderr(), "everynode-coordinator: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), StartError> {
    let data_dir = cli.data_dir()?;
    match &cli.command {
        Some(Command::Store(command)) => store_task(&data_dir, command),
        Some(Command::AdminConf) => runtime()?.block_on(admin_conf(&data_dir, &cli.serve)),
        None => {
            cli.serve.fleet()?;
            log(cli.serve.log_format);
            runtime()?.block_on(serve(&data_dir, &cli.serve))
        }
    }
}

async fn serve(data_dir: &Path, args: &ServeArgs) -> Result<(), StartError> {
    let limits = Limits::for_files(raise_file_limit());
    // The address first: where it is taken, nothing is made.
    let (listener, bound) = listen(args.listen)?;
    prepare(data_dir)?;
    let path = data_dir.join(STORE);
    let witness = Witness::of(data_dir)?;
    if witness.is_some() && !path.exists() {
        return Err(StartError::StoreGone { path });
    }
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&path, Options::default()).map_err(StartError::Store)?);
    let (clock, entropy) = surroundings();
    let fleet = args.fleet()?;
    let advertise = args.advertised(bound, &machine_name());
    let booted =
        boot::boot_again(&*store, fleet.clone(), witness.as_ref(), &clock, &entropy).await?;
    Witness::to(&booted.cluster).write(data_dir)?;
    admin::write_if_absent(data_dir, &booted.pki, booted.cluster.id, &args.for_admin(bound))?;
    if let Some(validity) = admin::validity_in(data_dir)
        && let Some(line) = admin::warning(validity, clock.now().wall)
    {
        tracing::warn!("{line}");
    }
    let signals = signals().map_err(StartError::Runtime)?;
    if booted.fleet.hold().is_some() {
        tracing::warn!(
            "orders are held since the store was restored: everynode cluster status tells what \
             resuming would change, everynode cluster resume gives orders again"
        );
    }
    let ready = format!("serving on {bound}, advertised as {}", advertise.join(","));
    tracing::info!("ready: {ready}");
    tell(&[NotifyState::Ready, NotifyState::Status(&ready)]);
    let node_certificates = args.node_certificate_lifetime;
    let settings = Settings { fleet, advertise, limits, node_certificates };
    let world = World { listener, store, clock, entropy, settings };
    serve::run(world, booted, signals).await?;
    tracing::info!("stopped");
    Ok(())
}

async fn admin_conf(data_dir: &Path, args: &ServeArgs) -> Result<(), StartError> {
    let path = data_dir.join(STORE);
    if !path.exists() {
        return Err(StartError::NoStore { path: data_dir.into() });
    }
    let store = SqliteStore::open(&path, Options::default()).map_err(|error| match error {
        StoreError::Locked { .. } => StartError::Running,
        error => StartError::Store(error),
    })?;
    let (clock, entropy) = surroundings();
    let (cluster, pki) = boot::look(&store, &clock, &entropy).await?;
    let server = args.advertise.first().cloned().or_else(|| admin::server_in(data_dir));
    let server = server.unwrap_or_else(|| args.for_admin(args.listen));
    let written = admin::write(data_dir, &pki, cluster.id, &server)?;
    say(&written.display().to_string());
    Ok(())
}

fn store_task(data_dir: &Path, command: &StoreCommand) -> Result<(), StartError> {
    let store = data_dir.join(STORE);
    match command {
        StoreCommand::Backup { file, force } => {
            let held = backup(&there(data_dir, &store)?, file, *force)
                .map_err(|source| StartError::StoreTask { doing: "the backup", source })?;
            let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
            say(&format!("{} is a copy of {} at {now}", file.display(), store.display()));
            say(&format!("{}: {held}, verified", file.display()));
            Ok(())
        }
        StoreCommand::Verify { file: Some(file) } => verify(file),
        StoreCommand::Verify { file: None } => verify(&there(data_dir, &store)?),
        StoreCommand::Restore { file, force, term } => {
            prepare(data_dir)?;
            let term = term.map(Term);
            restore(&Restore { data_dir, store: &store, file, force: *force, term })
        }
    }
}

fn there(data_dir: &Path, store: &Path) -> Result<PathBuf, StartError> {
    match store.exists() {
        true => Ok(store.into()),
        false => Err(StartError::NoStore { path: data_dir.into() }),
    }
}

fn verify(file: &Path) -> Result<(), StartError> {
    match look(file) {
        Ok(held) => {
            say(&format!("{} is sound: {held}", file.display()));
            Ok(())
        }
        Err(LookError::Unsound(Unsound { path, faults })) => {
            for fault in &faults {
                say(fault);
            }
            Err(StartError::Faults { path, count: faults.len() })
        }
        Err(source) => Err(StartError::StoreTask { doing: "the check", source }),
    }
}

fn restore(restore: &Restore<'_>) -> Result<(), StartError> {
    let (file, store) = (restore.file.display(), restore.store.display());
    let (clock, entropy) = surroundings();
    let now = clock.now().wall;
    let Restored { copy, term, above, kept } = runtime()?.block_on(restore.run(now, &entropy))?;
    say(&format!("{file}: {copy}, verified"));
    if let Some(kept) = kept {
        say(&format!("the former store is kept as {}", kept.display()));
    }
    let why = match restore.term {
        Some(_) => "as told".to_owned(),
        None => format!("{MARGIN} more, for starts that nothing here tells of"),
    };
    say(&format!("{store} is restored; the next start serves term {term}: above {above}, {why}"));
    say("orders are held: start the coordinator, look at everynode cluster status, apply what is \
         missing, then everynode cluster resume");
    Ok(())
}

/// Makes the data directory, and finds out early whether it can be written to.
fn prepare(data_dir: &Path) -> Result<(), StartError> {
    let named = |source| StartError::DataDir { path: data_dir.into(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(named)?;
    rustix::fs::access(data_dir, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| named(error.into()))
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let named = |source| StartError::Listen { address, source };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(named)?;
    // So that a restart need not wait for the former process' connections to be forgotten.
    socket.set_reuseaddr(true).map_err(named)?;
    socket.bind(address).map_err(named)?;
    let listener = socket.listen(BACKLOG).map_err(named)?;
    let bound = listener.local_addr().map_err(named)?;
    Ok((listener, bound))
}

fn surroundings() -> (Arc<dyn Clock>, Arc<Entropy>) {
    (Arc::new(SystemClock::start()), Arc::new(Entropy::system()))
}

/// Completes at SIGTERM or SIGINT.
fn signals() -> io::Result<impl Future<Output = ()> + Send> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        };
        tracing::info!("{name}: shutting down");
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(StartError::Runtime)
}

/// Logs go to stderr; `EVERYNODE_LOG` chooses which: `info`, or `info,everynode_coordinator=debug`.
fn log(format: LogFormat) {
    let chosen = std::env::var("EVERYNODE_LOG").ok().and_then(|text| text.parse().ok());
    let filter = chosen.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).with_target(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // Fails only where the demo has set up logging before.
    let _already = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
}

fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn say(line: &str) {
    // Whoever does not read it does not want it.
    let _closed = writeln!(io::stdout(), "{line}");
}

/// The error and its causes on one line; those that it says itself are not said again.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        source = error.source();
    }
    line
}
