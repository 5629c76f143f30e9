//! The metrics that expectations may name: what each means, its unit, what it needs.

use crate::measure::Outcome;

/// A metric that expectations may name.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub name: &'static str,
    /// One sentence for `brownout schema`, hovers and error messages.
    pub doc: &'static str,
    pub kind: Kind,
    /// Many values, of which a function makes one: `p95(ttft)`.
    pub distribution: bool,
    pub argument: Argument,
    /// Takes `{kind="…"}`.
    pub labels: bool,
    /// Judged however few samples there are.
    pub exempt: bool,
}

/// In what a metric is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A whole number of something.
    Count,
    /// Something per second.
    PerSecond,
    Seconds,
    /// A part of a whole, written as a percent.
    Share,
    /// A multiple.
    Times,
}

/// What stands in the brackets after a metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Argument {
    Dependency,
    Fault,
    None,
    /// A dependency, or nothing for the app itself.
    Optional,
}

const PLAIN: Known = Known {
    name: "",
    doc: "",
    kind: Kind::Share,
    distribution: false,
    argument: Argument::None,
    labels: false,
    exempt: false,
};

/// All metrics, by name.
pub const METRICS: &[Known] = &[
    Known {
        name: "abandoned_rate",
        doc: "share of calls to a dependency that the app gave up before their answer was whole",
        argument: Argument::Dependency,
        ..PLAIN
    },
    Known {
        name: "affected_users",
        doc: "share of users with a failed request; with a dependency, share of the users it knows (`identify.user`) whom a fault hit there",
        argument: Argument::Optional,
        ..PLAIN
    },
    Known {
        name: "attempts_max",
        doc: "the most attempts that one call to a dependency got: the first and its retries",
        kind: Kind::Count,
        argument: Argument::Dependency,
        ..PLAIN
    },
    Known {
        name: "calls",
        doc: "calls to a dependency",
        kind: Kind::Count,
        argument: Argument::Dependency,
        exempt: true,
        ..PLAIN
    },
    Known {
        name: "calls_per_request",
        doc: "calls to a dependency for each request of a user",
        kind: Kind::Times,
        argument: Argument::Dependency,
        ..PLAIN
    },
    Known {
        name: "completeness",
        doc: "share of started answers that arrived whole: ended in good order, with their terminal marker, and not far shorter than the same prompt's answers in baseline",
        ..PLAIN
    },
    Known {
        name: "dependency_error_rate",
        doc: "share of calls to a dependency that failed by its own fault, with no injected fault acting",
        argument: Argument::Dependency,
        ..PLAIN
    },
    Known {
        name: "failure_rate",
        doc: "share of requests that were not ok; with {kind=\"…\"} those of one outcome",
        labels: true,
        ..PLAIN
    },
    Known {
        name: "fallback_rate",
        doc: "share of whole answers by which the app says that they stand in for the real one (`answer.fallback`)",
        ..PLAIN
    },
    Known {
        name: "fault_hits",
        doc: "exchanges on which a fault acted",
        kind: Kind::Count,
        argument: Argument::Fault,
        exempt: true,
        ..PLAIN
    },
    Known { name: "goodput", doc: "good answers per second", kind: Kind::PerSecond, ..PLAIN },
    Known {
        name: "itl",
        doc: "time between two content-bearing events of an answer",
        kind: Kind::Seconds,
        distribution: true,
        ..PLAIN
    },
    Known {
        name: "latency",
        doc: "time from a request's intended start to the end of its answer; a failed request never ends",
        kind: Kind::Seconds,
        distribution: true,
        ..PLAIN
    },
    Known {
        name: "longest_silence",
        doc: "the longest that the app waited for a byte of a dependency while a fault held it back, without giving up",
        kind: Kind::Seconds,
        argument: Argument::Dependency,
        ..PLAIN
    },
    Known {
        name: "needless_retries",
        doc: "retries of answers that no retry can mend: 400, 401, 403, 404, 405, 413, 422, or `x-should-retry: false`",
        kind: Kind::Count,
        argument: Argument::Dependency,
        ..PLAIN
    },
    Known {
        name: "overlapping_retries",
        doc: "retries that began while the attempt before was still on its way",
        kind: Kind::Count,
        argument: Argument::Dependency,
        ..PLAIN
    },
    Known {
        name: "request_share",
        doc: "share of the calls to dependencies of the same kind that went to this one",
        argument: Argument::Dependency,
        ..PLAIN
    },
    Known { name: "requests", doc: "requests of users", kind: Kind::Count, exempt: true, ..PLAIN },
    Known {
        name: "retries_before_retry_after",
        doc: "calls repeated before the Retry-After of the answer before had passed",
        kind: Kind::Count,
        argument: Argument::Dependency,
        ..PLAIN
    },
    Known {
        name: "retries_without_backoff",
        doc: "second and later retries that came within 100 ms of the failure before",
        kind: Kind::Count,
        argument: Argument::Dependency,
        ..PLAIN
    },
    Known {
        name: "retry_amplification",
        doc: "calls to a dependency for each request of a user, over the same in baseline",
        kind: Kind::Times,
        argument: Argument::Dependency,
        ..PLAIN
    },
    Known {
        name: "retry_rate",
        doc: "share of calls to a dependency that repeat a failed one",
        argument: Argument::Dependency,
        ..PLAIN
    },
    Known {
        name: "retry_synchrony",
        doc: "how much retries come in herds: the variance over the mean of their number in bins of 100 ms; about 1 at random, above 3 in herds",
        kind: Kind::Times,
        argument: Argument::Dependency,
        ..PLAIN
    },
    Known {
        name: "silent_truncation_rate",
        doc: "share of answers that looked whole (good end, terminal marker) but were far shorter than the same prompt's answers in baseline",
        ..PLAIN
    },
    Known {
        name: "stalls",
        doc: "gaps of more than a second within answers",
        kind: Kind::Count,
        ..PLAIN
    },
    Known { name: "success_rate", doc: "share of requests that ended ok", ..PLAIN },
    Known {
        name: "time_to_failover",
        doc: "time from the start of a phase until users are served well again while its faults last",
        kind: Kind::Seconds,
        exempt: true,
        ..PLAIN
    },
    Known {
        name: "time_to_head",
        doc: "time to the head of the answer, of the app or of a dependency",
        kind: Kind::Seconds,
        distribution: true,
        argument: Argument::Optional,
        ..PLAIN
    },
    Known {
        name: "time_to_recover",
        doc: "time from the end of a faulty phase until users are served well again and stay so",
        kind: Kind::Seconds,
        exempt: true,
        ..PLAIN
    },
    Known {
        name: "tokens_per_second",
        doc: "content-bearing events per second over all answers",
        kind: Kind::PerSecond,
        ..PLAIN
    },
    Known {
        name: "ttft",
        doc: "time from issue to the first content-bearing event; a request that failed before it has none",
        kind: Kind::Seconds,
        distribution: true,
        ..PLAIN
    },
    Known {
        name: "unrepeated_cuts",
        doc: "answers of a dependency that broke off and that the app did not ask for again within 120 s",
        kind: Kind::Count,
        argument: Argument::Dependency,
        ..PLAIN
    },
    Known {
        name: "user_error_rate",
        doc: "share of requests that were not ok; with {kind=\"…\"} those of one outcome (`garbled`: came whole but unusable)",
        labels: true,
        ..PLAIN
    },
    Known {
        name: "wasted_tokens",
        doc: "events of streams (about a token each) sent before their call failed or was given up, as far as a fault looked at them",
        kind: Kind::Count,
        argument: Argument::Dependency,
        ..PLAIN
    },
];

/// Outcomes that `kind` may name besides `garbled`.
const KINDS: &[Outcome] = &[
    Outcome::Aborted,
    Outcome::Degraded,
    Outcome::Http4xx,
    Outcome::Http5xx,
    Outcome::InbandError,
    Outcome::Invalid,
    Outcome::RateLimited,
    Outcome::Refused,
    Outcome::ShedByDriver,
    Outcome::Timeout,
    Outcome::Truncated,
];

impl Known {
    /// The metric of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        METRICS.iter().find(|known| known.name == name)
    }

    /// How the metric stands in a sentence (`p95(ttft)`, `calls(llm)`).
    pub fn form(&self) -> String {
        let argument = match self.argument {
            Argument::Dependency => "(llm)",
            Argument::Fault => "(storm)",
            Argument::None | Argument::Optional => "",
        };
        if self.distribution {
            format!("p95({})", self.name)
        } else {
            self.name.to_owned() + argument
        }
    }
}

/// The outcomes that a `kind` stands for; None when it is no kind.
pub(super) fn outcomes_of(kind: &str) -> Option<Vec<Outcome>> {
    if kind == "garbled" {
        return Some(vec![Outcome::Degraded, Outcome::Invalid]);
    }
    KINDS.iter().find(|outcome| outcome.as_str() == kind).map(|outcome| vec![*outcome])
}

/// All kinds by name.
pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|outcome| outcome.as_str()).chain(["garbled"])
}

/// The word nearest to a misspelt one, when it is near enough.
pub(super) fn nearest<'a>(word: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    among
        .map(|known| (strsim::jaro_winkler(&word, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
