//! What commands say, and where: results on stdout, everything else on stderr.

use std::io::{IsTerminal as _, Write as _};

use tracing_subscriber::EnvFilter;

use super::Failed;

/// Logs go to stderr; BROWNOUT_LOG is a tracing filter, -v and -vv are short for the usual ones.
pub(crate) fn set_up_logs(verbose: u8) {
    let usual = match verbose {
        0 => "brownout=warn",
        1 => "brownout=info",
        _ => "brownout=trace",
    };
    let filter = EnvFilter::try_from_env("BROWNOUT_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_target(false)
        .try_init();
    // A second set-up (in tests) keeps the first.
    drop(logs);
}

/// The table of open files is made this wide at once; a wider one grows when it is needed.
const DESCRIPTORS: u64 = 1 << 16;

/// Lets this process have as many open files as it may: each proxied stream takes two, and the
/// usual limit of 1024 is meant for programs of another age. To be called before any thread is
/// started.
pub(crate) fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = FILES_BEFORE.set(limit.current);
    // Where it may not be raised, the proxy says so when it runs out.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    // Linux doubles the table when it is full. With threads it waits for all processors first, some
    // ten milliseconds in which nothing is accepted; with one thread it does not.
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).min(DESCRIPTORS);
    if let Ok(last) = i32::try_from(allowed.saturating_sub(1)) {
        drop(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), last));
    }
}

/// How many files this process could open before that: programs that we start are not used to more.
pub(crate) fn files_before() -> Option<u64> {
    FILES_BEFORE.get().copied().flatten()
}

static FILES_BEFORE: std::sync::OnceLock<Option<u64>> = std::sync::OnceLock::new();

/// Prints to stdout. A closed pipe (`| head`) ends the command quietly.
pub(crate) fn out(text: &str) -> Result<(), Failed> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failed::run(format!("stdout cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints to stderr.
pub(crate) fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints an error; diagnostics that render themselves begin with `error:` already.
pub(crate) fn error(message: &str) {
    let message = message.trim_end();
    if message.is_empty() {
        return;
    }
    if message.starts_with("error:") || message.contains("\nerror:") {
        note(message);
    } else {
        note(&format!("error: {message}"));
    }
}

/// Whether stdout shows colours.
pub(crate) fn stdout_has_colour() -> bool {
    !matches!(anstream::AutoStream::choice(&std::io::stdout()), anstream::ColorChoice::Never)
}

/// The runtime that commands run on.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::run(format!("no runtime: {error}")))
}
