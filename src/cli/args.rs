//! Every command and flag.

mod app;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

pub(crate) use self::app::{EnvArgs, EnvFormat, ExecArgs, Firewall, LaunchArgs, RedirectArgs};

/// Where the admin API listens when nothing else is said.
pub(crate) const USUAL_ADMIN: &str = "127.0.0.1:8474";

const AFTER_HELP: &str = "\
Exit codes:
  0    every expectation held
  1    an expectation failed
  2    the command line or a file is wrong
  3    the run could not be done (an app or port that is not there, a crash)
  4    stopped by a safety rule
  5    inconclusive: a fault hit nothing, or too few samples
  130  interrupted";

const EXAMPLES: &str = "\
Examples:
  brownout demo                                 see it work: no key, no network, about a minute
  brownout init && brownout check               a first file for your app
  brownout run --exec \"uvicorn app:app\" --wait-for :8000
  brownout serve brownout.yaml --arm storm      the proxy alone, with a fault armed";

const CA_EXAMPLES: &str = "\
Examples:
  brownout ca                                   where it is, and which variables make apps trust it
  export NODE_EXTRA_CA_CERTS=$(brownout ca --print path)
  brownout ca --bundle ca-bundle.pem            the system's roots and it, for SSL_CERT_FILE
  brownout ca renew                             another, when the key was seen by others";

/// Find out how your AI app fails before your users do.
#[derive(Debug, Parser)]
#[command(name = "brownout", version, about, before_help = EXAMPLES, after_help = AFTER_HELP)]
#[command(propagate_version = true, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Say more on stderr; twice for everything. BROWNOUT_LOG takes a tracing filter instead.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show an AI app degrade and recover, on simulated dependencies.
    Demo(DemoArgs),
    /// Run an experiment: load, faults, verdict, report.
    #[command(after_help = AFTER_HELP)]
    Run(RunArgs),
    /// Run the proxy alone until told to stop; arm faults with --arm or by the admin API.
    Serve(ServeArgs),
    /// Run a program with the proxy in front of its dependencies: every variable set, its exit code.
    Exec(ExecArgs),
    /// Print the variables that point an app at the proxy, for a shell or a file.
    Env(EnvArgs),
    /// Print the rules that redirect an app's connections to the transparent gateway (Linux).
    Redirect(RedirectArgs),
    /// Run a simulated dependency alone.
    Sim(SimArgs),
    /// Show this installation's certificate authority, and how apps come to trust it.
    #[command(after_help = CA_EXAMPLES)]
    Ca(CaArgs),
    /// Check a file, explain it, and see whether its app and upstreams answer.
    Check(CheckArgs),
    /// Write a first experiment file for the app in this folder.
    Init(InitArgs),
    /// List the faults and ready-made profiles, or explain one.
    Faults(FaultsArgs),
    /// Print the JSON Schema of the experiment file, the results or the decision journal.
    Schema(SchemaArgs),
    /// Make the report again from a results.json.
    Report(ReportArgs),
    /// Arm a fault of a running `serve`.
    Arm(ArmArgs),
    /// Disarm a fault of a running `serve`.
    Disarm(DisarmArgs),
    /// Disarm every fault of a running `serve`, at once.
    Stop(AdminArgs),
    /// Tell what a running `serve` has armed, and what it hit.
    Status(AdminArgs),
    /// Tell whether a running `serve` or `run` is up (for container health checks).
    Healthcheck(AdminArgs),
    /// Print shell completions.
    Completions { shell: clap_complete::Shell },
    /// What `exec` starts first: it becomes the program.
    #[command(hide = true)]
    Launch(LaunchArgs),
}

/// Which file, and what to change in it.
#[derive(Debug, Args, Clone)]
pub(crate) struct FileArgs {
    /// The experiment file [default: $BROWNOUT_CONFIG (a path, or the YAML itself), ./brownout.yaml, ./.brownout/*.yaml].
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// The experiment file, as a flag.
    #[arg(short = 'f', long = "config", value_name = "FILE", conflicts_with = "file")]
    pub(crate) config: Option<PathBuf>,

    /// Lay one of the file's own `profiles` over it.
    #[arg(long, value_name = "NAME", env = "BROWNOUT_PROFILE")]
    pub(crate) profile: Option<String>,

    /// Set one value: --set faults.cut.percent=50 (may be given several times).
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) sets: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct OutArgs {
    /// Where results.json, report.html, junit.xml and decisions.jsonl go [default: brownout-report].
    #[arg(long, value_name = "DIR", env = "BROWNOUT_OUT")]
    pub(crate) out: Option<PathBuf>,

    /// Print the results as one JSON object on stdout instead of the summary.
    #[arg(long)]
    pub(crate) json: bool,

    /// How progress is shown on stderr.
    #[arg(long, value_enum, default_value = "auto", env = "BROWNOUT_PROGRESS")]
    pub(crate) progress: Progress,

    /// Draw with ASCII characters only.
    #[arg(long)]
    pub(crate) ascii: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Progress {
    /// Bars on a terminal, lines elsewhere.
    Auto,
    Bars,
    /// A line every five seconds.
    Lines,
    None,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The same app with its bugs fixed: watch it pass.
    #[arg(long)]
    pub(crate) fixed: bool,

    /// The seed: the same seed gives the same faults, request for request.
    #[arg(long, default_value_t = 42, env = "BROWNOUT_SEED")]
    pub(crate) seed: u64,

    /// Exit as `run` would (1 when an expectation failed); without it the demo exits 0.
    #[arg(long)]
    pub(crate) strict: bool,

    /// Print the demo's experiment file instead of running it.
    #[arg(long)]
    pub(crate) print: bool,

    #[command(flatten)]
    pub(crate) out: OutArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,

    #[command(flatten)]
    pub(crate) out: OutArgs,

    /// The seed, in place of the file's.
    #[arg(long, env = "BROWNOUT_SEED")]
    pub(crate) seed: Option<u64>,

    /// Start this command (through `sh -c`) with every base URL set, and stop it at the end.
    #[arg(long, value_name = "CMD")]
    pub(crate) exec: Option<String>,

    /// Wait until this answers before the load starts: a URL, host:port or :port.
    #[arg(long, value_name = "WHERE")]
    pub(crate) wait_for: Option<String>,

    /// How long --wait-for waits.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(crate) wait_timeout: crate::units::Span,

    /// The app's URL, in place of `workload.app`.
    #[arg(long, value_name = "URL", env = "BROWNOUT_APP")]
    pub(crate) app: Option<String>,

    /// Serve the admin API here during the run (port 0 picks one; beyond loopback it only tells).
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,

    /// Let the driver load an app outside loopback and private networks.
    #[arg(long)]
    pub(crate) allow_public: bool,

    /// Listen on free ports instead of the file's.
    #[arg(long)]
    pub(crate) random_ports: bool,

    #[command(flatten)]
    pub(crate) again: AgainArgs,
}

/// How faults decide.
#[derive(Debug, Args)]
pub(crate) struct AgainArgs {
    /// Meet the decisions of an earlier run again: the same faults on the same requests with the same
    /// draws, whatever the file says now about where, when and how often.
    #[arg(long, value_name = "DECISIONS.JSONL")]
    pub(crate) replay: Option<PathBuf>,

    /// Count what every fault would hit; none acts.
    #[arg(long)]
    pub(crate) shadow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,

    /// Arm these faults from the start.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) arm: Vec<String>,

    /// How long --arm and the admin API arm a fault when nothing else is said; `forever` for no end.
    #[arg(long = "for", value_name = "TIME", default_value = "forever")]
    pub(crate) lease: String,

    /// Where the admin API listens.
    #[arg(long, value_name = "ADDR", default_value = USUAL_ADMIN, env = "BROWNOUT_ADMIN")]
    pub(crate) admin: SocketAddr,

    /// Serve the admin API beyond loopback although it has no password.
    #[arg(long)]
    pub(crate) allow_remote_admin: bool,

    /// The seed, in place of the file's.
    #[arg(long, env = "BROWNOUT_SEED")]
    pub(crate) seed: Option<u64>,

    /// Print every address as one line of JSON.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) print: Option<Print>,

    /// Listen on free ports instead of the file's.
    #[arg(long)]
    pub(crate) random_ports: bool,

    /// Mark answers that a fault made up with `x-brownout-fault: NAME`.
    #[arg(long)]
    pub(crate) mark: bool,

    /// Put this mark (SO_MARK) on connections to upstreams, for rules that redirect all others
    /// (Linux, needs CAP_NET_ADMIN; see `redirect --mark`).
    #[arg(long, value_name = "N")]
    pub(crate) socket_mark: Option<u32>,

    /// Where decisions.jsonl goes; nothing is written without it.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Read the file anew whenever it changes, as SIGHUP does.
    #[arg(long)]
    pub(crate) watch: bool,

    /// Take over from the `serve` that has this Unix socket, and hand over there to the next one, so
    /// that no connection is refused meanwhile.
    #[arg(long, value_name = "PATH")]
    pub(crate) handover: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) again: AgainArgs,

    /// How long what is under way may take to end after Ctrl-C or SIGTERM.
    #[arg(long, value_name = "TIME", default_value = "25s")]
    pub(crate) drain_timeout: crate::units::Span,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Print {
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    /// What to simulate.
    #[arg(long, default_value = "openai", value_parser = ["openai", "qdrant"])]
    pub(crate) kind: String,

    /// Where to listen (port 0 picks one).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,

    /// The model's preset.
    #[arg(long, default_value = "small")]
    pub(crate) model: String,

    /// Documents in the vector store's collection `documents`.
    #[arg(long, default_value_t = 0)]
    pub(crate) documents: usize,

    #[arg(long, default_value_t = 42)]
    pub(crate) seed: u64,

    /// Print the address as one line of JSON.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) print: Option<Print>,
}

#[derive(Debug, Args)]
pub(crate) struct CaArgs {
    #[command(subcommand)]
    pub(crate) action: Option<CaAction>,

    /// Where it is kept [default: brownout in the user's data directory].
    #[arg(long, global = true, value_name = "DIR", env = "BROWNOUT_CA_DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Print its certificate, or the path of it, and nothing else.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) print: Option<CaPrint>,

    /// Write the system's roots and it into one PEM file (`-` for stdout).
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum CaPrint {
    Path,
    Pem,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Subcommand)]
pub(crate) enum CaAction {
    /// Make another in its place; apps must be told to trust that one.
    Renew,
    /// Remove it; the next use makes another.
    Remove,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,

    /// Validate alone: contact nothing.
    #[arg(long)]
    pub(crate) offline: bool,

    /// Print the result as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,

    /// Write the check's result into DIR as check.json, too.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The file to write.
    #[arg(default_value = "brownout.yaml")]
    pub(crate) file: PathBuf,

    /// Overwrite it if it is there.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FaultsArgs {
    /// A fault (`truncate`) or a profile (`llm/stalled_stream`) to explain.
    pub(crate) name: Option<String>,

    /// List only what has this word in its name, its description or its options: `quota`,
    /// `anthropic`, `truncate`.
    #[arg(long, value_name = "WORD", conflicts_with = "name")]
    pub(crate) find: Option<String>,

    /// Print as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Of what.
    #[arg(value_enum, default_value = "experiment")]
    pub(crate) of: SchemaOf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum SchemaOf {
    Experiment,
    Results,
    Decisions,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// A results.json, or a folder that has one.
    #[arg(default_value = "brownout-report")]
    pub(crate) results: PathBuf,

    /// Where report.html and junit.xml go [default: beside the results].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Open the report in a browser.
    #[arg(long)]
    pub(crate) open: bool,

    /// Print this instead of writing files.
    #[arg(long, value_enum)]
    pub(crate) print: Option<ReportAs>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum ReportAs {
    Text,
    Markdown,
    Junit,
    Html,
    Annotations,
}

#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// Where the admin API listens.
    #[arg(long, value_name = "ADDR", default_value = USUAL_ADMIN, env = "BROWNOUT_ADMIN")]
    pub(crate) admin: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct ArmArgs {
    pub(crate) fault: String,

    /// In place of the fault's own percent.
    #[arg(long)]
    pub(crate) percent: Option<crate::units::Percent>,

    /// When it ends by itself.
    #[arg(long = "for", value_name = "TIME")]
    pub(crate) lease: Option<crate::units::Span>,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DisarmArgs {
    pub(crate) fault: String,

    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// Prints the completions of a shell.
pub(crate) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "brownout", &mut std::io::stdout());
}
