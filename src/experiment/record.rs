//! Builds the record of a run from its books.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::conduct::{DriverFacts, recovery_rule};
use super::run::Options;
use super::{Book, Endpoint};
use crate::config::plan::Plan;
use crate::dice;
use crate::engine::Engine;
use crate::measure::record::{DependencyInfo, FaultLedger, Record, SCHEMA_VERSION, Source};
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
        started: rfc3339(parts.started),
        dependencies: parts.endpoints.iter().map(dependency).collect(),
        faults: ledgers(parts.engine),
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
            percent_wanted: tally.percent_wanted,
            ..FaultLedger::default()
        })
        .collect()
}

/// CPU time of this process so far.
pub(super) fn cpu_time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

/// `2026-11-24T08:06:23Z`, from the civil calendar (Howard Hinnant, "chrono-compatible low-level
/// date algorithms").
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_read_them() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_507_583), "2026-11-24T08:06:23Z");
    }
}
