//! Sockets in memory and in virtual time: raw frames in, raw frames out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::connection::{Dependency, serve};
use super::pump_tests::rule;
use super::route::Route;
use crate::dialect;
use crate::engine::identify::Identify;
use crate::engine::{Arming, Engine};
use crate::exchange::{Event, Item};
use crate::measure::{Call, CallEnd, Observation, Recorder, Tap};
use crate::net::{Clock, Origin, PausedClock, Pool, Stream};
use crate::wire::websocket::{Kind, Side, Splitter, Tracker, frame};

const ASK: &str = "GET /v1/realtime?model=m HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
const OPEN: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// One side of a socket.
struct Peer {
    stream: DuplexStream,
    frames: Splitter,
}

impl Peer {
    /// `hears` says whose frames it reads.
    fn new(stream: DuplexStream, hears: Side) -> Self {
        Self { stream, frames: Splitter::from(Tracker::new(hears, false)) }
    }

    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// The next message or piece; None at the end.
    async fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.frames.next() {
                return Some(item);
            }
            let mut piece = vec![0; 4096];
            let read = self.stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
            piece.truncate(read);
            self.frames.push(Bytes::from(piece));
        }
    }

    /// The next message as `kind:payload`; `end` at the end, `bytes` for what is no message.
    async fn word(&mut self) -> String {
        match self.next().await {
            Some(Item::Event(Event { name, data, .. })) => {
                format!("{}:{}", name.unwrap_or_default(), String::from_utf8_lossy(&data))
            }
            Some(_) => "bytes".to_owned(),
            None => "end".to_owned(),
        }
    }
}

struct Bench {
    app: Peer,
    upstream: Peer,
    engine: Arc<Engine>,
    tap: Tap,
    asked: String,
}

impl Bench {
    /// An open socket, with the fault armed before or not.
    async fn open(armed: bool, faults: &[(&'static str, Value)]) -> Self {
        let mut bench = Self::ask(armed, faults).await;
        bench.upstream.write(OPEN).await;
        assert!(bench.app.head().await.starts_with("HTTP/1.1 101"));
        bench
    }

    /// The upstream has read the handshake.
    async fn ask(armed: bool, faults: &[(&'static str, Value)]) -> Self {
        let (recorder, tap) = Recorder::channel(16);
        let engine = Arc::new(Engine::new(1, vec![rule(faults)], Recorder::none()));
        if armed {
            engine.arm("test", Arming::default()).unwrap();
        }
        let (made, mut upstreams) = mpsc::unbounded_channel();
        let made = Mutex::new(made);
        let origin = Origin::new(&"http://upstream:1".parse().unwrap()).unwrap();
        let pool = Pool::in_memory(origin, move || {
            let (proxy, upstream) = duplex(1 << 20);
            made.lock().send(upstream).ok()?;
            Some(Stream::Memory(Box::new(proxy)))
        });
        let dependency = Dependency {
            name: "llm".into(),
            hosts: Vec::new(),
            own_host: None,
            path: "/llm".to_owned(),
            gate: engine.gate("llm"),
            dialect: dialect::by_kind("openai").unwrap(),
            identify: Identify::default(),
            pool,
            engine: Arc::clone(&engine),
            recorder,
            clock: Arc::new(PausedClock::new()) as Arc<dyn Clock>,
            drain: CancellationToken::new(),
            mark_faults: false,
            latest: Arc::default(),
            _keeps: None,
        };
        let (app, proxy) = duplex(1 << 20);
        let route = Arc::new(Route::Fixed(Arc::new(dependency)));
        let drain = route.drain().clone();
        tokio::spawn(serve(Stream::Memory(Box::new(proxy)), route, drain, None));
        let mut app = Peer::new(app, Side::Upstream);
        app.write(ASK).await;
        let mut upstream = Peer::new(upstreams.recv().await.unwrap(), Side::App);
        let asked = upstream.head().await;
        Self { app, upstream, engine, tap, asked }
    }

    fn arm(&self) {
        self.engine.arm("test", Arming::default()).unwrap();
    }

    async fn say(&mut self, text: &str) {
        self.upstream.write(token(text)).await;
    }

    /// A message arrives unchanged: what was said before it has passed the proxy.
    async fn passes(&mut self, text: &str) {
        self.say(text).await;
        assert_eq!(self.app.next().await.unwrap().raw(), &token(text));
    }

    async fn call(&mut self) -> Call {
        match self.tap.next().await {
            Some(Observation::Call(call)) => *call,
            other => panic!("no call but {other:?}"),
        }
    }
}

/// A message that is a token to OpenAI.
fn token(text: &str) -> Bytes {
    let event = json!({ "type": "response.output_text.delta", "delta": text });
    frame(Kind::Text, event.to_string().as_bytes(), None)
}

fn masked(text: &str) -> Bytes {
    frame(Kind::Text, text.as_bytes(), Some([1, 2, 3, 4]))
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Two times that are one but for the scheduling of tasks.
fn near(time: Duration, wanted: Duration) -> bool {
    time >= wanted && time <= wanted + ms(5)
}

#[tokio::test(start_paused = true)]
async fn each_message_comes_later_without_holding_up_the_next() {
    let faults = [("latency", json!({ "add": "200ms", "at": "each_message" }))];
    let mut bench = Bench::open(true, &faults).await;
    let start = Instant::now();
    let Bench { app, upstream, .. } = &mut bench;
    let said = async {
        for index in 0..10 {
            upstream.write(token(&index.to_string())).await;
            sleep(ms(20)).await;
        }
    };
    let heard = async {
        for index in 0..10 {
            app.next().await.unwrap();
            let time = start.elapsed();
            assert!(near(time, ms(200 + 20 * index)), "{index}: {time:?}");
        }
    };
    tokio::join!(said, heard);
}

#[tokio::test(start_paused = true)]
async fn a_stall_holds_the_third_token_and_loses_nothing() {
    let faults = [("stall", json!({ "after": "2 tokens", "pause": "30s" }))];
    let mut bench = Bench::open(true, &faults).await;
    let start = Instant::now();
    for text in ["a", "b", "c", "d"] {
        bench.say(text).await;
    }
    for (text, time) in [("a", 0), ("b", 0), ("c", 30_000), ("d", 30_000)] {
        assert_eq!(bench.app.next().await.unwrap().raw(), &token(text));
        assert!(near(start.elapsed(), ms(time)), "{text}: {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_keep_their_pace_and_the_first_messages_are_not_held() {
    let faults =
        [("slow_stream", json!({ "time_to_first_token": "+1s", "tokens_per_second": 10 }))];
    let mut bench = Bench::open(true, &faults).await;
    let start = Instant::now();
    bench.upstream.write(frame(Kind::Text, br#"{"type":"session.created"}"#, None)).await;
    assert!(bench.app.word().await.contains("session.created"));
    assert!(near(start.elapsed(), ms(0)), "the client speaks only when it has this");
    for text in ["a", "b", "c"] {
        bench.say(text).await;
    }
    for time in [1000, 1100, 1200] {
        bench.app.next().await.unwrap();
        assert!(near(start.elapsed(), ms(time)), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn each_ending_ends_a_socket_after_its_messages() {
    for (ending, last) in [
        (
            json!({ "ending": "close_frame", "code": 1013, "reason": "later" }),
            "close:\u{3}\u{fffd}later",
        ),
        (json!({ "ending": "clean" }), "close:\u{3}\u{fffd}"),
        (json!({ "ending": "close" }), "end"),
    ] {
        let mut options = ending.clone();
        options["after"] = json!("2 events");
        let mut bench = Bench::open(true, &[("truncate", options)]).await;
        assert!(!bench.asked.contains("permessage-deflate"), "{}", bench.asked);
        bench.passes("a").await;
        bench.passes("b").await;
        bench.say("c").await;
        assert_eq!(bench.app.word().await, last, "{ending}");
        assert_eq!(bench.app.word().await, "end");
        assert_eq!(bench.upstream.word().await, "end", "it is told at once");
        assert_eq!(bench.call().await.ended, CallEnd::Injected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_armed_later_acts_from_the_next_message_on() {
    let faults = [("corrupt", json!({ "how": "cut" }))];
    let mut bench = Bench::open(false, &faults).await;
    assert!(bench.asked.contains("permessage-deflate"), "nothing is armed yet");
    bench.passes("a").await;
    // In the middle of a frame.
    let long = token("long");
    bench.upstream.write(&long[..20]).await;
    let mut begun = vec![0; 20];
    bench.app.stream.read_exact(&mut begun).await.unwrap();
    bench.arm();
    tokio::task::yield_now().await;
    bench.upstream.write(&long[20..]).await;
    let mut rest = vec![0; long.len() - 20];
    bench.app.stream.read_exact(&mut rest).await.unwrap();
    assert_eq!([begun, rest].concat(), long, "what was under way is not touched");
    bench.say("b").await;
    let Some(Item::Event(damaged)) = bench.app.next().await else { panic!("no message") };
    assert!(damaged.raw.len() < token("b").len() && !damaged.data.is_empty());
    bench.engine.disarm("test");
    bench.passes("c").await;
    drop((bench.app, bench.upstream));
    assert_eq!(bench.engine.tallies()[0].1.hit, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_stall_holds_comes_at_once_when_it_is_disarmed() {
    let faults = [("stall", json!({ "after": "1 token", "pause": "1h" }))];
    let mut bench = Bench::open(true, &faults).await;
    let start = Instant::now();
    bench.passes("a").await;
    bench.say("b").await;
    bench.upstream.write(&token("c")[..9]).await;
    sleep(ms(2000)).await;
    bench.engine.disarm("test");
    assert_eq!(bench.app.next().await.unwrap().raw(), &token("b"));
    assert!(near(start.elapsed(), ms(2000)), "{:?}", start.elapsed());
    bench.upstream.write(&token("c")[9..]).await;
    assert_eq!(bench.app.next().await.unwrap().raw(), &token("c"));
    drop((bench.app, bench.upstream));
    let Some(Observation::Call(call)) = bench.tap.next().await else { panic!("no call") };
    assert_eq!((call.faults, call.injected_delay.as_secs()), (vec!["test".into()], 2));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_socket_is_silent_until_its_fault_is_disarmed() {
    let faults = [("outage", json!({ "mode": "blackhole" }))];
    let mut bench = Bench::open(false, &faults).await;
    bench.passes("a").await;
    bench.arm();
    assert_eq!(bench.upstream.word().await, "end", "the upstream is left");
    let silence = tokio::time::timeout(ms(60_000), bench.app.word()).await;
    assert!(silence.is_err());
    bench.engine.disarm("test");
    assert_eq!(bench.app.word().await, "end");
}

#[tokio::test(start_paused = true)]
async fn an_outage_closes_open_sockets_between_frames_and_new_ones_at_once() {
    let faults = [("outage", json!({ "mode": "close_frame", "code": 1012 }))];
    let mut bench = Bench::open(false, &faults).await;
    bench.upstream.write(&token("a")[..9]).await;
    let mut begun = [0; 9];
    bench.app.stream.read_exact(&mut begun).await.unwrap();
    bench.arm();
    sleep(ms(50)).await;
    bench.upstream.write(&token("a")[9..]).await;
    let rest = token("a").slice(9..);
    let mut got = vec![0; rest.len()];
    bench.app.stream.read_exact(&mut got).await.unwrap();
    assert_eq!(got, rest);
    assert_eq!(bench.app.word().await, "close:\u{3}\u{fffd}");
    let mut bench = Bench::open(true, &faults).await;
    assert_eq!(bench.app.word().await, "close:\u{3}\u{fffd}");
    assert_eq!(bench.call().await.faults, ["test".into()]);
}

#[tokio::test(start_paused = true)]
async fn messages_of_the_app_are_dropped_and_damaged_as_its_own() {
    let mut bench =
        Bench::open(true, &[("drop", json!({ "direction": "up", "at_most": 1 }))]).await;
    bench.app.write([masked("one"), masked("two")].concat()).await;
    assert_eq!(bench.upstream.next().await.unwrap().raw(), &masked("two"));
    bench.passes("down").await;
    let mut bench = Bench::open(true, &[("corrupt", json!({ "direction": "both" }))]).await;
    bench.app.write(masked("hello")).await;
    let Some(Item::Event(sent)) = bench.upstream.next().await else { panic!("not masked") };
    assert!(sent.data != "hello" && sent.data.len() == 5, "{sent:?}");
    assert_ne!(sent.raw[2..6], masked("hello")[2..6], "a mask of its own");
}

#[tokio::test(start_paused = true)]
async fn pings_and_fragments_pass_an_armed_fault() {
    let mut bench = Bench::open(true, &[("drop", json!({ "after": "9 events" }))]).await;
    let whole = frame(Kind::Text, b"abcd", None);
    let mut parts =
        [frame(Kind::Text, b"ab", None).to_vec(), frame(Kind::Text, b"cd", None).to_vec()];
    parts[0][0] = 0x01;
    parts[1][0] = 0x80;
    bench.upstream.write(&parts[0]).await;
    bench.upstream.write(frame(Kind::Ping, b"?", None)).await;
    assert_eq!(bench.app.word().await, "ping:?", "it does not wait for the message");
    bench.upstream.write(&parts[1]).await;
    let Some(Item::Event(event)) = bench.app.next().await else { panic!("no message") };
    assert_eq!((&event.data[..], &event.raw[..]), (&whole[2..], &parts.concat()[..]));
    bench.app.write(frame(Kind::Pong, b"?", Some([7; 4]))).await;
    assert_eq!(bench.upstream.word().await, "pong:?");
}

#[tokio::test(start_paused = true)]
async fn what_breaks_the_protocol_passes_an_armed_fault() {
    let mut bench = Bench::open(true, &[("corrupt", json!({ "direction": "both" }))]).await;
    let bad = [&masked("masked by a server")[..], &token("x"), b"rubbish"].concat();
    bench.upstream.write(&bad).await;
    let mut got = vec![0; bad.len()];
    bench.app.stream.read_exact(&mut got).await.unwrap();
    assert_eq!(got, bad);
    bench.app.write(token("not masked")).await;
    let mut got = vec![0; token("not masked").len()];
    bench.upstream.stream.read_exact(&mut got).await.unwrap();
    assert_eq!(got, token("not masked"));
}

#[tokio::test(start_paused = true)]
async fn an_error_breaks_in_as_a_message() {
    let mut bench = Bench::open(true, &[("error", json!({ "after": "1 token" }))]).await;
    bench.passes("a").await;
    bench.say("b").await;
    assert!(bench.app.word().await.starts_with("text:{\"type\":\"error\""));
    assert_eq!(bench.app.word().await, "close:\u{3}\u{fffd}");
}

#[tokio::test(start_paused = true)]
async fn latency_delays_the_handshake() {
    let faults = [("latency", json!({ "add": "2s" }))];
    let start = Instant::now();
    let bench = Bench::ask(true, &faults).await;
    assert!(near(start.elapsed(), ms(2000)), "the handshake is late");
    drop(bench);
}
