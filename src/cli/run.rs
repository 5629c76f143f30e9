//! `run`: an experiment from a file.

use super::args::{OutArgs, RunArgs};
use super::{Failed, exit, inputs, progress, signals, terminal};
use crate::config::plan::Plan;
use crate::config::setting_shown;
use crate::dice::Dice;
use crate::engine::Replay;
use crate::experiment::{self, App, Finished, Options, Ports, Progress, Target};
use crate::load::without_keys;
use crate::report;

pub(crate) fn run(args: &RunArgs) -> Result<u8, Failed> {
    let mut file = inputs::shadowed(&args.file, args.again.shadow);
    if let Some(app) = &args.app {
        file.sets.push(format!("workload.app={app}"));
    }
    let plan = inputs::load(&file)?;
    let seed = args.seed.or(plan.seed).unwrap_or_else(Dice::fresh_seed);
    let wait_for =
        args.wait_for.as_deref().map(Target::parse).transpose().map_err(Failed::usage)?;
    let setup = Conduct {
        seed,
        ports: if args.random_ports { Ports::Free } else { Ports::AsWritten },
        app: args.exec.clone().map_or(App::Elsewhere, App::Exec),
        wait_for,
        wait_timeout: args.wait_timeout.0,
        admin: args.admin,
        allow_public: args.allow_public,
        replay: inputs::journal(args.again.replay.as_deref())?,
        reproduce: reproduce(args, &plan, seed),
    };
    let finished = conduct(plan, setup, &args.out)?;
    Ok(exit_code(&finished))
}

/// What a run is made with besides its plan.
pub(crate) struct Conduct {
    pub(crate) seed: u64,
    pub(crate) ports: Ports,
    pub(crate) app: App,
    pub(crate) wait_for: Option<Target>,
    pub(crate) wait_timeout: std::time::Duration,
    pub(crate) admin: Option<std::net::SocketAddr>,
    pub(crate) allow_public: bool,
    pub(crate) replay: Option<(String, Replay)>,
    pub(crate) reproduce: String,
}

/// Conducts a run, shows its progress, prints its summary.
pub(crate) fn conduct(mut plan: Plan, setup: Conduct, out: &OutArgs) -> Result<Finished, Failed> {
    if let Some(folder) = &out.out {
        plan.outputs.dir.clone_from(folder);
    }
    let runtime = terminal::runtime()?;
    let finished = runtime.block_on(async {
        let (progress, events) = Progress::channel();
        let shown = tokio::spawn(progress::show(events, out.progress));
        let options = Options {
            seed: setup.seed,
            ports: setup.ports,
            app: setup.app,
            wait_for: setup.wait_for,
            wait_timeout: setup.wait_timeout,
            admin: setup.admin,
            allow_public: setup.allow_public,
            replay: setup.replay,
            reproduce: setup.reproduce,
            stop: signals::watch(
                "finishing: faults are off, the report is being written (once more to stop now)",
            ),
            progress,
        };
        let finished = experiment::run(plan, options).await;
        let _ = shown.await;
        finished
    });
    // Tasks that still hold sockets end with the runtime; nothing is waited for.
    runtime.shutdown_background();
    let finished = finished.map_err(failed)?;
    summary(&finished, out)?;
    match &finished.unwritten {
        Some(error) => Err(Failed::run(error.to_string())),
        None => Ok(finished),
    }
}

fn failed(error: experiment::Error) -> Failed {
    match error {
        experiment::Error::Plan(_) => Failed::usage(error.to_string()),
        experiment::Error::Interrupted(_) => Failed::interrupted(error.to_string()),
        other => Failed::run(other.to_string()),
    }
}

fn summary(finished: &Finished, out: &OutArgs) -> Result<(), Failed> {
    if out.json {
        return terminal::out(&report::json(&finished.record));
    }
    let style = report::Style {
        color: terminal::stdout_has_colour(),
        ascii: out.ascii,
        report: Some(finished.written.html.display().to_string()),
        ..report::Style::default()
    };
    let text = report::terminal(&finished.record, &style);
    terminal::out(&text)?;
    if std::env::var_os("GITHUB_ACTIONS").is_some() {
        terminal::out(&report::annotations(&finished.record))?;
    }
    Ok(())
}

pub(crate) fn exit_code(finished: &Finished) -> u8 {
    u8::try_from(finished.record.exit_code).unwrap_or(exit::COULD_NOT_RUN)
}

/// The command that makes this run again; keys in it are left out, since reports are shown around.
fn reproduce(args: &RunArgs, plan: &Plan, seed: u64) -> String {
    let mut command = format!("brownout run {} --seed {seed}", quoted(&plan.source_name));
    if let Some(profile) = &args.file.profile {
        command.push_str(&format!(" --profile {}", quoted(profile)));
    }
    for set in &args.file.sets {
        command.push_str(&format!(" --set {}", quoted(&setting_shown(set))));
    }
    if args.again.shadow {
        command.push_str(" --shadow");
    }
    if let Some(journal) = &args.again.replay {
        command.push_str(&format!(" --replay {}", quoted(&journal.display().to_string())));
    }
    if let Some(exec) = &args.exec {
        command.push_str(&format!(" --exec {}", quoted(&without_keys(exec))));
    }
    if let Some(wait) = &args.wait_for {
        command.push_str(&format!(" --wait-for {}", quoted(wait)));
    }
    if let Some(app) = &args.app {
        command.push_str(&format!(" --app {}", quoted(&without_keys(app))));
    }
    command
}

/// A word as a shell reads it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
