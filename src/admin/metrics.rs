//! Counters for Prometheus, fed by the same observations as the results.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::dialect::grpc;
use crate::engine::{Engine, Tally};
use crate::measure::attempts::Tracker;
use crate::measure::{Call, CallEnd, FailedHandshake, Observation, Sample};

/// The bounds that OpenTelemetry gives for durations of generative AI clients, in seconds.
const DURATION_BOUNDS: [f64; 14] =
    [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

#[derive(Clone, Hash, PartialEq, Eq, EncodeLabelSet, Debug)]
struct CallLabels {
    dependency: String,
    status: String,
    ended: String,
}

#[derive(Clone, Hash, PartialEq, Eq, EncodeLabelSet, Debug)]
struct GrpcLabels {
    dependency: String,
    grpc_status: String,
}

#[derive(Clone, Hash, PartialEq, Eq, EncodeLabelSet, Debug)]
struct DependencyLabels {
    dependency: String,
}

#[derive(Clone, Hash, PartialEq, Eq, EncodeLabelSet, Debug)]
struct RetryLabels {
    dependency: String,
    /// `retry` counts all; `early`, `at_once` and `needless` those that should not have come.
    kind: &'static str,
}

#[derive(Clone, Hash, PartialEq, Eq, EncodeLabelSet, Debug)]
struct HandshakeLabels {
    dependency: String,
    reason: String,
}

#[derive(Clone, Hash, PartialEq, Eq, EncodeLabelSet, Debug)]
struct OutcomeLabels {
    outcome: String,
}

/// Dependency, status, gRPC status, and how it ended.
type CallKind = (Arc<str>, Option<u16>, Option<u16>, CallEnd);

/// A call's counter, its dependency's times, and the counter of its gRPC status.
type CallMetrics = (Counter, Histogram, Option<Counter>);

type DurationFamily<L> = Family<L, Histogram, fn() -> Histogram>;

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    calls: Family<CallLabels, Counter>,
    grpc_calls: Family<GrpcLabels, Counter>,
    time_to_head: DurationFamily<DependencyLabels>,
    /// The calls' metrics by what tells them apart, so that counting a call builds no labels.
    known_calls: Mutex<HashMap<CallKind, CallMetrics>>,
    /// Puts the attempts of a call together.
    attempts: Mutex<Tracker>,
    retries: Family<RetryLabels, Counter>,
    longest_silence: Family<DependencyLabels, Gauge<f64, AtomicU64>>,
    wasted: Family<DependencyLabels, Counter>,
    handshakes: Family<HandshakeLabels, Counter>,
    /// The same counts, for the status.
    failed_handshakes: Mutex<BTreeMap<(Arc<str>, &'static str), u64>>,
    requests: Family<OutcomeLabels, Counter>,
    ttft: DurationFamily<OutcomeLabels>,
}

fn durations() -> Histogram {
    Histogram::new(DURATION_BOUNDS)
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("brownout");
        let calls = Family::default();
        registry.register("calls", "Calls of the app to a dependency", calls.clone());
        let grpc_calls = Family::default();
        registry.register(
            "grpc_calls",
            "gRPC calls of the app to a dependency by the status they ended with",
            grpc_calls.clone(),
        );
        let time_to_head: DurationFamily<_> = Family::new_with_constructor(durations);
        registry.register_with_unit(
            "call_time_to_head",
            "Time from a call's start to the head of its answer",
            Unit::Seconds,
            time_to_head.clone(),
        );
        let retries = Family::default();
        registry.register(
            "client_retries",
            "Calls that repeat a failed one: all, before Retry-After, without back-off, of what no retry can mend",
            retries.clone(),
        );
        let longest_silence = Family::default();
        registry.register_with_unit(
            "client_longest_silence",
            "The longest that the app waited for a byte while a fault held it back",
            Unit::Seconds,
            longest_silence.clone(),
        );
        let wasted = Family::default();
        registry.register(
            "client_wasted_events",
            "Events of streams that failed or were given up",
            wasted.clone(),
        );
        let handshakes = Family::default();
        registry.register(
            "failed_tls_handshakes",
            "TLS handshakes with the app that failed without a fault",
            handshakes.clone(),
        );
        let requests = Family::default();
        registry.register("requests", "Requests of the load driver by outcome", requests.clone());
        let ttft: DurationFamily<_> = Family::new_with_constructor(durations);
        registry.register_with_unit(
            "request_time_to_first_token",
            "Time from a request's start to its first content",
            Unit::Seconds,
            ttft.clone(),
        );
        Self {
            registry: Mutex::new(registry),
            calls,
            grpc_calls,
            time_to_head,
            known_calls: Mutex::default(),
            attempts: Mutex::default(),
            retries,
            longest_silence,
            wasted,
            handshakes,
            failed_handshakes: Mutex::default(),
            requests,
            ttft,
        }
    }
}

impl Metrics {
    /// Counts an observation.
    pub fn observe(&self, observation: &Observation) {
        match observation {
            Observation::Call(call) => self.call(call),
            Observation::Sample(sample) => self.sample(sample),
            Observation::Decision(_) => {}
            Observation::Handshake(failed) => self.handshake(failed),
        }
    }

    fn handshake(&self, failed: &FailedHandshake) {
        let labels = HandshakeLabels {
            dependency: failed.dependency.to_string(),
            reason: failed.reason.to_owned(),
        };
        self.handshakes.get_or_create(&labels).inc();
        let key = (Arc::clone(&failed.dependency), failed.reason);
        *self.failed_handshakes.lock().entry(key).or_default() += 1;
    }

    /// TLS handshakes with the app that failed without a fault: dependency, reason, how many.
    pub fn failed_handshakes(&self) -> Vec<(Arc<str>, &'static str, u64)> {
        let known = self.failed_handshakes.lock();
        known.iter().map(|((name, reason), count)| (Arc::clone(name), *reason, *count)).collect()
    }

    fn call(&self, call: &Call) {
        self.count(call);
        self.behaviour(call);
    }

    /// What the app's client did.
    fn behaviour(&self, call: &Call) {
        let dependency = || call.dependency.to_string();
        let mark = self.attempts.lock().see(call, 0);
        let kinds = [
            ("retry", mark.retry),
            ("early", mark.early),
            ("at_once", mark.at_once()),
            ("needless", mark.needless()),
        ];
        for (kind, _) in kinds.into_iter().filter(|(_, is)| *is) {
            self.retries.get_or_create(&RetryLabels { dependency: dependency(), kind }).inc();
        }
        let silence = call.silence.as_secs_f64();
        if silence > 0.0 {
            let labels = DependencyLabels { dependency: dependency() };
            let longest = self.longest_silence.get_or_create(&labels);
            if silence > longest.get() {
                longest.set(silence);
            }
        }
        if call.events > 0 && call.failed() {
            let labels = DependencyLabels { dependency: dependency() };
            self.wasted.get_or_create(&labels).inc_by(call.events);
        }
    }

    fn count(&self, call: &Call) {
        let mut known = self.known_calls.lock();
        let (count, time_to_head, grpc) = known
            .entry((Arc::clone(&call.dependency), call.status, call.grpc_status, call.ended))
            .or_insert_with(|| self.new_call(call));
        count.inc();
        if let Some(grpc) = grpc {
            grpc.inc();
        }
        if let Some(head) = call.head {
            time_to_head.observe(head.saturating_sub(call.at).as_secs_f64());
        }
    }

    fn new_call(&self, call: &Call) -> CallMetrics {
        let labels = CallLabels {
            dependency: call.dependency.to_string(),
            status: call.status.map_or_else(|| "none".to_owned(), |status| status.to_string()),
            ended: ended(call.ended).to_owned(),
        };
        let of_dependency = DependencyLabels { dependency: call.dependency.to_string() };
        let count = self.calls.get_or_create(&labels).clone();
        let grpc = call.grpc_status.map(|status| {
            let grpc_status = grpc::name_of(status);
            let dependency = call.dependency.to_string();
            self.grpc_calls.get_or_create(&GrpcLabels { dependency, grpc_status }).clone()
        });
        (count, self.time_to_head.get_or_create(&of_dependency).clone(), grpc)
    }

    fn sample(&self, sample: &Sample) {
        let labels = OutcomeLabels { outcome: sample.outcome.as_str().to_owned() };
        self.requests.get_or_create(&labels).inc();
        if let Some(first) = sample.first_token {
            let time = first.saturating_sub(sample.issued).as_secs_f64();
            self.ttft.get_or_create(&labels).observe(time);
        }
    }

    /// Everything as OpenMetrics text; fault counts are read from the engine.
    pub fn encode(&self, engine: &Engine) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry.lock()).is_err() {
            return String::from("# EOF\n");
        }
        text.truncate(text.trim_end().trim_end_matches("# EOF").len());
        write_faults(&mut text, engine);
        text.push_str("# EOF\n");
        text
    }
}

/// The engine keeps its own exact tallies; they are written as they stand.
fn write_faults(text: &mut String, engine: &Engine) {
    let tallies = engine.tallies();
    let armed = engine.armed();
    let _ = writeln!(text, "# HELP brownout_fault_armed Whether a fault is armed.");
    let _ = writeln!(text, "# TYPE brownout_fault_armed gauge");
    for (name, _) in &tallies {
        let is_armed = u8::from(armed.iter().any(|(other, _)| other == name));
        let _ = writeln!(text, "brownout_fault_armed{{fault=\"{}\"}} {is_armed}", escaped(name));
    }
    let _ = writeln!(
        text,
        "# HELP brownout_fault_exchanges Exchanges by how far a fault got with them."
    );
    let _ = writeln!(text, "# TYPE brownout_fault_exchanges counter");
    for (name, tally) in &tallies {
        let stages = [
            ("armed", tally.armed),
            ("matched", tally.matched),
            ("selected", tally.selected),
            ("hit", tally.hit),
            ("impossible", tally.impossible),
            ("let_go", tally.let_go),
            ("would_hit", tally.would_hit),
            ("out_of_turn", tally.out_of_turn.values().sum()),
        ];
        for (stage, count) in stages {
            let _ = writeln!(
                text,
                "brownout_fault_exchanges_total{{fault=\"{}\",stage=\"{stage}\"}} {count}",
                escaped(name)
            );
        }
    }
    write_effects(text, &tallies);
}

/// What faults changed, and how far what they did is what was wished.
fn write_effects(text: &mut String, tallies: &[(Arc<str>, Tally)]) {
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<String>| {
        let _ = writeln!(text, "# HELP brownout_fault_{name} {help}");
        let _ = writeln!(text, "# TYPE brownout_fault_{name} {kind}");
        for sample in samples {
            let _ = writeln!(text, "brownout_fault_{sample}");
        }
    };
    let counts = |name: &str, count: fn(&Tally) -> u64| -> Vec<String> {
        let sample = |(fault, tally): &(Arc<str>, Tally)| {
            format!("{name}_total{{fault=\"{}\"}} {}", escaped(fault), count(tally))
        };
        tallies.iter().map(sample).collect()
    };
    let bytes = counts("changed_bytes", |tally| tally.bytes_changed);
    family("changed_bytes", "counter", "Bytes of answers that a fault changed.", bytes);
    let events = counts("changed_events", |tally| tally.events_changed);
    family("changed_events", "counter", "Events of answers that a fault changed.", events);
    let mut percents = Vec::new();
    let mut delays = Vec::new();
    for (fault, tally) in tallies {
        let fault = escaped(fault);
        let [low, high] = tally.percent_interval.map_or([None; 2], |bounds| bounds.map(Some));
        let all = [("wanted", tally.percent_wanted), ("real", tally.percent_real)];
        for (which, percent) in all.into_iter().chain([("real_low", low), ("real_high", high)]) {
            percents.extend(percent.map(|percent| {
                format!("percent{{fault=\"{fault}\",which=\"{which}\"}} {percent}")
            }));
        }
        for (which, told) in [("wanted", tally.delay_wanted), ("real", tally.delay_real)] {
            let Some(told) = told else { continue };
            for (quantile, value) in [("0.5", told.p50), ("0.95", told.p95), ("0.99", told.p99)] {
                delays.extend(value.map(|value| {
                    format!("delay_seconds{{fault=\"{fault}\",which=\"{which}\",quantile=\"{quantile}\"}} {value}")
                }));
            }
        }
    }
    let help =
        "Percent of matched exchanges that a fault chose: wanted, real, and its 95 % interval.";
    family("percent", "gauge", help, percents);
    let help = "How long a fault held exchanges back: wanted and real.";
    family("delay_seconds", "gauge", help, delays);
}

/// A label value as OpenMetrics wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn ended(end: CallEnd) -> &'static str {
    match end {
        CallEnd::ClientGone => "client_gone",
        CallEnd::Complete => "complete",
        CallEnd::Injected => "injected",
        CallEnd::UpstreamCut => "upstream_cut",
        CallEnd::UpstreamFailed => "upstream_failed",
    }
}
