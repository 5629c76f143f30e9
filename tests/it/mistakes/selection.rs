//! Mistakes in where and when a fault acts.

use super::{Case, complaints};

/// Stands for a file with one fault, up to its own keys.
const FAULT: &str = "version: 1\n$DEPS\nfaults:\n  f: { target: llm, error: { status: 503 }, ";

const CASES: &[Case] = &[
    // ── where ──────────────────────────────────────────────────────────────────────────────────
    Case(
        "$FAULTwhere: { path: { regex: »\"a(\" } } }\n",
        &["`a(` is no regular expression", "unclosed"],
    ),
    Case(
        "$FAULTwhere: { prompt: { regex: »'(\\w{1,90}){1,90}' } } }\n",
        &["would cost too much on each request", "repeat less"],
    ),
    Case(
        "$FAULTwhere: { path: { »rgex: x } } }\n",
        &["unknown key `rgex`", "did you mean `regex`?"],
    ),
    Case("$FAULTwhere: { »path: { regex: '' } } }\n", &["no expression to look for"]),
    Case("$FAULTwhere: { model: »\"[a\" } }\n", &["`[a` is no pattern"]),
    Case("$FAULTwhere: { turn: »soon } }\n", &["`soon` is no limit", "2.."]),
    Case("$FAULTwhere: { turn: »1.5 } }\n", &["`turn` counts whole things"]),
    Case("$FAULTwhere: { prompt_tokens: »6..2 } }\n", &["runs backwards", "2..6"]),
    Case(
        "$FAULTwhere: { api_key: »sk-123 } }\n",
        &["does not belong into the file", "write ${NAME}"],
    ),
    Case("$FAULTwhere: { session: »s1 } }\n", &["needs `identify.session`"]),
    Case(
        "$FAULTwhere: { json: { »metadata.tier: gold } } }\n",
        &["is no JSONPath", "$.metadata.tier"],
    ),
    Case("$FAULTwhere: { json: { »$..a..b: gold } } }\n", &["more than once", "cost too much"]),
    Case("$FAULTwhere: { json: { $.a: »\"> x\" } } }\n", &["`> x` is no limit"]),
    // ── when ───────────────────────────────────────────────────────────────────────────────────
    Case("$FAULTwhen: { first: »0 } }\n", &["`first` counts from 1"]),
    Case("$FAULTwhen: { »nth: [0, 4] } }\n", &["requests count from 1"]),
    Case("$FAULTwhen: { every: »30s } }\n", &["`30s` is neither requests nor time", "`5th`"]),
    Case("$FAULTwhen: { every: »30s for 40s } }\n", &["act all the time"]),
    Case("$FAULTwhen: { every: 5th, offset: »3s } }\n", &["belongs to a time that comes again"]),
    Case("$FAULTwhen: { window: 1m.., per: »call } }\n", &["nothing is counted", "first: 2"]),
    Case("$FAULTwhen: { first: 2, per: »user } }\n", &["needs `identify.user`"]),
    Case("$FAULTwhen: { window: »40s..10s } }\n", &["runs backwards"]),
    Case("$FAULTwhen: { »flapping: { up: 20s } } }\n", &["`flapping` needs `down`", "down: 5s"]),
    Case("$FAULTwhen: { flapping: { up: 20s, down: 5s, jitter: »60% } } }\n", &["50%"]),
    Case("$FAULTwhen: { bursts: { good: »30, bad: 5s } } }\n", &["30 what?", "30 requests"]),
    Case("$FAULTwhen: { bursts: { good: 30s, bad: »5 requests } } }\n", &["give both in the same"]),
    Case("$FAULTwhen: { after: { fault: »g } } }\n", &["unknown fault `g`"]),
    Case("$FAULTwhen: { after: { fault: »f } } }\n", &["cannot set itself off"]),
    Case("$FAULTwhen: { »after: { hits: 3 } } }\n", &["does not say which fault"]),
    Case(
        "$FAULTwhen: { »after: { fault: g } } }\n  g: { target: llm, error: { status: 500 }, when: { after: { fault: f } } }\n",
        &["never begin: `f` → `g` → `f`"],
    ),
    // ── Beside them ────────────────────────────────────────────────────────────────────────────
    Case("$FAULT»escalate: { by: 10, each: 30s } }\n", &["from the start", "percent: 5"]),
    Case("$FAULTpercent: 5, »escalate: { by: 10 } }\n", &["`escalate` needs `each`"]),
    Case("$FAULTopt_in: »true }\n", &["may not ask for faults", "steer_by_header: true"]),
    Case(
        "$FAULTsticky: »api_key, shared_cause: eu }\n  g: { target: llm, error: { status: 500 }, shared_cause: eu }\n",
        &["both say what is drawn for once"],
    ),
    Case(
        "$FAULT»shared_cause: { name: eu, per: 5s } }\n  g: { target: llm, error: { status: 500 }, shared_cause: { name: eu, per: api_key } }\n",
        &["differ in its `per`"],
    ),
];

#[test]
fn each_mistake_is_told_at_its_place() {
    let cases: Vec<(String, &[&str])> =
        CASES.iter().map(|case| (case.0.replace("$FAULT", FAULT), case.1)).collect();
    let cases = cases.iter().map(|(text, said)| (text.as_str(), *said));
    let wrong = complaints(cases, brownout::config::Severity::Error);
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
}
