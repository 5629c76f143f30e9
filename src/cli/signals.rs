//! Ctrl-C and SIGTERM: the first asks to finish, the second to stop now. SIGHUP does the same where
//! nothing is read anew, so that a terminal that closes leaves nothing behind.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::experiment::Stop;

/// The signals. They are listened to from here on, so that none is lost between two waits.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None where it means something else.
    hangup: Option<Signal>,
}

impl Signals {
    fn listen(hangup: bool) -> Option<Self> {
        let interrupt = signal(SignalKind::interrupt()).ok()?;
        let terminate = signal(SignalKind::terminate()).ok()?;
        let hangup = hangup.then(hangups).flatten();
        Some(Self { interrupt, terminate, hangup })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = next(self.hangup.as_mut()) => {}
        }
    }
}

/// SIGHUP, which from here on does not end this process.
pub(crate) fn hangups() -> Option<Signal> {
    signal(SignalKind::hangup()).ok()
}

/// The next one; never where there is none to wait for.
pub(crate) async fn next(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Turns signals into wishes, for as long as the runtime lives; the first is answered with a word.
pub(crate) fn watch(first: &'static str) -> watch::Receiver<Stop> {
    wishes(first, true)
}

/// The same without SIGHUP.
pub(crate) fn watch_but_hangup(first: &'static str) -> watch::Receiver<Stop> {
    wishes(first, false)
}

fn wishes(first: &'static str, hangup: bool) -> watch::Receiver<Stop> {
    let (sender, receiver) = watch::channel(Stop::No);
    let signals = Signals::listen(hangup);
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
