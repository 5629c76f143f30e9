//! What an exchange pays, piece by piece: on the untouched path, and while a fault is armed.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use brownout::dialect::{self, Dialect};
use brownout::engine::identify::Identify;
use brownout::engine::selector::Part;
use brownout::engine::{Arming, Engine, Pattern, Rule, Selector};
use brownout::exchange::{Event, Operation};
use brownout::fault::{Latency, Spec};
use brownout::measure::Recorder;
use brownout::units::Ramp;
use brownout::wire::http1::{self, Body, Framing};
use brownout::wire::sse::Splitter;
use bytes::Bytes;

const REQUEST: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:18200\r\n\
    Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nAccept: application/json\r\n\
    Content-Type: application/json\r\nUser-Agent: OpenAI/Python 2.7.1\r\nX-Stainless-Lang: python\r\n\
    X-Stainless-Retry-Count: 0\r\nAuthorization: Bearer sk-none\r\nContent-Length: 0\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
    date: Mon, 24 Nov 2025 10:00:00 GMT\r\nopenai-processing-ms: 212\r\nx-ratelimit-limit-requests: 10000\r\n\
    x-request-id: req_0123456789abcdef\r\ntransfer-encoding: chunked\r\n\r\n";
const BODY: &[u8] =
    br#"{"messages":[{"role":"user","content":"hello"}],"model":"gpt-4o","stream":true}"#;
const PAYLOAD: &str = concat!(
    r#"{"id":"chatcmpl-B1x","object":"chat.completion.chunk","created":1764000000,"#,
    r#""model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"content":" word"},"#,
    r#""logprobs":null,"finish_reason":null}],"usage":null}"#
);

/// A name, and what it does once.
pub(crate) type Case = (String, Box<dyn FnMut()>);

pub(crate) fn all() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut add = |name: &str, act: Box<dyn FnMut()>| cases.push((name.to_owned(), act));
    let idle = engine(50, &Selector::default(), 50.0);
    let gate = idle.gate("llm");
    let demand = move || {
        black_box(idle.demand_at(black_box(gate)));
    };
    add("demand/untouched", Box::new(demand));
    add("http1/request_head", Box::new(request_head));
    add("http1/answer_head", Box::new(answer_head));
    add("http1/ten_chunks", Box::new(ten_chunks()));
    for piece in [PAYLOAD.len() + 8, 1460, 16 << 10] {
        add(&format!("sse/hundred_events/pieces_of_{piece}"), Box::new(split(piece)));
    }
    for rules in [1, 50, 200] {
        for percent in [0.0, 100.0] {
            let name = format!("decide/{rules}_armed/{percent}_percent");
            add(&name, Box::new(decide(engine(rules, &Selector::default(), percent), rules)));
        }
    }
    for rules in [50, 200] {
        let name = format!("decide/{rules}_armed/none_matches");
        let other = Pattern::glob("gpt-3.5*").expect("a pattern");
        let selector = Selector::new([Part::Model(other)]);
        add(&name, Box::new(decide(engine(rules, &selector, 100.0), rules)));
    }
    add("dialect/read_request", Box::new(read_request()));
    let event = Event::sse(PAYLOAD);
    let openai = openai();
    add(
        "dialect/read_event",
        Box::new(move || drop(black_box(openai.read_event(Operation::Chat, black_box(&event))))),
    );
    cases
}

fn request_head() {
    let end = http1::request_end(black_box(REQUEST), &mut 0).expect("a plain head");
    let head = &REQUEST[..end.expect("a whole head")];
    let see = |name, value| {
        black_box((name, value));
    };
    black_box(http1::request(head, see)).expect("a plain request");
}

fn answer_head() {
    let end = http1::answer_end(black_box(ANSWER), &mut 0).expect("a plain head");
    let head = &ANSWER[..end.expect("a whole head")];
    let see = |name, value| {
        black_box((name, value));
    };
    black_box(http1::answer(head, false, see)).expect("an answer");
}

fn ten_chunks() -> impl FnMut() {
    let chunk = format!("{:x}\r\ndata: {PAYLOAD}\n\n\r\n", PAYLOAD.len() + 8);
    let body = chunk.repeat(10).into_bytes();
    move || {
        let followed = Body::of_answer(Framing::Chunked).follow(black_box(&body));
        black_box(followed).expect("they are framed right");
    }
}

fn split(piece: usize) -> impl FnMut() {
    let stream = Bytes::from(format!("data: {PAYLOAD}\n\n").repeat(100));
    move || {
        let mut splitter = Splitter::new();
        let mut rest = stream.clone();
        let mut events = 0;
        while !rest.is_empty() {
            let part = rest.split_to(piece.min(rest.len()));
            events += splitter.push(part).map(black_box).count();
        }
        assert_eq!(events, 100);
    }
}

/// An engine with so many faults on `llm`, all disarmed.
fn engine(rules: usize, selector: &Selector, percent: f64) -> Engine {
    let rule = |number| {
        let spec: Latency = serde_json::from_str(r#"{"add":"1ms"}"#).expect("the option parses");
        Rule {
            name: format!("slow{number}").into(),
            targets: vec!["llm".into()],
            target_text: "llm".into(),
            selector: selector.clone(),
            percent: Ramp { from: percent, to: percent },
            effects: vec![(Latency::NAME, spec.build().expect("the options fit together"))],
            ..Rule::default()
        }
    };
    Engine::new(42, (0..rules).map(rule).collect(), Recorder::none())
}

fn openai() -> &'static dyn Dialect {
    dialect::by_kind("openai").expect("the kind exists")
}

fn head() -> http::request::Parts {
    http::Request::post("/v1/chat/completions")
        .header("authorization", "Bearer sk-none")
        .body(())
        .expect("the parts are well-formed")
        .into_parts()
        .0
}

fn decide(engine: Engine, rules: usize) -> impl FnMut() {
    for number in 0..rules {
        engine.arm(&format!("slow{number}"), Arming::default()).expect("the fault exists");
    }
    let dependency: Arc<str> = "llm".into();
    let exchange = engine.exchange(
        &dependency,
        &head(),
        &Bytes::from_static(BODY),
        openai(),
        &Identify::default(),
    );
    move || engine.decide(Duration::ZERO, black_box(&exchange), openai()).close()
}

fn read_request() -> impl FnMut() {
    let engine = engine(1, &Selector::default(), 0.0);
    let (dependency, identify, head): (Arc<str>, _, _) =
        ("llm".into(), Identify::default(), head());
    move || {
        drop(engine.exchange(
            &dependency,
            black_box(&head),
            &Bytes::from_static(BODY),
            openai(),
            &identify,
        ))
    }
}
