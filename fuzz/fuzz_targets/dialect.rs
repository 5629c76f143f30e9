//! No body makes a dialect panic, and what it edits stays readable to itself.
#![no_main]

use brownout::dialect::{self, Arrangement, Finish};
use brownout::exchange::{Event, Operation};
use http::{HeaderMap, Method, Uri};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, body) = input;
    let kind = dialect::KINDS[usize::from(choice) % dialect::KINDS.len()];
    let dialect = dialect::by_kind(kind).expect("it is listed");
    for path in ["/v1/chat/completions", "/v1/embeddings", "/collections/c/points/query", "/"] {
        let uri = Uri::from_static(path);
        let facts = dialect.facts(&Method::POST, &uri, &HeaderMap::new(), body);
        let _ = dialect.read_message(facts.operation, body);
        let event = Event::sse(body);
        let _ = dialect.read_event(facts.operation, &event);
        let finish = Finish { reason: "length", tokens: 7 };
        let _ = dialect.finish_events(facts.operation, &event, &finish);
        let _ = dialect.outline(facts.operation, body);
        for dialect in [dialect, dialect.over_grpc()] {
            let _ = dialect.written(path, body);
            for operation in [Operation::Search, Operation::Read, Operation::Embed] {
                let lists = dialect.listings(operation, body);
                let arrange = |order| Arrangement { order, scores: Some(vec![0.5, 1.0]) };
                let wanted: Vec<_> =
                    lists.iter().map(|list| arrange((0..list.rows).rev().collect())).collect();
                if let Some(new) = dialect.arranged(operation, body, &wanted) {
                    let rows = |lists: Vec<dialect::Listing>| -> usize {
                        lists.iter().map(|list| list.rows).sum()
                    };
                    assert_eq!(rows(dialect.listings(operation, &new)), rows(lists));
                }
            }
        }
        let _ = dialect.shorten(Operation::Chat, body, f64::from(choice) / 255.0, "length");
    }
});
