//! Keeps the books of a run: every observation goes into the ledger, the metrics and, for
//! decisions, a line of the journal file.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::admin::Metrics;
use crate::measure::{Ledger, Observation, Tap};
use crate::report;

/// How long a line may wait in memory before it is on its way to the disk.
const FLUSH_EVERY: Duration = Duration::from_millis(250);

/// The books.
#[derive(Debug)]
pub struct Book {
    /// What is measured; None for a proxy alone, which would otherwise grow without end.
    pub ledger: Option<Mutex<Ledger>>,
    metrics: Arc<Metrics>,
    journal: Mutex<Option<BufWriter<File>>>,
    /// Set when the journal could not be written.
    broken: Mutex<Option<String>>,
}

impl Book {
    /// Opens the books; `journal` is emptied first.
    pub fn open(ledger: Option<Ledger>, metrics: Arc<Metrics>, journal: Option<&Path>) -> io::Result<Self> {
        let journal = journal.map(File::create).transpose()?.map(BufWriter::new);
        Ok(Self {
            ledger: ledger.map(Mutex::new),
            metrics,
            journal: Mutex::new(journal),
            broken: Mutex::new(None),
        })
    }

    /// Collects until all recorders are gone or `end` turns true and the tap is empty.
    pub async fn collect(self: Arc<Self>, mut tap: Tap, mut end: watch::Receiver<bool>) {
        let mut flush = tokio::time::interval(FLUSH_EVERY);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                observation = tap.next() => {
                    let Some(first) = observation else { break };
                    self.take(first);
                    while let Some(next) = tap.try_next() {
                        self.take(next);
                    }
                }
                _ = flush.tick() => self.flush(),
                _ = end.wait_for(|end| *end) => break,
            }
        }
        while let Some(next) = tap.try_next() {
            self.take(next);
        }
        self.flush();
    }

    /// Why the journal is not whole, if it is not.
    pub fn broken(&self) -> Option<String> {
        self.broken.lock().clone()
    }

    fn take(&self, observation: Observation) {
        self.metrics.observe(&observation);
        if let Observation::Decision(line) = &observation {
            self.write(|file| writeln!(file, "{}", report::decision_line(line)));
        }
        if let Some(ledger) = &self.ledger {
            ledger.lock().add(observation);
        }
    }

    fn flush(&self) {
        self.write(BufWriter::flush);
    }

    fn write(&self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) {
        let mut journal = self.journal.lock();
        if let Some(file) = journal.as_mut()
            && let Err(error) = write(file)
        {
            *self.broken.lock() = Some(format!("the decision journal broke off: {error}"));
            *journal = None;
        }
    }
}
