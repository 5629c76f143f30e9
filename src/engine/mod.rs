//! Decides which faults act on an exchange: selectors, percent, stickiness, arming.
//!
//! The armed state is an immutable snapshot that is swapped, never changed; an exchange keeps the
//! snapshot that judged it. Same seed and same exchange key give the same decision, whatever the
//! interleaving.

pub mod identify;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;
use crate::exchange::{Exchange, Operation};
use crate::fault::{Chain, Fault};
use crate::units::Ramp;

/// A named fault as loaded from the file: where it acts, how often, and with which effects.
#[derive(Debug)]
pub struct Rule {
    pub name: Arc<str>,
    /// The dependencies it targets, resolved to names.
    pub targets: Vec<Arc<str>>,
    /// How the file names the target, for reports.
    pub target_text: String,
    pub selector: Selector,
    /// Of matching exchanges.
    pub percent: Ramp,
    pub sticky: Option<Sticky>,
    /// Key in the file (`latency`) and the loaded fault, in catalogue order.
    pub effects: Vec<(&'static str, Box<dyn Fault>)>,
}

/// What `where:` asks of an exchange; all parts that are set must hold.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// A glob over the path (`*` crosses slashes).
    pub path: Option<globset::GlobMatcher>,
    pub method: Option<http::Method>,
    /// Header name and a glob over its value.
    pub headers: Vec<(http::HeaderName, globset::GlobMatcher)>,
    pub model: Option<globset::GlobMatcher>,
    pub stream: Option<bool>,
    pub operation: Option<Operation>,
    pub user: Option<globset::GlobMatcher>,
}

/// What a decision sticks to: the same identity meets the same fate all along.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    ApiKey,
    Session,
    User,
}

/// How a fault is armed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Arming {
    /// In place of the fault's own percent.
    pub percent: Option<Ramp>,
    /// When it was armed, since the run began; ramps count from here.
    pub from: Duration,
    /// When it ends by itself; ramps end here.
    pub until: Option<Duration>,
}

/// What became of one fault over a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tally {
    /// Exchanges with its targets while it was armed.
    pub armed: u64,
    /// Of those, the ones its `where` describes.
    pub matched: u64,
    /// Of those, the ones its percent chose.
    pub selected: u64,
    /// Of those, the ones on which an effect acted.
    pub hit: u64,
    /// Of those, the ones on which an effect could not act.
    pub impossible: u64,
    /// Why not, with counts.
    pub reasons: BTreeMap<String, u64>,
}

/// The engine: rules, their armed state and their tallies.
#[derive(Debug)]
pub struct Engine {/* filled in by its owner */}

/// What was decided for one exchange. Dropping it closes the books: tallies and journal lines.
#[derive(Debug)]
pub struct Decision {
    pub chain: Chain,
}

/// What a dependency's armed faults need to know before they can decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Demand {
    /// At least one fault is armed for this dependency.
    pub any: bool,
    /// The request's body must be read first (model, stream, operation, key).
    pub body: bool,
    /// Connections as a whole are refused.
    pub refuse: bool,
}

#[expect(unused_variables, reason = "signatures that the engine's owner fills in")]
impl Engine {
    /// An engine with these rules, all disarmed.
    pub fn new(seed: u64, rules: Vec<Rule>, journal: crate::measure::Recorder) -> Self {
        unimplemented!()
    }

    /// What must be known before deciding for this dependency. Cheap: one snapshot load.
    pub fn demand(&self, dependency: &str) -> Demand {
        unimplemented!()
    }

    /// Tells when the armed state of any fault changes (for listeners that refuse connections).
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        unimplemented!()
    }

    /// The ordinal of a key: how often it was seen before, counted up by this call.
    pub fn ordinal(&self, dependency: &str, key: crate::exchange::ExchangeKey) -> u32 {
        unimplemented!()
    }

    /// Decides for one exchange.
    pub fn decide(
        &self,
        at: Duration,
        exchange: &Exchange,
        dialect: &'static dyn Dialect,
    ) -> Decision {
        unimplemented!()
    }

    /// Counts connections that were refused as a whole (they never become exchanges).
    pub fn count_refused(&self, dependency: &str) {}

    /// Arms a fault; an error names the faults there are.
    pub fn arm(&self, fault: &str, arming: Arming) -> Result<(), String> {
        unimplemented!()
    }

    /// Disarms a fault; false when it was not armed.
    pub fn disarm(&self, fault: &str) -> bool {
        unimplemented!()
    }

    /// Disarms everything.
    pub fn disarm_all(&self) {}

    /// Disarms what has reached its `until`.
    pub fn expire(&self, at: Duration) {}

    /// The armed faults.
    pub fn armed(&self) -> Vec<(Arc<str>, Arming)> {
        unimplemented!()
    }

    /// All rules with their tallies, in the file's order.
    pub fn tallies(&self) -> Vec<(Arc<str>, Tally)> {
        unimplemented!()
    }
}
