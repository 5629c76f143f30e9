//! The program that `exec` starts, and all that it starts: signals are passed on to it, and all of
//! it ends with us, however we end.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{self, SignalKind, signal};

use super::args::LaunchArgs;
use super::{Failed, exit, terminal};
use crate::experiment::Variable;

/// What is left may take so long to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(10);
/// As shells say it.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Signals for the program. They are listened to from the start, so that none ends us before it.
#[derive(Debug)]
pub(super) struct Signals {
    all: [(Signal, unix::Signal); 5],
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failed> {
        let on = |kind| {
            signal(kind).map_err(|error| Failed::run(format!("signals cannot be heard: {error}")))
        };
        let all = [
            (Signal::INT, on(SignalKind::interrupt())?),
            (Signal::TERM, on(SignalKind::terminate())?),
            (Signal::HUP, on(SignalKind::hangup())?),
            (Signal::QUIT, on(SignalKind::quit())?),
            (Signal::USR1, on(SignalKind::user_defined1())?),
        ];
        Ok(Self { all })
    }

    async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            for (which, heard) in &mut self.all {
                if heard.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*which);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// How the program ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended(ExitStatus);

impl Ended {
    /// Its exit code; 128 and the signal's number when a signal ended it.
    pub(super) fn code(self) -> u8 {
        let code = self.0.code().or(self.0.signal().map(|signal| 128 + signal));
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::COULD_NOT_RUN)
    }
}

/// The program.
#[derive(Debug)]
pub(super) struct Offspring {
    child: tokio::process::Child,
    name: String,
}

impl Offspring {
    /// Starts it, with these variables added, on our own terminal.
    pub(super) fn start(command: &[OsString], variables: &[Variable]) -> Result<Self, Failed> {
        let name = command.first().map(|word| word.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        adopt_orphans();
        let failed = |error| Failed::run(format!("`{name}` cannot be started: {error}"));
        // Through ourselves: only a process itself can say that it is to end with its parent.
        let mut launcher = Command::new(own_program().map_err(failed)?);
        launcher.arg("launch").arg("--parent").arg(getpid().to_string());
        if let Some(files) = terminal::files_before() {
            launcher.arg("--files").arg(files.to_string());
        }
        launcher
            .arg("--")
            .args(command)
            .envs(variables.iter().map(|one| (&one.name, &one.value)))
            .kill_on_drop(true);
        Ok(Self { child: launcher.spawn().map_err(failed)?, name })
    }

    /// Waits for its end; what we are told by signals is passed on to it.
    pub(super) async fn run(&mut self, signals: &mut Signals) -> Result<Ended, Failed> {
        let orphans = signal(SignalKind::child());
        let mut orphans = orphans.map_err(|error| Failed::run(error.to_string()))?;
        let mut hung_up = None;
        loop {
            let patience = async {
                match hung_up {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = self.child.wait() => {
                    return ended.map(Ended).map_err(|error| {
                        Failed::run(format!("`{}` cannot be watched: {error}", self.name))
                    });
                }
                signal = signals.next() => {
                    self.pass(signal);
                    if signal == Signal::HUP {
                        hung_up = Some(tokio::time::Instant::now() + GRACE);
                    }
                }
                _ = orphans.recv() => bury(self.pid()),
                // The terminal is gone: who stays deaf to that is ended.
                () = patience => {
                    hung_up = None;
                    self.end().await;
                }
            }
        }
    }

    fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()))
    }

    fn pass(&self, signal: Signal) {
        // From the keyboard the terminal has told the program already.
        let by_keyboard = matches!(signal, Signal::INT | Signal::QUIT) && in_foreground();
        if let Some(pid) = self.pid().filter(|_| !by_keyboard) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends whatever is left of the program and of all that it started: SIGTERM, then SIGKILL.
    pub(super) async fn end(&mut self) {
        let until = tokio::time::Instant::now() + GRACE;
        let mut told = std::collections::BTreeSet::new();
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            let now = tokio::time::Instant::now();
            for pid in left {
                if now >= until {
                    let _ = kill_process(pid, Signal::KILL);
                } else if told.insert(pid.as_raw_nonzero()) {
                    let _ = kill_process(pid, Signal::TERM);
                }
            }
            if now >= until + GRACE {
                return;
            }
            let _ = self.child.try_wait();
            bury(self.pid());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The program itself, if it still runs, and its descendants.
    fn left(&mut self) -> Vec<Pid> {
        let own = if matches!(self.child.try_wait(), Ok(None)) { self.pid() } else { None };
        let mut left = descendants();
        left.extend(own);
        left
    }
}

/// Whether our process group is the one that the terminal's keys reach.
fn in_foreground() -> bool {
    let group = rustix::process::getpgrp();
    rustix::termios::tcgetpgrp(rustix::stdio::stdin()).is_ok_and(|front| front == group)
        || rustix::termios::tcgetpgrp(rustix::stdio::stderr()).is_ok_and(|front| front == group)
}

fn own_program() -> io::Result<std::path::PathBuf> {
    // It stays right when the file is replaced meanwhile.
    let linux = std::path::Path::new("/proc/self/exe");
    if linux.exists() { Ok(linux.to_owned()) } else { std::env::current_exe() }
}

/// Processes whose parent has ended become our children, so that we find them.
fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_child_subreaper(Some(getpid())) {
        tracing::warn!(%error, "what the program leaves behind cannot be ended with it");
    }
}

/// Takes note of the end of orphans, which nobody else does.
fn bury(program: Option<Pid>) {
    let own = getpid();
    for (pid, parent, ended) in processes() {
        if parent == own && ended && Some(pid) != program {
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
        }
    }
}

/// All that we started, and all that these started, as far as it runs.
fn descendants() -> Vec<Pid> {
    let all = processes();
    let mut found = vec![getpid()];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(all.iter().filter(|(_, of, _)| *of == parent).map(|(pid, _, _)| *pid));
        at += 1;
    }
    let ended = |pid: &Pid| all.iter().any(|(one, _, ended)| one == pid && *ended);
    found.remove(0);
    found.retain(|pid| !ended(pid));
    found
}

/// Each process of the machine: its id, its parent's, and whether it has ended; none where there
/// is no `/proc`.
fn processes() -> Vec<(Pid, Pid, bool)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let read = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // Behind the name, which may hold anything.
        let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
        let ended = matches!(fields.next()?, "Z" | "X");
        let parent = fields.next()?.parse().ok()?;
        Some((Pid::from_raw(pid)?, Pid::from_raw(parent)?, ended))
    };
    entries.filter_map(read).collect()
}

/// `launch`: this process becomes the program, and ends with its parent even if that is killed.
pub(super) fn launch(args: &LaunchArgs) -> Result<u8, Failed> {
    #[cfg(target_os = "linux")]
    {
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
        // It may have ended before it could be watched.
        if rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get())
            != Some(args.parent)
        {
            return Ok(exit::COULD_NOT_RUN);
        }
    }
    if let Some(files) = args.files {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(files), ..limit });
    }
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(Failed::usage("a program must be named behind `--`"));
    };
    let error = std::process::Command::new(program).args(arguments).exec();
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    let what = match error.kind() {
        io::ErrorKind::NotFound => "there is no such program".to_owned(),
        _ => error.to_string(),
    };
    terminal::error(&format!("`{}` cannot be started: {what}", program.to_string_lossy()));
    Ok(code)
}
