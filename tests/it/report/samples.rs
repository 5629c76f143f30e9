//! Records as real runs leave them behind: one that fails, one that passes, one that cannot say,
//! one that was stopped; and the odd ones.

use std::collections::BTreeMap;

use brownout::measure::record::*;

/// A small repeatable noise between 0 and 1.
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1u64 << 24) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.next()
    }
}

const YAML: &str = "\
version: 1
name: rag-demo
seed: 42
dependencies:
  llm: { kind: openai, simulate: { model: small } }
  embeddings: { kind: openai, simulate: {} }
  vectors: { kind: qdrant, simulate: {} }
faults:
  storm:
    target: llm
    rate_limit: { requests_per_minute: 60, retry_after: 5s }
workload: { app: http://127.0.0.1:41890/chat, arrival_rate: 5/s }
phases:
  - { name: baseline, duration: 20s }
  - { name: storm, duration: 25s, faults: [storm] }
  - { name: recovery, duration: 30s, until: recovered }
expect:
  - success_rate >= 99% during baseline
  - success_rate >= 95% during storm
  - retry_amplification(llm) < 1.5 during storm
  - completeness >= 98% during storm
  - time_to_recover < 10s after storm
  - p95(ttft) <= 110% of baseline during recovery
";

fn quantiles(p50: f64, p95: f64, n: u64) -> Quantiles {
    Quantiles {
        p50: Some(p50),
        p95: Some(p95),
        p99: (n >= 100).then_some(p95 * 1.3),
        max: Some(p95 * 1.5),
        mean: Some(p50 * 1.1),
        n,
    }
}

fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

fn dependency(calls: u64, requests: u64, amplification: f64) -> DependencyPhase {
    DependencyPhase {
        calls,
        retry_amplification: Some(amplification),
        calls_per_request: Some(calls as f64 / requests as f64),
        statuses: counts(&[("200", calls)]),
        time_to_head: quantiles(0.04, 0.11, calls),
        ..DependencyPhase::default()
    }
}

fn phase(name: &str, start: f64, end: f64, requests: u64, outcomes: &[(&str, u64)]) -> Phase {
    let ok = outcomes.iter().find(|it| it.0 == "ok").map_or(0, |it| it.1);
    let mut phase = Phase {
        name: name.into(),
        start_s: start,
        end_s: end,
        requests,
        outcomes: counts(outcomes),
        success_rate: Some(ok as f64 / requests as f64),
        ttft: quantiles(0.42, 0.9, requests),
        latency: quantiles(2.1, 3.4, requests),
        itl: quantiles(0.021, 0.038, requests * 40),
        completeness: Some(1.0),
        goodput: Some(ok as f64 / (end - start)),
        tokens_per_second: Some(requests as f64 * 44.0 / (end - start)),
        ..Phase::default()
    };
    for name in ["embeddings", "llm", "vectors"] {
        phase.dependencies.insert(name.into(), dependency(requests, requests, 1.0));
    }
    phase
}

fn expected(line: u32, text: &str, phase: &str, unit: &str, limit: f64) -> Expected {
    Expected {
        text: text.into(),
        line,
        verdict: Verdict::Pass,
        severity: "fail".into(),
        phase: Some(phase.into()),
        limit,
        unit: unit.into(),
        ..Expected::default()
    }
}

fn seen(
    mut it: Expected,
    verdict: Verdict,
    observed: f64,
    samples: u64,
    words: [&str; 2],
) -> Expected {
    it.verdict = verdict;
    it.observed = Some(observed);
    it.margin =
        Some((observed - it.limit).abs() * if verdict == Verdict::Pass { 1.0 } else { -1.0 });
    it.samples = samples;
    [it.observed_text, it.margin_text] = words.map(str::to_owned);
    it
}

/// How sick the app is at a moment, 0 to 1: rises in the storm, drains after it.
fn sickness(at: f64, storm: (f64, f64), drain: f64) -> f64 {
    match at {
        _ if at < storm.0 => 0.0,
        _ if at < storm.1 => ((at - storm.0) / 8.0).min(1.0),
        _ => (1.0 - (at - storm.1) / drain).clamp(0.0, 1.0),
    }
}

fn timeline(seconds: u64, sick: impl Fn(f64) -> f64) -> Vec<Second> {
    let mut noise = Noise(7);
    (0..seconds)
        .map(|at| {
            let ill = sick(at as f64);
            let arrivals = 3 + (noise.next() * 5.0) as u64;
            let bad = (0..arrivals).filter(|_| noise.next() < ill * 0.42).count() as u64;
            let p50 = noise.between(0.36, 0.46) + ill * noise.between(1.2, 2.0);
            Second {
                at_s: at as f64,
                arrivals,
                good: arrivals - bad,
                completed: arrivals,
                failed: bad,
                in_flight: 2 + (ill * 20.0) as u64,
                ttft_p50: Some(p50),
                ttft_p95: Some(p50 * noise.between(1.7, 2.3)),
                ttft_p99: None,
                latency_p50: Some(p50 + 1.7),
                latency_p95: Some(p50 * 2.0 + 1.9),
                tokens: arrivals * 44,
                calls: counts(&[
                    ("embeddings", arrivals),
                    ("llm", arrivals),
                    ("vectors", arrivals),
                ]),
                amplification: Some(noise.between(0.97, 1.04) + ill * noise.between(0.9, 1.15)),
            }
        })
        .collect()
}

fn ticks(fault: Option<&str>, from: f64, to: f64, n: u64, status: u16) -> Vec<Tick> {
    let mut noise = Noise(n);
    (0..n)
        .map(|_| Tick {
            at_s: noise.between(from, to),
            fault: fault.map(str::to_owned),
            status: Some(status),
            ..Tick::default()
        })
        .collect()
}

fn lane(name: &str, ticks: Vec<Tick>) -> Lane {
    Lane { dependency: name.into(), ticks }
}

/// The demo: a retry bug turns a rate limit into an outage.
pub(super) fn failing() -> Record {
    let mut storm = phase(
        "storm",
        20.0,
        45.0,
        125,
        &[("ok", 110), ("http_5xx", 9), ("timeout", 4), ("truncated", 2)],
    );
    storm.faults = vec!["storm".into()];
    storm.fault_text = vec!["storm: rate_limit 60/min".into()];
    storm.ttft = quantiles(1.9, 5.2, 119);
    storm.latency = quantiles(4.2, 20.0, 125);
    storm.completeness = Some(117.0 / 119.0);
    storm.stalls = 6;
    storm.dependencies.insert(
        "llm".into(),
        DependencyPhase {
            retries: 134,
            retries_before_retry_after: 126,
            injected: 203,
            own_errors: 3,
            abandoned: 11,
            statuses: counts(&[("200", 53), ("429", 203), ("503", 3)]),
            ..dependency(259, 125, 2.07)
        },
    );
    let mut recovery =
        phase("recovery", 45.0, 75.0, 150, &[("ok", 139), ("http_5xx", 8), ("timeout", 3)]);
    recovery.ttft = quantiles(0.44, 0.97, 147);
    recovery.dependencies.insert("llm".into(), dependency(171, 150, 1.14));
    let sick = |at| sickness(at, (20.0, 45.0), 21.0);
    let lanes = vec![
        lane("llm", {
            let mut all = ticks(Some("storm"), 20.2, 44.9, 203, 429);
            all.extend(ticks(None, 40.0, 52.0, 3, 503));
            all
        }),
        lane("embeddings", Vec::new()),
        lane("vectors", Vec::new()),
    ];
    Record {
        schema_version: SCHEMA_VERSION,
        version: "0.1.0".into(),
        name: "rag-demo".into(),
        description: Some("A small RAG chat with a retry bug.".into()),
        seed: 42,
        algorithm: "chacha12/1".into(),
        verdict: Verdict::Fail,
        exit_code: 1,
        reasons: vec![
            "`success_rate >= 95% during storm`: 88.0 %, 7.0 points under".into(),
            "`retry_amplification(llm) < 1.5 during storm`: 2.07x, 0.57 over".into(),
            "`time_to_recover < 10s after storm`: 21 s, 11 s over".into(),
        ],
        headline: "In storm, 12 % of user requests failed (limit 5 %): 94 % of the app's retries came before Retry-After had passed, and the queue they built needed 21 s to drain after the fault was gone (limit 10 s).".into(),
        partial: false,
        started: "2026-09-10T14:03:22Z".into(),
        duration_s: 75.0,
        phases: vec![phase("baseline", 0.0, 20.0, 100, &[("ok", 100)]), storm, recovery],
        expectations: vec![
            seen(expected(18, "success_rate >= 99% during baseline", "baseline", "%", 0.99), Verdict::Pass, 1.0, 100, ["100 %", "1.0 points to spare"]),
            Expected { interval: Some([0.811, 0.926]), ..seen(expected(19, "success_rate >= 95% during storm", "storm", "%", 0.95), Verdict::Fail, 0.88, 125, ["88.0 %", "7.0 points under"]) },
            seen(expected(20, "retry_amplification(llm) < 1.5 during storm", "storm", "x", 1.5), Verdict::Fail, 2.07, 259, ["2.07x", "0.57 over"]),
            Expected { interval: Some([0.941, 0.995]), ..seen(expected(21, "completeness >= 98% during storm", "storm", "%", 0.98), Verdict::Pass, 117.0 / 119.0, 119, ["98.3 %", "0.3 points to spare"]) },
            seen(expected(22, "time_to_recover < 10s after storm", "storm", "s", 10.0), Verdict::Fail, 21.0, 1, ["21 s", "11 s over"]),
            seen(expected(23, "p95(ttft) <= 110% of baseline during recovery", "recovery", "%", 1.1), Verdict::Pass, 1.07, 147, ["107 %", "3.0 points to spare"]),
        ],
        faults: vec![FaultLedger {
            name: "storm".into(),
            target: "llm".into(),
            effects: vec!["rate_limit".into()],
            armed: 259,
            matched: 259,
            selected: 259,
            hit: 203,
            percent_wanted: Some(100.0),
            requests_meanwhile: 125,
            ..FaultLedger::default()
        }],
        replay: None,
        recovery: vec![Recovery {
            after: "storm".into(),
            fault_end_s: 45.0,
            time_to_recover_s: Some(21.0),
            censored: false,
            class: "recovered".into(),
            depth: Some(0.42),
            loss_ratio: Some(1.31),
        }],
        driver: Driver { lag_p99_ms: Some(1.8), lag_max_ms: Some(6.2), planned: 375, cpu: Some(0.21), ..Driver::default() },
        timeline: timeline(75, sick),
        lanes,
        errors: vec![
            user_error("storm", "http_5xx", Some(500), "Something went wrong. Please try again later.", 9, true),
            user_error("storm", "timeout", None, "gave up after 20 s", 4, true),
            user_error("storm", "truncated", Some(200), "half an answer shown as a whole one", 2, true),
            user_error("recovery", "http_5xx", Some(500), "Something went wrong. Please try again later.", 8, false),
            user_error("recovery", "timeout", None, "gave up after 20 s", 3, false),
        ],
        dependencies: [("llm", "openai", 530), ("embeddings", "openai", 375), ("vectors", "qdrant", 375)]
            .iter()
            .enumerate()
            .map(|(n, (name, kind, calls))| DependencyInfo {
                name: (*name).into(),
                kind: (*kind).into(),
                listen: format!("127.0.0.1:4188{n}"),
                upstream: "simulator".into(),
                calls: *calls,
            })
            .collect(),
        source: Source { file: "brownout.yaml".into(), text: YAML.into() },
        reproduce: "brownout run brownout.yaml --seed 42".into(),
        observations_dropped: 0,
    }
}

fn user_error(
    phase: &str,
    outcome: &str,
    status: Option<u16>,
    told: &str,
    n: u64,
    fault: bool,
) -> UserError {
    UserError {
        phase: phase.into(),
        outcome: outcome.into(),
        status,
        message: told.into(),
        count: n,
        during_fault: fault,
    }
}

/// The same app with backoff.
pub(super) fn passing() -> Record {
    let mut record = failing();
    record.verdict = Verdict::Pass;
    record.exit_code = 0;
    record.headline = "All six expectations were met: in storm, 98.4 % of user requests succeeded, and users were well again 3.0 s after the fault was gone.".into();
    record.reasons = Vec::new();
    record.timeline = timeline(75, |at| 0.06 * sickness(at, (20.0, 45.0), 3.0));
    record.errors = vec![user_error(
        "storm",
        "http_5xx",
        Some(503),
        "We are busy, please wait a moment.",
        2,
        true,
    )];
    let storm = &mut record.phases[1];
    storm.outcomes = counts(&[("ok", 123), ("http_5xx", 2)]);
    storm.success_rate = Some(0.984);
    storm.ttft = quantiles(0.6, 1.4, 123);
    storm.completeness = Some(1.0);
    storm.dependencies.insert("llm".into(), dependency(141, 125, 1.13));
    let recovery = &mut record.phases[2];
    recovery.outcomes = counts(&[("ok", 150)]);
    recovery.success_rate = Some(1.0);
    recovery.dependencies.insert("llm".into(), dependency(150, 150, 1.0));
    let words = [
        ["100 %", "1.0 points to spare"],
        ["98.4 %", "3.4 points to spare"],
        ["1.13x", "0.37 to spare"],
        ["100 %", "2.0 points to spare"],
        ["3 s", "7 s to spare"],
        ["102 %", "8.0 points to spare"],
    ];
    for (it, words) in record.expectations.iter_mut().zip(words) {
        it.verdict = Verdict::Pass;
        it.interval = None;
        it.margin = it.margin.map(f64::abs);
        [it.observed_text, it.margin_text] = words.map(str::to_owned);
    }
    record.recovery[0].time_to_recover_s = Some(3.0);
    record.faults[0].hit = 16;
    record.lanes[0].ticks = ticks(Some("storm"), 22.0, 44.0, 16, 429);
    record
}

/// A fault that matched nothing: nothing was shown, so nothing is green.
pub(super) fn inconclusive() -> Record {
    let mut record = passing();
    record.name = "vector-db-brownout".into();
    record.verdict = Verdict::Inconclusive;
    record.exit_code = 5;
    record.headline = "In storm, 1.6 % of 125 requests failed, and no fault was acting.".into();
    record.reasons = vec![
        "the fault `storm` hit nothing: its `where` describes none of the 141 requests to `llm`; compare it with the requests in decisions.jsonl, or leave it out".into(),
    ];
    record.faults[0] = FaultLedger { matched: 0, selected: 0, hit: 0, ..record.faults[0].clone() };
    record.lanes[0].ticks.clear();
    record.recovery.clear();
    record.phases[1].completeness = Some(0.971);
    let few = &mut record.expectations[4];
    few.verdict = Verdict::Inconclusive;
    few.observed = None;
    few.margin = None;
    few.samples = 0;
    few.observed_text = String::new();
    few.margin_text = String::new();
    few.note = Some("no fault acted during storm, so there was nothing to recover from".into());
    let warned = &mut record.expectations[3];
    warned.severity = "warn".into();
    warned.verdict = Verdict::Fail;
    [warned.observed_text, warned.margin_text] = ["97.1 %", "0.9 points under"].map(str::to_owned);
    record
}

/// Stopped by a safety rule half way, with two faults on two dependencies and no streaming.
pub(super) fn aborted() -> Record {
    let mut record = failing();
    record.name = "checkout-assistant-game-day".into();
    record.verdict = Verdict::Aborted;
    record.exit_code = 4;
    record.partial = true;
    record.headline = "Stopped by safety after 47 s: success_rate < 50% for 15s.".into();
    record.reasons = vec!["safety: success_rate < 50% held for 15 s at 0:47".into()];
    record.duration_s = 47.0;
    record.timeline = timeline(47, |at| 1.6 * sickness(at, (20.0, 60.0), 1.0));
    record.phases.truncate(2);
    record.phases[1].end_s = 47.0;
    record.phases[1].faults = vec!["flaky-llm".into(), "vectors-slow".into()];
    record.phases[1].fault_text = vec!["flaky-llm 5 -> 40 %".into(), "vectors-slow ×10".into()];
    record.phases[1].success_rate = Some(0.45);
    for phase in &mut record.phases {
        phase.ttft = Quantiles::default();
        phase.itl = Quantiles::default();
        phase.tokens_per_second = None;
        phase.completeness = None;
    }
    for second in &mut record.timeline {
        [second.ttft_p50, second.ttft_p95] = [None, None];
    }
    record.faults = vec![
        FaultLedger {
            name: "flaky-llm".into(),
            selected: 64,
            hit: 60,
            impossible: 4,
            reasons: counts(&[("the answer was no stream", 4)]),
            percent_wanted: Some(22.5),
            effects: vec!["error".into(), "truncate".into()],
            ..record.faults[0].clone()
        },
        FaultLedger {
            name: "vectors-slow".into(),
            target: "vectors".into(),
            effects: vec!["latency".into()],
            hit: 259,
            ..record.faults[0].clone()
        },
    ];
    record.lanes[0].ticks = ticks(Some("flaky-llm"), 20.5, 47.0, 60, 503);
    record.lanes[2].ticks = ticks(Some("vectors-slow"), 20.1, 47.0, 259, 200);
    record.lanes[2].ticks.extend(ticks(None, 5.0, 40.0, 4, 500));
    record.recovery.clear();
    for it in &mut record.expectations[1..] {
        it.verdict = Verdict::Aborted;
        it.observed = None;
        it.observed_text = String::new();
        it.margin_text = String::new();
        it.interval = None;
        it.note = Some("the run was stopped first".into());
    }
    record.driver.warnings =
        vec!["send lag p99 was 48 ms, above 10 ms: latencies may be the driver's own".into()];
    record.driver.lag_p99_ms = Some(48.0);
    record.observations_dropped = 12;
    record
}

/// An hour with everything there is to draw.
pub(super) fn hour() -> Record {
    let mut record = failing();
    record.name = "an hour".into();
    record.duration_s = 3_600.0;
    record.timeline = timeline(3_600, |at| sickness(at % 600.0, (200.0, 400.0), 90.0));
    let mut at = 0.0;
    let models = record.phases.clone();
    record.phases = (0..18)
        .map(|n| {
            let mut phase = models[n % 3].clone();
            phase.name = format!("{}-{}", phase.name, n / 3 + 1);
            phase.start_s = at;
            at += 200.0;
            phase.end_s = at;
            phase
        })
        .collect();
    record.recovery = (0..6)
        .map(|n| Recovery {
            after: format!("storm-{}", n + 1),
            fault_end_s: 400.0 + 600.0 * f64::from(n),
            ..record.recovery[0].clone()
        })
        .collect();
    record.lanes = (0..6)
        .map(|n| {
            lane(&format!("dependency-{n}"), ticks(Some("storm"), 0.0, 3_600.0, 4_000 + n, 429))
        })
        .collect();
    record.errors = (0..400)
        .map(|n| {
            user_error(
                "storm-1",
                "http_5xx",
                Some(500),
                &format!("{n} {}", "word ".repeat(60)),
                3,
                true,
            )
        })
        .collect();
    record
}

/// Forty short phases.
pub(super) fn forty_phases() -> Record {
    let mut record = failing();
    record.name = "forty phases".into();
    let model = record.phases[1].clone();
    record.phases = (0..40)
        .map(|n| {
            let mut phase = model.clone();
            phase.name = format!("step-{n}");
            phase.start_s = f64::from(n) * 75.0 / 40.0;
            phase.end_s = f64::from(n + 1) * 75.0 / 40.0;
            if n % 2 == 0 {
                phase.faults.clear();
                phase.fault_text.clear();
            }
            phase
        })
        .collect();
    record
}

/// Nothing but what `Default` gives, and a name.
pub(super) fn empty() -> Record {
    Record { schema_version: SCHEMA_VERSION, name: "nothing".into(), ..Record::default() }
}

/// Every number missing that may be missing, no request made.
pub(super) fn nulls() -> Record {
    let mut record = failing();
    for phase in &mut record.phases {
        *phase = Phase {
            name: phase.name.clone(),
            start_s: phase.start_s,
            end_s: phase.end_s,
            faults: phase.faults.clone(),
            dependencies: [("llm".to_owned(), DependencyPhase::default())].into(),
            ..Phase::default()
        };
    }
    for second in &mut record.timeline {
        *second = Second { at_s: second.at_s, ..Second::default() };
    }
    for it in &mut record.expectations {
        *it = Expected { text: it.text.clone(), limit: f64::NAN, ..Expected::default() };
    }
    for it in &mut record.recovery {
        *it = Recovery { after: it.after.clone(), censored: true, ..Recovery::default() };
    }
    record.faults[0].matched = 0;
    record.faults[0].percent_wanted = None;
    record.driver = Driver::default();
    record.errors.clear();
    record
}

/// What a hostile app or author would put wherever text may stand.
pub(super) const HOSTILE: &str = "</script></style></svg>]]>--><img src=x onerror=alert(1)>\"'`|&amp;\x1b[31m\u{202e}\n::error::x\0@team";

/// The failing run with hostile text in every string.
pub(super) fn hostile() -> Record {
    let mut record = failing();
    let mut tree = serde_json::to_value(&record).unwrap();
    poison(&mut tree);
    let poisoned: Record = serde_json::from_value(tree).unwrap();
    let keep = record.expectations[1].text.clone();
    record = poisoned;
    record.expectations[1].text = keep;
    record
}

fn poison(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text)
            if !["pass", "fail", "inconclusive", "aborted"].contains(&text.as_str()) =>
        {
            *text = format!("{HOSTILE}{text}");
        }
        Value::Array(all) => all.iter_mut().for_each(poison),
        Value::Object(map) => {
            let old = std::mem::take(map);
            let mut inner = old.clone();
            // Names of maps (outcomes, statuses, dependencies, reasons) are foreign too.
            let foreign = !old.is_empty() && old.keys().all(|key| is_name(key));
            for (key, mut value) in std::mem::take(&mut inner) {
                poison(&mut value);
                map.insert(if foreign { format!("{HOSTILE}{key}") } else { key }, value);
            }
        }
        _ => {}
    }
}

fn is_name(key: &str) -> bool {
    const NAMES: [&str; 10] = [
        "ok",
        "http_5xx",
        "timeout",
        "truncated",
        "200",
        "429",
        "503",
        "llm",
        "embeddings",
        "vectors",
    ];
    NAMES.contains(&key)
}

/// Every name of two hundred characters.
pub(super) fn long_names() -> Record {
    let mut record = aborted();
    let long = |text: &str| format!("{text}-{}", "very-long-name".repeat(14));
    record.name = long("run");
    for phase in &mut record.phases {
        phase.name = long(&phase.name);
        phase.fault_text = vec![long("fault"), "x".repeat(200)];
    }
    for fault in &mut record.faults {
        fault.name = long(&fault.name);
    }
    for lane in &mut record.lanes {
        lane.dependency = long(&lane.dependency);
    }
    for it in &mut record.expectations {
        it.text = format!("success_rate >= 95% during {}", long("storm"));
    }
    record.headline = long("headline");
    record
}

/// All of them, by name.
pub(super) fn all() -> Vec<(&'static str, Record)> {
    vec![
        ("failing", failing()),
        ("passing", passing()),
        ("inconclusive", inconclusive()),
        ("aborted", aborted()),
        ("hour", hour()),
        ("forty_phases", forty_phases()),
        ("empty", empty()),
        ("nulls", nulls()),
        ("hostile", hostile()),
        ("long_names", long_names()),
    ]
}
