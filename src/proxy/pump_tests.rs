//! Faults carried out on the paused clock: real hyper on both ends, streams in memory.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::duplex;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::connection::{Dependency, serve};
use super::request::RequestBody;
use super::route::Route;
use crate::dialect;
use crate::engine::identify::Identify;
use crate::engine::{Arming, Engine, Rule, Selector};
use crate::fault;
use crate::measure::{Call, CallEnd, Observation, Recorder, Tap};
use crate::net::{Clock, Origin, PausedClock, Pool, Stream};
use crate::units::Ramp;

/// A body of so many events, each so long after the one before.
struct Ticking {
    left: u32,
    every: Duration,
    next: Pin<Box<Sleep>>,
}

const EVENT: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":null}]}\n\n";

impl Ticking {
    fn new(events: u32, every: Duration) -> Self {
        Self { left: events, every, next: Box::pin(sleep_until(Instant::now())) }
    }
}

impl Body for Ticking {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        ready!(self.next.as_mut().poll(cx));
        self.left -= 1;
        let next = Instant::now() + self.every;
        self.next.as_mut().reset(next);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(EVENT.as_bytes())))))
    }
}

/// An app's connection to a proxy in front of an upstream that ticks.
struct Bench {
    app: SendRequest<Empty<Bytes>>,
    tap: Tap,
}

impl Bench {
    async fn start(events: u32, every: Duration, faults: &[(&'static str, Value)]) -> Self {
        let (recorder, tap) = Recorder::channel(16);
        let engine = Engine::new(1, vec![rule(faults)], Recorder::none());
        if !faults.is_empty() {
            engine.arm("test", Arming::default()).unwrap();
        }
        let dependency = dependency(engine, recorder, upstream(events, every));
        let (app, proxy) = duplex(64 << 10);
        let route = Arc::new(Route::Fixed(Arc::new(dependency)));
        let drain = route.drain().clone();
        tokio::spawn(serve(Stream::Memory(Box::new(proxy)), route, drain, None));
        let (app, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(app)).await.unwrap();
        tokio::spawn(connection);
        Self { app, tap }
    }

    async fn ask(&mut self) -> Response<Incoming> {
        let request = Request::post("/v1/chat/completions").header("host", "llm");
        self.app.send_request(request.body(Empty::new()).unwrap()).await.unwrap()
    }

    async fn call(&mut self) -> Call {
        match self.tap.next().await {
            Some(Observation::Call(call)) => *call,
            other => panic!("no call but {other:?}"),
        }
    }
}

pub(super) fn dependency(
    engine: Engine,
    recorder: Recorder,
    pool: Pool<RequestBody>,
) -> Dependency {
    Dependency {
        name: "llm".into(),
        hosts: Vec::new(),
        own_host: None,
        path: "/llm".to_owned(),
        gate: engine.gate("llm"),
        dialect: dialect::by_kind("openai").unwrap(),
        identify: Identify::default(),
        pool,
        engine: Arc::new(engine),
        recorder,
        clock: Arc::new(PausedClock::new()) as Arc<dyn Clock>,
        drain: CancellationToken::new(),
        mark_faults: false,
        latest: Arc::default(),
        _keeps: None,
    }
}

pub(super) fn rule(faults: &[(&'static str, Value)]) -> Rule {
    let effects = faults.iter().map(|(name, options)| {
        let kind = fault::KINDS.iter().find(|kind| kind.name == *name).unwrap();
        (*name, (kind.try_build)(options.clone()).unwrap())
    });
    Rule {
        name: "test".into(),
        targets: vec!["llm".into()],
        target_text: "llm".to_owned(),
        selector: Selector::default(),
        percent: Ramp { from: 100.0, to: 100.0 },
        effects: effects.collect(),
        ..Rule::default()
    }
}

pub(super) fn upstream<B>(events: u32, every: Duration) -> Pool<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let origin = Origin::new(&"http://upstream:1".parse().unwrap()).unwrap();
    Pool::in_memory(origin, move || {
        let (proxy, upstream) = duplex(64 << 10);
        let service = service_fn(move |_| async move {
            let answer = Response::builder().header("content-type", "text/event-stream");
            answer.body(Ticking::new(events, every))
        });
        let server = hyper::server::conn::http1::Builder::new();
        tokio::spawn(server.serve_connection(TokioIo::new(upstream), service));
        Some(Stream::Memory(Box::new(proxy)))
    })
}

/// When each event came, and whether the body was whole.
async fn events(body: Incoming) -> (Vec<Duration>, bool) {
    let (start, mut times, mut body) = (Instant::now(), Vec::new(), body);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return (times, false) };
        let count = frame.into_data().unwrap().len() / EVENT.len();
        times.extend(std::iter::repeat_n(start.elapsed(), count));
    }
    (times, true)
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_stream_passes_as_it_comes() {
    let mut bench = Bench::start(57, Duration::from_secs(60), &[]).await;
    let (times, whole) = events(bench.ask().await.into_body()).await;
    assert!(whole);
    let minutes: Vec<u64> =
        times.iter().map(|time| (time.as_millis() as u64 + 100) / 60_000).collect();
    assert_eq!(minutes, (0..57).collect::<Vec<u64>>());
    let call = bench.call().await;
    assert_eq!(call.ended, CallEnd::Complete);
    assert_eq!(call.bytes, 57 * EVENT.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn latency_comes_before_the_head_and_faults_follow_each_other() {
    let faults = [
        ("latency", json!({ "add": "40m" })),
        ("stall", json!({ "after": "2 tokens", "pause": "30m" })),
    ];
    let mut bench = Bench::start(5, Duration::from_secs(1), &faults).await;
    let start = Instant::now();
    let answer = bench.ask().await;
    assert!(start.elapsed() >= Duration::from_secs(40 * 60), "{:?}", start.elapsed());
    let (times, whole) = events(answer.into_body()).await;
    assert!(whole);
    assert_eq!(times.len(), 5);
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest >= Duration::from_secs(30 * 60), "{times:?}");
    assert!(longest < Duration::from_secs(31 * 60), "{times:?}");
    let call = bench.call().await;
    assert_eq!(call.ended, CallEnd::Complete);
    assert!(call.injected_delay >= Duration::from_secs(70 * 60), "{:?}", call.injected_delay);
    assert_eq!(call.faults, ["test".into()]);
}

#[tokio::test(start_paused = true)]
async fn a_cut_comes_after_exactly_so_many_events() {
    let faults = [("truncate", json!({ "after": "3 events", "ending": "close" }))];
    let mut bench = Bench::start(10, Duration::from_secs(60), &faults).await;
    let (times, whole) = events(bench.ask().await.into_body()).await;
    assert_eq!((times.len(), whole), (3, false));
    assert_eq!(bench.call().await.ended, CallEnd::Injected);
}

#[tokio::test(start_paused = true)]
async fn bursts_come_at_their_time_and_hold_nothing_longer() {
    let faults = [("burst", json!({ "every": "10m" }))];
    let mut bench = Bench::start(9, Duration::from_secs(240), &faults).await;
    let (times, whole) = events(bench.ask().await.into_body()).await;
    assert!(whole);
    // An event each 4 minutes: at 0, 4 and 8, delivered at 10; the next burst begins at 12.
    let minutes: Vec<u64> =
        times.iter().map(|time| (time.as_millis() as u64 + 100) / 60_000).collect();
    assert_eq!(minutes, [10, 10, 10, 22, 22, 22, 32, 32, 32], "the last waits for the end alone");
    assert_eq!(bench.call().await.ended, CallEnd::Complete);
}

#[tokio::test(start_paused = true)]
async fn keep_alives_for_ever_end_with_the_app() {
    let faults = [("keep_alive", json!({ "every": "10s" }))];
    let Bench { mut app, mut tap } = Bench::start(3, Duration::ZERO, &faults).await;
    let request = Request::post("/").header("host", "llm").body(Empty::new()).unwrap();
    let mut body = app.send_request(request).await.unwrap().into_body();
    let start = Instant::now();
    for _ in 0..100 {
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), ": keep-alive\n\n");
    }
    assert_eq!(start.elapsed().as_secs(), 1000);
    drop((body, app));
    let Some(Observation::Call(call)) = tap.next().await else { panic!("no call") };
    assert_eq!(call.ended, CallEnd::Injected);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_goes_away_while_it_is_held_is_noticed_at_once() {
    let faults = [("latency", json!({ "add": "1h" }))];
    let Bench { mut app, mut tap } = Bench::start(1, Duration::ZERO, &faults).await;
    let request = Request::post("/").header("host", "llm").body(Empty::new()).unwrap();
    let gone = tokio::time::timeout(Duration::from_secs(90), app.send_request(request)).await;
    assert!(gone.is_err());
    drop(app);
    let Some(Observation::Call(call)) = tap.next().await else { panic!("no call") };
    assert_eq!((call.ended, call.upstream), (CallEnd::ClientGone, false));
    assert_eq!(call.injected_delay.as_secs(), 90);
}
