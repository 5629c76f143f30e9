//! `report.html`: one file, no network, readable with scripts off. The chart is drawn here, as SVG;
//! the script in the page adds hover, zoom and a copy button and nothing that is needed.
//! All that an app or a user wrote is escaped by the templates.

use askama::Template;

use crate::measure::record::{Record, Verdict};

use super::digest::{self, Tally};
use super::{numbers, text};

mod assistant;
mod chart;
mod clients;
mod lanes;
mod ledgers;
mod scale;
mod table;
mod tables;
mod tiles;

use self::chart::Chart;
use self::table::Table;
use self::tiles::Tile;

/// Lines and bytes of the experiment file that are shown.
const MOST_LINES: usize = 5_000;
const MOST_YAML: usize = 256 * 1024;

#[derive(Template)]
#[template(path = "report/page.html")]
struct Page {
    name: String,
    description: String,
    state: &'static str,
    mark: &'static str,
    word: &'static str,
    partial: bool,
    tally: String,
    headline: String,
    reasons: Vec<String>,
    facts: Vec<String>,
    doubts: Vec<String>,
    tiles: Vec<Tile>,
    chart: Option<Chart>,
    seconds: Table,
    expectations: Table,
    phases: Table,
    errors: Table,
    streaming: Table,
    dependencies: Table,
    clients: Table,
    findings: Vec<String>,
    addresses: Table,
    faults: Table,
    recovery: Table,
    driver: Table,
    file: String,
    yaml: Vec<String>,
    yaml_cut: bool,
    reproduce: String,
    brief: String,
    version: String,
}

/// The page.
pub fn html(record: &Record) -> String {
    page(record).render().expect("writing to a string fails in no template of ours")
}

fn page(record: &Record) -> Page {
    let (yaml, yaml_cut) = yaml(&record.source.text);
    Page {
        name: named(&record.name),
        description: text::line(record.description.as_deref().unwrap_or_default(), 600),
        state: state(record.verdict),
        mark: digest::mark(record.verdict),
        word: digest::word(record.verdict),
        partial: record.partial,
        tally: Tally::of(record).sentence(),
        headline: text::line(&record.headline, 1_000),
        reasons: digest::reasons(record).take(20).map(|it| text::line(it, 600)).collect(),
        facts: facts(record),
        doubts: ledgers::doubts(record),
        tiles: tiles::tiles(record),
        chart: chart::chart(record),
        seconds: tables::seconds(record),
        expectations: tables::expectations(record),
        phases: tables::phases(record),
        errors: tables::errors(record),
        streaming: tables::streaming(record),
        dependencies: ledgers::dependencies(record),
        clients: clients::clients(record),
        findings: digest::findings(record).map(|it| text::line(&it, 600)).collect(),
        addresses: ledgers::addresses(record),
        faults: ledgers::faults(record),
        recovery: ledgers::recovery(record),
        driver: ledgers::driver(record),
        file: text::line(&record.source.file, 300),
        yaml,
        yaml_cut,
        reproduce: text::line(&record.reproduce, 1_000),
        brief: assistant::brief(record),
        version: text::line(&record.version, 40),
    }
}

fn named(name: &str) -> String {
    match text::line(name, 240) {
        name if name.is_empty() => "unnamed".into(),
        name => name,
    }
}

fn state(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Aborted => "aborted",
        Verdict::Fail => "fail",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Pass => "pass",
    }
}

fn facts(record: &Record) -> Vec<String> {
    let mut facts = vec![
        format!(
            "{} · {}",
            numbers::length(record.duration_s),
            numbers::of(digest::requests(record), "request", "requests")
        ),
        format!("seed {} · brownout {}", record.seed, text::line(&record.version, 40)),
    ];
    if !record.started.is_empty() {
        facts.push(text::line(&record.started, 32).replace('T', " ").replace('Z', " UTC"));
    }
    facts
}

/// The file's lines, to be numbered; and whether some are missing.
fn yaml(source: &str) -> (Vec<String>, bool) {
    let mut end = source.len().min(MOST_YAML);
    while !source.is_char_boundary(end) {
        end -= 1;
    }
    let shown: Vec<String> =
        text::block(&source[..end]).lines().take(MOST_LINES).map(str::to_owned).collect();
    let cut = end < source.len() || source.lines().nth(MOST_LINES).is_some();
    (shown, cut)
}
