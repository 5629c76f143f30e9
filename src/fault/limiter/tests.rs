use super::*;

fn limit(measure: Measure, counting: Counting, count: u64, burst: f64) -> Limit {
    let (period, start, enough) = (MINUTE, burst, burst);
    Limit { measure, counting, count, period, burst, start, enough }
}

fn minutely(
    counting: Counting,
    requests: Option<(u64, f64)>,
    tokens: Option<(u64, f64)>,
) -> Limiter {
    let of = |measure, given: Option<(u64, f64)>| {
        given.map(|(count, burst)| limit(measure, counting, count, burst))
    };
    let counted = of(Measure::Requests, requests).into_iter().chain(of(Measure::Tokens, tokens));
    Limiter::new(Limits { counted: counted.collect(), ..Limits::default() })
}

/// How long a request must wait; None when it passed.
fn waits(told: Told) -> Option<Duration> {
    told.refused.map(|refused| refused.wait.expect("no limit of requests at once"))
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn the_wait_is_exact() {
    let mut limiter = minutely(Counting::TokenBucket, Some((60, 2.0)), None);
    assert_eq!(waits(limiter.check(secs(0.0), 1, 0)), None);
    assert_eq!(waits(limiter.check(secs(0.0), 1, 0)), None);
    let wait = waits(limiter.check(secs(0.3), 1, 0)).unwrap();
    assert!(wait.abs_diff(secs(0.7)) < Duration::from_micros(2), "{wait:?}");
    let before = secs(0.3) + wait - Duration::from_millis(1);
    assert!(waits(limiter.check(before, 1, 0)).is_some(), "just before it fails");
    assert_eq!(waits(limiter.check(secs(0.3) + wait, 1, 0)), None, "then it passes");
}

#[test]
fn both_limits_hold_or_nothing_is_taken() {
    let mut limiter = minutely(Counting::TokenBucket, Some((60, 5.0)), Some((600, 100.0)));
    let first = limiter.check(secs(0.0), 1, 80);
    assert_eq!(waits(first), None);
    let told = limiter.check(secs(0.0), 1, 50);
    assert_eq!(waits(told), Some(secs(3.0)), "30 tokens are missing, 10 flow back each second");
    assert_eq!(told.quota.requests.unwrap().remaining, 4, "the request was not taken");
    assert_eq!(told.quota.tokens.unwrap().remaining, 20);
    limiter.correct(first.receipt, 60);
    assert_eq!(waits(limiter.check(secs(0.0), 1, 50)), None, "unused tokens came back");
    limiter.clear();
    assert_eq!(waits(limiter.check(secs(0.0), 1, 100)), None);
    limiter.correct(first.receipt, 60);
    assert!(waits(limiter.check(secs(0.0), 1, 50)).is_some(), "of another arming");
}

#[test]
fn corrections_stay_in_their_window() {
    let mut limiter = minutely(Counting::FixedWindow, None, Some((100, 100.0)));
    let first = limiter.check(secs(0.0), 1, 80);
    assert_eq!(waits(limiter.check(secs(70.0), 1, 80)), None);
    limiter.correct(first.receipt, 60);
    assert!(waits(limiter.check(secs(71.0), 1, 40)).is_some());
}

#[test]
fn a_request_larger_than_the_burst_passes_and_owes() {
    let mut limiter = minutely(Counting::TokenBucket, None, Some((600, 100.0)));
    assert_eq!(waits(limiter.check(secs(0.0), 1, 400)), None);
    assert_eq!(waits(limiter.check(secs(0.0), 1, 10)), Some(secs(31.0)));
    assert_eq!(waits(limiter.check(secs(31.0), 1, 10)), None);
}

#[test]
fn a_window_begins_anew_each_minute() {
    let mut limiter = minutely(Counting::FixedWindow, Some((10, 10.0)), None);
    let passed = |limiter: &mut Limiter, from: u64, to: u64| {
        (from..to).filter(|s| waits(limiter.check(Duration::from_secs(*s), 1, 0)).is_none()).count()
    };
    assert_eq!(passed(&mut limiter, 5, 65), 10, "its minute began with the first request");
    assert_eq!(passed(&mut limiter, 65, 66), 1);
    let mut limiter = minutely(Counting::FixedWindow, Some((1, 1.0)), None);
    limiter.check(secs(5.0), 1, 0);
    assert_eq!(waits(limiter.check(secs(50.0), 1, 0)), Some(secs(15.0)));
}

#[test]
fn accounts_are_separate_and_bounded() {
    let mut limiter = minutely(Counting::TokenBucket, Some((60, 1.0)), None);
    for account in 0..50_000 {
        assert_eq!(waits(limiter.check(secs(account as f64), account, 0)), None);
    }
    assert!(limiter.accounts.len() <= ACCOUNTS);
    assert!(limiter.accounts.contains_key(&49_999));
    // A flood at one instant must not grow it either.
    for account in 0..50_000 {
        limiter.check(secs(1e6), 1_000_000 + account, 0);
    }
    assert!(limiter.accounts.len() <= ACCOUNTS);
}

const EVERY_DAY: Limit = Limit {
    measure: Measure::Requests,
    counting: Counting::FixedWindow,
    count: 3,
    period: DAY,
    burst: 3.0,
    start: 3.0,
    enough: 3.0,
};

#[test]
fn the_limit_that_holds_longest_refuses() {
    let minute = limit(Measure::Requests, Counting::TokenBucket, 60, 2.0);
    let limits = Limits { counted: vec![minute, EVERY_DAY], ..Limits::default() };
    let mut limiter = Limiter::new(limits);
    let over = |limiter: &mut Limiter, at: f64| limiter.check(secs(at), 1, 0).refused;
    assert_eq!((over(&mut limiter, 0.0), over(&mut limiter, 0.0)), (None, None));
    assert_eq!(over(&mut limiter, 0.0).unwrap().over, Over::Minute);
    assert_eq!(over(&mut limiter, 1.0), None, "the refused one took nothing of the day");
    let told = limiter.check(secs(2.0), 1, 0);
    let refused = told.refused.unwrap();
    assert_eq!((refused.over, refused.wait), (Over::Day, Some(DAY - secs(2.0))));
    let gauge = told.quota.requests.unwrap();
    assert_eq!((gauge.limit, gauge.remaining), (3, 0), "the day's numbers are told");
    assert_eq!(over(&mut limiter, 86_400.0), None, "a new day");
}

#[test]
fn requests_at_once_are_given_back_and_never_more_than_once() {
    let limits = Limits { at_once: Some(2), ..Limits::default() };
    let mut limiter = Limiter::new(limits);
    let first = limiter.check(secs(0.0), 1, 0);
    assert_eq!(limiter.check(secs(0.0), 1, 0).refused, None);
    let full = Some(Refused { over: Over::AtOnce, wait: None });
    assert_eq!(limiter.check(secs(9.0), 1, 0).refused, full);
    assert_eq!(limiter.check(secs(9.0), 2, 0).refused, None, "another account");
    limiter.ended(first.receipt);
    assert_eq!(limiter.check(secs(9.0), 1, 0).refused, None);
    assert_eq!(limiter.check(secs(9.0), 1, 0).refused, full);
    limiter.clear();
    let of_now = limiter.check(secs(9.0), 1, 0);
    limiter.ended(first.receipt);
    assert_eq!(limiter.check(secs(9.0), 1, 0).refused, None);
    assert_eq!(limiter.check(secs(9.0), 1, 0).refused, full, "of another arming: not given back");
    assert_eq!(of_now.refused, None);
}

#[test]
fn the_load_may_rise_so_steeply_and_no_more() {
    let ramp = Ramp { base: 10.0, growth: 2.0, window: secs(60.0) };
    let mut limiter = Limiter::new(Limits { ramp: Some(ramp), ..Limits::default() });
    let mut passed = |minute: u64| {
        (0..100)
            .filter(|i| {
                let at = Duration::from_millis(minute * 60_000 + i * 500);
                limiter.check(at, 1, 0).refused.is_none()
            })
            .count()
    };
    let minutes: Vec<usize> = (0..5).map(&mut passed).collect();
    assert_eq!(minutes, [10, 20, 40, 80, 100]);
    assert_eq!(passed(7), 10, "a minute without requests begins at the foot again");
    let refused = limiter.check(secs(7.0 * 60.0 + 50.0), 1, 0).refused.unwrap();
    assert_eq!((refused.over, refused.wait), (Over::Ramp, Some(secs(10.0))));
}
