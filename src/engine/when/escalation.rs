//! A percent that rises in steps: with time, or with each few hits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A percent that rises in steps.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Escalation {
    /// Points (of 100) that each step adds.
    pub by: f64,
    pub each: Step,
    /// Where it ends, in percent.
    pub to: f64,
}

/// What makes a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// So many hits of the fault itself.
    Hits(u64),
    /// So much time since it was armed.
    Time(Duration),
}

/// The hits so far.
#[derive(Debug, Default)]
pub(in crate::engine) struct Climbed(AtomicU64);

impl Escalation {
    /// The percent now, where it began at `percent`.
    pub(in crate::engine) fn raised(
        &self,
        climbed: &Climbed,
        percent: f64,
        since: Duration,
    ) -> f64 {
        let steps = match self.each {
            Step::Hits(hits) => climbed.0.load(Ordering::Relaxed) / hits.max(1),
            Step::Time(time) => (since.as_nanos() / time.as_nanos().max(1)) as u64,
        };
        (percent + self.by * steps as f64).min(self.to.max(percent))
    }
}

impl Climbed {
    pub(in crate::engine) fn hit(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_with_time_or_hits_and_end() {
        let climbed = Climbed::default();
        let by_time = Escalation { by: 10.0, each: Step::Time(Duration::from_secs(30)), to: 45.0 };
        let at = |second| by_time.raised(&climbed, 5.0, Duration::from_secs(second));
        assert_eq!([at(0), at(29), at(30), at(90), at(9000)], [5.0, 5.0, 15.0, 35.0, 45.0]);
        let by_hits = Escalation { each: Step::Hits(3), ..by_time };
        (0..7).for_each(|_| climbed.hit());
        assert_eq!(by_hits.raised(&climbed, 5.0, Duration::ZERO), 25.0);
        assert_eq!(by_hits.raised(&climbed, 80.0, Duration::ZERO), 80.0, "never lower than asked");
        climbed.reset();
        assert_eq!(by_hits.raised(&climbed, 5.0, Duration::ZERO), 5.0);
    }
}
