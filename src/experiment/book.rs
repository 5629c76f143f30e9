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
use crate::engine::Engine;
use crate::measure::record::Expected;
use crate::measure::recovery::Rule;
use crate::measure::{Ledger, Observation, Outcome, Tap};
use crate::report;
use crate::verdict::{self, Evidence, Expectation};

/// How often observations are fetched.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Decision lines are on their way to the disk after so many looks (a quarter of a second).
const LOOKS_A_FLUSH: u32 = 25;

/// An app that answered before and refuses everything for this long is gone, not degraded.
const GONE_AFTER: Duration = Duration::from_secs(10);
/// How many refusals that takes at the least.
const GONE_REQUESTS: usize = 5;

/// The books.
#[derive(Debug)]
pub struct Book {
    /// What is measured; None for a proxy alone, which would otherwise grow without end.
    ledger: Option<Mutex<Ledger>>,
    /// When the run began, on the clock that observations come with.
    origin: Mutex<Option<Duration>>,
    metrics: Arc<Metrics>,
    journal: Mutex<Option<BufWriter<File>>>,
    /// Set when the journal could not be written.
    broken: Mutex<Option<String>>,
}

impl Book {
    /// Opens the books; `journal` is emptied first.
    pub fn open(
        ledger: Option<Ledger>,
        metrics: Arc<Metrics>,
        journal: Option<&Path>,
    ) -> io::Result<Self> {
        let journal = journal.map(File::create).transpose()?.map(BufWriter::new);
        Ok(Self {
            ledger: ledger.map(Mutex::new),
            origin: Mutex::new(None),
            metrics,
            journal: Mutex::new(journal),
            broken: Mutex::new(None),
        })
    }

    /// Collects until `end` turns true and the tap is empty.
    ///
    /// It looks now and then instead of being woken for each observation: on the untouched path a
    /// wake-up would cost more than all the rest of the recording.
    pub async fn collect(self: Arc<Self>, mut tap: Tap, mut end: watch::Receiver<bool>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks: u32 = 0;
        loop {
            tokio::select! {
                _ = look.tick() => {}
                _ = end.wait_for(|end| *end) => break,
            }
            self.drain(&mut tap);
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(LOOKS_A_FLUSH) {
                self.flush();
            }
        }
        self.drain(&mut tap);
        self.flush();
    }

    fn drain(&self, tap: &mut Tap) {
        while let Some(observation) = tap.try_next() {
            self.take(observation);
        }
    }

    /// The run's own time begins here: what was observed before is not measured, and all times
    /// count from now on.
    pub fn begin(&self, origin: Duration) {
        *self.origin.lock() = Some(origin);
    }

    /// A phase begins (and the one before it ends).
    pub(super) fn begin_phase(
        &self,
        name: &str,
        at: Duration,
        faults: Vec<String>,
        texts: Vec<String>,
    ) {
        self.change(|ledger| ledger.begin_phase(name, at, faults, texts));
    }

    /// The last phase ends.
    pub(super) fn end_phases(&self, at: Duration) {
        self.change(|ledger| ledger.end(at));
    }

    /// Looks at what was measured so far.
    pub(super) fn read<T: Default>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        self.ledger.as_ref().map(|ledger| look(&ledger.lock())).unwrap_or_default()
    }

    fn change(&self, change: impl FnOnce(&mut Ledger)) {
        if let Some(ledger) = &self.ledger {
            change(&mut ledger.lock());
        }
    }

    /// Whether a safety sentence holds now.
    pub(super) fn holds_now(&self, sentence: &Expectation, now: Duration) -> bool {
        let rule = Rule::default();
        self.read(|ledger| {
            Evidence::new(ledger, &rule, &[], &[]).holds(sentence, now) == Some(true)
        })
    }

    /// Judges sentences by what is known now.
    pub(super) fn judge(
        &self,
        sentences: &[Expectation],
        rule: &Rule,
        engine: &Engine,
    ) -> Vec<Expected> {
        let faults = super::record::ledgers(engine);
        self.read(|ledger| verdict::judge(sentences, &Evidence::new(ledger, rule, &faults, &[])))
    }

    /// Says so when the app, after it had answered, refuses every connection for a while.
    pub(super) fn app_is_gone(&self, now: Duration) -> Option<String> {
        self.read(|ledger| {
            let since = now.checked_sub(GONE_AFTER)?;
            let mut late = 0;
            for sample in ledger.samples().iter().rev().take_while(|sample| sample.end >= since) {
                if sample.outcome != Outcome::Refused {
                    return None;
                }
                late += 1;
            }
            let answered = ledger.samples().iter().any(|sample| sample.head.is_some());
            (late >= GONE_REQUESTS && answered).then(|| {
                format!(
                    "the app is gone: it refused all {late} connections of the last {} s",
                    GONE_AFTER.as_secs()
                )
            })
        })
    }

    /// Why the journal is not whole, if it is not.
    pub fn broken(&self) -> Option<String> {
        self.broken.lock().clone()
    }

    fn take(&self, mut observation: Observation) {
        self.metrics.observe(&observation);
        let origin = *self.origin.lock();
        let in_run = match origin {
            Some(origin) => observation.count_from(origin),
            None => self.ledger.is_none(),
        };
        if let Observation::Decision(line) = &observation {
            self.write(|file| writeln!(file, "{}", report::decision(line).trim_end()));
        }
        if in_run {
            self.change(|ledger| ledger.add(observation));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Sample;
    use crate::measure::ledger::tests::{phased, sample, secs};

    /// Books of an app that answers until `death` and is asked each second until `now`.
    fn asked_until(now: f64, death: f64, after: Outcome) -> Book {
        let ledger = phased(&[("baseline", 60.0, &[])]);
        let book = Book::open(Some(ledger), Arc::default(), None).unwrap();
        for at in (0..now as u32).map(f64::from) {
            let lives = at < death;
            let outcome = if lives { Outcome::Ok } else { after };
            let asked = Sample { head: None, ..sample(at, 0.1, outcome) };
            let seen = if lives { sample(at, 0.1, outcome) } else { asked };
            book.change(|ledger| ledger.add(Observation::Sample(Box::new(seen))));
        }
        book
    }

    #[test]
    fn an_app_that_refuses_everything_after_it_had_answered_is_gone() {
        let gone = |now: f64, death, after| asked_until(now, death, after).app_is_gone(secs(now));
        let told = gone(25.0, 10.0, Outcome::Refused).unwrap();
        assert!(told.contains("refused all 10 connections of the last 10 s"), "{told}");
        assert_eq!(gone(15.0, 10.0, Outcome::Refused), None, "not for long enough");
        assert_eq!(gone(25.0, 0.0, Outcome::Refused), None, "it never was there");
        assert_eq!(gone(25.0, 10.0, Outcome::Timeout), None, "degraded, not gone");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_journal_that_cannot_be_written_says_so() {
        let full = Path::new("/dev/full");
        let book = Book::open(None, Arc::default(), Some(full)).unwrap();
        assert_eq!(book.broken(), None);
        book.write(|file| file.write_all(&[b'x'; 1 << 16]));
        assert!(book.broken().unwrap().contains("broke off"));
    }
}
