//! The summary of a GitHub Actions step, and the annotations on the experiment file's lines. All
//! foreign text is escaped: none of it can become markup, a mention or a workflow command.

use std::fmt::Write;

use crate::measure::record::{Expected, FaultLedger, Record, Verdict};

use super::digest::{self, Fate, Measure, Tally};
use super::{fault, numbers, text};

/// GitHub shows nothing of a summary above 1 MiB.
const MOST_BYTES: usize = 1_000_000;

/// Annotations of a kind that are written before `and n more`; GitHub shows ten.
const MOST_ANNOTATIONS: usize = 8;

/// The step summary; the lowest tables are dropped when it grows too large.
pub fn markdown(record: &Record) -> String {
    let sections =
        [expectations(record), phases(record), faults(record), clients(record), errors(record)];
    let mut out = head(record);
    let foot = foot(record);
    for (at, section) in sections.iter().enumerate() {
        if out.len() + section.len() + foot.len() > MOST_BYTES {
            let left = numbers::of((sections.len() - at) as u64, "table is", "tables are");
            let _ = writeln!(
                out,
                "_{left} left out: the summary would be too large; see the report._\n"
            );
            break;
        }
        out.push_str(section);
    }
    out.push_str(&foot);
    out
}

fn head(record: &Record) -> String {
    let name = escape(&record.name, 200);
    let marker: String = text::line(&record.name, 200)
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    let mut out = format!("<!-- brownout:{marker} -->\n");
    let sign = digest::mark(record.verdict);
    let tally = Tally::of(record).sentence();
    let _ =
        writeln!(out, "## {sign} brownout: {name}: {}, {tally}\n", digest::word(record.verdict));
    if record.partial {
        out.push_str("**Partial:** the run was cut short.\n\n");
    }
    for sentence in std::iter::once(&record.headline)
        .chain(digest::reasons(record))
        .filter(|sentence| !sentence.is_empty())
    {
        let _ = writeln!(out, "{}\n", escape(sentence, 1_000));
    }
    out
}

fn foot(record: &Record) -> String {
    let version = escape(&record.version, 40);
    match record.reproduce.is_empty() {
        true => format!("brownout {version}\n"),
        false => format!("Reproduce: {} · brownout {version}\n", code(&record.reproduce)),
    }
}

fn expectations(record: &Record) -> String {
    let mut out = String::new();
    if record.expectations.is_empty() {
        return out;
    }
    out.push_str("| | Expectation | Observed | Samples | Margin |\n|---|---|---:|---:|---|\n");
    for expected in digest::by_urgency(record) {
        let note = expected.note.as_deref().unwrap_or(&expected.margin_text);
        let warns = expected.verdict == Verdict::Fail && digest::only_warns(expected);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {}{} |",
            digest::mark(expected.verdict),
            code(&expected.text),
            escape(observed(expected), 60),
            numbers::count(expected.samples),
            escape(note, 200),
            if warns { " (warning only)" } else { "" },
        );
    }
    out.push('\n');
    out
}

fn phases(record: &Record) -> String {
    let mut out = String::new();
    if record.phases.is_empty() {
        return out;
    }
    let speed = if digest::streamed(record) { Measure::Ttft } else { Measure::Latency };
    let columns = [Measure::Success, speed, Measure::Completeness, Measure::Amplification];
    out.push_str("| Phase | Faults | Requests |");
    for measure in columns {
        let _ = write!(out, " {} |", measure.label());
    }
    out.push_str("\n|---|---|---:|---:|---:|---:|---:|\n");
    for phase in &record.phases {
        let faults = match phase.faults.is_empty() {
            true => numbers::DASH.into(),
            false => escape(&phase.faults.join(", "), 200),
        };
        let requests = numbers::count(phase.requests);
        let _ = write!(out, "| {} | {faults} | {requests} |", escape(&phase.name, 200));
        for measure in columns {
            let value = numbers::or_dash(measure.value(phase), |value| measure.format(value));
            let bold = if digest::breaks(record, measure, phase) { "**" } else { "" };
            let _ = write!(out, " {bold}{value}{bold} |");
        }
        out.push('\n');
    }
    out.push('\n');
    out
}

fn faults(record: &Record) -> String {
    let mut out = String::new();
    if record.faults.is_empty() {
        return out;
    }
    out.push_str(
        "| | Fault | Target | Matched | Hit | Let go | Impossible |\n|---|---|---|---:|---:|---:|---:|\n",
    );
    for fault in &record.faults {
        let sign = match digest::fate(record, fault) {
            Fate::Hit => "✓",
            Fate::Shadow => "in the shadow",
            Fate::NeverHit => "? never acted",
            Fate::Unused => "not used",
        };
        let _ = writeln!(
            out,
            "| {sign} | {} | {} | {} | {} | {} | {} |",
            escape(&fault.name, 200),
            escape(&fault.target, 200),
            numbers::count(fault.matched),
            match fault.shadow {
                true => format!("({})", numbers::count(fault.would_hit)),
                false => numbers::count(fault.hit),
            },
            numbers::count(fault.let_go),
            numbers::count(fault.impossible),
        );
    }
    if record.faults.iter().any(|fault| fault.shadow) {
        out.push_str("\nIn brackets: what a fault in the shadow would have hit.\n");
    }
    if let Some(replay) = &record.replay {
        let _ = writeln!(out, "\nReplay of {}.", escape(&fault::replayed(replay), 400));
    }
    out.push('\n');
    out
}

fn clients(record: &Record) -> String {
    let mut out = String::new();
    for finding in digest::findings(record).take(20) {
        let _ = writeln!(out, "- {}", escape(&finding, 400));
    }
    if out.is_empty() { out } else { format!("How the app's clients behaved:\n\n{out}\n") }
}

fn errors(record: &Record) -> String {
    let mut out = String::new();
    if record.errors.is_empty() {
        return out;
    }
    out.push_str("<details><summary>Errors as users saw them</summary>\n\n");
    out.push_str("| Phase | Error | Count | A fault was acting |\n|---|---|---:|---|\n");
    for error in record.errors.iter().take(100) {
        let status = error.status.map(|status| format!(" {status}")).unwrap_or_default();
        let _ = writeln!(
            out,
            "| {} | {}{status}: {} | {} | {} |",
            escape(&error.phase, 200),
            escape(&error.outcome, 40),
            escape(&error.message, 200),
            numbers::count(error.count),
            if error.during_fault { "yes" } else { "no" },
        );
    }
    out.push_str("\n</details>\n\n");
    out
}

/// Workflow commands that mark the lines of broken expectations; empty when all is well.
pub fn annotations(record: &Record) -> String {
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    for expected in digest::by_urgency(record) {
        let line = annotation(record, expected);
        match expected.verdict {
            Verdict::Pass => {}
            Verdict::Fail if digest::only_warns(expected) => warnings.push(line),
            _ => errors.push(line),
        }
    }
    let missed = record.faults.iter().filter(|it| digest::fate(record, it) == Fate::NeverHit);
    errors.extend(missed.map(|fault| missed_annotation(record, fault)));
    let not_green = matches!(record.verdict, Verdict::Aborted | Verdict::Inconclusive);
    if errors.is_empty() && not_green {
        let why = record.reasons.first().unwrap_or(&record.headline);
        errors.push((place(record, 0), "brownout".into(), text::line(why, 1_000)));
    }
    written("error", &errors) + &written("warning", &warnings)
}

type Annotation = (String, String, String);

fn annotation(record: &Record, expected: &Expected) -> Annotation {
    let phase = expected.phase.as_deref().unwrap_or(&record.name);
    let why = expected.note.as_deref().unwrap_or(&expected.margin_text);
    let message = format!("{}: {}, {why}", expected.text, observed(expected));
    (place(record, expected.line), format!("brownout: {phase}"), message)
}

fn missed_annotation(record: &Record, fault: &FaultLedger) -> Annotation {
    let why = digest::never_hit_because(fault);
    (
        place(record, 0),
        "brownout: faults".into(),
        format!("fault {} never acted: {why}", fault.name),
    )
}

fn place(record: &Record, line: u32) -> String {
    let file = property(&text::line(&record.source.file, 300));
    match (file.is_empty(), line) {
        (true, _) => String::new(),
        (false, 0) => format!("file={file},"),
        (false, line) => format!("file={file},line={line},"),
    }
}

fn written(kind: &str, all: &[Annotation]) -> String {
    let mut out = String::new();
    for (place, title, message) in all.iter().take(MOST_ANNOTATIONS) {
        let title = property(&text::line(title, 200));
        let message = data(&text::line(message, 1_000));
        let _ = writeln!(out, "::{kind} {place}title={title}::{message}");
    }
    if all.len() > MOST_ANNOTATIONS {
        let more = all.len() - MOST_ANNOTATIONS;
        let _ = writeln!(out, "::{kind} title=brownout::and {more} more, see the report");
    }
    out
}

/// The message of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

fn observed(expected: &Expected) -> &str {
    if expected.observed_text.is_empty() { numbers::DASH } else { &expected.observed_text }
}

/// Foreign text in running Markdown or a table's cell.
fn escape(text: &str, most: usize) -> String {
    let text = text::line(text, most);
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // As entities they are no mention, no issue number, no address and no command.
            '@' => out.push_str("&#64;"),
            '#' => out.push_str("&#35;"),
            ':' if matches!(rest.peek(), Some('/' | ':')) => out.push_str("&#58;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

/// Foreign text as code, in a table's cell too: in HTML where a backtick or a pipe would end it.
fn code(text: &str) -> String {
    let text = text::line(text, 1_000);
    if text.is_empty() || !text.contains(['`', '|', '\\']) {
        return format!("`{text}`");
    }
    let mut out = String::from("<code>");
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            let _ = write!(out, "&#{};", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out.push_str("</code>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_no_markup() {
        let hostile = "a|b `c` <img src=x> @team #1 [x](http://y) **d** $e$\n::error::f";
        let escaped = escape(hostile, 200);
        assert!(!escaped.contains(['<', '@', '\n']), "{escaped}");
        assert!(escaped.contains("a\\|b \\`c\\` &lt;img"), "{escaped}");
        assert!(!escaped.contains("::"), "{escaped}");
        assert_eq!(code("a|`<"), "<code>a&#124;&#96;&#60;</code>");
        assert_eq!(code("a < 1"), "`a < 1`");
    }

    #[test]
    fn commands_are_escaped() {
        assert_eq!(property("a:b,c%\r\n"), "a%3Ab%2Cc%25%0D%0A");
        assert_eq!(data("88 %\n"), "88 %25%0A");
    }
}
