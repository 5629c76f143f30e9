//! The record of a run: what `results.json` holds and every report renders. Fields are only added.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::behaviour::ClientBehaviour;

/// The version of this layout; it rises only when a field changes its meaning.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything a run left behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Record {
    /// The version of this layout: 1. It rises only when a field changes its meaning.
    pub schema_version: u32,
    /// The version of brownout that wrote it.
    pub version: String,
    /// The experiment's name.
    pub name: String,
    /// What the experiment is to show, as the file says.
    pub description: Option<String>,
    /// The seed of every decision and of the traffic.
    pub seed: u64,
    /// The generator behind the seed.
    pub algorithm: String,
    /// The verdict of the run.
    pub verdict: Verdict,
    /// The exit code of `brownout run`.
    pub exit_code: i32,
    /// Why the verdict is what it is, a sentence each.
    pub reasons: Vec<String>,
    /// One generated sentence on what happened to users, and why.
    pub headline: String,
    /// The run was cut short (Ctrl-C, safety stop, a crash of the app).
    pub partial: bool,
    /// When the run began, RFC 3339 UTC.
    pub started: String,
    /// Seconds from the start of the load to its end.
    pub duration_s: f64,
    /// The phases, in order.
    pub phases: Vec<Phase>,
    /// The expectations, in the file's order, judged.
    pub expectations: Vec<Expected>,
    /// The faults, in the file's order, with what became of them.
    pub faults: Vec<FaultLedger>,
    /// How much of an earlier run was met again; null without `--replay`.
    pub replay: Option<Replayed>,
    /// Recovery after each phase with faults that is followed by one without, and after those that
    /// expectations name.
    pub recovery: Vec<Recovery>,
    /// Whether the driver could keep up.
    pub driver: Driver,
    /// One row a second.
    pub timeline: Vec<Second>,
    /// One lane a dependency.
    pub lanes: Vec<Lane>,
    /// Errors as users saw them.
    pub errors: Vec<UserError>,
    /// The dependencies as configured.
    pub dependencies: Vec<DependencyInfo>,
    /// The experiment file as written (`${…}` not filled in), and its name.
    pub source: Source,
    /// The command that runs this again.
    pub reproduce: String,
    /// Observations that the recorder had to drop (0 in an honest run).
    pub observations_dropped: u64,
}

/// The JSON Schema of `results.json`.
pub fn results_schema() -> schemars::Schema {
    schemars::schema_for!(Record)
}

/// The verdict of a run or of one expectation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Stopped by a safety rule.
    Aborted,
    /// An expectation does not hold.
    Fail,
    /// Too little happened to say.
    #[default]
    Inconclusive,
    /// Everything expected holds.
    Pass,
}

/// One phase, by the cohort of requests whose intended start lies in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// When it began, in seconds since the run began.
    pub start_s: f64,
    /// When it ended.
    pub end_s: f64,
    /// Names of the faults armed in it.
    pub faults: Vec<String>,
    /// How the faults are set in it, in words (`flaky-llm 5 -> 40 %`).
    pub fault_text: Vec<String>,
    /// Requests of the driver, without those that it cancelled itself.
    pub requests: u64,
    /// Requests by outcome class, those cancelled by the driver too.
    pub outcomes: BTreeMap<String, u64>,
    /// Share (0 to 1) of counted requests that were ok; null without requests.
    pub success_rate: Option<f64>,
    /// Seconds from issue to the first content-bearing event.
    pub ttft: Quantiles,
    /// Seconds from the intended start to the end, of requests that were answered.
    pub latency: Quantiles,
    /// Seconds between content-bearing events.
    pub itl: Quantiles,
    /// Share (0 to 1) of started answers that arrived whole.
    pub completeness: Option<f64>,
    /// Good requests per second.
    pub goodput: Option<f64>,
    /// Content-bearing events per second over the phase.
    pub tokens_per_second: Option<f64>,
    /// Gaps above a second.
    pub stalls: u64,
    /// The calls to each dependency, by their start.
    pub dependencies: BTreeMap<String, DependencyPhase>,
}

/// Quantiles in seconds; a quantile without enough samples is null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Quantiles {
    /// The median; null with fewer than 2 values.
    pub p50: Option<f64>,
    /// Null with fewer than 20 values.
    pub p95: Option<f64>,
    /// Null with fewer than 100 values.
    pub p99: Option<f64>,
    /// The largest value.
    pub max: Option<f64>,
    /// The mean.
    pub mean: Option<f64>,
    /// How many values there are.
    pub n: u64,
}

/// A dependency within a phase, by the start of its calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DependencyPhase {
    /// Calls of the app.
    pub calls: u64,
    /// Calls per driver request, over the same in baseline (1 = as in baseline).
    pub retry_amplification: Option<f64>,
    /// Calls per driver request.
    pub calls_per_request: Option<f64>,
    /// Calls that repeat a failed one: by the client's own word, else by their content.
    pub retries: u64,
    /// Calls that came before an earlier answer's Retry-After had passed.
    pub retries_before_retry_after: u64,
    /// Calls on which a fault acted.
    pub injected: u64,
    /// Errors that no fault caused (5xx, 429, cut, unreachable; of gRPC UNKNOWN, DEADLINE_EXCEEDED,
    /// RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS).
    pub own_errors: u64,
    /// Calls whose client went away.
    pub abandoned: u64,
    /// Calls by the status that the app saw; `none` where it saw none.
    pub statuses: BTreeMap<String, u64>,
    /// gRPC calls by the `grpc-status` that the app saw, as its name (`UNAVAILABLE`); their `statuses` are
    /// those of HTTP, mostly 200.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub grpc_statuses: BTreeMap<String, u64>,
    /// Seconds to the answer's head.
    pub time_to_head: Quantiles,
    /// How the app's clients behaved, as the proxy saw it.
    pub client: ClientBehaviour,
}

/// One expectation, judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Expected {
    /// The sentence as written.
    pub text: String,
    /// The line in the experiment file, 0 when unknown.
    pub line: u32,
    /// Whether it holds.
    pub verdict: Verdict,
    /// `fail` breaks the run, `warn` is only told.
    pub severity: String,
    /// The phase it is judged over, when it names one.
    pub phase: Option<String>,
    /// In the unit of the limit: seconds, shares of 1, or plain numbers.
    pub observed: Option<f64>,
    /// What it is compared with, in the same unit.
    pub limit: f64,
    /// Distance to the limit; positive is good.
    pub margin: Option<f64>,
    /// What it rests on: requests, calls, values or users.
    pub samples: u64,
    /// How to print observed, limit and margin: `s`, `%`, `x`, `/s` or nothing.
    pub unit: String,
    /// What was observed, in words (`88.2 %`).
    pub observed_text: String,
    /// The margin, in words (`7.0 points under`).
    pub margin_text: String,
    /// Interval of the estimate at 95 %, where there is one.
    pub interval: Option<[f64; 2]>,
    /// Why it is inconclusive.
    pub note: Option<String>,
}

/// What became of one fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FaultLedger {
    /// Its name in the file.
    pub name: String,
    /// What it targets, as the file names it.
    pub target: String,
    /// Its effects (`latency`, `rate_limit`).
    pub effects: Vec<String>,
    /// Calls to its targets while it was armed.
    pub armed: u64,
    /// Of those, the ones that its `where` describes.
    pub matched: u64,
    /// Of those, the ones that its `percent` chose.
    pub selected: u64,
    /// Of those, the ones on which an effect acted.
    pub hit: u64,
    /// Chosen requests on which it could not act.
    pub impossible: u64,
    /// Matching requests that it let go: it had no cause to act, or was kept from it.
    pub let_go: u64,
    /// Why it did not act, with counts.
    pub reasons: BTreeMap<String, u64>,
    /// It was in the shadow: counted, never acting.
    pub shadow: bool,
    /// Of a fault in the shadow: the calls on which an effect would have acted.
    pub would_hit: u64,
    /// Calls that did not match, by the first part of `where` that did not hold.
    pub unmatched: BTreeMap<String, u64>,
    /// Matching calls that came out of turn, by the part of `when` that did not hold.
    pub out_of_turn: BTreeMap<String, u64>,
    /// The percent asked for (0 to 100), averaged over the matched exchanges.
    pub percent_wanted: Option<f64>,
    /// The percent of the matched exchanges that it really chose.
    pub percent_real: Option<f64>,
    /// Wilson's interval of that at 95 %.
    pub percent_interval: Option<[f64; 2]>,
    /// Bytes of answers that it left out, put in or altered.
    pub bytes_changed: u64,
    /// Events, or pieces of bodies that are no streams, that it left out, put in or altered.
    pub events_changed: u64,
    /// Seconds for which it wished to hold calls back, of those that it held.
    pub delay_wanted: Option<Quantiles>,
    /// Seconds for which they were really held back; of several faults on a call each has its part.
    pub delay_real: Option<Quantiles>,
    /// Driver requests in the phases where it was armed (its chance to matter).
    pub requests_meanwhile: u64,
}

/// How much of an earlier run was met again (`--replay`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Replayed {
    /// The journal's name.
    pub journal: String,
    /// Choices of faults in the journal: one for each fault and exchange.
    pub recorded: u64,
    /// Of those, the ones that were made again.
    pub met: u64,
    /// Of those, the ones whose exchange did not come, or not while the fault was armed.
    pub unmet: u64,
    /// Of those, the ones of faults that the file has no more, by fault.
    pub gone: BTreeMap<String, u64>,
    /// Exchanges that the journal does not know; no fault chose them.
    pub unknown: u64,
}

/// Recovery after a faulty phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Recovery {
    /// The phase after whose end recovery is counted.
    pub after: String,
    /// When the last fault was gone.
    pub fault_end_s: f64,
    /// Seconds until users were well again and stayed so; the time waited so far when censored.
    pub time_to_recover_s: Option<f64>,
    /// The run ended before recovery.
    pub censored: bool,
    /// absorbed, recovered, slow_recovery, persistent_degradation, metastable_suspected, inconclusive.
    pub class: String,
    /// 1 - the lowest smoothed quality (0 to 1).
    pub depth: Option<f64>,
    /// Good-seconds lost over the fault's length: 1 = fully passed through, above = amplified.
    pub loss_ratio: Option<f64>,
}

/// Could the driver keep up?
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Driver {
    /// Issue minus intended start, 99th percentile, in milliseconds.
    pub lag_p99_ms: Option<f64>,
    /// The largest lag, in milliseconds.
    pub lag_max_ms: Option<f64>,
    /// Requests never sent since too many were in flight.
    pub shed: u64,
    /// Requests planned.
    pub planned: u64,
    /// Share of one core that this process used, averaged (1 = one core full).
    pub cpu: Option<f64>,
    /// Why the driver itself may have bent the numbers.
    pub warnings: Vec<String>,
}

/// One second of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Second {
    /// Its start.
    pub at_s: f64,
    /// Requests with their intended start here.
    pub arrivals: u64,
    /// Of those, the good ones.
    pub good: u64,
    /// Requests that ended here, well or not.
    pub completed: u64,
    /// Of the arrivals, those that did not end ok.
    pub failed: u64,
    /// Requests on their way at its start.
    pub in_flight: u64,
    /// Quantiles of the requests that started here; with few of them, of up to 10 s back.
    pub ttft_p50: Option<f64>,
    /// As `ttft_p50`.
    pub ttft_p95: Option<f64>,
    /// As `ttft_p50`.
    pub ttft_p99: Option<f64>,
    /// As `ttft_p50`, of the latency.
    pub latency_p50: Option<f64>,
    /// As `latency_p50`.
    pub latency_p95: Option<f64>,
    /// Content-bearing events that came here.
    pub tokens: u64,
    /// Calls to each dependency that began here.
    pub calls: BTreeMap<String, u64>,
    /// Calls per request over the same in baseline, over a window of 5 s, worst dependency.
    pub amplification: Option<f64>,
}

/// What happened at one dependency, for the chart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Lane {
    /// Which one.
    pub dependency: String,
    /// What happened there: at most a few thousand; the rest is thinned out evenly.
    pub ticks: Vec<Tick>,
}

/// A fault that acted, or an error of the dependency's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Tick {
    /// When, in seconds since the run began.
    pub at_s: f64,
    /// The fault's name; null for an error that no fault caused.
    pub fault: Option<String>,
    /// The status that the app saw, if any.
    pub status: Option<u16>,
    /// The name of the `grpc-status` that it saw, of a gRPC call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<String>,
}

/// An error as users saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UserError {
    /// The phase in which the user asked.
    pub phase: String,
    /// The outcome class.
    pub outcome: String,
    /// The app's status, if it gave one.
    pub status: Option<u16>,
    /// The text the app gave, shortened, with what looks like a key removed.
    pub message: String,
    /// How many requests ended so.
    pub count: u64,
    /// Whether a fault was acting on a dependency during these requests.
    pub during_fault: bool,
}

/// A dependency as configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DependencyInfo {
    /// Its name in the file.
    pub name: String,
    /// Its kind: `openai`, `qdrant` and so on.
    pub kind: String,
    /// Where brownout listened for it.
    pub listen: String,
    /// The upstream's origin, or `simulator`.
    pub upstream: String,
    /// Calls of the app over the whole run.
    pub calls: u64,
}

/// Where the experiment came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Source {
    /// The file's name.
    pub file: String,
    /// Its text.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_obey_their_schema_and_survive_the_way_to_json_and_back() {
        let phase = Phase { requests: 7, success_rate: Some(0.5), ..Phase::default() };
        let expected = Expected { interval: Some([0.1, 0.9]), ..Expected::default() };
        let record = Record {
            schema_version: SCHEMA_VERSION,
            phases: vec![phase],
            expectations: vec![expected],
            timeline: vec![Second::default()],
            lanes: vec![Lane { ticks: vec![Tick::default()], ..Lane::default() }],
            recovery: vec![Recovery::default()],
            faults: vec![FaultLedger::default()],
            replay: Some(Replayed::default()),
            errors: vec![UserError::default()],
            dependencies: vec![DependencyInfo::default()],
            ..Record::default()
        };
        let json = serde_json::to_value(&record).unwrap();
        let schema = serde_json::to_value(results_schema()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let wrong: Vec<String> = validator.iter_errors(&json).map(|e| e.to_string()).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(serde_json::from_value::<Record>(json).unwrap(), record);
        assert!(schema["$defs"]["Verdict"].to_string().contains("inconclusive"));
    }
}
