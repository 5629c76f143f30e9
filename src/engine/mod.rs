//! Decides which faults act on an exchange: selectors, percent, stickiness, arming.
//!
//! The armed state is an immutable snapshot that is swapped, never changed; an exchange keeps the
//! snapshot that judged it. Same seed and same exchange key give the same decision, whatever the
//! interleaving.

mod affected;
mod decision;
mod delays;
pub mod identify;
mod judge;
mod loaded;
mod ordinal;
mod pattern;
mod raw;
mod replay;
mod rule;
pub mod selector;
mod shadow;
mod snapshot;
mod steer;
mod tally;
#[cfg(test)]
mod tests;
pub mod when;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::request;
use parking_lot::Mutex;
use tokio::sync::watch;

use self::affected::Window;
pub use self::decision::Decision;
use self::identify::Identify;
use self::loaded::{Loaded, place_of};
use self::ordinal::Ordinals;
pub use self::pattern::{BadPattern, Glob, Pattern};
pub use self::replay::{BadJournal, MOST_EXCHANGES, Replay};
pub use self::rule::{Rule, Sticky};
pub use self::selector::Selector;
use self::snapshot::{Circumstances, Snapshot};
pub use self::steer::strip;
pub use self::tally::Tally;
use self::when::Turns;
use crate::dialect::Dialect;
use crate::dice::Dice;
use crate::exchange::{Exchange, ExchangeKey, Level};
use crate::measure::Recorder;
use crate::measure::record::Replayed;
use crate::units::Ramp;

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
    /// Requests may steer faults by headers, which are to be taken off.
    pub steered: bool,
}

/// A dependency's place in the engine, looked up once, so that no request has to search for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gate(usize);

/// The engine: rules, their armed state and their tallies.
#[derive(Debug)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dice: Dice,
    /// Replaced with `changes` held.
    rules: ArcSwap<Vec<Arc<Loaded>>>,
    /// The dependencies that are known, by their gates. It only ever grows, so that a gate stays
    /// what it is when the rules are replaced.
    places: ArcSwap<Vec<Place>>,
    snapshot: ArcSwap<Snapshot>,
    /// Held while the snapshot is replaced; counts the changes.
    changes: Mutex<watch::Sender<u64>>,
    ordinals: Mutex<Ordinals>,
    /// The bits of `max_affected` as a share; 1 and above mean no limit.
    limit: AtomicU64,
    /// When the run began, since 1970.
    epoch: OnceLock<Duration>,
    journal: Recorder,
    seed: u64,
    /// Those that other faults set off, published with the rules.
    followers: ArcSwap<Vec<Arc<Loaded>>>,
    /// When the first fault was armed; what faults share counts from here.
    origin: OnceLock<Duration>,
    steered: AtomicBool,
    /// With the name of its journal.
    replay: OnceLock<(String, Replay)>,
}

/// A dependency.
#[derive(Clone, Debug)]
struct Place {
    name: Arc<str>,
    window: Arc<Mutex<Window>>,
}

impl Engine {
    /// An engine with these rules, all disarmed.
    pub fn new(seed: u64, rules: Vec<Rule>, journal: Recorder) -> Self {
        let dice = Dice::from_seed(seed);
        let inner = Inner {
            rules: ArcSwap::default(),
            places: ArcSwap::default(),
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            changes: Mutex::new(watch::Sender::new(0)),
            ordinals: Mutex::default(),
            limit: AtomicU64::new(f64::INFINITY.to_bits()),
            epoch: OnceLock::new(),
            dice,
            journal,
            seed,
            followers: ArcSwap::default(),
            origin: OnceLock::new(),
            steered: AtomicBool::new(false),
            replay: OnceLock::new(),
        };
        let engine = Self(Arc::new(inner));
        engine.replace(rules, &|_| false);
        engine
    }

    /// Says when the run began, since 1970: answers name times of the day.
    pub fn began(&self, epoch: Duration) {
        // Only the first word counts: a run begins once.
        let _ = self.0.epoch.set(epoch);
    }

    /// Takes other rules in place of those it has. A fault of the same name keeps how it is armed
    /// and its tally; where `unchanged` says so, also the state of its effects. Exchanges under way
    /// keep the rules that judged them. Gives the names of armed faults that are gone.
    pub fn replace(&self, rules: Vec<Rule>, unchanged: &dyn Fn(&str) -> bool) -> Vec<Arc<str>> {
        let targets: Vec<Arc<str>> =
            rules.iter().flat_map(|rule| rule.targets.iter().cloned()).collect();
        self.know(&targets);
        let changes = self.0.changes.lock();
        let known = self.0.rules.load_full();
        let load = |rule: Rule| match known.iter().find(|old| old.rule.name == rule.name) {
            Some(old) if unchanged(&rule.name) => Arc::clone(old),
            old => Arc::new(Loaded {
                dice: self.0.dice.fork(&rule.name),
                books: old.map(|old| Arc::clone(&old.books)).unwrap_or_default(),
                cause: rule.cause.as_ref().map(|cause| cause.dice(&self.0.dice)),
                always: rule.when.is_empty(),
                turns: Turns::default(),
                rule: Arc::new(rule),
            }),
        };
        let rules: Vec<Arc<Loaded>> = rules.into_iter().map(load).collect();
        let before = self.0.snapshot.load_full();
        let armed = |name: &Arc<str>| before.armed().find(|armed| armed.rule.rule.name == *name);
        let armings: Vec<Option<Arming>> =
            rules.iter().map(|new| armed(&new.rule.name).map(|armed| armed.arming)).collect();
        let kept = |name: &Arc<str>| rules.iter().any(|new| new.rule.name == *name);
        let gone = before.armed().map(|armed| Arc::clone(&armed.rule.rule.name));
        let gone: Vec<Arc<str>> = gone.filter(|name| !kept(name)).collect();
        let followers = rules.iter().filter(|new| new.rule.when.after.is_some()).cloned();
        self.0.followers.store(Arc::new(followers.collect()));
        self.0.rules.store(Arc::new(rules));
        self.0.publish(&changes, &before, armings);
        gone
    }

    /// Gives dependencies their places, if they have none.
    pub fn know(&self, dependencies: &[Arc<str>]) {
        let _held = self.0.changes.lock();
        let mut places = (*self.0.places.load_full()).clone();
        for name in dependencies {
            if !places.iter().any(|place| place.name == *name) {
                places.push(Place { name: Arc::clone(name), window: Arc::default() });
            }
        }
        self.0.places.store(Arc::new(places));
    }

    /// The place of a dependency; one that is not known and that no rule targets has a gate that
    /// nothing is ever armed for.
    pub fn gate(&self, dependency: &str) -> Gate {
        let places = self.0.places.load();
        let place = places.iter().position(|place| *place.name == *dependency);
        Gate(place.unwrap_or(usize::MAX))
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
        body: &Bytes,
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
            body: body.clone(),
            user,
            session,
            api_key: identify::api_key(&head.headers),
        }
    }

    /// Never touches more than this share (0 to 1) of a dependency's exchanges over 30 seconds, as
    /// far as exchanges are decided on. Below 1 no connections are refused as a whole.
    pub fn limit_affected(&self, share: f64) {
        self.0.limit.store(share.to_bits(), Ordering::Relaxed);
        self.0.rearm(|_, _| {});
    }

    /// Lets requests steer faults by headers, which are to be taken off before the upstream.
    pub fn let_requests_steer(&self, may: bool) {
        self.0.steered.store(may, Ordering::Relaxed);
        self.0.rearm(|_, _| {});
    }

    /// Meets the decisions of an earlier run again, by its journal's name. Only the first call counts.
    pub fn replay(&self, journal: &str, replay: Replay) {
        let _ = self.0.replay.set((journal.to_owned(), replay));
    }

    /// How much of the earlier run has been met, if one is replayed.
    pub fn replayed(&self) -> Option<Replayed> {
        let rules = self.0.rules.load();
        let known = |fault: &str| place_of(&rules, fault).is_some();
        self.0.replay.get().map(|(journal, replay)| replay.so_far(journal, &known))
    }

    /// Arms a fault, anew if it was armed; an error names the faults there are.
    pub fn arm(&self, fault: &str, arming: Arming) -> Result<(), String> {
        let mut known = false;
        self.0.rearm(|rules, armings| {
            let Some(place) = place_of(rules, fault) else { return };
            known = true;
            for (_, effect) in &rules[place].rule.effects {
                effect.reset();
            }
            rules[place].turns.reset();
            let _ = self.0.origin.set(arming.from);
            armings[place] = Some(arming);
        });
        if known { Ok(()) } else { Err(self.0.unknown(fault)) }
    }

    /// Disarms a fault; false when it was not armed.
    pub fn disarm(&self, fault: &str) -> bool {
        self.0.rearm(|rules, armings| {
            if let Some(place) = place_of(rules, fault) {
                armings[place] = None;
            }
        })
    }

    /// Disarms everything.
    pub fn disarm_all(&self) {
        self.0.rearm(|_, armings| armings.fill(None));
    }

    /// Disarms what has reached its `until`.
    pub fn expire(&self, at: Duration) {
        self.0.rearm(|_, armings| {
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
    pub fn rules(&self) -> Vec<Arc<Rule>> {
        self.0.rules.load().iter().map(|loaded| Arc::clone(&loaded.rule)).collect()
    }

    /// All rules with their tallies, in the file's order.
    pub fn tallies(&self) -> Vec<(Arc<str>, Tally)> {
        let tally = |loaded: &Arc<Loaded>| (Arc::clone(&loaded.rule.name), loaded.books.tally());
        self.0.rules.load().iter().map(tally).collect()
    }
}

impl Inner {
    fn unknown(&self, fault: &str) -> String {
        let rules = self.rules.load();
        let names = || rules.iter().map(|loaded| &*loaded.rule.name);
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
    fn rearm(&self, change: impl FnOnce(&[Arc<Loaded>], &mut [Option<Arming>])) -> bool {
        let changes = self.changes.lock();
        let before = self.snapshot.load_full();
        let rules = self.rules.load_full();
        let mut armings = before.armings(rules.len());
        change(&rules, &mut armings);
        self.publish(&changes, &before, armings)
    }

    /// Makes these armings of the rules the armed state; true when that changes anything.
    fn publish(
        &self,
        changes: &watch::Sender<u64>,
        before: &Snapshot,
        armings: Vec<Option<Arming>>,
    ) -> bool {
        let rules = self.rules.load_full();
        let places = self.places.load_full();
        let dependencies: Vec<Arc<str>> =
            places.iter().map(|place| Arc::clone(&place.name)).collect();
        let all = Circumstances {
            limited: self.limit() < 1.0,
            steered: self.steers(),
            followers: &self.followers.load_full(),
        };
        let mut after = Snapshot::new(&rules, armings, &dependencies, &all);
        after.follow(before);
        let changed = after.differs(before);
        self.snapshot.store(Arc::new(after));
        if changed {
            changes.send_modify(|count| *count += 1);
        }
        changed
    }

    /// The books of `max_affected` for a dependency.
    fn window(&self, place: usize) -> Option<Arc<Mutex<Window>>> {
        self.places.load().get(place).map(|place| Arc::clone(&place.window))
    }

    fn steers(&self) -> bool {
        self.steered.load(Ordering::Relaxed)
    }

    fn origin(&self) -> Duration {
        self.origin.get().copied().unwrap_or_default()
    }

    /// A fault has hit an exchange that was decided at this time: its steps, and what it sets off.
    fn hit(&self, fault: &Loaded, at: Duration) {
        fault.turns.escalation.hit();
        for follower in self.followers.load().iter() {
            if let Some(after) = &follower.rule.when.after
                && after.fault == fault.rule.name
            {
                follower.turns.cascade.hit(after, at);
            }
        }
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
        let Some(window) = self.window(place) else { return true };
        let mut window = window.lock();
        if chosen {
            window.touch(at, limit)
        } else {
            window.pass(at);
            true
        }
    }
}
