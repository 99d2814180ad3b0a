//! From a command line to an exit code: 0 done, 1 failed or misused.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use everynode_agent_core::Policy;
use everynode_model::{InvalidName, NodeName};
use everynode_runtime::process::{self, ProcessRuntime};
use everynode_runtime::{OpenError, Runtime as _, lowers_oom_scores};
use everynode_settings::SettingsError;
use everynode_transport::{Dial, TcpDial};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::artifacts::Artifacts;
use crate::cli::{Cli, Command, LogFormat};
use crate::clock::{BootClock, Clock};
use crate::config::{CONFIG_FILE, Config, ConfigError, TokenSource};
use crate::data_dir::{DataDir, DataDirError, make_private, remove_all, takes_nothing};
use crate::facts::{Address, Machine};
use crate::identity::{Identity, IdentityError, IdentityFiles};
use crate::join::{self, JoinError, Wish};
use crate::ledger::{DiskLedger, LedgerStore as _};
use crate::local::{self, client::AskError};
use crate::people::{self, PeopleError, run_dir};
use crate::random::Random;
use crate::rejoin::{self, RejoinError};
use crate::run::{OnDisk, Outcome, Parts, RunError, Vitals, go_down, run};
use crate::service::{Heart, tell};
use crate::stage::OnMachine;
use crate::streams;

/// Requests of people that wait for the loop.
const REQUESTS: usize = 8;
/// Threads for what waits for disks; few, because each keeps a stack.
const BLOCKING_THREADS: usize = 8;
/// After which one that has nothing to do ends: never. On a machine that is at its limit of
/// processes no new one could be had, and tokio panics where there is none at all.
const THREAD_IDLE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How long a service manager is kept waiting for a machine that joins. A token that is refused is
/// seen as a failed start; a coordinator that is away keeps no machine from booting.
const JOINS_WITHIN: Duration = Duration::from_secs(10);

/// What an agent is started for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    /// To run what the coordinator says.
    Serve,
    /// To stop what an earlier one has left running, because the machine goes down.
    GoDown,
}

/// Why the agent can't work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Runtime(#[from] OpenError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    People(#[from] PeopleError),
    #[error(
        "this machine has not joined a cluster: start the agent with --coordinator HOST:PORT and \
         --join-token-file FILE (`everynode token create --print-join-command` prints the command)"
    )]
    NotJoined,
    #[error(transparent)]
    Rejoin(#[from] RejoinError),
    #[error("--join-token-file: needed to rejoin (`everynode token create` makes a token)")]
    NoToken,
    #[error("--coordinator: needed to join: where is the coordinator (HOST:PORT)?")]
    NoCoordinator,
    #[error("--node-name: needed, because this host's name {0:?} can't be a node's: {1}")]
    HostName(String, InvalidName),
    #[error("this machine gives no more threads: {0}; see its limits of processes")]
    Threads(io::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Runs the agent, or one of its subcommands. `args` begin with the program's name.
pub fn main_with_args(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter().peekable();
    let program = args.next();
    if args.peek().is_some_and(|word| word == "shim") {
        return everynode_runtime::shim::main();
    }
    let args = program.into_iter().chain(args);
    let cli = match everynode_settings::read::<Cli>(args, Path::new(CONFIG_FILE)) {
        Ok(cli) => cli,
        Err(SettingsError::File(error)) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            return ExitCode::FAILURE;
        }
        Err(SettingsError::Usage(error)) => {
            // Help and version are errors to clap, and done to whoever asked for them.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(THREAD_IDLE)
        .build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(dispatch(cli));
            // A disk that hangs must not keep the process from ending.
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(cli: Cli) -> Result<bool, Failure> {
    let mut out = io::stdout();
    let Some(command) = cli.command.clone() else {
        return start(Config::from_cli(cli)?, Task::Serve).await;
    };
    if let Command::Rejoin(start) = command {
        let cli = Cli { command: None, start: *start, ..cli };
        return rejoin(&Config::from_cli(cli)?, &mut out).await;
    }
    let goes_down = command == Command::Shutdown;
    match people::follow(command, &cli.common, cli.start.deny_exec, &mut out).await {
        // Where no agent runs, by one that does nothing else.
        Err(PeopleError::Ask(AskError::NotRunning(_))) if goes_down => {
            start(Config::from_cli(cli)?, Task::GoDown).await
        }
        done => Ok(done?),
    }
}

/// Takes this machine to another coordinator, through its running agent or, where none runs, alone.
async fn rejoin(config: &Config, out: &mut io::Stdout) -> Result<bool, Failure> {
    start_logging(config);
    let present = IdentityFiles::new(&config.data_dir).load()?.ok_or(Failure::NotJoined)?;
    let machine = Machine::look(&config.ids, None);
    let token = config.token.as_ref().ok_or(Failure::NoToken)?;
    let name = config.node_name.clone().unwrap_or_else(|| present.name.clone());
    let wish = wish(config, token, &machine, name)?;
    let mut random = Random::from_system()?;
    let world = (&TcpDial as &dyn Dial, &BootClock as &dyn Clock);
    Ok(rejoin::rejoin(&config.data_dir, &present, &wish, world, &mut random, out).await?)
}

/// What is asked for when joining.
fn wish(
    config: &Config,
    token: &TokenSource,
    machine: &Machine,
    name: NodeName,
) -> Result<Wish, Failure> {
    if config.coordinators.is_empty() {
        return Err(Failure::NoCoordinator);
    }
    Ok(Wish {
        token: token.token()?,
        labels: join::labels(machine.labels(&name), config.labels.clone()),
        name,
        taints: config.taints.clone(),
        machine_id: machine.machine_id.clone(),
        addresses: config.coordinators.clone(),
    })
}

/// Runs an agent to its end; whether it did what it was started for.
async fn start(config: Config, task: Task) -> Result<bool, Failure> {
    start_logging(&config);
    begin_threads().await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let mut shutdown = std::pin::pin!(shutdown);
    if task == Task::GoDown && IdentityFiles::new(&config.data_dir).load()?.is_none() {
        tracing::info!("this machine has not joined a cluster: there is nothing to stop");
        return Ok(true);
    }
    let directory = DataDir::open(&config.data_dir).await?;
    let run_dir = run_dir(directory.path());
    let spare_dir = directory.spare();
    let (runtime, events) = ProcessRuntime::open(process::Config {
        cgroup_root: config.cgroup_root.clone(),
        run_dir: run_dir.clone(),
        spare_dir: Some(spare_dir.clone()),
        seccomp_dir: config.seccomp_profile_root.clone(),
        max_log_file: config.max_log_file,
        shim_command: vec!["/proc/self/exe".into(), "shim".into()],
        old_kernel: false,
    })
    .await?;
    let files = IdentityFiles::new(directory.path());
    let machine = Machine::look(&config.ids, Some(directory.path()));
    let mut random = Random::from_system()?;
    let identity = tokio::select! {
        () = &mut shutdown => return Ok(true),
        never = still_joining() => match never {},
        identity = identity(&config, &files, &machine, &mut random) => identity?,
    };
    let (requester, requests) = mpsc::channel(REQUESTS);
    let server = listen(directory.path(), &spare_dir, requester)?;
    let ledger = DiskLedger::new(directory.path());
    tracing::info!(
        node = %identity.name, uid = %identity.node, cluster = %identity.cluster,
        runtime = runtime.name(), "agent {} running", env!("CARGO_PKG_VERSION"),
    );
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("node {}", identity.name))]);
    let readings = Some(crate::facts::readings(directory.path().to_owned()));
    let address = Some(Address::watched(machine.address()));
    let storage = Some(Arc::new(OnDisk(run_dir.clone())) as _);
    let vitals = Vitals {
        readings,
        storage,
        limits: runtime.limits(),
        raises_only: !lowers_oom_scores(),
        address,
        proc: true,
    };
    let parts = Parts {
        dial: Arc::new(TcpDial),
        runtime: Arc::new(runtime),
        events,
        stage: Arc::new(OnMachine(Artifacts::new(directory.path(), config.artifacts.clone()))),
        ledger: Arc::new(ledger.clone()),
        identity,
        identities: Arc::new(files.clone()),
        machine,
        policy: Policy::default(),
        random,
        clock: Arc::new(BootClock),
        requests: Some(requests),
        streams: Some(streams::Places {
            run_dir: run_dir.clone(),
            cgroup_root: config.cgroup_root.clone(),
            deny_exec: config.deny_exec,
        }),
        heart: Heart::of_service(),
        vitals,
    };
    let outcome = match task {
        Task::Serve => run(parts, shutdown).await,
        Task::GoDown => go_down(parts, shutdown).await,
    };
    tell(&[NotifyState::Stopping]);
    server.abort();
    match outcome? {
        Outcome::Stopped => {
            tracing::info!("agent stopped; pods run on");
            return Ok(task == Task::Serve);
        }
        Outcome::Down => tracing::info!("nothing of its cluster runs on this machine"),
        Outcome::Left => {
            wipe(&files, &ledger, directory.path(), [&run_dir, &spare_dir]).await?;
            tracing::info!("this machine has left its cluster; nothing of it is kept");
        }
    }
    Ok(true)
}

/// Tells the service manager, where there is one, that a machine which is still joining is at work.
async fn still_joining() -> Infallible {
    tokio::time::sleep(JOINS_WITHIN).await;
    tell(&[NotifyState::Ready, NotifyState::Status("joining: the coordinator is not in reach")]);
    // It waits for somebody else now, for as long as it takes.
    Heart::of_service().through(std::future::pending()).await
}

/// Has the first of the threads that wait for disks, which then stays.
async fn begin_threads() -> Result<(), Failure> {
    // Tried alone first: where there is none to be had, tokio would panic.
    let first = std::thread::Builder::new().spawn(|| ()).map_err(Failure::Threads)?;
    let _ = first.join();
    tokio::task::spawn_blocking(|| ()).await.map_err(|error| Failure::Io(io::Error::other(error)))
}

/// The socket for people: in memory where the disk does not take one.
fn listen(
    directory: &Path,
    spare: &Path,
    requester: mpsc::Sender<local::Request>,
) -> io::Result<tokio::task::AbortHandle> {
    match local::serve(directory, requester.clone()) {
        Err(error) if takes_nothing(&error) => {
            tracing::warn!(directory = %spare.display(), "the socket for people is made here: {error}");
            make_private(spare)?;
            local::serve(spare, requester)
        }
        served => served,
    }
}

/// Who this machine is: as it was, or by joining now.
async fn identity(
    config: &Config,
    files: &IdentityFiles,
    machine: &Machine,
    random: &mut Random,
) -> Result<Identity, Failure> {
    if let Some(mut identity) = files.load()? {
        if config.token.is_some() {
            tracing::info!(node = %identity.name, "already joined: the join token is not used");
        }
        if !config.coordinators.is_empty() && config.coordinators != identity.addresses {
            identity.addresses.clone_from(&config.coordinators);
            files.save(&identity)?;
            tracing::info!(coordinators = ?identity.addresses, "coordinator addresses changed");
        }
        return Ok(identity);
    }
    let Some(token) = &config.token else { return Err(Failure::NotJoined) };
    let host = machine.hostname.to_lowercase();
    let name = match &config.node_name {
        Some(name) => name.clone(),
        None => NodeName::new(&host).map_err(|error| Failure::HostName(host, error))?,
    };
    let wish = wish(config, token, machine, name)?;
    let identity = join::join(&TcpDial, &BootClock, &wish, &files.key()?, random).await?;
    files.save(&identity)?;
    tracing::info!(node = %identity.name, uid = %identity.node, "joined");
    Ok(identity)
}

/// The identity first: with it gone, what else is left means nothing to anybody.
async fn wipe(
    files: &IdentityFiles,
    ledger: &DiskLedger,
    data_dir: &Path,
    directories: [&Path; 2],
) -> Result<(), Failure> {
    files.wipe()?;
    ledger.wipe().await?;
    Artifacts::wipe(data_dir)?;
    for directory in directories {
        remove_all(directory)?;
    }
    Ok(())
}

fn start_logging(config: &Config) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(config.log_level)
        .with_writer(io::stderr)
        // Else a line that can't be written, as on a full disk, is told to the same stderr by a macro
        // that panics where it can't.
        .log_internal_errors(false);
    // One that is there already belongs to whoever runs agents within a program of its own.
    let _ = match config.log_format {
        LogFormat::Text => builder.with_target(false).with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
