//! No answer makes an effect that changes its content panic, and what it is no part of stays.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use brownout::dialect;
use brownout::dice::Dice;
use brownout::exchange::{Event, Exchange, ExchangeKey, Facts, Item, Level, Operation, Transport};
use brownout::fault::{Arming, Chain, Draw, KINDS};
use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use libfuzzer_sys::fuzz_target;

const WAYS: &[(&str, &str)] = &[
    ("degrade", r#"{ "text": "loop", "to": "20 tokens" }"#),
    ("degrade", r#"{ "text": "refusal", "model": "m", "usage": "missing" }"#),
    ("degrade", r#"{ "text": "extend" }"#),
    ("structured", r#"{ "break": "missing_key" }"#),
    ("structured", r#"{ "break": "wrong_type", "key": "a" }"#),
    ("structured", r#"{ "break": "truncated_json" }"#),
    ("tool_calls", r#"{ "break": "missing_key" }"#),
    ("tool_calls", r#"{ "break": "duplicate" }"#),
    ("tool_calls", r#"{ "break": "missing" }"#),
];

fuzz_target!(|input: (u8, u8, bool, Vec<&[u8]>)| {
    let (way, kind, streamed, pieces) = input;
    let (name, options) = WAYS[usize::from(way) % WAYS.len()];
    let kind = dialect::KINDS[usize::from(kind) % dialect::KINDS.len()];
    let dialect = dialect::by_kind(kind).expect("it is listed");
    let effect = KINDS.iter().find(|known| known.name == name).expect("it is listed");
    let options = serde_json::from_str(options).expect("it is JSON");
    let fault = (effect.try_build)(options).expect("it fits together");
    let mut draw = Draw::new(Dice::from_seed(1));
    let exchange = exchange();
    let (at, epoch) = (Duration::ZERO, Duration::ZERO);
    let mut arming = Arming { at, epoch, exchange: &exchange, dialect, draw: &mut draw };
    let Ok(effect) = fault.arm(&mut arming) else { return };
    let mut chain = Chain::default();
    chain.push(0, effect);
    for piece in pieces {
        let item = match streamed {
            true => Item::Event(Event::sse(piece)),
            false => Item::Message(Bytes::copy_from_slice(piece)),
        };
        let _ = chain.on_item(Duration::ZERO, item);
    }
    let _ = chain.on_end(Duration::ZERO);
});

fn exchange() -> Exchange {
    Exchange {
        dependency: Arc::from("llm"),
        level: Level::Request,
        transport: Transport::Http1,
        key: ExchangeKey(1),
        ordinal: 0,
        method: Method::POST,
        uri: Uri::from_static("/v1/chat/completions"),
        headers: HeaderMap::new(),
        facts: Facts { operation: Operation::Chat, max_tokens: Some(50), ..Facts::default() },
        body: Bytes::new(),
        user: None,
        session: None,
        api_key: None,
    }
}
