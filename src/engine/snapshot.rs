//! The armed state at one time: which faults are armed, how, and for which dependencies.

use std::sync::Arc;
use std::time::Duration;

use super::decision::Considered;
use super::loaded::View;
use super::selector::{Aspect, Reading};
use super::{Arming, Demand, Loaded};
use crate::dialect::Dialect;
use crate::exchange::Level;
use crate::fault::{Fault, Within};
use crate::units::Ramp;

const LEVELS: usize = Level::ALL.len();

/// The armed state at one time.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// In the file's order.
    armed: Vec<Armed>,
    /// For each dependency, what is armed for it (indices in `armed`), and what that demands.
    lanes: Vec<(Demand, Vec<usize>)>,
    /// For each dependency, how often what is armed for it has changed.
    versions: Vec<u64>,
}

/// What is not said by the armings.
#[derive(Debug)]
pub(super) struct Circumstances<'a> {
    /// `max_affected` is below 1.
    pub(super) limited: bool,
    /// Requests may steer faults.
    pub(super) steered: bool,
    /// The rules that others set off.
    pub(super) followers: &'a [Arc<Loaded>],
}

impl Circumstances<'_> {
    /// Whether a fault's hits are waited for: each has to be an exchange then.
    fn watches(&self, fault: &str) -> bool {
        let waits = |rule: &Arc<Loaded>| {
            rule.rule.when.after.as_ref().is_some_and(|after| *after.fault == *fault)
        };
        self.followers.iter().any(waits)
    }
}

/// An exchange as armed faults see it.
pub(super) struct Judged {
    /// By their index, those that it is not for, and why.
    pub(super) unmatched: Vec<(usize, Aspect)>,
    /// All others.
    pub(super) considered: Vec<Considered>,
}

/// A fault and how it is armed.
#[derive(Clone, Debug)]
pub(super) struct Armed {
    /// Its place in the file.
    place: usize,
    pub(super) rule: Arc<Loaded>,
    pub(super) arming: Arming,
    /// By level, whether any of its effects acts there.
    levels: [bool; LEVELS],
}

impl Snapshot {
    /// The state with these armings, one for each rule.
    pub(super) fn new(
        rules: &[Arc<Loaded>],
        armings: Vec<Option<Arming>>,
        dependencies: &[Arc<str>],
        all: &Circumstances<'_>,
    ) -> Self {
        let armed: Vec<Armed> = rules
            .iter()
            .zip(armings)
            .enumerate()
            .filter_map(|(place, (rule, arming))| Some(Armed::new(place, rule, arming?)))
            .collect();
        let lane = |dependency: &Arc<str>| {
            let targets = |armed: &Armed| armed.rule.rule.targets.contains(dependency);
            let places: Vec<usize> = (0..armed.len()).filter(|at| targets(&armed[*at])).collect();
            let acts = |level| places.iter().any(|at| armed[*at].acts_on(level));
            let any = acts(Level::Request) || acts(Level::Connection);
            let handshake = acts(Level::Handshake);
            // The body goes into the key that everything is drawn from.
            let body = any;
            let watched = |at: usize| all.watches(&armed[at].rule.rule.name);
            let refuse =
                !all.limited && places.iter().any(|at| armed[*at].refuses() && !watched(*at));
            let steered = all.steered;
            (Demand { any, body, handshake, refuse, steered }, places)
        };
        let lanes = dependencies.iter().map(lane).collect();
        Self { armed, lanes, versions: vec![0; dependencies.len()] }
    }

    /// Counts on from the snapshot before this one.
    pub(super) fn follow(&mut self, before: &Self) {
        for dependency in 0..self.lanes.len() {
            let state = |snapshot: &Self| -> Vec<(*const Loaded, Arming)> {
                let armed = snapshot.armed_for(dependency);
                armed.map(|armed| (Arc::as_ptr(&armed.rule), armed.arming)).collect()
            };
            let changed = state(self) != state(before)
                || self.demand(dependency) != before.demand(dependency);
            self.versions[dependency] = before.version(dependency) + u64::from(changed);
        }
    }

    pub(super) fn version(&self, dependency: usize) -> u64 {
        self.versions.get(dependency).copied().unwrap_or_default()
    }

    pub(super) fn demand(&self, dependency: usize) -> Demand {
        self.lanes.get(dependency).map_or_else(Demand::default, |(demand, _)| *demand)
    }

    pub(super) fn armed(&self) -> impl Iterator<Item = &Armed> {
        self.armed.iter()
    }

    pub(super) fn armed_for(&self, dependency: usize) -> impl Iterator<Item = &Armed> {
        self.lane(dependency).iter().map(|index| &self.armed[*index])
    }

    fn lane(&self, dependency: usize) -> &[usize] {
        self.lanes.get(dependency).map_or(&[], |(_, lane)| lane)
    }

    /// Judges an exchange by all that is armed for its dependency.
    pub(super) fn judge(
        &self,
        dependency: usize,
        at: Duration,
        read: &Reading<'_>,
        view: &View<'_>,
        (live, dialect): (bool, &dyn Dialect),
    ) -> Judged {
        let exchange = read.exchange();
        let lane = self.lane(dependency);
        let mut unmatched = Vec::with_capacity(lane.len());
        let mut considered = Vec::new();
        let has_session = dialect.has_session();
        for &index in lane {
            let armed = &self.armed[index];
            let acts = match has_session {
                true => armed.acts_within(exchange.level, live, dialect),
                false => armed.acts_on(exchange.level),
            };
            if !acts || armed.is_over(at) {
                continue;
            }
            match armed.mismatch(read, view) {
                Some(key) => unmatched.push((index, key)),
                None => considered.push(armed.consider(index, at, exchange, view)),
            }
        }
        Judged { unmatched, considered }
    }

    /// Whether nothing is armed for a dependency.
    pub(super) fn is_idle(&self, dependency: usize) -> bool {
        self.lane(dependency).is_empty()
    }

    /// What is armed, by its index.
    #[inline]
    pub(super) fn at(&self, index: usize) -> &Armed {
        &self.armed[index]
    }

    /// How each of `rules` rules is armed.
    pub(super) fn armings(&self, rules: usize) -> Vec<Option<Arming>> {
        let mut armings = vec![None; rules];
        for armed in &self.armed {
            armings[armed.place] = Some(armed.arming);
        }
        armings
    }

    /// Whether anything that others can see is not the same.
    pub(super) fn differs(&self, other: &Self) -> bool {
        let state = |snapshot: &Self| -> Vec<(*const Loaded, Arming)> {
            snapshot.armed.iter().map(|armed| (Arc::as_ptr(&armed.rule), armed.arming)).collect()
        };
        let demands = |snapshot: &Self| -> Vec<Demand> {
            snapshot
                .lanes
                .iter()
                .map(|(demand, _)| *demand)
                .filter(|demand| demand.any || demand.handshake || demand.steered)
                .collect()
        };
        state(self) != state(other) || demands(self) != demands(other)
    }
}

impl Armed {
    fn new(place: usize, rule: &Arc<Loaded>, arming: Arming) -> Self {
        let effects = &rule.rule.effects;
        let acts = |level| effects.iter().any(|(_, fault)| fault.acts_on(level));
        let levels = Level::ALL.map(acts);
        Self { place, rule: Arc::clone(rule), arming, levels }
    }

    /// Whether any of its effects acts on exchanges of this level.
    #[inline]
    pub(super) fn acts_on(&self, level: Level) -> bool {
        self.levels[level as usize]
    }

    /// The same, where it also counts what the connection carries.
    #[inline]
    pub(super) fn acts_within(&self, level: Level, live: bool, dialect: &dyn Dialect) -> bool {
        let mut effects = self.rule.rule.effects.iter();
        effects.any(|(_, fault)| acts_within(fault.as_ref(), level, live, dialect))
    }

    fn percent(&self) -> Ramp {
        self.arming.percent.unwrap_or(self.rule.rule.percent)
    }

    /// The percent of matching exchanges to act on at this time.
    #[inline]
    pub(super) fn percent_at(&self, at: Duration) -> f64 {
        let Arming { from, until, .. } = self.arming;
        let length = until.map_or(Duration::ZERO, |until| until.saturating_sub(from));
        let share = if length.is_zero() {
            0.0
        } else {
            at.saturating_sub(from).as_secs_f64() / length.as_secs_f64()
        };
        let percent = self.percent().at(share);
        match &self.rule.rule.escalation {
            Some(steps) => steps.raised(&self.rule.turns.escalation, percent, self.since(at)),
            None => percent,
        }
    }

    /// How long it has been armed.
    pub(super) fn since(&self, at: Duration) -> Duration {
        at.saturating_sub(self.arming.from)
    }

    /// Whether its time is up, even if nobody has disarmed it yet.
    #[inline]
    pub(super) fn is_over(&self, at: Duration) -> bool {
        self.arming.until.is_some_and(|until| until <= at)
    }

    /// Whether it refuses connections as a whole: it must be meant for every exchange.
    pub(super) fn refuses(&self) -> bool {
        let rule = &self.rule.rule;
        let percent = self.percent();
        rule.effects.iter().any(|(_, fault)| fault.refuses_connections())
            && rule.is_for_all()
            && percent.from.min(percent.to) >= 100.0
    }
}

/// Whether a fault acts on exchanges of this level. A protocol over a raw connection has several: the
/// connection's start, its bytes while it lasts (`live`), and the requests that it carries.
pub(super) fn acts_within(
    fault: &dyn Fault,
    level: Level,
    live: bool,
    dialect: &dyn Dialect,
) -> bool {
    let here = || match (level, fault.within(dialect)) {
        (Level::Connection, Within::Connection) => true,
        (Level::Connection, Within::Start | Within::StartAndRequests) => !live,
        (Level::Request, Within::Requests | Within::StartAndRequests) => true,
        (Level::Handshake, _) => true,
        _ => false,
    };
    fault.acts_on(level) && (!dialect.has_session() || here())
}
