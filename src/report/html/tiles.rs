//! The five numbers of the first screen: baseline, worst, recovered, and the limit under them.

use crate::measure::record::{Expected, Record, Recovery, Verdict};
use crate::report::digest::{self, Measure};
use crate::report::{numbers, text};

use super::chart::{pretty, speed};
use super::ledgers;

/// A tile.
#[derive(Debug)]
pub(super) struct Tile {
    pub(super) label: String,
    pub(super) value: String,
    /// `pass`, `fail`, `inconclusive` or nothing, where nothing is expected.
    pub(super) state: &'static str,
    pub(super) mark: &'static str,
    pub(super) spoken: &'static str,
    pub(super) trail: String,
    pub(super) limit: String,
    pub(super) title: String,
}

pub(super) fn tiles(record: &Record) -> Vec<Tile> {
    let measures = [Measure::Success, speed(record), Measure::Completeness, Measure::Amplification];
    let mut tiles: Vec<Tile> = measures.into_iter().map(|it| of_measure(record, it)).collect();
    tiles.push(of_recovery(record));
    tiles
}

fn of_measure(record: &Record, measure: Measure) -> Tile {
    let way = digest::journey(record, measure);
    let format = |value| numbers::or_dash(value, |value| measure.format(value));
    let expected = digest::telling(record, measure);
    let mut label = measure.label().to_owned();
    if measure == Measure::Amplification
        && let Some((name, _)) = way.worst_phase.and_then(digest::worst_amplification)
    {
        label.push_str(&format!(" ({})", text::line(name, 24)));
    }
    let title = way.worst_phase.map_or_else(
        || "no phase with a value".into(),
        |phase| {
            let name = text::line(&phase.name, 100);
            format!("worst in {name}, n = {}", numbers::count(measure.samples(phase)))
        },
    );
    let value = way.worst.or(way.baseline);
    let told = expected.map(state).unwrap_or_default();
    Tile {
        label,
        value: format(value),
        state: told.0,
        mark: told.1,
        spoken: told.2,
        trail: match value {
            None => "not measured".into(),
            Some(_) => format!(
                "{} → {} → {}",
                format(way.baseline),
                format(way.worst),
                format(way.recovered)
            ),
        },
        limit: expected.map_or_else(|| "no limit".into(), limit_words),
        title,
    }
}

fn of_recovery(record: &Record) -> Tile {
    let slowest = record.recovery.iter().max_by(|a, b| slowness(a).total_cmp(&slowness(b)));
    let expected = slowest
        .and_then(|it| digest::recovery_expectation(record, &it.after))
        .or_else(|| record.expectations.iter().find(|it| it.text.starts_with("time_to_recover")));
    let told = expected.map(state).unwrap_or_default();
    Tile {
        label: "Time to recover".into(),
        value: slowest.map_or_else(|| numbers::DASH.into(), digest::recovery_time),
        state: told.0,
        mark: told.1,
        spoken: told.2,
        trail: slowest.map_or_else(
            || "not measured".into(),
            |it| {
                let words = ledgers::class_words(it);
                words.split(':').next().unwrap_or_default().to_owned()
            },
        ),
        limit: expected.map_or_else(|| "no limit".into(), limit_words),
        title: slowest
            .map_or_else(String::new, |it| format!("after {}", text::line(&it.after, 100))),
    }
}

fn slowness(recovery: &Recovery) -> f64 {
    let time = recovery.time_to_recover_s.filter(|it| it.is_finite()).unwrap_or(0.0);
    if recovery.censored { f64::MAX } else { time }
}

fn state(expected: &Expected) -> (&'static str, &'static str, &'static str) {
    let class = match expected.verdict {
        Verdict::Fail if digest::only_warns(expected) => "inconclusive",
        Verdict::Fail => "fail",
        Verdict::Aborted | Verdict::Inconclusive => "inconclusive",
        Verdict::Pass => "pass",
    };
    (class, digest::mark(expected.verdict), digest::word(expected.verdict))
}

/// `limit ≥ 95% during storm`.
fn limit_words(expected: &Expected) -> String {
    digest::sentence(&expected.text).map_or_else(
        || text::line(&expected.text, 80),
        |it| text::line(&format!("limit {} {}{}", pretty(it.op), it.limit, it.scope), 80),
    )
}
