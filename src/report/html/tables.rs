//! The tables about users: expectations, phases, errors, streaming, and the chart's own numbers.

use crate::measure::record::{Expected, Phase, Quantiles, Record, Verdict};
use crate::report::digest::{self, Measure, below_max};
use crate::report::timeline::{self, Bin};
use crate::report::{junit, numbers, text};

use super::chart::MOST_BINS;
use super::table::{Cell, Table};

const MOST_ERRORS: usize = 200;

pub(super) fn expectations(record: &Record) -> Table {
    let mut table = Table::new(
        "Expectations, the broken ones first",
        &["", "Expectation", "#Observed", "#Samples", "Margin", "#95 % interval", "#Line"],
        "This experiment expects nothing, so nothing could break.",
    );
    let lines = record.source.text.lines().take(super::MOST_LINES).count();
    for expected in digest::by_urgency(record) {
        let warns = digest::only_warns(expected) && expected.verdict == Verdict::Fail;
        let line = match expected.line {
            0 => Cell::number(numbers::DASH.into()),
            line if line as usize > lines => Cell::number(line.to_string()),
            line => Cell::number(line.to_string()).linked(format!("#line-{line}")),
        };
        table.marked_row(
            if warns { "warn" } else { row_class(expected.verdict) },
            vec![
                Cell::mark(expected.verdict, warns),
                Cell { header: true, ..Cell::code(&expected.text) },
                Cell::number(observed_words(expected)).titled(samples(expected)),
                Cell::count(expected.samples),
                Cell::text(&margin(expected, warns)),
                Cell::number(expected.interval.map_or_else(
                    || numbers::DASH.into(),
                    |[low, high]| junit::interval(expected, low, high),
                )),
                line,
            ],
        );
    }
    table
}

fn row_class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Aborted | Verdict::Fail => "broken",
        Verdict::Inconclusive => "open",
        Verdict::Pass => "",
    }
}

/// What was observed; a factor with the sign that the rest of the page has.
fn observed_words(expected: &Expected) -> String {
    let words = text::line(&expected.observed_text, 60);
    match words.strip_suffix('x') {
        _ if words.is_empty() => numbers::DASH.into(),
        Some(number) if expected.unit == "x" => format!("{number}×"),
        _ => words,
    }
}

fn samples(expected: &Expected) -> String {
    match expected.samples {
        0 => "no samples".into(),
        n => format!("n = {}", numbers::count(n)),
    }
}

fn margin(expected: &Expected, warns: bool) -> String {
    let mut words = expected.margin_text.clone();
    if let Some(note) = &expected.note {
        let gap = if words.is_empty() { "" } else { "; " };
        words.push_str(&format!("{gap}{note}"));
    }
    if warns {
        words.push_str(" (warning only)");
    }
    words
}

pub(super) fn phases(record: &Record) -> Table {
    let mut table = Table::new(
        "The phases of the run",
        &[
            "##",
            "Phase",
            "#From",
            "#To",
            "Faults armed",
            "#Requests",
            "#Success",
            "#Good/s",
            "#Latency p50",
            "#p95",
            "#p99",
            "#max",
        ],
        "The run had no phase.",
    );
    for (n, phase) in record.phases.iter().enumerate() {
        let faults = if phase.fault_text.is_empty() { &phase.faults } else { &phase.fault_text };
        let mut cells = vec![
            Cell::count(n as u64 + 1),
            Cell::header(&phase.name),
            Cell::number(numbers::clock(phase.start_s)),
            Cell::number(numbers::clock(phase.end_s)),
            Cell::text(&dash_if_empty(faults.join(", "))),
            Cell::count(phase.requests),
            flagged(record, phase, Measure::Success),
            Cell::measured(phase.goodput, numbers::two, phase.requests),
        ];
        cells.extend(quantiles(&phase.latency));
        cells[9].class = flag(record, phase, Measure::Latency);
        cells.push(Cell::measured(phase.latency.max, numbers::seconds, phase.latency.n));
        table.row(cells);
    }
    table
}

pub(super) fn errors(record: &Record) -> Table {
    let mut table = Table::new(
        "Errors as users saw them, by phase",
        &[
            "Phase",
            "Kind",
            "#Status",
            "What the user was told",
            "#Count",
            "#Share of phase",
            "A fault was acting",
        ],
        "",
    );
    let place = |name: &str| record.phases.iter().position(|it| it.name == name);
    let mut errors: Vec<_> = record.errors.iter().collect();
    errors.sort_by_key(|it| (place(&it.phase), std::cmp::Reverse(it.count)));
    for error in errors.iter().take(MOST_ERRORS) {
        let phase = record.phases.iter().find(|it| it.name == error.phase);
        let requests = phase.map_or(0, |it| it.requests);
        let share = (requests > 0).then(|| error.count as f64 / requests as f64);
        let armed = phase.map(|it| it.faults.join(", ")).unwrap_or_default();
        let acting = match (error.during_fault, armed.is_empty()) {
            (false, _) => "no".into(),
            (true, true) => "yes".into(),
            (true, false) => format!("yes: {armed}"),
        };
        let told = if error.message.is_empty() { "(nothing)" } else { &error.message };
        table.row(vec![
            Cell::header(&error.phase),
            Cell::text(&error.outcome),
            Cell::number(error.status.map_or_else(|| numbers::DASH.into(), |it| it.to_string())),
            Cell::text(told).classed("said"),
            Cell::count(error.count),
            Cell::measured(share, numbers::percent, requests),
            Cell::text(&acting),
        ]);
    }
    if errors.len() > MOST_ERRORS {
        let rest = &errors[MOST_ERRORS..];
        let requests: u64 = rest.iter().map(|it| it.count).sum();
        table.note = format!(
            "{} more kinds with {} are in results.json.",
            rest.len(),
            numbers::of(requests, "request", "requests")
        );
    }
    control_row(record, &mut table);
    table
}

/// The control: what went wrong while nothing was made to go wrong.
fn control_row(record: &Record, table: &mut Table) {
    // Phases up to the first fault: what goes wrong there is the app's own.
    let healthy = record.phases.iter().take_while(|it| it.faults.is_empty());
    let healthy: Vec<&str> = healthy.map(|it| it.name.as_str()).collect();
    let (mut before, mut after) = (0u64, 0u64);
    for error in record.errors.iter().filter(|it| !it.during_fault) {
        let own = healthy.contains(&error.phase.as_str());
        *(if own { &mut before } else { &mut after }) += error.count;
    }
    let requests = digest::requests(record);
    let share = (requests > 0).then(|| (before + after) as f64 / requests as f64);
    let quiet = record.phases.iter().filter(|it| it.faults.is_empty());
    let told = match (before, after) {
        (0, 0) if quiet.map(|it| it.requests).sum::<u64>() == 0 => {
            "no request was made while no fault was armed".into()
        }
        (0, 0) => "the app is well when nobody disturbs it".into(),
        (0, _) => "all of them after a fault first acted: its aftermath".into(),
        (_, 0) => "all of them before any fault: look there first".into(),
        _ => format!("{} before any fault: look there first", numbers::count(before)),
    };
    table.marked_row(
        "control",
        vec![
            Cell::header("all phases"),
            Cell::text("not caused by any injected fault"),
            Cell::number(numbers::DASH.into()),
            Cell::text(&told),
            Cell::count(before + after),
            Cell::measured(share, numbers::percent, requests),
            Cell::text("no"),
        ],
    );
}

pub(super) fn streaming(record: &Record) -> Table {
    let mut table = Table::new(
        "Streaming quality by phase",
        &[
            "Phase",
            "#TTFT p50",
            "#p95",
            "#p99",
            "#ITL p50",
            "#p95",
            "#p99",
            "#Tokens/s",
            "#Stalls > 1 s",
            "#Complete",
        ],
        "Nothing was streamed.",
    );
    for phase in &record.phases {
        let mut cells = vec![Cell::header(&phase.name)];
        cells.extend(quantiles(&phase.ttft));
        cells[2].class = flag(record, phase, Measure::Ttft);
        cells.extend(quantiles(&phase.itl));
        cells[6].class = flag(record, phase, Measure::Itl);
        cells.push(Cell::measured(phase.tokens_per_second, numbers::plain, phase.itl.n));
        cells.push(Cell::count(phase.stalls));
        cells.push(flagged(record, phase, Measure::Completeness));
        table.row(cells);
    }
    table
}

/// p50, p95 and p99, each with its n.
pub(super) fn quantiles(quantiles: &Quantiles) -> Vec<Cell> {
    [quantiles.p50, quantiles.p95, quantiles.p99]
        .into_iter()
        .map(|it| Cell::measured(below_max(it, quantiles.max), numbers::seconds, quantiles.n))
        .collect()
}

fn flagged(record: &Record, phase: &Phase, measure: Measure) -> Cell {
    let format = match measure {
        Measure::Success | Measure::Completeness => numbers::percent,
        Measure::Amplification => numbers::times,
        Measure::Itl | Measure::Latency | Measure::Ttft => numbers::seconds,
    };
    Cell::measured(measure.value(phase), format, measure.samples(phase))
        .classed(flag(record, phase, measure))
}

/// A number on which an expectation is broken stands out, by weight and sign as well as colour.
fn flag(record: &Record, phase: &Phase, measure: Measure) -> &'static str {
    if digest::breaks(record, measure, phase) { "n over" } else { "n" }
}

pub(super) fn dash_if_empty(text: String) -> String {
    if text.is_empty() { numbers::DASH.into() } else { text }
}

/// The chart as a table; the hover of the script reads it.
pub(super) fn seconds(record: &Record) -> Table {
    let (bins, group) = timeline::bins(record, MOST_BINS);
    let streamed = digest::streamed(record);
    let speeds =
        if streamed { ["#TTFT p50", "#TTFT p95"] } else { ["#Latency p50", "#Latency p95"] };
    let mut table = Table::new(
        "The chart as a table",
        &[
            "#Time",
            "#Requests",
            "#Good",
            "#Failed",
            "#Success (5 s)",
            speeds[0],
            speeds[1],
            "#Amplification",
            "#Calls",
            "#In flight",
        ],
        "No second was recorded.",
    );
    for bin in &bins {
        let [p50, p95] = match streamed {
            true => [bin.ttft_p50, bin.ttft_p95],
            false => [bin.latency_p50, bin.latency_p95],
        };
        table.row(second(bin, p50, p95));
    }
    if group > 1 {
        table.note = format!(
            "Each row covers {group} s: counts are sums, the other numbers the worst of them."
        );
    }
    table
}

fn second(bin: &Bin, p50: Option<f64>, p95: Option<f64>) -> Vec<Cell> {
    let number = |value, format: fn(f64) -> String| Cell::number(numbers::or_dash(value, format));
    vec![
        Cell { header: true, ..Cell::number(numbers::clock(bin.at)) },
        Cell::count(bin.arrivals),
        Cell::count(bin.good),
        Cell::count(bin.failed),
        number(bin.success, numbers::percent),
        number(p50, numbers::seconds),
        number(p95, numbers::seconds),
        number(bin.amplification, numbers::times),
        Cell::count(bin.calls),
        Cell::count(bin.in_flight),
    ]
}
