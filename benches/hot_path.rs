//! What an exchange pays before a fault is armed and while one is: the demand check of the
//! untouched path, the SSE splitter, a decision.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use brownout::dialect;
use brownout::engine::identify::Identify;
use brownout::engine::{Arming, Engine, Rule, Selector};
use brownout::fault::{Latency, Spec};
use brownout::measure::Recorder;
use brownout::units::Ramp;
use brownout::wire::sse::Splitter;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// An engine with one fault on `llm`, disarmed.
fn engine(percent: f64) -> Engine {
    let spec: Latency = serde_json::from_str(r#"{"add":"1ms"}"#).expect("the option parses");
    let rule = Rule {
        name: "slow".into(),
        targets: vec!["llm".into()],
        target_text: "llm".into(),
        selector: Selector::default(),
        percent: Ramp { from: percent, to: percent },
        sticky: None,
        effects: vec![(Latency::NAME, spec.build().expect("the options fit together"))],
    };
    Engine::new(42, vec![rule], Recorder::none())
}

fn demand(c: &mut Criterion) {
    let engine = engine(50.0);
    let gate = engine.gate("llm");
    c.bench_function("demand/untouched", |b| b.iter(|| engine.demand_at(black_box(gate))));
    c.bench_function("demand/by_name", |b| b.iter(|| engine.demand(black_box("llm"))));
}

fn decide(c: &mut Criterion) {
    let dialect = dialect::by_kind("openai").expect("the kind exists");
    let dependency: Arc<str> = "llm".into();
    let body = br#"{"messages":[{"role":"user","content":"hello"}],"model":"gpt-4o"}"#;
    let head = http::Request::post("/v1/chat/completions")
        .header("authorization", "Bearer sk-none")
        .body(())
        .expect("the parts are well-formed")
        .into_parts()
        .0;
    for percent in [0.0, 100.0] {
        let engine = engine(percent);
        engine.arm("slow", Arming::default()).expect("the fault exists");
        c.bench_function(&format!("decide/{percent}_percent"), |b| {
            let identify = Identify::default();
            let exchange = engine.exchange(&dependency, &head, body, dialect, &identify);
            b.iter(|| engine.decide(Duration::ZERO, black_box(&exchange), dialect).close());
        });
    }
    let engine = engine(0.0);
    c.bench_function("decide/read_exchange", |b| {
        let identify = Identify::default();
        b.iter(|| engine.exchange(&dependency, black_box(&head), body, dialect, &identify));
    });
}

fn split(c: &mut Criterion) {
    let chunk = concat!(
        r#"data: {"id":"chatcmpl-B1x","object":"chat.completion.chunk","created":1764000000,"#,
        r#""model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"content":" word"},"#,
        r#""logprobs":null,"finish_reason":null}],"usage":null}"#,
        "\n\n"
    );
    let stream = Bytes::from(chunk.repeat(5000));
    let mut group = c.benchmark_group("sse");
    group.throughput(Throughput::Bytes(stream.len() as u64));
    for piece in [chunk.len(), 1460, 16 * 1024] {
        group.bench_function(format!("pieces_of_{piece}"), |b| {
            b.iter(|| {
                let mut splitter = Splitter::new();
                let mut rest = stream.clone();
                let mut events = 0;
                while !rest.is_empty() {
                    let part = rest.split_to(piece.min(rest.len()));
                    events += splitter.push(part).map(black_box).count();
                }
                assert_eq!(events, 5000);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, demand, decide, split);
criterion_main!(benches);
