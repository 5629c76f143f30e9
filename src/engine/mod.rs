//! Decides which faults act on an exchange: selectors, percent, stickiness, arming.
//!
//! The armed state is an immutable snapshot that is swapped, never changed; an exchange keeps the
//! snapshot that judged it. Same seed and same exchange key give the same decision, whatever the
//! interleaving.

mod affected;
mod decision;
pub mod identify;
mod ordinal;
mod raw;
mod selector;
mod snapshot;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::request;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::affected::Window;
pub use self::decision::Decision;
use self::decision::{Considered, Open};
use self::identify::Identify;
use self::ordinal::Ordinals;
pub use self::selector::Selector;
use self::snapshot::{Armed, Snapshot};
use self::tally::Entry;
pub use self::tally::Tally;
use crate::dialect::Dialect;
use crate::dice::Dice;
use crate::exchange::{Exchange, ExchangeKey, Level};
use crate::fault::{self, Draw, Fault, Impossible};
use crate::measure::Recorder;
use crate::units::Ramp;

/// Why an exchange was let go although a fault had chosen it.
const LIMITED: &str = "max_affected reached";

/// A named fault as loaded from the file: where it acts, how often, and with which effects.
#[derive(Debug)]
pub struct Rule {
    /// Its name in the file.
    pub name: Arc<str>,
    /// The dependencies it targets, resolved to names.
    pub targets: Vec<Arc<str>>,
    /// How the file names the target, for reports.
    pub target_text: String,
    /// Its `where`.
    pub selector: Selector,
    /// Of matching exchanges.
    pub percent: Ramp,
    /// Whether the same ones suffer all along.
    pub sticky: Option<Sticky>,
    /// Key in the file (`latency`) and the loaded fault, in catalogue order.
    pub effects: Vec<(&'static str, Box<dyn Fault>)>,
}

/// What a decision sticks to: the same identity meets the same fate all along.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// By the key that the request carries.
    ApiKey,
    /// By `identify.session`.
    Session,
    /// By `identify.user`.
    User,
}

/// How a fault is armed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Arming {
    /// In place of the fault's own percent.
    pub percent: Option<Ramp>,
    /// When it was armed, since the run began; ramps count from here.
    pub from: Duration,
    /// When it ends by itself; ramps end here. A ramp without an end stays at its start.
    pub until: Option<Duration>,
}

/// What a dependency's armed faults need to know before they can decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Demand {
    /// At least one fault is armed for this dependency.
    pub any: bool,
    /// The request's body must be read first (model, stream, operation, key).
    pub body: bool,
    /// TLS handshakes with the app are decided on.
    pub handshake: bool,
    /// Connections as a whole are refused.
    pub refuse: bool,
}

/// A dependency's place in the engine, looked up once, so that no request has to search for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gate(usize);

/// The engine: rules, their armed state and their tallies.
#[derive(Debug)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: Vec<Arc<Loaded>>,
    /// The dependencies that any rule targets.
    dependencies: Vec<Arc<str>>,
    snapshot: ArcSwap<Snapshot>,
    /// Held while the snapshot is replaced; counts the changes.
    changes: Mutex<watch::Sender<u64>>,
    ordinals: Mutex<Ordinals>,
    /// One for each dependency.
    windows: Vec<Mutex<Window>>,
    /// The bits of `max_affected` as a share; 1 and above mean no limit.
    limit: AtomicU64,
    journal: Recorder,
}

/// A rule with its own stream of dice and its books.
#[derive(Debug)]
struct Loaded {
    rule: Rule,
    dice: Dice,
    tally: Mutex<Tally>,
}

impl Engine {
    /// An engine with these rules, all disarmed.
    pub fn new(seed: u64, rules: Vec<Rule>, journal: Recorder) -> Self {
        let dice = Dice::from_seed(seed);
        let mut dependencies: Vec<Arc<str>> = Vec::new();
        for target in rules.iter().flat_map(|rule| &rule.targets) {
            if !dependencies.contains(target) {
                dependencies.push(Arc::clone(target));
            }
        }
        let load = |rule: Rule| {
            let dice = dice.fork(&rule.name);
            Arc::new(Loaded { rule, dice, tally: Mutex::default() })
        };
        Self(Arc::new(Inner {
            rules: rules.into_iter().map(load).collect(),
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            changes: Mutex::new(watch::Sender::new(0)),
            ordinals: Mutex::default(),
            windows: dependencies.iter().map(|_| Mutex::default()).collect(),
            dependencies,
            limit: AtomicU64::new(f64::INFINITY.to_bits()),
            journal,
        }))
    }

    /// The place of a dependency; one that no rule targets has a gate that nothing is armed for.
    pub fn gate(&self, dependency: &str) -> Gate {
        let mut known = self.0.dependencies.iter();
        Gate(known.position(|name| **name == *dependency).unwrap_or(usize::MAX))
    }

    /// What must be known before deciding behind this gate. Cheap and free of allocation: one
    /// snapshot load.
    pub fn demand_at(&self, gate: Gate) -> Demand {
        self.0.snapshot.load().demand(gate.0)
    }

    /// How often what is armed behind this gate has changed: what was decided under the same
    /// number still holds. As cheap as `demand_at`.
    pub fn version_at(&self, gate: Gate) -> u64 {
        self.0.snapshot.load().version(gate.0)
    }

    /// What must be known before deciding for this dependency.
    pub fn demand(&self, dependency: &str) -> Demand {
        self.demand_at(self.gate(dependency))
    }

    /// Tells when the armed state of any fault changes (for listeners that refuse connections).
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.lock().subscribe()
    }

    /// The ordinal of a key: how often it was seen before, counted up by this call. About a million
    /// keys are remembered; one that was not seen for half a million others counts from 0 again.
    pub fn ordinal(&self, dependency: &str, key: ExchangeKey) -> u32 {
        self.0.ordinals.lock().next(self.gate(dependency).0, key)
    }

    /// Reads a request as faults and selectors see it, and counts its key. `body` may be a prefix
    /// of the real one, cut at a fixed length: one cut by time would change the key from run to run.
    pub fn exchange(
        &self,
        dependency: &Arc<str>,
        head: &request::Parts,
        body: &[u8],
        dialect: &'static dyn Dialect,
        identify: &Identify,
    ) -> Exchange {
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        let key = identify::label(&head.headers)
            .map_or_else(|| ExchangeKey::of(&head.method, path, body), ExchangeKey::labelled);
        let (user, session) = identify.read(&head.headers, body);
        Exchange {
            dependency: Arc::clone(dependency),
            level: Level::Request,
            transport: identify::transport(head),
            key,
            ordinal: self.ordinal(dependency, key),
            method: head.method.clone(),
            uri: head.uri.clone(),
            headers: identify::guarded(&head.headers),
            facts: dialect.facts(&head.method, &head.uri, &head.headers, body),
            body_len: body.len(),
            user,
            session,
            api_key: identify::api_key(&head.headers),
        }
    }

    /// Decides for one exchange.
    pub fn decide(
        &self,
        at: Duration,
        exchange: &Exchange,
        dialect: &'static dyn Dialect,
    ) -> Decision {
        self.decide_on(at, exchange, dialect, false)
    }

    /// Decides anew for a connection that has been there, since something else is armed now.
    pub fn decide_anew(
        &self,
        at: Duration,
        exchange: &Exchange,
        dialect: &'static dyn Dialect,
    ) -> Decision {
        self.decide_on(at, exchange, dialect, true)
    }

    fn decide_on(
        &self,
        at: Duration,
        exchange: &Exchange,
        dialect: &'static dyn Dialect,
        live: bool,
    ) -> Decision {
        let place = self.gate(&exchange.dependency).0;
        let snapshot = self.0.snapshot.load();
        let mut considered: Vec<Considered> = snapshot
            .armed_for(place)
            .filter(|armed| !armed.is_over(at) && armed.acts_within(exchange.level, live, dialect))
            .map(|armed| armed.consider(at, exchange))
            .collect();
        if considered.is_empty() {
            return Decision::default();
        }
        let chosen = considered.iter().any(|one| one.selected);
        let touched = self.0.admit(place, at, chosen);
        let mut decision = Decision::default();
        let mut effects = Vec::new();
        for (index, one) in considered.iter_mut().enumerate().filter(|(_, one)| one.selected) {
            if !touched {
                one.let_go = Some(LIMITED);
                continue;
            }
            let rule = Arc::clone(&one.rule);
            let dice = rule.exchange_dice(exchange);
            let acting = |(_, fault): &&(_, Box<dyn Fault>)| {
                snapshot::acts_within(fault.as_ref(), exchange.level, live, dialect)
            };
            for (key, fault) in rule.rule.effects.iter().filter(acting) {
                let mut draw = Draw::new(dice.fork(key));
                let mut arming = fault::Arming { at, exchange, dialect, draw: &mut draw };
                match fault.arm(&mut arming) {
                    Ok(effect) => {
                        decision.chain.push(index, effect);
                        effects.push(*key);
                    }
                    Err(Impossible(reason)) => one.unarmed.push((key, reason)),
                }
                let drawn = draw.into_drawn().into_iter();
                one.drawn.extend(drawn.map(|(name, value)| (*key, name, value)));
            }
        }
        decision.open = Some(Box::new(Open {
            engine: Arc::clone(&self.0),
            dependency: Arc::clone(&exchange.dependency),
            place,
            key: exchange.key,
            ordinal: exchange.ordinal,
            at,
            considered,
            effects,
            touched: chosen && touched,
        }));
        decision
    }

    /// Counts a connection that was refused as a whole (it never becomes an exchange). Connections
    /// have no key, so they are tallied but not journalled.
    pub fn count_refused(&self, dependency: &str) {
        let snapshot = self.0.snapshot.load();
        let entry = Entry { wanted: 100.0, selected: true, hit: true, ..Entry::default() };
        for armed in snapshot.armed_for(self.gate(dependency).0).filter(|armed| armed.refuses()) {
            armed.rule.tally.lock().add(&entry);
        }
    }

    /// Never touches more than this share (0 to 1) of a dependency's exchanges over 30 seconds, as
    /// far as exchanges are decided on. Below 1 no connections are refused as a whole.
    pub fn limit_affected(&self, share: f64) {
        self.0.limit.store(share.to_bits(), Ordering::Relaxed);
        self.0.rearm(|_| {});
    }

    /// Arms a fault, anew if it was armed; an error names the faults there are.
    pub fn arm(&self, fault: &str, arming: Arming) -> Result<(), String> {
        let place = self.0.place_of(fault).ok_or_else(|| self.0.unknown(fault))?;
        for (_, fault) in &self.0.rules[place].rule.effects {
            fault.reset();
        }
        self.0.rearm(|armings| armings[place] = Some(arming));
        Ok(())
    }

    /// Disarms a fault; false when it was not armed.
    pub fn disarm(&self, fault: &str) -> bool {
        let Some(place) = self.0.place_of(fault) else { return false };
        self.0.rearm(|armings| armings[place] = None)
    }

    /// Disarms everything.
    pub fn disarm_all(&self) {
        self.0.rearm(|armings| armings.fill(None));
    }

    /// Disarms what has reached its `until`.
    pub fn expire(&self, at: Duration) {
        self.0.rearm(|armings| {
            for arming in armings {
                let until = arming.and_then(|arming| arming.until);
                if until.is_some_and(|until| until <= at) {
                    *arming = None;
                }
            }
        });
    }

    /// The armed faults.
    pub fn armed(&self) -> Vec<(Arc<str>, Arming)> {
        let snapshot = self.0.snapshot.load();
        snapshot.armed().map(|armed| (Arc::clone(&armed.rule.rule.name), armed.arming)).collect()
    }

    /// All rules, in the file's order.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.0.rules.iter().map(|loaded| &loaded.rule)
    }

    /// All rules with their tallies, in the file's order.
    pub fn tallies(&self) -> Vec<(Arc<str>, Tally)> {
        let tally =
            |loaded: &Arc<Loaded>| (Arc::clone(&loaded.rule.name), loaded.tally.lock().clone());
        self.0.rules.iter().map(tally).collect()
    }
}

impl Inner {
    fn place_of(&self, fault: &str) -> Option<usize> {
        self.rules.iter().position(|loaded| *loaded.rule.name == *fault)
    }

    fn unknown(&self, fault: &str) -> String {
        let names = || self.rules.iter().map(|loaded| &*loaded.rule.name);
        let near = names()
            .map(|name| (strsim::jaro_winkler(name, fault), name))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|(a, _), (b, _)| a.total_cmp(b));
        let hint = near.map_or_else(String::new, |(_, name)| format!("; did you mean `{name}`?"));
        let known: Vec<String> = names().map(|name| format!("`{name}`")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        format!("unknown fault `{fault}`{hint} (faults in this file: {known})")
    }

    /// Replaces the armed state when `change` changes it, and tells; true when it did.
    fn rearm(&self, change: impl FnOnce(&mut [Option<Arming>])) -> bool {
        let changes = self.changes.lock();
        let before = self.snapshot.load_full();
        let mut armings = before.armings(self.rules.len());
        change(&mut armings);
        let mut after = Snapshot::new(&self.rules, armings, &self.dependencies, self.limit() < 1.0);
        after.follow(&before);
        let changed = after.differs(&before);
        self.snapshot.store(Arc::new(after));
        if changed {
            changes.send_modify(|count| *count += 1);
        }
        changed
    }

    fn limit(&self) -> f64 {
        f64::from_bits(self.limit.load(Ordering::Relaxed))
    }

    /// Counts an exchange against `max_affected`; false when it may not be touched.
    fn admit(&self, place: usize, at: Duration, chosen: bool) -> bool {
        let limit = self.limit();
        if limit >= 1.0 {
            return true;
        }
        let mut window = self.windows[place].lock();
        if chosen {
            window.touch(at, limit)
        } else {
            window.pass(at);
            true
        }
    }
}

impl Loaded {
    /// The stream of this fault on this exchange.
    fn exchange_dice(&self, exchange: &Exchange) -> Dice {
        self.dice.fork_number(exchange.key.0).fork_number(u64::from(exchange.ordinal))
    }

    /// The stream that the choice is drawn from; an error says which identity is missing.
    fn choice_dice(&self, exchange: &Exchange) -> Result<Dice, &'static str> {
        let Some(sticky) = self.rule.sticky else { return Ok(self.exchange_dice(exchange)) };
        let dice = self.dice.fork("sticky");
        let of = |name: &Option<String>| name.as_ref().map(|name| dice.fork(name));
        match sticky {
            Sticky::ApiKey => exchange
                .api_key
                .map(|key| dice.fork_number(key))
                .ok_or("no API key on the request (sticky: api_key)"),
            Sticky::Session => {
                of(&exchange.session).ok_or("no session on the request (see identify.session)")
            }
            Sticky::User => of(&exchange.user).ok_or("no user on the request (see identify.user)"),
        }
    }
}

impl Armed {
    /// Judges an exchange: does it match, and is it chosen?
    fn consider(&self, at: Duration, exchange: &Exchange) -> Considered {
        let mut considered = Considered {
            rule: Arc::clone(&self.rule),
            mismatch: self.rule.rule.selector.mismatch(exchange),
            wanted: self.percent_at(at),
            roll: None,
            selected: false,
            let_go: None,
            unarmed: Vec::new(),
            drawn: Vec::new(),
        };
        if considered.mismatch.is_some() {
            return considered;
        }
        match self.rule.choice_dice(exchange) {
            Ok(dice) => {
                let roll = dice.fork("percent").unit() * 100.0;
                considered.roll = Some(roll);
                considered.selected = roll < considered.wanted;
            }
            Err(missing) => considered.let_go = Some(missing),
        }
        considered
    }
}
