use super::super::Order;
use super::super::testing::{Played, Upstream, arm, arm_with, build, exchange, invalid, ms, play_at};
use super::*;
use crate::exchange::{Event, Exchange};

fn ask(fault: &dyn Fault, at: Duration, exchange: &Exchange, upstream: &Upstream) -> Played {
    play_at(at, &[fault], exchange, upstream)
}

/// How many of the requests that come at this rate pass within a minute.
fn passed(yaml: &str, per_second: u64) -> u64 {
    let fault = build::<RateLimit>(yaml);
    let upstream = Upstream::message(1);
    (0..60 * per_second)
        .filter(|i| {
            let at = Duration::from_nanos(i * 1_000_000_000 / per_second);
            ask(fault.as_ref(), at, &exchange(*i), &upstream).answer.is_none()
        })
        .count() as u64
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let mut found = answer.headers.iter().filter(|(set, _)| set.eq_ignore_ascii_case(name));
    let first = found.next().map(|(_, value)| value.as_str());
    assert!(found.next().is_none(), "{name} twice");
    first
}

#[test]
fn the_rate_holds_over_a_minute() {
    for (per_minute, arrivals) in [(30, 50), (60, 50), (60, 4), (90, 7), (600, 50), (2400, 100)] {
        let count = passed(&format!("{{ requests_per_minute: {per_minute} }}"), arrivals);
        let off = (count as f64 / per_minute as f64 - 1.0).abs();
        assert!(off <= 0.02, "{count} of {per_minute} passed at {arrivals}/s");
    }
    let window = passed("{ requests_per_minute: 60, algorithm: fixed_window }", 50);
    assert_eq!(window, 60);
    assert_eq!(passed("{ requests_per_minute: 60, burst: 20 }", 50), 79, "a burst adds to it");
}

#[test]
fn the_rate_holds_for_irregular_arrivals() {
    let fault = build::<RateLimit>("{ requests_per_minute: 60 }");
    let mut dice = crate::dice::Dice::from_seed(3);
    let (mut at, mut passed) = (0.0, 0);
    while at < 600.0 {
        let time = Duration::from_secs_f64(at);
        let played = ask(fault.as_ref(), time, &exchange(1), &Upstream::message(1));
        passed += u64::from(played.answer.is_none());
        at += dice.exponential() / 4.0;
    }
    assert!((588..=612).contains(&passed), "{passed} of 600 passed in ten minutes");
}

#[test]
fn tokens_hold_too_and_are_corrected_by_what_answers_used() {
    // Each request reserves 10 + 100 and uses 7 + 20, streamed or not.
    let mut stream = Upstream::stream(20, ms(0));
    stream.items.insert(23, (ms(0), Item::Event(Event::sse("usage:7,20"))));
    for upstream in [stream, Upstream::message(20)] {
        let fault = build::<RateLimit>("{ tokens_per_minute: 6000 }");
        let passed = (0..3000)
            .filter(|i| {
                ask(fault.as_ref(), ms(20 * i), &exchange(*i), &upstream).answer.is_none()
            })
            .count();
        let used = passed as f64 * 27.0;
        assert!((used / 6000.0 - 1.0).abs() < 0.02, "{used} tokens of 6000");
    }
}

#[test]
fn streams_without_usage_are_counted_and_cut_clients_too() {
    let fault = build::<RateLimit>("{ tokens_per_minute: 600 }");
    let upstream = Upstream::stream(50, ms(0));
    assert!(ask(fault.as_ref(), ms(0), &exchange(1), &upstream).answer.is_none());
    // 10 in the bucket, 10 + 50 used: 50 are owed, 10 more are needed, 10 flow back each second.
    let refused = ask(fault.as_ref(), ms(0), &exchange(2), &upstream);
    assert_eq!(refused.note("passes_after"), Some(6.0));
    assert_eq!(refused.grain, Grain::Event);
}

#[test]
fn failed_and_compressed_answers_are_corrected_as_they_can_be() {
    let mut failed = Upstream::message(50);
    failed.status = StatusCode::INTERNAL_SERVER_ERROR;
    let fault = build::<RateLimit>("{ tokens_per_minute: 600 }");
    ask(fault.as_ref(), ms(0), &exchange(1), &failed);
    let next = ask(fault.as_ref(), ms(0), &exchange(2), &failed);
    assert!(next.answer.is_none(), "a failed request has used nothing");
    let mut compressed = Upstream::message(50);
    compressed.headers.insert("content-encoding", HeaderValue::from_static("gzip"));
    ask(fault.as_ref(), ms(0), &exchange(3), &compressed);
    let refused = ask(fault.as_ref(), ms(0), &exchange(4), &failed);
    assert_eq!(refused.note("passes_after"), Some(11.0), "its reserve of 110 stays");
}

#[test]
fn a_refusal_tells_the_exact_time() {
    let fault = build::<RateLimit>("{ requests_per_minute: 20 }");
    let upstream = Upstream::message(1);
    ask(fault.as_ref(), ms(0), &exchange(1), &upstream);
    let odd = ms(400) + Duration::from_micros(300);
    let refused = ask(fault.as_ref(), odd, &exchange(2), &upstream).answer.unwrap().1;
    assert_eq!(header(&refused, "retry-after-ms"), Some("2600"), "2599.7 ms, rounded up");
    let refused = ask(fault.as_ref(), ms(400), &exchange(2), &upstream);
    assert!(refused.hit());
    assert_eq!(refused.called, None, "the upstream is not called");
    let answer = refused.answer.unwrap().1;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&answer, "retry-after-ms"), Some("2600"));
    assert_eq!((header(&answer, "x-toy-limit"), header(&answer, "x-toy-left")), (Some("20"), Some("0")));
    assert!(ask(fault.as_ref(), ms(2999), &exchange(2), &upstream).answer.is_some());
    assert!(ask(fault.as_ref(), ms(3000), &exchange(2), &upstream).answer.is_none());
}

#[test]
fn refusals_lie_or_say_nothing_when_told_to() {
    let refused = |yaml: &str| {
        let fault = build::<RateLimit>(yaml);
        ask(fault.as_ref(), ms(0), &exchange(1), &Upstream::message(1));
        ask(fault.as_ref(), ms(0), &exchange(1), &Upstream::message(1)).answer.unwrap().1
    };
    let lying = refused("{ requests_per_minute: 6, retry_after: lying, headers: lying }");
    assert_eq!(header(&lying, "retry-after-ms"), Some("1000"), "a tenth of 10 s");
    assert_eq!(header(&lying, "x-toy-left"), Some("5"));
    let fixed = refused("{ requests_per_minute: 6, retry_after: 20s }");
    assert_eq!(header(&fixed, "retry-after-ms"), Some("20000"));
    assert_eq!(header(&fixed, "x-toy-reset"), Some("20000"));
    let silent = refused("{ requests_per_minute: 6, retry_after: none, headers: none }");
    assert_eq!(silent.headers.len(), 1, "{:?}", silent.headers);
}

#[test]
fn passing_answers_carry_the_quota_and_are_no_hit() {
    let fault = build::<RateLimit>("{ requests_per_minute: 60, burst: 5 }");
    let played = ask(fault.as_ref(), ms(0), &exchange(1), &Upstream::stream(3, ms(1)));
    assert!(!played.hit());
    assert_eq!((played.let_go(), played.impossible()), (Some("within the limit"), None));
    assert_eq!(played.grain, Grain::Head, "without a limit of tokens the body is left alone");
    assert_eq!(played.head.unwrap().1.headers["x-toy-left"], "4");
    let silent = build::<RateLimit>("{ requests_per_minute: 60, headers: none }");
    let played = ask(silent.as_ref(), ms(0), &exchange(1), &Upstream::stream(3, ms(1)));
    assert!(played.head.unwrap().1.headers.is_empty());
}

#[test]
fn each_scope_has_its_own_accounts() {
    for (scope, separate) in
        [
            ("dependency", false),
            ("api_key", true),
            ("model", true),
            ("user", true),
            ("session", true),
        ]
    {
        let fault = build::<RateLimit>(&format!("{{ requests_per_minute: 1, scope: {scope} }}"));
        let (mut one, mut two) = (exchange(1), exchange(2));
        (one.user, two.user) = (Some("ann".to_owned()), Some("bob".to_owned()));
        (one.session, two.session) = (Some("s1".to_owned()), Some("s2".to_owned()));
        (one.api_key, two.api_key) = (Some(1), Some(2));
        two.facts.model = Some("other".to_owned());
        let upstream = Upstream::message(1);
        assert!(ask(fault.as_ref(), ms(0), &one, &upstream).answer.is_none());
        assert!(ask(fault.as_ref(), ms(0), &one, &upstream).answer.is_some());
        assert_eq!(ask(fault.as_ref(), ms(0), &two, &upstream).answer.is_none(), separate, "{scope}");
        two.dependency = Arc::from("other");
        assert!(ask(fault.as_ref(), ms(0), &two, &upstream).answer.is_none() || separate);
        fault.reset();
        assert!(ask(fault.as_ref(), ms(0), &one, &upstream).answer.is_none(), "a new arming");
    }
}

#[test]
fn options_that_do_not_fit_are_refused() {
    for (yaml, field) in [
        ("{}", ""),
        ("{ requests_per_minute: 0 }", "requests_per_minute"),
        ("{ tokens_per_minute: 0 }", "tokens_per_minute"),
        ("{ requests_per_day: 0 }", "requests_per_day"),
        ("{ tokens_per_day: 0 }", "tokens_per_day"),
        ("{ concurrent_requests: 0 }", "concurrent_requests"),
        ("{ concurrent_requests: 4, algorithm: fixed_window }", "algorithm"),
        ("{ ramp_up: { base: 60/min, growth: 1 } }", "ramp_up"),
        ("{ ramp_up: { base: 60/min, every: 0s } }", "ramp_up"),
        ("{ ramp_up: { base: 60/h, every: 10s } }", "ramp_up"),
        ("{ tokens_per_minute: 10, burst: 3 }", "burst"),
        ("{ requests_per_minute: 10, burst: 3, algorithm: fixed_window }", "burst"),
    ] {
        assert_eq!(invalid::<RateLimit>(yaml).field, field, "{yaml}");
    }
    for (text, part) in [("soon", "accurate, huge, lying or none"), ("20", "20 what?")] {
        let error = text.parse::<RetryAfter>().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    for text in ["accurate", "20s", "huge", "lying", "none"] {
        assert_eq!(text.parse::<RetryAfter>().unwrap().to_string(), text);
    }
}

#[test]
fn a_days_quota_is_told_without_a_time() {
    let fault = build::<RateLimit>("{ requests_per_day: 2, headers: none }");
    let upstream = Upstream::message(1);
    let day = 24 * 3600 * 1000;
    assert!(ask(fault.as_ref(), ms(0), &exchange(1), &upstream).answer.is_none());
    assert!(ask(fault.as_ref(), ms(day - 1), &exchange(2), &upstream).answer.is_none());
    let refused = ask(fault.as_ref(), ms(day - 1), &exchange(3), &upstream);
    assert_eq!(refused.note("passes_after"), Some(0.001));
    let answer = refused.answer.unwrap().1;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&answer, "retry-after"), None);
    assert!(ask(fault.as_ref(), ms(day), &exchange(4), &upstream).answer.is_none(), "a new day");
    let asked = build::<RateLimit>("{ requests_per_day: 1, retry_after: accurate }");
    ask(asked.as_ref(), ms(0), &exchange(1), &upstream);
    let answer = ask(asked.as_ref(), ms(3_600_000), &exchange(2), &upstream).answer.unwrap().1;
    assert_eq!(header(&answer, "retry-after"), Some("82800"), "23 hours");
}

#[test]
fn a_days_tokens_are_those_that_answers_used() {
    let fault = build::<RateLimit>("{ tokens_per_day: 270 }");
    // Each reserves 110 and uses 7 + 20.
    let passed = (0..100)
        .filter(|i| {
            let upstream = Upstream::message(20);
            ask(fault.as_ref(), ms(20 * i), &exchange(*i), &upstream).answer.is_none()
        })
        .count();
    assert_eq!(passed, 6, "then less than a reserve of 110 is left of 270 - 6 x 27");
}

#[test]
fn requests_at_once_end_with_their_answers_or_their_clients() {
    let fault = build::<RateLimit>("{ concurrent_requests: 1 }");
    let begin = || {
        let mut effect = arm(fault.as_ref(), ms(0), &exchange(1)).unwrap().0;
        let (mut head, ()) = request::Request::new(()).into_parts();
        let mut out = Orders::default();
        effect.on_request(ms(0), &mut head, &mut out);
        let answer = out.list.into_iter().find_map(|order| match order {
            Order::Answer(answer) => Some(answer),
            _ => None,
        });
        (effect, answer)
    };
    let (first, passed) = begin();
    assert_eq!(passed, None);
    let refused = begin().1.unwrap();
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.body.starts_with(b"rate_limit"), "{:?}", refused.body);
    assert_eq!(header(&refused, "retry-after"), None, "nobody knows when");
    drop(first);
    assert_eq!(begin().1, None, "its client went away");
    let after = ask(fault.as_ref(), ms(0), &exchange(2), &Upstream::stream(3, ms(1)));
    assert_eq!(after.let_go(), Some("within the limit"));
}

#[test]
fn a_steep_rise_is_told_to_slow_down() {
    let fault = build::<RateLimit>("{ requests_per_minute: 6000, ramp_up: { base: 60/min } }");
    let mut passed = [0; 3];
    for i in 0..600u64 {
        let played = ask(fault.as_ref(), ms(300 * i), &exchange(i), &Upstream::message(1));
        match played.answer {
            None => passed[i as usize / 200] += 1,
            Some((_, answer)) => {
                assert!(answer.body.starts_with(b"slow_down"), "{:?}", answer.body);
                assert_eq!(header(&answer, "retry-after"), None);
            }
        }
    }
    assert_eq!(passed, [60, 120, 200], "200 a minute are less than 6000, but twice as many only");
}

#[test]
fn a_huge_time_is_a_day() {
    let fault = build::<RateLimit>("{ requests_per_minute: 1, retry_after: huge }");
    ask(fault.as_ref(), ms(0), &exchange(1), &Upstream::message(1));
    let answer = ask(fault.as_ref(), ms(0), &exchange(1), &Upstream::message(1)).answer.unwrap().1;
    assert_eq!(header(&answer, "retry-after"), Some("86400"));
}

/// Lets 64 clients ask at the same moment, so many times each; each holds what passed until all
/// have asked. Says how many passed.
fn at_once(fault: &Arc<dyn Fault>, rounds: usize) -> usize {
    let together = std::sync::Barrier::new(64);
    let passed = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..64 {
            let (together, passed) = (&together, &passed);
            scope.spawn(move || {
                let mut held = Vec::new();
                together.wait();
                for _ in 0..rounds {
                    let mut effect = arm(fault.as_ref(), ms(0), &exchange(client)).unwrap().0;
                    let (mut head, ()) = request::Request::new(()).into_parts();
                    let mut out = Orders::default();
                    effect.on_request(ms(0), &mut head, &mut out);
                    let refused = out.list.iter().any(|order| matches!(order, Order::Answer(_)));
                    passed.fetch_add(usize::from(!refused), std::sync::atomic::Ordering::Relaxed);
                    held.push(effect);
                }
                together.wait();
            });
        }
    });
    passed.into_inner()
}

#[test]
fn limits_are_exact_under_64_clients() {
    for (yaml, expected) in [
        ("{ requests_per_minute: 700, algorithm: fixed_window }", 700),
        ("{ requests_per_day: 999 }", 999),
        ("{ requests_per_minute: 60, burst: 123 }", 123),
        ("{ tokens_per_day: 5500 }", 50),
        ("{ ramp_up: { base: 345/min } }", 345),
        ("{ concurrent_requests: 10 }", 10),
    ] {
        let fault = build::<RateLimit>(yaml);
        assert_eq!(at_once(&fault, 20), expected, "{yaml}");
    }
    let fault = build::<RateLimit>("{ concurrent_requests: 10 }");
    at_once(&fault, 20);
    assert_eq!(at_once(&fault, 20), 10, "all were given back, none twice");
}

#[test]
fn a_store_whose_quota_is_its_disk_says_that_its_rate_limit_is_reached() {
    let fault = build::<RateLimit>("{ requests_per_day: 1 }");
    for (kind, said) in [("qdrant", "Rate limiting exceeded"), ("openai", "requests per day (RPD)")] {
        fault.reset();
        let dialect = crate::dialect::by_kind(kind).unwrap();
        let mut last = None;
        for _ in 0..2 {
            let mut effect = arm_with(fault.as_ref(), ms(0), &exchange(1), dialect).unwrap().0;
            let (mut head, ()) = request::Request::new(()).into_parts();
            let mut out = Orders::default();
            effect.on_request(ms(0), &mut head, &mut out);
            last = out.list.pop();
        }
        let Some(Order::Answer(answer)) = last else { panic!("{kind}: {last:?}") };
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{kind}");
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(body.contains(said), "{kind}: {body}");
    }
}
