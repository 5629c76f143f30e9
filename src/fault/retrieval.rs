//! Spoils what a search finds: no hits, fewer, the wrong ones, in the wrong order, of yesterday, of
//! another collection, of some of the shards. The answer stays one that the store could have given.

mod acting;
mod arrange;
mod memory;
mod rows;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use self::acting::Acting;
use self::arrange::{Keep, Order, Scoring};
use self::memory::Memory;
use super::{Arming, Effect, Fault, Impossible, Invalid, NO_REQUESTS, Spec};
use crate::dialect::{self, Failure, Moment};
use crate::exchange::{Level, Operation};
use crate::units::{BadUnit, Percent, Span, unit};

/// Searches of a vector store that find the wrong things.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retrieval {
    /// What becomes of the hits of a search.
    pub result: Option<Outcome>,
    /// With `result: fewer`, how many hits are left, 1 or more.
    pub keep: Option<u64>,
    /// With `result: fewer`, which share of the hits is left, below 100%. Default 50%.
    pub keep_percent: Option<Percent>,
    /// With `result: fewer`, which hits are lost: the farthest (as a lower limit would), the nearest (as
    /// an index that misses them would) or random ones. Default farthest.
    pub lose: Option<Lose>,
    /// With `result: duplicated`, how often each hit stands in the list, from 2 to 100. Default 2.
    pub copies: Option<u64>,
    /// What becomes of the scores or distances: `flat` (all are the best one's), `{ noise: 20% }` (each
    /// moves by a draw of so much of itself as standard deviation, and the hits are ranked anew), or,
    /// with `result: shuffled` or `reversed`, `moved`: each hit takes its own along, so that the list
    /// is visibly unsorted. Default: they stay, and belong to the places of the list.
    pub scores: Option<Scores>,
    /// On how many of the requests that the fault chose this effect acts. With `sticky`, always on those
    /// of the same users. Default 100%.
    pub percent: Option<Percent>,
    /// How many of a search's shards fail: `2 of 5`. The answer says so, and lacks their hits. For
    /// stores that report it (Elasticsearch, OpenSearch).
    pub shards_failed: Option<FailedShards>,
    /// Whether the answer says that the search ran out of time, which leaves it incomplete. For stores
    /// that report it (Elasticsearch, OpenSearch).
    pub timed_out: Option<bool>,
    /// For how long points that were written are kept out of answers, although the write was accepted.
    /// The fault must match the writes and the searches (and reads by id).
    pub visible_after: Option<Span>,
    /// What the store as a whole is: `not_loaded` (searches and reads fail, as while a collection is
    /// loaded after a restart) or `read_only` (writes and deletes fail, searches work).
    pub state: Option<State>,
}

/// What becomes of the hits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Each hit several times, in place of others: the list keeps its length.
    Duplicated,
    /// No hits.
    Empty,
    /// Some of them are missing.
    Fewer,
    /// The last comes first.
    Reversed,
    /// In a random order, as if a reranker had failed.
    Shuffled,
    /// The hits of an earlier search: the same one's if it found others then, else another's in the same
    /// collection.
    Stale,
    /// The answer that a search in another collection (index, namespace, tenant) got.
    WrongCollection,
}

/// Which hits are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lose {
    /// The last ones.
    #[default]
    Farthest,
    /// The first ones.
    Nearest,
    /// Any.
    Random,
}

/// What becomes of the scores.
#[derive(Clone, Copy, PartialEq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scores {
    /// All are the best one's.
    Flat,
    /// Each hit keeps its own where hits change places.
    Moved,
    /// Each moves by a draw with so much of itself as standard deviation.
    Noise(Percent),
}

/// What the store as a whole is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Searches and reads fail.
    NotLoaded,
    /// Writes and deletes fail.
    ReadOnly,
}

/// How many of how many shards: `2 of 5`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FailedShards(pub dialect::Shards);

impl FromStr for FailedShards {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let wrong = || BadUnit(format!("`{}` is no share of shards; write for example 2 of 5", text.trim()));
        let (failed, total) = text.split_once("of").ok_or_else(wrong)?;
        let number = |text: &str| text.trim().parse::<u32>().map_err(|_| wrong());
        let (failed, total) = (number(failed)?, number(total)?);
        if failed == 0 || failed >= total || total > 10_000 {
            return Err(BadUnit(format!(
                "`{}`: at least one shard must fail, and at least one answer; write for example 2 of 5",
                text.trim()
            )));
        }
        Ok(Self(dialect::Shards { failed, total }))
    }
}

impl fmt::Display for FailedShards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.0.failed, self.0.total)
    }
}

unit!(FailedShards, "how many shards fail, such as 2 of 5", {
    "type": "string",
    "pattern": "^\\s*[0-9]+\\s+of\\s+[0-9]+\\s*$",
    "examples": ["2 of 5"]
});

impl Spec for Retrieval {
    const NAME: &'static str = "retrieval";
    const SUMMARY: &'static str =
        "searches that find nothing, too little, or the wrong things, with a good status";
    const EXAMPLE: &'static str = "{ result: fewer, keep: 3 }";

    fn build(&self) -> Result<Box<dyn Fault>, Invalid> {
        let timed_out = self.timed_out.unwrap_or_default();
        let set = [
            self.result.is_some(),
            self.scores.is_some(),
            self.shards_failed.is_some(),
            timed_out,
            self.visible_after.is_some(),
            self.state.is_some(),
        ];
        if !set.contains(&true) {
            return Err(Invalid::new(
                "",
                "what becomes of searches? write `result: empty`, `scores: { noise: 20% }`, \
                 `visible_after: 5s` or `state: read_only`",
            ));
        }
        if self.percent.is_some_and(|percent| percent.share() == 0.0) {
            return Err(Invalid::new("percent", "0% of the requests are none; write for example 5%"));
        }
        if self.visible_after.is_some_and(|span| span.0.is_zero()) {
            return Err(Invalid::new("visible_after", "nothing is late; write for example 5s"));
        }
        let order = self.checked_order()?;
        Ok(Box::new(Loaded {
            plan: Arc::new(Plan {
                order,
                scores: self.checked_scores()?,
                recalled: match self.result {
                    Some(Outcome::Stale) => Some(Recalled::Earlier),
                    Some(Outcome::WrongCollection) => Some(Recalled::Elsewhere),
                    _ => None,
                },
                share: self.percent.map_or(1.0, Percent::share),
                shards: self.shards_failed.map(|failed| failed.0),
                timed_out,
                late: self.visible_after.map(|span| span.0),
                state: self.state,
            }),
            memory: Arc::default(),
        }))
    }
}

impl Retrieval {
    fn checked_order(&self) -> Result<Option<Order>, Invalid> {
        let fewer = self.result == Some(Outcome::Fewer);
        let of_fewer = [
            ("keep", self.keep.is_some()),
            ("keep_percent", self.keep_percent.is_some()),
            ("lose", self.lose.is_some()),
        ];
        if let Some((field, _)) = of_fewer.into_iter().find(|(_, set)| *set && !fewer) {
            return Err(Invalid::new(field, format!("`{field}` goes with `result: fewer` alone")));
        }
        if self.copies.is_some() && self.result != Some(Outcome::Duplicated) {
            return Err(Invalid::new("copies", "`copies` goes with `result: duplicated` alone"));
        }
        Ok(Some(match self.result {
            Some(Outcome::Empty) => Order::None,
            Some(Outcome::Fewer) => Order::Fewer(self.checked_keep()?, self.lose.unwrap_or_default()),
            Some(Outcome::Duplicated) => match self.copies.unwrap_or(2) {
                copies @ 2..=100 => Order::Repeated(copies as usize),
                _ => return Err(Invalid::new("copies", "write a number from 2 to 100")),
            },
            Some(Outcome::Reversed) => Order::Reversed,
            Some(Outcome::Shuffled) => Order::Shuffled,
            Some(Outcome::Stale | Outcome::WrongCollection) | None => return Ok(None),
        }))
    }

    fn checked_keep(&self) -> Result<Keep, Invalid> {
        match (self.keep, self.keep_percent) {
            (Some(_), Some(_)) => {
                Err(Invalid::new("keep_percent", "write `keep` or `keep_percent`, not both"))
            }
            (Some(0), None) => {
                Err(Invalid::new("keep", "no hit at all is `result: empty`; write 1 or more"))
            }
            (Some(count), None) => Ok(Keep::Count(usize::try_from(count).unwrap_or(usize::MAX))),
            (None, Some(percent)) if percent.share() >= 1.0 => {
                Err(Invalid::new("keep_percent", "all would be kept; write less than 100%"))
            }
            (None, percent) => Ok(Keep::Share(percent.map_or(0.5, Percent::share))),
        }
    }

    fn checked_scores(&self) -> Result<Option<Scoring>, Invalid> {
        let turned = matches!(self.result, Some(Outcome::Reversed | Outcome::Shuffled));
        match self.scores {
            None => Ok(None),
            Some(Scores::Flat) => Ok(Some(Scoring::Flat)),
            Some(Scores::Moved) if turned => Ok(Some(Scoring::Moved)),
            Some(Scores::Moved) => Err(Invalid::new(
                "scores",
                "`moved` goes with `result: shuffled` or `reversed`, where hits change places",
            )),
            Some(Scores::Noise(_)) if turned => Err(Invalid::new(
                "scores",
                "`noise` ranks the hits anew; it does not go with `result: shuffled` or `reversed`",
            )),
            Some(Scores::Noise(percent)) if percent.share() == 0.0 => {
                Err(Invalid::new("scores", "0% is no noise; write for example { noise: 20% }"))
            }
            Some(Scores::Noise(percent)) => Ok(Some(Scoring::Noise(percent.share()))),
        }
    }
}

/// What is done, checked.
#[derive(Debug)]
struct Plan {
    order: Option<Order>,
    scores: Option<Scoring>,
    recalled: Option<Recalled>,
    share: f64,
    shards: Option<dialect::Shards>,
    timed_out: bool,
    late: Option<Duration>,
    state: Option<State>,
}

/// Whose answer stands in place of the real one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Recalled {
    Earlier,
    Elsewhere,
}

impl Plan {
    /// Whether the hits of a search change.
    fn changes_hits(&self) -> bool {
        self.order.is_some()
            || self.scores.is_some()
            || self.recalled.is_some()
            || self.shards.is_some()
            || self.timed_out
    }

    /// The class of failure with which such a request is answered.
    fn refuses(&self, operation: Operation) -> Option<&'static str> {
        match (self.state?, operation) {
            (State::NotLoaded, Operation::Search | Operation::Read) => Some("not_loaded"),
            (State::ReadOnly, Operation::Upsert | Operation::Delete) => Some("readonly"),
            _ => None,
        }
    }

    /// Why it cannot act on such a request.
    fn misfit(&self, operation: Operation) -> Option<Impossible> {
        let acts = match operation {
            Operation::Search => self.changes_hits() || self.late.is_some(),
            Operation::Read | Operation::Upsert => self.late.is_some(),
            _ => false,
        };
        (!acts && self.refuses(operation).is_none()).then_some(Impossible(match operation {
            Operation::Search | Operation::Read | Operation::Upsert | Operation::Delete => {
                "this kind of request is not concerned"
            }
            _ => "the request is no search and no write of a store",
        }))
    }
}

#[derive(Debug)]
struct Loaded {
    plan: Arc<Plan>,
    memory: Arc<Memory>,
}

impl Fault for Loaded {
    fn needs_request_body(&self) -> bool {
        self.plan.late.is_some() || self.plan.recalled.is_some()
    }

    fn arm(&self, arming: &mut Arming<'_>) -> Result<Box<dyn Effect>, Impossible> {
        arming.before_answer()?;
        if arming.exchange.level == Level::Connection {
            return Err(NO_REQUESTS);
        }
        let operation = arming.exchange.facts.operation;
        if let Some(misfit) = self.plan.misfit(operation) {
            return Err(misfit);
        }
        let refusal = match self.plan.refuses(operation) {
            Some(class) => {
                let failure = Failure {
                    class: Some(class),
                    operation,
                    id: arming.draw.fork("id").bits(),
                    ..Failure::default()
                };
                if arming.dialect.moment(&failure) == Moment::Never {
                    return Err(Impossible("this kind of store has no such state"));
                }
                Some(arming.dialect.failure(&failure))
            }
            None => None,
        };
        Ok(Box::new(Acting::new(&self.plan, &self.memory, refusal, arming)))
    }

    fn reset(&self) {
        self.memory.forget();
    }
}
