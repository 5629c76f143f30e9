//! When a fault acts: its `when`, in counts, windows and states, and the draw that it shares with
//! other faults.
//!
//! What goes by time is a function of the time since the fault was armed, what goes by count a
//! function of the number of the request among those that fit: the same seed gives the same states,
//! whatever the interleaving.

mod bursts;
mod cascade;
mod cause;
mod counts;
mod escalation;
mod flapping;
mod words;

use std::time::Duration;

pub use self::bursts::{Bursts, By};
use self::cascade::Cascade;
pub use self::cascade::{After, MOST_HITS};
pub use self::cause::{Each, SharedCause};
use self::counts::Counter;
pub use self::counts::{Counting, Per};
use self::escalation::Climbed;
pub use self::escalation::{Escalation, Step};
pub use self::flapping::Flapping;
use crate::dice::Dice;
use crate::exchange::Exchange;

/// When a fault acts; all parts must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct When {
    /// Windows in which it acts, since it was armed; none: always.
    pub windows: Vec<Window>,
    /// It acts again and again.
    pub every: Option<Periodic>,
    pub flapping: Option<Flapping>,
    pub after: Option<After>,
    pub bursts: Option<Bursts>,
    /// Of the requests that fit, in the order in which they come.
    pub counts: Vec<Counting>,
    /// What is counted for itself.
    pub per: Per,
}

/// A stretch of time since a fault was armed, its end not included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    pub from: Duration,
    pub to: Option<Duration>,
}

/// `length` of each `period`, the first one after `offset`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Periodic {
    pub period: Duration,
    pub length: Duration,
    pub offset: Duration,
}

impl Window {
    fn holds(&self, since: Duration) -> bool {
        self.from <= since && self.to.is_none_or(|to| since < to)
    }
}

impl Periodic {
    fn holds(&self, since: Duration) -> bool {
        let Some(since) = since.checked_sub(self.offset) else { return false };
        since.as_nanos() % self.period.as_nanos().max(1) < self.length.as_nanos()
    }
}

/// What a fault's `when` remembers while it is armed.
#[derive(Debug, Default)]
pub(super) struct Turns {
    counter: Counter,
    pub(super) cascade: Cascade,
    bursts: bursts::Walked,
    pub(super) escalation: Climbed,
}

/// Whether it is a fault's turn.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Turn {
    /// This part of `when` does not hold.
    Out(&'static str),
    /// It is; of its percent this share (0 to 1) counts.
    In(f64),
    /// It cannot be told, and why.
    Unknown(&'static str),
}

/// When an exchange is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'a> {
    /// Since the run began.
    pub(super) at: Duration,
    /// Since the fault was armed.
    pub(super) since: Duration,
    /// The same, or since the first fault was armed where a cause is shared: states go by it.
    pub(super) shared: Duration,
    /// The fault's own, or those of its shared cause.
    pub(super) dice: &'a Dice,
}

impl When {
    /// Whether nothing is asked, so that it acts at any time.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is a fault's turn; counts the exchange if so.
    pub(super) fn turn(&self, turns: &Turns, moment: &Moment<'_>, exchange: &Exchange) -> Turn {
        let Moment { at, since, shared, dice } = *moment;
        if !self.windows.is_empty() && !self.windows.iter().any(|window| window.holds(since)) {
            return Turn::Out("window");
        }
        if self.every.is_some_and(|every| !every.holds(since)) {
            return Turn::Out("every");
        }
        if self.flapping.as_ref().is_some_and(|flapping| !flapping.is_down(shared, dice)) {
            return Turn::Out("flapping");
        }
        if self.after.is_some() && !turns.cascade.is_on(at) {
            return Turn::Out("after");
        }
        let by_count = self.bursts.filter(|bursts| bursts.by == By::Requests);
        let number = if self.counts.is_empty() && by_count.is_none() {
            0
        } else {
            match turns.counter.next(self.per, exchange) {
                Ok(number) => number,
                Err(missing) => return Turn::Unknown(missing),
            }
        };
        for counting in &self.counts {
            if !counting.holds(number) {
                return Turn::Out(counting.key());
            }
        }
        let Some(bursts) = &self.bursts else { return Turn::In(1.0) };
        let place = match bursts.by {
            By::Requests => number as f64 - 1.0,
            By::Time => shared.as_secs_f64(),
        };
        let dice = match bursts.by {
            By::Requests => dice.fork_number(self.per.of(exchange).unwrap_or_default()),
            By::Time => dice.clone(),
        };
        let share = turns.bursts.share(bursts, &dice, place);
        if share <= 0.0 { Turn::Out("bursts") } else { Turn::In(share) }
    }
}

impl Turns {
    /// Forgets what an earlier arming left behind.
    pub(super) fn reset(&self) {
        self.counter.reset();
        self.cascade.reset();
        self.escalation.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::exchange;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(when: &When, turns: &Turns, since: Duration) -> Turn {
        let dice = Dice::from_seed(1);
        let moment = Moment { at: since, since, shared: since, dice: &dice };
        when.turn(turns, &moment, &exchange(1))
    }

    #[test]
    fn nothing_asked_is_always() {
        assert!(When::default().is_empty());
        assert_eq!(at(&When::default(), &Turns::default(), SECOND), Turn::In(1.0));
    }

    #[test]
    fn windows_open_and_close() {
        let window =
            |from, to: Option<u32>| Window { from: SECOND * from, to: to.map(|to| SECOND * to) };
        let windows = vec![window(10, Some(20)), window(60, None)];
        let when = When { windows, ..When::default() };
        let turns = Turns::default();
        let seen: Vec<bool> = [9, 10, 19, 20, 59, 60, 9999]
            .map(|second| at(&when, &turns, SECOND * second) == Turn::In(1.0))
            .into();
        assert_eq!(seen, [false, true, true, false, false, true, true]);
    }

    #[test]
    fn periods_repeat_after_their_offset() {
        let every = Periodic { period: SECOND * 30, length: SECOND * 5, offset: SECOND * 10 };
        let when = When { every: Some(every), ..When::default() };
        let turns = Turns::default();
        let acts = |second: u32| at(&when, &turns, SECOND * second) == Turn::In(1.0);
        assert!(
            !acts(0) && !acts(9) && acts(10) && acts(14) && !acts(15) && acts(40) && acts(3014)
        );
        assert_eq!(at(&when, &turns, SECOND * 20), Turn::Out("every"));
    }

    #[test]
    fn what_is_out_of_its_window_is_not_counted() {
        let windows = vec![Window { from: SECOND * 10, to: None }];
        let when = When { windows, counts: vec![Counting::First(1)], ..When::default() };
        let turns = Turns::default();
        assert_eq!(at(&when, &turns, SECOND), Turn::Out("window"));
        assert_eq!(at(&when, &turns, SECOND * 10), Turn::In(1.0));
        assert_eq!(at(&when, &turns, SECOND * 11), Turn::Out("first"));
        turns.reset();
        assert_eq!(at(&when, &turns, SECOND * 12), Turn::In(1.0));
    }
}
