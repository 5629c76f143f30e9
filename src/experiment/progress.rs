//! What a run tells while it lasts, for whoever shows it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Endpoint;
use crate::measure::Now;

/// Something worth showing.
#[derive(Clone, Debug)]
pub enum Event {
    /// All listeners are up.
    Listening {
        endpoints: Vec<Endpoint>,
        /// The gateways: their names and URLs.
        gateways: Vec<(String, String)>,
        admin: Option<SocketAddr>,
        seed: u64,
    },
    /// Waiting for the app to answer.
    Waiting {
        target: String,
    },
    /// The load has begun.
    LoadBegan {
        app: String,
    },
    PhaseBegan {
        index: usize,
        name: String,
        duration: Duration,
        faults: Vec<String>,
    },
    /// Several times a second.
    Tick {
        index: usize,
        in_phase: Duration,
        elapsed: Duration,
        in_flight: usize,
        now: Box<Now>,
    },
    /// A sentence the user should read now.
    Notice(String),
    /// The load has ended; stragglers are awaited.
    Finishing,
}

/// The sending side; whoever does not listen misses nothing but the show.
#[derive(Clone, Debug)]
pub struct Progress(Option<mpsc::UnboundedSender<Event>>);

impl Progress {
    /// Progress and the side that shows it.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Some(sender)), receiver)
    }

    /// Progress that nobody watches.
    pub fn none() -> Self {
        Self(None)
    }

    pub(super) fn tell(&self, event: Event) {
        if let Some(sender) = &self.0 {
            let _ = sender.send(event);
        }
    }
}
