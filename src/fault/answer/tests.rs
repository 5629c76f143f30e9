//! What holds for all effects that change an answer's content.

use std::time::Duration;

use http::HeaderMap;
use proptest::prelude::*;

use super::super::recorded::arm_in;
use super::super::recorded::{openai, streamed, streamed_calls};
use super::super::testing::{Upstream, exchange};
use super::super::{Chain, KINDS, Order};
use crate::exchange::{Grain, Item};
use crate::wire::Cutter;

/// The bytes that the app gets of a stream that comes in these pieces.
fn through(kind: &str, yaml: &str, bytes: &[u8], cuts: &[usize]) -> Vec<u8> {
    let kind = KINDS.iter().find(|one| one.name == kind).unwrap();
    let fault = (kind.try_build)(serde_yaml::from_str(yaml).unwrap()).unwrap();
    let mut chain = Chain::default();
    chain.push(0, arm_in(openai(), fault.as_ref(), Duration::ZERO, &exchange(7)).unwrap().0);
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "text/event-stream".parse().unwrap());
    let mut cutter = Cutter::for_answer(Grain::Event, &headers);
    let mut sent = Vec::new();
    let mut take = |orders: Vec<Order>| {
        for order in orders {
            if let Order::Send(item) = order {
                sent.extend_from_slice(item.raw());
            }
        }
    };
    let mut places = cuts.to_vec();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    for pair in places.windows(2) {
        cutter.push(bytes[pair[0]..pair[1]].to_vec().into());
        for item in cutter.by_ref() {
            take(chain.on_item(Duration::ZERO, item));
        }
    }
    for item in cutter.finish() {
        take(chain.on_item(Duration::ZERO, item));
    }
    take(chain.on_end(Duration::ZERO));
    sent
}

fn bytes(upstream: &Upstream) -> Vec<u8> {
    upstream.items.iter().flat_map(|(_, item): &(_, Item)| item.raw().to_vec()).collect()
}

const WAYS: &[(&str, &str)] = &[
    ("degrade", "{ text: garble, rate: 40%, model: other }"),
    ("degrade", "{ text: loop, after: 2 tokens, to: 20 tokens }"),
    ("degrade", "{ text: shorten, to: 2 tokens }"),
    ("degrade", "{ usage: missing, finish: length }"),
    ("structured", "{ break: missing_key, key: b }"),
    ("structured", "{ break: wrong_type, key: a }"),
    ("tool_calls", "{ break: missing_key, key: b }"),
    ("tool_calls", "{ break: duplicate }"),
];

proptest! {
    #[test]
    fn the_same_seed_gives_the_same_bytes_however_they_come(
        cuts in prop::collection::vec(0usize..900, 0..9), way in 0usize..8,
    ) {
        let (kind, yaml) = WAYS[way];
        let parts = &["{\"a\":1,", "\"b", "\":\"é", "\"}"];
        let calls = kind == "tool_calls";
        let came = bytes(&if calls { streamed_calls(&[("f", parts)]) } else { streamed(parts) });
        let cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(came.len())).collect();
        let whole = through(kind, yaml, &came, &[]);
        prop_assert_ne!(&whole, &came, "{} {}", kind, yaml);
        prop_assert_eq!(through(kind, yaml, &came, &cuts), whole);
    }
}
