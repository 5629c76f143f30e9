//! A fault that another one sets off: once that has hit often enough, within a while.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// What sets a fault off.
#[derive(Clone, Debug, PartialEq)]
pub struct After {
    /// The fault whose hits are counted while this one is armed.
    pub fault: Arc<str>,
    /// How many, from 1.
    pub hits: u64,
    /// Within which time; None: since this one was armed.
    pub within: Option<Duration>,
    /// How long after the last of them it begins.
    pub delay: Duration,
    /// How long it lasts; None: as long as it is armed.
    pub lasting: Option<Duration>,
}

/// The most hits that may be asked for: the time of each is kept.
pub const MOST_HITS: u64 = 100_000;

/// The hits seen so far, and what they have set off.
#[derive(Debug, Default)]
pub(in crate::engine) struct Cascade(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    hits: VecDeque<Duration>,
    /// When it is on; what is set off again while it is on lasts longer.
    on: Option<(Duration, Option<Duration>)>,
}

impl Cascade {
    /// The other fault has hit an exchange that was decided at this time.
    pub(in crate::engine) fn hit(&self, after: &After, at: Duration) {
        let mut seen = self.0.lock();
        if seen.on.is_some_and(|(_, until)| until.is_none()) {
            return;
        }
        // Exchanges do not end in the order in which they were decided.
        let place = seen.hits.partition_point(|other| *other <= at);
        seen.hits.insert(place, at);
        let latest = seen.hits.back().copied().unwrap_or(at);
        if let Some(within) = after.within {
            while seen.hits.front().is_some_and(|first| *first + within < latest) {
                seen.hits.pop_front();
            }
        }
        if (seen.hits.len() as u64) < after.hits {
            return;
        }
        seen.hits.clear();
        let from = latest + after.delay;
        let until = after.lasting.map(|lasting| from + lasting);
        seen.on = match seen.on {
            Some((begun, Some(before))) if from <= before => Some((begun, until)),
            _ => Some((from, until)),
        };
    }

    pub(super) fn is_on(&self, at: Duration) -> bool {
        let on = self.0.lock().on;
        on.is_some_and(|(from, until)| from <= at && until.is_none_or(|until| at < until))
    }

    pub(super) fn reset(&self) {
        *self.0.lock() = Seen::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(hits: u64, within: Option<u64>, lasting: Option<u64>) -> After {
        After {
            fault: "other".into(),
            hits,
            within: within.map(Duration::from_secs),
            delay: Duration::from_secs(5),
            lasting: lasting.map(Duration::from_secs),
        }
    }

    fn on(cascade: &Cascade, second: u64) -> bool {
        cascade.is_on(Duration::from_secs(second))
    }

    #[test]
    fn enough_hits_within_the_time_set_it_off() {
        let (cascade, after) = (Cascade::default(), after(3, Some(10), None));
        let hit = |second| cascade.hit(&after, Duration::from_secs(second));
        [0, 8, 19].into_iter().for_each(hit);
        assert!(!on(&cascade, 100), "never three within ten seconds");
        [20, 21].into_iter().for_each(hit);
        assert!(!on(&cascade, 25) && on(&cascade, 26) && on(&cascade, 9999), "5 s after the third");
        cascade.reset();
        assert!(!on(&cascade, 9999));
    }

    #[test]
    fn what_lasts_a_while_can_be_set_off_again() {
        let (cascade, after) = (Cascade::default(), after(2, None, Some(10)));
        let hit = |second| cascade.hit(&after, Duration::from_secs(second));
        [1, 2].into_iter().for_each(hit);
        assert!(!on(&cascade, 6) && on(&cascade, 7) && on(&cascade, 16) && !on(&cascade, 17));
        [10, 11].into_iter().for_each(hit);
        assert!(on(&cascade, 7) && on(&cascade, 25) && !on(&cascade, 26), "it goes on");
        [40, 41].into_iter().for_each(hit);
        assert!(!on(&cascade, 45) && on(&cascade, 46));
    }

    #[test]
    fn hits_may_be_told_in_any_order() {
        let (cascade, after) = (Cascade::default(), after(2, Some(3), None));
        [30, 10, 28]
            .into_iter()
            .for_each(|second| cascade.hit(&after, Duration::from_secs(second)));
        assert!(!on(&cascade, 34) && on(&cascade, 35));
    }
}
