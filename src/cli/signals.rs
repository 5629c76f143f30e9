//! Ctrl-C and SIGTERM: the first asks to finish, the second to stop now.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::experiment::Stop;

/// Waits for SIGINT or SIGTERM.
pub(crate) async fn wait_for_one() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Turns signals into wishes, for as long as the runtime lives.
pub(crate) fn watch() -> watch::Receiver<Stop> {
    let (sender, receiver) = watch::channel(Stop::No);
    tokio::spawn(async move {
        wait_for_one().await;
        let _ = sender.send(Stop::Soon);
        super::terminal::note(
            "finishing: faults are off, the report is being written (once more to stop now)",
        );
        wait_for_one().await;
        let _ = sender.send(Stop::Now);
    });
    receiver
}
