use serde_json::Value;

use super::*;
use crate::dialect::FAILURE_CLASSES;

const ALL: [&Compatible; 5] = [&LLAMA_CPP, &OPENROUTER, &SGLANG, &TGI, &VLLM];

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn of(server: &Compatible, class: &str) -> (u16, Value) {
    let answer = server.failure(&Failure { class: Some(class), ..Failure::default() });
    (answer.status.as_u16(), json(&answer.body))
}

#[test]
fn failures_have_each_servers_own_form() {
    let (status, body) = of(&VLLM, "overloaded");
    assert_eq!((status, &body["error"]["code"]), (503, &503.into()));
    assert!(body["error"]["message"].as_str().unwrap().starts_with("The engine is currently busy"));
    let (status, body) = of(&SGLANG, "overloaded");
    assert_eq!((status, &body["object"], &body["code"]), (503, &"error".into(), &503.into()));
    let (status, body) = of(&TGI, "overloaded");
    assert_eq!((status, &body["error_type"]), (429, &"overloaded".into()));
    let (status, body) = of(&LLAMA_CPP, "context_length");
    assert_eq!((status, &body["error"]["n_ctx"]), (400, &8192.into()));
    let (status, body) = of(&OPENROUTER, "quota");
    assert_eq!((status, &body["error"]["code"]), (402, &402.into()));
    for server in ALL {
        for class in FAILURE_CLASSES {
            let failure = Failure { class: Some(class), ..Failure::default() };
            let answer = server.failure(&failure);
            assert!(answer.status.as_u16() >= 400 && !answer.body.is_empty());
            let events = server.failing(&failure, &SoFar::default());
            let reading = server.read_event(Operation::Chat, &events[0]);
            assert!(reading.error.is_some(), "{} {class}: {events:?}", server.name());
        }
    }
}

#[test]
fn vllm_ends_a_failed_stream_with_done() {
    let failure = Failure { class: Some("server_error"), ..Failure::default() };
    let events = VLLM.failing(&failure, &SoFar::default());
    assert_eq!(&events[1].data[..], b"[DONE]");
    assert_eq!(json(&events[0].data)["error"]["code"], 500);
    let mut so_far = SoFar::default();
    let chunk = r#"{"id":"gen-1","choices":[{"index":0,"delta":{"content":"x"}}]}"#;
    so_far.add(&OPENROUTER, Operation::Chat, &Event::sse(chunk));
    let events = OPENROUTER.failing(&failure, &so_far);
    let last = json(&events[0].data);
    assert_eq!(
        (&last["id"], &last["choices"][0]["finish_reason"]),
        (&"gen-1".into(), &"error".into())
    );
}

#[test]
fn tgis_own_stream_is_read_and_ended() {
    let token = |text: &str| {
        Event::sse(format!(
            r#"{{"index":1,"token":{{"id":5,"text":"{text}","logprob":-0.1,"special":false}},"generated_text":null,"details":null}}"#
        ))
    };
    let mut so_far = SoFar::default();
    for text in ["Hel", "lo"] {
        let reading = TGI.read_event(Operation::Chat, &token(text));
        assert_eq!((reading.text.as_str(), reading.tokens, reading.done), (text, 1, false));
        so_far.add(&TGI, Operation::Chat, &token(text));
    }
    let events = TGI.ending(Operation::Chat, &so_far, "length");
    let last = TGI.read_event(Operation::Chat, &events[0]);
    assert_eq!((last.finish.as_deref(), last.done, last.tokens), (Some("length"), true, 0));
    assert_eq!(json(&events[0].data)["generated_text"], "Hello");
    let whole = br#"{"generated_text":"12345678","details":{"finish_reason":"eos_token","generated_tokens":8}}"#;
    let short = TGI.shorten(Operation::Chat, whole, 0.5, "length").unwrap();
    assert_eq!(
        short,
        r#"{"generated_text":"1234","details":{"finish_reason":"length","generated_tokens":4}}"#
    );
    let body = br#"{"inputs":"12345678","parameters":{"max_new_tokens":9}}"#;
    let facts = |path: &'static str| {
        TGI.facts(&Method::POST, &Uri::from_static(path), &HeaderMap::new(), body)
    };
    assert_eq!((facts("/generate_stream").stream, facts("/generate").max_tokens), (true, Some(9)));
    assert_eq!(facts("/v1/chat/completions").max_tokens, None);
    let chat = Event::sse(r#"{"choices":[{"delta":{"content":"hi"}}]}"#);
    assert_eq!(TGI.read_event(Operation::Chat, &chat).text, "hi");
}

#[test]
fn llama_cpps_own_stream_is_read_and_ended() {
    let event = Event::sse(r#"{"index":0,"content":" a","tokens":[1],"stop":false,"id_slot":-1}"#);
    let reading = LLAMA_CPP.read_event(Operation::Chat, &event);
    assert_eq!((reading.text.as_str(), reading.tokens, reading.done), (" a", 1, false));
    let finish = Finish { reason: "length", tokens: 3 };
    let end = LLAMA_CPP.finish_events(Operation::Chat, &event, &finish);
    let reading = LLAMA_CPP.read_event(Operation::Chat, &end[0]);
    assert_eq!((reading.finish.as_deref(), reading.done), (Some("limit"), true));
    assert_eq!(reading.usage, Some((0, 3)));
    let broken = Event::sse(r#"{"error":{"code":500,"message":"no","type":"server_error"}}"#);
    assert_eq!(LLAMA_CPP.read_event(Operation::Chat, &broken).error.as_deref(), Some("no"));
}
