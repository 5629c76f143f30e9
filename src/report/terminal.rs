//! The summary at the end of a run: 80 columns of plain text, colours only when told.

use std::fmt::Write;

use crate::measure::record::{Expected, Phase, Record, Verdict};

use super::digest::{self, Measure, Tally};
use super::{fault, numbers, text};

mod paint;
mod sparkline;

use self::paint::{Pen, Role};

/// How to write the summary.
#[derive(Clone, Debug)]
pub struct Style {
    /// Colours, as ANSI sequences.
    pub color: bool,
    /// No character beyond ASCII.
    pub ascii: bool,
    /// Columns, 60 to 160.
    pub width: usize,
    /// Where the report was written, when it was.
    pub report: Option<String>,
}

impl Default for Style {
    fn default() -> Self {
        Self { color: false, ascii: false, width: 80, report: None }
    }
}

/// The most phases and expectations shown one by one.
const MOST_ROWS: usize = 60;
/// The most findings about the app's clients.
const MOST_FINDINGS: usize = 8;

/// The summary.
pub fn terminal(record: &Record, style: &Style) -> String {
    let page = Page {
        record,
        pen: Pen { color: style.color, ascii: style.ascii },
        width: style.width.clamp(60, 160),
    };
    let mut out = String::new();
    page.title(&mut out);
    page.phases(&mut out);
    sparkline::draw(record, page.pen, page.width, &mut out);
    page.expectations(&mut out);
    page.notes(style, &mut out);
    out
}

struct Page<'a> {
    record: &'a Record,
    pen: Pen,
    width: usize,
}

impl Page<'_> {
    fn line(&self, out: &mut String, text: &str) {
        let text = text.trim_end();
        // A CI runner would take such a line, written by an app, for a command of ours.
        let text = text.replace("##[", "## [");
        let _ = match text.trim_start().starts_with("::") {
            true => writeln!(out, "{}", text.replacen("::", ": :", 1)),
            false => writeln!(out, "{text}"),
        };
    }

    fn title(&self, out: &mut String) {
        let record = self.record;
        let name = text::line(&record.name, self.width - 4);
        let rule = "─".repeat(self.width - 1 - name.chars().count());
        self.line(out, &format!("{} {}", self.pen.dim(&rule), self.pen.bold(&name)));

        let verdict = format!("{} {}", digest::mark(record.verdict), digest::word(record.verdict));
        let mut tally = Tally::of(record).sentence();
        if record.partial {
            tally.push_str(" (partial: the run was cut short)");
        }
        let facts = format!(
            "{}  {}  seed {}",
            numbers::length(record.duration_s),
            numbers::of(digest::requests(record), "request", "requests"),
            record.seed
        );
        let indent = verdict.chars().count() + 2;
        let used = indent + tally.chars().count();
        let verdict = self.pen.paint(Role::of(record.verdict), &verdict);
        let room = self.width.saturating_sub(used + facts.chars().count());
        if room >= 2 {
            self.line(out, &format!("{verdict}  {tally}{:room$}{}", "", self.pen.dim(&facts)));
        } else {
            for (n, part) in text::wrap(&tally, self.width - indent).iter().enumerate() {
                let lead = if n == 0 { format!("{verdict}  ") } else { " ".repeat(indent) };
                self.line(out, &format!("{lead}{}", self.pen.plain(part)));
            }
            self.line(out, &format!("  {}", self.pen.dim(&facts)));
        }
        out.push('\n');
    }

    fn phases(&self, out: &mut String) {
        let phases = &self.record.phases;
        if phases.is_empty() {
            return;
        }
        let speed = if digest::streamed(self.record) { Measure::Ttft } else { Measure::Latency };
        let mut columns = vec![
            (Measure::Success, "SUCCESS", 9),
            if speed == Measure::Ttft {
                (speed, "TTFT p95", 10)
            } else {
                (speed, "LATENCY p95", 12)
            },
            (Measure::Itl, "ITL p99", 9),
            (Measure::Completeness, "COMPLETE", 10),
            (Measure::Amplification, "AMPL", 8),
        ];
        let longest = phases.iter().map(|phase| phase.name.chars().count()).max().unwrap_or(0);
        let name = longest.clamp(8, 12);
        let numbers = |columns: &[(Measure, &str, usize)]| columns.iter().map(|it| it.2).sum();
        for dear in [Measure::Itl, Measure::Completeness] {
            if name + 8 + numbers(&columns) > self.width {
                columns.retain(|it| it.0 != dear);
            }
        }
        let numbers: usize = numbers(&columns);
        let fault = self.width.saturating_sub(numbers + name + 9).min(40);
        let fault = if fault < 8 { 0 } else { fault };

        let mut head = format!("{:name$}{:>6}  {:fault$}", "PHASE", "DUR", cut("FAULT", fault));
        for (_, title, width) in &columns {
            let _ = write!(head, "{title:>width$}");
        }
        self.line(out, &self.pen.dim(head.trim_end()));
        for phase in phases.iter().take(MOST_ROWS) {
            let mut row = format!(
                "{:name$}{:>6}  {:fault$}",
                text::line(&phase.name, name),
                short_length(phase.end_s - phase.start_s),
                cut(&fault_words(phase), fault),
            );
            for (measure, _, width) in &columns {
                row.push_str(&self.cell(phase, *measure, *width));
            }
            self.line(out, &self.pen.plain(&row));
        }
        self.more(out, phases.len(), "phases");
        out.push('\n');
    }

    /// A number, with `!` before it where an expectation on it is broken.
    fn cell(&self, phase: &Phase, measure: Measure, width: usize) -> String {
        let value = numbers::or_dash(measure.value(phase), |value| measure_text(measure, value));
        if digest::breaks(self.record, measure, phase) {
            let flagged = format!("!{value}");
            let pad = width.saturating_sub(flagged.chars().count());
            return format!("{:pad$}{}", "", self.pen.paint(Role::Bad, &flagged));
        }
        format!("{value:>width$}")
    }

    fn more(&self, out: &mut String, total: usize, what: &str) {
        if total > MOST_ROWS {
            self.line(out, &format!("… and {} more {what}", total - MOST_ROWS));
        }
    }

    fn expectations(&self, out: &mut String) {
        let all = digest::by_urgency(self.record);
        if all.is_empty() {
            return;
        }
        let rows: Vec<Judged> = all.iter().take(MOST_ROWS).map(|it| Judged::of(it)).collect();
        let widest = |text: fn(&Judged) -> &str| {
            rows.iter().map(|row| text(row).chars().count()).max().unwrap_or(0)
        };
        let widths = [widest(|it| &it.observed), widest(|it| &it.samples), widest(|it| &it.margin)];
        for row in &rows {
            self.expectation(out, row, widths);
        }
        self.more(out, all.len(), "expectations");
        out.push('\n');
    }

    /// The sentence and its numbers on one line, or on two where they do not fit.
    fn expectation(&self, out: &mut String, row: &Judged, widths: [usize; 3]) {
        let [observed, samples, margin] = widths;
        let room = self.width.saturating_sub(2 + observed + samples + margin + 5);
        let mark = self.pen.paint(row.role, row.mark);
        let values = self.pen.plain(&format!(
            " {:>observed$}  {:>samples$}  {}",
            row.observed, row.samples, row.margin
        ));
        if row.sentence.chars().count() <= room {
            let sentence = self.pen.plain(&format!("{:room$}", row.sentence));
            self.line(out, &format!("{mark} {sentence}{values}"));
        } else {
            for (n, part) in text::wrap(&row.sentence, self.width - 2).iter().enumerate() {
                let lead = if n == 0 { &mark } else { " " };
                self.line(out, &format!("{lead} {}", self.pen.plain(part)));
            }
            self.line(out, &format!("  {:room$}{values}", ""));
        }
        for part in text::wrap(&row.note, self.width - 4) {
            self.line(out, &format!("    {}", self.pen.dim(&part)));
        }
    }

    fn notes(&self, style: &Style, out: &mut String) {
        let record = self.record;
        self.labelled(out, "why", &record.headline);
        for reason in digest::reasons(record) {
            self.labelled(out, if record.headline.is_empty() { "why" } else { "" }, reason);
        }
        self.labelled(out, "users saw", &outcomes(record));
        for fault in &record.faults {
            let name = text::line(&fault.name, 60);
            match digest::fate(record, fault) {
                digest::Fate::Unused => {}
                digest::Fate::Hit => self.labelled(out, "fault", &hit_words(fault, &name)),
                digest::Fate::Shadow => {
                    let words = fault::shadow_words(fault);
                    self.labelled(out, "fault", &format!("{name} {words}"));
                }
                digest::Fate::NeverHit => {
                    let mut sentence = format!("? {name} never acted");
                    if !digest::is_reason(record, &format!("`{}`", fault.name)) {
                        let _ = write!(sentence, ": {}", digest::never_hit_because(fault));
                    }
                    self.labelled(out, "fault", &sentence);
                }
            }
        }
        for finding in digest::findings(record).take(MOST_FINDINGS) {
            self.labelled(out, "client", &finding);
        }
        if let Some(replay) = &record.replay {
            self.labelled(out, "replay", &fault::replayed(replay));
        }
        for warning in &record.driver.warnings {
            self.labelled(out, "driver", warning);
        }
        if record.observations_dropped > 0 {
            let n = numbers::of(record.observations_dropped, "observation", "observations");
            self.labelled(out, "driver", &format!("{n} dropped: the numbers are too low"));
        }
        if let Some(path) = &style.report {
            self.labelled(out, "report", path);
        }
        self.labelled(out, "again", &record.reproduce);
    }

    /// `label    text`, wrapped; nothing for an empty text.
    fn labelled(&self, out: &mut String, label: &str, body: &str) {
        const LABEL: usize = 11;
        let body = text::line(body, 1_000);
        for (n, part) in text::wrap(&body, self.width - LABEL).iter().enumerate() {
            let label = if n == 0 { label } else { "" };
            let lead = self.pen.dim(&format!("{label:LABEL$}"));
            self.line(out, &format!("{lead}{}", self.pen.plain(part)));
        }
    }
}

/// An expectation in words.
struct Judged {
    mark: &'static str,
    role: Role,
    sentence: String,
    observed: String,
    samples: String,
    margin: String,
    note: String,
}

impl Judged {
    fn of(expected: &Expected) -> Self {
        let warns = digest::only_warns(expected) && expected.verdict == Verdict::Fail;
        let mut note = text::line(expected.note.as_deref().unwrap_or_default(), 400);
        if warns {
            note = format!("a warning only, it fails nothing {note}");
        }
        Self {
            mark: digest::mark(expected.verdict),
            role: if warns { Role::Warn } else { Role::of(expected.verdict) },
            sentence: text::line(&expected.text, 400),
            observed: match text::line(&expected.observed_text, 20) {
                text if text.is_empty() => numbers::DASH.into(),
                text => text,
            },
            samples: format!("n={}", numbers::count(expected.samples)),
            margin: text::line(&expected.margin_text, 24),
            note,
        }
    }
}

/// A factor is told with an `x` here, as one types it.
fn measure_text(measure: Measure, value: f64) -> String {
    measure.format(value).replace('×', "x")
}

fn short_length(seconds: f64) -> String {
    match seconds {
        _ if !seconds.is_finite() || seconds < 0.0 => numbers::DASH.into(),
        _ if seconds < 1_000.0 => format!("{seconds:.0}s"),
        _ => format!("{:.0}m", seconds / 60.0),
    }
}

fn cut(text: &str, width: usize) -> String {
    if width == 0 { String::new() } else { text::cut(text, width - 1) }
}

/// How the faults are set in a phase, in words.
fn fault_words(phase: &Phase) -> String {
    let words = if phase.fault_text.is_empty() { &phase.faults } else { &phase.fault_text };
    match words.is_empty() {
        true => numbers::DASH.into(),
        false => text::line(&words.join(", "), 200),
    }
}

/// What users saw, all phases together: `9 × http_500, 4 × timeout`.
fn outcomes(record: &Record) -> String {
    let mut sums = std::collections::BTreeMap::<&str, u64>::new();
    for phase in &record.phases {
        for (outcome, n) in &phase.outcomes {
            *sums.entry(outcome).or_default() += n;
        }
    }
    // What the driver called off at the end was no user's experience.
    let untold = ["ok", "cancelled_by_driver"];
    let mut all: Vec<(&str, u64)> =
        sums.into_iter().filter(|(outcome, n)| !untold.contains(outcome) && *n > 0).collect();
    all.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let words: Vec<String> =
        all.iter().map(|(outcome, n)| format!("{} × {outcome}", numbers::count(*n))).collect();
    words.join(", ")
}

/// `storm hit 118 of 592 (19.9 %, wanted 22.5 %)`.
fn hit_words(fault: &crate::measure::record::FaultLedger, name: &str) -> String {
    let mut words = format!(
        "{name} hit {} of {}",
        numbers::count(fault.hit),
        numbers::of(fault.matched, "matching call", "matching calls")
    );
    if let Some((real, _)) = digest::really_selected(fault) {
        let _ = write!(words, " ({}", numbers::percent(real));
        if let Some(wanted) = fault.percent_wanted {
            let _ = write!(words, ", wanted {}", numbers::percent(wanted / 100.0));
        }
        words.push(')');
    }
    if let Some(effect) = super::fault::effect_words(fault) {
        let _ = write!(words, ", {effect}");
    }
    if fault.let_go > 0 {
        let _ = write!(words, ", let go {}×", numbers::count(fault.let_go));
    }
    if fault.impossible > 0 {
        let _ = write!(words, ", impossible {}×", numbers::count(fault.impossible));
    }
    words
}
