//! Flags of the commands that lead an app to the proxy.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::FileArgs;

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,

    /// Start no proxy: use the running `serve` or `run` whose admin API is here.
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["file", "config", "profile", "sets", "arm", "admin", "seed", "random_ports"])]
    pub(crate) attach: Option<SocketAddr>,

    /// Arm these faults from the start.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) arm: Vec<String>,

    /// How long --arm and the admin API arm a fault when nothing else is said; `forever` for no end.
    #[arg(long = "for", value_name = "TIME", default_value = "forever")]
    pub(crate) lease: String,

    /// Serve the admin API here, on loopback [default: 127.0.0.1:8474, or a free port if it is taken].
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin: Option<SocketAddr>,

    /// The seed, in place of the file's.
    #[arg(long, env = "BROWNOUT_SEED")]
    pub(crate) seed: Option<u64>,

    /// Listen on free ports instead of the file's.
    #[arg(long)]
    pub(crate) random_ports: bool,

    /// Where decisions.jsonl goes; nothing is written without it.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// The program and its arguments, behind `--`.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    #[arg(long)]
    pub(crate) parent: i32,

    #[arg(long)]
    pub(crate) files: Option<u64>,

    #[arg(last = true, required = true)]
    pub(crate) command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct EnvArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,

    /// For whom.
    #[arg(long, value_enum, default_value = "sh")]
    pub(crate) format: EnvFormat,

    /// The name by which the app reaches brownout (`brownout`, `host.docker.internal`), in place of
    /// the listeners' own addresses.
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,

    /// Ask the running `serve` whose admin API is here, instead of reading a file.
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["file", "config", "profile", "sets"])]
    pub(crate) admin: Option<SocketAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum EnvFormat {
    /// `eval "$(brownout env)"`
    Sh,
    /// A `.env` file.
    Dotenv,
    /// One JSON object.
    Json,
    /// Lines for "$GITHUB_ENV".
    Github,
    /// A file for `docker run --env-file`.
    Docker,
}

#[derive(Debug, Args)]
pub(crate) struct RedirectArgs {
    /// Print the rules for this tool. Nothing is executed.
    #[arg(long, value_enum, value_name = "TOOL")]
    pub(crate) print: Firewall,

    /// The transparent gateway's port.
    #[arg(long, default_value_t = 15001)]
    pub(crate) port: u16,

    /// The user that brownout runs as: its own connections are not redirected [default: yours].
    #[arg(long, value_name = "UID")]
    pub(crate) uid: Option<u32>,

    /// Do not redirect connections with this mark, instead of by user (see `serve --socket-mark`).
    #[arg(long, value_name = "N", conflicts_with = "uid")]
    pub(crate) mark: Option<u32>,

    /// Redirect connections to these ports alone.
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    pub(crate) ports: Vec<u16>,

    /// For a gateway with `mode: tproxy`.
    #[arg(long)]
    pub(crate) tproxy: bool,

    /// Print how to take the rules away instead.
    #[arg(long)]
    pub(crate) remove: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Firewall {
    Nft,
    Iptables,
}
