//! The load driver against a scripted server on real sockets: what it calls an answer, when it
//! sends, and what it never hides.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use brownout::load::{Driver, Handle};
use brownout::measure::{Observation, Outcome, Recorder, Sample, Tap};
use brownout::net::{Clock, RealClock};
use brownout::units::{Count, SpanRange};
use brownout::workload::{Answer, Arrivals, Plan, Prompts, Sessions, Shape, Stage, Template};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

fn clock() -> Arc<dyn Clock> {
    Arc::new(RealClock::new())
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What the server does in answer to one request.
#[derive(Clone, Debug)]
enum Act {
    Send(String),
    Wait(Duration),
    /// Waits until this much time has passed since the server's start.
    WaitUntil(Duration),
    Close,
    Reset,
    /// Never again a word.
    Hang,
}
use Act::{Close, Hang, Reset, Send, Wait, WaitUntil};

/// A server that plays a script for every request.
struct Server {
    address: SocketAddr,
    started: Instant,
    /// Heads and bodies of the requests, as they came.
    requests: mpsc::UnboundedReceiver<String>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

impl Server {
    async fn start(
        script: impl Fn(Duration) -> Vec<Act> + std::marker::Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        let (started, script) = (Instant::now(), Arc::new(script));
        let counts = Arc::new(Counts::default());
        let counting = counts.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counting.connections.fetch_add(1, Ordering::SeqCst);
                let (script, sender) = (script.clone(), sender.clone());
                let counting = counting.clone();
                tokio::spawn(async move {
                    serve(stream, &*script, &sender, started, &counting).await;
                });
            }
        });
        Self { address, started, requests, counts }
    }

    fn plan(&self) -> Plan {
        plan(format!("http://{}/chat", self.address).parse().unwrap())
    }
}

async fn serve(
    mut stream: TcpStream,
    script: &(dyn Fn(Duration) -> Vec<Act> + std::marker::Send + Sync),
    sender: &mpsc::UnboundedSender<String>,
    started: Instant,
    counts: &Counts,
) {
    stream.set_nodelay(true).unwrap();
    while let Some(request) = read_request(&mut stream).await {
        let _ = sender.send(request);
        let open = counts.open.fetch_add(1, Ordering::SeqCst) + 1;
        counts.most_open.fetch_max(open, Ordering::SeqCst);
        for act in script(started.elapsed()) {
            match act {
                Send(text) => {
                    let _ = stream.write_all(text.as_bytes()).await;
                }
                Wait(time) => tokio::time::sleep(time).await,
                WaitUntil(at) => tokio::time::sleep_until(started + at).await,
                Hang => std::future::pending().await,
                Close => return,
                Reset => {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    return;
                }
            }
        }
        counts.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                })
                .unwrap_or(0usize);
            if body.len() >= length {
                return Some(text.into_owned());
            }
        }
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&more[..n]),
            _ => return None,
        }
    }
}

fn head(status: &str, kind: &str) -> Act {
    Send(format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"))
}

fn sse() -> Act {
    head("200 OK", "text/event-stream")
}

fn piece(text: &str) -> Act {
    Send(format!("{:x}\r\n{text}\r\n", text.len()))
}

fn token(text: &str) -> Act {
    piece(&event(text))
}

fn event(text: &str) -> String {
    format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
}

fn end() -> Act {
    Send("0\r\n\r\n".to_owned())
}

/// A first token after 30 ms, then one every 5 ms.
fn tokens(n: usize) -> Vec<Act> {
    let mut acts = vec![sse(), Wait(ms(30))];
    for _ in 0..n {
        acts.extend([token("word "), Wait(ms(5))]);
    }
    acts
}

fn then(mut acts: Vec<Act>, more: impl IntoIterator<Item = Act>) -> Vec<Act> {
    acts.extend(more);
    acts
}

fn finish() -> [Act; 3] {
    [
        piece("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"),
        piece("data: [DONE]\n\n"),
        end(),
    ]
}

fn json(body: &str) -> Vec<Act> {
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
    vec![Send(format!("{head} {length}\r\n\r\n{body}"))]
}

fn plan(app: url::Url) -> Plan {
    Plan {
        request: Template::for_app(&app),
        app,
        answer: Answer::default(),
        prompts: Prompts::Preset("chat"),
        arrivals: Arrivals::Users { users: 1 },
        sessions: Sessions::default(),
        timeout: Duration::from_secs(20),
        first_token_timeout: None,
        max_in_flight: 1000,
        good_ttft: None,
        good_latency: None,
    }
}

fn constant(rate: f64) -> Arrivals {
    Arrivals::Rate {
        stages: vec![Stage { to: rate, over: Duration::ZERO }],
        shape: Shape::Constant,
    }
}

fn start(plan: &Plan, seed: u64, until: Option<Duration>) -> (Handle, Tap) {
    let (recorder, tap) = Recorder::channel(100_000);
    (Driver::start(plan, seed, clock(), recorder, until).unwrap(), tap)
}

async fn next(tap: &mut Tap) -> Sample {
    let next = tokio::time::timeout(Duration::from_secs(30), tap.next()).await;
    match next.expect("no sample within 30 s") {
        Some(Observation::Sample(sample)) => *sample,
        other => panic!("{other:?}"),
    }
}

/// All samples of a run of this length.
async fn run(plan: &Plan, seed: u64, until: Duration) -> Vec<Sample> {
    let (handle, mut tap) = start(plan, seed, Some(until));
    handle.finished().await;
    let mut samples = Vec::new();
    while let Some(Observation::Sample(sample)) = tap.try_next() {
        samples.push(*sample);
    }
    assert_eq!(samples.len() as u64, handle.planned());
    assert_eq!(handle.in_flight(), 0);
    samples
}

/// The sample of one request to a server that plays this script.
async fn ask(script: Vec<Act>) -> Sample {
    ask_with(script, |plan| plan).await
}

async fn ask_with(script: Vec<Act>, change: impl Fn(Plan) -> Plan) -> Sample {
    let server = Server::start(move |_| script.clone()).await;
    let (handle, mut tap) = start(&change(server.plan()), 1, None);
    let sample = next(&mut tap).await;
    handle.cancel();
    sample
}

fn text(sample: &Sample) -> &str {
    sample.error.as_deref().unwrap_or_default()
}

// === What is called ok, and what is not ===

#[tokio::test]
async fn clean_streams_are_ok() {
    let sample = ask(then(tokens(20), finish())).await;
    assert_eq!(
        (sample.outcome, sample.status, sample.error.clone()),
        (Outcome::Ok, Some(200), None)
    );
    assert!(sample.complete && sample.stream);
    assert_eq!((sample.tokens, sample.gaps.len()), (20, 19));
    let (first, last) = (sample.first_token.unwrap(), sample.last_token.unwrap());
    assert!(first - sample.issued >= ms(30));
    assert!(last - first >= ms(19 * 5));
    assert!(sample.scheduled <= sample.issued && sample.head.unwrap() <= first);
    assert!(sample.first_byte.unwrap() <= first && last <= sample.end);
}

#[tokio::test]
async fn streams_cut_cleanly_are_truncated() {
    let sample = ask(then(tokens(8), [end()])).await;
    assert_eq!((sample.outcome, sample.tokens), (Outcome::Truncated, 8));
    assert!(!sample.complete);
    assert_eq!(text(&sample), "the answer ended without its terminal event");
}

#[tokio::test]
async fn aborted_streams_are_aborted() {
    let sample = ask(then(tokens(8), [Close])).await;
    assert_eq!((sample.outcome, sample.tokens), (Outcome::Aborted, 8));
    assert_eq!(text(&sample), "the connection was closed in mid-answer");
    let sample = ask(then(tokens(8), [Wait(ms(100)), Reset])).await;
    assert_eq!((sample.outcome, sample.tokens), (Outcome::Aborted, 8));
    assert_eq!(text(&sample), "the connection was reset in mid-answer");
    let sample = ask(vec![Close]).await;
    assert_eq!((sample.outcome, sample.status), (Outcome::Aborted, None));
    assert_eq!(text(&sample), "the connection was closed before any answer");
}

#[tokio::test]
async fn nothing_is_sent_twice() {
    // Every other request finds its kept connection closed without a word.
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = asked.clone();
    let server = Server::start(move |_| match counting.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => json("{\"answer\":\"hi\"}"),
        _ => vec![Wait(ms(1)), Close],
    })
    .await;
    let think_time = SpanRange { low: ms(20), high: ms(20) };
    let sessions = Sessions { think_time, ..Sessions::default() };
    let samples = run(&Plan { sessions, ..server.plan() }, 1, ms(600)).await;
    assert_eq!(samples.len(), asked.load(Ordering::SeqCst));
    for (nth, sample) in samples.iter().enumerate() {
        let expected = if nth % 2 == 0 { Outcome::Ok } else { Outcome::Aborted };
        assert_eq!(sample.outcome, expected, "{nth}");
    }
    assert!(samples.len() > 2);
}

#[tokio::test]
async fn errors_inside_a_good_status_are_errors() {
    let error = "data: {\"error\":{\"message\":\"key sk-live-12345678 is over its limit\"}}\n\n";
    let sample = ask(then(tokens(5), [piece(error), Hang])).await;
    assert_eq!((sample.outcome, sample.status), (Outcome::InbandError, Some(200)));
    assert_eq!(text(&sample), "key sk-… is over its limit");
    let sample = ask(json("{\"error\":\"no\"}")).await;
    assert_eq!((sample.outcome, text(&sample)), (Outcome::InbandError, "no"));
}

#[tokio::test]
async fn stalls_show_in_the_gaps() {
    let acts = then(tokens(5), [Wait(ms(400))]);
    let sample = ask(then(acts, [token("late")].into_iter().chain(finish()))).await;
    assert_eq!(sample.outcome, Outcome::Ok);
    let longest = sample.gaps.iter().max().unwrap();
    assert!(*longest >= 400_000, "{:?}", sample.gaps);
    let median = {
        let mut gaps = sample.gaps.to_vec();
        gaps.sort_unstable();
        gaps[gaps.len() / 2]
    };
    assert!(median < 300_000, "{:?}", sample.gaps);
}

#[tokio::test]
async fn a_role_is_no_first_token() {
    let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let acts = vec![sse(), piece(role), Wait(ms(200)), token("hi")];
    let sample = ask(then(acts, finish())).await;
    assert!(sample.first_token.unwrap() - sample.first_byte.unwrap() >= ms(150));
    assert_eq!((sample.outcome, sample.tokens), (Outcome::Ok, 1));
}

#[tokio::test]
async fn tokens_that_come_together_all_count() {
    let five: String = (0..5).map(|_| event("a")).collect();
    let acts = vec![sse(), piece(&five), Wait(ms(50)), piece(&five)];
    let sample = ask(then(acts, finish())).await;
    assert_eq!((sample.outcome, sample.tokens), (Outcome::Ok, 10));
    let longest = *sample.gaps.iter().max().unwrap();
    assert!(longest >= 40_000 && sample.gaps.iter().filter(|gap| **gap == 0).count() == 8);
}

#[tokio::test]
async fn framing_is_read_in_all_its_forms() {
    let crlf = "data: {\"delta\":\"a\"}\r\n\r\ndata: {\"delta\":\"b\"}\r\n\r\ndata: [DONE]\r\n\r\n";
    let sample = ask(vec![sse(), piece(crlf), end()]).await;
    assert_eq!((sample.outcome, sample.tokens), (Outcome::Ok, 2));
    let tight = "data:{\"delta\":\"a\"}\n\ndata:{\"delta\":\"b\"}\n\ndata:[DONE]\n\n";
    let sample = ask(vec![sse(), piece(tight), end()]).await;
    assert_eq!((sample.outcome, sample.tokens), (Outcome::Ok, 2));
    let lines = "{\"response\":\"a\"}\n{\"response\":\"b\"}\n{\"done\":true}\n";
    let ndjson = head("200 OK", "application/x-ndjson");
    let sample =
        ask(vec![ndjson, piece(&lines[..20]), Wait(ms(5)), piece(&lines[20..]), end()]).await;
    assert_eq!((sample.outcome, sample.tokens), (Outcome::Ok, 2));
}

#[tokio::test]
async fn whole_answers_are_read_whole() {
    let sample = ask(json("{\"answer\":\"hi\"}")).await;
    assert_eq!((sample.outcome, sample.tokens, sample.complete), (Outcome::Ok, 1, true));
    assert!(!sample.stream);
    let path = serde_json_path::JsonPath::parse("$.reply").unwrap();
    let with_path = move |plan| Plan {
        answer: Answer { text: Some(path.clone()), ..Answer::default() },
        ..plan
    };
    let sample = ask_with(json("{\"answer\":\"hi\"}"), with_path).await;
    assert_eq!(sample.outcome, Outcome::Invalid);
}

#[tokio::test]
async fn statuses_have_their_classes() {
    let status = |status: &str, more: &str| {
        let body = "{\"error\":{\"message\":\"slow down\"}}";
        let length = body.len();
        vec![Send(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{more}\r\n{body}"))]
    };
    for (answer, outcome) in [
        (status("429 Too Many Requests", ""), Outcome::RateLimited),
        (status("503 Service Unavailable", "retry-after: 3\r\n"), Outcome::RateLimited),
        (status("503 Service Unavailable", ""), Outcome::Http5xx),
        (status("422 Unprocessable Entity", ""), Outcome::Http4xx),
    ] {
        let sample = ask(answer).await;
        assert_eq!((sample.outcome, text(&sample)), (outcome, "slow down"));
    }
}

#[tokio::test]
async fn nobody_there_is_refused() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (_handle, mut tap) =
        start(&plan(format!("http://{unused}/chat").parse().unwrap()), 1, None);
    let sample = next(&mut tap).await;
    assert_eq!((sample.outcome, text(&sample)), (Outcome::Refused, "the connection was refused"));
}

#[tokio::test]
async fn patience_ends() {
    let within =
        |total, first| move |plan| Plan { timeout: total, first_token_timeout: first, ..plan };
    let hang = then(tokens(3), [Hang]);
    let sample = ask_with(hang.clone(), within(ms(300), None)).await;
    assert_eq!((sample.outcome, sample.tokens), (Outcome::Timeout, 3));
    assert_eq!(text(&sample), "timeout (total): no whole answer within 300ms");
    assert!(sample.end - sample.issued >= ms(300));
    let mute = vec![sse(), Hang];
    let sample = ask_with(mute, within(Duration::from_secs(20), Some(ms(100)))).await;
    assert_eq!((sample.outcome, sample.status), (Outcome::Timeout, Some(200)));
    assert_eq!(text(&sample), "timeout (first token): nothing to read within 100ms");
    // Once the first token is there, only the total counts.
    let slow = then(vec![sse(), token("a"), Wait(ms(400))], finish());
    let sample = ask_with(slow, within(Duration::from_secs(20), Some(ms(300)))).await;
    assert_eq!(sample.outcome, Outcome::Ok);
}

// === When requests start ===

#[tokio::test]
async fn a_frozen_server_does_not_slow_arrivals_down() {
    let (freeze, thaw) = (ms(500), ms(1500));
    let server = Server::start(move |now| {
        let wait = if now >= freeze { vec![WaitUntil(thaw)] } else { Vec::new() };
        then(wait, json("{\"answer\":\"hi\"}"))
    })
    .await;
    let plan = Plan { arrivals: constant(50.0), ..server.plan() };
    // The server's clock began a little before this one.
    let clock = clock();
    let ahead = server.started.elapsed() - clock.now();
    let (recorder, mut tap) = Recorder::channel(1000);
    let until = clock.now() + ms(2000);
    let handle = Driver::start(&plan, 1, clock, recorder, Some(until)).unwrap();
    handle.finished().await;
    let mut samples = Vec::new();
    while let Some(Observation::Sample(sample)) = tap.try_next() {
        samples.push(*sample);
    }
    assert!(samples.len() >= 99, "{} arrivals", samples.len());
    assert!(samples.iter().all(|sample| sample.outcome == Outcome::Ok));
    let frozen: Vec<&Sample> =
        samples.iter().filter(|sample| (freeze..thaw).contains(&sample.scheduled)).collect();
    assert!(
        (49..=51).contains(&frozen.len()),
        "{} intended starts in a frozen second",
        frozen.len()
    );
    for sample in frozen {
        let latency = sample.end - sample.scheduled;
        assert!(latency + ms(1) >= thaw - ahead - sample.scheduled, "{latency:?}");
    }
}

#[tokio::test]
async fn arrivals_keep_their_pace() {
    let server = Server::start(|_| json("{\"answer\":\"hi\"}")).await;
    let plan = Plan { arrivals: constant(100.0), ..server.plan() };
    let samples = run(&plan, 1, Duration::from_secs(1)).await;
    assert!((98..=101).contains(&samples.len()), "{} arrivals", samples.len());
    let mut starts: Vec<Duration> = samples.iter().map(|sample| sample.scheduled).collect();
    starts.sort_unstable();
    for pair in starts.windows(2) {
        assert!((pair[1] - pair[0]).abs_diff(ms(10)) < Duration::from_micros(1));
    }
    assert!(samples.iter().all(|sample| sample.issued >= sample.scheduled), "sent early");
    let mut lags: Vec<Duration> =
        samples.iter().map(|sample| sample.issued - sample.scheduled).collect();
    lags.sort_unstable();
    assert!(lags[lags.len() / 2] < ms(100), "median lag {:?}", lags[lags.len() / 2]);
}

#[tokio::test]
async fn the_seed_alone_decides_who_asks_what_and_when() {
    let fast = Server::start(|_| json("{\"answer\":\"hi\"}")).await;
    let slow = Server::start(|now| {
        let wait = now.as_nanos() as u64 % 40;
        vec![Wait(ms(wait)), Send("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".into())]
    })
    .await;
    let think_time = SpanRange { low: ms(1), high: ms(60) };
    let sessions = Sessions { turns: Count { low: 1, high: 3 }, think_time, users: 50 };
    let arrivals = Arrivals::Rate {
        stages: vec![Stage { to: 80.0, over: Duration::ZERO }],
        shape: Shape::Poisson,
    };
    let plan = |server: &Server| Plan { sessions, arrivals: arrivals.clone(), ..server.plan() };
    let one = schedule(run(&plan(&fast), 7, ms(700)).await);
    let two = schedule(run(&plan(&slow), 7, ms(700)).await);
    let other = schedule(run(&plan(&fast), 8, ms(700)).await);
    let both: Vec<_> = one.iter().filter(|line| two.contains(line)).collect();
    // Turns near the end may fall beyond it when answers are slow.
    assert!(both.len() > 20 && both.len() + 12 >= one.len(), "{} of {}", both.len(), one.len());
    assert!(one.iter().filter(|line| other.contains(line)).count() < 3);
}

/// Who, what, and after how much thinking (or how long after the first start).
fn schedule(mut samples: Vec<Sample>) -> Vec<(u64, u32, u32, u64, u128)> {
    samples.sort_by_key(|sample| (sample.session, sample.turn));
    let first = samples.iter().filter(|s| s.turn == 0).map(|s| s.scheduled).min().unwrap();
    let before: std::collections::HashMap<_, _> =
        samples.iter().map(|sample| ((sample.session, sample.turn), sample.end)).collect();
    let gap = |sample: &Sample| {
        let previous =
            sample.turn.checked_sub(1).and_then(|turn| before.get(&(sample.session, turn)));
        (sample.scheduled - *previous.unwrap_or(&first).min(&sample.scheduled)).as_micros()
    };
    samples
        .iter()
        .map(|sample| (sample.session, sample.turn, sample.user, sample.prompt, gap(sample)))
        .collect()
}

#[tokio::test]
async fn a_closed_loop_has_its_number_of_users() {
    let server = Server::start(|_| then(vec![Wait(ms(40))], json("{\"answer\":\"hi\"}"))).await;
    // Fewer slots than users: a closed loop sheds nothing.
    let arrivals = Arrivals::Users { users: 5 };
    let plan = Plan { arrivals, max_in_flight: 2, ..server.plan() };
    let samples = run(&plan, 1, ms(500)).await;
    let users: BTreeSet<u32> = samples.iter().map(|sample| sample.user).collect();
    assert_eq!(users, BTreeSet::from([0, 1, 2, 3, 4]));
    assert_eq!(server.counts.most_open.load(Ordering::SeqCst), 5);
    assert_eq!(server.counts.connections.load(Ordering::SeqCst), 5, "connections are kept");
    assert!(samples.len() >= 10 && samples.len() <= 5 * 13, "{} requests", samples.len());
    assert!(samples.iter().all(|sample| sample.outcome == Outcome::Ok));
}

#[tokio::test]
async fn users_think_between_their_turns() {
    let server = Server::start(|_| json("{\"answer\":\"hi\"}")).await;
    let sessions = Sessions {
        turns: Count { low: 2, high: 2 },
        think_time: SpanRange { low: ms(50), high: ms(80) },
        users: 1,
    };
    let mut samples = run(&Plan { sessions, ..server.plan() }, 1, ms(600)).await;
    samples.sort_by_key(|sample| sample.scheduled);
    assert!(samples.len() >= 3);
    for pair in samples.windows(2) {
        let think = pair[1].scheduled - pair[0].end;
        assert!((ms(50)..=ms(80)).contains(&think), "{think:?}");
    }
    let turns: Vec<(u64, u32)> = samples[..3].iter().map(|s| (s.session, s.turn)).collect();
    assert_eq!(turns, [(0, 0), (0, 1), (1, 0)]);
}

#[tokio::test]
async fn what_cannot_be_sent_is_counted() {
    let server = Server::start(|_| vec![Hang]).await;
    let plan =
        Plan { arrivals: constant(100.0), max_in_flight: 3, timeout: ms(800), ..server.plan() };
    let samples = run(&plan, 1, ms(300)).await;
    let count = |outcome| samples.iter().filter(|sample| sample.outcome == outcome).count();
    assert_eq!(count(Outcome::Timeout), 3);
    assert_eq!(count(Outcome::ShedByDriver), samples.len() - 3);
    assert!((27..=31).contains(&samples.len()));
    assert_eq!(server.counts.most_open.load(Ordering::SeqCst), 3);
}

// === How it ends ===

#[tokio::test]
async fn stragglers_are_waited_for_or_cancelled() {
    let slow = Server::start(|_| then(vec![Wait(ms(300))], json("{\"answer\":\"hi\"}"))).await;
    let (handle, mut tap) = start(&slow.plan(), 1, None);
    while handle.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    handle.stop();
    handle.finished().await;
    assert_eq!(next(&mut tap).await.outcome, Outcome::Ok);
    assert_eq!(handle.planned(), 1);

    let (handle, mut tap) = start(&slow.plan(), 1, None);
    while handle.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    handle.cancel();
    handle.finished().await;
    let sample = next(&mut tap).await;
    assert_eq!(sample.outcome, Outcome::CancelledByDriver);
    assert!(sample.end - sample.issued < ms(300));
}

// === What is sent ===

#[tokio::test]
async fn requests_say_who_is_asking() {
    let mut server = Server::start(|_| json("{\"answer\":\"hi\"}")).await;
    let (_handle, mut tap) = start(&server.plan(), 1, None);
    next(&mut tap).await;
    let request = server.requests.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /chat HTTP/1.1\r\n"), "{head}");
    let header = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name} in {head}")).to_owned()
    };
    assert_eq!(header("x-brownout-session"), "session-0/1");
    assert_eq!(header("x-request-id").len(), 32);
    let trace = header("traceparent");
    assert!(trace.starts_with("00-") && trace.ends_with("-01") && trace.len() == 55, "{trace}");
    let baggage = header("baggage");
    assert!(baggage.contains("brownout.session=session-0/1,"), "{baggage}");
    assert!(baggage.contains("synthetic_request=true"), "{baggage}");
    assert!(header("accept").contains("text/event-stream"));
    assert_eq!(header("host"), server.address.to_string());
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["user"], &body["session"]), (&"user-0".into(), &"session-0".into()));
    assert!(body["message"].as_str().unwrap().len() > 10);
}

#[tokio::test]
async fn later_turns_tell_what_was_said() {
    let mut server = Server::start(|_| then(tokens(2), finish())).await;
    let mut plan = server.plan();
    let text = serde_json::json!({ "role": "user", "content": "${prompt.text}" });
    plan.request.body = Some(serde_json::json!({ "messages": ["${history}", text] }));
    plan.sessions.turns = Count { low: 2, high: 2 };
    let (_handle, mut tap) = start(&plan, 1, None);
    let (first, second) = (next(&mut tap).await, next(&mut tap).await);
    assert_eq!((first.turn, second.turn), (0, 1));
    let mut said = Vec::new();
    for _ in 0..2 {
        let request = server.requests.recv().await.unwrap();
        let body = request.split_once("\r\n\r\n").unwrap().1.to_owned();
        said.push(serde_json::from_str::<serde_json::Value>(&body).unwrap());
    }
    assert_eq!(said[0]["messages"].as_array().unwrap().len(), 1);
    let messages = said[1]["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[0], said[0]["messages"][0]);
    assert_eq!(messages[1]["content"], "word word ");
}
