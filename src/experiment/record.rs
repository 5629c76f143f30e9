//! Builds the record of a run from its books.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::conduct::{DriverFacts, recovery_rule};
use super::run::Options;
use super::{Book, Endpoint};
use crate::config::plan::Plan;
use crate::dice;
use crate::engine::Engine;
use crate::measure::record::{DependencyInfo, FaultLedger, Record, SCHEMA_VERSION, Source};
use crate::units::rfc3339;
use crate::verdict::{self, Ending, Evidence};

/// What a record is made of.
pub(super) struct Parts<'a> {
    pub(super) plan: &'a Plan,
    pub(super) options: &'a Options,
    pub(super) endpoints: &'a [Endpoint],
    pub(super) engine: &'a Engine,
    pub(super) book: &'a Book,
    /// Observations that the channel had to drop.
    pub(super) dropped: u64,
    pub(super) ending: Ending,
    pub(super) driver: DriverFacts,
    pub(super) started: SystemTime,
}

/// Sums up, judges, concludes.
pub(super) fn build(parts: &Parts<'_>) -> Record {
    let plan = parts.plan;
    let mut record = Record {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        name: plan.name.clone(),
        description: plan.description.clone(),
        seed: parts.options.seed,
        algorithm: dice::ALGORITHM.to_owned(),
        started: rfc3339(parts.started.duration_since(UNIX_EPOCH).unwrap_or_default()),
        dependencies: parts.endpoints.iter().map(dependency).collect(),
        faults: ledgers(parts.engine),
        replay: parts.engine.replayed(),
        source: Source { file: plan.source_name.clone(), text: plan.source_text.clone() },
        reproduce: parts.options.reproduce.clone(),
        observations_dropped: parts.dropped,
        ..Record::default()
    };
    record.driver.cpu = parts.driver.cpu;
    let rule = recovery_rule(plan).unwrap_or_default();
    parts.book.read(|ledger| {
        let asked = verdict::asked_recoveries(&plan.expectations);
        ledger.summarise(&rule, &asked, &mut record);
        let evidence = Evidence::new(ledger, &rule, &record.faults, &record.dependencies);
        record.expectations = verdict::judge(&plan.expectations, &evidence);
    });
    record.driver.planned = parts.driver.planned;
    record.driver.shed = record.driver.shed.max(parts.driver.shed);
    verdict::conclude(&mut record, &parts.ending);
    if let Some(broken) = parts.book.broken() {
        record.reasons.push(broken);
    }
    record
}

fn dependency(end: &Endpoint) -> DependencyInfo {
    DependencyInfo {
        name: end.name.to_string(),
        kind: end.kind.clone(),
        listen: end.listen.map(|listen| listen.to_string()).unwrap_or_default(),
        upstream: end.upstream.clone(),
        ..DependencyInfo::default()
    }
}

/// The faults with their tallies, in the file's order.
pub(super) fn ledgers(engine: &Engine) -> Vec<FaultLedger> {
    engine
        .rules()
        .iter()
        .zip(engine.tallies())
        .map(|(rule, (name, tally))| FaultLedger {
            name: name.to_string(),
            target: rule.target_text.clone(),
            effects: rule.effects.iter().map(|(effect, _)| (*effect).to_owned()).collect(),
            armed: tally.armed,
            matched: tally.matched,
            selected: tally.selected,
            hit: tally.hit,
            impossible: tally.impossible,
            let_go: tally.let_go,
            reasons: tally.reasons,
            shadow: rule.shadow,
            would_hit: tally.would_hit,
            unmatched: tally.unmatched,
            out_of_turn: tally.out_of_turn,
            percent_wanted: tally.percent_wanted,
            percent_real: tally.percent_real,
            percent_interval: tally.percent_interval,
            bytes_changed: tally.bytes_changed,
            events_changed: tally.events_changed,
            delay_wanted: tally.delay_wanted,
            delay_real: tally.delay_real,
            ..FaultLedger::default()
        })
        .collect()
}

/// CPU time of this process so far.
pub(super) fn cpu_time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}
