use super::super::testing::{
    Upstream, arm, build, connection, exchange, invalid, ms, play, socket,
};
use super::*;

fn delays(yaml: &str, count: u64) -> Vec<f64> {
    let fault = build::<Latency>(yaml);
    let mut delays: Vec<f64> = (0..count)
        .map(|key| {
            let (_, draw) = arm(fault.as_ref(), Duration::ZERO, &exchange(key)).unwrap();
            draw.drawn().iter().find(|(name, _)| *name == "delay").map_or(0.0, |(_, v)| *v)
        })
        .collect();
    delays.sort_by(f64::total_cmp);
    delays
}

fn at(sorted: &[f64], quantile: f64) -> f64 {
    sorted[(sorted.len() as f64 * quantile) as usize]
}

#[test]
fn time_is_added_before_the_request_or_before_the_head() {
    let upstream = Upstream::stream(3, ms(1));
    let early = play(&[build::<Latency>("{ add: 250ms }").as_ref()], &exchange(1), &upstream);
    assert_eq!((early.called, early.head.unwrap().0), (Some(ms(250)), ms(260)));
    let late = build::<Latency>("{ add: 250ms, at: before_head }");
    let late = play(&[late.as_ref()], &exchange(1), &upstream);
    assert!(late.fired[0].hit);
    assert_eq!((late.called, late.head.unwrap().0), (Some(ms(0)), ms(260)));
}

#[test]
fn jitter_stays_within_its_bounds_and_is_seeded() {
    let drawn = delays("{ add: 100ms, jitter: 20% }", 2000);
    assert!(drawn[0] >= 0.08 && drawn[0] < 0.081, "{}", drawn[0]);
    assert!(drawn[1999] <= 0.12 && drawn[1999] > 0.119, "{}", drawn[1999]);
    assert_eq!(drawn, delays("{ add: 100ms, jitter: 20% }", 2000));
    assert!(delays("{ add: 10ms, jitter: 50ms }", 500)[0] >= 0.0, "never negative");
}

#[test]
fn distributions_have_the_quantiles_they_name() {
    for yaml in ["lognormal", "pareto"] {
        let yaml = format!("{{ distribution: {{ {yaml}: {{ p50: 300ms, p99: 2s }} }} }}");
        let drawn = delays(&yaml, 20_000);
        assert!((at(&drawn, 0.5) - 0.3).abs() < 0.015, "{yaml} {}", at(&drawn, 0.5));
        assert!((at(&drawn, 0.99) - 2.0).abs() < 0.25, "{yaml} {}", at(&drawn, 0.99));
    }
    let drawn = delays("{ distribution: { exponential: { mean: 100ms } } }", 20_000);
    assert!((at(&drawn, 0.5) - 0.0693).abs() < 0.004);
    let drawn = delays("{ distribution: { normal: { mean: 20ms, deviation: 20ms } } }", 9000);
    assert!((at(&drawn, 0.5) - 0.02).abs() < 0.002 && drawn[0] == 0.0);
    let drawn = delays("{ distribution: { uniform: { min: 1s, max: 3s } } }", 9000);
    assert!(drawn[0] >= 1.0 && drawn[8999] < 3.0 && (at(&drawn, 0.5) - 2.0).abs() < 0.05);
    let drawn = delays("{ add: 1s, distribution: { constant: { value: 500ms } } }", 3);
    assert_eq!(drawn, [1.5, 1.5, 1.5]);
    let drawn = delays("{ distribution: { pareto: { p50: 1s, p99: 30m } } }", 9000);
    assert_eq!(drawn[8999], 3600.0, "no delay is longer than an hour");
}

#[test]
fn all_of_the_upstreams_time_is_stretched() {
    let fault = build::<Latency>("{ multiply: 10 }");
    let played = play(&[fault.as_ref()], &exchange(1), &Upstream::stream(3, ms(1)));
    assert!(played.hit());
    assert_eq!(played.head.as_ref().unwrap().0, ms(100));
    assert_eq!(played.note("stretched_by"), Some(0.09));
}

#[test]
fn a_delay_of_nothing_lets_go() {
    let fault = build::<Latency>("{ distribution: { constant: { value: 0s } } }");
    let played = play(&[fault.as_ref()], &exchange(1), &Upstream::stream(3, ms(1)));
    assert_eq!((played.hit(), played.let_go()), (false, Some("nothing was to be added")));
}

#[test]
fn the_tail_grows_and_the_median_keeps() {
    let fault = build::<Latency>("{ multiply: 10, percentile: 99 }");
    let mut dice = Dice::from_seed(5);
    let (mut own, mut seen) = (Vec::new(), Vec::new());
    for key in 0..8000 {
        let took = 0.02 * (0.4 * dice.normal()).exp();
        let mut upstream = Upstream::stream(1, ms(1));
        upstream.took = Duration::from_secs_f64(took);
        let played = play(&[fault.as_ref()], &exchange(key), &upstream);
        own.push(took);
        seen.push(played.head.unwrap().0.as_secs_f64());
    }
    own.sort_by(f64::total_cmp);
    seen.sort_by(f64::total_cmp);
    let ratio = |quantile| at(&seen, quantile) / at(&own, quantile);
    assert!((ratio(0.25) - 1.0).abs() < 0.03, "p25 {}", ratio(0.25));
    assert!((ratio(0.5) - 1.0).abs() < 0.03, "p50 {}", ratio(0.5));
    assert!((ratio(0.745) - 10f64.sqrt()).abs() < 0.3, "p74.5 {}", ratio(0.745));
    assert!((ratio(0.99) - 10.0).abs() < 1.0, "p99 {}", ratio(0.99));
}

#[test]
fn equal_latencies_are_told_apart_by_the_seed() {
    let fault = build::<Latency>("{ multiply: 10, percentile: 99 }");
    let hits = (0..1000)
        .filter(|key| {
            play(&[fault.as_ref()], &exchange(*key), &Upstream::stream(1, ms(1))).hit()
        })
        .count();
    assert!((400..600).contains(&hits), "{hits} of 1000 lie above the median");
}

#[test]
fn options_that_do_not_fit_are_refused() {
    for (yaml, field, part) in [
        ("{}", "", "no delay is asked for"),
        ("{ jitter: 20% }", "jitter", "needs `add`"),
        ("{ multiply: 0.5 }", "multiply", "no factor of 1 or more"),
        ("{ add: 1s, percentile: 99 }", "percentile", "needs `multiply`"),
        ("{ multiply: 10, percentile: 50 }", "percentile", "above 50"),
        (
            "{ distribution: { lognormal: { p50: 2s, p99: 1s } } }",
            "distribution",
            "`p99` (1s) must be longer than `p50` (2s)",
        ),
        ("{ add: 1s, multiply: 2, at: each_token }", "multiply", "cannot go with `at: each_token`"),
        ("{ add: 1s, at: at_end, direction: up }", "direction", "keep one"),
        ("{ distribution: { gamma: { mean: 1s, deviation: 0s } } }", "distribution", "longer than"),
        ("{ distribution: { recorded: {} } }", "distribution", "needs either"),
        ("{ distribution: { recorded: { values: [] } } }", "distribution", "1 to 10000"),
        (
            "{ distribution: { recorded: { quantiles: [[50, 2s], [99, 1s]] } } }",
            "distribution",
            "50% is 2s, but 99% behind it is 1s",
        ),
        ("{ distribution: { recorded: { quantiles: [[50, 2s]] } } }", "distribution", "2 to 1000"),
        ("{ distribution: { pareto: { p50: 0s, p99: 1s } } }", "distribution", "`p50`"),
        ("{ distribution: { uniform: { min: 2s, max: 1s } } }", "distribution", "`max`"),
    ] {
        let error = invalid::<Latency>(yaml);
        assert_eq!(error.field, field, "{yaml}");
        assert!(error.reason.contains(part), "{yaml}: {error}");
    }
    let error = serde_yaml::from_str::<Latency>("{ add: 1s, jitter: 5 }").unwrap_err();
    assert!(error.to_string().contains("5 what? write 5% or 5ms"), "{error}");
}

/// Where the quantile of a distribution function lies, by halving.
fn inverse(cdf: impl Fn(f64) -> f64, share: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e3);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if cdf(middle) < share { low = middle } else { high = middle }
    }
    high
}

#[test]
fn quantiles_drawn_are_the_quantiles_wanted() {
    const DRAWS: u64 = 10_000;
    let lognormal = |p: f64, z: f64| (p, 0.3 * ((2.0f64 / 0.3).ln() / Z99 * z).exp());
    let shape = 50f64.ln() / (2.0f64 / 0.3).ln();
    let pareto = |p: f64| (p, 0.3 * (0.5 / (1.0 - p)).powf(1.0 / shape));
    // Mean 200 ms, deviation 100 ms: shape 4, so the time of four exponential steps of 50 ms.
    let erlang = |x: f64| {
        let x = x / 0.05;
        1.0 - (-x).exp() * (1.0 + x + x * x / 2.0 + x * x * x / 6.0)
    };
    let gamma = |p: f64| (p, inverse(erlang, p));
    let exponential = |p: f64| (p, -0.1 * (1.0 - p).ln());
    let normal = |p: f64, z: f64| (p, 1.0 + 0.1 * z);
    let wanted: [(&str, [(f64, f64); 3]); 8] = [
        ("lognormal: { p50: 300ms, p99: 2s }", [lognormal(0.5, 0.0), lognormal(0.9, Z90), lognormal(0.99, Z99)]),
        ("pareto: { p50: 300ms, p99: 2s }", [pareto(0.5), pareto(0.9), pareto(0.99)]),
        ("gamma: { mean: 200ms, deviation: 100ms }", [gamma(0.5), gamma(0.9), gamma(0.99)]),
        // As wide as its mean, it is exponential; wider, it is drawn in another way.
        ("gamma: { mean: 100ms, deviation: 100ms }", [exponential(0.5), exponential(0.9), exponential(0.99)]),
        ("exponential: { mean: 100ms }", [exponential(0.5), exponential(0.9), exponential(0.99)]),
        ("normal: { mean: 1s, deviation: 100ms }", [normal(0.5, 0.0), normal(0.9, Z90), normal(0.99, Z99)]),
        ("uniform: { min: 1s, max: 3s }", [(0.5, 2.0), (0.9, 2.8), (0.99, 2.98)]),
        (
            "recorded: { quantiles: [[0, 0s], [50, 200ms], [90, 1s], [99, 4s], [100, 10s]] }",
            [(0.5, 0.2), (0.9, 1.0), (0.99, 4.0)],
        ),
    ];
    for (yaml, quantiles) in wanted {
        let drawn = delays(&format!("{{ distribution: {{ {yaml} }} }}"), DRAWS);
        for (share, time) in quantiles {
            let below = drawn.iter().filter(|delay| **delay <= time).count() as f64 / DRAWS as f64;
            let error = (share * (1.0 - share) / DRAWS as f64).sqrt();
            assert!((below - share).abs() < 4.0 * error, "{yaml}: {below} below its {share}");
        }
    }
}

/// The standard normal distribution's 90th and 99th percentile.
const Z90: f64 = 1.281_551_566;
const Z99: f64 = 2.326_347_874;

#[test]
fn a_wide_gamma_keeps_its_mean_and_recorded_values_come_evenly() {
    let drawn = delays("{ distribution: { gamma: { mean: 100ms, deviation: 200ms } } }", 20_000);
    let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
    assert!((mean - 0.1).abs() < 0.006, "{mean}");
    let drawn = delays("{ distribution: { recorded: { values: [1s, 2s, 9s] } } }", 9000);
    for value in [1.0, 2.0, 9.0] {
        let count = drawn.iter().filter(|delay| **delay == value).count();
        assert!((2800..3200).contains(&count), "{value}: {count}");
    }
    let edges = "{ distribution: { recorded: { quantiles: [[10, 1s], [90, 2s]] } } }";
    let drawn = delays(edges, 1000);
    assert_eq!((drawn[0], drawn[999]), (1.0, 2.0), "nothing lies beyond what was recorded");
}

#[test]
fn time_is_added_inside_an_answer() {
    let upstream = Upstream::stream(3, ms(10));
    let at = |place: &str| {
        let fault = build::<Latency>(&format!("{{ add: 100ms, at: {place} }}"));
        let played = play(&[fault.as_ref()], &exchange(1), &upstream);
        assert!(played.hit(), "{place}");
        assert_eq!(played.text(), "role t0 t1 t2 finish:stop [DONE]");
        ["role", "t0", "t1", "t2", "[DONE]"].map(|text| played.time_of(text).as_millis())
    };
    assert_eq!(at("before_first_token"), [10, 120, 120, 120, 120]);
    assert_eq!(at("each_token"), [10, 120, 220, 320, 320]);
    assert_eq!(at("at_end"), [10, 20, 30, 40, 160]);
    let whole = Upstream::message(3);
    for (place, time) in [("before_first_token", 110), ("each_token", 310), ("at_end", 110)] {
        let fault = build::<Latency>(&format!("{{ add: 100ms, at: {place} }}"));
        let played = play(&[fault.as_ref()], &exchange(1), &whole);
        assert_eq!(played.sent[0].0, ms(time), "{place}");
        let noted = played.note("delay").unwrap();
        assert!((noted - (time - 10) as f64 / 1e3).abs() < 1e-9, "{place}: {noted}");
    }
}

#[test]
fn answers_without_tokens_or_a_terminal_event() {
    let mut upstream = Upstream::stream(0, ms(10));
    upstream.items.pop();
    let fault = build::<Latency>("{ add: 100ms, at: each_token }");
    let played = play(&[fault.as_ref()], &exchange(1), &upstream);
    assert_eq!((played.hit(), played.impossible()), (false, Some("the answer has no tokens")));
    let fault = build::<Latency>("{ add: 100ms, at: at_end }");
    let played = play(&[fault.as_ref()], &exchange(1), &upstream);
    assert_eq!((played.hit(), played.end), (true, ms(120)), "its last byte is held");
    assert!(arm(fault.as_ref(), ms(0), &socket(1)).is_err());
}

#[test]
fn a_raw_connection_is_made_late() {
    let fault = build::<Latency>("{ add: 100ms, at: before_connect }");
    let mut effect = arm(fault.as_ref(), ms(0), &connection(1)).unwrap().0;
    let mut orders = Orders::default();
    effect.on_connect(ms(0), &mut orders);
    assert_eq!(orders.list, [crate::fault::Order::Wait(ms(100))]);
    assert!(arm(fault.as_ref(), ms(0), &exchange(1)).is_err());
}
