//! Reading the file anew while `serve` runs: on SIGHUP, when it changes, or when the admin API is
//! asked to. One wish at a time; the file is taken whole or refused whole.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::args::FileArgs;
use super::{inputs, signals, terminal};
use crate::admin::{Control, ReloadWish};
use crate::experiment::World;

/// How often a watched file is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What may ask for a reload.
pub(crate) struct Reloads {
    hangup: Option<Signal>,
    watched: Option<Watched>,
    wishes: mpsc::Receiver<ReloadWish>,
    sender: mpsc::Sender<ReloadWish>,
}

/// Who asked for a reload.
pub(crate) enum Wish {
    Admin(ReloadWish),
    Changed,
    Hangup,
}

impl Reloads {
    pub(crate) fn of(file: &FileArgs, watch: bool) -> Self {
        let (sender, wishes) = mpsc::channel(8);
        let watched = watch.then(|| inputs::path(file)).flatten().map(Watched::new);
        if watch && watched.is_none() {
            terminal::note("--watch has no effect: the experiment comes from no file");
        }
        Self { hangup: signals::hangups(), watched, wishes, sender }
    }

    /// Where the admin API sends its wishes.
    pub(crate) fn wishes(&self) -> mpsc::Sender<ReloadWish> {
        self.sender.clone()
    }

    /// The next wish. Nothing is lost when this is dropped.
    pub(crate) async fn next(&mut self) -> Wish {
        let changed = async {
            match &mut self.watched {
                Some(watched) => watched.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = signals::next(self.hangup.as_mut()) => Wish::Hangup,
            () = changed => Wish::Changed,
            Some(wish) = self.wishes.recv() => Wish::Admin(wish),
        }
    }
}

/// A file that is looked at now and then. By its path: editors put another file in its place.
struct Watched {
    path: PathBuf,
    /// As it was when it was last read.
    known: State,
    /// As it was at the last look; it is read once two looks agree.
    seen: State,
    text: Option<Vec<u8>>,
}

/// What can be told of a file without reading it; None when it is not there.
type State = Option<(SystemTime, u64, u64)>;

impl Watched {
    fn new(path: PathBuf) -> Self {
        let known = state(&path);
        let text = std::fs::read(&path).ok();
        Self { seen: known, known, text, path }
    }

    /// Returns when it holds something else, and nobody is writing it any more.
    async fn changed(&mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = state(&self.path);
            let settled = now == std::mem::replace(&mut self.seen, now);
            // While it is not there, another one is about to take its place.
            if !settled || now.is_none() || now == self.known {
                continue;
            }
            self.known = now;
            let text = std::fs::read(&self.path).ok();
            if text.is_some() && text != std::mem::replace(&mut self.text, text.clone()) {
                return;
            }
        }
    }
}

fn state(path: &std::path::Path) -> State {
    use std::os::unix::fs::MetadataExt as _;
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len(), data.ino()))
}

/// Reads the file and serves what it says, or says why not; whoever asked is answered.
pub(crate) async fn carry_out(wish: Wish, world: &mut World, control: &Control, file: &FileArgs) {
    let reloaded = match inputs::load(file) {
        Ok(plan) => world.reload(plan, control).await.map_err(|error| error.to_string()),
        Err(failed) => Err(failed.message),
    };
    let told = match &reloaded {
        Ok(changes) if changes.is_empty() => {
            "the file was read anew: nothing has changed".to_owned()
        }
        Ok(changes) => format!("the file was read anew: {}", changes.join("; ")),
        Err(refused) => {
            format!("{}\nthe file is refused; what was loaded before stays", refused.trim_end())
        }
    };
    terminal::note(&told);
    if let Wish::Admin(answer) = wish {
        let _ = answer.send(reloaded);
    }
}
