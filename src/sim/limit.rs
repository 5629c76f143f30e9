//! The simulated provider's own rate limit.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota as Allowed, RateLimiter};

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// So many requests a minute, refilled steadily.
#[derive(Debug)]
pub(super) struct Limit {
    limiter: Limiter,
    per_minute: NonZeroU32,
    clock: DefaultClock,
}

/// Where the limit stands after a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    pub(super) limit: u32,
    pub(super) remaining: u32,
    /// Until the limit is whole again.
    pub(super) reset: Duration,
    /// Set when the request was over the limit: until there is room for it.
    pub(super) wait: Option<Duration>,
}

impl Limit {
    /// None for a limit of zero, which would never let anyone in.
    pub(super) fn per_minute(number: u32) -> Option<Self> {
        let per_minute = NonZeroU32::new(number)?;
        let limiter = RateLimiter::direct(Allowed::per_minute(per_minute))
            .with_middleware::<StateInformationMiddleware>();
        Some(Self { limiter, per_minute, clock: DefaultClock::default() })
    }

    /// Counts one request.
    pub(super) fn take(&self) -> Quota {
        let limit = self.per_minute.get();
        let each = Duration::from_secs(60) / limit;
        match self.limiter.check() {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                Quota { limit, remaining, reset: each * (limit - remaining), wait: None }
            }
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.clock.now());
                let reset = each * (limit - 1) + wait;
                Quota { limit, remaining: 0, reset, wait: Some(wait) }
            }
        }
    }
}

impl Quota {
    pub(super) fn refused(&self) -> bool {
        self.wait.is_some()
    }
}

/// A time as Go prints it: `12ms`, `1.4s`, `6m0s`.
pub(super) fn go_style(time: Duration) -> String {
    let millis = time.as_millis();
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    match (minutes, rest) {
        (0, rest) if rest < 1000 => format!("{rest}ms"),
        (0, rest) => format!("{}s", rest as f64 / 1000.0),
        (minutes, rest) if minutes < 60 => format!("{minutes}m{}s", rest as f64 / 1000.0),
        (minutes, rest) => {
            format!("{}h{}m{}s", minutes / 60, minutes % 60, rest as f64 / 1000.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        let written =
            [12, 1000, 1400, 360_000, 63_000_000].map(|ms| go_style(Duration::from_millis(ms)));
        assert_eq!(written, ["12ms", "1s", "1.4s", "6m0s", "17h30m0s"]);
    }

    #[test]
    fn a_limit_lets_its_number_through_and_says_when_to_return() {
        let limit = Limit::per_minute(3).unwrap();
        let left: Vec<u32> = (0..3).map(|_| limit.take().remaining).collect();
        assert_eq!(left, [2, 1, 0]);
        let refused = limit.take();
        let wait = refused.wait.unwrap();
        assert!(wait > Duration::from_secs(18) && wait <= Duration::from_secs(20), "{wait:?}");
        assert!(Limit::per_minute(0).is_none());
    }
}
