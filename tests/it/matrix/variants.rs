//! The options with which each effect is played.

use brownout::fault::KINDS;

/// Every effect, with its options as listed here, else with its example.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    KINDS.iter().map(|kind| {
        let listed = VARIANTS.iter().find(|(effect, _)| *effect == kind.name);
        (kind.name, listed.map_or_else(|| vec![kind.example], |(_, options)| options.to_vec()))
    })
}

const VARIANTS: &[(&str, &[&str])] = &[
    ("tls", &["{ mode: expired }"]),
    (
        "latency",
        &[
            "{ add: 250ms }",
            "{ add: 1s, at: before_head }",
            "{ multiply: 3 }",
            "{ add: 1s, at: before_first_token }",
            "{ add: 100ms, at: each_token }",
            "{ add: 1s, at: at_end }",
        ],
    ),
    ("outage", &["{ mode: reset }", "{ mode: http_503 }", "{ mode: html }", "{ mode: dns }"]),
    (
        "rate_limit",
        &["{ requests_per_minute: 1 }", "{ requests_per_day: 1 }", "{ ramp_up: { base: 1/min } }"],
    ),
    (
        "saturation",
        &[
            "{ slots: 1, decode_tokens_per_second: 20, prefill_tokens_per_second: 100 }",
            "{ slots: 1, prefill_tokens_per_second: 1, queue_limit: 0 }",
        ],
    ),
    (
        "retrieval",
        &[
            "{ result: empty }",
            "{ result: fewer, keep: 1 }",
            "{ result: reversed }",
            "{ result: duplicated }",
            "{ scores: { noise: 20% } }",
            "{ shards_failed: 2 of 5, timed_out: true }",
            "{ state: not_loaded }",
        ],
    ),
    (
        "embedding",
        &[
            "{ vectors: zeros }",
            "{ vectors: nan, count: 1 }",
            "{ vectors: noise, cosine: 0.8 }",
            "{ vectors: wrong_dimension }",
            "{ order: reversed, index: stays }",
            "{ missing: 1 }",
        ],
    ),
    (
        "degrade",
        &[
            "{ text: shorten, to: 2 tokens }",
            "{ text: extend, times: 2 }",
            "{ text: loop, repeat: token, after: 2 tokens, to: 8 tokens }",
            "{ text: refusal }",
            "{ text: language, after: 1 token, model: other-model, finish: stop }",
            "{ usage: missing }",
            "{ usage: wrong, factor: 2 }",
        ],
    ),
    (
        "structured",
        &["{ break: missing_key }", "{ break: wrong_type }", "{ break: markdown_fence }"],
    ),
    (
        "tool_calls",
        &[
            "{ break: cut_arguments }",
            "{ break: renamed_key }",
            "{ break: unknown_tool }",
            "{ break: duplicate }",
            "{ break: missing }",
            "{ break: same_index }",
            "{ break: malformed }",
            "{ break: spurious }",
        ],
    ),
    ("slow_stream", &["{ time_to_first_token: +3s }", "{ tokens_per_second: 4 }"]),
    (
        "keep_alive",
        &["{ every: 5s, for: 12s }", "{ send: comment_as_data }", "{ hold: false, every: 60ms }"],
    ),
    (
        "stall",
        &[
            "{ after: 1 token, pause: 30s }",
            "{ at: mid_event, pause: 30s }",
            "{ after: 1 token, pause: 12s, keep_alive: pings, every: 5s }",
        ],
    ),
    ("drop", &["{ percent: 100% }"]),
    ("duplicate", &["{ what: tokens, at_most: 1 }", "{ percent: 40%, times: 2 }"]),
    ("reorder", &["{ window: 2 }", "{ window: 4, percent: 40%, terminal: true }"]),
    (
        "strip",
        &[
            "{ parts: [role] }",
            "{ parts: [usage] }",
            "{ parts: [finish, call_index, id] }",
            "{ parts: [done] }",
        ],
    ),
    (
        "corrupt",
        &[
            "{ percent: 100%, characters: 2 }",
            "{ how: cut, percent: 100% }",
            "{ how: script, characters: 2 }",
            "{ where: arguments, how: cut }",
            "{ where: frame, how: cut, at_most: 1 }",
            "{ where: frame, at_most: 1 }",
            "{ how: split_character }",
        ],
    ),
    (
        "error",
        // Each class stands in the sheets of failures.
        &[
            "{ as: overloaded }",
            "{ as: overloaded, after: 1 token }",
            "{ as: overloaded, after: 1 token, then_done: true }",
            "{ as: overloaded, after: 1 token, as_content: true }",
        ],
    ),
    (
        "truncate",
        &[
            "{ after: 1 token, ending: clean }",
            "{ after: 1 token, ending: close }",
            "{ after: 1 token, ending: reset }",
            "{ after: 1 token, ending: hang }",
            "{ after: 1 token, ending: finish_length }",
            "{ ending: no_done }",
            "{ after: 50%, ending: close }",
            "{ after: 20B, ending: reset }",
            "{ at: before_body, ending: close }",
            "{ at: after_first_token, ending: reset }",
            "{ at: mid_arguments, ending: reset }",
            "{ at: mid_arguments, finish: tool_calls }",
            "{ at: mid_character, ending: close }",
            "{ at: mid_event, ending: reset }",
            "{ at: before_terminal, ending: close }",
            "{ at: after_terminal, ending: reset }",
            "{ ending: done_but_open }",
            "{ after: 1 token, ending: done_but_open }",
            "{ after: 1 token, ending: hang_with_comments }",
        ],
    ),
    ("burst", &["{ collect: 2 tokens }", "{ every: 120ms }"]),
    (
        "regroup",
        &[
            "{ merge: 3 }",
            "{ split: 3, gap: 5ms }",
            "{ merge: 1..3, split: 2..4 }",
            "{ line_ends: crlf }",
        ],
    ),
    ("bandwidth", &["{ rate: 100B/s }"]),
    ("slice", &["{ size: 20..20 bytes, delay: 10ms }"]),
    ("slow_close", &["{ delay: 5s }"]),
];

/// Whether it acts on a call only while or after there is another.
pub(super) fn needs_another(effect: &str, _options: &str) -> bool {
    ["rate_limit", "saturation"].contains(&effect)
}

/// Whether what is played depends on how the upstream's bytes were cut.
pub(super) fn minds_pieces(effect: &str, options: &str) -> bool {
    // These act on bytes as they come.
    ["bandwidth", "slice", "slow_close"].contains(&effect)
        || options.contains("20B")
        || options.contains("50%")
}
