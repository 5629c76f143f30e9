//! Raw connections in memory, on the paused clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{Raw, serve};
use crate::dialect;
use crate::engine::{Arming, Engine, Rule, Selector};
use crate::fault;
use crate::measure::{Call, CallEnd, Observation, Recorder, Tap};
use crate::net::{Clock, Connector, Origin, PausedClock, Stream};
use crate::units::Ramp;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// An app, an upstream, and the proxy between them.
struct Bench {
    app: DuplexStream,
    upstream: DuplexStream,
    engine: Arc<Engine>,
    dependency: Arc<Raw>,
    tap: Tap,
    connects: Arc<AtomicUsize>,
    began: Instant,
}

impl Bench {
    /// With one fault; `armed` from the start.
    fn start(kind: &str, effect: (&'static str, Value), armed: bool) -> Self {
        let (recorder, tap) = Recorder::channel(16);
        let kinds = fault::KINDS;
        let built = kinds.iter().find(|one| one.name == effect.0).unwrap().try_build;
        let rule = Rule {
            name: "test".into(),
            targets: vec!["db".into()],
            target_text: "db".to_owned(),
            selector: Selector::default(),
            percent: Ramp { from: 100.0, to: 100.0 },
            effects: vec![(effect.0, built(effect.1).unwrap())],
            ..Rule::default()
        };
        let engine = Arc::new(Engine::new(1, vec![rule], Recorder::none()));
        if armed {
            engine.arm("test", Arming::default()).unwrap();
        }
        let (upstream, ours) = duplex(64 << 10);
        let ours = Mutex::new(Some(ours));
        let connects = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connects);
        let make = move || {
            count.fetch_add(1, Ordering::SeqCst);
            ours.lock().take().map(|stream| Stream::Memory(Box::new(stream)))
        };
        let origin = Origin::raw(&"tcp://db:1".parse().unwrap()).unwrap();
        let dependency = Raw {
            name: "db".into(),
            gate: engine.gate("db"),
            hosts: Vec::new(),
            own_host: None,
            dialect: dialect::by_kind(kind).unwrap(),
            tls_passes: false,
            connector: Arc::new(Connector::in_memory(origin, make)),
            engine: Arc::clone(&engine),
            recorder,
            clock: Arc::new(PausedClock::new()) as Arc<dyn Clock>,
            drain: CancellationToken::new(),
        };
        let (app, proxy) = duplex(64 << 10);
        let dependency = Arc::new(dependency);
        tokio::spawn(serve(Stream::Memory(Box::new(proxy)), Arc::clone(&dependency)));
        Self { app, upstream, engine, dependency, tap, connects, began: Instant::now() }
    }

    fn arm(&self) {
        self.engine.arm("test", Arming::default()).unwrap();
    }

    async fn call(&mut self) -> Call {
        match self.tap.next().await {
            Some(Observation::Call(call)) => *call,
            other => panic!("no call but {other:?}"),
        }
    }

    fn passed(&self) -> Duration {
        self.began.elapsed()
    }
}

async fn read(stream: &mut DuplexStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    timeout(Duration::from_secs(7200), stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    bytes
}

async fn rest(stream: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(Duration::from_secs(7200), stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    bytes
}

#[tokio::test(start_paused = true)]
async fn what_is_untouched_passes_and_half_closes() {
    let mut bench = Bench::start("tcp", ("latency", json!({ "add": "1s" })), false);
    bench.app.write_all(b"ask").await.unwrap();
    assert_eq!(read(&mut bench.upstream, 3).await, b"ask");
    // The app sends no more; the answer comes all the same.
    bench.app.shutdown().await.unwrap();
    assert_eq!(rest(&mut bench.upstream).await, b"");
    bench.upstream.write_all(b"answer").await.unwrap();
    assert_eq!(read(&mut bench.app, 6).await, b"answer");
    bench.upstream.shutdown().await.unwrap();
    assert_eq!(rest(&mut bench.app).await, b"");
    assert_eq!(bench.passed(), Duration::ZERO);
    let call = bench.call().await;
    assert_eq!((call.ended, call.bytes, call.upstream), (CallEnd::Complete, 6, true));
    assert!(!call.failed() && call.faults.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_delay_delays_each_piece_and_does_not_throttle() {
    let latency = json!({ "add": "100ms", "direction": "down" });
    let mut bench = Bench::start("tcp", ("latency", latency), true);
    bench.app.write_all(b"ask").await.unwrap();
    read(&mut bench.upstream, 3).await;
    assert_eq!(bench.passed(), ms(0), "up is not held");
    for piece in [b"a", b"b", b"c"] {
        bench.upstream.write_all(piece).await.unwrap();
        tokio::time::sleep(ms(10)).await;
    }
    let mut times = Vec::new();
    for _ in 0..3 {
        read(&mut bench.app, 1).await;
        times.push(bench.passed());
    }
    assert_eq!(times, [ms(100), ms(110), ms(120)]);
    drop((bench.app, bench.upstream));
    let Some(Observation::Call(call)) = bench.tap.next().await else { panic!("a call") };
    assert_eq!((call.faults.len(), call.injected_delay), (1, ms(120)));
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_is_armed_later_acts_on_a_connection_that_is_there() {
    let mut bench = Bench::start("tcp", ("latency", json!({ "add": "50ms" })), false);
    for (armed, took) in [(false, 0), (true, 100), (false, 0), (true, 100)] {
        if armed {
            bench.arm();
        } else {
            bench.engine.disarm("test");
        }
        let before = bench.passed();
        bench.app.write_all(b"ask").await.unwrap();
        read(&mut bench.upstream, 3).await;
        bench.upstream.write_all(b"answer").await.unwrap();
        read(&mut bench.app, 6).await;
        assert_eq!(bench.passed() - before, ms(took));
    }
    assert_eq!(bench.connects.load(Ordering::SeqCst), 1);
    drop(bench.app);
    let tally = bench.engine.tallies().remove(0).1;
    assert_eq!((tally.armed, tally.hit), (1, 1), "the second one is still open");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_let_go_when_the_fault_is_lifted() {
    let mut bench = Bench::start("tcp", ("stall", json!({ "after": "2B", "pause": "1h" })), true);
    bench.upstream.write_all(b"answer").await.unwrap();
    assert_eq!(read(&mut bench.app, 2).await, b"an");
    tokio::time::sleep(ms(500)).await;
    // The other direction is not held.
    bench.app.write_all(b"more").await.unwrap();
    assert_eq!(read(&mut bench.upstream, 4).await, b"more");
    bench.engine.disarm("test");
    assert_eq!(read(&mut bench.app, 4).await, b"swer");
    assert_eq!(bench.passed(), ms(500));
}

#[tokio::test(start_paused = true)]
async fn a_sender_waits_while_its_bytes_are_held() {
    let mut bench = Bench::start("tcp", ("stall", json!({ "pause": "30s" })), true);
    let Bench { app, upstream, .. } = &mut bench;
    let mut sent = 0;
    let piece = vec![b'x'; 16 << 10];
    while timeout(Duration::from_secs(1), upstream.write_all(&piece)).await.is_ok() {
        sent += piece.len();
        assert!(sent < 4 << 20, "nothing holds it back");
    }
    assert!(sent >= 256 << 10, "some is read ahead: {sent}");
    assert_eq!(read(app, sent).await.len(), sent);
    assert!(bench.passed() >= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_thin_line_takes_its_time() {
    let mut bench = Bench::start("tcp", ("bandwidth", json!({ "rate": "100kB/s" })), true);
    let bytes: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
    bench.upstream.write_all(&bytes).await.unwrap();
    assert_eq!(read(&mut bench.app, 50_000).await, bytes);
    let took = bench.passed();
    assert!(took >= ms(475) && took <= ms(510), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn pieces_come_one_by_one() {
    let slice = json!({ "size": "2 bytes", "delay": "10ms", "direction": "up" });
    let mut bench = Bench::start("tcp", ("slice", slice), true);
    bench.app.write_all(b"123456").await.unwrap();
    for (at, piece) in [(0, b"12"), (10, b"34"), (20, b"56")] {
        assert_eq!(read(&mut bench.upstream, 2).await, piece);
        assert_eq!(bench.passed(), ms(at));
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_can_be_late() {
    let mut bench = Bench::start("tcp", ("slow_close", json!({ "delay": "5s" })), true);
    bench.upstream.write_all(b"bye").await.unwrap();
    bench.upstream.shutdown().await.unwrap();
    assert_eq!(read(&mut bench.app, 3).await, b"bye");
    assert_eq!(bench.passed(), ms(0));
    assert_eq!(rest(&mut bench.app).await, b"");
    assert_eq!(bench.passed(), ms(5000));
    bench.app.shutdown().await.unwrap();
    let call = bench.call().await;
    assert_eq!((call.ended, call.faults.len()), (CallEnd::Complete, 1));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_limited() {
    let cut = json!({ "after": "4B", "ending": "close" });
    let mut bench = Bench::start("tcp", ("truncate", cut), true);
    bench.upstream.write_all(b"ans").await.unwrap();
    assert_eq!(read(&mut bench.app, 3).await, b"ans");
    bench.upstream.write_all(b"wer").await.unwrap();
    assert_eq!(rest(&mut bench.app).await, b"w");
    assert_eq!(bench.call().await.ended, CallEnd::Injected);
}

#[tokio::test(start_paused = true)]
async fn silence_lasts_as_long_as_the_fault() {
    let mut bench = Bench::start("tcp", ("outage", json!({ "mode": "blackhole" })), true);
    bench.app.write_all(b"anybody?").await.unwrap();
    assert!(timeout(Duration::from_secs(600), bench.app.read_u8()).await.is_err());
    assert_eq!(bench.connects.load(Ordering::SeqCst), 0, "the upstream is not called");
    bench.engine.disarm("test");
    assert_eq!(rest(&mut bench.app).await, b"");
    let call = bench.call().await;
    assert_eq!((call.ended, call.upstream), (CallEnd::Injected, false));
}

#[tokio::test(start_paused = true)]
async fn what_needs_requests_is_impossible_and_leaves_the_bytes_alone() {
    for (effect, options) in [
        ("error", json!({ "as": "timeout" })),
        ("slow_stream", json!({ "tokens_per_second": 1 })),
        ("rate_limit", json!({ "requests_per_minute": 1 })),
        ("truncate", json!({ "after": "3 tokens" })),
        ("stall", json!({ "after": "3 events" })),
        ("latency", json!({ "multiply": 3 })),
        ("outage", json!({ "mode": "http_503" })),
    ] {
        let mut bench = Bench::start("tcp", (effect, options), true);
        bench.upstream.write_all(b"answer").await.unwrap();
        assert_eq!(read(&mut bench.app, 6).await, b"answer", "{effect}");
        assert_eq!(bench.passed(), ms(0), "{effect}");
        drop((bench.app, bench.upstream));
        assert!(bench.tap.next().await.is_some());
        let tally = bench.engine.tallies().remove(0).1;
        assert_eq!((tally.hit, tally.impossible), (0, 1), "{effect}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_refuses_ends_the_apps_connection() {
    for kind in ["tcp", "redis"] {
        let (app, proxy) = duplex(64);
        let mut bench = Bench::start(kind, ("latency", json!({ "add": "1s" })), false);
        // The one stream to the upstream is taken; who comes second is refused.
        tokio::time::sleep(ms(1)).await;
        tokio::spawn(serve(Stream::Memory(Box::new(proxy)), Arc::clone(&bench.dependency)));
        let mut app = app;
        assert_eq!(rest(&mut app).await, b"", "{kind}");
        let call = bench.call().await;
        assert_eq!((call.ended, call.upstream), (CallEnd::UpstreamFailed, false), "{kind}");
    }
}

// ── Redis, whose requests are read ──────────────────────────────────────────────────────────

const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";

#[tokio::test(start_paused = true)]
async fn each_command_is_decided_on() {
    let mut bench = Bench::start("redis", ("latency", json!({ "add": "40ms" })), false);
    for (armed, took) in [(false, 0), (true, 40), (true, 40), (false, 0)] {
        if armed {
            bench.arm();
        } else {
            bench.engine.disarm("test");
        }
        let before = bench.passed();
        bench.app.write_all(GET).await.unwrap();
        assert_eq!(read(&mut bench.upstream, GET.len()).await, GET);
        bench.upstream.write_all(b"$1\r\nx\r\n").await.unwrap();
        assert_eq!(read(&mut bench.app, 7).await, b"$1\r\nx\r\n");
        assert_eq!(bench.passed() - before, ms(took));
        let call = bench.call().await;
        assert_eq!((call.ended, call.status, call.bytes), (CallEnd::Complete, Some(200), 7));
        assert_eq!(call.faults.len(), usize::from(armed));
    }
    assert_eq!(bench.engine.tallies().remove(0).1.hit, 2);
}

#[tokio::test(start_paused = true)]
async fn answers_of_ours_keep_their_place_in_a_pipeline() {
    let mut bench = Bench::start("redis", ("error", json!({ "as": "busy" })), false);
    bench.app.write_all(GET).await.unwrap();
    read(&mut bench.upstream, GET.len()).await;
    bench.arm();
    bench.app.write_all(GET).await.unwrap();
    // The first answer has not come yet: ours waits.
    assert!(timeout(ms(100), bench.app.read_u8()).await.is_err());
    bench.upstream.write_all(b"$1\r\nx\r\n").await.unwrap();
    assert_eq!(read(&mut bench.app, 7).await, b"$1\r\nx\r\n");
    assert!(read(&mut bench.app, 20).await.starts_with(b"-BUSY Redis is busy"));
    assert_eq!(bench.call().await.status, Some(200));
    let call = bench.call().await;
    assert_eq!((call.status, call.ended, call.upstream), (Some(503), CallEnd::Injected, false));
    bench.app.shutdown().await.unwrap();
    assert_eq!(rest(&mut bench.upstream).await, b"", "the upstream never saw it");
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_cut_or_shortened() {
    let list = b"*3\r\n:1\r\n:2\r\n:3\r\n";
    for (options, left, ended) in [
        (json!({ "after": "2 rows" }), &b"*2\r\n:1\r\n:2\r\n"[..], false),
        (json!({ "after": "6B", "ending": "close" }), &b"*3\r\n:1"[..], true),
        (json!({ "after": "6B" }), &b"*3\r\n:1"[..], true),
    ] {
        let mut bench = Bench::start("redis", ("truncate", options.clone()), true);
        bench.app.write_all(GET).await.unwrap();
        read(&mut bench.upstream, GET.len()).await;
        bench.upstream.write_all(list).await.unwrap();
        assert_eq!(read(&mut bench.app, left.len()).await, left, "{options}");
        if ended {
            assert_eq!(rest(&mut bench.app).await, b"", "{options}");
        } else {
            bench.engine.disarm("test");
            bench.app.write_all(GET).await.unwrap();
            read(&mut bench.upstream, GET.len()).await;
            bench.upstream.write_all(b":7\r\n").await.unwrap();
            assert_eq!(read(&mut bench.app, 4).await, b":7\r\n", "the next one is whole");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_protocol_passes_all_the_same() {
    let mut bench = Bench::start("redis", ("error", json!({ "as": "busy" })), true);
    bench.app.write_all(b"*x\r\nwhat").await.unwrap();
    assert_eq!(read(&mut bench.upstream, 8).await, b"*x\r\nwhat");
    bench.upstream.write_all(b"?").await.unwrap();
    assert_eq!(read(&mut bench.app, 1).await, b"?");
}

#[tokio::test(start_paused = true)]
async fn bytes_of_a_protocol_can_be_slow_too() {
    let mut bench = Bench::start("redis", ("bandwidth", json!({ "rate": "10kB/s" })), true);
    bench.app.write_all(GET).await.unwrap();
    read(&mut bench.upstream, GET.len()).await;
    let reply = [b"$4990\r\n", &[b'x'; 4990][..], b"\r\n"].concat();
    bench.upstream.write_all(&reply).await.unwrap();
    assert_eq!(read(&mut bench.app, reply.len()).await, reply);
    assert!(bench.passed() >= ms(470), "{:?}", bench.passed());
}
