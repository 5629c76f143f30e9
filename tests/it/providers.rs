//! The effects on the wire formats of the providers: the same answer in each, streamed and whole,
//! cut as the proxy cuts it, and the exact bytes that the app gets.

mod limits;
mod streams;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use brownout::dialect::{self, Answer, Dialect};
use brownout::dice::Dice;
use brownout::exchange::{Event, Exchange, ExchangeKey, Item};
use brownout::fault::{Arming, Chain, Draw, Ending, Fault, KINDS, Order};
use brownout::wire::grain::Cutter;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, request, response};

/// What all of them answer, token by token.
const TOKENS: &[&str] =
    &["A", " refund", " takes", " five", " working", " days", ",", " usually", "."];

/// A provider's call: how it is asked for, and what comes back.
struct Case {
    name: &'static str,
    kind: &'static str,
    path: &'static str,
    request: &'static str,
    content_type: &'static str,
    answer: &'static [u8],
}

macro_rules! case {
    ($name:literal, $kind:literal, $path:literal, $request:literal, $type:literal) => {
        Case {
            name: $name,
            kind: $kind,
            path: $path,
            request: $request,
            content_type: $type,
            answer: include_bytes!(concat!("../samples/", $name)),
        }
    };
}

/// The answer as a stream.
const STREAMS: &[Case] = &[
    case!(
        "anthropic.sse",
        "anthropic",
        "/v1/messages",
        r#"{"model":"m","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
        "text/event-stream; charset=utf-8"
    ),
    case!(
        "gemini.sse",
        "gemini",
        "/v1/models/m:streamGenerateContent?alt=sse",
        r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#,
        "text/event-stream"
    ),
    case!(
        "ollama_chat.ndjson",
        "ollama",
        "/api/chat",
        r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#,
        "application/x-ndjson"
    ),
    case!(
        "ollama_generate.ndjson",
        "ollama",
        "/api/generate",
        r#"{"model":"m","prompt":"hi"}"#,
        "application/x-ndjson"
    ),
    case!(
        "cohere.sse",
        "cohere",
        "/v2/chat",
        r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
        "text/event-stream"
    ),
    case!(
        "mistral.sse",
        "mistral",
        "/v1/chat/completions",
        r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
        "text/event-stream"
    ),
];

/// Streams that think and call `find_order` with `{"order": "4711"}`.
const CALLS: &[Case] = &[
    case!(
        "anthropic_tools.sse",
        "anthropic",
        "/v1/messages",
        r#"{"stream":true}"#,
        "text/event-stream"
    ),
    case!(
        "gemini_tools.sse",
        "gemini",
        "/v1/models/m:streamGenerateContent",
        "{}",
        "text/event-stream"
    ),
    case!("ollama_tools.ndjson", "ollama", "/api/chat", "{}", "application/x-ndjson"),
    case!("cohere_tools.sse", "cohere", "/v2/chat", r#"{"stream":true}"#, "text/event-stream"),
    case!(
        "mistral_tools.sse",
        "mistral",
        "/v1/chat/completions",
        r#"{"stream":true}"#,
        "text/event-stream"
    ),
];

/// The answer as a whole.
const WHOLE: &[Case] = &[
    case!("anthropic.json", "anthropic", "/v1/messages", r#"{"model":"m"}"#, "application/json"),
    case!(
        "gemini.json",
        "gemini",
        "/v1/models/m:generateContent",
        "{}",
        "application/json; charset=UTF-8"
    ),
    case!("ollama_chat.json", "ollama", "/api/chat", r#"{"stream":false}"#, "application/json"),
    case!(
        "ollama_generate.json",
        "ollama",
        "/api/generate",
        r#"{"stream":false}"#,
        "application/json"
    ),
    case!("cohere.json", "cohere", "/v2/chat", "{}", "application/json"),
    case!("mistral.json", "mistral", "/v1/chat/completions", "{}", "application/json"),
];

/// Two vectors of three dimensions.
const VECTORS: &[Case] = &[
    case!(
        "gemini_embeddings.json",
        "gemini",
        "/v1/models/m:batchEmbedContents",
        "{}",
        "application/json"
    ),
    case!("ollama_embeddings.json", "ollama", "/api/embed", r#"{"input":"x"}"#, "application/json"),
    case!(
        "cohere_embeddings.json",
        "cohere",
        "/v2/embed",
        r#"{"texts":["x"]}"#,
        "application/json"
    ),
    case!(
        "mistral_embeddings.json",
        "mistral",
        "/v1/embeddings",
        r#"{"input":"x"}"#,
        "application/json"
    ),
];

/// What the app gets.
#[derive(Debug, Default, PartialEq)]
struct Got {
    bytes: Vec<u8>,
    items: Vec<Item>,
    ending: Option<Ending>,
    waited: Duration,
    impossible: Option<&'static str>,
    hit: bool,
}

impl Case {
    fn dialect(&self) -> &'static dyn Dialect {
        dialect::by_kind(self.kind).unwrap()
    }

    fn exchange(&self) -> Exchange {
        let (uri, headers) = (Uri::from_static(self.path), HeaderMap::new());
        let body = self.request.as_bytes();
        Exchange {
            dependency: Arc::from("llm"),
            level: Default::default(),
            transport: Default::default(),
            key: ExchangeKey(1),
            ordinal: 0,
            facts: self.dialect().facts(&Method::POST, &uri, &headers, body),
            method: Method::POST,
            uri,
            headers,
            body: Bytes::copy_from_slice(body),
            user: None,
            session: None,
            api_key: None,
        }
    }

    /// A chain with this fault, armed at this time of a run that began on 24 November 2026.
    fn armed(&self, fault: &dyn Fault, at: Duration) -> Chain {
        let exchange = self.exchange();
        let mut draw = Draw::new(Dice::from_seed(1));
        let epoch = Duration::from_secs(1_795_507_583);
        let dialect = self.dialect();
        let mut arming = Arming { at, epoch, exchange: &exchange, dialect, draw: &mut draw };
        let mut chain = Chain::default();
        chain.push(0, fault.arm(&mut arming).unwrap());
        chain
    }

    /// The answer through a fault, as pieces of this size come in.
    fn through_in(&self, effect: &str, yaml: &str, size: usize) -> Got {
        let fault = fault(effect, yaml);
        let mut chain = self.armed(fault.as_ref(), Duration::ZERO);
        let (mut head, ()) = request::Request::new(()).into_parts();
        let orders = chain.on_request(0, Duration::ZERO, &mut head);
        assert_eq!(orders, [], "{}: the request passes", self.name);
        let (mut head, ()) = response::Response::new(()).into_parts();
        head.status = StatusCode::OK;
        head.headers.insert("content-type", self.content_type.parse().unwrap());
        chain.on_response(0, Duration::ZERO, Duration::ZERO, &mut head);
        let mut cutter = Cutter::for_answer(chain.grain(), &head.headers);
        let mut got = Got::default();
        for piece in self.answer.chunks(size) {
            let items: Vec<Item> = cutter.push(Bytes::copy_from_slice(piece)).collect();
            for item in items {
                if !got.take(chain.on_item(Duration::ZERO, item)) {
                    return got.with(&chain);
                }
            }
        }
        for item in cutter.finish() {
            if !got.take(chain.on_item(Duration::ZERO, item)) {
                return got.with(&chain);
            }
        }
        got.take(chain.on_end(Duration::ZERO));
        got.with(&chain)
    }

    fn through(&self, effect: &str, yaml: &str) -> Got {
        let got = self.through_in(effect, yaml, usize::MAX);
        for size in [1, 7, 100] {
            let again = self.through_in(effect, yaml, size);
            assert_eq!(again.bytes, got.bytes, "{} {yaml}: by {size} bytes", self.name);
        }
        got
    }

    /// What the provider's clients would read out of these bytes.
    fn heard(&self, bytes: &[u8]) -> Heard {
        let mut cutter = Cutter::new(brownout::exchange::Grain::Event, Some(self.content_type));
        let mut items: Vec<Item> = cutter.push(Bytes::copy_from_slice(bytes)).collect();
        items.extend(cutter.finish());
        let operation = self.exchange().facts.operation;
        let mut heard = Heard::default();
        for item in items {
            let reading = match &item {
                Item::Event(event) => {
                    heard.events.push(event.clone());
                    self.dialect().read_event(operation, event)
                }
                Item::Message(body) => self.dialect().read_message(operation, body),
                Item::Bytes(bytes) => {
                    heard.torn = Some(bytes.to_vec());
                    continue;
                }
            };
            heard.text.push_str(&reading.text);
            heard.tokens += reading.tokens;
            heard.finish = reading.finish.or(heard.finish);
            heard.error = reading.error.or(heard.error);
            heard.done |= reading.done;
        }
        heard
    }
}

/// What stands in an answer.
#[derive(Debug, Default)]
struct Heard {
    events: Vec<Event>,
    text: String,
    tokens: u32,
    finish: Option<String>,
    error: Option<String>,
    done: bool,
    /// Bytes that are no whole event.
    torn: Option<Vec<u8>>,
}

impl Got {
    /// Whether the exchange goes on.
    fn take(&mut self, orders: Vec<Order>) -> bool {
        for order in orders {
            match order {
                Order::Send(item) => {
                    self.bytes.extend_from_slice(item.raw());
                    self.items.push(item);
                }
                Order::Wait(time) => self.waited += time,
                Order::Pulse(pulse) => {
                    let time = pulse.time.expect("a pause has an end");
                    for _ in 0..time.as_millis() / pulse.every.as_millis() {
                        self.bytes.extend_from_slice(pulse.item.raw());
                    }
                    self.waited += time;
                }
                Order::End(ending) => {
                    self.ending = Some(ending);
                    return false;
                }
                other => panic!("{other:?}"),
            }
        }
        true
    }

    fn with(mut self, chain: &Chain) -> Self {
        let fired = chain.fired().next().unwrap();
        self.impossible = fired.impossible;
        self.hit = fired.hit;
        self
    }
}

fn fault(name: &str, yaml: &str) -> Box<dyn Fault> {
    let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
    let yaml = serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
    (kind.try_build)(yaml).unwrap()
}

/// What a fault answers in the upstream's place; None when it lets the request pass.
fn answered(case: &Case, fault: &dyn Fault, at: Duration) -> Option<Answer> {
    let (mut head, ()) = request::Request::new(()).into_parts();
    match case.armed(fault, at).on_request(0, at, &mut head).pop() {
        Some(Order::Answer(answer)) => Some(answer),
        _ => None,
    }
}

#[test]
fn the_samples_say_what_they_should() {
    for case in STREAMS {
        let heard = case.heard(case.answer);
        assert_eq!(heard.text, TOKENS.concat(), "{}", case.name);
        assert_eq!(heard.tokens as usize, TOKENS.len(), "{}", case.name);
        assert!(heard.finish.is_some() && heard.error.is_none() && heard.torn.is_none());
        assert_eq!(heard.done, case.kind != "gemini", "{}", case.name);
        assert!(case.exchange().facts.stream, "{}", case.name);
    }
    for case in CALLS {
        let heard = case.heard(case.answer);
        let arguments: String = heard.text.chars().filter(|one| *one != ' ').collect();
        assert!(arguments.contains(r#"{"order":"4711"}"#), "{}: {}", case.name, heard.text);
        assert!(heard.text.starts_with("They") || heard.text.starts_with("I will"));
    }
    for case in WHOLE {
        let heard = case.heard(case.answer);
        assert_eq!((heard.text, heard.tokens), (TOKENS.concat(), 9), "{}", case.name);
        assert!(heard.finish.is_some() && !case.exchange().facts.stream, "{}", case.name);
    }
    for case in VECTORS {
        let operation = case.exchange().facts.operation;
        let lists = case.dialect().listings(operation, case.answer);
        assert_eq!((lists.len(), lists[0].rows), (1, 2), "{}", case.name);
    }
}
