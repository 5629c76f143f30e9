//! Faults in the words of real providers: what they put on the wire for OpenAI and Qdrant.

use std::sync::Arc;
use std::time::Duration;

use brownout::dialect;
use brownout::dice::Dice;
use brownout::exchange::{Event, Exchange, ExchangeKey, Facts, Item, Operation};
use brownout::fault::{Arming, Chain, Draw, Ending, Fault, KINDS, Order};
use bytes::Bytes;
use http::{HeaderMap, Method, Uri, request};

fn fault(name: &str, yaml: &str) -> Box<dyn Fault> {
    let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
    (kind.try_build)(serde_yaml::from_str(yaml).unwrap()).unwrap()
}

/// A chain with this fault, armed for a chat at this time.
fn armed(fault: &dyn Fault, kind: &str, at: Duration) -> Chain {
    let exchange = Exchange {
        dependency: Arc::from("dependency"),
        level: Default::default(),
        transport: Default::default(),
        key: ExchangeKey(1),
        ordinal: 0,
        method: Method::POST,
        uri: Uri::from_static("/v1/chat/completions"),
        headers: HeaderMap::new(),
        facts: Facts { operation: Operation::Chat, prompt_tokens: 9, ..Facts::default() },
        body: Bytes::new(),
        user: None,
        session: None,
        api_key: None,
    };
    let mut draw = Draw::new(Dice::from_seed(1));
    let dialect = dialect::by_kind(kind).unwrap();
    let epoch = Duration::ZERO;
    let mut arming = Arming { at, epoch, exchange: &exchange, dialect, draw: &mut draw };
    let mut chain = Chain::default();
    chain.push(0, fault.arm(&mut arming).unwrap());
    chain
}

/// What a fault answers in the upstream's place; None when it lets the request pass.
fn answer(fault: &dyn Fault, kind: &str, at: Duration) -> Option<dialect::Answer> {
    let (mut head, ()) = request::Request::new(()).into_parts();
    match armed(fault, kind, at).on_request(0, at, &mut head).pop() {
        Some(Order::Answer(answer)) => Some(answer),
        _ => None,
    }
}

fn header<'a>(answer: &'a dialect::Answer, name: &str) -> Option<&'a str> {
    let found = answer.headers.iter().find(|(set, _)| set.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// An OpenAI stream of these words, with its role, finish and terminal events.
fn stream(words: &[&str]) -> Vec<Item> {
    let chunk = |delta: String, finish: &str| {
        Event::sse(format!(
            r#"{{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}"#
        ))
    };
    let mut events = vec![chunk(r#"{"role":"assistant","content":""}"#.to_owned(), "null")];
    events.extend(words.iter().map(|word| chunk(format!(r#"{{"content":"{word}"}}"#), "null")));
    events.extend([chunk("{}".to_owned(), r#""stop""#), Event::sse("[DONE]")]);
    events.into_iter().map(Item::Event).collect()
}

/// What the client gets of a stream, and how it ends.
fn through(chain: &mut Chain, items: Vec<Item>) -> (String, Option<Ending>) {
    let mut text = String::new();
    for item in items {
        for order in chain.on_item(Duration::ZERO, item) {
            match order {
                Order::Send(item) => text.push_str(std::str::from_utf8(item.raw()).unwrap()),
                Order::End(ending) => return (text, Some(ending)),
                _ => {}
            }
        }
    }
    (text, None)
}

#[test]
fn an_openai_stream_is_cut_in_each_way() {
    let words = ["one ", "two ", "three"];
    let cut = |yaml: &str| {
        let fault = fault("truncate", yaml);
        through(&mut armed(fault.as_ref(), "openai", Duration::ZERO), stream(&words))
    };
    let (clean, ending) = cut("{ after: 2 tokens }");
    assert_eq!(ending, Some(Ending::Clean));
    assert!(clean.contains("two") && !clean.contains("three") && !clean.contains("[DONE]"));
    assert!(!clean.contains(r#""finish_reason":"stop""#));
    let (length, _) = cut("{ after: 2 tokens, ending: finish_length }");
    assert!(length.contains(r#""finish_reason":"length""#), "{length}");
    assert!(length.ends_with("data: [DONE]\n\n"), "{length}");
    let (no_done, ending) = cut("{ ending: no_done }");
    assert!(no_done.contains(r#""finish_reason":"stop""#) && !no_done.contains("[DONE]"));
    assert_eq!(ending, Some(Ending::Clean));
}

#[test]
fn an_openai_stream_breaks_with_an_error_event() {
    let fault = fault("error", "{ as: overloaded, after: 1 token }");
    let mut chain = armed(fault.as_ref(), "openai", Duration::ZERO);
    let (text, ending) = through(&mut chain, stream(&["one ", "two "]));
    assert!(text.contains("one") && !text.contains("two") && text.contains(r#"data: {"error":"#));
    assert_eq!(ending, Some(Ending::Clean));
}

#[test]
fn an_openai_answer_is_shortened_and_stays_json() {
    let body = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"one two three four"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
    let fault = fault("truncate", "{ after: 50% tokens, ending: finish_length }");
    let mut chain = armed(fault.as_ref(), "openai", Duration::ZERO);
    let (text, ending) = through(&mut chain, vec![Item::Message(body.into())]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["choices"][0]["finish_reason"], "length");
    let content = json["choices"][0]["message"]["content"].as_str().unwrap();
    assert!("one two three four".starts_with(content) && content.len() < 14, "{content}");
    assert_eq!(ending, Some(Ending::Clean));
}

#[test]
fn rate_limits_speak_the_providers_words_and_keep_them() {
    let at = Duration::from_millis;
    for kind in ["openai", "azure-openai", "qdrant", "http"] {
        let fault = fault("rate_limit", "{ requests_per_minute: 20 }");
        assert!(answer(fault.as_ref(), kind, at(0)).is_none(), "{kind}: the first passes");
        let refused = answer(fault.as_ref(), kind, at(500)).unwrap();
        assert_eq!(refused.status.as_u16(), 429, "{kind}");
        assert_eq!(header(&refused, "retry-after"), Some("3"), "{kind}: 2.5 s, rounded up");
        assert!(answer(fault.as_ref(), kind, at(2999)).is_some(), "{kind}");
        assert!(answer(fault.as_ref(), kind, at(3000)).is_none(), "{kind}: as it said");
    }
    let silent =
        fault("rate_limit", "{ requests_per_minute: 1, retry_after: none, headers: none }");
    answer(silent.as_ref(), "openai", at(0));
    let refused = answer(silent.as_ref(), "openai", at(1)).unwrap();
    let told = refused.headers.iter().filter(|(name, _)| {
        let name = name.to_ascii_lowercase();
        name.starts_with("retry-after") || name.starts_with("x-ratelimit")
    });
    assert_eq!(told.count(), 0, "{:?}", refused.headers);
}

#[test]
fn each_class_of_failure_has_an_answer_in_each_dialect() {
    for class in dialect::FAILURE_CLASSES {
        let http = |kind: &&&str| dialect::speaks_http(dialect::by_kind(kind).unwrap());
        for kind in dialect::KINDS.iter().filter(http) {
            let fault = fault("error", &format!("{{ as: {class} }}"));
            let told = answer(fault.as_ref(), kind, Duration::ZERO).unwrap();
            // Over gRPC the head says it all.
            let status = header(&told, "grpc-status");
            assert!(status.is_some() || !told.body.is_empty(), "{kind} {class}");
            // Milvus says it inside a good status, and so does JSON-RPC.
            let good = status.is_some() || ["mcp", "milvus"].contains(kind);
            assert!(good || told.status.as_u16() >= 400, "{kind} {class}");
        }
    }
}
