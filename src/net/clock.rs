//! Time since the run began, and sleeping that is not late.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// A sleep under way.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The run's clock. All times of a run count from the same start.
pub trait Clock: Debug + Send + Sync {
    /// Time since the run began.
    fn now(&self) -> Duration;

    /// Sleeps until this time since the run began; never wakes early.
    fn sleep_until(&self, at: Duration) -> Sleep;

    /// Sleeps for this long from now.
    fn sleep(&self, time: Duration) -> Sleep {
        self.sleep_until(self.now() + time)
    }
}
