//! `junit.xml` for CI. Inconclusive is an error and never a skip (a skip is green everywhere), and
//! everything one needs stands in the body text, since GitLab shows nothing else.
//!
//! The result is valid under both usual schemas (Jenkins' `junit-10.xsd` and Ant's `JUnit.xsd`),
//! hence the `package`, `id` and `hostname` of a suite and the bare `<testsuites>`.

use std::fmt::Write;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use crate::measure::record::{Expected, FaultLedger, Record, Verdict};

use super::digest::{self, Fate, Tally};
use super::{Style, numbers, terminal, text};

/// The report: a test case for each expectation and each fault, one for the run itself.
pub fn junit(record: &Record) -> String {
    let name = match text::line(&record.name, 200) {
        name if name.is_empty() => "unnamed".into(),
        name => name,
    };
    let mut suite = TestSuite::new(format!("brownout.{name}"));
    suite.set_time(length(record.duration_s));
    for (key, value) in [
        ("package", "brownout".into()),
        ("id", "0".into()),
        ("hostname", "localhost".into()),
        ("timestamp", timestamp(&record.started)),
    ] {
        suite.extra.insert(key.into(), quick_junit::XmlString::new(value));
    }
    for (key, value) in [
        ("version", record.version.clone()),
        ("seed", record.seed.to_string()),
        ("verdict", digest::word(record.verdict).to_lowercase()),
        ("reproduce", record.reproduce.clone()),
    ] {
        suite.add_property(Property::new(key, text::line(&value, 1_000)));
    }
    for expected in &record.expectations {
        suite.add_test_case(expectation(record, &name, expected));
    }
    for fault in &record.faults {
        suite.add_test_cases(fault_hits(record, &name, fault));
    }
    suite.add_test_case(run(record, &name));
    let mut output = warnings(record);
    output.push_str(&terminal(record, &Style::default()));
    suite.set_system_out(output);
    suite.set_system_err("");

    let mut report = Report::unnamed();
    report.add_test_suite(suite);
    bare_root(&report.to_string().expect("writing to memory in UTF-8 does not fail"))
}

/// The root's own attributes are in one schema or the other, never in both.
fn bare_root(xml: &str) -> String {
    let Some((head, rest)) = xml.split_once("<testsuites ") else { return xml.into() };
    let Some((_, body)) = rest.split_once('>') else { return xml.into() };
    format!("{head}<testsuites>{body}")
}

fn expectation(record: &Record, name: &str, expected: &Expected) -> TestCase {
    let status = match expected.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Fail if digest::only_warns(expected) => TestCaseStatus::success(),
        Verdict::Fail => not_green(
            NonSuccessKind::Failure,
            "Expectation",
            &format!("{} (limit {})", observed(expected), limit(expected)),
            &expectation_text(record, expected),
        ),
        Verdict::Inconclusive => not_green(
            NonSuccessKind::Error,
            "Inconclusive",
            expected.note.as_deref().unwrap_or("too few samples to say"),
            &expectation_text(record, expected),
        ),
        Verdict::Aborted => not_green(
            NonSuccessKind::Error,
            "SafetyAbort",
            "the run was stopped before this could be judged",
            &expectation_text(record, expected),
        ),
    };
    let phase = expected.phase.as_deref().unwrap_or("run");
    let mut case = TestCase::new(text::line(&expected.text, 1_000), status);
    case.set_classname(format!("{name}.{}", text::line(phase, 200)));
    let span = record.phases.iter().find(|it| Some(&it.name) == expected.phase.as_ref());
    case.set_time(length(span.map_or(record.duration_s, |it| it.end_s - it.start_s)));
    case
}

fn fault_hits(record: &Record, name: &str, fault: &FaultLedger) -> Option<TestCase> {
    let status = match digest::fate(record, fault) {
        Fate::Unused => return None,
        Fate::Hit | Fate::Shadow => TestCaseStatus::success(),
        Fate::NeverHit => {
            let why = digest::never_hit_because(fault);
            let body = format!(
                "fault `{}` on `{}` never acted: {why}\narmed {}, matched {}, selected {}, hit {}, let go {}, impossible {}\n\
                 a run whose faults did not act says nothing about resilience\n{}",
                fault.name,
                fault.target,
                fault.armed,
                fault.matched,
                fault.selected,
                fault.hit,
                fault.let_go,
                fault.impossible,
                reproduce(record),
            );
            let message = format!("never acted: {why}");
            not_green(NonSuccessKind::Error, "Inconclusive", &message, &body)
        }
    };
    let fault_name = text::line(&fault.name, 200);
    let mut case = TestCase::new(format!("faults hit: {fault_name}"), status);
    case.set_classname(format!("{name}.faults"));
    case.set_time(Duration::ZERO);
    Some(case)
}

/// The run itself: not green when it was cut short, or is not green for a reason that no
/// expectation and no fault carries.
fn run(record: &Record, name: &str) -> TestCase {
    let tally = Tally::of(record);
    let fault_missed =
        record.faults.iter().any(|fault| digest::fate(record, fault) == Fate::NeverHit);
    let body = || {
        let mut body = format!("{}\n", record.headline);
        for reason in &record.reasons {
            let _ = writeln!(body, "{reason}");
        }
        body.push_str(&reproduce(record));
        body
    };
    let because = record.reasons.first().unwrap_or(&record.headline);
    let error =
        |kind: &str, message: &str| not_green(NonSuccessKind::Error, kind, message, &body());
    let status = match record.verdict {
        Verdict::Aborted => error("SafetyAbort", because),
        _ if record.partial => error("Partial", &format!("the run was cut short: {because}")),
        Verdict::Inconclusive if tally.inconclusive == 0 && !fault_missed => {
            error("Inconclusive", because)
        }
        Verdict::Fail if tally.failed == 0 => {
            not_green(NonSuccessKind::Failure, "Run", because, &body())
        }
        _ => TestCaseStatus::success(),
    };
    let mut case = TestCase::new("run completed", status);
    case.set_classname(format!("{name}.run"));
    case.set_time(length(record.duration_s));
    case
}

fn not_green(kind: NonSuccessKind, ty: &str, message: &str, body: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(ty);
    status.set_message(text::line(message, 300));
    status.set_description(text::block(body));
    status
}

fn expectation_text(record: &Record, expected: &Expected) -> String {
    let mut body = format!("{}\nobserved {}", expected.text, observed(expected));
    if let Some([low, high]) = expected.interval {
        let _ = write!(body, " (95 % interval {})", interval(expected, low, high));
    }
    let _ = write!(body, "\nlimit    {}\nmargin   {}", limit(expected), expected.margin_text);
    let _ = write!(body, "\nsamples  {}", numbers::count(expected.samples));
    if let Some(note) = &expected.note {
        let _ = write!(body, "\nnote     {note}");
    }
    if expected.line > 0 {
        let _ = write!(body, "\nat       {}:{}", record.source.file, expected.line);
    }
    let _ = write!(body, "\n\n{}\n{}", record.headline, reproduce(record));
    body
}

fn reproduce(record: &Record) -> String {
    format!(
        "experiment {}, seed {}, brownout {}\nreproduce  {}",
        record.name, record.seed, record.version, record.reproduce
    )
}

/// Broken expectations that only warn: told, and the case stays green.
fn warnings(record: &Record) -> String {
    let mut out = String::new();
    for expected in &record.expectations {
        if expected.verdict == Verdict::Fail && digest::only_warns(expected) {
            let _ = writeln!(
                out,
                "warning: {}: {}, {}",
                text::line(&expected.text, 1_000),
                observed(expected),
                text::line(&expected.margin_text, 100),
            );
        }
    }
    out
}

fn observed(expected: &Expected) -> String {
    match text::line(&expected.observed_text, 100) {
        text if text.is_empty() => numbers::DASH.into(),
        text => text,
    }
}

fn limit(expected: &Expected) -> String {
    digest::sentence(&expected.text).map_or_else(
        || numbers::plain(expected.limit),
        |parts| format!("{} {}", parts.op, parts.limit),
    )
}

pub(super) fn interval(expected: &Expected, low: f64, high: f64) -> String {
    let format = match expected.unit.as_str() {
        "%" => numbers::percent,
        "s" => numbers::seconds,
        "x" => numbers::times,
        _ => numbers::plain,
    };
    format!("{} to {}", format(low), format(high))
}

fn length(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// `2026-09-10T14:03:22`, as the schema wants it: no fraction, no zone.
fn timestamp(started: &str) -> String {
    let shape = "0000-00-00T00:00:00";
    let fits = started.is_ascii()
        && started.len() >= shape.len()
        && started
            .bytes()
            .zip(shape.bytes())
            .all(|(it, like)| if like == b'0' { it.is_ascii_digit() } else { it == like });
    if fits { started[..shape.len()].into() } else { "1970-01-01T00:00:00".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timestamp_has_no_fraction_and_no_zone() {
        assert_eq!(timestamp("2026-09-10T14:03:22.512Z"), "2026-09-10T14:03:22");
        assert_eq!(timestamp(""), "1970-01-01T00:00:00");
        assert_eq!(timestamp("2026-09-10 14:03:22Z extra"), "1970-01-01T00:00:00");
    }

    #[test]
    fn the_root_is_bare() {
        assert_eq!(
            bare_root("<?xml?>\n<testsuites a=\"1\">x</testsuites>"),
            "<?xml?>\n<testsuites>x</testsuites>"
        );
    }
}
