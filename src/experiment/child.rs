//! The app that `--exec` starts: its environment, its end, and nothing left behind.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::watch;

use super::{Stop, Variable};

/// How long an app may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// A started app, in a process group of its own.
#[derive(Debug)]
pub(super) struct Child {
    child: tokio::process::Child,
    group: Option<rustix::process::Pid>,
}

impl Child {
    /// Starts `command` through `sh -c` with these variables added. Its stdout goes to our stderr,
    /// so that results on stdout stay clean.
    pub(super) fn start(command: &str, variables: &[Variable]) -> io::Result<Self> {
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(command)
            .envs(variables.iter().map(|one| (&one.name, &one.value)))
            .stdin(std::process::Stdio::null())
            .stdout(
                rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)
                    .map(std::process::Stdio::from)?,
            )
            .process_group(0)
            .kill_on_drop(true);
        let child = shell.spawn()?;
        let group = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()));
        Ok(Self { child, group })
    }

    /// Waits until the app ends by itself.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends the app and everything it started: SIGTERM, then SIGKILL after a grace period or when
    /// it is wished now.
    pub(super) async fn stop(mut self, stop: &mut watch::Receiver<Stop>) {
        self.signal(rustix::process::Signal::TERM);
        tokio::select! {
            ended = tokio::time::timeout(GRACE, self.child.wait()) => if ended.is_err() {
                tracing::warn!("the app did not end within {GRACE:?} of SIGTERM");
            },
            () = Stop::Now.wished(stop) => {}
        }
        self.signal(rustix::process::Signal::KILL);
        let _ = self.child.wait().await;
    }

    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(group) = self.group {
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(rustix::process::Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_app_started_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let command = format!("sleep 60 & echo $! > {}; wait", file.display());
        let app = Child::start(&command, &[]).unwrap();
        let pid = loop {
            match std::fs::read_to_string(&file)
                .ok()
                .and_then(|text| text.trim().parse::<i32>().ok())
            {
                Some(pid) => break rustix::process::Pid::from_raw(pid).unwrap(),
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let (_wish, mut stop) = watch::channel(Stop::No);
        app.stop(&mut stop).await;
        for _ in 0..400 {
            if rustix::process::test_kill_process(pid).is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the app's own child is still there");
    }
}
