//! The tables about the machinery: dependencies, faults, recovery, and the driver itself.

use crate::measure::record::{FaultLedger, Record, Recovery};
use crate::report::digest::{self, Fate, Measure};
use crate::report::fault as fault_words;
use crate::report::{numbers, text};

use super::table::{Cell, Table};
use super::tables::{dash_if_empty, quantiles};

const MOST_ROWS: usize = 1_000;

pub(super) fn dependencies(record: &Record) -> Table {
    let mut table = Table::new(
        "Calls to the dependencies by phase",
        &[
            "Dependency",
            "Phase",
            "#Calls",
            "#Per request",
            "#Amplification",
            "#Retries",
            "#Before Retry-After",
            "#Abandoned",
            "#Injected",
            "#Own errors",
            "Statuses",
            "#Head p50",
            "#p95",
        ],
        "No call reached a dependency.",
    );
    let mut left_out = 0;
    for name in names(record) {
        for phase in &record.phases {
            let Some(it) = phase.dependencies.get(name) else { continue };
            if table.rows.len() >= MOST_ROWS {
                left_out += 1;
                continue;
            }
            let broken = digest::breaks(record, Measure::Amplification, phase)
                && digest::worst_amplification(phase).is_some_and(|(worst, _)| worst == name);
            let head = quantiles(&it.time_to_head);
            let mut cells = vec![
                Cell::header(name),
                Cell::text(&phase.name),
                Cell::count(it.calls),
                Cell::measured(it.calls_per_request, numbers::two, phase.requests),
                Cell::measured(it.retry_amplification, numbers::times, it.calls)
                    .classed(if broken { "n over" } else { "n" }),
                Cell::count(it.retries),
                Cell::count(it.retries_before_retry_after),
                Cell::count(it.abandoned),
                Cell::count(it.injected),
                Cell::count(it.own_errors),
                Cell::text(&dash_if_empty(
                    it.statuses
                        .iter()
                        .chain(&it.grpc_statuses)
                        .map(|(status, n)| format!("{status}: {}", numbers::count(*n)))
                        .collect::<Vec<_>>()
                        .join(", "),
                )),
            ];
            cells.extend(head.into_iter().take(2));
            table.row(cells);
        }
    }
    if left_out > 0 {
        table.note = format!("{left_out} more rows are in results.json.");
    }
    table
}

/// All dependencies, the configured ones first.
pub(super) fn names(record: &Record) -> Vec<&str> {
    let mut names: Vec<&str> = record.dependencies.iter().map(|it| it.name.as_str()).collect();
    for phase in &record.phases {
        for name in phase.dependencies.keys() {
            if !names.contains(&name.as_str()) && names.len() < MOST_ROWS {
                names.push(name);
            }
        }
    }
    names
}

pub(super) fn addresses(record: &Record) -> Table {
    let mut table = Table::new(
        "The dependencies as configured",
        &["Dependency", "Kind", "Listened on", "Upstream", "#Calls"],
        "No dependency was configured.",
    );
    for it in record.dependencies.iter().take(MOST_ROWS) {
        table.row(vec![
            Cell::header(&it.name),
            Cell::text(&it.kind),
            Cell::code(&it.listen),
            Cell::code(&it.upstream),
            Cell::count(it.calls),
        ]);
    }
    table
}

pub(super) fn faults(record: &Record) -> Table {
    let mut table = Table::new(
        "What became of each fault",
        &[
            "",
            "Fault",
            "Target",
            "Effects",
            "#Armed",
            "#Matched",
            "#Selected",
            "#Hit",
            "#Let go",
            "#Impossible",
            "#Percent wanted",
            "#Percent real",
            "What it means",
        ],
        "No fault was written, so nothing was broken on purpose.",
    );
    for fault in record.faults.iter().take(MOST_ROWS) {
        table.marked_row(
            if digest::fate(record, fault) == Fate::NeverHit { "open" } else { "" },
            fault_row(record, fault),
        );
    }
    table
}

fn fault_row(record: &Record, fault: &FaultLedger) -> Vec<Cell> {
    let (sign, class, spoken, meaning) = match digest::fate(record, fault) {
        Fate::Hit => ("✓", "mark pass", "acted", hit_meaning(fault)),
        Fate::Shadow => ("○", "mark", "in the shadow", fault_words::shadow_words(fault)),
        Fate::NeverHit => (
            "?",
            "mark inconclusive",
            "never acted",
            format!("never acted: {}", digest::never_hit_because(fault)),
        ),
        Fate::Unused => ("–", "mark", "not used", "no phase arms it".into()),
    };
    let real = digest::really_selected(fault);
    let real_text = real.map_or_else(
        || numbers::DASH.into(),
        |(share, [low, high])| {
            format!(
                "{} ({} to {})",
                numbers::percent(share),
                numbers::percent(low),
                numbers::percent(high)
            )
        },
    );
    vec![
        Cell { text: sign.into(), class, spoken, ..Cell::default() },
        Cell::header(&fault.name),
        Cell::text(&fault.target),
        Cell::text(&dash_if_empty(fault.effects.join(", "))),
        Cell::count(fault.armed),
        Cell::count(fault.matched),
        Cell::count(fault.selected),
        Cell::count(fault.hit),
        Cell::count(fault.let_go),
        Cell::count(fault.impossible),
        Cell::number(numbers::or_dash(fault.percent_wanted.map(|it| it / 100.0), numbers::percent)),
        Cell::number(real_text)
            .titled(format!("95 % interval; n = {} matched", numbers::count(fault.matched))),
        Cell::text(&meaning),
    ]
}

fn hit_meaning(fault: &FaultLedger) -> String {
    let mut words = format!(
        "acted on {} during {}",
        numbers::of(fault.hit, "call", "calls"),
        numbers::of(fault.requests_meanwhile, "user request", "user requests")
    );
    if let Some(effect) = fault_words::effect_words(fault) {
        words.push_str("; ");
        words.push_str(&effect);
    }
    if let Some(why) = digest::passed_over(fault) {
        words.push_str("; did not act: ");
        words.push_str(&why);
    }
    let wanted = fault.percent_wanted.map(|it| it / 100.0);
    if let (Some(wanted), Some((_, [low, high]))) = (wanted, digest::really_selected(fault))
        && !(low..=high).contains(&wanted)
    {
        words.push_str("; the real percent lies off the wanted one");
    }
    words
}

pub(super) fn recovery(record: &Record) -> Table {
    let mut table = Table::new(
        "Recovery after each faulty phase",
        &["After", "#Fault ended at", "#Time to recover", "Kind", "#Depth", "#Loss ratio"],
        "No phase was to recover from.",
    );
    for it in record.recovery.iter().take(MOST_ROWS) {
        table.row(vec![
            Cell::header(&it.after),
            Cell::number(numbers::clock(it.fault_end_s)),
            Cell::number(digest::recovery_time(it)),
            Cell::text(&class_words(it)),
            Cell::number(numbers::or_dash(it.depth, numbers::percent)),
            Cell::number(numbers::or_dash(it.loss_ratio, numbers::two)),
        ]);
    }
    table
}

/// What a class of recovery means.
pub(super) fn class_words(recovery: &Recovery) -> String {
    let words = match recovery.class.as_str() {
        "absorbed" => "absorbed: users did not feel it",
        "recovered" => "recovered",
        "slow_recovery" => "slow recovery",
        "persistent_degradation" => "still degraded at the end",
        "metastable_suspected" => "metastable suspected: the load that retries made kept it down",
        "inconclusive" => "too little to say",
        other => return text::line(other, 40),
    };
    words.into()
}

pub(super) fn driver(record: &Record) -> Table {
    let mut table =
        Table::new("Could the driver keep up?", &["Measure", "#Value", "What it means"], "");
    let it = &record.driver;
    let lag = |value: Option<f64>| numbers::or_dash(value.map(|ms| ms / 1e3), numbers::seconds);
    let rows = [
        ("Send lag, p99", lag(it.lag_p99_ms), "how late requests left, next to their plan"),
        ("Send lag, most", lag(it.lag_max_ms), "the latest of all"),
        ("Requests planned", numbers::count(it.planned), "what the workload asked for"),
        (
            "Requests shed",
            numbers::count(it.shed),
            "never sent, too many were in flight; counted as not good",
        ),
        ("Own CPU", numbers::or_dash(it.cpu, numbers::percent), "of one core, averaged"),
        (
            "Observations dropped",
            numbers::count(record.observations_dropped),
            "0 in an honest run: what was dropped is missing in every number",
        ),
    ];
    for (name, value, meaning) in rows {
        table.row(vec![Cell::header(name), Cell::number(value), Cell::text(meaning)]);
    }
    table
}

/// Why the numbers of this run may be bent, a sentence each.
pub(super) fn doubts(record: &Record) -> Vec<String> {
    let mut doubts: Vec<String> =
        record.driver.warnings.iter().take(20).map(|it| text::line(it, 400)).collect();
    if record.observations_dropped > 0 && !digest::is_reason(record, "observations") {
        doubts.push(format!(
            "{} were dropped, so counts are too low",
            numbers::of(record.observations_dropped, "observation", "observations")
        ));
    }
    for fault in &record.faults {
        let told = digest::is_reason(record, &format!("`{}`", fault.name));
        if digest::fate(record, fault) == Fate::NeverHit && !told && doubts.len() < 40 {
            doubts.push(format!(
                "fault {} never acted: {}",
                text::line(&fault.name, 100),
                text::line(&digest::never_hit_because(fault), 300)
            ));
        }
    }
    doubts
}
