//! Starts the built binary and hears what it says.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::raw::until;

/// Longer than any run of these tests takes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The command, free of what this machine's environment says.
pub(crate) fn brownout(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brownout"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    for (name, _) in std::env::vars() {
        if name.starts_with("BROWNOUT_") || name.starts_with("GITHUB_") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").env("BROWNOUT_PROGRESS", "none").env_remove("CI");
    command
}

/// A command that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn said(&self) -> String {
        format!("exit code {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.out, self.err)
    }

    /// Expects an exit code and these words, wherever they were said.
    #[track_caller]
    pub(crate) fn expect(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{}", self.said());
        // Long lines are wrapped, so words are looked for without their line breaks.
        let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let all = flat(&format!("{} {}", self.out, self.err));
        for word in words {
            assert!(all.contains(&flat(word)), "no `{word}` in\n{}", self.said());
        }
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}\n{}", self.said()))
    }
}

/// Runs a command to its end.
pub(crate) async fn ended(mut command: Command) -> Ended {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it never ended").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A command at work.
pub(crate) struct Started {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
    heard: String,
}

impl Started {
    pub(crate) fn new(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, out, err, heard: String::new() }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// The next line on stdout.
    pub(crate) async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.out.next_line()).await;
        line.expect("no line came").unwrap().expect("stdout ended")
    }

    /// Waits until this stands on stderr.
    pub(crate) async fn hear(&mut self, words: &str) {
        self.heard_after(words).await;
    }

    /// Waits until this stands on stderr, and gives what follows it on its line.
    pub(crate) async fn heard_after(&mut self, words: &str) -> String {
        let listening = async {
            while let Some(line) = self.err.next_line().await.unwrap() {
                self.heard.push_str(&line);
                self.heard.push('\n');
                if let Some((_, after)) = line.split_once(words) {
                    return after.to_owned();
                }
            }
            panic!("it never said `{words}`:\n{}", self.heard);
        };
        tokio::time::timeout(PATIENCE, listening).await.expect("silence")
    }

    pub(crate) async fn ended(mut self) -> Ended {
        let (mut out, mut err) = (String::new(), self.heard);
        let mut said = (self.out.into_inner(), self.err.into_inner());
        let all = async {
            let read =
                tokio::join!(said.0.read_to_string(&mut out), said.1.read_to_string(&mut err));
            (read.0.unwrap(), read.1.unwrap(), self.child.wait().await.unwrap())
        };
        let (.., status) = tokio::time::timeout(PATIENCE, all).await.expect("it never ended");
        Ended { code: status.code(), out, err }
    }
}

/// A folder for one test.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn at(&self, name: &str) -> String {
        self.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path().join(name), text).unwrap();
        self.at(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        let path = self.path().join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// The lines of a JSONL file.
    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        self.read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Every file in it, however deep.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.path().to_owned()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files
    }
}

/// Waits until a process is gone.
pub(crate) async fn gone(pid: i32) {
    let pid = Pid::from_raw(pid).unwrap();
    until("the process is gone", || rustix::process::test_kill_process(pid).is_err()).await;
}
