//! The way from the planes to the measures: a bounded channel that never blocks a byte and counts
//! what it drops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::Observation;

/// The sending side, cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: Option<mpsc::Sender<Observation>>,
    dropped: Arc<AtomicU64>,
}

/// The receiving side.
#[derive(Debug)]
pub struct Tap {
    receiver: mpsc::Receiver<Observation>,
}

impl Recorder {
    /// A channel that holds this many observations.
    pub fn channel(capacity: usize) -> (Self, Tap) {
        let (sender, receiver) = mpsc::channel(capacity);
        let recorder = Self { sender: Some(sender), dropped: Arc::default() };
        (recorder, Tap { receiver })
    }

    /// A recorder that forgets everything.
    pub fn none() -> Self {
        Self { sender: None, dropped: Arc::default() }
    }

    /// Hands an observation over, or counts it as dropped when the channel is full.
    pub fn record(&self, observation: Observation) {
        if let Some(sender) = &self.sender
            && sender.try_send(observation).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether anybody is told at all.
    #[inline]
    pub fn is_heard(&self) -> bool {
        self.sender.is_some()
    }

    /// How many observations were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Tap {
    /// The next observation; None when all recorders are gone.
    pub async fn next(&mut self) -> Option<Observation> {
        self.receiver.recv().await
    }

    /// What is there now, without waiting.
    pub fn try_next(&mut self) -> Option<Observation> {
        self.receiver.try_recv().ok()
    }
}
