//! A cause that several faults share: they draw once, so they act on the same times or sessions.

use std::sync::Arc;
use std::time::Duration;

use super::counts::Per;
use crate::dice::Dice;
use crate::exchange::Exchange;

/// A cause that several faults share, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedCause {
    pub name: Arc<str>,
    pub each: Each,
}

/// What is drawn for once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Each {
    /// Each API key, session or user.
    Identity(Per),
    /// Each stretch of so much time.
    Time(Duration),
}

impl SharedCause {
    /// The dice that all its faults share; `root` is the run's.
    pub(in crate::engine) fn dice(&self, root: &Dice) -> Dice {
        root.fork("cause").fork(&self.name)
    }

    /// The dice of this time or whoever asks; `since` the first fault was armed.
    pub(in crate::engine) fn choice(
        &self,
        dice: &Dice,
        since: Duration,
        exchange: &Exchange,
    ) -> Result<Dice, &'static str> {
        let number = match self.each {
            Each::Identity(per) => per.of(exchange)?,
            Each::Time(time) => (since.as_nanos() / time.as_nanos().max(1)) as u64,
        };
        Ok(dice.fork_number(number))
    }
}
