//! The status that a gRPC call ended with, as the books have it, and as the metrics tell it.

use brownout::admin::Metrics;
use brownout::measure::{Call, CallEnd, Observation};
use h2::Reason;
use serde_json::{Value, json};

use super::kit::{App, Bench, Upstream, begin_grpc, read, soon, status};

/// What the books say of a call whose answer is made by the upstream, with these effects armed.
async fn call(upstream: &Upstream, effects: &[(&'static str, Value)]) -> Call {
    let mut bench = match effects {
        [] => Bench::passing(upstream.address).await,
        effects => Bench::faulty(upstream.address, effects).await,
    };
    let app = App::connect(bench.address).await;
    if let Ok(answer) = app.call("/qdrant.Points/Query").await {
        let _ = soon(read(answer.into_body())).await;
    }
    bench.recorded().await
}

/// Ends each call with this status: in its head alone, or behind a message.
async fn ending(code: u32, trailers_only: bool) -> Upstream {
    Upstream::start(move |(request, mut respond)| async move {
        read(request.into_body()).await.unwrap();
        if trailers_only {
            let head = http::Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", code)
                .header("grpc-retry-pushback-ms", "1500");
            respond.send_response(head.body(()).unwrap(), true).unwrap();
            return;
        }
        let mut out = begin_grpc(respond);
        out.send_data(brownout::exchange::Event::grpc("one").raw, false).unwrap();
        out.send_trailers(status(code)).unwrap();
    })
    .await
}

fn late() -> (&'static str, Value) {
    ("latency", json!({ "add": "1ms" }))
}

#[tokio::test]
async fn a_status_is_read_where_it_stands_touched_or_not() {
    for code in [0u16, 5, 14] {
        for trailers_only in [false, true] {
            let upstream = ending(code.into(), trailers_only).await;
            // The last one is pumped message by message.
            for effects in
                [&[][..], &[late()], &[("stall", json!({ "after": "0 events", "pause": "1ms" }))]]
            {
                let call = call(&upstream, effects).await;
                let how = format!("{code}, {trailers_only}, {effects:?}");
                assert_eq!((call.status, call.grpc_status), (Some(200), Some(code)), "{how}");
                assert_eq!((call.ended, call.failed()), (CallEnd::Complete, code != 0), "{how}");
                let told = trailers_only.then_some(std::time::Duration::from_millis(1500));
                assert_eq!(call.retry_after, told, "{how}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_fault_says_is_the_status() {
    let upstream = Upstream::messages(5).await;
    let whole = json!({ "grpc_status": "DATA_LOSS" });
    let call_whole = call(&upstream, &[("error", whole)]).await;
    assert_eq!((call_whole.grpc_status, call_whole.ended), (Some(15), CallEnd::Injected));
    let inside = json!({ "after": "2 events", "grpc_status": "UNAVAILABLE" });
    let call_inside = call(&upstream, &[("error", inside)]).await;
    assert_eq!((call_inside.grpc_status, call_inside.ended), (Some(14), CallEnd::Injected));
    assert!(!call_inside.own_error());
}

#[tokio::test]
async fn a_call_that_ends_without_a_status_is_unknown() {
    let upstream = Upstream::start(|(request, respond)| async move {
        read(request.into_body()).await.unwrap();
        let mut out = begin_grpc(respond);
        out.send_data(brownout::exchange::Event::grpc("one").raw, true).unwrap();
    })
    .await;
    let call = call(&upstream, &[]).await;
    assert_eq!((call.grpc_status, call.ended), (Some(2), CallEnd::Complete));
    assert!(call.own_error());
}

#[tokio::test]
async fn a_call_whose_upstream_breaks_off_is_unavailable_and_one_that_is_reset_has_none() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut upstream = Upstream::messages(1).await;
    upstream.address = gone;
    let refused = call(&upstream, &[]).await;
    assert_eq!((refused.grpc_status, refused.ended), (Some(14), CallEnd::UpstreamFailed));
    let upstream = Upstream::start(|(request, respond)| async move {
        read(request.into_body()).await.unwrap();
        let mut out = begin_grpc(respond);
        out.send_data(brownout::exchange::Event::grpc("one").raw, false).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        out.send_reset(Reason::CANCEL);
    })
    .await;
    let reset = call(&upstream, &[]).await;
    assert_eq!((reset.grpc_status, reset.ended), (None, CallEnd::UpstreamCut));
}

#[tokio::test]
async fn metrics_count_calls_by_it() {
    let upstream = ending(14, false).await;
    let call = call(&upstream, &[]).await;
    let metrics = Metrics::default();
    metrics.observe(&Observation::Call(Box::new(call.clone())));
    metrics.observe(&Observation::Call(Box::new(call.clone())));
    let plain = Call { grpc_status: None, ..call };
    metrics.observe(&Observation::Call(Box::new(plain)));
    let engine = brownout::engine::Engine::new(1, Vec::new(), brownout::measure::Recorder::none());
    let text = metrics.encode(&engine);
    let line = "brownout_grpc_calls_total{dependency=\"db\",grpc_status=\"UNAVAILABLE\"} 2";
    assert!(text.contains(line), "{text}");
    let all = "brownout_calls_total{dependency=\"db\",status=\"200\",ended=\"complete\"} 3";
    assert!(text.contains(all), "{text}");
}
