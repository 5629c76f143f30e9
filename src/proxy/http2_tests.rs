//! Faults on gRPC calls carried out on the paused clock: the library on both ends, streams in
//! memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, Request, Response};
use serde_json::{Value, json};
use tokio::io::duplex;
use tokio::time::Instant;

use super::pump_tests::{dependency, rule};
use super::{http2, route::Route};
use crate::engine::{Arming, Engine};
use crate::exchange::Event;
use crate::measure::{CallEnd, Observation, Recorder, Tap};
use crate::net::{Origin, Pool, Stream};

/// A call through a proxy to an upstream that sends so many messages, each so long after the one
/// before.
async fn call(count: u32, every: Duration, faults: &[(&'static str, Value)]) -> (RecvStream, Tap) {
    let (recorder, tap) = Recorder::channel(16);
    let engine = Engine::new(1, vec![rule(faults)], Recorder::none());
    if !faults.is_empty() {
        engine.arm("test", Arming::default()).unwrap();
    }
    let origin = Origin::new(&"http://upstream:1".parse().unwrap()).unwrap();
    let pool = Pool::in_memory(origin, move || {
        let (ours, theirs) = duplex(64 << 10);
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                tokio::spawn(async move {
                    let head = Response::builder().header("content-type", "application/grpc");
                    let head = head.body(()).unwrap();
                    let mut out = respond.send_response(head, false).unwrap();
                    for number in 0..count {
                        let message = Event::grpc(number.to_string()).raw;
                        if out.send_data(message, false).is_err() {
                            return;
                        }
                        tokio::time::sleep(every).await;
                    }
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", 0.into());
                    let _ = out.send_trailers(trailers);
                });
            }
        });
        Some(Stream::Memory(Box::new(ours)))
    });
    let route = Arc::new(Route::Fixed(Arc::new(dependency(engine, recorder, pool))));
    let drain = route.drain().clone();
    let (app, proxy) = duplex(64 << 10);
    tokio::spawn(http2::serve(Stream::Memory(Box::new(proxy)), route, drain));
    let (send, connection) = h2::client::handshake(app).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://app/a.B/C").header("content-type", "application/grpc");
    let mut send = send.ready().await.unwrap();
    let (answer, mut out) = send.send_request(request.body(()).unwrap(), false).unwrap();
    out.send_data(Event::grpc("question").raw, true).unwrap();
    (answer.await.unwrap().into_body(), tap)
}

/// When each message came, and the trailers.
async fn messages(mut body: RecvStream) -> (Vec<u64>, Option<HeaderMap>) {
    let (start, mut times) = (Instant::now(), Vec::new());
    while let Some(data) = body.data().await {
        let data: Bytes = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        times.push((start.elapsed().as_secs() + 5) / 60);
    }
    (times, body.trailers().await.unwrap())
}

async fn ended(mut tap: Tap) -> CallEnd {
    match tap.next().await {
        Some(Observation::Call(call)) => call.ended,
        other => panic!("no call but {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_messages_passes_as_they_come() {
    let (body, tap) = call(57, Duration::from_secs(60), &[]).await;
    let (times, trailers) = messages(body).await;
    assert_eq!(times, (0..57).collect::<Vec<u64>>());
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
    assert_eq!(ended(tap).await, CallEnd::Complete);
}

#[tokio::test(start_paused = true)]
async fn a_stall_holds_the_messages_behind_it() {
    let faults = [("stall", json!({ "after": "3 events", "pause": "30m" }))];
    let (body, tap) = call(6, Duration::from_secs(60), &faults).await;
    let (times, trailers) = messages(body).await;
    assert_eq!(times[..3], [0, 1, 2]);
    assert!(times[3..].iter().all(|minute| *minute >= 33), "{times:?}");
    assert_eq!((times.len(), trailers.is_some()), (6, true));
    assert_eq!(ended(tap).await, CallEnd::Complete);
}

#[tokio::test(start_paused = true)]
async fn a_slow_stream_paces_messages() {
    let faults = [("slow_stream", json!({ "tokens_per_second": 0.1 }))];
    let start = Instant::now();
    let (body, _tap) = call(13, Duration::ZERO, &faults).await;
    let (times, _) = messages(body).await;
    assert_eq!(times.len(), 13);
    let took = start.elapsed().as_secs();
    assert!((110..=140).contains(&took), "12 gaps of 10 s: {took} s");
}
