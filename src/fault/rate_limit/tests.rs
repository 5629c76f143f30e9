use super::super::testing::{Played, Upstream, build, exchange, invalid, ms, play_at};
use super::*;
use crate::exchange::Event;

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
        [("dependency", false), ("api_key", true), ("user", true), ("session", true)]
    {
        let fault = build::<RateLimit>(&format!("{{ requests_per_minute: 1, scope: {scope} }}"));
        let (mut one, mut two) = (exchange(1), exchange(2));
        (one.user, two.user) = (Some("ann".to_owned()), Some("bob".to_owned()));
        (one.session, two.session) = (Some("s1".to_owned()), Some("s2".to_owned()));
        (one.api_key, two.api_key) = (Some(1), Some(2));
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
        ("{ tokens_per_minute: 10, burst: 3 }", "burst"),
        ("{ requests_per_minute: 10, burst: 3, algorithm: fixed_window }", "burst"),
    ] {
        assert_eq!(invalid::<RateLimit>(yaml).field, field, "{yaml}");
    }
    for (text, part) in [("soon", "accurate, lying or none"), ("20", "20 what?")] {
        let error = text.parse::<RetryAfter>().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    for text in ["accurate", "20s", "lying", "none"] {
        assert_eq!(text.parse::<RetryAfter>().unwrap().to_string(), text);
    }
}
