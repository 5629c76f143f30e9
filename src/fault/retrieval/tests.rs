//! Retrieval on answers of Qdrant; the other stores' answers are tried in `dialect`.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::super::testing::{Played, Upstream, build, exchange, invalid, ms, play_as, spec};
use super::*;
use crate::dialect::by_kind;
use crate::exchange::{Event, Exchange, ExchangeKey, Facts, Framing, Item};

const HITS: &str = r#"{"usage":null,"result":{"points":[{"id":1,"version":3,"score":0.93,"payload":{"a":"x"}},{"id":2,"version":3,"score":0.9},{"id":3,"version":3,"score":0.5}]},"status":"ok","time":0.002}"#;

fn asked(key: u64, operation: Operation, collection: &str) -> Exchange {
    let verb = match operation {
        Operation::Upsert => "",
        _ => "/query",
    };
    Exchange {
        key: ExchangeKey(key),
        uri: format!("/collections/{collection}/points{verb}").parse().unwrap(),
        facts: Facts {
            operation,
            collection: Some(collection.to_owned()),
            ..Facts::default()
        },
        ..exchange(key)
    }
}

fn answer(body: &str) -> Upstream {
    let items = vec![(Duration::ZERO, Item::Message(Bytes::copy_from_slice(body.as_bytes())))];
    Upstream { took: ms(1), status: StatusCode::OK, headers: HeaderMap::new(), items }
}

fn play_search(fault: &dyn Fault, key: u64, body: &str) -> Played {
    let exchange = asked(key, Operation::Search, "docs");
    play_as(by_kind("qdrant").unwrap(), Duration::ZERO, &[fault], &exchange, &answer(body)).unwrap()
}

fn searched(yaml: &str) -> Played {
    play_search(build::<Retrieval>(yaml).as_ref(), 1, HITS)
}

fn ids(text: &str) -> Vec<i64> {
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    let points = json["result"]["points"].as_array().unwrap();
    points.iter().map(|point| point["id"].as_i64().unwrap()).collect()
}

#[test]
fn hits_change_and_no_other_byte() {
    let around = |points: &str| {
        format!(r#"{{"usage":null,"result":{{"points":[{points}]}},"status":"ok","time":0.002}}"#)
    };
    let played = searched("{ result: empty, percent: 100 }");
    assert_eq!((played.text(), played.hit(), played.note("hits")), (around(""), true, Some(0.0)));
    let first = r#"{"id":1,"version":3,"score":0.93,"payload":{"a":"x"}}"#;
    assert_eq!(searched("{ result: fewer, keep: 1 }").text(), around(first));
    let flat = searched("{ scores: flat }").text();
    assert_eq!(flat, HITS.replace("0.9}", "0.93}").replace("0.5}", "0.93}"));
    assert_eq!(ids(&searched("{ result: duplicated }").text()), [1, 1, 2]);
    let reversed = searched("{ result: reversed }").text();
    assert_eq!(ids(&reversed), [3, 2, 1]);
    assert!(reversed.contains(r#"{"id":3,"version":3,"score":0.93}"#), "{reversed}");
    let moved = searched("{ result: reversed, scores: moved }").text();
    assert!(moved.contains(r#"{"id":3,"version":3,"score":0.5}"#), "{moved}");
}

#[test]
fn what_cannot_change_says_why() {
    let fault = build::<Retrieval>("{ result: shuffled }");
    let one = r#"{"result":{"points":[{"id":1,"score":0.9}]},"status":"ok"}"#;
    let played = play_search(fault.as_ref(), 1, one);
    assert_eq!((played.text().as_str(), played.hit()), (one, false));
    assert_eq!(played.let_go(), Some("the search had too few hits for a change"));
    let played = play_search(fault.as_ref(), 1, r#"{"result":true,"status":"ok"}"#);
    assert_eq!(played.impossible(), Some("the answer has no list of hits"));
    let played = searched("{ shards_failed: 2 of 5 }");
    assert_eq!(played.impossible(), Some("this store does not say how many shards answered"));
    assert_eq!(played.text(), HITS);
    let played = searched("{ timed_out: true }");
    assert!(played.impossible().unwrap().contains("ran out of time"));
    let upsert = asked(1, Operation::Upsert, "docs");
    let refused = play_as(
        by_kind("qdrant").unwrap(), Duration::ZERO, &[fault.as_ref()], &upsert, &answer("{}"),
    );
    assert_eq!(refused.unwrap_err().0, "this kind of request is not concerned");
}

#[test]
fn the_own_percent_is_a_share_of_the_exchanges() {
    let fault = build::<Retrieval>("{ result: empty, percent: 5 }");
    let hit = (0..2000).filter(|key| play_search(fault.as_ref(), *key, HITS).hit()).count();
    assert!((60..140).contains(&hit), "{hit} of 2000");
    let again = (0..2000).filter(|key| play_search(fault.as_ref(), *key, HITS).hit()).count();
    assert_eq!(hit, again);
}

#[test]
fn an_earlier_answer_comes_again() {
    let fault = build::<Retrieval>("{ result: stale }");
    let new = HITS.replace(r#""id":1,"#, r#""id":9,"#);
    let first = play_search(fault.as_ref(), 1, HITS);
    assert_eq!((first.hit(), first.text().as_str()), (false, HITS));
    assert!(first.impossible().unwrap().contains("no earlier search"));
    let later = play_search(fault.as_ref(), 1, HITS);
    assert!(!later.hit(), "nothing has changed since");
    let later = play_search(fault.as_ref(), 1, &new);
    assert_eq!((later.hit(), later.text().as_str()), (true, HITS));
    assert_eq!(play_search(fault.as_ref(), 2, &new).text(), HITS, "of another question");
    fault.reset();
    assert!(!play_search(fault.as_ref(), 1, &new).hit());
}

#[test]
fn an_answer_of_another_collection_comes() {
    let fault = build::<Retrieval>("{ result: wrong_collection }");
    let theirs = HITS.replace(r#""id":1,"#, r#""id":77,"#);
    let at = |collection, body: &str| {
        let exchange = asked(5, Operation::Search, collection);
        let qdrant = by_kind("qdrant").unwrap();
        play_as(qdrant, Duration::ZERO, &[fault.as_ref()], &exchange, &answer(body)).unwrap()
    };
    assert!(at("acme", &theirs).impossible().unwrap().contains("another collection"));
    let played = at("docs", HITS);
    assert_eq!((played.hit(), played.text()), (true, theirs.clone()));
    let played = at("acme", &theirs);
    assert_eq!(ids(&played.text()), [1, 2, 3], "never its own");
}

#[test]
fn writes_are_seen_later() {
    let fault = build::<Retrieval>("{ visible_after: 5s }");
    let qdrant = by_kind("qdrant").unwrap();
    let mut upsert = asked(1, Operation::Upsert, "docs");
    upsert.body = Bytes::from_static(br#"{"points":[{"id":2,"vector":[0.1]}]}"#);
    let write = answer(r#"{"result":{"operation_id":1,"status":"completed"},"status":"ok"}"#);
    let search = |at: u64, collection| {
        let exchange = asked(2, Operation::Search, collection);
        let at = Duration::from_secs(at);
        play_as(qdrant, at, &[fault.as_ref()], &exchange, &answer(HITS)).unwrap()
    };
    let played = search(1, "docs");
    assert_eq!((played.hit(), ids(&played.text())), (false, vec![1, 2, 3]));
    let written =
        play_as(qdrant, Duration::from_secs(2), &[fault.as_ref()], &upsert, &write).unwrap();
    assert_eq!((written.hit(), written.note("hidden")), (false, Some(1.0)));
    let played = search(4, "docs");
    assert_eq!((played.hit(), ids(&played.text())), (true, vec![1, 3]));
    assert_eq!(ids(&search(4, "other").text()), [1, 2, 3]);
    let played = search(8, "docs");
    assert_eq!((played.hit(), ids(&played.text())), (false, vec![1, 2, 3]));
}

#[test]
fn a_state_refuses_what_it_must() {
    let qdrant = by_kind("qdrant").unwrap();
    for (state, refused, passed) in [
        ("read_only", Operation::Upsert, Operation::Search),
        ("not_loaded", Operation::Search, Operation::Upsert),
    ] {
        let fault = build::<Retrieval>(&format!("{{ state: {state} }}"));
        let play = |operation| {
            let exchange = asked(1, operation, "docs");
            play_as(qdrant, Duration::ZERO, &[fault.as_ref()], &exchange, &answer(HITS))
        };
        let played = play(refused).unwrap();
        assert!(played.answer.unwrap().1.status.as_u16() >= 400 && played.called.is_none());
        assert!(play(passed).is_err(), "{state} lets {passed:?} pass");
    }
}

#[test]
fn rows_that_come_one_by_one_are_arranged() {
    let postgres = by_kind("postgres").unwrap();
    let message = |kind: u8, text: &str| {
        let raw = crate::wire::postgres::message(kind, text.as_bytes());
        let data = raw.slice(5..);
        let name = Some(char::from(kind).to_string());
        Item::Event(Event { framing: Framing::Protocol, raw, name, data })
    };
    let items = [(b'T', "columns"), (b'D', "1"), (b'D', "2"), (b'D', "3"), (b'C', "SELECT 3\0"), (b'Z', "I")];
    let items = items.iter().map(|(kind, text)| (Duration::ZERO, message(*kind, text))).collect();
    let upstream = Upstream { items, ..answer("") };
    let search = Exchange {
        facts: Facts { operation: Operation::Search, ..Facts::default() },
        ..exchange(1)
    };
    for (yaml, told) in [
        ("{ result: empty }", "columns SELECT 0\0 I"),
        ("{ result: fewer, keep: 2 }", "columns 1 2 SELECT 2\0 I"),
        ("{ result: reversed }", "columns 3 2 1 SELECT 3\0 I"),
        ("{ result: duplicated }", "columns 1 1 2 SELECT 3\0 I"),
    ] {
        let fault = build::<Retrieval>(yaml);
        let played = play_as(postgres, Duration::ZERO, &[fault.as_ref()], &search, &upstream);
        let played = played.unwrap();
        assert_eq!((played.text().as_str(), played.hit()), (told, true), "{yaml}");
    }
    let fault = build::<Retrieval>("{ result: stale }");
    let played = play_as(postgres, Duration::ZERO, &[fault.as_ref()], &search, &upstream).unwrap();
    assert!(played.impossible().unwrap().contains("types"));
}

#[test]
fn options_that_do_not_fit_are_refused() {
    for (yaml, field) in [
        ("{}", ""),
        ("{ timed_out: false }", ""),
        ("{ result: empty, keep: 3 }", "keep"),
        ("{ lose: nearest }", "lose"),
        ("{ result: fewer, keep: 0 }", "keep"),
        ("{ result: fewer, keep: 1, keep_percent: 5 }", "keep_percent"),
        ("{ result: fewer, keep_percent: 100% }", "keep_percent"),
        ("{ result: duplicated, copies: 1 }", "copies"),
        ("{ result: empty, percent: 0 }", "percent"),
        ("{ scores: { noise: 0% } }", "scores"),
        ("{ scores: moved }", "scores"),
        ("{ result: shuffled, scores: { noise: 5% } }", "scores"),
        ("{ visible_after: 0s }", "visible_after"),
    ] {
        let yaml = yaml.replace("{ lose", "{ result: empty, lose");
        assert_eq!(invalid::<Retrieval>(&yaml).field, field, "{yaml}");
    }
    for wrong in ["5 of 5", "0 of 5", "2", "two of five"] {
        assert!(wrong.parse::<FailedShards>().is_err(), "{wrong}");
    }
    let shards = spec::<Retrieval>("{ shards_failed: 2 of 5 }").shards_failed.unwrap();
    assert_eq!(shards.to_string(), "2 of 5");
}
