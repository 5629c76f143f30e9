//! The command line: arguments in, words and exit codes out. What a command does lives below.

mod activation;
mod args;
mod ca;
mod check;
mod control;
mod demo;
mod env;
mod exec;
mod faults;
mod handover;
mod init;
mod inputs;
mod offspring;
mod progress;
mod redirect;
mod reload;
mod report;
mod run;
mod schema;
mod serve;
mod signals;
mod sim;
mod terminal;

use std::process::ExitCode;

use clap::Parser as _;

use self::args::{Cli, Command};

/// Exit codes, the same for every command.
pub mod exit {
    /// Every expectation held.
    pub const PASS: u8 = 0;
    /// An expectation failed.
    pub const FAIL: u8 = 1;
    /// The command line or a file is wrong.
    pub const USAGE: u8 = 2;
    /// The run could not be done.
    pub const COULD_NOT_RUN: u8 = 3;
    /// A safety rule stopped the run.
    pub const ABORTED: u8 = 4;
    /// A fault hit nothing, or too little happened to say.
    pub const INCONCLUSIVE: u8 = 5;
    /// Ctrl-C or SIGTERM.
    pub const INTERRUPTED: u8 = 130;
}

/// A command that ended early: what to say, and the exit code.
#[derive(Debug)]
pub(crate) struct Failed {
    code: u8,
    message: String,
}

impl Failed {
    /// The call or a file is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: exit::USAGE, message: message.into() }
    }

    /// The run could not be done.
    pub(crate) fn run(message: impl Into<String>) -> Self {
        Self { code: exit::COULD_NOT_RUN, message: message.into() }
    }

    /// Ctrl-C came before there was anything to report.
    pub(crate) fn interrupted(message: impl Into<String>) -> Self {
        Self { code: exit::INTERRUPTED, message: message.into() }
    }
}

/// Runs the command line and gives its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    terminal::set_up_logs(cli.verbose);
    terminal::allow_many_files();
    let result = match cli.command {
        Command::Arm(args) => control::arm(&args),
        Command::Ca(args) => ca::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Completions { shell } => {
            args::completions(shell);
            Ok(exit::PASS)
        }
        Command::Demo(args) => demo::run(&args),
        Command::Disarm(args) => control::disarm(&args),
        Command::Env(args) => env::run(&args),
        Command::Exec(args) => exec::run(&args),
        Command::Faults(args) => faults::run(&args),
        Command::Healthcheck(args) => control::healthcheck(&args),
        Command::Init(args) => init::run(&args),
        Command::Launch(args) => offspring::launch(&args),
        Command::Redirect(args) => redirect::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Status(args) => control::status(&args),
        Command::Stop(args) => control::stop(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failed) => {
            terminal::error(&failed.message);
            ExitCode::from(failed.code)
        }
    }
}
