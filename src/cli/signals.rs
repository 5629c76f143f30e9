//! Ctrl-C and SIGTERM: the first asks to finish, the second to stop now.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::experiment::Stop;

/// Both signals. They are listened to from here on, so that none is lost between two waits.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Option<Self> {
        let interrupt = signal(SignalKind::interrupt()).ok()?;
        let terminate = signal(SignalKind::terminate()).ok()?;
        Some(Self { interrupt, terminate })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Turns signals into wishes, for as long as the runtime lives; the first is answered with a word.
pub(crate) fn watch(first: &'static str) -> watch::Receiver<Stop> {
    let (sender, receiver) = watch::channel(Stop::No);
    let signals = Signals::listen();
    tokio::spawn(async move {
        let Some(mut signals) = signals else { return };
        signals.next().await;
        let _ = sender.send(Stop::Soon);
        super::terminal::note(first);
        signals.next().await;
        let _ = sender.send(Stop::Now);
    });
    receiver
}
