//! When a run must stop: sentences over the last seconds, health probes, the longest duration.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::{Book, wait};
use crate::config::plan::{Probe, Safety};
use crate::units::Span;

/// How long a probe may take when it is not asked more often than that.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// Watches the safety rules of a run.
#[derive(Debug)]
pub(super) struct Watchman<'a> {
    safety: &'a Safety,
    probes: Vec<Watched<'a>>,
}

#[derive(Debug)]
struct Watched<'a> {
    probe: &'a Probe,
    /// Failures in a row.
    failures: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl<'a> Watchman<'a> {
    /// Starts the probes.
    pub(super) fn new(safety: &'a Safety) -> Self {
        let probes = safety.probes.iter().map(Watched::start).collect();
        Self { safety, probes }
    }

    /// Why the run must stop now, if it must.
    pub(super) fn alarm(&self, book: &Book, now: Duration) -> Option<String> {
        if let Some(longest) = self.safety.max_duration
            && now >= longest
        {
            return Some(format!("the run reached safety.max_duration ({})", Span(longest)));
        }
        for watched in &self.probes {
            let failures = watched.failures.load(Ordering::Relaxed);
            if failures >= watched.probe.failures {
                return Some(format!("{} failed {failures} probes in a row", watched.probe.url));
            }
        }
        self.safety
            .abort_when
            .iter()
            .find(|sentence| book.holds_now(sentence, now))
            .map(|sentence| format!("`abort_when: {}` came true", sentence.text))
    }
}

impl<'a> Watched<'a> {
    fn start(probe: &'a Probe) -> Self {
        let failures = Arc::new(AtomicU32::new(0));
        let task = tokio::spawn(ask_again_and_again(probe.clone(), Arc::clone(&failures)));
        Self { probe, failures, task }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask_again_and_again(probe: Probe, failures: Arc<AtomicU32>) {
    let host = probe.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = probe.url.port_or_known_default().unwrap_or(80);
    let path = probe.url[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
    let mut tick = tokio::time::interval(probe.every);
    loop {
        tick.tick().await;
        let asked = wait::get(&host, port, &path);
        let answer = tokio::time::timeout(probe.every.min(PROBE_PATIENCE), asked).await;
        match answer {
            Ok(Ok(status)) if status == probe.expect_status => failures.store(0, Ordering::Relaxed),
            _ => {
                failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
