use super::super::testing::{Upstream, arm, build, exchange, invalid, ms, play};
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
