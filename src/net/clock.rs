//! Time since the run began, and sleeping that is not late.

#![expect(clippy::disallowed_types, reason = "this is where real time is told")]

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use super::timer::SleepUntil;

/// A sleep under way.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The run's clock. All times of a run count from the same start.
pub trait Clock: Debug + Send + Sync {
    /// Time since the run began.
    fn now(&self) -> Duration;

    /// Sleeps until this time since the run began; never wakes early.
    fn sleep_until(&self, at: Duration) -> Sleep;

    /// Holds something back for this long from now: like `sleep`, but for delays whose length
    /// matters. When it is the only one, it may take CPU time to be on time.
    /// Behind a long wait, `meanwhile` is called a little before the end, when there is time for it.
    fn hold(&self, time: Duration, meanwhile: Option<fn()>) -> Sleep {
        let _ = meanwhile;
        self.sleep(time)
    }

    /// Sleeps for this long from now.
    fn sleep(&self, time: Duration) -> Sleep {
        self.sleep_until(self.now().saturating_add(time))
    }
}

/// Real time; the run begins when this is made. Sleeps are served by the process's timer thread.
#[derive(Clone, Copy, Debug)]
pub struct RealClock {
    origin: Instant,
}

impl RealClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep_until(&self, at: Duration) -> Sleep {
        match self.origin.checked_add(at) {
            Some(instant) => Box::pin(SleepUntil::new(instant)),
            // Beyond what the system can count: never.
            None => Box::pin(std::future::pending()),
        }
    }

    fn hold(&self, time: Duration, meanwhile: Option<fn()>) -> Sleep {
        match self.origin.checked_add(self.now().saturating_add(time)) {
            Some(instant) => Box::pin(SleepUntil::exactly(instant, meanwhile)),
            None => Box::pin(std::future::pending()),
        }
    }
}

/// The runtime's own time, for tests on a paused clock.
#[derive(Clone, Copy, Debug)]
pub struct PausedClock {
    origin: tokio::time::Instant,
}

impl PausedClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }
}

impl Default for PausedClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for PausedClock {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn sleep_until(&self, at: Duration) -> Sleep {
        match self.origin.checked_add(at) {
            Some(instant) => Box::pin(tokio::time::sleep_until(instant)),
            None => Box::pin(std::future::pending()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn real_sleeps_are_never_early() {
        let clock = RealClock::new();
        for micros in [0, 1, 300, 1_000, 7_000] {
            let wanted = Duration::from_micros(micros);
            let start = clock.now();
            clock.sleep(wanted).await;
            assert!(clock.now() - start >= wanted);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_passes_at_once_on_the_paused_clock() {
        let clock = PausedClock::new();
        clock.sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.now().as_secs(), 3600);
    }

    #[tokio::test(start_paused = true)]
    async fn for_ever_is_no_overflow() {
        let real = RealClock::new().sleep(Duration::MAX);
        let paused = PausedClock::new().sleep(Duration::MAX);
        let waited = tokio::time::timeout(Duration::from_secs(1), async {
            tokio::select! { () = real => {}, () = paused => {} }
        });
        assert!(waited.await.is_err());
    }
}
